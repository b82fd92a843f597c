//! What a volunteer's node does for others: the service swarm, the home service, the relay.
//!
//! Policy is `tandem_core::service`; this executes it. Nothing here knows the person's account or device.

mod lifecycle;
mod offices;
mod reached;
mod relay;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use tandem_core::service::{ClientRef, Command, Config, Endpoint, Figures, Service};
use tandem_core::time::Now;
use tandem_proto::grant::RelaySecret;
use tandem_proto::identity::ServiceSecret;
use tandem_proto::ids::{AccountKey, DeviceKey, ServiceKey};
use tandem_proto::record::next_sequence;
use tandem_proto::signed::{Invitation, NewDescriptor, Roles, SupernodeDescriptor};
use tokio::sync::mpsc;

use crate::config::Caps;
use crate::node::outbox::Outbox;
use crate::node::volunteering::Totals;
use crate::overlay::{ClientId, ServiceCommand, ServiceEvent, SupernodeAddress, Traffic};
use crate::software;
pub(crate) use lifecycle::{Bound, Echo, Place};
pub(crate) use reached::Reached;
use relay::Relay;
pub(crate) use relay::relay_address;

/// How long a descriptor holds without being renewed, in seconds.
const DESCRIPTOR_LIFE_S: u64 = 3 * 3600;
/// Circuits kept for `tandem connections`; further ones are served and not listed.
const CIRCUITS_LISTED_MAX: usize = 4096;

/// What the loop hears of the supernode.
#[derive(Debug)]
pub(crate) enum SupernodeNews {
    /// It listens: full multiaddr text others may bootstrap from.
    Listening(String),
    /// All that is to be kept was moved, or the time is up: it stands by.
    Drained,
    /// A node says that it is a reserve. Answer: [`Supernode::note_reserve`].
    Announced { id: u64, service: ServiceKey, network: u32 },
    /// A supernode invites this node to serve. Answer: [`Supernode::answer_invitation`].
    Invited(Invitation),
    /// What came of [`Supernode::invite`].
    InvitationAnswered { reserve: ServiceKey, accepted: bool },
}

/// How busy the machine is, 0 to 100.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MachineLoad {
    /// Of what its owner allows.
    pub(crate) bandwidth_percent: u32,
    /// Of all processors, since the last time that there was a figure; `None`: there is no new one.
    pub(crate) processors_percent: Option<u32>,
}

/// What a supernode is made with.
pub(crate) struct SupernodePlan {
    pub(crate) secret: ServiceSecret,
    pub(crate) reached_at: Reached,
    /// Places that it will say it listens on.
    pub(crate) listening_on: usize,
    /// The swarm is told where others reach it, as that is found out.
    pub(crate) finds_out: bool,
    /// What it serves from the start; none: it stands by.
    pub(crate) roles: Roles,
    pub(crate) caps: Caps,
    pub(crate) relay: Option<(Relay, RelaySecret)>,
    pub(crate) commands: mpsc::Sender<ServiceCommand>,
    /// Of the service swarm's connections.
    pub(crate) directory_traffic: Traffic,
    pub(crate) seed: u64,
}

/// A circuit between two devices that runs through this node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circuit {
    pub(crate) source: DeviceKey,
    pub(crate) target: DeviceKey,
    pub(crate) since_unix_ms: u64,
}

pub(crate) struct Supernode {
    secret: ServiceSecret,
    reached_at: Reached,
    listening_on: usize,
    finds_out: bool,
    roles: Roles,
    echo: Option<AccountKey>,
    service: Service,
    relay: Option<Relay>,
    draining: bool,
    /// The relay role ended: when the calls still on the relay are cut off.
    part_ms: Option<u64>,
    commands: Outbox<ServiceCommand>,
    circuits: Vec<Circuit>,
    circuits_made: u64,
    /// Bytes of the service's connections.
    traffic: Traffic,
    sequence: Option<u64>,
    listening: Vec<String>,
    news: VecDeque<SupernodeNews>,
    records_refused: u64,
}

