//! Streams of our own protocols as a libp2p behaviour: opened on a *named* connection, and reported with the
//! connection they came in on.
//!
//! The `libp2p-stream` crate picks any connection to a peer and does not tell which one an inbound stream belongs to;
//! with two circuits to one device, one of them hung, both matter.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, Stream, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use thiserror::Error;

use super::address::is_circuit;

const OPEN_TIMEOUT: Duration = Duration::from_secs(6);

/// Who may connect to this swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inbound {
    Anyone,
    /// A leaf: it may have to bind a port to dial from, but serves nobody there.
    CircuitsOnly,
}

#[derive(Debug, Error)]
#[error("this node takes connections through its homes only")]
struct NotThroughACircuit;

/// A stream, or why there is none.
#[derive(Debug)]
pub(super) enum StreamsEvent {
    Inbound {
        peer: PeerId,
        connection: ConnectionId,
        stream: Stream,
    },
    /// Answers [`Streams::open`]. A connection that closes first answers nothing.
    Outbound {
        connection: ConnectionId,
        protocol: StreamProtocol,
        result: Result<Stream, String>,
    },
}

/// The behaviour.
pub(super) struct Streams {
    served: Vec<StreamProtocol>,
    inbound: Inbound,
    actions: VecDeque<ToSwarm<StreamsEvent, StreamProtocol>>,
}

impl Streams {
    pub(super) fn new(served: Vec<StreamProtocol>, inbound: Inbound) -> Self {
        Self { served, inbound, actions: VecDeque::new() }
    }

    pub(super) fn open(&mut self, peer: PeerId, connection: ConnectionId, protocol: StreamProtocol) {
        self.actions.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: protocol,
        });
    }

    fn handler(&self) -> Handler {
        Handler { served: self.served.clone(), asked: VecDeque::new(), ready: VecDeque::new() }
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = StreamsEvent;

    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        local: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        match self.inbound {
            Inbound::CircuitsOnly if !is_circuit(local) => Err(ConnectionDenied::new(NotThroughACircuit)),
            _ => Ok(()),
        }
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.actions.push_back(ToSwarm::GenerateEvent(match event {
            HandlerEvent::Inbound(stream) => StreamsEvent::Inbound { peer, connection, stream },
            HandlerEvent::Outbound(protocol, result) => {
                StreamsEvent::Outbound { connection, protocol, result }
            }
        }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.actions.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// One connection's part.
pub(super) struct Handler {
    served: Vec<StreamProtocol>,
    asked: VecDeque<StreamProtocol>,
    ready: VecDeque<HandlerEvent>,
}

#[derive(Debug)]
pub(super) enum HandlerEvent {
    Inbound(Stream),
    Outbound(StreamProtocol, Result<Stream, String>),
}

impl ConnectionHandler for Handler {
    type FromBehaviour = StreamProtocol;
    type ToBehaviour = HandlerEvent;
    type InboundProtocol = Upgrade;
    type OutboundProtocol = Upgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = StreamProtocol;

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade> {
        SubstreamProtocol::new(Upgrade(self.served.clone()), ())
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Upgrade, StreamProtocol, HandlerEvent>> {
        if let Some(event) = self.ready.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        if let Some(protocol) = self.asked.pop_front() {
            let upgrade = SubstreamProtocol::new(Upgrade(vec![protocol.clone()]), protocol);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: upgrade.with_timeout(OPEN_TIMEOUT),
            });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, protocol: StreamProtocol) {
        self.asked.push_back(protocol);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Upgrade, Upgrade, (), StreamProtocol>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. }) => {
                self.ready.push_back(HandlerEvent::Inbound(stream));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info,
                ..
            }) => self.ready.push_back(HandlerEvent::Outbound(info, Ok(stream))),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                self.ready.push_back(HandlerEvent::Outbound(info, Err(error.to_string())));
            }
            _ => {}
        }
    }
}

/// Offers protocol names and changes nothing on the stream.
pub(super) struct Upgrade(Vec<StreamProtocol>);

impl UpgradeInfo for Upgrade {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Upgrade {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

impl OutboundUpgrade<Stream> for Upgrade {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}
