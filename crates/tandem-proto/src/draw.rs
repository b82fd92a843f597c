//! Drawing relays for strangers (spec/signalling.md, "Drawing relays"): neither side can pick them, because each
//! commits to a random number before it knows the other's.

use crate::domain::{self, sha256};
use crate::grant::equal_in_constant_time;
use crate::ids::ServiceKey;

const DRAW_DOMAIN: &str = "tandem draw 1";
const COMMIT_DOMAIN: &str = "tandem draw commit 1";

/// A supernode as the draw sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SupernodeRef {
    pub service: ServiceKey,
    /// From [`crate::network::network_group`].
    pub network: u32,
}

/// What the caller sends in its offer, and when it wants more relays in a call: its nonce and the relays it proposes,
/// bound together, so that neither can be chosen once the other end's are known. SHA-256 over the domain "tandem draw
/// commit 1", a zero byte, the nonce, and the service keys in their order.
#[must_use]
pub fn commit(nonce: &[u8; 32], proposed: &[ServiceKey]) -> [u8; 32] {
    let keys: Vec<u8> = proposed.iter().flat_map(|key| *key.as_bytes()).collect();
    domain::hash(COMMIT_DOMAIN, &[nonce, &keys])
}

/// Whether the nonce and the relays shown later are those committed to.
#[must_use]
pub fn reveal_fits(nonce: &[u8; 32], proposed: &[ServiceKey], commitment: &[u8; 32]) -> bool {
    equal_in_constant_time(&commit(nonce, proposed), commitment)
}

/// The point of the directory that draw number `index` (from 0) falls on: SHA-256 over the domain "tandem draw 1", a
/// zero byte, the caller's nonce, the callee's nonce, and the index in one byte.
#[must_use]
pub fn target(caller_nonce: &[u8; 32], callee_nonce: &[u8; 32], index: u8) -> [u8; 32] {
    domain::hash(DRAW_DOMAIN, &[caller_nonce, callee_nonce, &[index]])
}

/// Distance in the directory: XOR, compared as a big-endian number.
#[must_use]
pub fn distance(a: &[u8; 32], b: &[u8; 32]) -> [u8; 32] {
    std::array::from_fn(|i| a[i] ^ b[i])
}

/// Where a supernode stands in the directory: SHA-256 of its service key.
#[must_use]
pub fn position(service: ServiceKey) -> [u8; 32] {
    sha256(service.as_bytes())
}

/// The relays of a leg, first choice first: for each draw the candidate nearest to its target that is not chosen
/// yet and stands in a network not used yet; if there is no such network left, any that is not chosen yet. The same
/// on both ends for the same candidates, whatever their order; fewer than `n` if there are fewer candidates.
#[must_use]
pub fn draw(
    caller_nonce: &[u8; 32],
    callee_nonce: &[u8; 32],
    candidates: &[SupernodeRef],
    n: u8,
) -> Vec<SupernodeRef> {
    let mut chosen: Vec<SupernodeRef> = Vec::with_capacity(usize::from(n));
    for index in 0..n {
        let target = target(caller_nonce, callee_nonce, index);
        let free = || candidates.iter().filter(|c| !chosen.iter().any(|other| other.service == c.service));
        let elsewhere = free().filter(|c| !chosen.iter().any(|other| other.network == c.network));
        let Some(next) = nearest(elsewhere, &target).or_else(|| nearest(free(), &target)) else { break };
        chosen.push(next);
    }
    chosen
}

fn nearest<'a>(
    candidates: impl Iterator<Item = &'a SupernodeRef>,
    target: &[u8; 32],
) -> Option<SupernodeRef> {
    // The network is part of the order so that a supernode listed twice gives the same result in any order.
    candidates.min_by_key(|c| (distance(&position(c.service), target), c.network)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(networks: &[u32]) -> Vec<SupernodeRef> {
        let key = |index: usize| ServiceKey([index as u8 + 1; 32]);
        networks
            .iter()
            .enumerate()
            .map(|(i, network)| SupernodeRef { service: key(i), network: *network })
            .collect()
    }

    #[test]
    fn both_ends_draw_the_same() {
        let mut list = candidates(&[1, 2, 3, 4, 5, 6, 7]);
        let first = draw(&[1; 32], &[2; 32], &list, 3);
        list.reverse();
        assert_eq!(first, draw(&[1; 32], &[2; 32], &list, 3));
        assert_eq!(first.len(), 3);
        assert_ne!(first, draw(&[2; 32], &[1; 32], &list, 3), "caller and callee are not the same");
    }

    #[test]
    fn networks_differ_while_there_are_enough() {
        let list = candidates(&[1, 1, 1, 1, 1, 2, 3]);
        let drawn = draw(&[1; 32], &[2; 32], &list, 5);
        let mut networks: Vec<u32> = drawn[..3].iter().map(|c| c.network).collect();
        networks.sort_unstable();
        assert_eq!(networks, [1, 2, 3]);
        assert_eq!(drawn.len(), 5, "then the rule is relaxed");
    }

    #[test]
    fn few_candidates_give_few_relays() {
        assert_eq!(draw(&[1; 32], &[2; 32], &[], 3), []);
        let twice = [candidates(&[1]), candidates(&[1])].concat();
        assert_eq!(draw(&[1; 32], &[2; 32], &twice, 3).len(), 1);
    }

    #[test]
    fn a_reveal_is_checked() {
        let keys = [ServiceKey([1; 32]), ServiceKey([2; 32])];
        let commitment = commit(&[5; 32], &keys);
        assert!(reveal_fits(&[5; 32], &keys, &commitment));
        assert!(!reveal_fits(&[6; 32], &keys, &commitment));
        for others in [&keys[..1], &[keys[1], keys[0]], &[]] {
            assert!(!reveal_fits(&[5; 32], others, &commitment));
        }
    }
}
