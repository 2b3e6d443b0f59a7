//! Somebody who is not known yet.

use conclave_core::wire::v1::AdminOp;
use conclave_tests::client::{Peer, key, why};

use super::process::{RUNTIMES, Served, serve};

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
