//! The host against a disk that survives it: examples, and any order of messages, ends, drops and crashes.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::level::{Level, Scope};
use crate::link::Proof;
use crate::name::{ChannelName, SessionPath, UserName};
use crate::record::ChannelId;
use crate::time::{Monotonic, Now, UnixMillis};

const AGENT: AgentId = AgentId(0);

fn agent(level: Level, budget: Budget) -> Agent {
    let users = BTreeSet::from([UserName::new("bea").unwrap()]);
    let wake = Wake { users, anyone_may_mention: true, mentions_only: true };
    Agent { level, lowered: BTreeMap::new(), wake, budget }
}

fn job(seq: u64) -> Job {
    Job { agent: AGENT, stream: ChannelId(1), seq }
}

/// A message on #ops of a user that addresses the agent.
fn message(user: &str, seq: u64) -> Message {
    Message {
        job: job(seq),
        channel: Some(ChannelName::new("ops").unwrap()),
        from: SessionPath::new(user, "m", "s").unwrap(),
        own_user: user == "aaron",
        proof: Proof::Verified,
        addressed: true,
        chain: Chain::default(),
    }
}

/// A host, and what it has on disk.
struct Driven {
    agent: Agent,
    host: Host,
    now: u64,
    jobs: BTreeMap<Job, Kept>,
    runs: Vec<UnixMillis>,
    told: BTreeSet<UserName>,
    paused: bool,
    /// What runs, as the shell knows it.
    running: BTreeSet<Job>,
    // What happened.
    starts: Vec<(Job, u32, u64)>,
    over: Vec<(Job, Phase)>,
    said: Vec<(UserName, Hold)>,
    posts: Vec<Job>,
    left: Vec<Job>,
}

impl Driven {
    fn new(agent: Agent) -> Self {
        let mut driven = Self {
            host: Host::new(vec![agent.clone()]),
            agent,
            now: 1,
            jobs: BTreeMap::new(),
            runs: Vec::new(),
            told: BTreeSet::new(),
            paused: false,
            running: BTreeSet::new(),
            starts: Vec::new(),
            over: Vec::new(),
            said: Vec::new(),
            posts: Vec::new(),
            left: Vec::new(),
        };
        driven.up(true);
        driven
    }

    fn now(&self) -> Now {
        Now { mono: Monotonic(self.now), wall: UnixMillis(self.now.cast_signed()) }
    }

    fn handle(&mut self, input: Input) {
        let mut actions = Vec::new();
        self.host.handle(self.now(), input, &mut actions);
        for action in actions {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Keep(message) => {
                let kept = Kept { message, phase: Phase::Waiting, attempts: 0 };
                assert_eq!(self.jobs.insert(kept.message.job, kept), None, "kept twice");
            }
            Action::Leave(job) => self.left.push(job),
            Action::Start(given) => {
                let kept = self.jobs.get_mut(&given.job).unwrap();
                assert_eq!((kept.phase, given.attempt), (kept.phase.min(Phase::Running), kept.attempts + 1));
                (kept.phase, kept.attempts) = (Phase::Running, given.attempt);
                self.runs.push(UnixMillis(self.now.cast_signed()));
                self.starts.push((given.job, given.attempt, self.now));
                assert!(self.running.insert(given.job), "two runs for one message");
                assert!(self.running.len() <= self.agent.budget.at_once);
            }
            Action::Kill(job) => assert!(self.running.contains(&job)),
            Action::Answer(job) => {
                assert_eq!(self.jobs[&job].phase, Phase::Answered);
                self.posts.push(job);
            }
            Action::Fail(job, _) => self.jobs.get_mut(&job).unwrap().phase = Phase::Failed,
            Action::SayFailed(job, _) => assert_eq!(self.jobs[&job].phase, Phase::Failed),
            Action::SayHeld { message, why } => {
                assert!(self.told.insert(message.from.user.clone()), "told twice");
                self.said.push((message.from.user, why));
            }
            Action::ForgetTold(_) => self.told.clear(),
            Action::Acknowledge(job) => self.jobs.get_mut(&job).unwrap().phase = Phase::Posted,
            Action::Forget(job) => {
                let kept = self.jobs.remove(&job).unwrap();
                self.over.push((job, kept.phase));
            }
            Action::KeepPaused(_, paused) => self.paused = paused,
        }
    }

    fn up(&mut self, up: bool) {
        self.handle(Input::Link(AGENT, up));
    }

    /// A run ends; what it leaves is on disk first.
    fn end(&mut self, job: Job, outcome: Outcome) {
        if !self.running.remove(&job) {
            return;
        }
        if let Outcome::Ok(answers) = outcome {
            self.jobs.get_mut(&job).unwrap().phase = if answers { Phase::Answered } else { Phase::Posted };
        }
        self.handle(Input::Ended { job, outcome });
    }

