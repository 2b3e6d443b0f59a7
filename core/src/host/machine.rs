//! The host's machine: for each agent what waits, what runs, and what is still to be said.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use super::api::{
    Action, Agent, AgentId, Chain, Given, Hold, Input, Job, Kept, Message, Outcome, Overview, Phase,
};
use crate::level::Level;
use crate::link::Proof;
use crate::name::UserName;
use crate::time::{Monotonic, Now, UnixMillis};

/// The window of [`super::Budget::per_hour`], in milliseconds.
const HOUR: i64 = 3_600_000;
/// Senders who were notified and are remembered; further ones get no notice.
const MAX_TOLD: usize = 1000;

/// All agents of one host.
#[derive(Clone, Debug)]
pub struct Host {
    agents: Vec<State>,
}

#[derive(Clone, Debug)]
struct State {
    agent: Agent,
    paused: bool,
    connected: bool,
    waiting: VecDeque<Waiting>,
    running: BTreeMap<Job, Running>,
    finishing: BTreeMap<Job, Finishing>,
    /// When the runs of the last hour began. On the wall clock, so that a restart does not refill the budget.
    runs: VecDeque<UnixMillis>,
    told: BTreeSet<UserName>,
}

#[derive(Clone, Debug)]
struct Waiting {
    message: Message,
    attempts: u32,
}

#[derive(Clone, Debug)]
struct Running {
    deadline: Monotonic,
    killed: bool,
    may_emit: bool,
}

#[derive(Clone, Copy, Debug)]
struct Finishing {
    step: Step,
    /// Asked for since the link is up.
    asked: bool,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Answer,
    Acknowledge,
    SayFailed(Outcome),
}

impl Host {
    /// A host of these agents; none of their links is up.
    pub fn new(agents: Vec<Agent>) -> Self {
        let state = |agent| State {
            agent,
            paused: false,
            connected: false,
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            finishing: BTreeMap::new(),
            runs: VecDeque::new(),
            told: BTreeSet::new(),
        };
        Self { agents: agents.into_iter().map(state).collect() }
    }

    /// Processes an input.
    pub fn handle(&mut self, now: Now, input: Input, actions: &mut Vec<Action>) {
        let agent = match &input {
            Input::Restore { agent, .. }
            | Input::Link(agent, _)
            | Input::Pause(agent, _)
            | Input::Lowered(agent, _) => *agent,
            Input::Message(message) => message.job.agent,
            Input::Ended { job, .. } | Input::Posted(job) | Input::Acknowledged(job) => job.agent,
            Input::Tick => {
                self.agents.iter_mut().for_each(|state| state.tick(now, actions));
                return;
            }
        };
        let Some(state) = self.agents.get_mut(agent.0) else { return };
        match input {
            Input::Restore { jobs, runs, told, paused, .. } => {
                (state.runs, state.told, state.paused) = (runs.into(), told.into_iter().collect(), paused);
                for kept in jobs {
                    state.restore(kept, actions);
                }
            }
            Input::Message(message) => state.message(now, message, actions),
            Input::Ended { job, outcome } => state.ended(job, outcome, actions),
            Input::Posted(job) => state.posted(job, actions),
            Input::Acknowledged(job) => {
                if state.finishing.remove(&job).is_some() {
                    actions.push(Action::Forget(job));
                }
            }
            Input::Link(_, up) => state.link(up, actions),
            Input::Pause(_, paused) => {
                state.paused = paused;
                actions.push(Action::KeepPaused(agent, paused));
            }
            Input::Lowered(_, lowered) => state.agent.lowered = lowered,
            Input::Tick => {}
        }
        state.tick(now, actions);
    }

    /// When [`Input::Tick`] is due.
    pub fn next_deadline(&self, now: Now) -> Option<Monotonic> {
        let all = self.agents.iter().filter_map(|state| state.next_deadline(now));
        all.min()
    }

    /// How an agent stands.
    pub fn overview(&self, now: Now, agent: AgentId) -> Option<Overview> {
        let state = self.agents.get(agent.0)?;
        Some(Overview {
            paused: state.paused,
            connected: state.connected,
            waiting: state.waiting.len(),
            running: state.running.len(),
            left: state.left(now),
        })
    }

