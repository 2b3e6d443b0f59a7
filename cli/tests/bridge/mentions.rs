//! Mentions, from whoever sends to whom they wake.

use serde_json::{Value, json};

use crate::agent::{Agent, text};
use crate::scene::Scene;

/// The messages of the next page, if any come in a second.
fn page(agent: &mut Agent) -> Vec<Value> {
    let page = agent.done("wait_for_message", json!({ "timeout_secs": 1 }));
    page["structuredContent"]["messages"].as_array().unwrap().clone()
}

#[test]
fn who_is_mentioned_is_told_and_nobody_is_by_a_name_alone() {
    let scene = Scene::new(&["alice", "bob"]);
    let mut alice = Agent::new(scene.bridge("alice", &["--as", "one"]));
    let mut bob = Agent::new(scene.bridge("bob", &["--as", "two"]));
    alice.done("create_channel", json!({ "name": "ops", "visibility": "public" }));
    scene.level("alice", "converse", "ops");
    for agent in [&mut alice, &mut bob] {
        agent.done("join_channel", json!({ "channel": "#ops" }));
    }
    alice.until_offered("send_channel");

    let sent = alice.done("send_channel", json!({ "channel": "ops", "text": "look, @bob! @nobody" }));
    assert_eq!(sent["structuredContent"]["mentioned"], json!(["bob"]), "{sent}");
    alice.done("send_channel", json!({ "channel": "ops", "text": "for alice", "mentions": ["@alice"] }));
    let nobody = alice.call("send_channel", json!({ "channel": "ops", "text": "x", "mentions": ["nobody"] }));
    assert!(nobody["isError"] == true && text(&nobody).contains("no user nobody"), "{nobody}");
    let malformed = alice.call("send_channel", json!({ "channel": "ops", "text": "x", "mentions": "bob" }));
    assert!(text(&malformed).contains("`mentions` must be a list of at most 16 texts"), "{malformed}");
    scene.does("alice", &["send", "ops", "and you?", "--mention", "bob"]);
    let unknown = scene.conclave("alice", &["send", "ops", "and you?", "--mention", "nobody"]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");

    let mut heard = Vec::new();
    while heard.len() < 3 {
        heard.extend(page(&mut bob).into_iter().filter(|message| message["kind"] == "message"));
    }
    let marked = |message: &Value| (message["text"].clone(), message["mentions_you"] == true);
    let heard: Vec<_> = heard.iter().map(marked).collect();
    let expected = [("look, @bob! @nobody", true), ("for alice", false), ("and you?", true)];
    assert_eq!(heard, expected.map(|(text, mine)| (json!(text), mine)));
    let history = bob.done("catch_up", json!({ "channel": "ops", "since": "1h" }));
    assert_eq!(text(&history).matches("mentions_you=\"true\"").count(), 2, "{history}");

    let tail = scene.conclave("bob", &["tail", "ops", "--since", "1h", "--no-follow", "--json"]);
    let lines = String::from_utf8(tail.stdout).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mine: Vec<_> = lines.iter().map(|line| line["mentions_you"] == true).collect();
    assert_eq!(mine, [true, false, true], "{lines:?}");
    assert_eq!(lines[0]["mentions"], lines[2]["mentions"]);
    assert!(lines[0]["mentions"][0].as_u64().is_some_and(|number| number > 0), "{lines:?}");
    assert_eq!(lines[0]["signed"], "verified");
}
