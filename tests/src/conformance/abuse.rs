//! Garbage of every kind, before and after authentication; silence, and words that never end.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use conclave_core::wire::v1::{AdminOp, Frame, ProtocolError, Visibility};
use tungstenite::Message;

use super::{ServerShell, Test, World, get, list};
use crate::chance::Chance;
use crate::client::{PATIENCE, Peer, key, masked, post, why};

pub(super) fn tests<S: ServerShell>() -> Vec<Test> {
    list!["abuse":
        garbage_instead_of_http_ends_its_own_connection,
        garbage_instead_of_websocket_ends_its_own_connection,
        garbage_instead_of_frames_ends_its_own_connection,
        random_frames_hurt_nobody,
        texts_and_control_messages_are_ignored,
        a_message_may_come_in_pieces_and_a_burst_in_one,
        who_says_nothing_or_says_it_slowly_is_ended,
        a_session_that_drips_a_frame_is_ended,
        connections_that_come_and_go_leave_nothing,
    ]
}

/// So many random bytes at most.
fn random_bytes(random: &mut Chance, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.index(most + 1)];
    rand_core::Rng::fill_bytes(random, &mut bytes);
    bytes
}

/// Checks that a server serves: a page, a new user, a post.
fn serves<S: ServerShell>(world: &World<S>) {
    assert_eq!(get(world.address(), "/health").body, "ok");
    let mut witness = match Peer::connect_with(world.address(), &key("witness"), "s") {
        Ok(peer) => peer,
        Err(_) => world.register("witness"),
    };
    let _ = witness.ask(&Frame::Admin(AdminOp::CreateChannel { name: "w", visibility: Visibility::Public }));
    witness.join("w");
    witness.post("w", "text");
}

fn garbage_instead_of_http_ends_its_own_connection<S: ServerShell>() {
    let world = World::<S>::start();
    let mut random = Chance::new(1, 0);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let mut requests: Vec<Vec<u8>> = [
        "\r\n\r\n\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
        "GET\0/ HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n"),
        format!(
            "GET / HTTP/1.1\r\nHost: x\r\n{upgrade}Sec-WebSocket-Version: 12\r\nSec-WebSocket-Key: x\r\n\r\n"
        ),
        format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n{upgrade}\r\n"),
        format!(
            "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{upgrade}\r\nffffffffffffffff\r\n"
        ),
        format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "y".repeat(100_000)),
        format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(1_000)),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "z".repeat(100_000)),
    ]
    .map(String::into_bytes)
    .into();
    requests.extend((0..40).map(|_| random_bytes(&mut random, 2_000)));
    for request in requests {
        let mut stream = TcpStream::connect(world.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(&request);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let status: Option<u16> = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        assert!(status.is_none_or(|status| (400..500).contains(&status)), "{answer}");
    }
    serves(&world);
}

