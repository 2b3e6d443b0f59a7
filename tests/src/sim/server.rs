//! The server's process: the engine's rounds around the hub and its fan-out, as the shell drives them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use conclave_core::fanout::{Fanout, Item, Shell};
use conclave_core::handshake::Proven;
use conclave_core::hub::{Action, BatchId, Config, ConnId, Hub, Input, Read};
use conclave_core::name::UserName;
use conclave_core::protocol::CloseReason;
use conclave_core::record::Record;
use conclave_shell::server::mailbox::Pushed;

use super::plan::{MILLI, SECOND};
use super::watch::Watch;
use super::wire::{Down, ServerEnd};
use super::world::{Event, World};

/// Inputs of one round.
const ROUND: usize = 4096;
/// What may wait for the hub: every connection has its bound, and there are no more than these.
const MOST_WAITING: usize = 256 * 64;

/// The server, running or not.
pub(super) struct Server {
    /// How often it has started.
    pub life: u32,
    /// The process, while it runs.
    pub process: Option<Process>,
    /// Connections whose server's end lives.
    pub(super) ends: BTreeSet<usize>,
}

/// A running server.
pub(super) struct Process {
    /// The hub.
    pub hub: Hub,
    /// Its referee.
    pub watch: Watch,
    fanout: Fanout,
    actions: Vec<Action>,
    hands: Hands,
    inbox: VecDeque<Incoming>,
    round_due: bool,
    timer: Option<u64>,
    places: BTreeMap<ConnId, usize>,
    free: Vec<ConnId>,
    used: u64,
    /// It shuts down.
    pub draining: bool,
}

enum Incoming {
    Open { conn: ConnId, proven: Proven, wire: usize },
    Input(Input),
    Left(ConnId),
}

#[derive(Default)]
struct Hands {
    sends: Vec<(ConnId, Item)>,
    batches: Vec<(BatchId, Vec<Record>)>,
    reads: Vec<Read>,
    drained: bool,
}

impl Shell for Hands {
    fn send(&mut self, conn: ConnId, item: Item) {
        self.sends.push((conn, item));
    }

    fn persist(&mut self, batch: BatchId, records: Vec<Record>) {
        self.batches.push((batch, records));
    }

    fn read(&mut self, read: Read) {
        self.reads.push(read);
    }

    fn drained(&mut self) {
        self.drained = true;
    }
}

impl Server {
    /// A server that has not started.
    pub(super) fn new() -> Self {
        Self { life: 0, process: None, ends: BTreeSet::new() }
    }
}

impl World {
    /// The server starts over what is durable.
    pub(super) fn start(&mut self) {
        if self.server.process.is_some() {
            return;
        }
        self.server.life += 1;
        let mut config = Config { limits: self.plan.limits.clone(), ..Config::default() };
        // The one name that the operator gave.
        if let Ok(root) = UserName::new("root") {
            config.admins.insert(root, None);
        }
        let watch = match Watch::new(config.clone(), self.store.records()) {
            Ok(watch) => watch,
            Err(what) => return self.fail(format!("what is durable contradicts itself: {what}")),
        };
        self.server.process = Some(Process {
            hub: Hub::new(config, self.store.load()),
            watch,
            fanout: Fanout::default(),
            actions: Vec::new(),
            hands: Hands::default(),
            inbox: VecDeque::new(),
            round_due: false,
            timer: None,
            places: BTreeMap::new(),
            free: Vec::new(),
            used: 0,
            draining: false,
        });
        let life = self.server.life;
        self.trace(format_args!("server: life {life} begins"));
    }

    fn incoming(&mut self, incoming: Incoming) {
        let Some(process) = &mut self.server.process else { return };
        process.inbox.push_back(incoming);
        if !std::mem::replace(&mut process.round_due, true) {
            let delay = self.net.below(150);
            self.after(delay, Event::Round(self.server.life));
        }
    }

    /// A connection asks the engine to become a session.
    pub(super) fn engage(&mut self, wire: usize, proven: Proven) -> Option<ConnId> {
        let process = self.server.process.as_mut()?;
        let conn = process.free.pop().unwrap_or_else(|| {
            process.used += 1;
            ConnId(process.used - 1)
        });
        self.incoming(Incoming::Open { conn, proven, wire });
        Some(conn)
    }

    /// A connection hands the hub an input.
    pub(super) fn submit(&mut self, input: Input) {
        self.incoming(Incoming::Input(input));
    }

    /// A connection tells that it has ended.
    pub(super) fn leave(&mut self, conn: ConnId) {
        self.incoming(Incoming::Left(conn));
    }

    /// Something arrives at the engine of this life.
    pub(super) fn arrive(&mut self, life: u32, input: Input) {
        if life == self.server.life {
            self.incoming(Incoming::Input(input));
        }
    }

