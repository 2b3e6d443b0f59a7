//! What to hold `conclave bench` against, on the same machine in the same minute:
//!
//! - `broadcast SUBSCRIBERS FRAMES_A_WRITE SECONDS`: one thread copies ready frames to sockets, another reads
//!   them, and nothing else happens. This is the machine's limit.
//! - `nats ADDRESS SUBSCRIBERS POSTERS IN_FLIGHT SECONDS`: core NATS over plain TCP, nothing stored, 128-byte
//!   bodies. Its publishers have no acknowledgement; a PING after every IN_FLIGHT messages stands for one.
//!
//! Both print one line of JSON.

#![allow(clippy::print_stdout, reason = "its result is what it prints")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Bytes of a delivery of 128 bytes with its channel and sender, as `conclave bench` has them.
const FRAME: usize = 196;
const BODY: usize = 128;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["broadcast", subscribers, frames, seconds] => {
            broadcast(subscribers.parse()?, frames.parse()?, seconds.parse()?)
        }
        ["nats", address, subscribers, posters, in_flight, seconds] => {
            let load = Load {
                address: address.to_owned(),
                subscribers: subscribers.parse()?,
                posters: posters.parse()?,
                in_flight: in_flight.parse()?,
                seconds: seconds.parse()?,
            };
            tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(nats(load))
        }
        _ => {
            Err("broadcast SUBSCRIBERS FRAMES SECONDS, or nats ADDRESS SUBSCRIBERS POSTERS IN_FLIGHT SECONDS"
                .into())
        }
    }
}

/// Processor time of a process, or of a thread of this one.
fn cpu(stat: &str) -> Duration {
    let text = std::fs::read_to_string(stat).unwrap_or_default();
    let fields = text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>());
    let ticks =
        |at: usize| fields.as_ref().and_then(|fields| fields.get(at)?.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

fn broadcast(subscribers: usize, frames: usize, seconds: u64) -> Result<(), Failure> {
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

struct Load {
    address: String,
    subscribers: usize,
    posters: usize,
    in_flight: usize,
    seconds: u64,
}

async fn nats(load: Load) -> Result<(), Failure> {
    let delivered = Arc::new(AtomicU64::new(0));
    let posted = Arc::new(AtomicU64::new(0));
    for _ in 0..load.subscribers {
        let mut socket = greeted(&load.address).await?;
        socket.write_all(b"SUB b 1\r\nPING\r\n").await?;
        let delivered = delivered.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 256 << 10];
            // A message is its head, `MSG b 1 128`, and its body, each with a line's end.
            let whole = "MSG b 1 128\r\n".len() + BODY + 2;
            let mut bytes = 0;
            while let Ok(read) = socket.read(&mut buffer).await {
                if read == 0 {
                    break;
                }
                bytes += read;
                delivered.fetch_add((bytes / whole) as u64, Ordering::Relaxed);
                bytes %= whole;
            }
        });
    }
    for _ in 0..load.posters {
        let mut socket = greeted(&load.address).await?;
        let posted = posted.clone();
        let mut batch = Vec::new();
        for _ in 0..load.in_flight {
            batch.extend_from_slice(b"PUB b 128\r\n");
            batch.extend_from_slice(&[b'x'; BODY]);
            batch.extend_from_slice(b"\r\n");
        }
        batch.extend_from_slice(b"PING\r\n");
        tokio::spawn(async move {
            let mut pong = [0; 6];
            while socket.write_all(&batch).await.is_ok() && socket.read_exact(&mut pong).await.is_ok() {
                posted.fetch_add(load.in_flight as u64, Ordering::Relaxed);
            }
        });
    }
    let pid = std::env::var("NATS_PID").unwrap_or_default();
    let stat = format!("/proc/{pid}/stat");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before =
        (Instant::now(), delivered.load(Ordering::Relaxed), posted.load(Ordering::Relaxed), cpu(&stat));
    tokio::time::sleep(Duration::from_secs(load.seconds)).await;
    let elapsed = before.0.elapsed().as_secs_f64();
    let deliveries = delivered.load(Ordering::Relaxed) - before.1;
    let posts = posted.load(Ordering::Relaxed) - before.2;
    println!(
        "{{\"what\":\"nats\",\"subscribers\":{},\"deliveries_per_second\":{:.0},\"posts_per_second\":{:.0},\
         \"server_cpu_per_delivery_us\":{:.4}}}",
        load.subscribers,
        deliveries as f64 / elapsed,
        posts as f64 / elapsed,
        (cpu(&stat) - before.3).as_secs_f64() * 1e6 / deliveries.max(1) as f64,
    );
    Ok(())
}

/// A connection that has read the server's greeting and sent its own.
async fn greeted(address: &str) -> Result<tokio::net::TcpStream, Failure> {
    let mut socket = tokio::net::TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let mut byte = [0];
    while byte != *b"\n" {
        socket.read_exact(&mut byte).await?;
    }
    socket.write_all(b"CONNECT {\"verbose\":false}\r\n").await?;
    Ok(socket)
}
