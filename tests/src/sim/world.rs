//! The world of one run: virtual time, what is due when, and everyone who takes part.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Arguments;
use std::sync::Arc;

use conclave_core::hub::Input;
use conclave_core::hub::Read;
use conclave_core::key::SecretKey;
use conclave_core::record::ChannelId;
use conclave_core::time::{Monotonic, Now, UnixMillis};
use conclave_core::wire::v2::handshake::ServerIdentity;

use super::client::{Claims, Client, Draft};
use super::coverage::Coverage;
use super::plan::{Options, Plan};
use super::server::Server;
use super::store::Store;
use super::wire::{Down, Wire};
use crate::chance::Chance;

/// What becomes due.
#[derive(Debug)]
pub(super) enum Event {
    /// The engine takes what has arrived.
    Round(u32),
    /// The hub's deadline.
    HubTimer(u32),
    /// The oldest commit under way ends.
    Commit(u32),
    /// The engine's inbox receives.
    Arrive(u32, Input),
    /// A page is read as it is now.
    Read(u32, Read),
    /// A connection's task runs.
    Poll(usize),
    /// The handshake of a connection should have ended.
    HandshakeTimeout(usize),
    /// The last word of a connection should have been said.
    PartingTimeout(usize),
    /// A message arrives at the server.
    Up(usize, Vec<u8>),
    /// The client's end of a connection arrives at the server.
    UpEnd(usize),
    /// Something arrives at a client.
    Down(usize, Down),
    /// A client reads again.
    Resume(usize),
    /// A client's dial arrives.
    Dial(usize, u64),
    /// A client's deadline.
    ClientTimer(usize),
    /// A client does something of its own accord.
    Act(usize),
    /// A fault.
    Fault(usize),
    /// The server starts.
    Start,
    /// Its consistency is looked at.
    Inspect,
}

struct Due {
    at: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        // The earliest first.
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// What clients know of their posts of one text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fate {
    /// Asked for.
    pub asked: u64,
    /// Acknowledged.
    pub acknowledged: u64,
    /// Known not to have happened.
    pub denied: u64,
}

/// See the module.
pub(super) struct World {
    /// The run's shape.
    pub plan: Plan,
    /// Virtual time in microseconds.
    pub at: u64,
    /// Nothing breaks any more, and nobody acts.
    pub calm: bool,
    /// The network's chance, and the server's.
    pub net: Chance,
    /// The faults' chance.
    pub luck: Chance,
    /// The server's secrets.
    pub secrets: Chance,
    /// The server's key, and what it says of itself.
    pub identity: Arc<ServerIdentity>,
    /// The disk.
    pub store: Store,
    /// So many of its records were there from the beginning.
    pub furnished: usize,
    /// The server.
    pub server: Server,
    /// All connections that ever were.
    pub wires: Vec<Wire>,
    /// All clients; one is away while it is at work.
    pub clients: Vec<Option<Box<Client>>>,
    /// What became of posts, by text.
    pub fates: BTreeMap<String, Fate>,
    /// The posts of version 2, by their ids.
    pub drafts: BTreeMap<[u8; 16], Draft>,
    /// What readers ever claimed to have, by path and channel.
    pub claims: BTreeMap<(String, ChannelId), Claims>,
    /// Nobody can connect before this time.
    pub no_dial_until: u64,
    /// The server's wall clock goes wrong by so many milliseconds.
    pub wall_error: i64,
    /// What was met.
    pub coverage: Coverage,
    /// The first thing that went wrong.
    pub failure: Option<String>,
    /// What happened, if it is to be read.
    pub trace: Option<Vec<String>>,
    /// What happened, as a number.
    pub digest: u64,
    queue: BinaryHeap<Due>,
    order: u64,
}

const WALL: i64 = 1_700_000_000_000;

impl World {
    /// An empty world of this seed.
    pub(super) fn new(seed: u64, options: &Options) -> Self {
        let plan = Plan::new(seed, options);
        Self {
            at: 0,
            calm: false,
            net: Chance::new(seed, 2),
            luck: Chance::new(seed, 3),
            secrets: Chance::new(seed, 4),
            identity: Arc::new(ServerIdentity {
                key: SecretKey::from_seed(&[0x5e; 32]),
                name: "conclave/simulated",
                frame_bytes: 1 << 20,
                posts_per_second: 0,
                post_bytes_per_second: 0,
                retention_ms: 0,
            }),
            store: Store::default(),
            furnished: 0,
            server: Server::new(),
            wires: Vec::new(),
            clients: Vec::new(),
            fates: BTreeMap::new(),
            drafts: BTreeMap::new(),
            claims: BTreeMap::new(),
            no_dial_until: 0,
            wall_error: 0,
            coverage: Coverage::default(),
            failure: None,
            trace: options.trace.then(Vec::new),
            digest: 0xcbf2_9ce4_8422_2325,
            queue: BinaryHeap::new(),
            order: 0,
            plan,
        }
    }

