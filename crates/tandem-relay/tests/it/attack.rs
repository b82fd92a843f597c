//! Attacks on the closed policy and on the credentials that go beyond a packet that is malformed: each is refused with
//! the code that spec/relay.md gives.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use stun_types::attribute::{AttributeType, RawAttribute};
use stun_types::message::{Message, MessageClass, MessageType, MessageWriteVec, TransactionId};
use stun_types::prelude::*;
use tandem_proto::grant::{GrantTerms, RelaySecret};
use tandem_relay::client::ClientAddr;
use tandem_relay::config::Config;
use tandem_relay::credentials::Credentials;
use tandem_relay::server::DropReason;
use turn_types::attribute::{ChannelNumber, Data, Lifetime, RequestedTransport, XorPeerAddress};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH, SEND};

use crate::bench::{
    Bench, Client, Fate, RELAY, RELAYED_PORT, START_UNIX_S, binding_request, channel_data, fresh_nonce,
    request, terms,
};
use crate::conversation::padding_is_zero;

const SECOND: Duration = Duration::from_secs(1);

fn peer_of(address: SocketAddr) -> XorPeerAddress {
    // IPv4 addresses are masked with the cookie alone.
    XorPeerAddress::new(address, TransactionId::from(0))
}

/// Through all three ways: a permission, a channel, a Send indication.
fn refused_everywhere(bench: &mut Bench, client: &mut Client, peer: SocketAddr) {
    let code = if peer.is_ipv6() { 443 } else { 403 };
    assert_eq!(client.permit(bench, peer), Err(code), "{peer}");
    assert_eq!(client.bind(bench, 0x4000, peer), Err(code), "{peer}");
    assert_eq!(client.send(bench, peer, b"x"), Fate::Dropped(DropReason::NoPartner), "{peer}");
}

#[test]
fn the_relay_itself_and_another_relay_are_no_peers() {
    let mut bench = Bench::new();
    let (mut caller, _callee) = bench.call(1);
    // What is allocated on another relay, of this very call, is nothing here.
    let mut elsewhere = Bench::from_config(Config::new(Credentials::Grants {
        relay: RELAY,
        secret: RelaySecret::new([0x77; 32]),
    }));
    let username = terms(1, 2).username();
    let password = RelaySecret::new([0x77; 32]).password(&username);
    let mut there = Client::with_password(username, password, Client::new(1, 2).address);
    // The same seed gives the first allocations of both the same addresses: the third is no one's here.
    for call in 7..9 {
        let username = terms(call, 1).username();
        let password = RelaySecret::new([0x77; 32]).password(&username);
        let address = Client::new(call, 1).address;
        Client::with_password(username, password, address).allocate(&mut elsewhere).unwrap();
    }
    there.allocate(&mut elsewhere).unwrap();
    let own = ["203.0.113.1:7001", "203.0.113.1:49152", "127.0.0.1:7001", "[2001:db8::1]:7001"];
    for peer in own.map(|peer| peer.parse().unwrap()).into_iter().chain([there.relayed()]) {
        refused_everywhere(&mut bench, &mut caller, peer);
    }
}

#[test]
fn no_other_virtual_address_is_a_peer() {
    let mut bench = Bench::with(|config| config.stranger_rate.burst = 10_000);
    let (mut caller, callee) = bench.call(1);
    let (other, _) = bench.call(2);
    let network = u32::from(Ipv4Addr::new(198, 18, 0, 0));
    let IpAddr::V4(partner) = callee.relayed().ip() else { panic!() };
    let near = (1..=64).flat_map(|step| [partner.to_bits() - step, partner.to_bits() + step]);
    let far = (0..1 << 17).step_by(997).map(|step| network + step);
    let others = near.chain(far).map(Ipv4Addr::from_bits).filter(|address| *address != partner);
    for address in others {
        refused_everywhere(&mut bench, &mut caller, SocketAddr::new(address.into(), RELAYED_PORT));
    }
    refused_everywhere(&mut bench, &mut caller, other.relayed());
}

