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
//!
//! All this counts what one session sends. With version 2 agents also count together: each message of an agent carries its
//! *hops*, how many messages in a row agents have written in that place, and the smallest limit ([`Budget::hops`]) of those
//! who took part. A message that no agent wrote starts a new row. So agents of several owners, on several machines, come
//! to an end together, however slowly they answer.

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
    /// How many messages in a row agents may write, all of them together.
    pub hops: u32,
}

/// [`Budget::hops`] where the human sets no other.
pub const HOPS: u32 = 64;

impl Default for Budget {
    fn default() -> Self {
        Self {
            alone: 8,
            exchange: 16,
            conversation: 128,
            fresh: 4,
            quiet: Duration::from_secs(600),
            hops: HOPS,
        }
    }
}

/// Why a send is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exhausted {
    Alone(u32),
    Exchange(u32),
    Conversation(u32),
    Hops(u32),
}

/// What a message says about the row that it stands in. See [`Context`](crate::body::Context).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// How many messages in a row agents have written, this one included; 0 for a message that no agent wrote.
    pub hops: u32,
    /// How many they may write; 0 for no limit.
    pub budget: u32,
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
    /// What agents have written since somebody else wrote, and the smallest limit of theirs.
    row: Row,
}

impl Row {
    /// The row once another message stands in it.
    fn with(self, message: Self) -> Self {
        if message.hops == 0 {
            return Self::default();
        }
        let smaller = [self.budget, message.budget].into_iter().filter(|budget| *budget != 0).min();
        Self { hops: message.hops.max(self.hops.saturating_add(1)), budget: smaller.unwrap_or_default() }
    }
}

impl Exchange {
    fn new(now: Monotonic) -> Self {
        Self {
            sent: 0,
            unanswered: 0,
            conversation: 0,
            spoke: BTreeMap::new(),
            last: now,
            row: Row::default(),
        }
    }

    /// The row that the next message stands in.
    fn row_at(&self, now: Monotonic) -> Row {
        if now.since(self.last) < ROW_ENDS { self.row } else { Row::default() }
    }
}

/// Counts what the session sends, per venue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guard {
    budget: Budget,
    /// What each row has at least: whoever was woken by a message goes on with its row, wherever it writes.
    least: Row,
    exchanges: BTreeMap<Venue, Exchange>,
}

/// Venues and users that are remembered; the one silent for longest is forgotten first.
const MAX_VENUES: usize = 256;
const MAX_SPEAKERS: usize = 64;
/// What is sent so long after the last message is no answer to it: agents that report once a day start a row each time.
const ROW_ENDS: Duration = Duration::from_secs(6 * 60 * 60);

impl Guard {
    pub(crate) fn new(budget: Budget) -> Self {
        Self { budget, least: Row::default(), exchanges: BTreeMap::new() }
    }

    /// Goes on with the row that the session's next message stands in, wherever it is sent.
    pub(crate) fn woken_in(&mut self, row: Row) {
        self.least = Row { hops: row.hops.saturating_sub(1), ..row };
    }

    /// Sets [`Budget::hops`], or sets it back.
    pub(crate) fn limit_hops(&mut self, hops: Option<u32>) {
        self.budget.hops = hops.unwrap_or(HOPS);
    }

