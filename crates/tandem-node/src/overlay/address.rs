//! Addresses: which are public, which network they are in, and their forms.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use libp2p::identity::PublicKey;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use tandem_proto::ids::{DeviceKey, ServiceKey};
use thiserror::Error;

use super::config::Places;
use super::membership::Membership;
use crate::policy::Warden;

/// Which addresses this network takes for public: global ones, and the ranges it was told (a lab, loopback).
#[derive(Debug, Clone, Default)]
pub struct PublicAddresses {
    extra: Vec<(IpAddr, u8)>,
    /// Asked before anything is dialled, wherever it is.
    warden: Warden,
    /// In a private network: what both ends of every connection show.
    membership: Option<Membership>,
}

/// A range that is not written `address/prefix length`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not an address range. Write it like 127.0.0.0/8 or fd00::/8.")]
pub struct RangeError(String);

impl PublicAddresses {
    /// Global addresses and these ranges ("127.0.0.0/8").
    ///
    /// # Errors
    /// One of the ranges cannot be read.
    pub fn with_ranges<S: AsRef<str>>(ranges: &[S]) -> Result<Self, RangeError> {
        let extra = ranges.iter().map(|range| parse_range(range.as_ref())).collect::<Result<_, _>>()?;
        Ok(Self { extra, warden: Warden::default(), membership: None })
    }

    /// The same, as far as an organisation's policy allows.
    #[must_use]
    pub fn under(self, warden: Warden) -> Self {
        Self { warden, ..self }
    }

    /// The same in a private network: only its members.
    #[must_use]
    pub fn within(self, membership: Option<Membership>) -> Self {
        Self { membership, ..self }
    }

    /// What is shown on every connection, and asked for.
    pub(super) fn membership(&self) -> Option<Membership> {
        self.membership.clone()
    }

    /// Whom to ask before a dial.
    #[must_use]
    pub fn warden(&self) -> &Warden {
        &self.warden
    }

    /// Whether others may be expected to reach this address.
    #[must_use]
    pub fn is_public(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.extra.iter().any(|&(net, prefix)| contains(net, prefix, ip)) || is_global(ip)
    }
}

fn parse_range(text: &str) -> Result<(IpAddr, u8), RangeError> {
    let error = || RangeError(text.to_owned());
    let (ip, prefix) = text.split_once('/').ok_or_else(error)?;
    let ip: IpAddr = ip.parse().map_err(|_| error())?;
    let prefix: u8 = prefix.parse().map_err(|_| error())?;
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    if prefix > longest { Err(error()) } else { Ok((ip, prefix)) }
}

fn contains(net: IpAddr, prefix: u8, ip: IpAddr) -> bool {
    match (net, ip) {
        (IpAddr::V4(net), IpAddr::V4(ip)) => {
            let shift = 32 - u32::from(prefix);
            net.to_bits().checked_shr(shift).unwrap_or(0) == ip.to_bits().checked_shr(shift).unwrap_or(0)
        }
        (IpAddr::V6(net), IpAddr::V6(ip)) => {
            let shift = 128 - u32::from(prefix);
            net.to_bits().checked_shr(shift).unwrap_or(0) == ip.to_bits().checked_shr(shift).unwrap_or(0)
        }
        _ => false,
    }
}

/// The IANA special-purpose registries (RFC 6890), as far as they are not globally reachable.
fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_global_v4(ip),
        IpAddr::V6(ip) => is_global_v6(ip),
    }
}

fn is_global_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b); // RFC 6598
    let protocol = a == 192 && b == 0 && c == 0; // RFC 6890
    let benchmark = a == 198 && (b == 18 || b == 19); // RFC 2544
    let special = ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_documentation();
    a != 0 && a < 224 && !shared && !protocol && !benchmark && !special
}

fn is_global_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    let documentation = a == 0x2001 && b == 0x0db8; // RFC 3849
    (a & 0xe000) == 0x2000 && !documentation // 2000::/3 is what IANA gives out (RFC 4291 §2.4)
}

/// The first IP address in a multiaddress.
pub(super) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    })
}

/// "quic", "tcp" or "circuit".
pub(super) fn transport_of(address: &Multiaddr) -> &'static str {
    let mut transport = "tcp";
    for part in address {
        match part {
            Protocol::P2pCircuit => return "circuit",
            Protocol::QuicV1 => transport = "quic",
            _ => {}
        }
    }
    transport
}

