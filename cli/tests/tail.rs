//! `tail`: each message once and in order, whatever drops.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use common::{Home, Running, Server};
use conclave_tests::client::Door;
use serde_json::Value;

fn text(line: &str) -> String {
    serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().to_owned()
}

#[test]
fn a_tail_survives_drops_restarts_and_a_killed_server() {
    let data = tempfile::tempdir().unwrap();
    let serve = || Server::with(["--data-dir".as_ref(), data.path().as_os_str()]);
    let mut server = serve();
    let door = Door::to(server.address());
    let url = format!("ws://{}", door.address());
    let ann = Home::registered(&url, "ann");
    ann.run(["channel", "create", "ops"]).ok();
    let send = |text: &str| ann.run(["send", "--channel", "ops", text]).ok();
    send("before");
    let tail = Running::start(ann.command(["tail", "--channel", "ops", "--since", "1h", "--json"]));
    assert_eq!(text(&tail.line()), "before");
    send("live");
    assert_eq!(text(&tail.line()), "live");

    // The network drops; somebody who reaches the server otherwise goes on.
    let direct = Home::registered(&server.url, "ben");
    door.close();
    tail.note("trying again");
    direct.run(["send", "--channel", "ops", "missed"]).ok();
    door.lead_to(server.address());
    assert_eq!(text(&tail.line()), "missed");
    send("again live");
    assert_eq!(text(&tail.line()), "again live");

    for nth in 0..3 {
        let said = format!("before the server went {nth}");
        send(&said);
        door.close();
        server.kill();
        server = serve();
        let after = format!("after the server came {nth}");
        Home::registered(&server.url, &format!("user{nth}")).run(["send", "--channel", "ops", &after]).ok();
        door.lead_to(server.address());
        assert_eq!(text(&tail.line()), said);
        assert_eq!(text(&tail.line()), after);
    }
    send("the end");
    assert_eq!(text(&tail.line()), "the end");
}

#[test]
#[cfg(unix)]
fn a_server_that_is_stopped_is_waited_for() {
    let data = tempfile::tempdir().unwrap();
    let serve = || Server::with(["--data-dir".as_ref(), data.path().as_os_str()]);
    let server = serve();
    let door = Door::to(server.address());
    let url = format!("ws://{}", door.address());
    let ann = Home::registered(&url, "ann");
    ann.run(["channel", "create", "ops"]).ok();
    let tail = Running::start(ann.command(["tail", "--channel", "ops"]));
    tail.note("following #ops as ann/m/tail-");
    server.stop();
    tail.note("shutting down");
    let server = serve();
    door.lead_to(server.address());
    tail.note("connected again");
    ann.run(["send", "--channel", "ops", "hello"]).ok();
    let line = tail.line();
    assert!(line.contains(" ann/m/cli-") && line.ends_with(": hello"), "{line}");
}

#[test]
fn a_channel_that_is_gone_after_a_drop_ends_it() {
    let server = Server::start();
    let door = Door::to(server.address());
    let url = format!("ws://{}", door.address());
    let ann = Home::registered(&server.url, "ann");
    ann.run(["channel", "create", "ops"]).ok();
    let mut tail = Running::start(ann.command(["tail", "--server", &url, "--channel", "ops"]));
    tail.note("following #ops");
    door.close();
    tail.note("trying again");
    ann.run(["channel", "delete", "ops", "--server", &server.url]).ok();
    door.lead_to(server.address());
    tail.note("cannot be followed any more");
    assert_eq!(common::wait(&mut tail.child).code(), Some(1));
}

