//! What unit tests share.

use std::time::Instant;

/// A point in time to count from: the only way to get an `Instant` is to ask the clock once.
#[expect(clippy::disallowed_methods, reason = "tests start somewhere and force time from there")]
pub(crate) fn start() -> Instant {
    Instant::now()
}
