//! Somebody who would like to know all supernodes asks the directory (kad) for the neighbours of everything: what one
//! learns who does not serve, and what one learns who does.

#![expect(clippy::unwrap_used, reason = "a test ends where something it needs is missing")]

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use libp2p::kad::{self, store::MemoryStore};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, identify};
use tandem_node::overlay::ServiceCommand;

use crate::overlay_world::{Service, free_port, loopback, network};

/// Where a crawler says that it serves.
pub(crate) enum Claim {
    /// Nowhere: a device.
    Nothing,
    /// Where it listens.
    True,
    /// At its own IP address, where nobody listens.
    Empty,
    /// At its own IP address, where somebody else serves.
    Another(Multiaddr),
    /// At an IP address that it does not speak from.
    Elsewhere(Multiaddr),
}

/// A peer without scruples: kad with nothing checked, and what it says of itself.
pub(crate) struct Crawler {
    pub(crate) swarm: Swarm<Behaviour>,
    pub(crate) own: Multiaddr,
}

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub(crate) struct Behaviour {
    pub(crate) kad: kad::Behaviour<MemoryStore>,
    identify: identify::Behaviour,
}

impl Crawler {
    pub(crate) fn start(n: u8, claim: Claim) -> Self {
        let key = libp2p::identity::Keypair::ed25519_from_bytes([n ^ 0x80; 32]).unwrap();
        let mut swarm = libp2p::SwarmBuilder::with_existing_identity(key)
            .with_tokio()
            .with_quic()
            .with_behaviour(|key| {
                let name = StreamProtocol::try_from_owned(network().kad_protocol()).unwrap();
                let mut config = kad::Config::new(name);
                config.set_max_packet_size(16 * 1024);
                let peer = key.public().to_peer_id();
                let mut kad = kad::Behaviour::with_config(peer, MemoryStore::new(peer), config);
                let serves = !matches!(claim, Claim::Nothing);
                kad.set_mode(Some(if serves { kad::Mode::Server } else { kad::Mode::Client }));
                let says = identify::Config::new(network().identify_protocol(), key.public());
                Behaviour { kad, identify: identify::Behaviour::new(says.with_hide_listen_addrs(true)) }
            })
            .unwrap()
            .build();
        let own = quic(free_port(loopback(n)));
        // Dials leave from the port that is listened on: from this IP address.
        swarm.listen_on(own.clone()).unwrap();
        match claim {
            Claim::Nothing => {}
            Claim::True => swarm.add_external_address(own.clone()),
            Claim::Empty => swarm.add_external_address(quic(free_port(loopback(n)))),
            Claim::Another(address) | Claim::Elsewhere(address) => swarm.add_external_address(address),
        }
        Self { swarm, own }
    }

    /// Asks for the neighbours of so many random keys, beginning with this one supernode and going on with those it
    /// hears of. Whom it knows then: those that answered it.
    async fn crawl(&mut self, first: &Service, keys: usize) -> BTreeSet<PeerId> {
        supernode_at(&mut self.swarm, first);
        let mut learned = BTreeSet::new();
        for _ in 0..keys {
            let query = self.swarm.behaviour_mut().kad.get_closest_peers(PeerId::random());
            loop {
                let SwarmEvent::Behaviour(BehaviourEvent::Kad(event)) = self.swarm.select_next_some().await
                else {
                    continue;
                };
                let kad::Event::OutboundQueryProgressed { id, result, step, .. } = event else { continue };
                if let kad::QueryResult::GetClosestPeers(found) = result
                    && id == query
                {
                    let peers = match found {
                        Ok(ok) => ok.peers,
                        Err(kad::GetClosestPeersError::Timeout { peers, .. }) => peers,
                    };
                    learned.extend(peers.into_iter().map(|peer| peer.peer_id));
                    if step.last {
                        break;
                    }
                }
            }
        }
        learned
    }
}

/// Tells a crawler of a supernode, and says who that is.
pub(crate) fn supernode_at(swarm: &mut Swarm<Behaviour>, service: &Service) -> PeerId {
    let peer = peer_of(service);
    swarm.behaviour_mut().kad.add_address(&peer, quic(service.listen));
    peer
}

fn peer_of(service: &Service) -> PeerId {
    let key = libp2p::identity::ed25519::PublicKey::try_from_bytes(&service.key.0).unwrap();
    libp2p::identity::PublicKey::from(key).to_peer_id()
}

fn quic(at: std::net::SocketAddr) -> Multiaddr {
    format!("/ip4/{}/udp/{}/quic-v1", at.ip(), at.port()).parse().unwrap()
}

const SUPERNODES: u8 = 16;

/// Supernodes of which each knows all others.
async fn directory(first: u8) -> Vec<Service> {
    let services: Vec<Service> = (first..first + SUPERNODES).map(Service::start).collect();
    for service in &services {
        for other in &services {
            service.commands.send(ServiceCommand::AddToRouting(other.address())).await.unwrap();
        }
    }
    services
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_serve_learns_nothing_from_the_directory() {
    let services = directory(20).await;
    // Of the crawler's own IP address, but another's key.
    let others = Service::start(37);
    let claims = [
        Claim::Nothing,
        Claim::Empty,
        Claim::Another(quic(others.listen)),
        Claim::Elsewhere(quic(services[3].listen)),
    ];
    let crawls = [36, 38, 37, 39].into_iter().zip(claims).map(async |(n, claim)| {
        let crawl = async { Crawler::start(n, claim).crawl(&services[0], 2).await };
        (n, tokio::time::timeout(Duration::from_secs(120), crawl).await.unwrap())
    });
    for (n, learned) in futures::future::join_all(crawls).await {
        assert_eq!(learned, BTreeSet::new(), "crawler {n}");
    }
}

/// What remains: a table that finds the nearest to any key can be asked for the nearest to every key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_serves_is_answered_as_the_directory_needs_it() {
    let services = directory(40).await;
    let mut crawler = Crawler::start(57, Claim::True);
    let learned =
        tokio::time::timeout(Duration::from_secs(60), crawler.crawl(&services[0], 16)).await.unwrap();
    println!("of {SUPERNODES}, one who serves learned {} with 16 keys", learned.len());
    let all: BTreeSet<PeerId> = services.iter().map(peer_of).collect();
    assert_eq!(learned, all);
}
