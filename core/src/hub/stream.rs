//! What a session of version 2 asks about streams.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::commit::{Change, FollowUp, Post};
use super::decide::Asker;
use super::pager::Subscription;
use super::{Action, ConnId, Hub, RequestId};
use crate::name::UserName;
use crate::payload::Payload;
use crate::protocol::{Refusal, Reply, Token, Visibility};
use crate::record::{ChannelId, UserId};
use crate::stream::{
    EndReason, MachineKey, Notice, Origin, Signed, Start, StreamCommand, StreamRef, StreamReply,
};
use crate::time::Now;

impl Hub {
    /// Decides a request about a stream: an answer, or none if it comes later.
    pub(super) fn decide_stream(
        &mut self,
        now: Now,
        asker: &Asker,
        command: StreamCommand,
        actions: &mut Vec<Action>,
    ) -> Result<Option<Reply>, Refusal> {
        match command {
            StreamCommand::Subscribe { stream, from, invite } => {
                self.subscribe_from(now, asker, &stream, from, invite, actions)
            }
            StreamCommand::Unsubscribe { stream } => {
                if let Ok(channel) = self.resolve(asker, &stream) {
                    self.unsubscribe(asker.conn, channel);
                }
                Ok(Some(Reply::Stream(StreamReply::Done)))
            }
            StreamCommand::Read { stream, from, limit } => {
                let channel = self.resolve_subscribed(asker, &stream)?;
                let limit = if limit == 0 { usize::MAX } else { limit };
                self.queue_page(now, (asker.conn, asker.request), channel, (from, limit), actions);
                Ok(None)
            }
            StreamCommand::Post { stream, payload, signed } => {
                let channel = self.resolve_subscribed(asker, &stream)?;
                self.post_signed(asker, channel, payload, signed);
                Ok(None)
            }
            StreamCommand::Report { stream, delivered, seen } => {
                let channel = self.resolve_subscribed(asker, &stream)?;
                self.report(now, asker, channel, delivered, seen)
            }
            StreamCommand::Acknowledge { stream, seq, word } => {
                let channel = self.resolve_subscribed(asker, &stream)?;
                self.acknowledge(now, asker, channel, seq, word)
            }
            StreamCommand::Receipts { stream, seq } => {
                let channel = self.resolve_subscribed(asker, &stream)?;
                if seq == 0 || seq > self.last_seq(channel) {
                    return Err(Refusal::NoMessage(seq));
                }
                Ok(Some(Reply::Stream(self.receipts_of(channel, seq))))
            }
            StreamCommand::WatchReceipts { stream, on } => {
                let channel = self.resolve_subscribed(asker, &stream)?;
                self.watch(asker.conn, channel, on);
                Ok(Some(Reply::Stream(StreamReply::Done)))
            }
            StreamCommand::Keys { user } => self.keys_of(asker, &user).map(|keys| Some(Reply::Stream(keys))),
        }
    }

    /// The channel of a stream, if the asker may know of it.
    fn resolve(&self, asker: &Asker, stream: &StreamRef) -> Result<ChannelId, Refusal> {
        match stream {
            StreamRef::Channel(name) => self.visible(asker, name).map(|(id, _)| id),
            StreamRef::Number(id) => {
                let found = self.directory.channel(*id).filter(|channel| self.sees(asker, *id, channel));
                found.map(|_| *id).ok_or(Refusal::NoStream)
            }
        }
    }

    fn resolve_subscribed(&self, asker: &Asker, stream: &StreamRef) -> Result<ChannelId, Refusal> {
        let channel = self.resolve(asker, stream)?;
        if self.is_subscribed(asker.conn, channel) {
            return Ok(channel);
        }
        let name = self.directory.channel(channel).map(|channel| channel.name.clone());
        Err(name.map_or(Refusal::NoStream, Refusal::NotSubscribed))
    }

    fn subscribe_from(
        &mut self,
        now: Now,
        asker: &Asker,
        stream: &StreamRef,
        from: Start,
        invite: Option<Token>,
        actions: &mut Vec<Action>,
    ) -> Result<Option<Reply>, Refusal> {
        let name = match stream {
            StreamRef::Channel(name) => name.clone(),
            StreamRef::Number(id) => {
                let channel = self.resolve(asker, stream)?;
                let found = self.directory.channel(channel).map(|channel| channel.name.clone());
                debug_assert!(found.is_some(), "{id:?} was resolved");
                found.ok_or(Refusal::NoStream)?
            }
        };
        let (id, channel) = self.visible_or_open(asker, &name, invite.as_ref(), now.wall)?;
        let enters = channel.visibility != Visibility::Private
            || asker.belongs_to(channel)
            || self.is_subscribed(asker.conn, id);
        if enters {
            self.enter_at(now, (asker.conn, asker.request), id, from, actions)?;
            return Ok(None);
        }
        let Some(token) = invite else { return Err(Refusal::NoChannel(name)) };
        let records = self.use_invite(asker, id, token)?;
        let follow_up = FollowUp::Subscribe { conn: asker.conn, request: asker.request, channel: id, from };
        self.change(Change { records, follow_up });
        Ok(None)
    }

