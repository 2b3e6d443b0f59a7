//! Reading from the store in turns: whoever has many sessions read waits behind the others, who have fewer.
//!
//! Few reads are at the store at once; the rest wait here, by user, and the users take turns.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use super::{Action, AuditRead, ConnId, Hub, Read};
use crate::record::UserId;

/// Reads that wait, and how many are at the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Reads {
    at_store: usize,
    users: BTreeMap<UserId, VecDeque<Wanted>>,
    /// Whose turn it is.
    turn: UserId,
}

/// Something that is to be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Wanted {
    History(Read),
    Audit(AuditRead),
}

impl Wanted {
    fn conn(&self) -> ConnId {
        match self {
            Self::History(read) => read.conn,
            Self::Audit(read) => read.conn,
        }
    }
}

impl Reads {
    fn next(&mut self) -> Option<Wanted> {
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
            queue.retain(|wanted| wanted.conn() != conn);
            if queue.is_empty() {
                self.users.remove(&user);
            }
        }
    }
}

impl Hub {
    /// Has a page read when it is its user's turn.
    pub(super) fn queue_read(&mut self, user: UserId, read: Read, actions: &mut Vec<Action>) {
        self.reads.users.entry(user).or_default().push_back(Wanted::History(read));
        self.send_reads(actions);
    }

    /// Has a page of the audit trail read when it is its user's turn.
    pub(super) fn queue_audit(&mut self, user: UserId, read: AuditRead, actions: &mut Vec<Action>) {
        self.reads.users.entry(user).or_default().push_back(Wanted::Audit(read));
        self.send_reads(actions);
    }

    /// The store has answered a read.
    pub(super) fn read_answered(&mut self, actions: &mut Vec<Action>) {
        self.reads.at_store = self.reads.at_store.saturating_sub(1);
        self.send_reads(actions);
    }

    fn send_reads(&mut self, actions: &mut Vec<Action>) {
        while self.reads.at_store < self.config.limits.reads_at_once
            && let Some(wanted) = self.reads.next()
        {
            self.reads.at_store += 1;
            actions.push(match wanted {
                Wanted::History(read) => Action::ReadHistory(read),
                Wanted::Audit(read) => Action::ReadAudit(read),
            });
        }
    }
}
