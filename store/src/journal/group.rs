//! Batches that waited together, as one transaction.

use conclave_core::record::{ChannelId, Record, Stamp};
use rusqlite::{Connection, Error};

use super::apply::{Applied, Applier};
use super::message;
use crate::transaction::{in_savepoint, in_transaction};

/// A batch of records and its number.
pub(super) struct Batch {
    pub(super) number: u64,
    pub(super) records: Vec<Record>,
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is stored, with so many bytes of content.
    Stored { bytes: usize },
    /// Nothing of it is stored: these posts were there already.
    AlreadyStored(Vec<(usize, Stamp)>),
    /// Nothing of it is stored: it has one post twice.
    Repeated,
}

/// What became of a group.
pub(super) struct Done {
    /// For each of its batches.
    pub(super) outcomes: Vec<Outcome>,
    /// The channels that it deleted.
    pub(super) deleted: Vec<ChannelId>,
}

/// Stores the batches of `group` in one transaction: those with posts that are stored already are left out, and if
/// another fails, all do.
pub(super) fn store(connection: &Connection, group: &[Batch]) -> Result<Done, Error> {
    match in_transaction(connection, |connection| all(connection, group)) {
        Err(Stop::Duplicate) => {}
        Err(Stop::Failed(error)) => return Err(error),
        Ok(done) => return Ok(done),
    }
    // Rare, so that the usual group pays for no savepoints.
    in_transaction(connection, |connection| each(connection, group))
}

/// Why a batch was given up.
enum Stop {
    Duplicate,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

fn all(connection: &Connection, group: &[Batch]) -> Result<Done, Stop> {
    let mut applier = Applier::new(connection)?;
    let mut deleted = Vec::new();
    let mut outcomes = Vec::with_capacity(group.len());
    for batch in group {
        let bytes = apply(&mut applier, &batch.records, &mut deleted)?;
        outcomes.push(Outcome::Stored { bytes });
    }
    Ok(Done { outcomes, deleted })
}

fn each(connection: &Connection, group: &[Batch]) -> Result<Done, Error> {
    let mut applier = Applier::new(connection)?;
    let mut deleted = Vec::new();
    let mut outcomes = Vec::with_capacity(group.len());
    for Batch { records, .. } in group {
        let before = deleted.len();
        match in_savepoint(connection, || apply(&mut applier, records, &mut deleted)) {
            Ok(bytes) => outcomes.push(Outcome::Stored { bytes }),
            Err(Stop::Duplicate) => {
                deleted.truncate(before);
                outcomes.push(duplicates(connection, records)?);
            }
            Err(Stop::Failed(error)) => return Err(error),
        }
    }
    Ok(Done { outcomes, deleted })
}

/// Applies a batch. Returns its bytes of content.
fn apply(applier: &mut Applier<'_>, records: &[Record], deleted: &mut Vec<ChannelId>) -> Result<usize, Stop> {
    let mut sum = 0;
    for record in records {
        match applier.apply(record, deleted)? {
            Applied::Stored { bytes } => sum += bytes,
            Applied::Duplicate => return Err(Stop::Duplicate),
        }
    }
    Ok(sum)
}

/// Finds which posts of a batch are stored already.
fn duplicates(connection: &Connection, records: &[Record]) -> Result<Outcome, Error> {
    let mut stored = Vec::new();
    for (position, record) in records.iter().enumerate() {
        if let Record::Posted { channel, origin, .. } = record
            && let Some(identity) = message::identity(*channel, origin)
            && let Some(stamp) = message::find(connection, identity)?
        {
            stored.push((position, stamp));
        }
    }
    Ok(if stored.is_empty() { Outcome::Repeated } else { Outcome::AlreadyStored(stored) })
}
