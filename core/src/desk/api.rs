//! What goes into a desk, what comes out, and what a face draws.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::cards::Card;
use super::message::Message;
use super::search::Search;
use super::send::Outgoing;
use super::timeline::{Count, MAX_COUNTED};
use super::{State, sources};
use crate::bridge::CardId;
use crate::link::{self, OwnMailbox};
use crate::name::{ChannelName, SessionPath, UserName};
use crate::opaque::Opaque;
use crate::protocol::ChannelInfo;
use crate::record::ChannelId;

/// A stream of messages that comes from the server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A channel's.
    Channel(ChannelName),
    /// That of a mailbox of our own.
    Mailbox(OwnMailbox),
}

/// A conversation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A channel.
    Channel(ChannelName),
    /// What a user and we write to each other.
    Person(UserName),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(channel) => write!(f, "#{channel}"),
            Self::Person(user) => write!(f, "@{user}"),
        }
    }
}

/// How far a stream was read in an earlier run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// The stream.
    pub stream: ChannelId,
    /// Read up to here.
    pub read: u64,
    /// The first message that was marked as read without being shown.
    pub given_up: Option<u64>,
}

/// What an earlier run kept.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The channels that were followed.
    pub channels: Vec<(ChannelName, Followed)>,
    /// The mailboxes that were read.
    pub mailboxes: BTreeMap<OwnMailbox, Followed>,
    /// A channel to follow besides.
    pub wanted: Option<ChannelName>,
}

/// What happens to a desk.
#[derive(Clone, Debug)]
pub enum Input {
    /// The link has something to tell.
    Link(link::Action),
    /// The user wants something.
    Do(Intent),
    /// [`Desk::next_deadline`] has come.
    Tick,
}

/// What the user wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Look at a conversation; it is loaded from the first unread message on.
    Open(Place),
    /// Look at nothing.
    Close,
    /// This is on the screen.
    Look(Look),
    /// Go to the newest messages of a conversation.
    Newest(Place),
    /// Go to a message of a conversation.
    Go(Source, u64),
    /// Count everything in a conversation as read.
    MarkRead(Place),
    /// Send a message.
    Send {
        /// Where.
        place: Place,
        /// What.
        text: Opaque<String>,
        /// The message that it answers.
        reply_to: Option<u64>,
    },
    /// Send again what could not be sent.
    Retry(u64),
    /// Drop what could not be sent.
    Discard(u64),
    /// Follow a channel.
    Join(ChannelName),
    /// Follow a channel no more.
    Leave(ChannelName),
    /// Answer a permission card.
    Answer {
        /// Who asks.
        from: SessionPath,
        /// What it is called.
        id: CardId,
        /// Whether it may.
        allow: bool,
    },
    /// Ask the server again who is there and which channels it has.
    Refresh,
    /// Look for messages of a conversation that contain all of these words.
    Search {
        /// Where.
        place: Place,
        /// The words.
        words: Opaque<String>,
    },
    /// Look on, further back.
    SearchOn,
    /// Look for nothing any more.
    SearchEnd,
}

/// What of the open conversation is on the screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The messages that are.
    pub shown: Vec<(Source, u64)>,
    /// Older ones are wanted.
    pub older: bool,
    /// Newer ones are wanted.
    pub newer: bool,
}

/// What a desk wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Hand this to the link.
    Link(link::Input<'static>),
    /// Write this down.
    Keep(Keep),
}

/// What is kept between runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// A channel is followed from behind this message, if it was not before, and has this name.
    Follow(ChannelName, ChannelId, u64),
    /// The same for a mailbox.
    Open(OwnMailbox, ChannelId, u64),
    /// A channel is followed no more.
    Unfollow(ChannelId),
    /// A stream was read to here, and shown to there.
    Position {
        /// The stream.
        stream: ChannelId,
        /// Nothing is unread up to here.
        read: u64,
        /// Everything up to here was on the screen.
        seen: u64,
        /// The first message that was marked as read without being shown.
        given_up: Option<u64>,
    },
}

/// How the server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// For the first time.
    Connecting,
    /// It is.
    Up,
    /// It is not; the link tries on.
    Down(String),
    /// It lets us not in; the link tries on.
    Refused(String),
}

/// A conversation in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Which.
    pub place: Place,
    /// What is unread.
    pub count: Count,
    /// More is unread than was counted.
    pub more: bool,
    /// Messages come. Of a person: a session is online.
    pub is_live: bool,
    /// Why it is followed no more.
    pub lost: Option<String>,
}

/// Something to draw in a conversation.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// A message, and the stream that it lies in. `None`: one of ours to a person.
    Message(Option<&'a Source>, &'a Message),
    /// One that is being sent.
    Outgoing(&'a Outgoing),
}

/// An open conversation.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// What is loaded, oldest first.
    pub entries: Vec<Entry<'a>>,
    /// Nothing is older.
    pub at_start: bool,
    /// Nothing is newer.
    pub at_end: bool,
    /// A page is on its way.
    pub is_loading: bool,
    /// The last message that is read, in each stream.
    pub read: Vec<(Source, u64)>,
}

/// See [the module](super).
#[derive(Clone, Debug)]
pub struct Desk(pub(super) State);

impl Desk {
    /// How the server is reached.
    pub fn status(&self) -> &Status {
        &self.0.status
    }

    /// Who we are there.
    pub fn path(&self) -> Option<&SessionPath> {
        self.0.path.as_ref()
    }

