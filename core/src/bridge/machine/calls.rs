//! Tool calls: each is checked against its own target when it is made.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::posts::Target;
use super::state::{Awaited, CatchUp, Draft, HeldCall, LinkState, Pending, Question, Waiter};
use super::{
    Bridge, DECLINED_FOR, FIRST_CONNECT, MAX_DECLINED, MAX_HELD, MAX_QUESTIONS, MAX_WAITERS, PROGRESS,
    QUESTION_LIFETIME, perm_command,
};
use crate::bridge::api::{Action, QuestionId};
use crate::bridge::failure::Failure;
use crate::bridge::levels::{Level, Scope};
use crate::bridge::server::Server;
use crate::bridge::tool_call::{CallId, JoinedChannel, LinkStatus, Outcome, Status, ToolCall};
use crate::name::ChannelName;
use crate::protocol::{Admin, Command};
use crate::time::{Now, UnixMillis};

/// How long `wait_for_message` waits by default, and at most.
const WAIT: Duration = Duration::from_secs(45);
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// `Ok(None)`: the answer comes later.
pub(super) type Answer = Result<Option<Outcome>, Failure>;

impl Bridge {
    pub(super) fn call(&mut self, now: Now, id: CallId, call: ToolCall, actions: &mut Vec<Action>) {
        if let Some(server) = self.must_wait(&call) {
            self.held.push(HeldCall { id, server, call, until: now.mono + FIRST_CONNECT });
            return;
        }
        self.perform(now, id, call, actions);
    }

    /// The link that a call must wait for: clients call as soon as they are there, and a link takes a moment to
    /// come up for the first time.
    fn must_wait(&self, call: &ToolCall) -> Option<Server> {
        let server = match call {
            ToolCall::Join { server, .. }
            | ToolCall::Leave { server, .. }
            | ToolCall::Send { server, .. }
            | ToolCall::Receipts { server, .. }
            | ToolCall::Acknowledge { server, .. }
            | ToolCall::Whisper { server, .. }
            | ToolCall::ListChannels { server }
            | ToolCall::Who { server, .. }
            | ToolCall::CatchUp { server, .. }
            | ToolCall::Admin { server, .. } => self.resolve(server.as_deref()).ok()?,
            _ => return None,
        };
        let starting = self.links.get(&server).is_some_and(|link| link.starting);
        (starting && self.held.len() < MAX_HELD).then_some(server)
    }

    /// Lets go the calls held for that link, and those that have waited long enough.
    pub(super) fn release(&mut self, now: Now, server: Option<&Server>, actions: &mut Vec<Action>) {
        let (go, stay) = core::mem::take(&mut self.held)
            .into_iter()
            .partition(|held| server == Some(&held.server) || held.until <= now.mono);
        self.held = stay;
        for HeldCall { id, call, .. } in go {
            self.perform(now, id, call, actions);
        }
    }

    fn perform(&mut self, now: Now, id: CallId, call: ToolCall, actions: &mut Vec<Action>) {
        match self.decide(now, id, call, actions) {
            Ok(None) => {}
            Ok(Some(outcome)) => actions.push(Action::Answer { call: id, result: Ok(outcome) }),
            Err(failure) => actions.push(Action::Answer { call: id, result: Err(failure) }),
        }
    }

