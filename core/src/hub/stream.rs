//! What a session of version 2 asks about streams.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::commit::{Change, Destination, FollowUp, Post};
use super::decide::Asker;
use super::mail::Mail;
use super::pager::Subscription;
use super::{Action, ConnId, Hub, RequestId};
use crate::directory::User;
use crate::name::UserName;
use crate::payload::Payload;
use crate::protocol::{Limit, Refusal, Reply, Token, Visibility};
use crate::record::{ChannelId, Record, UserId};
use crate::stream::{
    EndReason, MachineKey, Notice, Origin, Signed, Standing, Start, StreamCommand, StreamRef, StreamReply,
};
use crate::time::{Now, UnixMillis};

/// What a request names.
#[derive(Clone, Debug)]
enum Place {
    Channel(ChannelId),
    Mailbox(Mail),
}

impl Place {
    /// Its stream. A mailbox in which nobody wrote or read yet has none.
    fn stream(self) -> Result<ChannelId, Refusal> {
        match self {
            Self::Channel(channel) => Ok(channel),
            Self::Mailbox(mail) => mail.stream.ok_or(Refusal::NoMailbox),
        }
    }
}

impl Hub {
    /// Decides a request about a stream: an answer, or none if it comes later.
    pub(super) fn decide_stream(
        &mut self,
        now: Now,
        asker: &Asker,
        command: StreamCommand,
        actions: &mut Vec<Action>,
    ) -> Result<Option<Reply>, Refusal> {
        if self.make_mailbox(now, asker, &command) {
            return Ok(None);
        }
        match command {
            StreamCommand::Subscribe { stream, from, invite } => {
                self.subscribe_from(now, asker, &stream, from, invite, actions)
            }
            StreamCommand::Unsubscribe { stream } => {
                if let Ok(stream) = self.resolve(asker, &stream).and_then(Place::stream) {
                    self.unsubscribe(asker.conn, stream);
                }
                Ok(Some(Reply::Stream(StreamReply::Done)))
            }
            StreamCommand::Read { stream, from, limit } => {
                let stream = self.resolve_subscribed(asker, &stream)?;
                let limit = if limit == 0 { usize::MAX } else { limit };
                self.queue_page(now, (asker.conn, asker.request), stream, (from, limit), actions);
                Ok(None)
            }
            StreamCommand::Post { stream, payload, signed, lifetime } => {
                let place = self.resolve(asker, &stream)?;
                let expires = lifetime.and_then(|lifetime| expiry(now.wall, lifetime));
                let (stream, to) = match place {
                    Place::Channel(_) => (self.subscribed_at(asker, place)?, Destination::Channel),
                    Place::Mailbox(mail) => {
                        (mail.stream.ok_or(Refusal::NoMailbox)?, Destination::Mailbox { target: mail.target })
                    }
                };
                self.post_signed(now, asker, (stream, to), payload, signed, expires)
            }
            StreamCommand::Report { stream, delivered, seen } => {
                let stream = self.resolve_subscribed(asker, &stream)?;
                self.report(now, asker, stream, delivered, seen)
            }
            StreamCommand::Acknowledge { stream, seq, word } => {
                let stream = self.resolve_subscribed(asker, &stream)?;
                self.acknowledge(now, asker, stream, seq, word)
            }
            StreamCommand::Receipts { stream, seq } => {
                let place = self.resolve(asker, &stream)?;
                let own = matches!(&place, Place::Mailbox(mail) if !mail.own);
                let stream = match own {
                    true => place.stream().map_err(|_| Refusal::NoMessage(seq))?,
                    false => self.subscribed_at(asker, place)?,
                };
                if seq == 0 || seq > self.last_seq(stream) {
                    return Err(Refusal::NoMessage(seq));
                }
                if own {
                    self.queue_receipts(now, (asker.conn, asker.request), stream, seq, actions);
                    return Ok(None);
                }
                Ok(Some(Reply::Stream(self.receipts_of(stream, seq))))
            }
            StreamCommand::WatchReceipts { stream, on } => {
                match self.resolve(asker, &stream)? {
                    Place::Mailbox(mail) if !mail.own => {
                        let stream = Place::Mailbox(mail).stream()?;
                        self.watch_own(asker.conn, stream, on)?;
                    }
                    place => {
                        let stream = self.subscribed_at(asker, place)?;
                        self.watch(asker.conn, stream, on);
                    }
                }
                Ok(Some(Reply::Stream(StreamReply::Done)))
            }
            StreamCommand::WatchPresence { stream, on } => {
                let stream = match self.resolve(asker, &stream)? {
                    place @ Place::Channel(_) => self.subscribed_at(asker, place)?,
                    Place::Mailbox(_) => {
                        return Err(Refusal::InvalidField("watch_presence: name a channel"));
                    }
                };
                self.watch_comings(asker.conn, stream, on);
                Ok(Some(Reply::Stream(StreamReply::Done)))
            }
            StreamCommand::Locate { stream } => {
                let place = self.resolve(asker, &stream)?;
                let to = match &place {
                    Place::Channel(_) => Destination::Channel,
                    Place::Mailbox(mail) => Destination::Mailbox { target: mail.target.clone() },
                };
                let stream = place.stream()?;
                let present = self.is_present(stream, &to);
                Ok(Some(Reply::Stream(StreamReply::Located { stream, present })))
            }
            StreamCommand::Keys { user } => self.keys_of(asker, &user).map(|keys| Some(Reply::Stream(keys))),
            StreamCommand::SetContact { user, change } => self.set_contact(asker, &user, change),
            StreamCommand::SetReceipts { on } => Ok(self.set_receipts(asker, on)),
            StreamCommand::Sealed(command) => self.decide_sealed(now, asker, command),
            StreamCommand::ListContacts => Ok(Some(Reply::Stream(self.contacts(asker)))),
        }
    }

