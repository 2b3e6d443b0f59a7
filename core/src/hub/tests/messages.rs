//! Posts, history and whispers.

use alloc::vec::Vec;
use core::time::Duration;

use super::world::World;
use crate::hub::ConnId;
use crate::hub::Range;
use crate::time::UnixMillis;

/// `ann`, `bob` and `cid` are in `c`.
fn three() -> (World, [ConnId; 3]) {
    let mut world = World::new();
    let conns = ["ann", "bob", "cid"].map(|user| world.register(user));
    world.must(conns[0], "create public c");
    for conn in conns {
        world.must(conn, "join c");
    }
    (world, conns)
}

#[test]
fn everyone_subscribed_but_the_sender_receives_a_post_with_the_senders_path() {
    let (mut world, [ann, bob, cid]) = three();
    let dan = world.register("dan");
    let other = world.open("ann/m/other");
    world.must(other, "join c");
    assert_eq!(world.must(ann, "post c hello there"), "sent");
    for conn in [bob, cid, other] {
        assert_eq!(world.received(conn), ["c ann/m/s: hello there"]);
    }
    assert!(world.received(ann).is_empty(), "not to the sender");
    assert!(world.received(dan).is_empty(), "not to who is not subscribed");
}

#[test]
fn only_a_subscribed_session_posts_and_reads() {
    let (mut world, [ann, ..]) = three();
    let other = world.open("ann/m/other");
    for request in ["post c hello", "read c"] {
        assert_eq!(world.ask(other, request), "Unauthorized: this session is not in 'c': join it first");
    }
    assert_eq!(world.must(ann, "read c"), "history of c:");
}

#[test]
fn a_post_is_neither_answered_nor_received_before_it_is_durable() {
    let (mut world, [ann, bob, _]) = three();
    let request = world.submit(ann, "post c hello");
    assert!(world.in_flight.is_none(), "posts gather until the tick");
    world.seal();
    assert_eq!(world.reply(ann, request), None);
    assert!(world.received(bob).is_empty());
    assert_eq!(world.see(bob, "who c"), "here ann/m/s bob/m/s cid/m/s");
    world.persist();
    assert_eq!(world.reply(ann, request).unwrap(), "sent");
    assert_eq!(world.received(bob).len(), 1);
}

#[test]
fn a_post_that_could_not_be_stored_is_an_internal_error_and_nobody_sees_it() {
    let (mut world, [ann, bob, _]) = three();
    let request = world.submit(ann, "post c lost");
    world.seal();
    world.fail();
    let answer = world.reply(ann, request).unwrap();
    assert!(answer.starts_with("Internal: the server could not store it"), "{answer}");
    assert!(answer.ends_with("no space left on the disk"), "{answer}");
    assert!(world.received(bob).is_empty());
    assert_eq!(world.must(ann, "post c kept"), "sent", "the next one works");
    assert_eq!(world.must(bob, "read c"), "history of c: kept");
    let stamps = world.stamps(world.channel("c"));
    assert_eq!(stamps.iter().map(|stamp| stamp.seq).collect::<Vec<_>>(), [1], "no number is lost");
}

#[test]
fn posts_that_gather_while_a_batch_is_in_flight_go_together_in_the_next() {
    let (mut world, [ann, bob, cid]) = three();
    world.submit(ann, "post c one");
    world.seal();
    for (conn, post) in [(bob, "post c two"), (ann, "post c three"), (cid, "post c four")] {
        world.submit(conn, post);
    }
    world.persist();
    world.seal();
    assert_eq!(world.in_flight.as_ref().unwrap().1.len(), 3);
    world.persist();
    assert_eq!(world.must(ann, "read c"), "history of c: one two three four");
}

#[test]
fn all_see_one_order() {
    let (mut world, conns) = three();
    let watcher = world.register("dan");
    world.must(watcher, "join c");
    for round in 0..20 {
        for (nth, conn) in conns.into_iter().enumerate() {
            world.submit(conn, &alloc::format!("post c {round}.{nth}"));
        }
        if round % 3 == 0 {
            world.settle();
        }
    }
    world.settle();
    let all = world.received(watcher);
    assert_eq!(all.len(), 60);
    for (conn, user) in conns.into_iter().zip(["ann", "bob", "cid"]) {
        let own = alloc::format!("c {user}/m/s: ");
        let others: Vec<_> = all.iter().filter(|line| !line.starts_with(&own)).cloned().collect();
        assert_eq!(world.received(conn), others);
    }
}