impl Supernode {
    pub(crate) fn new(plan: SupernodePlan, now: Now) -> Self {
        let (relay, relay_secret) = plan.relay.unzip();
        let mut config = Config::new(plan.secret.public(), software());
        config.roles = plan.roles;
        config.relay_secret = relay_secret;
        config.reservations_max = usize::try_from(plan.caps.devices).unwrap_or(usize::MAX);
        let mut supernode = Self {
            service: Service::new(config, plan.seed, now),
            secret: plan.secret,
            reached_at: plan.reached_at,
            listening_on: plan.listening_on,
            finds_out: plan.finds_out,
            roles: plan.roles,
            echo: None,
            relay,
            draining: false,
            part_ms: None,
            commands: Outbox::new(plan.commands),
            circuits: Vec::new(),
            circuits_made: 0,
            traffic: plan.directory_traffic,
            sequence: None,
            listening: Vec::new(),
            news: VecDeque::new(),
            records_refused: 0,
        };
        if !plan.roles.contains(Roles::RELAY)
            && let Some(relay) = &supernode.relay
        {
            relay.stand_by();
        }
        if plan.roles != Roles::default() {
            supernode.tell_directory(now);
        }
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
                if !self.listening.contains(&address) {
                    self.listening.push(address.clone());
                }
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
                self.circuits_made += 1;
                if self.circuits.len() < CIRCUITS_LISTED_MAX {
                    self.circuits.push(Circuit { source, target, since_unix_ms: now.unix_ms });
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
            ServiceEvent::Checked { id, outcome } => self.take_checked(id, outcome, now),
        }
        self.drive(now);
    }

