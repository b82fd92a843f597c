//! One path: what was heard on it, what the other end hears on it, and how much is missing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::description::PathName;
use super::probe::NEVER;
use super::types::{PathEnd, PathState, Route};

/// A path that was silent this long is left: one lost probe is tolerated, two are not.
pub(super) const SILENT: Duration = Duration::from_millis(450);
/// Sound that comes every 20 ms and stops for this long: is it the relay, or our way to it?
const QUIET_SOUND: Duration = Duration::from_millis(120);
/// How long one probe's echo can be matched.
const PROBES_REMEMBERED: usize = 32;
/// A pair of addresses is checked this long, and with this many probes at most; then it is given up. Only direct
/// ones: a relay is nobody who could be harmed.
const CHECK_FOR: Duration = Duration::from_secs(10);
const CHECKS_MAX: u32 = 100;
/// RFC 7675 §5.1: without a sign of life for this long nothing but probes goes to a direct address.
const CONSENT: Duration = Duration::from_secs(30);
const LOSS_BUCKET: Duration = Duration::from_millis(500);
/// Fewer packets than this say nothing about loss.
const LOSS_SPAN_MIN: u64 = 20;

/// What is known of one path.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) route: Route,
    /// How probes name it; set before the first of them.
    pub(super) name: PathName,
    /// How the other end's probes name it; learnt from them on direct paths.
    pub(super) peer_name: Option<PathName>,
    /// This end's address and the other's, on direct paths.
    pub(super) ends: Option<(PathEnd, PathEnd)>,
    /// The first probe on it, and how many there were before it was valid.
    checked_since: Option<Instant>,
    checks: u32,
    pub(super) gave_up_at: Option<Instant>,
    pub(super) opened_at: Instant,
    pub(super) closed: bool,
    /// Since when its relay says that it drains.
    pub(super) leaving: Option<Instant>,
    /// Since when an authentic round trip is known.
    pub(super) validated_at: Option<Instant>,
    pub(super) last_heard: Option<Instant>,
    last_sound: Option<Instant>,
    /// The other end's latest word on how long ago it heard us here, and when that word came.
    pub(super) peer_age: Option<Duration>,
    pub(super) peer_lost_permille: u16,
    /// The other end sends its sound here first.
    pub(super) peer_primary: bool,
    pub(super) round_trip: Option<Duration>,
    pub(super) next_probe: Instant,
    /// Whether "heard" was true when that was last told.
    pub(super) told_heard: bool,
    probe_in: Option<(u32, Instant)>,
    probes_out: VecDeque<(u32, Instant)>,
    loss: [LossBucket; 2],
}

impl Path {
    pub(super) fn new(route: Route, name: PathName, now: Instant) -> Self {
        Self {
            route,
            name,
            peer_name: (route != Route::Direct).then_some(name),
            ends: None,
            checked_since: None,
            checks: 0,
            gave_up_at: None,
            opened_at: now,
            closed: false,
            leaving: None,
            validated_at: None,
            last_heard: None,
            last_sound: None,
            peer_age: None,
            peer_lost_permille: 0,
            peer_primary: false,
            round_trip: None,
            next_probe: now,
            told_heard: false,
            probe_in: None,
            probes_out: VecDeque::with_capacity(PROBES_REMEMBERED),
            loss: [LossBucket::default(); 2],
        }
    }

    /// Heard within [`SILENT`].
    pub(super) fn heard(&self, now: Instant) -> bool {
        self.last_heard.is_some_and(|at| now.saturating_duration_since(at) < SILENT)
    }

    /// Good in both directions, as far as is known.
    pub(super) fn usable(&self, now: Instant) -> bool {
        !self.closed
            && self.validated_at.is_some()
            && self.heard(now)
            && self.peer_age.is_none_or(|age| age < SILENT)
    }

    pub(super) fn state(&self, now: Instant) -> PathState {
        match (self.closed, self.validated_at, self.usable(now)) {
            _ if self.gave_up_at.is_some() => PathState::GaveUp,
            (true, ..) => PathState::Closed,
            (_, None, _) => PathState::Checking,
            (_, _, true) => PathState::Good,
            _ => PathState::Silent,
        }
    }

    /// Whether sound may be sent on it, hoping that it arrives.
    pub(super) fn consents(&self, now: Instant) -> bool {
        let recent = |at: Instant| now.saturating_duration_since(at) < CONSENT;
        !self.closed
            && self.validated_at.is_some()
            && (self.route != Route::Direct || self.last_heard.is_some_and(recent))
    }

    /// When checking it has gone on for long enough to be given up.
    pub(super) fn give_up_at(&self) -> Option<Instant> {
        if self.closed || self.route != Route::Direct || self.validated_at.is_some() {
            return None;
        }
        let since = self.checked_since?;
        Some(if self.checks >= CHECKS_MAX { since } else { since + CHECK_FOR })
    }

