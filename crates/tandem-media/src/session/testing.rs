//! For this folder's unit tests.

use std::time::{Duration, Instant};

/// A moment to count from; far enough on that tests may look back from it.
pub(super) fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "tests need some origin; all that follows is forced time")]
    let now = Instant::now();
    now + Duration::from_secs(3600)
}
