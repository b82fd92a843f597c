//! Rate limits. Both kinds are GCRA (ATM Forum TM 4.0): one instant says when the next unit would conform, so there
//! is nothing to refill and nothing to round.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::client::SourceNetwork;
use crate::config::Rate;

/// What a packet takes of a rate at least, in bytes: its own headers (IPv4, UDP, ChannelData). Or else packets without
/// any bytes would be free, and as many as somebody likes.
pub(super) const PACKET_COST_MIN: usize = 32;

/// One bucket of bytes: an allocation's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    /// When all that was let through would have been sent at the steady rate.
    drained_at: Instant,
}

impl Bucket {
    pub(super) fn full(now: Instant) -> Self {
        Self { drained_at: now }
    }

    /// Takes `units` if the rate allows it now.
    pub(super) fn take(&mut self, units: usize, rate: Rate, now: Instant) -> bool {
        let burst = time_for(u64::from(rate.burst), rate);
        // No further ahead than an empty bucket, or a clock that went back would shut it until it has caught up.
        self.drained_at = self.drained_at.clamp(now, now + burst);
        let drained_at = self.drained_at + time_for(units as u64, rate);
        let admitted = drained_at.duration_since(now) <= burst;
        if admitted {
            self.drained_at = drained_at;
        }
        admitted
    }
}

/// The bucket of all that the relay forwards, for every thread: nothing here is locked.
#[derive(Debug)]
pub(super) struct TotalRate {
    started: Instant,
    /// Nanoseconds since the start at which all that was let through would have been sent at the steady rate.
    drained_at_ns: AtomicU64,
    /// Of [`Rate`]; 0 a second is no limit.
    per_second: AtomicU32,
    burst: AtomicU32,
}

impl TotalRate {
    pub(super) fn new(rate: Option<Rate>, now: Instant) -> Self {
        let total = Self {
            started: now,
            drained_at_ns: AtomicU64::new(0),
            per_second: AtomicU32::new(0),
            burst: AtomicU32::new(0),
        };
        total.set(rate);
        total
    }

    pub(super) fn set(&self, rate: Option<Rate>) {
        let rate = rate.map(|rate| Rate { per_second: rate.per_second.max(1), ..rate });
        self.burst.store(rate.map_or(0, |rate| rate.burst), Ordering::Relaxed);
        self.per_second.store(rate.map_or(0, |rate| rate.per_second), Ordering::Relaxed);
    }

    pub(super) fn is_limited(&self) -> bool {
        self.per_second.load(Ordering::Relaxed) > 0
    }

    /// Takes bytes if the rate allows them now.
    pub(super) fn take(&self, bytes: u64, now: Instant) -> bool {
        let rate = Rate {
            per_second: self.per_second.load(Ordering::Relaxed),
            burst: self.burst.load(Ordering::Relaxed),
        };
        if rate.per_second == 0 {
            return true;
        }
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let now_ns = nanos(now.saturating_duration_since(self.started));
        let cost_ns = nanos(time_for(bytes, rate));
        let burst_ns = nanos(time_for(u64::from(rate.burst), rate));
        let admit = |drained_ns: u64| {
            // As with the other bucket, a clock that went back does not shut it.
            let empty_ns = now_ns.saturating_add(burst_ns);
            let drained_ns = drained_ns.clamp(now_ns, empty_ns).saturating_add(cost_ns);
            (drained_ns - now_ns <= burst_ns).then_some(drained_ns)
        };
        let update = self.drained_at_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit);
        let empty_ns = now_ns.saturating_add(burst_ns);
        if update.is_err_and(|drained_ns| drained_ns > empty_ns) {
            self.drained_at_ns.store(empty_ns, Ordering::Relaxed);
        }
        update.is_ok()
    }
}

fn time_for(units: u64, rate: Rate) -> Duration {
    Duration::from_nanos(units.saturating_mul(1_000_000_000) / u64::from(rate.per_second.max(1)))
}

/// One bucket of packets for each network, in a table of fixed size: networks that fall on the same place share a
/// bucket, so strangers can neither make it grow nor push each other out. The seed keeps them from aiming.
#[derive(Debug)]
pub(super) struct StrangerLimit {
    buckets: Box<[Bucket]>,
    seed: u64,
}

impl StrangerLimit {
    const PLACES: usize = 4_096;

    pub(super) fn new(seed: u64, now: Instant) -> Self {
        Self { buckets: vec![Bucket::full(now); Self::PLACES].into(), seed }
    }

    /// Whether one more answer may go to this network.
    pub(super) fn admit(&mut self, source: SourceNetwork, rate: Rate, now: Instant) -> bool {
        let mut hasher = DefaultHasher::new();
        (self.seed, source).hash(&mut hasher);
        let place = (hasher.finish() % Self::PLACES as u64) as usize;
        self.buckets[place].take(1, rate, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let rate = Rate { per_second: 1_000, burst: 500 };
        let start = crate::testing::start();
        let mut bucket = Bucket::full(start);
        assert!(bucket.take(500, rate, start));
        assert!(!bucket.take(1, rate, start));
        let later = start + Duration::from_millis(100);
        assert!(bucket.take(100, rate, later));
        assert!(!bucket.take(1, rate, later));
        assert!(!bucket.take(501, rate, start + Duration::from_secs(60)), "more than the burst never passes");
    }

    #[test]
    fn the_total_is_a_bucket_that_can_be_changed() {
        let start = crate::testing::start();
        let total = TotalRate::new(None, start);
        assert!(!total.is_limited() && total.take(1_000_000_000, start));
        total.set(Some(Rate { per_second: 1_000, burst: 500 }));
        assert!(total.is_limited() && total.take(500, start) && !total.take(1, start));
        let later = start + Duration::from_millis(100);
        assert!(total.take(100, later) && !total.take(1, later));
        total.set(None);
        assert!(total.take(1_000_000_000, later));
    }

    #[test]
    fn one_network_cannot_use_up_another_ones_answers() {
        let rate = Rate { per_second: 1, burst: 3 };
        let start = crate::testing::start();
        let mut limit = StrangerLimit::new(7, start);
        let (near, far) = (SourceNetwork::V4([192, 0, 2]), SourceNetwork::V6([0x20, 1, 0xd, 0xb8, 0, 0]));
        assert_eq!((0..10).filter(|_| limit.admit(near, rate, start)).count(), 3);
        assert!(limit.admit(far, rate, start));
    }
}
