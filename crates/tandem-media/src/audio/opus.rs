//! The safe layer over libopus: one encoder, one decoder, and what can be asked of a packet without decoding it.
//!
//! This is the only module of the crate with `unsafe`. Its rules: every pointer given to libopus comes from a slice
//! or a box that outlives the call, every length is checked before, and every packet is parsed by
//! [`PacketInfo::parse`] before a decoder sees it.
#![expect(unsafe_code, reason = "libopus is a C library; this module is its safe boundary")]

use std::ffi::c_int;
use std::ptr::{self, NonNull};

use opusic_sys as sys;
use thiserror::Error;

use super::{FRAME_SAMPLES, SAMPLE_RATE};

/// Most samples one packet can hold: 120 ms at 48 kHz (RFC 6716 §3.1).
pub const MAX_PACKET_SAMPLES: usize = 5_760;
/// Longest payload accepted, in bytes. Nothing longer crosses the Internet unfragmented.
pub const MAX_PAYLOAD_BYTES: usize = 1_500;
/// Concealment and redundancy are made in multiples of 2.5 ms.
pub const SAMPLES_STEP: usize = 120;
/// Decoder complexity from which libopus 1.6 conceals with its neural network ("deep PLC").
const DEEP_PLC_COMPLEXITY: i32 = 6;

/// A codec that could not be made or set up: out of memory, or a setting that libopus refuses.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("the Opus codec failed to {doing} (libopus error {code})")]
pub struct OpusError {
    doing: &'static str,
    code: i32,
}

/// A packet that cannot be decoded.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum PacketError {
    /// No bytes at all.
    #[error("empty packet")]
    Empty,
    /// More than [`MAX_PAYLOAD_BYTES`].
    #[error("packet of {0} bytes is too long")]
    TooLong(usize),
    /// Not an Opus packet, or damaged.
    #[error("not an Opus packet (libopus error {0})")]
    Malformed(i32),
    /// The caller asked for a length that is not a multiple of 2.5 ms, is zero, or is over 120 ms.
    #[error("cannot make {0} samples at once")]
    Length(usize),
}

/// What a packet says about itself (RFC 6716 §3), read without decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketInfo {
    /// Duration of the packet at 48 kHz, 120 to [`MAX_PACKET_SAMPLES`].
    pub samples: usize,
    /// Duration of one of its frames at 48 kHz.
    pub frame_samples: usize,
    /// Whether it also holds a coarse copy (LBRR) of the frame before it.
    pub lbrr: bool,
}

impl PacketInfo {
    /// Reads the headers of an Opus packet.
    ///
    /// # Errors
    /// [`PacketError`] if it is empty, too long, or not well formed.
    pub fn parse(payload: &[u8]) -> Result<Self, PacketError> {
        let length = checked_length(payload)?;
        // SAFETY: `payload` is not empty and `length` is its true length; libopus reads no further.
        let (samples, frame_samples, lbrr) = unsafe {
            (
                sys::opus_packet_get_nb_samples(payload.as_ptr(), length, SAMPLE_RATE as i32),
                sys::opus_packet_get_samples_per_frame(payload.as_ptr(), SAMPLE_RATE as i32),
                sys::opus_packet_has_lbrr(payload.as_ptr(), length),
            )
        };
        match (usize::try_from(samples), usize::try_from(frame_samples)) {
            (Ok(all), Ok(one)) if lbrr >= 0 && one > 0 && (one..=MAX_PACKET_SAMPLES).contains(&all) => {
                Ok(Self { samples: all, frame_samples: one, lbrr: lbrr > 0 })
            }
            _ => Err(PacketError::Malformed(samples.min(lbrr))),
        }
    }
}

/// How a voice is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderConfig {
    /// Bits per second, 6,000 to 128,000.
    pub bitrate: i32,
    /// Percentage of packets expected to be lost, 0 to 100; from 1 on, each packet holds a coarse copy of the last.
    pub expected_loss: i32,
    /// Deep redundancy (DRED) in units of 10 ms, 0 (none) to 104. Beside LBRR libopus gives it bits only above about
    /// 40 kbit/s and with much expected loss; below, it reaches back 15 ms, which is no use.
    pub dred: i32,
    /// Effort, 0 to 10.
    pub complexity: i32,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        Self { bitrate: 32_000, expected_loss: 10, dred: 0, complexity: 9 }
    }
}

