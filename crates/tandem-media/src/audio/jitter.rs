//! The jitter buffer: packets in any order on one side, one decision every 20 ms on the other.
//!
//! It works on a virtual clock: the RTP time of what is played next (the *play head*), the arrival times it is told,
//! and the `now` of each pull. It never decodes. It keeps packets, decides how long to wait for them, and says what is
//! missing together with the first packet after the gap, because that packet may hold redundancy for it.
//!
//! When nothing is there at all it cannot know whether packets are lost or merely late. So it first *holds* the play
//! head, up to [`DELAY_MAX`]; what comes late is still played. If the next packet then shows that those in between
//! were lost, the time already filled is taken off the gap.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::delay::DelayEstimator;
use super::opus::{PacketError, PacketInfo, SAMPLES_STEP};
use super::{FRAME_SAMPLES, Incoming};

/// The longest delay that the buffer takes on of its own accord.
pub const DELAY_MAX: Duration = Duration::from_millis(200);
/// The shortest delay it aims at.
pub const DELAY_MIN: Duration = Duration::from_millis(20);
/// Packets kept at most: 2 s of 20 ms each.
const PACKETS_MAX: usize = 100;
/// Above this delay sound is skipped at once: after a stall of this machine, not in ordinary life.
const HARD_MAX_US: i64 = 500_000;
/// Delay before the first packets have told anything about the network.
const START_US: i64 = 30_000;
/// Room for the granularity of ticks.
const MARGIN_US: i64 = 5_000;
/// The delay may be this much too short or too long before anything is done about it.
const SHORT_US: i64 = 5_000;
const LONG_US: i64 = 30_000;
/// Above this excess, sound is shortened even while somebody speaks.
const URGENT_US: i64 = 80_000;
/// An excess of delay must last this many pulls before it is corrected.
const PATIENCE: u32 = 50;
/// Packets in a row far behind the play head that mean a new timeline rather than late packets.
const RESTART_RUN: u32 = 10;
/// What counts as far: 1 s.
const FAR_BEHIND_SAMPLES: i64 = 48_000;
/// A step forward in RTP time that means a new timeline: 10 s.
const RESTART_SAMPLES: i64 = 480_000;
/// Where timelines start, so that packets before the first one have room below.
const ORIGIN: i64 = 1 << 32;
/// Packets for which a sighting of redundancy or of a burst of losses is remembered: 30 s.
const MEMORY_PACKETS: u32 = 1_500;
/// Most frames of look-ahead for deep redundancy.
const LOOK_AHEAD_MAX: i64 = 5;
const FRAME_US: i64 = 20_000;

/// What became of a packet given to [`JitterBuffer::insert`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// Kept for its time.
    Kept,
    /// A copy of one that came before.
    Duplicate,
    /// Its time had passed.
    Late,
    /// It started a new timeline: the first of all, or the sender started again.
    Started,
}

/// What to play next.
#[derive(Debug, PartialEq, Eq)]
pub enum Pull<'a> {
    /// Nothing yet: no packet came, or the first ones are being gathered.
    Idle,
    /// Decode this packet.
    Packet(Vec<u8>),
    /// This many samples are missing (a multiple of 2.5 ms, at most 20 ms).
    Missing {
        /// Samples to make.
        samples: usize,
        /// Samples from the start of the gap to the start of `next`.
        back: usize,
        /// The first packet after the gap, in which redundancy may be found.
        next: &'a [u8],
        /// False where the sequence numbers show that the sender paused and nothing was lost.
        lost: bool,
    },
    /// Nothing is here to play. Make up 20 ms; what it was will be known when packets come again.
    Dry,
}

/// How the delay should change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adjust {
    /// It is right.
    Keep,
    /// Play a little more than was sent, to gain time. Urgent: also while somebody speaks.
    Lengthen {
        /// Do not wait for silence.
        urgent: bool,
    },
    /// Play a little less than was sent, to catch up.
    Shorten {
        /// Do not wait for silence.
        urgent: bool,
    },
}

/// What the buffer counted, in packets or samples at 48 kHz.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JitterStats {
    /// Distinct packets.
    pub packets: u64,
    /// Copies of packets that had come before.
    pub duplicates: u64,
    /// Packets whose time had passed.
    pub late: u64,
    /// Packets that came after one sent later.
    pub reordered: u64,
    /// Times a new timeline was begun, beyond the first.
    pub restarts: u64,
    /// Samples by which the play head was held and never caught up: the stream became longer.
    pub held_samples: u64,
    /// Samples that came and were jumped over: the stream became shorter.
    pub skipped_samples: u64,
}

#[derive(Debug)]
struct Stored {
    sequence: u64,
    samples: usize,
    payload: Vec<u8>,
}

