use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec;
use core::convert::Infallible;
use core::time::Duration;

use proptest::prelude::*;
use rand_core::{TryCryptoRng, TryRng};

use super::*;
use crate::key::SecretKey;
use crate::opaque::Opaque;
use crate::protocol::{ChannelInfo, Code, InviteInfo, MachineInfo, Stamped, Visibility};

const NONCE: [u8; 32] = [5; 32];
const NOBODY: v1::Path<'_> = v1::Path { user: "", machine: "", session: "" };

/// Counts: the edge needs bytes, the tests need to know them.
#[derive(Default)]
struct Counter(u8);

impl TryRng for Counter {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.try_next_u64()? as u32)
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 += 1;
        Ok(u64::from(self.0))
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0 += 1;
        bytes.fill(self.0);
        Ok(())
    }
}
impl TryCryptoRng for Counter {}

/// An edge with what it has sent, as the kinds and texts of its frames.
struct Peer {
    edge: Edge,
    generator: Counter,
    out: Vec<u8>,
}

impl Peer {
    fn new() -> Self {
        Self { edge: Edge::new(NONCE), generator: Counter::default(), out: Vec::new() }
    }

    fn open() -> Self {
        let mut peer = Self::new();
        let secret = SecretKey::from_seed(&[1; 32]);
        let public = secret.public();
        assert_eq!(peer.send(&Frame::Hello { protocol_version: 1, session: "s" }), Ok(None));
        let auth = Frame::Auth { pubkey: public.as_bytes(), signature: &secret.sign(&NONCE) };
        assert!(matches!(peer.send(&auth), Ok(Some(Submit::Open(_)))));
        assert!(!peer.edge.wants_message(), "nothing is read before the hub has spoken");
        peer.edge.established(&SessionPath::new("u", "m", "s").unwrap(), false, &mut peer.out);
        assert_eq!(peer.sent(), ["Challenge", "Established", "ServerInfo"]);
        peer
    }

    fn send(&mut self, frame: &Frame<'_>) -> Result<Option<Submit>, CloseReason> {
        self.edge.on_message(&frame.to_bytes(), &mut self.generator, &mut self.out)
    }

    /// Sends what leads to a request; gives its number.
    fn request(&mut self, frame: &Frame<'_>) -> RequestId {
        match self.send(frame) {
            Ok(Some(Submit::Request { request, .. })) => request,
            other => panic!("{other:?}"),
        }
    }

    /// Sends what cannot be asked; gives the number under which the hub is shown that the session lives.
    fn cannot_ask(&mut self, frame: &Frame<'_>) -> RequestId {
        match self.send(frame) {
            Ok(Some(Submit::Request { request, command: Command::Ping, token: None })) => request,
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, request: RequestId, reply: Reply) -> Option<Submit> {
        self.edge.on_reply(request, reply, &mut self.generator, &mut self.out)
    }

    /// What was sent since the last call.
    fn sent(&mut self) -> Vec<String> {
        let out = core::mem::take(&mut self.out);
        let mut rest = &out[..];
        let mut sent = Vec::new();
        while let Some(content) = websocket::content(rest) {
            sent.push(match Frame::decode(&rest[content.clone()]).unwrap() {
                Frame::Ack { detail } => format!("Ack {detail:?}"),
                Frame::Joined { channel } => format!("Joined {channel}"),
                Frame::Error(error) => format!("{error:?}"),
                frame => frame.kind().into(),
            });
            rest = &rest[content.end..];
        }
        assert!(rest.is_empty());
        sent
    }
}

fn post(text: &str) -> Frame<'_> {
    Frame::ChannelMsg { channel: "c", from: NOBODY, payload: v1::Payload::Plain(text) }
}

fn refused() -> Reply {
    Reply::Refused(Refusal::NoUser(UserName::new("gone").unwrap()))
}

