//! From frames to packets.

use super::opus::{Encoder, EncoderConfig, OpusError};
use super::{FRAME_SAMPLES, Frame, Outgoing};

/// Encodes a voice, 20 ms a packet, and stamps the packets.
#[derive(Debug)]
pub struct Sender {
    encoder: Encoder,
    sequence: u64,
    rtp_time: u32,
}

impl Sender {
    /// `rtp_start` is the first RTP timestamp; it should be random (RFC 3550 §5.1).
    ///
    /// # Errors
    /// [`OpusError`] if the encoder cannot be made.
    pub fn new(config: EncoderConfig, rtp_start: u32) -> Result<Self, OpusError> {
        Ok(Self { encoder: Encoder::new(config)?, sequence: 0, rtp_time: rtp_start })
    }

    /// Encodes the next 20 ms.
    ///
    /// # Errors
    /// [`OpusError`] if libopus fails inside; the frame's time has then passed without a packet.
    pub fn encode(&mut self, frame: &Frame) -> Result<Outgoing, OpusError> {
        let sequence = self.sequence;
        let rtp_time = self.rtp_time;
        self.sequence += 1;
        self.rtp_time = self.rtp_time.wrapping_add(FRAME_SAMPLES as u32);
        Ok(Outgoing { sequence, rtp_time, payload: self.encoder.encode(frame)? })
    }

    /// Leaves out the time of `frames` frames, as if the sender had paused.
    pub fn skip(&mut self, frames: u32) {
        self.rtp_time = self.rtp_time.wrapping_add(frames.wrapping_mul(FRAME_SAMPLES as u32));
    }

    /// The encoder, to change its settings during the call.
    pub fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }
}
