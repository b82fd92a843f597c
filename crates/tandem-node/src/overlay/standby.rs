//! The gate of a service swarm. While it is closed the node is in standby: it listens, so that others can prove that it
//! can be reached, and begins no connection, so that no NAT lets in what nobody forwards to it.

use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use thiserror::Error;

#[derive(Debug, Error)]
#[error("this node is in standby and connects to nobody")]
struct InStandby;

/// The behaviour that keeps the swarm from dialling while the gate is closed.
pub(super) struct Gate {
    open: bool,
}

impl Gate {
    pub(super) fn new(open: bool) -> Self {
        Self { open }
    }

    pub(super) fn set_open(&mut self, open: bool) {
        self.open = open;
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if self.open { Ok(Vec::new()) } else { Err(ConnectionDenied::new(InStandby)) }
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    /// A dial that was under way when the gate was closed ends here.
    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if self.open { Ok(dummy::ConnectionHandler) } else { Err(ConnectionDenied::new(InStandby)) }
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        libp2p::core::util::unreachable(event)
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
