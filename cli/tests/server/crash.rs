//! Killed in the middle of everything, again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex};
use std::thread;

use conclave_core::link::{Action, JoinFrom};
use conclave_core::payload::Payload;
use conclave_core::wire::v1::{AdminOp, Frame, Visibility};
use conclave_tests::client::{Door, PATIENCE, Peer, key, path, post, text};
use conclave_tests::conformance::{ClientShell as _, Tokio};

use super::process::{Served, say, serve};

const KILLS: usize = 20;
const POSTERS: usize = 4;
/// Posts that a poster has under way at once.
const UNDER_WAY: usize = 8;

#[test]
fn nothing_acknowledged_is_lost_or_repeated_by_twenty_kills_on_tokio() {
    is_killed("tokio");
}

#[cfg(feature = "smol-server")]
#[test]
fn nothing_acknowledged_is_lost_or_repeated_by_twenty_kills_on_smol() {
    is_killed("smol");
}

/// What the posters and whoever kills tell each other.
#[derive(Default)]
struct Stage {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    address: Option<SocketAddr>,
    over: bool,
    acknowledged: usize,
}

impl Stage {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    fn wait<T>(&self, mut until: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut state = self.state.lock().unwrap();
        loop {
            if let Some(value) = until(&mut state) {
                return value;
            }
            let (next, waited) = self.changed.wait_timeout(state, PATIENCE).unwrap();
            assert!(!waited.timed_out(), "nothing changes any more");
            state = next;
        }
    }

    /// The address of a server that is another than `last`; `None` when all is over.
    fn server(&self, last: Option<SocketAddr>) -> Option<SocketAddr> {
        self.wait(|state| {
            let next = state.address.filter(|address| Some(*address) != last);
            if state.over { Some(None) } else { next.map(Some) }
        })
    }
}

/// Posts numbers, never one twice, until all is over; says which were acknowledged.
fn posts(stage: &Stage, nth: usize) -> BTreeSet<usize> {
    let (mut acknowledged, mut next, mut last) = (BTreeSet::new(), 0, None);
    while let Some(address) = stage.server(last) {
        last = Some(address);
        let Some(mut poster) = open(address, &format!("poster{nth}")) else { continue };
        poster.send(&Frame::Join { channel: "c", token: None });
        let mut under_way: Vec<usize> = Vec::new();
        loop {
            while under_way.len() < UNDER_WAY {
                poster.send(&post("c", &format!("{nth} {next}")));
                under_way.push(next);
                next += 1;
            }
            match poster.next() {
                Some(Frame::Ack { detail: None }) => {
                    acknowledged.insert(under_way.remove(0));
                    stage.change(|state| state.acknowledged += 1);
                }
                Some(Frame::ChannelMsg { .. } | Frame::Joined { .. }) => {}
                // What was under way is in doubt, and is not posted again.
                None => break,
                Some(other) => panic!("{}", conclave_tests::client::show(&other)),
            }
        }
    }
    acknowledged
}

/// Creates and renames channels until all is over; says which exist because they were acknowledged.
fn administrates(stage: &Stage) -> BTreeSet<String> {
    let (mut exist, mut next, mut last) = (BTreeSet::new(), 0, None);
    while let Some(address) = stage.server(last) {
        last = Some(address);
        let Some(mut admin) = open(address, "admin") else { continue };
        loop {
            let (name, renamed) = (format!("new{next}"), format!("renamed{next}"));
            next += 1;
            let create = AdminOp::CreateChannel { name: &name, visibility: Visibility::Private };
            if !done(&mut admin, create) {
                break;
            }
            if !done(&mut admin, AdminOp::RenameChannel { name: &name, new_name: &renamed }) {
                // One or the other, which the end will tell.
                exist.insert(format!("{name}|{renamed}"));
                break;
            }
            exist.insert(renamed);
        }
    }
    exist
}

