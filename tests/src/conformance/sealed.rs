//! Version 2: sealed channels. The clients here seal nothing: what they post are bytes that the server does not read.

use std::sync::{Arc, Barrier};
use std::thread;

use conclave_core::body::{self, Commit};
use conclave_core::record::MachineId;
use conclave_core::wire::v1::Frame;
use conclave_core::wire::v2::encoding::Encoding;
use conclave_core::wire::v2::schema::server_frame::Kind;
use conclave_core::wire::v2::schema::{self as pb, event, reply, request, subscribe};

use super::{ServerShell, Test, World, list};
use crate::client::v2::{Session, named, numbered};
use crate::client::why;

pub(super) fn tests<S: ServerShell>() -> Vec<Test> {
    list!["sealed":
        a_group_and_all_that_is_kept_of_it_outlives_a_restart,
        of_commits_that_race_one_wins_in_every_epoch,
        a_removal_stops_posts_until_a_commit_covers_it,
        each_key_package_is_given_out_once_over_crashes,
        version_1_is_told_that_a_sealed_channel_takes_version_2,
    ]
}

const LATEST: subscribe::From = subscribe::From::Latest(pb::Latest {});

/// A public sealed channel, made by `ann`, with both users in it.
fn meet<S: ServerShell>(world: &World<S>) -> (Session, Session, u64) {
    let mut ann = Session::register(world.address(), Encoding::Protobuf, "ann");
    let mut bob = Session::register(world.address(), Encoding::Json, "bob");
    let stream = create(&mut ann);
    bob.subscribe("c", LATEST);
    bob.until_live();
    (ann, bob, stream)
}

fn create(ann: &mut Session) -> u64 {
    let sealed = Some(pb::SealedGroup { suite: 3, group_id: "group".into() });
    let visibility = pb::Visibility::Public as i32;
    ann.done(request::What::CreateChannel(pb::CreateChannel { name: "c".into(), visibility, sealed }));
    let stream = ann.subscribe("c", LATEST).stream;
    ann.until_live();
    stream
}

fn machine(session: &Session) -> u64 {
    session.welcome().you.as_ref().unwrap().machine_id
}

fn commit(session: &Session, stream: u64, id: u8, change: (u64, &[u64], &[u64])) -> request::What {
    let (epoch, adds, removes) = change;
    let ids = |numbers: &[u64]| numbers.iter().map(|number| MachineId(number - 1)).collect();
    let commit = Commit { epoch, commit: b"commit", adds: ids(adds), removes: ids(removes), external: false };
    let body = body::of_commit(&commit);
    let (message_id, signature) = session.sign(stream, id, &body);
    let welcome = pb::GroupWelcome { machines: adds.to_vec(), welcome: "welcome".into() };
    request::What::PostCommit(pb::PostCommit {
        stream: numbered(stream),
        message_id,
        body,
        signature,
        group_info: format!("info of {}", epoch + 1).into(),
        welcomes: vec![welcome],
    })
}

fn post(session: &Session, stream: u64, id: u8, epoch: u64) -> request::What {
    let body = body::of_sealed(b"ciphertext", epoch);
    let (message_id, signature) = session.sign(stream, id, &body);
    let name = numbered(stream);
    request::What::Post(pb::Post { stream: name, message_id, body, signature, ..pb::Post::default() })
}

#[track_caller]
fn stored(session: &mut Session, what: request::What) -> pb::Stored {
    match session.ask(what) {
        reply::What::Stored(stored) => stored,
        reply::What::Error(error) => panic!("{}", error.message),
        _ => panic!("not stored"),
    }
}

#[track_caller]
fn group(session: &mut Session) -> pb::Group {
    match session.ask(request::What::GetGroup(pb::GetGroup { stream: named("c") })) {
        reply::What::Group(group) => group,
        _ => panic!("no group"),
    }
}

fn a_group_and_all_that_is_kept_of_it_outlives_a_restart<S: ServerShell>() {
    let mut world = World::<S>::start();
    let (mut ann, mut bob, stream) = meet(&world);
    let both = [machine(&ann), machine(&bob)];
    let taken = commit(&ann, stream, 1, (0, &[both[1]], &[]));
    let first = stored(&mut ann, taken.clone());
    assert_eq!((first.seq, first.epoch), (1, 1));
    assert!(stored(&mut ann, taken.clone()) == first, "sent again");
    let sealed = post(&bob, stream, 2, 1);
    assert_eq!(stored(&mut bob, sealed).seq, 2);
    let entry =
        pb::PutRosterEntry { entry: "entry".into(), signature: vec![1; 64].into(), ..Default::default() };
    ann.done(request::What::PutRosterEntry(entry));
    // Commits and ciphertexts lie in one order, and each is signed by its sender, whose own come back.
    let keys = ann.keys("bob").into_iter().chain(ann.keys("ann")).collect::<Vec<_>>();
    let messages = ann.live(2);
    assert!(messages.iter().all(|message| ann.verifies(stream, message, &keys)));
    assert!(body::commit(&messages[0].body).is_ok_and(|commit| commit.adds == [MachineId(both[1] - 1)]));
    drop((ann, bob));
    world.restart(|_| {});
    let mut ann = Session::connect(world.address(), Encoding::Json, "ann", "s");
    let mut bob = Session::connect(world.address(), Encoding::Protobuf, "bob", "s");
    let state = group(&mut ann);
    assert_eq!((state.stream, state.suite, state.epoch), (stream, 3, 1));
    assert_eq!((&state.group_id[..], &state.group_info[..]), (&b"group"[..], &b"info of 1"[..]));
    assert_eq!((state.machines, state.removals_due, state.additions_due), (both.to_vec(), vec![], vec![]));
    let reply::What::Welcomes(list) = bob.ask(request::What::ListWelcomes(pb::ListWelcomes {})) else {
        panic!("no welcomes")
    };
    assert!(list.welcomes == [pb::WaitingWelcome { stream, epoch: 1, welcome: "welcome".into() }]);
    bob.done(request::What::DropWelcome(pb::DropWelcome { stream: numbered(stream), epoch: 1 }));
    let roster = request::What::GetRoster(pb::GetRoster { user: "ann".into(), after: 0 });
    let reply::What::Roster(roster) = bob.ask(roster) else { panic!("no roster") };
    assert_eq!(&roster.entries[0].entry[..], b"entry");
    ann.subscribe("c", LATEST);
    assert!(stored(&mut ann, taken) == first, "and once more");
    let reply::What::Channels(list) = ann.ask(request::What::ListChannels(pb::ListChannels {})) else {
        panic!("no channels")
    };
    assert!(list.channels[0].sealed);
}

