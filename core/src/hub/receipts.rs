//! How far readers have come. Positions are kept in memory and written with the next commit, at most once a second: a
//! crash moves a position back, never forward.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::commit::{Change, Fact, FollowUp};
use super::decide::Asker;
use super::{Action, ConnId, Hub};
use crate::directory::Reader;
use crate::name::SessionPath;
use crate::opaque::Opaque;
use crate::protocol::{Refusal, Reply};
use crate::record::{Ack, ChannelId, Cursor, ReaderId, Record, UserId};
use crate::stream::{Notice, Position, Receipt, ReceiptState, StreamReply};
use crate::time::{Monotonic, Now};

/// How often positions are written.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// How often those who watch are told: only the newest position of each reader counts.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// Positions that are written with one commit.
const WRITE_AT_ONCE: usize = 4_096;
/// The longest word of an acknowledgement, in bytes.
const MAX_WORD: usize = 256;

/// Positions that are ahead of the store, and who watches them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Receipts {
    /// Positions that moved since they were written.
    moved: BTreeMap<(ChannelId, ReaderId), Cursor>,
    /// Those of them that are a reader's first in their stream, and whose readers they are.
    first: BTreeMap<(ChannelId, ReaderId), UserId>,
    /// When to write them.
    write_at: Option<Monotonic>,
    /// The time has come.
    write_due: bool,
    /// What is noted though it changes nothing else that is kept: written with the next commit.
    notes: Vec<Record>,
    /// The server stops: this is the last time that positions are written.
    stopping: bool,
    watchers: BTreeMap<ChannelId, BTreeSet<ConnId>>,
    /// Readers whose position those who watch do not know yet.
    untold: BTreeMap<ChannelId, BTreeSet<ReaderId>>,
    tell_at: Option<Monotonic>,
}

impl Receipts {
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.write_at.into_iter().chain(self.tell_at).min()
    }

    /// Has those who watch told at this time, or before.
    pub(super) fn tell_by(&mut self, at: Monotonic) {
        self.tell_at = Some(self.tell_at.map_or(at, |other| other.min(at)));
    }

    pub(super) fn write_due(&self) -> bool {
        self.write_due
    }

    /// The positions that are due to be written.
    pub(super) fn take_due(&mut self) -> Vec<Record> {
        if !core::mem::take(&mut self.write_due) {
            return Vec::new();
        }
        let most = if self.stopping { usize::MAX } else { WRITE_AT_ONCE };
        let due = self.moved.iter().take(most);
        let positions = due.map(|((channel, reader), cursor)| Record::CursorMoved {
            reader: *reader,
            channel: *channel,
            cursor: *cursor,
        });
        positions.chain(core::mem::take(&mut self.notes)).collect()
    }

    /// A position is durable.
    pub(super) fn written(&mut self, now: Now, channel: ChannelId, reader: ReaderId, cursor: Cursor) {
        if self.moved.get(&(channel, reader)) == Some(&cursor) {
            self.moved.remove(&(channel, reader));
        }
        self.first.remove(&(channel, reader));
        self.schedule(now);
    }

    /// Has something noted with the next commit.
    pub(super) fn note(&mut self, record: Record) {
        self.notes.push(record);
        self.write_due = true;
    }

    /// How much is to be noted.
    pub(super) fn notes(&self) -> usize {
        self.notes.len()
    }

    /// What was taken is to be noted once more, before what came since.
    pub(super) fn note_again(&mut self, taken: Vec<Record>) {
        let notes = taken.into_iter().filter(|record| matches!(record, Record::Audited(_)));
        self.notes.splice(0..0, notes);
    }

    /// What was taken by [`Receipts::take_due`] is to be taken once more.
    pub(super) fn write_again(&mut self) {
        self.write_due = true;
    }

    /// The server stops: what is not written would be lost.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.write_due |= !self.moved.is_empty();
    }

    /// A batch failed: what it held is written with another.
    pub(super) fn not_written(&mut self, now: Now) {
        self.schedule(now);
    }

    fn schedule(&mut self, now: Now) {
        if !self.moved.is_empty() && !self.write_due && self.write_at.is_none() {
            self.write_at = Some(now.mono + WRITE_EVERY);
        }
    }

    /// Forgets a channel that is gone.
    pub(super) fn forget_channel(&mut self, channel: ChannelId) {
        self.moved.retain(|(other, _), _| *other != channel);
        self.first.retain(|(other, _), _| *other != channel);
        self.watchers.remove(&channel);
        self.untold.remove(&channel);
    }

    /// The streams in which a reader of the user's has just got its first position.
    pub(super) fn begun_by(&self, user: UserId) -> impl Iterator<Item = ChannelId> {
        let of_user = self.first.iter().filter(move |(_, reader)| **reader == user);
        of_user.map(|((channel, _), _)| *channel)
    }

    /// Whether a reader of the user's has just got its first position in a stream.
    pub(super) fn begins(&self, user: UserId, channel: ChannelId) -> bool {
        let first =
            self.first.range((channel, ReaderId(0))..).take_while(|((other, _), _)| *other == channel);
        first.map(|(_, reader)| *reader).any(|reader| reader == user)
    }

    pub(super) fn watchers_of(&self, channel: ChannelId) -> Vec<ConnId> {
        self.watchers.get(&channel).into_iter().flatten().copied().collect()
    }

    pub(super) fn unwatch(&mut self, conn: ConnId, channel: ChannelId) {
        if let Some(watchers) = self.watchers.get_mut(&channel) {
            watchers.remove(&conn);
            if watchers.is_empty() {
                self.watchers.remove(&channel);
                self.untold.remove(&channel);
            }
        }
    }
}

