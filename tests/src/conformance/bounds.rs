//! What is bounded: frames, queues, numbers of things, connections that are nobody yet.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use conclave_core::wire::MAX_FRAME;
use conclave_core::wire::v1::{AdminOp, Frame, Payload, ProtocolError, Visibility};

use super::{ServerShell, Test, World, http, list};
use crate::client::{Dial, NOBODY, PATIENCE, Peer, Refused, Socket, key, masked, why};

pub(super) fn tests<S: ServerShell>() -> Vec<Test> {
    list!["bounds":
        a_frame_before_authentication_has_4_kib_at_most,
        a_frame_of_a_session_has_a_mebibyte_at_most,
        seventeen_mebibytes_are_refused_whatever_is_configured,
        what_is_relayed_is_never_larger_than_a_frame_may_be,
        things_are_counted,
        a_reader_that_stalls_is_dropped_and_holds_nobody_up,
        a_slow_consumer_that_reads_on_has_its_last_word,
        who_asks_and_never_reads_is_read_no_more_and_dropped,
        an_address_opens_a_bounded_number_of_connections,
        all_addresses_together_open_a_bounded_number_of_connections,
        only_a_trusted_proxy_names_an_address,
        compression_is_not_negotiated,
    ]
}

fn too_large(last: &ProtocolError<'_>) -> bool {
    matches!(last, ProtocolError::MalformedFrame(why) if why.contains("too large"))
}

/// A post that is `len` bytes on the wire.
fn post_of(len: usize) -> Vec<u8> {
    let empty = Frame::ChannelMsg { channel: "c", from: NOBODY, payload: Payload::Plain("") };
    let head = empty.to_bytes().len() - 1 + if len > 65_536 + 20 { 5 } else { 3 };
    let text = "x".repeat(len - head);
    let frame = Frame::ChannelMsg { channel: "c", from: NOBODY, payload: Payload::Plain(&text) };
    let bytes = frame.to_bytes();
    assert_eq!(bytes.len(), len);
    bytes
}

fn a_frame_before_authentication_has_4_kib_at_most<S: ServerShell>() {
    let world = World::<S>::start();
    // As large as it may be, it is looked at: its name is what is wrong.
    for (len, large) in [(4096, false), (4097, true), (1 << 20, true)] {
        for after_hello in [false, true] {
            let mut peer = Peer::dial(world.address());
            if after_hello {
                peer.hello("s");
            }
            let frame = |name: &str| {
                if after_hello {
                    Frame::Register { username: name, machine: "m", pubkey: &[1; 32] }.to_bytes()
                } else {
                    Frame::Hello { protocol_version: 1, session: name }.to_bytes()
                }
            };
            let head = frame(&"x".repeat(4000)).len() - 4000;
            let mut bytes = frame(&"x".repeat(len - head));
            bytes.truncate(len);
            peer.socket().send(bytes);
            let last = peer.last_word();
            assert_eq!(too_large(&last), large, "{len}: {last:?}");
            assert!(matches!(last, ProtocolError::MalformedFrame(_)));
        }
    }
}

fn a_frame_of_a_session_has_a_mebibyte_at_most<S: ServerShell>() {
    let world = World::<S>::start();
    let (mut ann, mut bob) = (world.register("ann"), world.register("bob"));
    ann.create("c", Visibility::Public);
    bob.join("c");
    ann.socket().send(post_of(1 << 20));
    assert_eq!(ann.reply(), Frame::Ack { detail: None });
    assert_eq!(bob.texts(1)[0].len(), (1 << 20) - 12);
    ann.socket().send(post_of((1 << 20) + 1));
    assert!(too_large(&ann.last_word()));
    bob.hears_nothing();
    // In pieces, too.
    let mut ann = world.connect("ann", "s");
    let piece = vec![0; 600 << 10];
    let (mut first, mut last) = (masked(&piece), masked(&piece));
    first[0] = 0x02;
    last[0] = 0x80;
    ann.socket().send_raw(&first);
    ann.socket().send_raw(&last);
    assert!(too_large(&ann.last_word()));
}

