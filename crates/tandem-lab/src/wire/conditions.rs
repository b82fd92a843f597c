//! What a line does to packets, in one direction: a plain state machine over a clock that is passed in.

use std::time::{Duration, Instant};

/// Packets of one direction that may be under way at once; what comes beyond is dropped and counted.
pub const UNDER_WAY_MAX: usize = 20_000;

/// How one direction of a line treats packets. [`Conditions::default`] is a perfect line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conditions {
    /// Least delay, one way.
    pub delay: Duration,
    /// Each packet gets between nothing and this much more delay, evenly drawn.
    pub jitter: Duration,
    pub loss: Loss,
    /// Bits per second, Ethernet headers included; `None` for no limit.
    pub rate: Option<u64>,
    /// How long a packet may wait for its turn on a line with a rate; beyond it the queue is full and drops.
    pub queue: Duration,
    /// May jitter put packets into another order? Otherwise a packet never overtakes the one before it.
    pub reorder: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: Loss::None,
            rate: None,
            queue: Duration::from_millis(200),
            reorder: false,
        }
    }
}

impl Conditions {
    /// A line with this delay each way and no other fault.
    pub fn delayed(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// A line that brings nothing through.
    pub fn cut() -> Self {
        Self { loss: Loss::Random(1.0), ..Self::default() }
    }
}

/// Which packets never arrive.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Loss {
    #[default]
    None,
    /// Each packet with this probability, from 0 to 1, whatever became of the others.
    Random(f64),
    /// In bursts: the Gilbert model, two states of which one loses everything.
    Bursty {
        /// Share of packets lost over a long time, from 0 to 1.
        mean: f64,
        /// Mean length of a burst in packets, at least 1.
        burst: f64,
    },
}

/// What became of packets in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub packets: u64,
    /// With Ethernet headers.
    pub bytes: u64,
    /// Lost as [`Loss`] says.
    pub lost: u64,
    /// Dropped because the queue was full.
    pub overflowed: u64,
}

/// One direction of a line. The same seed and the same packets give the same losses and delays.
#[derive(Debug)]
pub(crate) struct Direction {
    conditions: Conditions,
    /// Losses and jitter are drawn apart, so that a change of one leaves the other's sequence alone.
    loss_draws: Draws,
    jitter_draws: Draws,
    in_burst: bool,
    /// When the last packet has left the queue.
    free_at: Option<Instant>,
    last_due: Option<Instant>,
    pub(crate) under_way: usize,
    pub(crate) counts: Counts,
}

impl Direction {
    pub(crate) fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions,
            loss_draws: Draws(seed),
            jitter_draws: Draws(seed.rotate_left(32) ^ 0x6a09_e667_f3bc_c908),
            in_burst: false,
            free_at: None,
            last_due: None,
            under_way: 0,
            counts: Counts::default(),
        }
    }

    pub(crate) fn conditions(&self) -> Conditions {
        self.conditions
    }

    pub(crate) fn set(&mut self, conditions: Conditions) {
        self.conditions = conditions;
        self.in_burst = false;
    }

    /// Begins the draws again, as if this were the first packet.
    pub(crate) fn replay(&mut self, seed: u64) {
        let counts = self.counts;
        let under_way = self.under_way;
        *self = Self { counts, under_way, last_due: self.last_due, ..Self::new(self.conditions, seed) };
    }

    /// A packet of so many bytes enters. When does it come out? Never, if `None`.
    pub(crate) fn handle(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        self.counts.packets += 1;
        self.counts.bytes += bytes as u64;
        if self.loses() {
            self.counts.lost += 1;
            return None;
        }
        let Some(sent) = self.serialise(bytes, now).filter(|_| self.under_way < UNDER_WAY_MAX) else {
            self.counts.overflowed += 1;
            return None;
        };
        let jitter = self.conditions.jitter.mul_f64(self.jitter_draws.next());
        let mut due = sent + self.conditions.delay + jitter;
        if !self.conditions.reorder {
            due = self.last_due.map_or(due, |last| due.max(last));
        }
        self.last_due = Some(due);
        Some(due)
    }

    fn loses(&mut self) -> bool {
        // One draw a packet in every model, so that the draws stay in step with the packets.
        let draw = self.loss_draws.next();
        match self.conditions.loss {
            Loss::None => false,
            Loss::Random(probability) => draw < probability,
            Loss::Bursty { mean, .. } if mean >= 1.0 => true,
            Loss::Bursty { mean, burst } => {
                let change =
                    if self.in_burst { 1.0 / burst.max(1.0) } else { enter_burst(mean, burst.max(1.0)) };
                if draw < change {
                    self.in_burst = !self.in_burst;
                }
                self.in_burst
            }
        }
    }

    /// When the last bit is on the line, at the rate there is.
    fn serialise(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let Some(rate) = self.conditions.rate.filter(|rate| *rate > 0) else { return Some(now) };
        let begin = self.free_at.map_or(now, |free| free.max(now));
        if begin - now > self.conditions.queue {
            return None;
        }
        let end = begin + Duration::from_nanos(bytes as u64 * 8 * 1_000_000_000 / rate);
        self.free_at = Some(end);
        Some(end)
    }
}

