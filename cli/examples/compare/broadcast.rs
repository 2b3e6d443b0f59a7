//! The machine's limit: one thread copies ready frames to sockets, another reads them.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{FRAME, Failure, cpu};

pub(super) fn run(subscribers: usize, frames: usize, seconds: u64) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut readers = Vec::new();
    let mut writers = Vec::new();
    for _ in 0..subscribers {
        readers.push(TcpStream::connect(listener.local_addr()?)?);
        let writer = listener.accept()?.0;
        writer.set_nodelay(true)?;
        writers.push(writer);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let reader = thread::spawn(move || {
        let mut buffer = vec![0; 256 << 10];
        let mut bytes = 0u64;
        // The writer goes around in the same order: whoever is next has something or gets it soon.
        'read: while !stopped.load(Ordering::Relaxed) {
            for socket in &mut readers {
                match socket.read(&mut buffer) {
                    Ok(0) | Err(_) => break 'read,
                    Ok(read) => bytes += read as u64,
                }
            }
        }
        bytes
    });
    let ready = vec![b'x'; FRAME * frames];
    let (start, before) = (Instant::now(), cpu("/proc/thread-self/stat"));
    let mut sent = 0u64;
    while start.elapsed() < Duration::from_secs(seconds) {
        for socket in &mut writers {
            socket.write_all(&ready)?;
            sent += frames as u64;
        }
    }
    let (elapsed, used) = (start.elapsed().as_secs_f64(), cpu("/proc/thread-self/stat") - before);
    stop.store(true, Ordering::Relaxed);
    drop(writers);
    reader.join().map_err(|_| "the reader failed")?;
    println!(
        "{{\"what\":\"broadcast\",\"subscribers\":{subscribers},\"frames_a_write\":{frames},\
         \"deliveries_per_second\":{:.0},\"cpu_per_delivery_us\":{:.4}}}",
        sent as f64 / elapsed,
        used.as_secs_f64() * 1e6 / sent as f64,
    );
    Ok(())
}
