//! A call whose microphone and speaker are a page's: packets pass through as they are.
//!
//! The page's stream becomes part of the call's. The call's time follows this machine's clock, since the other end takes
//! sound that falls behind it for sound that stands in a queue. While no page speaks, silence is sent: the other end hears
//! that the call is there, and counts nothing as lost.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::opus::PacketInfo;
use super::{FRAME_DURATION, FRAME_SAMPLES, Incoming, Outgoing};

/// Without a packet of the page for this long, silence is sent. A browser sends 50 a second, in small bursts.
const SILENCE_AFTER: Duration = Duration::from_millis(100);
/// The page's time may be this far from this machine's; beyond that it has jumped, and is joined on anew. In samples.
const APART_MAX: i32 = 48_000;
/// Packets for the page that wait to be fetched at most; older ones are dropped first.
const WAITING_MAX: usize = 64;
/// 20 ms of nothing: one CELT frame of full bandwidth (RFC 6716 §3.1, configuration 31) that holds silence.
const SILENT_PACKET: [u8; 3] = [0xf8, 0xff, 0xfe];
/// The longest that machine time is made up for after it stood still.
const CATCH_UP: Duration = Duration::from_millis(500);

/// See the module's text.
#[derive(Debug)]
pub(super) struct Bridge {
    rtp_start: u32,
    began: Instant,
    /// Which attachment of a page is heard, and RTP time of the call minus that of its stream.
    stream: Option<(u64, u32)>,
    /// Where what was sent so far ends.
    end: u32,
    next_silence: Instant,
    sequence: u64,
    for_page: VecDeque<Outgoing>,
}

impl Bridge {
    pub(super) fn new(rtp_start: u32, now: Instant) -> Self {
        Self {
            rtp_start,
            began: now,
            stream: None,
            end: rtp_start,
            next_silence: now,
            sequence: 0,
            for_page: VecDeque::new(),
        }
    }

    /// The other end's sound, for the page.
    pub(super) fn handle_packet(&mut self, packet: &Incoming<'_>) {
        if self.for_page.len() == WAITING_MAX {
            self.for_page.pop_front();
        }
        let Incoming { sequence, rtp_time, payload } = *packet;
        self.for_page.push_back(Outgoing { sequence, rtp_time, payload: payload.to_vec() });
    }

    pub(super) fn poll_page(&mut self) -> Option<Outgoing> {
        self.for_page.pop_front()
    }

    /// The page's sound, for the other end. What is no Opus is left out, and so is what comes after silence took its place.
    pub(super) fn handle_page(
        &mut self,
        attachment: u64,
        packet: &Incoming<'_>,
        now: Instant,
    ) -> Option<Outgoing> {
        let samples = u32::try_from(PacketInfo::parse(packet.payload).ok()?.samples).ok()?;
        let known = self.stream.filter(|(of, _)| *of == attachment).map(|(_, offset)| offset);
        let clock = self.clock(now);
        let placed = known.map(|offset| packet.rtp_time.wrapping_add(offset));
        let fits =
            |time: &u32| apart(*time, clock).abs() <= APART_MAX && apart(*time, self.end).abs() <= APART_MAX;
        let time = placed.filter(fits).unwrap_or_else(|| later(self.end, clock));
        if apart(time, clock) > APART_MAX {
            return None; // A page that sends faster than time goes by.
        }
        self.stream = Some((attachment, time.wrapping_sub(packet.rtp_time)));
        if apart(time, self.end) < 0 {
            return None;
        }
        self.next_silence = now + SILENCE_AFTER;
        Some(self.send(time, samples, packet.payload))
    }

    /// Silence that is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Outgoing> {
        if self.next_silence > now {
            return None;
        }
        if now.saturating_duration_since(self.next_silence) > CATCH_UP {
            self.next_silence = now;
        }
        let time = later(self.end, self.clock(self.next_silence));
        self.next_silence += FRAME_DURATION;
        Some(self.send(time, FRAME_SAMPLES as u32, &SILENT_PACKET))
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.next_silence
    }

    fn send(&mut self, rtp_time: u32, samples: u32, payload: &[u8]) -> Outgoing {
        self.end = rtp_time.wrapping_add(samples);
        self.sequence += 1;
        Outgoing { sequence: self.sequence - 1, rtp_time, payload: payload.to_vec() }
    }

    /// This machine's time as RTP time.
    fn clock(&self, now: Instant) -> u32 {
        let ticks = now.saturating_duration_since(self.began).as_micros() * 48 / 1_000;
        #[expect(clippy::cast_possible_truncation, reason = "an RTP clock wraps")]
        let ticks = ticks as u32;
        self.rtp_start.wrapping_add(ticks)
    }
}