    pub(crate) fn handle_timeout(&mut self, now: Now) {
        self.count_calls(now);
        self.service.handle_timeout(now);
        self.commands.flush(now.mono_ms);
        self.drive(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        [self.service.poll_timeout(), self.commands.poll_timeout()].into_iter().flatten().min()
    }

    pub(crate) fn poll_news(&mut self) -> Option<SupernodeNews> {
        self.news.pop_front()
    }

    /// Ends it all. The relay's thread has ended when this returns.
    pub(crate) fn shutdown(&mut self, now: Now) {
        self.send(ServiceCommand::Shutdown, now);
        if let Some(relay) = &self.relay {
            relay.shutdown();
        }
    }

    /// Whom the descriptor names for test calls.
    pub(crate) fn set_echo(&mut self, echo: Option<AccountKey>, now: Now) {
        self.echo = echo;
        self.service.handle_addresses_changed(now);
        self.drive(now);
    }

    // ---- how it stands ------------------------------------------------------------------------------------------

    pub(crate) fn service_key(&self) -> ServiceKey {
        self.secret.public()
    }

    /// Where its swarm is: binary multiaddrs without `/p2p`.
    pub(crate) fn addresses(&self) -> Vec<Vec<u8>> {
        self.reached_at.overlay_bytes()
    }

    /// What it serves now; none while it stands by.
    pub(crate) fn roles(&self) -> Roles {
        self.roles
    }

    pub(crate) fn serves(&self) -> bool {
        self.roles != Roles::default()
    }

    /// Whether all that is bound is.
    pub(crate) fn is_listening(&self) -> bool {
        self.listening.len() >= self.listening_on
    }

    pub(crate) fn listening(&self) -> &[String] {
        &self.listening
    }

    pub(crate) fn figures(&self) -> Figures {
        let figures = self.service.figures();
        Figures { records_refused: figures.records_refused + self.records_refused, ..figures }
    }

    /// What it has served since it began.
    pub(crate) fn totals(&self) -> Totals {
        let relay = self.relay.as_ref().map(|relay| relay.stats().server).unwrap_or_default();
        let figures = self.service.figures();
        Totals {
            directory_bytes: self.traffic.bytes(),
            devices: figures.reserved as u64,
            circuits: self.circuits_made,
            lookups: figures.lookups,
            checks: figures.checks,
            relay_bytes: relay.bytes_forwarded,
            calls: relay.calls_made,
        }
    }

    /// The owner gives less, or more, from now on.
    pub(crate) fn set_caps(&mut self, caps: &Caps) {
        self.service.set_reservations_max(usize::try_from(caps.devices).unwrap_or(usize::MAX));
        if let Some(relay) = &mut self.relay {
            relay.set_caps(caps);
        }
    }

    pub(crate) fn relay(&self) -> Option<&Relay> {
        self.relay.as_ref()
    }

    /// Other supernodes it knows.
    pub(crate) fn supernodes(&self) -> impl Iterator<Item = &SupernodeDescriptor> {
        self.service.supernodes()
    }

    /// Devices that it is a home for.
    pub(crate) fn served(&self) -> impl Iterator<Item = DeviceKey> {
        self.service.reserved()
    }

    pub(crate) fn circuits(&self) -> &[Circuit] {
        &self.circuits
    }

    pub(crate) fn overlay(&self) -> &mpsc::Sender<ServiceCommand> {
        self.commands.queue()
    }

    // ---- inside -------------------------------------------------------------------------------------------------

    fn drive(&mut self, now: Now) {
        while let Some(command) = self.service.poll_command() {
            match command {
                Command::Send { client, frame } => {
                    self.send(ServiceCommand::SendHome { client: ClientId(client.0), frame }, now);
                }
                Command::Close(client) => {
                    self.send(ServiceCommand::CloseClient(ClientId(client.0)), now);
                }
                Command::Expel(device) => {
                    tracing::info!(%device, "a device is cut off");
                    self.send(ServiceCommand::Expel(device), now);
                }
                Command::Connect(endpoint) => self.send(ServiceCommand::Connect(address(endpoint)), now),
                Command::AddToRouting(endpoint) => {
                    self.send(ServiceCommand::AddToRouting(address(endpoint)), now);
                }
                Command::DhtPut { request, account, value } => {
                    self.send(ServiceCommand::Put { request, account, value }, now);
                }
                Command::DhtGet { request, account } => {
                    self.send(ServiceCommand::Get { request, account }, now);
                }
                Command::SignDescriptor { load_percent } => self.sign_descriptor(load_percent, now),
                Command::RecordRefused { reason, .. } => tracing::warn!(reason, "a record was refused"),
                Command::Drained => self.drained(now),
                Command::Check(check) => self.begin_check(check, now),
                Command::Announced { id, service, network } => {
                    self.news.push_back(SupernodeNews::Announced { id, service, network });
                }
                Command::Invited { invitation, .. } => {
                    self.news.push_back(SupernodeNews::Invited(invitation));
                }
                Command::InvitationAnswered { reserve, accepted } => {
                    self.news.push_back(SupernodeNews::InvitationAnswered { reserve, accepted });
                }
            }
        }
    }

    fn sign_descriptor(&mut self, load_percent: u32, now: Now) {
        let sequence = next_sequence(self.sequence, now.unix_ms);
        let relays = self.roles.contains(Roles::RELAY);
        let descriptor = SupernodeDescriptor::issue(
            &self.secret,
            NewDescriptor {
                sequence,
                not_after_s: now.unix_ms / 1000 + DESCRIPTOR_LIFE_S,
                roles: self.roles,
                addresses: self.addresses(),
                relay: if relays { self.reached_at.relay_bytes() } else { Vec::new() },
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

    fn send(&mut self, command: ServiceCommand, now: Now) {
        if !self.commands.send(command, now.mono_ms) {
            tracing::warn!("the service swarm does not take commands");
        }
    }
}

fn address(endpoint: Endpoint) -> SupernodeAddress {
    SupernodeAddress { service: endpoint.service, addresses: endpoint.addresses }
}