/// See the module's text.
#[derive(Debug)]
pub struct JitterBuffer {
    packets: BTreeMap<i64, Stored>,
    seen: SeenWindow,
    delay: DelayEstimator,
    timeline: Option<Timeline>,
    stats: JitterStats,
    /// Pulls in a row for which the delay was too long, or too short.
    long_for: u32,
    short_for: u32,
    lbrr_age: u32,
    dred_age: u32,
    burst_age: u32,
    burst_frames: i64,
}

/// Where we are in the stream.
#[derive(Debug)]
struct Timeline {
    /// Arrival of its first packet: zero of the arrival clock.
    zero: Instant,
    /// Highest RTP time so far, extended.
    highest: i64,
    /// RTP time of what is played next.
    head: i64,
    playing: bool,
    /// Samples made up while the play head was held.
    held: i64,
    /// Sequence number of the packet played last, and the RTP time of its end.
    last: Option<(u64, i64)>,
    late_run: u32,
}

impl JitterBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self {
            packets: BTreeMap::new(),
            seen: SeenWindow::default(),
            delay: DelayEstimator::new(),
            timeline: None,
            stats: JitterStats::default(),
            long_for: 0,
            short_for: 0,
            lbrr_age: MEMORY_PACKETS,
            dred_age: MEMORY_PACKETS,
            burst_age: MEMORY_PACKETS,
            burst_frames: 0,
        }
    }

    /// Takes a packet that arrived at `now`.
    ///
    /// # Errors
    /// [`PacketError`] if its payload is not an Opus packet; the buffer is then as it was.
    pub fn insert(&mut self, packet: &Incoming<'_>, now: Instant) -> Result<Inserted, PacketError> {
        let info = PacketInfo::parse(packet.payload)?;
        if self.timeline.is_none() {
            return Ok(self.start(packet, info, now));
        }
        match self.seen.note(packet.sequence) {
            Seen::New => {}
            Seen::Before => {
                self.stats.duplicates += 1;
                return Ok(Inserted::Duplicate);
            }
            Seen::TooOld => return Ok(self.late(packet, info, i64::MAX, now)),
        }
        self.stats.packets += 1;
        let Some(line) = self.timeline.as_mut() else { return Ok(Inserted::Late) };
        let rtp = line.extend(packet.rtp_time);
        if rtp.saturating_sub(line.highest) > RESTART_SAMPLES {
            return Ok(self.restart(packet, info, now));
        }
        let samples = info.samples as i64;
        if line.playing && rtp + samples <= line.head {
            let behind = line.head - rtp;
            self.delay.note(line.transit_us(rtp, now), info.samples);
            return Ok(self.late(packet, info, behind, now));
        }
        line.late_run = 0;
        if rtp < line.highest {
            self.stats.reordered += 1;
        } else {
            line.highest = rtp;
        }
        if !line.playing {
            line.head = line.head.min(rtp);
        }
        self.delay.note(line.transit_us(rtp, now), info.samples);
        self.remember_redundancy(info.lbrr);
        self.keep(rtp, packet, info);
        Ok(Inserted::Kept)
    }

    /// Decides what to play. `backlog` is how many samples are decoded but not yet played.
    pub fn pull(&mut self, now: Instant, backlog: usize) -> Pull<'_> {
        if !self.ready(now, backlog) {
            return Pull::Idle;
        }
        self.skip_if_far_behind(now, backlog);
        let Some(line) = self.timeline.as_mut() else { return Pull::Idle };
        let Some((&start, first)) = self.packets.first_key_value() else {
            return Self::dry(line, &self.delay, now, backlog);
        };
        let gap = line.take_held_off(start - line.head);
        if gap >= SAMPLES_STEP as i64 {
            return self.missing(start, gap);
        }
        self.stats.held_samples += line.held as u64;
        line.held = 0;
        line.head = start + first.samples as i64;
        line.last = Some((first.sequence, line.head));
        match self.packets.pop_first() {
            Some((_, stored)) => Pull::Packet(stored.payload),
            None => Pull::Idle,
        }
    }

    /// Whether the delay should change, to be asked once for each pull of 20 ms.
    pub fn adjust(&mut self, now: Instant, backlog: usize) -> Adjust {
        let Some(delay) = self.delay_us(now, backlog) else { return Adjust::Keep };
        let excess = delay - self.target_us();
        self.long_for = if excess > LONG_US { self.long_for + 1 } else { 0 };
        self.short_for = if excess < -SHORT_US { self.short_for + 1 } else { 0 };
        if self.long_for > PATIENCE {
            Adjust::Shorten { urgent: excess > URGENT_US }
        } else if self.short_for > 0 {
            Adjust::Lengthen { urgent: self.short_for > PATIENCE }
        } else {
            Adjust::Keep
        }
    }

    /// Tells the buffer that packets carry deep redundancy, so that it waits for it where losses come in bursts.
    pub fn note_dred(&mut self) {
        self.dred_age = 0;
    }

    /// How long a packet that takes the quickest way waits here before it is played. Zero before the first packet.
    #[must_use]
    pub fn delay(&self, now: Instant, backlog: usize) -> Duration {
        let micros = self.delay_us(now, backlog).unwrap_or(0);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// The delay aimed at.
    #[must_use]
    pub fn target(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.target_us()).unwrap_or(0))
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> JitterStats {
        self.stats
    }

    /// Whether the first packet waiting follows the one played last although time lies between them: the sender
    /// paused, and nothing was lost.
    #[must_use]
    pub fn sender_paused(&self) -> bool {
        let Some(line) = &self.timeline else { return false };
        match (line.last, self.packets.first_key_value()) {
            (Some((sequence, end)), Some((&start, next))) => {
                start > end && next.sequence == sequence.wrapping_add(1)
            }
            _ => false,
        }
    }

    fn start(&mut self, packet: &Incoming<'_>, info: PacketInfo, now: Instant) -> Inserted {
        self.stats.packets += 1;
        self.packets.clear();
        self.delay.clear();
        self.seen = SeenWindow::default();
        self.seen.note(packet.sequence);
        self.long_for = 0;
        self.short_for = 0;
        // The RTP clock is taken relative to the first packet's, so that a timeline always has room on both sides.
        let highest = ORIGIN + i64::from(packet.rtp_time);
        let line =
            Timeline { zero: now, highest, head: highest, playing: false, held: 0, last: None, late_run: 0 };
        self.delay.note(line.transit_us(highest, now), info.samples);
        self.timeline = Some(line);
        self.remember_redundancy(info.lbrr);
        self.keep(highest, packet, info);
        Inserted::Started
    }

    fn restart(&mut self, packet: &Incoming<'_>, info: PacketInfo, now: Instant) -> Inserted {
        self.stats.restarts += 1;
        self.start(packet, info, now)
    }

    fn late(&mut self, packet: &Incoming<'_>, info: PacketInfo, behind: i64, now: Instant) -> Inserted {
        self.stats.late += 1;
        let Some(line) = self.timeline.as_mut() else { return Inserted::Late };
        let far = behind > FAR_BEHIND_SAMPLES;
        line.late_run = if far { line.late_run + 1 } else { 0 };
        if line.late_run >= RESTART_RUN {
            return self.restart(packet, info, now);
        }
        Inserted::Late
    }

    fn keep(&mut self, rtp: i64, packet: &Incoming<'_>, info: PacketInfo) {
        let stored =
            Stored { sequence: packet.sequence, samples: info.samples, payload: packet.payload.to_vec() };
        self.packets.insert(rtp, stored);
        if self.packets.len() > PACKETS_MAX
            && let Some((_, oldest)) = self.packets.pop_first()
        {
            self.stats.skipped_samples += oldest.samples as u64;
        }
    }

    fn remember_redundancy(&mut self, lbrr: bool) {
        let older = |age: u32| (age + 1).min(MEMORY_PACKETS);
        self.lbrr_age = if lbrr { 0 } else { older(self.lbrr_age) };
        self.dred_age = older(self.dred_age);
        self.burst_age = older(self.burst_age);
        if self.burst_age == MEMORY_PACKETS {
            self.burst_frames = 0;
        }
    }

    /// True once the first packets have waited long enough.
    fn ready(&mut self, now: Instant, backlog: usize) -> bool {
        let delay = self.delay_us(now, backlog).unwrap_or(0);
        let Some(line) = self.timeline.as_mut() else { return false };
        line.playing |= delay >= START_US;
        line.playing
    }

    /// After a stall of this machine, or a jump of the sender's clock, goes straight to where we should be.
    fn skip_if_far_behind(&mut self, now: Instant, backlog: usize) {
        let target = self.target_us();
        let delay = self.delay_us(now, backlog).unwrap_or(0);
        let Some(line) = self.timeline.as_mut() else { return };
        if delay <= HARD_MAX_US {
            return;
        }
        line.head += (delay - target) / FRAME_US * FRAME_SAMPLES as i64;
        line.held = 0;
        let head = line.head;
        while let Some(first) = self.packets.first_entry() {
            let end = first.key() + first.get().samples as i64;
            if end > head {
                break;
            }
            line.last = Some((first.get().sequence, end));
            self.stats.skipped_samples += first.remove().samples as u64;
        }
    }

    fn dry<'a>(line: &mut Timeline, delay: &DelayEstimator, now: Instant, backlog: usize) -> Pull<'a> {
        let frame = FRAME_SAMPLES as i64;
        if line.delay_us(delay, now, backlog) + FRAME_US <= DELAY_MAX.as_micros() as i64 {
            line.held += frame;
        } else {
            line.head += frame;
        }
        Pull::Dry
    }

    fn missing(&mut self, start: i64, gap: i64) -> Pull<'_> {
        let lost = !self.sender_paused();
        if lost {
            self.remember_burst();
        }
        let samples = gap.min(FRAME_SAMPLES as i64) as usize / SAMPLES_STEP * SAMPLES_STEP;
        if let Some(line) = self.timeline.as_mut() {
            line.head += samples as i64;
        }
        match self.packets.get(&start) {
            Some(next) => Pull::Missing { samples, back: gap as usize, next: &next.payload, lost },
            None => Pull::Dry,
        }
    }

    /// Notes how many packets in a row were lost just now.
    fn remember_burst(&mut self) {
        let last = self.timeline.as_ref().and_then(|line| line.last);
        let next = self.packets.first_key_value().map(|(_, stored)| stored.sequence);
        let (Some((last, _)), Some(next)) = (last, next) else { return };
        let lost = next.wrapping_sub(last).wrapping_sub(1).min(LOOK_AHEAD_MAX as u64) as i64;
        self.burst_frames = self.burst_frames.max(lost);
        self.burst_age = 0;
    }

    fn delay_us(&self, now: Instant, backlog: usize) -> Option<i64> {
        self.timeline.as_ref().map(|line| line.delay_us(&self.delay, now, backlog))
    }

    /// Jitter, and one frame more where the packet after the one due may hold a copy of it; more for deep redundancy.
    fn target_us(&self) -> i64 {
        let lbrr = i64::from(self.lbrr_age < MEMORY_PACKETS);
        let dred = if self.dred_age < MEMORY_PACKETS { self.burst_frames } else { 0 };
        let target = self.delay.spread_us() + lbrr.max(dred) * FRAME_US + MARGIN_US;
        target.clamp(DELAY_MIN.as_micros() as i64, DELAY_MAX.as_micros() as i64)
    }
}

