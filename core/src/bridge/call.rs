//! What an agent asks of the bridge, and what it is answered.

use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::{CardId, Level, Page, Scope, Server, escape};
use crate::name::{ChannelName, SessionPath, UserName};
use crate::opaque::Opaque;
use crate::protocol::{Admin, ChannelInfo, InviteInfo, Refusal, Stamped, Token};
use crate::text::one_line;
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
    },
    /// `whisper`.
    Whisper {
        /// On which server.
        server: Option<String>,
        /// To whom.
        target: SessionPath,
        /// What to say.
        text: Opaque<String>,
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
    /// The joined channels and their levels.
    pub channels: Vec<(ChannelName, Level)>,
    /// The level of whispers.
    pub whispers: Level,
}

/// Why a tool call failed. `Display` is a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The scope's level does not allow it.
    #[error(
        "{scope} on {server} is at level {level}, which does not allow this. Tell your user; they can type: {command}"
    )]
    Level {
        /// On which server.
        server: Server,
        /// Of what.
        scope: Scope,
        /// Its level.
        level: Level,
        /// What the human can type.
        command: String,
    },
    /// A level is raised by the human only.
    #[error("Only your user raises a level, and this client cannot ask them. They can type: {command}")]
    NeedsHuman {
        /// What the human can type.
        command: String,
    },
    /// The human said no.
    #[error(
        "Your user did not agree to raise the level; it stays as it was. Do not ask again unless they bring it up: then \
         they can type: {command}"
    )]
    Declined {
        /// What the human can type.
        command: String,
    },
    /// The human is being asked already.
    #[error("Your user is being asked already. Wait for their answer.")]
    Asking,
    /// The loop guard's budget is used up.
    #[error(
        "Not sent: {sent} messages of yours there {how}. This looks like agents answering each other: stop, and tell your user. It is allowed again once somebody new speaks there, after 10 quiet minutes, or when your user types: {command}"
    )]
    Loop {
        /// How many were sent.
        sent: u32,
        /// In what way.
        how: &'static str,
        /// What the human can type.
        command: String,
    },
    /// Several servers, and none was named.
    #[error("Say which server: {}", .0.iter().map(Server::as_str).collect::<Vec<_>>().join(", "))]
    WhichServer(Vec<Server>),
    /// No such server.
    #[error("This bridge is not linked with that server. It knows: {}", .0.iter().map(Server::as_str).collect::<Vec<_>>().join(", "))]
    UnknownServer(Vec<Server>),
    /// There are no servers at all.
    #[error(
        "No server is configured. Your user can type: conclave register --server URL --username NAME, and start the bridge anew"
    )]
    NoServer,
    /// The link is down.
    #[error(
        "The link to {server} is down ({}). Nothing was done; try again once a notice says that it is back",
        escape(why)
    )]
    Down {
        /// Which server.
        server: Server,
        /// What is the matter.
        why: String,
    },
    /// The link broke before the answer.
    #[error(
        "The link broke before the server answered: it may have happened or not. Check before you do it again"
    )]
    Uncertain,
    /// The server did not answer in time.
    #[error("The server did not answer in time: it may have happened or not. Check before you do it again")]
    TimedOut,
    /// The server refused.
    #[error("The server refused: {}", shown(.0))]
    Refused(Refusal),
    /// The server answered with something else.
    #[error("The server answered something that is no answer to this. It may be at fault; tell your user")]
    Confused,
    /// The channel is not joined.
    #[error("This session is not on #{0}. Use join_channel first")]
    NotJoined(ChannelName),
    /// The user is no admin there.
    #[error("Your user is no admin of {0}; this takes one")]
    NotAdmin(Server),
    /// No such prompt is open.
    #[error("No permission request of that name is open. It may have expired or been answered")]
    NoPrompt,
    /// Several sessions have a prompt of that name open.
    #[error("Several sessions asked under that name; say from which: {}", paths(.0))]
    WhichPrompt(Vec<SessionPath>),
    /// A verdict written as a whisper.
    #[error("That is a verdict on a permission request. If your user decided so, use submit_permission")]
    Verdict,
    /// The text is empty.
    #[error("There is no text to send: `text` is empty")]
    NoText,
    /// The text is too long.
    #[error(
        "The text has {0} bytes, and at most {MAX_TEXT} can be sent. Send it in several messages, or name a file that holds it"
    )]
    Text(usize),
    /// The target is this session.
    #[error("That is this session itself")]
    Oneself,
    /// Too many of that at once.
    #[error("Too much of this at once; wait for the earlier calls to end")]
    Busy,
}

/// The longest text that is sent, in bytes: a server takes frames of 1 MiB.
pub const MAX_TEXT: usize = 1_000_000;

fn shown(refusal: &Refusal) -> String {
    String::from(escape(&one_line(&refusal.to_string(), 500)))
}

fn paths(paths: &[SessionPath]) -> String {
    let escaped: Vec<_> = paths.iter().map(|path| String::from(escape(&path.to_string()))).collect();
    escaped.join(", ")
}