/// Probability that a burst begins, from the long-run share lost: mean = enter / (enter + leave), leave = 1 / burst.
fn enter_burst(mean: f64, burst: f64) -> f64 {
    (mean / ((1.0 - mean) * burst)).clamp(0.0, 1.0)
}

/// SplitMix64: small, seeded, the same on every machine and in every version.
#[derive(Debug, Clone)]
struct Draws(u64);

impl Draws {
    /// From 0 up to, not including, 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn fates(conditions: Conditions, seed: u64, packets: usize) -> Vec<Option<Duration>> {
        let begin = Instant::now();
        let mut direction = Direction::new(conditions, seed);
        (0..packets)
            .map(|i| {
                let now = begin + MS * 20 * u32::try_from(i).expect("few packets");
                direction.handle(174, now).map(|due| due - now)
            })
            .collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_trace() {
        let conditions = Conditions {
            jitter: MS * 30,
            loss: Loss::Bursty { mean: 0.1, burst: 4.0 },
            ..Conditions::default()
        };
        assert_eq!(fates(conditions, 7, 5_000), fates(conditions, 7, 5_000));
        assert_ne!(fates(conditions, 7, 5_000), fates(conditions, 8, 5_000));
    }

    #[test]
    fn a_replay_begins_the_trace_again() {
        let conditions = Conditions { loss: Loss::Random(0.3), ..Conditions::default() };
        let mut direction = Direction::new(conditions, 3);
        let lost = |direction: &mut Direction| -> Vec<bool> {
            (0..200).map(|_| direction.handle(100, Instant::now()).is_none()).collect()
        };
        let first = lost(&mut direction);
        assert_ne!(first, lost(&mut direction));
        direction.replay(3);
        assert_eq!(first, lost(&mut direction));
    }

    #[test]
    fn losses_have_the_mean_and_the_bursts_asked_for() {
        for (loss, mean, burst) in [
            (Loss::Random(0.05), 0.05, 1.05),
            (Loss::Bursty { mean: 0.1, burst: 4.0 }, 0.1, 4.0),
            (Loss::Bursty { mean: 0.26, burst: 4.0 }, 0.26, 4.0),
        ] {
            let fates = fates(Conditions { loss, ..Conditions::default() }, 1, 200_000);
            let lost = fates.iter().filter(|fate| fate.is_none()).count() as f64;
            let bursts =
                fates.windows(2).filter(|pair| pair[0].is_some() && pair[1].is_none()).count() as f64;
            assert!((lost / 200_000.0 - mean).abs() < 0.01, "{loss:?}: {}", lost / 200_000.0);
            assert!((lost / bursts - burst).abs() < 0.15, "{loss:?}: {}", lost / bursts);
        }
    }

    #[test]
    fn a_cut_line_brings_nothing_through() {
        assert!(fates(Conditions::cut(), 1, 1_000).iter().all(Option::is_none));
        let all = Conditions { loss: Loss::Bursty { mean: 1.0, burst: 4.0 }, ..Conditions::default() };
        assert!(fates(all, 1, 1_000).iter().all(Option::is_none));
    }

    #[test]
    fn a_rate_delays_and_a_full_queue_drops() {
        let now = Instant::now();
        let conditions =
            Conditions { rate: Some(64_000), queue: MS * 100, delay: MS * 5, ..Conditions::default() };
        let mut direction = Direction::new(conditions, 1);
        // 80 bytes at 64 kbit/s take 10 ms.
        let dues: Vec<_> = (0..20).map(|_| direction.handle(80, now).map(|due| due - now)).collect();
        assert_eq!(dues[0], Some(MS * 15));
        assert_eq!(dues[1], Some(MS * 25));
        assert_eq!(dues[10], Some(MS * 115));
        assert_eq!(dues[11], None);
        assert_eq!(direction.counts.overflowed, 9);
    }

    #[test]
    fn jitter_keeps_the_order_unless_told_otherwise() {
        let in_order = |reorder: bool| {
            let begin = Instant::now();
            let conditions = Conditions { jitter: MS * 100, reorder, ..Conditions::default() };
            let mut direction = Direction::new(conditions, 5);
            let dues: Vec<_> = (0..100).filter_map(|i| direction.handle(100, begin + MS * i)).collect();
            dues.is_sorted()
        };
        assert!(in_order(false));
        assert!(!in_order(true));
    }
}
