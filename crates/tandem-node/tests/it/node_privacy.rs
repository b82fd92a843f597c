//! What supernodes see of people, captured and read field by field, against the tables of spec/overlay.md ("What a home
//! sees") and spec/relay.md ("What a supernode sees"). What is not in a table fails here.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use prost::Message;
use tandem_api::CallRequest;
use tandem_node::config::Answer;
use tandem_node::handle::Request;
use tandem_proto::grant::GrantTerms;
use tandem_proto::identity::Address;
use tandem_proto::ids::DeviceKey;
use tandem_proto::wire;
use tandem_proto::wire::home_frame::Body;

use crate::node::{Plan, TestNode, call, speaking_to, start, stop};
use crate::recorder::{Recorder, SeenDatagram, SeenFrame};

async fn recorders(networks: std::ops::RangeInclusive<u8>) -> Vec<Recorder> {
    let mut recorders: Vec<Recorder> = Vec::new();
    for network in networks {
        let others: Vec<_> = recorders.iter().map(|recorder| recorder.address.clone()).collect();
        recorders.push(Recorder::start(network, &others).await);
    }
    recorders
}

fn bootstrap(recorders: &[Recorder]) -> Vec<String> {
    recorders.iter().map(|recorder| recorder.bootstrap.clone()).collect()
}

fn account(node: &TestNode) -> [u8; 32] {
    node.ready.address.parse::<Address>().unwrap().0.0
}

fn device(node: &TestNode) -> DeviceKey {
    let data = node.folder.path().join("data");
    tandem_node::keys::open(&data, None, tandem_node::installation::unix_ms()).unwrap().device.public()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn supernodes_of_a_call_see_what_the_tables_say_and_nothing_else() {
    let recorders = recorders(201..=203).await;
    let bootstrap = bootstrap(&recorders);
    let plan = |network, answer| Plan { network, bootstrap: &bootstrap, volunteer: false, answer };
    let bob = start(plan(204, Answer::Echo)).await;
    let alice = start(plan(205, Answer::Ring)).await;
    let (_, result) = call(&alice, CallRequest { for_ms: Some(3_000), ..speaking_to(&bob) }).await;
    assert!(result.connected && result.packets.received > 50, "{result:?}");

    let devices = [device(&alice), device(&bob)];
    let accounts = [account(&alice), account(&bob)];
    let mut tags = BTreeSet::new();
    let mut kinds = BTreeSet::new();
    let mut relays = 0;
    for recorder in &recorders {
        for seen in recorder.frames() {
            if let Some(own) = devices.iter().position(|device| device.0 == seen.peer) {
                check_frame(&seen, accounts[own], accounts[1 - own], &mut tags);
            }
        }
        let datagrams = recorder.datagrams();
        relays += usize::from(!datagrams.is_empty());
        for datagram in &datagrams {
            let kind = check_datagram(datagram, recorder, &devices, &tags);
            kinds.insert(kind);
            for secret in &accounts {
                assert!(!contains(&datagram.data, secret), "an account key at a relay");
            }
        }
    }
    assert_eq!(relays, 2, "the call ran over two relays");
    assert_eq!(tags.len(), 2, "another tag on each relay, the same for both ends");
    for kind in ["request", "probe", "dtls", "rtp"] {
        assert!(kinds.contains(kind), "{kind} was looked at: {kinds:?}");
    }
    stop([alice, bob]).await;
}

/// spec/overlay.md, "What a home sees".
fn check_frame(seen: &SeenFrame, own: [u8; 32], other: [u8; 32], tags: &mut BTreeSet<Vec<u8>>) {
    let Some(body) = &seen.frame.body else { panic!("an empty frame") };
    if !seen.received {
        return;
    }
    match body {
        Body::Hello(hello) => {
            assert!(hello.descriptor.is_none(), "a device describes no supernode");
            assert_eq!(hello.software, tandem_node::software());
        }
        Body::Reserve(reserve) => assert!(reserve.resume_ticket.len() <= 64),
        Body::Heartbeat(wire::Heartbeat { in_call: _ }) => {}
        Body::Publish(publish) => {
            let record = publish.record.as_ref().unwrap();
            let set =
                wire::DeviceSet::decode(record.device_set.as_ref().unwrap().payload.as_slice()).unwrap();
            assert_eq!(set.account, own);
        }
        Body::LookUp(look_up) => {
            assert!(
                look_up.account == other || look_up.account == own,
                "whom it talks to, and its own devices"
            );
        }
        Body::GrantRequest(request) => {
            assert_eq!(request.call_tag.len(), 16);
            tags.insert(request.call_tag.clone());
        }
        Body::SupernodesRequest(request) => {
            assert!(request.near.is_empty() || request.near.len() == 32);
            assert!(request.named.iter().all(|key| key.len() == 32));
        }
        other => panic!("not in the table: {other:?}"),
    }
    if !matches!(body, Body::LookUp(_)) {
        assert!(!contains(&seen.frame.encode_to_vec(), &other), "whom it calls, where that is not asked");
    }
}

/// spec/relay.md, "What a supernode sees". Says what the datagram is.
fn check_datagram(
    seen: &SeenDatagram,
    relay: &Recorder,
    devices: &[DeviceKey; 2],
    tags: &BTreeSet<Vec<u8>>,
) -> &'static str {
    let data = &seen.data;
    match data[0] {
        0..=3 if seen.received => {
            let own =
                if seen.client.ip() == IpAddr::from([127, 205, 0, 1]) { devices[0] } else { devices[1] };
            check_request(data, relay, own, tags)
        }
        0..=3 => "answer",
        0x40..=0x4F => {
            let length = usize::from(u16::from_be_bytes([data[2], data[3]]));
            assert!(data.len() - 4 >= length && data.len() - 4 - length < 4);
            check_peer_data(&data[4..4 + length])
        }
        first => panic!("neither STUN nor ChannelData: {first}"),
    }
}

