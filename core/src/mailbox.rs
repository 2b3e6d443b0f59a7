//! A mailbox: what the engine has left for a connection and the connection has not picked up.
//!
//! This is the rule of what is queued, and whether the connection must be woken for it. The lock around a [`Queue`]
//! and the waking itself are the shell's.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::fanout::Item;
use crate::memory::Account;

/// Room for items that an idle mailbox keeps.
const KEPT: usize = 64;
/// Deliveries that a session may lag behind, in bytes, before it reads them from the store.
const LIVE_BYTES: usize = 1 << 20;
/// The same, in items: a burst of one short message takes more memory here than on the wire.
const LIVE_ITEMS: usize = 512;

/// The items of one mailbox.
#[derive(Debug)]
pub struct Queue {
    items: Vec<Item>,
    bytes: usize,
    most: usize,
    live: usize,
    closed: bool,
    /// What is nobody else's counts for the user.
    account: Option<Arc<Account>>,
    counted: usize,
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is queued: wake the connection.
    Wake,
    /// It is queued behind others, for which the connection was woken.
    Behind,
    /// It is dropped: the connection's end is queued.
    Closed,
    /// It is dropped: the queue is full, since the peer does not read.
    Full,
}

impl Queue {
    /// An empty queue for at most `most` bytes; one item always fits.
    pub fn new(most: usize) -> Self {
        Self { items: Vec::new(), bytes: 0, most, live: LIVE_BYTES, closed: false, account: None, counted: 0 }
    }

    /// Counts what is queued from now on for a user.
    pub fn count_for(&mut self, account: Arc<Account>) {
        self.clear_count();
        self.account = Some(account);
    }

    /// The account of the user that what is queued counts for.
    pub fn account(&self) -> Option<&Arc<Account>> {
        self.account.as_ref()
    }

    fn clear_count(&mut self) {
        if let Some(account) = &self.account {
            account.give(core::mem::take(&mut self.counted));
        }
    }

    /// Another bound for what a session may lag behind, in bytes of deliveries: a simulation's worlds are small.
    #[must_use]
    pub fn with_live(mut self, live: usize) -> Self {
        self.live = live;
        self
    }

    /// Queues an item. The connection's end is always queued; after it, nothing is.
    pub fn push(&mut self, item: Item) -> Pushed {
        if self.closed {
            return Pushed::Closed;
        }
        let (empty, size) = (self.items.is_empty(), item.size());
        if let Item::Close(reason) = &item {
            self.closed = true;
            if reason.cuts_off() {
                self.items.clear();
                self.bytes = 0;
                self.clear_count();
            }
        } else if !matches!(item, Item::Mark) && self.is_full_for(&item, size) {
            return Pushed::Full;
        }
        if let Some(account) = &self.account
            && !is_small_or_shared(&item, size)
        {
            if !account.take(size) {
                return Pushed::Full;
            }
            self.counted += size;
        }
        self.bytes += size;
        self.items.push(item);
        // A connection without room leaves items where they are, but not its end.
        if empty || self.closed { Pushed::Wake } else { Pushed::Behind }
    }

    fn is_full_for(&self, item: &Item, size: usize) -> bool {
        let most = match item {
            // What does not fit is read from the store, so a slow session holds little.
            Item::Burst(burst) if burst.resumable().is_some() => self.most.min(self.live),
            _ => self.most,
        };
        self.bytes > 0 && (self.bytes + size > most || (most < self.most && self.items.len() >= LIVE_ITEMS))
    }

    /// Moves all items to `into`, which is empty; false if there are none. A connection without room takes nothing
    /// until its end is queued: a peer that does not read must not be kept for ever.
    pub fn take(&mut self, room: bool, into: &mut Vec<Item>) -> bool {
        if self.items.is_empty() || !(room || self.closed) {
            return false;
        }
        core::mem::swap(&mut self.items, into);
        if self.items.capacity() > KEPT {
            self.items = Vec::new();
        }
        self.bytes = 0;
        self.clear_count();
        true
    }