    /// Whether the session may send there now.
    pub(crate) fn check(&self, now: Monotonic, venue: &Venue) -> Result<(), Exhausted> {
        let next = self.next(now, venue);
        if next.hops > next.budget {
            return Err(Exhausted::Hops(next.budget));
        }
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

    /// What the session's next message there says about its row.
    pub(crate) fn next(&self, now: Monotonic, venue: &Venue) -> Row {
        let row = self.exchanges.get(venue).map_or(Row::default(), |exchange| exchange.row_at(now));
        let told = [row.budget, self.least.budget].into_iter().filter(|budget| *budget != 0).min();
        let budget = told.unwrap_or(u32::MAX).min(self.budget.hops);
        Row { hops: row.hops.max(self.least.hops).saturating_add(1), budget }
    }

    /// The session sends there.
    pub(crate) fn sent(&mut self, now: Monotonic, venue: Venue) {
        let row = self.next(now, &venue);
        let exchange = self.exchange(now, venue);
        exchange.sent += 1;
        exchange.unanswered += 1;
        exchange.conversation += 1;
        exchange.last = now;
        exchange.row = row;
    }

    /// Somebody else sent there.
    pub(crate) fn heard(&mut self, now: Monotonic, venue: &Venue, from: &UserName, row: Row) {
        if row.hops == 0 && !self.exchanges.contains_key(venue) {
            return;
        }
        let fresh = self.budget.fresh;
        let exchange = self.exchange(now, venue.clone());
        exchange.unanswered = 0;
        exchange.last = now;
        exchange.row = exchange.row.with(row);
        // Nobody is new before the session has sent: it is then that an exchange begins.
        let spoke = exchange.spoke.get(from).copied();
        if spoke.map_or(exchange.sent, |spoke| exchange.sent - spoke) >= fresh {
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

    /// A message of an earlier time is read now. It may have been heard before, so that it counts no more than it says.
    pub(crate) fn read(&mut self, now: Monotonic, venue: Venue, row: Row) {
        if row.hops > 0 {
            let exchange = self.exchange(now, venue);
            exchange.last = now;
            let known = &mut exchange.row;
            *known = Row { hops: known.hops.max(row.hops), ..known.with(row) };
        }
    }

    /// The exchange that goes on there; a new one if it has been quiet.
    fn exchange(&mut self, now: Monotonic, venue: Venue) -> &mut Exchange {
        if !self.exchanges.contains_key(&venue) && self.exchanges.len() >= MAX_VENUES {
            let oldest = self.exchanges.iter().min_by_key(|(_, exchange)| exchange.last);
            if let Some(oldest) = oldest.map(|(venue, _)| venue.clone()) {
                self.exchanges.remove(&oldest);
            }
        }
        let exchange = self.exchanges.entry(venue).or_insert_with(|| Exchange::new(now));
        if now.since(exchange.last) >= self.budget.quiet {
            *exchange = Exchange { row: exchange.row_at(now), ..Exchange::new(now) };
        }
        exchange
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
    use proptest::prelude::*;

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
                guard.heard(now, &venue(), &user(speaker), Row::default());
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
            guard.heard(now, &venue(), &user(&format!("agent{}", turn * 7919 % 97)), Row::default());
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
            guard.heard(Monotonic(1001), &venue(), &user(&format!("u{n}")), Row::default());
        }
        assert_eq!(guard.exchanges.len(), MAX_VENUES);
        assert_eq!(guard.exchanges[&venue()].spoke.len(), MAX_SPEAKERS);
    }

    #[test]
    fn agents_who_answer_each_other_end_together() {
        // Alone each would be allowed more: 40 users take turns, so that everyone is new whenever it speaks.
        let mut guards: Vec<_> = (0..40).map(|_| Guard::new(Budget::default())).collect();
        let mut sent = 0;
        while let (agent, now) = (sent as usize % 40, Monotonic(u64::from(sent) * 1000))
            && guards[agent].check(now, &venue()).is_ok()
        {
            let row = guards[agent].next(now, &venue());
            guards[agent].sent(now, venue());
            for (other, guard) in guards.iter_mut().enumerate().filter(|(other, _)| *other != agent) {
                guard.heard(now, &venue(), &user(&format!("agent{agent}")), row);
                assert_eq!(guard.next(now, &venue()).hops, row.hops + 1, "{other}");
            }
            sent += 1;
        }
        assert_eq!(sent, HOPS);
        let end = Monotonic(u64::from(sent) * 1000);
        assert!(guards.iter().all(|guard| guard.check(end, &venue()) == Err(Exhausted::Hops(HOPS))));
        guards[0].heard(end, &venue(), &user("a person"), Row::default());
        assert_eq!(guards[0].check(end, &venue()), Ok(()));
    }

    #[test]
    fn whoever_is_woken_goes_on_with_the_row_wherever_it_writes() {
        let mut guard = Guard::new(Budget::default());
        guard.woken_in(Row { hops: 7, budget: 8 });
        let whispers = Venue::Whispers(Server::new("wss://a"), user("bea"));
        for venue in [venue(), whispers] {
            assert_eq!(guard.next(Monotonic(0), &venue), Row { hops: 7, budget: 8 });
            guard.sent(Monotonic(0), venue.clone());
            guard.sent(Monotonic(0), venue.clone());
            guard.renew();
            assert_eq!(guard.check(Monotonic(0), &venue), Ok(()));
        }
        guard.woken_in(Row { hops: 9, budget: 8 });
        assert_eq!(guard.check(Monotonic(0), &venue()), Err(Exhausted::Hops(8)));
    }

    #[test]
    fn the_smallest_limit_of_those_who_take_part_counts() {
        let mut guard = Guard::new(Budget::default());
        guard.heard(Monotonic(0), &venue(), &user("bea"), Row { hops: 1, budget: 3 });
        assert_eq!(guard.next(Monotonic(0), &venue()), Row { hops: 2, budget: 3 });
        guard.heard(Monotonic(0), &venue(), &user("cid"), Row { hops: 2, budget: 0 });
        assert_eq!(guard.next(Monotonic(0), &venue()), Row { hops: 3, budget: 3 });
        guard.limit_hops(Some(2));
        assert_eq!(guard.check(Monotonic(0), &venue()), Err(Exhausted::Hops(2)));
        guard.heard(Monotonic(0), &venue(), &user("ann"), Row::default());
        assert_eq!(guard.next(Monotonic(0), &venue()), Row { hops: 1, budget: 2 });
    }

    #[test]
    fn slow_answers_and_those_to_kept_messages_continue_the_row() {
        let mut guard = Guard::new(Budget::default());
        let day = |n: u64| Monotonic(n * 24 * 60 * 60 * 1000);
        guard.heard(day(0), &venue(), &user("bea"), Row { hops: HOPS, budget: 0 });
        assert_eq!(guard.check(Monotonic(day(0).0 + 3_600_000), &venue()), Err(Exhausted::Hops(HOPS)));
        // What is sent a day later answers nothing; an answer to a message that was kept does.
        assert_eq!(guard.check(day(1), &venue()), Ok(()));
        guard.read(day(2), venue(), Row { hops: HOPS, budget: 0 });
        assert_eq!(guard.check(day(2), &venue()), Err(Exhausted::Hops(HOPS)));
    }

    /// Agents on one channel, each of which answers every message that it hears, in its own time.
    #[derive(Debug)]
    struct Answering {
        guards: Vec<Guard>,
        /// What was posted: by whom, and its row.
        posted: Vec<(usize, Row)>,
        /// How much of it each agent has heard.
        heard: Vec<usize>,
    }

    impl Answering {
        fn new(budgets: &[u32]) -> Self {
            let guard = |hops: &u32| {
                // Nothing else may stop them.
                let most = u32::MAX;
                let budget = Budget { alone: most, exchange: most, conversation: most, ..Budget::default() };
                Guard::new(Budget { hops: *hops, ..budget })
            };
            let guards: Vec<_> = budgets.iter().map(guard).collect();
            Self {
                heard: guards.iter().map(|_| 0).collect(),
                guards,
                posted: Vec::from([(usize::MAX, Row::default())]),
            }
        }

        /// The agent hears the next message and answers it. False if it has heard all.
        fn turn(&mut self, agent: usize) -> bool {
            let now = Monotonic(0);
            let Some((from, row)) = self.posted.get(self.heard[agent]).copied() else { return false };
            self.heard[agent] += 1;
            if from == agent {
                return true;
            }
            let guard = &mut self.guards[agent];
            guard.heard(now, &venue(), &user(&format!("agent{from}")), row);
            if guard.check(now, &venue()).is_ok() {
                self.posted.push((agent, guard.next(now, &venue())));
                guard.sent(now, venue());
            }
            true
        }
    }

    proptest! {
        /// However many agents always answer, and however late each of them hears the others: without anything new from
        /// outside they stop. No agent writes more than its budget, whatever it has not heard yet; and while all hear what
        /// is written before they write, all of them together write no more than that.
        #[test]
        fn agents_that_always_answer_stop(
            budgets in proptest::collection::vec(1..20_u32, 1..8),
            order in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let agents = budgets.len();
            let mut late = Answering::new(&budgets);
            order.iter().for_each(|agent| {
                late.turn(usize::from(*agent) % agents);
            });
            while (0..agents).any(|agent| late.turn(agent)) {}
            for (agent, budget) in budgets.iter().enumerate() {
                let wrote = late.posted.iter().filter(|(by, _)| *by == agent).count();
                prop_assert!(wrote <= *budget as usize, "agent {agent} wrote {wrote} of {budget}");
            }
            let mut prompt = Answering::new(&budgets);
            let mut turn = 0;
            loop {
                // All but one hear everything that was written before the one whose turn it is may answer.
                let agent = order.get(turn).map_or(turn, |agent| usize::from(*agent)) % agents;
                let wrote = prompt.posted.len();
                while prompt.posted.len() == wrote && prompt.turn(agent) {}
                for other in (0..agents).filter(|other| *other != agent) {
                    for (from, row) in &prompt.posted[prompt.heard[other]..] {
                        if *from != other {
                            prompt.guards[other].heard(Monotonic(0), &venue(), &user(&format!("agent{from}")), *row);
                        }
                    }
                    // It answers the last of them only.
                    prompt.heard[other] = prompt.posted.len() - 1;
                }
                if prompt.posted.len() == wrote && turn > order.len() + agents {
                    break;
                }
                turn += 1;
                prop_assert!(turn < 10_000);
            }
            let most = *budgets.iter().max().unwrap() as usize;
            prop_assert!(prompt.posted.len() - 1 <= most, "{} of {most}", prompt.posted.len() - 1);
        }
    }
}
