//! The domain's vocabulary: commands, replies, refusals and the reasons for which a connection ends. Nothing here depends
//! on a version of the wire; `wire` translates.

mod close;
mod refusal;
pub(crate) mod size;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use crate::audit::Entry;
use crate::key::PublicKey;
use crate::name::{ChannelName, InvalidName, MachineName, Name, SessionPath, UserName};
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::sealed::NewGroup;
use crate::stream::{Origin, StreamCommand, StreamReply};
use crate::time::UnixMillis;

pub use self::close::{CloseReason, End};
pub use self::refusal::{Code, Limit, Refusal};

/// Who is shown a channel, and who may join it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Visibility {
    /// Listed to everyone, joined by everyone.
    Public,
    /// Listed to members, joined by whoever knows the name.
    Unlisted,
    /// Listed to members, joined by members and holders of an invite.
    Private,
}

/// A text that names no visibility.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a visibility is public, unlisted or private")]
pub struct InvalidVisibility;

impl Visibility {
    /// All of them, the widest first.
    pub const ALL: [Self; 3] = [Self::Public, Self::Unlisted, Self::Private];

    /// Its word, as it is typed and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Unlisted => "unlisted",
            Self::Private => "private",
        }
    }
}

impl FromStr for Visibility {
    type Err = InvalidVisibility;

    fn from_str(text: &str) -> Result<Self, InvalidVisibility> {
        Self::ALL.into_iter().find(|visibility| visibility.as_str() == text).ok_or(InvalidVisibility)
    }
}

impl fmt::Display for Visibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The secret text of an invite. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(Arc<str>);

impl Token {
    /// The longest token that is looked at, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Takes any text as a token: whether an invite has it is for the hub to say. Longer than
    /// [`Token::MAX_LEN`] it cannot be one and is cut, so that it is not carried about.
    pub fn new(text: &str) -> Self {
        Self(Arc::from(&text[..text.floor_char_boundary(Self::MAX_LEN + 1)]))
    }

    /// The token's text, to be given to whom it invites.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What a session asks of the hub. Each is answered by exactly one [`Reply`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Subscribe to a channel; a token makes a member of a private one first.
    Join {
        /// The channel.
        channel: ChannelName,
        /// An invite to it.
        token: Option<Token>,
    },
    /// End the subscription to a channel.
    Leave {
        /// The channel.
        channel: ChannelName,
    },
    /// List the live sessions, of a channel or of all.
    Who {
        /// The channel whose subscribers are asked for.
        channel: Option<ChannelName>,
    },
    /// Post a message to a channel.
    Post {
        /// The channel.
        channel: ChannelName,
        /// What to post.
        payload: Payload,
    },
    /// Send a message to exactly one live session.
    Whisper {
        /// That session.
        target: SessionPath,
        /// What to send.
        payload: Payload,
    },
    /// List the channels that the user may see.
    ListChannels,
    /// List the user's own machines.
    ListMachines,
    /// List all users (server admins).
    ListUsers,
    /// Read a page of a channel's history.
    ReadSince {
        /// The channel.
        channel: ChannelName,
        /// Only messages stamped after this.
        since: UnixMillis,
    },
    /// Show that the session lives.
    Ping,
    /// Change or inspect the directory.
    Admin(Admin),
    /// Read or write a stream by position.
    Stream(StreamCommand),
}

impl Command {
    /// A short, fixed word or two for logs: nothing of its content.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Join { .. } => "join",
            Self::Leave { .. } => "leave",
            Self::Who { .. } => "who",
            Self::Post { .. } => "post",
            Self::Whisper { .. } => "whisper",
            Self::ListChannels => "channel list",
            Self::ListMachines => "machine list",
            Self::ListUsers => "user list",
            Self::ReadSince { .. } => "history",
            Self::Ping => "ping",
            Self::Admin(admin) => admin.kind(),
            Self::Stream(command) => command.kind(),
        }
    }
}

