//! The records this supernode keeps for the directory: verified and merged before they are stored, whatever the way
//! they come in. When it is full, the records nearest to this node's own key stay.

use std::borrow::Cow;
use std::collections::{BTreeMap, btree_map};
use std::iter;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result as StoreResult};
use libp2p::kad::{KBucketDistance, KBucketKey, ProviderRecord, Record, RecordKey};
use prost::Message;
use tandem_proto::ids::AccountKey;
use tandem_proto::names::NetworkId;
use tandem_proto::record::{ReachRecord, RecordError, Seen};
use tandem_proto::wire;
use thiserror::Error;

/// Why a record is neither stored nor used. Written for a log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Refused {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("it does not say whose record it is")]
    NoAccount,
    #[error("it is stored under the key of another account or network")]
    WrongKey,
    #[error("{0}")]
    RolledBack(String),
    #[error("this supernode holds as many records as it can, all nearer to it")]
    Full,
    #[error("this node is in standby and keeps no records")]
    Standby,
}

/// Verifies a value of unknown owner against the key it is stored under.
pub(super) fn verify(
    network: &NetworkId,
    key: &RecordKey,
    value: &[u8],
    unix_ms: u64,
) -> Result<ReachRecord, Refused> {
    if value.len() > tandem_proto::record::RECORD_BYTES_MAX {
        return Err(RecordError::TooLarge { bytes: value.len() }.into());
    }
    let account = account_of(value).ok_or(Refused::NoAccount)?;
    if network.record_key(account) != key.as_ref() {
        return Err(Refused::WrongKey);
    }
    Ok(ReachRecord::decode_verified(value, account, unix_ms)?)
}

/// Joins what is known with what came. `Err`: what came is older than what is known, and brings nothing.
pub(super) fn join(known: &ReachRecord, new: &ReachRecord) -> Result<ReachRecord, Refused> {
    let merged = known.merge(new).map_err(|_| Refused::WrongKey)?;
    let mut seen = Seen::default();
    seen.note(known);
    match new.rollback(&seen) {
        Some(rollback) if merged == *known => Err(Refused::RolledBack(rollback.to_string())),
        _ => Ok(merged),
    }
}

/// Unverified: who the record says it belongs to.
fn account_of(value: &[u8]) -> Option<AccountKey> {
    let record = wire::ReachRecord::decode(value).ok()?;
    let set = wire::DeviceSet::decode(record.device_set?.payload.as_slice()).ok()?;
    AccountKey::try_from(set.account.as_slice()).ok()
}

/// The store behind libp2p's kad.
pub(super) struct NearStore {
    network: NetworkId,
    local: KBucketKey<PeerId>,
    records_max: usize,
    records: BTreeMap<KBucketDistance, Stored>,
    /// In standby nothing is kept for anybody.
    open: bool,
}

pub(super) struct Stored {
    record: Record,
    /// When the first entry of a device in it expires.
    prune_at_s: u64,
}

impl NearStore {
    pub(super) fn new(network: NetworkId, local: PeerId, records_max: usize) -> Self {
        Self { network, local: KBucketKey::from(local), records_max, records: BTreeMap::new(), open: true }
    }

    /// Closed: what there is is dropped, and nothing is taken.
    pub(super) fn set_open(&mut self, open: bool) {
        self.open = open;
        if !open {
            self.records.clear();
        }
    }

    /// Verifies, merges with what is stored, and stores.
    pub(super) fn offer(&mut self, record: Record, unix_ms: u64) -> Result<(), Refused> {
        if !self.open {
            return Err(Refused::Standby);
        }
        let mut new = verify(&self.network, &record.key, &record.value, unix_ms)?;
        let distance = self.distance(&record.key);
        if let Some(stored) = self.records.get(&distance)
            && let Ok(known) = known(&stored.record.value, new.account(), unix_ms)
        {
            new = join(&known, &new)?;
        } else if !self.records.contains_key(&distance) {
            self.make_room(distance)?;
        }
        self.records.insert(distance, stored(record.key, &new, unix_ms));
        Ok(())
    }

