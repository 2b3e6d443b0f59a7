//! The engine: one owner of the hub, fed by every connection and by the store, feeding every mailbox.
//!
//! Connections submit without waiting and without a lock; the engine's task takes what has arrived as one
//! round, carries it out, and wakes each connection that it left something for once.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use conclave_core::directory::Directory;
use conclave_core::fanout::{Fanout, Item, Shell};
use conclave_core::handshake::Proven;
use conclave_core::hub::{Action, BatchId, Config, ConnId, Hub, Input, Read};
use conclave_core::protocol::CloseReason;
use conclave_core::record::Record;
use conclave_core::time::{Monotonic, UnixMillis};
use conclave_store::journal::{self, Journal, OpenError};
use concurrent_queue::ConcurrentQueue;
use event_listener::Event;
use tracing::{error, info, warn};

use super::log::Log;
use super::mailbox::{Mailbox, Pushed};
use super::metrics::Metrics;
use crate::clock::Clock;

/// Inputs of one round: enough to fill a commit, few enough that nobody waits long for the next.
const ROUND: usize = 4096;

/// What connections and the store hold of the engine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inbox: ConcurrentQueue<Arrival>,
    waker: AtomicWaker,
    slots: Mutex<Slots>,
    engaged: AtomicUsize,
    left: Event,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
enum Arrival {
    Open { conn: ConnId, proven: Proven, mailbox: Arc<Mailbox> },
    Input(Input),
    Left { conn: ConnId },
    Stored(journal::Event),
}

/// A connection that the hub knows; it is let go when this is dropped.
#[derive(Debug)]
pub struct Engaged {
    conn: ConnId,
    engine: Engine,
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
            self.engine.send(Arrival::Left { conn: self.conn });
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

/// Numbers for connections: a slot, and how often it was used, so that a late word reaches no successor.
#[derive(Debug, Default)]
struct Slots {
    free: Vec<ConnId>,
    used: u32,
}

fn slot(conn: ConnId) -> usize {
    (conn.0 & u64::from(u32::MAX)) as usize
}

impl Engine {
    /// Asks the hub to make a session of a proven connection.
    pub fn open(&self, proven: Proven, mailbox: &Arc<Mailbox>) -> Engaged {
        let conn = {
            let mut slots = self.shared.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.free.pop().unwrap_or_else(|| {
                slots.used += 1;
                ConnId(u64::from(slots.used - 1))
            })
        };
        self.shared.engaged.fetch_add(1, Ordering::SeqCst);
        self.send(Arrival::Open { conn, proven, mailbox: mailbox.clone() });
        Engaged { conn, engine: self.clone(), left: false }
    }

