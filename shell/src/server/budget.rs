//! How many lines one user may put into the log: whoever repeats an operation must not fill the disk with it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use conclave_core::name::UserName;

/// Lines that a user has at once.
const BURST: u32 = 60;
/// How long it takes until a user has another line.
const REFILL: Duration = Duration::from_secs(1);
/// How long operations are only counted before the count is logged.
const COUNTED_FOR: Duration = Duration::from_secs(60);
/// Users that are remembered; beyond them, those who have all their lines again are forgotten.
const USERS: usize = 1024;

/// What each user has left.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    users: BTreeMap<UserName, Left>,
    /// When the oldest count is to be logged.
    next: Option<Instant>,
}

#[derive(Debug)]
struct Left {
    lines: u32,
    since: Instant,
    /// What was not logged, and since when.
    counted: Option<(Instant, BTreeMap<&'static str, u64>)>,
}

/// What a user did without a line for each.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) by: UserName,
    /// As in `kick: 12, unban: 3`.
    pub(crate) operations: String,
}

impl Budget {
    /// Whether `operation` gets a line of its own; otherwise it is counted.
    pub(crate) fn take(&mut self, now: Instant, by: &UserName, operation: &'static str) -> bool {
        if self.users.len() >= USERS && !self.users.contains_key(by) {
            self.users.retain(|_, left| left.counted.is_some() || left.refilled(now) < BURST);
        }
        let left = self.users.entry(by.clone()).or_insert(Left { lines: BURST, since: now, counted: None });
        let lines = left.refilled(now);
        if lines > left.lines {
            (left.lines, left.since) = (lines, now);
        }
        if left.lines > 0 {
            left.lines -= 1;
            return true;
        }
        self.next.get_or_insert(now + COUNTED_FOR);
        let (_, counted) = left.counted.get_or_insert_with(|| (now, BTreeMap::new()));
        *counted.entry(operation).or_default() += 1;
        false
    }

    /// Whether anything is counted.
    pub(crate) fn is_counting(&self) -> bool {
        self.next.is_some()
    }

    /// What has been counted long enough.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Counted> {
        if self.next.is_none_or(|next| now < next) {
            return Vec::new();
        }
        let due = |left: &Left| left.counted.as_ref().is_some_and(|(since, _)| now >= *since + COUNTED_FOR);
        let mut all = Vec::new();
        for (by, left) in self.users.iter_mut().filter(|(_, left)| due(left)) {
            all.extend(left.tell(by));
        }
        let since = self.users.values().filter_map(|left| Some(left.counted.as_ref()?.0)).min();
        self.next = since.map(|since| since + COUNTED_FOR);
        all
    }

    /// What has been counted of a user, who has gone.
    pub(crate) fn end(&mut self, by: &UserName) -> Option<Counted> {
        self.users.get_mut(by)?.tell(by)
    }
}

impl Left {
    fn refilled(&self, now: Instant) -> u32 {
        let more = now.saturating_duration_since(self.since).as_secs() / REFILL.as_secs();
        self.lines.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)).min(BURST)
    }

    fn tell(&mut self, by: &UserName) -> Option<Counted> {
        let (_, counted) = self.counted.take()?;
        let operations: Vec<_> = counted.iter().map(|(kind, count)| format!("{kind}: {count}")).collect();
        Some(Counted { by: by.clone(), operations: operations.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_who_repeats_an_operation_has_few_lines_and_a_count_and_nobody_else_has_fewer() {
        let (start, mut budget) = (Instant::now(), Budget::default());
        let (ann, bob) = (UserName::new("ann").unwrap(), UserName::new("bob").unwrap());
        let lines = (0..1000).filter(|_| budget.take(start, &ann, "kick")).count();
        assert_eq!(lines, BURST as usize);
        assert!(budget.take(start, &bob, "kick"));
        assert_eq!(budget.due(start), []);
        let later = start + COUNTED_FOR;
        let counted = Counted { by: ann.clone(), operations: format!("kick: {}", 1000 - BURST) };
        assert_eq!(budget.due(later), [counted]);
        assert_eq!(budget.due(later), []);
        // Time brings lines back, but no more than there were.
        assert_eq!((0..1000).filter(|_| budget.take(later, &ann, "ban")).count(), BURST as usize);
        assert_eq!(budget.end(&ann).unwrap().operations, format!("ban: {}", 1000 - BURST));
        assert_eq!(budget.end(&bob), None);
    }

    #[test]
    fn users_who_have_all_their_lines_are_forgotten() {
        let (start, mut budget) = (Instant::now(), Budget::default());
        for nth in 0..5 * USERS {
            let now = start + REFILL * nth as u32;
            budget.take(now, &UserName::new(&format!("u{nth}")).unwrap(), "kick");
        }
        assert!(budget.users.len() <= USERS + 1);
    }
}
