//! The audit trail: what is in it, when, and who reads it.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use proptest::prelude::*;

use super::streams;
use super::world::World;
use crate::audit::{Act, Entry};
use crate::hub::ConnId;
use crate::name::ChannelName;
use crate::protocol::{Admin, Command, Refusal, Reply};
use crate::record::Record;

fn ask(world: &mut World, conn: ConnId, channel: Option<&str>, before: Option<u64>, limit: usize) -> Reply {
    let channel = channel.map(|name| ChannelName::new(name).unwrap());
    let request = world.submit_command(conn, Command::Admin(Admin::Audit { channel, before, limit }));
    world.settle();
    world.raw_reply(conn, request).unwrap()
}

fn read(world: &mut World, conn: ConnId, channel: Option<&str>) -> Vec<Entry> {
    match ask(world, conn, channel, None, 0) {
        Reply::Audit { entries, more: false } => entries,
        other => panic!("{other:?}"),
    }
}

fn line(entry: &Entry) -> String {
    let deed = &entry.deed;
    let channel = deed.channel.as_ref().map_or(String::new(), |(_, name)| format!(" #{name}"));
    let subject = deed.subject.as_ref().map_or(String::new(), |subject| format!(" {subject}"));
    format!("{} {}{channel}{subject}", deed.by.user, deed.act)
}

fn lines(world: &mut World, conn: ConnId, channel: Option<&str>) -> Vec<String> {
    read(world, conn, channel).iter().rev().map(line).collect()
}

/// The server admin, and two users.
fn three() -> (World, ConnId, ConnId, ConnId) {
    let mut world = World::new();
    let (root, ann, bob) = (world.register("root"), world.register("ann"), world.register("bob"));
    (world, root, ann, bob)
}

#[test]
fn the_trail_says_who_did_what_to_whom() {
    let (mut world, root, ann, bob) = three();
    world.must(ann, "create private den");
    let token = world.must(ann, "invite den");
    world.must(bob, &format!("join den {token}"));
    world.must(ann, &format!("revoke {token}"));
    world.must(ann, "kick den bob");
    world.must(ann, "ban den bob");
    world.must(ann, "add den bob");
    world.must(root, "remove den bob");
    world.must(ann, "set unlisted den");
    world.must(ann, "rename den lair");
    world.must(bob, "enrol phone of bob");
    world.must(bob, "retire phone");
    let own = [
        "ann created channel #den private",
        "ann made invite #den",
        "bob used invite #den",
        "ann revoked invite #den",
        "ann kicked #den bob",
        "ann banned #den bob",
        "ann lifted ban #den bob",
        "ann added member #den bob",
        "root removed member #den bob",
        "ann set visibility #den unlisted",
        "ann renamed channel #den lair",
    ];
    assert_eq!(lines(&mut world, ann, Some("lair")), own);
    world.must(root, "delete lair");
    world.must(root, "expel bob");
    let all = lines(&mut world, root, None);
    assert_eq!(all[..3], ["root registered", "ann registered", "bob registered"]);
    assert_eq!(all[3..14], own);
    assert_eq!(
        all[14..],
        [
            "bob added machine phone",
            "bob removed machine phone",
            "root deleted channel #lair",
            "root removed user bob"
        ]
    );
    // Nothing secret is in it.
    let shown = format!("{:?}", read(&mut world, root, None));
    assert!(!shown.contains(&token), "{shown}");
}

#[test]
fn it_is_read_by_admins_of_the_server_and_that_of_a_channel_by_its_own() {
    let (mut world, root, ann, bob) = three();
    world.must(ann, "create private den");
    world.must(ann, "create public hall");
    world.must(bob, "join hall");
    assert_eq!(ask(&mut world, ann, None, None, 0), Reply::Refused(Refusal::NotServerAdmin));
    let hall = ChannelName::new("hall").unwrap();
    assert_eq!(ask(&mut world, bob, Some("hall"), None, 0), Reply::Refused(Refusal::NotChannelAdmin(hall)));
    for name in ["den", "nowhere"] {
        let none = Refusal::NoChannel(ChannelName::new(name).unwrap());
        assert_eq!(ask(&mut world, bob, Some(name), None, 0), Reply::Refused(none));
    }
    assert_eq!(lines(&mut world, root, Some("den")), lines(&mut world, ann, Some("den")));
    // Another channel of the name has a trail of its own.
    world.must(ann, "delete den");
    world.must(bob, "create public den");
    assert_eq!(lines(&mut world, bob, Some("den")), ["bob created channel #den public"]);
}