    /// Runs that are under way: what a host that ends must end with it.
    pub fn running(&self) -> impl Iterator<Item = Job> + '_ {
        self.agents.iter().flat_map(|state| state.running.keys().copied())
    }
}

impl State {
    fn restore(&mut self, Kept { message, phase, attempts }: Kept, actions: &mut Vec<Action>) {
        let job = message.job;
        let step = match phase {
            Phase::Waiting => None,
            // The host ended while it ran: the agent gets the message again.
            Phase::Running if attempts < self.agent.budget.attempts => None,
            Phase::Running => {
                actions.push(Action::Fail(job, Outcome::Failed));
                Some(Step::SayFailed(Outcome::Failed))
            }
            Phase::Answered => Some(Step::Answer),
            Phase::Posted => Some(Step::Acknowledge),
            Phase::Failed => Some(Step::SayFailed(Outcome::Failed)),
        };
        match step {
            None => self.waiting.push_back(Waiting { message, attempts }),
            Some(Step::SayFailed(_)) if !self.agent.level_in(message.channel.as_ref()).may_emit() => {
                actions.push(Action::Forget(job));
            }
            Some(step) => {
                self.finishing.insert(job, Finishing { step, asked: false });
            }
        }
    }

    fn message(&mut self, now: Now, message: Message, actions: &mut Vec<Action>) {
        let job = message.job;
        if self.knows(job) {
            return;
        }
        if !self.wakes(&message) {
            return actions.push(Action::Leave(job));
        }
        let most = self.most(message.chain);
        if message.chain.hops >= most {
            // Said once, by the first whom the row of answers reaches.
            if message.chain.hops == most {
                self.say_held(&message, Hold::Chain, actions);
            }
            return actions.push(Action::Leave(job));
        }
        if self.waiting.len() >= self.agent.budget.queue {
            self.say_held(&message, Hold::Full, actions);
            return actions.push(Action::Leave(job));
        }
        actions.push(Action::Keep(message.clone()));
        self.waiting.push_back(Waiting { message: message.clone(), attempts: 0 });
        self.start(now, actions);
        let waits = self.waiting.back().is_some_and(|last| last.message.job == job);
        if waits && self.left(now) == 0 {
            self.say_held(&message, Hold::Budget, actions);
        }
    }

    fn knows(&self, job: Job) -> bool {
        self.running.contains_key(&job)
            || self.finishing.contains_key(&job)
            || self.waiting.iter().any(|waiting| waiting.message.job == job)
    }

    fn wakes(&self, message: &Message) -> bool {
        if message.proof != Proof::Verified || self.level(message) == Level::Mute {
            return false;
        }
        let wake = &self.agent.wake;
        let listed = message.own_user || wake.users.contains(&message.from.user);
        match message.channel {
            None => listed,
            Some(_) if message.addressed => listed || wake.anyone_may_mention,
            Some(_) => listed && !wake.mentions_only,
        }
    }

    fn level(&self, message: &Message) -> Level {
        self.agent.level_in(message.channel.as_ref())
    }

    /// The most answers that a conversation may have: the least that anybody said.
    fn most(&self, chain: Chain) -> u32 {
        chain.most.map_or(self.agent.budget.answers, |most| most.min(self.agent.budget.answers))
    }

    fn say_held(&mut self, message: &Message, why: Hold, actions: &mut Vec<Action>) {
        let user = &message.from.user;
        if self.level(message).may_emit() && self.told.len() < MAX_TOLD && self.told.insert(user.clone()) {
            actions.push(Action::SayHeld { message: message.clone(), why });
        }
    }

    /// Runs that may still begin within this hour.
    fn left(&self, now: Now) -> usize {
        // A clock that was set back gives nothing away: what lies in the future counts.
        let recent = self.runs.iter().filter(|begun| now.wall.0.saturating_sub(begun.0) < HOUR).count();
        self.agent.budget.per_hour.saturating_sub(recent)
    }

