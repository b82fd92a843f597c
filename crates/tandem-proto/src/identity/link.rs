//! An address with an invitation: what one hands to somebody who may call although strangers do not ring.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;

use super::address::{Address, AddressError};
use crate::domain;
use crate::ids::{AccountKey, DeviceKey};

const INVITATION_DOMAIN: &str = "tandem invitation 1";
/// Of the proof in an `Offer`.
pub const INVITATION_PROOF_DOMAIN: &str = "tandem invitation proof 1";
const PARAMETER: &str = "?i=";
/// 20 bytes in base32, without rest.
const TEXT_LEN: usize = 32;

/// The secret of an invitation: 20 random bytes, written as 32 characters of base32. Never printed by `Debug`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InvitationSecret(pub [u8; Self::LEN]);

/// What both sides make of a secret: the inviting side keeps it, the other shows by it that it has the link. From it
/// nobody makes the secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InvitationHash(pub [u8; 32]);

/// An address, with or without an invitation: `tandem:ADDRESS?i=SECRET`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    pub address: Address,
    pub invitation: Option<InvitationSecret>,
}

/// Why a text is not a link.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum LinkError {
    #[error(transparent)]
    Address(#[from] AddressError),
    /// What follows the address is not `?i=` and 32 characters of base32.
    #[error(
        "the invitation after \"?i=\" is damaged: it has 32 letters and digits 2 to 7; copy the whole link again"
    )]
    Invitation,
}

impl InvitationSecret {
    /// Length in bytes.
    pub const LEN: usize = 20;

    /// SHA-256 over the domain "tandem invitation 1", a zero byte and the secret.
    #[must_use]
    pub fn hash(&self) -> InvitationHash {
        InvitationHash(domain::hash(INVITATION_DOMAIN, &[&self.0]))
    }
}

/// What an offer is about, for the proof of an invitation: nobody can use it for another call, or at another device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvitedCall {
    pub caller: AccountKey,
    pub callee: AccountKey,
    /// The device that is to ring; its key authenticated the connection.
    pub device: DeviceKey,
    /// The call's id.
    pub call: [u8; 16],
}

impl InvitationHash {
    /// The proof that the caller has the link: HMAC-SHA256 (RFC 2104) under this hash, over a domain and the call.
    #[must_use]
    pub fn proof(&self, call: &InvitedCall) -> [u8; 32] {
        self.mac(call).finalize().into_bytes().into()
    }

    /// Whether a proof is that of [`Self::proof`], in constant time.
    #[must_use]
    pub fn proves(&self, proof: &[u8], call: &InvitedCall) -> bool {
        self.mac(call).verify_slice(proof).is_ok()
    }

    fn mac(&self, call: &InvitedCall) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("invariant: HMAC takes keys of any length");
        let parts = [&call.caller.0[..], &call.callee.0, &call.device.0, &call.call];
        mac.update(&domain::hash(INVITATION_PROOF_DOMAIN, &parts));
        mac
    }
}

impl fmt::Debug for InvitationSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InvitationSecret(…)")
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        self.invitation.map_or(Ok(()), |secret| {
            write!(f, "{PARAMETER}{}", BASE32_NOPAD.encode(&secret.0).to_ascii_lowercase())
        })
    }
}

impl FromStr for Link {
    type Err = LinkError;

    /// Accepts upper case and surrounding white space.
    fn from_str(text: &str) -> Result<Self, LinkError> {
        let Some((address, rest)) = text.trim().split_once('?') else {
            return Ok(Self { address: text.parse()?, invitation: None });
        };
        let address = address.parse()?;
        let secret = rest.strip_prefix("i=").or_else(|| rest.strip_prefix("I="));
        let secret = secret.filter(|secret| secret.len() == TEXT_LEN).ok_or(LinkError::Invitation)?;
        let bytes = BASE32_NOPAD
            .decode(secret.to_ascii_uppercase().as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(LinkError::Invitation)?;
        Ok(Self { address, invitation: Some(InvitationSecret(bytes)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::AccountKey;

    fn link() -> Link {
        let address = Address(AccountKey(std::array::from_fn(|i| i as u8 * 7)));
        Link { address, invitation: Some(InvitationSecret(std::array::from_fn(|i| i as u8 * 11))) }
    }

    #[test]
    fn text_comes_back() {
        let text = link().to_string();
        assert_eq!(text.parse(), Ok(link()));
        assert_eq!(format!(" {}\n", text.to_uppercase()).parse(), Ok(link()));
        let plain = Link { invitation: None, ..link() };
        assert_eq!(plain.to_string().parse(), Ok(plain));
    }

    #[test]
    fn damaged_links_are_refused() {
        let text = link().to_string();
        let damaged = [&text[..text.len() - 1], &text.replace("?i=", "?x="), &format!("{text}a")]
            .map(|text| text.parse::<Link>());
        assert!(damaged.iter().all(|result| *result == Err(LinkError::Invitation)), "{damaged:?}");
        let odd = text.replace("?i=a", "?i=1");
        assert_eq!(odd.parse::<Link>(), Err(LinkError::Invitation));
        assert!(matches!(text[10..].parse::<Link>(), Err(LinkError::Address(_))));
    }

    #[test]
    fn a_proof_is_for_one_call_at_one_device() {
        let hash = InvitationSecret([7; 20]).hash();
        let call = InvitedCall {
            caller: AccountKey([1; 32]),
            callee: AccountKey([2; 32]),
            device: DeviceKey([3; 32]),
            call: [4; 16],
        };
        let proof = hash.proof(&call);
        assert!(hash.proves(&proof, &call));
        let others = [
            InvitedCall { caller: AccountKey([9; 32]), ..call },
            InvitedCall { callee: AccountKey([9; 32]), ..call },
            InvitedCall { device: DeviceKey([9; 32]), ..call },
            InvitedCall { call: [9; 16], ..call },
        ];
        assert!(others.iter().all(|other| !hash.proves(&proof, other)));
        assert!(!InvitationSecret([8; 20]).hash().proves(&proof, &call));
        assert!(!hash.proves(&proof[..31], &call) && !hash.proves(&[], &call));
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = InvitationSecret([77; 20]);
        assert!(!format!("{secret:?}").contains("77"));
        assert_ne!(secret.hash(), InvitationSecret([78; 20]).hash());
    }
}
