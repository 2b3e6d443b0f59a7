//! What becomes of a message on its way to an agent, over restarts of everything.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::agent::{Agent, text};
use crate::scene::Scene;

/// The texts that come next, if any do in a second, with their numbers in the channel.
fn read(agent: &mut Agent) -> Vec<(u64, String)> {
    let page = agent.done("wait_for_message", json!({ "timeout_secs": 1 }));
    let messages = page["structuredContent"]["messages"].as_array().unwrap().clone();
    let of_channels = messages.iter().filter(|message| message["kind"] == "message");
    of_channels
        .map(|message| (message["seq"].as_u64().unwrap(), message["text"].as_str().unwrap().to_owned()))
        .collect()
}

#[test]
fn a_sender_learns_when_an_agent_has_seen_its_message() {
    let scene = Scene::new(&["alice", "bob"]);
    let mut bob = Agent::new(scene.bridge("bob", &["--as", "two"]));
    bob.until_connected();
    scene.does("alice", &["channel", "create", "ops"]);
    bob.done("join_channel", json!({ "channel": "ops" }));
    // It is kept on bob's machine, and nobody has put it before the agent.
    scene.does("alice", &["send", "ops", "look", "--wait", "delivered"]);
    let late = scene.conclave("alice", &["send", "ops", "again", "--wait", "seen", "--timeout", "300ms"]);
    assert_eq!(late.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&late.stderr).contains("bob/m/two"), "{late:?}");

    let waiting = std::thread::scope(|scope| {
        let sent = scope.spawn(|| scene.conclave("alice", &["send", "ops", "third", "--wait", "seen"]));
        let mut heard = Vec::new();
        bob.until_heard("third", &mut heard);
        assert_eq!(heard, ["look", "again", "third"]);
        sent.join().unwrap()
    });
    assert!(waiting.status.success(), "{waiting:?}");
    let receipts = scene.conclave("alice", &["receipts", "ops", "1", "--json"]);
    assert!(String::from_utf8_lossy(&receipts.stdout).contains(r#""state":"seen""#), "{receipts:?}");
}

/// Reads until the last of `expected` is there.
fn read_on(agent: &mut Agent, got: &mut Vec<(u64, String)>, expected: &[String]) {
    loop {
        got.extend(read(agent));
        if got.last().map(|(_, text)| text) == expected.last() {
            return;
        }
    }
}

/// Waits until the sender is told that the message was seen: from then on it does not come again.
fn until_seen(scene: &Scene, seq: u64) {
    loop {
        let told = scene.conclave("alice", &["receipts", "ops", &seq.to_string(), "--json"]);
        if String::from_utf8_lossy(&told.stdout).contains(r#""state":"seen""#) {
            return;
        }
    }
}

#[test]
fn a_killed_agent_comes_back_to_its_channels_and_to_what_it_has_not_read() {
    let mut scene = Scene::new(&["alice", "bob"]);
    let mut bob = Agent::new(scene.bridge("bob", &[]));
    let name = bob.until_connected();
    scene.does("alice", &["channel", "create", "ops"]);
    bob.done("join_channel", json!({ "channel": "ops" }));
    let (mut expected, mut got) = (Vec::new(), Vec::new());
    for round in 0..3 {
        let said = |when: &str| format!("{round} {when}");
        scene.does("alice", &["send", "ops", &said("read")]);
        expected.push(said("read"));
        read_on(&mut bob, &mut got, &expected);
        until_seen(&scene, got.last().unwrap().0);
        scene.does("alice", &["send", "ops", &said("kept"), "--wait", "delivered"]);
        expected.push(said("kept"));
        // Nobody says goodbye.
        drop(bob);
        scene.does("alice", &["send", "ops", &said("missed")]);
        expected.push(said("missed"));
        if round == 1 {
            scene.kill_server();
            scene.start_server();
        }
        bob = Agent::new(scene.bridge("bob", &[]));
        assert_eq!(bob.until_connected(), name, "the directory's handle");
        scene.does("alice", &["send", "ops", &said("back")]);
        expected.push(said("back"));
        read_on(&mut bob, &mut got, &expected);
        until_seen(&scene, got.last().unwrap().0);
    }
    let texts: Vec<_> = got.iter().map(|(_, text)| text.clone()).collect();
    let once: BTreeSet<u64> = got.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(texts, expected);
    assert_eq!(once.len(), got.len(), "each once");
}

#[test]
fn an_agent_is_told_who_has_what_it_sent_and_can_acknowledge() {
    let scene = Scene::new(&["alice", "bob"]);
    let mut alice = Agent::new(scene.bridge("alice", &["--as", "one"]));
    let mut bob = Agent::new(scene.bridge("bob", &["--as", "two"]));
    alice.done("create_channel", json!({ "name": "ops", "visibility": "public" }));
    for (user, agent) in [("alice", &mut alice), ("bob", &mut bob)] {
        scene.level(user, "converse", "ops");
        agent.done("join_channel", json!({ "channel": "ops" }));
        agent.until_offered("send_channel");
    }
    let sent = alice.done(
        "send_channel",
        json!({ "channel": "ops", "text": "deploy?", "wait_for": "delivered", "timeout_secs": 60 }),
    );
    assert!(text(&sent).contains("delivered by bob/m/two"), "{sent}");
    let seq = sent["structuredContent"]["seq"].clone();

    let read = bob.done("wait_for_message", json!({ "timeout_secs": 20 }));
    let message: &Value = &read["structuredContent"]["messages"][0];
    assert_eq!((&message["seq"], &message["signature"]), (&seq, &json!("verified")), "{read}");
    bob.done("acknowledge", json!({ "channel": "ops", "seq": seq, "word": "on it" }));
    let told = alice.done("receipts", json!({ "channel": "ops", "seq": seq }));
    assert!(text(&told).contains("bob/m/two: acknowledged, says: on it"), "{told}");

    let answer = json!({ "channel": "ops", "text": "done", "reply_to": seq });
    bob.done("send_channel", answer);
    let read = alice.done("wait_for_message", json!({ "timeout_secs": 20 }));
    assert_eq!(read["structuredContent"]["messages"][0]["reply_to"], seq, "{read}");
}

#[test]
fn a_kick_is_told_at_once_and_what_was_posted_meanwhile_can_be_read() {
    let scene = Scene::new(&["alice", "bob"]);
    let mut bob = Agent::new(scene.bridge("bob", &["--as", "two"]));
    bob.until_connected();
    scene.does("alice", &["channel", "create", "ops"]);
    bob.done("join_channel", json!({ "channel": "ops" }));
    scene.does("alice", &["send", "ops", "before"]);
    bob.until_heard("before", &mut Vec::new());
    scene.does("alice", &["kick", "--channel", "ops", "bob"]);
    assert!(bob.notice().contains("no longer on #ops"));
    assert!(!text(&bob.done("status", json!({}))).contains("#ops"));
    scene.does("alice", &["send", "ops", "while it is away"]);
    bob.done("join_channel", json!({ "channel": "ops" }));
    let missed = bob.done("catch_up", json!({ "channel": "ops" }));
    assert!(text(&missed).contains("while it is away") && !text(&missed).contains("before"), "{missed}");
}
