//! What the user wants, and what follows from the state: pages to read, receipts to ask for, positions to report.

use alloc::vec::Vec;

use super::message::Receipts;
use super::replies::Pending;
use super::timeline::Page;
use super::{Intent, Keep, Look, Output, Place, Source, State, Status, sources};
use crate::link;
use crate::protocol::Command;
use crate::stream::{MailboxRef, PageFrom, StreamCommand, StreamRef};
use crate::time::Now;

/// Messages of a page.
const PAGE: usize = 200;
/// Messages that are loaded before the first unread one.
const BEFORE_UNREAD: u64 = 30;

impl State {
    pub(super) fn intend(&mut self, now: Now, intent: Intent, out: &mut Vec<Output>) {
        match intent {
            Intent::Open(place) => self.open(place, out),
            Intent::Close => {
                self.rest();
                self.open = None;
            }
            Intent::Look(look) => self.look(look),
            Intent::Newest(place) => {
                for source in sources(&place) {
                    let timeline = self.rooms.get(&source).and_then(|it| it.timeline.as_ref());
                    let Some(timeline) = timeline.filter(|it| !it.at_end()) else { continue };
                    let last = timeline.last();
                    self.turn(source, Page::Jump { after: last.saturating_sub(PAGE as u64 / 2), last }, out);
                }
            }
            Intent::Go(source, seq) => {
                let timeline = self.rooms.get(&source).and_then(|it| it.timeline.as_ref());
                let Some(timeline) = timeline.filter(|it| it.get(seq).is_none()) else { return };
                let (last, after) = (timeline.last(), seq.saturating_sub(PAGE as u64 / 2));
                self.turn(source, Page::Jump { after, last }, out);
            }
            Intent::MarkRead(place) => {
                for source in sources(&place) {
                    // A mailbox holds what others wrote, too.
                    if let (Place::Channel(_), Some(room)) = (&place, self.rooms.get_mut(&source))
                        && let Some(timeline) = &mut room.timeline
                    {
                        timeline.mark_read();
                        self.touched.insert(source);
                    }
                }
            }
            Intent::Send { place, text, reply_to } => self.send(now, (place, text, reply_to), out),
            Intent::Retry(id) => self.retry(now, id, out),
            Intent::Discard(id) => self.discard(id),
            Intent::Join(channel) => self.follow(channel, now, out),
            Intent::Leave(channel) => {
                if let Some(room) = self.rooms.remove(&Source::Channel(channel.clone())) {
                    let number = room.timeline.and_then(|it| it.number);
                    out.extend(number.map(|number| Output::Keep(Keep::Unfollow(number))));
                    self.kept.channels.retain(|(name, _)| *name != channel);
                    out.push(Output::Link(link::Input::Leave { channel }));
                }
            }
            Intent::Answer { from, id, allow } => self.answer(now, (from, id, allow), out),
            Intent::Refresh => self.refresh(out),
            Intent::Search { place, words } => self.search(place, &words),
            Intent::SearchOn => self.search_on(),
            Intent::SearchEnd => self.search = None,
        }
    }

    fn open(&mut self, place: Place, out: &mut Vec<Output>) {
        if self.open.as_ref() == Some(&place) {
            return;
        }
        self.rest();
        self.look = Look::default();
        for source in sources(&place) {
            self.touched.insert(source.clone());
            let Some(room) = self.rooms.get_mut(&source) else { continue };
            room.failed = false;
            let Some(timeline) = &room.timeline else { continue };
            let (read, last) = (timeline.read(), timeline.last());
            if read < last && read + 1 < timeline.window().0 {
                self.turn(source, Page::Jump { after: read.saturating_sub(BEFORE_UNREAD), last }, out);
            }
        }
        if let Place::Channel(channel) = &place
            && self.status == Status::Up
        {
            let who = Command::Who { channel: Some(channel.clone()) };
            self.ask(who, None, Pending::Present(channel.clone()), out);
        }
        self.open = Some(place);
    }