impl Default for JitterBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl Timeline {
    /// Extends a 32-bit RTP time to the value nearest to the highest so far.
    fn extend(&self, rtp_time: u32) -> i64 {
        let step = rtp_time.wrapping_sub(self.highest as u32) as i32;
        self.highest.saturating_add(i64::from(step))
    }

    fn transit_us(&self, rtp: i64, now: Instant) -> i64 {
        self.elapsed_us(now) - samples_us(rtp)
    }

    /// How long a packet with the quickest transit would have waited for the play head.
    fn delay_us(&self, delay: &DelayEstimator, now: Instant, backlog: usize) -> i64 {
        let head = self.head - backlog as i64;
        self.elapsed_us(now) - samples_us(head) - delay.quickest_us()
    }

    fn elapsed_us(&self, now: Instant) -> i64 {
        i64::try_from(now.saturating_duration_since(self.zero).as_micros()).unwrap_or(i64::MAX / 4)
    }

    /// Takes what was made up while waiting off a gap; returns what is left of the gap.
    fn take_held_off(&mut self, gap: i64) -> i64 {
        let paid = self.held.min(gap).max(0);
        self.head += paid;
        self.held -= paid;
        gap - paid
    }
}

/// Samples at 48 kHz in microseconds.
fn samples_us(samples: i64) -> i64 {
    samples.saturating_mul(125) / 6
}

