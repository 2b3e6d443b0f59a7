//! The server's process: the core's engine, with a queue of arrivals and a store that the simulation brings.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use conclave_core::engine::{Arrival, ConnIds, Engine, Host};
use conclave_core::handshake::Proven;
use conclave_core::hub::{Action, AuditRead, BatchId, Config, ConnId, Hub, Input, Read};
use conclave_core::name::UserName;
use conclave_core::record::{ChannelId, Record};
use conclave_core::time::Now;

use super::plan::{MILLI, SECOND};
use super::store::Committed;
use super::watch::Watch;
use super::wire::{Down, Mailbox, ServerEnd};
use super::world::{Event, World};

/// What may wait for the hub: every connection has its bound, and there are no more than these.
const MOST_WAITING: usize = 256 * 64;

/// The server, running or not.
pub(super) struct Server {
    /// How often it has started.
    pub life: u32,
    /// So many records were durable when it started last.
    pub began: usize,
    /// The process, while it runs.
    pub process: Option<Process>,
    /// Connections whose server's end lives.
    pub(super) ends: BTreeSet<usize>,
}

/// A running server.
pub(super) struct Process {
    /// The hub, its fan-out and the mailboxes.
    pub engine: Engine<Mailbox>,
    /// What the engine works with.
    pub outside: Outside,
    round_due: bool,
    timer: Option<u64>,
    /// It shuts down.
    pub draining: bool,
}

/// The queue of arrivals, and the hub's referee.
pub(super) struct Outside {
    /// The referee.
    pub watch: Watch,
    inbox: VecDeque<Arrival<Mailbox>>,
    conn_ids: ConnIds,
    /// The connections that have not left, as the referee knows them.
    connections: BTreeMap<ConnId, Mailbox>,
    to_wake: BTreeSet<usize>,
}

impl Server {
    /// A server that has not started.
    pub(super) fn new() -> Self {
        Self { life: 0, began: 0, process: None, ends: BTreeSet::new() }
    }
}

impl World {
    /// The server starts over what is durable.
    pub(super) fn start(&mut self) {
        if self.server.process.is_some() {
            return;
        }
        self.server.life += 1;
        self.server.began = self.store.records().len();
        let mut config = Config { limits: self.plan.limits.clone(), ..Config::default() };
        // The one name that the operator gave.
        if let Ok(root) = UserName::new("root") {
            config.admins.insert(root, None);
        }
        let watch = match Watch::new(config.clone(), self.store.records(), self.store.newest_purged()) {
            Ok(watch) => watch,
            Err(what) => return self.fail(format!("what is durable contradicts itself: {what}")),
        };
        self.server.process = Some(Process {
            engine: Engine::new(Hub::new(config, self.store.load())),
            outside: Outside {
                watch,
                inbox: VecDeque::new(),
                conn_ids: ConnIds::default(),
                connections: BTreeMap::new(),
                to_wake: BTreeSet::new(),
            },
            round_due: false,
            timer: None,
            draining: false,
        });
        let life = self.server.life;
        self.trace(format_args!("server: life {life} begins"));
    }

    /// Whether a reader, by its number on the wire, had a position when the server started.
    pub(super) fn had_position(&self, number: u64, of: ChannelId) -> bool {
        self.store.records()[..self.server.began].iter().any(|record| {
            matches!(record, Record::CursorMoved { reader, channel, .. }
                if reader.0 + 1 == number && *channel == of)
        })
    }

    /// Something arrives at the engine.
    pub(super) fn arrives(&mut self, arrival: Arrival<Mailbox>) {
        let Some(process) = &mut self.server.process else { return };
        process.outside.inbox.push_back(arrival);
        if !std::mem::replace(&mut process.round_due, true) {
            let delay = self.net.below(150);
            self.after(delay, Event::Round(self.server.life));
        }
    }

    /// A connection asks the engine to become a session.
    pub(super) fn engage(&mut self, mailbox: &Mailbox, proven: Proven) -> ConnId {
        let conn = match &mut self.server.process {
            Some(process) => process.outside.conn_ids.take(),
            // It ends with its process.
            None => ConnId::default(),
        };
        self.arrives(Arrival::Open { conn, proven, mailbox: mailbox.clone() });
        conn
    }

