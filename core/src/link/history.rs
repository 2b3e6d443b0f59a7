//! Pages of history by time, from a server that knows positions: the answer to `ReadSince` on a connection of version 2.

use alloc::vec::Vec;

use super::requests::RequestId;
use super::search::{Found, Search};
use super::streams::Violation;
use crate::name::ChannelName;
use crate::protocol::{Reply, Stamped};
use crate::record::ChannelId;
use crate::stream::{PageFrom, StreamCommand, StreamRef};
use crate::time::{Monotonic, UnixMillis};

/// Rows in one page.
const PAGE: usize = 256;

/// A page that the application asked for, and how far the link is with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) id: RequestId,
    pub(super) deadline: Option<Monotonic>,
    channel: ChannelName,
    number: ChannelId,
    since: UnixMillis,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Search(Search),
    Page { after: u64 },
}

/// Where the last page ended: the next usually goes on there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bookmark(Option<(ChannelId, UnixMillis, u64)>);

/// What follows from a page.
pub(super) enum Next {
    /// Ask on.
    Ask(Reading),
    /// The answer.
    Answer(Reply),
}

impl Reading {
    /// A page of what was stamped after `since` in a channel that was read up to `position`.
    pub(super) fn new(
        (id, deadline): (RequestId, Option<Monotonic>),
        channel: ChannelName,
        (number, position): (ChannelId, u64),
        since: UnixMillis,
        bookmark: Bookmark,
    ) -> Self {
        let step = match bookmark.0 {
            Some((stream, ts, seq)) if (stream, ts) == (number, since) => Step::Page { after: seq },
            _ if since.0 <= 0 || position == 0 => Step::Page { after: 0 },
            _ => Step::Search(Search::new(number, since, position)),
        };
        Self { id, deadline, channel, number, since, step }
    }

    /// What to ask the server.
    pub(super) fn command(&self) -> StreamCommand {
        let (after, limit) = match self.step {
            Step::Search(search) => (search.probe().1, 1),
            Step::Page { after } => (after, PAGE),
        };
        let (stream, from) = (StreamRef::Number(self.number), PageFrom::After(after));
        StreamCommand::Read { stream, from, limit }
    }

    /// Takes the page that was asked for.
    pub(super) fn page(
        mut self,
        mut messages: Vec<Stamped>,
        bookmark: &mut Bookmark,
    ) -> Result<Next, Violation> {
        match self.step {
            Step::Search(search) => {
                let first = messages.first().map(|message| (message.seq, message.ts));
                self.step = match search.probed(first)? {
                    Found::Between(search) => Step::Search(search),
                    Found::After(after) => Step::Page { after },
                };
                Ok(Next::Ask(self))
            }
            Step::Page { after } => {
                let mut last = after;
                for message in &messages {
                    if message.seq <= last {
                        return Err(Violation("a page out of its order"));
                    }
                    last = message.seq;
                }
                let some = !messages.is_empty();
                messages.retain(|message| message.ts > self.since);
                if some && messages.is_empty() {
                    // The search ends at what was known of the stream; it may have grown.
                    self.step = Step::Page { after: last };
                    return Ok(Next::Ask(self));
                }
                if let Some(message) = messages.last() {
                    bookmark.0 = Some((self.number, message.ts, message.seq));
                }
                Ok(Next::Answer(Reply::History { channel: self.channel, messages }))
            }
        }
    }
}
