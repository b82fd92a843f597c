//! The data path takes no memory: with an allocator that counts, so in a program of its own.

#![expect(unsafe_code, reason = "a global allocator is an unsafe trait; this one hands on to the system's")]

#[cfg(test)]
#[expect(dead_code, reason = "the other tests use more of it")]
#[path = "it/bench.rs"]
mod bench;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is the system allocator's; counting changes nothing about it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised us, and it came from there.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[cfg(test)]
mod data_path {
    use std::net::{SocketAddr, UdpSocket};
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use stun_types::attribute::Nonce;
    use stun_types::message::Message;
    use tandem_proto::grant::RestSecret;
    use tandem_relay::client::ClientAddr;
    use tandem_relay::config::Config;
    use tandem_relay::driver::{DriverConfig, Threads, start};
    use turn_types::attribute::{ChannelNumber, RequestedTransport, XorPeerAddress};
    use turn_types::message::{ALLOCATE, CHANNEL_BIND};

    use super::ALLOCATIONS;
    use super::bench::{Client, channel_data, relayed_of};

    fn ask(socket: &UdpSocket, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = [0; 2_048];
        socket.send(bytes).unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    /// A client of the call, allocated.
    fn allocated(socket: &UdpSocket) -> (Client, SocketAddr) {
        let username = "4000000000:call".to_owned();
        let password = RestSecret::new("s").password(&username);
        let local = socket.local_addr().unwrap();
        let mut client = Client::with_password(username, password, ClientAddr::udp(local, 0));
        let udp = RequestedTransport::new(RequestedTransport::UDP);
        let challenge = ask(socket, &client.signed(ALLOCATE, &[&udp]));
        client.nonce =
            Message::from_bytes(&challenge).unwrap().attribute::<Nonce>().unwrap().nonce().to_owned();
        let relayed = relayed_of(&ask(socket, &client.signed(ALLOCATE, &[&udp])));
        (client, relayed)
    }

    fn bound(socket: &UdpSocket, client: &mut Client, peer: SocketAddr) {
        let transaction = client.next_transaction();
        let peer = XorPeerAddress::new(peer, transaction);
        let request = client.signed_as(transaction, CHANNEL_BIND, &[&ChannelNumber::new(0x4000), &peer]);
        assert_eq!(ask(socket, &request)[..2], [0x01, 0x09], "bound");
    }

    #[test]
    fn a_packet_that_is_forwarded_takes_no_memory() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let driver = DriverConfig { udp: vec![any], threads: Threads::Exactly(1), ..DriverConfig::default() };
        let relay = start(&driver, Config::for_rest_secret(RestSecret::new("s")), [3; 32]).unwrap();
        let sockets = [0; 2].map(|_| {
            let socket = UdpSocket::bind(any).unwrap();
            socket.connect(relay.udp_addresses()[0]).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket
        });
        let [(mut caller, to_caller), (mut callee, to_callee)] = [&sockets[0], &sockets[1]].map(allocated);
        bound(&sockets[0], &mut caller, to_callee);
        bound(&sockets[1], &mut callee, to_caller);
        let data = channel_data(0x4000, &[7; 160]);
        let mut buffer = [0; 2_048];
        let mut talk = |rounds| {
            for _ in 0..rounds {
                for [from, to] in [[0, 1], [1, 0]] {
                    sockets[from].send(&data).unwrap();
                    assert_eq!(sockets[to].recv(&mut buffer).unwrap(), data.len());
                }
            }
        };
        // Both routes are learnt, and every buffer has found its size.
        talk(100);
        let before = ALLOCATIONS.load(Ordering::SeqCst);
        talk(2_000);
        assert_eq!(ALLOCATIONS.load(Ordering::SeqCst) - before, 0);
        assert_eq!(relay.stats().server.packets_forwarded, 4_200);
        relay.shutdown();
    }
}
