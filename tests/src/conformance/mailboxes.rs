//! Version 2: mailboxes, contacts, messages that expire.

use conclave_core::wire::v1::{Frame, Path, ProtocolError};
use conclave_core::wire::v2::encoding::Encoding;
use conclave_core::wire::v2::schema::server_frame::Kind;
use conclave_core::wire::v2::schema::{self as pb, event, reply, request, stream_name, subscribe};

use super::{ServerShell, Test, World, list};
use crate::client::v2::{ENCODINGS, Session, mailbox, sender, text};
use crate::client::{path, whisper, why};

pub(super) fn tests<S: ServerShell>() -> Vec<Test> {
    list!["mailboxes":
        a_message_waits_across_a_restart_for_who_is_away,
        a_session_of_version_1_is_whispered_to_and_may_be_blocked,
        to_a_stranger_there_is_no_mailbox,
        contacts_are_kept,
        a_full_mailbox_takes_no_more_until_something_was_delivered,
        a_sender_sees_who_has_its_message,
        an_expired_message_is_a_gap,
        a_removed_user_takes_its_mailboxes_along,
    ]
}

const MY_CURSOR: subscribe::From = subscribe::From::MyCursor(pb::MyCursor {});

fn mine(which: pb::OwnMailbox) -> Option<pb::StreamName> {
    Some(pb::StreamName { which: Some(stream_name::Which::Mine(which as i32)) })
}

/// A channel with these users, so that they may write to each other.
fn meet(sessions: &mut [&mut Session]) {
    sessions[0].create("c");
    for session in sessions {
        session.subscribe("c", subscribe::From::Latest(pb::Latest {}));
        session.until_live();
    }
}

fn a_message_waits_across_a_restart_for_who_is_away<S: ServerShell>() {
    let mut world = World::<S>::start();
    let mut ann = Session::register(world.address(), Encoding::Protobuf, "ann");
    let mut bob = Session::register(world.address(), Encoding::Json, "bob");
    meet(&mut [&mut ann, &mut bob]);
    drop(bob);
    let mut streams = Vec::new();
    for (to, which) in [("bob", pb::OwnMailbox::User), ("bob/m/s", pb::OwnMailbox::Session)] {
        let located = ann.locate(mailbox(to));
        assert!(!located.present);
        let stored = ann.post_to(mailbox(to), located.stream, 1, to);
        assert_eq!((stored.stream, stored.seq, stored.present), (located.stream, 1, false));
        streams.push((to, which, located.stream));
    }
    world.restart(|_| {});
    for (_, encoding) in ENCODINGS {
        let mut bob = Session::connect(world.address(), encoding, "bob", "s");
        let keys = bob.keys("ann");
        for (to, which, stream) in &streams {
            let subscribed = bob.subscribe_to(mine(*which), MY_CURSOR);
            assert_eq!((subscribed.stream, subscribed.after, subscribed.last), (*stream, 0, 1));
            let (messages, _) = bob.until_live();
            assert_eq!((text(&messages[0]), sender(&messages[0])), ((*to).into(), "ann/m/s".into()));
            assert!(bob.verifies(*stream, &messages[0], &keys));
        }
    }
    let mut bob = Session::connect(world.address(), Encoding::Json, "bob", "s");
    bob.subscribe_to(mailbox("bob"), MY_CURSOR);
    bob.until_live();
    let mut ann = Session::connect(world.address(), Encoding::Json, "ann", "s");
    assert!(ann.post_to(mailbox("bob"), streams[0].2, 2, "now").present);
    assert_eq!(text(&bob.live(1)[0]), "now");
}

