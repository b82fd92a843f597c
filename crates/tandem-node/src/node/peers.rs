//! The supernodes this node knows: policy's small numbers, their keys, where they are, what they said of themselves.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tandem_core::peer::{KnownPeer, PeerRef, release};
use tandem_proto::ids::ServiceKey;
use tandem_proto::multiaddr::{Transport, TransportAddress};
use tandem_proto::network::{group_of_all, network_group};
use tandem_proto::signed::SupernodeDescriptor;
use tandem_proto::wire::Signed;

use crate::overlay::SupernodeAddress;

/// Supernodes remembered in one run; further ones are not taken up.
const PEERS_MAX: usize = 4096;
const ADDRESSES_MAX: usize = tandem_proto::signed::ADDRESSES_MAX;
const HTTPS_PORT: u16 = 443;

/// One table for all machines of the node, so that a [`PeerRef`] means the same everywhere.
#[derive(Debug, Default)]
pub(crate) struct PeerTable {
    peers: Vec<Peer>,
    by_key: BTreeMap<ServiceKey, PeerRef>,
    /// Descriptors taken up so far.
    told: u64,
}

/// A supernode.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) service: ServiceKey,
    /// Binary multiaddrs without `/p2p`.
    pub(crate) addresses: Vec<Vec<u8>>,
    pub(crate) descriptor: Option<SupernodeDescriptor>,
    /// By what it says of itself.
    network: u32,
    /// By the address at which it proved its key to us.
    seen_network: Option<u32>,
    /// One of our homes, or our own supernode, told us of it.
    by_home: bool,
    /// When its descriptor was told last, counted in descriptors.
    told: u64,
}

impl PeerTable {
    /// Takes up a supernode that is known by its address only (bootstrap list, a home in a record).
    pub(crate) fn insert(&mut self, address: &SupernodeAddress) -> Option<PeerRef> {
        if let Some(peer) = self.by_key.get(&address.service) {
            return Some(*peer);
        }
        self.add(address.service, address.addresses.clone(), None)
    }

    /// Takes up what a supernode says of itself; an older descriptor changes nothing.
    pub(crate) fn insert_descriptor(&mut self, descriptor: SupernodeDescriptor) -> Option<PeerRef> {
        self.told += 1;
        let service = descriptor.service();
        let addresses: Vec<Vec<u8>> = descriptor.addresses().iter().take(ADDRESSES_MAX).cloned().collect();
        let Some(peer) = self.by_key.get(&service).copied() else {
            return self.add(service, addresses, Some(descriptor));
        };
        let network = network_of(&addresses);
        let entry = self.peers.get_mut(peer.0 as usize)?;
        entry.told = self.told;
        if entry.descriptor.as_ref().is_none_or(|known| known.sequence() < descriptor.sequence()) {
            entry.addresses = addresses;
            entry.network = network;
            entry.descriptor = Some(descriptor);
        }
        Some(peer)
    }

    /// It has proved its key on a connection to this address: its network is that one, whatever it says.
    pub(crate) fn met(&mut self, service: &ServiceKey, ip: IpAddr) {
        let peer = self.by_key.get(service).and_then(|peer| self.peers.get_mut(peer.0 as usize));
        if let Some(entry) = peer {
            entry.seen_network = Some(network_group(ip));
        }
    }

    /// One of our homes, or our own supernode, names it.
    pub(crate) fn named_by_home(&mut self, service: &ServiceKey) {
        let peer = self.by_key.get(service).and_then(|peer| self.peers.get_mut(peer.0 as usize));
        if let Some(entry) = peer {
            entry.by_home = true;
        }
    }

    /// Whether one of our homes, or our own supernode, named it in this run.
    pub(crate) fn is_named_by_home(&self, service: &ServiceKey) -> bool {
        self.by_key(service).is_some_and(|(_, peer)| peer.by_home)
    }

    pub(crate) fn get(&self, peer: PeerRef) -> Option<&Peer> {
        self.peers.get(peer.0 as usize)
    }

    pub(crate) fn by_key(&self, service: &ServiceKey) -> Option<(PeerRef, &Peer)> {
        let peer = *self.by_key.get(service)?;
        Some((peer, self.get(peer)?))
    }

    /// As policy wants it told.
    pub(crate) fn known(&self, peer: PeerRef, referrer: Option<PeerRef>) -> Option<KnownPeer> {
        let entry = self.get(peer)?;
        let port_443 = entry
            .addresses
            .iter()
            .filter_map(|bytes| TransportAddress::from_bytes(bytes).ok())
            .any(|address| address.transport == Transport::Tcp && address.port == HTTPS_PORT);
        let software = entry.descriptor.as_ref().map_or("", SupernodeDescriptor::software);
        let network = entry.seen_network.unwrap_or(entry.network);
        Some(KnownPeer { peer, network, referrer, port_443, release: release(software) })
    }

    /// Where a supernode is, for the overlay.
    pub(crate) fn address(&self, peer: PeerRef) -> Option<SupernodeAddress> {
        let entry = self.get(peer)?;
        Some(SupernodeAddress { service: entry.service, addresses: entry.addresses.clone() })
    }

    /// Descriptors that are still valid, in no telling order.
    pub(crate) fn descriptors(&self, unix_ms: u64) -> impl Iterator<Item = &SupernodeDescriptor> {
        self.peers
            .iter()
            .filter_map(|peer| peer.descriptor.as_ref())
            .filter(move |descriptor| descriptor.check_time(unix_ms).is_ok())
    }

    /// Greater for a supernode whose descriptor was told later.
    pub(crate) fn told(&self, service: ServiceKey) -> u64 {
        self.by_key(&service).map_or(0, |(_, peer)| peer.told)
    }

    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    fn add(
        &mut self,
        service: ServiceKey,
        addresses: Vec<Vec<u8>>,
        descriptor: Option<SupernodeDescriptor>,
    ) -> Option<PeerRef> {
        if self.peers.len() >= PEERS_MAX {
            return None;
        }
        let peer = PeerRef(u32::try_from(self.peers.len()).ok()?);
        let network = network_of(&addresses);
        self.peers.push(Peer {
            service,
            addresses,
            descriptor,
            network,
            seen_network: None,
            by_home: false,
            told: self.told,
        });
        self.by_key.insert(service, peer);
        Some(peer)
    }
}

/// The network of the addresses that can be read.
fn network_of(addresses: &[Vec<u8>]) -> u32 {
    let readable = addresses.iter().filter_map(|bytes| TransportAddress::from_bytes(bytes).ok());
    group_of_all(readable.map(|address| address.ip))
}

/// The descriptors among these that verify now.
pub(crate) fn verified(signed: &[Signed], unix_ms: u64) -> Vec<SupernodeDescriptor> {
    signed.iter().filter_map(|signed| SupernodeDescriptor::verify(signed, unix_ms).ok()).collect()
}
