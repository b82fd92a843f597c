//! Whether the sound fits through the way it takes: a standing queue is noticed by the receiver and answered by the
//! sender with one copy instead of two, then with fewer bits.
//!
//! A queue that stands (RFC 8289 §3.1) shows in the *least* delay of late: jitter and bursts come and go within it,
//! a full buffer does not. So the receiver keeps, for each path, the least transit of the last moments above the least
//! of the last minute, and says in its probes how much the best path has. Pure policy, like the path set.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Over this long the least transit is taken as the one of now.
const WINDOW: Duration = Duration::from_millis(500);
/// Fewer packets within a window say nothing.
const WINDOW_PACKETS: u32 = 8;
/// The least transit of this long is the path without a queue. Clocks of two machines drift by 6 ms in it at worst.
const BASE: Duration = Duration::from_secs(60);
/// The base is kept in pieces of this length.
const BASE_PIECE: Duration = Duration::from_secs(10);
/// RTP clock of Opus (RFC 7587 §4.1).
const SAMPLES_PER_MS: i64 = 48;

/// More than this is a queue that stands.
const STANDING: u16 = 80;
/// Less than this is none.
const CLEAR: u16 = 25;
/// A queue must have stood for this long before anything is done about it.
const PATIENCE: Duration = Duration::from_millis(500);
/// After each step its effect is awaited: a full buffer needs a while to drain.
const EFFECT: Duration = Duration::from_millis(2_500);
/// For so long sound is not mirrored again, at first and at most.
const SINGLE_FIRST: Duration = Duration::from_secs(30);
const SINGLE_MAX: Duration = Duration::from_secs(300);
/// A clear way for this long earns the next higher rate, at first and at most.
const RAISE_FIRST: Duration = Duration::from_secs(15);
const RAISE_MAX: Duration = Duration::from_secs(120);
/// A word this old says nothing any more.
const STALE: Duration = Duration::from_secs(2);

/// Bits per second of sound, best first. With IP, UDP, TURN, RTP and SRTP each costs 22 kbit/s more.
const RATES: [u32; 4] = [32_000, 24_000, 16_000, 12_000];

/// The receiver's side: how long packets stand in a queue on one path.
#[derive(Debug, Default)]
pub(super) struct StandingDelay {
    /// Transits are relative to the first packet's.
    origin: Option<(Instant, u32)>,
    window: Window,
    /// The last whole window's least transit, and when it ended.
    recent: Option<(i64, Instant)>,
    /// Least transit of each piece of the last minute, with its start.
    base: VecDeque<(Instant, i64)>,
}

#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    least: i64,
    packets: u32,
}

impl StandingDelay {
    /// A packet of sound with this RTP timestamp came.
    pub(super) fn packet(&mut self, rtp_time: u32, now: Instant) {
        let (began, first) = *self.origin.get_or_insert((now, rtp_time));
        let went = now.saturating_duration_since(began).as_micros();
        let went = i64::try_from(went).unwrap_or(i64::MAX / 2);
        // Wraps once in 24 hours; a call that long begins a new origin below.
        let sent = i64::from(rtp_time.wrapping_sub(first).cast_signed()) * 1_000 / SAMPLES_PER_MS;
        if rtp_time.wrapping_sub(first) > u32::MAX / 4 && sent > 0 {
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
        let window = &mut self.window;
        let since = *window.since.get_or_insert(now);
        window.least = if window.packets == 0 { transit } else { transit.min(window.least) };
        window.packets += 1;
        if now.saturating_duration_since(since) >= WINDOW {
            if window.packets >= WINDOW_PACKETS {
                self.recent = Some((window.least, now));
            }
            *window = Window::default();
        }
    }

    /// Milliseconds of queue that stood over the last window; `None` when too little came of late.
    pub(super) fn standing_ms(&self, now: Instant) -> Option<u16> {
        let (recent, at) = self.recent?;
        if now.saturating_duration_since(at) > 2 * WINDOW {
            return None;
        }
        let base = self.base.iter().map(|(_, least)| *least).min()?;
        Some(u16::try_from((recent - base).max(0) / 1_000).unwrap_or(u16::MAX - 1))
    }
}

/// What changed in how the sound is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// One copy only until then, though two are wanted: they filled a queue.
    Single { until: Instant },
    /// So many bits a second.
    Rate(u32),
}

/// The sender's side: how much sound is sent, from what the other end says of the queue.
#[derive(Debug)]
pub(super) struct Thrift {
    rate: usize,
    standing_since: Option<Instant>,
    clear_since: Option<Instant>,
    /// The effect of the last step is awaited until then.
    wait_until: Option<Instant>,
    last_word: Option<Instant>,
    single_for: Duration,
    raise_after: Duration,
    raised_at: Option<Instant>,
}

impl Default for Thrift {
    fn default() -> Self {
        Self {
            rate: 0,
            standing_since: None,
            clear_since: None,
            wait_until: None,
            last_word: None,
            single_for: SINGLE_FIRST,
            raise_after: RAISE_FIRST,
            raised_at: None,
        }
    }
}

