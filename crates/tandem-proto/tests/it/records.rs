//! Signed messages and reach records: limits, time, merging, rollback.

use proptest::prelude::*;
use prost::Message;
use tandem_proto::ids::DeviceKey;
use tandem_proto::record::{
    DropReason, OtherAccount, RECORD_BYTES_MAX, ReachRecord, RecordError, Rollback, Seen, next_sequence,
};
use tandem_proto::signed::{
    CLOCK_SKEW_MS, DeviceCertificate, DeviceEntry, DeviceHomes, DeviceSet, Home, Invitation, NewCertificate,
    NewDescriptor, SignedError, SupernodeDescriptor, sign,
};
use tandem_proto::wire;

use crate::samples::{NOW_MS, NOW_S, account, binary, device, device_set, homes, quic_address, service};

const DAY_S: u64 = 86_400;

fn entry(number: u8) -> DeviceEntry {
    DeviceEntry { device: device(number).public(), serial: u64::from(number) }
}

fn set(epoch: u64, devices: &[u8]) -> DeviceSet {
    let devices: Vec<DeviceEntry> = devices.iter().map(|number| entry(*number)).collect();
    DeviceSet::issue(&account(), epoch, &devices, NOW_S + DAY_S).expect("a good set")
}

fn homes_with(number: u8, sequence: u64, not_after_s: u64) -> DeviceHomes {
    let home = Home { service: service(number).public(), addresses: vec![quic_address(number)] };
    DeviceHomes::issue(&device(number), account().public(), sequence, not_after_s, &[home])
        .expect("good homes")
}

fn decode(record: &ReachRecord, unix_ms: u64) -> Result<ReachRecord, RecordError> {
    ReachRecord::decode_verified(&record.encode(), account().public(), unix_ms)
}

#[test]
fn a_record_comes_back() {
    let record = ReachRecord::new(device_set()).with_homes(homes(2)).with_homes(homes(1));
    assert_eq!(decode(&record, NOW_MS), Ok(record.clone()));
    assert_eq!(record.homes().len(), 2);
    assert!(record.homes_of(device(1).public()).is_some());
    let other = tandem_proto::ids::AccountKey([1; 32]);
    let refused = ReachRecord::decode_verified(&record.encode(), other, NOW_MS);
    assert_eq!(refused, Err(RecordError::DeviceSet(SignedError::OtherAccount)));
}

#[test]
fn a_forged_record_is_refused() {
    let mut message = ReachRecord::new(device_set()).with_homes(homes(1)).to_wire();
    message.device_homes[0].signature[3] ^= 1;
    let refused = ReachRecord::decode_verified(&message.encode_to_vec(), account().public(), NOW_MS);
    assert_eq!(refused, Err(RecordError::DeviceHomes { index: 0, error: SignedError::BadSignature }));
    message.device_set.as_mut().unwrap().signature[3] ^= 1;
    let refused = ReachRecord::decode_verified(&message.encode_to_vec(), account().public(), NOW_MS);
    assert_eq!(refused, Err(RecordError::DeviceSet(SignedError::BadSignature)));
}

#[test]
fn an_expired_entry_is_dropped_and_an_expired_record_refused() {
    let early = homes_with(1, 1, NOW_S + 60);
    let late = homes_with(2, 1, NOW_S + 7200);
    let both = ReachRecord::new(set(1, &[1, 2])).with_homes(early.clone()).with_homes(late);
    let then = NOW_MS + 3_600_000;
    let mut dropped = Vec::new();
    let account_key = account().public();
    let read = ReachRecord::decode_verified_noting(&both.encode(), account_key, then, &mut dropped).unwrap();
    assert_eq!(read.homes().len(), 1);
    assert_eq!(dropped[0].device, device(1).public());
    assert_eq!(dropped[0].reason, DropReason::Expired { by_ms: 3_540_000 });
    let alone = ReachRecord::new(set(1, &[1, 2])).with_homes(early);
    assert_eq!(decode(&alone, then), Err(RecordError::Expired { by_ms: 3_540_000 }));
}

