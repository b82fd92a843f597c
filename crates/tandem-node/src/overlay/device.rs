//! The device swarm: a leaf with its homes, its reservations, and signalling through circuits. It says nothing to
//! anybody that it need not: no identify, no DHT, no listening address.

mod swarm_events;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, NetworkBehaviour};
use libp2p::{Multiaddr, PeerId, Swarm, connection_limits, relay};
use tandem_api::DeviceFailure;
use tandem_proto::ids::{DeviceKey, ServiceKey};
use tandem_proto::wire::{HomeFrame, SignalFrame};
use tokio::sync::mpsc;

use super::address::{PublicAddresses, both_transports, device_peer, dialable, ip_of, service_peer};
use super::config::{DeviceConfig, PreferredTransport};
use super::connections::{Connection, Connections};
use super::counting::Unclaimed;
use super::links::{LinkAction, Links, Wanted};
use super::race::{RaceAction, Races, Route};
use super::routable::routable;
use super::stream_task::{Probe, StreamReport, StreamWriter};
use super::streams::{Inbound, Streams};
use super::transport::{self, Protocols, StartError, failure_of};
use super::{DeviceCommand, DeviceEvent, SignalId, SupernodeAddress};

/// Connections without a stream are closed after this long.
const IDLE_CONNECTION: Duration = Duration::from_secs(10);
const COMMANDS: usize = 256;
const EVENTS: usize = 256;
const REPORTS: usize = 256;
/// Events waiting for the node; above this the swarm and its streams wait too.
const OUTBOX_HIGH: usize = 512;
/// Open at once. Whose they are, only a hello tells, and `tandem-core` reads that: it leaves strangers half of them, and
/// closes the oldest of theirs beyond (`STRANGERS_STREAMS_MAX`). So a stream that is being closed has no part in this
/// number: else strangers who read nothing could hold the other half too, until their closing times out.
const SIGNALS_MAX: usize = 64;
/// Being closed at once; the circuit of the oldest beyond is cut.
const CLOSING_MAX: usize = 32;
const SIGNALS_PER_DEVICE_MAX: usize = 4;
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);
/// An idle signalling stream is probed so many times more rarely.
const IDLE_PROBE_FACTOR: u32 = 10;
const FAR_FUTURE: Duration = Duration::from_secs(3600);

/// Starts the device swarm's task. It ends at [`DeviceCommand::Shutdown`], or when either channel is dropped.
///
/// # Errors
/// The network id or the key cannot be used, or the address to bind is not this machine's.
///
/// # Panics
/// Outside a tokio runtime.
pub fn spawn_device(
    config: DeviceConfig,
) -> Result<(mpsc::Sender<DeviceCommand>, mpsc::Receiver<DeviceEvent>), StartError> {
    let (commands, from_node) = mpsc::channel(COMMANDS);
    let (to_node, events) = mpsc::channel(EVENTS);
    let device = Device::new(&config)?;
    tokio::spawn(device.run(from_node, to_node));
    Ok((commands, events))
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    limits: connection_limits::Behaviour,
    circuits: relay::client::Behaviour,
    streams: Streams,
}

/// Which stream a report is about: the number tells a stream from an earlier one with the same home.
type HomeStream = (ServiceKey, u64);

struct Device {
    swarm: Swarm<Behaviour>,
    protocols: Protocols,
    probe: Duration,
    connections: Connections,
    links: Links,
    /// For homes.
    preferred: PreferredTransport,
    public: PublicAddresses,
    /// Where QUIC dials leave from, when the owner chose an address.
    bound: Option<(IpAddr, ListenerId)>,
    races: Races,
    homes: BTreeMap<ServiceKey, Home>,
    signals: BTreeMap<SignalId, Signal>,
    last_number: u64,
    outbox: VecDeque<DeviceEvent>,
    home_reports: mpsc::Sender<StreamReport<HomeStream, HomeFrame>>,
    signal_reports: mpsc::Sender<StreamReport<SignalId, SignalFrame>>,
    from_homes: mpsc::Receiver<StreamReport<HomeStream, HomeFrame>>,
    from_signals: mpsc::Receiver<StreamReport<SignalId, SignalFrame>>,
}

