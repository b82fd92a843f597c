//! Binding, authentication, Allocate, Refresh, CreatePermission, ChannelBind: what the standards ask.

use std::net::SocketAddr;
use std::time::Duration;

use stun_types::attribute::{AttributeType, ErrorCode, RawAttribute, UnknownAttributes, XorMappedAddress};
use stun_types::message::{IntegrityAlgorithm, Message, Method};
use stun_types::prelude::*;
use tandem_proto::grant::{GrantTerms, RestSecret};
use tandem_proto::ids::ServiceKey;
use tandem_relay::client::ClientAddr;
use tandem_relay::config::Config;
use tandem_relay::server::DropReason;
use turn_types::AddressFamily;
use turn_types::attribute::{
    AdditionalAddressFamily, AddressErrorCode, DontFragment, EvenPort, Lifetime, RequestedAddressFamily,
    RequestedTransport, ReservationToken,
};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH};

use crate::bench::{
    Bench, Client, Fate, START_UNIX_S, binding_request, channel_data, fresh_nonce, relayed_of, request, terms,
};

#[test]
fn binding_tells_the_reflexive_address_and_little_else() {
    let mut bench = Bench::new();
    for (address, length) in [("192.0.2.5:4000", 32), ("[2001:db8::5]:4000", 44)] {
        let from: SocketAddr = address.parse().unwrap();
        let Fate::Replied(reply) = bench.packet(&binding_request(), ClientAddr::udp(from, 0)) else {
            panic!()
        };
        let message = Message::from_bytes(&reply).unwrap();
        assert_eq!(message.attribute::<XorMappedAddress>().unwrap().addr(message.transaction_id()), from);
        assert_eq!(reply.len(), length);
    }
    assert_eq!(bench.server.stats().bindings, 2);
}

#[test]
fn a_fingerprint_is_answered_with_a_fingerprint() {
    let mut bench = Bench::new();
    let mut message = request(stun_types::message::BINDING, 9.into());
    message.add_fingerprint().unwrap();
    let Fate::Replied(reply) = bench.packet(&message.finish(), Client::new(1, 1).address) else { panic!() };
    assert!(Message::from_bytes(&reply).unwrap().has_attribute(stun_types::attribute::Fingerprint::TYPE));
}

#[test]
fn the_challenge_is_short() {
    let mut bench = Bench::new();
    let client = Client::new(1, 1);
    let Fate::Replied(reply) = bench.packet(&request(ALLOCATE, 1.into()).finish(), client.address) else {
        panic!()
    };
    assert!(reply.len() <= 60, "{} bytes", reply.len());
}

#[test]
fn strangers_get_a_bounded_number_of_answers() {
    let mut bench = Bench::with(|config| config.stranger_rate.burst = 10);
    let client = Client::new(1, 1);
    let answers = |bench: &mut Bench| {
        let replied = |_: &u32| matches!(bench.packet(&binding_request(), client.address), Fate::Replied(_));
        (0..100).filter(replied).count()
    };
    assert_eq!(answers(&mut bench), 10);
    assert_eq!(bench.server.stats().dropped_for(DropReason::StrangerLimit), 90);
    bench.pass(Duration::from_secs(1));
    assert_eq!(answers(&mut bench), 10);
    // Another network is not affected.
    fresh_nonce(&mut bench, Client::new(2, 2).address);
}

#[test]
fn wrong_credentials_draw_a_challenge_and_nothing_is_allocated() {
    let mut bench = Bench::new();
    let right = Client::new(1, 1);
    let with = |change: fn(&mut Client)| {
        let mut client = right.clone();
        change(&mut client);
        client
    };
    let elsewhere = GrantTerms { relay: ServiceKey([1; 32]), ..terms(1, 1) };
    let expired = GrantTerms { not_after_s: START_UNIX_S - 1, ..terms(1, 1) };
    let wrong = [
        with(|client| client.password.push('x')),
        with(|client| client.username = client.username.replace("100000000", "999999999")),
        with(|client| "nonsense".clone_into(&mut client.username)),
        with(|client| "elsewhere".clone_into(&mut client.realm)),
        Client::with_terms(&elsewhere, right.address),
        Client::with_terms(&expired, right.address),
    ];
    for mut client in wrong {
        assert_eq!(client.allocate(&mut bench), Err(401), "{client:?}");
    }
    assert_eq!(bench.server.stats().allocations, 0);
}

#[test]
fn credentials_without_all_their_parts_are_a_bad_request() {
    let mut bench = Bench::new();
    let mut client = Client::new(1, 1);
    let mut message = request(ALLOCATE, client.next_transaction());
    let key = stun_types::message::ShortTermCredentials::new("x".to_owned()).into();
    message.add_message_integrity(&key, IntegrityAlgorithm::Sha1).unwrap();
    assert_eq!(client.exchange(&mut bench, &message.finish()), Err(400));
}