    /// Subscribes a session that may, from a position on, and answers.
    pub(super) fn enter_at(
        &mut self,
        now: Now,
        (conn, request): (ConnId, RequestId),
        channel: ChannelId,
        from: Start,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let last = self.last_seq(channel);
        let reader = self.sessions.get(&conn).and_then(|session| session.reader);
        let after = match from {
            Start::Latest => last,
            Start::After(seq) if seq > last => return Err(Refusal::NoMessage(seq)),
            Start::After(seq) => seq,
            Start::Cursor => {
                let reader = reader.ok_or(Refusal::NotKept)?;
                self.cursor(channel, reader).map_or(last, |cursor| cursor.delivered)
            }
        };
        self.subscribe(conn, channel)?;
        if let Some(reader) = reader {
            self.place_cursor(now, channel, reader, after);
        }
        let reply = Reply::Stream(StreamReply::Subscribed { stream: channel, after, last });
        // The reply goes first: it says what the stream's number is.
        super::reply(actions, conn, request, reply);
        if after < last {
            self.fall_behind(now, conn, channel, after + 1, actions);
        } else {
            self.go_live(conn, channel);
            actions.push(Action::Notify { conn, notice: Notice::Live { stream: channel, seq: last } });
        }
        Ok(())
    }

    /// Accepts a post. The same id from the same user in the same channel is the same post.
    fn post_signed(&mut self, asker: &Asker, channel: ChannelId, payload: Payload, signed: Arc<Signed>) {
        let key = (channel, asker.user, signed.id);
        if let Some(waiting) = self.pending.get_mut(&key) {
            waiting.push((asker.conn, asker.request));
            return;
        }
        self.pending.insert(key, Vec::new());
        let machine = self.sessions.get(&asker.conn).map(|session| session.machine);
        self.gathering.posts.push_back(Post {
            conn: asker.conn,
            request: asker.request,
            channel,
            from: asker.path.clone(),
            payload: Arc::new(payload),
            origin: Origin { sender: machine.map(|machine| (asker.user, machine)), signed: Some(signed) },
        });
    }

    fn keys_of(&self, asker: &Asker, name: &UserName) -> Result<StreamReply, Refusal> {
        let found = self.directory.user_named(name.as_str());
        let (user, found) = found
            .filter(|(id, _)| *id == asker.user || asker.admin || self.share_channel(asker.user, *id))
            .ok_or_else(|| Refusal::NoUser(name.clone()))?;
        let mut machines: Vec<MachineKey> = found
            .machines
            .iter()
            .map(|one| MachineKey { name: one.name.clone(), id: one.id, key: one.key, added: one.added })
            .collect();
        machines.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(StreamReply::Keys { user, machines })
    }

    /// Whether two users meet in a channel: as members, or as subscribers now.
    fn share_channel(&self, one: UserId, other: UserId) -> bool {
        let channels = |user| {
            let directory = self.directory.user(user).map(|user| &user.channels).into_iter().flatten();
            let live = self.conns_of(user).into_iter().filter_map(|conn| self.sessions.get(&conn));
            let members = directory.copied().filter(move |id| {
                self.directory.channel(*id).is_some_and(|channel| channel.members.contains(&user))
            });
            members
                .chain(live.flat_map(|session| session.subscriptions.keys().copied()))
                .collect::<BTreeSet<ChannelId>>()
        };
        !channels(one).is_disjoint(&channels(other))
    }

    /// The last message of a channel that a session was sent.
    pub(super) fn sent_up_to(&self, conn: ConnId, channel: ChannelId) -> u64 {
        match self.sessions.get(&conn).and_then(|session| session.subscriptions.get(&channel)) {
            Some(Subscription::Live) => self.last_seq(channel),
            Some(Subscription::Behind { next }) => next - 1,
            None => 0,
        }
    }

    /// Ends a subscription and says why, to whom version 2 can say it.
    pub(super) fn end_subscription(
        &mut self,
        conn: ConnId,
        stream: ChannelId,
        reason: EndReason,
        actions: &mut Vec<Action>,
    ) -> bool {
        let ended = self.unsubscribe(conn, stream);
        let resumes = self.sessions.get(&conn).is_some_and(|session| session.terms.format.resumes());
        if ended && resumes {
            actions.push(Action::Notify { conn, notice: Notice::Ended { stream, reason } });
        }
        ended
    }
}