/// A STUN message to the relay: nothing about the other end but its virtual address.
fn check_request(data: &[u8], relay: &Recorder, own: DeviceKey, tags: &BTreeSet<Vec<u8>>) -> &'static str {
    for (kind, value) in attributes(data) {
        match kind {
            0x0006 => {
                let terms = GrantTerms::parse(std::str::from_utf8(value).unwrap()).unwrap();
                assert_eq!(terms.relay, relay.service);
                assert_eq!(terms.device, own, "whose grant it is, and not the other end's");
                assert!(tags.is_empty() || tags.contains(terms.tag.0.as_slice()));
            }
            0x0012 => {
                assert_eq!(value[1], 1, "virtual addresses are IPv4");
                let ip: [u8; 4] = std::array::from_fn(|at| value[4 + at] ^ data[4 + at]);
                let [first, second, ..] = ip;
                assert!(first == 198 && matches!(second, 18 | 19), "{:?}", IpAddr::from(Ipv4Addr::from(ip)));
            }
            0x8022 => assert!(value.len() < 64, "SOFTWARE"),
            // CHANNEL-NUMBER, LIFETIME, REQUESTED-TRANSPORT, DONT-FRAGMENT, REALM, NONCE, MESSAGE-INTEGRITY(-SHA256), FINGERPRINT
            0x000C | 0x000D | 0x0019 | 0x001A | 0x0014 | 0x0015 | 0x0008 | 0x001C | 0x8028 => {}
            other => panic!("attribute {other:#06x} is not in the table"),
        }
    }
    "request"
}

