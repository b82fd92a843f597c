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

    /// All clocks, to see whether the machine slept.
    pub(crate) fn reading(&self) -> Reading {
        let now = self.now();
        Reading { mono_ms: now.mono_ms, boot_ms: boot_ms(), unix_ms: now.unix_ms }
    }

    /// The instant of a machine's time-out.
    pub(crate) fn instant(&self, mono_ms: u64) -> Instant {
        self.begun + Duration::from_millis(mono_ms)
    }
}

/// A difference between two clocks that only sleep explains: the slow drift that NTP allows stays far below it.
const SLEPT_MS: u64 = 2_000;

/// All clocks at one moment, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// Stands still while the machine sleeps.
    pub(crate) mono_ms: u64,
    /// Goes on in sleep; `None` where the system has no such clock.
    pub(crate) boot_ms: Option<u64>,
    pub(crate) unix_ms: u64,
}

/// Notices that the machine slept, or that its process or virtual machine was stopped: the clocks that went on are ahead
/// of the one that did not. Somebody who sets the clock forward causes the same; what follows is harmless.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SleepWatch {
    last: Reading,
}

impl SleepWatch {
    pub(crate) fn new(now: Reading) -> Self {
        Self { last: now }
    }

    /// For how many milliseconds the machine slept since the last reading, if it did.
    pub(crate) fn note(&mut self, now: Reading) -> Option<u64> {
        let last = std::mem::replace(&mut self.last, now);
        let awake_ms = now.mono_ms.saturating_sub(last.mono_ms);
        let boot_ms = now.boot_ms.zip(last.boot_ms).map(|(now, last)| now.saturating_sub(last));
        let passed_ms = boot_ms.unwrap_or(0).max(now.unix_ms.saturating_sub(last.unix_ms));
        Some(passed_ms.saturating_sub(awake_ms)).filter(|slept_ms| *slept_ms > SLEPT_MS)
    }
}

/// The clock that goes on while the machine sleeps.
fn boot_ms() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).ok()?;
        Some(millis(time.into()))
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// Milliseconds since 1970-01-01 UTC; 0 on a clock that stands before.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    fn at(mono_ms: u64, boot_ms: Option<u64>, unix_ms: u64) -> Reading {
        Reading { mono_ms, boot_ms, unix_ms }
    }

    #[test]
    fn sleep_is_told_by_the_clocks_that_went_on() {
        let mut watch = SleepWatch::new(at(1_000, Some(1_000), DAY_MS));
        assert_eq!(watch.note(at(2_000, Some(2_000), DAY_MS + 1_000)), None);
        assert_eq!(watch.note(at(2_500, Some(62_500), DAY_MS + 61_500)), Some(60_000));
        assert_eq!(watch.note(at(3_500, Some(63_500), DAY_MS + 62_500)), None, "told once");
        assert_eq!(
            watch.note(at(4_500, Some(64_500), DAY_MS + 82_500)),
            Some(19_000),
            "a stopped virtual machine"
        );
    }

    #[test]
    fn without_a_clock_that_counts_sleep_the_wall_tells() {
        let mut watch = SleepWatch::new(at(1_000, None, DAY_MS));
        assert_eq!(watch.note(at(2_000, None, 2 * DAY_MS)), Some(DAY_MS - 1_000));
    }

    #[test]
    fn a_slow_loop_and_a_clock_set_back_are_no_sleep() {
        let mut watch = SleepWatch::new(at(1_000, Some(1_000), DAY_MS));
        assert_eq!(watch.note(at(601_000, Some(601_000), DAY_MS + 600_000)), None);
        assert_eq!(watch.note(at(602_000, Some(602_000), 5)), None);
        assert_eq!(watch.note(at(603_000, Some(603_999), 2_100)), None, "below two seconds");
    }
}