    /// The host is killed and starts again.
    fn crash(&mut self) {
        self.running.clear();
        self.host = Host::new(vec![self.agent.clone()]);
        let (jobs, runs) = (self.jobs.values().cloned().collect(), self.runs.clone());
        let told = self.told.iter().cloned().collect();
        self.handle(Input::Restore { agent: AGENT, jobs, runs, told, paused: self.paused });
    }

    fn started(&self) -> Vec<(u64, u32)> {
        self.starts.iter().map(|(job, attempt, _)| (job.seq, *attempt)).collect()
    }
}

#[test]
fn a_message_wakes_once_and_is_acknowledged_once_its_answer_is_posted() {
    let mut driven = Driven::new(agent(Level::Converse, Budget::default()));
    driven.handle(Input::Message(message("carol", 7)));
    driven.handle(Input::Message(message("carol", 7)));
    assert_eq!(driven.started(), [(7, 1)]);
    driven.end(job(7), Outcome::Ok(true));
    assert_eq!((driven.posts.clone(), driven.over.len()), (vec![job(7)], 0));
    driven.handle(Input::Posted(job(7)));
    driven.handle(Input::Acknowledged(job(7)));
    assert_eq!(driven.over, [(job(7), Phase::Posted)]);
}

#[test]
fn only_verified_messages_of_those_who_may_wake() {
    let wakes = |change: &dyn Fn(&mut Agent, &mut Message)| {
        let (mut agent, mut message) = (agent(Level::Converse, Budget::default()), message("carol", 1));
        change(&mut agent, &mut message);
        let mut driven = Driven::new(agent);
        driven.handle(Input::Message(message));
        !driven.starts.is_empty()
    };
    assert!(wakes(&|_, _| {}));
    for proof in [Proof::Forged, Proof::Unsigned, Proof::Unchecked] {
        assert!(!wakes(&|_, message| message.proof = proof), "{proof:?}");
        assert!(!wakes(&|_, message| (message.proof, message.own_user) = (proof, true)), "{proof:?}");
    }
    assert!(!wakes(&|_, message| message.addressed = false));
    assert!(!wakes(&|agent, _| agent.wake.anyone_may_mention = false));
    assert!(wakes(&|agent, message| {
        agent.wake.anyone_may_mention = false;
        *message = super::tests::message("bea", 1);
    }));
    assert!(wakes(&|agent, message| {
        agent.wake.mentions_only = false;
        (*message, message.addressed) = (super::tests::message("bea", 1), false);
    }));
    assert!(!wakes(&|agent, message| (agent.wake.mentions_only, message.addressed) = (false, false)));
    assert!(!wakes(&|_, message| message.channel = None), "a whisper of a stranger, though it mentions");
    assert!(wakes(&|_, message| (message.channel, message.own_user) = (None, true)));
    assert!(wakes(&|agent, _| agent.level = Level::Notify));
    assert!(!wakes(&|agent, _| agent.level = Level::Mute));
    let ops = Scope::Channel(ChannelName::new("ops").unwrap());
    assert!(!wakes(&|agent, _| _ = agent.lowered.insert(ops.clone(), Level::Mute)));
}

#[test]
fn what_the_human_configured_elsewhere_only_lowers() {
    let mut agent = agent(Level::Converse, Budget::default());
    let ops = ChannelName::new("ops").unwrap();
    agent.lowered.insert(Scope::Channel(ops.clone()), Level::Act);
    assert_eq!(agent.level_in(Some(&ops)), Level::Converse);
    agent.lowered.insert(Scope::Whispers, Level::Notify);
    assert_eq!(agent.level_in(None), Level::Notify);
}

#[test]
fn a_flood_gives_what_the_budget_has_and_each_sender_is_told_once() {
    let budget = Budget { per_hour: 10, queue: 50, ..Budget::default() };
    let mut driven = Driven::new(agent(Level::Converse, budget));
    for seq in 1..=1000 {
        driven.now += 60;
        driven.handle(Input::Message(message(if seq % 2 == 0 { "bea" } else { "carol" }, seq)));
        for job in driven.running.clone() {
            driven.end(job, Outcome::Ok(false));
            driven.handle(Input::Acknowledged(job));
        }
    }
    assert_eq!(driven.starts.len(), 10);
    assert_eq!(driven.said.len(), 2, "{:?}", driven.said);
    assert_eq!((driven.jobs.len(), driven.left.len()), (50, 940));
    // The window moves on, and what waited goes on.
    driven.now += 3_600_000;
    driven.handle(Input::Tick);
    assert_eq!(driven.starts.len(), 11);
    // A restart refills nothing.
    let mut again = Driven::new(agent(Level::Converse, budget));
    (again.now, again.runs) = (driven.now, driven.runs.clone());
    again.crash();
    assert_eq!(again.host.overview(again.now(), AGENT).unwrap().left, 9);
}