impl Thrift {
    /// The other end says how long our sound stands in a queue; `mirroring`: two copies are sent now.
    pub(super) fn told(&mut self, standing_ms: u16, mirroring: bool, now: Instant) -> Option<Change> {
        let stale = self.last_word.is_some_and(|at| now.saturating_duration_since(at) > STALE);
        self.last_word = Some(now);
        if stale {
            (self.standing_since, self.clear_since) = (None, None);
        }
        if standing_ms < STANDING {
            self.standing_since = None;
        }
        if standing_ms >= CLEAR {
            self.clear_since = None;
        }
        if self.wait_until.is_some_and(|until| now < until) {
            return None;
        }
        if standing_ms >= STANDING {
            self.standing(mirroring, now)
        } else if standing_ms < CLEAR {
            self.clear(now)
        } else {
            None
        }
    }

    fn standing(&mut self, mirroring: bool, now: Instant) -> Option<Change> {
        let since = *self.standing_since.get_or_insert(now);
        if now.saturating_duration_since(since) < PATIENCE {
            return None;
        }
        self.standing_since = None;
        let change = if mirroring {
            let until = now + self.single_for;
            self.single_for = (self.single_for * 2).min(SINGLE_MAX);
            Change::Single { until }
        } else if self.rate + 1 < RATES.len() {
            // A raise that did not last was too early.
            if self.raised_at.is_some_and(|at| now.saturating_duration_since(at) < self.raise_after) {
                self.raise_after = (self.raise_after * 2).min(RAISE_MAX);
            }
            self.rate += 1;
            Change::Rate(RATES[self.rate])
        } else {
            return None;
        };
        self.wait_until = Some(now + EFFECT);
        Some(change)
    }

    fn clear(&mut self, now: Instant) -> Option<Change> {
        let since = *self.clear_since.get_or_insert(now);
        if self.rate == 0 || now.saturating_duration_since(since) < self.raise_after {
            return None;
        }
        self.rate -= 1;
        self.raised_at = Some(now);
        self.clear_since = None;
        self.wait_until = Some(now + EFFECT);
        Some(Change::Rate(RATES[self.rate]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::start;

    const MS: Duration = Duration::from_millis(1);

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
        assert!(standing < CLEAR, "{standing}");
    }

    #[test]
    fn a_full_buffer_is_and_draining_it_shows() {
        let t = start();
        let mut queue = StandingDelay::default();
        feed(&mut queue, t, 0, 5, |_| 30);
        assert_eq!(queue.standing_ms(t + 5_000 * MS), Some(0));
        feed(&mut queue, t, 5, 8, |_| 230);
        assert_eq!(queue.standing_ms(t + 8_100 * MS), Some(200));
        feed(&mut queue, t, 8, 10, |_| 32);
        assert_eq!(queue.standing_ms(t + 10_000 * MS), Some(2));
        assert_eq!(queue.standing_ms(t + 12_000 * MS), None, "nothing came of late");
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

    /// Reports each 100 ms for so many seconds; returns what changed and when, in ms.
    fn reports(
        thrift: &mut Thrift,
        t: Instant,
        from_s: u32,
        to_s: u32,
        standing: impl Fn(bool) -> u16,
    ) -> Vec<(u32, Change)> {
        let mut changes = Vec::new();
        let mut single = t;
        for ms in (from_s * 1_000..to_s * 1_000).step_by(100) {
            let now = t + MS * ms;
            let mirroring = now >= single;
            let change = thrift.told(standing(mirroring), mirroring, now);
            if let Some(Change::Single { until }) = change {
                single = until;
            }
            changes.extend(change.map(|change| (ms, change)));
        }
        changes
    }

    #[test]
    fn the_second_copy_goes_first_and_comes_back_later_and_later() {
        let t = start();
        let mut thrift = Thrift::default();
        let changes = reports(&mut thrift, t, 0, 200, |mirroring| if mirroring { 180 } else { 10 });
        let at: Vec<u32> = changes.iter().map(|(ms, _)| ms / 1_000).collect();
        assert!(changes.iter().all(|(_, change)| matches!(change, Change::Single { .. })), "{changes:?}");
        assert_eq!(at, [0, 31, 91], "{changes:?}");
    }

    #[test]
    fn then_the_rate_falls_and_rises_again_when_the_way_is_clear() {
        let t = start();
        let mut thrift = Thrift::default();
        let down = reports(&mut thrift, t, 0, 20, |_| 150);
        let steps: Vec<Change> = down.iter().map(|(_, change)| *change).collect();
        assert_eq!(
            steps,
            [
                Change::Single { until: t + 30_500 * MS },
                Change::Rate(24_000),
                Change::Rate(16_000),
                Change::Rate(12_000)
            ],
            "{down:?}"
        );
        let up = reports(&mut thrift, t, 20, 90, |_| 0);
        let steps: Vec<Change> = up.iter().map(|(_, change)| *change).collect();
        assert_eq!(steps, [Change::Rate(16_000), Change::Rate(24_000), Change::Rate(32_000)], "{up:?}");
    }

    #[test]
    fn a_moment_of_delay_changes_nothing() {
        let t = start();
        let mut thrift = Thrift::default();
        for ms in (0..10_000).step_by(100) {
            let standing = if ms % 1_000 < 400 { 200 } else { 30 };
            assert_eq!(thrift.told(standing, true, t + MS * ms), None);
        }
    }
}
