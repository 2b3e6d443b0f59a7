//! The hub under arbitrary requests of both versions, with a store that fails, is ahead, or knows a post already, queues
//! that are full, and restarts. The simulation's referee judges every action by a model of its own.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "shared with the simulation")]
#[path = "../../tests/src/chance.rs"]
mod chance;
mod sim;

fuzz_target!(|input: &[u8]| {
    if let Err(what) = sim::run(input) {
        panic!("{what}");
    }
});
