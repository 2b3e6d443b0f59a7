//! Sealed channels, as far as the server takes part: it keeps the order of a group's epochs and who is in the group, and
//! relays the rest as bytes that it does not read. The group is one of MLS (RFC 9420).

use alloc::vec::Vec;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::name::UserName;
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::Refusal;
use crate::record::{ChannelId, MachineId, Stamp, UserId};
use crate::stream::{Signed, StreamRef};
use alloc::sync::Arc;

/// Bytes that the server does not look into.
pub type Blob = Opaque<Bytes>;

/// Machines whose packages are taken by one request.
pub const TAKEN_AT_ONCE: usize = 256;
/// Bytes of the packages that one request takes: those of other machines are left for the next one.
pub const TAKEN_BYTES: usize = 4 << 20;
/// Machines that a refusal or a list of additions names.
pub const MACHINES_NAMED: usize = 1_000;
/// A machine hears of its stock when fewer packages than this are left.
pub const LOW_STOCK: usize = 10;

/// The group of a new sealed channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NewGroup {
    /// The cipher suite, as IANA numbers them.
    pub suite: u32,
    id: Blob,
}

impl NewGroup {
    /// The most bytes of a group's id.
    pub const MAX_ID: usize = 64;

    /// A group of this suite and id.
    ///
    /// # Errors
    /// [`Refusal::InvalidField`] for an id that is empty or too long.
    pub fn new(suite: u32, id: Bytes) -> Result<Self, Refusal> {
        if id.is_empty() || id.len() > Self::MAX_ID {
            return Err(Refusal::InvalidField("create_channel: a group's id has 1 to 64 bytes"));
        }
        Ok(Self { suite, id: Opaque(id) })
    }

    /// The group's id.
    pub fn id(&self) -> &Bytes {
        &self.id
    }
}

/// A welcome for machines that a commit adds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupWelcome {
    /// The machines.
    pub machines: Vec<MachineId>,
    /// The welcome.
    pub welcome: Blob,
}

/// An entry of a user's roster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RosterEntry {
    /// The entry.
    pub entry: Blob,
    /// Its signature.
    pub signature: Opaque<[u8; 64]>,
}

impl RosterEntry {
    /// What the next entry names as the one before it.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(&**self.entry).into()
    }
}

/// What a session asks about sealed channels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SealedCommand {
    /// Post a commit.
    Commit {
        /// The channel.
        stream: StreamRef,
        /// A body with a commit in it ([`crate::body::commit`]).
        body: Payload,
        /// Its id and signature.
        signed: Arc<Signed>,
        /// The GroupInfo of the new epoch.
        group_info: Blob,
        /// For the machines that are added.
        welcomes: Vec<GroupWelcome>,
    },
    /// Add to this machine's stock of key packages.
    PutKeyPackages {
        /// Packages that are given out once.
        packages: Vec<Blob>,
        /// The package that is given out when there is no other; `None` leaves the one that is there.
        last_resort: Option<Blob>,
    },
    /// Take a key package of each machine.
    TakeKeyPackages {
        /// The channel for which they are.
        stream: StreamRef,
        /// Users: all of their machines.
        users: Vec<UserId>,
        /// Machines.
        machines: Vec<MachineId>,
    },
    /// Ask for the state of a channel's group.
    Group {
        /// The channel.
        stream: StreamRef,
    },
    /// List the welcomes that wait for this machine.
    Welcomes,
    /// Remove a welcome.
    DropWelcome {
        /// The channel.
        stream: StreamRef,
        /// The welcome's epoch.
        epoch: u64,
    },
    /// Append to one's own roster.
    PutRosterEntry {
        /// The hash of the newest entry; `None` for the first.
        previous: Option<[u8; 32]>,
        /// The entry.
        entry: RosterEntry,
    },
    /// Read a user's roster.
    Roster {
        /// The user.
        user: UserName,
        /// So many entries are left out.
        after: usize,
    },
}

