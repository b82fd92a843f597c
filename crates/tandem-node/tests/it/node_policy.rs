//! An organisation's policy on whole nodes: what it forbids does not happen, and each test fails where it is not asked.

use std::sync::Arc;

use tandem_api::{
    CallPath, CallRequest, CapsChange, ConnectionRole, NewConsent, NewContact, NewInvitation, ServingState,
    VolunteerRole, VolunteerView,
};
use tandem_node::config::{Answer, Config};
use tandem_node::handle::{Reply, Request, StrangerRequest, VolunteerRequest};
use tandem_node::overlay::{DeviceCommand, DeviceEvent, ServiceCommand, ServiceEvent};
use tandem_node::policy::{Policy, Warden, parse};
use tempfile::TempDir;

use crate::node::{
    Ongoing, Plan, TestNode, call, node_config, speaking_to, start, start_with, stop, supernodes,
};
use crate::overlay_world::{Device, Service, next};

fn policy(text: &str) -> Arc<Policy> {
    Arc::new(parse(text).unwrap())
}

fn warden(text: &str) -> Warden {
    Warden::new(policy(text))
}

/// A leaf under a policy.
async fn leaf(network: u8, supernodes: &[TestNode], text: &str) -> TestNode {
    let bootstrap: Vec<String> = supernodes.iter().flat_map(|node| node.ready.listen.clone()).collect();
    let plan = Plan { network, bootstrap: &bootstrap, volunteer: false, answer: Answer::Ring };
    started(plan, |config| config.policy = policy(text)).await
}

async fn started(plan: Plan<'_>, change: impl FnOnce(&mut Config)) -> TestNode {
    let folder = tempfile::tempdir().unwrap();
    let mut node = node_config(&folder, plan);
    change(&mut node.config);
    start_with(folder, node).await
}

/// The service id in what a supernode prints.
fn id(node: &TestNode) -> String {
    node.ready.listen[0].rsplit('/').next().unwrap().to_owned()
}

/// Who the node is connected to that is a supernode.
async fn supernodes_of(node: &TestNode) -> Vec<String> {
    let views = node.handle.ask(Request::Connections).await.unwrap();
    let others = [ConnectionRole::Signal, ConnectionRole::Direct];
    views.into_iter().filter(|view| !others.contains(&view.role)).map(|view| view.peer).collect()
}

