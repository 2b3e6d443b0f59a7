//! Which channels' history is to be read next, and how much of it at once.

use alloc::collections::VecDeque;

use crate::name::ChannelName;

/// Pages that may be under way at once: each may have a megabyte.
const MAX_UNDER_WAY: usize = 4;

/// The channels to be read, in turn, and the number of pages under way.
#[derive(Clone, Debug, Default)]
pub(in crate::link) struct Reads {
    queue: VecDeque<ChannelName>,
    under_way: usize,
}

impl Reads {
    pub(in crate::link) fn add(&mut self, channel: ChannelName) {
        self.queue.push_back(channel);
    }

    pub(in crate::link) fn remove(&mut self, channel: &ChannelName) {
        self.queue.retain(|queued| queued != channel);
    }

    /// The next channel to be read, if another page may be asked for.
    pub(in crate::link) fn next(&mut self) -> Option<ChannelName> {
        if self.under_way < MAX_UNDER_WAY { self.queue.pop_front() } else { None }
    }

    /// A page is asked for.
    pub(in crate::link) fn begin(&mut self) {
        self.under_way += 1;
    }

    /// A page came, or was refused.
    pub(in crate::link) fn end(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    pub(in crate::link) fn clear(&mut self) {
        *self = Self::default();
    }
}
