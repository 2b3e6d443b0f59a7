//! Visibility: who is shown a channel, who joins it, and the silence towards everyone else.

use alloc::format;
use alloc::string::String;

use super::world::World;
use crate::hub::ConnId;

/// `ann` has a channel of each visibility; `bob` is nobody there.
fn of_each_visibility() -> (World, ConnId, ConnId) {
    let mut world = World::new();
    let (ann, bob) = (world.register("ann"), world.register("bob"));
    for channel in ["public square", "unlisted back", "private den"] {
        world.must(ann, &format!("create {channel}"));
    }
    (world, ann, bob)
}

/// What everyone is told of a channel that does not exist.
fn nothing(name: &str) -> String {
    format!("NotFound: no channel '{name}' that you may see: check its name, or ask for an invite")
}

#[test]
fn a_public_channel_is_listed_to_everyone_the_others_to_members_and_admins_of_the_server() {
    let (mut world, ann, bob) = of_each_visibility();
    let root = world.register("root");
    assert_eq!(world.must(bob, "channels"), "channels square:Public");
    assert_eq!(
        world.must(ann, "channels"),
        "channels back:Unlisted:member den:Private:member square:Public:member"
    );
    assert_eq!(world.must(root, "channels"), "channels back:Unlisted den:Private square:Public");
    world.must(ann, "add den bob");
    assert_eq!(world.must(bob, "channels"), "channels den:Private:member square:Public");
}

#[test]
fn a_public_and_an_unlisted_channel_are_joined_by_whoever_names_them() {
    let (mut world, _, bob) = of_each_visibility();
    assert_eq!(world.must(bob, "join square"), "joined square");
    assert_eq!(world.must(bob, "join back"), "joined back");
}

#[test]
fn a_private_channel_is_joined_by_members_its_creator_and_admins_of_the_server() {
    let (mut world, ann, bob) = of_each_visibility();
    let root = world.register("root");
    assert_eq!(world.ask(bob, "join den"), nothing("den"));
    assert_eq!(world.must(ann, "join den"), "joined den");
    assert_eq!(world.must(root, "join den"), "joined den");
    world.must(ann, "add den bob");
    assert_eq!(world.must(bob, "join den"), "joined den");
}

#[test]
fn who_may_not_see_a_channel_is_told_nothing_by_any_request() {
    let (mut world, ann, bob) = of_each_visibility();
    world.must(ann, "invite den");
    for request in [
        "join C",
        "join C no-such-token",
        "who C",
        "post C text",
        "read C",
        "delete C",
        "rename C other",
        "rename C square",
        "set public C",
        "add C bob",
        "add C nobody",
        "remove C ann",
        "remove C nobody",
        "members C",
        "invite C",
        "invite C 0",
        "invites C",
        "kick C ann",
        "kick C ann/m/s",
        "ban C ann",
        "ban C nobody",
        "unban C ann",
        "bans C",
    ] {
        for hidden in ["den", "no-such"] {
            assert_eq!(world.ask(bob, &request.replace('C', hidden)), nothing(hidden), "{request}");
        }
    }
    assert_eq!(world.ask(bob, "leave den"), "done den");
    assert_eq!(world.ask(bob, "leave no-such"), "done no-such");
}

#[test]
fn a_banned_user_is_told_nothing() {
    let (mut world, ann, bob) = of_each_visibility();
    for channel in ["square", "back"] {
        world.must(ann, &format!("ban {channel} bob"));
        for request in ["join C", "who C", "post C text", "read C", "members C", "kick C ann"] {
            assert_eq!(world.ask(bob, &request.replace('C', channel)), nothing(channel), "{request}");
        }
    }
    assert_eq!(world.must(bob, "channels"), "channels");
}

#[test]
fn leaving_ends_the_subscription() {
    let (mut world, ann, bob) = of_each_visibility();
    world.must(ann, "join square");
    world.must(bob, "join square");
    assert_eq!(world.must(bob, "leave square"), "done square");
    world.must(ann, "post square hello");
    assert!(world.received(bob).is_empty());
    assert_eq!(world.must(bob, "leave square"), "done square", "subscribed or not");
}

