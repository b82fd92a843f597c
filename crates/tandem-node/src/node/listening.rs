//! Where a candidate listens, and the ways in that this opens: public addresses of the machine, ports that its router
//! forwards, or what its owner says.
//!
//! A way in is a claim until others have tried it. [`follow`] runs from the owner's consent on; dropping what it gives
//! returns the router's ports.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use tandem_core::election::{Carrier, Family, Way};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::port_mapping::PortMapping;
use super::supernode::relay_address;
use crate::config::Config;
use crate::overlay::{Places, PublicAddresses};
use crate::platform::network::Network;
use crate::store::Store;

/// The setting of the store that holds the port chosen once.
const PORT: &str = "service_port";
/// Ports that are chosen from: above those that need a right, below those that systems give to clients (from 32768 on
/// Linux, 49152 by RFC 6335 §6).
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// Ports tried before this machine is thought to have none.
const PORT_TRIES: usize = 32;
/// A router answers about each port by itself: what it says is told when it has been quiet for so long.
const QUIET: Duration = Duration::from_secs(2);

/// One way in, and where it leads from outside. At most one a [`Way`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WayIn {
    pub(crate) way: Way,
    /// QUIC or TCP.
    pub(crate) at: SocketAddr,
    /// UDP: where the relay answers, if it is open to the outside, too. On the same IP address.
    pub(crate) relay: Option<SocketAddr>,
}

/// Why there is no place to listen on.
#[derive(Debug, Error)]
pub(crate) enum NoPlace {
    #[error("no pair of ports is free on this machine")]
    NoPort,
}

/// Where a candidate listens: as the settings say, else on all addresses of the machine, on a pair of ports (the service's
/// and, one above, the relay's) that is chosen once and kept. One that somebody else took meanwhile is replaced.
pub(crate) fn places(config: &Config, store: &Store) -> Result<Places, NoPlace> {
    if !config.listen.is_empty() {
        return Ok(Places { full: config.listen.clone(), tcp: config.listen_tcp.clone() });
    }
    let kept = store.setting(PORT).unwrap_or_else(|error| {
        tracing::warn!(%error, "the port that was chosen cannot be read");
        None
    });
    let policy = &config.policy;
    let allowed = |port: u16| {
        policy.may_listen(port).is_ok() && policy.may_listen(port.saturating_add(1)).is_ok() && is_free(port)
    };
    let kept = kept.and_then(|text| text.parse().ok()).filter(|port| allowed(*port));
    let range = policy.ports.local.as_ref().map_or(PORTS, |local| *local.start()..*local.end());
    let port = kept.or_else(|| (0..PORT_TRIES).map(|_| random_port(&range)).find(|port| allowed(*port)));
    let port = port.ok_or(NoPlace::NoPort)?;
    if kept.is_none()
        && let Err(error) = store.set_setting(PORT, &port.to_string())
    {
        tracing::warn!(%error, "the port that was chosen is not kept");
    }
    Ok(Places { full: everywhere(port), tcp: config.listen_tcp.clone() })
}

/// Even, so that one is never the relay's of another.
fn random_port(range: &std::ops::Range<u16>) -> u16 {
    let first = range.start.next_multiple_of(2);
    first + 2 * (rand::random::<u16>() % ((range.end - first) / 2).max(1))
}

/// All addresses of each family that this machine has.
fn everywhere(port: u16) -> Vec<SocketAddr> {
    let mut places = vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))];
    if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        places.push((Ipv6Addr::UNSPECIFIED, port).into());
    }
    places
}

/// For QUIC and TCP, and one above for the relay.
fn is_free(port: u16) -> bool {
    let udp = |port: u16| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
    let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
    port != u16::MAX && tcp && udp(port) && udp(port + 1)
}

