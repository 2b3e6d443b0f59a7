//! Why a request or a connection is refused: one variant per reason.
//!
//! Programs act on the variant or on its [`Code`]; `Display` is the text for people, what is wrong and what to do. A
//! channel that the caller may not see and one that does not exist are the same reason, [`Refusal::NoChannel`].

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use super::KickTarget;
use crate::key::InvalidKey;
use crate::name::{ChannelName, InvalidName, MachineName, Name, SessionPath, UnfitName, UserName};
use crate::record::MachineId;

/// The class of a refusal: a closed list, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The request is malformed whatever the server's state: correct it.
    InvalidArgument,
    /// What the request names does not exist, or the caller may not see it.
    NotFound,
    /// The caller lacks the right to do this.
    PermissionDenied,
    /// What the request would create exists already: choose another name or key.
    AlreadyExists,
    /// Too many requests: wait, then send the same again.
    RateLimited,
    /// A limit on how much there may be is reached: remove something first.
    QuotaExceeded,
    /// The caller has the right, but something else has to happen first.
    FailedPrecondition,
    /// The peer has not proven a key that is enrolled here.
    Unauthenticated,
    /// The server cannot do this for now.
    Unavailable,
    /// The server failed. Nothing was changed.
    Internal,
    /// What was sealed or committed in another epoch than the current one: catch up, then make it again.
    WrongEpoch,
    /// Machines must be removed from the group first.
    RemovalsDue,
}

/// What [`Refusal::Full`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// Live sessions of a user.
    UserSessions,
    /// Machines of a user.
    UserMachines,
    /// Channels that a user created.
    UserChannels,
    /// Subscriptions of a session.
    SessionChannels,
    /// Members of a channel.
    ChannelMembers,
    /// Banned users of a channel.
    ChannelBans,
    /// Valid invites to a channel.
    ChannelInvites,
    /// Valid invites to the server.
    ServerInvites,
    /// Sessions of a user whose positions are kept.
    UserReaders,
    /// Users that a user allowed or blocked.
    UserContacts,
    /// Messages that wait in a mailbox.
    MailboxMessages,
    /// Bytes of messages that wait in a mailbox.
    MailboxBytes,
    /// Key packages of a machine.
    KeyPackages,
    /// Bytes of a key package.
    KeyPackageBytes,
    /// Bytes of a commit.
    CommitBytes,
    /// Bytes of a GroupInfo.
    GroupInfoBytes,
    /// Bytes of a welcome.
    WelcomeBytes,
    /// Entries of a roster.
    RosterEntries,
    /// Bytes of a roster's entry.
    RosterEntryBytes,
    /// Bytes that are kept for sealed channels.
    SealedBytes,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::UserSessions,
        Self::UserMachines,
        Self::UserChannels,
        Self::SessionChannels,
        Self::ChannelMembers,
        Self::ChannelBans,
        Self::ChannelInvites,
        Self::ServerInvites,
        Self::UserReaders,
        Self::UserContacts,
        Self::MailboxMessages,
        Self::MailboxBytes,
        Self::KeyPackages,
        Self::KeyPackageBytes,
        Self::CommitBytes,
        Self::GroupInfoBytes,
        Self::WelcomeBytes,
        Self::RosterEntries,
        Self::RosterEntryBytes,
        Self::SealedBytes,
    ];

    /// What is counted, as it reads after a number.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserSessions => "live sessions of a user",
            Self::UserMachines => "machines of a user",
            Self::UserChannels => "channels of a user",
            Self::SessionChannels => "channels at once for a session",
            Self::ChannelMembers => "members of a channel",
            Self::ChannelBans => "bans of a channel",
            Self::ChannelInvites => "invites to a channel",
            Self::ServerInvites => "invites to this server",
            Self::UserReaders => "kept sessions of a user",
            Self::UserContacts => "contacts of a user",
            Self::MailboxMessages => "messages waiting in a mailbox",
            Self::MailboxBytes => "bytes waiting in a mailbox",
            Self::KeyPackages => "key packages of a machine",
            Self::KeyPackageBytes => "bytes of a key package",
            Self::CommitBytes => "bytes of a commit",
            Self::GroupInfoBytes => "bytes of a group info",
            Self::WelcomeBytes => "bytes of a welcome",
            Self::RosterEntries => "entries of a roster",
            Self::RosterEntryBytes => "bytes of a roster entry",
            Self::SealedBytes => "bytes kept for sealed channels",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a request was refused, or a connection did not become a session. Nothing was changed.
