//! The machine's clocks, read into the core's own units.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use conclave_core::time::{Monotonic, Now, UnixMillis};

/// Reads both clocks; the monotonic one counts from when this was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        // A second ahead, so that zero has passed: a deadline of zero is due.
        let start = Instant::now();
        Self { start: start.checked_sub(Duration::from_secs(1)).unwrap_or(start) }
    }

    /// What the clocks say.
    pub fn now(&self) -> Now {
        let mono = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: Monotonic(mono), wall: UnixMillis(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)) }
    }

    /// The instant of a deadline.
    pub fn instant(&self, at: Monotonic) -> Instant {
        self.start + Duration::from_millis(at.0)
    }
}
