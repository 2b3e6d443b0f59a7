//! Mailboxes, what waits in them, and contacts as SQL, inside the caller's transaction. The rules are those of the
//! directory.

use conclave_core::directory::Waiting;
use conclave_core::record::{ChannelId, ReaderId, Stamp, UserId};
use conclave_core::stream::Standing;
use conclave_core::time::UnixMillis;
use rusqlite::{Connection, Params, Result, params};

use super::int;

pub(super) fn create(
    connection: &Connection,
    mailbox: ChannelId,
    user: UserId,
    reader: Option<ReaderId>,
    at: UnixMillis,
    last: Stamp,
) -> Result<()> {
    run(
        connection,
        "INSERT INTO mailboxes (id, user, reader, created, last_seq, last_ts) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            int(mailbox.0),
            int(user.0),
            reader.map(|reader| int(reader.0)),
            at.0,
            int(last.seq),
            last.ts.0
        ],
    )
}

/// Removes a user's mailboxes, or those of the kept sessions of one of its machines, and returns which they were. To be
/// called before the readers are gone.
pub(super) fn remove(connection: &Connection, user: UserId, machine: Option<i64>) -> Result<Vec<ChannelId>> {
    let mut found = connection.prepare_cached(
        "SELECT id FROM mailboxes WHERE user = ?1
             AND (?2 IS NULL OR reader IN (SELECT id FROM readers WHERE user = ?1 AND machine = ?2))",
    )?;
    let rows = found.query_map(params![int(user.0), machine], |row| row.get::<_, i64>(0))?;
    let ids = rows.collect::<Result<Vec<_>>>()?;
    for id in &ids {
        for sql in [
            "DELETE FROM mailboxes WHERE id = ?1",
            "DELETE FROM waiting WHERE mailbox = ?1",
            "DELETE FROM cursors WHERE channel = ?1",
            "DELETE FROM acks WHERE channel = ?1",
            "INSERT OR IGNORE INTO deleted_channels (channel) VALUES (?1)",
        ] {
            run(connection, sql, [id])?;
        }
    }
    Ok(ids.into_iter().map(|id| ChannelId(id.unsigned_abs())).collect())
}

/// A message waits in its mailbox, unless that is gone; what has ended before waits no more.
pub(super) fn wait(connection: &Connection, mailbox: ChannelId, waiting: &Waiting) -> Result<()> {
    run(
        connection,
        "DELETE FROM waiting WHERE mailbox = ?1 AND until <= ?2",
        params![int(mailbox.0), waiting.stamp.ts.0],
    )?;
    run(
        connection,
        "INSERT OR REPLACE INTO waiting (mailbox, seq, ts, sender, message_id, bytes, until)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE EXISTS (SELECT 1 FROM mailboxes WHERE id = ?1)",
        params![
            int(mailbox.0),
            int(waiting.stamp.seq),
            waiting.stamp.ts.0,
            int(waiting.sender.0),
            waiting.id.0,
            int(waiting.bytes as u64),
            waiting.until.0
        ],
    )?;
    run(
        connection,
        "UPDATE contacts SET wrote = 1
         WHERE user = (SELECT user FROM mailboxes WHERE id = ?1) AND other = ?2 AND wrote = 0",
        [int(mailbox.0), int(waiting.sender.0)],
    )
}

/// A reader's position moved: what it has passed waits no more.
pub(super) fn deliver(
    connection: &Connection,
    reader: ReaderId,
    mailbox: ChannelId,
    delivered: u64,
) -> Result<()> {
    run(
        connection,
        "DELETE FROM waiting WHERE mailbox = ?1 AND seq <= ?2
             AND EXISTS (SELECT 1 FROM readers WHERE id = ?3)",
        [int(mailbox.0), int(delivered), int(reader.0)],
    )
}

/// A user stands so to another's mailboxes, unless one of them is gone.
pub(super) fn set_contact(
    connection: &Connection,
    user: UserId,
    other: UserId,
    standing: Option<Standing>,
    wrote: bool,
) -> Result<()> {
    let (user, other) = (int(user.0), int(other.0));
    match standing {
        None => run(connection, "DELETE FROM contacts WHERE user = ?1 AND other = ?2", [user, other]),
        Some(standing) => run(
            connection,
            "INSERT OR REPLACE INTO contacts (user, other, standing, wrote) SELECT ?1, ?2, ?3, ?4
             WHERE EXISTS (SELECT 1 FROM users WHERE id = ?1) AND EXISTS (SELECT 1 FROM users WHERE id = ?2)",
            [user, other, encode(standing), i64::from(wrote)],
        ),
    }
}

pub(super) fn forget_contacts(connection: &Connection, user: UserId) -> Result<()> {
    run(connection, "DELETE FROM contacts WHERE user = ?1 OR other = ?1", [int(user.0)])
}

fn encode(standing: Standing) -> i64 {
    match standing {
        Standing::Allowed => 0,
        Standing::Blocked => 1,
    }
}

fn run(connection: &Connection, sql: &str, params: impl Params) -> Result<()> {
    connection.prepare_cached(sql)?.execute(params).map(drop)
}