    fn start(&mut self, now: Now, actions: &mut Vec<Action>) {
        while self.connected
            && !self.paused
            && self.running.len() < self.agent.budget.at_once
            && self.left(now) > 0
        {
            // Runs in one place follow each other: each goes on with the conversation of the one before, and has seen what came
            // before its message.
            let free = |waiting: &Waiting| {
                !self.running.keys().any(|running| running.stream == waiting.message.job.stream)
            };
            let Some(at) = self.waiting.iter().position(free) else { return };
            let Some(Waiting { message, attempts }) = self.waiting.remove(at) else { return };
            let (job, level) = (message.job, self.level(&message));
            if level == Level::Mute {
                // The human said so since it came.
                actions.push(Action::Forget(job));
                continue;
            }
            self.runs.retain(|begun| now.wall.0.saturating_sub(begun.0) < HOUR);
            self.runs.push_back(now.wall);
            // One notice for each sender until nothing waits any more.
            if self.waiting.is_empty() && !self.told.is_empty() {
                self.told.clear();
                actions.push(Action::ForgetTold(job.agent));
            }
            let chain =
                Chain { hops: message.chain.hops.saturating_add(1), most: Some(self.most(message.chain)) };
            let deadline = now.mono + self.agent.budget.run;
            let may_emit = level.may_emit();
            self.running.insert(job, Running { deadline, killed: false, may_emit });
            actions.push(Action::Start(Given { job, attempt: attempts + 1, level, chain }));
        }
    }

    fn ended(&mut self, job: Job, outcome: Outcome, actions: &mut Vec<Action>) {
        let Some(running) = self.running.remove(&job) else { return };
        // A program that ends while it is killed for its time has not ended well.
        let outcome = if running.killed { Outcome::TimedOut } else { outcome };
        let step = match outcome {
            Outcome::Ok(true) => Step::Answer,
            Outcome::Ok(false) => Step::Acknowledge,
            failed => {
                actions.push(Action::Fail(job, failed));
                if !running.may_emit {
                    return actions.push(Action::Forget(job));
                }
                Step::SayFailed(failed)
            }
        };
        self.finishing.insert(job, Finishing { step, asked: false });
        self.finish(actions);
    }

    fn posted(&mut self, job: Job, actions: &mut Vec<Action>) {
        let Some(finishing) = self.finishing.get_mut(&job) else { return };
        match finishing.step {
            Step::Answer => *finishing = Finishing { step: Step::Acknowledge, asked: false },
            Step::SayFailed(_) => {
                self.finishing.remove(&job);
                actions.push(Action::Forget(job));
            }
            Step::Acknowledge => {}
        }
        self.finish(actions);
    }

    fn link(&mut self, up: bool, actions: &mut Vec<Action>) {
        self.connected = up;
        self.finishing.values_mut().for_each(|finishing| finishing.asked = false);
        self.finish(actions);
    }

    /// Asks for what is to be said, where the link is up.
    fn finish(&mut self, actions: &mut Vec<Action>) {
        if !self.connected {
            return;
        }
        for (job, finishing) in self.finishing.iter_mut().filter(|(_, finishing)| !finishing.asked) {
            finishing.asked = true;
            actions.push(match finishing.step {
                Step::Answer => Action::Answer(*job),
                Step::Acknowledge => Action::Acknowledge(*job),
                Step::SayFailed(outcome) => Action::SayFailed(*job, outcome),
            });
        }
    }

    fn tick(&mut self, now: Now, actions: &mut Vec<Action>) {
        for (job, running) in &mut self.running {
            if !running.killed && running.deadline <= now.mono {
                running.killed = true;
                actions.push(Action::Kill(*job));
            }
        }
        self.start(now, actions);
    }

    fn next_deadline(&self, now: Now) -> Option<Monotonic> {
        let runs = self.running.values().filter(|running| !running.killed).map(|running| running.deadline);
        let waits = self.connected && !self.paused && !self.waiting.is_empty() && self.left(now) == 0;
        // The first run of the window that leaves it makes room for another.
        let oldest = self.runs.iter().min().filter(|_| waits);
        let room = oldest.map(|begun| {
            let left = begun.0.saturating_add(HOUR).saturating_sub(now.wall.0).clamp(1, 2 * HOUR);
            now.mono + Duration::from_millis(left.unsigned_abs())
        });
        runs.chain(room).min()
    }
}