struct Home {
    peer: PeerId,
    stream: HomeState,
    reservation: Option<Reservation>,
    /// A reservation is asked for as soon as the connections before this one are closed.
    asks: bool,
}

/// libp2p's circuit client panics when a supernode grants what no listener waits for any more. So a listener is never
/// removed while an answer may be under way: it ends with its connection, or once another has taken its place.
struct Reservation {
    /// What stands for it in libp2p.
    listener: ListenerId,
    /// The connection it was asked for on.
    connection: ConnectionId,
    /// One event tells, though each address of the supernode comes as a listening address of its own.
    told: bool,
    /// Removed once this one is granted.
    replaces: Option<ListenerId>,
}

enum HomeState {
    None,
    /// Waits for the connection.
    Linking,
    Opening(ConnectionId),
    Open {
        number: u64,
        writer: StreamWriter<HomeFrame>,
    },
}

struct Signal {
    connection: ConnectionId,
    device: DeviceKey,
    /// `None`: closing, after what was queued.
    writer: Option<StreamWriter<SignalFrame>>,
}

impl Device {
    fn new(config: &DeviceConfig) -> Result<Self, StartError> {
        let protocols = Protocols::of(&config.network);
        let key = transport::keypair(&config.secret.seed())?;
        let peer = key.public().to_peer_id();
        let unclaimed = Unclaimed::default();
        let (circuit_transport, circuits) = relay::client::new(peer);
        let limits = connection_limits::ConnectionLimits::default()
            .with_max_established_per_peer(Some(8))
            .with_max_established_incoming(Some(128))
            .with_max_pending_incoming(Some(64));
        let behaviour = Behaviour {
            limits: connection_limits::Behaviour::new(limits),
            circuits,
            streams: Streams::new(vec![protocols.signal.clone()], Inbound::CircuitsOnly),
        };
        let wire =
            transport::device(&key, circuit_transport, config.bind, unclaimed.clone(), &config.public)?;
        let mut swarm = Swarm::new(wire, behaviour, peer, transport::swarm_config(IDLE_CONNECTION));
        let listener = config.bind.map(|ip| bind(&mut swarm, ip)).transpose()?;
        let (home_reports, from_homes) = mpsc::channel(REPORTS);
        let (signal_reports, from_signals) = mpsc::channel(REPORTS);
        Ok(Self {
            swarm,
            protocols,
            probe: config.signal_probe,
            connections: Connections::new(unclaimed, config.public.warden().audit().clone(), false),
            links: Links::new(config.stagger),
            preferred: config.preferred,
            public: config.public.clone(),
            bound: config.bind.zip(listener),
            races: Races::default(),
            homes: BTreeMap::new(),
            signals: BTreeMap::new(),
            last_number: 0,
            outbox: VecDeque::new(),
            home_reports,
            signal_reports,
            from_homes,
            from_signals,
        })
    }

    async fn run(mut self, mut commands: mpsc::Receiver<DeviceCommand>, events: mpsc::Sender<DeviceEvent>) {
        loop {
            self.advance(Instant::now());
            let room = self.outbox.len() < OUTBOX_HIGH;
            let due = self.poll_timeout().unwrap_or_else(|| Instant::now() + FAR_FUTURE);
            tokio::select! {
                permit = events.reserve(), if !self.outbox.is_empty() => {
                    let Ok(permit) = permit else { break };
                    if let Some(event) = self.outbox.pop_front() {
                        permit.send(event);
                    }
                }
                command = commands.recv() => match command {
                    None | Some(DeviceCommand::Shutdown) => break,
                    Some(command) => self.handle_command(command, Instant::now()),
                },
                Some(report) = self.from_homes.recv(), if room => self.handle_home_report(report),
                Some(report) = self.from_signals.recv(), if room => self.handle_signal_report(report),
                event = self.swarm.select_next_some(), if room => self.handle_swarm(event),
                () = tokio::time::sleep_until(due.into()) => {}
            }
        }
        self.shut_down().await;
    }

