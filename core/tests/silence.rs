//! Whoever may not see a thing is told nothing of it, on any path. Two worlds take the same steps; in one of them
//! there are channels that an outsider may not see, and insiders who are busy in them. What the outsider
//! receives is the same in both, byte for byte.
//!
//! One exception is left out here because names are unique: creating or renaming to a name in use is refused.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use conclave_core::directory::Directory;
use conclave_core::handshake::{Claim, Format, Proven, Terms};
use conclave_core::hub::{Action, BatchId, Config, ConnId, Hub, Input, RequestId};
use conclave_core::key::SecretKey;
use conclave_core::name::{ChannelName, Handle, MachineName, SessionPath, UserName};
use conclave_core::payload::Payload;
use conclave_core::protocol::{Admin, Command, KickTarget, Stamped, Token, Visibility};
use conclave_core::record::Record;
use conclave_core::time::{Monotonic, Now, UnixMillis};
use conclave_core::wire::edge::{Delivery, Edge, Encoder, Submit};
use conclave_core::wire::v1::{self, AdminOp, Frame, Path};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rand_core::{TryCryptoRng, TryRng};

const ANN: ConnId = ConnId(0);
const BOB: ConnId = ConnId(1);
const EVE: ConnId = ConnId(2);
/// Channels that only one world has.
const HIDDEN: [&str; 4] = ["den", "lair", "square", "back"];
const NONCE: [u8; 32] = [9; 32];

#[derive(Clone, Default)]
struct Counter(u64);

impl TryRng for Counter {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.try_next_u64()? as u32)
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 += 1;
        Ok(self.0)
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0 += 1;
        bytes.fill(self.0 as u8);
        Ok(())
    }
}
impl TryCryptoRng for Counter {}

/// What insiders do in secret.
#[derive(Clone, Copy, Debug)]
struct Secret {
    kind: u8,
    which: u8,
    other: u8,
    by_bob: bool,
    /// The store refuses it.
    fails: bool,
    /// It comes behind the outsider's request, not before.
    behind: bool,
}

#[derive(Clone, Debug)]
enum Step {
    /// The outsider asks, while something secret may be going on.
    Ask {
        request: [u8; 4],
        secret: Option<Secret>,
    },
    /// Something happens that the outsider may see.
    Open {
        kind: u8,
        secret: Option<Secret>,
    },
    Pass(u16),
}

struct World {
    hub: Hub,
    now: Now,
    /// Whether this is the world with secrets.
    secretive: bool,
    flight: Option<(BatchId, Vec<Record>)>,
    records: Vec<Record>,
    edge: Edge,
    generator: Counter,
    tokens: u32,
    requests: u64,
    /// What the outsider received.
    heard: Vec<u8>,
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

fn secret_key(nth: u8) -> SecretKey {
    SecretKey::from_seed(&[nth + 1; 32])
}

impl World {
    fn new(secretive: bool) -> Self {
        let mut world = Self {
            hub: Hub::new(Config::default(), Directory::default()),
            now: Now { mono: Monotonic(1_000), wall: UnixMillis(1_700_000_000_000) },
            secretive,
            flight: None,
            records: Vec::new(),
            edge: Edge::V1(v1::edge::Edge::new(NONCE)),
            generator: Counter::default(),
            tokens: 0,
            requests: 0,
            heard: Vec::new(),
        };
        for (conn, name) in [(ANN, "ann"), (BOB, "bob")] {
            let key = secret_key(conn.0 as u8).public();
            let claim =
                Some(Claim { user: user(name), machine: MachineName::new("m").unwrap(), invite: None });
            let proven = Proven { key, session: Handle::new("s").unwrap(), claim, terms: Terms::default() };
            world.handle(Input::Open { conn, proven });
            world.settle();
        }
        let key = secret_key(2);
        let public = key.public();
        world.outsider(&Frame::Hello { protocol_version: 1, session: "s" });
        world.outsider(&Frame::Register { username: "eve", machine: "m", pubkey: public.as_bytes() });
        world.outsider(&Frame::Auth { pubkey: public.as_bytes(), signature: &key.sign(&NONCE) });
        world.settle();
        let (visibility, eves) = (Visibility::Public, channel("open"));
        world.insider(ANN, Command::Admin(Admin::CreateChannel { name: eves.clone(), visibility }));
        world.settle();
        for conn in [ANN, EVE] {
            world.insider(conn, Command::Join { channel: eves.clone(), token: None });
        }
        world.heard.clear();
        if secretive {
            for (name, visibility) in HIDDEN.into_iter().zip([
                Visibility::Private,
                Visibility::Private,
                Visibility::Public,
                Visibility::Unlisted,
            ]) {
                let name = channel(name);
                world.insider(ANN, Command::Admin(Admin::CreateChannel { name: name.clone(), visibility }));
                world.settle();
                if visibility != Visibility::Private {
                    world.insider(
                        ANN,
                        Command::Admin(Admin::Ban { channel: name.clone(), user: user("eve") }),
                    );
                }
                world.insider(ANN, Command::Join { channel: name, token: None });
                world.settle();
            }
        }
        world
    }

