//! What the node remembers from one run to the next, in the store. A disk that fails costs memory, never a call.

use prost::Message;
use tandem_proto::ids::AccountKey;
use tandem_proto::network::network_group;
use tandem_proto::record::Seen;
use tandem_proto::signed::{DeviceSet, SupernodeDescriptor};
use tandem_proto::wire;

use crate::installation::unix_ms;
use crate::overlay::SupernodeAddress;
use crate::store::{SeenRecord, Store, StoreError, StoredCall};

/// Remembered supernodes tried at the start, best first.
const SUPERNODES_TRIED: u32 = 64;
/// The setting that holds what the relay forwarded this month.
const TRAFFIC: &str = "relay_month";

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

/// The epoch of a device set is what matters against a revoked device.
pub(crate) fn remember_device_set(store: &Store, account: AccountKey, signed: &wire::Signed) {
    if let Ok(set) = DeviceSet::verify(signed, account, unix_ms()) {
        let seen = SeenRecord { epoch: set.epoch(), sequences: Vec::new() };
        note(store.remember_seen(account, &seen, unix_ms()));
    }
}

pub(crate) fn remember_call(store: &Store, call: &StoredCall) {
    note(store.add_call(call));
}

/// What the relay forwarded this month, as the supernode wrote it down.
pub(crate) fn traffic(store: &Store) -> Option<String> {
    store.setting(TRAFFIC).unwrap_or_else(|error| {
        tracing::warn!(%error, "this month's traffic cannot be read; it is counted from nothing");
        None
    })
}

pub(crate) fn remember_traffic(store: &Store, traffic: &str) {
    note(store.set_setting(TRAFFIC, traffic));
}

fn note(result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "the store could not be written");
    }
}
