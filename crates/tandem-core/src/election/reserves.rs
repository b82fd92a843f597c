//! The reserves a supernode knows: those that announced themselves to it.

use crate::peer::PeerRef;
use crate::rng::Rng;

/// Reserves remembered.
pub const RESERVES_MAX: usize = 64;
/// Of one network: whoever has many addresses in one place does not fill the table.
const PER_NETWORK_MAX: usize = 2;
/// An announcement counts for this long.
const KEPT_MS: u64 = 2 * 60 * 60_000;
/// Those known for this long are invited before newer ones: a flood that has just begun is not.
const SEASONED_MS: u64 = 20 * 60_000;

#[derive(Debug, Clone, Copy)]
struct Reserve {
    peer: PeerRef,
    network: u32,
    first_ms: u64,
    last_ms: u64,
}

/// A small array, sorted by peer.
#[derive(Debug, Clone, Default)]
pub struct Reserves {
    known: Vec<Reserve>,
}

impl Reserves {
    /// How many are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// None is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// A reserve announced itself. A full table, or a network that has its share, takes nobody new: no flood displaces
    /// those who are in it.
    pub fn announce(&mut self, peer: PeerRef, network: u32, now_mono_ms: u64) -> bool {
        self.forget_old(now_mono_ms);
        match self.known.binary_search_by_key(&peer, |reserve| reserve.peer) {
            Ok(at) if self.known[at].network == network => {
                self.known[at].last_ms = now_mono_ms;
                return true;
            }
            // It moved: it is a new one there, under that network's limit.
            Ok(at) => {
                self.known.remove(at);
            }
            Err(_) => {}
        }
        let in_network = self.known.iter().filter(|reserve| reserve.network == network).count();
        if in_network >= PER_NETWORK_MAX || self.known.len() >= RESERVES_MAX {
            return false;
        }
        let at = self.known.partition_point(|reserve| reserve.peer < peer);
        self.known.insert(at, Reserve { peer, network, first_ms: now_mono_ms, last_ms: now_mono_ms });
        true
    }

    /// These serve by now.
    pub fn forget_all(&mut self, peers: impl Iterator<Item = PeerRef>) {
        for peer in peers.take(if self.known.is_empty() { 0 } else { usize::MAX }) {
            self.forget(peer);
        }
    }

    fn forget(&mut self, peer: PeerRef) {
        self.known.retain(|reserve| reserve.peer != peer);
    }

    /// Whom to invite: anybody, what it says of itself is no reason. It is forgotten with that, since it may be dead;
    /// if it is not, it will announce itself again.
    pub fn take(&mut self, rng: &mut Rng, now_mono_ms: u64) -> Option<PeerRef> {
        self.forget_old(now_mono_ms);
        let rank = |reserve: &Reserve| now_mono_ms < reserve.first_ms + SEASONED_MS;
        let ranked = self.known.iter().map(|reserve| (rank(reserve), rng.next_u64(), reserve.peer));
        let (_, _, peer) = ranked.min()?;
        self.forget(peer);
        Some(peer)
    }

    fn forget_old(&mut self, now_mono_ms: u64) {
        self.known.retain(|reserve| now_mono_ms < reserve.last_ms + KEPT_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_holds_two_places() {
        let mut reserves = Reserves::default();
        let taken = (0..100).filter(|&peer| reserves.announce(PeerRef(peer), 7, 0)).count();
        assert_eq!(taken, PER_NETWORK_MAX);
        assert!(reserves.announce(PeerRef(0), 7, 10), "it is known, and may say so again");
    }

    #[test]
    fn a_flood_displaces_nobody_and_is_not_invited_before_those_who_were_there() {
        let mut reserves = Reserves::default();
        for peer in 0..10 {
            reserves.announce(PeerRef(peer), peer, 0);
        }
        for peer in 10..1_000 {
            reserves.announce(PeerRef(peer), peer, SEASONED_MS);
        }
        assert_eq!(reserves.len(), RESERVES_MAX);
        let mut rng = Rng::new(1);
        let invited: Vec<u32> =
            (0..10).map(|_| reserves.take(&mut rng, SEASONED_MS + 1).unwrap().0).collect();
        assert!(invited.iter().all(|&peer| peer < 10), "{invited:?}");
        assert!(reserves.take(&mut rng, SEASONED_MS + 1).is_some_and(|peer| peer.0 >= 10));
    }

    #[test]
    fn announcements_grow_old() {
        let mut reserves = Reserves::default();
        reserves.announce(PeerRef(1), 1, 0);
        assert_eq!(reserves.take(&mut Rng::new(1), KEPT_MS), None);
        assert!(reserves.is_empty());
    }

    #[test]
    fn one_that_moves_is_counted_where_it_is() {
        let mut reserves = Reserves::default();
        for peer in 0..3 {
            reserves.announce(PeerRef(peer), peer, 0);
        }
        assert!(reserves.announce(PeerRef(1), 0, 1));
        assert!(!reserves.announce(PeerRef(2), 0, 1));
        assert_eq!(reserves.len(), 2);
    }
}