    /// Since when it is checked.
    pub(super) fn checking_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.checked_since.unwrap_or(now))
    }

    /// After which silence it is strange that nothing comes: sound came just before, or only probes.
    pub(super) fn quiet_after(&self) -> Duration {
        let sound = self.last_sound.is_some_and(|at| {
            self.last_heard.is_some_and(|heard| heard.saturating_duration_since(at) < SILENT)
        });
        if sound { QUIET_SOUND } else { SILENT }
    }

    /// Whether the two may die of the same cause.
    pub(super) fn shares_fate(&self, other: &Self) -> bool {
        match (self.route, other.route) {
            (Route::Direct, Route::Direct) => true,
            (Route::Relay { service, .. }, Route::Relay { service: other, .. }) => service == other,
            _ => false,
        }
    }

    /// Notes that a probe leaves.
    pub(super) fn probe_sent(&mut self, sequence: u32, now: Instant) {
        self.checked_since.get_or_insert(now);
        if self.validated_at.is_none() {
            self.checks = self.checks.saturating_add(1);
        }
        if self.probes_out.len() == PROBES_REMEMBERED {
            self.probes_out.pop_front();
        }
        self.probes_out.push_back((sequence, now));
    }

    /// Notes a probe that came; `false` if it is not newer than the last one here.
    pub(super) fn probe_heard(&mut self, sequence: u32, now: Instant) -> bool {
        if !self.is_newer(sequence) {
            return false;
        }
        self.probe_in = Some((sequence, now));
        self.last_heard = Some(now);
        true
    }

    /// Whether no probe with this number or a higher one has come here.
    pub(super) fn is_newer(&self, sequence: u32) -> bool {
        self.probe_in.is_none_or(|(last, _)| sequence > last)
    }

    /// Takes the echo of one of our probes: the path is valid, and this was the round trip.
    pub(super) fn echoed(&mut self, sequence: u32, delay: Duration, now: Instant) {
        let Some((_, sent)) = self.probes_out.iter().find(|(sent, _)| *sent == sequence) else { return };
        let round_trip = now.saturating_duration_since(*sent).saturating_sub(delay);
        self.round_trip = Some(self.round_trip.map_or(round_trip, |old| (old * 7 + round_trip) / 8));
        self.validated_at.get_or_insert(now);
    }

    /// The newest probe heard here and how long ago, for the next probe's echo.
    pub(super) fn echo(&self, now: Instant) -> (u32, u16) {
        self.probe_in.map_or((0, NEVER), |(sequence, at)| (sequence, age_ms(Some(at), now)))
    }

    /// Credits the path with one packet of sound.
    pub(super) fn credit_sound(&mut self, sequence: u64, now: Instant) {
        self.last_heard = Some(now);
        self.last_sound = Some(now);
        if self.loss[0].since.is_none_or(|since| now.saturating_duration_since(since) >= LOSS_BUCKET) {
            self.loss[1] = std::mem::take(&mut self.loss[0]);
            self.loss[0].since = Some(now);
        }
        self.loss[0].add(sequence);
    }

    /// Share of the sound sent here over the last second that did not come, thousandths.
    pub(super) fn lost_permille(&self, now: Instant) -> u16 {
        let recent = |bucket: &&LossBucket| {
            bucket.since.is_some_and(|since| now.saturating_duration_since(since) < 3 * LOSS_BUCKET)
        };
        let (mut span, mut came) = (0, 0);
        for bucket in self.loss.iter().filter(recent) {
            span += bucket.span();
            came += bucket.came;
        }
        if span < LOSS_SPAN_MIN {
            return 0;
        }
        u16::try_from(span.saturating_sub(came) * 1000 / span).unwrap_or(1000)
    }
}

/// Sequence numbers that came on a path within half a second.
#[derive(Debug, Clone, Copy, Default)]
struct LossBucket {
    since: Option<Instant>,
    first: u64,
    last: u64,
    came: u64,
}

impl LossBucket {
    fn add(&mut self, sequence: u64) {
        if self.came == 0 {
            (self.first, self.last) = (sequence, sequence);
        }
        // Reordering over the bucket's edge would look like a long span: it only widens at the top.
        if sequence >= self.first {
            self.last = self.last.max(sequence);
            self.came += 1;
        }
    }

    fn span(&self) -> u64 {
        if self.came == 0 { 0 } else { self.last - self.first + 1 }
    }
}

/// Milliseconds since then for a probe: at most 65534, [`NEVER`] if it never was.
pub(super) fn age_ms(at: Option<Instant>, now: Instant) -> u16 {
    at.map_or(NEVER, |at| {
        let ms = now.saturating_duration_since(at).as_millis();
        u16::try_from(ms).unwrap_or(NEVER).min(NEVER - 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::start;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_echo_validates_and_times_the_path() {
        let t = start();
        let mut path = Path::new(Route::Direct, PathName::DIRECT, t);
        path.probe_sent(1, t);
        path.echoed(9, Duration::ZERO, t + 50 * MS);
        assert_eq!(path.validated_at, None, "an echo of a probe we never sent proves nothing");
        path.echoed(1, 20 * MS, t + 50 * MS);
        assert_eq!(path.round_trip, Some(30 * MS));
        assert!(path.validated_at.is_some());
    }

    #[test]
    fn a_replayed_probe_is_not_heard() {
        let t = start();
        let mut path = Path::new(Route::Direct, PathName::DIRECT, t);
        assert!(path.probe_heard(5, t));
        assert!(!path.probe_heard(5, t + SILENT));
        assert!(!path.probe_heard(4, t + SILENT));
        assert!(!path.heard(t + SILENT));
    }

    #[test]
    fn loss_counts_holes() {
        let t = start();
        let mut path = Path::new(Route::Direct, PathName::DIRECT, t);
        for n in (0..40).filter(|n| n % 4 != 1) {
            path.credit_sound(n, t + 20 * MS * u32::try_from(n).unwrap());
        }
        let lost = path.lost_permille(t + 800 * MS);
        assert!((220..=250).contains(&lost), "a hole between two buckets is not seen: {lost}");
        assert_eq!(path.lost_permille(t + 5000 * MS), 0, "old loss is forgotten");
    }
}
