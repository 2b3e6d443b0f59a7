//! Reading from the store at the reader's pace: pages that a session asked for, and subscriptions that are behind.
//!
//! One page of a session is under way at a time. Behind each, [`Action::Mark`] goes down the session's queue; when the
//! connection has written everything up to the mark, [`Input::Ready`](super::Input::Ready) comes back and the next page
//! is read. So a slow reader holds one page, however far behind it is.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Action, ConnId, Hub, Purpose, Range, Read, RequestId, reply};
use crate::protocol::{CloseReason, Refusal, Reply, Stamped};
use crate::record::ChannelId;
use crate::stream::{EndReason, Notice, PageFrom, StreamReply};
use crate::time::{Monotonic, Now};

/// How one session reads from the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Pager {
    queue: VecDeque<Job>,
    /// A page is being read from the store.
    reading: bool,
    /// A mark is on its way down the queue.
    marked: Option<Marked>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Marked {
    /// When the peer must have taken something.
    check_at: Monotonic,
    /// The bytes that it had taken when the time began.
    taken: Option<u64>,
}

/// What waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Job {
    /// The next page of a subscription that is behind.
    CatchUp(ChannelId),
    /// A page that was asked for.
    Page { request: RequestId, channel: ChannelId, from: PageFrom, limit: usize },
}

/// How a session stands to a channel that it is subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subscription {
    /// It receives posts as they are made.
    Live,
    /// It reads the store; this is the next message that it needs.
    Behind { next: u64 },
}