///
/// Paths are boxed to keep replies small: they pass through queues.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// A name is not valid.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// A new name could deceive those who read it.
    #[error(transparent)]
    UnfitName(#[from] UnfitName),
    /// A key to be enrolled is not valid.
    #[error(transparent)]
    InvalidKey(#[from] InvalidKey),
    /// A message is too large to be delivered.
    #[error("a message has at most {most} bytes")]
    MessageTooLarge {
        /// The largest payload, in bytes.
        most: usize,
    },
    /// A reader reports more than its session was sent.
    #[error("this session was sent messages up to {sent} only")]
    NotSentYet {
        /// The last message that it was sent.
        sent: u64,
    },
    /// The word of an acknowledgement is too long.
    #[error("the word of an acknowledgement has at most {most} bytes")]
    WordTooLong {
        /// The longest word, in bytes.
        most: usize,
    },
    /// A field of a request is missing or not what it must be.
    #[error("{0}")]
    InvalidField(&'static str),
    /// An invite would have no uses.
    #[error("an invite is for at least one use")]
    InviteWithoutUses,
    /// An invite's end cannot be represented.
    #[error("an invite cannot live that long: leave its lifetime out")]
    InviteLifetime,

    /// There is no such channel, or none that the caller may see.
    #[error("no channel '{0}' that you may see: check its name, or ask for an invite")]
    NoChannel(ChannelName),
    /// There is no stream of the number, or none that the caller may see.
    #[error("no stream of that number that you may see")]
    NoStream,
    /// There is no such mailbox, or none that the caller may write to.
    #[error("no mailbox of that name that you may write to: check the name, or ask its owner to allow you")]
    NoMailbox,
    /// The stream has no message of the number.
    #[error("no message {0} in this stream")]
    NoMessage(u64),
    /// There is no such user.
    #[error("no user '{0}'")]
    NoUser(UserName),
    /// The caller has no such machine.
    #[error("no machine '{0}' of yours")]
    NoMachine(MachineName),
    /// The session is not live.
    #[error("'{0}' is not online")]
    Offline(Box<SessionPath>),
    /// A kick found nobody in the channel.
    #[error("'{target}' is not in '{channel}'")]
    NotInChannel {
        /// Whom the kick names.
        target: Box<KickTarget>,
        /// The channel.
        channel: ChannelName,
    },

    /// The caller does not administer the channel.
    #[error("only an admin of '{0}' may do that")]
    NotChannelAdmin(ChannelName),
    /// The caller does not administer the server.
    #[error("only an admin of this server may do that")]
    NotServerAdmin,
    /// New users cannot register. The same whichever name was asked for.
    #[error(
        "registration is closed on this server: ask its operator to open it for you, or, if you are a user here, add \
         this machine from one that is enrolled"
    )]
    RegistrationClosed,
    /// New users need an invite, and this one has none, or none that is worth anything. The same whichever name was
    /// asked for, and whatever is the matter with the invite.
    #[error(
        "new users need an invite here, and this is none that lets you in: ask an admin of this server for one \
         (`conclave invite user` makes it), then type `conclave register --invite TOKEN`"
    )]
    InviteNeeded,
    /// New users need an invite, which the version of the protocol that the peer speaks has no place for.
    #[error(
        "new users need an invite here, and this program speaks version 1 of the protocol, which has none: update it, \
         ask an admin of this server for an invite, then type `conclave register --invite TOKEN`"
    )]
    InviteNeedsVersion2,
    /// An invite to the server would be worth nothing: registration takes none.
    #[error(
        "registration takes no invites on this server: its operator starts it with `--registration invite`"
    )]
    InviteUseless,
    /// The operator keeps the user name for another key.
    #[error("this name is reserved for another key")]
    NameReserved,

    /// The name of a user, a machine or a channel is in use.
    #[error("the name '{0}' is in use: choose another")]
    NameTaken(Name),
    /// The new name of a user or a channel looks like another, or was somebody else's until lately.
    #[error(
        "the name '{0}' looks like one that is in use, or that was until lately: choose another, or ask an admin of this \
         server (`conclave release NAME`)"
    )]
    NameUnavailable(Name),
    /// The key to be enrolled belongs to a machine already.
    #[error("this key is enrolled already")]
    KeyTaken,

    /// The caller sends more than its rate allows.
    #[error("rate limit: try again in {} ms", millis(*wait))]
    TooFast {
        /// How long to wait before the same request is accepted.
        wait: Duration,
    },

    /// There are as many as there may be.
    #[error("at most {most} {limit}: remove one first")]
    Full {
        /// What is counted.
        limit: Limit,
        /// How many there may be.
        most: usize,
    },
    /// As much waits in the mailbox as may.
    #[error("the mailbox is full, with at most {most} {limit}: try again when its owner has read some")]
    MailboxFull {
        /// What is counted.
        limit: Limit,
        /// How many there may be.
        most: usize,
    },
    /// What is to be kept for a sealed channel is too large, or too many.
    #[error("the server keeps at most {most} {limit}")]
    TooMuch {
        /// What is counted.
        limit: Limit,
        /// How many there may be.
        most: usize,
    },
    /// The server has as many users as it may.
    #[error("no more users can register here: ask this server's operator")]
    UsersFull,
    /// The address has registered as many users in a day as it may, or has failed to authenticate too often.
    #[error("too many registrations from this address: try again later, or ask this server's operator")]
    TooManyRegistrations,

    /// The session is not subscribed to the channel.
    #[error("this session is not in '{0}': join it first")]
    NotSubscribed(ChannelName),
    /// The session is not subscribed to the mailbox.
    #[error("this session is not subscribed to that mailbox: subscribe to it first")]
    MailboxNotSubscribed,
    /// The session lost its subscription while a page of history was read.
    #[error("the subscription ended while its history was read")]
    SubscriptionEnded,
    /// The server speaks a version of the protocol that does not have this.
    #[error("this takes version {version} of the protocol, which is not spoken on this connection")]
    NeedsOtherVersion {
        /// The version that has it.
        version: u32,
    },
    /// The session keeps no positions.
    #[error("this session keeps no positions: connect with `keep` set")]
    NotKept,
    /// A session of version 1 asks for a sealed channel.
    #[error("'{0}' is sealed, which takes version 2 of the protocol: update this program")]
    SealedNeedsVersion2(ChannelName),
    /// What is posted to a sealed channel is readable.
    #[error("this channel is sealed: seal what is posted to it, and post commits as such")]
    NotSealed,
    /// The channel has no group.
    #[error("this channel is not sealed")]
    NoGroup,
    /// The session's machine is not in the group of the sealed channel.
    #[error(
        "this machine is not in the channel's group: wait until a member adds it, or join by an external commit"
    )]
    NotInGroup,
    /// A commit changes the group in a way that it may not.
    #[error("the server takes no such commit: {0}")]
    CommitUnfit(&'static str),
    /// A post or a commit was made in another epoch than the current one.
    #[error("the channel's group is in epoch {current}: catch up, then make it again")]
    WrongEpoch {
        /// The current epoch.
        current: u64,
    },
    /// Machines must be removed from the group first.
    #[error("{} must be removed from the channel's group first: commit that", machines(.0))]
    RemovalsDue(
        /// The first [`MACHINES_NAMED`](crate::sealed::MACHINES_NAMED) of them.
        Arc<[MachineId]>,
    ),
    /// An entry for a roster does not name the newest one as its previous.
    #[error("the roster has another newest entry: read it, then try again")]
    RosterMoved,
    /// The creator of a channel cannot be removed from its members.
    #[error("the creator of a channel stays its member")]
    CreatorStays,
    /// An admin of a channel cannot be banned from it.
    #[error("an admin of a channel cannot be banned from it")]
    AdminBan,
    /// The caller's only machine cannot be removed.
    #[error("this is your last machine: add another first, or you could not come back")]
    LastMachine,
    /// A machine that belongs to a user already asked to register one.
    #[error("this machine's key is enrolled already: connect without registering")]
    AlreadyRegistered,

    /// The proven key belongs to no machine.
    #[error("this machine's key is not enrolled here: register a user, or have a machine of yours add it")]
    UnknownKey,
    /// The key to be registered does not have 32 bytes.
    #[error("a key has 32 bytes")]
    KeyLength,
    /// The signature is not the key's, or not over this connection's challenge.
    #[error("the signature does not prove this key")]
    BadSignature,
    /// The proven key and the key to be registered differ.
    #[error("the proven key is not the one to be registered")]
    OtherKey,

    /// The server stops, and takes no more requests.
    #[error("server shutting down")]
    ShuttingDown,

    /// The storage failed.
    #[error("the server could not store it, nothing was changed or sent: {why}")]
    NotStored {
        /// The storage's error.
        why: String,
    },
    /// The storage failed to read.
    #[error("the server could not read its history: {why}")]
    HistoryUnreadable {
        /// The storage's error.
        why: String,
    },
    /// The server has no unused token for an invite.
    #[error("the server has no fresh token: try again")]
    NoFreshToken,

    /// A reason that this program does not know, from another server. The text is the server's, and not to be trusted.
    #[error("{text}")]
    Other {
        /// Its class, as far as it is known.
        code: Code,
        /// The server's text, bounded by the wire that it came over.
        text: String,
    },
}

