//! The inbox as it is read: by whom, of what, and what waits meanwhile.

use alloc::vec::Vec;

use super::Bridge;
use super::PAGE_ENTRIES;
use super::calls::Answer;
use super::state::Opening;
use crate::bridge::api::Action;
use crate::bridge::failure::Failure;
use crate::bridge::frame::PAGE_BYTES;
use crate::bridge::inbox::{Entry, Message, Source};
use crate::bridge::levels::{Level, Scope};
use crate::bridge::server::Server;
use crate::bridge::tool_call::{CallId, Filter, Outcome, Waiting, WhisperTarget};
use crate::name::ChannelName;
use crate::record::ChannelId;
use crate::time::Now;

/// Sources whose unread messages are told one by one.
const MAX_TOLD: usize = 50;
/// Reads that wait until something is loaded.
const MAX_OPENINGS: usize = 16;

impl Bridge {
    /// Whether a message is only shown to whoever asks for it.
    pub(super) fn is_quiet(&self, entry: &Entry) -> bool {
        let Entry::Message(Message { server, channel: Some(channel), mentions_you: false, .. }) = entry
        else {
            return false;
        };
        self.levels.mentions_only(server, &Scope::Channel(channel.clone()))
    }

    /// Reads the inbox for a call, at once if what it asks for is there.
    pub(super) fn read_inbox(
        &mut self,
        now: Now,
        call: CallId,
        limit: Option<usize>,
        mut filter: Filter,
        actions: &mut Vec<Action>,
    ) -> Answer {
        let limit = limit.unwrap_or(PAGE_ENTRIES);
        if let Some(name) = filter.server.take() {
            filter.server = Some(self.resolve(Some(&name))?.as_str().into());
        }
        let quiet = filter.channel.as_ref().and_then(|channel| self.quiet_in(&filter, channel));
        match quiet {
            Some(_) if self.openings.len() >= MAX_OPENINGS => Err(Failure::Busy),
            Some((server, stream)) => {
                self.openings.push(Opening { call, limit, filter, server, stream });
                Ok(None)
            }
            None => {
                self.read(now, call, limit, &filter, actions);
                Ok(None)
            }
        }
    }

    /// The stream of a channel of which there is something on disk that waits quietly, and nothing in the inbox.
    fn quiet_in(&self, filter: &Filter, channel: &ChannelName) -> Option<(Server, ChannelId)> {
        let scope = Scope::Channel(channel.clone());
        let heard = |server: &Server| self.levels.level(server, &scope) != Level::Mute;
        let servers = self.links.iter().filter(|(server, _)| is_named(filter, server) && heard(server));
        let mut streams = servers.flat_map(|(server, link)| link.streams.iter().map(move |it| (server, it)));
        let (server, (number, _)) = streams.find(|(server, (_, stream))| {
            stream.channel.as_ref() == Some(channel)
                && !stream.quiet.is_empty()
                && !self.inbox.has_fresh_in(server, Some(channel), |_| true)
        })?;
        Some((server.clone(), *number))
    }

    /// What reads of a stream waited for is there.
    pub(super) fn open(&mut self, now: Now, server: &Server, stream: ChannelId, actions: &mut Vec<Action>) {
        let openings = core::mem::take(&mut self.openings);
        let (due, later) = openings.into_iter().partition(|it| (&it.server, it.stream) == (server, stream));
        self.openings = later;
        for Opening { call, limit, filter, .. } in due {
            self.read(now, call, limit, &filter, actions);
        }
    }

    /// Reads the inbox for a call.
    pub(super) fn read(
        &mut self,
        now: Now,
        call: CallId,
        limit: usize,
        filter: &Filter,
        actions: &mut Vec<Action>,
    ) {
        self.read_bytes(now, call, (limit.clamp(1, 4 * PAGE_ENTRIES), PAGE_BYTES), filter, actions);
    }

    /// Puts back what a call has read: nobody saw it.
    pub(super) fn put_back(&mut self, call: CallId) {
        if let Some((_, page)) = self.last_read.take_if(|(read, _)| *read == call) {
            self.inbox.unread(page);
        }
        self.shown.retain(|shown| shown.call != call);
    }

