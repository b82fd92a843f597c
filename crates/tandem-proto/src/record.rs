//! Reach records (spec/records.md): the directory's entry for an account.

use prost::Message;
use thiserror::Error;

use crate::domain::sha256;
use crate::ids::{AccountKey, DeviceKey};
use crate::signed::{DEVICES_MAX, DeviceHomes, DeviceSet, SignedError};
use crate::wire;

pub use crate::signed::next_sequence;

/// Most bytes of an encoded record. The limits of its parts make sure that merging never goes above it.
pub const RECORD_BYTES_MAX: usize = 6144;

/// The key of an account in the directory: SHA-256 of the account key. The directory puts
/// `/tandem/<network>/` before it ([`crate::names::NetworkId::record_key`]).
#[must_use]
pub fn directory_key(account: AccountKey) -> [u8; 32] {
    sha256(account.as_bytes())
}

/// Verified: a device set and the homes of its devices.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReachRecord {
    device_set: DeviceSet,
    /// Sorted by device, one each, all of them in the set.
    homes: Vec<DeviceHomes>,
}

/// Why a record was refused as a whole. Written for a log.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RecordError {
    /// More bytes than a record may have.
    #[error("the record has {bytes} bytes and may have {RECORD_BYTES_MAX}")]
    TooLarge { bytes: usize },
    /// Not a protobuf of a record.
    #[error("the record cannot be decoded")]
    Malformed,
    /// The device set is not valid.
    #[error("the record's device set: {0}")]
    DeviceSet(SignedError),
    /// One device's homes are not valid (an expired entry alone is dropped instead).
    #[error("the homes of device {index} in the record: {error}")]
    DeviceHomes { index: usize, error: SignedError },
    /// More entries than an account may have devices.
    #[error("the record has homes of {count} devices and may have {DEVICES_MAX}")]
    TooManyEntries { count: usize },
    /// Two entries of one device.
    #[error("the record has two entries of one device")]
    DuplicateDevice,
    /// It had entries, and every one of them has expired.
    #[error("the record expired {} s ago", by_ms / 1000)]
    Expired { by_ms: u64 },
}

/// Two records of different accounts cannot be merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the records belong to different accounts")]
pub struct OtherAccount;

/// An entry that was left out of a record, and why. The rest of the record is good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dropped {
    pub device: DeviceKey,
    pub reason: DropReason,
}

/// Why an entry was left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum DropReason {
    /// The device set does not name this device: it was removed from the account.
    #[error("the device is not in the account's device set")]
    Revoked,
    /// The device has not renewed its entry.
    #[error("the entry expired {} s ago", by_ms / 1000)]
    Expired { by_ms: u64 },
}

impl ReachRecord {
    /// A record of a device set alone: what an account publishes first, or to remove a device.
    #[must_use]
    pub fn new(device_set: DeviceSet) -> Self {
        Self { device_set, homes: Vec::new() }
    }

    /// The same record with a device's homes, if they are newer than those it has and the set names the device.
    #[must_use]
    pub fn with_homes(mut self, homes: DeviceHomes) -> Self {
        if homes.account() == self.device_set.account() && self.device_set.contains(homes.device()) {
            insert(&mut self.homes, homes);
        }
        self
    }

    /// Decodes the record of `account` and verifies everything in it, at `unix_ms`. Entries that have expired or
    /// whose device is not in the set are left out; anything forged condemns the whole.
    ///
    /// # Errors
    /// [`RecordError`] says what is wrong.
    pub fn decode_verified(bytes: &[u8], account: AccountKey, unix_ms: u64) -> Result<Self, RecordError> {
        Self::decode_verified_noting(bytes, account, unix_ms, &mut Vec::new())
    }