    /// A connection hands the hub an input.
    pub(super) fn submit(&mut self, input: Input) {
        self.arrives(Arrival::Input(input));
    }

    /// An input arrives at the engine of this life.
    pub(super) fn arrive(&mut self, life: u32, input: Input) {
        if life == self.server.life {
            self.submit(input);
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
        let Process { engine, outside, .. } = &mut process;
        let overflows: u64 = outside.connections.values().map(Mailbox::overflows).sum();
        let round = engine.round(now, &mut Round { world: self, outside, outcome: None });
        for wire in std::mem::take(&mut outside.to_wake) {
            self.wake(wire);
        }
        let hub = engine.hub();
        let next = hub.next_deadline().filter(|at| *at <= now.mono);
        if next.is_some() || hub.has_batch() {
            self.fail(format!("a round leaves undone what is due, at {next:?}"));
        }
        for (conn, mailbox) in outside.connections.iter().filter(|(_, mailbox)| mailbox.overflows() > 0) {
            if hub.path(*conn).is_some() {
                let wire = mailbox.wire();
                self.fail(format!("connection {wire} does not read, and its session lives on"));
            }
        }
        let full: u64 = outside.connections.values().map(Mailbox::overflows).sum();
        self.coverage.overflows += full.saturating_sub(overflows);
        if !process.outside.inbox.is_empty() {
            process.round_due = true;
            self.after(1, Event::Round(life));
        }
        let next = process.engine.next_deadline();
        if let Some(at) = next.map(Self::server_at)
            && process.timer.is_none_or(|timer| timer > at)
        {
            process.timer = Some(at);
            self.on(at, Event::HubTimer(life));
        }
        if round.drained {
            let verdict = process.outside.watch.at_rest();
            self.demand(verdict);
            self.trace(format_args!("server: drained"));
            // The process ends a little later: last words are being written.
            process.draining = true;
            self.server.process = Some(process);
            return self.stop_after_drain();
        }
        self.server.process = Some(process);
    }

    /// Tells the clients' referees what the hub did to subscriptions.
    fn subscriptions_changed(&mut self, outside: &mut Outside) {
        let Outside { watch, connections, .. } = outside;
        for (conn, channel, name, stood) in std::mem::take(&mut watch.joined) {
            let Some(mailbox) = connections.get(&conn) else { continue };
            let next = watch.model.channels.get(&channel).map_or(0, |it| it.last.seq as usize);
            let client = self.wires[mailbox.wire()].client;
            if let Some(client) = &mut self.clients[client] {
                client.subscribed(&name, channel, self.store.rows(channel), next, stood);
            }
        }
        for (conn, channel) in std::mem::take(&mut watch.ended) {
            let Some(mailbox) = connections.get(&conn) else { continue };
            let client = self.wires[mailbox.wire()].client;
            if let Some(client) = &mut self.clients[client] {
                client.unsubscribed(channel);
            }
        }
        for (channel, name) in std::mem::take(&mut watch.renamed) {
            let durable = self.store.rows(channel).len();
            for client in self.clients.iter_mut().flatten() {
                client.renamed(channel, &name, durable);
            }
        }
    }

    /// A commit ends: durable from here on, and the engine is told a little later.
    pub(super) fn commit(&mut self, life: u32) {
        if life != self.server.life {
            return;
        }
        let Some((batch, outcome)) = self.store.commit(self.at) else { return };
        self.trace(format_args!("store: {batch:?} {outcome:?}"));
        let input = match outcome {
            Committed::Stored => Input::Persisted { batch },
            Committed::Known(posts) => {
                self.coverage.already_stored += posts.len() as u64;
                Input::AlreadyStored { batch, posts }
            }
            Committed::Failed(why) => Input::PersistFailed { batch, why },
            Committed::Repeats => return self.fail(format!("{batch:?} has one post twice")),
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
            let verdict = process.outside.watch.compare(self.now(), process.engine.hub());
            self.demand(verdict);
            self.server.process = Some(process);
        }
    }

    /// Bytes that a connection's end may hold.
    pub(super) fn bounded(&self, end: &ServerEnd) -> Result<(), String> {
        // One item always fits, and one mailbox may be taken while there is room.
        let limits = &self.plan.limits;
        let page = limits.page_bytes + limits.page_rows.max(limits.catch_up_rows.min(500)) * 160;
        let most = if end.outside.resumes {
            // A burst is what one commit posted; text takes more room in JSON than what it is counted by.
            self.plan.live * 2 + page * 4 + (128 << 10)
        } else {
            self.plan.queue * 2 + page
        };
        let most = most + super::connection::WRITE + (16 << 10);
        let held = end.outside.mailbox.bytes() + end.pump.unwritten();
        if held > most { Err(format!("{held} bytes wait for one connection")) } else { Ok(()) }
    }
}

/// What the engine works with in a round.
struct Round<'a> {
    world: &'a mut World,
    outside: &'a mut Outside,
    /// Whether the input that is handled makes a batch durable.
    outcome: Option<bool>,
}

