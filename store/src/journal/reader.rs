//! Pages of history, read on threads of their own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use conclave_core::audit::Entry;
use conclave_core::hub::Range;
use conclave_core::protocol::Stamped;
use conclave_core::time::UnixMillis;
use rusqlite::Connection;

use super::error::OpenError;
use super::message::{self, COLUMNS, Senders};
use super::queue::Queue;
use super::{Options, audit, int, locate, schema};
use crate::backend::{AuditCallback, AuditRequest, Event, EventSink, PageCallback, Request, StoreError};

/// Reads pages of history. Cloning it counts a reference.
#[derive(Clone)]
pub struct History {
    queue: Arc<Queue<Job>>,
}

type Page = Result<Vec<Stamped>, StoreError>;

enum Job {
    Page(Request, PageCallback),
    Audit(AuditRequest, AuditCallback),
}

impl Job {
    fn refuse(self) {
        match self {
            Self::Page(_, callback) => callback(Err(StoreError::Closed)),
            Self::Audit(_, callback) => callback(Err(StoreError::Closed)),
        }
    }
}

impl History {
    /// Reads a page, oldest message first, and hands it to `callback` on a reading thread, which must not be
    /// blocked. Everything reported as persisted before this call is seen. The queue has no bound of its own.
    pub fn read(&self, request: Request, callback: impl FnOnce(Page) + Send + 'static) {
        enqueue(&self.queue, Job::Page(request, Box::new(callback)));
    }

    /// Reads a page and waits for it.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read, or the journal was stopped.
    pub fn read_and_wait(&self, request: Request) -> Page {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.read(request, move |page| {
            // The receiver waits below.
            let _ = sender.send(page);
        });
        receiver.recv().unwrap_or(Err(StoreError::Closed))
    }
}

fn enqueue(queue: &Queue<Job>, job: Job) {
    if let Err(job) = queue.push(job) {
        job.refuse();
    }
}

/// The threads, ended by dropping this.
pub(super) struct Pool {
    queue: Arc<Queue<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    pub(super) fn start(file: &Path, options: &Options, on_event: &EventSink) -> Result<Self, OpenError> {
        let mut pool = Self { queue: Arc::new(Queue::new()), threads: Vec::new() };
        for _ in 0..options.readers.max(1) {
            let mut worker = Worker {
                connection: schema::open_reader(file).map_err(|error| OpenError::sqlite(file, error))?,
                renewable: (!options.ephemeral).then(|| file.into()),
                senders: Senders::new(),
                on_event: Arc::clone(on_event),
            };
            let queue = Arc::clone(&pool.queue);
            let thread = thread::Builder::new().name("journal-reader".into()).spawn(move || {
                while let Some(job) = queue.pop() {
                    match job {
                        Job::Page(request, callback) => callback(worker.read(request)),
                        Job::Audit(request, callback) => callback(worker.read_audit(request)),
                    }
                }
            });
            pool.threads.push(thread.map_err(|source| OpenError::io(file, source))?);
        }
        Ok(pool)
    }

    pub(super) fn read(&self, request: Request, callback: PageCallback) {
        enqueue(&self.queue, Job::Page(request, callback));
    }

    pub(super) fn read_audit(&self, request: AuditRequest, callback: AuditCallback) {
        enqueue(&self.queue, Job::Audit(request, callback));
    }

    pub(super) fn history(&self) -> History {
        History { queue: Arc::clone(&self.queue) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.close();
        for thread in self.threads.drain(..) {
            // A panic there was already shown; there is nothing to save here.
            let _ = thread.join();
        }
    }
}

struct Worker {
    connection: Connection,
    /// The file, if it still has its name.
    renewable: Option<PathBuf>,
    senders: Senders,
    on_event: EventSink,
}

impl Worker {
    fn read(&mut self, request: Request) -> Page {
        match page(&self.connection, request, &mut self.senders) {
            Ok((page, 0)) => Ok(page),
            Ok((page, unreadable)) => {
                let channel = request.channel.0;
                let why =
                    format!("{unreadable} messages of channel {channel} cannot be read and were left out");
                (self.on_event)(Event::Warning(StoreError::Corrupt(why)));
                Ok(page)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    fn read_audit(&mut self, request: AuditRequest) -> Result<Vec<Entry>, StoreError> {
        audit::page(&self.connection, request).map_err(|error| self.failed(error))
    }

    /// What a failure was, after the connection was replaced if it needs to be.
    fn failed(&mut self, error: rusqlite::Error) -> StoreError {
        let error = StoreError::from(error);
        if error.is_lasting()
            && let Some(file) = &self.renewable
            && let Ok(connection) = schema::open_reader(file)
        {
            self.connection = connection;
        }
        error
    }
}

/// Reads a page, and counts the rows that make no message.
fn page(
    connection: &Connection,
    request: Request,
    senders: &mut Senders,
) -> rusqlite::Result<(Vec<Stamped>, usize)> {
    let channel = int(request.channel.0);
    // A page of version 1 goes on from the last stamp of the one before: what is not after it is damaged, and whoever
    // pages by it would come back for ever.
    let mut since = None;
    let (from, backwards) = match request.range {
        Range::Since(ts) => {
            since = Some(ts);
            (locate::first_after(connection, channel, ts)?, false)
        }
        Range::After(seq) => (int(seq.saturating_add(1)), false),
        Range::Before(seq) => (int(seq), true),
    };
    let bounds = if backwards { "seq < ?2 ORDER BY seq DESC" } else { "seq >= ?2 ORDER BY seq" };
    let mut statement = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM messages WHERE channel = ?1 AND {bounds}"))?;
    let mut rows = statement.query([channel, from])?;
    let mut page: Vec<Stamped> = Vec::new();
    let mut unreadable = 0;
    let mut bytes = 0_usize;
    while page.len() < request.max_rows
        && let Some(row) = rows.next()?
    {
        match message::read(row, senders)? {
            Some((message, size)) if since.is_none_or(|since: UnixMillis| message.ts > since) => {
                bytes = bytes.saturating_add(size);
                if bytes > request.max_bytes && !page.is_empty() {
                    break;
                }
                since = since.map(|_| message.ts);
                page.push(message);
            }
            _ => unreadable += 1,
        }
    }
    if backwards {
        page.reverse();
    }
    Ok((page, unreadable))
}
