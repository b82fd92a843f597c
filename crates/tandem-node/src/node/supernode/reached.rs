//! Where others reach a supernode, as its descriptor says.

use std::net::SocketAddr;

use tandem_proto::multiaddr::{Transport, TransportAddress};
use tandem_proto::signed::ADDRESSES_MAX;

use super::relay::relay_address;
use crate::overlay::Places;

/// Where its swarm and its relay are; each in the order of a descriptor, which is read from the front.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    /// QUIC and TCP.
    overlay: Vec<TransportAddress>,
    /// STUN and TURN.
    relay: Vec<TransportAddress>,
}

impl Reached {
    /// As the owner says: the relay's own UDP port is the one above each full place.
    pub(crate) fn of_places(places: &Places) -> Self {
        let mut reached = Self::default();
        for at in &places.full {
            reached.add_udp(*at, Some(relay_address(*at)));
            reached.add_tcp(*at);
        }
        for at in &places.tcp {
            reached.add_tcp(*at);
        }
        reached
    }

    /// QUIC at one port, STUN and TURN at another one if they are reached there.
    pub(crate) fn add_udp(&mut self, at: SocketAddr, relay: Option<SocketAddr>) {
        push(&mut self.overlay, Transport::Quic, at);
        if let Some(relay) = relay {
            push(&mut self.relay, Transport::Udp, relay);
        }
    }

    /// TCP carries both.
    pub(crate) fn add_tcp(&mut self, at: SocketAddr) {
        push(&mut self.overlay, Transport::Tcp, at);
        push(&mut self.relay, Transport::Tcp, at);
    }

    /// Binary multiaddrs without `/p2p`.
    pub(crate) fn overlay_bytes(&self) -> Vec<Vec<u8>> {
        self.overlay.iter().map(TransportAddress::to_bytes).collect()
    }

    /// The same for STUN and TURN.
    pub(crate) fn relay_bytes(&self) -> Vec<Vec<u8>> {
        self.relay.iter().map(TransportAddress::to_bytes).collect()
    }
}

fn push(list: &mut Vec<TransportAddress>, transport: Transport, at: SocketAddr) {
    let address = TransportAddress { ip: at.ip(), port: at.port(), transport };
    if list.len() < ADDRESSES_MAX && !list.contains(&address) {
        list.push(address);
    }
}