enum Seen {
    New,
    Before,
    TooOld,
}

/// Which of the last 1,024 sequence numbers have been seen.
#[derive(Debug, Default)]
struct SeenWindow {
    highest: Option<u64>,
    bits: [u64; 16],
}

impl SeenWindow {
    const LENGTH: u64 = 1_024;

    fn note(&mut self, sequence: u64) -> Seen {
        let highest = *self.highest.get_or_insert(sequence);
        if sequence > highest {
            let steps = (sequence - highest).min(Self::LENGTH);
            (1..=steps).for_each(|step| self.set(highest.wrapping_add(step), false));
            self.highest = Some(sequence);
            if sequence - highest > Self::LENGTH {
                self.bits = [0; 16];
            }
        } else if highest - sequence >= Self::LENGTH {
            return Seen::TooOld;
        }
        if self.get(sequence) {
            return Seen::Before;
        }
        self.set(sequence, true);
        Seen::New
    }

    fn get(&self, sequence: u64) -> bool {
        let index = sequence % Self::LENGTH;
        self.bits[(index / 64) as usize] >> (index % 64) & 1 == 1
    }

    fn set(&mut self, sequence: u64, seen: bool) {
        let index = sequence % Self::LENGTH;
        let bit = 1u64 << (index % 64);
        let word = &mut self.bits[(index / 64) as usize];
        *word = if seen { *word | bit } else { *word & !bit };
    }
}
