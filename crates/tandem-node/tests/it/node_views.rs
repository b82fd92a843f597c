//! What a node says of itself, and what it keeps in its folder.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use tandem_api::{CallRequest, CallSummary, ConnectionRole, ConnectionView};
use tandem_node::config::{Answer, Config};
use tandem_node::handle::{NodeConfig, Request};
use tandem_node::installation::StartError;

use crate::node::{Ongoing, Plan, TestNode, call, speaking_to, start, stop, supernodes};

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
    let before = connections(&alice).await;
    assert_eq!(count(&before, ConnectionRole::Home), 3, "{before:#?}");
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
