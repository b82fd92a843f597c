//! The link by which a new device is added to an account (spec/identity.md, "Joining by link").

use std::fmt;
use std::str::FromStr;

use bip39::Language;
use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use prost::Message;
use sha2::Sha256;
use thiserror::Error;

use crate::domain::{self, sha256};
use crate::ids::{DeviceKey, ServiceKey};
use crate::signed::{ADDRESS_BYTES_MAX, ADDRESSES_MAX, HOMES_MAX, Home};
use crate::wire;

const SCHEME: &str = "tandem-device:";
const VERSION: u8 = 1;
const CHECKSUM_LEN: usize = 4;
/// Longer than three homes with four addresses each.
const TEXT_BYTES_MAX: usize = 2_048;
/// Of the proof in a `DeviceInvitation`.
pub const INVITATION_DOMAIN: &str = "tandem device invitation 1";
/// Of the words by which people compare two devices.
pub const WORDS_DOMAIN: &str = "tandem device words 1";
const WORD_COUNT: usize = 5;

/// What a device that waits to be added shows to the one that adds it: `tandem-device:` and lower-case base32 over
/// version 1, an encoded `DeviceLink`, and the first 4 bytes of SHA-256 over both.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceLink {
    /// The device that waits.
    pub device: DeviceKey,
    /// 16 random bytes; whoever has seen them may make the device part of an account, once.
    pub secret: [u8; 16],
    /// Where it can be reached; 1 to 3.
    pub homes: Vec<Home>,
}

/// Why a text is not a device link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum DeviceLinkError {
    /// Does not begin with `tandem-device:`.
    #[error("it does not begin with \"tandem-device:\"; copy all of it")]
    WrongScheme,
    /// Mistyped, or a part is missing.
    #[error("a part of it is missing or mistyped; copy all of it again")]
    Damaged,
    /// Made by a newer program.
    #[error("it is of version {found}, and this program knows version 1 only: update it")]
    UnknownVersion { found: u8 },
}

impl fmt::Debug for DeviceLink {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceLink").field("device", &self.device).finish_non_exhaustive()
    }
}

impl fmt::Display for DeviceLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let homes = self
            .homes
            .iter()
            .map(|home| wire::Home { service: home.service.0.to_vec(), addresses: home.addresses.clone() });
        let message = wire::DeviceLink {
            device: self.device.0.to_vec(),
            secret: self.secret.to_vec(),
            homes: homes.collect(),
        };
        let mut bytes = vec![VERSION];
        bytes.extend(message.encode_to_vec());
        let sum = sha256(&bytes);
        bytes.extend_from_slice(&sum[..CHECKSUM_LEN]);
        write!(f, "{SCHEME}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }
}

impl FromStr for DeviceLink {
    type Err = DeviceLinkError;

    /// Accepts upper case, and white space anywhere: links are broken over lines.
    fn from_str(text: &str) -> Result<Self, DeviceLinkError> {
        let text: String =
            text.chars().filter(|c| !c.is_whitespace()).take(TEXT_BYTES_MAX + SCHEME.len()).collect();
        let scheme = text.get(..SCHEME.len()).ok_or(DeviceLinkError::WrongScheme)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(DeviceLinkError::WrongScheme);
        }
        let body = text[SCHEME.len()..].to_ascii_uppercase();
        let bytes = BASE32_NOPAD.decode(body.as_bytes()).map_err(|_| DeviceLinkError::Damaged)?;
        let at = bytes.len().checked_sub(CHECKSUM_LEN).ok_or(DeviceLinkError::Damaged)?;
        let (covered, sum) = bytes.split_at(at);
        if covered.is_empty() || sum != &sha256(covered)[..CHECKSUM_LEN] {
            return Err(DeviceLinkError::Damaged);
        }
        if covered[0] != VERSION {
            return Err(DeviceLinkError::UnknownVersion { found: covered[0] });
        }
        let message = wire::DeviceLink::decode(&covered[1..]).map_err(|_| DeviceLinkError::Damaged)?;
        Self::from_wire(&message).ok_or(DeviceLinkError::Damaged)
    }
}

impl DeviceLink {
    fn from_wire(message: &wire::DeviceLink) -> Option<Self> {
        if !(1..=HOMES_MAX).contains(&message.homes.len()) {
            return None;
        }
        let homes = message.homes.iter().map(|home| {
            let fits = home.addresses.len() <= ADDRESSES_MAX
                && home.addresses.iter().all(|address| (1..=ADDRESS_BYTES_MAX).contains(&address.len()));
            let service = ServiceKey::try_from(home.service.as_slice()).ok()?;
            fits.then(|| Home { service, addresses: home.addresses.clone() })
        });
        Some(Self {
            device: DeviceKey::try_from(message.device.as_slice()).ok()?,
            secret: message.secret.as_slice().try_into().ok()?,
            homes: homes.collect::<Option<_>>()?,
        })
    }

