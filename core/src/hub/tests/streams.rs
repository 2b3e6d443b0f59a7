//! Streams: subscriptions from a position, posts with ids, sessions that fall behind.

use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::world::{World, proven};
use crate::body;
use crate::handshake::{Format, Terms};
use crate::hub::{ConnId, Input, Purpose, RequestId};
use crate::name::ChannelName;
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::{CloseReason, Command, Refusal, Reply};
use crate::record::{ChannelId, Stamp};
use crate::stream::{
    EndReason, MessageId, Notice, PageFrom, Signed, Start, StreamCommand, StreamRef, StreamReply,
};

const C: ChannelId = ChannelId(0);

pub(super) fn c() -> StreamRef {
    StreamRef::Channel(ChannelName::new("c").unwrap())
}

/// A world with the public channel `c`, made by `ann` over version 1.
pub(super) fn world() -> (World, ConnId) {
    let mut world = World::new();
    let ann = world.register("ann");
    world.must(ann, "create public c");
    world.must(ann, "join c");
    (world, ann)
}

/// A session of version 2 of a user who is registered by it.
pub(super) fn join_v2(world: &mut World, user: &str, keep: bool) -> ConnId {
    let mut proven = proven(user, "m", "s", true);
    proven.terms = Terms { format: Format::V2, keep };
    let conn = world.connect(proven);
    world.settle();
    assert!(world.lives(conn), "{user} is in");
    conn
}

pub(super) fn again_v2(world: &mut World, user: &str) -> ConnId {
    let mut proven = proven(user, "m", "s", false);
    proven.terms = Terms { format: Format::V2, keep: true };
    let conn = world.connect(proven);
    world.settle();
    conn
}

pub(super) fn ask(world: &mut World, conn: ConnId, command: StreamCommand) -> Reply {
    let request = start(world, conn, command);
    world.settle();
    world.raw_reply(conn, request).expect("an answer")
}

pub(super) fn start(world: &mut World, conn: ConnId, command: StreamCommand) -> RequestId {
    world.submit_command(conn, Command::Stream(command))
}

pub(super) fn subscribe(world: &mut World, conn: ConnId, from: Start) -> Reply {
    ask(world, conn, StreamCommand::Subscribe { stream: c(), from, invite: None })
}

pub(super) fn post(id: u8, text: &str) -> StreamCommand {
    StreamCommand::Post {
        stream: c(),
        payload: Payload::Body(body::of_text(text)),
        signed: Arc::new(Signed { id: MessageId([id; 16]), signature: Opaque([id; 64]), acknowledge: false }),
        lifetime: None,
    }
}

pub(super) fn stored(reply: &Reply) -> Stamp {
    match reply {
        Reply::Stream(StreamReply::Stored { stamp, .. }) => *stamp,
        other => panic!("{other:?}"),
    }
}

/// What a session was delivered: sequence numbers, and what else it was told.
pub(super) fn told(world: &mut World, conn: ConnId) -> Vec<String> {
    let mut told = Vec::new();
    for notice in world.notices.remove(&conn).unwrap_or_default() {
        match notice {
            Notice::Deliveries { messages, .. } => {
                told.extend(messages.iter().map(|message| message.seq.to_string()));
            }
            Notice::Live { seq, .. } => told.push(alloc::format!("live {seq}")),
            Notice::Gap { from, to, .. } => told.push(alloc::format!("gap {from}-{to}")),
            Notice::Ended { reason, .. } => told.push(alloc::format!("ended {reason:?}")),
            Notice::Renamed { name, .. } => told.push(alloc::format!("renamed {name}")),
            Notice::Sealed(notice) => told.push(alloc::format!("{notice:?}")),
            other @ (Notice::PresenceChanged { .. } | Notice::MachineAdded(_) | Notice::Draining) => {
                told.push(super::comings::show(&other));
            }
            Notice::ReceiptsMoved { readers, .. } => {
                told.extend(readers.iter().map(|it| {
                    let acknowledged =
                        it.acknowledged.as_ref().map(|(seq, _)| alloc::format!(" acknowledged {seq}"));
                    let acknowledged = acknowledged.unwrap_or_default();
                    alloc::format!("{} {}/{}/{}{acknowledged}", it.reader, it.since, it.delivered, it.seen)
                }));
            }
        }
    }
    told
}

/// Lets every queue drain that the hub waits for.
pub(super) fn drain_queues(world: &mut World) {
    loop {
        world.settle();
        let Some(conn) = world.marks.pop_front() else { break };
        world.handle(Input::Ready { conn });
    }
}

