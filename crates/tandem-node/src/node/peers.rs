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
use crate::policy::Warden;

/// Supernodes remembered; further ones are not taken up until [`PeerTable::trim`] has made room.
const PEERS_MAX: usize = 4096;
/// More than this are cut down to …
const PEERS_CROWDED: usize = 3072;
/// … this many.
const PEERS_TRIMMED: usize = 2048;
/// Nobody can fill the table alone: new ones taken up from one supernode until the next cut.
const TOLD_BY_ONE_MAX: u16 = 256;
const ADDRESSES_MAX: usize = tandem_proto::signed::ADDRESSES_MAX;
const HTTPS_PORT: u16 = 443;

/// One table for all machines of the node, so that a [`PeerRef`] means the same everywhere.
#[derive(Debug, Default)]
pub(crate) struct PeerTable {
    peers: BTreeMap<PeerRef, Peer>,
    by_key: BTreeMap<ServiceKey, PeerRef>,
    /// Never given twice.
    next: u32,
    /// Descriptors taken up so far.
    told: u64,
    warden: Warden,
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
    /// How many it told of that were new.
    told_others: u16,
    /// Taken up by its address: where this node begins.
    kept: bool,
}

impl PeerTable {
    /// A table that takes up whom the policy allows, at the addresses that it allows.
    pub(crate) fn under(warden: Warden) -> Self {
        Self { warden, ..Self::default() }
    }

    /// Takes up a supernode that is known by its address only (bootstrap list, a home in a record). It stays.
    pub(crate) fn insert(&mut self, address: &SupernodeAddress) -> Option<PeerRef> {
        let known = self.by_key.get(&address.service).copied();
        let allowed = self.allowed(address.service, &address.addresses)?;
        let peer = known.or_else(|| self.add(address.service, allowed, None))?;
        self.peers.get_mut(&peer)?.kept = true;
        Some(peer)
    }

    /// Takes up what a supernode says of itself, as told by `from`; an older descriptor changes nothing.
    pub(crate) fn insert_descriptor(
        &mut self,
        descriptor: SupernodeDescriptor,
        from: Option<PeerRef>,
    ) -> Option<PeerRef> {
        self.told += 1;
        let service = descriptor.service();
        let addresses: Vec<Vec<u8>> = descriptor.addresses().iter().take(ADDRESSES_MAX).cloned().collect();
        let addresses = self.allowed(service, &addresses)?;
        let Some(peer) = self.by_key.get(&service).copied() else {
            if let Some(teller) = from.and_then(|from| self.peers.get_mut(&from)) {
                if teller.told_others >= TOLD_BY_ONE_MAX {
                    return None;
                }
                teller.told_others += 1;
            }
            return self.add(service, addresses, Some(descriptor));
        };
        let network = network_of(&addresses);
        let entry = self.peers.get_mut(&peer)?;
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
        let peer = self.by_key.get(service).and_then(|peer| self.peers.get_mut(peer));
        if let Some(entry) = peer {
            entry.seen_network = Some(network_group(ip));
        }
    }

    /// One of our homes, or our own supernode, names it.
    pub(crate) fn named_by_home(&mut self, service: &ServiceKey) {
        let peer = self.by_key.get(service).and_then(|peer| self.peers.get_mut(peer));
        if let Some(entry) = peer {
            entry.by_home = true;
        }
    }

    /// Whether one of our homes, or our own supernode, named it in this run.
    pub(crate) fn is_named_by_home(&self, service: &ServiceKey) -> bool {
        self.by_key(service).is_some_and(|(_, peer)| peer.by_home)
    }

