//! The streams that a reader follows, and what is unread in them.

use conclave_core::link::OwnMailbox;
use conclave_core::name::ChannelName;
use conclave_core::protocol::Stamped;
use conclave_core::record::ChannelId;
use conclave_core::wire::v2::kept;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::Fault;
use super::{
    MAX_READERS, MAX_STREAMS, MAX_UNREAD, MAX_UNREAD_BYTES, Reader, State, StateError, room, seq_in, seq_out,
};

/// What the name of a mailbox begins with: no channel's does.
const MAILBOX: char = '\u{1}';

fn mailbox_name(mailbox: OwnMailbox) -> &'static str {
    match mailbox {
        OwnMailbox::User => "\u{1}user",
        OwnMailbox::Session => "\u{1}session",
    }
}

/// A channel that a reader follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The stream.
    pub stream: ChannelId,
    /// Its name when it was last heard of.
    pub name: ChannelName,
    /// Everything up to here is kept here, was put before the reader, or is not wanted.
    pub delivered: u64,
    /// Everything up to here was put before the reader, or is not wanted. Never more than `delivered`.
    pub seen: u64,
}

impl State {
    /// The channels that a reader follows, in the order of their streams' numbers.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn followed(&self, reader: &Reader) -> Result<Vec<Followed>, StateError> {
        self.read(|connection| {
            let Some(reader) = find(connection, reader)? else { return Ok(Vec::new()) };
            let mut statement = connection.prepare_cached(
                "SELECT stream, name, delivered, seen FROM streams WHERE reader = ?1 LIMIT ?2",
            )?;
            let mut rows = statement.query(params![reader, MAX_STREAMS as i64])?;
            let mut followed = Vec::new();
            while let Some(row) = rows.next()? {
                let name = row.get_ref(1)?.as_str().map_err(|_| Fault::Damaged("a name in it is none"))?;
                if name.starts_with(MAILBOX) {
                    continue;
                }
                let delivered = seq_out(row.get(2)?)?;
                followed.push(Followed {
                    stream: ChannelId(row.get::<_, i64>(0)?.cast_unsigned()),
                    name: ChannelName::new(name)?,
                    delivered,
                    seen: seq_out(row.get(3)?)?.min(delivered),
                });
            }
            followed.sort_by_key(|followed| followed.stream);
            Ok(followed)
        })
    }

    /// Follows a stream from right behind the message `after`. Where it is followed already, only its name is taken:
    /// positions stay.
    ///
    /// # Errors
    /// [`StateError::TooMany`] at [`MAX_STREAMS`] streams or [`MAX_READERS`] readers; and all others.
    pub fn follow(
        &self,
        reader: &Reader,
        stream: ChannelId,
        name: &ChannelName,
        after: u64,
    ) -> Result<(), StateError> {
        self.follow_as(reader, stream, name.as_str(), after)
    }

    /// Reads a mailbox from right behind the message `after`. Where it is read already, its positions stay.
    ///
    /// # Errors
    /// As [`State::follow`].
    pub fn open_mailbox(
        &self,
        reader: &Reader,
        mailbox: OwnMailbox,
        stream: ChannelId,
        after: u64,
    ) -> Result<(), StateError> {
        self.follow_as(reader, stream, mailbox_name(mailbox), after)
    }

    /// Where a reader stands in a mailbox: its stream, `delivered` and `seen`.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn mailbox(
        &self,
        reader: &Reader,
        mailbox: OwnMailbox,
    ) -> Result<Option<(ChannelId, u64, u64)>, StateError> {
        self.read(|connection| {
            let Some(reader) = find(connection, reader)? else { return Ok(None) };
            let mut statement = connection.prepare_cached(
                "SELECT stream, delivered, seen FROM streams WHERE reader = ?1 AND name = ?2 ORDER BY stream DESC",
            )?;
            let mut rows = statement.query(params![reader, mailbox_name(mailbox)])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            let delivered = seq_out(row.get(1)?)?;
            let stream = ChannelId(row.get::<_, i64>(0)?.cast_unsigned());
            Ok(Some((stream, delivered, seq_out(row.get(2)?)?.min(delivered))))
        })
    }

    fn follow_as(
        &self,
        reader: &Reader,
        stream: ChannelId,
        name: &str,
        after: u64,
    ) -> Result<(), StateError> {
        self.write(|connection| {
            let (after, stream) = (seq_in(after)?, stream.0.cast_signed());
            let reader = find_or_add(connection, reader)?;
            let renamed = connection
                .prepare_cached("UPDATE streams SET name = ?3 WHERE reader = ?1 AND stream = ?2")?
                .execute(params![reader, stream, name])?;
            if renamed == 0 {
                let count = connection
                    .prepare_cached("SELECT count(*) FROM streams WHERE reader = ?1")?
                    .query_row([reader], |row| row.get(0))?;
                let advice = "leave channels that you do not need";
                room(count, "streams that are followed", MAX_STREAMS, advice)?;
                connection
                    .prepare_cached("INSERT INTO streams (reader, stream, name, delivered, seen) VALUES (?1, ?2, ?3, ?4, ?4)")?
                    .execute(params![reader, stream, name, after])?;
            }
            Ok(())
        })
    }

    /// Forgets a stream, its positions and what is unread in it.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn unfollow(&self, reader: &Reader, stream: ChannelId) -> Result<(), StateError> {
        self.write(|connection| {
            let Some(reader) = find(connection, reader)? else { return Ok(()) };
            let stream = stream.0.cast_signed();
            for sql in [
                "DELETE FROM streams WHERE reader = ?1 AND stream = ?2",
                "DELETE FROM unread WHERE reader = ?1 AND stream = ?2",
            ] {
                connection.prepare_cached(sql)?.execute([reader, stream])?;
            }
            connection
                .prepare_cached(
                    "DELETE FROM readers WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM streams WHERE reader = ?1)",
                )?
                .execute([reader])?;
            Ok(())
        })
    }

    /// Keeps messages of a stream, in their order, as unread, and moves `delivered` to the last of them. What is at or
    /// below `delivered` already is ignored: to keep a message twice is to keep it once. All are kept at once.
    ///
    /// Returns `delivered`. If that is before the last of the messages, the reader has too much unread, and the others
    /// were not kept: they have to come again once something is seen.
    ///
    /// # Errors
    /// [`StateError::NotFollowed`], [`StateError::OutOfRange`] and all others; then none are kept.
    pub fn keep(&self, reader: &Reader, stream: ChannelId, messages: &[Stamped]) -> Result<u64, StateError> {
        self.write(|connection| {
            let place = Place::find(connection, reader, stream)?;
            let (mut count, mut bytes) = unread(connection, place.reader)?;
            let mut delivered = place.delivered;
            let mut insert = connection.prepare_cached(
                "INSERT INTO unread (reader, stream, seq, size, message) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for message in messages {
                let seq = seq_in(message.seq)?;
                if seq <= delivered {
                    continue;
                }
                if count >= MAX_UNREAD as u64 || bytes >= MAX_UNREAD_BYTES {
                    break;
                }
                let encoded = kept::encode(message);
                let size = encoded.len() as u64;
                insert.execute(params![place.reader, place.stream, seq, size.cast_signed(), encoded])?;
                (count, bytes, delivered) = (count + 1, bytes + size, seq);
            }
            place.deliver(connection, delivered)
        })
    }

    /// Moves `delivered` forward without keeping a message: past a gap, or what is not wanted. Returns `delivered`, which
    /// never moves back.
    ///
    /// # Errors
    /// [`StateError::NotFollowed`], [`StateError::OutOfRange`] and all others.
    pub fn advance(&self, reader: &Reader, stream: ChannelId, delivered: u64) -> Result<u64, StateError> {
        self.write(|connection| {
            let delivered = seq_in(delivered)?;
            let place = Place::find(connection, reader, stream)?;
            place.deliver(connection, delivered)
        })
    }

    /// Moves `seen` forward, but not past `delivered` nor to what was given up, and forgets the messages up to there. Returns
    /// `seen`, which never moves back.
    ///
    /// # Errors
    /// [`StateError::NotFollowed`] and all others.
    pub fn seen(&self, reader: &Reader, stream: ChannelId, seq: u64) -> Result<u64, StateError> {
        self.write(|connection| {
            let place = Place::find(connection, reader, stream)?;
            let most = place.skipped.map_or(place.delivered, |skipped| place.delivered.min(skipped - 1));
            let seen = seq_in(seq).unwrap_or(i64::MAX).min(most).max(place.seen);
            if seen > place.seen {
                let key = params![place.reader, place.stream, seen];
                connection
                    .prepare_cached("UPDATE streams SET seen = ?3 WHERE reader = ?1 AND stream = ?2")?
                    .execute(key)?;
                connection
                    .prepare_cached("DELETE FROM unread WHERE reader = ?1 AND stream = ?2 AND seq <= ?3")?
                    .execute(key)?;
            }
            seq_out(seen)
        })
    }

    /// Forgets messages that were put before the reader while older ones wait. `seen` stays.
    ///
    /// # Errors
    /// [`StateError::NotFollowed`] and all others.
    pub fn shown(&self, reader: &Reader, stream: ChannelId, seqs: &[u64]) -> Result<(), StateError> {
        self.write(|connection| {
            let place = Place::find(connection, reader, stream)?;
            let mut delete = connection
                .prepare_cached("DELETE FROM unread WHERE reader = ?1 AND stream = ?2 AND seq = ?3")?;
            for seq in seqs {
                delete.execute(params![place.reader, place.stream, seq_in(*seq)?])?;
            }
            Ok(())
        })
    }

    /// Gives up the messages in a range that are kept: they are not put before the reader, and `seen` stays before the first
    /// from now on.
    ///
    /// # Errors
    /// [`StateError::NotFollowed`], [`StateError::OutOfRange`] for a `from` past what a stream reaches, and all others.
    pub fn skip(&self, reader: &Reader, stream: ChannelId, from: u64, to: u64) -> Result<(), StateError> {
        self.write(|connection| {
            let place = Place::find(connection, reader, stream)?;
            let (from, to) = (seq_in(from)?, seq_in(to).unwrap_or(i64::MAX));
            connection
                .prepare_cached(
                    "DELETE FROM unread WHERE reader = ?1 AND stream = ?2 AND seq >= ?3 AND seq <= ?4",
                )?
                .execute(params![place.reader, place.stream, from, to])?;
            if from > place.seen {
                let skipped = place.skipped.map_or(from, |skipped| skipped.min(from));
                connection
                    .prepare_cached("UPDATE streams SET skipped = ?3 WHERE reader = ?1 AND stream = ?2")?
                    .execute(params![place.reader, place.stream, skipped])?;
            }
            Ok(())
        })
    }

    /// The first message of a stream that was given up.
    ///
    /// # Errors
    /// [`StateError::NotFollowed`] and all others.
    pub fn skipped(&self, reader: &Reader, stream: ChannelId) -> Result<Option<u64>, StateError> {
        self.read(|connection| Place::find(connection, reader, stream)?.skipped.map(seq_out).transpose())
    }

    /// The messages of a stream behind `after` that are kept and not seen, oldest first: as many as have no more than
    /// `limit_bytes` when encoded, but one at least, if there is one.
    ///
    /// # Errors
    /// [`StateError`]. For a stream that is not followed nothing is unread.
    pub fn unread(
        &self,
        reader: &Reader,
        stream: ChannelId,
        after: u64,
        limit_bytes: u64,
    ) -> Result<Vec<Stamped>, StateError> {
        self.read(|connection| {
            let after = seq_in(after).unwrap_or(i64::MAX);
            let mut statement = connection.prepare_cached(
                "SELECT u.seq, u.message FROM readers r
                 JOIN streams s ON s.reader = r.id AND s.stream = ?3
                 JOIN unread u ON u.reader = s.reader AND u.stream = s.stream
                 WHERE r.server = ?1 AND r.handle = ?2 AND u.seq > s.seen AND u.seq > ?4 AND u.seq <= s.delivered
                 ORDER BY u.seq",
            )?;
            let (server, handle) = (reader.server.as_bytes(), reader.handle.as_str());
            let mut rows = statement.query(params![server, handle, stream.0.cast_signed(), after])?;
            let (mut messages, mut left) = (Vec::new(), limit_bytes);
            while let Some(row) = rows.next()? {
                let bytes =
                    row.get_ref(1)?.as_blob().map_err(|_| Fault::Damaged("a message in it is none"))?;
                let (size, first) = (bytes.len() as u64, messages.is_empty());
                if size > left && !first {
                    break;
                }
                left = left.saturating_sub(size);
                let message =
                    kept::decode(bytes).map_err(|_| Fault::Damaged("a message in it cannot be read"))?;
                if message.seq != seq_out(row.get(0)?)? {
                    return Err(Fault::Damaged("a message in it is not in its place"));
                }
                messages.push(message);
            }
            Ok(messages)
        })
    }

    /// How many bytes are unread in all streams of a reader, as its messages are encoded.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn unread_bytes(&self, reader: &Reader) -> Result<u64, StateError> {
        self.read(|connection| match find(connection, reader)? {
            None => Ok(0),
            Some(reader) => Ok(unread(connection, reader)?.1),
        })
    }
}

