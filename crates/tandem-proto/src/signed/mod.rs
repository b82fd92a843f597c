//! Signed messages (spec/records.md). A [`wire::Signed`] becomes a verified Rust type or an error; a verified type
//! keeps the bytes that were signed, so that fields of a newer version survive being passed on.

mod certificate;
mod descriptor;
mod device_set;
mod homes;
mod invitation;
mod membership;

use prost::Message;
use thiserror::Error;

use crate::identity::{AccountSecret, DeviceSecret, NetworkSecret, ServiceSecret};
use crate::ids::{AccountKey, DeviceKey, ServiceKey};
use crate::wire;

pub use certificate::{DeviceCertificate, NewCertificate};
pub use descriptor::{NewDescriptor, Roles, SupernodeDescriptor};
pub use device_set::{DeviceEntry, DeviceSet};
pub use homes::{DeviceHomes, Home};
pub use invitation::Invitation;
pub use membership::{LentMembership, NetworkMembership, NewMembership};

/// How far two clocks may be apart, in milliseconds (±10 min): an expired message is tolerated that long, and so
/// is one from the future.
pub const CLOCK_SKEW_MS: u64 = 10 * 60 * 1000;
/// Longest life of a certificate and of a device set, in seconds (400 days).
pub const CERTIFICATE_LIFE_S_MAX: u64 = 400 * 86_400;
/// Longest life of a device's homes and of a supernode's descriptor, in seconds (26 h).
pub const HOMES_LIFE_S_MAX: u64 = 26 * 3_600;
/// Longest life of a supernode's invitation to a reserve, in seconds (1 h).
pub const INVITATION_LIFE_S_MAX: u64 = 3_600;
/// Longest life of a lent membership, in seconds (26 h).
pub const LENT_LIFE_S_MAX: u64 = 26 * 3_600;
/// Devices of one account.
pub const DEVICES_MAX: usize = 8;
/// Homes of one device.
pub const HOMES_MAX: usize = 3;
/// Addresses of one supernode, of each kind.
pub const ADDRESSES_MAX: usize = 8;
/// Bytes of one binary multiaddr.
pub const ADDRESS_BYTES_MAX: usize = 64;
/// Bytes of a label or of a software name.
pub const TEXT_BYTES_MAX: usize = 64;
/// Epochs and sequences stay below this, so that every language counts them exactly (2^53).
pub const COUNTER_LIMIT: u64 = 1 << 53;

/// A message that exists only signed. The domain string and the kind of signer belong to the type.
pub trait SignedMessage: Message + Default {
    /// Domain string of the signature (spec/README.md, "Domains").
    const DOMAIN: &'static str;
    /// Most bytes the encoded message may have.
    const BYTES_MAX: usize;
    /// Whose key signs it.
    type Secret: SigningSecret;
}

/// A secret key that signs messages of its kind.
pub trait SigningSecret {
    /// Ed25519 over `domain`, a zero byte and `payload`.
    fn sign_payload(&self, domain: &str, payload: &[u8]) -> [u8; 64];
}

macro_rules! signing_secret {
    ($($name:ident),*) => {$(
        impl SigningSecret for $name {
            fn sign_payload(&self, domain: &str, payload: &[u8]) -> [u8; 64] {
                self.sign(domain, payload)
            }
        }
    )*};
}

signing_secret!(AccountSecret, DeviceSecret, ServiceSecret, NetworkSecret);

impl SignedMessage for wire::DeviceCertificate {
    const DOMAIN: &'static str = "tandem device-certificate 1";
    const BYTES_MAX: usize = 256;
    type Secret = AccountSecret;
}

impl SignedMessage for wire::DeviceSet {
    const DOMAIN: &'static str = "tandem device-set 1";
    const BYTES_MAX: usize = 680;
    type Secret = AccountSecret;
}

impl SignedMessage for wire::DeviceHomes {
    const DOMAIN: &'static str = "tandem device-homes 1";
    const BYTES_MAX: usize = 600;
    type Secret = DeviceSecret;
}

