//! What connections hold in memory for their users: messages that have not come to their end, answers that are not
//! read.
//!
//! It is bounded for each user and in all. A user may hold no more than is free: so the memory of all is never used up
//! by some, however many they are, and whoever holds little still has room.
//!
//! What many share, as the deliveries of a channel, counts for nobody. Counting takes no lock, and connections count in
//! steps, so that most messages cost nothing here.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

/// A connection's own count goes up and down by so many bytes; less than that is not counted.
pub const STEP: usize = 16 << 10;

/// What a server's connections hold.
#[derive(Debug)]
pub struct Memory {
    most_of_user: usize,
    most: usize,
    held: AtomicUsize,
}

impl Memory {
    /// Nothing is held yet. A user holds at most `most_of_user` bytes, all together `most`.
    pub fn new(most_of_user: usize, most: usize) -> Arc<Self> {
        Arc::new(Self { most_of_user, most, held: AtomicUsize::new(0) })
    }

    /// The bytes that are held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// An account for a user who has none.
    pub fn account(self: &Arc<Self>) -> Arc<Account> {
        Arc::new(Account { memory: self.clone(), held: AtomicUsize::new(0) })
    }
}

/// What a user's connections hold.
#[derive(Debug)]
pub struct Account {
    memory: Arc<Memory>,
    held: AtomicUsize,
}

impl Account {
    /// Takes `bytes`, if the user may hold them; the first always may, so that one large answer fits.
    pub fn take(&self, bytes: usize) -> bool {
        let own = self.held.fetch_add(bytes, Ordering::Relaxed);
        let all = self.memory.held.fetch_add(bytes, Ordering::Relaxed);
        let most = self.memory.most_of_user.min(self.memory.most.saturating_sub(all));
        let fits = own == 0 && all <= self.memory.most || own.saturating_add(bytes) <= most;
        if !fits {
            self.give(bytes);
        }
        fits
    }

    /// Takes bytes that are there already.
    pub fn charge(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        self.memory.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives back what was taken.
    pub fn give(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.memory.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The bytes that the user's connections hold.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

/// What one connection holds beyond its mailbox, counted in steps.
#[derive(Debug, Default)]
pub struct Holding {
    account: Option<Arc<Account>>,
    inbound: usize,
    outbound: usize,
}

impl Holding {
    /// The connection is a session of a user: what it holds counts from now on.
    pub fn count_for(&mut self, account: Option<Arc<Account>>) {
        self.clear();
        self.account = account;
    }

    /// So many bytes of unfinished messages are held; false if the user may not hold them.
    pub fn inbound(&mut self, bytes: usize) -> bool {
        let bytes = bytes / STEP * STEP;
        let Some(account) = self.account.as_ref().filter(|_| bytes != self.inbound) else { return true };
        if bytes > self.inbound && !account.take(bytes - self.inbound) {
            return false;
        }
        account.give(self.inbound.saturating_sub(bytes));
        self.inbound = bytes;
        true
    }

    /// So many bytes wait to be written.
    pub fn outbound(&mut self, bytes: usize) {
        let bytes = bytes / STEP * STEP;
        let Some(account) = self.account.as_ref().filter(|_| bytes != self.outbound) else { return };
        account.charge(bytes.saturating_sub(self.outbound));
        account.give(self.outbound.saturating_sub(bytes));
        self.outbound = bytes;
    }

    fn clear(&mut self) {
        if let Some(account) = &self.account {
            account.give(self.inbound + self.outbound);
        }
        (self.inbound, self.outbound) = (0, 0);
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn what_is_held_is_given_back() {
        let memory = Memory::new(100_000, 1_000_000);
        let account = memory.account();
        let mut holding = Holding::default();
        assert!(holding.inbound(STEP - 1), "nobody's");
        holding.count_for(Some(account.clone()));
        assert!(holding.inbound(STEP - 1));
        assert_eq!(account.held(), 0, "too little to be counted");
        assert!(holding.inbound(3 * STEP + 5));
        holding.outbound(2 * STEP);
        assert_eq!((account.held(), memory.held()), (5 * STEP, 5 * STEP));
        assert!(!holding.inbound(9 * STEP), "more than the user may");
        assert_eq!(account.held(), 5 * STEP);
        holding.outbound(0);
        assert!(holding.inbound(STEP));
        assert_eq!(account.held(), STEP);
        drop(holding);
        assert_eq!((account.held(), memory.held()), (0, 0));
    }

    proptest! {
        /// However many users take as much as they can get: nobody has more than a user may, all together have no more
        /// than there is but for one first step, and who comes later has room as well.
        #[test]
        fn the_greedy_leave_room_for_who_comes_later(
            takes in proptest::collection::vec((0..20usize, 1..4_000usize), 0..2_000),
        ) {
            const USER: usize = 300_000;
            const ALL: usize = 1_000_000;
            let memory = Memory::new(USER, ALL);
            let accounts: Vec<_> = (0..20).map(|_| memory.account()).collect();
            for (who, bytes) in takes {
                accounts[who].take(bytes);
                prop_assert!(accounts[who].held() <= USER);
                prop_assert!(memory.held() <= ALL + 4_000);
            }
            prop_assert!(memory.account().take(1_000));
        }
    }
}
