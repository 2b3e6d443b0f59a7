//! The bench: a hub, the simulation's disk and its referee, driven by bytes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, LazyLock};

use conclave_core::body;
use conclave_core::handshake::{Format, Proven, Terms};
use conclave_core::hub::{Action, BatchId, Config, ConnId, Hub, Input, Limits, Read, RequestId};
use conclave_core::key::{PublicKey, SecretKey};
use conclave_core::name::{ChannelName, Handle, MachineName, UserName};
use conclave_core::opaque::Opaque;
use conclave_core::payload::Payload;
use conclave_core::protocol::{Admin, Command, KickTarget, Token, Visibility};
use conclave_core::record::{ChannelId, MachineId, Record, Stamp, UserId};
use conclave_core::stream::{MessageId, PageFrom, Signed, Start, StreamCommand, StreamRef};
use conclave_core::time::{Monotonic, Now, UnixMillis};

#[allow(dead_code, unreachable_pub, reason = "shared with the simulation")]
#[path = "../../../tests/src/sim/coverage.rs"]
mod coverage;
#[allow(dead_code, reason = "shared with the simulation")]
#[path = "../../../tests/src/sim/store.rs"]
mod store;
#[allow(dead_code, reason = "shared with the simulation")]
#[path = "../../../tests/src/sim/watch/mod.rs"]
mod watch;

use crate::chance::Chance;
use coverage::Coverage;
use store::{Committed, Store};
use watch::Watch;

const USERS: [&str; 3] = ["ann", "bob", "cid"];
const STEPS: usize = 400;

struct Bench {
    hub: Hub,
    watch: Watch,
    store: Store,
    now: Now,
    config: Config,
    flight: Option<BatchId>,
    reads: VecDeque<Read>,
    marks: BTreeSet<ConnId>,
    open: BTreeMap<ConnId, Format>,
    taken: u64,
    conns: u64,
    requests: u64,
    luck: Chance,
}

/// Bytes that run out: then everything is 0.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, most: u8) -> u8 {
        self.next() % most
    }
}

pub fn run(input: &[u8]) -> Result<(), String> {
    let mut bytes = Bytes(input);
    let mut bench = Bench::new(bytes.next())?;
    for _ in 0..STEPS {
        if bytes.0.is_empty() {
            break;
        }
        bench.step(&mut bytes)?;
    }
    bench.settle()
}

fn key(user: u8) -> PublicKey {
    static KEYS: LazyLock<[PublicKey; 3]> =
        LazyLock::new(|| [1, 2, 3].map(|seed| SecretKey::from_seed(&[seed; 32]).public()));
    KEYS[usize::from(user)]
}

fn channel(nth: u8) -> ChannelName {
    ChannelName::new(["square", "den", "attic"][usize::from(nth % 3)]).expect("a name")
}

impl Bench {
    fn new(choice: u8) -> Result<Self, String> {
        let limits = Limits {
            page_rows: 3,
            catch_up_rows: usize::from(choice % 4) + 1,
            page_bytes: 200,
            batch_posts: 3,
            batch_bytes: 40,
            readers_per_user: 2,
            members_per_channel: 2,
            ..Limits::default().without_rates()
        };
        let config = Config { limits, ..Config::default() };
        let at = UnixMillis(1);
        let mut records = Vec::new();
        for (nth, name) in USERS.into_iter().enumerate() {
            let (user, machine) = (UserId(nth as u64), MachineId(nth as u64));
            let name = UserName::new(name).expect("a name");
            records.push(Record::UserAdded { user, name, at });
            let (name, key) = (MachineName::new("m").expect("a name"), key(nth as u8));
            records.push(Record::MachineAdded { machine, user, name, key, at });
        }
        for (nth, visibility) in [Visibility::Public, Visibility::Private].into_iter().enumerate() {
            let (id, creator) = (ChannelId(nth as u64), UserId(0));
            let (name, last) = (channel(nth as u8), Stamp::default());
            records.push(Record::ChannelCreated { channel: id, name, visibility, creator, at, last });
            records.push(Record::MemberAdded { channel: id, user: creator });
        }
        let mut store = Store::default();
        store.keep(records);
        let watch = Watch::new(config.clone(), store.records(), store.newest_purged())?;
        Ok(Self {
            hub: Hub::new(config.clone(), store.load()),
            watch,
            store,
            now: Now { mono: Monotonic(1_000), wall: UnixMillis(1_700_000_000_000) },
            config,
            flight: None,
            reads: VecDeque::new(),
            marks: BTreeSet::new(),
            open: BTreeMap::new(),
            taken: 0,
            conns: 0,
            requests: 0,
            luck: Chance::new(u64::from(choice), 1),
        })
    }

