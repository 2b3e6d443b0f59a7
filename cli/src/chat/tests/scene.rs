//! A desk with a few conversations, as a server would fill it.

use std::collections::VecDeque;

use conclave_core::body;
use conclave_core::bridge::PermissionRequest;
use conclave_core::desk::{Desk, Followed, Input, Kept, Output};
use conclave_core::key::SecretKey;
use conclave_core::level::Level;
use conclave_core::link::{Action, DownReason, Input as ToLink, OwnMailbox, Place as At, Proof, RequestId};
use conclave_core::name::{ChannelName, SessionPath};
use conclave_core::opaque::Opaque;
use conclave_core::payload::Payload;
use conclave_core::protocol::{ChannelInfo, Command, Reply, Stamped, Visibility};
use conclave_core::record::{ChannelId, UserId};
use conclave_core::stream::{Origin, PageFrom, Receipt, ReceiptState, StreamCommand, StreamRef, StreamReply};
use conclave_core::time::{Monotonic, Now, UnixMillis};
use jiff::tz::TimeZone;

use crate::chat::app::{App, Server};
use crate::chat::theme::Theme;

const OPS: ChannelId = ChannelId(0);
const RANDOM: ChannelId = ChannelId(1);
const MAIL: ChannelId = ChannelId(2);
const ANN: UserId = UserId(1);
/// 2026-11-21T09:00:00Z.
const NINE: i64 = 1_795_251_600_000;

pub(super) struct Scene {
    pub(super) app: App,
    /// Up to where #ops was reported as seen.
    pub(super) seen: u64,
    held: Vec<Stamped>,
    asked: VecDeque<(RequestId, Command)>,
    answers: Vec<String>,
    mail: u64,
}

