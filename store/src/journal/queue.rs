//! A queue between threads that wakes its reader at once, and of which nothing is lost when it closes: what
//! was accepted is taken, the rest is given back.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { items: VecDeque::new(), closed: false }), changed: Condvar::new() }
    }

    /// Appends `item`; gives it back once the queue is closed.
    pub(super) fn push(&self, item: T) -> Result<(), T> {
        let mut state = self.lock();
        if state.closed {
            return Err(item);
        }
        state.items.push_back(item);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for an item. `None` once the queue is closed and empty.
    pub(super) fn pop(&self) -> Option<T> {
        let mut state = self.wait();
        state.items.pop_front()
    }

    /// Takes all items into `out`, which must be empty; if `wait`, at least one. False once the queue is
    /// closed and empty.
    pub(super) fn take(&self, out: &mut VecDeque<T>, wait: bool) -> bool {
        let mut state = if wait { self.wait() } else { self.lock() };
        mem::swap(&mut state.items, out);
        !(state.closed && out.is_empty())
    }

    /// Ends the queue: what is in it will still be taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn wait(&self) -> MutexGuard<'_, State<T>> {
        let mut state = self.lock();
        while state.items.is_empty() && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while it holds the lock, and the state is whole at every step anyway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
