//! What a person's client knows of one server, and decides: the conversations with what is unread in them, a window onto
//! each, what is being sent, who is there, and the permission cards that wait.
//!
//! A face (a terminal, a page) draws a [`Desk`] and hands in what its user wants; a link carries it to the server. One entry:
//! [`Desk::handle`] takes what the link says, or an [`Intent`], and appends what to hand to the link and what to keep on
//! disk. Time arrives with each input; [`Desk::next_deadline`] is when [`Input::Tick`] is due.
//!
//! A message counts as *seen* once the face says that it was on the screen ([`Intent::Look`]), and in no other way.

mod api;
mod cards;
mod events;
mod message;
mod ranges;
mod replies;
mod search;
mod send;
#[cfg(test)]
mod tests;
mod timeline;
mod work;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use self::replies::Pending;
use self::timeline::{Page, Timeline};
use crate::key::PublicKey;
use crate::link::{self, OwnMailbox, RequestId};
use crate::name::{ChannelName, SessionPath, UserName};
use crate::protocol::{ChannelInfo, Command};
use crate::record::{MachineId, UserId};
use crate::time::{Monotonic, Now};

pub use self::api::{
    Conversation, Desk, Entry, Followed, Input, Intent, Keep, Kept, Look, Output, Place, Source, Status, View,
};
pub use self::cards::{Card, CardState};
pub use self::message::{Content, MAX_TEXT, Message, Receipts};
pub use self::search::Search;
pub use self::send::{Outgoing, Progress};
pub use self::timeline::Count;

/// How long a message waits for a connection, and for the server to store it.
const SEND_WITHIN: Duration = Duration::from_secs(300);
/// Sessions and channels that are kept of what a server lists.
const MAX_LISTED: usize = 10_000;
/// Keys of machines.
const MAX_KEYS: usize = 16 * 1024;
/// Channels that are followed unasked by a user who follows none.
const MAX_FIRST: usize = 20;

/// A stream that is followed.
#[derive(Clone, Debug, Default)]
struct Room {
    /// None until the server took the subscription once.
    timeline: Option<Timeline>,
    /// The subscription stands.
    is_joined: bool,
    /// The page that is asked for.
    asked: Option<Page>,
    /// The server could not give a page: it is asked again with the next connection or look.
    failed: bool,
    /// Why it is followed no more.
    lost: Option<String>,
    /// Who is subscribed.
    present: Vec<Arc<SessionPath>>,
    /// What was reported and written down last: delivered, read, seen.
    reported: (u64, u64, u64),
    /// Receipts and presence are watched on this connection.
    is_watched: bool,
}

/// The state behind [`Desk`].
#[derive(Clone, Debug)]
struct State {
    kept: Kept,
    status: Status,
    path: Option<SessionPath>,
    former: Vec<SessionPath>,
    user: Option<UserId>,
    server_key: Option<PublicKey>,
    admin: bool,
    begun: bool,
    /// Nothing was followed before, and the list of channels did not come yet.
    is_first: bool,
    rooms: BTreeMap<Source, Room>,
    /// What this session wrote to people; the server shows it to them only.
    sent: BTreeMap<UserName, Vec<Message>>,
    listed: Vec<ChannelInfo>,
    online: Vec<Arc<SessionPath>>,
    keys: BTreeMap<(UserId, MachineId), PublicKey>,
    numbers: BTreeMap<UserName, Option<UserId>>,
    outgoing: Vec<Outgoing>,
    cards: Vec<Card>,
    search: Option<Search>,
    open: Option<Place>,
    look: Look,
    touched: BTreeSet<Source>,
    pending: BTreeMap<RequestId, Pending>,
    requests: u64,
}

impl Desk {
    /// A desk for a link that has not begun.
    pub fn new(kept: Kept) -> Self {
        Self(State {
            is_first: kept.channels.is_empty(),
            kept,
            status: Status::Connecting,
            path: None,
            former: Vec::new(),
            user: None,
            server_key: None,
            admin: false,
            begun: false,
            rooms: BTreeMap::new(),
            sent: BTreeMap::new(),
            listed: Vec::new(),
            online: Vec::new(),
            keys: BTreeMap::new(),
            numbers: BTreeMap::new(),
            outgoing: Vec::new(),
            cards: Vec::new(),
            search: None,
            open: None,
            look: Look::default(),
            touched: BTreeSet::new(),
            pending: BTreeMap::new(),
            requests: 0,
        })
    }

    /// The key of a machine that wrote before: its messages in pages are checked with it.
    pub fn pin(&mut self, user: UserId, machine: MachineId, key: PublicKey) {
        if self.0.keys.len() < MAX_KEYS {
            self.0.keys.insert((user, machine), key);
        }
    }

    /// Processes an input and appends the resulting outputs.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        let state = &mut self.0;
        match input {
            Input::Link(action) => state.event(now, action, out),
            Input::Do(intent) => state.intend(now, intent, out),
            Input::Tick => {}
        }
        state.cards.retain(|card| now.mono < card.until);
        state.work(now, out);
    }

    /// When to hand in [`Input::Tick`]; `None`: not before another input.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.0.cards.iter().map(|card| card.until).min()
    }
}

impl State {
    fn ask(
        &mut self,
        command: Command,
        deadline: Option<Monotonic>,
        pending: Pending,
        out: &mut Vec<Output>,
    ) {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.pending.insert(id, pending);
        out.push(Output::Link(link::Input::Request { id, command, deadline }));
    }

    fn is_own(&self, path: &SessionPath) -> bool {
        self.path.as_ref() == Some(path) || self.former.contains(path)
    }

    /// Whether the server speaks version 2.
    fn has_positions(&self) -> bool {
        self.server_key.is_some()
    }

    fn room_of(&mut self, number: crate::record::ChannelId) -> Option<(&Source, &mut Room)> {
        self.rooms
            .iter_mut()
            .find(|(_, room)| room.timeline.as_ref().is_some_and(|timeline| timeline.number == Some(number)))
    }

    fn follow(&mut self, channel: ChannelName, now: Now, out: &mut Vec<Output>) {
        let source = Source::Channel(channel.clone());
        let room = self.rooms.entry(source).or_default();
        room.lost = None;
        // Version 1 counts nothing: the last day is what there is.
        let from = match self.server_key {
            Some(_) => link::JoinFrom::Live,
            None => link::JoinFrom::Since(crate::time::UnixMillis(now.wall.0 - 24 * 3_600_000)),
        };
        out.push(Output::Link(link::Input::Join { channel, token: None, from }));
    }
}

/// The streams behind a place.
fn sources(place: &Place) -> Vec<Source> {
    match place {
        Place::Channel(channel) => alloc::vec![Source::Channel(channel.clone())],
        Place::Person(_) => {
            alloc::vec![Source::Mailbox(OwnMailbox::User), Source::Mailbox(OwnMailbox::Session)]
        }
    }
}
