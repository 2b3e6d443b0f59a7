//! A plain model of the hub: vectors that are searched from the front, no index, no record, no cleverness. It is
//! written from the rules, not from the hub, and the hub is compared with it.
//!
//! Every request is judged by what is durable. What it would store joins the changes that are not durable yet if it
//! concerns nothing that they concern, and otherwise waits: a change in its user's line, a post only if one of those
//! changes decides whether it may be made. After a commit the posts that waited go first, then strangers, then each user
//! in turn.

#![allow(dead_code, unreachable_pub, reason = "shared by tests and fuzz targets, each of which uses a part")]
#![allow(clippy::unwrap_used, reason = "what is looked for is there, or the test fails")]

mod administer;
mod bench;
mod commit;
mod decide;
mod line;
mod operation;
mod rates;

use std::collections::BTreeMap;
use std::time::Duration;

use conclave_core::hub::{Config, Limits, Rate, Rates};
use conclave_core::key::PublicKey;
use conclave_core::name::{SessionPath, UserName};
use conclave_core::protocol::{Command, Limit, Refusal, Visibility};
use conclave_core::time::{Monotonic, Now, UnixMillis};

pub use bench::Bench;
use line::{Line, Stranger};
pub use operation::{Operation, key, name};
use rates::Levels;

/// A connection's number.
pub type Conn = u64;

/// What a connection is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Established(String, bool),
    Reply(u64, Answer),
    Post { channel: String, from: String, text: String },
    Whisper { from: String, target: String, text: String },
    Refused(Refusal),
    Closed(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Sent,
    Joined(String),
    Done(String),
    Presence(Vec<String>),
    Channels(Vec<(String, Visibility, bool)>),
    Machines(Vec<String>),
    Users(Vec<String>),
    Invites(Vec<(String, Option<u32>, Option<i64>)>),
    Invite(String),
    History(String, Vec<(String, i64, String)>),
    Pong,
    Refused(Refusal),
}

/// What the store says when a batch fails, and when a page cannot be read.
const FULL: &str = "full";
const UNREADABLE: &str = "unreadable";

/// What each connection was told in one step, in order.
pub type Told = BTreeMap<Conn, Vec<Seen>>;

#[derive(Clone, Debug)]
struct User {
    id: u64,
    name: String,
    machines: Vec<(String, PublicKey)>,
}

#[derive(Clone, Debug)]
struct Channel {
    id: u64,
    name: String,
    visibility: Visibility,
    creator: u64,
    members: Vec<u64>,
    banned: Vec<u64>,
    invites: Vec<Invite>,
    posts: Vec<Posted>,
}

#[derive(Clone, Debug)]
struct Invite {
    token: String,
    uses: Option<u32>,
    expires: Option<i64>,
    created: i64,
}

#[derive(Clone, Debug)]
struct Posted {
    from: String,
    ts: i64,
    text: String,
}

#[derive(Clone, Debug)]
struct Session {
    conn: Conn,
    path: SessionPath,
    user: u64,
    channels: Vec<u64>,
    heard: u64,
    levels: Levels,
}

#[derive(Clone, Debug)]
struct Asker {
    conn: Conn,
    request: u64,
    user: u64,
    name: String,
    path: SessionPath,
}

/// What was accepted and is not durable.
#[derive(Clone, Debug)]
enum Pending {
    Post { asker: Asker, channel: u64, text: String, ts: i64 },
    Change { asker: Asker, command: Command, token: String, wall: i64 },
    Register { conn: Option<Conn>, user: String, machine: String, handle: String, key: PublicKey },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Draining,
    Drained,
}

#[derive(Clone, Debug)]
struct Read {
    conn: Conn,
    request: u64,
    channel: u64,
    name: String,
    since: i64,
}

