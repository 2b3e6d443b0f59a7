//! A window onto a stream, and how much of the stream is unread.
//!
//! The window is one unbroken part of the stream: `from..=to`. What the server does not keep any more is no hole in it.
//! Live messages extend a window that ends where the stream does; pages extend it at either end. What is far from where
//! the reader looks is forgotten.
//!
//! A message is *unread* if it is behind `read`, was *counted* (it came, in a page or live), somebody else wrote it,
//! and it was not *shown*.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::message::{Message, Receipts};
use super::ranges::Ranges;
use crate::name::UserName;
use crate::record::ChannelId;
use crate::stream::Receipt;

/// Messages in a window, and their bytes.
pub(super) const MAX_MESSAGES: usize = 1000;
const MAX_BYTES: usize = 4 << 20;
/// The same for a stream that nobody looks at.
const MAX_RESTING: usize = 100;
const MAX_RESTING_BYTES: usize = 256 * 1024;
/// Own messages that are stored and did not come back in the stream yet.
const MAX_EARLY: usize = 256;
/// Senders whose messages are counted apart.
const MAX_SENDERS: usize = 1024;
/// Behind so many unread messages no more are counted.
pub(super) const MAX_COUNTED: u64 = 999;

/// Unread messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub unread: u64,
    /// Those that mention the reader.
    pub mentions: u64,
}

/// Which page was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// The messages before the window.
    Older { before: u64 },
    /// The messages behind the window; `last` was the stream's last message then.
    Newer { after: u64, last: u64 },
    /// Another window.
    Jump { after: u64, last: u64 },
    /// Messages to count only.
    Count { after: u64, to: u64 },
    /// Messages of the window that did not come.
    Fill { after: u64, to: u64 },
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline {
    pub(super) number: Option<ChannelId>,
    messages: BTreeMap<u64, Message>,
    bytes: usize,
    from: u64,
    to: u64,
    last: u64,
    at_start: bool,
    early: BTreeMap<u64, Message>,
    /// Own messages in the window whose text is not here.
    missing: BTreeSet<u64>,
    read: u64,
    given_up: Option<u64>,
    shown: Ranges,
    counted: Ranges,
    counts: BTreeMap<UserName, Count>,
}

impl Timeline {
    /// A stream whose last message is `last`, read up to `read`; `given_up` was marked as read without being shown.
    pub(super) fn new(number: Option<ChannelId>, last: u64, read: u64, given_up: Option<u64>) -> Self {
        let read = read.min(last);
        Self {
            number,
            from: last + 1,
            to: last,
            last,
            at_start: last == 0,
            read,
            given_up,
            ..Self::default()
        }
    }

    pub(super) fn messages(&self) -> impl DoubleEndedIterator<Item = &Message> {
        self.messages.values().chain(self.early.values().filter(|it| self.at_end() && it.seq > self.to))
    }

    pub(super) fn get(&self, seq: u64) -> Option<&Message> {
        self.messages.get(&seq).or_else(|| self.early.get(&seq))
    }

