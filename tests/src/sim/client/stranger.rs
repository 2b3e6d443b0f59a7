//! Those who speak the protocol by hand: who registers, who misbehaves, and the outsider.
//!
//! The outsider asks everything twice: about a channel that is hidden from it, and about one that does not exist.
//! Whatever it is told must be the same, letter for letter but for the name.

use std::collections::BTreeMap;

use conclave_core::handshake::Claim;
use conclave_core::name::{ChannelName, Handle, MachineName, UserName};
use conclave_core::payload::Payload;
use conclave_core::protocol::{Admin, Command, KickTarget, Reply, Token, Visibility};
use conclave_core::time::UnixMillis;
use conclave_core::wire::client::{Client, Credentials, Event as ServerEvent, RequestNumber};
use conclave_core::wire::v1::{Frame, Path};

use super::super::plan::{MILLI, SECOND};
use super::super::world::{Event, World};
use super::key;
use crate::chance::Chance;

/// What a stranger is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Registers a user, and leaves.
    Registrar,
    /// Sends what it should not, or does not read what it is sent.
    Vandal,
    /// Wants to know what is hidden from it.
    Outsider,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Stranger {
    number: usize,
    kind: Kind,
    user: usize,
    key: usize,
    chance: Chance,
    wire: Option<usize>,
    dialing: bool,
    client: Option<Client>,
    up: bool,
    posts: u64,
    last_request: RequestNumber,
    /// The outsider's unanswered questions: true for the hidden thing, false for the absent one after it.
    questions: BTreeMap<RequestNumber, bool>,
    /// The answer about the hidden thing, until that about the absent one comes.
    hidden: Option<Reply>,
}

const HIDDEN: &str = "vault";
const ABSENT: &str = "vaulx";
/// Whether an answer may be given at any time, whatever was asked for.
fn is_passing(reply: &Reply) -> bool {
    matches!(reply, Reply::Refused(refusal) if refusal.may_succeed_later())
}

impl Stranger {
    /// A stranger that has not connected.
    pub(crate) fn new(number: usize, kind: Kind, user: usize, key: usize, seed: u64) -> Self {
        Self {
            number,
            kind,
            user,
            key,
            chance: Chance::new(seed, 100 + number as u64),
            wire: None,
            dialing: false,
            client: None,
            up: false,
            posts: 0,
            last_request: RequestNumber::default(),
            questions: BTreeMap::new(),
            hidden: None,
        }
    }

    /// Leaves for good.
    pub(crate) fn leave(&mut self, world: &mut World) {
        if let Some(wire) = self.wire.take() {
            world.hang_up(wire);
        }
        self.dialing = false;
        self.up = false;
    }

    pub(super) fn dialed(&mut self, world: &mut World, wire: usize) -> bool {
        if !std::mem::take(&mut self.dialing) {
            return false;
        }
        self.wire = Some(wire);
        self.client = None;
        self.questions.clear();
        self.hidden = None;
        if self.kind == Kind::Vandal && self.chance.one_in(3) {
            // It does not even shake hands.
            return true;
        }
        let Ok(handle) = Handle::new("stranger") else { return false };
        let claim = match (self.kind, UserName::new(super::super::user(self.user)), MachineName::new("m")) {
            (Kind::Registrar, Ok(user), Ok(machine)) => Some(Claim { user, machine, invite: None }),
            _ => None,
        };
        let credentials = Credentials { key: key(self.key).clone(), handle, claim };
        self.client = Some(Client::start(credentials, |message| world.send_up(wire, message)));
        true
    }

    pub(super) fn dial_failed(&mut self) {
        self.dialing = false;
    }

    pub(super) fn closed(&mut self, wire: usize) {
        if self.wire == Some(wire) {
            self.wire = None;
            self.client = None;
            self.up = false;
        }
    }

