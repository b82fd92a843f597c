//! The directory among 30 real supernodes, and what a hostile one can and cannot do there.

#![expect(clippy::unwrap_used, reason = "a test ends where something it needs is missing")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use libp2p::kad::{self, store::RecordStore};
use prost::Message;
use tandem_node::overlay::{ServiceCommand, ServiceEvent};
use tandem_proto::identity::{AccountSecret, DeviceSecret};
use tandem_proto::ids::AccountKey;
use tandem_proto::record::ReachRecord;
use tandem_proto::signed::{DeviceEntry, DeviceHomes, DeviceSet};
use tandem_proto::wire;

use crate::overlay_crawler::{Claim, Crawler, supernode_at};
use crate::overlay_world::{Service, network, next};

const HOUR_S: u64 = 3600;

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn account() -> AccountSecret {
    AccountSecret::from_seed(&[200; 32])
}

/// A record of one device; `lives_s` from now on, negative for the past.
pub(crate) fn record(epoch: u64, sequence: u64, lives_s: i64) -> ReachRecord {
    let (account, device) = (account(), DeviceSecret::from_seed(&[201; 32]));
    let entry = DeviceEntry { device: device.public(), serial: 1 };
    let set = DeviceSet::issue(&account, epoch, &[entry], now_s() + 24 * HOUR_S).unwrap();
    let not_after = now_s().checked_add_signed(lives_s).unwrap();
    let homes = DeviceHomes::issue(&device, account.public(), sequence, not_after, &[]).unwrap();
    ReachRecord::new(set).with_homes(homes)
}

pub(crate) async fn put(service: &mut Service, value: Vec<u8>) -> u32 {
    let account = account().public();
    service.commands.send(ServiceCommand::Put { request: 3, account, value }).await.unwrap();
    next(&mut service.events, |event| match event {
        ServiceEvent::Stored { request: 3, copies } => Some(copies),
        _ => None,
    })
    .await
}

