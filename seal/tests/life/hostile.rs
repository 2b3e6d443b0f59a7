//! What a malicious server can try. Each is found out, or changes nothing.

use conclave_seal::{Answer, Channel, Entry, Error, Input, Kind, Output, key_package};

use crate::world::{Crash, GROUP, NOW, Stored, What, World, addition, key, member};

fn outputs(world: &World, machine: u64, stored: &Stored) -> Vec<Output> {
    world.load(machine).unwrap().handle(Input::Entry(stored.entry()), NOW).unwrap()
}

/// Two machines, and a message of the first that the second has not read.
fn sent() -> (World, Stored) {
    let mut world = World::new(&[1, 2, 3]);
    world.say(1, "hello", Crash::No);
    let stored = world.server.stream.last().unwrap().clone();
    (world, stored)
}

fn alarms(outputs: &[Output]) -> bool {
    outputs.iter().any(|output| matches!(output, Output::Alarm(_)))
        && !outputs.iter().any(|output| matches!(output, Output::Message { .. }))
}

#[test]
fn an_altered_message_is_found_and_the_true_one_still_opens() {
    let (mut world, stored) = sent();
    let mut altered = stored.clone();
    let What::Sealed { bytes, .. } = &mut altered.what else { unreachable!() };
    *bytes.last_mut().unwrap() ^= 1;
    let mut channel = world.load(2).unwrap();
    assert!(alarms(&channel.handle(Input::Entry(altered.entry()), NOW).unwrap()));
    world.machines.get_mut(&2).unwrap().saved = Some(channel.save().unwrap().to_vec());
    let mut late = stored;
    late.seq += 1;
    let shown = outputs(&world, 2, &late);
    assert!(matches!(shown.as_slice(), [Output::Message { .. }]), "{shown:?}");
}

#[test]
fn a_repeated_message_is_shown_once() {
    let (mut world, stored) = sent();
    world.settle();
    assert!(outputs(&world, 2, &stored).is_empty());
    let mut later = stored;
    later.seq += 1;
    assert!(alarms(&outputs(&world, 2, &later)));
}

#[test]
fn a_message_under_another_sender_session_or_id_is_shown_as_forged() {
    let (world, stored) = sent();
    let forge = |change: &dyn Fn(&mut Stored)| {
        let mut forged = stored.clone();
        change(&mut forged);
        outputs(&world, 2, &forged)
    };
    assert!(alarms(&forge(&|forged| forged.machine = 3)));
    assert!(alarms(&forge(&|forged| forged.session = "t".into())));
    assert!(alarms(&forge(&|forged| forged.id[0] ^= 1)));
}

#[test]
fn an_own_message_that_was_altered_is_found_and_sent_again() {
    let (world, mut stored) = sent();
    let What::Sealed { bytes, .. } = &mut stored.what else { unreachable!() };
    bytes[20] ^= 1;
    let mut channel = world.load(1).unwrap();
    assert!(alarms(&channel.handle(Input::Entry(stored.entry()), NOW).unwrap()));
    assert_eq!(channel.handle(Input::Resume, NOW).unwrap().len(), 1);
}

#[test]
fn a_dropped_repeated_or_altered_commit_is_found() {
    let mut world = World::new(&[1, 2, 3]);
    world.remove(1, &[], Crash::No);
    let first = world.server.stream.last().unwrap().clone();
    world.read(1, Crash::No);
    world.remove(1, &[], Crash::No);
    let second = world.server.stream.last().unwrap().clone();
    assert!(alarms(&outputs(&world, 2, &second)), "the first one is missing");
    let mut altered = first.clone();
    let What::Commit { bytes, .. } = &mut altered.what else { unreachable!() };
    *bytes.last_mut().unwrap() ^= 1;
    assert!(alarms(&outputs(&world, 2, &altered)));
    world.settle();
    let mut repeated = first;
    repeated.seq = 1_000;
    assert!(alarms(&outputs(&world, 2, &repeated)));
}

#[test]
fn a_commit_that_does_something_else_than_announced_is_found() {
    let mut world = World::new(&[1, 2, 3]);
    world.remove(1, &[3], Crash::No);
    let mut stored = world.server.stream.last().unwrap().clone();
    let What::Commit { removes, .. } = &mut stored.what else { unreachable!() };
    removes.clear();
    assert!(alarms(&outputs(&world, 2, &stored)));
}

