//! Whole nodes in one process, over real sockets on 127.N.0.1: a call from address to hang-up.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tandem_api::{
    CallEvent, CallPath, CallRequest, CallResult, CallStep, CallSummary, EndReason, NodeEvent, Ready,
    Redundancy,
};
use tandem_node::config::{Answer, Config};
use tandem_node::handle::{NodeConfig, NodeHandle, Request, RunningNode};
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(30);

/// A node in a folder of its own.
pub(crate) struct TestNode {
    pub(crate) running: RunningNode,
    pub(crate) handle: NodeHandle,
    pub(crate) ready: Ready,
    pub(crate) folder: TempDir,
    /// The setting.
    pub(crate) listen: SocketAddr,
}

pub(crate) struct Plan<'a> {
    pub(crate) network: u8,
    pub(crate) bootstrap: &'a [String],
    pub(crate) volunteer: bool,
    pub(crate) answer: Answer,
}

pub(crate) async fn start(plan: Plan<'_>) -> TestNode {
    start_in(tempfile::tempdir().unwrap(), plan).await
}

/// A node in a folder that may have an identity already.
pub(crate) async fn start_in(folder: TempDir, plan: Plan<'_>) -> TestNode {
    let node_config = node_config(&folder, plan);
    start_with(folder, node_config).await
}

/// A node with settings of its own.
pub(crate) async fn start_with(folder: TempDir, node_config: NodeConfig) -> TestNode {
    let listen = node_config.config.listen[0];
    let running = tandem_node::start(node_config).await.unwrap();
    let handle = running.handle();
    let ready = tokio::time::timeout(WITHIN, running.ready()).await.expect("ready in time").unwrap();
    TestNode { running, handle, ready, folder, listen }
}

pub(crate) fn node_config(folder: &TempDir, plan: Plan<'_>) -> NodeConfig {
    let ip = Ipv4Addr::new(127, plan.network, 0, 1);
    let mut config = Config {
        bootstrap: plan.bootstrap.to_vec(),
        listen: vec![SocketAddr::from((ip, free_port(ip)))],
        answer: plan.answer,
        strangers: Some(tandem_core::call::Strangers::Ring),
        ..Config::default()
    };
    if plan.volunteer {
        config.volunteer.directory = true;
        config.volunteer.relay = true;
        config.volunteer.accept_terms = Some(1);
    }
    NodeConfig {
        config,
        data: folder.path().join("data"),
        passphrase: None,
        serve_api: false,
        terms: tandem_node::messages::TERMS,
    }
}

/// A port P with P and P+1 free on UDP.
fn free_port(ip: Ipv4Addr) -> u16 {
    (20_000 + u16::from(ip.octets()[1]) * 50..)
        .find(|port| UdpSocket::bind((ip, *port)).is_ok() && UdpSocket::bind((ip, port + 1)).is_ok())
        .unwrap()
}

pub(crate) async fn supernodes(networks: std::ops::RangeInclusive<u8>) -> Vec<TestNode> {
    let mut nodes: Vec<TestNode> = Vec::new();
    for network in networks {
        let bootstrap = nodes.first().map(|node| node.ready.listen.clone()).unwrap_or_default();
        nodes.push(
            start(Plan { network, bootstrap: &bootstrap, volunteer: true, answer: Answer::Ring }).await,
        );
    }
    nodes
}

/// Ends nodes, all at once.
pub(crate) async fn stop(nodes: impl IntoIterator<Item = TestNode>) {
    let ending: Vec<_> = nodes
        .into_iter()
        .map(|node| tokio::spawn(async move { node.running.shutdown(Duration::from_millis(300)).await }))
        .collect();
    for node in ending {
        node.await.unwrap();
    }
}

/// A call as one of its ends sees it.
pub(crate) struct Ongoing {
    events: tokio::sync::broadcast::Receiver<NodeEvent>,
    pub(crate) call: String,
    pub(crate) seen: Vec<CallStep>,
}

impl Ongoing {
    pub(crate) async fn place(from: &TestNode, request: CallRequest) -> Self {
        let events = from.handle.events();
        let started = from.handle.ask(|reply| Request::PlaceCall(request, reply)).await.unwrap();
        Self { events, call: started.call, seen: Vec::new() }
    }