#[test]
fn whoever_ceases_to_be_admin_while_it_is_read_is_not_told() {
    let (mut world, root, ann, _) = three();
    world.must(ann, "create public hall");
    let channel = Some(ChannelName::new("hall").unwrap());
    let audit = Admin::Audit { channel, before: None, limit: 0 };
    let request = world.submit_command(ann, Command::Admin(audit));
    let waiting = world.trail_reads.pop_front().unwrap();
    world.must(root, "delete hall");
    world.trail_reads.push_back(waiting);
    world.settle();
    assert_eq!(world.raw_reply(ann, request).unwrap(), Reply::Refused(Refusal::NotServerAdmin));
}

#[test]
fn pages_go_on_where_the_last_ended() {
    let (mut world, root, ann, _) = three();
    for nth in 0..5 {
        world.must(ann, &format!("create public c{nth}"));
    }
    let (mut before, mut seen) = (None, Vec::new());
    loop {
        let Reply::Audit { entries, more } = ask(&mut world, root, None, before, 3) else { panic!() };
        assert!(entries.len() == 3 || !more);
        before = entries.last().map(|entry| entry.number);
        seen.extend(entries);
        if !more {
            break;
        }
    }
    assert_eq!(seen, read(&mut world, root, None));
    assert_eq!(seen.len(), 8);
}

#[test]
fn a_kick_is_noted_with_the_next_commit_and_refused_when_too_many_wait() {
    let (mut world, _, ann, bob) = three();
    world.must(ann, "create public hall");
    for _ in 0..1024 {
        world.see(bob, "join hall");
        assert_eq!(world.see(ann, "kick hall bob"), "done bob");
    }
    world.see(bob, "join hall");
    assert!(world.see(ann, "kick hall bob").starts_with("Unauthorized: rate limit"));
    world.settle();
    assert_eq!(world.must(ann, "kick hall bob"), "done bob");
    assert!(world.received(bob).is_empty());
    assert_eq!(kicks(&world), 1025);
}

proptest! {
    /// Whatever becomes of the commits: a change is stored with its entry, and an entry with its change.
    #[test]
    fn an_entry_is_stored_with_its_change_and_never_without(
        steps in proptest::collection::vec((0..8_u8, 0..3_u8), 1..60),
    ) {
        let (mut world, _, ann, bob) = three();
        world.must(ann, "create public c0");
        let mut changes = 0_usize;
        let start = world.records.len();
        for (step, which) in steps {
            let request = match step {
                0 => Some((ann, format!("create public c{which}"))),
                1 => Some((ann, format!("delete c{which}"))),
                2 => Some((ann, format!("ban c{which} bob"))),
                3 => Some((bob, format!("create private d{which}"))),
                4 => Some((ann, format!("set private c{which}"))),
                _ => None,
            };
            if let Some((conn, request)) = request {
                world.submit(conn, &request);
            } else if world.in_flight.is_some() || world.seal() {
                if step == 7 { world.fail() } else { world.persist() }
            }
        }
        world.settle();
        let (mut told, mut done) = (Vec::new(), Vec::new());
        for record in &world.records[start..] {
            match record {
                Record::Audited(deed) => {
                    let channel = deed.channel.as_ref().unwrap().0;
                    told.push((deed.act.to_string(), channel));
                }
                Record::ChannelCreated { channel, .. } => done.push(("created channel".to_string(), *channel)),
                Record::ChannelDeleted { channel } => done.push(("deleted channel".to_string(), *channel)),
                Record::Banned { channel, .. } => done.push(("banned".to_string(), *channel)),
                Record::VisibilitySet { channel, .. } => done.push(("set visibility".to_string(), *channel)),
                _ => {}
            }
            changes += 1;
        }
        told.sort();
        done.sort();
        prop_assert_eq!(told, done, "{} records", changes);
    }
}

#[test]
fn a_kick_is_noted_once_though_its_commit_held_a_post_that_was_stored_before() {
    let (mut world, ann) = streams::world();
    let (bea, carl) = (streams::join_v2(&mut world, "bea", false), world.register("carl"));
    let from = crate::stream::Start::Latest;
    let subscribe = crate::stream::StreamCommand::Subscribe { stream: streams::c(), from, invite: None };
    streams::ask(&mut world, bea, subscribe);
    world.must(carl, "join c");
    let first = streams::stored(&streams::ask(&mut world, bea, streams::post(1, "x")));
    streams::start(&mut world, bea, streams::post(1, "x"));
    world.see(ann, "kick c carl");
    assert!(world.seal());
    world.already_stored(&[(0, first)]);
    world.settle();
    assert_eq!(kicks(&world), 1);
}

fn kicks(world: &World) -> usize {
    let kick = |record: &&Record| matches!(record, Record::Audited(deed) if deed.act == Act::Kicked);
    world.records.iter().filter(kick).count()
}
