//! From frames to packets.

use super::opus::{Encoder, EncoderConfig, OpusError};
use super::{FRAME_SAMPLES, Frame, Outgoing};

/// The longest packet in frames: 60 ms, the longest that Opus encodes as voice in one frame (RFC 6716 §2.1.4).
const FRAMES_MAX: usize = 3;

/// Encodes a voice, 20 ms a packet unless it is told otherwise, and stamps the packets.
#[derive(Debug)]
pub struct Sender {
    encoder: Encoder,
    sequence: u64,
    /// Of the first sample that waits.
    rtp_time: u32,
    frames_per_packet: usize,
    waiting: Vec<i16>,
}

impl Sender {
    /// `rtp_start` is the first RTP timestamp; it should be random (RFC 3550 §5.1).
    ///
    /// # Errors
    /// [`OpusError`] if the encoder cannot be made.
    pub fn new(config: EncoderConfig, rtp_start: u32) -> Result<Self, OpusError> {
        let encoder = Encoder::new(config)?;
        Ok(Self { encoder, sequence: 0, rtp_time: rtp_start, frames_per_packet: 1, waiting: Vec::new() })
    }

    /// Takes the next 20 ms; gives a packet once it is full.
    ///
    /// # Errors
    /// [`OpusError`] if libopus fails inside; the time has then passed without a packet.
    pub fn encode(&mut self, frame: &Frame) -> Result<Option<Outgoing>, OpusError> {
        self.waiting.extend_from_slice(frame);
        if self.waiting.len() < self.frames_per_packet * FRAME_SAMPLES {
            return Ok(None);
        }
        let (sequence, rtp_time) = (self.sequence, self.rtp_time);
        let samples = std::mem::take(&mut self.waiting);
        self.sequence += 1;
        self.rtp_time = self.rtp_time.wrapping_add(samples.len() as u32);
        let payload = self.encoder.encode(&samples)?;
        Ok(Some(Outgoing { sequence, rtp_time, payload }))
    }

    /// From now on so many milliseconds a packet: 20, 40 or 60, the next lower of these or 20. Longer packets save
    /// headers and come later.
    pub fn set_packet_ms(&mut self, ms: u32) {
        self.frames_per_packet = usize::try_from(ms / 20).unwrap_or(FRAMES_MAX).clamp(1, FRAMES_MAX);
    }

    /// Leaves out the time of `frames` frames, and what waits, as if the sender had paused.
    pub fn skip(&mut self, frames: u32) {
        let left_out = self.waiting.len() as u32 + frames.wrapping_mul(FRAME_SAMPLES as u32);
        self.waiting.clear();
        self.rtp_time = self.rtp_time.wrapping_add(left_out);
    }

    /// The encoder, to change its settings during the call.
    pub fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }
}

#[cfg(test)]
mod tests {
    use super::super::opus::PacketInfo;
    use super::*;

    #[test]
    fn longer_packets_hold_all_that_came_in_whatever_the_moment_of_the_change() {
        let mut sender = Sender::new(EncoderConfig::default(), 100).unwrap();
        let mut packets = Vec::new();
        for n in 0..12 {
            match n {
                2 => sender.set_packet_ms(40),
                7 => sender.set_packet_ms(20),
                _ => {}
            }
            packets.extend(sender.encode(&[500; FRAME_SAMPLES]).unwrap());
        }
        let lengths: Vec<usize> =
            packets.iter().map(|packet| PacketInfo::parse(&packet.payload).unwrap().samples / 960).collect();
        assert_eq!(lengths, [1, 1, 2, 2, 2, 1, 1, 1, 1]);
        let times: Vec<u32> = packets.iter().map(|packet| (packet.rtp_time - 100) / 960).collect();
        assert_eq!(times, [0, 1, 2, 4, 6, 8, 9, 10, 11]);
    }
}
