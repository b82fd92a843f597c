//! How to try again without a storm: full-jitter back-off and a budget of retries.

use crate::rng::Rng;

/// Doublings after which a back-off stops growing whatever its ceiling is.
const DOUBLINGS_MAX: u32 = 20;

/// Full-jitter exponential back-off: the n-th delay is drawn evenly from nought to `base · 2ⁿ`, at most the ceiling.
///
/// Evenly from nought, because thousands of nodes that lost the same supernode must not come back together.
#[derive(Debug, Clone)]
pub struct Backoff {
    base_ms: u32,
    ceiling_ms: u32,
    failures: u8,
}

impl Backoff {
    /// Delays up to `base_ms` at first, never above `ceiling_ms`.
    #[must_use]
    pub fn new(base_ms: u32, ceiling_ms: u32) -> Self {
        Self { base_ms, ceiling_ms, failures: 0 }
    }

    /// Counts a failure and draws the delay before the next attempt, in milliseconds.
    pub fn next_delay_ms(&mut self, rng: &mut Rng) -> u64 {
        let delay_ms = rng.below(self.span_ms() + 1);
        self.failures = self.failures.saturating_add(1);
        delay_ms
    }

    /// The longest delay that could be drawn now, in milliseconds.
    #[must_use]
    pub fn span_ms(&self) -> u64 {
        let doublings = u32::from(self.failures).min(DOUBLINGS_MAX);
        (u64::from(self.base_ms) << doublings).min(u64::from(self.ceiling_ms))
    }

    /// Failures since the last success.
    #[must_use]
    pub fn failures(&self) -> u8 {
        self.failures
    }

    /// After a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A token bucket: `capacity` at once, then one each `refill_ms`.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    capacity: u32,
    refill_ms: u32,
    tokens: u32,
    refilled_mono_ms: u64,
}

impl TokenBucket {
    /// A full bucket. `refill_ms` of 0 counts as 1.
    #[must_use]
    pub fn new(capacity: u32, refill_ms: u32, now_mono_ms: u64) -> Self {
        Self { capacity, refill_ms: refill_ms.max(1), tokens: capacity, refilled_mono_ms: now_mono_ms }
    }

    /// Takes one token if there is one.
    pub fn take(&mut self, now_mono_ms: u64) -> bool {
        self.take_above(0, now_mono_ms)
    }

    /// Takes one token if more than `floor` are there.
    pub fn take_above(&mut self, floor: u32, now_mono_ms: u64) -> bool {
        self.refill(now_mono_ms);
        if self.tokens <= floor {
            return false;
        }
        self.tokens -= 1;
        true
    }

    /// Nobody has taken anything for so long that it may be forgotten.
    pub fn is_full(&mut self, now_mono_ms: u64) -> bool {
        self.refill(now_mono_ms);
        self.tokens == self.capacity
    }

    /// When the next token can be taken, on the monotonic clock in milliseconds; at once when one is there.
    #[must_use]
    pub fn ready_at_ms(&self) -> u64 {
        if self.tokens > 0 {
            self.refilled_mono_ms
        } else {
            self.refilled_mono_ms + u64::from(self.refill_ms)
        }
    }

    /// How long until a token is there, in milliseconds.
    #[must_use]
    pub fn wait_ms(&self, now_mono_ms: u64) -> u64 {
        self.ready_at_ms().saturating_sub(now_mono_ms)
    }

    fn refill(&mut self, now_mono_ms: u64) {
        let gained = now_mono_ms.saturating_sub(self.refilled_mono_ms) / u64::from(self.refill_ms);
        self.refilled_mono_ms += gained * u64::from(self.refill_ms);
        self.tokens = u32::try_from(u64::from(self.tokens) + gained).unwrap_or(u32::MAX).min(self.capacity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_ceiling_and_start_over() {
        let mut rng = Rng::new(1);
        let mut backoff = Backoff::new(500, 60_000);
        let spans: Vec<u64> = (0..9)
            .map(|_| {
                let span_ms = backoff.span_ms();
                assert!(backoff.next_delay_ms(&mut rng) <= span_ms);
                span_ms
            })
            .collect();
        assert_eq!(spans, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        backoff.reset();
        assert_eq!(backoff.span_ms(), 500);
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut rng = Rng::new(1);
        let mut backoff = Backoff::new(u32::MAX, u32::MAX);
        for _ in 0..1_000 {
            assert!(backoff.next_delay_ms(&mut rng) <= u64::from(u32::MAX));
        }
    }

    #[test]
    fn a_bucket_gives_its_capacity_then_its_rate() {
        let mut bucket = TokenBucket::new(3, 1_000, 10);
        assert_eq!((0..5).filter(|_| bucket.take(10)).count(), 3);
        assert_eq!(bucket.ready_at_ms(), 1_010);
        assert!(!bucket.take(1_009));
        assert!(bucket.take(1_010));
        assert_eq!((0..9).filter(|_| bucket.take(1_000_000)).count(), 3);
    }
}