fn seventeen_mebibytes_are_refused_whatever_is_configured<S: ServerShell>() {
    let world = World::<S>::with(|options| options.bounds.frame = MAX_FRAME);
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    let large = vec![9; 17 << 20];
    ann.socket().send(large.clone());
    assert!(too_large(&ann.last_word()));
    let mut nobody = Peer::dial(world.address());
    nobody.socket().send(large);
    assert!(too_large(&nobody.last_word()));
    // A head that claims more is enough: nothing is waited for, nothing is set aside.
    for len in [17 << 20, 1 << 40, u64::MAX >> 1, u64::MAX] {
        for mut peer in [world.connect("ann", "s"), Peer::dial(world.address())] {
            let mut head = vec![0x82, 0xff];
            head.extend_from_slice(&len.to_be_bytes());
            head.extend_from_slice(&[0; 4]);
            peer.socket().send_raw(&head);
            assert!(matches!(peer.last_word(), ProtocolError::MalformedFrame(_)), "{len}");
        }
    }
}

fn what_is_relayed_is_never_larger_than_a_frame_may_be<S: ServerShell>() {
    let world = World::<S>::with(|options| {
        options.bounds.frame = MAX_FRAME;
        options.bounds.queue = 64 << 20;
        options.hub.limits.name_bytes = 128;
    });
    // Longer names than the sender of this one nobody has.
    let long = "x".repeat(128);
    let mut ann = Peer::dial(world.address());
    ann.hello(&long);
    assert!(ann.prove(&long, &long, &key("ann")).is_ok());
    let mut bob = world.register("bob");
    ann.create("c", Visibility::Public);
    bob.join("c");
    let mut relayed = Vec::new();
    for len in [MAX_FRAME - 5000, MAX_FRAME - 1000, MAX_FRAME - 300] {
        ann.socket().send(post_of(len));
        match ann.reply() {
            Frame::Ack { .. } => relayed.push(len - 12),
            Frame::Error(error) => assert!(matches!(error, ProtocolError::MalformedFrame(_)), "{error:?}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(ann.is_alive());
    assert_eq!(relayed.first(), Some(&(MAX_FRAME - 5012)));
    // A client accepts no larger frame: whatever comes is none.
    let texts: Vec<usize> = bob.texts(relayed.len()).iter().map(|text| text.len()).collect();
    assert_eq!(texts, relayed);
    assert_eq!(bob.history("c").len(), relayed.len());
    bob.hears_nothing();
}

fn things_are_counted<S: ServerShell>() {
    let world = World::<S>::with(|options| {
        let limits = &mut options.hub.limits;
        limits.sessions_per_user = 3;
        limits.subscriptions_per_session = 2;
        limits.channels_per_user = 3;
        limits.members_per_channel = 2;
        limits.bans_per_channel = 2;
        limits.invites_per_channel = 2;
        limits.machines_per_user = 2;
        limits.users = 5;
    });
    let users = ["ann", "bob", "carl", "dora", "emil"].map(|user| world.register(user));
    let [mut ann, mut bob, mut carl, _dora, _emil] = users;
    let full = |peer: &mut Peer, frame: &Frame<'_>| {
        let refused = peer.refused(frame);
        assert!(matches!(refused, ProtocolError::Unauthorized(_)), "{refused:?}");
        assert!(why(&refused).starts_with("at most "), "{refused:?}");
    };
    let create = |name| AdminOp::CreateChannel { name, visibility: Visibility::Private };
    for name in ["a", "b", "c"] {
        ann.admin(create(name));
    }
    full(&mut ann, &Frame::Admin(create("d")));
    ann.join("a");
    ann.join("b");
    full(&mut ann, &Frame::Join { channel: "c", token: None });
    ann.ask(&Frame::Leave { channel: "b" });
    ann.join("c");
    ann.admin(AdminOp::DeleteChannel { name: "b" });
    ann.admin(create("d"));

    let token = ann.invite("a", None, None);
    ann.invite("a", None, None);
    full(&mut ann, &Frame::Admin(AdminOp::InviteCreate { channel: "a", uses: None, expires_in_secs: None }));
    ann.admin(AdminOp::AclAdd { channel: "a", user: "bob" });
    bob.join("a");
    full(&mut ann, &Frame::Admin(AdminOp::AclAdd { channel: "a", user: "carl" }));
    full(&mut carl, &Frame::Join { channel: "a", token: Some(token) });
    for user in ["carl", "dora"] {
        ann.admin(AdminOp::Ban { channel: "a", user });
    }
    full(&mut ann, &Frame::Admin(AdminOp::Ban { channel: "a", user: "emil" }));

    let (second, third) = (key("second").public(), key("third").public());
    ann.admin(AdminOp::MachineAdd { name: "n", pubkey: second.as_bytes() });
    full(&mut ann, &Frame::Admin(AdminOp::MachineAdd { name: "o", pubkey: third.as_bytes() }));

    let _held = [world.connect("ann", "t"), world.connect("ann", "u")];
    let refused = Peer::connect_with(world.address(), &key("ann"), "v").err();
    assert!(matches!(refused, Some(ProtocolError::Unauthorized(_))), "{refused:?}");
    let mut sixth = Peer::dial(world.address());
    sixth.hello("s");
    let refused = sixth.prove("fred", "m", &key("fred")).unwrap_err();
    assert!(matches!(refused, ProtocolError::Unauthorized(_)), "{refused:?}");
    // Taking over is not one more.
    let _again = world.connect("ann", "u");
    assert!(bob.is_alive());
}

/// Posts until a metric counts a slow consumer; says how much was posted.
fn post_until_dropped<S: ServerShell>(world: &World<S>, poster: &mut Peer, dropped: f64) -> usize {
    let body = "x".repeat(100_000);
    for count in 1..2_000 {
        poster.post("c", &format!("{count} {body}"));
        let closed = "conclave_closes_total{reason=\"slow_consumer\",phase=\"session\"}";
        if count % 10 == 0 && world.metric(closed) >= dropped {
            return count;
        }
    }
    panic!("it is never dropped");
}

fn a_reader_that_stalls_is_dropped_and_holds_nobody_up<S: ServerShell>() {
    let world = World::<S>::with(|options| {
        options.bounds.queue = 1 << 20;
        options.journal.ephemeral = true;
    });
    let (mut ann, mut stalled, mut bob) =
        (world.register("ann"), world.register("stalled"), world.register("bob"));
    ann.create("c", Visibility::Public);
    [&mut stalled, &mut bob].into_iter().for_each(|peer| peer.join("c"));
    let reader = thread::spawn(move || {
        // Who reads hears it all.
        let mut count = 0;
        loop {
            let (_, _, text) = bob.arrival();
            if text == "end" {
                return count;
            }
            count += 1;
            assert!(text.starts_with(&format!("{count} ")));
        }
    });
    let posted = post_until_dropped(&world, &mut ann, 1.0);
    assert_eq!(ann.who(Some("c")), ["ann/m/s", "bob/m/s"]);
    // Its socket is given up though it never reads.
    world.until_metric("conclave_connections{state=\"session\"}", |count| count == 2.0);
    ann.post("c", "end");
    assert_eq!(reader.join().unwrap(), posted);
    drop(stalled);
}

fn a_slow_consumer_that_reads_on_has_its_last_word<S: ServerShell>() {
    let world = World::<S>::with(|options| {
        options.bounds.queue = 1 << 20;
        options.journal.ephemeral = true;
    });
    let (mut ann, mut slow) = (world.register("ann"), world.register("slow"));
    ann.create("c", Visibility::Public);
    // The last word waits for two seconds: on a machine that is busy with other things it takes more than one try.
    for attempt in 1..=5 {
        slow.join("c");
        post_until_dropped(&world, &mut ann, f64::from(attempt));
        let (mut heard, mut last) = (Vec::new(), None);
        while let Some(frame) = slow.next() {
            match frame {
                Frame::ChannelMsg { payload: Payload::Plain(text), .. } => {
                    heard.push(text.split(' ').next().and_then(|nth| nth.parse::<usize>().ok()).unwrap());
                }
                Frame::Error(error) => last = Some(error),
                other => panic!("{other:?}"),
            }
        }
        // What it did hear is whole and without a gap.
        assert!(heard.iter().enumerate().all(|(at, nth)| at + 1 == *nth), "{heard:?}");
        if let Some(last) = last {
            assert!(why(&last).starts_with("slow consumer"), "{last:?}");
            return;
        }
        slow = world.connect("slow", "s");
    }
    panic!("it never has a last word");
}

fn who_asks_and_never_reads_is_read_no_more_and_dropped<S: ServerShell>() {
    const MOST: usize = 128 << 20;
    let world = World::<S>::with(|options| {
        options.hub.limits.idle = Duration::from_secs(2);
        options.hub.limits.name_bytes = 128;
        options.journal.ephemeral = true;
    });
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    let body = "x".repeat(200_000);
    (0..5).for_each(|_| ann.post("c", &body));
    let name = |nth: usize| format!("{nth} {}", "x".repeat(120));
    for nth in 0..300 {
        ann.admin(AdminOp::CreateChannel { name: &name(nth), visibility: Visibility::Public });
    }
    // A page of history, a list, what is refused without being asked about, and what the WebSocket answers.
    let floods = [
        masked(&Frame::ReadSince { channel: "c", since_ms: 0 }.to_bytes()),
        masked(&Frame::ListChannels.to_bytes()),
        masked(&Frame::Leave { channel: "" }.to_bytes()),
        [&[0x89, 0xfd, 0, 0, 0, 0][..], &[b'x'; 125]].concat(),
    ];
    thread::scope(|scope| {
        let mut flooding = Vec::new();
        for (nth, message) in floods.iter().enumerate() {
            let mut flooder = world.connect("ann", &nth.to_string());
            flooder.join("c");
            flooding.push(scope.spawn(move || {
                let taken = flooder.socket().flood(&message.repeat(500), Duration::from_secs(5), MOST);
                assert!(taken < MOST, "flood {nth} was never read more slowly");
                flooder
            }));
        }
        // Nobody else is held up.
        while !flooding.iter().all(thread::ScopedJoinHandle::is_finished) {
            assert!(ann.is_alive());
        }
        // Their sockets are given up though nobody ever reads from them.
        let _held: Vec<Peer> = flooding.into_iter().map(|flooding| flooding.join().unwrap()).collect();
        let start = Instant::now();
        while world.metric("conclave_connections{state=\"session\"}") > 1.0 {
            assert!(ann.is_alive());
            assert!(start.elapsed() < PATIENCE, "they are borne for ever");
        }
    });
    assert_eq!(ann.who(None), ["ann/m/s"]);
}

fn an_address_opens_a_bounded_number_of_connections<S: ServerShell>() {
    let world = World::<S>::with(|options| options.admission.per_address = 3);
    let mut ann = world.register("ann");
    let opening: Vec<Peer> = (0..3).map(|_| Peer::dial(world.address())).collect();
    assert!(Socket::dial(&Dial::plain(world.address())).is_err());
    // Sessions do not count, and who leaves makes room.
    assert!(ann.is_alive());
    for (nth, mut peer) in opening.into_iter().enumerate() {
        peer.hello(&nth.to_string());
        assert!(peer.authenticate(&key("ann")).is_ok());
        drop(peer);
    }
    let opening: Vec<Peer> = (0..3).map(|_| Peer::dial(world.address())).collect();
    assert!(Socket::dial(&Dial::plain(world.address())).is_err());
    drop(opening);
}

fn from(world_address: std::net::SocketAddr, address: &str) -> Result<Socket, Refused> {
    Socket::dial(&Dial::plain(world_address).header("x-forwarded-for", address))
}

fn all_addresses_together_open_a_bounded_number_of_connections<S: ServerShell>() {
    let world = World::<S>::with(|options| {
        options.admission.total = 4;
        options.trusted_proxies = vec![IpAddr::from([127, 0, 0, 1])];
    });
    let open: Vec<_> = (0..4).map(|nth| from(world.address(), &format!("192.0.2.{nth}")).unwrap()).collect();
    let refused = from(world.address(), "192.0.2.9");
    assert!(matches!(refused, Err(Refused::Status(429))));
    drop(open);
    world.until_metric("conclave_connections{state=\"authenticating\"}", |count| count == 0.0);
    assert!(from(world.address(), "192.0.2.9").is_ok());
    // Whoever tells no address is on the way in, where there is no more room than inside.
    let silent: Vec<_> = (0..8).map(|_| std::net::TcpStream::connect(world.address()).unwrap()).collect();
    silent.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
    let hung_up = |stream: &std::net::TcpStream| !matches!(stream.peek(&mut [0]), Err(why) if why.kind() == std::io::ErrorKind::WouldBlock);
    let start = Instant::now();
    while silent.iter().filter(|stream| hung_up(stream)).count() < 4 {
        assert!(start.elapsed() < PATIENCE, "all of them are let in");
    }
    drop(silent);
    world.until_metric("conclave_not_admitted_total{reason=\"busy\"}", |count| count >= 4.0);
}

fn only_a_trusted_proxy_names_an_address<S: ServerShell>() {
    let bounded = |trusted: Vec<IpAddr>| {
        World::<S>::with(move |options| {
            options.admission.per_address = 2;
            options.trusted_proxies = trusted;
        })
    };
    let world = bounded(vec![IpAddr::from([127, 0, 0, 1])]);
    // What stands before the proxy's own word is the client's, and counts for nothing.
    let _one = from(world.address(), "192.0.2.1").unwrap();
    let _two = from(world.address(), "198.51.100.7, 192.0.2.1").unwrap();
    assert!(matches!(from(world.address(), "203.0.113.5, 192.0.2.1"), Err(Refused::Status(429))));
    let _other = from(world.address(), "192.0.2.2").unwrap();
    // A customer's whole IPv6 network is one address.
    let _three = from(world.address(), "2001:db8::1").unwrap();
    let _four = from(world.address(), "2001:db8::2").unwrap();
    assert!(matches!(from(world.address(), "2001:db8::3"), Err(Refused::Status(429))));
    // Who is refused does not ask again on the same connection, where somebody else may be next.
    let again = |head: &str| {
        let request =
            format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{head}\r\n");
        let answers = http(world.address(), &request.repeat(2));
        assert!(!answers.body.contains("HTTP/1.1"), "{}", answers.body);
        answers.status
    };
    let shake = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert_eq!(again(&format!("{shake}X-Forwarded-For: 192.0.2.1\r\n")), 429);
    assert_eq!(again("X-Forwarded-For: 192.0.2.9\r\n"), 400);

    let world = bounded(vec![IpAddr::from([192, 0, 2, 77])]);
    let _one = from(world.address(), "192.0.2.1").unwrap();
    let _two = from(world.address(), "192.0.2.2").unwrap();
    assert!(from(world.address(), "192.0.2.3").is_err());
}

fn compression_is_not_negotiated<S: ServerShell>() {
    let world = World::<S>::start();
    let dial = Dial::plain(world.address())
        .header("sec-websocket-extensions", "permessage-deflate; client_max_window_bits");
    let socket = Socket::dial(&dial).unwrap();
    assert_eq!(socket.header("sec-websocket-extensions"), None);
    // And a compressed frame is none.
    let mut peer = Peer::new(socket);
    peer.socket().send_raw(&[0xc2, 0x81, 0, 0, 0, 0, 1]);
    assert!(matches!(peer.last_word(), ProtocolError::MalformedFrame(_)));
}
