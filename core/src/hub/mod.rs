//! The hub: who is here, who may do what, and in which order it happened.
//!
//! Drive it with [`Hub::handle`]: every input with the time it happens at, every appended [`Action`] carried
//! out in order. When [`Hub::next_deadline`] has come, hand in [`Input::Tick`]. Decisions gather until
//! [`Input::RoundEnded`], so that whatever arrived together shares one commit: hand it in when
//! [`Hub::has_batch`] says so and nothing else has arrived. [`Engine`](crate::engine::Engine) does all of this.
//!
//! **Durability.** A decision that must be kept becomes records in a batch, and nothing of it is seen before
//! [`Input::Persisted`]. The directory is never ahead of the disk: a change is folded in when its batch is
//! durable, so a failed batch leaves nothing to undo. That is kept simple by two rules. One batch is in flight
//! at a time; what arrives meanwhile gathers for the next. And changes of the directory that are undecided do not
//! touch each other: what would depend on one of them waits until it is durable ([`line`]), while requests that need
//! no record are answered from the durable state.
//!
//! **Order.** Posts are stamped when their batch is sealed and delivered when it is durable, in the same order
//! to everyone.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::audit::Entry;
use crate::directory::Directory;
use crate::handshake::Proven;
use crate::key::PublicKey;
use crate::name::{ChannelName, SessionPath, UserName};
use crate::payload::Payload;
use crate::protocol::{CloseReason, Command, Refusal, Reply, Stamped, Token};
use crate::record::{ChannelId, MachineId, ReaderId, Record, Stamp, UserId};
use crate::stream::{Notice, Origin};
use crate::time::{Monotonic, Now, UnixMillis};

mod admin;
mod audience;
mod audit;
mod check;
mod comings;
mod commit;
mod config;
mod decide;
mod limit;
mod line;
mod live;
mod mail;
mod names;
mod pager;
mod quota;
mod reads;
mod receipts;
mod sealed;
mod stream;
#[cfg(test)]
mod tests;
mod touch;
mod user_invites;

pub use audience::Audience;
pub use config::{Config, Presence, Registration};
pub use limit::{Bucket, Limits, Rate, Rates};

use audience::Subscribers;
use comings::WatchedChannels;
use commit::{Batch, InFlight, PostKey};
use line::Line;
use live::{LiveUser, Session};
use quota::Quotas;
use reads::Reads;
use receipts::Receipts;

/// A connection, numbered by the shell; a number is not used again while the hub may still name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// A request, numbered by its connection's edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A batch of records, numbered upwards by the hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// What happens to the hub.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A connection has proven who it is and wants to become a session.
    Open {
        /// The connection.
        conn: ConnId,
        /// What its handshake proved.
        proven: Proven,
    },
    /// A session asks for something.
    Request {
        /// Its connection.
        conn: ConnId,
        /// The number that the reply will carry.
        request: RequestId,
        /// What it asks.
        command: Command,
        /// For what makes an invite ([`Admin::makes_invite`](crate::protocol::Admin::makes_invite)): a fresh secret of
        /// at least 24 random bytes.
        token: Option<Token>,
    },
    /// A connection has ended, for whatever reason.
    Closed {
        /// The connection.
        conn: ConnId,
    },
    /// A connection's queue is full: its peer does not read.
    Overflowed {
        /// The connection.
        conn: ConnId,
    },
    /// Deliveries of a channel did not fit the queue of a session that can read them later: it was sent everything before
    /// `seq`, and nothing of the channel since.
    Lagged {
        /// The connection.
        conn: ConnId,
        /// The channel.
        channel: ChannelId,
        /// The first message that it was not sent.
        seq: u64,
    },
    /// A connection has written everything up to its [`Action::Mark`].
    Ready {
        /// The connection.
        conn: ConnId,
    },
    /// The answer to [`Action::Probe`].
    Progressed {
        /// The connection.
        conn: ConnId,
        /// The bytes that its peer has taken since it was accepted.
        taken: u64,
    },
    /// A batch is durable.
    Persisted {
        /// The batch.
        batch: BatchId,
    },
    /// A batch could not be made durable; nothing of it is stored.
    PersistFailed {
        /// The batch.
        batch: BatchId,
        /// Why, for the requesters.
        why: String,
    },
    /// Nothing of a batch was stored: some of its posts are in the store already, posted before under the same ids.
    AlreadyStored {
        /// The batch.
        batch: BatchId,
        /// Those posts, by their position among the batch's records, in order, and where they are stored.
        posts: Vec<(usize, Stamp)>,
    },
    /// A page of history was read, or could not be.
    HistoryRead {
        /// What was to be read.
        read: Read,
        /// The page, or why there is none.
        page: Result<Vec<Stamped>, String>,
    },
    /// A page of the audit trail was read, or could not be.
    AuditRead {
        /// What was to be read.
        read: AuditRead,
        /// The page, newest first, or why there is none. One more than was asked for says that there are more.
        page: Result<Vec<Entry>, String>,
    },
    /// The store was measured.
    Space {
        /// The bytes that it takes.
        stored: u64,
        /// The bytes that it may still take: what is free on its disk, and what purged messages left.
        free: u64,
    },
    /// The time of [`Hub::next_deadline`] has come.
    Tick,
    /// All that had arrived is handed in: commit what has gathered.
    RoundEnded,
    /// The server stops: what was accepted is finished, then every session is told and ended.
    Shutdown,
}

