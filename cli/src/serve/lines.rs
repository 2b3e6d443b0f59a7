//! Standard error, written by a thread of its own: whoever reads the log slowly, or not at all, holds nobody up.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait to be written; beyond them they are lost, and counted.
const WAITING: usize = 4096;
/// How long anyone waits for what was logged to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where the log's lines go. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Lines {
    queue: SyncSender<Entry>,
    lost: Arc<AtomicUsize>,
}

enum Entry {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

impl Lines {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn start() -> io::Result<Self> {
        let (queue, entries) = sync_channel(WAITING);
        let lost = Arc::new(AtomicUsize::new(0));
        let counted = lost.clone();
        thread::Builder::new().name("log".into()).spawn(move || {
            let mut next = entries.recv().ok();
            while let Some(entry) = next {
                match entry {
                    // Nobody is left to be told when this cannot be written.
                    Entry::Line(line) => drop(io::stderr().write_all(&line)),
                    // Whoever waited too long is gone.
                    Entry::Flush(written) => drop(written.send(())),
                }
                next = entries.try_recv().ok();
                if next.is_none() {
                    // Only now there is room for what tells it.
                    let lost = counted.swap(0, Ordering::Relaxed);
                    if lost > 0 {
                        warn!(lost, "the log was not read as fast as it was written");
                    }
                    next = entries.recv().ok();
                }
            }
        })?;
        Ok(Self { queue, lost })
    }

    /// Waits until what was logged is written, but no longer than a second.
    pub(crate) fn flush(&self) {
        let (written, waiting) = sync_channel(1);
        if self.queue.try_send(Entry::Flush(written)).is_ok() {
            let _ = waiting.recv_timeout(PATIENCE);
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

/// Each write is one line.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Entry::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
