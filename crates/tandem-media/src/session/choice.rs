//! Which path sound takes first, and which carries the copies.

use std::time::{Duration, Instant};

use super::path::Path;
use super::path::SILENT;
use super::paths::{Decision, PathSet};
use super::types::{PathId, Redundancy, Route};

/// `auto` mirrors this long from the first sound (DESIGN §7); the connection itself is made while it rings.
pub(super) const MIRROR_FIRST: Duration = Duration::from_secs(10);
/// How long a lossy path keeps the mirror on.
const HOLD_LOSSY: Duration = Duration::from_secs(5);
/// Two packets in a hundred are ordinary; more is lossy.
const LOSSY_PERMILLE: u16 = 30;
/// A direct path must have worked this long before a relayed one is left for it.
const DIRECT_PROVEN: Duration = Duration::from_secs(1);
/// A path whose round trip is this much longer than another's is left for it. It also bounds what a relay gains by
/// holding packets back.
const SLOW: Duration = Duration::from_millis(150);
/// A direct path must be shorter by this, or by a quarter, to be taken instead of the one in use.
const DIRECT_BETTER: Duration = Duration::from_millis(10);

impl PathSet {
    pub(super) fn choose_primary(&mut self, now: Instant) {
        let Some(best) = self.best(now, |_| true).filter(|best| self.primary != Some(*best)) else { return };
        let current = self.primary.and_then(|id| self.paths.get(&id));
        let candidate = &self.paths[&best];
        let why = match current {
            None => "the first path that works",
            // A direct path's socket goes with its network only.
            Some(path) if path.closed && path.route == Route::Direct => "the network of this machine changed",
            Some(path) if path.closed => "the path before was closed",
            Some(path) if !path.heard(now) => "the path before fell silent",
            Some(path) if !path.usable(now) => "the other end no longer hears the path before",
            Some(path) if path.leaving.is_some() && candidate.leaving.is_none() => {
                "the relay before is stopping"
            }
            Some(_) if !self.controlling && candidate.peer_primary => "the other end chose it",
            Some(path) if candidate.route == Route::Direct && path.route != Route::Direct => {
                "a direct path works"
            }
            Some(path) if candidate.route == Route::Direct && path.route == Route::Direct => {
                "another direct path is shorter"
            }
            Some(_) => "the path before became slow",
        };
        let closed = current.is_some_and(|path| path.closed);
        let from = self.primary.replace(best);
        if closed && self.redundancy != Redundancy::Off {
            self.decisions.push(Decision::Resend { back: SILENT / 2 });
        }
        if from.is_some_and(|from| self.paths.get(&from).is_none_or(|path| !path.usable(now))) {
            self.hold_silent(now, why);
        }
        self.decisions.push(Decision::PrimaryChanged { from, to: best, why });
        self.tell_all(now);
    }

    /// The best usable path that passes the filter.
    fn best(&self, now: Instant, filter: impl Fn(&Path) -> bool) -> Option<PathId> {
        let usable = self.paths.iter().filter(|(_, path)| path.usable(now) && filter(path));
        usable.min_by_key(|(id, path)| self.rank(**id, path, now)).map(|(id, _)| *id)
    }

    /// Lower is better: not about to go, the controlling end's choice, not slow, proven direct, UDP, the shorter way with a bonus for the
    /// one in use.
    fn rank(&self, id: PathId, path: &Path, now: Instant) -> (bool, bool, bool, u8, Duration, PathId) {
        let proven = path.validated_at.is_some_and(|at| now.saturating_duration_since(at) >= DIRECT_PROVEN);
        let in_use = self.primary == Some(id);
        let round_trip = path.round_trip.unwrap_or_default();
        let (class, cost) = match path.route {
            Route::Direct if proven || in_use || self.primary.is_none() => {
                // Between direct ways a clearly shorter one is worth a change.
                let bonus = if in_use { DIRECT_BETTER.max(round_trip / 4) } else { Duration::ZERO };
                (0, round_trip.saturating_sub(bonus))
            }
            // What works over TCP is not left for UDP, nor one relay for another: every change costs a little.
            _ if in_use => (1, Duration::ZERO),
            Route::Direct | Route::Relay { tcp: false, .. } => (1, DIRECT_BETTER + round_trip),
            Route::Relay { tcp: true, .. } => (2, round_trip),
        };
        let follows = !self.controlling && path.peer_primary;
        let usable = self.paths.values().filter(|path| path.usable(now));
        let shortest = usable.filter_map(|path| path.round_trip).min().unwrap_or_default();
        let slow = round_trip > shortest + SLOW;
        (path.leaving.is_some(), !follows, slow, class, cost, id)
    }

    pub(super) fn choose_mirror(&mut self, now: Instant) {
        let Some(primary) = self.primary.and_then(|id| self.paths.get(&id)) else { return };
        let narrow = self.narrow_now(now);
        if primary.peer_lost_permille > LOSSY_PERMILLE && self.sound_out.flowing() && !narrow {
            self.hold(now + HOLD_LOSSY, "the path in use loses packets");
        }
        self.second = self.choose_second(now);
        let trouble = self.trouble.filter(|(until, _)| now < *until);
        let began = |at: Instant| now.saturating_duration_since(at) < MIRROR_FIRST;
        let first = self.connected && self.sound_began.is_none_or(began);
        let (wanted, why) = match (self.redundancy, trouble) {
            (Redundancy::Always | Redundancy::Auto, None) if narrow => {
                (false, "two copies do not fit through the network here")
            }
            (Redundancy::Always, _) => (true, "asked for"),
            (Redundancy::Off, _) => (false, "not wanted"),
            (Redundancy::Auto, _) if first => (true, "the call has just begun"),
            (Redundancy::Auto, Some((_, why))) => (true, why),
            (Redundancy::Auto, None) => (false, "the path in use has been good for a while"),
        };
        let on = wanted && self.second.is_some();
        if on != self.mirroring {
            self.mirroring = on;
            self.decisions.push(Decision::MirroringChanged { on, second: self.second, why });
        }
    }

    /// A path of another fate than the primary's: the present one while it works and stays, else the best, else any valid
    /// one.
    fn choose_second(&self, now: Instant) -> Option<PathId> {
        let primary = self.primary.and_then(|id| self.paths.get(&id))?;
        let other = |path: &Path| !path.shares_fate(primary);
        let stays = |path: &Path| other(path) && path.usable(now) && path.leaving.is_none();
        let present = self.second.filter(|id| self.paths.get(id).is_some_and(stays));
        let any = || self.valid(now).find(|id| self.paths.get(id).is_some_and(other));
        present.or_else(|| self.best(now, other)).or_else(any)
    }
}