    /// The window, its bounds included.
    pub(super) fn window(&self) -> (u64, u64) {
        (self.from, self.to)
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// Up to where it was shown, without one that was only marked as read.
    pub(super) fn seen(&self) -> u64 {
        self.given_up.map_or(self.read, |first| self.read.min(first - 1))
    }

    pub(super) fn given_up(&self) -> Option<u64> {
        self.given_up
    }

    /// Up to where all messages came.
    pub(super) fn delivered(&self) -> u64 {
        self.counted.run_after(self.read)
    }

    /// Whether the window begins where the stream does.
    pub(super) fn at_start(&self) -> bool {
        self.at_start
    }

    /// Whether the window ends where the stream does.
    pub(super) fn at_end(&self) -> bool {
        self.to >= self.last
    }

    pub(super) fn counts(&self) -> &BTreeMap<UserName, Count> {
        &self.counts
    }

    pub(super) fn count(&self) -> Count {
        self.counts.values().fold(Count::default(), |sum, it| Count {
            unread: sum.unread + it.unread,
            mentions: sum.mentions + it.mentions,
        })
    }

    /// Messages behind the read ones that did not come yet.
    pub(super) fn uncounted(&self) -> Option<(u64, u64)> {
        self.counted.first_gap(self.read + 1, self.last)
    }

    /// The messages to count next, unless so many are counted that more do not matter.
    pub(super) fn to_count(&self) -> Option<Page> {
        let (from, to) = self.uncounted()?;
        (self.count().unread < MAX_COUNTED).then_some(Page::Count { after: from - 1, to })
    }

    /// The part of the window that is to be read again.
    pub(super) fn to_fill(&self) -> Option<Page> {
        let first = *self.missing.first()?;
        Some(Page::Fill { after: first - 1, to: *self.missing.last()? })
    }

    /// The next messages of the stream, in their order. `None`: an own one, whose text comes apart.
    pub(super) fn live(&mut self, seq: u64, message: Option<Message>) {
        if seq <= self.last {
            return;
        }
        let follows = self.at_end();
        match &message {
            Some(message) => self.note(self.last + 1, seq, [message]),
            None => self.note(self.last + 1, seq, []),
        }
        self.last = seq;
        if follows && seq > self.to {
            self.to = seq;
            let early = self.early.remove(&seq);
            match message.or(early) {
                Some(message) => self.put(message),
                None => {
                    self.missing.insert(seq);
                }
            }
        } else if seq <= self.to
            && let Some(message) = message
        {
            self.put(message);
        } else {
            self.early.remove(&seq);
        }
    }

    /// The server does not keep these messages.
    pub(super) fn purged(&mut self, from: u64, to: u64) {
        if to <= self.last {
            return;
        }
        let follows = self.at_end();
        self.note(from, to, []);
        self.last = to;
        if follows {
            self.to = self.to.max(to);
        }
    }

    /// An own message is stored.
    pub(super) fn stored(&mut self, message: Message) {
        let seq = message.seq;
        if (self.from..=self.to).contains(&seq) {
            self.missing.remove(&seq);
            if !self.messages.contains_key(&seq) {
                self.put(message);
            }
        } else if seq > self.last && self.early.len() < MAX_EARLY {
            self.early.insert(seq, message);
        }
    }

    /// Takes in a page. False if the window has moved meanwhile, so that the page does not fit.
    pub(super) fn page(&mut self, page: Page, messages: Vec<Message>, more: bool) -> bool {
        let first = messages.first().map(|it| it.seq);
        let end = |after: u64, last: u64| match messages.last() {
            Some(it) if more => it.seq,
            Some(it) => it.seq.max(last),
            None => last.max(after),
        };
        match page {
            Page::Older { before } => {
                let start = first.filter(|_| more).unwrap_or(1);
                self.note(start, before - 1, &messages);
                if self.from != before {
                    return false;
                }
                self.from = start;
                self.at_start = start == 1;
            }
            Page::Newer { after, last } => {
                let end = end(after, last);
                self.note(after + 1, end, &messages);
                if self.to != after {
                    return false;
                }
                self.to = end;
            }
            Page::Jump { after, last } => {
                let end = end(after, last);
                self.note(after + 1, end, &messages);
                self.clear();
                (self.from, self.to) = (after + 1, end);
                self.at_start = after == 0;
            }
            Page::Count { after, to } => {
                let end = end(after, to);
                self.note(after + 1, end, &messages);
                return true;
            }
            Page::Fill { after, to } => {
                let end = end(after, to);
                self.note(after + 1, end.min(self.last), &messages);
                self.missing.retain(|seq| !(after + 1..=end).contains(seq));
            }
        }
        for message in messages {
            if (self.from..=self.to).contains(&message.seq) && !self.messages.contains_key(&message.seq) {
                self.missing.remove(&message.seq);
                self.early.remove(&message.seq);
                self.put(message);
            }
        }
        true
    }

    /// Forgets what is far from what the reader looks at; `None`: nobody looks.
    pub(super) fn trim(&mut self, look: Option<(u64, u64)>) {
        let (most, most_bytes) = match look {
            Some(_) => (MAX_MESSAGES, MAX_BYTES),
            None => (MAX_RESTING, MAX_RESTING_BYTES),
        };
        let (top, bottom) = look.unwrap_or((self.to, self.to));
        while self.messages.len() > most || (self.bytes > most_bytes && self.messages.len() > 1) {
            let (Some((&first, _)), Some((&last, _))) =
                (self.messages.first_key_value(), self.messages.last_key_value())
            else {
                return;
            };
            if top.saturating_sub(first) >= last.saturating_sub(bottom) {
                self.drop_message(first);
                self.from = first + 1;
                self.at_start = false;
            } else {
                self.drop_message(last);
                self.to = last - 1;
            }
        }
        let (from, to) = (self.from, self.to);
        self.missing.retain(|seq| (from..=to).contains(seq));
    }

    /// A message was on the screen.
    pub(super) fn show(&mut self, seq: u64) {
        let Some(message) = self.messages.get(&seq) else { return };
        if seq <= self.read || self.shown.contains(seq) {
            return;
        }
        if !message.own && self.counted.contains(seq) {
            let (from, mentions) = (self.key(message), u64::from(message.mentions_you));
            if let Some(count) = self.counts.get_mut(&from) {
                count.unread = count.unread.saturating_sub(1);
                count.mentions = count.mentions.saturating_sub(mentions);
            }
            self.counts.retain(|_, count| *count != Count::default());
        }
        self.shown.add(seq, seq);
        self.advance();
    }

    /// Nothing is unread any more, whether it was shown or not.
    pub(super) fn mark_read(&mut self) {
        if self.read < self.last {
            let first = self.read + 1;
            self.given_up = Some(self.given_up.map_or(first, |before| before.min(first)));
        }
        self.read = self.last;
        self.counts.clear();
        // What a page brought from behind it is counted again when it comes live.
        self.counted = Ranges::default();
        self.advance();
    }

    /// Who has an own message.
    pub(super) fn receipts(&mut self, seq: u64, receipts: Receipts) {
        if let Some(message) = self.messages.get_mut(&seq) {
            message.receipts = receipts;
        }
    }

    /// The server is asked who has an own message.
    pub(super) fn receipts_asked(&mut self, seq: u64) {
        if let Some(message) = self.messages.get_mut(&seq) {
            message.receipts.ask();
        }
    }

    /// Readers came further: what was said of own messages is out of date, as far as somebody lacks one.
    pub(super) fn readers_moved(&mut self) {
        for message in self.messages.values_mut().filter(|it| it.own) {
            if let Receipts::Known { readers, stale } = &mut message.receipts {
                *stale |=
                    readers.iter().any(|it: &Receipt| it.lacks(crate::stream::ReceiptState::Acknowledged));
            }
        }
    }

    fn put(&mut self, message: Message) {
        self.bytes += message.size();
        if let Some(before) = self.messages.insert(message.seq, message) {
            self.bytes -= before.size();
        }
    }

    fn drop_message(&mut self, seq: u64) {
        if let Some(message) = self.messages.remove(&seq) {
            self.bytes -= message.size();
        }
    }

    fn clear(&mut self) {
        self.messages.clear();
        self.missing.clear();
        self.bytes = 0;
    }

    /// Counts what came: these messages are all that there is from `from` to `to`.
    fn note<'a>(&mut self, from: u64, to: u64, messages: impl IntoIterator<Item = &'a Message>) {
        let from = from.max(self.read + 1);
        let mut next = from;
        let mut nothing = Ranges::default();
        for message in messages {
            if message.seq < from || message.seq > to {
                continue;
            }
            nothing.add(next, message.seq - 1);
            next = message.seq + 1;
            if message.own {
                self.shown.add(message.seq, message.seq);
            } else if !self.counted.contains(message.seq) && !self.shown.contains(message.seq) {
                let key = self.key(message);
                let count = self.counts.entry(key).or_default();
                count.unread += 1;
                count.mentions += u64::from(message.mentions_you);
            }
        }
        nothing.add(next, to);
        // There is nothing to show there.
        let mut at = from;
        while let Some((start, end)) = nothing.next_from(at, to) {
            self.shown.add(start, end);
            at = end + 1;
        }
        self.counted.add(from, to);
        self.advance();
    }

    fn key(&self, message: &Message) -> UserName {
        let known = self.counts.len() < MAX_SENDERS || self.counts.contains_key(&message.from.user);
        match self.counts.keys().next() {
            Some(first) if !known => first.clone(),
            _ => message.from.user.clone(),
        }
    }

    fn advance(&mut self) {
        self.read = self.shown.run_after(self.read).min(self.last.max(self.read));
        self.shown.forget(self.read);
        self.counted.forget(self.read);
    }
}