#[test]
fn a_revoked_device_is_dropped() {
    let message = wire::ReachRecord {
        device_set: Some(set(2, &[2]).signed().clone()),
        device_homes: vec![homes(1).signed().clone(), homes(2).signed().clone()],
    };
    let mut dropped = Vec::new();
    let record = ReachRecord::verify(&message, account().public(), NOW_MS, &mut dropped).unwrap();
    assert_eq!(record.homes().len(), 1);
    assert_eq!((dropped[0].device, dropped[0].reason), (device(1).public(), DropReason::Revoked));
}

#[test]
fn the_largest_record_fits_and_a_larger_one_is_refused() {
    let devices: Vec<u8> = (1..=8).collect();
    let entries: Vec<DeviceEntry> =
        devices.iter().map(|n| DeviceEntry { serial: u64::MAX - u64::from(*n), ..entry(*n) }).collect();
    let set = DeviceSet::issue(&account(), (1 << 53) - 1, &entries, NOW_S + DAY_S).unwrap();
    let largest = |number: u8, fill: usize| {
        let home = |n, bytes: usize| Home {
            service: service(n).public(),
            addresses: vec![vec![4; 64], vec![4; bytes]],
        };
        let all = [home(1, 64), home(2, 64), home(3, fill)];
        DeviceHomes::issue(&device(number), account().public(), (1 << 53) - 1, NOW_S + DAY_S, &all)
    };
    let fill = (1..=64).rev().find(|fill| largest(1, *fill).is_ok()).unwrap();
    let record = devices.iter().fold(ReachRecord::new(set), |r, n| r.with_homes(largest(*n, fill).unwrap()));
    assert_eq!(record.homes().len(), 8);
    assert!(record.encode().len() <= RECORD_BYTES_MAX, "{}", record.encode().len());
    assert_eq!(decode(&record, NOW_MS), Ok(record.clone()));
    let mut padded = record.encode();
    padded.resize(RECORD_BYTES_MAX + 1, 0);
    let refused = ReachRecord::decode_verified(&padded, account().public(), NOW_MS);
    assert_eq!(refused, Err(RecordError::TooLarge { bytes: RECORD_BYTES_MAX + 1 }));
}

#[test]
fn limits_of_the_parts() {
    let nine: Vec<DeviceEntry> = (1..=9).map(entry).collect();
    let end = NOW_S + DAY_S;
    let refused = DeviceSet::issue(&account(), 1, &nine, end).unwrap_err();
    assert_eq!(refused, SignedError::TooManyDevices { count: 9 });
    let twice = DeviceSet::issue(&account(), 1, &[entry(1), entry(1)], end).unwrap_err();
    assert_eq!(twice, SignedError::DuplicateDevice);
    let high = DeviceSet::issue(&account(), 1 << 53, &[entry(1)], end).unwrap_err();
    assert_eq!(high, SignedError::CounterTooHigh { field: "epoch" });
    let home = |n: u8, addresses| Home { service: service(n).public(), addresses };
    let issue =
        |homes: &[Home]| DeviceHomes::issue(&device(1), account().public(), 1, end, homes).unwrap_err();
    let four: Vec<Home> = (1..=4).map(|n| home(n, Vec::new())).collect();
    assert_eq!(issue(&four), SignedError::TooManyHomes { count: 4 });
    assert_eq!(issue(&[four[0].clone(), four[0].clone()]), SignedError::DuplicateHome);
    let nine = vec![quic_address(1); 9];
    assert_eq!(issue(&[home(1, nine)]), SignedError::TooManyAddresses { count: 9 });
    let long = SignedError::WrongLength { field: "addresses", bytes: 65 };
    assert_eq!(issue(&[home(1, vec![vec![4; 65]])]), long);
}

#[test]
fn descriptors_are_checked() {
    let new = |load_percent, software: &str| NewDescriptor {
        sequence: NOW_MS,
        not_after_s: NOW_S + DAY_S,
        addresses: vec![binary("/ip4/127.1.0.1/tcp/4001"), vec![0xff, 0x01]],
        load_percent,
        software: software.to_owned(),
        ..NewDescriptor::default()
    };
    let good = SupernodeDescriptor::issue(&service(1), new(47, "tandem 0.1.0")).unwrap();
    assert_eq!(good.load_percent(), 50, "coarse");
    assert_eq!((good.addresses().len(), good.known_addresses().count()), (2, 1), "unknown forms are kept");
    let read = SupernodeDescriptor::verify(good.signed(), NOW_MS).unwrap();
    assert_eq!(read, good);
    let refused = SupernodeDescriptor::issue(&service(1), new(200, "")).unwrap_err();
    assert_eq!(refused, SignedError::LoadOutOfRange { percent: 200 });
    let refused = SupernodeDescriptor::issue(&service(1), new(0, &"x".repeat(65))).unwrap_err();
    assert_eq!(refused, SignedError::WrongLength { field: "software", bytes: 65 });
}

