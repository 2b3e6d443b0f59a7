//! The thread that writes: whatever has gathered becomes one transaction, and with it durable at once.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use conclave_core::record::Record;
use conclave_core::time::UnixMillis;
use rusqlite::Connection;
use tracing::info_span;

use super::checkpoint::Checkpointer;
use super::error::OpenError;
use super::group::{self, Batch, Done, Outcome};
use super::purge::{Purge, Step};
use super::queue::Queue;
use super::{Options, schema};
use crate::backend::{CommitStats, Event, EventSink, StoreError};
use crate::transaction::in_transaction;

/// Past so many records a transaction is committed even if more wait: nobody waits for ever.
const GROUP: usize = 4096;

/// Makes batches of records durable. Cloning it counts a reference.
#[derive(Clone)]
pub struct Writer {
    queue: Arc<Queue<Task>>,
}

enum Task {
    Persist(Batch),
    Purge { cutoff: UnixMillis },
    Measure,
}

impl Writer {
    /// Queues `records` to be made durable, whole or not at all; [`Event::Persisted`] or [`Event::AlreadyStored`]
    /// tells how it went.
    ///
    /// Batches are stored in the order in which they are queued, and those that wait together may fail
    /// together. Who decides a batch upon one that has not been reported yet must be ready for the earlier to
    /// fail alone.
    ///
    /// # Errors
    /// [`StoreError::Closed`] once the journal was stopped: there will be no event.
    pub fn persist(&self, batch: u64, records: Vec<Record>) -> Result<(), StoreError> {
        let batch = Batch { number: batch, records };
        self.queue.push(Task::Persist(batch)).map_err(|_| StoreError::Closed)
    }

    /// Starts to remove the messages stamped before `cutoff`, in small steps between the batches;
    /// [`Event::Purged`] tells when they are gone.
    pub fn purge_older_than(&self, cutoff: UnixMillis) {
        // A journal that was stopped is purged the next time.
        let _ = self.queue.push(Task::Purge { cutoff });
    }

    /// Has the space measured that is taken and left: [`Event::Space`] tells.
    pub fn measure(&self) {
        let _ = self.queue.push(Task::Measure);
    }
}

/// The bytes that are free where a file lies, as far as the system tells.
fn free_on_disk(file: &Path) -> u64 {
    #[cfg(unix)]
    if let Some(dir) = file.parent()
        && let Ok(disk) = rustix::fs::statvfs(dir)
    {
        return disk.f_bavail.saturating_mul(disk.f_frsize);
    }
    let _ = file;
    u64::MAX
}

/// The thread, ended by dropping this.
pub(super) struct Writing {
    queue: Arc<Queue<Task>>,
    thread: Option<JoinHandle<()>>,
}

impl Writing {
    pub(super) fn start(
        mut connection: Connection,
        file: &Path,
        options: &Options,
        on_event: &EventSink,
    ) -> Result<Self, OpenError> {
        let checkpointer = Checkpointer::start(file, options, on_event)?;
        checkpointer.watch(&mut connection).map_err(|error| OpenError::sqlite(file, error))?;
        let queue = Arc::new(Queue::new());
        let worker = Worker {
            connection,
            checkpointer,
            file: file.into(),
            options: options.clone(),
            queue: Arc::clone(&queue),
            on_event: Arc::clone(on_event),
            purge: Purge::default(),
        };
        let thread = thread::Builder::new()
            .name("journal-writer".into())
            .spawn(|| worker.run())
            .map_err(|source| OpenError::io(file, source))?;
        Ok(Self { queue, thread: Some(thread) })
    }

    pub(super) fn writer(&self) -> Writer {
        Writer { queue: Arc::clone(&self.queue) }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // A panic there was already shown; there is nothing to save here.
            let _ = thread.join();
        }
    }
}

struct Worker {
    connection: Connection,
    checkpointer: Checkpointer,
    file: PathBuf,
    options: Options,
    queue: Arc<Queue<Task>>,
    on_event: EventSink,
    purge: Purge,
}

