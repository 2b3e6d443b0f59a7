//! A server with one channel and a mailbox, as a link shows it.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use crate::body;
use crate::desk::{Desk, Input, Intent, Keep, Kept, Look, Output, Place, Source};
use crate::key::SecretKey;
use crate::link::{
    Action, Input as ToLink, JoinFrom, OwnMailbox, Place as At, Proof, RequestError, RequestId,
};
use crate::name::{ChannelName, SessionPath};
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::{ChannelInfo, Command, Reply, Stamped, Visibility};
use crate::record::{ChannelId, Stamp, UserId};
use crate::stream::{Origin, PageFrom, StreamCommand, StreamRef, StreamReply};
use crate::time::{Monotonic, Now, UnixMillis};

pub(super) const OPS: ChannelId = ChannelId(3);
pub(super) const MINE: ChannelId = ChannelId(4);
pub(super) const ME: UserId = UserId(7);

pub(super) fn ops() -> ChannelName {
    ChannelName::new("ops").unwrap()
}

pub(super) fn channel() -> Place {
    Place::Channel(ops())
}

pub(super) fn path(user: &str) -> SessionPath {
    SessionPath::new(user, "m", "chat").unwrap()
}

/// A message of the model's channel. `None`: it is kept no more.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) own: bool,
    pub(super) mentions: bool,
    pub(super) purged: bool,
    pub(super) text: String,
}

/// The server, the link and the desk.
pub(super) struct Scene {
    pub(super) desk: Desk,
    pub(super) held: Vec<Held>,
    /// Delivered to the link so far.
    pub(super) position: usize,
    pub(super) up: bool,
    pub(super) open_requests: VecDeque<(RequestId, Command)>,
    pub(super) reports: Vec<(u64, u64)>,
    pub(super) keeps: Vec<Keep>,
    pub(super) joined: bool,
    pub(super) page_rows: usize,
    pub(super) posts: BTreeMap<usize, RequestId>,
    clock: u64,
}

impl Scene {
    pub(super) fn new(kept: Kept, held: Vec<Held>) -> Self {
        let mut scene = Self {
            desk: Desk::new(kept),
            held,
            position: 0,
            up: false,
            open_requests: VecDeque::new(),
            reports: Vec::new(),
            keeps: Vec::new(),
            joined: false,
            page_rows: 7,
            posts: BTreeMap::new(),
            clock: 0,
        };
        scene.connect();
        scene
    }

    pub(super) fn now(&self) -> Now {
        Now { mono: Monotonic(self.clock), wall: UnixMillis(self.clock as i64) }
    }

    pub(super) fn tell(&mut self, action: Action) {
        self.handle(Input::Link(action));
    }

    pub(super) fn want(&mut self, intent: Intent) {
        self.handle(Input::Do(intent));
    }

    fn handle(&mut self, input: Input) {
        self.clock += 1;
        let mut out = Vec::new();
        self.desk.handle(self.now(), input, &mut out);
        for output in out {
            match output {
                Output::Keep(keep) => self.keeps.push(keep),
                Output::Link(ToLink::Request { id, command, deadline }) => {
                    if self.up || deadline.is_some() {
                        self.open_requests.push_back((id, command));
                    } else {
                        self.tell(Action::Replied { id, result: Err(RequestError::NotConnected) });
                    }
                }
                Output::Link(ToLink::Join { channel, from, .. }) => {
                    assert_eq!(from, JoinFrom::Live);
                    assert!(channel == ops() && !self.joined);
                    self.joined = true;
                    self.position = self.held.len();
                    let position = Some((OPS, self.position as u64));
                    self.tell(Action::Joined { channel, position });
                }
                Output::Link(ToLink::Report { stream: OPS, delivered, seen }) => {
                    self.reports.push((delivered, seen));
                }
                Output::Link(_) => {}
            }
        }
    }

    pub(super) fn connect(&mut self) {
        self.up = true;
        let server_key = Some(SecretKey::from_seed(&[9; 32]).public());
        let (path, user) = (path("ann"), Some(ME));
        self.tell(Action::Up { path, user, admin: false, server_id: None, server_key });
        if self.joined {
            let position = Some((OPS, self.position as u64));
            self.tell(Action::Joined { channel: ops(), position });
        }
    }

    pub(super) fn drop_connection(&mut self) {
        self.up = false;
        let open = core::mem::take(&mut self.open_requests);
        self.tell(Action::Down(crate::link::DownReason::Silent));
        for (id, command) in open {
            // A link sends posts again.
            if let Command::Post { .. } = command {
                self.open_requests.push_back((id, command));
            } else {
                self.tell(Action::Replied { id, result: Err(RequestError::Interrupted) });
            }
        }
    }

    pub(super) fn open_mailbox(&mut self) {
        self.tell(Action::Opened { mailbox: OwnMailbox::User, position: Some((MINE, 0)) });
    }

    pub(super) fn mail(&mut self, from: &str, seq: u64, text: &str) {
        let at = At { stream: MINE, seq, origin: Origin::default(), proof: Proof::Verified };
        let (payload, ts) = (Payload::Plain(text.into()), Some(self.now().wall));
        self.tell(Action::Deliver { channel: None, from: path(from), payload, ts, place: Some(at) });
    }

