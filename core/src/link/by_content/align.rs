//! Where the live stream stands in the log.
//!
//! The *shift* is how many of the messages already handed on are still to be delivered live: 0 means that the
//! next delivery is the next message of the log, 2 that two repetitions come first, -3 that three messages
//! were delivered which have not been handed on. Only the set of shifts that are possible is known; it always
//! contains the true one, and with every delivery and every page it gets smaller.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::time::Monotonic;

/// How many messages are remembered to recognise repetitions.
pub(super) const REMEMBERED: usize = 512;

/// A message that was handed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Its sender and content, hashed.
    pub(super) hash: u64,
    /// When it was handed on.
    pub(super) at: Monotonic,
}

/// The possible shifts.
#[derive(Clone, Debug)]
pub(super) enum Alignment {
    /// Nothing is known: no reading of the history has come to its end since the subscription.
    Unknown,
    /// One of these, in ascending order; never empty.
    Among(Vec<i64>),
}

/// What a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    /// The next message of the log: to be handed on.
    Next,
    /// Handed on before.
    Repeated,
    /// Not known, or there are others before it: the history must be read.
    Unclear,
    /// Impossible by what the history said.
    Contradiction,
}

impl Alignment {
    /// The possible shifts after a reading of the history came to its end with nothing left: `during` messages
    /// were delivered while its last page was under way, all others before are in the history, since a
    /// message is durable before it is delivered. `tail` has what was handed on, `recent` what was delivered,
    /// each the newest last and as far as remembered. What was handed on before `settled` is not
    /// delivered any more.
    pub(super) fn after_reading(
        tail: &VecDeque<Seen>,
        recent: &VecDeque<u64>,
        during: i64,
        settled: Option<Monotonic>,
    ) -> Option<Self> {
        let possible = |&shift: &i64| {
            if shift > 0 && settle(shift, tail, settled) != shift {
                return false;
            }
            let mut back = shift;
            recent.iter().rev().all(|&hash| {
                back += 1;
                ahead(tail, back).is_none_or(|seen| seen.hash == hash)
            })
        };
        let longest = i64::try_from(tail.len()).unwrap_or(i64::MAX);
        let shifts: Vec<_> = (-during..=longest).filter(possible).collect();
        (!shifts.is_empty()).then_some(Self::Among(shifts))
    }

    /// The shift, if only one is possible.
    pub(super) fn exact(&self) -> Option<i64> {
        match self {
            Self::Among(shifts) if shifts.len() == 1 => shifts.first().copied(),
            _ => None,
        }
    }

    /// Whether everything that was delivered has been handed on, for certain.
    pub(super) fn caught_up(&self) -> bool {
        match self {
            Self::Unknown => false,
            Self::Among(shifts) => shifts.first().is_some_and(|&least| least >= 0),
        }
    }

    /// A message was handed on from the history.
    pub(super) fn handed_on(&mut self) {
        if let Self::Among(shifts) = self {
            shifts.iter_mut().for_each(|shift| *shift += 1);
        }
    }

    /// A message was delivered; what does that make of it? After [`Delivered::Next`] the caller hands it on.
    pub(super) fn delivered(&mut self, hash: u64, tail: &VecDeque<Seen>) -> Delivered {
        let Self::Among(shifts) = self else {
            return Delivered::Unclear;
        };
        shifts.retain(|&shift| ahead(tail, shift).is_none_or(|seen| seen.hash == hash));
        match shifts.as_mut_slice() {
            [] => {
                *self = Self::Unknown;
                Delivered::Contradiction
            }
            [0] => Delivered::Next,
            shifts => {
                shifts.iter_mut().for_each(|shift| *shift -= 1);
                if self.caught_up() { Delivered::Repeated } else { Delivered::Unclear }
            }
        }
    }
}

/// A shift that is known by counting, as a reading's end finds it: what is settled is not delivered any more.
pub(super) fn settle(shift: i64, tail: &VecDeque<Seen>, settled: Option<Monotonic>) -> i64 {
    match ahead(tail, shift) {
        Some(next) if settled.is_some_and(|settled| next.at <= settled) => 0,
        _ => shift,
    }
}

/// The message handed on that a shift says is delivered next, if it is remembered.
fn ahead(tail: &VecDeque<Seen>, shift: i64) -> Option<&Seen> {
    let back = usize::try_from(shift).ok()?;
    // For a shift of 0 this is the place behind the newest, where nothing is.
    tail.get(tail.len().checked_sub(back)?)
}
