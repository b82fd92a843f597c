//! What a swarm knows of each of its connections.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use libp2p::core::ConnectedPoint;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tandem_proto::ids::{DeviceKey, ServiceKey};

use super::address::{circuit_relay, ip_of, key_of, transport_of};
use super::counting::{Counters, Unclaimed};
use super::{ConnectionInfo, PeerKey};
use crate::installation::unix_ms;

/// Open connections by their number.
#[derive(Debug, Default)]
pub(super) struct Connections {
    unclaimed: Unclaimed,
    open: BTreeMap<ConnectionId, Connection>,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: PeerId,
    pub(super) point: ConnectedPoint,
    since_unix_ms: u64,
    counters: Arc<Counters>,
}

impl Connection {
    pub(super) fn remote_ip(&self) -> Option<IpAddr> {
        if self.point.is_relayed() { None } else { ip_of(self.point.get_remote_address()) }
    }

    /// The supernode that carries this circuit.
    pub(super) fn via(&self) -> Option<PeerId> {
        circuit_relay(self.path())
    }

    /// The address that tells the transport: of a circuit, the one with the supernode in it.
    fn path(&self) -> &Multiaddr {
        match &self.point {
            ConnectedPoint::Dialer { address, .. } => address,
            ConnectedPoint::Listener { local_addr, .. } => local_addr,
        }
    }
}

impl Connections {
    pub(super) fn new(unclaimed: Unclaimed) -> Self {
        Self { unclaimed, open: BTreeMap::new() }
    }

    pub(super) fn opened(&mut self, id: ConnectionId, peer: PeerId, point: ConnectedPoint) {
        let counters = self.unclaimed.claim(&peer, &point);
        self.open.insert(id, Connection { peer, point, since_unix_ms: unix_ms(), counters });
    }

    pub(super) fn closed(&mut self, id: ConnectionId) {
        self.open.remove(&id);
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.open.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        self.open.iter().map(|(id, connection)| (*id, connection))
    }

    /// The table; `is_device` tells devices from supernodes, whose keys look alike.
    pub(super) fn table(&self, is_device: impl Fn(ConnectionId, &Connection) -> bool) -> Vec<ConnectionInfo> {
        let row = |(id, connection): (ConnectionId, &Connection)| {
            let key = key_of(&connection.peer)?;
            Some(ConnectionInfo {
                peer: if is_device(id, connection) {
                    PeerKey::Device(DeviceKey(key))
                } else {
                    PeerKey::Service(ServiceKey(key))
                },
                remote: connection.path_text(),
                transport: transport_of(connection.path()),
                outbound: connection.point.is_dialer(),
                since_unix_ms: connection.since_unix_ms,
                bytes_in: connection.counters.received(),
                bytes_out: connection.counters.sent(),
            })
        };
        self.iter().filter_map(row).collect()
    }
}

impl Connection {
    fn path_text(&self) -> String {
        if self.point.is_relayed() {
            self.path().to_string()
        } else {
            self.point.get_remote_address().to_string()
        }
    }
}
