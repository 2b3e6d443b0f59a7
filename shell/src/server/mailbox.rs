//! A connection's mailbox: where the engine leaves what the connection's task picks up.
//!
//! One lock each, held for a push or a swap; none is shared between connections.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use atomic_waker::AtomicWaker;
use conclave_core::fanout::Item;

/// The mailbox of one connection.
#[derive(Debug)]
pub struct Mailbox {
    state: Mutex<State>,
    waker: AtomicWaker,
    most: usize,
}

#[derive(Debug, Default)]
struct State {
    items: Vec<Item>,
    bytes: usize,
    closed: bool,
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is queued: the task must be woken.
    Wake,
    /// It is queued behind others, of which the task knows.
    Behind,
    /// Nothing is queued any more: the connection ends.
    Closed,
    /// The queue is full: the peer does not read.
    Full,
}

impl Mailbox {
    /// A mailbox that holds at most `most` bytes; one item always fits.
    pub fn new(most: usize) -> Self {
        Self { state: Mutex::default(), waker: AtomicWaker::new(), most }
    }

    /// Queues an item. The connection's end is always queued; after it, nothing is.
    pub fn push(&self, item: Item) -> Pushed {
        let size = item.size();
        let mut state = self.lock();
        if state.closed {
            return Pushed::Closed;
        }
        let empty = state.items.is_empty();
        if let Item::Close(reason) = &item {
            state.closed = true;
            if reason.cuts_off() {
                state.items.clear();
            }
        } else if state.bytes > 0 && state.bytes + size > self.most {
            return Pushed::Full;
        }
        state.bytes += size;
        state.items.push(item);
        // The end is waited for by a task that leaves the rest where it is, too: its peer does not read.
        if empty || state.closed { Pushed::Wake } else { Pushed::Behind }
    }

    /// Whether the connection's end is queued.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Bytes that are queued, about.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Wakes the connection's task.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// Has `waker` woken at the next [`Mailbox::wake`]. Register first, then look.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Moves all items to `into`, which is empty; says how many bytes they are.
    pub fn take(&self, into: &mut Vec<Item>) -> usize {
        let mut state = self.lock();
        if state.items.is_empty() {
            return 0;
        }
        std::mem::swap(&mut state.items, into);
        if state.items.capacity() > 64 {
            state.items = Vec::new();
        }
        std::mem::take(&mut state.bytes)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use conclave_core::hub::RequestId;
    use conclave_core::protocol::{CloseReason, Reply};

    use super::*;

    fn left_by(reason: CloseReason) -> usize {
        let mailbox = Mailbox::new(1 << 20);
        mailbox.push(Item::Reply { request: RequestId(1), reply: Reply::Sent });
        mailbox.push(Item::Close(reason));
        assert_eq!(mailbox.push(Item::Reply { request: RequestId(2), reply: Reply::Sent }), Pushed::Closed);
        let mut items = Vec::new();
        mailbox.take(&mut items);
        items.len()
    }

    #[test]
    fn the_first_item_and_the_end_wake_the_task() {
        let mailbox = Mailbox::new(1 << 20);
        let reply = |nth| Item::Reply { request: RequestId(nth), reply: Reply::Sent };
        assert_eq!(mailbox.push(reply(1)), Pushed::Wake);
        assert_eq!(mailbox.push(reply(2)), Pushed::Behind);
        let end = Item::Close(CloseReason::Idle { limit: core::time::Duration::from_secs(60) });
        assert_eq!(
            mailbox.push(end),
            Pushed::Wake,
            "a task whose peer does not read sleeps, though items wait"
        );
        assert_eq!(mailbox.push(reply(3)), Pushed::Closed);
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
            assert_eq!(left_by(reason.clone()), left, "{reason:?}");
        }
    }
}