/// What administrates channels, users and machines.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Admin {
    /// Create a channel, with the user as its admin.
    CreateChannel {
        /// Its name.
        name: ChannelName,
        /// Its visibility.
        visibility: Visibility,
    },
    /// Create a sealed channel, with the user as its admin and the session's machine in its group.
    CreateSealedChannel {
        /// Its name.
        name: ChannelName,
        /// Its visibility.
        visibility: Visibility,
        /// Its group.
        group: NewGroup,
    },
    /// Delete a channel with all that belongs to it.
    DeleteChannel {
        /// Its name.
        name: ChannelName,
    },
    /// Give a channel another name; all that belongs to it stays.
    RenameChannel {
        /// Its name.
        name: ChannelName,
        /// Its name from now on.
        new_name: ChannelName,
    },
    /// Give a channel another visibility.
    SetVisibility {
        /// Its name.
        name: ChannelName,
        /// Its visibility from now on.
        visibility: Visibility,
    },
    /// Make a user a member; lifts a ban.
    AclAdd {
        /// The channel.
        channel: ChannelName,
        /// The user.
        user: UserName,
    },
    /// End a user's membership.
    AclRemove {
        /// The channel.
        channel: ChannelName,
        /// The user.
        user: UserName,
    },
    /// List the members.
    AclList {
        /// The channel.
        channel: ChannelName,
    },
    /// Make an invite.
    InviteCreate {
        /// The channel.
        channel: ChannelName,
        /// How often it may be used; `None`: any number of times.
        uses: Option<u32>,
        /// How long it lives; `None`: until revoked.
        lifetime: Option<Duration>,
    },
    /// End an invite.
    InviteRevoke {
        /// Its token; for an invite to the server, [`UserInviteInfo::id`] does as well.
        token: Token,
    },
    /// List the invites.
    InviteList {
        /// The channel.
        channel: ChannelName,
    },
    /// Make an invite to the server (server admins).
    UserInvite {
        /// How often it may be used; `None`: any number of times.
        uses: Option<u32>,
        /// How long it lives; `None`: until revoked.
        lifetime: Option<Duration>,
    },
    /// List the invites to the server (server admins).
    UserInviteList,
    /// Read the audit trail, newest first: all of it (server admins), or that of a channel (its admins).
    Audit {
        /// The channel.
        channel: Option<ChannelName>,
        /// Only entries with lower numbers.
        before: Option<u64>,
        /// Entries at most; 0 and anything above the server's own bound mean that bound.
        limit: usize,
    },
    /// End the subscriptions of a user or of one session.
    Kick {
        /// The channel.
        channel: ChannelName,
        /// Whom.
        target: KickTarget,
    },
    /// End a user's subscriptions and membership, and let them not come back.
    Ban {
        /// The channel.
        channel: ChannelName,
        /// The user.
        user: UserName,
    },
    /// Lift a ban.
    Unban {
        /// The channel.
        channel: ChannelName,
        /// The user.
        user: UserName,
    },
    /// List the banned users.
    BanList {
        /// The channel.
        channel: ChannelName,
    },
    /// Remove a user with all that is theirs (server admins).
    UserRemove {
        /// The user.
        user: UserName,
    },
    /// Let everyone have a name that is held back for whoever had it (server admins).
    NameRelease {
        /// The name; those that look like it are released as well.
        name: Name,
    },
    /// Enrol another machine of the user.
    MachineAdd {
        /// Its name.
        name: MachineName,
        /// Its key.
        key: PublicKey,
    },
    /// Revoke a machine of the user.
    MachineRemove {
        /// Its name.
        name: MachineName,
    },
}

impl Admin {
    /// Whether it makes an invite, and so needs a fresh token.
    pub fn makes_invite(&self) -> bool {
        matches!(self, Self::InviteCreate { .. } | Self::UserInvite { .. })
    }

    /// A short, fixed word or two for logs, as the command line's verbs are called: nothing of its content.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::CreateChannel { .. } | Self::CreateSealedChannel { .. } => "channel create",
            Self::DeleteChannel { .. } => "channel delete",
            Self::RenameChannel { .. } => "channel rename",
            Self::SetVisibility { .. } => "channel set-visibility",
            Self::AclAdd { .. } => "acl add",
            Self::AclRemove { .. } => "acl remove",
            Self::AclList { .. } => "acl list",
            Self::InviteCreate { .. } => "invite create",
            Self::InviteRevoke { .. } => "invite revoke",
            Self::InviteList { .. } => "invite list",
            Self::UserInvite { .. } => "invite user",
            Self::UserInviteList => "invite users",
            Self::Audit { .. } => "audit",
            Self::Kick { .. } => "kick",
            Self::Ban { .. } => "ban",
            Self::Unban { .. } => "unban",
            Self::BanList { .. } => "bans",
            Self::UserRemove { .. } => "user remove",
            Self::NameRelease { .. } => "release",
            Self::MachineAdd { .. } => "machine add",
            Self::MachineRemove { .. } => "machine remove",
        }
    }
}

