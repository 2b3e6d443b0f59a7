//! The end of a server: what was accepted is finished, everyone is told.

use super::world::{World, proven};
use crate::hub::Input;

#[test]
fn an_idle_hub_is_drained_at_once_and_tells_every_session() {
    let mut world = World::new();
    let (ann, bob) = (world.register("ann"), world.register("bob"));
    world.handle(Input::Shutdown);
    assert!(world.drained);
    for conn in [ann, bob] {
        assert_eq!(world.closed(conn).unwrap(), "server shutting down");
    }
    assert_eq!(world.hub.sessions().count(), 0);
}

#[test]
fn every_accepted_post_and_waiting_change_is_answered_before_the_end() {
    let mut world = World::new();
    let (ann, bob) = (world.register("ann"), world.register("bob"));
    world.must(ann, "create public c");
    world.must(ann, "join c");
    world.must(bob, "join c");
    let in_flight = world.submit(ann, "post c one");
    world.seal();
    let gathered = world.submit(bob, "post c two");
    let change = world.submit(ann, "rename c d");
    let waiting = world.submit(ann, "set unlisted d");
    let opening = world.connect(proven("cid", "m", "s", true));
    world.handle(Input::Shutdown);
    assert!(!world.drained);
    let late = world.submit(ann, "post c four");
    assert_eq!(world.reply(ann, late).unwrap(), "Unauthorized: server shutting down");
    let later = world.connect(proven("ann", "m", "t", false));
    assert_eq!(world.closed(later).unwrap(), "server shutting down");
    world.settle();
    assert!(world.drained);
    assert_eq!(world.reply(ann, in_flight).unwrap(), "sent");
    assert_eq!(world.reply(bob, gathered).unwrap(), "sent");
    assert_eq!(world.reply(ann, change).unwrap(), "done d");
    assert_eq!(world.reply(ann, waiting).unwrap(), "done d");
    assert_eq!(world.received(ann), ["c bob/m/s: two"]);
    for conn in [ann, bob, opening] {
        assert_eq!(world.closed(conn).unwrap(), "server shutting down");
    }
}

#[test]
fn a_drain_ends_also_if_the_store_fails() {
    let mut world = World::new();
    let ann = world.register("ann");
    let request = world.submit(ann, "create public c");
    world.seal();
    world.handle(Input::Shutdown);
    world.fail();
    assert!(world.drained);
    assert!(world.reply(ann, request).unwrap().starts_with("Internal"));
}

#[test]
fn a_drained_hub_takes_no_one_in() {
    let mut world = World::new();
    world.register("ann");
    world.handle(Input::Shutdown);
    world.handle(Input::Shutdown);
    let conn = world.connect(proven("ann", "m", "s", false));
    assert_eq!(world.closed(conn).unwrap(), "server shutting down");
    assert_eq!(world.hub.sessions().count(), 0);
}
