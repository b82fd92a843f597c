//! What is counted of a session, as the figures for people define it.
//!
//! Gap: time between the arrivals, at the socket, of distinct SRTP sequence numbers. Lost: sequence numbers that came
//! on no path.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::types::{PathId, PathSeries, Route};

const BUCKET: Duration = Duration::from_millis(100);
/// Ten minutes of buckets a path; the oldest go first.
const BUCKETS_MAX: usize = 6000;

/// Sound that came.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    first: Option<u64>,
    highest: u64,
    distinct: u64,
    pub(super) duplicates: u64,
    last_at: Option<Instant>,
    pub(super) first_at: Option<Instant>,
    longest_gap: Duration,
    longest_gap_at: Option<Instant>,
    /// Low 32 bits of what the other end says it sent last.
    announced: Option<u32>,
}

impl Arrivals {
    /// A sequence number that had not come before. Gives the time since the one that came before it.
    pub(super) fn arrived(&mut self, sequence: u64, now: Instant) -> Duration {
        let mut since = Duration::ZERO;
        if let Some(last) = self.last_at {
            let gap = now.saturating_duration_since(last);
            if gap > self.longest_gap {
                self.longest_gap = gap;
                self.longest_gap_at = Some(now);
            }
            since = gap;
        }
        self.last_at = Some(now);
        self.first_at.get_or_insert(now);
        self.first = Some(self.first.map_or(sequence, |first| first.min(sequence)));
        self.highest = self.highest.max(sequence);
        self.distinct += 1;
        since
    }

    /// The whole number of a copy, from its low 16 bits: the one nearest to the highest that came.
    pub(super) fn extend(&self, short: u16) -> u64 {
        let base = self.highest & !0xffff;
        let near = [base.saturating_sub(0x1_0000), base, base + 0x1_0000].map(|base| base | u64::from(short));
        near.into_iter().min_by_key(|number| number.abs_diff(self.highest)).unwrap_or(base)
    }

    pub(super) fn announced(&mut self, sequence: u32) {
        self.announced = Some(sequence);
    }

    pub(super) fn received(&self) -> u64 {
        self.distinct
    }

    /// Holes between the first and the highest number that came.
    pub(super) fn lost(&self) -> u64 {
        self.first.map_or(0, |first| (self.highest - first + 1).saturating_sub(self.distinct))
    }

    /// Numbers beyond the highest that were sent, as the other end says.
    pub(super) fn tail_missing(&self) -> u64 {
        let (Some(_), Some(announced)) = (self.first, self.announced) else { return 0 };
        #[expect(clippy::cast_possible_truncation, reason = "compared by their low 32 bits")]
        let beyond = announced.wrapping_sub(self.highest as u32);
        if beyond < u32::MAX / 2 { u64::from(beyond) } else { 0 }
    }

    /// The longest gap and when it ended.
    pub(super) fn longest_gap(&self) -> (Duration, Option<Instant>) {
        (self.longest_gap, self.longest_gap_at)
    }
}

/// What one path carried.
#[derive(Debug)]
pub(super) struct PathCounts {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) credited: u64,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) probes_sent: u64,
    pub(super) probes_received: u64,
    pub(super) first_heard: Option<Instant>,
    pub(super) last_sent: Option<Instant>,
    series: Series,
}

impl PathCounts {
    pub(super) fn new() -> Self {
        Self {
            sent: 0,
            received: 0,
            credited: 0,
            bytes_sent: 0,
            bytes_received: 0,
            probes_sent: 0,
            probes_received: 0,
            first_heard: None,
            last_sent: None,
            series: Series { first: 0, buckets: VecDeque::new() },
        }
    }

    pub(super) fn sound_sent(&mut self, began: Instant, now: Instant) {
        self.sent += 1;
        self.last_sent = Some(now);
        if let Some(bucket) = self.series.bucket(began, now) {
            bucket.0 = bucket.0.saturating_add(1);
        }
    }

    pub(super) fn sound_credited(&mut self, began: Instant, now: Instant) {
        self.credited += 1;
        if let Some(bucket) = self.series.bucket(began, now) {
            bucket.1 = bucket.1.saturating_add(1);
        }
    }

    pub(super) fn series(&self, id: PathId, route: Route) -> PathSeries {
        let bucket_ms = u32::try_from(BUCKET.as_millis()).expect("a bucket is short");
        PathSeries {
            id,
            route,
            bucket_ms,
            start_ms: self.series.first * u64::from(bucket_ms),
            sent: self.series.buckets.iter().map(|bucket| bucket.0).collect(),
            received: self.series.buckets.iter().map(|bucket| bucket.1).collect(),
        }
    }
}

/// Packets sent and received in each bucket since the session began.
#[derive(Debug)]
struct Series {
    /// Number of the first bucket kept.
    first: u64,
    buckets: VecDeque<(u16, u16)>,
}

impl Series {
    fn bucket(&mut self, began: Instant, now: Instant) -> Option<&mut (u16, u16)> {
        let index = now.saturating_duration_since(began).as_millis() / BUCKET.as_millis();
        let index = u64::try_from(index).ok()?;
        if self.buckets.is_empty() || index >= self.first + 2 * BUCKETS_MAX as u64 {
            self.buckets.clear();
            self.first = index;
        }
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        while self.buckets.len() <= at {
            self.buckets.push_back((0, 0));
        }
        while self.buckets.len() > BUCKETS_MAX {
            self.buckets.pop_front();
            self.first += 1;
        }
        self.buckets.get_mut(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::start;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn holes_are_lost_and_the_tail_is_told_apart() {
        let t = start();
        let mut arrivals = Arrivals::default();
        for sequence in [10, 11, 14, 13] {
            arrivals.arrived(sequence, t);
        }
        arrivals.announced(17);
        assert_eq!((arrivals.received(), arrivals.lost(), arrivals.tail_missing()), (4, 1, 3));
        arrivals.announced(12);
        assert_eq!(arrivals.tail_missing(), 0, "an old word says nothing about the tail");
    }

    #[test]
    fn the_longest_gap_and_its_time() {
        let t = start();
        let mut arrivals = Arrivals::default();
        for ms in [0, 20, 120, 140] {
            arrivals.arrived(u64::from(ms), t + MS * ms);
        }
        assert_eq!(arrivals.longest_gap(), (100 * MS, Some(t + 120 * MS)));
    }

    #[test]
    fn a_series_is_bounded() {
        let t = start();
        let mut counts = PathCounts::new();
        for second in 0..3600u32 {
            counts.sound_sent(t, t + 1000 * MS * second);
        }
        let series = counts.series(PathId(0), Route::Direct);
        assert_eq!(series.sent.len(), BUCKETS_MAX);
        assert_eq!(series.start_ms, 35_990 * 100 - 5_999 * 100);
        assert_eq!(series.sent.iter().map(|n| u32::from(*n)).sum::<u32>(), 600);
    }
}
