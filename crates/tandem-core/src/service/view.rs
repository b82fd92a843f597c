//! What one asker is told of the supernodes that another knows: the rules alone, for [`super::Service`] and for the
//! simulator.

use std::cmp::Ordering;

use crate::rng::Rng;
use crate::time::Now;

/// What one network's devices are told of, and what other supernodes there are told, who must know more to find the
/// nearest to a key. So that nobody learns the whole set, neither of one supernode nor of many.
pub const VIEW_DEVICES: usize = 24;
pub const VIEW_SUPERNODES: usize = 48;
/// From this load on, in per cent, a supernode is told last.
const FULL_PERCENT: u32 = 90;
/// A view lasts this long.
const VIEW_MS: u64 = 7 * 24 * 60 * 60_000;
/// Whoever signed a descriptor so lately has spoken lately.
const SPOKE_LATELY_MS: u64 = 2 * 60_000;

/// Somebody who asks for supernodes, as far as it matters: where from, and when.
///
/// Every supernode shows the same asker the same: the order depends on the asker's network and the week, and has no
/// secret. Asking again, or asking others, teaches little more. It ranks networks rather than keys, since anybody can
/// make keys until one comes first.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    seed: u64,
    view: usize,
}

/// A known supernode, as far as it matters for who is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known<K> {
    pub key: K,
    pub network: Option<u32>,
    /// It proved its key on a connection, so it exists.
    pub met: bool,
    /// It could not be reached when it was last tried, or its stream ended, and nothing was heard of it since.
    pub missed: bool,
    pub load_percent: u32,
    /// When the descriptor that gives this load was signed.
    pub signed_unix_ms: u64,
}

impl<K> Known<K> {
    /// What makes others come first: it may be gone, or is nearly full.
    fn use_to_others(&self) -> (bool, bool) {
        (self.missed, self.load_percent >= FULL_PERCENT)
    }
}

impl Asker {
    /// A device, or a supernode, at an address of that network.
    #[must_use]
    pub fn new(network: Option<u32>, is_supernode: bool, now: Now) -> Self {
        let place = Rng::new(network.map_or(u64::MAX, u64::from)).next_u64();
        // Not everybody's week ends at the same moment.
        let week = now.unix_ms.wrapping_add(place % VIEW_MS) / VIEW_MS;
        let view = if is_supernode { VIEW_SUPERNODES } else { VIEW_DEVICES };
        Self { seed: place ^ Rng::new(week).next_u64(), view }
    }

    fn place_of(&self, network: Option<u32>) -> u64 {
        let network = network.map_or(u64::MAX, u64::from);
        Rng::new(self.seed ^ Rng::new(network).next_u64()).next_u64()
    }

    /// Those that come first for this asker: always the same, one of each network before a second of any. Full ones come
    /// last, so that an asker's network does not wear its own few out while others have room; and after them those that may
    /// be gone, so that where many died those who came in their place are found.
    pub fn view<K: Copy + Ord>(&self, known: impl Iterator<Item = Known<K>>) -> Vec<Known<K>> {
        let known: Vec<Known<K>> = known.collect();
        let rank =
            |(at, known): (usize, &Known<K>)| (known.use_to_others(), self.place_of(known.network), at);
        let mut ranked: Vec<Rank> = known.iter().enumerate().map(rank).collect();
        // Nearly always the view is found among the first few, and the others need no order.
        let few = 2 * self.view;
        let mut found = false;
        if ranked.len() > few {
            ranked.select_nth_unstable_by(few, |one, other| order(&known, one, other));
            found = networks(&known, &ranked[..few]) >= self.view;
        }
        if found {
            ranked.truncate(few);
        }
        ranked.sort_unstable_by(|one, other| order(&known, one, other));
        self.one_of_each_network_first(&known, &ranked)
    }