#[test]
fn a_run_that_takes_too_long_is_killed_and_its_sender_told() {
    let budget = Budget { run: Duration::from_secs(60), ..Budget::default() };
    let mut driven = Driven::new(agent(Level::Converse, budget));
    driven.handle(Input::Message(message("carol", 1)));
    assert_eq!(driven.host.next_deadline(driven.now()), Some(Monotonic(60_001)));
    let mut actions = Vec::new();
    driven.now = 60_001;
    driven.host.handle(driven.now(), Input::Tick, &mut actions);
    assert_eq!(actions, [Action::Kill(job(1))]);
    actions.clear();
    // Whatever it manages to say while it dies.
    driven.host.handle(driven.now(), Input::Ended { job: job(1), outcome: Outcome::Ok(true) }, &mut actions);
    let failed = [Action::Fail(job(1), Outcome::TimedOut), Action::SayFailed(job(1), Outcome::TimedOut)];
    assert_eq!(actions, failed);
}

#[test]
fn a_killed_host_wakes_again_with_the_next_attempt_and_not_for_ever() {
    let mut driven = Driven::new(agent(Level::Converse, Budget::default()));
    driven.handle(Input::Message(message("carol", 1)));
    for _ in 0..4 {
        driven.crash();
        driven.up(true);
    }
    assert_eq!(driven.started(), [(1, 1), (1, 2), (1, 3)]);
    assert_eq!(driven.jobs[&job(1)].phase, Phase::Failed);
    driven.handle(Input::Posted(job(1)));
    assert_eq!(driven.over, [(job(1), Phase::Failed)]);
}

#[test]
fn agents_that_answer_each_other_stop_after_what_the_stricter_human_allowed() {
    let mut driven = Driven::new(agent(Level::Converse, Budget { answers: 4, ..Budget::default() }));
    let heard = |hops, most, seq| {
        let chain = Chain { hops, most };
        Message { chain, ..message("carol", seq) }
    };
    driven.handle(Input::Message(heard(3, None, 1)));
    driven.handle(Input::Message(heard(4, None, 2)));
    driven.handle(Input::Message(heard(1, Some(1), 3)));
    driven.handle(Input::Message(heard(u32::MAX, Some(u32::MAX), 4)));
    assert_eq!(driven.started(), [(1, 1)]);
    assert_eq!(driven.said, [(UserName::new("carol").unwrap(), Hold::Chain)], "once");
}

#[test]
fn a_paused_agent_keeps_what_comes_and_goes_on_after_a_restart() {
    let mut driven = Driven::new(agent(Level::Converse, Budget::default()));
    driven.handle(Input::Pause(AGENT, true));
    driven.handle(Input::Message(message("carol", 1)));
    driven.crash();
    driven.up(true);
    assert_eq!(driven.started(), []);
    driven.handle(Input::Pause(AGENT, false));
    assert_eq!(driven.started(), [(1, 1)]);
}

#[test]
fn runs_of_one_conversation_follow_each_other() {
    let mut driven = Driven::new(agent(Level::Converse, Budget { at_once: 3, ..Budget::default() }));
    let in_stream = |stream, seq| {
        let mut message = message("carol", seq);
        message.job.stream = ChannelId(stream);
        message
    };
    for (stream, seq) in [(1, 1), (1, 2), (2, 3)] {
        driven.handle(Input::Message(in_stream(stream, seq)));
    }
    assert_eq!(driven.started(), [(1, 1), (3, 1)]);
    driven.end(job(1), Outcome::Ok(false));
    assert_eq!(driven.started(), [(1, 1), (3, 1), (2, 1)]);
}

#[test]
fn an_answer_has_one_id_for_all_attempts_and_no_other_has_it() {
    let server = crate::key::SecretKey::from_seed(&[1; 32]).public();
    let id = |agent, stream, seq, what| {
        reply_id(agent, &server, (ChannelId(stream), seq), UnixMillis(1_000), what)
    };
    let all = [
        ("a", 1, 1, "x"),
        ("b", 1, 1, "x"),
        ("a", 2, 1, "x"),
        ("a", 1, 2, "x"),
        ("a", 1, 1, "y"),
        ("ax", 1, 1, ""),
    ];
    let ids: BTreeSet<_> = all.iter().map(|(a, s, q, w)| id(a, *s, *q, w)).collect();
    assert_eq!(ids.len(), all.len());
    assert_eq!(id("a", 1, 1, "x"), id("a", 1, 1, "x"));
}

