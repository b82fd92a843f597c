//! Proof that others can reach this node: several of them, in different networks, asked again and again.

use super::conditions::{Carrier, Missing, Way};
use crate::peer::PeerRef;
use crate::rng::Rng;

/// Networks that must have reached the node by a way; fewer only where fewer are known.
pub const CONFIRMING_NETWORKS: usize = 3;
/// What a check said counts for this long.
const FRESH_MS: u64 = 3 * 60 * 60_000;
/// A way that is confirmed is checked again this often, give or take a third.
const RECHECK_MS: u64 = 30 * 60_000;
/// While there is not enough to judge by, the next one is asked after about this.
const NEXT_MS: u64 = 800;
/// After a failure of a way that was confirmed.
const DOUBT_MS: u64 = 90_000;
/// When everybody known was asked and it still does not do: doubling up to [`RECHECK_MS`].
const AGAIN_MS: u64 = 60_000;
/// A check not answered by then is asked of somebody else; it counts neither way.
const ANSWER_MS_MAX: u64 = 20_000;
/// Results kept of a way, one a network.
const RESULTS_MAX: usize = 8;
/// Ways, checkers known.
const WAYS_MAX: usize = 8;
const CHECKERS_MAX: usize = 64;
/// A checker may ask for this much patience at most.
const RETRY_AFTER_MS_MAX: u32 = 60 * 60_000;

/// A node that may be asked to try and reach this one: a supernode, or any node that offers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checker {
    pub peer: PeerRef,
    pub network: u32,
}

#[derive(Debug, Clone, Copy)]
struct CheckResult {
    network: u32,
    at_ms: u64,
    reached: bool,
}

#[derive(Debug, Clone)]
struct WayState {
    way: Way,
    results: Vec<CheckResult>,
    asked: Option<(Checker, u64)>,
    next_ms: u64,
    fruitless: u32,
}

impl WayState {
    fn fresh(&self, reached: bool, now_mono_ms: u64) -> usize {
        let fresh = |result: &&CheckResult| {
            result.reached == reached && now_mono_ms < result.at_ms.saturating_add(FRESH_MS)
        };
        self.results.iter().filter(fresh).count()
    }

    /// Enough networks reached it, and more than twice as many as did not: one that lies about a failure
    /// changes nothing.
    fn is_confirmed(&self, wanted: usize, now_mono_ms: u64) -> bool {
        let reached = self.fresh(true, now_mono_ms);
        reached >= wanted && reached > 2 * self.fresh(false, now_mono_ms)
    }

    /// Several networks tried in vain, more than got through. Never on the word of one.
    fn is_refuted(&self, wanted: usize, now_mono_ms: u64) -> bool {
        let failed = self.fresh(false, now_mono_ms);
        failed >= wanted.max(2) && failed > self.fresh(true, now_mono_ms)
    }

    /// The newest word of each network, at most [`RESULTS_MAX`] of them.
    fn note(&mut self, result: CheckResult) {
        self.results.retain(|known| known.network != result.network);
        if self.results.len() >= RESULTS_MAX {
            let oldest = (0..self.results.len()).min_by_key(|&at| self.results[at].at_ms);
            if let Some(at) = oldest {
                self.results.remove(at);
            }
        }
        self.results.push(result);
    }

    /// When its network spoke last; networks never asked come first.
    fn last_ms(&self, network: u32) -> u64 {
        self.results.iter().find(|result| result.network == network).map_or(0, |result| result.at_ms + 1)
    }
}

/// All ways in.
#[derive(Debug, Clone, Default)]
pub(super) struct Reachability {
    ways: Vec<WayState>,
    checkers: Vec<(Checker, u64)>,
    /// Answers that nobody had asked for.
    pub(super) unasked: u64,
}

