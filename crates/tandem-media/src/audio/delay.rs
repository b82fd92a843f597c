//! How long packets take, relative to the quickest of late.

use std::collections::VecDeque;

use super::FRAME_SAMPLES;

/// Packets of 20 ms looked at: 10 s of them. A longer one counts as several, so that it is always 10 s.
const WINDOW: usize = 500;
/// The longest packet of Opus, 120 ms (RFC 6716 §3.1).
const FRAMES_MAX: usize = 6;
/// Share of packets, in percent, that should arrive before they are due.
const QUANTILE_PERCENT: usize = 96;
/// The figures are worked out anew after this many packets, or at once when one falls outside.
const REFRESH: u32 = 10;
/// A packet this much later than expected is looked at at once.
const SURPRISE_US: i64 = 10_000;

/// Transit times over a sliding window. A transit is `arrival − RTP time`, in microseconds from an arbitrary zero.
#[derive(Debug, Clone)]
pub struct DelayEstimator {
    transits: VecDeque<i64>,
    scratch: Vec<i64>,
    quickest_us: i64,
    spread_us: i64,
    unread: u32,
}

impl DelayEstimator {
    /// An estimator that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            transits: VecDeque::with_capacity(WINDOW),
            scratch: Vec::with_capacity(WINDOW),
            quickest_us: 0,
            spread_us: 0,
            unread: 0,
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.transits.clear();
        self.quickest_us = 0;
        self.spread_us = 0;
        self.unread = 0;
    }

    /// Takes the transit of one packet that lasts so many samples.
    pub fn note(&mut self, transit_us: i64, samples: usize) {
        let before = self.transits.len();
        for _ in 0..(samples / FRAME_SAMPLES).clamp(1, FRAMES_MAX) {
            if self.transits.len() == WINDOW {
                self.transits.pop_front();
            }
            self.transits.push_back(transit_us);
        }
        self.unread += 1;
        let outside = transit_us < self.quickest_us
            || transit_us > self.quickest_us.saturating_add(self.spread_us + SURPRISE_US);
        if outside || self.unread >= REFRESH || before == 0 {
            self.refresh();
        }
    }

    /// Transit of the quickest packet in the window.
    #[must_use]
    pub fn quickest_us(&self) -> i64 {
        self.quickest_us
    }

    /// How much longer than the quickest all but the slowest packets take: the jitter to make up for.
    #[must_use]
    pub fn spread_us(&self) -> i64 {
        self.spread_us
    }

    fn refresh(&mut self) {
        self.unread = 0;
        self.scratch.clear();
        self.scratch.extend(&self.transits);
        let last = self.scratch.len().saturating_sub(1);
        let index = last * QUANTILE_PERCENT / 100;
        let (_, slow, _) = self.scratch.select_nth_unstable(index);
        let slow = *slow;
        self.quickest_us = self.transits.iter().copied().min().unwrap_or(slow);
        self.spread_us = slow.saturating_sub(self.quickest_us);
    }
}

impl Default for DelayEstimator {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_packets_have_no_spread() {
        let mut delay = DelayEstimator::new();
        (0..1_000).for_each(|_| delay.note(7_000, 960));
        assert_eq!((delay.quickest_us(), delay.spread_us()), (7_000, 0));
    }

    #[test]
    fn one_slow_packet_in_a_hundred_is_ignored_and_one_in_ten_is_not() {
        let mut delay = DelayEstimator::new();
        (0..500).for_each(|n| delay.note(if n % 100 == 50 { 90_000 } else { 0 }, 960));
        assert_eq!(delay.spread_us(), 0);
        (0..500).for_each(|n| delay.note(if n % 10 == 5 { 90_000 } else { 0 }, 960));
        assert_eq!(delay.spread_us(), 90_000);
    }
}