/// What a candidate's ways in come from.
#[derive(Debug, Clone)]
pub(crate) struct ListeningPlan {
    pub(crate) places: Places,
    /// Where the owner says that others reach it; empty: the machine finds out. With it, no router is asked.
    pub(crate) external: Places,
    pub(crate) public: PublicAddresses,
    /// The relay's port is bound.
    pub(crate) relay: bool,
}

impl ListeningPlan {
    pub(crate) fn new(config: &Config, places: Places, public: PublicAddresses, relay: bool) -> Self {
        let external = Places { full: config.external.clone(), tcp: config.external_tcp.clone() };
        Self { places, external, public, relay }
    }
}

/// The ways in, as they change. The router gets its ports back when this is dropped.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Sorted by way. It may change as often as the network does.
    pub(crate) ways: watch::Receiver<Vec<WayIn>>,
    task: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Follows the machine's network and its router from now on. `ports`: [`PortMapping::forbidden`] asks no router.
pub(crate) fn follow(
    plan: ListeningPlan,
    network: watch::Receiver<Network>,
    ports: PortMapping,
) -> Listening {
    let now = ways_in(&plan, &network.borrow(), &Mapped::default());
    let (told, ways) = watch::channel(now);
    let task = tokio::spawn(run(plan, network, ports, told));
    Listening { ways, task }
}

async fn run(
    plan: ListeningPlan,
    mut network: watch::Receiver<Network>,
    ports: PortMapping,
    told: watch::Sender<Vec<WayIn>>,
) {
    let mut kept: Option<Kept> = None;
    loop {
        let now = network.borrow_and_update().clone();
        let wanted = plan.to_map(&now);
        if kept.as_ref().map(|kept| &kept.of) != wanted.as_ref() {
            // The ports of a network that was left are given back first.
            drop(kept.take());
            kept = wanted.map(|of| Kept::ask(of, plan.relay, &ports));
        }
        let mapped = kept.as_ref().map(Kept::mapped).unwrap_or_default();
        let ways = ways_in(&plan, &now, &mapped);
        told.send_if_modified(|known| {
            let changed = *known != ways;
            *known = ways;
            changed
        });
        tokio::select! {
            changed = network.changed() => if changed.is_err() {
                // Nobody watches the network any more: the node ends.
                return;
            },
            () = settled(&mut kept) => {}
        }
    }
}

/// Until the router has said something, and then nothing for a while.
async fn settled(kept: &mut Option<Kept>) {
    let Some(kept) = kept else { return std::future::pending().await };
    kept.changed().await;
    while tokio::time::timeout(QUIET, kept.changed()).await.is_ok() {}
}

/// What is to be mapped: this port, as long as the machine has this address behind this router.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ToMap {
    inside: IpAddr,
    port: u16,
    router: Option<(u32, Option<IpAddr>)>,
}

/// Ports that the router is asked to forward.
struct Kept {
    of: ToMap,
    udp: watch::Receiver<Option<SocketAddr>>,
    tcp: watch::Receiver<Option<SocketAddr>>,
    relay: Option<watch::Receiver<Option<SocketAddr>>>,
}

impl Kept {
    fn ask(of: ToMap, relay: bool, ports: &PortMapping) -> Self {
        let port = of.port;
        let relay_port = relay_address(SocketAddr::new(of.inside, port)).port();
        Self {
            of,
            udp: ports.keep(port, Carrier::Udp),
            tcp: ports.keep(port, Carrier::Tcp),
            relay: relay.then(|| ports.keep(relay_port, Carrier::Udp)),
        }
    }

    fn mapped(&self) -> Mapped {
        Mapped {
            udp: *self.udp.borrow(),
            tcp: *self.tcp.borrow(),
            relay: self.relay.as_ref().and_then(|relay| *relay.borrow()),
        }
    }

