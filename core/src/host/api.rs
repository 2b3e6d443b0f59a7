//! What goes into the host's machine and what comes out.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use crate::level::{Level, Scope};
use crate::link::Proof;
use crate::name::{ChannelName, SessionPath, UserName};
use crate::record::ChannelId;
use crate::time::UnixMillis;

/// An agent, by its place in the declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(pub usize);

/// An agent that a human declared.
#[derive(Clone, Debug)]
pub struct Agent {
    /// How far it may go.
    pub level: Level,
    /// Scopes in which the human said something lower.
    pub lowered: BTreeMap<Scope, Level>,
    /// What wakes it.
    pub wake: Wake,
    /// How much it may do.
    pub budget: Budget,
}

impl Agent {
    /// How far the agent may go in a channel, or with what is written to its mailbox.
    pub fn level_in(&self, channel: Option<&ChannelName>) -> Level {
        let scope = channel.cloned().map_or(Scope::Whispers, Scope::Channel);
        self.lowered.get(&scope).copied().map_or(self.level, |lowered| lowered.min(self.level))
    }
}

/// What wakes an agent, beside what its own user writes.
#[derive(Clone, Debug, Default)]
pub struct Wake {
    /// Users who may wake it.
    pub users: BTreeSet<UserName>,
    /// Whether everybody on its channels may wake it by addressing it.
    pub anyone_may_mention: bool,
    /// Whether on a channel only messages that address it wake it.
    pub mentions_only: bool,
}

/// How much an agent may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Runs at once.
    pub at_once: usize,
    /// Runs that begin within an hour.
    pub per_hour: usize,
    /// How long a run may take.
    pub run: Duration,
    /// Answers in a row to what agents wrote, without a person's word in between.
    pub answers: u32,
    /// Messages that wait for a run; further ones are not taken.
    pub queue: usize,
    /// How often a message wakes the agent, if its runs do not end because the host does.
    pub attempts: u32,
}

impl Default for Budget {
    fn default() -> Self {
        let run = Duration::from_secs(600);
        Self { at_once: 1, per_hour: 20, run, answers: 8, queue: 100, attempts: 3 }
    }
}

/// How many answers of agents led to a message since a person wrote, and how many its conversation may have. Both travel with
/// the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Answers so far; 0 for what a person wrote, and for programs that do not count.
    pub hops: u32,
    /// The most that anybody on the way allowed; `None`: nobody said.
    pub most: Option<u32>,
}

/// A message that may wake an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it lies.
    pub job: Job,
    /// The channel; `None` for the agent's mailbox.
    pub channel: Option<ChannelName>,
    /// Who wrote it.
    pub from: SessionPath,
    /// Whether the agent's own user wrote it, on another session.
    pub own_user: bool,
    /// What its signature proves.
    pub proof: Proof,
    /// Whether it addresses the agent.
    pub addressed: bool,
    /// What led to it.
    pub chain: Chain,
}

/// A message for an agent: one run, and one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Job {
    /// The agent.
    pub agent: AgentId,
    /// The stream in which the message lies.
    pub stream: ChannelId,
    /// Its number there.
    pub seq: u64,
}

/// How far a job has come, as it is kept on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It waits for a run.
    Waiting,
    /// A process was started for it.
    Running,
    /// Its answer is kept, and is to be posted.
    Answered,
    /// Its run ended well and the answer is posted; the message is to be acknowledged.
    Posted,
    /// Its run failed; that is to be said.
    Failed,
}

/// A job of an earlier run of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The message.
    pub message: Message,
    /// How far it had come.
    pub phase: Phase,
    /// How often a process was started for it.
    pub attempts: u32,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Well. `true`: there is an answer.
    Ok(bool),
    /// The program failed, or was killed by somebody else.
    Failed,
    /// It took longer than its budget allows.
    TimedOut,
    /// It wrote more than is kept.
    TooLarge,
    /// It could not be started.
    NotStarted,
}

/// What happens to the host.
#[derive(Clone, Debug)]
pub enum Input {
    /// What is left of an earlier run, once for each agent and before its messages.
    Restore {
        /// The agent.
        agent: AgentId,
        /// Its jobs, oldest first.
        jobs: Vec<Kept>,
        /// When its runs of the last hour began.
        runs: Vec<UnixMillis>,
        /// Who already got a notice that the agent does not run.
        told: Vec<UserName>,
        /// Whether it is paused.
        paused: bool,
    },
    /// A message came.
    Message(Message),
    /// A run ended. An answer, if there is one, is on disk.
    Ended {
        /// For which message.
        job: Job,
        /// How.
        outcome: Outcome,
    },
    /// A post that was asked for is on the server, or will never be.
    Posted(Job),
    /// An acknowledgement that was asked for is on the server, or will never be.
    Acknowledged(Job),
    /// The agent's link is up, or down: what it has to say waits for that.
    Link(AgentId, bool),
    /// The human pauses an agent, or lets it go on.
    Pause(AgentId, bool),
    /// The human set levels: the scopes that are lower than the agent's own.
    Lowered(AgentId, BTreeMap<Scope, Level>),
    /// [`super::Host::next_deadline`] has come.
    Tick,
}

/// What is to be done, in order. What an action keeps is on disk before the next one is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Keep a message as a job that waits.
    Keep(Message),
    /// Leave a message: it does not wake the agent.
    Leave(Job),
    /// Keep that a run begins, then start it. The message is seen from here on.
    Start(Given),
    /// End a run's processes; [`Input::Ended`] follows.
    Kill(Job),
    /// Post the answer that is kept.
    Answer(Job),
    /// Keep that the job failed.
    Fail(Job, Outcome),
    /// Say to a message's sender that its run failed.
    SayFailed(Job, Outcome),
    /// Say to a message's sender, once, why the agent does not run now. The job may not be kept.
    SayHeld {
        /// To whom, and in answer to what.
        message: Message,
        /// Why.
        why: Hold,
    },
    /// Keep that everybody may get such a notice again.
    ForgetTold(AgentId),
    /// Keep that the answer is posted, then acknowledge the message.
    Acknowledge(Job),
    /// Forget the job.
    Forget(Job),
    /// Keep whether the agent is paused.
    KeepPaused(AgentId, bool),
}

/// A message that is given to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// Which.
    pub job: Job,
    /// 1 for the first time.
    pub attempt: u32,
    /// How far the agent may go.
    pub level: Level,
    /// What the answer says of the chain that led to it.
    pub chain: Chain,
}

/// Why an agent does not run for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// Its runs of this hour are used up: the message waits.
    Budget,
    /// Its runs are used up and too many messages wait: this one is not taken.
    Full,
    /// Agents have answered each other too often without a person.
    Chain,
}

/// How an agent stands, for its human.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// Whether it is paused.
    pub paused: bool,
    /// Whether its link is up.
    pub connected: bool,
    /// Messages that wait for a run.
    pub waiting: usize,
    /// Runs under way.
    pub running: usize,
    /// Runs that may still begin within this hour.
    pub left: usize,
}
