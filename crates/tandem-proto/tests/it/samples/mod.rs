//! What the vectors in `spec/vectors` are made of: one account, its devices, two supernodes, one instant. Fixed
//! bytes everywhere, so that the same program always writes the same files. `cargo xtask vectors` runs an
//! example that includes this folder; the tests compare.

mod messages;
mod probe;
mod values;

use data_encoding::HEXLOWER;
use serde_json::Value;

use tandem_proto::identity::{AccountSecret, DeviceSecret, Entropy, NetworkSecret, ServiceSecret};
use tandem_proto::signed::{
    DeviceCertificate, DeviceEntry, DeviceHomes, DeviceSet, Home, Invitation, LentMembership,
    NetworkMembership, NewCertificate, NewDescriptor, NewMembership, Roles, SupernodeDescriptor,
};

pub(crate) use messages::messages;

/// The instant of all vectors: 15 January 2027, 08:00 UTC.
pub(crate) const NOW_S: u64 = 1_800_000_000;
pub(crate) const NOW_MS: u64 = NOW_S * 1000;

/// Each file of `spec/vectors` but `messages.json`, by name.
pub(crate) fn files() -> Vec<(&'static str, Value)> {
    vec![
        ("identity.json", values::identity()),
        ("signed.json", values::signed()),
        ("record.json", values::record()),
        ("grant.json", values::grant()),
        ("draw.json", values::draw()),
        ("frame.json", values::frame()),
        ("address.json", values::addresses()),
        ("names.json", values::names()),
        ("probe.json", probe::probe()),
        ("strangers.json", values::strangers()),
    ]
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// 32 bytes that count up from `first`.
pub(crate) fn counting(first: u8) -> [u8; 32] {
    std::array::from_fn(|i| first.wrapping_add(i as u8))
}

pub(crate) fn entropy() -> Entropy {
    Entropy::new(counting(0))
}

pub(crate) fn account() -> AccountSecret {
    entropy().account_secret()
}

pub(crate) fn device(number: u8) -> DeviceSecret {
    DeviceSecret::from_seed(&[0xd0 + number; 32])
}

pub(crate) fn service(number: u8) -> ServiceSecret {
    ServiceSecret::from_seed(&[0x50 + number; 32])
}

pub(crate) fn network_secret() -> NetworkSecret {
    NetworkSecret::from_seed(&[0x90; 32])
}

/// Of the first device in the network "acme".
pub(crate) fn membership() -> NetworkMembership {
    let new = NewMembership {
        network: "acme".parse().expect("a fixed network id"),
        member: device(1).public().0,
        not_before_s: NOW_S - 86_400,
        not_after_s: NOW_S + 30 * 86_400,
        label: "Reception".to_owned(),
    };
    NetworkMembership::issue(&network_secret(), new).expect("a fixed membership")
}

/// From a service key to the second device's, as if that were a scout's.
pub(crate) fn lent_membership() -> LentMembership {
    LentMembership::issue(&service(1), device(2).public().0, NOW_S + 86_400).expect("a fixed loan")
}

/// QUIC at 127.`number`.0.1.
pub(crate) fn quic_address(number: u8) -> Vec<u8> {
    binary(&format!("/ip4/127.{number}.0.1/udp/4001/quic-v1"))
}

pub(crate) fn binary(multiaddr: &str) -> Vec<u8> {
    let address: tandem_proto::multiaddr::TransportAddress = multiaddr.parse().expect("a fixed multiaddr");
    address.to_bytes()
}

pub(crate) fn certificate() -> DeviceCertificate {
    let new = NewCertificate {
        device: device(1).public(),
        serial: 1,
        not_before_s: NOW_S - 86_400,
        not_after_s: NOW_S + 365 * 86_400,
        label: "kitchen laptop".into(),
    };
    DeviceCertificate::issue(&account(), new).expect("a fixed certificate")
}

pub(crate) fn device_set() -> DeviceSet {
    let devices = [
        DeviceEntry { device: device(1).public(), serial: 1 },
        DeviceEntry { device: device(2).public(), serial: 2 },
    ];
    DeviceSet::issue(&account(), 3, &devices, NOW_S + 365 * 86_400).expect("a fixed device set")
}

pub(crate) fn homes(number: u8) -> DeviceHomes {
    let home = |n: u8| Home { service: service(n).public(), addresses: vec![quic_address(n)] };
    let account = account().public();
    DeviceHomes::issue(&device(number), account, NOW_MS, NOW_S + 86_400, &[home(1), home(2), home(3)])
        .expect("fixed homes")
}

pub(crate) fn descriptor(number: u8) -> SupernodeDescriptor {
    let new = NewDescriptor {
        sequence: NOW_MS,
        not_after_s: NOW_S + 86_400,
        roles: Roles::DIRECTORY.with(Roles::RELAY),
        addresses: vec![quic_address(number), binary(&format!("/ip4/127.{number}.0.1/tcp/4001"))],
        relay: vec![
            binary(&format!("/ip4/127.{number}.0.1/udp/4002")),
            binary(&format!("/ip4/127.{number}.0.1/tcp/4001")),
        ],
        load_percent: 20,
        software: "tandem 0.1.0".into(),
        echo: Some(AccountSecret::from_seed(&[0xec; 32]).public()),
    };
    SupernodeDescriptor::issue(&service(number), new).expect("a fixed descriptor")
}

/// Supernode 1 invites reserve 3.
pub(crate) fn supernode_invitation() -> Invitation {
    Invitation::issue(&service(1), service(3).public(), 80, NOW_S + 1_800).expect("a fixed invitation")
}
