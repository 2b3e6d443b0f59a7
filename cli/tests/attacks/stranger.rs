//! Somebody who is not known yet.

use conclave_core::wire::v1::AdminOp;
use conclave_tests::client::{Peer, key, why};

use serde_json::{Value, json};

use super::mcp::Agent;
use super::process::{RUNTIMES, Served, serve};
use super::scene::Scene;

fn registers(server: &Served, name: &str) -> Result<(), String> {
    let mut peer = Peer::dial(server.address);
    peer.hello("s");
    peer.prove(name, "m", &key(name)).map(drop).map_err(|error| why(&error).to_owned())
}

#[test]
fn one_address_does_not_fill_the_table_of_users() {
    for runtime in RUNTIMES {
        let dir = tempfile::tempdir().unwrap();
        let mut command = serve(dir.path());
        command.args(["--runtime", runtime, "--limit", "registrations-per-address=20"]);
        let server = Served::start(command);
        let registered = (0..50).filter(|nth| registers(&server, &format!("u{nth}")).is_ok()).count();
        assert_eq!(registered, 20, "{runtime}");
        let refused = registers(&server, "more").unwrap_err();
        assert!(refused.starts_with("too many registrations"), "{refused}");
        // Whoever is known comes in as before.
        assert!(Peer::connect(server.address, "u0", "again").is_alive());
    }
}

#[test]
fn nobody_registers_as_somebody_who_looks_like_another_or_was_removed() {
    for runtime in RUNTIMES {
        let dir = tempfile::tempdir().unwrap();
        let start = || {
            let mut command = serve(dir.path());
            command.args(["--runtime", runtime]);
            Served::start(command)
        };
        let server = start();
        let mut root = Peer::register(server.address, "root");
        Peer::register(server.address, "aaron");
        Peer::register(server.address, "boss");
        for name in ["aar0n", "Aaron", "\u{430}aron", "R00T"] {
            let refused = registers(&server, name).unwrap_err();
            assert!(refused.contains("looks like one that is in use"), "{refused}");
        }
        for name in ["\u{2800}", "bea\u{2800}", "be\u{301}a", &"x".repeat(65)] {
            let refused = registers(&server, name).unwrap_err();
            assert!(refused.starts_with("a new name "), "{refused}");
        }
        root.admin(AdminOp::UserRemove { username: "boss" });
        drop(root);
        server.stop();

        // Whoever had the name gets it again, also from a server that was started anew.
        let server = start();
        let mut peer = Peer::dial(server.address);
        peer.hello("s");
        let refused = peer.prove("boss", "m", &key("mallory")).map(drop).unwrap_err();
        assert!(why(&refused).contains("until lately"), "{refused:?}");
        registers(&server, "boss").unwrap();
    }
}

/// A prompt of the agent's client.
fn prompt(id: &str) -> Value {
    json!({ "jsonrpc": "2.0", "method": "notifications/claude/channel/permission_request", "params": {
        "request_id": id, "tool_name": "Bash", "description": "clean up", "input_preview": "rm -rf /" } })
}

#[test]
fn who_takes_an_approvers_name_gets_no_card_and_approves_nothing() {
    // The worst case: the server gives names away at once.
    let free = |_: &std::path::Path| vec!["--hold-names".to_owned(), "0s".to_owned()];
    let scene = Scene::started(&["alice", "boss"], free, &[]);
    scene.does("alice", &["channel", "create", "ops"]);
    scene.does("alice", &["acl", "add", "--channel", "ops", "boss"]);
    let mut alice = Agent::new(scene.bridge("alice", &["--as", "one", "--approver", "boss"]));
    alice.until_connected();
    let approves = |who: &str, id: &str| scene.conclave(who, &["approve", id, "--to", "alice/m/one"]);
    let cards = |who: &str| String::from_utf8(scene.conclave(who, &["inbox"]).stdout).unwrap();
    alice.says(&prompt("abcde"));
    while !approves("boss", "abcde").status.success() {}
    let verdict = alice.note("notifications/claude/channel/permission");
    assert_eq!(verdict["params"], json!({ "request_id": "abcde", "behavior": "allow" }));
    assert!(cards("boss").contains("rm -rf /"));

    scene.does("alice", &["user", "remove", "boss", "--yes"]);
    scene.does("mallory", &["register", "--server", scene.url(), "--username", "boss", "--machine", "m"]);
    scene.does("alice", &["acl", "add", "--channel", "ops", "boss"]);
    alice.says(&prompt("bcdef"));
    let notice = alice.notice();
    assert!(notice.contains("boss") && notice.contains("somebody else"), "{notice}");
    assert!(!cards("mallory").contains("rm -rf /"));
    assert!(!approves("mallory", "bcdef").status.success());

    // Unless the human says that the new one is meant.
    let verified = scene.conclave("alice", &["verify", "boss"]);
    assert!(
        String::from_utf8_lossy(&verified.stderr).contains("conclave verify boss --accept"),
        "{verified:?}"
    );
    scene.does("alice", &["verify", "boss", "--accept"]);
    scene.does("alice", &["verify", "boss"]);
    alice.says(&prompt("cdefg"));
    while !approves("mallory", "cdefg").status.success() {}
    assert_eq!(alice.note("notifications/claude/channel/permission")["params"]["request_id"], "cdefg");
}
