//! The machine's network: which addresses it has, whether they lead anywhere, and when that changes.
//!
//! [`watch`] follows the kernel's own messages on Linux (netlink) and asks every few seconds elsewhere. What counts as
//! usable, and which addresses a call may show to a contact, is decided here by pure functions.

#[cfg(target_os = "linux")]
mod netlink;
mod poll;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::sync::watch;

/// Addresses remembered of one machine; what comes after the best of them is left out.
pub const ADDRESSES_MAX: usize = 32;
/// Default routes remembered of one machine.
pub const GATEWAYS_MAX: usize = 16;
/// Addresses shown to a contact in one call.
pub const HOSTS_MAX: usize = 4;
/// A change is looked at when this long has passed without another: they come in groups.
const QUIET: Duration = Duration::from_millis(40);
/// And at the latest after this, however many come.
const SETTLED_WITHIN: Duration = Duration::from_millis(200);

/// The machine's network at one moment, without loopback and link-local addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Best first (see [`LocalAddress::rank`]), at most [`ADDRESSES_MAX`].
    pub addresses: Vec<LocalAddress>,
    /// By metric, at most [`GATEWAYS_MAX`].
    pub gateways: Vec<Gateway>,
}

/// One address of an interface that is up and has a carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalAddress {
    pub ip: IpAddr,
    /// The kernel's number of the interface.
    pub interface: u32,
    /// Metric of the interface's default route for this family; `None`: it has none.
    pub default_route: Option<u32>,
    /// A temporary IPv6 address (RFC 8981): it says less about the machine than a lasting one.
    pub temporary: bool,
    /// Still good for what stands, not to be used for anything new (RFC 4862 §5.5.4): temporary addresses end so each day.
    pub deprecated: bool,
    /// A bridge that machines within this one hang on (containers, virtual machines).
    pub bridge: bool,
}

/// Where a default route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gateway {
    pub metric: u32,
    pub interface: u32,
    /// `None`: straight into the interface, as with a point-to-point link.
    pub via: Option<IpAddr>,
    pub is_ipv4: bool,
}

/// What a change of network means for what stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing that leads anywhere: a bridge for containers came, a worse route went.
    Aside,
    /// Something came, and nothing that was used went: what stands goes on; calls get one more address.
    More,
    /// Nothing is left but loopback. There is nothing to be done before that ends.
    Down,
    /// What was used is gone or is no longer the best: everything is made anew, at once.
    Moved,
}

/// Names a network as far as this machine can tell it from others: its gateways and the own addresses in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint(Vec<IpAddr>);

impl Network {
    /// From what was read; sorted, bounded, without what is of no use to a call.
    #[must_use]
    pub fn new(addresses: Vec<LocalAddress>, gateways: Vec<Gateway>) -> Self {
        let mut addresses: Vec<LocalAddress> =
            addresses.into_iter().filter(|address| is_usable(address.ip)).collect();
        addresses.sort_by_key(LocalAddress::rank);
        addresses.dedup_by_key(|address| address.ip);
        addresses.truncate(ADDRESSES_MAX);
        let mut gateways = gateways;
        gateways.sort_unstable();
        gateways.dedup();
        gateways.truncate(GATEWAYS_MAX);
        Self { addresses, gateways }
    }

    /// There is an address other than loopback. One without a default route counts: it may lead to a lab or a LAN.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// Addresses that a call may offer to a contact as host candidates, best first, at most [`HOSTS_MAX`]: one of each
    /// family on each interface, those with a default route. Only on a machine without any default route the others
    /// count, bridges last of all. Unique local addresses (RFC 4193) are left out while there is a global one, unless
    /// the other end has shown one.
    #[must_use]
    pub fn hosts(&self, peer_has_unique_local: bool) -> Vec<IpAddr> {
        let mut candidates = self.candidates();
        let global = candidates.iter().any(|address| is_global_v6(address.ip));
        candidates.retain(|address| !is_unique_local(address.ip) || peer_has_unique_local || !global);
        let mut seen: Vec<(u32, bool, bool)> = Vec::new();
        let mut hosts = Vec::new();
        for address in candidates {
            let kind = (address.interface, address.ip.is_ipv4(), is_unique_local(address.ip));
            if !seen.contains(&kind) {
                seen.push(kind);
                hosts.push(address.ip);
            }
        }
        interleave(&hosts)
    }