/// Messages that are none, as bytes below the WebSocket.
fn broken_messages() -> Vec<Vec<u8>> {
    vec![
        vec![0x82, 0x05, 1, 2, 3, 4, 5],
        vec![0xf2, 0x80, 0, 0, 0, 0],
        vec![0x83, 0x80, 0, 0, 0, 0],
        vec![0x8f, 0x80, 0, 0, 0, 0],
        vec![0x80, 0x81, 0, 0, 0, 0, 1],
        vec![0x09, 0x80, 0, 0, 0, 0],
        [&[0x89, 0xfe, 0, 126, 0, 0, 0, 0][..], &[0; 126]].concat(),
        vec![0x02, 0x80, 0, 0, 0, 0, 0x82, 0x80, 0, 0, 0, 0],
        vec![0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ]
}

fn garbage_instead_of_websocket_ends_its_own_connection<S: ServerShell>() {
    let world = World::<S>::start();
    let _ann = world.register("ann");
    let mut random = Chance::new(2, 0);
    for bytes in broken_messages() {
        for mut peer in [Peer::dial(world.address()), world.connect("ann", "t")] {
            peer.socket().send_raw(&bytes);
            let last = peer.last_word();
            assert!(matches!(last, ProtocolError::MalformedFrame(_)), "{bytes:x?}: {last:?}");
        }
    }
    for _ in 0..60 {
        for mut peer in [Peer::dial(world.address()), world.connect("ann", "t")] {
            peer.socket().send_raw(&random_bytes(&mut random, 300));
            // Random bytes may also be a message that is not whole: whoever hangs up is not waited for.
            drop(peer);
        }
    }
    serves(&world);
    world.until_metric("conclave_connections{state=\"session\"}", |count| count == 1.0);
}

fn garbage_instead_of_frames_ends_its_own_connection<S: ServerShell>() {
    let world = World::<S>::start();
    let _ann = world.register("ann");
    let mut with_leftover = Frame::Ping.to_bytes();
    with_leftover.push(0);
    let frames: Vec<Vec<u8>> = vec![
        vec![],
        vec![28],
        vec![250],
        vec![251, 1, 0],
        vec![255],
        with_leftover,
        // A text of 2^60 bytes, a list of 2^32 sessions, a text that is not UTF-8, a bool that is neither.
        vec![7, 1, 253, 0, 0, 0, 0, 0, 0, 0, 16],
        vec![11, 0, 253, 0, 0, 0, 0, 1, 0, 0, 0],
        vec![6, 2, 0xff, 0xfe],
        vec![7, 2],
        vec![8, 17],
        vec![8, 0, 1, b'c', 3],
        vec![26, 1, b'c'],
    ];
    for bytes in frames {
        let mut peers =
            vec![Peer::dial(world.address()), Peer::dial(world.address()), world.connect("ann", "t")];
        peers[1].hello("s");
        for mut peer in peers {
            peer.socket().send(bytes.clone());
            let last = peer.last_word();
            assert!(matches!(last, ProtocolError::MalformedFrame(_)), "{bytes:x?}: {last:?}");
        }
    }
    serves(&world);
}

fn random_frames_hurt_nobody<S: ServerShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    ann.post("c", "kept");
    let valid = [
        Frame::Join { channel: "c", token: Some("token") }.to_bytes(),
        post("c", "text").to_bytes(),
        Frame::ReadSince { channel: "c", since_ms: 12345 }.to_bytes(),
        Frame::Admin(AdminOp::InviteCreate { channel: "c", uses: Some(3), expires_in_secs: Some(9) })
            .to_bytes(),
        Frame::Admin(AdminOp::Kick { channel: "c", target: "bob/m/s" }).to_bytes(),
    ];
    let mut random = Chance::new(3, 0);
    let mut bob = world.register("bob");
    let mut ended = 0;
    for nth in 0..2_000 {
        let mut bytes = valid[nth % valid.len()].clone();
        for _ in 0..=random.below(3) {
            let at = random.index(bytes.len());
            bytes[at] = random.next() as u8;
        }
        if random.one_in(5) {
            bytes = random_bytes(&mut random, 60);
        }
        bob.send(&Frame::Ping);
        bob.socket().send(bytes);
        bob.send(&Frame::Ping);
        let mut pongs = 0;
        while pongs < 2 {
            match bob.next() {
                Some(Frame::Pong) => pongs += 1,
                Some(_) => {}
                None => {
                    ended += 1;
                    bob = world.connect("bob", "s");
                    break;
                }
            }
        }
    }
    assert!((100..1_950).contains(&ended), "{ended}");
    assert!(ann.is_alive());
    assert_eq!(ann.history_texts("c").first(), Some(&"kept"));
    serves(&world);
}

fn texts_and_control_messages_are_ignored<S: ServerShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    let mut opening = Peer::dial(world.address());
    opening.hello("t");
    for peer in [&mut ann, &mut opening] {
        for message in [
            Message::Text("hello".into()),
            Message::Text(String::new().into()),
            Message::Ping(vec![1; 125].into()),
            Message::Pong(vec![].into()),
        ] {
            peer.socket().send_message(message);
        }
    }
    assert!(ann.is_alive());
    assert!(opening.authenticate(&key("ann")).is_ok());
}

fn a_message_may_come_in_pieces_and_a_burst_in_one<S: ServerShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    let text = "x".repeat(70_000);
    let bytes = post("c", &text).to_bytes();
    // Fragments, with a ping between them, each written byte by byte at its ends.
    let mut raw = Vec::new();
    for (nth, piece) in bytes.chunks(30_000).enumerate() {
        let last = (nth + 1) * 30_000 >= bytes.len();
        let mut message = masked(piece);
        message[0] = if nth == 0 { 0x02 } else { 0 } | if last { 0x80 } else { 0 };
        raw.extend(message);
        if !last {
            raw.extend([0x89, 0x80, 0, 0, 0, 0]);
        }
    }
    let (head, rest) = raw.split_at(20);
    head.iter().for_each(|byte| ann.socket().send_raw(&[*byte]));
    ann.socket().send_raw(rest);
    assert_eq!(ann.reply(), Frame::Ack { detail: None });
    assert_eq!(ann.history_texts("c"), [&text]);
    // And a thousand messages at once.
    let burst: Vec<u8> = (0..1_000).flat_map(|nth| masked(&post("c", &nth.to_string()).to_bytes())).collect();
    ann.socket().send_raw(&burst);
    (0..1_000).for_each(|_| assert_eq!(ann.reply(), Frame::Ack { detail: None }));
    let mut expected: Vec<String> = (0..1_000).map(|nth| nth.to_string()).collect();
    assert_eq!(ann.history_texts("c")[1..], expected);
    // Messages of any size, cut anywhere, with those of every other kind between them.
    let (mut random, mut raw) = (Chance::new(4, 0), Vec::new());
    for nth in 0..600 {
        let most = [10, 200, 3_000, 70_000][nth % 4];
        let text = format!("{nth} {}", "y".repeat(random.index(most)));
        raw.extend(masked(&post("c", &text).to_bytes()));
        raw.extend([&[0x89, 0x83, 0, 0, 0, 0, 1, 2, 3][..], &[0x81, 0x81, 0, 0, 0, 0, b'x']][nth % 2]);
        expected.push(text);
    }
    let mut rest = &raw[..];
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rest.len().min(1 + random.index(100_000)));
        ann.socket().send_raw(piece);
        rest = behind;
    }
    (0..600).for_each(|_| assert_eq!(ann.reply(), Frame::Ack { detail: None }));
    assert!(ann.history_texts("c")[1..] == expected);
}

