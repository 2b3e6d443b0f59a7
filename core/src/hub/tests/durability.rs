//! What is not durable is not seen, and what could not be stored was never there.

use alloc::vec::Vec;

use super::world::{World, proven};
use crate::directory::Directory;
use crate::hub::{BatchId, Input};

/// Every kind of change, with who asks for it.
const CHANGES: [(&str, &str); 14] = [
    ("bob", "create public new"),
    ("ann", "delete c"),
    ("ann", "rename c d"),
    ("ann", "set unlisted c"),
    ("ann", "add c bob"),
    ("ann", "remove c cid"),
    ("ann", "ban c cid"),
    ("ann", "unban c dan"),
    ("ann", "add c dan"),
    ("ann", "invite c"),
    ("dan", "join den token-5"),
    ("root", "expel cid"),
    ("cid", "enrol laptop of cid"),
    ("ann", "retire second"),
];

fn setup() -> (World, [(&'static str, crate::hub::ConnId); 5]) {
    let mut world = World::new();
    let conns = ["root", "ann", "bob", "cid", "dan"].map(|user| (user, world.register(user)));
    let [_, (_, ann), (_, bob), (_, cid), _] = conns;
    world.must(ann, "create public c");
    world.must(ann, "add c cid");
    world.must(ann, "ban c dan");
    world.must(ann, "create private den");
    assert_eq!(world.must(ann, "invite den 1"), "token-5");
    world.must(ann, "enrol second of ann");
    world.open("ann/second/s");
    for conn in [ann, bob, cid] {
        world.must(conn, "join c");
    }
    (world, conns)
}

/// All that someone who asks about everything is told.
fn survey(world: &mut World, conns: &[(&str, crate::hub::ConnId)]) -> Vec<alloc::string::String> {
    let mut answers = Vec::new();
    for (_, conn) in conns {
        for request in [
            "who",
            "who c",
            "who den",
            "channels",
            "machines",
            "users",
            "members c",
            "bans c",
            "invites c",
            "invites den",
        ] {
            if world.lives(*conn) {
                answers.push(world.see(*conn, request));
            }
        }
        answers.extend(world.received(*conn));
        answers.extend(world.closed(*conn));
    }
    answers
}

#[test]
fn nothing_of_a_change_is_seen_before_it_is_durable() {
    for (who, change) in CHANGES {
        let (mut world, conns) = setup();
        let asker = conns.iter().find(|(user, _)| *user == who).unwrap().1;
        let before = survey(&mut world, &conns);
        let request = world.submit(asker, change);
        assert!(world.seal(), "{change}");
        assert_eq!(world.reply(asker, request), None, "{change}");
        assert_eq!(survey(&mut world, &conns), before, "{change}");
        assert_eq!(*world.hub.directory(), world.stored);
        world.persist();
        assert!(
            world.reply(asker, request).is_some_and(|answer| !super::world::is_refused(&answer)),
            "{change}"
        );
        assert_ne!(survey(&mut world, &conns), before, "{change}");
    }
}

#[test]
fn a_change_that_could_not_be_stored_changed_nothing_and_the_next_works() {
    for (who, change) in CHANGES {
        let (mut world, conns) = setup();
        let asker = conns.iter().find(|(user, _)| *user == who).unwrap().1;
        let before = survey(&mut world, &conns);
        let request = world.submit(asker, change);
        world.seal();
        world.fail();
        assert!(world.reply(asker, request).unwrap().starts_with("Internal"), "{change}");
        assert_eq!(survey(&mut world, &conns), before, "{change}");
        world.must(asker, change);
    }
}

#[test]
fn a_batch_that_failed_fails_each_of_its_requesters_and_nobody_else() {
    let (mut world, conns) = setup();
    let [_, (_, ann), (_, bob), (_, cid), _] = conns;
    let first = world.submit(ann, "post c one");
    let second = world.submit(bob, "post c two");
    let change = world.submit(cid, "create public mine");
    world.seal();
    let waits = world.submit(bob, "post c three");
    world.fail();
    for (conn, request) in [(ann, first), (bob, second), (cid, change)] {
        assert!(world.reply(conn, request).unwrap().starts_with("Internal"));
    }
    assert_eq!(world.reply(bob, waits), None);
    world.settle();
    assert_eq!(world.reply(bob, waits).unwrap(), "sent");
    assert_eq!(world.received(cid), ["c bob/m/s: three"]);
}

#[test]
fn folding_the_stored_records_gives_the_directory_that_the_hub_had() {
    for (who, change) in CHANGES {
        let (mut world, conns) = setup();
        world.must(conns.iter().find(|(user, _)| *user == who).unwrap().1, change);
        assert_eq!(world.records.iter().collect::<Directory>(), *world.hub.directory(), "{change}");
    }
}

#[test]
fn an_outcome_of_another_batch_is_not_this_ones() {
    let (mut world, conns) = setup();
    let ann = conns[1].1;
    let request = world.submit(ann, "post c one");
    world.seal();
    let batch = world.in_flight.as_ref().unwrap().0;
    for other in [BatchId(batch.0 - 1), BatchId(batch.0 + 1)] {
        world.handle(Input::Persisted { batch: other });
        world.handle(Input::PersistFailed { batch: other, why: "late".into() });
    }
    assert_eq!(world.reply(ann, request), None);
    world.persist();
    assert_eq!(world.reply(ann, request).unwrap(), "sent");
}

#[test]
fn a_registration_that_could_not_be_stored_leaves_the_name_free() {
    let mut world = World::new();
    let conn = world.connect(proven("ann", "m", "s", true));
    world.seal();
    world.fail();
    assert!(world.closed(conn).unwrap().starts_with("Internal"));
    assert_eq!(world.stored, Directory::default());
    world.register("ann");
}

#[test]
fn the_same_inputs_give_the_same_actions() {
    let run = || {
        let (mut world, conns) = setup();
        let mut seen = survey(&mut world, &conns);
        for (who, change) in CHANGES {
            let conn = conns.iter().find(|(user, _)| *user == who).unwrap().1;
            if world.lives(conn) {
                seen.push(world.ask(conn, change));
            }
        }
        (seen, world.records, world.hub)
    };
    assert!(run() == run());
}