impl SealedCommand {
    /// A short, fixed word or two for logs: nothing of its content.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Commit { .. } => "commit",
            Self::PutKeyPackages { .. } => "put key packages",
            Self::TakeKeyPackages { .. } => "take key packages",
            Self::Group { .. } => "group",
            Self::Welcomes => "welcomes",
            Self::DropWelcome { .. } => "drop welcome",
            Self::PutRosterEntry { .. } => "put roster entry",
            Self::Roster { .. } => "roster",
        }
    }

    /// The bytes that it brings.
    pub fn size(&self) -> usize {
        match self {
            Self::Commit { body, group_info, welcomes, .. } => {
                let welcomes = welcomes.iter().map(|one| one.welcome.len() + 8 * one.machines.len());
                body.size() + group_info.len() + welcomes.sum::<usize>()
            }
            Self::PutKeyPackages { packages, last_resort } => {
                packages.iter().chain(last_resort).map(|package| package.len()).sum()
            }
            Self::TakeKeyPackages { users, machines, .. } => 8 * (users.len() + machines.len()),
            Self::PutRosterEntry { entry, .. } => entry.entry.len(),
            _ => 0,
        }
    }

    /// Whether it stores something.
    pub(crate) fn stores(&self) -> bool {
        !matches!(self, Self::Group { .. } | Self::Welcomes | Self::Roster { .. })
    }
}

/// The answer to a [`SealedCommand`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SealedReply {
    /// The commit is durable.
    Committed {
        /// The channel's stream.
        stream: ChannelId,
        /// The commit's place.
        stamp: Stamp,
        /// The epoch that it began.
        epoch: u64,
    },
    /// This machine's stock.
    Stock {
        /// Packages that are given out once.
        left: usize,
        /// Whether there is one of last resort.
        last_resort: bool,
    },
    /// Key packages, in the order of the machines' numbers.
    KeyPackages(Vec<KeyPackage>),
    /// The state of a group.
    Group(GroupState),
    /// Welcomes, in the order of their streams.
    Welcomes {
        /// The welcomes.
        welcomes: Vec<WaitingWelcome>,
        /// Whether there are more.
        more: bool,
    },
    /// Entries of a roster, oldest first.
    Roster {
        /// The user.
        user: UserId,
        /// The entries.
        entries: Vec<RosterEntry>,
        /// Whether there are more.
        more: bool,
    },
}

impl SealedReply {
    /// About how many bytes it will be on the wire.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Committed { .. } | Self::Stock { .. } => 16,
            Self::KeyPackages(packages) => {
                packages.iter().map(|one| one.package.as_ref().map_or(0, |package| package.len()) + 32).sum()
            }
            Self::Group(group) => {
                let numbers = group.machines.len() + group.removals.len() + group.additions.len();
                group.info.len() + 8 * numbers + 128
            }
            Self::Welcomes { welcomes, .. } => welcomes.iter().map(|one| one.welcome.len() + 32).sum(),
            Self::Roster { entries, .. } => entries.iter().map(|one| one.entry.len() + 80).sum(),
        }
    }
}

/// The key package of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyPackage {
    /// Its user.
    pub user: UserId,
    /// The machine.
    pub machine: MachineId,
    /// The package; `None` if the server has none.
    pub package: Option<Blob>,
    /// Whether it is that of last resort, which others may have, too.
    pub last_resort: bool,
}

/// The state of a sealed channel's group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupState {
    /// The channel's stream.
    pub stream: ChannelId,
    /// The cipher suite.
    pub suite: u32,
    /// The group's id.
    pub id: Blob,
    /// The current epoch.
    pub epoch: u64,
    /// The current GroupInfo; empty before the first commit.
    pub info: Blob,
    /// The machines in the group.
    pub machines: Vec<MachineId>,
    /// Those that must be removed before the next post.
    pub removals: Vec<MachineId>,
    /// Machines of members that are not in the group: the first [`MACHINES_NAMED`].
    pub additions: Vec<MachineId>,
}

/// A welcome that waits for this machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WaitingWelcome {
    /// The channel's stream.
    pub stream: ChannelId,
    /// The epoch that it leads to.
    pub epoch: u64,
    /// The welcome.
    pub welcome: Blob,
}

/// What a session is sent about sealed channels without having asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SealedNotice {
    /// Machines are to be added to a channel's group, or removed from it.
    Due {
        /// The channel's stream.
        stream: ChannelId,
    },
    /// A welcome waits for this machine.
    WelcomeWaits {
        /// The channel's stream.
        stream: ChannelId,
    },
    /// Few key packages of this machine are left.
    KeyPackagesLow {
        /// How many.
        left: usize,
    },
}
