//! The requests of a link: those that are sent and unanswered, and those that wait for a connection.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

use super::history::Reading;
use super::posts::Draft;
use super::streams::Asked;
use crate::name::ChannelName;
use crate::protocol::Command;
use crate::sealed::SealedCommand;
use crate::stream::{StreamCommand, StreamRef};
use crate::time::Monotonic;
use crate::wire::MAX_FRAME;
use crate::wire::client::RequestNumber;

/// A request's id, chosen by the application.
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

/// What the answer to a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The application asked.
    Application { id: RequestId, deadline: Option<Monotonic> },
    /// The application asked, and its deadline has passed.
    Expired,
    /// A subscription. `generation` tells it from an earlier one of the same name.
    Join { channel: ChannelName, generation: u64 },
    /// The end of one.
    Leave { channel: ChannelName },
    /// A page of history.
    Read { channel: ChannelName, generation: u64 },
    /// About a stream of version 2.
    Stream(Asked),
    /// A page by time that the application asked for.
    History(Reading),
    /// The number of a mailbox that the application whispers to.
    Locate { id: RequestId, deadline: Option<Monotonic>, stream: StreamRef, draft: Draft },
    /// The keys of a sender's machines.
    Keys,
    /// A sign of life, or what needs no answer.
    Ping,
}

impl Purpose {
    /// The request of the application that it is for, and its deadline.
    fn application(&self) -> Option<(RequestId, Option<Monotonic>)> {
        match self {
            Self::Application { id, deadline }
            | Self::History(Reading { id, deadline, .. })
            | Self::Locate { id, deadline, .. } => Some((*id, *deadline)),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
struct Unanswered {
    purpose: Purpose,
    size: usize,
    sent_at: Monotonic,
    /// What is sent again if the connection drops: the server carries it out once, however often it comes.
    again: Option<Command>,
}

/// Kept as a command: only a connection says in which version of the wire it is encoded.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) id: RequestId,
    pub(super) deadline: Monotonic,
    pub(super) command: Command,
    /// It was sent on an earlier connection.
    pub(super) sent: bool,
}

/// What is unanswered, and what waits for a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    /// Numbers grow: the first is the oldest.
    unanswered: BTreeMap<RequestNumber, Unanswered>,
    last_number: u64,
    waiting: VecDeque<Waiting>,
    deadlines: BTreeSet<(Monotonic, RequestId)>,
    /// The application's, and their sizes.
    count: usize,
    bytes: usize,
}

/// How many of the application's requests may be unanswered or waiting.
pub(super) const MAX_REQUESTS: usize = 4096;
/// How many bytes they may have.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// What a request has beside its body, at most: names, a token, what the wire adds.
const MAX_HEAD: usize = 1024;

impl Requests {
    /// Whether the application may make another request.
    pub(super) fn check(&self, command: &Command) -> Result<(), RequestError> {
        let size = size(command);
        if size > MAX_FRAME {
            return Err(RequestError::TooLarge);
        }
        let has_room = self.count < MAX_REQUESTS && (self.count == 0 || self.bytes + size <= MAX_BYTES);
        if has_room { Ok(()) } else { Err(RequestError::Busy) }
    }

    /// A request goes out now, under this number.
    pub(super) fn sent(&mut self, purpose: Purpose, command: &Command, now: Monotonic) -> RequestNumber {
        let size = size(command);
        if let Some((id, deadline)) = purpose.application() {
            self.count += 1;
            self.bytes += size;
            self.deadlines.extend(deadline.map(|deadline| (deadline, id)));
        }
        self.last_number += 1;
        let number = RequestNumber(self.last_number);
        // What the link signed; the same id is the same message.
        let repeatable = matches!(
            command,
            Command::Stream(StreamCommand::Post { .. } | StreamCommand::Sealed(SealedCommand::Commit { .. }))
        );
        let again = match &purpose {
            Purpose::Application { deadline: Some(_), .. } if repeatable => Some(command.clone()),
            _ => None,
        };
        self.unanswered.insert(number, Unanswered { purpose, size, sent_at: now, again });
        number
    }

    /// A request of the application waits for a connection.
    pub(super) fn wait(&mut self, id: RequestId, deadline: Monotonic, command: Command) {
        self.count += 1;
        self.bytes += size(&command);
        self.deadlines.insert((deadline, id));
        self.waiting.push_back(Waiting { id, deadline, command, sent: false });
    }

