//! A link, whatever a server sends and whenever connections come and go: nothing is answered twice or left
//! unanswered, nothing is handed on of a channel that was not followed, and what it sends are a client's frames.

#![no_main]

use std::collections::BTreeSet;

use conclave_core::key::SecretKey;
use conclave_core::link::{Action, Config, Input, JoinFrom, Link, RequestId};
use conclave_core::name::{ChannelName, Handle, SessionPath};
use conclave_core::opaque::Opaque;
use conclave_core::payload::Payload;
use conclave_core::protocol::Command;
use conclave_core::time::{Monotonic, Now, UnixMillis};
use conclave_core::wire::v1::{self, Frame, HistoryMessage};
use libfuzzer_sys::fuzz_target;

mod parts;

const NAMES: [&str; 3] = ["x", "y", "z"];

#[derive(Default)]
struct World {
    now: Now,
    asked: BTreeSet<u64>,
    answered: BTreeSet<u64>,
    followed: BTreeSet<ChannelName>,
    ended: bool,
}

impl World {
    fn step(&mut self, link: &mut Link, input: Input<'_>) {
        let mut actions = Vec::new();
        link.handle(self.now, input, &mut actions);
        for action in actions {
            // A late connection is hung up, a late request refused, and being disabled is said whenever it is asked.
            let late = matches!(action, Action::Replied { .. } | Action::Hangup | Action::Disabled(_));
            assert!(!self.ended || late, "it has ended: {action:?}");
            match action {
                Action::Send(message) => assert!(Frame::decode_from_client(&message).is_ok()),
                Action::Replied { id, .. } => {
                    assert!(self.asked.contains(&id.0), "nobody asked");
                    assert!(self.answered.insert(id.0), "answered twice");
                }
                Action::Deliver { channel, .. } => {
                    assert!(self.followed.contains(&channel.unwrap()), "not followed")
                }
                Action::Disabled(_) => self.ended = true,
                _ => {}
            }
        }
        let _ = link.next_deadline();
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = input;
    let mut world = World::default();
    let mut link = Link::new(Config {
        handle: Handle::new("s").unwrap(),
        defaulted: input.len() % 2 == 0,
        key: SecretKey::from_seed(&[1; 32]),
        seed: [2; 32],
        newest: None,
    });
    world.step(&mut link, Input::Start);
    let mut steps = 0;
    while let Some((kind, content)) = parts::next(&mut input) {
        steps += 1;
        if steps > 300 {
            break;
        }
        let nth = usize::from(kind / 32);
        let name = NAMES[nth % 3];
        let channel = ChannelName::new(name).unwrap();
        let text = std::str::from_utf8(content).unwrap_or("text");
        let path = v1::Path { user: "u", machine: "m", session: "s" };
        let payload = v1::Payload::Plain(text);
        let ts_ms =
            content.iter().fold(0, |stamp: i64, byte| stamp.wrapping_mul(3).wrapping_add(i64::from(*byte)));
        // What a good server sends, in any order, beside what nobody should.
        let frame = match kind % 32 {
            0 => Some(Frame::Challenge { nonce: &[7; 32] }),
            1 => Some(Frame::Established { path }),
            2 => Some(Frame::ServerInfo { admin: nth % 2 == 0 }),
            3 | 4 => Some(Frame::ChannelMsg { channel: name, from: path, payload }),
            5 => Some(Frame::Whisper { from: path, target: path, payload }),
            6 | 7 => Some(Frame::Joined { channel: name }),
            8 => Some(Frame::Ack { detail: (nth % 2 == 0).then_some(name) }),
            9 => Some(Frame::Pong),
            10 => Some(Frame::Error(v1::ProtocolError::NotFound(text))),
            11 => Some(Frame::Error(v1::ProtocolError::Unauthorized(text))),
            12 | 13 => {
                let message =
                    |ts_ms: i64| HistoryMessage { from: path, ts_ms, payload: v1::Payload::Plain("h") };
                let messages = (0..nth as i64).map(|row| message(ts_ms.wrapping_add(row))).collect();
                Some(Frame::History { channel: name, messages })
            }
            _ => None,
        };
        if let Some(frame) = frame {
            world.step(&mut link, Input::Message(Opaque(&frame.to_bytes())));
            continue;
        }
        match kind % 32 {
            14 | 15 => world.step(&mut link, Input::Dialed { server_id: (nth % 2 == 0).then_some(text) }),
            16 => world.step(&mut link, Input::DialFailed(text)),
            17 => world.step(&mut link, Input::Closed(text)),
            18 | 19 => {
                let from = if nth % 2 == 0 { JoinFrom::Live } else { JoinFrom::Since(UnixMillis(ts_ms)) };
                world.followed.insert(channel.clone());
                world.step(&mut link, Input::Join { channel, token: None, from });
            }
            20 => world.step(&mut link, Input::Leave { channel }),
            21..=24 => {
                let id = world.asked.len() as u64;
                world.asked.insert(id);
                let command = match nth % 4 {
                    0 => Command::Who { channel: None },
                    1 => Command::Post { channel, payload: Payload::Plain(text.into()) },
                    2 => Command::ReadSince { channel, since: UnixMillis(ts_ms) },
                    _ => Command::Whisper {
                        target: SessionPath::new("u", "m", "t").unwrap(),
                        payload: Payload::Plain(text.into()),
                    },
                };
                let deadline = (kind % 2 == 0).then(|| Monotonic(world.now.mono.0 + 5_000));
                world.step(&mut link, Input::Request { id: RequestId(id), command, deadline });
            }
            25 => {
                world.now.mono.0 += u64::from(kind) * 100;
                world.step(&mut link, Input::Tick);
            }
            26 | 27 => {
                // To the next deadline, as a shell would wait.
                if let Some(at) = link.next_deadline() {
                    world.now.mono = world.now.mono.max(at);
                }
                world.step(&mut link, Input::Tick);
            }
            28 if nth == 7 => world.step(&mut link, Input::Disable(text)),
            _ => world.step(&mut link, Input::Message(Opaque(content))),
        }
    }
    world.step(&mut link, Input::Stop);
    assert_eq!(world.answered, world.asked, "every request is over at the end");
});
