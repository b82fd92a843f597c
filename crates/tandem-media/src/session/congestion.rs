//! Whether the sound fits through the way it takes, the receiver's side: queues that stand, and how much comes through.
//!
//! A queue that stands (RFC 8289 §3.1) shows in the *least* delay of late: jitter and bursts come and go within it,
//! a full buffer does not. So the receiver keeps, for each path, the least transit of the last moments above the least
//! of the last minute. Probes and sound are stamped by one clock of their sender, so the probes that came while it rang
//! tell what the way is like without a queue, even if the first packets of sound fill it. What comes through while a
//! queue stands is what the way carries. Both go into our probes; `thrift` is what the other end does about it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Over two of these the least transit is taken as the one of now, and what came is counted.
const WINDOW: Duration = Duration::from_millis(250);
/// Fewer packets within two windows say nothing. Where packets are up to 100 ms late at random, the least of six is
/// taken for a queue once in 15,000 times, and it takes two in a row.
const PACKETS_MIN: u32 = 6;
/// The least transit of this long is the path without a queue. Clocks of two machines drift by 6 ms in it at worst.
const BASE: Duration = Duration::from_secs(60);
/// The base is kept in pieces of this length.
const BASE_PIECE: Duration = Duration::from_secs(10);
/// The RTP clock of Opus (RFC 7587 §4.1), by which probes are stamped too.
const TICKS_PER_MS: i64 = 48;
/// What IPv4, UDP and a relay's ChannelData add to a datagram, in bytes.
const HEADERS: u64 = 32;

/// How long packets stand in a queue on one path.
#[derive(Debug, Default)]
pub(super) struct StandingDelay {
    /// Transits are relative to the first packet's.
    origin: Option<(Instant, u32)>,
    window: Window,
    before: Window,
    /// The least transit of the last two windows, and when they ended.
    recent: Option<(i64, Instant)>,
    /// Least transit of each piece of the last minute, with its start.
    base: VecDeque<(Instant, i64)>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Window {
    since: Option<Instant>,
    /// Microseconds.
    least: i64,
    packets: u32,
}

impl StandingDelay {
    /// An authentic packet came that is stamped so by its sender's clock.
    pub(super) fn packet(&mut self, stamp: u32, now: Instant) {
        let (began, first) = *self.origin.get_or_insert((now, stamp));
        let went = now.saturating_duration_since(began).as_micros();
        let went = i64::try_from(went).unwrap_or(i64::MAX / 2);
        // Wraps once in 24 hours; a call that long begins a new origin below.
        let sent = i64::from(stamp.wrapping_sub(first).cast_signed()) * 1_000 / TICKS_PER_MS;
        if stamp.wrapping_sub(first) > u32::MAX / 4 && sent > 0 {
            *self = Self::default();
            return;
        }
        let transit = went - sent;
        self.note_base(transit, now);
        self.note_window(transit, now);
    }

    fn note_base(&mut self, transit: i64, now: Instant) {
        while self.base.front().is_some_and(|(since, _)| now.saturating_duration_since(*since) > BASE) {
            self.base.pop_front();
        }
        match self.base.back_mut() {
            Some((since, least)) if now.saturating_duration_since(*since) < BASE_PIECE => {
                *least = transit.min(*least);
            }
            _ => self.base.push_back((now, transit)),
        }
    }

    fn note_window(&mut self, transit: i64, now: Instant) {
        let since = *self.window.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= WINDOW {
            self.end_window(now);
        }
        let window = &mut self.window;
        window.least = if window.packets == 0 { transit } else { transit.min(window.least) };
        window.packets += 1;
    }

    fn end_window(&mut self, now: Instant) {
        let whole = std::mem::replace(&mut self.window, Window { since: Some(now), ..Window::default() });
        let before = std::mem::replace(&mut self.before, whole);
        let recent =
            |since: Option<Instant>| since.is_some_and(|at| now.saturating_duration_since(at) < 3 * WINDOW);
        let of = [before, whole].into_iter().filter(|window| window.packets > 0 && recent(window.since));
        let packets: u32 = of.clone().map(|window| window.packets).sum();
        if let Some(least) = of.map(|window| window.least).min().filter(|_| packets >= PACKETS_MIN) {
            self.recent = Some((least, now));
        }
    }

