//! The inbox: every message from its arrival until it is read, bounded in bytes.
//!
//! When it is full, the source that holds the most gives up its oldest: who floods loses its own messages, and
//! nobody else's. What was given up is counted and told with the next read.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use super::frame::{self, About};
use super::server::Server;
use crate::link::Place;
use crate::name::{ChannelName, SessionPath, UserName};
use crate::payload::Payload;
use crate::time::UnixMillis;

/// What stands in the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Somebody's message.
    Message(Message),
    /// A notice of the bridge itself.
    Notice(Notice),
}

/// A message of another session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The server that it came from.
    pub server: Server,
    /// The channel; `None` for a whisper.
    pub channel: Option<ChannelName>,
    /// Who wrote it.
    pub from: SessionPath,
    /// When the server took it; whispers carry none.
    pub at: Option<UnixMillis>,
    /// What it says.
    pub payload: Payload,
    /// Where it lies, by version 2.
    pub place: Option<Place>,
    /// Whether it mentions this session's user.
    pub mentions_you: bool,
    /// When it came here: what is known of its time where the server's stamp is not.
    pub received: UnixMillis,
}

impl Message {
    /// What is known of it beside its sender and text.
    pub fn about(&self) -> About {
        let about = self.place.as_ref().map(|place| About::of(place, &self.payload)).unwrap_or_default();
        About { mentions_you: self.mentions_you, ..about }
    }

    /// When it came here, if it is not known when the server took it.
    pub fn received_at(&self) -> Option<UnixMillis> {
        self.at.is_none().then_some(self.received)
    }
}

/// Something that the bridge tells its agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The server that it is about.
    pub server: Option<Server>,
    /// What there is to know, and to do.
    pub text: String,
}

/// What is counted and bounded by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The bridge's notices.
    Notices,
    /// A channel.
    Channel(Server, ChannelName),
    /// The whispers of one user.
    Whispers(Server, UserName),
}

impl Entry {
    pub(super) fn source(&self) -> Source {
        match self {
            Self::Notice(_) => Source::Notices,
            Self::Message(message) => match &message.channel {
                Some(channel) => Source::Channel(message.server.clone(), channel.clone()),
                None => Source::Whispers(message.server.clone(), message.from.user.clone()),
            },
        }
    }

    /// Its text, as it came.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Notice(notice) => Cow::Borrowed(&notice.text),
            Self::Message(message) => frame::body(&message.payload),
        }
    }

    fn size(&self) -> usize {
        OVERHEAD
            + match self {
                Self::Notice(notice) => notice.text.len(),
                Self::Message(message) => message.payload.size(),
            }
    }
}

/// What an entry costs beside its text: paths, stamps, its place in the queue.
const OVERHEAD: usize = 256;

/// Messages given up, by source.
pub type Dropped = BTreeMap<Source, u64>;

/// Sources whose losses are counted one by one; those of more are counted with the last.
const MAX_COUNTED: usize = 64;

/// What a read took: an entry, or the part of one that still fitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The entry, whole.
    pub entry: Entry,
    /// Which bytes of its text this read is about.
    pub part: core::ops::Range<usize>,
    order: u64,
}

impl Unread {
    /// The text, or the part of it, that this read is about: as it came.
    pub fn text(&self) -> String {
        String::from(&self.entry.text()[self.part.clone()])
    }

    /// What stands before and after that part, in bytes.
    pub fn around(&self) -> (usize, usize) {
        (self.part.start, self.entry.text().len() - self.part.end)
    }
}

/// One read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Oldest first.
    pub entries: Vec<Unread>,
    /// How many are still unread.
    pub remaining: usize,
    /// What was given up since the last read.
    pub dropped: Dropped,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    order: u64,
    read: usize,
    entry: Entry,
}

/// Unread entries, in the order of their arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbox {
    limit: usize,
    next: u64,
    bytes: usize,
    count: usize,
    sources: BTreeMap<Source, (usize, VecDeque<Held>)>,
    dropped: Dropped,
}

impl Inbox {
    /// Holds at most `limit` bytes; the newest entry always fits.
    pub fn new(limit: usize) -> Self {
        Self { limit, next: 0, bytes: 0, count: 0, sources: BTreeMap::new(), dropped: BTreeMap::new() }
    }

