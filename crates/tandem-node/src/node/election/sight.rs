//! Who serves and is alive, as far as a node can tell that serves nobody itself.
//!
//! Its homes are alive: their heartbeats say so. Descriptors alone say little, since they hold for hours: of the others
//! a few are asked for their load now and then, one after the other, and more at once when a home is lost.

use std::collections::BTreeMap;

use tandem_core::rng::Rng;
use tandem_proto::ids::ServiceKey;

use super::Seen;

/// Supernodes looked at.
pub(super) const CANDIDATES_MAX: usize = 64;
/// So many alive are enough to know of.
const ALIVE_ENOUGH: usize = 6;
/// Asked at once.
const ASKED_MAX: usize = 2;
/// Who answered is asked again after about this long …
const ASK_MS: u64 = 90_000;
/// … and counts as alive until this has passed.
const ALIVE_MS: u64 = 200_000;
/// After a home was lost, all are asked again within this time: others may be gone, too.
const HURRY_MS: u64 = 3_000;
/// Who did not answer is left alone for this long, doubling …
const FAILED_MS: u64 = 20_000;
/// … this often.
const FAILED_DOUBLINGS_MAX: u8 = 5;
/// An answer that has not come by then will not come.
const ANSWER_MS: u64 = 10_000;

#[derive(Debug, Clone, Copy, Default)]
struct Watched {
    /// Until then it counts as alive.
    alive_until_ms: u64,
    /// A question is on its way: until then.
    asked_until_ms: Option<u64>,
    next_ms: u64,
    failures: u8,
}

/// The look-out of a reserve, or of one that may become one.
#[derive(Debug, Clone)]
pub(super) struct Lookout {
    rng: Rng,
    /// At most [`CANDIDATES_MAX`].
    watched: BTreeMap<ServiceKey, Watched>,
    candidates: Vec<Seen>,
    homes: Vec<ServiceKey>,
}

impl Lookout {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), watched: BTreeMap::new(), candidates: Vec::new(), homes: Vec::new() }
    }

    /// The supernodes known now, and which of them are homes of this node.
    pub(super) fn set_known(&mut self, mut candidates: Vec<Seen>, homes: Vec<ServiceKey>, now_mono_ms: u64) {
        candidates.truncate(CANDIDATES_MAX);
        self.watched.retain(|service, _| candidates.iter().any(|seen| seen.service == *service));
        for seen in &candidates {
            self.watched.entry(seen.service).or_default();
        }
        let lost: Vec<ServiceKey> = self.homes.iter().filter(|home| !homes.contains(home)).copied().collect();
        if !lost.is_empty() {
            for watched in self.watched.values_mut().filter(|watched| watched.failures == 0) {
                watched.next_ms = watched.next_ms.min(now_mono_ms + self.rng.below(HURRY_MS));
            }
        }
        for home in lost {
            if let Some(watched) = self.watched.get_mut(&home) {
                watched.alive_until_ms = 0;
            }
        }
        (self.candidates, self.homes) = (candidates, homes);
    }

    /// It answered, whatever it said.
    pub(super) fn answered(&mut self, service: &ServiceKey, load_percent: Option<u32>, now_mono_ms: u64) {
        if let Some(watched) = self.watched.get_mut(service) {
            let next_ms = now_mono_ms + self.rng.around(ASK_MS, 25);
            *watched = Watched { alive_until_ms: now_mono_ms + ALIVE_MS, next_ms, ..Watched::default() };
        }
        let seen = self.candidates.iter_mut().find(|seen| seen.service == *service);
        if let (Some(seen), Some(load_percent)) = (seen, load_percent) {
            seen.load_percent = load_percent;
        }
    }

    /// It did not answer, or could not be reached.
    pub(super) fn failed(&mut self, service: &ServiceKey, now_mono_ms: u64) {
        if let Some(watched) = self.watched.get_mut(service) {
            let wait_ms = FAILED_MS << watched.failures.min(FAILED_DOUBLINGS_MAX);
            let next_ms = now_mono_ms + self.rng.around(wait_ms, 30);
            let failures = watched.failures.saturating_add(1);
            *watched = Watched { next_ms, failures, ..Watched::default() };
        }
    }

    /// It was not asked after all: this node has asked as many others as it may. That says nothing of it.
    pub(super) fn held_back(&mut self, service: &ServiceKey, wait_ms: u64, now_mono_ms: u64) {
        if let Some(watched) = self.watched.get_mut(service) {
            watched.asked_until_ms = None;
            watched.next_ms = now_mono_ms + wait_ms + self.rng.below(HURRY_MS);
        }
    }

    /// Whom to ask for its load now. Answer: [`Self::answered`], [`Self::failed`] or
    /// [`Self::held_back`].
    pub(super) fn poll(&mut self, now_mono_ms: u64) -> Option<ServiceKey> {
        let overdue: Vec<ServiceKey> = self
            .watched
            .iter()
            .filter(|(_, it)| it.asked_until_ms.is_some_and(|until_ms| until_ms <= now_mono_ms))
            .map(|(service, _)| *service)
            .collect();
        for service in overdue {
            self.failed(&service, now_mono_ms);
        }
        if self.watched.values().filter(|it| it.asked_until_ms.is_some()).count() >= ASKED_MAX {
            return None;
        }
        let enough = self.alive(now_mono_ms).count() >= ALIVE_ENOUGH;
        let in_network = |network: u32| self.alive(now_mono_ms).filter(|it| it.network == network).count();
        let due = self.candidates.iter().filter(|seen| {
            let watched = self.watched.get(&seen.service);
            let wanted = |it: &Watched| {
                it.asked_until_ms.is_none()
                    && it.next_ms <= now_mono_ms
                    && (!enough || it.alive_until_ms > now_mono_ms)
            };
            !self.homes.contains(&seen.service) && watched.is_some_and(wanted)
        });
        let ranked: Vec<(usize, ServiceKey)> =
            due.map(|seen| (in_network(seen.network), seen.service)).collect();
        let ranked = ranked.into_iter().map(|(rank, service)| (rank, self.rng.next_u64(), service));
        let (_, _, service) = ranked.min()?;
        self.watched.get_mut(&service)?.asked_until_ms = Some(now_mono_ms + ANSWER_MS);
        Some(service)
    }

    /// Those that are alive: homes first.
    pub(super) fn alive(&self, now_mono_ms: u64) -> impl Iterator<Item = &Seen> {
        let is_home = |seen: &&Seen| self.homes.contains(&seen.service);
        let answered = move |seen: &&Seen| {
            self.watched.get(&seen.service).is_some_and(|it| it.alive_until_ms > now_mono_ms)
        };
        let homes = self.candidates.iter().filter(is_home);
        homes.chain(self.candidates.iter().filter(move |seen| !is_home(seen) && answered(seen)))
    }
}

