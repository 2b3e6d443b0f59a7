//! A small server to test the link against: one channel, one connection, and every freedom that version 1 leaves a
//! server. Requests wait to be served, replies and deliveries wait to be put on the wire, and a message may be in a
//! page long before it is delivered, or delivered before an older page goes out.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::super::*;
use crate::key::SecretKey;
use crate::name::{ChannelName, Handle};
use crate::payload::Payload;
use crate::protocol::Reply;
use crate::time::UnixMillis;
use crate::wire::v1::{self, Frame, Path};

pub(super) const CHANNEL: &str = "ops";
pub(super) const OWN: Path<'static> = Path { user: "me", machine: "here", session: "dir" };
/// A message is delivered so soon after it is durable, in milliseconds.
const LATEST: u64 = 1000;

/// A message in the server's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Logged {
    pub(super) ts: i64,
    pub(super) user: String,
    pub(super) body: String,
    at: u64,
}

impl Logged {
    fn path(&self) -> Path<'_> {
        if self.user == OWN.user { OWN } else { Path { user: &self.user, machine: "m", session: "s" } }
    }
}

#[derive(Debug, Default)]
struct Connection {
    requests: VecDeque<Vec<u8>>,
    replies: VecDeque<Vec<u8>>,
    wire: VecDeque<Vec<u8>>,
    subscribed: bool,
}

/// What the link handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handed {
    pub(super) user: String,
    pub(super) body: String,
    pub(super) ts: Option<i64>,
}

/// A link, a server and what is between them.
pub(super) struct World {
    pub(super) link: Link,
    pub(super) now: Now,
    pub(super) log: Vec<Logged>,
    purged: usize,
    delivered: usize,
    page: usize,
    connection: Option<Connection>,
    dialing: bool,
    pub(super) handed: Vec<Handed>,
    pub(super) replied: Vec<(RequestId, Result<Reply, RequestError>)>,
    pub(super) notices: Vec<Action>,
    /// The log's length when the server first subscribed the link, and when the link first had caught up.
    pub(super) joined_at: Option<usize>,
    pub(super) caught_up_at: Option<usize>,
    pub(super) asked: usize,
    pub(super) reads: usize,
}

impl World {
    pub(super) fn new(page: usize, seed: u8) -> Self {
        let config = Config {
            handle: Handle::new("dir").unwrap(),
            defaulted: true,
            key: SecretKey::from_seed(&[7; 32]),
            seed: [seed; 32],
            newest: None,
        };
        Self {
            link: Link::new(config),
            now: Now { mono: Monotonic(1_000_000), wall: UnixMillis(1_700_000_000_000) },
            log: Vec::new(),
            purged: 0,
            delivered: 0,
            page,
            connection: None,
            dialing: false,
            handed: Vec::new(),
            replied: Vec::new(),
            notices: Vec::new(),
            joined_at: None,
            caught_up_at: None,
            asked: 0,
            reads: 0,
        }
    }

    pub(super) fn input(&mut self, input: Input<'_>) {
        let mut actions = Vec::new();
        self.link.handle(self.now, input, &mut actions);
        if let Some(deadline) = self.link.next_deadline() {
            assert!(deadline > self.now.mono, "nothing that is due is left undone");
        }
        for action in actions {
            match action {
                Action::Dial(_) => {
                    assert!(self.connection.is_none() && !self.dialing);
                    self.dialing = true;
                }
                Action::Hangup => {
                    self.connection = None;
                    self.dialing = false;
                }
                Action::Send(bytes) => {
                    self.connection.as_mut().expect("a connection to send on").requests.push_back(bytes.0);
                }
                Action::Deliver { channel, from, payload: Payload::Plain(body), ts, .. } => {
                    assert_eq!(channel.unwrap().as_str(), CHANNEL);
                    let user = from.user.to_string();
                    self.handed.push(Handed { user, body, ts: ts.map(|ts| ts.0) });
                }
                Action::Replied { id, result } => self.replied.push((id, result)),
                Action::CaughtUp { channel } => {
                    self.caught_up_at.get_or_insert(self.log.len());
                    self.notices.push(Action::CaughtUp { channel });
                }
                other => self.notices.push(other),
            }
        }
    }

    pub(super) fn join(&mut self, from: JoinFrom) {
        let channel = ChannelName::new(CHANNEL).unwrap();
        self.input(Input::Join { channel, token: None, from });
    }

    /// Somebody's message becomes durable.
    pub(super) fn post(&mut self, user: &str, body: &str, after: i64) {
        let last = self.log.last().map_or(0, |message| message.ts);
        let clock = self.now.wall.0 - 5_000_000;
        let ts = clock.max(last + 1 + after);
        self.log.push(Logged { ts, user: user.into(), body: body.into(), at: self.now.mono.0 });
    }

    /// The next durable message is delivered to who is subscribed.
    pub(super) fn deliver(&mut self) {
        let Some(message) = self.log.get(self.delivered) else { return };
        self.delivered += 1;
        if let Some(connection) = self.connection.as_mut().filter(|connection| connection.subscribed)
            && message.user != OWN.user
        {
            let payload = v1::Payload::Plain(&message.body);
            let frame = Frame::ChannelMsg { channel: CHANNEL, from: message.path(), payload };
            connection.wire.push_back(frame.to_bytes());
        }
    }