    /// The proof that the holder of the device key `inviter` has seen this link and means these papers:
    /// HMAC-SHA256 under the secret, over a domain, both device keys and a hash of both payloads.
    #[must_use]
    pub fn proof(
        &self,
        inviter: DeviceKey,
        certificate: &wire::Signed,
        device_set: &wire::Signed,
    ) -> [u8; 32] {
        self.mac(inviter, certificate, device_set).finalize().into_bytes().into()
    }

    /// Whether a proof is that of [`Self::proof`], in constant time.
    #[must_use]
    pub fn proves(
        &self,
        proof: &[u8],
        inviter: DeviceKey,
        certificate: &wire::Signed,
        device_set: &wire::Signed,
    ) -> bool {
        self.mac(inviter, certificate, device_set).verify_slice(proof).is_ok()
    }

    fn mac(&self, inviter: DeviceKey, certificate: &wire::Signed, device_set: &wire::Signed) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.secret).expect("invariant: HMAC takes keys of any length");
        let parts =
            [&inviter.0[..], &self.device.0, &sha256(&certificate.payload), &sha256(&device_set.payload)];
        mac.update(&domain::hash(INVITATION_DOMAIN, &parts));
        mac
    }
}

/// Five English BIP-39 words by which two people, or one in front of two screens, compare a device key: the first 55
/// bits of a hash of it. Not secret.
#[must_use]
pub fn device_words(device: DeviceKey) -> String {
    let hash = domain::hash(WORDS_DOMAIN, &[&device.0]);
    let mut wide = [0; 8];
    wide.copy_from_slice(&hash[..8]);
    let bits = u64::from_be_bytes(wide);
    let list = Language::English.word_list();
    let word = |n: usize| list[usize::try_from(bits >> (64 - 11 * (n + 1)) & 0x7ff).unwrap_or_default()];
    (0..WORD_COUNT).map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> DeviceLink {
        DeviceLink {
            device: DeviceKey([7; 32]),
            secret: [9; 16],
            homes: vec![Home { service: ServiceKey([3; 32]), addresses: vec![vec![4, 127, 0, 0, 1]] }],
        }
    }

    #[test]
    fn a_link_comes_back_and_hides_its_secret() {
        let text = link().to_string();
        assert_eq!(text.parse(), Ok(link()));
        let broken = format!(" {}\n {} ", &text[..40], &text[40..]).to_ascii_uppercase();
        assert_eq!(broken.parse(), Ok(link()));
        assert!(!format!("{:?}", link()).contains("secret"));
    }

    #[test]
    fn what_is_no_link_is_refused() {
        let text = link().to_string();
        assert_eq!("tandem:abc".parse::<DeviceLink>(), Err(DeviceLinkError::WrongScheme));
        assert_eq!(SCHEME.parse::<DeviceLink>(), Err(DeviceLinkError::Damaged));
        for end in SCHEME.len()..text.len() {
            assert!(text[..end].parse::<DeviceLink>().is_err(), "cut at {end}");
        }
        let none = DeviceLink { homes: Vec::new(), ..link() };
        assert_eq!(none.to_string().parse::<DeviceLink>(), Err(DeviceLinkError::Damaged));
        let four = DeviceLink { homes: vec![link().homes[0].clone(); 4], ..link() };
        assert_eq!(four.to_string().parse::<DeviceLink>(), Err(DeviceLinkError::Damaged));
    }

    #[test]
    fn a_proof_is_of_one_link_one_inviter_and_these_papers() {
        let signed = |byte| wire::Signed { payload: vec![byte; 5], signature: vec![0; 64] };
        let inviter = DeviceKey([8; 32]);
        let proof = link().proof(inviter, &signed(1), &signed(2));
        assert!(link().proves(&proof, inviter, &signed(1), &signed(2)));
        assert!(!link().proves(&proof, DeviceKey([5; 32]), &signed(1), &signed(2)));
        assert!(!link().proves(&proof, inviter, &signed(2), &signed(1)));
        let other = DeviceLink { secret: [1; 16], ..link() };
        assert!(!other.proves(&proof, inviter, &signed(1), &signed(2)));
        assert!(!link().proves(&[], inviter, &signed(1), &signed(2)));
    }

    #[test]
    fn words_differ_between_devices() {
        let words = device_words(DeviceKey([7; 32]));
        assert_eq!(words.split(' ').count(), 5);
        assert_ne!(words, device_words(DeviceKey([8; 32])));
    }
}
