//! Messages that are kept until the agent has seen them: which of them the inbox holds, and what was seen.
//!
//! The shell keeps every message of a stream on disk before it hands it in. The inbox holds the oldest that the agent has
//! not read; when it is full, or the channel is muted, the others stay on disk and are loaded later, and so do those that
//! mention nobody here where only mentions are shown. So a message is never lost. A message was put before the agent once
//! the answer that holds it was not cancelled for [`CONFIRM`]. It is reported as seen once no older one of its stream waits:
//! the report says "everything up to here". What was marked as read without being shown is never reported.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use super::state::{Quiet, Shown, Stream};
use super::{Bridge, perm_command};
use crate::bridge::api::Action;
use crate::bridge::bindings::Bound;
use crate::bridge::inbox::{Entry, Message, Page, Source};
use crate::bridge::levels::{Level, Meaning, Scope};
use crate::bridge::server::Server;
use crate::bridge::tool_call::CallId;
use crate::link::{Place, Proof};
use crate::mention::mentions;
use crate::name::ChannelName;
use crate::protocol::Stamped;
use crate::record::ChannelId;
use crate::text::quoted;
use crate::time::Now;

/// A client cancels a call before it has read the answer; the word may take this long.
const CONFIRM: Duration = Duration::from_millis(500);
/// Bytes of messages that wait quietly, in all streams: fewer than the shell keeps.
const MAX_QUIET: usize = 4 << 20;
/// What each of them counts beside its text.
const QUIET_OVERHEAD: usize = 1024;
/// Messages of a stream that were shown while an older one waits.
const MAX_AHEAD: usize = 10_000;

impl Bridge {
    /// A channel is followed, from now on or since an earlier run.
    pub(super) fn followed(
        &mut self,
        server: &Server,
        channel: Option<ChannelName>,
        stream: ChannelId,
        (unread, skipped): (bool, Option<u64>),
        actions: &mut Vec<Action>,
    ) {
        if let Some(channel) = &channel {
            self.settle_level(server, channel, stream, true, actions);
        }
        let Some(link) = self.links.get_mut(server) else { return };
        if let Some(channel) = &channel {
            link.joined.insert(channel.clone());
            let replaced = Some(channel.clone());
            link.streams.retain(|other, known| *other == stream || known.channel != replaced);
        }
        let known = link.streams.entry(stream).or_insert_with(|| Stream {
            channel: channel.clone(),
            held: 0,
            seen: 0,
            behind: false,
            loading: false,
            quiet: Quiet::default(),
            ahead: BTreeSet::new(),
            skipped: None,
        });
        known.channel = channel;
        known.behind |= unread;
        known.skipped = known.skipped.into_iter().chain(skipped).min();
    }

    /// Binds the level that is configured under a followed channel's name to the channel, or reports that it is another's.
    pub(super) fn settle_level(
        &mut self,
        server: &Server,
        channel: &ChannelName,
        stream: ChannelId,
        reports: bool,
        actions: &mut Vec<Action>,
    ) {
        match self.levels.follow(server, channel, stream) {
            Meaning::Settled => {}
            Meaning::Binds => {
                let bound = Bound::Channel(channel.clone(), stream);
                actions.push(Action::Bind { server: server.clone(), bound });
            }
            Meaning::Foreign if reports => {
                let scope = Scope::Channel(channel.clone());
                let level = self.levels.level(server, &scope);
                let text = format!(
                    "{scope} on {server} is another channel than the one that your user set a level for: its level is \
                     {level}. To set one for it, your user types: {}",
                    perm_command(server, &scope, Level::Converse)
                );
                self.notify(server, text, actions);
            }
            Meaning::Foreign => {}
        }
    }

