//! What a volunteer's node does for others: the service swarm, the home service, the relay.
//!
//! Policy is `tandem_core::service`; this executes it. Nothing here knows the person's account or device.

mod relay;

use std::collections::VecDeque;
use std::net::SocketAddr;

use tandem_core::service::{ClientRef, Command, Config, Endpoint, Figures, Service};
use tandem_core::time::Now;
use tandem_proto::grant::RelaySecret;
use tandem_proto::identity::ServiceSecret;
use tandem_proto::ids::{AccountKey, DeviceKey, ServiceKey};
use tandem_proto::multiaddr::{Transport, TransportAddress};
use tandem_proto::record::next_sequence;
use tandem_proto::signed::{NewDescriptor, Roles, SupernodeDescriptor};
use tokio::sync::mpsc;

use crate::config::Volunteer;
use crate::overlay::{ClientId, ServiceCommand, ServiceEvent, SupernodeAddress};
use crate::software;
pub(crate) use relay::{Relay, relay_address};

/// How long a descriptor holds without being renewed, in seconds.
const DESCRIPTOR_LIFE_S: u64 = 3 * 3600;
/// Circuits kept for `tandem connections`; further ones are served and not listed.
const CIRCUITS_LISTED_MAX: usize = 4096;

/// What the loop hears of the supernode.
#[derive(Debug)]
pub(crate) enum SupernodeNews {
    /// It listens: full multiaddr text others may bootstrap from.
    Listening(String),
    /// All that is to be kept was moved, or the time is up.
    Drained,
}

/// What a supernode is made with.
pub(crate) struct SupernodePlan {
    pub(crate) secret: ServiceSecret,
    pub(crate) listen: SocketAddr,
    pub(crate) volunteer: Volunteer,
    pub(crate) relay: Option<(Relay, RelaySecret)>,
    pub(crate) echo: Option<AccountKey>,
    pub(crate) commands: mpsc::Sender<ServiceCommand>,
    pub(crate) seed: u64,
}

/// A circuit between two devices that runs through this node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circuit {
    pub(crate) source: DeviceKey,
    pub(crate) target: DeviceKey,
}

pub(crate) struct Supernode {
    secret: ServiceSecret,
    listen: SocketAddr,
    roles: Roles,
    echo: Option<AccountKey>,
    service: Service,
    relay: Option<Relay>,
    commands: mpsc::Sender<ServiceCommand>,
    circuits: Vec<Circuit>,
    sequence: Option<u64>,
    listening: Vec<String>,
    news: VecDeque<SupernodeNews>,
    records_refused: u64,
}

impl Supernode {
    pub(crate) fn new(plan: SupernodePlan, now: Now) -> Self {
        let mut roles = Roles(0);
        if plan.volunteer.directory {
            roles = roles.with(Roles::DIRECTORY);
        }
        if plan.relay.is_some() {
            roles = roles.with(Roles::RELAY);
        }
        let (relay, relay_secret) = plan.relay.unzip();
        let mut config = Config::new(plan.secret.public(), software());
        config.roles = roles;
        config.relay_secret = relay_secret;
        config.reservations_max = usize::try_from(plan.volunteer.caps.devices).unwrap_or(usize::MAX);
        let mut supernode = Self {
            service: Service::new(config, plan.seed, now),
            secret: plan.secret,
            listen: plan.listen,
            roles,
            echo: plan.echo,
            relay,
            commands: plan.commands,
            circuits: Vec::new(),
            sequence: None,
            listening: Vec::new(),
            news: VecDeque::new(),
            records_refused: 0,
        };
        supernode.drive(now);
        supernode
    }

    /// Supernodes to begin with: the bootstrap list and those remembered.
    pub(crate) fn handle_bootstrap(&mut self, known: &[SupernodeAddress], now: Now) {
        let own = self.service_key();
        let endpoints: Vec<Endpoint> = known
            .iter()
            .filter(|address| address.service != own)
            .map(|address| Endpoint { service: address.service, addresses: address.addresses.clone() })
            .collect();
        self.service.handle_bootstrap(&endpoints, now);
        self.drive(now);
    }

    pub(crate) fn handle_overlay(&mut self, event: ServiceEvent, now: Now) {
        match event {
            ServiceEvent::Listening { address } => {
                self.listening.push(address.clone());
                self.news.push_back(SupernodeNews::Listening(address));
            }
            ServiceEvent::ClientOpened { client, peer, remote, outbound } => {
                self.service.handle_opened(ClientRef(client.0), peer, remote, outbound, now);
            }
            ServiceEvent::ClientFrame { client, frame } => {
                self.service.handle_frame(ClientRef(client.0), frame, now);
            }
            ServiceEvent::ClientClosed { client, .. } => {
                self.service.handle_closed(ClientRef(client.0), now);
            }
            ServiceEvent::ConnectFailed { service, reason } => {
                tracing::debug!(%service, reason, "another supernode was not reached");
                self.service.handle_connect_failed(service, now);
            }
            ServiceEvent::Stored { request, copies } => self.service.handle_stored(request, copies, now),
            ServiceEvent::Found { request, value, done, .. } => {
                self.service.handle_found(request, value.as_deref(), done, now);
            }
            ServiceEvent::RecordRefused { reason, .. } => self.note_refused(&reason),
            ServiceEvent::CircuitOpened { source, target } => {
                if self.circuits.len() < CIRCUITS_LISTED_MAX {
                    self.circuits.push(Circuit { source, target });
                }
            }
            ServiceEvent::CircuitClosed { source, target } => {
                let at = self
                    .circuits
                    .iter()
                    .position(|circuit| (circuit.source, circuit.target) == (source, target));
                if let Some(at) = at {
                    self.circuits.swap_remove(at);
                }
            }
            ServiceEvent::RelayStream(stream, remote) => {
                if let Some(relay) = &self.relay {
                    relay.adopt(stream, remote);
                }
            }
            // The home service keeps its own count of whom it serves.
            ServiceEvent::ReservationMade { .. } | ServiceEvent::ReservationEnded { .. } => {}
        }
        self.drive(now);
    }