#[derive(Clone, Debug)]
pub struct Model {
    pub config: Config,
    pub now: Now,
    /// What the last step told.
    pub told: Told,
    /// How many requests had to wait, and how many changes joined others.
    pub waited: usize,
    pub joined: usize,
    users: Vec<User>,
    channels: Vec<Channel>,
    sessions: Vec<Session>,
    /// Connections that are open, sessions or not yet.
    open: Vec<Conn>,
    /// What users have left of their rates, kept for ever.
    levels: Vec<(u64, Levels)>,
    gathered: Vec<Pending>,
    flight: Option<Vec<Pending>>,
    /// A kick is to be noted, which changes nothing else that is kept.
    noted: bool,
    line: Line,
    /// The last decision was for a change.
    decided_now: bool,
    reads: Vec<Read>,
    state: State,
    next_id: u64,
    next_conn: Conn,
    next_request: u64,
    next_token: u32,
}

/// Bounds so small that random steps meet them; `rates` says whether there are rates too.
pub fn config(rates: bool) -> Config {
    let off = Limits::default().without_rates();
    let limits = Limits {
        sessions_per_user: 2,
        subscriptions_per_session: 2,
        channels_per_user: 2,
        members_per_channel: 3,
        bans_per_channel: 1,
        invites_per_channel: 2,
        machines_per_user: 2,
        page_rows: 3,
        batch_posts: 3,
        batch_bytes: 12,
        batch_changes: 3,
        idle: Duration::from_secs(60),
        ..off
    };
    let slow = Rates {
        posts: Rate::new(1, 3),
        whispers: Rate::new(1, 2),
        bytes: Rate::new(3, 10),
        control: Rate::new(2, 9),
        replies: Rate::OFF,
    };
    let shared = Rates {
        posts: Rate::new(1, 5),
        whispers: Rate::new(2, 3),
        bytes: Rate::new(7, 12),
        control: Rate::new(3, 14),
        replies: Rate::OFF,
    };
    let limits = if rates { Limits { session: slow, user: shared, ..limits } } else { limits };
    let admins = [(UserName::new("root").unwrap(), None), (UserName::new("cid").unwrap(), Some(key(3, 0)))];
    Config { admins: admins.into(), limits, ..Config::default() }
}

