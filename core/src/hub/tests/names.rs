//! Which new names are taken, and what becomes of those that were given up.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

use super::world::{World, proven};
use crate::directory::Directory;
use crate::hub::{Config, ConnId};
use crate::name::{MachineName, Name, UserName};
use crate::protocol::{Admin, Command, Reply};

const DAY: Duration = Duration::from_secs(86_400);

/// A server that holds names back for ten days, and its admin `root`.
fn holding() -> (World, ConnId) {
    let mut config = Config { hold_names: 10 * DAY, ..Config::default() };
    config.admins = BTreeMap::from([(UserName::new("root").unwrap(), None)]);
    config.limits = core::mem::take(&mut config.limits).without_rates();
    config.limits.idle = 1_000 * DAY;
    let mut world = World::over(config, Directory::default());
    let root = world.register("root");
    (world, root)
}

/// What somebody hears who registers under a name, with a key of their own.
fn registers(world: &mut World, name: &str, key_of: &str) -> Result<ConnId, String> {
    let mut claims = proven(key_of, "m", "s", true);
    claims.claim.as_mut().unwrap().user = UserName::new(name).unwrap();
    let conn = world.connect(claims);
    world.settle();
    world.closed(conn).map_or(Ok(conn), Err)
}

fn unavailable(name: &str) -> String {
    format!(
        "Unauthorized: the name '{name}' looks like one that is in use, or that was until lately: choose another, or \
         ask an admin of this server (`conclave release NAME`)"
    )
}

#[test]
fn nobody_takes_a_name_that_looks_like_anothers() {
    let (mut world, root) = holding();
    let ann = world.register("ann");
    world.must(ann, "create public ops");
    for name in ["Ann", "\u{430}nn", "ANN", "Root", "r00t"] {
        assert_eq!(registers(&mut world, name, "mallory").unwrap_err(), unavailable(name));
    }
    let mallory = registers(&mut world, "mallory", "mallory").unwrap();
    for name in ["Ops", "0ps", "\u{43e}ps"] {
        for who in [mallory, ann, root] {
            assert_eq!(world.ask(who, &format!("create public {name}")), unavailable(name));
        }
    }
    // A channel may change the look of its own name.
    assert_eq!(world.must(ann, "rename ops Ops"), "done Ops");
    assert_eq!(world.must(ann, "rename Ops ops"), "done ops");
}

#[test]
fn names_of_users_and_channels_are_apart() {
    let (mut world, _) = holding();
    let ann = world.register("ann");
    world.must(ann, "create public Ann");
    world.must(ann, "create public bob");
    registers(&mut world, "bob", "bob").unwrap();
}

#[test]
fn the_name_of_an_admin_is_kept_before_the_admin_comes() {
    let admins = BTreeMap::from([(UserName::new("root").unwrap(), None)]);
    let config = Config { admins, ..Config::default() };
    let mut world = World::over(config, Directory::default());
    assert_eq!(registers(&mut world, "Root", "mallory").unwrap_err(), unavailable("Root"));
    registers(&mut world, "root", "root").unwrap();
}

#[test]
fn two_who_want_names_that_look_alike_at_once_do_not_both_get_them() {
    let (mut world, _) = holding();
    let (ann, bob) = (world.register("ann"), world.register("bob"));
    let first = world.submit(ann, "create public ops");
    let second = world.submit(bob, "create public Ops");
    world.settle();
    assert_eq!(world.reply(ann, first).unwrap(), "done ops");
    assert_eq!(world.reply(bob, second).unwrap(), unavailable("Ops"));
    let (one, other) =
        (world.connect(proven("carl", "m", "s", true)), world.connect(proven("Carl", "m", "s", true)));
    world.settle();
    assert!(world.lives(one));
    assert_eq!(world.closed(other).unwrap(), unavailable("Carl"));
}

#[test]
fn a_new_name_that_deceives_is_refused() {
    let (mut world, _) = holding();
    let ann = world.register("ann");
    let long = "x".repeat(65);
    for (name, why) in [
        ("a\u{2800}", "a new name cannot contain characters that look blank"),
        ("a\u{a0}b", "a new name cannot contain characters that look blank"),
        ("cafe\u{301}", "a new name must be in Unicode's normalization form C"),
        (long.as_str(), "a new name has at most 64 bytes here"),
    ] {
        let why = format!("Malformed: {why}");
        let refused = registers(&mut world, name, "mallory").unwrap_err();
        assert!(refused.starts_with(&why), "{refused}");
        for request in ["create public ", "rename ops "] {
            world.ask(ann, "create public ops");
            let refused = world.ask(ann, &format!("{request}{name}"));
            assert!(refused.starts_with(&why), "{refused}");
        }
        let (machine, key) = (MachineName::new(name).unwrap(), super::world::key("ann", "n"));
        let request = world.submit_command(ann, Command::Admin(Admin::MachineAdd { name: machine, key }));
        world.settle();
        assert!(world.reply(ann, request).unwrap().starts_with(&why));
    }
}

