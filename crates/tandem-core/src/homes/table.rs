//! The supernodes a leaf knows of: a small array sorted by peer, from which homes are chosen.

use crate::peer::{KnownPeer, PeerRef};
use crate::rng::Rng;

/// How many supernodes a leaf remembers.
pub const KNOWN_MAX: usize = 32;
/// Nobody can fill the table alone: at most this many from one referrer.
const FROM_ONE_REFERRER_MAX: usize = 8;
/// After this many failures in a row a supernode counts as gone, though it is still tried now and then.
const FAILURES_GONE: u8 = 3;
/// Homes are the best of a random sample of this size, not the best of all: always taking the nearest would tell
/// where a person is, and invite an attacker to be the nearest.
const SAMPLE: usize = 4;
/// Latency class of a supernode never measured: neither preferred nor avoided.
const CLASS_UNKNOWN: u8 = 2;
const CLASS_BOUNDS_MS: [u32; 4] = [30, 80, 150, 300];

/// From this load on, others are preferred.
const FULL_PERCENT: u32 = 90;

const NO_REFERRER: u32 = u32::MAX;

/// One known supernode, 24 bytes.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) peer: PeerRef,
    pub(super) network: u32,
    referrer: u32,
    /// Not to be tried before this moment (tenths of a second on the monotonic clock).
    not_before_ds: u32,
    failures: u8,
    class: u8,
    port_443: bool,
    /// It says itself that it has no capacity to spare.
    full: bool,
    distrusted: bool,
}

impl Entry {
    fn new(known: &KnownPeer) -> Self {
        Self {
            peer: known.peer,
            network: known.network,
            referrer: known.referrer.map_or(NO_REFERRER, |referrer| referrer.0),
            not_before_ds: 0,
            failures: 0,
            class: CLASS_UNKNOWN,
            port_443: known.port_443,
            full: false,
            distrusted: false,
        }
    }

    fn not_before_ms(&self) -> u64 {
        u64::from(self.not_before_ds) * 100
    }

    fn gone(&self) -> bool {
        self.distrusted || self.failures >= FAILURES_GONE
    }
}

/// What a choice must respect: the links there are, by peer.
pub(super) struct Choice<'a> {
    pub(super) linked: &'a [PeerRef],
    /// Two homes may share a network, since there are not enough networks.
    pub(super) shared_network: bool,
}

/// All known supernodes.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    entries: Vec<Entry>,
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

    /// Remembers a supernode. When the table is full, one that failed makes room, or one of a referrer that is
    /// over-represented; never one of `linked`. Says whether it is new.
    pub(super) fn insert(&mut self, known: &KnownPeer, linked: &[PeerRef]) -> bool {
        if let Some(entry) = self.get_mut(known.peer) {
            entry.network = known.network;
            entry.port_443 |= known.port_443;
            return false;
        }
        if known.referrer.is_some_and(|referrer| self.referred_by(referrer.0) >= FROM_ONE_REFERRER_MAX) {
            return false;
        }
        if self.entries.len() >= KNOWN_MAX && !self.make_room(known, linked) {
            return false;
        }
        let at = self.entries.partition_point(|entry| entry.peer < known.peer);
        self.entries.reserve_exact(1);
        self.entries.insert(at, Entry::new(known));
        true
    }

    fn referred_by(&self, referrer: u32) -> usize {
        self.entries.iter().filter(|entry| entry.referrer == referrer).count()
    }

    fn make_room(&mut self, known: &KnownPeer, linked: &[PeerRef]) -> bool {
        let newcomer_share = known.referrer.map_or(0, |referrer| self.referred_by(referrer.0));
        let victim = (0..self.entries.len())
            .filter(|&at| !linked.contains(&self.entries[at].peer) && !self.entries[at].distrusted)
            .map(|at| (self.entries[at].failures, self.referred_by(self.entries[at].referrer), at))
            .max();
        let Some((failures, share, at)) = victim else { return false };
        if failures == 0 && share < newcomer_share + 2 {
            return false;
        }
        self.entries.remove(at);
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
        let mut sample: [Option<&Entry>; SAMPLE] = [None; SAMPLE];
        let mut seen = 0_u64;
        let mut soonest_ms: Option<u64> = None;
        for entry in self.entries.iter().filter(|entry| self.fits(entry, choice)) {
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
        let cost = |entry: &Entry| {
            (
                entry.failures.min(FAILURES_GONE),
                entry.full,
                self.shares_referrer(entry, choice),
                wants_443 && !entry.port_443,
                entry.class,
            )
        };
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

    pub(super) fn measured(&mut self, peer: PeerRef, rtt_ms: u32) {
        if let Some(entry) = self.get_mut(peer) {
            let class = CLASS_BOUNDS_MS.iter().filter(|&&bound_ms| rtt_ms >= bound_ms).count();
            entry.class = u8::try_from(class).unwrap_or(u8::MAX);
        }
    }

    pub(super) fn set_load(&mut self, peer: PeerRef, load_percent: u32) {
        if let Some(entry) = self.get_mut(peer) {
            entry.full = load_percent >= FULL_PERCENT;
        }
    }

    pub(super) fn succeeded(&mut self, peer: PeerRef) {
        if let Some(entry) = self.get_mut(peer) {
            entry.failures = 0;
        }
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

    /// The last result for a peer, as it should be remembered on disk.
    pub(super) fn remembered(&self) -> impl Iterator<Item = (PeerRef, u8)> {
        self.entries.iter().filter(|entry| !entry.distrusted).map(|entry| (entry.peer, entry.failures))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(peer: u32, network: u32, referrer: Option<u32>) -> KnownPeer {
        KnownPeer { peer: PeerRef(peer), network, referrer: referrer.map(PeerRef), port_443: false }
    }

    fn table(peers: &[KnownPeer]) -> Table {
        let mut table = Table::default();
        for peer in peers {
            assert!(table.insert(peer, &[]));
        }
        table
    }

    fn choose(table: &Table, linked: &[PeerRef], seed: u64) -> Option<u32> {
        let choice = Choice { linked, shared_network: false };
        table.choose(&choice, &mut Rng::new(seed), 0).ok().map(|peer| peer.0)
    }

    #[test]
    fn nobody_fills_the_table_alone() {
        let mut table = Table::default();
        let taken = (0..100).filter(|&peer| table.insert(&known(peer, peer, Some(500)), &[])).count();
        assert_eq!(taken, FROM_ONE_REFERRER_MAX);
        for peer in 100..300 {
            table.insert(&known(peer, peer, Some(peer % 50 + 600)), &[]);
        }
        assert_eq!(table.len(), KNOWN_MAX);
    }

    #[test]
    fn a_full_table_gives_up_what_failed_never_what_is_linked() {
        let peers: Vec<KnownPeer> = (0..32).map(|peer| known(peer, peer, None)).collect();
        let mut table = table(&peers);
        table.failed(PeerRef(3), &mut Rng::new(1), 0);
        table.failed(PeerRef(4), &mut Rng::new(1), 0);
        assert!(table.insert(&known(90, 90, None), &[PeerRef(4)]));
        assert!(table.get(PeerRef(3)).is_none() && table.get(PeerRef(4)).is_some());
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
        let choice = Choice { linked: &[], shared_network: false };
        assert_eq!(table.choose(&choice, &mut Rng::new(1), 0), Err(Some(1_300)));
        assert_eq!(table.choose(&choice, &mut Rng::new(1), 1_300), Ok(PeerRef(1)));
    }
}
