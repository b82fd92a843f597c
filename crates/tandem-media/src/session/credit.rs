//! Which packets have been seen, and on which paths: the ground for crediting a path.
//!
//! A packet that authenticated credits the path it came on. A byte-identical copy on another path credits that one,
//! once. A copy on a path that brought it before credits nothing: a relay that replays must not look healthy.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};

/// About 2.5 s of sound, 50 packets a second.
const REMEMBERED: usize = 128;

/// What a datagram is to the paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sighting {
    /// Not seen before: the media engine is to judge it.
    New,
    /// A copy of an authentic packet, the first on this path.
    CopyNewToPath,
    /// A copy of one that came on this path before.
    Replay,
}

#[derive(Debug)]
struct Seen {
    digest: u64,
    /// Paths that brought it, as bits of the path's number modulo 64.
    paths: u64,
}

/// The packets that authenticated last.
#[derive(Debug)]
pub(super) struct SeenPackets {
    seed: u64,
    ring: VecDeque<Seen>,
}

impl SeenPackets {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ring: VecDeque::with_capacity(REMEMBERED) }
    }

    /// Looks a datagram up and, if it is a known one, notes that this path brought it.
    pub(super) fn sight(&mut self, data: &[u8], path: u32) -> Sighting {
        let digest = self.digest(data);
        let bit = 1 << (path % 64);
        let Some(seen) = self.ring.iter_mut().rev().find(|seen| seen.digest == digest) else {
            return Sighting::New;
        };
        if seen.paths & bit != 0 {
            return Sighting::Replay;
        }
        seen.paths |= bit;
        Sighting::CopyNewToPath
    }

    /// Remembers a packet that authenticated.
    pub(super) fn accept(&mut self, data: &[u8], path: u32) {
        if self.ring.len() == REMEMBERED {
            self.ring.pop_front();
        }
        self.ring.push_back(Seen { digest: self.digest(data), paths: 1 << (path % 64) });
    }

    /// Keyed by the session's secret seed, so that nobody outside can aim for a collision.
    fn digest(&self, data: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        hasher.write(data);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_counts_once_a_path() {
        let mut seen = SeenPackets::new(1);
        assert_eq!(seen.sight(b"a", 0), Sighting::New);
        seen.accept(b"a", 0);
        assert_eq!(seen.sight(b"a", 0), Sighting::Replay);
        assert_eq!(seen.sight(b"a", 1), Sighting::CopyNewToPath);
        assert_eq!(seen.sight(b"a", 1), Sighting::Replay);
    }

    #[test]
    fn what_was_not_accepted_is_not_remembered() {
        let mut seen = SeenPackets::new(1);
        assert_eq!(seen.sight(b"forged", 0), Sighting::New);
        assert_eq!(seen.sight(b"forged", 0), Sighting::New);
    }

    #[test]
    fn memory_is_bounded() {
        let mut seen = SeenPackets::new(1);
        for n in 0..10_000u32 {
            seen.accept(&n.to_be_bytes(), 0);
        }
        assert_eq!(seen.ring.len(), REMEMBERED);
    }
}
