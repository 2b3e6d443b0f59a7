//! A user with many sessions.

use conclave_core::wire::v1::{AdminOp, Frame, Visibility};
use conclave_tests::client::{Peer, why};
use serde_json::json;
use tungstenite::Message;

use super::mcp::Agent;
use super::process::{RUNTIMES, Served, serve};
use super::scene::Scene;

/// What a session sends of a message that never comes to its end.
const PART: usize = 512 << 10;
/// What a user's sessions may hold.
const MOST: usize = 4 << 20;

/// A frame of `len` bytes, of which `sent` follow. `first` is its first byte: 0x82 for a message, 0x02 for the first
/// part of one.
fn frame(first: u8, len: usize, sent: usize) -> Vec<u8> {
    let mut bytes = vec![first, 0xff];
    bytes.extend((len as u64).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.resize(bytes.len() + sent, 7);
    bytes
}

/// Sends the first part of a message and a ping behind it; whether the session lives on.
fn sends_a_part(peer: &mut Peer) -> bool {
    let ping = [0x89, 0x80, 0, 0, 0, 0];
    peer.socket().send_raw(&[frame(0x02, PART, PART), ping.to_vec()].concat());
    loop {
        match peer.socket().receive_message() {
            Some(Message::Pong(_)) => return true,
            Some(Message::Binary(bytes)) => {
                let Frame::Error(error) = Frame::decode(&bytes).unwrap() else { panic!("{bytes:?}") };
                assert!(why(&error).starts_with("rate limit"), "{error:?}");
                return false;
            }
            Some(_) => {}
            None => return false,
        }
    }
}

#[test]
fn unfinished_messages_of_many_sessions_cost_a_bounded_amount() {
    for runtime in RUNTIMES {
        let dir = tempfile::tempdir().unwrap();
        let mut command = serve(dir.path());
        command.args(["--runtime", runtime, "--limit", &format!("memory-per-user={MOST}")]);
        let server = Served::start(command);
        let mut mallory = Peer::register(server.address, "mallory");
        mallory.create("c", Visibility::Public);
        let mut bob = Peer::register(server.address, "bob");
        bob.join("c");

        let session = |nth: usize| Peer::connect(server.address, "mallory", &format!("s{nth}"));
        let mut sessions: Vec<Peer> = (0..40).map(session).collect();
        let alive = sessions.iter_mut().filter_map(|peer| sends_a_part(peer).then_some(())).count();
        assert!((MOST / PART - 1..=MOST / PART).contains(&alive), "{runtime}: {alive}");
        // What is left is too little for frames that are not whole, too.
        for nth in 40..60 {
            let mut peer = session(nth);
            peer.socket().send_raw(&frame(0x82, 1 << 20, PART));
            assert!(why(&peer.last_word()).starts_with("rate limit"));
        }
        // Small messages pass, and another user has room.
        mallory.post("c", "hello");
        bob.post("c", &"x".repeat(PART));
        // Whoever ends gives back what it held.
        drop(sessions);
        let mut again = session(60);
        while !sends_a_part(&mut again) {
            again = session(60);
        }
    }
}

#[test]
fn nobody_takes_the_place_of_a_channel_that_is_gone() {
    for runtime in RUNTIMES {
        let dir = tempfile::tempdir().unwrap();
        let mut command = serve(dir.path());
        command.args(["--runtime", runtime]);
        let server = Served::start(command);
        let mut ann = Peer::register(server.address, "ann");
        let mut mallory = Peer::register(server.address, "mallory");
        ann.create("ops", Visibility::Public);
        let mut creates = |name: &'static str| {
            let op = AdminOp::CreateChannel { name, visibility: Visibility::Public };
            why(&mallory.refused(&Frame::Admin(op))).to_owned()
        };
        for name in ["Ops", "0ps"] {
            assert!(creates(name).contains("looks like one that is in use"));
        }
        ann.admin(AdminOp::DeleteChannel { name: "ops" });
        for name in ["ops", "Ops", "0ps"] {
            assert!(creates(name).contains("until lately"));
        }
        ann.create("ops", Visibility::Public);
    }
}

#[test]
fn a_channel_under_an_old_name_does_not_get_the_level_of_the_old_channel() {
    // The worst case: the server gives names away at once.
    let free = |_: &std::path::Path| vec!["--hold-names".to_owned(), "0s".to_owned()];
    let scene = Scene::started(&["alice", "bob", "mallory"], free, &[]);
    scene.does("bob", &["channel", "create", "ops"]);
    scene.level("alice", "act", "ops");
    let join = |alice: &mut Agent, channel: &str| {
        let joined = alice.done("join_channel", json!({ "channel": channel }));
        joined["structuredContent"]["level"].as_str().unwrap().to_owned()
    };
    let mut alice = Agent::new(scene.bridge("alice", &["--as", "one"]));
    assert_eq!(join(&mut alice, "ops"), "act");
    scene.does("bob", &["channel", "delete", "ops", "--yes"]);
    assert!(alice.notice().contains("no longer on #ops"));
    scene.does("mallory", &["channel", "create", "ops"]);
    assert_eq!(join(&mut alice, "ops"), "notify");
    assert!(alice.notice().contains("another channel"));
    let refused = alice.call("send_channel", json!({ "channel": "ops", "text": "x" }));
    assert_eq!(refused["isError"], true);
    drop(alice);
    // Nor by a restart, unless the human says so.
    let mut alice = Agent::new(scene.bridge("alice", &["--as", "two"]));
    assert_eq!(join(&mut alice, "ops"), "notify");
    scene.level("alice", "act", "ops");
    alice.until_offered("send_channel");

    // A renamed channel keeps its level.
    scene.does("mallory", &["channel", "rename", "ops", "web"]);
    assert!(alice.notice().contains("another channel"));
    assert!(alice.notice().contains("its level is act under the new name"));
    drop(alice);
    let mut alice = Agent::new(scene.bridge("alice", &["--as", "three"]));
    assert_eq!(join(&mut alice, "web"), "act");
}
