//! The engine: one owner of the hub, fed by every connection and by the store, feeding every mailbox.
//!
//! Connections submit without waiting and without a lock; the engine's task has the core handle what has arrived
//! in rounds ([`engine::Engine`]).

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use conclave_core::directory::Directory;
use conclave_core::engine::{self, Arrival, ConnIds};
use conclave_core::handshake::Proven;
use conclave_core::hub::{Action, AuditRead, BatchId, Config, ConnId, Hub, Input, Read};
use conclave_core::record::Record;
use conclave_core::time::{Monotonic, Now, UnixMillis};
use conclave_store::backend::{AuditRequest, Backend, Event as Stored, EventSink, Request};
use concurrent_queue::ConcurrentQueue;
use event_listener::Event;
use tracing::{error, info, warn};

use super::log::Log;
use super::mailbox::Mailbox;
use super::metrics::Metrics;
use crate::clock::Clock;

/// What connections and the store hold of the engine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inbox: ConcurrentQueue<Queued>,
    waker: AtomicWaker,
    conn_ids: Mutex<ConnIds>,
    engaged: AtomicUsize,
    left: Event,
    metrics: Arc<Metrics>,
}

/// What waits for the next round.
#[derive(Debug)]
enum Queued {
    Arrival(Arrival<Mailbox>),
    Stored(Stored),
}

/// A connection that the hub knows; it is let go when this is dropped.
#[derive(Debug)]
pub struct Engaged {
    conn: ConnId,
    engine: EngineHandle,
    left: bool,
}

impl Engaged {
    /// The connection's number.
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// Tells the hub that the session has ended, even if the connection still says its last word.
    pub fn leave(&mut self) {
        if !self.left {
            self.left = true;
            self.engine.arrive(Arrival::Left { conn: self.conn });
        }
    }
}

impl Drop for Engaged {
    fn drop(&mut self) {
        self.leave();
        let shared = &self.engine.shared;
        if shared.engaged.fetch_sub(1, Ordering::SeqCst) == 1 {
            shared.left.notify(usize::MAX);
        }
    }
}

impl EngineHandle {
    /// Asks the hub to make a session of a proven connection.
    pub fn open(&self, proven: Proven, mailbox: &Mailbox) -> Engaged {
        let conn = self.conn_ids().take();
        self.shared.engaged.fetch_add(1, Ordering::SeqCst);
        self.arrive(Arrival::Open { conn, proven, mailbox: mailbox.clone() });
        Engaged { conn, engine: self.clone(), left: false }
    }

    /// Hands the hub an input.
    pub fn submit(&self, input: Input) {
        self.arrive(Arrival::Input(input));
    }

    /// Connections that the hub knows and that have not ended.
    pub fn engaged(&self) -> usize {
        self.shared.engaged.load(Ordering::SeqCst)
    }

    /// Ready when no connection is left that the hub knew.
    pub async fn all_left(&self) {
        loop {
            let listener = self.shared.left.listen();
            if self.engaged() == 0 {
                return;
            }
            listener.await;
        }
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    fn arrive(&self, arrival: Arrival<Mailbox>) {
        self.send(Queued::Arrival(arrival));
    }

    fn send(&self, queued: Queued) {
        // The queue is unbounded and never closed: each connection is bounded at its edge.
        let _ = self.shared.inbox.push(queued);
        self.shared.waker.wake();
    }

    fn conn_ids(&self) -> MutexGuard<'_, ConnIds> {
        self.shared.conn_ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// Call again when something arrives, or at this time.
    Until(Option<Instant>),
    /// The hub is drained: every accepted post is answered, every session told.
    Drained,
}

/// The engine's own half: the hub and what it drives.
pub struct Driver {
    clock: Clock,
    engine: engine::Engine<Mailbox>,
    outbound: Outbound,
    next_gauges: Monotonic,
    gauges_due: bool,
}

impl Driver {
    /// An engine over what is stored, and the backend that `start` starts with a sink for its events.
    ///
    /// # Errors
    /// What `start` says.
    pub fn start<E>(
        config: Config,
        directory: Directory,
        metrics: Arc<Metrics>,
        clock: Clock,
        start: impl FnOnce(EventSink) -> Result<Box<dyn Backend>, E>,
    ) -> Result<Self, E> {
        let shared = Arc::new(Shared {
            inbox: ConcurrentQueue::unbounded(),
            waker: AtomicWaker::new(),
            conn_ids: Mutex::default(),
            engaged: AtomicUsize::new(0),
            left: Event::new(),
            metrics,
        });
        let handle = EngineHandle { shared };
        let sink = handle.clone();
        let backend = start(Arc::new(move |event| sink.send(Queued::Stored(event))))?;
        let hub = Hub::new(config, directory);
        for name in hub.usurped() {
            warn!(user = %name, "an admin's name is held by a user without its pinned key, who is no admin");
        }
        Ok(Self {
            clock,
            engine: engine::Engine::new(hub),
            outbound: Outbound { handle, backend, log: Log::default() },
            next_gauges: Monotonic::default(),
            gauges_due: true,
        })
    }

    /// The half that connections hold.
    pub fn handle(&self) -> &EngineHandle {
        &self.outbound.handle
    }