#[test]
fn posts_answered_out_of_order_are_told_in_order() {
    let mut peer = Peer::open();
    let requests: Vec<RequestId> = (0..3).map(|_| peer.request(&post("x"))).collect();
    peer.answer(requests[2], refused());
    peer.answer(requests[1], Reply::Sent);
    assert!(peer.sent().is_empty());
    peer.answer(requests[0], Reply::Sent);
    assert_eq!(peer.sent(), ["Ack None", "Ack None", "NotFound(\"no user 'gone'\")"]);
}

#[test]
fn another_request_waits_until_all_posts_before_it_are_answered_and_nothing_is_read_meanwhile() {
    let mut peer = Peer::open();
    let (first, second) = (peer.request(&post("x")), peer.request(&post("y")));
    assert_eq!(peer.send(&Frame::Ping), Ok(None));
    assert!(!peer.edge.wants_message());
    assert_eq!(peer.answer(second, Reply::Sent), None);
    let Some(Submit::Request { request, command, .. }) = peer.answer(first, Reply::Sent) else { panic!() };
    assert_eq!(command, Command::Ping);
    assert!(!peer.edge.wants_message(), "nothing overtakes it");
    peer.answer(request, Reply::Pong);
    assert_eq!(peer.sent(), ["Ack None", "Ack None", "Pong"]);
    assert!(peer.edge.wants_message());
}

#[test]
fn what_is_no_name_is_malformed_in_its_turn_and_the_session_lives_on() {
    let mut peer = Peer::open();
    let first = peer.request(&post("x"));
    for name in ["", "a/b", " a", "a\u{202e}b", &"x".repeat(129)] {
        for frame in
            [Frame::Join { channel: name, token: None }, Frame::Admin(AdminOp::UserRemove { username: name })]
        {
            let shown = peer.cannot_ask(&frame);
            assert_eq!(peer.answer(shown, Reply::Pong), None);
        }
    }
    assert!(peer.sent().is_empty());
    peer.answer(first, Reply::Sent);
    let sent = peer.sent();
    assert_eq!(sent.len(), 11);
    assert!(sent[1..].iter().all(|line| line.starts_with("MalformedFrame")), "{sent:?}");
    assert!(peer.edge.wants_message());
}

#[test]
fn what_cannot_be_asked_is_under_way_until_the_hub_has_heard_of_it() {
    let mut peer = Peer::open();
    let mut shown = vec![];
    while peer.edge.wants_message() {
        shown.push(peer.cannot_ask(&Frame::Leave { channel: "" }));
    }
    assert_eq!(shown.len(), MAX_UNDER_WAY);
    assert!(peer.sent().is_empty(), "who floods is read no faster than the hub hears it");
    // Whatever the hub says to it.
    peer.answer(shown[0], refused());
    peer.answer(shown[1], Reply::Pong);
    let sent = peer.sent();
    assert!(sent.len() == 2 && sent.iter().all(|line| line.starts_with("MalformedFrame")), "{sent:?}");
    assert!(peer.edge.wants_message());
}

#[test]
fn requests_under_way_are_bounded_in_number_and_bytes() {
    let mut peer = Peer::open();
    let mut requests = vec![];
    while peer.edge.wants_message() {
        requests.push(peer.request(&post("x")));
    }
    assert_eq!(requests.len(), MAX_UNDER_WAY);
    peer.answer(requests[0], Reply::Sent);
    assert!(peer.edge.wants_message());

    let mut peer = Peer::open();
    let half = "x".repeat(MAX_BYTES_UNDER_WAY / 2);
    let first = peer.request(&post(&half));
    assert!(peer.edge.wants_message());
    peer.request(&post(&half));
    assert!(!peer.edge.wants_message());
    peer.answer(first, Reply::Sent);
    assert!(peer.edge.wants_message());
}