/// Where a reader stands in a stream.
struct Place {
    reader: i64,
    stream: i64,
    delivered: i64,
    seen: i64,
    skipped: Option<i64>,
}

impl Place {
    fn find(connection: &Connection, reader: &Reader, stream: ChannelId) -> Result<Self, Fault> {
        let (server, handle) = (reader.server.as_bytes(), reader.handle.as_str());
        let number = stream.0.cast_signed();
        connection
            .prepare_cached(
                "SELECT s.reader, s.delivered, s.seen, s.skipped FROM readers r JOIN streams s ON s.reader = r.id
                 WHERE r.server = ?1 AND r.handle = ?2 AND s.stream = ?3",
            )?
            .query_row(params![server, handle, number], |row| {
                let (reader, delivered, seen) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok(Self { reader, stream: number, delivered, seen, skipped: row.get(3)? })
            })
            .optional()?
            .ok_or_else(|| StateError::NotFollowed { stream }.into())
    }

    /// Moves `delivered` forward, and returns it.
    fn deliver(&self, connection: &Connection, delivered: i64) -> Result<u64, Fault> {
        if delivered > self.delivered {
            connection
                .prepare_cached("UPDATE streams SET delivered = ?3 WHERE reader = ?1 AND stream = ?2")?
                .execute(params![self.reader, self.stream, delivered])?;
        }
        seq_out(delivered.max(self.delivered))
    }
}

