//! The supernodes a leaf knows of: a small array sorted by peer, from which homes are chosen.

use crate::peer::{KnownPeer, PeerRef, RELEASE_UNKNOWN};
use crate::rng::Rng;

/// How many supernodes a leaf remembers.
pub const KNOWN_MAX: usize = 32;
/// Nobody can fill the table alone: at most this many from one referrer.
const FROM_ONE_REFERRER_MAX: usize = 8;
/// At most this many of one network, once the table holds [`CROWDED_FROM`]: addresses in one place are cheap.
const FROM_ONE_NETWORK_MAX: usize = 4;
const CROWDED_FROM: usize = KNOWN_MAX / 2;
/// Another release counts when those in so many networks run it: what one network runs alone may be a lure.
const RELEASE_NETWORKS_MIN: usize = 3;
/// After this many failures in a row a supernode counts as gone, though it is still tried now and then.
const FAILURES_GONE: u8 = 3;
/// Homes are the best of a random sample of this size, not the best of all: always taking the nearest would tell
/// where a person is, and invite an attacker to be the nearest.
const SAMPLE: usize = 4;
/// A supernode never measured is neither preferred nor avoided: it counts as of this class.
const CLASS_UNMEASURED: u8 = 2;
const CLASS_UNKNOWN: u8 = u8::MAX;
/// Round trips, in milliseconds, from which on the next class begins.
pub const CLASS_BOUNDS_MS: [u32; 4] = [30, 80, 150, 300];

/// From these loads on, others are preferred: a little, and before everything else.
const BUSY_PERCENT: u32 = 70;
const FULL_PERCENT: u32 = 90;
/// What is known of a load: room, said in the last minute or two; room, said before that, or nothing; busy; full.
const ROOM: u8 = 0;
const ROOM_ONCE: u8 = 1;
const BUSY: u8 = 2;
const FULL: u8 = 3;

/// Quality of a supernode never used, of 255. It grows with every publication that a home was held for, and falls
/// with every loss.
pub const QUALITY_UNKNOWN: u8 = 128;
const QUALITY_GAIN: u8 = 8;
/// Below this, others are preferred.
const QUALITY_POOR: u8 = 64;

const NO_REFERRER: u32 = u32::MAX;

/// One known supernode, 24 bytes.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) peer: PeerRef,
    pub(super) network: u32,
    referrer: u32,
    /// Not to be tried before this moment (tenths of a second on the monotonic clock).
    not_before_ds: u32,
    release: u16,
    failures: u8,
    class: u8,
    /// From [`ROOM`] to [`FULL`]: what it says itself of its load, and how lately if that was little.
    load: u8,
    quality: u8,
    port_443: bool,
    distrusted: bool,
}

impl Entry {
    fn new(known: &KnownPeer) -> Self {
        Self {
            peer: known.peer,
            network: known.network,
            referrer: known.referrer.map_or(NO_REFERRER, |referrer| referrer.0),
            not_before_ds: 0,
            release: known.release,
            failures: 0,
            class: CLASS_UNKNOWN,
            load: ROOM_ONCE,
            quality: QUALITY_UNKNOWN,
            port_443: known.port_443,
            distrusted: false,
        }
    }

    fn not_before_ms(&self) -> u64 {
        u64::from(self.not_before_ds) * 100
    }

    fn gone(&self) -> bool {
        self.distrusted || self.failures >= FAILURES_GONE
    }

    fn says_room(&self) -> bool {
        self.load == ROOM && self.failures == 0 && !self.is_poor()
    }

    fn is_poor(&self) -> bool {
        self.quality < QUALITY_POOR
    }

    fn class(&self) -> Option<u8> {
        (self.class != CLASS_UNKNOWN).then_some(self.class)
    }