    fn conn(&self, nth: u8) -> Option<ConnId> {
        self.open.keys().nth(usize::from(nth) % self.open.len().max(1)).copied()
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) -> Result<(), String> {
        match bytes.below(16) {
            0 => {
                let (user, choice) = (bytes.below(3), bytes.next());
                let format = Format::ALL[usize::from(choice % 3)];
                let terms = Terms { format, keep: format.resumes() && choice >= 64 };
                let session = Handle::new(["s", "t"][usize::from(choice / 3 % 2)]).expect("a handle");
                let proven = Proven { key: key(user), session, claim: None, terms };
                let conn = ConnId(self.conns);
                self.conns += 1;
                self.open.insert(conn, format);
                self.handle(Input::Open { conn, proven }, bytes)
            }
            1 => match self.conn(bytes.next()) {
                Some(conn) if bytes.next() < 64 => {
                    self.open.remove(&conn);
                    self.marks.remove(&conn);
                    self.handle(Input::Closed { conn }, bytes)
                }
                _ => Ok(()),
            },
            2..9 => {
                let Some(conn) = self.conn(bytes.next()) else { return Ok(()) };
                let command = if self.open[&conn].resumes() { stream(bytes) } else { plain(bytes) };
                let request = RequestId(self.requests);
                self.requests += 1;
                let token = Some(Token::new(&format!("t{}", self.requests)));
                self.handle(Input::Request { conn, request, command, token }, bytes)
            }
            9 if self.hub.has_batch() => self.handle(Input::RoundEnded, bytes),
            9 | 10 => self.commit(bytes),
            11 => match self.reads.pop_front() {
                Some(read) => {
                    let page = match bytes.below(12) {
                        0 => Err("unreadable".into()),
                        _ => self.store.read(0, &read),
                    };
                    self.handle(Input::HistoryRead { read, page }, bytes)
                }
                None => Ok(()),
            },
            12 => {
                let conn =
                    self.marks.iter().nth(usize::from(bytes.next()) % self.marks.len().max(1)).copied();
                match conn {
                    Some(conn) => {
                        self.marks.remove(&conn);
                        self.handle(Input::Ready { conn }, bytes)
                    }
                    None => Ok(()),
                }
            }
            13 => {
                let time = [1, 100, 1_000, 31_000][usize::from(bytes.below(4))];
                self.now.mono.0 += time;
                self.now.wall.0 += time as i64;
                self.taken += u64::from(bytes.below(2));
                self.handle(Input::Tick, bytes)
            }
            14 => {
                if bytes.next() < 32 {
                    self.store.purge(&mut self.luck);
                    self.watch.purged = self.store.newest_purged();
                }
                Ok(())
            }
            _ if bytes.next() < 24 => self.restart(bytes.next() % 2 == 0),
            _ => Ok(()),
        }
    }

    fn commit(&mut self, bytes: &mut Bytes<'_>) -> Result<(), String> {
        if self.flight.is_none() {
            return Ok(());
        }
        self.store.fail_next = bytes.below(8) == 0;
        let Some((batch, outcome)) = self.store.commit(0) else { return Ok(()) };
        self.flight = None;
        // The store is ahead of the hub: a page may be read in between.
        if bytes.below(4) == 0
            && let Some(read) = self.reads.pop_front()
        {
            let page = self.store.read(0, &read);
            self.handle(Input::HistoryRead { read, page }, bytes)?;
        }
        let input = match outcome {
            Committed::Stored => Input::Persisted { batch },
            Committed::Known(posts) => Input::AlreadyStored { batch, posts },
            Committed::Failed(why) => Input::PersistFailed { batch, why },
            Committed::Repeats => return Err(format!("{batch:?} has one post twice")),
        };
        self.handle(input, bytes)
    }

    fn restart(&mut self, survives: bool) -> Result<(), String> {
        self.store.crash(|| survives);
        self.flight = None;
        self.reads.clear();
        self.marks.clear();
        self.open.clear();
        self.watch = Watch::new(self.config.clone(), self.store.records(), self.store.newest_purged())?;
        self.hub = Hub::new(self.config.clone(), self.store.load());
        Ok(())
    }

