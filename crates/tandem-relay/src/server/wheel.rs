//! When allocations end: a timer wheel (Varghese and Lauck, 1987). Setting, moving and taking out are O(1); only those
//! that are due are looked at.

use std::time::{Duration, Instant};

use super::allocation::Slot;

/// One turn of the wheel is longer than any allocation lives unasked (4 h); a longer one is placed again on the way.
const BUCKETS: usize = 4_096;
const BUCKET: Duration = Duration::from_secs(4);

/// Where an allocation stands in the wheel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    bucket: u16,
    index: u32,
}

#[derive(Debug)]
pub(super) struct Wheel {
    started: Instant,
    /// The bucket that time has reached, counted from the start.
    reached: u64,
    buckets: Box<[Vec<Slot>]>,
    /// Not after the first that is due. It may be before: who was first may have been taken out or moved.
    earliest: Option<Instant>,
}

impl Wheel {
    pub(super) fn new(now: Instant) -> Self {
        Self { started: now, reached: 0, buckets: vec![Vec::new(); BUCKETS].into(), earliest: None }
    }

    /// When to look next.
    pub(super) fn earliest(&self) -> Option<Instant> {
        self.earliest
    }

    pub(super) fn insert(&mut self, slot: Slot, expires: Instant) -> Place {
        self.earliest = Some(self.earliest.map_or(expires, |earliest| earliest.min(expires)));
        let turn = self.count(expires).clamp(self.reached, self.reached + BUCKETS as u64 - 1);
        let bucket = (turn % BUCKETS as u64) as u16;
        let slots = &mut self.buckets[usize::from(bucket)];
        slots.push(slot);
        let index = u32::try_from(slots.len() - 1).expect("fewer allocations than virtual addresses");
        Place { bucket, index }
    }

    /// Takes out what stands there. Returns who stands there now instead, if anybody.
    pub(super) fn remove(&mut self, place: Place) -> Option<Slot> {
        let slots = &mut self.buckets[usize::from(place.bucket)];
        slots.swap_remove(place.index as usize);
        if slots.is_empty() {
            // A bucket that many allocations filled at once keeps nothing of it.
            *slots = Vec::new();
        }
        slots.get(place.index as usize).copied()
    }

    /// All that may be due by `now`. The caller takes out those that are, moves those that are not, and says with
    /// [`Wheel::look_ahead`] that it has.
    pub(super) fn candidates(&mut self, now: Instant) -> Vec<Slot> {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return Vec::new();
        }
        // Time that goes back moves nothing: what was due before stands where time had been.
        let until = self.count(now).max(self.reached);
        let turns = self.reached..=until.min(self.reached + BUCKETS as u64 - 1);
        self.reached = until;
        turns.flat_map(|turn| self.buckets[(turn % BUCKETS as u64) as usize].iter().copied()).collect()
    }

    /// Finds out who is next.
    pub(super) fn look_ahead(&mut self, expires_of: impl Fn(Slot) -> Instant) {
        let turns = self.reached..self.reached + BUCKETS as u64;
        let mut buckets = turns.map(|turn| &self.buckets[(turn % BUCKETS as u64) as usize]);
        let next = buckets.find(|slots| !slots.is_empty());
        self.earliest = next.and_then(|slots| slots.iter().map(|slot| expires_of(*slot)).min());
    }

    fn count(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).as_secs() / BUCKET.as_secs()
    }
}
