//! Users, machines, sessions: who gets in, under which name, and with which last word one ends.

use std::time::Duration;

use conclave_core::key::SecretKey;
use conclave_core::wire::v1::{AdminOp, Frame, ProtocolError, Visibility};

use super::{ServerShell, Test, World, list};
use crate::client::{Peer, key, path, why};

pub(super) fn tests<S: ServerShell>() -> Vec<Test> {
    list!["identity":
        a_user_registers_and_comes_back,
        names_are_checked_wherever_one_is_given,
        a_taken_name_an_enrolled_key_and_a_reserved_name_are_unauthorized,
        nothing_is_kept_of_a_registration_whose_key_is_not_proven,
        a_key_is_a_point_that_is_not_weak_and_its_signature_is_over_this_challenge,
        an_admin_is_told_so_and_a_pinned_name_takes_its_key,
        another_version_is_told_ours,
        a_frame_out_of_its_place_ends_the_handshake,
        the_newer_session_of_a_path_takes_over_without_subscriptions,
        machines_are_added_listed_and_revoked_at_once,
        a_removed_user_is_told_and_cannot_come_back,
        who_removes_itself_is_answered_before_it_ends,
        who_is_silent_is_told_and_who_pings_stays,
        presence_shows_the_live_and_only_them,
        identity_outlives_a_restart,
    ]
}

fn a_user_registers_and_comes_back<S: ServerShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    assert_eq!(ann.who(None), ["ann/m/s"]);
    let mut other = world.connect("ann", "t");
    assert_eq!(other.who(None), ["ann/m/s", "ann/m/t"]);
    drop(ann);
    world.until_metric("conclave_connections{state=\"session\"}", |count| count == 1.0);
    let mut again = world.connect("ann", "s");
    assert_eq!(again.who(None), ["ann/m/s", "ann/m/t"]);
    let stranger = Peer::connect_with(world.address(), &key("nobody"), "s");
    assert!(matches!(stranger.err(), Some(ProtocolError::Unauthorized(_))));
}

fn names_are_checked_wherever_one_is_given<S: ServerShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    let long = "x".repeat(129);
    let bad = ["", "a/b", "a\u{7}b", "a\nb", "a\u{200b}b", "a\u{202e}b", " a", "a ", "\u{3000}a", &long];
    for name in bad {
        let malformed = |error: ProtocolError<'_>| {
            assert!(matches!(error, ProtocolError::MalformedFrame(_)), "{name:?}: {error:?}");
        };
        let mut peer = Peer::dial(world.address());
        peer.hello(name);
        malformed(peer.last_word());
        for (user, machine) in [(name, "m"), ("new", name)] {
            let mut peer = Peer::dial(world.address());
            peer.hello("s");
            malformed(peer.prove(user, machine, &key("new")).unwrap_err());
        }
        malformed(ann.refused(&Frame::Join { channel: name, token: None }));
        malformed(ann.refused(&Frame::Leave { channel: name }));
        malformed(ann.refused(&Frame::Who { channel: Some(name) }));
        malformed(ann.refused(&Frame::ReadSince { channel: name, since_ms: 0 }));
        malformed(ann.refused(&crate::client::post(name, "text")));
        for op in [
            AdminOp::CreateChannel { name, visibility: Visibility::Public },
            AdminOp::RenameChannel { name: "c", new_name: name },
            AdminOp::AclAdd { channel: "c", user: name },
            AdminOp::MachineAdd { name, pubkey: key("second").public().as_bytes() },
        ] {
            malformed(ann.refused(&Frame::Admin(op)));
        }
    }
    // These may exist, and nobody gets them anew.
    for name in ["a\u{2800}", "e\u{301}", &"x".repeat(65), &"x".repeat(128)] {
        let create = AdminOp::CreateChannel { name, visibility: Visibility::Public };
        assert!(matches!(ann.refused(&Frame::Admin(create)), ProtocolError::MalformedFrame(_)), "{name:?}");
        assert!(matches!(
            ann.refused(&Frame::Join { channel: name, token: None }),
            ProtocolError::NotFound(_)
        ));
    }
    for name in ["a", "ä ö", "日本語", "a b", &"x".repeat(64)] {
        assert_eq!(ann.admin(AdminOp::CreateChannel { name, visibility: Visibility::Public }), name);
    }
    assert_eq!(world.connect("ann", "日本").who(None), ["ann/m/s", "ann/m/日本"]);
}

