//! Networks that block, networks that change, and strangers that crowd in: real swarms on loopback.

use std::net::{TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use tandem_node::overlay::{DeviceCommand, DeviceEvent, SignalId, SupernodeAddress};
use tandem_proto::multiaddr::{Transport, TransportAddress};

use crate::overlay_world::{Device, Service, both, loopback, next};

fn at(transport: Transport, address: std::net::SocketAddr) -> Vec<u8> {
    TransportAddress { ip: address.ip(), port: address.port(), transport }.to_bytes()
}

async fn signal(from: &mut Device, to: &mut Device, via: &Service) -> (SignalId, SignalId) {
    let open = |request| DeviceCommand::OpenSignal {
        request,
        device: to.key,
        routes: vec![via.address()],
        race_after_ms: 300,
    };
    from.send(open(1)).await;
    let opened = next(&mut from.events, |event| match event {
        DeviceEvent::SignalOpened { signal, .. } => Some(signal),
        DeviceEvent::SignalFailed { reason, .. } => panic!("{reason}"),
        _ => None,
    })
    .await;
    let incoming = next(&mut to.events, |event| match event {
        DeviceEvent::SignalIncoming { signal, .. } => Some(signal),
        _ => None,
    })
    .await;
    (opened, incoming)
}

async fn closed(device: &mut Device, open: SignalId) -> String {
    next(&mut device.events, |event| match event {
        DeviceEvent::SignalClosed { signal, reason } if signal == open => Some(reason),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ways_that_swallow_everything_cost_little() {
    let service = Service::start(141);
    // What a network does that blocks: nothing answers. The kernel accepts here, and nobody speaks.
    let deaf_udp = UdpSocket::bind((loopback(142), 0)).unwrap();
    let deaf_tcp = TcpListener::bind((loopback(142), 0)).unwrap();
    let addresses = vec![
        at(Transport::Quic, deaf_udp.local_addr().unwrap()),
        at(Transport::Tcp, deaf_tcp.local_addr().unwrap()),
        at(Transport::Tcp, service.listen),
    ];
    let mut device = Device::start(143);
    for errand in [false, true] {
        let address = SupernodeAddress { service: service.key, addresses: addresses.clone() };
        let start = Instant::now();
        device
            .send(if errand { DeviceCommand::OpenErrand(address) } else { DeviceCommand::OpenHome(address) })
            .await;
        next(&mut device.events, |event| matches!(event, DeviceEvent::HomeOpened { .. }).then_some(())).await;
        println!("errand {errand}: reached after {:?}", start.elapsed());
        // A handshake that is waited for takes eight seconds.
        assert!(start.elapsed() < Duration::from_secs(4));
        device.send(DeviceCommand::CloseHome(service.key)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supernode_without_a_way_to_it_fails_at_once() {
    let service = Service::start(144);
    let mut device = Device::start(145);
    // Link-local without an interface: there is no route.
    let nowhere: std::net::SocketAddr = "[fe80::1]:4001".parse().unwrap();
    let address = SupernodeAddress { service: service.key, addresses: both(nowhere) };
    let start = Instant::now();
    device.send(DeviceCommand::OpenHome(address)).await;
    let reason = next(&mut device.events, |event| match event {
        DeviceEvent::HomeClosed { reason, .. } => Some(reason),
        _ => None,
    })
    .await;
    assert!(reason.contains("no way"), "{reason}");
    assert!(start.elapsed() < Duration::from_secs(2));
    // With a way beside it, that one is taken.
    let mut addresses = both(nowhere);
    addresses.extend(both(service.listen));
    device.settle_at(&service, addresses).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_change_of_network_all_is_opened_again_at_once() {
    let services: Vec<Service> = (146..148).map(Service::start).collect();
    let (mut alice, mut bob) = (Device::start(148), Device::start(149));
    for service in &services {
        bob.settle(service).await;
    }
    alice.settle(&services[0]).await;
    let (a, _) = signal(&mut alice, &mut bob, &services[1]).await;

    // One of its supernodes does not answer either: that must hold nothing up.
    let thaw = services[1].freeze().await;
    let start = Instant::now();
    alice.send(DeviceCommand::NetworkChanged).await;
    let reason = closed(&mut alice, a).await;
    assert!(reason.contains("network"), "{reason}");
    alice.settle(&services[0]).await;
    println!("reserved again after {:?}", start.elapsed());
    drop(thaw);

    // And it can be called there.
    let (b, _) = signal(&mut bob, &mut alice, &services[0]).await;
    bob.send(DeviceCommand::CloseSignal(b)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_kept_warm_is_patient() {
    let service = Service::start(150);
    let probed =
        |config: &mut tandem_node::overlay::DeviceConfig| config.signal_probe = Duration::from_millis(300);
    let (mut alice, mut bob) = (Device::start_with(151, probed), Device::start_with(152, probed));
    alice.settle(&service).await;
    bob.settle(&service).await;
    let (a, b) = signal(&mut alice, &mut bob, &service).await;
    for (device, signal) in [(&alice, a), (&bob, b)] {
        device.send(DeviceCommand::SetSignalIdle { signal, idle: true }).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    // Longer than three probes of a busy stream, shorter than three of an idle one.
    let thaw = service.freeze().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    drop(thaw);
    for (device, signal) in [(&alice, a), (&bob, b)] {
        device.send(DeviceCommand::SetSignalIdle { signal, idle: false }).await;
    }
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(alice.events.try_recv().is_err(), "nothing was closed");
    let _frozen = service.freeze().await;
    let reason = closed(&mut alice, a).await;
    assert!(reason.starts_with("nothing was heard"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stranger_gets_its_share_of_a_device_and_no_more() {
    let service = Service::start(153);
    let mut callee = Device::start(154);
    callee.settle(&service).await;
    let mut stranger = Device::start(155);
    for request in 0..12 {
        stranger
            .send(DeviceCommand::OpenSignal {
                request,
                device: callee.key,
                routes: vec![service.address()],
                race_after_ms: 300,
            })
            .await;
    }
    let (mut opened, mut refused) = (Vec::new(), 0);
    next(&mut stranger.events, |event| {
        match event {
            DeviceEvent::SignalOpened { signal, .. } => opened.push(signal),
            DeviceEvent::SignalFailed { .. } => refused += 1,
            _ => {}
        }
        (opened.len() + refused == 12).then_some(())
    })
    .await;
    // Four at the supernode; the device itself keeps no more of one other device either.
    assert!((1..=4).contains(&opened.len()), "{opened:?}");
    // The others were refused at the door, the first ones stand, and somebody else gets through.
    let mut incoming = 0;
    next(&mut callee.events, |event| {
        incoming += usize::from(matches!(event, DeviceEvent::SignalIncoming { .. }));
        (incoming == opened.len()).then_some(())
    })
    .await;
    let mut contact = Device::start(156);
    signal(&mut contact, &mut callee, &service).await;
}
