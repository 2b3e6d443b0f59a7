//! Connections: how many a second, and what an idle one costs.

use std::time::Instant;

use serde::Serialize;
use tokio::task::JoinSet;

use super::host::Host;
use super::peer::{Peer, User};
use super::wire::Wire;
use super::{Latency, bar, histogram};
use crate::{Context, Failure};

/// Connections that are being made at once.
const AT_ONCE: usize = 64;
/// Sessions of one user: below what a server allows by default.
const SESSIONS: usize = 500;

#[derive(Debug, Serialize)]
struct Connects {
    connects: usize,
    seconds: f64,
    per_second: f64,
    latency_us: Latency,
    server_cpu_per_connect_us: Option<f64>,
}

/// Connects, authenticates and leaves, again and again.
pub(super) async fn run(address: &str, count: usize, host: &Host, context: &Context) -> Result<(), Failure> {
    let user = User::new();
    drop(Peer::connect(address, &user, "first", true).await?);
    let progress = bar(context, count as u64, "{bar:40} {pos}/{len} connects");
    let mut latencies = histogram();
    let (start, cpu) = (Instant::now(), host.cpu());
    let mut tasks = JoinSet::new();
    for worker in 0..AT_ONCE {
        let (address, user, progress) = (address.to_owned(), user.clone(), progress.clone());
        let share = count / AT_ONCE + usize::from(worker < count % AT_ONCE);
        tasks.spawn(async move {
            let mut taken = Vec::with_capacity(share);
            for _ in 0..share {
                let start = Instant::now();
                drop(Peer::connect(&address, &user, &format!("w-{worker:02}"), false).await?);
                taken.push(start.elapsed().as_micros() as u64);
                progress.inc(1);
            }
            Ok::<_, Failure>(taken)
        });
    }
    while let Some(joined) = tasks.join_next().await {
        for micros in joined.map_err(|why| Failure::new(why.to_string(), ""))?? {
            latencies.saturating_record(micros);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    progress.finish_and_clear();
    let used = host.cpu().zip(cpu).map(|(after, before)| (after - before).as_secs_f64());
    let report = Connects {
        connects: count,
        seconds,
        per_second: count as f64 / seconds,
        latency_us: Latency::of(&latencies),
        server_cpu_per_connect_us: used.map(|used| used * 1e6 / count as f64),
    };
    let shown = format!(
        "connects      {:>12.0} /s   {}\nserver        {} µs of CPU a connect",
        report.per_second,
        report.latency_us,
        report.server_cpu_per_connect_us.map_or("unknown".into(), |micros| format!("{micros:.1}")),
    );
    context.output.result(shown, &report)
}

#[derive(Debug, Serialize)]
struct Idle {
    sessions: usize,
    seconds: f64,
    resident_before_bytes: Option<u64>,
    resident_after_bytes: Option<u64>,
    bytes_per_session: Option<f64>,
}

/// Holds idle sessions, and looks at the server's memory.
pub(super) async fn idle(
    address: &str,
    count: usize,
    wire: Wire,
    host: &Host,
    context: &Context,
) -> Result<(), Failure> {
    let users: Vec<User> = (0..count.div_ceil(SESSIONS)).map(|_| User::new()).collect();
    for user in &users {
        drop(Peer::connect(address, user, "first", true).await?);
    }
    let progress = bar(context, count as u64, "{bar:40} {pos}/{len} sessions");
    let (start, before) = (Instant::now(), host.resident());
    let mut held = Vec::with_capacity(count);
    let mut tasks = JoinSet::new();
    for nth in 0..count {
        let (address, user) = (address.to_owned(), users[nth / SESSIONS].clone());
        tasks.spawn(async move { Peer::connect_in(wire, &address, &user, &format!("i-{nth:06}")).await });
        while tasks.len() >= AT_ONCE || (nth + 1 == count && !tasks.is_empty()) {
            if let Some(joined) = tasks.join_next().await {
                held.push(joined.map_err(|why| Failure::new(why.to_string(), ""))??);
                progress.inc(1);
            }
        }
    }
    let after = host.resident();
    progress.finish_and_clear();
    let report = Idle {
        sessions: held.len(),
        seconds: start.elapsed().as_secs_f64(),
        resident_before_bytes: before,
        resident_after_bytes: after,
        bytes_per_session: after
            .zip(before)
            .map(|(after, before)| after.saturating_sub(before) as f64 / held.len().max(1) as f64),
    };
    let shown = format!(
        "idle sessions {:>12}   {} bytes each; the server is {} MiB resident",
        report.sessions,
        report.bytes_per_session.map_or("unknown".into(), |bytes| format!("{bytes:.0}")),
        after.map_or("unknown".into(), |bytes| (bytes >> 20).to_string()),
    );
    context.output.result(shown, &report)
}