    /// How many entries are unread.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True with nothing unread and nothing lost to tell of.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.dropped.is_empty()
    }

    /// The bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many entries of a channel, or of all whispers, are unread.
    pub(super) fn count_in(&self, server: &Server, channel: Option<&ChannelName>) -> usize {
        let is_in = |source: &Source| match (source, channel) {
            (Source::Channel(on, name), Some(channel)) => on == server && name == channel,
            (Source::Whispers(on, _), None) => on == server,
            _ => false,
        };
        let sources = self.sources.iter().filter(|(source, _)| is_in(source));
        sources.map(|(_, (_, queue))| queue.len()).sum()
    }

    /// Whether an entry fits without another one being given up, and without its source taking more than a quarter. One
    /// entry of a source always fits.
    pub(super) fn has_room(&self, entry: &Entry) -> bool {
        let (size, held) = (entry.size(), self.sources.get(&entry.source()).map_or(0, |(bytes, _)| *bytes));
        held == 0 || (self.bytes + size <= self.limit && held + size <= self.limit / 4)
    }

    /// The unread entries, oldest first.
    pub(super) fn entries(&self) -> Vec<&Entry> {
        let mut held: Vec<_> = self.sources.values().flat_map(|(_, queue)| queue).collect();
        held.sort_unstable_by_key(|held| held.order);
        held.into_iter().map(|held| &held.entry).collect()
    }

    /// Takes in an entry, and gives up others where the limit asks for it.
    pub fn push(&mut self, entry: Entry) {
        let order = self.next;
        self.next += 1;
        self.insert(Held { order, read: 0, entry });
        while self.bytes > self.limit && self.count > 1 {
            self.give_up(order);
        }
    }

    fn insert(&mut self, held: Held) {
        let size = held.entry.size();
        let (bytes, queue) = self.sources.entry(held.entry.source()).or_default();
        *bytes += size;
        self.bytes += size;
        self.count += 1;
        let at = queue.partition_point(|other| other.order < held.order);
        queue.insert(at, held);
    }

    fn give_up(&mut self, newest: u64) {
        // The newest is what the agent is about to be told of: it stays, even where its source holds the most.
        let heaviest = self
            .sources
            .iter()
            .filter(|(_, (_, queue))| queue.front().is_some_and(|held| held.order != newest))
            .max_by_key(|(_, (bytes, _))| *bytes);
        let Some(source) = heaviest.map(|(source, _)| source.clone()) else { return };
        self.take_first(&source);
        let known = self.dropped.len() < MAX_COUNTED || self.dropped.contains_key(&source);
        let counted = if known { Some(source) } else { self.dropped.keys().next_back().cloned() };
        if let Some(source) = counted {
            *self.dropped.entry(source).or_default() += 1;
        }
    }

    fn take_first(&mut self, source: &Source) -> Option<Held> {
        let (bytes, queue) = self.sources.get_mut(source)?;
        let held = queue.pop_front()?;
        let size = held.entry.size();
        *bytes -= size;
        self.bytes -= size;
        self.count -= 1;
        if queue.is_empty() {
            self.sources.remove(source);
        }
        Some(held)
    }

    /// Takes the oldest entries: at most `limit`, and at most `bytes` of text. A longer text is given in parts,
    /// one with each read, so that a read always gets on.
    pub fn read(&mut self, limit: usize, mut bytes: usize) -> Page {
        let mut page = Page { dropped: core::mem::take(&mut self.dropped), ..Page::default() };
        while page.entries.len() < limit {
            let oldest = self
                .sources
                .iter()
                .filter_map(|(source, (_, queue))| queue.front().map(|held| (held.order, source)));
            let Some(source) = oldest.min_by_key(|(order, _)| *order).map(|(_, source)| source.clone())
            else {
                break;
            };
            let Some((_, queue)) = self.sources.get_mut(&source) else { break };
            let Some(first) = queue.front_mut() else { break };
            let text = first.entry.text();
            let length = text.len();
            let rest = length - first.read;
            if rest > bytes && !page.entries.is_empty() {
                break;
            }
            let end = if rest > bytes { cut(&text, first.read, bytes) } else { length };
            let (part, order) = (first.read..end, first.order);
            bytes = bytes.saturating_sub(rest);
            if end < length {
                first.read = end;
                page.entries.push(Unread { entry: first.entry.clone(), part, order });
                break;
            }
            let Some(held) = self.take_first(&source) else { break };
            page.entries.push(Unread { entry: held.entry, part, order });
        }
        page.remaining = self.count;
        page
    }

    /// Puts back what a read took and nobody saw.
    pub fn unread(&mut self, page: Page) {
        for Unread { entry, part, order } in page.entries {
            let queue = self.sources.get_mut(&entry.source()).map(|(_, queue)| queue);
            match queue.and_then(|queue| queue.front_mut()).filter(|first| first.order == order) {
                Some(first) => first.read = part.start,
                None => self.insert(Held { order, read: part.start, entry }),
            }
        }
        for (source, count) in page.dropped {
            *self.dropped.entry(source).or_default() += count;
        }
    }
}

