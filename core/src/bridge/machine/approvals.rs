//! Permission prompts: relayed to approvers as cards, answered by verdicts.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::time::Duration;

use super::calls::Answer;
use super::state::{Awaited, LinkState, Pending, VerdictQuestion};
use super::{Bridge, MAX_QUESTIONS, QUESTION_LIFETIME};
use crate::body::View;
use crate::bridge::api::{Action, QuestionId};
use crate::bridge::bindings::Bound;
use crate::bridge::card::{Approver, CARD_LIFETIME, CardId, Decision, Foreign, PermissionRequest, verdict};
use crate::bridge::failure::Failure;
use crate::bridge::inbox::{Entry, Message, Notice};
use crate::bridge::levels::{Level, Scope};
use crate::bridge::server::Server;
use crate::bridge::tool_call::CallId;
use crate::link::{Proof, RequestError};
use crate::name::{SessionPath, UserName};
use crate::payload::Payload;
use crate::protocol::{Command, Reply};
use crate::stream::{ContactChange, MailboxRef, StreamCommand, StreamRef, StreamReply};
use crate::text::{shell_word, visible};
use crate::time::{Now, UnixMillis};

/// Approvers' sessions that a card is whispered to.
const MAX_RELAYED: usize = 16;

/// How long the answer to a verdict waits for whoever gave it.
const DECISION_LIFETIME: Duration = Duration::from_secs(60);

/// Every line of another's text, so that none passes for one of ours.
fn quoted(text: &str) -> String {
    let shown = visible(text);
    let lines: Vec<_> = shown.lines().map(|line| format!("| {line}")).collect();
    lines.join("\n")
}

impl Bridge {
    /// Asks the human for the verdict that their agent wants to give: no agent gives one by itself.
    pub(super) fn submit(
        &mut self,
        now: Now,
        call: CallId,
        (from, id, allow): (Option<SessionPath>, CardId, bool),
        actions: &mut Vec<Action>,
    ) -> Answer {
        let named = |card: &&Foreign| card.id == id && from.as_ref().is_none_or(|from| *from == card.from);
        let cards: Vec<_> = self.cards.foreign.iter().filter(named).collect();
        let (server, to, card) = match cards[..] {
            [] => return Err(Failure::NoPrompt),
            [card] => (card.server.clone(), card.from.clone(), card.text.0.clone()),
            _ => return Err(Failure::WhichPrompt(cards.iter().map(|card| card.from.clone()).collect())),
        };
        if !self.levels.level(&server, &Scope::Whispers).may_emit() {
            return Err(self.too_low(&server, Scope::Whispers, Level::Converse));
        }
        if !self.asks {
            let word = if allow { "approve" } else { "deny" };
            let command = format!("conclave {word} {id} --to {}", shell_word(&to.to_string()));
            return Err(Failure::HumanDecides { command });
        }
        if self.questions.len() + self.verdicts.len() >= MAX_QUESTIONS {
            return Err(Failure::Busy);
        }
        let word = if allow { "ALLOW" } else { "DENY" };
        let text = format!(
            "Another session asks for permission. Accept to answer {word}; decline to send no answer. What it asks, in its \
             own words, each line after '| ':\n{}",
            quoted(&card)
        );
        let question = QuestionId(self.fresh());
        let until = now.mono + QUESTION_LIFETIME;
        self.verdicts.insert(question, VerdictQuestion { call, server, to, id, allow, until });
        actions.push(Action::Ask { question, text });
        Ok(None)
    }

    /// The human confirmed a verdict, or did not.
    pub(super) fn verdict_answered(
        &mut self,
        verdict: VerdictQuestion,
        agreed: bool,
        actions: &mut Vec<Action>,
    ) {
        let VerdictQuestion { call, server, to, id, allow, .. } = verdict;
        let sent = if agreed {
            let text = format!("{} {id}", if allow { "yes" } else { "no" });
            let command = Command::Whisper { target: to.clone(), payload: Payload::Plain(text) };
            self.ask(&server, call, command, Awaited::Verdict { to, id, allow }, actions)
        } else {
            Err(Failure::NotConfirmed)
        };
        if let Err(failure) = sent {
            actions.push(Action::Answer { call, result: Err(failure) });
        }
    }

