//! Which channels' history is to be read next, and how much of it at once.

use alloc::collections::VecDeque;

use crate::name::ChannelName;

/// Pages that may be under way at once: each may have a megabyte.
const MAX_UNDER_WAY: usize = 4;

/// The channels to be read, in turn, and the number of pages under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads {
    queue: VecDeque<ChannelName>,
    under_way: usize,
}

impl Reads {
    pub(super) fn add(&mut self, channel: ChannelName) {
        self.queue.push_back(channel);
    }

    pub(super) fn remove(&mut self, channel: &ChannelName) {
        self.queue.retain(|queued| queued != channel);
    }

    /// The next channel to be read, if another page may be asked for.
    pub(super) fn next(&mut self) -> Option<ChannelName> {
        if self.under_way < MAX_UNDER_WAY { self.queue.pop_front() } else { None }
    }

    /// A page is asked for.
    pub(super) fn begin(&mut self) {
        self.under_way += 1;
    }

    /// A page came, or was refused.
    pub(super) fn end(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