    /// A followed channel has another name: it is the same channel, and its level stays.
    pub(super) fn channel_renamed(
        &mut self,
        server: &Server,
        stream: ChannelId,
        from: &ChannelName,
        to: ChannelName,
        actions: &mut Vec<Action>,
    ) {
        let Some(link) = self.links.get_mut(server) else { return };
        let was_joined = link.joined.remove(from);
        if let Some(known) = link.streams.get_mut(&stream) {
            known.channel = Some(to.clone());
        }
        self.levels.rename(server, from, &to, stream);
        if was_joined {
            link.joined.insert(to.clone());
            let level = self.levels.level(server, &Scope::Channel(to.clone()));
            let text = format!(
                "#{} on {server} is called #{} now. It is the same channel; its level is {level} under the new name.",
                quoted(from.as_str()),
                quoted(to.as_str())
            );
            self.notify(server, text, actions);
        }
    }

    fn stream(&mut self, message: &Message) -> Option<(&mut Stream, u64)> {
        let Place { stream, seq, .. } = message.place.as_ref()?;
        let known = self.links.get_mut(&message.server)?.streams.get_mut(stream)?;
        Some((known, *seq))
    }

    /// A message is not shown now; it stays kept.
    pub(super) fn leave_kept(&mut self, message: &Message) {
        if let Some((stream, seq)) = self.stream(message) {
            stream.behind |= seq > stream.held;
        }
    }

    /// A message is never shown.
    pub(super) fn pass(&mut self, message: &Message) {
        if let Some((stream, seq)) = self.stream(message)
            && !stream.behind
        {
            stream.held = stream.held.max(seq);
        }
    }

    /// Whether the inbox is to hold an entry. If not, it is loaded once there is room.
    pub(super) fn takes(&mut self, entry: &Entry) -> bool {
        let room = self.inbox.has_room(entry);
        let Entry::Message(message) = entry else { return true };
        let Some((stream, seq)) = self.stream(message) else { return true };
        if stream.behind || !room {
            stream.behind = true;
            return false;
        }
        stream.held = stream.held.max(seq);
        true
    }

    /// Leaves a message on disk that is not shown by itself. False if none of its stream is kept there.
    pub(super) fn keep_quiet(&mut self, message: &Message, actions: &mut Vec<Action>) -> bool {
        let size = message.payload.size() + QUIET_OVERHEAD;
        let Some((stream, seq)) = self.stream(message) else { return false };
        if stream.behind {
            return true;
        }
        if seq > stream.held {
            stream.held = seq;
            stream.quiet.insert(seq, size);
            self.bound_quiet(actions);
        }
        true
    }

    /// Where too much waits quietly, the stream with the most of it gives up its oldest: the history still has it.
    fn bound_quiet(&mut self, actions: &mut Vec<Action>) {
        loop {
            let all = || {
                self.links.iter().flat_map(|(server, link)| {
                    link.streams.iter().map(move |(number, stream)| (stream.quiet.bytes(), server, *number))
                })
            };
            if all().map(|(bytes, ..)| bytes).sum::<usize>() <= MAX_QUIET {
                return;
            }
            let Some((_, server, number)) = all().max_by_key(|(bytes, ..)| *bytes) else { return };
            let server = server.clone();
            let link = self.links.get_mut(&server);
            let Some(stream) = link.and_then(|link| link.streams.get_mut(&number)) else { return };
            let Some(seq) = stream.quiet.first() else { return };
            stream.quiet.remove(seq);
            stream.skip(seq);
            if let Some(channel) = stream.channel.clone() {
                self.inbox.lost(Source::Channel(server.clone(), channel));
            }
            actions.push(Action::Skip { server, stream: number, from: seq, to: seq });
        }
    }

    /// Takes an entry into the inbox. What that pushes out was not put before the agent.
    pub(super) fn take_in(&mut self, entry: Entry, actions: &mut Vec<Action>) {
        for given_up in self.inbox.push(entry) {
            if let Entry::Message(message) = given_up
                && let Some((stream, seq)) = self.stream(&message)
            {
                stream.skip(seq);
                let Message { server, place: Some(place), .. } = message else { continue };
                actions.push(Action::Skip { server, stream: place.stream, from: seq, to: seq });
            }
        }
    }

