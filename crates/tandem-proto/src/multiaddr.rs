//! The few multiaddr forms Tandem uses (spec/overlay.md, "Addresses"), binary and as text:
//! `/ip4|ip6/…/udp/…/quic-v1`, `/ip4|ip6/…/tcp/…`, `/ip4|ip6/…/udp/…`, and in texts `/p2p/…` at the end.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

use crate::identity::PeerIdError;
use crate::ids::ServiceKey;

// Codes of the multicodec table.
const IP4: u64 = 4;
const TCP: u64 = 6;
const IP6: u64 = 41;
const UDP: u64 = 273;
const QUIC_V1: u64 = 461;

/// An IP address, a port, and what is spoken there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TransportAddress {
    pub ip: IpAddr,
    pub port: u16,
    pub transport: Transport,
}

/// What is spoken at an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Transport {
    /// libp2p over QUIC version 1.
    Quic,
    /// libp2p over TCP, or STUN and TURN over TCP.
    Tcp,
    /// Bare UDP: STUN and TURN.
    Udp,
}

/// A supernode's address as people pass it on: `/ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3KooW…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerAddress {
    pub address: TransportAddress,
    pub service: ServiceKey,
}

/// Why bytes or a text are not an address Tandem uses.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum MultiaddrError {
    /// Ends in the middle, or has something behind its end.
    #[error("the address is cut off or has something behind its end")]
    WrongLength,
    /// A text that does not begin with `/`, or has an empty part.
    #[error("this is not a multiaddr: one looks like /ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3KooW…")]
    NotAMultiaddr,
    /// A name instead of an IP address.
    #[error("names (/{0}/…) are not supported: give the IP address, as /ip4/… or /ip6/…")]
    NameNotSupported(String),
    /// A form of address that Tandem does not use.
    #[error("addresses with {0} are not supported: use /ip4|ip6/…/udp/…/quic-v1 or /ip4|ip6/…/tcp/…")]
    NotSupported(String),
    /// Not an IP address of the kind announced.
    #[error("\"{0}\" is not an IP address of that kind")]
    BadIp(String),
    /// Not a port.
    #[error("\"{0}\" is not a port: one is a number from 0 to 65535")]
    BadPort(String),
    /// `/p2p/…` is missing where it is needed.
    #[error("the address does not say whose it is: /p2p/12D3KooW… is missing at its end")]
    MissingPeer,
    /// `/p2p/…` names no usable key.
    #[error("the part after /p2p/: {0}")]
    BadPeer(#[from] PeerIdError),
}

impl TransportAddress {
    /// Where it is.
    #[must_use]
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }

    /// The binary multiaddr (10 to 24 bytes).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(24);
        match self.ip {
            IpAddr::V4(ip) => {
                put_varint(&mut bytes, IP4);
                bytes.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                put_varint(&mut bytes, IP6);
                bytes.extend_from_slice(&ip.octets());
            }
        }
        put_varint(&mut bytes, if self.transport == Transport::Tcp { TCP } else { UDP });
        bytes.extend_from_slice(&self.port.to_be_bytes());
        if self.transport == Transport::Quic {
            put_varint(&mut bytes, QUIC_V1);
        }
        bytes
    }

    /// Reads a binary multiaddr without `/p2p`.
    ///
    /// # Errors
    /// [`MultiaddrError`] says what is not understood.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MultiaddrError> {
        let mut rest = bytes;
        let ip = match take_varint(&mut rest)? {
            IP4 => IpAddr::from(take::<4>(&mut rest)?),
            IP6 => IpAddr::from(take::<16>(&mut rest)?),
            code => return Err(unsupported_code(code)),
        };
        let (port, transport) = match take_varint(&mut rest)? {
            TCP => (u16::from_be_bytes(take(&mut rest)?), Transport::Tcp),
            UDP => {
                let port = u16::from_be_bytes(take(&mut rest)?);
                if rest.is_empty() {
                    (port, Transport::Udp)
                } else {
                    match take_varint(&mut rest)? {
                        QUIC_V1 => (port, Transport::Quic),
                        code => return Err(unsupported_code(code)),
                    }
                }
            }
            code => return Err(unsupported_code(code)),
        };
        if !rest.is_empty() {
            return Err(MultiaddrError::WrongLength);
        }
        Ok(Self { ip, port, transport })
    }
}