/// A session, as it is told itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionInfo {
    /// Its path.
    pub path: Arc<SessionPath>,
    /// Its user.
    pub user: UserId,
    /// Its machine.
    pub machine: MachineId,
    /// Its reader, if its positions are kept.
    pub reader: Option<ReaderId>,
    /// Whether its user is an admin of the server.
    pub admin: bool,
    /// The server's clock.
    pub now: UnixMillis,
}

/// What a shell must do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The connection is a session now: tell it.
    Established {
        /// The connection.
        conn: ConnId,
        /// Who it is.
        session: SessionInfo,
    },
    /// Answer a request.
    Reply {
        /// The connection.
        conn: ConnId,
        /// The request.
        request: RequestId,
        /// The answer.
        reply: Reply,
    },
    /// Hand a post to everyone in `to`.
    Deliver {
        /// The channel's name. For a mailbox, which version 1 does not read, the name of its user.
        channel: ChannelName,
        /// The channel or mailbox.
        stream: ChannelId,
        /// The post's place there.
        stamp: Stamp,
        /// Who posted.
        from: Arc<SessionPath>,
        /// What.
        payload: Arc<Payload>,
        /// Where it comes from.
        origin: Origin,
        /// Who receives it; the same allocation for as long as they stay the same.
        to: Arc<Audience>,
        /// The connection that posted: a session of version 1 does not receive its own posts.
        except: ConnId,
    },
    /// Send a session something that it did not ask for.
    Notify {
        /// The connection.
        conn: ConnId,
        /// What.
        notice: Notice,
    },
    /// Put a mark behind what is queued to a connection, however full the queue is; answer with [`Input::Ready`] when
    /// everything before it is written.
    Mark {
        /// The connection.
        conn: ConnId,
    },
    /// Say how much a connection's peer has taken, with [`Input::Progressed`].
    Probe {
        /// The connection.
        conn: ConnId,
    },
    /// Hand a whisper to one session.
    Whisper {
        /// The connection.
        conn: ConnId,
        /// Who whispers.
        from: Arc<SessionPath>,
        /// To whom, as the sender named it.
        target: Arc<SessionPath>,
        /// What.
        payload: Payload,
    },
    /// Tell the peer the reason and end the connection.
    Close {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: CloseReason,
    },
    /// Make these durable together, then answer with [`Input::Persisted`] or [`Input::PersistFailed`].
    Persist {
        /// The batch's number.
        batch: BatchId,
        /// Its records.
        records: Vec<Record>,
    },
    /// Read a page of history, then answer with [`Input::HistoryRead`].
    ReadHistory(Read),
    /// Read a page of the audit trail, then answer with [`Input::AuditRead`].
    ReadAudit(AuditRead),
    /// The shutdown is complete.
    Drained,
}

/// A page of history to be read, with what its answer must carry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Read {
    /// For whom.
    pub conn: ConnId,
    /// The channel.
    pub channel: ChannelId,
    /// Which messages.
    pub range: Range,
    /// Rows at most.
    pub max_rows: usize,
    /// Bytes at most; one row always fits.
    pub max_bytes: usize,
    /// What for.
    pub purpose: Purpose,
}

