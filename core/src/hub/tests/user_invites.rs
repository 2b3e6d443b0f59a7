//! Invites to the server.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::world::{World, key, proven};
use crate::handshake::{Format, Proven, Terms};
use crate::hub::{Config, ConnId, Registration};
use crate::name::UserName;
use crate::protocol::{Admin, Code, Command, Limit, Refusal, Reply, Token, UserInviteInfo};

/// A server that takes new users with an invite, and its admin `root`.
fn invited_only() -> (World, ConnId) {
    let mut config = Config { registration: Registration::Invite, ..Config::default() };
    config.admins.insert(UserName::new("root").unwrap(), None);
    config.limits = core::mem::take(&mut config.limits).without_rates();
    config.limits.user_invites = 4;
    let mut world = World::over(config, crate::directory::Directory::default());
    let root = world.register("root");
    (world, root)
}

fn ask(world: &mut World, conn: ConnId, admin: Admin) -> Reply {
    let request = world.submit_command(conn, Command::Admin(admin));
    world.settle();
    world.raw_reply(conn, request).unwrap()
}

fn invite(world: &mut World, root: ConnId, uses: Option<u32>, lifetime: Option<Duration>) -> Token {
    match ask(world, root, Admin::UserInvite { uses, lifetime }) {
        Reply::Invite(token) => token,
        other => panic!("{other:?}"),
    }
}

fn listed(world: &mut World, root: ConnId) -> Vec<UserInviteInfo> {
    match ask(world, root, Admin::UserInviteList) {
        Reply::UserInvites(list) => list,
        other => panic!("{other:?}"),
    }
}

fn claims(user: &str, invite: Option<&Token>) -> Proven {
    let mut proven = proven(user, "m", "s", true);
    proven.terms = Terms { format: Format::V2, keep: false };
    proven.claim.as_mut().unwrap().invite = invite.cloned();
    proven
}

const NONE: &str = "Unauthorized: new users need an invite here, and this is none that lets you in";

#[test]
fn with_an_invite_as_many_register_as_it_has_uses() {
    let (mut world, root) = invited_only();
    let token = invite(&mut world, root, Some(2), None);
    for user in ["ann", "bob"] {
        let conn = world.connect(claims(user, Some(&token)));
        world.settle();
        assert!(world.established(conn).is_some(), "{:?}", world.closed(conn));
    }
    let late = world.connect(claims("carl", Some(&token)));
    assert!(world.closed(late).unwrap().starts_with(NONE));
    assert!(listed(&mut world, root).is_empty());
}

#[test]
fn no_invite_and_one_that_is_worth_nothing_are_refused_alike_whichever_name_is_asked_for() {
    let (mut world, root) = invited_only();
    let ended = invite(&mut world, root, None, Some(Duration::from_secs(60)));
    let revoked = invite(&mut world, root, None, None);
    assert!(matches!(ask(&mut world, root, Admin::InviteRevoke { token: revoked.clone() }), Reply::Done(_)));
    world.pass(Duration::from_secs(61));
    let other = Token::new("no-such");
    let mut told: Vec<String> = Vec::new();
    for invite in [None, Some(&other), Some(&ended), Some(&revoked)] {
        for user in ["root2", "new"] {
            let conn = world.connect(claims(user, invite));
            told.push(world.closed(conn).unwrap());
        }
    }
    assert!(told.iter().all(|text| text.starts_with(NONE)), "{told:?}");
    assert!(world.in_flight.is_none() && !world.hub.has_batch());
}

#[test]
fn version_1_is_told_to_update_and_a_named_admin_needs_no_invite() {
    let (mut world, root) = invited_only();
    assert!(world.established(root).unwrap().1);
    let old = world.connect(proven("ann", "m", "s", true));
    let told = world.closed(old).unwrap();
    assert!(told.contains("speaks version 1") && told.contains("conclave register --invite"), "{told}");
    // Who is a user stays one.
    world.open("root/m/t");
}

