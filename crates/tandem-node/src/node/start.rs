//! Builds a node from its settings and sets its loop going.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tandem_core::call::{CallOptions, StrangerRules, Strangers};
use tandem_core::peer::PeerRef;
use tandem_core::time::Now;
use tandem_proto::grant::RelaySecret;
use tandem_proto::identity::{DeviceSecret, Entropy};
use tandem_proto::ids::{AccountKey, ServiceKey};
use tandem_proto::names::NetworkId;
use tandem_proto::signed::{DeviceCertificate, DeviceEntry, DeviceSet, NewCertificate, Roles};
use tokio::sync::mpsc;

use super::clock::{Clock, SleepWatch};
use super::devices::DeviceDesk;
use super::event_loop::{Inputs, Node};
use super::media::MediaNews;
use super::memory;
use super::peers::PeerTable;
use super::phone::{FinalReport, Phone, PhoneChannels, PhoneId, PhoneIdentity, PhonePlan};
use super::port_mapping::PortMapping;
use super::requests::core_redundancy;
use super::strangers::SentRequests;
use super::supernode::{Relay, Supernode, SupernodePlan};
use super::volunteering::Volunteering;
use crate::api::ApiListener;
use crate::config::Config;
use crate::handle::{NodeConfig, RunningNode, channel};
use crate::installation::{self, Installation, StartError};
use crate::overlay::{
    DeviceConfig, DeviceEvent, PublicAddresses, ServiceConfig, ServiceEvent, SupernodeAddress, spawn_device,
    spawn_service,
};
use crate::platform::network::{self, Network};

/// News of media and their reports that may wait for the loop.
pub(super) const MEDIA_QUEUE: usize = 1024;
pub(super) const REPORT_QUEUE: usize = 32;
/// One proof is looked for at a time.
const PROOF_QUEUE: usize = 2;
/// An echo service lives as long as the node: its papers too.
const ECHO_LIFE_S: u64 = 390 * 86_400;

/// Starts a node on its data folder: the swarms, the relay where the owner agreed, the loop, the local API.
///
/// # Errors
/// [`StartError`] says what stands in the way; nothing is left running.
pub async fn start(node_config: NodeConfig) -> Result<RunningNode, StartError> {
    let installation = installation::open(&node_config)?;
    let config = node_config.config.clone();
    // First of all: a second node on one port must not begin anything.
    let listener = if node_config.serve_api { Some(ApiListener::bind(config.api).await?) } else { None };
    let clock = Clock::start();
    let now = clock.now();
    let volunteering = Volunteering::new(&installation.store, &config.volunteer, node_config.terms, now)?;
    let known = first_supernodes(&config, &installation);
    let mut peers = PeerTable::default();
    let known_peers: Vec<PeerRef> = known.iter().filter_map(|address| peers.insert(address)).collect();

    let (media_news, media) = mpsc::channel(MEDIA_QUEUE);
    let (reports_tx, reports) = mpsc::channel(REPORT_QUEUE);
    let (proofs, proofs_found) = mpsc::channel(PROOF_QUEUE);
    let mut network = network::watch().await;
    let network_now = network.borrow_and_update().clone();
    let makings = Makings::new(&config, &network_now, media_news, reports_tx);

    let serves = volunteering.is_steady() && volunteering.agreed_roles() != Roles::default();
    let serving = if serves { Some(start_serving(&makings, &installation, now)?) } else { None };
    let own_service = serving.as_ref().map(|serving| serving.supernode.service_key());
    let rules = makings.stranger_rules()?;
    let (person, person_events) =
        makings.phone(PhoneId::Person, person_identity(&installation), own_service, rules, now)?;

    let (handle, side) = channel();
    let mut inputs = Inputs {
        side,
        person: person_events,
        echo: None,
        service: None,
        media,
        reports,
        network: Some(network),
        proofs: proofs_found,
    };
    let mut node = Node {
        clock,
        started: now,
        config: config.clone(),
        installation,
        peers,
        person,
        echo: None,
        supernode: None,
        calls: BTreeMap::new(),
        echo_calls: BTreeMap::new(),
        reachable_since_ms: None,
        introduced_ms: 0,
        ready: None,
        last_check: crate::network_check::LastCheck::default(),
        stopping: None,
        network: network_now.clone(),
        sleep: SleepWatch::new(clock.reading()),
        clocks_ms: now.mono_ms,
        devices: DeviceDesk::default(),
        sent: SentRequests::default(),
        proofs,
        ports: makings.ports.clone(),
        solving: Arc::default(),
        volunteering,
    };
    if let Some(serving) = serving {
        node.install(serving, &known, &mut inputs);
    }
    node.begin(&known_peers)?;

    let api = listener.map(|listener| listener.serve(handle.clone(), &node_config.data)).transpose()?;
    let node_loop = tokio::spawn(node.run(inputs));
    Ok(RunningNode::new(handle, node_loop, api))
}