    /// Asks for kept messages where the inbox has none any more, and where they are to be read.
    pub(super) fn load_unread(&mut self, actions: &mut Vec<Action>) {
        let (levels, inbox, openings) = (&self.levels, &self.inbox, &self.openings);
        for (server, link) in &mut self.links {
            for (stream, known) in &mut link.streams {
                if known.loading || (!known.behind && known.quiet.is_empty()) {
                    continue;
                }
                let scope = known.channel.clone().map_or(Scope::Whispers, Scope::Channel);
                let muted = levels.level(server, &scope) == Level::Mute;
                let asked = openings.iter().any(|it| (&it.server, it.stream) == (server, *stream));
                let mentions_only = levels.mentions_only(server, &scope);
                let loud = |entry: &Entry| !mentions_only || entry.mentions_you();
                let has_room = || !inbox.has_fresh_in(server, known.channel.as_ref(), loud);
                // What waits quietly is wanted when it is asked for, and when it is not quiet any more.
                let quiet = known.quiet.first();
                let after = match quiet {
                    Some(seq) if asked || (!mentions_only && !muted && has_room()) => seq - 1,
                    _ => {
                        if !known.behind || muted || !has_room() {
                            continue;
                        }
                        known.held
                    }
                };
                known.loading = true;
                actions.push(Action::LoadUnread { server: server.clone(), stream: *stream, after });
            }
        }
    }

    /// Kept messages are there.
    pub(super) fn loaded(
        &mut self,
        now: Now,
        server: &Server,
        (stream, after): (ChannelId, u64),
        (messages, more): (Vec<(Stamped, Proof)>, bool),
        actions: &mut Vec<Action>,
    ) {
        let Some(link) = self.links.get_mut(server) else { return };
        let Some(known) = link.streams.get_mut(&stream) else {
            // The channel was left meanwhile.
            return self.open(now, server, stream, actions);
        };
        let (user, channel, before) = (link.user, known.channel.clone(), known.held);
        known.loading = false;
        let scope = channel.clone().map_or(Scope::Whispers, Scope::Channel);
        let mentions_only = self.levels.mentions_only(server, &scope);
        let last = messages.last().map_or(after, |(message, _)| message.seq);
        let mut missing = known.quiet.within(after, if more { last } else { u64::MAX });
        let mut full = false;
        for (Stamped { from, ts, payload, seq, origin }, proof) in messages {
            missing.remove(&seq);
            let Some(known) = self.links.get_mut(server).and_then(|link| link.streams.get_mut(&stream))
            else {
                return;
            };
            let was_quiet = known.quiet.contains(seq);
            if (seq <= known.held && !was_quiet) || proof == Proof::Forged {
                known.held = known.held.max(seq);
                known.quiet.remove(seq);
                continue;
            }
            let size = payload.size() + QUIET_OVERHEAD;
            let place = Some(Place { stream, seq, origin, proof });
            let (server, channel, mentions_you) = (server.clone(), channel.clone(), mentions(&payload, user));
            let message =
                Message { server, channel, from, at: Some(ts), payload, place, mentions_you, received: ts };
            self.guard.read(now.mono, message.venue(), message.row());
            if was_quiet {
                // Read a part of it, if all does not fit.
                let entry = Entry::Message(message);
                full = full || !self.inbox.has_room(&entry);
                if !full {
                    known.quiet.remove(seq);
                    self.take_in(entry, actions);
                }
                continue;
            }
            known.held = seq;
            if mentions_only && !mentions_you {
                known.quiet.insert(seq, size);
                self.bound_quiet(actions);
            } else {
                self.take_in(Entry::Message(message), actions);
            }
        }
        let Some(known) = self.links.get_mut(server).and_then(|link| link.streams.get_mut(&stream)) else {
            return;
        };
        // They are kept no more.
        missing.into_iter().for_each(|seq| known.quiet.remove(seq));
        if after >= before {
            // A shell that has nothing new to hand in is not asked again.
            known.behind = more && known.held > before;
            if !known.quiet.is_empty() && !known.behind {
                // That was not what is to be read now: it is asked for next.
                return;
            }
        }
        self.open(now, server, stream, actions);
    }