    fn deliver_late_ones(&mut self) {
        while self.log.get(self.delivered).is_some_and(|message| message.at + LATEST <= self.now.mono.0) {
            self.deliver();
        }
    }

    /// The server takes the next request.
    pub(super) fn serve(&mut self) {
        self.deliver_late_ones();
        let Some(connection) = &mut self.connection else { return };
        let Some(request) = connection.requests.pop_front() else { return };
        let replies: Vec<Frame<'_>> = match Frame::decode(&request).expect("the link sends frames") {
            Frame::Hello { .. } => alloc::vec![Frame::Challenge { nonce: &[5; 32] }],
            Frame::Auth { .. } => {
                alloc::vec![Frame::Established { path: OWN }, Frame::ServerInfo { admin: false }]
            }
            Frame::Join { channel, .. } => {
                connection.subscribed = true;
                self.joined_at.get_or_insert(self.delivered);
                alloc::vec![Frame::Joined { channel }]
            }
            Frame::Leave { channel } => {
                connection.subscribed = false;
                alloc::vec![Frame::Ack { detail: Some(channel) }]
            }
            Frame::Ping => alloc::vec![Frame::Pong],
            Frame::ChannelMsg { payload: v1::Payload::Plain(body), .. } => {
                let body = String::from(body);
                connection.replies.push_back(Frame::Ack { detail: None }.to_bytes());
                self.post(OWN.user, &body, 0);
                return;
            }
            Frame::ReadSince { channel, since_ms } => {
                self.reads += 1;
                let rows = self.log[self.purged..].iter().filter(|message| message.ts > since_ms);
                let messages = rows
                    .take(self.page)
                    .map(|message| v1::HistoryMessage {
                        from: message.path(),
                        ts_ms: message.ts,
                        payload: v1::Payload::Plain(&message.body),
                    })
                    .collect();
                alloc::vec![Frame::History { channel, messages }]
            }
            other => panic!("the link sent {}", other.kind()),
        };
        let replies: Vec<_> = replies.iter().map(Frame::to_bytes).collect();
        connection.replies.extend(replies);
    }

    /// The next reply goes onto the wire.
    pub(super) fn reply(&mut self) {
        self.deliver_late_ones();
        if let Some(connection) = &mut self.connection
            && let Some(reply) = connection.replies.pop_front()
        {
            connection.wire.push_back(reply);
        }
    }

    /// The link takes the next frame from the wire.
    pub(super) fn receive(&mut self) -> bool {
        let frame = self.connection.as_mut().and_then(|connection| connection.wire.pop_front());
        if let Some(frame) = &frame {
            self.input(Input::Message(Opaque(frame)));
        }
        frame.is_some()
    }

    pub(super) fn dialed(&mut self) {
        if self.dialing {
            self.dialing = false;
            self.connection = Some(Connection::default());
            self.input(Input::Dialed { server_id: Some("server") });
        }
    }

    pub(super) fn dial_failed(&mut self) {
        if self.dialing {
            self.dialing = false;
            self.input(Input::DialFailed("refused"));
        }
    }

    pub(super) fn drop_connection(&mut self) {
        if self.connection.take().is_some() {
            self.input(Input::Closed("reset"));
        }
    }

    pub(super) fn request(&mut self, body: &str) {
        self.asked += 1;
        let id = RequestId(self.asked as u64);
        let channel = ChannelName::new(CHANNEL).unwrap();
        let command = crate::protocol::Command::Post { channel, payload: Payload::Plain(body.into()) };
        self.input(Input::Request { id, command, deadline: None });
    }

    pub(super) fn pass(&mut self, millis: u64) {
        self.now.mono.0 += millis;
        self.now.wall.0 += millis as i64;
        self.deliver_late_ones();
        self.input(Input::Tick);
    }

    /// Everything that can happen without time passing, happens.
    pub(super) fn settle(&mut self) {
        for _ in 0..100_000 {
            self.dialed();
            self.serve();
            self.reply();
            if !self.receive() && self.idle() {
                return;
            }
        }
        panic!("the link never rests");
    }

    fn idle(&self) -> bool {
        !self.dialing
            && self.connection.as_ref().is_none_or(|connection| {
                connection.requests.is_empty() && connection.replies.is_empty() && connection.wire.is_empty()
            })
    }

    /// All is well for so long.
    pub(super) fn calm(&mut self, millis: u64) {
        let end = self.now.mono.0 + millis;
        loop {
            while self.delivered < self.log.len() {
                self.deliver();
            }
            self.settle();
            let next = self.link.next_deadline().map_or(end, |deadline| deadline.0.min(end));
            if self.now.mono.0 >= end {
                return;
            }
            let step = next.saturating_sub(self.now.mono.0).max(1);
            self.pass(step);
        }
    }

    /// Removes what is older; only what the link has handed on and anchored, for the rest would be lost by definition.
    pub(super) fn purge(&mut self, age: u64) {
        while self.log.get(self.purged).is_some_and(|message| message.at + age < self.now.mono.0) {
            self.purged += 1;
        }
    }

    /// What was posted by others, in order.
    pub(super) fn of_others(&self, from: usize) -> Vec<Handed> {
        self.log[from..]
            .iter()
            .filter(|message| message.user != OWN.user)
            .map(|message| Handed {
                user: message.user.clone(),
                body: message.body.clone(),
                ts: Some(message.ts),
            })
            .collect()
    }
}

pub(super) fn name(number: usize) -> String {
    format!("user{number}")
}
