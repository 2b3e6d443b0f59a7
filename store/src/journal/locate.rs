//! Finding a time in a channel without an index of times: they increase with the sequence, which has one.

use conclave_core::time::UnixMillis;
use rusqlite::{Connection, OptionalExtension as _, Result};

/// A sequence number that parts the messages of a channel: all before it are stamped at or before `time`, all from it
/// on after that. Rows whose stamp cannot be read count for neither.
pub(super) fn first_after(connection: &Connection, channel: i64, time: UnixMillis) -> Result<i64> {
    let bounds: (Option<i64>, Option<i64>) = connection
        .prepare_cached(
            "SELECT (SELECT min(seq) FROM messages WHERE channel = ?1),
                    (SELECT max(seq) FROM messages WHERE channel = ?1)",
        )?
        .query_row([channel], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(mut low), Some(last)) = bounds else { return Ok(0) };
    // Numbers count from 1. Halving below zero would round up, and come to no end.
    low = low.max(0);
    // Everything before `low` is early, everything from `high` on is late.
    let mut high = last.saturating_add(1);
    // Where rows are missing, the next one tells as much.
    let mut probe = connection.prepare_cached(
        "SELECT seq, ts FROM messages WHERE channel = ?1 AND seq >= ?2 AND typeof(ts) = 'integer'
         ORDER BY seq LIMIT 1",
    )?;
    while low < high {
        let middle = low.midpoint(high);
        let found: Option<(i64, i64)> =
            probe.query_row([channel, middle], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        match found {
            Some((seq, ts)) if ts <= time.0 => low = seq.max(middle).saturating_add(1),
            _ => high = middle,
        }
    }
    Ok(high)
}