    fn one_of_each_network_first<K: Copy>(&self, known: &[Known<K>], ranked: &[Rank]) -> Vec<Known<K>> {
        let mut first: Vec<Known<K>> = Vec::with_capacity(self.view);
        let mut again: Vec<Known<K>> = Vec::new();
        for (_, _, at) in ranked {
            if first.len() == self.view {
                break;
            }
            if !first.iter().any(|other| other.network == known[*at].network) {
                first.push(known[*at]);
            } else if again.len() < self.view {
                again.push(known[*at]);
            }
        }
        first.into_iter().chain(again).take(self.view).collect()
    }
}

/// Of what use it is to others, its network's place for the asker, and where in the list it is.
type Rank = ((bool, bool), u64, usize);

/// The keys decide within a network.
fn order<K: Ord>(known: &[Known<K>], one: &Rank, other: &Rank) -> Ordering {
    (one.0, one.1, &known[one.2].key).cmp(&(other.0, other.1, &known[other.2].key))
}

fn networks<K>(known: &[Known<K>], ranked: &[Rank]) -> usize {
    let network = |rank: &Rank| known[rank.2].network;
    let first = |at: &usize| !ranked[..*at].iter().any(|before| network(before) == network(&ranked[*at]));
    (0..ranked.len()).filter(first).count()
}

/// Some of a view, drawn by lot; those with room that were met come first.
pub fn sample<K>(view: Vec<Known<K>>, limit: usize, rng: &mut Rng) -> Vec<Known<K>> {
    let drawn = view.into_iter().map(|known| ((known.use_to_others(), !known.met), rng.next_u64(), known));
    let mut drawn: Vec<_> = drawn.collect();
    drawn.sort_unstable_by_key(|(rank, random, _)| (*rank, *random));
    drawn.into_iter().take(limit).map(|(_, _, known)| known).collect()
}

/// Where newcomers are sent: a few of a view with load to spare. Where many have just gone, the others soon say of
/// themselves that they have more to do: whoever spoke last is the likeliest to live, and to mean what it said of its load.
pub fn referrals<K>(view: Vec<Known<K>>, limit: usize, rng: &mut Rng, now: Now) -> Vec<Known<K>> {
    let mut sample = sample(view, limit * 2, rng);
    let stale = |known: &Known<K>| known.signed_unix_ms.saturating_add(SPOKE_LATELY_MS) < now.unix_ms;
    sample.sort_by_key(|known| (stale(known), known.load_percent));
    sample.truncate(limit);
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(rng: &mut Rng, networks: u64) -> Known<u32> {
        Known {
            key: rng.next_u64() as u32,
            network: Some(rng.below(networks) as u32),
            met: rng.below(2) == 0,
            missed: rng.below(8) == 0,
            load_percent: 10 * rng.below(11) as u32,
            signed_unix_ms: 0,
        }
    }

    /// In full: ordered by rank, one of each network, then the rest.
    fn in_full(asker: &Asker, mut all: Vec<Known<u32>>) -> Vec<Known<u32>> {
        all.sort_by_key(|known| (known.use_to_others(), asker.place_of(known.network), known.key));
        let mut seen = Vec::new();
        let (first, again): (Vec<_>, Vec<_>) = all.into_iter().partition(|known| {
            let new = !seen.contains(&known.network);
            seen.push(known.network);
            new
        });
        first.into_iter().chain(again).take(asker.view).collect()
    }

    #[test]
    fn a_view_taken_from_the_first_few_is_the_view() {
        let mut rng = Rng::new(9);
        let now = Now { mono_ms: 0, unix_ms: 1_800_000_000_000 };
        for round in 0..400 {
            let networks = 1 + rng.below([5, 30, 60, 1_000][round % 4]);
            let count = [rng.below(257), 48, 96, 49][round % 4];
            let all: Vec<Known<u32>> = (0..count).map(|_| known(&mut rng, networks)).collect();
            let asker = Asker::new(Some(rng.below(100) as u32), round % 3 == 0, now);
            assert_eq!(asker.view(all.iter().copied()), in_full(&asker, all), "round {round}");
        }
    }
}
