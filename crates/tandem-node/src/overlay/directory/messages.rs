//! Messages of libp2p's Kademlia (`dht.proto`), as much of them as a supernode needs to ask. Answering is libp2p's.

use libp2p::kad::RecordKey;
use libp2p::{Multiaddr, PeerId};
use prost::Message;

/// Addresses taken of one peer.
const ADDRESSES_MAX: usize = 8;

const PUT_VALUE: i32 = 0;
const GET_VALUE: i32 = 1;
const FIND_NODE: i32 = 4;

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct KadMessage {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    record: Option<KadRecord>,
    #[prost(message, repeated, tag = "8")]
    closer: Vec<KadPeer>,
}

#[derive(Clone, PartialEq, Message)]
struct KadRecord {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct KadPeer {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    addresses: Vec<Vec<u8>>,
}

impl KadMessage {
    pub(super) fn find(key: &RecordKey) -> Self {
        Self { kind: FIND_NODE, key: key.to_vec(), ..Self::default() }
    }

    pub(super) fn get(key: &RecordKey) -> Self {
        Self { kind: GET_VALUE, key: key.to_vec(), ..Self::default() }
    }

    pub(super) fn put(key: &RecordKey, value: Vec<u8>) -> Self {
        let record = KadRecord { key: key.to_vec(), value };
        Self { kind: PUT_VALUE, key: key.to_vec(), record: Some(record), ..Self::default() }
    }

    /// The value under that key, if this answer has one.
    pub(super) fn value(&self, key: &RecordKey) -> Option<&[u8]> {
        let record = self.record.as_ref().filter(|record| record.key == key.as_ref())?;
        Some(&record.value)
    }

    /// Those that it names, and where it says they are.
    pub(super) fn named(&self) -> impl Iterator<Item = (PeerId, Vec<Multiaddr>)> {
        self.closer.iter().filter_map(|peer| {
            let addresses = peer.addresses.iter().take(ADDRESSES_MAX);
            let addresses = addresses.filter_map(|bytes| Multiaddr::try_from(bytes.clone()).ok());
            Some((PeerId::from_bytes(&peer.id).ok()?, addresses.collect()))
        })
    }
}
