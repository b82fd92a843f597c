//! The driver over real sockets on loopback: UDP and TCP clients of one call, adopted connections, misbehaviour.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use stun_types::attribute::{Nonce, XorMappedAddress};
use stun_types::message::Message;
use stun_types::prelude::*;
use tandem_proto::grant::RestSecret;
use tandem_proto::leaving;
use tandem_relay::client::ClientAddr;
use tandem_relay::config::Config;
use tandem_relay::driver::{DriverConfig, Handle, StartError, Threads, start, start_on};
use turn_types::attribute::RequestedTransport;
use turn_types::message::ALLOCATE;

use crate::bench::{Client, binding_request, request};
use crate::wire::{PATIENCE, Wire, allocated, bind, framed, go_on, talk, talk_and_end, wait_until};

pub(crate) fn relay(adjust: impl FnOnce(&mut DriverConfig)) -> Handle {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut driver = DriverConfig { udp: vec![any], tcp: vec![any], ..DriverConfig::default() };
    adjust(&mut driver);
    start(&driver, Config::for_rest_secret(RestSecret::new("s")), [3; 32]).unwrap()
}

#[test]
fn every_pair_of_transports_talks() {
    let relay = relay(|_| {});
    let tcp = || Wire::tcp(TcpStream::connect(relay.tcp_addresses()[0]).unwrap());
    talk_and_end(Wire::udp(&relay), Wire::udp(&relay), "udp-udp");
    talk_and_end(Wire::udp(&relay), tcp(), "udp-tcp");
    talk_and_end(tcp(), tcp(), "tcp-tcp");
    let stats = relay.stats();
    assert_eq!(stats.server.packets_forwarded, 30);
    assert_eq!(stats.unsent, 0);
    let rows = relay.allocations();
    assert!(rows.windows(2).all(|two| two[0].info.since <= two[1].info.since), "oldest first");
}

