//! Posts, history, whispers: what an acknowledgement promises, and in which order all is seen.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use conclave_core::wire::v1::{AdminOp, Envelope, Frame, Path, Payload, ProtocolError, Visibility};
use conclave_shell::clock::Clock;

use super::{ServerShell, Test, World, list};
use crate::client::{NOBODY, PATIENCE, Peer, path, post, show, text, whisper, why};

pub(super) fn tests<S: ServerShell>() -> Vec<Test> {
    list!["messages":
        only_a_subscribed_session_posts_and_reads,
        everyone_but_the_sender_receives_with_the_authenticated_path,
        all_see_one_order,
        what_was_acknowledged_outlives_a_restart,
        a_write_that_fails_is_internal_and_nobody_sees_the_message,
        stamps_increase_whatever_the_clock_does,
        a_page_has_500_rows_at_most,
        a_page_has_a_mebibyte_at_most_and_one_row_always_fits,
        what_is_older_than_the_retention_goes_while_posts_go_on,
        a_whisper_reaches_one_session_and_is_kept_nowhere,
        a_payload_is_relayed_and_kept_as_it_came,
        replies_come_in_the_order_of_the_requests,
    ]
}

fn only_a_subscribed_session_posts_and_reads<S: ServerShell>() {
    let world = World::<S>::start();
    let (mut ann, mut bob) = (world.register("ann"), world.register("bob"));
    ann.create("c", Visibility::Public);
    let read = Frame::ReadSince { channel: "c", since_ms: 0 };
    for frame in [post("c", "text"), read.clone()] {
        assert!(matches!(bob.refused(&frame), ProtocolError::Unauthorized(_)));
    }
    bob.join("c");
    bob.post("c", "text");
    assert_eq!(ann.texts(1), ["text"]);
    bob.ask(&Frame::Leave { channel: "c" });
    for frame in [post("c", "text"), read] {
        assert!(matches!(bob.refused(&frame), ProtocolError::Unauthorized(_)));
    }
    ann.hears_nothing();
}

fn everyone_but_the_sender_receives_with_the_authenticated_path<S: ServerShell>() {
    let world = World::<S>::start();
    let (mut ann, mut bob) = (world.register("ann"), world.register("bob"));
    let mut second = world.connect("ann", "t");
    let mut outside = world.register("carl");
    ann.create("c", Visibility::Public);
    [&mut bob, &mut second].into_iter().for_each(|peer| peer.join("c"));
    let forged = Path { user: "bob", machine: "m", session: "s" };
    let frame = Frame::ChannelMsg { channel: "c", from: forged, payload: Payload::Plain("text") };
    assert_eq!(ann.ask(&frame), Frame::Ack { detail: None });
    for peer in [&mut bob, &mut second] {
        assert_eq!(peer.arrival(), ("c", "ann/m/s".into(), "text"));
    }
    ann.hears_nothing();
    outside.hears_nothing();
    assert_eq!(path(&ann.history("c")[0].from), "ann/m/s");
}

fn all_see_one_order<S: ServerShell>() {
    const POSTERS: usize = 4;
    const POSTS: usize = 150;
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    let mut readers: Vec<_> = ["x", "y", "z"].map(|session| world.connect("ann", session)).into();
    readers.iter_mut().for_each(|reader| reader.join("c"));
    let joined: Vec<Peer> = (0..POSTERS)
        .map(|nth| {
            let mut poster = world.register(&format!("poster{nth}"));
            poster.join("c");
            poster
        })
        .collect();
    let posters: Vec<_> = joined
        .into_iter()
        .enumerate()
        .map(|(nth, mut poster)| {
            thread::spawn(move || {
                for count in 0..POSTS {
                    poster.post("c", &format!("{nth} {count}"));
                }
                // What the others posted; one does not receive one's own.
                (nth, poster.texts((POSTERS - 1) * POSTS))
            })
        })
        .collect();
    let order = ann.texts(POSTERS * POSTS);
    for mut reader in readers {
        assert_eq!(reader.texts(POSTERS * POSTS), order);
    }
    for poster in posters {
        let (nth, seen) = poster.join().unwrap();
        let own = format!("{nth} ");
        let others: Vec<_> = order.iter().filter(|text| !text.starts_with(&own)).copied().collect();
        assert_eq!(seen, others);
        let own: Vec<_> = order.iter().filter(|text| text.starts_with(&own)).collect();
        assert!((0..POSTS).all(|count| own[count] == &format!("{nth} {count}")), "{own:?}");
    }
    assert_eq!(ann.history_texts("c"), order);
}