    /// The hub, to be looked at.
    pub fn hub(&self) -> &Hub {
        self.engine.hub()
    }

    /// Has messages older than this purged, in steps that nobody waits for.
    pub fn purge_older_than(&self, cutoff: UnixMillis) {
        self.outbound.backend.purge_older_than(cutoff);
    }

    /// Has the space measured that the store takes and has.
    pub fn measure(&self) {
        self.outbound.backend.measure();
    }

    /// Ready when something has arrived.
    pub async fn arrived(&self) {
        let shared = &self.outbound.handle.shared;
        poll_fn(|cx| {
            shared.waker.register(cx.waker());
            if shared.inbox.is_empty() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Handles what has arrived.
    pub fn round(&mut self) -> Round {
        let now = self.clock.now();
        let engine::Round { arrivals, drained } = self.engine.round(now, &mut self.outbound);
        // Counting subscriptions walks all channels: once a second is often enough, and once more when all is
        // quiet again.
        self.gauges_due |= arrivals > 0;
        if self.gauges_due && now.mono >= self.next_gauges {
            self.gauges_due = false;
            self.next_gauges = now.mono + Duration::from_secs(1);
            let shared = &self.outbound.handle.shared;
            shared.metrics.gauges(&self.engine.hub().gauges(), shared.inbox.len());
            shared.metrics.held(self.engine.memory().held());
        }
        if drained {
            return Round::Drained;
        }
        let wake = [self.engine.next_deadline(), self.gauges_due.then_some(self.next_gauges)];
        Round::Until(wake.into_iter().flatten().min().map(|at| self.clock.instant(at)))
    }

    /// Ends the store: what it was given is written first.
    pub fn stop(self) {
        self.outbound.backend.stop();
    }
}

/// What the engine works with: the queue of its handles, the store, the log and the metrics.
struct Outbound {
    handle: EngineHandle,
    backend: Box<dyn Backend>,
    log: Log,
}

impl engine::Host<Mailbox> for Outbound {
    fn next_arrival(&mut self) -> Option<Arrival<Mailbox>> {
        loop {
            match self.handle.shared.inbox.pop().ok()? {
                Queued::Arrival(arrival) => return Some(arrival),
                Queued::Stored(event) => {
                    if let Some(input) = self.stored(event) {
                        return Some(Arrival::Input(input));
                    }
                }
            }
        }
    }

    fn persist(&mut self, batch: BatchId, records: Vec<Record>) {
        self.backend.persist(batch.0, records);
    }

    fn read(&mut self, read: Read) {
        let Read { channel, range, max_rows, max_bytes, .. } = read;
        let handle = self.handle.clone();
        let answer = move |page: Result<_, _>| {
            let page = page.map_err(|why: conclave_store::backend::StoreError| why.to_string());
            handle.submit(Input::HistoryRead { read, page });
        };
        self.backend.read(Request { channel, range, max_rows, max_bytes }, Box::new(answer));
    }

    fn read_audit(&mut self, read: AuditRead) {
        let AuditRead { channel, before, limit, .. } = read;
        let handle = self.handle.clone();
        let answer = move |page: Result<_, _>| {
            let page = page.map_err(|why: conclave_store::backend::StoreError| why.to_string());
            handle.submit(Input::AuditRead { read, page });
        };
        let request = AuditRequest { channel, before, max_rows: limit.saturating_add(1) };
        self.backend.read_audit(request, Box::new(answer));
    }

    fn taken(&mut self, mailbox: &Mailbox) -> u64 {
        mailbox.all_taken()
    }

    fn wake(&mut self, mailbox: Mailbox) {
        mailbox.wake();
    }

    fn release(&mut self, conn: ConnId) {
        self.handle.conn_ids().release(conn);
    }

    fn before(&mut self, _: Now, hub: &Hub, input: &Input) {
        self.log.input(hub, input);
    }

    fn after(&mut self, _: Now, _: &Hub, actions: &[Action]) {
        if !actions.is_empty() {
            self.handle.metrics().actions(actions);
            self.log.actions(actions);
        }
    }
}

impl Outbound {
    fn stored(&self, event: Stored) -> Option<Input> {
        match event {
            Stored::Persisted { batch, result: Ok(stats) } => {
                self.handle.metrics().committed(&stats);
                Some(Input::Persisted { batch: BatchId(batch) })
            }
            Stored::Persisted { batch, result: Err(why) } => {
                error!(%why, "a batch was not stored");
                self.handle.metrics().commit_failed();
                Some(Input::PersistFailed { batch: BatchId(batch), why: why.to_string() })
            }
            Stored::AlreadyStored { batch, posts } => {
                Some(Input::AlreadyStored { batch: BatchId(batch), posts })
            }
            Stored::Purged { rows } => {
                if rows > 0 {
                    info!(rows, "old messages were purged");
                }
                None
            }
            Stored::Space { stored, free } => {
                self.handle.metrics().space(stored, free);
                Some(Input::Space { stored, free })
            }
            Stored::Warning(why) => {
                warn!(%why, "the store met a difficulty");
                None
            }
        }
    }
}