#[test]
fn the_address_of_a_partner_that_has_left_is_no_peer() {
    let mut bench = Bench::new();
    let (mut caller, mut callee) = bench.call(1);
    caller.bind(&mut bench, 0x4000, callee.relayed()).unwrap();
    let before = callee.relayed();
    assert_eq!(callee.refresh(&mut bench, 0), Ok(0));
    assert_eq!(caller.permit(&mut bench, before), Err(403));
    assert_eq!(caller.channel(&mut bench, 0x4000, b"x"), Fate::Dropped(DropReason::NoPartner));
    // A third device may now take the place; the channel to the one before does not lead to it.
    let mut third = Client::new(1, 3);
    third.allocate(&mut bench).unwrap();
    third.permit(&mut bench, caller.relayed()).unwrap();
    assert_ne!(third.relayed(), before);
    assert_eq!(caller.channel(&mut bench, 0x4000, b"x"), Fate::Dropped(DropReason::NoPartner));
    assert_eq!(callee.allocate(&mut bench), Err(486), "a call is two");
}

#[test]
fn the_first_of_two_peers_counts_and_a_permission_needs_all() {
    let mut bench = Bench::new();
    let (mut caller, callee) = bench.call(1);
    let (good, bad) = (peer_of(callee.relayed()), peer_of("127.0.0.1:49152".parse().unwrap()));
    let number = ChannelNumber::new(0x4000);
    assert_eq!(caller.request(&mut bench, CREATE_PERMISSION, &[&bad, &good]), Err(403));
    assert_eq!(caller.request(&mut bench, CREATE_PERMISSION, &[&good, &bad]), Err(403));
    assert_eq!(caller.request(&mut bench, CHANNEL_BIND, &[&number, &bad, &good]), Err(403));
    let send = |peers: [&XorPeerAddress; 2]| {
        let indication = MessageType::from_class_method(MessageClass::Indication, SEND);
        let mut message = Message::builder(indication, TransactionId::from(9), MessageWriteVec::new());
        peers.into_iter().for_each(|peer| message.add_attribute(peer).unwrap());
        message.add_attribute(&Data::new(b"one")).unwrap();
        message.add_attribute(&Data::new(b"two")).unwrap();
        message.finish()
    };
    let fate = bench.packet(&send([&bad, &good]), caller.address);
    assert_eq!(fate, Fate::Dropped(DropReason::NoPartner));
    let Fate::Forwarded { to, bytes } = bench.packet(&send([&good, &bad]), caller.address) else { panic!() };
    assert_eq!((to, crate::bench::data_of(&bytes).1), (callee.address, b"one".to_vec()));
}

#[test]
fn what_is_added_behind_the_signature_does_not_count() {
    let mut bench = Bench::new();
    let mut caller = Client::new(1, 1);
    let mut callee = Client::new(1, 2);
    caller.allocate(&mut bench).unwrap();
    callee.allocate(&mut bench).unwrap();
    let append = |signed: &[u8], attribute: RawAttribute<'_>| {
        let mut bytes = [signed, &attribute.to_bytes()].concat();
        let length = u16::try_from(bytes.len() - 20).unwrap().to_be_bytes();
        bytes[2..4].copy_from_slice(&length);
        bytes
    };
    let peer = peer_of(callee.relayed());
    let signed = caller.signed(CREATE_PERMISSION, &[]);
    assert_eq!(caller.exchange(&mut bench, &append(&signed, peer.to_raw())), Err(400), "it names no peer");
    let signed = caller.signed(REFRESH, &[]);
    let end = Lifetime::new(0);
    assert!(caller.exchange(&mut bench, &append(&signed, end.to_raw())).is_ok());
    assert_eq!(bench.server.stats().allocations, 2, "nobody else can end it");
}

