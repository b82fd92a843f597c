//! What a node says of itself, and what it keeps in its folder.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use tandem_api::{CallRequest, CallSummary, ConnectionRole, ConnectionView, WordsRequest};
use tandem_core::dialing::HOMES_CONTACTS_A_MINUTE;
use tandem_node::config::{Answer, Config};
use tandem_node::handle::{NodeConfig, Request};
use tandem_node::installation::StartError;
use tandem_node::keys::Passphrase;
use tandem_node::store::{Store, SupernodeQuality};
use tandem_proto::identity::{Address, Entropy, ServiceSecret};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::node::{
    Ongoing, Plan, TestNode, call, node_config, speaking_to, start, start_in, stop, supernodes,
};

const WITHIN: Duration = Duration::from_secs(30);

async fn connections(node: &TestNode) -> Vec<ConnectionView> {
    let views = node.handle.ask(Request::Connections).await.unwrap();
    for view in &views {
        assert!(
            !view.purpose.is_empty() && !view.sees.is_empty() && !view.does_not_see.is_empty(),
            "{view:?}"
        );
        assert!(!view.peer.is_empty() && !view.remote.is_empty() && view.since_unix_ms > 0, "{view:?}");
        let counted = view.bytes_in + view.bytes_out > 0;
        assert!(counted || view.role == ConnectionRole::Forwarded, "{view:?}");
    }
    views
}

