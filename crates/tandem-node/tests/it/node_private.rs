//! Private networks: who cannot show a membership gets in nowhere, learns nothing, and calls nobody.

use std::time::Duration;

use futures::StreamExt;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, identify};
use tandem_api::{CallRequest, ConnectionRole, ServingState};
use tandem_node::config::{Answer, Config};
use tandem_node::handle::{NodeConfig, NodeHandle, Request, RunningNode};
use tandem_node::overlay::{DeviceCommand, DeviceEvent, Membership};
use tandem_proto::identity::{NetworkSecret, ServiceSecret, membership_text};
use tandem_proto::names::NetworkId;
use tandem_proto::signed::{NetworkMembership, NewMembership};
use tempfile::TempDir;

use crate::node::{Plan, TestNode, call, node_config, speaking_to, start_with, stop};
use crate::node_election::{accept, volunteer};
use crate::overlay_world::{Device, Service, network, next};

const DAY_S: u64 = 86_400;

fn secret() -> NetworkSecret {
    NetworkSecret::from_seed(&[42; 32])
}

fn now_s() -> u64 {
    tandem_node::installation::unix_ms() / 1000
}

fn issue(
    secret: &NetworkSecret,
    network: NetworkId,
    member: [u8; 32],
    (from_s, until_s): (u64, u64),
) -> NetworkMembership {
    let new =
        NewMembership { network, member, not_before_s: from_s, not_after_s: until_s, label: String::new() };
    NetworkMembership::issue(secret, new).unwrap()
}

fn valid() -> (u64, u64) {
    (now_s() - 60, now_s() + DAY_S)
}

fn expired() -> (u64, u64) {
    (now_s() - 3 * DAY_S, now_s() - DAY_S)
}

// ---- swarms ---------------------------------------------------------------------------------------------------------

/// What a swarm with this key shows.
fn shows(member: [u8; 32], by: &NetworkSecret, of: NetworkId, time: (u64, u64)) -> Membership {
    Membership::new(network(), secret().public(), vec![issue(by, of, member, time)])
}

fn member_service(n: u8) -> Service {
    let key = tandem_proto::identity::ServiceSecret::from_seed(&[n; 32]).public();
    Service::start_with(n, |config| {
        let membership = shows(key.0, &secret(), network(), valid());
        config.public = config.public.clone().within(Some(membership));
    })
}

fn device_with(n: u8, membership: impl FnOnce([u8; 32]) -> Option<Membership>) -> Device {
    let key = tandem_proto::identity::DeviceSecret::from_seed(&[n; 32]).public();
    Device::start_with(n, |config| {
        config.public = config.public.clone().within(membership(key.0));
    })
}

