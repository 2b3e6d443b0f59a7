//! What the link tells.

use alloc::string::ToString as _;
use alloc::sync::Arc;

use super::message::Message;
use super::replies::Pending;
use super::timeline::Timeline;
use super::{Followed, Keep, MAX_FIRST, MAX_KEYS, MAX_LISTED, Output, Place, Source, State, Status};
use crate::link::{self, Action, OwnMailbox, Place as At, Proof};
use crate::name::{ChannelName, SessionPath};
use crate::payload::Payload;
use crate::protocol::{Command, Visibility};
use crate::record::ChannelId;
use crate::stream::Comings;
use crate::time::{Now, UnixMillis};

/// Former paths that are remembered.
const MAX_FORMER: usize = 8;

impl State {
    pub(super) fn event(&mut self, now: Now, action: Action, out: &mut alloc::vec::Vec<Output>) {
        match action {
            Action::Up { path, user, admin, server_key, .. } => {
                if let Some(before) = self.path.replace(path.clone()).filter(|before| *before != path)
                    && self.former.len() < MAX_FORMER
                {
                    self.former.push(before);
                }
                (self.user, self.admin, self.server_key) = (user, admin, server_key);
                self.status = Status::Up;
                for room in self.rooms.values_mut() {
                    (room.failed, room.is_watched) = (false, false);
                }
                self.touched.extend(self.rooms.keys().cloned());
                if !core::mem::replace(&mut self.begun, true) {
                    self.begin(now, out);
                }
                self.refresh(out);
            }
            Action::Down(reason) => self.down(Status::Down(reason.to_string())),
            Action::Refused(refused) => self.down(Status::Refused(refused.to_string())),
            Action::Disabled(reason) => self.down(Status::Refused(reason)),
            Action::Role { admin } => self.admin = admin,
            Action::Joined { channel, position } => {
                let before =
                    self.kept.channels.iter().find(|(name, it)| {
                        position.map_or(*name == channel, |(stream, _)| stream == it.stream)
                    });
                let before = before.map(|(_, followed)| *followed);
                if let Some((stream, after)) = position {
                    let read = before.map_or(after, |it| it.read.min(after));
                    out.push(Output::Keep(Keep::Follow(channel.clone(), stream, read)));
                }
                self.joined(Source::Channel(channel), position, before);
            }
            Action::Opened { mailbox, position } => {
                let before = self.kept.mailboxes.get(&mailbox).copied();
                if let Some((stream, after)) = position {
                    let read = before.map_or(after, |it| it.read.min(after));
                    out.push(Output::Keep(Keep::Open(mailbox, stream, read)));
                }
                self.joined(Source::Mailbox(mailbox), position, before);
            }
            Action::Deliver { channel, from, payload, ts, place } => {
                self.delivered(now, channel, from, &payload, (ts, place));
            }
            Action::Whispered { from, payload } => {
                let room = self.rooms.entry(Source::Mailbox(OwnMailbox::Session)).or_default();
                room.timeline.get_or_insert_with(|| Timeline::new(None, 0, 0, None));
                room.is_joined = true;
                self.arrived(now, Source::Mailbox(OwnMailbox::Session), from, &payload, (None, None));
            }
            Action::Passed { stream, from, to, purged, .. } => {
                let Some((source, room)) = self.room_of(stream) else { return };
                let source = source.clone();
                if let Some(timeline) = &mut room.timeline {
                    match purged {
                        true => timeline.purged(from, to),
                        false => (from..=to).for_each(|seq| timeline.live(seq, None)),
                    }
                }
                self.touched.insert(source);
            }
            // Version 1 counts nothing from before: what came first is not new.
            Action::CaughtUp { channel } if !self.has_positions() => {
                let room = self.rooms.get_mut(&Source::Channel(channel));
                if let Some(timeline) = room.and_then(|it| it.timeline.as_mut()) {
                    timeline.mark_read();
                }
            }
            Action::Deferred { channel, reason } => {
                self.rooms.entry(Source::Channel(channel)).or_default().lost = Some(reason.to_string());
            }
            Action::Lost { channel, why } => {
                let room = self.rooms.entry(Source::Channel(channel)).or_default();
                (room.is_joined, room.lost) = (false, Some(why.to_string()));
                room.present.clear();
            }
            Action::ChannelRenamed { stream, from, to } => {
                if let Some(room) = self.rooms.remove(&Source::Channel(from.clone())) {
                    self.rooms.insert(Source::Channel(to.clone()), room);
                }
                let (from, to) = (Place::Channel(from), Place::Channel(to.clone()));
                for outgoing in self.outgoing.iter_mut().filter(|it| it.place == from) {
                    outgoing.place = to.clone();
                }
                if self.open.as_ref() == Some(&from) {
                    self.open = Some(to.clone());
                }
                if let Place::Channel(name) = to {
                    out.push(Output::Keep(Keep::Follow(name, stream, 0)));
                }
            }
            Action::SenderKey { user, name, machine, key } => {
                self.numbers.insert(name, Some(user));
                if self.keys.len() < MAX_KEYS {
                    self.keys.entry((user, machine)).or_insert(key);
                }
            }
            Action::ReceiptsMoved { stream, .. } => {
                if let Some((source, room)) = self.room_of(stream) {
                    let source = source.clone();
                    room.timeline.iter_mut().for_each(Timeline::readers_moved);
                    self.touched.insert(source);
                } else {
                    self.people_moved();
                }
            }
            Action::PresenceChanged { stream, comings } => self.comings(stream, &comings, out),
            Action::Renamed { .. } | Action::Collision { .. } | Action::Stray { .. } => {}
            Action::Replied { id, result } => self.replied(now, id, result, out),
            Action::CaughtUp { .. } | Action::MailboxCaughtUp { .. } => {}
            // It does not seal yet.
            Action::Sealed(_) => {}
            Action::Dial(_) | Action::Send(_) | Action::Hangup => {}
        }
    }

