//! A pump over a socket that is two buffers, with an engine that only listens.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};

use super::*;
use crate::hub::{RequestId, SessionInfo};
use crate::key::SecretKey;
use crate::mailbox::Queue;
use crate::name::SessionPath;
use crate::payload::Payload;
use crate::protocol::Reply;
use crate::record::{MachineId, UserId};
use crate::time::UnixMillis;
use crate::wire::v1::{self, Frame};
use crate::wire::websocket;

struct Zeros;

impl TryRng for Zeros {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(0)
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(0)
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill(0);
        Ok(())
    }
}

impl TryCryptoRng for Zeros {}

/// The WebSocket's own goodbye.
const GOODBYE: [u8; 2] = [0x88, 0];

struct Bench {
    mailbox: Queue,
    /// Bytes that the socket takes.
    window: usize,
    written: Vec<u8>,
    arrived: VecDeque<Vec<u8>>,
    /// The peer has ended its half.
    ended: bool,
    broken: bool,
    shut_down: bool,
    submitted: Vec<Input>,
    opened: usize,
    left: usize,
    established: bool,
}

impl Carrier for Bench {
    type Error = ();

    fn generator(&mut self) -> impl CryptoRng {
        Zeros
    }
    fn take_items(&mut self, room: bool, into: &mut Vec<Item>) -> bool {
        self.mailbox.take(room, into)
    }
    fn write(&mut self, queue: &mut WriteQueue) -> Result<bool, ()> {
        let before = self.window;
        let mut bytes = Vec::new();
        for piece in queue.pieces() {
            let part = &piece[..piece.len().min(self.window)];
            bytes.extend_from_slice(part);
            self.window -= part.len();
        }
        queue.advance(bytes.len());
        self.written.append(&mut bytes);
        Ok(self.window < before)
    }
    fn read(&mut self, pump: &mut Pump) -> Result<bool, ()> {
        if self.broken {
            return Err(());
        }
        let Some(message) = self.arrived.pop_front() else {
            return if self.ended { Err(()) } else { Ok(false) };
        };
        pump.message(Kind::Binary, &message, self);
        pump.settle();
        Ok(true)
    }
    fn shut_down(&mut self) -> Result<bool, ()> {
        self.shut_down = true;
        Ok(true)
    }
    fn discard(&mut self) -> Result<Option<usize>, ()> {
        Ok(match self.arrived.pop_front() {
            Some(message) => Some(message.len()),
            None if self.ended => Some(0),
            None => None,
        })
    }
    fn open(&mut self, _: Proven) -> Result<ConnId, CloseReason> {
        self.opened += 1;
        Ok(ConnId(7))
    }
    fn submit(&mut self, input: Input) {
        self.submitted.push(input);
    }
    fn leave(&mut self, conn: ConnId) {
        assert_eq!(conn, ConnId(7));
        self.left += 1;
    }
    fn established(&mut self) {
        self.established = true;
    }
    fn ending(&mut self, _: &CloseReason, _: bool) {}
    fn goodbye(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&GOODBYE);
    }
}

const ROOM: usize = 64;

fn session_info(path: Arc<SessionPath>) -> SessionInfo {
    let (user, machine) = (UserId(0), MachineId(0));
    SessionInfo { path, user, machine, reader: None, admin: false, now: UnixMillis(0) }
}

fn connection() -> (Pump, Bench) {
    let bench = Bench {
        mailbox: Queue::new(1 << 20),
        window: usize::MAX,
        written: Vec::new(),
        arrived: VecDeque::new(),
        ended: false,
        broken: false,
        shut_down: false,
        submitted: Vec::new(),
        opened: 0,
        left: 0,
        established: false,
    };
    (Pump::new(Edge::V1(v1::edge::Edge::new([3; 32])), ROOM), bench)
}

/// A connection that has proven itself and waits for the engine.
fn opened() -> (Pump, Bench) {
    let (mut pump, mut bench) = connection();
    let secret = SecretKey::from_seed(&[1; 32]);
    let (public, signature) = (secret.public(), secret.sign(&[3; 32]));
    bench.arrived.push_back(Frame::Hello { protocol_version: 1, session: "s" }.to_bytes());
    bench.arrived.push_back(Frame::Auth { pubkey: public.as_bytes(), signature: &signature }.to_bytes());
    assert_eq!(pump.run(&mut bench), Progress::Waiting);
    assert_eq!(bench.opened, 1);
    bench.written.clear();
    (pump, bench)
}

fn session() -> (Pump, Bench) {
    let (mut pump, mut bench) = opened();
    let path = Arc::new(SessionPath::new("u", "m", "s").unwrap());
    bench.mailbox.push(Item::Established(session_info(path)));
    assert_eq!(pump.run(&mut bench), Progress::Established);
    assert!(bench.written.is_empty(), "the place among the handshakes is released first");
    assert_eq!(pump.run(&mut bench), Progress::Waiting);
    assert!(bench.established && !bench.written.is_empty());
    bench.written.clear();
    (pump, bench)
}

