//! Who is delivered what is posted to a channel.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::ConnId;
use crate::handshake::Format;

/// The connections that receive posts as they are made, by the format of their deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Audience {
    lists: [Vec<ConnId>; Format::ALL.len()],
}

impl Audience {
    /// The connections of one format, in order.
    pub fn of(&self, format: Format) -> &[ConnId] {
        &self.lists[format as usize]
    }

    /// All connections, format by format.
    pub fn iter(&self) -> impl Iterator<Item = ConnId> {
        self.lists.iter().flatten().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lists.iter().map(Vec::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lists.iter().all(Vec::is_empty)
    }

    /// Whether a connection is among them.
    pub fn contains(&self, conn: ConnId) -> bool {
        self.lists.iter().any(|list| list.binary_search(&conn).is_ok())
    }

    /// Adds a connection.
    pub fn insert(&mut self, format: Format, conn: ConnId) {
        let list = &mut self.lists[format as usize];
        if let Err(at) = list.binary_search(&conn) {
            list.insert(at, conn);
        }
    }

    fn remove(&mut self, conn: ConnId) {
        for list in &mut self.lists {
            if let Ok(at) = list.binary_search(&conn) {
                list.remove(at);
            }
        }
    }
}

/// All subscribers of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Subscribers {
    /// Those who receive posts as they are made. Shared with the deliveries under way.
    pub(super) live: Arc<Audience>,
    /// Those who still read the store.
    pub(super) behind: BTreeSet<ConnId>,
}

impl Subscribers {
    pub(super) fn go_live(&mut self, format: Format, conn: ConnId) {
        self.behind.remove(&conn);
        Arc::make_mut(&mut self.live).insert(format, conn);
    }

    pub(super) fn fall_behind(&mut self, conn: ConnId) {
        self.remove(conn);
        self.behind.insert(conn);
    }

    pub(super) fn remove(&mut self, conn: ConnId) {
        self.behind.remove(&conn);
        if self.live.contains(conn) {
            Arc::make_mut(&mut self.live).remove(conn);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty() && self.behind.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.live.len() + self.behind.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ConnId> {
        self.live.iter().chain(self.behind.iter().copied())
    }
}