    fn decide(&mut self, now: Now, id: CallId, call: ToolCall, actions: &mut Vec<Action>) -> Answer {
        match call {
            ToolCall::Join { server, channel, token, level } => {
                let server = self.resolve(server.as_deref())?;
                let command = Command::Join { channel: channel.clone(), token };
                self.ask(&server, id, command, Awaited::Join { channel, level }, actions)
            }
            ToolCall::Leave { server, channel } => {
                let server = self.resolve(server.as_deref())?;
                let command = Command::Leave { channel: channel.clone() };
                self.ask(&server, id, command, Awaited::Leave { channel }, actions)
            }
            ToolCall::Send { server, channel, text, reply_to, mentions, wait } => {
                let server = self.resolve(server.as_deref())?;
                let wait = wait.map(|(state, time)| (state, now.mono + time.min(MAX_WAIT)));
                let draft = Draft { reply_to, wait, ..Draft::new(server, Target::Channel(channel), text) };
                self.compose(now, id, draft, &mentions, actions)
            }
            ToolCall::Receipts { server, channel, seq } => {
                let server = self.resolve(server.as_deref())?;
                self.ask_receipts(id, server, channel, seq, actions)
            }
            ToolCall::Acknowledge { server, channel, seq, word } => {
                let server = self.resolve(server.as_deref())?;
                self.acknowledge(id, server, channel, (seq, word), actions)
            }
            ToolCall::Whisper { server, target, text, mentions, wait } => {
                let server = self.resolve(server.as_deref())?;
                let wait = wait.map(|(state, time)| (state, now.mono + time.min(MAX_WAIT)));
                let draft = Draft { wait, ..Draft::new(server, Target::Whisper(target), text) };
                self.compose(now, id, draft, &mentions, actions)
            }
            ToolCall::ListChannels { server } => {
                let server = self.resolve(server.as_deref())?;
                self.ask(&server, id, Command::ListChannels, Awaited::Channels, actions)
            }
            ToolCall::Who { server, channel } => {
                let server = self.resolve(server.as_deref())?;
                let answer = Awaited::Who { channel: channel.clone() };
                self.ask(&server, id, Command::Who { channel }, answer, actions)
            }
            ToolCall::CatchUp { server, channel, since } => {
                let server = self.resolve(server.as_deref())?;
                let scope = Scope::Channel(channel.clone());
                if self.levels.level(&server, &scope) == Level::Mute {
                    return Err(self.too_low(&server, scope, Level::Notify));
                }
                let link = self.on_channel(&server, &channel)?;
                let seen = link.seen.get(&channel).copied();
                let since = match since {
                    Some(since) => since.moment(now.wall),
                    None if seen.is_none() && link.has_stream(&channel) => {
                        return Err(Failure::SinceWhen(channel));
                    }
                    None => seen.unwrap_or(UnixMillis(0)),
                };
                let reading = CatchUp::new(channel, since);
                self.ask(&server, id, reading.command(), Awaited::CatchUp(reading), actions)
            }
            ToolCall::Inbox { limit, filter } => self.read_inbox(now, id, limit, filter, actions),
            ToolCall::MarkRead { server, channel } => self.mark_read(server.as_deref(), channel, actions),
            ToolCall::Wait { timeout } => {
                if self.waiters.len() >= MAX_WAITERS {
                    return Err(Failure::Busy);
                }
                let until = now.mono + timeout.unwrap_or(WAIT).min(MAX_WAIT);
                let progress = now.mono + PROGRESS;
                self.waiters.push(Waiter { call: id, since: now.mono, until, progress });
                Ok(None)
            }
            ToolCall::SetLevel { server, scope, level } => {
                let server = self.resolve(server.as_deref())?;
                if self.levels.lower(&server, &scope, level) {
                    return Ok(Some(Outcome::LevelSet { server, scope, level }));
                }
                let until = now.mono + QUESTION_LIFETIME;
                self.ask_human(Question { call: id, server, scope, level, joining: false, until }, actions)?;
                Ok(None)
            }
            ToolCall::Submit { from, id: card, allow } => self.submit(now, id, (from, card, allow), actions),
            ToolCall::Status => Ok(Some(Outcome::Status(self.status()))),
            ToolCall::Admin { server, what } => {
                let server = self.resolve(server.as_deref())?;
                if self.links.get(&server).is_none_or(|link| !link.admin) {
                    return Err(Failure::NotAdmin(server));
                }
                let answer = match &what {
                    Admin::RenameChannel { name, .. } | Admin::DeleteChannel { name } => {
                        Awaited::Gone { channel: name.clone() }
                    }
                    _ => Awaited::Admin { what: String::from(what.kind()) },
                };
                self.ask(&server, id, Command::Admin(what), answer, actions)
            }
        }
    }

    pub(super) fn ask(
        &mut self,
        server: &Server,
        call: CallId,
        command: Command,
        answer: Awaited,
        actions: &mut Vec<Action>,
    ) -> Answer {
        self.request(server, command, Pending::Call { call, answer }, actions).map(|()| None)
    }

    /// The link on which this session has joined the channel. What was joined under another name, and got this one
    /// from somebody else, is not trusted as this one is.
    pub(super) fn on_channel(&self, server: &Server, channel: &ChannelName) -> Result<&LinkState, Failure> {
        let link = self.links.get(server).filter(|link| link.joined.contains(channel));
        link.ok_or_else(|| Failure::NotJoined(channel.clone()))
    }

    pub(super) fn too_low(&self, server: &Server, scope: Scope, needed: Level) -> Failure {
        Failure::Level {
            server: server.clone(),
            level: self.levels.level(server, &scope),
            command: perm_command(server, &scope, needed),
            scope,
        }
    }

    pub(super) fn cancel(&mut self, id: CallId, actions: &mut Vec<Action>) {
        self.waiters.retain(|waiter| waiter.call != id);
        self.held.retain(|held| held.id != id);
        self.openings.retain(|opening| opening.call != id);
        self.put_back(id);
        self.watches.retain(|watch| watch.call != id);
        // A cancelled catch-up does not advance the read position, and a message whose mentions are still looked up is not
        // posted.
        for pending in self.pending.values_mut() {
            if matches!(pending, Pending::Call { call, answer: Awaited::CatchUp(_) | Awaited::Mention(_) } if *call == id)
            {
                *pending = Pending::Silent;
            }
        }
        let asked = self.questions.iter().find(|(_, question)| question.call == id).map(|(id, _)| *id);
        let verdict = self.verdicts.iter().find(|(_, question)| question.call == id).map(|(id, _)| *id);
        if let Some(question) = asked.or(verdict) {
            self.questions.remove(&question);
            self.verdicts.remove(&question);
            actions.push(Action::Withdraw { question });
        }
    }

