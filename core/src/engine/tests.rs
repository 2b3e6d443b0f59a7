//! Rounds with a store that is a list and mailboxes that are read when a test wants to.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

use super::*;
use crate::directory::Directory;
use crate::handshake::Terms;
use crate::hub::{AuditRead, Config, Limits, RequestId};
use crate::key::PublicKey;
use crate::mailbox::Queue;
use crate::name::{ChannelName, Handle, MachineName, UserName};
use crate::payload::Payload;
use crate::protocol::{Command, Reply, Visibility};
use crate::record::{ChannelId, MachineId, Stamp, UserId};
use crate::time::UnixMillis;

type Letterbox = Rc<(u64, RefCell<Queue>)>;

impl Mailbox for Letterbox {
    fn push(&self, item: Item) -> Pushed {
        self.1.borrow_mut().push(item)
    }

    fn count_for(&self, account: Arc<Account>) {
        self.1.borrow_mut().count_for(account);
    }
}

#[derive(Default)]
struct Bench {
    arrivals: VecDeque<Arrival<Letterbox>>,
    batches: Vec<(BatchId, usize)>,
    woken: Vec<u64>,
    ids: ConnIds,
    inputs: Vec<&'static str>,
}

impl Host<Letterbox> for Bench {
    fn next_arrival(&mut self) -> Option<Arrival<Letterbox>> {
        self.arrivals.pop_front()
    }
    fn persist(&mut self, batch: BatchId, records: Vec<Record>) {
        self.batches.push((batch, records.len()));
    }
    fn read(&mut self, _: Read) {}

    fn read_audit(&mut self, _: AuditRead) {}
    fn taken(&mut self, _: &Letterbox) -> u64 {
        0
    }
    fn wake(&mut self, mailbox: Letterbox) {
        self.woken.push(mailbox.0);
    }
    fn release(&mut self, conn: ConnId) {
        self.ids.release(conn);
    }
    fn before(&mut self, _: Now, _: &Hub, input: &Input) {
        self.inputs.push(match input {
            Input::RoundEnded => "round ended",
            Input::Overflowed { .. } => "overflowed",
            Input::Tick => "tick",
            _ => "other",
        });
    }
    fn after(&mut self, _: Now, _: &Hub, _: &[Action]) {}
}

struct Scene {
    engine: Engine<Letterbox>,
    bench: Bench,
    mailboxes: BTreeMap<ConnId, Letterbox>,
}

const NOW: Now = Now { mono: Monotonic(1_000), wall: UnixMillis(1_700_000_000_000) };

fn key(user: u64) -> PublicKey {
    PublicKey::from_trusted([user as u8 + 1; 32])
}

fn channel() -> ChannelName {
    ChannelName::new("ops").unwrap()
}

impl Scene {
    /// Sessions of as many users, subscribed to one channel.
    fn new(users: u64, room: usize) -> Self {
        let at = UnixMillis(0);
        let (ops, creator, visibility) = (ChannelId(0), UserId(0), Visibility::Public);
        let mut records = Vec::new();
        for user in 0..users {
            let name = UserName::new(&alloc::format!("u{user}")).unwrap();
            let (machine, key) = (MachineName::new("m").unwrap(), key(user));
            let user = UserId(user);
            records.push(Record::UserAdded { user, name, at });
            records.push(Record::MachineAdded { machine: MachineId(user.0), user, name: machine, key, at });
        }
        let last = Stamp::default();
        records.push(Record::ChannelCreated { channel: ops, name: channel(), visibility, creator, at, last });
        let config = Config { limits: Limits::default().without_rates(), ..Config::default() };
        let hub = Hub::new(config, records.iter().collect::<Directory>());
        let mut scene =
            Self { engine: Engine::new(hub), bench: Bench::default(), mailboxes: BTreeMap::new() };
        for user in 0..users {
            let conn = scene.open(user, room);
            scene.commit();
            scene.items(conn);
            scene.ask(conn, Command::Join { channel: channel(), token: None });
            scene.commit();
            scene.items(conn);
        }
        scene.bench.woken.clear();
        scene.bench.inputs.clear();
        scene
    }

    fn open(&mut self, user: u64, room: usize) -> ConnId {
        let conn = self.bench.ids.take();
        let mailbox: Letterbox = Rc::new((conn.0, RefCell::new(Queue::new(room))));
        self.mailboxes.insert(conn, mailbox.clone());
        let proven = Proven {
            key: key(user),
            session: Handle::new("s").unwrap(),
            claim: None,
            terms: Terms::default(),
        };
        self.bench.arrivals.push_back(Arrival::Open { conn, proven, mailbox });
        conn
    }

