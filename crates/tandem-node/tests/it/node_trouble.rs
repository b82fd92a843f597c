//! Supernodes that vanish under whole nodes: relays in the middle of a call, and homes.

use tandem_api::{CallRequest, CallSummary, EndReason, Redundancy};
use tandem_node::config::Answer;
use tandem_node::handle::Request;

use crate::node::{Ongoing, Plan, TestNode, call, speaking_to, start, stop, supernodes};
use std::time::Duration;

/// Takes the supernodes of these service keys out of the list and ends them without a drain.
async fn kill(supernodes: &mut Vec<TestNode>, services: &[String]) {
    let mut ending = Vec::new();
    for service in services {
        let mut at = None;
        for (index, node) in supernodes.iter().enumerate() {
            let identity = node.handle.ask(Request::Identity).await.unwrap();
            if identity.service == *service {
                at = Some(index);
            }
        }
        let node = supernodes.remove(at.expect("one of ours"));
        ending.push(tokio::spawn(node.running.shutdown(Duration::ZERO)));
    }
    for end in ending {
        end.await.unwrap();
    }
}

async fn pair(
    supernodes: &[TestNode],
    networks: (u8, u8),
    redundancy: Redundancy,
) -> (TestNode, TestNode, Ongoing, Ongoing) {
    let bootstrap: Vec<String> =
        supernodes.iter().flat_map(|node| node.ready.listen.first().cloned()).collect();
    let plan = |network, answer| Plan { network, bootstrap: &bootstrap, volunteer: false, answer };
    let bob = start(plan(networks.0, Answer::Echo)).await;
    let alice = start(plan(networks.1, Answer::Ring)).await;
    let rings = bob.handle.events();
    let request = CallRequest { redundancy: Some(redundancy), ..speaking_to(&bob) };
    let mut at_alice = Ongoing::place(&alice, request).await;
    let mut at_bob = Ongoing::incoming(rings).await;
    tokio::join!(at_alice.connected(), at_bob.connected());
    (alice, bob, at_alice, at_bob)
}

fn received(call: &CallSummary) -> u64 {
    call.result.packets.received
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_dies_and_nothing_is_lost() {
    let mut supernodes = supernodes(121..=125).await;
    let (alice, bob, mut at_alice, mut at_bob) = pair(&supernodes, (126, 127), Redundancy::Always).await;
    let two = |call: &CallSummary| call.relays_in_use.len() == 2 && received(call) > 100;
    let before = at_alice.stands(&alice, two).await;
    at_bob.stands(&bob, two).await;
    let dead = before.relays_in_use[0].clone();
    kill(&mut supernodes, std::slice::from_ref(&dead)).await;

    // It goes on, and a third relay takes the place of the one that died.
    let goes_on = |call: &CallSummary| {
        received(call) > received(&before) + 200
            && call.relays_in_use.len() == 2
            && !call.relays_in_use.contains(&dead)
    };
    at_alice.stands(&alice, goes_on).await;
    at_alice.hang_up(&alice).await;
    let ((_, mine), (_, theirs)) = tokio::join!(at_alice.ended(), at_bob.ended());
    for result in [&mine, &theirs] {
        assert_eq!(result.packets.lost, 0, "{result:?}");
        assert!(result.relays.len() >= 3 && result.relays.contains(&dead), "{result:?}");
    }
    stop(supernodes.into_iter().chain([alice, bob])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_relays_die_and_the_call_goes_on_over_others() {
    let mut supernodes = supernodes(131..=136).await;
    let (alice, bob, mut at_alice, mut at_bob) = pair(&supernodes, (137, 138), Redundancy::Auto).await;
    let two = |call: &CallSummary| call.relays_in_use.len() == 2 && received(call) > 50;
    let before = at_alice.stands(&alice, two).await;
    kill(&mut supernodes, &before.relays_in_use).await;

    let again = |call: &CallSummary| {
        received(call) > received(&before) + 100
            && !call.relays_in_use.is_empty()
            && !call.relays_in_use.iter().any(|relay| before.relays_in_use.contains(relay))
    };
    let after = at_alice.stands(&alice, again).await;
    at_bob.stands(&bob, again).await;
    at_alice.hang_up(&alice).await;
    let ((here, mine), (there, _)) = tokio::join!(at_alice.ended(), at_bob.ended());
    assert_eq!((here, there), (EndReason::HungUp, EndReason::RemoteHungUp), "signalling moved on too");
    for relay in before.relays_in_use.iter().chain(&after.relays_in_use) {
        assert!(mine.relays.contains(relay), "{relay}: {mine:?}");
    }
    stop(supernodes.into_iter().chain([alice, bob])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_dies_and_is_replaced() {
    let mut supernodes = supernodes(141..=145).await;
    let bootstrap = supernodes[0].ready.listen.clone();
    let alice =
        start(Plan { network: 146, bootstrap: &bootstrap, volunteer: false, answer: Answer::Echo }).await;
    let bob =
        start(Plan { network: 147, bootstrap: &bootstrap, volunteer: false, answer: Answer::Ring }).await;
    let homes = alice.handle.ask(Request::Status).await.unwrap().reach.homes;
    assert_eq!(homes.len(), 3, "{homes:?}");
    kill(&mut supernodes, &homes[..1]).await;

    let request = CallRequest { for_ms: Some(1_000), ..speaking_to(&alice) };
    let (_, meanwhile) = call(&bob, request).await;
    assert!(meanwhile.connected, "by the other homes: {meanwhile:?}");
    let mut now = Vec::new();
    for _ in 0..900 {
        now = alice.handle.ask(Request::Status).await.unwrap().reach.homes;
        if now.len() == 3 && !now.contains(&homes[0]) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(now.len() == 3 && !now.contains(&homes[0]), "three homes again: {now:?}, before {homes:?}");
    assert!(homes[1..].iter().all(|home| now.contains(home)), "the others stay: {now:?}");
    stop(supernodes.into_iter().chain([alice, bob])).await;
}
