//! The loop: what happens goes into the core's machine, and what follows is carried out. What must outlive a crash is on disk before
//! the next step.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use conclave_core::body;
use conclave_core::bridge::body as text_of;
use conclave_core::host::{
    Action, AgentId, Chain, Given, Host, Input, Job, Kept, Message, Outcome, Phase, failure_notice,
    hold_notice, is_addressed,
};
use conclave_core::link::Proof;
use conclave_core::name::SessionPath;
use conclave_core::payload::Payload;
use conclave_core::protocol::Stamped;
use conclave_core::record::ChannelId;
use conclave_core::text::visible;
use conclave_core::time::{Monotonic, Now, UnixMillis};
use conclave_shell::clock::Clock;
use conclave_store::config::{Config, ConfigFile};
use conclave_store::state::{HostJob, Reader, State, StateError};
use serde_json::{Value, json};
use smol::channel::{Receiver, Sender, bounded, unbounded};
use smol::future::FutureExt as _;
use smol::{LocalExecutor, Timer};
use tracing::{info, warn};

use super::config::{Declared, DeclaredAgent, lowered};
use super::control::{self, Request};
use super::follower::{Arrived, Follower, Happened, Word};
use super::work::{self, Known, Session};
use super::{Dialing, HostError, follow, webhook};

/// Events of sessions that wait to be handled. Few: a message may have megabytes.
const QUEUE: usize = 4;
/// Messages that do not wake the agent, and wait to be shown with one that does: further ones are given up, half at a time.
const MAX_LEFT: usize = 200;
/// How often it is written down what was decided not to wake an agent.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// How often `config.toml` is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Lines of the log that are kept for `conclave host logs`, for each agent.
const LOG: usize = 200;

/// What happens beside what sessions hear.
pub(super) enum Event {
    Ended(Job, Outcome, String),
    Posted(Job),
    Acknowledged(Job),
    Configured(Box<Config>),
    Asked(Request, Sender<Value>),
    Failed(HostError),
}

pub(super) struct Supervisor {
    host: Host,
    clock: Clock,
    state: Rc<State>,
    agents: Vec<Rc<One>>,
    executor: Rc<LocalExecutor<'static>>,
    events: Sender<Event>,
    happening: Receiver<Event>,
    heard: Receiver<(usize, Happened)>,
    /// Where there are no agents, nobody else has one.
    _hear: Sender<(usize, Happened)>,
    /// How to end the runs under way.
    kills: BTreeMap<Job, Sender<()>>,
    /// What is being said: a link that comes back asks for it once more.
    saying: BTreeSet<Job>,
    /// Up to where each stream is decided, and whether that is written down.
    judged: BTreeMap<(AgentId, ChannelId), (u64, bool)>,
    note_at: Option<Monotonic>,
    left: BTreeMap<(AgentId, ChannelId), VecDeque<u64>>,
    /// Sessions that carry what comes from outside: they are not their user's word.
    doors: BTreeSet<String>,
    log: VecDeque<(UnixMillis, AgentId, String)>,
}

/// An agent.
pub(super) struct One {
    pub(super) declared: DeclaredAgent,
    pub(super) session: Session,
    restored: RefCell<bool>,
}

impl Supervisor {
    /// Starts the sessions of all agents, and the doors.
    pub(super) fn start(
        mut dialing: Dialing<'_>,
        declared: &Declared,
        executor: Rc<LocalExecutor<'static>>,
    ) -> Result<Self, HostError> {
        let (events, happening) = unbounded();
        let (hear, heard) = bounded(QUEUE);
        let clock = Clock::default();
        let mut agents = Vec::new();
        for (id, agent) in declared.agents.iter().enumerate() {
            let (driver, kept) = dialing.link(&agent.name, &agent.server, true)?;
            let follower = Follower {
                name: agent.name.to_string(),
                url: agent.server.clone(),
                kept,
                pins: ConfigFile::in_dir(&dialing.options.dir),
                channels: agent.channels.clone(),
                mailbox: true,
                events: hear.clone(),
                id,
            };
            let session = Session {
                url: agent.server.clone(),
                signing: dialing.signing(&agent.server),
                state: dialing.state.clone(),
                words: follow(&executor, follower, driver),
                clock,
                known: RefCell::new(None),
            };
            agents.push(Rc::new(One { declared: agent.clone(), session, restored: RefCell::new(false) }));
        }
        for hook in &declared.webhooks {
            webhook::start(&mut dialing, hook, &executor, clock)?;
        }
        control::serve(&dialing.options.dir, &executor, events.clone())?;
        let policies = declared.agents.iter().map(|agent| {
            let mut policy = agent.policy.clone();
            policy.lowered = lowered(dialing.config, &agent.server);
            policy
        });
        Ok(Self {
            host: Host::new(policies.collect()),
            clock,
            state: dialing.state.clone(),
            agents,
            executor,
            events,
            happening,
            heard,
            _hear: hear,
            kills: BTreeMap::new(),
            saying: BTreeSet::new(),
            judged: BTreeMap::new(),
            note_at: None,
            left: BTreeMap::new(),
            doors: declared.webhooks.iter().map(|hook| hook.name.to_string()).collect(),
            log: VecDeque::new(),
        })
    }