    /// What it means that the network is now this, and was `before`.
    #[must_use]
    pub fn change_since(&self, before: &Self) -> Change {
        if !self.is_up() {
            return if before.is_up() { Change::Down } else { Change::Aside };
        }
        let (now, was) = (self.used(), before.used());
        let gone = was.iter().any(|ip| !self.addresses.iter().any(|address| address.ip == *ip));
        let other_way = [true, false].into_iter().any(|v4| {
            let was = before.best_gateway(v4);
            was.is_some() && was != self.best_gateway(v4)
        });
        if !before.is_up() || gone || other_way {
            Change::Moved
        } else if now.iter().any(|ip| !was.contains(ip)) {
            Change::More
        } else {
            Change::Aside
        }
    }

    /// The IPv4 address that the machine leaves by, whose ports a router could forward.
    #[must_use]
    pub fn mappable(&self) -> Option<IpAddr> {
        let best = self.addresses.iter().find(|address| address.ip.is_ipv4())?;
        (best.default_route.is_some() && is_private_v4(best.ip)).then_some(best.ip)
    }

    /// Addresses that lead out; all of them but bridges', and then all, where none does.
    fn used(&self) -> Vec<IpAddr> {
        self.candidates().into_iter().map(|address| address.ip).collect()
    }

    fn candidates(&self) -> Vec<&LocalAddress> {
        let routed = |address: &&LocalAddress| address.default_route.is_some() && !address.deprecated;
        let plain = |address: &&LocalAddress| !address.bridge && !address.deprecated;
        let mut candidates: Vec<&LocalAddress> = self.addresses.iter().filter(routed).collect();
        if candidates.is_empty() {
            candidates = self.addresses.iter().filter(plain).collect();
        }
        if candidates.is_empty() {
            candidates = self.addresses.iter().collect();
        }
        candidates
    }

    fn best_gateway(&self, v4: bool) -> Option<&Gateway> {
        self.gateways.iter().find(|gateway| gateway.is_ipv4 == v4)
    }

    /// What this network is remembered by.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let gateways = self.gateways.iter().filter_map(|gateway| gateway.via);
        let mut parts: Vec<IpAddr> =
            gateways.chain(self.addresses.iter().map(|address| place(address.ip))).collect();
        parts.sort_unstable();
        parts.dedup();
        Fingerprint(parts)
    }
}

impl LocalAddress {
    /// Sorts the best first: what may be used anew, with a default route, the cheapest, temporary before lasting, IPv4 before IPv6.
    #[must_use]
    pub fn rank(&self) -> impl Ord + use<> {
        (
            self.deprecated,
            self.default_route.is_none(),
            self.bridge,
            self.default_route,
            self.interface,
            self.ip.is_ipv6(),
            !self.temporary,
            self.ip,
        )
    }
}

/// Follows the machine's network: the receiver holds the newest state, and hears of every other one. It ends with its
/// receivers. Only the newest state is kept, however often it changes.
pub async fn watch() -> watch::Receiver<Network> {
    let mut changes = Changes::open();
    let first = changes.read().await.unwrap_or_default();
    let (sender, receiver) = watch::channel(first);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = sender.closed() => return,
                () = changes.settled() => {}
            }
            match changes.read().await {
                Some(now) => {
                    sender.send_if_modified(|known| {
                        let changed = *known != now;
                        *known = now;
                        changed
                    });
                }
                // Nothing is known: what was known stays.
                None => tracing::debug!("the system does not say how its network is"),
            }
        }
    });
    receiver
}

/// Where news come from.
enum Changes {
    #[cfg(target_os = "linux")]
    Netlink(netlink::Listener),
    Polling,
}

impl Changes {
    fn open() -> Self {
        #[cfg(target_os = "linux")]
        match netlink::Listener::open() {
            Ok(listener) => return Self::Netlink(listener),
            Err(error) => {
                tracing::info!(%error, "the kernel's messages about the network cannot be read: it is asked every few seconds");
            }
        }
        Self::Polling
    }

    /// Returns when the network may have changed and has come to rest.
    async fn settled(&mut self) {
        self.next().await;
        let latest = tokio::time::Instant::now() + SETTLED_WITHIN;
        while let Ok(()) =
            tokio::time::timeout_at(latest.min(tokio::time::Instant::now() + QUIET), self.next()).await
        {
        }
    }

