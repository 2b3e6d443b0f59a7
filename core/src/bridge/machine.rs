//! The bridge's machine: its state, and what each input does to it.

mod approvals;
mod calls;
mod hooks;
mod links;
mod posts;
mod pushes;
mod receipts;
mod replies;
mod state;
mod streams;
mod unread;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use self::state::{HeldCall, LinkState, Opening, Pending, Question, Shown, VerdictQuestion, Waiter, Watch};
use super::api::{Action, Config, Input, QuestionId, Settings};
use super::card::{Approver, Cards};
use super::failure::Failure;
use super::guard::Guard;
use super::inbox::{Entry, Inbox, Notice, Page};
use super::levels::{Level, Levels, Scope};
use super::server::Server;
use super::tool_call::{CallId, Filter, Outcome};
use super::tools::{Offered, TOOLS, Tool};
use crate::link::RequestId;
use crate::name::ChannelName;
use crate::protocol::Command;
use crate::text::shell_word;
use crate::time::{Monotonic, Now};

/// The bridge. See [the module](super).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    links: BTreeMap<Server, LinkState>,
    levels: Levels,
    approvers: Vec<Approver>,
    /// Those of them whom no request reaches, as last reported.
    unreachable_approvers: Vec<Approver>,
    ready: bool,
    asks: bool,
    inbox: Inbox,
    guard: Guard,
    cards: Cards,
    waiters: Vec<Waiter>,
    shown: Vec<Shown>,
    watches: Vec<Watch>,
    openings: Vec<Opening>,
    held: Vec<HeldCall>,
    questions: BTreeMap<QuestionId, Question>,
    verdicts: BTreeMap<QuestionId, VerdictQuestion>,
    /// What the human declined, and until when it is not asked again.
    declined: BTreeMap<(Server, Scope), Monotonic>,
    pending: BTreeMap<RequestId, Pending>,
    /// The last read, until the next: its answer may cross a cancellation.
    last_read: Option<(CallId, Page)>,
    next: u64,
    /// How often in a row a hook made the agent go on.
    continued: u32,
}

/// How often a waiting call reports progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// How long a question to the human stays open.
pub(super) const QUESTION_LIFETIME: Duration = Duration::from_secs(300);
/// How long a human who declined is left alone.
pub(super) const DECLINED_FOR: Duration = Duration::from_secs(600);
/// Entries in one answer.
const PAGE_ENTRIES: usize = 50;
/// Calls that wait, and questions, at once.
const MAX_WAITERS: usize = 16;
const MAX_HELD: usize = 16;
/// How long a call waits for its link to come up for the first time.
pub(super) const FIRST_CONNECT: Duration = Duration::from_secs(10);
const MAX_QUESTIONS: usize = 4;
const MAX_DECLINED: usize = 64;
/// Requests without a reply: more than a client with sense has open.
const MAX_PENDING: usize = 256;

impl Bridge {
    /// A bridge whose links are not up yet.
    pub fn new(config: Config, settings: Settings) -> Self {
        let link = |server| (server, LinkState::new());
        let mut guard = Guard::new(config.budget);
        guard.limit_hops(settings.hops);
        guard.woken_in(config.woken);
        let mut levels = Levels::new(settings.permissions);
        levels.bound_by(config.most);
        Self {
            links: config.servers.into_iter().map(link).collect(),
            levels,
            approvers: settings.approvers,
            unreachable_approvers: Vec::new(),
            ready: false,
            asks: false,
            inbox: Inbox::new(config.inbox),
            guard,
            cards: Cards::default(),
            waiters: Vec::new(),
            shown: Vec::new(),
            watches: Vec::new(),
            openings: Vec::new(),
            held: Vec::new(),
            questions: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            declined: BTreeMap::new(),
            pending: BTreeMap::new(),
            last_read: None,
            next: 0,
            continued: 0,
        }
    }