    /// The first session stands.
    fn begin(&mut self, now: Now, out: &mut alloc::vec::Vec<Output>) {
        if self.has_positions() {
            for mailbox in [OwnMailbox::User, OwnMailbox::Session] {
                self.rooms.entry(Source::Mailbox(mailbox)).or_default();
                // From behind what is read: mailboxes are small.
                let after = self.kept.mailboxes.get(&mailbox).map(|it| (it.stream, it.read));
                out.push(Output::Link(link::Input::Open { mailbox, after }));
            }
        }
        let known = self.kept.channels.iter().map(|(name, _)| name.clone());
        let wanted: alloc::collections::BTreeSet<ChannelName> =
            known.chain(self.kept.wanted.clone()).collect();
        for channel in wanted {
            self.follow(channel, now, out);
        }
    }

    /// The list of channels came; whoever follows none gets a few.
    pub(super) fn choose_channels(&mut self, now: Now, out: &mut alloc::vec::Vec<Output>) {
        if !core::mem::take(&mut self.is_first) {
            return;
        }
        let is_few = self.listed.len() <= MAX_FIRST;
        let wanted =
            self.listed.iter().filter(|it| it.member || (is_few && it.visibility == Visibility::Public));
        let wanted: alloc::vec::Vec<_> = wanted.map(|it| it.name.clone()).take(MAX_FIRST).collect();
        for channel in wanted {
            if !self.rooms.contains_key(&Source::Channel(channel.clone())) {
                self.follow(channel, now, out);
            }
        }
    }

    pub(super) fn refresh(&mut self, out: &mut alloc::vec::Vec<Output>) {
        if self.status == Status::Up {
            self.ask(Command::ListChannels, None, Pending::Channels, out);
            self.ask(Command::Who { channel: None }, None, Pending::Online, out);
            if let Some(Place::Channel(channel)) = self.open.clone() {
                self.ask(
                    Command::Who { channel: Some(channel.clone()) },
                    None,
                    Pending::Present(channel),
                    out,
                );
            }
        }
    }

