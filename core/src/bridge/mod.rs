//! The bridge between an agent's client and the channels: everything that decides, and nothing that speaks.
//!
//! [`Bridge::handle`] takes what the client, the links, the clock and the human's configuration bring, and appends
//! what a shell must do. [`Bridge::next_deadline`] says when to bring [`Input::Tick`].

mod bridged_link;
mod call;
mod calls;
mod card;
mod frame;
mod guard;
mod guide;
mod inbox;
mod levels;
mod line;
mod links;
mod render;
mod replies;
mod server;
#[cfg(test)]
mod tests;
mod tools;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

pub use bridged_link::{BridgedLink, Step};
pub use call::{CallId, Failure, LinkStatus, MAX_TEXT, Outcome, Status, ToolCall};
pub use card::{Approver, CARD_LIFETIME, CardId, InvalidCardId, PermissionRequest, verdict};
pub use frame::{Framed, Place, beginning, body, escape, preamble};
pub use guard::Budget;
pub use guide::{INSTRUCTIONS, guide, tool_reference};
pub use inbox::{Dropped, Entry, Inbox, Message, Notice, Page, Source, Unread};
pub use levels::{InvalidLevel, Level, Levels, Permissions, Scope, advice};
pub use line::{Line, LineReader, MAX_LINE};
pub use links::LinkEvent;
pub use server::Server;
pub use tools::{Effect, Kind, Offered, Param, TOOLS, Tool, find};

use crate::link::RequestId;
use crate::name::{ChannelName, SessionPath};
use crate::opaque::Opaque;
use crate::protocol::Command;
use crate::text::shell_word;
use crate::time::{Monotonic, Now, UnixMillis};
use card::Cards;
use guard::Guard;
use replies::Pending;

/// Names a question to the human.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuestionId(pub u64);

/// What the human configured, read again whenever it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The levels.
    pub permissions: Permissions,
    /// Who may answer permission prompts.
    pub approvers: Vec<Approver>,
}

/// What is fixed for the life of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The servers, one link each.
    pub servers: Vec<Server>,
    /// The loop guard's budget.
    pub budget: Budget,
    /// How many bytes of unread messages are held.
    pub inbox: usize,
}

impl Options {
    /// These servers, a budget of 8 and 16 messages, an inbox of 4 MiB.
    pub fn new(servers: Vec<Server>) -> Self {
        Self { servers, budget: Budget::default(), inbox: 4 << 20 }
    }
}

/// What happens to a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The client is ready: from now on it is told things.
    Ready {
        /// Whether the client can ask its human (elicitation).
        asks: bool,
    },
    /// The agent calls a tool. Answered by one [`Action::Answer`], unless cancelled.
    Call {
        /// The call.
        id: CallId,
        /// What it asks.
        call: ToolCall,
    },
    /// The client no longer wants an answer. What an answer on its way has read is unread again.
    Cancel {
        /// The call.
        id: CallId,
    },
    /// A link has something to say.
    Link {
        /// Its server.
        server: Server,
        /// What.
        event: LinkEvent,
    },
    /// The client prompts its human for a permission.
    Prompt(PermissionRequest),
    /// The human answered [`Action::Ask`], or will not.
    Answered {
        /// The question.
        question: QuestionId,
        /// True only for an express yes.
        agreed: bool,
    },
    /// The human's configuration was written anew.
    Configured {
        /// What it says.
        settings: Settings,
        /// It was written, and says what it said before.
        again: bool,
    },
    /// Time has passed.
    Tick,
}

/// What a shell must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the server; its reply comes back as [`LinkEvent::Reply`].
    Request {
        /// On which link.
        server: Server,
        /// Under which name.
        id: RequestId,
        /// What.
        command: Command,
    },
    /// Answer a tool call.
    Answer {
        /// The call.
        call: CallId,
        /// With what.
        result: Result<Outcome, Failure>,
    },
    /// Tell the client that a call is still being waited on.
    Progress {
        /// The call.
        call: CallId,
        /// How long it has been waited.
        waited: Duration,
        /// How long it will be at most.
        total: Duration,
    },
    /// Show the agent something now.
    Push(Push),
    /// Tell the client that the list of tools has changed.
    ToolsChanged,
    /// Ask the human.
    Ask {
        /// The question's name.
        question: QuestionId,
        /// The question.
        text: String,
    },
    /// The question needs no answer any more.
    Withdraw {
        /// Which.
        question: QuestionId,
    },
    /// Tell the client how an approver decided on its prompt.
    Verdict {
        /// The prompt.
        id: CardId,
        /// Yes or no.
        allow: bool,
    },
}

/// What is shown to the agent as it comes: framed and escaped, both parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// The text.
    pub content: Opaque<String>,
    /// Attributes; the names are letters and `_` only.
    pub meta: Vec<(&'static str, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    /// `None` while it is up; else what is the matter.
    trouble: Option<String>,
    /// It will not come up again.
    disabled: bool,
    /// The agent was told that it is down.
    told: bool,
    /// It got another handle since it was up.
    renamed: bool,
    /// It has neither come up nor failed yet.
    starting: bool,
    path: Option<SessionPath>,
    admin: bool,
    joined: BTreeSet<ChannelName>,
    seen: BTreeMap<ChannelName, UnixMillis>,
}

/// A call that waits for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Waiter {
    call: CallId,
    since: Monotonic,
    until: Monotonic,
    progress: Monotonic,
}

