//! Dial-back between real supernodes: what is reached, what is not, and that nothing else notices.

#![expect(clippy::unwrap_used, reason = "a test ends where something it needs is missing")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tandem_core::election::Carrier;
use tandem_node::overlay::{
    Check, CheckOutcome, ClientId, ConnectionInfo, PublicAddresses, ServiceCommand, ServiceEvent,
};
use tandem_proto::ids::ServiceKey;
use tandem_proto::wire::{Heartbeat, HomeFrame, home_frame};
use tandem_relay::config::Config;
use tandem_relay::credentials::Credentials;
use tandem_relay::driver::{DriverConfig, Handle, start};
use tokio::net::{TcpListener, UdpSocket};

use crate::overlay_world::{Service, free_port, loopback, next};

fn udp(id: u64, service: ServiceKey, at: SocketAddr) -> Check {
    Check { id, at, carrier: Carrier::Udp, service, relay_port: None }
}

fn tcp(id: u64, service: ServiceKey, at: SocketAddr) -> Check {
    Check { carrier: Carrier::Tcp, ..udp(id, service, at) }
}

async fn ask(by: &Service, check: Check) {
    by.commands.send(ServiceCommand::Check(check)).await.unwrap();
}

async fn outcome(by: &mut Service, check: Check) -> CheckOutcome {
    ask(by, check).await;
    next(&mut by.events, |event| match event {
        ServiceEvent::Checked { id, outcome } if id == check.id => Some(outcome),
        _ => None,
    })
    .await
}

async fn connections(of: &Service) -> Vec<ConnectionInfo> {
    let (answer, table) = tokio::sync::oneshot::channel();
    of.commands.send(ServiceCommand::Connections(answer)).await.unwrap();
    table.await.unwrap()
}