    pub(super) fn post(&mut self, own: bool, mentions: bool, text: &str) {
        self.held.push(Held { own, mentions, purged: false, text: text.into() });
    }

    /// The next message comes over the link.
    pub(super) fn deliver(&mut self) {
        if !self.up || !self.joined || self.position >= self.held.len() {
            return;
        }
        self.position += 1;
        let seq = self.position as u64;
        let held = self.held[self.position - 1].clone();
        if held.own || held.purged {
            let (channel, purged) = (Some(ops()), held.purged);
            return self.tell(Action::Passed { channel, stream: OPS, from: seq, to: seq, purged });
        }
        let Stamped { from, ts, payload, origin, .. } = stamped(seq, &held);
        let place = Some(At { stream: OPS, seq, origin, proof: Proof::Unsigned });
        self.tell(Action::Deliver { channel: Some(ops()), from, payload, ts: Some(ts), place });
    }

    /// The server answers one of the open requests.
    pub(super) fn answer(&mut self, nth: usize) {
        if !self.up || self.open_requests.is_empty() {
            return;
        }
        let nth = nth % self.open_requests.len();
        let Some((id, command)) = self.open_requests.remove(nth) else { return };
        let reply = self.reply(id, command);
        self.tell(Action::Replied { id, result: Ok(reply) });
    }

    fn reply(&mut self, id: RequestId, command: Command) -> Reply {
        match command {
            Command::ListChannels => {
                let visibility = Visibility::Public;
                Reply::Channels(alloc::vec![ChannelInfo {
                    name: ops(),
                    visibility,
                    member: true,
                    sealed: false
                }])
            }
            Command::Who { channel } => {
                let sessions = ["ann", "bea"].map(|user| path(user).into()).into();
                Reply::Presence { channel, sessions }
            }
            Command::Post { payload, .. } => {
                let Ok(body::View::Text(text)) = payload.view() else { panic!("a text") };
                self.post(true, false, text);
                self.posts.insert(self.held.len(), id);
                let stamp = Stamp { seq: self.held.len() as u64, ts: UnixMillis(self.held.len() as i64) };
                Reply::Stream(StreamReply::Stored { stream: OPS, stamp, present: true })
            }
            Command::Stream(StreamCommand::Read { stream: StreamRef::Number(OPS), from, limit }) => {
                self.page(from, limit.min(self.page_rows))
            }
            Command::Stream(StreamCommand::Receipts { seq, .. }) => {
                Reply::Stream(StreamReply::Receipts { stream: OPS, seq, readers: Vec::new() })
            }
            _ => Reply::Stream(StreamReply::Done),
        }
    }

    fn page(&self, from: PageFrom, limit: usize) -> Reply {
        let all = (1..).zip(&self.held).filter(|(_, held)| !held.purged);
        let mut messages: Vec<Stamped> = match from {
            PageFrom::After(after) => {
                all.filter(|(seq, _)| *seq > after).map(|(seq, held)| stamped(seq, held)).collect()
            }
            PageFrom::Before(before) => {
                all.filter(|(seq, _)| *seq < before).map(|(seq, held)| stamped(seq, held)).collect()
            }
        };
        let more = messages.len() > limit;
        if more {
            match from {
                PageFrom::After(_) => messages.truncate(limit),
                PageFrom::Before(_) => drop(messages.drain(..messages.len() - limit)),
            }
        }
        Reply::Stream(StreamReply::Page { stream: OPS, messages, more })
    }

    /// Everything arrives and is answered.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.open_requests.is_empty() && self.position == self.held.len() {
                return;
            }
            self.answer(0);
            self.deliver();
        }
        panic!("it asks without end: {:?}", self.open_requests);
    }

    /// What is loaded, as numbers and texts.
    pub(super) fn shown(&self) -> Vec<(u64, String)> {
        let view = self.desk.view(&channel());
        let message = |entry: &crate::desk::Entry<'_>| match entry {
            crate::desk::Entry::Message(_, it) => Some((it.seq, it.text().unwrap_or("").to_string())),
            crate::desk::Entry::Outgoing(_) => None,
        };
        view.entries.iter().filter_map(message).collect()
    }

    /// The screen shows these messages, and its user scrolls.
    pub(super) fn look(&mut self, seqs: &[u64], older: bool, newer: bool) {
        let shown = seqs.iter().map(|seq| (Source::Channel(ops()), *seq)).collect();
        self.want(Intent::Look(Look { shown, older, newer }));
    }

    pub(super) fn send(&mut self, text: &str) {
        let text = Opaque(text.to_string());
        self.want(Intent::Send { place: channel(), text, reply_to: None });
    }
}

fn stamped(seq: u64, held: &Held) -> Stamped {
    let mentions = if held.mentions { alloc::vec![ME] } else { Vec::new() };
    let context = body::Context { mentions, ..body::Context::default() };
    let payload = Payload::Body(body::of_content(&held.text, &context));
    let from = path(if held.own { "ann" } else { "bea" });
    Stamped { from, ts: UnixMillis(seq as i64), payload, seq, origin: Origin::default() }
}
