//! Users, machines and sessions: who is let in, under which name, and what ends a session.

use alloc::vec::Vec;

use super::world::{World, is_refused, key, proven};
use crate::directory::Directory;
use crate::hub::{Config, Registration};
use crate::name::UserName;

#[test]
fn who_registers_is_a_session_once_it_is_durable() {
    let mut world = World::new();
    let conn = world.connect(proven("ann", "m", "s", true));
    assert!(world.seal());
    assert_eq!(world.established(conn), None);
    world.persist();
    assert_eq!(world.established(conn), Some(("ann/m/s".into(), false)));
    assert_eq!(world.stored.user_count(), 1);
}

#[test]
fn a_taken_name_is_refused() {
    let mut world = World::new();
    let ann = world.register("ann");
    let mut other = proven("ann", "m", "s", true);
    other.key = key("eve", "m");
    let eve = world.connect(other);
    assert!(world.closed(eve).unwrap().starts_with("Unauthorized: the name 'ann' is in use"));
    assert!(world.lives(ann));
}

#[test]
fn an_enrolled_key_registers_no_second_user() {
    let mut world = World::new();
    world.register("ann");
    let mut again = proven("ann2", "m", "s", true);
    again.key = key("ann", "m");
    let conn = world.connect(again);
    assert!(world.closed(conn).unwrap().starts_with("Unauthorized: this machine's key is enrolled already"));
}

#[test]
fn of_two_who_claim_a_name_at_once_the_first_gets_it() {
    let mut world = World::new();
    let first = world.connect(proven("ann", "m", "s", true));
    let mut other = proven("ann", "m", "s", true);
    other.key = key("eve", "m");
    let second = world.connect(other);
    assert_eq!(world.closed(second), None, "it waits for the first one's outcome");
    world.settle();
    assert!(world.lives(first));
    assert!(world.closed(second).unwrap().starts_with("Unauthorized"));
}

#[test]
fn the_second_claim_of_a_name_is_granted_if_the_first_could_not_be_stored() {
    let mut world = World::new();
    let first = world.connect(proven("ann", "m", "s", true));
    let mut other = proven("ann", "m", "s", true);
    other.key = key("eve", "m");
    let second = world.connect(other);
    world.seal();
    world.fail();
    assert!(world.closed(first).unwrap().starts_with("Internal"));
    world.settle();
    assert!(world.lives(second));
}

#[test]
fn an_unknown_key_is_refused() {
    let mut world = World::new();
    let conn = world.connect(proven("ann", "m", "s", false));
    assert!(world.closed(conn).unwrap().starts_with("Unauthorized: this machine's key is not enrolled here"));
}

#[test]
fn whoever_had_a_name_before_it_was_pinned_is_no_admin() {
    let mut before = World::new();
    before.register("boss");
    for (pin, admin) in [(key("boss", "m"), true), (key("the true boss", "m"), false)] {
        let mut config = Config::default();
        config.admins.insert(UserName::new("boss").unwrap(), Some(pin));
        let mut world = World::over(config, before.stored.clone());
        assert_eq!(world.hub.usurped().count(), usize::from(!admin));
        let boss = world.open("boss/m/s");
        assert_eq!(world.established(boss), Some(("boss/m/s".into(), admin)));
        assert_eq!(world.ask(boss, "users").starts_with("Unauthorized"), !admin);
    }
}

#[test]
fn a_pinned_name_is_claimed_by_its_key_only() {
    let mut config = Config::default();
    config.admins.insert(UserName::new("boss").unwrap(), Some(key("boss", "m")));
    let mut world = World::over(config, Directory::default());
    let mut eve = proven("boss", "m", "s", true);
    eve.key = key("eve", "m");
    let eve = world.connect(eve);
    assert!(world.closed(eve).unwrap().starts_with("Unauthorized: this name is reserved for another key"));
    assert!(world.in_flight.is_none() && !world.hub.has_batch());
    let boss = world.register("boss");
    assert_eq!(world.established(boss), Some(("boss/m/s".into(), true)));
}

