//! Receipts: how far readers have come, and who learns it.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::time::Duration;

use super::streams::{again_v2, ask, c, join_v2, start, subscribe, told, world};
use super::world::World;
use crate::hub::{ConnId, Input};
use crate::opaque::Opaque;
use crate::protocol::{Refusal, Reply};
use crate::stream::{ReceiptState, Start, StreamCommand, StreamReply};

pub(super) fn report(delivered: u64, seen: u64) -> StreamCommand {
    StreamCommand::Report { stream: c(), delivered, seen }
}

fn receipts(world: &mut World, conn: ConnId, seq: u64) -> Vec<(String, ReceiptState)> {
    match ask(world, conn, StreamCommand::Receipts { stream: c(), seq }) {
        Reply::Stream(StreamReply::Receipts { readers, .. }) => {
            readers.into_iter().map(|it| (it.reader.to_string(), it.state)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn state(world: &mut World, conn: ConnId, seq: u64) -> ReceiptState {
    receipts(world, conn, seq).into_iter().find(|(path, _)| path == "bea/m/s").expect("bea reads").1
}

#[test]
fn receipts_claim_what_readers_reported_and_nothing_else() {
    let (mut world, ann) = world();
    world.must(ann, "post c before");
    let bea = join_v2(&mut world, "bea", true);
    subscribe(&mut world, bea, Start::Latest);
    for n in 2..=4 {
        world.must(ann, &alloc::format!("post c {n}"));
    }
    assert_eq!(state(&mut world, bea, 2), ReceiptState::Stored);
    ask(&mut world, bea, report(3, 2));
    let states = [1, 2, 3, 4].map(|seq| state(&mut world, bea, seq));
    use ReceiptState::{Delivered, Seen, Stored};
    assert_eq!(states, [Stored, Seen, Delivered, Stored], "it never had the first");
    ask(&mut world, bea, report(1, 1));
    assert_eq!(state(&mut world, bea, 3), Delivered, "positions only move forward");
    let reply = ask(&mut world, bea, report(5, 0));
    assert!(matches!(reply, Reply::Refused(Refusal::NotSentYet { sent: 4 })), "{reply:?}");
    // What it skips by starting anew is not claimed.
    ask(&mut world, bea, StreamCommand::Unsubscribe { stream: c() });
    world.must(ann, "post c 5");
    subscribe(&mut world, bea, Start::Latest);
    assert_eq!(state(&mut world, bea, 5), Stored);
}

#[test]
fn a_reader_that_is_behind_cannot_have_what_it_was_not_sent() {
    let (mut world, ann) = world();
    for n in 1..=3 {
        world.must(ann, &alloc::format!("post c {n}"));
    }
    let bea = join_v2(&mut world, "bea", true);
    start(&mut world, bea, StreamCommand::Subscribe { stream: c(), from: Start::After(0), invite: None });
    let request = start(&mut world, bea, report(1, 0));
    assert!(matches!(world.raw_reply(bea, request), Some(Reply::Refused(Refusal::NotSentYet { sent: 0 }))));
}

#[test]
fn positions_outlive_the_connection_and_the_server() {
    let (mut world, ann) = world();
    let bea = join_v2(&mut world, "bea", true);
    subscribe(&mut world, bea, Start::Latest);
    for n in 1..=3 {
        world.must(ann, &alloc::format!("post c {n}"));
    }
    ask(&mut world, bea, report(2, 1));
    assert!(!world.hub.has_batch(), "a position waits for company");
    world.pass(Duration::from_secs(1));
    world.settle();
    let mut later = world.restart();
    let bea = again_v2(&mut later, "bea");
    let reply = subscribe(&mut later, bea, Start::Cursor);
    assert!(matches!(reply, Reply::Stream(StreamReply::Subscribed { after: 2, last: 3, .. })), "{reply:?}");
    assert_eq!(told(&mut later, bea), ["3", "live 3"]);
    assert_eq!(state(&mut later, bea, 1), ReceiptState::Seen);
}

#[test]
fn a_position_that_was_not_written_moves_back_never_forward() {
    let (mut world, ann) = world();
    let bea = join_v2(&mut world, "bea", true);
    subscribe(&mut world, bea, Start::Latest);
    world.must(ann, "post c 1");
    world.pass(Duration::from_secs(1));
    world.settle();
    ask(&mut world, bea, report(1, 1));
    let mut later = world.restart();
    let bea = again_v2(&mut later, "bea");
    subscribe(&mut later, bea, Start::Cursor);
    assert_eq!(state(&mut later, bea, 1), ReceiptState::Stored);
}

#[test]
fn a_first_position_is_written_at_once() {
    let (mut world, ann) = world();
    let bea = join_v2(&mut world, "bea", true);
    subscribe(&mut world, bea, Start::Latest);
    world.must(ann, "post c 1");
    let mut later = world.restart();
    let bea = again_v2(&mut later, "bea");
    subscribe(&mut later, bea, Start::Cursor);
    assert_eq!(told(&mut later, bea), ["1", "live 1"]);
}

#[test]
fn positions_are_written_before_the_server_stops() {
    let (mut world, ann) = world();
    let bea = join_v2(&mut world, "bea", true);
    subscribe(&mut world, bea, Start::Latest);
    (1..=2).for_each(|n| drop(world.must(ann, &alloc::format!("post c {n}"))));
    ask(&mut world, bea, report(1, 0));
    world.handle(Input::Shutdown);
    world.settle();
    let mut later = world.restart();
    let bea = again_v2(&mut later, "bea");
    subscribe(&mut later, bea, Start::Cursor);
    assert_eq!(told(&mut later, bea), ["2", "live 2"]);
}

#[test]
fn those_who_watch_are_told_where_readers_stand_once_for_many_moves() {
    let (mut world, ann) = world();
    let bea = join_v2(&mut world, "bea", true);
    let cyn = join_v2(&mut world, "cyn", true);
    for conn in [bea, cyn] {
        subscribe(&mut world, conn, Start::Latest);
    }
    ask(&mut world, cyn, StreamCommand::WatchReceipts { stream: c(), on: true });
    for n in 1..=9 {
        world.must(ann, &alloc::format!("post c {n}"));
        ask(&mut world, bea, report(n, 0));
    }
    told(&mut world, cyn);
    world.pass(Duration::from_millis(100));
    world.settle();
    assert_eq!(told(&mut world, cyn), ["bea/m/s 0/9/0"]);
    ask(&mut world, cyn, StreamCommand::WatchReceipts { stream: c(), on: false });
    ask(&mut world, bea, report(9, 9));
    world.pass(Duration::from_millis(100));
    world.settle();
    assert!(told(&mut world, cyn).is_empty());
}

#[test]
fn an_acknowledgement_is_durable_before_it_is_answered() {
    let (mut world, ann) = world();
    let bea = join_v2(&mut world, "bea", true);
    subscribe(&mut world, bea, Start::Latest);
    world.must(ann, "post c 1");
    let acknowledge = StreamCommand::Acknowledge { stream: c(), seq: 1, word: Opaque("on it".into()) };
    let request = start(&mut world, bea, acknowledge);
    assert_eq!(world.raw_reply(bea, request), None);
    world.settle();
    assert!(matches!(world.raw_reply(bea, request), Some(Reply::Stream(StreamReply::Done))));
    let mut later = world.restart();
    let bea = again_v2(&mut later, "bea");
    subscribe(&mut later, bea, Start::Latest);
    match ask(&mut later, bea, StreamCommand::Receipts { stream: c(), seq: 1 }) {
        Reply::Stream(StreamReply::Receipts { readers, .. }) => {
            assert_eq!(readers[0].state, ReceiptState::Acknowledged);
            assert_eq!(readers[0].word, Some(Opaque(String::from("on it"))));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_user_who_turns_receipts_off_tells_acknowledgements_only() {
    let (mut world, ann) = world();
    let bea = join_v2(&mut world, "bea", true);
    let cyn = join_v2(&mut world, "cyn", true);
    for conn in [bea, cyn] {
        subscribe(&mut world, conn, Start::Latest);
    }
    ask(&mut world, cyn, StreamCommand::WatchReceipts { stream: c(), on: true });
    let of_bea = |world: &mut World, conn, seq| {
        let Reply::Stream(StreamReply::Receipts { readers, .. }) =
            ask(world, conn, StreamCommand::Receipts { stream: c(), seq })
        else {
            panic!()
        };
        let receipt = readers.into_iter().find(|it| it.reader.user.as_str() == "bea").unwrap();
        (receipt.state, receipt.at.is_some(), receipt.off)
    };
    let done = |reply| matches!(reply, Reply::Stream(StreamReply::Done));
    assert!(done(ask(&mut world, bea, StreamCommand::SetReceipts { on: false })));
    assert!(done(ask(&mut world, bea, StreamCommand::SetReceipts { on: false })), "once more");
    (1..=2).for_each(|n| drop(world.must(ann, &alloc::format!("post c {n}"))));
    ask(&mut world, bea, report(2, 2));
    world.pass(Duration::from_millis(100));
    told(&mut world, cyn);
    assert_eq!(of_bea(&mut world, cyn, 2), (ReceiptState::Stored, false, true));
    let acknowledge = StreamCommand::Acknowledge { stream: c(), seq: 1, word: Opaque(String::new()) };
    ask(&mut world, bea, acknowledge);
    world.pass(Duration::from_millis(100));
    world.settle();
    assert_eq!(told(&mut world, cyn), ["bea/m/s 0/0/0 acknowledged 1"]);
    world.pass(Duration::from_secs(1));
    world.settle();
    // It is kept, and where bea stands is as well: once receipts are on again they tell it.
    let mut world = world.restart();
    let bea = again_v2(&mut world, "bea");
    let cyn = again_v2(&mut world, "cyn");
    subscribe(&mut world, cyn, Start::Cursor);
    assert_eq!(of_bea(&mut world, cyn, 2), (ReceiptState::Stored, false, true));
    assert_eq!(of_bea(&mut world, cyn, 1).0, ReceiptState::Acknowledged);
    ask(&mut world, bea, StreamCommand::SetReceipts { on: true });
    assert_eq!(of_bea(&mut world, cyn, 2), (ReceiptState::Seen, true, false));
}
