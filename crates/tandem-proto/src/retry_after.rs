//! When a relay without room may be asked again (spec/relay.md, "Full"): an attribute of its refusals.

use std::time::Duration;

/// The attribute RETRY-AFTER, which need not be understood (RFC 8489 §14): seconds, 32 bits.
pub const RETRY_AFTER: u16 = 0xc7d2;

/// Nobody is kept away for longer, whatever a relay says.
pub const LONGEST: Duration = Duration::from_secs(600);

/// The attribute's value, in whole seconds.
#[must_use]
pub fn value(after: Duration) -> [u8; 4] {
    u32::try_from(after.as_secs()).unwrap_or(u32::MAX).to_be_bytes()
}

/// Reads the attribute's value; `None` if it is not one. At most [`LONGEST`].
#[must_use]
pub fn read(value: &[u8]) -> Option<Duration> {
    let seconds = u32::from_be_bytes(value.try_into().ok()?);
    Some(Duration::from_secs(seconds.into()).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_bounded() {
        for seconds in [0, 5, 60, 600] {
            let after = Duration::from_secs(seconds);
            assert_eq!(read(&value(after)), Some(after));
        }
        assert_eq!(read(&[0xff; 4]), Some(LONGEST));
        for length in [0, 3, 5] {
            assert_eq!(read(&[0; 8][..length]), None);
        }
    }

    #[test]
    fn the_specification_has_these_bytes() {
        let spec = include_str!("../../../spec/relay.md");
        let bytes =
            [&RETRY_AFTER.to_be_bytes()[..], &4_u16.to_be_bytes(), &value(Duration::from_secs(5))].concat();
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(spec.contains(&hex.join(" ")), "not in spec/relay.md: {}", hex.join(" "));
    }
}
