//! Everything that is computed rather than sent as one message: keys, signatures, grants, draws, frames.

use serde_json::{Value, json};
use tandem_proto::draw::{self, SupernodeRef};
use tandem_proto::frame;
use tandem_proto::grant::{GrantTerms, RelaySecret, RestSecret, RestTerms, call_tag};
use tandem_proto::identity::{
    Address, DeviceLink, InvitationSecret, InvitedCall, Link, MemberRequest, device_words, membership_text,
};
use tandem_proto::ids::AccountKey;
use tandem_proto::multiaddr::{PeerAddress, TransportAddress};
use tandem_proto::names::{FailureCode, NetworkId, Reason};
use tandem_proto::network::network_group;
use tandem_proto::record::{ReachRecord, directory_key};
use tandem_proto::request::Challenge;
use tandem_proto::signed::{DeviceEntry, DeviceSet, SignedMessage};
use tandem_proto::wire;
use tandem_proto::wire::signal_frame::Body;

use super::{
    NOW_MS, NOW_S, account, certificate, counting, descriptor, device, device_set, entropy, hex, homes,
    lent_membership, membership, network_secret, service, supernode_invitation,
};

pub(crate) fn identity() -> Value {
    let account = account();
    let address = Address(account.public()).to_string();
    let peer_id = |key: [u8; 32]| {
        let key = tandem_proto::ids::DeviceKey(key);
        json!({ "key": hex(&key.0), "binary": hex(&key.peer_id_bytes()), "text": key.to_string() })
    };
    let mut mistyped = address.clone();
    mistyped.replace_range(20..21, if &address[20..21] == "a" { "b" } else { "a" });
    json!({
        "account": {
            "entropy": hex(entropy().as_bytes()),
            "words": entropy().words().as_str(),
            "seed": hex(account.seed().as_ref()),
            "key": hex(account.public().as_bytes()),
            "address": address,
        },
        "devices": [device_json(1), device_json(2)],
        "device_link": device_link_json(),
        "private_network": private_network_json(),
        "peer_ids": [peer_id([0; 32]), peer_id(counting(1)), peer_id([0xff; 32])],
        "refused_addresses": [
            { "text": mistyped, "why": "wrong-checksum" },
            { "text": address[..address.len() - 1], "why": "wrong-length" },
            { "text": address.replace("tandem:", "tandom:"), "why": "wrong-scheme" },
            { "text": address.replacen("tandem:a", "tandem:1", 1), "why": "wrong-character" },
        ],
    })
}

fn device_link_json() -> Value {
    let link = DeviceLink {
        device: device(2).public(),
        secret: counting(0xb0)[..16].try_into().expect("16 of 32 bytes"),
        homes: homes(2).homes()[..2].to_vec(),
    };
    let (certificate, set) = (certificate(), device_set());
    json!({
        "device": hex(link.device.as_bytes()),
        "secret": hex(&link.secret),
        "text": link.to_string(),
        "words": device_words(link.device),
        "inviter": hex(device(1).public().as_bytes()),
        "proof": hex(&link.proof(device(1).public(), certificate.signed(), set.signed())),
    })
}

fn private_network_json() -> Value {
    let network = network_secret();
    let request = MemberRequest { device: device(1).public(), service: service(1).public() };
    json!({
        "id": "acme",
        "seed": hex(network.seed().as_ref()),
        "secret_text": network.to_text().as_str(),
        "key": network.public().to_string(),
        "request": request.to_string(),
        "membership": membership_text(membership().signed()),
    })
}

fn device_json(number: u8) -> Value {
    let device = device(number);
    json!({ "seed": hex(device.seed().as_ref()), "key": hex(device.public().as_bytes()) })
}

pub(crate) fn signed() -> Value {
    let one = |domain: &str, signer: &[u8], seed: &[u8], signed: &wire::Signed| {
        json!({
            "domain": domain,
            "signer": hex(signer),
            "seed": hex(seed),
            "payload": hex(&signed.payload),
            "signature": hex(&signed.signature),
        })
    };
    let (account, device, service, network) = (account(), device(1), service(1), network_secret());
    json!({
        "unix_ms": NOW_MS,
        "device_certificate": one(
            wire::DeviceCertificate::DOMAIN,
            &account.public().0,
            account.seed().as_ref(),
            certificate().signed(),
        ),
        "device_set": one(
            wire::DeviceSet::DOMAIN,
            &account.public().0,
            account.seed().as_ref(),
            device_set().signed(),
        ),
        "device_homes": one(
            wire::DeviceHomes::DOMAIN,
            &device.public().0,
            device.seed().as_ref(),
            homes(1).signed(),
        ),
        "supernode": one(
            wire::SupernodeDescriptor::DOMAIN,
            &service.public().0,
            service.seed().as_ref(),
            descriptor(1).signed(),
        ),
        "supernode_invitation": one(
            wire::SupernodeInvitation::DOMAIN,
            &service.public().0,
            service.seed().as_ref(),
            supernode_invitation().signed(),
        ),
        "network_membership": one(
            wire::NetworkMembership::DOMAIN,
            &network.public().0,
            network.seed().as_ref(),
            membership().signed(),
        ),
        "lent_membership": one(
            wire::LentMembership::DOMAIN,
            &service.public().0,
            service.seed().as_ref(),
            lent_membership().signed(),
        ),
    })
}

