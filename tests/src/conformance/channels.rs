//! Channels: who sees which, who may enter, and what whoever may not is told: nothing.

use conclave_core::wire::v1::{AdminOp, Frame, ProtocolError, Visibility};

use super::{ServerShell, Test, World, list};
use crate::client::{Peer, post, show, why};

pub(super) fn tests<S: ServerShell>() -> Vec<Test> {
    list!["channels":
        a_public_channel_is_listed_to_and_joined_by_everyone,
        an_unlisted_channel_is_joined_by_whoever_knows_its_name,
        a_private_channel_is_joined_by_members_only,
        the_creator_and_every_server_admin_are_its_admins,
        a_name_in_use_is_refused,
        a_stranger_is_told_nothing_of_a_private_channel,
        a_banned_user_is_told_nothing_of_a_public_channel,
        who_is_no_member_is_out_of_a_channel_that_becomes_private,
        leaving_is_acknowledged_subscribed_or_not_existing_or_not,
        a_rename_carries_everything_along,
        a_deleted_channel_ends_for_all_and_its_name_starts_empty,
        a_removed_users_channels_go_and_nobody_is_heir,
        channels_outlive_a_restart,
    ]
}

fn a_public_channel_is_listed_to_and_joined_by_everyone<S: ServerShell>() {
    let world = World::<S>::start();
    let (mut ann, mut bob) = (world.register("ann"), world.register("bob"));
    ann.create("c", Visibility::Public);
    assert_eq!(ann.channels(), [("c", true)]);
    assert_eq!(bob.channels(), [("c", false)]);
    bob.join("c");
    // Joining makes no member.
    assert_eq!(bob.channels(), [("c", false)]);
    assert_eq!(ann.users(AdminOp::AclList { channel: "c" }), ["ann"]);
}

fn an_unlisted_channel_is_joined_by_whoever_knows_its_name<S: ServerShell>() {
    let world = World::<S>::start();
    let (mut root, mut ann, mut bob) = (world.register("root"), world.register("ann"), world.register("bob"));
    ann.create("c", Visibility::Unlisted);
    assert_eq!(bob.channels(), []);
    assert_eq!(root.channels(), [("c", false)]);
    assert_eq!(bob.who(Some("c")), ["ann/m/s"]);
    bob.join("c");
    assert_eq!(bob.channels(), []);
    ann.admin(AdminOp::AclAdd { channel: "c", user: "bob" });
    assert_eq!(bob.channels(), [("c", true)]);
}

fn a_private_channel_is_joined_by_members_only<S: ServerShell>() {
    let world = World::<S>::start();
    let (mut root, mut ann, mut bob) = (world.register("root"), world.register("ann"), world.register("bob"));
    ann.create("c", Visibility::Private);
    assert_eq!(bob.channels(), []);
    let refused = bob.refused(&Frame::Join { channel: "c", token: None });
    assert!(matches!(refused, ProtocolError::NotFound(_)));
    assert_eq!(root.channels(), [("c", false)]);
    root.join("c");
    ann.admin(AdminOp::AclAdd { channel: "c", user: "bob" });
    assert_eq!(bob.channels(), [("c", true)]);
    bob.join("c");
    bob.post("c", "text");
    assert_eq!(root.texts(1), ["text"]);
}

fn the_creator_and_every_server_admin_are_its_admins<S: ServerShell>() {
    let world = World::<S>::start();
    let (mut root, mut ann, mut bob) = (world.register("root"), world.register("ann"), world.register("bob"));
    ann.create("c", Visibility::Public);
    bob.join("c");
    ann.admin(AdminOp::AclAdd { channel: "c", user: "bob" });
    let token = ann.invite("c", None, None);
    let operations = [
        AdminOp::SetVisibility { name: "c", visibility: Visibility::Private },
        AdminOp::RenameChannel { name: "c", new_name: "d" },
        AdminOp::AclAdd { channel: "c", user: "root" },
        AdminOp::AclRemove { channel: "c", user: "ann" },
        AdminOp::AclList { channel: "c" },
        AdminOp::InviteCreate { channel: "c", uses: None, expires_in_secs: None },
        AdminOp::InviteList { channel: "c" },
        AdminOp::Kick { channel: "c", target: "ann" },
        AdminOp::Ban { channel: "c", user: "ann" },
        AdminOp::Unban { channel: "c", user: "ann" },
        AdminOp::BanList { channel: "c" },
        AdminOp::DeleteChannel { name: "c" },
    ];
    for op in operations {
        let frame = Frame::Admin(op);
        let refused = bob.refused(&frame);
        assert!(matches!(refused, ProtocolError::Unauthorized(_)), "{}: {refused:?}", show(&frame));
    }
    // A member's revoking is acknowledged and does nothing.
    assert_eq!(bob.admin(AdminOp::InviteRevoke { token }), token);
    let Frame::InviteList { invites } = root.ask(&Frame::Admin(AdminOp::InviteList { channel: "c" })) else {
        panic!("no list")
    };
    assert_eq!(invites.len(), 1);
    root.admin(AdminOp::SetVisibility { name: "c", visibility: Visibility::Unlisted });
    root.admin(AdminOp::DeleteChannel { name: "c" });
    assert_eq!(ann.channels(), []);
}

