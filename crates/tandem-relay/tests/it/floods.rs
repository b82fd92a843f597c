//! More of everything than there is room for, over real sockets on loopback: connections, and packets.

use std::collections::VecDeque;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use tandem_relay::driver::{Handle, Threads};

use crate::bench::binding_request;
use crate::driver::relay;
use crate::wire::{PATIENCE, Wire, allocated, bind, framed, now, talk_and_end, wait_until};

/// A connection that does one of the things that connections do when nobody means well.
fn bad_connection(relay: &Handle, kind: usize) -> TcpStream {
    let mut stream = TcpStream::connect(relay.tcp_addresses()[0]).unwrap();
    // Some are closed by the relay before they have said anything.
    let said: &[u8] = match kind % 4 {
        0 => &[],
        1 => &[0x00],
        2 => &[0x40, 0x00, 0x07, 0xd0, 1, 2, 3],
        _ => b"GET / HTTP/1.1\r\n\r\n",
    };
    let _closed_early = stream.write_all(said);
    stream
}

#[test]
fn ten_thousand_connections() {
    const OPEN_MAX: usize = 200;
    const PER_SOURCE_MAX: usize = 64;
    let relay = relay(|driver| driver.tcp_clients_per_source_max = PER_SOURCE_MAX);
    let mut open = VecDeque::new();
    let mut witness = Wire::udp(&relay);
    for number in 0..10_000 {
        if number % 32 == 0 {
            // The relay takes its turn, or the system's queue is full and everybody waits a second.
            witness.ask(&binding_request());
        }
        open.push_back(bad_connection(&relay, number));
        if open.len() > OPEN_MAX {
            open.pop_front();
        }
        if number % 1_000 == 500 {
            assert!(relay.stats().tcp_clients <= PER_SOURCE_MAX);
            talk_and_end(Wire::udp(&relay), Wire::udp(&relay), &format!("meanwhile {number}"));
        }
    }
    assert_eq!(relay.stats().server.calls_made, 10, "only those who have credentials");
    drop(open);
    wait_until("the end of all connections", || relay.stats().tcp_clients == 0);
    let tcp = || Wire::tcp(TcpStream::connect(relay.tcp_addresses()[0]).unwrap());
    talk_and_end(tcp(), tcp(), "afterwards");
}

/// Sends until it is heard: what is sent while the relay's buffer is full is lost.
fn heard(from: &mut Wire, to: &mut Wire, bytes: &[u8], answer: &[u8]) {
    let Wire::Udp(socket) = &*to else { panic!("UDP") };
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let end = now() + PATIENCE;
    let mut buffer = [0; 2_048];
    loop {
        assert!(now() < end, "nothing is heard any more");
        from.send(bytes);
        if socket.recv(&mut buffer).is_ok_and(|length| buffer[..length] == *answer) {
            return;
        }
    }
}

#[test]
fn a_receive_buffer_that_overflows_loses_packets_and_nothing_else() {
    let relay = relay(|driver| {
        driver.socket_buffer_bytes = 4_096;
        driver.threads = Threads::Exactly(1);
    });
    let (mut one, mut two) = (Wire::udp(&relay), Wire::udp(&relay));
    let (mut caller, caller_relayed) = allocated(&mut one, "small");
    let (mut callee, callee_relayed) = allocated(&mut two, "small");
    bind(&mut one, &mut caller, 0x4000, callee_relayed);
    bind(&mut two, &mut callee, 0x4001, caller_relayed);
    let (sent, got) = (framed(&one, 0x4000, b"sound"), framed(&two, 0x4001, b"sound"));
    let mut stranger = Wire::udp(&relay);
    let noise = [binding_request(), vec![0x40; 1_200], vec![0xff; 1_200], vec![0; 1_200]];
    let mut shouted = 0;
    wait_until("an overflow", || {
        for round in 0..2_000 {
            stranger.send(&noise[round % noise.len()]);
            shouted += 1;
        }
        // What comes later on the same socket was taken later: all before it has been taken or is lost.
        heard(&mut one, &mut two, &sent, &got);
        relay.stats().server.packets_in < shouted
    });
    assert_eq!(relay.stats().server.allocations, 2);
    heard(&mut one, &mut two, &sent, &got);
}
