//! Pages of history, read on threads of their own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use conclave_core::name::SessionPath;
use conclave_core::payload::{Envelope, Payload};
use conclave_core::protocol::Stamped;
use conclave_core::time::UnixMillis;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::error::OpenError;
use super::queue::Queue;
use super::{Options, schema};
use crate::backend::{Event, EventSink, PageCallback, Request, StoreError};

const PAGE: &str = "SELECT ts, sender, kind, body, key_id FROM messages
                    WHERE channel = ?1 AND ts > ?2 ORDER BY ts";

/// What a message costs on the wire beside its path and payload, at most: three lengths, the stamp, two tags
/// and two long lengths.
const ROW_OVERHEAD: usize = 32;

/// Reads pages of history. Cloning it counts a reference.
#[derive(Clone)]
pub struct History {
    queue: Arc<Queue<Job>>,
}

type Page = Result<Vec<Stamped>, StoreError>;

struct Job {
    request: Request,
    callback: PageCallback,
}

impl History {
    /// Reads a page, oldest message first, and hands it to `callback` on a reading thread, which must not be
    /// blocked. Everything reported as persisted before this call is seen. The queue has no bound of its own.
    pub fn read(&self, request: Request, callback: impl FnOnce(Page) + Send + 'static) {
        enqueue(&self.queue, request, Box::new(callback));
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

fn enqueue(queue: &Queue<Job>, request: Request, callback: PageCallback) {
    if let Err(job) = queue.push(Job { request, callback }) {
        (job.callback)(Err(StoreError::Closed));
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
                on_event: Arc::clone(on_event),
            };
            let queue = Arc::clone(&pool.queue);
            let thread = thread::Builder::new().name("journal-reader".into()).spawn(move || {
                while let Some(job) = queue.pop() {
                    (job.callback)(worker.read(job.request));
                }
            });
            pool.threads.push(thread.map_err(|source| OpenError::io(file, source))?);
        }
        Ok(pool)
    }

    pub(super) fn read(&self, request: Request, callback: PageCallback) {
        enqueue(&self.queue, request, callback);
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
    on_event: EventSink,
}

impl Worker {
    fn read(&mut self, request: Request) -> Page {
        let result = page(&self.connection, request);
        match result {
            Ok((page, 0)) => Ok(page),
            Ok((page, unreadable)) => {
                let channel = request.channel.0;
                let why =
                    format!("{unreadable} messages of channel {channel} cannot be read and were left out");
                (self.on_event)(Event::Warning(StoreError::Corrupt(why)));
                Ok(page)
            }
            Err(error) => {
                let error = StoreError::from(error);
                if error.is_lasting()
                    && let Some(file) = &self.renewable
                    && let Ok(connection) = schema::open_reader(file)
                {
                    self.connection = connection;
                }
                Err(error)
            }
        }
    }
}

/// Reads a page, and counts the rows that make no message.
fn page(connection: &Connection, request: Request) -> rusqlite::Result<(Vec<Stamped>, usize)> {
    let mut statement = connection.prepare_cached(PAGE)?;
    let channel = i64::try_from(request.channel.0).unwrap_or(i64::MAX);
    let mut rows = statement.query([channel, request.since.0])?;
    let mut senders = Senders::default();
    let mut page: Vec<Stamped> = Vec::new();
    let mut last = request.since;
    let mut unreadable = 0;
    let mut bytes = 0_usize;
    while page.len() < request.max_rows
        && let Some(row) = rows.next()?
    {
        match message(row, &mut senders)? {
            // Out of order they are damaged, and who pages by them would come back for ever.
            Some((message, size)) if message.ts > last => {
                bytes = bytes.saturating_add(size);
                if bytes > request.max_bytes && !page.is_empty() {
                    break;
                }
                last = message.ts;
                page.push(message);
            }
            _ => unreadable += 1,
        }
    }
    Ok((page, unreadable))
}

/// A row's message and its size on the wire; `None` if it makes no message.
fn message(row: &Row<'_>, senders: &mut Senders) -> rusqlite::Result<Option<(Stamped, usize)>> {
    let (ValueRef::Integer(ts), ValueRef::Text(sender), ValueRef::Integer(kind)) =
        (row.get_ref(0)?, row.get_ref(1)?, row.get_ref(2)?)
    else {
        return Ok(None);
    };
    let payload = match (kind, row.get_ref(3)?) {
        (0, ValueRef::Text(text)) => {
            let Ok(text) = std::str::from_utf8(text) else { return Ok(None) };
            Payload::Plain(text.into())
        }
        (1, ValueRef::Blob(bytes)) => {
            let Ok(key_id) = row.get(4) else { return Ok(None) };
            Payload::Encrypted(Envelope { ciphertext: bytes.into(), key_id })
        }
        _ => return Ok(None),
    };
    let Some(from) = senders.find(sender) else { return Ok(None) };
    let size = payload.size() + sender.len() + ROW_OVERHEAD;
    Ok(Some((Stamped { from, ts: UnixMillis(ts), payload }, size)))
}

/// The senders of a page, each made once.
#[derive(Default)]
struct Senders {
    last: Option<(Vec<u8>, SessionPath)>,
    known: HashMap<Vec<u8>, SessionPath>,
}

impl Senders {
    fn find(&mut self, text: &[u8]) -> Option<SessionPath> {
        if let Some((last, path)) = &self.last
            && last == text
        {
            return Some(path.clone());
        }
        let path = match self.known.get(text) {
            Some(path) => path.clone(),
            None => {
                let path: SessionPath = std::str::from_utf8(text).ok()?.parse().ok()?;
                self.known.insert(text.into(), path.clone());
                path
            }
        };
        self.last = Some((text.into(), path.clone()));
        Some(path)
    }
}
