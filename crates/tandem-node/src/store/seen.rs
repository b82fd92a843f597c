use prost::Message;
use rusqlite::{OptionalExtension, params};
use tandem_proto::ids::{AccountKey, DeviceKey};
use tandem_proto::signed::DeviceSet;
use tandem_proto::wire::Signed;

use super::{SEEN_MAX, Store, StoreError, from_sql, key, to_sql};

/// A record older than every certificate's life cannot be played back any more.
const KEPT_MS: u64 = 400 * 86_400_000;
const ENTRY_LEN: usize = 40;

/// The highest epoch and sequences seen of an account: what is lower is a roll-back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenRecord {
    pub epoch: u64,
    /// Of each device the highest sequence; sorted by device.
    pub sequences: Vec<(DeviceKey, u64)>,
}

impl Store {
    /// Remembers what was seen; it never goes down.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remember_seen(
        &self,
        account: AccountKey,
        seen: &SeenRecord,
        unix_ms: u64,
    ) -> Result<(), StoreError> {
        let known = self.seen(account)?.unwrap_or_default();
        let merged = merge(&known, seen);
        let sequences: Vec<u8> = merged
            .sequences
            .iter()
            .flat_map(|(device, sequence)| device.0.into_iter().chain(sequence.to_be_bytes()))
            .collect();
        let sql = "INSERT INTO seen_records (account, epoch, sequences, seen_ms) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT (account) DO UPDATE SET epoch = ?2, sequences = ?3, seen_ms = ?4";
        let values = params![&account.0[..], to_sql(merged.epoch), sequences, to_sql(unix_ms)];
        self.connection.prepare_cached(sql)?.execute(values)?;
        self.prune_seen(unix_ms)
    }

    /// What was seen of an account.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn seen(&self, account: AccountKey) -> Result<Option<SeenRecord>, StoreError> {
        let sql = "SELECT epoch, sequences FROM seen_records WHERE account = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let row = statement
            .query_row([&account.0[..]], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))
            .optional()?;
        let Some((epoch, bytes)) = row else { return Ok(None) };
        let mut sequences = Vec::with_capacity(bytes.len() / ENTRY_LEN);
        for entry in bytes.chunks_exact(ENTRY_LEN) {
            let (device, sequence) = entry.split_at(32);
            let mut number = [0; 8];
            number.copy_from_slice(sequence);
            sequences.push((DeviceKey(key(device)?), u64::from_be_bytes(number)));
        }
        Ok(Some(SeenRecord { epoch: from_sql(epoch), sequences }))
    }

    /// Remembers a verified device set, if none that outranks it was seen.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remember_device_set(&self, set: &DeviceSet, unix_ms: u64) -> Result<(), StoreError> {
        let seen = SeenRecord { epoch: set.epoch(), sequences: Vec::new() };
        self.remember_seen(set.account(), &seen, unix_ms)?;
        let known = self.device_set(set.account())?;
        let known = known.and_then(|signed| DeviceSet::verify(&signed, set.account(), unix_ms).ok());
        if known.is_some_and(|known| known.outranks(set)) {
            return Ok(());
        }
        let sql = "UPDATE seen_records SET device_set = ?2 WHERE account = ?1 AND epoch = ?3";
        let values = params![&set.account().0[..], set.signed().encode_to_vec(), to_sql(set.epoch())];
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    /// The newest device set remembered of an account; verify it again, since it may have expired.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn device_set(&self, account: AccountKey) -> Result<Option<Signed>, StoreError> {
        let sql = "SELECT device_set FROM seen_records WHERE account = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let bytes: Option<Option<Vec<u8>>> =
            statement.query_row([&account.0[..]], |row| row.get(0)).optional()?;
        Ok(bytes.flatten().and_then(|bytes| Signed::decode(bytes.as_slice()).ok()))
    }

    pub(super) fn prune_seen(&self, unix_ms: u64) -> Result<(), StoreError> {
        let oldest = to_sql(unix_ms.saturating_sub(KEPT_MS));
        self.connection.prepare_cached("DELETE FROM seen_records WHERE seen_ms < ?1")?.execute([oldest])?;
        let sql = "DELETE FROM seen_records WHERE account IN
                   (SELECT account FROM seen_records ORDER BY seen_ms DESC, rowid DESC LIMIT -1 OFFSET ?1)";
        self.connection.prepare_cached(sql)?.execute([to_sql(SEEN_MAX)])?;
        Ok(())
    }
}

