//! Texts of a private network (spec/identity.md, "Private networks"): its key, a request for membership, a membership. Each
//! is a scheme and lower-case base32 over version 1, a body, and the first 4 bytes of SHA-256 over both.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use prost::Message;
use thiserror::Error;
use zeroize::Zeroizing;

use super::secret::NetworkSecret;
use crate::domain::sha256;
use crate::ids::{DeviceKey, NetworkKey, ServiceKey};
use crate::wire::Signed;

const VERSION: u8 = 1;
const CHECKSUM_LEN: usize = 4;
/// No such text is longer.
const TEXT_CHARS_MAX: usize = 1_024;

/// Before the public key of a network.
pub const KEY_SCHEME: &str = "tandem-network:";
/// Before its secret key: only in the file of who runs the network.
pub const SECRET_SCHEME: &str = "tandem-network-secret:";
/// Before a request for membership.
pub const REQUEST_SCHEME: &str = "tandem-member:";
/// Before a membership.
pub const MEMBERSHIP_SCHEME: &str = "tandem-membership:";

/// Why a text is not one of these.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NetworkTextError {
    #[error("it does not begin with \"{0}\"; copy all of it")]
    WrongScheme(&'static str),
    #[error("a part of it is missing or mistyped; copy all of it again")]
    Damaged,
    #[error("it is of version {found}, and this program knows version 1 only: update it")]
    UnknownVersion { found: u8 },
}

/// The two keys of an installation that asks to be let into a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberRequest {
    pub device: DeviceKey,
    pub service: ServiceKey,
}

impl fmt::Display for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(KEY_SCHEME, &self.0))
    }
}

impl FromStr for NetworkKey {
    type Err = NetworkTextError;

    fn from_str(text: &str) -> Result<Self, NetworkTextError> {
        let body = decode(KEY_SCHEME, text)?;
        Self::try_from(body.as_slice()).map_err(|_| NetworkTextError::Damaged)
    }
}

impl NetworkSecret {
    /// For the file of who runs the network, and nowhere else.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(encode(SECRET_SCHEME, &*self.seed()))
    }

    /// Reads such a file's text.
    ///
    /// # Errors
    /// [`NetworkTextError`].
    pub fn from_text(text: &str) -> Result<Self, NetworkTextError> {
        let body = Zeroizing::new(decode(SECRET_SCHEME, text)?);
        let seed: [u8; 32] = body.as_slice().try_into().map_err(|_| NetworkTextError::Damaged)?;
        Ok(Self::from_seed(&Zeroizing::new(seed)))
    }
}

impl fmt::Display for MemberRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(REQUEST_SCHEME, &[self.device.0, self.service.0].concat()))
    }
}

impl FromStr for MemberRequest {
    type Err = NetworkTextError;

    fn from_str(text: &str) -> Result<Self, NetworkTextError> {
        let body = decode(REQUEST_SCHEME, text)?;
        let (device, service) = body.split_at_checked(32).ok_or(NetworkTextError::Damaged)?;
        let damaged = |_| NetworkTextError::Damaged;
        Ok(Self {
            device: DeviceKey::try_from(device).map_err(damaged)?,
            service: ServiceKey::try_from(service).map_err(damaged)?,
        })
    }
}

/// A membership as text.
#[must_use]
pub fn membership_text(signed: &Signed) -> String {
    encode(MEMBERSHIP_SCHEME, &signed.encode_to_vec())
}

/// Reads a membership's text. Nothing in it is verified.
///
/// # Errors
/// [`NetworkTextError`].
pub fn membership_from_text(text: &str) -> Result<Signed, NetworkTextError> {
    let body = decode(MEMBERSHIP_SCHEME, text)?;
    Signed::decode(body.as_slice()).map_err(|_| NetworkTextError::Damaged)
}

fn encode(scheme: &str, body: &[u8]) -> String {
    let mut bytes = Zeroizing::new(vec![VERSION]);
    bytes.extend_from_slice(body);
    let sum = sha256(&bytes);
    bytes.extend_from_slice(&sum[..CHECKSUM_LEN]);
    format!("{scheme}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
}

/// Accepts upper case, and white space around.
fn decode(scheme: &'static str, text: &str) -> Result<Vec<u8>, NetworkTextError> {
    let text = text.trim();
    let begins = text.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
    if !begins {
        return Err(NetworkTextError::WrongScheme(scheme));
    }
    let body = &text[scheme.len()..];
    if body.len() > TEXT_CHARS_MAX {
        return Err(NetworkTextError::Damaged);
    }
    let body = Zeroizing::new(body.to_ascii_uppercase());
    let bytes = BASE32_NOPAD.decode(body.as_bytes()).map_err(|_| NetworkTextError::Damaged)?;
    let bytes = Zeroizing::new(bytes);
    let at = bytes.len().checked_sub(CHECKSUM_LEN).ok_or(NetworkTextError::Damaged)?;
    let (covered, sum) = bytes.split_at(at);
    if covered.is_empty() || sum != &sha256(covered)[..CHECKSUM_LEN] {
        return Err(NetworkTextError::Damaged);
    }
    match covered[0] {
        VERSION => Ok(covered[1..].to_vec()),
        found => Err(NetworkTextError::UnknownVersion { found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_survive_and_damage_is_found() {
        let secret = NetworkSecret::from_seed(&[7; 32]);
        let key = secret.public();
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(NetworkSecret::from_text(&secret.to_text()).unwrap().public(), key);
        let request = MemberRequest { device: DeviceKey([1; 32]), service: ServiceKey([2; 32]) };
        let text = request.to_string();
        assert_eq!(format!(" {}\n", text.to_uppercase()).parse(), Ok(request));
        for at in REQUEST_SCHEME.len()..text.len() {
            let mut broken = text.clone().into_bytes();
            broken[at] = if broken[at] == b'a' { b'b' } else { b'a' };
            let broken = String::from_utf8(broken).unwrap();
            assert!(broken.parse::<MemberRequest>().is_err(), "{broken}");
        }
        let wrong = key.to_string().parse::<MemberRequest>();
        assert_eq!(wrong, Err(NetworkTextError::WrongScheme(REQUEST_SCHEME)));
        let signed = Signed { payload: vec![1, 2], signature: vec![3; 64] };
        assert_eq!(membership_from_text(&membership_text(&signed)), Ok(signed));
        let newer = [&[2_u8][..], &[0; 32]].concat();
        let newer = [&newer[..], &sha256(&newer)[..4]].concat();
        let newer = format!("{KEY_SCHEME}{}", BASE32_NOPAD.encode(&newer));
        assert_eq!(newer.parse::<NetworkKey>(), Err(NetworkTextError::UnknownVersion { found: 2 }));
    }

    #[test]
    fn long_and_odd_texts_are_refused() {
        for text in ["", "tandem-network:", "tandem-network:é", "é", &"tandem-network:a".repeat(1_000)] {
            assert!(text.parse::<NetworkKey>().is_err());
        }
    }
}
