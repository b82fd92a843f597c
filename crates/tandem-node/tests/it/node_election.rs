//! The election among whole nodes in one process: nobody is told to serve but the first one.

use std::net::{TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use tandem_api::{NewConsent, ServingState, VolunteerRole, VolunteerView};
use tandem_node::config::Answer;
use tandem_node::handle::{NodeHandle, Request, VolunteerRequest};

use crate::node::{Plan, TestNode, start, stop};

/// An election takes some ten seconds here, and much longer on a machine that is busy with other tests.
const WITHIN: Duration = Duration::from_secs(180);

async fn node(network: u8, bootstrap: &[String]) -> TestNode {
    start(Plan { network, bootstrap, volunteer: false, answer: Answer::Ring }).await
}

pub(crate) async fn volunteer(node: &NodeHandle) -> VolunteerView {
    node.ask(|reply| Request::Volunteer(VolunteerRequest::View(reply))).await.unwrap()
}

/// Its owner agrees to serve in both roles.
pub(crate) async fn accept(node: &NodeHandle) {
    let terms = volunteer(node).await.terms;
    let new = NewConsent { terms, roles: vec![VolunteerRole::Directory, VolunteerRole::Relay] };
    node.ask(|reply| Request::Volunteer(VolunteerRequest::Accept(new, reply))).await.unwrap();
}

async fn homes(node: &TestNode) -> usize {
    node.handle.ask(Request::Status).await.unwrap().reach.homes.len()
}

/// Nobody listens at the place that the settings name: it can be bound.
fn is_free(node: &TestNode) -> bool {
    TcpListener::bind(node.listen).is_ok() && UdpSocket::bind(node.listen).is_ok()
}

/// [`is_free`], or soon: a probe that was just closed lives on for a moment where another test forks meanwhile. What listens
/// stays.
async fn listens_nowhere(nodes: impl Iterator<Item = &TestNode>) {
    let began = Instant::now();
    for node in nodes {
        while !is_free(node) {
            assert!(began.elapsed() < Duration::from_secs(10), "{} is taken", node.listen);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn serving(nodes: &[TestNode]) -> usize {
    let mut serving = 0;
    for node in nodes {
        serving += usize::from(volunteer(&node.handle).await.state == ServingState::Serving);
    }
    serving
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_elects_those_who_agreed_and_nobody_else() {
    let first = start(Plan { network: 225, bootstrap: &[], volunteer: true, answer: Answer::Ring }).await;
    let bootstrap = first.ready.listen.clone();
    let mut agreed = Vec::new();
    for network in 226..=230 {
        agreed.push(node(network, &bootstrap).await);
    }
    let mut others = Vec::new();
    for network in 231..=232 {
        others.push(node(network, &bootstrap).await);
    }
    // Before consent nothing is bound.
    listens_nowhere(agreed.iter().chain(&others)).await;
    for node in &agreed {
        accept(&node.handle).await;
    }

    let began = Instant::now();
    let mut seen = Vec::new();
    loop {
        let elected = serving(&agreed).await;
        seen.clear();
        for node in others.iter().chain(&agreed) {
            seen.push(homes(node).await);
        }
        if elected >= 2 && seen.iter().all(|homes| *homes == 3) {
            break;
        }
        if began.elapsed() > WITHIN {
            for node in &agreed {
                eprintln!("{:#?}", volunteer(&node.handle).await);
            }
            panic!("{elected} serve, homes: {seen:?}");
        }
        listens_nowhere(others.iter()).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("elected in {:?}: homes {seen:?}", began.elapsed());
    for node in &others {
        let view = volunteer(&node.handle).await;
        assert_eq!((view.state, view.bytes_served), (ServingState::Off, 0), "{view:?}");
    }

    // One that serves withdraws: it drains, and nothing of it is left bound.
    let mut leaving = None;
    for (at, node) in agreed.iter().enumerate() {
        let view = volunteer(&node.handle).await;
        if view.state == ServingState::Serving {
            assert!(view.missing.is_empty(), "{view:#?}");
            leaving = Some(at);
        }
    }
    let leaving = &agreed[leaving.expect("one serves")];
    let withdraw = |reply| Request::Volunteer(VolunteerRequest::Withdraw(reply));
    leaving.handle.ask(withdraw).await.unwrap();
    let began = Instant::now();
    while volunteer(&leaving.handle).await.state != ServingState::Off || !is_free(leaving) {
        assert!(began.elapsed() < WITHIN, "{:#?}", volunteer(&leaving.handle).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stop(std::iter::once(first).chain(agreed).chain(others)).await;
}
