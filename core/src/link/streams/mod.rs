//! The followed streams of a link of version 2: each has a position, the last sequence number that was handed on. After
//! a drop the link subscribes from there, and the server sends the rest.

mod report;
mod stream;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use self::stream::{Key, Probing, State, Stream, What};
use super::{Action, Context, JoinFrom, Loss, OwnMailbox, Place, Proof};
use crate::body::View;
use crate::name::{ChannelName, SessionPath};
use crate::protocol::{Refusal, Stamped, Token};
use crate::record::ChannelId;
use crate::stream::{EndReason, StreamCommand, StreamRef, StreamReply};
use crate::time::Monotonic;

/// Former paths that are remembered.
const MAX_FORMER: usize = 8;

/// What no honest server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation(pub(super) &'static str);

/// What a request about a stream is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    key: Key,
    /// Tells a subscription from an earlier one of the same name.
    generation: u64,
    what: What,
}

/// The streams and what is under way for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams {
    followed: BTreeMap<Key, Stream>,
    /// Those that the server has taken, by its number.
    keys: BTreeMap<ChannelId, Key>,
    generations: u64,
    timers: BTreeSet<(Monotonic, Key)>,
    to_ask: VecDeque<Key>,
    /// Paths that we had: what we posted under them is not handed on.
    former: Vec<SessionPath>,
}

impl Streams {
    pub(super) fn names(&self) -> impl Iterator<Item = &ChannelName> {
        self.followed.keys().filter_map(|key| match key {
            Key::Channel(name) => Some(name),
            Key::Mailbox(_) => None,
        })
    }

    pub(super) fn has_joined(&self, name: &ChannelName) -> bool {
        self.followed.get(&Key::Channel(name.clone())).is_some_and(|stream| stream.joined)
    }

    /// The number of a followed channel and the position there, once the server has told it; `None` if it is not
    /// followed.
    pub(super) fn place(&self, name: &ChannelName) -> Option<Option<(ChannelId, u64)>> {
        self.followed.get(&Key::Channel(name.clone())).map(|stream| stream.place)
    }

