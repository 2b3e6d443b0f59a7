//! A client of version 2 that is its own judge. It shares no code with the core but names and keys: it writes and reads
//! frames by itself, in either encoding, remembers what it was sent and what it asked for, and compares both with the
//! disk and with what the protocol promises.
//!
//! What it has on a disk of its own outlives its crashes: how far it has come in each stream, and its unanswered posts,
//! which it sends again under the same ids until they are answered.

mod acts;
pub(super) mod evidence;
mod judge;
mod opening;
mod prober;

use std::collections::{BTreeMap, BTreeSet};

use conclave_core::record::ChannelId;

use super::super::notation::{Pen, Said};
use super::super::plan::{MILLI, SECOND};
use super::super::world::{Event, World};
use crate::chance::Chance;
use opening::Opening;
use prober::Questions;

/// How often it looks after its connection and its subscriptions.
const TICK: u64 = 2 * SECOND;
/// It says something at least so often.
const PING: u64 = 15 * SECOND;
/// Silence after which the connection is taken for dead.
const DEAD: u64 = 45 * SECOND;

/// A post of version 2, as its sender knows it.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    /// Whose it is.
    pub user: &'static str,
    /// The stream's number on the wire.
    pub stream: u64,
    /// What it says.
    pub said: Said,
    /// Its signature.
    pub signature: [u8; 64],
    /// Whether it asks for an acknowledgement.
    pub acknowledge: bool,
    /// How often it was sent.
    pub sent: u64,
    /// Where it is stored, as the server has said.
    pub stored: Option<(u64, i64)>,
    /// It was sent once and refused: it is stored nowhere.
    pub denied: bool,
}

/// What a reader ever claimed of a channel. Whatever the server tells of the reader is at most this.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    /// The highest that was reported.
    pub delivered: u64,
    /// The same.
    pub seen: u64,
    /// What was acknowledged.
    pub acknowledged: BTreeSet<u64>,
}

/// Where a subscription starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Latest,
    After(u64),
    Cursor,
}

/// A request that is not answered.
#[derive(Clone, Debug)]
enum Asked {
    Subscribe {
        stream: Option<u64>,
        start: Start,
    },
    Unsubscribe {
        stream: u64,
    },
    Post {
        id: [u8; 16],
    },
    Read {
        stream: u64,
        after: bool,
        at: u64,
        newest: u64,
    },
    Report,
    Acknowledge,
    Receipts {
        stream: u64,
        seq: u64,
    },
    Watch {
        stream: u64,
        on: bool,
    },
    /// What is only answered.
    Other(&'static str),
    /// The prober's question: about the hidden, or about the absent.
    Question {
        pair: u64,
        hidden: bool,
    },
}

/// A stream that it follows, on its disk.
#[derive(Clone, Debug, Default)]
struct Follow {
    /// It keeps everything up to here.
    kept: u64,
}

/// A subscription of the present connection.
#[derive(Clone, Debug)]
struct Stream {
    /// The next message.
    next: u64,
    /// The server said that it has caught up.
    live: bool,
    /// Receipts are watched, or may be.
    watched: bool,
}

#[derive(Debug)]
enum Stage {
    Closed,
    Opening(Box<Opening>),
    Open,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Speaker {
    /// Its number among the clients.
    pub number: usize,
    /// Whether it speaks JSON.
    pub json: bool,
    user: usize,
    key: usize,
    handle: String,
    /// What the server calls it.
    path: String,
    /// Its reader's number on the wire.
    reader: u64,
    keep: bool,
    /// It only wants to know what is hidden from it.
    pub prober: Option<Questions>,
    chance: Chance,
    wire: Option<usize>,
    dialing: bool,
    attempt: u64,
    stage: Stage,
    heard: u64,
    said: u64,
    /// The server turned it away: it comes back now and then.
    turned_away: bool,
    follows: BTreeMap<u64, Follow>,
    /// The highest position at which the server may rightly think that it is.
    reached: BTreeMap<u64, u64>,
    /// It asked to skip something, and was not answered: the server may think so of any position.
    unsure: bool,
    outbox: Vec<[u8; 16]>,
    streams: BTreeMap<u64, Stream>,
    asked: BTreeMap<u64, Asked>,
    requests: u64,
    posts: u64,
    calm: bool,
}

impl Speaker {
    /// A client that has not started.
    pub(crate) fn new(number: usize, user: usize, key: usize, prober: bool, seed: u64) -> Self {
        let mut chance = Chance::new(seed, 200 + number as u64);
        Self {
            number,
            json: chance.one_in(2),
            user,
            key,
            handle: format!("v{number}"),
            path: String::new(),
            reader: 0,
            keep: !chance.one_in(4),
            prober: prober.then(Questions::default),
            wire: None,
            dialing: false,
            attempt: 0,
            stage: Stage::Closed,
            heard: 0,
            said: 0,
            turned_away: false,
            follows: BTreeMap::new(),
            reached: BTreeMap::new(),
            unsure: false,
            outbox: Vec::new(),
            streams: BTreeMap::new(),
            asked: BTreeMap::new(),
            requests: 0,
            posts: 0,
            calm: false,
            chance,
        }
    }

