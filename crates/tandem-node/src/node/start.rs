//! Builds a node from its settings and sets its loop going.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tandem_core::call::{CallOptions, StrangerRules};
use tandem_core::peer::PeerRef;
use tandem_core::time::Now;
use tandem_proto::identity::{DeviceSecret, ServiceSecret};
use tandem_proto::ids::ServiceKey;
use tandem_proto::names::NetworkId;
use tandem_proto::signed::Roles;
use tokio::sync::mpsc;

use super::clock::{Clock, SleepWatch};
use super::devices::DeviceDesk;
use super::election::Election;
use super::event_loop::{Feeds, Inputs, MediaEnds, Node};
use super::media::MediaNews;
use super::memory;
use super::peers::PeerTable;
use super::phone::{FinalReport, Phone, PhoneChannels, PhoneId, PhoneIdentity, PhonePlan};
use super::port_mapping::PortMapping;
use super::private::Private;
use super::requests::core_redundancy;
use super::strangers::SentRequests;
use super::supernode::{Bound, Echo, Place};
use super::volunteering::Volunteering;
use crate::api::ApiListener;
use crate::config::Config;
use crate::handle::{NodeConfig, RunningNode, channel};
use crate::installation::{self, Installation, StartError};
use crate::messages::Code;
use crate::overlay::{
    DeviceConfig, DeviceEvent, Membership, PublicAddresses, SupernodeAddress, spawn_device,
};
use crate::platform::network::{self, Network};
use crate::policy::Warden;

/// News of media and their reports that may wait for the loop.
pub(super) const MEDIA_QUEUE: usize = 1024;
pub(super) const REPORT_QUEUE: usize = 32;
/// One proof is looked for at a time.
const PROOF_QUEUE: usize = 2;

/// Starts a node on its data folder: the swarms, the relay where the owner agreed, the loop, the local API.
///
/// # Errors
/// [`StartError`] says what stands in the way; nothing is left running.
pub async fn start(mut node_config: NodeConfig) -> Result<RunningNode, StartError> {
    // Whoever made these settings: they obey.
    node_config.config = node_config.config.held();
    let installation = installation::open(&node_config)?;
    let config = node_config.config.clone();
    // First of all: a second node on one port must not begin anything.
    let listener = if node_config.serve_api { Some(ApiListener::bind(config.api).await?) } else { None };
    let clock = Clock::start();
    let now = clock.now();
    let volunteering = Volunteering::new(&installation.store, &config.volunteer, node_config.terms, now)?;
    let known = first_supernodes(&config, &installation);
    let warden = open_warden(&config)?;
    let private = private(&config, &installation, now)?;
    let mut peers = PeerTable::under(warden.clone());
    let known_peers: Vec<PeerRef> = known.iter().filter_map(|address| peers.insert(address)).collect();

    let (media_ends, media, reports) = MediaEnds::new(warden.clone(), private.as_ref().map(Private::shown));
    let (proofs, proofs_found) = mpsc::channel(PROOF_QUEUE);
    let mut network = network::watch().await;
    let network_now = network.borrow_and_update().clone();
    let network_watch = network.clone();
    let makings = Makings::new(&config, &network_now, &media_ends, ports(&config));

    let steady = serve_steadily(&makings, &installation, &volunteering, now)?;
    let rules = makings.stranger_rules()?;
    // Whether it serves now or only later: its own supernode is never a home of the person's device.
    let own_service = Some(installation.keys.service.public());
    let (person, person_events) =
        makings.phone(PhoneId::Person, person_identity(&installation), own_service, rules, now)?;

    let (handle, side) = channel();
    let inputs =
        Inputs { side, person: person_events, media, reports, network: Some(network), proofs: proofs_found };
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
        warden,
        private,
        solving: Arc::default(),
        feeds: Feeds::default(),
        media_ends: media_ends.clone(),
        network_watch,
        election: Election::new(volunteering.is_steady(), volunteering.terms(), rand::random(), now),
        volunteering,
    };
    if let Some((bound, echo)) = steady {
        node.install(bound, &known);
        node.install_echo(echo, &known);
    }
    node.tell_start();
    node.tell_consent_at_start();
    node.begin(&known_peers)?;

    let api = listener.map(|listener| listener.serve(handle.clone(), &node_config.data)).transpose()?;
    let node_loop = tokio::spawn(node.run(inputs));
    Ok(RunningNode::new(handle, node_loop, api))
}