fn a_taken_name_an_enrolled_key_and_a_reserved_name_are_unauthorized<S: ServerShell>() {
    let pinned = key("carl").public();
    let world = World::<S>::with(|options| {
        options.hub.admins.insert("carl".parse().unwrap(), Some(pinned));
    });
    let _ann = world.register("ann");
    for (user, with) in [("ann", "other"), ("other", "ann"), ("carl", "other")] {
        let mut peer = Peer::dial(world.address());
        peer.hello("s");
        let refused = peer.prove(user, "m", &key(with)).unwrap_err();
        assert!(matches!(refused, ProtocolError::Unauthorized(_)), "{user} with {with}: {refused:?}");
    }
    // Neither attempt left anything behind.
    let mut other = world.register("other");
    assert_eq!(other.who(None), ["ann/m/s", "other/m/s"]);
}

fn nothing_is_kept_of_a_registration_whose_key_is_not_proven<S: ServerShell>() {
    let mut world = World::<S>::start();
    let mut peer = Peer::dial(world.address());
    peer.hello("s");
    let public = key("ann").public();
    peer.send(&Frame::Register { username: "ann", machine: "m", pubkey: public.as_bytes() });
    let refused = peer.authenticate(&key("mallory")).unwrap_err();
    assert!(matches!(refused, ProtocolError::Unauthorized(_)));
    // Left without a proof, too.
    let mut peer = Peer::dial(world.address());
    peer.hello("s");
    peer.send(&Frame::Register { username: "ann", machine: "m", pubkey: public.as_bytes() });
    drop(peer);
    world.restart(|_| {});
    assert_eq!(world.register("root").ask(&Frame::ListUsers), Frame::UserList { users: vec!["root"] });
    let _ann = world.register("ann");
}

fn a_key_is_a_point_that_is_not_weak_and_its_signature_is_over_this_challenge<S: ServerShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    let mut identity = [0; 32];
    identity[0] = 1;
    for pubkey in [&[7; 31][..], &[7; 33], &[], &[0; 32], &identity] {
        let refused = ann.refused(&Frame::Admin(AdminOp::MachineAdd { name: "n", pubkey }));
        assert!(matches!(refused, ProtocolError::MalformedFrame(_)), "{pubkey:?}: {refused:?}");
        for signature in [[0; 64], [1; 64]] {
            let mut peer = Peer::dial(world.address());
            peer.hello("s");
            peer.send(&Frame::Register { username: "new", machine: "m", pubkey });
            peer.send(&Frame::Auth { pubkey, signature: &signature });
            assert!(matches!(peer.last_word(), ProtocolError::Unauthorized(_)));
        }
    }
    let signature = key("ann").sign(&[0; 32]);
    let mut peer = Peer::dial(world.address());
    peer.hello("s");
    peer.send(&Frame::Auth { pubkey: key("ann").public().as_bytes(), signature: &signature });
    assert!(matches!(peer.last_word(), ProtocolError::Unauthorized(_)));
    // No two challenges are the same.
    let mut nonces: Vec<_> = (0..8)
        .map(|_| {
            let mut peer = Peer::dial(world.address());
            peer.hello("s");
            let Some(Frame::Challenge { nonce }) = peer.next() else { panic!("no challenge") };
            nonce
        })
        .collect();
    nonces.sort_unstable();
    nonces.dedup();
    assert_eq!(nonces.len(), 8);
}

fn an_admin_is_told_so_and_a_pinned_name_takes_its_key<S: ServerShell>() {
    let world = World::<S>::with(|options| {
        options.hub.admins.insert("carl".parse().unwrap(), Some(key("carl").public()));
    });
    for (user, expected) in [("root", true), ("carl", true), ("ann", false)] {
        let mut peer = Peer::dial(world.address());
        peer.hello("s");
        let public = key(user).public();
        peer.send(&Frame::Register { username: user, machine: "m", pubkey: public.as_bytes() });
        let Some(Frame::Challenge { nonce }) = peer.next() else { panic!("no challenge") };
        peer.send(&Frame::Auth { pubkey: public.as_bytes(), signature: &key(user).sign(nonce) });
        let Some(Frame::Established { path: who }) = peer.next() else { panic!("not in") };
        assert_eq!(path(&who), format!("{user}/m/s"));
        assert_eq!(peer.next(), Some(Frame::ServerInfo { admin: expected }));
        let users = peer.ask(&Frame::ListUsers);
        assert_eq!(matches!(users, Frame::UserList { .. }), expected, "{user}");
    }
}