impl EncoderConfig {
    /// With fewer bits a second, a copy of the packet before costs more of the sound than it saves: without loss,
    /// 24 kbit/s have PESQ 3.97 with it and 4.24 without, 32 kbit/s 4.19 with it.
    pub const LBRR_MIN: i32 = 28_000;
}

/// Encodes 48 kHz mono voice.
#[derive(Debug)]
pub struct Encoder {
    state: NonNull<sys::OpusEncoder>,
}

// SAFETY: the encoder state is plain memory without thread affinity, and `Encoder` is its only owner.
unsafe impl Send for Encoder {}

impl Encoder {
    /// Makes an encoder.
    ///
    /// # Errors
    /// [`OpusError`] if memory runs out or libopus refuses a setting.
    pub fn new(config: EncoderConfig) -> Result<Self, OpusError> {
        let mut code: c_int = 0;
        // SAFETY: `code` outlives the call; the returned pointer is checked for null below.
        let state = unsafe {
            sys::opus_encoder_create(SAMPLE_RATE as i32, 1, sys::OPUS_APPLICATION_VOIP, &raw mut code)
        };
        let mut encoder = Self { state: created(state, "start encoding", code)? };
        encoder.set(sys::OPUS_SET_SIGNAL_REQUEST, sys::OPUS_SIGNAL_VOICE, "expect voice")?;
        encoder.set(sys::OPUS_SET_DTX_REQUEST, 0, "turn DTX off")?;
        encoder.set(sys::OPUS_SET_COMPLEXITY_REQUEST, config.complexity, "set its effort")?;
        encoder.set(sys::OPUS_SET_INBAND_FEC_REQUEST, 1, "turn redundancy on")?;
        encoder.set(sys::OPUS_SET_DRED_DURATION_REQUEST, config.dred, "set deep redundancy")?;
        encoder.set_bitrate(config.bitrate)?;
        encoder.set_expected_loss(config.expected_loss)?;
        Ok(encoder)
    }

    /// Sets the bits per second, clamped to 6,000 to 128,000.
    ///
    /// # Errors
    /// [`OpusError`] if libopus refuses it.
    pub fn set_bitrate(&mut self, bitrate: i32) -> Result<(), OpusError> {
        self.set(sys::OPUS_SET_BITRATE_REQUEST, bitrate.clamp(6_000, 128_000), "set its bit rate")
    }

    /// Sets the percentage of packets expected to be lost, clamped to 0 to 100.
    ///
    /// # Errors
    /// [`OpusError`] if libopus refuses it.
    pub fn set_expected_loss(&mut self, percent: i32) -> Result<(), OpusError> {
        self.set(sys::OPUS_SET_PACKET_LOSS_PERC_REQUEST, percent.clamp(0, 100), "set the expected loss")
    }

    /// Encodes 20, 40 or 60 ms into one packet.
    ///
    /// # Errors
    /// [`OpusError`] if that is not how many samples there are, or libopus fails inside.
    pub fn encode(&mut self, samples: &[i16]) -> Result<Vec<u8>, OpusError> {
        if ![1, 2, 3].map(|frames| frames * FRAME_SAMPLES).contains(&samples.len()) {
            return Err(OpusError { doing: "encode", code: sys::OPUS_BAD_ARG });
        }
        let mut payload = vec![0u8; MAX_PAYLOAD_BYTES];
        // SAFETY: the state is live and borrowed mutably; `samples` holds so many samples of one channel; `payload`
        // has MAX_PAYLOAD_BYTES bytes to write to.
        let written = unsafe {
            sys::opus_encode(
                self.state.as_ptr(),
                samples.as_ptr(),
                samples.len() as c_int,
                payload.as_mut_ptr(),
                MAX_PAYLOAD_BYTES as i32,
            )
        };
        match usize::try_from(written) {
            Ok(length) if length > 0 => {
                payload.truncate(length);
                payload.shrink_to_fit();
                Ok(payload)
            }
            _ => Err(OpusError { doing: "encode", code: written }),
        }
    }

    fn set(&mut self, request: c_int, value: i32, doing: &'static str) -> Result<(), OpusError> {
        // SAFETY: the state is live; every request used in this module takes one 32-bit integer by value.
        let code = unsafe { sys::opus_encoder_ctl(self.state.as_ptr(), request, value) };
        done(code, doing)
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: made by opus_encoder_create, destroyed once, not used after.
        unsafe { sys::opus_encoder_destroy(self.state.as_ptr()) }
    }
}

