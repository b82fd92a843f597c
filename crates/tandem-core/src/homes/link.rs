//! One supernode that the leaf is connected to, or is trying to be.

use crate::peer::PeerRef;

/// How far a link has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// `Connect` was asked for; nothing came back yet.
    Opening,
    /// The home stream is open and hellos are exchanged; `Reserve` was asked for.
    Reserving,
    /// A home.
    Reserved,
}

/// Idle heartbeat and how long an unanswered one is waited for: 14 s + 16 s = gone after 30 s.
pub(super) const IDLE_BEAT_MS: u64 = 14_000;
pub(super) const IDLE_PATIENCE_MS: u64 = 16_000;
/// In a call: 2 s + 4 s = gone after 6 s.
pub(super) const CALL_BEAT_MS: u64 = 2_000;
pub(super) const CALL_PATIENCE_MS: u64 = 4_000;
/// An attempt is given up after these.
pub(super) const OPENING_MS_MAX: u64 = 5_000;
pub(super) const RESERVING_MS_MAX: u64 = 4_000;
/// A home held for this long is tried again first when its connection breaks: it keeps a place for a while. (One that
/// breaks it again and again is not.)
const RESUME_AFTER_MS: u64 = 60_000;
/// An attempt that took this long without a result gets a rival.
pub(super) const HEDGE_MS: u64 = 800;

/// Why a home is being left, though it still works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// At this moment at the latest (monotonic, ms); sooner once there is a replacement.
    By(u64),
}

#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) peer: PeerRef,
    pub(super) state: LinkState,
    /// When it came into this state.
    pub(super) since_ms: u64,
    pub(super) leaving: Leaving,
    /// When the next heartbeat is due.
    pub(super) beat_ms: u64,
    /// When the oldest unanswered heartbeat was sent.
    pub(super) asked_ms: Option<u64>,
    /// How often this home wants to hear from us when idle.
    pub(super) idle_beat_ms: u32,
}

impl Link {
    pub(super) fn new(peer: PeerRef, now_mono_ms: u64) -> Self {
        Self {
            peer,
            state: LinkState::Opening,
            since_ms: now_mono_ms,
            leaving: Leaving::No,
            beat_ms: 0,
            asked_ms: None,
            idle_beat_ms: u32::try_from(IDLE_BEAT_MS).expect("14 s fits"),
        }
    }

    /// A home that is meant to stay one.
    pub(super) fn is_settled(&self) -> bool {
        self.state == LinkState::Reserved && self.leaving == Leaving::No
    }

    pub(super) fn is_home(&self) -> bool {
        self.state == LinkState::Reserved
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving != Leaving::No
    }

    /// Its connection ended, and it may only have been the line.
    pub(super) fn may_resume(&self, now_mono_ms: u64) -> bool {
        self.is_settled() && now_mono_ms >= self.since_ms + RESUME_AFTER_MS
    }

    pub(super) fn in_progress(&self) -> bool {
        self.state != LinkState::Reserved
    }

    /// An attempt that nobody waits for alone any more.
    pub(super) fn is_slow(&self, now_mono_ms: u64) -> bool {
        self.in_progress() && now_mono_ms >= self.since_ms + HEDGE_MS
    }

    pub(super) fn beat_interval_ms(&self, in_call: bool) -> u64 {
        if in_call { CALL_BEAT_MS } else { u64::from(self.idle_beat_ms) }
    }

    /// When this link is given up if nothing more is heard. `call_since_ms`: when the call that goes on began; what was
    /// asked before that is waited for as if it had been asked then, but never longer than without a call. Otherwise
    /// somebody who makes one short call after the other would never notice that a home is gone.
    pub(super) fn deadline_ms(&self, call_since_ms: Option<u64>) -> Option<u64> {
        match self.state {
            LinkState::Opening => Some(self.since_ms + OPENING_MS_MAX),
            LinkState::Reserving => Some(self.since_ms + RESERVING_MS_MAX),
            LinkState::Reserved => {
                let asked_ms = self.asked_ms?;
                let in_call = call_since_ms.map(|since_ms| since_ms.max(asked_ms) + CALL_PATIENCE_MS);
                Some(in_call.unwrap_or(u64::MAX).min(asked_ms + IDLE_PATIENCE_MS))
            }
        }
    }
}