/// Until the other end has heard of the farewell, too.
async fn forgotten(of: &Service) {
    let gone = async {
        while !connections(of).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the connection of a check is closed");
}

fn not_reached(reason: &str) -> CheckOutcome {
    CheckOutcome::NotReached(reason.to_owned())
}

/// A relay in standby on a port of its own.
fn relay(ip: IpAddr) -> (Handle, u16) {
    let grants = Credentials::Grants {
        relay: ServiceKey([1; 32]),
        secret: tandem_proto::grant::RelaySecret::new([2; 32]),
    };
    let driver = DriverConfig { udp: vec![SocketAddr::new(ip, 0)], ..DriverConfig::default() };
    let handle = start(&driver, Config::new(grants), [3; 32]).unwrap();
    handle.stand_by();
    let port = handle.udp_addresses()[0].port();
    (handle, port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_listens_is_reached_and_hears_of_no_client() {
    let (mut asked, mut target) = (Service::start(131), Service::start(132));
    let (_relay, relay_port) = relay(target.listen.ip());
    let with_relay = Check { relay_port: Some(relay_port), ..udp(1, target.key, target.listen) };
    assert_eq!(outcome(&mut asked, with_relay).await, CheckOutcome::Reached);
    assert_eq!(outcome(&mut asked, tcp(2, target.key, target.listen)).await, CheckOutcome::Reached);
    assert!(connections(&asked).await.is_empty(), "the swarm knows nothing of it");
    forgotten(&target).await;
    while let Ok(event) = target.events.try_recv() {
        let client =
            matches!(event, ServiceEvent::ClientOpened { .. } | ServiceEvent::ReservationMade { .. });
        assert!(!client, "{event:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_answer_as_that_service_is_not_reached() {
    let (mut asked, target, other) = (Service::start(133), Service::start(134), Service::start(135));
    let closed = free_port(loopback(134));
    let wrong = "another node answers at its address";
    assert_eq!(outcome(&mut asked, udp(1, other.key, target.listen)).await, not_reached(wrong));
    assert_eq!(outcome(&mut asked, tcp(2, other.key, target.listen)).await, not_reached(wrong));
    let refused = outcome(&mut asked, tcp(3, target.key, closed)).await;
    assert_eq!(refused, not_reached("nothing listens at its address"));
    let relay_closed = Check { relay_port: Some(closed.port()), ..udp(4, target.key, target.listen) };
    let said = outcome(&mut asked, relay_closed).await;
    assert_eq!(said, not_reached("its relay's port does not answer"));
    assert_eq!(outcome(&mut asked, udp(5, target.key, closed)).await, not_reached("it does not answer"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_not_waited_for_and_every_check_leaves_from_a_port_of_its_own() {
    let mut asked = Service::start(136);
    let silent_udp = UdpSocket::bind((loopback(137), 0)).await.unwrap();
    let silent_tcp = TcpListener::bind((loopback(137), 0)).await.unwrap();
    let (at_udp, at_tcp) = (silent_udp.local_addr().unwrap(), silent_tcp.local_addr().unwrap());
    let nobody = ServiceKey(tandem_proto::identity::ServiceSecret::from_seed(&[138; 32]).public().0);
    let mut open = BTreeSet::new();
    for id in 0..4 {
        let check = if id < 2 { udp(id, nobody, at_udp) } else { tcp(id, nobody, at_tcp) };
        ask(&asked, check).await;
        open.insert(id);
    }
    let (mut streams, mut ports) = (Vec::new(), BTreeSet::new());
    for _ in 0..2 {
        let (stream, from) = silent_tcp.accept().await.unwrap();
        streams.push(stream);
        ports.insert(from.port());
    }
    next(&mut asked.events, |event| {
        if let ServiceEvent::Checked { id, outcome } = event {
            assert_eq!(outcome, not_reached("it does not answer"));
            open.remove(&id);
        }
        open.is_empty().then_some(())
    })
    .await;
    assert_eq!(ports.len(), 2);
    let (mut datagram, mut ports, mut bytes) = ([0; 2048], BTreeSet::new(), 0);
    while let Ok((length, from)) = silent_udp.try_recv_from(&mut datagram) {
        ports.insert(from.port());
        bytes += length;
    }
    assert_eq!(ports.len(), 2);
    assert!(!ports.contains(&asked.listen.port()), "not from the port that listens");
    println!("two checks sent {bytes} bytes to a silent UDP port");
    assert!(bytes < 2 * 16_000, "{bytes} bytes sent to somebody who never answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_stands_proves_nothing_and_is_left_alone() {
    let (mut asked, mut target) = (Service::start(139), Service::start(140));
    asked.commands.send(ServiceCommand::Connect(target.address())).await.unwrap();
    let client = opened(&mut asked, target.key.0).await;
    let incoming = opened(&mut target, asked.key.0).await;
    let before = connections(&asked).await;
    let closed = free_port(loopback(140));
    assert!(matches!(outcome(&mut asked, tcp(1, target.key, closed)).await, CheckOutcome::NotReached(_)));
    for check in [udp(2, target.key, target.listen), tcp(3, target.key, target.listen)] {
        assert_eq!(outcome(&mut asked, check).await, CheckOutcome::Reached);
    }
    let ours = |rows: &[ConnectionInfo]| {
        let row = rows.iter().find(|row| row.outbound).unwrap();
        (row.remote.clone(), row.since_unix_ms)
    };
    assert_eq!(ours(&connections(&asked).await), ours(&before));
    let frame = HomeFrame { id: 7, body: Some(home_frame::Body::Heartbeat(Heartbeat { in_call: false })) };
    asked.commands.send(ServiceCommand::SendHome { client, frame: frame.clone() }).await.unwrap();
    let heard = next(&mut target.events, |event| match event {
        ServiceEvent::ClientFrame { client, frame } if client == incoming => Some(frame),
        ServiceEvent::ClientOpened { .. } | ServiceEvent::ClientClosed { .. } => panic!("{event:?}"),
        _ => None,
    });
    assert_eq!(heard.await, frame);
}

async fn opened(at: &mut Service, peer: [u8; 32]) -> ClientId {
    next(&mut at.events, |event| match event {
        ServiceEvent::ClientOpened { client, peer: key, .. } if key == peer => Some(client),
        ServiceEvent::ConnectFailed { reason, .. } => panic!("{reason}"),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn some_addresses_are_not_tried_and_never_too_many_at_once() {
    let mut asked = Service::start_with(141, |config| {
        config.public = PublicAddresses::with_ranges(&["127.141.0.0/16", "127.142.0.0/16"]).unwrap();
    });
    let target = Service::start(142);
    let elsewhere = SocketAddr::new(loopback(143), target.listen.port());
    for check in [
        udp(1, target.key, elsewhere),
        tcp(2, target.key, SocketAddr::new(target.listen.ip(), 0)),
        tcp(3, asked.key, asked.listen),
        Check { relay_port: Some(0), ..udp(4, target.key, target.listen) },
    ] {
        let outcome = outcome(&mut asked, check).await;
        assert!(matches!(outcome, CheckOutcome::NotTried(_)), "{check:?}: {outcome:?}");
    }
    let silent = TcpListener::bind((loopback(142), 0)).await.unwrap();
    for id in 10..60 {
        ask(&asked, tcp(id, target.key, silent.local_addr().unwrap())).await;
    }
    let (mut tried, mut refused) = (0, 0);
    next(&mut asked.events, |event| {
        match event {
            ServiceEvent::Checked { outcome: CheckOutcome::NotReached(_), .. } => tried += 1,
            ServiceEvent::Checked { outcome: CheckOutcome::NotTried(_), .. } => refused += 1,
            _ => {}
        }
        (tried + refused == 50).then_some(())
    })
    .await;
    assert_eq!((tried, refused), (32, 18));
}