    /// Takes a whisper as the verdict on an open prompt of this session's client. False if it is none. An approver is
    /// told what became of it.
    pub(super) fn take_verdict(&mut self, message: &Message, actions: &mut Vec<Action>) -> bool {
        let Ok(View::Text(text)) = message.payload.view() else { return false };
        let Some((id, allow)) = verdict(text) else { return false };
        if !self.approves(&message.from, &message.server) || !self.is_from_bound(message) {
            return false;
        }
        let decision = self.cards.decide(id);
        let stream = StreamRef::Mailbox(MailboxRef::Session(Box::new(message.from.clone())));
        let payload = Payload::Plain(decision.whisper(id));
        let told = match self.links.get(&message.server) {
            Some(link) if link.mailboxes => {
                let lifetime = Some(DECISION_LIFETIME);
                Command::Stream(StreamCommand::post(stream, payload).with_lifetime(lifetime))
            }
            _ => Command::Whisper { target: message.from.clone(), payload },
        };
        let _ = self.request(&message.server, told, Pending::Silent, actions);
        if decision == Decision::Accepted {
            actions.push(Action::Verdict { id, allow });
        }
        decision == Decision::Accepted
    }

    /// Asks a server of version 2 whose the names of the approvers are.
    pub(super) fn check_who_approves(&mut self, server: &Server, actions: &mut Vec<Action>) {
        if self.links.get(server).is_some_and(LinkState::tells_numbers) {
            self.look_up_approvers(server, None, actions);
        }
    }

    fn look_up_approvers(&mut self, server: &Server, card: Option<CardId>, actions: &mut Vec<Action>) {
        let count = self.links.len();
        let may = |approver: &&Approver| approver.may_be_on(server, count);
        let users: Vec<_> = self.approvers.iter().filter(may).map(|it| it.user().clone()).collect();
        for user in users.into_iter().take(MAX_RELAYED) {
            let keys = Command::Stream(StreamCommand::Keys { user: user.clone() });
            // An approver out of reach is one who does not answer: the client's own human still can.
            let _ = self.request(server, keys, Pending::Approver { user, card }, actions);
        }
    }

    /// The server said whose an approver's name is: only the user who had it at its first use may approve. That user may
    /// write to this one, since verdicts have to arrive, and gets the card.
    pub(super) fn approver_found(
        &mut self,
        server: &Server,
        (user, card): (UserName, Option<CardId>),
        result: Result<Reply, RequestError>,
        actions: &mut Vec<Action>,
    ) {
        let found = match result {
            Ok(Reply::Stream(StreamReply::Keys { user, .. })) => Some(user),
            Ok(Reply::Refused(_)) => None,
            _ => return,
        };
        let is_bound = match (found, self.levels.approver(server, &user)) {
            (Some(found), Some(bound)) => found == bound,
            (Some(found), None) => {
                let bound = Bound::User(user.clone(), found);
                self.levels.bind(server, bound.clone());
                actions.push(Action::Bind { server: server.clone(), bound });
                true
            }
            (None, _) => false,
        };
        let Some(link) = self.links.get_mut(server) else { return };
        let known = link.approvers.iter().position(|(name, _)| *name == user);
        let before = known.map(|at| link.approvers.swap_remove(at).1);
        link.approvers.push((user.clone(), is_bound));
        if is_bound {
            if before != Some(true) {
                let (user, change) = (user.clone(), ContactChange::Allow);
                let allow = Command::Stream(StreamCommand::SetContact { user, change });
                let _ = self.request(server, allow, Pending::Silent, actions);
            }
            if let Some(card) = card {
                self.post_card(server, card, user, actions);
            }
        } else if before != Some(false) {
            let shown = shell_word(user.as_str());
            let why = match found {
                Some(_) => format!(
                    "the name belongs to somebody else than when it was first used. If that is right, your user types: \
                     conclave verify {shown} --accept --server {server}"
                ),
                None => {
                    "nobody of that name shares a channel with your user, or allows your user to write".into()
                }
            };
            self.notify(
                server,
                format!("Permission requests do not go to {shown} on {server}: {why}"),
                actions,
            );
        }
    }

    /// True for a session, not this one, of an approver.
    fn approves(&self, path: &SessionPath, server: &Server) -> bool {
        let own = self.links.get(server).is_none_or(|link| link.path.as_ref() == Some(path));
        !own && self.approvers.iter().any(|approver| approver.is(&path.user, server, self.links.len()))
    }

    /// Whether an approver's message is from the user whom the name is bound to. Version 1 tells no numbers. A message
    /// without a signature is from whom the server says.
    fn is_from_bound(&self, message: &Message) -> bool {
        let (server, user) = (&message.server, &message.from.user);
        let Some(link) = self.links.get(server).filter(|link| link.tells_numbers()) else { return true };
        if !link.approvers.iter().any(|(name, is_bound)| name == user && *is_bound) {
            return false;
        }
        let bound = self.levels.approver(server, user);
        let Some(place) = &message.place else { return true };
        let is_signed = matches!(place.proof, Proof::Verified | Proof::Unsigned);
        is_signed && bound.is_some() && place.origin.sender.map(|(sender, _)| sender) == bound
    }

