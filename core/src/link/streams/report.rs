//! How far the reader has come, and what of it the server knows. Reports are spaced: many readers of a busy channel must
//! not multiply its traffic.

use core::time::Duration;

use crate::time::Monotonic;

/// At most one report in this time, for each stream.
const EVERY: Duration = Duration::from_millis(250);

/// The positions of one stream's reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    delivered: u64,
    seen: u64,
    /// What the server was last told on this connection.
    known: Option<(u64, u64)>,
    asked: bool,
    not_before: Monotonic,
    /// The server keeps no positions for this session.
    useless: bool,
}

impl Report {
    /// The reader has come so far; positions only move forward.
    pub(super) fn moved(&mut self, delivered: u64, seen: u64) {
        self.delivered = self.delivered.max(delivered).max(seen);
        self.seen = self.seen.max(seen);
    }

    /// When [`Report::next`] has something to send.
    pub(super) fn due(&self) -> Option<Monotonic> {
        let news = self.delivered > 0 && self.known != Some((self.delivered, self.seen));
        (news && !self.asked && !self.useless).then_some(self.not_before)
    }

    /// What to send now.
    pub(super) fn next(&mut self, now: Monotonic) -> Option<(u64, u64)> {
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        self.asked = true;
        self.not_before = now + EVERY;
        Some((self.delivered, self.seen))
    }

    /// The server answered.
    pub(super) fn answered(&mut self, delivered: u64, seen: u64, taken: bool, now: Monotonic) {
        self.asked = false;
        self.useless = !taken;
        self.known = Some((delivered, seen));
        self.not_before = self.not_before.max(now);
    }

    /// The connection is gone. A server that lost its last moments is told again.
    pub(super) fn dropped(&mut self) {
        *self = Self { delivered: self.delivered, seen: self.seen, ..Self::default() };
    }
}
