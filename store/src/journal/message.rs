//! A message as a row of the table `messages`, and back.

use std::sync::Arc;

use bytes::Bytes;
use conclave_core::name::SessionPath;
use conclave_core::opaque::Opaque;
use conclave_core::payload::{Envelope, Payload};
use conclave_core::protocol::Stamped;
use conclave_core::record::{ChannelId, MachineId, Stamp, UserId};
use conclave_core::stream::{MessageId, Origin, Signed};
use conclave_core::time::UnixMillis;
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Result, Row, ToSql, params};

use super::int;

/// For messages without an id: the index of ids is left alone.
const INSERT: &str = "INSERT INTO messages (channel, ts, seq, sender, kind, body, key_id, user, machine)
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

const INSERT_SIGNED: &str =
    "INSERT INTO messages (channel, ts, seq, sender, kind, body, key_id, user, machine, message_id, signature, flags,
                           expires)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
     ON CONFLICT (message_id, channel, user) WHERE message_id IS NOT NULL DO NOTHING";

/// What [`read`] expects of a row, in this order.
pub(super) const COLUMNS: &str =
    "seq, ts, sender, kind, body, key_id, user, machine, message_id, signature, flags, expires";

const ACKNOWLEDGE: i64 = 1;

/// What a message costs on the wire of version 1 beside its path and payload, at most: three lengths, the stamp, two
/// tags and two long lengths.
const OVERHEAD: usize = 32;

/// What an id and a signature add to that in version 2, at most: themselves, both sequence number and stamp, the
/// sender's identities, its end, and the tags.
const SIGNED_OVERHEAD: usize = 124;

/// What makes a post the same as another.
pub(super) type Identity = (ChannelId, UserId, MessageId);

/// The identity of a post, if it has one.
pub(super) fn identity(channel: ChannelId, origin: &Origin) -> Option<Identity> {
    Some((channel, origin.sender?.0, origin.signed.as_ref()?.id))
}

/// Where the message of this identity is stored.
pub(super) fn find(connection: &Connection, (channel, user, id): Identity) -> Result<Option<Stamp>> {
    connection
        .prepare_cached("SELECT seq, ts FROM messages WHERE message_id = ?1 AND channel = ?2 AND user = ?3")?
        .query_row(params![id.0, int(channel.0), int(user.0)], |row| {
            Ok(Stamp { seq: row.get::<_, i64>(0)?.max(0).unsigned_abs(), ts: UnixMillis(row.get(1)?) })
        })
        .optional()
}

/// Inserts messages.
pub(super) struct Inserter<'c> {
    plain: CachedStatement<'c>,
    signed: CachedStatement<'c>,
    sender: Option<Arc<SessionPath>>,
    sender_text: String,
}

impl<'c> Inserter<'c> {
    pub(super) fn new(connection: &'c Connection) -> Result<Self> {
        let (plain, signed) = (connection.prepare_cached(INSERT)?, connection.prepare_cached(INSERT_SIGNED)?);
        Ok(Self { plain, signed, sender: None, sender_text: String::new() })
    }

    /// Inserts a message, unless one of the same identity is there. Returns whether it did.
    pub(super) fn insert(
        &mut self,
        channel: ChannelId,
        stamp: Stamp,
        from: &Arc<SessionPath>,
        payload: &Payload,
        origin: &Origin,
    ) -> Result<bool> {
        self.name_sender(from);
        let (channel, seq, ts) = (int(channel.0), int(stamp.seq), stamp.ts.0);
        let (kind, body, key_id): (_, &dyn ToSql, _) = match payload {
            Payload::Plain(text) => (0, text, None),
            Payload::Encrypted(envelope) => (1, &envelope.ciphertext, envelope.key_id.as_deref()),
            Payload::Body(body) => (2, &&body[..], None),
        };
        let (user, machine) = origin.sender.map(|(user, machine)| (int(user.0), int(machine.0))).unzip();
        let sender = &self.sender_text;
        let rows = match origin.signed.as_deref() {
            None => {
                self.plain.execute(params![channel, ts, seq, sender, kind, body, key_id, user, machine])?
            }
            Some(signed) => {
                let (id, signature) = (&signed.id.0[..], &signed.signature[..]);
                let flags = if signed.acknowledge { ACKNOWLEDGE } else { 0 };
                let expires = origin.expires.map(|at| at.0);
                self.signed.execute(params![
                    channel, ts, seq, sender, kind, body, key_id, user, machine, id, signature, flags,
                    expires
                ])?
            }
        };
        Ok(rows == 1)
    }

