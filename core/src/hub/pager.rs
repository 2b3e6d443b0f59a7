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
    /// A message of a mailbox whose sender asks who has it.
    Receipts { request: RequestId, channel: ChannelId, seq: u64 },
}

/// How a session stands to a channel that it is subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subscription {
    /// It receives posts as they are made, from this one on.
    Live { from: u64 },
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
        let from = self.last_seq(channel) + 1;
        let Some(session) = self.sessions.get_mut(&conn) else { return };
        session.subscriptions.insert(channel, Subscription::Live { from });
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

    /// Queues a look at a message whose sender asks who has it.
    pub(super) fn queue_receipts(
        &mut self,
        now: Now,
        (conn, request): (ConnId, RequestId),
        channel: ChannelId,
        seq: u64,
        actions: &mut Vec<Action>,
    ) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.pager.queue.push_back(Job::Receipts { request, channel, seq });
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
        let Some(Subscription::Live { from }) = session.subscriptions.get(&channel) else { return };
        // It may have been moved since: what was dropped before is not its any more.
        let next = seq.max(*from);
        // The queue is full: nothing more is read before it is empty.
        self.mark(now, conn, actions);
        self.fall_behind(now, conn, channel, next, actions);
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
                    let last = self.directory.last(channel).seq;
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
                Job::Receipts { request, channel, seq } => {
                    (channel, Range::After(seq - 1), 1, Purpose::Receipts { request })
                }
            };
            session.pager.reading = true;
            let (user, max_bytes) = (session.user, limits.page_bytes);
            let read = Read { conn, channel, range, max_rows, max_bytes, purpose };
            return self.queue_read(user, read, actions);
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
            Purpose::Page { request } => self.answer_page(now, read, request, page, actions),
            Purpose::CatchUp { next, last } => self.deliver_page(now, read, (next, last), page, actions),
            Purpose::Receipts { request } => self.answer_receipts(read, request, page, actions),
            Purpose::History { .. } => {}
        }
        self.mark(now, conn, actions);
        self.read_on(now, conn, actions);
    }

    /// Says who has a message of a mailbox, to nobody but its sender.
    fn answer_receipts(
        &mut self,
        read: &Read,
        request: RequestId,
        page: Result<Vec<Stamped>, String>,
        actions: &mut Vec<Action>,
    ) {
        let (conn, stream) = (read.conn, read.channel);
        let Range::After(before) = read.range else { return };
        let (seq, user) = (before + 1, self.sessions.get(&conn).map(|session| session.user));
        let own = |message: &Stamped| {
            message.seq == seq && message.origin.sender.is_some_and(|(sender, _)| Some(sender) == user)
        };
        let answer = match page {
            Err(why) => Err(Refusal::HistoryUnreadable { why }),
            Ok(page) if page.first().is_some_and(own) => Ok(self.receipts_of(stream, seq)),
            Ok(_) => Err(Refusal::NoMessage(seq)),
        };
        reply(actions, conn, request, answer.map_or_else(Reply::Refused, Reply::Stream));
    }

    fn answer_page(
        &mut self,
        now: Now,
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
                let (first, last) = (messages.first().map(|it| it.seq), messages.last().map(|it| it.seq));
                let (more, rest) = match (read.range, first, last) {
                    (Range::Before(_), Some(first), _) => (first > 1, PageFrom::Before(first)),
                    (_, _, Some(last)) => (self.last_seq(stream) > last, PageFrom::After(last)),
                    _ => (false, PageFrom::After(0)),
                };
                (messages, more, rest)
            })
        };
        let answer = answer.map(|(mut messages, more, rest)| {
            messages.retain(|message| !message.origin.has_expired(now.wall));
            (messages, more, rest)
        });
        let answer = match answer {
            // A page of nothing would not say where to go on.
            Ok((messages, true, from)) if messages.is_empty() => {
                if let Some(session) = self.sessions.get_mut(&read.conn) {
                    let (channel, limit) = (stream, read.max_rows);
                    session.pager.queue.push_front(Job::Page { request, channel, from, limit });
                }
                return;
            }
            other => other.map(|(messages, more, _)| StreamReply::Page { stream, messages, more }),
        };
        match answer {
            Ok(answer) => reply(actions, read.conn, request, Reply::Stream(answer)),
            Err(refusal) => reply(actions, read.conn, request, refusal),
        }
    }

    /// Delivers a page to a subscription that is behind, names what is missing, and goes live at the end.
    fn deliver_page(
        &mut self,
        now: Now,
        read: &Read,
        (next, last): (u64, u64),
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
        // What was durable when the page was read and is not in the store was purged.
        let mut read_up_to = if messages.is_empty() { last } else { 0 };
        let mut run: Vec<Stamped> = Vec::new();
        for message in messages {
            if message.seq < expected {
                continue;
            }
            if message.seq <= newest {
                read_up_to = message.seq;
                if message.origin.has_expired(now.wall) {
                    continue;
                }
            }
            // The store may be ahead of what is known to be durable here: that is delivered when it is known.
            let until = message.seq.min(newest + 1);
            if until > expected {
                if !run.is_empty() {
                    notify(Notice::Deliveries { stream, messages: core::mem::take(&mut run) });
                }
                notify(Notice::Gap { stream, from: expected, to: until - 1 });
                expected = until;
            }
            if message.seq > newest {
                break;
            }
            expected += 1;
            run.push(message);
        }
        if !run.is_empty() {
            notify(Notice::Deliveries { stream, messages: run });
        }
        if expected <= read_up_to {
            notify(Notice::Gap { stream, from: expected, to: read_up_to });
            expected = read_up_to + 1;
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
        self.directory.last(channel).seq
    }

    /// When a mark must have come back, for the session's end.
    pub(super) fn stall_of(&self, conn: ConnId) -> Option<Monotonic> {
        Some(self.sessions.get(&conn)?.pager.marked?.check_at)
    }
}
