//! Somebody who is not known yet.

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
