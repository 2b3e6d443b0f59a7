//! Batches: what gathers, what is in flight, what waits in line behind a change of the directory.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Action, BatchId, ConnId, Hub, RequestId, reply};
use crate::handshake::Proven;
use crate::name::{Handle, MachineName, SessionPath};
use crate::payload::Payload;
use crate::protocol::{CloseReason, Command, Refusal, Reply, Token};
use crate::record::{ChannelId, MachineId, Record, Stamp, UserId};
use crate::time::{Now, UnixMillis};

/// What is decided and not yet sealed: posts, then at most one change of the directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Batch {
    pub(super) posts: VecDeque<Post>,
    pub(super) change: Option<Change>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.posts.is_empty() && self.change.is_none()
    }
}

/// A post that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Post {
    pub(super) conn: ConnId,
    pub(super) request: RequestId,
    pub(super) channel: ChannelId,
    pub(super) from: Arc<SessionPath>,
    pub(super) payload: Arc<Payload>,
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
    /// Nobody waits any more.
    Nothing,
    /// Start the new user's session.
    Establish { conn: ConnId, user: UserId, machine: (MachineId, MachineName), session: Handle },
}

/// A sealed batch whose outcome is awaited.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct InFlight {
    pub(super) id: BatchId,
    posts: Vec<(Post, Stamp)>,
    pub(super) change: Option<Change>,
}

/// What needs a record while a change is undecided.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Waiting {
    Open { conn: ConnId, proven: Proven },
    Request { conn: ConnId, request: RequestId, command: Command, token: Option<Token> },
}

impl Hub {
    /// Whether a change of the directory is decided and not yet durable.
    pub(super) fn change_pending(&self) -> bool {
        self.gathering.change.is_some() || self.in_flight.as_ref().is_some_and(|batch| batch.change.is_some())
    }

    pub(super) fn change(&mut self, change: Change) {
        debug_assert!(!self.change_pending(), "one change at a time");
        self.gathering.change = Some(change);
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
        while let Some(post) = self.gathering.posts.front() {
            bytes += post.payload.size();
            if !posts.is_empty() && (posts.len() >= limits.batch_posts || bytes > limits.batch_bytes) {
                break;
            }
            let Some(post) = self.gathering.posts.pop_front() else { break };
            let last = last.entry(post.channel).or_insert_with(|| {
                self.directory.channel(post.channel).map(|channel| channel.last).unwrap_or_default()
            });
            *last = Stamp {
                seq: last.seq + 1,
                ts: UnixMillis(now.wall.min(UnixMillis::MAX).0.max(last.ts.0.saturating_add(1))),
            };
            records.push(Record::Posted {
                channel: post.channel,
                stamp: *last,
                from: post.from.clone(),
                payload: post.payload.clone(),
            });
            posts.push((post, *last));
        }
        let change = if self.gathering.posts.is_empty() { self.gathering.change.take() } else { None };
        records.extend(change.iter().flat_map(|change| change.records.iter().cloned()));
        self.next_batch += 1;
        let id = BatchId(self.next_batch);
        self.in_flight = Some(InFlight { id, posts, change });
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
        match outcome {
            Ok(()) => {
                for (post, stamp) in in_flight.posts {
                    self.publish(post, stamp, actions);
                }
                if let Some(change) = in_flight.change {
                    self.publish_change(now, change, actions);
                }
            }
            Err(why) => {
                let refusal = Refusal::NotStored { why };
                for (post, _) in in_flight.posts {
                    reply(actions, post.conn, post.request, refusal.clone());
                }
                if let Some(change) = in_flight.change {
                    refuse_change(change.follow_up, refusal, actions);
                }
            }
        }
        while !self.waiting.is_empty() && !self.change_pending() {
            match self.waiting.pop_front() {
                Some(Waiting::Open { conn, proven }) => self.open(now, conn, proven, actions),
                Some(Waiting::Request { conn, request, command, token }) => {
                    self.decide(now, conn, request, command, token, actions);
                }
                None => break,
            }
        }
    }

    /// A connection that ended while its registration was under way must not become a session.
    pub(super) fn forget_opening(&mut self, conn: ConnId) {
        self.waiting
            .retain(|waiting| !matches!(waiting, Waiting::Open { conn: other, .. } if *other == conn));
        let in_flight = self.in_flight.as_mut().and_then(|batch| batch.change.as_mut());
        for change in in_flight.into_iter().chain(&mut self.gathering.change) {
            if matches!(&change.follow_up, FollowUp::Establish { conn: other, .. } if *other == conn) {
                change.follow_up = FollowUp::Nothing;
            }
        }
    }

    fn publish(&mut self, post: Post, stamp: Stamp, actions: &mut Vec<Action>) {
        let Post { conn, request, channel, from, payload } = post;
        self.directory.apply_stamp(channel, stamp);
        reply(actions, conn, request, Reply::Sent);
        let name = self.directory.channel(channel).map(|channel| channel.name.clone());
        if let (Some(channel), Some(to)) = (name, self.subscribers.get(&channel)) {
            actions.push(Action::Deliver { channel, from, payload, to: to.clone(), except: conn });
        }
    }

    fn publish_change(&mut self, now: Now, change: Change, actions: &mut Vec<Action>) {
        let asker = match &change.follow_up {
            FollowUp::Reply { conn, .. } => Some(*conn),
            _ => None,
        };
        let mut effects = Vec::new();
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
            FollowUp::Nothing => actions.append(&mut effects),
            FollowUp::Establish { conn, user, machine, session } => {
                self.establish(now, conn, user, machine, session, actions);
            }
        }
    }

    /// What a durable record, which `asker` asked for, ends among the living.
    fn effect(&mut self, now: Now, record: &Record, asker: Option<ConnId>, actions: &mut Vec<Action>) {
        match record {
            Record::UserRemoved { user } => {
                for conn in self.conns_of(*user) {
                    let own = asker == Some(conn);
                    self.close(now, conn, CloseReason::UserRemoved { own }, actions);
                }
            }
            Record::MachineRemoved { user, machine } => {
                for conn in self.conns_of(*user) {
                    if self.sessions.get(&conn).is_some_and(|session| session.machine == *machine) {
                        let own = asker == Some(conn);
                        self.close(now, conn, CloseReason::KeyRevoked { own }, actions);
                    }
                }
            }
            Record::ChannelDeleted { channel } => self.unsubscribe_all(*channel),
            Record::MemberRemoved { channel, user } | Record::Banned { channel, user } => {
                self.unsubscribe_user(*user, *channel);
            }
            _ => {}
        }
    }
}

fn refuse_change(follow_up: FollowUp, refusal: Refusal, actions: &mut Vec<Action>) {
    match follow_up {
        FollowUp::Reply { conn, request, .. } | FollowUp::Join { conn, request, .. } => {
            reply(actions, conn, request, refusal);
        }
        FollowUp::Nothing => {}
        FollowUp::Establish { conn, .. } => {
            actions.push(Action::Close { conn, reason: CloseReason::Refused(refusal) });
        }
    }
}
