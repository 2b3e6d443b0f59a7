//! What the bridge keeps of its links, of calls that wait, and of requests without a reply.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::posts::Target;
use crate::bridge::card::CardId;
use crate::bridge::levels::{Level, Scope};
use crate::bridge::server::Server;
use crate::bridge::tool_call::{CallId, Filter, Stored, ToolCall};
use crate::mention::Wanted;
use crate::name::{ChannelName, SessionPath, UserName};
use crate::opaque::Opaque;
use crate::protocol::{Command, Stamped};
use crate::record::{ChannelId, UserId};
use crate::stream::{Receipt, ReceiptState};
use crate::time::{Monotonic, UnixMillis};

/// What the bridge knows of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkState {
    /// `None` while it is up; else what is the matter.
    pub(super) trouble: Option<String>,
    /// It will not come up again.
    pub(super) disabled: bool,
    /// The agent has been notified that it is down.
    pub(super) reported_down: bool,
    /// It got another handle since it was up.
    pub(super) renamed: bool,
    /// It has neither come up nor failed yet.
    pub(super) starting: bool,
    pub(super) path: Option<SessionPath>,
    /// Our user's number there.
    pub(super) user: Option<UserId>,
    pub(super) admin: bool,
    pub(super) joined: BTreeSet<ChannelName>,
    pub(super) seen: BTreeMap<ChannelName, UnixMillis>,
    /// The streams of joined channels, by version 2.
    pub(super) streams: BTreeMap<ChannelId, Stream>,
    /// Users have mailboxes there.
    pub(super) mailboxes: bool,
    /// Approvers' names that were looked up, and whether each is that of the user whom it is bound to.
    pub(super) approvers: Vec<(UserName, bool)>,
}

impl LinkState {
    /// Whether the server speaks version 2, which tells whose a name is.
    pub(super) fn tells_numbers(&self) -> bool {
        self.mailboxes || self.user.is_some()
    }
}

/// What the bridge knows of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    /// `None` for a mailbox.
    pub(super) channel: Option<ChannelName>,
    /// The last message that is or was in the inbox.
    pub(super) held: u64,
    /// The last message that was put before the agent.
    pub(super) seen: u64,
    /// Messages behind `held` are kept, but not in the inbox.
    pub(super) behind: bool,
    /// Some are being loaded.
    pub(super) loading: bool,
    /// Messages up to `held` that are kept and wait, since only mentions are shown: with what each takes.
    pub(super) quiet: Quiet,
    /// Shown, while older ones wait.
    pub(super) ahead: BTreeSet<u64>,
    /// The first that was given up unshown: nothing from there on counts as seen.
    pub(super) skipped: Option<u64>,
}

/// The numbers of messages that wait on disk, and what they take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Quiet {
    sizes: BTreeMap<u64, usize>,
    bytes: usize,
}

impl Quiet {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.sizes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.sizes.keys().next().copied()
    }

    pub(super) fn contains(&self, seq: u64) -> bool {
        self.sizes.contains_key(&seq)
    }

    pub(super) fn insert(&mut self, seq: u64, size: usize) {
        let before = self.sizes.insert(seq, size).unwrap_or_default();
        self.bytes = self.bytes + size - before;
    }

    pub(super) fn remove(&mut self, seq: u64) {
        self.bytes -= self.sizes.remove(&seq).unwrap_or_default();
    }

    /// Those in a range.
    pub(super) fn within(&self, after: u64, to: u64) -> BTreeSet<u64> {
        self.sizes.keys().copied().filter(|seq| *seq > after && *seq <= to).collect()
    }
}

/// A read that waits until what it asks for is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) call: CallId,
    pub(super) limit: usize,
    pub(super) filter: Filter,
    pub(super) server: Server,
    pub(super) stream: ChannelId,
}

/// What an answer put before the agent, unless the client turns out not to have wanted it any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) call: CallId,
    pub(super) until: Monotonic,
    pub(super) upto: Vec<(Server, ChannelId, u64)>,
}

/// A call that waits until readers have a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    pub(super) call: CallId,
    pub(super) server: Server,
    pub(super) to: String,
    pub(super) mentioned: Vec<UserName>,
    pub(super) stored: Stored,
    pub(super) wanted: ReceiptState,
    pub(super) until: Monotonic,
    /// As last told.
    pub(super) readers: Vec<Receipt>,
    /// The server is being asked.
    pub(super) asking: bool,
    /// Something moved since it was asked.
    pub(super) again: bool,
}

