//! Hidden presence: who shows up to whom.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::world::World;
use crate::directory::Directory;
use crate::hub::{Config, ConnId, Presence};
use crate::name::UserName;

/// A server that hides presence, with its admin `root` and three users.
fn hidden() -> (World, ConnId, [ConnId; 3]) {
    let mut config = Config { presence: Presence::Shared, ..Config::default() };
    config.admins.insert(UserName::new("root").unwrap(), None);
    config.limits = core::mem::take(&mut config.limits).without_rates();
    let mut world = World::over(config, Directory::default());
    let root = world.register("root");
    let users = ["ann", "bob", "carl"].map(|user| world.register(user));
    (world, root, users)
}

#[test]
fn a_user_shows_up_to_those_who_share_a_channel_to_admins_and_to_itself() {
    let (mut world, root, [ann, bob, carl]) = hidden();
    assert_eq!(world.must(ann, "who"), "here ann/m/s");
    assert_eq!(world.must(root, "who"), "here ann/m/s bob/m/s carl/m/s root/m/s");
    world.must(ann, "create public c");
    world.must(bob, "join c");
    assert_eq!(world.must(ann, "who"), "here ann/m/s bob/m/s");
    assert_eq!(world.must(bob, "who"), "here ann/m/s bob/m/s");
    assert_eq!(world.must(carl, "who"), "here carl/m/s");
    world.must(bob, "leave c");
    assert_eq!(world.must(ann, "who"), "here ann/m/s");
}

#[test]
fn from_outside_a_channel_only_those_are_seen_in_it_who_share_another() {
    let (mut world, root, [ann, bob, carl]) = hidden();
    for request in ["create public c", "join c", "create private den", "add den carl"] {
        world.must(ann, request);
    }
    world.must(bob, "join c");
    assert_eq!(world.must(carl, "who c"), "here ann/m/s");
    assert_eq!(world.must(root, "who c"), "here ann/m/s bob/m/s");
    world.must(carl, "join c");
    assert_eq!(world.must(carl, "who c"), "here ann/m/s bob/m/s carl/m/s");
}

#[test]
fn a_whisper_does_not_tell_who_is_there() {
    let (mut world, root, [ann, bob, _]) = hidden();
    let absent = world.ask(ann, "whisper bob/m/absent hi");
    assert_eq!(world.ask(ann, "whisper bob/m/s hi"), absent.replace("absent", "s"));
    assert!(world.received(bob).is_empty());
    assert_eq!(world.must(root, "whisper bob/m/s hi"), "sent");
    world.must(ann, "create public c");
    world.must(bob, "join c");
    assert_eq!(world.must(ann, "whisper bob/m/s hi"), "sent");
}

proptest! {
    /// Whatever they join, leave, are added to and banned from: each sees those who share a channel, and all who do.
    #[test]
    fn who_shares_a_channel_shows_up_and_nobody_else(
        steps in proptest::collection::vec((0..3_usize, 0..3_u8, 0..5_u8, 0..3_usize), 1..40),
    ) {
        let (mut world, root, users) = hidden();
        for (nth, visibility) in ["public", "unlisted", "private"].iter().enumerate() {
            world.must(root, &format!("create {visibility} c{nth}"));
        }
        let names = ["ann", "bob", "carl"];
        for (who, channel, step, whom) in steps {
            let request = match step {
                0 | 1 => world.submit(users[who], &format!("join c{channel}")),
                2 => world.submit(users[who], &format!("leave c{channel}")),
                3 => world.submit(root, &format!("add c{channel} {}", names[whom])),
                _ => world.submit(root, &format!("ban c{channel} {}", names[whom])),
            };
            world.settle();
            prop_assert!(world.reply(root, request).is_some() || world.reply(users[who], request).is_some());
        }
        let mut places: Vec<Vec<String>> = Vec::new();
        for nth in 0..3 {
            let mut there: Vec<String> = Vec::new();
            for list in ["who", "members"] {
                let answer = world.must(root, &format!("{list} c{nth}"));
                let words = answer.split(' ').skip(1);
                there.extend(words.map(|word| word.split('/').next().unwrap().into()));
            }
            places.push(there);
        }
        for (name, conn) in names.iter().zip(users) {
            let shares = |other: &&str| {
                other == name || places.iter().any(|there| {
                    there.iter().any(|it| it == name) && there.iter().any(|it| it == other)
                })
            };
            let expected = ["ann", "bob", "carl", "root"].iter().filter(|other| shares(other));
            let expected: String = expected.map(|other| format!(" {other}/m/s")).collect();
            prop_assert_eq!(world.must(conn, "who"), format!("here{expected}"));
        }
    }
}
