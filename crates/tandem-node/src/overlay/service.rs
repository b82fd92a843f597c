//! The service swarm: a supernode. It keeps the directory with other supernodes, carries circuits between devices, and
//! speaks the home protocol with both.

mod asking;
mod gate;
mod proving;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, connection_limits, identify, kad, memory_connection_limits, relay};
use tandem_proto::ids::{DeviceKey, ServiceKey};
use tandem_proto::wire::HomeFrame;
use tokio::sync::mpsc;

use self::asking::Asking;
use super::address::{addresses_of, device_peer, dialable, ip_of, is_plain, key_of, service_peer};
use super::config::{PreferredTransport, STAGGER, ServiceConfig, ServiceLimits};
use super::connections::{Connection, Connections};
use super::counting::Unclaimed;
use super::dial_back::DialBack;
use super::directory::Directory;
use super::directory::routing::{self, Kad};
use super::door::Door;
use super::links::{Established, LinkAction, Links, Wanted};
use super::routable::routable;
use super::standby::Gate;
use super::stream_task::{self, Probe, StreamReport, StreamWriter};
use super::streams::{Inbound, Streams, StreamsEvent};
use super::transport::{self, Protocols, StartError};
use super::{ClientId, ServiceCommand, ServiceEvent, SupernodeAddress};
use crate::installation::unix_ms;
use proving::Proofs;

/// Connections without a stream are closed after this long.
const IDLE_CONNECTION: Duration = Duration::from_secs(20);
const IDENTIFY_INTERVAL: Duration = Duration::from_secs(6 * 3600);
const RESERVATION_DURATION: Duration = Duration::from_secs(3600);
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
const COMMANDS: usize = 1024;
const EVENTS: usize = 1024;
const REPORTS: usize = 1024;
/// TCP connections waiting to be taken by the relay.
const RELAY_STREAMS: usize = 64;
/// Events waiting for the node; above this the swarm and its streams wait too.
const OUTBOX_HIGH: usize = 4096;
const STREAMS_PER_CONNECTION_MAX: usize = 2;
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// Starts the service swarm's task. It ends at [`ServiceCommand::Shutdown`], or when either channel is dropped.
///
/// # Errors
/// The key cannot be used, or the port is taken.
///
/// # Panics
/// Outside a tokio runtime.
pub fn spawn_service(
    config: ServiceConfig,
) -> Result<(mpsc::Sender<ServiceCommand>, mpsc::Receiver<ServiceEvent>), StartError> {
    let (commands, from_node) = mpsc::channel(COMMANDS);
    let (to_node, events) = mpsc::channel(EVENTS);
    let service = Service::new(config)?;
    tokio::spawn(service.run(from_node, to_node));
    Ok((commands, events))
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    gate: Gate,
    limits: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    identify: identify::Behaviour,
    kad: Kad,
    circuits: relay::Behaviour,
    streams: Streams,
}

struct Service {
    swarm: Swarm<Behaviour>,
    config: ServiceConfig,
    protocols: Protocols,
    connections: Connections,
    /// Connections whose other end serves the directory: supernodes.
    supernodes: BTreeSet<PeerId>,
    links: Links,
    /// Supernodes that a home stream is to be opened to, once the link stands.
    wanted: BTreeSet<ServiceKey>,
    opening: BTreeMap<ConnectionId, ServiceKey>,
    clients: BTreeMap<ClientId, Client>,
    clients_on: BTreeMap<ConnectionId, Vec<ClientId>>,
    last_client: u64,
    directory: Directory,
    asking: Asking,
    prune_at: Instant,
    outbox: VecDeque<ServiceEvent>,
    reports: mpsc::Sender<StreamReport<ClientId, HomeFrame>>,
    from_streams: mpsc::Receiver<StreamReport<ClientId, HomeFrame>>,
    relay_streams: mpsc::Receiver<(tokio::net::TcpStream, std::net::SocketAddr)>,
    door: Door,
    checks: DialBack,
    proofs: Proofs,
    /// Where others reach this node: told while the gate is open.
    external: Vec<Multiaddr>,
}

struct Client {
    connection: ConnectionId,
    /// `None`: closing, after what was queued.
    writer: Option<StreamWriter<HomeFrame>>,
}

