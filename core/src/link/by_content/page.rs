//! A channel's pages: what of them is handed on, and what they tell about the deliveries.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::align::{self, Alignment, REMEMBERED};
use super::{Channel, Message, OutOfOrder, Plan, Reading};
use crate::link::Context;
use crate::name::SessionPath;
use crate::protocol::Stamped;
use crate::time::Monotonic;

/// So long after a page showed a message, it is not delivered any more.
const SETTLE: Duration = Duration::from_secs(2);
/// A channel that is never quiet is probed no faster than this, after so many pages.
const PROBE_PAUSE: Duration = Duration::from_secs(1);
const PROBE_PAGES: u32 = 24;
/// Messages of one stamp that are remembered.
const MAX_WITNESSES: usize = 64;

impl Channel {
    /// A page came, the answer to the last read.
    pub(in crate::link) fn page(
        &mut self,
        messages: Vec<Stamped>,
        here: &mut Context<'_>,
    ) -> Result<(), OutOfOrder> {
        let Some(reading) = self.reading.take() else {
            return Ok(());
        };
        let mut last = reading.since;
        for (at, message) in messages.iter().enumerate() {
            if message.ts.0 < last || (at == 0 && message.ts.0 == last) {
                return Err(OutOfOrder);
            }
            last = message.ts.0;
        }
        if messages.is_empty() {
            self.end_of_history(reading, here);
            return Ok(());
        }
        if self.probe.is_some() {
            self.probed(reading, &messages, last, here);
            return Ok(());
        }
        self.plan = Plan::After(last);
        self.hand_on_page(reading, messages, here);
        // A reading that only anchors need not go on to the end.
        if self.caught_up && self.alignment.exact() == Some(0) && self.to_anchor == 0 {
            self.finish(here);
        }
        Ok(())
    }

    fn hand_on_page(&mut self, reading: Reading, messages: Vec<Stamped>, here: &mut Context<'_>) {
        let mut witnesses = Vec::new();
        if let Some(cursor) = reading.witness {
            witnesses.clone_from(&self.witnesses);
            self.contiguous = messages
                .iter()
                .take_while(|message| message.ts.0 == cursor)
                .any(|message| witnesses.contains(&self.key.hash(&message.from, &message.payload)));
            if !self.contiguous {
                // The purge came by, so what was handed on before has no neighbour in this page.
                let keep = self.unanchored.len().min(self.tail.len());
                self.tail.drain(..self.tail.len() - keep);
            }
        }
        for Stamped { from, ts, payload, .. } in messages {
            let hash = self.key.hash(&from, &payload);
            if reading.witness == Some(ts.0)
                && let Some(at) = witnesses.iter().position(|&witness| witness == hash)
            {
                witnesses.swap_remove(at);
                continue;
            }
            self.advance(ts.0, hash);
            if from == *here.own {
                continue;
            }
            // Another session may have the path by now: what it posts is delivered.
            let was_own = self.was_own(&from, hash);
            if !was_own && self.anchor(hash) {
                continue;
            }
            self.remember(hash, here.now.mono);
            self.alignment.handed_on();
            if was_own || ts.0 <= self.skip {
                continue;
            }
            self.tell(Message { from, payload, ts: Some(ts) }, here);
        }
    }

    /// Whether we posted a message before we changed our handle: it is older than something handed on live, and was
    /// not handed on itself.
    fn was_own(&self, from: &SessionPath, hash: u64) -> bool {
        self.to_anchor > 0 && self.former.contains(from) && !self.unanchored.contains(&hash)
    }

    /// The cursor moves on to a message.
    fn advance(&mut self, ts: i64, hash: u64) {
        if ts > self.cursor {
            self.cursor = ts;
            self.witnesses.clear();
        }
        if self.witnesses.len() < MAX_WITNESSES {
            self.witnesses.push(hash);
        }
    }

    /// Whether a message of the history is one that was handed on live.
    fn anchor(&mut self, hash: u64) -> bool {
        match self.unanchored.iter().position(|&handed_on| handed_on == hash) {
            Some(at) => {
                self.unanchored.drain(..=at);
                self.to_anchor = self.to_anchor.saturating_sub(at + 1);
                true
            }
            None => {
                if !self.contiguous {
                    // They came before this one, and are purged.
                    self.unanchored.clear();
                    self.to_anchor = 0;
                }
                false
            }
        }
    }

