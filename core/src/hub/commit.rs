//! Batches: what gathers, and what is in flight.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Action, BatchId, ConnId, Hub, RequestId, reply};
use crate::handshake::Terms;
use crate::name::{ChannelName, Handle, MachineName, SessionPath};
use crate::payload::Payload;
use crate::protocol::{CloseReason, Command, Refusal, Reply, Visibility};
use crate::record::{ChannelId, MachineId, Record, Stamp, UserId};
use crate::sealed::{SealedNotice, SealedReply};
use crate::stream::{EndReason, MachineKey, MessageId, Origin, Standing, Start, StreamReply};
use crate::time::{Now, UnixMillis};

/// What is decided and not yet sealed: posts, then changes of the directory, of which none depends on another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Batch {
    pub(super) posts: VecDeque<Post>,
    pub(super) facts: VecDeque<Fact>,
    pub(super) changes: Vec<Change>,
    /// How many of the posts are to be stored before the changes.
    pub(super) before: usize,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.posts.is_empty() && self.facts.is_empty() && self.changes.is_empty()
    }
}

/// What identifies a post to its sender.
pub(super) type PostKey = (ChannelId, UserId, MessageId);

/// A record that no other decision depends on, and whose request it answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fact {
    pub(super) conn: ConnId,
    pub(super) request: RequestId,
    pub(super) record: Record,
}

/// A post that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Post {
    pub(super) conn: ConnId,
    pub(super) request: RequestId,
    pub(super) channel: ChannelId,
    pub(super) from: Arc<SessionPath>,
    pub(super) payload: Arc<Payload>,
    pub(super) origin: Origin,
    pub(super) to: Destination,
}

/// What kind of stream a post is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Destination {
    Channel,
    Mailbox {
        /// The session that is meant, if one is.
        target: Option<Arc<SessionPath>>,
    },
}

impl Post {
    pub(super) fn key(&self) -> Option<PostKey> {
        let (user, _) = self.origin.sender?;
        Some((self.channel, user, self.origin.signed.as_ref()?.id))
    }
}

/// A change of the directory, and what follows once it is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Change {
    pub(super) records: Vec<Record>,
    pub(super) follow_up: FollowUp,
}

/// What a durable change leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum FollowUp {
    /// Answer.
    Reply { conn: ConnId, request: RequestId, reply: Reply },
    /// Subscribe the new member and answer.
    Join { conn: ConnId, request: RequestId, channel: ChannelId },
    /// Subscribe the new member from a position on, and answer.
    Subscribe { conn: ConnId, request: RequestId, channel: ChannelId, from: Start },
    /// Answer the commit, and hand it to the channel.
    Committed { conn: ConnId, request: RequestId, channel: ChannelId, epoch: u64 },
    /// Decide a request that needed the change.
    Decide { conn: ConnId, request: RequestId, command: Command },
    /// Nobody waits any more.
    Nothing,
    /// Start the session that waited for its user or its reader.
    Establish { conn: ConnId, user: UserId, machine: (MachineId, MachineName), session: Handle, terms: Terms },
}

/// A sealed batch whose outcome is awaited.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct InFlight {
    pub(super) id: BatchId,
    posts: Vec<(Post, Stamp)>,
    facts: Vec<Fact>,
    /// Positions of readers, and what is noted.
    cursors: Vec<Record>,
    changes: Vec<Change>,
    /// Where the records of the changes begin.
    changes_at: usize,
}

impl Hub {
    /// The posts to mailboxes that are not yet durable.
    pub(super) fn posts_to_mailboxes(&self) -> impl Iterator<Item = &Post> {
        let in_flight = self.in_flight.iter().flat_map(|batch| &batch.posts).map(|(post, _)| post);
        let all = self.gathering.posts.iter().chain(in_flight);
        all.filter(|post| matches!(post.to, Destination::Mailbox { .. }))
    }