    async fn next(&mut self) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Netlink(listener) => {
                if let Err(error) = listener.next().await {
                    tracing::info!(%error, "the kernel's messages about the network ended: it is asked every few seconds");
                    *self = Self::Polling;
                }
            }
            Self::Polling => tokio::time::sleep(poll::EVERY).await,
        }
    }

    /// How it is now; `None` when the system does not say.
    async fn read(&self) -> Option<Network> {
        #[cfg(target_os = "linux")]
        if let Self::Netlink(_) = self {
            match netlink::read().await {
                Ok(network) => return Some(network),
                Err(error) => tracing::debug!(%error, "netlink did not answer"),
            }
        }
        poll::read()
    }
}

/// An address that a socket can be bound to and that others can reach, were it not for NATs.
fn is_usable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            !(ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.octets()[0] == 0)
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local())
                && ip.to_ipv4_mapped().is_none()
        }
    }
}

/// A unique local address (RFC 4193).
#[must_use]
pub fn is_unique_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unique_local())
}

fn is_private_v4(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.is_private() || is_shared(ip.octets()))
}

fn is_global_v6(ip: IpAddr) -> bool {
    ip.is_ipv6() && !is_unique_local(ip)
}

/// The shared address space behind carriers' NATs (RFC 6598): 100.64.0.0/10.
fn is_shared(octets: [u8; 4]) -> bool {
    octets[0] == 100 && octets[1] & 0xc0 == 64
}

/// An IPv6 address stands for its /64: the rest changes every day within one network (RFC 8981).
fn place(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        ip @ IpAddr::V4(_) => ip,
    }
}

