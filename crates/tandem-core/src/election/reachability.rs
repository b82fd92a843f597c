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
/// A checker that could not be asked about a way is asked again after about this, twice doubled each time up to
/// [`RECHECK_MS`] …
const SILENT_MS: u64 = 5_000;
/// … and after so many times in a row is taken for gone: its network is not waited for any more.
const SILENCES_MAX: u8 = 2;
/// A way that enough had confirmed stays so for this long when more are wanted only because more are known now: they
/// have that long to say their word.
const GRACE_MS: u64 = 60_000;

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

/// A checker that could not be asked about a way, or gave no answer.
#[derive(Debug, Clone, Copy)]
struct Silence {
    peer: PeerRef,
    /// In a row.
    times: u8,
    not_before_ms: u64,
}

/// One that may be asked, and who is not to be asked before that moment.
#[derive(Debug, Clone, Copy)]
struct Known {
    checker: Checker,
    not_before_ms: u64,
}

#[derive(Debug, Clone)]
struct WayState {
    way: Way,
    results: Vec<CheckResult>,
    asked: Option<(Checker, u64)>,
    next_ms: u64,
    fruitless: u32,
    /// Of the checkers known, at most.
    silences: Vec<Silence>,
    /// Until then it counts as confirmed although more are wanted by now.
    grace_ms: u64,
}

impl WayState {
    fn fresh(&self, reached: bool, now_mono_ms: u64) -> usize {
        let fresh = |result: &&CheckResult| {
            result.reached == reached && now_mono_ms < result.at_ms.saturating_add(FRESH_MS)
        };
        self.results.iter().filter(fresh).count()
    }

    fn new(way: Way, next_ms: u64) -> Self {
        Self {
            way,
            results: Vec::new(),
            asked: None,
            next_ms,
            fruitless: 0,
            silences: Vec::new(),
            grace_ms: 0,
        }
    }

    /// Enough networks reached it, and more than twice as many as did not: one that lies about a failure
    /// changes nothing.
    fn is_proved(&self, wanted: usize, now_mono_ms: u64) -> bool {
        let reached = self.fresh(true, now_mono_ms);
        reached >= wanted && reached > 2 * self.fresh(false, now_mono_ms)
    }

