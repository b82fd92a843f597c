//! What the two swarms are told at their start.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tandem_proto::identity::{DeviceSecret, ServiceSecret};
use tandem_proto::names::NetworkId;

use super::address::PublicAddresses;
use super::counting::Traffic;

/// Which transport is tried first when a supernode offers several; the other follows
/// [`DeviceConfig::stagger`] later, port 443 after that, and the first to connect is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreferredTransport {
    /// The kernel tells at once when a supernode's process ends. Over QUIC only a missing heartbeat tells.
    Tcp,
    Quic,
}

/// Three kinds of transport in two families then have their turn within 0.6 s.
pub(super) const STAGGER: Duration = Duration::from_millis(150);

/// The device swarm: a leaf. It listens nowhere that a stranger could use.
pub struct DeviceConfig {
    pub secret: DeviceSecret,
    /// Part of every protocol name, so that networks stay apart.
    pub network: NetworkId,
    /// Local address that connections are made from; `None`: the system chooses.
    pub bind: Option<IpAddr>,
    /// Where supernodes may be: what others say of them must not lead this device into its owner's own network.
    pub public: PublicAddresses,
    /// For homes. Circuits and errands take whatever is quickest: QUIC first.
    pub preferred: PreferredTransport,
    /// From the first try of one kind of transport to that of the next.
    pub stagger: Duration,
    /// A signalling stream sends an empty frame when it sent nothing for this long, and ends when it heard nothing
    /// for three times as long. Zero: neither.
    pub signal_probe: Duration,
}

impl DeviceConfig {
    /// The usual settings.
    #[must_use]
    pub fn new(secret: DeviceSecret, network: NetworkId, public: PublicAddresses) -> Self {
        Self {
            secret,
            network,
            bind: None,
            public,
            preferred: PreferredTransport::Tcp,
            stagger: STAGGER,
            signal_probe: Duration::from_secs(2),
        }
    }
}

impl std::fmt::Debug for DeviceConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceConfig")
            .field("network", &self.network)
            .field("bind", &self.bind)
            .finish_non_exhaustive()
    }
}

/// Places of a supernode: what it binds, or where others reach it. An IPv6 place takes no IPv4.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// UDP (QUIC) and TCP.
    pub full: Vec<SocketAddr>,
    /// TCP alone: port 443.
    pub tcp: Vec<SocketAddr>,
}

impl Places {
    /// One place for UDP and TCP.
    #[must_use]
    pub fn one(at: SocketAddr) -> Self {
        Self { full: vec![at], tcp: Vec::new() }
    }
}

/// The service swarm: a supernode.
pub struct ServiceConfig {
    /// Unrelated to any device.
    pub secret: ServiceSecret,
    pub network: NetworkId,
    /// What is bound; no port is 0.
    pub listen: Places,
    /// Where others reach this node; `None`: at `listen` itself.
    pub external: Option<Places>,
    pub limits: ServiceLimits,
    pub public: PublicAddresses,
    /// Counts what all its connections carry.
    pub traffic: Traffic,
    /// Serving from the start; else in standby until [`super::ServiceCommand::Gate`].
    pub open: bool,
}

impl ServiceConfig {
    /// The usual limits, listening and reachable at `listen`.
    #[must_use]
    pub fn new(
        secret: ServiceSecret,
        network: NetworkId,
        listen: SocketAddr,
        public: PublicAddresses,
    ) -> Self {
        let listen = Places::one(listen);
        let (limits, traffic) = (ServiceLimits::default(), Traffic::default());
        Self { secret, network, listen, external: None, limits, public, traffic, open: true }
    }
}

impl std::fmt::Debug for ServiceConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceConfig")
            .field("network", &self.network)
            .field("listen", &self.listen)
            .field("external", &self.external)
            .field("open", &self.open)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Hard limits of a service swarm. The policy's own limits lie far below: at these, libp2p refuses renewals too.
#[derive(Debug, Clone)]
pub struct ServiceLimits {
    pub connections: u32,
    /// No new connection when the process holds more memory than this, in bytes.
    pub memory_bytes: usize,
    pub reservations: usize,
    pub circuits: usize,
    pub circuits_per_device: usize,
    /// Both directions together.
    pub circuit_bytes: u64,
    pub circuit_duration: Duration,
    /// New circuits one device or one IP address may open a minute.
    pub circuits_per_minute: u32,
    /// Records kept; when full, those nearest to this node's own key stay.
    pub records: usize,
}

impl Default for ServiceLimits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            memory_bytes: 2 << 30,
            reservations: 50_000,
            circuits: 10_000,
            circuits_per_device: 64,
            circuit_bytes: 4 << 20,
            circuit_duration: Duration::from_secs(5 * 3600),
            circuits_per_minute: 60,
            records: 20_000,
        }
    }
}
