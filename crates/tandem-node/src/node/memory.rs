//! What the node remembers from one run to the next, in the store. A disk that fails costs memory, never a call.

use data_encoding::HEXLOWER;
use prost::Message;
use serde::{Deserialize, Serialize};
use tandem_proto::ids::{AccountKey, DeviceKey};
use tandem_proto::network::network_group;
use tandem_proto::record::{ReachRecord, Seen};
use tandem_proto::signed::{DEVICES_MAX, DeviceCertificate, DeviceSet, SupernodeDescriptor};
use tandem_proto::wire;

use super::quality::{FORGOTTEN_MS, Qualities};
use crate::installation::unix_ms;
use crate::overlay::SupernodeAddress;
use crate::store::{SeenRecord, Store, StoreError, StoredCall, SupernodeQuality};

/// Remembered supernodes tried at the start, best first.
const SUPERNODES_TRIED: u32 = 64;

/// Where remembered supernodes were last. What they said then may have expired: it is good enough to try.
pub(crate) fn remembered_supernodes(store: &Store) -> Vec<SupernodeAddress> {
    let stored = store.supernodes(SUPERNODES_TRIED).unwrap_or_else(|error| {
        tracing::warn!(%error, "the remembered supernodes cannot be read");
        Vec::new()
    });
    stored
        .iter()
        .filter_map(|known| {
            let said = wire::SupernodeDescriptor::decode(known.descriptor.payload.as_slice()).ok()?;
            Some(SupernodeAddress { service: known.service, addresses: said.addresses })
        })
        .collect()
}

pub(crate) fn remember_supernodes(store: &Store, descriptors: &[SupernodeDescriptor]) {
    for descriptor in descriptors {
        let network = descriptor.known_addresses().next().map_or(0, |address| network_group(address.ip));
        note(store.remember_supernode(descriptor.service(), descriptor.signed(), network, unix_ms()));
    }
}

/// What was measured of homes in earlier runs.
pub(crate) fn qualities(store: &Store) -> Qualities {
    let stored = store.qualities(unix_ms().saturating_sub(FORGOTTEN_MS)).unwrap_or_else(|error| {
        tracing::warn!(%error, "what was measured of supernodes cannot be read");
        Vec::new()
    });
    Qualities::new(stored)
}

pub(crate) fn remember_qualities(store: &Store, measured: &[SupernodeQuality]) {
    if !measured.is_empty() {
        note(store.remember_qualities(measured));
    }
}

pub(crate) fn remember_seen(store: &Store, account: AccountKey, seen: &Seen) {
    let record = SeenRecord { epoch: seen.epoch, sequences: seen.sequences.clone() };
    note(store.remember_seen(account, &record, unix_ms()));
}

/// The newest ever seen of an account.
pub(crate) fn seen(store: &Store, account: AccountKey) -> Option<Seen> {
    match store.seen(account) {
        Ok(record) => record.map(|record| Seen { epoch: record.epoch, sequences: record.sequences }),
        Err(error) => {
            tracing::warn!(%error, "what was seen of an account cannot be read");
            None
        }
    }
}

/// Where a contact was found, to be tried without the directory. Nothing is kept of other accounts.
pub(crate) fn remember_record(store: &Store, account: AccountKey, record: &[u8]) {
    note(store.remember_homes(account, record));
}

/// Where a contact was found last, if any of it still holds.
pub(crate) fn remembered_record(store: &Store, account: AccountKey) -> Option<ReachRecord> {
    let bytes = store.remembered_homes(account).unwrap_or_else(|error| {
        tracing::warn!(%error, "where a contact was last cannot be read");
        None
    })?;
    ReachRecord::decode_verified(&bytes, account, unix_ms()).ok()
}

/// A device set is what matters against a revoked device.
pub(crate) fn remember_device_set(store: &Store, account: AccountKey, signed: &wire::Signed) {
    if let Ok(set) = DeviceSet::verify(signed, account, unix_ms()) {
        note(store.remember_device_set(&set, unix_ms()));
    }
}

/// The newest device set remembered of an account, if it still holds.
pub(crate) fn device_set(store: &Store, account: AccountKey) -> Option<DeviceSet> {
    let signed = store.device_set(account).unwrap_or_else(|error| {
        tracing::warn!(%error, "the device set of an account cannot be read");
        None
    })?;
    DeviceSet::verify(&signed, account, unix_ms()).ok()
}

pub(crate) fn remember_call(store: &Store, call: &StoredCall) {
    note(store.add_call(call));
}

fn note(result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "the store could not be written");
    }
}

