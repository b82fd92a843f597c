//! Looking for homes: whom to try, when, and how often at most.

use super::link::{HEDGE_MS, Link, LinkState};
use super::table::{Choice, Release};
use super::{COMMANDS_MAX, Command, HOMES, Homes, LINKS_MAX};
use crate::backoff::{Backoff, TokenBucket};
use crate::dialing::{Contacts, HOMES_CONTACTS_A_MINUTE};
use crate::peer::PeerRef;
use crate::rng::Rng;
use crate::time::Now;

/// Attempts: this many at once, then one each `BUDGET_REFILL_MS`, whatever happens.
const BUDGET: u32 = 10;
const BUDGET_REFILL_MS: u32 = 4_000;
/// After so many different ones in a minute, others are tried with about this between them: the rest must
/// do until the minute ends, and those who refuse name others.
const CONTACTS_AT_WILL: usize = 6;
const CONTACTS_APART_MS: u64 = 4_000;
/// A single lost home is replaced within this time, evenly spread.
pub(super) const LOSS_JITTER_MS: u64 = 500;
/// After a refusal no wait is longer than this, since somebody is there, and others may have room; nor is any for a while
/// after a beginning, a loss or news. (The budget holds.)
const EAGER_MS_MAX: u64 = 10_000;
/// … the shorter where there is no home at all: what is kept apart then is how many different ones are contacted.
const HOMELESS_MS_MAX: u64 = 3_000;
/// With a home, one's own line works: those that failed are gone, and others may not be.
const LACKING_MS_MAX: u64 = 30_000;
/// What is known of loads is news for this long.
const LOADS_NEW_MS: u64 = 60_000;
/// Two homes may share a network only after we had this long to hear of other networks.
const SHARE_AFTER_MS: u64 = 1_500;
/// Below this many known supernodes a leaf asks for more.
const KNOWN_ENOUGH: usize = 8;
/// Spacing of `AskSupernodes`: doubling from here while nothing new comes …
const ASK_FIRST_MS: u32 = 2_000;
/// … up to here …
const ASK_SPAN_MS_MAX: u32 = 600_000;
/// … but for this long after a beginning, a loss or news …
const ASK_EAGER_MS: u64 = 60_000;
/// … no more than this, while homes are missing …
const ASK_EAGER_SPAN_MS: u32 = 3_000;
/// … and later, while homes are missing, this.
const ASK_LACKING_SPAN_MS: u32 = 60_000;
/// … and this often when enough are known, so that the list does not grow stale.
const ASK_REFRESH_MS: u64 = 60 * 60_000;
/// Between attempts to find a home in a network of its own, when two homes share one.
const SPREAD_EVERY_MS: u64 = 30_000;
/// After so many failures and refusals in a row, whoever has room will do, whatever it runs: the few who run another
/// release may all be full.
const CHOOSY_FAILURES: u8 = 2;
/// Between attempts to replace one of three homes that run the same release, give or take a half: a new release must
/// not draw everybody to the few who have it.
const DIVERSIFY_MS: u64 = 60 * 60_000;

/// The state of the search.
#[derive(Debug, Clone)]
pub(super) struct Recruiting {
    /// No attempt before this moment.
    pub(super) attempt_ms: u64,
    backoff: Backoff,
    /// What is known of loads was made older last.
    aged_ms: u64,
    /// The last failure that counted.
    failed_ms: u64,
    budget: TokenBucket,
    contacted: Contacts<PeerRef, HOMES_CONTACTS_A_MINUTE>,
    /// Time between contacts, once many were made.
    apart_ms: u64,
    /// Homes whose connections broke a moment ago, at most [`HOMES`]: they keep a place for us for a while.
    resuming: Vec<PeerRef>,
    /// When homes may share a network, if there are too few networks.
    share_ms: u64,
    /// No attempt to spread homes that share a network before this moment.
    spread_ms: u64,
    /// No attempt to have homes of different releases before this moment.
    diversify_ms: Option<u64>,
    ask_ms: u64,
    ask_span_ms: u32,
    /// Until then it asks often while homes are missing: a young network grows by the second.
    eager_until_ms: u64,
    asked_ms: Option<u64>,
    /// When [`Homes::recruit`] may find something to do, if nothing else happens.
    pub(super) wake_ms: Option<u64>,
}