#[test]
fn joining_twice_subscribes_once() {
    let (mut world, ann, bob) = of_each_visibility();
    world.must(ann, "join square");
    world.must(bob, "join square");
    world.must(bob, "join square");
    world.must(ann, "post square hello");
    assert_eq!(world.received(bob), ["square ann/m/s: hello"]);
}

#[test]
fn a_name_in_use_is_refused_even_if_it_is_not_seen() {
    let (mut world, _, bob) = of_each_visibility();
    world.must(bob, "create public mine");
    for request in ["create public den", "rename mine den"] {
        assert!(world.ask(bob, request).starts_with("Unauthorized: the name 'den' is in use"), "{request}");
    }
}

#[test]
fn renaming_carries_members_invites_bans_history_and_subscriptions_along() {
    let (mut world, ann, bob) = of_each_visibility();
    let (cid, dan) = (world.register("cid"), world.register("dan"));
    let token = world.must(ann, "invite den 2");
    world.must(ann, "add den bob");
    world.must(ann, "ban den dan");
    world.must(ann, "join den");
    world.must(bob, "join den");
    world.must(ann, "post den one");
    assert_eq!(world.must(ann, "rename den lair"), "done lair");
    world.received(bob);
    world.must(ann, "post lair two");
    assert_eq!(world.received(bob), ["lair ann/m/s: two"]);
    assert_eq!(world.must(bob, "read lair"), "history of lair: one two");
    assert_eq!(world.must(ann, "members lair"), "users ann bob");
    assert_eq!(world.must(ann, "bans lair"), "users dan");
    assert_eq!(world.must(cid, &format!("join lair {token}")), "joined lair");
    assert_eq!(world.ask(dan, &format!("join lair {token}")), nothing("lair"));
    assert_eq!(world.ask(bob, "post den three"), nothing("den"));
    assert_eq!(world.must(ann, "rename lair lair"), "done lair", "to the same name: nothing to do");
}

#[test]
fn deleting_ends_it_all_and_a_new_channel_of_that_name_starts_empty() {
    let (mut world, ann, bob) = of_each_visibility();
    let token = world.must(ann, "invite den");
    world.must(ann, "add den bob");
    world.must(bob, "join den");
    world.must(bob, "post den old");
    assert_eq!(world.must(ann, "delete den"), "done den");
    assert_eq!(world.ask(bob, "post den more"), nothing("den"));
    world.must(ann, "create private den");
    assert_eq!(world.must(ann, "members den"), "users ann");
    assert_eq!(world.must(ann, "who den"), "here");
    assert_eq!(world.must(ann, "invites den"), "invites");
    world.must(ann, "join den");
    assert_eq!(world.must(ann, "read den"), "history of den:");
    assert_eq!(world.ask(bob, "join den"), nothing("den"));
    assert_eq!(world.ask(bob, &format!("join den {token}")), nothing("den"));
}

#[test]
fn a_banned_user_who_becomes_an_admin_of_the_server_sees_everything_again() {
    let (mut world, ann, _) = of_each_visibility();
    world.must(ann, "ban square bob");
    let mut config = world.hub.config().clone();
    config.admins.insert(crate::name::UserName::new("bob").unwrap(), None);
    let mut world = World::over(config, world.stored);
    let bob = world.open("bob/m/s");
    assert_eq!(world.must(bob, "join square"), "joined square");
}

#[test]
fn a_channel_that_becomes_private_is_left_by_whoever_is_no_member() {
    let mut world = World::new();
    let [root, ann, bob, cid] = ["root", "ann", "bob", "cid"].map(|user| world.register(user));
    world.must(ann, "create public c");
    world.must(ann, "add c cid");
    for conn in [root, ann, bob, cid] {
        world.must(conn, "join c");
    }
    world.submit(ann, "set private c");
    let late = world.submit(bob, "post c late");
    world.settle();
    assert!(world.reply(bob, late).unwrap().starts_with("NotFound"), "as if there were none");
    assert_eq!(world.must(ann, "who c"), "here ann/m/s cid/m/s root/m/s");
    world.must(cid, "post c among us");
    assert!(world.received(bob).is_empty());
    for request in ["who c", "join c", "read c", "post c x"] {
        assert!(world.ask(bob, request).starts_with("NotFound"), "{request}");
    }
}
