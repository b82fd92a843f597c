//! Silent requests (spec/signalling.md, "Silent requests"): the work that a stranger does before its request is kept.
//!
//! The proof is found by trying and verified by two hashes, so that verifying cannot be an attack.

use sha2::{Digest, Sha256};

use crate::domain;
use crate::ids::AccountKey;
use crate::names::NetworkId;

const REQUEST_DOMAIN: &str = "tandem contact request 1";
const SALT_DOMAIN: &str = "tandem request salt 1";

/// Length of a salt, in bytes.
pub const SALT_LEN: usize = 16;
/// Length of a proof, in bytes.
pub const PROOF_LEN: usize = 8;
/// A device asks for no fewer leading zero bits than this, unless its owner says otherwise.
pub const BITS_MIN: u8 = 22;
/// And for no more: whoever is asked for more gives up.
pub const BITS_MAX: u8 = 26;
/// Longest message of a request, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 140;

/// What one stranger has to prove to one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Challenge {
    seed: [u8; 32],
    bits: u8,
}

impl Challenge {
    /// `salt` and `bits` are what the callee's device asked for.
    #[must_use]
    pub fn new(
        network: &NetworkId,
        callee: AccountKey,
        caller: AccountKey,
        salt: &[u8; SALT_LEN],
        bits: u8,
    ) -> Self {
        let parts: [&[u8]; 4] = [callee.as_bytes(), caller.as_bytes(), salt, network.as_str().as_bytes()];
        Self { seed: domain::hash(REQUEST_DOMAIN, &parts), bits }
    }

    /// SHA-256 over domain, accounts, salt and network: what proofs are hashed with.
    #[must_use]
    pub fn seed(&self) -> [u8; 32] {
        self.seed
    }

    /// How many leading zero bits a proof needs.
    #[must_use]
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// Whether this is a proof. One hash of 40 bytes.
    #[must_use]
    pub fn verifies(&self, proof: &[u8; PROOF_LEN]) -> bool {
        let mut hasher = Sha256::new();
        hasher.update(self.seed);
        hasher.update(proof);
        leading_zeros(&hasher.finalize()) >= u32::from(self.bits)
    }

    /// Tries `tries` numbers from `first` on; the proof found, if any. A proof takes 2^bits tries on average.
    #[must_use]
    pub fn search(&self, first: u64, tries: u64) -> Option<[u8; PROOF_LEN]> {
        (0..tries).map(|n| first.wrapping_add(n).to_be_bytes()).find(|proof| self.verifies(proof))
    }
}

/// The salt that a device asks one account to use in one epoch (an hour). Not part of the protocol: any device may make
/// its salts as it likes. This way it need not remember whom it asked.
#[must_use]
pub fn salt(secret: &[u8; 32], caller: AccountKey, epoch: u64) -> [u8; SALT_LEN] {
    domain::first_half(domain::hash(SALT_DOMAIN, &[secret, caller.as_bytes(), &epoch.to_be_bytes()]))
}

fn leading_zeros(hash: &[u8]) -> u32 {
    let mut zeros = 0;
    for byte in hash {
        zeros += byte.leading_zeros();
        if *byte != 0 {
            break;
        }
    }
    zeros
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(bits: u8) -> Challenge {
        Challenge::new(&NetworkId::default(), AccountKey([1; 32]), AccountKey([2; 32]), &[3; 16], bits)
    }

    #[test]
    fn a_proof_holds_for_its_challenge_only() {
        let asked = challenge(10);
        let proof = asked.search(0, 1 << 20).unwrap();
        assert!(asked.verifies(&proof));
        let others = [
            Challenge::new(&"lab".parse().unwrap(), AccountKey([1; 32]), AccountKey([2; 32]), &[3; 16], 10),
            Challenge::new(&NetworkId::default(), AccountKey([2; 32]), AccountKey([1; 32]), &[3; 16], 10),
            Challenge::new(&NetworkId::default(), AccountKey([1; 32]), AccountKey([4; 32]), &[3; 16], 10),
            Challenge::new(&NetworkId::default(), AccountKey([1; 32]), AccountKey([2; 32]), &[4; 16], 10),
        ];
        assert!(others.iter().all(|other| !other.verifies(&proof)));
        assert!(!asked.verifies(&[0xff; 8]));
    }

    #[test]
    fn zeros_are_counted_across_bytes() {
        assert_eq!(leading_zeros(&[0, 0, 0x1f, 0]), 19);
        assert_eq!(leading_zeros(&[0x80]), 0);
        assert_eq!(leading_zeros(&[0, 0]), 16);
    }

    #[test]
    fn a_search_ends() {
        assert_eq!(challenge(26).search(0, 10), None);
    }
}
