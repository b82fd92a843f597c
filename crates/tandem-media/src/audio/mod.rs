//! Sound: Opus, the jitter buffer, WAV files, levels.
//!
//! Everything is 48 kHz mono in frames of 20 ms ([`Frame`]). An [`endpoint::Endpoint`] is what the driver holds for a
//! call: it gives it packets and the time, and takes packets from it. Inside, [`sender::Sender`] turns frames into
//! Opus payloads and [`receiver::Receiver`] turns payloads back into frames through the jitter buffer
//! ([`jitter::JitterBuffer`]).

use std::time::Duration;

pub mod bridge;
pub mod delay;
pub mod echo;
pub mod endpoint;
pub mod jitter;
pub mod level;
pub mod opus;
pub mod receiver;
pub mod recorder;
pub mod renumber;
pub mod sender;
pub mod simulate;
pub mod stretch;
pub mod wav;

/// Samples per second.
pub const SAMPLE_RATE: u32 = 48_000;
/// Samples in one frame of 20 ms.
pub const FRAME_SAMPLES: usize = 960;
/// How long one frame lasts.
pub const FRAME_DURATION: Duration = Duration::from_millis(20);

/// 20 ms of mono sound at 48 kHz.
pub type Frame = [i16; FRAME_SAMPLES];

/// A frame of silence.
pub const SILENCE: Frame = [0; FRAME_SAMPLES];

/// A packet of voice as it came from the network, already decrypted.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Sequence number, extended beyond 16 bits (RFC 3550 §A.1).
    pub sequence: u64,
    /// RTP timestamp: 48 kHz, wraps (RFC 7587 §4.1).
    pub rtp_time: u32,
    /// One Opus packet.
    pub payload: &'a [u8],
}

/// A packet of voice to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Counts from 0. A number left out stands for a packet that was lost before it came to us (echo).
    pub sequence: u64,
    /// RTP timestamp: 48 kHz, wraps.
    pub rtp_time: u32,
    /// One Opus packet.
    pub payload: Vec<u8>,
}