    /// Has something happen after so long.
    pub(super) fn after(&mut self, delay: u64, event: Event) {
        self.on(self.at + delay, event);
    }

    /// Has something happen at a time.
    pub(super) fn on(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.queue.push(Due { at: at.max(self.at), order: self.order, event });
    }

    /// What the server's clocks say.
    pub(super) fn now(&self) -> Now {
        let mono = self.at / 1_000;
        Now { mono: Monotonic(mono + 1_000), wall: UnixMillis(WALL + mono as i64 + self.wall_error) }
    }

    /// What a client's clocks say.
    pub(super) fn client_now(&self, error: i64) -> Now {
        let mono = self.at / 1_000;
        Now { mono: Monotonic(mono + 5_000), wall: UnixMillis(WALL + mono as i64 + error) }
    }

    /// When a client's monotonic clock says this.
    pub(super) fn client_at(deadline: Monotonic) -> u64 {
        deadline.0.saturating_sub(5_000).saturating_mul(1_000)
    }

    /// When the server's monotonic clock says this.
    pub(super) fn server_at(deadline: Monotonic) -> u64 {
        deadline.0.saturating_sub(1_000).saturating_mul(1_000)
    }

    /// Notes the first thing that went wrong.
    pub(super) fn fail(&mut self, what: String) {
        self.trace(format_args!("FAILED: {what}"));
        self.failure.get_or_insert(what);
    }

    /// Fails on an error.
    pub(super) fn demand(&mut self, result: Result<(), String>) {
        if let Err(what) = result {
            self.fail(what);
        }
    }

    /// Notes what happens, for who reads the trace.
    pub(super) fn trace(&mut self, what: Arguments<'_>) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.3} ms  {what}", self.at as f64 / 1_000.0));
        }
    }

    /// Mixes a number into the digest.
    pub(super) fn mix(&mut self, number: u64) {
        self.digest = (self.digest ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
    }

    /// Lets everything happen that is due before `end`, or until something went wrong.
    pub(super) fn run_until(&mut self, end: u64) {
        while self.failure.is_none() && self.queue.peek().is_some_and(|due| due.at <= end) {
            let Some(Due { at, event, .. }) = self.queue.pop() else { break };
            self.at = at;
            self.happen(event);
        }
        if self.failure.is_none() {
            self.at = end;
        }
    }

    fn happen(&mut self, event: Event) {
        let (kind, which) = match &event {
            Event::Round(_) => (1, 0),
            Event::HubTimer(_) => (2, 0),
            Event::Commit(_) => (3, 0),
            Event::Arrive(..) => (4, 0),
            Event::Read(..) => (5, 0),
            Event::Poll(wire) => (6, *wire),
            Event::HandshakeTimeout(wire) => (7, *wire),
            Event::PartingTimeout(wire) => (8, *wire),
            Event::Up(wire, bytes) => (9, *wire ^ bytes.len() << 32),
            Event::UpEnd(wire) => (10, *wire),
            Event::Down(wire, _) => (11, *wire),
            Event::Resume(wire) => (12, *wire),
            Event::Dial(client, _) => (13, *client),
            Event::ClientTimer(client) => (15, *client),
            Event::Act(client) => (16, *client),
            Event::Fault(nth) => (17, *nth),
            Event::Start => (18, 0),
            Event::Inspect => (19, 0),
        };
        self.mix(self.at ^ kind << 56 ^ which as u64);
        match event {
            Event::Round(life) => self.round(life),
            Event::HubTimer(life) => self.hub_timer(life),
            Event::Commit(life) => self.commit(life),
            Event::Arrive(life, input) => self.arrive(life, input),
            Event::Read(life, read) => self.read(life, read),
            Event::Poll(wire) => self.poll(wire),
            Event::HandshakeTimeout(wire) => self.handshake_timeout(wire),
            Event::PartingTimeout(wire) => self.drop_end(wire),
            Event::Up(wire, bytes) => self.up(wire, bytes),
            Event::UpEnd(wire) => self.up_end(wire),
            Event::Down(wire, what) => self.down(wire, what),
            Event::Resume(wire) => self.resume(wire),
            Event::Dial(client, attempt) => self.dial_arrives(client, attempt),
            Event::ClientTimer(client) => self.client_timer(client),
            Event::Act(client) => self.act(client),
            Event::Fault(nth) => self.fault(nth),
            Event::Start => self.start(),
            Event::Inspect => self.inspect(),
        }
    }

    fn fault(&mut self, nth: usize) {
        if self.calm {
            return;
        }
        let Some((fault, mean)) = self.plan.faults.get(nth).copied() else { return };
        self.trace(format_args!("fault: {fault:?}"));
        self.strike(fault);
        let next = self.luck.around(mean) + mean / 4;
        self.after(next, Event::Fault(nth));
    }

    /// The first fault of each kind is due.
    pub(super) fn begin_faults(&mut self) {
        for nth in 0..self.plan.faults.len() {
            let first = self.luck.below(self.plan.faults[nth].1);
            self.after(first, Event::Fault(nth));
        }
    }
}