#[test]
fn history_is_shown_from_the_time_that_was_asked_for_in_local_time() {
    let server = Server::start();
    let ann = Home::registered(&server.url, "ann");
    ann.run(["channel", "create", "ops"]).ok();
    ann.run(["send", "--channel", "ops", "old"]).ok();
    let tail = |more: &[&str]| ann.command([&["tail", "--channel", "ops", "--no-follow"], more].concat());
    let run = |mut command: std::process::Command| common::run(&mut command, b"").ok().out;
    assert_eq!(run(tail(&["--since", "2999-01-01T00:00:00Z"])), "");
    let utc = run(tail(&["--since", "1h"]));
    let mut elsewhere = tail(&[]);
    elsewhere.env("TZ", "Asia/Kolkata");
    let kolkata = run(elsewhere);
    let stamp = |line: &str| -> jiff::civil::DateTime { line[..19].parse().unwrap() };
    let apart = stamp(&kolkata).duration_since(stamp(&utc));
    assert_eq!(apart.as_secs(), 5 * 3600 + 1800, "{utc}{kolkata}");
    let json: Value = serde_json::from_str(&run(tail(&["--json"]))).unwrap();
    assert!(json["ts_ms"].as_i64().unwrap() > 1_700_000_000_000);
    assert!(json["ts"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn a_long_history_comes_whole_and_in_order() {
    let server = Server::with(["--ephemeral", "--limit", "all=off"]);
    let ann = Home::registered(&server.url, "ann");
    ann.run(["channel", "create", "ops"]).ok();
    common::session::post_many(&ann.dir, &server.url, "ops", 1200);
    let shown = ann.run(["tail", "--channel", "ops", "--no-follow", "--json"]).ok().out;
    let texts: Vec<_> = shown.lines().map(text).collect();
    assert_eq!(texts, (0..1200).map(|nth| nth.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_closed_pipe_ends_it_without_a_word() {
    let server = Server::with(["--ephemeral", "--limit", "all=off"]);
    let ann = Home::registered(&server.url, "ann");
    ann.run(["channel", "create", "ops"]).ok();
    common::session::post_many(&ann.dir, &server.url, "ops", 600);
    for json in [&[][..], &["--json"]] {
        let mut command = ann.command([&["tail", "--channel", "ops", "--since", "1h"], json].concat());
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        // What is written from here on meets a closed pipe.
        ann.run(["send", "--channel", "ops", "more"]).ok();
        assert!(common::wait(&mut child).success());
        let notes = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(notes.into_iter().all(|note| note.starts_with("following ")), "not a word of it");
    }
}

#[test]
fn a_channel_that_gets_another_name_is_followed_on() {
    let server = Server::start();
    let (ann, bob) = (Home::registered(&server.url, "ann"), Home::registered(&server.url, "bob"));
    ann.run(["channel", "create", "ops"]).ok();
    let tail = Running::start(bob.command(["tail", "--channel", "ops"]));
    tail.note("following #ops");
    ann.run(["channel", "rename", "ops", "the den"]).ok();
    tail.note("#ops is called #the den now");
    ann.run(["send", "--channel", "the den", "hello"]).ok();
    assert!(tail.line().ends_with(": hello"));
}

#[test]
fn json_tells_where_a_message_lies_and_what_its_signature_proves() {
    let server = Server::start();
    let (ann, bob) = (Home::registered(&server.url, "ann"), Home::registered(&server.url, "bob"));
    ann.run(["channel", "create", "ops"]).ok();
    let tail = Running::start(bob.command(["tail", "--channel", "ops", "--since", "1h", "--json"]));
    let mut sent = Vec::new();
    for text in ["one", "two"] {
        let stored = ann.run(["send", "--channel", "ops", text, "--json"]).ok();
        sent.push(serde_json::from_str::<serde_json::Value>(&stored.out).unwrap());
    }
    for sent in sent {
        let shown: serde_json::Value = serde_json::from_str(&tail.line()).unwrap();
        for key in ["stream", "seq", "message_id"] {
            assert_eq!(shown[key], sent[key], "{key}");
        }
        assert_eq!(shown["ts"], sent["stamp"]);
        assert_eq!(shown["signed"], "verified");
    }
}
