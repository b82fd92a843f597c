//! A relay's credentials (spec/relay.md, "Grants"): what a grant says is in its username, and the password proves
//! that the relay said it. The relay keeps nothing about a grant.

use std::fmt;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::domain;
use crate::ids::{CallTag, DeviceKey, ServiceKey};

/// Most bytes of a grant's username. STUN allows 508 (RFC 8489 §14.3).
pub const USERNAME_BYTES_MAX: usize = 200;
/// Most bytes of a TURN-REST username.
pub const REST_USERNAME_BYTES_MAX: usize = 256;

const CALL_TAG_DOMAIN: &str = "tandem call tag 1";
const VERSION: &str = "1";
const FIELDS: usize = 6;

/// The tag of one leg of a call on one relay: the first 16 bytes of SHA-256 over the domain "tandem call tag 1", a
/// zero byte, the leg's secret and the relay's service key. A relay that knows its own tag learns nothing of the
/// call's tags on other relays.
#[must_use]
pub fn call_tag(leg_secret: &[u8; 32], relay: ServiceKey) -> CallTag {
    CallTag(domain::first_half(domain::hash(CALL_TAG_DOMAIN, &[leg_secret, relay.as_bytes()])))
}

/// What a grant allows: one device may allocate under one call tag on one relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GrantTerms {
    pub relay: ServiceKey,
    pub device: DeviceKey,
    pub tag: CallTag,
    /// Unix seconds; bounds Allocate only.
    pub not_after_s: u64,
    /// Bytes the allocation may carry, both ways together.
    pub quota_bytes: u64,
}

/// Why a username is not a grant's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum GrantError {
    /// Longer than any grant.
    #[error("the username is longer than a grant's can be")]
    TooLong,
    /// Not six fields separated by full stops.
    #[error("the username is not a grant's: it does not have {FIELDS} fields")]
    WrongFieldCount,
    /// Made by a newer relay.
    #[error("the grant is of a version this relay does not know")]
    UnknownVersion,
    /// A field that cannot be read.
    #[error("the grant's field \"{0}\" cannot be read")]
    BadField(&'static str),
}

impl GrantTerms {
    /// The username: `1.<relay>.<device>.<tag>.<expiry>.<quota>`, keys and tag in unpadded base64url, numbers in
    /// decimal. At most 156 ASCII characters, unchanged by OpaqueString (RFC 8265 §4.2).
    #[must_use]
    pub fn username(&self) -> String {
        format!(
            "{VERSION}.{}.{}.{}.{}.{}",
            BASE64URL_NOPAD.encode(self.relay.as_bytes()),
            BASE64URL_NOPAD.encode(self.device.as_bytes()),
            BASE64URL_NOPAD.encode(&self.tag.0),
            self.not_after_s,
            self.quota_bytes,
        )
    }

    /// Reads a username. It proves nothing until the password does.
    ///
    /// # Errors
    /// [`GrantError`] says what is wrong with it.
    pub fn parse(username: &str) -> Result<Self, GrantError> {
        if username.len() > USERNAME_BYTES_MAX {
            return Err(GrantError::TooLong);
        }
        let fields: Vec<&str> = username.split('.').collect();
        if fields.first().is_some_and(|version| *version != VERSION) && fields.len() >= FIELDS {
            return Err(GrantError::UnknownVersion);
        }
        let [_, relay, device, tag, not_after_s, quota_bytes] = fields.as_slice() else {
            return Err(GrantError::WrongFieldCount);
        };
        Ok(Self {
            relay: ServiceKey(bytes_field("relay", relay)?),
            device: DeviceKey(bytes_field("device", device)?),
            tag: CallTag(bytes_field("tag", tag)?),
            not_after_s: number_field("expiry", not_after_s)?,
            quota_bytes: number_field("quota", quota_bytes)?,
        })
    }
}

/// The key under which a relay makes its grants' passwords: random, new at each start, wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RelaySecret([u8; 32]);

impl RelaySecret {
    /// From 32 bytes of a cryptographic random generator.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The password of a username: unpadded base64url of HMAC-SHA256 (43 characters).
    #[must_use]
    pub fn password(&self, username: &str) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("invariant: HMAC takes keys of any length");
        mac.update(username.as_bytes());
        BASE64URL_NOPAD.encode(&mac.finalize().into_bytes())
    }

    /// Whether the password belongs to the username, in constant time.
    #[must_use]
    pub fn verifies(&self, username: &str, password: &str) -> bool {
        equal_in_constant_time(self.password(username).as_bytes(), password.as_bytes())
    }
}

impl fmt::Debug for RelaySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelaySecret(secret)")
    }
}

/// The shared secret of `--rest-secret`, for standard clients ("TURN REST API", draft-uberti-behave-turn-rest-00).
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RestSecret(Vec<u8>);

impl RestSecret {
    /// From the text the owner gave.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(secret.as_bytes().to_vec())
    }

    /// The password of a username: padded base64 of HMAC-SHA1 (28 characters).
    #[must_use]
    pub fn password(&self, username: &str) -> String {
        let mut mac =
            Hmac::<Sha1>::new_from_slice(&self.0).expect("invariant: HMAC takes keys of any length");
        mac.update(username.as_bytes());
        BASE64.encode(&mac.finalize().into_bytes())
    }

    /// Whether the password belongs to the username, in constant time.
    #[must_use]
    pub fn verifies(&self, username: &str, password: &str) -> bool {
        equal_in_constant_time(self.password(username).as_bytes(), password.as_bytes())
    }
}