    /// The stream that a request names, if the asker may know of it.
    fn resolve(&self, asker: &Asker, stream: &StreamRef) -> Result<Place, Refusal> {
        match stream {
            StreamRef::Channel(name) => self.visible(asker, name).map(|(id, _)| Place::Channel(id)),
            StreamRef::Mailbox(name) => self.mailbox_named(asker, name).map(Place::Mailbox),
            StreamRef::Number(id) => match self.directory.channel(*id) {
                Some(channel) if self.sees(asker, *id, channel) => Ok(Place::Channel(*id)),
                Some(_) => Err(Refusal::NoStream),
                None => self.mailbox_numbered(asker, *id).map(Place::Mailbox),
            },
        }
    }

    /// The channel that a request names, if the asker may know of it.
    pub(super) fn resolve_channel(&self, asker: &Asker, stream: &StreamRef) -> Result<ChannelId, Refusal> {
        match self.resolve(asker, stream)? {
            Place::Channel(channel) => Ok(channel),
            Place::Mailbox(_) => Err(Refusal::NoGroup),
        }
    }

    pub(super) fn resolve_subscribed(&self, asker: &Asker, stream: &StreamRef) -> Result<ChannelId, Refusal> {
        self.resolve(asker, stream).and_then(|place| self.subscribed_at(asker, place))
    }

    fn subscribed_at(&self, asker: &Asker, place: Place) -> Result<ChannelId, Refusal> {
        match place {
            Place::Channel(channel) if self.is_subscribed(asker.conn, channel) => Ok(channel),
            Place::Channel(channel) => {
                let name = self.directory.channel(channel).map(|channel| channel.name.clone());
                Err(name.map_or(Refusal::NoStream, Refusal::NotSubscribed))
            }
            // Who may only write learns nothing from what only its owner may ask.
            Place::Mailbox(mail) if !mail.own => Err(Refusal::NoMailbox),
            Place::Mailbox(mail) => {
                let subscribed = mail.stream.filter(|stream| self.is_subscribed(asker.conn, *stream));
                subscribed.ok_or(Refusal::MailboxNotSubscribed)
            }
        }
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
            StreamRef::Number(_) | StreamRef::Mailbox(_) => match self.resolve(asker, stream)? {
                Place::Channel(channel) => {
                    let found = self.directory.channel(channel).map(|channel| channel.name.clone());
                    found.ok_or(Refusal::NoStream)?
                }
                Place::Mailbox(mail) if !mail.own => return Err(Refusal::NoMailbox),
                place @ Place::Mailbox(_) => {
                    self.enter_at(now, (asker.conn, asker.request), place.stream()?, from, actions)?;
                    return Ok(None);
                }
            },
        };
        let (id, channel) = self.visible_or_open(asker, &name, invite.as_ref(), now.wall)?;
        let enters = channel.visibility != Visibility::Private
            || asker.belongs_to(channel)
            || self.is_subscribed(asker.conn, id);
        if enters && self.becomes_member(asker.user, id) {
            let most = self.config.limits.members_per_channel;
            if channel.members.len() >= most {
                return Err(Refusal::Full { limit: Limit::ChannelMembers, most });
            }
            let records = alloc::vec![Record::MemberAdded { channel: id, user: asker.user }];
            let follow_up =
                FollowUp::Subscribe { conn: asker.conn, request: asker.request, channel: id, from };
            self.propose(Change { records, follow_up });
            return Ok(None);
        }
        if enters {
            self.enter_at(now, (asker.conn, asker.request), id, from, actions)?;
            return Ok(None);
        }
        let Some(token) = invite else { return Err(Refusal::NoChannel(name)) };
        let records = self.use_invite(asker, id, token)?;
        let follow_up = FollowUp::Subscribe { conn: asker.conn, request: asker.request, channel: id, from };
        self.propose(Change { records, follow_up });
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
                // What came to a mailbox before it was first read is what its reader wants.
                let first = if self.directory.mailbox(channel).is_some() { 0 } else { last };
                self.cursor(channel, reader).map_or(first, |cursor| cursor.delivered)
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