    /// Milliseconds of queue that stood of late; `None` when too little came to tell.
    pub(super) fn standing_ms(&self, now: Instant) -> Option<u16> {
        let (recent, at) = self.recent?;
        if now.saturating_duration_since(at) > 4 * WINDOW {
            return None;
        }
        let base = self.base.iter().map(|(_, least)| *least).min()?;
        Some(u16::try_from((recent - base).max(0) / 1_000).unwrap_or(u16::MAX - 1))
    }
}

/// How much comes in, on all paths together, with the headers that a line carries too.
#[derive(Debug, Default)]
pub(super) struct Inflow {
    since: Option<Instant>,
    bits: u64,
    /// Thousands of bits a second over the last two windows, and when they ended.
    recent: Option<(u16, Instant)>,
}

impl Inflow {
    pub(super) fn datagram(&mut self, bytes: usize, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let lasted = now.saturating_duration_since(since);
        if lasted >= 2 * WINDOW {
            // Bits in a millisecond are thousands of bits in a second.
            let rate = self.bits / u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
            self.recent = Some((u16::try_from(rate).unwrap_or(u16::MAX - 1), now));
            (self.since, self.bits) = (Some(now), 0);
        }
        self.bits += (bytes as u64 + HEADERS) * 8;
    }

    pub(super) fn kbit_s(&self, now: Instant) -> Option<u16> {
        let (rate, at) = self.recent?;
        (now.saturating_duration_since(at) <= 4 * WINDOW).then_some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::start;

    const MS: Duration = Duration::from_millis(1);
    /// More than this would be acted upon.
    const LITTLE: u16 = 25;

    /// Packets each 20 ms from second `from` to second `to`, each delayed by what `delay_ms` says of its number.
    fn feed(queue: &mut StandingDelay, t: Instant, from: u32, to: u32, delay_ms: impl Fn(u32) -> u32) {
        for n in from * 50..to * 50 {
            queue.packet((n * 960).wrapping_sub(5_000), t + MS * (n * 20 + delay_ms(n)));
        }
    }

    #[test]
    fn jitter_is_no_queue() {
        let t = start();
        let mut queue = StandingDelay::default();
        feed(&mut queue, t, 0, 20, |n| (n * 7919) % 100);
        let standing = queue.standing_ms(t + 20_000 * MS).unwrap();
        assert!(standing < LITTLE, "{standing}");
    }

    #[test]
    fn a_full_buffer_is_and_draining_it_shows() {
        let t = start();
        let mut queue = StandingDelay::default();
        feed(&mut queue, t, 0, 5, |_| 30);
        assert_eq!(queue.standing_ms(t + 5_000 * MS), Some(0));
        feed(&mut queue, t, 5, 6, |_| 230);
        assert_eq!(queue.standing_ms(t + 6_200 * MS), Some(200), "within a second");
        feed(&mut queue, t, 6, 8, |_| 32);
        assert_eq!(queue.standing_ms(t + 8_000 * MS), Some(2));
        assert_eq!(queue.standing_ms(t + 12_000 * MS), None, "nothing came of late");
    }

    #[test]
    fn a_queue_that_begins_with_the_sound_shows_by_the_probes_before() {
        let t = start();
        let mut queue = StandingDelay::default();
        for n in 0..5 {
            queue.packet(n * 9_600, t + MS * (n * 200 + 40));
        }
        feed(&mut queue, t + MS * 1_000, 0, 1, |_| 200);
        let standing = queue.standing_ms(t + 2_200 * MS).unwrap();
        // The feed stamps its packets 104 ms after the probes' clock.
        assert_eq!(standing, 200 + 1_000 + 104 - 40);
    }

    #[test]
    fn a_longer_way_becomes_the_ordinary_one() {
        let t = start();
        let mut queue = StandingDelay::default();
        feed(&mut queue, t, 0, 5, |_| 10);
        feed(&mut queue, t, 5, 90, |_| 160);
        assert_eq!(queue.standing_ms(t + 90_150 * MS), Some(0));
    }

    #[test]
    fn a_day_long_call_and_a_sender_that_starts_anew() {
        let t = start();
        let mut queue = StandingDelay::default();
        for n in 0..200u32 {
            queue.packet(n.wrapping_mul(u32::MAX / 7), t + MS * (n * 20));
        }
        assert!(queue.base.len() <= 7);
    }

    #[test]
    fn what_comes_in_is_counted_with_its_headers() {
        let t = start();
        let mut inflow = Inflow::default();
        for n in 0..100 {
            inflow.datagram(128, t + MS * 20 * n);
        }
        assert_eq!(inflow.kbit_s(t + MS * 2_000), Some(64));
        assert_eq!(inflow.kbit_s(t + MS * 3_500), None, "that was long ago");
    }
}
