//! Who joins and leaves a channel, for those who watch it.
//!
//! Changes gather for a tenth of a second and are told once to each who watches, all from one piece of memory. A channel
//! that nobody watches costs nothing.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Action, ConnId, Hub};
use crate::name::SessionPath;
use crate::record::ChannelId;
use crate::stream::{Comings, Notice};
use crate::time::{Monotonic, Now};

/// How often those who watch are told at most.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// Changes that are named in one notice; of more, only that there were many.
const MANY: usize = 256;

/// The channels that are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct WatchedChannels {
    channels: BTreeMap<ChannelId, Watched>,
    /// No earlier is anybody told.
    next: Monotonic,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Watched {
    watchers: BTreeSet<ConnId>,
    /// Whose subscription began or ended since it was told last: whether it is there now.
    changed: BTreeMap<Arc<SessionPath>, bool>,
    many: bool,
}

impl Watched {
    fn note(&mut self, path: Arc<SessionPath>, joined: bool) {
        if self.many {
            return;
        }
        // Who has come and gone in between is as before.
        if self.changed.remove(&path).is_none() {
            self.changed.insert(path, joined);
        }
        if self.changed.len() > MANY {
            self.many = true;
            self.changed.clear();
        }
    }

    fn take(&mut self) -> Option<Comings> {
        let (joined, left): (Vec<_>, Vec<_>) =
            core::mem::take(&mut self.changed).into_iter().partition(|(_, joined)| *joined);
        let many = core::mem::take(&mut self.many);
        let paths = |list: Vec<(Arc<SessionPath>, bool)>| list.into_iter().map(|(path, _)| path).collect();
        let comings = Comings { joined: paths(joined), left: paths(left), many };
        (comings != Comings::default()).then_some(comings)
    }
}

impl WatchedChannels {
    pub(super) fn unwatch(&mut self, conn: ConnId, channel: ChannelId) {
        if let Some(watched) = self.channels.get_mut(&channel) {
            watched.watchers.remove(&conn);
            if watched.watchers.is_empty() {
                self.channels.remove(&channel);
            }
        }
    }

    /// The channels, and who watches them.
    pub(super) fn watchers(&self) -> impl Iterator<Item = (ChannelId, ConnId)> {
        let all = self.channels.iter();
        all.flat_map(|(channel, watched)| watched.watchers.iter().map(|conn| (*channel, *conn)))
    }
}

impl Hub {
    pub(super) fn watch_comings(&mut self, conn: ConnId, channel: ChannelId, on: bool) {
        if on {
            self.watched.channels.entry(channel).or_default().watchers.insert(conn);
        } else {
            self.watched.unwatch(conn, channel);
        }
    }

    /// A session's subscription to a channel began or ended.
    pub(super) fn note_coming(&mut self, channel: ChannelId, path: &Arc<SessionPath>, joined: bool) {
        if let Some(watched) = self.watched.channels.get_mut(&channel) {
            watched.note(path.clone(), joined);
            self.receipts.tell_by(self.watched.next);
        }
    }

    pub(super) fn tell_comings(&mut self, now: Now, actions: &mut Vec<Action>) {
        for (stream, watched) in &mut self.watched.channels {
            let Some(comings) = watched.take().map(Arc::new) else { continue };
            self.watched.next = now.mono + TELL_EVERY;
            for conn in &watched.watchers {
                let notice = Notice::PresenceChanged { stream: *stream, comings: comings.clone() };
                actions.push(Action::Notify { conn: *conn, notice });
            }
        }
    }
}
