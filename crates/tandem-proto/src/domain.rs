//! Domain strings (spec/README.md, "Domains"): what keeps a signature or a hash made for one purpose from being
//! used for another.

use sha2::{Digest, Sha256};

/// SHA-256 over a domain string, a zero byte, and the parts one after the other. The zero byte makes sure that no
/// domain is the beginning of another; parts must be of fixed length or the last.
pub(crate) fn hash(domain: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(domain.as_bytes());
    hasher.update([0]);
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// What is signed: the domain string, a zero byte, the payload.
pub(crate) fn signing_input(domain: &str, payload: &[u8]) -> Vec<u8> {
    let mut input = Vec::with_capacity(domain.len() + 1 + payload.len());
    input.extend_from_slice(domain.as_bytes());
    input.push(0);
    input.extend_from_slice(payload);
    input
}

/// SHA-256 without a domain, where the spec asks for that (directory keys, distances).
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The first 16 bytes of a hash.
pub(crate) fn first_half(hash: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}