#[derive(Clone, Debug)]
enum Step {
    Message { user: usize, seq: u64, proof: bool, hops: u32 },
    End(usize, Outcome),
    Posted(usize),
    Acknowledged(usize),
    Link(bool),
    Pause(bool),
    Crash,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![
        Just(Outcome::Ok(true)),
        Just(Outcome::Ok(false)),
        Just(Outcome::Failed),
        Just(Outcome::TooLarge),
    ];
    prop_oneof![
        6 => (0..3_usize, 1..40_u64, prop::bool::weighted(0.9), 0..10_u32)
            .prop_map(|(user, seq, proof, hops)| Step::Message { user, seq, proof, hops }),
        4 => (0..4_usize, outcome).prop_map(|(nth, outcome)| Step::End(nth, outcome)),
        3 => (0..4_usize).prop_map(Step::Posted),
        3 => (0..4_usize).prop_map(Step::Acknowledged),
        1 => any::<bool>().prop_map(Step::Link),
        1 => any::<bool>().prop_map(Step::Pause),
        1 => Just(Step::Crash),
        2 => (0..2_000_000_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_budgets_hold_and_each_message_ends_once(
        all in proptest::collection::vec(steps(), 0..120),
    ) {
        let budget = Budget { at_once: 2, per_hour: 5, queue: 6, ..Budget::default() };
        let mut driven = Driven::new(agent(Level::Converse, budget));
        // A server sends each number once, and a link hands it on once.
        let mut sent = BTreeSet::new();
        for step in all {
            match step {
                Step::Message { user, seq, proof, hops } => {
                    if sent.insert(seq) {
                        let mut message = message(["aaron", "bea", "carol"][user], seq);
                        message.chain.hops = hops;
                        if !proof {
                            message.proof = Proof::Forged;
                        }
                        driven.handle(Input::Message(message));
                    }
                }
                Step::End(nth, outcome) => {
                    if let Some(job) = driven.running.iter().nth(nth).copied() {
                        driven.end(job, outcome);
                    }
                }
                Step::Posted(nth) => {
                    if let Some(job) = driven.jobs.keys().nth(nth).copied() {
                        driven.handle(Input::Posted(job));
                    }
                }
                Step::Acknowledged(nth) => {
                    let posted = driven.jobs.values().filter(|kept| kept.phase == Phase::Posted);
                    if let Some(job) = posted.map(|kept| kept.message.job).nth(nth) {
                        driven.handle(Input::Acknowledged(job));
                    }
                }
                Step::Link(up) => driven.up(up),
                Step::Pause(paused) => driven.handle(Input::Pause(AGENT, paused)),
                Step::Crash => driven.crash(),
                Step::Wait(millis) => {
                    driven.now += millis;
                    driven.handle(Input::Tick);
                }
            }
            let overview = driven.host.overview(driven.now(), AGENT).unwrap();
            prop_assert!(overview.running == driven.running.len());
            // What a crash gives back may stand before what waits.
            prop_assert!(overview.waiting <= budget.queue + budget.at_once);
        }
        for (nth, (_, _, at)) in driven.starts.iter().enumerate() {
            let within = driven.starts[..nth].iter().filter(|(_, _, before)| at - before < 3_600_000);
            prop_assert!(within.count() < budget.per_hour, "{:?}", driven.starts);
        }
        // All that was kept comes to its end.
        driven.handle(Input::Pause(AGENT, false));
        driven.up(true);
        let mut rounds = 0;
        while !driven.jobs.is_empty() {
            rounds += 1;
            prop_assert!(rounds < 1_000, "{:?}", driven.jobs);
            driven.now += 3_600_000;
            driven.handle(Input::Tick);
            for job in driven.running.clone() {
                driven.end(job, Outcome::Ok(true));
            }
            for job in driven.jobs.keys().copied().collect::<Vec<_>>() {
                driven.handle(Input::Posted(job));
                if driven.jobs.get(&job).is_some_and(|kept| kept.phase == Phase::Posted) {
                    driven.handle(Input::Acknowledged(job));
                }
            }
        }
        let over: BTreeSet<_> = driven.over.iter().map(|(job, _)| *job).collect();
        prop_assert_eq!(over.len(), driven.over.len(), "a message ended twice");
        for (job, attempt, _) in &driven.starts {
            prop_assert!(*attempt <= budget.attempts, "{}", format!("{job:?}"));
        }
    }
}