/// Where a part of `text` of at most `bytes` from `start` ends: on a character's boundary, past at least one.
fn cut(text: &str, start: usize, bytes: usize) -> usize {
    let end = text.floor_char_boundary(start.saturating_add(bytes));
    if end > start { end } else { text.ceil_char_boundary(start + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(user: &str, text: &str) -> Entry {
        Entry::Message(Message {
            server: Server::new("wss://a"),
            channel: None,
            from: SessionPath::new(user, "m", "s").unwrap(),
            at: None,
            payload: Payload::Plain(String::from(text)),
            place: None,
            mentions_you: false,
            received: UnixMillis(0),
        })
    }

    fn texts(page: &Page) -> Vec<String> {
        page.entries.iter().map(Unread::text).collect()
    }

    #[test]
    fn who_floods_loses_its_own_messages_only_and_it_is_told() {
        let mut inbox = Inbox::new(10_000);
        inbox.push(message("alice", "keep me"));
        for n in 0..1000 {
            inbox.push(message("eve", &alloc::format!("{n}")));
        }
        assert!(inbox.bytes() <= 10_000);
        let page = inbox.read(1000, usize::MAX);
        let texts = texts(&page);
        assert_eq!(texts[0], "keep me");
        assert_eq!(texts.last().unwrap(), "999");
        let eve = Source::Whispers(Server::new("wss://a"), UserName::new("eve").unwrap());
        assert_eq!(page.dropped.get(&eve).copied(), Some(1001 - texts.len() as u64));
        assert_eq!(page.dropped.len(), 1);
        assert!(inbox.read(9, 9).dropped.is_empty(), "told once");
    }

    #[test]
    fn a_message_longer_than_a_page_is_read_in_parts() {
        let mut inbox = Inbox::new(100_000);
        let long = "äöü".repeat(50);
        inbox.push(message("alice", &long));
        inbox.push(message("alice", "short"));
        let mut all = String::new();
        while !inbox.is_empty() {
            for text in texts(&inbox.read(10, 7)) {
                all.push_str(&text);
            }
        }
        assert_eq!(all, long + "short");
    }

    #[test]
    fn what_nobody_saw_is_read_again() {
        let mut inbox = Inbox::new(100_000);
        for text in ["one", "two and more", "three"] {
            inbox.push(message("alice", text));
        }
        let before = inbox.clone();
        let page = inbox.read(2, 6);
        inbox.unread(page);
        assert_eq!(inbox.read(9, 99), before.clone().read(9, 99));
        let mut inbox = before.clone();
        let page = inbox.read(9, 5);
        assert_eq!(texts(&page), ["one"]);
        let page = inbox.read(9, 5);
        assert_eq!(texts(&page), ["two a"]);
        inbox.push(message("bob", "four"));
        inbox.unread(page);
        assert_eq!(texts(&inbox.read(9, 99)), ["two and more", "three", "four"]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_reordered_or_repeated_within_the_limit(
            pushed in proptest::collection::vec((0..4_u8, ".{0,40}"), 0..40),
            reads in proptest::collection::vec((1..5_usize, 0..60_usize), 0..40),
        ) {
            let mut inbox = Inbox::new(usize::MAX);
            let mut all = String::new();
            let mut got = String::new();
            let mut reads = reads.into_iter();
            for (user, text) in pushed {
                all.push_str(&text);
                inbox.push(message(["a", "b", "c", "d"][usize::from(user)], &text));
                if let Some((limit, bytes)) = reads.next() {
                    got.extend(texts(&inbox.read(limit, bytes)));
                }
            }
            while !inbox.is_empty() {
                got.extend(texts(&inbox.read(3, 20)));
            }
            prop_assert_eq!(got, all);
            prop_assert_eq!(inbox.bytes(), 0);
        }
    }
}