    /// Processes an input and appends the resulting actions.
    pub fn handle(&mut self, now: Now, input: Input, actions: &mut Vec<Action>) {
        let offered = self.offered();
        self.expire(now, actions);
        match input {
            Input::Ready { asks } => {
                self.check_approvers(actions);
                self.ready = true;
                self.asks = asks;
                // What came before the client was there is shown to it now.
                let entries = self.inbox.entries().into_iter().filter(|entry| !self.is_quiet(entry));
                let pushes = entries.map(|entry| Action::Push(self.push(entry)));
                actions.extend(pushes);
            }
            Input::Call { id, call } => self.call(now, id, call, actions),
            Input::Hook { id, moment, most } => self.hook(now, id, (moment, most), actions),
            Input::Cancel { id } => self.cancel(id, actions),
            Input::Link { server, event } => self.link_event(now, &server, event, actions),
            Input::Prompt(request) => self.prompt(now, request, actions),
            Input::Answered { question, agreed } => self.answered(now, question, agreed, actions),
            Input::Configured { settings, again } => {
                for (server, scope) in self.levels.configure(settings.permissions, again) {
                    let level = self.levels.level(&server, &scope);
                    let text = format!(
                        "Your user's configuration was written anew, which ended this session's own level for {scope}: \
                         it is {level} again."
                    );
                    self.notify(&server, text, actions);
                }
                self.approvers = settings.approvers;
                self.guard.limit_hops(settings.hops);
                self.check_approvers(actions);
                // The human may have said what a name means from now on. The answer has approvers looked up.
                let load = |server: &Server| Action::LoadBindings { server: server.clone() };
                actions.extend(self.links.keys().map(load));
                self.guard.renew();
                self.declined.clear();
            }
            Input::Tick => {}
        }
        self.load_unread(actions);
        self.serve_waiters(now, actions);
        if self.ready && self.offered() != offered {
            actions.push(Action::ToolsChanged);
        }
    }