    /// Accepts a post. The same id from the same user in the same stream is the same post.
    fn post_signed(
        &mut self,
        now: Now,
        asker: &Asker,
        (stream, to): (ChannelId, Destination),
        payload: Payload,
        signed: Arc<Signed>,
        expires: Option<UnixMillis>,
    ) -> Result<Option<Reply>, Refusal> {
        let key = (stream, asker.user, signed.id);
        if let Some(waiting) = self.pending.get_mut(&key) {
            waiting.push((asker.conn, asker.request));
            return Ok(None);
        }
        self.fits_group(asker, stream, &payload)?;
        // A mailbox has a bound of its own.
        let channel = matches!(to, Destination::Channel).then_some(stream);
        self.take_space(now, asker.user, channel, payload.size())?;
        let machine = self.sessions.get(&asker.conn).map(|session| session.machine);
        let sender = machine.map(|machine| (asker.user, machine));
        let post = Post {
            conn: asker.conn,
            request: asker.request,
            channel: stream,
            from: asker.path.clone(),
            payload: Arc::new(payload),
            origin: Origin { sender, signed: Some(signed), expires },
            to,
        };
        if let Destination::Mailbox { .. } = post.to
            && let Some(reply) = self.mailbox_room(now.wall, stream, &post)?
        {
            return Ok(Some(reply));
        }
        self.pending.insert(key, Vec::new());
        self.gathering.posts.push_back(post);
        Ok(None)
    }

    fn keys_of(&self, asker: &Asker, name: &UserName) -> Result<StreamReply, Refusal> {
        let (user, found) = self.keys_for(asker, name)?;
        let mut machines: Vec<MachineKey> = found
            .machines
            .iter()
            .map(|one| MachineKey { name: one.name.clone(), id: one.id, key: one.key, added: one.added })
            .collect();
        machines.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(StreamReply::Keys { user, machines })
    }

    /// The user of this name, if the asker may have that user's keys.
    pub(super) fn keys_for(&self, asker: &Asker, name: &UserName) -> Result<(UserId, &User), Refusal> {
        let found = self.directory.user_named(name.as_str());
        found
            .filter(|(id, _)| *id == asker.user || asker.admin || self.knows(asker.user, *id))
            .ok_or_else(|| Refusal::NoUser(name.clone()))
    }

    /// Whether a user may have another's keys: they share a channel, the other lets it write, or has written to it.
    fn knows(&self, user: UserId, other: UserId) -> bool {
        self.directory.standing(other, user) == Some(Standing::Allowed)
            || self.directory.wrote(other, user)
            || self.share_channel(user, other)
    }

    /// The last message of a stream that a session was sent.
    pub(super) fn sent_up_to(&self, conn: ConnId, channel: ChannelId) -> u64 {
        match self.sessions.get(&conn).and_then(|session| session.subscriptions.get(&channel)) {
            Some(Subscription::Live { .. }) => self.last_seq(channel),
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

/// When a message that lives so long is not delivered any more; `None` if that is too far away to be told.
fn expiry(wall: UnixMillis, lifetime: Duration) -> Option<UnixMillis> {
    let lifetime = i64::try_from(lifetime.as_millis()).ok()?;
    wall.0.checked_add(lifetime).map(UnixMillis).filter(|at| *at <= UnixMillis::MAX)
}