#[test]
fn a_message_that_is_no_frame_or_not_a_clients_ends_the_connection() {
    let server_frames = [
        Frame::Pong,
        Frame::Ack { detail: None },
        Frame::Challenge { nonce: &NONCE },
        Frame::ServerInfo { admin: true },
        Frame::Joined { channel: "c" },
        Frame::UserList { users: vec!["a"] },
        Frame::Presence { channel: None, sessions: vec![NOBODY] },
        Frame::Hello { protocol_version: 1, session: "s" },
        Frame::Auth { pubkey: &[], signature: &[] },
    ];
    for frame in server_frames {
        assert!(matches!(Peer::open().send(&frame), Err(CloseReason::Malformed(_))), "{frame:?}");
    }
    let mut peer = Peer::open();
    let ended = peer.edge.on_message(&[99], &mut Counter::default(), &mut Vec::new());
    assert!(matches!(ended, Err(CloseReason::Malformed(_))));
    assert!(!peer.edge.wants_message());
    assert_eq!(peer.send(&Frame::Ping), Ok(None), "what follows is not looked at");
}

#[test]
fn before_authentication_a_message_has_at_most_four_kibibytes() {
    let text = "x".repeat(MAX_HANDSHAKE_FRAME);
    let mut peer = Peer::new();
    let ended = peer.send(&Frame::Hello { protocol_version: 1, session: &text });
    assert_eq!(ended, Err(CloseReason::Malformed("frame too large before authentication")));
    let mut peer = Peer::open();
    peer.request(&post(&text));
}

#[test]
fn a_server_frame_in_a_handshake_ends_it() {
    let sent = Peer::new().send(&Frame::UserList { users: vec!["a"; 1_000] });
    assert!(matches!(sent, Err(CloseReason::Malformed(_))));
}

#[test]
fn every_end_carries_its_reason_in_an_error_frame() {
    for (reason, kind) in [
        (CloseReason::Superseded, "Unauthorized(\"session superseded"),
        (CloseReason::KeyRevoked { own: false }, "Unauthorized(\"machine key revoked"),
        (CloseReason::UserRemoved { own: false }, "Unauthorized(\"user removed"),
        (CloseReason::Idle { limit: Duration::from_secs(90) }, "Unauthorized(\"idle timeout: nothing was"),
        (CloseReason::SlowConsumer, "Unauthorized(\"slow consumer"),
        (CloseReason::Shutdown, "Unauthorized(\"server shutting down"),
        (CloseReason::HandshakeTimeout, "Unauthorized(\"handshake timed out"),
        (
            CloseReason::Refused(Refusal::NotStored { why: "x".into() }),
            "Internal(\"the server could not store",
        ),
        (CloseReason::Version { theirs: 7 }, "VersionMismatch { ours: 1, theirs: 7 }"),
        (CloseReason::Malformed("x"), "MalformedFrame(\"x"),
    ] {
        let mut peer = Peer::open();
        peer.edge.farewell(&reason, &mut peer.out);
        let sent = peer.sent();
        assert!(sent.len() == 1 && sent[0].starts_with(kind), "{sent:?}");
        assert!(!peer.edge.wants_message());
    }
}