/// The setting that holds what is known of the account's devices.
const DEVICES: &str = "devices";

/// A device of the own account, by the certificate that was issued or shown for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownDevice {
    pub(crate) certificate: DeviceCertificate,
    pub(crate) added_unix_ms: u64,
    /// It was added by link, so the account key is not on it.
    pub(crate) by_link: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredDevice {
    device: String,
    /// A `Signed`, in hexadecimal.
    certificate: String,
    added_unix_ms: u64,
    by_link: bool,
}

/// Whatever can be read and still holds.
pub(crate) fn known_devices(store: &Store, account: AccountKey, unix_ms: u64) -> Vec<KnownDevice> {
    let known = |stored: StoredDevice| {
        let bytes = HEXLOWER.decode(stored.certificate.as_bytes()).ok()?;
        let signed = wire::Signed::decode(bytes.as_slice()).ok()?;
        let device: DeviceKey = stored.device.parse().ok()?;
        let certificate = DeviceCertificate::verify(&signed, device, unix_ms).ok()?;
        let ours = certificate.account() == account;
        let (added_unix_ms, by_link) = (stored.added_unix_ms, stored.by_link);
        ours.then_some(KnownDevice { certificate, added_unix_ms, by_link })
    };
    stored_devices(store).into_iter().filter_map(known).collect()
}

/// Labels of all devices that are remembered, those whose papers ran out too.
pub(crate) fn device_labels(store: &Store) -> Vec<String> {
    let label = |stored: StoredDevice| {
        let bytes = HEXLOWER.decode(stored.certificate.as_bytes()).ok()?;
        let signed = wire::Signed::decode(bytes.as_slice()).ok()?;
        Some(wire::DeviceCertificate::decode(signed.payload.as_slice()).ok()?.label)
    };
    stored_devices(store).into_iter().filter_map(label).collect()
}

/// Keeps a device's certificate in place of the one before. `by_link`: how it was added, where that is known.
pub(crate) fn remember_device(
    store: &Store,
    certificate: &DeviceCertificate,
    by_link: Option<bool>,
    unix_ms: u64,
) {
    let device = certificate.device().to_string();
    let mut devices = stored_devices(store);
    let before = devices.iter().position(|stored| stored.device == device).map(|at| devices.remove(at));
    devices.push(StoredDevice {
        device,
        certificate: HEXLOWER.encode(&certificate.signed().encode_to_vec()),
        added_unix_ms: before.as_ref().map_or(unix_ms, |before| before.added_unix_ms),
        by_link: by_link.unwrap_or_else(|| before.is_some_and(|before| before.by_link)),
    });
    // Those that were added and revoked meanwhile make room.
    let surplus = devices.len().saturating_sub(2 * DEVICES_MAX);
    devices.drain(..surplus);
    write_devices(store, &devices);
}

pub(crate) fn forget_device(store: &Store, device: DeviceKey) {
    let mut devices = stored_devices(store);
    devices.retain(|stored| stored.device != device.to_string());
    write_devices(store, &devices);
}

/// The setting that holds the keys of devices that were revoked here.
const REVOKED: &str = "revoked_devices";
/// So many are remembered; the oldest makes room.
const REVOKED_MAX: usize = 64;

/// Devices that this one revoked: none of them may come back.
pub(crate) fn revoked_devices(store: &Store) -> Vec<DeviceKey> {
    stored_revoked(store).iter().filter_map(|key| key.parse().ok()).collect()
}

pub(crate) fn remember_revoked(store: &Store, device: DeviceKey) {
    let mut keys = stored_revoked(store);
    let key = device.to_string();
    if keys.contains(&key) {
        return;
    }
    keys.push(key);
    keys.drain(..keys.len().saturating_sub(REVOKED_MAX));
    let text = serde_json::to_string(&keys).expect("invariant: plain data is written as JSON");
    note(store.set_setting(REVOKED, &text));
}

fn stored_revoked(store: &Store) -> Vec<String> {
    let text = store.setting(REVOKED).unwrap_or_else(|error| {
        tracing::warn!(%error, "which devices were revoked here cannot be read");
        None
    });
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn stored_devices(store: &Store) -> Vec<StoredDevice> {
    let text = store.setting(DEVICES).unwrap_or_else(|error| {
        tracing::warn!(%error, "what is known of the account's devices cannot be read");
        None
    });
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn write_devices(store: &Store, devices: &[StoredDevice]) {
    let text = serde_json::to_string(devices).expect("invariant: plain data is written as JSON");
    note(store.set_setting(DEVICES, &text));
}