    /// Notifies the agent once of approvers whom no permission request reaches, since no linked server has them.
    pub(super) fn check_approvers(&mut self, actions: &mut Vec<Action>) {
        // A disabled link counts: whom a name means must not depend on which links are up.
        let count = self.links.len();
        let linked: Vec<_> =
            self.links.iter().filter(|(_, link)| !link.disabled).map(|(server, _)| server).collect();
        let nowhere = |approver: &&Approver| !linked.iter().any(|server| approver.may_be_on(server, count));
        let lost: Vec<_> = self.approvers.iter().filter(nowhere).cloned().collect();
        if linked.is_empty() || lost == self.unreachable_approvers {
            return;
        }
        let text = format!(
            "Permission requests do not reach {}: your user has to write on which server that is, as USER@SERVER. This \
             bridge is linked with {}.",
            lost.iter().map(Approver::to_string).collect::<Vec<_>>().join(", "),
            linked.iter().map(|server| server.as_str()).collect::<Vec<_>>().join(", ")
        );
        self.unreachable_approvers = lost;
        if !self.unreachable_approvers.is_empty() {
            self.deliver(Entry::Notice(Notice { server: None, text }), actions);
        }
    }

    pub(super) fn prompt(&mut self, now: Now, request: PermissionRequest, actions: &mut Vec<Action>) {
        let id = request.id;
        let lifetime = i64::try_from(CARD_LIFETIME.as_millis()).unwrap_or(i64::MAX);
        let expires = UnixMillis(now.wall.0.saturating_add(lifetime));
        if self.approvers.is_empty() || !self.cards.open(now.mono, expires, request) {
            return;
        }
        let servers: Vec<_> = self.links.keys().cloned().collect();
        for server in &servers {
            self.relay(server, id, actions);
        }
    }

    /// Looks for approvers on a server, where there may be some.
    pub(super) fn relay(&mut self, server: &Server, id: CardId, actions: &mut Vec<Action>) {
        let count = self.links.len();
        let may = |approver: &Approver| approver.may_be_on(server, count);
        let asked = self.cards.own.get(&id).is_none_or(|card| card.relayed.contains(server));
        if asked || !self.approvers.iter().any(may) {
            return;
        }
        if self.links.get(server).is_some_and(LinkState::tells_numbers) {
            if let Some(card) = self.cards.own.get_mut(&id) {
                card.relayed.insert(server.clone());
            }
            // The human may have said meanwhile whom a name means.
            actions.push(Action::LoadBindings { server: server.clone() });
            return self.look_up_approvers(server, Some(id), actions);
        }
        let who = Command::Who { channel: None };
        if self.request(server, who, Pending::Approvers { id }, actions).is_ok()
            && let Some(card) = self.cards.own.get_mut(&id)
        {
            card.relayed.insert(server.clone());
        }
    }

    /// Puts a card into an approver's mailbox, where it waits until it expires.
    fn post_card(&mut self, server: &Server, id: CardId, user: UserName, actions: &mut Vec<Action>) {
        let own = self.links.get(server).and_then(|link| link.path.clone());
        let (Some(own), Some(card)) = (own, self.cards.own.get(&id)) else { return };
        let text = card.request.card(&own, card.expires);
        let post = StreamCommand::post(StreamRef::Mailbox(MailboxRef::User(user)), Payload::Plain(text));
        let command = Command::Stream(post.with_lifetime(Some(CARD_LIFETIME)));
        let _ = self.request(server, command, Pending::Silent, actions);
    }

    /// Whispers a card to the approvers among `sessions`.
    pub(super) fn whisper_card<'a>(
        &mut self,
        server: &Server,
        id: CardId,
        sessions: impl Iterator<Item = &'a SessionPath>,
        actions: &mut Vec<Action>,
    ) {
        let own = self.links.get(server).and_then(|link| link.path.clone());
        let (Some(own), Some(card)) = (own, self.cards.own.get(&id)) else { return };
        let text = card.request.card(&own, card.expires);
        let targets: Vec<_> =
            sessions.filter(|path| self.approves(path, server)).take(MAX_RELAYED).cloned().collect();
        for target in targets {
            let whisper = Command::Whisper { target, payload: Payload::Plain(text.clone()) };
            // An approver out of reach is one who does not answer: the client's own human still can.
            let _ = self.request(server, whisper, Pending::Silent, actions);
        }
    }
}
