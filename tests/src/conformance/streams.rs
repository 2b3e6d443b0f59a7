//! Version 2: streams with positions, posts with ids and signatures, receipts; and version 1 beside it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use conclave_core::wire::v1::{Frame, Visibility};
use conclave_core::wire::v2::encoding::Encoding;
use conclave_core::wire::v2::schema::server_frame::Kind;
use conclave_core::wire::v2::schema::{self as pb, event, reply, request, subscribe};
use conclave_core::wire::websocket;
use tungstenite::Message;

use super::{ServerShell, Test, World, list};
use crate::client::v2::{ENCODINGS, Session, named, numbered, sender, text};
use crate::client::{PATIENCE, Peer, masked};

pub(super) fn tests<S: ServerShell>() -> Vec<Test> {
    list!["streams":
        a_session_opens_in_either_encoding,
        a_subscription_delivers_what_is_stored_then_what_is_posted,
        the_same_id_is_stored_once_across_a_restart,
        both_versions_meet_in_a_channel,
        a_signature_reaches_the_readers_as_it_was_made,
        receipts_reach_who_watches,
        a_position_outlives_the_connection,
        a_slow_reader_catches_up_without_a_gap,
        a_message_of_the_other_kind_ends_the_session,
        an_unknown_subprotocol_is_version_1,
    ]
}

const FROM_THE_START: subscribe::From = subscribe::From::After(0);
const FROM_NOW: subscribe::From = subscribe::From::Latest(pb::Latest {});

fn a_session_opens_in_either_encoding<S: ServerShell>() {
    let world = World::<S>::start();
    for ((_, encoding), user) in ENCODINGS.into_iter().zip(["ann", "bob"]) {
        let mut session = Session::register(world.address(), encoding, user);
        let you = session.welcome().you.clone().unwrap();
        assert_eq!((&you.user[..], &you.machine[..], &you.handle[..]), (user, "m", "s"));
        assert!(you.user_id > 0 && you.machine_id > 0 && session.welcome().reader > 0);
        session.done(request::What::Ping(pb::Ping {}));
        drop(session);
        let again = Session::connect(world.address(), encoding, user, "s");
        assert!(again.welcome().you == Some(you));
    }
}

fn a_subscription_delivers_what_is_stored_then_what_is_posted<S: ServerShell>() {
    let world = World::<S>::start();
    let mut ann = Session::register(world.address(), Encoding::Protobuf, "ann");
    ann.create("c");
    let stream = ann.subscribe("c", FROM_NOW).stream;
    let texts: Vec<String> = (1..=5).map(|nth: u8| nth.to_string()).collect();
    for (nth, text) in (1..=3).zip(&texts) {
        assert_eq!(ann.post(stream, nth, text).seq, u64::from(nth));
    }
    let readers = ENCODINGS.into_iter().zip(["bob", "carl"]);
    let mut readers: Vec<_> =
        readers.map(|((_, encoding), user)| Session::register(world.address(), encoding, user)).collect();
    for reader in &mut readers {
        let subscribed = reader.subscribe("c", FROM_THE_START);
        assert_eq!((subscribed.stream, subscribed.after, subscribed.last), (stream, 0, 3));
        let (stored, live) = reader.until_live();
        assert_eq!(stored.iter().map(text).collect::<Vec<_>>(), texts[..3]);
        assert_eq!(live, 3);
    }
    for (nth, text) in (4..=5).zip(&texts[3..]) {
        ann.post(stream, nth, text);
    }
    for reader in &mut readers {
        let live = reader.live(2);
        assert_eq!(live.iter().map(text).collect::<Vec<_>>(), texts[3..]);
        assert_eq!(live.iter().map(|it| it.seq).collect::<Vec<_>>(), [4, 5]);
        assert!(live.iter().all(|it| sender(it) == "ann/m/s"));
    }
    // A sender of version 2 receives its own: its order is everyone's.
    assert!(ann.until_live() == (Vec::new(), 0));
    assert_eq!(ann.live(5).iter().map(text).collect::<Vec<_>>(), texts);
}

fn the_same_id_is_stored_once_across_a_restart<S: ServerShell>() {
    let mut world = World::<S>::start();
    let mut ann = Session::register(world.address(), Encoding::Json, "ann");
    ann.create("c");
    let stream = ann.subscribe("c", FROM_NOW).stream;
    let first = ann.post(stream, 1, "text");
    assert!(ann.post(stream, 1, "text") == first);
    drop(ann);
    world.restart(|_| {});
    let mut ann = Session::connect(world.address(), Encoding::Protobuf, "ann", "s");
    ann.subscribe("c", FROM_NOW);
    assert!(ann.post(stream, 1, "text") == first);
    assert_eq!(ann.post(stream, 2, "text").seq, first.seq + 1);
    let read = pb::Read { stream: numbered(stream), limit: 0, from: Some(pb::read::From::After(0)) };
    let reply::What::Page(page) = ann.ask(request::What::Read(read)) else { panic!("a page") };
    assert_eq!(page.messages.iter().map(|it| it.seq).collect::<Vec<_>>(), [1, 2]);
    assert!(!page.more);
}