#[test]
fn time_is_checked_with_tolerance() {
    let issue = |not_before_s, not_after_s| {
        let device = device(1).public();
        let new = NewCertificate { device, serial: 1, not_before_s, not_after_s, label: String::new() };
        DeviceCertificate::issue(&account(), new).unwrap()
    };
    let verify = |certificate: &DeviceCertificate, unix_ms| {
        DeviceCertificate::verify(certificate.signed(), device(1).public(), unix_ms).map(|_| ())
    };
    let certificate = issue(NOW_S, NOW_S + 100);
    assert_eq!(verify(&certificate, NOW_MS - CLOCK_SKEW_MS), Ok(()));
    assert_eq!(verify(&certificate, NOW_MS + 100_000 + CLOCK_SKEW_MS), Ok(()));
    let early = verify(&certificate, NOW_MS - CLOCK_SKEW_MS - 1);
    assert_eq!(early, Err(SignedError::NotYetValid { in_ms: CLOCK_SKEW_MS + 1 }));
    let late = verify(&certificate, NOW_MS + 100_000 + CLOCK_SKEW_MS + 1);
    assert_eq!(late, Err(SignedError::Expired { by_ms: CLOCK_SKEW_MS + 1 }));
    let long = verify(&issue(NOW_S, NOW_S + 401 * DAY_S), NOW_MS);
    assert_eq!(long, Err(SignedError::LivesTooLong { by_s: DAY_S - 600 }));
    assert!(verify(&issue(0, u64::MAX), NOW_MS).is_err(), "extreme times do not overflow");
    assert!(verify(&issue(u64::MAX, u64::MAX), NOW_MS).is_err());
    assert!(verify(&certificate, u64::MAX).is_err());
    let other = DeviceCertificate::verify(certificate.signed(), device(2).public(), NOW_MS);
    assert_eq!(other, Err(SignedError::OtherDevice));
}

#[test]
fn a_certificate_counts_only_with_the_serial_of_the_set() {
    let certificate = |serial| {
        let device = device(1).public();
        let new =
            NewCertificate { device, serial, not_before_s: 0, not_after_s: NOW_S + 60, label: String::new() };
        DeviceCertificate::issue(&account(), new).unwrap()
    };
    assert!(device_set().admits(&certificate(1)));
    assert!(!device_set().admits(&certificate(9)));
    assert!(!set(4, &[2]).admits(&certificate(1)));
}

#[test]
fn a_rollback_is_seen() {
    let newer = ReachRecord::new(set(2, &[1])).with_homes(homes_with(1, 20, NOW_S + 60));
    let mut seen = Seen::default();
    assert!(!newer.is_older_than(&seen));
    seen.note(&newer);
    assert!(!newer.is_older_than(&seen));
    let older_epoch = ReachRecord::new(set(1, &[1])).with_homes(homes_with(1, 30, NOW_S + 60));
    assert_eq!(older_epoch.rollback(&seen), Some(Rollback::Epoch { shown: 1, seen: 2 }));
    let older_homes = ReachRecord::new(set(2, &[1])).with_homes(homes_with(1, 19, NOW_S + 60));
    let device = device(1).public();
    assert_eq!(older_homes.rollback(&seen), Some(Rollback::Sequence { device, shown: 19, seen: 20 }));
    seen.note(&older_epoch);
    seen.note(&older_homes);
    assert_eq!((seen.epoch, seen.sequences.as_slice()), (2, &[(device, 20)][..]), "it never goes back");
    seen.note(&ReachRecord::new(set(3, &[2])));
    assert_eq!(seen.sequences, [], "a removed device is forgotten");
}

#[test]
fn sequences_grow_even_when_the_clock_does_not() {
    assert_eq!(next_sequence(None, 50), 50);
    assert_eq!(next_sequence(Some(10), 50), 50);
    assert_eq!(next_sequence(Some(50), 50), 51);
    assert_eq!(next_sequence(Some(u64::MAX), 50), u64::MAX);
}