    /// As [`Self::decode_verified`], and notes in `dropped` which entries were left out (at most 8).
    ///
    /// # Errors
    /// [`RecordError`] says what is wrong.
    pub fn decode_verified_noting(
        bytes: &[u8],
        account: AccountKey,
        unix_ms: u64,
        dropped: &mut Vec<Dropped>,
    ) -> Result<Self, RecordError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(RecordError::TooLarge { bytes: bytes.len() });
        }
        let message = wire::ReachRecord::decode(bytes).map_err(|_| RecordError::Malformed)?;
        Self::verify(&message, account, unix_ms, dropped)
    }

    /// Verifies a record that came inside another message.
    ///
    /// # Errors
    /// [`RecordError`] says what is wrong.
    pub fn verify(
        message: &wire::ReachRecord,
        account: AccountKey,
        unix_ms: u64,
        dropped: &mut Vec<Dropped>,
    ) -> Result<Self, RecordError> {
        let count = message.device_homes.len();
        if count > DEVICES_MAX {
            return Err(RecordError::TooManyEntries { count });
        }
        let signed = message.device_set.as_ref().ok_or(RecordError::DeviceSet(SignedError::Missing))?;
        let device_set = DeviceSet::verify(signed, account, unix_ms).map_err(RecordError::DeviceSet)?;
        let mut record = Self::new(device_set);
        let mut expired_by_ms = None;
        for (index, signed) in message.device_homes.iter().enumerate() {
            match DeviceHomes::verify(signed, account, unix_ms) {
                Ok(homes) => record.take_entry(homes, dropped)?,
                Err(SignedError::Expired { by_ms }) => {
                    expired_by_ms = Some(expired_by_ms.map_or(by_ms, |least: u64| least.min(by_ms)));
                    note_expired(signed, by_ms, dropped);
                }
                Err(error) => return Err(RecordError::DeviceHomes { index, error }),
            }
        }
        match expired_by_ms {
            Some(by_ms) if record.homes.is_empty() => Err(RecordError::Expired { by_ms }),
            _ => Ok(record),
        }
    }

    /// Both records in one: the highest epoch's device set, and of each of its devices the homes of the highest
    /// sequence. Among equals the greater bytes win, so the order of merging never matters.
    ///
    /// # Errors
    /// [`OtherAccount`] when they belong to different accounts.
    pub fn merge(&self, other: &Self) -> Result<Self, OtherAccount> {
        if self.account() != other.account() {
            return Err(OtherAccount);
        }
        let device_set = if other.device_set.outranks(&self.device_set) {
            other.device_set.clone()
        } else {
            self.device_set.clone()
        };
        let merged = Self::new(device_set);
        Ok(self.homes.iter().chain(&other.homes).cloned().fold(merged, Self::with_homes))
    }

    /// The bytes the directory stores; the same for the same content.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.to_wire().encode_to_vec()
    }

    /// For use inside another message.
    #[must_use]
    pub fn to_wire(&self) -> wire::ReachRecord {
        wire::ReachRecord {
            device_set: Some(self.device_set.signed().clone()),
            device_homes: self.homes.iter().map(|homes| homes.signed().clone()).collect(),
        }
    }

    /// Whose record it is.
    #[must_use]
    pub fn account(&self) -> AccountKey {
        self.device_set.account()
    }

    /// The account's devices.
    #[must_use]
    pub fn device_set(&self) -> &DeviceSet {
        &self.device_set
    }

    /// The live entries, sorted by device.
    #[must_use]
    pub fn homes(&self) -> &[DeviceHomes] {
        &self.homes
    }

    /// One device's entry.
    #[must_use]
    pub fn homes_of(&self, device: DeviceKey) -> Option<&DeviceHomes> {
        let index = self.homes.binary_search_by_key(&device, DeviceHomes::device).ok()?;
        Some(&self.homes[index])
    }

    /// Whether somebody hands out an older state than the reader has seen before.
    #[must_use]
    pub fn is_older_than(&self, seen: &Seen) -> bool {
        self.rollback(seen).is_some()
    }

    /// What is older than the reader has seen before, for the log. An entry that is missing is not a rollback: it
    /// may have expired.
    #[must_use]
    pub fn rollback(&self, seen: &Seen) -> Option<Rollback> {
        let epoch = self.device_set.epoch();
        if epoch < seen.epoch {
            return Some(Rollback::Epoch { shown: epoch, seen: seen.epoch });
        }
        self.homes.iter().find_map(|homes| {
            let (device, shown) = (homes.device(), homes.sequence());
            let seen = seen.sequence_of(device)?;
            (shown < seen).then_some(Rollback::Sequence { device, shown, seen })
        })
    }

    /// An entry whose signature and time are good.
    fn take_entry(&mut self, homes: DeviceHomes, dropped: &mut Vec<Dropped>) -> Result<(), RecordError> {
        let device = homes.device();
        if !self.device_set.contains(device) {
            dropped.push(Dropped { device, reason: DropReason::Revoked });
            return Ok(());
        }
        if self.homes_of(device).is_some() {
            return Err(RecordError::DuplicateDevice);
        }
        insert(&mut self.homes, homes);
        Ok(())
    }
}

/// What a reader remembers of an account, so that nobody can show it an older state again. At most 8 sequences.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    pub epoch: u64,
    /// Sorted by device.
    pub sequences: Vec<(DeviceKey, u64)>,
}

/// An older state than the reader has seen before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Rollback {
    #[error("the record is rolled back: it has epoch {shown}, and {seen} was seen before")]
    Epoch { shown: u64, seen: u64 },
    #[error("the record is rolled back: {device:?} has sequence {shown}, and {seen} was seen before")]
    Sequence { device: DeviceKey, shown: u64, seen: u64 },
}

impl Seen {
    /// Remembers a record, unless it is older than what is remembered. Devices outside the newest set are forgotten.
    pub fn note(&mut self, record: &ReachRecord) {
        if record.device_set.epoch() < self.epoch {
            return;
        }
        self.epoch = record.device_set.epoch();
        self.sequences.retain(|(device, _)| record.device_set.contains(*device));
        for homes in &record.homes {
            match self.sequences.binary_search_by_key(&homes.device(), |(device, _)| *device) {
                Ok(index) => self.sequences[index].1 = self.sequences[index].1.max(homes.sequence()),
                Err(index) => self.sequences.insert(index, (homes.device(), homes.sequence())),
            }
        }
    }

    fn sequence_of(&self, device: DeviceKey) -> Option<u64> {
        let index = self.sequences.binary_search_by_key(&device, |(device, _)| *device).ok()?;
        Some(self.sequences[index].1)
    }
}

/// Puts an entry in its place, or replaces the device's entry if the new one ranks higher.
fn insert(sorted: &mut Vec<DeviceHomes>, homes: DeviceHomes) {
    match sorted.binary_search_by_key(&homes.device(), DeviceHomes::device) {
        Ok(index) if homes_rank(&sorted[index]) < homes_rank(&homes) => sorted[index] = homes,
        Ok(_) => {}
        Err(index) => sorted.insert(index, homes),
    }
}

fn homes_rank(homes: &DeviceHomes) -> (u64, &[u8], &[u8]) {
    (homes.sequence(), &homes.signed().payload, &homes.signed().signature)
}

fn note_expired(signed: &wire::Signed, by_ms: u64, dropped: &mut Vec<Dropped>) {
    let device = wire::DeviceHomes::decode(signed.payload.as_slice())
        .ok()
        .and_then(|homes| DeviceKey::try_from(homes.device.as_slice()).ok());
    if let Some(device) = device {
        dropped.push(Dropped { device, reason: DropReason::Expired { by_ms } });
    }
}