    /// Something is wrong.
    fn fail(&self, world: &mut World, what: &str) {
        world.fail(format!("the client {} of version 2: {what}", self.number));
    }

    /// The process dies and starts anew: what is not on its disk is lost.
    pub(crate) fn crash(&mut self, world: &mut World) {
        if let Some(wire) = self.wire
            && self.chance.one_in(2)
        {
            // Its machine went with it: nobody tells the server.
            world.wires[wire].cut = true;
            world.wires[wire].open = false;
            self.wire = None;
        }
        self.hang_up(world);
    }

    fn hang_up(&mut self, world: &mut World) {
        if let Some(wire) = self.wire.take() {
            world.hang_up(wire);
        }
        self.attempt += 1;
        self.dialing = false;
        self.forget();
    }

    fn reach(&mut self, stream: u64, at: u64) {
        let reached = self.reached.entry(stream).or_default();
        *reached = at.max(*reached);
    }

    fn forget(&mut self) {
        self.stage = Stage::Closed;
        self.streams.clear();
        // Whoever has no position yet gets one at the latest message, and may not learn it.
        let skips = |asked: &Asked| match asked {
            Asked::Subscribe { start: Start::Latest, .. } => true,
            Asked::Subscribe { start: Start::Cursor, stream } => {
                stream.is_none_or(|stream| !self.reached.contains_key(&stream))
            }
            _ => false,
        };
        self.unsure |= self.asked.values().any(skips);
        self.asked.clear();
    }

    /// From now on it does nothing of its own accord.
    pub(crate) fn calm_down(&mut self, world: &mut World) {
        self.calm = true;
        if self.prober.is_some() {
            self.hang_up(world);
        }
    }

    /// Looks after the connection, the subscriptions, and the unanswered posts.
    pub(crate) fn tick(&mut self, world: &mut World) {
        let pause = TICK / 2 + self.chance.below(TICK);
        world.after(pause, Event::ClientTimer(self.number));
        if self.wire.is_none() {
            let comes_back = !self.turned_away || self.chance.one_in(8);
            if !self.dialing && comes_back && !(self.calm && self.prober.is_some()) {
                self.dialing = true;
                self.attempt += 1;
                let delay = world.net.between(world.plan.latency) * 2;
                world.after(delay, Event::Dial(self.number, self.attempt));
            }
        } else if world.at > self.heard + DEAD {
            self.hang_up(world);
        } else if matches!(self.stage, Stage::Open) {
            self.catch_up(world);
            if world.at > self.said + PING {
                let ping = Pen::new(self.json);
                self.ask(world, 2, "ping", ping, Asked::Other("ping"));
            }
        }
    }

    /// Subscribes again, and sends again what was not answered.
    fn catch_up(&mut self, world: &mut World) {
        let wanted: Vec<u64> = self.follows.keys().copied().collect();
        for stream in wanted {
            let pending = self
                .asked
                .values()
                .any(|asked| matches!(asked, Asked::Subscribe { stream: Some(of), .. } if *of == stream));
            if !pending && !self.streams.contains_key(&stream) {
                let kept = self.follows[&stream].kept;
                let start =
                    if self.keep && self.chance.one_in(2) { Start::Cursor } else { Start::After(kept) };
                self.subscribe(world, Some(stream), "", start, "");
            }
        }
        for id in self.outbox.clone() {
            let pending =
                self.asked.values().any(|asked| matches!(asked, Asked::Post { id: of } if *of == id));
            if !pending {
                self.post(world, id);
            }
        }
    }

    pub(super) fn dialed(&mut self, world: &mut World, attempt: u64, wire: usize) -> bool {
        if !self.dialing || attempt != self.attempt {
            return false;
        }
        self.dialing = false;
        self.wire = Some(wire);
        self.heard = world.at;
        let mut nonce = [0; 32];
        rand_core::Rng::fill_bytes(&mut self.chance, &mut nonce);
        let (opening, hello) = Opening::start(self.json, &nonce);
        self.stage = Stage::Opening(Box::new(opening));
        world.send_up(wire, hello);
        true
    }