fn ports(config: &Config) -> PortMapping {
    if config.port_mapping {
        PortMapping::start(&tokio::runtime::Handle::current())
    } else {
        PortMapping::forbidden()
    }
}

impl Node {
    /// The person's phone learns what it starts from. Not to know who is blocked is no way to start.
    fn begin(&mut self, known: &[PeerRef]) -> Result<(), StartError> {
        self.read_people()?;
        if self.installation.keys.revoked.is_some() {
            self.with_person(|phone, around| phone.become_revoked(around));
        } else if self.installation.keys.restoring {
            self.with_person(|phone, around| phone.set_quiet(true, around));
        }
        self.with_person(|phone, around| phone.handle_known(known, around));
        Ok(())
    }
}

/// What phones are made of.
pub(super) struct Makings<'a> {
    pub(super) config: &'a Config,
    pub(super) bind: Option<IpAddr>,
    pub(super) media_news: mpsc::Sender<MediaNews>,
    pub(super) reports: mpsc::Sender<FinalReport>,
    pub(super) network: &'a Network,
    pub(super) ports: PortMapping,
}

impl<'a> Makings<'a> {
    fn new(
        config: &'a Config,
        network: &'a Network,
        media_news: mpsc::Sender<MediaNews>,
        reports: mpsc::Sender<FinalReport>,
    ) -> Self {
        Self { config, bind: config.source_address(), media_news, reports, network, ports: ports(config) }
    }

    fn stranger_rules(&self) -> Result<StrangerRules, StartError> {
        Ok(StrangerRules {
            mode: self.config.strangers(),
            early_media: self.config.early_media,
            network: self.network()?,
            ..StrangerRules::default()
        })
    }

    /// Where supernodes may be.
    fn public(&self) -> Result<PublicAddresses, StartError> {
        let ranges = self.config.effective_public_ranges(&[]);
        let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        PublicAddresses::with_ranges(&ranges).map_err(|error| StartError::Overlay(error.to_string()))
    }

    fn network(&self) -> Result<NetworkId, StartError> {
        self.config.network.parse().map_err(|error| StartError::Overlay(format!("{error}")))
    }

    pub(super) fn phone(
        &self,
        id: PhoneId,
        identity: PhoneIdentity,
        excluded: Option<ServiceKey>,
        strangers: StrangerRules,
        now: Now,
    ) -> Result<(Phone, mpsc::Receiver<DeviceEvent>), StartError> {
        let secret = DeviceSecret::from_seed(&identity.device.seed());
        let public = self.public()?;
        let mut device = DeviceConfig::new(secret, self.network()?, public.clone());
        device.bind = self.bind;
        let (overlay, events) = spawn_device(device).map_err(StartError::from)?;
        let plan = PhonePlan {
            id,
            identity,
            channels: PhoneChannels {
                overlay,
                media_news: self.media_news.clone(),
                reports: self.reports.clone(),
            },
            bind: self.bind,
            public,
            network: self.network.clone(),
            ports: self.ports.clone(),
            excluded,
            incoming: CallOptions {
                relay_only: self.config.relay_only,
                redundancy: core_redundancy(self.config.redundancy),
                invitation: None,
            },
            strangers,
            seed: rand::random(),
        };
        Ok((Phone::new(plan, now), events))
    }
}

/// A volunteer's parts.
struct Serving {
    supernode: Supernode,
    events: mpsc::Receiver<ServiceEvent>,
    echo: Phone,
    echo_events: mpsc::Receiver<DeviceEvent>,
    address: SupernodeAddress,
}

