//! What a supernode sheds first when it has too much to do: search and presence, then signalling, calls last.

use crate::backoff::TokenBucket;
use crate::rng::Rng;

/// Kinds of work, the first to be shed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Look-ups, lists of supernodes.
    Search,
    /// Is that device reserved here?
    Presence,
    /// New reservations, publications.
    Signalling,
    /// Grants, and whatever a call needs to go on.
    Call,
}

impl Work {
    /// The share of the capacity, in per cent, that must be free for this work to be taken on.
    fn floor_percent(self) -> u32 {
        match self {
            Self::Search => 50,
            Self::Presence => 40,
            Self::Signalling => 20,
            Self::Call => 0,
        }
    }
}

/// The gate through which all requests pass.
#[derive(Debug, Clone)]
pub struct Admission {
    requests: TokenBucket,
    burst: u32,
    machine_load_percent: u32,
}

impl Admission {
    /// `per_second` requests in the long run, four times as many at once.
    #[must_use]
    pub fn new(per_second: u32, now_mono_ms: u64) -> Self {
        let per_second = per_second.clamp(1, 1_000);
        let burst = per_second * 4;
        Self {
            requests: TokenBucket::new(burst, 1_000 / per_second, now_mono_ms),
            burst,
            machine_load_percent: 0,
        }
    }

    /// How busy the machine is (CPU or bandwidth within its owner's caps, whichever is nearer to its end).
    pub fn set_machine_load(&mut self, percent: u32) {
        self.machine_load_percent = percent.min(100);
    }

    /// Takes the work on, or says in how many milliseconds to ask again (spread, so that nobody comes back together).
    ///
    /// # Errors
    /// The time to wait.
    pub fn admit(&mut self, work: Work, rng: &mut Rng, now_mono_ms: u64) -> Result<(), u32> {
        let free_percent = 100 - self.machine_load_percent;
        // A machine at its limit sheds in the same order as a flood of requests does.
        let machine_allows = free_percent.saturating_mul(5) >= work.floor_percent();
        let floor = self.burst * work.floor_percent() / 100;
        if machine_allows && self.requests.take_above(floor, now_mono_ms) {
            return Ok(());
        }
        Err(u32::try_from(rng.around(RETRY_MS, 60)).unwrap_or(u32::MAX))
    }
}

/// Refused work should come back after about this long.
const RETRY_MS: u64 = 4_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_sheds_search_first_and_calls_last() {
        let mut rng = Rng::new(1);
        let mut admission = Admission::new(100, 0);
        let mut admitted = |work| (0..1_000).filter(|_| admission.admit(work, &mut rng, 0).is_ok()).count();
        assert_eq!(admitted(Work::Search), 200);
        assert_eq!(admitted(Work::Presence), 40);
        assert_eq!(admitted(Work::Search), 0);
        assert_eq!(admitted(Work::Signalling), 80);
        assert_eq!(admitted(Work::Call), 80);
    }

    #[test]
    fn a_busy_machine_sheds_in_the_same_order() {
        let mut rng = Rng::new(1);
        let mut shed_at = |work| {
            (0..=100).find(|&percent| {
                let mut admission = Admission::new(100, 0);
                admission.set_machine_load(percent);
                admission.admit(work, &mut rng, 0).is_err()
            })
        };
        assert_eq!(shed_at(Work::Search), Some(91));
        assert_eq!(shed_at(Work::Presence), Some(93));
        assert_eq!(shed_at(Work::Signalling), Some(97));
        assert_eq!(shed_at(Work::Call), None);
    }
}