#[test]
fn stamps_strictly_increase_and_numbers_have_no_gap_whatever_the_clock_does() {
    let (mut world, [ann, ..]) = three();
    let start = world.now.wall;
    for wall in [0, 0, 5, -60_000, -60_000, 7, i64::MAX - start.0, i64::MIN, 8] {
        world.now.wall = UnixMillis(start.0.saturating_add(wall));
        world.submit(ann, "post c again");
        world.must(ann, "post c tick");
    }
    let stamps = world.stamps(world.channel("c"));
    assert_eq!(stamps.len(), 18);
    for (nth, stamp) in stamps.iter().enumerate() {
        assert_eq!(stamp.seq, nth as u64 + 1);
    }
    assert!(stamps.is_sorted_by(|a, b| a.ts < b.ts), "{stamps:?}");
    assert_eq!(stamps[0].ts, start, "the server's clock");
}

#[test]
fn channels_are_numbered_each_for_itself() {
    let (mut world, [ann, ..]) = three();
    world.must(ann, "create public d");
    world.must(ann, "join d");
    for post in ["post c a", "post d b", "post c c"] {
        world.submit(ann, post);
    }
    world.settle();
    assert_eq!(world.stamps(world.channel("c")).len(), 2);
    assert_eq!(world.stamps(world.channel("d"))[0].seq, 1);
}

#[test]
fn a_post_keeps_its_place_before_a_rename_a_kick_a_ban_and_a_removal() {
    for ending in ["rename c d", "ban c bob", "expel bob", "delete c"] {
        let (mut world, [_, bob, cid]) = three();
        let root = world.register("root");
        let post = world.submit(bob, "post c last words");
        world.submit(root, ending);
        world.settle();
        assert_eq!(world.reply(bob, post).unwrap(), "sent", "{ending}");
        assert_eq!(world.received(cid), ["c bob/m/s: last words"], "{ending}");
    }
}

#[test]
fn a_post_behind_a_pending_change_is_decided_after_it() {
    let (mut world, [ann, bob, cid]) = three();
    world.submit(ann, "ban c bob");
    let post = world.submit(bob, "post c late");
    assert_eq!(world.reply(bob, post), None);
    world.settle();
    assert!(world.reply(bob, post).unwrap().starts_with("NotFound"));
    assert!(world.received(cid).is_empty());
}

#[test]
fn posts_behind_a_change_keep_their_order() {
    let (mut world, [ann, bob, cid]) = three();
    world.submit(bob, "post c 1");
    world.settle();
    world.must(ann, "create public d");
    for conn in [bob, cid] {
        world.must(conn, "join d");
    }
    world.submit(ann, "ban c bob");
    for post in ["post c 2", "post d 3"] {
        world.submit(bob, post);
    }
    world.seal();
    world.submit(bob, "post d 4");
    world.fail();
    world.settle();
    assert_eq!(world.received(cid), ["c bob/m/s: 1", "c bob/m/s: 2", "d bob/m/s: 3", "d bob/m/s: 4"]);
}

#[test]
fn a_post_of_a_connection_that_closed_is_delivered_if_it_was_accepted() {
    let (mut world, [ann, bob, _]) = three();
    world.submit(ann, "post c goodbye");
    world.close(ann);
    world.settle();
    assert_eq!(world.received(bob), ["c ann/m/s: goodbye"]);
}

#[test]
fn history_is_paged_by_stamp_without_losing_or_repeating() {
    let mut world = World::with(|limits| limits.page_rows = 7);
    let ann = world.register("ann");
    world.must(ann, "create public c");
    world.must(ann, "join c");
    for nth in 0..30 {
        world.submit(ann, &alloc::format!("post c {nth}"));
        if nth % 4 == 0 {
            world.settle();
        }
    }
    world.settle();
    let stamps = world.stamps(world.channel("c"));
    let (mut since, mut seen) = (0, Vec::new());
    loop {
        let page = world.must(ann, &alloc::format!("read c {since}"));
        let rows: Vec<_> = page
            .trim_start_matches("history of c:")
            .split_whitespace()
            .map(alloc::string::String::from)
            .collect();
        assert!(rows.len() <= 7);
        if rows.is_empty() {
            break;
        }
        seen.extend(rows);
        since = stamps[seen.len() - 1].ts.0;
    }
    assert_eq!(seen, (0..30).map(|nth| alloc::format!("{nth}")).collect::<Vec<_>>());
}