#[cfg(test)]
mod tests {
    use tandem_proto::signed::Roles;

    use super::*;

    fn seen(n: u8) -> Seen {
        Seen { service: ServiceKey([n; 32]), network: u32::from(n), roles: Roles(3), load_percent: 10 }
    }

    /// A network in which those with numbers below `dead_below` are gone.
    struct World {
        lookout: Lookout,
        known: Vec<Seen>,
        dead_below: u8,
        asked: usize,
    }

    impl World {
        fn new(supernodes: u8) -> Self {
            let known = (0..supernodes).map(seen).collect();
            Self { lookout: Lookout::new(1), known, dead_below: 0, asked: 0 }
        }

        fn alive_after(&mut self, homes: std::ops::Range<u8>, from_ms: u64, until_ms: u64) -> usize {
            let homes: Vec<ServiceKey> = homes.map(|n| seen(n).service).collect();
            for now_ms in (from_ms..until_ms).step_by(2_000) {
                self.lookout.set_known(self.known.clone(), homes.clone(), now_ms);
                while let Some(service) = self.lookout.poll(now_ms) {
                    self.asked += 1;
                    if service.0[0] < self.dead_below {
                        self.lookout.failed(&service, now_ms);
                    } else {
                        self.lookout.answered(&service, Some(40), now_ms);
                    }
                }
            }
            self.lookout.alive(until_ms).count()
        }
    }

    #[test]
    fn a_few_are_known_to_live_and_seldom_asked() {
        let mut world = World::new(40);
        assert_eq!(world.alive_after(0..3, 0, 2_000), ALIVE_ENOUGH, "at once");
        assert_eq!(world.alive_after(0..3, 2_000, 3_600_000), ALIVE_ENOUGH);
        assert!((100..=180).contains(&world.asked), "{} questions in an hour", world.asked);
        let told: Vec<u32> = world.lookout.alive(3_600_000).map(|seen| seen.load_percent).collect();
        assert!(told.contains(&40) || told.iter().all(|load| *load == 10), "{told:?}");
    }

    #[test]
    fn the_dead_do_not_count_for_long() {
        let mut world = World::new(8);
        assert_eq!(world.alive_after(0..3, 0, 60_000), ALIVE_ENOUGH);
        // All but two die; a home among them is noticed, and the others are asked at once.
        world.dead_below = 6;
        assert_eq!(world.alive_after(6..8, 60_000, 66_000), 2);
        let before = world.asked;
        assert_eq!(world.alive_after(6..8, 66_000, 600_000), 2);
        assert!(world.asked - before < 60, "{} questions to the dead", world.asked - before);
        world.dead_below = 0;
        assert_eq!(world.alive_after(6..8, 600_000, 1_800_000), ALIVE_ENOUGH, "they came back");
    }

    #[test]
    fn one_that_could_not_be_asked_yet_is_not_taken_for_dead() {
        let mut lookout = Lookout::new(1);
        lookout.set_known(vec![seen(1)], Vec::new(), 0);
        let service = lookout.poll(0).unwrap();
        lookout.answered(&service, Some(40), 0);
        let again_ms = (0..).step_by(1_000).find(|now_ms| lookout.poll(*now_ms).is_some()).unwrap();
        lookout.held_back(&service, 5_000, again_ms);
        assert_eq!((lookout.poll(again_ms + 4_999), lookout.alive(again_ms).count()), (None, 1));
        assert_eq!(lookout.poll(again_ms + 5_000 + HURRY_MS), Some(service));
    }

    #[test]
    fn one_that_says_nothing_is_not_waited_for() {
        let mut lookout = Lookout::new(1);
        lookout.set_known((0..10).map(seen).collect(), Vec::new(), 0);
        let asked = std::iter::from_fn(|| lookout.poll(0)).count();
        assert_eq!((asked, lookout.alive(0).count()), (ASKED_MAX, 0));
        assert_eq!(std::iter::from_fn(|| lookout.poll(ANSWER_MS)).count(), ASKED_MAX, "others are asked");
    }
}
