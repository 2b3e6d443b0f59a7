//! Keys of servers and of others' machines: shown, compared, replaced by hand only.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use common::{Home, Server};
use conclave_core::key::SecretKey;
use conclave_core::record::{MachineId, UserId};
use conclave_core::time::UnixMillis;
use conclave_store::state::State;
use conclave_tests::client::Door;
use serde_json::json;

#[test]
fn another_server_key_is_accepted_by_hand_only() {
    let (server, other) = (Server::start(), Server::start());
    let door = Door::to(server.address());
    let url = format!("ws://{}", door.address());
    let ann = Home::registered(&url, "ann");
    let first = ann.run(["server", "trust", "--json"]).json();
    assert_eq!(first["trusted"], true);
    assert!(first["fingerprint"].as_str().unwrap().starts_with("SHA256:"));

    door.close();
    door.lead_to(other.address());
    let next = format!("conclave server trust {url}");
    for verb in [&["send", "ops", "hi"][..], &["tail", "ops"], &["inbox"], &["whisper", "ann", "hi"]] {
        ann.run(verb).fails(1, "the server's key has changed", &next);
    }
    let refused = ann.run(["server", "trust"]).fails(1, "nothing was changed", "--yes");
    assert!(refused.err.contains(first["fingerprint"].as_str().unwrap()), "{refused:?}");
    let trusted = ann.run(["server", "trust", &url, "--yes", "--json"]).json();
    assert_eq!(trusted["trusted_before"], first["fingerprint"]);
    assert_ne!(trusted["fingerprint"], first["fingerprint"]);
    ann.run(["register", "--server", &url, "--username", "ann", "--machine", "m"]).ok();
    ann.run(["channel", "create", "ops"]).ok();
    ann.run(["send", "ops", "hi"]).ok();
    // A server that is not registered on is only shown.
    let shown = ann.run(["server", "trust", &server.url, "--json"]).json();
    assert_eq!((&shown["fingerprint"], &shown["trusted"]), (&first["fingerprint"], &json!(false)));
}

#[test]
fn two_users_see_one_number_and_a_changed_key_is_told() {
    let server = Server::start();
    let (ann, bea) = (Home::registered(&server.url, "ann"), Home::registered(&server.url, "bea"));
    ann.run(["verify", "bea"]).fails(1, "no user", "conclave who");
    ann.run(["channel", "create", "ops"]).ok();
    ann.run(["acl", "add", "ops", "bea"]).ok();
    let one = ann.run(["verify", "bea", "--json"]).json();
    let other = bea.run(["verify", "ann", "--json"]).json();
    assert_eq!(one["number"], other["number"]);
    assert_eq!(one["number"].as_str().unwrap().len(), 35);
    assert_eq!((&one["machines"][0]["machine"], &one["machines"][0]["key"]), (&json!("m"), &json!("new")));
    let again = ann.run(["verify", "bea", "--json"]).json();
    assert_eq!(again["machines"][0]["key"], "known");
    assert!(again["machines"][0]["since"].is_string());

    // As if the server had told another key before.
    let config = conclave_store::config::ConfigFile::in_dir(&ann.dir).load().unwrap();
    let pin = config.pin(&server.url.parse().unwrap()).unwrap();
    let state = State::open(&ann.dir).unwrap();
    let key = SecretKey::from_seed(&[1; 32]).public();
    state.repin(&pin.server_key, UserId(1), MachineId(1), &key, UnixMillis(0)).unwrap();
    let told = ann.run(["verify", "bea"]).code_is(1);
    assert!(told.out.contains("CHANGED") && told.err.contains("m has another key"), "{told:?}");
    bea.run(["send", "ops", "hi"]).ok();
    let shown = ann.run(["tail", "ops", "--no-follow"]).ok().out;
    assert!(shown.contains("FORGED"), "{shown}");
}

#[test]
fn a_machine_that_is_added_is_told_to_those_who_know_others_of_its_user() {
    let server = Server::start();
    let (ann, bea) = (Home::registered(&server.url, "ann"), Home::registered(&server.url, "bea"));
    ann.run(["channel", "create", "ops"]).ok();
    ann.run(["send", "ops", "from the first"]).ok();
    let first = bea.run(["tail", "ops", "--no-follow"]).ok();
    assert!(!first.err.contains("verify"), "{first:?}");
    let laptop = Home::new();
    let key = laptop.run(["key"]).ok().out;
    ann.run(["machine", "add", "--name", "laptop", "--pubkey", key.trim()]).ok();
    laptop.run(["send", "ops", "from the second", "--server", &server.url]).ok();
    let then = bea.run(["tail", "ops", "--no-follow"]).ok();
    assert!(then.err.contains("ann writes from a machine that was not known"), "{then:?}");
    assert!(then.err.contains("conclave verify ann"), "{then:?}");
    let again = bea.run(["tail", "ops", "--no-follow"]).ok();
    assert!(!again.err.contains("verify"), "{again:?}");
}