impl Hub {
    /// Puts a subscription behind: it will be delivered everything from `next` on.
    pub(super) fn fall_behind(
        &mut self,
        now: Now,
        conn: ConnId,
        channel: ChannelId,
        next: u64,
        actions: &mut Vec<Action>,
    ) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Some(subscription) = session.subscriptions.get_mut(&channel) else { return };
        *subscription = Subscription::Behind { next };
        let job = Job::CatchUp(channel);
        if !session.pager.queue.contains(&job) {
            session.pager.queue.push_back(job);
        }
        if let Some(subscribers) = self.subscribers.get_mut(&channel) {
            subscribers.fall_behind(conn);
        }
        self.read_on(now, conn, actions);
    }

    /// From now on the subscription receives posts as they are made.
    pub(super) fn go_live(&mut self, conn: ConnId, channel: ChannelId) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.subscriptions.insert(channel, Subscription::Live);
        let format = session.terms.format;
        self.subscribers.entry(channel).or_default().go_live(format, conn);
    }

    /// Queues a page that was asked for.
    pub(super) fn queue_page(
        &mut self,
        now: Now,
        (conn, request): (ConnId, RequestId),
        channel: ChannelId,
        (from, limit): (PageFrom, usize),
        actions: &mut Vec<Action>,
    ) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.pager.queue.push_back(Job::Page { request, channel, from, limit });
        }
        self.read_on(now, conn, actions);
    }

    /// A delivery to a live subscription did not fit the session's queue.
    pub(super) fn lagged(
        &mut self,
        now: Now,
        conn: ConnId,
        channel: ChannelId,
        seq: u64,
        actions: &mut Vec<Action>,
    ) {
        let Some(session) = self.sessions.get(&conn) else { return };
        if session.subscriptions.get(&channel) != Some(&Subscription::Live) {
            return;
        }
        // The queue is full: nothing more is read before it is empty.
        self.mark(now, conn, actions);
        self.fall_behind(now, conn, channel, seq, actions);
    }

    /// The session's queue is written up to the mark.
    pub(super) fn ready(&mut self, now: Now, conn: ConnId, actions: &mut Vec<Action>) {
        if let Some(session) = self.sessions.get_mut(&conn)
            && let Some(marked) = session.pager.marked.take()
        {
            self.stalls.remove(&(marked.check_at, conn));
        }
        self.read_on(now, conn, actions);
    }

    fn mark(&mut self, now: Now, conn: ConnId, actions: &mut Vec<Action>) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        if session.pager.marked.is_none() {
            let check_at = now.mono + self.config.limits.stall;
            session.pager.marked = Some(Marked { check_at, taken: None });
            self.stalls.insert((check_at, conn));
            actions.push(Action::Mark { conn });
            actions.push(Action::Probe { conn });
        }
    }

    /// Reads the next page, if the session has room for it.
    fn read_on(&mut self, _now: Now, conn: ConnId, actions: &mut Vec<Action>) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        while !session.pager.reading && session.pager.marked.is_none() {
            let Some(job) = session.pager.queue.pop_front() else { return };
            let limits = &self.config.limits;
            let (channel, range, max_rows, purpose) = match job {
                Job::CatchUp(channel) => {
                    let last = self.directory.channel(channel).map_or(0, |channel| channel.last.seq);
                    let Some(Subscription::Behind { next }) = session.subscriptions.get(&channel) else {
                        continue;
                    };
                    (
                        channel,
                        Range::After(next - 1),
                        limits.catch_up_rows,
                        Purpose::CatchUp { next: *next, last },
                    )
                }
                Job::Page { request, channel, from, limit } => {
                    let range = match from {
                        PageFrom::After(seq) => Range::After(seq),
                        PageFrom::Before(seq) => Range::Before(seq),
                    };
                    (channel, range, limit.clamp(1, limits.page_rows), Purpose::Page { request })
                }
            };
            session.pager.reading = true;
            let max_bytes = limits.page_bytes;
            actions.push(Action::ReadHistory(Read { conn, channel, range, max_rows, max_bytes, purpose }));
        }
    }

    /// A page for a session of version 2 was read.
    pub(super) fn page_read(
        &mut self,
        now: Now,
        read: &Read,
        page: Result<Vec<Stamped>, String>,
        actions: &mut Vec<Action>,
    ) {
        let conn = read.conn;
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.pager.reading = false;
        match read.purpose {
            Purpose::Page { request } => self.answer_page(read, request, page, actions),
            Purpose::CatchUp { next, last } => self.deliver_page(read, next, last, page, actions),
            Purpose::History { .. } => {}
        }
        self.mark(now, conn, actions);
        self.read_on(now, conn, actions);
    }

    fn answer_page(
        &mut self,
        read: &Read,
        request: RequestId,
        page: Result<Vec<Stamped>, String>,
        actions: &mut Vec<Action>,
    ) {
        let stream = read.channel;
        let answer = if !self.is_subscribed(read.conn, stream) {
            Err(Refusal::SubscriptionEnded)
        } else {
            page.map_err(|why| Refusal::HistoryUnreadable { why }).map(|messages| {
                let more = match (read.range, messages.first(), messages.last()) {
                    (Range::Before(_), Some(first), _) => first.seq > 1,
                    (_, _, Some(last)) => self.last_seq(stream) > last.seq,
                    _ => false,
                };
                StreamReply::Page { stream, messages, more }
            })
        };
        match answer {
            Ok(answer) => reply(actions, read.conn, request, Reply::Stream(answer)),
            Err(refusal) => reply(actions, read.conn, request, refusal),
        }
    }

    /// Delivers a page to a subscription that is behind, names what is missing, and goes live at the end.
    fn deliver_page(
        &mut self,
        read: &Read,
        next: u64,
        last: u64,
        page: Result<Vec<Stamped>, String>,
        actions: &mut Vec<Action>,
    ) {
        let (conn, stream) = (read.conn, read.channel);
        let newest = self.last_seq(stream);
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        // It may have ended, or moved to another position, while the page was read.
        if session.subscriptions.get(&stream) != Some(&Subscription::Behind { next }) {
            let behind = matches!(session.subscriptions.get(&stream), Some(Subscription::Behind { .. }));
            if behind && !session.pager.queue.contains(&Job::CatchUp(stream)) {
                session.pager.queue.push_back(Job::CatchUp(stream));
            }
            return;
        }
        let Ok(messages) = page else {
            self.end_subscription(conn, stream, EndReason::Unavailable, actions);
            return;
        };
        let mut notify = |notice| actions.push(Action::Notify { conn, notice });
        let mut expected = next;
        let nothing_left = messages.is_empty();
        let mut run: Vec<Stamped> = Vec::new();
        for message in messages {
            if message.seq < expected {
                continue;
            }
            if message.seq > expected {
                if !run.is_empty() {
                    notify(Notice::Deliveries { stream, messages: core::mem::take(&mut run) });
                }
                notify(Notice::Gap { stream, from: expected, to: message.seq - 1 });
            }
            expected = message.seq + 1;
            run.push(message);
        }
        if !run.is_empty() {
            notify(Notice::Deliveries { stream, messages: run });
        }
        // What was durable when the page was read is not in the store: it was purged.
        if nothing_left && expected <= last {
            notify(Notice::Gap { stream, from: expected, to: last });
            expected = last + 1;
        }
        if expected > newest {
            notify(Notice::Live { stream, seq: newest });
            self.go_live(conn, stream);
        } else {
            session.subscriptions.insert(stream, Subscription::Behind { next: expected });
            session.pager.queue.push_back(Job::CatchUp(stream));
        }
    }

    /// A mark has not come back in time: asks how much the peer has taken since.
    pub(super) fn check_stalls(&mut self, now: Now, actions: &mut Vec<Action>) {
        while let Some((at, conn)) = self.stalls.first().copied()
            && at <= now.mono
        {
            self.stalls.remove(&(at, conn));
            actions.push(Action::Probe { conn });
        }
    }

    /// The answer to [`Action::Probe`]: the bytes that the peer has taken on this connection.
    pub(super) fn progressed(&mut self, now: Now, conn: ConnId, taken: u64, actions: &mut Vec<Action>) {
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        let Some(marked) = &mut session.pager.marked else { return };
        if marked.check_at > now.mono {
            marked.taken = Some(taken);
            return;
        }
        if marked.taken == Some(taken) {
            return self.close(now, conn, CloseReason::SlowConsumer, actions);
        }
        *marked = Marked { check_at: now.mono + self.config.limits.stall, taken: Some(taken) };
        self.stalls.insert((marked.check_at, conn));
    }

    pub(super) fn last_seq(&self, channel: ChannelId) -> u64 {
        self.directory.channel(channel).map_or(0, |channel| channel.last.seq)
    }

    /// When a mark must have come back, for the session's end.
    pub(super) fn stall_of(&self, conn: ConnId) -> Option<Monotonic> {
        Some(self.sessions.get(&conn)?.pager.marked?.check_at)
    }
}
