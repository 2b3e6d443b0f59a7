//! Whose post is in which batch, and what became of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use conclave_core::hub::{BatchId, ConnId, RequestId};
use conclave_core::name::{ChannelName, SessionPath};
use conclave_core::payload::Payload;
use conclave_core::protocol::{Command, Refusal, Reply};
use conclave_core::record::{ChannelId, Record, Stamp, UserId};
use conclave_core::stream::{MessageId, Origin, StreamCommand, StreamReply};
use conclave_core::time::UnixMillis;

use super::streams::means;
use super::{Asked, Fate, InFlight, Verdict, Watch};

/// What identifies a post of version 2.
pub(super) type PostKey = (ChannelId, UserId, MessageId);

impl Watch {
    pub(super) fn ask(&mut self, conn: ConnId, request: RequestId, command: &Command) {
        let mut asked = Asked { command: command.clone(), subscribed: false, fate: Fate::Open, read: None };
        if let Command::Post { channel, .. } | Command::ReadSince { channel, .. } = command
            && let Some((id, channel)) = self.model.channel_named(channel)
        {
            let newest = if channel.last.seq > 0 { channel.last.ts } else { UnixMillis(i64::MIN) };
            asked.read = Some((id, newest));
            asked.subscribed = self.is_subscribed(conn, id);
        }
        if let Command::Stream(StreamCommand::Post { stream, .. }) = command {
            asked.subscribed = self.channel_of(stream).is_some_and(|(id, _)| self.is_subscribed(conn, id));
        }
        self.asked.entry(conn).or_default().insert(request, asked);
    }

    pub(super) fn settle(&mut self, batch: &InFlight, fate: Fate) {
        let posts = batch.posts.iter().filter_map(|(conn, request)| Some((*conn, (*request)?)));
        for (conn, request) in posts.chain(batch.facts.iter().copied()) {
            if let Some(asked) = self.asked.get_mut(&conn).and_then(|asked| asked.get_mut(&request)) {
                asked.fate = fate;
            }
        }
        if fate == Fate::Failed {
            self.notices.failed.extend(batch.records.iter().filter_map(key));
        }
    }

    /// Nothing of a batch is stored, and some of its posts were before: the rest is to be sealed again.
    pub(super) fn already_stored(&mut self, batch: BatchId, known: &[(usize, Stamp)]) {
        let Some(returned) = self.in_flight.take_if(|in_flight| in_flight.batch == batch) else { return };
        self.settle(&returned, Fate::Open);
        let posted = |record: &&Record| matches!(record, Record::Posted { .. });
        for (at, _) in known {
            let nth = returned.records[..*at].iter().filter(posted).count();
            if let Some((conn, Some(request))) = returned.posts.get(nth).copied()
                && let Some(asked) = self.asked.get_mut(&conn).and_then(|asked| asked.get_mut(&request))
            {
                asked.fate = Fate::Durable;
            }
        }
    }

    /// A batch goes to the disk.
    pub(super) fn sealed(&mut self, batch: BatchId, records: &[Record]) -> Verdict {
        if self.in_flight.is_some() {
            return Err("two batches are in flight".into());
        }
        let (mut posts, mut facts, mut sealed) = (Vec::new(), Vec::new(), BTreeSet::new());
        for record in records {
            let Record::Posted { channel, from, payload, origin, .. } = record else {
                self.fact_sealed(record, &mut facts)?;
                continue;
            };
            if self.model.mailboxes.contains_key(channel) {
                posts.push(self.find_mail(from, payload, origin)?);
                continue;
            }
            let Some(name) = self.model.channels.get(channel).map(|channel| channel.name.clone()) else {
                return Err(format!("a post goes to {channel:?}, which is none"));
            };
            posts.push(match &origin.signed {
                None => self.find_post(*channel, &name, from, payload)?,
                Some(_) => self.find_signed((*channel, &name), from, payload, origin, &sealed)?,
            });
            sealed.extend(key(record));
        }
        self.in_flight = Some(InFlight { batch, records: records.to_vec(), posts, facts });
        Ok(())
    }