/// Until the device has three homes and knows whom it would take in place of one.
async fn settled(node: &TestNode) -> Vec<ConnectionView> {
    let waiting = async {
        loop {
            let views = connections(node).await;
            let replaceable = |view: &&ConnectionView| {
                view.role == ConnectionRole::Home && view.why.as_ref().is_some_and(|why| !why.next.is_empty())
            };
            if views.iter().filter(replaceable).count() == 3 {
                return views;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(WITHIN, waiting).await.expect("three homes, and a fourth supernode known")
}

fn count(views: &[ConnectionView], role: ConnectionRole) -> usize {
    views.iter().filter(|view| view.role == role).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_connection_says_what_it_is_for() {
    let supernodes = supernodes(151..=154).await;
    let bootstrap = supernodes[0].ready.listen.clone();
    let bob =
        start(Plan { network: 155, bootstrap: &bootstrap, volunteer: false, answer: Answer::Echo }).await;
    let alice =
        start(Plan { network: 156, bootstrap: &bootstrap, volunteer: false, answer: Answer::Ring }).await;
    let before = settled(&alice).await;
    explains_homes(&before);
    assert_eq!(count(&before, ConnectionRole::Relay) + count(&before, ConnectionRole::Signal), 0);

    let mut ongoing = Ongoing::place(&alice, speaking_to(&bob)).await;
    ongoing.connected().await;
    let two = |call: &CallSummary| call.relays_in_use.len() == 2 && call.result.packets.received > 50;
    let summary = ongoing.stands(&alice, two).await;

    let views = connections(&alice).await;
    assert_eq!(count(&views, ConnectionRole::Home), 3, "{views:#?}");
    assert!(count(&views, ConnectionRole::Signal) >= 1, "{views:#?}");
    let relays: Vec<&str> = views
        .iter()
        .filter(|view| view.role == ConnectionRole::Relay)
        .map(|view| view.peer.as_str())
        .collect();
    assert_eq!(relays.len(), 2, "{views:#?}");
    assert!(summary.relays_in_use.iter().all(|relay| relays.contains(&relay.as_str())), "{views:#?}");
    for relay in views.iter().filter(|view| view.role == ConnectionRole::Relay) {
        let why = relay.why.as_ref().unwrap();
        let other = relays.iter().find(|other| **other != relay.peer).unwrap();
        assert!(why.network.is_some() && why.next.iter().any(|next| next.service == **other), "{why:#?}");
    }
    for role in [ConnectionRole::Relayed, ConnectionRole::Served, ConnectionRole::Forwarded] {
        assert_eq!(count(&views, role), 0, "a leaf serves nobody: {views:#?}");
    }

    let (mut circuits, mut allocations) = (0, 0);
    for supernode in &supernodes {
        let views = connections(supernode).await;
        let others: BTreeSet<&str> = views
            .iter()
            .filter(|view| view.role == ConnectionRole::Directory)
            .map(|view| view.peer.as_str())
            .collect();
        assert_eq!(others.len(), 3, "{views:#?}");
        assert!(count(&views, ConnectionRole::Served) > 0, "{views:#?}");
        for view in views.iter().filter(|view| view.role == ConnectionRole::Directory) {
            assert_eq!(view.why.is_some(), view.outbound, "who came has chosen: {view:#?}");
        }
        circuits += count(&views, ConnectionRole::Forwarded);
        allocations += count(&views, ConnectionRole::Relayed);
        let service = supernode.handle.ask(Request::Identity).await.unwrap().service;
        let relays = if summary.relays_in_use.contains(&service) { 2 } else { 0 };
        assert_eq!(count(&views, ConnectionRole::Relayed), relays, "{views:#?}");
    }
    assert_eq!(allocations, 4, "both ends on two relays");
    assert!(circuits >= 1, "signalling runs through a circuit");
    ongoing.hang_up(&alice).await;
    ongoing.ended().await;
    stop(supernodes.into_iter().chain([alice, bob])).await;
}

/// Each home says why it and what instead of it, and they are in networks of their own.
fn explains_homes(views: &[ConnectionView]) {
    let homes: Vec<&ConnectionView> = views.iter().filter(|view| view.role == ConnectionRole::Home).collect();
    let why = |home: &&ConnectionView| home.why.clone().unwrap();
    let networks: BTreeSet<String> = homes.iter().filter_map(|home| why(home).network).collect();
    assert_eq!(networks.len(), 3, "{homes:#?}");
    for home in &homes {
        let why = why(home);
        assert!(why.because.len() >= 4 && why.software.is_some(), "{why:#?}");
        assert_eq!(why.served.map(|served| (served.times, served.lost)), Some((1, 0)), "{why:#?}");
        assert!(why.next.iter().all(|next| homes.iter().all(|home| home.peer != next.service)), "{why:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_homes_served_decides_after_a_restart() {
    let supernodes = supernodes(163..=166).await;
    let bootstrap = supernodes[0].ready.listen.clone();
    let plan = || Plan { network: 167, bootstrap: &bootstrap, volunteer: false, answer: Answer::Ring };
    let alice = start(plan()).await;
    settled(&alice).await;
    let TestNode { running, folder, .. } = alice;
    running.shutdown(Duration::ZERO).await;

    let path = folder.path().join("data").join("store.db");
    let store = Store::open(&path, 1).unwrap();
    let measured = store.qualities(0).unwrap();
    assert_eq!(measured.len(), 3, "{measured:?}");
    for one in &measured {
        assert_eq!((one.times, one.lost, one.lied), (1, 0, 0), "{one:?}");
        assert!(one.latency_class.is_some() && one.measured_unix_ms > 0, "{one:?}");
    }
    assert_eq!(store.supernodes(10).unwrap().len(), 4, "the fourth is known, too");
    // As if it had been lost again and again.
    let bad = SupernodeQuality { quality: 10, lost: 9, ..measured[0] };
    store.remember_qualities(&[bad]).unwrap();
    drop(store);

    let alice = start_in(folder, plan()).await;
    let views = settled(&alice).await;
    let homes = || views.iter().filter(|view| view.role == ConnectionRole::Home);
    assert!(homes().all(|home| home.peer != bad.service.to_string()), "{views:#?}");
    let twice = |home: &&ConnectionView| {
        home.why.as_ref().and_then(|why| why.served).is_some_and(|served| served.times == 2)
    };
    assert_eq!(homes().filter(twice).count(), 2, "{views:#?}");
    let next = homes().filter_map(|home| home.why.as_ref()?.next.first());
    assert!(next.clone().all(|next| next.because.contains("served badly before")), "{views:#?}");
    assert_eq!(next.count(), 3);
    stop(supernodes.into_iter().chain([alice])).await;
}

/// Takes connections and drops them, at that many addresses of different networks; says who was tried.
async fn refusing(networks: std::ops::RangeInclusive<u8>) -> (Vec<String>, mpsc::UnboundedReceiver<String>) {
    let (tell, tried) = mpsc::unbounded_channel();
    let mut bootstrap = Vec::new();
    for network in networks {
        let listener = TcpListener::bind((Ipv4Addr::new(127, network, 0, 9), 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let key = ServiceSecret::from_seed(&[network; 32]).public();
        bootstrap.push(format!("/ip4/{}/tcp/{}/p2p/{key}", at.ip(), at.port()));
        let tell = tell.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(stream);
                drop(tell.send(at.to_string()));
            }
        });
    }
    (bootstrap, tried)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_refuses_is_not_stormed() {
    let (bootstrap, mut tried) = refusing(170..=199).await;
    let begun = std::time::Instant::now();
    let plan = Plan { network: 168, bootstrap: &bootstrap, volunteer: false, answer: Answer::Ring };
    let mut config = node_config(&tempfile::tempdir().unwrap(), plan);
    let folder = tempfile::tempdir().unwrap();
    config.data = folder.path().join("data");
    let running = tandem_node::start(config).await.unwrap();
    let (mut different, mut dials) = (BTreeSet::new(), 0);
    // Several, one after the other; then some more time in which a storm would show.
    while different.len() < 8 {
        let at = tokio::time::timeout(4 * WITHIN, tried.recv()).await.expect("it goes on trying").unwrap();
        different.insert(at);
        dials += 1;
    }
    while let Ok(Some(at)) = tokio::time::timeout(Duration::from_secs(3), tried.recv()).await {
        different.insert(at);
        dials += 1;
        if begun.elapsed() > WITHIN {
            break;
        }
    }
    let minutes = 1 + usize::try_from(begun.elapsed().as_secs() / 60).unwrap();
    assert!(different.len() <= minutes * HOMES_CONTACTS_A_MINUTE, "{} in {minutes} min", different.len());
    // Ten attempts at once, and one more each four seconds.
    let budget = 10 + usize::try_from(begun.elapsed().as_secs() / 4).unwrap() + 1;
    assert!(dials <= budget, "{dials} dials in {:?}", begun.elapsed());
    running.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_reports_and_recordings_go() {
    let supernodes = supernodes(157..=159).await;
    let bootstrap = supernodes[0].ready.listen.clone();
    let bob =
        start(Plan { network: 160, bootstrap: &bootstrap, volunteer: false, answer: Answer::Echo }).await;
    let alice =
        start(Plan { network: 161, bootstrap: &bootstrap, volunteer: false, answer: Answer::Ring }).await;
    let calls = alice.folder.path().join("data/calls");
    std::fs::create_dir_all(&calls).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(86_400);
    for number in 0..70_u32 {
        for extension in ["json", "wav"] {
            let file = std::fs::File::create(calls.join(format!("{number:032x}.{extension}"))).unwrap();
            file.set_modified(long_ago + Duration::from_secs(number.into())).unwrap();
        }
    }
    let (_, result) = call(&alice, CallRequest { for_ms: Some(500), ..speaking_to(&bob) }).await;
    assert!(result.connected, "{result:?}");
    let kept = |extension: &str| {
        let files = std::fs::read_dir(&calls).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|e| e == extension)).count()
    };
    assert_eq!((kept("json"), kept("wav"), kept("part")), (50, 49, 0));
    assert!(!calls.join(format!("{:032x}.json", 20)).exists(), "the oldest went");
    assert!(calls.join(format!("{:032x}.json", 21)).exists(), "the newer ones stay");
    stop(supernodes.into_iter().chain([alice, bob])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_words_are_shown_and_where_keys_are_sealed_only_for_the_passphrase() {
    for passphrase in [None, Some("correct horse")] {
        let folder = tempfile::tempdir().unwrap();
        let typed = |text: &str| Passphrase::new(Zeroizing::new(text.to_owned()));
        let plan = NodeConfig {
            config: Config::default(),
            data: folder.path().join("data"),
            passphrase: passphrase.and_then(typed),
            serve_api: false,
            terms: tandem_node::messages::TERMS,
        };
        let node = tandem_node::start(plan).await.unwrap();
        let handle = node.handle();
        let words = async |given: Option<&str>| {
            let request = WordsRequest { passphrase: given.map(str::to_owned) };
            handle.ask(|reply| Request::Words(request, reply)).await.map_err(|problem| problem.code)
        };
        if passphrase.is_some() {
            assert_eq!(words(None).await.unwrap_err(), "T1105");
            assert_eq!(words(Some("wrong horse")).await.unwrap_err(), "T1106");
        }
        let shown = words(passphrase).await.unwrap();
        assert_eq!(shown.words.len(), 24);
        let account = Entropy::from_words(&shown.words.join(" ")).unwrap().account_secret().public();
        let identity = handle.ask(Request::Identity).await.unwrap();
        assert_eq!(Address(account).to_string(), identity.address);
        node.shutdown(Duration::ZERO).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_node_on_one_folder_is_refused() {
    let node = start(Plan { network: 162, bootstrap: &[], volunteer: true, answer: Answer::Ring }).await;
    let data = node.folder.path().join("data");
    let second = || NodeConfig {
        config: Config::default(),
        data: data.clone(),
        passphrase: None,
        serve_api: false,
        terms: tandem_node::messages::TERMS,
    };
    let refused = tandem_node::start(second()).await;
    assert!(matches!(refused, Err(StartError::Lock(_))), "{refused:?}");
    let TestNode { running, folder, .. } = node;
    running.shutdown(Duration::ZERO).await;
    let again = tandem_node::start(second()).await.expect("the lock went with the node");
    again.shutdown(Duration::ZERO).await;
    drop(folder);
}