impl fmt::Debug for RestSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RestSecret(secret)")
    }
}

/// What a TURN-REST username says: `<expiry>:<suffix>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RestTerms {
    /// Unix seconds; bounds Allocate only.
    pub not_after_s: u64,
    /// The first 16 bytes of SHA-256 of the suffix: users of the same suffix reach each other.
    pub tag: CallTag,
    pub suffix: String,
}

impl RestTerms {
    /// Reads a TURN-REST username. It proves nothing until the password does.
    ///
    /// # Errors
    /// [`GrantError`] says what is wrong with it.
    pub fn parse(username: &str) -> Result<Self, GrantError> {
        if username.len() > REST_USERNAME_BYTES_MAX {
            return Err(GrantError::TooLong);
        }
        let (expiry, suffix) = username.split_once(':').ok_or(GrantError::BadField("suffix"))?;
        if suffix.is_empty() {
            return Err(GrantError::BadField("suffix"));
        }
        Ok(Self {
            not_after_s: number_field("expiry", expiry)?,
            tag: CallTag(domain::first_half(domain::sha256(suffix.as_bytes()))),
            suffix: suffix.to_owned(),
        })
    }

    /// The username again.
    #[must_use]
    pub fn username(&self) -> String {
        format!("{}:{}", self.not_after_s, self.suffix)
    }
}

/// Compares without telling by its duration where the difference is. Lengths are no secret.
#[must_use]
pub fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

fn bytes_field<const N: usize>(name: &'static str, text: &str) -> Result<[u8; N], GrantError> {
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| GrantError::BadField(name))?;
    bytes.try_into().map_err(|_| GrantError::BadField(name))
}

/// Decimal digits without sign or leading zero, so that each grant has one spelling.
fn number_field(name: &'static str, text: &str) -> Result<u64, GrantError> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if !canonical {
        return Err(GrantError::BadField(name));
    }
    text.parse().map_err(|_| GrantError::BadField(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> GrantTerms {
        GrantTerms {
            relay: ServiceKey([0xff; 32]),
            device: DeviceKey([2; 32]),
            tag: call_tag(&[3; 32], ServiceKey([0xff; 32])),
            not_after_s: u64::MAX,
            quota_bytes: u64::MAX,
        }
    }

    #[test]
    fn usernames_come_back_and_fit() {
        let username = terms().username();
        assert!(username.len() <= 156 && username.is_ascii(), "{username}");
        assert_eq!(GrantTerms::parse(&username), Ok(terms()));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let username = terms().username();
        assert_eq!(GrantTerms::parse(""), Err(GrantError::WrongFieldCount));
        assert_eq!(GrantTerms::parse(&"1.".repeat(101)), Err(GrantError::TooLong));
        let newer = username.replacen("1.", "2.", 1);
        assert_eq!(GrantTerms::parse(&newer), Err(GrantError::UnknownVersion));
        assert_eq!(GrantTerms::parse(&format!("{username}0")), Err(GrantError::BadField("quota")));
        let signed = GrantTerms { quota_bytes: 0, ..terms() }.username().replace(".0", ".+0");
        assert_eq!(GrantTerms::parse(&signed), Err(GrantError::BadField("quota")));
    }

    #[test]
    fn a_password_is_for_one_username_and_one_start() {
        let secret = RelaySecret::new([1; 32]);
        let username = terms().username();
        let password = secret.password(&username);
        assert_eq!(password.len(), 43);
        assert!(secret.verifies(&username, &password));
        assert!(!secret.verifies(&GrantTerms { quota_bytes: 1, ..terms() }.username(), &password));
        assert!(!RelaySecret::new([2; 32]).verifies(&username, &password));
        assert!(!secret.verifies(&username, &password[..42]));
    }

    #[test]
    fn tags_differ_by_relay_and_leg() {
        let tag = call_tag(&[1; 32], ServiceKey([1; 32]));
        assert_ne!(tag, call_tag(&[1; 32], ServiceKey([2; 32])));
        assert_ne!(tag, call_tag(&[2; 32], ServiceKey([1; 32])));
    }

    #[test]
    fn rest_usernames() {
        let terms = RestTerms::parse("1700000000:alice:x").unwrap();
        assert_eq!((terms.not_after_s, terms.suffix.as_str()), (1_700_000_000, "alice:x"));
        assert_eq!(terms.username(), "1700000000:alice:x");
        assert_eq!(terms.tag, RestTerms::parse("1:alice:x").unwrap().tag);
        for bad in ["", "1700000000", "1:", "x:y", ":y", "-1:y"] {
            assert!(RestTerms::parse(bad).is_err(), "{bad}");
        }
        // RFC 2202 §3, test case 2.
        let password = RestSecret::new("Jefe").password("what do ya want for nothing?");
        assert_eq!(password, "7/zfauXrL6LSdBbV8YTfnCWafHk=");
    }
}