#[test]
fn a_split_group_is_found_at_the_first_message() {
    // The server takes two commits for one epoch, and shows each half its own.
    let world = World::new(&[1, 2, 3]);
    let commit = |machine, id| {
        let mut channel = world.load(machine).unwrap();
        let made = channel.handle(Input::Change { id, adds: &[], removes: &[] }, NOW).unwrap();
        let Some(Output::PostCommit(made)) = made.into_iter().next() else { unreachable!() };
        (channel, made)
    };
    let (mut one, first) = commit(1, [91; 16]);
    let (mut two, second) = commit(2, [92; 16]);
    let show = |channel: &mut Channel, machine: u64, made: &conclave_seal::PostCommit| {
        let kind = Kind::Commit { epoch: made.epoch, bytes: &made.commit, adds: &[], removes: &[] };
        channel
            .handle(
                Input::Entry(Entry { seq: 50, id: made.id, user: machine / 2, machine, session: "s", kind }),
                NOW,
            )
            .unwrap()
    };
    show(&mut one, 1, &first);
    show(&mut two, 2, &second);
    assert_eq!(one.epoch(), two.epoch());
    assert_ne!(one.authenticator(), two.authenticator());
    let content = crate::world::content("to whom?");
    let posted = one.handle(Input::Seal { id: [93; 16], content: &content }, NOW).unwrap();
    let Some(Output::Post { epoch, bytes, .. }) = posted.first() else { unreachable!() };
    let kind = Kind::Sealed { epoch: *epoch, bytes };
    let entry = Entry { seq: 51, id: [93; 16], user: 0, machine: 1, session: "s", kind };
    assert!(alarms(&two.handle(Input::Entry(entry), NOW).unwrap()));
}

#[test]
fn a_ghost_gets_in_neither_by_group_info_nor_as_another_machine() {
    let world = World::new(&[1, 2]);
    let info = &world.server.group_info;
    let at = (0, 0, NOW);
    let refused = Channel::rejoin(member(9), &key(9), GROUP, info, [9; 16], at).map(drop);
    assert!(matches!(refused, Err(Error::GroupInfo(_))));
    // A machine number that is in the group, with a key of the server's choice.
    let mut false_one = member(2);
    false_one.key = key(9).public();
    let refused = Channel::rejoin(false_one, &key(9), GROUP, info, [9; 16], at).map(drop);
    assert!(matches!(refused, Err(Error::GroupInfo(_))));
}

#[test]
fn a_key_package_with_another_key_or_user_is_refused() {
    let world = World::new(&[1, 2]);
    // The server's own machine says that it is machine 3, or that it is another user's.
    let mut swapped = member(3);
    swapped.key = key(9).public();
    let mut other_user = member(3);
    other_user.user = 77;
    for (claims, signs) in [(member(9), 9), (swapped, 9), (other_user, 3)] {
        let package = key_package(&claims, &key(signs), NOW, false).unwrap();
        let adds = [addition(3, &package.public)];
        let change = Input::Change { id: [9; 16], adds: &adds, removes: &[] };
        let refused = world.load(1).unwrap().handle(change, NOW);
        assert!(matches!(refused, Err(Error::KeyPackage { machine: 3, .. })), "{refused:?}");
    }
    let package = key_package(&member(3), &key(3), NOW, false).unwrap();
    let adds = [addition(3, &package.public)];
    assert!(
        world.load(1).unwrap().handle(Input::Change { id: [9; 16], adds: &adds, removes: &[] }, NOW).is_ok()
    );
}

#[test]
fn an_old_group_info_is_refused_by_who_remembers_a_newer_epoch() {
    let mut world = World::new(&[1, 2, 3]);
    let old = world.server.group_info.clone();
    let epoch = world.server.epoch;
    world.remove(1, &[], Crash::No);
    world.settle();
    let refused = Channel::rejoin(member(2), &key(2), GROUP, &old, [9; 16], (0, epoch + 1, NOW)).map(drop);
    assert!(matches!(refused, Err(Error::GroupInfo(_))));
    // Who does not remember makes a commit that no member takes.
    let (_, made) = Channel::rejoin(member(2), &key(2), GROUP, &old, [9; 16], (0, 0, NOW)).unwrap();
    let Some(Output::PostCommit(made)) = made.first() else { unreachable!() };
    let kind = Kind::Commit { epoch: world.server.epoch, bytes: &made.commit, adds: &[], removes: &[2] };
    let entry = Entry { seq: 1_000, id: made.id, user: 1, machine: 2, session: "s", kind };
    assert!(alarms(&world.load(1).unwrap().handle(Input::Entry(entry), NOW).unwrap()));
}

#[test]
fn a_server_that_was_set_back_is_found() {
    let world = World::new(&[1, 2, 3]);
    let answer = Input::Answer(Answer::StaleEpoch { current: 0 });
    assert!(alarms(&world.load(1).unwrap().handle(answer, NOW).unwrap()));
}
