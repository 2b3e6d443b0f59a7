//! The hub against the plain model of its rules, step by step.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../core/tests/reference/mod.rs"]
mod reference;

use reference::{Bench, Operation};

fuzz_target!(|input: &[u8]| {
    let Some((first, mut rest)) = input.split_first() else { return };
    let mut bench = Bench::new(reference::config(first % 2 == 1));
    let mut steps = Operation::prelude();
    while !rest.is_empty() && steps.len() < 500 {
        steps.push(Operation::read(&mut rest));
    }
    for step in &steps {
        if let Err(why) = bench.step(step) {
            panic!("{step:?}: {why}\nin {steps:#?}");
        }
    }
    bench.check_fold().unwrap();
});
