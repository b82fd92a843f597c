//! From packets to frames: the jitter buffer, the decoder, and an honest account of what was heard.

use std::time::Instant;

use super::jitter::{Adjust, Inserted, JitterBuffer, JitterStats, Pull};
use super::level::rms_dbfs;
use super::opus::{Decoder, OpusError, PacketError, PacketInfo};
use super::stretch;
use super::{FRAME_SAMPLES, Frame, Incoming, SILENCE};

/// After this long without packets (1 s) silence is played rather than made-up sound.
const GIVE_UP_SAMPLES: u64 = 48_000;
/// Quieter than this is silence, whoever speaks.
const QUIET_DBFS: f32 = -50.0;
/// So much quieter than the voice of late is a pause.
const PAUSE_DB: f32 = 25.0;
/// Redundancy is read this much (100 ms) further back than needed, since it may begin well before its packet.
const DRED_SPARE: usize = 4_800;
/// Every so many packets it is looked whether they carry deep redundancy.
const DRED_CHECK: u32 = 25;
/// The voice's level is forgotten by this much each frame (1 dB a second).
const FORGET_DB: f32 = 0.02;

/// What one pulled frame was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// No sound has come yet; the frame is silence and counts for nothing.
    Nothing,
    /// All of it was decoded from packets or their redundancy.
    Sound,
    /// Some of it was made up.
    MadeUp,
}

/// What was played, in milliseconds, and what became of the packets.
///
/// `played = decoded + from_lbrr + from_dred + concealed + paused + waiting`. Time before the first packet is not
/// counted, nor is anything after the last pull.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SoundStats {
    /// Everything played since the first packet.
    pub played_ms: u64,
    /// Decoded from the packets meant for that time.
    pub decoded_ms: u64,
    /// Decoded from the coarse copy in the packet after (LBRR).
    pub from_lbrr_ms: u64,
    /// Decoded from the deep redundancy of a later packet (DRED).
    pub from_dred_ms: u64,
    /// Neither: made up. Contains `inserted_ms`.
    pub concealed_ms: u64,
    /// Longest time without a pause in which all was made up.
    pub longest_concealed_ms: u64,
    /// The sender paused (its sequence numbers show it); nothing was lost.
    pub paused_ms: u64,
    /// Made up at the end, since packets stopped: lost if more come, and not counted as concealed if the call ended.
    pub waiting_ms: u64,
    /// Played beyond what was sent, to gain time for packets that came late.
    pub inserted_ms: u64,
    /// Sent and not played, to catch up.
    pub dropped_ms: u64,
    /// Distinct packets.
    pub packets: u64,
    /// Copies of packets that had come before.
    pub duplicates: u64,
    /// Packets that came after their time.
    pub late: u64,
    /// Packets that came after one sent later.
    pub reordered: u64,
    /// Packets that could not be decoded.
    pub damaged: u64,
    /// Times the sender began a new timeline.
    pub restarts: u64,
    /// How long a quick packet waits before it is played, at the last pull.
    pub delay_ms: u64,
    /// The delay aimed at, at the last pull.
    pub target_ms: u64,
}

/// Turns packets in any order into one frame every 20 ms.
#[derive(Debug)]
pub struct Receiver {
    jitter: JitterBuffer,
    decoder: Decoder,
    /// Decoded, not yet played.
    backlog: Vec<i16>,
    chunk: Vec<i16>,
    counts: Counts,
    loud_dbfs: f32,
    delay_ms: u64,
    until_dred_check: u32,
}

/// In samples.
#[derive(Debug, Default)]
struct Counts {
    decoded: u64,
    lbrr: u64,
    dred: u64,
    concealed: u64,
    concealed_run: u64,
    concealed_longest: u64,
    paused: u64,
    waiting: u64,
    inserted: u64,
    dropped: u64,
    damaged: u64,
}