fn post() -> Vec<u8> {
    let from = crate::wire::v1::Path { user: "", machine: "", session: "" };
    let payload = crate::wire::v1::Payload::Plain("hello");
    Frame::ChannelMsg { channel: "ops", from, payload }.to_bytes()
}

/// The contents of whole messages, and whether the goodbye is the last.
fn messages(mut bytes: &[u8]) -> (usize, bool) {
    let mut count = 0;
    while !bytes.is_empty() {
        if bytes == GOODBYE {
            return (count, true);
        }
        let content = websocket::content(bytes).unwrap();
        count += 1;
        bytes = &bytes[content.end..];
    }
    (count, false)
}

#[test]
fn after_the_last_word_nothing_is_taken_submitted_or_said() {
    let (mut pump, mut bench) = session();
    bench.arrived.extend([b"no frame".to_vec(), post()]);
    assert_eq!(pump.run(&mut bench), Progress::Parting);
    let path = Arc::new(SessionPath::new("u", "m", "s").unwrap());
    let payload = Payload::Plain(String::from("late"));
    bench.mailbox.push(Item::Whisper { from: path.clone(), target: path, payload });
    bench.ended = true;
    while pump.run(&mut bench) != Progress::Ended {}
    assert_eq!(messages(&bench.written), (1, true));
    assert!(bench.submitted.is_empty() && bench.shut_down && bench.arrived.is_empty());
    assert_eq!(bench.left, 1);
}

#[test]
fn the_end_is_taken_though_the_peer_does_not_read() {
    let (mut pump, mut bench) = session();
    bench.window = 0;
    let burst = |pump: &mut Pump| pump.answers().resize(ROOM, 0x81);
    burst(&mut pump);
    pump.settle();
    bench.mailbox.push(Item::Reply { request: RequestId(0), reply: Reply::Pong });
    assert_eq!(pump.run(&mut bench), Progress::Waiting, "without room, items stay where they are");
    assert!(bench.mailbox.bytes() > 0);
    bench.mailbox.push(Item::Close(CloseReason::SlowConsumer));
    assert_eq!(pump.run(&mut bench), Progress::Parting);
    bench.window = usize::MAX;
    assert_eq!(pump.run(&mut bench), Progress::Parting, "the last word is sent");
    assert_eq!(messages(&bench.written), (1, true), "and nothing of what it did not read");
}

#[test]
fn a_peer_that_does_not_read_is_not_read_either() {
    let (mut pump, mut bench) = session();
    bench.window = 0;
    pump.answers().resize(ROOM, 0);
    pump.settle();
    bench.arrived.push_back(post());
    assert_eq!(pump.run(&mut bench), Progress::Waiting);
    assert_eq!(bench.arrived.len(), 1);
    bench.window = usize::MAX;
    assert_eq!(pump.run(&mut bench), Progress::Waiting);
    assert_eq!(bench.submitted.len(), 1);
}

#[test]
fn a_handshake_that_takes_too_long_is_ended_and_no_session() {
    for (mut pump, mut bench) in [connection(), opened()] {
        pump.time_out();
        let path = Arc::new(SessionPath::new("u", "m", "s").unwrap());
        bench.mailbox.push(Item::Established(session_info(path)));
        assert_eq!(pump.run(&mut bench), Progress::Parting);
        assert!(!bench.established);
        assert_eq!(bench.left, bench.opened);
    }
}

#[test]
fn a_socket_that_fails_ends_the_connection_and_the_engine_hears_of_it_once() {
    let (mut pump, mut bench) = session();
    bench.broken = true;
    assert_eq!(pump.run(&mut bench), Progress::Ended);
    pump.give_up(&mut bench);
    assert_eq!(bench.left, 1);
    assert!(bench.written.is_empty());
}

#[test]
fn a_peer_that_goes_on_sending_after_the_last_word_is_not_listened_to_for_ever() {
    let (mut pump, mut bench) = session();
    pump.peer_closed(&mut bench);
    bench.arrived = (0..LINGER / (1 << 16) + 2).map(|_| alloc::vec![0; 1 << 16]).collect();
    while pump.run(&mut bench) != Progress::Ended {}
    assert_eq!(bench.arrived.len(), 1);
    assert_eq!(messages(&bench.written), (0, true));
}

#[test]
fn a_busy_connection_gives_others_their_turn() {
    let (mut pump, mut bench) = session();
    bench.arrived = (0..TURN + 1).map(|_| Frame::Ping.to_bytes()).collect();
    let mut runs = 0;
    // A ping is passed on, and the next waits for its answer.
    while !bench.arrived.is_empty() {
        runs += 1;
        if let Some(Input::Request { request, .. }) = bench.submitted.pop() {
            bench.mailbox.push(Item::Reply { request, reply: Reply::Pong });
        }
        assert!(matches!(pump.run(&mut bench), Progress::Waiting | Progress::Again));
        assert!(runs <= 2 * TURN, "{}", String::from("it makes no progress"));
    }
}
