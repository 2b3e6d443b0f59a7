//! The followed channels of a link of version 1: which subscriptions are to be requested, which channels read.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use super::super::backoff::Backoff;
use super::super::{Action, Context, JoinFrom, Loss};
use super::{Channel, HashKey, OutOfOrder, Reads};
use crate::name::{ChannelName, SessionPath};
use crate::payload::Payload;
use crate::protocol::{Refusal, Stamped, Token};
use crate::time::{Monotonic, Now, UnixMillis};

/// Stray channels that are reported, for each connection.
const MAX_STRAYS: usize = 16;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The channels and what is under way for them.
#[derive(Clone, Debug)]
pub(in crate::link) struct Subscriptions {
    key: HashKey,
    channels: BTreeMap<ChannelName, Subscription>,
    generations: u64,
    /// Ends that are not yet acknowledged: what is delivered until then belongs to the old subscription.
    leaving: BTreeMap<ChannelName, usize>,
    strays: BTreeSet<ChannelName>,
    timers: BTreeSet<(Monotonic, ChannelName)>,
    to_join: VecDeque<ChannelName>,
    reads: Reads,
}

#[derive(Clone, Debug)]
struct Subscription {
    generation: u64,
    token: Option<Token>,
    /// The token came after what was asked last.
    unasked: bool,
    state: State,
    /// The server has taken it at least once.
    joined: bool,
    wait: Backoff,
    channel: Channel,
    /// Its entry in `timers`.
    due: Option<Monotonic>,
    /// It waits among the reads.
    queued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be asked for, not before this.
    Off(Monotonic),
    Asked,
    On,
    /// It stands, as far as is known, and is asked for once more.
    Again,
}

impl Subscriptions {
    pub(in crate::link) fn new(seed: &[u8; 32]) -> Self {
        Self {
            key: HashKey::new(seed),
            channels: BTreeMap::new(),
            generations: 0,
            leaving: BTreeMap::new(),
            strays: BTreeSet::new(),
            timers: BTreeSet::new(),
            to_join: VecDeque::new(),
            reads: Reads::default(),
        }
    }

    pub(in crate::link) fn names(&self) -> impl Iterator<Item = &ChannelName> {
        self.channels.keys()
    }

    /// What is followed and from where, for a connection that speaks of positions.
    pub(in crate::link) fn take(&mut self) -> impl Iterator<Item = (ChannelName, Option<Token>, JoinFrom)> {
        let channels = core::mem::take(&mut self.channels);
        channels.into_iter().map(|(name, it)| (name, it.token, it.channel.resume_from()))
    }

    pub(in crate::link) fn has_joined(&self, name: &ChannelName) -> bool {
        self.channels.get(name).is_some_and(|subscription| subscription.joined)
    }

    pub(in crate::link) fn join(
        &mut self,
        name: ChannelName,
        token: Option<Token>,
        from: JoinFrom,
        now: Now,
    ) {
        if let Some(subscription) = self.channels.get_mut(&name) {
            // Worth something as long as the first answer is still to come.
            if token.is_some() {
                subscription.token = token;
                subscription.unasked = true;
            }
            // Version 1 tells nobody that a subscription has ended: whoever asks once more may know better.
            if subscription.state == State::On {
                subscription.state = State::Again;
                self.to_join.push_back(name);
            }
            return;
        }
        self.generations += 1;
        let subscription = Subscription {
            generation: self.generations,
            token,
            unasked: false,
            state: State::Off(Monotonic::default()),
            joined: false,
            wait: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            channel: Channel::new(name.clone(), from, now, self.key.clone()),
            due: None,
            queued: false,
        };
        self.channels.insert(name.clone(), subscription);
        self.touch(&name, now.mono);
    }

    /// True if the server must be sent a request to leave.
    pub(in crate::link) fn leave(&mut self, name: &ChannelName) -> bool {
        self.strays.remove(name);
        self.forget(name).is_some_and(|gone| !matches!(gone.state, State::Off(_)))
    }

    /// That request is sent.
    pub(in crate::link) fn leaving(&mut self, name: ChannelName) {
        *self.leaving.entry(name).or_default() += 1;
    }