    fn handle(&mut self, input: Input) {
        let mut actions = Vec::new();
        self.hub.handle(self.now, input, &mut actions);
        for action in actions {
            match action {
                Action::Persist { batch, records } => self.flight = Some((batch, records)),
                Action::ReadHistory(read) => {
                    let posts = self.records.iter().filter_map(|record| match record {
                        Record::Posted { channel, stamp, from, payload, .. }
                            if *channel == read.channel && read.range.contains(*stamp) =>
                        {
                            let payload = (**payload).clone();
                            Some(Stamped::without_origin((**from).clone(), stamp.ts, payload))
                        }
                        _ => None,
                    });
                    let page = Ok(posts.take(read.max_rows).collect());
                    self.handle(Input::HistoryRead { read, page });
                }
                Action::Established { conn, session } if conn == EVE => {
                    self.edge.established(&session, &mut self.heard);
                }
                Action::Reply { conn, request, reply } if conn == EVE => {
                    let next = self.edge.on_reply(request, reply, &mut self.generator, &mut self.heard);
                    self.submit(next);
                }
                Action::Deliver { channel, stream, stamp, from, payload, origin, to, except }
                    if except != EVE && to.contains(EVE) =>
                {
                    let mut encoder = Encoder::new(Format::V1, stream);
                    let (channel, from, payload, origin) = (&channel, &from, &payload, &origin);
                    encoder.push(Delivery { channel, stamp, from, payload, origin });
                    self.heard.append(&mut encoder.finish());
                }
                Action::Whisper { conn, from, target, payload } if conn == EVE => {
                    self.edge.whisper(&from, &target, &payload, &mut self.heard);
                }
                Action::Close { conn, reason } if conn == EVE => self.edge.farewell(&reason, &mut self.heard),
                _ => {}
            }
        }
        self.hub.check().unwrap();
    }

    /// The outsider sends a frame.
    fn outsider(&mut self, frame: &Frame<'_>) {
        if !self.edge.wants_message() {
            return;
        }
        match self.edge.on_message(&frame.to_bytes(), &mut self.generator, &mut self.heard) {
            Ok(submit) => self.submit(submit),
            Err(reason) => self.edge.farewell(&reason, &mut self.heard),
        }
    }

    fn submit(&mut self, submit: Option<Submit>) {
        match submit {
            Some(Submit::Open(proven)) => self.handle(Input::Open { conn: EVE, proven }),
            Some(Submit::Request { request, command, token }) => {
                self.handle(Input::Request { conn: EVE, request, command, token });
            }
            None => {}
        }
    }

