//! When the reach record is published: at once for the first home, soon after each change, and before it grows old.

use crate::backoff::Backoff;
use crate::peer::PeerRef;
use crate::rng::Rng;

/// Changes within this time go out together.
const DEBOUNCE_MS: u64 = 200;
/// After a loss, wait this long for the replacement before saying so.
const AFTER_LOSS_MS: u64 = 2_000;
/// Re-publication, give or take 10 %.
const REPUBLISH_MS: u64 = 50 * 60_000;
/// A publication not confirmed by then is tried through another home.
const ANSWER_MS_MAX: u64 = 6_000;

#[derive(Debug, Clone)]
pub(super) struct Publishing {
    due_ms: Option<u64>,
    pending: Option<(PeerRef, u64)>,
    backoff: Backoff,
    last_via: Option<PeerRef>,
    ever: bool,
}

impl Publishing {
    pub(super) fn new() -> Self {
        Self {
            due_ms: None,
            pending: None,
            backoff: Backoff::new(1_000, 60_000),
            last_via: None,
            ever: false,
        }
    }

    /// A home was added.
    pub(super) fn gained(&mut self, first: bool, now_mono_ms: u64) {
        let due_ms = if first && self.pending.is_none() { now_mono_ms } else { now_mono_ms + DEBOUNCE_MS };
        self.bring_forward(due_ms);
    }

    /// What is published changed.
    pub(super) fn changed(&mut self, now_mono_ms: u64) {
        self.bring_forward(now_mono_ms);
    }

    /// A home was lost.
    pub(super) fn lost(&mut self, peer: PeerRef, now_mono_ms: u64) {
        if self.pending.is_some_and(|(via, _)| via == peer) {
            self.pending = None;
            self.bring_forward(now_mono_ms);
        }
        self.bring_forward(now_mono_ms + AFTER_LOSS_MS);
    }

    fn bring_forward(&mut self, due_ms: u64) {
        self.due_ms = Some(self.due_ms.map_or(due_ms, |before_ms| before_ms.min(due_ms)));
    }

    /// Through which of `homes` to publish now, if it is time. A different one each time where possible, so that no
    /// single home can keep a record back unnoticed.
    pub(super) fn poll(&mut self, homes: impl Iterator<Item = PeerRef>, now_mono_ms: u64) -> Option<PeerRef> {
        if self.pending.is_some_and(|(_, until_ms)| now_mono_ms >= until_ms) {
            self.pending = None;
            self.bring_forward(now_mono_ms);
        }
        if self.pending.is_some() || self.due_ms.is_none_or(|due_ms| due_ms > now_mono_ms) {
            return None;
        }
        let after = |peer: &PeerRef| self.last_via.is_some_and(|last| *peer > last);
        let via = homes.map(|peer| (!after(&peer), peer)).min().map(|(_, peer)| peer)?;
        self.last_via = Some(via);
        self.due_ms = None;
        self.pending = Some((via, now_mono_ms + ANSWER_MS_MAX));
        Some(via)
    }

    pub(super) fn done(&mut self, via: PeerRef, rng: &mut Rng, now_mono_ms: u64) {
        if self.pending.is_none_or(|(pending, _)| pending != via) {
            return;
        }
        self.pending = None;
        self.ever = true;
        self.backoff.reset();
        if self.due_ms.is_none() {
            self.due_ms = Some(now_mono_ms + rng.around(REPUBLISH_MS, 10));
        }
    }

    pub(super) fn failed(&mut self, via: PeerRef, at_least_ms: u64, rng: &mut Rng, now_mono_ms: u64) {
        if self.pending.is_none_or(|(pending, _)| pending != via) {
            return;
        }
        self.pending = None;
        // A change that came meanwhile must not jump the queue either: the failure may mean overload.
        self.due_ms = Some(now_mono_ms + at_least_ms + self.backoff.next_delay_ms(rng));
    }

    pub(super) fn ever(&self) -> bool {
        self.ever
    }

    /// When [`Self::poll`] may have something to say; `None` while there is no home to publish through.
    pub(super) fn timeout_ms(&self) -> Option<u64> {
        match self.pending {
            Some((_, until_ms)) => Some(until_ms),
            None => self.due_ms,
        }
    }
}