#[test]
fn a_page_is_asked_for_with_its_bounds() {
    let (mut world, [ann, ..]) = three();
    world.must(ann, "post c hello");
    world.submit(ann, "read c 5");
    let wanted = world.reads.pop_front().unwrap();
    assert_eq!(
        (wanted.range, wanted.max_rows, wanted.max_bytes),
        (Range::Since(UnixMillis(5)), 500, 1 << 20)
    );
}

#[test]
fn a_page_past_the_newest_message_is_empty_without_a_read() {
    let (mut world, [ann, ..]) = three();
    world.must(ann, "post c hello");
    let newest = world.stamps(world.channel("c"))[0].ts.0;
    let request = world.submit(ann, &alloc::format!("read c {newest}"));
    assert!(world.reads.is_empty());
    assert_eq!(world.reply(ann, request).unwrap(), "history of c:");
}

#[test]
fn a_page_is_answered_under_the_name_that_was_asked_for_though_the_channel_was_renamed() {
    let (mut world, [ann, ..]) = three();
    world.must(ann, "post c hello");
    let request = world.submit(ann, "read c");
    let wanted = world.reads.pop_front().unwrap();
    world.must(ann, "rename c d");
    let page = world.page(&wanted);
    world.answer(&wanted, Ok(page));
    assert_eq!(world.reply(ann, request).unwrap(), "history of c: hello");
}

#[test]
fn history_that_cannot_be_read_is_an_internal_error() {
    let (mut world, [ann, ..]) = three();
    world.must(ann, "post c hello");
    let request = world.submit(ann, "read c");
    let wanted = world.reads.pop_front().unwrap();
    world.answer(&wanted, Err("the disk is gone".into()));
    assert!(
        world.reply(ann, request).unwrap().starts_with("Internal: the server could not read its history")
    );
}

#[test]
fn a_page_for_a_connection_that_ended_goes_nowhere() {
    let (mut world, [ann, ..]) = three();
    world.must(ann, "post c hello");
    let request = world.submit(ann, "read c");
    let wanted = world.reads.pop_front().unwrap();
    world.close(ann);
    let page = world.page(&wanted);
    world.answer(&wanted, Ok(page));
    assert_eq!(world.reply(ann, request), None);
}

#[test]
fn a_whisper_reaches_exactly_its_session_and_is_not_stored() {
    let (mut world, [ann, bob, cid]) = three();
    let other = world.open("bob/m/other");
    let before = world.records.len();
    assert_eq!(world.must(ann, "whisper bob/m/s between us"), "sent");
    assert_eq!(world.received(bob), ["whisper ann/m/s to bob/m/s: between us"]);
    for conn in [ann, cid, other] {
        assert!(world.received(conn).is_empty());
    }
    assert_eq!(world.records.len(), before);
}

#[test]
fn a_whisper_to_who_is_not_online_fails_the_same_for_anyone() {
    let (mut world, [ann, bob, _]) = three();
    world.close(bob);
    for target in ["bob/m/s", "bob/m/other", "no/such/one"] {
        let answer = world.ask(ann, &alloc::format!("whisper {target} hello"));
        assert_eq!(answer, alloc::format!("NotFound: '{target}' is not online"));
    }
}

#[test]
fn requests_that_need_no_record_do_not_wait_for_the_store() {
    let (mut world, [ann, bob, cid]) = three();
    world.submit(ann, "create public d");
    world.seal();
    for request in ["ping", "who", "who c", "channels", "machines", "join c", "leave d", "whisper cid/m/s hi"]
    {
        world.see(bob, request);
    }
    assert!(world.in_flight.is_some());
    assert_eq!(world.received(cid).len(), 1);
    world.pass(Duration::from_secs(1));
    world.settle();
}