impl Recruiting {
    pub(super) fn new(now_mono_ms: u64) -> Self {
        Self {
            attempt_ms: now_mono_ms,
            backoff: Backoff::new(500, 60_000),
            aged_ms: now_mono_ms,
            failed_ms: 0,
            budget: TokenBucket::new(BUDGET, BUDGET_REFILL_MS, now_mono_ms),
            contacted: Contacts::default(),
            apart_ms: CONTACTS_APART_MS,
            resuming: Vec::new(),
            share_ms: now_mono_ms + SHARE_AFTER_MS,
            spread_ms: now_mono_ms,
            diversify_ms: None,
            ask_ms: now_mono_ms,
            ask_span_ms: ASK_FIRST_MS,
            eager_until_ms: now_mono_ms + ASK_EAGER_MS,
            asked_ms: None,
            wake_ms: None,
        }
    }

    /// Something new was heard: asking again is worth while.
    pub(super) fn heard_news(&mut self, now_mono_ms: u64) {
        self.ask_span_ms = ASK_FIRST_MS;
        self.eager_until_ms = now_mono_ms + ASK_EAGER_MS;
    }

    /// The connection to this home broke: it is tried again before others are.
    pub(super) fn resume(&mut self, peer: PeerRef) {
        if self.resuming.len() < HOMES && !self.resuming.contains(&peer) {
            self.resuming.push(peer);
        }
    }

    pub(super) fn forget_resuming(&mut self) {
        self.resuming = Vec::new();
    }

    /// No question for other supernodes before `at_ms`.
    pub(super) fn ask_later(&mut self, at_ms: u64) {
        self.ask_ms = self.ask_ms.max(at_ms);
    }

    /// Something failed that began at `since_ms`: the delay before the next attempt. Attempts run side by side, and those
    /// that began before the last failure tell nothing new: only one of them lengthens the back-off.
    pub(super) fn failed(&mut self, since_ms: u64, wait_ms_max: u64, rng: &mut Rng, now_mono_ms: u64) -> u64 {
        if since_ms < self.failed_ms {
            return 0;
        }
        self.failed_ms = now_mono_ms;
        let delay_ms = self.backoff.next_delay_ms(rng);
        if delay_ms > wait_ms_max { rng.below(wait_ms_max) } else { delay_ms }
    }

    pub(super) fn succeeded(&mut self) {
        self.backoff.reset();
        self.failed_ms = 0;
    }

    /// No attempt for `delay_ms`.
    pub(super) fn hold_back(&mut self, delay_ms: u64, now_mono_ms: u64) {
        self.attempt_ms = self.attempt_ms.max(now_mono_ms + delay_ms);
    }
}

impl Homes {
    /// Starts as many attempts as are wanted and allowed now, and notes when to look again.
    pub(super) fn recruit(&mut self, now: Now) {
        self.recruiting.contacted.forget_old(now.mono_ms);
        self.plan_to_diversify(now.mono_ms);
        self.recruiting.wake_ms = loop {
            if self.links.len() >= LINKS_MAX || self.commands.len() >= COMMANDS_MAX {
                break None;
            }
            if self.wanted(now.mono_ms) == 0 {
                break self.wanted_later_ms(now.mono_ms);
            }
            self.age_loads(now.mono_ms);
            let peer = match self.candidate(now.mono_ms) {
                Ok(peer) => peer,
                Err(later_ms) => break later_ms,
            };
            if !self.recruiting.budget.take(now.mono_ms) {
                break Some(self.recruiting.budget.ready_at_ms());
            }
            self.attempt(peer, now);
        };
    }

    fn age_loads(&mut self, now_mono_ms: u64) {
        if now_mono_ms >= self.recruiting.aged_ms + LOADS_NEW_MS {
            self.recruiting.aged_ms = now_mono_ms;
            self.table.age_loads();
        }
    }

    fn attempt(&mut self, peer: PeerRef, now: Now) {
        if self.settled() >= HOMES {
            self.recruiting.spread_ms = now.mono_ms + SPREAD_EVERY_MS;
            self.recruiting.diversify_ms = None;
        }
        self.recruiting.contacted.note(peer, now.mono_ms);
        self.recruiting.apart_ms = self.rng.around(CONTACTS_APART_MS, 60);
        self.recruiting.resuming.retain(|resuming| *resuming != peer);
        let at = self.links.partition_point(|link| link.peer < peer);
        self.links.reserve_exact(1);
        self.links.insert(at, Link::new(peer, now.mono_ms));
        self.push(Command::Connect(peer));
    }