    fn insider(&mut self, conn: ConnId, command: Command) {
        self.requests += 1;
        let token = matches!(command, Command::Admin(Admin::InviteCreate { .. })).then(|| {
            self.tokens += 1;
            Token::new(&format!("t{}", self.tokens))
        });
        self.handle(Input::Request { conn, request: RequestId(1_000 + self.requests), command, token });
    }

    fn seal(&mut self) -> bool {
        if self.hub.next_deadline().is_some_and(|at| at <= self.now.mono) {
            self.handle(Input::Tick);
        }
        if self.hub.has_batch() {
            self.handle(Input::RoundEnded);
        }
        self.flight.is_some()
    }

    fn outcome(&mut self, fails: bool) {
        if let Some((batch, records)) = self.flight.take() {
            if fails {
                return self.handle(Input::PersistFailed { batch, why: "full".into() });
            }
            self.records.extend(records);
            self.handle(Input::Persisted { batch });
        }
    }

    fn settle(&mut self) {
        while self.seal() {
            self.outcome(false);
        }
    }

    fn bans_eve(&self, name: &str) -> bool {
        let eve = self.hub.directory().user_named("eve").unwrap().0;
        self.hub.directory().channel_named(name).is_some_and(|(_, channel)| channel.banned.contains(&eve))
    }

    /// What a secret step is for an insider; the other world only hears that its session lives.
    fn secret(&self, secret: Secret) -> Command {
        let name = HIDDEN[usize::from(secret.which) % HIDDEN.len()];
        let other = HIDDEN[usize::from(secret.other) % HIDDEN.len()];
        let of = channel(name);
        let bob = user("bob");
        if !self.secretive {
            return Command::Ping;
        }
        Command::Admin(match secret.kind % 18 {
            0 => Admin::CreateChannel { name: of, visibility: Visibility::Private },
            1 => Admin::DeleteChannel { name: of },
            2 => Admin::RenameChannel { name: of, new_name: channel(other) },
            // Only where the outsider stays out.
            3 if self.bans_eve(name) => Admin::SetVisibility {
                name: of,
                visibility: [Visibility::Public, Visibility::Unlisted, Visibility::Private]
                    [usize::from(secret.other) % 3],
            },
            4 => Admin::AclAdd { channel: of, user: bob },
            5 => Admin::AclRemove { channel: of, user: bob },
            6 => Admin::Ban { channel: of, user: bob },
            7 => Admin::Unban { channel: of, user: bob },
            8 => Admin::Kick { channel: of, target: KickTarget::User(bob) },
            9 => Admin::InviteCreate { channel: of, uses: Some(2), lifetime: Some(Duration::from_secs(10)) },
            10 => Admin::InviteCreate { channel: of, uses: Some(1), lifetime: None },
            11 => Admin::InviteRevoke { token: Token::new(&format!("t{}", secret.other % 8)) },
            12 => Admin::Ban { channel: of, user: user("eve") },
            13 => {
                // The newest invite that is good, to wherever it leads.
                let directory = self.hub.directory();
                let mut tokens = (1..=self.tokens).rev().map(|nth| Token::new(&format!("t{nth}")));
                let good = tokens.find_map(|token| {
                    let (id, invite) = directory.invite(&token)?;
                    let channel = directory.channel(id)?.name.clone();
                    invite.is_valid(self.now.wall).then_some((channel, token))
                });
                let (channel, token) = good.map_or((of, None), |(channel, token)| (channel, Some(token)));
                return Command::Join { channel, token };
            }
            14 | 15 => return Command::Join { channel: of, token: None },
            _ => return Command::Post { channel: of, payload: Payload::Plain("a secret".into()) },
        })
    }

    fn whisper(&mut self) {
        let target = SessionPath::new("eve", "m", "s").unwrap();
        self.insider(BOB, Command::Whisper { target, payload: Payload::Plain("psst".into()) });
    }