    /// One that will never change again is waited for no more.
    async fn changed(&mut self) {
        async fn one(receiver: &mut watch::Receiver<Option<SocketAddr>>) {
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        let relay = async {
            match &mut self.relay {
                Some(relay) => one(relay).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = one(&mut self.udp) => {}
            () = one(&mut self.tcp) => {}
            () = relay => {}
        }
    }
}

/// External addresses of this machine's ports, as the router says.
#[derive(Debug, Clone, Copy, Default)]
struct Mapped {
    udp: Option<SocketAddr>,
    tcp: Option<SocketAddr>,
    relay: Option<SocketAddr>,
}

impl ListeningPlan {
    /// A port is worth mapping where the machine has no public IPv4 address and listens on the private one that it
    /// leaves by; not where the owner said where it is reached.
    fn to_map(&self, network: &Network) -> Option<ToMap> {
        let public = own_address(self, network, Family::V4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)).is_some();
        if public || !self.external.full.is_empty() {
            return None;
        }
        let inside = network.mappable()?;
        let at = self
            .places
            .full
            .iter()
            .find(|at| at.ip() == inside || (at.is_ipv4() && at.ip().is_unspecified()))?;
        let router = network.gateways.iter().find(|gateway| gateway.is_ipv4);
        let router = router.map(|gateway| (gateway.interface, gateway.via));
        Some(ToMap { inside, port: at.port(), router })
    }
}

/// The ways in that this makes, one address each: what the owner says, then the machine's own, then the router's.
fn ways_in(plan: &ListeningPlan, network: &Network, mapped: &Mapped) -> Vec<WayIn> {
    let mut ways = BTreeMap::new();
    let mut add = |family_of: SocketAddr, carrier: Carrier, is_mapped: bool, relay: Option<SocketAddr>| {
        if plan.public.is_public(family_of.ip()) {
            let way = Way { family: family(family_of.ip()), carrier, mapped: is_mapped };
            ways.entry(way).or_insert(WayIn { way, at: family_of, relay });
        }
    };
    let relay_of = |at: SocketAddr| plan.relay.then(|| relay_address(at));
    for at in &plan.external.full {
        let elsewhere = !network.addresses.iter().any(|own| own.ip == at.ip());
        add(*at, Carrier::Udp, elsewhere, relay_of(*at));
        add(*at, Carrier::Tcp, elsewhere, None);
    }
    if plan.external.full.is_empty() {
        for place in &plan.places.full {
            let Some(ip) = own_address(plan, network, family(place.ip()), place.ip()) else { continue };
            let at = SocketAddr::new(ip, place.port());
            add(at, Carrier::Udp, false, relay_of(at));
            add(at, Carrier::Tcp, false, None);
        }
    }
    if let Some(at) = mapped.udp {
        // Both are forwarded by the same router; a grant names one address.
        let relay = mapped.relay.filter(|relay| relay.ip() == at.ip());
        add(at, Carrier::Udp, true, relay);
    }
    if let Some(at) = mapped.tcp {
        add(at, Carrier::Tcp, true, None);
    }
    ways.into_values().collect()
}

/// The public address by which a place is reached without a router's help: its own, or the machine's best where it is
/// bound to all. A lasting one rather than a temporary one (RFC 8981): it is written into a descriptor.
fn own_address(plan: &ListeningPlan, network: &Network, of: Family, place: IpAddr) -> Option<IpAddr> {
    if !place.is_unspecified() {
        return Some(place).filter(|ip| plan.public.is_public(*ip));
    }
    let mut own: Vec<_> = network
        .addresses
        .iter()
        .filter(|own| family(own.ip) == of && !own.deprecated && plan.public.is_public(own.ip))
        .collect();
    own.sort_by_key(|own| (own.temporary, own.rank()));
    own.first().map(|own| own.ip)
}

fn family(ip: IpAddr) -> Family {
    if ip.is_ipv4() { Family::V4 } else { Family::V6 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::network::LocalAddress;

    const WITHIN: Duration = Duration::from_secs(20);

    fn own(ip: &str) -> LocalAddress {
        LocalAddress {
            ip: ip.parse().unwrap(),
            interface: 2,
            default_route: Some(100),
            temporary: false,
            deprecated: false,
            bridge: false,
        }
    }

    fn network(addresses: &[LocalAddress]) -> Network {
        Network::new(addresses.to_vec(), Vec::new())
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn plan(listen: &[&str]) -> ListeningPlan {
        let full = listen.iter().map(|text| at(text)).collect();
        ListeningPlan {
            places: Places { full, tcp: Vec::new() },
            external: Places::default(),
            public: PublicAddresses::default(),
            relay: true,
        }
    }

    fn everywhere_plan() -> ListeningPlan {
        plan(&["0.0.0.0:14000", "[::]:14000"])
    }

    fn shown(ways: &[WayIn]) -> Vec<String> {
        let show = |way: &WayIn| {
            let relay = way.relay.map(|relay| format!(" {relay}")).unwrap_or_default();
            let mapped = if way.way.mapped { "mapped " } else { "" };
            format!("{mapped}{:?} {}{relay}", way.way.carrier, way.at)
        };
        ways.iter().map(show).collect()
    }

    #[test]
    fn public_addresses_of_the_machine_are_ways_in_and_others_are_not() {
        let temporary = LocalAddress { temporary: true, ..own("2a00::99") };
        let many = network(&[own("192.168.1.2"), own("8.8.8.8"), temporary, own("2a00::1"), own("fd00::1")]);
        let ways = ways_in(&everywhere_plan(), &many, &Mapped::default());
        let expected = [
            "Udp 8.8.8.8:14000 8.8.8.8:14001",
            "Tcp 8.8.8.8:14000",
            "Udp [2a00::1]:14000 [2a00::1]:14001",
            "Tcp [2a00::1]:14000",
        ];
        assert_eq!(shown(&ways), expected);
        assert_eq!(everywhere_plan().to_map(&many), None, "with a public address no router is asked");
        assert_eq!(ways_in(&everywhere_plan(), &network(&[own("192.168.1.2")]), &Mapped::default()), []);
        let directory = ListeningPlan { relay: false, ..plan(&["8.8.4.4:14000"]) };
        assert_eq!(shown(&ways_in(&directory, &many, &Mapped::default()))[0], "Udp 8.8.4.4:14000");
    }

    #[test]
    fn what_the_router_forwards_is_a_way_in_where_it_is_public() {
        let inside = network(&[own("192.168.1.2"), own("2a00::1")]);
        let wanted = ToMap { inside: "192.168.1.2".parse().unwrap(), port: 14_000, router: None };
        assert_eq!(everywhere_plan().to_map(&inside), Some(wanted));
        let mut mapped = Mapped { udp: Some(at("8.8.8.8:3000")), ..Mapped::default() };
        let ways = shown(&ways_in(&everywhere_plan(), &inside, &mapped));
        assert_eq!(ways[0], "mapped Udp 8.8.8.8:3000", "the relay's port is not forwarded: {ways:?}");
        mapped.relay = Some(at("8.8.8.8:3777"));
        mapped.tcp = Some(at("8.8.8.8:3001"));
        let ways = shown(&ways_in(&everywhere_plan(), &inside, &mapped));
        assert!(ways.contains(&"mapped Udp 8.8.8.8:3000 8.8.8.8:3777".to_owned()), "{ways:?}");
        assert!(ways.contains(&"mapped Tcp 8.8.8.8:3001".to_owned()), "{ways:?}");
        // A router behind another NAT names an address that nobody reaches.
        let behind = Mapped { udp: Some(at("100.64.0.9:3000")), ..Mapped::default() };
        assert_eq!(shown(&ways_in(&everywhere_plan(), &inside, &behind)).len(), 2);
        assert_eq!(plan(&["192.168.1.3:14000"]).to_map(&inside), None, "not where nothing listens");
    }

    #[test]
    fn what_the_owner_says_stands_for_what_the_machine_would_find_out() {
        let config = Config { external: vec![at("9.9.9.9:4000")], ..Config::default() };
        let said = ListeningPlan::new(&config, everywhere_plan().places, PublicAddresses::default(), true);
        let inside = network(&[own("192.168.1.2"), own("2a00::1")]);
        let ways = ways_in(&said, &inside, &Mapped::default());
        assert_eq!(shown(&ways), ["mapped Udp 9.9.9.9:4000 9.9.9.9:4001", "mapped Tcp 9.9.9.9:4000"]);
        assert_eq!(said.to_map(&inside), None);
    }

    #[test]
    fn a_port_is_chosen_once_and_another_one_when_it_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store.sqlite"), 0).unwrap();
        let config = Config::default();
        let first = places(&config, &store).unwrap();
        let port = first.full[0].port();
        assert!(PORTS.contains(&port) && port.is_multiple_of(2), "{port}");
        assert!(first.full.iter().all(|at| at.ip().is_unspecified() && at.port() == port), "{first:?}");
        assert_eq!(places(&config, &store).unwrap(), first);
        let taken = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port + 1)).unwrap();
        let second = places(&config, &store).unwrap();
        assert_ne!(second, first);
        drop(taken);
        assert_eq!(places(&config, &store).unwrap(), second, "the new one is kept");
        let listen = vec![at("192.0.2.1:443")];
        let config = Config { listen: listen.clone(), ..config };
        assert_eq!(places(&config, &store).unwrap().full, listen);
    }