pub(crate) fn record() -> Value {
    let one_device = [DeviceEntry { device: device(2).public(), serial: 2 }];
    let next_epoch = DeviceSet::issue(&account(), 4, &one_device, NOW_S + 86_400).expect("a fixed set");
    let first = ReachRecord::new(device_set()).with_homes(homes(1));
    let second = ReachRecord::new(device_set()).with_homes(homes(2));
    let revoked = ReachRecord::new(next_epoch);
    let merged = first.merge(&second).expect("one account");
    let after = merged.merge(&revoked).expect("one account");
    let key = account().public();
    json!({
        "unix_ms": NOW_MS,
        "account": hex(key.as_bytes()),
        "directory_key": hex(&directory_key(key)),
        "record_key_main": hex(&NetworkId::default().record_key(key)),
        "first": hex(&first.encode()),
        "second": hex(&second.encode()),
        "first_merged_with_second": hex(&merged.encode()),
        "next_epoch_without_device_1": hex(&revoked.encode()),
        "all_merged": hex(&after.encode()),
    })
}

pub(crate) fn grant() -> Value {
    let leg_secret = counting(0x40);
    let relay = service(1).public();
    let terms = GrantTerms {
        relay,
        device: device(1).public(),
        tag: call_tag(&leg_secret, relay),
        not_after_s: NOW_S + 3600,
        quota_bytes: 64_000_000,
    };
    let username = terms.username();
    let rest_username = format!("{}:lab", NOW_S + 3600);
    let rest = RestTerms::parse(&rest_username).expect("a fixed username");
    json!({
        "call_tag": { "leg_secret": hex(&leg_secret), "relay": hex(relay.as_bytes()), "tag": hex(&terms.tag.0) },
        "grant": {
            "device": hex(terms.device.as_bytes()),
            "not_after_s": terms.not_after_s,
            "quota_bytes": terms.quota_bytes,
            "username": username,
            "relay_secret": hex(&counting(0x80)),
            "password": RelaySecret::new(counting(0x80)).password(&username),
        },
        "rest": {
            "secret": "a shared secret",
            "username": rest_username,
            "password": RestSecret::new("a shared secret").password(&rest_username),
            "tag": hex(&rest.tag.0),
        },
    })
}

pub(crate) fn draw() -> Value {
    let (caller, callee) = (counting(0x10), counting(0x20));
    let networks = [0x7f01, 0x7f02, 0x7f03, 0x7f03, 0x7f04, 0x2001_0db8];
    let candidates: Vec<SupernodeRef> = (1u8..)
        .zip(networks)
        .map(|(number, network)| SupernodeRef { service: service(number).public(), network })
        .collect();
    let list = |list: &[SupernodeRef]| -> Vec<Value> {
        list.iter().map(|c| json!({ "service": hex(c.service.as_bytes()), "network": c.network })).collect()
    };
    let targets: Vec<String> = (0..3).map(|i| hex(&draw::target(&caller, &callee, i))).collect();
    json!({
        "caller_nonce": hex(&caller),
        "caller_proposes": list(&candidates[..2]),
        "caller_commit": hex(&draw::commit(&caller, &[candidates[0].service, candidates[1].service])),
        "callee_nonce": hex(&callee),
        "targets": targets,
        "candidates": list(&candidates),
        "drawn_3": list(&draw::draw(&caller, &callee, &candidates, 3)),
        "drawn_6": list(&draw::draw(&caller, &callee, &candidates, 6)),
    })
}

pub(crate) fn frame() -> Value {
    let empty = wire::HomeFrame::default();
    let busy = wire::HomeFrame {
        id: 7,
        body: Some(wire::home_frame::Body::Busy(wire::Busy {
            retry_after_ms: 30_000,
            referrals: Vec::new(),
        })),
    };
    let record = ReachRecord::new(device_set()).with_homes(homes(1));
    let publish = wire::HomeFrame {
        id: 300,
        body: Some(wire::home_frame::Body::Publish(wire::Publish { record: Some(record.to_wire()) })),
    };
    let signal = |body| frame::encode(&wire::SignalFrame { body }).expect("a short frame");
    let framed = |message: &wire::HomeFrame| hex(&frame::encode(message).expect("a short frame"));
    json!({
        "home_frames": [framed(&empty), framed(&busy), framed(&publish)],
        "signal_frames": [
            { "name": "still here", "hex": hex(&signal(None)) },
            { "name": "confirm", "hex": hex(&signal(Some(Body::Confirm(wire::Confirm {})))) },
        ],
        "refused": [
            { "hex": "818001", "why": "a length of 16385" },
            { "hex": "ffffff", "why": "a length of more than three bytes" },
            { "hex": "8100", "why": "a length that is not the shortest varint" },
            { "hex": "02ffff", "why": "not a protobuf" },
        ],
    })
}