    /// Attempts still to be started.
    fn wanted(&self, now_mono_ms: u64) -> usize {
        let settled = self.settled();
        let fresh = self.links.iter().filter(|link| link.in_progress() && !link.is_slow(now_mono_ms)).count();
        let spread = settled == HOMES
            && (now_mono_ms >= self.recruiting.spread_ms && self.shares_network()
                || self.recruiting.diversify_ms.is_some_and(|at_ms| now_mono_ms >= at_ms));
        let goal = if spread { HOMES + 1 } else { HOMES };
        goal.saturating_sub(settled + fresh)
    }

    /// When more may be wanted with nothing else happening: an attempt becomes slow, or homes are to be spread.
    fn wanted_later_ms(&self, now_mono_ms: u64) -> Option<u64> {
        if self.settled() < HOMES {
            let fresh = self.links.iter().filter(|link| link.in_progress() && !link.is_slow(now_mono_ms));
            return fresh.map(|link| link.since_ms + HEDGE_MS).min();
        }
        let later = |at_ms: &u64| *at_ms > now_mono_ms;
        let spread = Some(self.recruiting.spread_ms).filter(|_| self.shares_network()).filter(later);
        let diversify = self.recruiting.diversify_ms.filter(later);
        spread.into_iter().chain(diversify).min()
    }

    /// Whom to try now, or when to look again.
    fn candidate(&mut self, now_mono_ms: u64) -> Result<PeerRef, Option<u64>> {
        if now_mono_ms < self.recruiting.attempt_ms {
            return Err(Some(self.recruiting.attempt_ms));
        }
        let linked = self.linked();
        if let Some(peer) = self.next_to_resume(&linked) {
            return self.if_allowed(peer, now_mono_ms);
        }
        // One who has three homes looks for a fourth only because another release, or another network, is better.
        let release = if self.settled() >= HOMES && !self.shares_network() {
            Release::Other
        } else if self.recruiting.backoff.failures() < CHOOSY_FAILURES {
            Release::RatherOther
        } else {
            Release::Any
        };
        let own_network = Choice { linked: &linked, shared_network: false, release };
        match self.table.choose(&own_network, &mut self.rng, now_mono_ms) {
            Ok(peer) => self.if_allowed(peer, now_mono_ms),
            Err(soonest_ms) if self.table.usable_networks() >= HOMES || self.settled() >= HOMES => {
                Err(soonest_ms)
            }
            Err(_) if now_mono_ms < self.recruiting.share_ms => Err(Some(self.recruiting.share_ms)),
            Err(_) => {
                let any_network = Choice { shared_network: true, ..own_network };
                let peer = self.table.choose(&any_network, &mut self.rng, now_mono_ms)?;
                self.if_allowed(peer, now_mono_ms)
            }
        }
    }

    /// A home that was lost a moment ago, once: it may only have been the line.
    fn next_to_resume(&mut self, linked: &[PeerRef]) -> Option<PeerRef> {
        let network = |peer: PeerRef| self.table.get(peer).map(|entry| entry.network);
        let taken = |peer: PeerRef| linked.iter().any(|&other| network(other) == network(peer));
        let fits = |peer: &PeerRef| network(*peer).is_some() && !taken(*peer);
        let peer = self.recruiting.resuming.iter().copied().find(fits);
        if peer.is_none() || self.settled() >= HOMES {
            self.recruiting.forget_resuming();
            return None;
        }
        peer
    }

    /// No wait after a failure or (`refused`) a refusal is longer than this.
    pub(super) fn wait_ms_max(&self, refused: bool, now_mono_ms: u64) -> u64 {
        let hopeful = refused || now_mono_ms < self.recruiting.eager_until_ms;
        match (hopeful, self.settled() > 0) {
            (true, true) => EAGER_MS_MAX,
            (true, false) => HOMELESS_MS_MAX,
            (false, true) => LACKING_MS_MAX,
            (false, false) => u64::MAX,
        }
    }

    fn if_allowed(&self, peer: PeerRef, now_mono_ms: u64) -> Result<PeerRef, Option<u64>> {
        let contacted = &self.recruiting.contacted;
        let spaced_ms = contacted.spaced_ms(peer, CONTACTS_AT_WILL, self.recruiting.apart_ms, now_mono_ms);
        let allowed_ms = contacted.allowed_at_ms(peer, now_mono_ms).max(spaced_ms);
        if allowed_ms > now_mono_ms { Err(Some(allowed_ms)) } else { Ok(peer) }
    }