    /// Nobody looks at the open conversation any more.
    fn rest(&mut self) {
        let Some(place) = self.open.take() else { return };
        for source in sources(&place) {
            if let Some(timeline) = self.rooms.get_mut(&source).and_then(|it| it.timeline.as_mut()) {
                timeline.trim(None);
            }
            self.touched.insert(source);
        }
    }

    fn look(&mut self, look: Look) {
        let Some(place) = self.open.clone() else { return };
        let of = sources(&place);
        for (source, seq) in &look.shown {
            let timeline = self.rooms.get_mut(source).and_then(|it| it.timeline.as_mut());
            if let Some(timeline) = timeline.filter(|_| of.contains(source)) {
                timeline.show(*seq);
            }
        }
        self.touched.extend(of);
        self.look = look;
    }

    /// Asks for a page instead of the one that is asked for.
    fn turn(&mut self, source: Source, page: Page, out: &mut Vec<Output>) {
        let Some(room) = self.rooms.get_mut(&source) else { return };
        room.asked = None;
        self.ask_page(source, page, out);
    }

    fn ask_page(&mut self, source: Source, page: Page, out: &mut Vec<Output>) {
        let Some(room) = self.rooms.get_mut(&source) else { return };
        let Some(stream) = room.timeline.as_ref().and_then(|it| it.number) else { return };
        if self.status != Status::Up || room.asked.is_some() {
            return;
        }
        room.asked = Some(page);
        let (from, limit) = match page {
            Page::Older { before } => (PageFrom::Before(before), PAGE),
            Page::Newer { after, .. } | Page::Jump { after, .. } => (PageFrom::After(after), PAGE),
            Page::Count { after, to } | Page::Fill { after, to } => {
                let wanted = usize::try_from(to - after).unwrap_or(PAGE);
                (PageFrom::After(after), wanted.clamp(1, PAGE))
            }
        };
        let read = StreamCommand::Read { stream: StreamRef::Number(stream), from, limit };
        let pending = Pending::Page(source, stream, page);
        self.ask(Command::Stream(read), None, pending, out);
    }

    /// Does what has become possible or necessary.
    pub(super) fn work(&mut self, now: Now, out: &mut Vec<Output>) {
        let _ = now;
        for source in core::mem::take(&mut self.touched) {
            self.work_on(&source, out);
        }
        self.work_search(out);
        self.work_on_sent(out);
    }

    fn work_on(&mut self, source: &Source, out: &mut Vec<Output>) {
        let is_open = self.open.as_ref().is_some_and(|place| sources(place).contains(source));
        let outgoing = self.outgoing.iter().any(|it| match (&it.place, source) {
            (Place::Channel(of), Source::Channel(channel)) => of == channel,
            _ => false,
        });
        let Some(room) = self.rooms.get_mut(source) else { return };
        let Some(timeline) = &mut room.timeline else { return };
        let focus = is_open.then(|| focus(&self.look, source, timeline.window().1));
        timeline.trim(focus);
        let now = (timeline.delivered(), timeline.read(), timeline.seen());
        if let Some(stream) = timeline.number
            && room.is_joined
            && now != room.reported
        {
            let (delivered, read, seen) = now;
            if (read, seen) != (room.reported.1, room.reported.2) {
                let given_up = timeline.given_up();
                out.push(Output::Keep(Keep::Position { stream, read, seen, given_up }));
            }
            room.reported = now;
            out.push(Output::Link(link::Input::Report { stream, delivered, seen }));
        }
        if !room.is_joined {
            return;
        }
        let mut wanted = None;
        if is_open && !room.failed {
            let (from, to) = timeline.window();
            let (read, last) = (timeline.read(), timeline.last());
            if from > to && read < last {
                wanted = Some(Page::Jump { after: read.saturating_sub(BEFORE_UNREAD), last });
            } else if self.look.newer && !timeline.at_end() {
                wanted = Some(Page::Newer { after: to, last: timeline.last() });
            } else if self.look.older && !timeline.at_start() {
                wanted = Some(Page::Older { before: from });
            }
        }
        // While a message is being stored its text is on its way.
        let fill = || timeline.to_fill().filter(|_| is_open && !outgoing && !room.failed);
        let wanted = wanted.or_else(fill).or_else(|| timeline.to_count().filter(|_| !room.failed));
        let due: Vec<u64> = match is_open {
            true => timeline
                .messages()
                .rev()
                .filter(|it| it.own && it.receipts.are_due())
                .map(|it| it.seq)
                .collect(),
            false => Vec::new(),
        };
        let stream = timeline.number;
        let watch = is_open && !room.is_watched;
        room.is_watched |= is_open;
        if let Some(page) = wanted {
            self.ask_page(source.clone(), page, out);
        }
        let Some(stream) = stream else { return };
        if let (Source::Channel(_), true) = (source, watch) {
            let stream = StreamRef::Number(stream);
            let watch = StreamCommand::WatchReceipts { stream: stream.clone(), on: true };
            self.ask(Command::Stream(watch), None, Pending::Silent, out);
            let watch = StreamCommand::WatchPresence { stream, on: true };
            self.ask(Command::Stream(watch), None, Pending::Silent, out);
        }
        self.ask_receipts(source, stream, &due, out);
    }