#[test]
fn a_removed_users_name_is_held_back_for_its_key_and_for_a_time() {
    let (mut world, root) = holding();
    world.register("ann");
    world.must(root, "expel ann");
    for name in ["ann", "Ann"] {
        assert_eq!(registers(&mut world, name, "mallory").unwrap_err(), unavailable(name));
    }
    let mut world = world.restart();
    assert_eq!(registers(&mut world, "ann", "mallory").unwrap_err(), unavailable("ann"));
    registers(&mut world, "ann", "ann").unwrap();

    let (mut world, root) = holding();
    world.register("ann");
    world.must(root, "expel ann");
    world.pass(10 * DAY - Duration::from_millis(1));
    assert_eq!(registers(&mut world, "ann", "mallory").unwrap_err(), unavailable("ann"));
    world.pass(Duration::from_millis(1));
    registers(&mut world, "ann", "mallory").unwrap();
    assert_eq!(world.hub.directory().held_names().len(), 0);
}

#[test]
fn the_name_of_a_channel_is_held_back_for_its_creator() {
    let (mut world, root) = holding();
    let (ann, mallory) = (world.register("ann"), world.register("mallory"));
    world.must(ann, "create private ops");
    world.must(ann, "create public dev");
    world.must(ann, "delete ops");
    world.must(ann, "rename dev web");
    for name in ["ops", "0ps", "dev"] {
        assert_eq!(world.ask(mallory, &format!("create public {name}")), unavailable(name));
    }
    world.must(ann, "rename web dev");
    assert_eq!(world.ask(mallory, "create public web"), unavailable("web"));
    world.must(ann, "create public ops");
    world.must(ann, "delete ops");
    world.must(root, "create public ops");
    assert_eq!(
        world.ask(mallory, "create public ops"),
        "Unauthorized: the name 'ops' is in use: choose another"
    );
}

#[test]
fn what_a_removed_user_had_created_is_held_back_from_everyone_but_server_admins() {
    let (mut world, root) = holding();
    let (ann, mallory) = (world.register("ann"), world.register("mallory"));
    world.must(ann, "create public ops");
    world.must(root, "expel ann");
    let ann = registers(&mut world, "ann", "ann").unwrap();
    for who in [ann, mallory] {
        assert_eq!(world.ask(who, "create public ops"), unavailable("ops"));
    }
    world.must(root, "create public ops");
}

#[test]
fn a_server_admin_releases_a_name() {
    let (mut world, root) = holding();
    let (ann, mallory) = (world.register("ann"), world.register("mallory"));
    world.must(ann, "create public ops");
    world.must(ann, "delete ops");
    let release = |world: &mut World, who, name: &str| {
        let name = Name::new(name).unwrap();
        let request = world.submit_command(who, Command::Admin(Admin::NameRelease { name }));
        world.settle();
        world.raw_reply(who, request).unwrap()
    };
    assert!(matches!(release(&mut world, mallory, "ops"), Reply::Refused(_)));
    assert_eq!(world.ask(mallory, "create public ops"), unavailable("ops"));
    assert!(matches!(release(&mut world, root, "Ops"), Reply::Done(_)));
    world.must(mallory, "create public ops");
    world.must(root, "expel ann");
    release(&mut world, root, "ann");
    registers(&mut world, "ann", "carl").unwrap();
    let released = world.records.iter().filter_map(|record| match record {
        crate::record::Record::Audited(deed) => Some(deed.act),
        _ => None,
    });
    assert_eq!(released.filter(|act| *act == crate::audit::Act::NameReleased).count(), 2);
}

#[test]
fn nobody_pushes_out_what_is_held_back_for_others() {
    let (mut world, _) = holding();
    let (ann, mallory) = (world.register("ann"), world.register("mallory"));
    world.must(ann, "create public ops");
    world.must(ann, "delete ops");
    for nth in 0..120 {
        let name = format!("x{nth}x");
        world.must(mallory, &format!("create public {name}"));
        world.must(mallory, &format!("delete {name}"));
        world.pass(Duration::from_millis(1));
    }
    assert_eq!(world.hub.directory().held_names().len(), 101);
    assert_eq!(world.ask(mallory, "create public ops"), unavailable("ops"));
    let bob = world.register("bob");
    world.must(bob, "create public x19x");
    assert_eq!(world.ask(bob, "create public x20x"), unavailable("x20x"));
}