/// Decodes packets to 48 kHz mono, and makes up for those that are missing. Owns the deep-redundancy decoder too.
#[derive(Debug)]
pub struct Decoder {
    state: NonNull<sys::OpusDecoder>,
    dred: NonNull<sys::OpusDREDDecoder>,
    /// What [`Decoder::read_dred`] read last.
    history: NonNull<sys::OpusDRED>,
    history_samples: usize,
}

// SAFETY: the three states are plain memory without thread affinity, and `Decoder` is their only owner.
unsafe impl Send for Decoder {}

impl Decoder {
    /// Makes a decoder that conceals with deep PLC.
    ///
    /// # Errors
    /// [`OpusError`] if memory runs out.
    pub fn new() -> Result<Self, OpusError> {
        let mut code: c_int = 0;
        // SAFETY: `code` outlives the calls; each pointer is checked for null, and whatever was made before a
        // failure is destroyed exactly once.
        unsafe {
            let state = sys::opus_decoder_create(SAMPLE_RATE as i32, 1, &raw mut code);
            let state = created(state, "start decoding", code)?;
            let dred = sys::opus_dred_decoder_create(&raw mut code);
            let dred = created(dred, "start reading redundancy", code)
                .inspect_err(|_| sys::opus_decoder_destroy(state.as_ptr()))?;
            let history = sys::opus_dred_alloc(&raw mut code);
            let history = created(history, "keep redundancy", code).inspect_err(|_| {
                sys::opus_decoder_destroy(state.as_ptr());
                sys::opus_dred_decoder_destroy(dred.as_ptr());
            })?;
            let decoder = Self { state, dred, history, history_samples: 0 };
            let request = sys::OPUS_SET_COMPLEXITY_REQUEST;
            done(sys::opus_decoder_ctl(state.as_ptr(), request, DEEP_PLC_COMPLEXITY), "conceal deeply")?;
            Ok(decoder)
        }
    }

    /// Decodes one packet and appends its samples, between 2.5 and 120 ms, to `pcm`.
    ///
    /// # Errors
    /// [`PacketError`] if the packet is not well formed; `pcm` is then as it was.
    pub fn decode(&mut self, payload: &[u8], pcm: &mut Vec<i16>) -> Result<usize, PacketError> {
        let info = PacketInfo::parse(payload)?;
        self.produce(info.samples, pcm, Some((payload, 0)))
    }

    /// Decodes the coarse copy (LBRR) of the frame *before* `payload` and appends it to `pcm`. `samples` is that
    /// frame's length, which must equal the packet's own frame length.
    ///
    /// # Errors
    /// [`PacketError`] if the packet is not well formed, has no copy, or the length differs.
    pub fn decode_lbrr(
        &mut self,
        payload: &[u8],
        samples: usize,
        pcm: &mut Vec<i16>,
    ) -> Result<usize, PacketError> {
        let info = PacketInfo::parse(payload)?;
        if !info.lbrr || info.frame_samples != samples {
            return Err(PacketError::Length(samples));
        }
        self.produce(samples, pcm, Some((payload, 1)))
    }

    /// Makes up `samples` samples (a multiple of 2.5 ms, at most 120 ms) from what was heard before.
    ///
    /// # Errors
    /// [`PacketError::Length`] for another length.
    pub fn conceal(&mut self, samples: usize, pcm: &mut Vec<i16>) -> Result<usize, PacketError> {
        self.produce(samples, pcm, None)
    }

    /// Reads the deep redundancy (DRED) of a packet, at most `samples_max` back, and keeps it for
    /// [`Decoder::decode_dred`]. Returns how many samples before the packet it covers; 0 if it has none.
    ///
    /// # Errors
    /// [`PacketError`] if the packet is not well formed.
    pub fn read_dred(&mut self, payload: &[u8], samples_max: usize) -> Result<usize, PacketError> {
        let covered = self.parse_dred(payload, samples_max, false)?;
        self.history_samples = covered;
        Ok(covered)
    }

    /// Whether a packet carries deep redundancy (DRED) for more than the frame before it, which LBRR covers better.
    /// Much quicker than [`Decoder::read_dred`], whose result it forgets.
    pub fn has_dred(&mut self, payload: &[u8]) -> bool {
        self.parse_dred(payload, 5 * FRAME_SAMPLES, true).is_ok_and(|covered| covered > FRAME_SAMPLES)
    }

