//! Finding the end of a history that can only be read forwards.
//!
//! A channel joined to be followed from now on needs a cursor, or its first drop leaves a gap. Any message's
//! stamp serves; the newest costs least. The local clock cannot tell it (no clock agrees with the server's), so
//! it only makes the first guess: reads double back from it until one finds something, and bisect towards
//! the end. A read from the stamp of a real message that finds nothing proves that this message is the last; one
//! from before all time proves that there is none. Last, what is newer than [`RECENT`] is read as a whole: it may still
//! be on its way to be delivered.

/// Stamps closer than this are paged through instead of bisected, in milliseconds.
const CLOSE: i64 = 16;
const MINUTE: i64 = 60_000;
/// What the server stamped so much earlier than its newest message is not delivered any more, in milliseconds.
pub(super) const RECENT: i64 = 2000;

/// The search under way.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    next: i64,
    /// The newest message known.
    found: Option<i64>,
    /// Nothing was newer than this when it was asked.
    empty_above: Option<i64>,
    /// The history once ended before this.
    ended: Option<i64>,
    /// All messages from here to the newest known were read in a row.
    row_since: Option<i64>,
    /// The end is near: page by page from here on.
    closing: bool,
    back: i64,
    forward: i64,
    pages: u32,
}

impl Probe {
    pub(super) fn new(wall: i64) -> Self {
        Self {
            next: wall.saturating_sub(10 * MINUTE),
            found: None,
            empty_above: None,
            ended: None,
            row_since: None,
            closing: false,
            back: 24 * 60 * MINUTE,
            forward: 10 * MINUTE,
            pages: 0,
        }
    }

    /// From where to read next.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// How many pages were found: a channel that is never quiet for the time of a round trip has no end to find.
    pub(super) fn pages(&self) -> u32 {
        self.pages
    }

    /// Whether the newest message known was posted after the search began.
    pub(super) fn passed_the_end(&self) -> bool {
        self.found.is_some_and(|found| self.ended.is_some_and(|ended| found > ended))
    }

    /// Nothing was found after `since`. True if that is the end.
    pub(super) fn nothing(&mut self, since: i64) -> bool {
        if self.found.is_none() && since == i64::MIN {
            return true;
        }
        if let Some(found) = self.found.filter(|&found| found == since) {
            let recent = found.saturating_sub(RECENT);
            let end = self.row_since.is_some_and(|row| row <= recent);
            if !end {
                self.closing = true;
                self.next = recent;
            }
            return end;
        }
        self.ended = Some(self.ended.map_or(since, |ended| ended.min(since)));
        self.empty_above = Some(since);
        match self.found {
            Some(found) => self.next = between(found, since),
            None if self.back > 0 => {
                self.next = since.saturating_sub(self.back);
                self.back = 0;
            }
            None => self.next = i64::MIN,
        }
        false
    }

    /// A page was found after `since`, the last of it stamped `last`.
    pub(super) fn something(&mut self, since: i64, last: i64) {
        if self.found != Some(since) || self.row_since.is_none() {
            self.row_since = Some(since);
        }
        self.found = Some(last);
        self.empty_above = self.empty_above.filter(|&empty| empty > last);
        self.pages = self.pages.saturating_add(1);
        // Every other read asks whether this was the end.
        if self.closing || self.pages % 2 == 1 {
            self.next = last;
            return;
        }
        self.next = match self.empty_above {
            Some(empty) => between(last, empty),
            None => {
                let next = last.saturating_add(self.forward);
                self.forward = self.forward.saturating_mul(8);
                next
            }
        };
    }
}

fn between(found: i64, empty: i64) -> i64 {
    let apart = empty.saturating_sub(found);
    if apart <= CLOSE { found } else { found.saturating_add(apart / 2) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn search(stamps: &[i64], page: usize, wall: i64) -> (Option<i64>, usize) {
        let mut probe = Probe::new(wall);
        for reads in 1..1000 {
            let since = probe.next();
            let found: Vec<_> = stamps.iter().copied().filter(|&ts| ts > since).take(page).collect();
            match found.last() {
                Some(&last) => probe.something(since, last),
                None if probe.nothing(since) => return (probe.found, reads),
                None => {}
            }
        }
        panic!("no end found");
    }

    #[test]
    fn a_quiet_channel_takes_four_reads_at_most() {
        let now = 1_700_000_000_000;
        for age in [1000, 3_600_000, 100_000_000] {
            let (found, reads) = search(&[now - age - 5, now - age], 500, now);
            assert_eq!(found, Some(now - age));
            assert!(reads <= 4, "{reads} reads for {age}");
        }
        assert_eq!(search(&[], 500, now), (None, 3));
    }

    #[test]
    fn a_week_of_messages_is_not_read_through() {
        let now = 1_700_000_000_000i64;
        let stamps: Vec<_> = (0..200_000).map(|n| now - (200_000 - n) * 3000).collect();
        for skew in [0, -1_000_000_000, 1_000_000_000, -now, 8_000_000_000_000] {
            let (found, reads) = search(&stamps, 500, now + skew);
            assert_eq!(found, Some(now - 3000));
            assert!(reads < 60, "{reads} reads at a skew of {skew}");
        }
    }

    proptest! {
        #[test]
        fn the_last_message_is_found_whatever_the_clocks_say(
            mut stamps in proptest::collection::btree_set(any::<i64>(), 0..20),
            near in proptest::collection::btree_set(0i64..1000, 0..60),
            page in 1usize..5,
            wall in prop_oneof![any::<i64>(), 0i64..2000],
        ) {
            stamps.extend(near);
            stamps.remove(&i64::MIN);
            let stamps: Vec<_> = stamps.into_iter().collect();
            prop_assert_eq!(search(&stamps, page, wall).0, stamps.last().copied());
        }
    }
}