    /// The channels that are followed, then the people who wrote or are online.
    pub fn conversations(&self) -> Vec<Conversation> {
        let state = &self.0;
        let mut list = Vec::new();
        let mut people: BTreeMap<&UserName, Count> = BTreeMap::new();
        let mut more = false;
        for (source, room) in &state.rooms {
            let timeline = room.timeline.as_ref();
            let behind =
                timeline.is_some_and(|it| it.uncounted().is_some() && it.count().unread >= MAX_COUNTED);
            match source {
                Source::Channel(channel) => list.push(Conversation {
                    place: Place::Channel(channel.clone()),
                    count: timeline.map(|it| it.count()).unwrap_or_default(),
                    more: behind,
                    is_live: room.is_joined,
                    lost: room.lost.clone(),
                }),
                Source::Mailbox(_) => {
                    more |= behind;
                    for message in timeline.into_iter().flat_map(|it| it.messages()) {
                        people.entry(&message.from.user).or_default();
                    }
                    for (user, count) in timeline.into_iter().flat_map(|it| it.counts()) {
                        let sum = people.entry(user).or_default();
                        sum.unread += count.unread;
                        sum.mentions += count.mentions;
                    }
                }
            }
        }
        let online: BTreeSet<&UserName> = state.online.iter().map(|it| &it.user).collect();
        online.iter().chain(&state.sent.keys().collect::<Vec<_>>()).for_each(|user| {
            people.entry(user).or_default();
        });
        if let Some(Place::Person(user)) = &state.open {
            people.entry(user).or_default();
        }
        let own = state.path.as_ref().map(|it| &it.user);
        people.remove_entry_if_idle(own);
        list.extend(people.into_iter().map(|(user, count)| Conversation {
            place: Place::Person(user.clone()),
            more: more && count.unread > 0,
            count,
            is_live: online.contains(user),
            lost: None,
        }));
        list
    }

    /// What is loaded of a conversation.
    pub fn view(&self, place: &Place) -> View<'_> {
        let state = &self.0;
        let mut entries = Vec::new();
        let (mut at_start, mut at_end, mut is_loading, mut read) = (true, true, false, Vec::new());
        for wanted in sources(place) {
            let Some((source, room)) = state.rooms.get_key_value(&wanted) else {
                is_loading |= matches!(wanted, Source::Channel(_));
                continue;
            };
            is_loading |= room.asked.is_some();
            let Some(timeline) = &room.timeline else {
                is_loading |= room.lost.is_none();
                continue;
            };
            at_start &= timeline.at_start();
            at_end &= timeline.at_end();
            read.push((wanted, timeline.read()));
            let is_here = |message: &&Message| match place {
                Place::Channel(_) => true,
                Place::Person(user) => message.from.user == *user,
            };
            entries.extend(timeline.messages().filter(is_here).map(|it| Entry::Message(Some(source), it)));
        }
        if let Place::Person(user) = place {
            let sent = state.sent.get(user).into_iter().flatten();
            entries.extend(sent.map(|it| Entry::Message(None, it)));
            entries.sort_by_key(|entry| match entry {
                Entry::Message(_, message) => message.at,
                Entry::Outgoing(_) => crate::time::UnixMillis::MAX,
            });
        }
        if at_end {
            let outgoing = state.outgoing.iter().filter(|it| it.place == *place);
            entries.extend(outgoing.map(Entry::Outgoing));
        }
        View { entries, at_start, at_end, is_loading, read }
    }

    /// A message, if it is loaded.
    pub fn message(&self, source: &Source, seq: u64) -> Option<&Message> {
        self.0.rooms.get(source)?.timeline.as_ref()?.get(seq)
    }

    /// The sessions in a conversation.
    pub fn present(&self, place: &Place) -> Vec<&SessionPath> {
        match place {
            Place::Channel(channel) => {
                let room = self.0.rooms.get(&Source::Channel(channel.clone()));
                room.into_iter().flat_map(|it| &it.present).map(|it| &**it).collect()
            }
            Place::Person(user) => {
                self.0.online.iter().filter(|it| it.user == *user).map(|it| &**it).collect()
            }
        }
    }

    /// The channels that the server lists.
    pub fn listed(&self) -> &[ChannelInfo] {
        &self.0.listed
    }

    /// The cards that wait, or were answered just now.
    pub fn cards(&self) -> &[Card] {
        &self.0.cards
    }

    /// What is looked for.
    pub fn search(&self) -> Option<&Search> {
        self.0.search.as_ref()
    }

    /// How far each stream came: delivered, and seen. A link reports these by and by; whoever ends reports them at once.
    pub fn positions(&self) -> Vec<(ChannelId, u64, u64)> {
        let rooms = self.0.rooms.values().filter(|it| it.is_joined);
        let timelines = rooms.filter_map(|it| it.timeline.as_ref());
        timelines.filter_map(|it| Some((it.number?, it.delivered(), it.seen()))).collect()
    }

    /// How many messages and bytes are held, for tests of the bound.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let timelines = self.0.rooms.values().filter_map(|it| it.timeline.as_ref());
        timelines.map(|it| it.messages().count()).sum()
    }
}

/// Takes one's own user out of a list of people, unless there is something to read.
trait Idle {
    fn remove_entry_if_idle(&mut self, own: Option<&UserName>);
}

impl Idle for BTreeMap<&UserName, Count> {
    fn remove_entry_if_idle(&mut self, own: Option<&UserName>) {
        if let Some(own) = own
            && self.get(own).is_some_and(|count| count.unread == 0)
        {
            self.remove(own);
        }
    }
}