    #[tokio::test]
    async fn the_router_is_asked_again_in_another_network_and_gets_its_ports_back() {
        let (ports, mut asked) = PortMapping::observed_kept();
        let (network_told, network_now) = watch::channel(network(&[own("192.168.1.2")]));
        let mut listening = follow(everywhere_plan(), network_now, ports);
        let mut kept = Vec::new();
        for _ in 0..3 {
            kept.push(tokio::time::timeout(WITHIN, asked.recv()).await.unwrap().unwrap());
        }
        let wanted: Vec<_> = kept.iter().map(|kept| (kept.port, kept.carrier)).collect();
        assert_eq!(wanted, [(14_000, Carrier::Udp), (14_000, Carrier::Tcp), (14_001, Carrier::Udp)]);
        for (kept, external) in kept.iter().zip(["8.8.8.8:1", "8.8.8.8:2", "8.8.8.8:3"]) {
            kept.told.send_replace(Some(at(external)));
        }
        let all = listening.ways.wait_for(|ways| ways.len() == 2);
        let all = tokio::time::timeout(WITHIN, all).await.expect("in time").unwrap().clone();
        assert_eq!(shown(&all), ["mapped Udp 8.8.8.8:1 8.8.8.8:3", "mapped Tcp 8.8.8.8:2"]);

        network_told.send_replace(network(&[own("192.168.7.2")]));
        for kept in kept {
            tokio::time::timeout(WITHIN, kept.told.closed()).await.expect("it is given back");
        }
        let none = tokio::time::timeout(WITHIN, listening.ways.wait_for(Vec::is_empty)).await.is_ok();
        assert!(none);
        let again = tokio::time::timeout(WITHIN, asked.recv()).await.unwrap().unwrap();
        assert_eq!(again.port, 14_000);
        // A network with a public address needs no router.
        network_told.send_replace(network(&[own("8.8.4.4")]));
        tokio::time::timeout(WITHIN, again.told.closed()).await.expect("it is given back");

        network_told.send_replace(network(&[own("192.168.1.2")]));
        let last = tokio::time::timeout(WITHIN, async {
            let mut last = Vec::new();
            while last.len() < 3 {
                let kept = asked.recv().await.unwrap();
                if !kept.told.is_closed() {
                    last.push(kept);
                }
            }
            last
        })
        .await
        .unwrap();
        drop(listening);
        for kept in last {
            tokio::time::timeout(WITHIN, kept.told.closed()).await.expect("it is given back at the end");
        }
    }
}
