//! What a volunteer's node does before, with and after its owner's consent.

use std::net::TcpStream;
use std::time::Duration;

use tandem_api::{
    CallRequest, CapsChange, LedgerLine, LedgerView, NewConsent, NodeEvent, ServingState, VolunteerRole,
    VolunteerView,
};
use tandem_node::config::Answer;
use tandem_node::handle::{NodeConfig, Request, VolunteerRequest};
use tandem_node::installation::unix_ms;
use tandem_node::platform::paths;
use tandem_node::store::Store;
use tandem_node::volunteering;

use crate::node::{Plan, TestNode, call, node_config, speaking_to, start, start_with, stop, supernodes};

/// Only ends a hang; nothing here judges speed.
const PATIENCE: Duration = Duration::from_secs(90);

async fn view(node: &TestNode) -> VolunteerView {
    node.handle.ask(|reply| Request::Volunteer(VolunteerRequest::View(reply))).await.unwrap()
}

async fn ledger(node: &TestNode) -> LedgerView {
    node.handle.ask(|reply| Request::Volunteer(VolunteerRequest::Ledger { days: 2, reply })).await.unwrap()
}

/// Waits until it stands so.
async fn stands(node: &TestNode, want: impl Fn(&VolunteerView) -> bool) -> VolunteerView {
    let waiting = async {
        loop {
            let now = view(node).await;
            if want(&now) {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it stands so in time")
}

fn sum(ledgers: &[LedgerView], of: impl Fn(&LedgerLine) -> u64) -> u64 {
    ledgers.iter().flat_map(|ledger| &ledger.lines).map(of).sum()
}

fn of_role(line: &LedgerLine, role: VolunteerRole, value: u64) -> u64 {
    if line.role == role { value } else { 0 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_says_what_was_served_and_outlives_the_node() {
    let supernodes = supernodes(201..=203).await;
    let bootstrap = supernodes[0].ready.listen.clone();
    let bob =
        start(Plan { network: 204, bootstrap: &bootstrap, volunteer: false, answer: Answer::Echo }).await;
    let alice =
        start(Plan { network: 205, bootstrap: &bootstrap, volunteer: false, answer: Answer::Ring }).await;
    let (_, result) = call(&alice, CallRequest { for_ms: Some(1_000), ..speaking_to(&bob) }).await;
    assert!(result.connected, "{result:?}");

    let mut ledgers = Vec::new();
    for supernode in &supernodes {
        ledgers.push(ledger(supernode).await);
    }
    let (directory, relay) = (VolunteerRole::Directory, VolunteerRole::Relay);
    assert_eq!(
        sum(&ledgers, |line| of_role(line, relay, line.calls)),
        2,
        "one call over two relays: {ledgers:?}"
    );
    let relayed = sum(&ledgers, |line| of_role(line, relay, line.bytes));
    assert!(relayed > 2_000, "both directions of a second of sound: {ledgers:?}");
    assert_eq!(sum(&ledgers, |line| of_role(line, relay, line.devices + line.lookups + line.circuits)), 0);
    for ledger in &ledgers {
        let line = ledger.lines.iter().find(|line| line.role == directory).unwrap();
        // Alice, Bob and three echo services have three homes among three supernodes, each but its own.
        assert!(line.bytes > 5_000 && line.devices >= 2 && line.served_ms > 0, "{line:?}");
    }
    assert!(
        sum(&ledgers, |line| line.lookups) >= 1 && sum(&ledgers, |line| line.circuits) >= 1,
        "{ledgers:?}"
    );
    stands(&supernodes[0], |now| now.directory_bytes_this_month > 0 && now.bits_per_second > 0).await;
    for leaf in [&alice, &bob] {
        assert_eq!(ledger(leaf).await.lines, [], "who serves nobody writes nothing down");
    }

    let folder = supernodes.iter().map(|node| node.folder.path().join("data").join(paths::STORE));
    let stores: Vec<_> = folder.collect();
    let before = ledgers.swap_remove(0);
    // The nodes take their folders with them.
    let copies = tempfile::tempdir().unwrap();
    let copy = copies.path().join("store.db");
    let mut nodes = supernodes;
    let TestNode { running, folder, .. } = nodes.remove(0);
    running.shutdown(Duration::from_millis(300)).await;
    std::fs::copy(&stores[0], &copy).unwrap();
    drop(folder);
    let kept = volunteering::ledger(&Store::open(&copy, unix_ms()).unwrap(), 2, unix_ms()).unwrap();
    assert_eq!(kept.lines.len(), before.lines.len());
    for (kept, before) in kept.lines.iter().zip(&before.lines) {
        assert!(kept.bytes >= before.bytes && kept.role == before.role, "{kept:?} {before:?}");
    }
    stop(nodes.into_iter().chain([alice, bob])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caps_hold_from_the_moment_they_are_set() {
    let supernode = start(Plan { network: 208, bootstrap: &[], volunteer: true, answer: Answer::Ring }).await;
    let bootstrap = supernode.ready.listen.clone();
    let set = |change: CapsChange| {
        let handle = supernode.handle.clone();
        async move { handle.ask(|reply| Request::Volunteer(VolunteerRequest::SetCaps(change, reply))).await }
    };
    let wrong = CapsChange { hours: Some("late".to_owned()), ..CapsChange::default() };
    assert_eq!(set(wrong).await.unwrap_err().code, "T1311");
    let served = stands(&supernode, |now| now.devices_served > 0).await.devices_served;
    assert_eq!(served, 1, "its echo service");

    let none = CapsChange { devices: Some(0), ..CapsChange::default() };
    assert_eq!(set(none).await.unwrap().caps.devices, 0);
    let config = {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan { network: 209, bootstrap: &bootstrap, volunteer: false, answer: Answer::Ring };
        let config = node_config(&folder, plan);
        (folder, config)
    };
    let running = tandem_node::start(config.1).await.unwrap();
    let leaf = running.handle();
    let refused = async {
        loop {
            let status = leaf.ask(Request::Status).await.unwrap();
            if status.problems.iter().any(|problem| problem.code == "T1401") {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let status = tokio::time::timeout(PATIENCE, refused).await.expect("it finds no home");
    assert!(status.home_details.is_empty() && !status.reach.ready, "{status:?}");

    set(CapsChange { reset: true, ..CapsChange::default() }).await.unwrap();
    tokio::time::timeout(PATIENCE, running.ready()).await.expect("it finds a home").unwrap();
    stands(&supernode, |now| now.devices_served == served + 1).await;
    running.shutdown(Duration::from_millis(300)).await;
    stop([supernode]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newer_terms_suspend_serving_and_not_the_person() {
    let first = start(Plan { network: 206, bootstrap: &[], volunteer: true, answer: Answer::Ring }).await;
    let bootstrap = first.ready.listen.clone();
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan { network: 207, bootstrap: &bootstrap, volunteer: true, answer: Answer::Ring };
    let plan = node_config(&folder, plan);
    // The settings agree to number 1.
    let listen = plan.config.listen[0];
    let node = start_with(folder, NodeConfig { terms: 2, ..plan }).await;
    assert!(node.ready.ready && node.ready.listen.is_empty(), "{:?}", node.ready);
    let now = view(&node).await;
    assert_eq!((now.terms, now.accepted, now.suspended, now.state), (2, Some(1), true, ServingState::Off));
    let status = node.handle.ask(Request::Status).await.unwrap();
    assert!(status.problems.iter().any(|problem| problem.code == "T1207"), "{:?}", status.problems);
    assert!(TcpStream::connect(listen).is_err(), "nothing listens where it would serve");
    assert_eq!(ledger(&node).await.lines, []);

    // Consent to other terms than those of now is none.
    let all = vec![VolunteerRole::Directory, VolunteerRole::Relay];
    let old = NewConsent { terms: 1, roles: all.clone() };
    let refused = node.handle.ask(|reply| Request::Volunteer(VolunteerRequest::Accept(old, reply))).await;
    assert_eq!(refused.unwrap_err().code, "T1204");
    assert!(view(&node).await.suspended);

    // With consent to the new ones it serves, as its settings ask.
    let new = NewConsent { terms: 2, roles: all };
    let agreed = node.handle.ask(|reply| Request::Volunteer(VolunteerRequest::Accept(new, reply))).await;
    assert_eq!(agreed.unwrap().accepted, Some(2));
    stands(&node, |now| now.state == ServingState::Serving && !now.suspended).await;
    assert!(TcpStream::connect(listen).is_ok());
    let status = node.handle.ask(Request::Status).await.unwrap();
    assert!(!status.problems.iter().any(|problem| problem.code == "T1207"), "{:?}", status.problems);
    stop([first, node]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consent_taken_back_drains_and_closes_and_the_clients_have_other_homes() {
    let supernodes = supernodes(210..=213).await;
    let bootstrap = supernodes[0].ready.listen.clone();
    let leaf =
        start(Plan { network: 214, bootstrap: &bootstrap, volunteer: false, answer: Answer::Ring }).await;
    let homes = async |wanted: &dyn Fn(&[String]) -> bool| {
        let waiting = async {
            loop {
                let homes = leaf.handle.ask(Request::Status).await.unwrap().reach.homes;
                if wanted(&homes) {
                    return homes;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("homes in time")
    };
    let three = homes(&|homes| homes.len() == 3).await;
    let mut leaving = None;
    for supernode in &supernodes {
        let service = supernode.handle.ask(Request::Identity).await.unwrap().service;
        leaving = leaving.or(three.contains(&service).then_some((supernode, service)));
    }
    let (node, service) = leaving.expect("a home of the leaf");
    let listen: Vec<String> = node.ready.listen.clone();
    let port = listen.iter().find_map(|address| address.split("/tcp/").nth(1)?.split('/').next()).unwrap();
    let ip = listen[0].split('/').nth(2).unwrap();
    let at = format!("{ip}:{port}");
    assert!(TcpStream::connect(&at).is_ok());
    stands(node, |now| now.devices_served > 0).await;

    let mut events = node.handle.events();
    let answer =
        node.handle.ask(|reply| Request::Volunteer(VolunteerRequest::Withdraw(reply))).await.unwrap();
    assert_eq!((answer.accepted, answer.roles.len()), (None, 0));
    stands(node, |now| now.state == ServingState::Off && now.devices_served == 0).await;
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let NodeEvent::Serving { state } = event {
            told.push(state);
        }
    }
    assert_eq!(told, [ServingState::Draining, ServingState::Off], "it went in good order");
    // The leaf was told, and is nowhere without homes.
    homes(&|homes| homes.len() == 3 && !homes.contains(&service)).await;
    let closed = async {
        while TcpStream::connect(&at).is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("its ports are closed");
    assert!(!ledger(node).await.lines.is_empty(), "what it served stays written down");
    stop(supernodes.into_iter().chain([leaf])).await;
}
