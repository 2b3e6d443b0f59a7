//! Version 2: events that nobody asked for, and those about who joins and leaves.

use conclave_core::wire::v2::encoding::Encoding;
use conclave_core::wire::v2::schema::event::What;
use conclave_core::wire::v2::schema::server_frame::Kind;
use conclave_core::wire::v2::schema::{self as pb, request, subscribe};

use super::{ServerShell, Test, World, list};
use crate::client::v2::{ENCODINGS, Session, named};

pub(super) fn tests<S: ServerShell>() -> Vec<Test> {
    list!["events":
        who_watches_a_channel_is_told_who_joins_and_leaves,
        a_machine_that_is_added_is_told_to_the_users_other_sessions,
        a_server_that_stops_says_so_before_it_ends_its_sessions,
    ]
}

const LATEST: subscribe::From = subscribe::From::Latest(pb::Latest {});

/// The next event, past everything else.
fn event(session: &mut Session) -> What {
    loop {
        if let Kind::Event(pb::Event { what }) = session.told() {
            return what.expect("an event that is known");
        }
    }
}

fn who_watches_a_channel_is_told_who_joins_and_leaves<S: ServerShell>() {
    let world = World::<S>::start();
    for (name, encoding) in ENCODINGS {
        let mut ann = Session::register(world.address(), encoding, &format!("ann-{name}"));
        ann.create(name);
        ann.subscribe(name, LATEST);
        ann.until_live();
        ann.done(request::What::WatchPresence(pb::WatchPresence { stream: named(name), on: true }));
        let mut bob = Session::register(world.address(), Encoding::Protobuf, &format!("bob-{name}"));
        let stream = bob.subscribe(name, LATEST).stream;
        let changed = |session: &mut Session| match event(session) {
            What::PresenceChanged(changed) => {
                assert_eq!((changed.stream, changed.many), (stream, false));
                let names =
                    |list: Vec<pb::Participant>| list.into_iter().map(|it| it.user).collect::<Vec<_>>();
                (names(changed.joined), names(changed.left))
            }
            _ => panic!("another event"),
        };
        let bob_name = vec![format!("bob-{name}")];
        assert_eq!(changed(&mut ann), (bob_name.clone(), vec![]));
        drop(bob);
        assert_eq!(changed(&mut ann), (vec![], bob_name));
    }
}

fn a_machine_that_is_added_is_told_to_the_users_other_sessions<S: ServerShell>() {
    let world = World::<S>::start();
    let mut ann = Session::register(world.address(), Encoding::Protobuf, "ann");
    let mut other = Session::connect(world.address(), Encoding::Json, "ann", "other");
    let key = conclave_core::key::SecretKey::from_seed(&[9; 32]).public();
    let key = key.as_bytes().to_vec();
    ann.done(request::What::AddMachine(pb::AddMachine { name: "phone".into(), key: key.clone().into() }));
    let What::MachineAdded(added) = event(&mut other) else { panic!("another event") };
    let machine = added.machine.unwrap();
    assert_eq!((&machine.name[..], &machine.key[..]), ("phone", &key[..]));
    assert!(machine.id > 0 && machine.added_ms > 0);
}

fn a_server_that_stops_says_so_before_it_ends_its_sessions<S: ServerShell>() {
    let mut world = World::<S>::start();
    let mut sessions = ENCODINGS
        .map(|(name, encoding)| Session::register(world.address(), encoding, &format!("user-{name}")));
    world.stop();
    for session in &mut sessions {
        assert!(matches!(event(session), What::Draining(_)));
        assert_eq!(session.goodbye().reason, pb::GoodbyeReason::Shutdown as i32);
    }
}
