//! Messages that are kept until the agent has seen them: which of them the inbox holds, and what was seen.
//!
//! The shell keeps every message of a stream on disk before it hands it in. The inbox holds the oldest that the agent has
//! not read; when it is full, or the channel is muted, the others stay on disk and are loaded later. So a message is
//! never lost, and never seen before an older one of its stream. A message counts as seen once the answer that holds it
//! was not cancelled for [`CONFIRM`].

use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use super::Bridge;
use super::state::{Shown, Stream};
use crate::bridge::api::Action;
use crate::bridge::inbox::{Entry, Message, Page};
use crate::bridge::levels::{Level, Scope};
use crate::bridge::server::Server;
use crate::bridge::tool_call::CallId;
use crate::link::{Place, Proof};
use crate::mention::mentions;
use crate::name::ChannelName;
use crate::protocol::Stamped;
use crate::record::ChannelId;
use crate::time::Now;

/// A client cancels a call before it has read the answer; the word may take this long.
const CONFIRM: Duration = Duration::from_millis(500);

impl Bridge {
    /// A channel is followed, from now on or since an earlier run.
    pub(super) fn followed(
        &mut self,
        server: &Server,
        channel: Option<ChannelName>,
        stream: ChannelId,
        unread: bool,
    ) {
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
        });
        known.channel = channel;
        known.behind |= unread;
    }

    /// A followed channel has another name: it is the same channel, and its level stays until this session ends.
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
        if was_joined {
            link.joined.insert(to.clone());
            let level = self.levels.level(server, &Scope::Channel(to.clone()));
            let text = format!(
                "#{from} on {server} is called #{to} now. It is the same channel; its level is {level} under the new name."
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

    /// Asks for kept messages where the inbox has none any more.
    pub(super) fn load_unread(&mut self, actions: &mut Vec<Action>) {
        let (levels, inbox) = (&self.levels, &self.inbox);
        for (server, link) in &mut self.links {
            for (stream, known) in &mut link.streams {
                let scope = known.channel.clone().map_or(Scope::Whispers, Scope::Channel);
                // What is not confirmed yet would be loaded once more.
                let unconfirmed = self
                    .shown
                    .iter()
                    .flat_map(|shown| &shown.upto)
                    .any(|(other, one, _)| (other, one) == (server, stream));
                let wanted = known.behind && !known.loading && !unconfirmed;
                if wanted
                    && levels.level(server, &scope) != Level::Mute
                    && inbox.count_in(server, known.channel.as_ref()) == 0
                {
                    known.loading = true;
                    actions.push(Action::LoadUnread { server: server.clone(), stream: *stream });
                }
            }
        }
    }

    /// Kept messages are there.
    pub(super) fn loaded(
        &mut self,
        server: &Server,
        stream: ChannelId,
        messages: Vec<(Stamped, Proof)>,
        more: bool,
    ) {
        let Some(link) = self.links.get_mut(server) else { return };
        let Some(known) = link.streams.get_mut(&stream) else { return };
        let user = link.user;
        known.loading = false;
        let before = known.held;
        for (Stamped { from, ts, payload, seq, origin }, proof) in messages {
            if seq <= known.held {
                continue;
            }
            known.held = seq;
            if proof == Proof::Forged {
                continue;
            }
            let place = Some(Place { stream, seq, origin, proof });
            let (server, channel) = (server.clone(), known.channel.clone());
            let mentions_you = mentions(&payload, user);
            let message =
                Message { server, channel, from, at: Some(ts), payload, place, mentions_you, received: ts };
            self.inbox.push(Entry::Message(message));
        }
        // A shell that has nothing new to hand in is not asked again.
        known.behind = more && known.held > before;
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

    /// What was shown, and not cancelled in time, was seen.
    pub(super) fn confirm_shown(&mut self, now: Now, actions: &mut Vec<Action>) {
        while self.shown.first().is_some_and(|shown| shown.until <= now.mono) {
            let Shown { upto, .. } = self.shown.remove(0);
            let mut moved = Vec::new();
            for (server, stream, seq) in upto {
                let link = self.links.get_mut(&server);
                if let Some(known) = link.and_then(|link| link.streams.get_mut(&stream))
                    && seq > known.seen
                {
                    known.seen = seq;
                    moved.retain(|(other, one, _)| (other, one) != (&server, &stream));
                    moved.push((server, stream, seq));
                }
            }
            let seen = moved.into_iter().map(|(server, stream, seq)| Action::Seen { server, stream, seq });
            actions.extend(seen);
        }
    }
}
