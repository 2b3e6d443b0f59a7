//! The hub against the plain model of its rules, step by step.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../core/tests/reference/mod.rs"]
mod reference;

use reference::{Bench, Model, Operation};

fuzz_target!(|input: &[u8]| {
    let Some((first, mut rest)) = input.split_first() else { return };
    let config = reference::config(first % 2 == 1);
    let (mut model, mut bench) = (Model::new(config.clone()), Bench::new(config));
    let mut steps = Operation::prelude();
    while !rest.is_empty() && steps.len() < 500 {
        steps.push(Operation::read(&mut rest));
    }
    for step in &steps {
        model.step(step);
        if let Err(why) = bench.step(step, &model) {
            panic!("{step:?}: {why}\nin {steps:#?}");
        }
    }
    bench.check_fold().unwrap();
});
