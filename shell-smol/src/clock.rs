//! The clocks, read for the machines.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use conclave_core::time::{Monotonic, Now, UnixMillis};

/// Both clocks, counted from one start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Now {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis);
        Now {
            mono: Monotonic(millis(self.0.elapsed())),
            wall: UnixMillis(i64::try_from(wall).unwrap_or(i64::MAX)),
        }
    }

    /// How long it is until `deadline`. Never less than is left of it: a timer that fires early would spin.
    pub(crate) fn until(self, deadline: Monotonic) -> Duration {
        Duration::from_millis(deadline.0).saturating_sub(self.0.elapsed())
    }
}
