//! The whole bridge on pipes that are played by hand, without a server.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use conclave_shell_smol::{Options, run_on};

const PING: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n";

/// Asks without end, and never waits for an answer.
struct Flood {
    lines: usize,
    read: Arc<AtomicUsize>,
}

impl Read for Flood {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let lines = (buffer.len() / PING.len()).min(self.lines);
        for line in buffer.chunks_exact_mut(PING.len()).take(lines) {
            line.copy_from_slice(PING);
        }
        self.lines -= lines;
        self.read.fetch_add(lines * PING.len(), Ordering::SeqCst);
        Ok(lines * PING.len())
    }
}

/// Takes nothing before it is let.
struct Stuck {
    go: Receiver<()>,
    stuck: bool,
    lines: Arc<AtomicUsize>,
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if std::mem::take(&mut self.stuck) {
            self.go.recv().map_err(io::Error::other)?;
        }
        self.lines.fetch_add(bytes.iter().filter(|byte| **byte == b'\n').count(), Ordering::SeqCst);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn options() -> Options {
    // A directory without a configuration: no servers.
    Options { dir: std::env::temp_dir().join("conclave-no-such-directory"), ..Options::default() }
}

#[test]
fn a_client_that_does_not_read_is_not_read_from_either() {
    let lines = 400_000;
    let (read, written) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (go, wait) = channel();
    let input = Flood { lines, read: Arc::clone(&read) };
    let output = Stuck { go: wait, stuck: true, lines: Arc::clone(&written) };
    let bridge = thread::spawn(move || run_on(&options(), input, output));
    let mut last = 0;
    loop {
        thread::sleep(Duration::from_millis(300));
        let now = read.load(Ordering::SeqCst);
        if now == last && now > 0 {
            break;
        }
        last = now;
    }
    assert!(last < lines * PING.len() / 2, "{last} bytes were read, and nothing written");
    go.send(()).unwrap();
    bridge.join().unwrap().unwrap();
    assert_eq!(written.load(Ordering::SeqCst), lines, "every request has its answer");
}

/// Hands out what is sent to it, and ends with the sender.
struct Fed(Receiver<Vec<u8>>, Vec<u8>);

impl Read for Fed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.1.is_empty() {
            match self.0.recv() {
                Ok(bytes) => self.1 = bytes,
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.1.len());
        buffer[..count].copy_from_slice(&self.1[..count]);
        self.1.drain(..count);
        Ok(count)
    }
}

/// Hands on every write.
struct Seen(Sender<Vec<u8>>);

impl Write for Seen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_cut_anywhere_are_answered_and_the_end_of_the_output_ends_the_bridge() {
    let (input, fed) = channel();
    let (seen, output) = channel();
    let bridge = thread::spawn(move || run_on(&options(), Fed(fed, Vec::new()), Seen(seen)));
    for piece in PING.chunks(5) {
        input.send(piece.to_vec()).unwrap();
    }
    let answer = output.recv().unwrap();
    assert_eq!(answer, b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n", "one write, one line");
    drop(output);
    input.send(PING.to_vec()).unwrap();
    bridge.join().unwrap().unwrap();
    drop(input);
}
