//! What is on the screen, apart from what the servers say: which conversation, where it is scrolled to, what is typed, and
//! what lies over it. Keys become intentions of a [`Desk`].

use std::collections::BTreeMap;

use conclave_core::bridge::CardId;
use conclave_core::desk::{CardState, Desk, Entry, Input, Intent, Look, Output, Place, Source, View};
use conclave_core::level::Level;
use conclave_core::name::{ChannelName, SessionPath};
use conclave_core::opaque::Opaque;
use conclave_core::time::Now;
use jiff::tz::TimeZone;

use super::composer::Composer;
use super::theme::Theme;

/// A server, and what is known of it.
pub(crate) struct Server {
    /// Its address, as it is shown.
    pub(crate) label: String,
    pub(crate) desk: Desk,
    /// What the desk wants done.
    pub(crate) outputs: Vec<Output>,
    /// How far this user's agents may go on each channel of the server, as the configuration says.
    pub(crate) level: Box<dyn Fn(&Place) -> Level>,
}

/// A conversation of a server.
pub(crate) type Chosen = (usize, Place);

/// Something in a conversation, whatever else comes and goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Id {
    Message(Option<Source>, u64),
    Outgoing(u64),
}

impl Id {
    pub(crate) fn of(entry: &Entry<'_>) -> Self {
        match entry {
            Entry::Message(source, message) => Self::Message(source.cloned(), message.seq),
            Entry::Outgoing(outgoing) => Self::Outgoing(outgoing.id),
        }
    }
}

/// Where a conversation is scrolled to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scroll {
    /// The newest message stands at the bottom.
    Newest,
    /// The first unread message is shown, once it is there.
    Unread,
    /// This line of this entry stands at the top.
    At(Id, usize),
    /// This entry is shown, once it is there.
    Show(Id),
}

/// What lies over the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Nothing,
    Help,
    /// Going to a conversation by a part of its name.
    Jump {
        typed: String,
        at: usize,
    },
    /// Looking for words; the second is which of what was found is chosen.
    Search {
        typed: String,
        at: usize,
    },
    /// A permission card, by who asks and its name.
    Card(usize, SessionPath, CardId),
    /// Who has the chosen message.
    Receipts,
}

/// See the module.
pub(crate) struct App {
    pub(crate) servers: Vec<Server>,
    pub(crate) chosen: Option<Chosen>,
    pub(crate) composers: BTreeMap<Chosen, Composer>,
    pub(crate) scroll: Scroll,
    /// Lines to scroll by when the conversation is drawn next; up is negative.
    pub(crate) scroll_by: isize,
    /// The message that keys act on.
    pub(crate) selected: Option<Id>,
    /// The message that the next one answers.
    pub(crate) reply_to: Option<u64>,
    /// Up to where the conversation was read when it was opened.
    pub(crate) divider: Vec<(Source, u64)>,
    pub(crate) over: Over,
    pub(crate) theme: Theme,
    pub(crate) zone: TimeZone,
    pub(crate) now: Now,
    /// Whether somebody looks: a terminal says when it is not in front.
    pub(crate) is_focused: bool,
    pub(crate) has_ended: bool,
    pub(crate) note: Option<String>,
    /// What was drawn where, for the mouse and for scrolling by pages.
    pub(crate) screen: super::draw::Screen,
    /// What was drawn has changed by being seen.
    pub(crate) is_stale: bool,
    has_divider: bool,
    looked: Look,
}

impl App {
    pub(crate) fn new(servers: Vec<Server>, theme: Theme, zone: TimeZone, now: Now) -> Self {
        Self {
            servers,
            chosen: None,
            composers: BTreeMap::new(),
            scroll: Scroll::Newest,
            scroll_by: 0,
            selected: None,
            reply_to: None,
            divider: Vec::new(),
            over: Over::Nothing,
            theme,
            zone,
            now,
            is_focused: true,
            has_ended: false,
            note: None,
            screen: super::draw::Screen::default(),
            is_stale: false,
            has_divider: false,
            looked: Look::default(),
        }
    }

    /// Hands something to a desk.
    pub(crate) fn tell(&mut self, server: usize, input: Input) {
        let now = self.now;
        if let Some(server) = self.servers.get_mut(server) {
            server.desk.handle(now, input, &mut server.outputs);
        }
    }

    fn want(&mut self, intent: Intent) {
        if let Some((server, _)) = self.chosen {
            self.tell(server, Input::Do(intent));
        }
    }

    /// Every conversation, in the order of the list.
    pub(crate) fn places(&self) -> Vec<Chosen> {
        let of = |(nth, server): (usize, &Server)| {
            let places = server.desk.conversations();
            places.into_iter().map(move |it| (nth, it.place)).collect::<Vec<_>>()
        };
        self.servers.iter().enumerate().flat_map(of).collect()
    }

