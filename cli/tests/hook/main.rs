//! `conclave hook` as clients run it, with the events that they document, and the plugin for Claude Code.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

#[path = "../common/mod.rs"]
mod common;
mod install;
mod plugin;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process;
use std::thread::{self, JoinHandle};

use common::{Home, Ran};
use serde_json::{Value, json};

/// Framed and escaped, as a bridge gives it.
const TEXT: &str = "<message from=\"bea/laptop/reviewer\">\na &lt; b &amp; \u{1f980}\n</message>";

/// A bridge that answers each question with one text. It gives what it was sent.
fn bridge(home: &Home, answer: Value) -> JoinHandle<Vec<Value>> {
    let dir = home.path("run");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).unwrap();
    // This process started the bridge, and is an ancestor of the hook.
    let listener = UnixListener::bind(dir.join(format!("bridge-{0}-{0}-0.sock", process::id()))).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut asked = Vec::new();
        for line in lines.map_while(Result::ok) {
            let request: Value = serde_json::from_str(&line).unwrap();
            if request["hook"].is_string() {
                let nothing = request["most"] == 0;
                let answer = if nothing { json!({}) } else { answer.clone() };
                stream.write_all(format!("{answer}\n").as_bytes()).unwrap();
            }
            asked.push(request);
        }
        asked
    })
}

/// Runs a hook as long as it takes.
fn hook(home: &Home, client: &str, event: &str, input: &[u8]) -> Ran {
    home.piped(input, ["hook", event, "--client", client, "--timeout", "1m", "--verbose"])
}

fn recorded(client: &str, event: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hook");
    fs::read(dir.join(client).join(format!("{event}.json"))).unwrap()
}