impl Reachability {
    /// The ways that are open now. What was known of others is forgotten.
    pub(super) fn set_ways(&mut self, ways: &[Way], rng: &mut Rng, now_mono_ms: u64) {
        self.ways.retain(|state| ways.contains(&state.way));
        for way in ways.iter().take(WAYS_MAX) {
            if !self.ways.iter().any(|state| state.way == *way) && self.ways.len() < WAYS_MAX {
                let next_ms = now_mono_ms + rng.below(NEXT_MS);
                let state = WayState { way: *way, results: Vec::new(), asked: None, next_ms, fruitless: 0 };
                self.ways.push(state);
            }
        }
    }

    /// The addresses changed: nothing that was said of the old ones counts.
    pub(super) fn forget_results(&mut self, rng: &mut Rng, now_mono_ms: u64) {
        let ways: Vec<Way> = self.ways.drain(..).map(|state| state.way).collect();
        self.set_ways(&ways, rng, now_mono_ms);
    }

    /// Who may be asked. Those known before keep the patience they asked for.
    pub(super) fn set_checkers(&mut self, checkers: &[Checker], now_mono_ms: u64) {
        let before = std::mem::take(&mut self.checkers);
        let not_before = |peer: PeerRef| {
            before.iter().find(|(known, _)| known.peer == peer).map_or(0, |(_, not_before_ms)| *not_before_ms)
        };
        for checker in checkers.iter().take(CHECKERS_MAX) {
            if !self.checkers.iter().any(|(known, _)| known.peer == checker.peer) {
                self.checkers.push((*checker, not_before(checker.peer)));
            }
        }
        let news = self
            .checkers
            .iter()
            .any(|(checker, _)| !before.iter().any(|(b, _)| b.network == checker.network));
        if news {
            let wanted = self.wanted();
            for state in self.ways.iter_mut().filter(|state| !state.is_confirmed(wanted, now_mono_ms)) {
                state.next_ms = state.next_ms.min(now_mono_ms + NEXT_MS);
                state.fruitless = 0;
            }
        }
    }

    /// Networks that must confirm a way.
    pub(super) fn wanted(&self) -> usize {
        self.networks().clamp(1, CONFIRMING_NETWORKS)
    }

    fn networks(&self) -> usize {
        let mut networks: Vec<u32> = self.checkers.iter().map(|(checker, _)| checker.network).collect();
        networks.sort_unstable();
        networks.dedup();
        networks.len()
    }

    /// Whom to ask about which way now. At most one question about a way at once.
    pub(super) fn poll(&mut self, rng: &mut Rng, now_mono_ms: u64) -> Option<(PeerRef, Way)> {
        for at in 0..self.ways.len() {
            if self.ways[at].asked.is_some_and(|(_, until_ms)| now_mono_ms >= until_ms) {
                self.ways[at].asked = None;
                self.ways[at].next_ms = now_mono_ms;
            }
            let state = &self.ways[at];
            if state.asked.is_some() || now_mono_ms < state.next_ms {
                continue;
            }
            let Some(checker) = self.pick(state, rng, now_mono_ms) else {
                self.ways[at].next_ms = now_mono_ms + rng.around(AGAIN_MS, 30);
                continue;
            };
            let way = self.ways[at].way;
            self.ways[at].asked = Some((checker, now_mono_ms + ANSWER_MS_MAX));
            return Some((checker.peer, way));
        }
        None
    }

    /// Somebody at random in a network that has said nothing of this way, else in the one that spoke longest ago.
    fn pick(&self, state: &WayState, rng: &mut Rng, now_mono_ms: u64) -> Option<Checker> {
        let free = self.checkers.iter().filter(|(_, not_before_ms)| now_mono_ms >= *not_before_ms);
        let ranked = free.map(|(checker, _)| (state.last_ms(checker.network), rng.next_u64(), *checker));
        ranked.min_by_key(|(last_ms, random, _)| (*last_ms, *random)).map(|(_, _, checker)| checker)
    }