#[test]
fn channels_outside_their_range_carry_nothing() {
    let mut bench = Bench::new();
    let (mut caller, mut callee) = bench.call(1);
    caller.bind(&mut bench, 0x4000, callee.relayed()).unwrap();
    callee.bind(&mut bench, 0x4000, caller.relayed()).unwrap();
    for number in (0x4001..0x8000).step_by(7).chain([0x4fff, 0x5000, 0x7ffe, 0x7fff]) {
        assert_eq!(
            caller.channel(&mut bench, number, b"x"),
            Fate::Dropped(DropReason::NoChannel),
            "{number:#x}"
        );
    }
    for number in (0x8000..=0xffff).step_by(511).chain([0xffff]) {
        assert_eq!(
            caller.channel(&mut bench, number, b"x"),
            Fate::Dropped(DropReason::Malformed),
            "{number:#x}"
        );
    }
    for number in [0x0000, 0x0001, 0x3fff] {
        assert!(matches!(caller.channel(&mut bench, number, &[0; 16]), Fate::Dropped(_)), "{number:#x}");
    }
    // The number alone, and a number with more in it than there is room for.
    let number = RawAttribute::new(ChannelNumber::TYPE, &[0x40]);
    let peer = peer_of(callee.relayed());
    assert_eq!(caller.request(&mut bench, CHANNEL_BIND, &[&number, &peer]), Err(400));
}

#[test]
fn nothing_of_an_earlier_packet_leaves_with_a_later_one() {
    let mut bench = Bench::with(|config| config.allocation_rate = None);
    let (mut caller, mut callee) = bench.call(1);
    for length in 0..64 {
        // The buffer around the packet is full of something else.
        let Fate::Forwarded { bytes, .. } = caller.send(&mut bench, callee.relayed(), &vec![7; length])
        else {
            panic!()
        };
        assert_eq!(bytes.len(), 36 + length.next_multiple_of(4));
        assert!(padding_is_zero(&bytes), "{bytes:02x?}");
    }
    callee.bind(&mut bench, 0x4000, caller.relayed()).unwrap();
    for length in 0..64 {
        // Odd alignment: attributes that need not be understood before the data.
        let mut message = Message::builder(
            MessageType::from_class_method(MessageClass::Indication, SEND),
            TransactionId::from(9),
            MessageWriteVec::new(),
        );
        let filler = vec![1; length];
        message.add_attribute(&RawAttribute::new(AttributeType::new(0x8022), &filler)).unwrap();
        message.add_attribute(&Data::new(&filler)).unwrap();
        message.add_attribute(&peer_of(callee.relayed())).unwrap();
        let Fate::Forwarded { bytes, .. } = bench.packet(&message.finish(), caller.address) else { panic!() };
        assert_eq!(bytes, channel_data(0x4000, &filler));
    }
}

#[test]
fn a_forged_source_draws_little_and_sets_off_no_echo() {
    let mut bench = Bench::with(|config| config.stranger_rate.burst = 5);
    // The relay's own address, another relay's, a name server's, none at all.
    for victim in
        ["203.0.113.1:7001", "198.51.100.7:7001", "192.0.2.53:53", "0.0.0.0:0", "[2001:db8::1]:7001"]
    {
        let victim = ClientAddr::udp(victim.parse().unwrap(), 0);
        let (mut asked, mut drawn, mut answers) = (0, 0, 0);
        for round in 0..100_u128 {
            let questions = [binding_request(), request(ALLOCATE, round.into()).finish()];
            for question in questions {
                asked += question.len();
                if let Fate::Replied(reply) = bench.packet(&question, victim) {
                    drawn += reply.len();
                    answers += 1;
                    // If the victim is a relay, it hears an answer to nothing.
                    assert_eq!(bench.packet(&reply, victim), Fate::Dropped(DropReason::NotForUs));
                }
            }
        }
        assert_eq!(answers, 5);
        assert!(drawn < asked / 4, "{drawn} for {asked}");
        bench.pass(SECOND);
    }
    assert_eq!(bench.server.stats().allocations, 0);
}

