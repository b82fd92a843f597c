//! All packets of a namespace, as its kernel sees them, and the parts of them that anybody can read.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;

use crate::namespace::Namespace;

/// More than any packet of these networks.
const PACKET_BYTES_MAX: usize = 64 * 1024;
/// So much is kept in one namespace between two readings.
const KEPT_BYTES_MAX: usize = 512 << 20;
const KERNEL_BUFFER_BYTES: usize = 64 << 20;

/// STUN message types begin so (RFC 7983 §7), and ChannelData, DTLS, RTP and RTCP.
const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];

/// A capture that goes on. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Capture {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    packets: Mutex<Kept>,
    stopping: AtomicBool,
}

#[derive(Debug, Default)]
struct Kept {
    packets: Vec<Packet>,
    bytes: usize,
    /// Something was not kept, or not even seen.
    lost: Option<String>,
}

/// One IP packet, whichever way it went. What the machine says to itself is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    /// UDP or TCP; nothing for others.
    pub(super) ports: Option<(Protocol, u16, u16)>,
    /// Behind the headers that were understood.
    pub(super) payload: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    Udp,
    Tcp,
}

impl Capture {
    /// Begins to capture what goes through any interface of this namespace, those that come later too.
    pub(super) fn start(namespace: &Namespace) -> Result<Self> {
        let socket = namespace.enter(open)?.context("a packet socket")?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || read(&socket, &theirs));
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What came since the last time.
    pub(super) fn take(&self) -> Result<Vec<Packet>> {
        let mut kept = self.shared.packets.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(kept.lost.is_none(), "the capture is not whole: {:?}", kept.lost);
        kept.bytes = 0;
        Ok(std::mem::take(&mut kept.packets))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, what it kept is judged by itself.
            thread.join().ok();
        }
    }
}

fn open() -> nix::Result<OwnedFd> {
    // "Cooked": each packet begins with its IP header, whatever the interface.
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Packet, SockType::Datagram, flags, SockProtocol::EthAll)?;
    setsockopt(&socket, sockopt::RcvBufForce, &KERNEL_BUFFER_BYTES)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 100_000))?;
    Ok(socket)
}

fn read(socket: &OwnedFd, shared: &Shared) {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    while !shared.stopping.load(Ordering::Acquire) {
        let received = recv(socket.as_raw_fd(), &mut buffer, nix::sys::socket::MsgFlags::empty());
        let mut kept = shared.packets.lock().unwrap_or_else(PoisonError::into_inner);
        match received {
            Ok(length) => {
                let Some(packet) = Packet::parse(&buffer[..length]) else { continue };
                kept.bytes += packet.payload.len();
                if kept.bytes > KEPT_BYTES_MAX {
                    kept.lost = Some("too many packets".to_owned());
                } else {
                    kept.packets.push(packet);
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => {}
            Err(error) => {
                kept.lost = Some(error.to_string());
                return;
            }
        }
    }
}

impl Packet {
    /// The payload; nothing of an ICMP error that sends the receiver's own packet back (RFC 792, RFC 4443 §3): to whom it
    /// was sent, and what was in it (a relay tells its client the client's own address), its sender knew.
    fn without_own_words(&self) -> &[u8] {
        const ICMP_HEADER_BYTES: usize = 8;
        let quoted = self.payload.get(ICMP_HEADER_BYTES..).unwrap_or_default();
        let is_own = Self::parse(quoted).is_some_and(|packet| packet.from == self.to);
        if is_own { &[] } else { &self.payload }
    }

    /// `None`: no IP, or of the machine to itself.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (from, to, protocol, rest) = match bytes.first()? >> 4 {
            4 => v4(bytes)?,
            6 => v6(bytes)?,
            _ => return None,
        };
        if from.is_loopback() {
            return None;
        }
        let port = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
        let (protocol, header) = match protocol {
            17 => (Some(Protocol::Udp), 8),
            6 => (Some(Protocol::Tcp), usize::from(rest.get(12)? >> 4) * 4),
            _ => (None, 0),
        };
        let ports = match protocol {
            Some(protocol) => Some((protocol, port(0)?, port(2)?)),
            None => None,
        };
        Some(Self { from, to, ports, payload: rest.get(header..)?.to_vec() })
    }
}