fn of_commits_that_race_one_wins_in_every_epoch<S: ServerShell>() {
    const EPOCHS: u64 = 20;
    let world = World::<S>::start();
    let (mut ann, bob, stream) = meet(&world);
    let add = commit(&ann, stream, 1, (0, &[machine(&bob)], &[]));
    stored(&mut ann, add);
    let start = Arc::new(Barrier::new(2));
    let race = |mut session: Session, side: u8| {
        let start = Arc::clone(&start);
        thread::spawn(move || {
            let mut won = Vec::new();
            for epoch in 1..=EPOCHS {
                start.wait();
                let what = commit(&session, stream, 2 * epoch as u8 + side, (epoch, &[], &[]));
                match session.ask(what) {
                    reply::What::Stored(stored) => won.push(stored.epoch),
                    reply::What::Error(error) => {
                        assert_eq!(error.code, pb::ErrorCode::WrongEpoch as i32);
                        assert_eq!(error.epoch, epoch + 1);
                    }
                    _ => panic!("another reply"),
                }
                start.wait();
            }
            (session, won)
        })
    };
    let (one, other) = (race(ann, 0), race(bob, 1));
    let ((mut ann, one), (_, other)) = (one.join().unwrap(), other.join().unwrap());
    let mut all = [one, other].concat();
    all.sort_unstable();
    assert_eq!(all, (2..=EPOCHS + 1).collect::<Vec<_>>());
    assert_eq!(group(&mut ann).epoch, EPOCHS + 1);
}

fn a_removal_stops_posts_until_a_commit_covers_it<S: ServerShell>() {
    let world = World::<S>::start();
    let (mut ann, mut bob, stream) = meet(&world);
    let gone = machine(&bob);
    let add = commit(&ann, stream, 1, (0, &[gone], &[]));
    stored(&mut ann, add);
    ann.done(request::What::Ban(pb::Ban { channel: "c".into(), user: "bob".into() }));
    let ended = |kind: &Kind| matches!(kind, Kind::Event(pb::Event { what: Some(event::What::SubscriptionEnded(it)) }) if it.stream == stream);
    while !ended(&bob.told()) {}
    let due = |kind: &Kind| matches!(kind, Kind::Event(pb::Event { what: Some(event::What::GroupDue(it)) }) if it.stream == stream);
    while !due(&ann.told()) || group(&mut ann).removals_due != [gone] {}
    let late = post(&ann, stream, 2, 1);
    let refused = ann.refused(late);
    assert_eq!((refused.code, refused.machines), (pb::ErrorCode::RemovalsDue as i32, vec![gone]));
    let removal = commit(&ann, stream, 3, (1, &[], &[gone]));
    assert_eq!(stored(&mut ann, removal).epoch, 2);
    let again = post(&ann, stream, 2, 2);
    assert_eq!(stored(&mut ann, again).seq, 3);
}

fn each_key_package_is_given_out_once_over_crashes<S: ServerShell>() {
    let mut world = World::<S>::start();
    let (mut ann, mut bob, stream) = meet(&world);
    let packages = (0..3).map(|nth| format!("package {nth}").into()).collect();
    let put = pb::PutKeyPackages { packages, last_resort: "last".into() };
    let reply::What::KeyPackageStock(stock) = bob.ask(request::What::PutKeyPackages(put)) else {
        panic!("no stock")
    };
    assert_eq!((stock.left, stock.last_resort), (3, true));
    let users = vec![bob.welcome().you.as_ref().unwrap().user_id];
    let take = pb::TakeKeyPackages { stream: numbered(stream), users, machines: vec![] };
    let mut given = Vec::new();
    for _ in 0..5 {
        match ann.ask(request::What::TakeKeyPackages(take.clone())) {
            reply::What::KeyPackages(list) => given.push(list.packages[0].package.clone()),
            _ => panic!("no packages"),
        }
        drop(ann);
        world.restart(|_| {});
        ann = Session::connect(world.address(), Encoding::Protobuf, "ann", "s");
    }
    assert_eq!(given, ["package 0", "package 1", "package 2", "last", "last"]);
}

fn version_1_is_told_that_a_sealed_channel_takes_version_2<S: ServerShell>() {
    let world = World::<S>::start();
    let (_ann, _bob, _) = meet(&world);
    let mut old = world.register("old");
    let refused = old.refused(&Frame::Join { channel: "c", token: None });
    assert_eq!(why(&refused), "'c' is sealed, which takes version 2 of the protocol: update this program");
}
