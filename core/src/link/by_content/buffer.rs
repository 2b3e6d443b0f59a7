//! Deliveries that wait for the history, and the hashes that tell messages apart.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::hash::{Hash as _, Hasher as _};

use super::Message;
use crate::name::SessionPath;
use crate::payload::Payload;

const MAX_MESSAGES: usize = 1024;
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The newest deliveries in a row, bounded: when it overflows it starts anew, for the history has them all.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffer {
    messages: VecDeque<(u64, Message)>,
    bytes: usize,
}

impl Buffer {
    pub(super) fn push(&mut self, hash: u64, message: Message) {
        let bytes = message.payload.size();
        if self.messages.len() >= MAX_MESSAGES || self.bytes.saturating_add(bytes) > MAX_BYTES {
            self.clear();
        }
        self.bytes += bytes;
        self.messages.push_back((hash, message));
    }

    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.bytes = 0;
    }

    /// The newest `count`, oldest first, if there are so many; the others are dropped.
    pub(super) fn take_last(&mut self, count: usize) -> Option<VecDeque<(u64, Message)>> {
        let at = self.messages.len().checked_sub(count)?;
        let last = self.messages.split_off(at);
        self.clear();
        Some(last)
    }

    pub(super) fn take_all(&mut self) -> Vec<(u64, Message)> {
        self.bytes = 0;
        core::mem::take(&mut self.messages).into()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The secret of a link's hashes: whoever could make two messages collide could hide one behind the other.
#[derive(Clone)]
pub(super) struct HashKey(u64, u64);

impl HashKey {
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        let half = |from: usize| {
            seed.iter().skip(from).take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
        };
        Self(half(16), half(24))
    }

    #[allow(
        deprecated,
        reason = "the only keyed hash that `core` has; not for tables, so its speed is no matter"
    )]
    pub(super) fn hash(&self, from: &SessionPath, payload: &Payload) -> u64 {
        let mut hasher = core::hash::SipHasher::new_with_keys(self.0, self.1);
        from.hash(&mut hasher);
        payload.hash(&mut hasher);
        hasher.finish()
    }
}

impl core::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HashKey(…)")
    }
}
