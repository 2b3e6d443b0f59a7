//! The loop guard: agents that only answer each other come to an end.
//!
//! An *exchange* is what goes on in one place (a channel, or the whispers with one user) until something new
//! comes from outside. In it the session may send [`Budget::alone`] messages in a row that nobody answers, and
//! [`Budget::exchange`] in all. New from outside are: a user who did not speak since the session's last
//! [`Budget::fresh`] sends or more (who takes turns with the session is part of the exchange, so that neither two
//! agents nor a ring of them renew each other's budget), [`Budget::quiet`] in which nobody sent there, and
//! whatever the session's own human does ([`Guard::renew`]). All sessions of a user count as one.
//!
//! Many users who take turns would each be new when they speak again. So the whole *conversation*, what goes on in a place
//! until it is quiet there or the session's human does something, is bounded too: [`Budget::conversation`].

use alloc::collections::BTreeMap;
use core::time::Duration;

use super::server::Server;
use crate::name::{ChannelName, UserName};
use crate::time::Monotonic;

/// Where an exchange goes on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Venue {
    Channel(Server, ChannelName),
    Whispers(Server, UserName),
}

/// What an exchange may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// How many messages in a row without one from anybody else.
    pub alone: u32,
    /// How many messages in all.
    pub exchange: u32,
    /// How many messages in all while the place is never quiet, whoever else speaks there.
    pub conversation: u32,
    /// How many own sends a user must have let pass to count as new.
    pub fresh: u32,
    /// After how long without a message an exchange is over.
    pub quiet: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self { alone: 8, exchange: 16, conversation: 128, fresh: 4, quiet: Duration::from_secs(600) }
    }
}

/// Why a send is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exhausted {
    Alone(u32),
    Exchange(u32),
    Conversation(u32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Exchange {
    sent: u32,
    unanswered: u32,
    /// What was sent in the whole conversation.
    conversation: u32,
    /// The value of `sent` when each user last spoke.
    spoke: BTreeMap<UserName, u32>,
    last: Monotonic,
}

/// Counts what the session sends, per venue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guard {
    budget: Budget,
    exchanges: BTreeMap<Venue, Exchange>,
}

/// Venues and users that are remembered; the one silent for longest is forgotten first.
const MAX_VENUES: usize = 256;
const MAX_SPEAKERS: usize = 64;

impl Guard {
    pub(crate) fn new(budget: Budget) -> Self {
        Self { budget, exchanges: BTreeMap::new() }
    }

