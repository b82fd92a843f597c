//! Heartbeats: who sends them, and what becomes of a home that does not answer.

use super::link::{CALL_BEAT_MS, CALL_PATIENCE_MS, IDLE_BEAT_MS, IDLE_PATIENCE_MS};
use super::{Command, Homes};
use crate::peer::PeerRef;
use crate::time::Now;

/// How often a home is asked for a sign of life, unless it wishes otherwise, and how long its answer is waited for, in
/// milliseconds.
#[must_use]
pub fn beats(in_call: bool) -> (u64, u64) {
    if in_call { (CALL_BEAT_MS, CALL_PATIENCE_MS) } else { (IDLE_BEAT_MS, IDLE_PATIENCE_MS) }
}

impl Homes {
    /// As [`Self::new`], for a driver that keeps links alive by itself: no [`Command::Heartbeat`] comes, and the driver
    /// says [`Self::handle_silent`] when a home has not answered for as long as [`beats`] says. (With a million leaves in
    /// a simulator, nearly all work would else be heartbeats.)
    #[must_use]
    pub fn without_beats(seed: u64, now: Now) -> Self {
        Self { beats_elsewhere: true, ..Self::new(seed, now) }
    }

    /// The driver that keeps this link alive ([`Self::without_beats`]) has heard nothing on it for too long.
    pub fn handle_silent(&mut self, peer: PeerRef, now: Now) {
        if let Some(at) = self.links.iter().position(|link| link.peer == peer) {
            self.give_up(at, now);
        }
        self.drive(now);
    }

    /// A link that nobody answers on.
    pub(super) fn give_up(&mut self, at: usize, now: Now) {
        let link = self.links.remove(at);
        self.push(Command::Release(link.peer));
        self.table.failed(link.peer, &mut self.rng, now.mono_ms);
        self.after_loss(&link, false, now);
    }

    pub(super) fn beat(&mut self, now: Now) {
        let in_call = self.in_call();
        let own = !self.beats_elsewhere;
        for link in self.links.iter_mut().filter(|link| own && link.is_home()) {
            if now.mono_ms >= link.beat_ms && (link.asked_ms.is_none() || in_call) {
                self.commands.push_back(Command::Heartbeat { peer: link.peer, in_call });
                link.asked_ms.get_or_insert(now.mono_ms);
                link.beat_ms = now.mono_ms + link.beat_interval_ms(in_call);
            }
        }
    }

    /// A call began or ended: said at once, even with an answer still owed, since the home must know which patience to
    /// have.
    pub(super) fn beat_at_once(&mut self, now: Now) {
        let in_call = self.in_call();
        for at in 0..if self.beats_elsewhere { 0 } else { self.links.len() } {
            if self.links[at].is_home() {
                self.push(Command::Heartbeat { peer: self.links[at].peer, in_call });
                let link = &mut self.links[at];
                link.asked_ms.get_or_insert(now.mono_ms);
                link.beat_ms = now.mono_ms + link.beat_interval_ms(in_call);
            }
        }
    }
}
