//! The audit trail, as rows.
//!
//! It is bounded in rows, not by the retention: an operator who keeps messages for a day wants to know who banned whom
//! last month. A user who does much pushes out own rows first, so that nobody gets rid of what others did, or of
//! traces among them, by creating and deleting channels.

use std::sync::Arc;

use conclave_core::audit::{Act, Deed, Entry};
use conclave_core::name::{ChannelName, SessionPath};
use conclave_core::record::{ChannelId, UserId};
use conclave_core::time::UnixMillis;
use rusqlite::{Connection, OptionalExtension as _, Result, Row, params};

use super::int;
use crate::backend::AuditRequest;

/// Rows in all; the oldest go.
pub(super) const ROWS: i64 = 200_000;
/// Rows of what one user did, and how many more there may be until they are removed.
pub(super) const USER_ROWS: i64 = 10_000;
const SLACK: i64 = 16;

/// Stores what was done.
pub(super) fn insert(connection: &Connection, deed: &Deed) -> Result<()> {
    insert_bounded(connection, deed, ROWS, USER_ROWS)
}

pub(super) fn insert_bounded(connection: &Connection, deed: &Deed, rows: i64, of_user: i64) -> Result<()> {
    let Deed { at, by, user, act, channel, subject } = deed;
    let (channel, name) = channel.as_ref().map(|(id, name)| (int(id.0), name.as_str())).unzip();
    connection
        .prepare_cached(
            "INSERT INTO audit (at, user, path, act, channel, channel_name, subject)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![at.0, int(user.0), by.to_string(), act.as_str(), channel, name, subject])?;
    let newest = connection.last_insert_rowid();
    connection.prepare_cached("DELETE FROM audit WHERE id <= ?1")?.execute([newest - rows])?;
    if newest % SLACK == 0 {
        let oldest: Option<i64> = connection
            .prepare_cached("SELECT id FROM audit WHERE user = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2")?
            .query_row([int(user.0), of_user], |row| row.get(0))
            .optional()?;
        if let Some(oldest) = oldest {
            connection
                .prepare_cached("DELETE FROM audit WHERE user = ?1 AND id <= ?2")?
                .execute([int(user.0), oldest])?;
        }
    }
    Ok(())
}

/// Reads a page, newest first. A row that makes no entry is left out.
pub(super) fn page(connection: &Connection, request: AuditRequest) -> Result<Vec<Entry>> {
    let before = request.before.map_or(i64::MAX, int);
    let rows = i64::try_from(request.max_rows).unwrap_or(i64::MAX);
    let columns = "SELECT id, at, user, path, act, channel, channel_name, subject FROM audit WHERE";
    let read = |row: &Row<'_>| entry(row);
    let page: Result<Vec<Option<Entry>>> = match request.channel {
        Some(channel) => connection
            .prepare_cached(&format!("{columns} channel = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3"))?
            .query_map([int(channel.0), before, rows], read)?
            .collect(),
        None => connection
            .prepare_cached(&format!("{columns} id < ?1 ORDER BY id DESC LIMIT ?2"))?
            .query_map([before, rows], read)?
            .collect(),
    };
    Ok(page?.into_iter().flatten().collect())
}

fn entry(row: &Row<'_>) -> Result<Option<Entry>> {
    let text = |column| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_str().ok().map(str::to_owned));
    let number = |column| Ok::<_, rusqlite::Error>(u64::try_from(row.get::<_, i64>(column)?).ok());
    let path = text(3)?.and_then(|path| path.parse::<SessionPath>().ok());
    let act = text(4)?.and_then(|act| Act::named(&act));
    let channel = match row.get::<_, Option<i64>>(5)? {
        Some(_) => number(5)?.zip(text(6)?.and_then(|name| ChannelName::new(&name).ok())),
        None => None,
    };
    let (Some(id), Some(user), Some(path), Some(act)) = (number(0)?, number(2)?, path, act) else {
        return Ok(None);
    };
    let deed = Deed {
        at: UnixMillis(row.get(1)?),
        by: Arc::new(path),
        user: UserId(user),
        act,
        channel: channel.map(|(id, name)| (ChannelId(id), name)),
        subject: text(7)?,
    };
    Ok(Some(Entry { number: id, deed }))
}
