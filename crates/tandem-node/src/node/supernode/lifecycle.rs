//! How the service part comes and goes: bound, serving in some roles, draining, closed.
//!
//! A node whose owner did not consent binds nothing and has no service swarm. With consent it stands by: sockets are
//! bound and nothing is served. What it serves is the election's decision; with the settings' roles it serves from its
//! start. The loop says when; this does it.

use tandem_core::call::{StrangerRules, Strangers};
use tandem_core::peer::PeerRef;
use tandem_core::time::Now;
use tandem_proto::grant::RelaySecret;
use tandem_proto::identity::{DeviceSecret, Entropy, ServiceSecret};
use tandem_proto::ids::{AccountKey, ServiceKey};
use tandem_proto::signed::{DeviceCertificate, DeviceEntry, DeviceSet, NewCertificate, Roles, SignedError};
use tokio::sync::mpsc;

use super::{Reached, Relay, Supernode, SupernodePlan};
use crate::config::{Caps, Config};
use crate::installation::{Installation, StartError};
use crate::node::event_loop::Node;
use crate::node::phone::{Phone, PhoneId, PhoneIdentity};
use crate::node::start::Makings;
use crate::overlay::{
    DeviceCommand, DeviceEvent, Places, ServiceConfig, ServiceEvent, SupernodeAddress, spawn_service,
};

/// An echo service lives no longer than a run of the node.
const ECHO_LIFE_S: u64 = 390 * 86_400;

/// Where a service part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) listen: Places,
    /// As the owner said. `None`: others must have confirmed it first.
    pub(crate) reached_at: Option<Places>,
    /// Bind the relay's port, too.
    pub(crate) relay: bool,
    pub(crate) caps: Caps,
}

impl Place {
    /// What the settings say.
    pub(crate) fn of_settings(config: &Config, roles: Roles, caps: Caps) -> Self {
        Self {
            listen: Places { full: config.listen.clone(), tcp: config.listen_tcp.clone() },
            reached_at: Some(config.reached_at()),
            relay: roles.contains(Roles::RELAY),
            caps,
        }
    }
}

/// A service part that is bound.
pub(crate) struct Bound {
    supernode: Supernode,
    events: mpsc::Receiver<ServiceEvent>,
}

impl Bound {
    /// Binds the swarm's sockets and the relay's. `roles`: what it serves from now on.
    ///
    /// # Errors
    /// A port is taken or not allowed; nothing is left bound.
    pub(crate) fn new(
        makings: &Makings<'_>,
        installation: &Installation,
        place: &Place,
        roles: Roles,
        now: Now,
    ) -> Result<Self, StartError> {
        let secret = || ServiceSecret::from_seed(&installation.keys.service.seed());
        let service = secret().public();
        // The swarm asks for its own ports; the relay's are one above.
        for at in place.listen.full.iter().filter(|_| place.relay) {
            let allowed = makings.warden.may_listen(super::relay::relay_address(*at).port());
            allowed.map_err(|refusal| StartError::Settings(refusal.problem()))?;
        }
        let relay = if place.relay { Some(start_relay(place, service)?) } else { None };
        let first = *place
            .listen
            .full
            .first()
            .ok_or_else(|| StartError::Overlay("there is no place to listen on".to_owned()))?;
        let mut overlay = ServiceConfig::new(secret(), makings.network()?, first, makings.public()?);
        overlay.listen = place.listen.clone();
        // Told only where it differs: the swarm then says by itself where it listens.
        overlay.external = match &place.reached_at {
            Some(reached_at) if *reached_at == place.listen => None,
            Some(reached_at) => Some(reached_at.clone()),
            None => Some(Places::default()),
        };
        overlay.open = roles != Roles::default();
        let directory_traffic = overlay.traffic.clone();
        let (commands, events) = spawn_service(overlay).map_err(StartError::from)?;
        let reached_at = place.reached_at.as_ref();
        let plan = SupernodePlan {
            secret: secret(),
            reached_at: reached_at.map(Reached::of_places).unwrap_or_default(),
            finds_out: reached_at.is_none(),
            listening_on: reached_at.map_or(0, |places| 2 * places.full.len() + places.tcp.len()),
            roles,
            caps: place.caps,
            relay,
            commands,
            directory_traffic,
            seed: rand::random(),
        };
        Ok(Self { supernode: Supernode::new(plan, now), events })
    }
}

