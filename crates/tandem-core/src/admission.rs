//! What a supernode sheds first when it has too much to do: checks, search and presence, then signalling, then new
//! calls; calls in progress last.

use crate::backoff::TokenBucket;
use crate::rng::Rng;

/// Kinds of work, the first to be shed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Trying to reach a candidate.
    Check,
    /// Look-ups, lists of supernodes, notices of reserves, questions for the load.
    Search,
    /// Is that device reserved here?
    Presence,
    /// New reservations, publications.
    Signalling,
    /// Grants for new calls.
    Call,
    /// Grants for a call that has one here, and the place of a device that is in a call.
    CallInProgress,
}

impl Work {
    /// The share of the capacity, in per cent, that must be free for this work to be taken on.
    fn floor_percent(self) -> u32 {
        match self {
            Self::Check => 60,
            Self::Search => 50,
            Self::Presence => 40,
            Self::Signalling => 20,
            Self::Call => 5,
            Self::CallInProgress => 0,
        }
    }
}

/// The gate through which all requests pass.
#[derive(Debug, Clone)]
pub struct Admission {
    requests: TokenBucket,
    per_second: u32,
    burst: u32,
    machine_load_percent: u32,
    /// Refusals lately, halved every [`REFUSALS_HALVE_MS`].
    refused: u32,
    halved_mono_ms: u64,
}

impl Admission {
    /// `per_second` requests in the long run, four times as many at once.
    #[must_use]
    pub fn new(per_second: u32, now_mono_ms: u64) -> Self {
        let per_second = per_second.clamp(1, 1_000);
        let burst = per_second * 4;
        Self {
            requests: TokenBucket::new(burst, 1_000 / per_second, now_mono_ms),
            per_second,
            burst,
            machine_load_percent: 0,
            refused: 0,
            halved_mono_ms: now_mono_ms,
        }
    }

    /// How busy the machine is (processors, or bandwidth within its owner's caps: whichever is nearer to its end).
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
        Err(u32::try_from(rng.around(self.retry_ms(now_mono_ms), 60)).unwrap_or(u32::MAX))
    }

    /// Those who are refused must not come back faster than they could be served: the more there are, the later.
    fn retry_ms(&mut self, now_mono_ms: u64) -> u64 {
        let halvings = now_mono_ms.saturating_sub(self.halved_mono_ms) / REFUSALS_HALVE_MS;
        self.refused = self.refused.checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(0);
        self.halved_mono_ms += halvings * REFUSALS_HALVE_MS;
        self.refused = self.refused.saturating_add(1);
        let serving_them_ms = u64::from(self.refused) * 1_000 / u64::from(self.per_second);
        serving_them_ms.clamp(RETRY_MS, RETRY_MS_MAX)
    }
}

/// Refused work should come back after about this long, when few are refused; and when very many are.
const RETRY_MS: u64 = 4_000;
const RETRY_MS_MAX: u64 = 2 * 60_000;
const REFUSALS_HALVE_MS: u64 = 8_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_sheds_search_first_and_calls_last() {
        let mut rng = Rng::new(1);
        let mut admission = Admission::new(100, 0);
        let mut admitted = |work| (0..1_000).filter(|_| admission.admit(work, &mut rng, 0).is_ok()).count();
        assert_eq!(admitted(Work::Check), 160);
        assert_eq!(admitted(Work::Search), 40);
        assert_eq!(admitted(Work::Presence), 40);
        assert_eq!(admitted(Work::Search), 0);
        assert_eq!(admitted(Work::Signalling), 80);
        assert_eq!(admitted(Work::Check), 0);
        assert_eq!(admitted(Work::Call), 60);
        assert_eq!(admitted(Work::Signalling), 0);
        assert_eq!(admitted(Work::CallInProgress), 20);
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
        assert_eq!(shed_at(Work::Check), Some(89));
        assert_eq!(shed_at(Work::Search), Some(91));
        assert_eq!(shed_at(Work::Presence), Some(93));
        assert_eq!(shed_at(Work::Signalling), Some(97));
        assert_eq!(shed_at(Work::Call), Some(100));
        assert_eq!(shed_at(Work::CallInProgress), None);
    }

    #[test]
    fn the_more_are_refused_the_later_they_come_back() {
        let mut rng = Rng::new(1);
        let mut admission = Admission::new(100, 0);
        let mut waits_ms: Vec<u32> =
            (0..10_000).filter_map(|_| admission.admit(Work::Search, &mut rng, 0).err()).collect();
        assert!(waits_ms[..300].iter().all(|wait_ms| (1_600..=6_400).contains(wait_ms)));
        waits_ms.sort_unstable();
        let back_in_a_second = |from_ms: u32| {
            waits_ms.iter().filter(|wait_ms| (from_ms..from_ms + 1_000).contains(*wait_ms)).count()
        };
        let most = (0..160).map(|second| back_in_a_second(second * 1_000)).max();
        println!("of {} refused, {most:?} come back in the worst second", waits_ms.len());
        assert!(most.is_some_and(|most| most < 300), "{most:?} of {} in one second", waits_ms.len());
        let late_ms = 200_000;
        let calm = (0..1_000).filter_map(|_| admission.admit(Work::Search, &mut rng, late_ms).err()).next();
        assert!(calm.is_some_and(|wait_ms| wait_ms <= 6_400), "{calm:?}");
    }
}