    /// Asks who has own messages: those on the screen, a few at a time.
    fn ask_receipts(
        &mut self,
        source: &Source,
        stream: crate::record::ChannelId,
        due: &[u64],
        out: &mut Vec<Output>,
    ) {
        if self.status != Status::Up || !matches!(source, Source::Channel(_)) {
            return;
        }
        let shown = |seq: &u64| self.look.shown.iter().any(|(of, shown)| of == source && shown == seq);
        let due: Vec<u64> = due.iter().copied().filter(shown).take(16).collect();
        for seq in due {
            if let Some(timeline) = self.rooms.get_mut(source).and_then(|it| it.timeline.as_mut()) {
                timeline.receipts_asked(seq);
            }
            let receipts = StreamCommand::Receipts { stream: StreamRef::Number(stream), seq };
            self.ask(Command::Stream(receipts), None, Pending::Receipts(source.clone(), seq), out);
        }
    }

    /// The same for what was written to a person.
    fn work_on_sent(&mut self, out: &mut Vec<Output>) {
        let Some(Place::Person(user)) = self.open.clone() else { return };
        if self.status != Status::Up || !self.has_positions() {
            return;
        }
        let Some(sent) = self.sent.get_mut(&user) else { return };
        let due = sent.iter_mut().rev().filter(|it| it.receipts.are_due()).take(16);
        let due: Vec<u64> = due
            .map(|message| {
                message.receipts.ask();
                message.seq
            })
            .collect();
        if due.is_empty() {
            return;
        }
        let stream = StreamRef::Mailbox(MailboxRef::User(user.clone()));
        let watch = StreamCommand::WatchReceipts { stream: stream.clone(), on: true };
        self.ask(Command::Stream(watch), None, Pending::Silent, out);
        for seq in due {
            let receipts = StreamCommand::Receipts { stream: stream.clone(), seq };
            self.ask(Command::Stream(receipts), None, Pending::SentReceipts(user.clone(), seq), out);
        }
    }
}

impl Receipts {
    /// The server is asked; what it said before stands until it answers.
    pub(super) fn ask(&mut self) {
        match self {
            Self::Known { stale, .. } => *stale = false,
            other => *other = Self::Asked,
        }
    }
}

/// What of a stream is on the screen.
fn focus(look: &Look, source: &Source, end: u64) -> (u64, u64) {
    let shown = || look.shown.iter().filter(|(of, _)| of == source).map(|(_, seq)| *seq);
    match (shown().min(), shown().max()) {
        (Some(top), Some(bottom)) => (top, bottom),
        _ => (end, end),
    }
}