fn both_versions_meet_in_a_channel<S: ServerShell>() {
    let world = World::<S>::start();
    let mut old = world.register("old");
    old.create("c", Visibility::Public);
    for ((_, encoding), user) in ENCODINGS.into_iter().zip(["ann", "bob"]) {
        let mut new = Session::register(world.address(), encoding, user);
        let stream = new.subscribe("c", FROM_NOW).stream;
        new.until_live();
        new.post(stream, 1, "from version 2");
        assert_eq!(old.arrival(), ("c", format!("{user}/m/s"), "from version 2"));
        assert_eq!(text(&new.live(1)[0]), "from version 2");
        old.post("c", "from version 1");
        let delivery = new.live(1).remove(0);
        assert_eq!((text(&delivery), sender(&delivery)), ("from version 1".into(), "old/m/s".into()));
        assert!(delivery.message_id.is_empty() && delivery.signature.is_empty());
        new.done(request::What::Unsubscribe(pb::Unsubscribe { stream: named("c") }));
    }
    assert_eq!(
        old.history_texts("c"),
        ["from version 2", "from version 1", "from version 2", "from version 1"]
    );
}

fn a_signature_reaches_the_readers_as_it_was_made<S: ServerShell>() {
    let mut world = World::<S>::start();
    let mut ann = Session::register(world.address(), Encoding::Json, "ann");
    ann.create("c");
    let stream = ann.subscribe("c", FROM_NOW).stream;
    ann.post(stream, 1, "text");
    // Live, from the store, and from the store of a server that was restarted.
    let mut bob = Session::register(world.address(), Encoding::Protobuf, "bob");
    for round in 0..2 {
        bob.subscribe("c", FROM_THE_START);
        let keys = bob.keys("ann");
        let (messages, _) = bob.until_live();
        let [message] = &messages[..] else { panic!("{} messages", messages.len()) };
        assert!(bob.verifies(stream, message, &keys), "round {round}");
        let mut altered = message.clone();
        altered.message_id = vec![9; 16].into();
        assert!(!bob.verifies(stream, &altered, &keys));
        drop(bob);
        world.restart(|_| {});
        bob = Session::connect(world.address(), Encoding::Json, "bob", "s");
    }
    // Who shares no channel is not told a key.
    let mut stranger = Session::register(world.address(), Encoding::Json, "carl");
    let error = stranger.refused(request::What::Keys(pb::Keys { user: "ann".into() }));
    assert_eq!(error.code, pb::ErrorCode::NotFound as i32);
}

fn receipts_reach_who_watches<S: ServerShell>() {
    let world = World::<S>::start();
    let mut ann = Session::register(world.address(), Encoding::Protobuf, "ann");
    let mut bob = Session::register(world.address(), Encoding::Json, "bob");
    ann.create("c");
    let stream = ann.subscribe("c", FROM_NOW).stream;
    ann.done(request::What::WatchReceipts(pb::WatchReceipts { stream: named("c"), on: true }));
    bob.subscribe("c", FROM_NOW);
    bob.until_live();
    let seq = ann.post(stream, 1, "text").seq;
    assert_eq!(state(&mut ann, stream, seq), pb::ReceiptState::Stored as i32);
    bob.live(1);
    let report =
        |delivered, seen| request::What::Report(pb::Report { stream: numbered(stream), delivered, seen });
    bob.done(report(seq, 0));
    assert_eq!(state(&mut ann, stream, seq), pb::ReceiptState::Delivered as i32);
    bob.done(report(seq, seq));
    assert_eq!(state(&mut ann, stream, seq), pb::ReceiptState::Seen as i32);
    let word = "it is done";
    bob.done(request::What::Acknowledge(pb::Acknowledge {
        stream: numbered(stream),
        seq,
        word: word.into(),
    }));
    assert_eq!(state(&mut ann, stream, seq), pb::ReceiptState::Acknowledged as i32);
    let position = loop {
        let Kind::Event(pb::Event { what: Some(event::What::ReceiptsMoved(moved)) }) = ann.told() else {
            continue;
        };
        assert_eq!(moved.stream, stream);
        let bob = moved.readers.into_iter().find(|it| it.reader.as_ref().unwrap().user == "bob");
        if let Some(position) = bob.filter(|it| it.acknowledged == seq) {
            break position;
        }
    };
    assert_eq!((position.since, position.delivered, position.seen, &position.word[..]), (0, seq, seq, word));
    // More than was sent is not claimed.
    let error = bob.refused(report(seq + 1, 0));
    assert_eq!(error.code, pb::ErrorCode::InvalidArgument as i32);
}