/// Whom a kick meets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KickTarget {
    /// All sessions of a user.
    User(UserName),
    /// One session.
    Session(SessionPath),
}

impl FromStr for KickTarget {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.contains('/') { text.parse().map(Self::Session) } else { text.parse().map(Self::User) }
    }
}

impl fmt::Display for KickTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => user.fmt(f),
            Self::Session(path) => path.fmt(f),
        }
    }
}

/// The answer to a [`Command`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// The post is durable, or the whisper was handed to its session.
    Sent,
    /// The session is subscribed.
    Joined(ChannelName),
    /// Done; the text names what it was done to, a revoked invite by its token.
    Done(Opaque<String>),
    /// Live sessions.
    Presence {
        /// The channel asked about.
        channel: Option<ChannelName>,
        /// In the order of their paths.
        sessions: Vec<Arc<SessionPath>>,
    },
    /// Channels, in the order of their names.
    Channels(Vec<ChannelInfo>),
    /// Machines, in the order of their names.
    Machines(Vec<MachineInfo>),
    /// Users, in the order of their names.
    Users(Vec<UserName>),
    /// Invites, oldest first.
    Invites(Vec<InviteInfo>),
    /// Invites to the server, oldest first.
    UserInvites(Vec<UserInviteInfo>),
    /// A new invite's token.
    Invite(Token),
    /// A page of the audit trail, newest first.
    Audit {
        /// The entries.
        entries: Vec<Entry>,
        /// Whether there are older ones.
        more: bool,
    },
    /// A page of history, oldest first; an empty one ends it.
    History {
        /// The channel.
        channel: ChannelName,
        /// The page.
        messages: Vec<Stamped>,
    },
    /// The answer to a ping.
    Pong,
    /// The answer to a [`StreamCommand`].
    Stream(StreamReply),
    /// It was not done.
    Refused(Refusal),
}

/// A channel as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChannelInfo {
    /// Its name.
    pub name: ChannelName,
    /// Its visibility.
    pub visibility: Visibility,
    /// Whether the asking user is a member.
    pub member: bool,
    /// Whether it is sealed.
    pub sealed: bool,
}

/// A machine as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MachineInfo {
    /// Its name.
    pub name: MachineName,
    /// Its key.
    pub key: PublicKey,
    /// When it was enrolled.
    pub added: UnixMillis,
}

/// An invite as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InviteInfo {
    /// Its token.
    pub token: Token,
    /// How often it may still be used; `None`: any number of times.
    pub uses: Option<u32>,
    /// When it ends; `None`: when revoked.
    pub expires: Option<UnixMillis>,
}

/// An invite to the server as it is listed: its secret is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UserInviteInfo {
    /// What it is called, and revoked by.
    pub id: String,
    /// Who made it.
    pub by: UserName,
    /// How often it may still be used; `None`: any number of times.
    pub uses: Option<u32>,
    /// When it ends; `None`: when revoked.
    pub expires: Option<UnixMillis>,
}

/// A message of a channel's history.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stamped {
    /// Who posted it.
    pub from: SessionPath,
    /// When the server took it; strictly increasing within a channel.
    pub ts: UnixMillis,
    /// What it says.
    pub payload: Payload,
    /// Its number in the channel; 0 where it is not known, since version 1 does not carry it.
    pub seq: u64,
    /// Where it comes from.
    pub origin: Origin,
}

impl Stamped {
    /// A message as version 1 carries it.
    pub fn without_origin(from: SessionPath, ts: UnixMillis, payload: Payload) -> Self {
        Self { from, ts, payload, seq: 0, origin: Origin::default() }
    }
}