/// How much later `a` is than `b`, on a clock that wraps.
fn apart(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b).cast_signed()
}

fn later(a: u32, b: u32) -> u32 {
    if apart(a, b) > 0 { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 20 ms.
    const VOICE: &[u8] = &[0x78, 1, 2, 3];
    const START: u32 = u32::MAX - 10_000;

    #[expect(clippy::disallowed_methods, reason = "tests start somewhere and force time from there")]
    fn bench() -> (Bridge, Instant) {
        let now = Instant::now();
        (Bridge::new(START, now), now)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Runs the timer until `now`; when each packet lies, in samples from the start.
    fn silence(bridge: &mut Bridge, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| bridge.handle_timeout(now))
            .map(|packet| {
                assert_eq!(packet.payload, SILENT_PACKET);
                packet.rtp_time.wrapping_sub(START)
            })
            .collect()
    }

    fn say(bridge: &mut Bridge, attachment: u64, rtp_time: u32, now: Instant) -> Option<u32> {
        let packet = Incoming { sequence: 0, rtp_time, payload: VOICE };
        bridge.handle_page(attachment, &packet, now).map(|packet| {
            assert_eq!(packet.payload, VOICE, "untouched");
            packet.rtp_time.wrapping_sub(START)
        })
    }

    #[test]
    fn the_silent_packet_is_20_ms_that_decode_to_nothing() {
        assert_eq!(PacketInfo::parse(&SILENT_PACKET).unwrap().samples, FRAME_SAMPLES);
        let mut decoder = crate::audio::opus::Decoder::new().unwrap();
        let mut heard = Vec::new();
        for _ in 0..10 {
            decoder.decode(&SILENT_PACKET, &mut heard).unwrap();
        }
        assert_eq!(heard.len(), 10 * FRAME_SAMPLES);
        assert!(heard.iter().all(|sample| sample.abs() <= 1));
    }

    #[test]
    fn silence_is_sent_until_a_page_speaks_and_again_when_it_falls_silent() {
        let (mut bridge, now) = bench();
        assert_eq!(silence(&mut bridge, now + ms(59)), [0, 960, 1920]);
        // The page's own time is anything; it goes on where the call stands.
        assert_eq!(say(&mut bridge, 1, 77, now + ms(62)), Some(2976));
        assert_eq!(say(&mut bridge, 1, 77 + 960, now + ms(80)), Some(2976 + 960));
        assert_eq!(silence(&mut bridge, now + ms(179)), Vec::<u32>::new(), "a burst may be late");
        assert_eq!(silence(&mut bridge, now + ms(181)), [180 * 48]);
        // What it had said meanwhile comes too late, what it says now does not.
        assert_eq!(say(&mut bridge, 1, 77 + 2 * 960, now + ms(182)), None);
        assert_eq!(say(&mut bridge, 1, 77 + 8 * 960, now + ms(183)), Some(2976 + 8 * 960));
    }

    #[test]
    fn what_the_page_lost_stays_a_gap_and_a_new_page_goes_on() {
        let (mut bridge, now) = bench();
        assert_eq!(say(&mut bridge, 1, 5_000, now), Some(0));
        assert_eq!(say(&mut bridge, 1, 5_000 + 3 * 960, now + ms(60)), Some(3 * 960));
        assert_eq!(say(&mut bridge, 2, 900_000, now + ms(80)), Some(4 * 960));
        assert_eq!(say(&mut bridge, 2, 900_960, now + ms(100)), Some(5 * 960));
    }

    #[test]
    fn a_page_whose_time_jumps_is_joined_on_and_none_is_faster_than_time() {
        let (mut bridge, now) = bench();
        assert_eq!(say(&mut bridge, 1, 0, now), Some(0));
        assert_eq!(say(&mut bridge, 1, 48_000_000, now + ms(20)), Some(960));
        assert_eq!(say(&mut bridge, 1, 48_000_960, now + ms(40)), Some(1920));
        let sent = (0..1_000u32).filter_map(|n| say(&mut bridge, 1, n * 960, now + ms(60))).count();
        assert!((40..=60).contains(&sent), "a second ahead at most: {sent}");
        assert_eq!(bridge.handle_page(1, &Incoming { sequence: 0, rtp_time: 0, payload: &[] }, now), None);
    }

    #[test]
    fn a_machine_that_stood_still_does_not_send_it_all_afterwards() {
        let (mut bridge, now) = bench();
        assert_eq!(silence(&mut bridge, now + Duration::from_secs(60)), [60 * 48_000]);
        (0..500).for_each(|n| bridge.handle_packet(&Incoming { sequence: n, rtp_time: 0, payload: VOICE }));
        assert_eq!(std::iter::from_fn(|| bridge.poll_page()).count(), WAITING_MAX);
    }
}
