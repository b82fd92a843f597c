//! TURN over TCP (RFC 8656 §3.1, §12.5): where one message ends and the next begins, and the padding of ChannelData to
//! four bytes, which the TURN client neither writes nor skips.

/// Longest message of a relay that is read; what is longer is no part of a call.
const MESSAGE_BYTES_MAX: usize = 2048;
const STUN_HEADER: usize = 20; // RFC 8489 §5
const CHANNEL_HEADER: usize = 4; // RFC 8656 §12.4

/// The stream cannot be read any further: neither STUN nor ChannelData, or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Foreign;

/// What has come of a stream and is no whole message yet.
#[derive(Debug, Default)]
pub(super) struct Stream {
    bytes: Vec<u8>,
}

impl Stream {
    /// Takes a piece of the stream; gives the messages that are whole now, without their padding.
    pub(super) fn take(&mut self, piece: &[u8]) -> Result<Vec<Vec<u8>>, Foreign> {
        self.bytes.extend_from_slice(piece);
        let mut messages = Vec::new();
        let mut at = 0;
        while let Some((message, padded)) = lengths(&self.bytes[at..])? {
            if self.bytes.len() - at < padded {
                break;
            }
            messages.push(self.bytes[at..at + message].to_vec());
            at += padded;
        }
        self.bytes.drain(..at);
        Ok(messages)
    }
}

/// Pads ChannelData as a stream wants it; STUN messages are multiples of four already.
pub(super) fn pad(message: &mut Vec<u8>) {
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Length of the first message, without and with padding; `None`: its header is not whole.
fn lengths(bytes: &[u8]) -> Result<Option<(usize, usize)>, Foreign> {
    let [first, _, high, low, ..] = *bytes else {
        return if bytes.first().is_some_and(|first| first >> 6 > 1) { Err(Foreign) } else { Ok(None) };
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let message = match first >> 6 {
        0 if length.is_multiple_of(4) => STUN_HEADER + length,
        1 => CHANNEL_HEADER + length,
        _ => return Err(Foreign),
    };
    let padded = message.next_multiple_of(4);
    if padded > MESSAGE_BYTES_MAX { Err(Foreign) } else { Ok(Some((message, padded))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel_data(payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0x40, 0x01, 0, u8::try_from(payload.len()).unwrap_or(u8::MAX)];
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn messages_come_out_whole_however_the_stream_is_cut() {
        let messages =
            [channel_data(&[7; 61]), channel_data(&[8; 2]), vec![0; STUN_HEADER], channel_data(&[9; 4])];
        let mut sent = Vec::new();
        for message in &messages {
            let mut padded = message.clone();
            pad(&mut padded);
            assert_eq!(padded.len() % 4, 0);
            sent.extend(padded);
        }
        for cut in 1..sent.len() {
            let mut stream = Stream::default();
            let come: Vec<Vec<u8>> =
                sent.chunks(cut).flat_map(|piece| stream.take(piece).expect("all of it is TURN")).collect();
            assert_eq!(come, messages, "pieces of {cut}");
            assert!(stream.bytes.is_empty());
        }
    }

    #[test]
    fn what_is_no_turn_ends_the_stream() {
        assert_eq!(Stream::default().take(&[0x80]), Err(Foreign));
        assert_eq!(Stream::default().take(b"HTTP"), Err(Foreign), "a length that is far too great");
        assert_eq!(Stream::default().take(&[0, 1, 0, 3]), Err(Foreign), "STUN is a multiple of four");
        assert_eq!(Stream::default().take(&[0x40, 1]), Ok(Vec::new()), "not enough to say");
    }
}