pub(crate) fn addresses() -> Value {
    let texts = [
        "/ip4/127.1.0.1/udp/4001/quic-v1",
        "/ip4/192.0.2.7/udp/4002",
        "/ip4/192.0.2.7/tcp/443",
        "/ip6/2001:db8::7/udp/4001/quic-v1",
        "/ip6/2001:db8::7/udp/4002",
        "/ip6/2001:db8::7/tcp/443",
    ];
    let multiaddrs: Vec<Value> = texts
        .iter()
        .map(|text| {
            let address: TransportAddress = text.parse().expect("a fixed multiaddr");
            json!({ "text": text, "hex": hex(&address.to_bytes()) })
        })
        .collect();
    let peer =
        PeerAddress { address: texts[0].parse().expect("a fixed multiaddr"), service: service(1).public() };
    let ips = [
        "192.0.2.7",
        "127.3.0.1",
        "2001:db8::7",
        "::ffff:192.0.2.7",
        "2002:c000:207::1",
        "64:ff9b::c000:207",
    ];
    let groups: Vec<Value> = ips
        .iter()
        .map(|ip| json!({ "ip": ip, "group": network_group(ip.parse().expect("a fixed IP address")) }))
        .collect();
    json!({
        "multiaddrs": multiaddrs,
        "peer_address": { "text": peer.to_string(), "service": hex(peer.service.as_bytes()) },
        "network_groups": groups,
    })
}

pub(crate) fn names() -> Value {
    let network = NetworkId::default();
    let numbers = |pairs: Vec<(u32, &'static str)>| -> Vec<Value> {
        pairs.into_iter().map(|(number, text)| json!({ "number": number, "text": text })).collect()
    };
    json!({
        "network": network.as_str(),
        "protocols": [
            network.home_protocol(),
            network.signal_protocol(),
            network.kad_protocol(),
            network.identify_protocol(),
        ],
        "failure_codes": numbers(FailureCode::KNOWN.iter().map(|c| (c.number(), c.text())).collect()),
        "reasons": numbers(Reason::KNOWN.iter().map(|r| (r.number(), r.text())).collect()),
    })
}

pub(crate) const REQUEST_SALT: [u8; 16] = [0x5a; 16];

pub(crate) fn invitation() -> InvitationSecret {
    InvitationSecret(std::array::from_fn(|index| 0x90 + index as u8))
}

/// A call of another account to the one of all vectors.
pub(crate) fn invited_call() -> InvitedCall {
    InvitedCall {
        caller: AccountKey(counting(0xc0)),
        callee: account().public(),
        device: device(1).public(),
        call: counting(0x30)[..16].try_into().expect("16 bytes"),
    }
}

/// Of another account to the one of all vectors.
pub(crate) fn request_challenge() -> Challenge {
    Challenge::new(&NetworkId::default(), account().public(), AccountKey(counting(0xc0)), &REQUEST_SALT, 22)
}

/// The first number that is a proof: found once, since looking for it takes seconds.
pub(crate) fn request_proof() -> [u8; 8] {
    REQUEST_PROOF.to_be_bytes()
}

const REQUEST_PROOF: u64 = 17_111_475;

pub(crate) fn strangers() -> Value {
    let link = Link { address: Address(account().public()), invitation: Some(invitation()) };
    let text = link.to_string();
    let challenge = request_challenge();
    json!({
        "invitation": {
            "secret": hex(&invitation().0),
            "hash": hex(&invitation().hash().0),
            "link": text,
            "caller": hex(&invited_call().caller.0),
            "callee": hex(&invited_call().callee.0),
            "device": hex(&invited_call().device.0),
            "call_id": hex(&invited_call().call),
            "proof": hex(&invitation().hash().proof(&invited_call())),
            "refused_links": [text[..text.len() - 1], text.replace("?i=", "?j=")],
        },
        "request": {
            "network": NetworkId::default().as_str(),
            "callee": hex(account().public().as_bytes()),
            "caller": hex(&counting(0xc0)),
            "salt": hex(&REQUEST_SALT),
            "bits": challenge.bits(),
            "seed": hex(&challenge.seed()),
            "proof": hex(&request_proof()),
            "holds": challenge.verifies(&request_proof()),
        },
    })
}
