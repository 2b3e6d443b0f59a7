//! Members, kicks, bans and invites.

use std::sync::Barrier;
use std::thread;

use conclave_core::wire::v1::{AdminOp, Frame, InviteInfo, ProtocolError, Visibility};

use super::{ServerShell, Test, World, list};
use crate::client::{Peer, post};

pub(super) fn tests<S: ServerShell>() -> Vec<Test> {
    list!["membership":
        removing_a_member_ends_every_session_of_theirs_before_the_reply,
        a_kick_ends_subscriptions_only,
        a_session_path_kicks_one_session,
        a_ban_stays_until_it_is_lifted,
        adding_a_member_lifts_a_ban_and_needs_a_user,
        an_invite_makes_a_member,
        a_token_is_24_random_bytes_or_more_and_no_two_are_the_same,
        an_invite_that_is_used_up_over_or_revoked_lets_nobody_in,
        a_lifetime_that_overflows_is_refused,
        the_last_use_goes_to_exactly_one_of_racing_users,
    ]
}

fn joins(peer: &mut Peer, channel: &str, token: Option<&str>) -> bool {
    match peer.ask(&Frame::Join { channel, token }) {
        Frame::Joined { .. } => true,
        Frame::Error(ProtocolError::NotFound(_)) => false,
        other => panic!("{other:?}"),
    }
}

fn invites(peer: &mut Peer, channel: &str) -> Vec<InviteInfo<'static>> {
    match peer.ask(&Frame::Admin(AdminOp::InviteList { channel })) {
        Frame::InviteList { invites } => invites,
        other => panic!("{other:?}"),
    }
}

fn removing_a_member_ends_every_session_of_theirs_before_the_reply<S: ServerShell>() {
    let world = World::<S>::start();
    let (mut ann, mut bob) = (world.register("ann"), world.register("bob"));
    let mut second = world.connect("bob", "t");
    ann.create("c", Visibility::Private);
    ann.admin(AdminOp::AclAdd { channel: "c", user: "bob" });
    [&mut bob, &mut second].into_iter().for_each(|peer| peer.join("c"));
    assert_eq!(ann.admin(AdminOp::AclRemove { channel: "c", user: "bob" }), "bob");
    ann.post("c", "unheard");
    assert_eq!(ann.who(Some("c")), ["ann/m/s"]);
    for peer in [&mut bob, &mut second] {
        peer.hears_nothing();
        assert!(matches!(peer.refused(&post("c", "text")), ProtocolError::NotFound(_)));
        assert!(!joins(peer, "c", None));
    }
    // The creator stays.
    let refused = ann.refused(&Frame::Admin(AdminOp::AclRemove { channel: "c", user: "ann" }));
    assert!(matches!(refused, ProtocolError::Unauthorized(_)));
}

fn a_kick_ends_subscriptions_only<S: ServerShell>() {
    let world = World::<S>::start();
    let (mut ann, mut bob) = (world.register("ann"), world.register("bob"));
    ann.create("c", Visibility::Private);
    ann.admin(AdminOp::AclAdd { channel: "c", user: "bob" });
    bob.join("c");
    assert_eq!(ann.admin(AdminOp::Kick { channel: "c", target: "bob" }), "bob");
    ann.post("c", "unheard");
    bob.hears_nothing();
    assert!(matches!(bob.refused(&post("c", "text")), ProtocolError::Unauthorized(_)));
    let refused = ann.refused(&Frame::Admin(AdminOp::Kick { channel: "c", target: "bob" }));
    assert!(matches!(refused, ProtocolError::NotFound(_)));
    bob.join("c");
    assert_eq!(ann.users(AdminOp::AclList { channel: "c" }), ["ann", "bob"]);
}

fn a_session_path_kicks_one_session<S: ServerShell>() {
    let world = World::<S>::start();
    let (mut ann, mut bob) = (world.register("ann"), world.register("bob"));
    let mut second = world.connect("bob", "t");
    ann.create("c", Visibility::Public);
    [&mut bob, &mut second].into_iter().for_each(|peer| peer.join("c"));
    let target = "bob/m/t";
    assert_eq!(ann.admin(AdminOp::Kick { channel: "c", target }), target);
    ann.post("c", "text");
    assert_eq!(bob.texts(1), ["text"]);
    second.hears_nothing();
    assert_eq!(ann.who(Some("c")), ["ann/m/s", "bob/m/s"]);
}

fn a_ban_stays_until_it_is_lifted<S: ServerShell>() {
    let mut world = World::<S>::start();
    let (mut root, mut ann, mut bob) = (world.register("root"), world.register("ann"), world.register("bob"));
    ann.create("c", Visibility::Public);
    ann.admin(AdminOp::AclAdd { channel: "c", user: "bob" });
    bob.join("c");
    assert_eq!(ann.admin(AdminOp::Ban { channel: "c", user: "bob" }), "bob");
    ann.post("c", "unheard");
    bob.hears_nothing();
    assert_eq!(ann.users(AdminOp::AclList { channel: "c" }), ["ann"]);
    assert!(!joins(&mut bob, "c", None));
    for user in ["ann", "root"] {
        let refused = root.refused(&Frame::Admin(AdminOp::Ban { channel: "c", user }));
        assert!(matches!(refused, ProtocolError::Unauthorized(_)));
    }
    world.restart(|_| {});
    let (mut ann, mut bob) = (world.connect("ann", "s"), world.connect("bob", "s"));
    assert!(!joins(&mut bob, "c", None));
    assert_eq!(ann.users(AdminOp::BanList { channel: "c" }), ["bob"]);
    assert_eq!(ann.admin(AdminOp::Unban { channel: "c", user: "bob" }), "bob");
    assert!(joins(&mut bob, "c", None));
    // The membership went with the ban.
    assert_eq!(bob.channels(), [("c", false)]);
}

