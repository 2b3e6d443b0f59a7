//! An agent that does not run: the real host starts it for each message, and what it says is posted as the answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use conclave_core::body;
use conclave_core::host::{
    Action, Agent, AgentId, Budget, Chain, Given, Host, Input, Job, Kept, Message, Outcome, Phase, Wake,
    failure_notice, hold_notice, reply_id,
};
use conclave_core::key::{PublicKey, SecretKey};
use conclave_core::level::Level;
use conclave_core::link::{self, Proof, RequestError, RequestId};
use conclave_core::name::{ChannelName, Handle, UserName};
use conclave_core::opaque::Opaque;
use conclave_core::payload::Payload;
use conclave_core::protocol::{Code, Command, Reply, Stamped};
use conclave_core::stream::{Signed, StreamCommand, StreamRef};
use conclave_core::time::{Now, UnixMillis};
use conclave_core::wire::v2::signature;

use super::super::super::plan::MILLI;
use super::super::super::world::World;
use super::super::acts::USERS;
use super::{DEN, DEN_ID, Wish, stamped};
use crate::chance::Chance;

const ME: AgentId = AgentId(0);
/// What an agent says.
pub(super) const ANSWER: &str = "thank you";

/// See the module.
#[derive(Debug)]
pub(super) struct Asleep {
    pub(super) budget: Budget,
    name: Handle,
    key: &'static SecretKey,
    disk: Disk,
    host: Host,
    restored: bool,
    /// Runs under way: when each ends.
    running: BTreeMap<Job, u64>,
    /// What is to be said, and under which request it is being said.
    saying: BTreeMap<Say, Option<RequestId>>,
    asked: u64,
}

/// What outlives a crash.
#[derive(Debug, Default)]
struct Disk {
    arrived: VecDeque<(Stamped, Proof)>,
    jobs: BTreeMap<Job, (Kept, Stamped)>,
    runs: Vec<UnixMillis>,
    told: BTreeSet<UserName>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Say {
    Answer(Job),
    Acknowledge(Job),
    Failed(Job, Outcome),
    Held(Job, UnixMillis, (u32, Option<u32>), String),
}

impl Asleep {
    pub(super) fn new(name: &Handle, key: &'static SecretKey, chance: &mut Chance) -> Self {
        let budget = Budget {
            at_once: 1 + chance.index(2),
            per_hour: 1 + chance.index(12),
            answers: 1 + chance.below(6) as u32,
            queue: 1 + chance.index(20),
            run: Duration::from_secs(1 + chance.below(5)),
            attempts: 1 + chance.below(3) as u32,
        };
        let host = host(budget);
        let (name, disk) = (name.clone(), Disk::default());
        let (running, saying) = (BTreeMap::new(), BTreeMap::new());
        Self { budget, name, key, disk, host, restored: false, running, saying, asked: 0 }
    }

    pub(super) fn crash(&mut self) {
        self.host = host(self.budget);
        self.restored = false;
        self.running.clear();
        self.saying.clear();
    }

    /// Whether it wrote no more than its human allows: an answer or a notice of failure for each run, and for each sender one
    /// notice that it does not run, until it runs again.
    pub(super) fn is_within(&self, answers: usize, all: usize) -> bool {
        let runs = self.budget.per_hour;
        answers <= runs && all <= runs + (runs + 1) * USERS.len()
    }

    pub(super) fn told(&mut self, now: Now, action: link::Action) {
        self.disk.arrived.extend(stamped(&action));
        match action {
            link::Action::Up { .. } => {
                if !std::mem::replace(&mut self.restored, true) {
                    let input = self.kept();
                    self.handle(now, input);
                }
                self.handle(now, Input::Link(ME, true));
            }
            link::Action::Down(_) | link::Action::Refused(_) => self.handle(now, Input::Link(ME, false)),
            link::Action::Replied { id, result } => self.replied(now, id, &result),
            _ => {}
        }
    }

    fn kept(&self) -> Input {
        let jobs = self.disk.jobs.values().map(|(kept, _)| kept.clone()).collect();
        let (runs, told) = (self.disk.runs.clone(), self.disk.told.iter().cloned().collect());
        Input::Restore { agent: ME, jobs, runs, told, paused: false }
    }

