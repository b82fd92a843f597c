//! From a passphrase to the key of a sealed file: Argon2id (RFC 9106).

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::Passphrase;
use crate::platform::random;

pub(super) const SALT_LEN: usize = 16;

/// How costly a guess is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    /// KiB.
    pub(super) memory: u32,
    pub(super) passes: u32,
    pub(super) lanes: u32,
}

impl Cost {
    /// RFC 9106 §4, second recommended option, on one lane: 64 MiB, 3 passes.
    pub(super) const NEW: Self = Self { memory: 64 * 1024, passes: 3, lanes: 1 };

    /// A file may not ask for more than a machine can give in a few seconds.
    pub(super) fn bearable(self) -> bool {
        (8..=1024 * 1024).contains(&self.memory)
            && (1..=16).contains(&self.passes)
            && (1..=16).contains(&self.lanes)
            && self.memory >= 8 * self.lanes
    }
}

/// Derives keys from one passphrase. The files of one identity share a salt, so that opening it costs one derivation.
#[derive(Debug)]
pub(super) struct Sealer<'a> {
    passphrase: Option<&'a Passphrase>,
    derived: Option<Derived>,
}

struct Derived {
    salt: [u8; SALT_LEN],
    cost: Cost,
    key: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Derived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Derived(secret)")
    }
}

impl<'a> Sealer<'a> {
    pub(super) fn new(passphrase: Option<&'a Passphrase>) -> Self {
        Self { passphrase, derived: None }
    }

    /// Salt and key for files that are made now; `None` without a passphrase.
    pub(super) fn for_new(&mut self) -> Option<([u8; SALT_LEN], Zeroizing<[u8; 32]>)> {
        let salt = match &self.derived {
            Some(derived) => derived.salt,
            None => random::bytes(),
        };
        let key = self.key(salt, Cost::NEW)?;
        Some((salt, key))
    }

    /// The key of a file; `None` without a passphrase, or at a cost that cannot be borne.
    pub(super) fn key(&mut self, salt: [u8; SALT_LEN], cost: Cost) -> Option<Zeroizing<[u8; 32]>> {
        let passphrase = self.passphrase?;
        if let Some(derived) = &self.derived
            && derived.salt == salt
            && derived.cost == cost
        {
            return Some(derived.key.clone());
        }
        let params = Params::new(cost.memory, cost.passes, cost.lanes, Some(32)).ok()?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.as_bytes(), &salt, key.as_mut())
            .ok()?;
        self.derived = Some(Derived { salt, cost, key: key.clone() });
        Some(key)
    }
}