/// A page of the audit trail to be read: its newest entries first, and one more than the limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AuditRead {
    /// For whom.
    pub conn: ConnId,
    /// The request.
    pub request: RequestId,
    /// The channel; `None`: everything.
    pub channel: Option<ChannelId>,
    /// Only entries with lower numbers.
    pub before: Option<u64>,
    /// How many are answered at most.
    pub limit: usize,
}

/// Which messages of a channel to read. A page is oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Range {
    /// The first that are stamped after this.
    Since(UnixMillis),
    /// The first behind this sequence number.
    After(u64),
    /// The last before this sequence number.
    Before(u64),
}

impl Range {
    /// Whether a message of this place is among them.
    pub fn contains(self, stamp: Stamp) -> bool {
        match self {
            Self::Since(ts) => stamp.ts > ts,
            Self::After(seq) => stamp.seq > seq,
            Self::Before(seq) => stamp.seq < seq,
        }
    }
}

/// What a page is read for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To answer a request of version 1.
    History {
        /// The request.
        request: RequestId,
        /// The name under which it was asked for, and is answered: the channel may be renamed meanwhile.
        name: ChannelName,
    },
    /// To answer a request of version 2.
    Page {
        /// The request.
        request: RequestId,
    },
    /// To see whether a message of a mailbox is the asker's own, and then to say who has it.
    Receipts {
        /// The request.
        request: RequestId,
    },
    /// For a subscription that is behind.
    CatchUp {
        /// The next message that it needs.
        next: u64,
        /// The channel's last message when the page was asked for.
        last: u64,
    },
}

/// The hub's state. See the module for how to drive it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hub {
    config: Arc<Config>,
    directory: Directory,
    sessions: BTreeMap<ConnId, Session>,
    paths: BTreeMap<Arc<SessionPath>, ConnId>,
    users: BTreeMap<UserId, LiveUser>,
    subscribers: BTreeMap<ChannelId, Subscribers>,
    receipts: Receipts,
    watched: WatchedChannels,
    /// When a session must have taken something of what it was sent.
    stalls: BTreeSet<(Monotonic, ConnId)>,
    /// Posts to mailboxes that are not yet durable: how many, and their bytes.
    coming: BTreeMap<ChannelId, (usize, usize)>,
    /// Posts that are not yet durable, by the ids of their senders, and who else waits for them.
    pending: BTreeMap<PostKey, Vec<(ConnId, RequestId)>>,
    /// When to check whether a session is idle: no earlier than it can be.
    liveness: BTreeSet<(Monotonic, ConnId)>,
    /// When to check whether a user without sessions can be forgotten.
    cooling: BTreeSet<(Monotonic, UserId)>,
    gathering: Batch,
    in_flight: Option<InFlight>,
    line: Line,
    reads: Reads,
    quotas: Quotas,
    next_batch: u64,
    state: Lifecycle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lifecycle {
    Running,
    Draining,
    Drained,
}

/// Numbers for monitoring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Live sessions.
    pub sessions: usize,
    /// Subscriptions of all sessions.
    pub subscriptions: usize,
    /// Users in the directory.
    pub users: usize,
    /// Channels in the directory.
    pub channels: usize,
    /// Posts that gather for the next commit.
    pub gathering: usize,
    /// Requests that wait for a change of the directory.
    pub waiting: usize,
}

impl Hub {
    /// A hub over what the store holds.
    pub fn new(config: Config, directory: Directory) -> Self {
        Self {
            config: Arc::new(config),
            directory,
            sessions: BTreeMap::new(),
            paths: BTreeMap::new(),
            users: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            receipts: Receipts::default(),
            watched: WatchedChannels::default(),
            stalls: BTreeSet::new(),
            coming: BTreeMap::new(),
            pending: BTreeMap::new(),
            liveness: BTreeSet::new(),
            cooling: BTreeSet::new(),
            gathering: Batch::default(),
            in_flight: None,
            line: Line::default(),
            reads: Reads::default(),
            quotas: Quotas::default(),
            next_batch: 0,
            state: Lifecycle::Running,
        }
    }

