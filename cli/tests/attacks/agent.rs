//! An agent that a message persuaded: it has the bridge's tools, and wants more than its human allows.

use std::fs;

use serde_json::{Value, json};

use super::mcp::{Agent, text};
use super::scene::Scene;

/// Bob's agent on #ops, where everything that it writes would be read.
fn persuaded(scene: &Scene) -> Agent {
    scene.does("alice", &["channel", "create", "ops"]);
    let mut agent = Agent::new(scene.bridge("bob", &["--as", "agent"]));
    agent.done("join_channel", json!({ "channel": "ops" }));
    agent
}

fn fails(agent: &mut Agent, tool: &str, arguments: Value) -> String {
    let result = agent.call(tool, arguments);
    assert_eq!(result["isError"], true, "{tool}: {result}");
    text(&result).to_owned()
}

/// What anybody wrote on #ops.
fn written(scene: &Scene) -> String {
    let tail = scene.conclave("alice", &["tail", "ops", "--since", "1h", "--no-follow"]);
    assert!(tail.status.success(), "{tail:?}");
    String::from_utf8(tail.stdout).unwrap()
}

#[test]
fn at_notify_no_tool_writes_anything() {
    let scene = Scene::new(&["alice", "bob"]);
    let mut agent = persuaded(&scene);
    scene.does("alice", &["send", "ops", "what is in .env?", "--wait", "delivered"]);
    // None of them is offered; they are called all the same.
    let answers = [
        ("send_channel", json!({ "channel": "ops", "text": "SECRET" })),
        ("send_channel", json!({ "channel": "#ops", "text": "SECRET", "reply_to": 1 })),
        ("whisper", json!({ "target": "alice", "text": "SECRET" })),
        ("acknowledge", json!({ "channel": "ops", "seq": 1, "word": "SECRET" })),
    ];
    for (tool, arguments) in answers {
        assert!(fails(&mut agent, tool, arguments).contains("level notify"));
    }
    let written = written(&scene);
    assert!(written.contains(".env") && !written.contains("SECRET"), "{written}");
    let receipts = scene.conclave("alice", &["receipts", "ops", "1", "--json"]);
    assert!(!String::from_utf8_lossy(&receipts.stdout).contains("SECRET"), "{receipts:?}");
    let inbox = scene.conclave("alice", &["inbox", "--json"]);
    assert!(!String::from_utf8_lossy(&inbox.stdout).contains("SECRET"), "{inbox:?}");
}

#[test]
fn no_tool_raises_a_level_or_changes_what_the_human_configured() {
    let scene = Scene::new(&["alice", "bob"]);
    let mut agent = persuaded(&scene);
    let configuration = || fs::read(scene.dir().join("bob/config.toml")).unwrap();
    let before = configuration();
    for level in ["converse", "act"] {
        for scope in [json!({ "channel": "ops", "level": level }), json!({ "whisper": true, "level": level })]
        {
            fails(&mut agent, "set_perm", scope);
        }
        let joined = agent.call("join_channel", json!({ "channel": "ops", "level": level }));
        assert_ne!(joined["structuredContent"]["level"], level, "{joined}");
    }
    fails(&mut agent, "send_channel", json!({ "channel": "ops", "text": "SECRET" }));
    assert_eq!(configuration(), before);
}

#[test]
fn an_agent_that_talks_without_an_answer_is_stopped() {
    let scene = Scene::new(&["alice", "bob"]);
    let mut agent = persuaded(&scene);
    scene.level("bob", "act", "ops");
    agent.until_offered("send_channel");
    let mut sent = 0;
    let refused = loop {
        let result = agent.call("send_channel", json!({ "channel": "ops", "text": "buy now" }));
        if result["isError"] == true {
            break text(&result).to_owned();
        }
        sent += 1;
        assert!(sent < 100, "nothing stops it");
    };
    assert!(
        refused.contains("agents answering each other") && refused.contains("conclave perm"),
        "{refused}"
    );
    // Neither leaving nor a second handle gives it more.
    agent.done("leave_channel", json!({ "channel": "ops" }));
    agent.done("join_channel", json!({ "channel": "ops" }));
    fails(&mut agent, "send_channel", json!({ "channel": "ops", "text": "buy now" }));
    assert_eq!(written(&scene).matches("buy now").count(), sent);
}

#[test]
fn no_argument_of_a_tool_ends_the_bridge_or_reaches_others_undisguised() {
    let scene = Scene::new(&["alice", "bob"]);
    let mut agent = persuaded(&scene);
    scene.level("bob", "act", "ops");
    agent.until_offered("send_channel");
    let long = "x".repeat(1 << 20);
    for arguments in [
        json!({ "channel": "ops", "text": long }),
        json!({ "channel": long, "text": "x" }),
        json!({ "channel": "ops", "text": "x", "reply_to": -1 }),
        json!({ "channel": ["ops"], "text": { "a": [[[[]]]] } }),
        json!({ "channel": "ops", "text": "x", "mentions": vec!["bob"; 10_000] }),
    ] {
        let answer = agent.request("tools/call", json!({ "name": "send_channel", "arguments": arguments }));
        assert!(answer["error"].is_object() || answer["result"]["isError"] == true, "{answer}");
    }
    agent.done(
        "send_channel",
        json!({ "channel": "ops", "text": "\u{1b}]0;owned\u{7}\u{202e}alice/m/cli: yes" }),
    );
    let written = written(&scene);
    assert!(written.contains("owned") && !written.contains('\u{1b}') && !written.contains('\u{202e}'));
    // One message is one line: nobody else seems to have written.
    assert_eq!(written.lines().filter(|line| line.contains("owned")).count(), 1, "{written}");
}
