//! Posts and deliveries.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use conclave_core::wire::v1::{AdminOp, Frame, Visibility};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::task::JoinSet;

use super::host::Host;
use super::peer::{Peer, User};
use super::wire::{Message, Template, Wire, sent_at};
use super::{Args, Latency, bar, histogram};
use crate::{Context, Failure};

/// Sessions of one user: below what a server allows by default.
const SESSIONS: usize = 500;
/// One delivery of so many is timed.
const SAMPLED: u64 = 16;

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    wire: Wire,
    subscribers: usize,
    posters: usize,
    in_flight: usize,
    size: usize,
    seconds: f64,
    posts: u64,
    posts_per_second: f64,
    deliveries: u64,
    deliveries_per_second: f64,
    acknowledgement_us: Latency,
    delivery_us: Latency,
    server_cpu_seconds: Option<f64>,
    server_cpu_per_delivery_us: Option<f64>,
    server_cpu_per_post_us: Option<f64>,
    server_resident_bytes: Option<u64>,
    client_cpu_seconds: Option<f64>,
}

struct Shared {
    start: Instant,
    stop: AtomicBool,
    posts: AtomicU64,
    deliveries: AtomicU64,
    measuring: AtomicBool,
    acks: Mutex<Histogram<u64>>,
    delivered: Mutex<Histogram<u64>>,
    size: usize,
}

