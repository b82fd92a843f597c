//! The lab itself, held against what it claims to be. Needs root; elsewhere each test says that it was left out, and in
//! CI it fails.

mod life;
mod lines;
mod nats;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use tandem_lab::{Host, can_make_namespaces, why_not};

/// May the tests make namespaces here?
fn has_lab() -> bool {
    if can_make_namespaces() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{}", why_not());
    eprintln!("left out: {}", why_not());
    false
}

/// A UDP socket on a host's own address.
fn socket(host: &Host, ip: IpAddr, port: u16) -> UdpSocket {
    let socket = host.namespace().enter(|| UdpSocket::bind((ip, port))).expect("namespace").expect("bind");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
    socket
}

fn v4(host: &Host) -> IpAddr {
    host.v4().expect("an IPv4 address").into()
}

fn receive(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut buffer = [0; 1500];
    let (bytes, from) = socket.recv_from(&mut buffer).expect("a packet");
    (String::from_utf8_lossy(&buffer[..bytes]).into_owned(), from)
}

/// Is there nothing to read? Asked only after a later packet has come, or after a time that is long for these lines.
fn is_silent(socket: &UdpSocket) -> bool {
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("timeout");
    let silent = socket.recv_from(&mut [0; 1500]).is_err();
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
    silent
}
