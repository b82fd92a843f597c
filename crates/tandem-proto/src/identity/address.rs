//! How an account is written.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, DecodeKind};
use thiserror::Error;

use crate::domain::sha256;
use crate::ids::AccountKey;

const SCHEME: &str = "tandem:";
const VERSION: u8 = 1;
const CHECKSUM_LEN: usize = 4;
/// Version byte, key, checksum.
const BINARY_LEN: usize = 1 + 32 + CHECKSUM_LEN;
/// 37 bytes in unpadded base32.
const TEXT_LEN: usize = 60;

/// An account's address: `tandem:` and 60 lower-case base32 characters (RFC 4648 §6) over version 1, the account
/// key, and the first 4 bytes of SHA-256 over both. Also a link and the content of a QR code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Address(pub AccountKey);

/// Why a text is not an address.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum AddressError {
    /// Does not begin with `tandem:`.
    #[error("this is not a Tandem address: an address begins with \"tandem:\"; copy all of it")]
    WrongScheme,
    /// Not 60 characters after the scheme.
    #[error(
        "the address has {found} characters after \"tandem:\" and needs 60: part of it is missing or added"
    )]
    WrongLength { found: usize },
    /// A character that base32 does not have. `position` counts from 1, after the scheme.
    #[error(
        "character {position} after \"tandem:\" cannot occur in an address: only letters and the digits 2 to 7 do"
    )]
    WrongCharacter { position: usize },
    /// Well-formed, but the checksum says that something was mistyped.
    #[error("the address has a typing error: its checksum does not fit; copy it again")]
    WrongChecksum,
    /// Made by a newer program.
    #[error("the address is of version {found}, and this program knows version 1 only: update it")]
    UnknownVersion { found: u8 },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; BINARY_LEN];
        bytes[0] = VERSION;
        bytes[1..33].copy_from_slice(self.0.as_bytes());
        let checksum = checksum(&bytes[..33]);
        bytes[33..].copy_from_slice(&checksum);
        write!(f, "{SCHEME}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// Accepts upper case and surrounding white space.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let scheme = text.get(..SCHEME.len()).ok_or(AddressError::WrongScheme)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(AddressError::WrongScheme);
        }
        let body = &text[SCHEME.len()..];
        if let Some(index) = body.chars().position(|c| !c.is_ascii_alphabetic() && !matches!(c, '2'..='7')) {
            return Err(AddressError::WrongCharacter { position: index + 1 });
        }
        if body.len() != TEXT_LEN {
            return Err(AddressError::WrongLength { found: body.len() });
        }
        let bytes = BASE32_NOPAD.decode(body.to_ascii_uppercase().as_bytes()).map_err(|e| match e.kind {
            // The last character carries 4 bits that must be zero: a mistyped one.
            DecodeKind::Trailing => AddressError::WrongChecksum,
            _ => AddressError::WrongCharacter { position: e.position + 1 },
        })?;
        let (covered, sum) = bytes.split_at(BINARY_LEN - CHECKSUM_LEN);
        if sum != checksum(covered) {
            return Err(AddressError::WrongChecksum);
        }
        if covered[0] != VERSION {
            return Err(AddressError::UnknownVersion { found: covered[0] });
        }
        let key = AccountKey::try_from(&covered[1..]).map_err(|_| AddressError::WrongChecksum)?;
        Ok(Self(key))
    }
}

impl From<AccountKey> for Address {
    fn from(key: AccountKey) -> Self {
        Self(key)
    }
}

impl fmt::Display for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Address(*self).fmt(f)
    }
}

fn checksum(covered: &[u8]) -> [u8; CHECKSUM_LEN] {
    let hash = sha256(covered);
    [hash[0], hash[1], hash[2], hash[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Address {
        Address(AccountKey(std::array::from_fn(|i| i as u8 * 7)))
    }

    #[test]
    fn text_comes_back() {
        let text = address().to_string();
        assert_eq!(text.len(), SCHEME.len() + TEXT_LEN);
        assert_eq!(text.parse(), Ok(address()));
        assert_eq!(format!(" {}\n", text.to_uppercase()).parse(), Ok(address()));
    }

    #[test]
    fn every_single_typing_error_is_found() {
        let text = address().to_string();
        for index in SCHEME.len()..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[index] = if bytes[index] == b'a' { b'b' } else { b'a' };
            let mistyped = String::from_utf8(bytes).unwrap();
            assert_eq!(mistyped.parse::<Address>(), Err(AddressError::WrongChecksum), "at {index}");
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let text = address().to_string();
        assert_eq!("skype:bob".parse::<Address>(), Err(AddressError::WrongScheme));
        assert_eq!("".parse::<Address>(), Err(AddressError::WrongScheme));
        assert_eq!("täääääääääääääändem:".parse::<Address>(), Err(AddressError::WrongScheme));
        assert_eq!(text[..66].parse::<Address>(), Err(AddressError::WrongLength { found: 59 }));
        let mut odd = text.clone();
        odd.replace_range(9..10, "1");
        assert_eq!(odd.parse::<Address>(), Err(AddressError::WrongCharacter { position: 3 }));
    }

    #[test]
    fn a_newer_version_is_recognised() {
        let mut bytes = vec![2];
        bytes.extend_from_slice(&[5; 32]);
        bytes.extend_from_slice(&checksum(&bytes.clone()));
        let text = format!("{SCHEME}{}", BASE32_NOPAD.encode(&bytes));
        assert_eq!(text.parse::<Address>(), Err(AddressError::UnknownVersion { found: 2 }));
    }
}
