//! `spec/vectors` against the code: our encoders give these bytes, our decoders read them.

use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde_json::Value;
use tandem_proto::frame::Decoder;
use tandem_proto::grant::{GrantTerms, RelaySecret, RestSecret};
use tandem_proto::identity::{Address, AddressError, Entropy};
use tandem_proto::ids::{AccountKey, DeviceKey, ServiceKey};
use tandem_proto::multiaddr::{PeerAddress, TransportAddress};
use tandem_proto::record::ReachRecord;
use tandem_proto::signed::{DeviceCertificate, DeviceHomes, DeviceSet, Invitation, SupernodeDescriptor};
use tandem_proto::wire;

use crate::samples::{self, NOW_MS};

const STALE: &str =
    "the vectors are stale: if the change of the wire format is meant, run `cargo xtask vectors`";

#[test]
fn our_encoders_give_the_bytes_of_the_vectors() {
    for (name, expected) in samples::files() {
        assert_eq!(read(name), expected, "{name}: {STALE}");
    }
}

#[test]
fn every_message_encodes_and_decodes_as_its_vector() {
    let file = read("messages.json");
    let vectors = file.as_array().unwrap();
    let samples = samples::messages();
    assert_eq!(vectors.len(), samples.len(), "{STALE}");
    for (vector, sample) in vectors.iter().zip(&samples) {
        let what = format!("{} ({})", sample.message, sample.name);
        assert_eq!((text(vector, "message"), text(vector, "name")), (sample.message, sample.name), "{STALE}");
        let bytes = bytes(vector, "hex");
        assert_eq!(sample.bytes, bytes, "{what}: {STALE}");
        assert!((sample.reads)(&bytes), "{what} is not read back");
    }
}

#[test]
fn every_message_of_the_proto_files_has_a_vector() {
    let samples = samples::messages();
    let mut count = 0;
    for entry in std::fs::read_dir(spec().join("proto")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("message ") else { continue };
            let name = rest.split([' ', '{']).next().unwrap();
            assert!(samples.iter().any(|sample| sample.message == name), "{name} has no vector");
            count += 1;
        }
    }
    assert!(count >= 47, "only {count} messages were found");
}

#[test]
fn identities_are_read() {
    let file = read("identity.json");
    let account = &file["account"];
    let entropy = Entropy::from_words(text(account, "words")).unwrap();
    assert_eq!(entropy.as_bytes().as_slice(), bytes(account, "entropy"));
    let address: Address = text(account, "address").parse().unwrap();
    assert_eq!(address.0.as_bytes().as_slice(), bytes(account, "key"));
    for peer in file["peer_ids"].as_array().unwrap() {
        let key: DeviceKey = text(peer, "text").parse().unwrap();
        assert_eq!(key.as_bytes().as_slice(), bytes(peer, "key"));
        assert_eq!(DeviceKey::from_peer_id_bytes(&bytes(peer, "binary")), Ok(key));
    }
    for refused in file["refused_addresses"].as_array().unwrap() {
        let why = match text(refused, "text").parse::<Address>().unwrap_err() {
            AddressError::WrongScheme => "wrong-scheme",
            AddressError::WrongLength { .. } => "wrong-length",
            AddressError::WrongCharacter { .. } => "wrong-character",
            AddressError::WrongChecksum => "wrong-checksum",
            AddressError::UnknownVersion { .. } => "unknown-version",
        };
        assert_eq!(why, text(refused, "why"));
    }
}

#[test]
fn signed_messages_verify() {
    let file = read("signed.json");
    let envelope = |name: &str| wire::Signed {
        payload: bytes(&file[name], "payload"),
        signature: bytes(&file[name], "signature"),
    };
    let account = AccountKey::try_from(bytes(&file["device_set"], "signer").as_slice()).unwrap();
    let device = DeviceKey::try_from(bytes(&file["device_homes"], "signer").as_slice()).unwrap();
    let certificate = DeviceCertificate::verify(&envelope("device_certificate"), device, NOW_MS).unwrap();
    let set = DeviceSet::verify(&envelope("device_set"), account, NOW_MS).unwrap();
    assert!(set.admits(&certificate));
    let homes = DeviceHomes::verify(&envelope("device_homes"), account, NOW_MS).unwrap();
    assert_eq!((homes.device(), homes.homes().len()), (device, 3));
    let descriptor = SupernodeDescriptor::verify(&envelope("supernode"), NOW_MS).unwrap();
    assert_eq!(descriptor.known_relay().count(), 2);
    let inviter = ServiceKey::try_from(bytes(&file["supernode_invitation"], "signer").as_slice()).unwrap();
    let reserve = samples::service(3).public();
    let invitation = Invitation::verify(&envelope("supernode_invitation"), inviter, reserve, NOW_MS).unwrap();
    assert_eq!(invitation.load_percent(), 80);
}