fn find(connection: &Connection, reader: &Reader) -> Result<Option<i64>, Fault> {
    let id = connection
        .prepare_cached("SELECT id FROM readers WHERE server = ?1 AND handle = ?2")?
        .query_row(params![reader.server.as_bytes(), reader.handle.as_str()], |row| row.get(0))
        .optional()?;
    Ok(id)
}

fn find_or_add(connection: &Connection, reader: &Reader) -> Result<i64, Fault> {
    if let Some(id) = find(connection, reader)? {
        return Ok(id);
    }
    let count = connection.query_row("SELECT count(*) FROM readers", [], |row| row.get(0))?;
    room(count, "readers", MAX_READERS, "leave the channels of sessions that you do not need")?;
    connection
        .prepare_cached("INSERT INTO readers (server, handle) VALUES (?1, ?2)")?
        .execute(params![reader.server.as_bytes(), reader.handle.as_str()])?;
    Ok(connection.last_insert_rowid())
}

/// How many messages a reader has unread, and their bytes.
fn unread(connection: &Connection, reader: i64) -> Result<(u64, u64), Fault> {
    let (count, bytes) = connection
        .prepare_cached("SELECT count(*), coalesce(sum(size), 0) FROM unread WHERE reader = ?1")?
        .query_row([reader], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
    Ok((seq_out(count)?, u64::try_from(bytes).map_err(|_| Fault::Damaged("a size in it is negative"))?))
}