impl Service {
    fn new(config: ServiceConfig) -> Result<Self, StartError> {
        let protocols = Protocols::of(&config.network);
        let key = transport::keypair(&config.secret.seed())?;
        let peer = key.public().to_peer_id();
        let unclaimed = Unclaimed::new(config.traffic.clone());
        let (to_relay, relay_streams) = mpsc::channel(RELAY_STREAMS);
        let door = Door::new(protocols.kad.clone());
        let from: Vec<_> = config.listen.full.iter().map(|at| at.ip()).collect();
        let wire = transport::service(
            &key,
            to_relay,
            &from,
            config.public.clone(),
            unclaimed.clone(),
            door.clone(),
        )?;
        let behaviour = Behaviour::new(&config, &protocols, &key);
        let mut swarm = Swarm::new(wire, behaviour, peer, transport::swarm_config(IDLE_CONNECTION));
        listen(&mut swarm, &config)?;
        let (reports, from_streams) = mpsc::channel(REPORTS);
        let mut service = Self {
            swarm,
            protocols,
            connections: Connections::new(unclaimed, config.public.warden().audit().clone(), true),
            supernodes: BTreeSet::new(),
            links: Links::new(STAGGER),
            wanted: BTreeSet::new(),
            opening: BTreeMap::new(),
            clients: BTreeMap::new(),
            clients_on: BTreeMap::new(),
            last_client: 0,
            directory: Directory::new(config.network.clone(), peer, config.public.clone()),
            asking: Asking::new(),
            prune_at: Instant::now() + PRUNE_INTERVAL,
            outbox: VecDeque::new(),
            reports,
            from_streams,
            relay_streams,
            door,
            checks: DialBack::new(peer, config.public.clone(), from.clone()),
            proofs: Proofs::new(DialBack::new(peer, config.public.clone(), from)),
            external: Vec::new(),
            config,
        };
        service.tell_external(service.config.external.iter().flat_map(addresses_of).collect());
        Ok(service)
    }

    async fn run(mut self, mut commands: mpsc::Receiver<ServiceCommand>, events: mpsc::Sender<ServiceEvent>) {
        loop {
            self.advance(Instant::now());
            let room = self.outbox.len() < OUTBOX_HIGH;
            let due = [self.links.poll_timeout(), self.directory.poll_timeout()];
            let due = due.into_iter().flatten().fold(self.prune_at, Instant::min);
            tokio::select! {
                permit = events.reserve(), if !self.outbox.is_empty() => {
                    let Ok(permit) = permit else { break };
                    if let Some(event) = self.outbox.pop_front() {
                        permit.send(event);
                    }
                }
                command = commands.recv() => match command {
                    None | Some(ServiceCommand::Shutdown) => break,
                    Some(command) => self.handle_command(command, Instant::now()),
                },
                Some(checked) = self.checks.next(), if room => self.outbox.push_back(checked),
                () = self.door.asked() => self.try_those_who_ask(),
                Some((id, outcome)) = self.proofs.next(), if room => self.tried(id, &outcome),
                Some(answer) = self.asking.next(), if room => self.answer(answer),
                Some(report) = self.from_streams.recv(), if room => self.handle_report(report),
                Some((stream, from)) = self.relay_streams.recv(), if room => {
                    self.outbox.push_back(ServiceEvent::RelayStream(stream, from));
                }
                event = self.swarm.select_next_some(), if room => self.handle_swarm(event),
                () = tokio::time::sleep_until(due.into()) => {}
            }
        }
        self.shut_down().await;
    }

