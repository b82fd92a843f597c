//! The test call: everything comes back.
//!
//! Payloads go back as they came, under our own sequence numbers and times. What was lost on the way here leaves a
//! number out, so that the caller's receiver sees the loss and can use the redundancy in the packet after it.

use std::collections::VecDeque;

use super::opus::PacketInfo;
use super::renumber::Renumber;
use super::{Incoming, Outgoing};

/// Packets waiting to be sent at most; older ones are dropped first.
const WAITING_MAX: usize = 50;

/// See the module's text.
#[derive(Debug)]
pub struct Echo {
    numbers: Renumber,
    waiting: VecDeque<Outgoing>,
    returned: u64,
}

impl Echo {
    /// `rtp_start` is the first RTP timestamp; it should be random.
    #[must_use]
    pub fn new(rtp_start: u32) -> Self {
        Self { numbers: Renumber::new(rtp_start), waiting: VecDeque::new(), returned: 0 }
    }

    /// Takes a packet; what is not Opus is left out. Duplicates must have been removed before (SRTP does).
    pub fn handle_packet(&mut self, packet: &Incoming<'_>) {
        if PacketInfo::parse(packet.payload).is_err() {
            return;
        }
        let (sequence, rtp_time) = self.numbers.place(packet);
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(Outgoing { sequence, rtp_time, payload: packet.payload.to_vec() });
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<Outgoing> {
        let packet = self.waiting.pop_front();
        self.returned += u64::from(packet.is_some());
        packet
    }

    /// Packets sent back so far.
    #[must_use]
    pub fn returned(&self) -> u64 {
        self.returned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest Opus packet: one 20 ms frame without content.
    const PAYLOAD: &[u8] = &[0x08];

    fn back(echo: &mut Echo, sequence: u64, rtp_time: u32) -> (u64, u32) {
        echo.handle_packet(&Incoming { sequence, rtp_time, payload: PAYLOAD });
        let packet = echo.poll_transmit().unwrap();
        assert_eq!(packet.payload, PAYLOAD);
        (packet.sequence, packet.rtp_time)
    }

    #[test]
    fn losses_and_reordering_keep_their_places() {
        let mut echo = Echo::new(1_000);
        assert_eq!(back(&mut echo, 500, 96_000), (64, 1_000));
        assert_eq!(back(&mut echo, 502, 97_920), (66, 2_920));
        assert_eq!(back(&mut echo, 501, 96_960), (65, 1_960));
        assert_eq!(back(&mut echo, 499, 95_040), (63, 40));
    }

    #[test]
    fn a_new_stream_follows_on_and_garbage_is_left_out() {
        let mut echo = Echo::new(0);
        back(&mut echo, 10, 0);
        assert_eq!(back(&mut echo, 9_000_000, 50).0, 65);
        assert_eq!(back(&mut echo, 9_000_001, 1_010).0, 66);
        echo.handle_packet(&Incoming { sequence: 9_000_002, rtp_time: 0, payload: &[] });
        assert_eq!(echo.poll_transmit(), None);
        assert_eq!(echo.returned(), 3);
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut echo = Echo::new(0);
        (0..500).for_each(|n| echo.handle_packet(&Incoming { sequence: n, rtp_time: 0, payload: PAYLOAD }));
        assert_eq!(std::iter::from_fn(|| echo.poll_transmit()).count(), WAITING_MAX);
    }
}
