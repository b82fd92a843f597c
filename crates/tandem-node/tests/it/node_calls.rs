//! Calls of whole nodes: how they begin, how they end, and who may make them.

use std::time::Duration;

use tandem_api::{
    AnswerRequest, CallEvent, CallPath, CallRequest, CallStep, EchoRequest, EndReason, NewContact, NodeEvent,
    Redundancy,
};
use tandem_node::config::Answer;
use tandem_node::handle::Request;
use tandem_node::overlay::{DeviceCommand, DeviceConfig, DeviceEvent, PublicAddresses, spawn_device};
use tandem_proto::identity::{Address, DeviceSecret, Entropy};
use tandem_proto::multiaddr::PeerAddress;
use tandem_proto::names::NetworkId;
use tandem_proto::record::ReachRecord;
use tandem_proto::signed::{DeviceEntry, DeviceSet};
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{HomeFrame, HomeHello, Publish, Reserve};

use crate::node::{Ongoing, Plan, TestNode, call, speaking_to, speech, start, stop, supernodes};

async fn leaf(network: u8, supernodes: &[TestNode], answer: Answer) -> TestNode {
    start(Plan { network, bootstrap: &supernodes[0].ready.listen, volunteer: false, answer }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_echo_service_gives_speech_back() {
    let supernodes = supernodes(45..=47).await;
    let alice = leaf(48, &supernodes, Answer::Ring).await;
    let record = alice.folder.path().join("heard.wav");
    let mut events = alice.handle.events();
    let request = EchoRequest {
        play: Some(speech().display().to_string()),
        record: Some(record.display().to_string()),
        for_ms: Some(4_000),
        ..EchoRequest::default()
    };
    let started = alice.handle.ask(|reply| Request::Echo(request, reply)).await.unwrap();
    let (reason, result) = loop {
        if let NodeEvent::Call(CallEvent { call, step: CallStep::Ended { reason, result }, .. }) =
            events.recv().await.unwrap()
            && call == started.call
        {
            break (reason, result);
        }
    };
    assert_eq!(reason, EndReason::HungUp);
    assert!(result.connected && result.packets.received > 100, "{result:?}");
    let loud = hound::WavReader::open(&record)
        .unwrap()
        .into_samples::<i16>()
        .filter(|sample| sample.as_ref().is_ok_and(|sample| sample.unsigned_abs() > 1_000))
        .count();
    assert!(loud > 1_000, "speech came back: {loud} loud samples");
    stop(supernodes.into_iter().chain([alice])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_call_each_other_at_once_get_one_call() {
    let supernodes = supernodes(49..=51).await;
    let alice = leaf(52, &supernodes, Answer::Ring).await;
    let bob = leaf(53, &supernodes, Answer::Ring).await;
    let (mut at_alice, mut at_bob) =
        tokio::join!(Ongoing::place(&alice, speaking_to(&bob)), Ongoing::place(&bob, speaking_to(&alice)));
    tokio::join!(at_alice.connected(), at_bob.connected());
    for (ongoing, node) in [(&at_alice, &alice), (&at_bob, &bob)] {
        ongoing.stands(node, |call| call.result.packets.received > 50).await;
        let calls = node.handle.ask(|reply| Request::Calls { limit: 20, reply }).await.unwrap();
        assert_eq!(calls.len(), 1, "{calls:?}");
    }
    at_alice.hang_up(&alice).await;
    let ((here, mine), (there, theirs)) = tokio::join!(at_alice.ended(), at_bob.ended());
    assert_eq!((here, there), (EndReason::HungUp, EndReason::RemoteHungUp));
    assert!(mine.connected && theirs.connected, "{mine:?} {theirs:?}");
    stop(supernodes.into_iter().chain([alice, bob])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calling_one_who_rings_answers() {
    let supernodes = supernodes(54..=56).await;
    let alice = leaf(57, &supernodes, Answer::Ring).await;
    let bob = leaf(58, &supernodes, Answer::Ring).await;
    let rings = bob.handle.events();
    let mut at_alice = Ongoing::place(&alice, speaking_to(&bob)).await;
    let rung = Ongoing::incoming(rings).await;
    let mut at_bob = Ongoing::place(&bob, speaking_to(&alice)).await;
    assert_eq!(at_bob.call, rung.call, "no second call");
    tokio::join!(at_alice.connected(), at_bob.connected());
    // Bob is heard: the call took what he wanted to play.
    at_alice.stands(&alice, |call| call.result.packets.received > 50).await;
    at_bob.hang_up(&bob).await;
    let ((there, _), (here, _)) = tokio::join!(at_alice.ended(), at_bob.ended());
    assert_eq!((here, there), (EndReason::HungUp, EndReason::RemoteHungUp));
    stop(supernodes.into_iter().chain([alice, bob])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_declined_hung_up_and_unknown_are_told_apart() {
    let supernodes = supernodes(59..=61).await;
    let alice = leaf(62, &supernodes, Answer::Ring).await;
    let bob = leaf(63, &supernodes, Answer::Ring).await;
    let carol = leaf(64, &supernodes, Answer::Ring).await;

    let rings = bob.handle.events();
    let mut placed = Ongoing::place(&alice, speaking_to(&bob)).await;
    let mut rung = Ongoing::incoming(rings).await;
    let call_id = rung.call.clone();
    bob.handle.ask(|reply| Request::Decline { call: call_id, reply }).await.unwrap();
    let ((reason, result), _) = tokio::join!(placed.ended(), rung.ended());
    assert_eq!((reason, result.connected), (EndReason::Declined, false), "{result:?}");

    let rings = bob.handle.events();
    let mut placed = Ongoing::place(&alice, speaking_to(&bob)).await;
    let mut rung = Ongoing::incoming(rings).await;
    bob.handle
        .ask(|reply| Request::Answer { call: String::new(), answer: AnswerRequest::default(), reply })
        .await
        .unwrap();
    tokio::join!(placed.connected(), rung.connected());
    let (_, busy) = call(&carol, speaking_to(&alice)).await;
    assert!(!busy.connected, "{busy:?}");
    let ended = carol.handle.ask(|reply| Request::Calls { limit: 1, reply }).await.unwrap();
    assert_eq!(ended[0].reason, Some(EndReason::Busy), "{ended:?}");
    rung.hang_up(&bob).await;
    let ((there, _), (here, _)) = tokio::join!(placed.ended(), rung.ended());
    assert_eq!((here, there), (EndReason::HungUp, EndReason::RemoteHungUp));

    let nobody = Address(Entropy::new([64; 32]).account_secret().public()).to_string();
    let (_, unknown) = call(&alice, CallRequest { address: nobody, ..CallRequest::default() }).await;
    assert!(!unknown.connected, "{unknown:?}");
    let ended = alice.handle.ask(|reply| Request::Calls { limit: 1, reply }).await.unwrap();
    assert_eq!(ended[0].reason, Some(EndReason::NotFound), "{ended:?}");
    stop(supernodes.into_iter().chain([alice, bob, carol])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contacts_talk_directly_and_strangers_never_do() {
    let supernodes = supernodes(65..=67).await;
    let bob = leaf(68, &supernodes, Answer::Echo).await;
    let alice = leaf(69, &supernodes, Answer::Ring).await;
    let request = || CallRequest { for_ms: Some(2_000), ..speaking_to(&bob) };
    let (_, stranger) = call(&alice, request()).await;
    assert_eq!(stranger.path, Some(CallPath::Relayed), "{stranger:?}");
    for (node, other) in [(&alice, &bob), (&bob, &alice)] {
        let new = NewContact {
            address: other.ready.address.clone(),
            name: "other".to_owned(),
            note: String::new(),
        };
        node.handle.ask(|reply| Request::AddContact(new, reply)).await.unwrap();
    }
    let (_, relayed) = call(&alice, CallRequest { relay_only: true, ..request() }).await;
    assert_eq!(relayed.path, Some(CallPath::Relayed), "{relayed:?}");
    let mut ongoing = Ongoing::place(&alice, CallRequest { for_ms: None, ..request() }).await;
    ongoing.connected().await;
    ongoing.stands(&alice, |call| call.result.path == Some(CallPath::Direct)).await;
    ongoing.hang_up(&alice).await;
    let (_, direct) = ongoing.ended().await;
    assert_eq!(direct.path, Some(CallPath::Direct), "{direct:?}");
    stop(supernodes.into_iter().chain([alice, bob])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_device_neither_calls_nor_is_called() {
    let supernodes = supernodes(70..=72).await;
    let alice = leaf(73, &supernodes, Answer::Echo).await;
    let bob = leaf(74, &supernodes, Answer::Echo).await;
    let short = |to: &TestNode| CallRequest { for_ms: Some(500), ..speaking_to(to) };
    let (_, before) = call(&alice, short(&bob)).await;
    assert!(before.connected, "{before:?}");

    revoke(&bob, &supernodes[1], 75).await;
    let (_, called) = call(&alice, short(&bob)).await;
    assert!(!called.connected, "{called:?}");
    // Its homes told it, so it does not even try.
    let refused = bob.handle.ask(|reply| Request::PlaceCall(short(&alice), reply)).await.unwrap_err();
    assert_eq!(refused.code, "T1707");
    stop(supernodes.into_iter().chain([alice, bob])).await;
}

/// The owner of this account publishes, from another device, a newer device set without this node's.
async fn revoke(node: &TestNode, home: &TestNode, network: u8) {
    let data = node.folder.path().join("data");
    let keys = tandem_node::keys::open(&data, None, tandem_node::installation::unix_ms()).unwrap();
    let account = keys.entropy.as_ref().unwrap().account_secret();
    let device = DeviceSecret::from_seed(&[network; 32]);
    let entry = DeviceEntry { device: device.public(), serial: 1_000 };
    let not_after_s = keys.device_set.not_after_s();
    let set = DeviceSet::issue(&account, keys.device_set.epoch() + 1, &[entry], not_after_s).unwrap();
    let record = ReachRecord::new(set).to_wire();

    let public = PublicAddresses::with_ranges(&["127.0.0.0/8"]).unwrap();
    let mut config = DeviceConfig::new(device, NetworkId::default(), public);
    config.bind = Some(std::net::Ipv4Addr::new(127, network, 0, 1).into());
    let (commands, mut events) = spawn_device(config).unwrap();
    let at: PeerAddress = home.ready.listen[0].parse().unwrap();
    let address = tandem_node::overlay::SupernodeAddress {
        service: at.service,
        addresses: vec![at.address.to_bytes()],
    };
    commands.send(DeviceCommand::OpenHome(address)).await.unwrap();
    let say =
        |id, body| DeviceCommand::SendHome { service: at.service, frame: HomeFrame { id, body: Some(body) } };
    let published = async {
        while let Some(event) = events.recv().await {
            match event {
                DeviceEvent::HomeOpened { .. } => {
                    let hello = HomeHello { version_min: 1, version_max: 1, ..HomeHello::default() };
                    commands.send(say(0, Body::Hello(hello))).await.unwrap();
                    commands.send(say(1, Body::Reserve(Reserve::default()))).await.unwrap();
                    let publish = Publish { record: Some(record.clone()) };
                    commands.send(say(2, Body::Publish(publish))).await.unwrap();
                }
                DeviceEvent::HomeFrame { frame: HomeFrame { id: 2, body: Some(body) }, .. } => return body,
                DeviceEvent::HomeClosed { reason, .. } => panic!("{reason}"),
                _ => {}
            }
        }
        panic!("the swarm ended");
    };
    let answer = tokio::time::timeout(Duration::from_secs(30), published).await.expect("an answer in time");
    assert!(matches!(answer, Body::Published(_)), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redundancy_off_still_connects() {
    let supernodes = supernodes(76..=78).await;
    let bob = leaf(79, &supernodes, Answer::Echo).await;
    let alice = leaf(80, &supernodes, Answer::Ring).await;
    let request = CallRequest { for_ms: Some(1_500), redundancy: Some(Redundancy::Off), ..speaking_to(&bob) };
    let (_, result) = call(&alice, request).await;
    assert!(result.connected && result.packets.received > 30, "{result:?}");
    stop(supernodes.into_iter().chain([alice, bob])).await;
}