fn start_serving(
    makings: &Makings<'_>,
    installation: &Installation,
    now: Now,
) -> Result<Serving, StartError> {
    let config = makings.config;
    let listen = *config.listen.first().expect("Config::check refuses a volunteer without a place to listen");
    let secret = || tandem_proto::identity::ServiceSecret::from_seed(&installation.keys.service.seed());
    let service = secret().public();
    let relay = config.volunteer.relay.then(|| start_relay(config, service)).transpose()?;
    let mut overlay = ServiceConfig::new(secret(), makings.network()?, listen, makings.public()?);
    overlay.listen.full.clone_from(&config.listen);
    overlay.listen.tcp.clone_from(&config.listen_tcp);
    overlay.external = (!config.external.is_empty()).then(|| config.reached_at());
    let directory_traffic = overlay.traffic.clone();
    let (commands, events) = spawn_service(overlay).map_err(StartError::from)?;
    let (account, identity) = echo_identity(now)?;
    // Everybody is a stranger to it.
    let echo_rules =
        StrangerRules { mode: Strangers::Ring, network: makings.network()?, ..StrangerRules::default() };
    let (echo, echo_events) = makings.phone(PhoneId::Echo, identity, None, echo_rules, now)?;
    let plan = SupernodePlan {
        secret: secret(),
        reached_at: config.reached_at(),
        volunteer: config.volunteer.clone(),
        relay,
        traffic: memory::traffic(&installation.store),
        echo: Some(account),
        commands,
        directory_traffic,
        seed: rand::random(),
    };
    let supernode = Supernode::new(plan, now);
    let address = SupernodeAddress { service, addresses: supernode.addresses() };
    Ok(Serving { supernode, events, echo, echo_events, address })
}

fn start_relay(config: &Config, service: ServiceKey) -> Result<(Relay, RelaySecret), StartError> {
    let secret: [u8; 32] = rand::random();
    let relay = Relay::start(
        service,
        RelaySecret::new(secret),
        &config.listen,
        &config.volunteer.caps,
        rand::random(),
    )
    .map_err(StartError::from)?;
    Ok((relay, RelaySecret::new(secret)))
}

fn person_identity(installation: &Installation) -> PhoneIdentity {
    let keys = &installation.keys;
    PhoneIdentity {
        account: keys.account(),
        device: DeviceSecret::from_seed(&keys.device.seed()),
        certificate: keys.certificate.signed().clone(),
        serial: keys.certificate.serial(),
        device_set: keys.device_set.clone(),
        display_name: String::new(),
    }
}

/// A fresh account for the echo service of this run: nothing ties it to the owner.
fn echo_identity(now: Now) -> Result<(AccountKey, PhoneIdentity), StartError> {
    let account = Entropy::new(rand::random()).account_secret();
    let device = DeviceSecret::from_seed(&rand::random());
    let now_s = now.unix_ms / 1000;
    let failed = |error: tandem_proto::signed::SignedError| StartError::Overlay(error.to_string());
    let certificate = DeviceCertificate::issue(
        &account,
        NewCertificate {
            device: device.public(),
            serial: 1,
            not_before_s: now_s,
            not_after_s: now_s + ECHO_LIFE_S,
            label: "echo".to_owned(),
        },
    )
    .map_err(failed)?;
    let entry = DeviceEntry { device: device.public(), serial: 1 };
    let device_set = DeviceSet::issue(&account, 1, &[entry], now_s + ECHO_LIFE_S).map_err(failed)?;
    let identity = PhoneIdentity {
        account: account.public(),
        device,
        certificate: certificate.signed().clone(),
        serial: certificate.serial(),
        device_set,
        display_name: "Echo".to_owned(),
    };
    Ok((account.public(), identity))
}

/// The bootstrap list, each supernode once.
pub(super) fn bootstrap_supernodes(config: &Config) -> BTreeMap<ServiceKey, SupernodeAddress> {
    let mut known: BTreeMap<ServiceKey, SupernodeAddress> = BTreeMap::new();
    for peer in config.bootstrap_addresses() {
        let entry = known
            .entry(peer.service)
            .or_insert_with(|| SupernodeAddress { service: peer.service, addresses: Vec::new() });
        entry.addresses.push(peer.address.to_bytes());
    }
    known
}

/// The bootstrap list and the supernodes remembered, each once.
fn first_supernodes(config: &Config, installation: &Installation) -> Vec<SupernodeAddress> {
    let own = installation.keys.service.public();
    let mut known = bootstrap_supernodes(config);
    for address in memory::remembered_supernodes(&installation.store) {
        known.entry(address.service).or_insert(address);
    }
    known.remove(&own);
    known.into_values().collect()
}

impl Node {
    /// Takes up what a volunteer serves.
    fn install(&mut self, serving: Serving, known: &[SupernodeAddress], inputs: &mut Inputs) {
        let now = self.clock.now();
        let mut supernode = serving.supernode;
        supernode.handle_bootstrap(known, now);
        self.supernode = Some(supernode);
        self.echo = Some(serving.echo);
        inputs.service = Some(serving.events);
        inputs.echo = Some(serving.echo_events);
        // The echo may live on this very supernode: it is nobody's secret that it is here.
        let own = self.peers.insert(&serving.address);
        let echo_peers: Vec<PeerRef> =
            own.into_iter().chain(known.iter().filter_map(|address| self.peers.insert(address))).collect();
        self.introduce_echo(&echo_peers);
    }
}