    /// The live session whose own a path is: one that was superseded has an equal path.
    fn poster(&self, from: &Arc<SessionPath>) -> Option<ConnId> {
        let conn = self.paths.get(from).copied()?;
        self.sessions.get(&conn).is_some_and(|session| Arc::ptr_eq(&session.path, from)).then_some(conn)
    }

    /// Whose post a record is: the oldest open one of its session, which may have ended.
    fn find_post(
        &mut self,
        channel: ChannelId,
        name: &ChannelName,
        from: &Arc<SessionPath>,
        payload: &Payload,
    ) -> Result<(ConnId, Option<RequestId>), String> {
        let Some(conn) = self.poster(from) else { return Ok((ConnId(u64::MAX), None)) };
        let subscribed = self.is_subscribed(conn, channel);
        let open = self.asked.get_mut(&conn).and_then(|asked| {
            asked
                .iter_mut()
                .find(|(_, asked)| asked.fate == Fate::Open && matches!(asked.command, Command::Post { .. }))
        });
        let Some((request, asked)) = open else {
            return Err(format!("a post of {from} is stored that it has not asked for"));
        };
        match &asked.command {
            Command::Post { channel: wanted, payload: posted } if wanted == name && posted == payload => {}
            _ => return Err(format!("a post of {from} to {name} is stored out of its order")),
        }
        if !asked.subscribed && !subscribed {
            return Err(format!("{from} posts to {name}, in which it is not"));
        }
        asked.fate = Fate::Sealed;
        Ok((conn, Some(*request)))
    }

    /// Whose post under an id a record is. Older ones of its session that are open must be posts that others, or
    /// itself, have made before.
    fn find_signed(
        &mut self,
        (channel, name): (ChannelId, &ChannelName),
        from: &Arc<SessionPath>,
        payload: &Payload,
        origin: &Origin,
        sealed: &BTreeSet<PostKey>,
    ) -> Result<(ConnId, Option<RequestId>), String> {
        let Some(conn) = self.poster(from) else { return Ok((ConnId(u64::MAX), None)) };
        let Some(session) = self.sessions.get(&conn) else { return Ok((conn, None)) };
        let (user, subscribed) = (session.user, session.subscriptions.contains(&channel));
        if origin.sender != Some((user, session.machine)) {
            return Err(format!("a post of {from} is stored as that of {:?}", origin.sender));
        }
        let known = |key: &PostKey| {
            self.model.ids.contains_key(key)
                // Perhaps by a session that has ended.
                || sealed.contains(key)
                    || self.asked.values().flat_map(|asked| asked.values()).any(|other| {
                        other.fate == Fate::Sealed && self.key_of(user, other).as_ref() == Some(key)
                    })
        };
        let mut found = None;
        for (request, asked) in self.asked.get(&conn).into_iter().flatten() {
            let Command::Stream(StreamCommand::Post { stream, payload: posted, signed, .. }) = &asked.command
            else {
                continue;
            };
            if asked.fate != Fate::Open {
                continue;
            }
            if means(stream, channel, name) && Some(signed) == origin.signed.as_ref() && posted == payload {
                found = Some((*request, asked.subscribed));
                break;
            }
            // A refusal that is under way leaves no trace here, but such a session was not subscribed.
            let twice = self.key_of(user, asked).is_none_or(|key| known(&key));
            if !twice && asked.subscribed {
                return Err(format!("a post of {from} to {name} is stored before an older one"));
            }
        }
        let Some((request, was_subscribed)) = found else {
            return Err(format!("a post of {from} is stored that it has not asked for"));
        };
        if !was_subscribed && !subscribed {
            return Err(format!("{from} posts to {name}, in which it is not"));
        }
        if let Some(asked) = self.asked.get_mut(&conn).and_then(|asked| asked.get_mut(&request)) {
            asked.fate = Fate::Sealed;
        }
        Ok((conn, Some(request)))
    }

