//! Invites: what they open, how often and how long.

use alloc::format;
use core::time::Duration;

use super::world::World;
use crate::hub::ConnId;
use crate::time::UnixMillis;

fn den() -> (World, ConnId, ConnId) {
    let mut world = World::new();
    let (ann, bob) = (world.register("ann"), world.register("bob"));
    world.must(ann, "create private den");
    (world, ann, bob)
}

#[test]
fn an_invite_makes_a_member_once_it_is_durable() {
    let (mut world, ann, bob) = den();
    let token = world.must(ann, "invite den");
    let request = world.submit(bob, &format!("join den {token}"));
    world.seal();
    assert_eq!(world.reply(bob, request), None);
    assert_eq!(world.see(ann, "who den"), "here");
    world.persist();
    assert_eq!(world.reply(bob, request).unwrap(), "joined den");
    assert_eq!(world.must(ann, "members den"), "users ann bob");
    assert_eq!(world.must(ann, "who den"), "here bob/m/s");
}

#[test]
fn a_member_joins_without_using_an_invite_up() {
    let (mut world, ann, bob) = den();
    let token = world.must(ann, "invite den 1");
    world.must(ann, "add den bob");
    world.must(bob, &format!("join den {token}"));
    assert_eq!(world.must(ann, "invites den"), format!("invites {token}x1"));
}

#[test]
fn the_last_use_goes_to_exactly_one_of_two_racing_users() {
    let (mut world, ann, bob) = den();
    let cid = world.register("cid");
    let token = world.must(ann, "invite den 1");
    let (first, second) =
        (world.submit(bob, &format!("join den {token}")), world.submit(cid, &format!("join den {token}")));
    world.settle();
    assert_eq!(world.reply(bob, first).unwrap(), "joined den");
    assert!(world.reply(cid, second).unwrap().starts_with("NotFound"));
    assert_eq!(world.must(ann, "members den"), "users ann bob");
    assert_eq!(world.must(ann, "invites den"), "invites");
}

#[test]
fn the_last_use_goes_to_the_second_if_the_first_could_not_be_stored() {
    let (mut world, ann, bob) = den();
    let cid = world.register("cid");
    let token = world.must(ann, "invite den 1");
    let (first, second) =
        (world.submit(bob, &format!("join den {token}")), world.submit(cid, &format!("join den {token}")));
    world.seal();
    world.fail();
    world.settle();
    assert!(world.reply(bob, first).unwrap().starts_with("Internal"));
    assert_eq!(world.reply(cid, second).unwrap(), "joined den");
}

#[test]
fn uses_are_counted_down() {
    let (mut world, ann, bob) = den();
    let token = world.must(ann, "invite den 2");
    world.must(bob, &format!("join den {token}"));
    assert_eq!(world.must(ann, "invites den"), format!("invites {token}x1"));
}

#[test]
fn an_expired_invite_opens_nothing() {
    let (mut world, ann, bob) = den();
    let token = world.must(ann, "invite den - 60");
    assert_eq!(world.must(ann, "invites den"), format!("invites {token}@{}", world.now.wall.0 + 60_000));
    world.pass(Duration::from_secs(59));
    world.must(ann, "ping");
    world.must(bob, "ping");
    assert_eq!(world.must(bob, &format!("join den {token}")), "joined den");
    world.must(ann, "remove den bob");
    world.pass(Duration::from_secs(1));
    assert!(world.ask(bob, &format!("join den {token}")).starts_with("NotFound"));
    assert_eq!(world.must(ann, "invites den"), "invites");
}

#[test]
fn an_invite_that_expires_in_line_opens_nothing() {
    let (mut world, ann, bob) = den();
    let token = world.must(ann, "invite den - 5");
    world.submit(ann, "create public other");
    world.seal();
    let request = world.submit(bob, &format!("join den {token}"));
    world.pass(Duration::from_secs(6));
    world.settle();
    assert!(world.reply(bob, request).unwrap().starts_with("NotFound"));
}

#[test]
fn a_lifetime_that_overflows_is_refused() {
    let (mut world, ann, _) = den();
    for lifetime in [u64::MAX, i64::MAX as u64 / 1_000, 253_402_300_800] {
        let answer = world.ask(ann, &format!("invite den - {lifetime}"));
        assert!(answer.starts_with("Malformed: an invite cannot live that long"), "{lifetime}: {answer}");
    }
    world.now.wall = UnixMillis(i64::MAX);
    assert!(world.ask(ann, "invite den - 1").starts_with("Malformed"));
    assert!(world.ask(ann, "invite den 0").starts_with("Malformed"));
}

#[test]
fn an_invite_opens_its_own_channel_only() {
    let (mut world, ann, bob) = den();
    world.must(ann, "create private vault");
    let token = world.must(ann, "invite den");
    assert!(world.ask(bob, &format!("join vault {token}")).starts_with("NotFound"));
}

#[test]
fn an_invite_lets_no_banned_user_in() {
    let (mut world, ann, bob) = den();
    let token = world.must(ann, "invite den");
    world.must(ann, "ban den bob");
    assert!(world.ask(bob, &format!("join den {token}")).starts_with("NotFound"));
}

#[test]
fn a_revoked_invite_opens_nothing() {
    let (mut world, ann, bob) = den();
    let token = world.must(ann, "invite den");
    assert_eq!(world.must(ann, &format!("revoke {token}")), format!("done {token}"));
    assert!(world.ask(bob, &format!("join den {token}")).starts_with("NotFound"));
}

#[test]
fn revoking_acknowledges_the_same_for_a_token_that_does_not_exist() {
    let (mut world, ann, bob) = den();
    let token = world.must(ann, "invite den");
    assert_eq!(world.ask(bob, &format!("revoke {token}")), format!("done {token}"));
    assert_eq!(world.ask(bob, "revoke no-such"), "done no-such");
    assert_eq!(world.must(ann, "invites den"), format!("invites {token}"), "it was not his to revoke");
}

#[test]
fn a_token_in_use_is_not_given_again() {
    let (mut world, ann, _) = den();
    let token = crate::protocol::Token::new("same");
    let admin = crate::protocol::Admin::InviteCreate {
        channel: crate::name::ChannelName::new("den").unwrap(),
        uses: None,
        lifetime: None,
    };
    for (request, expected) in [(900, "same"), (901, "Internal: the server has no fresh token: try again")] {
        let request = crate::hub::RequestId(request);
        let command = crate::protocol::Command::Admin(admin.clone());
        world.handle(crate::hub::Input::Request { conn: ann, request, command, token: Some(token.clone()) });
        world.settle();
        assert_eq!(world.reply(ann, request).unwrap(), expected);
    }
}

#[test]
fn invites_are_listed_oldest_first_to_admins_of_the_channel() {
    let (mut world, ann, bob) = den();
    let first = world.must(ann, "invite den");
    world.pass(Duration::from_millis(1));
    let second = world.must(ann, "invite den 3");
    assert_eq!(world.must(ann, "invites den"), format!("invites {first} {second}x3"));
    assert!(world.ask(bob, "invites den").starts_with("NotFound"));
}

#[test]
fn an_invite_to_a_channel_that_everyone_may_join_makes_no_member() {
    let (mut world, ann, bob) = den();
    let token = world.must(ann, "invite den 1");
    world.must(ann, "set unlisted den");
    assert_eq!(world.must(bob, &format!("join den {token}")), "joined den");
    assert_eq!(world.must(ann, "members den"), "users ann");
}