impl Receiver {
    /// A receiver that has heard nothing.
    ///
    /// # Errors
    /// [`OpusError`] if the decoder cannot be made.
    pub fn new() -> Result<Self, OpusError> {
        Ok(Self {
            jitter: JitterBuffer::new(),
            decoder: Decoder::new()?,
            backlog: Vec::with_capacity(8 * FRAME_SAMPLES),
            chunk: Vec::with_capacity(8 * FRAME_SAMPLES),
            counts: Counts::default(),
            loud_dbfs: QUIET_DBFS,
            delay_ms: 0,
            until_dred_check: 0,
        })
    }

    /// Takes a packet that arrived at `now`, and says what became of it.
    ///
    /// # Errors
    /// [`PacketError`] if it is not an Opus packet: it is counted as damaged and left out.
    pub fn handle_packet(&mut self, packet: &Incoming<'_>, now: Instant) -> Result<Inserted, PacketError> {
        self.jitter.insert(packet, now).inspect_err(|_| self.counts.damaged += 1)
    }

    /// Makes the next 20 ms. To be called every 20 ms, with the time for which it is meant.
    pub fn pull(&mut self, now: Instant, frame: &mut Frame) -> Heard {
        let adjust = self.jitter.adjust(now, self.backlog.len());
        let delay = self.jitter.delay(now, self.backlog.len());
        let mut made_up = false;
        while self.backlog.len() < FRAME_SAMPLES {
            self.chunk.clear();
            let Some(origin) = self.produce(now) else {
                *frame = SILENCE;
                return Heard::Nothing;
            };
            if origin == Origin::Packet && self.chunk.len() >= FRAME_SAMPLES {
                self.stretch(adjust);
            }
            made_up |= matches!(origin, Origin::MadeUp | Origin::Waiting);
            self.backlog.append(&mut self.chunk);
        }
        frame.copy_from_slice(&self.backlog[..FRAME_SAMPLES]);
        self.backlog.drain(..FRAME_SAMPLES);
        if self.counts.waiting == 0 {
            self.delay_ms = delay.as_millis() as u64;
        }
        if made_up { Heard::MadeUp } else { Heard::Sound }
    }

    /// What was heard so far.
    #[must_use]
    pub fn stats(&self) -> SoundStats {
        let counts = &self.counts;
        let jitter: JitterStats = self.jitter.stats();
        let played =
            counts.decoded + counts.lbrr + counts.dred + counts.concealed + counts.paused + counts.waiting;
        SoundStats {
            played_ms: ms(played),
            decoded_ms: ms(counts.decoded),
            from_lbrr_ms: ms(counts.lbrr),
            from_dred_ms: ms(counts.dred),
            concealed_ms: ms(counts.concealed),
            longest_concealed_ms: ms(counts.concealed_longest),
            paused_ms: ms(counts.paused),
            waiting_ms: ms(counts.waiting),
            inserted_ms: ms(counts.inserted + jitter.held_samples),
            dropped_ms: ms(counts.dropped + jitter.skipped_samples),
            packets: jitter.packets,
            duplicates: jitter.duplicates,
            late: jitter.late,
            reordered: jitter.reordered,
            damaged: counts.damaged,
            restarts: jitter.restarts,
            delay_ms: self.delay_ms,
            target_ms: self.jitter.target().as_millis() as u64,
        }
    }

    /// Fills `chunk` with whatever comes next. `None` before the first packet is due.
    fn produce(&mut self, now: Instant) -> Option<Origin> {
        let pause = self.jitter.sender_paused();
        let decoder = &mut self.decoder;
        let chunk = &mut self.chunk;
        let origin = match self.jitter.pull(now, self.backlog.len()) {
            Pull::Idle if self.counts.nothing_yet() => return None,
            Pull::Idle | Pull::Dry => Origin::Waiting,
            Pull::Packet(payload) => {
                self.until_dred_check = self.until_dred_check.checked_sub(1).unwrap_or(DRED_CHECK);
                if self.until_dred_check == 0 && decoder.has_dred(&payload) {
                    self.jitter.note_dred();
                }
                match decoder.decode(&payload, chunk) {
                    Ok(_) => Origin::Packet,
                    Err(_) => Origin::MadeUp,
                }
            }
            Pull::Missing { samples, back, next, lost } => {
                let origin = recover(decoder, next, back, samples, chunk);
                if lost { origin } else { Origin::Pause }
            }
        };
        self.counts.damaged += u64::from(origin == Origin::MadeUp && self.chunk.is_empty());
        if self.chunk.is_empty() {
            self.make_up();
        }
        self.counts.note(origin, self.chunk.len() as u64, pause);
        Some(origin)
    }