    /// The hub's deadline has come.
    pub(super) fn hub_timer(&mut self, life: u32) {
        if life != self.server.life {
            return;
        }
        if let Some(process) = &mut self.server.process {
            process.timer = None;
            if !process.round_due {
                self.round(life);
            }
        }
    }

    /// The engine takes what has arrived.
    pub(super) fn round(&mut self, life: u32) {
        if life != self.server.life {
            return;
        }
        let Some(mut process) = self.server.process.take() else { return };
        process.round_due = false;
        let now = self.now();
        for _ in 0..ROUND {
            let Some(incoming) = process.inbox.pop_front() else { break };
            let input = match incoming {
                Incoming::Open { conn, proven, wire } => {
                    process.places.insert(conn, wire);
                    Input::Open { conn, proven }
                }
                Incoming::Input(input) => input,
                Incoming::Left(conn) => {
                    process.places.remove(&conn);
                    process.free.push(ConnId(conn.0.wrapping_add(1 << 32)));
                    Input::Closed { conn }
                }
            };
            self.hand_in(&mut process, input);
        }
        if process.hub.next_deadline().is_some_and(|at| at <= now.mono) {
            self.hand_in(&mut process, Input::Tick);
            let next = process.hub.next_deadline();
            if next.is_some_and(|at| at <= now.mono) {
                self.fail(format!("the hub leaves undone what is due at {next:?}"));
            }
        }
        self.carry_out(&mut process);
        let next = process.hub.next_deadline();
        if let Some(at) = next.map(Self::server_at)
            && process.timer.is_none_or(|timer| timer > at)
        {
            process.timer = Some(at);
            self.on(at, Event::HubTimer(life));
        }
        if process.hands.drained {
            let verdict = process.watch.at_rest();
            self.demand(verdict);
            self.trace(format_args!("server: drained"));
            // The process ends a little later: last words are being written.
            process.draining = true;
            self.server.process = Some(process);
            return self.stop_after_drain();
        }
        self.server.process = Some(process);
    }

    /// The hub takes an input, under its referee's eyes.
    fn hand_in(&mut self, process: &mut Process, input: Input) {
        if self.failure.is_some() {
            return;
        }
        let now = self.now();
        self.coverage.hub_inputs += 1;
        self.trace(format_args!("hub: {input:?}"));
        let outcome = match &input {
            Input::Persisted { .. } => Some(true),
            Input::PersistFailed { .. } => Some(false),
            _ => None,
        };
        let verdict = process.watch.input(now, &input);
        self.demand(verdict);
        let before = process.actions.len();
        process.hub.handle(now, input, &mut process.actions);
        if self.trace.is_some() {
            for action in &process.actions[before..] {
                self.trace(format_args!("     {action:?}"));
            }
        }
        let done = &process.actions[before..];
        let verdict = process.watch.actions(now, done, &process.hub, &mut self.coverage);
        self.demand(verdict);
        match outcome {
            Some(true) => self.coverage.commits += 1,
            Some(false) => self.coverage.failed_commits += 1,
            None => {}
        }
        if outcome == Some(false) || self.coverage.hub_inputs.is_multiple_of(32) {
            let verdict = process.watch.compare(now, &process.hub);
            self.demand(verdict);
            if process.hub.gauges().waiting + process.hub.gauges().gathering > MOST_WAITING {
                self.fail("the hub gathers without bound".into());
            }
        }
        self.subscriptions_changed(process);
    }

    /// Tells the clients' referees what the hub did to subscriptions.
    fn subscriptions_changed(&mut self, process: &mut Process) {
        for (conn, channel, name, stood) in std::mem::take(&mut process.watch.joined) {
            let Some(wire) = process.places.get(&conn) else { continue };
            let next = process.watch.model.channels.get(&channel).map_or(0, |it| it.last.seq as usize);
            let client = self.wires[*wire].client;
            if let Some(client) = &mut self.clients[client] {
                client.subscribed(&name, channel, self.store.rows(channel), next, stood);
            }
        }
        for (conn, channel) in std::mem::take(&mut process.watch.ended) {
            let Some(wire) = process.places.get(&conn) else { continue };
            let client = self.wires[*wire].client;
            if let Some(client) = &mut self.clients[client] {
                client.unsubscribed(channel);
            }
        }
        for (channel, name) in std::mem::take(&mut process.watch.renamed) {
            let durable = self.store.rows(channel).len();
            for client in self.clients.iter_mut().flatten() {
                client.renamed(channel, &name, durable);
            }
        }
    }