fn what_was_acknowledged_outlives_a_restart<S: ServerShell>() {
    let mut world = World::<S>::start();
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    let mut texts = Vec::new();
    for round in 0..3 {
        for count in 0..20 {
            let text = format!("{round} {count}");
            ann.post("c", &text);
            texts.push(text);
        }
        world.restart(|_| {});
        ann = world.connect("ann", "s");
        ann.join("c");
        let kept = ann.history("c");
        assert_eq!(kept.iter().map(|it| text(&it.payload)).collect::<Vec<_>>(), texts);
        assert!(kept.is_sorted_by(|a, b| a.ts_ms < b.ts_ms));
    }
}

fn a_write_that_fails_is_internal_and_nobody_sees_the_message<S: ServerShell>() {
    const MAX: u64 = 600 << 10;
    let mut world = World::<S>::with(|options| options.journal.max_size = Some(MAX));
    let (mut ann, mut bob) = (world.register("ann"), world.register("bob"));
    ann.create("c", Visibility::Public);
    bob.join("c");
    let body = |nth: usize| format!("{nth} {}", "x".repeat(20_000));
    let mut kept = Vec::new();
    let failed = loop {
        let body = body(kept.len());
        match ann.ask(&post("c", &body)) {
            Frame::Ack { detail: None } => kept.push(body),
            Frame::Error(error) => break error,
            other => panic!("{}", show(&other)),
        }
        assert!(kept.len() < 100, "the disk never filled");
    };
    assert!(matches!(failed, ProtocolError::Internal(_)), "{failed:?}");
    assert!(why(&failed).contains("disk is full"), "{failed:?}");
    assert_eq!(bob.texts(kept.len()), kept);
    bob.hears_nothing();
    // Reading and what needs no disk goes on; what needs it is refused and changes nothing.
    assert_eq!(bob.history_texts("c"), kept);
    assert_eq!(bob.who(Some("c")), ["ann/m/s", "bob/m/s"]);
    let big = body(kept.len());
    assert!(matches!(bob.refused(&post("c", &big)), ProtocolError::Internal(_)));
    assert!(world.metric("conclave_commits_failed_total") >= 2.0);
    world.restart(|_| {});
    let mut ann = world.connect("ann", "s");
    ann.join("c");
    assert_eq!(ann.history_texts("c"), kept);
    ann.post("c", "room again");
    kept.push("room again".into());
    assert_eq!(ann.history_texts("c"), kept);
}

/// A clock that is an hour off at every other reading.
fn jumping() -> SystemTime {
    static READINGS: AtomicU64 = AtomicU64::new(0);
    let behind = READINGS.fetch_add(1, Ordering::Relaxed) % 2;
    SystemTime::now() - Duration::from_secs(3600 * behind)
}

fn a_day_ago() -> SystemTime {
    SystemTime::now() - Duration::from_secs(86_400)
}

fn stamps_increase_whatever_the_clock_does<S: ServerShell>() {
    let mut world = World::<S>::start();
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    let mut texts = Vec::new();
    for wall in [SystemTime::now as fn() -> SystemTime, jumping, a_day_ago, || SystemTime::UNIX_EPOCH] {
        world.restart(|options| options.clock = Clock::with_wall(wall));
        ann = world.connect("ann", "s");
        ann.join("c");
        let last = ann.history("c").last().map_or(i64::MIN, |last| last.ts_ms);
        for _ in 0..30 {
            let text = texts.len().to_string();
            ann.post("c", &text);
            texts.push(text);
        }
        let history = ann.history("c");
        assert_eq!(history.iter().map(|it| text(&it.payload)).collect::<Vec<_>>(), texts);
        assert!(history.is_sorted_by(|a, b| a.ts_ms < b.ts_ms));
        // A reader that had read all before reads exactly the new ones.
        let Frame::History { messages, .. } = ann.ask(&Frame::ReadSince { channel: "c", since_ms: last })
        else {
            panic!("no history")
        };
        assert_eq!(messages.len(), 30);
    }
}

