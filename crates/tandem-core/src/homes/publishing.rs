//! When the reach record is published: at once for the first home, soon after each change, and before it grows old.

use crate::backoff::Backoff;
use crate::peer::PeerRef;
use crate::rng::Rng;

/// Changes within this time go out together.
const DEBOUNCE_MS: u64 = 200;
/// After a loss, wait this long for the replacement before saying so …
const AFTER_LOSS_MS: u64 = 2_000;
/// … and a random part of this: where many lose a home in one moment, nobody else must get all their records in one.
const AFTER_LOSS_SPREAD_MS: u64 = 6_000;
/// Re-publication, give or take 10 %.
const REPUBLISH_MS: u64 = 50 * 60_000;
/// A publication not confirmed by then is tried through another home; the first one's answer still counts. A directory
/// that has just lost most of its supernodes takes longer.
const ANSWER_MS_MAX: u64 = 6_000;
/// Homes that owe an answer beyond that.
const LATE_MAX: usize = 3;

#[derive(Debug, Clone)]
pub(super) struct Publishing {
    due_ms: Option<u64>,
    pending: Option<(PeerRef, u64)>,
    late: Vec<PeerRef>,
    backoff: Backoff,
    last_via: Option<PeerRef>,
    ever: bool,
}

impl Publishing {
    pub(super) fn new() -> Self {
        Self {
            due_ms: None,
            pending: None,
            late: Vec::new(),
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
    pub(super) fn lost(&mut self, peer: PeerRef, rng: &mut Rng, now_mono_ms: u64) {
        self.late.retain(|late| *late != peer);
        if self.pending.is_some_and(|(via, _)| via == peer) {
            self.pending = None;
            self.bring_forward(now_mono_ms);
        }
        self.bring_forward(now_mono_ms + AFTER_LOSS_MS + rng.below(AFTER_LOSS_SPREAD_MS));
    }

    fn bring_forward(&mut self, due_ms: u64) {
        self.due_ms = Some(self.due_ms.map_or(due_ms, |before_ms| before_ms.min(due_ms)));
    }

    /// Through which of `homes` to publish now, if it is time. A different one each time where possible, so that no
    /// single home can keep a record back unnoticed.
    pub(super) fn poll(
        &mut self,
        homes: impl Iterator<Item = PeerRef>,
        rng: &mut Rng,
        now_mono_ms: u64,
    ) -> Option<PeerRef> {
        if let Some((via, _)) = self.pending.take_if(|(_, until_ms)| now_mono_ms >= *until_ms) {
            self.late.retain(|late| *late != via);
            if self.late.len() < LATE_MAX {
                self.late.push(via);
            }
            let again_ms = now_mono_ms + self.backoff.next_delay_ms(rng);
            self.bring_forward(again_ms);
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
            let before = self.late.len();
            self.late.retain(|late| *late != via);
            self.ever |= self.late.len() < before;
            return;
        }
        self.pending = None;
        self.ever = true;
        self.late.clear();
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

#[cfg(test)]
mod tests {
    use super::*;

    const HOMES: [PeerRef; 2] = [PeerRef(1), PeerRef(2)];

    #[test]
    fn an_answer_that_comes_after_another_home_was_asked_counts() {
        let (mut publishing, mut rng) = (Publishing::new(), Rng::new(7));
        publishing.gained(true, 0);
        assert_eq!(publishing.poll(HOMES.into_iter(), &mut rng, 0), Some(HOMES[0]));
        assert_eq!(publishing.poll(HOMES.into_iter(), &mut rng, ANSWER_MS_MAX), None, "not at once");
        let again_ms = publishing.timeout_ms().unwrap();
        assert!((ANSWER_MS_MAX..ANSWER_MS_MAX + 2_000).contains(&again_ms), "{again_ms}");
        assert_eq!(publishing.poll(HOMES.into_iter(), &mut rng, again_ms), Some(HOMES[1]));
        publishing.done(PeerRef(3), &mut rng, again_ms);
        assert!(!publishing.ever(), "it was not asked");
        publishing.done(HOMES[0], &mut rng, again_ms + 1);
        assert!(publishing.ever());
        assert_eq!(
            publishing.timeout_ms(),
            Some(again_ms + ANSWER_MS_MAX),
            "what is newest is still to come"
        );
    }

    #[test]
    fn a_home_that_was_lost_owes_nothing() {
        let (mut publishing, mut rng) = (Publishing::new(), Rng::new(7));
        publishing.gained(true, 0);
        publishing.poll(HOMES.into_iter(), &mut rng, 0);
        publishing.poll(HOMES.into_iter(), &mut rng, ANSWER_MS_MAX);
        publishing.lost(HOMES[0], &mut rng, ANSWER_MS_MAX);
        publishing.done(HOMES[0], &mut rng, ANSWER_MS_MAX + 1);
        assert!(!publishing.ever());
    }
}