impl Shared {
    fn micros(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn record(&self, into: &Mutex<Histogram<u64>>, values: &mut Vec<u64>) {
        if !values.is_empty() && self.measuring.load(Ordering::Relaxed) {
            let mut histogram = into.lock().unwrap_or_else(PoisonError::into_inner);
            for value in values.iter() {
                histogram.saturating_record(*value);
            }
        }
        values.clear();
    }
}

pub(super) async fn run(address: &str, bench: &Args, host: &Host, context: &Context) -> Result<(), Failure> {
    let channel = User::new().name;
    let (posters, listeners) = gather(address, bench, &channel, context).await?;
    let shared = Arc::new(Shared {
        start: Instant::now(),
        stop: AtomicBool::new(false),
        posts: AtomicU64::new(0),
        deliveries: AtomicU64::new(0),
        measuring: AtomicBool::new(false),
        acks: Mutex::new(histogram()),
        delivered: Mutex::new(histogram()),
        size: bench.size,
    });
    let mut tasks = JoinSet::new();
    for peer in listeners {
        tasks.spawn(listen(peer, shared.clone()));
    }
    let rate = bench.rate.map(|rate| rate as f64 / bench.posters as f64);
    for (peer, nth) in posters.into_iter().zip(0..) {
        let template = Template::new(&peer, &channel, bench.size, nth);
        tasks.spawn(post(peer, template, bench.in_flight, rate, shared.clone()));
    }
    tokio::time::sleep(bench.duration / 5).await;
    let before = (
        Instant::now(),
        shared.posts.load(Ordering::Relaxed),
        shared.deliveries.load(Ordering::Relaxed),
        host.cpu(),
        own_cpu(),
    );
    shared.measuring.store(true, Ordering::Relaxed);
    let progress = bar(context, bench.duration.as_millis() as u64, "{bar:40} {percent:>3}%  {msg}");
    let mut last = (Instant::now(), before.2);
    while before.0.elapsed() < bench.duration {
        tokio::time::sleep(Duration::from_millis(200).min(bench.duration)).await;
        let now = (Instant::now(), shared.deliveries.load(Ordering::Relaxed));
        let rate = (now.1 - last.1) as f64 / (now.0 - last.0).as_secs_f64();
        last = now;
        progress.set_position(before.0.elapsed().as_millis() as u64);
        progress.set_message(format!("{rate:.0} deliveries/s"));
    }
    let seconds = before.0.elapsed().as_secs_f64();
    let posts = shared.posts.load(Ordering::Relaxed) - before.1;
    let deliveries = shared.deliveries.load(Ordering::Relaxed) - before.2;
    let cpu = host.cpu().zip(before.3).map(|(after, before)| (after - before).as_secs_f64());
    let own = own_cpu().zip(before.4).map(|(after, before)| (after - before).as_secs_f64());
    shared.measuring.store(false, Ordering::Relaxed);
    shared.stop.store(true, Ordering::Relaxed);
    progress.finish_and_clear();
    let failed = ended(&mut tasks);
    let per = |count: u64| cpu.map(|cpu| cpu * 1e6 / count.max(1) as f64);
    let lock = |histogram: &Mutex<Histogram<u64>>| {
        Latency::of(&histogram.lock().unwrap_or_else(PoisonError::into_inner))
    };
    let report = Report {
        wire: bench.wire,
        subscribers: bench.subscribers,
        posters: bench.posters,
        in_flight: bench.in_flight,
        size: bench.size,
        seconds,
        posts,
        posts_per_second: posts as f64 / seconds,
        deliveries,
        deliveries_per_second: deliveries as f64 / seconds,
        acknowledgement_us: lock(&shared.acks),
        delivery_us: lock(&shared.delivered),
        server_cpu_seconds: cpu,
        server_cpu_per_delivery_us: per(deliveries),
        server_cpu_per_post_us: per(posts),
        server_resident_bytes: host.resident(),
        client_cpu_seconds: own,
    };
    let optional = |value: Option<f64>| value.map_or("unknown".into(), |value| format!("{value:.3}"));
    let shown = format!(
        "posts         {:>12.0} /s   acknowledged: {}\ndeliveries    {:>12.0} /s   delivered: {}\n\
         server        {} µs of CPU a delivery, {} µs a post, {} MiB resident\nthis client   {} s of CPU in {:.1} s",
        report.posts_per_second,
        report.acknowledgement_us,
        report.deliveries_per_second,
        report.delivery_us,
        optional(report.server_cpu_per_delivery_us),
        optional(report.server_cpu_per_post_us),
        report.server_resident_bytes.map_or("unknown".into(), |bytes| (bytes >> 20).to_string()),
        optional(report.client_cpu_seconds),
        report.seconds,
    );
    context.output.result(shown, &report)?;
    failed
}

/// What went wrong in a task that has ended already, if any has.
fn ended(tasks: &mut JoinSet<Result<(), String>>) -> Result<(), Failure> {
    match tasks.try_join_next() {
        Some(Ok(Err(why))) => {
            Err(Failure::new(why, "look at the server's log; start it with --limit all=off"))
        }
        _ => Ok(()),
    }
}

fn own_cpu() -> Option<Duration> {
    Host::find(Some(std::process::id()), "").cpu()
}

/// Registers users, makes the channel, and joins it with all sessions.
async fn gather(
    address: &str,
    bench: &Args,
    channel: &str,
    context: &Context,
) -> Result<(Vec<Peer>, Vec<Peer>), Failure> {
    let progress = bar(context, bench.subscribers as u64, "{bar:40} {pos}/{len} sessions");
    let users: Vec<User> = (0..bench.subscribers.div_ceil(SESSIONS)).map(|_| User::new()).collect();
    for (nth, user) in users.iter().enumerate() {
        let mut first = Peer::connect(address, user, "first", true).await?;
        if nth == 0 {
            let create = AdminOp::CreateChannel { name: channel, visibility: Visibility::Public };
            first.request(&Frame::Admin(create), |_| ()).await?;
        }
    }
    let mut joining = JoinSet::new();
    let mut peers = Vec::new();
    for nth in 0..bench.subscribers {
        let (address, channel) = (address.to_owned(), channel.to_owned());
        let (user, wire) = (users[nth / SESSIONS].clone(), bench.wire);
        joining.spawn(async move {
            let mut peer = Peer::connect_in(wire, &address, &user, &format!("s-{nth:06}")).await?;
            peer.join(&channel).await?;
            Ok::<_, Failure>(peer)
        });
        while joining.len() >= 64 || (nth + 1 == bench.subscribers && !joining.is_empty()) {
            if let Some(Ok(joined)) = joining.join_next().await {
                peers.push(joined?);
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    let listeners = peers.split_off(bench.posters);
    Ok((peers, listeners))
}

/// Counts what arrives; every so many deliveries, how long it took.
struct Counter {
    seen: u64,
    latencies: Vec<u64>,
}

impl Counter {
    fn deliveries(&mut self, count: u64, message: &[u8], shared: &Shared, now: u64) {
        let before = self.seen / SAMPLED;
        self.seen += count;
        if self.seen / SAMPLED > before {
            let sent = sent_at(message, shared.size);
            self.latencies.extend(sent.map(|sent| now.saturating_sub(sent)));
        }
    }
}

async fn listen(mut peer: Peer, shared: Arc<Shared>) -> Result<(), String> {
    let mut counter = Counter { seen: 0, latencies: Vec::new() };
    while !shared.stop.load(Ordering::Relaxed) {
        peer.fill().await.map_err(|why| format!("a subscriber was cut off: {why}"))?;
        let (before, now) = (counter.seen, shared.micros());
        let wire = peer.wire();
        peer.drain(|message| {
            if let Message::Deliveries(count) = wire.read(message) {
                counter.deliveries(count, message, &shared, now);
            }
        });
        shared.deliveries.fetch_add(counter.seen - before, Ordering::Relaxed);
        shared.record(&shared.delivered, &mut counter.latencies);
    }
    Ok(())
}

async fn post(
    mut peer: Peer,
    mut template: Template,
    in_flight: usize,
    rate: Option<f64>,
    shared: Arc<Shared>,
) -> Result<(), String> {
    let wire = peer.wire();
    let mut counter = Counter { seen: 0, latencies: Vec::new() };
    let (mut sent, mut acked) = (std::collections::VecDeque::new(), Vec::new());
    let mut out = Vec::new();
    let started = Instant::now();
    let mut total = 0u64;
    let mut pace = tokio::time::interval(Duration::from_millis(1));
    while !shared.stop.load(Ordering::Relaxed) {
        let now = shared.micros();
        let allowed = rate.map_or(u64::MAX, |rate| (started.elapsed().as_secs_f64() * rate) as u64);
        out.clear();
        while sent.len() < in_flight && total < allowed {
            template.append(&mut out, now);
            sent.push_back(now);
            total += 1;
        }
        if !out.is_empty() {
            peer.write(&out).await.map_err(|why| format!("a poster was cut off: {why}"))?;
        }
        tokio::select! {
            filled = peer.fill() => filled.map_err(|why| format!("a poster was cut off: {why}"))?,
            _ = pace.tick(), if rate.is_some() => {}
        }
        let (before, now) = (counter.seen, shared.micros());
        let mut refused = false;
        peer.drain(|message| match wire.read(message) {
            Message::Deliveries(count) => counter.deliveries(count, message, &shared, now),
            Message::Stored => acked.extend(sent.pop_front().map(|at| now.saturating_sub(at))),
            Message::Refused => refused = true,
            Message::Other => {}
        });
        if refused {
            return Err("the server refused a post".into());
        }
        shared.posts.fetch_add(acked.len() as u64, Ordering::Relaxed);
        shared.deliveries.fetch_add(counter.seen - before, Ordering::Relaxed);
        shared.record(&shared.acks, &mut acked);
        shared.record(&shared.delivered, &mut counter.latencies);
    }
    Ok(())
}