fn a_name_in_use_is_refused<S: ServerShell>() {
    let world = World::<S>::start();
    let (mut ann, mut bob) = (world.register("ann"), world.register("bob"));
    ann.create("c", Visibility::Private);
    bob.create("d", Visibility::Public);
    let create = Frame::Admin(AdminOp::CreateChannel { name: "c", visibility: Visibility::Public });
    let rename = Frame::Admin(AdminOp::RenameChannel { name: "d", new_name: "c" });
    for frame in [create, rename] {
        assert!(matches!(bob.refused(&frame), ProtocolError::Unauthorized(_)));
    }
    assert_eq!(bob.channels(), [("d", true)]);
}

/// Everything that names a channel.
fn requests<'a>(channel: &'a str, user: &'a str) -> Vec<Frame<'a>> {
    let mut frames = vec![
        Frame::Join { channel, token: None },
        Frame::Join { channel, token: Some("not-a-token") },
        Frame::Leave { channel },
        Frame::Who { channel: Some(channel) },
        post(channel, "text"),
        Frame::ReadSince { channel, since_ms: 0 },
    ];
    let operations = [
        AdminOp::DeleteChannel { name: channel },
        AdminOp::RenameChannel { name: channel, new_name: "unused" },
        AdminOp::SetVisibility { name: channel, visibility: Visibility::Public },
        AdminOp::AclAdd { channel, user },
        AdminOp::AclAdd { channel, user: "no-such-user" },
        AdminOp::AclRemove { channel, user },
        AdminOp::AclList { channel },
        AdminOp::InviteCreate { channel, uses: None, expires_in_secs: None },
        AdminOp::InviteCreate { channel, uses: Some(0), expires_in_secs: Some(u64::MAX) },
        AdminOp::InviteList { channel },
        AdminOp::Kick { channel, target: user },
        AdminOp::Kick { channel, target: "ann/m/s" },
        AdminOp::Ban { channel, user },
        AdminOp::Unban { channel, user },
        AdminOp::BanList { channel },
    ];
    frames.extend(operations.map(Frame::Admin));
    frames
}

/// Checks that a user is told the same of `hidden` as of a channel that does not exist.
fn is_told_nothing(peer: &mut Peer, hidden: &str) {
    for (theirs, nothing) in requests(hidden, "ann").iter().zip(requests("absent", "ann")) {
        let told = show(&peer.ask(theirs))
            .replace(&format!("'{hidden}'"), "'absent'")
            .replace(&format!("\"{hidden}\""), "\"absent\"");
        assert_eq!(told, show(&peer.ask(&nothing)), "{}", show(theirs));
    }
}

fn a_stranger_is_told_nothing_of_a_private_channel<S: ServerShell>() {
    let world = World::<S>::start();
    let (mut ann, mut bob) = (world.register("ann"), world.register("bob"));
    ann.create("secret", Visibility::Private);
    let token = ann.invite("secret", None, None);
    is_told_nothing(&mut bob, "secret");
    // Neither does revoking tell whether a token exists, nor does it revoke.
    assert_eq!(bob.admin(AdminOp::InviteRevoke { token }), token);
    assert_eq!(bob.admin(AdminOp::InviteRevoke { token: "no-such-token" }), "no-such-token");
    assert_eq!(bob.channels(), []);
    ann.post("secret", "text");
    bob.hears_nothing();
    let joined = bob.ask(&Frame::Join { channel: "secret", token: Some(token) });
    assert_eq!(joined, Frame::Joined { channel: "secret" });
}

