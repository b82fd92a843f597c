//! What the system sees of a relay under attack, in a network where everything that anybody sends is captured: the relay
//! sends UDP only to sockets that have asked it something, over TCP only to connections that have, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};

use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use socket2::{Domain, Protocol, Socket, Type};
use tandem_relay::driver::{Handle, Threads};
use turn_types::attribute::{ChannelNumber, XorPeerAddress};
use turn_types::message::{CHANNEL_BIND, CREATE_PERMISSION};

use crate::bench::{Client, binding_request, send_indication};
use crate::conversation::unwanted_peers;
use crate::driver::relay;
use crate::namespace::{IPV4, IPV6, in_own_network};
use crate::wire::{Wire, allocated, bind, framed, talk, wait_until};

/// Packets of every interface, in and out (packet(7)).
const ETH_P_ALL: u16 = 3;
const BUFFER_BYTES: usize = 64 << 20;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// One end of a flow: over TCP or not, and where.
type End = (bool, SocketAddr);

/// How a client comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    tcp: bool,
    ipv6: bool,
}

const WAYS: [Way; 4] = [
    Way { tcp: false, ipv6: false },
    Way { tcp: false, ipv6: true },
    Way { tcp: true, ipv6: false },
    Way { tcp: true, ipv6: true },
];

impl Way {
    fn server(self, relay: &Handle) -> SocketAddr {
        let all = if self.tcp { relay.tcp_addresses() } else { relay.udp_addresses() };
        all[usize::from(self.ipv6)]
    }

    fn connect(self, relay: &Handle) -> Wire {
        let server = self.server(relay);
        if self.tcp { Wire::tcp(TcpStream::connect(server).unwrap()) } else { Wire::udp_to(server) }
    }
}

/// A packet of UDP or TCP, and the bytes it carries.
#[derive(Debug)]
struct Seen {
    tcp: bool,
    from: SocketAddr,
    to: SocketAddr,
    carried: usize,
}

fn begin_capture() -> Socket {
    let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)).unwrap();
    setsockopt(&socket, RcvBufForce, &BUFFER_BYTES).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Everything that was captured so far.