/// What was found, the reasons of what was refused on the way, and how long the first answer took.
pub(crate) async fn get(
    service: &mut Service,
    account: AccountKey,
) -> (Option<Vec<u8>>, Vec<String>, Duration) {
    let start = Instant::now();
    service.commands.send(ServiceCommand::Get { request: 4, account }).await.unwrap();
    let (mut refused, mut first) = (Vec::new(), None);
    let value = next(&mut service.events, |event| match event {
        ServiceEvent::RecordRefused { reason, .. } => {
            refused.push(reason);
            None
        }
        ServiceEvent::Found { request: 4, value, done, .. } => {
            first.get_or_insert_with(|| start.elapsed());
            done.then_some(value)
        }
        _ => None,
    })
    .await;
    (value, refused, first.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_supernode_of_thirty_finds_a_record_that_five_keep() {
    let mut services: Vec<Service> = (121..151).map(Service::start).collect();
    let first = services[0].address();
    for service in &services[1..] {
        service.commands.send(ServiceCommand::AddToRouting(first.clone())).await.unwrap();
    }
    let wanted = record(1, 1, 3600).encode();
    // The routing tables fill by themselves.
    let start = Instant::now();
    let mut copies = 0;
    while copies < 5 && start.elapsed() < Duration::from_secs(30) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        copies = put(&mut services[29], wanted.clone()).await;
    }
    println!("{copies} copies {:?} after the start", start.elapsed());
    assert!(copies >= 5, "{copies}");

    let account = account().public();
    let mut times = Vec::new();
    for service in &mut services {
        let (found, refused, time) = get(service, account).await;
        assert_eq!((found.as_ref(), refused), (Some(&wanted), vec![]));
        times.push(time);
    }
    times.sort();
    println!("first answer: median {:?}, longest {:?}", times[15], times[29]);

    // Readers take the newer of what they find, and nobody can put the older one back.
    let newer = record(1, 2, 3600).encode();
    assert!(put(&mut services[7], newer.clone()).await >= 4);
    assert_eq!(put(&mut services[7], wanted).await, 0);
    let (found, _, _) = get(&mut services[20], account).await;
    assert_eq!(found, Some(newer));
    let nobody = AccountSecret::from_seed(&[210; 32]).public();
    let (found, _, _) = get(&mut services[3], nobody).await;
    assert_eq!(found, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supernode_alone_keeps_a_record_itself() {
    let mut alone = Service::start(163);
    let wanted = record(1, 1, 3600).encode();
    assert_eq!(put(&mut alone, wanted.clone()).await, 1);
    let (found, refused, _) = get(&mut alone, account().public()).await;
    assert_eq!((found, refused), (Some(wanted), vec![]));
}

fn kad_record(value: Vec<u8>) -> kad::Record {
    kad::Record::new(network().record_key(account().public()), value)
}

/// Records that must never be believed, and a word of why each is refused.
fn bad_records() -> Vec<(Vec<u8>, &'static str)> {
    let mut forged = record(9, 9, 3600).to_wire();
    forged.device_homes[0].signature[5] ^= 1;
    let mut oversized = record(9, 9, 3600).encode();
    // An unknown field of 7000 bytes, so that it is still a record.
    oversized.extend([0x7a, 0xd8, 0x36]);
    oversized.extend(vec![0; 7000]);
    let mut forged_set = record(9, 9, 3600).to_wire();
    forged_set.device_set.as_mut().unwrap().signature[5] ^= 1;
    vec![
        (forged.encode_to_vec(), "signature"),
        (forged_set.encode_to_vec(), "signature"),
        (oversized, "bytes"),
        (record(9, 9, -3 * 3600).encode(), "expired"),
        (record(1, 4, 3600).encode(), "rolled back"),
        (wire::ReachRecord::default().encode_to_vec(), "whose"),
        (vec![0xff; 100], "whose"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_records_are_refused_when_they_are_stored() {
    let mut service = Service::start(161);
    let good = record(1, 5, 3600).encode();
    put(&mut service, good.clone()).await;
    let mut hostile = Crawler::start(162, Claim::True).swarm;
    let account = account().public();
    let victim = supernode_at(&mut hostile, &service);
    tokio::spawn({
        let records: Vec<kad::Record> =
            bad_records().into_iter().map(|(value, _)| kad_record(value)).collect();
        for record in records {
            hostile.behaviour_mut().kad.put_record_to(record, std::iter::once(victim), kad::Quorum::One);
        }
        async move { hostile.for_each(|_| std::future::ready(())).await }
    });
    let mut missing: Vec<&str> = bad_records().into_iter().map(|(_, why)| why).collect();
    while !missing.is_empty() {
        let reason = next(&mut service.events, |event| match event {
            ServiceEvent::RecordRefused { from: Some(_), reason } => Some(reason),
            _ => None,
        })
        .await;
        let at = missing.iter().position(|why| reason.contains(why));
        missing.remove(at.unwrap_or_else(|| panic!("{reason}, and still expected: {missing:?}")));
    }
    let (found, refused, _) = get(&mut service, account).await;
    assert_eq!((found, refused), (Some(good), vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_records_are_refused_when_they_are_read() {
    for (n, (value, why)) in (171..).zip(bad_records()) {
        let mut service = Service::start(n);
        let Crawler { swarm: mut hostile, own: at } = Crawler::start(n + 10, Claim::True);
        supernode_at(&mut hostile, &service);
        hostile.behaviour_mut().kad.store_mut().put(kad_record(value)).ok();
        let key = *hostile.local_peer_id();
        tokio::spawn(hostile.for_each(|_| std::future::ready(())));
        let key = libp2p::identity::PublicKey::try_decode_protobuf(key.as_ref().digest()).unwrap();
        let key = tandem_proto::ids::ServiceKey(key.try_into_ed25519().unwrap().to_bytes());
        let address = tandem_node::overlay::SupernodeAddress { service: key, addresses: vec![at.to_vec()] };
        let account = account().public();
        if why == "rolled back" {
            // The reader has seen a newer one before; then the old one is offered.
            put(&mut service, record(1, 5, 3600).encode()).await;
        }
        service.commands.send(ServiceCommand::AddToRouting(address)).await.unwrap();
        let (found, refused, _) = get(&mut service, account).await;
        if why == "bytes" && refused.is_empty() {
            continue; // kad's own packet limit may end the stream first
        }
        assert!(refused.iter().any(|reason| reason.contains(why)), "{why}: {refused:?}");
        let expected = (why == "rolled back").then(|| record(1, 5, 3600));
        let found = found.map(|value| ReachRecord::decode_verified(&value, account, now_s() * 1000).unwrap());
        let newest = |record: ReachRecord| record.homes()[0].sequence();
        assert_eq!(found.map(newest), expected.map(newest), "{why}");
    }
}
