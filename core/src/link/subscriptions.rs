//! The followed channels of a link: who is to be joined, read, or waited for.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use super::Action;
use super::backoff::{Backoff, Jitter};
use super::channel::{Channel, HashKey, JoinFrom, Message, OutOfOrder};
use super::refusal::may_pass;
use crate::name::{ChannelName, SessionPath};
use crate::payload::Payload;
use crate::protocol::{Refusal, Stamped, Token};
use crate::time::{Monotonic, Now, UnixMillis};

/// Pages that may be under way at once: each may have a megabyte.
const MAX_READS: usize = 4;
/// Stray channels that are told of, for each connection.
const MAX_STRAYS: usize = 16;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The channels and what is under way for them.
#[derive(Clone, Debug)]
pub(super) struct Subscriptions {
    key: HashKey,
    channels: BTreeMap<ChannelName, Subscription>,
    generations: u64,
    /// Ends that are not yet acknowledged: what is delivered until then belongs to the old subscription.
    leaving: BTreeMap<ChannelName, usize>,
    strays: BTreeSet<ChannelName>,
    /// Whose turn it is to read.
    turns: VecDeque<ChannelName>,
    reads: usize,
}

#[derive(Clone, Debug)]
struct Subscription {
    generation: u64,
    token: Option<Token>,
    state: State,
    wait: Backoff,
    channel: Channel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be asked for, not before this.
    Off(Monotonic),
    Asked,
    On,
}