    pub(super) fn dial_failed(&mut self, attempt: u64) {
        self.dialing &= attempt != self.attempt;
    }

    pub(super) fn closed(&mut self, wire: usize) {
        if self.wire == Some(wire) {
            self.wire = None;
            self.forget();
        }
    }

    /// Asks for something: `number` and `name` say in which field of a request `what` stands.
    fn ask(&mut self, world: &mut World, number: u64, name: &str, what: Pen, asked: Asked) {
        let Some(wire) = self.wire else { return };
        self.requests += 1;
        self.said = world.at;
        let request = Pen::new(self.json).number(1, "id", self.requests).message(number, name, what);
        let frame = Pen::new(self.json).message(4, "request", request).finish();
        self.asked.insert(self.requests, asked);
        world.send_up(wire, frame);
    }

    /// A stream as a request names it: by its number, or else by the channel's name.
    fn named(&self, stream: Option<u64>, channel: &str) -> Pen {
        let pen = Pen::new(self.json);
        match stream {
            Some(number) => pen.chosen(1, "number", number),
            None => pen.chosen_text(2, "channel", channel),
        }
    }

    fn subscribe(
        &mut self,
        world: &mut World,
        stream: Option<u64>,
        channel: &str,
        start: Start,
        invite: &str,
    ) {
        if let (Some(stream), Start::After(at)) = (stream, start) {
            self.reach(stream, at);
        }
        let pen = Pen::new(self.json).message(1, "stream", self.named(stream, channel));
        let pen = match start {
            Start::Latest => pen.message(2, "latest", Pen::new(self.json)),
            Start::After(at) => pen.chosen(3, "after", at),
            Start::Cursor => pen.message(4, "myCursor", Pen::new(self.json)),
        };
        let pen = pen.text(5, "invite", invite);
        self.ask(world, 3, "subscribe", pen, Asked::Subscribe { stream, start });
    }

    /// Sends a post, for the first time or again.
    fn post(&mut self, world: &mut World, id: [u8; 16]) {
        let Some(draft) = world.drafts.get_mut(&id) else { return };
        draft.sent += 1;
        world.coverage.retries += u64::from(draft.sent > 1);
        let pen = Pen::new(self.json)
            .message(1, "stream", self.named(Some(draft.stream), ""))
            .bytes(2, "messageId", &id)
            .message(3, "body", draft.said.write(self.json))
            .bytes(4, "signature", &draft.signature)
            .flag(5, "acknowledge", draft.acknowledge);
        self.ask(world, 6, "post", pen, Asked::Post { id });
    }

    /// At rest: it is connected, everything is answered, and it has been sent everything.
    ///
    /// # Errors
    /// What is not so.
    pub(crate) fn at_rest(&self, world: &World) -> Result<u64, String> {
        let number = self.number;
        if self.prober.is_some() || !self.is_enrolled(world) {
            return Ok(0);
        }
        if !matches!(self.stage, Stage::Open) {
            return Err(format!("the client {number} of version 2 has not come back"));
        }
        if !self.asked.is_empty() || !self.outbox.is_empty() {
            let (asked, posts) = (&self.asked, self.outbox.len());
            return Err(format!("the client {number} waits for {asked:?}, and {posts} posts are unanswered"));
        }
        for (stream, it) in &self.streams {
            let newest = world.store.rows(channel(*stream)).len() as u64;
            if !it.live || it.next != newest + 1 {
                return Err(format!("the client {number} has of stream {stream} {it:?}, {newest} are there"));
            }
        }
        match self.follows.keys().find(|stream| !self.streams.contains_key(stream)) {
            Some(stream) => Err(format!("the client {number} follows stream {stream} and is not subscribed")),
            None => Ok(self.streams.len() as u64),
        }
    }

    fn is_enrolled(&self, world: &World) -> bool {
        let public = super::key(self.key).public();
        world.server.process.as_ref().is_some_and(|process| process.outside.watch.is_enrolled(&public))
    }

    /// Does something; says when to do the next thing.
    pub(super) fn act(&mut self, world: &mut World) -> u64 {
        let pace = self.chance.around(world.plan.pace) + MILLI;
        if !matches!(self.stage, Stage::Open) {
            return pace;
        }
        if self.prober.is_some() {
            self.probe(world);
            return pace * 4;
        }
        self.do_something(world);
        pace
    }
}

/// The channel behind a number on the wire, where 0 means none.
fn channel(stream: u64) -> ChannelId {
    ChannelId(stream.wrapping_sub(1))
}