/// Whether the device gets a home there; how it went, if not.
async fn gets_a_home(device: &mut Device, home: &Service) -> Result<(), String> {
    device.send(DeviceCommand::OpenHome(home.address())).await;
    next(&mut device.events, |event| match event {
        DeviceEvent::HomeOpened { .. } => Some(Ok(())),
        DeviceEvent::HomeClosed { reason, .. } => Some(Err(reason)),
        _ => None,
    })
    .await?;
    device.send(DeviceCommand::Reserve(home.key)).await;
    next(&mut device.events, |event| match event {
        DeviceEvent::Reserved { .. } => Some(Ok(())),
        DeviceEvent::ReservationLost { reason, .. } | DeviceEvent::HomeClosed { reason, .. } => {
            Some(Err(reason))
        }
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_whoever_shows_a_membership_that_holds_gets_a_home() {
    let home = member_service(216);
    let mut member = device_with(217, |key| Some(shows(key, &secret(), network(), valid())));
    gets_a_home(&mut member, &home).await.expect("a member");

    let foreign = NetworkSecret::from_seed(&[43; 32]);
    let other: NetworkId = "another".parse().unwrap();
    let outsiders: [(&str, Device); 6] = [
        ("no idea of it", device_with(218, |_| None)),
        (
            "no membership",
            device_with(219, |_| Some(Membership::new(network(), secret().public(), Vec::new()))),
        ),
        ("expired", device_with(220, |key| Some(shows(key, &secret(), network(), expired())))),
        ("by another key", device_with(224, |key| Some(shows(key, &foreign, network(), valid())))),
        ("of another network", device_with(225, |key| Some(shows(key, &secret(), other.clone(), valid())))),
        ("somebody else's", device_with(213, |_| Some(shows([7; 32], &secret(), network(), valid())))),
    ];
    for (who, mut outsider) in outsiders {
        gets_a_home(&mut outsider, &home).await.expect_err(who);
        // Nor a circuit to a member that is there.
        let routes = vec![home.address()];
        let open = DeviceCommand::OpenSignal { request: 1, device: member.key, routes, race_after_ms: 300 };
        outsider.send(open).await;
        next(&mut outsider.events, |event| match event {
            DeviceEvent::SignalFailed { .. } => Some(()),
            DeviceEvent::SignalOpened { .. } => panic!("{who}: a circuit"),
            _ => None,
        })
        .await;
    }

    // A member's circuit to the member does open, so the door was not merely broken.
    let mut caller = device_with(212, |key| Some(shows(key, &secret(), network(), valid())));
    let routes = vec![home.address()];
    let open = DeviceCommand::OpenSignal { request: 1, device: member.key, routes, race_after_ms: 300 };
    caller.send(open).await;
    next(&mut caller.events, |event| match event {
        DeviceEvent::SignalOpened { .. } => Some(()),
        DeviceEvent::SignalFailed { reason, .. } => panic!("{reason}"),
        _ => None,
    })
    .await;
}

/// A key that nobody has admitted, for which this service key vouches with this membership of its own.
fn vouched(lender: u8, by: &NetworkSecret, time: (u64, u64)) -> Membership {
    let lender = ServiceSecret::from_seed(&[lender; 32]);
    shows(lender.public().0, by, network(), time).lent_by(lender)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_vouches_for_a_key_that_is_thrown_away_and_nobody_else_does() {
    let home = member_service(195);
    let mut scout = device_with(196, |_| Some(vouched(1, &secret(), valid())));
    gets_a_home(&mut scout, &home).await.expect("a member vouches for it");
    let foreign = NetworkSecret::from_seed(&[43; 32]);
    let other = ServiceSecret::from_seed(&[2; 32]);
    let outsiders: [(&str, Device); 3] = [
        ("its membership has ended", device_with(197, |_| Some(vouched(3, &secret(), expired())))),
        ("admitted by another key", device_with(194, |_| Some(vouched(4, &foreign, valid())))),
        (
            "another's membership",
            device_with(193, |_| Some(shows([5; 32], &secret(), network(), valid()).lent_by(other))),
        ),
    ];
    for (who, mut outsider) in outsiders {
        gets_a_home(&mut outsider, &home).await.expect_err(who);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_trusts_no_supernode_that_is_none() {
    let stranger = Service::start(211);
    let mut member = device_with(210, |key| Some(shows(key, &secret(), network(), valid())));
    gets_a_home(&mut member, &stranger).await.expect_err("a home outside the network");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outsider_at_the_port_learns_no_more_than_the_key() {
    let home = member_service(209);
    let key = libp2p::identity::Keypair::ed25519_from_bytes([208; 32]).unwrap();
    let mut swarm = libp2p::SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_quic()
        .with_behaviour(|key| {
            // As if it knew the network's name.
            identify::Behaviour::new(identify::Config::new(network().identify_protocol(), key.public()))
        })
        .unwrap()
        .build();
    let at: Multiaddr =
        format!("/ip4/{}/udp/{}/quic-v1", home.listen.ip(), home.listen.port()).parse().unwrap();
    swarm.dial(at).unwrap();
    let closed = async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::Behaviour(identify::Event::Received { info, .. }) => panic!("it said {info:?}"),
                SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. } => return,
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), closed).await.expect("the connection is closed");
}

// ---- nodes ----------------------------------------------------------------------------------------------------------

/// Settings of a node in the private network "acme", whose keys are made.
fn acme(folder: &TempDir, plan: Plan<'_>, change: impl FnOnce(&mut Config)) -> NodeConfig {
    let mut node = node_config(folder, plan);
    node.config.network = "acme".to_owned();
    node.config.network_key = Some(secret().public());
    change(&mut node.config);
    tandem_node::installation::ensure_folder(&node.data).unwrap();
    tandem_node::keys::create(&node.data, None, None, now_s() * 1000).unwrap();
    node
}

/// Writes memberships for both keys of the installation.
fn admit(node: &NodeConfig, by: &NetworkSecret, time: (u64, u64)) {
    let keys = tandem_node::keys::open(&node.data, None, now_s() * 1000).unwrap();
    let members = [keys.device.public().0, keys.service.public().0];
    let line = |member| membership_text(issue(by, "acme".parse().unwrap(), member, time).signed());
    std::fs::write(node.data.join("membership"), members.map(line).join("\n")).unwrap();
}

async fn member(network: u8, bootstrap: &[String], volunteer: bool, answer: Answer) -> TestNode {
    let folder = tempfile::tempdir().unwrap();
    let node = acme(&folder, Plan { network, bootstrap, volunteer, answer }, |_| {});
    admit(&node, &secret(), valid());
    start_with(folder, node).await
}

/// Waits until the node says that nobody can be reached.
async fn stays_outside(node: &RunningNode) {
    for _ in 0..600 {
        let status = node.handle().ask(Request::Status).await.unwrap();
        assert!(status.home_details.iter().all(|home| !home.reserved), "{status:?}");
        if status.problems.iter().any(|problem| problem.code == "T1401") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it does not say that no supernode was reached");
}

/// A call that is refused, or ends without having connected.
async fn does_not_connect(handle: &NodeHandle, request: CallRequest, kind: &str) {
    let mut events = handle.events();
    if handle.ask(|reply| Request::PlaceCall(request, reply)).await.is_err() {
        return;
    }
    let ended = async {
        loop {
            if let tandem_api::NodeEvent::Call(event) = events.recv().await.unwrap()
                && let tandem_api::CallStep::Ended { result, .. } = event.step
            {
                return result;
            }
        }
    };
    let result = tokio::time::timeout(Duration::from_secs(60), ended).await.expect("the call ends");
    assert!(!result.connected, "{kind}: {result:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_call_each_other_and_nobody_else_gets_in() {
    let mut supernodes = Vec::new();
    for network in 203..=205 {
        let bootstrap =
            supernodes.first().map(|node: &TestNode| node.ready.listen.clone()).unwrap_or_default();
        supernodes.push(member(network, &bootstrap, true, Answer::Ring).await);
    }
    let bootstrap = supernodes[0].ready.listen.clone();
    let bob = member(206, &bootstrap, false, Answer::Echo).await;
    let alice = member(207, &bootstrap, false, Answer::Ring).await;
    let (events, result) = call(&alice, CallRequest { for_ms: Some(2_000), ..speaking_to(&bob) }).await;
    assert!(result.connected, "{result:?} {events:?}");

    let foreign = NetworkSecret::from_seed(&[43; 32]);
    let leaf = |network| Plan { network, bootstrap: &bootstrap, volunteer: false, answer: Answer::Ring };
    let mut outsiders = Vec::new();
    for (network, kind) in [(198, "ignorant"), (199, "none"), (200, "expired"), (201, "foreign")] {
        let folder = tempfile::tempdir().unwrap();
        let node = acme(&folder, leaf(network), |config| {
            if kind == "ignorant" {
                // The right name alone.
                config.network_key = None;
            }
        });
        match kind {
            "expired" => admit(&node, &secret(), expired()),
            "foreign" => admit(&node, &foreign, valid()),
            _ => {}
        }
        outsiders.push((network, kind, tandem_node::start(node).await.unwrap(), folder));
    }
    for (network, kind, outsider, _folder) in &outsiders {
        stays_outside(outsider).await;
        let request = CallRequest { for_ms: Some(500), ..speaking_to(&bob) };
        let handle = outsider.handle();
        if *kind != "ignorant" {
            let status = handle.ask(Request::Status).await.unwrap();
            assert!(status.problems.iter().any(|problem| problem.code == "T2101"), "{kind}: {status:?}");
        }
        does_not_connect(&handle, request, kind).await;
        for supernode in &supernodes {
            let views = supernode.handle.ask(Request::Connections).await.unwrap();
            let theirs = |remote: &str| remote.contains(&format!("127.{network}.0.1"));
            assert!(!views.iter().any(|view| theirs(&view.remote)), "{kind}: {views:#?}");
            assert!(views.iter().any(|view| view.role == ConnectionRole::Directory), "{views:#?}");
        }
    }
    // Admitted while it runs, it gets in.
    let (_, _, none, folder) = outsiders.swap_remove(1);
    let node = NodeConfig {
        config: Config::default(),
        data: folder.path().join("data"),
        passphrase: None,
        serve_api: false,
        terms: tandem_node::messages::TERMS,
    };
    admit(&node, &secret(), valid());
    let ready = tokio::time::timeout(Duration::from_secs(60), none.ready()).await.expect("it gets homes");
    assert!(ready.is_some());
    none.shutdown(Duration::from_millis(100)).await;
    for (_, _, outsider, _folder) in outsiders {
        outsider.shutdown(Duration::from_millis(100)).await;
    }
    stop(supernodes.into_iter().chain([alice, bob])).await;
}

/// Longer than an election takes on a machine that is busy with other tests.
const ELECTION_WITHIN: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_network_elects_members_who_agreed_and_nobody_else() {
    let first = member(186, &[], true, Answer::Ring).await;
    let bootstrap = first.ready.listen.clone();
    let mut agreed = Vec::new();
    for network in [187, 188] {
        agreed.push(member(network, &bootstrap, false, Answer::Ring).await);
    }
    let alice = member(189, &bootstrap, false, Answer::Ring).await;
    // An outsider who would like to serve it, too.
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan { network: 190, bootstrap: &bootstrap, volunteer: false, answer: Answer::Ring };
    let config = acme(&folder, plan, |_| {});
    admit(&config, &NetworkSecret::from_seed(&[43; 32]), valid());
    let outsider = tandem_node::start(config).await.unwrap();
    for node in agreed.iter().map(|node| &node.handle).chain([&outsider.handle()]) {
        accept(node).await;
    }
    let began = std::time::Instant::now();
    loop {
        let mut states = Vec::new();
        for node in &agreed {
            states.push(volunteer(&node.handle).await.state);
        }
        let homes = alice.handle.ask(Request::Status).await.unwrap().reach.homes.len();
        if states.iter().all(|state| *state == ServingState::Serving) && homes == 3 {
            break;
        }
        if began.elapsed() > ELECTION_WITHIN {
            for node in &agreed {
                eprintln!("{:#?}", volunteer(&node.handle).await);
            }
            panic!("{states:?}, {homes} homes");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("elected in {:?}", began.elapsed());
    for node in &agreed {
        let view = volunteer(&node.handle).await;
        assert!(view.missing.is_empty(), "others have proved its ways in: {view:#?}");
    }
    let view = volunteer(&outsider.handle()).await;
    assert!(view.state != ServingState::Serving && view.bytes_served == 0, "{view:#?}");
    let status = outsider.handle().ask(Request::Status).await.unwrap();
    assert!(status.home_details.iter().all(|home| !home.reserved), "{status:?}");
    outsider.shutdown(Duration::from_millis(100)).await;
    stop(agreed.into_iter().chain([first, alice])).await;
}
