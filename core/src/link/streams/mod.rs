//! The followed streams of a link of version 2: each has a position, the last sequence number that was handed on. After
//! a drop the link subscribes from there, and the server sends the rest.

mod report;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use self::report::Report;
use super::backoff::Backoff;
use super::search::{Found, Search};
use super::{Action, Context, JoinFrom, Loss, Place, Proof};
use crate::name::{ChannelName, SessionPath};
use crate::protocol::{Refusal, Stamped, Token};
use crate::record::ChannelId;
use crate::stream::{EndReason, PageFrom, Start, StreamCommand, StreamRef, StreamReply};
use crate::time::Monotonic;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Former paths that are remembered.
const MAX_FORMER: usize = 8;

/// What no honest server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation(pub(super) &'static str);

/// What a request about a stream is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    channel: ChannelName,
    /// Tells a subscription from an earlier one of the same name.
    generation: u64,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Subscribe,
    Probe,
    Report { delivered: u64, seen: u64 },
}

/// The streams and what is under way for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams {
    followed: BTreeMap<ChannelName, Stream>,
    /// Those that the server has taken, by its number.
    names: BTreeMap<ChannelId, ChannelName>,
    generations: u64,
    timers: BTreeSet<(Monotonic, ChannelName)>,
    to_ask: VecDeque<ChannelName>,
    /// Paths that we had: what we posted under them is not handed on.
    former: Vec<SessionPath>,
}

#[derive(Clone, Debug)]
struct Stream {
    generation: u64,
    token: Option<Token>,
    /// The token came after what was asked last.
    unasked: bool,
    from: JoinFrom,
    /// The server's number and the position there.
    place: Option<(ChannelId, u64)>,
    state: State,
    /// The server has taken it at least once.
    joined: bool,
    caught_up: bool,
    wait: Backoff,
    report: Report,
    /// Its entry in `timers`.
    due: Option<Monotonic>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be asked for, not before this.
    Off(Monotonic),
    Asked,
    /// Subscribed, but not from where it is to be followed: that place is being looked for.
    Searching(Search, Probing),
    On,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probing {
    Due,
    Asked,
}

impl Streams {
    pub(super) fn names(&self) -> impl Iterator<Item = &ChannelName> {
        self.followed.keys()
    }

    pub(super) fn has_joined(&self, name: &ChannelName) -> bool {
        self.followed.get(name).is_some_and(|stream| stream.joined)
    }

    /// The number of a followed channel and the position there, once the server has told it; `None` if it is not
    /// followed.
    pub(super) fn place(&self, name: &ChannelName) -> Option<Option<(ChannelId, u64)>> {
        self.followed.get(name).map(|stream| stream.place)
    }

    /// What is followed, for a connection that does not speak of streams.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (ChannelName, Option<Token>, JoinFrom)> {
        let followed = core::mem::take(self).followed;
        followed.into_iter().map(|(name, stream)| (name, stream.token, stream.from))
    }

    pub(super) fn join(
        &mut self,
        name: ChannelName,
        token: Option<Token>,
        from: JoinFrom,
        now: Monotonic,
        actions: &mut Vec<Action>,
    ) {
        if let Some(stream) = self.followed.get_mut(&name) {
            if stream.state == State::On {
                actions.push(Action::Joined { channel: name, position: stream.place });
            } else if token.is_some() {
                stream.token = token;
                stream.unasked = true;
            }
            return;
        }
        self.generations += 1;
        let place = match from {
            JoinFrom::After { stream, seq } => Some((stream, seq)),
            JoinFrom::Live | JoinFrom::Since(_) => None,
        };
        let stream = Stream {
            generation: self.generations,
            token,
            unasked: false,
            from,
            place,
            state: State::Off(Monotonic::default()),
            joined: false,
            caught_up: false,
            wait: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            report: Report::default(),
            due: None,
        };
        self.followed.insert(name.clone(), stream);
        self.touch(&name, now);
    }

    /// Follows a channel no more. Returns what to ask the server for.
    pub(super) fn leave(&mut self, name: &ChannelName) -> Option<StreamCommand> {
        let gone = self.forget(name)?;
        if let State::Off(_) = gone.state {
            return None;
        }
        let stream = gone
            .place
            .map_or_else(|| StreamRef::Channel(name.clone()), |(number, _)| StreamRef::Number(number));
        Some(StreamCommand::Unsubscribe { stream })
    }

    /// The reader has come so far.
    pub(super) fn report(&mut self, stream: ChannelId, delivered: u64, seen: u64, now: Monotonic) {
        let Some(name) = self.names.get(&stream).cloned() else { return };
        if let Some(stream) = self.followed.get_mut(&name) {
            stream.report.moved(delivered, seen);
        }
        self.touch(&name, now);
    }