    /// Whether the session may send there now.
    pub(crate) fn check(&self, now: Monotonic, venue: &Venue) -> Result<(), Exhausted> {
        match self.exchanges.get(venue) {
            Some(exchange) if now.since(exchange.last) < self.budget.quiet => {
                if exchange.unanswered >= self.budget.alone {
                    Err(Exhausted::Alone(exchange.unanswered))
                } else if exchange.sent >= self.budget.exchange {
                    Err(Exhausted::Exchange(exchange.sent))
                } else if exchange.conversation >= self.budget.conversation {
                    Err(Exhausted::Conversation(exchange.conversation))
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }

    /// The session sends there.
    pub(crate) fn sent(&mut self, now: Monotonic, venue: Venue) {
        if !self.exchanges.contains_key(&venue) && self.exchanges.len() >= MAX_VENUES {
            let oldest = self.exchanges.iter().min_by_key(|(_, exchange)| exchange.last);
            if let Some(oldest) = oldest.map(|(venue, _)| venue.clone()) {
                self.exchanges.remove(&oldest);
            }
        }
        let new = Exchange { sent: 0, unanswered: 0, conversation: 0, spoke: BTreeMap::new(), last: now };
        let exchange = self.exchanges.entry(venue).or_insert_with(|| new.clone());
        if now.since(exchange.last) >= self.budget.quiet {
            *exchange = new;
        }
        exchange.sent += 1;
        exchange.unanswered += 1;
        exchange.conversation += 1;
        exchange.last = now;
    }

    /// Somebody else sent there.
    pub(crate) fn heard(&mut self, now: Monotonic, venue: &Venue, from: &UserName) {
        let Some(exchange) = self.exchanges.get_mut(venue) else { return };
        if now.since(exchange.last) >= self.budget.quiet {
            self.exchanges.remove(venue);
            return;
        }
        exchange.unanswered = 0;
        exchange.last = now;
        // Nobody is new before the session has sent: it is then that an exchange begins.
        let spoke = exchange.spoke.get(from).copied();
        if spoke.map_or(exchange.sent, |spoke| exchange.sent - spoke) >= self.budget.fresh {
            exchange.sent = 0;
            exchange.spoke.clear();
        }
        if exchange.spoke.len() >= MAX_SPEAKERS && !exchange.spoke.contains_key(from) {
            let oldest = exchange.spoke.iter().min_by_key(|(_, spoke)| **spoke).map(|(user, _)| user.clone());
            if let Some(oldest) = oldest {
                exchange.spoke.remove(&oldest);
            }
        }
        exchange.spoke.insert(from.clone(), exchange.sent);
    }

    /// The session's human did something: every exchange begins anew.
    pub(crate) fn renew(&mut self) {
        self.exchanges.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec::Vec;

    fn venue() -> Venue {
        Venue::Channel(Server::new("wss://a"), ChannelName::new("ops").unwrap())
    }

    fn user(name: &str) -> UserName {
        UserName::new(name).unwrap()
    }

    /// Sends once after each of `turns`, a second apart, and counts the sends until one is refused.
    fn sends<'a>(turns: impl Iterator<Item = Vec<&'a str>>) -> usize {
        let mut guard = Guard::new(Budget::default());
        let mut now = Monotonic(0);
        for (count, speakers) in turns.enumerate() {
            for speaker in speakers {
                guard.heard(now, &venue(), &user(speaker));
            }
            if guard.check(now, &venue()).is_err() {
                return count;
            }
            guard.sent(now, venue());
            now.0 += 1000;
        }
        usize::MAX
    }

    #[test]
    fn talking_alone_ends() {
        assert_eq!(sends((0..100).map(|_| Vec::new())), 8);
    }

    #[test]
    fn two_agents_answering_each_other_end() {
        assert_eq!(sends((0..100).map(|_| Vec::from(["bob"]))), 16);
    }

    #[test]
    fn a_ring_of_agents_ends() {
        let ring: Vec<_> = (0..40).map(|n| format!("agent{n}")).collect();
        assert_eq!(sends((0..100).map(|_| ring.iter().map(|name| &**name).collect())), 16);
    }

    #[test]
    fn somebody_who_speaks_now_and_then_renews_the_budget() {
        let turns =
            (0..100).map(|n| if n % 10 == 9 { Vec::from(["bob", "human"]) } else { Vec::from(["bob"]) });
        assert_eq!(sends(turns), usize::MAX);
    }

    #[test]
    fn many_users_who_take_turns_end() {
        let users: Vec<_> = (0..9).map(|n| format!("agent{n}")).collect();
        assert_eq!(sends((0..1000).map(|turn| Vec::from([&*users[turn % users.len()]]))), 128);
    }

    #[test]
    fn whoever_speaks_a_conversation_without_a_pause_is_bounded() {
        let mut guard = Guard::new(Budget::default());
        let mut sent = 0;
        for turn in 0..100_000_u64 {
            let now = Monotonic(turn * 1000);
            // Everyone who may ever be new, in an order that no rule foresees.
            guard.heard(now, &venue(), &user(&format!("agent{}", turn * 7919 % 97)));
            if guard.check(now, &venue()).is_ok() {
                guard.sent(now, venue());
                sent += 1;
            }
        }
        assert_eq!(sent, Budget::default().conversation);
    }

    #[test]
    fn quiet_and_the_human_renew_the_budget() {
        let mut guard = Guard::new(Budget::default());
        for _ in 0..8 {
            guard.sent(Monotonic(0), venue());
        }
        assert_eq!(guard.check(Monotonic(599_999), &venue()), Err(Exhausted::Alone(8)));
        assert_eq!(guard.check(Monotonic(600_000), &venue()), Ok(()));
        guard.renew();
        assert_eq!(guard.check(Monotonic(0), &venue()), Ok(()));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut guard = Guard::new(Budget::default());
        for n in 0..1000_u64 {
            let user = UserName::new(&format!("u{n}")).unwrap();
            guard.sent(Monotonic(n), Venue::Whispers(Server::new("wss://a"), user));
        }
        guard.sent(Monotonic(1001), venue());
        for n in 0..1000 {
            guard.heard(Monotonic(1001), &venue(), &user(&format!("u{n}")));
        }
        assert_eq!(guard.exchanges.len(), MAX_VENUES);
        assert_eq!(guard.exchanges[&venue()].spoke.len(), MAX_SPEAKERS);
    }
}