    /// Bytes that are queued, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.clear_count();
    }
}

/// What is a word, or is held once for many, counts for nobody: windows bound the one, commits the other.
fn is_small_or_shared(item: &Item, size: usize) -> bool {
    size <= 16 || matches!(item, Item::Burst(_) | Item::Close(_) | Item::Established(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::RequestId;
    use crate::protocol::{CloseReason, Reply};

    fn reply(nth: u64) -> Item {
        Item::Reply { request: RequestId(nth), reply: Reply::Sent }
    }

    fn end() -> Item {
        Item::Close(CloseReason::Shutdown)
    }

    #[test]
    fn the_first_item_and_the_end_wake_the_connection() {
        let mut queue = Queue::new(1 << 20);
        assert_eq!(queue.push(reply(1)), Pushed::Wake);
        assert_eq!(queue.push(reply(2)), Pushed::Behind);
        assert_eq!(queue.push(end()), Pushed::Wake, "a connection without room sleeps, though items wait");
        assert_eq!(queue.push(reply(3)), Pushed::Closed);
    }

    #[test]
    fn a_full_queue_still_takes_the_end() {
        let mut queue = Queue::new(20);
        assert_eq!(queue.push(reply(1)), Pushed::Wake);
        assert_eq!(queue.push(reply(2)), Pushed::Full);
        assert_eq!(queue.push(end()), Pushed::Wake);
    }

    #[test]
    fn a_users_queues_are_bounded_together() {
        let memory = crate::memory::Memory::new(1_000, 1 << 20);
        let account = memory.account();
        let list = || Item::Reply { request: RequestId(0), reply: Reply::Users(Vec::with_capacity(0)) };
        let size = list().size();
        let mut queues: Vec<Queue> = (0..20).map(|_| Queue::new(1 << 20)).collect();
        queues.iter_mut().for_each(|queue| queue.count_for(account.clone()));
        let taken = queues.iter_mut().filter_map(|queue| (queue.push(list()) == Pushed::Wake).then_some(()));
        assert_eq!(taken.count(), 1_000 / size);
        assert_eq!(queues[19].push(list()), Pushed::Full);
        assert_eq!(queues[19].push(reply(1)), Pushed::Wake, "a word always fits");
        queues[0].take(true, &mut Vec::new());
        assert_eq!(queues[19].push(list()), Pushed::Behind);
        queues[1].push(Item::Close(CloseReason::SlowConsumer));
        queues.truncate(2);
        assert_eq!((account.held(), memory.held()), (0, 0));
    }

    #[test]
    fn one_item_fits_whatever_its_size() {
        assert_eq!(Queue::new(1).push(reply(1)), Pushed::Wake);
    }

    #[test]
    fn a_connection_without_room_takes_nothing_but_its_end() {
        let (mut queue, mut items) = (Queue::new(1 << 20), Vec::new());
        queue.push(reply(1));
        assert!(!queue.take(false, &mut items) && items.is_empty());
        queue.push(end());
        assert!(queue.take(false, &mut items));
        assert_eq!((items.len(), queue.bytes()), (2, 0));
        assert!(!queue.take(true, &mut Vec::new()));
    }

    #[test]
    fn who_was_removed_by_somebody_else_or_does_not_read_gets_its_last_word_only() {
        for (reason, left) in [
            (CloseReason::KeyRevoked { own: false }, 1),
            (CloseReason::UserRemoved { own: false }, 1),
            (CloseReason::SlowConsumer, 1),
            (CloseReason::KeyRevoked { own: true }, 2),
            (CloseReason::UserRemoved { own: true }, 2),
            (CloseReason::Shutdown, 2),
        ] {
            let (mut queue, mut items) = (Queue::new(1 << 20), Vec::new());
            queue.push(reply(1));
            queue.push(Item::Close(reason.clone()));
            queue.take(true, &mut items);
            assert_eq!(items.len(), left, "{reason:?}");
        }
    }
}