    fn carry_out(&mut self, process: &mut Process) {
        let mut touched = BTreeSet::new();
        while !process.actions.is_empty() && self.failure.is_none() {
            process.fanout.carry_out(&mut process.actions, &mut process.hands);
            let mut overflowed = Vec::new();
            for (conn, item) in process.hands.sends.drain(..) {
                let Some(wire) = process.places.get(&conn).copied() else { continue };
                let Some(end) = self.wires[wire].server.as_mut() else { continue };
                touched.insert(wire);
                match end.mailbox.push(item) {
                    Pushed::Wake | Pushed::Behind | Pushed::Closed => {}
                    Pushed::Full => {
                        overflowed.push(conn);
                        self.coverage.overflows += 1;
                        let _ = end.mailbox.push(Item::Close(CloseReason::SlowConsumer));
                    }
                }
            }
            for (batch, records) in std::mem::take(&mut process.hands.batches) {
                self.commit_later(process, batch, records);
            }
            for read in std::mem::take(&mut process.hands.reads) {
                let delay = self.net.between(self.plan.read) / 2;
                self.after(delay, Event::Read(self.server.life, read));
            }
            for conn in overflowed {
                self.hand_in(process, Input::Overflowed { conn });
            }
        }
        for wire in touched {
            self.wake(wire);
        }
    }

    fn commit_later(&mut self, process: &mut Process, batch: BatchId, records: Vec<Record>) {
        if self.at < self.store.full_until && self.net.one_in(2) {
            // The writer itself is in trouble and takes nothing.
            let why = "the store takes nothing".into();
            return self.hand_in(process, Input::PersistFailed { batch, why });
        }
        self.store.submit(batch, records);
        let mut delay = self.net.between(self.plan.commit);
        if self.at < self.store.slow_until {
            delay += self.net.below(SECOND);
        }
        self.after(delay, Event::Commit(self.server.life));
    }

    /// A commit ends: durable from here on, and the engine is told a little later.
    pub(super) fn commit(&mut self, life: u32) {
        if life != self.server.life {
            return;
        }
        let Some((batch, outcome)) = self.store.commit(self.at) else { return };
        self.trace(format_args!("store: {batch:?} {outcome:?}"));
        let input = match outcome {
            Ok(()) => Input::Persisted { batch },
            Err(why) => Input::PersistFailed { batch, why },
        };
        let delay = self.net.below(self.plan.commit.0 + 1);
        self.after(delay, Event::Arrive(life, input));
    }

    /// A page is read as it is now; the engine is told later.
    pub(super) fn read(&mut self, life: u32, read: Read) {
        if life != self.server.life {
            return;
        }
        let page = self.store.read(self.at, &read);
        let delay = self.net.between(self.plan.read) / 2;
        self.after(delay, Event::Arrive(life, Input::HistoryRead { read, page }));
    }

    /// The process dies, and starts again after a while.
    pub(super) fn crash(&mut self) {
        if self.server.process.take().is_none() {
            return;
        }
        self.coverage.crashes += 1;
        self.server.life += 1;
        let luck = &mut self.luck;
        self.coverage.survived += self.store.crash(|| luck.one_in(2)) as u64;
        self.end_all();
        let down = self.luck.around(3 * SECOND);
        self.after(down, Event::Start);
    }

    /// Every connection of a process that is gone breaks.
    fn end_all(&mut self) {
        for wire in std::mem::take(&mut self.server.ends) {
            self.wires[wire].server = None;
            // Some clients are told; the others find out when they send, or by silence.
            if self.luck.below(4) > 0 {
                self.send_down(wire, Down::End("connection reset"));
            }
        }
    }

    /// The server is asked to stop: no new connections, and everything accepted is finished.
    pub(super) fn shut_down(&mut self) {
        if let Some(process) = &mut self.server.process
            && !std::mem::replace(&mut process.draining, true)
        {
            self.coverage.drains += 1;
            self.submit(Input::Shutdown);
        }
    }

    fn stop_after_drain(&mut self) {
        // Whatever is still to be written has a moment.
        let wires: Vec<usize> = self.server.ends.iter().copied().collect();
        for wire in wires {
            self.poll(wire);
        }
        self.server.process = None;
        self.server.life += 1;
        self.end_all();
        let down = self.luck.around(2 * SECOND) + 10 * MILLI;
        self.after(down, Event::Start);
    }

    /// Compares the hub with its referee's model.
    pub(super) fn inspect(&mut self) {
        if let Some(process) = self.server.process.take() {
            let verdict = process.watch.compare(self.now(), &process.hub);
            self.demand(verdict);
            self.server.process = Some(process);
        }
    }

    /// Bytes that a connection's end may hold.
    pub(super) fn bounded(&self, end: &ServerEnd) -> Result<(), String> {
        // One item always fits, and one mailbox may be taken while there is room.
        let page = self.plan.limits.page_bytes + self.plan.limits.page_rows * 160;
        let most = self.plan.queue * 2 + super::connection::WRITE + page + (16 << 10);
        let held = end.mailbox.bytes() + end.queue.len();
        if held > most { Err(format!("{held} bytes wait for one connection")) } else { Ok(()) }
    }
}