    pub(crate) fn handle_timeout(&mut self, now: Now) {
        self.service.handle_timeout(now);
        self.drive(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        self.service.poll_timeout()
    }

    pub(crate) fn poll_news(&mut self) -> Option<SupernodeNews> {
        self.news.pop_front()
    }

    /// Tells the clients to leave, refuses what is new, keeps what there is for `within_ms`.
    pub(crate) fn drain(&mut self, within_ms: u32, now: Now) {
        self.service.drain(within_ms, now);
        self.send(ServiceCommand::Drain);
        if let Some(relay) = &self.relay {
            relay.drain();
        }
        self.drive(now);
    }

    /// Ends it all. The relay's thread has ended when this returns.
    pub(crate) fn shutdown(&mut self) {
        self.send(ServiceCommand::Shutdown);
        if let Some(relay) = &self.relay {
            relay.shutdown();
        }
    }

    // ---- how it stands ------------------------------------------------------------------------------------------

    pub(crate) fn service_key(&self) -> ServiceKey {
        self.secret.public()
    }

    /// Where its swarm is: binary multiaddrs without `/p2p`.
    pub(crate) fn addresses(&self) -> Vec<Vec<u8>> {
        let at = |transport| {
            TransportAddress { ip: self.listen.ip(), port: self.listen.port(), transport }.to_bytes()
        };
        vec![at(Transport::Quic), at(Transport::Tcp)]
    }

    pub(crate) fn listening(&self) -> &[String] {
        &self.listening
    }

    pub(crate) fn figures(&self) -> Figures {
        let figures = self.service.figures();
        Figures { records_refused: figures.records_refused + self.records_refused, ..figures }
    }

    pub(crate) fn relay(&self) -> Option<&Relay> {
        self.relay.as_ref()
    }

    /// Other supernodes it knows.
    pub(crate) fn supernodes(&self) -> impl Iterator<Item = &SupernodeDescriptor> {
        self.service.supernodes()
    }

    pub(crate) fn circuits(&self) -> &[Circuit] {
        &self.circuits
    }

    pub(crate) fn overlay(&self) -> &mpsc::Sender<ServiceCommand> {
        &self.commands
    }

    // ---- inside -------------------------------------------------------------------------------------------------

    fn drive(&mut self, now: Now) {
        while let Some(command) = self.service.poll_command() {
            match command {
                Command::Send { client, frame } => {
                    self.send(ServiceCommand::SendHome { client: ClientId(client.0), frame });
                }
                Command::Close(client) => {
                    self.send(ServiceCommand::CloseClient(ClientId(client.0)));
                }
                Command::Connect(endpoint) => self.send(ServiceCommand::Connect(address(endpoint))),
                Command::AddToRouting(endpoint) => self.send(ServiceCommand::AddToRouting(address(endpoint))),
                Command::DhtPut { request, account, value } => {
                    self.send(ServiceCommand::Put { request, account, value });
                }
                Command::DhtGet { request, account } => self.send(ServiceCommand::Get { request, account }),
                Command::SignDescriptor { load_percent } => self.sign_descriptor(load_percent, now),
                Command::RecordRefused { reason, .. } => tracing::warn!(reason, "a record was refused"),
                Command::Drained => self.news.push_back(SupernodeNews::Drained),
            }
        }
    }

    fn sign_descriptor(&mut self, load_percent: u32, now: Now) {
        let sequence = next_sequence(self.sequence, now.unix_ms);
        let at = |transport, socket: SocketAddr| {
            TransportAddress { ip: socket.ip(), port: socket.port(), transport }.to_bytes()
        };
        let relay = self
            .relay
            .as_ref()
            .map(|relay| vec![at(Transport::Udp, relay.udp), at(Transport::Tcp, self.listen)]);
        let descriptor = SupernodeDescriptor::issue(
            &self.secret,
            NewDescriptor {
                sequence,
                not_after_s: now.unix_ms / 1000 + DESCRIPTOR_LIFE_S,
                roles: self.roles,
                addresses: self.addresses(),
                relay: relay.unwrap_or_default(),
                load_percent,
                software: software(),
                echo: self.echo,
            },
        );
        match descriptor {
            Ok(descriptor) => {
                self.sequence = Some(sequence);
                self.service.handle_own_descriptor(descriptor, now);
            }
            Err(error) => tracing::error!(%error, "this supernode cannot describe itself"),
        }
    }

    fn note_refused(&mut self, reason: &str) {
        self.records_refused += 1;
        tracing::warn!(reason, "a record was refused");
    }

    fn send(&self, command: ServiceCommand) {
        if let Err(error) = self.commands.try_send(command) {
            tracing::warn!(%error, "the service swarm does not take commands");
        }
    }
}

fn address(endpoint: Endpoint) -> SupernodeAddress {
    SupernodeAddress { service: endpoint.service, addresses: endpoint.addresses }
}