    /// Whose post to a mailbox a record is.
    fn find_mail(
        &mut self,
        from: &Arc<SessionPath>,
        payload: &Payload,
        origin: &Origin,
    ) -> Result<(ConnId, Option<RequestId>), String> {
        let Some(conn) = self.poster(from) else { return Ok((ConnId(u64::MAX), None)) };
        let session = self.sessions.get(&conn).map(|session| (session.user, session.machine));
        demand!(origin.sender == session, "a post of {from} is stored as that of {:?}", origin.sender);
        let is_it = |asked: &Asked| match &asked.command {
            Command::Stream(StreamCommand::Post { payload: posted, signed, .. }) => {
                asked.fate == Fate::Open && Some(signed) == origin.signed.as_ref() && posted == payload
            }
            _ => false,
        };
        let asked = self.asked.get_mut(&conn).into_iter().flatten().find(|(_, asked)| is_it(asked));
        let Some((request, asked)) = asked else {
            return Err(format!("a message of {from} is stored that it has not asked for"));
        };
        asked.fate = Fate::Sealed;
        Ok((conn, Some(*request)))
    }

    fn key_of(&self, user: UserId, asked: &Asked) -> Option<PostKey> {
        let Command::Stream(StreamCommand::Post { stream, signed, .. }) = &asked.command else { return None };
        Some((self.channel_of(stream)?.0, user, signed.id))
    }

    /// A post of version 2 becomes durable: for the first time, as long as the first is kept.
    pub(super) fn stored_once(&self, record: &Record) -> Verdict {
        let Some(key) = key(record) else { return Ok(()) };
        match self.model.ids.get(&key) {
            Some(stamp) if self.purged.get(&key.0).is_none_or(|purged| purged.seq < stamp.seq) => {
                Err(format!("{key:?} is stored at {stamp:?}, and once more"))
            }
            _ => Ok(()),
        }
    }

    /// Checks the answer to a post of version 2.
    pub(super) fn posted_under_id(
        &self,
        conn: ConnId,
        asked: &Asked,
        id: MessageId,
        reply: &Reply,
    ) -> Verdict {
        let Some(session) = self.sessions.get(&conn) else { return Ok(()) };
        match reply {
            Reply::Stream(StreamReply::Stored { stream, stamp, .. }) => {
                let durable = self.model.ids.get(&(*stream, session.user, id));
                demand!(durable == Some(stamp), "{id:?} is said to be at {stamp:?}, and is at {durable:?}");
                Ok(())
            }
            Reply::Refused(Refusal::NotStored { .. }) if asked.fate == Fate::Failed => Ok(()),
            // It waited for a post of the same id, which failed.
            Reply::Refused(Refusal::NotStored { .. })
                if self.notices.failed.iter().any(|failed| failed.1 == session.user && failed.2 == id) =>
            {
                Ok(())
            }
            Reply::Refused(Refusal::NotStored { .. }) => {
                Err(format!("{id:?} is refused, and no batch failed"))
            }
            Reply::Refused(_) if asked.fate == Fate::Open => Ok(()),
            Reply::Refused(_) => Err(format!("a post was refused that is {:?}", asked.fate)),
            _ => Err("a post was answered with something else".into()),
        }
    }
}

fn key(record: &Record) -> Option<PostKey> {
    let Record::Posted { channel, origin, .. } = record else { return None };
    Some((*channel, origin.sender?.0, origin.signed.as_ref()?.id))
}

/// Checks the answer to a post of version 1.
pub(super) fn posted(asked: &Asked, reply: &Reply) -> Verdict {
    match (reply, asked.fate) {
        (Reply::Sent, Fate::Durable) => Ok(()),
        (Reply::Sent, fate) => Err(format!("a post was acknowledged that is {fate:?}")),
        (Reply::Refused(Refusal::NotStored { .. }), Fate::Failed) => Ok(()),
        (Reply::Refused(_), Fate::Open) => Ok(()),
        (Reply::Refused(_), fate) => Err(format!("a post was refused that is {fate:?}")),
        _ => Err("a post was answered with something else".into()),
    }
}
