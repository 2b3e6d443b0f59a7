//! What may be stored.

use alloc::format;
use core::time::Duration;

use super::world::{World, is_refused, proven};
use crate::hub::{ConnId, Input, Limits};

fn talkers(change: impl FnOnce(&mut Limits)) -> (World, ConnId, ConnId) {
    let mut world = World::with(|limits| {
        *limits = core::mem::take(limits).without_rates();
        limits.stored_for = Duration::from_secs(1_000);
        change(limits);
    });
    let (ann, bob) = (world.register("ann"), world.register("bob"));
    for channel in ["c", "d"] {
        world.must(ann, &format!("create public {channel}"));
        world.must(ann, &format!("join {channel}"));
        world.must(bob, &format!("join {channel}"));
    }
    (world, ann, bob)
}

fn post(channel: &str, bytes: usize) -> alloc::string::String {
    format!("post {channel} {}", "x".repeat(bytes))
}

#[test]
fn what_a_user_stores_is_bounded_and_comes_back_with_time() {
    let (mut world, ann, bob) = talkers(|limits| limits.stored_per_user = 10_000);
    for nth in 0..10 {
        world.must(ann, &post(if nth % 2 == 0 { "c" } else { "d" }, 1_000));
    }
    let refused = world.ask(ann, &post("c", 1_000));
    assert_eq!(refused, "Unauthorized: rate limit: try again in 100001 ms");
    world.must(bob, &post("c", 1_000));
    world.pass(Duration::from_secs(50));
    world.open("ann/m/s");
    world.pass(Duration::from_secs(51));
    let ann = world.open("ann/m/s");
    world.must(ann, "join c");
    world.must(ann, &post("c", 1_000));
    assert!(is_refused(&world.ask(ann, &post("c", 1_000))));
}

#[test]
fn what_a_channel_stores_is_bounded_whoever_posts() {
    let (mut world, ann, bob) = talkers(|limits| limits.stored_per_channel = 10_000);
    for _ in 0..5 {
        world.must(ann, &post("c", 1_000));
        world.must(bob, &post("c", 1_000));
    }
    for conn in [ann, bob] {
        assert!(is_refused(&world.ask(conn, &post("c", 1_000))));
        world.must(conn, &post("d", 1_000));
    }
}

#[test]
fn before_the_disk_is_full_writers_are_slowed_then_refused_and_what_frees_space_goes_on() {
    let (mut world, ann, bob) = talkers(|limits| {
        limits.user.bytes = crate::hub::Rate::new(1_000, 16_000);
        limits.disk_free = 1_000;
        limits.stored = 100_000;
    });
    let measure = |world: &mut World, stored, free| world.handle(Input::Space { stored, free });
    measure(&mut world, 0, 3_999);
    world.must(ann, &post("c", 900));
    assert!(is_refused(&world.ask(ann, &post("c", 900))), "it cost sixteen times as much");
    for (stored, free) in [(0, 999), (100_000, 1 << 40)] {
        measure(&mut world, stored, free);
        for request in ["post c x", "create public e", "add c bob", "invite c"] {
            assert!(
                world.ask(ann, request).starts_with("Internal: the server could not store it"),
                "{request}"
            );
        }
        let new = world.connect(proven("new", "m", "s", true));
        assert!(world.closed(new).unwrap().starts_with("Internal"));
        world.must(bob, "read c");
        world.must(bob, "join c");
        world.must(bob, "whisper ann/m/s hello");
    }
    world.must(ann, "delete d");
    measure(&mut world, 0, 1 << 40);
    world.must(bob, &post("c", 900));
}

#[test]
fn invites_are_bounded_in_all_and_some_are_left_for_others() {
    let (mut world, ann, bob) = talkers(|limits| limits.invites = 20);
    world.must(bob, "create private den");
    let made = (0..30)
        .filter(|nth| !is_refused(&world.ask(ann, if nth % 2 == 0 { "invite c" } else { "invite d" })));
    assert_eq!(made.count(), 10);
    world.must(bob, "invite den");
}
