//! How the network is, asked of the C library: for systems, and sandboxes, without netlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::SockaddrStorage;

use super::{LocalAddress, Network};

/// How often it is asked.
pub(super) const EVERY: Duration = Duration::from_secs(3);
/// Addresses that only a default route leads to (RFC 5737, RFC 3849). Nothing is sent there.
const ANYWHERE: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 9),
];

/// `None` when the system does not say.
pub(super) fn read() -> Option<Network> {
    let leads_out = ANYWHERE.map(source_toward);
    let mut addresses = Vec::new();
    for entry in getifaddrs().ok()? {
        let up = entry.flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING);
        if !up || entry.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
            continue;
        }
        let Some(ip) = entry.address.as_ref().and_then(ip_of) else { continue };
        addresses.push(LocalAddress {
            ip,
            interface: if_nametoindex(entry.interface_name.as_str()).unwrap_or(0),
            default_route: leads_out.contains(&Some(ip)).then_some(0),
            temporary: false,
            deprecated: false,
            bridge: false,
        });
    }
    Some(Network::new(addresses, Vec::new()))
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

/// Which of our addresses the system would use toward there.
fn source_toward(to: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
