//! The audit trail: who did what to whom, and when. An entry becomes durable with the change that it tells of.
//!
//! Names are those of the time: entries outlive what they name. No entry holds a token, a key or a message.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use crate::name::{ChannelName, SessionPath};
use crate::record::{ChannelId, UserId};
use crate::time::UnixMillis;

macro_rules! acts {
    ($($(#[$doc:meta])* $act:ident = $word:literal;)*) => {
        /// What somebody did.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Act {
            $($(#[$doc])* $act,)*
        }

        impl Act {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$act,)*];

            /// Its words, as they are shown and stored.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$act => $word,)*
                }
            }
        }
    };
}

acts! {
    /// Became a user.
    Registered = "registered";
    /// Removed a user with all that was theirs.
    UserRemoved = "removed user";
    /// Let everyone have a name that was held back.
    NameReleased = "released name";
    /// Made an invite to the server.
    UserInvited = "invited user";
    /// Used an invite to the server.
    UserInviteUsed = "used invite to server";
    /// Revoked an invite to the server.
    UserInviteRevoked = "revoked invite to server";
    /// Enrolled another machine of their own.
    MachineAdded = "added machine";
    /// Revoked a machine of their own.
    MachineRemoved = "removed machine";
    /// Created a channel.
    ChannelCreated = "created channel";
    /// Deleted a channel.
    ChannelDeleted = "deleted channel";
    /// Gave a channel another name.
    ChannelRenamed = "renamed channel";
    /// Gave a channel another visibility.
    VisibilitySet = "set visibility";
    /// Made a user a member.
    MemberAdded = "added member";
    /// Ended a user's membership.
    MemberRemoved = "removed member";
    /// Banned a user.
    Banned = "banned";
    /// Lifted a ban.
    Unbanned = "lifted ban";
    /// Ended the subscriptions of a user or a session.
    Kicked = "kicked";
    /// Made an invite to a channel.
    InviteCreated = "made invite";
    /// Became a member by an invite.
    InviteUsed = "used invite";
    /// Revoked an invite to a channel.
    InviteRevoked = "revoked invite";
}

impl Act {
    /// The act of these words.
    pub fn named(words: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|act| act.as_str() == words)
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What was done, by whom, to whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deed {
    /// When.
    pub at: UnixMillis,
    /// Who did it: the session.
    pub by: Arc<SessionPath>,
    /// Its user.
    pub user: UserId,
    /// What.
    pub act: Act,
    /// In which channel, as it was called before.
    pub channel: Option<(ChannelId, ChannelName)>,
    /// To whom or what: a user, a machine, a session, a channel's new name or visibility, what an invite is called.
    pub subject: Option<String>,
}

/// A deed as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its number: later entries have higher ones.
    pub number: u64,
    /// The deed.
    pub deed: Deed,
}
