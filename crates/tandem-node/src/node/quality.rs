//! What this device measured of its homes, from one run to the next: how long each stayed, how often it was lost, whether
//! it left things out or lied. A restart chooses by it. What was measured long ago counts less and less.

use std::collections::{BTreeMap, BTreeSet};

use tandem_core::homes::{Distrust, QUALITY_UNKNOWN, Remembered, Standing};
use tandem_core::peer::PeerRef;
use tandem_proto::ids::ServiceKey;

use crate::store::SupernodeQuality;

/// Supernodes measured in one run, at most.
const MEASURED_MAX: usize = 512;
const DAY_MS: u64 = 24 * 60 * 60_000;
/// After so long half of what is known of a supernode's service counts.
const HALF_LIFE_MS: u64 = 14 * DAY_MS;
/// After so long nothing does.
pub(crate) const FORGOTTEN_MS: u64 = 180 * DAY_MS;
/// So long one that lied is never a home again.
const LIAR_MS: u64 = 90 * DAY_MS;
/// Attempts in a row that failed make it worse, of 255, by this each …
const FAILURE_COSTS: u8 = 16;
/// … up to so many: then others are preferred until it was a home again, or it is forgotten.
const FAILURES_COUNTED: u8 = 5;
/// Changes are written down this long after the first of them …
const WRITE_MS: u64 = 30_000;
/// … and how long homes have been held this often.
const WRITE_HELD_MS: u64 = 15 * 60_000;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Qualities {
    measured: BTreeMap<ServiceKey, SupernodeQuality>,
    /// Since when each is a home, in unix milliseconds; what was counted already is left out.
    held_since: BTreeMap<ServiceKey, u64>,
    changed: BTreeSet<ServiceKey>,
    /// When to write, in unix milliseconds.
    write_ms: Option<u64>,
}

impl Qualities {
    /// As it was read from disk.
    pub(crate) fn new(stored: Vec<SupernodeQuality>) -> Self {
        let measured = stored.into_iter().take(MEASURED_MAX).map(|one| (one.service, one)).collect();
        Self { measured, ..Self::default() }
    }

    pub(crate) fn get(&self, service: &ServiceKey) -> Option<&SupernodeQuality> {
        self.measured.get(service)
    }

    /// As the policy of homes wants it, aged.
    pub(crate) fn remembered(&self, service: &ServiceKey, peer: PeerRef, unix_ms: u64) -> Remembered {
        let known = self.get(service);
        Remembered {
            peer,
            failures: 0,
            quality: known.map_or(QUALITY_UNKNOWN, |known| faded(known, unix_ms)),
            latency_class: known.and_then(|known| known.latency_class),
            distrusted: known
                .and_then(|known| known.lied_unix_ms)
                .is_some_and(|lied_ms| unix_ms < lied_ms.saturating_add(LIAR_MS)),
        }
    }

    /// It became a home.
    pub(crate) fn reserved(&mut self, service: ServiceKey, unix_ms: u64) {
        if self.held_since.insert(service, unix_ms).is_none()
            && let Some(known) = self.change(service, unix_ms)
        {
            known.times = known.times.saturating_add(1);
            known.failed = 0;
        }
    }

    /// It could not be reached, or had no place. Nothing is held against anybody while nobody can be reached; of those
    /// that never were a home nothing is kept.
    pub(crate) fn failed(&mut self, service: ServiceKey, unix_ms: u64) {
        if !self.held_since.is_empty()
            && self.measured.contains_key(&service)
            && let Some(known) = self.change(service, unix_ms)
        {
            known.failed = known.failed.saturating_add(1);
        }
    }

    /// It is no home any more: `lost`, or left by this device. False: it was none.
    pub(crate) fn ended(&mut self, service: ServiceKey, lost: bool, unix_ms: u64) -> bool {
        let was_home = self.count_time(service, unix_ms);
        if was_home && let Some(known) = self.change(service, unix_ms) {
            known.lost = known.lost.saturating_add(u32::from(lost));
        }
        self.held_since.remove(&service);
        was_home
    }