    fn take(&mut self, step: &Step, usable: bool) {
        let secret = match step {
            Step::Ask { secret, .. } | Step::Open { secret, .. } => *secret,
            Step::Pass(millis) => {
                self.now.mono.0 += u64::from(*millis);
                self.now.wall.0 += i64::from(*millis);
                for conn in [ANN, BOB] {
                    self.insider(conn, Command::Ping);
                }
                return self.outsider(&Frame::Ping);
            }
        };
        let before = secret.filter(|secret| !secret.behind);
        if let Some(secret) = before {
            let (by, command) = (if secret.by_bob { BOB } else { ANN }, self.secret(secret));
            self.insider(by, command);
            self.seal();
        }
        match step {
            Step::Ask { request, .. } => {
                if usable {
                    ask(request, |frame| self.outsider(frame));
                }
            }
            Step::Open { kind, .. } => match kind % 4 {
                0 => self.insider(ANN, Command::Leave { channel: channel("open") }),
                1 => self.insider(BOB, Command::Join { channel: channel("open"), token: None }),
                2 => self.whisper(),
                _ => {
                    self.insider(ANN, Command::Join { channel: channel("open"), token: None });
                    let payload = Payload::Plain("hello".into());
                    self.insider(ANN, Command::Post { channel: channel("open"), payload });
                }
            },
            Step::Pass(_) => {}
        }
        if let Some(secret) = secret.filter(|secret| secret.behind) {
            let (by, command) = (if secret.by_bob { BOB } else { ANN }, self.secret(secret));
            self.insider(by, command);
        }
        if let Some(secret) = before
            && self.secretive
        {
            self.outcome(secret.fails);
        }
        self.settle();
    }

