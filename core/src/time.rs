//! The core's own readings of time. It holds no clock: every input brings a [`Now`].

use core::ops::Add;
use core::str::FromStr;
use core::time::Duration;

use jiff::SpanRelativeTo;
use jiff::fmt::friendly::SpanParser;

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

/// A text that is no span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time is written like 90s, 45m, 2h, 1d or 1h30m")]
pub struct InvalidSpan;

/// Reads a span of time as people write it: `90s`, `45m`, `2h`, `1d`, `1w`, `250ms`, `1h30m`. A day has 24 hours.
///
/// # Errors
/// [`InvalidSpan`] for anything else, for months and years, and for what points to the past.
pub fn span(text: &str) -> Result<Duration, InvalidSpan> {
    let span = SpanParser::new().parse_span(text.trim()).map_err(|_| InvalidSpan)?;
    let span = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| InvalidSpan)?;
    Duration::try_from(span).map_err(|_| InvalidSpan)
}

/// The least number but zero that is taken for Unix milliseconds: of the year 1973.
const MIN_MILLIS: i64 = 100_000_000_000;

/// From when on history is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So long ago.
    Ago(Duration),
    /// Then.
    At(UnixMillis),
}

/// A text that is no moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a moment is written as a time ago (30m, 2h, 1d), as in 2026-11-20T09:00:00Z (RFC 3339), or in Unix \
     milliseconds"
)]
pub struct InvalidMoment;

impl Since {
    /// The moment, seen from `now`; never before the Unix epoch.
    pub fn moment(self, now: UnixMillis) -> UnixMillis {
        match self {
            Self::Ago(ago) => {
                UnixMillis(now.0.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)).max(0))
            }
            Self::At(at) => at,
        }
    }
}

/// From a span as [`span`] reads it, RFC 3339, or Unix milliseconds.
impl FromStr for Since {
    type Err = InvalidMoment;

    fn from_str(text: &str) -> Result<Self, InvalidMoment> {
        let text = text.trim();
        if let Ok(millis) = text.parse::<i64>() {
            // A small number is a span without its unit, or seconds: it would be taken for 1970, and give all.
            let meant = millis == 0 || millis >= MIN_MILLIS;
            return if meant { Ok(Self::At(UnixMillis(millis))) } else { Err(InvalidMoment) };
        }
        if let Ok(stamp) = text.parse::<jiff::Timestamp>() {
            return Ok(Self::At(UnixMillis(stamp.as_millisecond().max(0))));
        }
        span(text).map(Self::Ago).map_err(|_| InvalidMoment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn any_stamp_can_be_written() {
        for stamp in [i64::MIN, -1, 0, 1_700_000_000_123, UnixMillis::MAX.0, i64::MAX] {
            assert!(UnixMillis(stamp).rfc3339().ends_with('Z'), "{stamp}");
        }
        assert_eq!(UnixMillis(1_700_000_000_123).rfc3339(), "2023-11-14T22:13:20.123Z");
    }

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("90s", 90),
            ("45m", 2700),
            ("2h", 7200),
            ("1d", 86_400),
            ("1w", 604_800),
            ("1h30m", 5400),
            (" 2 h ", 7200),
        ] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(span("250ms"), Ok(Duration::from_millis(250)));
        for text in ["", "2", "h", "-1h", "1h ago", "1x", "1mo", "1y", "ms", "1é", "99999999999999999999d"] {
            assert_eq!(span(text), Err(InvalidSpan), "{text}");
        }
    }

    #[test]
    fn a_moment_is_written_in_any_of_four_ways() {
        assert_eq!("2h".parse(), Ok(Since::Ago(Duration::from_secs(7200))));
        assert_eq!("1700000000123".parse(), Ok(Since::At(UnixMillis(1_700_000_000_123))));
        assert_eq!("2023-11-14T22:13:20.123Z".parse(), Ok(Since::At(UnixMillis(1_700_000_000_123))));
        assert_eq!("0".parse(), Ok(Since::At(UnixMillis(0))));
        for text in
            ["", "h", "2y", "-1h", "-5", "2", "1700000000", "99999999999999999999d", "9999999999999999999w"]
        {
            assert_eq!(text.parse::<Since>(), Err(InvalidMoment), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_and_clock_give_a_moment_or_an_error(text in "[0-9]{0,22}[a-zä]{0,2}", now in any::<i64>()) {
            if let Ok(since) = text.parse::<Since>() {
                prop_assert!(since.moment(UnixMillis(now)).0 >= 0);
            }
        }
    }

    #[test]
    fn adding_time_saturates() {
        assert_eq!(Monotonic(u64::MAX) + Duration::from_secs(1), Monotonic(u64::MAX));
        assert_eq!(Monotonic(5) + Duration::MAX, Monotonic(u64::MAX));
    }
}
