//! How often each network may ask for something that costs more than an answer.

use std::collections::BTreeMap;

use crate::backoff::TokenBucket;

/// Networks counted at once. While so many are, further ones wait.
const COUNTED_MAX: usize = 4_096;

/// One bucket for each /24 or /48, for as long as it is not full again.
#[derive(Debug)]
pub struct Rates {
    burst: u32,
    refill_ms: u32,
    buckets: BTreeMap<u64, TokenBucket>,
}

impl Rates {
    /// So many at once, then one each `refill_ms`.
    #[must_use]
    pub fn new(burst: u32, refill_ms: u32) -> Self {
        Self { burst, refill_ms, buckets: BTreeMap::new() }
    }

    /// Takes one. Askers whose address is not known share a bucket.
    ///
    /// # Errors
    /// The milliseconds to wait.
    pub fn take(&mut self, subnet: Option<u64>, now_mono_ms: u64) -> Result<(), u64> {
        let subnet = subnet.unwrap_or(u64::MAX);
        if self.buckets.len() >= COUNTED_MAX && !self.buckets.contains_key(&subnet) {
            self.forget_full(now_mono_ms);
            if self.buckets.len() >= COUNTED_MAX {
                return Err(u64::from(self.refill_ms));
            }
        }
        let (burst, refill_ms) = (self.burst, self.refill_ms);
        let new = || TokenBucket::new(burst, refill_ms, now_mono_ms);
        let bucket = self.buckets.entry(subnet).or_insert_with(new);
        if bucket.take(now_mono_ms) { Ok(()) } else { Err(bucket.wait_ms(now_mono_ms)) }
    }

    /// Forgets networks that have asked for nothing lately.
    pub fn forget_full(&mut self, now_mono_ms: u64) {
        self.buckets.retain(|_, bucket| !bucket.is_full(now_mono_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_waits_and_others_do_not() {
        let mut rates = Rates::new(2, 1_000);
        assert_eq!((rates.take(Some(1), 0), rates.take(Some(1), 0)), (Ok(()), Ok(())));
        assert_eq!((rates.take(Some(1), 400), rates.take(Some(2), 400)), (Err(600), Ok(())));
        assert_eq!(rates.take(Some(1), 1_000), Ok(()));
    }

    #[test]
    fn a_flood_from_everywhere_is_bounded_and_passes() {
        let mut rates = Rates::new(1, 1_000);
        let taken = (0..100_000).filter(|&subnet| rates.take(Some(subnet), 0).is_ok()).count();
        assert_eq!((taken, rates.buckets.len()), (COUNTED_MAX, COUNTED_MAX));
        assert_eq!(rates.take(Some(200_000), 1_000), Ok(()));
        assert_eq!(rates.buckets.len(), 1);
    }
}