    /// Writes the sender's path, unless it is the one before: a busy session posts many in a row.
    fn name_sender(&mut self, from: &Arc<SessionPath>) {
        if self.sender.as_ref().is_some_and(|sender| Arc::ptr_eq(sender, from)) {
            return;
        }
        self.sender_text.clear();
        for part in [from.user.as_str(), "/", from.machine.as_str(), "/", from.session.as_str()] {
            self.sender_text.push_str(part);
        }
        self.sender = Some(Arc::clone(from));
    }
}

/// A row's message and its size on the wire; `None` if it makes no message.
pub(super) fn read(row: &Row<'_>, senders: &mut Senders) -> Result<Option<(Stamped, usize)>> {
    let (ValueRef::Integer(seq), ValueRef::Integer(ts), ValueRef::Text(sender), ValueRef::Integer(kind)) =
        (row.get_ref(0)?, row.get_ref(1)?, row.get_ref(2)?, row.get_ref(3)?)
    else {
        return Ok(None);
    };
    let payload = match (kind, row.get_ref(4)?) {
        (0, ValueRef::Text(text)) => {
            let Ok(text) = std::str::from_utf8(text) else { return Ok(None) };
            Payload::Plain(text.into())
        }
        (1, ValueRef::Blob(bytes)) => {
            let Ok(key_id) = row.get(5) else { return Ok(None) };
            Payload::Encrypted(Envelope { ciphertext: bytes.into(), key_id })
        }
        (2, ValueRef::Blob(bytes)) => Payload::Body(Bytes::copy_from_slice(bytes)),
        _ => return Ok(None),
    };
    let Some(origin) = read_origin(row)? else { return Ok(None) };
    let (Ok(seq), Some(from)) = (u64::try_from(seq), senders.find(sender)) else { return Ok(None) };
    let overhead = if origin.signed.is_some() { OVERHEAD + SIGNED_OVERHEAD } else { OVERHEAD };
    let size = payload.size() + sender.len() + overhead;
    Ok(Some((Stamped { from, ts: UnixMillis(ts), payload, seq, origin }, size)))
}

fn read_origin(row: &Row<'_>) -> Result<Option<Origin>> {
    let sender = match (row.get_ref(6)?, row.get_ref(7)?) {
        (ValueRef::Null, ValueRef::Null) => None,
        (ValueRef::Integer(user), ValueRef::Integer(machine)) => {
            let (Ok(user), Ok(machine)) = (u64::try_from(user), u64::try_from(machine)) else {
                return Ok(None);
            };
            Some((UserId(user), MachineId(machine)))
        }
        _ => return Ok(None),
    };
    let signed = match row.get_ref(8)? {
        ValueRef::Null => None,
        ValueRef::Blob(id) => {
            let (ValueRef::Blob(signature), ValueRef::Integer(flags)) = (row.get_ref(9)?, row.get_ref(10)?)
            else {
                return Ok(None);
            };
            let (Ok(id), Ok(signature)) = (id.try_into(), signature.try_into()) else { return Ok(None) };
            let acknowledge = flags & ACKNOWLEDGE != 0;
            Some(Arc::new(Signed { id: MessageId(id), signature: Opaque(signature), acknowledge }))
        }
        _ => return Ok(None),
    };
    let expires = match row.get_ref(11)? {
        ValueRef::Null => None,
        ValueRef::Integer(at) => Some(UnixMillis(at)),
        _ => return Ok(None),
    };
    Ok(Some(Origin { sender, signed, expires }))
}

/// The paths of senders, by their texts: parsing one costs more than reading the rest of its row.
pub(super) struct Senders {
    /// A text has one place here, and takes it from whatever was there.
    slots: Vec<Option<(Box<[u8]>, SessionPath)>>,
}

impl Senders {
    pub(super) fn new() -> Self {
        Self { slots: vec![None; 256] }
    }

    fn find(&mut self, text: &[u8]) -> Option<SessionPath> {
        let slot = self.slots.get_mut(usize::from(place(text)))?;
        if let Some((known, path)) = slot
            && **known == *text
        {
            return Some(path.clone());
        }
        let path: SessionPath = std::str::from_utf8(text).ok()?.parse().ok()?;
        *slot = Some((text.into(), path.clone()));
        Some(path)
    }
}

/// A cheap hash.
fn place(text: &[u8]) -> u8 {
    let mut hash = text.len() as u64;
    for chunk in text.chunks(8) {
        let mut word = [0; 8];
        word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        hash = (hash.rotate_left(29) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    (hash >> 56) as u8
}
