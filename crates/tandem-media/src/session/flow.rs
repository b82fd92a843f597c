//! Whether sound flows steadily, and when its silence is strange.

use std::time::{Duration, Instant};

/// Sound that stops for this long, three packets of 20 ms, may have lost its path. Wrong guesses cost two seconds of
/// copies.
const SUSPECT: Duration = Duration::from_millis(60);
/// The same for longer packets, in packets: they are sent where the network is narrow, and much is a little late there.
const SUSPECT_LONG: u32 = 5;
/// So many packets in step are a flow.
const STEADY: u8 = 3;
/// RTP clock of Opus (RFC 7587 §4.1).
const TICKS_PER_MS: u32 = 48;
/// The longest packet of Opus (RFC 6716 §3.1), in ms.
const PACKET_MS_MAX: u32 = 120;

/// Sound in one direction, on all paths together.
#[derive(Debug, Clone, Copy)]
pub(super) struct SoundFlow {
    pub(super) last: Option<Instant>,
    newest: Option<(u64, u32)>,
    packet: Duration,
    steady: u8,
}

impl Default for SoundFlow {
    fn default() -> Self {
        Self { last: None, newest: None, packet: Duration::from_millis(20), steady: 0 }
    }
}

impl SoundFlow {
    /// A packet with this number and RTP timestamp that had not been before.
    pub(super) fn packet(&mut self, sequence: u64, rtp_time: u32, now: Instant) {
        self.learn(sequence, rtp_time);
        let in_step =
            self.last.is_some_and(|last| now.saturating_duration_since(last) < self.suspect_after());
        self.steady = if in_step { self.steady.saturating_add(1) } else { 1 };
        self.last = Some(now);
    }

    /// How long packets are shows between two that follow each other.
    fn learn(&mut self, sequence: u64, rtp_time: u32) {
        if let Some((newest, before)) = self.newest
            && newest.checked_add(1) == Some(sequence)
        {
            let ms = rtp_time.wrapping_sub(before) / TICKS_PER_MS;
            if (1..=PACKET_MS_MAX).contains(&ms) {
                self.packet = Duration::from_millis(ms.into());
            }
        }
        if self.newest.is_none_or(|(newest, _)| sequence > newest) {
            self.newest = Some((sequence, rtp_time));
        }
    }

    /// Silence of this length is strange.
    pub(super) fn suspect_after(&self) -> Duration {
        if self.packet > SUSPECT / 3 { self.packet * SUSPECT_LONG } else { SUSPECT }
    }

    pub(super) fn flowing(&self) -> bool {
        self.steady >= STEADY
    }

    pub(super) fn stopped(&mut self) {
        self.steady = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::start;

    #[test]
    fn longer_packets_are_missed_later() {
        let t = start();
        let mut flow = SoundFlow::default();
        for n in 0..3 {
            flow.packet(n.into(), n * 960, t + Duration::from_millis(20) * n);
        }
        assert!(flow.flowing());
        assert_eq!(flow.suspect_after(), Duration::from_millis(60));
        let t = t + Duration::from_millis(80);
        for n in 0..4 {
            flow.packet(u64::from(n) + 3, 4_000 + n * 1_920, t + Duration::from_millis(40) * n);
        }
        assert!(flow.flowing());
        assert_eq!(flow.suspect_after(), Duration::from_millis(200));
    }
}
