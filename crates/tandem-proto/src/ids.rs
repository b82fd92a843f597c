//! Identifiers (spec/identity.md). Each kind of key is a type of its own, so that they cannot be mixed up.

use std::fmt;

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
        }

        impl TryFrom<&[u8]> for $name {
            type Error = std::array::TryFromSliceError;

            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                Ok(Self(bytes.try_into()?))
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
    /// A person's key.
    AccountKey
);
public_key!(
    /// The key of one installation of an account.
    DeviceKey
);
public_key!(
    /// The key under which a node serves others; unrelated to any device key.
    ServiceKey
);

/// What joins the two allocations of one call on one relay: 16 bytes of
/// SHA-256("tandem call tag 1" ‖ leg secret ‖ service key of the relay).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallTag(pub [u8; 16]);

impl fmt::Debug for CallTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallTag({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}