#[test]
fn each_reply_is_its_frame() {
    let name = |text: &str| ChannelName::new(text).unwrap();
    let path = SessionPath::new("u", "m", "s").unwrap();
    let key = SecretKey::from_seed(&[1; 32]).public();
    let stamped = Stamped::without_origin(path.clone(), UnixMillis(9), Payload::Plain("x".into()));
    let pubkey = key.to_string();
    let replies = [
        (Reply::Sent, Frame::Ack { detail: None }),
        (Reply::Joined(name("c")), Frame::Joined { channel: "c" }),
        (Reply::Done(Opaque("c".into())), Frame::Ack { detail: Some("c") }),
        (
            Reply::Presence { channel: Some(name("c")), sessions: vec![Arc::new(path.clone())] },
            Frame::Presence { channel: Some("c"), sessions: vec![(&path).into()] },
        ),
        (
            Reply::Channels(vec![ChannelInfo {
                name: name("c"),
                visibility: Visibility::Unlisted,
                member: true,
                sealed: false,
            }]),
            Frame::ChannelList {
                channels: vec![v1::ChannelInfo {
                    name: "c",
                    visibility: v1::Visibility::Unlisted,
                    member: true,
                }],
            },
        ),
        (
            Reply::Machines(vec![MachineInfo {
                name: MachineName::new("m").unwrap(),
                key,
                added: UnixMillis(1_700_000_000_123),
            }]),
            Frame::MachineList {
                machines: vec![v1::MachineInfo {
                    name: "m",
                    pubkey: &pubkey,
                    added_at: "2023-11-14T22:13:20.123Z",
                }],
            },
        ),
        (Reply::Users(vec![UserName::new("u").unwrap()]), Frame::UserList { users: vec!["u"] }),
        (
            Reply::Invites(vec![InviteInfo {
                token: Token::new("t"),
                uses: Some(3),
                expires: Some(UnixMillis(0)),
            }]),
            Frame::InviteList {
                invites: vec![v1::InviteInfo {
                    token: "t",
                    uses_remaining: Some(3),
                    expires_at: Some("1970-01-01T00:00:00Z"),
                }],
            },
        ),
        (Reply::Invite(Token::new("t")), Frame::InviteToken { token: "t" }),
        (
            Reply::History { channel: name("c"), messages: vec![stamped] },
            Frame::History {
                channel: "c",
                messages: vec![v1::HistoryMessage {
                    from: (&path).into(),
                    ts_ms: 9,
                    payload: v1::Payload::Plain("x"),
                }],
            },
        ),
        (Reply::Pong, Frame::Pong),
        (
            Reply::Refused(Refusal::Other { code: Code::PermissionDenied, text: "no".into() }),
            Frame::Error(ProtocolError::Unauthorized("no")),
        ),
    ];
    for (reply, frame) in replies {
        let (mut sent, mut expected) = (Vec::new(), Vec::new());
        send_reply(&mut sent, &reply);
        send(&mut expected, &frame);
        assert_eq!(sent, expected, "{frame:?}");
    }
}

#[test]
fn a_clients_claim_of_a_sender_is_ignored() {
    let mut peer = Peer::open();
    let from = v1::Path { user: "root", machine: "", session: "/" };
    let frame = Frame::ChannelMsg { channel: "c", from, payload: v1::Payload::Plain("x") };
    assert!(matches!(peer.send(&frame), Ok(Some(Submit::Request { command: Command::Post { .. }, .. }))));
    let target = v1::Path { user: "u", machine: "m", session: "s" };
    let frame = Frame::Whisper { from, target, payload: v1::Payload::Plain("x") };
    assert_eq!(peer.send(&frame), Ok(None), "it waits for the post");
    assert!(matches!(peer.edge.held, Some((Ok(Command::Whisper { .. }), _))));
}

#[test]
fn an_invites_token_is_24_bytes_of_the_generator_and_never_the_same() {
    let mut peer = Peer::open();
    let create = Frame::Admin(AdminOp::InviteCreate { channel: "c", uses: None, expires_in_secs: None });
    let mut tokens = vec![];
    for _ in 0..2 {
        let Ok(Some(Submit::Request { request, token: Some(token), .. })) = peer.send(&create) else {
            panic!()
        };
        assert_eq!(URL_SAFE_NO_PAD.decode(token.expose()).unwrap().len(), 24);
        peer.answer(request, Reply::Invite(token.clone()));
        tokens.push(token);
    }
    assert_ne!(tokens[0], tokens[1]);
    let Ok(Some(Submit::Request { token: None, .. })) = peer.send(&Frame::Ping) else { panic!() };
}

#[test]
fn a_key_that_is_none_or_weak_is_refused() {
    let mut identity = [0; 32];
    identity[0] = 1;
    for pubkey in [&[2; 31][..], &[0; 32], &identity] {
        let mut peer = Peer::open();
        let shown = peer.cannot_ask(&Frame::Admin(AdminOp::MachineAdd { name: "m", pubkey }));
        peer.answer(shown, Reply::Pong);
        assert!(peer.sent()[0].starts_with("MalformedFrame(\"a key is 32 bytes"));
    }
}