    /// Opens the first conversation that there is, unless one is open.
    pub(crate) fn settle(&mut self, wanted: Option<&ChannelName>) {
        let places = self.places();
        let is_renamed = |chosen: &Chosen| !places.contains(chosen) && matches!(chosen.1, Place::Channel(_));
        if self.chosen.as_ref().is_some_and(is_renamed) {
            self.chosen = None;
        }
        if self.chosen.is_some() {
            return;
        }
        let is_wanted =
            |it: &&Chosen| matches!((&it.1, wanted), (Place::Channel(of), Some(name)) if of == name);
        let first = places.iter().find(is_wanted).or_else(|| places.first().filter(|_| wanted.is_none()));
        if let Some(first) = first.cloned() {
            self.open(first);
        }
    }

    pub(crate) fn open(&mut self, chosen: Chosen) {
        self.over = Over::Nothing;
        if self.chosen.as_ref() == Some(&chosen) {
            return;
        }
        self.want(Intent::Close);
        self.tell(chosen.0, Input::Do(Intent::Open(chosen.1.clone())));
        self.scroll = Scroll::Unread;
        (self.scroll_by, self.selected, self.reply_to) = (0, None, None);
        self.looked = Look::default();
        self.chosen = Some(chosen);
        (self.divider, self.has_divider) = (Vec::new(), false);
    }

    /// Remembers up to where the conversation is read, before anything of it is on the screen.
    pub(crate) fn divide(&mut self) {
        if !self.has_divider
            && let Some(view) = self.view()
            && !view.read.is_empty()
        {
            (self.divider, self.has_divider) = (view.read, true);
        }
    }