    /// The next call that comes in, from events subscribed to before it was placed.
    pub(crate) async fn incoming(mut events: tokio::sync::broadcast::Receiver<NodeEvent>) -> Self {
        let call = loop {
            let event = tokio::time::timeout(WITHIN, events.recv()).await.expect("a ring in time").unwrap();
            if let NodeEvent::Call(CallEvent { call, step: CallStep::Incoming { .. }, .. }) = event {
                break call;
            }
        };
        Self { events, call, seen: Vec::new() }
    }

    /// Waits for a step of this call.
    pub(crate) async fn until<T>(&mut self, mut want: impl FnMut(&CallStep) -> Option<T>) -> T {
        loop {
            let event = tokio::time::timeout(WITHIN, self.events.recv()).await;
            let event = event.unwrap_or_else(|_| panic!("nothing more came after {:?}", self.seen));
            let NodeEvent::Call(event) = event.unwrap() else { continue };
            if event.call == self.call {
                self.seen.push(event.step.clone());
                if let Some(found) = want(&event.step) {
                    return found;
                }
            }
        }
    }

    pub(crate) async fn connected(&mut self) {
        self.until(|step| match step {
            CallStep::Connected { .. } => Some(()),
            CallStep::Ended { reason, result } => panic!("{reason:?}: {result:?}"),
            _ => None,
        })
        .await;
    }

    pub(crate) async fn ended(&mut self) -> (EndReason, CallResult) {
        self.until(|step| match step {
            CallStep::Ended { reason, result } => Some((*reason, result.clone())),
            _ => None,
        })
        .await
    }

    /// How the call stands, once that is as wanted.
    pub(crate) async fn stands(&self, node: &TestNode, wanted: impl Fn(&CallSummary) -> bool) -> CallSummary {
        let mut last = None;
        for _ in 0..600 {
            let calls = node.handle.ask(|reply| Request::Calls { limit: 20, reply }).await.unwrap();
            last = calls.into_iter().find(|call| call.call == self.call);
            if let Some(call) = last.take_if(|call| wanted(call)) {
                return call;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the call does not come to stand as wanted: {last:?}");
    }

    pub(crate) async fn hang_up(&self, node: &TestNode) {
        let call = self.call.clone();
        node.handle.ask(|reply| Request::HangUp { call, reply }).await.unwrap();
    }
}

/// A call to this node that plays a passage until somebody hangs up.
pub(crate) fn speaking_to(node: &TestNode) -> CallRequest {
    CallRequest {
        address: node.ready.address.clone(),
        play: Some(speech().display().to_string()),
        ..CallRequest::default()
    }
}

/// Places a call and follows it to its end.
pub(crate) async fn call(from: &TestNode, request: CallRequest) -> (Vec<CallEvent>, CallResult) {
    let mut events = from.handle.events();
    let started = from.handle.ask(|reply| Request::PlaceCall(request, reply)).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let event = tokio::time::timeout(WITHIN, events.recv()).await.expect("an event in time").unwrap();
        let NodeEvent::Call(event) = event else { continue };
        if event.call != started.call {
            continue;
        }
        seen.push(event.clone());
        if let CallStep::Ended { result, .. } = event.step {
            return (seen, result);
        }
    }
}

pub(crate) fn speech() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/speech/alice.wav")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_call_each_other_through_relays() {
    let supernodes = supernodes(31..=35).await;
    let bootstrap = supernodes[0].ready.listen.clone();
    let bob =
        start(Plan { network: 41, bootstrap: &bootstrap, volunteer: false, answer: Answer::Echo }).await;
    let alice =
        start(Plan { network: 42, bootstrap: &bootstrap, volunteer: false, answer: Answer::Ring }).await;
    assert_eq!(alice.ready.homes.len(), 3, "three homes: {:?}", alice.ready);
    let record = alice.folder.path().join("heard.wav");
    let request = CallRequest {
        address: bob.ready.address.clone(),
        play: Some(speech().display().to_string()),
        record: Some(record.display().to_string()),
        for_ms: Some(3_000),
        redundancy: Some(Redundancy::Always),
        ..CallRequest::default()
    };
    let (events, result) = call(&alice, request).await;
    assert!(result.connected, "{result:?} {events:?}");
    assert_eq!(result.path, Some(CallPath::Relayed));
    assert_eq!(result.relays.len(), 2, "{result:?}");
    assert_eq!(result.packets.lost, 0, "{result:?}");
    assert!(result.packets.received > 100, "{result:?}");
    assert!(record.metadata().unwrap().len() > 200_000);
    stop([alice, bob].into_iter().chain(supernodes)).await;
}
