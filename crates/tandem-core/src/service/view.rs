//! What one asker is told of the supernodes that another knows: the rules alone, for [`super::Service`] and for the
//! simulator.

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
        let ranked = known.map(|known| (known.use_to_others(), self.place_of(known.network), known));
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_unstable_by_key(|(use_to_others, place, known)| (*use_to_others, *place, known.key));
        let mut first: Vec<Known<K>> = Vec::with_capacity(self.view);
        let mut again: Vec<Known<K>> = Vec::new();
        for (_, _, known) in ranked {
            if first.len() == self.view {
                break;
            }
            let seen = first.iter().any(|other| other.network == known.network);
            if !seen {
                first.push(known);
            } else if again.len() < self.view {
                again.push(known);
            }
        }
        first.into_iter().chain(again).take(self.view).collect()
    }
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
