//! What readers claim. A claim is what its reader reported, or where it started; what is written is never more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use conclave_core::hub::{ConnId, RequestId};
use conclave_core::name::SessionPath;
use conclave_core::protocol::Command;
use conclave_core::record::{ChannelId, Cursor, ReaderId, Record};
use conclave_core::stream::{Position, Receipt, ReceiptState, StreamCommand, StreamRef};
use conclave_core::time::Now;

use super::model::Model;
use super::{Asked, Fate, Verdict, Watch};

/// How long those who watch may wait, in milliseconds; the hub gathers for a tenth of a second.
const PATIENCE: u64 = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Readers {
    /// Where each reader stands, whether it is written or not.
    pub claims: BTreeMap<(ChannelId, ReaderId), Cursor>,
    /// Acknowledgements that were under way when their session ended.
    left: BTreeSet<(ReaderId, u64, String)>,
    /// Which readers each of those who watch is to be told of, and since when.
    untold: BTreeMap<(ConnId, ChannelId), (u64, BTreeSet<ReaderId>)>,
}

impl Readers {
    /// The claims of a server that starts: those that are written.
    pub(super) fn of(model: &Model) -> Self {
        Self { claims: model.cursors.clone(), ..Self::default() }
    }

    /// A session has ended, with these requests under way.
    pub(super) fn leave(&mut self, reader: Option<ReaderId>, asked: BTreeMap<RequestId, Asked>) {
        let Some(reader) = reader else { return };
        // One whose batch comes back from the store is sealed once more.
        let under_way = |asked: &Asked| matches!(asked.fate, Fate::Open | Fate::Sealed);
        for asked in asked.into_values().filter(under_way) {
            if let Command::Stream(StreamCommand::Acknowledge { seq, word, .. }) = asked.command {
                self.left.insert((reader, seq, word.0));
            }
        }
    }

    /// Nobody who watches waits too long.
    pub(super) fn told_in_time(&self, now: Now) -> Verdict {
        match self.untold.iter().find(|(_, (since, _))| since + PATIENCE < now.mono.0) {
            Some((watch, (_, readers))) => Err(format!("{watch:?} was not told of {readers:?}")),
            None => Ok(()),
        }
    }
}

impl Watch {
    /// A reader's position changed: those who watch are to be told.
    fn moved(&mut self, now: Now, channel: ChannelId, reader: ReaderId) {
        for (conn, session) in &self.sessions {
            if session.watches.contains(&channel) {
                let untold = self.readers.untold.entry((*conn, channel));
                untold.or_insert((now.mono.0, BTreeSet::new())).1.insert(reader);
            }
        }
    }

    /// A subscription of a reader starts behind `after`.
    pub(super) fn placed(&mut self, now: Now, (channel, reader): (ChannelId, ReaderId), after: u64) {
        let cursor = self.readers.claims.get(&(channel, reader));
        if cursor.is_none_or(|cursor| after > cursor.delivered) {
            let (delivered_at, seen_at) = (now.wall, now.wall);
            let cursor = Cursor { since: after, delivered: after, delivered_at, seen: after, seen_at };
            self.readers.claims.insert((channel, reader), cursor);
            self.moved(now, channel, reader);
        }
    }

    /// A reader's report was taken.
    pub(super) fn reported(
        &mut self,
        now: Now,
        conn: ConnId,
        stream: &StreamRef,
        delivered: u64,
        seen: u64,
    ) -> Verdict {
        let id = self.stream_of(stream).filter(|id| self.is_subscribed(conn, *id));
        let reader = self.session_of_version_2(conn)?.reader;
        let (Some(id), Some(reader)) = (id, reader) else {
            return Err(format!("{conn:?} reports on {stream:?}, in which it is not, or without a reader"));
        };
        let sent = self.sent(conn, id);
        demand!(delivered.max(seen) <= sent, "{conn:?} reports {delivered}, {seen}, and was sent {sent}");
        let Some(cursor) = self.readers.claims.get_mut(&(id, reader)) else {
            return Err(format!("{conn:?} reports and has no position"));
        };
        let before = *cursor;
        let kept = delivered.max(seen);
        if kept > cursor.delivered {
            (cursor.delivered, cursor.delivered_at) = (kept, now.wall);
        }
        if seen > cursor.seen {
            (cursor.seen, cursor.seen_at) = (seen, now.wall);
        }
        if *cursor != before {
            self.moved(now, id, reader);
        }
        Ok(())
    }