    /// When to hand in [`Input::Tick`] at the latest.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let waiters = self.waiters.iter().map(|waiter| waiter.until.min(waiter.progress));
        let questions = self.questions.values().map(|question| question.until);
        let questions = questions.chain(self.verdicts.values().map(|question| question.until));
        let held = self.held.iter().map(|held| held.until);
        let shown = self.shown.iter().map(|shown| shown.until);
        let watches = self.watches.iter().map(|watch| watch.until);
        let calls = waiters.chain(questions).chain(held).chain(shown).chain(watches);
        calls.chain(self.cards.next_expiry()).min()
    }

    /// The tools that are offered now, in the order of [`TOOLS`].
    pub fn tools(&self) -> impl Iterator<Item = &'static Tool> {
        let offered = self.offered();
        TOOLS.iter().filter(move |tool| offered[tool.offered as usize])
    }

    /// The level of a scope.
    pub fn level(&self, server: &Server, scope: &Scope) -> Level {
        self.levels.level(server, scope)
    }

    /// Whether this session joined the channel under this name.
    pub fn has_joined(&self, server: &Server, channel: &ChannelName) -> bool {
        self.links.get(server).is_some_and(|link| link.joined.contains(channel))
    }

    /// The unread messages.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// How many calls wait for a message.
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    fn offered(&self) -> [bool; 5] {
        let mut offered = [false; 5];
        offered[Offered::Always as usize] = true;
        for (server, link) in self.links.iter().filter(|(_, link)| !link.disabled) {
            let emits = |scope| self.levels.level(server, &scope).may_emit();
            offered[Offered::Channel as usize] |=
                link.joined.iter().any(|channel| emits(Scope::Channel(channel.clone())));
            offered[Offered::Admin as usize] |= link.admin;
            if emits(Scope::Whispers) {
                offered[Offered::Whisper as usize] = true;
                offered[Offered::Prompt as usize] |=
                    self.cards.foreign.iter().any(|card| card.server == *server);
            }
        }
        offered
    }

    fn expire(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.cards.expire(now.mono);
        self.declined.retain(|_, until| now.mono < *until);
        let late = |(id, question): (&QuestionId, &Question)| (question.until <= now.mono).then_some(*id);
        let late_verdicts = self.verdicts.iter().filter(|(_, question)| question.until <= now.mono);
        let late_verdicts: Vec<_> = late_verdicts.map(|(id, _)| *id).collect();
        let late: Vec<_> = self.questions.iter().filter_map(late).chain(late_verdicts).collect();
        for question in late {
            actions.push(Action::Withdraw { question });
            self.answered(now, question, false, actions);
        }
        self.confirm_shown(now, actions);
        self.end_watches(now, actions);
        self.release(now, None, actions);
    }

    fn serve_waiters(&mut self, now: Now, actions: &mut Vec<Action>) {
        while !self.waiters.is_empty() && self.inbox.has_fresh(|entry| !self.is_quiet(entry)) {
            let call = self.waiters.remove(0).call;
            self.read(now, call, PAGE_ENTRIES, &Filter::default(), actions);
        }
        let mut waiters = core::mem::take(&mut self.waiters);
        waiters.retain_mut(|waiter| {
            let (call, waited) = (waiter.call, now.mono.since(waiter.since));
            if now.mono >= waiter.until {
                actions.push(Action::Answer { call, result: Ok(Outcome::Nothing { waited }) });
                return false;
            }
            if now.mono >= waiter.progress {
                waiter.progress = now.mono + PROGRESS;
                actions.push(Action::Progress { call, waited, total: waiter.until.since(waiter.since) });
            }
            true
        });
        self.waiters = waiters;
    }

    /// Takes in an entry, and shows it.
    fn deliver(&mut self, entry: Entry, actions: &mut Vec<Action>) {
        if self.is_quiet(&entry) {
            if let Entry::Message(message) = &entry
                && self.keep_quiet(message, actions)
            {
                return;
            }
        } else if self.ready {
            actions.push(Action::Push(self.push(&entry)));
        }
        if self.takes(&entry) {
            self.take_in(entry, actions);
        }
    }

    fn notify(&mut self, server: &Server, text: String, actions: &mut Vec<Action>) {
        self.deliver(Entry::Notice(Notice { server: Some(server.clone()), text }), actions);
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Sends a command, or says why that cannot be.
    fn request(
        &mut self,
        server: &Server,
        command: Command,
        pending: Pending,
        actions: &mut Vec<Action>,
    ) -> Result<(), Failure> {
        let Some(link) = self.links.get(server) else { return Err(Failure::UnknownServer(self.servers())) };
        if let Some(why) = &link.trouble {
            return Err(Failure::Down { server: server.clone(), why: why.clone() });
        }
        if self.pending.len() >= MAX_PENDING {
            return Err(Failure::Busy);
        }
        let id = RequestId(self.fresh());
        self.pending.insert(id, pending);
        actions.push(Action::Request { server: server.clone(), id, command });
        Ok(())
    }

    fn servers(&self) -> Vec<Server> {
        self.links.iter().filter(|(_, link)| !link.disabled).map(|(server, _)| server.clone()).collect()
    }

    /// The server that the agent means.
    fn resolve(&self, name: Option<&str>) -> Result<Server, Failure> {
        let servers = self.servers();
        let mut named = servers.iter().filter(|server| name.is_none_or(|name| server.is_named(name)));
        match (named.next(), named.next()) {
            (Some(server), None) => Ok(server.clone()),
            (Some(_), Some(_)) => Err(Failure::WhichServer(servers)),
            (None, _) if servers.is_empty() => Err(Failure::NoServer),
            (None, _) => Err(Failure::UnknownServer(servers)),
        }
    }
}

/// What the human types to set a level.
pub(super) fn perm_command(server: &Server, scope: &Scope, level: Level) -> String {
    let scope = match scope {
        Scope::Channel(channel) => alloc::format!("--channel {}", shell_word(channel.as_str())),
        Scope::Whispers => String::from("--whisper"),
    };
    alloc::format!("conclave perm set {level} --server {} {scope}", shell_word(server.as_str()))
}