    /// Asks a connected supernode for others when it is time.
    pub(super) fn ask(&mut self, now: Now) {
        if now.mono_ms < self.recruiting.ask_ms {
            return;
        }
        let lately = self.recruiting.asked_ms.is_some_and(|at_ms| now.mono_ms < at_ms + ASK_REFRESH_MS / 2);
        if lately && !self.knows_few() && self.settled() >= HOMES {
            // What was to be asked because of a loss has been mended meanwhile.
            self.recruiting.ask_ms = now.mono_ms + self.rng.around(ASK_REFRESH_MS, 20);
            return;
        }
        let open = self.links.iter().filter(|link| link.state != LinkState::Opening);
        let Some((_, peer)) = open.map(|link| (self.rng.next_u64(), link.peer)).min() else { return };
        self.push(Command::AskSupernodes(peer));
        self.asked(now.mono_ms);
    }

    /// A supernode was asked: when to ask again.
    fn asked(&mut self, now_mono_ms: u64) {
        self.recruiting.asked_ms = Some(now_mono_ms);
        let lacking = self.settled() < HOMES;
        let wait_ms = if lacking || self.knows_few() {
            let most_ms = match lacking {
                true if now_mono_ms < self.recruiting.eager_until_ms => ASK_EAGER_SPAN_MS,
                true => ASK_LACKING_SPAN_MS,
                false => ASK_SPAN_MS_MAX,
            };
            let span_ms = self.recruiting.ask_span_ms.min(most_ms);
            self.recruiting.ask_span_ms = span_ms.saturating_mul(2).min(ASK_SPAN_MS_MAX);
            self.rng.around(u64::from(span_ms), 40)
        } else {
            self.rng.around(ASK_REFRESH_MS, 20)
        };
        self.recruiting.ask_ms = now_mono_ms + wait_ms;
    }

    /// A supernode was reached. Whoever knows few asks each one it meets, at once.
    pub(super) fn ask_newcomer(&mut self, peer: PeerRef, now: Now) {
        if self.knows_few() {
            self.push(Command::AskSupernodes(peer));
            self.asked(now.mono_ms);
        }
    }

    /// After a loss the list may be too short for the first time in an hour.
    pub(super) fn ask_sooner(&mut self, was_home: bool, now_mono_ms: u64) {
        if was_home {
            self.recruiting.eager_until_ms = now_mono_ms + ASK_EAGER_MS;
        }
        if was_home || self.knows_few() {
            let most_ms = if was_home { ASK_EAGER_SPAN_MS } else { ASK_SPAN_MS_MAX };
            // Those who lost a home in the same moment must not all ask in the same moment.
            let span_ms = u64::from(self.recruiting.ask_span_ms.min(most_ms));
            let soon_ms = now_mono_ms + self.rng.around(span_ms, 60);
            self.recruiting.ask_ms = self.recruiting.ask_ms.min(soon_ms);
        }
    }

    fn knows_few(&self) -> bool {
        self.table.len() < KNOWN_ENOUGH || self.table.usable_networks() < HOMES
    }

    /// When [`Self::ask`] has somebody to ask and it is time.
    pub(super) fn ask_timeout_ms(&self) -> Option<u64> {
        let open = self.links.iter().any(|link| link.state != LinkState::Opening);
        open.then_some(self.recruiting.ask_ms)
    }

    /// Everybody hears of a new release in the same hour: each waits a time of its own before it looks for one there.
    fn plan_to_diversify(&mut self, now_mono_ms: u64) {
        if !self.shares_release() {
            self.recruiting.diversify_ms = None;
        } else if self.recruiting.diversify_ms.is_none() {
            self.recruiting.diversify_ms = Some(now_mono_ms + self.rng.around(DIVERSIFY_MS, 50));
        }
    }

    /// All homes run the same release, and another one is known.
    pub(super) fn shares_release(&self) -> bool {
        let homes = || self.links.iter().filter(|link| link.is_settled()).map(|link| link.peer);
        let Some(release) = homes().next().map(|peer| self.table.release_of(peer)) else { return false };
        if homes().any(|peer| self.table.release_of(peer) != release) {
            return false;
        }
        let homes: Vec<PeerRef> = homes().collect();
        self.table.release_to_avoid(&homes).is_some()
    }

    /// Two homes are in one network.
    pub(super) fn shares_network(&self) -> bool {
        let networks =
            || self.links.iter().filter(|link| link.is_settled()).map(|link| self.network_of(link.peer));
        networks().enumerate().any(|(at, network)| networks().skip(at + 1).any(|other| other == network))
    }
}