type Inner<'a> = (IpAddr, IpAddr, u8, &'a [u8]);

fn v4(bytes: &[u8]) -> Option<Inner<'_>> {
    let header = usize::from(bytes[0] & 0x0f) * 4;
    let length = usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
    let at = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
    // Offloading leaves the length to the card.
    let end = if length == 0 { bytes.len() } else { length.min(bytes.len()) };
    Some((at(12)?.into(), at(16)?.into(), *bytes.get(9)?, bytes.get(header..end)?))
}

fn v6(bytes: &[u8]) -> Option<Inner<'_>> {
    let length = usize::from(u16::from_be_bytes(bytes.get(4..6)?.try_into().ok()?));
    let at = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?));
    let end = if length == 0 { bytes.len() } else { (40 + length).min(bytes.len()) };
    Some((at(8)?.into(), at(24)?.into(), *bytes.get(6)?, bytes.get(40..end)?))
}

/// What is not encrypted in these packets: STUN and TURN, DTLS handshakes, the headers of RTP and RTCP, and whole
/// packets of other protocols (ICMP quotes, mDNS). QUIC and Noise are left out: the tap has what they carry.
pub(super) fn readable(packets: &[&Packet]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut streams: BTreeMap<(IpAddr, u16, IpAddr, u16), Vec<u8>> = BTreeMap::new();
    for packet in packets {
        match packet.ports {
            Some((Protocol::Udp, from, to)) => {
                let is_mdns = from == 5353 || to == 5353;
                found.push(if is_mdns { packet.payload.clone() } else { clear(&packet.payload).to_vec() });
            }
            Some((Protocol::Tcp, from, to)) => streams
                .entry((packet.from, from, packet.to, to))
                .or_default()
                .extend_from_slice(&packet.payload),
            None => found.push(packet.without_own_words().to_vec()),
        }
    }
    // On one port the overlay's TCP and the relay's are told apart by the first byte (spec/relay.md).
    found.extend(streams.into_values().filter(|bytes| bytes.first().is_some_and(|first| *first < 4)));
    found.retain(|bytes| !bytes.is_empty());
    found
}

/// The part of a media datagram that is not encrypted.
pub(super) fn clear(datagram: &[u8]) -> &[u8] {
    match datagram.first() {
        Some(0..=3) if datagram.get(4..8) == Some(&COOKIE) => datagram,
        // ChannelData (RFC 8656 §12.4) has another one inside. A short header of QUIC begins alike.
        Some(0x40..=0x4F) => channel_data(datagram).map_or(&[], clear),
        // DTLS but for application data.
        Some(20..=22 | 24..=25) => datagram,
        Some(128..=191) => {
            let is_rtcp = datagram.get(1).is_some_and(|kind| (192..=223).contains(kind));
            &datagram[..datagram.len().min(if is_rtcp { 8 } else { rtp_header(datagram) })]
        }
        _ => &[],
    }
}

/// What is inside, if the length says so: exactly, or up to three bytes of padding less.
fn channel_data(datagram: &[u8]) -> Option<&[u8]> {
    let length = usize::from(u16::from_be_bytes(datagram.get(2..4)?.try_into().ok()?));
    let inside = datagram.get(4..4 + length)?;
    (length > 0 && datagram.len() - 4 - length < 4).then_some(inside)
}

