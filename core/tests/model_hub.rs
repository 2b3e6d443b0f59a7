//! Every interleaving of a small world: two users on three connections, of which two have the same path, a
//! private and a public channel, a store that may fail, a connection that may drop, time that may pass.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use conclave_core::directory::Directory;
use conclave_core::handshake::{Proven, Terms};
use conclave_core::hub::{Action, BatchId, Config, ConnId, Hub, Input, Limits, RequestId};
use conclave_core::key::PublicKey;
use conclave_core::name::{ChannelName, Handle, MachineName, UserName};
use conclave_core::payload::Payload;
use conclave_core::protocol::{Admin, CloseReason, Code, Command, KickTarget, Reply, Visibility};
use conclave_core::record::{ChannelId, MachineId, Record, Stamp, UserId};
use conclave_core::time::{Monotonic, Now, UnixMillis};
use stateright::{Checker, Model, Property};

/// `ann` has a private channel and a public one; `bob` may see the public one.
const ANN: ConnId = ConnId(0);
const CONNS: [ConnId; 3] = [ANN, ConnId(1), ConnId(2)];
const PRIVATE: &str = "den";
const PUBLIC: &str = "square";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Ask {
    Join(&'static str),
    Post(&'static str),
    Ban,
    Kick,
    Rename,
    Delete(&'static str),
    Hide,
    RetireMachine,
}

#[derive(Clone, Debug, PartialEq)]
enum Event {
    Open(ConnId),
    Ask(ConnId, Ask),
    Close(ConnId),
    RoundEnded,
    Persisted,
    Failed,
    Pass,
    Shutdown,
}

/// What of a run matters for what may come and for what must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    hub: Hub,
    stored: Directory,
    flight: Option<(BatchId, Vec<Record>)>,
    /// Texts of the posts on the disk.
    posts: BTreeSet<u64>,
    opened: BTreeSet<ConnId>,
    /// Connections that can still be told something.
    open: BTreeSet<ConnId>,
    unanswered: BTreeSet<(ConnId, RequestId)>,
    asked: u64,
    failures: u8,
    closes: u8,
    passed: bool,
    stopping: bool,
    drained: bool,
    /// The first rule that was broken.
    broken: Option<&'static str>,
}

/// What should happen somewhere in a world, so that its rules are not kept for want of events. It is no part of
/// a state: which way led there does not matter for what may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happening {
    Delivered,
    Acknowledged,
    Failed,
    NotThere,
    Superseded,
    Revoked,
    Idle,
    Stopped,
    Drained,
}

#[derive(Default)]
struct Happened(AtomicU32);

impl Happened {
    fn note(&self, what: Happening) {
        self.0.fetch_or(1 << what as u32, Ordering::Relaxed);
    }

    fn has(&self, what: Happening) -> bool {
        self.0.load(Ordering::Relaxed) & (1 << what as u32) != 0
    }
}

struct Small {
    asks: u64,
    failures: u8,
    /// What each connection may ask.
    menu: [&'static [Ask]; 3],
    /// Whether connections drop, time passes and the server stops, too.
    ends: bool,
    expects: &'static [Happening],
    happened: Happened,
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

fn key(user: u64) -> PublicKey {
    PublicKey::from_trusted([user as u8; 32])
}

fn directory() -> Directory {
    let at = UnixMillis(0);
    let mut records = Vec::new();
    for (nth, name) in ["ann", "bob"].into_iter().enumerate() {
        let user = UserId(nth as u64);
        records.push(Record::UserAdded { user, name: UserName::new(name).unwrap(), at });
        for machine in 0..2 {
            let name = MachineName::new(["m", "n"][machine as usize]).unwrap();
            let machine = MachineId(user.0 * 2 + machine);
            records.push(Record::MachineAdded { machine, user, name, key: key(machine.0), at });
        }
    }
    for (nth, (name, visibility)) in
        [(PRIVATE, Visibility::Private), (PUBLIC, Visibility::Public)].into_iter().enumerate()
    {
        let (channel_id, creator, last) = (ChannelId(nth as u64), UserId(0), Stamp::default());
        let name = channel(name);
        records.push(Record::ChannelCreated { channel: channel_id, name, visibility, creator, at, last });
        records.push(Record::MemberAdded { channel: channel_id, user: creator });
    }
    records.iter().collect()
}

impl World {
    fn now(&self) -> Now {
        let passed = if self.passed { 60_000 } else { 0 };
        Now { mono: Monotonic(1 + passed), wall: UnixMillis(1 + passed as i64) }
    }

    fn breaks(&mut self, rule: &'static str) {
        self.broken.get_or_insert(rule);
    }

    fn handle(&mut self, happened: &Happened, input: Input) {
        let before = self.hub.directory().clone();
        let commits = matches!(input, Input::Persisted { .. });
        let mut actions = Vec::new();
        let now = self.now();
        self.hub.handle(now, input, &mut actions);
        if self.hub.check().is_err() {
            self.breaks("the hub is consistent");
        }
        if *self.hub.directory() != self.stored || (!commits && before != self.stored) {
            self.breaks("the directory is what is stored");
        }
        for action in actions {
            self.take_in(happened, action);
        }
    }

    fn take_in(&mut self, happened: &Happened, action: Action) {
        match action {
            Action::Persist { batch, records } => {
                if self.flight.is_some() {
                    self.breaks("one batch is in flight at a time");
                }
                self.flight = Some((batch, records));
            }
            Action::Reply { conn, request, reply } => self.reply(happened, conn, request, &reply),
            Action::Deliver { channel, payload, to, except, .. } => {
                happened.note(Happening::Delivered);
                let Payload::Plain(text) = &*payload else { return };
                if !self.posts.contains(&text.parse().unwrap()) {
                    self.breaks("what is delivered is durable");
                }
                for conn in to.iter().filter(|conn| *conn != except) {
                    if !self.open.contains(&conn) {
                        self.breaks("who has ended receives nothing");
                    }
                    if conn != ANN && channel.as_str() == PRIVATE {
                        self.breaks("an outsider receives nothing");
                    }
                }
            }
            Action::Close { conn, reason } => {
                self.open.remove(&conn);
                self.unanswered.retain(|(other, _)| *other != conn);
                match reason {
                    CloseReason::Superseded => happened.note(Happening::Superseded),
                    CloseReason::KeyRevoked { .. } => happened.note(Happening::Revoked),
                    CloseReason::Idle { .. } => happened.note(Happening::Idle),
                    CloseReason::Shutdown => happened.note(Happening::Stopped),
                    // A machine that was retired does not come back.
                    CloseReason::Refused(_) if self.stored.machine_with(&key(2)).is_none() => {}
                    _ => self.breaks("nothing else ends a session here"),
                }
            }
            Action::Established { conn, .. } if !self.open.contains(&conn) => {
                self.breaks("who has ended is no session");
            }
            Action::Drained => {
                self.drained = true;
                happened.note(Happening::Drained);
            }
            _ => {}
        }
    }

    fn reply(&mut self, happened: &Happened, conn: ConnId, request: RequestId, reply: &Reply) {
        if !self.open.contains(&conn) {
            return;
        }
        if !self.unanswered.remove(&(conn, request)) {
            self.breaks("a request is answered once");
        }
        match reply {
            Reply::Sent if !self.posts.contains(&request.0) => self.breaks("an Ack means durable"),
            Reply::Sent => happened.note(Happening::Acknowledged),
            Reply::Joined(name) if conn != ANN && name.as_str() == PRIVATE => {
                self.breaks("an outsider does not come in");
            }
            Reply::Refused(refusal) if refusal.code() == Code::Internal => {
                happened.note(Happening::Failed);
                if self.posts.contains(&request.0) {
                    self.breaks("what failed is not stored");
                }
            }
            Reply::Refused(refusal) if refusal.code() == Code::NotFound => happened.note(Happening::NotThere),
            _ => {}
        }
    }

    fn is_quiet(&self) -> bool {
        self.flight.is_none() && !self.hub.has_batch()
    }
}

impl Model for Small {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        let limits = Limits::default().without_rates();
        let stored = directory();
        vec![World {
            hub: Hub::new(Config { limits, ..Config::default() }, stored.clone()),
            stored,
            flight: None,
            posts: BTreeSet::new(),
            opened: BTreeSet::new(),
            open: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            asked: 0,
            failures: 0,
            closes: 0,
            passed: false,
            stopping: false,
            drained: false,
            broken: None,
        }]
    }

    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        // In this order, which loses nothing: the first two sessions are the same whoever comes first.
        if let Some(next) = CONNS.into_iter().find(|conn| !world.opened.contains(conn)) {
            events.push(Event::Open(next));
        }
        for (conn, menu) in CONNS.into_iter().zip(self.menu) {
            if world.asked < self.asks && world.hub.path(conn).is_some() && world.open.contains(&conn) {
                events.extend(menu.iter().map(|ask| Event::Ask(conn, *ask)));
            }
            if self.ends && world.open.contains(&conn) && world.closes == 0 {
                events.push(Event::Close(conn));
            }
        }
        if world.flight.is_some() {
            events.push(Event::Persisted);
            if world.failures < self.failures {
                events.push(Event::Failed);
            }
        }
        if world.hub.has_batch() {
            events.push(Event::RoundEnded);
        }
        if self.ends && !world.passed && world.asked > 0 {
            events.push(Event::Pass);
        }
        if self.ends && !world.stopping && world.asked > 0 {
            events.push(Event::Shutdown);
        }
    }

    fn next_state(&self, world: &World, event: Event) -> Option<World> {
        let mut world = world.clone();
        match event {
            Event::Open(conn) => {
                world.opened.insert(conn);
                world.open.insert(conn);
                // The second and the third connection are one machine's, with one handle.
                let key = if conn == ANN { key(0) } else { key(2) };
                let proven =
                    Proven { key, session: Handle::new("s").unwrap(), claim: None, terms: Terms::default() };
                world.handle(&self.happened, Input::Open { conn, proven });
            }
            Event::Ask(conn, ask) => {
                world.asked += 1;
                let request = RequestId(world.asked);
                world.unanswered.insert((conn, request));
                let bob = UserName::new("bob").unwrap();
                let command = Command::Admin(match ask {
                    Ask::Join(name) => {
                        let command = Command::Join { channel: channel(name), token: None };
                        world.handle(&self.happened, Input::Request { conn, request, command, token: None });
                        return Some(world);
                    }
                    Ask::Post(name) => {
                        let payload = Payload::Plain(world.asked.to_string());
                        let command = Command::Post { channel: channel(name), payload };
                        world.handle(&self.happened, Input::Request { conn, request, command, token: None });
                        return Some(world);
                    }
                    Ask::Ban => Admin::Ban { channel: channel(PUBLIC), user: bob },
                    Ask::Kick => Admin::Kick { channel: channel(PUBLIC), target: KickTarget::User(bob) },
                    Ask::Rename => Admin::RenameChannel { name: channel(PUBLIC), new_name: channel("plaza") },
                    Ask::Delete(name) => Admin::DeleteChannel { name: channel(name) },
                    Ask::Hide => {
                        Admin::SetVisibility { name: channel(PUBLIC), visibility: Visibility::Private }
                    }
                    Ask::RetireMachine => Admin::MachineRemove { name: MachineName::new("m").unwrap() },
                });
                world.handle(&self.happened, Input::Request { conn, request, command, token: None });
            }
            Event::Close(conn) => {
                world.closes += 1;
                world.open.remove(&conn);
                world.unanswered.retain(|(other, _)| *other != conn);
                world.handle(&self.happened, Input::Closed { conn });
            }
            Event::RoundEnded => world.handle(&self.happened, Input::RoundEnded),
            Event::Persisted => {
                let (batch, records) = world.flight.take()?;
                for record in &records {
                    world.stored.apply(record);
                    if let Record::Posted { payload, .. } = record
                        && let Payload::Plain(text) = &**payload
                    {
                        world.posts.insert(text.parse().unwrap());
                    }
                }
                world.handle(&self.happened, Input::Persisted { batch });
            }
            Event::Failed => {
                world.failures += 1;
                let (batch, _) = world.flight.take()?;
                world.handle(&self.happened, Input::PersistFailed { batch, why: "full".into() });
            }
            Event::Pass => {
                world.passed = true;
                world.handle(&self.happened, Input::Tick);
            }
            Event::Shutdown => {
                world.stopping = true;
                world.handle(&self.happened, Input::Shutdown);
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::<Self>::always("no rule is broken", |_, world| world.broken.is_none()),
            Property::<Self>::always("when nothing is under way, everyone has been answered", |_, world| {
                !world.is_quiet() || world.unanswered.is_empty()
            }),
            Property::<Self>::always("one live session for each path", |_, world| {
                let conns: BTreeSet<_> = world.hub.sessions().map(|(_, conn)| conn).collect();
                conns.len() == world.hub.sessions().count()
                    && !(conns.contains(&CONNS[1]) && conns.contains(&CONNS[2]))
            }),
            Property::<Self>::always("a session is a connection that is open", |_, world| {
                world.hub.sessions().all(|(_, conn)| world.open.contains(&conn))
            }),
            Property::<Self>::always("a drained hub has no sessions and owes nothing", |_, world| {
                !world.drained || (world.is_quiet() && world.hub.sessions().count() == 0)
            }),
        ];
        for what in self.expects {
            properties.push(match what {
                Happening::Delivered => Property::<Self>::sometimes("a post is delivered", |model, _| {
                    model.happened.has(Happening::Delivered)
                }),
                Happening::Acknowledged => {
                    Property::<Self>::sometimes("a post is acknowledged", |model, _| {
                        model.happened.has(Happening::Acknowledged)
                    })
                }
                Happening::Failed => Property::<Self>::sometimes("a failure is told", |model, _| {
                    model.happened.has(Happening::Failed)
                }),
                Happening::NotThere => {
                    Property::<Self>::sometimes("a thing is not there to be seen", |model, _| {
                        model.happened.has(Happening::NotThere)
                    })
                }
                Happening::Superseded => {
                    Property::<Self>::sometimes("a session is superseded", |model, _| {
                        model.happened.has(Happening::Superseded)
                    })
                }
                Happening::Revoked => Property::<Self>::sometimes("a machine is revoked", |model, _| {
                    model.happened.has(Happening::Revoked)
                }),
                Happening::Idle => Property::<Self>::sometimes("a session is idle", |model, _| {
                    model.happened.has(Happening::Idle)
                }),
                Happening::Stopped => {
                    Property::<Self>::sometimes("a session hears of the end", |model, _| {
                        model.happened.has(Happening::Stopped)
                    })
                }
                Happening::Drained => Property::<Self>::sometimes("a hub is drained", |model, _| {
                    model.happened.has(Happening::Drained)
                }),
            });
        }
        properties
    }
}

/// Explores everything; `expects` sees to it that there is something.
fn explore(model: Small) {
    model.checker().threads(2).spawn_bfs().join().assert_properties();
}

#[test]
fn posts_joins_and_bans_in_every_order_with_a_failing_store() {
    explore(Small {
        asks: 6,
        failures: 1,
        menu: [
            &[Ask::Join(PUBLIC), Ask::Post(PUBLIC), Ask::Ban],
            &[Ask::Join(PUBLIC), Ask::Post(PUBLIC), Ask::Post(PRIVATE)],
            &[Ask::Join(PUBLIC)],
        ],
        ends: false,
        expects: &[
            Happening::Delivered,
            Happening::Acknowledged,
            Happening::Failed,
            Happening::NotThere,
            Happening::Superseded,
        ],
        happened: Happened::default(),
    });
}

#[test]
fn changes_of_channels_in_every_order_with_a_failing_store() {
    explore(Small {
        asks: 4,
        failures: 1,
        menu: [
            &[Ask::Rename, Ask::Delete(PUBLIC), Ask::Hide, Ask::Kick, Ask::Join(PRIVATE), Ask::Post(PRIVATE)],
            &[Ask::Join(PUBLIC), Ask::Post(PUBLIC), Ask::Join(PRIVATE), Ask::Delete(PRIVATE)],
            &[],
        ],
        ends: false,
        expects: &[Happening::Acknowledged, Happening::Failed, Happening::NotThere, Happening::Superseded],
        happened: Happened::default(),
    });
}

#[test]
fn ends_in_every_order_with_a_failing_store() {
    explore(Small {
        asks: 3,
        failures: 1,
        menu: [
            &[Ask::Join(PUBLIC), Ask::Post(PUBLIC)],
            &[Ask::Join(PUBLIC), Ask::Post(PUBLIC), Ask::RetireMachine],
            &[Ask::RetireMachine],
        ],
        ends: true,
        expects: &[
            Happening::Delivered,
            Happening::Failed,
            Happening::Superseded,
            Happening::Revoked,
            Happening::Idle,
            Happening::Stopped,
            Happening::Drained,
        ],
        happened: Happened::default(),
    });
}