fn a_banned_user_is_told_nothing_of_a_public_channel<S: ServerShell>() {
    let world = World::<S>::start();
    let (mut ann, mut bob) = (world.register("ann"), world.register("bob"));
    for (name, visibility) in [("public", Visibility::Public), ("hidden", Visibility::Unlisted)] {
        ann.create(name, visibility);
        bob.join(name);
        let token = ann.invite(name, None, None);
        assert_eq!(ann.admin(AdminOp::Ban { channel: name, user: "bob" }), "bob");
        is_told_nothing(&mut bob, name);
        // An invite does not help, and tells nothing either.
        let told = bob.refused(&Frame::Join { channel: name, token: Some(token) });
        let nothing = bob.refused(&Frame::Join { channel: "absent", token: Some(token) });
        assert_eq!(why(&told).replace(name, "absent"), why(&nothing));
        ann.post(name, "text");
    }
    assert_eq!(bob.channels(), []);
    bob.hears_nothing();
}

fn who_is_no_member_is_out_of_a_channel_that_becomes_private<S: ServerShell>() {
    let world = World::<S>::start();
    let (mut ann, mut bob, mut cid) = (world.register("ann"), world.register("bob"), world.register("cid"));
    ann.create("c", Visibility::Public);
    ann.admin(AdminOp::AclAdd { channel: "c", user: "cid" });
    bob.join("c");
    cid.join("c");
    ann.join("c");
    ann.admin(AdminOp::SetVisibility { name: "c", visibility: Visibility::Private });
    assert_eq!(ann.who(Some("c")), ["ann/m/s", "cid/m/s"]);
    is_told_nothing(&mut bob, "c");
    ann.post("c", "among us");
    assert_eq!(cid.texts(1), ["among us"]);
    bob.hears_nothing();
}

fn leaving_is_acknowledged_subscribed_or_not_existing_or_not<S: ServerShell>() {
    let world = World::<S>::start();
    let (mut ann, mut bob) = (world.register("ann"), world.register("bob"));
    ann.create("c", Visibility::Private);
    for channel in ["c", "absent"] {
        let acknowledged = bob.ask(&Frame::Leave { channel });
        assert_eq!(acknowledged, Frame::Ack { detail: Some(channel) });
    }
    for _ in 0..2 {
        assert_eq!(ann.ask(&Frame::Leave { channel: "c" }), Frame::Ack { detail: Some("c") });
    }
    assert!(matches!(ann.refused(&post("c", "text")), ProtocolError::Unauthorized(_)));
}

fn a_rename_carries_everything_along<S: ServerShell>() {
    let mut world = World::<S>::start();
    let users = ["ann", "bob", "carl", "dora"].map(|user| world.register(user));
    let [mut ann, mut bob, mut carl, mut dora] = users;
    ann.create("old", Visibility::Private);
    ann.admin(AdminOp::AclAdd { channel: "old", user: "bob" });
    bob.join("old");
    ann.admin(AdminOp::Ban { channel: "old", user: "carl" });
    let token = ann.invite("old", Some(1), None);
    ann.post("old", "before");
    assert_eq!(bob.texts(1), ["before"]);
    assert_eq!(ann.admin(AdminOp::RenameChannel { name: "old", new_name: "new" }), "new");
    bob.post("new", "after");
    assert_eq!(ann.arrival(), ("new", "bob/m/s".into(), "after"));
    assert_eq!(bob.history_texts("new"), ["before", "after"]);
    for restarted in [false, true] {
        if restarted {
            world.restart(|_| {});
            [ann, bob, carl, dora] = ["ann", "bob", "carl", "dora"].map(|user| world.connect(user, "s"));
            [&mut ann, &mut bob].into_iter().for_each(|member| member.join("new"));
            assert_eq!(ann.history_texts("new"), ["before", "after"]);
        }
        is_told_nothing(&mut carl, "new");
        is_told_nothing(&mut ann, "old");
        assert_eq!(ann.users(AdminOp::BanList { channel: "new" }), ["carl"]);
    }
    let joined = dora.ask(&Frame::Join { channel: "new", token: Some(token) });
    assert_eq!(joined, Frame::Joined { channel: "new" });
    assert_eq!(ann.users(AdminOp::AclList { channel: "new" }), ["ann", "bob", "dora"]);
    // The old name is anyone's.
    carl.create("old", Visibility::Public);
    assert_eq!(carl.history_texts("old"), [""; 0]);
}

