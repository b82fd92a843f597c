//! The test call: everything comes back.
//!
//! Payloads go back as they came, under our own sequence numbers and times. What was lost on the way here leaves a
//! number out, so that the caller's receiver sees the loss and can use the redundancy in the packet after it.

use std::collections::VecDeque;

use super::opus::PacketInfo;
use super::{Incoming, Outgoing};

/// Packets waiting to be sent at most; older ones are dropped first.
const WAITING_MAX: usize = 50;
/// A step in sequence numbers beyond this is a new stream, not a loss.
const STEP_MAX: u64 = 3_000;
/// Space left before the first packet, for those that it overtook.
const START: u64 = 64;

/// See the module's text.
#[derive(Debug)]
pub struct Echo {
    rtp_start: u32,
    /// Sequence number here minus there, and RTP time here minus there (both wrapping).
    offset: Option<(u64, u32)>,
    highest: u64,
    waiting: VecDeque<Outgoing>,
    returned: u64,
}

impl Echo {
    /// `rtp_start` is the first RTP timestamp; it should be random.
    #[must_use]
    pub fn new(rtp_start: u32) -> Self {
        Self { rtp_start, offset: None, highest: 0, waiting: VecDeque::new(), returned: 0 }
    }

    /// Takes a packet; what is not Opus is left out. Duplicates must have been removed before (SRTP does).
    pub fn handle_packet(&mut self, packet: &Incoming<'_>) {
        if PacketInfo::parse(packet.payload).is_err() {
            return;
        }
        let (sequence, rtp_time) = self.place(packet);
        self.highest = self.highest.max(sequence);
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

    /// Where a packet stands in the stream we send.
    fn place(&mut self, packet: &Incoming<'_>) -> (u64, u32) {
        if let Some((offset, rtp_offset)) = self.offset {
            let sequence = packet.sequence.wrapping_add(offset);
            if sequence.abs_diff(self.highest) <= STEP_MAX {
                return (sequence, packet.rtp_time.wrapping_add(rtp_offset));
            }
        }
        let (sequence, rtp_time) = match self.offset {
            None => (START, self.rtp_start),
            Some((_, rtp_offset)) => (self.highest + 1, packet.rtp_time.wrapping_add(rtp_offset)),
        };
        self.offset = Some((sequence.wrapping_sub(packet.sequence), rtp_time.wrapping_sub(packet.rtp_time)));
        (sequence, rtp_time)
    }
}
