//! libp2p peer ids of Ed25519 keys (libp2p specs, `peer-ids`): the key itself, in a protobuf, in an identity
//! multihash, in base58btc. They begin with `12D3KooW`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::ids::{DeviceKey, ServiceKey};

/// Identity multihash of 36 bytes; protobuf: key type 1 (Ed25519), 32 bytes of data.
const PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
const BINARY_LEN: usize = PREFIX.len() + 32;
/// 38 bytes are at most 52 characters of base58.
const TEXT_LEN_MAX: usize = 52;

/// Why a text or some bytes are not the peer id of an Ed25519 key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum PeerIdError {
    /// Not base58btc, or of the wrong length.
    #[error("this is not a peer id: one begins with 12D3KooW and has 52 characters; copy it again")]
    NotAPeerId,
    /// A peer id of another kind of key.
    #[error("this peer id is not of an Ed25519 key, and Tandem uses no other")]
    OtherKeyType,
}

macro_rules! peer_id {
    ($name:ident) => {
        impl $name {
            /// The binary peer id (38 bytes), as in `/p2p/…` of a binary multiaddr.
            #[must_use]
            pub fn peer_id_bytes(&self) -> [u8; BINARY_LEN] {
                encode(&self.0)
            }

            /// Reads a binary peer id.
            ///
            /// # Errors
            /// [`PeerIdError`] when it is not that of an Ed25519 key.
            pub fn from_peer_id_bytes(bytes: &[u8]) -> Result<Self, PeerIdError> {
                decode(bytes).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&bs58::encode(encode(&self.0)).into_string())
            }
        }

        impl FromStr for $name {
            type Err = PeerIdError;

            fn from_str(text: &str) -> Result<Self, PeerIdError> {
                if text.len() > TEXT_LEN_MAX {
                    return Err(PeerIdError::NotAPeerId);
                }
                let bytes = bs58::decode(text).into_vec().map_err(|_| PeerIdError::NotAPeerId)?;
                decode(&bytes).map(Self)
            }
        }
    };
}

peer_id!(DeviceKey);
peer_id!(ServiceKey);

fn encode(key: &[u8; 32]) -> [u8; BINARY_LEN] {
    let mut bytes = [0; BINARY_LEN];
    bytes[..PREFIX.len()].copy_from_slice(&PREFIX);
    bytes[PREFIX.len()..].copy_from_slice(key);
    bytes
}

fn decode(bytes: &[u8]) -> Result<[u8; 32], PeerIdError> {
    if let Some(key) = bytes.strip_prefix(&PREFIX) {
        return key.try_into().map_err(|_| PeerIdError::NotAPeerId);
    }
    match bytes {
        // Identity multihash of another key, or SHA-256 multihash (RSA keys).
        [0x00, 0x24, ..] | [0x12, 0x20, ..] => Err(PeerIdError::OtherKeyType),
        _ => Err(PeerIdError::NotAPeerId),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back() {
        let key = ServiceKey([3; 32]);
        let text = key.to_string();
        assert!(text.starts_with("12D3KooW"), "{text}");
        assert_eq!(text.parse(), Ok(key));
        assert_eq!(DeviceKey::from_peer_id_bytes(&key.peer_id_bytes()), Ok(DeviceKey(key.0)));
    }

    #[test]
    fn other_texts_are_refused() {
        assert_eq!("".parse::<DeviceKey>(), Err(PeerIdError::NotAPeerId));
        assert_eq!("0OIl".parse::<DeviceKey>(), Err(PeerIdError::NotAPeerId));
        assert_eq!("1".repeat(10_000).parse::<DeviceKey>(), Err(PeerIdError::NotAPeerId));
        let rsa = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N";
        assert_eq!(rsa.parse::<DeviceKey>(), Err(PeerIdError::OtherKeyType));
    }
}
