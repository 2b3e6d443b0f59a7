//! A server's data directory: the directory of users and channels, and the messages, in one SQLite database.
//!
//! [`Journal::open`] takes the directory, [`Journal::load`] tells what is stored, [`Journal::start`] moves the
//! work to threads: a [`Writer`] that makes batches of records durable, a [`History`] that reads pages of
//! messages. Nothing of it blocks the caller.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use conclave_core::key::SecretKey;
use conclave_core::record::Record;
use conclave_core::time::UnixMillis;
use rusqlite::Connection;

mod apply;
mod audit;
mod backup;
mod checkpoint;
mod error;
mod group;
mod held_names;
mod home;
mod load;
mod locate;
mod mailboxes;
mod message;
mod purge;
mod queue;
mod reader;
mod readers;
mod schema;
mod sealed;
mod writer;

pub use crate::backend::{AuditRequest, CommitStats, Event, Request, StoreError};
pub use backup::{Replace, backup, restore};
pub use error::OpenError;
pub use reader::History;
pub use writer::Writer;

use crate::backend::{AuditCallback, Backend, EventSink, PageCallback};
use home::Home;

/// How a journal is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Keep everything in a temporary directory that goes when the journal does (on Unix even if the process is
    /// killed), and wait for no disk.
    pub ephemeral: bool,
    /// The database's greatest size in bytes; past it, batches fail with [`StoreError::Full`] until something
    /// is purged. `None`: as large as the disk.
    pub max_size: Option<u64>,
    /// How many threads read history; at least one does.
    pub readers: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { ephemeral: false, max_size: None, readers: 2 }
    }
}

/// An open data directory, owned by this process alone.
pub struct Journal {
    connection: Connection,
    file: PathBuf,
    server_id: String,
    server_key: SecretKey,
    options: Options,
    home: Home,
}

impl Journal {
    /// Takes the data directory `dir`, making or migrating it where needed. If the journal is to be ephemeral,
    /// `dir` is left alone.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do: the directory is in use, cannot be written to, holds something
    /// else or a newer schema, or is damaged.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let home = if options.ephemeral { Home::temporary()? } else { Home::take(dir)? };
        backup::refuse_unfinished_restore(home.dir())?;
        let file = home.database();
        home.refuse_foreign(&file)?;
        let connection = schema::open(&file, &options)?;
        let server_id = schema::server_id(&connection, &file)?;
        let server_key = schema::server_key(&connection, &file)?;
        Ok(Self { connection, file, server_id, server_key, options, home })
    }

    /// The random id of this data directory, the same for as long as it exists, and in its backups.
    pub fn server_id(&self) -> &str {
        &self.server_id
    }

    /// The key by which clients know this server, the same for as long as the data directory exists, and in its
    /// backups.
    pub fn server_key(&self) -> SecretKey {
        self.server_key.clone()
    }

    /// The directory, for messages and for [`backup`].
    pub fn dir(&self) -> &Path {
        self.home.dir()
    }

    /// Hands `sink` the records that make the stored directory, in an order that `Directory::apply` accepts.
    /// Messages are not among them: each channel's and mailbox's record says which is its newest.
    ///
    /// # Errors
    /// [`OpenError::Corrupt`] for a row that makes no record; [`OpenError::Store`] if reading fails.
    pub fn load(&self, sink: &mut impl FnMut(Record)) -> Result<(), OpenError> {
        load::load(&self.connection, &self.file, sink)
    }

    /// Starts the threads that write and read. `on_event` is called on them, and must not block.
    ///
    /// # Errors
    /// [`OpenError`] if a thread or a connection to read cannot be had.
    pub fn start(self, on_event: impl Fn(Event) + Send + Sync + 'static) -> Result<Running, OpenError> {
        let on_event: EventSink = Arc::new(on_event);
        let Self { connection, file, options, home, server_id, .. } = self;
        let readers = reader::Pool::start(&file, &options, &on_event)?;
        let writing = writer::Writing::start(connection, &file, &options, &on_event)?;
        home.hide();
        Ok(Running { readers, writing, server_id, home, on_event })
    }
}

/// A journal at work. Dropping it does as [`Running::stop`] does.
pub struct Running {
    // Dropped in this order: the last connection to close tidies the log up, and one that only reads cannot.
    readers: reader::Pool,
    writing: writer::Writing,
    server_id: String,
    home: Home,
    on_event: EventSink,
}

impl Running {
    /// A handle that writes; cheap to clone.
    pub fn writer(&self) -> Writer {
        self.writing.writer()
    }

    /// A handle that reads; cheap to clone.
    pub fn history(&self) -> History {
        self.readers.history()
    }

    /// The random id of this data directory.
    pub fn server_id(&self) -> &str {
        &self.server_id
    }

    /// The directory, for messages and for [`backup`].
    pub fn dir(&self) -> &Path {
        self.home.dir()
    }

    /// Commits and answers everything queued, refuses what comes later, and gives the directory up.
    pub fn stop(self) {}
}

impl Backend for Running {
    fn persist(&self, batch: u64, records: Vec<Record>) {
        if let Err(why) = self.writer().persist(batch, records) {
            (self.on_event)(Event::Persisted { batch, result: Err(why) });
        }
    }

    fn read(&self, request: Request, callback: PageCallback) {
        self.readers.read(request, callback);
    }

    fn read_audit(&self, request: AuditRequest, callback: AuditCallback) {
        self.readers.read_audit(request, callback);
    }

    fn purge_older_than(&self, cutoff: UnixMillis) {
        self.writer().purge_older_than(cutoff);
    }

    fn measure(&self) {
        self.writer().measure();
    }

    fn stop(self: Box<Self>) {
        Self::stop(*self);
    }
}

/// SQLite's integers are signed. Nothing counts as far as their end.
fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
