//! A connection's mailbox with the rules of the shell's: bounded in bytes, the end always fits and is the last.

use conclave_core::fanout::Item;
use conclave_core::protocol::CloseReason;

/// See the module.
#[derive(Debug)]
pub(super) struct Mailbox {
    items: Vec<Item>,
    bytes: usize,
    closed: bool,
    most: usize,
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It is queued.
    Queued,
    /// Nothing is queued any more.
    Closed,
    /// There is no room.
    Full,
}

impl Mailbox {
    /// A mailbox for so many bytes; one item always fits.
    pub(super) fn new(most: usize) -> Self {
        Self { items: Vec::new(), bytes: 0, closed: false, most }
    }

    /// Queues an item.
    pub(super) fn push(&mut self, item: Item) -> Pushed {
        let size = item.size();
        if self.closed {
            return Pushed::Closed;
        }
        if let Item::Close(reason) = &item {
            self.closed = true;
            if matches!(
                reason,
                CloseReason::SlowConsumer | CloseReason::KeyRevoked | CloseReason::UserRemoved
            ) {
                self.items.clear();
            }
        } else if self.bytes > 0 && self.bytes + size > self.most {
            return Pushed::Full;
        }
        self.bytes += size;
        self.items.push(item);
        Pushed::Queued
    }

    /// Everything that is queued.
    pub(super) fn take(&mut self) -> Vec<Item> {
        self.bytes = 0;
        std::mem::take(&mut self.items)
    }

    /// What is queued.
    pub(super) fn items(&self) -> &[Item] {
        &self.items
    }

    /// Bytes that are queued, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
