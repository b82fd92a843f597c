//! Identifiers (spec/identity.md). Each kind of key is a type of its own, so that they cannot be mixed up.

use std::fmt;

use ed25519_dalek::{Signature, VerifyingKey};

use crate::domain;

macro_rules! public_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The 32 bytes of the Ed25519 public key.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Whether `signature` (64 bytes) is this key's, over `domain`, a zero byte and `payload`. Strict: RFC
            /// 8032 §5.1.7 without the cofactor, so that all verifiers agree; weak keys never verify.
            #[must_use]
            pub fn verifies(&self, domain: &str, payload: &[u8], signature: &[u8]) -> bool {
                verifies(&self.0, domain, payload, signature)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = std::array::TryFromSliceError;

            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                Ok(Self(bytes.try_into()?))
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:02x}{:02x}{:02x}{:02x}…)"), self.0[0], self.0[1], self.0[2], self.0[3])
            }
        }
    };
}

public_key!(
    /// A person's key. Displayed as an [`crate::identity::Address`].
    AccountKey
);
public_key!(
    /// The key of one installation of an account. Displayed as a libp2p peer id.
    DeviceKey
);
public_key!(
    /// The key under which a node serves others; unrelated to any device key. Displayed as a libp2p peer id.
    ServiceKey
);
public_key!(
    /// The key of a private network: it signs who belongs to it. Displayed as `tandem-network:…`.
    NetworkKey
);

/// What joins the two allocations of one call on one relay ([`crate::grant::call_tag`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallTag(pub [u8; 16]);

impl fmt::Debug for CallTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallTag({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

impl TryFrom<&[u8]> for CallTag {
    type Error = std::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self(bytes.try_into()?))
    }
}

fn verifies(key: &[u8; 32], domain: &str, payload: &[u8], signature: &[u8]) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(key) else { return false };
    let Ok(signature) = Signature::from_slice(signature) else { return false };
    key.verify_strict(&domain::signing_input(domain, payload), &signature).is_ok()
}
