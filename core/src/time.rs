//! The core's own readings of time. It holds no clock: every input brings a [`Now`].

use core::ops::Add;
use core::time::Duration;

/// A reading of a monotonic clock in milliseconds since an arbitrary start: for timeouts and rates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// The time from `earlier` to this reading; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Monotonic {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Milliseconds since the Unix epoch: for stamps and expiry. May jump either way, as wall clocks do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// The end of 9999-12-30: late enough, and RFC 3339 can write it in every time zone. A stamp is never
    /// later, but for the few that keep order behind it, so that counting on from one never overflows.
    pub const MAX: Self = Self(253_402_207_200_000);

    /// This stamp as RFC 3339 in UTC with milliseconds; readings out of range are clamped to years 0 to 9999.
    pub fn rfc3339(self) -> alloc::string::String {
        use alloc::string::ToString as _;
        let millis = self.0.clamp(-62_167_219_200_000, Self::MAX.0);
        jiff::Timestamp::from_millisecond(millis).map(|stamp| stamp.to_string()).unwrap_or_default()
    }
}

/// What the clocks say as an input is handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now {
    /// For timeouts and rates.
    pub mono: Monotonic,
    /// For stamps and expiry.
    pub wall: UnixMillis,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_stamp_can_be_written() {
        for stamp in [i64::MIN, -1, 0, 1_700_000_000_123, UnixMillis::MAX.0, i64::MAX] {
            assert!(UnixMillis(stamp).rfc3339().ends_with('Z'), "{stamp}");
        }
        assert_eq!(UnixMillis(1_700_000_000_123).rfc3339(), "2023-11-14T22:13:20.123Z");
    }

    #[test]
    fn adding_time_saturates() {
        assert_eq!(Monotonic(u64::MAX) + Duration::from_secs(1), Monotonic(u64::MAX));
        assert_eq!(Monotonic(5) + Duration::MAX, Monotonic(u64::MAX));
    }
}