/// The best of each family in turn (RFC 8421 §4), so that four hold both.
fn interleave(hosts: &[IpAddr]) -> Vec<IpAddr> {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = hosts.iter().partition(|ip| ip.is_ipv4());
    let longest = v4.len().max(v6.len());
    let pairs = (0..longest).flat_map(|n| [v6.get(n), v4.get(n)]);
    pairs.flatten().copied().take(HOSTS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(ip: &str, interface: u32, default_route: Option<u32>) -> LocalAddress {
        LocalAddress {
            ip: ip.parse().unwrap(),
            interface,
            default_route,
            temporary: false,
            deprecated: false,
            bridge: false,
        }
    }

    fn network(addresses: &[LocalAddress]) -> Network {
        Network::new(addresses.to_vec(), Vec::new())
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn loopback_and_link_local_addresses_are_no_network() {
        let none = ["127.0.0.1", "169.254.3.4", "fe80::1", "::1", "0.0.0.0", "224.0.0.1", "::ffff:10.0.0.1"];
        let network = network(&none.map(|ip| address(ip, 1, Some(0))));
        assert!(!network.is_up() && network.hosts(true).is_empty(), "{network:?}");
    }

    #[test]
    fn addresses_without_a_default_route_are_shown_only_where_there_is_no_other() {
        let bridge = LocalAddress { bridge: true, ..address("172.17.0.1", 3, None) };
        let lan = address("10.9.0.2", 2, None);
        let wifi = address("192.168.1.7", 4, Some(600));
        assert_eq!(network(&[bridge, lan, wifi]).hosts(false), ips(&["192.168.1.7"]));
        assert_eq!(network(&[bridge, lan]).hosts(false), ips(&["10.9.0.2"]));
        assert_eq!(network(&[bridge]).hosts(false), ips(&["172.17.0.1"]));
    }

    #[test]
    fn one_address_of_each_family_and_interface_is_shown() {
        let temporary = LocalAddress { temporary: true, ..address("2001:db8::99", 2, Some(100)) };
        let all = network(&[
            address("2001:db8::2", 2, Some(100)),
            temporary,
            address("192.168.1.2", 2, Some(100)),
            address("192.168.1.3", 2, Some(100)),
            address("192.168.2.2", 4, Some(600)),
            address("2001:db8:1::2", 4, Some(600)),
            address("192.168.3.2", 5, Some(700)),
        ]);
        assert_eq!(all.hosts(false), ips(&["2001:db8::99", "192.168.1.2", "2001:db8:1::2", "192.168.2.2"]));
    }

    #[test]
    fn unique_local_addresses_are_shown_to_those_who_have_one() {
        let both = network(&[address("fd00::2", 2, Some(1)), address("2001:db8::2", 2, Some(1))]);
        assert_eq!(both.hosts(false), ips(&["2001:db8::2"]));
        assert_eq!(both.hosts(true), ips(&["2001:db8::2", "fd00::2"]));
        let alone = network(&[address("fd00::2", 2, Some(1)), address("10.0.0.2", 2, Some(1))]);
        assert_eq!(alone.hosts(false), ips(&["fd00::2", "10.0.0.2"]));
    }

    #[test]
    fn a_network_is_known_again_by_gateway_and_addresses() {
        let gateway =
            |via: &str| Gateway { metric: 1, interface: 2, via: Some(via.parse().unwrap()), is_ipv4: true };
        let home = |ip: &str, via: &str| {
            Network::new(vec![address(ip, 2, Some(1))], vec![gateway(via)]).fingerprint()
        };
        assert_eq!(
            home("2001:db8::2", "10.0.0.1"),
            home("2001:db8::3", "10.0.0.1"),
            "a new temporary address"
        );
        assert_ne!(home("2001:db8::2", "10.0.0.1"), home("2001:db8::2", "10.0.0.9"));
        assert_ne!(home("10.0.0.2", "10.0.0.1"), home("10.0.0.3", "10.0.0.1"));
    }

    #[test]
    fn only_a_private_address_that_leads_out_wants_a_mapped_port() {
        let mappable = |ip: &str, route| network(&[address(ip, 2, route)]).mappable().is_some();
        assert!(mappable("192.168.1.2", Some(1)) && mappable("100.64.0.2", Some(1)));
        assert!(!mappable("192.168.1.2", None) && !mappable("203.0.113.2", Some(1)));
    }

    #[test]
    fn what_a_change_means() {
        let at = |list: &[(&str, Option<u32>)], via: &[(u32, &str)]| {
            let addresses = list.iter().zip(2..).map(|((ip, route), n)| address(ip, n, *route)).collect();
            let gateways = via.iter().map(|(metric, via)| {
                let via: IpAddr = via.parse().unwrap();
                Gateway { metric: *metric, interface: 2, via: Some(via), is_ipv4: via.is_ipv4() }
            });
            Network::new(addresses, gateways.collect())
        };
        let none = Network::default();
        let wifi = at(&[("192.168.1.2", Some(600))], &[(600, "192.168.1.1")]);
        let docker = at(&[("192.168.1.2", Some(600)), ("172.17.0.1", None)], &[(600, "192.168.1.1")]);
        let six = at(
            &[("192.168.1.2", Some(600)), ("2001:db8::2", Some(600))],
            &[(600, "192.168.1.1"), (600, "fe80::1")],
        );
        let wire = at(
            &[("192.168.1.2", Some(600)), ("10.0.0.2", Some(100))],
            &[(100, "10.0.0.1"), (600, "192.168.1.1")],
        );
        let other = at(&[("192.168.1.2", Some(600))], &[(600, "192.168.1.254")]);
        for (before, now, change) in [
            (&none, &wifi, Change::Moved),
            (&wifi, &none, Change::Down),
            (&none, &none, Change::Aside),
            (&wifi, &docker, Change::Aside),
            (&docker, &wifi, Change::Aside),
            (&wifi, &six, Change::More),
            (&six, &wifi, Change::Moved),
            (&wifi, &wire, Change::Moved),
            (&wifi, &other, Change::Moved),
        ] {
            assert_eq!(now.change_since(before), change, "from {before:?} to {now:?}");
        }
    }

    #[test]
    fn a_machine_with_very_many_addresses_is_remembered_in_part() {
        let many = (0..=255).map(|n| address(&format!("10.0.0.{n}"), 2, Some(1))).collect();
        assert_eq!(Network::new(many, Vec::new()).addresses.len(), ADDRESSES_MAX);
    }

    #[test]
    fn a_temporary_address_that_ends_its_day_takes_nothing_away() {
        let temporary = |ip| LocalAddress { temporary: true, ..address(ip, 2, Some(100)) };
        let lasting = address("2001:db8::1", 2, Some(100));
        let before = Network::new(vec![temporary("2001:db8::a"), lasting], Vec::new());
        let ended = LocalAddress { deprecated: true, ..temporary("2001:db8::a") };
        let today = Network::new(vec![ended, temporary("2001:db8::b"), lasting], Vec::new());
        assert_eq!(today.change_since(&before), Change::More);
        assert_eq!(
            today.hosts(false),
            ["2001:db8::b".parse::<IpAddr>().unwrap()],
            "nothing new on the old one"
        );
        // Days later the old one goes altogether.
        let later = Network::new(vec![temporary("2001:db8::b"), lasting], Vec::new());
        assert_eq!(later.change_since(&today), Change::Aside);
        assert_eq!(later.change_since(&before), Change::Moved, "it was in use a moment ago");
    }
}
