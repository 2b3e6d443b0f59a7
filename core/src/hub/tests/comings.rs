//! Events: who joins and leaves, machines that are added, a server that stops.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::streams::{ask, c, join_v2, told, world};
use super::world::{World, proven};
use crate::hub::{ConnId, Input};
use crate::protocol::{Refusal, Reply};
use crate::stream::{Notice, Start, StreamCommand, StreamReply};

/// What of a notice these tests look at.
pub(super) fn show(notice: &Notice) -> String {
    match notice {
        Notice::PresenceChanged { comings, .. } => {
            let all = |sign: char, list: &[alloc::sync::Arc<crate::name::SessionPath>]| {
                list.iter().map(|path| format!("{sign}{path} ")).collect::<String>()
            };
            let many = if comings.many { "many" } else { "" };
            let text = all('+', &comings.joined) + &all('-', &comings.left) + many;
            String::from(text.trim_end())
        }
        Notice::MachineAdded(added) => format!("machine {}", added.name),
        Notice::Draining => "draining".into(),
        other => panic!("{other:?}"),
    }
}

fn watch(world: &mut World, conn: ConnId, on: bool) -> Reply {
    ask(world, conn, StreamCommand::WatchPresence { stream: c(), on })
}

/// A channel `c` with ann, and bea of version 2 who watches it.
fn watched() -> (World, ConnId, ConnId) {
    let (mut world, ann) = world();
    let bea = join_v2(&mut world, "bea", false);
    ask(&mut world, bea, StreamCommand::Subscribe { stream: c(), from: Start::Latest, invite: None });
    assert_eq!(watch(&mut world, bea, true), Reply::Stream(StreamReply::Done));
    told(&mut world, bea);
    (world, ann, bea)
}

#[test]
fn who_watches_is_told_who_joins_and_leaves_whatever_the_version_and_the_reason() {
    let (mut world, ann, bea) = watched();
    let carl = world.register("carl");
    world.must(carl, "join c");
    assert_eq!(told(&mut world, bea), ["+carl/m/s"]);
    world.pass(Duration::from_secs(1));
    world.must(ann, "kick c carl");
    world.settle();
    assert_eq!(told(&mut world, bea), ["-carl/m/s"]);
    world.must(carl, "join c");
    world.pass(Duration::from_secs(1));
    world.settle();
    assert_eq!(told(&mut world, bea), ["+carl/m/s"]);
    world.close(carl);
    world.pass(Duration::from_secs(1));
    world.settle();
    assert_eq!(told(&mut world, bea), ["-carl/m/s"]);
}

#[test]
fn changes_are_gathered_and_who_came_and_went_is_not_named() {
    let (mut world, ann, bea) = watched();
    let [carl, dora] = ["carl", "dora"].map(|user| world.register(user));
    world.must(carl, "join c");
    assert_eq!(told(&mut world, bea), ["+carl/m/s"], "the first at once");
    for _ in 0..50 {
        world.must(dora, "join c");
        world.must(dora, "leave c");
    }
    world.must(carl, "leave c");
    assert!(told(&mut world, bea).is_empty());
    world.pass(Duration::from_millis(100));
    world.settle();
    assert_eq!(told(&mut world, bea), ["-carl/m/s"]);
    world.must(ann, "leave c");
    world.pass(Duration::from_millis(100));
    world.settle();
    assert_eq!(told(&mut world, bea), ["-ann/m/s"]);
}

#[test]
fn of_very_many_no_names_are_told() {
    let (mut world, _, bea) = watched();
    let carl = world.register("carl");
    world.must(carl, "join c");
    told(&mut world, bea);
    for nth in 0..300 {
        let conn = world.connect(proven("carl", "m", &format!("h{nth}"), false));
        world.see(conn, "join c");
    }
    world.pass(Duration::from_millis(100));
    world.settle();
    assert_eq!(told(&mut world, bea), ["many"]);
}

