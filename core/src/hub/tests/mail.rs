//! Mailboxes: who is away still gets it, and nobody else learns of it.

use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::streams::{again_v2, ask, drain_queues, join_v2, start, stored, told};
use super::world::{World, proven};
use crate::body;
use crate::handshake::{Format, Terms};
use crate::hub::{Config, ConnId, Input, Limits};
use crate::name::{ChannelName, UserName};
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::{Limit, Refusal, Reply};
use crate::record::ChannelId;
use crate::stream::{
    ContactChange, MailboxRef, MessageId, PageFrom, ReceiptState, Signed, Standing, Start, StreamCommand,
    StreamRef, StreamReply,
};

const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// A mailbox: `-` is one's own, `.` one's session's, otherwise a user or a session.
pub(super) fn to(name: &str) -> StreamRef {
    StreamRef::Mailbox(match name {
        "-" => MailboxRef::Mine,
        "." => MailboxRef::MySession,
        path if path.contains('/') => MailboxRef::Session(Box::new(path.parse().unwrap())),
        user => MailboxRef::User(UserName::new(user).unwrap()),
    })
}

fn post(stream: StreamRef, id: u8, text: &str) -> StreamCommand {
    let signed = Signed { id: MessageId([id; 16]), signature: Opaque([id; 64]), acknowledge: false };
    StreamCommand::Post {
        stream,
        payload: Payload::Body(body::of_text(text)),
        signed: Arc::new(signed),
        lifetime: None,
    }
}

fn mail(world: &mut World, conn: ConnId, name: &str, id: u8) -> Reply {
    ask(world, conn, post(to(name), id, "hello"))
}

fn open(world: &mut World, conn: ConnId, name: &str, from: Start) -> Reply {
    let reply = ask(world, conn, StreamCommand::Subscribe { stream: to(name), from, invite: None });
    drain_queues(world);
    reply
}

fn contact(world: &mut World, conn: ConnId, user: &str, change: ContactChange) -> Reply {
    ask(world, conn, StreamCommand::SetContact { user: UserName::new(user).unwrap(), change })
}

fn place(reply: &Reply) -> (ChannelId, u64, bool) {
    match reply {
        Reply::Stream(StreamReply::Stored { stream, stamp, present }) => (*stream, stamp.seq, *present),
        other => panic!("{other:?}"),
    }
}

