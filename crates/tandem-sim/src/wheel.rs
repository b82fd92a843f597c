//! The queue of what is to happen: a wheel of milliseconds, filled from one list for each 4 s to come.
//!
//! Nothing is compared and nothing is sorted: an event is written twice and read twice, however many millions wait. What
//! happens in the same millisecond happens in the order in which it was asked for, but that what was asked for more than
//! 4 s before comes first.

/// Slots of the wheel, one a millisecond: a power of two.
const NEAR: usize = 1 << NEAR_BITS;
const NEAR_BITS: u32 = 12;

/// Milliseconds of virtual time since the world began: enough for 49 days.
pub type Ms = u32;

/// Events of type `E` by time.
#[derive(Debug)]
pub struct Wheel<E> {
    now: Ms,
    near: Vec<Vec<E>>,
    /// Slots that are not empty, a bit each.
    filled: [u64; NEAR / 64],
    /// For each 4 s from the beginning, what is to happen then; those that are over are empty.
    far: Vec<Vec<(Ms, E)>>,
    /// The slot that is being emptied.
    current: Vec<E>,
    next: usize,
    len: usize,
}

impl<E: Copy> Wheel<E> {
    /// Empty, at the beginning of time.
    #[must_use]
    pub fn new() -> Self {
        let near = (0..NEAR).map(|_| Vec::new()).collect();
        Self { now: 0, near, filled: [0; NEAR / 64], far: Vec::new(), current: Vec::new(), next: 0, len: 0 }
    }

    /// The time of the event that came last.
    #[must_use]
    pub fn now(&self) -> Ms {
        self.now
    }

    /// Events that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes held for events, of those that wait and to spare.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let near: usize = self.near.iter().map(Vec::capacity).sum();
        let far: usize = self.far.iter().map(Vec::capacity).sum();
        near * size_of::<E>() + far * size_of::<(Ms, E)>()
    }

    /// `event` happens at `at`, or now if that is past.
    pub fn push(&mut self, at: Ms, event: E) {
        let at = at.max(self.now);
        self.len += 1;
        let block = block_of(at);
        if block == block_of(self.now) {
            self.push_near(at, event);
            return;
        }
        if self.far.len() <= block {
            self.far.resize_with(block + 1, Vec::new);
        }
        self.far[block].push((at, event));
    }

    fn push_near(&mut self, at: Ms, event: E) {
        let slot = at as usize % NEAR;
        self.near[slot].push(event);
        self.filled[slot / 64] |= 1 << (slot % 64);
    }

    /// The next event, if it happens before `end`; else time stands at `end`.
    pub fn pop(&mut self, end: Ms) -> Option<E> {
        loop {
            if let Some(event) = self.current.get(self.next) {
                self.next += 1;
                self.len -= 1;
                return Some(*event);
            }
            self.current.clear();
            self.next = 0;
            if !self.advance(end) {
                return None;
            }
        }
    }

    /// To the next slot that is not empty. False: there is none before `end`.
    fn advance(&mut self, end: Ms) -> bool {
        while self.now < end {
            if let Some(slot) = self.next_filled(self.now as usize % NEAR) {
                let at = (self.now & !(NEAR as Ms - 1)) + slot as Ms;
                if at >= end {
                    break;
                }
                self.now = at;
                // The emptied list keeps its memory, in the slot's place.
                std::mem::swap(&mut self.current, &mut self.near[slot]);
                self.filled[slot / 64] &= !(1 << (slot % 64));
                return true;
            }
            let next = (block_of(self.now) + 1) << NEAR_BITS;
            let Ok(next) = Ms::try_from(next) else { break };
            if next >= end {
                break;
            }
            self.now = next;
            self.turn();
        }
        // Within the block that holds it, or what is in far would never be looked at.
        while block_of(self.now) < block_of(end) {
            self.now = ((block_of(self.now) + 1) << NEAR_BITS) as Ms;
            self.turn();
        }
        self.now = self.now.max(end);
        false
    }

    fn next_filled(&self, from: usize) -> Option<usize> {
        let mut word = from / 64;
        let mut bits = self.filled[word] & (u64::MAX << (from % 64));
        loop {
            if bits != 0 {
                return Some(word * 64 + bits.trailing_zeros() as usize);
            }
            word += 1;
            bits = *self.filled.get(word)?;
        }
    }

    /// A new block begins: its events go to their slots.
    fn turn(&mut self) {
        let block = block_of(self.now);
        let Some(events) = self.far.get_mut(block) else { return };
        for (at, event) in std::mem::take(events) {
            self.push_near(at, event);
        }
    }
}

impl<E: Copy> Default for Wheel<E> {
    fn default() -> Self {
        Self::new()
    }
}

fn block_of(at: Ms) -> usize {
    (at >> NEAR_BITS) as usize
}

#[cfg(test)]
mod tests {
    use tandem_core::rng::Rng;

    use super::*;

    #[test]
    fn events_come_in_the_order_of_their_times() {
        let mut wheel = Wheel::new();
        let mut rng = Rng::new(3);
        let mut wanted: Vec<(Ms, usize)> = Vec::new();
        for at in 0..5_000 {
            let ms = rng.below(50_000) as Ms;
            wheel.push(ms, (ms, at));
            wanted.push((ms, at));
        }
        wanted.sort_unstable();
        let mut came = Vec::new();
        for end in [0, 1, 700, 4_096, 4_097, 20_000, 49_999, 50_000, 90_000] {
            while let Some(event) = wheel.pop(end) {
                assert_eq!(event.0, wheel.now());
                assert!(event.0 < end);
                came.push(event);
            }
            assert_eq!(wheel.now(), end);
        }
        assert_eq!(came, wanted);
        assert!(wheel.is_empty());
    }

    #[test]
    fn what_is_asked_for_while_time_passes_comes_in_its_turn() {
        let mut wheel = Wheel::new();
        let mut rng = Rng::new(4);
        wheel.push(5, 0_u32);
        let (mut last, mut came) = (0, 0);
        while let Some(depth) = wheel.pop(1_000_000) {
            assert!(wheel.now() >= last);
            last = wheel.now();
            came += 1;
            if depth < 12 {
                wheel.push(last + rng.below(20_000) as Ms, depth + 1);
                wheel.push(last, depth + 1);
            }
        }
        assert_eq!(came, (1 << 13) - 1);
    }

    #[test]
    fn what_is_late_happens_now() {
        let mut wheel = Wheel::new();
        assert_eq!(wheel.pop(10_000), None);
        wheel.push(3, 'a');
        assert_eq!(wheel.pop(10_000), None, "the end is not before the end");
        assert_eq!(wheel.pop(10_001), Some('a'));
        assert_eq!(wheel.now(), 10_000);
    }
}
