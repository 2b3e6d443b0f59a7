//! What a server asks of its store, whatever keeps the records.
//!
//! A backend is opened and its directory loaded by whoever starts the server; from then on the server knows it by
//! [`Backend`] alone. Nothing here waits: outcomes come to the [`EventSink`] that the backend was started with.

use std::sync::Arc;
use std::time::Duration;

use conclave_core::audit::Entry;
use conclave_core::hub::Range;
use conclave_core::protocol::Stamped;
use conclave_core::record::{ChannelId, Record, Stamp};
use conclave_core::time::UnixMillis;

/// A store at work.
pub trait Backend: Send + Sync {
    /// Makes `records` durable, whole or not at all, after all earlier batches. [`Event::Persisted`] or
    /// [`Event::AlreadyStored`] always follows.
    fn persist(&self, batch: u64, records: Vec<Record>);

    /// Reads a page, oldest message first, and hands it to `callback` on any thread, which must not be blocked.
    /// Whatever was reported as persisted before this call is seen.
    fn read(&self, request: Request, callback: PageCallback);

    /// Reads a page of the audit trail, newest first, and hands it to `callback` as [`Backend::read`] does.
    fn read_audit(&self, request: AuditRequest, callback: AuditCallback);

    /// Starts to remove the messages stamped before `cutoff`. [`Event::Purged`] follows when they are gone.
    fn purge_older_than(&self, cutoff: UnixMillis);

    /// Measures the space: [`Event::Space`] follows. A backend that knows nothing of it does nothing.
    fn measure(&self) {}

    /// Finishes everything that was asked, then ends. This may wait for the disk.
    fn stop(self: Box<Self>);
}

/// Where a backend reports. It is called on any thread, and must not block.
pub type EventSink = Arc<dyn Fn(Event) + Send + Sync>;

/// Takes a page of history.
pub type PageCallback = Box<dyn FnOnce(Result<Vec<Stamped>, StoreError>) + Send>;

/// Takes a page of the audit trail.
pub type AuditCallback = Box<dyn FnOnce(Result<Vec<Entry>, StoreError>) + Send>;

/// What a backend reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A batch is durable, or nothing of it was stored.
    Persisted {
        /// The batch's number, as it was given to [`Backend::persist`].
        batch: u64,
        /// What it cost, or why it failed.
        result: Result<CommitStats, StoreError>,
    },
    /// Nothing of a batch was stored: some of its posts are in the store already, from the same users in the same
    /// channels under the same ids.
    AlreadyStored {
        /// The batch's number.
        batch: u64,
        /// All such posts, by their position among the batch's records, in order, and where they are stored.
        posts: Vec<(usize, Stamp)>,
    },
    /// All messages older than what [`Backend::purge_older_than`] named are gone.
    Purged {
        /// How many there were.
        rows: u64,
    },
    /// The answer to [`Backend::measure`].
    Space {
        /// The bytes that the store takes.
        stored: u64,
        /// The bytes that it may still take: what is free on its disk, and what was purged.
        free: u64,
    },
    /// Something in the background failed that an operator should know of: a purge that is tried again later,
    /// rows of history that cannot be read.
    Warning(StoreError),
}

/// What making a batch durable cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitStats {
    /// The batch's records.
    pub rows: usize,
    /// The bytes of the messages among them.
    pub bytes: usize,
    /// How long its transaction took. Batches that were waiting together share one.
    pub duration: Duration,
}

/// Which page of history to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Of which channel.
    pub channel: ChannelId,
    /// Which of its messages.
    pub range: Range,
    /// At most so many messages.
    pub max_rows: usize,
    /// At most so many bytes of messages, counted as version 1 encodes them, and with their ids and signatures; but one
    /// message always fits.
    pub max_bytes: usize,
}

/// Which page of the audit trail to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditRequest {
    /// Of which channel; `None`: of everything.
    pub channel: Option<ChannelId>,
    /// Only entries with lower numbers.
    pub before: Option<u64>,
    /// At most so many entries.
    pub max_rows: usize,
}

/// Why the store did not do what it was asked; nothing of it was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No space left.
    #[error("the disk is full: free some space")]
    Full,
    /// The database cannot be written to.
    #[error("the database cannot be written to: make the data directory writable")]
    ReadOnly,
    /// Another program holds the database.
    #[error("another program keeps the database locked: end it")]
    Busy,
    /// The database contradicts itself.
    #[error("the database is damaged ({0}): restore a backup")]
    Corrupt(String),
    /// The disk failed.
    #[error("the disk failed: {0}")]
    Io(String),
    /// The records contradict what is stored: a bug in whoever decided them.
    #[error("the records contradict what is stored: {0}")]
    Contradiction(String),
    /// The store was stopped.
    #[error("the store was stopped")]
    Closed,
    /// Anything else.
    #[error("the database failed: {0}")]
    Other(String),
}