fn path(text: &str) -> SessionPath {
    text.parse().unwrap()
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

fn message(seq: u64, from: &str, minutes: i64, text: &str, context: &body::Context) -> Stamped {
    let payload = Payload::Body(body::of_content(text, context));
    let ts = UnixMillis(NINE + minutes * 60_000);
    Stamped { from: path(from), ts, payload, seq, origin: Origin::default() }
}

fn history() -> Vec<Stamped> {
    let plain = body::Context::default();
    let agent = body::Context { hops: 1, budget: 8, ..plain.clone() };
    let reply = body::Context { reply_to: Some(2), ..plain.clone() };
    let to_you = body::Context { hops: 2, budget: 8, mentions: vec![ANN], ..plain.clone() };
    [
        ("bea/laptop/chat", -1000, "good evening", &plain),
        ("bea/laptop/chat", 0, "the build is red again, who knows why?", &plain),
        (
            "bob/server/planner",
            1,
            "It is this line:\n```\nfn main() {\n    todo!()\n}\n```\nShall I fix it?",
            &agent,
        ),
        ("ann/desk/chat", 2, "yes please", &reply),
        ("bea/laptop/chat", 3, "日本語の文と e\u{301} und 👩\u{200d}💻 nebeneinander", &plain),
        ("mallory/x/y", 4, "hi\u{1b}[2J\u{202e}evil\r\n09:05 ann: send me the key", &plain),
        (
            "bob/server/planner",
            5,
            "@ann the build is green now. It took a while, since the tests had to run on both machines.",
            &to_you,
        ),
    ]
    .into_iter()
    .zip(1..)
    .map(|((from, minutes, text, context), seq)| message(seq, from, minutes, text, context))
    .collect()
}

impl Scene {
    pub(super) fn new() -> Self {
        let read = Followed { stream: OPS, read: 5, given_up: None };
        let random = Followed { stream: RANDOM, read: 0, given_up: None };
        let kept =
            Kept { channels: vec![(channel("ops"), read), (channel("random"), random)], ..Kept::default() };
        let server = Server {
            label: "wss://conclave.example".into(),
            desk: Desk::new(kept),
            outputs: Vec::new(),
            level: Box::new(|_| Level::Converse),
        };
        let now = Now { mono: Monotonic(0), wall: UnixMillis(NINE + 10 * 60_000) };
        let app = App::new(vec![server], Theme { has_color: true }, TimeZone::UTC, now);
        let (asked, answers) = (VecDeque::new(), Vec::new());
        let mut scene = Self { app, seen: 0, held: history(), asked, answers, mail: 0 };
        let server_key = Some(SecretKey::from_seed(&[9; 32]).public());
        let (path, user) = (path("ann/desk/chat"), Some(ANN));
        scene.tell(Action::Up { path, user, admin: false, server_id: None, server_key });
        scene.settle();
        scene.mail("bea/laptop/chat", 6, "lunch?");
        scene.mail("bea/laptop/chat", 7, "at noon, if the build lets us");
        scene.settle();
        scene
    }

    fn tell(&mut self, action: Action) {
        self.app.tell(0, Input::Link(action));
        self.take();
    }

    /// More messages in #ops.
    pub(super) fn flood(&mut self, count: u64) {
        for nth in 0..count {
            let seq = self.held.len() as u64 + 1;
            let stamped =
                message(seq, "bea/laptop/chat", 10, &format!("number {nth}"), &body::Context::default());
            self.held.push(stamped.clone());
            let Stamped { from, ts, payload, seq, origin } = stamped;
            let place = Some(At { stream: OPS, seq, origin, proof: Proof::Verified });
            self.tell(Action::Deliver { channel: Some(channel("ops")), from, payload, ts: Some(ts), place });
        }
    }

    fn mail(&mut self, from: &str, minutes: i64, text: &str) {
        self.mail += 1;
        let place =
            Some(At { stream: MAIL, seq: self.mail, origin: Origin::default(), proof: Proof::Verified });
        let (payload, ts) = (Payload::Plain(text.into()), Some(UnixMillis(NINE + minutes * 60_000)));
        self.tell(Action::Deliver { channel: None, from: path(from), payload, ts, place });
    }

    /// An agent asks.
    pub(super) fn card(&mut self) {
        let request = PermissionRequest {
            id: "abcde".parse().unwrap(),
            tool: "Bash".into(),
            description: "Remove what the last build left".into(),
            preview: "cd target\nrm -rf debug\u{1b}[2K".into(),
        };
        let from = path("bob/server/planner");
        let text = request.card(&from, UnixMillis(NINE + 20 * 60_000));
        self.mail("bob/server/planner", 9, &text);
        self.settle();
    }

    pub(super) fn lose(&mut self) {
        self.tell(Action::Down(DownReason::Silent));
    }

    /// The answers to cards that were sent.
    pub(super) fn answers(&mut self) -> Vec<String> {
        self.settle();
        self.answers.clone()
    }

    /// Everything that is asked is answered.
    pub(super) fn settle(&mut self) {
        self.take();
        while let Some((id, command)) = self.asked.pop_front() {
            if let Some(reply) = self.reply(command) {
                self.tell(Action::Replied { id, result: Ok(reply) });
            }
        }
    }

    fn take(&mut self) {
        for output in std::mem::take(&mut self.app.servers[0].outputs) {
            match output {
                Output::Link(ToLink::Request { id, command, .. }) => self.asked.push_back((id, command)),
                Output::Link(ToLink::Join { channel: name, .. }) => {
                    let (stream, last) = match name.as_str() {
                        "ops" => (OPS, self.held.len() as u64),
                        _ => (RANDOM, 0),
                    };
                    self.tell(Action::Joined { channel: name, position: Some((stream, last)) });
                }
                Output::Link(ToLink::Open { mailbox: OwnMailbox::User, .. }) => {
                    self.tell(Action::Opened { mailbox: OwnMailbox::User, position: Some((MAIL, 0)) });
                }
                Output::Link(ToLink::Report { stream: OPS, seen, .. }) => self.seen = seen,
                _ => {}
            }
        }
    }

    fn reply(&mut self, command: Command) -> Option<Reply> {
        Some(match command {
            Command::ListChannels => {
                let info = |name| ChannelInfo {
                    name: channel(name),
                    visibility: Visibility::Public,
                    member: true,
                    sealed: false,
                };
                Reply::Channels(["general", "ops", "random", "releases"].map(info).into())
            }
            Command::Who { channel } => {
                let all = ["ann/desk/chat", "bea/laptop/chat", "bob/server/planner", "ann/desk/helper"];
                Reply::Presence { channel, sessions: all.map(|it| path(it).into()).into() }
            }
            Command::Whisper { payload: Payload::Plain(text), .. } => {
                self.answers.push(text);
                return None;
            }
            Command::Post { .. } => return None,
            Command::Stream(StreamCommand::Read { stream: StreamRef::Number(OPS), from, limit }) => {
                let fits = |it: &&Stamped| match from {
                    PageFrom::After(after) => it.seq > after,
                    PageFrom::Before(before) => it.seq < before,
                };
                let mut messages: Vec<_> = self.held.iter().filter(fits).cloned().collect();
                let more = messages.len() > limit;
                match from {
                    PageFrom::After(_) => messages.truncate(limit),
                    PageFrom::Before(_) => drop(messages.drain(..messages.len().saturating_sub(limit))),
                }
                Reply::Stream(StreamReply::Page { stream: OPS, messages, more })
            }
            Command::Stream(StreamCommand::Read { stream: StreamRef::Number(stream), .. }) => {
                Reply::Stream(StreamReply::Page { stream, messages: Vec::new(), more: false })
            }
            Command::Stream(StreamCommand::Receipts { seq, .. }) => {
                let receipt = |reader, state, word: Option<&str>| Receipt {
                    reader: path(reader).into(),
                    state,
                    at: None,
                    word: word.map(|word| Opaque(word.to_owned())),
                    off: false,
                };
                let readers = vec![
                    receipt("bea/laptop/chat", ReceiptState::Seen, None),
                    receipt("bob/server/planner", ReceiptState::Acknowledged, Some("on it")),
                    receipt("carol/phone/chat", ReceiptState::Stored, None),
                ];
                Reply::Stream(StreamReply::Receipts { stream: OPS, seq, readers })
            }
            _ => Reply::Stream(StreamReply::Done),
        })
    }
}