    fn standing(&self) -> Standing {
        Standing {
            peer: self.peer,
            network: self.network,
            release: self.release,
            referrer: (self.referrer != NO_REFERRER).then_some(PeerRef(self.referrer)),
            latency_class: self.class(),
            load_class: self.load.saturating_sub(ROOM_ONCE),
            quality: self.quality,
            is_poor: self.is_poor(),
            failures: self.failures,
            port_443: self.port_443,
            not_before_ms: self.not_before_ms(),
            distrusted: self.distrusted,
        }
    }

    /// What makes another one preferable, the weightiest first.
    fn cost(&self, shares_referrer: bool, lacks_443: bool) -> impl Ord + use<> {
        let failures = self.failures.min(FAILURES_GONE);
        let class = self.class().unwrap_or(CLASS_UNMEASURED);
        (failures, self.load == FULL, self.is_poor(), shares_referrer, lacks_443, self.load, class)
    }
}

/// What is worth keeping of a supernode when the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    pub peer: PeerRef,
    /// Since it last worked.
    pub failures: u8,
    /// How it served as a home: 0 to 255, [`QUALITY_UNKNOWN`] if it never did.
    pub quality: u8,
    /// By [`CLASS_BOUNDS_MS`], where it was measured.
    pub latency_class: Option<u8>,
    /// It gave an answer that did not verify: it is never chosen.
    pub distrusted: bool,
}

/// What is known of a supernode as a home: what it is chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub peer: PeerRef,
    pub network: u32,
    /// See [`crate::peer::release`].
    pub release: u16,
    /// Who told of it; `None`: the bootstrap list or our own memory.
    pub referrer: Option<PeerRef>,
    /// By [`CLASS_BOUNDS_MS`], where it was measured.
    pub latency_class: Option<u8>,
    /// What it says of its load: 0 has room, 1 busy, 2 nearly full.
    pub load_class: u8,
    /// How it served as a home: 0 to 255, [`QUALITY_UNKNOWN`] if it never did.
    pub quality: u8,
    /// Others are preferred for how it served.
    pub is_poor: bool,
    /// Since it last worked.
    pub failures: u8,
    pub port_443: bool,
    /// Not tried before this moment (monotonic, in milliseconds).
    pub not_before_ms: u64,
    pub distrusted: bool,
}

/// What a choice must respect: the links there are, by peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice<'a> {
    pub(super) linked: &'a [PeerRef],
    /// Two homes may share a network, since there are not enough networks.
    pub(super) shared_network: bool,
    pub(super) release: Release,
}

/// What a third home may run, where two run the same and others are known that do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Release {
    /// Another one, or there is no choice.
    Other,
    /// Another one, if somebody who runs it can be tried now.
    RatherOther,
    /// Attempts failed: whoever has room.
    Any,
}

