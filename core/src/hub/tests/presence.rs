//! Who is here, and when it no longer is.

use core::time::Duration;

use super::world::World;
use crate::time::Monotonic;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn who_lists_all_sessions_or_a_channels_subscribers() {
    let mut world = World::new();
    let (ann, bob) = (world.register("ann"), world.register("bob"));
    world.must(ann, "create public c");
    world.must(bob, "join c");
    assert_eq!(world.must(ann, "who"), "here ann/m/s bob/m/s");
    assert_eq!(world.must(ann, "who c"), "here bob/m/s");
    world.close(bob);
    assert_eq!(world.must(ann, "who"), "here ann/m/s");
    assert_eq!(world.must(ann, "who c"), "here");
}

#[test]
fn a_session_not_heard_for_60_seconds_is_told_and_ended() {
    let mut world = World::new();
    let (ann, bob) = (world.register("ann"), world.register("bob"));
    world.must(ann, "create public c");
    world.must(bob, "join c");
    world.pass(SECOND * 59);
    assert_eq!(world.must(ann, "who"), "here ann/m/s bob/m/s");
    world.pass(SECOND);
    assert_eq!(world.must(ann, "who"), "here ann/m/s", "at the request, whether or not a tick came");
    let told = world.closed(bob).unwrap();
    assert_eq!(told, "idle timeout: nothing was heard from this session for 60 seconds");
    assert_eq!(world.must(ann, "who c"), "here");
}

#[test]
fn any_request_shows_that_a_session_lives() {
    for request in ["ping", "who", "post no-such text", "leave c", "machines"] {
        let mut world = World::new();
        let ann = world.register("ann");
        for _ in 0..5 {
            world.pass(SECOND * 50);
            world.ask(ann, request);
        }
        assert!(world.lives(ann), "{request}");
    }
}

#[test]
fn a_tick_at_the_deadline_ends_who_is_silent_and_no_earlier() {
    let mut world = World::new();
    let ann = world.register("ann");
    let start = world.now.mono;
    assert_eq!(world.hub.next_deadline(), Some(start + SECOND * 60));
    world.pass(SECOND * 10);
    world.must(ann, "ping");
    world.now.mono = world.hub.next_deadline().unwrap();
    world.handle(crate::hub::Input::Tick);
    assert!(world.lives(ann), "it was heard since");
    assert_eq!(world.hub.next_deadline(), Some(start + SECOND * 70));
    world.now.mono = Monotonic(start.0 + 69_999);
    world.handle(crate::hub::Input::Tick);
    assert!(world.lives(ann));
    world.now.mono = Monotonic(start.0 + 70_000);
    world.handle(crate::hub::Input::Tick);
    assert!(!world.lives(ann));
}

#[test]
fn a_hub_that_nobody_visits_has_no_deadline() {
    let mut world = World::new();
    assert_eq!(world.hub.next_deadline(), None);
    let ann = world.register("ann");
    world.close(ann);
    for _ in 0..3 {
        let Some(at) = world.hub.next_deadline() else { break };
        world.now.mono = at;
        world.handle(crate::hub::Input::Tick);
    }
    assert_eq!(world.hub.next_deadline(), None);
}

#[test]
fn a_slow_consumer_is_told_and_ended() {
    let mut world = World::new();
    let ann = world.register("ann");
    world.handle(crate::hub::Input::Overflowed { conn: ann });
    assert!(world.closed(ann).unwrap().starts_with("slow consumer"));
    assert!(!world.lives(ann));
}
