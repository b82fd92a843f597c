//! Clients of a running relay over real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use stun_types::attribute::Nonce;
use stun_types::message::Message;
use tandem_proto::grant::RestSecret;
use tandem_relay::client::ClientAddr;
use tandem_relay::driver::Handle;
use tandem_relay::framing::{Frame, first_frame};
use turn_types::attribute::{ChannelNumber, Lifetime, RequestedTransport, XorPeerAddress};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, REFRESH};

use crate::bench::{Client, channel_data, relayed_of};

/// Only ends a hang; nothing here judges speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A socket to the relay that moves whole messages.
pub(crate) enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Wire {
    pub(crate) fn udp(relay: &Handle) -> Self {
        Self::udp_to(relay.udp_addresses()[0])
    }

    pub(crate) fn udp_to(server: SocketAddr) -> Self {
        let any: SocketAddr = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::Udp(socket)
    }

    pub(crate) fn tcp(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::Tcp(stream)
    }

    pub(crate) fn local(&self) -> SocketAddr {
        match self {
            Self::Udp(socket) => socket.local_addr().unwrap(),
            Self::Tcp(stream) => stream.local_addr().unwrap(),
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        match self {
            Self::Udp(socket) => assert_eq!(socket.send(bytes).unwrap(), bytes.len()),
            Self::Tcp(stream) => stream.write_all(bytes).unwrap(),
        }
    }

    pub(crate) fn receive(&mut self) -> Vec<u8> {
        match self {
            Self::Udp(socket) => {
                let mut buffer = [0; 2_048];
                let length = socket.recv(&mut buffer).unwrap();
                buffer[..length].to_vec()
            }
            Self::Tcp(stream) => {
                let mut message = Vec::new();
                while first_frame(&message) == Frame::Partial {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    message.push(byte[0]);
                }
                message
            }
        }
    }

    pub(crate) fn ask(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.send(bytes);
        self.receive()
    }
}

/// A client of call `name` that has allocated.
pub(crate) fn allocated(wire: &mut Wire, name: &str) -> (Client, SocketAddr) {
    let mut client = challenged(wire, &format!("4000000000:{name}"));
    let udp = RequestedTransport::new(RequestedTransport::UDP);
    let reply = wire.ask(&client.signed(ALLOCATE, &[&udp]));
    let relayed = relayed_of(&reply);
    (client, relayed)
}

/// A client that has its nonce. The relay's secret is `s`.
pub(crate) fn challenged(wire: &mut Wire, username: &str) -> Client {
    let password = RestSecret::new("s").password(username);
    let mut client = Client::with_password(username.to_owned(), password, ClientAddr::udp(wire.local(), 0));
    let udp = RequestedTransport::new(RequestedTransport::UDP);
    let challenge = wire.ask(&client.signed(ALLOCATE, &[&udp]));
    let challenge = Message::from_bytes(&challenge).unwrap();
    client.nonce = challenge.attribute::<Nonce>().unwrap().nonce().to_owned();
    client
}

pub(crate) fn bind(wire: &mut Wire, client: &mut Client, number: u16, peer: SocketAddr) {
    let transaction = client.next_transaction();
    let peer = XorPeerAddress::new(peer, transaction);
    let reply = wire.ask(&client.signed_as(transaction, CHANNEL_BIND, &[&ChannelNumber::new(number), &peer]));
    assert_eq!(reply[..2], [0x01, 0x09], "bound");
}

/// A call that ends. What is not given back stays for ten minutes, and the system may give the port to another client,
/// whose Allocate would then be refused.
pub(crate) fn talk_and_end(mut one: Wire, mut two: Wire, name: &str) {
    let clients = talk(&mut one, &mut two, name);
    for (mut wire, mut client) in [one, two].into_iter().zip(clients) {
        let reply = wire.ask(&client.signed(REFRESH, &[&Lifetime::new(0)]));
        assert_eq!(reply[..2], [0x01, 0x04], "given back");
    }
}

pub(crate) fn talk(one: &mut Wire, two: &mut Wire, name: &str) -> [Client; 2] {
    let (mut caller, caller_relayed) = allocated(one, name);
    let (mut callee, callee_relayed) = allocated(two, name);
    bind(one, &mut caller, 0x4000, callee_relayed);
    bind(two, &mut callee, 0x4001, caller_relayed);
    for length in [1, 4, 160, 161, 1_200] {
        let data = vec![length as u8; length];
        one.send(&framed(one, 0x4000, &data));
        assert_eq!(two.receive(), framed(two, 0x4001, &data));
        two.send(&framed(two, 0x4001, &data));
        assert_eq!(one.receive(), framed(one, 0x4000, &data));
    }
    [caller, callee]
}

/// ChannelData as it looks on this wire.
pub(crate) fn framed(wire: &Wire, number: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = channel_data(number, data);
    if matches!(wire, Wire::Tcp(_)) {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = now() + PATIENCE;
    while !holds() {
        assert!(now() < end, "{what} did not come to pass");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "these wait for real sockets; it is forbidden in some crates only"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Says something on channels that [`talk`] has bound, and hears it.
pub(crate) fn go_on(one: &mut Wire, two: &mut Wire, data: &[u8]) {
    one.send(&framed(one, 0x4000, data));
    assert_eq!(two.receive(), framed(two, 0x4001, data));
    two.send(&framed(two, 0x4001, data));
    assert_eq!(one.receive(), framed(one, 0x4000, data));
}
