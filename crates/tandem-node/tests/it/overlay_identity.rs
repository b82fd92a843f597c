//! A volunteer's machine runs two swarms. Nobody they talk to can tell from what they say that they belong together.

#![expect(clippy::unwrap_used, reason = "a test ends where something it needs is missing")]

use std::time::Duration;

use futures::StreamExt;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, identify};
use tandem_node::overlay::{DeviceCommand, DeviceEvent, ServiceCommand, SupernodeAddress};
use tandem_proto::identity::ServiceSecret;

use crate::overlay_world::{Device, Service, free_port, loopback, network, next};

/// A supernode that asks everyone who they are.
fn spy(n: u8) -> (libp2p::Swarm<identify::Behaviour>, SupernodeAddress) {
    let secret = ServiceSecret::from_seed(&[n; 32]);
    let key = libp2p::identity::Keypair::ed25519_from_bytes([n; 32]).unwrap();
    let at = free_port(loopback(n));
    let mut swarm = libp2p::SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_quic()
        .with_behaviour(|key| {
            let config = identify::Config::new(network().identify_protocol(), key.public());
            identify::Behaviour::new(config)
        })
        .unwrap()
        .build();
    let address: Multiaddr = format!("/ip4/{}/udp/{}/quic-v1", at.ip(), at.port()).parse().unwrap();
    swarm.listen_on(address.clone()).unwrap();
    swarm.add_external_address(address.clone());
    (swarm, SupernodeAddress { service: secret.public(), addresses: vec![address.to_vec()] })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_tells_nobody_of_the_service_on_its_machine() {
    let (mut spy, at) = spy(221);
    let service = Service::start(222);
    let mut device = Device::start(223);
    assert_ne!(service.key.0, device.key.0);

    let heard = tokio::spawn(async move {
        let (mut of_device, mut of_service) = (None, None);
        while of_device.is_none() || of_service.is_none() {
            match spy.select_next_some().await {
                SwarmEvent::Behaviour(identify::Event::Received { info, .. }) => {
                    of_service = Some(info);
                }
                SwarmEvent::Behaviour(identify::Event::Error { peer_id, error, .. }) => {
                    of_device = Some((peer_id, error.to_string()));
                }
                _ => {}
            }
        }
        (of_device.unwrap(), of_service.unwrap())
    });
    service.commands.send(ServiceCommand::Connect(at.clone())).await.unwrap();
    device.send(DeviceCommand::OpenHome(at)).await;
    next(&mut device.events, |event| matches!(event, DeviceEvent::HomeOpened { .. }).then_some(())).await;

    let ((peer, answer), info) = tokio::time::timeout(Duration::from_secs(25), heard).await.unwrap().unwrap();
    // The device answers no question about itself; all the spy has is the key that authenticated the connection.
    assert!(peer.to_bytes().ends_with(&device.key.0));
    assert!(answer.contains("no protocols could be agreed upon"), "{answer}");
    // The service names its own key, what it speaks and where it listens, and nothing of the device.
    let said = format!("{info:?}");
    assert!(!said.contains(&device.key.to_string()) && !said.contains("127.223."), "{said}");
    assert_eq!(info.agent_version, "tandem");
    assert!(info.public_key.to_peer_id().to_bytes().ends_with(&service.key.0));
    assert!(info.listen_addrs.iter().all(|at| at.to_string().starts_with("/ip4/127.222.0.1/")), "{said}");
}
