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
use crate::policy::Audit;

/// Open connections by their number.
#[derive(Debug)]
pub(super) struct Connections {
    unclaimed: Unclaimed,
    open: BTreeMap<ConnectionId, Connection>,
    audit: Audit,
    /// Of the service swarm, where whoever comes in is served.
    serves: bool,
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
    pub(super) fn new(unclaimed: Unclaimed, audit: Audit, serves: bool) -> Self {
        Self { unclaimed, open: BTreeMap::new(), audit, serves }
    }

    pub(super) fn opened(&mut self, id: ConnectionId, peer: PeerId, point: ConnectedPoint) {
        let counters = self.unclaimed.claim(&peer, &point);
        let connection = Connection { peer, point, since_unix_ms: unix_ms(), counters };
        if self.audit.is_on() {
            self.audit.note("connection_opened", connection.told(self.serves));
        }
        self.open.insert(id, connection);
    }

    pub(super) fn closed(&mut self, id: ConnectionId) {
        if let Some(connection) = self.open.remove(&id) {
            self.tell_closed(&connection);
        }
    }

    fn tell_closed(&self, connection: &Connection) {
        if !self.audit.is_on() {
            return;
        }
        let mut told = connection.told(self.serves);
        if let Some(told) = told.as_object_mut() {
            let lasted_ms = unix_ms().saturating_sub(connection.since_unix_ms);
            told.insert("lasted_ms".to_owned(), lasted_ms.into());
            told.insert("bytes_in".to_owned(), connection.counters.received().into());
            told.insert("bytes_out".to_owned(), connection.counters.sent().into());
        }
        self.audit.note("connection_closed", told);
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

impl Drop for Connections {
    /// A swarm that ends takes its connections with it.
    fn drop(&mut self) {
        for connection in std::mem::take(&mut self.open).values() {
            self.tell_closed(connection);
        }
    }
}

impl Connection {
    /// For the audit log.
    fn told(&self, serves: bool) -> serde_json::Value {
        let outbound = self.point.is_dialer();
        let purpose = match (serves, self.point.is_relayed(), outbound) {
            (true, _, true) => "directory",
            (true, _, false) => "client",
            (false, true, _) => "signalling",
            (false, false, _) => "supernode",
        };
        serde_json::json!({
            "purpose": purpose,
            "peer": self.peer.to_string(),
            "address": self.path_text(),
            "transport": transport_of(self.path()),
            "outbound": outbound,
        })
    }

    fn path_text(&self) -> String {
        if self.point.is_relayed() {
            self.path().to_string()
        } else {
            self.point.get_remote_address().to_string()
        }
    }
}