    pub(crate) fn view(&self) -> Option<View<'_>> {
        let (server, place) = self.chosen.as_ref()?;
        Some(self.servers.get(*server)?.desk.view(place))
    }

    pub(crate) fn desk(&self) -> Option<&Desk> {
        Some(&self.servers.get(self.chosen.as_ref()?.0)?.desk)
    }

    pub(crate) fn composer(&mut self) -> Option<&mut Composer> {
        let chosen = self.chosen.clone()?;
        Some(self.composers.entry(chosen).or_default())
    }

    /// Tells the desk what was drawn.
    pub(crate) fn drawn(&mut self, look: Look) {
        if self.is_focused && self.looked != look {
            self.looked = look.clone();
            self.is_stale = true;
            self.want(Intent::Look(look));
        }
    }

    /// The oldest card that waits for this user.
    pub(crate) fn waiting_card(&self) -> Option<(usize, SessionPath, CardId)> {
        let of = |(nth, server): (usize, &Server)| {
            let waits = |state| matches!(state, CardState::Waits | CardState::Failed);
            server.desk.cards().iter().find(|it| waits(it.state)).map(|it| (nth, it.from.clone(), it.id))
        };
        self.servers.iter().enumerate().find_map(of)
    }

    /// Goes to the next or the previous conversation; `unread`: to the next one with something unread.
    pub(crate) fn step(&mut self, by: isize, unread: bool) {
        let places = self.places();
        let Some(at) = self.chosen.as_ref().and_then(|it| places.iter().position(|place| place == it)) else {
            return self.settle(None);
        };
        let count = places.len() as isize;
        for nth in 1..=count {
            let next = (at as isize + by * nth).rem_euclid(count);
            let (server, place) = &places[next as usize];
            let is_unread = || {
                let list = self.servers[*server].desk.conversations();
                list.iter().any(|it| it.place == *place && it.count.unread > 0)
            };
            if !unread || is_unread() {
                return self.open((*server, place.clone()));
            }
        }
    }

    /// Chooses the message before or behind the chosen one.
    pub(crate) fn select(&mut self, by: isize) {
        let Some(view) = self.view() else { return };
        let ids: Vec<Id> = view.entries.iter().map(Id::of).collect();
        let at = self.selected.as_ref().and_then(|id| ids.iter().position(|it| it == id));
        let next = match at {
            Some(at) => at.checked_add_signed(by),
            None => self.screen.last.as_ref().and_then(|id| ids.iter().position(|it| it == id)),
        };
        match next.and_then(|next| ids.get(next)) {
            Some(id) => {
                self.selected = Some(id.clone());
                if !self.screen.whole.contains(id) {
                    self.scroll = Scroll::Show(id.clone());
                }
            }
            None if by > 0 => self.selected = None,
            None => {}
        }
    }

    pub(crate) fn newest(&mut self) {
        (self.scroll, self.scroll_by, self.selected) = (Scroll::Newest, 0, None);
        if let Some((_, place)) = self.chosen.clone() {
            self.want(Intent::Newest(place));
        }
    }

    pub(crate) fn mark_read(&mut self) {
        if let Some((_, place)) = self.chosen.clone() {
            self.want(Intent::MarkRead(place));
            self.newest();
            self.divider.clear();
        }
    }

    pub(crate) fn send(&mut self) {
        let Some((_, place)) = self.chosen.clone() else { return };
        let Some(composer) = self.composer() else { return };
        let text = composer.take();
        let text = text.trim_end();
        if text.trim().is_empty() {
            return;
        }
        let reply_to = self.reply_to.take();
        self.want(Intent::Send { place, text: Opaque(text.to_owned()), reply_to });
        self.newest();
    }

    /// Takes up an answer to the chosen message.
    pub(crate) fn reply(&mut self) {
        if let Some(Id::Message(_, seq)) = self.selected.take() {
            self.reply_to = Some(seq);
        }
    }

    pub(crate) fn retry(&mut self, again: bool) {
        if let Some(Id::Outgoing(id)) = self.selected.take() {
            self.want(if again { Intent::Retry(id) } else { Intent::Discard(id) });
        }
    }

    /// Answers the card that lies open.
    pub(crate) fn answer(&mut self, allow: bool) {
        if let Over::Card(server, from, id) = std::mem::replace(&mut self.over, Over::Nothing) {
            self.tell(server, Input::Do(Intent::Answer { from, id, allow }));
        }
    }

    /// Completes the name before the cursor, or goes on to the next that fits.
    pub(crate) fn complete(&mut self) {
        let Some((server, place)) = self.chosen.clone() else { return };
        let Some((start, word)) =
            self.composer().and_then(|it| it.name().map(|(at, word)| (at, word.to_owned())))
        else {
            return;
        };
        let desk = &self.servers[server].desk;
        let mut names: Vec<String> = match word.starts_with('@') {
            true => {
                let here = desk.present(&place).into_iter().map(|it| it.user.to_string());
                let people = desk.conversations().into_iter().filter_map(|it| match it.place {
                    Place::Person(user) => Some(user.to_string()),
                    Place::Channel(_) => None,
                });
                here.chain(people).map(|name| format!("@{name}")).collect()
            }
            false => desk.listed().iter().map(|it| format!("#{}", it.name)).collect(),
        };
        names.sort();
        names.dedup();
        let typed = word.to_lowercase();
        let at = names.iter().position(|name| *name == word);
        let found = match at {
            // It was completed: the next one that begins alike.
            Some(at) => {
                names.iter().cycle().skip(at + 1).take(names.len()).find(|it| it.starts_with(&word[..2]))
            }
            None => names.iter().find(|name| name.to_lowercase().starts_with(&typed)),
        };
        if let (Some(found), Some(composer)) = (found.cloned(), self.composer()) {
            composer.replace_from(start, &found);
        }
    }

    /// What fits what was typed to go to: open conversations, then channels that are not followed.
    pub(crate) fn jumps(&self, typed: &str) -> Vec<(usize, Place, bool)> {
        let typed = typed.to_lowercase();
        let fits = |place: &Place| place.to_string().to_lowercase().contains(&typed);
        let open = self.places();
        let mut all: Vec<_> = open.iter().map(|(server, place)| (*server, place.clone(), true)).collect();
        for (nth, server) in self.servers.iter().enumerate() {
            let listed = server.desk.listed().iter().map(|it| (nth, Place::Channel(it.name.clone())));
            all.extend(listed.filter(|it| !open.contains(it)).map(|(nth, place)| (nth, place, false)));
        }
        all.retain(|(_, place, _)| fits(place));
        // What begins so goes first.
        all.sort_by_key(|(_, place, _)| {
            !place.to_string().to_lowercase()[1..].starts_with(typed.trim_start_matches(['#', '@']))
        });
        all
    }

    pub(crate) fn jump(&mut self, (server, place, is_open): (usize, Place, bool)) {
        if let (Place::Channel(channel), false) = (&place, is_open) {
            self.tell(server, Input::Do(Intent::Join(channel.clone())));
        }
        self.open((server, place));
    }

    pub(crate) fn search(&mut self, typed: &str) {
        if let Some((_, place)) = self.chosen.clone() {
            self.want(Intent::Search { place, words: Opaque(typed.to_owned()) });
        }
    }

    pub(crate) fn search_on(&mut self) {
        self.want(Intent::SearchOn);
    }

    pub(crate) fn close_over(&mut self) {
        if let Over::Search { .. } = self.over {
            self.want(Intent::SearchEnd);
        }
        self.over = Over::Nothing;
    }

    /// Goes to a message that was found.
    pub(crate) fn go(&mut self, nth: usize) {
        let hit = self.desk().and_then(|desk| desk.search()?.hits.get(nth).cloned());
        if let Some((source, message)) = hit {
            self.close_over();
            self.want(Intent::Go(source.clone(), message.seq));
            let id = Id::Message(Some(source), message.seq);
            self.selected = Some(id.clone());
            self.scroll = Scroll::Show(id);
        }
    }

    pub(crate) fn refresh(&mut self) {
        for nth in 0..self.servers.len() {
            self.tell(nth, Input::Do(Intent::Refresh));
        }
    }

    pub(crate) fn leave(&mut self) {
        if let Some((_, Place::Channel(channel))) = self.chosen.clone() {
            self.want(Intent::Leave(channel));
            self.chosen = None;
            self.settle(None);
        }
    }
}