fn a_session_of_version_1_is_whispered_to_and_may_be_blocked<S: ServerShell>() {
    let world = World::<S>::start();
    let mut ann = Session::register(world.address(), Encoding::Protobuf, "ann");
    let mut old = world.register("old");
    ann.create("c");
    ann.subscribe("c", subscribe::From::Latest(pb::Latest {}));
    ann.until_live();
    old.join("c");
    let target = |session| Path { user: "ann", machine: "m", session };
    assert!(matches!(old.ask(&whisper(target("s"), "from version 1")), Frame::Ack { .. }));
    let Kind::Event(pb::Event { what: Some(event::What::Whisper(received)) }) = ann.told() else {
        panic!("no whisper")
    };
    assert_eq!(received.from.unwrap().user, "old");
    let name = || mailbox("old/m/s");
    let located = ann.locate(name());
    assert!(located.present);
    assert!(ann.post_to(name(), located.stream, 1, "to version 1").present);
    let Some(Frame::Whisper { from, payload, .. }) = old.next() else { panic!("no whisper") };
    assert_eq!((path(&from), crate::client::text(&payload)), ("ann/m/s".into(), "to version 1"));
    ann.done(request::What::Block(pb::Block { user: "old".into() }));
    let offline = old.refused(&whisper(target("s"), "again"));
    let absent = old.refused(&whisper(target("t"), "again"));
    assert_eq!(why(&offline), why(&absent).replace("/t'", "/s'"));
    assert!(matches!(offline, ProtocolError::NotFound(_)));
}

fn to_a_stranger_there_is_no_mailbox<S: ServerShell>() {
    let world = World::<S>::start();
    let mut ann = Session::register(world.address(), Encoding::Protobuf, "ann");
    let mut eve = Session::register(world.address(), Encoding::Json, "eve");
    ann.subscribe_to(mine(pb::OwnMailbox::User), MY_CURSOR);
    let errors: Vec<pb::Error> = ["ann", "ann/m/s", "ann/m/x", "nobody"]
        .into_iter()
        .map(|name| eve.refused(request::What::Locate(pb::Locate { stream: mailbox(name) })))
        .collect();
    assert!(errors.iter().all(|error| *error == errors[0]));
    assert_eq!(errors[0].code, pb::ErrorCode::NotFound as i32);
}

fn contacts_are_kept<S: ServerShell>() {
    let mut world = World::<S>::start();
    let mut ann = Session::register(world.address(), Encoding::Json, "ann");
    let mut bob = Session::register(world.address(), Encoding::Protobuf, "bob");
    let carl = Session::register(world.address(), Encoding::Protobuf, "carl");
    let locate = || request::What::Locate(pb::Locate { stream: mailbox("ann") });
    bob.refused(locate());
    ann.done(request::What::Allow(pb::Allow { user: "bob".into() }));
    ann.done(request::What::Block(pb::Block { user: "carl".into() }));
    let stream = bob.locate(mailbox("ann")).stream;
    bob.post_to(mailbox("ann"), stream, 1, "text");
    drop((ann, bob, carl));
    world.restart(|_| {});
    let mut ann = Session::connect(world.address(), Encoding::Protobuf, "ann", "s");
    let mut bob = Session::connect(world.address(), Encoding::Json, "bob", "s");
    let reply::What::Contacts(list) = ann.ask(request::What::ListContacts(pb::ListContacts {})) else {
        panic!("contacts")
    };
    let list: Vec<_> = list.contacts.iter().map(|it| (&it.user[..], it.standing)).collect();
    let (allowed, blocked) = (pb::Standing::Allowed as i32, pb::Standing::Blocked as i32);
    assert_eq!(list, [("bob", allowed), ("carl", blocked)]);
    bob.post_to(mailbox("ann"), stream, 2, "text");
    ann.done(request::What::Disallow(pb::Disallow { user: "bob".into() }));
    ann.done(request::What::Unblock(pb::Unblock { user: "carl".into() }));
    bob.refused(locate());
}

fn a_full_mailbox_takes_no_more_until_something_was_delivered<S: ServerShell>() {
    let world = World::<S>::with(|options| options.hub.limits.mailbox_messages = 2);
    let mut ann = Session::register(world.address(), Encoding::Protobuf, "ann");
    let mut bob = Session::register(world.address(), Encoding::Json, "bob");
    meet(&mut [&mut ann, &mut bob]);
    let stream = ann.locate(mailbox("bob")).stream;
    for id in 1..=2 {
        ann.post_to(mailbox("bob"), stream, id, "text");
    }
    let post = ann.to_post(mailbox("bob"), stream, 3, "text");
    assert_eq!(ann.refused(post.clone()).code, pb::ErrorCode::QuotaExceeded as i32);
    assert_eq!(ann.post_to(mailbox("bob"), stream, 2, "text").seq, 2, "it is there");
    bob.subscribe_to(mailbox("bob"), MY_CURSOR);
    bob.until_live();
    bob.done(request::What::Report(pb::Report { stream: mailbox("bob"), delivered: 1, seen: 0 }));
    // The position is written within a second or two.
    let stored = loop {
        match ann.ask(post.clone()) {
            reply::What::Stored(stored) => break stored,
            reply::What::Error(error) => assert_eq!(error.code, pb::ErrorCode::QuotaExceeded as i32),
            _ => panic!("another reply"),
        }
    };
    assert_eq!(stored.seq, 3);
}

