//! Keeping the write-ahead log short without making posts wait for it.
//!
//! Moving the log's pages into the database takes a disk many times as long as a commit. A thread does it while
//! commits go on; what these have added meanwhile is little, and once the log is long the writer moves that
//! itself, because only a log that has been moved whole starts anew.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, Result};

use super::error::OpenError;
use super::queue::Queue;
use super::{Options, schema};
use crate::backend::{Event, EventSink, StoreError};

/// Every so many pages in the log the thread moves them.
const EVERY: usize = 1000;

/// From so many pages on the writer sees to it that the log starts anew.
const LONG: usize = 4 * EVERY;

pub(super) struct Checkpointer {
    /// How long the log is, as the last commit said.
    log: Arc<AtomicUsize>,
    seen: usize,
    next: usize,
    long: usize,
    busy: Arc<AtomicBool>,
    queue: Arc<Queue<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn start(file: &Path, options: &Options, on_event: &EventSink) -> Result<Self, OpenError> {
        let connection = schema::reopen(file, options).map_err(|error| OpenError::sqlite(file, error))?;
        let queue = Arc::new(Queue::new());
        let busy = Arc::new(AtomicBool::new(false));
        let (jobs, working, on_event) = (Arc::clone(&queue), Arc::clone(&busy), Arc::clone(on_event));
        let work = move || {
            let mut last = None;
            while jobs.pop().is_some() {
                let error = move_pages(&connection).err().map(StoreError::from);
                if let Some(error) = &error
                    && last.as_ref() != Some(error)
                {
                    on_event(Event::Warning(error.clone()));
                }
                last = error;
                working.store(false, Ordering::Release);
            }
        };
        let thread = thread::Builder::new()
            .name("journal-log".into())
            .spawn(work)
            .map_err(|source| OpenError::io(file, source))?;
        let log = Arc::default();
        Ok(Self { log, seen: 0, next: EVERY, long: LONG, busy, queue, thread: Some(thread) })
    }

    /// Has `connection` tell how long the log is, and leave it alone.
    pub(super) fn watch(&self, connection: &mut Connection) -> Result<()> {
        let log = Arc::clone(&self.log);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
            log.store(usize::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))
    }

    /// Sees to the log after a commit on `connection`.
    pub(super) fn after_commit(&mut self, connection: &Connection) -> Result<()> {
        let pages = self.log.load(Ordering::Relaxed);
        if pages < self.seen {
            (self.next, self.long) = (EVERY, LONG);
        }
        self.seen = pages;
        if pages < self.next || self.busy.load(Ordering::Acquire) {
            return Ok(());
        }
        self.next = pages + EVERY;
        if pages < self.long {
            self.busy.store(true, Ordering::Release);
            // It closes with this.
            let _ = self.queue.push(());
            return Ok(());
        }
        // If a reader keeps the log from being moved whole, trying with every commit would not help.
        self.long = pages + LONG;
        move_pages(connection)
    }

    /// Lets the log start anew, if it can: where the disk is full, what the log takes is the only space left.
    pub(super) fn relieve(&self, connection: &Connection) {
        // Without it the next batch fails as this one did, and says so.
        let _ = move_pages(connection);
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // A panic there was already shown; there is nothing to save here.
            let _ = thread.join();
        }
    }
}

fn move_pages(connection: &Connection) -> Result<()> {
    connection.wal_checkpoint_v2(None::<&str>, CheckpointMode::PASSIVE).map(drop)
}