fn adding_a_member_lifts_a_ban_and_needs_a_user<S: ServerShell>() {
    let world = World::<S>::start();
    let (mut ann, mut bob) = (world.register("ann"), world.register("bob"));
    ann.create("c", Visibility::Private);
    ann.admin(AdminOp::Ban { channel: "c", user: "bob" });
    assert_eq!(ann.admin(AdminOp::AclAdd { channel: "c", user: "bob" }), "bob");
    assert_eq!(ann.users(AdminOp::BanList { channel: "c" }), [""; 0]);
    bob.join("c");
    let refused = ann.refused(&Frame::Admin(AdminOp::AclAdd { channel: "c", user: "carl" }));
    assert!(matches!(refused, ProtocolError::NotFound(_)));
    let mut carl = world.register("carl");
    assert!(!joins(&mut carl, "c", None));
}

fn an_invite_makes_a_member<S: ServerShell>() {
    let mut world = World::<S>::start();
    let (mut ann, mut bob) = (world.register("ann"), world.register("bob"));
    ann.create("c", Visibility::Private);
    let token = ann.invite("c", Some(2), Some(3600));
    assert!(!joins(&mut bob, "c", Some("wrong")));
    assert!(joins(&mut bob, "c", Some(token)));
    assert_eq!(bob.channels(), [("c", true)]);
    let listed = invites(&mut ann, "c");
    assert_eq!((listed.len(), listed[0].token, listed[0].uses_remaining), (1, token, Some(1)));
    assert!(listed[0].expires_at.is_some_and(|at| at.ends_with('Z')));
    // A member's token is not used up.
    assert!(joins(&mut bob, "c", Some(token)));
    assert_eq!(invites(&mut ann, "c")[0].uses_remaining, Some(1));
    world.restart(|_| {});
    assert!(joins(&mut world.connect("bob", "s"), "c", None));
}

fn a_token_is_24_random_bytes_or_more_and_no_two_are_the_same<S: ServerShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Private);
    let mut tokens: Vec<_> = (0..50).map(|_| ann.invite("c", None, None)).collect();
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    assert!(tokens.iter().all(|token| token.len() >= 32 && token.bytes().all(safe)), "{tokens:?}");
    assert_eq!(invites(&mut ann, "c").len(), 50);
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 50);
}

fn an_invite_that_is_used_up_over_or_revoked_lets_nobody_in<S: ServerShell>() {
    let world = World::<S>::start();
    let users = ["ann", "bob", "carl"].map(|user| world.register(user));
    let [mut ann, mut bob, mut carl] = users;
    ann.create("c", Visibility::Private);
    let once = ann.invite("c", Some(1), None);
    assert!(joins(&mut bob, "c", Some(once)));
    let over = ann.invite("c", None, Some(0));
    let revoked = ann.invite("c", None, None);
    assert_eq!(ann.admin(AdminOp::InviteRevoke { token: revoked }), revoked);
    assert_eq!(ann.admin(AdminOp::InviteRevoke { token: revoked }), revoked);
    for token in [once, over, revoked] {
        assert!(!joins(&mut carl, "c", Some(token)));
    }
    assert_eq!(invites(&mut ann, "c").len(), 0);
    let none = AdminOp::InviteCreate { channel: "c", uses: Some(0), expires_in_secs: None };
    assert!(matches!(ann.refused(&Frame::Admin(none)), ProtocolError::MalformedFrame(_)));
    // Another channel's token does not fit.
    ann.create("d", Visibility::Private);
    let other = ann.invite("d", None, None);
    assert!(!joins(&mut carl, "c", Some(other)));
    assert!(joins(&mut carl, "d", Some(other)));
}

fn a_lifetime_that_overflows_is_refused<S: ServerShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Private);
    for secs in [u64::MAX, u64::MAX / 1000, i64::MAX as u64, i64::MAX as u64 / 1000] {
        let op = AdminOp::InviteCreate { channel: "c", uses: None, expires_in_secs: Some(secs) };
        assert!(matches!(ann.refused(&Frame::Admin(op)), ProtocolError::MalformedFrame(_)), "{secs}");
    }
    ann.invite("c", Some(u32::MAX), Some(3_000_000_000));
    assert_eq!(invites(&mut ann, "c").len(), 1);
}

fn the_last_use_goes_to_exactly_one_of_racing_users<S: ServerShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Private);
    let mut racers: Vec<Peer> = (0..8).map(|nth| world.register(&format!("racer{nth}"))).collect();
    for round in 1..=5 {
        let token = ann.invite("c", Some(1), None);
        let start = Barrier::new(racers.len());
        let won: Vec<bool> = thread::scope(|scope| {
            let running: Vec<_> = racers
                .iter_mut()
                .map(|racer| {
                    let start = &start;
                    scope.spawn(move || {
                        start.wait();
                        joins(racer, "c", Some(token))
                    })
                })
                .collect();
            running.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
        assert_eq!(ann.users(AdminOp::AclList { channel: "c" }).len(), 1 + round);
        let mut won = won.into_iter();
        racers.retain(|_| !won.next().unwrap());
    }
}
