//! Runs the conformance suite: every server, and every server with every client.
//!
//! `cargo test -p conclave-tests --test conformance -- tokio::messages` runs a part of it.

use conclave_tests::conformance::{Smol, Test, Tokio, Version2, link_tests, server_tests};
use libtest_mimic::{Arguments, Trial};

fn main() {
    let mut trials = Vec::new();
    let mut add = |shells: &str, tests: Vec<Test>| {
        for (module, name, run) in tests {
            trials.push(Trial::test(format!("{shells}::{module}::{name}"), move || {
                run();
                Ok(())
            }));
        }
    };
    add("tokio", server_tests::<Tokio>());
    add("smol", server_tests::<Smol>());
    add("tokio-tokio", link_tests::<Tokio, Tokio>());
    add("smol-tokio", link_tests::<Smol, Tokio>());
    add("tokio-smol", link_tests::<Tokio, Smol>());
    add("smol-smol", link_tests::<Smol, Smol>());
    add("tokio-tokio-v2", link_tests::<Tokio, Version2<Tokio>>());
    add("smol-tokio-v2", link_tests::<Smol, Version2<Tokio>>());
    add("tokio-smol-v2", link_tests::<Tokio, Version2<Smol>>());
    add("smol-smol-v2", link_tests::<Smol, Version2<Smol>>());
    let mut arguments = Arguments::from_args();
    // Most of a test is waiting: more at once than there are processors.
    arguments.test_threads.get_or_insert(8);
    libtest_mimic::run(&arguments, trials).exit();
}