    /// Reads at most so many entries, and bytes of text.
    pub(super) fn read_bytes(
        &mut self,
        now: Now,
        call: CallId,
        (limit, bytes): (usize, usize),
        filter: &Filter,
        actions: &mut Vec<Action>,
    ) {
        let levels = self.levels.clone();
        let quiet = |entry: &Entry| match entry {
            Entry::Message(Message { server, channel: Some(channel), mentions_you: false, .. }) => {
                levels.mentions_only(server, &Scope::Channel(channel.clone()))
            }
            _ => false,
        };
        let wanted = |entry: &Entry| matches(filter, entry) && (filter.channel.is_some() || !quiet(entry));
        let page = self.inbox.read(limit, bytes, wanted);
        self.show(now, call, &page);
        let levels = page.entries.iter().map(|unread| self.entry_level(&unread.entry)).collect();
        let waiting = self.unread_by_source();
        self.last_read = Some((call, page.clone()));
        actions.push(Action::Answer { call, result: Ok(Outcome::Read { page, levels, waiting }) });
    }

    /// What is unread, by sources.
    fn unread_by_source(&self) -> Vec<Waiting> {
        let counts = self.inbox.counts(|entry| !self.is_quiet(entry)).into_iter().take(MAX_TOLD);
        let waiting = |(source, unread, quiet)| Waiting { source, unread, quiet, more: false };
        let mut all: Vec<Waiting> = counts.map(waiting).collect();
        for (server, link) in &self.links {
            for stream in link.streams.values().filter(|it| it.behind || !it.quiet.is_empty()) {
                let Some(channel) = &stream.channel else { continue };
                let source = Source::Channel(server.clone(), channel.clone());
                let (quiet, more) = (stream.quiet.len(), stream.behind);
                match all.iter().position(|it| it.source == source) {
                    Some(at) => (all[at].quiet, all[at].more) = (all[at].quiet + quiet, more),
                    None if all.len() < MAX_TOLD => all.push(Waiting { source, unread: 0, quiet, more }),
                    None => {}
                }
            }
        }
        all
    }

    /// Marks what all channels have, or one, and notices as read, without showing it. Whispers are for the agent alone: they
    /// are not passed over.
    pub(super) fn mark_read(
        &mut self,
        server: Option<&str>,
        channel: Option<ChannelName>,
        actions: &mut Vec<Action>,
    ) -> Answer {
        let server = server.map(|server| self.resolve(Some(server))).transpose()?;
        let filter = Filter { server: server.map(|it| it.as_str().into()), channel, ..Filter::default() };
        let is_whisper = |entry: &Entry| matches!(entry, Entry::Message(Message { channel: None, .. }));
        let removed = self.inbox.remove(|entry| matches(&filter, entry) && !is_whisper(entry));
        let (mut count, mut more) = (removed.len(), false);
        let place = |entry: &Entry| match entry {
            Entry::Message(Message { server, place: Some(place), .. }) => {
                Some((server.clone(), place.stream, place.seq))
            }
            _ => None,
        };
        let places: Vec<_> = removed.iter().filter_map(place).collect();
        for (server, link) in self.links.iter_mut().filter(|(server, _)| is_named(&filter, server)) {
            for (number, stream) in &mut link.streams {
                if stream.channel.is_none() || (filter.channel.is_some() && stream.channel != filter.channel)
                {
                    continue;
                }
                let quiet = core::mem::take(&mut stream.quiet);
                let behind = core::mem::take(&mut stream.behind).then_some(stream.held + 1);
                let held =
                    places.iter().filter(|(on, of, _)| (on, of) == (server, number)).map(|(.., seq)| *seq);
                (count, more) = (count + quiet.len(), more || behind.is_some());
                let Some(from) = quiet.first().into_iter().chain(behind).chain(held).min() else {
                    continue;
                };
                stream.skip(from);
                // What is on its way in still comes.
                let to = if behind.is_some() { u64::MAX } else { stream.held };
                actions.push(Action::Skip { server: server.clone(), stream: *number, from, to });
            }
        }
        Ok(Some(Outcome::Marked { count, more }))
    }
}

fn is_named(filter: &Filter, server: &Server) -> bool {
    filter.server.as_deref().is_none_or(|name| name == server.as_str())
}

fn matches(filter: &Filter, entry: &Entry) -> bool {
    let Entry::Message(message) = entry else {
        let Entry::Notice(notice) = entry else { return false };
        let of_server = notice.server.as_ref().is_none_or(|server| is_named(filter, server));
        return of_server && filter.channel.is_none() && filter.from.is_none() && !filter.mentions_only;
    };
    is_named(filter, &message.server)
        && filter.channel.as_ref().is_none_or(|channel| message.channel.as_ref() == Some(channel))
        && (!filter.mentions_only || message.mentions_you)
        && match &filter.from {
            None => true,
            Some(WhisperTarget::User(user)) => message.from.user == *user,
            Some(WhisperTarget::Session(path)) => message.from == *path,
        }
}