    fn end_of_history(&mut self, reading: Reading, here: &mut Context<'_>) {
        let during = i64::try_from(self.deliveries - reading.deliveries).unwrap_or(i64::MAX);
        if let Some(probe) = &mut self.probe {
            let end = probe.nothing(reading.since);
            let pages = probe.pages();
            if end && self.established(during, here.now.mono) {
                self.finish(here);
            } else {
                self.pace(pages, here.now.mono);
            }
            return;
        }
        // What was handed on before the reading and is not in it will not be found any more.
        self.unanchored.drain(..self.to_anchor);
        self.to_anchor = 0;
        self.plan = Plan::After(self.cursor);
        if during > REMEMBERED as i64 {
            return;
        }
        self.align(reading, during, here);
        if self.alignment.caught_up() {
            self.finish(here);
        }
    }

    /// Everything in the history has been handed on: where does that leave the deliveries?
    fn align(&mut self, reading: Reading, during: i64, here: &mut Context<'_>) {
        let settled = reading.at.0.checked_sub(SETTLE.as_millis() as u64).map(Monotonic);
        let alignment = match self.alignment.exact() {
            Some(shift) if shift < -during => None,
            Some(shift) => Some(Alignment::Among(vec![align::settle(shift, &self.tail, settled)])),
            None => Alignment::after_reading(&self.tail, &self.recent, during, settled),
        };
        let Some(alignment) = alignment else {
            return self.believe_deliveries(here);
        };
        self.alignment = alignment;
        let Some(shift) = self.alignment.exact() else {
            return;
        };
        self.recent.clear();
        let missing = usize::try_from(-shift).unwrap_or(0);
        if missing > 0
            && let Some(messages) = self.buffer.take_last(missing)
        {
            self.alignment = Alignment::Among(vec![0]);
            for (hash, message) in messages {
                self.hand_on_live(hash, message, here);
            }
        }
    }

    /// The history says that what was delivered cannot be. A server that purges at once does so, or one that delivers
    /// in another order than it stores: a repetition would be worse than nothing, a loss worse than that.
    fn believe_deliveries(&mut self, here: &mut Context<'_>) {
        for (hash, message) in self.buffer.take_all() {
            if self.tail.iter().all(|seen| seen.hash != hash) {
                self.hand_on_live(hash, message, here);
            }
        }
        self.recent.clear();
        self.alignment =
            Alignment::after_reading(&self.tail, &self.recent, 0, None).unwrap_or(Alignment::Unknown);
    }

    fn probed(&mut self, reading: Reading, messages: &[Stamped], last: i64, here: &Context<'_>) {
        if reading.since != self.cursor {
            self.cursor = reading.since;
            self.witnesses.clear();
            self.tail.clear();
        }
        for message in messages {
            let hash = self.key.hash(&message.from, &message.payload);
            self.advance(message.ts.0, hash);
            if message.from != *here.own {
                self.remember(hash, here.now.mono);
            }
        }
        let Some(probe) = &mut self.probe else { return };
        probe.something(reading.since, last);
        let pages = probe.pages();
        self.pace(pages, here.now.mono);
    }

    fn pace(&mut self, pages: u32, now: Monotonic) {
        if pages > PROBE_PAGES {
            self.hold = Some(now + PROBE_PAUSE);
        }
    }

    /// The history's end is found; which of the deliveries, all handed on, are in it? True if that is certain enough
    /// to go on from here.
    fn established(&mut self, during: i64, now: Monotonic) -> bool {
        if during > REMEMBERED as i64 {
            return false;
        }
        let found = Alignment::after_reading(&self.tail, &self.recent, during, None);
        let alignment = match found {
            Some(alignment) => alignment,
            None => {
                self.recent.clear();
                Alignment::after_reading(&self.tail, &self.recent, 0, None).unwrap_or(Alignment::Unknown)
            }
        };
        match alignment.exact() {
            Some(shift) if shift < 0 => {
                let missing = usize::try_from(-shift).unwrap_or(0);
                for hash in self.recent.split_off(self.recent.len().saturating_sub(missing)) {
                    self.remember(hash, now);
                    self.unanchored.push_back(hash);
                }
                self.alignment = Alignment::Among(vec![0]);
            }
            _ if alignment.caught_up() => self.alignment = alignment,
            _ => return false,
        }
        if self.alignment.exact().is_some() {
            self.recent.clear();
        }
        self.probe = None;
        true
    }

    /// The reading is over.
    fn finish(&mut self, here: &mut Context<'_>) {
        self.plan = Plan::Nothing;
        self.buffer.clear();
        self.former.clear();
        self.caught_up = true;
        self.settle_at = (self.alignment.exact() != Some(0)).then(|| here.now.mono + SETTLE);
        self.anchor_at = None;
        self.anchor_later(here);
    }
}