fn start_relay(place: &Place, service: ServiceKey) -> Result<(Relay, RelaySecret), StartError> {
    let secret: [u8; 32] = rand::random();
    let relay =
        Relay::start(service, RelaySecret::new(secret), &place.listen.full, &place.caps, rand::random())
            .map_err(StartError::from)?;
    Ok((relay, RelaySecret::new(secret)))
}

/// A supernode's echo service: a device of an account of its own.
pub(crate) struct Echo {
    phone: Phone,
    events: mpsc::Receiver<DeviceEvent>,
    account: AccountKey,
}

impl Echo {
    /// Starts its swarm.
    ///
    /// # Errors
    /// The swarm does not start, or the papers cannot be made.
    pub(crate) fn new(makings: &Makings<'_>, now: Now) -> Result<Self, StartError> {
        let failed = |error: SignedError| StartError::Overlay(error.to_string());
        let (account, identity) = echo_identity(now).map_err(failed)?;
        // Everybody is a stranger to it.
        let rules =
            StrangerRules { mode: Strangers::Ring, network: makings.network()?, ..StrangerRules::default() };
        let (phone, events) = makings.phone(PhoneId::Echo, identity, None, rules, now)?;
        Ok(Self { phone, events, account })
    }
}

/// A fresh account for this run: nothing ties it to the owner.
fn echo_identity(now: Now) -> Result<(AccountKey, PhoneIdentity), SignedError> {
    let account = Entropy::new(rand::random()).account_secret();
    let device = DeviceSecret::from_seed(&rand::random());
    let now_s = now.unix_ms / 1000;
    let certificate = DeviceCertificate::issue(
        &account,
        NewCertificate {
            device: device.public(),
            serial: 1,
            not_before_s: now_s,
            not_after_s: now_s + ECHO_LIFE_S,
            label: "echo".to_owned(),
        },
    )?;
    let entry = DeviceEntry { device: device.public(), serial: 1 };
    let device_set = DeviceSet::issue(&account, 1, &[entry], now_s + ECHO_LIFE_S)?;
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

impl Node {
    /// Takes up a service part that is bound. `known`: supernodes for it to begin with.
    pub(in crate::node) fn install(&mut self, bound: Bound, known: &[SupernodeAddress]) {
        let now = self.clock.now();
        let mut supernode = bound.supernode;
        supernode.handle_bootstrap(known, now);
        self.supernode = Some(supernode);
        self.feeds.service = Some(bound.events);
    }

    /// Takes up an echo service, and lets the descriptor name it.
    pub(in crate::node) fn install_echo(&mut self, echo: Echo, known: &[SupernodeAddress]) {
        if self.private.is_some() {
            // Its device is a new one each time: nobody has made it a member, and nobody would speak with it.
            return;
        }
        let now = self.clock.now();
        self.echo = Some(echo.phone);
        self.feeds.echo = Some(echo.events);
        let Some(supernode) = &mut self.supernode else { return };
        supernode.set_echo(Some(echo.account), now);
        // The echo may live on this very supernode: it is nobody's secret that it is here.
        let own = SupernodeAddress { service: supernode.service_key(), addresses: supernode.addresses() };
        let peers: Vec<PeerRef> =
            std::iter::once(&own).chain(known).filter_map(|address| self.peers.insert(address)).collect();
        self.introduce_echo(&peers);
    }

    /// Ends the echo service; its calls are over with it.
    pub(in crate::node) fn close_echo(&mut self) {
        self.feeds.echo = None;
        self.echo_calls.clear();
        let Some(echo) = self.echo.take() else { return };
        // A swarm that takes no commands ends with its channel.
        drop(echo.overlay().try_send(DeviceCommand::Shutdown));
        let now = self.clock.now();
        if let Some(supernode) = &mut self.supernode {
            supernode.set_echo(None, now);
        }
    }

    /// Closes the sockets: nothing is left of the service part. What it counted is kept.
    pub(in crate::node) fn close_service(&mut self) {
        self.count_served();
        self.close_echo();
        self.feeds.service = None;
        let now = self.clock.now();
        let Some(mut supernode) = self.supernode.take() else { return };
        supernode.shutdown(now);
    }
}
