//! What waits for a TCP client that reads slowly. When there is no room the oldest sound goes, at the head of the line:
//! what it has to hear next is what was said last.

use std::collections::VecDeque;

/// Bytes waiting for one client: a second of a call with its redundant copies. The kernel holds as much again
/// ([`UNSENT_BYTES_MAX`]).
const BYTES_MAX: usize = 16 * 1024;
/// Bytes the kernel takes for one client beyond what is on its way (TCP_NOTSENT_LOWAT): it would hold megabytes.
pub(super) const UNSENT_BYTES_MAX: u32 = 16 * 1024;

/// Whole messages, the first of which may have been sent in part.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// How many bytes of each message are still there.
    lengths: VecDeque<usize>,
    first_has_begun: bool,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds a message and returns how many were dropped for it, or were it.
    pub(super) fn push(&mut self, message: &[u8]) -> u64 {
        let mut dropped = 0;
        while self.bytes.len() + message.len() > BYTES_MAX {
            dropped += 1;
            if !self.drop_oldest_sound() {
                return dropped;
            }
        }
        self.bytes.extend_from_slice(message);
        self.lengths.push_back(message.len());
        dropped
    }

    /// So many bytes have been sent.
    pub(super) fn sent(&mut self, mut count: usize) {
        self.bytes.drain(..count);
        while let Some(first) = self.lengths.front_mut() {
            if count < *first {
                *first -= count;
                self.first_has_begun |= count > 0;
                return;
            }
            count -= *first;
            self.lengths.pop_front();
            self.first_has_begun = false;
        }
        // An idle client keeps no buffer.
        *self = Self::default();
    }

    /// Neither what has begun, or the stream would make no sense, nor answers, which nobody asks for again over TCP.
    fn drop_oldest_sound(&mut self) -> bool {
        let mut start = 0;
        for (index, &length) in self.lengths.iter().enumerate() {
            let has_begun = index == 0 && self.first_has_begun;
            if !has_begun && !is_answer(self.bytes[start]) {
                self.bytes.drain(start..start + length);
                self.lengths.remove(index);
                return true;
            }
            start += length;
        }
        false
    }
}

/// Of the messages a server sends those of the classes success and error begin with 0x01 (RFC 8489 §5); ChannelData
/// begins with 0x40 to 0x7f, indications with 0x00.
fn is_answer(first: u8) -> bool {
    first == 0x01
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound(n: u8) -> Vec<u8> {
        let mut message = vec![n; 1_004];
        message[..4].copy_from_slice(&[0x40, 0, 0x03, 0xe8]);
        message
    }

    #[test]
    fn the_oldest_sound_goes_and_the_rest_stays_whole() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(&[0x01, 0x03, 9, 9]), 0, "an answer");
        let fit = (BYTES_MAX - 4) / 1_004;
        assert_eq!((0..fit).map(|n| outbox.push(&sound(n as u8))).sum::<u64>(), 0);
        assert_eq!(outbox.push(&sound(99)), 1);
        let expected = [vec![0x01, 0x03, 9, 9], (1..fit).flat_map(|n| sound(n as u8)).collect(), sound(99)];
        assert_eq!(outbox.bytes(), expected.concat());
    }

    #[test]
    fn what_has_begun_is_finished() {
        let mut outbox = Outbox::default();
        let fit = BYTES_MAX / 1_004;
        (0..fit).for_each(|n| assert_eq!(outbox.push(&sound(n as u8)), 0));
        outbox.sent(1_004 + 4);
        assert_eq!(outbox.push(&sound(98)), 0);
        assert_eq!(outbox.push(&sound(99)), 1);
        let expected = [&sound(1)[4..], &(3..fit).flat_map(|n| sound(n as u8)).collect::<Vec<_>>()].concat();
        assert_eq!(outbox.bytes(), [expected, sound(98), sound(99)].concat());
        outbox.sent(outbox.bytes().len());
        assert!(outbox.is_empty() && outbox.lengths.is_empty() && !outbox.first_has_begun);
        assert_eq!(outbox.bytes.capacity(), 0, "an idle client keeps no buffer");
    }

    #[test]
    fn answers_alone_fill_it_and_no_more() {
        let mut outbox = Outbox::default();
        let answer = [0x01; 128];
        assert_eq!((0..1_000).map(|_| outbox.push(&answer)).sum::<u64>(), 1_000 - (BYTES_MAX / 128) as u64);
        assert_eq!(outbox.bytes().len(), BYTES_MAX);
    }
}