#[test]
fn a_stale_or_foreign_nonce_is_refused_with_438() {
    let mut bench = Bench::with(|config| config.nonce_lifetime = Duration::from_secs(30));
    let mut client = Client::new(1, 1);
    client.allocate(&mut bench).unwrap();
    bench.pass(Duration::from_secs(31));
    let bytes = client.signed(REFRESH, &[]);
    assert_eq!(client.exchange(&mut bench, &bytes), Err(438));
    assert_eq!(client.refresh(&mut bench, 600), Ok(600), "with the fresh nonce it goes on");

    client.nonce = fresh_nonce(&mut bench, Client::new(1, 2).address);
    let bytes = client.signed(REFRESH, &[]);
    assert_eq!(client.exchange(&mut bench, &bytes), Err(438), "another client's nonce");
}

#[test]
fn sha256_is_understood_and_answered_in_kind() {
    let mut bench = Bench::new();
    let mut client = Client::new(1, 1);
    client.algorithm = IntegrityAlgorithm::Sha256;
    let reply = client.allocate(&mut bench).unwrap();
    let message = Message::from_bytes(&reply).unwrap();
    assert!(message.has_attribute(stun_types::attribute::MessageIntegritySha256::TYPE));
}

#[test]
fn allocate_answers_with_what_the_standard_lists() {
    let mut bench = Bench::new();
    let mut client = Client::new(1, 1);
    let reply = client.allocate(&mut bench).unwrap();
    let message = Message::from_bytes(&reply).unwrap();
    assert_eq!(message.attribute::<Lifetime>().unwrap().seconds(), 600);
    let mapped = message.attribute::<XorMappedAddress>().unwrap().addr(message.transaction_id());
    assert_eq!(mapped, client.address.address());
}

#[test]
fn a_retransmitted_allocate_gets_the_same_answer_and_another_one_437() {
    let mut bench = Bench::new();
    let mut client = Client::new(1, 1);
    client.nonce = fresh_nonce(&mut bench, client.address);
    let bytes = client.signed(ALLOCATE, &[&RequestedTransport::new(RequestedTransport::UDP)]);
    let first = client.exchange(&mut bench, &bytes).unwrap();
    assert_eq!(client.exchange(&mut bench, &bytes).unwrap(), first);
    assert_eq!(bench.server.stats().allocations_made, 1);
    assert_eq!(client.allocate(&mut bench), Err(437));
}

#[test]
fn allocate_refuses_what_this_relay_has_not() {
    let mut bench = Bench::new();
    let mut client = Client::new(1, 1);
    assert_eq!(client.request(&mut bench, ALLOCATE, &[]), Err(400));
    let tcp = RequestedTransport::new(RequestedTransport::TCP);
    assert_eq!(client.request(&mut bench, ALLOCATE, &[&tcp]), Err(442));

    let (ipv4, ipv6) = (AddressFamily::IPV4, AddressFamily::IPV6);
    let token = ReservationToken::new(7);
    let cases: &[(&[&dyn AttributeWrite], u16)] = &[
        (&[&RequestedAddressFamily::new(ipv6)], 440),
        (&[&RawAttribute::new(RequestedAddressFamily::TYPE, &[9, 0, 0, 0])], 440),
        (&[&EvenPort::new(true)], 508),
        (&[&token], 508),
        (&[&token, &EvenPort::new(false)], 400),
        (&[&token, &RequestedAddressFamily::new(ipv4)], 400),
        (&[&RequestedAddressFamily::new(ipv4), &AdditionalAddressFamily::new(ipv6)], 400),
        (&[&RawAttribute::new(AdditionalAddressFamily::TYPE, &[1, 0, 0, 0])], 400),
    ];
    for (attributes, code) in cases {
        assert_eq!(client.allocate_with(&mut bench, attributes), Err(*code));
    }
    assert_eq!(bench.server.stats().allocations, 0);
}

#[test]
fn allocate_grants_what_it_can() {
    let mut bench = Bench::new();
    let ipv4 = RequestedAddressFamily::new(AddressFamily::IPV4);
    Client::new(1, 1).allocate_with(&mut bench, &[&ipv4, &DontFragment::new()]).unwrap();
    Client::new(2, 1).allocate_with(&mut bench, &[&EvenPort::new(false)]).unwrap();

    let both = AdditionalAddressFamily::new(AddressFamily::IPV6);
    let reply = Client::new(3, 1).allocate_with(&mut bench, &[&both]).unwrap();
    let message = Message::from_bytes(&reply).unwrap();
    assert_eq!(message.attribute::<AddressErrorCode>().unwrap().error().code(), 440);
    relayed_of(&reply);
}