fn another_version_is_told_ours<S: ServerShell>() {
    let world = World::<S>::start();
    for theirs in [0, 2, u32::MAX] {
        let mut peer = Peer::dial(world.address());
        peer.send(&Frame::Hello { protocol_version: theirs, session: "s" });
        assert_eq!(peer.last_word(), ProtocolError::VersionMismatch { ours: 1, theirs });
    }
}

fn a_frame_out_of_its_place_ends_the_handshake<S: ServerShell>() {
    let world = World::<S>::start();
    let _ann = world.register("ann");
    let hello = Frame::Hello { protocol_version: 1, session: "s" };
    let auth = Frame::Auth { pubkey: &[1; 32], signature: &[2; 64] };
    let register = Frame::Register { username: "u", machine: "m", pubkey: &[3; 32] };
    let join = Frame::Join { channel: "c", token: None };
    for wrong in [
        vec![&Frame::Ping],
        vec![&auth],
        vec![&register],
        vec![&join],
        vec![&hello, &hello],
        vec![&hello, &join],
        vec![&hello, &Frame::Pong],
        vec![&hello, &register, &register],
        vec![&hello, &register, &Frame::ListChannels],
    ] {
        let mut peer = Peer::dial(world.address());
        wrong.iter().for_each(|frame| peer.send(frame));
        let last = peer.last_word();
        assert!(matches!(last, ProtocolError::MalformedFrame(_)), "{wrong:?}: {last:?}");
    }
    // What only a server sends ends a session, too.
    for wrong in [Frame::Pong, Frame::Joined { channel: "c" }, hello, auth] {
        let mut peer = world.connect("ann", "t");
        peer.send(&wrong);
        let last = peer.last_word();
        assert!(matches!(last, ProtocolError::MalformedFrame(_)), "{wrong:?}: {last:?}");
    }
}

fn the_newer_session_of_a_path_takes_over_without_subscriptions<S: ServerShell>() {
    let world = World::<S>::start();
    let (mut older, mut bob) = (world.register("ann"), world.register("bob"));
    older.create("c", Visibility::Public);
    bob.join("c");
    let mut newer = world.connect("ann", "s");
    let last = older.last_word();
    assert!(matches!(last, ProtocolError::Unauthorized(_)), "{last:?}");
    assert!(why(&last).starts_with("session superseded"), "{last:?}");
    assert_eq!(bob.who(Some("c")), ["bob/m/s"]);
    bob.post("c", "unheard");
    newer.hears_nothing();
    newer.join("c");
    bob.post("c", "heard");
    assert_eq!(newer.arrival(), ("c", "bob/m/s".into(), "heard"));
}

fn machines_are_added_listed_and_revoked_at_once<S: ServerShell>() {
    let world = World::<S>::start();
    let (mut ann, mut bob) = (world.register("ann"), world.register("bob"));
    let laptop: SecretKey = key("laptop");
    let (public, third) = (laptop.public(), key("third").public());
    let add = AdminOp::MachineAdd { name: "laptop", pubkey: public.as_bytes() };
    assert_eq!(ann.admin(add.clone()), "laptop");
    // The name is the user's, the key the server's.
    assert!(matches!(ann.refused(&Frame::Admin(add)), ProtocolError::Unauthorized(_)));
    let again = AdminOp::MachineAdd { name: "laptop", pubkey: third.as_bytes() };
    assert!(matches!(ann.refused(&Frame::Admin(again)), ProtocolError::Unauthorized(_)));
    let theirs = AdminOp::MachineAdd { name: "laptop", pubkey: public.as_bytes() };
    assert!(matches!(bob.refused(&Frame::Admin(theirs)), ProtocolError::Unauthorized(_)));
    let Frame::MachineList { machines } = ann.ask(&Frame::ListMachines) else { panic!("no list") };
    let listed: Vec<_> = machines.iter().map(|it| (it.name, it.pubkey.to_owned())).collect();
    let expected = [("laptop", laptop.public().to_string()), ("m", key("ann").public().to_string())];
    assert_eq!(listed, expected);
    assert!(machines.iter().all(|it| it.added_at.ends_with('Z') && it.added_at.contains('T')));

    let mut session = Peer::connect_with(world.address(), &laptop, "s").unwrap();
    assert_eq!(bob.who(None), ["ann/laptop/s", "ann/m/s", "bob/m/s"]);
    assert_eq!(ann.admin(AdminOp::MachineRemove { name: "laptop" }), "laptop");
    // Gone before the acknowledgement.
    assert_eq!(bob.who(None), ["ann/m/s", "bob/m/s"]);
    let last = session.last_word();
    assert_eq!(why(&last), "machine key revoked");
    assert!(Peer::connect_with(world.address(), &laptop, "s").is_err());
    let gone = Frame::Admin(AdminOp::MachineRemove { name: "laptop" });
    assert!(matches!(ann.refused(&gone), ProtocolError::NotFound(_)));
    assert!(ann.is_alive());
}

