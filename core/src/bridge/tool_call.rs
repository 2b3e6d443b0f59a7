//! The calls of the bridge's tools, and their outcomes.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use super::card::CardId;
use super::failure::Failure;
use super::inbox::{Page, Source};
use super::levels::{Level, Scope};
use super::server::Server;
use crate::name::{ChannelName, InvalidName, SessionPath, UserName};
use crate::opaque::Opaque;
use crate::protocol::{Admin, ChannelInfo, InviteInfo, Stamped, Token};
use crate::record::{ChannelId, UserId};
use crate::stream::{Receipt, ReceiptState};
use crate::time::{Since, UnixMillis};

/// Names one tool call, as the shell numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A tool call, its arguments already read. A `server` is a URL or host as the agent wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolCall {
    /// `join_channel`.
    Join {
        /// On which server.
        server: Option<String>,
        /// The channel.
        channel: ChannelName,
        /// An invite to it.
        token: Option<Token>,
        /// The level to set for it.
        level: Option<Level>,
    },
    /// `leave_channel`.
    Leave {
        /// On which server.
        server: Option<String>,
        /// The channel.
        channel: ChannelName,
    },
    /// `send_channel`.
    Send {
        /// On which server.
        server: Option<String>,
        /// The channel.
        channel: ChannelName,
        /// What to post.
        text: Opaque<String>,
        /// The message there that it answers.
        reply_to: Option<u64>,
        /// Users whom it mentions.
        mentions: Vec<UserName>,
        /// What to wait for, and how long.
        wait: Option<(ReceiptState, Duration)>,
    },
    /// `receipts`.
    Receipts {
        /// On which server.
        server: Option<String>,
        /// The channel.
        channel: ChannelName,
        /// The message.
        seq: u64,
    },
    /// `acknowledge`.
    Acknowledge {
        /// On which server.
        server: Option<String>,
        /// The channel.
        channel: ChannelName,
        /// The message.
        seq: u64,
        /// A word to its sender.
        word: Opaque<String>,
    },
    /// `whisper`.
    Whisper {
        /// On which server.
        server: Option<String>,
        /// To whom: a session, or a user wherever they are.
        target: WhisperTarget,
        /// What to say.
        text: Opaque<String>,
        /// Users whom it mentions.
        mentions: Vec<UserName>,
        /// What to wait for, and how long.
        wait: Option<(ReceiptState, Duration)>,
    },
    /// `list_channels`.
    ListChannels {
        /// On which server.
        server: Option<String>,
    },
    /// `who`.
    Who {
        /// On which server.
        server: Option<String>,
        /// On which channel; `None`: all sessions.
        channel: Option<ChannelName>,
    },
    /// `catch_up`.
    CatchUp {
        /// On which server.
        server: Option<String>,
        /// The channel.
        channel: ChannelName,
        /// From when; `None`: from the last message that the session saw there.
        since: Option<Since>,
    },
    /// `inbox`.
    Inbox {
        /// How many messages at most.
        limit: Option<usize>,
        /// Which.
        filter: Filter,
    },
    /// `inbox` with `mark_read`: nothing is shown.
    MarkRead {
        /// On which server; `None`: on all.
        server: Option<String>,
        /// On which channel; `None`: on all.
        channel: Option<ChannelName>,
    },
    /// `wait_for_message`.
    Wait {
        /// How long.
        timeout: Option<Duration>,
    },
    /// `set_perm`.
    SetLevel {
        /// On which server.
        server: Option<String>,
        /// Of what.
        scope: Scope,
        /// To which level.
        level: Level,
    },
    /// `submit_permission`.
    Submit {
        /// Whose prompt it is, where two sessions' have the same name.
        from: Option<SessionPath>,
        /// The prompt.
        id: CardId,
        /// The verdict.
        allow: bool,
    },
    /// `status`.
    Status,
    /// A tool of the server's admins.
    Admin {
        /// On which server.
        server: Option<String>,
        /// What to do.
        what: Admin,
    },
}

/// Which unread messages are meant. The default are all that are shown without being asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this server.
    pub server: Option<String>,
    /// Of this channel, also those that are not shown by themselves.
    pub channel: Option<ChannelName>,
    /// Of this user or session.
    pub from: Option<WhisperTarget>,
    /// Only what mentions the session's user.
    pub mentions_only: bool,
}

/// Whom a whisper is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhisperTarget {
    /// One session.
    Session(SessionPath),
    /// A user, in whichever session they read it.
    User(UserName),
}

impl WhisperTarget {
    /// The user.
    pub fn user(&self) -> &UserName {
        match self {
            Self::Session(path) => &path.user,
            Self::User(user) => user,
        }
    }
}

impl fmt::Display for WhisperTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(path) => path.fmt(f),
            Self::User(user) => user.fmt(f),
        }
    }
}

impl FromStr for WhisperTarget {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.contains('/') { text.parse().map(Self::Session) } else { UserName::new(text).map(Self::User) }
    }
}

