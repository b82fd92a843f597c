//! What happens on the device swarm, and what follows from it.

use std::time::Instant;

use libp2p::PeerId;
use libp2p::core::transport::ListenerId;
use libp2p::swarm::{ConnectionId, SwarmEvent};
use tandem_api::DeviceFailure;
use tandem_proto::ids::{DeviceKey, ServiceKey};

use super::{
    BehaviourEvent, Device, DeviceEvent, Home, HomeState, SIGNALS_PER_DEVICE_MAX, Signal, SignalId, room,
};
use crate::overlay::address::key_of;
use crate::overlay::connections::Connection;
use crate::overlay::links::Established;
use crate::overlay::stream_task::{self, Probe};
use crate::overlay::streams::StreamsEvent;
use crate::overlay::transport::{dial_words, failure_of};

impl Device {
    pub(super) fn handle_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.connections.opened(connection_id, peer_id, endpoint);
                self.handle_established(peer_id, connection_id);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                self.connections.closed(connection_id);
                let reason = cause.map_or_else(|| "the connection was closed".to_owned(), |c| c.to_string());
                self.handle_closed(peer_id, connection_id, &reason);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.races.failed(connection_id, failure_of(&error), &error.to_string());
                self.links.dial_failed(connection_id, dial_words(&error));
            }
            SwarmEvent::NewListenAddr { listener_id, .. } => {
                if let Some(service) = self.reservation_of(listener_id) {
                    self.reserved(service);
                }
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                if let Some(service) = self.reservation_of(listener_id) {
                    let reason = reason.err().map_or_else(|| "it was ended".to_owned(), |e| e.to_string());
                    self.reservation_gone(service, &reason);
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Streams(event)) => self.handle_stream(event),
            _ => {}
        }
    }

    fn handle_established(&mut self, peer: PeerId, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        if connection.point.is_relayed() {
            if self.races.established(id) {
                let protocol = self.protocols.signal.clone();
                self.swarm.behaviour_mut().streams.open(peer, id, protocol);
            } else if connection.point.is_dialer() {
                self.swarm.close_connection(id); // its race is over
            }
            return;
        }
        let address = connection.point.get_remote_address().clone();
        match self.links.connected(peer, id, &address, Instant::now()) {
            Established::Link => {
                self.races.linked(&peer);
                if let Some(service) = self.home_of(&peer) {
                    self.open_home_stream(service, id);
                }
            }
            Established::Surplus | Established::Foreign => {
                self.swarm.close_connection(id);
            }
        }
    }

    fn handle_closed(&mut self, peer: PeerId, id: ConnectionId, reason: &str) {
        self.races.failed(id, DeviceFailure::Other, reason);
        if self.links.disconnected(&peer, id)
            && let Some(service) = self.home_of(&peer)
        {
            self.reservation_gone(service, reason);
            self.home_gone(service, reason);
        }
        let on_it: Vec<SignalId> = self
            .signals
            .iter()
            .filter(|(_, signal)| signal.connection == id)
            .map(|(signal, _)| *signal)
            .collect();
        for signal in on_it {
            self.signal_gone(signal, reason.to_owned(), false);
        }
        let asking = |home: &mut Home| std::mem::take(&mut home.asks);
        if let Some(service) = self.home_of(&peer)
            && self.homes.get_mut(&service).is_some_and(asking)
        {
            self.reserve(service);
        }
    }

    fn handle_stream(&mut self, event: StreamsEvent) {
        match event {
            StreamsEvent::Inbound { peer, connection, stream, .. } => {
                self.incoming_signal(peer, connection, stream);
            }
            StreamsEvent::Outbound { connection, protocol, result } if protocol == self.protocols.home => {
                self.home_stream_opened(connection, result);
            }
            StreamsEvent::Outbound { connection, result: Ok(stream), .. } => {
                let Some(won) = self.races.opened(connection) else { return };
                for loser in won.losers {
                    self.swarm.close_connection(loser);
                }
                let signal = self.start_signal(connection, won.device, stream);
                let via = key_of(&won.relay).map(ServiceKey);
                let event =
                    DeviceEvent::SignalOpened { request: won.request, signal, device: won.device, via };
                self.outbox.push_back(event);
            }
            StreamsEvent::Outbound { connection, result: Err(error), .. } => {
                self.races.failed(connection, DeviceFailure::Other, &error);
                self.swarm.close_connection(connection);
            }
        }
    }

    fn home_stream_opened(&mut self, connection: ConnectionId, result: Result<libp2p::Stream, String>) {
        let opening = |home: &Home| matches!(home.stream, HomeState::Opening(on) if on == connection);
        let Some((&service, _)) = self.homes.iter().find(|(_, home)| opening(home)) else { return };
        let stream = match result {
            Ok(stream) => stream,
            Err(error) => return self.home_gone(service, &error),
        };
        let number = self.next_number();
        let writer = stream_task::start((service, number), stream, Probe::None, self.home_reports.clone());
        if let Some(home) = self.homes.get_mut(&service) {
            home.stream = HomeState::Open { number, writer };
        }
        let remote = self.connections.get(connection).and_then(Connection::remote_ip);
        self.outbox.push_back(DeviceEvent::HomeOpened { service, remote });
    }

    fn incoming_signal(&mut self, peer: PeerId, connection: ConnectionId, stream: libp2p::Stream) {
        let Some(device) = key_of(&peer).map(DeviceKey) else { return };
        let of_device = self.signals.values().filter(|signal| signal.device == device).count();
        let (has_room, _) = room(self.signals.iter().map(|(id, signal)| (*id, signal.writer.is_some())));
        if of_device >= SIGNALS_PER_DEVICE_MAX || !has_room {
            self.swarm.close_connection(connection);
            return;
        }
        let via = self.connections.get(connection).and_then(Connection::via);
        let signal = self.start_signal(connection, device, stream);
        let via = via.as_ref().and_then(key_of).map(ServiceKey);
        self.outbox.push_back(DeviceEvent::SignalIncoming { signal, device, via });
    }

    fn start_signal(
        &mut self,
        connection: ConnectionId,
        device: DeviceKey,
        stream: libp2p::Stream,
    ) -> SignalId {
        let signal = SignalId(self.next_number());
        let writer = stream_task::start(signal, stream, Probe::each(self.probe), self.signal_reports.clone());
        self.signals.insert(signal, Signal { connection, device, writer: Some(writer) });
        signal
    }

    fn reserved(&mut self, service: ServiceKey) {
        if let Some(Home { reservation: Some(reservation), .. }) = self.homes.get_mut(&service)
            && !std::mem::replace(&mut reservation.told, true)
        {
            if let Some(before) = reservation.replaces.take() {
                self.swarm.remove_listener(before);
            }
            self.outbox.push_back(DeviceEvent::Reserved { service });
        }
    }

    pub(super) fn home_of(&self, peer: &PeerId) -> Option<ServiceKey> {
        key_of(peer).map(ServiceKey).filter(|service| self.homes.contains_key(service))
    }

    fn reservation_of(&self, listener: ListenerId) -> Option<ServiceKey> {
        let stands_for = |home: &Home| home.reservation.as_ref().is_some_and(|r| r.listener == listener);
        self.homes.iter().find(|(_, home)| stands_for(home)).map(|(service, _)| *service)
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}
