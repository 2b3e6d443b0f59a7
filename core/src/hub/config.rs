//! What an operator decides about a hub.

use alloc::collections::BTreeMap;
use core::time::Duration;

use super::Limits;
use crate::key::PublicKey;
use crate::name::UserName;

/// What an operator decides about a hub.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Config {
    /// Admins of the server. A name with a key can be claimed by that key only.
    pub admins: BTreeMap<UserName, Option<PublicKey>>,
    /// What is bounded.
    pub limits: Limits,
    /// Who may become a user.
    pub registration: Registration,
    /// Who is told that somebody is online.
    pub presence: Presence,
    /// How long the name of a removed user, and of a channel that was deleted or renamed, is held back for whoever had
    /// it. Zero: not at all.
    pub hold_names: Duration,
    /// How long messages are kept; `None`: for ever. What a mailbox holds no longer counts then.
    pub retention: Option<Duration>,
}

/// Who is told that somebody is online. Admins of the server are, whatever is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Presence {
    /// Everyone.
    #[default]
    Everyone,
    /// Those who share a channel with them.
    Shared,
}

/// Who may become a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Registration {
    /// Everyone.
    #[default]
    Open,
    /// Whoever has an invite, and those whom [`Config::admins`] names.
    Invite,
    /// Only those whom [`Config::admins`] names.
    Closed,
}
