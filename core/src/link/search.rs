//! Where in a stream a time lies: a binary search by pages of one message, since stamps never go back in a stream.

use super::streams::Violation;
use crate::record::ChannelId;
use crate::time::UnixMillis;

/// A search for the last message that is not newer than a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Search {
    number: ChannelId,
    since: UnixMillis,
    /// What is wanted is here or behind.
    low: u64,
    /// It is not behind here.
    high: u64,
}

/// What an answer tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It lies in between.
    Between(Search),
    /// Everything newer than the time is behind this sequence number, and what is kept behind it is newer.
    After(u64),
}

impl Search {
    /// In a stream whose last message is `last`, which is not 0.
    pub(super) fn new(number: ChannelId, since: UnixMillis, last: u64) -> Self {
        Self { number, since, low: 0, high: last }
    }

    pub(super) fn number(self) -> ChannelId {
        self.number
    }

    /// The stream to read one message of, and behind which sequence number.
    pub(super) fn probe(self) -> (ChannelId, u64) {
        (self.number, self.middle())
    }

    fn middle(self) -> u64 {
        self.low + (self.high - self.low) / 2
    }

    /// The first message behind the place asked for, if there is one.
    pub(super) fn probed(self, first: Option<(u64, UnixMillis)>) -> Result<Found, Violation> {
        let middle = self.middle();
        let next = match first {
            Some((seq, _)) if seq <= middle => return Err(Violation("a page out of its order")),
            // Messages up to `seq` are not newer.
            Some((seq, ts)) if ts <= self.since => Self { low: seq.min(self.high), ..self },
            // Behind the middle there is nothing that is kept and not newer.
            Some(_) | None => Self { high: middle, ..self },
        };
        Ok(if next.low >= next.high { Found::After(next.low) } else { Found::Between(next) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_search_ends_right_before_the_first_newer_message(
            gaps in proptest::collection::vec((1u64..4, 0i64..3), 0..200),
            since in 0i64..400,
            more in 1u64..5,
        ) {
            let (mut seq, mut ts) = (0, 0);
            let mut kept = alloc::vec::Vec::new();
            for (step, later) in gaps {
                (seq, ts) = (seq + step, ts + later);
                kept.push((seq, UnixMillis(ts)));
            }
            let last = seq + more;
            let mut search = Search::new(ChannelId(3), UnixMillis(since), last);
            let mut asked = 0;
            let after = loop {
                asked += 1;
                prop_assert!(asked <= 64);
                let (_, after) = search.probe();
                let first = kept.iter().find(|(seq, _)| *seq > after).copied();
                match search.probed(first).unwrap() {
                    Found::Between(next) => search = next,
                    Found::After(seq) => break seq,
                }
            };
            let wanted = kept.iter().filter(|(_, ts)| ts.0 > since).count();
            let behind = kept.iter().filter(|(seq, _)| *seq > after).count();
            prop_assert_eq!(behind, wanted);
        }
    }

    #[test]
    fn a_page_before_the_place_asked_for_is_a_violation() {
        let search = Search::new(ChannelId(0), UnixMillis(5), 8);
        assert!(search.probed(Some((4, UnixMillis(1)))).is_err());
    }
}
