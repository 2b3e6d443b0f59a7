//! Hidden presence, from the command line.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use common::{Home, Running, Server};

fn online(home: &Home) -> Vec<String> {
    let list = home.run(["who", "--json"]).json();
    let paths = list.as_array().unwrap().iter();
    let mut handles: Vec<String> = paths
        .map(|it| it["session"].as_str().unwrap().to_owned())
        .filter(|it| !it.starts_with("cli-"))
        .collect();
    handles.sort();
    handles
}

#[test]
fn who_shares_a_channel_is_seen_and_nobody_else() {
    for runtime in ["tokio", "smol"] {
        let server =
            Server::with(["--ephemeral", "--admin", "root", "--presence", "shared", "--runtime", runtime]);
        let [root, ann, bob, carl] =
            ["root", "ann", "bob", "carl"].map(|user| Home::registered(&server.url, user));
        ann.run(["channel", "create", "ops"]).ok();
        bob.run(["channel", "create", "own"]).ok();
        let tail = Running::start(bob.command(["tail", "own", "--as", "desk"]));
        tail.note("following #own");
        assert_eq!(online(&root), ["desk"]);
        assert_eq!(online(&bob), ["desk"]);
        assert!(online(&ann).is_empty() && online(&carl).is_empty());
        bob.run(["acl", "add", "own", "ann"]).ok();
        assert_eq!(online(&ann), ["desk"]);
        assert!(online(&carl).is_empty());
        assert_eq!(carl.run(["who", "own", "--json"]).json(), serde_json::json!([]));
    }
}

#[test]
fn everyone_is_seen_where_nothing_is_said() {
    let server = Server::start();
    let [ann, bob] = ["ann", "bob"].map(|user| Home::registered(&server.url, user));
    bob.run(["channel", "create", "own"]).ok();
    let tail = Running::start(bob.command(["tail", "own", "--as", "desk"]));
    tail.note("following #own");
    assert_eq!(online(&ann), ["desk"]);
}