impl SignedMessage for wire::SupernodeDescriptor {
    const DOMAIN: &'static str = "tandem supernode 1";
    const BYTES_MAX: usize = 900;
    type Secret = ServiceSecret;
}

impl SignedMessage for wire::SupernodeInvitation {
    const DOMAIN: &'static str = "tandem supernode invitation 1";
    const BYTES_MAX: usize = 128;
    type Secret = ServiceSecret;
}

impl SignedMessage for wire::NetworkMembership {
    const DOMAIN: &'static str = "tandem network-membership 1";
    const BYTES_MAX: usize = 256;
    type Secret = NetworkSecret;
}

impl SignedMessage for wire::LentMembership {
    const DOMAIN: &'static str = "tandem lent membership 1";
    const BYTES_MAX: usize = 64;
    type Secret = ServiceSecret;
}

/// Encodes and signs a message. It is not checked: the `issue` functions of the verified types do that too.
#[must_use]
pub fn sign<M: SignedMessage>(message: &M, secret: &M::Secret) -> wire::Signed {
    let payload = message.encode_to_vec();
    let signature = secret.sign_payload(M::DOMAIN, &payload).to_vec();
    wire::Signed { payload, signature }
}

/// The sequence of the next version of a device's homes or of a supernode's descriptor: the time, or one more than
/// the last if the clock went back.
#[must_use]
pub fn next_sequence(previous: Option<u64>, unix_ms: u64) -> u64 {
    previous.map_or(unix_ms, |previous| unix_ms.max(previous.saturating_add(1)))
}