    /// What is stored under this key, if it still holds.
    pub(super) fn verified(&self, key: &RecordKey, account: AccountKey, unix_ms: u64) -> Option<ReachRecord> {
        let stored = self.records.get(&self.distance(key))?;
        known(&stored.record.value, account, unix_ms).ok()
    }

    /// Drops what has expired. The device set alone stays until its own end, so that a removed device stays removed.
    pub(super) fn prune(&mut self, unix_ms: u64) {
        let now_s = unix_ms / 1000;
        self.records.retain(|_, stored| {
            if stored.prune_at_s > now_s {
                return true;
            }
            let account = account_of(&stored.record.value);
            let Some(Ok(rest)) = account.map(|account| known(&stored.record.value, account, unix_ms)) else {
                return false;
            };
            *stored = self::stored(stored.record.key.clone(), &rest, unix_ms);
            true
        });
    }

    fn make_room(&mut self, distance: KBucketDistance) -> Result<(), Refused> {
        if self.records.len() < self.records_max {
            return Ok(());
        }
        match self.records.last_entry() {
            Some(farthest) if *farthest.key() > distance => {
                farthest.remove();
                Ok(())
            }
            _ => Err(Refused::Full),
        }
    }

    fn distance(&self, key: &RecordKey) -> KBucketDistance {
        KBucketKey::new(key.clone()).distance(&self.local)
    }
}

/// A record that was verified once: what of it holds now, at least its device set.
fn known(value: &[u8], account: AccountKey, unix_ms: u64) -> Result<ReachRecord, RecordError> {
    match ReachRecord::decode_verified(value, account, unix_ms) {
        Err(RecordError::Expired { .. }) => {
            let message = wire::ReachRecord::decode(value).map_err(|_| RecordError::Malformed)?;
            let set_alone = wire::ReachRecord { device_homes: Vec::new(), ..message };
            ReachRecord::verify(&set_alone, account, unix_ms, &mut Vec::new())
        }
        other => other,
    }
}

fn stored(key: RecordKey, record: &ReachRecord, unix_ms: u64) -> Stored {
    let ends_s = record.device_set().not_after_s();
    let prune_at_s = record.homes().iter().map(tandem_proto::signed::DeviceHomes::not_after_s).min();
    let left = Duration::from_secs(ends_s.saturating_sub(unix_ms / 1000));
    let record =
        Record { key, value: record.encode(), publisher: None, expires: Instant::now().checked_add(left) };
    Stored { record, prune_at_s: prune_at_s.unwrap_or(ends_s).min(ends_s) }
}

impl RecordStore for NearStore {
    type RecordsIter<'a> =
        iter::Map<btree_map::Values<'a, KBucketDistance, Stored>, fn(&'a Stored) -> Cow<'a, Record>>;
    type ProvidedIter<'a> = iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        self.records.get(&self.distance(key)).map(|stored| Cow::Borrowed(&stored.record))
    }

    /// libp2p has one error that fits a record that was refused.
    fn put(&mut self, record: Record) -> StoreResult<()> {
        self.offer(record, crate::installation::unix_ms()).map_err(|refused| match refused {
            Refused::Full | Refused::Standby => Error::MaxRecords,
            _ => Error::ValueTooLarge,
        })
    }

    fn remove(&mut self, key: &RecordKey) {
        self.records.remove(&self.distance(key));
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        self.records.values().map(|stored| Cow::Borrowed(&stored.record))
    }

    /// Tandem has no provider records.
    fn add_provider(&mut self, _: ProviderRecord) -> StoreResult<()> {
        Err(Error::MaxProvidedKeys)
    }

    fn providers(&self, _: &RecordKey) -> Vec<ProviderRecord> {
        Vec::new()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        iter::empty()
    }

    fn remove_provider(&mut self, _: &RecordKey, _: &PeerId) {}
}