    /// Takes one input and appends what it leads to.
    pub fn handle(&mut self, now: Now, input: Input, actions: &mut Vec<Action>) {
        self.expire(now, actions);
        match input {
            Input::Open { conn, proven } => self.open(now, conn, proven, actions),
            Input::Request { conn, request, command, token } => {
                if self.heard(now, conn) {
                    self.request(now, conn, request, command, token, actions);
                }
            }
            Input::Closed { conn } => {
                if !self.end_session(now, conn) {
                    self.forget_opening(conn);
                }
            }
            Input::Overflowed { conn } => self.close(now, conn, CloseReason::SlowConsumer, actions),
            Input::Persisted { batch } => self.persisted(now, batch, Ok(()), actions),
            Input::PersistFailed { batch, why } => self.persisted(now, batch, Err(why), actions),
            Input::AlreadyStored { batch, posts } => self.already_stored(now, batch, &posts, actions),
            Input::AuditRead { read, page } => self.trail_read(now, &read, page, actions),
            Input::HistoryRead { read, page } => self.history_read(now, read, page, actions),
            Input::Lagged { conn, channel, seq } => self.lagged(now, conn, channel, seq, actions),
            Input::Ready { conn } => self.ready(now, conn, actions),
            Input::Progressed { conn, taken } => self.progressed(now, conn, taken, actions),
            Input::Space { stored, free } => self.measured(stored, free),
            // Timeouts are looked at before every input.
            Input::Tick => {}
            Input::RoundEnded => self.seal(now, actions),
            Input::Shutdown => {
                if self.state == Lifecycle::Running {
                    self.state = Lifecycle::Draining;
                    self.receipts.stop();
                    self.announce_end(actions);
                }
            }
        }
        self.drain(now, actions);
    }

    /// Whether [`Input::RoundEnded`] would send a batch off: something has gathered, and nothing is in flight.
    pub fn has_batch(&self) -> bool {
        self.in_flight.is_none() && (!self.gathering.is_empty() || self.receipts.write_due())
    }

    /// When [`Input::Tick`] is due: a session may have been idle for too long.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let idle = self.liveness.first().map(|(at, _)| *at);
        let cool = self.cooling.first().map(|(at, _)| *at);
        let stall = self.stalls.first().map(|(at, _)| *at);
        [idle, cool, stall, self.receipts.deadline()].into_iter().flatten().min()
    }

    /// The durable state.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The rules that this hub was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The path of a live session.
    pub fn path(&self, conn: ConnId) -> Option<&Arc<SessionPath>> {
        self.sessions.get(&conn).map(|session| &session.path)
    }

    /// The live sessions, in the order of their paths.
    pub fn sessions(&self) -> impl Iterator<Item = (&Arc<SessionPath>, ConnId)> {
        self.paths.iter().map(|(path, conn)| (path, *conn))
    }

    /// Numbers for monitoring.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            sessions: self.sessions.len(),
            subscriptions: self.subscribers.values().map(Subscribers::len).sum(),
            users: self.directory.user_count(),
            channels: self.directory.channel_count(),
            gathering: self.gathering.posts.len(),
            waiting: self.line.len(),
        }
    }

    /// Whether the user of this name is an admin of the server. Where the operator pinned the name to a key, that key
    /// has to be the user's: whoever had claimed the name before is nobody.
    fn is_admin(&self, name: &UserName) -> bool {
        let holds =
            |key: &PublicKey| self.directory.machine_with(key).is_some_and(|(_, user, _)| user.name == *name);
        self.config.admins.get(name).is_some_and(|pin| pin.as_ref().is_none_or(holds))
    }

    /// The admins' names that are pinned to a key and held by a user without it, whom an operator should know of.
    pub fn usurped(&self) -> impl Iterator<Item = &UserName> {
        let held = |name: &UserName| self.directory.user_named(name.as_str()).is_some();
        self.config.admins.keys().filter(move |name| held(name) && !self.is_admin(name))
    }

    /// Ends a drain once nothing is under way.
    fn drain(&mut self, now: Now, actions: &mut Vec<Action>) {
        // What waits, waits for a change that gathers or is in flight.
        let idle = self.in_flight.is_none() && !self.has_batch();
        if self.state == Lifecycle::Draining && idle {
            self.state = Lifecycle::Drained;
            let conns: Vec<ConnId> = self.sessions.keys().copied().collect();
            for conn in conns {
                self.close(now, conn, CloseReason::Shutdown, actions);
            }
            actions.push(Action::Drained);
        }
    }
}

fn reply(actions: &mut Vec<Action>, conn: ConnId, request: RequestId, reply: impl Into<Reply>) {
    actions.push(Action::Reply { conn, request, reply: reply.into() });
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Result<Self, Refusal>> for Reply {
    fn from(result: Result<Self, Refusal>) -> Self {
        result.unwrap_or_else(Self::Refused)
    }
}
