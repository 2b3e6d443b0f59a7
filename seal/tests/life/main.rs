//! A sealed group's life, from the side of its machines.
#![allow(clippy::unwrap_used, reason = "a test")]

mod hostile;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use conclave_seal::Error;
use proptest::prelude::*;
use world::{Crash, What, World};

#[derive(Clone, Debug)]
enum Act {
    Say(u64, Crash),
    Read(u64, Crash),
    Add(u64, u64, Crash),
    Remove(u64, u64, Crash),
    Update(u64, Crash),
    Due(u64),
    Lose(u64),
    Settle,
}

fn crash() -> impl Strategy<Value = Crash> {
    prop_oneof![4 => Just(Crash::No), 1 => Just(Crash::BeforeSaving), 1 => Just(Crash::BeforeSending), 1 => Just(Crash::BeforeTheAnswer)]
}

fn act() -> impl Strategy<Value = Act> {
    let machine = || 1..6u64;
    prop_oneof![
        6 => (machine(), crash()).prop_map(|(by, crash)| Act::Say(by, crash)),
        6 => (machine(), crash()).prop_map(|(by, crash)| Act::Read(by, crash)),
        2 => (machine(), 4..8u64, crash()).prop_map(|(by, added, crash)| Act::Add(by, added, crash)),
        2 => (machine(), 2..8u64, crash()).prop_map(|(by, gone, crash)| Act::Remove(by, gone, crash)),
        1 => (machine(), crash()).prop_map(|(by, crash)| Act::Update(by, crash)),
        1 => (2..8u64).prop_map(Act::Due),
        1 => machine().prop_map(Act::Lose),
        1 => Just(Act::Settle),
    ]
}

fn run(acts: &[Act]) -> World {
    let mut world = World::new(&[1, 2, 3]);
    for (at, act) in acts.iter().enumerate() {
        match *act {
            Act::Say(by, crash) => world.say(by, &format!("text {at}"), crash),
            Act::Read(by, crash) => drop(world.read(by, crash)),
            Act::Add(by, added, crash) if !in_group(&world, added) => world.add(by, &[added], crash),
            Act::Remove(by, gone, crash) => world.remove(by, &[gone], crash),
            Act::Update(by, crash) => world.remove(by, &[], crash),
            Act::Due(gone) if in_group(&world, gone) => drop(world.server.due.insert(gone)),
            Act::Lose(machine) => world.lose(machine),
            Act::Settle => world.settle(),
            Act::Add(..) | Act::Due(_) => {}
        }
    }
    world.settle();
    world
}

/// By what the server was told.
fn in_group(world: &World, machine: u64) -> bool {
    let mut group = BTreeSet::from([1]);
    for stored in &world.server.stream {
        if let What::Commit { adds, removes, .. } = &stored.what {
            let back = removes.contains(&stored.machine);
            group.retain(|machine| back || !removes.contains(machine));
            group.extend(adds);
        }
    }
    group.contains(&machine)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::with_cases(128) })]

    /// Whatever is said, changed, lost and crashed: with an honest server all members end in one epoch, show the stream's
    /// messages once, in its order, and nothing is wrong.
    #[test]
    fn members_agree_and_nothing_is_lost_or_shown_twice(acts in prop::collection::vec(act(), 1..40)) {
        let world = run(&acts);
        let mut authenticators = BTreeSet::new();
        let sealed: Vec<u64> =
            world.server.stream.iter().filter(|stored| matches!(stored.what, What::Sealed { .. })).map(|stored| stored.seq).collect();
        let mut texts: BTreeMap<u64, String> = BTreeMap::new();
        for (number, machine) in &world.machines {
            prop_assert_eq!(&machine.alarms, &Vec::<String>::new(), "machine {}", number);
            let Some(channel) = world.load(*number) else { continue };
            prop_assert_eq!(machine.is_out, !in_group(&world, *number), "machine {}", number);
            if !machine.is_out {
                prop_assert_eq!(channel.epoch(), world.server.epoch);
                authenticators.insert(channel.authenticator());
                let seen: Vec<u64> = machine.shown.iter().map(|shown| shown.0).collect();
                let due: Vec<u64> =
                    sealed.iter().copied().filter(|seq| *seq > machine.joined_at && !machine.missed.contains(seq)).collect();
                prop_assert_eq!(seen, due, "machine {}", number);
            }
            for (seq, text) in &machine.shown {
                prop_assert_eq!(texts.entry(*seq).or_insert_with(|| text.clone()), text);
            }
        }
        prop_assert_eq!(authenticators.len(), 1);
        prop_assert_eq!(texts.values().collect::<BTreeSet<_>>().len(), texts.len(), "a text was stored twice");
    }
}

/// Shows that the property above would see a key that is used twice.
#[test]
fn who_sends_before_saving_uses_a_key_twice_and_readers_see_it() {
    let mut world = World::new(&[1, 2]);
    let saved = world.machines[&1].saved.clone();
    world.say(1, "first", Crash::No);
    world.machines.get_mut(&1).unwrap().saved = saved;
    world.say(1, "second", Crash::No);
    while world.read(2, Crash::No) {}
    assert_eq!(world.machines[&2].shown.len(), 1);
    assert_eq!(world.machines[&2].alarms.len(), 1);
}

#[test]
fn whoever_was_removed_reads_nothing_more() {
    let mut world = World::new(&[1, 2, 3]);
    world.server.due.insert(3);
    world.say(2, "after the ban", Crash::No);
    world.settle();
    assert!(world.machines[&3].is_out && world.machines[&3].shown.is_empty());
    for machine in [1, 2] {
        assert_eq!(world.machines[&machine].shown.last().unwrap().1, "after the ban");
    }
}

#[test]
fn a_lost_race_of_commits_is_made_again() {
    let mut world = World::new(&[1, 2, 3]);
    // Neither has read what the other did.
    world.add(1, &[4], Crash::No);
    world.add(2, &[5], Crash::No);
    world.settle();
    let members: Vec<u64> = world.load(5).unwrap().members().iter().map(|member| member.machine).collect();
    assert_eq!(BTreeSet::from_iter(members), BTreeSet::from([1, 2, 3, 4, 5]));
}

#[test]
fn a_machine_that_lost_its_state_comes_back_and_members_see_it() {
    let mut world = World::new(&[1, 2, 3]);
    world.lose(2);
    world.settle();
    world.say(2, "back", Crash::No);
    world.settle();
    assert_eq!(world.machines[&1].shown.last().unwrap().1, "back");
    assert!(world.machines.values().all(|machine| machine.alarms.is_empty()));
}

#[test]
fn one_id_is_one_message() {
    let mut world = World::new(&[1, 2]);
    let id = world.id();
    let mut channel = world.load(1).unwrap();
    let text = world::content("one");
    let seal = |channel: &mut conclave_seal::Channel, content| {
        channel.handle(conclave_seal::Input::Seal { id, content }, world::NOW)
    };
    let first = seal(&mut channel, &text).unwrap();
    assert!(first == seal(&mut channel, &text).unwrap());
    assert_eq!(seal(&mut channel, &world::content("two")).unwrap_err(), Error::IdReused);
}
