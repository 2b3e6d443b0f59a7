//! A session's messages, answered in any order: each is answered once, in order, and nothing grows.

#![no_main]

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};

use conclave_core::hub::{RequestId, SessionInfo};
use conclave_core::key::SecretKey;
use conclave_core::name::SessionPath;
use conclave_core::opaque::Opaque;
use conclave_core::protocol::{Refusal, Reply};
use conclave_core::record::{MachineId, UserId};
use conclave_core::time::UnixMillis;
use conclave_core::wire::edge::{Edge, Submit};
use conclave_core::wire::v1::{self, Frame, Path, Payload};
use libfuzzer_sys::fuzz_target;

mod parts;

const NONCE: [u8; 32] = [9; 32];
const NOBODY: Path<'_> = Path { user: "", machine: "", session: "" };

/// The edge of a session.
static OPEN: LazyLock<Edge> = LazyLock::new(|| {
    let (mut edge, mut generator, mut out) =
        (Edge::V1(v1::edge::Edge::new(NONCE)), parts::Counter::default(), Vec::new());
    let secret = SecretKey::from_seed(&[1; 32]);
    let public = secret.public();
    let auth = Frame::Auth { pubkey: public.as_bytes(), signature: &secret.sign(&NONCE) };
    for frame in [Frame::Hello { protocol_version: 1, session: "s" }, auth] {
        edge.on_message(&frame.to_bytes(), &mut generator, &mut out).expect("a sound handshake");
    }
    let path = Arc::new(SessionPath::new("u", "m", "s").unwrap());
    let (user, machine) = (UserId(0), MachineId(0));
    let session = SessionInfo { path, user, machine, reader: None, admin: false, now: UnixMillis(0) };
    edge.established(&session, &mut out);
    edge
});

fuzz_target!(|input: &[u8]| {
    let mut input = input;
    let mut generator = parts::Counter::default();
    let (mut edge, mut out) = (OPEN.clone(), Vec::new());

    // What the hub was asked and has not answered; how many messages were taken, how many replies were sent.
    let mut asked: VecDeque<RequestId> = VecDeque::new();
    let (mut taken, mut replied) = (0, 0);
    while let Some((kind, content)) = parts::next(&mut input) {
        out.clear();
        let submit = if kind % 4 == 0 && !asked.is_empty() {
            let request = asked.remove(usize::from(kind / 4) % asked.len()).unwrap();
            let reply = match content.len() % 3 {
                0 => Reply::Sent,
                1 => Reply::Done(Opaque("x".into())),
                _ => Reply::Refused(Refusal::NotServerAdmin),
            };
            edge.on_reply(request, reply, &mut generator, &mut out)
        } else if edge.wants_message() {
            let text = std::str::from_utf8(content).unwrap_or("text");
            let message = match kind % 4 {
                1 => {
                    Frame::ChannelMsg { channel: "c", from: NOBODY, payload: Payload::Plain(text) }.to_bytes()
                }
                2 => Frame::Join { channel: text, token: None }.to_bytes(),
                _ => content.to_vec(),
            };
            taken += 1;
            match edge.on_message(&message, &mut generator, &mut out) {
                Ok(submit) => submit,
                Err(reason) => {
                    edge.farewell(&reason, &mut out);
                    parts::frames(&out, |frame| assert!(matches!(frame, Frame::Error(_))));
                    return;
                }
            }
        } else {
            None
        };
        match submit {
            Some(Submit::Request { request, .. }) => asked.push_back(request),
            Some(Submit::Open(_)) => panic!("opened twice"),
            None => {}
        }
        parts::frames(&out, |_| replied += 1);
        assert!(asked.len() <= 256);
        assert!(replied <= taken, "{replied} replies to {taken} requests");
        assert_eq!(replied == taken, asked.is_empty(), "nothing waits for nobody");
    }
});
