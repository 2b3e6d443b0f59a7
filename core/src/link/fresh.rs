//! Bytes that nobody else can guess, made from the link's seed: the core has no generator of its own.

use sha2::{Digest as _, Sha256};

use crate::stream::MessageId;
use crate::time::UnixMillis;

/// A counter under a secret seed. SHA-256 of both is as good as random to whoever does not know the seed.
#[derive(Clone)]
pub(super) struct Fresh {
    seed: [u8; 32],
    counter: u64,
}

impl Fresh {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0 }
    }

    /// 32 bytes that were never returned before.
    pub(super) fn bytes(&mut self) -> [u8; 32] {
        self.counter += 1;
        let mut hash = Sha256::new_with_prefix(b"conclave link\0");
        hash.update(self.seed);
        hash.update(self.counter.to_be_bytes());
        hash.finalize().into()
    }

    pub(super) fn message_id(&mut self, now: UnixMillis) -> MessageId {
        let bytes = self.bytes();
        let mut random = [0; 10];
        random.copy_from_slice(&bytes[..10]);
        MessageId::at(now, random)
    }
}

// Whoever knows the seed knows the nonces.
impl core::fmt::Debug for Fresh {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Fresh(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_twice_and_the_seed_decides_it() {
        let (mut one, mut other) = (Fresh::new([1; 32]), Fresh::new([2; 32]));
        let drawn = [one.bytes(), one.bytes(), other.bytes()];
        assert!(drawn[0] != drawn[1] && drawn[0] != drawn[2]);
        assert_eq!(Fresh::new([1; 32]).bytes(), drawn[0]);
    }
}