    fn arrive(&mut self, input: Input) {
        self.bench.arrivals.push_back(Arrival::Input(input));
    }

    fn ask(&mut self, conn: ConnId, command: Command) {
        self.arrive(Input::Request { conn, request: RequestId(0), command, token: None });
    }

    fn post(&mut self, conn: ConnId) {
        let payload = Payload::Plain(String::from("x"));
        self.ask(conn, Command::Post { channel: channel(), payload });
    }

    fn round(&mut self) -> Round {
        self.engine.round(NOW, &mut self.bench)
    }

    /// Rounds until all is durable.
    fn commit(&mut self) {
        self.round();
        while let Some((batch, _)) = self.bench.batches.pop() {
            self.arrive(Input::Persisted { batch });
            self.round();
        }
    }

    fn items(&self, conn: ConnId) -> Vec<Item> {
        let mut items = Vec::new();
        self.mailboxes[&conn].1.borrow_mut().take(true, &mut items);
        items
    }

    fn conn(&self, nth: u64) -> ConnId {
        *self.mailboxes.keys().nth(nth as usize).unwrap()
    }
}

#[test]
fn what_arrives_together_shares_one_commit_and_wakes_each_connection_once() {
    let mut scene = Scene::new(3, 1 << 20);
    let (first, second) = (scene.conn(0), scene.conn(1));
    for _ in 0..5 {
        scene.post(first);
        scene.post(second);
    }
    assert_eq!(scene.round(), Round { arrivals: 10, drained: false });
    let [(batch, 10)] = scene.bench.batches[..] else { panic!("{:?}", scene.bench.batches) };
    assert!(scene.bench.woken.is_empty(), "nothing is told before it is durable");
    scene.arrive(Input::Persisted { batch });
    scene.round();
    scene.bench.woken.sort_unstable();
    assert_eq!(scene.bench.woken, [0, 1, 2]);
}

#[test]
fn a_round_without_anything_to_commit_hands_the_hub_nothing() {
    let mut scene = Scene::new(1, 1 << 20);
    scene.round();
    assert!(scene.bench.inputs.is_empty());
}

#[test]
fn a_session_whose_mailbox_is_full_is_ended_in_the_same_round() {
    let mut scene = Scene::new(2, 16);
    let (slow, poster) = (scene.conn(0), scene.conn(1));
    for _ in 0..2 {
        scene.post(poster);
        scene.commit();
        scene.items(poster);
    }
    assert!(scene.bench.inputs.contains(&"overflowed"));
    assert!(scene.engine.hub().path(slow).is_none() && scene.engine.hub().path(poster).is_some());
    let items = scene.items(slow);
    assert!(matches!(items[..], [Item::Close(CloseReason::SlowConsumer)]), "{items:?}");
    assert_eq!(scene.bench.woken.last(), Some(&slow.0));
}

#[test]
fn what_comes_late_for_a_connection_does_not_reach_its_successor() {
    let mut scene = Scene::new(2, 1 << 20);
    let (gone, other) = (scene.conn(0), scene.conn(1));
    scene.post(gone);
    scene.post(other);
    scene.bench.arrivals.push_back(Arrival::Left { conn: gone });
    scene.round();
    let successor = scene.open(0, 1 << 20);
    assert_eq!(slot(successor), slot(gone));
    assert_ne!(successor, gone);
    scene.round();
    let (batch, _) = scene.bench.batches.pop().unwrap();
    scene.arrive(Input::Persisted { batch });
    scene.round();
    let items = scene.items(successor);
    assert!(matches!(items[..], [Item::Established(_)]), "{items:?}");
    let sent = |item: &Item| matches!(item, Item::Reply { reply: Reply::Sent, .. });
    assert!(scene.items(other).iter().any(sent));
}

#[test]
fn a_shutdown_drains_once_what_was_accepted_is_answered() {
    let mut scene = Scene::new(1, 1 << 20);
    let conn = scene.conn(0);
    scene.post(conn);
    scene.arrive(Input::Shutdown);
    assert!(!scene.round().drained);
    let (batch, _) = scene.bench.batches.pop().unwrap();
    scene.arrive(Input::Persisted { batch });
    assert!(scene.round().drained);
    let items = scene.items(conn);
    assert!(matches!(items[..], [Item::Reply { .. }, Item::Close(CloseReason::Shutdown)]), "{items:?}");
}