fn a_page_has_500_rows_at_most<S: ServerShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    let texts: Vec<String> = (0..1203).map(|nth| nth.to_string()).collect();
    let mut pending = 0;
    for text in &texts {
        ann.send(&post("c", text));
        pending += 1;
        if pending == 200 {
            (0..pending).for_each(|_| assert_eq!(ann.reply(), Frame::Ack { detail: None }));
            pending = 0;
        }
    }
    (0..pending).for_each(|_| assert_eq!(ann.reply(), Frame::Ack { detail: None }));
    let (mut since_ms, mut sizes) = (0, Vec::new());
    loop {
        let Frame::History { channel, messages } = ann.ask(&Frame::ReadSince { channel: "c", since_ms })
        else {
            panic!("no history")
        };
        assert_eq!(channel, "c");
        sizes.push(messages.len());
        let Some(last) = messages.last() else { break };
        since_ms = last.ts_ms;
    }
    assert_eq!(sizes, [500, 500, 203, 0]);
    assert_eq!(ann.history_texts("c"), texts);
    // `since_ms` is exclusive, and may be any number.
    for (since_ms, count) in [(i64::MIN, 500), (-1, 500), (i64::MAX, 0), (since_ms, 0), (since_ms - 1, 1)] {
        let Frame::History { messages, .. } = ann.ask(&Frame::ReadSince { channel: "c", since_ms }) else {
            panic!("no history")
        };
        assert_eq!(messages.len(), count, "{since_ms}");
    }
}

fn a_page_has_a_mebibyte_at_most_and_one_row_always_fits<S: ServerShell>() {
    let world = World::<S>::with(|options| {
        options.bounds.frame = 4 << 20;
        options.hub.limits.batch_bytes = 16 << 20;
    });
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    let bodies: Vec<String> = [400 << 10, 400 << 10, 400 << 10, 3 << 20, 5, 3 << 20]
        .iter()
        .enumerate()
        .map(|(nth, len)| char::from(b'a' + nth as u8).to_string().repeat(*len))
        .collect();
    bodies.iter().for_each(|body| ann.post("c", body));
    let (mut since_ms, mut sizes) = (0, Vec::new());
    loop {
        ann.send(&Frame::ReadSince { channel: "c", since_ms });
        let Frame::History { messages, .. } = ann.reply() else { panic!("no history") };
        let bytes: usize = messages.iter().map(|it| text(&it.payload).len()).sum();
        assert!(bytes <= 1 << 20 || messages.len() == 1, "{bytes} bytes in {} rows", messages.len());
        let Some(last) = messages.last() else { break };
        sizes.push(messages.len());
        since_ms = last.ts_ms;
    }
    assert_eq!(sizes, [2, 1, 1, 1, 1]);
    assert!(ann.history_texts("c") == bodies);
}

fn in_nine_days() -> SystemTime {
    SystemTime::now() + Duration::from_secs(9 * 86_400)
}

fn what_is_older_than_the_retention_goes_while_posts_go_on<S: ServerShell>() {
    let week = Duration::from_secs(7 * 86_400);
    let mut world = World::<S>::with(|options| options.retention = Some(week));
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    for _ in 0..10 {
        (0..200).for_each(|_| ann.send(&post("c", "old")));
        (0..200).for_each(|_| assert_eq!(ann.reply(), Frame::Ack { detail: None }));
    }
    world.restart(|options| {
        options.retention = Some(week);
        options.clock = Clock::with_wall(in_nine_days);
    });
    let mut ann = world.connect("ann", "s");
    ann.join("c");
    let (start, mut posted) = (Instant::now(), 0);
    loop {
        ann.post("c", "new");
        posted += 1;
        let Frame::History { messages, .. } = ann.ask(&Frame::ReadSince { channel: "c", since_ms: 0 }) else {
            panic!("no history")
        };
        if text(&messages[0].payload) == "new" {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "the old ones stay");
    }
    assert_eq!(ann.history_texts("c"), vec!["new"; posted]);
    // Stamps go on from where they were, though what bore them is gone.
    assert!(ann.history("c").is_sorted_by(|a, b| a.ts_ms < b.ts_ms));
}