#[test]
fn a_subscription_hands_over_from_the_store_to_live() {
    let (mut world, ann) = world();
    for n in 1..=5 {
        world.must(ann, &alloc::format!("post c {n}"));
    }
    let bea = join_v2(&mut world, "bea", false);
    let reply = subscribe(&mut world, bea, Start::After(2));
    assert!(matches!(reply, Reply::Stream(StreamReply::Subscribed { after: 2, last: 5, .. })), "{reply:?}");
    assert_eq!(told(&mut world, bea), ["3", "4", "5", "live 5"]);
    world.must(ann, "post c 6");
    assert_eq!(world.received(bea).len(), 1, "what comes after is delivered as it is posted");
}

#[test]
fn posts_that_come_during_the_hand_over_are_neither_lost_nor_doubled() {
    let (mut world, ann) = world();
    world.must(ann, "post c 1");
    let bea = join_v2(&mut world, "bea", false);
    let request =
        start(&mut world, bea, StreamCommand::Subscribe { stream: c(), from: Start::After(0), invite: None });
    assert!(world.raw_reply(bea, request).is_some(), "the reply goes before the deliveries");
    // The page is read before the next post, and arrives after it.
    let wanted = world.take_read();
    let page = world.page(&wanted);
    world.must(ann, "post c 2");
    assert!(world.received(bea).is_empty(), "it is behind: nothing is delivered live");
    world.answer(&wanted, Ok(page));
    drain_queues(&mut world);
    assert_eq!(told(&mut world, bea), ["1", "2", "live 2"]);
    world.must(ann, "post c 3");
    assert_eq!(world.received(bea).len(), 1);
}

#[test]
fn what_the_store_no_longer_has_is_named() {
    let (mut world, ann) = world();
    for n in 1..=6 {
        world.must(ann, &alloc::format!("post c {n}"));
    }
    world.purge(|stamp| stamp.seq <= 2 || stamp.seq == 4);
    let bea = join_v2(&mut world, "bea", false);
    subscribe(&mut world, bea, Start::After(0));
    assert_eq!(told(&mut world, bea), ["gap 1-2", "3", "gap 4-4", "5", "6", "live 6"]);
    world.purge(|_| true);
    let cyn = join_v2(&mut world, "cyn", false);
    subscribe(&mut world, cyn, Start::After(3));
    assert_eq!(told(&mut world, cyn), ["gap 4-6", "live 6"]);
}

#[test]
fn a_session_that_falls_behind_reads_the_store_and_comes_back() {
    let (mut world, ann) = world();
    let bea = join_v2(&mut world, "bea", false);
    subscribe(&mut world, bea, Start::Latest);
    assert_eq!(told(&mut world, bea), ["live 0"]);
    for n in 1..=4 {
        world.must(ann, &alloc::format!("post c {n}"));
    }
    world.received(bea);
    // Its queue refused message 2 and what followed.
    world.handle(Input::Lagged { conn: bea, channel: C, seq: 2 });
    world.settle();
    assert!(told(&mut world, bea).is_empty(), "nothing is read before the queue has room");
    world.must(ann, "post c 5");
    assert!(world.received(bea).is_empty());
    drain_queues(&mut world);
    assert_eq!(told(&mut world, bea), ["2", "3", "4", "5", "live 5"]);
    assert!(world.lives(bea), "slow is no error");
}

#[test]
fn a_peer_that_takes_nothing_is_dropped_and_one_that_takes_little_is_not() {
    let (mut world, ann) = world();
    for (user, takes, lives) in [("bea", 1, true), ("cyn", 0, false)] {
        let conn = join_v2(&mut world, user, false);
        subscribe(&mut world, conn, Start::Latest);
        world.must(ann, "post c x");
        let seq = world.last("c");
        world.handle(Input::Lagged { conn, channel: C, seq });
        let mut taken = 100;
        for _ in 0..3 {
            while let Some(conn) = world.probes.pop_front() {
                world.handle(Input::Progressed { conn, taken });
            }
            for _ in 0..30 {
                world.pass(Duration::from_secs(1));
                for alive in [ann, conn] {
                    if world.lives(alive) {
                        world.submit(alive, "ping");
                    }
                }
                world.settle();
            }
            taken += takes;
        }
        assert_eq!(world.lives(conn), lives, "{user}");
        if !lives {
            assert_eq!(world.reason(conn), Some(&CloseReason::SlowConsumer));
        }
    }
}