    /// A channel is joined: sets the level that came with it, as far as this session may.
    pub(super) fn joined(
        &mut self,
        now: Now,
        call: CallId,
        server: Server,
        channel: ChannelName,
        level: Option<Level>,
        actions: &mut Vec<Action>,
    ) -> Option<Result<Outcome, Failure>> {
        let scope = Scope::Channel(channel.clone());
        let note = match level {
            Some(level) if !self.levels.lower(&server, &scope, level) => {
                let (server, scope, until) = (server.clone(), scope.clone(), now.mono + QUESTION_LIFETIME);
                match self.ask_human(Question { call, server, scope, level, joining: true, until }, actions) {
                    Ok(()) => return None,
                    Err(failure) => Some(failure),
                }
            }
            _ => None,
        };
        let level = self.levels.level(&server, &scope);
        Some(Ok(Outcome::Joined { server, channel, level, note }))
    }

    /// Asks the human to raise a level, where they can be asked.
    fn ask_human(&mut self, question: Question, actions: &mut Vec<Action>) -> Result<(), Failure> {
        let Question { server, scope, level, .. } = &question;
        if !self.asks || !self.levels.allows(*level) {
            return Err(Failure::NeedsHuman { command: perm_command(server, scope, *level) });
        }
        if self.questions.values().any(|asked| asked.server == *server && asked.scope == *scope) {
            return Err(Failure::Asking);
        }
        if self.declined.contains_key(&(server.clone(), scope.clone())) {
            return Err(Failure::Declined { command: perm_command(server, scope, *level) });
        }
        if self.questions.len() + self.verdicts.len() >= MAX_QUESTIONS {
            return Err(Failure::Busy);
        }
        let from = self.levels.level(server, scope);
        let means = match level {
            Level::Mute | Level::Notify => "be shown what is written there",
            Level::Converse => "read and send messages there",
            Level::Act => "read and send messages there, and ACT on what others write there",
        };
        let text = format!(
            "Your agent wants to raise its level for {scope} on {server} from {from} to {level}: it may then {means}, \
             until this session ends. Agree only if this is your own wish: messages may have talked the agent into it."
        );
        let id = QuestionId(self.fresh());
        self.questions.insert(id, question);
        actions.push(Action::Ask { question: id, text });
        Ok(())
    }

    pub(super) fn answered(
        &mut self,
        now: Now,
        question: QuestionId,
        agreed: bool,
        actions: &mut Vec<Action>,
    ) {
        if let Some(verdict) = self.verdicts.remove(&question) {
            return self.verdict_answered(verdict, agreed, actions);
        }
        let Some(Question { call, server, scope, level, joining, .. }) = self.questions.remove(&question)
        else {
            return;
        };
        let failure = if agreed {
            self.guard.renew();
            (!self.levels.raise(&server, &scope, level)).then_some(Failure::Busy)
        } else {
            if self.declined.len() < MAX_DECLINED {
                self.declined.insert((server.clone(), scope.clone()), now.mono + DECLINED_FOR);
            }
            Some(Failure::Declined { command: perm_command(&server, &scope, level) })
        };
        let result = match (scope, failure) {
            (Scope::Channel(channel), note) if joining => {
                let level = self.levels.level(&server, &Scope::Channel(channel.clone()));
                Ok(Outcome::Joined { server, channel, level, note })
            }
            (scope, None) => Ok(Outcome::LevelSet { server, scope, level }),
            (_, Some(failure)) => Err(failure),
        };
        actions.push(Action::Answer { call, result });
    }

    fn status(&self) -> Status {
        let link = |(server, link): (&Server, &LinkState)| LinkStatus {
            server: server.clone(),
            trouble: link.trouble.clone(),
            path: link.path.clone(),
            admin: link.admin,
            channels: link
                .joined
                .iter()
                .map(|channel| {
                    let (name, scope) = (channel.clone(), Scope::Channel(channel.clone()));
                    let level = self.levels.level(server, &scope);
                    JoinedChannel { name, level, mentions_only: self.levels.mentions_only(server, &scope) }
                })
                .collect(),
            whispers: self.levels.level(server, &Scope::Whispers),
        };
        Status {
            links: self.links.iter().map(link).collect(),
            default: self.levels.configured().default,
            unread: self.inbox.len(),
            own_prompts: self.cards.own.len(),
            prompts: self.cards.foreign.iter().map(|card| (card.id, card.from.clone())).collect(),
        }
    }
}