/// Length of the header with its extension (RFC 3550 §5.3.1).
fn rtp_header(datagram: &[u8]) -> usize {
    let fixed = 12 + usize::from(datagram[0] & 0x0f) * 4;
    if datagram[0] & 0x10 == 0 {
        return fixed;
    }
    let words = datagram.get(fixed + 2..fixed + 4).and_then(|words| words.try_into().ok());
    fixed + 4 + words.map_or(0, |words| usize::from(u16::from_be_bytes(words)) * 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(20 + 8 + payload.len()).expect("short");
        let mut packet = vec![0x45, 0, 0, length, 0, 0, 0, 0, 64, 17, 0, 0, 192, 168, 171, 10, 51, 1, 0, 20];
        packet.extend([0x4e, 0x20, 0x0f, 0xa2, 0, 0, 0, 0]);
        packet.extend_from_slice(payload);
        packet
    }

    #[test]
    fn packets_are_read() {
        let packet = Packet::parse(&udp(b"\x01\x01")).expect("IPv4");
        assert_eq!(packet.from, IpAddr::from([192, 168, 171, 10]));
        assert_eq!(packet.to, IpAddr::from([51, 1, 0, 20]));
        assert_eq!(packet.ports, Some((Protocol::Udp, 20_000, 4002)));
        assert_eq!(packet.payload, b"\x01\x01");
        let mut v6 = vec![0x60, 0, 0, 0, 0, 24, 6, 64];
        v6.extend("2a02:ab:1::1a".parse::<Ipv6Addr>().expect("an address").octets());
        v6.extend("2a01:1::20".parse::<Ipv6Addr>().expect("an address").octets());
        v6.extend([0x4e, 0x20, 0x0f, 0xa1, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0]);
        v6.extend(b"dataand a trailer");
        let packet = Packet::parse(&v6).expect("IPv6");
        assert_eq!(packet.ports, Some((Protocol::Tcp, 20_000, 4001)));
        assert_eq!(packet.payload, b"data");
        for length in 0..v6.len() {
            Packet::parse(&v6[..length]);
        }
        assert_eq!(Packet::parse(&[0, 1, 8, 0]), None, "ARP");
    }

    #[test]
    fn what_comes_back_tells_its_sender_nothing_new() {
        let quoted = udp(b"what was said");
        let error = |to: [u8; 4]| Packet {
            from: IpAddr::from([51, 1, 0, 20]),
            to: IpAddr::from(to),
            ports: None,
            payload: [&[3, 3, 0, 0, 0, 0, 0, 0][..], &quoted].concat(),
        };
        let own = error([192, 168, 171, 10]);
        assert!(own.without_own_words().is_empty());
        let of_another = error([192, 168, 171, 11]);
        assert_eq!(of_another.without_own_words(), of_another.payload);
    }

    #[test]
    fn what_is_encrypted_is_left_out_and_nothing_else() {
        let stun = [&[0x01, 0x01, 0, 0][..], &COOKIE, &[9; 12]].concat();
        assert_eq!(clear(&stun), stun);
        let channel = [&[0x40, 0x01, 0, 20][..], &stun].concat();
        assert_eq!(clear(&channel), stun);
        let rtp = [&[0x90, 111, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0xbe, 0xde, 0, 1, 1, 2, 3, 4][..], &[0xEE; 60]]
            .concat();
        assert_eq!(clear(&rtp).len(), 20, "header and extension");
        let rtcp = [&[0x80, 200, 0, 6][..], &[0xEE; 60]].concat();
        assert_eq!(clear(&rtcp).len(), 8);
        assert_eq!(clear(&[22, 254, 253, 0]), [22, 254, 253, 0]);
        assert!(clear(&[0x5a; 40]).is_empty(), "QUIC's short header");
        let like_channel = [&[0x41, 1, 2, 3, 22][..], &[7; 60]].concat();
        assert!(clear(&like_channel).is_empty(), "QUIC's short header, with random bytes like DTLS in it");
        for length in 0..rtp.len() {
            clear(&rtp[..length]);
        }
    }

    #[test]
    fn tcp_to_a_relay_is_put_together_and_the_overlays_left_out() {
        let to = |port: u16, payload: &[u8]| Packet {
            from: IpAddr::from([192, 168, 171, 10]),
            to: IpAddr::from([51, 1, 0, 20]),
            ports: Some((Protocol::Tcp, port, 4001)),
            payload: payload.to_vec(),
        };
        let packets = [to(1, &[0, 3, 0]), to(2, b"\x13/multistream"), to(1, b"split")];
        let packets: Vec<&Packet> = packets.iter().collect();
        assert_eq!(readable(&packets), [b"\x00\x03\x00split".to_vec()]);
    }
}
