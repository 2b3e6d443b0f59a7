//! The requests under way: v1 answers them in their order and names none of them.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use crate::name::ChannelName;
use crate::opaque::Opaque;
use crate::protocol::{Admin, Command, Reply};
use crate::time::Monotonic;

/// A request's number, chosen by the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Why a request has no answer. [`RequestError::may_have_happened`] tells whether it may have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RequestError {
    /// There is no connection; nothing was sent.
    #[error("not connected to the server; nothing was sent")]
    NotConnected,
    /// The link has ended for good; nothing was sent.
    #[error("the link to the server has ended; nothing was sent")]
    Ended,
    /// Too much is unanswered already; nothing was sent.
    #[error("too many requests are unanswered; nothing was sent, try again when some are")]
    Busy,
    /// The request is larger than any frame; nothing was sent.
    #[error("too large: a frame has at most 16 MiB; nothing was sent")]
    TooLarge,
    /// Joining, leaving and pinging are the link's own business.
    #[error("a link joins, leaves and pings by itself; nothing was sent")]
    Misplaced,
    /// The connection dropped before the answer came.
    #[error("the connection dropped before the answer came; it may have happened")]
    Interrupted,
    /// The answer did not come in time.
    #[error("the server did not answer in time; it may have happened")]
    TimedOut,
}

impl RequestError {
    /// True if the request was sent: it may have taken effect.
    pub fn may_have_happened(self) -> bool {
        matches!(self, Self::Interrupted | Self::TimedOut)
    }
}

/// What kind of reply a request has, if it is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    Joined,
    Ack,
    Presence,
    Channels,
    Machines,
    Users,
    Invites,
    Invite,
    History,
    Pong,
}

impl Expect {
    pub(super) fn of(command: &Command) -> Self {
        match command {
            Command::Join { .. } => Self::Joined,
            Command::Leave { .. } | Command::Post { .. } | Command::Whisper { .. } => Self::Ack,
            Command::Who { .. } => Self::Presence,
            Command::ListChannels => Self::Channels,
            Command::ListMachines => Self::Machines,
            Command::ListUsers => Self::Users,
            Command::ReadSince { .. } => Self::History,
            Command::Ping => Self::Pong,
            Command::Admin(admin) => match admin {
                Admin::AclList { .. } | Admin::BanList { .. } => Self::Users,
                Admin::InviteList { .. } => Self::Invites,
                Admin::InviteCreate { .. } => Self::Invite,
                _ => Self::Ack,
            },
        }
    }

    pub(super) fn fits(self, reply: &Reply) -> bool {
        match reply {
            Reply::Refused(_) => true,
            Reply::Sent | Reply::Done(_) => self == Self::Ack,
            Reply::Joined(_) => self == Self::Joined,
            Reply::Presence { .. } => self == Self::Presence,
            Reply::Channels(_) => self == Self::Channels,
            Reply::Machines(_) => self == Self::Machines,
            Reply::Users(_) => self == Self::Users,
            Reply::Invites(_) => self == Self::Invites,
            Reply::Invite(_) => self == Self::Invite,
            Reply::History { .. } => self == Self::History,
            Reply::Pong => self == Self::Pong,
        }
    }
}

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// The application.
    Application { id: RequestId, deadline: Option<Monotonic> },
    /// The application, which has been told that its time is over.
    Nobody,
    /// The link: a subscription. `generation` tells it from an earlier one of the same name.
    Join { channel: ChannelName, generation: u64 },
    /// The link: the end of one.
    Leave { channel: ChannelName },
    /// The link: a page of history.
    Read { channel: ChannelName, generation: u64 },
    /// The link: a sign of life.
    Ping,
}

#[derive(Clone, Debug)]
struct Sent {
    asker: Asker,
    expect: Expect,
    bytes: usize,
    at: Monotonic,
}

#[derive(Clone, Debug)]
struct Waiting {
    id: RequestId,
    deadline: Monotonic,
    expect: Expect,
    frame: Opaque<Vec<u8>>,
}

/// What is sent and unanswered, and what waits for a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    sent: VecDeque<Sent>,
    waiting: VecDeque<Waiting>,
    deadlines: BTreeSet<(Monotonic, RequestId)>,
    count: usize,
    bytes: usize,
}

