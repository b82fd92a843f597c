//! Nothing an outsider sends panics, and what is accepted is what was meant.

use proptest::prelude::*;
use prost::Message;
use tandem_proto::frame::Decoder;
use tandem_proto::grant::{GrantTerms, RestTerms};
use tandem_proto::identity::{Address, DeviceLink, Entropy};
use tandem_proto::ids::{AccountKey, CallTag, DeviceKey, ServiceKey};
use tandem_proto::multiaddr::{PeerAddress, TransportAddress};
use tandem_proto::record::ReachRecord;
use tandem_proto::signed::{
    DeviceCertificate, DeviceHomes, DeviceSet, Invitation, SignedError, SupernodeDescriptor,
};
use tandem_proto::wire;

use crate::samples::{self, NOW_MS};

proptest! {
    #[test]
    fn random_bytes_are_refused_quietly(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(ReachRecord::decode_verified(&bytes, AccountKey([1; 32]), NOW_MS).is_err());
        let signed = wire::Signed { payload: bytes.clone(), signature: vec![0; 64] };
        prop_assert!(DeviceSet::verify(&signed, AccountKey([1; 32]), NOW_MS).is_err());
        prop_assert!(DeviceHomes::verify(&signed, AccountKey([1; 32]), NOW_MS).is_err());
        prop_assert!(DeviceCertificate::verify(&signed, DeviceKey([1; 32]), NOW_MS).is_err());
        prop_assert!(SupernodeDescriptor::verify(&signed, NOW_MS).is_err());
        let (inviter, reserve) = (ServiceKey([1; 32]), ServiceKey([2; 32]));
        prop_assert!(Invitation::verify(&signed, inviter, reserve, NOW_MS).is_err());
        if let Ok(address) = TransportAddress::from_bytes(&bytes) {
            prop_assert_eq!(TransportAddress::from_bytes(&address.to_bytes()), Ok(address));
        }
    }

    #[test]
    fn random_texts_are_refused_quietly(text in "\\PC{0,120}") {
        prop_assert!(text.parse::<Address>().is_err());
        let (link, multiaddr) = (["tandem:", &text].concat(), ["/ip4/", &text].concat());
        prop_assert!(link.parse::<Address>().is_err());
        prop_assert!(text.parse::<DeviceLink>().is_err());
        prop_assert!(["tandem-device:", &text].concat().parse::<DeviceLink>().is_err());
        prop_assert!(Entropy::from_words(&text).is_err());
        prop_assert!(text.parse::<DeviceKey>().is_err());
        prop_assert!(text.parse::<PeerAddress>().is_err());
        prop_assert!(multiaddr.parse::<PeerAddress>().is_err());
        prop_assert!(GrantTerms::parse(&text).is_err());
        if let Ok(terms) = RestTerms::parse(&text) {
            prop_assert_eq!(terms.username(), text);
        }
    }

    #[test]
    fn random_streams_end_in_an_error_or_in_waiting(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
    ) {
        let mut decoder = Decoder::<wire::SignalFrame>::new();
        for chunk in chunks {
            prop_assert!(decoder.push(&chunk).is_ok());
            while let Ok(Some(_)) = decoder.next_message() {}
        }
    }

    #[test]
    fn home_frames_with_changed_bytes_are_read_or_refused(
        which in 0usize..1000,
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6),
        cut in any::<usize>(),
    ) {
        let frames = samples::messages().into_iter().filter(|sample| sample.message == "HomeFrame");
        let frames: Vec<_> = frames.collect();
        let mut bytes = frames[which % frames.len()].bytes.clone();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(cut % (bytes.len() + 1));
        let mut decoder = Decoder::<wire::HomeFrame>::new();
        let mut framed = Vec::new();
        prost::encoding::encode_varint(bytes.len() as u64, &mut framed);
        framed.extend_from_slice(&bytes);
        if decoder.push(&framed).is_ok()
            && let Ok(Some(frame)) = decoder.next_message()
        {
            prop_assert!(frame.encoded_len() <= bytes.len(), "it grew while it was read");
        }
    }

    #[test]
    fn a_changed_byte_of_a_record_is_never_accepted(index in 0usize..1000, flip in 1u8..) {
        let account = samples::account().public();
        let record = ReachRecord::new(samples::device_set()).with_homes(samples::homes(1));
        let mut bytes = record.encode();
        let index = index % bytes.len();
        bytes[index] ^= flip;
        if let Ok(other) = ReachRecord::decode_verified(&bytes, account, NOW_MS) {
            // The change hit the outer envelope (an unknown field, or an entry that vanished), nothing signed.
            prop_assert_eq!(other.device_set(), record.device_set());
            prop_assert!(other.homes().iter().all(|homes| record.homes().contains(homes)));
        }
    }

    #[test]
    fn a_changed_byte_of_an_invitation_is_never_accepted(index in 0usize..1000, flip in 1u8..) {
        let (inviter, reserve) = (samples::service(1).public(), samples::service(3).public());
        let good = samples::supernode_invitation();
        for in_payload in [true, false] {
            let mut signed = good.signed().clone();
            let bytes = if in_payload { &mut signed.payload } else { &mut signed.signature };
            let index = index % bytes.len();
            bytes[index] ^= flip;
            prop_assert!(Invitation::verify(&signed, inviter, reserve, NOW_MS).is_err());
        }
        let mut signed = good.signed().clone();
        signed.signature.truncate(index % 64);
        prop_assert!(Invitation::verify(&signed, inviter, reserve, NOW_MS).is_err());
    }

    #[test]
    fn grants_come_back(
        relay: [u8; 32], device: [u8; 32], tag: [u8; 16], not_after_s: u64, quota_bytes: u64,
    ) {
        let terms = GrantTerms {
            relay: ServiceKey(relay), device: DeviceKey(device), tag: CallTag(tag), not_after_s, quota_bytes,
        };
        prop_assert_eq!(GrantTerms::parse(&terms.username()), Ok(terms));
    }

    #[test]
    fn words_and_addresses_come_back(bytes: [u8; 32]) {
        let entropy = Entropy::new(bytes);
        let again = Entropy::from_words(&entropy.words()).unwrap();
        prop_assert_eq!(again.as_bytes(), &bytes);
        let address = Address(AccountKey(bytes));
        prop_assert_eq!(address.to_string().parse(), Ok(address));
        let key = ServiceKey(bytes);
        prop_assert_eq!(key.to_string().parse(), Ok(key));
    }
}

