//! How long to wait before the next try.

use core::time::Duration;

/// The pseudo-random numbers of jitter: deterministic, so that a run can be repeated from its seed. Not
/// cryptographic: nothing secret may depend on them.
#[derive(Clone, Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        let mut state = Self(0);
        for eight in seed.chunks_exact(8) {
            let number = eight.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
            state.0 = state.next() ^ number;
        }
        state
    }

    /// SplitMix64.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Something between half of `most` and all of it.
    pub(super) fn spread(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        let half = most / 2;
        Duration::from_millis(most - half + self.next() % (half + 1))
    }
}

/// Waits that double from the first to the longest, each spread by jitter.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    tries: u32,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, tries: 0 }
    }

    pub(super) fn next(&mut self, jitter: &mut Jitter) -> Duration {
        let factor = 1u32.checked_shl(self.tries).unwrap_or(u32::MAX);
        self.tries = (self.tries + 1).min(32);
        jitter.spread(self.first.saturating_mul(factor).min(self.longest))
    }

    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_the_first_to_the_longest_and_are_spread() {
        let mut jitter = Jitter::new(&[3; 32]);
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        for step in 0..100u32 {
            let most = (200u64 << step.min(20)).min(30_000);
            let wait = backoff.next(&mut jitter).as_millis() as u64;
            assert!(wait >= most / 2 && wait <= most, "{step}: {wait} of {most}");
        }
        backoff.reset();
        assert!(backoff.next(&mut jitter) <= Duration::from_millis(200));
    }

    #[test]
    fn the_seed_alone_decides_the_jitter() {
        let draw = |seed| {
            let mut jitter = Jitter::new(&[seed; 32]);
            [jitter.next(), jitter.next()]
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
