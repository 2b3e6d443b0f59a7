//! Permission prompts: relayed to approvers as cards, answered by verdicts.

use alloc::format;
use alloc::string::ToString as _;
use alloc::vec::Vec;

use super::Bridge;
use super::calls::Answer;
use super::state::{Awaited, Pending};
use crate::bridge::api::Action;
use crate::bridge::card::{Approver, CARD_LIFETIME, CardId, Foreign, PermissionRequest, verdict};
use crate::bridge::failure::Failure;
use crate::bridge::inbox::{Entry, Message, Notice};
use crate::bridge::levels::{Level, Scope};
use crate::bridge::server::Server;
use crate::bridge::tool_call::CallId;
use crate::name::SessionPath;
use crate::payload::Payload;
use crate::protocol::Command;
use crate::time::{Now, UnixMillis};

/// Approvers' sessions that a card is whispered to.
const MAX_RELAYED: usize = 16;

impl Bridge {
    pub(super) fn submit(
        &mut self,
        call: CallId,
        from: Option<SessionPath>,
        id: CardId,
        allow: bool,
        actions: &mut Vec<Action>,
    ) -> Answer {
        let named = |card: &&Foreign| card.id == id && from.as_ref().is_none_or(|from| *from == card.from);
        let cards: Vec<_> = self.cards.foreign.iter().filter(named).collect();
        let (server, to) = match cards[..] {
            [] => return Err(Failure::NoPrompt),
            [card] => (card.server.clone(), card.from.clone()),
            _ => return Err(Failure::WhichPrompt(cards.iter().map(|card| card.from.clone()).collect())),
        };
        if !self.levels.level(&server, &Scope::Whispers).may_emit() {
            return Err(self.too_low(&server, Scope::Whispers, Level::Converse));
        }
        let text = format!("{} {id}", if allow { "yes" } else { "no" });
        let command = Command::Whisper { target: to.clone(), payload: Payload::Plain(text) };
        self.ask(&server, call, command, Awaited::Verdict { to, id, allow }, actions)
    }

    /// Takes a whisper as the verdict on an open prompt of this session's client. False if it is none.
    pub(super) fn take_verdict(&mut self, message: &Message, actions: &mut Vec<Action>) -> bool {
        let Payload::Plain(text) = &message.payload else { return false };
        let Some((id, allow)) = verdict(text) else { return false };
        if !self.approves(&message.from, &message.server) || self.cards.own.remove(&id).is_none() {
            return false;
        }
        actions.push(Action::Verdict { id, allow });
        true
    }

    /// True for a session, not this one, of an approver.
    fn approves(&self, path: &SessionPath, server: &Server) -> bool {
        let own = self.links.get(server).is_none_or(|link| link.path.as_ref() == Some(path));
        !own && self.approvers.iter().any(|approver| approver.is(&path.user, server, self.links.len()))
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
        let who = Command::Who { channel: None };
        if self.request(server, who, Pending::Approvers { id }, actions).is_ok()
            && let Some(card) = self.cards.own.get_mut(&id)
        {
            card.relayed.insert(server.clone());
        }
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
