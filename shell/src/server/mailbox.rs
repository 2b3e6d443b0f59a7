//! A connection's mailbox: where the engine leaves what the connection's task picks up.
//!
//! One lock each, held for a push or a swap; none is shared between connections.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use atomic_waker::AtomicWaker;
use conclave_core::engine;
use conclave_core::fanout::Item;
use conclave_core::mailbox::{Pushed, Queue};
use conclave_core::memory::Account;

/// The mailbox of one connection, as the engine and the connection hold it.
#[derive(Clone, Debug)]
pub struct Mailbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    waker: AtomicWaker,
    /// Bytes that the peer has taken.
    taken: AtomicU64,
}

impl Mailbox {
    /// A mailbox that holds at most `most` bytes; one item always fits.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Shared {
            queue: Mutex::new(Queue::new(most)),
            waker: AtomicWaker::new(),
            taken: AtomicU64::new(0),
        }))
    }

    /// Takes all items, as [`Queue::take`] does.
    pub fn take(&self, room: bool, into: &mut Vec<Item>) -> bool {
        self.lock().take(room, into)
    }

    /// The account of the user whose session it is.
    pub fn account(&self) -> Option<Arc<Account>> {
        self.lock().account().cloned()
    }

    /// Notes that the peer has taken so many bytes.
    pub fn taken(&self, bytes: usize) {
        self.0.taken.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The bytes that the peer has taken so far.
    pub fn all_taken(&self) -> u64 {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// Wakes the connection's task.
    pub fn wake(&self) {
        self.0.waker.wake();
    }

    /// Has `waker` woken at the next [`Mailbox::wake`]. To miss nothing, register before [`Mailbox::take`].
    pub fn register(&self, waker: &Waker) {
        self.0.waker.register(waker);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is whole at every step, whoever panicked.
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl engine::Mailbox for Mailbox {
    fn push(&self, item: Item) -> Pushed {
        self.lock().push(item)
    }

    fn count_for(&self, account: Arc<Account>) {
        self.lock().count_for(account);
    }
}
