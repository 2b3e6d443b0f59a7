//! What goes into the bridge and what comes out.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::bindings::Bound;
use super::card::{Approver, CardId, PermissionRequest};
use super::failure::Failure;
use super::guard::{Budget, Row};
use super::levels::{Level, Permissions};
use super::server::Server;
use super::tool_call::{CallId, Outcome, ToolCall};
use crate::link::{Place, Proof, RequestError, RequestId};
use crate::name::{ChannelName, SessionPath};
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::{Command, Reply, Stamped};
use crate::record::{ChannelId, UserId};
use crate::time::UnixMillis;

/// Names a question to the human.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuestionId(pub u64);

/// What the human configured, read again whenever it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The levels.
    pub permissions: Permissions,
    /// Who may answer permission prompts.
    pub approvers: Vec<Approver>,
    /// How many messages in a row agents may write; [`HOPS`](super::HOPS) if it is not set.
    pub hops: Option<u32>,
}

/// What is fixed for the life of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The servers, one link each.
    pub servers: Vec<Server>,
    /// The loop guard's budget.
    pub budget: Budget,
    /// How many bytes of unread messages are held.
    pub inbox: usize,
    /// If a message woke the session: the row that the session's answer to it stands in.
    pub woken: Row,
    /// If something else than the human's configuration bounds the levels: by what.
    pub most: Option<Level>,
}

impl Config {
    /// These servers, a budget of 8 and 16 messages, an inbox of 4 MiB.
    pub fn new(servers: Vec<Server>) -> Self {
        Self { servers, budget: Budget::default(), inbox: 4 << 20, woken: Row::default(), most: None }
    }
}

/// When a client runs a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A session begins.
    Start,
    /// A prompt was submitted.
    Prompt {
        /// Whether a human submitted it.
        human: bool,
    },
    /// A tool ran.
    Tool,
    /// The agent is about to stop: with an answer it goes on.
    Stop,
}

/// What happens to a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The client is ready for pushes.
    Ready {
        /// Whether the client can ask its human (elicitation).
        asks: bool,
    },
    /// The agent calls a tool. Answered by one [`Action::Answer`], unless cancelled.
    Call {
        /// The call.
        id: CallId,
        /// What it asks.
        call: ToolCall,
    },
    /// A hook of the client asks what is to be put before the model. Answered by one [`Action::Hooked`]; what that shows is
    /// unread again if [`Input::Cancel`] follows within half a second.
    Hook {
        /// The call.
        id: CallId,
        /// When it asks.
        moment: Moment,
        /// How many bytes the answer may have.
        most: usize,
    },
    /// The client no longer wants an answer. What an answer on its way has read is unread again.
    Cancel {
        /// The call.
        id: CallId,
    },
    /// A link has something to say.
    Link {
        /// Its server.
        server: Server,
        /// What.
        event: LinkEvent,
    },
    /// The client prompts its human for a permission.
    Prompt(PermissionRequest),
    /// The human answered [`Action::Ask`], or will not.
    Answered {
        /// The question.
        question: QuestionId,
        /// True only for an express yes.
        agreed: bool,
    },
    /// The human's configuration was written anew.
    Configured {
        /// What it says.
        settings: Settings,
        /// It was written, and says what it said before.
        again: bool,
    },
    /// Time has passed.
    Tick,
}