fn a_removed_user_is_told_and_cannot_come_back<S: ServerShell>() {
    let world = World::<S>::start();
    let (mut root, mut ann) = (world.register("root"), world.register("ann"));
    let mut second = world.connect("ann", "t");
    let remove = Frame::Admin(AdminOp::UserRemove { username: "root" });
    assert!(matches!(ann.refused(&remove), ProtocolError::Unauthorized(_)));
    assert_eq!(root.admin(AdminOp::UserRemove { username: "ann" }), "ann");
    assert_eq!(root.who(None), ["root/m/s"]);
    assert_eq!(why(&ann.last_word()), "user removed");
    assert_eq!(why(&second.last_word()), "user removed");
    assert!(Peer::connect_with(world.address(), &key("ann"), "s").is_err());
    let gone = Frame::Admin(AdminOp::UserRemove { username: "ann" });
    assert!(matches!(root.refused(&gone), ProtocolError::NotFound(_)));
    // The name is free again, and the key.
    let _new = world.register("ann");
}

fn who_removes_itself_is_answered_before_it_ends<S: ServerShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    let laptop = key("laptop");
    ann.admin(AdminOp::MachineAdd { name: "laptop", pubkey: laptop.public().as_bytes() });
    let mut session = Peer::connect_with(world.address(), &laptop, "s").unwrap();
    assert_eq!(session.admin(AdminOp::MachineRemove { name: "laptop" }), "laptop");
    assert_eq!(why(&session.last_word()), "machine key revoked");

    let mut root = world.register("root");
    assert_eq!(root.admin(AdminOp::UserRemove { username: "root" }), "root");
    assert_eq!(why(&root.last_word()), "user removed");
    assert!(ann.is_alive());
}

fn who_is_silent_is_told_and_who_pings_stays<S: ServerShell>() {
    let world = World::<S>::with(|options| options.hub.limits.idle = Duration::from_millis(1500));
    let mut quiet = world.register("quiet");
    let mut busy = world.register("busy");
    let mut confused = world.register("confused");
    quiet.create("c", Visibility::Public);
    busy.join("c");
    let silent = std::thread::spawn(move || quiet.last_word());
    // Any frame counts, also one that asks for what cannot be; they end when the silent one has been told.
    while !silent.is_finished() {
        assert!(busy.is_alive());
        let no_name = Frame::Join { channel: "", token: None };
        assert!(matches!(confused.refused(&no_name), ProtocolError::MalformedFrame(_)));
    }
    let last = silent.join().unwrap();
    assert!(matches!(last, ProtocolError::Unauthorized(_)));
    assert!(why(&last).contains("idle"), "{last:?}");
    assert_eq!(busy.who(None), ["busy/m/s", "confused/m/s"]);
    assert_eq!(busy.who(Some("c")), ["busy/m/s"]);
}

fn presence_shows_the_live_and_only_them<S: ServerShell>() {
    let world = World::<S>::start();
    let mut ann = world.register("ann");
    let mut bob = world.register("bob");
    ann.create("c", Visibility::Public);
    assert_eq!(bob.who(Some("c")), ["ann/m/s"]);
    bob.join("c");
    assert_eq!(bob.who(Some("c")), ["ann/m/s", "bob/m/s"]);
    assert_eq!(bob.ask(&Frame::Leave { channel: "c" }), Frame::Ack { detail: Some("c") });
    assert_eq!(ann.who(Some("c")), ["ann/m/s"]);
    drop(bob);
    world.until_metric("conclave_connections{state=\"session\"}", |count| count == 1.0);
    assert_eq!(ann.who(None), ["ann/m/s"]);
}

fn identity_outlives_a_restart<S: ServerShell>() {
    let mut world = World::<S>::start();
    let mut ann = world.register("ann");
    let laptop = key("laptop").public();
    ann.admin(AdminOp::MachineAdd { name: "laptop", pubkey: laptop.as_bytes() });
    let before = ann.ask(&Frame::ListMachines);
    world.restart(|_| {});
    assert_eq!(world.connect("ann", "s").ask(&Frame::ListMachines), before);
    assert!(Peer::connect_with(world.address(), &key("laptop"), "s").is_ok());
    let mut taken = Peer::dial(world.address());
    taken.hello("s");
    assert!(taken.prove("ann", "m", &key("new")).is_err());
}