impl Worker {
    fn run(mut self) {
        if let Err(error) = self.purge.resume(&self.connection) {
            (self.on_event)(Event::Warning(error.into()));
        }
        let mut tasks = VecDeque::new();
        let mut group = Vec::new();
        while self.queue.take(&mut tasks, !self.purge.is_due()) {
            while let Some(task) = tasks.pop_front() {
                match task {
                    Task::Purge { cutoff } => self.purge.sweep(cutoff),
                    Task::Measure => self.measure(),
                    Task::Persist(batch) => {
                        let mut size = batch.records.len();
                        group.push(batch);
                        while size < GROUP
                            && let Some(Task::Persist(_)) = tasks.front()
                            && let Some(Task::Persist(batch)) = tasks.pop_front()
                        {
                            size += batch.records.len();
                            group.push(batch);
                        }
                        self.commit(&mut group);
                    }
                }
            }
            if self.purge.is_due() {
                self.purge_step();
            }
        }
    }

    /// Tells how much space the store takes, and how much is left.
    fn measure(&self) {
        let pragma = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let pages = || {
            Ok::<_, rusqlite::Error>((pragma("page_count")?, pragma("freelist_count")?, pragma("page_size")?))
        };
        match pages() {
            Ok((all, unused, size)) => {
                let [all, unused, size] = [all, unused, size].map(|count| u64::try_from(count).unwrap_or(0));
                let unused = unused.min(all);
                let free = free_on_disk(&self.file).saturating_add(unused * size);
                (self.on_event)(Event::Space { stored: (all - unused) * size, free });
            }
            Err(error) => (self.on_event)(Event::Warning(error.into())),
        }
    }

    /// Stores the batches of `group` in one transaction, and reports each.
    fn commit(&mut self, group: &mut Vec<Batch>) {
        let records: usize = group.iter().map(|batch| batch.records.len()).sum();
        let _span = info_span!(target: "conclave::trace", "commit", records).entered();
        let start = Instant::now();
        let result = group::store(&self.connection, group);
        let duration = start.elapsed();
        match result {
            Ok(Done { outcomes, deleted }) => {
                for (batch, outcome) in group.drain(..).zip(outcomes) {
                    self.report(&batch, outcome, duration);
                }
                self.purge.channels(deleted);
                self.see_to_the_log();
            }
            Err(error) => {
                let error = StoreError::from(error);
                self.recover(&error);
                for batch in group.drain(..) {
                    (self.on_event)(Event::Persisted { batch: batch.number, result: Err(error.clone()) });
                }
            }
        }
    }

    fn report(&self, batch: &Batch, outcome: Outcome, duration: Duration) {
        let number = batch.number;
        (self.on_event)(match outcome {
            Outcome::Stored { bytes } => {
                let stats = CommitStats { rows: batch.records.len(), bytes, duration };
                Event::Persisted { batch: number, result: Ok(stats) }
            }
            Outcome::AlreadyStored(posts) => Event::AlreadyStored { batch: number, posts },
            Outcome::Repeated => {
                let why = "a batch has the same message twice".to_owned();
                Event::Persisted { batch: number, result: Err(StoreError::Contradiction(why)) }
            }
        });
    }

    fn purge_step(&mut self) {
        match self.purge.step(&self.connection, &self.options) {
            Ok(Step::More) => self.see_to_the_log(),
            Ok(Step::Swept { rows }) => (self.on_event)(Event::Purged { rows }),
            Err(error) => {
                let error = StoreError::from(error);
                self.purge.pause();
                self.recover(&error);
                (self.on_event)(Event::Warning(error));
            }
        }
    }

    fn see_to_the_log(&mut self) {
        if let Err(error) = self.checkpointer.after_commit(&self.connection) {
            (self.on_event)(Event::Warning(error.into()));
        }
    }

    /// Does what can be done for the next batch after a transaction failed.
    fn recover(&mut self, error: &StoreError) {
        if *error == StoreError::Full {
            self.checkpointer.relieve(&self.connection);
        }
        if !error.is_lasting() {
            return;
        }
        let renew = || -> rusqlite::Result<_> {
            let mut connection = schema::reopen(&self.file, &self.options)?;
            self.checkpointer.watch(&mut connection)?;
            Ok(connection)
        };
        // An ephemeral file has no name any more: what has it now is somebody else's.
        if !self.options.ephemeral
            && let Ok(connection) = renew()
        {
            // The new one is open before the old one closes, so that the log's index stays as it is: read anew
            // from the disk, the log could hold a transaction that failed in its very last step.
            self.connection = connection;
        }
        self.checkpointer.relieve(&self.connection);
        // For the same reason a transaction that changes nothing is written over what the failed one left in
        // the log: a crash must not bring back what was reported as failed. If this fails, the next one does it.
        let _ = in_transaction(&self.connection, |connection| -> rusqlite::Result<_> {
            connection.execute("UPDATE meta SET value = value WHERE key = 'server_id'", [])
        });
    }
}