impl Hub {
    /// The newest position of a reader, whether it is written or not.
    pub(super) fn cursor(&self, channel: ChannelId, reader: ReaderId) -> Option<Cursor> {
        let moved = self.receipts.moved.get(&(channel, reader)).copied();
        moved.or_else(|| self.directory.reader(reader)?.cursors.get(&channel).copied())
    }

    fn move_cursor(&mut self, now: Now, channel: ChannelId, reader: ReaderId, cursor: Cursor) {
        if self.cursor(channel, reader) != Some(cursor) {
            self.receipts.moved.insert((channel, reader), cursor);
            self.receipts.schedule(now);
            self.tell_later(now, channel, reader);
        }
    }

    fn tell_later(&mut self, now: Now, channel: ChannelId, reader: ReaderId) {
        if self.receipts.watchers.contains_key(&channel) {
            self.receipts.untold.entry(channel).or_default().insert(reader);
            if self.receipts.tell_at.is_none() {
                self.receipts.tell_at = Some(now.mono + TELL_EVERY);
            }
        }
    }

    /// A reader subscribes behind `after`. Where it skips messages, it claims nothing about them.
    pub(super) fn place_cursor(&mut self, now: Now, channel: ChannelId, reader: ReaderId, after: u64) {
        let cursor = self.cursor(channel, reader);
        if cursor.is_none_or(|cursor| after > cursor.delivered) {
            let at = now.wall;
            let cursor =
                Cursor { since: after, delivered: after, delivered_at: at, seen: after, seen_at: at };
            self.move_cursor(now, channel, reader, cursor);
            // A reader without a position would start at the latest message, and never get what it missed: the first
            // position does not wait.
            let is_first = |it: &Reader| !it.cursors.contains_key(&channel);
            if let Some(found) = self.directory.reader(reader).filter(|it| is_first(it)) {
                self.receipts.first.insert((channel, reader), found.user);
                self.receipts.write_again();
            }
        }
    }

    /// A reader reports how far it has come.
    pub(super) fn report(
        &mut self,
        now: Now,
        asker: &Asker,
        channel: ChannelId,
        delivered: u64,
        seen: u64,
    ) -> Result<Option<Reply>, Refusal> {
        let (reader, sent) = self.reader_in(asker, channel)?;
        let Some(mut cursor) = self.cursor(channel, reader) else { return Err(Refusal::NotKept) };
        if delivered.max(seen) > sent {
            return Err(Refusal::NotSentYet { sent });
        }
        // What was seen was delivered.
        let delivered = delivered.max(seen);
        if delivered > cursor.delivered {
            (cursor.delivered, cursor.delivered_at) = (delivered, now.wall);
        }
        if seen > cursor.seen {
            (cursor.seen, cursor.seen_at) = (seen, now.wall);
        }
        self.move_cursor(now, channel, reader, cursor);
        Ok(Some(Reply::Stream(StreamReply::Done)))
    }

    /// A reader confirms one message.
    pub(super) fn acknowledge(
        &mut self,
        now: Now,
        asker: &Asker,
        channel: ChannelId,
        seq: u64,
        word: Opaque<String>,
    ) -> Result<Option<Reply>, Refusal> {
        let (reader, sent) = self.reader_in(asker, channel)?;
        if seq == 0 || seq > sent {
            return Err(Refusal::NotSentYet { sent });
        }
        if word.len() > MAX_WORD {
            return Err(Refusal::WordTooLong { most: MAX_WORD });
        }
        let record = Record::Acknowledged { reader, channel, ack: Ack { seq, word, at: now.wall } };
        self.gathering.facts.push_back(Fact { conn: asker.conn, request: asker.request, record });
        Ok(None)
    }

    /// A user sets whether others learn how far its sessions have come.
    pub(super) fn set_receipts(&mut self, asker: &Asker, on: bool) -> Option<Reply> {
        let (user, done) = (asker.user, Reply::Stream(StreamReply::Done));
        if self.directory.shows_receipts(user) == on {
            return Some(done);
        }
        let records = alloc::vec![Record::ReceiptsSet { user, on }];
        let follow_up = FollowUp::Reply { conn: asker.conn, request: asker.request, reply: done };
        self.propose(Change { records, follow_up });
        None
    }

    /// An acknowledgement is durable.
    pub(super) fn acknowledged(&mut self, now: Now, channel: ChannelId, reader: ReaderId) {
        self.tell_later(now, channel, reader);
    }