#[test]
fn where_registration_is_closed_only_named_admins_become_users() {
    let mut directory = World::new();
    directory.register("ann");
    let mut config = Config { registration: Registration::Closed, ..Config::default() };
    config.admins.insert(UserName::new("boss").unwrap(), None);
    let mut world = World::over(config, directory.stored);
    // A name that is taken and one that is free are refused alike.
    let refused: Vec<_> = ["ann", "new"]
        .map(|user| {
            let mut stranger = proven(user, "m", "s", true);
            stranger.key = key("eve", "m");
            let conn = world.connect(stranger);
            world.closed(conn).unwrap()
        })
        .into();
    assert!(refused[0].starts_with("Unauthorized: registration is closed on this server: ask its operator"));
    assert_eq!(refused[0], refused[1]);
    assert!(world.in_flight.is_none());
    // Who is a user stays one, and is told so when registering again.
    world.open("ann/m/s");
    let mut again = proven("ann2", "m", "t", true);
    again.key = key("ann", "m");
    let again = world.connect(again);
    assert!(world.closed(again).unwrap().starts_with("Unauthorized: this machine's key is enrolled already"));
    let boss = world.register("boss");
    assert_eq!(world.established(boss), Some(("boss/m/s".into(), true)));
}

#[test]
fn admins_of_the_server_are_told_that_they_are() {
    let mut world = World::new();
    let (root, ann) = (world.register("root"), world.register("ann"));
    assert!(world.established(root).unwrap().1);
    assert!(!world.established(ann).unwrap().1);
}

#[test]
fn a_registration_whose_connection_closed_makes_a_user_and_no_session() {
    let mut world = World::new();
    let conn = world.connect(proven("ann", "m", "s", true));
    world.seal();
    world.close(conn);
    world.settle();
    assert_eq!(world.established(conn), None);
    assert_eq!(world.hub.sessions().count(), 0);
    assert_eq!(world.stored.user_count(), 1);
    world.open("ann/m/s");
}

#[test]
fn a_registration_that_waited_and_whose_connection_closed_leaves_no_trace() {
    let mut world = World::new();
    world.connect(proven("ann", "m", "s", true));
    world.seal();
    let bob = world.connect(proven("bob", "m", "s", true));
    world.close(bob);
    world.settle();
    assert_eq!(world.stored.user_count(), 1);
}

#[test]
fn a_newer_connection_of_a_path_supersedes_the_older_and_starts_without_subscriptions() {
    let mut world = World::new();
    let (older, bob) = (world.register("ann"), world.register("bob"));
    world.must(older, "create public c");
    world.must(older, "join c");
    world.must(bob, "join c");
    let newer = world.open("ann/m/s");
    assert_eq!(world.closed(older).unwrap(), "session superseded by a newer connection with the same path");
    assert!(!world.lives(older));
    assert_eq!(world.must(bob, "who c"), "here bob/m/s");
    world.must(bob, "post c hello");
    assert!(world.received(newer).is_empty() && world.received(older).is_empty());
    assert_eq!(world.must(bob, "who"), "here ann/m/s bob/m/s", "one live session for each path");
}

#[test]
fn a_late_end_of_a_superseded_connection_leaves_the_newer_alone() {
    let mut world = World::new();
    let older = world.register("ann");
    let newer = world.open("ann/m/s");
    world.close(older);
    assert!(world.lives(newer));
    assert_eq!(world.must(newer, "who"), "here ann/m/s");
}

#[test]
fn sessions_of_another_handle_or_machine_live_beside() {
    let mut world = World::new();
    let ann = world.register("ann");
    world.must(ann, "enrol laptop of ann");
    let (second, third) = (world.open("ann/m/t"), world.open("ann/laptop/s"));
    assert_eq!(world.must(ann, "who"), "here ann/laptop/s ann/m/s ann/m/t");
    assert!(world.lives(second) && world.lives(third));
}

#[test]
fn a_machine_has_a_name_unique_in_its_user_and_a_key_unique_on_the_server() {
    let mut world = World::new();
    let (ann, bob) = (world.register("ann"), world.register("bob"));
    assert_eq!(world.must(ann, "enrol laptop of ann"), "done laptop");
    assert_eq!(world.must(bob, "enrol laptop of bob"), "done laptop");
    assert!(world.ask(ann, "enrol laptop of eve").starts_with("Unauthorized: the name 'laptop' is in use"));
    assert!(world.ask(bob, "enrol m of ann").starts_with("Unauthorized: this key is enrolled already"));
    assert_eq!(world.must(ann, "machines"), "machines laptop m");
}