/// Why a signed message was refused. Written for a log.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum SignedError {
    /// More bytes than a message of this kind may have.
    #[error("it has {bytes} bytes and may have {limit}")]
    TooLarge { bytes: usize, limit: usize },
    /// Not the protobuf it should be.
    #[error("it cannot be decoded")]
    Malformed,
    /// The envelope itself is missing.
    #[error("it is missing")]
    Missing,
    /// A key or an address of the wrong length.
    #[error("its field \"{field}\" has {bytes} bytes, which cannot be")]
    WrongLength { field: &'static str, bytes: usize },
    /// Not signed by the key it names.
    #[error("its signature is not valid")]
    BadSignature,
    /// Signed by, or about, another account than the one asked for.
    #[error("it belongs to another account")]
    OtherAccount,
    /// About another device than the one at hand.
    #[error("it belongs to another device")]
    OtherDevice,
    /// Of another network than this one.
    #[error("it belongs to another network")]
    OtherNetwork,
    /// About another key than the one that shows it.
    #[error("it belongs to another member")]
    OtherMember,
    /// Past its end, clock skew allowed for.
    #[error("it expired {} s ago", by_ms / 1000)]
    Expired { by_ms: u64 },
    /// Before its beginning, clock skew allowed for.
    #[error("it is not valid for another {} s: one of the two clocks is wrong", in_ms / 1000)]
    NotYetValid { in_ms: u64 },
    /// Valid for longer than a message of this kind may be.
    #[error("it is valid for {by_s} s longer than it may be")]
    LivesTooLong { by_s: u64 },
    /// For another reserve than this node.
    #[error("it is for another node")]
    OtherReserve,
    /// More than 8 devices.
    #[error("it names {count} devices and may name {DEVICES_MAX}")]
    TooManyDevices { count: usize },
    /// The same device or serial twice.
    #[error("it names a device or a serial twice")]
    DuplicateDevice,
    /// More than 3 homes.
    #[error("it names {count} homes and may name {HOMES_MAX}")]
    TooManyHomes { count: usize },
    /// The same home twice.
    #[error("it names a home twice")]
    DuplicateHome,
    /// More than 8 addresses of one kind.
    #[error("it has {count} addresses and may have {ADDRESSES_MAX}")]
    TooManyAddresses { count: usize },
    /// An epoch or a sequence of 2^53 or more.
    #[error("its field \"{field}\" is too high a number")]
    CounterTooHigh { field: &'static str },
    /// A load above 100 %.
    #[error("its load of {percent} % cannot be")]
    LoadOutOfRange { percent: u32 },
}

/// Size, then decoding. The signature is checked by [`check_signature`] once the signer is known.
fn open<M: SignedMessage>(signed: &wire::Signed) -> Result<M, SignedError> {
    if signed.payload.len() > M::BYTES_MAX {
        return Err(SignedError::TooLarge { bytes: signed.payload.len(), limit: M::BYTES_MAX });
    }
    if signed.signature.len() != 64 {
        return Err(SignedError::WrongLength { field: "signature", bytes: signed.signature.len() });
    }
    M::decode(signed.payload.as_slice()).map_err(|_| SignedError::Malformed)
}

fn check_signature<M: SignedMessage>(
    signed: &wire::Signed,
    verifies: impl FnOnce(&str, &[u8], &[u8]) -> bool,
) -> Result<(), SignedError> {
    if verifies(M::DOMAIN, &signed.payload, &signed.signature) {
        return Ok(());
    }
    Err(SignedError::BadSignature)
}

/// The end of a message against the clock: neither past nor further ahead than `life_s_max`.
fn check_end(not_after_s: u64, life_s_max: u64, unix_ms: u64) -> Result<(), SignedError> {
    let end_ms = not_after_s.saturating_mul(1000);
    let tolerated_ms = end_ms.saturating_add(CLOCK_SKEW_MS);
    if unix_ms > tolerated_ms {
        return Err(SignedError::Expired { by_ms: unix_ms - end_ms });
    }
    let latest_ms = unix_ms.saturating_add(life_s_max * 1000).saturating_add(CLOCK_SKEW_MS);
    if end_ms > latest_ms {
        return Err(SignedError::LivesTooLong { by_s: (end_ms - latest_ms).div_ceil(1000) });
    }
    Ok(())
}

fn check_beginning(not_before_s: u64, unix_ms: u64) -> Result<(), SignedError> {
    let begin_ms = not_before_s.saturating_mul(1000);
    if begin_ms > unix_ms.saturating_add(CLOCK_SKEW_MS) {
        return Err(SignedError::NotYetValid { in_ms: begin_ms - unix_ms });
    }
    Ok(())
}

fn check_counter(field: &'static str, value: u64) -> Result<(), SignedError> {
    if value >= COUNTER_LIMIT {
        return Err(SignedError::CounterTooHigh { field });
    }
    Ok(())
}

fn check_text(field: &'static str, text: &str) -> Result<(), SignedError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(SignedError::WrongLength { field, bytes: text.len() });
    }
    Ok(())
}

fn check_addresses(field: &'static str, addresses: &[Vec<u8>]) -> Result<(), SignedError> {
    if addresses.len() > ADDRESSES_MAX {
        return Err(SignedError::TooManyAddresses { count: addresses.len() });
    }
    match addresses.iter().find(|address| address.is_empty() || address.len() > ADDRESS_BYTES_MAX) {
        Some(address) => Err(SignedError::WrongLength { field, bytes: address.len() }),
        None => Ok(()),
    }
}

fn account_key(bytes: &[u8]) -> Result<AccountKey, SignedError> {
    AccountKey::try_from(bytes).map_err(|_| SignedError::WrongLength { field: "account", bytes: bytes.len() })
}

fn device_key(bytes: &[u8]) -> Result<DeviceKey, SignedError> {
    DeviceKey::try_from(bytes).map_err(|_| SignedError::WrongLength { field: "device", bytes: bytes.len() })
}

fn service_key(bytes: &[u8]) -> Result<ServiceKey, SignedError> {
    ServiceKey::try_from(bytes).map_err(|_| SignedError::WrongLength { field: "service", bytes: bytes.len() })
}