    /// What a check said. Only answers to a question count.
    pub(super) fn checked(&mut self, by: PeerRef, way: Way, reached: bool, rng: &mut Rng, now_mono_ms: u64) {
        let wanted = self.wanted();
        let networks = self.networks();
        let asked = |state: &&mut WayState| {
            state.way == way && state.asked.is_some_and(|(checker, _)| checker.peer == by)
        };
        let Some(state) = self.ways.iter_mut().find(asked) else {
            self.unasked += 1;
            return;
        };
        let Some((checker, _)) = state.asked.take() else { return };
        let before = state.is_confirmed(wanted, now_mono_ms);
        state.note(CheckResult { network: checker.network, at_ms: now_mono_ms, reached });
        let confirmed = state.is_confirmed(wanted, now_mono_ms);
        let delay_ms = if confirmed && reached {
            state.fruitless = 0;
            rng.around(RECHECK_MS, 33)
        } else if before {
            rng.around(DOUBT_MS, 50)
        } else if state.results.len() < networks.min(wanted + 2) {
            rng.around(NEXT_MS, 50)
        } else {
            state.fruitless = state.fruitless.saturating_add(1);
            rng.around((AGAIN_MS << state.fruitless.min(6)).min(RECHECK_MS), 30)
        };
        state.next_ms = now_mono_ms + delay_ms;
    }

    /// A checker has no time. It is left alone that long, and another one is asked.
    pub(super) fn refused(&mut self, by: PeerRef, retry_after_ms: u32, rng: &mut Rng, now_mono_ms: u64) {
        let wait_ms = u64::from(retry_after_ms.min(RETRY_AFTER_MS_MAX));
        let until_ms = now_mono_ms + wait_ms + rng.below(wait_ms / 4 + 1_000);
        for (_, not_before_ms) in self.checkers.iter_mut().filter(|(checker, _)| checker.peer == by) {
            *not_before_ms = until_ms;
        }
        for state in &mut self.ways {
            if state.asked.is_some_and(|(checker, _)| checker.peer == by) {
                state.asked = None;
                state.next_ms = now_mono_ms + rng.around(NEXT_MS, 50);
            }
        }
    }

    pub(super) fn timeout_ms(&self) -> Option<u64> {
        let due = |state: &WayState| state.asked.map_or(state.next_ms, |(_, until_ms)| until_ms);
        self.ways.iter().map(due).min()
    }

    pub(super) fn confirmed(&self, now_mono_ms: u64) -> impl Iterator<Item = Way> {
        let wanted = self.wanted();
        self.ways.iter().filter(move |state| state.is_confirmed(wanted, now_mono_ms)).map(|state| state.way)
    }

    /// Ways that several networks tried in vain.
    pub(super) fn refuted(&self, now_mono_ms: u64) -> impl Iterator<Item = Way> {
        let wanted = self.wanted();
        self.ways.iter().filter(move |state| state.is_refuted(wanted, now_mono_ms)).map(|state| state.way)
    }

    /// What is missing before this node counts as reachable: by UDP in some family, since QUIC is what all speak.
    pub(super) fn missing(&self, now_mono_ms: u64) -> Option<Missing> {
        let wanted = self.wanted();
        let udp = || self.ways.iter().filter(|state| state.way.carrier == Carrier::Udp);
        if udp().any(|state| state.is_confirmed(wanted, now_mono_ms)) {
            return None;
        }
        let Some(best) = udp().max_by_key(|state| state.fresh(true, now_mono_ms)) else {
            return Some(Missing::NoWayIn);
        };
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        if udp().all(|state| state.is_refuted(wanted, now_mono_ms)) {
            let networks = count(best.fresh(false, now_mono_ms));
            return Some(Missing::Unreachable { way: best.way, networks });
        }
        let networks = count(best.fresh(true, now_mono_ms));
        Some(Missing::Unconfirmed { way: best.way, networks, wanted: count(wanted) })
    }

    /// When what counts now is too old to count.
    pub(super) fn stale_ms(&self, now_mono_ms: u64) -> Option<u64> {
        let ends = self.ways.iter().flat_map(|state| &state.results).map(|result| result.at_ms + FRESH_MS);
        ends.filter(|end_ms| *end_ms > now_mono_ms).min()
    }
}