#[test]
fn a_removed_machine_ends_its_sessions_at_once_and_cannot_come_back() {
    let mut world = World::new();
    let ann = world.register("ann");
    world.must(ann, "enrol laptop of ann");
    let laptop = world.open("ann/laptop/s");
    assert_eq!(world.must(ann, "retire laptop"), "done laptop");
    assert_eq!(world.closed(laptop).unwrap(), "machine key revoked");
    assert!(world.lives(ann));
    let again = world.connect(proven("ann", "laptop", "s", false));
    assert!(world.closed(again).unwrap().starts_with("Unauthorized"));
    assert!(world.ask(ann, "retire laptop").starts_with("NotFound"));
}

#[test]
fn a_session_that_removes_its_own_machine_is_answered_and_then_ended() {
    let mut world = World::new();
    let ann = world.register("ann");
    world.must(ann, "enrol laptop of ann");
    let request = world.submit(ann, "retire m");
    world.seal();
    assert!(world.lives(ann), "not before it is durable");
    let (batch, records) = world.in_flight.clone().unwrap();
    let mut actions = Vec::new();
    world.hub.clone().handle(world.now, crate::hub::Input::Persisted { batch }, &mut actions);
    assert!(matches!(actions[0], crate::hub::Action::Reply { request: answered, .. } if answered == request));
    assert!(matches!(actions[1], crate::hub::Action::Close { conn, .. } if conn == ann));
    assert_eq!((actions.len(), records.len()), (2, 2), "with its entry of the audit trail");
}

#[test]
fn the_last_machine_of_a_user_stays() {
    let mut world = World::new();
    let ann = world.register("ann");
    assert!(world.ask(ann, "retire m").starts_with("Unauthorized: this is your last machine"));
    assert!(world.lives(ann));
}

#[test]
fn a_removed_user_loses_sessions_channels_memberships_and_machines() {
    let mut world = World::new();
    let (root, ann, bob) = (world.register("root"), world.register("ann"), world.register("bob"));
    world.must(ann, "create public hers");
    world.must(bob, "create public his");
    world.must(bob, "add his ann");
    world.must(bob, "join hers");
    world.must(ann, "join his");
    let (request, post) = (world.submit(root, "expel ann"), world.submit(ann, "post his late"));
    world.settle();
    assert_eq!(world.reply(root, request).unwrap(), "done ann");
    assert_eq!(world.reply(ann, post), None, "its requests that waited end with it");
    assert_eq!(world.closed(ann).unwrap(), "user removed");
    assert_eq!(world.must(bob, "channels"), "channels his:Public:member");
    assert_eq!(world.must(bob, "members his"), "users bob");
    assert_eq!(world.must(bob, "who his"), "here");
    assert!(world.ask(bob, "post hers hello").starts_with("NotFound"));
    let again = world.connect(proven("ann", "m", "s", false));
    assert!(is_refused(&world.closed(again).unwrap()));
}

#[test]
fn who_takes_a_freed_name_is_nobodys_heir() {
    let mut world = World::new();
    let (root, ann, bob) = (world.register("root"), world.register("ann"), world.register("bob"));
    world.must(bob, "create private den");
    world.must(bob, "add den ann");
    world.must(bob, "create public square");
    world.must(bob, "ban square ann");
    world.must(root, "expel ann");
    assert!(!world.lives(ann));
    let heir = world.register("ann");
    assert!(world.ask(heir, "join den").starts_with("NotFound"));
    assert_eq!(world.must(heir, "join square"), "joined square");
}

#[test]
fn only_admins_of_the_server_remove_and_list_users() {
    let mut world = World::new();
    let (root, ann) = (world.register("root"), world.register("ann"));
    assert!(world.ask(ann, "expel root").starts_with("Unauthorized"));
    assert!(world.ask(ann, "users").starts_with("Unauthorized"));
    assert_eq!(world.must(root, "users"), "users ann root");
    assert!(world.ask(root, "expel nobody").starts_with("NotFound"));
}