/// What one end sends the other through the relay.
fn check_peer_data(data: &[u8]) -> &'static str {
    match data[0] {
        0..=3 if data[..2] == [0x00, 0x11] => {
            let kinds: Vec<u16> = attributes(data).into_iter().map(|(kind, _)| kind).collect();
            assert_eq!(kinds, [0xC0DE, 0x001C], "a probe is its own attribute and its integrity");
            "probe"
        }
        0..=3 => {
            for (kind, _) in attributes(data) {
                // USERNAME, PRIORITY, ICE-CONTROLLED, ICE-CONTROLLING, USE-CANDIDATE, XOR-MAPPED-ADDRESS,
                // MESSAGE-INTEGRITY, FINGERPRINT
                let known = [0x0006, 0x0024, 0x8029, 0x802A, 0x0025, 0x0020, 0x0008, 0x8028];
                assert!(known.contains(&kind), "attribute {kind:#06x} of a check is not in the table");
            }
            "check"
        }
        20..=25 => "dtls",
        128..=191 if (192..=223).contains(&data[1]) => "rtcp",
        128..=191 => {
            assert!(matches!(data[0], 0x80 | 0x90), "RTP without contributing sources or padding");
            let empty = data[0] == 0x80 || data[14..16] == [0, 0];
            assert!(empty, "no header extension tells anything, the level of the sound least of all");
            "rtp"
        }
        first => panic!("not in the table: a packet that begins with {first}"),
    }
}

/// Type and value of each attribute of a STUN message (RFC 8489 §14).
fn attributes(message: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    let mut rest = &message[20..];
    while let [a, b, c, d, ..] = *rest {
        let (kind, length) = (u16::from_be_bytes([a, b]), usize::from(u16::from_be_bytes([c, d])));
        found.push((kind, &rest[4..4 + length]));
        rest = &rest[(4 + length.next_multiple_of(4)).min(rest.len())..];
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_a_volunteer_sends_links_the_person_with_the_service() {
    let recorders = recorders(211..=213).await;
    let bootstrap = bootstrap(&recorders);
    let volunteer =
        start(Plan { network: 214, bootstrap: &bootstrap, volunteer: true, answer: Answer::Echo }).await;
    let bob =
        start(Plan { network: 215, bootstrap: &bootstrap, volunteer: false, answer: Answer::Echo }).await;
    let (_, result) = call(&volunteer, CallRequest { for_ms: Some(1_000), ..speaking_to(&bob) }).await;
    assert!(result.connected, "{result:?}");

    let data = volunteer.folder.path().join("data");
    let keys = tandem_node::keys::open(&data, None, tandem_node::installation::unix_ms()).unwrap();
    let (person, service) = (keys.device.public().0, keys.service.public().0);
    // Whom the service shows has its echo's account; whoever publishes that account is the echo's device.
    let sent: Vec<SeenFrame> =
        recorders.iter().flat_map(Recorder::frames).filter(|seen| seen.received).collect();
    let echo = sent
        .iter()
        .filter(|seen| seen.peer == service)
        .find_map(|seen| match &seen.frame.body {
            Some(Body::Hello(wire::HomeHello { descriptor: Some(signed), .. })) => {
                Some(wire::SupernodeDescriptor::decode(signed.payload.as_slice()).unwrap().echo)
            }
            _ => None,
        })
        .expect("the service describes itself");
    assert_eq!(echo.len(), 32);
    assert!(sent.iter().any(|seen| seen.peer == person), "the person's device was there");
    for seen in &sent {
        let bytes = seen.frame.encode_to_vec();
        let names = |key: &[u8]| contains(&bytes, key);
        if seen.peer == person {
            assert!(!names(&service) && !names(&echo), "the device names the service: {:?}", seen.frame);
        } else if seen.peer != device(&bob).0 {
            assert!(!names(&person), "the service or its echo names the device: {:?}", seen.frame);
            let published = matches!(seen.frame.body, Some(Body::LookUp(_)));
            assert!(published || !names(&account(&volunteer)), "or the account: {:?}", seen.frame);
        }
    }
    let identity = volunteer.handle.ask(Request::Identity).await.unwrap();
    assert_ne!(identity.device, identity.service);
    stop([volunteer, bob]).await;
}
