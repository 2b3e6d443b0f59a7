//! Fair shares: what one user asks for too much delays that user.

use alloc::format;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::world::{World, is_refused, proven};
use crate::hub::{ConnId, RequestId};

/// A greedy user with many sessions, and others with one each; everyone is in `square`, which the greedy one created.
fn crowd(sessions: usize, others: usize) -> (World, Vec<ConnId>, Vec<ConnId>) {
    let mut world = World::new();
    let mut greedy = alloc::vec![world.register("greedy")];
    greedy.extend((1..sessions).map(|nth| world.open(&format!("greedy/m/s{nth}"))));
    let others: Vec<ConnId> = (0..others).map(|nth| world.register(&format!("u{nth}"))).collect();
    world.must(greedy[0], "create public square");
    for conn in greedy.iter().chain(&others) {
        world.must(*conn, "join square");
    }
    (world, greedy, others)
}

/// Commits until a request is answered; says how many that took.
fn commits(world: &mut World, conn: ConnId, request: RequestId) -> usize {
    for count in 0..1_000 {
        if world.reply(conn, request).is_some() {
            return count;
        }
        assert!(world.seal(), "nothing is under way");
        world.persist();
    }
    panic!("it is never answered");
}

#[test]
fn a_post_does_not_wait_behind_changes_that_others_ask_for() {
    let (mut world, greedy, others) = crowd(300, 1);
    for (nth, conn) in greedy.iter().enumerate() {
        world.submit(*conn, &format!("set {} square", if nth % 2 == 0 { "unlisted" } else { "public" }));
    }
    assert!(world.seal());
    let post = world.submit(others[0], "post square hello");
    assert_eq!(commits(&mut world, others[0], post), 2, "that under way, and its own");
}

#[test]
fn a_post_waits_for_one_commit_though_each_change_decides_about_it() {
    let (mut world, greedy, others) = crowd(300, 2);
    for (nth, conn) in greedy.iter().enumerate() {
        let change = if nth % 2 == 0 { "ban square u1" } else { "unban square u1" };
        world.submit(*conn, change);
    }
    assert!(world.seal());
    let post = world.submit(others[1], "post square hello");
    assert!(commits(&mut world, others[1], post) <= 2);
}

#[test]
fn a_change_waits_for_one_change_of_another_user_not_for_all() {
    let (mut world, greedy, others) = crowd(300, 1);
    for (nth, conn) in greedy.iter().enumerate() {
        world.submit(*conn, &format!("create public c{nth}"));
    }
    assert!(world.seal());
    let own = world.submit(others[0], "create public mine");
    let opening = world.connect(proven("new", "m", "s", true));
    assert_eq!(commits(&mut world, others[0], own), 2);
    assert!(world.established(opening).is_some());
}

#[test]
fn who_wants_to_change_the_same_channel_takes_turns() {
    let (mut world, greedy, _) = crowd(300, 1);
    let root = world.register("root");
    for (nth, conn) in greedy.iter().enumerate() {
        world.submit(*conn, &format!("set {} square", if nth % 2 == 0 { "unlisted" } else { "public" }));
    }
    assert!(world.seal());
    let delete = world.submit(root, "delete square");
    assert!(commits(&mut world, root, delete) <= 3);
}

#[test]
fn changes_of_many_users_share_a_commit() {
    let (mut world, _, others) = crowd(1, 100);
    let requests: Vec<_> = others
        .iter()
        .enumerate()
        .map(|(nth, conn)| (*conn, world.submit(*conn, &format!("create private own{nth}"))))
        .collect();
    let openings: Vec<_> =
        (0..100).map(|nth| world.connect(proven(&format!("n{nth}"), "m", "s", true))).collect();
    assert!(world.seal());
    world.persist();
    assert!(!world.seal());
    for (conn, request) in requests {
        assert!(!is_refused(&world.reply(conn, request).unwrap()));
    }
    assert!(openings.iter().all(|conn| world.established(*conn).is_some()));
}

#[test]
fn history_is_read_for_each_user_in_turn() {
    let (mut world, greedy, others) = crowd(200, 3);
    world.must(greedy[0], "post square hello");
    for conn in &greedy {
        world.submit(*conn, "read square");
    }
    let requests: Vec<_> = others.iter().map(|conn| (*conn, world.submit(*conn, "read square"))).collect();
    let at_once = world.reads_under_way();
    assert!(at_once < 32, "{at_once} are at the store");
    // Those at the store go first, then each user in turn.
    for _ in 0..at_once + 4 {
        let wanted = world.take_read();
        let page = world.page(&wanted);
        world.answer(&wanted, Ok(page));
    }
    for (conn, request) in requests {
        assert_eq!(world.reply(conn, request).unwrap(), "history of square: hello");
    }
    // Who has gone is not read for.
    for conn in &greedy {
        world.close(*conn);
    }
    while world.reads_under_way() > 0 {
        let wanted = world.take_read();
        world.answer(&wanted, Ok(Vec::new()));
    }
    world.must(others[0], "read square");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However a greedy user mixes what it asks for, and whenever the others ask: none of them waits for more than the
    /// commits under way, its own, and one for each of the others who want the same.
    #[test]
    fn nobody_waits_for_what_one_greedy_user_asks(
        greed in proptest::collection::vec((0..6u8, 0..4u8), 50..200),
        asked in proptest::collection::vec((0..4u8, 0..3u8), 1..8),
        sealed in any::<bool>(),
    ) {
        let (mut world, greedy, others) = crowd(40, 4);
        for (nth, (kind, whom)) in greed.iter().enumerate() {
            let conn = greedy[nth % greedy.len()];
            let request = match kind {
                0 => "set unlisted square".into(),
                1 => "set public square".into(),
                2 => format!("add square u{whom}"),
                3 => format!("create public g{nth}"),
                4 => "invite square".into(),
                _ => format!("unban square u{whom}"),
            };
            world.submit(conn, &request);
        }
        if sealed {
            prop_assert!(world.seal());
        }
        let mut requests = Vec::new();
        for (nth, (who, what)) in asked.iter().enumerate() {
            let conn = others[usize::from(*who)];
            let request = match what {
                0 => "post square hi".into(),
                1 => format!("create public o{nth}"),
                _ => format!("enrol m{nth} of u{who}"),
            };
            requests.push((conn, *what, world.submit(conn, &request)));
        }
        for (nth, (conn, what, request)) in requests.iter().enumerate() {
            let most = if *what == 0 && nth == 0 { 3 } else { 3 + asked.len() };
            prop_assert!(commits(&mut world, *conn, *request) <= most);
        }
        world.settle();
    }
}