    fn replied(&mut self, now: Now, id: RequestId, result: &Result<Reply, RequestError>) {
        let Some(said) = self.saying.iter().find(|(_, by)| **by == Some(id)).map(|(said, _)| said.clone())
        else {
            return;
        };
        let passes = match result {
            Ok(Reply::Refused(why)) => {
                matches!(why.code(), Code::RateLimited | Code::Unavailable | Code::Internal)
            }
            Ok(_) => false,
            Err(_) => true,
        };
        if passes {
            self.saying.insert(said, None);
            return;
        }
        self.saying.remove(&said);
        match said {
            Say::Answer(job) | Say::Failed(job, _) => self.handle(now, Input::Posted(job)),
            Say::Acknowledge(job) => self.handle(now, Input::Acknowledged(job)),
            Say::Held(..) => {}
        }
    }

    pub(super) fn act(
        &mut self,
        now: Now,
        chance: &mut Chance,
        up: bool,
        wishes: &mut Vec<Wish>,
        world: &mut World,
    ) {
        if !self.restored {
            return;
        }
        let ended: Vec<_> =
            self.running.iter().filter(|(_, ends)| **ends <= world.at).map(|(job, _)| *job).collect();
        for job in ended {
            self.running.remove(&job);
            let outcome = if chance.one_in(6) { Outcome::Failed } else { Outcome::Ok(true) };
            if let (Some((kept, _)), Outcome::Ok(_)) = (self.disk.jobs.get_mut(&job), outcome) {
                kept.phase = Phase::Answered;
            }
            self.handle(now, Input::Ended { job, outcome });
        }
        if let Some((message, proof)) = self.disk.arrived.pop_front() {
            self.arrived(now, message, proof);
        }
        self.handle(now, Input::Tick);
        // Some runs take longer than they may, and are killed.
        for (job, ends) in self.running.iter_mut().filter(|(_, ends)| **ends == u64::MAX) {
            *ends = world.at + chance.below(3_000) * MILLI;
            world.coverage.wakes += 1;
            world.trace(format_args!("{} runs for {job:?}", self.name));
        }
        if up {
            self.speak(&world.identity.key.public(), wishes);
        }
    }

    fn arrived(&mut self, now: Now, message: Stamped, proof: Proof) {
        let chain = chain(&message.payload);
        let input = Message {
            job: Job { agent: ME, stream: DEN_ID, seq: message.seq },
            channel: ChannelName::new(DEN).ok(),
            from: message.from.clone(),
            own_user: false,
            proof,
            addressed: false,
            chain,
        };
        let mut actions = Vec::new();
        self.host.handle(now, Input::Message(input), &mut actions);
        self.carry_out(now, actions, Some(&message));
    }

    fn handle(&mut self, now: Now, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut actions = Vec::new();
            self.host.handle(now, input, &mut actions);
            let killed = actions.iter().filter_map(|action| match action {
                Action::Kill(job) => Some(Input::Ended { job: *job, outcome: Outcome::Failed }),
                _ => None,
            });
            inputs.extend(killed);
            self.carry_out(now, actions, None);
        }
    }

    fn carry_out(&mut self, now: Now, actions: Vec<Action>, arriving: Option<&Stamped>) {
        for action in actions {
            match action {
                Action::Keep(message) => {
                    let Some(arriving) = arriving else { continue };
                    let job = message.job;
                    let kept = Kept { message, phase: Phase::Waiting, attempts: 0 };
                    self.disk.jobs.insert(job, (kept, arriving.clone()));
                }
                Action::Start(Given { job, attempt, .. }) => {
                    self.disk.runs.push(now.wall);
                    if let Some((kept, _)) = self.disk.jobs.get_mut(&job) {
                        (kept.phase, kept.attempts) = (Phase::Running, attempt);
                    }
                    self.running.insert(job, u64::MAX);
                }
                Action::Kill(job) => drop(self.running.remove(&job)),
                Action::Answer(job) => self.say(Say::Answer(job)),
                Action::Fail(job, _) => self.keep_phase(job, Phase::Failed),
                Action::SayFailed(job, outcome) => self.say(Say::Failed(job, outcome)),
                Action::SayHeld { message, why } => {
                    self.disk.told.insert(message.from.user.clone());
                    if let Some(arriving) = arriving {
                        let text = hold_notice(self.name.as_str(), why);
                        let Chain { hops, most } = message.chain;
                        self.say(Say::Held(message.job, arriving.ts, (hops, most), text));
                    }
                }
                Action::ForgetTold(_) => self.disk.told.clear(),
                Action::Acknowledge(job) => {
                    self.keep_phase(job, Phase::Posted);
                    self.say(Say::Acknowledge(job));
                }
                Action::Forget(job) => drop(self.disk.jobs.remove(&job)),
                Action::Leave(_) | Action::KeepPaused(..) => {}
            }
        }
    }

