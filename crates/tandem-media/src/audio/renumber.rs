//! Gives packets of one stream the sequence numbers and times of another, so that what was lost still leaves a gap.

use super::Incoming;

/// A step in sequence numbers beyond this is a new stream, not a loss.
const STEP_MAX: u64 = 3_000;
/// Space left before the first packet, for those that it overtook.
const START: u64 = 64;

/// See the module's text.
#[derive(Debug)]
pub struct Renumber {
    rtp_start: u32,
    /// Sequence number here minus there, and RTP time here minus there (both wrapping).
    offset: Option<(u64, u32)>,
    highest: u64,
}

impl Renumber {
    /// `rtp_start` is the first RTP timestamp; it should be random.
    #[must_use]
    pub fn new(rtp_start: u32) -> Self {
        Self { rtp_start, offset: None, highest: 0 }
    }

    /// Where a packet stands in the stream we send: its sequence number and RTP time.
    pub fn place(&mut self, packet: &Incoming<'_>) -> (u64, u32) {
        let placed = self.find(packet);
        self.highest = self.highest.max(placed.0);
        placed
    }

    fn find(&mut self, packet: &Incoming<'_>) -> (u64, u32) {
        if let Some((offset, rtp_offset)) = self.offset {
            let sequence = packet.sequence.wrapping_add(offset);
            if sequence.abs_diff(self.highest) <= STEP_MAX {
                return (sequence, packet.rtp_time.wrapping_add(rtp_offset));
            }
        }
        let (sequence, rtp_time) = match self.offset {
            None => (START, self.rtp_start),
            Some((_, rtp_offset)) => (self.highest.wrapping_add(1), packet.rtp_time.wrapping_add(rtp_offset)),
        };
        self.offset = Some((sequence.wrapping_sub(packet.sequence), rtp_time.wrapping_sub(packet.rtp_time)));
        (sequence, rtp_time)
    }
}
