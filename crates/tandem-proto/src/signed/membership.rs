//! Membership of a private network.

use super::{
    CERTIFICATE_LIFE_S_MAX, LENT_LIFE_S_MAX, SignedError, check_beginning, check_end, check_signature,
    check_text, open, sign,
};
use crate::identity::{NetworkSecret, ServiceSecret};
use crate::ids::{NetworkKey, ServiceKey};
use crate::names::NetworkId;
use crate::wire;

/// Verified: the network's key says that the holder of this device or service key belongs to the network until then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkMembership {
    network: NetworkId,
    member: [u8; 32],
    not_before_s: u64,
    not_after_s: u64,
    label: String,
    signed: wire::Signed,
}

/// What goes into a new membership. Times in unix seconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewMembership {
    pub network: NetworkId,
    /// The device key or service key that proves itself on connections.
    pub member: [u8; 32],
    pub not_before_s: u64,
    pub not_after_s: u64,
    /// For people, at most 64 bytes.
    pub label: String,
}

impl NetworkMembership {
    /// Makes a membership.
    ///
    /// # Errors
    /// [`SignedError`] when its content breaks a limit.
    pub fn issue(secret: &NetworkSecret, new: NewMembership) -> Result<Self, SignedError> {
        let message = wire::NetworkMembership {
            network: new.network.to_string(),
            member: new.member.to_vec(),
            not_before_s: new.not_before_s,
            not_after_s: new.not_after_s,
            label: new.label,
        };
        Self::parse(&sign(&message, secret))
    }

    /// Verifies what the holder of `member` shows (the key its connection proved), at `unix_ms`.
    ///
    /// # Errors
    /// [`SignedError`] says what is wrong with it.
    pub fn verify(
        signed: &wire::Signed,
        (network, key): (&NetworkId, NetworkKey),
        member: &[u8; 32],
        unix_ms: u64,
    ) -> Result<Self, SignedError> {
        let membership = Self::parse(signed)?;
        check_signature::<wire::NetworkMembership>(signed, |domain, payload, signature| {
            key.verifies(domain, payload, signature)
        })?;
        if membership.network != *network {
            return Err(SignedError::OtherNetwork);
        }
        if membership.member != *member {
            return Err(SignedError::OtherMember);
        }
        check_beginning(membership.not_before_s, unix_ms)?;
        check_end(membership.not_after_s, CERTIFICATE_LIFE_S_MAX, unix_ms)?;
        Ok(membership)
    }

    /// Reads one without verifying it: to find out whose it is.
    ///
    /// # Errors
    /// [`SignedError`] when its content breaks a limit.
    pub fn parse(signed: &wire::Signed) -> Result<Self, SignedError> {
        let message: wire::NetworkMembership = open(signed)?;
        check_text("label", &message.label)?;
        let wrong = |field, bytes| SignedError::WrongLength { field, bytes };
        Ok(Self {
            network: message.network.parse().map_err(|_| wrong("network", message.network.len()))?,
            member: message
                .member
                .as_slice()
                .try_into()
                .map_err(|_| wrong("member", message.member.len()))?,
            not_before_s: message.not_before_s,
            not_after_s: message.not_after_s,
            label: message.label,
            signed: signed.clone(),
        })
    }

    #[must_use]
    pub fn network(&self) -> &NetworkId {
        &self.network
    }

    /// The key of the device or service that it is about.
    #[must_use]
    pub fn member(&self) -> &[u8; 32] {
        &self.member
    }

    /// Beginning, in unix seconds.
    #[must_use]
    pub fn not_before_s(&self) -> u64 {
        self.not_before_s
    }

    /// End, in unix seconds.
    #[must_use]
    pub fn not_after_s(&self) -> u64 {
        self.not_after_s
    }

    /// The member's name for people, given by who runs the network.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The envelope as it was signed.
    #[must_use]
    pub fn signed(&self) -> &wire::Signed {
        &self.signed
    }
}

/// Verified: a member's service key says that another key, of the same node and soon thrown away, belongs to the network
/// as it does itself. It is worth as much as the member's own membership.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LentMembership {
    key: [u8; 32],
    not_after_s: u64,
    signed: wire::Signed,
}

impl LentMembership {
    /// Lends the membership of the service key to this key, until then (unix seconds).
    ///
    /// # Errors
    /// [`SignedError`] when its content breaks a limit.
    pub fn issue(lender: &ServiceSecret, key: [u8; 32], not_after_s: u64) -> Result<Self, SignedError> {
        Self::parse(&sign(&wire::LentMembership { key: key.to_vec(), not_after_s }, lender))
    }

    /// Verifies what the holder of `key` (which its connection proved) shows beside the membership of `lender`, at
    /// `unix_ms`.
    ///
    /// # Errors
    /// [`SignedError`] says what is wrong with it.
    pub fn verify(
        signed: &wire::Signed,
        lender: ServiceKey,
        key: &[u8; 32],
        unix_ms: u64,
    ) -> Result<Self, SignedError> {
        let lent = Self::parse(signed)?;
        check_signature::<wire::LentMembership>(signed, |domain, payload, signature| {
            lender.verifies(domain, payload, signature)
        })?;
        if lent.key != *key {
            return Err(SignedError::OtherMember);
        }
        check_end(lent.not_after_s, LENT_LIFE_S_MAX, unix_ms)?;
        Ok(lent)
    }

    fn parse(signed: &wire::Signed) -> Result<Self, SignedError> {
        let message: wire::LentMembership = open(signed)?;
        let wrong = |bytes| SignedError::WrongLength { field: "key", bytes };
        let key = message.key.as_slice().try_into().map_err(|_| wrong(message.key.len()))?;
        Ok(Self { key, not_after_s: message.not_after_s, signed: signed.clone() })
    }

    /// End, in unix seconds.
    #[must_use]
    pub fn not_after_s(&self) -> u64 {
        self.not_after_s
    }

    /// The envelope as it was signed.
    #[must_use]
    pub fn signed(&self) -> &wire::Signed {
        &self.signed
    }
}
