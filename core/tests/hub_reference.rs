//! The hub does what a plain model of its rules does, step by step, whatever the steps: with a store that fails,
//! connections that drop, clocks that jump, rates, and a shutdown in between.

#![allow(clippy::unwrap_used, reason = "a test")]

use conclave_core::name::{ChannelName, MachineName, UserName};
use conclave_core::payload::Payload;
use conclave_core::protocol::{Admin, Command, Token, Visibility};
use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

mod reference;

use reference::{Answer, Bench, Operation, key};

/// The steps of a world; `rates` says whether it has rates.
#[derive(Clone, Debug)]
struct Steps {
    rates: bool,
}

impl ReferenceStateMachine for Steps {
    type State = Steps;
    type Transition = Operation;

    fn init_state() -> BoxedStrategy<Steps> {
        any::<bool>().prop_map(|rates| Steps { rates }).boxed()
    }

    fn transitions(_: &Steps) -> BoxedStrategy<Operation> {
        any::<[u8; 10]>().prop_map(|bytes| Operation::read(&mut &bytes[..])).boxed()
    }

    fn apply(steps: Steps, _: &Operation) -> Steps {
        steps
    }
}

struct HubTest;

impl StateMachineTest for HubTest {
    type SystemUnderTest = Bench;
    type Reference = Steps;

    fn init_test(steps: &Steps) -> Bench {
        let mut bench = Bench::new(reference::config(steps.rates));
        for step in Operation::prelude() {
            bench.step(&step).unwrap();
        }
        bench
    }

    fn apply(mut bench: Bench, _: &Steps, operation: Operation) -> Bench {
        if let Err(why) = bench.step(&operation) {
            panic!("{operation:?}: {why}");
        }
        bench
    }

    fn teardown(bench: Bench, _: Steps) {
        bench.check_fold().unwrap();
    }
}

prop_state_machine! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_hub_keeps_its_rules(sequential 1..250 => HubTest);
}

/// Random steps seldom meet each of these.
#[test]
fn a_change_joins_one_that_it_does_not_concern_and_waits_for_one_that_it_does() {
    let channel = |name: &str| ChannelName::new(name).unwrap();
    let user = |name: &str| UserName::new(name).unwrap();
    let text = || Payload::Plain("hi".into());
    let create = |name: &str| {
        Command::Admin(Admin::CreateChannel { name: channel(name), visibility: Visibility::Private })
    };
    let invite = || Command::Admin(Admin::InviteCreate { channel: channel("x"), uses: None, lifetime: None });
    let join = |token: Option<&str>| Command::Join { channel: channel("x"), token: token.map(Token::new) };
    // Sessions stand in the order of their paths.
    let (ann, bob, root) = (0, 1, 2);
    let admin = |admin| (ann, Command::Admin(admin));
    let stored = [
        (bob, join(Some("t000"))),
        (ann, Command::Post { channel: channel("x"), payload: text() }),
        (ann, create("y")),
        (ann, invite()),
        admin(Admin::InviteRevoke { token: Token::new("t000") }),
        admin(Admin::RenameChannel { name: channel("x"), new_name: channel("y") }),
        admin(Admin::SetVisibility { name: channel("x"), visibility: Visibility::Public }),
        admin(Admin::DeleteChannel { name: channel("x") }),
        admin(Admin::AclAdd { channel: channel("x"), user: user("bob") }),
        admin(Admin::Ban { channel: channel("x"), user: user("bob") }),
        admin(Admin::MachineAdd { name: MachineName::new("n").unwrap(), key: key(1, 1) }),
        (root, Command::Admin(Admin::UserRemove { user: user("bob") })),
    ];
    for (session, command) in stored {
        let ask = |session, command| Operation::Request { session, command };
        let commit = [Operation::RoundEnded, Operation::Persisted];
        let mut steps = Operation::prelude();
        for command in [create("x"), invite(), join(None)] {
            steps.push(ask(ann, command));
            steps.extend(commit.clone());
        }
        let asked = ask(session, command.clone());
        let is_post = matches!(command, Command::Post { .. });
        // Root's own changes wait for root's; to everyone else, the first is none of their business.
        for (first, waits) in [
            (ask(root, create("z")), session == root),
            (ask(root, Command::Admin(Admin::UserRemove { user: user("ann") })), true),
        ] {
            let mut bench = Bench::new(reference::config(false));
            steps.iter().for_each(|step| bench.step(step).unwrap());
            bench.step(&first).unwrap();
            bench.step(&asked).unwrap();
            assert_eq!(bench.model.waited == 1, waits, "{asked:?} behind {first:?}");
            assert_eq!(bench.model.joined == 1, !waits && !is_post, "{asked:?} behind {first:?}");
            for step in commit.iter().cycle().take(4) {
                bench.step(step).unwrap_or_else(|why| panic!("{asked:?}: {why}"));
            }
            assert!(!bench.model.has_batch(), "{asked:?}");
        }
    }
}

/// A test that could not fail would pass as well: the steps must reach what the rules are about.
#[test]
fn random_steps_reach_every_kind_of_answer() {
    let mut generator =
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    let mut reached = std::collections::BTreeMap::<String, usize>::new();
    for world in 0..150 {
        let mut bench = Bench::new(reference::config(world % 3 == 0));
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
                asked.insert(bench.model.requests(), kind);
            }
            bench.step(&step).unwrap();
            for seen in bench.model.told.values().flatten() {
                let what = match seen {
                    reference::Seen::Reply(request, answer) => {
                        let outcome = match answer {
                            Answer::Refused(refusal) => refusal.kind(),
                            _ => "granted",
                        };
                        format!("{} {outcome}", asked[request])
                    }
                    reference::Seen::Refused(_) => "closed refused".into(),
                    reference::Seen::Closed(why) => format!("closed {why}"),
                    reference::Seen::Post { .. } => "post".into(),
                    reference::Seen::Whisper { .. } => "whisper".into(),
                    reference::Seen::Established(..) => "established".into(),
                };
                *reached.entry(what).or_default() += 1;
            }
        }
        *reached.entry("joined another change".into()).or_default() += bench.model.joined;
        *reached.entry("waited for a change".into()).or_default() += bench.model.waited;
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
    let refused = commands.map(|command| format!("{command} unauthorized"));
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
    let failed = stored.map(|command| format!("{command} internal"));
    let ends = ["refused", "shutdown", "slow_consumer", "superseded", "user_removed", "key_revoked", "idle"];
    let ends = ends.map(|why| format!("closed {why}"));
    let others =
        ["established", "post", "whisper", "joined another change", "waited for a change"].map(String::from);
    for what in granted.iter().chain(&refused).chain(&failed).chain(&ends).chain(&others) {
        assert!(
            reached.get(what).is_some_and(|times| *times > 0),
            "'{what}' is never reached, only {reached:#?}"
        );
    }
}
