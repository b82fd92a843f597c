//! Secret keys. Each kind is a type of its own and signs only under a domain string.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey};
use zeroize::Zeroizing;

use crate::domain;
use crate::ids::{AccountKey, DeviceKey, NetworkKey, ServiceKey};

macro_rules! secret_key {
    ($(#[$doc:meta])* $name:ident => $public:ident) => {
        $(#[$doc])*
        /// Never printed; wiped from memory when dropped.
        #[derive(Clone)]
        pub struct $name(SigningKey);

        impl $name {
            /// From the 32 bytes of an Ed25519 seed (RFC 8032 §5.1.5).
            #[must_use]
            pub fn from_seed(seed: &[u8; 32]) -> Self {
                Self(SigningKey::from_bytes(seed))
            }

            /// The seed again, for a key file or for libp2p's key pair.
            #[must_use]
            pub fn seed(&self) -> Zeroizing<[u8; 32]> {
                Zeroizing::new(self.0.to_bytes())
            }

            /// The public half.
            #[must_use]
            pub fn public(&self) -> $public {
                $public(self.0.verifying_key().to_bytes())
            }

            /// Ed25519 signature over `domain`, a zero byte and `payload`; checked by the public key's `verifies`.
            #[must_use]
            pub fn sign(&self, domain: &str, payload: &[u8]) -> [u8; 64] {
                self.0.sign(&domain::signing_input(domain, payload)).to_bytes()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "(of {:?})"), self.public())
            }
        }
    };
}

secret_key!(
    /// A person's signing key, made from the 24 words.
    AccountSecret => AccountKey
);
secret_key!(
    /// The signing key of one installation; also its libp2p identity.
    DeviceSecret => DeviceKey
);
secret_key!(
    /// The signing key under which a node serves others; also its second libp2p identity.
    ServiceSecret => ServiceKey
);

secret_key!(
    /// The signing key of who runs a private network: it says who belongs to it.
    NetworkSecret => NetworkKey
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_domain_only() {
        let secret = DeviceSecret::from_seed(&[7; 32]);
        let signature = secret.sign("tandem test 1", b"payload");
        let public = secret.public();
        assert!(public.verifies("tandem test 1", b"payload", &signature));
        assert!(!public.verifies("tandem test 2", b"payload", &signature));
        assert!(!public.verifies("tandem test 1", b"payloae", &signature));
        assert!(!public.verifies("tandem test 1", b"payload", &signature[..63]));
        assert!(!DeviceKey([0; 32]).verifies("tandem test 1", b"payload", &signature));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let secret = ServiceSecret::from_seed(&[9; 32]);
        assert!(!format!("{secret:?}").contains("0909"));
    }
}