/// How many of the application's requests may be unanswered or waiting.
pub(super) const MAX_REQUESTS: usize = 4096;
/// How many bytes they may have.
pub(super) const MAX_BYTES: usize = 32 * 1024 * 1024;

impl Requests {
    /// Whether another request of the application of this size may come.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.count < MAX_REQUESTS && (self.count == 0 || self.bytes + bytes <= MAX_BYTES)
    }

    /// A request goes out now.
    pub(super) fn sent(&mut self, asker: Asker, expect: Expect, bytes: usize, now: Monotonic) {
        if let Asker::Application { id, deadline } = asker {
            self.count += 1;
            self.bytes += bytes;
            self.deadlines.extend(deadline.map(|deadline| (deadline, id)));
        }
        self.sent.push_back(Sent { asker, expect, bytes, at: now });
    }

    /// A request of the application waits for a connection.
    pub(super) fn wait(&mut self, id: RequestId, deadline: Monotonic, expect: Expect, frame: Vec<u8>) {
        self.count += 1;
        self.bytes += frame.len();
        self.deadlines.insert((deadline, id));
        self.waiting.push_back(Waiting { id, deadline, expect, frame: Opaque(frame) });
    }

    /// There is a connection: what waited goes out, in order.
    pub(super) fn flush(&mut self, now: Monotonic, mut send: impl FnMut(Vec<u8>)) {
        for Waiting { id, deadline, expect, frame } in core::mem::take(&mut self.waiting) {
            let asker = Asker::Application { id, deadline: Some(deadline) };
            self.sent.push_back(Sent { asker, expect, bytes: frame.len(), at: now });
            send(frame.0);
        }
    }

    /// Whose answer comes next, and of which kind it is.
    pub(super) fn answered(&mut self) -> Option<(Asker, Expect)> {
        let sent = self.sent.pop_front()?;
        match &sent.asker {
            Asker::Application { id, deadline } => {
                self.free(sent.bytes);
                self.forget(*id, *deadline);
            }
            Asker::Nobody => self.free(sent.bytes),
            _ => {}
        }
        Some((sent.asker, sent.expect))
    }

    /// The connection dropped: whatever was sent fails.
    pub(super) fn interrupt(&mut self, mut fail: impl FnMut(RequestId)) {
        for sent in core::mem::take(&mut self.sent) {
            match sent.asker {
                Asker::Application { id, deadline } => {
                    self.free(sent.bytes);
                    self.forget(id, deadline);
                    fail(id);
                }
                Asker::Nobody => self.free(sent.bytes),
                _ => {}
            }
        }
    }

    /// The link ends: whatever waits fails.
    pub(super) fn end(&mut self, mut fail: impl FnMut(RequestId)) {
        for waiting in core::mem::take(&mut self.waiting) {
            self.free(waiting.frame.len());
            self.forget(waiting.id, Some(waiting.deadline));
            fail(waiting.id);
        }
    }

    /// Fails what is late. What was sent keeps its place, for its answer may still come.
    pub(super) fn expire(&mut self, now: Monotonic, mut fail: impl FnMut(RequestId, RequestError)) {
        while let Some(&(deadline, id)) = self.deadlines.first().filter(|(deadline, _)| *deadline <= now) {
            self.deadlines.pop_first();
            if let Some(at) =
                self.waiting.iter().position(|waiting| waiting.id == id && waiting.deadline == deadline)
            {
                if let Some(waiting) = self.waiting.remove(at) {
                    self.free(waiting.frame.len());
                }
                fail(id, RequestError::NotConnected);
                continue;
            }
            let asker = Asker::Application { id, deadline: Some(deadline) };
            if let Some(sent) = self.sent.iter_mut().find(|sent| sent.asker == asker) {
                sent.asker = Asker::Nobody;
                fail(id, RequestError::TimedOut);
            }
        }
    }

    /// The earliest deadline of a request.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Since when the oldest request is unanswered.
    pub(super) fn oldest(&self) -> Option<Monotonic> {
        self.sent.front().map(|sent| sent.at)
    }

    fn free(&mut self, bytes: usize) {
        self.count -= 1;
        self.bytes -= bytes;
    }

    fn forget(&mut self, id: RequestId, deadline: Option<Monotonic>) {
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, id));
        }
    }
}