impl fmt::Display for TransportAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.ip.is_ipv4() { "ip4" } else { "ip6" };
        let (protocol, suffix) = match self.transport {
            Transport::Quic => ("udp", "/quic-v1"),
            Transport::Tcp => ("tcp", ""),
            Transport::Udp => ("udp", ""),
        };
        write!(f, "/{family}/{}/{protocol}/{}{suffix}", self.ip, self.port)
    }
}

impl FromStr for TransportAddress {
    type Err = MultiaddrError;

    fn from_str(text: &str) -> Result<Self, MultiaddrError> {
        let (address, rest) = read_transport(text)?;
        if rest.is_empty() { Ok(address) } else { Err(MultiaddrError::NotSupported(format!("/{}", rest[0]))) }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/p2p/{}", self.address, self.service)
    }
}

impl FromStr for PeerAddress {
    type Err = MultiaddrError;

    /// Accepts surrounding white space.
    fn from_str(text: &str) -> Result<Self, MultiaddrError> {
        let (address, rest) = read_transport(text.trim())?;
        match rest.as_slice() {
            [] => Err(MultiaddrError::MissingPeer),
            ["p2p", peer] => Ok(Self { address, service: peer.parse()? }),
            [other, ..] => Err(MultiaddrError::NotSupported(format!("/{other}"))),
        }
    }
}

/// The transport at the beginning of a text, and the parts behind it.
fn read_transport(text: &str) -> Result<(TransportAddress, Vec<&str>), MultiaddrError> {
    // More parts than any form has are never looked at: the text may be of any length.
    let parts: Vec<&str> = text.splitn(9, '/').collect();
    let ["", family, ip, protocol, port, rest @ ..] = parts.as_slice() else {
        return Err(short_text(&parts));
    };
    let ip = read_ip(family, ip)?;
    let quic = rest.first() == Some(&"quic-v1");
    let transport = match (*protocol, quic) {
        ("udp", true) => Transport::Quic,
        ("udp", false) => Transport::Udp,
        ("tcp", _) => Transport::Tcp,
        (other, _) => return Err(MultiaddrError::NotSupported(format!("/{other}"))),
    };
    let port = port.parse().map_err(|_| MultiaddrError::BadPort((*port).to_owned()))?;
    let used = usize::from(transport == Transport::Quic);
    Ok((TransportAddress { ip, port, transport }, rest[used..].to_vec()))
}

fn read_ip(family: &str, ip: &str) -> Result<IpAddr, MultiaddrError> {
    let bad = |_| MultiaddrError::BadIp(ip.to_owned());
    match family {
        "ip4" => ip.parse::<Ipv4Addr>().map(IpAddr::from).map_err(bad),
        "ip6" => ip.parse::<Ipv6Addr>().map(IpAddr::from).map_err(bad),
        "dns" | "dns4" | "dns6" | "dnsaddr" => Err(MultiaddrError::NameNotSupported(family.to_owned())),
        other => Err(MultiaddrError::NotSupported(format!("/{other}"))),
    }
}

/// Fewer parts than the shortest form has: a name, or not a multiaddr at all.
fn short_text(parts: &[&str]) -> MultiaddrError {
    match parts {
        ["", name @ ("dns" | "dns4" | "dns6" | "dnsaddr"), ..] => {
            MultiaddrError::NameNotSupported((*name).to_owned())
        }
        _ => MultiaddrError::NotAMultiaddr,
    }
}

fn unsupported_code(code: u64) -> MultiaddrError {
    match code {
        53 => MultiaddrError::NameNotSupported("dns".into()),
        54 => MultiaddrError::NameNotSupported("dns4".into()),
        55 => MultiaddrError::NameNotSupported("dns6".into()),
        56 => MultiaddrError::NameNotSupported("dnsaddr".into()),
        other => MultiaddrError::NotSupported(format!("protocol code {other}")),
    }
}