impl Refusal {
    /// The class of the reason.
    pub fn code(&self) -> Code {
        match self {
            Self::InvalidName(_)
            | Self::UnfitName(_)
            | Self::InvalidKey(_)
            | Self::MessageTooLarge { .. }
            | Self::NotSentYet { .. }
            | Self::WordTooLong { .. }
            | Self::InvalidField(_)
            | Self::InviteWithoutUses
            | Self::InviteLifetime => Code::InvalidArgument,
            Self::NoChannel(_)
            | Self::NoUser(_)
            | Self::NoStream
            | Self::NoMailbox
            | Self::NoMessage(_)
            | Self::NoMachine(_)
            | Self::Offline(_)
            | Self::NotInChannel { .. } => Code::NotFound,
            Self::NotChannelAdmin(_)
            | Self::NotServerAdmin
            | Self::RegistrationClosed
            | Self::InviteNeeded
            | Self::InviteNeedsVersion2
            | Self::NameReserved => Code::PermissionDenied,
            Self::NameTaken(_) | Self::NameUnavailable(_) | Self::KeyTaken => Code::AlreadyExists,
            Self::TooFast { .. } => Code::RateLimited,
            Self::Full { .. }
            | Self::MailboxFull { .. }
            | Self::TooMuch { .. }
            | Self::UsersFull
            | Self::TooManyRegistrations => Code::QuotaExceeded,
            Self::WrongEpoch { .. } => Code::WrongEpoch,
            Self::RemovalsDue(_) => Code::RemovalsDue,
            Self::NotSubscribed(_)
            | Self::MailboxNotSubscribed
            | Self::SubscriptionEnded
            | Self::NotKept
            | Self::SealedNeedsVersion2(_)
            | Self::NotSealed
            | Self::NoGroup
            | Self::NotInGroup
            | Self::CommitUnfit(_)
            | Self::RosterMoved
            | Self::InviteUseless
            | Self::NeedsOtherVersion { .. }
            | Self::CreatorStays
            | Self::AdminBan
            | Self::LastMachine
            | Self::AlreadyRegistered => Code::FailedPrecondition,
            Self::UnknownKey | Self::KeyLength | Self::BadSignature | Self::OtherKey => Code::Unauthenticated,
            Self::ShuttingDown => Code::Unavailable,
            Self::NotStored { .. } | Self::HistoryUnreadable { .. } | Self::NoFreshToken => Code::Internal,
            Self::Other { code, .. } => *code,
        }
    }