    pub(crate) fn distrusted(&mut self, service: ServiceKey, reason: Distrust, unix_ms: u64) {
        let Some(known) = self.change(service, unix_ms) else { return };
        match reason {
            Distrust::Lied => {
                known.lied = known.lied.saturating_add(1);
                known.lied_unix_ms = Some(unix_ms);
                // A restart a moment later must know it.
                self.write_ms = Some(unix_ms);
            }
            Distrust::Omitted | Distrust::Behind => known.omitted = known.omitted.saturating_add(1),
        }
    }

    /// When [`Self::take_changes`] has something to write, in unix milliseconds.
    pub(crate) fn write_ms(&self) -> Option<u64> {
        self.write_ms
    }

    /// What is to be written now. `standing`: what the policy of homes has made of it.
    pub(crate) fn take_changes(
        &mut self,
        standing: impl Fn(&ServiceKey) -> Option<Standing>,
        unix_ms: u64,
    ) -> Vec<SupernodeQuality> {
        let held: Vec<ServiceKey> = self.held_since.keys().copied().collect();
        for service in held {
            self.count_time(service, unix_ms);
        }
        self.write_ms = (!self.held_since.is_empty()).then_some(unix_ms + WRITE_HELD_MS);
        let changed = std::mem::take(&mut self.changed);
        let mut rows = Vec::new();
        for service in changed {
            let Some(known) = self.measured.get_mut(&service) else { continue };
            if let Some(now) = standing(&service) {
                known.quality = now.quality;
                known.latency_class = now.latency_class.or(known.latency_class);
            }
            known.measured_unix_ms = unix_ms;
            rows.push(*known);
        }
        rows
    }

    /// Adds the time since it was counted last. False: it is no home.
    fn count_time(&mut self, service: ServiceKey, unix_ms: u64) -> bool {
        let Some(since_ms) = self.held_since.get_mut(&service) else { return false };
        let held_ms = unix_ms.saturating_sub(*since_ms);
        *since_ms = unix_ms;
        if let Some(known) = self.measured.get_mut(&service) {
            known.held_ms = known.held_ms.saturating_add(held_ms);
            self.changed.insert(service);
        }
        true
    }

    fn change(&mut self, service: ServiceKey, unix_ms: u64) -> Option<&mut SupernodeQuality> {
        if !self.measured.contains_key(&service) {
            self.make_room();
            let new = SupernodeQuality {
                service,
                quality: QUALITY_UNKNOWN,
                latency_class: None,
                times: 0,
                held_ms: 0,
                lost: 0,
                failed: 0,
                omitted: 0,
                lied: 0,
                lied_unix_ms: None,
                measured_unix_ms: unix_ms,
            };
            self.measured.insert(service, new);
        }
        self.changed.insert(service);
        self.write_ms = self.write_ms.or(Some(unix_ms + WRITE_MS));
        self.measured.get_mut(&service)
    }

    /// The one measured longest ago is forgotten in this run; on disk it stays.
    fn make_room(&mut self) {
        if self.measured.len() < MEASURED_MAX {
            return;
        }
        let free = self.measured.values().filter(|one| !self.held_since.contains_key(&one.service));
        let oldest = free.min_by_key(|one| (one.measured_unix_ms, one.service)).map(|one| one.service);
        if let Some(oldest) = oldest {
            self.measured.remove(&oldest);
            self.changed.remove(&oldest);
        }
    }
}

