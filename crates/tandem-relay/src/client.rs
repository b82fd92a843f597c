//! Who a packet came from: the client's half of the 5-tuple, and the network it is counted under.

use std::net::{IpAddr, SocketAddr};

/// How a client is connected, which with its address makes up the 5-tuple (RFC 8656 §2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Link {
    /// A UDP socket of the driver, by its index.
    Udp(u8),
    /// A TCP connection, by a number the driver never uses twice.
    Tcp(u32),
}

/// A client as the server sees it. IPv4 addresses mapped into IPv6 are written as IPv4, so that one client is one
/// value whatever socket it arrived on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientAddr {
    address: SocketAddr,
    link: Link,
}

impl ClientAddr {
    #[must_use]
    pub fn new(address: SocketAddr, link: Link) -> Self {
        Self { address: SocketAddr::new(address.ip().to_canonical(), address.port()), link }
    }

    /// A client on the driver's UDP socket number `socket`.
    #[must_use]
    pub fn udp(address: SocketAddr, socket: u8) -> Self {
        Self::new(address, Link::Udp(socket))
    }

    /// A client on TCP connection number `connection`.
    #[must_use]
    pub fn tcp(address: SocketAddr, connection: u32) -> Self {
        Self::new(address, Link::Tcp(connection))
    }

    /// The client's address as the relay sees it (its server-reflexive address).
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    #[must_use]
    pub fn link(&self) -> Link {
        self.link
    }

    /// Whether it came over TCP, where ChannelData is padded to four bytes (RFC 8656 §12.5).
    #[must_use]
    pub fn is_stream(&self) -> bool {
        matches!(self.link, Link::Tcp(_))
    }

    /// The network this client's quota is counted under.
    #[must_use]
    pub fn source(&self) -> SourceNetwork {
        SourceNetwork::of(self.address.ip())
    }
}

/// The network limits are kept for: a /24 of IPv4, a /48 of IPv6. One person seldom owns more addresses than that,
/// and fewer bits would put strangers in one pot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceNetwork {
    V4([u8; 3]),
    V6([u8; 6]),
}

impl SourceNetwork {
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_the_ipv4_client() {
        let mapped = ClientAddr::udp("[::ffff:192.0.2.7]:5000".parse().unwrap(), 0);
        assert_eq!(mapped, ClientAddr::udp("192.0.2.7:5000".parse().unwrap(), 0));
        assert_eq!(mapped.source(), SourceNetwork::V4([192, 0, 2]));
    }

    #[test]
    fn two_connections_from_one_address_are_two_clients() {
        let address = "192.0.2.7:5000".parse().unwrap();
        assert_ne!(ClientAddr::tcp(address, 1), ClientAddr::tcp(address, 2));
    }
}
