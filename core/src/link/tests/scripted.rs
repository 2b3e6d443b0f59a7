//! A link against a server that says what a test tells it to.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::super::*;
use crate::key::SecretKey;
use crate::name::{ChannelName, Handle};
use crate::payload::Payload;
use crate::time::UnixMillis;
use crate::wire::v1::{self, Frame, Path, ProtocolError};

pub(super) const OWN: Path<'static> = Path { user: "me", machine: "here", session: "dir" };
pub(super) const BOB: Path<'static> = Path { user: "bob", machine: "there", session: "s" };

pub(super) struct Scripted {
    pub(super) link: Link,
    pub(super) now: Now,
}

/// An action, short enough to compare: frames by kind.
pub(super) fn kinds(actions: &[Action]) -> Vec<String> {
    actions
        .iter()
        .map(|action| match action {
            Action::Send(bytes) => String::from(Frame::decode(bytes).expect("a frame").kind()),
            other => {
                let shown = alloc::format!("{other:?}");
                let end = shown.find(|c: char| !c.is_alphanumeric()).unwrap_or(shown.len());
                String::from(&shown[..end])
            }
        })
        .collect()
}

impl Scripted {
    pub(super) fn new(defaulted: bool) -> Self {
        let config = Config {
            handle: Handle::new("dir").unwrap(),
            defaulted,
            key: SecretKey::from_seed(&[7; 32]),
            seed: [1; 32],
            newest: None,
        };
        let now = Now { mono: Monotonic(5000), wall: UnixMillis(1_700_000_000_000) };
        Self { link: Link::new(config), now }
    }

    /// A link with a live session.
    pub(super) fn up() -> Self {
        let mut pair = Self::new(true);
        pair.input(Input::Start);
        pair.connect();
        pair
    }

    pub(super) fn input(&mut self, input: Input<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        self.link.handle(self.now, input, &mut actions);
        assert!(self.link.next_deadline().is_none_or(|deadline| deadline > self.now.mono));
        actions
    }

    pub(super) fn say(&mut self, frame: &Frame<'_>) -> Vec<Action> {
        self.input(Input::Message(Opaque(&frame.to_bytes())))
    }

    pub(super) fn pass(&mut self, time: Duration) -> Vec<Action> {
        self.now.mono = self.now.mono + time;
        self.input(Input::Tick)
    }

    /// Lets time pass until the next deadline.
    pub(super) fn wait(&mut self) -> (Duration, Vec<Action>) {
        let time = self.link.next_deadline().expect("a deadline").since(self.now.mono);
        (time, self.pass(time))
    }

    /// From `Dial` to `Up`.
    pub(super) fn connect(&mut self) -> Vec<Action> {
        assert_eq!(kinds(&self.input(Input::Dialed { server_id: None })), ["Hello"]);
        assert_eq!(kinds(&self.say(&Frame::Challenge { nonce: &[3; 32] })), ["Auth"]);
        assert!(self.say(&Frame::Established { path: OWN }).is_empty());
        self.say(&Frame::ServerInfo { admin: false })
    }

    pub(super) fn drop_connection(&mut self) -> Vec<Action> {
        self.input(Input::Closed("reset"))
    }

    /// From a lost session to the next one.
    pub(super) fn reconnect(&mut self) -> Vec<Action> {
        assert_eq!(kinds(&self.wait().1), ["Dial"]);
        self.connect()
    }

    pub(super) fn refuse(&mut self, text: &str) -> Vec<Action> {
        self.say(&Frame::Error(ProtocolError::Unauthorized(text)))
    }

    pub(super) fn request(&mut self, id: u64, deadline: Option<Duration>) -> Vec<Action> {
        let command = Command::Post { channel: ops(), payload: Payload::Plain(String::from("hi")) };
        let deadline = deadline.map(|deadline| self.now.mono + deadline);
        self.input(Input::Request { id: RequestId(id), command, deadline })
    }

    pub(super) fn ask(&mut self, id: u64, command: Command) -> Vec<Action> {
        self.input(Input::Request { id: RequestId(id), command, deadline: None })
    }

    pub(super) fn join(&mut self, from: JoinFrom) -> Vec<Action> {
        self.input(Input::Join { channel: ops(), token: None, from })
    }

    /// Joins an empty channel and catches up.
    pub(super) fn joined() -> Self {
        let mut pair = Self::up();
        assert_eq!(kinds(&pair.join(JoinFrom::Since(UnixMillis(0)))), ["Join"]);
        assert_eq!(kinds(&pair.say(&Frame::Joined { channel: "ops" })), ["Joined", "ReadSince"]);
        assert_eq!(kinds(&pair.history(&[])), ["CaughtUp"]);
        pair
    }

    pub(super) fn history(&mut self, messages: &[(i64, &str)]) -> Vec<Action> {
        let message =
            |&(ts_ms, body)| v1::HistoryMessage { from: BOB, ts_ms, payload: v1::Payload::Plain(body) };
        self.say(&Frame::History { channel: "ops", messages: messages.iter().map(message).collect() })
    }

    pub(super) fn deliver(&mut self, body: &str) -> Vec<Action> {
        self.say(&Frame::ChannelMsg { channel: "ops", from: BOB, payload: v1::Payload::Plain(body) })
    }
}

pub(super) fn ops() -> ChannelName {
    ChannelName::new("ops").unwrap()
}

/// The bodies that were handed on.
pub(super) fn bodies(actions: &[Action]) -> Vec<&str> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Deliver { payload: Payload::Plain(body), .. } => Some(body.as_str()),
            _ => None,
        })
        .collect()
}

/// How a request ended.
pub(super) fn replied(actions: &[Action]) -> Vec<(u64, Result<crate::protocol::Reply, RequestError>)> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Replied { id, result } => Some((id.0, result.clone())),
            _ => None,
        })
        .collect()
}
