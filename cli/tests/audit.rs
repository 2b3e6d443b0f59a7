//! The audit trail, from the command line.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use common::{Home, Server};
use serde_json::{Value, json};

fn trail(home: &Home, more: &[&str]) -> Vec<String> {
    let list = home.run([&["audit", "--json"], more].concat()).json();
    let line = |it: &Value| {
        let text = |key: &str| it[key].as_str().unwrap_or("-").to_owned();
        let by = text("by");
        format!("{} {} {} {}", by.split('/').next().unwrap(), text("did"), text("channel"), text("subject"))
    };
    list.as_array().unwrap().iter().map(line).collect()
}

#[test]
fn admins_see_who_did_what_and_others_do_not() {
    for runtime in ["tokio", "smol"] {
        let server = Server::with(["--ephemeral", "--admin", "root", "--runtime", runtime]);
        let [root, ann, bob] = ["root", "ann", "bob"].map(|user| Home::registered(&server.url, user));
        ann.run(["channel", "create", "ops"]).ok();
        ann.run(["acl", "add", "ops", "bob"]).ok();
        let token = ann.run(["invite", "create", "ops"]).ok().out;
        ann.run(["ban", "ops", "bob"]).ok();
        bob.run(["channel", "create", "own"]).ok();
        let own = [
            "ann created channel ops public",
            "ann added member ops bob",
            "ann made invite ops -",
            "ann banned ops bob",
        ];
        assert_eq!(trail(&ann, &["--channel", "ops"]), own);
        assert_eq!(trail(&ann, &["--channel", "ops", "--limit", "1"]), own[3..]);
        let all = trail(&root, &[]);
        assert_eq!(all[..3], ["root registered - -", "ann registered - -", "bob registered - -"]);
        assert_eq!(all[3..7], own);
        assert_eq!(all[7..], ["bob created channel own public"]);
        let shown = root.run(["audit"]).ok().out;
        assert!(
            shown.contains("ann/m/") && shown.contains("banned") && !shown.contains(token.trim()),
            "{shown}"
        );
        bob.run(["audit"]).fails(1, "only an admin of this server", "server admin");
        bob.run(["audit", "--channel", "ops"]).fails(1, "no channel 'ops'", "conclave channel list");
        ann.run(["audit", "--limit", "0"]).code_is(2);
    }
}

#[test]
fn what_was_done_is_known_after_a_crash() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().join("data");
    let args = ["--admin", "root", "--data-dir", dir.to_str().unwrap()];
    let server = Server::with(args);
    let root = Home::registered(&server.url, "root");
    root.run(["channel", "create", "ops"]).ok();
    let before = root.run(["audit", "--json"]).json();
    server.kill();
    let server = Server::with(args);
    assert_eq!(root.run(["audit", "--json", "--server", &server.url]).json(), before);
    assert_eq!(before[1]["did"], json!("created channel"));
    assert_eq!(before.as_array().unwrap().len(), 2);
}
