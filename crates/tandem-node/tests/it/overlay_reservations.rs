//! Circuit reservations at a home that answers when it likes.

#![expect(clippy::unwrap_used, reason = "a test ends where something it needs is missing")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::{AsyncWriteExt, StreamExt};
use libp2p::{Multiaddr, Stream, StreamProtocol, relay};
use tandem_node::overlay::{DeviceCommand, DeviceEvent, SupernodeAddress};
use tandem_proto::identity::ServiceSecret;
use tandem_proto::ids::ServiceKey;
use tokio::sync::mpsc;

use crate::overlay_world::{Device, Service, free_port, loopback, network, next};

/// A supernode that opens every stream it is asked for, and leaves it to the test when to answer.
struct Slow {
    at: SupernodeAddress,
    listen: Multiaddr,
    /// A home stream came.
    homes: mpsc::Receiver<()>,
    reservations: mpsc::Receiver<Stream>,
}

impl Slow {
    fn start(n: u8) -> Self {
        let service = ServiceSecret::from_seed(&[n; 32]).public();
        let key = libp2p::identity::Keypair::ed25519_from_bytes([n; 32]).unwrap();
        let at = free_port(loopback(n));
        let listen: Multiaddr = format!("/ip4/{}/udp/{}/quic-v1", at.ip(), at.port()).parse().unwrap();
        let mut swarm = libp2p::SwarmBuilder::with_existing_identity(key)
            .with_tokio()
            .with_quic()
            .with_behaviour(|_| libp2p_stream::Behaviour::new())
            .unwrap()
            .build();
        swarm.listen_on(listen.clone()).unwrap();
        let mut streams = swarm.behaviour().new_control();
        let home = StreamProtocol::try_from_owned(network().home_protocol()).unwrap();
        let mut homes = streams.accept(home).unwrap();
        let mut asked = streams.accept(relay::HOP_PROTOCOL_NAME).unwrap();
        let (tell, reservations) = mpsc::channel(8);
        let (opened, homes_opened) = mpsc::channel(8);
        tokio::spawn(async move {
            let mut open = Vec::new();
            loop {
                tokio::select! {
                    Some((_, home)) = homes.next() => {
                        open.push(home);
                        opened.send(()).await.unwrap();
                    }
                    Some((_, stream)) = asked.next() => tell.send(stream).await.unwrap(),
                    _ = swarm.next() => {}
                }
            }
        });
        let at = SupernodeAddress { service, addresses: vec![listen.to_vec()] };
        Self { at, listen, homes: homes_opened, reservations }
    }

    fn key(&self) -> ServiceKey {
        self.at.service
    }

    /// A granted reservation, as circuit-v2 writes it: a message of type STATUS with the reservation and the status OK.
    fn granted(&self) -> Vec<u8> {
        let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3600;
        let mut reservation = vec![0x08];
        reservation.extend(varint(until));
        let key = libp2p::identity::ed25519::PublicKey::try_from_bytes(&self.key().0).unwrap();
        let peer = libp2p::identity::PublicKey::from(key).to_peer_id();
        let address = self.listen.clone().with_p2p(peer).unwrap().to_vec();
        reservation.push(0x12);
        reservation.extend(varint(address.len() as u64));
        reservation.extend(address);
        let mut message = vec![0x08, 2, 0x1a];
        message.extend(varint(reservation.len() as u64));
        message.extend(reservation);
        message.extend([0x28, 100]);
        [varint(message.len() as u64), message].concat()
    }

    async fn asked(&mut self) -> Stream {
        tokio::time::timeout(Duration::from_secs(25), self.reservations.recv()).await.unwrap().unwrap()
    }
}

fn varint(mut n: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n >= 0x80 {
        bytes.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

/// Opens a home stream. It has arrived when this returns: libp2p-stream drops one that comes before the last was taken.
async fn open(device: &mut Device, home: &mut Slow) {
    let service = home.key();
    device.send(DeviceCommand::OpenHome(home.at.clone())).await;
    next(&mut device.events, |event| match event {
        DeviceEvent::HomeOpened { service: opened, .. } if opened == service => Some(()),
        DeviceEvent::HomeClosed { reason, .. } => panic!("{reason}"),
        _ => None,
    })
    .await;
    let arrived = tokio::time::timeout(Duration::from_secs(25), home.homes.recv());
    arrived.await.unwrap().expect("the home has not ended");
}

/// A grant that crosses the farewell finds nobody who waits for it: libp2p's client panics where its listener was
/// removed, and the whole device with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_that_grants_while_it_is_left_does_no_harm() {
    let mut device = Device::start(181);
    let mut home = Slow::start(182);
    for round in 0..2_000_u64 {
        open(&mut device, &mut home).await;
        // The connection of the round before may still be closing.
        device.send(DeviceCommand::Reserve(home.key())).await;
        let mut stream = home.asked().await;
        let answer = home.granted();
        let late = tokio::spawn(async move {
            for _ in 0..round % 8 {
                tokio::task::yield_now().await;
            }
            stream.write_all(&answer).await.ok();
            stream.flush().await.ok();
        });
        device.send(DeviceCommand::CloseHome(home.key())).await;
        late.await.unwrap();
    }
    let mut other = Service::start(183);
    device.settle(&other).await;
    other.kill().await;
}

/// Asked for once more before it was granted, or after, it is granted once each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reservation_asked_for_again_is_told_of_again() {
    let mut device = Device::start(184);
    let mut home = Slow::start(185);
    open(&mut device, &mut home).await;
    for _ in 0..2 {
        device.send(DeviceCommand::Reserve(home.key())).await;
        device.send(DeviceCommand::Reserve(home.key())).await;
        let mut stream = home.asked().await;
        stream.write_all(&home.granted()).await.unwrap();
        stream.flush().await.unwrap();
        next(&mut device.events, |event| match event {
            DeviceEvent::Reserved { service } => (service == home.key()).then_some(()),
            DeviceEvent::ReservationLost { reason, .. } => panic!("{reason}"),
            _ => None,
        })
        .await;
        assert!(home.reservations.try_recv().is_err(), "the second asking waits for the answer to the first");
    }
}