/// Whether a supernode has anything to do with this address of the tests' loopback.
async fn serves(supernode: &TestNode, network: u8) -> bool {
    let views = supernode.handle.ask(Request::Connections).await.unwrap();
    views.iter().any(|view| view.remote.contains(&format!("127.{network}.0.1")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forbidden_supernodes_are_neither_homes_nor_relays_nor_in_a_draw() {
    let all = supernodes(231..=235).await;
    let (by_id, by_network) = (&all[0], &all[1]);
    let text =
        format!("[supernodes]\nforbid_ids = [\"{}\"]\nforbid_networks = [\"127.232.0.0/16\"]\n", id(by_id));
    let alice = leaf(236, &all, &text).await;
    let bootstrap = all[0].ready.listen.clone();
    // Bob allows everybody, so the two that Alice may not use are in what he names for the draw.
    let bob =
        start(Plan { network: 237, bootstrap: &bootstrap, volunteer: false, answer: Answer::Echo }).await;
    let request = CallRequest { for_ms: Some(2_000), ..speaking_to(&bob) };
    let (events, result) = call(&alice, request).await;
    assert!(result.connected, "{result:?} {events:?}");
    let forbidden = [id(by_id), id(by_network)];
    assert!(result.relays.iter().all(|relay| !forbidden.contains(relay)), "{result:?}");
    assert_eq!(supernodes_of(&alice).await.len(), 3, "the three that are left");
    assert!(supernodes_of(&alice).await.iter().all(|peer| !forbidden.contains(peer)));
    for supernode in [by_id, by_network] {
        assert!(!serves(supernode, 236).await, "nothing came from Alice");
    }
    stop(all.into_iter().chain([alice, bob])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_relays_are_all_forbidden_uses_none_and_says_why() {
    let all = supernodes(238..=240).await;
    // A home that relays nothing is all that Alice may use.
    let bootstrap = all[0].ready.listen.clone();
    let plan = Plan { network: 241, bootstrap: &bootstrap, volunteer: true, answer: Answer::Ring };
    let home = started(plan, |config| config.volunteer.relay = false).await;
    let alice =
        leaf(242, std::slice::from_ref(&home), &format!("[supernodes]\nonly_ids = [\"{}\"]\n", id(&home)))
            .await;
    let bob =
        start(Plan { network: 243, bootstrap: &bootstrap, volunteer: false, answer: Answer::Echo }).await;
    let mut ongoing = Ongoing::place(&alice, speaking_to(&bob)).await;
    // It would end by itself after a minute without sound; what stands in the way is told at once.
    let why = || {
        let call = ongoing.call.clone();
        alice.handle.ask(|reply| Request::Why { call, reply })
    };
    let mut told = String::new();
    for _ in 0..300 {
        told = serde_json::to_string(&why().await.unwrap()).unwrap();
        if told.contains("supernodes.only_ids") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(told.contains("supernodes.only_ids"), "{told}");
    ongoing.hang_up(&alice).await;
    let (_, result) = ongoing.ended().await;
    assert!(!result.connected && result.packets.received == 0 && result.relays.is_empty(), "{result:?}");
    for supernode in &all {
        assert!(!serves(supernode, 242).await, "nothing came from Alice");
    }
    stop(all.into_iter().chain([home, alice, bob])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sound_goes_to_the_ports_that_are_allowed_only() {
    let all = supernodes(244..=246).await;
    // The overlay's ports, and not those of the relays over UDP, one above.
    let port = |node: &TestNode| node.ready.listen[0].split('/').nth(4).unwrap().to_owned();
    let ports: Vec<String> = all.iter().map(port).collect();
    let alice = leaf(247, &all, &format!("[ports]\noutgoing = {ports:?}\n")).await;
    let bootstrap = all[0].ready.listen.clone();
    let bob =
        start(Plan { network: 248, bootstrap: &bootstrap, volunteer: false, answer: Answer::Echo }).await;
    let mut ongoing = Ongoing::place(&alice, speaking_to(&bob)).await;
    ongoing.connected().await;
    ongoing.stands(&alice, |call| call.result.packets.received > 50).await;
    let views = alice.handle.ask(Request::Connections).await.unwrap();
    let relays: Vec<_> = views.iter().filter(|view| view.role == ConnectionRole::Relay).collect();
    assert!(!relays.is_empty(), "{views:#?}");
    assert!(relays.iter().all(|view| view.transport == "tcp"), "{relays:#?}");
    ongoing.hang_up(&alice).await;
    stop(all.into_iter().chain([alice, bob])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_only_holds_among_contacts_who_asked_for_nothing() {
    let all = supernodes(249..=251).await;
    let alice = leaf(252, &all, "[calls]\nrelay_only = true\n").await;
    let bootstrap = all[0].ready.listen.clone();
    let bob =
        start(Plan { network: 253, bootstrap: &bootstrap, volunteer: false, answer: Answer::Echo }).await;
    for (mine, theirs) in [(&alice, &bob), (&bob, &alice)] {
        let new = NewContact {
            address: theirs.ready.address.clone(),
            name: "Other".to_owned(),
            note: String::new(),
        };
        mine.handle.ask(|reply| Request::AddContact(new, reply)).await.unwrap();
    }
    let (_, result) = call(&alice, CallRequest { for_ms: Some(2_000), ..speaking_to(&bob) }).await;
    assert_eq!((result.connected, result.path), (true, Some(CallPath::Relayed)), "{result:?}");
    stop(all.into_iter().chain([alice, bob])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_allowed_is_refused_with_the_problem_of_the_policy() {
    let plan = Plan { network: 230, bootstrap: &[], volunteer: true, answer: Answer::Ring };
    let text = "[serving]\nroles = []\n[calls]\nrecording = false\ninvitations = false\nstrangers = \"refuse\"\n\
                [supernodes]\nonly_ids = []\n";
    let folder = tempfile::tempdir().unwrap();
    let mut config = node_config(&folder, plan);
    config.config.policy = policy(text);
    let listen = config.config.listen[0];
    let running = tandem_node::start(config).await.unwrap();
    let handle = running.handle();
    let view = handle.ask(|reply| Request::Volunteer(VolunteerRequest::View(reply))).await.unwrap();
    assert_eq!(view.state, ServingState::Off, "the settings asked to serve: {view:?}");
    assert!(std::net::TcpListener::bind(listen).is_ok(), "nobody listens there");
    let record = folder.path().join("heard.wav");
    let request = CallRequest {
        address: "tandem:".into(),
        record: Some(record.display().to_string()),
        ..CallRequest::default()
    };
    let address = handle.ask(Request::Identity).await.unwrap().address;
    let problem =
        handle.ask(|reply| Request::PlaceCall(CallRequest { address, ..request }, reply)).await.unwrap_err();
    assert_eq!(problem.code, "T2004", "{problem}");
    assert!(!record.exists());
    let invite = |reply| Request::Strangers(StrangerRequest::Invite(NewInvitation::default(), reply));
    assert_eq!(handle.ask(invite).await.unwrap_err().code, "T2004");
    running.shutdown(std::time::Duration::ZERO).await;
}

#[tokio::test]
async fn no_swarm_dials_what_is_forbidden_whoever_asks() {
    let mut other = Service::start(226);
    let forbidden = format!("[supernodes]\nforbid_ids = [\"{}\"]\n", other.key);
    let mut device =
        Device::start_with(227, |config| config.public = config.public.clone().under(warden(&forbidden)));
    device.send(DeviceCommand::OpenHome(other.address())).await;
    let reason = next(&mut device.events, |event| match event {
        DeviceEvent::HomeClosed { reason, .. } => Some(reason),
        DeviceEvent::HomeOpened { .. } => panic!("a home that is forbidden"),
        _ => None,
    })
    .await;
    assert!(reason.contains("supernodes.forbid_ids"), "{reason}");
    // A circuit through it.
    let target = Device::start(228);
    let routes = vec![other.address()];
    device
        .send(DeviceCommand::OpenSignal { request: 1, device: target.key, routes, race_after_ms: 300 })
        .await;
    let reason = next(&mut device.events, |event| match event {
        DeviceEvent::SignalFailed { reason, .. } => Some(reason),
        _ => None,
    })
    .await;
    assert!(reason.contains("supernodes.forbid_ids"), "{reason}");

    // A supernode under the policy: it neither connects nor lets the other connect.
    let mut strict =
        Service::start_with(229, |config| config.public = config.public.clone().under(warden(&forbidden)));
    strict.commands.send(ServiceCommand::Connect(other.address())).await.unwrap();
    let reason = next(&mut strict.events, |event| match event {
        ServiceEvent::ConnectFailed { reason, .. } => Some(reason),
        ServiceEvent::ClientOpened { .. } => panic!("a supernode that is forbidden"),
        _ => None,
    })
    .await;
    assert!(reason.contains("supernodes.forbid_ids"), "{reason}");
    other.commands.send(ServiceCommand::Connect(strict.address())).await.unwrap();
    let mut opened = None;
    next(&mut other.events, |event| match event {
        ServiceEvent::ClientOpened { client, .. } => {
            opened = Some(client);
            None
        }
        ServiceEvent::ClientClosed { client, .. } if Some(client) == opened => Some(()),
        ServiceEvent::ConnectFailed { .. } => Some(()),
        _ => None,
    })
    .await;
}

/// Every line of a log, held against the schema of docs/POLICY.md.
fn audited(path: &std::path::Path) -> Vec<serde_json::Value> {
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/POLICY.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let fields_of = |event: &str| -> Vec<String> {
        let row = manual.lines().find(|line| line.starts_with(&format!("| `{event}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/POLICY.md has no event {event}"));
        let cell = row.split('|').nth(3).unwrap();
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let object = value.as_object().unwrap();
        assert_eq!((&object["v"], &object["seq"]), (&1.into(), &number.into()), "{line}");
        assert!(object["unix_ms"].as_u64().is_some() && object["run"].is_string(), "{line}");
        let mut expected = fields_of(object["event"].as_str().unwrap());
        expected.extend(["v", "run", "seq", "unix_ms", "event"].map(str::to_owned));
        expected.sort();
        let mut found: Vec<String> = object.keys().cloned().collect();
        found.sort();
        assert_eq!(found, expected, "{line}");
        lines.push(value);
    }
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_stands_in_the_audit_log_from_start_to_stop() {
    let all = supernodes(192..=194).await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit.jsonl");
    let text = format!(
        "[audit]\npath = \"{}\"\nrequired = true\n[calls]\nrecording = false\n[supernodes]\nforbid_ids = [\"{}\"]\n",
        log.display(),
        id(&all[2])
    );
    let alice = leaf(195, &all, &text).await;
    let bootstrap = all[0].ready.listen.clone();
    let bob =
        start(Plan { network: 196, bootstrap: &bootstrap, volunteer: false, answer: Answer::Echo }).await;
    let (_, result) = call(&alice, CallRequest { for_ms: Some(2_000), ..speaking_to(&bob) }).await;
    assert!(result.connected, "{result:?}");
    let record = Some(folder.path().join("x.wav").display().to_string());
    let refused = CallRequest { record, ..speaking_to(&bob) };
    alice.handle.ask(|reply| Request::PlaceCall(refused, reply)).await.unwrap_err();
    let address = bob.ready.address.clone();
    stop(all.into_iter().chain([alice, bob])).await;

    let lines = audited(&log);
    let of = |event: &str| lines.iter().filter(|line| line["event"] == event).collect::<Vec<_>>();
    assert_eq!(lines.first().unwrap()["event"], "start");
    assert_eq!(lines.last().unwrap()["event"], "stop");
    assert_eq!(of("call_begun")[0]["account"], address.as_str());
    assert_eq!(of("call_ended")[0]["connected"], true);
    assert_eq!(of("refused").iter().filter(|line| line["key"] == "calls.recording").count(), 1, "{lines:#?}");
    let (opened, closed) = (of("connection_opened"), of("connection_closed"));
    assert_eq!(opened.len(), closed.len(), "what was opened was closed: {lines:#?}");
    for purpose in ["supernode", "signalling", "relay"] {
        assert!(opened.iter().any(|line| line["purpose"] == purpose), "{purpose}: {lines:#?}");
    }
    let carried = |line: &&&serde_json::Value| line["bytes_in"].as_u64().unwrap() > 1_000;
    assert!(closed.iter().filter(carried).any(|line| line["purpose"] == "relay"), "{closed:#?}");
    let all = std::fs::read_to_string(&log).unwrap();
    assert!(!all.contains("alice.wav"), "nothing of what was played");
}

type Word = fn(Reply<VolunteerView>) -> VolunteerRequest;

/// A run of a node in which its owner says this: what the log has of consent, each as change, terms, roles and cap.
async fn said(folder: &TempDir, terms: u32, words: &[Word]) -> Vec<serde_json::Value> {
    let log = folder.path().join("audit.jsonl");
    let plan = Plan { network: 198, bootstrap: &[], volunteer: false, answer: Answer::Ring };
    let mut node = node_config(folder, plan);
    node.config.policy = policy(&format!("[audit]\npath = \"{}\"\nrequired = true\n", log.display()));
    node.terms = terms;
    let running = tandem_node::start(node).await.unwrap();
    for word in words {
        running.handle().ask(|reply| Request::Volunteer(word(reply))).await.unwrap();
    }
    running.shutdown(std::time::Duration::ZERO).await;
    let lines = audited(&log);
    std::fs::remove_file(log).unwrap();
    let consents = lines.into_iter().filter(|line| line["event"] == "consent");
    consents
        .map(|line| {
            serde_json::json!([line["change"], line["terms"], line["roles"], line["caps"]["devices"]])
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_owner_agrees_to_stands_in_the_audit_log() {
    let folder = tempfile::tempdir().unwrap();
    let agree: Word = |reply| {
        let roles = vec![VolunteerRole::Directory];
        VolunteerRequest::Accept(NewConsent { terms: 1, roles }, reply)
    };
    let cap: Word =
        |reply| VolunteerRequest::SetCaps(CapsChange { devices: Some(7), ..CapsChange::default() }, reply);
    let before = tandem_node::config::Caps::default().devices;
    let roles = ["directory"];
    assert_eq!(
        serde_json::Value::from(said(&folder, 1, &[agree, cap]).await),
        serde_json::json!([["accepted", 1, roles, before], ["caps", 1, roles, 7]])
    );
    assert_eq!(
        serde_json::Value::from(said(&folder, 2, &[]).await),
        serde_json::json!([["suspended", 1, roles, 7]]),
        "new terms"
    );
    assert_eq!(
        serde_json::Value::from(said(&folder, 1, &[VolunteerRequest::Withdraw]).await),
        serde_json::json!([["held", 1, roles, 7], ["withdrawn", null, [], 7]])
    );
    assert!(said(&folder, 1, &[]).await.is_empty(), "nothing holds any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_log_that_is_required_no_node_starts() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("missing").join("audit.jsonl");
    let plan = || Plan { network: 197, bootstrap: &[], volunteer: false, answer: Answer::Ring };
    let with = |required: bool| {
        let mut node = node_config(&folder, plan());
        node.config.policy =
            policy(&format!("[audit]\npath = \"{}\"\nrequired = {required}\n", log.display()));
        node
    };
    let error = tandem_node::start(with(true)).await.unwrap_err();
    assert_eq!(error.problem().code, "T2005", "{error}");
    let running = tandem_node::start(with(false)).await.unwrap();
    let status = running.handle().ask(Request::Status).await.unwrap();
    assert!(status.problems.iter().any(|problem| problem.code == "T2007"), "{status:?}");
    running.shutdown(std::time::Duration::ZERO).await;
}
