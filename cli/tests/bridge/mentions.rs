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

/// The texts of a page of the inbox.
fn read(agent: &mut Agent, arguments: Value) -> Vec<String> {
    let page = agent.done("inbox", arguments);
    let messages = page["structuredContent"]["messages"].as_array().unwrap();
    let messages = messages.iter().filter(|message| message["kind"] != "notice");
    messages.map(|message| message["text"].as_str().unwrap().chars().take(20).collect()).collect()
}

/// What `inbox` counts of a channel: what it shows by itself, and what waits there without a mention.
fn counts(agent: &mut Agent, channel: &str) -> (Value, Value) {
    let page = agent.done("inbox", json!({ "limit": 1, "from": "nobody" }));
    let unread = page["structuredContent"]["unread"].as_array().unwrap();
    let of = unread.iter().find(|it| it["channel"] == channel).cloned().unwrap_or_default();
    (of["count"].clone(), of["without_mention"].clone())
}

fn until_delivered(scene: &Scene, text: &str) {
    scene.does("alice", &["send", "ops", text, "--wait", "delivered"]);
}

#[test]
fn where_only_mentions_are_shown_the_rest_waits_counted_and_unseen() {
    let scene = Scene::new(&["alice", "bob"]);
    scene.does("alice", &["channel", "create", "ops"]);
    let only = scene.conclave("bob", &["perm", "set", "converse", "ops", "--mentions-only", "--json"]);
    assert!(String::from_utf8_lossy(&only.stdout).contains(r#""mentions_only":true"#), "{only:?}");
    let shown = scene.conclave("bob", &["perm", "show"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("converse, mentions only"), "{shown:?}");
    let mut bob = Agent::new(scene.bridge("bob", &["--as", "two"]));
    bob.done("join_channel", json!({ "channel": "ops" }));
    assert!(text(&bob.done("status", json!({}))).contains("#ops at converse, mentions only"));
    for n in 0..3 {
        until_delivered(&scene, &format!("chatter {n}"));
    }
    until_delivered(&scene, "@bob, look");
    let mut heard = Vec::new();
    bob.until_heard("@bob, look", &mut heard);
    assert_eq!(heard, ["@bob, look"], "nothing else woke it");
    assert!(read(&mut bob, json!({})).is_empty());
    assert_eq!(counts(&mut bob, "ops"), (json!(0), json!(3)));
    assert!(!bob_has_seen(&scene, 4), "older ones wait");
    assert!(
        page(&mut bob).is_empty(),
        "nor does anything within a second, when what was shown cannot be cancelled any more"
    );

    // After a restart the mention does not come again, and the others wait still.
    drop(bob);
    let mut bob = Agent::new(scene.bridge("bob", &["--as", "two"]));
    bob.until_connected();
    until_delivered(&scene, "@bob, and this");
    let mut heard = Vec::new();
    bob.until_heard("@bob, and this", &mut heard);
    assert_eq!(heard, ["@bob, and this"]);
    assert_eq!(read(&mut bob, json!({ "channel": "#ops" })), ["chatter 0", "chatter 1", "chatter 2"]);
    while !bob_has_seen(&scene, 5) {}
}

fn bob_has_seen(scene: &Scene, seq: u64) -> bool {
    let told = scene.conclave("alice", &["receipts", "ops", &seq.to_string(), "--json"]);
    String::from_utf8_lossy(&told.stdout).contains(r#""state":"seen""#)
}

#[test]
fn an_inbox_is_filtered_and_marked_as_read_and_a_long_message_blocks_nothing() {
    let scene = Scene::new(&["alice", "bob", "carl"]);
    scene.does("alice", &["channel", "create", "ops"]);
    scene.does("alice", &["channel", "create", "den"]);
    let mut bob = Agent::new(scene.bridge("bob", &["--as", "two"]));
    for channel in ["ops", "den"] {
        bob.done("join_channel", json!({ "channel": channel }));
    }
    let file = scene.dir().join("long");
    std::fs::write(&file, "x".repeat(990_000)).unwrap();
    for _ in 0..3 {
        let long = std::fs::File::open(&file).unwrap();
        assert!(scene.piped("alice", &["send", "ops", "--wait", "delivered"], long.into()).status.success());
    }
    until_delivered(&scene, "URGENT");
    scene.does("carl", &["send", "den", "from carl", "--wait", "delivered"]);
    scene.does("carl", &["send", "den", "for @bob", "--wait", "delivered"]);
    assert_eq!(read(&mut bob, json!({ "from": "carl" })), ["from carl", "for @bob"]);
    scene.does("carl", &["send", "den", "more for @bob", "--wait", "delivered"]);
    assert_eq!(read(&mut bob, json!({ "mentions_only": true })), ["more for @bob"]);
    // The beginning of a long message, and then what is behind it: the inbox has no room for all of them at once, so that
    // they come from the disk one after the other. The rest of a long one wakes nobody.
    let mut heard = read(&mut bob, json!({ "channel": "ops" }));
    for _ in 0..20 {
        if heard.iter().any(|text| text == "URGENT") {
            break;
        }
        let page = page(&mut bob);
        heard.extend(
            page.iter().filter_map(|it| it["text"].as_str()).map(|text| text.chars().take(20).collect()),
        );
    }
    assert_eq!(
        heard.iter().filter(|text| *text == "URGENT").count(),
        1,
        "long messages block the inbox: {heard:?}"
    );
    let bad = bob.call("inbox", json!({ "mark_read": true, "from": "carl" }));
    assert!(text(&bad).contains("mark_read goes with"), "{bad}");
    assert_eq!(bob.done("inbox", json!({ "mark_read": true }))["structuredContent"]["marked"], 3);
    assert!(read(&mut bob, json!({})).is_empty());
    until_delivered(&scene, "after");
    assert_eq!(read(&mut bob, json!({})), ["after"]);
    assert!(page(&mut bob).is_empty(), "within a second, when what was shown cannot be cancelled any more");
    // Nothing that was not shown is reported as seen, nor after a restart.
    drop(bob);
    let mut bob = Agent::new(scene.bridge("bob", &["--as", "two"]));
    bob.until_connected();
    until_delivered(&scene, "last");
    let mut heard = Vec::new();
    bob.until_heard("last", &mut heard);
    assert!(heard.iter().all(|text| ["after", "last"].contains(&text.as_str())), "{}", heard.len());
    assert!(page(&mut bob).is_empty());
    assert!(!bob_has_seen(&scene, 1) && !bob_has_seen(&scene, 6));
}