/// Where a message that was sent lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its stream.
    pub stream: ChannelId,
    /// Its number there.
    pub seq: u64,
    /// When the server took it.
    pub at: UnixMillis,
    /// Whether whoever it is for reads there now; `None` for a channel.
    pub present: Option<bool>,
}

/// What a tool call came to. Names in it are exact; bodies are as they came, to be escaped where they are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The channel is joined.
    Joined {
        /// On which server.
        server: Server,
        /// The channel.
        channel: ChannelName,
        /// Its level now.
        level: Level,
        /// Why that is not the level asked for.
        note: Option<Failure>,
    },
    /// The channel is left.
    Left {
        /// On which server.
        server: Server,
        /// The channel.
        channel: ChannelName,
    },
    /// The message is durable, or was handed over.
    Sent {
        /// On which server.
        server: Server,
        /// Where to, as it is shown.
        to: String,
        /// Where it lies, by version 2.
        stored: Option<Stored>,
        /// Whom it mentions.
        mentioned: Vec<UserName>,
        /// What was waited for, and how each reader stands to it.
        waited: Option<(ReceiptState, Vec<Receipt>)>,
    },
    /// Who has a message.
    Receipts {
        /// On which server.
        server: Server,
        /// The channel.
        channel: ChannelName,
        /// The message.
        seq: u64,
        /// The readers that tell.
        readers: Vec<Receipt>,
    },
    /// A message is acknowledged.
    Acknowledged {
        /// On which server.
        server: Server,
        /// The channel.
        channel: ChannelName,
        /// The message.
        seq: u64,
    },
    /// The channels that the user may see.
    Channels {
        /// On which server.
        server: Server,
        /// Each with its level where it is joined.
        channels: Vec<(ChannelInfo, Option<Level>)>,
    },
    /// Live sessions.
    Presence {
        /// On which server.
        server: Server,
        /// The channel asked about.
        channel: Option<ChannelName>,
        /// Who is there.
        sessions: Vec<Arc<SessionPath>>,
        /// This session.
        own: Option<SessionPath>,
    },
    /// A channel's history.
    History {
        /// On which server.
        server: Server,
        /// The channel.
        channel: ChannelName,
        /// Its level.
        level: Level,
        /// The session's user there: messages that mention it are marked.
        user: Option<UserId>,
        /// Oldest first.
        messages: Vec<Stamped>,
        /// There is more after this stamp.
        more: Option<UnixMillis>,
    },
    /// What was unread.
    Read {
        /// The messages, and what was lost.
        page: Page,
        /// The level of each entry that is a message.
        levels: Vec<Option<Level>>,
        /// What is unread still.
        waiting: Vec<Waiting>,
    },
    /// Messages are marked as read, without being shown.
    Marked {
        /// How many are known of.
        count: usize,
        /// There were others, on disk.
        more: bool,
    },
    /// Nothing came in the time waited.
    Nothing {
        /// How long was waited.
        waited: Duration,
    },
    /// A level is set.
    LevelSet {
        /// On which server.
        server: Server,
        /// Of what.
        scope: Scope,
        /// Which.
        level: Level,
    },
    /// A verdict was sent.
    Answered {
        /// To whom.
        to: SessionPath,
        /// About what.
        id: CardId,
        /// Which.
        allow: bool,
    },
    /// What the bridge knows of itself.
    Status(Status),
    /// Done; the text names what it was done to.
    Done {
        /// On which server.
        server: Server,
        /// What it was done to; a revoked invite by its token.
        what: Opaque<String>,
    },
    /// Users, in the order of their names.
    Users {
        /// On which server.
        server: Server,
        /// Their names.
        users: Vec<UserName>,
    },
    /// Invites, oldest first.
    Invites {
        /// On which server.
        server: Server,
        /// The invites.
        invites: Vec<InviteInfo>,
    },
    /// A new invite.
    Invite {
        /// On which server.
        server: Server,
        /// Its token.
        token: Token,
    },
}

/// What is unread of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Whose.
    pub source: Source,
    /// What `inbox` shows by itself.
    pub unread: usize,
    /// What is shown only when it is asked for, since the channel is followed for mentions only.
    pub quiet: usize,
    /// There is more, on disk.
    pub more: bool,
}

/// What the bridge knows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its links.
    pub links: Vec<LinkStatus>,
    /// The level of scopes without one of their own.
    pub default: Level,
    /// Messages not yet read.
    pub unread: usize,
    /// Own prompts that wait for an approver.
    pub own_prompts: usize,
    /// Prompts of others that wait for this session's user.
    pub prompts: Vec<(CardId, SessionPath)>,
}

/// One link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Its server.
    pub server: Server,
    /// `None` while it is up; else what is the matter.
    pub trouble: Option<String>,
    /// This session's name there.
    pub path: Option<SessionPath>,
    /// Whether the user is an admin there.
    pub admin: bool,
    /// The joined channels.
    pub channels: Vec<JoinedChannel>,
    /// The level of whispers.
    pub whispers: Level,
}

/// A joined channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedChannel {
    /// Its name.
    pub name: ChannelName,
    /// Its level.
    pub level: Level,
    /// Whether only mentions are shown by themselves.
    pub mentions_only: bool,
}
