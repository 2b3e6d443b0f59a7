//! `conclave bench`: load for a server, and what it did.

use std::time::Duration;

use clap::Args as ClapArgs;
use conclave_core::name::ChannelName;
use conclave_core::time::span;
use serde::Serialize;

use crate::{Context, Failure};

mod connects;
mod history;
mod host;
mod load;
mod peer;
mod wire;

/// Measure a server with load of your choice
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  conclave serve --ephemeral --limit all=off      the server, in another terminal
  conclave bench --server ws://127.0.0.1:4390
  conclave bench --server ws://127.0.0.1:4390 --subscribers 1000 --duration 10s
  conclave bench --server ws://127.0.0.1:4390 --subscribers 10 --rate 20000
  conclave bench --server ws://127.0.0.1:4390 --idle 5000
  conclave bench --server ws://127.0.0.1:4390 --connects 20000
  conclave bench --server ws://127.0.0.1:4390 --history 200000

It registers users of its own (bench-…) and leaves them and their channel there: measure
a server that may be thrown away, with its rate limits off.")]
pub struct Args {
    /// The server to measure: ws://HOST:PORT
    #[arg(long, value_name = "URL")]
    server: String,
    /// How the sessions of a load, or idle ones, speak with the server
    #[arg(long, value_name = "WIRE", value_enum, default_value_t, conflicts_with_all = ["connects", "history"])]
    wire: wire::Wire,
    /// Sessions in the channel, posters included
    #[arg(long, value_name = "N", default_value_t = 100)]
    subscribers: usize,
    /// Sessions that post
    #[arg(long, value_name = "N", default_value_t = 8)]
    posters: usize,
    /// Posts of each poster that may be unacknowledged
    #[arg(long, value_name = "N", default_value_t = 32)]
    in_flight: usize,
    /// Bytes of a message's body
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    size: usize,
    /// How long to measure, after a warm-up of a fifth of it
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = span)]
    duration: Duration,
    /// Posts a second of all posters together, instead of as many as are acknowledged
    #[arg(long, value_name = "N")]
    rate: Option<u64>,
    /// Hold so many idle sessions instead, and show the server's memory for each
    #[arg(long, value_name = "N", conflicts_with_all = ["connects", "history"])]
    idle: Option<usize>,
    /// Connect, authenticate and leave so often instead
    #[arg(long, value_name = "N", conflicts_with = "history")]
    connects: Option<usize>,
    /// Post so many messages and read them all back instead
    #[arg(long, value_name = "ROWS")]
    history: Option<usize>,
    /// With --history: read so many messages of this public channel, from its beginning, and post none
    #[arg(long, value_name = "CHANNEL", requires = "history")]
    of: Option<ChannelName>,
    /// The server's process, to show what it uses; found by itself for a server on this machine
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
}

/// Measures.
///
/// # Errors
/// Why it could not.
pub fn run(bench: Args, context: &Context) -> Result<(), Failure> {
    let address = peer::address(&bench.server)?;
    if bench.posters == 0 || bench.subscribers < bench.posters || bench.in_flight == 0 || bench.size < 16 {
        return Err(Failure::usage(
            "a load has at least one poster, who is a subscriber, one post in flight, and 16 bytes a message",
            "conclave bench --server ws://127.0.0.1:4390 --subscribers 100 --posters 8 --size 128",
        ));
    }
    let host = host::Host::find(bench.pid, &address);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|why| Failure::new(format!("no threads can be started: {why}"), ""))?;
    runtime.block_on(async {
        if let Some(count) = bench.connects {
            connects::run(&address, count, &host, context).await
        } else if let Some(count) = bench.idle {
            connects::idle(&address, count, bench.wire, &host, context).await
        } else if let Some(rows) = bench.history {
            history::run(&address, rows, &bench, &host, context).await
        } else {
            load::run(&address, &bench, &host, context).await
        }
    })
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Latency {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

impl Latency {
    fn of(histogram: &hdrhistogram::Histogram<u64>) -> Self {
        Self {
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { p50, p90, p99, p999, max } = self;
        write!(f, "p50 {p50} µs, p90 {p90} µs, p99 {p99} µs, p99.9 {p999} µs, max {max} µs")
    }
}

fn histogram() -> hdrhistogram::Histogram<u64> {
    // A minute with three digits can always be had.
    hdrhistogram::Histogram::new_with_bounds(1, 60_000_000, 3)
        .unwrap_or_else(|_| unreachable!("these bounds are valid"))
}

fn bar(context: &Context, length: u64, template: &str) -> indicatif::ProgressBar {
    if context.output.is_json() {
        return indicatif::ProgressBar::hidden();
    }
    let style = indicatif::ProgressStyle::with_template(template)
        .unwrap_or_else(|_| indicatif::ProgressStyle::default_bar());
    indicatif::ProgressBar::new(length).with_style(style)
}
