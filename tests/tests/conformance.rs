//! Runs the conformance suite: every server, and every server with every client.
//!
//! `cargo test -p conclave-tests --test conformance -- tokio::messages` runs a part of it.

use conclave_tests::conformance::{Smol, Test, Tokio, link_tests, server_tests};
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
    let mut arguments = Arguments::from_args();
    // Most of a test is waiting: more at once than there are processors.
    arguments.test_threads.get_or_insert(8);
    libtest_mimic::run(&arguments, trials).exit();
}