fn take_all(mut capture: &Socket) -> Vec<Seen> {
    let mut buffer = vec![0; 1 << 17];
    let mut all = Vec::new();
    loop {
        match capture.read(&mut buffer) {
            Ok(length) => all.extend(seen(&buffer[..length])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

fn seen(packet: &[u8]) -> Option<Seen> {
    let octets = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let sixteen = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
    let (protocol, from, to, header): (u8, IpAddr, IpAddr, usize) = match packet.first()? >> 4 {
        4 => (*packet.get(9)?, octets(12)?.into(), octets(16)?.into(), usize::from(packet[0] & 15) * 4),
        6 => (*packet.get(6)?, sixteen(8)?.into(), sixteen(24)?.into(), 40),
        _ => return None,
    };
    let segment = packet.get(header..)?;
    let port = |at: usize| Some(u16::from_be_bytes([*segment.get(at)?, *segment.get(at + 1)?]));
    let own = match protocol {
        UDP => 8,
        TCP => usize::from(segment.get(12)? >> 4) * 4,
        _ => return None,
    };
    let (from, to) = (SocketAddr::new(from, port(0)?), SocketAddr::new(to, port(2)?));
    Some(Seen { tcp: protocol == TCP, from, to, carried: segment.len().checked_sub(own)? })
}

/// Asks for everything that must be refused.
fn name_everybody(wire: &mut Wire, client: &mut Client, others: &[SocketAddr]) {
    for peer in unwanted_peers().into_iter().chain(others.iter().copied()) {
        for method in [CREATE_PERMISSION, CHANNEL_BIND] {
            let transaction = client.next_transaction();
            let (number, peer) = (ChannelNumber::new(0x4002), XorPeerAddress::new(peer, transaction));
            let reply = wire.ask(&client.signed_as(transaction, method, &[&number, &peer]));
            assert_eq!(reply[0] & 1, 1, "an answer");
            assert_eq!(reply[1] & 0x10, 0x10, "that refuses");
        }
        wire.send(&send_indication(client.next_transaction(), peer, b"let me through"));
        wire.send(&framed(wire, 0x4002, b"let me through"));
    }
}

/// A relay in the captured network, and everybody there is.
struct Scene {
    relay: Handle,
    /// Those who have asked something that is answered.
    asked: BTreeSet<End>,
    /// Those who have sent something, and drew nothing.
    strangers: BTreeSet<End>,
    /// They end with the scene: a port that is free might be given to somebody else.
    wires: Vec<Wire>,
    calls: usize,
}

impl Scene {
    fn asks(&mut self, way: Way) -> Wire {
        let wire = way.connect(&self.relay);
        self.asked.insert((way.tcp, wire.local()));
        wire
    }

    /// A call that talks, and one whose caller would rather talk to everybody else.
    fn attack(&mut self, ways: [Way; 2], bystander: SocketAddr) {
        let [mut one, mut two, mut three, mut four] =
            [ways[0], ways[1], ways[0], ways[1]].map(|way| self.asks(way));
        self.calls += 1;
        talk(&mut one, &mut two, &format!("call {}", self.calls));
        let name = format!("attack {}", self.calls);
        let (mut caller, caller_relayed) = allocated(&mut three, &name);
        let (mut callee, callee_relayed) = allocated(&mut four, &name);
        let own = WAYS.map(|way| way.server(&self.relay));
        let others = [bystander, one.local(), two.local(), four.local(), caller_relayed];
        name_everybody(&mut three, &mut caller, &[&own[..], &others].concat());
        bind(&mut three, &mut caller, 0x4000, callee_relayed);
        bind(&mut four, &mut callee, 0x4000, caller_relayed);
        self.wires.extend([one, two, three, four]);
        self.strangers_send(ways[0], callee_relayed);
    }

    /// Things that draw no answer, at a live allocation too.
    fn strangers_send(&mut self, way: Way, relayed: SocketAddr) {
        let packets = [vec![0; 20], vec![0x40; 64], vec![0xff; 64], send_indication(1.into(), relayed, b"x")];
        for bytes in packets {
            let mut stranger = way.connect(&self.relay);
            self.strangers.insert((way.tcp, stranger.local()));
            let before = self.relay.stats().server.packets_in;
            stranger.send(&bytes);
            if !way.tcp {
                wait_until("a stranger's packet", || self.relay.stats().server.packets_in > before);
            }
            self.wires.push(stranger);
        }
        // Half a request, and none at all.
        for length in [if way.tcp { 10 } else { 0 }, 0] {
            let mut stranger = way.connect(&self.relay);
            stranger.send(&binding_request()[..length]);
            self.strangers.insert((way.tcp, stranger.local()));
            self.wires.push(stranger);
        }
    }
}

/// Proves that the capture sees what goes to nobody: a datagram of the test's own to each family.
fn send_astray() -> [SocketAddr; 2] {
    [IPV4, IPV6].map(|ip| {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        let to: SocketAddr =
            if ip.is_ipv4() { "203.0.113.9:9" } else { "[2001:db8:9::9]:9" }.parse().unwrap();
        socket.send_to(b"astray", to).unwrap();
        to
    })
}

#[test]
fn no_packet_goes_to_who_has_not_asked() {
    in_own_network(|| {
        let capture = begin_capture();
        let relay = relay(|driver| {
            driver.udp = vec![(IPV4, 0).into(), (IPV6, 0).into()];
            driver.tcp.clone_from(&driver.udp);
            driver.threads = Threads::Exactly(2);
        });
        let bystanders = [IPV4, IPV6].map(|ip| UdpSocket::bind((ip, 0)).unwrap());
        let servers: BTreeSet<End> = WAYS.map(|way| (way.tcp, way.server(&relay))).into();
        let mut scene =
            Scene { relay, asked: BTreeSet::new(), strangers: BTreeSet::new(), wires: Vec::new(), calls: 0 };
        for (number, way) in WAYS.into_iter().enumerate() {
            for partner in [way, WAYS[(number + 1) % WAYS.len()]] {
                scene.attack([way, partner], bystanders[number % 2].local_addr().unwrap());
            }
        }
        for way in WAYS {
            let mut last = scene.asks(way);
            last.ask(&binding_request());
            scene.wires.push(last);
        }
        let astray = send_astray();
        // Nothing is sent after this, and what was is in the capture.
        scene.relay.shutdown();
        check(&take_all(&capture), &servers, &scene, astray);
    });
}

fn check(all: &[Seen], servers: &BTreeSet<End>, scene: &Scene, astray: [SocketAddr; 2]) {
    for to in astray {
        assert!(all.iter().any(|seen| seen.to == to), "the capture would see a packet to {to}");
    }
    let mut answered = BTreeMap::new();
    for seen in all.iter().filter(|seen| !astray.contains(&seen.to)) {
        let (from, to) = ((seen.tcp, seen.from), (seen.tcp, seen.to));
        if servers.contains(&from) {
            // A connection's own packets carry nothing.
            let connected = seen.tcp && seen.carried == 0 && scene.strangers.contains(&to);
            assert!(scene.asked.contains(&to) || connected, "to somebody who has not asked: {seen:?}");
            *answered.entry(to).or_insert(0) += seen.carried;
        } else {
            let known = scene.asked.contains(&from) || scene.strangers.contains(&from);
            assert!(known && servers.contains(&to), "from a socket that is nobody's here: {seen:?}");
        }
    }
    answered.retain(|_, carried| *carried > 0);
    assert_eq!(answered.into_keys().collect::<BTreeSet<_>>(), scene.asked, "each who asked, and nobody else");
}
