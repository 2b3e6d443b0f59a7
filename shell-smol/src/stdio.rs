//! The client's two pipes, each on a thread of its own: lines in, whole lines out by a single writer.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use conclave_core::bridge::{Line, LineReader};
use smol::channel::Sender;

use crate::event::Event;

/// While so much waits to be written, nothing more is read: who asks must read the answers.
const MAX_WAITING: usize = 4 << 20;
/// While so much waits to be written, hints are left out.
const MAX_HINTS: usize = 1 << 20;

/// The way out.
pub(crate) struct Out {
    lines: mpsc::Sender<String>,
    waiting: Arc<AtomicUsize>,
    thread: thread::JoinHandle<()>,
}

impl Out {
    /// Writes a line.
    pub(crate) fn line(&self, mut line: String) {
        line.push('\n');
        self.waiting.fetch_add(line.len(), Ordering::Relaxed);
        // The writer is gone when nobody reads any more; the reader says so too.
        let _ = self.lines.send(line);
    }

    /// Writes a line, if the client keeps up with reading.
    pub(crate) fn hint(&self, line: String) {
        if self.waiting.load(Ordering::Relaxed) < MAX_HINTS {
            self.line(line);
        }
    }

    /// Waits a moment for what is still to be written.
    pub(crate) fn finish(self) {
        drop(self.lines);
        for _ in 0..100 {
            if self.thread.is_finished() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Starts both threads. Lines, and the end of the input or output, come as events.
pub(crate) fn start(
    mut input: Box<dyn Read + Send>,
    mut output: Box<dyn Write + Send>,
    events: Sender<Event>,
) -> std::io::Result<Out> {
    let waiting = Arc::new(AtomicUsize::new(0));
    let (lines, queue) = mpsc::channel::<String>();
    let (written, ended) = (Arc::clone(&waiting), events.clone());
    let thread = builder("conclave-out").spawn(move || {
        for line in queue {
            if output.write_all(line.as_bytes()).and_then(|()| output.flush()).is_err() {
                let _ = ended.send_blocking(Event::Ended);
                return;
            }
            written.fetch_sub(line.len(), Ordering::Relaxed);
        }
    })?;
    let unwritten = Arc::clone(&waiting);
    builder("conclave-in").spawn(move || {
        let mut reader = LineReader::default();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            while unwritten.load(Ordering::Relaxed) > MAX_WAITING {
                thread::sleep(Duration::from_millis(20));
            }
            let read = match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let mut gone = false;
            reader.feed(&buffer[..read], |line| gone |= hand_on(&events, line));
            if gone {
                return;
            }
        }
        reader.finish(|line| {
            hand_on(&events, line);
        });
        let _ = events.send_blocking(Event::Ended);
    })?;
    Ok(Out { lines, waiting, thread })
}

/// True if nobody takes lines any more.
fn hand_on(events: &Sender<Event>, line: Line) -> bool {
    events.send_blocking(Event::Line(line)).is_err()
}

fn builder(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.to_owned()).stack_size(256 * 1024)
}