#[test]
fn fields_of_a_newer_version_survive() {
    let (secret, account) = (samples::device(1), samples::account().public());
    let homes = samples::homes(1);
    let mut payload = homes.signed().payload.clone();
    payload.extend_from_slice(&[0xfa, 0x06, 0x03, b'n', b'e', b'w']); // field 111, 3 bytes
    let signature = secret.sign("tandem device-homes 1", &payload).to_vec();
    let newer = wire::Signed { payload: payload.clone(), signature };
    let read = DeviceHomes::verify(&newer, account, NOW_MS).unwrap();
    assert_eq!(read.homes(), homes.homes());
    let record = ReachRecord::new(samples::device_set()).with_homes(read);
    let stored = wire::ReachRecord::decode(record.encode().as_slice()).unwrap();
    assert_eq!(stored.device_homes[0].payload, payload);
}

#[test]
fn a_signature_of_another_kind_is_not_accepted() {
    let set = samples::device_set();
    let certificate_domain = samples::account().sign("tandem device-certificate 1", &set.signed().payload);
    let signed =
        wire::Signed { payload: set.signed().payload.clone(), signature: certificate_domain.to_vec() };
    let account = samples::account().public();
    assert_eq!(DeviceSet::verify(&signed, account, NOW_MS), Err(SignedError::BadSignature));
}
