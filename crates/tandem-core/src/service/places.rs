//! Who has a place as a client of this supernode, and who is given one: the rules alone, for [`super::Service`] and for
//! the simulator.

use std::collections::BTreeMap;

/// A place is kept this long for a device whose connection broke.
const PLACE_KEPT_MS: u64 = 60_000;
/// Places kept at once.
const KEPT_MAX: usize = 4_096;
/// Above the soft limit, this share of it is kept for devices that come back, and for those that have no home at all (a
/// quarter).
const RETURNING_SHARE: usize = 4;
/// Anybody can say that he has no home: of those places one network gets this share of the soft limit.
const HOMELESS_NETWORK_SHARE: usize = 32;

/// How a device that asks is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Below the limit, or back where it was a moment ago.
    Place,
    /// Above the limit, since it has no home at all.
    Homeless,
}

/// Places by device `D`, each held on a connection `C`, with a ticket by which what was done there goes on elsewhere.
#[derive(Debug, Clone)]
pub struct Places<D, C> {
    held: BTreeMap<D, (C, u64)>,
    /// Ticket and end.
    kept: BTreeMap<D, (u64, u64)>,
    /// Let in above the soft limit since they had no home, and their networks.
    homeless: BTreeMap<D, Option<u32>>,
}

impl<D, C> Default for Places<D, C> {
    fn default() -> Self {
        Self { held: BTreeMap::new(), kept: BTreeMap::new(), homeless: BTreeMap::new() }
    }
}

impl<D: Copy + Ord, C: Copy + PartialEq> Places<D, C> {
    /// Places held now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Nobody has a place.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// On which connection the device has its place.
    #[must_use]
    pub fn connection_of(&self, device: D) -> Option<C> {
        self.held.get(&device).map(|(connection, _)| *connection)
    }

    /// Those that have a place, and on which connection.
    pub fn held(&self) -> impl Iterator<Item = (D, C)> {
        self.held.iter().map(|(device, (connection, _))| (*device, *connection))
    }

    /// It has a place, or shows the ticket of one that is kept for it: what it did there goes on.
    #[must_use]
    pub fn goes_on(&self, device: D, ticket: Option<u64>) -> bool {
        let kept = self.kept.get(&device);
        self.held.contains_key(&device) || kept.is_some_and(|(kept, _)| ticket == Some(*kept))
    }

    /// The ticket of the place that is held or kept for the device.
    #[must_use]
    pub fn ticket_of(&self, device: D) -> Option<u64> {
        let held = self.held.get(&device).map(|(_, ticket)| *ticket);
        held.or_else(|| self.kept.get(&device).map(|(ticket, _)| *ticket))
    }

    /// Whether there is room for the device, and why; `soft`: places for newcomers. `homeless`: it says that it has no
    /// home; `network`: where it is. Those who have a place, or had one a moment ago, are let in above the limit. (Its key
    /// is authenticated by the connection; one that has started again has no ticket any more, and would else be kept out by
    /// its own place.)
    #[must_use]
    pub fn room_for(&self, device: D, homeless: bool, network: Option<u32>, soft: usize) -> Option<Room> {
        let returning = self.held.contains_key(&device) || self.kept.contains_key(&device);
        let kept = if returning { 0 } else { self.kept.len().min(soft / RETURNING_SHARE) };
        if self.held.len() + kept < soft + if returning { soft / RETURNING_SHARE } else { 0 } {
            return Some(Room::Place);
        }
        (homeless && self.has_homeless_place(network, soft)).then_some(Room::Homeless)
    }

    /// Few of one network.
    fn has_homeless_place(&self, network: Option<u32>, soft: usize) -> bool {
        if self.held.len() >= soft + soft / RETURNING_SHARE {
            return false;
        }
        let here = self.homeless.values().filter(|other| **other == network).count();
        here < (soft / HOMELESS_NETWORK_SHARE).max(1)
    }

    /// Gives a place, with a new ticket.
    pub fn take(&mut self, device: D, connection: C, ticket: u64, room: Room, network: Option<u32>) {
        self.kept.remove(&device);
        self.held.insert(device, (connection, ticket));
        if room == Room::Homeless {
            self.homeless.insert(device, network);
        }
    }

    /// A connection ended: if it held a place, the place is kept for a while.
    pub fn lost(&mut self, device: D, connection: C, now_mono_ms: u64) {
        if self.connection_of(device) == Some(connection)
            && let Some((_, ticket)) = self.held.remove(&device)
        {
            if self.kept.len() < KEPT_MAX {
                self.kept.insert(device, (ticket, now_mono_ms + PLACE_KEPT_MS));
            } else {
                self.homeless.remove(&device);
            }
        }
    }

    /// Nothing is kept for this device.
    pub fn forget_kept(&mut self, device: D) {
        if self.kept.remove(&device).is_some() && !self.held.contains_key(&device) {
            self.homeless.remove(&device);
        }
    }

    /// What was kept long enough.
    pub fn forget_expired(&mut self, now_mono_ms: u64) {
        let (held, homeless) = (&self.held, &mut self.homeless);
        self.kept.retain(|device, (_, until_ms)| {
            let stays = now_mono_ms < *until_ms;
            if !stays && !held.contains_key(device) {
                homeless.remove(device);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOFT: usize = 64;

    fn full() -> Places<usize, u8> {
        let mut places = Places::default();
        for device in 0..SOFT {
            assert_eq!(places.room_for(device, false, None, SOFT), Some(Room::Place));
            places.take(device, 1, device as u64, Room::Place, None);
        }
        places
    }

    #[test]
    fn above_the_limit_come_those_who_return_and_a_few_without_a_home() {
        let mut places = full();
        assert_eq!(places.room_for(900, false, Some(1), SOFT), None);
        assert_eq!(places.room_for(3, false, Some(1), SOFT), Some(Room::Place), "it is here");
        for device in 900..902 {
            assert_eq!(places.room_for(device, true, Some(1), SOFT), Some(Room::Homeless));
            places.take(device, 1, 0, Room::Homeless, Some(1));
        }
        assert_eq!(places.room_for(902, true, Some(1), SOFT), None, "its network has had its share");
        assert_eq!(places.room_for(902, true, Some(2), SOFT), Some(Room::Homeless));
        let most = (1_000..2_000).filter(|&device| {
            let room = places.room_for(device, true, Some(device as u32), SOFT);
            room.inspect(|room| places.take(device, 1, 0, *room, Some(device as u32))).is_some()
        });
        assert_eq!(most.count(), SOFT / RETURNING_SHARE - 2);
    }

    #[test]
    fn a_place_is_kept_for_a_minute_and_only_for_the_connection_that_held_it() {
        let mut places = full();
        places.lost(5, 2, 1_000);
        assert_eq!(places.connection_of(5), Some(1), "an old connection");
        places.lost(5, 1, 1_000);
        assert_eq!((places.connection_of(5), places.len()), (None, SOFT - 1));
        assert!(places.goes_on(5, Some(5)) && !places.goes_on(5, Some(6)) && !places.goes_on(5, None));
        assert_eq!(places.room_for(900, false, None, SOFT), None, "that place is kept");
        assert_eq!(places.room_for(5, false, None, SOFT), Some(Room::Place));
        places.forget_expired(1_000 + PLACE_KEPT_MS);
        assert_eq!(places.room_for(900, false, None, SOFT), Some(Room::Place));
        assert!(!places.goes_on(5, Some(5)));
    }
}
