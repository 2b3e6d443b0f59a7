//! Permission cards of agents that name us as an approver.

use alloc::string::String;
use alloc::vec::Vec;

use super::replies::Pending;
use super::{Output, State};
use crate::bridge::{CARD_LIFETIME, CardId, Decision, card_id};
use crate::name::SessionPath;
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::Command;
use crate::time::{Monotonic, Now};

use super::message::Message;

/// Cards that are kept; the oldest makes room.
const MAX_CARDS: usize = 32;

/// A card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Who asks.
    pub from: SessionPath,
    /// What it is called.
    pub id: CardId,
    /// What it says; nothing in it is safe to print as it is.
    pub text: Opaque<String>,
    /// What became of it.
    pub state: CardState,
    /// Until then it can be answered.
    pub until: Monotonic,
}

/// What became of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardState {
    /// It waits for an answer.
    Waits,
    /// The answer is on its way.
    Answering {
        /// What it says.
        allow: bool,
    },
    /// The asking session said what the answer came to.
    Decided(Decision),
    /// The answer could not be sent.
    Failed,
}

impl Card {
    /// The lines that its session wrote about one part: `tool`, `description` or `input`.
    pub fn part(&self, name: &str) -> Vec<&str> {
        let mut lines = self
            .text
            .0
            .lines()
            .skip_while(|line| line.strip_prefix(name).is_none_or(|rest| !rest.starts_with(':')));
        let Some(first) = lines.next() else { return Vec::new() };
        let first = first[name.len() + 1..].trim();
        let rest = lines.take_while(|line| line.starts_with("  ")).map(|line| &line[2..]);
        core::iter::once(first).filter(|line| !line.is_empty()).chain(rest).collect()
    }
}

impl State {
    /// Looks whether a message of a mailbox is a card, or what an answer came to.
    pub(super) fn card(&mut self, now: Now, message: &Message) {
        let Some(text) = message.text() else { return };
        let trusted = message.proof != crate::link::Proof::Forged;
        if let Some(id) = card_id(text).filter(|_| trusted && !message.own) {
            let age = u64::try_from(now.wall.0.saturating_sub(message.at.0)).unwrap_or_default();
            let left = CARD_LIFETIME.saturating_sub(core::time::Duration::from_millis(age));
            let known = self.cards.iter().any(|card| card.id == id && card.from == message.from);
            if left.is_zero() || known {
                return;
            }
            if self.cards.len() >= MAX_CARDS {
                self.cards.remove(0);
            }
            let (from, text) = (message.from.clone(), Opaque(String::from(text)));
            self.cards.push(Card { from, id, text, state: CardState::Waits, until: now.mono + left });
        } else if let Some((id, decision)) = Decision::read(text).filter(|_| trusted) {
            self.decided(&message.from.clone(), id, decision, now);
        }
    }

    /// The asking session said what an answer came to.
    pub(super) fn decided(&mut self, from: &SessionPath, id: CardId, decision: Decision, now: Now) {
        if let Some(card) = self.cards.iter_mut().find(|card| card.id == id && card.from == *from) {
            card.state = CardState::Decided(decision);
            // Long enough to be read.
            card.until = card.until.min(now.mono + core::time::Duration::from_secs(20));
        }
    }

    pub(super) fn answer(
        &mut self,
        now: Now,
        (from, id, allow): (SessionPath, CardId, bool),
        out: &mut Vec<Output>,
    ) {
        let Some(card) = self.cards.iter_mut().find(|card| card.id == id && card.from == from) else {
            return;
        };
        if !matches!(card.state, CardState::Waits | CardState::Failed) {
            return;
        }
        card.state = CardState::Answering { allow };
        let word = if allow { "yes" } else { "no" };
        let payload = Payload::Plain(alloc::format!("{word} {id}"));
        let deadline = Some(now.mono + super::SEND_WITHIN);
        let pending = Pending::Verdict { from: from.clone(), id };
        self.ask(Command::Whisper { target: from, payload }, deadline, pending, out);
    }
}