    /// How long to wait before the same request can succeed, if the server said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooFast { wait } => Some(*wait),
            _ => None,
        }
    }

    /// Whether the same request may succeed later although nobody has done anything about it.
    pub fn may_succeed_later(&self) -> bool {
        matches!(self.code(), Code::RateLimited | Code::Unavailable | Code::Internal)
    }

    /// The word under which metrics and logs count it: `malformed`, `not_found`, `internal`, or `unauthorized` for
    /// everything else.
    pub fn kind(&self) -> &'static str {
        match self.code() {
            Code::InvalidArgument => "malformed",
            Code::NotFound => "not_found",
            Code::Internal => "internal",
            Code::PermissionDenied
            | Code::AlreadyExists
            | Code::RateLimited
            | Code::QuotaExceeded
            | Code::FailedPrecondition
            | Code::Unauthenticated
            | Code::Unavailable
            | Code::WrongEpoch
            | Code::RemovalsDue => "unauthorized",
        }
    }
}

fn machines(machines: &[MachineId]) -> String {
    match machines.len() {
        1 => "1 machine".into(),
        many => alloc::format!("{many} machines"),
    }
}

/// Rounded up: a caller that waits this long has waited enough.
fn millis(wait: Duration) -> u128 {
    wait.as_nanos().div_ceil(1_000_000)
}