/// Client, event, what the bridge is asked, where the text is in the answer, and what else is in it.
#[rustfmt::skip]
const EVENTS: [(&str, &str, &str, &str, &str); 18] = [
    ("claude-code", "SessionStart", "start", "/hookSpecificOutput/additionalContext", r#"{"hookSpecificOutput":{"hookEventName":"SessionStart"}}"#),
    ("claude-code", "UserPromptSubmit", "prompt", "/hookSpecificOutput/additionalContext", r#"{"hookSpecificOutput":{"hookEventName":"UserPromptSubmit"}}"#),
    ("claude-code", "PostToolUse", "tool", "/hookSpecificOutput/additionalContext", r#"{"hookSpecificOutput":{"hookEventName":"PostToolUse"}}"#),
    ("claude-code", "Stop", "stop", "/reason", r#"{"decision":"block"}"#),
    ("codex", "SessionStart", "start", "/hookSpecificOutput/additionalContext", r#"{"hookSpecificOutput":{"hookEventName":"SessionStart"}}"#),
    ("codex", "UserPromptSubmit", "prompt", "/hookSpecificOutput/additionalContext", r#"{"hookSpecificOutput":{"hookEventName":"UserPromptSubmit"}}"#),
    ("codex", "PostToolUse", "tool", "/hookSpecificOutput/additionalContext", r#"{"hookSpecificOutput":{"hookEventName":"PostToolUse"}}"#),
    ("codex", "Stop", "stop", "/reason", r#"{"decision":"block"}"#),
    ("gemini", "SessionStart", "start", "/hookSpecificOutput/additionalContext", r#"{"hookSpecificOutput":{"hookEventName":"SessionStart"}}"#),
    ("gemini", "BeforeAgent", "prompt", "/hookSpecificOutput/additionalContext", r#"{"hookSpecificOutput":{"hookEventName":"BeforeAgent"}}"#),
    ("gemini", "AfterTool", "tool", "/hookSpecificOutput/additionalContext", r#"{"hookSpecificOutput":{"hookEventName":"AfterTool"}}"#),
    ("gemini", "AfterAgent", "stop", "/reason", r#"{"decision":"deny"}"#),
    ("cursor", "sessionStart", "start", "/additional_context", "{}"),
    ("cursor", "postToolUse", "tool", "/additional_context", "{}"),
    ("cursor", "stop", "stop", "/followup_message", "{}"),
    ("opencode", "chat.message", "prompt", "/text", "{}"),
    ("opencode", "tool.execute.after", "tool", "/text", "{}"),
    ("opencode", "session.idle", "stop", "/text", "{}"),
];

#[test]
fn each_documented_event_is_answered_in_its_clients_format() {
    for (client, event, moment, place, rest) in EVENTS {
        let home = Home::new();
        let bridge = bridge(&home, json!({ "text": TEXT }));
        let mut answer = hook(&home, client, event, &recorded(client, event)).json();
        // Gemini escapes a context, but not the & in it.
        let escaped = client == "gemini" && moment != "stop";
        let text = if escaped { TEXT.replace('&', "&amp;") } else { TEXT.to_owned() };
        assert_eq!(answer.pointer(place), Some(&json!(text)), "{client} {event}: {answer}");
        let (parent, field) = place.rsplit_once('/').unwrap();
        answer.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field);
        assert_eq!(answer, serde_json::from_str::<Value>(rest).unwrap(), "{client} {event}");

        let asked = bridge.join().unwrap();
        let [question, shown] = &asked[..] else { panic!("{client} {event}: {asked:?}") };
        assert_eq!((&question["hook"], &question["human"]), (&json!(moment), &json!(moment == "prompt")));
        let limit = match client {
            "claude-code" | "codex" => 10_000,
            _ => 16_000,
        };
        assert!((1_000..=limit).contains(&question["most"].as_u64().unwrap()), "{question}");
        assert_eq!(shown["shown"], true, "{client} {event}");
    }
}

#[test]
fn where_nothing_is_unread_nothing_is_printed_or_confirmed() {
    for answer in [json!({}), json!({ "error": "version" }), json!({ "text": null })] {
        let home = Home::new();
        let bridge = bridge(&home, answer);
        let ran = hook(&home, "claude-code", "Stop", &recorded("claude-code", "Stop")).ok();
        assert_eq!(ran.out, "");
        assert_eq!(bridge.join().unwrap().len(), 1);
    }
}

#[test]
fn without_a_bridge_or_an_event_nothing_is_printed() {
    let home = Home::new();
    let cases: [(&str, &[u8], &str); 5] = [
        ("Stop", b"{}", "no bridge"),
        ("Stop", b"", "standard input"),
        ("Stop", b"{\"cwd\": ", "standard input"),
        ("Stop", b"7", "standard input"),
        ("PreCompact", b"{}", "PreCompact is no event"),
    ];
    for (event, input, why) in cases {
        let ran = hook(&home, "claude-code", event, input).ok();
        assert!(ran.out.is_empty() && ran.err.contains(why), "{event}: {ran:?}");
        let silent = home.piped(input, ["hook", event, "--timeout", "1m"]).ok();
        assert!(silent.out.is_empty() && silent.err.is_empty(), "{event}: {silent:?}");
    }
    // What settings of another version may ask for. Exit 2 would forbid what the client is about to do.
    for typed in [&["hook", "Stop", "--client", "emacs"][..], &["--color", "never", "hook", "Stop", "--new"]]
    {
        assert_eq!(home.piped(b"{}", typed).ok().out, "");
    }
    home.piped(b"", ["hook", "install", "emacs"]).code_is(2);
}

#[test]
fn a_bridge_that_hangs_does_not_hold_a_session_up() {
    let home = Home::new();
    let dir = home.path("run");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).unwrap();
    let _listener = UnixListener::bind(dir.join(format!("bridge-{0}-{0}-0.sock", process::id()))).unwrap();
    let ran = home.piped(b"{}", ["hook", "Stop", "--timeout", "1ms", "--verbose"]).ok();
    assert!(ran.out.is_empty() && ran.err.contains("in time"), "{ran:?}");
}

#[test]
fn what_no_human_submits_is_said_to_be_so() {
    let home = Home::new();
    let asked = bridge(&home, json!({ "text": TEXT }));
    let mut command = home.command(["hook", "UserPromptSubmit", "--timeout", "1m"]);
    common::run(
        command.env("CONCLAVE_AGENT", "ann/m/reviewer"),
        &recorded("claude-code", "UserPromptSubmit"),
    )
    .ok();
    assert_eq!(asked.join().unwrap()[0]["human"], false);
}

#[test]
fn cursors_first_stop_behind_a_prompt_says_that_there_was_one() {
    let home = Home::new();
    let asked = bridge(&home, json!({ "text": TEXT }));
    let first = String::from_utf8(recorded("cursor", "stop"))
        .unwrap()
        .replace("\"loop_count\": 1", "\"loop_count\": 0");
    hook(&home, "cursor", "stop", first.as_bytes()).ok();
    let asked = asked.join().unwrap();
    let moments: Vec<_> = asked.iter().map(|it| it["hook"].as_str().unwrap_or("shown")).collect();
    assert_eq!(
        (moments, &asked[0]["human"], &asked[0]["most"]),
        (vec!["prompt", "stop", "shown"], &json!(true), &json!(0))
    );
}

#[test]
fn subagents_and_turns_that_were_ended_are_left_alone() {
    let home = Home::new();
    let tool = br#"{"agent_id": "a1", "agent_type": "Explore", "tool_name": "Bash"}"#;
    let aborted = br#"{"status": "aborted", "loop_count": 0}"#;
    for (client, event, input) in
        [("claude-code", "PostToolUse", &tool[..]), ("cursor", "stop", &aborted[..])]
    {
        let ran = hook(&home, client, event, input).ok();
        assert!(ran.out.is_empty() && ran.err.contains("subagent"), "{ran:?}");
    }
}