fn put_varint(bytes: &mut Vec<u8>, value: u64) {
    prost::encoding::encode_varint(value, bytes);
}

/// An unsigned varint of at most 3 bytes: no code in use is longer.
fn take_varint(rest: &mut &[u8]) -> Result<u64, MultiaddrError> {
    let mut value = 0;
    for index in 0..3 {
        let [byte] = take::<1>(rest)?;
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(MultiaddrError::NotSupported("a protocol code of more than 3 bytes".into()))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], MultiaddrError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(MultiaddrError::WrongLength)?;
    *rest = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMS: [(&str, &str); 6] = [
        ("/ip4/127.0.0.1/udp/4001/quic-v1", "047f00000191020fa1cd03"),
        ("/ip4/192.0.2.7/udp/4002", "04c000020791020fa2"),
        ("/ip4/192.0.2.7/tcp/443", "04c00002070601bb"),
        ("/ip6/2001:db8::1/udp/4001/quic-v1", "2920010db800000000000000000000000191020fa1cd03"),
        ("/ip6/::1/tcp/4001", "2900000000000000000000000000000001060fa1"),
        ("/ip6/2001:db8::1/udp/0", "2920010db800000000000000000000000191020000"),
    ];

    #[test]
    fn text_and_bytes_come_back() {
        for (text, hex) in FORMS {
            let address: TransportAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(data_encoding::HEXLOWER.encode(&address.to_bytes()), hex);
            assert_eq!(TransportAddress::from_bytes(&address.to_bytes()), Ok(address));
        }
    }

    #[test]
    fn every_cut_is_refused_or_another_known_form() {
        for (text, _) in FORMS {
            let bytes = text.parse::<TransportAddress>().unwrap().to_bytes();
            for end in 0..bytes.len() {
                if let Ok(shorter) = TransportAddress::from_bytes(&bytes[..end]) {
                    assert_eq!(shorter.transport, Transport::Udp, "QUIC without its last part is bare UDP");
                }
            }
            assert!(TransportAddress::from_bytes(&[bytes.as_slice(), &[1]].concat()).is_err());
        }
    }

    #[test]
    fn a_peer_address_needs_its_peer() {
        let peer = ServiceKey([4; 32]);
        let text = format!("/ip4/127.1.0.1/udp/4001/quic-v1/p2p/{peer}");
        let parsed: PeerAddress = text.parse().unwrap();
        assert_eq!((parsed.service, parsed.to_string()), (peer, text));
        assert_eq!("/ip4/127.1.0.1/tcp/1".parse::<PeerAddress>(), Err(MultiaddrError::MissingPeer));
        let bad = "/ip4/127.1.0.1/tcp/1/p2p/x".parse::<PeerAddress>();
        assert_eq!(bad, Err(MultiaddrError::BadPeer(PeerIdError::NotAPeerId)));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let error = |text: &str| text.parse::<PeerAddress>().unwrap_err();
        assert_eq!(error("/dnsaddr/example.org"), MultiaddrError::NameNotSupported("dnsaddr".into()));
        assert_eq!(error("/dns4/a.example/tcp/1/p2p/x"), MultiaddrError::NameNotSupported("dns4".into()));
        assert_eq!(error("192.0.2.1:4001"), MultiaddrError::NotAMultiaddr);
        assert_eq!(error(""), MultiaddrError::NotAMultiaddr);
        assert_eq!(error("/ip4/::1/tcp/1"), MultiaddrError::BadIp("::1".into()));
        assert_eq!(error("/ip4/192.0.2.1/tcp/65536"), MultiaddrError::BadPort("65536".into()));
        assert_eq!(error("/ip4/192.0.2.1/tcp/1/ws/p2p/x"), MultiaddrError::NotSupported("/ws".into()));
        assert_eq!(error("/ip4/192.0.2.1/sctp/1"), MultiaddrError::NotSupported("/sctp".into()));
    }
}
