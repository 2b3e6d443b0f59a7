//! What the names in the configuration mean. A name is bound to a number of the server's at its first use: who takes the
//! name later inherits neither a level nor an approver's word. Version 1 tells no numbers: there a name is all there is.

use crate::name::{ChannelName, UserName};
use crate::record::{ChannelId, UserId};

/// A name, and whom or what it meant when it was first used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A channel with a level.
    Channel(ChannelName, ChannelId),
    /// An approver.
    User(UserName, UserId),
}