fn refusal(reply: Reply) -> Refusal {
    match reply {
        Reply::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

/// A user whose sessions are kept, and who is in the channel `c`.
fn joins(world: &mut World, user: &str) -> ConnId {
    let conn = join_v2(world, user, true);
    let stream = StreamRef::Channel(ChannelName::new("c").unwrap());
    ask(world, conn, StreamCommand::Subscribe { stream, from: Start::Latest, invite: None });
    told(world, conn);
    conn
}

/// Another session of the user's machine.
fn another(world: &mut World, user: &str, handle: &str, format: Format, keep: bool) -> ConnId {
    let mut proven = proven(user, "m", handle, false);
    proven.terms = Terms { format, keep };
    let conn = world.connect(proven);
    world.settle();
    assert!(world.lives(conn));
    conn
}

/// A world with the public channel `c`, and `bea` and `cyn` in it.
fn world_with(change: impl FnOnce(&mut Limits)) -> (World, ConnId, ConnId) {
    let mut config = Config { retention: Some(WEEK), ..Config::default() };
    config.admins.insert(UserName::new("root").unwrap(), None);
    config.limits = Limits::default().without_rates();
    change(&mut config.limits);
    let mut world = World::over(config, Default::default());
    let ann = world.register("ann");
    world.must(ann, "create public c");
    let (bea, cyn) = (joins(&mut world, "bea"), joins(&mut world, "cyn"));
    (world, bea, cyn)
}

fn world() -> (World, ConnId, ConnId) {
    world_with(|_| {})
}

/// Moves the session's reader in its mailbox, and has the position written.
fn report(world: &mut World, conn: ConnId, name: &str, delivered: u64, seen: u64) {
    let reply = ask(world, conn, StreamCommand::Report { stream: to(name), delivered, seen });
    assert!(matches!(reply, Reply::Stream(StreamReply::Done)), "{reply:?}");
    world.pass(Duration::from_secs(1));
    world.settle();
}

#[test]
fn who_is_away_finds_its_messages_when_it_comes() {
    let (mut world, bea, cyn) = world();
    world.close(bea);
    let (user, seq, present) = place(&mail(&mut world, cyn, "bea", 1));
    assert_eq!((seq, present), (1, false));
    let (session, seq, present) = place(&mail(&mut world, cyn, "bea/m/s", 2));
    assert_eq!((seq, present), (1, false));
    assert_ne!(user, session, "a kept session has a mailbox of its own");
    let mut world = world.restart();
    let bea = again_v2(&mut world, "bea");
    for name in ["-", "bea", ".", "bea/m/s"] {
        open(&mut world, bea, name, Start::Cursor);
        assert_eq!(told(&mut world, bea), ["1", "live 1"], "{name}");
    }
    let cyn = again_v2(&mut world, "cyn");
    assert_eq!(place(&mail(&mut world, cyn, "bea", 3)), (user, 2, true));
    assert_eq!(world.received(bea), ["bea cyn/m/s: hello"]);
}

#[test]
fn every_session_reads_its_users_mailbox_and_only_one_its_own() {
    let (mut world, bea, cyn) = world();
    mail(&mut world, cyn, "bea", 1);
    let (session, ..) = place(&mail(&mut world, cyn, "bea/m/s", 2));
    let second = another(&mut world, "bea", "second", Format::V2, true);
    open(&mut world, second, "-", Start::After(0));
    assert_eq!(told(&mut world, second), ["1", "live 1"]);
    for name in [to("bea/m/s"), StreamRef::Number(session)] {
        let subscribe = StreamCommand::Subscribe { stream: name.clone(), from: Start::Latest, invite: None };
        assert_eq!(refusal(ask(&mut world, second, subscribe)), Refusal::NoMailbox);
        let read = StreamCommand::Read { stream: name.clone(), from: PageFrom::After(0), limit: 0 };
        assert_eq!(refusal(ask(&mut world, second, read)), Refusal::NoMailbox);
        // But it writes there, as to everything of its own.
        place(&ask(&mut world, second, post(name, 3, "to myself")));
    }
    let unkept = another(&mut world, "bea", "third", Format::V2, false);
    assert_eq!(refusal(open(&mut world, unkept, ".", Start::Latest)), Refusal::NotKept);
    let read = StreamCommand::Read { stream: to("."), from: PageFrom::After(0), limit: 0 };
    assert_eq!(refusal(ask(&mut world, bea, read)), Refusal::MailboxNotSubscribed);
}

/// Every request about a mailbox, for whoever must learn nothing of it.
fn everything(name: &StreamRef) -> Vec<StreamCommand> {
    let stream = name.clone();
    let mut all = alloc::vec![
        StreamCommand::Locate { stream: stream.clone() },
        StreamCommand::Read { stream: stream.clone(), from: PageFrom::After(0), limit: 0 },
        StreamCommand::Report { stream: stream.clone(), delivered: 1, seen: 1 },
        StreamCommand::Acknowledge { stream: stream.clone(), seq: 1, word: Opaque(String::new()) },
        StreamCommand::Receipts { stream: stream.clone(), seq: 1 },
        StreamCommand::WatchReceipts { stream: stream.clone(), on: true },
        StreamCommand::WatchReceipts { stream: stream.clone(), on: false },
        post(stream.clone(), 9, "let me in"),
    ];
    for from in [Start::Latest, Start::After(0), Start::Cursor] {
        all.push(StreamCommand::Subscribe { stream: stream.clone(), from, invite: None });
    }
    all
}

#[test]
fn to_who_may_not_write_there_is_no_mailbox() {
    let (mut world, bea, cyn) = world();
    let (number, ..) = place(&mail(&mut world, cyn, "bea", 1));
    mail(&mut world, cyn, "bea/m/s", 2);
    mail(&mut world, bea, "cyn", 1);
    let dan = join_v2(&mut world, "dan", true);
    let eve = joins(&mut world, "eve");
    contact(&mut world, bea, "eve", ContactChange::Block);
    let streams = world.hub.directory().next_channel();
    for who in [dan, eve] {
        for name in ["bea", "bea/m/s", "bea/m/none", "bea/none/s", "nobody", "nobody/m/s"] {
            for command in everything(&to(name)) {
                let kind = command.kind();
                assert_eq!(refusal(ask(&mut world, who, command)), Refusal::NoMailbox, "{name}: {kind}");
            }
        }
        for number in [number, ChannelId(number.0 + 1), ChannelId(99)] {
            for command in everything(&StreamRef::Number(number)) {
                let kind = command.kind();
                assert_eq!(refusal(ask(&mut world, who, command)), Refusal::NoStream, "{number:?}: {kind}");
            }
        }
    }
    assert_eq!(world.hub.directory().next_channel(), streams, "nothing was made for them");
    // Whoever may write learns no more of sessions that are not there.
    assert_eq!(refusal(mail(&mut world, cyn, "bea/m/none", 3)), Refusal::NoMailbox);
}

#[test]
fn contacts_say_who_writes() {
    let (mut world, bea, cyn) = world();
    let dan = join_v2(&mut world, "dan", true);
    use ContactChange::{Allow, Block, Disallow, Unblock};
    for (change, cyn_may, dan_may) in [
        (None, true, false),
        (Some(Allow), true, true),
        (Some(Unblock), true, true),
        (Some(Disallow), true, false),
        (Some(Block), false, false),
        (Some(Disallow), false, false),
        (Some(Unblock), true, false),
        (Some(Block), false, false),
        (Some(Allow), true, true),
    ] {
        for user in ["cyn", "dan"] {
            if let Some(change) = change {
                contact(&mut world, bea, user, change);
            }
        }
        let mut id = 0;
        for (who, may) in [(cyn, cyn_may), (dan, dan_may)] {
            id += 1;
            let reply = mail(&mut world, who, "bea", id);
            assert_eq!(matches!(reply, Reply::Stream(_)), may, "{change:?}: {reply:?}");
        }
    }
    let Reply::Stream(StreamReply::Contacts(contacts)) = ask(&mut world, bea, StreamCommand::ListContacts)
    else {
        panic!("no contacts")
    };
    let contacts: Vec<_> = contacts.iter().map(|it| (it.name.as_str(), it.standing)).collect();
    assert_eq!(contacts, [("cyn", Standing::Allowed), ("dan", Standing::Allowed)]);
    assert!(matches!(refusal(contact(&mut world, bea, "bea", Block)), Refusal::InvalidField(_)));
    assert!(matches!(refusal(contact(&mut world, bea, "zoe", Allow)), Refusal::NoUser(_)));
}

#[test]
fn keys_are_shown_by_who_allowed_one_and_by_who_wrote() {
    let (mut world, bea, _) = world();
    let dan = join_v2(&mut world, "dan", true);
    let keys = |user: &str| StreamCommand::Keys { user: UserName::new(user).unwrap() };
    let may = |reply: Reply| matches!(reply, Reply::Stream(StreamReply::Keys { .. }));
    assert!(!may(ask(&mut world, bea, keys("dan"))) && !may(ask(&mut world, dan, keys("bea"))));
    contact(&mut world, bea, "dan", ContactChange::Allow);
    assert!(may(ask(&mut world, dan, keys("bea"))), "who was allowed may know whom it writes to");
    assert!(!may(ask(&mut world, bea, keys("dan"))), "nobody is laid open by being allowed");
    place(&mail(&mut world, dan, "bea/m/s", 1));
    assert!(may(ask(&mut world, bea, keys("dan"))), "who writes is known");
    let mut world = world.restart();
    let bea = again_v2(&mut world, "bea");
    assert!(may(ask(&mut world, bea, keys("dan"))));
    contact(&mut world, bea, "dan", ContactChange::Block);
    assert!(!may(ask(&mut world, bea, keys("dan"))));
}

#[test]
fn contacts_are_bounded() {
    let (mut world, bea, _) = world_with(|limits| limits.contacts_per_user = 1);
    contact(&mut world, bea, "cyn", ContactChange::Block);
    let full = Refusal::Full { limit: Limit::UserContacts, most: 1 };
    assert_eq!(refusal(contact(&mut world, bea, "ann", ContactChange::Allow)), full);
    contact(&mut world, bea, "cyn", ContactChange::Allow);
    contact(&mut world, bea, "cyn", ContactChange::Disallow);
    contact(&mut world, bea, "ann", ContactChange::Allow);
}

#[test]
fn a_block_stops_whispers_of_version_1_as_if_nobody_were_there() {
    let (mut world, bea, _) = world();
    let dan = world.register("dan");
    world.must(dan, "whisper bea/m/s psst");
    contact(&mut world, bea, "dan", ContactChange::Block);
    let refused = world.ask(dan, "whisper bea/m/s psst");
    assert_eq!(refused, world.ask(dan, "whisper bea/m/x psst").replace("/x'", "/s'"));
    assert_eq!(world.received(bea).len(), 1);
    contact(&mut world, bea, "dan", ContactChange::Unblock);
    world.must(dan, "whisper bea/m/s psst");
}

#[test]
fn who_was_in_the_same_channel_may_write_to_who_is_away() {
    let (mut world, bea, cyn) = world();
    world.settle();
    world.close(bea);
    place(&mail(&mut world, cyn, "bea", 1));
    // Not to who was thrown out.
    let ann = world.open("ann/m/s");
    world.must(ann, "ban c bea");
    assert_eq!(refusal(mail(&mut world, cyn, "bea", 2)), Refusal::NoMailbox);
    world.must(ann, "unban c bea");
    place(&mail(&mut world, cyn, "bea", 2));
    world.must(ann, "set private c");
    assert_eq!(refusal(mail(&mut world, cyn, "bea", 3)), Refusal::NoMailbox);
    world.must(ann, "add c bea");
    // Who is no member was out when it became private.
    assert_eq!(refusal(mail(&mut world, cyn, "bea", 3)), Refusal::NoMailbox);
    world.must(ann, "add c cyn");
    place(&mail(&mut world, cyn, "bea", 3));
}

#[test]
fn who_leaves_at_once_was_in_the_channel_all_the_same() {
    let (mut world, bea, cyn) = world();
    let dan = join_v2(&mut world, "dan", true);
    world.must(bea, "create public d");
    let stream = || StreamRef::Channel(ChannelName::new("d").unwrap());
    for conn in [cyn, dan] {
        start(
            &mut world,
            conn,
            StreamCommand::Subscribe { stream: stream(), from: Start::Latest, invite: None },
        );
    }
    world.close(dan);
    let request = start(&mut world, cyn, post(to("dan"), 1, "x"));
    world.settle();
    place(&world.raw_reply(cyn, request).unwrap());
    place(&mail(&mut world, cyn, "dan", 2));
}

#[test]
fn a_full_mailbox_takes_no_more_until_something_was_delivered() {
    let (mut world, bea, cyn) = world_with(|limits| limits.mailbox_messages = 2);
    // What is on its way counts.
    let requests: Vec<_> = (1..=3).map(|id| start(&mut world, cyn, post(to("bea"), id, "x"))).collect();
    world.settle();
    let replies: Vec<_> = requests.iter().map(|it| world.raw_reply(cyn, *it).unwrap()).collect();
    let full = Refusal::MailboxFull { limit: Limit::MailboxMessages, most: 2 };
    assert_eq!(refusal(replies[2].clone()), full);
    let again = mail(&mut world, cyn, "bea", 2);
    assert_eq!(stored(&again), stored(&replies[1]), "who sends again what is there learns that it is");
    let mut world = world.restart();
    let (bea2, cyn) = (again_v2(&mut world, "bea"), again_v2(&mut world, "cyn"));
    assert_ne!(bea, bea2);
    assert_eq!(refusal(mail(&mut world, cyn, "bea", 3)), full);
    place(&mail(&mut world, cyn, "bea/m/s", 3));
    open(&mut world, bea2, "-", Start::Cursor);
    report(&mut world, bea2, "-", 1, 0);
    assert_eq!(place(&mail(&mut world, cyn, "bea", 3)).1, 3);
    assert_eq!(refusal(mail(&mut world, cyn, "bea", 4)), full);
}

#[test]
fn a_mailbox_is_bounded_in_bytes_and_takes_one_message_of_any_size() {
    let (mut world, _, cyn) = world_with(|limits| limits.mailbox_bytes = 100);
    place(&ask(&mut world, cyn, post(to("bea"), 1, &"x".repeat(500))));
    let full = Refusal::MailboxFull { limit: Limit::MailboxBytes, most: 100 };
    assert_eq!(refusal(mail(&mut world, cyn, "bea", 2)), full);
    for id in 0..9 {
        place(&mail(&mut world, cyn, "bea/m/s", id));
    }
    assert_eq!(refusal(ask(&mut world, cyn, post(to("bea/m/s"), 10, &"x".repeat(50)))), full);
}

#[test]
fn what_nobody_can_read_any_more_makes_room() {
    let (mut world, _, cyn) = world_with(|limits| limits.mailbox_messages = 2);
    let StreamCommand::Post { stream, payload, signed, .. } = post(to("bea"), 1, "x") else { panic!() };
    let lifetime = Some(Duration::from_secs(10));
    place(&ask(&mut world, cyn, StreamCommand::Post { stream, payload, signed, lifetime }));
    place(&mail(&mut world, cyn, "bea", 2));
    world.pass(Duration::from_secs(9));
    assert!(matches!(refusal(mail(&mut world, cyn, "bea", 3)), Refusal::MailboxFull { .. }));
    world.pass(Duration::from_secs(1));
    let cyn = again_v2(&mut world, "cyn");
    place(&mail(&mut world, cyn, "bea", 3));
    assert!(matches!(refusal(mail(&mut world, cyn, "bea", 4)), Refusal::MailboxFull { .. }));
    world.pass(WEEK);
    let cyn = again_v2(&mut world, "cyn");
    place(&mail(&mut world, cyn, "bea", 4));
    place(&mail(&mut world, cyn, "bea", 5));
}

#[test]
fn an_expired_message_is_delivered_to_nobody_and_named() {
    let (mut world, bea, cyn) = world();
    open(&mut world, bea, "-", Start::Cursor);
    for (id, seconds) in [(1, 0), (2, 5), (3, 0), (4, 5), (5, 5)] {
        let StreamCommand::Post { stream, payload, signed, .. } = post(to("bea"), id, "x") else { panic!() };
        let lifetime = (seconds > 0).then(|| Duration::from_secs(seconds));
        place(&ask(&mut world, cyn, StreamCommand::Post { stream, payload, signed, lifetime }));
    }
    assert_eq!(world.received(bea).len(), 5, "who is there has it");
    told(&mut world, bea);
    world.pass(Duration::from_secs(5));
    open(&mut world, bea, "-", Start::After(0));
    assert_eq!(told(&mut world, bea), ["1", "gap 2-2", "3", "gap 4-5", "live 5"]);
    for (from, limit, expected) in [
        (PageFrom::After(0), 0, "[1, 3] false"),
        (PageFrom::After(3), 1, "[] false"),
        (PageFrom::Before(6), 1, "[3] true"),
        (PageFrom::After(1), 1, "[3] true"),
    ] {
        let request = start(&mut world, bea, StreamCommand::Read { stream: to("-"), from, limit });
        drain_queues(&mut world);
        let Some(Reply::Stream(StreamReply::Page { messages, more, .. })) = world.raw_reply(bea, request)
        else {
            panic!("no page")
        };
        let seqs: Vec<u64> = messages.iter().map(|message| message.seq).collect();
        assert_eq!(alloc::format!("{seqs:?} {more}"), expected, "{from:?}");
    }
}

fn receipts(world: &mut World, conn: ConnId, name: &str, seq: u64) -> Result<Vec<ReceiptState>, Refusal> {
    let request = start(world, conn, StreamCommand::Receipts { stream: to(name), seq });
    drain_queues(world);
    match world.raw_reply(conn, request).expect("an answer") {
        Reply::Stream(StreamReply::Receipts { readers, .. }) => {
            Ok(readers.into_iter().map(|it| it.state).collect())
        }
        other => Err(refusal(other)),
    }
}

#[test]
fn a_sender_sees_who_has_its_own_messages_and_nothing_of_others() {
    let (mut world, bea, cyn) = world();
    let dan = joins(&mut world, "dan");
    for conn in [cyn, dan] {
        ask(&mut world, conn, StreamCommand::WatchReceipts { stream: to("bea/m/s"), on: true });
    }
    for (who, id) in [(cyn, 1), (dan, 1), (cyn, 2), (dan, 2)] {
        mail(&mut world, who, "bea/m/s", id);
    }
    open(&mut world, bea, ".", Start::Cursor);
    report(&mut world, bea, ".", 3, 1);
    assert_eq!(told(&mut world, cyn), ["bea/m/s 0/3/1"]);
    assert_eq!(told(&mut world, dan), ["bea/m/s 0/2/0"]);
    report(&mut world, bea, ".", 3, 3);
    assert_eq!(told(&mut world, cyn), ["bea/m/s 0/3/3"]);
    assert_eq!(told(&mut world, dan), ["bea/m/s 0/2/2"]);
    report(&mut world, bea, ".", 4, 3);
    assert!(told(&mut world, cyn).is_empty(), "another's message is none of its business");
    assert_eq!(told(&mut world, dan), ["bea/m/s 0/4/2"]);
    for (seq, own) in [(1, Some(ReceiptState::Seen)), (2, None), (3, Some(ReceiptState::Seen)), (4, None)] {
        let expected = own.map(|state| alloc::vec![state]).ok_or(Refusal::NoMessage(seq));
        assert_eq!(receipts(&mut world, cyn, "bea/m/s", seq), expected);
    }
    assert_eq!(receipts(&mut world, cyn, "bea/m/s", 5), Err(Refusal::NoMessage(5)));
    assert_eq!(receipts(&mut world, cyn, "bea/m/s", 0), Err(Refusal::NoMessage(0)));
    assert_eq!(receipts(&mut world, cyn, "bea", 1), Err(Refusal::NoMessage(1)), "nothing was ever there");
    // The reader asks about everybody's, and an acknowledgement goes to whom it concerns.
    assert_eq!(receipts(&mut world, bea, ".", 2), Ok(alloc::vec![ReceiptState::Seen]));
    let word = Opaque("yes".to_string());
    ask(&mut world, bea, StreamCommand::Acknowledge { stream: to("."), seq: 4, word });
    world.pass(Duration::from_millis(100));
    world.settle();
    assert_eq!(told(&mut world, dan).len(), 1);
    assert!(told(&mut world, cyn).is_empty());
    // Nor after a block.
    contact(&mut world, bea, "dan", ContactChange::Block);
    let word = Opaque("no".to_string());
    ask(&mut world, bea, StreamCommand::Acknowledge { stream: to("."), seq: 2, word });
    world.pass(Duration::from_millis(100));
    world.settle();
    assert!(told(&mut world, dan).is_empty());
}

#[test]
fn a_message_to_a_session_that_is_not_kept_goes_to_its_user() {
    let (mut world, bea, cyn) = world();
    let unkept = another(&mut world, "bea", "new", Format::V2, false);
    let (number, ..) = place(&mail(&mut world, cyn, "bea/m/new", 1));
    assert_eq!(place(&mail(&mut world, cyn, "bea", 2)).0, number);
    world.close(unkept);
    assert_eq!(refusal(mail(&mut world, cyn, "bea/m/new", 3)), Refusal::NoMailbox);
    open(&mut world, bea, "-", Start::Cursor);
    assert_eq!(told(&mut world, bea), ["1", "2", "live 2"]);
}

#[test]
fn a_session_of_version_1_that_is_meant_is_whispered_to_as_well() {
    let (mut world, bea, cyn) = world();
    let old = another(&mut world, "bea", "old", Format::V1, false);
    let (number, _, present) = place(&mail(&mut world, cyn, "bea/m/old", 1));
    assert!(present);
    assert_eq!(world.received(old), ["whisper cyn/m/s to bea/m/old: hello"]);
    // Not a second time for the same message, nor for what is not for it.
    let request = start(&mut world, cyn, post(to("bea/m/old"), 1, "hello"));
    assert!(world.seal());
    world.already_stored(&[(0, crate::record::Stamp { seq: 1, ts: world.now.wall })]);
    assert!(world.raw_reply(cyn, request).is_some());
    assert!(!place(&mail(&mut world, cyn, "bea", 2)).2);
    assert!(world.received(old).is_empty());
    open(&mut world, bea, "-", Start::Cursor);
    assert_eq!(told(&mut world, bea), ["1", "2", "live 2"]);
    assert_eq!(world.hub.directory().mailbox(number).unwrap().last.seq, 2);
}

#[test]
fn who_takes_a_freed_name_inherits_nothing() {
    let (mut world, bea, cyn) = world();
    let root = world.register("root");
    let (user, ..) = place(&mail(&mut world, cyn, "bea", 1));
    let (session, ..) = place(&mail(&mut world, cyn, "bea/m/s", 2));
    contact(&mut world, bea, "cyn", ContactChange::Block);
    contact(&mut world, cyn, "bea", ContactChange::Block);
    world.must(root, "expel bea");
    for gone in [user, session] {
        assert!(world.hub.directory().mailbox(gone).is_none());
    }
    assert_eq!(world.hub.directory().contacts().count(), 0);
    let bea = joins(&mut world, "bea");
    for name in ["-", "."] {
        let Reply::Stream(StreamReply::Subscribed { stream, after: 0, last: 0 }) =
            open(&mut world, bea, name, Start::Cursor)
        else {
            panic!("not new")
        };
        assert!(stream > session && stream > user);
    }
    place(&mail(&mut world, cyn, "bea", 3));
    place(&mail(&mut world, bea, "cyn", 3));
}

#[test]
fn a_removed_machine_takes_its_mailboxes_along() {
    let (mut world, bea, cyn) = world();
    world.must(bea, "enrol two of bea");
    let mut proven = proven("bea", "two", "s", false);
    proven.terms = Terms { format: Format::V2, keep: true };
    let two = world.connect(proven);
    world.settle();
    assert!(world.lives(two));
    ask(&mut world, cyn, StreamCommand::WatchReceipts { stream: to("bea/two/s"), on: true });
    let (gone, ..) = place(&mail(&mut world, cyn, "bea/two/s", 1));
    let (stays, ..) = place(&mail(&mut world, cyn, "bea", 1));
    world.must(bea, "retire two");
    assert!(world.hub.directory().mailbox(gone).is_none());
    assert!(world.hub.directory().mailbox(stays).is_some());
    assert_eq!(refusal(mail(&mut world, cyn, "bea/two/s", 2)), Refusal::NoMailbox);
}

#[test]
fn a_mailbox_that_could_not_be_made_is_made_later() {
    let (mut world, _, cyn) = world();
    let first = start(&mut world, cyn, post(to("bea"), 1, "x"));
    let second = start(&mut world, cyn, post(to("bea"), 2, "y"));
    assert!(world.seal());
    world.fail();
    world.settle();
    assert!(matches!(world.raw_reply(cyn, first), Some(Reply::Refused(Refusal::NotStored { .. }))));
    assert_eq!(place(&world.raw_reply(cyn, second).unwrap()).1, 1);
    assert_eq!(place(&mail(&mut world, cyn, "bea", 1)).1, 2);
}

#[test]
fn posts_of_one_session_keep_their_order_though_the_first_makes_the_mailbox() {
    let (mut world, bea, cyn) = world();
    let requests: Vec<_> = (1..=5).map(|id| start(&mut world, cyn, post(to("bea"), id, "x"))).collect();
    world.settle();
    let seqs: Vec<u64> = requests.iter().map(|it| place(&world.raw_reply(cyn, *it).unwrap()).1).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
    world.close(cyn);
    let request = start(&mut world, bea, post(to("cyn"), 1, "x"));
    world.handle(Input::Closed { conn: bea });
    world.settle();
    assert_eq!(world.raw_reply(bea, request), None, "who is gone is not answered");
}

#[test]
fn a_stream_is_located_before_something_is_signed_for_it() {
    let (mut world, bea, cyn) = world();
    let streams = world.hub.directory().next_channel();
    assert_eq!(refusal(open(&mut world, cyn, "bea", Start::Latest)), Refusal::NoMailbox);
    assert_eq!(world.hub.directory().next_channel(), streams, "who may not read it makes no mailbox");
    let locate = |stream| StreamCommand::Locate { stream };
    let Reply::Stream(StreamReply::Located { stream, present: false }) =
        ask(&mut world, cyn, locate(to("bea")))
    else {
        panic!("not found")
    };
    assert_eq!(place(&ask(&mut world, cyn, post(StreamRef::Number(stream), 1, "x"))), (stream, 1, false));
    open(&mut world, bea, "-", Start::Cursor);
    let found = ask(&mut world, cyn, locate(to("bea")));
    assert!(matches!(found, Reply::Stream(StreamReply::Located { present: true, .. })), "{found:?}");
}