    /// Sends off what has gathered, if nothing is in flight.
    pub(super) fn seal(&mut self, now: Now, actions: &mut Vec<Action>) {
        if !self.has_batch() {
            return;
        }
        let limits = &self.config.limits;
        let mut records = Vec::with_capacity(self.gathering.posts.len().min(limits.batch_posts) + 1);
        let mut posts = Vec::with_capacity(records.capacity());
        let mut bytes = 0;
        // Channels have few posts each or many: the stamps of this batch are kept beside the directory's.
        let mut last: alloc::collections::BTreeMap<ChannelId, Stamp> = Default::default();
        let mut newest: Option<(ChannelId, Stamp)> = None;
        while let Some(post) = self.gathering.posts.front() {
            bytes += post.payload.size();
            if !posts.is_empty() && (posts.len() >= limits.batch_posts || bytes > limits.batch_bytes) {
                break;
            }
            let Some(post) = self.gathering.posts.pop_front() else { break };
            let before = match newest {
                Some((channel, stamp)) if channel == post.channel => stamp,
                _ => {
                    last.extend(newest);
                    last.get(&post.channel).copied().unwrap_or_else(|| self.directory.last(post.channel))
                }
            };
            let stamp = behind(before, now.wall);
            newest = Some((post.channel, stamp));
            records.push(Record::Posted {
                channel: post.channel,
                stamp,
                from: post.from.clone(),
                payload: post.payload.clone(),
                origin: post.origin.clone(),
            });
            posts.push((post, stamp));
        }
        // Behind all posts: the store names those that it knows by their position.
        records.extend(posts.iter().filter_map(|(post, stamp)| self.waits(post, *stamp)));
        let most = self.gathering.facts.len().min(limits.batch_posts);
        let facts: Vec<Fact> = match most {
            0 => Vec::new(),
            _ => self.gathering.facts.drain(..most).collect(),
        };
        records.extend(facts.iter().map(|fact| fact.record.clone()));
        let cursors = self.receipts.take_due();
        records.extend(cursors.iter().cloned());
        self.gathering.before = self.gathering.before.saturating_sub(posts.len());
        let mut changes = match self.gathering.before {
            0 => core::mem::take(&mut self.gathering.changes),
            _ => Vec::new(),
        };
        if !changes.is_empty() {
            self.line.seal();
        }
        for change in &mut changes {
            if let FollowUp::Committed { channel, .. } = change.follow_up {
                last.extend(newest);
                let before = last.get(&channel).copied().unwrap_or_else(|| self.directory.last(channel));
                let stamp = behind(before, now.wall);
                newest = Some((channel, stamp));
                place(&mut change.records, stamp);
            }
        }
        let changes_at = records.len();
        records.extend(changes.iter().flat_map(|change| change.records.iter().cloned()));
        self.next_batch += 1;
        let id = BatchId(self.next_batch);
        self.in_flight = Some(InFlight { id, posts, facts, cursors, changes, changes_at });
        actions.push(Action::Persist { batch: id, records });
    }

    /// Takes the outcome of the batch in flight, and decides what waited for it.
    pub(super) fn persisted(
        &mut self,
        now: Now,
        batch: BatchId,
        outcome: Result<(), String>,
        actions: &mut Vec<Action>,
    ) {
        let Some(in_flight) = self.in_flight.take_if(|in_flight| in_flight.id == batch) else { return };
        let changed = !in_flight.changes.is_empty();
        match outcome {
            Ok(()) => {
                for (post, stamp) in in_flight.posts {
                    self.publish(post, stamp, actions);
                }
                for fact in in_flight.facts {
                    self.publish_fact(now, fact, actions);
                }
                for record in in_flight.cursors {
                    self.directory.apply(&record);
                    if let Record::CursorMoved { reader, channel, cursor } = record {
                        self.receipts.written(now, channel, reader, cursor);
                    }
                }
                for change in in_flight.changes {
                    self.publish_change(now, change, actions);
                }
            }
            Err(why) => {
                let refusal = Refusal::NotStored { why };
                for (post, _) in in_flight.posts {
                    self.arrived(&post);
                    for (conn, request) in self.take_waiting(&post) {
                        reply(actions, conn, request, refusal.clone());
                    }
                    reply(actions, post.conn, post.request, refusal.clone());
                }
                for fact in in_flight.facts {
                    reply(actions, fact.conn, fact.request, refusal.clone());
                }
                self.receipts.not_written(now);
                for change in in_flight.changes {
                    refuse_change(change.follow_up, refusal.clone(), actions);
                }
            }
        }
        self.decide_waiting(now, changed, actions);
    }

