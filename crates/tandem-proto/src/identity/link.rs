//! An address with an invitation: what one hands to somebody who may call although strangers do not ring.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use thiserror::Error;

use super::address::{Address, AddressError};
use crate::domain;

const INVITATION_DOMAIN: &str = "tandem invitation 1";
const PARAMETER: &str = "?i=";
/// 20 bytes in base32, without rest.
const TEXT_LEN: usize = 32;

/// The secret of an invitation: 20 random bytes, written as 32 characters of base32. Never printed by `Debug`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InvitationSecret(pub [u8; Self::LEN]);

/// What the inviting side keeps of a secret; from it nobody makes the secret.
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
    fn a_secret_is_not_printed() {
        let secret = InvitationSecret([77; 20]);
        assert!(!format!("{secret:?}").contains("77"));
        assert_ne!(secret.hash(), InvitationSecret([78; 20]).hash());
    }
}