/// What a shell must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the server; its reply comes back as [`LinkEvent::Reply`].
    Request {
        /// On which link.
        server: Server,
        /// Under which name.
        id: RequestId,
        /// What.
        command: Command,
    },
    /// The answer to a hook.
    Hooked {
        /// The call.
        call: CallId,
        /// What to put before the model; `None` for nothing.
        text: Option<Opaque<String>>,
    },
    /// Everything in this stream up to here was put before the agent.
    Seen {
        /// On which server.
        server: Server,
        /// The stream.
        stream: ChannelId,
        /// The last message.
        seq: u64,
    },
    /// These were put before the agent, while older ones of the stream wait still: they are not to be handed in again.
    Shown {
        /// On which server.
        server: Server,
        /// The stream.
        stream: ChannelId,
        /// The messages.
        seqs: Vec<u64>,
    },
    /// Messages are given up that were not put before the agent, or will not be: they are not to be handed in again, and
    /// nothing from there on counts as seen.
    Skip {
        /// On which server.
        server: Server,
        /// The stream.
        stream: ChannelId,
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// Write down what a name means, unless that is written down already.
    Bind {
        /// On which server.
        server: Server,
        /// The name, and what it means.
        bound: Bound,
    },
    /// Hand in the names that are bound: [`LinkEvent::Bound`].
    LoadBindings {
        /// On which server.
        server: Server,
    },
    /// Hand in kept messages that the agent has not seen: [`LinkEvent::Unread`].
    LoadUnread {
        /// On which server.
        server: Server,
        /// Of which stream.
        stream: ChannelId,
        /// From right behind this message.
        after: u64,
    },
    /// Answer a tool call.
    Answer {
        /// The call.
        call: CallId,
        /// With what.
        result: Result<Outcome, Failure>,
    },
    /// Tell the client that a call is still being waited on.
    Progress {
        /// The call.
        call: CallId,
        /// How long it has been waited.
        waited: Duration,
        /// How long it will be at most.
        total: Duration,
    },
    /// Show the agent something now.
    Push(Push),
    /// Tell the client that the list of tools has changed.
    ToolsChanged,
    /// Ask the human.
    Ask {
        /// The question's name.
        question: QuestionId,
        /// The question.
        text: String,
    },
    /// The question needs no answer any more.
    Withdraw {
        /// Which.
        question: QuestionId,
    },
    /// Tell the client how an approver decided on its prompt.
    Verdict {
        /// The prompt.
        id: CardId,
        /// Yes or no.
        allow: bool,
    },
}

/// What is shown to the agent as it comes: framed and escaped, both parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// The text.
    pub content: Opaque<String>,
    /// Attributes; the names are letters and `_` only.
    pub meta: Vec<(&'static str, String)>,
}

/// What a link says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// It is up; its channels are joined again by itself.
    Up {
        /// The session's name.
        path: SessionPath,
        /// The user's number there, which version 2 tells.
        user: Option<UserId>,
        /// Whether the user is an admin of the server.
        admin: bool,
    },
    /// The user became or ceased to be an admin.
    Role {
        /// True for an admin of the server.
        admin: bool,
    },
    /// It is down, and tries again.
    Down {
        /// What is the matter.
        why: String,
    },
    /// The server does not let this session in until somebody does something about it; it is tried again.
    Refused {
        /// Why, and what to do.
        why: String,
    },
    /// It is down for good.
    Disabled {
        /// What is the matter, and what to do.
        why: String,
    },
    /// The names of this server that are bound; comes before [`LinkEvent::Up`] and [`LinkEvent::Followed`].
    Bound(Vec<Bound>),
    /// A message, handed on once and in order.
    Message {
        /// The channel; `None` for a whisper.
        channel: Option<ChannelName>,
        /// Who wrote it.
        from: SessionPath,
        /// When the server took it, where that is known.
        at: Option<UnixMillis>,
        /// What it says.
        payload: Payload,
        /// Where it lies, by version 2.
        place: Option<Place>,
    },
    /// A channel or a mailbox is followed, from now on or since an earlier run.
    Followed {
        /// The channel's name; `None` for a mailbox.
        channel: Option<ChannelName>,
        /// Its stream.
        stream: ChannelId,
        /// Whether unread messages of it are kept.
        unread: bool,
        /// The first message that was given up in an earlier run.
        skipped: Option<u64>,
    },
    /// Kept messages, as [`Action::LoadUnread`] asked for them: oldest first, with what their signatures prove.
    Unread {
        /// Their stream.
        stream: ChannelId,
        /// Behind which message they begin.
        after: u64,
        /// The messages.
        messages: Vec<(Stamped, Proof)>,
        /// Whether more of them are kept.
        more: bool,
    },
    /// A followed channel has another name.
    ChannelRenamed {
        /// Its stream.
        stream: ChannelId,
        /// What it was called.
        from: ChannelName,
        /// What it is called now.
        to: ChannelName,
    },
    /// Readers of a watched stream came further.
    ReceiptsMoved {
        /// The stream.
        stream: ChannelId,
    },
    /// The answer to a request.
    Reply {
        /// Which.
        id: RequestId,
        /// The server's reply, or why there is none.
        result: Result<Reply, RequestError>,
    },
    /// A joined channel could not be joined again.
    Lost {
        /// Which.
        channel: ChannelName,
        /// What the server said.
        why: String,
    },
    /// The session has another handle from now on, since its own was in use.
    Renamed,
    /// Something that the human should know about.
    Trouble {
        /// What.
        text: String,
    },
}
