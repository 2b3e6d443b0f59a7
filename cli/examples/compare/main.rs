//! What to hold `conclave bench` against, on the same machine in the same minute. Each prints a line of JSON.
//!
//! - `broadcast SUBSCRIBERS FRAMES_A_WRITE SECONDS`: one thread copies ready frames to sockets, another reads
//!   them, and nothing else happens. This is the machine's limit.
//! - `nats ADDRESS SUBSCRIBERS POSTERS IN_FLIGHT SECONDS`: core NATS over plain TCP, nothing stored, 128-byte
//!   bodies. Its publishers have no acknowledgement; a PING after every IN_FLIGHT messages stands for one.
//!   NATS_PID names the server's process.
//! - `stub ADDRESS SECONDS`: a server for `conclave bench` that acknowledges at once, stores nothing, and sends
//!   whoever joined ready deliveries as fast as they are read. What it reaches is the bench's own limit.
//! - `fill DIR USERS CHANNELS MESSAGES`: a data directory with so much in it.
//! - `fsync DIR TIMES`: what one append and fsync takes there, in microseconds.

#![allow(clippy::print_stdout, reason = "its result is what it prints")]

use std::path::Path;
use std::time::Duration;

mod broadcast;
mod fill;
mod fsync;
mod nats;
mod stub;

/// Bytes of a delivery of 128 bytes with its channel and sender, as `conclave bench` has them.
const FRAME: usize = 196;
const BODY: usize = 128;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match words[..] {
        ["broadcast", subscribers, frames, seconds] => {
            broadcast::run(subscribers.parse()?, frames.parse()?, seconds.parse()?)
        }
        ["nats", address, subscribers, posters, in_flight, seconds] => {
            let load = nats::Load {
                address: address.to_owned(),
                subscribers: subscribers.parse()?,
                posters: posters.parse()?,
                in_flight: in_flight.parse()?,
                seconds: seconds.parse()?,
            };
            runtime()?.block_on(nats::run(load))
        }
        ["stub", address, seconds] => {
            runtime()?.block_on(stub::run(address, Duration::from_secs(seconds.parse()?)))
        }
        ["fill", dir, users, channels, messages] => {
            fill::run(Path::new(dir), users.parse()?, channels.parse()?, messages.parse()?)
        }
        ["fsync", dir, times] => fsync::run(Path::new(dir), times.parse()?),
        _ => {
            Err("broadcast SUBSCRIBERS FRAMES SECONDS, nats ADDRESS SUBSCRIBERS POSTERS IN_FLIGHT SECONDS, \
                  stub ADDRESS SECONDS, fill DIR USERS CHANNELS MESSAGES, or fsync DIR TIMES"
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
