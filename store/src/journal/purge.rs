//! Removing old messages and those of deleted channels, a small step at a time.

use std::mem;

use conclave_core::record::ChannelId;
use conclave_core::time::UnixMillis;
use rusqlite::{Connection, OptionalExtension as _, Result, params};

use super::{Options, int, locate, schema};
use crate::transaction::in_transaction;

/// What one step may remove and look at, so that it takes about a millisecond. Rows of one
/// channel lie far from each other, each on a page of its own.
const ROWS: usize = 128;
const BYTES: i64 = 1 << 20;
const CHANNELS: usize = 256;

/// What is left to remove.
#[derive(Default)]
pub(super) struct Purge {
    deleted: Vec<i64>,
    sweep: Option<Sweep>,
    paused: bool,
}

struct Sweep {
    cutoff: i64,
    /// Every channel up to this one is done.
    behind: i64,
    rows: u64,
}

/// How far a step came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is more to do.
    More,
    /// Everything older than the cutoff is gone.
    Swept { rows: u64 },
}

impl Purge {
    /// Remembers which channels were deleted before the last stop.
    pub(super) fn resume(&mut self, connection: &Connection) -> Result<()> {
        let mut statement = connection.prepare("SELECT channel FROM deleted_channels")?;
        self.deleted = statement.query_map([], |row| row.get(0))?.collect::<Result<_>>()?;
        Ok(())
    }

    /// Also removes the messages of channels that no longer are.
    pub(super) fn channels(&mut self, deleted: Vec<ChannelId>) {
        self.paused &= deleted.is_empty();
        self.deleted.extend(deleted.into_iter().map(|channel| int(channel.0)));
    }

    /// Also removes the messages older than `cutoff`.
    pub(super) fn sweep(&mut self, cutoff: UnixMillis) {
        let rows = self.sweep.take().map_or(0, |sweep| sweep.rows);
        self.sweep = Some(Sweep { cutoff: cutoff.0, behind: i64::MIN, rows });
        self.paused = false;
    }

    /// Waits for the next reason to try: the last step failed.
    pub(super) fn pause(&mut self) {
        self.paused = true;
    }

    /// Whether there is anything to do.
    pub(super) fn is_due(&self) -> bool {
        !self.paused && (self.sweep.is_some() || !self.deleted.is_empty())
    }

    /// Does a bounded piece of what there is to do.
    pub(super) fn step(&mut self, connection: &Connection, options: &Options) -> Result<Step> {
        if let Some(&channel) = self.deleted.last() {
            if remove(connection, options, channel, None)? == 0 {
                connection.execute("DELETE FROM deleted_channels WHERE channel = ?1", [channel])?;
                self.deleted.pop();
            }
            return Ok(Step::More);
        }
        let Some(sweep) = &mut self.sweep else { return Ok(Step::More) };
        for _ in 0..CHANNELS {
            let oldest: Option<(i64, bool)> = connection
                .prepare_cached(
                    "SELECT channel, ts < ?2 FROM messages WHERE channel > ?1 AND typeof(ts) = 'integer'
                     ORDER BY channel, seq LIMIT 1",
                )?
                .query_row([sweep.behind, sweep.cutoff], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((channel, is_old)) = oldest else {
                let rows = mem::take(&mut sweep.rows);
                self.sweep = None;
                return Ok(Step::Swept { rows });
            };
            if is_old {
                let removed = remove(connection, options, channel, Some(sweep.cutoff))?;
                sweep.rows += removed;
                if removed > 0 {
                    return Ok(Step::More);
                }
            }
            // In a damaged database this comes to an end, too.
            sweep.behind = sweep.behind.saturating_add(1).max(channel);
        }
        Ok(Step::More)
    }
}

/// Removes the oldest messages of a channel, or the oldest among those stamped before `cutoff`: as many as a step may.
/// Returns how many.
fn remove(connection: &Connection, options: &Options, channel: i64, cutoff: Option<i64>) -> Result<u64> {
    let end = match cutoff {
        Some(cutoff) => locate::first_after(connection, channel, UnixMillis(cutoff.saturating_sub(1)))?,
        None => i64::MAX,
    };
    let Some(last) = end_of_step(connection, channel, end)? else { return Ok(0) };
    // A purge that is lost is done again, so it waits for no disk; the next batch's commit does.
    connection.pragma_update(None, "synchronous", if options.ephemeral { "OFF" } else { "NORMAL" })?;
    let result = in_transaction(connection, |connection| {
        for table in ["channels", "mailboxes"] {
            connection
                .prepare_cached(&format!(
                    "UPDATE {table} SET (last_seq, last_ts) =
                         (SELECT seq, ts FROM messages WHERE channel = ?1 ORDER BY seq DESC LIMIT 1)
                     WHERE id = ?1 AND (SELECT max(seq) FROM messages WHERE channel = ?1) <= ?2"
                ))?
                .execute([channel, last])?;
        }
        connection
            .prepare_cached("DELETE FROM messages WHERE channel = ?1 AND seq <= ?2")?
            .execute([channel, last])
    });
    connection.pragma_update(None, "synchronous", schema::synchronous(options))?;
    result.map(|rows| rows as u64)
}

/// The last message that the next step removes of those before `end`.
fn end_of_step(connection: &Connection, channel: i64, end: i64) -> Result<Option<i64>> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, coalesce(octet_length(body), 0) FROM messages WHERE channel = ?1 AND seq < ?2
         ORDER BY seq LIMIT ?3",
    )?;
    let mut rows = statement.query(params![channel, end, ROWS as i64])?;
    let mut last = None;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        bytes += row.get::<_, i64>(1)?;
        if last.is_some() && bytes > BYTES {
            break;
        }
        last = Some(row.get(0)?);
    }
    Ok(last)
}