pub(super) fn is_circuit(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// The supernode before `/p2p-circuit`.
pub(super) fn circuit_relay(address: &Multiaddr) -> Option<PeerId> {
    let mut relay = None;
    for part in address {
        match part {
            Protocol::P2p(peer) => relay = Some(peer),
            Protocol::P2pCircuit => return relay,
            _ => {}
        }
    }
    None
}

/// `/ip4/…/udp/P/quic-v1` and `/ip4/…/tcp/P`.
pub(super) fn both_transports(address: SocketAddr) -> [Multiaddr; 2] {
    let base = Multiaddr::from(address.ip());
    [
        base.clone().with(Protocol::Udp(address.port())).with(Protocol::QuicV1),
        base.with(Protocol::Tcp(address.port())),
    ]
}

/// All addresses of these places, in the order in which a descriptor names them: what fits into little room comes first.
pub(super) fn addresses_of(places: &Places) -> Vec<Multiaddr> {
    let tcp = |at: &SocketAddr| Multiaddr::from(at.ip()).with(Protocol::Tcp(at.port()));
    places.full.iter().copied().flat_map(both_transports).chain(places.tcp.iter().map(tcp)).collect()
}

/// The addresses of a supernode that can be dialled: exactly `/ip/udp/quic-v1` or `/ip/tcp`, nothing that leads on.
pub(super) fn dialable(addresses: &[Vec<u8>]) -> Vec<Multiaddr> {
    addresses
        .iter()
        .take(tandem_proto::signed::ADDRESSES_MAX)
        .filter_map(|bytes| Multiaddr::try_from(bytes.clone()).ok())
        .filter(is_plain)
        .collect()
}

pub(super) fn is_plain(address: &Multiaddr) -> bool {
    let parts: Vec<Protocol<'_>> = address.iter().take(4).collect();
    matches!(
        parts.as_slice(),
        [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Tcp(_)]
            | [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Udp(_), Protocol::QuicV1]
    )
}

/// The Ed25519 key inside an identity-hashed peer id (libp2p specification "Peer Ids and Keys").
pub(super) fn key_of(peer: &PeerId) -> Option<[u8; 32]> {
    let multihash = peer.as_ref();
    if multihash.code() != 0 {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(multihash.digest()).ok()?;
    Some(key.try_into_ed25519().ok()?.to_bytes())
}

fn peer_of(key: &[u8; 32]) -> Option<PeerId> {
    let key = libp2p::identity::ed25519::PublicKey::try_from_bytes(key).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// `None`: these bytes are not an Ed25519 public key.
pub(super) fn device_peer(key: DeviceKey) -> Option<PeerId> {
    peer_of(key.as_bytes())
}

/// `None`: these bytes are not an Ed25519 public key.
pub(super) fn service_peer(key: ServiceKey) -> Option<PeerId> {
    peer_of(key.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_is_a_matter_of_the_network() {
        let internet = PublicAddresses::default();
        let lab = PublicAddresses::with_ranges(&["127.0.0.0/8", "fd00::/8"]).unwrap();
        for (ip, on_internet, in_lab) in [
            ("8.8.8.8", true, true),
            ("127.3.0.1", false, true),
            ("10.0.0.1", false, false),
            ("100.64.0.1", false, false),
            ("198.18.0.1", false, false),
            ("::ffff:127.0.0.1", false, true),
            ("2a00::1", true, true),
            ("fd12::1", false, true),
            ("fe80::1", false, false),
        ] {
            let ip = ip.parse().unwrap();
            assert_eq!(internet.is_public(ip), on_internet, "{ip}");
            assert_eq!(lab.is_public(ip), in_lab, "{ip}");
        }
        assert!(PublicAddresses::with_ranges(&["127.0.0.0/33"]).is_err());
        assert!(PublicAddresses::with_ranges(&["127.0.0.0"]).is_err());
        assert!(PublicAddresses::with_ranges(&["0.0.0.0/0"]).unwrap().is_public("10.1.1.1".parse().unwrap()));
    }

    #[test]
    fn keys_survive_peer_ids() {
        let mut seed = [7u8; 32];
        let key = libp2p::identity::Keypair::ed25519_from_bytes(&mut seed).unwrap();
        let bytes = key_of(&key.public().to_peer_id()).unwrap();
        assert_eq!(device_peer(DeviceKey(bytes)), Some(key.public().to_peer_id()));
        assert_eq!(key_of(&PeerId::random()), None);
    }

    #[test]
    fn only_plain_addresses_are_dialled() {
        for (text, plain) in [
            ("/ip4/1.2.3.4/tcp/1", true),
            ("/ip6/::1/udp/1/quic-v1", true),
            ("/dns4/example.org/tcp/1", false),
            ("/ip4/1.2.3.4/udp/1", false),
            ("/ip4/1.2.3.4/tcp/1/p2p-circuit", false),
        ] {
            assert_eq!(is_plain(&text.parse().unwrap()), plain, "{text}");
        }
    }
}
