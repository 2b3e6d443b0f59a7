//! A session of version 2, in either encoding: whatever it sends, each request is answered once, by its number, the
//! window is kept, and nothing sets more aside than came. What the server sends, a client reads; what it sends itself is
//! read alike by two programs: prost, and the translation of JSON. The first byte chooses the encoding.

#![no_main]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use conclave_core::hub::{RequestId, SessionInfo};
use conclave_core::key::SecretKey;
use conclave_core::name::SessionPath;
use conclave_core::payload::Payload;
use conclave_core::protocol::{Command, Refusal, Reply, Stamped};
use conclave_core::record::{ChannelId, MachineId, Stamp, UserId};
use conclave_core::stream::{Notice, Origin, StreamCommand, StreamReply};
use conclave_core::time::UnixMillis;
use conclave_core::wire::edge::{Edge, Submit};
use conclave_core::wire::v2::edge::Edge as EdgeV2;
use conclave_core::wire::v2::encoding::Encoding;
use conclave_core::wire::v2::handshake::{ClientHandshake, Identity, ServerIdentity};
use conclave_core::wire::v2::schema::server_frame;
use conclave_core::wire::websocket;
use libfuzzer_sys::fuzz_target;

mod meter;
mod parts;

/// Edges of open sessions.
static OPEN: LazyLock<[Edge; 2]> = LazyLock::new(|| [open(Encoding::Protobuf), open(Encoding::Json)]);

fn open(encoding: Encoding) -> Edge {
    let server = Arc::new(ServerIdentity {
        key: SecretKey::from_seed(&[9; 32]),
        name: "fuzzed",
        frame_bytes: 1 << 20,
        posts_per_second: 0,
        post_bytes_per_second: 0,
        retention_ms: 0,
    });
    let mut edge = Edge::V2(EdgeV2::new(server, encoding, [8; 32]));
    let (mut generator, mut out) = (parts::Counter::default(), Vec::new());
    let (client, hello) = ClientHandshake::new(encoding, "fuzzer", [3; 32]);
    edge.on_message(&hello, &mut generator, &mut out).expect("a hello");
    let sent = contents(&out);
    let client = client.on_frame(sent[0]).expect("a challenge").expect_err("a proof is to come");
    let client = client.on_frame(sent[1]).expect("a proof").expect("proven");
    let secret = SecretKey::from_seed(&[7; 32]);
    let handle = conclave_core::name::Handle::new("s").expect("a handle");
    let to_sign = client.identify(Identity { key: secret.public(), handle, claim: None, keep: true });
    let signature = secret.sign(to_sign.to_sign());
    for frame in to_sign.signed(signature).1 {
        edge.on_message(&frame, &mut generator, &mut Vec::new()).expect("who it is");
    }
    let path = Arc::new(SessionPath::new("u", "m", "s").expect("a path"));
    let (user, machine, now) = (UserId(0), MachineId(0), UnixMillis(0));
    let session = SessionInfo { path, user, machine, reader: None, admin: false, now };
    edge.established(&session, &mut Vec::new());
    edge
}

/// The contents of whole WebSocket messages.
fn contents(out: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut all) = (out, Vec::new());
    while !rest.is_empty() {
        let content = websocket::content(rest).expect("a whole head");
        all.push(&rest[content.clone()]);
        rest = &rest[content.end..];
    }
    all
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, mut input)) = input.split_first() else { return };
    let nth = usize::from(choice % 2);
    let encoding = [Encoding::Protobuf, Encoding::Json][nth];
    let (mut edge, mut generator) = (OPEN[nth].clone(), parts::Counter::default());
    // What is asked and not answered: the text that a post carries is relayed.
    let mut asked: BTreeMap<RequestId, Command> = BTreeMap::new();
    while let Some((kind, content)) = parts::next(&mut input) {
        let mut out = Vec::new();
        if kind % 4 == 0 && !asked.is_empty() {
            let request = *asked.keys().nth(usize::from(kind / 4) % asked.len()).expect("one of them");
            let command = asked.remove(&request).expect("it is there");
            let reply = reply(kind, command);
            assert!(edge.on_reply(request, reply, &mut generator, &mut out).is_none());
            let sent = contents(&out);
            let [frame] = sent[..] else { panic!("{} frames answer one request", sent.len()) };
            match encoding.decode_server(frame).expect("a frame").kind {
                Some(server_frame::Kind::Reply(reply)) => assert_eq!(reply.id, request.0),
                _ => panic!("another frame than a reply"),
            }
            // It is answered no second time.
            out.clear();
            edge.on_reply(request, Reply::Sent, &mut generator, &mut out);
            assert!(out.is_empty());
        } else if edge.wants_message() {
            same_in_both(encoding, content);
            let handled =
                meter::bounded(content.len(), || edge.on_message(content, &mut generator, &mut out));
            match handled {
                Ok(Some(Submit::Request { request, command, .. })) => {
                    assert!(
                        asked.insert(request, command).is_none(),
                        "two unanswered requests of one number"
                    );
                }
                Ok(other) => panic!("{other:?} of a session"),
                Err(reason) => {
                    edge.farewell(&reason, &mut out);
                    let goodbye = encoding.decode_server(contents(&out)[0]).expect("a frame").kind;
                    assert!(matches!(goodbye, Some(server_frame::Kind::Goodbye(_))));
                    return assert!(!edge.wants_message());
                }
            }
            assert!(asked.len() <= 256);
        }
    }
});