    /// The store has some of a batch's posts already: answers those, and gathers the rest again, in order.
    pub(super) fn already_stored(
        &mut self,
        now: Now,
        batch: BatchId,
        known: &[(usize, Stamp)],
        actions: &mut Vec<Action>,
    ) {
        let Some(in_flight) = self.in_flight.take_if(|in_flight| in_flight.id == batch) else { return };
        let InFlight { posts, facts, cursors, mut changes, changes_at, .. } = in_flight;
        let mut known = known.iter().peekable();
        let mut again = Vec::with_capacity(posts.len());
        for (at, (post, _)) in posts.into_iter().enumerate() {
            match known.next_if(|(position, _)| *position == at) {
                Some((_, stamp)) => {
                    let (conn, request) = (post.conn, post.request);
                    self.arrived(&post);
                    self.answer_stored(&post, (conn, request), *stamp, actions);
                }
                None => again.push(post),
            }
        }
        // A commit under the id of an earlier message: a commit that was taken is answered from the directory.
        let mut from = changes_at;
        for change in &mut changes {
            let to = from + change.records.len();
            if known.next_if(|(position, _)| (from..to).contains(position)).is_some() {
                change.records.clear();
                let refused = core::mem::replace(&mut change.follow_up, FollowUp::Nothing);
                let refusal = Refusal::CommitUnfit("its message id is that of a message");
                refuse_change(refused, refusal, actions);
            }
            from = to;
        }
        let count = again.len();
        for post in again.into_iter().rev() {
            self.gathering.posts.push_front(post);
        }
        for fact in facts.into_iter().rev() {
            self.gathering.facts.push_front(fact);
        }
        if !cursors.is_empty() {
            self.receipts.write_again();
            self.receipts.note_again(cursors);
        }
        self.gathering.before += count;
        let changed = !changes.is_empty();
        changes.retain(|change| !change.records.is_empty());
        if changes.is_empty() {
            self.decide_waiting(now, changed, actions);
        } else {
            // No others could be accepted while these were in flight.
            self.gathering.changes = changes;
            self.line.unseal();
        }
    }

    /// A connection that ended while its registration was under way must not become a session.
    pub(super) fn forget_opening(&mut self, conn: ConnId) {
        self.leave_line_opening(conn);
        let in_flight = self.in_flight.iter_mut().flat_map(|batch| &mut batch.changes);
        for change in in_flight.chain(&mut self.gathering.changes) {
            if matches!(&change.follow_up, FollowUp::Establish { conn: other, .. } if *other == conn) {
                change.follow_up = FollowUp::Nothing;
            }
        }
    }

    fn publish(&mut self, post: Post, stamp: Stamp, actions: &mut Vec<Action>) {
        self.directory.apply_stamp(post.channel, stamp);
        if let Some(record) = self.waits(&post, stamp) {
            self.directory.apply(&record);
            self.arrived(&post);
        }
        self.answer_stored(&post, (post.conn, post.request), stamp, actions);
        let Post { conn, channel: stream, from, payload, origin, to, .. } = post;
        let name = match &to {
            Destination::Channel => self.directory.channel(stream).map(|channel| channel.name.clone()),
            Destination::Mailbox { target } => {
                if let Some((conn, target)) = self.whispered(target) {
                    let (from, target, payload) = (from.clone(), target.clone(), (*payload).clone());
                    actions.push(Action::Whisper { conn, from, target, payload });
                }
                self.mailbox_label(stream)
            }
        };
        self.hand_out(conn, (name, stream), (stamp, from, payload, origin), actions);
    }