#[test]
fn a_watch_ends_with_its_subscription_and_with_a_word() {
    let (mut world, ann, bea) = watched();
    watch(&mut world, bea, false);
    world.must(ann, "leave c");
    world.settle();
    assert!(told(&mut world, bea).is_empty());
    watch(&mut world, bea, true);
    ask(&mut world, bea, StreamCommand::Unsubscribe { stream: c() });
    world.must(ann, "join c");
    world.pass(Duration::from_secs(1));
    world.settle();
    assert!(told(&mut world, bea).is_empty());
    assert!(matches!(watch(&mut world, bea, true), Reply::Refused(Refusal::NotSubscribed(_))));
    let mine = crate::stream::StreamRef::Mailbox(crate::stream::MailboxRef::Mine);
    let mailbox = ask(&mut world, bea, StreamCommand::WatchPresence { stream: mine, on: true });
    assert!(matches!(mailbox, Reply::Refused(Refusal::InvalidField(_))));
}

#[test]
fn a_machine_that_is_added_is_told_to_the_users_other_sessions_once_it_is_there() {
    let (mut world, _, bea) = watched();
    let mut other = proven("bea", "m", "other", false);
    other.terms.format = crate::handshake::Format::V2;
    let other = world.connect(other);
    world.submit(bea, "enrol phone of bea");
    world.seal();
    assert!(told(&mut world, other).is_empty(), "not before it is durable");
    world.persist();
    assert_eq!(told(&mut world, other), ["machine phone"]);
    assert!(told(&mut world, bea).is_empty());
    world.submit(bea, "enrol tablet of bea");
    world.seal();
    world.fail();
    assert!(told(&mut world, other).is_empty());
}

#[test]
fn a_server_that_stops_says_so_first() {
    let (mut world, ann, bea) = watched();
    world.submit(ann, "post c last");
    world.handle(Input::Shutdown);
    assert_eq!(told(&mut world, bea), ["draining"]);
    assert!(world.lives(bea), "what was accepted is still answered");
    world.settle();
    assert!(!world.lives(bea) && world.drained);
}

proptest! {
    /// Who keeps a list by what presence says and then by events has the true one, once all is told.
    #[test]
    fn a_list_that_is_kept_by_events_is_true(
        steps in proptest::collection::vec((0..3_usize, 0..4_u8, 0..80_u64), 1..80),
    ) {
        let (mut world, ann, bea) = watched();
        let users = ["carl", "dora", "emil"];
        let mut conns = users.map(|user| world.register(user));
        let list = |world: &mut World| -> BTreeSet<String> {
            let answer = world.must(ann, "who c");
            answer.split(' ').skip(1).map(Into::into).collect()
        };
        let mut kept = list(&mut world);
        for (who, step, pause) in steps {
            match step {
                0 | 1 => drop(world.must(conns[who], "join c")),
                2 => drop(world.must(conns[who], "leave c")),
                _ => {
                    // It comes back under its name: the older session ends.
                    conns[who] = world.connect(proven(users[who], "m", "s", false));
                }
            }
            world.pass(Duration::from_millis(pause));
            world.settle();
            for line in told(&mut world, bea) {
                for change in line.split(' ') {
                    let (sign, path) = change.split_at(1);
                    match sign {
                        "+" => prop_assert!(kept.insert(path.into()), "{path} joined twice"),
                        "-" => prop_assert!(kept.remove(path), "{path} left and was not there"),
                        other => prop_assert!(false, "{other}"),
                    }
                }
            }
        }
        world.pass(Duration::from_millis(100));
        world.settle();
        let rest: Vec<String> = told(&mut world, bea);
        for change in rest.iter().flat_map(|line| line.split(' ')) {
            let (sign, path) = change.split_at(1);
            if sign == "+" { kept.insert(path.into()); } else { kept.remove(path); }
        }
        prop_assert_eq!(kept, list(&mut world));
    }
}
