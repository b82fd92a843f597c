//! Whom a check asks: supernodes that are known already, each in a network of its own first.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use prost::Message;
use tandem_proto::ids::ServiceKey;
use tandem_proto::multiaddr::{PeerAddress, Transport, TransportAddress};
use tandem_proto::network::network_group;
use tandem_proto::wire;

use crate::config::Config;
use crate::overlay::PublicAddresses;
use crate::policy::Policy;
use crate::store::Store;

/// Supernodes asked.
const TARGETS_MAX: usize = 8;
/// Addresses of one supernode and transport.
const ADDRESSES_MAX: usize = 3;
/// Remembered supernodes looked at.
const REMEMBERED: u32 = 64;

/// A supernode to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub service: ServiceKey,
    /// Where it answers STUN over UDP.
    pub stun: Vec<SocketAddr>,
    /// Where it takes TCP connections.
    pub tcp: Vec<SocketAddr>,
}

impl Target {
    /// From the addresses of a supernode's service and of its relay. Which of them are asked, [`targets`] decides.
    #[must_use]
    pub fn new(
        service: ServiceKey,
        overlay: impl IntoIterator<Item = TransportAddress>,
        relay: impl IntoIterator<Item = TransportAddress>,
    ) -> Self {
        let (mut stun, mut tcp) = (Vec::new(), Vec::new());
        for address in relay.into_iter().chain(overlay) {
            let list = match address.transport {
                Transport::Udp => &mut stun,
                Transport::Tcp => &mut tcp,
                Transport::Quic => continue,
            };
            if list.len() < ADDRESSES_MAX && !list.contains(&address.socket()) {
                list.push(address.socket());
            }
        }
        Self { service, stun, tcp }
    }

    /// Without addresses that the policy of this machine forbids.
    fn allowed(mut self, policy: &Policy) -> Self {
        let may = |at: &SocketAddr| policy.may_connect(Some(self.service), *at).is_ok();
        self.stun.retain(may);
        self.tcp.retain(may);
        self
    }

    /// Without addresses that are not public.
    fn only(mut self, public: &PublicAddresses) -> Self {
        self.stun.retain(|at| public.is_public(at.ip()));
        self.tcp.retain(|at| public.is_public(at.ip()));
        self
    }

    /// From a bootstrap address alone: a relay listens one port above (spec/relay.md).
    fn guessed(peer: &PeerAddress) -> Self {
        let address = peer.address;
        let udp =
            TransportAddress { port: address.port.saturating_add(1), transport: Transport::Udp, ..address };
        let tcp = TransportAddress { transport: Transport::Tcp, ..address };
        Self::new(peer.service, [tcp], [udp])
    }
}

/// The ones to ask: at most eight, one of each network before a second of any; those given by hand for what is not known
/// better. What supernodes say of themselves counts where the address is public in this network: nobody may have this
/// machine knock at its own LAN's doors.
#[must_use]
pub fn targets(known: Vec<Target>, config: &Config) -> Vec<Target> {
    let ranges: Vec<String> = config.effective_public_ranges(&[]).iter().map(ToString::to_string).collect();
    // Ranges of a configuration are written as they are read.
    let public = PublicAddresses::with_ranges(&ranges).unwrap_or_default();
    let chosen =
        chosen(known.into_iter().map(|it| it.only(&public)).collect(), &config.bootstrap_addresses());
    // Also those that were guessed.
    let allowed = chosen.into_iter().map(|it| it.allowed(&config.policy));
    allowed.filter(|it| !it.stun.is_empty() || !it.tcp.is_empty()).collect()
}

fn chosen(known: Vec<Target>, bootstrap: &[PeerAddress]) -> Vec<Target> {
    let mut all: Vec<Target> =
        known.into_iter().filter(|it| !it.stun.is_empty() || !it.tcp.is_empty()).collect();
    for peer in bootstrap {
        if !all.iter().any(|target| target.service == peer.service) {
            all.push(Target::guessed(peer));
        }
    }
    let network =
        |target: &Target| target.stun.iter().chain(&target.tcp).next().map(|at| network_group(at.ip()));
    let mut networks = BTreeSet::new();
    let (first, second): (Vec<Target>, Vec<Target>) =
        all.into_iter().partition(|target| networks.insert(network(target)));
    first.into_iter().chain(second).take(TARGETS_MAX).collect()
}

/// The supernodes a data folder remembers, for a check without a running node.
#[must_use]
pub fn remembered_targets(store: &Store) -> Vec<Target> {
    let stored = store.supernodes(REMEMBERED).unwrap_or_default();
    let read = |bytes: &[Vec<u8>]| -> Vec<TransportAddress> {
        bytes.iter().filter_map(|bytes| TransportAddress::from_bytes(bytes).ok()).collect()
    };
    stored
        .iter()
        .filter_map(|known| {
            let said = wire::SupernodeDescriptor::decode(known.descriptor.payload.as_slice()).ok()?;
            Some(Target::new(known.service, read(&said.addresses), read(&said.relay)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(n: u8, network: u8) -> Target {
        Target {
            service: ServiceKey([n; 32]),
            stun: vec![SocketAddr::from(([10, network, 0, n], 4002))],
            tcp: Vec::new(),
        }
    }

    #[test]
    fn many_networks_are_asked_before_one_twice() {
        let known: Vec<Target> = (1..=20).map(|n| target(n, if n <= 10 { 1 } else { n })).collect();
        let asked = chosen(known, &[]);
        assert_eq!(asked.len(), TARGETS_MAX);
        let in_first = asked.iter().filter(|target| target.stun[0].ip().to_string().starts_with("10.1."));
        assert_eq!(in_first.count(), 1);
    }

    #[test]
    fn a_bootstrap_address_alone_is_asked_one_port_above() {
        let text = "/ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo";
        let Ok(peer) = text.parse::<PeerAddress>() else { panic!("a good address") };
        let asked = chosen(Vec::new(), &[peer]);
        assert_eq!(asked[0].stun, [SocketAddr::from(([192, 0, 2, 1], 4002))]);
        assert_eq!(asked[0].tcp, [SocketAddr::from(([192, 0, 2, 1], 4001))]);
        let known = Target { service: peer.service, stun: asked[0].stun.clone(), tcp: Vec::new() };
        assert_eq!(chosen(vec![known.clone()], &[peer]), [known]);
    }

    #[test]
    fn no_descriptor_leads_into_this_machines_own_networks() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let hostile = Target {
            service: ServiceKey([1; 32]),
            stun: vec![at("127.0.0.1:53"), at("192.168.1.1:4002"), at("[fe80::1]:4002"), at("8.8.4.4:4002")],
            tcp: vec![at("10.0.0.1:22"), at("[::1]:22"), at("[::ffff:127.0.0.1]:22"), at("[fd00::1]:22")],
        };
        let asked = targets(vec![hostile.clone()], &Config::default());
        assert_eq!(asked.len(), 1);
        assert_eq!((asked[0].stun.as_slice(), asked[0].tcp.as_slice()), (&[at("8.8.4.4:4002")][..], &[][..]));
        let only_private =
            Target { stun: vec![at("169.254.169.254:80")], tcp: Vec::new(), ..hostile.clone() };
        assert_eq!(targets(vec![only_private], &Config::default()), []);
        // Where the owner says that such a network is the world, it is.
        let lab = Config { public_ranges: vec!["10.0.0.0/8".parse().unwrap()], ..Config::default() };
        assert_eq!(targets(vec![hostile], &lab)[0].tcp, [at("10.0.0.1:22")]);
    }
}