    /// The connection is gone.
    pub(super) fn dropped(&mut self) {
        self.timers.clear();
        self.to_ask.clear();
        for (name, stream) in &mut self.followed {
            stream.state = State::Off(Monotonic::default());
            stream.caught_up = false;
            stream.wait.reset();
            stream.report.dropped();
            stream.due = Some(Monotonic::default());
            self.timers.insert((Monotonic::default(), name.clone()));
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
            let Some((_, name)) = self.timers.pop_first() else { return };
            if let Some(stream) = self.followed.get_mut(&name) {
                stream.due = None;
                self.to_ask.push_back(name);
            }
        }
    }

    /// The next request to send, and what it is for.
    pub(super) fn next(&mut self, now: Monotonic) -> Option<(Asked, StreamCommand)> {
        while let Some(name) = self.to_ask.pop_front() {
            let Some(stream) = self.followed.get_mut(&name) else { continue };
            let asked = stream.next(&name, now);
            let generation = stream.generation;
            self.touch(&name, now);
            if let Some((what, command)) = asked {
                return Some((Asked { channel: name, generation, what }, command));
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
        let Asked { channel: name, generation, what } = asked;
        let now = here.now.mono;
        let Some(stream) = self.followed.get_mut(&name).filter(|it| it.generation == generation) else {
            return Ok(());
        };
        let mut lost = None;
        match (what, answer) {
            (What::Subscribe, Ok(StreamReply::Subscribed { stream: number, after, last })) => {
                stream.subscribed(number, after, last)?;
                if stream.state == State::On {
                    if self.names.insert(number, name.clone()).is_some_and(|other| other != name) {
                        return Err(Violation("two channels with one number"));
                    }
                    let position = stream.place;
                    here.actions.push(Action::Joined { channel: name.clone(), position });
                }
            }
            (What::Subscribe, Err(reason)) => lost = stream.refused(&name, reason, here),
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
            Some(reason) => self.lose(&name, Loss::Refused(reason), here),
            None => self.touch(&name, now),
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
        let Self { followed, names, former, .. } = self;
        let Some((name, position)) = position(followed, names, number) else { return Ok(()) };
        for message in messages {
            if message.seq != position.saturating_add(1) {
                return Err(Violation("a message out of its order"));
            }
            *position = message.seq;
            let Stamped { from, ts, payload, seq, origin } = message;
            let own = from == *here.own || former.contains(&from);
            here.actions.push(if own {
                Action::Passed { channel: name.clone(), stream: number, from: seq, to: seq, purged: false }
            } else {
                let place = Some(Place { stream: number, seq, origin, proof: Proof::default() });
                Action::Deliver { channel: name.clone(), from, payload, ts: Some(ts), place }
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
        let Some((name, position)) = position(&mut self.followed, &self.names, number) else {
            return Ok(());
        };
        if from != position.saturating_add(1) || to < from {
            return Err(Violation("a gap out of its order"));
        }
        *position = to;
        let channel = name.clone();
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
        let Some((name, position)) = position(&mut self.followed, &self.names, number) else {
            return Ok(());
        };
        if seq != *position {
            return Err(Violation("a stream that is live elsewhere"));
        }
        let name = name.clone();
        if let Some(stream) = self.followed.get_mut(&name)
            && !core::mem::replace(&mut stream.caught_up, true)
        {
            here.actions.push(Action::CaughtUp { channel: name });
        }
        Ok(())
    }

    /// The server ended a subscription.
    pub(super) fn ended(&mut self, number: ChannelId, reason: EndReason, here: &mut Context<'_>) {
        let Some(name) = self.names.get(&number).cloned() else { return };
        if reason != EndReason::Unavailable {
            return self.lose(&name, Loss::Ended(reason), here);
        }
        if let Some(stream) = self.followed.get_mut(&name) {
            stream.state = State::Off(here.now.mono + stream.wait.next(here.jitter));
            stream.caught_up = false;
        }
        self.touch(&name, here.now.mono);
    }

    /// A channel has another name.
    pub(super) fn channel_renamed(&mut self, number: ChannelId, to: ChannelName, here: &mut Context<'_>) {
        let Some(from) = self.names.get(&number).cloned() else { return };
        if from == to || self.followed.contains_key(&to) {
            return;
        }
        let Some(stream) = self.forget(&from) else { return };
        self.names.insert(number, to.clone());
        self.followed.insert(to.clone(), Stream { due: None, ..stream });
        self.touch(&to, here.now.mono);
        here.actions.push(Action::ChannelRenamed { stream: number, from, to });
    }

    /// Keeps the timers in step with a stream that has changed.
    fn touch(&mut self, name: &ChannelName, now: Monotonic) {
        let Some(stream) = self.followed.get_mut(name) else { return };
        let due = match stream.state {
            State::Off(from) => Some(from),
            State::Searching(_, Probing::Due) => Some(now),
            State::Asked | State::Searching(_, Probing::Asked) => None,
            State::On => stream.report.due(),
        };
        if due != stream.due {
            if let Some(old) = stream.due {
                self.timers.remove(&(old, name.clone()));
            }
            self.timers.extend(due.map(|due| (due, name.clone())));
            stream.due = due;
        }
    }

    fn forget(&mut self, name: &ChannelName) -> Option<Stream> {
        let gone = self.followed.remove(name)?;
        if let Some(due) = gone.due {
            self.timers.remove(&(due, name.clone()));
        }
        if let Some((number, _)) = gone.place
            && self.names.get(&number) == Some(name)
        {
            self.names.remove(&number);
        }
        Some(gone)
    }

    fn lose(&mut self, name: &ChannelName, why: Loss, here: &mut Context<'_>) {
        self.forget(name);
        here.actions.push(Action::Lost { channel: name.clone(), why });
    }
}

/// Where a subscription that stands has come to.
fn position<'a>(
    followed: &'a mut BTreeMap<ChannelName, Stream>,
    names: &'a BTreeMap<ChannelId, ChannelName>,
    number: ChannelId,
) -> Option<(&'a ChannelName, &'a mut u64)> {
    let name = names.get(&number)?;
    let stream = followed.get_mut(name).filter(|stream| stream.state == State::On)?;
    stream.place.as_mut().map(|(_, position)| (name, position))
}

impl Stream {
    fn next(&mut self, name: &ChannelName, now: Monotonic) -> Option<(What, StreamCommand)> {
        let stream = |place: Option<(ChannelId, u64)>| {
            place.map_or_else(|| StreamRef::Channel(name.clone()), |(number, _)| StreamRef::Number(number))
        };
        match self.state {
            State::Off(from) if from <= now => {
                self.state = State::Asked;
                self.unasked = false;
                let from = self.place.map_or(Start::Latest, |(_, position)| Start::After(position));
                let (stream, invite) = (stream(self.place), self.token.clone());
                Some((What::Subscribe, StreamCommand::Subscribe { stream, from, invite }))
            }
            State::Searching(search, Probing::Due) => {
                self.state = State::Searching(search, Probing::Asked);
                let (number, after) = search.probe();
                let (stream, from) = (StreamRef::Number(number), PageFrom::After(after));
                Some((What::Probe, StreamCommand::Read { stream, from, limit: 1 }))
            }
            State::On => {
                let (delivered, seen) = self.report.next(now)?;
                let stream = stream(self.place);
                let command = StreamCommand::Report { stream, delivered, seen };
                Some((What::Report { delivered, seen }, command))
            }
            State::Off(_) | State::Asked | State::Searching(..) => None,
        }
    }

    fn subscribed(&mut self, number: ChannelId, after: u64, last: u64) -> Result<(), Violation> {
        if self.place.is_some_and(|place| place != (number, after)) {
            return Err(Violation("a subscription from elsewhere"));
        }
        self.token = None;
        self.unasked = false;
        self.wait.reset();
        match (self.place, self.from) {
            (None, JoinFrom::Since(since)) if last > 0 => {
                self.state = State::Searching(Search::new(number, since, last), Probing::Due);
            }
            _ => {
                self.place = Some((number, after));
                self.joined = true;
                self.state = State::On;
            }
        }
        Ok(())
    }

    /// Returns the reason if the channel is lost by it.
    fn refused(&mut self, name: &ChannelName, reason: Refusal, here: &mut Context<'_>) -> Option<Refusal> {
        if self.unasked {
            self.state = State::Off(Monotonic::default());
            return None;
        }
        if !reason.may_succeed_later() {
            return Some(reason);
        }
        self.state = State::Off(here.now.mono + self.wait.next(here.jitter));
        here.actions.push(Action::Deferred { channel: name.clone(), reason });
        None
    }

    fn probed(&mut self, messages: &[Stamped]) -> Result<(), Violation> {
        let State::Searching(search, Probing::Asked) = self.state else { return Ok(()) };
        match search.probed(messages.first().map(|message| (message.seq, message.ts))) {
            Ok(Found::Between(search)) => self.state = State::Searching(search, Probing::Due),
            Ok(Found::After(seq)) => {
                // The subscription is moved there.
                self.place = Some((search.number(), seq));
                self.state = State::Off(Monotonic::default());
            }
            Err(violation) => return Err(violation),
        }
        Ok(())
    }
}