#[test]
fn records_decode_and_merge() {
    let file = read("record.json");
    let account = AccountKey::try_from(bytes(&file, "account").as_slice()).unwrap();
    let record = |name| ReachRecord::decode_verified(&bytes(&file, name), account, NOW_MS).unwrap();
    let merged = record("second").merge(&record("first")).unwrap();
    assert_eq!(merged, record("first_merged_with_second"));
    let all = record("next_epoch_without_device_1").merge(&merged).unwrap();
    assert_eq!(all.encode(), bytes(&file, "all_merged"));
}

#[test]
fn grants_are_read() {
    let file = read("grant.json");
    let grant = &file["grant"];
    let terms = GrantTerms::parse(text(grant, "username")).unwrap();
    assert_eq!(terms.tag.0.as_slice(), bytes(&file["call_tag"], "tag"));
    assert_eq!(terms.not_after_s, grant["not_after_s"].as_u64().unwrap());
    let secret = RelaySecret::new(bytes(grant, "relay_secret").try_into().unwrap());
    assert!(secret.verifies(text(grant, "username"), text(grant, "password")));
    let rest = &file["rest"];
    assert!(RestSecret::new(text(rest, "secret")).verifies(text(rest, "username"), text(rest, "password")));
}

#[test]
fn frames_are_read_or_refused() {
    let file = read("frame.json");
    let frames = file["home_frames"].as_array().unwrap();
    let mut decoder = Decoder::<wire::HomeFrame>::new();
    for frame in frames {
        decoder.push(&HEXLOWER.decode(frame.as_str().unwrap().as_bytes()).unwrap()).unwrap();
    }
    let mut ids = Vec::new();
    while let Some(frame) = decoder.next_message().unwrap() {
        ids.push(frame.id);
    }
    assert_eq!(ids, [0, 7, 300]);
    let signals = file["signal_frames"].as_array().unwrap();
    let mut decoder = Decoder::<wire::SignalFrame>::new();
    for frame in signals {
        decoder.push(&bytes(frame, "hex")).unwrap();
    }
    assert_eq!(
        decoder.next_message().unwrap(),
        Some(wire::SignalFrame::default()),
        "an empty frame is no end"
    );
    let confirm = Some(wire::signal_frame::Body::Confirm(wire::Confirm {}));
    assert_eq!(decoder.next_message().unwrap().map(|frame| frame.body), Some(confirm));
    for refused in file["refused"].as_array().unwrap() {
        let mut decoder = Decoder::<wire::HomeFrame>::new();
        decoder.push(&bytes(refused, "hex")).unwrap();
        assert!(decoder.next_message().is_err(), "{refused}");
    }
}

#[test]
fn addresses_are_read() {
    let file = read("address.json");
    for vector in file["multiaddrs"].as_array().unwrap() {
        let address = TransportAddress::from_bytes(&bytes(vector, "hex")).unwrap();
        assert_eq!(address.to_string(), text(vector, "text"));
    }
    let peer: PeerAddress = text(&file["peer_address"], "text").parse().unwrap();
    assert_eq!(peer.service.as_bytes().as_slice(), bytes(&file["peer_address"], "service"));
}

fn spec() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec")
}

fn read(name: &str) -> Value {
    let path = spec().join("vectors").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no text \"{field}\" in {value}"))
}

fn bytes(value: &Value, field: &str) -> Vec<u8> {
    HEXLOWER.decode(text(value, field).as_bytes()).expect("hexadecimal")
}
