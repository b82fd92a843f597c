//! Which addresses this machine has a way to at all: without IPv6 (or IPv4) nothing is gained by waiting for an answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use libp2p::Multiaddr;

use super::address::ip_of;

/// Only those that the system has a route to. It is asked once for each IP address; nothing is sent.
pub(super) fn routable(addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
    let mut known: Vec<(IpAddr, bool)> = Vec::new();
    let mut is_routed = |ip: IpAddr| match known.iter().find(|(other, _)| *other == ip) {
        Some((_, routed)) => *routed,
        None => {
            let routed = has_route(ip);
            known.push((ip, routed));
            routed
        }
    };
    addresses.into_iter().filter(|address| ip_of(address).is_some_and(&mut is_routed)).collect()
}

fn has_route(ip: IpAddr) -> bool {
    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // Connecting a datagram socket looks the route up, and sends nothing. The port does not matter.
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(SocketAddr::new(ip, 9))).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_route_is_left_out() {
        // Link-local without an interface, and an address of nobody: no system has a route there.
        let texts = ["/ip4/127.0.0.1/tcp/1", "/ip6/fe80::1/tcp/1", "/ip4/127.0.0.1/udp/1/quic-v1"];
        let all: Vec<Multiaddr> = texts.map(|text| text.parse().unwrap()).to_vec();
        assert_eq!(routable(all.clone()), [all[0].clone(), all[2].clone()]);
    }
}
