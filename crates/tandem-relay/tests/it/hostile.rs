//! What strangers, and clients gone bad, may send: nothing panics, and nothing reaches anybody it should not.

use proptest::prelude::*;
use tandem_relay::client::ClientAddr;
use tandem_relay::server::DropReason;
use turn_types::attribute::{ChannelNumber, Lifetime, RequestedTransport, XorPeerAddress};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH};

use crate::bench::{Bench, Client, Fate, channel_data, fresh_nonce, send_indication};

/// A relay with two calls, and valid messages of the first caller to start mutating from.
struct Scene {
    bench: Bench,
    caller: Client,
    callee: Client,
    stranger: ClientAddr,
    messages: Vec<Vec<u8>>,
}

impl Scene {
    fn new() -> Self {
        let mut bench = Bench::with(|config| config.stranger_rate.burst = 1_000_000);
        let (mut caller, callee) = bench.call(1);
        bench.call(2);
        caller.bind(&mut bench, 0x4000, callee.relayed()).unwrap();
        caller.nonce = fresh_nonce(&mut bench, caller.address);
        let peer = XorPeerAddress::new(callee.relayed(), 1.into());
        let (udp, lifetime, number) =
            (RequestedTransport::new(17), Lifetime::new(700), ChannelNumber::new(0x4000));
        let mut messages = vec![
            caller.signed(ALLOCATE, &[&udp]),
            caller.signed(REFRESH, &[&lifetime]),
            caller.signed(CREATE_PERMISSION, &[&peer]),
            caller.signed(CHANNEL_BIND, &[&number, &peer]),
        ];
        messages.push(crate::bench::binding_request());
        messages.push(send_indication(3.into(), callee.relayed(), b"some voice"));
        messages.push(channel_data(0x4000, b"some voice"));
        let stranger = Client::new(7, 7).address;
        Self { bench, caller, callee, stranger, messages }
    }

    /// From a stranger nothing is forwarded; from the caller it goes to the callee or nowhere.
    fn check(&mut self, bytes: &[u8]) {
        let allocations = self.bench.server.stats().allocations;
        match self.bench.packet(bytes, self.stranger) {
            Fate::Forwarded { .. } => panic!("a stranger's packet was forwarded"),
            Fate::Replied(reply) => {
                assert!(reply.len() <= bytes.len() + 32, "a stranger draws {} bytes", reply.len())
            }
            Fate::Dropped(_) => {}
        }
        assert_eq!(self.bench.server.stats().allocations, allocations, "a stranger changed something");
        match self.bench.packet(bytes, self.caller.address) {
            Fate::Forwarded { to, bytes: forwarded } => {
                assert_eq!(to, self.callee.address);
                assert!(forwarded.len() <= bytes.len() + 36);
            }
            Fate::Replied(_) | Fate::Dropped(_) => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..40)) {
        let mut scene = Scene::new();
        for packet in packets {
            scene.check(&packet);
        }
    }

    #[test]
    fn random_stun(
        kind in any::<u16>(),
        attributes in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..40)), 0..8),
    ) {
        let mut scene = Scene::new();
        let mut body = Vec::new();
        for (name, value) in attributes {
            body.extend_from_slice(&(name & 0x803f).to_be_bytes());
            body.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
            body.extend_from_slice(&value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        let kind = (kind & 0x011f).to_be_bytes();
        scene.check(&[&kind[..], &length, &[0x21, 0x12, 0xa4, 0x42], &[5; 12], &body].concat());
    }

    #[test]
    fn mutated_messages(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        extra in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let mut scene = Scene::new();
        let mut packet = scene.messages[which.index(scene.messages.len())].clone();
        for (place, value) in changes {
            let place = place.index(packet.len());
            packet[place] = value;
        }
        if let Some(cut) = cut {
            packet.truncate(cut.index(packet.len()));
        }
        packet.extend(extra);
        scene.check(&packet);
    }
}

#[test]
fn every_byte_of_every_message_may_be_wrong() {
    let mut scene = Scene::new();
    for message in scene.messages.clone() {
        for place in 0..message.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut packet = message.clone();
                packet[place] ^= flip;
                scene.check(&packet);
            }
        }
        for length in 0..message.len() {
            scene.check(&message[..length]);
        }
    }
}

#[test]
fn a_signed_request_cannot_be_changed_or_moved() {
    let mut scene = Scene::new();
    let refresh = scene.caller.signed(REFRESH, &[&Lifetime::new(3_600)]);
    // Another address: the nonce is not for it.
    assert_eq!(scene.callee.exchange(&mut scene.bench, &refresh), Err(438));
    // Another lifetime: the integrity is broken.
    let mut changed = refresh.clone();
    let place = changed.windows(4).position(|four| four == 3_600_u32.to_be_bytes()).unwrap();
    changed[place + 3] ^= 1;
    assert_eq!(scene.caller.exchange(&mut scene.bench, &changed), Err(401));
    assert!(scene.caller.exchange(&mut scene.bench, &refresh).is_ok());
}

#[test]
fn oversized_and_odd_messages_are_dropped() {
    let mut bench = Bench::new();
    let (mut caller, callee) = bench.call(1);
    caller.bind(&mut bench, 0x4000, callee.relayed()).unwrap();
    let malformed = Fate::Dropped(DropReason::Malformed);
    assert_eq!(caller.channel(&mut bench, 0x4000, &[0; 2_045]), malformed);
    assert_eq!(bench.packet(&[], caller.address), malformed);
    assert_eq!(bench.packet(&[0x40], caller.address), malformed);
    assert_eq!(bench.packet(&[0x40, 0, 0, 5, 1, 2, 3, 4], caller.address), malformed, "longer than it is");
    let mut trailing = crate::bench::binding_request();
    trailing.push(0);
    assert_eq!(bench.packet(&trailing, caller.address), malformed);
}