    /// Delivers a message to those who follow its stream live.
    fn hand_out(
        &self,
        conn: ConnId,
        (name, stream): (Option<ChannelName>, ChannelId),
        (stamp, from, payload, origin): (Stamp, Arc<SessionPath>, Arc<Payload>, Origin),
        actions: &mut Vec<Action>,
    ) {
        if let (Some(channel), Some(subscribers)) = (name, self.subscribers.get(&stream))
            && !subscribers.live.is_empty()
        {
            let to = subscribers.live.clone();
            actions.push(Action::Deliver { channel, stream, stamp, from, payload, origin, to, except: conn });
        }
    }

    /// Answers whoever posted a message, and whoever posted it again meanwhile.
    fn answer_stored(
        &mut self,
        post: &Post,
        (conn, request): (ConnId, RequestId),
        stamp: Stamp,
        actions: &mut Vec<Action>,
    ) {
        if post.origin.signed.is_none() {
            return reply(actions, conn, request, Reply::Sent);
        }
        let stream = post.channel;
        let present = self.is_present(stream, &post.to);
        for (conn, request) in core::iter::once((conn, request)).chain(self.take_waiting(post)) {
            reply(actions, conn, request, Reply::Stream(StreamReply::Stored { stream, stamp, present }));
            if let Destination::Mailbox { .. } = post.to {
                self.note_own(conn, stream, stamp.seq);
            }
        }
    }

    fn take_waiting(&mut self, post: &Post) -> Vec<(ConnId, RequestId)> {
        post.key().and_then(|key| self.pending.remove(&key)).unwrap_or_default()
    }

    fn publish_fact(&mut self, now: Now, fact: Fact, actions: &mut Vec<Action>) {
        let Fact { conn, request, record } = fact;
        self.directory.apply(&record);
        reply(actions, conn, request, Reply::Stream(StreamReply::Done));
        if let Record::Acknowledged { reader, channel, .. } = record {
            self.acknowledged(now, channel, reader);
        }
    }

    fn publish_change(&mut self, now: Now, change: Change, actions: &mut Vec<Action>) {
        let asker = match &change.follow_up {
            FollowUp::Reply { conn, .. } => Some(*conn),
            _ => None,
        };
        let mut effects = Vec::new();
        let concerned = self.groups_concerned(&change.records);
        for record in &change.records {
            self.effect(now, record, asker, &mut effects);
            self.directory.apply(record);
        }
        match change.follow_up {
            // What the change ends is ended before the answer; only who ended itself is answered first.
            FollowUp::Reply { conn, request, reply } if !self.sessions.contains_key(&conn) => {
                actions.push(Action::Reply { conn, request, reply });
                actions.append(&mut effects);
            }
            FollowUp::Reply { conn, request, reply } => {
                actions.append(&mut effects);
                actions.push(Action::Reply { conn, request, reply });
            }
            FollowUp::Join { conn, request, channel } => {
                let name = self.directory.channel(channel).map(|channel| channel.name.clone());
                if let Some(name) = name {
                    let joined = self.subscribe(conn, channel).map(|()| Reply::Joined(name));
                    reply(actions, conn, request, joined);
                }
            }
            FollowUp::Subscribe { conn, request, channel, from } => {
                if let Err(refusal) = self.enter_at(now, (conn, request), channel, from, actions) {
                    reply(actions, conn, request, refusal);
                }
            }
            FollowUp::Committed { conn, request, channel, epoch } => {
                actions.append(&mut effects);
                self.publish_commit((conn, request), channel, epoch, change.records, actions);
            }
            FollowUp::Decide { conn, request, command } => self.decide_next(conn, request, command),
            FollowUp::Nothing => actions.append(&mut effects),
            FollowUp::Establish { conn, user, machine, session, terms } => {
                self.establish(now, conn, user, machine, (session, terms), actions);
            }
        }
        for channel in concerned {
            self.announce_due(channel, actions);
        }
    }