    /// Runs until `stop` says something. What runs then is ended, and begins again with the next host.
    pub(super) async fn run(mut self, file: ConfigFile, stop: &Receiver<()>) -> Result<(), HostError> {
        enum Next {
            Stop,
            Event(Event),
            Heard(usize, Happened),
            Due,
        }
        self.executor.spawn(look(file, self.events.clone())).detach();
        loop {
            let now = self.clock.now();
            let deadline = self.host.next_deadline(now).into_iter().chain(self.note_at).min();
            let stopped = async {
                let _ = stop.recv().await;
                Next::Stop
            };
            let event = async { self.happening.recv().await.map_or(Next::Stop, Next::Event) };
            let heard = async { self.heard.recv().await.map_or(Next::Stop, |(id, it)| Next::Heard(id, it)) };
            let due = async {
                match deadline {
                    Some(deadline) => drop(Timer::at(self.clock.instant(deadline)).await),
                    None => smol::future::pending().await,
                }
                Next::Due
            };
            match stopped.or(event).or(due).or(heard).await {
                Next::Stop => return Ok(self.note()?),
                Next::Due => {
                    if self.note_at.is_some_and(|at| at <= self.clock.now().mono) {
                        self.note()?;
                    }
                    self.handle(Input::Tick, None)?;
                }
                Next::Heard(id, happened) => self.heard(id, happened)?,
                Next::Event(event) => self.event(event)?,
            }
        }
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    fn heard(&mut self, id: usize, happened: Happened) -> Result<(), HostError> {
        let Some(one) = self.agents.get(id).cloned() else { return Ok(()) };
        let agent = AgentId(id);
        match happened {
            Happened::Up { path, user, server } => {
                let reader = Reader { server, handle: one.declared.name.clone() };
                *one.session.known.borrow_mut() = Some(Known { path, user, reader: reader.clone() });
                if !one.restored.replace(true) {
                    self.restore(agent, &reader)?;
                }
                self.handle(Input::Link(agent, true), None)
            }
            Happened::Down => self.handle(Input::Link(agent, false), None),
            Happened::Message(arrived) => self.message(agent, &one, *arrived),
        }
    }

    fn restore(&mut self, agent: AgentId, reader: &Reader) -> Result<(), HostError> {
        let kept = self.state.host_agent(reader, self.now().wall)?;
        let jobs = kept.jobs.into_iter().map(|job| Kept {
            message: described(agent, &job, true, true),
            phase: job.phase,
            attempts: job.attempts,
        });
        let jobs: Vec<_> = jobs.collect();
        if !jobs.is_empty() {
            info!(agent = reader.handle.as_str(), jobs = jobs.len(), "goes on with what an earlier run left");
        }
        let input = Input::Restore { agent, jobs, runs: kept.runs, told: kept.told, paused: kept.paused };
        self.handle(input, None)
    }

    fn message(&mut self, agent: AgentId, one: &One, arrived: Arrived) -> Result<(), HostError> {
        let Some(Known { path, user, reader }) = one.session.known() else { return Ok(()) };
        let Arrived { channel, stream, message, proof } = arrived;
        let place = (agent, stream);
        let judged = match self.judged.get(&place) {
            Some((judged, _)) => *judged,
            None => self.state.host_judged(&reader, stream)?,
        };
        let job = HostJob {
            stream,
            channel,
            phase: Phase::Waiting,
            attempts: 0,
            answer: None,
            target: None,
            process: None,
            message,
        };
        if job.message.seq <= judged || job.message.from == path {
            self.leave(agent, one, stream, job.message.seq);
            return Ok(());
        }
        let from = &job.message.from;
        let is_door = from.machine == path.machine && self.doors.contains(from.session.as_str());
        let own = user.is_some() && job.message.origin.sender.map(|(sender, _)| sender) == user && !is_door;
        let addressed = is_addressed(&text_of(&job.message.payload), &path);
        let mut message = described(agent, &job, own, addressed);
        message.proof = proof;
        self.judged.insert(place, (job.message.seq, false));
        self.note_at.get_or_insert(self.now().mono + NOTE_EVERY);
        self.handle(Input::Message(message), Some(&job))
    }

    /// Writes down what was decided.
    fn note(&mut self) -> Result<(), StateError> {
        self.note_at = None;
        for ((agent, stream), (seq, noted)) in &mut self.judged {
            let known = self.agents.get(agent.0).and_then(|one| one.session.known());
            if let Some(known) = known.filter(|_| !*noted) {
                self.state.host_judge(&known.reader, (*stream, *seq), None)?;
                *noted = true;
            }
        }
        Ok(())
    }

    /// A message does not wake the agent. It waits to be shown with one that does.
    fn leave(&mut self, agent: AgentId, one: &One, stream: ChannelId, seq: u64) {
        let left = self.left.entry((agent, stream)).or_default();
        left.push_back(seq);
        if left.len() > MAX_LEFT {
            let given_up: Vec<_> = left.drain(..MAX_LEFT / 2).collect();
            if let (Some(first), Some(last)) = (given_up.first(), given_up.last()) {
                let _ = one.session.words.try_send(Word::Skip(stream, *first, *last));
            }
        }
    }

    fn event(&mut self, event: Event) -> Result<(), HostError> {
        match event {
            Event::Ended(job, outcome, note) => {
                self.kills.remove(&job);
                let what = match outcome {
                    Outcome::Ok(true) => "answered",
                    Outcome::Ok(false) => "no answer",
                    Outcome::Failed => "failed",
                    Outcome::TimedOut => "took too long",
                    Outcome::TooLarge => "printed too much",
                    Outcome::NotStarted => "not started",
                };
                info!(agent = self.name(job.agent), seq = job.seq, outcome = what, "run ended");
                self.say_log(job.agent, format!("message {}: {what}: {note}", job.seq));
                self.handle(Input::Ended { job, outcome }, None)
            }
            Event::Posted(job) => {
                self.saying.remove(&job);
                self.handle(Input::Posted(job), None)
            }
            Event::Acknowledged(job) => {
                self.saying.remove(&job);
                self.handle(Input::Acknowledged(job), None)
            }
            Event::Configured(config) => {
                for (nth, one) in self.agents.clone().iter().enumerate() {
                    let lowered = lowered(&config, &one.declared.server);
                    self.handle(Input::Lowered(AgentId(nth), lowered), None)?;
                }
                Ok(())
            }
            Event::Asked(request, answer) => {
                let said = self.asked(request)?;
                // Whoever asked may be gone.
                let _ = answer.try_send(said);
                Ok(())
            }
            Event::Failed(error) => Err(error),
        }
    }

    /// `arriving` is the message that is handed in.
    fn handle(&mut self, input: Input, arriving: Option<&HostJob>) -> Result<(), HostError> {
        let mut actions = Vec::new();
        self.host.handle(self.now(), input, &mut actions);
        for action in actions {
            self.carry_out(action, arriving)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, action: Action, arriving: Option<&HostJob>) -> Result<(), HostError> {
        let agent = match &action {
            Action::Keep(message) | Action::SayHeld { message, .. } => message.job.agent,
            Action::Start(given) => given.job.agent,
            Action::Leave(job)
            | Action::Kill(job)
            | Action::Answer(job)
            | Action::Fail(job, _)
            | Action::SayFailed(job, _)
            | Action::Acknowledge(job)
            | Action::Forget(job) => job.agent,
            Action::ForgetTold(agent) | Action::KeepPaused(agent, _) => *agent,
        };
        let Some(one) = self.agents.get(agent.0).cloned() else { return Ok(()) };
        let Some(Known { reader, .. }) = one.session.known() else { return Ok(()) };
        let key = |job: Job| (job.stream, job.seq);
        match action {
            Action::Keep(message) => {
                let Some(arriving) = arriving else { return Ok(()) };
                let kept = (arriving.channel.as_ref(), &arriving.message);
                self.state.host_judge(&reader, key(message.job), Some(kept))?;
                self.judged.insert((agent, message.job.stream), (message.job.seq, true));
            }
            Action::Leave(job) => self.leave(agent, &one, job.stream, job.seq),
            Action::Start(given) => self.start_run(given, one, &reader)?,
            Action::Kill(job) => {
                if let Some(kill) = self.kills.get(&job) {
                    let _ = kill.try_send(());
                }
            }
            Action::Answer(job) => {
                let Some(kept) = self.state.host_job(&reader, key(job))? else { return Ok(()) };
                let text = kept.answer.clone().unwrap_or_default();
                self.say(one, job, kept, "answer", text);
            }
            Action::Fail(job, _) => self.state.host_phase(&reader, key(job), Phase::Failed)?,
            Action::SayFailed(job, outcome) => {
                let Some(kept) = self.state.host_job(&reader, key(job))? else { return Ok(()) };
                let text = failure_notice(one.declared.name.as_str(), outcome);
                self.say(one, job, kept, "failed", text);
            }
            Action::SayHeld { message, why } => {
                self.state.host_told(&reader, Some(&message.from.user))?;
                info!(agent = self.name(agent), why = ?why, "held");
                self.say_log(agent, format!("message {}: held: {why:?}", message.job.seq));
                let Some(arriving) = arriving.cloned() else { return Ok(()) };
                let (text, events) = (hold_notice(one.declared.name.as_str(), why), self.events.clone());
                let task = async move {
                    let name = one.declared.name.as_str();
                    let chain = next(&one.declared, &arriving.message.payload);
                    let said = work::say(&one.session, name, &arriving, "held", &text, chain).await;
                    fail(said, &events);
                };
                self.executor.spawn(task).detach();
            }
            Action::ForgetTold(_) => self.state.host_told(&reader, None)?,
            Action::Acknowledge(job) => {
                self.state.host_phase(&reader, key(job), Phase::Posted)?;
                if self.saying.insert(job) {
                    let events = self.events.clone();
                    let task = async move {
                        let name = one.declared.name.as_str();
                        match one.session.acknowledge(job.stream, job.seq).await {
                            Ok(()) => info!(agent = name, seq = job.seq, "acknowledged"),
                            Err(refusal) => {
                                warn!(agent = name, %refusal, "the server takes no acknowledgement")
                            }
                        }
                        let _ = events.try_send(Event::Acknowledged(job));
                    };
                    self.executor.spawn(task).detach();
                }
            }
            Action::Forget(job) => self.state.host_forget(&reader, key(job))?,
            Action::KeepPaused(_, paused) => self.state.host_pause(&reader, paused)?,
        }
        Ok(())
    }

    fn start_run(&mut self, given: Given, one: Rc<One>, reader: &Reader) -> Result<(), HostError> {
        let Job { agent, stream, seq } = given.job;
        self.state.host_begin(reader, (stream, seq), given.attempt, self.now().wall)?;
        self.left.remove(&(agent, stream));
        info!(agent = self.name(agent), seq, attempt = given.attempt, "run begins");
        self.say_log(agent, format!("message {seq}: run begins, attempt {}", given.attempt));
        let (kill, killed) = bounded(1);
        self.kills.insert(given.job, kill);
        let events = self.events.clone();
        let task = async move {
            let event = match work::run(&one.session, &one.declared, given, killed).await {
                Ok(left) => Event::Ended(given.job, left.outcome, left.note),
                Err(error) => Event::Failed(error.into()),
            };
            let _ = events.try_send(event);
        };
        self.executor.spawn(task).detach();
        Ok(())
    }

    fn say(&mut self, one: Rc<One>, job: Job, kept: HostJob, what: &'static str, text: String) {
        if !self.saying.insert(job) {
            return;
        }
        let events = self.events.clone();
        let task = async move {
            let name = one.declared.name.as_str();
            let chain = next(&one.declared, &kept.message.payload);
            let said = work::say(&one.session, name, &kept, what, &text, chain).await;
            if fail(said, &events) {
                let _ = events.try_send(Event::Posted(job));
            }
        };
        self.executor.spawn(task).detach();
    }

    fn name(&self, agent: AgentId) -> &str {
        self.agents.get(agent.0).map_or("", |one| one.declared.name.as_str())
    }

    fn say_log(&mut self, agent: AgentId, text: String) {
        if self.log.iter().filter(|(_, of, _)| *of == agent).count() >= LOG
            && let Some(first) = self.log.iter().position(|(_, of, _)| *of == agent)
        {
            self.log.remove(first);
        }
        self.log.push_back((self.now().wall, agent, text.trim_end().to_owned()));
    }

    /// Answers whoever asks on the host's socket.
    fn asked(&mut self, request: Request) -> Result<Value, HostError> {
        let named = |name: &Option<String>| -> Result<Vec<usize>, Value> {
            let all = self.agents.iter().enumerate();
            let matching =
                all.filter(|(_, one)| name.as_deref().is_none_or(|name| one.declared.name.as_str() == name));
            let found: Vec<_> = matching.map(|(nth, _)| nth).collect();
            match (name, found.is_empty()) {
                (Some(name), true) => Err(json!({ "error": format!("there is no agent {}", visible(name)) })),
                _ => Ok(found),
            }
        };
        let agents = match named(request.agent()) {
            Ok(agents) => agents,
            Err(error) => return Ok(error),
        };
        match request {
            Request::Status { .. } => {}
            Request::Logs { .. } => {
                let lines = self.log.iter().filter(|(_, agent, _)| agents.contains(&agent.0));
                let lines = lines.map(|(at, agent, text)| {
                    json!({ "at": at.rfc3339(), "agent": self.name(*agent), "text": visible(text) })
                });
                return Ok(json!({ "lines": lines.collect::<Vec<_>>() }));
            }
            Request::Pause { .. } | Request::Resume { .. } => {
                let paused = matches!(request, Request::Pause { .. });
                for nth in &agents {
                    if self.agents[*nth].session.known().is_none() {
                        let error = "this agent was not connected yet: wait until it is";
                        return Ok(json!({ "error": error }));
                    }
                    self.handle(Input::Pause(AgentId(*nth), paused), None)?;
                }
            }
        }
        Ok(json!({ "agents": agents.iter().map(|nth| self.status(*nth)).collect::<Vec<_>>() }))
    }

    fn status(&self, nth: usize) -> Value {
        let Some(one) = self.agents.get(nth) else { return Value::Null };
        let Some(overview) = self.host.overview(self.now(), AgentId(nth)) else { return Value::Null };
        let mut state = String::new();
        let _ = match (overview.paused, overview.connected, overview.running) {
            (true, ..) => write!(state, "paused"),
            (_, false, _) => write!(state, "not connected"),
            (.., 0) if overview.left == 0 => write!(state, "budget used up"),
            (.., 0) => write!(state, "idle"),
            _ => write!(state, "running"),
        };
        json!({
            "agent": one.declared.name.as_str(),
            "server": one.declared.server.as_str(),
            "state": state,
            "level": one.declared.policy.level.as_str(),
            "running": overview.running,
            "waiting": overview.waiting,
            "runs_left": overview.left,
            "runs_per_hour": one.declared.policy.budget.per_hour,
        })
    }
}

/// Reports a failing disk, which ends the host. True if there is none.
fn fail(said: Result<(), StateError>, events: &Sender<Event>) -> bool {
    match said {
        Ok(()) => true,
        Err(error) => {
            let _ = events.try_send(Event::Failed(error.into()));
            false
        }
    }
}

/// What the machine is to know of a message.
fn described(agent: AgentId, job: &HostJob, own_user: bool, addressed: bool) -> Message {
    let Stamped { from, seq, payload, .. } = &job.message;
    Message {
        job: Job { agent, stream: job.stream, seq: *seq },
        channel: job.channel.clone(),
        from: SessionPath::clone(from),
        own_user,
        proof: Proof::Verified,
        addressed,
        chain: chain(payload),
    }
}

/// What led to a message, as its sender said.
fn chain(payload: &Payload) -> Chain {
    let Payload::Body(body) = payload else { return Chain::default() };
    let said = body::context(body);
    Chain { hops: said.hops, most: Some(said.budget).filter(|budget| *budget != 0) }
}

/// What an answer to a message says of what led to it.
fn next(agent: &DeclaredAgent, payload: &Payload) -> Chain {
    let Chain { hops, most } = chain(payload);
    let own = agent.policy.budget.answers;
    Chain { hops: hops.saturating_add(1), most: Some(most.map_or(own, |most| most.min(own))) }
}

/// Looks at the configuration for ever, and hands it on when it was written.
async fn look(file: ConfigFile, events: Sender<Event>) {
    let mut known = file.fingerprint();
    loop {
        Timer::after(LOOK_EVERY).await;
        let seen = file.fingerprint();
        if seen == known {
            continue;
        }
        known = seen;
        match file.load() {
            Ok(config) => drop(events.try_send(Event::Configured(Box::new(config)))),
            Err(error) => warn!(%error, "the levels stay as they were"),
        }
    }
}