    async fn shut_down(mut self) {
        self.clients.clear();
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // Fails only for a peer that is gone already.
            self.swarm.disconnect_peer_id(peer).ok();
        }
        let closing = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
            // One more turn for the last packets.
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        drop(tokio::time::timeout(SHUTDOWN_TIMEOUT, closing).await);
    }

    fn advance(&mut self, now: Instant) {
        while let Some(action) = self.links.poll(now) {
            match action {
                LinkAction::Dial(peer, address) => self.dial_link(peer, address),
                LinkAction::Failed(peer, reason) => self.link_failed(peer, reason),
            }
        }
        self.drive_asking(now);
        if now >= self.prune_at {
            self.prune_at = now + PRUNE_INTERVAL;
            self.swarm.behaviour_mut().kad.store_mut().prune(unix_ms());
        }
    }

    fn dial_link(&mut self, peer: PeerId, address: Multiaddr) {
        let opts = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(vec![address]).build();
        let id = opts.connection_id();
        self.links.dialing(&peer, id);
        if let Err(error) = self.swarm.dial(opts) {
            self.links.dial_failed(id, transport::dial_words(&error));
        }
    }

    fn link_failed(&mut self, peer: PeerId, reason: String) {
        let Some(service) = key_of(&peer).map(ServiceKey) else { return };
        if self.wanted.remove(&service) {
            self.outbox.push_back(ServiceEvent::ConnectFailed { service, reason });
        }
    }

    // ---- commands --------------------------------------------------------------------------------------------------

    fn handle_command(&mut self, command: ServiceCommand, now: Instant) {
        match command {
            ServiceCommand::SendHome { client, frame } => self.send(client, frame),
            ServiceCommand::CloseClient(client) => {
                if let Some(client) = self.clients.get_mut(&client) {
                    client.writer = None;
                }
            }
            ServiceCommand::Expel(device) => {
                if let Some(peer) = device_peer(device) {
                    // Fails only for a peer that is gone already.
                    self.swarm.disconnect_peer_id(peer).ok();
                }
            }
            ServiceCommand::Connect(address) => self.connect(&address, now),
            ServiceCommand::AddToRouting(address) => self.add_to_routing(&address),
            ServiceCommand::Put { request, account, value } => {
                let kad = &mut self.swarm.behaviour_mut().kad;
                self.directory.put(kad, (request, account, &value), unix_ms(), &mut self.outbox);
            }
            ServiceCommand::Get { request, account } => {
                let kad = &mut self.swarm.behaviour_mut().kad;
                self.directory.get(kad, (request, account), unix_ms(), &mut self.outbox);
            }
            ServiceCommand::Drain => {
                self.swarm.behaviour_mut().circuits.set_status(Some(relay::Status::Disable));
            }
            ServiceCommand::Gate { open } => self.set_gate(open),
            ServiceCommand::Directory { on } => self.set_directory(on),
            ServiceCommand::SetExternal(addresses) => {
                self.config.external.get_or_insert_default();
                self.tell_external(dialable(&addresses));
            }
            ServiceCommand::Check(check) => self.check(check),
            ServiceCommand::Connections(answer) => {
                let supernodes = &self.supernodes;
                let table = self.connections.table(|_, connection| !supernodes.contains(&connection.peer));
                // Nobody may be waiting any more.
                drop(answer.send(table));
            }
            ServiceCommand::Shutdown => {}
        }
    }

    fn send(&mut self, client: ClientId, frame: HomeFrame) {
        let Some(Client { writer: Some(writer), .. }) = self.clients.get(&client) else { return };
        if !writer.send(frame) {
            self.client_gone(client, "it takes nothing in".to_owned(), true);
        }
    }

    fn connect(&mut self, address: &SupernodeAddress, now: Instant) {
        let service = address.service;
        let Some(peer) = service_peer(service).filter(|peer| peer != self.swarm.local_peer_id()) else {
            let reason = String::from("its key is not that of another supernode");
            self.outbox.push_back(ServiceEvent::ConnectFailed { service, reason });
            return;
        };
        if !self.is_open() {
            let reason = String::from("this node is in standby");
            self.outbox.push_back(ServiceEvent::ConnectFailed { service, reason });
            return;
        }
        self.wanted.insert(service);
        let existing =
            self.connections.iter().find(|(_, connection)| connection.peer == peer).map(|(id, _)| id);
        if let Some(connection) = existing {
            return self.open_stream(service, peer, connection);
        }
        match self.links.want(peer, routable(dialable(&address.addresses)), PreferredTransport::Quic, now) {
            Wanted::Connected(connection, _) => self.open_stream(service, peer, connection),
            Wanted::Pending => {}
            Wanted::Refused(reason) => self.link_failed(peer, reason.to_owned()),
        }
    }

    fn open_stream(&mut self, service: ServiceKey, peer: PeerId, connection: ConnectionId) {
        if self.wanted.remove(&service) {
            self.opening.insert(connection, service);
            let protocol = self.protocols.home.clone();
            self.swarm.behaviour_mut().streams.open(peer, connection, protocol);
        }
    }

    fn add_to_routing(&mut self, address: &SupernodeAddress) {
        let Some(peer) = service_peer(address.service).filter(|_| self.is_open()) else { return };
        for address in dialable(&address.addresses) {
            routing::offer_peer(&self.config.public, &mut self.swarm.behaviour_mut().kad, peer, &address);
        }
    }

    // ---- streams ---------------------------------------------------------------------------------------------------

    fn handle_report(&mut self, report: StreamReport<ClientId, HomeFrame>) {
        match report {
            StreamReport::Frame(client, frame) => {
                if self.clients.get(&client).is_some_and(|open| open.writer.is_some()) {
                    self.outbox.push_back(ServiceEvent::ClientFrame { client, frame });
                }
            }
            StreamReport::Silent(_) => {}
            StreamReport::Closed(client, reason) => self.client_gone(client, reason, false),
        }
    }

    fn client_gone(&mut self, client: ClientId, reason: String, close_connection: bool) {
        let Some(gone) = self.clients.remove(&client) else { return };
        if let Some(others) = self.clients_on.get_mut(&gone.connection) {
            others.retain(|other| *other != client);
            if others.is_empty() {
                self.clients_on.remove(&gone.connection);
            }
        }
        if close_connection {
            self.swarm.close_connection(gone.connection);
        }
        self.outbox.push_back(ServiceEvent::ClientClosed { client, reason });
    }

    fn handle_stream(&mut self, event: StreamsEvent) {
        match event {
            StreamsEvent::Inbound { peer, connection, stream, .. } => {
                let on_it = self.clients_on.get(&connection).map_or(0, Vec::len);
                let most = usize::try_from(self.config.limits.connections).unwrap_or(usize::MAX);
                if on_it < STREAMS_PER_CONNECTION_MAX && self.clients.len() < most {
                    self.client_opened(peer, connection, stream, false);
                }
            }
            StreamsEvent::Outbound { connection, protocol, result } if protocol == self.protocols.kad => {
                self.asking_opened(connection, result);
            }
            StreamsEvent::Outbound { connection, result, .. } => {
                let Some(service) = self.opening.remove(&connection) else { return };
                match (result, service_peer(service)) {
                    (Ok(stream), Some(peer)) => self.client_opened(peer, connection, stream, true),
                    (Ok(_), None) => {}
                    (Err(reason), _) => {
                        self.outbox.push_back(ServiceEvent::ConnectFailed { service, reason });
                    }
                }
            }
        }
    }

    fn client_opened(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        stream: libp2p::Stream,
        outbound: bool,
    ) {
        let Some(key) = key_of(&peer) else { return };
        self.last_client += 1;
        let client = ClientId(self.last_client);
        let writer = stream_task::start(client, stream, Probe::None, self.reports.clone());
        self.clients.insert(client, Client { connection, writer: Some(writer) });
        self.clients_on.entry(connection).or_default().push(client);
        let remote = self.connections.get(connection).and_then(Connection::remote_ip);
        self.outbox.push_back(ServiceEvent::ClientOpened { client, peer: key, remote, outbound });
    }

    // ---- the swarm -------------------------------------------------------------------------------------------------

    fn handle_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.handle_established(peer_id, connection_id, endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, cause, .. } => {
                self.connections.closed(connection_id);
                if num_established == 0 {
                    self.supernodes.remove(&peer_id);
                    self.proofs.forget(&peer_id);
                }
                let reason = cause.map_or_else(|| "the connection was closed".to_owned(), |c| c.to_string());
                self.handle_closed(peer_id, connection_id, &reason);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.links.dial_failed(connection_id, transport::dial_words(&error));
                self.asking_failed(connection_id);
            }
            SwarmEvent::NewListenAddr { address, .. } => self.listening(address),
            SwarmEvent::Behaviour(BehaviourEvent::Streams(event)) => self.handle_stream(event),
            SwarmEvent::Behaviour(BehaviourEvent::Kad(event)) => self.handle_kad(event),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => self.handle_identify(event),
            SwarmEvent::Behaviour(BehaviourEvent::Circuits(event)) => self.handle_circuit(event),
            _ => {}
        }
    }

    fn handle_established(&mut self, peer: PeerId, id: ConnectionId, point: ConnectedPoint) {
        let address = point.get_remote_address().clone();
        let outbound = point.is_dialer();
        self.connections.opened(id, peer, point);
        if !outbound {
            // Who is forbidden is not served either.
            if self.is_forbidden(&peer) {
                self.swarm.close_connection(id);
            }
            return;
        }
        self.is_supernode(peer);
        self.asking_connected(peer, id);
        // A second connection to the same supernode may carry kad's streams: only our own surplus dial is closed.
        if self.links.connected(peer, id, &address, Instant::now()) == Established::Link
            && let Some(service) = key_of(&peer).map(ServiceKey)
        {
            self.open_stream(service, peer, id);
        }
    }

    fn is_forbidden(&self, peer: &PeerId) -> bool {
        let forbidden = &self.config.public.warden().policy().supernodes.forbid_ids;
        key_of(peer).is_some_and(|key| forbidden.contains(&ServiceKey(key)))
    }

    fn handle_closed(&mut self, peer: PeerId, id: ConnectionId, reason: &str) {
        self.links.disconnected(&peer, id);
        self.asking_failed(id);
        if let Some(service) = self.opening.remove(&id) {
            self.outbox.push_back(ServiceEvent::ConnectFailed { service, reason: reason.to_owned() });
        }
        let on_it = self.clients_on.get(&id).cloned().unwrap_or_default();
        for client in on_it {
            self.client_gone(client, reason.to_owned(), false);
        }
    }

    fn listening(&mut self, address: Multiaddr) {
        if self.config.external.is_some() {
            return; // told at the start
        }
        if ip_of(&address).is_some_and(|ip| self.config.public.is_public(ip))
            && !self.external.contains(&address)
        {
            self.external.push(address.clone());
            self.apply_external();
        }
        self.tell_listening(address);
    }

    fn tell_listening(&mut self, address: Multiaddr) {
        let peer = *self.swarm.local_peer_id();
        let address = address.with(Protocol::P2p(peer)).to_string();
        self.outbox.push_back(ServiceEvent::Listening { address });
    }

    fn handle_kad(&mut self, event: kad::Event) {
        let kad = &mut self.swarm.behaviour_mut().kad;
        if let kad::Event::InboundRequest {
            request: kad::InboundRequest::PutRecord { source, record: Some(record), .. },
        } = event
        {
            self.directory.handle_put(kad, &source, record, unix_ms(), &mut self.outbox);
        }
    }

    /// A peer that serves the directory is offered to the routing table, with addresses it was seen at: what it
    /// claims counts only where the claim is the very IP address that it speaks from or was dialled at.
    fn handle_identify(&mut self, event: identify::Event) {
        let identify::Event::Received { connection_id, peer_id, info } = event else { return };
        if !info.protocols.contains(&self.protocols.kad) {
            return;
        }
        if let Some(service) = key_of(&peer_id).map(ServiceKey)
            && self
                .config
                .public
                .warden()
                .noted(self.config.public.warden().policy().may_know(service))
                .is_err()
        {
            // Fails only for a peer that is gone already.
            self.swarm.disconnect_peer_id(peer_id).ok();
            return;
        }
        let Some(connection) = self.connections.get(connection_id) else { return };
        let seen_at = connection.remote_ip();
        let mut addresses: Vec<Multiaddr> = info.listen_addrs.into_iter().take(16).collect();
        addresses.retain(|address| is_plain(address) && ip_of(address) == seen_at);
        addresses.sort_by_key(|address| super::address::transport_of(address) != "quic");
        addresses.truncate(2);
        if self.is_open() {
            self.supernodes.insert(peer_id);
            for address in &addresses {
                routing::offer_peer(
                    &self.config.public,
                    &mut self.swarm.behaviour_mut().kad,
                    peer_id,
                    address,
                );
            }
        }
        // In standby too: it says so once on a connection.
        self.says_it_serves(connection_id, peer_id, addresses);
    }

    fn handle_circuit(&mut self, event: relay::Event) {
        self.tell_door(&event);
        let device = |peer: PeerId| key_of(&peer).map(DeviceKey);
        let event = match event {
            relay::Event::ReservationReqAccepted { src_peer_id, renewed: false } => {
                device(src_peer_id).map(|device| ServiceEvent::ReservationMade { device })
            }
            relay::Event::ReservationClosed { src_peer_id }
            | relay::Event::ReservationTimedOut { src_peer_id } => {
                device(src_peer_id).map(|device| ServiceEvent::ReservationEnded { device })
            }
            relay::Event::CircuitReqAccepted { src_peer_id, dst_peer_id } => {
                let ends = device(src_peer_id).zip(device(dst_peer_id));
                ends.map(|(source, target)| ServiceEvent::CircuitOpened { source, target })
            }
            relay::Event::CircuitClosed { src_peer_id, dst_peer_id, .. } => {
                let ends = device(src_peer_id).zip(device(dst_peer_id));
                ends.map(|(source, target)| ServiceEvent::CircuitClosed { source, target })
            }
            _ => None,
        };
        self.outbox.extend(event);
    }
}