/// An answer of one kind or another; what was posted comes back.
fn reply(kind: u8, command: Command) -> Reply {
    let Command::Stream(StreamCommand::Post { payload, signed, .. }) = command else {
        return match kind / 4 % 3 {
            0 => Reply::Stream(StreamReply::Done),
            1 => Reply::Pong,
            _ => Reply::Refused(Refusal::NoStream),
        };
    };
    delivered(&payload);
    let stamp = Stamp { seq: 1, ts: UnixMillis(1) };
    if kind / 4 % 2 == 0 {
        return Reply::Stream(StreamReply::Stored { stream: ChannelId(0), stamp, present: false });
    }
    let from = SessionPath::new("u", "m", "s").expect("a path");
    let origin = Origin { sender: Some((UserId(0), MachineId(0))), signed: Some(signed), expires: None };
    let message = Stamped { from, ts: stamp.ts, payload, seq: stamp.seq, origin };
    Reply::Stream(StreamReply::Page { stream: ChannelId(0), messages: vec![message], more: false })
}

/// A body that was taken is delivered in either encoding, and says the same in both.
fn delivered(payload: &Payload) {
    let bodies = [Encoding::Protobuf, Encoding::Json].map(|encoding| {
        let mut out = Vec::new();
        let from = SessionPath::new("u", "m", "s").expect("a path");
        let message =
            Stamped { from, ts: UnixMillis(1), payload: payload.clone(), seq: 1, origin: Origin::default() };
        let nth = usize::from(encoding == Encoding::Json);
        OPEN[nth].notify(Notice::Deliveries { stream: ChannelId(0), messages: vec![message] }, &mut out);
        let kind = encoding.decode_server(contents(&out)[0]).expect("a frame").kind;
        let Some(server_frame::Kind::Deliveries(deliveries)) = kind else { panic!("no deliveries") };
        deliveries.messages[0].body.clone()
    });
    let says = bodies.map(|body| {
        Payload::Body(body).view().ok().map(|view| {
            format!(
                "{:?}",
                match view {
                    conclave_core::body::View::Text(text) => (text.as_bytes().to_vec(), None),
                    conclave_core::body::View::Sealed { ciphertext, key_id, .. } =>
                        (ciphertext.to_vec(), Some(key_id.map(String::from))),
                    conclave_core::body::View::Commit { commit, .. } => (commit.to_vec(), None),
                }
            )
        })
    });
    assert_eq!(says[0], says[1]);
    assert!(says[0].is_some(), "what was taken is a body");
}

/// Any frame that is read as a client's or a server's is the same frame after the other encoding.
fn same_in_both(encoding: Encoding, bytes: &[u8]) {
    let other = if encoding == Encoding::Json { Encoding::Protobuf } else { Encoding::Json };
    if let Ok(frame) = encoding.decode_client(bytes)
        && let Some(kind) = frame.kind.clone()
    {
        let first = other.encode_client(kind);
        let again = other.decode_client(&first).expect("what was written is read");
        let Some(kind) = again.kind else { panic!("a kind was lost") };
        assert_eq!(other.encode_client(kind), first);
    }
    if let Ok(frame) = encoding.decode_server(bytes)
        && let Some(kind) = frame.kind
    {
        let first = other.encode_server(kind);
        let again = other.decode_server(&first).expect("what was written is read");
        let Some(kind) = again.kind else { panic!("a kind was lost") };
        assert_eq!(other.encode_server(kind), first);
    }
}