/// What settings alone ask for is served from the start, and a place that is taken stops it.
fn serve_steadily(
    makings: &Makings<'_>,
    installation: &Installation,
    volunteering: &Volunteering,
    now: Now,
) -> Result<Option<(Bound, Echo)>, StartError> {
    let roles = volunteering.agreed_roles();
    if !volunteering.is_steady() || roles == Roles::default() {
        return Ok(None);
    }
    let place = Place::of_settings(makings.config, roles, volunteering.caps());
    let bound = Bound::new(makings, installation, &place, roles, now)?;
    Ok(Some((bound, Echo::new(&makings.lending(installation), now)?)))
}

/// The policy with its audit log: one that is required and cannot be opened keeps the node from starting.
fn open_warden(config: &Config) -> Result<Warden, StartError> {
    if let Some(source) = &config.policy.source {
        tracing::info!(file = %source.file.display(), digest = source.digest, "following the policy of this machine");
    }
    Warden::open(Arc::clone(&config.policy)).map_err(|error| {
        let path = config.policy.audit.as_ref().map(|rules| rules.file().display().to_string());
        let values = [("path", &*path.unwrap_or_default()), ("detail", &*error.to_string())];
        StartError::Settings(Code::AuditUnopened.with(&values))
    })
}

/// Memberships, where the network is private.
fn private(config: &Config, installation: &Installation, now: Now) -> Result<Option<Private>, StartError> {
    let Some(key) = config.network_key else { return Ok(None) };
    let network = config.network.parse().map_err(|error| StartError::Overlay(format!("{error}")))?;
    let keys = (installation.keys.device.public().0, installation.keys.service.public().0);
    let file = config.membership.as_deref();
    Ok(Some(Private::new((network, key), file, &installation.data, keys, now.unix_ms)))
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
        let qualities = memory::qualities(&self.installation.store);
        self.with_person(|phone, around| phone.begin(known, qualities, around));
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
    pub(super) warden: Warden,
    pub(super) membership: Option<Membership>,
}

impl<'a> Makings<'a> {
    pub(super) fn new(
        config: &'a Config,
        network: &'a Network,
        media: &MediaEnds,
        ports: PortMapping,
    ) -> Self {
        let (media_news, reports) = (media.news.clone(), media.reports.clone());
        let (warden, membership) = (media.warden.clone(), media.membership.clone());
        let bind = config.source_address();
        Self { config, bind, media_news, reports, network, ports, warden, membership }
    }

    /// The same for a swarm under a key that is thrown away: in a private network the service key vouches for it.
    pub(super) fn lending(&self, installation: &Installation) -> Self {
        let lender = ServiceSecret::from_seed(&installation.keys.service.seed());
        let membership = self.membership.clone().map(|membership| membership.lent_by(lender));
        let (media_news, reports) = (self.media_news.clone(), self.reports.clone());
        let (ports, warden) = (self.ports.clone(), self.warden.clone());
        Self { media_news, reports, ports, warden, membership, ..*self }
    }

    fn stranger_rules(&self) -> Result<StrangerRules, StartError> {
        Ok(StrangerRules {
            mode: self.config.strangers(),
            early_media: self.config.early_media,
            network: self.network()?,
            ..StrangerRules::default()
        })
    }

    /// Where supernodes may be, as far as the policy allows, and what is shown to them in a private network.
    pub(super) fn public(&self) -> Result<PublicAddresses, StartError> {
        let ranges = self.config.effective_public_ranges(&[]);
        let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        let public = PublicAddresses::with_ranges(&ranges);
        let public = public.map_err(|error| StartError::Overlay(error.to_string()))?;
        Ok(public.under(self.warden.clone()).within(self.membership.clone()))
    }

    pub(super) fn network(&self) -> Result<NetworkId, StartError> {
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
pub(super) fn first_supernodes(config: &Config, installation: &Installation) -> Vec<SupernodeAddress> {
    let own = installation.keys.service.public();
    let mut known = bootstrap_supernodes(config);
    for address in memory::remembered_supernodes(&installation.store) {
        known.entry(address.service).or_insert(address);
    }
    known.remove(&own);
    let policy = &config.policy;
    let mut known: Vec<SupernodeAddress> = known.into_values().collect();
    for address in &mut known {
        address.addresses = policy.allowed_addresses(address.service, &address.addresses);
    }
    known.retain(|address| !address.addresses.is_empty());
    known
}
