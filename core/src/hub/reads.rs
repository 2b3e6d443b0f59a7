//! Reading from the store in turns: whoever has many sessions read waits behind the others, who have fewer.
//!
//! Few reads are at the store at once; the rest wait here, by user, and the users take turns.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use super::{Action, ConnId, Hub, Read};
use crate::record::UserId;

/// Reads that wait, and how many are at the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Reads {
    at_store: usize,
    users: BTreeMap<UserId, VecDeque<Read>>,
    /// Whose turn it is.
    turn: UserId,
}

impl Reads {
    fn next(&mut self) -> Option<Read> {
        let user = self.users.range(self.turn..).next().or_else(|| self.users.iter().next());
        let user = *user?.0;
        let queue = self.users.get_mut(&user)?;
        let read = queue.pop_front();
        if queue.is_empty() {
            self.users.remove(&user);
        }
        self.turn = UserId(user.0 + 1);
        read
    }

    /// A session has ended: nothing is read for it any more.
    pub(super) fn forget(&mut self, user: UserId, conn: ConnId) {
        if let Some(queue) = self.users.get_mut(&user) {
            queue.retain(|read| read.conn != conn);
            if queue.is_empty() {
                self.users.remove(&user);
            }
        }
    }
}

impl Hub {
    /// Has a page read when it is its user's turn.
    pub(super) fn queue_read(&mut self, user: UserId, read: Read, actions: &mut Vec<Action>) {
        self.reads.users.entry(user).or_default().push_back(read);
        self.send_reads(actions);
    }

    /// The store has answered a read.
    pub(super) fn read_answered(&mut self, actions: &mut Vec<Action>) {
        self.reads.at_store = self.reads.at_store.saturating_sub(1);
        self.send_reads(actions);
    }

    fn send_reads(&mut self, actions: &mut Vec<Action>) {
        while self.reads.at_store < self.config.limits.reads_at_once
            && let Some(read) = self.reads.next()
        {
            self.reads.at_store += 1;
            actions.push(Action::ReadHistory(read));
        }
    }
}
