//! What a volunteer's node does before, with and after its owner's consent.

use std::net::TcpStream;
use std::time::Duration;

use tandem_api::{
    CallRequest, CapsChange, LedgerLine, LedgerView, NewConsent, ServingState, VolunteerRole, VolunteerView,
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
    let old = NewConsent { terms: 1, roles: all };
    let refused = node.handle.ask(|reply| Request::Volunteer(VolunteerRequest::Accept(old, reply))).await;
    assert_eq!(refused.unwrap_err().code, "T1204");
    assert!(view(&node).await.suspended);
    stop([first, node]).await;
}
