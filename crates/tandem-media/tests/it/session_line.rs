//! What a way does to packets, the same for every strategy: access lines with a rate, and losses drawn by time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

use std::time::{Duration, Instant};

use crate::session_world::ms;

/// IPv4 and UDP headers.
const HEADERS: usize = 28;
/// A line's buffer holds what it sends in this time; what comes when it is full is lost.
const BUFFER: Duration = ms(200);
/// A trace of losses has one state for each piece of this length: one packet of sound.
const SLOT: Duration = ms(20);

/// Which packets are lost. Drawn by the time at which they pass and not by their number, so that a call with two copies
/// meets the same losses as one with a single copy.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) enum Loss {
    #[default]
    None,
    /// So many in a thousand, each by itself.
    Random(u32),
    /// So many in a thousand, in runs of 4 on average (Gilbert's model).
    Bursts(u32),
}

/// The mean length of a burst, in packets.
const BURST: u64 = 4;

/// One trace of losses.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    loss: Loss,
    seed: u64,
    start: Instant,
    slot: u64,
    bad: bool,
    /// Packets within the present slot.
    within: u64,
}

impl Trace {
    pub(crate) fn new(loss: Loss, seed: u64, start: Instant) -> Self {
        Self { loss, seed, start, slot: 0, bad: false, within: 0 }
    }

    /// Whether a packet that passes now is lost. `alone`: each packet of a slot has a draw of its own.
    pub(crate) fn loses(&mut self, now: Instant, alone: bool) -> bool {
        let slot = now.saturating_duration_since(self.start).as_micros() / SLOT.as_micros();
        let slot = u64::try_from(slot).unwrap();
        self.within = if slot == self.slot { self.within + 1 } else { 0 };
        match self.loss {
            Loss::None => {}
            Loss::Random(permille) => {
                let copy = if alone { self.within } else { 0 };
                self.bad = draw(self.seed, slot * 64 + copy) % 1000 < u64::from(permille);
            }
            Loss::Bursts(permille) => {
                for passed in self.slot..slot {
                    self.bad = self.next_of_bursts(passed, u64::from(permille));
                }
            }
        }
        self.slot = self.slot.max(slot);
        self.loss != Loss::None && self.bad
    }

    /// From bad to good once in [`BURST`]; from good to bad as often as makes the share of losses.
    fn next_of_bursts(&self, slot: u64, permille: u64) -> bool {
        let million = draw(self.seed, slot) % 1_000_000;
        if self.bad {
            million >= 1_000_000 / BURST
        } else {
            million < 1_000_000 * permille / ((1000 - permille) * BURST)
        }
    }
}

/// The line between one end and everything else.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    up: Pipe,
    down: Pipe,
}

/// What a line is like, in both directions.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LineKind {
    pub(crate) bits_per_second: Option<u32>,
    /// Each packet is late by up to this much, evenly distributed; packets overtake one another.
    pub(crate) jitter: Duration,
    pub(crate) loss: Loss,
}

#[derive(Debug, Clone)]
struct Pipe {
    kind: LineKind,
    trace: Trace,
    seed: u64,
    packets: u64,
    free_at: Instant,
}

impl Line {
    pub(crate) fn new(kind: LineKind, seed: u64, now: Instant) -> Self {
        let pipe =
            |seed| Pipe { kind, trace: Trace::new(kind.loss, seed, now), seed, packets: 0, free_at: now };
        Self { up: pipe(seed * 2), down: pipe(seed * 2 + 1) }
    }

    /// How long a packet of so many bytes is on the line; `None` if it is lost.
    pub(crate) fn up(&mut self, bytes: usize, now: Instant) -> Option<Duration> {
        self.up.pass(bytes, now)
    }

    pub(crate) fn down(&mut self, bytes: usize, now: Instant) -> Option<Duration> {
        self.down.pass(bytes, now)
    }
}

impl Pipe {
    fn pass(&mut self, bytes: usize, now: Instant) -> Option<Duration> {
        if self.trace.loses(now, true) {
            return None;
        }
        if let Some(rate) = self.kind.bits_per_second {
            if self.free_at.saturating_duration_since(now) > BUFFER {
                return None;
            }
            let bits = u64::try_from((bytes + HEADERS) * 8).unwrap();
            self.free_at = self.free_at.max(now) + Duration::from_micros(bits * 1_000_000 / u64::from(rate));
        }
        self.packets += 1;
        let share = draw(self.seed, self.packets) % 1000;
        let jitter = self.kind.jitter * u32::try_from(share).unwrap() / 1000;
        Some(self.free_at.saturating_duration_since(now) + jitter)
    }
}

/// An even draw that depends on these two alone (SplitMix64's mixing).
fn draw(seed: u64, number: u64) -> u64 {
    let mut z =
        seed.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) >> 16
}
