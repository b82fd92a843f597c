//! What the system sees of a relay under attack: every UDP packet that leaves its port goes to a socket that has asked
//! it something. A capture, so it needs root.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use socket2::{Domain, Protocol, Socket, Type};
use tandem_relay::driver::Threads;
use turn_types::attribute::{ChannelNumber, XorPeerAddress};
use turn_types::message::{CHANNEL_BIND, CREATE_PERMISSION};

use crate::bench::{Client, binding_request, channel_data, send_indication};
use crate::conversation::unwanted_peers;
use crate::driver::{PATIENCE, Wire, allocated, bind, relay, talk};

/// IPv4 packets of every interface, in and out (packet(7)).
const ETH_P_ALL: u16 = 3;
const UDP: u8 = 17;
const BUFFER_BYTES: usize = 8 << 20;

/// A capture that has begun, or why there can be none.
fn capture() -> std::io::Result<Socket> {
    let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))?;
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Source port, target and payload length of a UDP packet over IPv4.
fn udp_of(packet: &[u8]) -> Option<(u16, SocketAddrV4, usize)> {
    let first = packet.first()?;
    if first >> 4 != 4 || *packet.get(9)? != UDP {
        return None;
    }
    let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    let udp = packet.get(usize::from(first & 15) * 4..)?;
    let port = |at: usize| Some(u16::from_be_bytes([*udp.get(at)?, *udp.get(at + 1)?]));
    Some((port(0)?, SocketAddrV4::new(Ipv4Addr::from(to), port(2)?), udp.len().checked_sub(8)?))
}

/// Where packets of this port went, until one goes to `last`.
fn targets(mut capture: Socket, port: u16, last: SocketAddr) -> BTreeSet<SocketAddr> {
    let mut targets = BTreeSet::new();
    let mut buffer = [0; 4_096];
    while !targets.contains(&last) {
        let length = capture.read(&mut buffer).expect("the capture goes on until the last answer");
        if let Some((from, to, _)) = udp_of(&buffer[..length])
            && from == port
        {
            targets.insert(to.into());
        }
    }
    targets
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
        wire.send(&channel_data(0x4002, b"let me through"));
    }
}

#[test]
fn no_packet_goes_to_who_has_not_asked() {
    let capture = match capture() {
        Ok(capture) => capture,
        Err(error) => {
            println!("not tested: no capture without root ({error})");
            return;
        }
    };
    let relay = relay(|driver| driver.threads = Threads::Exactly(2));
    let address = relay.udp_addresses()[0];
    let (mut one, mut two) = (Wire::udp(&relay), Wire::udp(&relay));
    talk(&mut one, &mut two, "call");
    let (mut three, mut four) = (Wire::udp(&relay), Wire::udp(&relay));
    let (mut caller, caller_relayed) = allocated(&mut three, "attack");
    let (mut callee, callee_relayed) = allocated(&mut four, "attack");
    let bystander = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let others =
        [address, bystander.local_addr().unwrap(), one.local(), two.local(), four.local(), caller_relayed];
    name_everybody(&mut three, &mut caller, &others);
    bind(&mut three, &mut caller, 0x4000, callee_relayed);
    bind(&mut four, &mut callee, 0x4000, caller_relayed);
    let mut stranger = Wire::udp(&relay);
    for bytes in [&[0; 20][..], &[0x40; 64], &[0xff; 64], &send_indication(1.into(), callee_relayed, b"x")] {
        stranger.send(bytes);
    }
    let mut last = Wire::udp(&relay);
    last.ask(&binding_request());

    let seen = targets(capture, address.port(), last.local());
    let asked = [one.local(), two.local(), three.local(), four.local(), last.local()];
    assert_eq!(seen, asked.into_iter().collect(), "nobody else, and not the stranger who asked nothing");
}