impl Service {
    /// The door counts circuits by what became of them.
    fn tell_door(&self, event: &relay::Event) {
        let (mut limits, now) = (self.door.circuits(), Instant::now());
        match event {
            relay::Event::ReservationReqAccepted { src_peer_id, renewed: false } => {
                limits.reserved(*src_peer_id);
            }
            relay::Event::ReservationClosed { src_peer_id }
            | relay::Event::ReservationTimedOut { src_peer_id } => limits.reservation_ended(src_peer_id),
            relay::Event::CircuitReqAccepted { src_peer_id, dst_peer_id } => {
                limits.opened(src_peer_id, dst_peer_id, now);
            }
            relay::Event::CircuitReqDenied { src_peer_id, dst_peer_id, .. } => {
                limits.denied(src_peer_id, dst_peer_id);
            }
            relay::Event::CircuitClosed { src_peer_id, dst_peer_id, .. } => {
                limits.ended(src_peer_id, dst_peer_id, now);
            }
            _ => {}
        }
    }
}

impl Behaviour {
    fn new(config: &ServiceConfig, protocols: &Protocols, key: &libp2p::identity::Keypair) -> Self {
        let peer = key.public().to_peer_id();
        let limits = connection_limits::ConnectionLimits::default()
            .with_max_established(Some(config.limits.connections))
            .with_max_established_per_peer(Some(8))
            .with_max_pending_incoming(Some(512));
        let identify = identify::Config::new(protocols.identify.clone(), key.public())
            .with_agent_version("tandem".to_owned())
            .with_interval(IDENTIFY_INTERVAL)
            .with_cache_size(0)
            // What lies behind the public addresses is its owner's business.
            .with_hide_listen_addrs(true);
        let mut circuits = relay::Behaviour::new(peer, circuit_config(&config.limits));
        let status = if config.open { relay::Status::Enable } else { relay::Status::Disable };
        circuits.set_status(Some(status));
        let records = config.limits.records;
        Self {
            gate: Gate::new(config.open),
            limits: connection_limits::Behaviour::new(limits),
            memory: memory_connection_limits::Behaviour::with_max_bytes(config.limits.memory_bytes),
            identify: identify::Behaviour::new(identify),
            kad: routing::behaviour(config.network.clone(), protocols, peer, records, config.open),
            circuits,
            streams: Streams::new(vec![protocols.home.clone()], Inbound::Anyone),
        }
    }
}

