//! The followed channels, by position where the server tells positions, by content where it speaks version 1.

use alloc::vec::Vec;

use super::by_content::Subscriptions;
use super::streams::Streams;
use super::{Action, JoinFrom, OwnMailbox, Version};
use crate::name::{ChannelName, SessionPath};
use crate::protocol::Token;
use crate::record::ChannelId;
use crate::time::{Monotonic, Now};

/// The followed channels of a link, kept across connections.
#[derive(Clone, Debug)]
pub(super) enum Channels {
    /// Version 1.
    ByContent(Subscriptions),
    /// Version 2.
    ByPosition(Streams),
}

impl Channels {
    pub(super) fn new(version: Version, seed: &[u8; 32]) -> Self {
        match version {
            Version::V1 => Self::ByContent(Subscriptions::new(seed)),
            Version::V2 => Self::ByPosition(Streams::default()),
        }
    }

    /// Goes on in the version of a new connection. Back from version 2 it goes before anything was joined only: a link
    /// that has spoken it does not speak version 1 any more.
    pub(super) fn speak(&mut self, version: Version, seed: &[u8; 32], now: Now) {
        match (&mut *self, version) {
            (Self::ByPosition(streams), Version::V1) => {
                let mut next = Subscriptions::new(seed);
                streams.take().for_each(|(name, token, from)| next.join(name, token, from, now));
                *self = Self::ByContent(next);
            }
            (Self::ByContent(subscriptions), Version::V2) => {
                let (mut next, mut actions) = (Streams::default(), Vec::new());
                for (name, token, from) in subscriptions.take() {
                    next.join(name, token, from, now.mono, &mut actions);
                }
                debug_assert!(actions.is_empty(), "nothing is joined yet");
                *self = Self::ByPosition(next);
            }
            _ => {}
        }
    }

    pub(super) fn names(&self) -> Vec<&ChannelName> {
        match self {
            Self::ByContent(subscriptions) => subscriptions.names().collect(),
            Self::ByPosition(streams) => streams.names().collect(),
        }
    }

    pub(super) fn has_joined(&self, name: &ChannelName) -> bool {
        match self {
            Self::ByContent(subscriptions) => subscriptions.has_joined(name),
            Self::ByPosition(streams) => streams.has_joined(name),
        }
    }

    pub(super) fn join(
        &mut self,
        name: ChannelName,
        token: Option<Token>,
        from: JoinFrom,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        match self {
            Self::ByContent(subscriptions) => subscriptions.join(name, token, from, now),
            Self::ByPosition(streams) => streams.join(name, token, from, now.mono, actions),
        }
    }

    pub(super) fn open(&mut self, mailbox: OwnMailbox, after: Option<(ChannelId, u64)>, now: Monotonic) {
        match self {
            // There are none.
            Self::ByContent(_) => {}
            Self::ByPosition(streams) => streams.open(mailbox, after, now),
        }
    }

    /// The connection is gone.
    pub(super) fn dropped(&mut self, now: Now) {
        match self {
            Self::ByContent(subscriptions) => subscriptions.dropped(now),
            Self::ByPosition(streams) => streams.dropped(),
        }
    }

    /// We have another path from now on.
    pub(super) fn renamed(&mut self, from: &SessionPath) {
        match self {
            Self::ByContent(subscriptions) => subscriptions.renamed(from),
            Self::ByPosition(streams) => streams.renamed(from),
        }
    }

    /// The link has ended.
    pub(super) fn clear(&mut self) {
        match self {
            Self::ByContent(subscriptions) => subscriptions.clear(),
            Self::ByPosition(streams) => streams.clear(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Monotonic> {
        match self {
            Self::ByContent(subscriptions) => subscriptions.deadline(),
            Self::ByPosition(streams) => streams.deadline(),
        }
    }

    /// Queues what is due.
    pub(super) fn tick(&mut self, now: Monotonic) {
        match self {
            Self::ByContent(subscriptions) => subscriptions.tick(now),
            Self::ByPosition(streams) => streams.tick(now),
        }
    }
}
