//! Readers, their positions and their acknowledgements as SQL, inside the caller's transaction. The rules are those of
//! the directory.

use conclave_core::record::{Ack, ChannelId, Cursor, MachineId, ReaderId, UserId};
use rusqlite::{Connection, Result, params};

use super::int;

/// Acknowledgements of one reader in one channel that are kept, as in the directory.
const ACKS: i64 = 64;

/// Removes the readers of a user, or of one of its machines.
pub(super) fn remove(connection: &Connection, user: UserId, machine: Option<MachineId>) -> Result<()> {
    let of = params![int(user.0), machine.map(|machine| int(machine.0))];
    for sql in [
        "DELETE FROM cursors WHERE reader IN
             (SELECT id FROM readers WHERE user = ?1 AND (?2 IS NULL OR machine = ?2))",
        "DELETE FROM acks WHERE reader IN
             (SELECT id FROM readers WHERE user = ?1 AND (?2 IS NULL OR machine = ?2))",
        "DELETE FROM readers WHERE user = ?1 AND (?2 IS NULL OR machine = ?2)",
    ] {
        connection.prepare_cached(sql)?.execute(of)?;
    }
    Ok(())
}

/// Moves a reader's position, unless the reader or the stream is gone.
pub(super) fn place(
    connection: &Connection,
    reader: ReaderId,
    channel: ChannelId,
    cursor: &Cursor,
) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO cursors (reader, channel, since, delivered, delivered_at, seen, seen_at)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7
             WHERE EXISTS (SELECT 1 FROM readers WHERE id = ?1)
                 AND (EXISTS (SELECT 1 FROM channels WHERE id = ?2) OR EXISTS (SELECT 1 FROM mailboxes WHERE id = ?2))
             ON CONFLICT (reader, channel) DO UPDATE SET
                 since = excluded.since, delivered = excluded.delivered, delivered_at = excluded.delivered_at,
                 seen = excluded.seen, seen_at = excluded.seen_at",
        )?
        .execute(params![
            int(reader.0),
            int(channel.0),
            int(cursor.since),
            int(cursor.delivered),
            cursor.delivered_at.0,
            int(cursor.seen),
            cursor.seen_at.0
        ])
        .map(drop)
}

/// Adds an acknowledgement in the place of the reader's earlier one of the same message, and removes the oldest past
/// [`ACKS`]; does nothing if the reader or the stream is gone.
pub(super) fn acknowledge(
    connection: &Connection,
    reader: ReaderId,
    channel: ChannelId,
    ack: &Ack,
) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO acks (reader, channel, seq, word, at) SELECT ?1, ?2, ?3, ?4, ?5
             WHERE EXISTS (SELECT 1 FROM readers WHERE id = ?1)
                 AND (EXISTS (SELECT 1 FROM channels WHERE id = ?2) OR EXISTS (SELECT 1 FROM mailboxes WHERE id = ?2))",
        )?
        .execute(params![int(reader.0), int(channel.0), int(ack.seq), ack.word.0, ack.at.0])?;
    connection
        .prepare_cached(
            "DELETE FROM acks WHERE id IN
                 (SELECT id FROM acks WHERE reader = ?1 AND channel = ?2 ORDER BY id DESC LIMIT -1 OFFSET ?3)",
        )?
        .execute(params![int(reader.0), int(channel.0), ACKS])
        .map(drop)
}

pub(super) fn set_receipts(connection: &Connection, user: UserId, on: bool) -> Result<()> {
    let sql = if on {
        "DELETE FROM receipts_off WHERE user = ?1"
    } else {
        "INSERT OR IGNORE INTO receipts_off (user) SELECT id FROM users WHERE id = ?1"
    };
    connection.prepare_cached(sql)?.execute([int(user.0)]).map(drop)
}