fn circuit_config(limits: &ServiceLimits) -> relay::Config {
    let minute = Duration::from_secs(60);
    let per_device = NonZeroU32::new(limits.circuits_per_minute).unwrap_or(NonZeroU32::MIN);
    // Many devices can stand behind one address (carrier-grade NAT).
    let per_ip = per_device.saturating_mul(NonZeroU32::new(20).expect("20 is not 0"));
    relay::Config {
        max_reservations: limits.reservations,
        max_reservations_per_peer: 4,
        reservation_duration: RESERVATION_DURATION,
        reservation_rate_limiters: Vec::new(),
        max_circuits: limits.circuits,
        max_circuits_per_peer: limits.circuits_per_device,
        max_circuit_duration: limits.circuit_duration,
        max_circuit_bytes: limits.circuit_bytes,
        circuit_src_rate_limiters: Vec::new(),
    }
    .reservation_rate_per_peer(per_device, minute)
    .circuit_src_per_peer(per_device, minute)
    .circuit_src_per_ip(per_ip, minute)
}

fn listen(swarm: &mut Swarm<Behaviour>, config: &ServiceConfig) -> Result<(), StartError> {
    for address in addresses_of(&config.listen) {
        swarm.listen_on(address.clone()).map_err(|error| StartError::listen(&address, &error))?;
    }
    Ok(())
}