    fn handle(&mut self, input: Input, bytes: &mut Bytes<'_>) -> Result<(), String> {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.watch.input(self.now, &input)?;
            let mut actions = Vec::new();
            self.hub.handle(self.now, input, &mut actions);
            self.watch.actions(self.now, &actions, &self.hub, &mut Coverage::default())?;
            // What else a queue that is full would have taken after it is dropped with it.
            let mut full: BTreeSet<(ConnId, ChannelId)> = BTreeSet::new();
            for action in actions {
                match action {
                    Action::Persist { batch, records } => {
                        self.flight = Some(batch);
                        self.store.submit(batch, records);
                    }
                    Action::ReadHistory(read) => self.reads.push_back(read),
                    Action::Mark { conn } => drop(self.marks.insert(conn)),
                    Action::Probe { conn } => inputs.push_back(Input::Progressed { conn, taken: self.taken }),
                    Action::Close { conn, .. } => {
                        self.open.remove(&conn);
                        self.marks.remove(&conn);
                    }
                    Action::Deliver { stream, stamp, to, .. } => {
                        for conn in to.iter() {
                            let resumes = self.open.get(&conn).is_some_and(|format| format.resumes());
                            if resumes && bytes.below(8) == 1 && full.insert((conn, stream)) {
                                inputs.push_back(Input::Lagged { conn, channel: stream, seq: stamp.seq });
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
        self.watch.compare(self.now, &self.hub)
    }

    /// Everything ends well.
    fn settle(&mut self) -> Result<(), String> {
        let none = &mut Bytes(&[]);
        for _ in 0..2_000 {
            let idle = self.flight.is_none() && self.reads.is_empty() && self.marks.is_empty();
            if idle && !self.hub.has_batch() {
                return self.watch.at_rest();
            }
            if self.hub.has_batch() {
                self.handle(Input::RoundEnded, none)?;
            }
            if let Some((batch, outcome)) = self.flight.take().and_then(|_| self.store.commit(0)) {
                let input = match outcome {
                    Committed::Known(posts) => Input::AlreadyStored { batch, posts },
                    Committed::Repeats => return Err(format!("{batch:?} has one post twice")),
                    _ => Input::Persisted { batch },
                };
                self.handle(input, none)?;
            }
            if let Some(read) = self.reads.pop_front() {
                let page = self.store.read(0, &read);
                self.handle(Input::HistoryRead { read, page }, none)?;
            }
            if let Some(conn) = self.marks.pop_first() {
                self.handle(Input::Ready { conn }, none)?;
            }
        }
        Err("it does not come to rest".into())
    }
}

/// A request of version 1.
fn plain(bytes: &mut Bytes<'_>) -> Command {
    let (which, name) = (bytes.below(16), bytes.next());
    let channel = channel(name);
    match which {
        0..4 => Command::Join { channel, token: None },
        4 => Command::Leave { channel },
        5..12 => Command::Post { channel, payload: Payload::Plain("x".repeat(usize::from(name % 9))) },
        12 => Command::ReadSince { channel, since: UnixMillis(0) },
        _ => administration(bytes, channel),
    }
}

fn administration(bytes: &mut Bytes<'_>, channel: ChannelName) -> Command {
    let user = UserName::new(USERS[usize::from(bytes.below(3))]).expect("a name");
    Command::Admin(match bytes.below(8) {
        0 => Admin::CreateChannel { name: channel, visibility: Visibility::Public },
        1 => Admin::DeleteChannel { name: channel },
        2 => Admin::RenameChannel { name: channel, new_name: self::channel(bytes.next()) },
        3 => Admin::AclAdd { channel, user },
        4 => Admin::AclRemove { channel, user },
        5 => Admin::Kick { channel, target: KickTarget::User(user) },
        6 => Admin::Ban { channel, user },
        _ => Admin::Unban { channel, user },
    })
}

/// A request of version 2.
fn stream(bytes: &mut Bytes<'_>) -> Command {
    let (which, name, number) = (bytes.below(32), bytes.next(), u64::from(bytes.next()) % 12);
    let stream = match name % 2 {
        0 => StreamRef::Channel(channel(name / 2)),
        _ => StreamRef::Number(ChannelId(u64::from(name / 2 % 4))),
    };
    Command::Stream(match which {
        0..7 => {
            let from = match name / 16 % 3 {
                0 => Start::Latest,
                1 => Start::After(number),
                _ => Start::Cursor,
            };
            StreamCommand::Subscribe { stream, from, invite: None }
        }
        7 => StreamCommand::Unsubscribe { stream },
        8 => {
            let from = if name < 128 { PageFrom::After(number) } else { PageFrom::Before(number) };
            StreamCommand::Read { stream, from, limit: usize::from(name % 5) }
        }
        9..19 => StreamCommand::Post {
            stream,
            payload: Payload::Body(body::of_text(&"y".repeat(usize::from(name % 9)))),
            signed: Arc::new(Signed {
                id: MessageId([number as u8; 16]),
                signature: Opaque([number as u8; 64]),
                acknowledge: false,
            }),
            lifetime: None,
        },
        19..23 => StreamCommand::Report { stream, delivered: number, seen: u64::from(bytes.next()) % 12 },
        23 => StreamCommand::Acknowledge { stream, seq: number, word: Opaque(String::new()) },
        24 | 25 => StreamCommand::Receipts { stream, seq: number },
        26 | 27 => StreamCommand::WatchReceipts { stream, on: name < 200 },
        28 => {
            let user = UserName::new(USERS[usize::from(name % 3)]).expect("a name");
            StreamCommand::Keys { user }
        }
        _ => return administration(bytes, channel(name)),
    })
}