    /// The session's reader, and the last message of the channel that it was sent.
    fn reader_in(&self, asker: &Asker, channel: ChannelId) -> Result<(ReaderId, u64), Refusal> {
        let reader = self.sessions.get(&asker.conn).and_then(|session| session.reader);
        let reader = reader.ok_or(Refusal::NotKept)?;
        Ok((reader, self.sent_up_to(asker.conn, channel)))
    }

    /// Who has a message.
    pub(super) fn receipts_of(&self, channel: ChannelId, seq: u64) -> StreamReply {
        let mut readers: Vec<Receipt> = self
            .directory
            .readers_of(channel)
            .chain(
                self.receipts
                    .moved
                    .range((channel, ReaderId(0))..)
                    .map_while(|((other, reader), _)| (*other == channel).then_some(*reader)),
            )
            .collect::<BTreeSet<ReaderId>>()
            .into_iter()
            .filter_map(|id| {
                let reader = self.directory.reader(id)?;
                let cursor = self.cursor(channel, id)?;
                let off = !self.directory.shows_receipts(reader.user);
                Some(receipt(self.path_of(reader)?, reader, (channel, seq), &cursor, off))
            })
            .collect();
        readers.sort_unstable_by(|a, b| a.reader.cmp(&b.reader));
        StreamReply::Receipts { stream: channel, seq, readers }
    }

    pub(super) fn watch(&mut self, conn: ConnId, channel: ChannelId, on: bool) {
        if on {
            self.receipts.watchers.entry(channel).or_default().insert(conn);
        } else {
            self.receipts.unwatch(conn, channel);
        }
    }

    /// Does what is due: has positions written, tells those who watch.
    pub(super) fn tell_receipts(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.receipts.write_at.is_some_and(|at| at <= now.mono) {
            self.receipts.write_at = None;
            self.receipts.write_due |= !self.receipts.moved.is_empty();
        }
        if self.receipts.tell_at.is_none_or(|at| at > now.mono) {
            return;
        }
        self.receipts.tell_at = None;
        self.tell_comings(now, actions);
        for (stream, readers) in core::mem::take(&mut self.receipts.untold) {
            let positions = readers.into_iter().filter_map(|id| Some((id, self.position(stream, id)?)));
            let positions: Vec<(ReaderId, Position)> = positions.collect();
            if self.directory.mailbox(stream).is_some() {
                for conn in self.receipts.watchers_of(stream) {
                    self.tell_own(conn, stream, &positions, actions);
                }
            }
            let readers: Arc<Vec<Position>> = Arc::new(positions.into_iter().map(|(_, it)| it).collect());
            for conn in self.receipts.watchers.get(&stream).into_iter().flatten() {
                if self.is_subscribed(*conn, stream) {
                    let notice = Notice::ReceiptsMoved { stream, readers: readers.clone() };
                    actions.push(Action::Notify { conn: *conn, notice });
                }
            }
        }
    }

    fn position(&self, channel: ChannelId, id: ReaderId) -> Option<Position> {
        let reader = self.directory.reader(id)?;
        let cursor = self.cursor(channel, id)?;
        let newest = reader.acks.get(&channel).and_then(|acks| acks.last());
        let on = self.directory.shows_receipts(reader.user);
        if !on && newest.is_none() {
            return None;
        }
        Some(Position {
            reader: self.path_of(reader)?,
            since: if on { cursor.since } else { 0 },
            delivered: if on { cursor.delivered } else { 0 },
            seen: if on { cursor.seen } else { 0 },
            acknowledged: newest.map(|ack| (ack.seq, ack.word.clone())),
        })
    }

    pub(super) fn path_of(&self, reader: &Reader) -> Option<Arc<SessionPath>> {
        let user = self.directory.user(reader.user)?;
        let machine = user.machines.iter().find(|machine| machine.id == reader.machine)?;
        Some(Arc::new(SessionPath {
            user: user.name.clone(),
            machine: machine.name.clone(),
            session: reader.handle.clone(),
        }))
    }
}

fn receipt(
    path: Arc<SessionPath>,
    reader: &Reader,
    (channel, seq): (ChannelId, u64),
    cursor: &Cursor,
    off: bool,
) -> Receipt {
    let ack = reader.acks.get(&channel).and_then(|acks| acks.iter().find(|ack| ack.seq == seq));
    let claims = |up_to: u64| !off && cursor.since < seq && seq <= up_to;
    let (state, at) = match ack {
        Some(ack) => (ReceiptState::Acknowledged, Some(ack.at)),
        None if claims(cursor.seen) => (ReceiptState::Seen, Some(cursor.seen_at)),
        None if claims(cursor.delivered) => (ReceiptState::Delivered, Some(cursor.delivered_at)),
        None => (ReceiptState::Stored, None),
    };
    let word = ack.map(|ack| ack.word.clone()).filter(|word| !word.is_empty());
    Receipt { reader: path, state, at, word, off }
}
