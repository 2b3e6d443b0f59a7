//! What is bounded: rates by token buckets, numbers by caps.

use core::time::Duration;

use crate::time::Monotonic;

/// A rate: so many a second on average, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Tokens that come back in a second; 0 switches the limit off.
    pub per_second: u32,
    /// Tokens of a full bucket.
    pub burst: u32,
}

impl Rate {
    /// No limit.
    pub const OFF: Self = Self { per_second: 0, burst: 0 };

    /// A rate with room for `burst` at once.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second, burst }
    }

    /// Nanoseconds that a token takes to come back.
    fn cost(self) -> u64 {
        1_000_000_000 / u64::from(self.per_second.max(1))
    }
}

/// A token bucket as one number: the time at which it will be full again (the generic cell rate algorithm,
/// ITU-T I.371), in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bucket(u64);

impl Bucket {
    /// Takes `tokens`, or says how long to wait for them. More tokens than a full bucket are given to a full
    /// one, so that a large message waits but is not refused for ever.
    ///
    /// # Errors
    /// The time after which as many tokens are there.
    pub fn take(&mut self, rate: Rate, now: Monotonic, tokens: u32) -> Result<(), Duration> {
        if rate.per_second == 0 {
            return Ok(());
        }
        let now = now.0.saturating_mul(1_000_000);
        let cost = rate.cost();
        let room = cost.saturating_mul(u64::from(rate.burst.max(tokens)));
        let full = self.0.max(now).saturating_add(cost.saturating_mul(u64::from(tokens)));
        match full.checked_sub(now.saturating_add(room)) {
            Some(missing) if missing > 0 => Err(Duration::from_nanos(missing)),
            _ => {
                self.0 = full;
                Ok(())
            }
        }
    }

    /// Takes `tokens` whether they are there or not; who owes some is given none before they have come back.
    pub fn charge(&mut self, rate: Rate, now: Monotonic, tokens: u32) {
        if rate.per_second > 0 {
            let now = now.0.saturating_mul(1_000_000);
            self.0 = self.0.max(now).saturating_add(rate.cost().saturating_mul(u64::from(tokens)));
        }
    }

    /// Whether the bucket is full: it may then be forgotten.
    pub fn is_full(&self, now: Monotonic) -> bool {
        self.0 <= now.0.saturating_mul(1_000_000)
    }
}

/// The rates of a session or of a user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rates {
    /// Posts.
    pub posts: Rate,
    /// Whispers.
    pub whispers: Rate,
    /// Bytes of both.
    pub bytes: Rate,
    /// All other requests but pings.
    pub control: Rate,
    /// Bytes of the answers to them that are more than a word: lists, pages, what a subscription catches up with. They
    /// are known when the answer is, so a request is refused while earlier answers took more than there is.
    pub replies: Rate,
}

impl Rates {
    const OFF: Self = Self {
        posts: Rate::OFF,
        whispers: Rate::OFF,
        bytes: Rate::OFF,
        control: Rate::OFF,
        replies: Rate::OFF,
    };
}

/// The buckets of a session or of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Buckets {
    posts: Bucket,
    whispers: Bucket,
    bytes: Bucket,
    control: Bucket,
    replies: Bucket,
}

/// What a request costs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cost {
    Post(u32),
    Whisper(u32),
    Control,
    /// A request whose answer may be long.
    Question,
}

impl Buckets {
    /// Takes what a request costs. On an error, which tells the longest wait, some of it may be taken: take
    /// from a copy.
    pub(super) fn take(&mut self, rates: &Rates, now: Monotonic, cost: Cost) -> Result<(), Duration> {
        match cost {
            Cost::Post(bytes) => {
                longer_wait(self.posts.take(rates.posts, now, 1), self.bytes.take(rates.bytes, now, bytes))
            }
            Cost::Whisper(bytes) => longer_wait(
                self.whispers.take(rates.whispers, now, 1),
                self.bytes.take(rates.bytes, now, bytes),
            ),
            Cost::Control => self.control.take(rates.control, now, 1),
            Cost::Question => longer_wait(
                self.control.take(rates.control, now, 1),
                self.replies.take(rates.replies, now, 0),
            ),
        }
    }

