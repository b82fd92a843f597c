//! The probe: a STUN Binding indication (RFC 8489 §3, §6) that says "I am here, and this is what I hear".
//!
//! It carries one comprehension-optional attribute and MESSAGE-INTEGRITY-SHA256 (RFC 8489 §14.6) under the receiver's
//! ICE password, so that no relay can make one. A sequence number and the path's name are inside, so that a relay
//! gains nothing by replaying one or by moving it to another path. Each probe echoes the last one heard on its path:
//! that is what RFC 7675 calls consent, and what validates the path.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::description::PathName;

/// Most paths a probe tells about.
pub(super) const MAX_ENTRIES: usize = 16;
/// "Never heard."
pub(super) const NEVER: u16 = u16::MAX;

const BINDING_INDICATION: u16 = 0x0011; // RFC 8489 §5
const MAGIC_COOKIE: u32 = 0x2112_A442; // RFC 8489 §5
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C; // RFC 8489 §18.3.1
/// From the comprehension-optional range (RFC 8489 §18.3.2).
const TANDEM_PROBE: u16 = 0xC0DE;
const VERSION: u8 = 1;
const HEADER: usize = 20;
const INTEGRITY: usize = 4 + 32;
const FIXED: usize = 36;
const ENTRY: usize = 12;

const FLAG_PRIMARY: u8 = 1;
const FLAG_ANSWER: u8 = 2;
const FLAG_SOUND: u8 = 4;
const FLAG_ENDED: u8 = 8;

/// What one probe says. Times are milliseconds, at most 65534; [`NEVER`] where it never happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Probe {
    /// Counts all probes of the sender, over all its paths.
    pub(super) sequence: u32,
    /// The path it is sent on.
    pub(super) name: PathName,
    /// The sender sends its sound on this path first.
    pub(super) primary: bool,
    /// The sender wants a probe back at once.
    pub(super) answer: bool,
    /// The sender has sent sound within the last 100 ms.
    pub(super) sound: bool,
    /// The sender has ended its side of the leg, for good.
    pub(super) ended: bool,
    /// The newest probe heard on this path, 0 for none, and how long ago that was.
    pub(super) echo: u32,
    pub(super) echo_delay_ms: u16,
    /// Time since the last new packet of sound came, on any path.
    pub(super) sound_age_ms: u16,
    /// The sequence number (low 32 bits) of the sound sent last; 0 for none.
    pub(super) sound_sequence: u32,
    /// How long sound stands in a queue on the best path it comes on; [`NEVER`] if too little came of late.
    pub(super) standing_ms: u16,
    /// The sender's RTP clock when this left (48 kHz, wraps): the one by which its sound is stamped.
    pub(super) clock: u32,
    /// How much came in over the last half second, thousands of bits a second; [`NEVER`] if that is not known.
    pub(super) received_kbit_s: u16,
    pub(super) entries: Vec<Entry>,
}

/// What the sender hears on one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: PathName,
    /// Time since anything authentic came on it.
    pub(super) age_ms: u16,
    /// Share of the sound that was sent on it and did not come, thousandths, over the last second.
    pub(super) lost_permille: u16,
}

/// Whether these bytes look like a probe; says nothing about their being authentic.
pub(super) fn is_probe(data: &[u8]) -> bool {
    data.len() >= HEADER
        && data[..2] == BINDING_INDICATION.to_be_bytes()
        && data[4..8] == MAGIC_COOKIE.to_be_bytes()
}

impl Probe {
    pub(super) fn encode(&self, password: &str) -> Vec<u8> {
        let entries = &self.entries[..self.entries.len().min(MAX_ENTRIES)];
        let value = FIXED + entries.len() * ENTRY;
        let mut out = Vec::with_capacity(HEADER + 4 + value + INTEGRITY);
        put16(&mut out, BINDING_INDICATION);
        put16(&mut out, as_u16(4 + value + INTEGRITY));
        put32(&mut out, MAGIC_COOKIE);
        out.extend(b"tandem1\0"); // transaction id: indications need none that is random (RFC 8489 §6.1)
        put32(&mut out, self.sequence);
        put16(&mut out, TANDEM_PROBE);
        put16(&mut out, as_u16(value));
        self.encode_value(&mut out, entries);
        let tag = mac(password, &out).finalize().into_bytes();
        put16(&mut out, MESSAGE_INTEGRITY_SHA256);
        put16(&mut out, 32);
        out.extend(tag);
        out
    }