#[test]
fn records_of_two_accounts_do_not_merge() {
    let stranger = tandem_proto::identity::AccountSecret::from_seed(&[1; 32]);
    let theirs = ReachRecord::new(DeviceSet::issue(&stranger, 1, &[], NOW_S).unwrap());
    assert_eq!(ReachRecord::new(device_set()).merge(&theirs), Err(OtherAccount));
}

#[test]
fn homes_of_another_account_or_device_are_not_taken() {
    let message = wire::DeviceHomes {
        account: vec![1; 32],
        device: device(1).public().0.to_vec(),
        sequence: 1,
        not_after_s: NOW_S + 60,
        homes: Vec::new(),
    };
    let foreign = sign(&message, &device(1));
    let refused = DeviceHomes::verify(&foreign, account().public(), NOW_MS);
    assert_eq!(refused, Err(SignedError::OtherAccount));
    let record = ReachRecord::new(set(1, &[2])).with_homes(homes(1));
    assert!(record.homes().is_empty(), "device 1 is not in this set");
    assert!(!record.device_set().contains(DeviceKey([0; 32])));
}

/// Records of one account as an honest history makes them: epoch by epoch a device is added or removed, and a
/// removed device never comes back (spec/records.md, "Device sets"); sequences and entries in any mixture.
fn record_of_history() -> impl Strategy<Value = ReachRecord> {
    const HISTORY: [&[u8]; 4] = [&[1], &[1, 2], &[2, 3], &[2, 3, 4]];
    (0usize..4, prop::collection::vec((1u8..=4, 1u64..4), 0..6)).prop_map(|(epoch, entries)| {
        let record = ReachRecord::new(set(epoch as u64 + 1, HISTORY[epoch]));
        entries.into_iter().fold(record, |record, (number, sequence)| {
            record.with_homes(homes_with(number, sequence, NOW_S + 60 + sequence % 2))
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn merging_is_commutative_idempotent_and_associative(
        a in record_of_history(), b in record_of_history(), c in record_of_history(),
    ) {
        let ab = a.merge(&b).unwrap();
        prop_assert_eq!(&ab, &b.merge(&a).unwrap());
        prop_assert_eq!(&a, &a.merge(&a).unwrap());
        prop_assert_eq!(&ab, &ab.merge(&b).unwrap());
        prop_assert_eq!(ab.merge(&c).unwrap(), a.merge(&b.merge(&c).unwrap()).unwrap());
    }

    #[test]
    fn a_merged_record_is_never_older_than_its_parts(a in record_of_history(), b in record_of_history()) {
        let merged = a.merge(&b).unwrap();
        let mut seen = Seen::default();
        seen.note(&a);
        seen.note(&b);
        prop_assert!(!merged.is_older_than(&seen));
        prop_assert_eq!(decode(&merged, NOW_MS), Ok(merged));
    }
}

#[test]
fn an_invitation_is_one_inviters_to_one_reserve_for_an_hour() {
    let (inviter, reserve) = (service(1), service(3).public());
    let verify = |signed: &wire::Signed| Invitation::verify(signed, inviter.public(), reserve, NOW_MS);
    let issue = |load_percent, not_after_s| Invitation::issue(&inviter, reserve, load_percent, not_after_s);
    let good = issue(70, NOW_S + 3_600).expect("a good invitation");
    assert_eq!(verify(good.signed()), Ok(good.clone()));
    let other = service(2).public();
    let by_another = Invitation::verify(good.signed(), other, reserve, NOW_MS);
    assert_eq!(by_another, Err(SignedError::BadSignature));
    let to_another = Invitation::verify(good.signed(), inviter.public(), other, NOW_MS);
    assert_eq!(to_another, Err(SignedError::OtherReserve));
    let late_ms = (NOW_S + 3_600) * 1_000 + CLOCK_SKEW_MS + 1;
    let late = Invitation::verify(good.signed(), inviter.public(), reserve, late_ms);
    assert_eq!(late, Err(SignedError::Expired { by_ms: CLOCK_SKEW_MS + 1 }));
    let long = issue(70, NOW_S + 3_600 + CLOCK_SKEW_MS / 1_000 + 1).expect("it is signed");
    assert_eq!(verify(long.signed()), Err(SignedError::LivesTooLong { by_s: 1 }));
    assert_eq!(issue(101, NOW_S), Err(SignedError::LoadOutOfRange { percent: 101 }));
    let message = wire::SupernodeInvitation { reserve: vec![3; 31], load_percent: 80, not_after_s: NOW_S };
    let short = SignedError::WrongLength { field: "service", bytes: 31 };
    assert_eq!(verify(&sign(&message, &inviter)), Err(short));
    let long = vec![0; 129];
    let large = wire::Signed { payload: long, signature: vec![0; 64] };
    assert_eq!(verify(&large), Err(SignedError::TooLarge { bytes: 129, limit: 128 }));
}

#[test]
fn a_membership_holds_for_its_network_key_member_and_time() {
    use tandem_proto::identity::NetworkSecret;
    use tandem_proto::signed::{NetworkMembership, NewMembership};
    let (secret, other) = (NetworkSecret::from_seed(&[1; 32]), NetworkSecret::from_seed(&[2; 32]));
    let network: tandem_proto::names::NetworkId = "acme".parse().unwrap();
    let new = NewMembership {
        network: network.clone(),
        member: device(1).public().0,
        not_before_s: NOW_S,
        not_after_s: NOW_S + 100,
        label: String::new(),
    };
    let membership = NetworkMembership::issue(&secret, new.clone()).unwrap();
    let verify = |key, network: &str, member: &[u8; 32], unix_ms| {
        let network = network.parse().unwrap();
        NetworkMembership::verify(membership.signed(), (&network, key), member, unix_ms).map(|_| ())
    };
    let (key, member) = (secret.public(), &device(1).public().0);
    assert_eq!(verify(key, "acme", member, NOW_MS), Ok(()));
    assert_eq!(verify(key, "acme", member, NOW_MS + 100_000 + CLOCK_SKEW_MS), Ok(()));
    assert!(matches!(
        verify(key, "acme", member, NOW_MS + 100_001 + CLOCK_SKEW_MS),
        Err(SignedError::Expired { .. })
    ));
    assert!(matches!(
        verify(key, "acme", member, NOW_MS - CLOCK_SKEW_MS - 1),
        Err(SignedError::NotYetValid { .. })
    ));
    assert_eq!(verify(other.public(), "acme", member, NOW_MS), Err(SignedError::BadSignature));
    assert_eq!(verify(key, "acme2", member, NOW_MS), Err(SignedError::OtherNetwork));
    assert_eq!(verify(key, "acme", &device(2).public().0, NOW_MS), Err(SignedError::OtherMember));
    let long = NewMembership { not_after_s: NOW_S + 401 * 86_400, ..new.clone() };
    let long = NetworkMembership::issue(&secret, long).unwrap();
    let verified = NetworkMembership::verify(long.signed(), (&network, key), member, NOW_MS);
    assert!(matches!(verified, Err(SignedError::LivesTooLong { .. })));
    let labelled = NewMembership { label: "x".repeat(65), ..new };
    assert!(NetworkMembership::issue(&secret, labelled).is_err());
}

#[test]
fn a_lent_membership_holds_for_its_lender_key_and_time() {
    use tandem_proto::signed::LentMembership;
    let (lender, key) = (service(1), device(1).public().0);
    let lent = LentMembership::issue(&lender, key, NOW_S + 100).unwrap();
    let verify =
        |by, key: &[u8; 32], unix_ms| LentMembership::verify(lent.signed(), by, key, unix_ms).map(|_| ());
    assert_eq!(verify(lender.public(), &key, NOW_MS), Ok(()));
    assert_eq!(verify(service(2).public(), &key, NOW_MS), Err(SignedError::BadSignature));
    assert_eq!(verify(lender.public(), &device(2).public().0, NOW_MS), Err(SignedError::OtherMember));
    let late_ms = NOW_MS + 100_001 + CLOCK_SKEW_MS;
    assert!(matches!(verify(lender.public(), &key, late_ms), Err(SignedError::Expired { .. })));
    let long = LentMembership::issue(&lender, key, NOW_S + 27 * 3_600).unwrap();
    let verified = LentMembership::verify(long.signed(), lender.public(), &key, NOW_MS);
    assert!(matches!(verified, Err(SignedError::LivesTooLong { .. })));
}
