//! The long-term credential mechanism (RFC 8489 §9.2.4), without a list of users.
//!
//! PASSWORD-ALGORITHMS is not offered (the standard leaves that to the server): it would lengthen the one answer that
//! strangers can draw. A client that signs with MESSAGE-INTEGRITY-SHA256 of its own accord is understood all the same
//! and answered in kind.

use std::time::Instant;

use sha2::{Digest, Sha256};
use stun_types::attribute::{MessageIntegrity, MessageIntegritySha256, Nonce, Realm, Username};
use stun_types::message::{IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message};
use stun_types::prelude::*;

use super::allocation::UsernameHash;
use super::nonce::Nonces;
use super::reply::ErrorKind;
use crate::client::ClientAddr;
use crate::credentials::{Authorised, Credentials};

/// A request whose credentials were proved.
#[derive(Debug)]
pub(super) struct Authenticated {
    pub(super) authorised: Authorised,
    pub(super) username: UsernameHash,
    pub(super) key: IntegrityKey,
    pub(super) algorithm: IntegrityAlgorithm,
}

/// Proves a request's credentials, cheapest check first: only a client that has received a nonce of ours at the address
/// it claims can make us compute passwords.
pub(super) fn authenticate(
    request: &Message<'_>,
    credentials: &Credentials,
    realm: &str,
    nonces: &Nonces,
    client: &ClientAddr,
    now: Instant,
) -> Result<Authenticated, ErrorKind> {
    let algorithm = if request.has_attribute(MessageIntegritySha256::TYPE) {
        IntegrityAlgorithm::Sha256
    } else if request.has_attribute(MessageIntegrity::TYPE) {
        IntegrityAlgorithm::Sha1
    } else {
        return Err(ErrorKind::Unauthenticated);
    };
    let username = request.attribute::<Username>().map_err(|_| ErrorKind::BadRequest)?;
    let claimed_realm = request.attribute::<Realm>().map_err(|_| ErrorKind::BadRequest)?;
    let nonce = request.attribute::<Nonce>().map_err(|_| ErrorKind::BadRequest)?;
    if !nonces.is_fresh(nonce.nonce(), client, now) {
        return Err(ErrorKind::StaleNonce);
    }
    if claimed_realm.realm() != realm {
        return Err(ErrorKind::Unauthenticated);
    }
    let authorised = credentials.check(username.username()).map_err(|_| ErrorKind::Unauthenticated)?;
    let key = long_term_key(username.username(), &authorised.password, realm, algorithm);
    let proved = request.validate_integrity_with_key(&key).map_err(|_| ErrorKind::Unauthenticated)?;
    debug_assert_eq!(proved, algorithm, "the key is for one algorithm");
    Ok(Authenticated { authorised, username: hash_username(username.username()), key, algorithm })
}

fn long_term_key(username: &str, password: &str, realm: &str, algorithm: IntegrityAlgorithm) -> IntegrityKey {
    LongTermKeyCredentials::new(username.to_owned(), password.to_owned(), realm.to_owned())
        .make_key(algorithm)
}

fn hash_username(username: &str) -> UsernameHash {
    let digest = Sha256::digest(username.as_bytes());
    UsernameHash(std::array::from_fn(|i| digest[i]))
}