/// How far a message has come to `bob`.
#[track_caller]
fn state(session: &mut Session, stream: u64, seq: u64) -> i32 {
    let receipts = pb::Receipts { stream: numbered(stream), seq };
    let reply::What::Receipts(list) = session.ask(request::What::Receipts(receipts)) else {
        panic!("receipts")
    };
    let bob = list.receipts.iter().find(|it| it.reader.as_ref().unwrap().user == "bob");
    bob.expect("bob is a reader").state
}

fn a_position_outlives_the_connection<S: ServerShell>() {
    let mut world = World::<S>::start();
    let mut ann = Session::register(world.address(), Encoding::Protobuf, "ann");
    ann.create("c");
    let stream = ann.subscribe("c", FROM_NOW).stream;
    let mut bob = Session::register(world.address(), Encoding::Json, "bob");
    bob.subscribe("c", FROM_THE_START);
    bob.until_live();
    for id in 1..=2 {
        ann.post(stream, id, "text");
    }
    bob.live(2);
    bob.done(request::What::Report(pb::Report { stream: numbered(stream), delivered: 1, seen: 0 }));
    drop(bob);
    ann.post(stream, 3, "text");
    world.restart(|_| {});
    let mut bob = Session::connect(world.address(), Encoding::Json, "bob", "s");
    let subscribed = bob.subscribe("c", subscribe::From::MyCursor(pb::MyCursor {}));
    assert_eq!((subscribed.after, subscribed.last), (1, 3));
    let (missed, live) = bob.until_live();
    assert_eq!(missed.iter().map(|it| it.seq).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(live, 3);
}

fn a_slow_reader_catches_up_without_a_gap<S: ServerShell>() {
    const POSTS: u8 = 60;
    let world = World::<S>::with(|options| {
        options.bounds.queue = 1 << 20;
        // However slow the machine is, the reader is not dropped while it waits.
        options.hub.limits.stall = PATIENCE * 60;
    });
    let mut ann = Session::register(world.address(), Encoding::Protobuf, "ann");
    ann.create("c");
    let stream = ann.subscribe("c", FROM_NOW).stream;
    let mut bob = Session::register(world.address(), Encoding::Protobuf, "bob");
    bob.subscribe("c", FROM_NOW);
    bob.until_live();
    // More than the queue and the sockets' buffers hold, while bob reads nothing.
    let body = "x".repeat(400 << 10);
    for id in 1..=POSTS {
        ann.post(stream, id, &body);
    }
    let (messages, live) = bob.until_live();
    assert!(messages.iter().map(|it| it.seq).eq(1..=u64::from(POSTS)), "each once and in order");
    assert_eq!(live, u64::from(POSTS), "it was behind, and has caught up");
    ann.post(stream, POSTS + 1, "live again");
    assert_eq!(text(&bob.live(1)[0]), "live again");
}

fn a_message_of_the_other_kind_ends_the_session<S: ServerShell>() {
    let world = World::<S>::start();
    for ((_, encoding), user) in ENCODINGS.into_iter().zip(["ann", "bob"]) {
        let mut session = Session::register(world.address(), encoding, user);
        let ping = encoding.encode_client(pb::client_frame::Kind::Request(pb::Request {
            id: 1,
            what: Some(request::What::Ping(pb::Ping {})),
        }));
        session.socket().send_message(match encoding {
            Encoding::Protobuf => Message::text("{}"),
            Encoding::Json => Message::Binary(ping.into()),
        });
        assert_eq!(session.goodbye().reason, pb::GoodbyeReason::Malformed as i32);
    }
}

fn an_unknown_subprotocol_is_version_1<S: ServerShell>() {
    let world = World::<S>::start();
    // By hand: the library ends a connection whose subprotocol was not chosen.
    let mut stream = TcpStream::connect(world.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let host = world.address();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Protocol: conclave.v9, chat\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101") && !head.contains("sec-websocket-protocol"), "{head}");
    let hello = Frame::Hello { protocol_version: 1, session: "s" };
    stream.write_all(&masked(&hello.to_bytes())).unwrap();
    let mut answer = vec![0; 2];
    stream.read_exact(&mut answer).unwrap();
    let content = websocket::content(&answer).unwrap();
    answer.resize(content.end, 0);
    stream.read_exact(&mut answer[2..]).unwrap();
    assert!(matches!(Frame::decode(&answer[content]), Ok(Frame::Challenge { .. })));
    // Of several the first that is known counts.
    let dial = crate::client::Dial::plain(world.address());
    let dial = dial.header("sec-websocket-protocol", "conclave.v9, conclave.v2.json, conclave.v2");
    let socket = crate::client::Socket::dial(&dial).unwrap();
    assert_eq!(socket.header("sec-websocket-protocol"), Some("conclave.v2.json"));
    assert!(Peer::register(world.address(), "ann").is_alive());
}