    fn encode_value(&self, out: &mut Vec<u8>, entries: &[Entry]) {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        out.push(VERSION);
        let path = flag(self.primary, FLAG_PRIMARY) | flag(self.answer, FLAG_ANSWER);
        out.push(path | flag(self.sound, FLAG_SOUND) | flag(self.ended, FLAG_ENDED));
        put16(out, as_u16(entries.len()));
        put32(out, self.sequence);
        out.extend(self.name.0);
        put32(out, self.echo);
        put16(out, self.echo_delay_ms);
        put16(out, self.sound_age_ms);
        put32(out, self.sound_sequence);
        put16(out, self.standing_ms);
        put32(out, self.clock);
        put16(out, self.received_kbit_s);
        for entry in entries {
            out.extend(entry.name.0);
            put16(out, entry.age_ms);
            put16(out, entry.lost_permille);
        }
    }

    /// Reads a probe; `None` unless it is whole and authentic under our own ICE password.
    pub(super) fn decode(data: &[u8], password: &str) -> Option<Self> {
        if !is_probe(data) || data.len() < HEADER + 4 + FIXED + INTEGRITY {
            return None;
        }
        if usize::from(get16(data, 2)) != data.len() - HEADER {
            return None;
        }
        let signed = data.len() - INTEGRITY;
        if get16(data, signed) != MESSAGE_INTEGRITY_SHA256 || get16(data, signed + 2) != 32 {
            return None;
        }
        mac(password, &data[..signed]).verify_slice(&data[signed + 4..]).ok()?;
        if get16(data, HEADER) != TANDEM_PROBE || usize::from(get16(data, HEADER + 2)) != signed - HEADER - 4
        {
            return None;
        }
        Self::decode_value(&data[HEADER + 4..signed])
    }

    fn decode_value(value: &[u8]) -> Option<Self> {
        let count = usize::from(get16(value, 2));
        // A later version may append fields; what is known stays where it is.
        if value[0] == 0 || count > MAX_ENTRIES || value.len() < FIXED + count * ENTRY {
            return None;
        }
        let entries = value[FIXED..].chunks_exact(ENTRY).take(count).map(|chunk| Entry {
            name: name_at(chunk, 0),
            age_ms: get16(chunk, 8),
            lost_permille: get16(chunk, 10),
        });
        Some(Self {
            sequence: get32(value, 4),
            name: name_at(value, 8),
            primary: value[1] & FLAG_PRIMARY != 0,
            answer: value[1] & FLAG_ANSWER != 0,
            sound: value[1] & FLAG_SOUND != 0,
            ended: value[1] & FLAG_ENDED != 0,
            echo: get32(value, 16),
            echo_delay_ms: get16(value, 20),
            sound_age_ms: get16(value, 22),
            sound_sequence: get32(value, 24),
            standing_ms: get16(value, 28),
            clock: get32(value, 30),
            received_kbit_s: get16(value, 34),
            entries: entries.collect(),
        })
    }
}

fn mac(password: &str, message: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(password.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(message);
    mac
}

fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend(value.to_be_bytes());
}

fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_be_bytes());
}

fn get16(data: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([data[at], data[at + 1]])
}

fn get32(data: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]])
}

fn name_at(data: &[u8], at: usize) -> PathName {
    let mut name = [0; 8];
    name.copy_from_slice(&data[at..at + 8]);
    PathName(name)
}

fn as_u16(length: usize) -> u16 {
    u16::try_from(length).expect("a probe is far shorter than 64 KiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTORS: &str = include_str!("../../../../spec/vectors/probe.json");

    fn sample() -> Probe {
        Probe {
            sequence: 7,
            name: PathName([3; 8]),
            primary: true,
            answer: false,
            sound: true,
            ended: false,
            echo: 5,
            echo_delay_ms: 40,
            sound_age_ms: NEVER,
            sound_sequence: 99,
            standing_ms: 12,
            clock: 480_960,
            received_kbit_s: 64,
            entries: vec![Entry { name: PathName([4; 8]), age_ms: 450, lost_permille: 1000 }],
        }
    }

    #[test]
    fn survives_the_wire() {
        for ended in [false, true] {
            let probe = Probe { ended, ..sample() };
            assert_eq!(Probe::decode(&probe.encode("secret"), "secret"), Some(probe));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        for probe in [sample(), Probe { ended: true, ..sample() }] {
            let bytes = probe.encode("mnopqrstuvwxyz012345+/");
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(
                VECTORS.contains(&format!("\"hex\": \"{hex}\"")),
                "not in spec/vectors/probe.json: {hex}"
            );
        }
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_refused() {
        let good = sample().encode("secret");
        assert_eq!(Probe::decode(&good, "other"), None);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert_eq!(Probe::decode(&bad, "secret"), None, "byte {at}");
            assert_eq!(Probe::decode(&good[..at], "secret"), None, "cut {at}");
        }
    }
}