fn a_whisper_reaches_one_session_and_is_kept_nowhere<S: ServerShell>() {
    let mut world = World::<S>::start();
    let (mut ann, mut bob) = (world.register("ann"), world.register("bob"));
    let mut second = world.connect("bob", "t");
    ann.create("c", Visibility::Public);
    [&mut bob, &mut second].into_iter().for_each(|peer| peer.join("c"));
    let target = Path { user: "bob", machine: "m", session: "t" };
    let needle = "a-whisper-that-no-file-holds";
    let forged = Frame::Whisper { from: target, target, payload: Payload::Plain(needle) };
    assert_eq!(ann.ask(&forged), Frame::Ack { detail: None });
    assert_eq!(second.arrival(), ("", "ann/m/s".into(), needle));
    bob.hears_nothing();
    ann.hears_nothing();
    for (machine, session) in [("m", "u"), ("n", "t")] {
        let nobody = Path { user: "bob", machine, session };
        assert!(matches!(ann.refused(&whisper(nobody, "text")), ProtocolError::NotFound(_)));
    }
    drop(second);
    world.until_metric("conclave_connections{state=\"session\"}", |count| count == 2.0);
    assert!(matches!(ann.refused(&whisper(target, "text")), ProtocolError::NotFound(_)));
    ann.post("c", "a-post-that-a-file-holds");
    assert_eq!(ann.history_texts("c"), ["a-post-that-a-file-holds"]);
    world.stop();
    let holds = |needle: &str| {
        let files = std::fs::read_dir(world.dir()).unwrap();
        files
            .map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .any(|bytes| bytes.windows(needle.len()).any(|window| window == needle.as_bytes()))
    };
    assert!(holds("a-post-that-a-file-holds"));
    assert!(!holds(needle));
}

fn a_payload_is_relayed_and_kept_as_it_came<S: ServerShell>() {
    let mut world = World::<S>::start();
    let (mut ann, mut bob) = (world.register("ann"), world.register("bob"));
    ann.create("c", Visibility::Public);
    bob.join("c");
    let ciphertext: Vec<u8> = (0..=255).cycle().take(5000).collect();
    let payloads = [
        Payload::Encrypted(Envelope { ciphertext: &ciphertext, key_id: Some("a key") }),
        Payload::Encrypted(Envelope { ciphertext: &[], key_id: None }),
        Payload::Plain(""),
        Payload::Plain("\0\u{1b}[31m\r\n\u{202e}日本\u{10ffff}"),
    ];
    for payload in &payloads {
        let sent = Frame::ChannelMsg { channel: "c", from: NOBODY, payload: payload.clone() };
        assert_eq!(ann.ask(&sent), Frame::Ack { detail: None });
        let Some(Frame::ChannelMsg { payload: received, .. }) = bob.next() else { panic!("no post") };
        assert!(received == *payload);
        let target = Path { user: "bob", machine: "m", session: "s" };
        let sent = Frame::Whisper { from: NOBODY, target, payload: payload.clone() };
        assert_eq!(ann.ask(&sent), Frame::Ack { detail: None });
        let Some(Frame::Whisper { payload: received, .. }) = bob.next() else { panic!("no whisper") };
        assert!(received == *payload);
    }
    for _ in 0..2 {
        let kept: Vec<_> = bob.history("c").into_iter().map(|it| it.payload).collect();
        assert!(kept == payloads);
        world.restart(|_| {});
        bob = world.connect("bob", "s");
        bob.join("c");
    }
}

fn replies_come_in_the_order_of_the_requests<S: ServerShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    // Some are answered at once, some by the disk, some by a reader of history, some are refused.
    let name = |nth: usize| format!("new{nth}");
    for nth in 0..60 {
        ann.send(&post("c", "text"));
        ann.send(&Frame::Ping);
        ann.send(&Frame::ReadSince { channel: "c", since_ms: 0 });
        ann.send(&post("absent", "text"));
        ann.send(&post("", "text"));
        ann.send(&Frame::Admin(AdminOp::CreateChannel { name: &name(nth), visibility: Visibility::Public }));
        ann.send(&Frame::Leave { channel: &name(nth) });
        ann.send(&Frame::Who { channel: None });
        ann.send(&Frame::ListChannels);
    }
    for nth in 0..60 {
        assert_eq!(ann.reply(), Frame::Ack { detail: None });
        assert_eq!(ann.reply(), Frame::Pong);
        // What was posted before is read.
        let Frame::History { messages, .. } = ann.reply() else { panic!("no history") };
        assert_eq!(messages.len(), nth + 1);
        assert!(matches!(ann.reply(), Frame::Error(ProtocolError::NotFound(_))));
        assert!(matches!(ann.reply(), Frame::Error(ProtocolError::MalformedFrame(_))));
        assert_eq!(ann.reply(), Frame::Ack { detail: Some(&name(nth)) });
        assert_eq!(ann.reply(), Frame::Ack { detail: Some(&name(nth)) });
        assert!(matches!(ann.reply(), Frame::Presence { .. }));
        let Frame::ChannelList { channels } = ann.reply() else { panic!("no list") };
        assert_eq!(channels.len(), nth + 2);
    }
    ann.hears_nothing();
}