    /// 20 ms of what might have been said; silence once that has gone on for too long.
    fn make_up(&mut self) {
        let given_up = self.counts.waiting >= GIVE_UP_SAMPLES;
        if given_up || self.decoder.conceal(FRAME_SAMPLES, &mut self.chunk).is_err() {
            self.chunk.clear();
            self.chunk.resize(FRAME_SAMPLES, 0);
        }
    }

    /// Gives the buffer time, or takes some back, in the chunk just decoded.
    fn stretch(&mut self, adjust: Adjust) {
        let level = rms_dbfs(&self.chunk);
        self.loud_dbfs = level.max(self.loud_dbfs - FORGET_DB);
        let quiet = level < QUIET_DBFS.max(self.loud_dbfs - PAUSE_DB);
        let (longer, urgent) = match adjust {
            Adjust::Keep => return,
            Adjust::Lengthen { urgent } => (true, urgent),
            Adjust::Shorten { urgent } => (false, urgent),
        };
        let period = match (quiet, urgent) {
            (true, _) => stretch::any_period(&self.chunk),
            (false, true) => stretch::clear_period(&self.chunk),
            (false, false) => None,
        };
        let Some(period) = period else { return };
        if longer {
            let added = stretch::lengthen(&mut self.chunk, period) as u64;
            self.counts.inserted += added;
            self.counts.concealed += added;
        } else {
            let removed = stretch::shorten(&mut self.chunk, period) as u64;
            self.counts.dropped += removed;
            self.counts.decoded = self.counts.decoded.saturating_sub(removed);
        }
    }
}

/// Where a chunk of sound came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Packet,
    Lbrr,
    Dred,
    MadeUp,
    Pause,
    Waiting,
}

/// Makes the samples of a gap from the redundancy in the packet after it, or makes them up.
fn recover(decoder: &mut Decoder, next: &[u8], back: usize, samples: usize, chunk: &mut Vec<i16>) -> Origin {
    let has_copy = PacketInfo::parse(next).is_ok_and(|info| info.lbrr && info.frame_samples == back);
    if has_copy && samples == back && decoder.decode_lbrr(next, samples, chunk).is_ok() {
        return Origin::Lbrr;
    }
    let covered = decoder.read_dred(next, back + DRED_SPARE).unwrap_or(0);
    if covered >= back && decoder.decode_dred(back, samples, chunk).is_ok() {
        return Origin::Dred;
    }
    if decoder.conceal(samples, chunk).is_err() {
        chunk.resize(samples, 0);
    }
    Origin::MadeUp
}

impl Counts {
    fn nothing_yet(&self) -> bool {
        self.decoded + self.lbrr + self.dred + self.concealed + self.waiting == 0
    }

    fn note(&mut self, origin: Origin, samples: u64, pause: bool) {
        if origin != Origin::Waiting {
            self.settle_waiting(pause);
        }
        match origin {
            Origin::Packet => self.decoded += samples,
            Origin::Lbrr => self.lbrr += samples,
            Origin::Dred => self.dred += samples,
            Origin::MadeUp => self.concealed += samples,
            Origin::Pause => self.paused += samples,
            Origin::Waiting => self.waiting += samples,
        }
        if origin == Origin::MadeUp {
            self.concealed_run += samples;
            self.concealed_longest = self.concealed_longest.max(self.concealed_run);
        } else {
            self.concealed_run = 0;
        }
    }

    /// Packets came again, so it is known what the time without any was.
    fn settle_waiting(&mut self, pause: bool) {
        if pause {
            self.paused += self.waiting;
        } else {
            self.concealed += self.waiting;
            self.concealed_run += self.waiting;
            self.concealed_longest = self.concealed_longest.max(self.concealed_run);
        }
        self.waiting = 0;
    }
}

fn ms(samples: u64) -> u64 {
    samples / 48
}