fn a_deleted_channel_ends_for_all_and_its_name_starts_empty<S: ServerShell>() {
    let mut world = World::<S>::start();
    let (mut ann, mut bob) = (world.register("ann"), world.register("bob"));
    ann.create("c", Visibility::Private);
    ann.admin(AdminOp::AclAdd { channel: "c", user: "bob" });
    bob.join("c");
    bob.post("c", "old");
    let token = ann.invite("c", None, None);
    assert_eq!(ann.admin(AdminOp::DeleteChannel { name: "c" }), "c");
    is_told_nothing(&mut bob, "c");
    for restarted in [false, true] {
        if restarted {
            world.restart(|_| {});
            (ann, bob) = (world.connect("ann", "s"), world.connect("bob", "s"));
            ann.join("c");
        } else {
            ann.create("c", Visibility::Private);
        }
        assert_eq!(ann.users(AdminOp::AclList { channel: "c" }), ["ann"]);
        assert_eq!(ann.history_texts("c"), [""; 0]);
        assert!(matches!(
            bob.refused(&Frame::Join { channel: "c", token: Some(token) }),
            ProtocolError::NotFound(_)
        ));
        bob.hears_nothing();
    }
}

fn a_removed_users_channels_go_and_nobody_is_heir<S: ServerShell>() {
    let mut world = World::<S>::start();
    let users = ["root", "ann", "bob"].map(|user| world.register(user));
    let [mut root, mut ann, mut bob] = users;
    ann.create("hers", Visibility::Public);
    bob.create("his", Visibility::Private);
    bob.join("hers");
    bob.admin(AdminOp::AclAdd { channel: "his", user: "ann" });
    bob.create("other", Visibility::Public);
    bob.admin(AdminOp::Ban { channel: "other", user: "ann" });
    root.admin(AdminOp::UserRemove { username: "ann" });
    assert_eq!(bob.channels(), [("his", true), ("other", true)]);
    assert!(matches!(bob.refused(&post("hers", "text")), ProtocolError::NotFound(_)));
    assert_eq!(bob.users(AdminOp::AclList { channel: "his" }), ["bob"]);
    for restarted in [false, true] {
        let mut heir = if restarted {
            world.restart(|_| {});
            world.connect("ann", "s")
        } else {
            world.register("ann")
        };
        assert_eq!(heir.channels(), [("other", false)]);
        is_told_nothing(&mut heir, "his");
        is_told_nothing(&mut heir, "hers");
        heir.join("other");
        let Frame::MachineList { machines } = heir.ask(&Frame::ListMachines) else { panic!("no list") };
        assert_eq!(machines.len(), 1);
    }
}

fn channels_outlive_a_restart<S: ServerShell>() {
    let mut world = World::<S>::start();
    let (mut ann, _bob, _carl) = (world.register("ann"), world.register("bob"), world.register("carl"));
    for (name, visibility) in
        [("one", Visibility::Public), ("two", Visibility::Unlisted), ("three", Visibility::Private)]
    {
        ann.create(name, visibility);
        ann.admin(AdminOp::AclAdd { channel: name, user: "bob" });
        ann.admin(AdminOp::Ban { channel: name, user: "carl" });
        ann.invite(name, Some(3), Some(3600));
        ann.post(name, name);
    }
    let about = |ann: &mut Peer| {
        let mut told = vec![ann.ask(&Frame::ListChannels)];
        for channel in ["one", "two", "three"] {
            ann.join(channel);
            for op in
                [AdminOp::AclList { channel }, AdminOp::BanList { channel }, AdminOp::InviteList { channel }]
            {
                told.push(ann.ask(&Frame::Admin(op)));
            }
            told.push(ann.ask(&Frame::ReadSince { channel, since_ms: 0 }));
        }
        told.iter().map(show).collect::<Vec<_>>()
    };
    let before = about(&mut ann);
    world.restart(|_| {});
    assert_eq!(about(&mut world.connect("ann", "s")), before);
}