impl Host<Mailbox> for Round<'_> {
    fn next_arrival(&mut self) -> Option<Arrival<Mailbox>> {
        if self.world.failure.is_some() {
            return None;
        }
        let arrival = self.outside.inbox.pop_front()?;
        match &arrival {
            Arrival::Open { conn, mailbox, .. } => {
                self.outside.connections.insert(*conn, mailbox.clone());
            }
            Arrival::Left { conn } => {
                self.outside.connections.remove(conn);
            }
            Arrival::Input(_) => {}
        }
        Some(arrival)
    }

    fn persist(&mut self, batch: BatchId, records: Vec<Record>) {
        let Self { world, .. } = self;
        let life = world.server.life;
        if world.at < world.store.full_until && world.net.one_in(2) {
            // The writer itself is in trouble and takes nothing.
            let why = "the store takes nothing".into();
            return world.after(0, Event::Arrive(life, Input::PersistFailed { batch, why }));
        }
        world.store.submit(batch, records);
        let mut delay = world.net.between(world.plan.commit);
        if world.at < world.store.slow_until {
            delay += world.net.below(SECOND);
        }
        world.after(delay, Event::Commit(life));
    }

    fn read(&mut self, read: Read) {
        let delay = self.world.net.between(self.world.plan.read) / 2;
        self.world.after(delay, Event::Read(self.world.server.life, read));
    }

    fn read_audit(&mut self, read: AuditRead) {
        // Nobody asks for it here.
        let why = "no trail is kept".into();
        self.world.after(0, Event::Arrive(self.world.server.life, Input::AuditRead { read, page: Err(why) }));
    }

    fn taken(&mut self, mailbox: &Mailbox) -> u64 {
        self.world.wires[mailbox.wire()].taken
    }

    fn wake(&mut self, mailbox: Mailbox) {
        self.outside.to_wake.insert(mailbox.wire());
    }

    fn release(&mut self, conn: ConnId) {
        self.outside.conn_ids.release(conn);
    }

    fn before(&mut self, now: Now, _: &Hub, input: &Input) {
        let Self { world, outside, outcome } = self;
        world.coverage.hub_inputs += 1;
        world.trace(format_args!("hub: {input:?}"));
        *outcome = match input {
            Input::Lagged { .. } => {
                world.coverage.lagged += 1;
                None
            }
            Input::Persisted { .. } => Some(true),
            Input::PersistFailed { .. } => Some(false),
            _ => None,
        };
        let verdict = outside.watch.input(now, input);
        world.demand(verdict);
    }

    fn after(&mut self, now: Now, hub: &Hub, actions: &[Action]) {
        let Self { world, outside, outcome } = self;
        if world.trace.is_some() {
            for action in actions {
                world.trace(format_args!("     {action:?}"));
            }
        }
        let verdict = outside.watch.actions(now, actions, hub, &mut world.coverage);
        world.demand(verdict);
        match outcome {
            Some(true) => world.coverage.commits += 1,
            Some(false) => world.coverage.failed_commits += 1,
            None => {}
        }
        if *outcome == Some(false) || world.coverage.hub_inputs.is_multiple_of(32) {
            let verdict = outside.watch.compare(now, hub);
            world.demand(verdict);
            if hub.gauges().waiting + hub.gauges().gathering > MOST_WAITING {
                world.fail("the hub gathers without bound".into());
            }
        }
        world.subscriptions_changed(outside);
    }
}