/// A call that waits for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) call: CallId,
    pub(super) since: Monotonic,
    pub(super) until: Monotonic,
    pub(super) progress: Monotonic,
}

/// A call made before its link first came up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldCall {
    pub(super) id: CallId,
    pub(super) server: Server,
    pub(super) call: ToolCall,
    pub(super) until: Monotonic,
}

/// The human is being asked to raise a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) call: CallId,
    pub(super) server: Server,
    pub(super) scope: Scope,
    pub(super) level: Level,
    /// The channel was joined by the same call.
    pub(super) joining: bool,
    pub(super) until: Monotonic,
}

/// The human is being asked to confirm a verdict on another session's prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VerdictQuestion {
    pub(super) call: CallId,
    pub(super) server: Server,
    pub(super) to: SessionPath,
    pub(super) id: CardId,
    pub(super) allow: bool,
    pub(super) until: Monotonic,
}

impl LinkState {
    /// Whether positions are known in a channel.
    pub(super) fn has_stream(&self, channel: &ChannelName) -> bool {
        self.streams.values().any(|stream| stream.channel.as_ref() == Some(channel))
    }

    pub(super) fn new() -> Self {
        Self {
            trouble: Some(String::from("connecting")),
            disabled: false,
            reported_down: false,
            renamed: false,
            starting: true,
            path: None,
            user: None,
            admin: false,
            joined: BTreeSet::new(),
            seen: BTreeMap::new(),
            streams: BTreeMap::new(),
            mailboxes: false,
            approvers: Vec::new(),
        }
    }
}

/// What a reply is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    /// Nothing.
    Silent,
    /// Whose an approver's name is, for a card or by itself.
    Approver { user: UserName, card: Option<CardId> },
    /// The sessions among which approvers are looked for.
    Approvers { id: CardId },
    /// Who has the message of a call that waits for its readers.
    Watched { call: CallId },
    /// The reply becomes the call's answer.
    Call { call: CallId, answer: Awaited },
}

/// The answer that a call waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    Join {
        channel: ChannelName,
        level: Option<Level>,
    },
    Leave {
        channel: ChannelName,
    },
    Sent {
        to: String,
        wait: Option<(ReceiptState, Monotonic)>,
        mailbox: bool,
        mentioned: Vec<UserName>,
    },
    /// Whose a name is that a message mentions.
    Mention(Box<Draft>),
    Receipts {
        channel: ChannelName,
        seq: u64,
    },
    Acknowledged {
        channel: ChannelName,
        seq: u64,
    },
    Channels,
    Who {
        channel: Option<ChannelName>,
    },
    CatchUp(CatchUp),
    Verdict {
        to: SessionPath,
        id: CardId,
        allow: bool,
    },
    /// The channel will not be there under that name any more.
    Gone {
        channel: ChannelName,
    },
    /// What it is about, where the server's answer does not say it.
    Admin {
        what: String,
    },
}

/// A message that is to be posted once all whom it mentions are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) server: Server,
    pub(super) target: Target,
    pub(super) text: Opaque<String>,
    pub(super) reply_to: Option<u64>,
    pub(super) wait: Option<(ReceiptState, Monotonic)>,
    /// Still to be looked up, the next one last.
    pub(super) wanted: Vec<Wanted>,
    pub(super) mentioned: Vec<(UserName, UserId)>,
}

impl Draft {
    pub(super) fn new(server: Server, target: Target, text: Opaque<String>) -> Self {
        Self { server, target, text, reply_to: None, wait: None, wanted: Vec::new(), mentioned: Vec::new() }
    }
}

/// A reading of a channel's history, page by page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CatchUp {
    pub(super) channel: ChannelName,
    /// The newest stamp that was read.
    pub(super) since: UnixMillis,
    pub(super) got: Vec<Stamped>,
    pub(super) bytes: usize,
}

impl CatchUp {
    pub(super) fn new(channel: ChannelName, since: UnixMillis) -> Self {
        Self { channel, since, got: Vec::new(), bytes: 0 }
    }

    /// Asks for the next page.
    pub(super) fn command(&self) -> Command {
        Command::ReadSince { channel: self.channel.clone(), since: self.since }
    }
}