#[test]
fn only_admins_of_the_server_make_list_and_revoke() {
    let (mut world, root) = invited_only();
    let token = invite(&mut world, root, None, None);
    let ann = world.connect(claims("ann", Some(&token)));
    world.settle();
    for admin in [Admin::UserInvite { uses: None, lifetime: None }, Admin::UserInviteList] {
        assert_eq!(ask(&mut world, ann, admin), Reply::Refused(Refusal::NotServerAdmin));
    }
    // Told what is told of a token that does not exist.
    assert!(matches!(ask(&mut world, ann, Admin::InviteRevoke { token: token.clone() }), Reply::Done(_)));
    let list = listed(&mut world, root);
    assert_eq!(list.len(), 1);
    assert!(!token.expose().contains(&list[0].id) && list[0].by.as_str() == "root");
    // What it is called revokes it, and lets nobody in.
    let called = Token::new(&list[0].id);
    let bob = world.connect(claims("bob", Some(&called)));
    assert!(world.closed(bob).unwrap().starts_with(NONE));
    assert!(matches!(ask(&mut world, root, Admin::InviteRevoke { token: called }), Reply::Done(_)));
    assert!(listed(&mut world, root).is_empty());
}

#[test]
fn they_are_bounded_in_number_and_what_has_ended_does_not_count() {
    let (mut world, root) = invited_only();
    for _ in 0..4 {
        invite(&mut world, root, None, Some(Duration::from_secs(10)));
    }
    let full = Reply::Refused(Refusal::Full { limit: Limit::ServerInvites, most: 4 });
    assert_eq!(ask(&mut world, root, Admin::UserInvite { uses: None, lifetime: None }), full);
    world.pass(Duration::from_secs(10));
    invite(&mut world, root, Some(3), None);
    assert_eq!(world.hub.directory().user_invites().len(), 1);
    let none = Admin::UserInvite { uses: Some(0), lifetime: None };
    assert_eq!(ask(&mut world, root, none), Reply::Refused(Refusal::InviteWithoutUses));
}

#[test]
fn where_registration_takes_none_none_is_made() {
    let mut world = World::new();
    let root = world.register("root");
    let Reply::Refused(refusal) = ask(&mut world, root, Admin::UserInvite { uses: None, lifetime: None })
    else {
        panic!("an invite that would be worth nothing")
    };
    assert_eq!((&refusal, refusal.code()), (&Refusal::InviteUseless, Code::FailedPrecondition));
}

#[test]
fn an_invite_goes_with_the_admin_who_made_it() {
    let (mut world, root) = invited_only();
    let token = invite(&mut world, root, None, None);
    world.must(root, "expel root");
    let ann = world.connect(claims("ann", Some(&token)));
    assert!(world.closed(ann).unwrap().starts_with(NONE));
}

#[test]
fn a_registration_that_is_not_stored_uses_nothing() {
    let (mut world, root) = invited_only();
    let token = invite(&mut world, root, Some(1), None);
    let ann = world.connect(claims("ann", Some(&token)));
    assert!(world.seal());
    world.fail();
    assert!(world.closed(ann).unwrap().starts_with("Internal"));
    let again = world.connect(claims("ann", Some(&token)));
    world.settle();
    assert!(world.established(again).is_some());
}

proptest! {
    /// Whoever races for an invite, with commits that fail and restarts in between: no more get in than it has uses,
    /// and each of its uses lets one in.
    #[test]
    fn each_use_lets_exactly_one_in(
        uses in 1..4_u32,
        steps in proptest::collection::vec(0..6_u8, 1..60),
    ) {
        let (mut world, root) = invited_only();
        let token = invite(&mut world, root, Some(uses), None);
        let mut next = 0;
        for step in steps {
            match step {
                0..=2 => {
                    let mut claim = claims(&format!("u{next}"), Some(&token));
                    claim.key = key(&format!("u{next}"), "m");
                    world.connect(claim);
                    next += 1;
                }
                3 => {
                    if world.in_flight.is_some() || world.seal() {
                        world.persist();
                    }
                }
                4 => {
                    if world.in_flight.is_some() || world.seal() {
                        world.fail();
                    }
                }
                // What was in flight and not reported is lost.
                _ => world = world.restart(),
            }
            let in_now = world.hub.directory().user_count() as u32 - 1;
            let left = world.hub.directory().user_invites().next().and_then(|(_, one)| one.invite.uses);
            prop_assert_eq!(in_now + left.unwrap_or(0), uses);
        }
    }
}