#[test]
fn one_socket_serves_both_families() {
    let Ok(both) = UdpSocket::bind("[::]:0") else {
        println!("not tested: this machine has no IPv6");
        return;
    };
    let port = both.local_addr().unwrap().port();
    let config = Config::for_rest_secret(RestSecret::new("s"));
    let relay = start_on(&DriverConfig::default(), vec![both], Vec::new(), config, [3; 32]).unwrap();
    let connect = |local: &str, server: &str| {
        let socket = UdpSocket::bind(local).unwrap();
        socket.connect((server, port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Wire::Udp(socket)
    };
    let mut ipv4 = connect("127.0.0.1:0", "127.0.0.1");
    let mut ipv6 = connect("[::1]:0", "::1");
    for wire in [&mut ipv4, &mut ipv6] {
        let reply = wire.ask(&binding_request());
        let message = Message::from_bytes(&reply).unwrap();
        assert_eq!(
            message.attribute::<XorMappedAddress>().unwrap().addr(message.transaction_id()),
            wire.local()
        );
    }
    talk(&mut ipv4, &mut ipv6, "ipv4-ipv6");
    assert_eq!(relay.stats().server.calls, 1);
}

#[test]
fn an_embedder_hands_over_connections_with_what_it_read() {
    let relay = relay(|driver| driver.tcp.clear());
    let shared_port = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(shared_port.local_addr().unwrap()).unwrap();
    let (mut stream, remote) = shared_port.accept().unwrap();
    client.write_all(&binding_request()).unwrap();
    let mut already_read = vec![0; 7];
    stream.read_exact(&mut already_read).unwrap();
    relay.adopt(stream, remote, already_read).unwrap();

    let reply = Wire::tcp(client).receive();
    let message = Message::from_bytes(&reply).unwrap();
    assert_eq!(message.attribute::<XorMappedAddress>().unwrap().addr(message.transaction_id()), remote);
}

#[test]
fn a_closed_connection_takes_its_allocation_along() {
    let relay = relay(|_| {});
    let mut wire = Wire::tcp(TcpStream::connect(relay.tcp_addresses()[0]).unwrap());
    allocated(&mut wire, "gone");
    assert_eq!(relay.stats().server.allocations, 1);
    assert_eq!(relay.allocations()[0].transport(), "tcp");
    drop(wire);
    wait_until("the end of the allocation", || relay.stats().server.allocations == 0);
    wait_until("the end of the connection", || relay.stats().tcp_clients == 0);
}

#[test]
fn a_connection_that_does_not_speak_turn_is_closed() {
    let relay = relay(|_| {});
    for nonsense in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &[0x00, 0x01, 0xff, 0xfc], &[0x17; 64]] {
        let mut stream = TcpStream::connect(relay.tcp_addresses()[0]).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(nonsense).unwrap();
        let closed = matches!(stream.read(&mut [0; 1]), Ok(0)) || stream.read(&mut [0; 1]).is_err();
        assert!(closed, "{nonsense:?}");
    }
}

#[test]
fn there_are_only_so_many_connections() {
    let relay = relay(|driver| driver.tcp_clients_per_source_max = 2);
    let mut kept: Vec<_> = (0..2).map(|_| TcpStream::connect(relay.tcp_addresses()[0]).unwrap()).collect();
    wait_until("two connections", || relay.stats().tcp_clients == 2);
    let mut third = TcpStream::connect(relay.tcp_addresses()[0]).unwrap();
    third.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_ne!(third.read(&mut [0; 1]).ok(), Some(1));
    assert_eq!(relay.stats().tcp_clients, 2);
    kept.pop();
    wait_until("room again", || relay.stats().tcp_clients == 1);
}

#[test]
fn a_reader_that_stops_loses_packets_and_holds_nobody_up() {
    let relay = relay(|_| {});
    let mut sender = Wire::udp(&relay);
    let mut reader = Wire::tcp(TcpStream::connect(relay.tcp_addresses()[0]).unwrap());
    let (mut caller, caller_relayed) = allocated(&mut sender, "slow");
    let (mut callee, callee_relayed) = allocated(&mut reader, "slow");
    bind(&mut sender, &mut caller, 0x4000, callee_relayed);
    bind(&mut reader, &mut callee, 0x4001, caller_relayed);
    // Far more than the kernel and the relay will hold for a reader that does not read.
    let packet = framed(&sender, 0x4000, &[1; 1_200]);
    wait_until("packets without room", || {
        for _ in 0..50 {
            sender.send(&packet);
        }
        relay.stats().unsent > 0
    });
    talk_and_end(Wire::udp(&relay), Wire::udp(&relay), "meanwhile");
}

#[test]
fn draining_and_stopping() {
    let relay = relay(|_| {});
    let mut wire = Wire::udp(&relay);
    allocated(&mut wire, "old");
    relay.drain();
    assert!(leaving::is_notice(&wire.receive()), "its client is told");
    wire.send(&binding_request());
    let answer = std::iter::repeat_with(|| wire.receive()).find(|bytes| !leaving::is_notice(bytes));
    assert_eq!(answer.map(|bytes| bytes.len()), Some(32), "Binding is still answered");
    let mut late = Wire::udp(&relay);
    let username = "4000000000:late".to_owned();
    let mut client = Client::with_password(username.clone(), RestSecret::new("s").password(&username), {
        ClientAddr::udp(late.local(), 0)
    });
    let udp = RequestedTransport::new(RequestedTransport::UDP);
    let challenge = late.ask(&request(ALLOCATE, 1.into()).finish());
    client.nonce = Message::from_bytes(&challenge).unwrap().attribute::<Nonce>().unwrap().nonce().to_owned();
    let refusal = late.ask(&client.signed(ALLOCATE, &[&udp]));
    assert_eq!(refusal[..2], [0x01, 0x13], "an error response to Allocate");
    assert_eq!(relay.stats().server.allocations, 1);

    let address = relay.udp_addresses()[0];
    assert!(relay.is_running());
    relay.shutdown();
    relay.shutdown();
    assert!(!relay.is_running());
    UdpSocket::bind(address).expect("its port is free again");
}

#[test]
fn a_port_in_use_is_an_error_that_says_which() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let driver = DriverConfig { udp: vec![address], ..DriverConfig::default() };
    let error = start(&driver, Config::for_rest_secret(RestSecret::new("s")), [3; 32]).unwrap_err();
    assert!(
        matches!(error, StartError::BindUdp { .. }) && error.to_string().contains(&address.to_string()),
        "{error}"
    );
}

