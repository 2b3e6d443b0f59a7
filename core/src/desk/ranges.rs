//! A set of sequence numbers, kept as ranges.

use alloc::collections::BTreeMap;

/// Ranges that are kept. Beyond that, the highest one is forgotten.
const MAX_RANGES: usize = 4096;

/// Disjoint ranges that do not touch: the first number of each, and its last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds all numbers from `from` to `to`.
    pub(super) fn add(&mut self, from: u64, to: u64) {
        if from > to {
            return;
        }
        let (mut low, mut high) = (from, to);
        while let Some((&start, &end)) = self.0.range(..=high.saturating_add(1)).next_back() {
            if end.saturating_add(1) < low {
                break;
            }
            low = low.min(start);
            high = high.max(end);
            self.0.remove(&start);
        }
        self.0.insert(low, high);
        if self.0.len() > MAX_RANGES {
            self.0.pop_last();
        }
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, end)| number <= *end)
    }

    /// The last number of the unbroken run that begins right behind `after`; `after` itself if there is none.
    pub(super) fn run_after(&self, after: u64) -> u64 {
        let next = after.saturating_add(1);
        self.0.range(..=next).next_back().map_or(after, |(_, end)| (*end).max(after))
    }

    /// The first range of numbers from `from` to `to` that are not in the set.
    pub(super) fn first_gap(&self, from: u64, to: u64) -> Option<(u64, u64)> {
        let start = if self.contains(from) { self.run_after(from) + 1 } else { from };
        let end = self.0.range(start..).next().map_or(to, |(next, _)| to.min(next - 1));
        (start <= to).then_some((start, end))
    }

    /// The first range from `from` on, cut at `to`.
    pub(super) fn next_from(&self, from: u64, to: u64) -> Option<(u64, u64)> {
        let start = if self.contains(from) { from } else { *self.0.range(from..).next()?.0 };
        (start <= to).then(|| (start, self.run_after(start - 1).min(to)))
    }

    /// Forgets all numbers up to `to`.
    pub(super) fn forget(&mut self, to: u64) {
        while let Some((start, end)) = self.0.pop_first() {
            if end > to {
                self.0.insert(start.max(to + 1), end);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_are_the_set_of_their_numbers(
            added in proptest::collection::vec((1u64..40, 0u64..6), 0..12),
            after in 0u64..40,
            to in 1u64..40,
        ) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (from, more) in added {
                ranges.add(from, from + more);
                set.extend(from..=from + more);
            }
            for number in 0..50 {
                prop_assert_eq!(ranges.contains(number), set.contains(&number));
            }
            let run = (after + 1..).take_while(|number| set.contains(number)).last().unwrap_or(after);
            prop_assert_eq!(ranges.run_after(after), run);
            let missing: std::vec::Vec<u64> = (after..=to).filter(|number| !set.contains(number)).collect();
            let gap = missing.first().map(|first| {
                (*first, (*first..=to).take_while(|number| !set.contains(number)).last().unwrap())
            });
            prop_assert_eq!(ranges.first_gap(after, to), gap);
            ranges.forget(to);
            prop_assert!((0..=to).all(|number| !ranges.contains(number)));
            prop_assert!((to + 1..50).all(|number| ranges.contains(number) == set.contains(&number)));
        }
    }
}
