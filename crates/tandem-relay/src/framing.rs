//! Finding the end of a STUN message or of ChannelData in a TCP stream (RFC 8656 §3.1, §12.5): pure functions of the
//! bytes received so far.

/// The longest message relayed or understood, on any transport. Voice packets are ten times smaller; what is longer is
/// not a call.
pub const MESSAGE_BYTES_MAX: usize = 2_048;

const STUN_HEADER_BYTES: usize = 20;
const CHANNEL_HEADER_BYTES: usize = 4;

/// What the beginning of a stream's unread bytes says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// The first message takes this many bytes, all of which are there.
    Whole(usize),
    /// More bytes are needed.
    Partial,
    /// Neither STUN nor ChannelData, or too long: the stream cannot be read any further.
    Foreign,
}

/// Looks at the first message of `bytes`.
#[must_use]
pub fn first_frame(bytes: &[u8]) -> Frame {
    let [first, _, high, low, ..] = *bytes else {
        return if bytes.first().is_some_and(|first| first >> 6 > 1) {
            Frame::Foreign
        } else {
            Frame::Partial
        };
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let total = match first >> 6 {
        0 if length.is_multiple_of(4) => STUN_HEADER_BYTES + length,
        // Over TCP the sender pads to four bytes and leaves the padding out of the length.
        1 => CHANNEL_HEADER_BYTES + length.next_multiple_of(4),
        _ => return Frame::Foreign,
    };
    match total {
        total if total > MESSAGE_BYTES_MAX => Frame::Foreign,
        total if total > bytes.len() => Frame::Partial,
        total => Frame::Whole(total),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_data_is_padded_to_four() {
        assert_eq!(first_frame(&[0x40, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0]), Frame::Partial);
        assert_eq!(first_frame(&[0x40, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0]), Frame::Whole(12));
        assert_eq!(first_frame(&[0x40, 0, 0, 0, 9]), Frame::Whole(4));
    }

    #[test]
    fn stun_is_its_header_and_length() {
        let mut binding = [0; 20];
        binding[1] = 1;
        assert_eq!(first_frame(&binding[..19]), Frame::Partial);
        assert_eq!(first_frame(&binding), Frame::Whole(20));
    }

    #[test]
    fn what_is_neither_ends_the_stream_at_its_first_byte() {
        assert_eq!(first_frame(&[0x13]), Frame::Partial);
        assert_eq!(first_frame(&[0x80]), Frame::Foreign);
        assert_eq!(first_frame(b"GET / HTTP/1.1"), Frame::Foreign);
        assert_eq!(first_frame(&[0, 1, 0, 3]), Frame::Foreign);
        assert_eq!(first_frame(&[0, 1, 0xff, 0xfc]), Frame::Foreign);
        assert_eq!(first_frame(&[]), Frame::Partial);
    }
}