    fn keep_phase(&mut self, job: Job, phase: Phase) {
        if let Some((kept, _)) = self.disk.jobs.get_mut(&job) {
            kept.phase = phase;
        }
    }

    fn say(&mut self, what: Say) {
        self.saying.entry(what).or_default();
    }

    fn speak(&mut self, server: &PublicKey, wishes: &mut Vec<Wish>) {
        let waiting: Vec<_> =
            self.saying.iter().filter(|(_, by)| by.is_none()).map(|(it, _)| it.clone()).collect();
        for said in waiting {
            let command = match &said {
                Say::Acknowledge(job) => StreamCommand::Acknowledge {
                    stream: StreamRef::Number(job.stream),
                    seq: job.seq,
                    word: Opaque(String::new()),
                },
                Say::Answer(job) => match self.post(server, *job, "answer", ANSWER) {
                    Some(post) => post,
                    None => continue,
                },
                Say::Failed(job, outcome) => {
                    let text = failure_notice(self.name.as_str(), *outcome);
                    match self.post(server, *job, "failed", &text) {
                        Some(post) => post,
                        None => continue,
                    }
                }
                Say::Held(job, at, (hops, most), text) => {
                    let chain = Chain { hops: *hops, most: *most };
                    self.write(server, (*job, *at, chain), "held", text)
                }
            };
            self.asked += 1;
            let id = RequestId(self.asked);
            self.saying.insert(said, Some(id));
            wishes.push(Wish::Ask(id, Command::Stream(command)));
        }
    }

    fn post(&self, server: &PublicKey, job: Job, what: &str, text: &str) -> Option<StreamCommand> {
        let (_, message) = self.disk.jobs.get(&job)?;
        Some(self.write(server, (job, message.ts, chain(&message.payload)), what, text))
    }

    fn write(
        &self,
        server: &PublicKey,
        (job, at, chain): (Job, UnixMillis, Chain),
        what: &str,
        text: &str,
    ) -> StreamCommand {
        let own = self.budget.answers;
        let budget = chain.most.map_or(own, |most| most.min(own));
        let hops = chain.hops.saturating_add(1);
        let context = body::Context { reply_to: Some(job.seq), hops, budget, ..body::Context::default() };
        let body = body::of_content(text, &context);
        let id = reply_id(self.name.as_str(), server, (job.stream, job.seq), at, what);
        let signature = Opaque(self.key.sign(&signature::to_sign(server, job.stream, &id, &body)));
        let signed = Signed { id, signature, acknowledge: false }.into();
        let stream = StreamRef::Number(job.stream);
        StreamCommand::Post { stream, payload: Payload::Body(body), signed, lifetime: None }
    }
}

/// What led to a message, as its sender said.
fn chain(payload: &Payload) -> Chain {
    let Payload::Body(body) = payload else { return Chain::default() };
    let said = body::context(body);
    Chain { hops: said.hops, most: Some(said.budget).filter(|budget| *budget != 0) }
}

fn host(budget: Budget) -> Host {
    let users = USERS.iter().filter_map(|name| UserName::new(name).ok()).collect();
    let wake = Wake { users, anyone_may_mention: true, mentions_only: false };
    Host::new(vec![Agent { level: Level::Converse, lowered: BTreeMap::new(), wake, budget }])
}