/// Whether an operation was acknowledged; false if the server is killed meanwhile.
fn done(admin: &mut Peer, op: AdminOp<'_>) -> bool {
    admin.send(&Frame::Admin(op));
    match admin.next() {
        Some(Frame::Ack { detail: Some(_) }) => true,
        None => false,
        Some(other) => panic!("{}", conclave_tests::client::show(&other)),
    }
}

/// A session; `None` if the server is killed meanwhile.
fn open(address: SocketAddr, user: &str) -> Option<Peer> {
    let mut peer = Peer::try_dial(address)?;
    peer.hello("s");
    let answer = peer.try_authenticate(&key(user))?;
    assert!(answer.is_ok(), "{answer:?}");
    Some(peer)
}

fn is_killed(runtime: &str) {
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let mut command = serve(dir.path());
        command.args(["--runtime", runtime]);
        Served::start(command)
    };
    let mut server = start();
    let mut ann = Peer::register(server.address, "ann");
    ann.create("c", Visibility::Public);
    for user in (0..POSTERS).map(|nth| format!("poster{nth}")).chain(["admin".into()]) {
        drop(Peer::register(server.address, &user));
    }
    let door = Door::to(server.address);
    let link = Tokio::open(door.address(), key("ann"), "link");
    link.join("c", JoinFrom::Live);
    while !matches!(link.next(), Action::CaughtUp { .. }) {}

    let stage = &Stage::default();
    let (acknowledged, exist) = thread::scope(|scope| {
        let posters: Vec<_> = (0..POSTERS).map(|nth| scope.spawn(move || posts(stage, nth))).collect();
        let admin = scope.spawn(move || administrates(stage));
        for kill in 0..KILLS {
            let address = server.address;
            stage.change(|state| state.address = Some(address));
            // In the middle of the stream, and never at the same place.
            let enough = stage.wait(|state| Some(state.acknowledged)) + 20 + kill * 7 % 53;
            stage.wait(|state| (state.acknowledged >= enough).then_some(()));
            server.kill();
            server = start();
            door.lead_to(server.address);
        }
        stage.change(|state| state.over = true);
        let acknowledged: Vec<_> = posters.into_iter().map(|poster| poster.join().unwrap()).collect();
        (acknowledged, admin.join().unwrap())
    });

    let mut ann = Peer::connect(server.address, "ann", "s");
    ann.join("c");
    let history = ann.history("c");
    let total: usize = acknowledged.iter().map(BTreeSet::len).sum();
    say!("{runtime}: {KILLS} kills, {total} posts acknowledged, {} stored", history.len());
    assert!(history.is_sorted_by(|a, b| a.ts_ms < b.ts_ms));
    let mut stored: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for message in &history {
        let (nth, number) = text(&message.payload).split_once(' ').unwrap();
        assert_eq!(path(&message.from), format!("poster{nth}/m/s"));
        stored.entry(nth.parse().unwrap()).or_default().push(number.parse().unwrap());
    }
    for (nth, acknowledged) in acknowledged.iter().enumerate() {
        let stored = &stored[&nth];
        // In the poster's order, and none twice.
        assert!(stored.is_sorted_by(|a, b| a < b), "{stored:?}");
        let lost: Vec<_> = acknowledged.difference(&stored.iter().copied().collect()).copied().collect();
        assert!(lost.is_empty(), "poster {nth} lost {lost:?}");
    }
    let channels: BTreeSet<&str> =
        Peer::connect(server.address, "admin", "s").channels().into_iter().map(|(name, _)| name).collect();
    for name in &exist {
        let one = name.split('|').filter(|name| channels.contains(name)).count();
        assert_eq!(one, 1, "{name}");
    }
    // Whoever follows the channel through all of it is handed each message once, in the same order.
    ann.post("c", "end");
    let mut handed = Vec::new();
    loop {
        match link.next() {
            Action::Deliver { payload: Payload::Plain(text), .. } if &*text == "end" => break,
            Action::Deliver { payload: Payload::Plain(text), .. } => handed.push(text.to_string()),
            _ => {}
        }
    }
    let expected: Vec<&str> = history.iter().map(|message| text(&message.payload)).collect();
    assert_eq!(handed, expected);
    server.stop();
}