    /// It is proved, or was until those came whose word is still missing.
    fn is_confirmed(&self, wanted: usize, now_mono_ms: u64) -> bool {
        let wanted = if now_mono_ms < self.grace_ms { 1 } else { wanted };
        self.is_proved(wanted, now_mono_ms)
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

    /// It could not be asked, or did not answer.
    fn note_silence(&mut self, peer: PeerRef, rng: &mut Rng, now_mono_ms: u64) {
        let before = self.silences.iter().find(|silence| silence.peer == peer).map_or(0, |it| it.times);
        self.silences.retain(|silence| silence.peer != peer);
        let wait_ms = (SILENT_MS << (2 * before.min(5))).min(RECHECK_MS);
        let not_before_ms = now_mono_ms + rng.around(wait_ms, 30);
        self.silences.push(Silence { peer, times: before.saturating_add(1), not_before_ms });
    }

    fn silence(&self, peer: PeerRef) -> Option<&Silence> {
        self.silences.iter().find(|silence| silence.peer == peer)
    }

    fn is_gone(&self, peer: PeerRef) -> bool {
        self.silence(peer).is_some_and(|silence| silence.times >= SILENCES_MAX)
    }

    /// When that one may be asked about this way.
    fn free_ms(&self, known: &Known) -> u64 {
        let silent_ms = self.silence(known.checker.peer).map_or(0, |silence| silence.not_before_ms);
        silent_ms.max(known.not_before_ms)
    }

    /// Its network said something of this way that still counts.
    fn has_spoken(&self, network: u32, now_mono_ms: u64) -> bool {
        let fresh = |result: &CheckResult| now_mono_ms < result.at_ms.saturating_add(FRESH_MS);
        self.results.iter().any(|result| result.network == network && fresh(result))
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
    checkers: Vec<Known>,
    /// Answers that nobody had asked for.
    pub(super) unasked: u64,
}

impl Reachability {
    /// The ways that are open now. What was known of others is forgotten.
    pub(super) fn set_ways(&mut self, ways: &[Way], rng: &mut Rng, now_mono_ms: u64) {
        self.ways.retain(|state| ways.contains(&state.way));
        for way in ways.iter().take(WAYS_MAX) {
            if !self.ways.iter().any(|state| state.way == *way) && self.ways.len() < WAYS_MAX {
                self.ways.push(WayState::new(*way, now_mono_ms + rng.below(NEXT_MS)));
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
        let proved = |state: &&WayState| state.is_proved(self.wanted(state), now_mono_ms);
        let proved: Vec<Way> = self.ways.iter().filter(proved).map(|state| state.way).collect();
        let before = std::mem::take(&mut self.checkers);
        for checker in checkers.iter().take(CHECKERS_MAX) {
            if !self.checkers.iter().any(|known| known.checker.peer == checker.peer) {
                let known = before.iter().find(|known| known.checker.peer == checker.peer);
                let not_before_ms = known.map_or(0, |known| known.not_before_ms);
                self.checkers.push(Known { checker: *checker, not_before_ms });
            }
        }
        let known = &self.checkers;
        for state in &mut self.ways {
            state.silences.retain(|silence| known.iter().any(|it| it.checker.peer == silence.peer));
        }
        let network = |known: &Known| known.checker.network;
        if known.iter().any(|it| !before.iter().any(|was| network(was) == network(it))) {
            self.hear_news(&proved, now_mono_ms);
        }
    }

    /// There are networks that were not known before: what is not proved is worth another question. `before`: what was.
    fn hear_news(&mut self, before: &[Way], now_mono_ms: u64) {
        for at in 0..self.ways.len() {
            let wanted = self.wanted(&self.ways[at]);
            let state = &mut self.ways[at];
            if state.is_proved(wanted, now_mono_ms) {
                continue;
            }
            state.next_ms = state.next_ms.min(now_mono_ms + NEXT_MS);
            state.fruitless = 0;
            // Once only: however many more are told of, none of them puts it off.
            if before.contains(&state.way) {
                state.grace_ms = now_mono_ms + GRACE_MS;
            }
        }
    }

    /// Networks that must confirm a way: of those whose checkers are there.
    fn wanted(&self, state: &WayState) -> usize {
        let there = self.checkers.iter().filter(|known| !state.is_gone(known.checker.peer));
        let mut networks: Vec<u32> = there.map(|known| known.checker.network).collect();
        networks.sort_unstable();
        networks.dedup();
        networks.len().clamp(1, CONFIRMING_NETWORKS)
    }

    /// Whom to ask about which way now. At most one question about a way at once.
    pub(super) fn poll(&mut self, rng: &mut Rng, now_mono_ms: u64) -> Option<(PeerRef, Way)> {
        for at in 0..self.ways.len() {
            if let Some((silent, _)) = self.ways[at].asked.take_if(|(_, until_ms)| now_mono_ms >= *until_ms) {
                self.ways[at].note_silence(silent.peer, rng, now_mono_ms);
                self.ways[at].next_ms = now_mono_ms;
            }
            let state = &self.ways[at];
            if state.asked.is_some() || now_mono_ms < state.next_ms {
                continue;
            }
            match self.pick(state, rng, now_mono_ms) {
                Ok(checker) => {
                    let way = state.way;
                    self.ways[at].asked = Some((checker, now_mono_ms + ANSWER_MS_MAX));
                    return Some((checker.peer, way));
                }
                Err(later_ms) => self.ways[at].next_ms = later_ms,
            }
        }
        None
    }

    /// Somebody at random in a network that has said nothing of this way, else in the one that spoke longest ago; and
    /// first where fewest put this node off, so that many who never answer, in one network, delay it once.
    /// Otherwise when to look again: nobody may be asked, or one whose word is missing will be free soon.
    fn pick(&self, state: &WayState, rng: &mut Rng, now_mono_ms: u64) -> Result<Checker, u64> {
        let soonest_ms = self.unheard(state, now_mono_ms).map(|known| state.free_ms(known)).min();
        if let Some(soonest_ms) = soonest_ms
            && !state.is_proved(self.wanted(state), now_mono_ms)
            && (now_mono_ms + 1..now_mono_ms + AGAIN_MS).contains(&soonest_ms)
        {
            return Err(soonest_ms);
        }
        let free = self.checkers.iter().filter(|known| now_mono_ms >= state.free_ms(known));
        let ranked = free
            .map(|known| {
                let network = known.checker.network;
                ((state.last_ms(network), self.puts_off(state, network), rng.next_u64()), known.checker)
            })
            .min_by_key(|(rank, _)| *rank);
        ranked.map(|(_, checker)| checker).ok_or_else(|| {
            let free_ms = self.checkers.iter().map(|known| state.free_ms(known)).min();
            let again_ms = now_mono_ms + rng.around(AGAIN_MS, 30);
            free_ms.map_or(again_ms, |free_ms| free_ms.min(again_ms))
        })
    }

    /// How many of that network did not answer about this way, or asked for patience.
    fn puts_off(&self, state: &WayState, network: u32) -> usize {
        let put_off = |known: &&Known| {
            known.checker.network == network
                && (known.not_before_ms > 0 || state.silence(known.checker.peer).is_some())
        };
        self.checkers.iter().filter(put_off).count()
    }

    /// Those that are there, in networks that have said nothing of this way.
    fn unheard(&self, state: &WayState, now_mono_ms: u64) -> impl Iterator<Item = &Known> {
        self.checkers.iter().filter(move |known| {
            !state.is_gone(known.checker.peer) && !state.has_spoken(known.checker.network, now_mono_ms)
        })
    }

    /// What a check said. Only answers to a question count.
    pub(super) fn checked(&mut self, by: PeerRef, way: Way, reached: bool, rng: &mut Rng, now_mono_ms: u64) {
        let Some((at, checker)) = self.answered(by, way) else {
            self.unasked += 1;
            return;
        };
        let before = self.ways[at].is_confirmed(self.wanted(&self.ways[at]), now_mono_ms);
        self.ways[at].silences.retain(|silence| silence.peer != by);
        self.ways[at].note(CheckResult { network: checker.network, at_ms: now_mono_ms, reached });
        let wanted = self.wanted(&self.ways[at]);
        let soon = |known: &Known| self.ways[at].free_ms(known) < now_mono_ms + AGAIN_MS;
        let more = self.unheard(&self.ways[at], now_mono_ms).any(soon);
        let state = &mut self.ways[at];
        let delay_ms = if state.is_proved(wanted, now_mono_ms) && reached {
            state.fruitless = 0;
            rng.around(RECHECK_MS, 33)
        } else if before && !reached {
            rng.around(DOUBT_MS, 50)
        } else if more && state.results.len() < wanted + 2 {
            rng.around(NEXT_MS, 50)
        } else {
            state.fruitless = state.fruitless.saturating_add(1);
            rng.around((AGAIN_MS << state.fruitless.min(6)).min(RECHECK_MS), 30)
        };
        state.next_ms = now_mono_ms + delay_ms;
    }

    /// A checker has no time. It is left alone that long, and another one is asked. What it was asked about other ways
    /// it may still answer.
    pub(super) fn refused(
        &mut self,
        by: PeerRef,
        way: Way,
        retry_after_ms: u32,
        rng: &mut Rng,
        now_mono_ms: u64,
    ) {
        let wait_ms = u64::from(retry_after_ms.min(RETRY_AFTER_MS_MAX));
        let until_ms = now_mono_ms + wait_ms + rng.below(wait_ms / 4 + 1_000);
        for known in self.checkers.iter_mut().filter(|known| known.checker.peer == by) {
            known.not_before_ms = until_ms;
        }
        if let Some((at, _)) = self.answered(by, way) {
            self.ways[at].next_ms = now_mono_ms + rng.around(NEXT_MS, 50);
        }
    }

    /// A checker could not be asked about that way. That says nothing of the way, and nothing of other ways.
    pub(super) fn not_asked(&mut self, by: PeerRef, way: Way, rng: &mut Rng, now_mono_ms: u64) {
        if let Some((at, _)) = self.answered(by, way) {
            self.ways[at].note_silence(by, rng, now_mono_ms);
            self.ways[at].next_ms = now_mono_ms + rng.around(NEXT_MS, 50);
        }
    }

    /// The way that this one was asked about; it is asked no longer.
    fn answered(&mut self, by: PeerRef, way: Way) -> Option<(usize, Checker)> {
        let at = self.ways.iter().position(|state| state.way == way)?;
        let (checker, _) = self.ways[at].asked.take_if(|(checker, _)| checker.peer == by)?;
        Some((at, checker))
    }

    pub(super) fn timeout_ms(&self) -> Option<u64> {
        let due = |state: &WayState| state.asked.map_or(state.next_ms, |(_, until_ms)| until_ms);
        self.ways.iter().map(due).min()
    }

    pub(super) fn confirmed(&self, now_mono_ms: u64) -> impl Iterator<Item = Way> {
        let confirmed = move |state: &&WayState| state.is_confirmed(self.wanted(state), now_mono_ms);
        self.ways.iter().filter(confirmed).map(|state| state.way)
    }

    /// Ways that several networks tried in vain.
    pub(super) fn refuted(&self, now_mono_ms: u64) -> impl Iterator<Item = Way> {
        let refuted = move |state: &&WayState| state.is_refuted(self.wanted(state), now_mono_ms);
        self.ways.iter().filter(refuted).map(|state| state.way)
    }

    /// What is missing before this node counts as reachable: by UDP in some family, since QUIC is what all speak.
    pub(super) fn missing(&self, now_mono_ms: u64) -> Option<Missing> {
        let udp = || self.ways.iter().filter(|state| state.way.carrier == Carrier::Udp);
        if udp().any(|state| state.is_confirmed(self.wanted(state), now_mono_ms)) {
            return None;
        }
        let Some(best) = udp().max_by_key(|state| state.fresh(true, now_mono_ms)) else {
            return Some(Missing::NoWayIn);
        };
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        if udp().all(|state| state.is_refuted(self.wanted(state), now_mono_ms)) {
            let networks = count(best.fresh(false, now_mono_ms));
            return Some(Missing::Unreachable { way: best.way, networks });
        }
        let networks = count(best.fresh(true, now_mono_ms));
        Some(Missing::Unconfirmed { way: best.way, networks, wanted: count(self.wanted(best)) })
    }

    /// When what counts now is too old to count.
    pub(super) fn stale_ms(&self, now_mono_ms: u64) -> Option<u64> {
        let ends = self.ways.iter().flat_map(|state| &state.results).map(|result| result.at_ms + FRESH_MS);
        let ends = ends.chain(self.ways.iter().map(|state| state.grace_ms));
        ends.filter(|end_ms| *end_ms > now_mono_ms).min()
    }
}
