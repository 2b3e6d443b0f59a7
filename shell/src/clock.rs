//! The machine's clocks, read into the core's own units.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use conclave_core::time::{Monotonic, Now, UnixMillis};

/// Reads both clocks; the monotonic one counts from when this was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    wall: fn() -> SystemTime,
}

impl Default for Clock {
    fn default() -> Self {
        Self::with_wall(SystemTime::now)
    }
}

impl Clock {
    /// A clock that starts now and takes its wall readings from `wall`: for tests that set it back.
    pub fn with_wall(wall: fn() -> SystemTime) -> Self {
        // A second ahead, so that zero has passed: a deadline of zero is due.
        let start = Instant::now();
        Self { start: start.checked_sub(Duration::from_secs(1)).unwrap_or(start), wall }
    }

    /// What the clocks say.
    pub fn now(&self) -> Now {
        let mono = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let wall = (self.wall)().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: Monotonic(mono), wall: UnixMillis(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)) }
    }

    /// The instant of a deadline.
    pub fn instant(&self, at: Monotonic) -> Instant {
        self.start.checked_add(Duration::from_millis(at.0)).unwrap_or_else(Instant::now)
    }
}