    /// `defer`: only find out how much there is.
    fn parse_dred(&mut self, payload: &[u8], samples_max: usize, defer: bool) -> Result<usize, PacketError> {
        self.history_samples = 0;
        PacketInfo::parse(payload)?;
        let length = checked_length(payload)?;
        let most = samples_max.min(SAMPLE_RATE as usize) as i32;
        let mut end: c_int = 0;
        // SAFETY: all three pointers are live and owned; `payload` was parsed above and `length` is its length;
        // `end` outlives the call.
        let covered = unsafe {
            sys::opus_dred_parse(
                self.dred.as_ptr(),
                self.history.as_ptr(),
                payload.as_ptr(),
                length,
                most,
                SAMPLE_RATE as i32,
                &raw mut end,
                c_int::from(defer),
            )
        };
        usize::try_from(covered).map_err(|_| PacketError::Malformed(covered))
    }

    /// Decodes `samples` samples that began `back` samples before the packet given to [`Decoder::read_dred`].
    ///
    /// # Errors
    /// [`PacketError::Length`] if the history does not reach back so far, or for an odd length.
    pub fn decode_dred(
        &mut self,
        back: usize,
        samples: usize,
        pcm: &mut Vec<i16>,
    ) -> Result<usize, PacketError> {
        if back > self.history_samples || samples > back {
            return Err(PacketError::Length(samples));
        }
        let start = room(samples, pcm)?;
        // SAFETY: decoder and history are live, and the history was processed by a successful opus_dred_parse (else
        // `history_samples` is 0); `pcm[start..]` has exactly `samples` samples.
        let made = unsafe {
            sys::opus_decoder_dred_decode(
                self.state.as_ptr(),
                self.history.as_ptr(),
                back as i32,
                pcm[start..].as_mut_ptr(),
                samples as c_int,
            )
        };
        settle(made, start, pcm)
    }

    /// Runs the decoder once for `samples` samples; `source` is the packet and 1 for its LBRR copy, or none to conceal.
    fn produce(
        &mut self,
        samples: usize,
        pcm: &mut Vec<i16>,
        source: Option<(&[u8], c_int)>,
    ) -> Result<usize, PacketError> {
        let (data, length, lbrr) = match source {
            Some((payload, lbrr)) => (payload.as_ptr(), checked_length(payload)?, lbrr),
            None => (ptr::null(), 0, 0),
        };
        let start = room(samples, pcm)?;
        // SAFETY: the decoder is live and borrowed mutably; `data` is null with length 0, or a slice with its true
        // length; `pcm[start..]` has exactly `samples` samples of one channel.
        let made = unsafe {
            sys::opus_decode(
                self.state.as_ptr(),
                data,
                length,
                pcm[start..].as_mut_ptr(),
                samples as c_int,
                lbrr,
            )
        };
        settle(made, start, pcm)
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: each was made by its own create function, is destroyed once, and is not used after.
        unsafe {
            sys::opus_decoder_destroy(self.state.as_ptr());
            sys::opus_dred_decoder_destroy(self.dred.as_ptr());
            sys::opus_dred_free(self.history.as_ptr());
        }
    }
}

fn checked_length(payload: &[u8]) -> Result<i32, PacketError> {
    match payload.len() {
        0 => Err(PacketError::Empty),
        length @ 1..=MAX_PAYLOAD_BYTES => Ok(length as i32),
        length => Err(PacketError::TooLong(length)),
    }
}

/// Extends `pcm` by `samples` zeros and returns where they begin.
fn room(samples: usize, pcm: &mut Vec<i16>) -> Result<usize, PacketError> {
    if samples == 0 || samples > MAX_PACKET_SAMPLES || !samples.is_multiple_of(SAMPLES_STEP) {
        return Err(PacketError::Length(samples));
    }
    let start = pcm.len();
    pcm.resize(start + samples, 0);
    Ok(start)
}

/// Keeps what libopus made after `start`, or puts `pcm` back as it was.
fn settle(made: i32, start: usize, pcm: &mut Vec<i16>) -> Result<usize, PacketError> {
    let kept = usize::try_from(made).ok().filter(|made| *made <= pcm.len() - start);
    pcm.truncate(start + kept.unwrap_or(0));
    kept.ok_or(PacketError::Malformed(made))
}

fn created<T>(state: *mut T, doing: &'static str, code: c_int) -> Result<NonNull<T>, OpusError> {
    NonNull::new(state).ok_or(OpusError { doing, code })
}

fn done(code: c_int, doing: &'static str) -> Result<(), OpusError> {
    if code == sys::OPUS_OK { Ok(()) } else { Err(OpusError { doing, code }) }
}