#[test]
fn a_list_that_would_not_fit_a_frame_is_cut() {
    let name = UserName::new(&"n".repeat(128)).unwrap();
    let mut out = Vec::new();
    send_reply(&mut out, &Reply::Users(vec![name; 140_000]));
    assert!(out.len() <= crate::wire::MAX_FRAME + 10);
    let Ok(Frame::UserList { users }) = Frame::decode(&out[10..]) else { panic!() };
    assert!(users.len() > 120_000);
}

#[test]
fn a_payload_whose_delivery_would_not_fit_a_frame_is_refused() {
    let room = crate::wire::MAX_FRAME - post("").to_bytes().len() - 8;
    let target = v1::Path { user: "u", machine: "m", session: "s" };
    let text = "x".repeat(room);
    let mut peer = Peer::open();
    let shown = peer.cannot_ask(&post(&text));
    peer.answer(shown, Reply::Pong);
    let payload = v1::Payload::Plain(&text[..room - 8]);
    let shown = peer.cannot_ask(&Frame::Whisper { from: NOBODY, target, payload });
    peer.answer(shown, Reply::Pong);
    let sent = peer.sent();
    assert!(sent.len() == 2 && sent.iter().all(|line| line.starts_with("MalformedFrame")), "{sent:?}");

    // What is not refused reaches everyone, by whatever path and channel, and fits a page of history.
    let most = &text[..MAX_PAYLOAD];
    let long = "n".repeat(128);
    let from = SessionPath::new(&long, &long, &long).unwrap();
    let payload = Payload::Plain(most.into());
    let mut out = Vec::new();
    encode_delivery(&ChannelName::new(&long).unwrap(), &from, &payload, &mut out);
    assert!(Frame::decode(&out[10..]).is_ok());
    out.clear();
    encode_whisper(&from, &from, &payload, &mut out);
    assert!(Frame::decode(&out[10..]).is_ok());
    out.clear();
    let messages = vec![Stamped::without_origin(from, UnixMillis::MAX, payload)];
    send_reply(&mut out, &Reply::History { channel: ChannelName::new(&long).unwrap(), messages });
    assert!(Frame::decode(&out[10..]).is_ok());
}

proptest! {
    /// Requests of all sorts, answered in any order, are told in theirs, each once.
    #[test]
    fn every_request_is_answered_once_and_in_order(
        steps in proptest::collection::vec((0..6u8, any::<prop::sample::Index>()), 0..200),
    ) {
        let mut peer = Peer::open();
        let mut expected = Vec::new();
        let mut told = Vec::new();
        let mut under_way: Vec<(RequestId, usize)> = Vec::new();
        let mut held = None;
        let name = |nth: usize| format!("c{nth}");
        for (kind, which) in steps {
            if kind < 3 && peer.edge.wants_message() {
                let nth = expected.len();
                let own = name(nth);
                let frame = match kind {
                    0 => post("x"),
                    1 => Frame::Leave { channel: &own },
                    _ => Frame::Join { channel: "", token: None },
                };
                match peer.send(&frame).unwrap() {
                    Some(Submit::Request { request, .. }) => under_way.push((request, nth)),
                    _ => held = Some(nth),
                }
                expected.push(match kind {
                    2 => String::from("MalformedFrame(\"a name cannot be empty\")"),
                    _ => format!("Ack {:?}", Some(own)),
                });
            } else if !under_way.is_empty() {
                let (request, nth) = under_way.swap_remove(which.index(under_way.len()));
                if let Some(Submit::Request { request, .. }) = peer.answer(request, Reply::Done(Opaque(name(nth)))) {
                    under_way.push((request, held.take().unwrap()));
                }
            }
            told.extend(peer.sent());
            prop_assert!(told.len() <= expected.len() && told[..] == expected[..told.len()]);
            prop_assert_eq!(told.len() == expected.len(), under_way.is_empty());
            prop_assert_eq!(peer.edge.slots.is_empty(), peer.edge.bytes_under_way == 0);
        }
    }
}