    /// Supernodes come and go: forgets those that were not spoken of for the longest time when there are many, but none
    /// that `in_use` names. A [`PeerRef`] of one forgotten means nobody from then on.
    pub(crate) fn trim(&mut self, in_use: impl Fn(PeerRef) -> bool) {
        if self.peers.len() <= PEERS_CROWDED {
            return;
        }
        let free = self.peers.iter().filter(|(peer, entry)| !entry.kept && !in_use(**peer));
        let mut free: Vec<(u64, PeerRef)> = free.map(|(peer, entry)| (entry.told, *peer)).collect();
        free.sort_unstable();
        for (_, peer) in free.into_iter().take(self.peers.len() - PEERS_TRIMMED) {
            if let Some(entry) = self.peers.remove(&peer) {
                self.by_key.remove(&entry.service);
            }
        }
        for entry in self.peers.values_mut() {
            entry.told_others = 0;
        }
    }

    pub(crate) fn get(&self, peer: PeerRef) -> Option<&Peer> {
        self.peers.get(&peer)
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
            .values()
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

    /// Of a supernode's addresses those that the policy allows; `None` where that leaves nothing.
    fn allowed(&self, service: ServiceKey, addresses: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
        let policy = self.warden.policy();
        policy.may_know(service).ok()?;
        let allowed = policy.allowed_addresses(service, addresses);
        (addresses.is_empty() || !allowed.is_empty()).then_some(allowed)
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
        let peer = PeerRef(self.next);
        self.next = self.next.checked_add(1)?;
        let network = network_of(&addresses);
        let entry = Peer {
            service,
            addresses,
            descriptor,
            network,
            seen_network: None,
            by_home: false,
            told: self.told,
            told_others: 0,
            kept: false,
        };
        self.peers.insert(peer, entry);
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

#[cfg(test)]
mod tests {
    use tandem_proto::identity::ServiceSecret;
    use tandem_proto::signed::{NewDescriptor, Roles};

    use super::*;

    fn descriptor(n: u32) -> SupernodeDescriptor {
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&n.to_le_bytes());
        let address =
            TransportAddress { ip: [198, 51, 100, 1].into(), port: 4000, transport: Transport::Tcp };
        let new = NewDescriptor {
            sequence: 1,
            not_after_s: 2_000_000_000,
            roles: Roles::DIRECTORY,
            addresses: vec![address.to_bytes()],
            relay: Vec::new(),
            load_percent: 0,
            software: String::new(),
            echo: None,
        };
        SupernodeDescriptor::issue(&ServiceSecret::from_seed(&seed), new).unwrap()
    }

    #[test]
    fn nobody_fills_the_table_alone() {
        let mut table = PeerTable::default();
        let teller = table.insert_descriptor(descriptor(0), None).unwrap();
        let other = table.insert_descriptor(descriptor(1), None).unwrap();
        let taken = (10..1_000).filter(|n| table.insert_descriptor(descriptor(*n), Some(teller)).is_some());
        assert_eq!(taken.count(), usize::from(TOLD_BY_ONE_MAX));
        assert!(table.insert_descriptor(descriptor(2_000), Some(other)).is_some());
        assert!(table.insert_descriptor(descriptor(10), Some(teller)).is_some(), "that one is known");
    }

    #[test]
    fn who_was_not_spoken_of_for_long_makes_room_and_who_is_used_stays() {
        let mut table = PeerTable::default();
        let first = descriptor(0);
        let at = SupernodeAddress { service: first.service(), addresses: first.addresses().to_vec() };
        let bootstrap = table.insert(&at).unwrap();
        let home = table.insert_descriptor(descriptor(1), None).unwrap();
        let old = table.insert_descriptor(descriptor(2), None).unwrap();
        let count = u32::try_from(PEERS_CROWDED).unwrap();
        let last = (10..10 + count).filter_map(|n| table.insert_descriptor(descriptor(n), None)).last();
        table.trim(|peer| peer == home);
        assert_eq!(table.len(), PEERS_TRIMMED);
        for kept in [bootstrap, home, last.unwrap()] {
            assert!(table.get(kept).is_some());
        }
        assert!(table.get(old).is_none() && table.by_key(&descriptor(2).service()).is_none());
        let again = table.insert_descriptor(descriptor(2), None).unwrap();
        assert_ne!(again, old, "a number means one supernode for ever");
    }
}