#[test]
fn threads_share_the_clients_of_a_call_and_its_tcp_clients() {
    let relay = relay(|driver| driver.threads = Threads::Exactly(4));
    assert_eq!(relay.stats().threads, 4);
    // Which thread has a client is the kernel's choice by its port: of so many pairs some are split.
    for call in 0..16 {
        talk_and_end(Wire::udp(&relay), Wire::udp(&relay), &format!("call {call}"));
        let tcp = Wire::tcp(TcpStream::connect(relay.tcp_addresses()[0]).unwrap());
        talk_and_end(Wire::udp(&relay), tcp, &format!("mixed call {call}"));
    }
    let stats = relay.stats();
    assert_eq!((stats.server.calls_made, stats.server.packets_forwarded), (32, 32 * 10));
    assert_eq!(stats.unsent, 0);
    relay.shutdown();
    assert!(!relay.is_running());
}

#[test]
fn a_second_thread_begins_when_the_first_has_too_much_to_do_and_calls_go_on() {
    let relay = relay(|driver| {
        driver.threads = Threads::UpTo(2);
        // Any load is too much: what counts as busy is tested with forced time.
        driver.busy_share = 0.0;
    });
    assert_eq!(relay.stats().threads, 1);
    // Which thread has a client is the kernel's choice by its port: of so many calls some are split then, or move.
    let mut calls: Vec<[Wire; 2]> = (0..16).map(|_| [Wire::udp(&relay), Wire::udp(&relay)]).collect();
    for (number, [one, two]) in calls.iter_mut().enumerate() {
        talk(one, two, &format!("call {number}"));
    }
    wait_until("a second thread", || {
        calls.iter_mut().for_each(|[one, two]| go_on(one, two, b"meanwhile"));
        relay.stats().threads == 2
    });
    for [one, two] in &mut calls {
        go_on(one, two, b"and on");
    }
    talk_and_end(Wire::udp(&relay), Wire::udp(&relay), "a new one");
    assert_eq!((relay.stats().unsent, relay.stats().threads), (0, 2));
}

#[test]
fn a_port_that_threads_share_is_not_shared_with_another_relay() {
    let relay = relay(|driver| driver.threads = Threads::Exactly(2));
    let again = DriverConfig {
        udp: relay.udp_addresses().to_vec(),
        threads: Threads::Exactly(2),
        ..DriverConfig::default()
    };
    let error = start(&again, Config::for_rest_secret(RestSecret::new("s")), [3; 32]).unwrap_err();
    assert!(matches!(error, StartError::BindUdp { .. }), "{error}");
}

#[test]
fn clients_of_both_families_keep_their_addresses() {
    let relay = relay(|driver| driver.udp.push("[::1]:0".parse().unwrap()));
    let ask = |at: SocketAddr, from: &str| {
        let socket = UdpSocket::bind(from).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(at).unwrap();
        let mut wire = Wire::Udp(socket);
        let reply = wire.ask(&binding_request());
        let message = Message::from_bytes(&reply).unwrap();
        let mapped = message.attribute::<XorMappedAddress>().unwrap().addr(message.transaction_id());
        assert_eq!(mapped, wire.local());
    };
    let (ipv4, ipv6) = (relay.udp_addresses()[0], relay.udp_addresses()[1]);
    for _ in 0..4 {
        ask(ipv4, "127.0.0.1:0");
        ask(ipv6, "[::1]:0");
    }
    relay.shutdown();
}