    /// Takes the requests that wait, oldest first.
    pub(super) fn take_waiting(&mut self) -> VecDeque<Waiting> {
        let waiting = core::mem::take(&mut self.waiting);
        for Waiting { id, deadline, command, .. } in &waiting {
            self.free(size(command));
            self.deadlines.remove(&(*deadline, *id));
        }
        waiting
    }

    /// What the answered request was for; `None` if none has this number.
    pub(super) fn answered(&mut self, number: RequestNumber) -> Option<Purpose> {
        let Unanswered { purpose, size, .. } = self.unanswered.remove(&number)?;
        self.close(&purpose, size);
        Some(purpose)
    }

    /// The connection dropped: what was sent fails, or waits for the next connection.
    pub(super) fn interrupt(&mut self, mut fail: impl FnMut(RequestId)) {
        let mut again = VecDeque::new();
        for sent in core::mem::take(&mut self.unanswered).into_values() {
            // Nothing was whispered yet.
            if let Purpose::Locate { id, deadline: Some(deadline), stream, draft } = sent.purpose {
                let command = draft.command(stream);
                self.bytes = self.bytes - sent.size + size(&command);
                again.push_back(Waiting { id, deadline, command, sent: false });
                continue;
            }
            if let Purpose::Application { id, deadline: Some(deadline) } = sent.purpose
                && let Some(command) = sent.again
            {
                again.push_back(Waiting { id, deadline, command, sent: true });
                continue;
            }
            self.close(&sent.purpose, sent.size);
            if let Some((id, _)) = sent.purpose.application() {
                fail(id);
            }
        }
        // They are older than what was never sent.
        again.append(&mut self.waiting);
        self.waiting = again;
    }

    /// The link ends: all that waits fails.
    pub(super) fn end(&mut self, mut fail: impl FnMut(RequestId, RequestError)) {
        for Waiting { id, deadline, command, sent } in core::mem::take(&mut self.waiting) {
            self.free(size(&command));
            self.deadlines.remove(&(deadline, id));
            fail(id, if sent { RequestError::Interrupted } else { RequestError::Ended });
        }
    }

    /// Fails what is late. What was sent is remembered, since its answer may still come.
    pub(super) fn expire(&mut self, now: Monotonic, mut fail: impl FnMut(RequestId, RequestError)) {
        while let Some(&(deadline, id)) = self.deadlines.first().filter(|(deadline, _)| *deadline <= now) {
            self.deadlines.pop_first();
            if let Some(at) =
                self.waiting.iter().position(|waiting| waiting.id == id && waiting.deadline == deadline)
            {
                let Some(waiting) = self.waiting.remove(at) else { continue };
                self.free(size(&waiting.command));
                fail(id, if waiting.sent { RequestError::TimedOut } else { RequestError::NotConnected });
                continue;
            }
            let late = Some((id, Some(deadline)));
            if let Some(sent) = self.unanswered.values_mut().find(|sent| sent.purpose.application() == late) {
                sent.purpose = Purpose::Expired;
                fail(id, RequestError::TimedOut);
            }
        }
    }

    /// The earliest deadline of a request.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// When the oldest unanswered request was sent.
    pub(super) fn oldest(&self) -> Option<Monotonic> {
        self.unanswered.first_key_value().map(|(_, oldest)| oldest.sent_at)
    }

    fn close(&mut self, purpose: &Purpose, size: usize) {
        match purpose {
            Purpose::Application { id, deadline }
            | Purpose::History(Reading { id, deadline, .. })
            | Purpose::Locate { id, deadline, .. } => {
                self.free(size);
                if let Some(deadline) = deadline {
                    self.deadlines.remove(&(*deadline, *id));
                }
            }
            Purpose::Expired => self.free(size),
            Purpose::Join { .. }
            | Purpose::Leave { .. }
            | Purpose::Read { .. }
            | Purpose::Stream(_)
            | Purpose::Keys
            | Purpose::Ping => {}
        }
    }

    fn free(&mut self, size: usize) {
        self.count -= 1;
        self.bytes -= size;
    }
}

/// The most bytes that a command has in any version of the wire: it is bounded before it is encoded.
fn size(command: &Command) -> usize {
    let body = match command {
        Command::Post { payload, .. }
        | Command::Whisper { payload, .. }
        | Command::Stream(StreamCommand::Post { payload, .. }) => payload.size(),
        Command::Stream(StreamCommand::Sealed(command)) => command.size(),
        _ => 0,
    };
    body.saturating_add(MAX_HEAD)
}
