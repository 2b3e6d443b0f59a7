//! Invites to a server: made by its admins, used by who registers, once each.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::thread;

use common::{Home, Ran, Server};
use serde_json::json;

fn register(home: &Home, server: &Server, user: &str, more: &[&str]) -> Ran {
    let args = ["register", "--server", &server.url, "--username", user, "--machine", "m"];
    home.run([&args, more].concat())
}

fn invited_only(runtime: &str) -> (Server, Home) {
    let server = Server::with([
        "--ephemeral",
        "--registration",
        "invite",
        "--admin",
        "root",
        "--limit",
        "all=off",
        "--runtime",
        runtime,
    ]);
    let root = Home::registered(&server.url, "root");
    (server, root)
}

#[test]
fn who_has_an_invite_registers_and_nobody_else() {
    let (server, root) = invited_only("tokio");
    let ann = Home::new();
    register(&ann, &server, "ann", &[]).fails(
        1,
        "new users need an invite here",
        "ask the server's operator",
    );
    let made = root.run(["invite", "user"]).ok();
    let token = made.out.trim();
    assert!(token.len() >= 24, "{token}");
    let url = &server.url;
    assert_eq!(
        made.err,
        format!("they type: conclave register --server {url} --username NAME --invite TOKEN\n")
    );
    register(&ann, &server, "ann", &["--invite", token]).ok();
    register(&Home::new(), &server, "bob", &["--invite", token]).fails(1, "new users need an invite", "ask");
    // Typed again by who has it already.
    assert!(register(&ann, &server, "ann", &["--invite", token]).ok().out.contains("already registered"));
    ann.run(["invite", "user"]).fails(1, "only an admin of this server", "server admin");
}

#[test]
fn of_many_who_race_as_many_get_in_as_it_has_uses() {
    for runtime in ["tokio", "smol"] {
        let (server, root) = invited_only(runtime);
        let made = root.run(["invite", "user", "--uses", "2", "--expires", "1h", "--json"]).json();
        assert_eq!((&made["uses"], &made["expires_in_secs"]), (&json!(2), &json!(3600)));
        let token = made["token"].as_str().unwrap();
        let codes: Vec<i32> = thread::scope(|scope| {
            let server = &server;
            let racers: Vec<_> = (0..6)
                .map(|n| {
                    scope.spawn(move || {
                        let home = Home::new();
                        register(&home, server, &format!("u{n}"), &["--invite", token]).code
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(codes.iter().filter(|code| **code == 0).count(), 2, "{codes:?}");
        assert_eq!(root.run(["invite", "users", "--json"]).json(), json!([]));
    }
}

#[test]
fn invites_are_listed_without_their_tokens_and_outlive_a_crash_until_revoked() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().join("data");
    let dir = dir.to_str().unwrap();
    let args = ["--registration", "invite", "--admin", "root", "--data-dir", dir];
    let server = Server::with(args);
    let root = Home::registered(&server.url, "root");
    let token = root.run(["invite", "user", "--json"]).json()["token"].as_str().unwrap().to_owned();
    server.kill();
    let database = std::fs::read(std::path::Path::new(dir).join("conclave.db-wal")).unwrap();
    let kept = |bytes: &[u8]| bytes.windows(token.len()).any(|window| window == token.as_bytes());
    assert!(!kept(&database), "the secret is on the disk");

    let server = Server::with(args);
    let url = ["--server", &server.url];
    let root = |args: &[&str], input: &str| root.piped(input.as_bytes(), [args, &url].concat());
    let list = root(&["invite", "users", "--json"], "").json();
    assert_eq!((&list[0]["by"], &list[0]["uses_remaining"]), (&json!("root"), &json!(1)));
    assert!(!token.contains(list[0]["invite"].as_str().unwrap()));
    root(&["invite", "revoke", "-"], &token).ok();
    register(&Home::new(), &server, "ann", &["--invite", &token]).fails(1, "new users need an invite", "ask");
    let second = root(&["invite", "user"], "").ok();
    let list = root(&["invite", "users", "--json"], "").json();
    root(&["invite", "revoke", list[0]["invite"].as_str().unwrap()], "").ok();
    register(&Home::new(), &server, "ann", &["--invite", second.out.trim()]).fails(
        1,
        "need an invite",
        "ask",
    );
}

#[test]
fn where_registration_takes_no_invites_none_is_made() {
    let server = Server::with(["--ephemeral", "--admin", "root"]);
    let root = Home::registered(&server.url, "root");
    root.run(["invite", "user"]).fails(1, "--registration invite", "operator");
}
