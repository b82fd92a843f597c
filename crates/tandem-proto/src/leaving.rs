//! How a relay that drains says so to its clients (spec/relay.md, "A relay that leaves"): a Binding indication
//! (RFC 8489 §5) with one attribute of ours and nothing else. A standard TURN client does nothing with it.

/// The attribute LEAVING, which need not be understood (RFC 8489 §14); it is empty.
pub const LEAVING: u16 = 0xc7d1;

/// Bytes of the message.
pub const BYTES: usize = 24;

const BINDING_INDICATION: [u8; 2] = [0x00, 0x11];
/// Bytes behind the header.
const LENGTH: [u8; 2] = [0x00, 0x04];
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// The message; nobody answers it, so the transaction id needs only to be fresh.
#[must_use]
pub fn notice(transaction: [u8; 12]) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..2].copy_from_slice(&BINDING_INDICATION);
    bytes[2..4].copy_from_slice(&LENGTH);
    bytes[4..8].copy_from_slice(&MAGIC_COOKIE);
    bytes[8..20].copy_from_slice(&transaction);
    bytes[20..22].copy_from_slice(&LEAVING.to_be_bytes());
    bytes
}

/// Whether these bytes are the message. It is not authenticated: a hint.
#[must_use]
pub fn is_notice(data: &[u8]) -> bool {
    data.len() == BYTES
        && data[..2] == BINDING_INDICATION
        && data[2..4] == LENGTH
        && data[4..8] == MAGIC_COOKIE
        && data[20..22] == LEAVING.to_be_bytes()
        && data[22..] == [0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_known_and_nothing_else_is() {
        let bytes = notice([7; 12]);
        assert!(is_notice(&bytes));
        for at in (0..8).chain(20..24) {
            let mut other = bytes;
            other[at] ^= 1;
            assert!(!is_notice(&other), "byte {at} counts");
        }
        for length in 0..BYTES {
            assert!(!is_notice(&bytes[..length]));
        }
        assert!(!is_notice(&[&bytes[..], &[0]].concat()));
    }

    #[test]
    fn the_specification_has_these_bytes() {
        let spec = include_str!("../../../spec/relay.md");
        let hex: Vec<String> = notice([0xee; 12]).iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(spec.contains(&hex.join(" ")), "not in spec/relay.md: {}", hex.join(" "));
    }
}