#[test]
fn pages_go_both_ways() {
    let (mut world, ann) = world();
    for n in 1..=9 {
        world.must(ann, &alloc::format!("post c {n}"));
    }
    let bea = join_v2(&mut world, "bea", false);
    let read = |from, limit| StreamCommand::Read { stream: c(), from, limit };
    assert!(matches!(
        ask(&mut world, bea, read(PageFrom::After(0), 3)),
        Reply::Refused(Refusal::NotSubscribed(_))
    ));
    subscribe(&mut world, bea, Start::Latest);
    for (from, limit, expected, rest) in [
        (PageFrom::After(0), 3, &[1, 2, 3][..], true),
        (PageFrom::After(6), 0, &[7, 8, 9], false),
        (PageFrom::Before(10), 2, &[8, 9], true),
        (PageFrom::Before(3), 5, &[1, 2], false),
        (PageFrom::Before(1), 5, &[], false),
    ] {
        let request = start(&mut world, bea, read(from, limit));
        drain_queues(&mut world);
        match world.raw_reply(bea, request) {
            Some(Reply::Stream(StreamReply::Page { messages, more, .. })) => {
                let seqs: Vec<u64> = messages.iter().map(|message| message.seq).collect();
                assert_eq!((&seqs[..], more), (expected, rest), "{from:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn one_page_of_a_session_is_under_way_at_a_time() {
    let (mut world, ann) = world();
    world.must(ann, "post c 1");
    let bea = join_v2(&mut world, "bea", false);
    subscribe(&mut world, bea, Start::Latest);
    for _ in 0..5 {
        start(&mut world, bea, StreamCommand::Read { stream: c(), from: PageFrom::After(0), limit: 1 });
    }
    assert_eq!(world.reads_under_way(), 1);
    let wanted = world.take_read();
    assert!(matches!(wanted.purpose, Purpose::Page { .. }));
    let page = world.page(&wanted);
    world.answer(&wanted, Ok(page));
    assert_eq!(world.reads_under_way(), 0, "the next waits for room");
    world.marks.pop_front().expect("a mark");
    world.handle(Input::Ready { conn: bea });
    assert_eq!(world.reads_under_way(), 1);
}

#[test]
fn the_same_id_is_the_same_post() {
    let (mut world, _) = world();
    let bea = join_v2(&mut world, "bea", false);
    subscribe(&mut world, bea, Start::Latest);
    // Twice in one batch.
    let (one, two) = (start(&mut world, bea, post(1, "x")), start(&mut world, bea, post(1, "x")));
    let other = start(&mut world, bea, post(2, "y"));
    world.settle();
    let stamps = [one, two, other].map(|request| stored(&world.raw_reply(bea, request).unwrap()));
    assert_eq!([stamps[0].seq, stamps[1].seq, stamps[2].seq], [1, 1, 2]);
    // Once more while the batch with the first is in flight.
    let three = start(&mut world, bea, post(3, "z"));
    assert!(world.seal());
    let four = start(&mut world, bea, post(3, "z"));
    world.settle();
    let [three, four] = [three, four].map(|request| stored(&world.raw_reply(bea, request).unwrap()));
    assert_eq!((three.seq, four), (3, three));
    assert_eq!(world.last("c"), 3);
}

#[test]
fn what_the_store_knows_already_is_answered_and_the_rest_is_stored() {
    let (mut world, ann) = world();
    let bea = join_v2(&mut world, "bea", false);
    subscribe(&mut world, bea, Start::Latest);
    let first = stored(&ask(&mut world, bea, post(1, "x")));
    let requests = [post(2, "y"), post(1, "x"), post(3, "z")].map(|command| start(&mut world, bea, command));
    world.submit(ann, "post c over version 1");
    let created = world.submit(ann, "create public d");
    assert!(world.seal());
    world.already_stored(&[(1, first)]);
    world.settle();
    let stamps = requests.map(|request| stored(&world.raw_reply(bea, request).unwrap()));
    assert_eq!(stamps.map(|stamp| stamp.seq), [2, 1, 3]);
    assert_eq!(stamps[1], first);
    assert_eq!(world.last("c"), 4, "nothing is stored twice, and no number is left out");
    assert_eq!(world.reply(ann, created).as_deref(), Some("done d"));
}

#[test]
fn a_post_that_failed_may_be_posted_again() {
    let (mut world, _) = world();
    let bea = join_v2(&mut world, "bea", false);
    subscribe(&mut world, bea, Start::Latest);
    let (one, two) = (start(&mut world, bea, post(1, "x")), start(&mut world, bea, post(1, "x")));
    assert!(world.seal());
    world.fail();
    for request in [one, two] {
        let reply = world.raw_reply(bea, request);
        assert!(matches!(reply, Some(Reply::Refused(Refusal::NotStored { .. }))), "{reply:?}");
    }
    assert_eq!(stored(&ask(&mut world, bea, post(1, "x"))).seq, 1);
}

#[test]
fn a_sender_of_version_2_receives_its_own_post_with_the_others() {
    let (mut world, ann) = world();
    let bea = join_v2(&mut world, "bea", false);
    subscribe(&mut world, bea, Start::Latest);
    ask(&mut world, bea, post(1, "hello"));
    assert_eq!(world.received(ann), ["c bea/m/s: hello"], "version 1 reads the text");
    assert_eq!(world.received(bea), ["c bea/m/s: hello"]);
}

#[test]
fn who_is_ended_is_told_why() {
    let (mut world, ann) = world();
    let bea = join_v2(&mut world, "bea", false);
    for (command, told_as) in [
        ("kick c bea", EndReason::Kicked),
        ("ban c bea", EndReason::Banned),
        ("delete c", EndReason::Deleted),
    ] {
        if told_as == EndReason::Deleted {
            world.must(ann, "unban c bea");
        }
        subscribe(&mut world, bea, Start::Latest);
        told(&mut world, bea);
        world.must(ann, command);
        assert_eq!(told(&mut world, bea), [alloc::format!("ended {told_as:?}")], "{command}");
    }
}

#[test]
fn a_new_name_is_told() {
    let (mut world, ann) = world();
    let bea = join_v2(&mut world, "bea", false);
    subscribe(&mut world, bea, Start::Latest);
    told(&mut world, bea);
    world.must(ann, "rename c d");
    assert_eq!(told(&mut world, bea), ["renamed d"]);
}

#[test]
fn keys_are_told_to_whom_one_shares_a_channel_with() {
    let (mut world, ann) = world();
    let bea = join_v2(&mut world, "bea", false);
    let keys = |user: &str| StreamCommand::Keys { user: crate::name::UserName::new(user).unwrap() };
    for nobody in ["ann", "zoe"] {
        let reply = ask(&mut world, bea, keys(nobody));
        assert!(matches!(reply, Reply::Refused(Refusal::NoUser(_))), "{reply:?}");
    }
    subscribe(&mut world, bea, Start::Latest);
    assert!(matches!(
        ask(&mut world, bea, keys("ann")),
        Reply::Stream(StreamReply::Keys { machines, .. }) if machines.len() == 1
    ));
    world.must(ann, "ban c bea");
    assert!(matches!(ask(&mut world, bea, keys("ann")), Reply::Refused(Refusal::NoUser(_))));
}

#[test]
fn an_invite_makes_a_member_who_starts_where_it_asked() {
    let (mut world, ann) = world();
    world.must(ann, "set private c");
    for n in 1..=3 {
        world.must(ann, &alloc::format!("post c {n}"));
    }
    let token = world.must(ann, "invite c");
    let bea = join_v2(&mut world, "bea", false);
    let with = |invite: Option<&str>| StreamCommand::Subscribe {
        stream: c(),
        from: Start::After(1),
        invite: invite.map(crate::protocol::Token::new),
    };
    assert!(matches!(ask(&mut world, bea, with(None)), Reply::Refused(Refusal::NoChannel(_))));
    assert!(matches!(ask(&mut world, bea, with(Some("wrong"))), Reply::Refused(Refusal::NoChannel(_))));
    let reply = ask(&mut world, bea, with(Some(&token)));
    assert!(matches!(reply, Reply::Stream(StreamReply::Subscribed { after: 1, last: 3, .. })), "{reply:?}");
    assert_eq!(told(&mut world, bea), ["2", "3", "live 3"]);
}

#[test]
fn a_stream_by_number_is_as_silent_as_by_name() {
    let (mut world, ann) = world();
    world.must(ann, "set private c");
    let bea = join_v2(&mut world, "bea", false);
    for number in [0, 99] {
        let stream = StreamRef::Number(ChannelId(number));
        let reply = ask(&mut world, bea, StreamCommand::Receipts { stream, seq: 1 });
        assert!(matches!(reply, Reply::Refused(Refusal::NoStream)), "{number}: {reply:?}");
    }
}

#[test]
fn a_stop_does_not_wait_for_a_store_that_takes_nothing() {
    let (mut world, ann) = world();
    let bea = join_v2(&mut world, "bea", true);
    subscribe(&mut world, bea, Start::Latest);
    world.must(ann, "post c 1");
    ask(&mut world, bea, super::receipts::report(1, 1));
    world.handle(Input::Shutdown);
    assert!(world.seal());
    world.fail();
    assert!(world.drained);
}