/// All known supernodes.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    entries: Vec<Entry>,
    /// Those that were forgotten before the time came that they had named, and that time (in tenths of a second).
    shunned: Vec<(PeerRef, u32)>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, peer: PeerRef) -> Option<&Entry> {
        self.position(peer).ok().map(|at| &self.entries[at])
    }

    fn get_mut(&mut self, peer: PeerRef) -> Option<&mut Entry> {
        self.position(peer).ok().map(|at| &mut self.entries[at])
    }

    fn position(&self, peer: PeerRef) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&peer, |entry| entry.peer)
    }

    /// Remembers a supernode. When the table is full, one that failed makes room, one that refused us, or one of a
    /// referrer that is over-represented; never one of `linked`. Says whether it is new.
    pub(super) fn insert(&mut self, known: &KnownPeer, linked: &[PeerRef], now_mono_ms: u64) -> bool {
        if let Some(entry) = self.get_mut(known.peer) {
            entry.network = known.network;
            entry.port_443 |= known.port_443;
            if known.release != RELEASE_UNKNOWN {
                entry.release = known.release;
            }
            return false;
        }
        if known.referrer.is_some_and(|referrer| !self.has_share(referrer.0, linked, now_mono_ms)) {
            return false;
        }
        let crowded =
            self.entries.len() >= CROWDED_FROM && self.in_network(known.network) >= FROM_ONE_NETWORK_MAX;
        if (crowded || self.entries.len() >= KNOWN_MAX)
            && !self.make_room(known, crowded, linked, now_mono_ms)
        {
            return false;
        }
        let at = self.entries.partition_point(|entry| entry.peer < known.peer);
        self.entries.reserve_exact(1);
        self.entries.insert(at, Entry::new(known));
        self.recall(known.peer, now_mono_ms);
        true
    }

    /// Somebody is forgotten, but not that it asked us to stay away.
    fn forget(&mut self, at: usize, now_mono_ms: u64) {
        let entry = self.entries.remove(at);
        if entry.not_before_ms() > now_mono_ms {
            if self.shunned.len() >= KNOWN_MAX {
                self.shunned.remove(0);
            }
            self.shunned.push((entry.peer, entry.not_before_ds));
        }
    }

    /// It was told of again.
    fn recall(&mut self, peer: PeerRef, now_mono_ms: u64) {
        if self.shunned.is_empty() {
            return;
        }
        self.shunned.retain(|(_, until_ds)| u64::from(*until_ds) * 100 > now_mono_ms);
        if let Some(at) = self.shunned.iter().position(|(shunned, _)| *shunned == peer) {
            let (_, until_ds) = self.shunned.remove(at);
            self.leave_alone(peer, u64::from(until_ds) * 100);
        }
        self.shunned.shrink_to_fit();
    }

    /// The referrer's share has a place: one more, or that of one it named before who could not be reached. (Else where
    /// many died, the only home left could name nobody who came in their place.)
    fn has_share(&mut self, referrer: u32, linked: &[PeerRef], now_mono_ms: u64) -> bool {
        if self.referred_by(referrer) < FROM_ONE_REFERRER_MAX {
            return true;
        }
        let own = |entry: &Entry| entry.referrer == referrer && !entry.distrusted && entry.failures > 0;
        let failed = self.entries.iter().enumerate();
        let failed = failed.filter(|(_, entry)| own(entry) && !linked.contains(&entry.peer));
        let victim = failed.map(|(at, entry)| (entry.failures, at)).max();
        if let Some((_, at)) = victim {
            self.forget(at, now_mono_ms);
        }
        victim.is_some()
    }

    fn referred_by(&self, referrer: u32) -> usize {
        self.entries.iter().filter(|entry| entry.referrer == referrer).count()
    }

    fn in_network(&self, network: u32) -> usize {
        self.entries.iter().filter(|entry| entry.network == network).count()
    }

    /// `crowded`: a place of the newcomer's own network must become free, any other is no help.
    fn make_room(&mut self, known: &KnownPeer, crowded: bool, linked: &[PeerRef], now_mono_ms: u64) -> bool {
        let newcomer_share = known.referrer.map_or(0, |referrer| self.referred_by(referrer.0));
        let newcomer_network = self.in_network(known.network);
        let victim = self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| !linked.contains(&entry.peer) && !entry.distrusted)
            .filter(|(_, entry)| !crowded || entry.network == known.network)
            .map(|(at, entry)| {
                let shares = (self.in_network(entry.network), self.referred_by(entry.referrer));
                // Whoever is full names others with room: they are of no use if they find no place here.
                let refused = entry.load == FULL && entry.not_before_ms() > now_mono_ms;
                (entry.failures, entry.is_poor(), refused, shares, at)
            })
            .max();
        let Some((failures, poor, refused, (in_network, share), at)) = victim else { return false };
        let over_represented = in_network >= newcomer_network + 2 || share >= newcomer_share + 2;
        if failures == 0 && !poor && !refused && (crowded || !over_represented) {
            return false;
        }
        self.forget(at, now_mono_ms);
        true
    }

    /// Networks in which some known supernode may still answer.
    pub(super) fn usable_networks(&self) -> usize {
        let usable = |entry: &&Entry| !entry.gone();
        self.entries
            .iter()
            .enumerate()
            .filter(|(at, entry)| {
                usable(entry)
                    && !self.entries[..*at]
                        .iter()
                        .filter(usable)
                        .any(|before| before.network == entry.network)
            })
            .count()
    }

    /// The next supernode to try, or when there may be one to try.
    pub(super) fn choose(
        &self,
        choice: &Choice<'_>,
        rng: &mut Rng,
        now_mono_ms: u64,
    ) -> Result<PeerRef, Option<u64>> {
        let tired_of = self.release_to_avoid(choice.linked).filter(|_| choice.release != Release::Any);
        let fits = |entry: &&Entry| {
            self.fits(entry, choice) && tired_of.is_none_or(|release| entry.release != release)
        };
        if choice.release == Release::Any {
            // What is known from long ago was of no use: those come first of whom room was said a moment ago.
            let has_room =
                |entry: &&Entry| fits(entry) && entry.says_room() && !self.shares_referrer(entry, choice);
            if let Ok(peer) = self.pick(has_room, choice, rng, now_mono_ms) {
                return Ok(peer);
            }
        }
        let picked = self.pick(fits, choice, rng, now_mono_ms);
        if picked.is_ok() || tired_of.is_none() || choice.release == Release::Other {
            return picked;
        }
        let all = self.pick(|entry| self.fits(entry, choice), choice, rng, now_mono_ms);
        // Whichever comes first: somebody of another release, or anybody.
        all.map_err(|soonest_ms| soonest_ms.into_iter().chain(picked.err().flatten()).min())
    }

    fn pick(
        &self,
        fits: impl Fn(&&Entry) -> bool,
        choice: &Choice<'_>,
        rng: &mut Rng,
        now_mono_ms: u64,
    ) -> Result<PeerRef, Option<u64>> {
        let mut sample: [Option<&Entry>; SAMPLE] = [None; SAMPLE];
        let mut seen = 0_u64;
        let mut soonest_ms: Option<u64> = None;
        for entry in self.entries.iter().filter(&fits) {
            if entry.not_before_ms() > now_mono_ms {
                soonest_ms =
                    Some(soonest_ms.map_or(entry.not_before_ms(), |ms| ms.min(entry.not_before_ms())));
                continue;
            }
            // Reservoir sampling: every candidate is as likely to be in the sample as any other.
            seen += 1;
            let at = if seen <= SAMPLE as u64 { seen - 1 } else { rng.below(seen) };
            if let Some(slot) = usize::try_from(at).ok().and_then(|at| sample.get_mut(at)) {
                *slot = Some(entry);
            }
        }
        let wants_443 = !self.linked(choice).any(|entry| entry.port_443);
        let cost =
            |entry: &Entry| entry.cost(self.shares_referrer(entry, choice), wants_443 && !entry.port_443);
        let best = sample.into_iter().flatten().map(|entry| (cost(entry), rng.next_u64(), entry.peer)).min();
        best.map(|(_, _, peer)| peer).ok_or(soonest_ms)
    }

    fn fits(&self, entry: &Entry, choice: &Choice<'_>) -> bool {
        !entry.distrusted
            && !choice.linked.contains(&entry.peer)
            && (choice.shared_network || !self.linked(choice).any(|linked| linked.network == entry.network))
    }

    fn shares_referrer(&self, entry: &Entry, choice: &Choice<'_>) -> bool {
        entry.referrer != NO_REFERRER && self.linked(choice).any(|linked| linked.referrer == entry.referrer)
    }

    fn linked<'a>(&'a self, choice: &'a Choice<'_>) -> impl Iterator<Item = &'a Entry> {
        choice.linked.iter().filter_map(|&peer| self.get(peer))
    }

    /// Two of `peers` run the same release, and another one is known well enough: what a third should not run, so
    /// that one faulty release cannot take all homes.
    pub(super) fn release_to_avoid(&self, peers: &[PeerRef]) -> Option<u16> {
        let releases = || peers.iter().filter_map(|&peer| self.get(peer)).map(|entry| entry.release);
        let twice = |release: &u16| {
            *release != RELEASE_UNKNOWN && releases().filter(|other| other == release).count() >= 2
        };
        releases().find(twice).filter(|release| self.knows_other_release(*release))
    }

    fn knows_other_release(&self, release: u16) -> bool {
        let other =
            |entry: &&Entry| entry.release != release && entry.release != RELEASE_UNKNOWN && !entry.gone();
        let mut networks = [0; RELEASE_NETWORKS_MIN];
        let mut found = 0;
        for entry in self.entries.iter().filter(other) {
            if !networks[..found].contains(&entry.network) {
                networks[found] = entry.network;
                found += 1;
            }
            if found == RELEASE_NETWORKS_MIN {
                return true;
            }
        }
        false
    }

    pub(super) fn release_of(&self, peer: PeerRef) -> u16 {
        self.get(peer).map_or(RELEASE_UNKNOWN, |entry| entry.release)
    }

    pub(super) fn measured(&mut self, peer: PeerRef, rtt_ms: u32) {
        if let Some(entry) = self.get_mut(peer) {
            let class = CLASS_BOUNDS_MS.iter().filter(|&&bound_ms| rtt_ms >= bound_ms).count();
            entry.class = u8::try_from(class).unwrap_or(CLASS_UNMEASURED);
        }
    }

    pub(super) fn set_load(&mut self, peer: PeerRef, load_percent: u32) {
        if let Some(entry) = self.get_mut(peer) {
            entry.load = match load_percent {
                FULL_PERCENT.. => FULL,
                BUSY_PERCENT.. => BUSY,
                _ => ROOM,
            };
        }
    }

    /// What was said of loads was said a while ago.
    pub(super) fn age_loads(&mut self) {
        for entry in &mut self.entries {
            entry.load = entry.load.max(ROOM_ONCE);
        }
    }

    pub(super) fn succeeded(&mut self, peer: PeerRef) {
        if let Some(entry) = self.get_mut(peer) {
            entry.failures = 0;
        }
    }

    /// It was held as a home for another while.
    pub(super) fn served_well(&mut self, peer: PeerRef) {
        if let Some(entry) = self.get_mut(peer) {
            entry.quality = entry.quality.saturating_add(QUALITY_GAIN);
        }
    }

    /// It was a home and was lost, or left something out.
    pub(super) fn served_badly(&mut self, peer: PeerRef) {
        if let Some(entry) = self.get_mut(peer) {
            entry.quality -= entry.quality / 4;
        }
    }

    /// Those that served best as homes, if any did and work.
    pub(super) fn proven(&self, limit: usize, rng: &mut Rng) -> Vec<PeerRef> {
        let works =
            |entry: &&Entry| entry.quality > QUALITY_UNKNOWN && entry.failures == 0 && !entry.distrusted;
        let mut proven: Vec<&Entry> = self.entries.iter().filter(works).collect();
        proven.sort_by_cached_key(|entry| (std::cmp::Reverse(entry.quality), rng.next_u64()));
        proven.into_iter().take(limit).map(|entry| entry.peer).collect()
    }

    /// Counts a failure; the peer is left alone for a while, longer each time.
    pub(super) fn failed(&mut self, peer: PeerRef, rng: &mut Rng, now_mono_ms: u64) {
        if let Some(entry) = self.get_mut(peer) {
            entry.failures = entry.failures.saturating_add(1);
            let span_ms = (1_000_u64 << u32::from(entry.failures.min(16))).min(600_000);
            let delay_ms = span_ms / 2 + rng.below(span_ms / 2);
            self.leave_alone(peer, now_mono_ms + delay_ms);
        }
    }

    /// It has no place for us before `until_ms`.
    pub(super) fn refused(&mut self, peer: PeerRef, until_ms: u64) {
        if let Some(entry) = self.get_mut(peer) {
            entry.load = FULL;
        }
        self.leave_alone(peer, until_ms);
    }

    /// Not to be tried before `until_ms`.
    pub(super) fn leave_alone(&mut self, peer: PeerRef, until_ms: u64) {
        if let Some(entry) = self.get_mut(peer) {
            entry.not_before_ds =
                entry.not_before_ds.max(u32::try_from(until_ms.div_ceil(100)).unwrap_or(u32::MAX));
        }
    }

    pub(super) fn distrust(&mut self, peer: PeerRef) {
        if let Some(entry) = self.get_mut(peer) {
            entry.distrusted = true;
        }
    }

    /// This machine's network changed: what failed before may work now.
    pub(super) fn forgive(&mut self) {
        for entry in self.entries.iter_mut().filter(|entry| entry.failures > 0) {
            entry.failures = 0;
            entry.not_before_ds = 0;
        }
    }

    /// What was measured, as it should be kept on disk.
    pub(super) fn remembered(&self) -> impl Iterator<Item = Remembered> {
        self.entries.iter().map(|entry| Remembered {
            peer: entry.peer,
            failures: entry.failures,
            quality: entry.quality,
            latency_class: entry.class(),
            distrusted: entry.distrusted,
        })
    }

    /// What was measured before the program started. Failures are not taken over: they may be long past.
    pub(super) fn remember(&mut self, remembered: &Remembered) {
        if let Some(entry) = self.get_mut(remembered.peer) {
            entry.quality = remembered.quality;
            entry.class = remembered.latency_class.unwrap_or(CLASS_UNKNOWN);
            entry.distrusted = remembered.distrusted;
        }
    }

    pub(super) fn standing(&self, peer: PeerRef) -> Option<Standing> {
        self.get(peer).map(Entry::standing)
    }

    /// Who would be tried beside `choice.linked`, the best first, those left alone for now last. Which of them is tried
    /// is drawn by lot ([`SAMPLE`]).
    pub(super) fn next(&self, choice: &Choice<'_>, limit: usize, now_mono_ms: u64) -> Vec<Standing> {
        let tired_of = self.release_to_avoid(choice.linked);
        let fits = |entry: &&Entry| {
            self.fits(entry, choice) && tired_of.is_none_or(|release| entry.release != release)
        };
        let wants_443 = !self.linked(choice).any(|entry| entry.port_443);
        let cost =
            |entry: &Entry| entry.cost(self.shares_referrer(entry, choice), wants_443 && !entry.port_443);
        let later = |entry: &Entry| entry.not_before_ms() > now_mono_ms;
        let mut fitting: Vec<&Entry> = self.entries.iter().filter(fits).collect();
        fitting.sort_by_cached_key(|entry| (later(entry), cost(entry), entry.peer));
        fitting.into_iter().take(limit).map(Entry::standing).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(peer: u32, network: u32, referrer: Option<u32>) -> KnownPeer {
        let referrer = referrer.map(PeerRef);
        KnownPeer { peer: PeerRef(peer), network, referrer, port_443: false, release: RELEASE_UNKNOWN }
    }

    fn running(peer: u32, network: u32, release: u16) -> KnownPeer {
        KnownPeer { release, ..known(peer, network, None) }
    }

    fn table(peers: &[KnownPeer]) -> Table {
        let mut table = Table::default();
        for peer in peers {
            assert!(table.insert(peer, &[], 0));
        }
        table
    }

    fn choose(table: &Table, linked: &[PeerRef], seed: u64) -> Option<u32> {
        let choice = Choice { linked, shared_network: false, release: Release::RatherOther };
        table.choose(&choice, &mut Rng::new(seed), 0).ok().map(|peer| peer.0)
    }

    #[test]
    fn nobody_fills_the_table_alone() {
        let mut table = Table::default();
        let taken = (0..100).filter(|&peer| table.insert(&known(peer, peer, Some(500)), &[], 0)).count();
        assert_eq!(taken, FROM_ONE_REFERRER_MAX);
        table.failed(PeerRef(3), &mut Rng::new(1), 0);
        assert!(!table.insert(&known(100, 100, Some(500)), &[PeerRef(3)], 0), "a link is not given up");
        assert!(table.insert(&known(100, 100, Some(500)), &[], 0), "for one who cannot be reached, another");
        assert!(table.get(PeerRef(3)).is_none() && !table.insert(&known(101, 101, Some(500)), &[], 0));
        for peer in 100..300 {
            table.insert(&known(peer, peer, Some(peer % 50 + 600)), &[], 0);
        }
        assert_eq!(table.len(), KNOWN_MAX);
    }

    #[test]
    fn a_full_table_gives_up_what_failed_never_what_is_linked() {
        let peers: Vec<KnownPeer> = (0..32).map(|peer| known(peer, peer, None)).collect();
        let mut table = table(&peers);
        table.failed(PeerRef(3), &mut Rng::new(1), 0);
        table.failed(PeerRef(4), &mut Rng::new(1), 0);
        assert!(table.insert(&known(90, 90, None), &[PeerRef(4)], 0));
        assert!(table.get(PeerRef(3)).is_none() && table.get(PeerRef(4)).is_some());
    }

    #[test]
    fn who_is_full_makes_room_for_those_it_names() {
        let peers: Vec<KnownPeer> = (0..32).map(|peer| known(peer, peer, Some(peer + 100))).collect();
        let mut table = table(&peers);
        assert!(!table.insert(&known(90, 90, Some(3)), &[], 1_000), "nothing speaks against those there are");
        table.refused(PeerRef(3), 20_000);
        table.refused(PeerRef(4), 20_000);
        let taken = (90..99).filter(|&peer| table.insert(&known(peer, peer, Some(3)), &[PeerRef(4)], 1_000));
        assert_eq!(taken.count(), 1, "one place for one that refused; never the place of a link");
        assert!(table.get(PeerRef(3)).is_none() && table.get(PeerRef(4)).is_some());
        assert_eq!(table.shunned.len(), 1);
        table.failed(PeerRef(5), &mut Rng::new(1), 1_000);
        assert!(table.insert(&known(3, 3, Some(77)), &[PeerRef(4)], 1_000), "it is told of again");
        assert!(table.get(PeerRef(3)).is_some_and(|entry| entry.not_before_ms() == 20_000), "and left alone");
        assert!(table.shunned.iter().all(|(peer, _)| *peer != PeerRef(3)));
    }

    #[test]
    fn networks_and_referrers_of_linked_ones_are_avoided() {
        let table =
            table(&[known(1, 1, Some(9)), known(2, 1, None), known(3, 2, Some(9)), known(4, 3, Some(8))]);
        for seed in 0..20 {
            assert_eq!(choose(&table, &[PeerRef(1)], seed), Some(4));
            assert_eq!(choose(&table, &[PeerRef(1), PeerRef(4)], seed), Some(3));
            assert_eq!(choose(&table, &[PeerRef(1), PeerRef(3), PeerRef(4)], seed), None);
        }
    }

    #[test]
    fn near_ones_with_capacity_are_preferred_but_not_always_the_nearest() {
        let peers: Vec<KnownPeer> = (0..20).map(|peer| known(peer, peer, None)).collect();
        let mut table = table(&peers);
        for peer in 0..20 {
            table.measured(PeerRef(peer), if peer < 10 { 20 } else { 500 });
            table.set_load(PeerRef(peer), if peer == 0 { 100 } else { 10 });
        }
        let chosen: Vec<u32> = (0..400).filter_map(|seed| choose(&table, &[], seed)).collect();
        let near = chosen.iter().filter(|peer| **peer < 10).count();
        assert!((340..400).contains(&near), "{near} of 400");
        assert!((1..10).all(|peer| chosen.contains(&peer)), "always the same ones");
        assert!(chosen.iter().filter(|peer| **peer == 0).count() < 8);
    }

    #[test]
    fn one_left_alone_says_when_it_may_be_tried() {
        let mut table = table(&[known(1, 1, None)]);
        table.leave_alone(PeerRef(1), 1_234);
        let choice = Choice { linked: &[], shared_network: false, release: Release::RatherOther };
        assert_eq!(table.choose(&choice, &mut Rng::new(1), 0), Err(Some(1_300)));
        assert_eq!(table.choose(&choice, &mut Rng::new(1), 1_300), Ok(PeerRef(1)));
    }

    #[test]
    fn a_third_home_runs_another_release_where_several_networks_do() {
        let mut table = Table::default();
        for peer in 0..10 {
            table.insert(&running(peer, peer, 1), &[], 0);
        }
        table.insert(&running(20, 20, 2), &[], 0);
        table.insert(&running(21, 20, 2), &[], 0);
        let linked = [PeerRef(0), PeerRef(1)];
        assert_eq!(table.release_to_avoid(&linked), None, "one network alone may be a lure");
        table.insert(&running(22, 22, 2), &[], 0);
        table.insert(&running(23, 23, 2), &[], 0);
        assert_eq!(table.release_to_avoid(&linked), Some(1));
        assert!((0..50).filter_map(|seed| choose(&table, &linked, seed)).all(|peer| peer >= 20));
        assert_eq!(table.release_to_avoid(&[PeerRef(0), PeerRef(20)]), None);
        let any = Choice { linked: &linked, shared_network: false, release: Release::Any };
        let chosen = (0..50).filter_map(|seed| table.choose(&any, &mut Rng::new(seed), 0).ok());
        assert!(
            chosen.filter(|peer| peer.0 < 10).count() > 20,
            "those with room come before another release"
        );
        for peer in 20..24 {
            table.leave_alone(PeerRef(peer), 50_000);
        }
        assert!(choose(&table, &linked, 1).is_some_and(|peer| peer < 10), "better the same than none");
        let strict = Choice { release: Release::Other, ..any };
        assert_eq!(table.choose(&strict, &mut Rng::new(1), 0), Err(Some(50_000)));
    }

    #[test]
    fn who_served_badly_comes_after_who_did_not_and_is_remembered() {
        let peers: Vec<KnownPeer> = (0..4).map(|peer| known(peer, peer, None)).collect();
        let mut table = table(&peers);
        for _ in 0..3 {
            table.served_badly(PeerRef(0));
            table.served_well(PeerRef(1));
        }
        assert!((0..50).filter_map(|seed| choose(&table, &[], seed)).all(|peer| peer != 0));
        let kept: Vec<Remembered> = table.remembered().collect();
        assert_eq!([kept[0].quality, kept[1].quality, kept[2].quality], [54, 152, 128]);
        table.measured(PeerRef(1), 40);
        table.distrust(PeerRef(3));
        let kept: Vec<Remembered> = table.remembered().collect();
        let mut again = Table::default();
        for (peer, remembered) in peers.iter().zip(&kept) {
            again.insert(peer, &[], 0);
            again.remember(remembered);
        }
        assert_eq!(again.remembered().collect::<Vec<_>>(), kept);
        let chosen: Vec<u32> = (0..50).filter_map(|seed| choose(&again, &[], seed)).collect();
        assert_eq!(chosen, [1; 50], "near, and served well; 0 served badly, 2 is farther, 3 lied");
    }

    #[test]
    fn one_network_does_not_fill_the_table() {
        let mut table = Table::default();
        for peer in 0..1_000 {
            table.insert(&known(peer, 66, Some(peer / 4 + 5_000)), &[], 0);
        }
        assert_eq!(table.len(), CROWDED_FROM);
        for peer in 2_000..2_040 {
            table.insert(&known(peer, peer, Some(peer)), &[], 0);
        }
        assert!(table.in_network(66) <= FROM_ONE_NETWORK_MAX, "{} of 66", table.in_network(66));
    }
}
