//! One followed stream: what it is, where it stands, what is to be asked for it.

use super::super::backoff::Backoff;
use super::super::search::{Found, Search};
use super::super::{Action, Context, JoinFrom, OwnMailbox};
use super::Violation;
use super::report::Report;
use crate::name::ChannelName;
use crate::protocol::{Refusal, Stamped, Token};
use crate::record::ChannelId;
use crate::stream::{MailboxRef, PageFrom, Start, StreamCommand, StreamRef};
use crate::time::Monotonic;
use core::time::Duration;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What is followed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Channel(ChannelName),
    Mailbox(OwnMailbox),
}

impl Key {
    pub(super) fn channel(&self) -> Option<ChannelName> {
        match self {
            Self::Channel(name) => Some(name.clone()),
            Self::Mailbox(_) => None,
        }
    }

    pub(super) fn joined(&self, position: Option<(ChannelId, u64)>) -> Action {
        match self {
            Self::Channel(name) => Action::Joined { channel: name.clone(), position },
            Self::Mailbox(mailbox) => Action::Opened { mailbox: *mailbox, position },
        }
    }

    pub(super) fn caught_up(&self) -> Action {
        match self {
            Self::Channel(name) => Action::CaughtUp { channel: name.clone() },
            Self::Mailbox(mailbox) => Action::MailboxCaughtUp { mailbox: *mailbox },
        }
    }

    /// How the server is asked for it before its number is known.
    pub(super) fn stream(&self) -> StreamRef {
        match self {
            Self::Channel(name) => StreamRef::Channel(name.clone()),
            Self::Mailbox(OwnMailbox::User) => StreamRef::Mailbox(MailboxRef::Mine),
            Self::Mailbox(OwnMailbox::Session) => StreamRef::Mailbox(MailboxRef::MySession),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Subscribe,
    Probe,
    Report { delivered: u64, seen: u64 },
}

#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) generation: u64,
    pub(super) token: Option<Token>,
    /// The token came after what was asked last.
    pub(super) unasked: bool,
    pub(super) from: JoinFrom,
    /// The server's number and the position there.
    pub(super) place: Option<(ChannelId, u64)>,
    pub(super) state: State,
    /// It was asked for by its name last, not by its number.
    pub(super) by_name: bool,
    /// The server has taken it at least once.
    pub(super) joined: bool,
    pub(super) caught_up: bool,
    pub(super) wait: Backoff,
    pub(super) report: Report,
    /// Its entry in `timers`.
    pub(super) due: Option<Monotonic>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// To be asked for, not before this.
    Off(Monotonic),
    Asked,
    /// Subscribed, but not from where it is to be followed: that place is being looked for.
    Searching(Search, Probing),
    On,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probing {
    Due,
    Asked,
}

impl Stream {
    pub(super) fn new(generation: u64, token: Option<Token>, from: JoinFrom) -> Self {
        let place = match from {
            JoinFrom::After { stream, seq } => Some((stream, seq)),
            JoinFrom::Live | JoinFrom::Since(_) => None,
        };
        Self {
            generation,
            token,
            unasked: false,
            from,
            place,
            state: State::Off(Monotonic::default()),
            by_name: false,
            joined: false,
            caught_up: false,
            wait: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            report: Report::default(),
            due: None,
        }
    }

    /// What is to be asked for now.
    pub(super) fn next(&mut self, key: &Key, now: Monotonic) -> Option<(What, StreamCommand)> {
        let stream = |place: Option<(ChannelId, u64)>| {
            place.map_or_else(|| key.stream(), |(number, _)| StreamRef::Number(number))
        };
        match self.state {
            State::Off(from) if from <= now => {
                self.state = State::Asked;
                self.unasked = false;
                self.by_name = self.place.is_none();
                // What a mailbox holds that was never read before is read from its beginning.
                let first = if let Key::Mailbox(_) = key { Start::Cursor } else { Start::Latest };
                let from = self.place.map_or(first, |(_, position)| Start::After(position));
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

    pub(super) fn subscribed(&mut self, number: ChannelId, after: u64, last: u64) -> Result<(), Violation> {
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
    pub(super) fn refused(&mut self, key: &Key, reason: Refusal, here: &mut Context<'_>) -> Option<Refusal> {
        if self.unasked {
            self.state = State::Off(Monotonic::default());
            return None;
        }
        if !reason.may_succeed_later() {
            return Some(reason);
        }
        self.state = State::Off(here.now.mono + self.wait.next(here.jitter));
        here.actions.extend(key.channel().map(|channel| Action::Deferred { channel, reason }));
        None
    }

    pub(super) fn probed(&mut self, messages: &[Stamped]) -> Result<(), Violation> {
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
