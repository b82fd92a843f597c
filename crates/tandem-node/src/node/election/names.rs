//! The election's own small numbers for service keys. Reserves are no supernodes, so they are not in the table of those.

use std::collections::BTreeMap;

use tandem_core::peer::PeerRef;
use tandem_proto::ids::ServiceKey;

/// Keys that have a number.
const NAMES_MAX: usize = 1024;
/// A reserve's number is kept this long after it announced itself: as long as policy may invite it.
const RESERVE_KEPT_MS: u64 = 2 * 60 * 60_000;

#[derive(Debug, Clone)]
struct Name {
    peer: PeerRef,
    /// Greater for one that was spoken of later.
    used: u64,
    /// A reserve, until then.
    reserve_until_ms: u64,
}

/// The table. A number is never given twice; one that was forgotten means nobody.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    by_key: BTreeMap<ServiceKey, Name>,
    by_peer: BTreeMap<PeerRef, ServiceKey>,
    next: u32,
    used: u64,
}

impl Names {
    /// The number of a key. When the table is full, the one not spoken of for longest is forgotten, but no reserve;
    /// `None` when there are only reserves.
    pub(super) fn intern(&mut self, key: ServiceKey, now_mono_ms: u64) -> Option<PeerRef> {
        self.used += 1;
        if let Some(name) = self.by_key.get_mut(&key) {
            name.used = self.used;
            return Some(name.peer);
        }
        if self.by_key.len() >= NAMES_MAX {
            self.make_room(now_mono_ms)?;
        }
        let peer = PeerRef(self.next);
        self.next = self.next.checked_add(1)?;
        self.by_key.insert(key, Name { peer, used: self.used, reserve_until_ms: 0 });
        self.by_peer.insert(peer, key);
        Some(peer)
    }

    /// The number of a key that has one.
    pub(super) fn peer(&self, key: &ServiceKey) -> Option<PeerRef> {
        self.by_key.get(key).map(|name| name.peer)
    }

    pub(super) fn key(&self, peer: PeerRef) -> Option<ServiceKey> {
        self.by_peer.get(&peer).copied()
    }

    /// It announced itself and is remembered.
    pub(super) fn note_reserve(&mut self, key: &ServiceKey, now_mono_ms: u64) {
        if let Some(name) = self.by_key.get_mut(key) {
            name.reserve_until_ms = now_mono_ms + RESERVE_KEPT_MS;
        }
    }

    fn make_room(&mut self, now_mono_ms: u64) -> Option<()> {
        let free = self.by_key.iter().filter(|(_, name)| name.reserve_until_ms <= now_mono_ms);
        let oldest = free.min_by_key(|(_, name)| name.used);
        let key = oldest.map(|(key, _)| *key)?;
        let name = self.by_key.remove(&key)?;
        self.by_peer.remove(&name.peer);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> ServiceKey {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_le_bytes());
        ServiceKey(key)
    }

    #[test]
    fn a_flood_of_keys_displaces_no_reserve_and_grows_nothing() {
        let mut names = Names::default();
        let reserve = names.intern(key(0), 0).unwrap();
        names.note_reserve(&key(0), 0);
        let used = names.intern(key(1), 0).unwrap();
        for n in 2..5_000 {
            names.intern(key(n), 10).unwrap();
            assert_eq!(names.intern(key(1), 10), Some(used), "one that is spoken of stays");
        }
        assert_eq!((names.by_key.len(), names.by_peer.len()), (NAMES_MAX, NAMES_MAX));
        assert_eq!(names.key(reserve), Some(key(0)));
        for n in 5_000..7_000 {
            names.intern(key(n), RESERVE_KEPT_MS).unwrap();
        }
        assert_eq!(names.key(reserve), None, "nobody announces itself for ever");
        assert_ne!(names.intern(key(0), RESERVE_KEPT_MS), Some(reserve), "a number means one key for ever");
    }

    #[test]
    fn where_only_reserves_are_left_newcomers_have_no_number() {
        let mut names = Names::default();
        for n in 0..u32::try_from(NAMES_MAX).unwrap() {
            names.intern(key(n), 0).unwrap();
            names.note_reserve(&key(n), 0);
        }
        assert_eq!(names.intern(key(5_000), 0), None);
    }
}
