//! Members, kicks and bans: who may, and what it ends.

use alloc::format;

use super::world::World;
use crate::hub::ConnId;

/// `ann` administers the public `square`; `ann` and `bob` are in it.
fn square() -> (World, ConnId, ConnId) {
    let mut world = World::new();
    let (ann, bob) = (world.register("ann"), world.register("bob"));
    world.must(ann, "create public square");
    world.must(ann, "join square");
    world.must(bob, "join square");
    (world, ann, bob)
}

#[test]
fn the_creator_is_a_member_and_admin_and_so_is_every_admin_of_the_server() {
    let (mut world, ann, bob) = square();
    let root = world.register("root");
    assert_eq!(world.must(ann, "members square"), "users ann");
    for request in
        ["set unlisted square", "add square bob", "kick square bob", "ban square bob", "unban square bob"]
    {
        world.must(ann, "unban square bob");
        world.must(bob, "join square");
        world.must(ann, request);
        world.must(ann, "unban square bob");
        world.must(bob, "join square");
        world.must(root, request);
    }
    world.must(root, "rename square plaza");
    world.must(root, "delete plaza");
}

#[test]
fn who_sees_a_channel_and_does_not_administer_it_is_refused() {
    let (mut world, ann, bob) = square();
    world.must(ann, "add square bob");
    for request in [
        "delete square",
        "rename square mine",
        "set private square",
        "add square bob",
        "remove square ann",
        "members square",
        "invite square",
        "invites square",
        "kick square ann",
        "ban square ann",
        "unban square ann",
        "bans square",
    ] {
        let answer = world.ask(bob, request);
        assert_eq!(answer, "Unauthorized: only an admin of 'square' may do that", "{request}");
    }
}

#[test]
fn removing_a_member_ends_all_its_subscriptions_before_the_reply() {
    let (mut world, ann, bob) = square();
    let other = world.open("bob/m/other");
    world.must(other, "join square");
    world.must(ann, "add square bob");
    let request = world.submit(ann, "remove square bob");
    world.seal();
    assert_eq!(world.reply(ann, request), None);
    world.persist();
    assert_eq!(world.reply(ann, request).unwrap(), "done bob");
    assert_eq!(world.must(ann, "who square"), "here ann/m/s");
    world.must(ann, "post square hello");
    assert!(world.received(bob).is_empty() && world.received(other).is_empty());
    assert_eq!(world.must(bob, "join square"), "joined square", "it is no ban");
}

#[test]
fn removing_who_is_no_member_ends_its_subscriptions_too() {
    let (mut world, ann, bob) = square();
    assert_eq!(world.must(ann, "remove square bob"), "done bob");
    assert!(world.ask(bob, "post square hello").starts_with("Unauthorized: this session is not in 'square'"));
}

#[test]
fn the_creator_stays_a_member_and_cannot_be_banned() {
    let (mut world, _, _) = square();
    let root = world.register("root");
    assert!(world.ask(root, "remove square ann").starts_with("Unauthorized"));
    assert!(world.ask(root, "ban square ann").starts_with("Unauthorized"));
    assert!(world.ask(root, "ban square root").starts_with("Unauthorized"));
}

#[test]
fn a_kick_ends_the_subscriptions_of_a_user_and_nothing_else() {
    let (mut world, ann, bob) = square();
    world.must(ann, "add square bob");
    let other = world.open("bob/m/other");
    world.must(other, "join square");
    assert_eq!(world.must(ann, "kick square bob"), "done bob");
    assert_eq!(world.must(ann, "who square"), "here ann/m/s");
    assert!(world.lives(bob) && world.lives(other));
    assert_eq!(world.must(ann, "members square"), "users ann bob");
    assert_eq!(world.must(bob, "join square"), "joined square");
}

#[test]
fn a_path_kicks_one_session() {
    let (mut world, ann, bob) = square();
    let other = world.open("bob/m/other");
    world.must(other, "join square");
    assert_eq!(world.must(ann, "kick square bob/m/other"), "done bob/m/other");
    assert_eq!(world.must(ann, "who square"), "here ann/m/s bob/m/s");
    world.must(ann, "post square hello");
    assert_eq!(world.received(bob).len(), 1);
    assert!(world.received(other).is_empty());
}