    /// Whether a request is an outsider's: an invite that is good would make an insider of it.
    fn stays_outside(&self, request: &[u8; 4]) -> bool {
        let mut good = false;
        ask(request, |frame| {
            if let Frame::Join { channel, token: Some(token) } = frame {
                let invited = self.hub.directory().invite(&Token::new(token));
                let found = self.hub.directory().channel_named(channel).map(|(id, _)| id);
                good = invited.is_some_and(|(id, invite)| {
                    found == Some(id) && invite.is_valid(self.now.wall) && !self.bans_eve(channel)
                });
                // It may be made just before, and is then good once it is stored.
                good |= *token == format!("t{}", self.tokens + 1);
            }
        });
        !good
    }
}

/// The outsider's requests: every kind, about what is hidden, what is not, and what never was.
fn ask(&[kind, which, other, more]: &[u8; 4], mut send: impl FnMut(&Frame<'_>)) {
    let name = ["den", "lair", "square", "back", "den", "lair", "square", "back", "open", "eves", "ghost"]
        [usize::from(which) % 11];
    let own = ["eves", "mine"][usize::from(other) % 2];
    let user = ["ann", "bob", "eve", "ghost"][usize::from(other) % 4];
    let path = Path { user, machine: "m", session: "s" };
    let text = format!("{user}/m/s");
    let token = format!("t{}", other % 9);
    let visibility =
        [v1::Visibility::Public, v1::Visibility::Unlisted, v1::Visibility::Private][usize::from(more) % 3];
    let key = secret_key(other % 5).public();
    let payload = v1::Payload::Plain("let me in");
    send(&match kind % 30 {
        0 => Frame::Join { channel: name, token: None },
        1 | 2 => Frame::Join { channel: name, token: Some(&token) },
        3 => Frame::Leave { channel: name },
        4 => Frame::Who { channel: Some(name) },
        5 => Frame::Who { channel: None },
        6 | 7 => Frame::ChannelMsg { channel: name, from: path, payload },
        8 => Frame::Whisper { from: path, target: path, payload },
        9 => Frame::ListChannels,
        10 => Frame::ListMachines,
        11 => Frame::ListUsers,
        12 => Frame::ReadSince { channel: name, since_ms: i64::from(more % 2) },
        13 => Frame::Admin(AdminOp::CreateChannel { name: own, visibility }),
        14 => Frame::Admin(AdminOp::DeleteChannel { name }),
        15 => Frame::Admin(AdminOp::RenameChannel { name, new_name: own }),
        16 => Frame::Admin(AdminOp::SetVisibility { name, visibility }),
        17 => Frame::Admin(AdminOp::AclAdd { channel: name, user }),
        18 => Frame::Admin(AdminOp::AclRemove { channel: name, user }),
        19 => Frame::Admin(AdminOp::AclList { channel: name }),
        20 => {
            let (uses, expires_in_secs) = ([None, Some(0), Some(1)][usize::from(more) % 3], None);
            Frame::Admin(AdminOp::InviteCreate { channel: name, uses, expires_in_secs })
        }
        21 => Frame::Admin(AdminOp::InviteRevoke { token: &token }),
        22 => Frame::Admin(AdminOp::InviteList { channel: name }),
        23 => Frame::Admin(AdminOp::Kick { channel: name, target: if more % 2 == 0 { user } else { &text } }),
        24 => Frame::Admin(AdminOp::Ban { channel: name, user }),
        25 => Frame::Admin(AdminOp::Unban { channel: name, user }),
        26 => Frame::Admin(AdminOp::BanList { channel: name }),
        27 => Frame::Admin(AdminOp::UserRemove { username: user }),
        28 => Frame::Admin(AdminOp::MachineAdd { name: own, pubkey: key.as_bytes() }),
        _ => Frame::Admin(AdminOp::MachineRemove { name: own }),
    });
}

fn secrets() -> impl Strategy<Value = Option<Secret>> {
    let secret =
        any::<(u8, u8, u8, bool, bool, bool)>().prop_map(|(kind, which, other, by_bob, fails, behind)| {
            Secret { kind, which, other, by_bob, fails: fails && !behind, behind }
        });
    prop_oneof![1 => Just(None), 3 => secret.prop_map(Some)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (any::<[u8; 4]>(), secrets()).prop_map(|(request, secret)| Step::Ask { request, secret }),
        2 => (any::<u8>(), secrets()).prop_map(|(kind, secret)| Step::Open { kind, secret }),
        1 => (0..20_000u16).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_outsider_receives_the_same_whether_a_hidden_thing_exists_or_not(steps in steps()) {
        let (mut with, mut without) = (World::new(true), World::new(false));
        for step in &steps {
            let usable = match step {
                Step::Ask { request, .. } => with.stays_outside(request),
                _ => true,
            };
            with.take(step, usable);
            without.take(step, usable);
            prop_assert_eq!(&with.heard, &without.heard, "{:?}", step);
        }
    }
}

/// Silence would be no achievement in an empty world: the insiders of these get everything done.
#[test]
fn the_secrets_are_many() {
    let mut runner = TestRunner::deterministic();
    let (mut kinds, mut heard) = (BTreeSet::new(), 0);
    for _ in 0..100 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        let mut world = World::new(true);
        for step in &steps {
            let usable = !matches!(step, Step::Ask { request, .. } if !world.stays_outside(request));
            world.take(step, usable);
        }
        let text = |record: &Record| format!("{record:?}").split(' ').next().unwrap().to_owned();
        kinds.extend(world.records.iter().map(text));
        heard += world.heard.len();
    }
    for kind in [
        "ChannelCreated",
        "ChannelDeleted",
        "ChannelRenamed",
        "VisibilitySet",
        "MemberAdded",
        "MemberRemoved",
        "Banned",
        "Unbanned",
        "InviteCreated",
        "InviteUsed",
        "InviteRevoked",
        "Posted",
    ] {
        assert!(kinds.contains(kind), "{kind} never happens, only {kinds:?}");
    }
    assert!(heard > 50_000, "the outsider hears {heard} bytes");
}