impl std::fmt::Debug for NearStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NearStore").field("records", &self.records.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_proto::identity::{AccountSecret, DeviceSecret};
    use tandem_proto::signed::{DeviceEntry, DeviceHomes, DeviceSet};

    const NOW_S: u64 = 1_800_000_000;
    const HOUR_S: u64 = 3600;

    fn network() -> NetworkId {
        "store-test".parse().unwrap()
    }

    fn reach(account: u8, epoch: u64, sequence: u64) -> ReachRecord {
        let (account, device) =
            (AccountSecret::from_seed(&[account; 32]), DeviceSecret::from_seed(&[99; 32]));
        let entry = DeviceEntry { device: device.public(), serial: 1 };
        let set = DeviceSet::issue(&account, epoch, &[entry], NOW_S + 24 * HOUR_S).unwrap();
        let homes = DeviceHomes::issue(&device, account.public(), sequence, NOW_S + HOUR_S, &[]).unwrap();
        ReachRecord::new(set).with_homes(homes)
    }

    fn key(record: &ReachRecord) -> RecordKey {
        RecordKey::new(&network().record_key(record.account()))
    }

    fn offer(store: &mut NearStore, record: &ReachRecord, at_s: u64) -> Result<(), Refused> {
        store.offer(Record::new(key(record), record.encode()), at_s * 1000)
    }

    #[test]
    fn nothing_gets_past_the_check() {
        let mut store = NearStore::new(network(), PeerId::random(), 10);
        let record = reach(1, 2, 2);
        assert_eq!(offer(&mut store, &record, NOW_S), Ok(()));
        assert!(matches!(offer(&mut store, &reach(1, 1, 2), NOW_S), Err(Refused::RolledBack(_))));
        assert!(matches!(offer(&mut store, &reach(1, 2, 1), NOW_S), Err(Refused::RolledBack(_))));
        assert_eq!(offer(&mut store, &record, NOW_S), Ok(()), "the same again is no offence");
        let foreign = Record::new(key(&reach(2, 1, 1)), record.encode());
        assert_eq!(store.offer(foreign, NOW_S * 1000), Err(Refused::WrongKey));
        assert!(
            store.put(Record::new(key(&record), vec![1, 2, 3])).is_err(),
            "kad's own way in is checked too"
        );
        assert_eq!(store.get(&key(&record)).unwrap().value, record.encode());
    }

    #[test]
    fn a_removed_device_stays_removed_when_the_entries_have_expired() {
        let mut store = NearStore::new(network(), PeerId::random(), 10);
        let record = reach(1, 2, 2);
        offer(&mut store, &record, NOW_S).unwrap();
        let later_s = NOW_S + 2 * HOUR_S;
        store.prune(later_s * 1000);
        let left = store.verified(&key(&record), record.account(), later_s * 1000).unwrap();
        assert_eq!((left.device_set().epoch(), left.homes().len()), (2, 0));
        assert_eq!(store.get(&key(&record)).unwrap().value, left.encode());
        store.prune((NOW_S + 25 * HOUR_S) * 1000);
        assert!(store.get(&key(&record)).is_none());
    }

    #[test]
    fn a_full_store_keeps_the_nearest() {
        let mut store = NearStore::new(network(), PeerId::random(), 4);
        let mut records: Vec<ReachRecord> = (1..=12).map(|n| reach(n, 1, 1)).collect();
        let refused = records.iter().filter(|record| offer(&mut store, record, NOW_S).is_err()).count();
        assert!(refused > 0);
        records.sort_by_key(|record| store.distance(&key(record)));
        let kept: Vec<bool> = records.iter().map(|record| store.get(&key(record)).is_some()).collect();
        assert_eq!(kept, [[true; 4], [false; 4], [false; 4]].concat());
    }
}