    /// Takes the bytes of an answer, which has to be given now that it is there.
    pub(super) fn charge(&mut self, rates: &Rates, now: Monotonic, bytes: usize) {
        self.replies.charge(rates.replies, now, u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    pub(super) fn are_full(&self, now: Monotonic) -> bool {
        [self.posts, self.whispers, self.bytes, self.control, self.replies]
            .iter()
            .all(|bucket| bucket.is_full(now))
    }
}

/// Granted if both are, or the longer wait.
pub(super) fn longer_wait(one: Result<(), Duration>, other: Result<(), Duration>) -> Result<(), Duration> {
    one.err().max(other.err()).map_or(Ok(()), Err)
}

/// Everything that bounds a hub. The defaults are such that a busy agent never meets them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Rates of one session.
    pub session: Rates,
    /// Rates of all sessions of a user together.
    pub user: Rates,
    /// Live sessions of a user, and of all: a user has no more than are left.
    pub sessions_per_user: usize,
    /// Live sessions of all users.
    pub sessions: usize,
    /// Bytes that the connections of a user hold: unfinished messages and answers that are not read.
    pub memory_per_user: usize,
    /// The same for all users.
    pub memory: usize,
    /// Channels that a session is subscribed to at once.
    pub subscriptions_per_session: usize,
    /// Channels that a user has created and that exist.
    pub channels_per_user: usize,
    /// Members of a channel.
    pub members_per_channel: usize,
    /// Bans of a channel.
    pub bans_per_channel: usize,
    /// Invites to a channel.
    pub invites_per_channel: usize,
    /// Machines of a user.
    pub machines_per_user: usize,
    /// Bytes of a new name of a user, a machine or a channel.
    pub name_bytes: usize,
    /// Users of the server; the admins that its operator names are let in beyond it.
    pub users: usize,
    /// Rows of a page of history.
    pub page_rows: usize,
    /// Bytes of a page of history; one row always fits.
    pub page_bytes: usize,
    /// Posts of one commit.
    pub batch_posts: usize,
    /// Bytes of one commit's posts; one post always fits.
    pub batch_bytes: usize,
    /// Changes of the directory in one commit: each of another user, and none that depends on another.
    pub batch_changes: usize,
    /// Rows of a page for a subscription that is behind.
    pub catch_up_rows: usize,
    /// Pages that are read from the store at once, for all users in turns.
    pub reads_at_once: usize,
    /// Kept sessions of a user: those whose positions outlive their connections, and that have mailboxes.
    pub readers_per_user: usize,
    /// Users that a user allowed or blocked.
    pub contacts_per_user: usize,
    /// Messages that wait in a mailbox.
    pub mailbox_messages: usize,
    /// Bytes of messages that wait in a mailbox; one message always fits.
    pub mailbox_bytes: usize,
    /// Invites in all; a user has no more than are left.
    pub invites: usize,
    /// Invites to the server.
    pub user_invites: usize,
    /// Key packages of a machine that are given out once.
    pub key_packages_per_machine: usize,
    /// Bytes of a key package.
    pub key_package_bytes: usize,
    /// Bytes of a commit to a sealed channel.
    pub commit_bytes: usize,
    /// Bytes of the GroupInfo of a sealed channel.
    pub group_info_bytes: usize,
    /// Bytes of a welcome to a sealed channel.
    pub welcome_bytes: usize,
    /// Entries of a user's roster.
    pub roster_entries: usize,
    /// Bytes of an entry of a roster.
    pub roster_entry_bytes: usize,
    /// Bytes of memory for what is kept for sealed channels: group infos, welcomes, key packages, rosters. Nobody has more
    /// than is left.
    pub sealed_bytes: usize,
    /// Bytes of messages that a user may store; they come back evenly over [`Limits::stored_for`].
    pub stored_per_user: u64,
    /// The same for a channel, whoever posts.
    pub stored_per_channel: u64,
    /// How long it takes until what was stored has come back: the time for which messages are kept.
    pub stored_for: Duration,
    /// Bytes of the whole store. From nine tenths on, writers are slowed.
    pub stored: u64,
    /// Bytes of the disk that stay free. From four times as much on, writers are slowed.
    pub disk_free: u64,
    /// A session that was not heard for this long has ended.
    pub idle: Duration,
    /// A session that takes nothing of what it is sent for this long is dropped.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            session: Rates {
                posts: Rate::new(100, 500),
                whispers: Rate::new(100, 500),
                bytes: Rate::new(4 << 20, 32 << 20),
                control: Rate::new(200, 2_000),
                replies: Rate::new(16 << 20, 128 << 20),
            },
            user: Rates {
                posts: Rate::new(500, 5_000),
                whispers: Rate::new(500, 5_000),
                bytes: Rate::new(16 << 20, 128 << 20),
                control: Rate::new(1_000, 10_000),
                replies: Rate::new(32 << 20, 512 << 20),
            },
            sessions_per_user: 1_000,
            sessions: 50_000,
            memory_per_user: 256 << 20,
            memory: 2 << 30,
            subscriptions_per_session: 1_000,
            channels_per_user: 1_000,
            members_per_channel: 10_000,
            bans_per_channel: 10_000,
            invites_per_channel: 1_000,
            machines_per_user: 100,
            name_bytes: 64,
            users: 200_000,
            page_rows: 500,
            page_bytes: 1 << 20,
            batch_posts: 4_096,
            batch_bytes: 8 << 20,
            batch_changes: 256,
            catch_up_rows: 4_096,
            reads_at_once: 16,
            readers_per_user: 1_000,
            contacts_per_user: 1_000,
            mailbox_messages: 1_000,
            mailbox_bytes: 8 << 20,
            invites: 100_000,
            user_invites: 1_000,
            key_packages_per_machine: 100,
            key_package_bytes: 16 << 10,
            commit_bytes: 512 << 10,
            group_info_bytes: 512 << 10,
            welcome_bytes: 512 << 10,
            roster_entries: 1_000,
            roster_entry_bytes: 4 << 10,
            sealed_bytes: 512 << 20,
            stored_per_user: 16 << 30,
            stored_per_channel: 64 << 30,
            stored_for: Duration::from_secs(7 * 86_400),
            stored: 1 << 60,
            disk_free: 256 << 20,
            idle: Duration::from_secs(60),
            stall: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// These limits without rates: for benchmarks. The bounds on memory stay.
    #[must_use]
    pub fn without_rates(self) -> Self {
        Self { session: Rates::OFF, user: Rates::OFF, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let rate = Rate::new(10, 3);
        let mut bucket = Bucket::default();
        for _ in 0..3 {
            assert_eq!(bucket.take(rate, Monotonic(1_000), 1), Ok(()));
        }
        assert_eq!(bucket.take(rate, Monotonic(1_000), 1), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(rate, Monotonic(1_100), 1), Ok(()));
        assert!(bucket.take(rate, Monotonic(1_150), 1).is_err());
        assert!(!bucket.is_full(Monotonic(1_200)));
        assert!(bucket.is_full(Monotonic(1_400)));
    }

    #[test]
    fn more_than_a_full_bucket_holds_waits_for_a_full_one() {
        let rate = Rate::new(10, 3);
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(rate, Monotonic(1_000), 30), Ok(()));
        assert!(bucket.take(rate, Monotonic(1_000), 30).is_err());
        assert_eq!(bucket.take(rate, Monotonic(4_000), 30), Ok(()));
    }

    proptest! {
        #[test]
        fn no_pattern_of_requests_passes_more_than_burst_and_rate_allow(
            per_second in 1..5_000u32,
            burst in 1..100u32,
            steps in proptest::collection::vec((0..50u64, 1..5u32), 1..300),
        ) {
            let rate = Rate::new(per_second, burst.max(5));
            let mut bucket = Bucket::default();
            let (mut now, mut passed) = (1_000, 0u64);
            for (wait, tokens) in steps {
                now += wait;
                match bucket.take(rate, Monotonic(now), tokens) {
                    Ok(()) => passed += u64::from(tokens),
                    Err(wait) => {
                        // Waiting as told is enough.
                        let later = Monotonic(now) + wait + Duration::from_millis(1);
                        prop_assert_eq!(bucket.clone().take(rate, later, tokens), Ok(()));
                    }
                }
                // One more than whole tokens: a token's time is rounded down to nanoseconds.
                let earned = (now - 1_000) * u64::from(per_second) * 101 / 100_000;
                prop_assert!(passed <= u64::from(rate.burst) + earned + 1);
            }
        }
    }
}