    /// What is followed, for a connection that does not speak of streams.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (ChannelName, Option<Token>, JoinFrom)> {
        let followed = core::mem::take(self).followed;
        followed.into_iter().filter_map(|(key, stream)| Some((key.channel()?, stream.token, stream.from)))
    }

    pub(super) fn join(
        &mut self,
        name: ChannelName,
        token: Option<Token>,
        from: JoinFrom,
        now: Monotonic,
        actions: &mut Vec<Action>,
    ) {
        if let Some(stream) = self.followed.get_mut(&Key::Channel(name.clone())) {
            if stream.state == State::On {
                actions.push(Action::Joined { channel: name, position: stream.place });
            } else if token.is_some() {
                stream.token = token;
                stream.unasked = true;
            }
            return;
        }
        self.follow(Key::Channel(name), token, from, now);
    }

    /// Reads a mailbox of our own, from behind a message that was handed on before.
    pub(super) fn open(&mut self, mailbox: OwnMailbox, after: Option<(ChannelId, u64)>, now: Monotonic) {
        let key = Key::Mailbox(mailbox);
        if !self.followed.contains_key(&key) {
            let from = after.map_or(JoinFrom::Live, |(stream, seq)| JoinFrom::After { stream, seq });
            self.follow(key, None, from, now);
        }
    }

    fn follow(&mut self, key: Key, token: Option<Token>, from: JoinFrom, now: Monotonic) {
        self.generations += 1;
        let stream = Stream::new(self.generations, token, from);
        self.followed.insert(key.clone(), stream);
        self.touch(&key, now);
    }

    /// Follows a channel no more. Returns what to ask the server for.
    pub(super) fn leave(&mut self, name: &ChannelName) -> Option<StreamCommand> {
        let key = Key::Channel(name.clone());
        let gone = self.forget(&key)?;
        if let State::Off(_) = gone.state {
            return None;
        }
        let stream = gone.place.map_or_else(|| key.stream(), |(number, _)| StreamRef::Number(number));
        Some(StreamCommand::Unsubscribe { stream })
    }

    /// The reader has come so far.
    pub(super) fn report(&mut self, stream: ChannelId, delivered: u64, seen: u64, now: Monotonic) {
        let Some(key) = self.keys.get(&stream).cloned() else { return };
        if let Some(stream) = self.followed.get_mut(&key) {
            stream.report.moved(delivered, seen);
        }
        self.touch(&key, now);
    }

    /// The connection is gone.
    pub(super) fn dropped(&mut self) {
        self.timers.clear();
        self.to_ask.clear();
        for (key, stream) in &mut self.followed {
            stream.state = State::Off(Monotonic::default());
            stream.caught_up = false;
            stream.wait.reset();
            stream.report.dropped();
            stream.due = Some(Monotonic::default());
            self.timers.insert((Monotonic::default(), key.clone()));
        }
    }

    /// We have another path from now on.
    pub(super) fn renamed(&mut self, from: &SessionPath) {
        if self.former.len() < MAX_FORMER {
            self.former.push(from.clone());
        }
    }

    /// The link has ended.
    pub(super) fn clear(&mut self) {
        *self = Self { generations: self.generations, ..Self::default() };
    }

    /// When [`Streams::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Queues what is due.
    pub(super) fn tick(&mut self, now: Monotonic) {
        while self.timers.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, key)) = self.timers.pop_first() else { return };
            if let Some(stream) = self.followed.get_mut(&key) {
                stream.due = None;
                self.to_ask.push_back(key);
            }
        }
    }

    /// The next request to send, and what it is for.
    pub(super) fn next(&mut self, now: Monotonic) -> Option<(Asked, StreamCommand)> {
        while let Some(key) = self.to_ask.pop_front() {
            let Some(stream) = self.followed.get_mut(&key) else { continue };
            let asked = stream.next(&key, now);
            let generation = stream.generation;
            self.touch(&key, now);
            if let Some((what, command)) = asked {
                return Some((Asked { key, generation, what }, command));
            }
        }
        None
    }

    /// Takes the answer to a request.
    pub(super) fn answered(
        &mut self,
        asked: Asked,
        answer: Result<StreamReply, Refusal>,
        here: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let Asked { key, generation, what } = asked;
        let now = here.now.mono;
        let Some(stream) = self.followed.get_mut(&key).filter(|it| it.generation == generation) else {
            return Ok(());
        };
        let mut lost = None;
        match (what, answer) {
            (What::Subscribe, Ok(StreamReply::Subscribed { stream: number, after, last })) => {
                stream.subscribed(number, after, last)?;
                if stream.state == State::On {
                    let other = self.keys.insert(number, key.clone()).filter(|other| *other != key);
                    if let Some(other) = other {
                        return self.fold(number, &other, &key, here);
                    }
                    let position = stream.place;
                    here.actions.push(key.joined(position));
                }
            }
            (What::Subscribe, Err(reason)) => lost = stream.refused(&key, reason, here),
            (What::Probe, Ok(StreamReply::Page { messages, .. })) => stream.probed(&messages)?,
            // Whoever may not read any more is told the end of the subscription, too.
            (What::Probe, Err(_)) => {
                stream.state = State::Off(now + stream.wait.next(here.jitter));
            }
            (What::Report { delivered, seen }, answer) => {
                stream.report.answered(delivered, seen, answer.is_ok(), now);
            }
            _ => return Err(Violation("an answer of another kind")),
        }
        match lost {
            Some(reason) => self.lose(&key, Loss::Refused(reason), here),
            None => self.touch(&key, now),
        }
        Ok(())
    }

    /// Messages of a stream came.
    pub(super) fn delivered(
        &mut self,
        number: ChannelId,
        messages: Vec<Stamped>,
        here: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let Self { followed, keys, former, .. } = self;
        let Some((key, position)) = position(followed, keys, number) else { return Ok(()) };
        for message in messages {
            if message.seq != position.saturating_add(1) {
                return Err(Violation("a message out of its order"));
            }
            *position = message.seq;
            let Stamped { from, ts, payload, seq, origin } = message;
            let own = from == *here.own || former.contains(&from);
            let own = own && !matches!(payload.view(), Ok(View::Commit { .. }));
            here.actions.push(if own {
                Action::Passed { channel: key.channel(), stream: number, from: seq, to: seq, purged: false }
            } else {
                let place = Some(Place { stream: number, seq, origin, proof: Proof::default() });
                Action::Deliver { channel: key.channel(), from, payload, ts: Some(ts), place }
            });
        }
        Ok(())
    }

    /// The server does not keep these messages.
    pub(super) fn gap(
        &mut self,
        number: ChannelId,
        from: u64,
        to: u64,
        here: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let Some((key, position)) = position(&mut self.followed, &self.keys, number) else {
            return Ok(());
        };
        if from != position.saturating_add(1) || to < from {
            return Err(Violation("a gap out of its order"));
        }
        *position = to;
        let channel = key.channel();
        here.actions.push(Action::Passed { channel, stream: number, from, to, purged: true });
        Ok(())
    }

    /// The subscription has caught up.
    pub(super) fn live(
        &mut self,
        number: ChannelId,
        seq: u64,
        here: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let Some((key, position)) = position(&mut self.followed, &self.keys, number) else {
            return Ok(());
        };
        if seq != *position {
            return Err(Violation("a stream that is live elsewhere"));
        }
        let key = key.clone();
        if let Some(stream) = self.followed.get_mut(&key)
            && !core::mem::replace(&mut stream.caught_up, true)
        {
            here.actions.push(key.caught_up());
        }
        Ok(())
    }

    /// The server ended a subscription.
    pub(super) fn ended(&mut self, number: ChannelId, reason: EndReason, here: &mut Context<'_>) {
        let Some(key) = self.keys.get(&number).cloned() else { return };
        if reason != EndReason::Unavailable {
            return self.lose(&key, Loss::Ended(reason), here);
        }
        if let Some(stream) = self.followed.get_mut(&key) {
            stream.state = State::Off(here.now.mono + stream.wait.next(here.jitter));
            stream.caught_up = false;
        }
        self.touch(&key, here.now.mono);
    }

    /// A channel has another key.
    pub(super) fn channel_renamed(&mut self, number: ChannelId, to: ChannelName, here: &mut Context<'_>) {
        let Some(Key::Channel(from)) = self.keys.get(&number).cloned() else { return };
        let key = Key::Channel(to.clone());
        if from == to || self.followed.contains_key(&key) {
            return;
        }
        let Some(stream) = self.forget(&Key::Channel(from.clone())) else { return };
        self.keys.insert(number, key.clone());
        self.followed.insert(key.clone(), Stream { due: None, ..stream });
        self.touch(&key, here.now.mono);
        here.actions.push(Action::ChannelRenamed { stream: number, from, to });
    }

    /// Two names are one channel: it was followed, then renamed while the link was away, and is followed under its new name,
    /// too. It is followed on under that, from where it had come to under the old one.
    fn fold(
        &mut self,
        number: ChannelId,
        one: &Key,
        other: &Key,
        here: &mut Context<'_>,
    ) -> Result<(), Violation> {
        let (Some(first), Some(second)) = (self.forget(one), self.forget(other)) else { return Ok(()) };
        if let (Key::Mailbox(_), _) | (_, Key::Mailbox(_)) = (one, other) {
            return Err(Violation("two streams with one number"));
        }
        // The server has just found one of them by its name, if only one had a number before.
        let second_is_new = (second.by_name, second.generation) > (first.by_name, first.generation);
        let ((old, Stream { place, .. }), (new, stream)) = match second_is_new {
            true => ((one, first), (other, second)),
            false => ((other, second), (one, first)),
        };
        // Its subscription is the one that was asked for last: it is asked for once more, from there.
        let state = State::Off(here.now.mono);
        self.followed.insert(new.clone(), Stream { place, state, due: None, ..stream });
        self.keys.insert(number, new.clone());
        self.touch(new, here.now.mono);
        if let (Some(from), Some(to)) = (old.channel(), new.channel()) {
            here.actions.push(Action::ChannelRenamed { stream: number, from, to });
        }
        Ok(())
    }

    /// Keeps the timers in step with a stream that has changed.
    fn touch(&mut self, key: &Key, now: Monotonic) {
        let Some(stream) = self.followed.get_mut(key) else { return };
        let due = match stream.state {
            State::Off(from) => Some(from),
            State::Searching(_, Probing::Due) => Some(now),
            State::Asked | State::Searching(_, Probing::Asked) => None,
            State::On => stream.report.due(),
        };
        if due != stream.due {
            if let Some(old) = stream.due {
                self.timers.remove(&(old, key.clone()));
            }
            self.timers.extend(due.map(|due| (due, key.clone())));
            stream.due = due;
        }
    }

    fn forget(&mut self, key: &Key) -> Option<Stream> {
        let gone = self.followed.remove(key)?;
        if let Some(due) = gone.due {
            self.timers.remove(&(due, key.clone()));
        }
        if let Some((number, _)) = gone.place
            && self.keys.get(&number) == Some(key)
        {
            self.keys.remove(&number);
        }
        Some(gone)
    }

    fn lose(&mut self, key: &Key, why: Loss, here: &mut Context<'_>) {
        self.forget(key);
        here.actions.extend(key.channel().map(|channel| Action::Lost { channel, why }));
    }
}

/// Where a subscription that stands has come to.
fn position<'a>(
    followed: &'a mut BTreeMap<Key, Stream>,
    keys: &'a BTreeMap<ChannelId, Key>,
    number: ChannelId,
) -> Option<(&'a Key, &'a mut u64)> {
    let key = keys.get(&number)?;
    let stream = followed.get_mut(key).filter(|stream| stream.state == State::On)?;
    stream.place.as_mut().map(|(_, position)| (key, position))
}