    pub(super) fn message(&mut self, world: &mut World, wire: usize, bytes: &[u8]) {
        if self.wire != Some(wire) {
            return;
        }
        let Some(client) = &mut self.client else { return };
        if self.up && self.kind != Kind::Outsider {
            // A vandal's frames do not go through its client, which would take the answers for mistakes.
            return;
        }
        let mut sent = 0;
        let event = client.on_message(bytes, |message| {
            sent += 1;
            world.send_up(wire, message);
        });
        match event {
            // What becomes of a registration whose client does not wait for it?
            None if sent > 1 && self.chance.one_in(4) => self.leave(world),
            None => {}
            Some(ServerEvent::Established(_)) => {
                self.up = true;
                if self.kind == Kind::Registrar {
                    world.coverage.registered += 1;
                    let public = key(self.key).public();
                    // It may be removed again before it hears of it.
                    if !world.store.has_enrolled(&public) {
                        world.fail("a registration was told to be done and is not durable".into());
                    }
                    self.leave(world);
                }
            }
            Some(ServerEvent::HandshakeFailed(_)) => self.leave(world),
            Some(event) => self.compare(world, event),
        }
    }

    /// Does something; says when to do the next thing.
    pub(super) fn act(&mut self, world: &mut World) -> u64 {
        let pace = match self.kind {
            Kind::Registrar => self.chance.around(4 * SECOND),
            Kind::Vandal => self.chance.around(SECOND),
            Kind::Outsider => self.chance.around(world.plan.pace * 4),
        };
        match self.wire {
            None if !self.dialing => {
                self.dialing = true;
                let delay = world.net.between(world.plan.latency) * 2;
                world.after(delay, Event::Dial(self.number, 0));
            }
            None => {}
            Some(wire) => match self.kind {
                Kind::Registrar => {}
                Kind::Vandal => self.misbehave(world, wire),
                Kind::Outsider if self.up => self.probe(world, wire),
                Kind::Outsider => {}
            },
        }
        pace + MILLI
    }

    fn misbehave(&mut self, world: &mut World, wire: usize) {
        let many = if self.chance.one_in(4) { 60 } else { 3 };
        for _ in 0..1 + self.chance.below(many) {
            world.coverage.garbage += 1;
            let frame = self.nonsense(world);
            world.send_up(wire, frame);
        }
        match self.chance.below(10) {
            0 => self.leave(world),
            1 | 2 => {
                // It does not read for long.
                let until = world.at + self.chance.around(40 * SECOND);
                world.wires[wire].stalled_until = until;
                world.on(until, Event::Resume(wire));
            }
            _ => {}
        }
    }

    fn nonsense(&mut self, world: &mut World) -> Vec<u8> {
        let nobody = Path { user: "u0", machine: "m", session: "s0" };
        let (mut hello, mut bytes) = (Vec::new(), Vec::new());
        let channel = self.chance.word(&["general", "corner", "team", "\u{202e}", "", "c0"]).to_string();
        match self.chance.below(if self.up { 16 } else { 4 }) {
            0 => bytes = (0..self.chance.below(40)).map(|_| self.chance.next() as u8).collect(),
            1 => Frame::Pong.encode(&mut bytes),
            2 => Frame::Hello { protocol_version: 1, session: "again" }.encode(&mut bytes),
            3 => {
                Frame::Auth { pubkey: &[7; 32], signature: &[7; 64] }.encode(&mut hello);
                let at = self.chance.index(hello.len());
                hello[at] ^= 1 << self.chance.below(8);
                bytes = hello;
            }
            4..9 => {
                self.posts += 1;
                let text = format!("{}~{}", self.posts, self.number);
                world.fates.entry(text.clone()).or_default().asked += 1;
                let payload = conclave_core::wire::v1::Payload::Plain(&text);
                Frame::ChannelMsg { channel: &channel, from: nobody, payload }.encode(&mut bytes);
            }
            9..12 => Frame::Join { channel: &channel, token: None }.encode(&mut bytes),
            12 => Frame::ReadSince { channel: &channel, since_ms: i64::MIN }.encode(&mut bytes),
            13 => Frame::Who { channel: None }.encode(&mut bytes),
            14 => Frame::Leave { channel: &channel }.encode(&mut bytes),
            _ => Frame::Join { channel: &channel, token: Some("no such token") }.encode(&mut bytes),
        }
        bytes
    }

