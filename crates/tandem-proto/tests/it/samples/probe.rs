//! A media probe, built by the table in spec/media.md and nothing else: tandem-media checks its own against it.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::hex;

/// The two ends' ICE passwords, as in the Offer and the Ringing of `messages.json`.
const CALLER: &str = "0123456789abcdefghijkl";
const CALLEE: &str = "mnopqrstuvwxyz012345+/";
const RELAY: [u8; 32] = [5; 32];

pub(crate) fn probe() -> Value {
    json!({
        "path_name": {
            "ice_passwords": [CALLER, CALLEE],
            "relay": hex(&RELAY),
            "name": hex(&path_name()),
        },
        "direct_path_name": { "number": 0x0102_0305, "name": hex(&[0, 0, 0, 0, 1, 2, 3, 5]) },
        "probe": sample(false),
        "probe_after_the_end": sample(true),
    })
}

fn sample(ended: bool) -> Value {
    let fields = json!({
        "version": 1,
        "primary": true,
        "answer": false,
        "sound": true,
        "ended": ended,
        "sequence": 7,
        "path_name": hex(&[3; 8]),
        "echo": 5,
        "echo_delay_ms": 40,
        "sound_age_ms": 65535,
        "sound_sequence": 99,
        "standing_ms": 12,
        "clock": 480_960,
        "received_kbit_s": 64,
        "entries": [{ "path_name": hex(&[4; 8]), "age_ms": 450, "lost_permille": 1000 }],
    });
    json!({ "receivers_ice_password": CALLEE, "fields": fields, "hex": hex(&datagram(ended)) })
}

fn path_name() -> [u8; 8] {
    let parts = [b"tandem path 1".as_slice(), CALLER.as_bytes(), &[0], CALLEE.as_bytes(), &[0], &RELAY];
    let digest = Sha256::digest(parts.concat());
    std::array::from_fn(|i| digest[i])
}

fn datagram(ended: bool) -> Vec<u8> {
    let flags = if ended { 1 | 4 | 8 } else { 1 | 4 };
    let value = [
        &[1, flags][..],
        &1u16.to_be_bytes(),
        &7u32.to_be_bytes(),
        &[3; 8],
        &5u32.to_be_bytes(),
        &40u16.to_be_bytes(),
        &0xffffu16.to_be_bytes(),
        &99u32.to_be_bytes(),
        &12u16.to_be_bytes(),
        &480_960u32.to_be_bytes(),
        &64u16.to_be_bytes(),
        &[4; 8],
        &450u16.to_be_bytes(),
        &1000u16.to_be_bytes(),
    ]
    .concat();
    let length = |bytes: usize| u16::try_from(bytes).expect("short").to_be_bytes();
    // The header's length counts MESSAGE-INTEGRITY-SHA256 too (RFC 8489 section 14.6).
    let mut bytes = [
        &0x0011u16.to_be_bytes()[..],
        &length(4 + value.len() + 4 + 32),
        &0x2112_a442u32.to_be_bytes(),
        b"tandem1\0",
        &7u32.to_be_bytes(),
        &0xc0deu16.to_be_bytes(),
        &length(value.len()),
        &value,
    ]
    .concat();
    let mut mac = Hmac::<Sha256>::new_from_slice(CALLEE.as_bytes()).expect("any length");
    mac.update(&bytes);
    bytes.extend([0x00, 0x1c, 0x00, 0x20]);
    bytes.extend(mac.finalize().into_bytes());
    bytes
}