    /// Notes what an answer puts before the agent.
    pub(super) fn show(&mut self, now: Now, call: CallId, page: &Page) {
        let whole = page.entries.iter().filter(|unread| unread.around().1 == 0);
        let upto = whole
            .filter_map(|unread| match &unread.entry {
                Entry::Message(Message { server, place: Some(place), .. }) => {
                    Some((server.clone(), place.stream, place.seq))
                }
                _ => None,
            })
            .collect::<Vec<_>>();
        if !upto.is_empty() {
            self.shown.push(Shown { call, until: now.mono + CONFIRM, upto });
        }
    }

    /// What was shown, and not cancelled in time, was put before the agent.
    pub(super) fn confirm_shown(&mut self, now: Now, actions: &mut Vec<Action>) {
        while self.shown.first().is_some_and(|shown| shown.until <= now.mono) {
            let Shown { upto, .. } = self.shown.remove(0);
            let mut streams: Vec<(Server, ChannelId, Vec<u64>)> = Vec::new();
            for (server, stream, seq) in upto {
                match streams.iter_mut().find(|it| it.0 == server && it.1 == stream) {
                    Some((.., seqs)) => seqs.push(seq),
                    None => streams.push((server, stream, Vec::from([seq]))),
                }
            }
            for (server, stream, seqs) in streams {
                self.confirm(server, stream, &seqs, actions);
            }
        }
    }

    fn confirm(&mut self, server: Server, stream: ChannelId, seqs: &[u64], actions: &mut Vec<Action>) {
        let first = self.first_unseen(&server, stream);
        let link = self.links.get_mut(&server);
        let Some(known) = link.and_then(|link| link.streams.get_mut(&stream)) else { return };
        known.ahead.extend(seqs.iter().filter(|seq| **seq > known.seen));
        if let Some(seen) = known.ahead.range(..first).next_back().copied() {
            known.seen = seen;
            known.ahead = known.ahead.split_off(&(seen + 1));
            actions.push(Action::Seen { server: server.clone(), stream, seq: seen });
        }
        while known.ahead.len() > MAX_AHEAD {
            // It is reported later, with one behind it.
            known.ahead.pop_first();
        }
        let seqs: Vec<_> = seqs.iter().copied().filter(|seq| *seq > known.seen).collect();
        if !seqs.is_empty() {
            actions.push(Action::Shown { server, stream, seqs });
        }
    }

    /// The first message of a stream that was not put before the agent, as far as one is known.
    fn first_unseen(&self, server: &Server, stream: ChannelId) -> u64 {
        let Some(known) = self.links.get(server).and_then(|link| link.streams.get(&stream)) else { return 0 };
        let unconfirmed = self.shown.iter().flat_map(|shown| &shown.upto);
        let unconfirmed =
            unconfirmed.filter(|(on, of, _)| (on, *of) == (server, stream)).map(|(.., seq)| *seq);
        let quiet = known.quiet.first();
        let behind = known.behind.then_some(known.held + 1);
        let held = self.inbox.first_of(server, stream);
        unconfirmed.chain(quiet).chain(behind).chain(held).chain(known.skipped).min().unwrap_or(u64::MAX)
    }
}

impl Stream {
    /// A message is given up unshown.
    pub(super) fn skip(&mut self, seq: u64) {
        self.skipped = Some(self.skipped.map_or(seq, |skipped| skipped.min(seq)));
    }
}