/// Half of the difference from what is unknown is left after each half-life.
fn faded(known: &SupernodeQuality, unix_ms: u64) -> u8 {
    let worse = u8::try_from(known.failed).unwrap_or(u8::MAX).min(FAILURES_COUNTED) * FAILURE_COSTS;
    let age_ms = unix_ms.saturating_sub(known.measured_unix_ms);
    let halvings = u32::try_from(age_ms / HALF_LIFE_MS).unwrap_or(u32::MAX).min(15);
    let away = i16::from(known.quality.saturating_sub(worse)) - i16::from(QUALITY_UNKNOWN);
    u8::try_from(i16::from(QUALITY_UNKNOWN) + away / (1 << halvings.min(14))).unwrap_or(QUALITY_UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: ServiceKey = ServiceKey([1; 32]);
    const PEER: PeerRef = PeerRef(7);
    const START_MS: u64 = 1_800_000_000_000;

    fn standing(quality: u8) -> impl Fn(&ServiceKey) -> Option<Standing> {
        move |_| {
            Some(Standing {
                peer: PEER,
                network: 1,
                release: 1,
                referrer: None,
                latency_class: Some(1),
                load_class: 0,
                quality,
                is_poor: false,
                failures: 0,
                port_443: false,
                not_before_ms: 0,
                distrusted: false,
            })
        }
    }

    #[test]
    fn the_time_of_a_home_is_counted_once_and_survives_a_restart() {
        let mut qualities = Qualities::default();
        qualities.reserved(HOME, START_MS);
        assert_eq!(qualities.write_ms(), Some(START_MS + WRITE_MS));
        let first = qualities.take_changes(standing(140), START_MS + 60_000);
        assert_eq!((first[0].held_ms, first[0].times, first[0].quality), (60_000, 1, 140));
        qualities.ended(HOME, true, START_MS + 100_000);
        let rows = qualities.take_changes(standing(105), START_MS + 200_000);
        assert_eq!((rows[0].held_ms, rows[0].lost, rows[0].latency_class), (100_000, 1, Some(1)));
        assert!(qualities.take_changes(standing(105), START_MS + 300_000).is_empty());
        let again = Qualities::new(rows);
        let remembered = again.remembered(&HOME, PEER, START_MS + 300_000);
        assert_eq!((remembered.quality, remembered.latency_class), (105, Some(1)));
        assert_eq!((remembered.peer, remembered.distrusted), (PEER, false));
    }

    #[test]
    fn what_was_long_ago_counts_less_and_a_lie_for_a_quarter_of_a_year() {
        let mut qualities = Qualities::default();
        qualities.reserved(HOME, START_MS);
        qualities.distrusted(HOME, Distrust::Lied, START_MS);
        assert_eq!(qualities.write_ms(), Some(START_MS), "written at once");
        let again = Qualities::new(qualities.take_changes(standing(28), START_MS));
        let after = |days: u64| {
            let it = again.remembered(&HOME, PEER, START_MS + days * DAY_MS);
            (it.quality, it.distrusted)
        };
        assert_eq!(
            [after(0), after(14), after(28), after(89)],
            [(28, true), (78, true), (103, true), (127, true)]
        );
        assert_eq!(after(90), (127, false));
        assert_eq!(after(10_000), (128, false));
    }

    #[test]
    fn one_that_cannot_be_reached_comes_later_until_it_can() {
        const OTHER: ServiceKey = ServiceKey([2; 32]);
        let mut qualities = Qualities::default();
        let of = |qualities: &Qualities| qualities.remembered(&OTHER, PEER, START_MS).quality;
        qualities.failed(OTHER, START_MS);
        assert!(qualities.get(&OTHER).is_none(), "it never was a home");
        qualities.reserved(OTHER, START_MS);
        qualities.ended(OTHER, true, START_MS);
        qualities.failed(OTHER, START_MS);
        assert_eq!(
            of(&qualities),
            QUALITY_UNKNOWN,
            "nobody can be reached: that may be this machine's fault"
        );
        qualities.reserved(HOME, START_MS);
        let fall: Vec<u8> = (0..7)
            .map(|_| {
                qualities.failed(OTHER, START_MS);
                of(&qualities)
            })
            .collect();
        assert_eq!(fall, [112, 96, 80, 64, 48, 48, 48]);
        qualities.reserved(OTHER, START_MS);
        assert_eq!(of(&qualities), QUALITY_UNKNOWN);
    }

    #[test]
    fn strangers_cannot_make_it_grow() {
        let mut qualities = Qualities::default();
        qualities.reserved(HOME, START_MS);
        for n in 0..2_000_u64 {
            let mut key = [2; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            qualities.distrusted(ServiceKey(key), Distrust::Omitted, START_MS + n);
        }
        assert!(qualities.measured.len() <= MEASURED_MAX && qualities.changed.len() <= MEASURED_MAX);
        assert!(qualities.get(&HOME).is_some(), "a home is not forgotten");
    }
}