    /// Answers a durable commit, and hands it to the channel.
    fn publish_commit(
        &self,
        (conn, request): (ConnId, RequestId),
        stream: ChannelId,
        epoch: u64,
        records: Vec<Record>,
        actions: &mut Vec<Action>,
    ) {
        let posted = records.into_iter().find_map(|record| match record {
            Record::Posted { stamp, from, payload, origin, .. } => Some((stamp, from, payload, origin)),
            _ => None,
        });
        let Some((stamp, from, payload, origin)) = posted else { return };
        let committed = SealedReply::Committed { stream, stamp, epoch };
        reply(actions, conn, request, Reply::Stream(StreamReply::Sealed(Box::new(committed))));
        let name = self.directory.channel(stream).map(|channel| channel.name.clone());
        self.hand_out(conn, (name, stream), (stamp, from, payload, origin), actions);
    }

    /// What a durable record, which `asker` asked for, ends among the living.
    fn effect(&mut self, now: Now, record: &Record, asker: Option<ConnId>, actions: &mut Vec<Action>) {
        match record {
            Record::UserRemoved { user } => {
                for mailbox in self.directory.mailboxes_of(*user, None) {
                    self.forget_mailbox(mailbox);
                }
                for conn in self.conns_of(*user) {
                    let own = asker == Some(conn);
                    self.close(now, conn, CloseReason::UserRemoved { own }, actions);
                }
            }
            Record::MachineRemoved { user, machine } => {
                for mailbox in self.directory.mailboxes_of(*user, Some(*machine)) {
                    self.forget_mailbox(mailbox);
                }
                for conn in self.conns_of(*user) {
                    if self.sessions.get(&conn).is_some_and(|session| session.machine == *machine) {
                        let own = asker == Some(conn);
                        self.close(now, conn, CloseReason::KeyRevoked { own }, actions);
                    }
                }
            }
            Record::ChannelDeleted { channel } => {
                self.unsubscribe_all(*channel, actions);
                self.receipts.forget_channel(*channel);
            }
            Record::MemberRemoved { channel, user } => {
                self.unsubscribe_user(*user, *channel, EndReason::Removed, actions);
            }
            Record::Banned { channel, user } => {
                self.unsubscribe_user(*user, *channel, EndReason::Banned, actions);
            }
            Record::ContactSet { user, other, standing: Some(Standing::Blocked), .. } => {
                self.end_watches(*user, *other);
            }
            Record::VisibilitySet { channel, visibility: Visibility::Private } => {
                self.unsubscribe_outsiders(*channel, actions);
            }
            Record::MachineAdded { machine, user, name, key, at } => {
                let added = MachineKey { name: name.clone(), id: *machine, key: *key, added: *at };
                self.announce_machine(*user, &added, asker, actions);
            }
            Record::ChannelRenamed { channel, name } => self.announce_name(*channel, name, actions),
            Record::WelcomeKept { channel, user, machine, .. } => {
                let notice = SealedNotice::WelcomeWaits { stream: *channel };
                self.tell_machine(*user, *machine, notice, actions);
            }
            Record::KeyPackageTaken { user, machine } => self.tell_of_stock(*user, *machine, actions),
            _ => {}
        }
    }
}

/// The place behind another.
fn behind(before: Stamp, wall: UnixMillis) -> Stamp {
    let ts = UnixMillis(wall.min(UnixMillis::MAX).0.max(before.ts.0.saturating_add(1)));
    Stamp { seq: before.seq + 1, ts }
}

/// Gives a commit its place.
fn place(records: &mut [Record], at: Stamp) {
    for record in records {
        match record {
            Record::Posted { stamp, .. } => *stamp = at,
            Record::GroupAdvanced { last, .. } => last.stamp = at,
            _ => {}
        }
    }
}

fn refuse_change(follow_up: FollowUp, refusal: Refusal, actions: &mut Vec<Action>) {
    match follow_up {
        FollowUp::Reply { conn, request, .. }
        | FollowUp::Join { conn, request, .. }
        | FollowUp::Subscribe { conn, request, .. }
        | FollowUp::Committed { conn, request, .. }
        | FollowUp::Decide { conn, request, .. } => {
            reply(actions, conn, request, refusal);
        }
        FollowUp::Nothing => {}
        FollowUp::Establish { conn, .. } => {
            actions.push(Action::Close { conn, reason: CloseReason::Refused(refusal) });
        }
    }
}
