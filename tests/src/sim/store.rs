//! The simulated disk: records that are durable, a log for each channel, and commits under way that a crash may
//! lose or keep.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use conclave_core::directory::Directory;
use conclave_core::hub::{BatchId, Range, Read};
use conclave_core::key::PublicKey;
use conclave_core::name::SessionPath;
use conclave_core::payload::Payload;
use conclave_core::protocol::Stamped;
use conclave_core::record::{ChannelId, Record, Stamp};
use conclave_core::stream::Origin;

/// A durable message.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Its place.
    pub stamp: Stamp,
    /// Who posted it.
    pub from: Arc<SessionPath>,
    /// What it says.
    pub payload: Arc<Payload>,
    /// Where it comes from.
    pub origin: Origin,
}

/// What a channel's history holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    /// Its messages; kept for comparison after the channel is gone.
    pub rows: Vec<Row>,
    /// The channel is gone: nobody reads it any more.
    pub gone: bool,
}

/// The disk.
#[derive(Debug, Default)]
pub(super) struct Store {
    records: Vec<Record>,
    logs: BTreeMap<ChannelId, Log>,
    /// How often each text is durable.
    texts: BTreeMap<String, u64>,
    under_way: VecDeque<(BatchId, Vec<Record>)>,
    /// Commits fail until this time.
    pub full_until: u64,
    /// The next commit fails.
    pub fail_next: bool,
    /// Commits are slow until this time.
    pub slow_until: u64,
    /// Reads fail until this time.
    pub unreadable_until: u64,
}

impl Store {
    /// A batch is to be committed.
    pub(super) fn submit(&mut self, batch: BatchId, records: Vec<Record>) {
        self.under_way.push_back((batch, records));
    }

    /// The oldest commit under way comes to its end: durable, or not at all.
    ///
    /// # Errors
    /// What the server is told.
    pub(super) fn commit(&mut self, at: u64) -> Option<(BatchId, Result<(), String>)> {
        let (batch, records) = self.under_way.pop_front()?;
        if at < self.full_until || std::mem::take(&mut self.fail_next) {
            return Some((batch, Err("the disk is full".into())));
        }
        self.keep(records);
        Some((batch, Ok(())))
    }

    /// The process dies: what is under way becomes durable or not. Says how many became so.
    pub(super) fn crash(&mut self, mut survives: impl FnMut() -> bool) -> usize {
        let mut kept = 0;
        // One after another: what follows a lost commit is lost, too.
        while let Some((_, records)) = self.under_way.pop_front() {
            if !survives() {
                self.under_way.clear();
                break;
            }
            self.keep(records);
            kept += 1;
        }
        kept
    }

    /// Makes records durable.
    pub(super) fn keep(&mut self, records: Vec<Record>) {
        for record in &records {
            match record {
                Record::Posted { channel, stamp, from, payload, origin } => {
                    let row = Row {
                        stamp: *stamp,
                        from: from.clone(),
                        payload: payload.clone(),
                        origin: origin.clone(),
                    };
                    self.logs.entry(*channel).or_default().rows.push(row);
                    if let Payload::Plain(text) = &**payload {
                        match self.texts.get_mut(text) {
                            Some(count) => *count += 1,
                            None => {
                                self.texts.insert(text.clone(), 1);
                            }
                        }
                    }
                }
                Record::ChannelDeleted { channel } => self.logs.entry(*channel).or_default().gone = true,
                _ => {}
            }
        }
        self.records.extend(records);
    }

    /// The state that the durable records add up to.
    pub(super) fn load(&self) -> Directory {
        self.records.iter().collect()
    }

    /// Whether a key was ever durably a machine's.
    pub(super) fn has_enrolled(&self, public: &PublicKey) -> bool {
        self.records.iter().any(|record| matches!(record, Record::MachineAdded { key, .. } if key == public))
    }

    /// All durable records, oldest first.
    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    /// A channel's messages.
    pub(super) fn rows(&self, channel: ChannelId) -> &[Row] {
        self.logs.get(&channel).map(|log| &log.rows[..]).unwrap_or_default()
    }

    /// Whether a channel is durably gone, though the hub may not know it yet.
    pub(super) fn is_gone(&self, channel: ChannelId) -> bool {
        self.logs.get(&channel).is_some_and(|log| log.gone)
    }

    /// How often a text is durable.
    pub(super) fn count(&self, text: &str) -> u64 {
        self.texts.get(text).copied().unwrap_or_default()
    }

    /// How often each text is durable.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&String, u64)> {
        self.texts.iter().map(|(text, count)| (text, *count))
    }

    /// A page of history as it is now.
    ///
    /// # Errors
    /// What the server is told.
    pub(super) fn read(&self, at: u64, read: &Read) -> Result<Vec<Stamped>, String> {
        if at < self.unreadable_until {
            return Err("the disk does not answer".into());
        }
        let Some(log) = self.logs.get(&read.channel).filter(|log| !log.gone) else { return Ok(Vec::new()) };
        let rows: Vec<&Row> = match read.range {
            // The last ones, still oldest first.
            Range::Before(_) => {
                let end = log.rows.partition_point(|row| read.range.contains(row.stamp));
                log.rows[end.saturating_sub(read.max_rows)..end].iter().collect()
            }
            Range::Since(_) | Range::After(_) => {
                let start = log.rows.partition_point(|row| !read.range.contains(row.stamp));
                log.rows[start..].iter().take(read.max_rows).collect()
            }
        };
        let mut bytes = 0;
        let mut page = Vec::new();
        for row in rows {
            bytes += row.payload.size() + 32;
            if bytes > read.max_bytes && !page.is_empty() {
                break;
            }
            page.push(Stamped {
                from: (*row.from).clone(),
                ts: row.stamp.ts,
                payload: (*row.payload).clone(),
                seq: row.stamp.seq,
                origin: row.origin.clone(),
            });
        }
        Ok(page)
    }
}
