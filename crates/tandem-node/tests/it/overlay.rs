//! The device swarm with its homes: frames, reservations, signalling, and what happens when a home goes.

#![expect(clippy::unwrap_used, reason = "a test ends where something it needs is missing")]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tandem_api::DeviceFailure;
use tandem_node::overlay::{
    ClientId, DeviceCommand, DeviceEvent, PeerKey, Places, PreferredTransport, ServiceCommand, ServiceConfig,
    ServiceEvent, SignalId, StartError, spawn_service,
};
use tandem_proto::ids::ServiceKey;
use tandem_proto::multiaddr::{Transport, TransportAddress};
use tandem_proto::wire::{Heartbeat, HomeFrame, Ringing, SignalFrame, home_frame, signal_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::overlay_world::{Device, Service, both, free_port, lab, loopback, network, next};

fn heartbeat(id: u64) -> HomeFrame {
    HomeFrame { id, body: Some(home_frame::Body::Heartbeat(Heartbeat { in_call: false })) }
}

fn ringing(nonce: u8) -> SignalFrame {
    let ringing = Ringing { draw_nonce: vec![nonce; 32], ..Ringing::default() };
    SignalFrame { body: Some(signal_frame::Body::Ringing(ringing)) }
}

fn tcp_alone(at: SocketAddr) -> Vec<u8> {
    TransportAddress { ip: at.ip(), port: at.port(), transport: Transport::Tcp }.to_bytes()
}

async fn client_of(service: &mut Service, peer: [u8; 32]) -> ClientId {
    next(&mut service.events, |event| match event {
        ServiceEvent::ClientOpened { client, peer: key, .. } if key == peer => Some(client),
        _ => None,
    })
    .await
}

/// Opens signalling from one device to the other; its two ends and the home that carries it.
async fn signal(from: &mut Device, to: &mut Device, routes: &[&Service]) -> (SignalId, SignalId, ServiceKey) {
    let routes = routes.iter().map(|service| service.address()).collect();
    from.send(DeviceCommand::OpenSignal { request: 1, device: to.key, routes, race_after_ms: 300 }).await;
    let (opened, via) = next(&mut from.events, |event| match event {
        DeviceEvent::SignalOpened { request: 1, signal, device, via } => {
            assert_eq!(device, to.key);
            Some((signal, via.unwrap()))
        }
        DeviceEvent::SignalFailed { reason, .. } => panic!("{reason}"),
        _ => None,
    })
    .await;
    let (incoming, device, incoming_via) = next(&mut to.events, |event| match event {
        DeviceEvent::SignalIncoming { signal, device, via } => Some((signal, device, via)),
        _ => None,
    })
    .await;
    assert_eq!((device, incoming_via), (from.key, Some(via)));
    (opened, incoming, via)
}

async fn pass(from: &Device, signal: SignalId, to: &mut Device, at: SignalId, nonce: u8) {
    from.send(DeviceCommand::SendSignal { signal, frame: ringing(nonce) }).await;
    let frame = next(&mut to.events, |event| match event {
        DeviceEvent::SignalFrame { signal, frame } if signal == at => Some(frame),
        DeviceEvent::SignalClosed { signal, reason } if signal == at => panic!("{reason}"),
        _ => None,
    })
    .await;
    assert_eq!(frame, ringing(nonce));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_settle_and_reach_each_other_through_their_homes() {
    let mut services: Vec<Service> = (31..36).map(Service::start).collect();
    let (mut alice, mut bob) = (Device::start(41), Device::start(42));
    let start = Instant::now();
    for home in &services[..3] {
        alice.settle(home).await;
    }
    println!("three homes opened and reserved one after another: {:?}", start.elapsed());
    for home in &services[2..] {
        bob.settle(home).await;
    }

    let client = client_of(&mut services[0], alice.key.0).await;
    alice.send(DeviceCommand::SendHome { service: services[0].key, frame: heartbeat(5) }).await;
    let heard = next(&mut services[0].events, |event| match event {
        ServiceEvent::ClientFrame { client: from, frame } if from == client => Some(frame),
        _ => None,
    });
    assert_eq!(heard.await, heartbeat(5));
    services[0].commands.send(ServiceCommand::SendHome { client, frame: heartbeat(6) }).await.unwrap();
    let answered = next(&mut alice.events, |event| match event {
        DeviceEvent::HomeFrame { service, frame } => Some((service, frame)),
        _ => None,
    });
    assert_eq!(answered.await, (services[0].key, heartbeat(6)));

    // Homes of Bob's that are not Alice's, and back through one they share.
    let start = Instant::now();
    let (a, b, via) = signal(&mut alice, &mut bob, &[&services[3], &services[4]]).await;
    println!("circuit to a stranger's home, Noise and stream: {:?}", start.elapsed());
    assert_eq!(via, services[3].key);
    pass(&alice, a, &mut bob, b, 1).await;
    pass(&bob, b, &mut alice, a, 2).await;
    let (back, forth, via) = signal(&mut bob, &mut alice, &[&services[2]]).await;
    assert_eq!(via, services[2].key);
    pass(&bob, back, &mut alice, forth, 3).await;

    // Both streams live side by side; what was queued is written before the close.
    alice.send(DeviceCommand::SendSignal { signal: a, frame: ringing(4) }).await;
    alice.send(DeviceCommand::CloseSignal(a)).await;
    let mut got = false;
    let reason = next(&mut bob.events, |event| match event {
        DeviceEvent::SignalFrame { signal, frame } if signal == b => {
            got = frame == ringing(4);
            None
        }
        DeviceEvent::SignalClosed { signal, reason } if signal == b => Some(reason),
        _ => None,
    })
    .await;
    assert!(got, "the last frame came before the end ({reason})");
    pass(&bob, back, &mut alice, forth, 5).await;

    let (answer, table) = tokio::sync::oneshot::channel();
    alice.send(DeviceCommand::Connections(answer)).await;
    let table = table.await.unwrap();
    for service in &services[..3] {
        let row = table.iter().find(|row| row.peer == PeerKey::Service(service.key)).unwrap();
        assert!(row.outbound && row.transport == "tcp" && row.bytes_in > 0 && row.bytes_out > 0, "{row:?}");
    }
    let circuit = table.iter().find(|row| row.peer == PeerKey::Device(bob.key)).unwrap();
    assert!(circuit.transport == "circuit" && circuit.bytes_in > 0, "{circuit:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_that_ends_is_noticed_at_once() {
    let mut services: Vec<Service> = (51..53).map(Service::start).collect();
    let mut device = Device::start(61);
    for service in &services {
        device.settle(service).await;
    }
    let gone = services[0].key;
    services[0].kill().await;
    let start = Instant::now();
    let (mut closed, mut lost) = (false, false);
    next(&mut device.events, |event| {
        match event {
            DeviceEvent::HomeClosed { service, .. } => closed |= service == gone,
            DeviceEvent::ReservationLost { service, .. } => lost |= service == gone,
            _ => {}
        }
        (closed && lost).then_some(())
    })
    .await;
    println!("a killed home noticed after {:?}", start.elapsed());

    // Closing and opening the other one again is a fresh start.
    device.send(DeviceCommand::CloseHome(services[1].key)).await;
    device.settle(&services[1]).await;
    device.send(DeviceCommand::NetworkChanged).await;
    let told = next(&mut device.events, |event| match event {
        DeviceEvent::HomeClosed { service, reason } => Some((service, reason)),
        _ => None,
    });
    assert_eq!(told.await.0, services[1].key);
    device.settle(&services[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_supernode_is_left_for_another_route() {
    let services: Vec<Service> = (71..73).map(Service::start).collect();
    let probed =
        |config: &mut tandem_node::overlay::DeviceConfig| config.signal_probe = Duration::from_millis(200);
    let (mut alice, mut bob) = (Device::start_with(81, probed), Device::start_with(82, probed));
    for service in &services {
        alice.settle(service).await;
        bob.settle(service).await;
    }
    let (a, b, via) = signal(&mut alice, &mut bob, &[&services[0], &services[1]]).await;
    assert_eq!(via, services[0].key);
    pass(&alice, a, &mut bob, b, 1).await;
    // Probes keep a silent stream alive.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    pass(&bob, b, &mut alice, a, 2).await;

    let thaw = services[0].freeze().await;
    let start = Instant::now();
    for (device, open) in [(&mut alice, a), (&mut bob, b)] {
        let reason = next(&mut device.events, |event| match event {
            DeviceEvent::SignalClosed { signal, reason } if signal == open => Some(reason),
            _ => None,
        })
        .await;
        assert!(reason.starts_with("nothing was heard"), "{reason}");
    }
    println!("frozen circuit given up after {:?}", start.elapsed());
    // The same order of routes: the frozen one is overtaken.
    let start = Instant::now();
    let (a, b, via) = signal(&mut alice, &mut bob, &[&services[0], &services[1]]).await;
    println!("other route open after {:?}", start.elapsed());
    assert_eq!(via, services[1].key);
    pass(&bob, b, &mut alice, a, 3).await;
    drop(thaw);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_not_there_cannot_be_reached() {
    let services: Vec<Service> = (91..93).map(Service::start).collect();
    let mut device = Device::start(95);
    device.settle(&services[0]).await;
    let absent = tandem_proto::identity::DeviceSecret::from_seed(&[99; 32]).public();
    for (request, routes) in [(7, vec![services[0].address(), services[1].address()]), (8, vec![])] {
        device.send(DeviceCommand::OpenSignal { request, device: absent, routes, race_after_ms: 300 }).await;
        let failed = next(&mut device.events, |event| match event {
            DeviceEvent::SignalFailed { request: failed, failure, reason } if failed == request => {
                Some((failure, reason))
            }
            _ => None,
        })
        .await;
        let expected = if request == 7 { DeviceFailure::NotThere } else { DeviceFailure::Other };
        assert_eq!(failed.0, expected, "{}", failed.1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_tcp_port_serves_the_overlay_and_the_relay() {
    let mut service = Service::start(101);
    let mut stun = TcpStream::connect(service.listen).await.unwrap();
    stun.write_all(&[0x00, 0x01, 0x00, 0x00, 0x21]).await.unwrap();
    let (mut handed, from) = next(&mut service.events, |event| match event {
        ServiceEvent::RelayStream(stream, from) => Some((stream, from)),
        _ => None,
    })
    .await;
    assert_eq!(from, stun.local_addr().unwrap());
    let mut bytes = [0; 5];
    handed.read_exact(&mut bytes).await.unwrap();
    assert_eq!(bytes, [0x00, 0x01, 0x00, 0x00, 0x21], "nothing was read before");

    let mut overlay = TcpStream::connect(service.listen).await.unwrap();
    overlay.write_all(b"\x13/multistream/1.0.0\n").await.unwrap();
    let mut answer = [0; 20];
    overlay.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"\x13/multistream/1.0.0\n");

    // Devices on the same port, over either transport.
    for (n, preferred) in [(111, PreferredTransport::Tcp), (112, PreferredTransport::Quic)] {
        let mut device = Device::start_with(n, |config| config.preferred = preferred);
        device.settle(&service).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supernode_listens_in_both_families_and_on_a_port_for_tcp_alone() {
    let v6 = free_port(Ipv6Addr::LOCALHOST.into());
    let (tcp, tcp_v6) = (free_port(loopback(121)), free_port(Ipv6Addr::LOCALHOST.into()));
    let mut service = Service::start_with(121, |config| {
        config.listen.full.push(v6);
        config.listen.tcp = vec![tcp, tcp_v6];
    });
    let mut said = std::collections::BTreeSet::new();
    next(&mut service.events, |event| {
        if let ServiceEvent::Listening { address } = event {
            said.insert(address);
        }
        (said.len() == 6).then_some(())
    })
    .await;
    let places = [(both(service.listen), 4), (both(v6), 6)];
    let alone = [(vec![tcp_alone(tcp)], 4), (vec![tcp_alone(tcp_v6)], 6)];
    for (n, (addresses, family)) in places.into_iter().chain(alone).enumerate() {
        let mut device = Device::start(122 + u8::try_from(n).unwrap());
        let remote = device.settle_at(&service, addresses).await.unwrap();
        assert_eq!(remote.is_ipv4(), family == 4, "{remote}");
    }
    for at in [tcp, tcp_v6] {
        let mut stun = TcpStream::connect(at).await.unwrap();
        stun.write_all(&[0x00, 0x01]).await.unwrap();
        let from = next(&mut service.events, |event| match event {
            ServiceEvent::RelayStream(_, from) => Some(from),
            _ => None,
        });
        assert_eq!(from.await, stun.local_addr().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_families_of_one_port_are_bound_side_by_side() {
    let port = free_port(Ipv6Addr::UNSPECIFIED.into()).port();
    let (v4, v6) = ((Ipv4Addr::UNSPECIFIED, port), (Ipv6Addr::UNSPECIFIED, port));
    let service = Service::start_with(127, |config| {
        config.listen.full = vec![v4.into(), v6.into()];
        config.external = Some(Places::one((loopback(127), port).into()));
    });
    for (n, at) in [(128, (loopback(127), port)), (129, (Ipv6Addr::LOCALHOST.into(), port))] {
        let mut device = Device::start(n);
        device.settle_at(&service, both(at.into())).await;
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    let secret = tandem_proto::identity::ServiceSecret::from_seed(&[130; 32]);
    let mut config = ServiceConfig::new(secret, network(), free_port(loopback(130)), lab());
    config.listen.tcp = vec![at];
    match spawn_service(config).unwrap_err() {
        StartError::Listen { address, reason, denied: false } => {
            assert_eq!(address, format!("TCP {at}"));
            assert!(reason.contains("in use"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_connects_to_a_device_directly() {
    let mut service = Service::start(115);
    let mut device = Device::start(116);
    device.settle(&service).await;
    let remote = next(&mut service.events, |event| match event {
        ServiceEvent::ClientOpened { remote, outbound: false, .. } => remote,
        _ => None,
    });
    assert_eq!(remote.await, loopback(116));
    let (answer, table) = tokio::sync::oneshot::channel();
    service.commands.send(ServiceCommand::Connections(answer)).await.unwrap();
    let row = table.await.unwrap().pop().unwrap();
    assert_eq!(row.peer, PeerKey::Device(device.key));
    // The port it dials from is open for no one.
    let at: Vec<&str> = row.remote.split('/').collect();
    let refused = TcpStream::connect((loopback(116), at[4].parse::<u16>().unwrap())).await;
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}
