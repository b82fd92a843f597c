//! The node's clock: the one place where time is read.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tandem_core::time::Now;

/// Reads the time for every machine of the node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    begun: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { begun: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono_ms: millis(self.begun.elapsed()), unix_ms: unix_ms() }
    }

    /// The instant of a machine's time-out.
    pub(crate) fn instant(&self, mono_ms: u64) -> Instant {
        self.begun + Duration::from_millis(mono_ms)
    }
}

/// Milliseconds since 1970-01-01 UTC; 0 on a clock that stands before.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