    /// Asks about the hidden and about the absent.
    fn probe(&mut self, world: &mut World, wire: usize) {
        let which = self.chance.next();
        let second = if self.chance.one_in(3) { "2" } else { "" };
        for (hidden, word) in [(true, HIDDEN), (false, ABSENT)] {
            let Ok(channel) = ChannelName::new(&format!("{word}{second}")) else { return };
            let number = self.request(world, wire, &question(which, channel));
            self.questions.insert(number, hidden);
        }
        world.coverage.probes += 1;
        if self.chance.one_in(4) {
            let command = if self.chance.one_in(2) { Command::ListChannels } else { Command::Ping };
            self.request(world, wire, &command);
        }
    }

    fn request(&mut self, world: &mut World, wire: usize, command: &Command) -> RequestNumber {
        self.last_request.0 += 1;
        if let Some(client) = &mut self.client {
            client.request(self.last_request, command, |message| world.send_up(wire, message));
        }
        self.last_request
    }

    /// Looks for the hidden in whatever the outsider is sent, and compares the answers about the hidden and the absent.
    fn compare(&mut self, world: &mut World, event: ServerEvent) {
        let (request, reply) = match event {
            ServerEvent::Reply { request, reply } => (request, reply),
            ServerEvent::Ended { .. } => return,
            ServerEvent::Violation(what) => {
                return world.fail(format!("the server broke the protocol towards the outsider: {what}"));
            }
            pushed => return Self::search(world, &format!("{pushed:?}")),
        };
        let text = format!("{reply:?}");
        match self.questions.remove(&request) {
            None => Self::search(world, &text),
            Some(true) => self.hidden = Some(reply),
            Some(false) => {
                let Some(hidden) = self.hidden.take() else { return };
                let told = format!("{hidden:?}");
                let passing = is_passing(&hidden) || is_passing(&reply);
                if !passing && told.replace(HIDDEN, ABSENT) != text {
                    world.fail(format!(
                        "the outsider was told {told} of what is hidden, {text} of what is not"
                    ));
                }
            }
        }
    }

    /// What is not about a question names nothing hidden.
    fn search(world: &mut World, text: &str) {
        if text.contains(HIDDEN) {
            world.fail(format!("the outsider was told: {text}"));
        }
    }
}

fn question(which: u64, channel: ChannelName) -> Command {
    let (Ok(user), Ok(new_name)) = (UserName::new("u1"), ChannelName::new("stolen")) else {
        return Command::Ping;
    };
    let admin = match which % 18 {
        0 => return Command::Join { channel, token: None },
        1 => return Command::Join { channel, token: Some(Token::new("a guess")) },
        2 => return Command::Leave { channel },
        3 | 4 => return Command::Who { channel: Some(channel) },
        5 => return Command::Post { channel, payload: Payload::Plain("let me in".into()) },
        6 => return Command::ReadSince { channel, since: UnixMillis(0) },
        7 => Admin::DeleteChannel { name: channel },
        8 => Admin::RenameChannel { name: channel, new_name },
        9 => Admin::SetVisibility { name: channel, visibility: Visibility::Public },
        10 => Admin::AclAdd { channel, user },
        11 => Admin::AclRemove { channel, user },
        12 => Admin::AclList { channel },
        13 => Admin::InviteCreate { channel, uses: None, lifetime: None },
        14 => Admin::InviteList { channel },
        15 => Admin::Kick { channel, target: KickTarget::User(user) },
        16 => Admin::Ban { channel, user },
        _ => Admin::BanList { channel },
    };
    Command::Admin(admin)
}