#[test]
fn a_replay_from_elsewhere_or_later_does_nothing() {
    let mut bench = Bench::new();
    let mut caller = Client::new(1, 1);
    caller.nonce = fresh_nonce(&mut bench, caller.address);
    let asked = caller.signed(ALLOCATE, &[&RequestedTransport::new(RequestedTransport::UDP)]);
    let first = caller.exchange(&mut bench, &asked).unwrap();
    assert_eq!(caller.exchange(&mut bench, &asked).unwrap(), first, "a retransmission is answered again");
    assert_eq!(Client::new(5, 5).exchange(&mut bench, &asked), Err(438), "from elsewhere");
    let mut over_tcp = caller.clone();
    over_tcp.address = ClientAddr::tcp("10.1.1.2:5000".parse().unwrap(), 0);
    assert_eq!(over_tcp.exchange(&mut bench, &asked), Err(438));
    assert_eq!(caller.refresh(&mut bench, 0), Ok(0));
    bench.pass(601 * SECOND);
    assert_eq!(caller.exchange(&mut bench, &asked), Err(438), "later");
    assert_eq!(bench.server.stats().allocations, 0);
}

#[test]
fn another_ones_credentials_open_nothing() {
    let mut bench = Bench::new();
    let (caller, callee) = bench.call(1);
    // Of another relay with the same name and another secret; and of another start of this one.
    let username = terms(2, 1).username();
    let password = RelaySecret::new([0x56; 32]).password(&username);
    assert_eq!(
        Client::with_password(username, password, Client::new(2, 1).address).allocate(&mut bench),
        Err(401)
    );
    // The user name of one device with the password of another.
    let mixed = Client::with_password(callee.username.clone(), caller.password, Client::new(1, 9).address);
    assert_eq!(mixed.clone().allocate(&mut bench), Err(401));
    // Terms that were made better: later, more, another call.
    for better in [
        GrantTerms { not_after_s: START_UNIX_S + 9_999, ..terms(1, 1) },
        GrantTerms { quota_bytes: u64::MAX, ..terms(1, 1) },
        terms(2, 1),
    ] {
        let password = Client::new(1, 1).password;
        let mut forged = Client::with_password(better.username(), password, Client::new(1, 9).address);
        assert_eq!(forged.allocate(&mut bench), Err(401), "{better:?}");
    }
    assert_eq!(bench.server.stats().allocations, 2);
}

#[test]
fn a_grant_given_back_and_used_again_carries_no_more() {
    let mut bench = Bench::with(|config| config.allocation_rate = None);
    let small = GrantTerms { quota_bytes: 1_000, ..terms(1, 1) };
    let mut caller = Client::with_terms(&small, Client::new(1, 1).address);
    let mut callee = Client::new(1, 2);
    callee.allocate(&mut bench).unwrap();
    let mut carried = 0;
    for _ in 0..10 {
        if caller.allocate(&mut bench).is_err() {
            break;
        }
        caller.permit(&mut bench, callee.relayed()).unwrap();
        callee.permit(&mut bench, caller.relayed()).unwrap();
        for _ in 0..10 {
            let fate = caller.send(&mut bench, callee.relayed(), &[0; 500]);
            carried += if matches!(fate, Fate::Forwarded { .. }) { 500 } else { 0 };
        }
        caller.refresh(&mut bench, 0).unwrap();
    }
    assert_eq!(carried, 1_000);
}

#[test]
fn packets_without_bytes_are_not_free() {
    let mut bench = Bench::new();
    let (mut caller, mut callee) = bench.call(1);
    caller.bind(&mut bench, 0x4000, callee.relayed()).unwrap();
    callee.bind(&mut bench, 0x4000, caller.relayed()).unwrap();
    let mut switch = tandem_relay::server::Switch::new(&mut bench.server, bench.now);
    let mut packet = vec![0; 64];
    packet[32..36].copy_from_slice(&channel_data(0x4000, &[]));
    for learnt in [false, true] {
        let mut forwarded = 0;
        for _ in 0..100_000 {
            let fate = if learnt {
                let verdict = switch.handle(&mut packet.clone(), 32..36, &caller.address, bench.now);
                matches!(verdict, Some(tandem_relay::server::Verdict::Forward { .. }))
            } else {
                matches!(caller.channel(&mut bench, 0x4000, &[]), Fate::Forwarded { .. })
            };
            forwarded += u32::from(fate);
        }
        assert!(forwarded <= 2_000, "{forwarded} at once, learnt: {learnt}");
        bench.pass(10 * SECOND);
        switch.learn(&mut bench.server, &caller.address, bench.now);
    }
}