/// A call made before its link first came up.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HeldCall {
    id: CallId,
    server: Server,
    call: ToolCall,
    until: Monotonic,
}

/// The human is being asked to raise a level.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Question {
    call: CallId,
    server: Server,
    scope: Scope,
    level: Level,
    /// The channel was joined by the same call.
    joining: bool,
    until: Monotonic,
}

/// The bridge. See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    links: BTreeMap<Server, Link>,
    levels: Levels,
    approvers: Vec<Approver>,
    /// Those of them whom nothing reaches, as last told.
    lost_approvers: Vec<Approver>,
    ready: bool,
    asks: bool,
    inbox: Inbox,
    guard: Guard,
    cards: Cards,
    waiters: Vec<Waiter>,
    held: Vec<HeldCall>,
    questions: BTreeMap<QuestionId, Question>,
    /// What the human declined, and until when it is not asked again.
    declined: BTreeMap<(Server, Scope), Monotonic>,
    pending: BTreeMap<RequestId, Pending>,
    /// The last read, until the next: its answer may cross a cancellation.
    last_read: Option<(CallId, Page)>,
    next: u64,
}

/// How often a waiting call reports progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// How long a question to the human stays open.
const QUESTION_LIFETIME: Duration = Duration::from_secs(300);
/// How long a human who declined is left alone.
const DECLINED_FOR: Duration = Duration::from_secs(600);
/// Entries and bytes of text in one answer.
const PAGE_ENTRIES: usize = 50;
const PAGE_BYTES: usize = 32 * 1024;
/// Bytes of a message that are pushed; the inbox has it whole.
const PUSH_BYTES: usize = 16 * 1024;
/// Calls that wait, and questions, at once.
const MAX_WAITERS: usize = 16;
const MAX_HELD: usize = 16;
/// How long a call waits for its link to come up for the first time.
const FIRST_CONNECT: Duration = Duration::from_secs(10);
const MAX_QUESTIONS: usize = 4;
const MAX_DECLINED: usize = 64;
/// Requests without a reply: more than a client with sense has open.
const MAX_PENDING: usize = 256;

impl Bridge {
    /// A bridge whose links are not up yet.
    pub fn new(options: Options, settings: Settings) -> Self {
        let link = |server| (server, Link::new());
        Self {
            links: options.servers.into_iter().map(link).collect(),
            levels: Levels::new(settings.permissions),
            approvers: settings.approvers,
            lost_approvers: Vec::new(),
            ready: false,
            asks: false,
            inbox: Inbox::new(options.inbox),
            guard: Guard::new(options.budget),
            cards: Cards::default(),
            waiters: Vec::new(),
            held: Vec::new(),
            questions: BTreeMap::new(),
            declined: BTreeMap::new(),
            pending: BTreeMap::new(),
            last_read: None,
            next: 0,
        }
    }

    /// Takes one input to its end.
    pub fn handle(&mut self, now: Now, input: Input, actions: &mut Vec<Action>) {
        let offered = self.offered();
        self.expire(now, actions);
        match input {
            Input::Ready { asks } => {
                self.check_approvers(actions);
                self.ready = true;
                self.asks = asks;
                // What came before the client was there is shown to it now.
                let pushes = self.inbox.entries().into_iter().map(|entry| Action::Push(self.push(entry)));
                actions.extend(pushes);
            }
            Input::Call { id, call } => self.call(now, id, call, actions),
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
                self.check_approvers(actions);
                self.guard.renew();
                self.declined.clear();
            }
            Input::Tick => {}
        }
        self.serve_waiters(now, actions);
        if self.ready && self.offered() != offered {
            actions.push(Action::ToolsChanged);
        }
    }

    /// When to bring [`Input::Tick`] at the latest.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let waiters = self.waiters.iter().map(|waiter| waiter.until.min(waiter.progress));
        let questions = self.questions.values().map(|question| question.until);
        let held = self.held.iter().map(|held| held.until);
        waiters.chain(questions).chain(held).chain(self.cards.next_expiry()).min()
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
        for question in self.questions.iter().filter_map(late).collect::<Vec<_>>() {
            actions.push(Action::Withdraw { question });
            self.answered(now, question, false, actions);
        }
        self.release(now, None, actions);
    }

    fn serve_waiters(&mut self, now: Now, actions: &mut Vec<Action>) {
        while !self.waiters.is_empty() && !self.inbox.is_empty() {
            let call = self.waiters.remove(0).call;
            self.read(call, PAGE_ENTRIES, actions);
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
        if self.ready {
            actions.push(Action::Push(self.push(&entry)));
        }
        self.inbox.push(entry);
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

impl Link {
    fn new() -> Self {
        Self {
            trouble: Some(String::from("connecting")),
            disabled: false,
            told: false,
            renamed: false,
            starting: true,
            path: None,
            admin: false,
            joined: BTreeSet::new(),
            seen: BTreeMap::new(),
        }
    }
}

/// What the human types to set a level.
fn perm_command(server: &Server, scope: &Scope, level: Level) -> String {
    let scope = match scope {
        Scope::Channel(channel) => alloc::format!("--channel {}", shell_word(channel.as_str())),
        Scope::Whispers => String::from("--whisper"),
    };
    alloc::format!("conclave perm set {level} --server {} {scope}", shell_word(server.as_str()))
}
