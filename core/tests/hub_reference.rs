//! The hub does what a plain model of its rules does, step by step, whatever the steps: with a store that fails,
//! connections that drop, clocks that jump, rates, and a shutdown in between.

#![allow(clippy::unwrap_used, reason = "a test")]

use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

mod reference;

use reference::{Bench, Model, Operation};

struct Rules;

impl ReferenceStateMachine for Rules {
    type State = Model;
    type Transition = Operation;

    fn init_state() -> BoxedStrategy<Model> {
        any::<bool>()
            .prop_map(|rates| {
                let mut model = Model::new(reference::config(rates));
                Operation::prelude().iter().for_each(|step| model.step(step));
                model
            })
            .boxed()
    }

    fn transitions(_: &Model) -> BoxedStrategy<Operation> {
        any::<[u8; 10]>().prop_map(|bytes| Operation::read(&mut &bytes[..])).boxed()
    }

    fn apply(mut model: Model, operation: &Operation) -> Model {
        model.step(operation);
        model
    }
}

struct HubTest;

impl StateMachineTest for HubTest {
    type SystemUnderTest = Bench;
    type Reference = Rules;

    fn init_test(model: &Model) -> Bench {
        let mut bench = Bench::new(model.config.clone());
        let mut model = Model::new(model.config.clone());
        for step in Operation::prelude() {
            model.step(&step);
            bench.step(&step, &model).unwrap();
        }
        bench
    }

    fn apply(mut bench: Bench, model: &Model, operation: Operation) -> Bench {
        if let Err(why) = bench.step(&operation, model) {
            panic!("{operation:?}: {why}");
        }
        bench
    }

    fn teardown(bench: Bench, _: Model) {
        bench.check_fold().unwrap();
    }
}

prop_state_machine! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_hub_keeps_its_rules(sequential 1..250 => HubTest);
}

/// A test that could not fail would pass as well: the steps must reach what the rules are about.
#[test]
fn random_steps_reach_every_kind_of_answer() {
    let mut generator =
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    let mut reached = std::collections::BTreeMap::<String, usize>::new();
    for world in 0..150 {
        let config = reference::config(world % 3 == 0);
        let (mut model, mut bench) = (Model::new(config.clone()), Bench::new(config));
        let mut bytes = vec![0; 2_000];
        generator.fill_bytes(&mut bytes);
        let mut rest = &bytes[..];
        let mut steps = Operation::prelude();
        while !rest.is_empty() {
            steps.push(Operation::read(&mut rest));
        }
        let mut asked = std::collections::BTreeMap::new();
        for step in steps {
            if let Operation::Request { command, .. } = &step {
                let text = format!("{command:?}");
                let kind =
                    text.trim_start_matches("Admin(").split([' ', '(', ')']).next().unwrap().to_owned();
                asked.insert(model.requests(), kind);
            }
            model.step(&step);
            bench.step(&step, &model).unwrap();
            for seen in model.told.values().flatten() {
                let what = match seen {
                    reference::Seen::Reply(request, answer) => {
                        let text = format!("{answer:?}");
                        let text = text.split_inclusive(')').next().unwrap();
                        let outcome = if text.starts_with("Refused") { text } else { "granted" };
                        format!("{} {outcome}", asked[request])
                    }
                    reference::Seen::Closed(why) => format!("closed {why}"),
                    reference::Seen::Post { .. } => "post".into(),
                    reference::Seen::Whisper { .. } => "whisper".into(),
                    reference::Seen::Established(..) => "established".into(),
                };
                *reached.entry(what).or_default() += 1;
            }
        }
    }
    let commands = [
        "AclAdd",
        "AclList",
        "AclRemove",
        "Ban",
        "BanList",
        "CreateChannel",
        "DeleteChannel",
        "InviteCreate",
        "InviteList",
        "InviteRevoke",
        "Join",
        "Kick",
        "ListUsers",
        "MachineAdd",
        "MachineRemove",
        "Post",
        "ReadSince",
        "RenameChannel",
        "SetVisibility",
        "Unban",
        "UserRemove",
        "Whisper",
        "Who",
    ];
    let granted = commands.map(|command| format!("{command} granted"));
    let refused = commands.map(|command| format!("{command} Refused(Unauthorized)"));
    let stored = [
        "AclAdd",
        "Ban",
        "CreateChannel",
        "DeleteChannel",
        "InviteCreate",
        "MachineAdd",
        "Post",
        "UserRemove",
    ];
    let failed = stored.map(|command| format!("{command} Refused(Internal)"));
    let ends = ["refused", "shutdown", "slow_consumer", "superseded", "user_removed", "key_revoked", "idle"];
    let ends = ends.map(|why| format!("closed {why}"));
    let others = ["established", "post", "whisper"].map(String::from);
    for what in granted.iter().chain(&refused).chain(&failed).chain(&ends).chain(&others) {
        assert!(reached.contains_key(what), "'{what}' is never reached, only {reached:#?}");
    }
}