fn a_sender_sees_who_has_its_message<S: ServerShell>() {
    let world = World::<S>::start();
    let mut ann = Session::register(world.address(), Encoding::Protobuf, "ann");
    let mut bob = Session::register(world.address(), Encoding::Json, "bob");
    meet(&mut [&mut ann, &mut bob]);
    let name = || mailbox("bob/m/s");
    ann.done(request::What::WatchReceipts(pb::WatchReceipts { stream: name(), on: true }));
    let stream = ann.locate(name()).stream;
    bob.post_to(name(), stream, 1, "a note to myself");
    let seq = ann.post_to(name(), stream, 1, "text").seq;
    bob.subscribe_to(mine(pb::OwnMailbox::Session), MY_CURSOR);
    bob.until_live();
    bob.done(request::What::Report(pb::Report { stream: name(), delivered: seq, seen: seq }));
    let position = loop {
        if let Kind::Event(pb::Event { what: Some(event::What::ReceiptsMoved(moved)) }) = ann.told() {
            break moved.readers.into_iter().next().unwrap();
        }
    };
    assert_eq!((position.delivered, position.seen), (seq, seq));
    let reply::What::Receipts(list) = ann.ask(request::What::Receipts(pb::Receipts { stream: name(), seq }))
    else {
        panic!("receipts")
    };
    assert_eq!(list.receipts[0].state, pb::ReceiptState::Seen as i32);
    let error = ann.refused(request::What::Receipts(pb::Receipts { stream: name(), seq: seq - 1 }));
    assert_eq!(error.code, pb::ErrorCode::NotFound as i32);
}

fn an_expired_message_is_a_gap<S: ServerShell>() {
    let world = World::<S>::start();
    let mut ann = Session::register(world.address(), Encoding::Json, "ann");
    let stream = ann.locate(mailbox("ann")).stream;
    let request::What::Post(mut post) = ann.to_post(mailbox("ann"), stream, 1, "text") else { panic!() };
    post.lifetime_ms = 1;
    let reply::What::Stored(stored) = ann.ask(request::What::Post(post)) else { panic!("not stored") };
    // Its millisecond is over when the server's clock shows another.
    let mut id = 2;
    while ann.post_to(mailbox("ann"), stream, id, "text").stamp_ms <= stored.stamp_ms + 1 {
        id += 1;
    }
    ann.subscribe_to(mailbox("ann"), subscribe::From::After(0));
    match ann.told() {
        Kind::Gap(gap) => assert_eq!((gap.stream, gap.from, gap.to), (stream, 1, 1)),
        _ => panic!("no gap"),
    }
}

fn a_removed_user_takes_its_mailboxes_along<S: ServerShell>() {
    let mut world = World::<S>::start();
    let mut root = Session::register(world.address(), Encoding::Json, "root");
    let mut bob = Session::register(world.address(), Encoding::Json, "bob");
    meet(&mut [&mut root, &mut bob]);
    let stream = root.locate(mailbox("bob")).stream;
    root.post_to(mailbox("bob"), stream, 1, "text");
    root.done(request::What::RemoveUser(pb::RemoveUser { user: "bob".into() }));
    world.restart(|_| {});
    let mut bob = Session::register(world.address(), Encoding::Protobuf, "bob");
    let subscribed = bob.subscribe_to(mine(pb::OwnMailbox::User), MY_CURSOR);
    assert!(subscribed.stream > stream && subscribed.last == 0);
}