    /// Tells every peer, so that nobody waits for a time-out.
    async fn shut_down(mut self) {
        self.homes.clear();
        self.signals.clear();
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

    fn poll_timeout(&self) -> Option<Instant> {
        self.links.poll_timeout().into_iter().chain(self.races.poll_timeout()).min()
    }

    /// Carries out what links and races want now.
    fn advance(&mut self, now: Instant) {
        loop {
            if let Some(action) = self.links.poll(now) {
                match action {
                    LinkAction::Dial(peer, address) => self.dial_link(peer, address),
                    LinkAction::Failed(peer, reason) => self.link_failed(peer, &reason),
                }
            } else if let Some(action) = self.races.poll(now) {
                self.race_action(action, now);
            } else {
                return;
            }
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

    fn link_failed(&mut self, peer: PeerId, reason: &str) {
        self.races.link_failed(&peer, reason);
        if let Some(service) = self.home_of(&peer) {
            self.home_gone(service, reason);
        }
    }

    fn race_action(&mut self, action: RaceAction, now: Instant) {
        match action {
            RaceAction::Link(relay, addresses) => {
                match self.links.want(relay, addresses, PreferredTransport::Quic, now) {
                    Wanted::Connected(..) => self.races.linked(&relay),
                    Wanted::Pending => {}
                    Wanted::Refused(reason) => self.races.link_failed(&relay, reason),
                }
            }
            RaceAction::Dial { request, relay, device } => self.dial_circuit(request, relay, device),
            RaceAction::Failed { request, failure, reason } => {
                self.outbox.push_back(DeviceEvent::SignalFailed { request, failure, reason });
            }
        }
    }

    /// For a reason that has nothing to do with the other device or its homes.
    fn signal_failed(&mut self, request: u64, reason: &str) {
        let (failure, reason) = (DeviceFailure::Other, reason.to_owned());
        self.outbox.push_back(DeviceEvent::SignalFailed { request, failure, reason });
    }

    fn dial_circuit(&mut self, request: u64, relay: PeerId, device: PeerId) {
        let Some((_, address)) = self.links.get(&relay) else {
            self.races.link_failed(&relay, "the connection to the supernode was lost");
            return;
        };
        let circuit = circuit_address(address, relay).with(Protocol::P2p(device));
        let opts =
            DialOpts::peer_id(device).condition(PeerCondition::Always).addresses(vec![circuit]).build();
        let id = opts.connection_id();
        self.races.dialing(request, &relay, id);
        if let Err(error) = self.swarm.dial(opts) {
            self.races.failed(id, failure_of(&error), &error.to_string());
        }
    }

    // ---- commands --------------------------------------------------------------------------------------------------

    fn handle_command(&mut self, command: DeviceCommand, now: Instant) {
        match command {
            DeviceCommand::OpenHome(address) => self.open_home(&address, self.preferred, now),
            DeviceCommand::OpenErrand(address) => self.open_home(&address, PreferredTransport::Quic, now),
            DeviceCommand::SendHome { service, frame } => self.send_home(service, frame),
            DeviceCommand::Reserve(service) => self.reserve(service),
            DeviceCommand::CloseHome(service) => self.close_home(service),
            DeviceCommand::OpenSignal { request, device, routes, race_after_ms } => {
                let stagger = Duration::from_millis(race_after_ms.into());
                if let Err(reason) = self.start_race(request, device, &routes, stagger, now) {
                    self.signal_failed(request, reason);
                }
            }
            DeviceCommand::SendSignal { signal, frame } => self.send_signal(signal, frame),
            DeviceCommand::CloseSignal(signal) => self.close_signal(signal),
            DeviceCommand::SetSignalIdle { signal, idle } => {
                if let Some(Signal { writer: Some(writer), .. }) = self.signals.get(&signal) {
                    writer.set_probe(Probe::each(if idle { self.idle_probe() } else { self.probe }));
                }
            }
            DeviceCommand::NetworkChanged => self.network_changed(),
            DeviceCommand::Connections(answer) => {
                let table = self.connections.table(|_, connection| connection.point.is_relayed());
                // Nobody may be waiting any more.
                drop(answer.send(table));
            }
            DeviceCommand::Shutdown => {}
        }
    }

    fn open_home(&mut self, address: &SupernodeAddress, preferred: PreferredTransport, now: Instant) {
        let service = address.service;
        let Some(peer) = service_peer(service) else {
            let reason = String::from("its key is not an Ed25519 key");
            self.outbox.push_back(DeviceEvent::HomeClosed { service, reason });
            return;
        };
        let home = self.homes.entry(service).or_insert(Home {
            peer,
            stream: HomeState::None,
            reservation: None,
            asks: false,
        });
        if !matches!(home.stream, HomeState::None) {
            return; // its answer is coming, or came
        }
        home.stream = HomeState::Linking;
        match self.links.want(peer, self.dialable(&address.addresses), preferred, now) {
            Wanted::Connected(connection, _) => self.open_home_stream(service, connection),
            Wanted::Pending => {}
            Wanted::Refused(reason) => self.home_gone(service, reason),
        }
    }

    /// Where a supernode may be reached, of what was said.
    fn dialable(&self, addresses: &[Vec<u8>]) -> Vec<Multiaddr> {
        let public = |address: &Multiaddr| ip_of(address).is_some_and(|ip| self.public.is_public(ip));
        routable(dialable(addresses).into_iter().filter(public).collect())
    }

    fn open_home_stream(&mut self, service: ServiceKey, connection: ConnectionId) {
        if let Some(home) = self.homes.get_mut(&service)
            && matches!(home.stream, HomeState::Linking)
        {
            home.stream = HomeState::Opening(connection);
            let protocol = self.protocols.home.clone();
            self.swarm.behaviour_mut().streams.open(home.peer, connection, protocol);
        }
    }

    fn send_home(&mut self, service: ServiceKey, frame: HomeFrame) {
        if let Some(Home { stream: HomeState::Open { writer, .. }, .. }) = self.homes.get(&service)
            && !writer.send(frame)
        {
            self.home_gone(service, "it takes nothing in");
        }
    }

    fn reserve(&mut self, service: ServiceKey) {
        let Some(home) = self.homes.get(&service) else {
            let reason = String::from("there is no connection to it");
            self.outbox.push_back(DeviceEvent::ReservationLost { service, reason });
            return;
        };
        let Some((connection, address)) = self.links.get(&home.peer) else {
            let reason = String::from("there is no connection to it");
            self.outbox.push_back(DeviceEvent::ReservationLost { service, reason });
            return;
        };
        let before = home.reservation.as_ref().filter(|before| before.connection == connection);
        if before.is_some_and(|before| !before.told) {
            return; // its answer is coming
        }
        let replaces = before.map(|before| before.listener);
        let peer = home.peer;
        let is_other =
            |id: ConnectionId, c: &Connection| c.peer == peer && id != connection && !c.point.is_relayed();
        // libp2p asks on the oldest connection, and one that is being closed answers no more.
        if self.connections.iter().any(|(id, c)| is_other(id, c)) {
            if let Some(home) = self.homes.get_mut(&service) {
                home.asks = true;
            }
            return;
        }
        let listener = self.swarm.listen_on(circuit_address(address, home.peer));
        if let Some(home) = self.homes.get_mut(&service) {
            let reservation = |&listener| Reservation { listener, connection, told: false, replaces };
            home.reservation = listener.as_ref().ok().map(reservation);
        }
        if let Err(error) = listener {
            self.outbox.push_back(DeviceEvent::ReservationLost { service, reason: error.to_string() });
        }
    }

    /// The reservation ends with the connection.
    fn close_home(&mut self, service: ServiceKey) {
        let Some(home) = self.homes.remove(&service) else { return };
        self.links.forget(&home.peer);
        self.close_direct(home.peer);
    }

    /// Closes the connections to a supernode itself, not those through it.
    fn close_direct(&mut self, peer: PeerId) {
        let ids: Vec<ConnectionId> =
            self.connections.iter().filter(|(_, c)| c.peer == peer).map(|(id, _)| id).collect();
        for id in ids {
            self.swarm.close_connection(id);
        }
    }

    fn start_race(
        &mut self,
        request: u64,
        device: DeviceKey,
        routes: &[SupernodeAddress],
        stagger: Duration,
        now: Instant,
    ) -> Result<(), &'static str> {
        let peer = device_peer(device).ok_or("the device's key is not an Ed25519 key")?;
        if peer == *self.swarm.local_peer_id() {
            return Err("this is the device itself");
        }
        let route = |at: &SupernodeAddress| {
            Some(Route { relay: service_peer(at.service)?, addresses: self.dialable(&at.addresses) })
        };
        let mut routes: Vec<Route> = routes.iter().filter_map(route).collect();
        // Through a supernode that we are connected to already, two round trips are saved.
        routes.sort_by_key(|route| self.links.get(&route.relay).is_none());
        self.races.start(request, (device, peer), routes, stagger, now)
    }

    fn send_signal(&mut self, signal: SignalId, frame: SignalFrame) {
        let Some(Signal { writer: Some(writer), .. }) = self.signals.get(&signal) else { return };
        if !writer.send(frame) {
            self.signal_gone(signal, "the other device takes nothing in".to_owned(), true);
        }
    }

    fn close_signal(&mut self, signal: SignalId) {
        let Some(open) = self.signals.get_mut(&signal) else { return };
        open.writer = None;
        let (_, surplus) = room(self.signals.iter().map(|(id, signal)| (*id, signal.writer.is_some())));
        if let Some(oldest) = surplus {
            self.signal_gone(oldest, "too many streams were being closed".to_owned(), true);
        }
    }

    /// Ten times as rare: 20 s instead of 2 s.
    fn idle_probe(&self) -> Duration {
        self.probe * IDLE_PROBE_FACTOR
    }

    fn network_changed(&mut self) {
        let reason = "the network of this machine changed";
        for request in self.races.clear() {
            self.signal_failed(request, reason);
        }
        for service in self.homes.keys().copied().collect::<Vec<_>>() {
            self.reservation_gone(service, reason);
            self.home_gone(service, reason);
            self.close_home(service);
        }
        for signal in self.signals.keys().copied().collect::<Vec<_>>() {
            self.signal_gone(signal, reason.to_owned(), true);
        }
        for (id, connection) in self.connections.iter() {
            self.links.forget(&connection.peer);
            self.swarm.close_connection(id);
        }
        self.links.clear();
        self.bind_again();
    }

    /// A socket may be bound to an address that is gone, or that is back.
    fn bind_again(&mut self) {
        let Some((ip, listener)) = self.bound.take() else { return };
        self.swarm.remove_listener(listener);
        let listener = bind(&mut self.swarm, ip).unwrap_or_else(|error| {
            tracing::debug!(%error, "QUIC dials leave from any address now");
            listener
        });
        self.bound = Some((ip, listener));
    }

    // ---- reports of streams ----------------------------------------------------------------------------------------

    fn handle_home_report(&mut self, report: StreamReport<HomeStream, HomeFrame>) {
        let (StreamReport::Frame(stream, _) | StreamReport::Silent(stream) | StreamReport::Closed(stream, _)) =
            &report;
        let (service, number) = *stream;
        let current = matches!(self.homes.get(&service),
            Some(Home { stream: HomeState::Open { number: open, .. }, .. }) if *open == number);
        match report {
            _ if !current => {}
            StreamReport::Frame(_, frame) => self.outbox.push_back(DeviceEvent::HomeFrame { service, frame }),
            StreamReport::Silent(_) => {} // homes are watched by heartbeats
            StreamReport::Closed(_, reason) => self.home_gone(service, &reason),
        }
    }

    fn handle_signal_report(&mut self, report: StreamReport<SignalId, SignalFrame>) {
        match report {
            StreamReport::Frame(signal, frame) => {
                if self.signals.get(&signal).is_some_and(|open| open.writer.is_some()) {
                    self.outbox.push_back(DeviceEvent::SignalFrame { signal, frame });
                }
            }
            StreamReport::Silent(signal) => self.doubt_link_of(signal),
            StreamReport::Closed(signal, reason) => {
                // After our own close the last bytes may still be under way: the idle time-out ends the circuit.
                let ours = self.signals.get(&signal).is_some_and(|open| open.writer.is_none());
                self.signal_gone(signal, reason, !ours);
            }
        }
    }

    fn home_gone(&mut self, service: ServiceKey, reason: &str) {
        let Some(home) = self.homes.get_mut(&service) else { return };
        if !matches!(home.stream, HomeState::None) {
            home.stream = HomeState::None;
            self.outbox.push_back(DeviceEvent::HomeClosed { service, reason: reason.to_owned() });
        }
        self.forget_unused_home(service);
    }

    fn reservation_gone(&mut self, service: ServiceKey, reason: &str) {
        let Some(home) = self.homes.get_mut(&service) else { return };
        if home.reservation.take().is_some() {
            self.outbox.push_back(DeviceEvent::ReservationLost { service, reason: reason.to_owned() });
        }
        self.forget_unused_home(service);
    }

    fn forget_unused_home(&mut self, service: ServiceKey) {
        if matches!(self.homes.get(&service), Some(Home { stream: HomeState::None, reservation: None, .. })) {
            self.homes.remove(&service);
        }
    }

    /// Nothing comes through this circuit any more. Perhaps the connection to its supernode is dead, and the next circuit
    /// must not wait on it. A home's is watched by heartbeats, and one on which another circuit lives is left alone.
    fn doubt_link_of(&mut self, signal: SignalId) {
        let via = |signal: &Signal| self.connections.get(signal.connection).and_then(Connection::via);
        let Some(relay) = self.signals.get(&signal).and_then(via) else { return };
        let others = self.signals.iter().filter(|(id, other)| **id != signal && via(other) == Some(relay));
        if others.count() == 0 && self.home_of(&relay).is_none() {
            self.links.forget(&relay);
            self.close_direct(relay);
        }
    }

    fn signal_gone(&mut self, signal: SignalId, reason: String, close_circuit: bool) {
        let Some(open) = self.signals.remove(&signal) else { return };
        if close_circuit {
            self.swarm.close_connection(open.connection);
        }
        self.outbox.push_back(DeviceEvent::SignalClosed { signal, reason });
    }
}

/// Of streams, the oldest first, and whether each is open: whether one more may be opened, and which one that is being
/// closed is given up.
fn room(signals: impl Iterator<Item = (SignalId, bool)>) -> (bool, Option<SignalId>) {
    let (mut open, mut closing, mut oldest) = (0, 0, None);
    for (id, is_open) in signals {
        if is_open {
            open += 1;
        } else {
            closing += 1;
            oldest = oldest.or(Some(id));
        }
    }
    (open < SIGNALS_MAX, oldest.filter(|_| closing > CLOSING_MAX))
}

/// QUIC dials leave from a listening socket's address; nobody is served there ([`Inbound::CircuitsOnly`]).
fn bind(swarm: &mut Swarm<Behaviour>, ip: IpAddr) -> Result<ListenerId, StartError> {
    let [quic, _] = both_transports((ip, 0).into());
    swarm.listen_on(quic.clone()).map_err(|error| StartError::listen(&quic, &error))
}

/// `<address>/p2p/<relay>/p2p-circuit`.
fn circuit_address(address: &Multiaddr, relay: PeerId) -> Multiaddr {
    address.clone().with(Protocol::P2p(relay)).with(Protocol::P2pCircuit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_are_being_closed_keep_nobody_out_and_are_bounded() {
        let signals = |open: usize, closing: usize| {
            let both = std::iter::repeat_n(false, closing).chain(std::iter::repeat_n(true, open));
            room(both.zip(1..).map(|(open, id)| (SignalId(id), open)))
        };
        assert_eq!(signals(SIGNALS_MAX - 1, CLOSING_MAX), (true, None));
        assert_eq!(signals(SIGNALS_MAX, 0), (false, None));
        assert_eq!(signals(1, CLOSING_MAX + 1), (true, Some(SignalId(1))), "the oldest is given up");
    }
}
