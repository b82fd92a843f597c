//! The user-space wire: joins two TAP interfaces and does to their packets what a bad line does.

mod conditions;
mod engine;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use conditions::{Conditions, Counts, Loss, UNDER_WAY_MAX};

pub(crate) use engine::{Engine, WirePlan};

use conditions::Direction;

/// Which way: `Up` is from the customer to the network, `Down` the other way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Up,
    Down,
}

/// One line, changeable while packets are on it. What is under way already keeps its time.
#[derive(Debug, Clone)]
pub struct Link {
    up: Arc<Mutex<Direction>>,
    down: Arc<Mutex<Direction>>,
}

impl Link {
    pub(crate) fn new(conditions: Conditions, seed: u64) -> Self {
        let direction = |seed| Arc::new(Mutex::new(Direction::new(conditions, seed)));
        Self { up: direction(seed), down: direction(!seed) }
    }

    /// Sets both directions.
    pub fn set(&self, conditions: Conditions) {
        self.set_way(Way::Up, conditions);
        self.set_way(Way::Down, conditions);
    }

    /// Sets one direction.
    pub fn set_way(&self, way: Way, conditions: Conditions) {
        self.lock(way).set(conditions);
    }

    /// The conditions of one direction now.
    pub fn conditions(&self, way: Way) -> Conditions {
        self.lock(way).conditions()
    }

    /// Begins the random draws of both directions again from this seed: the next packets meet the same losses and
    /// jitter as those after any other call with the same seed.
    pub fn replay(&self, seed: u64) {
        self.lock(Way::Up).replay(seed);
        self.lock(Way::Down).replay(!seed);
    }

    /// What became of packets so far.
    pub fn counts(&self, way: Way) -> Counts {
        self.lock(way).counts
    }

    pub(crate) fn lock(&self, way: Way) -> MutexGuard<'_, Direction> {
        let direction = match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        };
        direction.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