    /// The server has taken the end of a subscription.
    pub(in crate::link) fn left(&mut self, name: &ChannelName, now: Monotonic) {
        if let Some(count) = self.leaving.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                self.leaving.remove(name);
                self.touch(name, now);
            }
        }
    }

    /// The connection is gone.
    pub(in crate::link) fn dropped(&mut self, now: Now) {
        self.leaving.clear();
        self.strays.clear();
        self.timers.clear();
        self.to_join.clear();
        self.reads.clear();
        for (name, subscription) in &mut self.channels {
            subscription.state = State::Off(Monotonic::default());
            subscription.wait.reset();
            subscription.queued = false;
            subscription.channel.dropped(now);
            subscription.due = Some(Monotonic::default());
            self.timers.insert((Monotonic::default(), name.clone()));
        }
    }

    /// We have another path from now on.
    pub(in crate::link) fn renamed(&mut self, from: &SessionPath) {
        self.channels.values_mut().for_each(|subscription| subscription.channel.renamed(from));
    }

    /// The link has ended.
    pub(in crate::link) fn clear(&mut self) {
        self.channels.clear();
        self.dropped(Now::default());
    }

    /// When [`Subscriptions::tick`] has something to do.
    pub(in crate::link) fn deadline(&self) -> Option<Monotonic> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Does what is due.
    pub(in crate::link) fn tick(&mut self, now: Monotonic) {
        while self.timers.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, name)) = self.timers.pop_first() else { return };
            let Some(subscription) = self.channels.get_mut(&name) else { continue };
            subscription.due = None;
            match subscription.state {
                State::Off(_) => self.to_join.push_back(name),
                State::Asked => {}
                State::On | State::Again => {
                    subscription.channel.tick(now);
                    self.touch(&name, now);
                }
            }
        }
    }

    /// The next subscription to ask for.
    pub(in crate::link) fn next_join(&mut self, now: Now) -> Option<(ChannelName, Option<Token>, u64)> {
        while let Some(name) = self.to_join.pop_front() {
            let Some(subscription) = self.channels.get_mut(&name) else { continue };
            match subscription.state {
                State::Off(from) if from <= now.mono && !self.leaving.contains_key(&name) => {
                    subscription.state = State::Asked;
                    subscription.channel.subscribing(now);
                }
                // What comes before the answer may be of the old subscription or of the new one.
                State::Again => subscription.channel.subscribing(now),
                _ => continue,
            }
            subscription.unasked = false;
            return Some((name, subscription.token.clone(), subscription.generation));
        }
        None
    }

    pub(in crate::link) fn joined(&mut self, name: ChannelName, generation: u64, here: &mut Context<'_>) {
        let Some(subscription) = self.current(&name, generation) else { return };
        subscription.joined = true;
        subscription.token = None;
        subscription.unasked = false;
        match core::mem::replace(&mut subscription.state, State::On) {
            State::Again => {
                // Where the old one had ended, there is a gap before what is delivered from now on.
                subscription.channel.subscribing(here.now);
                subscription.channel.subscribed();
            }
            _ => subscription.channel.subscribed(),
        }
        subscription.wait.reset();
        self.touch(&name, here.now.mono);
        here.actions.push(Action::Joined { channel: name, position: None });
    }

    pub(in crate::link) fn join_refused(
        &mut self,
        name: ChannelName,
        generation: u64,
        reason: Refusal,
        here: &mut Context<'_>,
    ) {
        let Some(subscription) = self.current(&name, generation) else { return };
        if subscription.unasked {
            subscription.state = State::Off(Monotonic::default());
            subscription.channel.dropped(here.now);
            return self.touch(&name, here.now.mono);
        }
        if !reason.may_succeed_later() {
            return self.lose(name, reason, here);
        }
        if subscription.state == State::Again {
            subscription.state = State::On;
            subscription.token = None;
            subscription.channel.subscribed();
        } else {
            subscription.state = State::Off(here.now.mono + subscription.wait.next(here.jitter));
            subscription.channel.dropped(here.now);
        }
        self.touch(&name, here.now.mono);
        here.actions.push(Action::Deferred { channel: name, reason });
    }

    /// The next page to ask for.
    pub(in crate::link) fn next_read(&mut self, now: Monotonic) -> Option<(ChannelName, UnixMillis, u64)> {
        while let Some(name) = self.reads.next() {
            let Some(subscription) = self.channels.get_mut(&name) else { continue };
            subscription.queued = false;
            let generation = subscription.generation;
            if let Some(since) = subscription.channel.next_read(now) {
                self.reads.begin();
                return Some((name, since, generation));
            }
        }
        None
    }

    pub(in crate::link) fn page(
        &mut self,
        name: &ChannelName,
        generation: u64,
        messages: Vec<Stamped>,
        here: &mut Context<'_>,
    ) -> Result<(), OutOfOrder> {
        self.reads.end();
        let Some(subscription) = self.current(name, generation) else { return Ok(()) };
        subscription.wait.reset();
        let before = subscription.channel.caught_up();
        subscription.channel.page(messages, here)?;
        if subscription.channel.caught_up() && !before {
            here.actions.push(Action::CaughtUp { channel: name.clone() });
        }
        self.touch(name, here.now.mono);
        Ok(())
    }

    pub(in crate::link) fn read_refused(
        &mut self,
        name: ChannelName,
        generation: u64,
        reason: Refusal,
        here: &mut Context<'_>,
    ) {
        self.reads.end();
        let Some(subscription) = self.current(&name, generation) else { return };
        if !reason.may_succeed_later() && subscription.state != State::Again {
            // Whoever may not read is not subscribed any more: kicked, banned, or the channel is gone.
            return self.lose(name, reason, here);
        }
        let wait = subscription.wait.next(here.jitter);
        subscription.channel.read_refused(here.now.mono + wait);
        self.touch(&name, here.now.mono);
    }

    pub(in crate::link) fn delivered(
        &mut self,
        name: ChannelName,
        from: SessionPath,
        payload: Payload,
        here: &mut Context<'_>,
    ) {
        let Some(subscription) = self.channels.get_mut(&name) else {
            let known = self.leaving.contains_key(&name) || self.strays.contains(&name);
            if !known && self.strays.len() < MAX_STRAYS {
                self.strays.insert(name.clone());
                here.actions.push(Action::Stray { channel: name });
            }
            return;
        };
        subscription.channel.delivered(from, payload, here);
        self.touch(&name, here.now.mono);
    }

    #[cfg(test)]
    pub(in crate::link) fn buffered(&self) -> usize {
        self.channels.values().map(|subscription| subscription.channel.buffered()).sum()
    }

    fn current(&mut self, name: &ChannelName, generation: u64) -> Option<&mut Subscription> {
        self.channels.get_mut(name).filter(|subscription| subscription.generation == generation)
    }

    /// Keeps the timers and the queue in step with a subscription that has changed.
    fn touch(&mut self, name: &ChannelName, now: Monotonic) {
        let Some(subscription) = self.channels.get_mut(name) else { return };
        let due = match subscription.state {
            State::Off(from) => Some(from).filter(|_| !self.leaving.contains_key(name)),
            State::Asked => None,
            State::On | State::Again => subscription.channel.deadline(),
        };
        if due != subscription.due {
            if let Some(old) = subscription.due {
                self.timers.remove(&(old, name.clone()));
            }
            self.timers.extend(due.map(|due| (due, name.clone())));
            subscription.due = due;
        }
        if !subscription.queued && subscription.channel.wants_read(now) {
            subscription.queued = true;
            self.reads.add(name.clone());
        }
    }

    fn forget(&mut self, name: &ChannelName) -> Option<Subscription> {
        let gone = self.channels.remove(name)?;
        if let Some(due) = gone.due {
            self.timers.remove(&(due, name.clone()));
        }
        if gone.queued {
            self.reads.remove(name);
        }
        Some(gone)
    }

    fn lose(&mut self, name: ChannelName, reason: Refusal, here: &mut Context<'_>) {
        self.forget(&name);
        here.actions.push(Action::Lost { channel: name, why: Loss::Refused(reason) });
    }
}
