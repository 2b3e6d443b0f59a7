//! What is counted, for Prometheus.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64};

use conclave_core::admission::NotAdmitted;
use conclave_core::handshake::Format;
use conclave_core::hub::{Action, Gauges};
use conclave_core::protocol::{CloseReason, Reply};
use conclave_core::stream::{Notice, StreamReply};
use conclave_store::backend::CommitStats;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The server's counters, gauges and histograms.
pub struct Metrics {
    registry: Registry,
    sessions: Gauge,
    subscriptions: Gauge,
    users: Gauge,
    channels: Gauge,
    connections: Family<State, Gauge>,
    held: Gauge,
    stored: Gauge,
    free: Gauge,
    queues: Family<Queue, Gauge>,
    posts: Counter,
    deliveries: Counter,
    whispers: Counter,
    sent: Counter,
    received: Counter,
    refusals: Family<Kind, Counter>,
    closes: Family<Reason, Counter>,
    not_admitted: Family<Bound, Counter>,
    commit_rows: Histogram,
    commit_seconds: Histogram,
    commits_failed: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Queue {
    queue: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Bound {
    reason: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("conclave");
        macro_rules! register {
            ($name:literal, $help:literal, $metric:expr) => {{
                let metric = $metric;
                registry.register($name, $help, metric.clone());
                metric
            }};
        }
        let sessions = register!("sessions", "Live sessions", Gauge::<i64, AtomicI64>::default());
        let subscriptions =
            register!("subscriptions", "Channels that live sessions are in, summed", Gauge::default());
        let users = register!("users", "Registered users", Gauge::default());
        let channels = register!("channels", "Channels", Gauge::default());
        let connections = register!("connections", "Connections by state", Family::default());
        let queues = register!("queue_depth", "What waits, by queue", Family::default());
        let posts = register!("posts", "Posts made durable", Counter::<u64, AtomicU64>::default());
        let deliveries = register!("deliveries", "Posts queued to subscribers", Counter::default());
        let whispers = register!("whispers", "Whispers queued to their session", Counter::default());
        let refusals = register!("refusals", "Requests refused, by kind", Family::default());
        let closes = register!("closes", "Connections ended by the server, by reason", Family::default());
        let not_admitted = register!(
            "not_admitted",
            "Connections not let in, by the bound that they met",
            Family::default()
        );
        // What has not happened is told, too.
        for why in
            [NotAdmitted::Busy, NotAdmitted::BusyAddress, NotAdmitted::Failures, NotAdmitted::Registrations]
        {
            drop(not_admitted.get_or_create(&Bound { reason: why.label() }));
        }
        let commit_rows = register!(
            "commit_records",
            "Records of a commit",
            Histogram::new(exponential_buckets(1.0, 2.0, 13))
        );
        let commits_failed = register!("commits_failed", "Commits that failed", Counter::default());
        let commit_seconds = Histogram::new(exponential_buckets(0.000_05, 2.0, 16));
        registry.register_with_unit(
            "commit_duration",
            "Time that a commit took, the fsync included",
            Unit::Seconds,
            commit_seconds.clone(),
        );
        let held = Gauge::default();
        registry.register_with_unit(
            "held",
            "Held in memory for users by connections",
            Unit::Bytes,
            held.clone(),
        );
        let (stored, free) = (Gauge::default(), Gauge::default());
        registry.register_with_unit("stored", "Space that the store takes", Unit::Bytes, stored.clone());
        registry.register_with_unit("free", "Space that the store may still take", Unit::Bytes, free.clone());
        let (sent, received) = (Counter::default(), Counter::default());
        registry.register_with_unit("sent", "Written to connections", Unit::Bytes, sent.clone());
        registry.register_with_unit("received", "Read from connections", Unit::Bytes, received.clone());
        Self {
            registry,
            sessions,
            subscriptions,
            users,
            channels,
            connections,
            held,
            stored,
            free,
            queues,
            posts,
            deliveries,
            whispers,
            sent,
            received,
            refusals,
            closes,
            not_admitted,
            commit_rows,
            commit_seconds,
            commits_failed,
        }
    }
}

impl Metrics {
    /// Everything, in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    /// Notes bytes written to a socket.
    pub fn bytes_sent(&self, count: usize) {
        self.sent.inc_by(count as u64);
    }

    /// Notes bytes read from a socket.
    pub fn bytes_received(&self, count: usize) {
        self.received.inc_by(count as u64);
    }

    /// Notes that the server ends a connection.
    pub fn closed(&self, reason: &CloseReason, opening: bool) {
        let phase = if opening { "opening" } else { "session" };
        self.closes.get_or_create(&Reason { reason: reason.label(), phase }).inc();
    }

    /// Notes that a connection was not let in.
    pub fn not_admitted(&self, why: NotAdmitted) {
        self.not_admitted.get_or_create(&Bound { reason: why.label() }).inc();
    }

    /// Notes connections that are open in a state: `upgrading`, `authenticating` or `session`.
    pub fn connection(&self, state: &'static str, change: i64) {
        self.connections.get_or_create(&State { state }).inc_by(change);
    }

    /// Notes what the hub decided.
    pub fn actions(&self, actions: &[Action]) {
        let (mut posts, mut deliveries) = (0, 0);
        for action in actions {
            match action {
                Action::Deliver { to, except, .. } => {
                    // A session of version 1 does not receive its own post.
                    let own = to.of(Format::V1).binary_search(except).is_ok();
                    deliveries += (to.len() - usize::from(own)) as u64;
                }
                Action::Reply { reply: Reply::Sent | Reply::Stream(StreamReply::Stored { .. }), .. } => {
                    posts += 1
                }
                Action::Notify { notice: Notice::Deliveries { messages, .. }, .. } => {
                    deliveries += messages.len() as u64;
                }
                Action::Reply { reply: Reply::Refused(refusal), .. } => {
                    let kind = refusal.kind();
                    self.refusals.get_or_create(&Kind { kind }).inc();
                }
                Action::Whisper { .. } => {
                    self.whispers.inc();
                    posts -= 1;
                }
                _ => {}
            }
        }
        self.posts.inc_by(u64::try_from(posts).unwrap_or(0));
        self.deliveries.inc_by(deliveries);
    }

    /// Notes a commit.
    pub fn committed(&self, stats: &CommitStats) {
        self.commit_rows.observe(stats.rows as f64);
        self.commit_seconds.observe(stats.duration.as_secs_f64());
    }

    /// Notes a commit that failed.
    pub fn commit_failed(&self) {
        self.commits_failed.inc();
    }

    /// Notes the bytes that connections hold for their users.
    pub fn held(&self, bytes: usize) {
        self.held.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Notes the space that the store takes and has.
    pub fn space(&self, stored: u64, free: u64) {
        self.stored.set(i64::try_from(stored).unwrap_or(i64::MAX));
        self.free.set(i64::try_from(free).unwrap_or(i64::MAX));
    }

    /// Notes the hub's numbers.
    pub fn gauges(&self, gauges: &Gauges, inbox: usize) {
        let set = |gauge: &Gauge, value: usize| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.sessions, gauges.sessions);
        set(&self.subscriptions, gauges.subscriptions);
        set(&self.users, gauges.users);
        set(&self.channels, gauges.channels);
        for (queue, depth) in [("inbox", inbox), ("gathering", gauges.gathering), ("waiting", gauges.waiting)]
        {
            set(&self.queues.get_or_create(&Queue { queue }), depth);
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