impl Subscriptions {
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        Self {
            key: HashKey::new(seed),
            channels: BTreeMap::new(),
            generations: 0,
            leaving: BTreeMap::new(),
            strays: BTreeSet::new(),
            turns: VecDeque::new(),
            reads: 0,
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &ChannelName> {
        self.channels.keys()
    }

    pub(super) fn join(&mut self, name: ChannelName, token: Option<Token>, from: JoinFrom, now: Now) {
        if let Some(subscription) = self.channels.get_mut(&name) {
            // A first answer that is still to come may want it.
            subscription.token = token.or(subscription.token.take());
            return;
        }
        self.generations += 1;
        let subscription = Subscription {
            generation: self.generations,
            token,
            state: State::Off(Monotonic::default()),
            wait: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            channel: Channel::new(from, now, self.key.clone()),
        };
        self.channels.insert(name, subscription);
    }

    /// True if the server has to be told.
    pub(super) fn leave(&mut self, name: &ChannelName) -> bool {
        self.strays.remove(name);
        self.channels.remove(name).is_some_and(|gone| !matches!(gone.state, State::Off(_)))
    }

    /// The server is being told.
    pub(super) fn leaving(&mut self, name: ChannelName) {
        *self.leaving.entry(name).or_default() += 1;
    }

    /// The server has taken the end of a subscription.
    pub(super) fn left(&mut self, name: &ChannelName) {
        if let Some(count) = self.leaving.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                self.leaving.remove(name);
            }
        }
    }

    /// The connection is gone.
    pub(super) fn dropped(&mut self, now: Now) {
        self.leaving.clear();
        self.strays.clear();
        self.turns.clear();
        self.reads = 0;
        for subscription in self.channels.values_mut() {
            subscription.state = State::Off(Monotonic::default());
            subscription.wait.reset();
            subscription.channel.dropped(now);
        }
    }

    pub(super) fn clear(&mut self) {
        let key = self.key.clone();
        *self = Self::new(&[0; 32]);
        self.key = key;
    }

    /// The next subscription to ask for.
    pub(super) fn next_join(&mut self, now: Now) -> Option<(ChannelName, Option<Token>, u64)> {
        let leaving = &self.leaving;
        let (name, subscription) = self.channels.iter_mut().find(|(name, subscription)| {
            matches!(subscription.state, State::Off(from) if from <= now.mono) && !leaving.contains_key(*name)
        })?;
        subscription.state = State::Asked;
        subscription.channel.subscribing(now);
        Some((name.clone(), subscription.token.clone(), subscription.generation))
    }

    fn current(&mut self, name: &ChannelName, generation: u64) -> Option<&mut Subscription> {
        self.channels.get_mut(name).filter(|subscription| subscription.generation == generation)
    }

    pub(super) fn joined(&mut self, name: ChannelName, generation: u64, actions: &mut Vec<Action>) {
        let Some(subscription) = self.current(&name, generation) else { return };
        subscription.token = None;
        subscription.state = State::On;
        subscription.wait.reset();
        subscription.channel.subscribed();
        self.turns.push_back(name.clone());
        actions.push(Action::Joined { channel: name });
    }

    pub(super) fn join_refused(
        &mut self,
        name: ChannelName,
        generation: u64,
        reason: Refusal,
        now: Now,
        jitter: &mut Jitter,
        actions: &mut Vec<Action>,
    ) {
        let Some(subscription) = self.current(&name, generation) else { return };
        if may_pass(&reason) {
            subscription.state = State::Off(now.mono + subscription.wait.next(jitter));
            subscription.channel.dropped(now);
            return;
        }
        self.channels.remove(&name);
        actions.push(Action::Lost { channel: name, reason });
    }

    /// The next page to ask for.
    pub(super) fn next_read(&mut self, now: Monotonic) -> Option<(ChannelName, UnixMillis, u64)> {
        for _ in 0..self.turns.len() {
            if self.reads >= MAX_READS {
                return None;
            }
            let name = self.turns.pop_front()?;
            let Some(subscription) =
                self.channels.get_mut(&name).filter(|channel| channel.state == State::On)
            else {
                continue;
            };
            self.turns.push_back(name.clone());
            if let Some(since) = subscription.channel.next_read(now) {
                self.reads += 1;
                return Some((name, since, subscription.generation));
            }
        }
        None
    }

    #[allow(clippy::too_many_arguments, reason = "a session lends its parts")]
    pub(super) fn page(
        &mut self,
        own: &SessionPath,
        name: &ChannelName,
        generation: u64,
        messages: Vec<Stamped>,
        now: Monotonic,
        jitter: &mut Jitter,
        actions: &mut Vec<Action>,
    ) -> Result<(), OutOfOrder> {
        self.reads = self.reads.saturating_sub(1);
        let Some(subscription) = self.current(name, generation) else { return Ok(()) };
        subscription.wait.reset();
        let before = subscription.channel.caught_up();
        let mut out = Vec::new();
        let result = subscription.channel.page(own, messages, now, jitter, &mut out);
        actions.extend(out.into_iter().map(|message| deliver(name, message)));
        if subscription.channel.caught_up() && !before {
            actions.push(Action::CaughtUp { channel: name.clone() });
        }
        result
    }

    pub(super) fn read_refused(
        &mut self,
        name: ChannelName,
        generation: u64,
        reason: Refusal,
        now: Now,
        jitter: &mut Jitter,
        actions: &mut Vec<Action>,
    ) {
        self.reads = self.reads.saturating_sub(1);
        let Some(subscription) = self.current(&name, generation) else { return };
        if may_pass(&reason) {
            let wait = subscription.wait.next(jitter);
            subscription.channel.read_refused(now.mono + wait);
            return;
        }
        // Whoever may not read is not subscribed any more: kicked, banned, or the channel is gone.
        self.channels.remove(&name);
        actions.push(Action::Lost { channel: name, reason });
    }

    #[allow(clippy::too_many_arguments, reason = "a session lends its parts")]
    pub(super) fn delivered(
        &mut self,
        own: &SessionPath,
        name: ChannelName,
        from: SessionPath,
        payload: Payload,
        now: Monotonic,
        jitter: &mut Jitter,
        actions: &mut Vec<Action>,
    ) {
        let Some(subscription) = self.channels.get_mut(&name) else {
            let told = self.leaving.contains_key(&name) || self.strays.contains(&name);
            if !told && self.strays.len() < MAX_STRAYS {
                self.strays.insert(name.clone());
                actions.push(Action::Stray { channel: name });
            }
            return;
        };
        let mut out = Vec::new();
        subscription.channel.delivered(own, from, payload, now, jitter, &mut out);
        actions.extend(out.into_iter().map(|message| deliver(&name, message)));
    }

    /// When [`Subscriptions::tick`] or a join has something to do.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.channels
            .iter()
            .filter_map(|(name, subscription)| match subscription.state {
                State::Off(from) => Some(from).filter(|_| !self.leaving.contains_key(name)),
                State::Asked => None,
                State::On => subscription.channel.deadline(),
            })
            .min()
    }

    pub(super) fn tick(&mut self, now: Monotonic) {
        for subscription in self.channels.values_mut().filter(|subscription| subscription.state == State::On)
        {
            subscription.channel.tick(now);
        }
    }
}

fn deliver(name: &ChannelName, message: Message) -> Action {
    let Message { from, payload, ts } = message;
    Action::Deliver { channel: name.clone(), from, payload, ts }
}