#[test]
fn kicking_who_is_not_there_says_so_whether_it_exists_or_not() {
    let (mut world, ann, _) = square();
    world.register("cid");
    for target in ["cid", "nobody", "cid/m/s", "no/such/one"] {
        let answer = world.ask(ann, &format!("kick square {target}"));
        assert_eq!(answer, format!("NotFound: '{target}' is not in 'square'"));
    }
}

#[test]
fn a_ban_ends_subscriptions_and_membership_and_stays_until_lifted() {
    let (mut world, ann, bob) = square();
    world.must(ann, "add square bob");
    assert_eq!(world.must(ann, "ban square bob"), "done bob");
    assert_eq!(world.must(ann, "who square"), "here ann/m/s");
    assert_eq!(world.must(ann, "members square"), "users ann");
    assert_eq!(world.must(ann, "bans square"), "users bob");
    assert!(world.ask(bob, "join square").starts_with("NotFound"));
    let back = world.open("bob/m/s");
    assert!(world.ask(back, "join square").starts_with("NotFound"), "a new session changes nothing");
    assert_eq!(world.must(ann, "ban square bob"), "done bob", "again: nothing to do");
    assert_eq!(world.must(ann, "unban square bob"), "done bob");
    assert_eq!(world.must(back, "join square"), "joined square");
    assert_eq!(world.must(ann, "members square"), "users ann", "lifting a ban makes no member");
    assert_eq!(world.must(ann, "unban square bob"), "done bob");
}

#[test]
fn a_ban_ends_a_join_that_came_while_it_was_stored() {
    let (mut world, ann, bob) = square();
    world.must(bob, "leave square");
    world.submit(ann, "ban square bob");
    world.seal();
    assert_eq!(world.see(bob, "join square"), "joined square", "he is not banned yet");
    world.settle();
    assert_eq!(world.must(ann, "who square"), "here ann/m/s");
    assert!(world.ask(bob, "who square").starts_with("NotFound"));
}

#[test]
fn adding_a_member_lifts_a_ban() {
    let (mut world, ann, bob) = square();
    world.must(ann, "ban square bob");
    assert_eq!(world.must(ann, "add square bob"), "done bob");
    assert_eq!(world.must(ann, "bans square"), "users");
    assert_eq!(world.must(ann, "members square"), "users ann bob");
    assert_eq!(world.must(bob, "join square"), "joined square");
    assert_eq!(world.must(ann, "add square bob"), "done bob", "again: nothing to do");
}

#[test]
fn a_name_that_no_user_holds_is_not_added_banned_or_removed() {
    let (mut world, ann, _) = square();
    for request in ["add square later", "ban square later", "remove square later", "unban square later"] {
        assert_eq!(world.ask(ann, request), "NotFound: no user 'later'", "{request}");
    }
    let later = world.register("later");
    world.must(ann, "set private square");
    assert!(world.ask(later, "join square").starts_with("NotFound"));
}

#[test]
fn a_kick_while_history_is_read_ends_the_reading() {
    let (mut world, ann, bob) = square();
    world.must(ann, "post square secret");
    let request = world.submit(bob, "read square");
    let wanted = world.reads.pop_front().unwrap();
    world.must(ann, "kick square bob");
    let page = world.page(&wanted);
    world.answer(&wanted, Ok(page));
    assert!(world.reply(bob, request).unwrap().starts_with("Unauthorized: the subscription ended"));
}

#[test]
fn an_operation_is_stored_as_one_transaction() {
    let (mut world, ann, _) = square();
    let root = world.register("root");
    world.must(ann, "add square bob");
    world.must(ann, "create private second");
    for (conn, request) in [(ann, "ban square bob"), (ann, "add square bob"), (root, "expel ann")] {
        let before = world.records.len();
        world.submit(conn, request);
        world.seal();
        let whole = world.in_flight.as_ref().unwrap().1.len();
        assert!(whole > 1, "{request}");
        world.settle();
        assert_eq!(world.records.len(), before + whole, "{request}");
    }
}

#[test]
fn operations_that_come_at_once_happen_one_after_another() {
    let (mut world, ann, bob) = square();
    let requests =
        ["set unlisted square", "rename square den", "add den bob", "delete den", "create public square"]
            .map(|request| (request, world.submit(ann, request)));
    let late = world.submit(bob, "post square late");
    world.settle();
    for (request, id) in requests {
        assert!(world.reply(ann, id).unwrap().starts_with("done"), "{request}");
    }
    assert_eq!(world.reply(bob, late).unwrap(), "sent", "none of them is in its way before the deletion");
}