    /// Hands the hub an input.
    pub fn submit(&self, input: Input) {
        self.send(Arrival::Input(input));
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

    fn send(&self, arrival: Arrival) {
        // The queue is unbounded and never closed: each connection is bounded at its edge.
        let _ = self.shared.inbox.push(arrival);
        self.shared.waker.wake();
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
    engine: Engine,
    clock: Clock,
    hub: Hub,
    fanout: Fanout,
    actions: Vec<Action>,
    log: Log,
    hands: Hands,
    next_gauges: Monotonic,
    gauges_due: bool,
    running: journal::Running,
}

impl Driver {
    /// An engine over an open journal.
    ///
    /// # Errors
    /// [`OpenError`] if what the journal holds cannot be read.
    pub fn start(
        config: Config,
        journal: Journal,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let mut directory = Directory::default();
        journal.load(&mut |record| directory.apply(&record))?;
        let shared = Arc::new(Shared {
            inbox: ConcurrentQueue::unbounded(),
            waker: AtomicWaker::new(),
            slots: Mutex::default(),
            engaged: AtomicUsize::new(0),
            left: Event::new(),
            metrics,
        });
        let engine = Engine { shared };
        let teller = engine.clone();
        let running = journal.start(move |event| teller.send(Arrival::Stored(event)))?;
        let hub = Hub::new(config, directory);
        for name in hub.usurped() {
            warn!(user = %name, "an admin's name is held by a user without its pinned key, who is no admin");
        }
        let hands = Hands {
            engine: engine.clone(),
            writer: running.writer(),
            history: running.history(),
            mailboxes: Vec::new(),
            touched: Vec::new(),
            overflowed: Vec::new(),
            failed: Vec::new(),
            drained: false,
        };
        Ok(Self {
            engine,
            clock,
            hub,
            fanout: Fanout::default(),
            actions: Vec::new(),
            log: Log::default(),
            hands,
            next_gauges: Monotonic::default(),
            gauges_due: true,
            running,
        })
    }

    /// The half that connections hold.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The hub, to be looked at.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// The random id of the data directory.
    pub fn server_id(&self) -> &str {
        self.running.server_id()
    }

    /// Has messages older than this purged, in steps that nobody waits for.
    pub fn purge_older_than(&self, cutoff: UnixMillis) {
        self.running.writer().purge_older_than(cutoff);
    }

    /// Ready when something has arrived.
    pub async fn arrived(&self) {
        let shared = &self.engine.shared;
        poll_fn(|cx| {
            shared.waker.register(cx.waker());
            if shared.inbox.is_empty() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Handles what has arrived.
    pub fn round(&mut self) -> Round {
        let now = self.clock.now();
        let mut handled = 0;
        while handled < ROUND {
            let Ok(arrival) = self.engine.shared.inbox.pop() else { break };
            handled += 1;
            let input = match arrival {
                Arrival::Open { conn, proven, mailbox } => {
                    self.hands.place(conn, mailbox);
                    Input::Open { conn, proven }
                }
                Arrival::Input(input) => input,
                Arrival::Left { conn } => {
                    self.hands.release(conn);
                    Input::Closed { conn }
                }
                Arrival::Stored(event) => match self.stored(event) {
                    Some(input) => input,
                    None => continue,
                },
            };
            self.log.input(&self.hub, &input);
            self.hub.handle(now, input, &mut self.actions);
        }
        if self.hub.next_deadline().is_some_and(|at| at <= now.mono) {
            self.hub.handle(now, Input::Tick, &mut self.actions);
        }
        self.carry_out();
        // Counting subscriptions walks all channels: once a second is often enough, and once more when all is
        // quiet again.
        self.gauges_due |= handled > 0;
        if self.gauges_due && now.mono >= self.next_gauges {
            self.gauges_due = false;
            self.next_gauges = now.mono + Duration::from_secs(1);
            self.engine.metrics().gauges(&self.hub.gauges(), self.engine.shared.inbox.len());
        }
        if self.hands.drained {
            return Round::Drained;
        }
        let wake = [self.hub.next_deadline(), self.gauges_due.then_some(self.next_gauges)];
        Round::Until(wake.into_iter().flatten().min().map(|at| self.clock.instant(at)))
    }

    /// Carries out the hub's actions, and what carrying them out led to.
    fn carry_out(&mut self) {
        let now = self.clock.now();
        loop {
            self.engine.metrics().actions(&self.actions);
            self.log.actions(&self.actions);
            self.fanout.carry_out(&mut self.actions, &mut self.hands);
            for (batch, why) in self.hands.failed.drain(..) {
                self.hub.handle(now, Input::PersistFailed { batch, why }, &mut self.actions);
            }
            for conn in self.hands.overflowed.drain(..) {
                self.hub.handle(now, Input::Overflowed { conn }, &mut self.actions);
            }
            if self.actions.is_empty() {
                break;
            }
        }
        for mailbox in self.hands.touched.drain(..) {
            mailbox.wake();
        }
    }

    fn stored(&mut self, event: journal::Event) -> Option<Input> {
        match event {
            journal::Event::Persisted { batch, result: Ok(stats) } => {
                self.engine.metrics().committed(&stats);
                Some(Input::Persisted { batch: BatchId(batch) })
            }
            journal::Event::Persisted { batch, result: Err(why) } => {
                error!(%why, "a batch was not stored");
                self.engine.metrics().commit_failed();
                Some(Input::PersistFailed { batch: BatchId(batch), why: why.to_string() })
            }
            journal::Event::Purged { rows } => {
                if rows > 0 {
                    info!(rows, "old messages were purged");
                }
                None
            }
            journal::Event::Warning(why) => {
                warn!(%why, "the store met a difficulty");
                None
            }
        }
    }

    /// Ends the store: what it was given is written first.
    pub fn stop(self) {
        self.running.stop();
    }
}

/// What the engine reaches out with.
struct Hands {
    engine: Engine,
    writer: journal::Writer,
    history: journal::History,
    mailboxes: Vec<Option<(ConnId, Arc<Mailbox>)>>,
    touched: Vec<Arc<Mailbox>>,
    overflowed: Vec<ConnId>,
    failed: Vec<(BatchId, String)>,
    drained: bool,
}

impl Hands {
    fn place(&mut self, conn: ConnId, mailbox: Arc<Mailbox>) {
        let at = slot(conn);
        if at >= self.mailboxes.len() {
            self.mailboxes.resize_with(at + 1, || None);
        }
        self.mailboxes[at] = Some((conn, mailbox));
    }

    fn release(&mut self, conn: ConnId) {
        if let Some(place) = self.mailboxes.get_mut(slot(conn)) {
            *place = None;
        }
        let again = ConnId(conn.0.wrapping_add(1 << 32));
        let slots = &self.engine.shared.slots;
        slots.lock().unwrap_or_else(PoisonError::into_inner).free.push(again);
    }
}

impl Shell for Hands {
    fn send(&mut self, conn: ConnId, item: Item) {
        let Some(Some((held, mailbox))) = self.mailboxes.get(slot(conn)) else { return };
        if *held != conn {
            return;
        }
        match mailbox.push(item) {
            Pushed::Wake => self.touched.push(mailbox.clone()),
            Pushed::Behind | Pushed::Closed => {}
            Pushed::Full => {
                self.overflowed.push(conn);
                // What follows would be out of order without what was refused.
                let _ = mailbox.push(Item::Close(CloseReason::SlowConsumer));
                self.touched.push(mailbox.clone());
            }
        }
    }

    fn persist(&mut self, batch: BatchId, records: Vec<Record>) {
        if let Err(why) = self.writer.persist(batch.0, records) {
            self.failed.push((batch, why.to_string()));
        }
    }

    fn read(&mut self, read: Read) {
        let Read { channel, since, max_rows, max_bytes, .. } = read;
        let engine = self.engine.clone();
        let wanted = journal::Request { channel, since, max_rows, max_bytes };
        self.history.read(wanted, move |page| {
            let page = page.map_err(|why| why.to_string());
            engine.submit(Input::HistoryRead { read, page });
        });
    }

    fn drained(&mut self) {
        self.drained = true;
    }
}
