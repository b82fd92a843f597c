//! The form of a key file: all numbers big-endian.
//!
//! ```text
//! 8  "TNDMKEY\n"
//! 1  version, 1
//! 1  kind: 1 account entropy, 2 device seed, 3 service seed
//! 1  0 plain, 1 sealed
//! 1  0
//!    sealed only: 4 memory KiB, 4 passes, 4 lanes (Argon2id), 16 salt, 12 nonce
//! 32 the secret; sealed: 48, ChaCha20-Poly1305 (RFC 8439) with all of the above as associated data
//! 8  the first bytes of SHA-256 over all of the above
//! ```

use std::path::Path;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::KeysError;
use super::sealing::{Cost, SALT_LEN, Sealer};
use crate::platform::random;

/// A key file is far smaller; anything larger is something else.
pub(super) const BYTES_MAX: u64 = 1024;

const MAGIC: &[u8; 8] = b"TNDMKEY\n";
const VERSION: u8 = 1;
const HEADER_LEN: usize = 12;
const SEALED_HEADER_LEN: usize = HEADER_LEN + 12 + SALT_LEN + NONCE_LEN;
const NONCE_LEN: usize = 12;
const SECRET_LEN: usize = 32;
const TAG_LEN: usize = 16;
const CHECKSUM_LEN: usize = 8;

/// What a key file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    Account = 1,
    Device = 2,
    Service = 3,
}

impl KeyKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Device => "device",
            Self::Service => "service",
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Account, Self::Device, Self::Service].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// A key file, read.
pub(super) struct KeyFile {
    pub(super) secret: Zeroizing<[u8; SECRET_LEN]>,
    pub(super) sealed: bool,
}

/// Sealed when the sealer has a passphrase.
pub(super) fn encode(
    kind: KeyKind,
    secret: &[u8; SECRET_LEN],
    sealer: &mut Sealer<'_>,
) -> Zeroizing<Vec<u8>> {
    let sealing = sealer.for_new();
    let mut bytes =
        Zeroizing::new(Vec::with_capacity(SEALED_HEADER_LEN + SECRET_LEN + TAG_LEN + CHECKSUM_LEN));
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[VERSION, kind as u8, u8::from(sealing.is_some()), 0]);
    match sealing {
        None => bytes.extend_from_slice(secret),
        Some((salt, key)) => {
            for number in [Cost::NEW.memory, Cost::NEW.passes, Cost::NEW.lanes] {
                bytes.extend_from_slice(&number.to_be_bytes());
            }
            bytes.extend_from_slice(&salt);
            let nonce: [u8; NONCE_LEN] = random::bytes();
            bytes.extend_from_slice(&nonce);
            let payload = Payload { msg: secret, aad: &bytes };
            let body = cipher(&key)
                .encrypt(&Nonce::from(nonce), payload)
                .expect("invariant: 32 bytes are within the cipher's limit");
            bytes.extend_from_slice(&body);
        }
    }
    let checksum = checksum(&bytes);
    bytes.extend_from_slice(&checksum);
    bytes
}

/// Does this look like a sealed key file?
pub(super) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC) && bytes.get(10) == Some(&1)
}

pub(super) fn decode(
    path: &Path,
    bytes: &[u8],
    expected: KeyKind,
    sealer: &mut Sealer<'_>,
) -> Result<KeyFile, KeysError> {
    let damaged = |detail: &str| KeysError::Damaged { path: path.to_owned(), detail: detail.to_owned() };
    if bytes.is_empty() {
        return Err(damaged("it is empty"));
    }
    if !bytes.starts_with(MAGIC) {
        let cut = MAGIC.starts_with(bytes);
        return Err(if cut {
            damaged("it is cut off")
        } else {
            KeysError::Foreign { path: path.to_owned() }
        });
    }
    if bytes.len() <= HEADER_LEN + CHECKSUM_LEN {
        return Err(damaged("it is cut off"));
    }
    if bytes[8] != VERSION {
        let detail = format!("it is of version {}, and this program knows version {VERSION}", bytes[8]);
        return Err(damaged(&detail));
    }
    let sealed = match bytes[10] {
        0 => false,
        1 => true,
        _ => return Err(damaged("its header makes no sense")),
    };
    let length = if sealed { SEALED_HEADER_LEN + SECRET_LEN + TAG_LEN } else { HEADER_LEN + SECRET_LEN };
    if bytes.len() != length + CHECKSUM_LEN {
        return Err(damaged("it is cut off or has something behind its end"));
    }
    let (covered, sum) = bytes.split_at(length);
    if sum != checksum(covered) {
        return Err(damaged("its checksum does not fit"));
    }
    let found = KeyKind::from_byte(covered[9]).ok_or_else(|| damaged("its header makes no sense"))?;
    if found != expected {
        return Err(KeysError::WrongKind { path: path.to_owned(), expected, found });
    }
    let secret = if sealed { unseal(path, covered, sealer)? } else { secret(&covered[HEADER_LEN..]) };
    Ok(KeyFile { secret: secret.ok_or_else(|| damaged("its length is wrong"))?, sealed })
}

type Secret = Option<Zeroizing<[u8; SECRET_LEN]>>;

fn unseal(path: &Path, covered: &[u8], sealer: &mut Sealer<'_>) -> Result<Secret, KeysError> {
    let (header, body) = covered.split_at(SEALED_HEADER_LEN);
    let number = |at: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&header[at..at + 4]);
        u32::from_be_bytes(bytes)
    };
    let cost = Cost { memory: number(12), passes: number(16), lanes: number(20) };
    if !cost.bearable() {
        let detail = "its parameters make no sense".to_owned();
        return Err(KeysError::Damaged { path: path.to_owned(), detail });
    }
    let mut salt = [0; SALT_LEN];
    salt.copy_from_slice(&header[24..24 + SALT_LEN]);
    let mut nonce = [0; NONCE_LEN];
    nonce.copy_from_slice(&header[24 + SALT_LEN..]);
    let Some(key) = sealer.key(salt, cost) else {
        return Err(KeysError::PassphraseNeeded { path: path.to_owned() });
    };
    let payload = Payload { msg: body, aad: header };
    let opened = cipher(&key)
        .decrypt(&Nonce::from(nonce), payload)
        .map_err(|_| KeysError::PassphraseWrong { path: path.to_owned() })?;
    Ok(secret(&Zeroizing::new(opened)))
}

fn secret(bytes: &[u8]) -> Secret {
    let mut secret = Zeroizing::new([0; SECRET_LEN]);
    if bytes.len() != SECRET_LEN {
        return None;
    }
    secret.copy_from_slice(bytes);
    Some(secret)
}

fn cipher(key: &[u8; 32]) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(&(*key).into())
}

fn checksum(covered: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut sum = [0; CHECKSUM_LEN];
    sum.copy_from_slice(&Sha256::digest(covered)[..CHECKSUM_LEN]);
    sum
}