    /// A record about a reader goes to the disk.
    pub(super) fn fact_sealed(&mut self, record: &Record, facts: &mut Vec<(ConnId, RequestId)>) -> Verdict {
        match record {
            Record::CursorMoved { reader, channel, cursor } => {
                let gone = !self.model.readers.contains_key(reader) || !self.model.has(*channel);
                let claim = self.readers.claims.get(&(*channel, *reader));
                demand!(
                    gone || claim == Some(cursor),
                    "{cursor:?} is written of {reader:?}, which is at {claim:?}"
                );
            }
            Record::Acknowledged { reader, channel, ack } => {
                let same = |asked: &Asked| match &asked.command {
                    Command::Stream(StreamCommand::Acknowledge { stream, seq, word }) => {
                        asked.fate == Fate::Open
                            && (*seq, &word.0) == (ack.seq, &ack.word.0)
                            && self.channel_of(stream).is_none_or(|(id, _)| id == *channel)
                    }
                    _ => false,
                };
                let sessions = self.sessions.iter().filter(|(_, session)| session.reader == Some(*reader));
                let found = sessions.clone().find_map(|(conn, _)| {
                    let asked = self.asked.get(conn)?;
                    asked.iter().find(|(_, asked)| same(asked)).map(|(request, _)| (*conn, *request))
                });
                if let Some((conn, request)) = found {
                    facts.push((conn, request));
                    if let Some(asked) = self.asked.get_mut(&conn).and_then(|asked| asked.get_mut(&request)) {
                        asked.fate = Fate::Sealed;
                    }
                } else {
                    let left = (*reader, ack.seq, ack.word.0.clone());
                    demand!(
                        self.readers.left.contains(&left),
                        "{ack:?} of {reader:?} is stored, and nobody said it"
                    );
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Remembers what a reader had acknowledged last before a batch.
    pub(super) fn before_acknowledgement(&mut self, record: &Record) {
        if let Record::Acknowledged { reader, channel, .. } = record {
            let before = self.model.acks.get(&(*channel, *reader)).and_then(|acks| acks.last()).cloned();
            self.notices.acknowledged.entry((*channel, *reader)).or_insert(before);
        }
    }

    /// A durable record changes what readers claim.
    pub(super) fn readers_change(&mut self, now: Now, record: &Record) {
        match record {
            Record::Acknowledged { reader, channel, .. } if self.model.readers.contains_key(reader) => {
                self.moved(now, *channel, *reader);
            }
            Record::ChannelDeleted { channel } => {
                self.notices.removes = true;
                self.readers.claims.retain(|(other, _), _| other != channel);
                self.readers.untold.retain(|(_, other), _| other != channel);
            }
            Record::UserRemoved { .. } | Record::MachineRemoved { .. } => {
                self.notices.removes = true;
                let known = &self.model.readers;
                self.readers.claims.retain(|(_, reader), _| known.contains_key(reader));
                for (_, readers) in self.readers.untold.values_mut() {
                    readers.retain(|reader| known.contains_key(reader));
                }
                self.readers.untold.retain(|_, (_, readers)| !readers.is_empty());
            }
            _ => {}
        }
    }

    /// Who watches no more is owed nothing.
    pub(super) fn forget_watches(&mut self) {
        let sessions = &self.sessions;
        self.readers.untold.retain(|(conn, channel), _| {
            sessions.get(conn).is_some_and(|session| session.watches.contains(channel))
        });
    }

    pub(super) fn reader_at(&self, path: &SessionPath) -> Option<ReaderId> {
        let user = self.model.user_named(&path.user)?;
        let machines = &self.model.users.get(&user)?.machines;
        let (machine, _) = machines.iter().find(|(_, (name, _))| *name == path.machine)?;
        let mut readers = self.model.readers.iter();
        readers.find(|(_, it)| it.machine == *machine && it.handle == path.session).map(|(id, _)| *id)
    }

    /// One who watches is told where readers stand: exactly there.
    pub(super) fn receipts_moved(
        &mut self,
        conn: ConnId,
        channel: ChannelId,
        told: &Arc<Vec<Position>>,
    ) -> Verdict {
        // It was due before the batch that ends the subscription.
        let ends = self.notices.ends.contains_key(&(conn, channel));
        let watches = self.session_of_version_2(conn)?.watches.contains(&channel) || ends;
        demand!(watches, "{conn:?} is told of receipts in {channel:?}, which it does not watch");
        let mut known = BTreeSet::new();
        for position in told.iter() {
            let Some(reader) = self.reader_at(&position.reader) else {
                // The batch of this call may have removed it.
                if self.notices.removes {
                    continue;
                }
                return Err(format!("a reader is told that is none: {}", position.reader));
            };
            known.insert(reader);
            let claim = self.readers.claims.get(&(channel, reader)).copied().unwrap_or_default();
            let newest = self.model.acks.get(&(channel, reader)).and_then(|acks| acks.last());
            let newest = self.notices.acknowledged.get(&(channel, reader)).map_or(newest, Option::as_ref);
            let same = (position.since, position.delivered, position.seen)
                == (claim.since, claim.delivered, claim.seen)
                && position.acknowledged == newest.map(|ack| (ack.seq, ack.word.clone()));
            let same = same || self.notices.removes;
            demand!(same, "{position:?} is told, and the reader claims {claim:?}, {newest:?}");
        }
        if let Some((_, untold)) = self.readers.untold.get_mut(&(conn, channel)) {
            untold.retain(|reader| !known.contains(reader));
            if untold.is_empty() {
                self.readers.untold.remove(&(conn, channel));
            }
        }
        Ok(())
    }

    /// Who has a message: all readers of the channel, each with what it claims.
    pub(super) fn receipts_told(&self, channel: ChannelId, seq: u64, told: &[Receipt]) -> Verdict {
        let mut expected: Vec<(String, ReceiptState, Option<String>)> = Vec::new();
        for ((_, id), claim) in self.readers.claims.iter().filter(|((of, _), _)| *of == channel) {
            let Some(path) = self.model.path_of(*id) else { continue };
            let acks = self.model.acks.get(&(channel, *id));
            let ack = acks.and_then(|acks| acks.iter().find(|ack| ack.seq == seq));
            let state = match ack {
                Some(_) => ReceiptState::Acknowledged,
                None if seq > claim.since && seq <= claim.seen => ReceiptState::Seen,
                None if seq > claim.since && seq <= claim.delivered => ReceiptState::Delivered,
                None => ReceiptState::Stored,
            };
            let word = ack.map(|ack| ack.word.0.clone()).filter(|word| !word.is_empty());
            expected.push((path, state, word));
        }
        let mut told: Vec<(String, ReceiptState, Option<String>)> = told
            .iter()
            .map(|one| (one.reader.to_string(), one.state, one.word.as_ref().map(|word| word.0.clone())))
            .collect();
        expected.sort_unstable();
        told.sort_unstable();
        demand!(told == expected, "receipts of {seq} of {channel:?}: told {told:?}, and {expected:?} are so");
        Ok(())
    }
}
