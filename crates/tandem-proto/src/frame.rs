//! Frames on a stream (spec/overlay.md, "Frames"): an unsigned varint length, then a message of at most 16384 bytes.

use std::marker::PhantomData;

use prost::Message;
use thiserror::Error;

/// Most bytes of a message in a frame.
pub const FRAME_BYTES_MAX: usize = 16_384;
/// Most bytes of the length before it.
const LENGTH_BYTES_MAX: usize = 3;
/// Most bytes a decoder holds: one frame begun and a generous read behind it.
const BUFFER_BYTES_MAX: usize = FRAME_BYTES_MAX + LENGTH_BYTES_MAX + 65_536;

/// Why a frame cannot be written or read. After a reading error the stream is useless: reset it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// The message is longer than a frame may be.
    #[error("a frame of {bytes} bytes, and {FRAME_BYTES_MAX} are allowed")]
    TooLong { bytes: u64 },
    /// The length is written with more bytes than it needs.
    #[error("a frame's length is not a shortest varint")]
    BadLength,
    /// The message in the frame is not the protobuf it should be.
    #[error("a frame that cannot be decoded")]
    Malformed,
    /// Pushed without taking the frames out.
    #[error("more than {BUFFER_BYTES_MAX} bytes wait to be decoded")]
    BufferFull,
}

/// Encodes one frame, length included.
///
/// # Errors
/// `TooLong` when the message does not fit.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, FrameError> {
    let length = message.encoded_len();
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong { bytes: length as u64 });
    }
    let mut bytes = Vec::with_capacity(length + LENGTH_BYTES_MAX);
    prost::encoding::encode_varint(length as u64, &mut bytes);
    bytes.extend_from_slice(&message.encode_to_vec());
    Ok(bytes)
}

/// Cuts a stream of bytes into messages. Holds at most one frame and one read (about 80 KB).
#[derive(Debug)]
pub struct Decoder<M> {
    buffer: Vec<u8>,
    /// Bytes at the beginning of `buffer` that were taken already.
    taken: usize,
    message: PhantomData<fn() -> M>,
}

impl<M> Default for Decoder<M> {
    fn default() -> Self {
        Self { buffer: Vec::new(), taken: 0, message: PhantomData }
    }
}

impl<M: Message + Default> Decoder<M> {
    /// An empty decoder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what was read from the stream; then take messages out until there is none.
    ///
    /// # Errors
    /// `BufferFull` when messages were not taken out, or more than 64 KB are pushed at once.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        if self.buffer.len() + bytes.len() > BUFFER_BYTES_MAX {
            return Err(FrameError::BufferFull);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole message, if there is one.
    ///
    /// # Errors
    /// [`FrameError`] when the other side broke the format; it stays broken.
    pub fn next_message(&mut self) -> Result<Option<M>, FrameError> {
        let rest = &self.buffer[self.taken..];
        let Some((length, header)) = read_length(rest)? else { return Ok(None) };
        let Some(body) = rest.get(header..header + length) else { return Ok(None) };
        let message = M::decode(body).map_err(|_| FrameError::Malformed)?;
        self.taken += header + length;
        if self.taken == self.buffer.len() {
            // Nothing is left over: give the memory back, since an idle stream lives for hours.
            *self = Self::default();
        }
        Ok(Some(message))
    }

    /// Whether a frame has begun and not ended: a stream that closes now was cut off.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        self.taken < self.buffer.len()
    }
}

/// The length at the beginning and how many bytes it takes; `None` when more bytes are needed.
fn read_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    let mut length = 0;
    for (index, byte) in bytes.iter().take(LENGTH_BYTES_MAX).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 != 0 {
            continue;
        }
        if *byte == 0 && index > 0 {
            return Err(FrameError::BadLength);
        }
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong { bytes: length as u64 });
        }
        return Ok(Some((length, index + 1)));
    }
    if bytes.len() >= LENGTH_BYTES_MAX {
        return Err(FrameError::TooLong { bytes: length as u64 });
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Busy, HomeFrame, Publish, ReachRecord, Signed, home_frame::Body};

    fn busy(id: u64) -> HomeFrame {
        let busy = Busy { retry_after_ms: 1500, referrals: Vec::new() };
        HomeFrame { id, body: Some(Body::Busy(busy)) }
    }

    fn publish(payload_bytes: usize) -> HomeFrame {
        let set = Signed { payload: vec![7; payload_bytes], signature: Vec::new() };
        let record = ReachRecord { device_set: Some(set), device_homes: Vec::new() };
        HomeFrame { id: 1, body: Some(Body::Publish(Publish { record: Some(record) })) }
    }

    #[test]
    fn frames_come_back_whatever_the_cuts() {
        let sent = [busy(1), publish(9000), HomeFrame::default(), busy(300)];
        let bytes: Vec<u8> = sent.iter().flat_map(|frame| encode(frame).unwrap()).collect();
        for size in [1, 2, 7, 1000, bytes.len()] {
            let mut decoder = Decoder::<HomeFrame>::new();
            let mut received = Vec::new();
            for chunk in bytes.chunks(size) {
                decoder.push(chunk).unwrap();
                while let Some(frame) = decoder.next_message().unwrap() {
                    received.push(frame);
                }
            }
            assert_eq!(received, sent);
            assert!(!decoder.is_mid_frame());
        }
    }

    #[test]
    fn the_limit_is_exact() {
        let overhead = publish(16_000).encoded_len() - 16_000;
        let longest = publish(FRAME_BYTES_MAX - overhead);
        let mut decoder = Decoder::<HomeFrame>::new();
        decoder.push(&encode(&longest).unwrap()).unwrap();
        assert_eq!(decoder.next_message(), Ok(Some(longest)));
        let longer = publish(FRAME_BYTES_MAX - overhead + 1);
        assert_eq!(encode(&longer), Err(FrameError::TooLong { bytes: 16_385 }));
    }

    #[test]
    fn broken_streams_are_refused_and_stay_refused() {
        let error = |bytes: &[u8]| {
            let mut decoder = Decoder::<HomeFrame>::new();
            decoder.push(bytes).unwrap();
            let first = decoder.next_message().unwrap_err();
            assert_eq!(decoder.next_message(), Err(first));
            first
        };
        assert_eq!(error(&[0x81, 0x80, 0x01]), FrameError::TooLong { bytes: 16_385 });
        assert!(matches!(error(&[0xff, 0xff, 0xff]), FrameError::TooLong { .. }));
        assert_eq!(error(&[0x81, 0x00]), FrameError::BadLength);
        assert_eq!(error(&[2, 0xff, 0xff]), FrameError::Malformed);
    }

    #[test]
    fn the_buffer_is_bounded() {
        let mut decoder = Decoder::<HomeFrame>::new();
        decoder.push(&vec![0x10; 65_536]).unwrap();
        assert_eq!(decoder.push(&vec![0x10; 65_536]), Err(FrameError::BufferFull));
    }
}
