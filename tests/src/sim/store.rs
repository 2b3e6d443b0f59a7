//! The simulated disk: records that are durable, a log for each channel, and commits under way that a crash may
//! lose or keep.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use conclave_core::directory::Directory;
use conclave_core::hub::{BatchId, Range, Read};
use conclave_core::key::PublicKey;
use conclave_core::name::SessionPath;
use conclave_core::payload::Payload;
use conclave_core::protocol::Stamped;
use conclave_core::record::{ChannelId, Record, Stamp, UserId};
use conclave_core::stream::{MessageId, Origin};

use crate::chance::Chance;

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
    /// So many of the oldest are purged: nobody reads them any more.
    pub purged: usize,
    /// The channel is gone: nobody reads it any more.
    pub gone: bool,
}

/// What identifies a post of version 2.
type PostKey = (ChannelId, UserId, MessageId);

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Committed {
    /// It is durable.
    Stored,
    /// Nothing of it is: some of its posts are there already.
    Known(Vec<(usize, Stamp)>),
    /// Nothing of it is.
    Failed(String),
    /// Nothing of it is, and that is the server's fault: it has one post twice.
    Repeats,
}

/// The disk.
#[derive(Debug, Default)]
pub(super) struct Store {
    records: Vec<Record>,
    logs: BTreeMap<ChannelId, Log>,
    /// The posts of version 2 that are kept.
    ids: BTreeMap<PostKey, Stamp>,
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
    pub(super) fn commit(&mut self, at: u64) -> Option<(BatchId, Committed)> {
        let (batch, records) = self.under_way.pop_front()?;
        if at < self.full_until || std::mem::take(&mut self.fail_next) {
            return Some((batch, Committed::Failed("the disk is full".into())));
        }
        let outcome = self.duplicates(&records);
        if outcome == Committed::Stored {
            self.keep(records);
        }
        Some((batch, outcome))
    }

    /// Whether a batch has posts that are there already.
    fn duplicates(&self, records: &[Record]) -> Committed {
        let (mut known, mut own) = (Vec::new(), BTreeSet::new());
        for (at, record) in records.iter().enumerate() {
            let Some((key, _)) = identity(record) else { continue };
            if let Some(stamp) = self.ids.get(&key) {
                known.push((at, *stamp));
            } else if !own.insert(key) {
                return Committed::Repeats;
            }
        }
        if known.is_empty() { Committed::Stored } else { Committed::Known(known) }
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
            if self.duplicates(&records) == Committed::Stored {
                self.keep(records);
                kept += 1;
            }
        }
        kept
    }

    /// Makes records durable.
    pub(super) fn keep(&mut self, records: Vec<Record>) {
        for record in &records {
            if let Some((key, stamp)) = identity(record) {
                self.ids.insert(key, stamp);
            }
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

    /// All channels' messages.
    pub(super) fn logs(&self) -> impl Iterator<Item = (ChannelId, &Log)> + Clone {
        self.logs.iter().map(|(channel, log)| (*channel, log))
    }

    /// A channel's messages.
    pub(super) fn rows(&self, channel: ChannelId) -> &[Row] {
        self.logs.get(&channel).map(|log| &log.rows[..]).unwrap_or_default()
    }

    /// So many of a channel's oldest messages are purged.
    pub(super) fn purged(&self, channel: ChannelId) -> usize {
        self.logs.get(&channel).map_or(0, |log| log.purged)
    }

    /// The newest message of each channel that is purged.
    pub(super) fn newest_purged(&self) -> BTreeMap<ChannelId, Stamp> {
        let newest = |log: &Log| log.purged.checked_sub(1).map(|at| log.rows[at].stamp);
        self.logs.iter().filter_map(|(channel, log)| Some((*channel, newest(log)?))).collect()
    }

    /// The retention takes some of the oldest messages of some channels.
    pub(super) fn purge(&mut self, luck: &mut Chance) {
        for log in self.logs.values_mut() {
            if luck.one_in(2) {
                let kept = log.rows.len() - log.purged;
                let most = *luck.pick(&[kept, kept, kept / 4]);
                log.purged += luck.index(most + 1);
            }
        }
        let logs = &self.logs;
        self.ids.retain(|(channel, ..), stamp| logs[channel].purged < stamp.seq as usize);
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
        let kept = &log.rows[log.purged..];
        let backwards = matches!(read.range, Range::Before(_));
        // Those that stand next to the place that is named.
        let rows: Vec<&Row> = if backwards {
            let end = kept.partition_point(|row| read.range.contains(row.stamp));
            kept[..end].iter().rev().take(read.max_rows).collect()
        } else {
            let start = kept.partition_point(|row| !read.range.contains(row.stamp));
            kept[start..].iter().take(read.max_rows).collect()
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
        if backwards {
            page.reverse();
        }
        Ok(page)
    }
}

/// What identifies a post of version 2, and where it is to be stored.
fn identity(record: &Record) -> Option<(PostKey, Stamp)> {
    let Record::Posted { channel, stamp, origin, .. } = record else { return None };
    Some(((*channel, origin.sender?.0, origin.signed.as_ref()?.id), *stamp))
}
