//! How long a thread waits before it looks for packets again. While there are few it is woken by each, so that none is
//! late. While there are many it lets them gather for up to a millisecond and takes them with one system call: that
//! saves a quarter of the processor's time, and a voice packet loses half a millisecond on average.

use std::time::{Duration, Instant};

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(1);
/// Packets a second from which on a thread pauses at all, and at which it pauses for longest. A call is 100 a second.
const RATE_FIRST: f64 = 2_500.0;
const RATE_FULL: f64 = 7_500.0;
/// Over how long packets are counted.
const WINDOW: Duration = Duration::from_millis(20);
/// Shares of time by which it is known whether more threads would help.
const BUSY_WINDOW: Duration = Duration::from_secs(1);
pub(super) const BUSY: f64 = 0.85;
/// So many busy windows in a row are no burst.
const BUSY_WINDOWS: u32 = 3;

#[derive(Debug)]
pub(super) struct Pace {
    window_began: Instant,
    packets: usize,
    rate: f64,
    busy_began: Instant,
    waited: Duration,
    busy_windows: u32,
    /// From which share of a window on it is busy.
    busy_share: f64,
}

impl Pace {
    pub(super) fn new(busy_share: f64, now: Instant) -> Self {
        Self {
            window_began: now,
            packets: 0,
            rate: 0.0,
            busy_began: now,
            waited: Duration::ZERO,
            busy_windows: 0,
            busy_share,
        }
    }

    /// So many packets were found.
    pub(super) fn note_packets(&mut self, packets: usize, now: Instant) {
        self.packets += packets;
        let elapsed = now.saturating_duration_since(self.window_began);
        if elapsed >= WINDOW {
            let rate = self.packets as f64 / elapsed.as_secs_f64();
            // Half of what was, so that one window alone decides nothing; after a silence nothing is left of it.
            self.rate = if elapsed > 4 * WINDOW { rate } else { f64::midpoint(self.rate, rate) };
            (self.window_began, self.packets) = (now, 0);
        }
    }

    /// How long to let packets gather; zero: wait for the first.
    pub(super) fn pause(&self) -> Duration {
        PAUSE_MAX.mul_f64(((self.rate - RATE_FIRST) / (RATE_FULL - RATE_FIRST)).clamp(0.0, 1.0))
    }

    /// So long there was nothing to do.
    pub(super) fn note_wait(&mut self, waited: Duration) {
        self.waited += waited;
    }

    /// Whether this thread has had more to do than it can for some seconds. Asked again, it counts anew.
    pub(super) fn is_saturated(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.busy_began);
        if elapsed < BUSY_WINDOW {
            return false;
        }
        let busy = 1.0 - self.waited.as_secs_f64() / elapsed.as_secs_f64();
        (self.busy_began, self.waited) = (now, Duration::ZERO);
        self.busy_windows = if busy >= self.busy_share { self.busy_windows + 1 } else { 0 };
        let saturated = self.busy_windows >= BUSY_WINDOWS;
        if saturated {
            self.busy_windows = 0;
        }
        saturated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// `packets` in each millisecond, for `length` of them.
    fn load(pace: &mut Pace, from: Instant, packets: usize, length: u32) -> Instant {
        (1..=length).for_each(|ms| pace.note_packets(packets, from + ms * MS));
        from + length * MS
    }

    #[test]
    fn a_few_calls_never_wait_and_many_gather_for_a_millisecond() {
        let start = crate::testing::start();
        let mut pace = Pace::new(BUSY, start);
        let now = load(&mut pace, start, 2, 500);
        assert_eq!(pace.pause(), Duration::ZERO, "twenty calls");
        let now = load(&mut pace, now, 5, 500);
        assert!(pace.pause() > 400 * MS / 1_000 && pace.pause() < 600 * MS / 1_000, "{:?}", pace.pause());
        let now = load(&mut pace, now, 20, 500);
        assert_eq!(pace.pause(), MS, "two hundred calls");
        pace.note_packets(1, now + 1_000 * MS);
        assert_eq!(pace.pause(), Duration::ZERO, "after a silence");
    }

    #[test]
    fn a_thread_is_saturated_after_seconds_without_a_rest() {
        let start = crate::testing::start();
        let mut pace = Pace::new(BUSY, start);
        let at = |second: u64| start + Duration::from_secs(second);
        assert!(!pace.is_saturated(at(1)) && !pace.is_saturated(at(2)));
        pace.note_wait(500 * MS);
        assert!(!pace.is_saturated(at(3)), "half a second's rest");
        assert!(!pace.is_saturated(at(4)) && !pace.is_saturated(at(5)));
        assert!(pace.is_saturated(at(6)));
        assert!(!pace.is_saturated(at(7)), "what helps needs time to show");
    }
}
