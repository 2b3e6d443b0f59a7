//! Mailboxes: whispers that wait, the inbox, confirmations, contacts.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use common::{Home, Running, Server};
use serde_json::{Value, json};

/// Two users who share the channel `ops`.
fn two(server: &Server) -> (Home, Home) {
    let (ann, bea) = (Home::registered(&server.url, "ann"), Home::registered(&server.url, "bea"));
    ann.run(["channel", "create", "ops"]).ok();
    ann.run(["acl", "add", "ops", "bea"]).ok();
    (ann, bea)
}

fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn texts(home: &Home, args: &[&str]) -> Vec<String> {
    let out = home.run([&["inbox", "--json"], args].concat()).ok().out;
    lines(&out).iter().map(|it| it["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_whisper_waits_in_a_mailbox_and_the_inbox_shows_it_once() {
    let server = Server::start();
    let (ann, bea) = two(&server);
    let sent = ann.run(["whisper", "bea", "hello"]).ok();
    assert_eq!((sent.out.as_str(), sent.err.as_str()), ("", "kept until they come\n"));
    let sent = ann.run(["whisper", "bea", "again", "--json"]).json();
    assert_eq!((&sent["seq"], &sent["present"], &sent["target"]), (&json!(2), &json!(false), &json!("bea")));
    assert_eq!(bea.run(["inbox", "--count"]).ok().out, "2\n");
    let shown = lines(&bea.run(["inbox", "--json"]).ok().out);
    assert_eq!(shown.iter().map(|it| &it["text"]).collect::<Vec<_>>(), ["hello", "again"]);
    for key in ["stream", "seq", "message_id"] {
        assert_eq!(shown[1][key], sent[key], "{key}");
    }
    assert_eq!(shown[1]["signed"], "verified");
    assert_eq!(bea.run(["inbox", "--count", "--json"]).json()["unread"], 0);
    assert!(texts(&bea, &[]).is_empty());
    ann.run(["whisper", "bea", "third"]).ok();
    assert_eq!(texts(&bea, &[]), ["third"]);
    let told = ann.run(["receipts", "--to", "bea", "3", "--json"]).json();
    assert_eq!((&told[0]["reader"], &told[0]["state"]), (&json!("bea/m/inbox"), &json!("delivered")));
    // Another session has its own position.
    assert_eq!(texts(&bea, &["--as", "desk"]), ["hello", "again", "third"]);
}

#[test]
fn an_inbox_that_is_followed_is_there_and_is_not_read_twice_at_once() {
    let server = Server::start();
    let (ann, bea) = two(&server);
    let inbox = Running::start(bea.command(["inbox", "--follow"]));
    inbox.note("following your inbox as bea/m/inbox");
    let sent = ann.run(["whisper", "bea", "hi", "--wait", "delivered", "--json"]).json();
    assert_eq!((&sent["present"], &sent["missing"]), (&json!(true), &Value::Null));
    assert!(inbox.line().ends_with(" whispers: hi"));
    let late = ann.run(["whisper", "bea", "look", "--wait", "seen", "--timeout", "300ms"]);
    late.fails(1, "not seen by bea", "conclave receipts --to bea 2");
    bea.run(["inbox"]).fails(1, "another `conclave inbox`", "--as");
}

#[test]
fn a_user_who_turns_receipts_off_does_not_tell_and_is_not_waited_for() {
    let server = Server::start();
    let (ann, bea) = two(&server);
    let off = bea.run(["receipts", "--mine", "off"]).ok().out;
    assert_eq!(off, format!("others do not learn on {} how far you read\n", server.url));
    ann.run(["whisper", "bea", "hi"]).ok();
    assert_eq!(texts(&bea, &[]), ["hi"]);
    assert!(ann.run(["receipts", "--to", "bea", "1"]).ok().out.contains("does not tell"));
    let late = ann.run(["whisper", "bea", "two", "--wait", "seen", "--timeout", "60s"]);
    late.fails(1, "does not tell", "acknowledgement");
    bea.run(["ack", "--inbox", "1"]).ok();
    let told = ann.run(["receipts", "--to", "bea", "1", "--json"]).json();
    assert_eq!((&told[0]["state"], &told[0]["off"]), (&json!("acknowledged"), &json!(true)));
    bea.run(["receipts", "--mine", "on"]).ok();
    ann.run(["whisper", "bea", "three"]).ok();
    assert_eq!(texts(&bea, &[]), ["two", "three"]);
    ann.run(["receipts", "--to", "bea", "2"]).ok();
    let told = ann.run(["receipts", "--to", "bea", "3", "--json"]).json();
    assert_eq!((&told[0]["state"], &told[0]["off"]), (&json!("delivered"), &json!(false)));
    assert_eq!(bea.run(["receipts", "--mine", "off", "--watch"]).code, 2);
    assert_eq!(bea.run(["receipts"]).code, 2);
}

#[test]
fn whoever_may_not_write_is_told_how_to_be_allowed() {
    let server = Server::start();
    let (ann, bea) = two(&server);
    let carl = Home::registered(&server.url, "carl");
    for target in ["bea", "bea/m/nobody", "nobody"] {
        carl.run(["whisper", target, "hi"]).fails(1, "no mailbox", "conclave allow");
    }
    bea.run(["allow", "carl"]).ok();
    carl.run(["whisper", "bea", "hi"]).ok();
    bea.run(["block", "ann"]).ok();
    ann.run(["whisper", "bea", "hi"]).fails(1, "no mailbox", "conclave who");
    let contacts =
        json!([{ "user": "ann", "standing": "blocked" }, { "user": "carl", "standing": "allowed" }]);
    assert_eq!(bea.run(["contacts", "--json"]).json(), contacts);
    bea.run(["unblock", "ann"]).ok();
    bea.run(["disallow", "carl"]).ok();
    ann.run(["whisper", "bea", "hi"]).ok();
    carl.run(["whisper", "bea", "hi"]).fails(1, "no mailbox", "conclave allow");
    assert_eq!(bea.run(["contacts", "--json"]).json(), json!([]));
    bea.run(["block", "nobody"]).fails(1, "no user", "conclave who");
}

#[test]
fn a_tail_with_a_name_goes_on_where_it_ended() {
    let server = Server::start();
    let (ann, bea) = two(&server);
    let tail = || Running::start(bea.command(["tail", "#ops", "--as", "desk", "--json"]));
    let text = |tail: &Running| serde_json::from_str::<Value>(&tail.line()).unwrap()["text"].clone();
    // What came before the first run is not asked for.
    ann.run(["send", "ops", "before"]).ok();
    let first = Running::start(bea.command(["tail", "ops", "--as", "desk"]));
    first.note("following #ops as bea/m/desk");
    ann.run(["send", "ops", "one", "--wait", "delivered"]).ok();
    assert!(first.line().ends_with(": one"));
    drop(first);
    ann.run(["send", "ops", "two"]).ok();
    ann.run(["whisper", "bea/m/desk", "psst"]).ok();
    let second = tail();
    let mut shown = [text(&second), text(&second)];
    shown.sort_by_key(Value::to_string);
    assert_eq!(shown, ["psst", "two"]);
    ann.run(["send", "ops", "three", "--wait", "delivered"]).ok();
    assert_eq!(text(&second), "three");
    drop(second);
    let third = bea.run(["tail", "ops", "--as", "desk", "--no-follow"]).ok();
    assert_eq!(third.out, "");
    let all = bea.run(["tail", "ops", "--as", "desk", "--no-follow", "--since", "1h"]).ok();
    assert_eq!(all.out.lines().count(), 4);
}

#[test]
fn a_channel_that_got_another_name_meanwhile_is_resumed_under_it() {
    let server = Server::start();
    let (ann, bea) = two(&server);
    let first = Running::start(bea.command(["tail", "ops", "--as", "desk"]));
    first.note("following #ops");
    ann.run(["send", "ops", "one", "--wait", "delivered"]).ok();
    drop(first);
    ann.run(["send", "ops", "two"]).ok();
    ann.run(["channel", "rename", "ops", "den"]).ok();
    let second = Running::start(bea.command(["tail", "den", "--as", "desk"]));
    assert!(second.line().ends_with(": two"));
    ann.run(["send", "den", "three"]).ok();
    assert!(second.line().ends_with(": three"));
}

#[test]
fn a_channel_that_was_made_anew_is_followed_from_its_beginning() {
    let server = Server::start();
    let (ann, bea) = two(&server);
    ann.run(["send", "ops", "old"]).ok();
    assert_eq!(bea.run(["tail", "ops", "--as", "desk", "--no-follow"]).ok().out.lines().count(), 1);
    ann.run(["channel", "delete", "ops"]).ok();
    ann.run(["channel", "create", "ops"]).ok();
    ann.run(["send", "ops", "new"]).ok();
    assert!(bea.run(["tail", "ops", "--as", "desk", "--no-follow"]).ok().out.ends_with(": new\n"));
}

#[test]
fn a_message_is_confirmed_by_the_session_that_reads_it() {
    let server = Server::start();
    let (ann, bea) = two(&server);
    bea.run(["ack", "ops", "1"]).fails(1, "no message 1", "check the number");
    ann.run(["send", "ops", "deploy?"]).ok();
    bea.run(["ack", "ops", "1"]).fails(1, "no kept session of this machine follows #ops", "--as NAME");
    bea.run(["tail", "ops", "--as", "desk", "--no-follow"]).ok();
    let acked = bea.run(["ack", "#ops", "1", "on it", "--json"]).json();
    assert_eq!((&acked["channel"], &acked["seq"]), (&json!("ops"), &json!(1)));
    let told = ann.run(["receipts", "ops", "1", "--json"]).json();
    assert_eq!(told[0]["reader"], "bea/m/desk");
    assert_eq!((&told[0]["state"], &told[0]["word"]), (&json!("acknowledged"), &json!("on it")));
    bea.run(["ack", "ops", "2"]).fails(1, "no message 2", "check the number");

    ann.run(["whisper", "bea", "and here?"]).ok();
    bea.run(["inbox"]).ok();
    bea.run(["ack", "--inbox", "1", "yes"]).ok();
    let told = ann.run(["receipts", "--to", "bea", "1", "--json"]).json();
    assert_eq!((&told[0]["state"], &told[0]["word"]), (&json!("acknowledged"), &json!("yes")));
}

#[test]
fn a_server_of_version_1_is_whispered_to_by_sessions_only() {
    let url = common::session::server(|stream| {
        let mut socket = common::session::establish(stream);
        while socket.read().is_ok() {}
    });
    let home = Home::new();
    home.run(["key"]).ok();
    let server = ["--server", &url];
    let run = |args: &[&str]| home.run([args, &server[..]].concat());
    run(&["whisper", "bea", "hi"]).fails(2, "keeps no mailboxes", "conclave whisper bea/MACHINE/SESSION");
    run(&["whisper", "bea/m/desk", "hi", "--wait", "seen"]).fails(1, "speaks version 1", "update");
    for verb in [&["inbox"][..], &["inbox", "--count"], &["contacts"], &["ack", "ops", "1"]] {
        run(verb).fails(1, "keeps no mailboxes", "update");
    }
    run(&["verify", "bea"]).fails(1, "tells no keys", "update");
    run(&["server", "trust", &url]).fails(1, "proves no key", "update");
}

#[test]
fn a_channel_is_typed_as_it_is_shown() {
    let server = Server::start();
    let (ann, bea) = two(&server);
    ann.run(["send", "#ops", "hi"]).ok();
    bea.run(["tail", "#ops", "--as", "desk", "--no-follow"]).ok();
    for args in [&["receipts", "#ops", "1"][..], &["receipts", "--channel", "#ops", "1"], &["who", "#ops"]] {
        ann.run(args).ok();
    }
    for args in [&["ack", "#ops", "1"][..], &["ack", "--channel", "#ops", "1"], &["join", "#ops"]] {
        bea.run(args).ok();
    }
    ann.run(["ban", "#ops", "bea"]).ok();
    ann.run(["channel", "delete", "#ops"]).ok();
}

#[test]
fn an_inbox_is_looked_at_without_moving_and_marked_as_read_without_being_seen() {
    let server = Server::start();
    let (ann, bea) = two(&server);
    let carl = Home::registered(&server.url, "carl");
    carl.run(["join", "ops"]).ok();
    for (from, text) in [(&ann, "one"), (&carl, "two"), (&ann, "for @bea")] {
        from.run(["send", "ops", text]).ok();
    }
    let ops = |args: &[&str]| texts(&bea, &[&["--channel", "#ops"], args].concat());
    assert_eq!(bea.run(["inbox", "--channel", "ops", "--count"]).ok().out, "3\n");
    assert_eq!(ops(&["--from", "carl"]), ["two"]);
    assert_eq!(ops(&["--mentions"]), ["for @bea"]);
    assert_eq!(ops(&["--from", "carl", "--mentions"]), Vec::<String>::new());
    assert_eq!(bea.run(["inbox", "--channel", "ops", "--count"]).ok().out, "3\n", "a look moves nothing");
    assert_eq!(ops(&[]), ["one", "two", "for @bea"]);
    assert!(ops(&[]).is_empty());
    ann.run(["send", "ops", "passed over"]).ok();
    let marked = bea.run(["inbox", "--channel", "ops", "--mark-read", "--json"]).json();
    assert_eq!(marked["marked"], 1);
    ann.run(["send", "ops", "shown"]).ok();
    assert_eq!(ops(&[]), ["shown"]);
    let told = ann.run(["receipts", "ops", "4", "--json"]).json();
    assert_eq!((&told[0]["reader"], &told[0]["state"]), (&json!("bea/m/inbox"), &json!("stored")));
    let told = ann.run(["receipts", "ops", "5", "--json"]).json();
    assert_eq!(told[0]["state"], "delivered");
    ann.run(["whisper", "bea", "hi"]).ok();
    assert_eq!(bea.run(["inbox", "--mark-read"]).ok().out, "marked as read: 1\n");
    assert!(texts(&bea, &[]).is_empty());
}