impl Model {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            now: Now { mono: Monotonic(5_000), wall: UnixMillis(1_700_000_000_000) },
            told: Told::new(),
            waited: 0,
            joined: 0,
            users: Vec::new(),
            channels: Vec::new(),
            sessions: Vec::new(),
            open: Vec::new(),
            levels: Vec::new(),
            gathered: Vec::new(),
            flight: None,
            noted: false,
            line: Line::default(),
            decided_now: false,
            reads: Vec::new(),
            state: State::Running,
            next_id: 0,
            next_conn: 0,
            next_request: 0,
            next_token: 0,
        }
    }

    /// Does one step; what it told is then in `told`.
    pub fn step(&mut self, operation: &Operation) {
        self.told.clear();
        match operation {
            Operation::Pass { millis } => {
                self.now.mono.0 += u64::from(*millis);
                self.now.wall.0 += i64::from(*millis);
                return;
            }
            Operation::Jump { millis } => {
                self.now.wall.0 += i64::from(*millis);
                return;
            }
            Operation::Persisted | Operation::Failed if self.flight.is_none() => return,
            Operation::Read { .. } if self.reads.is_empty() => return,
            Operation::Request { .. } if self.sessions.is_empty() => return,
            Operation::Close { .. } | Operation::Overflow { .. } if self.open.is_empty() => return,
            _ => {}
        }
        let of_sessions = |nth: u8| {
            let mut sessions: Vec<_> = self.sessions.iter().map(|one| (one.path.clone(), one.conn)).collect();
            sessions.sort();
            sessions.get(usize::from(nth) % sessions.len().max(1)).map(|(_, conn)| *conn)
        };
        let of_open = |nth: u8| self.open.get(usize::from(nth) % self.open.len().max(1)).copied();
        match operation {
            Operation::Open { user, machine, handle, key: of, registers } => {
                let conn = self.next_conn;
                self.next_conn += 1;
                self.open.push(conn);
                self.expire();
                let (user, machine) = (name::user(*user), name::machine(*machine));
                self.connect(conn, &user, &machine, &name::handle(*handle), key(of.0, of.1), *registers);
            }
            Operation::Request { session, command } => {
                let conn = of_sessions(*session).unwrap();
                self.expire();
                self.request(conn, command);
            }
            Operation::Close { conn } => {
                let conn = of_open(*conn).unwrap();
                self.expire();
                self.hang_up(conn);
            }
            Operation::Overflow { conn } => {
                let conn = of_open(*conn).unwrap();
                self.expire();
                if self.sessions.iter().any(|one| one.conn == conn) {
                    self.end(conn, "slow_consumer");
                }
            }
            Operation::RoundEnded => {
                self.expire();
                self.seal();
            }
            Operation::Persisted => {
                self.expire();
                self.persisted();
            }
            Operation::Failed => {
                self.expire();
                self.failed();
            }
            Operation::Read { fails } => {
                self.expire();
                let read = self.reads.remove(0);
                self.history(read, *fails);
            }
            Operation::Shutdown => {
                self.expire();
                if self.state == State::Running {
                    self.state = State::Draining;
                }
            }
            Operation::Pass { .. } | Operation::Jump { .. } => {}
        }
        let idle = self.flight.is_none() && self.gathered.is_empty() && !self.noted && self.line.is_empty();
        if self.state == State::Draining && idle {
            self.state = State::Drained;
            for conn in self.sessions.iter().map(|one| one.conn).collect::<Vec<_>>() {
                self.end(conn, "shutdown");
            }
        }
    }

    pub fn is_drained(&self) -> bool {
        self.state == State::Drained
    }

    /// Whether the end of a round sends a batch off.
    pub fn has_batch(&self) -> bool {
        self.flight.is_none() && (!self.gathered.is_empty() || self.noted)
    }

    /// The number of the next request.
    pub fn requests(&self) -> u64 {
        self.next_request
    }

    /// The live sessions' paths.
    pub fn paths(&self) -> Vec<String> {
        let mut paths: Vec<_> = self.sessions.iter().map(|one| one.path.clone()).collect();
        paths.sort();
        paths.iter().map(ToString::to_string).collect()
    }

    /// All that is durable but messages, line by line.
    pub fn durable(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for user in &self.users {
            let mut machines: Vec<_> =
                user.machines.iter().map(|(name, key)| format!("{name}={key}")).collect();
            machines.sort();
            lines.push(format!("user {}: {machines:?}", user.name));
        }
        for channel in &self.channels {
            let names = |ids: &[u64]| {
                let mut names: Vec<_> = ids.iter().map(|id| self.name_of(*id)).collect();
                names.sort();
                names
            };
            let mut invites: Vec<_> = channel
                .invites
                .iter()
                .map(|one| format!("{} {:?} {:?}", one.token, one.uses, one.expires))
                .collect();
            invites.sort();
            lines.push(format!(
                "channel {}: {:?} of {}, members {:?}, banned {:?}, invites {invites:?}, {} posts until {}",
                channel.name,
                channel.visibility,
                self.name_of(channel.creator),
                names(&channel.members),
                names(&channel.banned),
                channel.posts.len(),
                channel.posts.last().map_or(0, |post| post.ts),
            ));
        }
        lines.sort();
        lines
    }

    fn tell(&mut self, conn: Conn, seen: Seen) {
        if self.open.contains(&conn) {
            self.told.entry(conn).or_default().push(seen);
        }
    }

    fn answer(&mut self, asker: &Asker, answer: Answer) {
        self.tell(asker.conn, Seen::Reply(asker.request, answer));
    }

    fn name_of(&self, id: u64) -> String {
        self.users.iter().find(|user| user.id == id).map(|user| user.name.clone()).unwrap_or_default()
    }

    fn is_admin(&self, name: &str) -> bool {
        self.config.admins.iter().any(|(admin, pin)| {
            let keys = self.users.iter().filter(|user| user.name == name).flat_map(|user| &user.machines);
            admin.as_str() == name && pin.is_none_or(|pin| keys.into_iter().any(|(_, key)| *key == pin))
        })
    }

    /// Ends a connection that did not become a session.
    fn refuse(&mut self, conn: Conn, why: Refusal) {
        self.last_word(conn, Seen::Refused(why));
    }

    /// Ends a connection with a reason.
    fn end(&mut self, conn: Conn, why: &'static str) {
        self.last_word(conn, Seen::Closed(why));
    }

    fn last_word(&mut self, conn: Conn, seen: Seen) {
        self.tell(conn, seen);
        self.sessions.retain(|one| one.conn != conn);
        self.open.retain(|one| *one != conn);
        self.line.forget(conn);
    }

    fn expire(&mut self) {
        let (now, idle) = (self.now.mono.0, self.config.limits.idle.as_millis() as u64);
        let silent: Vec<_> =
            self.sessions.iter().filter(|one| one.heard + idle <= now).map(|one| one.conn).collect();
        for conn in silent {
            self.end(conn, "idle");
        }
    }

    /// The peer's end went away.
    fn hang_up(&mut self, conn: Conn) {
        self.open.retain(|one| *one != conn);
        self.sessions.retain(|one| one.conn != conn);
        self.line.forget(conn);
        for pending in self.gathered.iter_mut().chain(self.flight.iter_mut().flatten()) {
            if let Pending::Register { conn: registering, .. } = pending
                && *registering == Some(conn)
            {
                *registering = None;
            }
        }
    }

    fn connect(
        &mut self,
        conn: Conn,
        user: &str,
        machine: &str,
        handle: &str,
        key: PublicKey,
        registers: bool,
    ) {
        if self.state != State::Running {
            return self.end(conn, "shutdown");
        }
        let owner = self.users.iter().find(|user| user.machines.iter().any(|(_, other)| *other == key));
        if !registers {
            let Some(owner) = owner else { return self.refuse(conn, Refusal::UnknownKey) };
            let machine = owner.machines.iter().find(|(_, other)| *other == key).unwrap().0.clone();
            return self.establish(conn, owner.id, &machine, handle);
        }
        let (user, machine, handle) = (user.to_owned(), machine.to_owned(), handle.to_owned());
        let taken = self.users.iter().any(|other| other.name == user);
        let pinned =
            self.config.admins.iter().find(|(name, _)| name.as_str() == user).and_then(|(_, key)| *key);
        if taken {
            let name = UserName::new(&user).unwrap();
            return self.refuse(conn, Refusal::NameTaken(name.into()));
        }
        if pinned.is_some_and(|pin| pin != key) {
            return self.refuse(conn, Refusal::NameReserved);
        }
        if owner.is_some() {
            return self.refuse(conn, Refusal::AlreadyRegistered);
        }
        let registration = Pending::Register { conn: Some(conn), user, machine, handle, key };
        if self.joins(&registration) {
            self.gathered.push(registration);
        } else if let Pending::Register { user, machine, handle, key, .. } = registration {
            self.line.strangers.push(Stranger { conn, user, machine, handle, key });
        }
    }

    fn establish(&mut self, conn: Conn, user: u64, machine: &str, handle: &str) {
        let name = self.name_of(user);
        let path = SessionPath::new(&name, machine, handle).unwrap();
        if let Some(older) = self.sessions.iter().find(|one| one.path == path).map(|one| one.conn) {
            self.end(older, "superseded");
        }
        let most = self.config.limits.sessions_per_user;
        if self.sessions.iter().filter(|one| one.user == user).count() >= most {
            return self.refuse(conn, Refusal::Full { limit: Limit::UserSessions, most });
        }
        let heard = self.now.mono.0;
        self.tell(conn, Seen::Established(path.to_string(), self.is_admin(&name)));
        self.sessions.push(Session {
            conn,
            path,
            user,
            channels: Vec::new(),
            heard,
            levels: Levels::default(),
        });
    }
}
