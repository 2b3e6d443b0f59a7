//! The inbox: every message from its arrival until it is read, bounded in bytes.
//!
//! When it is full, the source that holds the most gives up its oldest: who floods loses its own messages, and
//! nobody else's. What was given up is counted and told with the next read.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use super::frame::{self, About};
use super::guard::{Row, Venue};
use super::server::Server;
use crate::body::{self, Context};
use crate::link::Place;
use crate::name::{ChannelName, SessionPath, UserName};
use crate::payload::Payload;
use crate::record::ChannelId;
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

    /// Where it counts for the loop guard.
    pub(super) fn venue(&self) -> Venue {
        match &self.channel {
            Some(channel) => Venue::Channel(self.server.clone(), channel.clone()),
            None => Venue::Whispers(self.server.clone(), self.from.user.clone()),
        }
    }

    /// What it says to the loop guard.
    pub(super) fn row(&self) -> Row {
        let Payload::Body(body) = &self.payload else { return Row::default() };
        let Context { hops, budget, .. } = body::context(body);
        Row { hops, budget }
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

    /// Whether it mentions the agent's user, or is for it in another way.
    pub(super) fn mentions_you(&self) -> bool {
        !matches!(self, Self::Message(Message { channel: Some(_), mentions_you: false, .. }))
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

/// At first a read shows this part of what it may show of a text that is longer: others come before the rest of it.
const BEGINNING: usize = 2;

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

    /// Whether there is an entry of a channel, or of any whisper, of which nothing was read.
    pub(super) fn has_fresh_in(
        &self,
        server: &Server,
        channel: Option<&ChannelName>,
        wanted: impl Fn(&Entry) -> bool,
    ) -> bool {
        let is_in = |source: &Source| match (source, channel) {
            (Source::Channel(on, name), Some(channel)) => on == server && name == channel,
            (Source::Whispers(on, _), None) => on == server,
            _ => false,
        };
        let sources = self.sources.iter().filter(|(source, _)| is_in(source));
        sources.flat_map(|(_, (_, queue))| queue).any(|held| held.read == 0 && wanted(&held.entry))
    }

    /// Whether there is something that a read of what is `wanted` begins with. The rest of a long text is none.
    pub(super) fn has_fresh(&self, wanted: impl Fn(&Entry) -> bool) -> bool {
        let mut held = self.sources.values().flat_map(|(_, queue)| queue);
        held.any(|held| held.read == 0 && wanted(&held.entry))
    }

    /// How many entries of each source are unread: those that `wanted` takes, and the others.
    pub(super) fn counts(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<(Source, usize, usize)> {
        let count = |(source, (_, queue)): (&Source, &(usize, VecDeque<Held>))| {
            let taken = queue.iter().filter(|held| wanted(&held.entry)).count();
            (source.clone(), taken, queue.len() - taken)
        };
        self.sources.iter().map(count).collect()
    }

    /// The first message of a stream that is unread, or read in part.
    pub(super) fn first_of(&self, server: &Server, stream: ChannelId) -> Option<u64> {
        let held = self.sources.values().flat_map(|(_, queue)| queue);
        held.filter_map(|held| match &held.entry {
            Entry::Message(Message { server: on, place: Some(place), .. })
                if on == server && place.stream == stream =>
            {
                Some(place.seq)
            }
            _ => None,
        })
        .min()
    }

    /// Takes out all that `wanted` takes, unread.
    pub(super) fn remove(&mut self, wanted: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let matching: Vec<_> = self
            .sources
            .iter()
            .flat_map(|(source, (_, queue))| queue.iter().map(move |held| (source, held)))
            .filter(|(_, held)| wanted(&held.entry))
            .map(|(source, held)| (source.clone(), held.order))
            .collect();
        matching
            .into_iter()
            .filter_map(|(source, order)| self.take(&source, order))
            .map(|it| it.entry)
            .collect()
    }

    /// Counts a message of a source as given up: the next read tells of it.
    pub(super) fn lost(&mut self, source: Source) {
        let known = self.dropped.len() < MAX_COUNTED || self.dropped.contains_key(&source);
        let counted = if known { Some(source) } else { self.dropped.keys().next_back().cloned() };
        if let Some(source) = counted {
            *self.dropped.entry(source).or_default() += 1;
        }
    }

    /// Whether an entry fits without another one being given up, and without its source taking more than a quarter. One
    /// entry of a source always fits. What is left of long texts whose beginning was read gives way.
    pub(super) fn has_room(&self, entry: &Entry) -> bool {
        let unread = |queue: &VecDeque<Held>| {
            queue.iter().filter(|held| held.read == 0).map(|held| held.entry.size()).sum::<usize>()
        };
        let (size, held) =
            (entry.size(), self.sources.get(&entry.source()).map_or(0, |(_, queue)| unread(queue)));
        let all = || self.sources.values().map(|(_, queue)| unread(queue)).sum::<usize>();
        held == 0 || (held + size <= self.limit / 4 && all() + size <= self.limit)
    }

    /// The unread entries, oldest first.
    pub(super) fn entries(&self) -> Vec<&Entry> {
        let mut held: Vec<_> = self.sources.values().flat_map(|(_, queue)| queue).collect();
        held.sort_unstable_by_key(|held| held.order);
        held.into_iter().map(|held| &held.entry).collect()
    }

    /// Takes in an entry, and gives up others where the limit asks for it. Returns those.
    pub fn push(&mut self, entry: Entry) -> Vec<Entry> {
        let order = self.next;
        self.next += 1;
        self.insert(Held { order, read: 0, entry });
        let mut given_up = Vec::new();
        while self.bytes > self.limit && self.count > 1 {
            given_up.extend(self.give_up(order));
        }
        given_up
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

    fn give_up(&mut self, newest: u64) -> Option<Entry> {
        // What is left of a long text goes first: its beginning was read.
        let mut held =
            self.sources.iter().flat_map(|(source, (_, queue))| queue.iter().map(move |it| (source, it)));
        let begun = held.find(|(_, held)| held.read > 0).map(|(source, held)| (source.clone(), held.order));
        // The newest is what the agent is about to be told of: it stays, even where its source holds the most.
        let heaviest = self
            .sources
            .iter()
            .filter(|(_, (_, queue))| queue.front().is_some_and(|held| held.order != newest))
            .max_by_key(|(_, (bytes, _))| *bytes);
        let heaviest = heaviest.and_then(|(source, (_, queue))| Some((source.clone(), queue.front()?.order)));
        let (source, order) = begun.or(heaviest)?;
        let held = self.take(&source, order)?;
        self.lost(source);
        Some(held.entry)
    }

    fn take(&mut self, source: &Source, order: u64) -> Option<Held> {
        let (bytes, queue) = self.sources.get_mut(source)?;
        let at = queue.binary_search_by_key(&order, |held| held.order).ok()?;
        let held = queue.remove(at)?;
        let size = held.entry.size();
        *bytes -= size;
        self.bytes -= size;
        self.count -= 1;
        if queue.is_empty() {
            self.sources.remove(source);
        }
        Some(held)
    }

    /// Takes what is `wanted`, oldest first: at most `limit` entries, and at most `bytes` of text. Of a longer text the
    /// beginning is given; the rest comes once nothing else is unread, one part with each read. So a read always gets on,
    /// and no text keeps others back.
    pub fn read(&mut self, limit: usize, mut bytes: usize, wanted: impl Fn(&Entry) -> bool) -> Page {
        let mut page = Page { dropped: core::mem::take(&mut self.dropped), ..Page::default() };
        let mut next: Vec<_> = self
            .sources
            .iter()
            .flat_map(|(source, (_, queue))| queue.iter().map(move |held| (source, held)))
            .filter(|(_, held)| wanted(&held.entry))
            .map(|(source, held)| (held.read > 0, held.order, source))
            .collect();
        next.sort_unstable();
        next.truncate(limit);
        let next: Vec<_> = next.into_iter().map(|(_, order, source)| (order, source.clone())).collect();
        let whole = bytes;
        for (order, source) in next {
            let Some((_, queue)) = self.sources.get_mut(&source) else { break };
            let Ok(at) = queue.binary_search_by_key(&order, |held| held.order) else { break };
            let Some(held) = queue.get_mut(at) else { break };
            let (text, start) = (held.entry.text(), held.read);
            let (length, rest) = (text.len(), text.len() - start);
            let most = if start == 0 && length > whole { whole / BEGINNING } else { rest };
            if most > bytes && !page.entries.is_empty() {
                break;
            }
            let end = if most < rest || rest > bytes { cut(&text, start, most.min(bytes)) } else { length };
            drop(text);
            bytes = bytes.saturating_sub(end - start);
            let part = start..end;
            if end < length {
                held.read = end;
                page.entries.push(Unread { entry: held.entry.clone(), part, order });
                continue;
            }
            let Some(held) = self.take(&source, order) else { break };
            page.entries.push(Unread { entry: held.entry, part, order });
        }
        page.remaining = self.count;
        page
    }

    /// Puts back what a read took and nobody saw.
    pub fn unread(&mut self, page: Page) {
        for Unread { entry, part, order } in page.entries {
            let queue = self.sources.get_mut(&entry.source()).map(|(_, queue)| queue);
            let held = queue.and_then(|queue| {
                let at = queue.binary_search_by_key(&order, |held| held.order).ok()?;
                queue.get_mut(at)
            });
            match held {
                Some(held) => held.read = part.start,
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
        let page = inbox.read(1000, usize::MAX, |_| true);
        let texts = texts(&page);
        assert_eq!(texts[0], "keep me");
        assert_eq!(texts.last().unwrap(), "999");
        let eve = Source::Whispers(Server::new("wss://a"), UserName::new("eve").unwrap());
        assert_eq!(page.dropped.get(&eve).copied(), Some(1001 - texts.len() as u64));
        assert_eq!(page.dropped.len(), 1);
        assert!(inbox.read(9, 9, |_| true).dropped.is_empty(), "told once");
    }

    #[test]
    fn of_a_long_message_others_come_before_the_rest() {
        let mut inbox = Inbox::new(100_000);
        let long = "äöü".repeat(50);
        inbox.push(message("alice", &long));
        inbox.push(message("alice", "short"));
        let page = inbox.read(10, 17, |_| true);
        assert_eq!(texts(&page), ["äöüä", "short"]);
        assert!(!inbox.has_fresh(|_| true), "the rest wakes nobody");
        inbox.push(message("bob", "new"));
        assert_eq!(texts(&inbox.read(1, 17, |_| true)), ["new"]);
        let mut all = String::from("äöüä");
        while !inbox.is_empty() {
            texts(&inbox.read(10, 17, |_| true)).iter().for_each(|text| all.push_str(text));
        }
        assert_eq!(all, long);
    }

    #[test]
    fn a_filter_takes_its_own_and_leaves_the_others_where_they_are() {
        let mut inbox = Inbox::new(100_000);
        for (user, text) in [("alice", "one"), ("bob", "two"), ("alice", "three"), ("bob", "four")] {
            inbox.push(message(user, text));
        }
        let of = |user: &'static str| move |entry: &Entry| matches!(entry, Entry::Message(it) if it.from.user.as_str() == user);
        let page = inbox.read(9, 99, of("bob"));
        assert_eq!(texts(&page), ["two", "four"]);
        inbox.unread(page);
        assert_eq!(inbox.remove(of("alice")).len(), 2);
        assert_eq!(texts(&inbox.read(9, 99, |_| true)), ["two", "four"]);
        assert_eq!((inbox.len(), inbox.bytes()), (0, 0));
    }

    #[test]
    fn what_nobody_saw_is_read_again() {
        let all = |_: &Entry| true;
        let mut inbox = Inbox::new(100_000);
        for text in ["one", "two and more", "three"] {
            inbox.push(message("alice", text));
        }
        let before = inbox.clone();
        let page = inbox.read(2, 10, all);
        assert_eq!(texts(&page), ["one", "two a"]);
        inbox.unread(page);
        assert_eq!(inbox.read(9, 99, all), before.clone().read(9, 99, all));
        let mut inbox = before.clone();
        let page = inbox.read(9, 5, all);
        assert_eq!(texts(&page), ["one", "tw"]);
        inbox.push(message("bob", "four"));
        inbox.unread(page);
        assert_eq!(texts(&inbox.read(9, 99, all)), ["one", "two and more", "three", "four"]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_reordered_or_repeated_within_the_limit(
            pushed in proptest::collection::vec((0..4_u8, ".{0,40}"), 0..40),
            reads in proptest::collection::vec((1..5_usize, 0..60_usize), 0..40),
        ) {
            let mut inbox = Inbox::new(usize::MAX);
            let (mut all, mut got) = (Vec::new(), BTreeMap::<u64, String>::new());
            let mut reads = reads.into_iter();
            let mut take = |page: Page| {
                let mut last = None;
                for unread in page.entries {
                    let said = got.entry(unread.order).or_default();
                    assert_eq!(said.len(), unread.part.start);
                    // Older ones first, but for the rest of what is long.
                    let place = (unread.part.start > 0, unread.order);
                    assert!(last.replace(place) < Some(place));
                    said.push_str(&unread.text());
                }
            };
            for (user, text) in pushed {
                inbox.push(message(["a", "b", "c", "d"][usize::from(user)], &text));
                all.push(text);
                if let Some((limit, bytes)) = reads.next() {
                    take(inbox.read(limit, bytes, |_| true));
                }
            }
            while !inbox.is_empty() {
                take(inbox.read(3, 20, |_| true));
            }
            prop_assert!(got.into_iter().eq((0..).zip(all)));
            prop_assert_eq!(inbox.bytes(), 0);
        }
    }
}