/// Says one byte every now and then until the server has had enough; gives back what it said.
fn drip(world_address: std::net::SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(world_address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let (mut said, start) = (Vec::new(), Instant::now());
    for byte in bytes.iter().map(Some).chain(std::iter::repeat(None)) {
        if let Some(byte) = byte
            && stream.write_all(&[*byte]).is_err()
        {
            return said;
        }
        let mut answer = [0; 1024];
        match stream.read(&mut answer) {
            Ok(0) => return said,
            Ok(count) => said.extend_from_slice(&answer[..count]),
            Err(why)
                if matches!(why.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return said,
        }
        assert!(start.elapsed() < PATIENCE, "it is borne for ever");
    }
    said
}

fn who_says_nothing_or_says_it_slowly_is_ended<S: ServerShell>() {
    let world = World::<S>::start();
    let _ann = world.register("ann");
    let address = world.address();
    let timed_out = |mut peer: Peer| {
        assert_eq!(why(&peer.last_word()), "handshake timed out");
    };
    thread::scope(|scope| {
        // Below HTTP: nothing, half a head, a head in drips.
        scope.spawn(move || drip(address, b""));
        scope.spawn(move || drip(address, b"GET / HT"));
        scope.spawn(move || drip(address, &b"GET / HTTP/1.1\r\nHost: ".repeat(20)));
        scope.spawn(move || timed_out(Peer::dial(address)));
        scope.spawn(move || {
            let mut peer = Peer::dial(address);
            peer.hello("s");
            timed_out(peer);
        });
        scope.spawn(move || {
            let mut peer = Peer::dial(address);
            peer.hello("s");
            let public = key("new").public();
            peer.send(&Frame::Register { username: "new", machine: "m", pubkey: public.as_bytes() });
            timed_out(peer);
        });
        // Half of a message; and messages without end that are none of the handshake's.
        scope.spawn(move || {
            let mut peer = Peer::dial(address);
            peer.socket().send_raw(&[0x82, 0x85, 0, 0, 0, 0, 1, 2]);
            timed_out(peer);
        });
        scope.spawn(move || {
            let mut peer = Peer::dial(address);
            let start = Instant::now();
            while let Some(message) = {
                peer.socket().send_message(Message::Ping(vec![7].into()));
                peer.socket().receive_message()
            } {
                assert!(start.elapsed() < PATIENCE, "{message:?}: pings keep it open");
            }
        });
    });
    world.until_metric("conclave_connections{state=\"authenticating\"}", |count| count == 0.0);
    serves(&world);
}

fn a_session_that_drips_a_frame_is_ended<S: ServerShell>() {
    let world = World::<S>::with(|options| options.hub.limits.idle = Duration::from_millis(1500));
    let mut ann = world.register("ann");
    let start = Instant::now();
    // More than can be dripped before patience ends.
    let mut bytes = masked(&vec![0; 1_000_000]).into_iter();
    // Bytes are not frames: what is never whole is no sign of life.
    let sessions = "conclave_connections{state=\"session\"}";
    while world.metric(sessions) > 0.0 {
        assert!(start.elapsed() < PATIENCE, "drips keep it alive");
        ann.socket().send_raw(&[bytes.next().unwrap()]);
    }
    assert!(why(&ann.last_word()).contains("idle"));
}

fn connections_that_come_and_go_leave_nothing<S: ServerShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    thread::scope(|scope| {
        for worker in 0..4 {
            let address = world.address();
            scope.spawn(move || {
                for nth in 0..60 {
                    let mut peer = Peer::dial(address);
                    if nth % 4 > 0 {
                        peer.hello(&format!("{worker}-{}", nth % 8));
                    }
                    if nth % 4 > 1 && peer.authenticate(&key("ann")).is_ok() && nth % 4 > 2 {
                        peer.send(&Frame::Join { channel: "c", token: None });
                        peer.send(&post("c", "text"));
                        peer.send(&Frame::ReadSince { channel: "c", since_ms: 0 });
                    }
                }
            });
        }
    });
    for state in ["upgrading", "authenticating"] {
        // The question itself is one that is being answered.
        let asking = f64::from(u8::from(state == "upgrading"));
        world.until_metric(&format!("conclave_connections{{state=\"{state}\"}}"), |count| count == asking);
    }
    world.until_metric("conclave_connections{state=\"session\"}", |count| count == 1.0);
    assert_eq!(ann.who(None), ["ann/m/s"]);
    assert_eq!(ann.who(Some("c")), ["ann/m/s"]);
}
