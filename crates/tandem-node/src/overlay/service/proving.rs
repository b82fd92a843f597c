//! Who is a supernode: whoever was reached under its key, where it says that others reach it. Nobody else is answered by
//! the directory ([`super::super::directory_limits`]).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tandem_core::election::Carrier;
use tandem_proto::ids::ServiceKey;

use super::super::address::{ip_of, key_of, transport_of};
use super::super::dial_back::DialBack;
use super::super::{Check, CheckOutcome, ServiceEvent};
use super::Service;

/// Peers that may be tried, and those that are being tried.
pub(super) struct Proofs {
    dials: DialBack,
    last: u64,
    /// Where connected peers say that they serve, and where they speak from.
    claims: BTreeMap<PeerId, (IpAddr, Vec<Multiaddr>)>,
    /// Never more than the dials that may be under way.
    trying: BTreeMap<u64, Trying>,
}

struct Trying {
    peer: PeerId,
    /// To be tried when this one fails.
    next: Vec<Multiaddr>,
}

impl Proofs {
    pub(super) fn new(dials: DialBack) -> Self {
        Self { dials, last: 0, claims: BTreeMap::new(), trying: BTreeMap::new() }
    }

    /// The next dial that came to something; `None` while there is none.
    pub(super) async fn next(&mut self) -> Option<(u64, CheckOutcome)> {
        match self.dials.next().await {
            Some(ServiceEvent::Checked { id, outcome }) => Some((id, outcome)),
            _ => None,
        }
    }

    /// What is still under way comes to nothing.
    pub(super) fn forget_all(&mut self) {
        self.claims.clear();
        self.trying.clear();
    }

    /// It is not connected any more.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.claims.remove(peer);
    }

    fn is_trying(&self, peer: &PeerId) -> bool {
        self.trying.values().any(|trying| trying.peer == *peer)
    }

    /// Dials the first of these. False: not one can be tried.
    fn begin(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>) -> bool {
        let Some(service) = key_of(&peer).map(ServiceKey) else { return false };
        while !addresses.is_empty() {
            let address = addresses.remove(0);
            let Some((at, carrier)) = place_of(&address) else { continue };
            self.last += 1;
            let check = Check { id: self.last, at, carrier, service, relay_port: None };
            if self.dials.begin(check).is_none() {
                self.trying.insert(self.last, Trying { peer, next: addresses });
                return true;
            }
        }
        false
    }
}

fn place_of(address: &Multiaddr) -> Option<(SocketAddr, Carrier)> {
    let port = address.iter().find_map(|part| match part {
        Protocol::Udp(port) | Protocol::Tcp(port) => Some(port),
        _ => None,
    })?;
    let carrier = if transport_of(address) == "quic" { Carrier::Udp } else { Carrier::Tcp };
    Some((SocketAddr::new(ip_of(address)?, port), carrier))
}

impl Service {
    /// This peer was reached where it serves.
    pub(super) fn is_supernode(&mut self, peer: PeerId) {
        self.door.directory().reached(peer, Instant::now());
        self.door.decided();
    }

    /// This peer says that it serves there. What was dialled has been reached; whoever came here is dialled back, once
    /// it asks something.
    pub(super) fn says_it_serves(&mut self, connection: ConnectionId, peer: PeerId, at: Vec<Multiaddr>) {
        let Some(connection) = self.connections.get(connection) else { return };
        if connection.point.is_dialer() {
            return self.is_supernode(peer);
        }
        if let Some(from) = connection.remote_ip().filter(|_| !at.is_empty()) {
            self.proofs.claims.insert(peer, (from, at));
            self.try_to_reach(peer);
        }
    }

    pub(super) fn try_those_who_ask(&mut self) {
        let asking = self.door.directory().asking();
        asking.into_iter().for_each(|peer| self.try_to_reach(peer));
    }

    fn try_to_reach(&mut self, peer: PeerId) {
        let Some((from, at)) = self.proofs.claims.get(&peer).cloned() else { return };
        if !self.proofs.is_trying(&peer) && self.door.directory().should_try(&peer, from, Instant::now()) {
            self.proofs.begin(peer, at);
        }
    }

    pub(super) fn tried(&mut self, id: u64, outcome: &CheckOutcome) {
        let Some(Trying { peer, next }) = self.proofs.trying.remove(&id) else { return };
        if *outcome == CheckOutcome::Reached {
            return self.is_supernode(peer);
        }
        if !self.proofs.begin(peer, next) {
            self.door.directory().missed(peer, Instant::now());
            self.door.decided();
        }
    }
}