    fn down(&mut self, status: Status) {
        self.status = status;
        self.online.clear();
        for room in self.rooms.values_mut() {
            (room.is_joined, room.is_watched) = (false, false);
            room.present.clear();
        }
    }

    fn joined(&mut self, source: Source, position: Option<(ChannelId, u64)>, before: Option<Followed>) {
        let room = self.rooms.entry(source.clone()).or_default();
        (room.is_joined, room.lost, room.is_watched) = (true, None, false);
        let number = position.map(|(stream, _)| stream);
        // Another channel may have the name by now.
        if room.timeline.as_ref().is_none_or(|it| it.number != number) {
            let last = position.map_or(0, |(_, after)| after);
            let before = before.filter(|it| Some(it.stream) == number);
            let read = before.map_or(last, |it| it.read);
            room.timeline = Some(Timeline::new(number, last, read, before.and_then(|it| it.given_up)));
            room.asked = None;
        }
        self.touched.insert(source);
    }

    fn delivered(
        &mut self,
        now: Now,
        channel: Option<ChannelName>,
        from: SessionPath,
        payload: &Payload,
        (ts, place): (Option<UnixMillis>, Option<At>),
    ) {
        let source = match (channel, &place) {
            (Some(channel), _) => Source::Channel(channel),
            (None, Some(at)) => match self.room_of(at.stream) {
                Some((source, _)) => source.clone(),
                None => return,
            },
            (None, None) => return,
        };
        self.arrived(now, source, from, payload, (ts, place));
    }

    /// A message of a stream came, in its order there.
    fn arrived(
        &mut self,
        now: Now,
        source: Source,
        from: SessionPath,
        payload: &Payload,
        (ts, place): (Option<UnixMillis>, Option<At>),
    ) {
        let own = self.is_own(&from);
        let user = self.user;
        let Some(room) = self.rooms.get_mut(&source) else { return };
        let timeline = room.timeline.get_or_insert_with(|| Timeline::new(None, 0, 0, None));
        let seq = place.as_ref().map_or(timeline.last() + 1, |it| it.seq);
        let proof = place.map_or(Proof::Unsigned, |it| it.proof);
        let at = ts.unwrap_or(now.wall);
        let message = Message::new((seq, from, at), payload, (own, user), proof);
        timeline.live(seq, Some(message.clone()));
        if let Source::Mailbox(_) = source {
            self.card(now, &message);
        }
        self.touched.insert(source);
    }

    /// Sessions that are in a channel are on the server.
    pub(super) fn are_online(&mut self, sessions: &[Arc<SessionPath>]) {
        for path in sessions {
            if self.online.len() < MAX_LISTED
                && let Err(at) = self.online.binary_search(path)
            {
                self.online.insert(at, path.clone());
            }
        }
    }

    fn comings(&mut self, stream: ChannelId, comings: &Comings, out: &mut alloc::vec::Vec<Output>) {
        let Some((Source::Channel(channel), room)) = self.room_of(stream) else { return };
        let channel = channel.clone();
        if comings.many {
            return self.ask(
                Command::Who { channel: Some(channel.clone()) },
                None,
                Pending::Present(channel),
                out,
            );
        }
        let come = |list: &mut alloc::vec::Vec<Arc<SessionPath>>| {
            list.retain(|it| !comings.left.contains(it));
            for path in &comings.joined {
                if !list.contains(path) && list.len() < MAX_LISTED {
                    list.push(path.clone());
                }
            }
            list.sort();
        };
        come(&mut room.present);
        self.are_online(&comings.joined);
        // Who leaves a channel may be on the server still.
        if !comings.left.is_empty() {
            self.ask(Command::Who { channel: None }, None, Pending::Online, out);
        }
    }
}