#[test]
fn unknown_attributes_are_named() {
    let mut bench = Bench::new();
    let mut client = Client::new(1, 1);
    client.nonce = fresh_nonce(&mut bench, client.address);
    let foreign = AttributeType::new(0x7777);
    let bytes = client.signed(ALLOCATE, &[&RawAttribute::new(foreign, &[1, 2, 3, 4])]);
    let Fate::Replied(reply) = bench.packet(&bytes, client.address) else { panic!() };
    let message = Message::from_bytes(&reply).unwrap();
    assert_eq!(message.attribute::<ErrorCode>().unwrap().code(), 420);
    assert!(message.attribute::<UnknownAttributes>().unwrap().has_attribute(foreign));
}

#[test]
fn methods_of_tcp_relaying_are_ignored() {
    let mut bench = Bench::new();
    let bytes = request(turn_types::message::CONNECT, 1.into()).finish();
    assert_eq!(bench.packet(&bytes, Client::new(1, 1).address), Fate::Dropped(DropReason::NotForUs));
}

#[test]
fn requests_need_an_allocation_and_the_name_that_made_it() {
    let mut bench = Bench::new();
    let (mut caller, callee) = bench.call(1);
    let methods: [Method; 3] = [REFRESH, CREATE_PERMISSION, CHANNEL_BIND];
    for method in methods {
        assert_eq!(Client::new(3, 3).request(&mut bench, method, &[]), Err(437));
    }
    let mut thief = Client::with_password(callee.username.clone(), callee.password.clone(), caller.address);
    for method in methods {
        assert_eq!(thief.request(&mut bench, method, &[]), Err(441));
    }
    let ipv6 = RequestedAddressFamily::new(AddressFamily::IPV6);
    assert_eq!(caller.request(&mut bench, REFRESH, &[&ipv6]), Err(443));
    assert_eq!(caller.refresh(&mut bench, 0), Ok(0));
    assert_eq!(caller.refresh(&mut bench, 0), Err(437));
}

#[test]
fn channel_numbers_and_peers_are_bound_one_to_one() {
    let mut bench = Bench::new();
    let (mut caller, callee) = bench.call(1);
    for number in [0x0000, 0x3fff, 0x8000, 0xffff] {
        assert_eq!(caller.bind(&mut bench, number, callee.relayed()), Err(400), "{number:#x}");
    }
    for (call, number) in [0x4000, 0x4fff, 0x5000, 0x7ffe, 0x7fff].into_iter().enumerate() {
        let (mut caller, mut callee) = bench.call(10 + call as u8);
        callee.bind(&mut bench, 0x4000, caller.relayed()).unwrap();
        caller.bind(&mut bench, number, callee.relayed()).unwrap();
        let Fate::Forwarded { to, bytes } = callee.channel(&mut bench, 0x4000, b"x") else { panic!() };
        assert_eq!((to, bytes), (caller.address, channel_data(number, b"x")));
        assert!(matches!(caller.channel(&mut bench, number, b"x"), Fate::Forwarded { .. }), "{number:#x}");
    }
    caller.bind(&mut bench, 0x4000, callee.relayed()).unwrap();
    caller.bind(&mut bench, 0x4000, callee.relayed()).unwrap();
    assert_eq!(caller.bind(&mut bench, 0x4001, callee.relayed()), Err(400));
    assert_eq!(caller.request(&mut bench, CHANNEL_BIND, &[]), Err(400));
    assert_eq!(caller.request(&mut bench, CREATE_PERMISSION, &[]), Err(400));
}

#[test]
fn rest_credentials_pair_by_suffix_and_a_probe_makes_room() {
    let secret = RestSecret::new("shared");
    let mut bench = Bench::from_config(Config::for_rest_secret(secret.clone()));
    let username = format!("{}:alice", START_UNIX_S + 60);
    let client = |port| {
        let address = ClientAddr::udp(SocketAddr::from(([127, 0, 0, 1], port)), 0);
        Client::with_password(username.clone(), secret.password(&username), address)
    };
    let (mut probe, mut one, mut two, mut three) = (client(1), client(2), client(3), client(4));
    for client in [&mut probe, &mut one, &mut two] {
        client.allocate(&mut bench).unwrap();
        bench.pass(Duration::from_millis(10));
    }
    assert_eq!(probe.refresh(&mut bench, 600), Err(437), "the oldest that never permitted anybody went");
    one.permit(&mut bench, two.relayed()).unwrap();
    two.permit(&mut bench, one.relayed()).unwrap();
    assert_eq!(three.allocate(&mut bench), Err(486), "a call is two");
    bench.pass(Duration::from_secs(31));
    three.allocate(&mut bench).expect("one that has been silent for long makes room too");
}