/// A higher epoch begins anew: devices outside it are dead. Within one, each sequence only rises.
fn merge(known: &SeenRecord, seen: &SeenRecord) -> SeenRecord {
    let mut merged = if seen.epoch >= known.epoch { seen.clone() } else { known.clone() };
    if seen.epoch != known.epoch {
        // A device that lives on keeps what was seen of it.
        let other = if seen.epoch > known.epoch { known } else { seen };
        for (device, sequence) in &mut merged.sequences {
            if let Some((_, before)) = other.sequences.iter().find(|(key, _)| key == device) {
                *sequence = (*sequence).max(*before);
            }
        }
    } else {
        for (device, sequence) in &known.sequences {
            match merged.sequences.iter_mut().find(|(key, _)| key == device) {
                Some((_, newer)) => *newer = (*newer).max(*sequence),
                None => merged.sequences.push((*device, *sequence)),
            }
        }
    }
    merged.sequences.sort_unstable();
    merged
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use tandem_proto::identity::AccountSecret;
    use tandem_proto::signed::DeviceEntry;

    use super::*;

    #[test]
    fn the_newest_device_set_is_kept_beside_what_was_seen() {
        // Within 400 days of their end, or they do not verify.
        const NOW_MS: u64 = 1_999_000_000_000;
        let store = Store::in_memory().unwrap();
        let secret = AccountSecret::from_seed(&[1; 32]);
        let account = secret.public();
        let entry = DeviceEntry { device: DeviceKey([2; 32]), serial: 1 };
        let set = |epoch| DeviceSet::issue(&secret, epoch, &[entry], 2_000_000_000).unwrap();
        assert_eq!(store.device_set(account).unwrap(), None);
        store.remember_device_set(&set(5), NOW_MS).unwrap();
        store.remember_device_set(&set(4), NOW_MS).unwrap();
        assert_eq!(store.device_set(account).unwrap(), Some(set(5).signed().clone()));
        let mut of_one_epoch = [set(5), DeviceSet::issue(&secret, 5, &[entry], 2_000_000_001).unwrap()];
        of_one_epoch.sort_by(|a, b| if a.outranks(b) { Ordering::Less } else { Ordering::Greater });
        for set in of_one_epoch.iter().chain(&of_one_epoch) {
            store.remember_device_set(set, NOW_MS).unwrap();
            assert_eq!(store.device_set(account).unwrap(), Some(of_one_epoch[0].signed().clone()));
        }
        let later = SeenRecord { epoch: 6, sequences: vec![(entry.device, 9)] };
        store.remember_seen(account, &later, NOW_MS).unwrap();
        assert_eq!(store.device_set(account).unwrap(), Some(of_one_epoch[0].signed().clone()));
        assert_eq!(store.seen(account).unwrap(), Some(later));
    }

    #[test]
    fn what_was_seen_never_goes_down() {
        let store = Store::in_memory().unwrap();
        let account = AccountKey([1; 32]);
        let record = |epoch, sequences: &[(u8, u64)]| SeenRecord {
            epoch,
            sequences: sequences.iter().map(|(key, sequence)| (DeviceKey([*key; 32]), *sequence)).collect(),
        };
        store.remember_seen(account, &record(2, &[(1, 10), (2, 5)]), 1).unwrap();
        store.remember_seen(account, &record(2, &[(1, 9), (2, 6)]), 2).unwrap();
        assert_eq!(store.seen(account).unwrap(), Some(record(2, &[(1, 10), (2, 6)])));
        store.remember_seen(account, &record(1, &[(3, 99)]), 3).unwrap();
        assert_eq!(store.seen(account).unwrap(), Some(record(2, &[(1, 10), (2, 6)])));
        store.remember_seen(account, &record(3, &[(1, 1)]), 4).unwrap();
        assert_eq!(store.seen(account).unwrap(), Some(record(3, &[(1, 10)])));
    }
}
