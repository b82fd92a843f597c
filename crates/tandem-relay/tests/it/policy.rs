//! The closed policy: a packet goes from one live allocation of a call to the other, and nowhere else.

use std::net::SocketAddr;
use std::time::Duration;

use tandem_proto::grant::GrantTerms;
use tandem_proto::ids::CallTag;
use tandem_proto::leaving;
use tandem_proto::retry_after::RETRY_AFTER;
use tandem_relay::client::ClientAddr;
use tandem_relay::config::Rate;
use tandem_relay::server::{DropReason, Serving};

use stun_types::attribute::{AttributeType, ErrorCode};
use stun_types::message::MessageWrite;
use turn_types::attribute::RequestedTransport;
use turn_types::message::ALLOCATE;

use crate::bench::{
    Bench, Client, Fate, START_UNIX_S, binding_request, channel_data, data_of, fresh_nonce, parsed, request,
    send_indication, terms,
};
use crate::conversation::unwanted_peers;

#[test]
fn no_peer_but_the_partner_can_be_named() {
    let mut bench = Bench::new();
    let (mut caller, callee) = bench.call(1);
    let (stranger, _) = bench.call(2);
    let partner = callee.relayed();
    let mut peers = unwanted_peers();
    peers.extend([
        caller.relayed(),
        caller.address.address(),
        callee.address.address(),
        stranger.relayed(),
        SocketAddr::new("198.18.77.77".parse().unwrap(), partner.port()),
    ]);
    for peer in peers {
        let expected = if peer.is_ipv6() { 443 } else { 403 };
        assert_eq!(caller.permit(&mut bench, peer), Err(expected), "{peer}");
        assert_eq!(caller.bind(&mut bench, 0x4000, peer), Err(expected), "{peer}");
        assert_eq!(caller.send(&mut bench, peer, b"hello"), Fate::Dropped(DropReason::NoPartner), "{peer}");
    }
    let other_port = SocketAddr::new(partner.ip(), 9);
    caller.permit(&mut bench, other_port).expect("permissions are for all ports (RFC 8656 §9)");
    assert_eq!(caller.bind(&mut bench, 0x4000, other_port), Err(403));
    assert_eq!(caller.send(&mut bench, other_port, b"hello"), Fate::Dropped(DropReason::NoPartner));
    assert_eq!(bench.server.stats().packets_forwarded, 0);
}

#[test]
fn without_a_partner_nobody_can_be_named() {
    let mut bench = Bench::new();
    let mut alone = Client::new(1, 1);
    alone.allocate(&mut bench).unwrap();
    let own = alone.relayed();
    for peer in unwanted_peers().into_iter().filter(SocketAddr::is_ipv4).chain([own]) {
        assert_eq!(alone.permit(&mut bench, peer), Err(403), "{peer}");
        assert_eq!(alone.bind(&mut bench, 0x4000, peer), Err(403), "{peer}");
        assert_eq!(alone.send(&mut bench, peer, b"hello"), Fate::Dropped(DropReason::NoPartner), "{peer}");
    }
}

#[test]
fn one_bad_peer_spoils_the_whole_request() {
    use stun_types::message::TransactionId;
    use turn_types::attribute::XorPeerAddress;
    let mut bench = Bench::new();
    let mut caller = Client::new(1, 1);
    let mut callee = Client::new(1, 2);
    caller.allocate(&mut bench).unwrap();
    callee.allocate(&mut bench).unwrap();
    let good = XorPeerAddress::new(callee.relayed(), TransactionId::from(0));
    let bad = XorPeerAddress::new("127.0.0.1:1".parse().unwrap(), TransactionId::from(0));
    let outcome = caller.request(&mut bench, turn_types::message::CREATE_PERMISSION, &[&good, &bad]);
    assert_eq!(outcome, Err(403));
    let fate = caller.send(&mut bench, callee.relayed(), b"x");
    assert_eq!(fate, Fate::Dropped(DropReason::NoPermission));
}

#[test]
fn both_must_permit() {
    let mut bench = Bench::new();
    let mut caller = Client::new(1, 1);
    let mut callee = Client::new(1, 2);
    caller.allocate(&mut bench).unwrap();
    callee.allocate(&mut bench).unwrap();
    assert_eq!(caller.send(&mut bench, callee.relayed(), b"x"), Fate::Dropped(DropReason::NoPermission));
    caller.permit(&mut bench, callee.relayed()).unwrap();
    assert_eq!(caller.send(&mut bench, callee.relayed(), b"x"), Fate::Dropped(DropReason::NoPermission));
    callee.permit(&mut bench, caller.relayed()).unwrap();
    assert!(matches!(caller.send(&mut bench, callee.relayed(), b"x"), Fate::Forwarded { .. }));
}

#[test]
fn data_crosses_in_all_four_forms_and_every_length() {
    let mut bench = Bench::with(|config| config.allocation_rate = None);
    let (mut caller, mut callee) = bench.call(1);
    for length in (0..=9).chain([160, 161, 1_199, 1_200]) {
        let data: Vec<u8> = (0..length).map(|i| i as u8).collect();
        let Fate::Forwarded { to, bytes } = caller.send(&mut bench, callee.relayed(), &data) else {
            panic!()
        };
        assert_eq!((to, data_of(&bytes)), (callee.address, (caller.relayed(), data)));
    }
    callee.bind(&mut bench, 0x4abc, caller.relayed()).unwrap();
    for length in [0, 1, 2, 3, 4, 160, 1_201] {
        let data = vec![7; length];
        let Fate::Forwarded { to, bytes } = caller.send(&mut bench, callee.relayed(), &data) else {
            panic!()
        };
        assert_eq!((to, bytes), (callee.address, channel_data(0x4abc, &data)), "Send to ChannelData");
        let Fate::Forwarded { to, bytes } = callee.channel(&mut bench, 0x4abc, &data) else { panic!() };
        assert_eq!((to, data_of(&bytes)), (caller.address, (callee.relayed(), data)), "ChannelData to Data");
    }
    caller.bind(&mut bench, 0x7ffe, callee.relayed()).unwrap();
    let Fate::Forwarded { to, bytes } = callee.channel(&mut bench, 0x4abc, b"voice") else { panic!() };
    assert_eq!((to, bytes), (caller.address, channel_data(0x7ffe, b"voice")));
    assert_eq!(callee.channel(&mut bench, 0x4abd, b"voice"), Fate::Dropped(DropReason::NoChannel));
    let outsider = Client::new(9, 9);
    assert_eq!(outsider.channel(&mut bench, 0x4abc, b"voice"), Fate::Dropped(DropReason::NoAllocation));
}

#[test]
fn over_a_stream_channel_data_is_padded_and_over_udp_not() {
    let mut bench = Bench::new();
    let mut caller =
        Client::with_terms(&terms(1, 1), ClientAddr::tcp("[2001:db8::7]:4000".parse().unwrap(), 0));
    let mut callee = Client::new(1, 2);
    caller.allocate(&mut bench).unwrap();
    callee.allocate(&mut bench).unwrap();
    caller.bind(&mut bench, 0x4000, callee.relayed()).unwrap();
    callee.bind(&mut bench, 0x4001, caller.relayed()).unwrap();
    let Fate::Forwarded { to, bytes } = callee.channel(&mut bench, 0x4001, b"12345") else { panic!() };
    assert_eq!((to, bytes), (caller.address, [channel_data(0x4000, b"12345"), vec![0; 3]].concat()));
    let padded = [channel_data(0x4000, b"12345"), vec![9; 3]].concat();
    let Fate::Forwarded { bytes, .. } = bench.packet(&padded, caller.address) else { panic!() };
    assert_eq!(bytes, channel_data(0x4001, b"12345"), "padding is not passed on");
}

#[test]
fn a_third_device_is_refused_and_one_that_moves_keeps_its_address() {
    let mut bench = Bench::new();
    let (caller, mut callee) = bench.call(1);
    assert_eq!(Client::new(1, 3).allocate(&mut bench), Err(486));

    let mut again = caller.restarted(6_000);
    again.allocate(&mut bench).unwrap();
    assert_eq!(bench.server.stats().allocations, 2);
    assert_eq!(again.relayed(), caller.relayed(), "the other end needs to learn nothing");
    // Until the newer one joins, the older one has it.
    assert_eq!(caller.clone().refresh(&mut bench, 600), Ok(600));
    let to_caller = |bench: &mut Bench, callee: &mut Client| match callee.send(bench, caller.relayed(), b"x")
    {
        Fate::Forwarded { to, .. } => to,
        fate => panic!("{fate:?}"),
    };
    assert_eq!(to_caller(&mut bench, &mut callee), caller.address);
    again.bind(&mut bench, 0x4000, callee.relayed()).unwrap();
    assert_eq!(to_caller(&mut bench, &mut callee), again.address);
    assert_eq!(caller.clone().refresh(&mut bench, 600), Err(437), "the older one has nothing any more");
    let sent = |bench: &mut Bench, by: &Client| by.clone().send(bench, callee.relayed(), b"x");
    assert!(matches!(sent(&mut bench, &caller), Fate::Forwarded { .. }), "what was on its way is carried");
    bench.pass(Duration::from_secs(6));
    assert_eq!(sent(&mut bench, &caller), Fate::Dropped(DropReason::NoAllocation), "for a moment only");
    assert!(matches!(sent(&mut bench, &again), Fate::Forwarded { .. }));
    assert_eq!(bench.server.stats().allocations, 2);
}

#[test]
fn nobody_but_the_device_itself_moves_its_allocation() {
    let mut bench = Bench::new();
    let (caller, mut callee) = bench.call(1);
    let mut thief =
        Client::with_password(caller.username.clone(), "guessed".to_owned(), Client::new(1, 9).address);
    assert_eq!(thief.allocate(&mut bench), Err(401));
    let stolen = caller.signed_as(7.into(), ALLOCATE, &[&RequestedTransport::new(RequestedTransport::UDP)]);
    assert_eq!(thief.exchange(&mut bench, &stolen), Err(438), "a nonce is good for one address");
    let fate = callee.send(&mut bench, caller.relayed(), b"x");
    assert!(matches!(fate, Fate::Forwarded { to, .. } if to == caller.address));
}

#[test]
fn a_claim_that_is_given_up_changes_nothing_and_only_the_newest_counts() {
    let mut bench = Bench::new();
    let (mut caller, mut callee) = bench.call(1);
    for port in 6_000..6_100 {
        caller.restarted(port).allocate(&mut bench).unwrap();
    }
    let mut last = caller.restarted(7_000);
    last.allocate(&mut bench).unwrap();
    assert_eq!(bench.server.stats().allocations, 2, "claims take no room");
    assert_eq!(caller.restarted(6_050).bind(&mut bench, 0x4000, callee.relayed()), Err(437));
    assert_eq!(last.refresh(&mut bench, 0), Ok(0));
    let fate = callee.send(&mut bench, caller.relayed(), b"x");
    assert!(matches!(fate, Fate::Forwarded { to, .. } if to == caller.address));
    // And the older one may go before the newer one has joined.
    let mut next = caller.restarted(7_001);
    next.allocate(&mut bench).unwrap();
    assert_eq!(caller.refresh(&mut bench, 0), Ok(0));
    next.bind(&mut bench, 0x4001, callee.relayed()).unwrap();
    let fate = callee.send(&mut bench, next.relayed(), b"x");
    assert!(matches!(fate, Fate::Forwarded { to, .. } if to == next.address));
    assert_eq!(next.refresh(&mut bench, 0), Ok(0));
    assert_eq!(callee.refresh(&mut bench, 0), Ok(0));
    assert_eq!(bench.server.stats().allocations, 0);
}

#[test]
fn a_full_network_and_a_draining_relay_still_let_an_allocation_move() {
    let mut bench = Bench::with(|config| config.allocations_per_source_max = 1);
    let (caller, callee) = bench.call(1);
    bench.server.set_serving(Serving::Draining, bench.now);
    for round in 0..5 {
        let mut again = caller.restarted(6_000 + round);
        again.allocate(&mut bench).unwrap();
        again.bind(&mut bench, 0x4000, callee.relayed()).unwrap();
    }
    assert_eq!(bench.server.stats().allocations, 2);
}

#[test]
fn one_device_cannot_talk_to_itself() {
    let mut bench = Bench::new();
    let mut one = Client::new(1, 1);
    one.allocate(&mut bench).unwrap();
    let mut two = one.restarted(6_000);
    two.allocate(&mut bench).unwrap();
    assert_eq!(bench.server.stats().allocations, 1);
    assert_eq!(bench.server.stats().calls, 0);
}

#[test]
fn calls_are_apart_whatever_else_they_share() {
    let mut bench = Bench::new();
    let (mut caller, _callee) = bench.call(1);
    // The same two devices in another call.
    let other = GrantTerms { tag: CallTag([9; 16]), ..terms(1, 2) };
    let mut same_device = Client::with_terms(&other, ClientAddr::udp("10.9.9.9:1".parse().unwrap(), 0));
    same_device.allocate(&mut bench).unwrap();
    assert_eq!(caller.permit(&mut bench, same_device.relayed()), Err(403));
    assert_eq!(same_device.permit(&mut bench, caller.relayed()), Err(403));
}

#[test]
fn limits_hold_for_the_relay_and_for_a_network() {
    let mut bench = Bench::with(|config| {
        config.allocations_max = 3;
        config.allocations_per_source_max = 2;
    });
    // Ports of one address are one network.
    let neighbour = |call: u8| {
        let address = ClientAddr::udp(SocketAddr::from(([192, 0, 2, call], 5_000)), 0);
        Client::with_terms(&terms(call, 1), address)
    };
    let mut first = neighbour(1);
    first.allocate(&mut bench).unwrap();
    neighbour(2).allocate(&mut bench).unwrap();
    assert_eq!(neighbour(3).allocate(&mut bench), Err(486));
    Client::new(4, 1).allocate(&mut bench).unwrap();
    assert_eq!(Client::new(5, 1).allocate(&mut bench), Err(508));
    first.restarted(6_000).allocate(&mut bench).expect("replacing itself takes no room");
    assert_eq!(bench.server.stats().allocations, 3);
    assert_eq!(bench.server.stats().allocations_refused, 2);
}

/// Asks for an allocation, and returns how long to stay away as the refusal has it: the attribute's bytes.
fn refusal(bench: &mut Bench, mut client: Client) -> Option<Vec<u8>> {
    client.nonce = fresh_nonce(bench, client.address);
    let asked = client.signed(ALLOCATE, &[&RequestedTransport::new(RequestedTransport::UDP)]);
    let Fate::Replied(reply) = bench.packet(&asked, client.address) else { panic!("no answer") };
    let message = parsed(&reply);
    assert!(message.attribute::<ErrorCode>().is_ok(), "refused");
    message.raw_attribute(AttributeType::new(RETRY_AFTER)).map(|raw| raw.to_bytes().to_vec())
}

#[test]
fn who_is_full_says_when_to_ask_again() {
    let hint = |seconds: u8| Some(vec![0xc7, 0xd2, 0, 4, 0, 0, 0, seconds]);
    let with_time = |call, device| {
        let terms = GrantTerms { not_after_s: START_UNIX_S + 10_000, ..terms(call, device) };
        Client::with_terms(&terms, Client::new(call, device).address)
    };
    let mut bench = Bench::with(|config| config.allocations_max = 1);
    Client::new(1, 1).allocate(&mut bench).unwrap();
    assert_eq!(refusal(&mut bench, with_time(2, 1)), hint(60), "the longest");
    bench.pass(Duration::from_secs(570));
    assert_eq!(refusal(&mut bench, with_time(2, 2)), hint(30), "when the next one ends");
    bench.pass(Duration::from_secs(28));
    let soon = hint(5);
    assert_eq!(refusal(&mut bench, with_time(2, 3)), soon, "the shortest");
    let text: String = soon.unwrap().iter().map(|byte| format!("{byte:02x} ")).collect();
    assert!(include_str!("../../../../spec/relay.md").contains(text.trim()), "{text}");

    bench.server.set_serving(Serving::Draining, bench.now);
    assert_eq!(refusal(&mut bench, with_time(2, 4)), Some(vec![0xc7, 0xd2, 0, 4, 0, 0, 2, 88]));
    bench.server.set_serving(Serving::Open, bench.now);
    bench.server.set_limits(10, None);
    with_time(3, 1).allocate(&mut bench).unwrap();
    with_time(3, 2).allocate(&mut bench).unwrap();
    assert_eq!(refusal(&mut bench, with_time(3, 9)), None, "waiting does not help a third device");
}

#[test]
fn draining_refuses_the_new_and_keeps_the_old() {
    let mut bench = Bench::new();
    let (mut caller, callee) = bench.call(1);
    bench.server.set_serving(Serving::Draining, bench.now);
    assert_eq!(Client::new(2, 1).allocate(&mut bench), Err(508));
    assert_eq!(caller.refresh(&mut bench, 600), Ok(600));
    caller.permit(&mut bench, callee.relayed()).unwrap();
    assert!(matches!(caller.send(&mut bench, callee.relayed(), b"x"), Fate::Forwarded { .. }));
    bench.server.set_serving(Serving::Open, bench.now);
    Client::new(2, 1).allocate(&mut bench).unwrap();
}

#[test]
fn in_standby_it_answers_binding_and_nothing_else() {
    let mut bench = Bench::new();
    let (mut caller, callee) = bench.call(1);
    bench.server.set_serving(Serving::Standby, bench.now);
    assert_eq!(bench.server.stats().allocations, 0, "nothing is left of what was");
    assert!(matches!(caller.send(&mut bench, callee.relayed(), b"x"), Fate::Dropped(_)));
    let from = Client::new(2, 1).address;
    let allocate = request(ALLOCATE, 5.into()).finish();
    assert!(matches!(bench.packet(&allocate, from), Fate::Dropped(DropReason::NotForUs)));
    assert!(matches!(bench.packet(&binding_request(), from), Fate::Replied(_)));
    bench.server.set_serving(Serving::Open, bench.now);
    Client::new(2, 1).allocate(&mut bench).unwrap();
}

#[test]
fn a_relay_that_drains_tells_its_clients_and_nobody_else() {
    let mut bench = Bench::new();
    let (caller, callee) = bench.call(1);
    assert_eq!(bench.server.poll_notice(), None);
    bench.server.set_serving(Serving::Draining, bench.now);
    for round in 0..3 {
        assert_eq!(bench.server.poll_timeout(), Some(bench.now), "round {round}");
        bench.server.handle_timeout(bench.now);
        let mut told: Vec<_> = std::iter::from_fn(|| bench.server.poll_notice()).collect();
        assert!(told.iter().all(|(_, notice)| leaving::is_notice(notice)));
        assert_ne!(told[0].1, told[1].1, "each has a transaction id of its own");
        told.sort_by_key(|(client, _)| *client);
        let mut clients = [caller.address, callee.address];
        clients.sort();
        assert_eq!(told.iter().map(|(client, _)| *client).collect::<Vec<_>>(), clients);
        // Asked to drain again: no reason to tell it more often.
        bench.server.set_serving(Serving::Draining, bench.now);
        bench.server.handle_timeout(bench.now);
        assert_eq!(bench.server.poll_notice(), None);
        bench.now += Duration::from_secs(1);
    }
    bench.server.set_serving(Serving::Open, bench.now);
    bench.server.handle_timeout(bench.now);
    assert_eq!(bench.server.poll_notice(), None);
}

#[test]
fn all_calls_together_keep_to_the_owners_rate() {
    let mut bench = Bench::with(|config| config.total_rate = Some(Rate::of_bits(80_000)));
    let calls: Vec<_> = (1..=4).map(|call| bench.call(call)).collect();
    let mut forwarded = 0;
    let mut dropped = 0;
    // Four calls, both ways, 100 bytes each 20 ms: 40,000 bytes a second where 10,000 are given.
    for _ in 0..500 {
        bench.pass(Duration::from_millis(20));
        for (caller, callee) in &calls {
            for (mut from, to) in [(caller.clone(), callee), (callee.clone(), caller)] {
                match from.send(&mut bench, to.relayed(), &[0; 100]) {
                    Fate::Forwarded { .. } => forwarded += 100,
                    fate => {
                        assert_eq!(fate, Fate::Dropped(DropReason::TotalRate));
                        dropped += 1;
                    }
                }
            }
        }
    }
    // Ten seconds' worth and one second of burst.
    assert!((105_000..=110_000).contains(&forwarded), "{forwarded}");
    assert_eq!(bench.server.stats().bytes_forwarded, forwarded);
    assert_eq!(bench.server.stats().dropped_for(DropReason::TotalRate), dropped);
}

#[test]
fn the_owner_sees_who_is_there() {
    let mut bench = Bench::new();
    let (mut caller, callee) = bench.call(1);
    caller.send(&mut bench, callee.relayed(), &[0; 100]);
    let rows: Vec<_> = bench.server.allocations().collect();
    assert_eq!(rows.len(), 2);
    let row = rows.iter().find(|row| row.client == caller.address).unwrap();
    assert_eq!((row.tag, row.device, row.paired), (terms(1, 1).tag, Some(terms(1, 1).device), true));
    assert_eq!((row.bytes_in, row.bytes_out), (100, 0));
    assert_eq!(bench.server.stats().calls, 1);
    assert_eq!(bench.server.stats().bytes_forwarded, 100);
}

#[test]
fn send_indications_may_put_the_data_first() {
    use stun_types::message::{Message, MessageClass, MessageType, MessageWriteVec, TransactionId};
    use stun_types::prelude::*;
    use turn_types::attribute::{Data, XorPeerAddress};
    let mut bench = Bench::new();
    let (caller, callee) = bench.call(1);
    let transaction = TransactionId::from(4);
    let send = MessageType::from_class_method(MessageClass::Indication, turn_types::message::SEND);
    let mut message = Message::builder(send, transaction, MessageWriteVec::new());
    message.add_attribute(&Data::new(b"first")).unwrap();
    message.add_attribute(&XorPeerAddress::new(callee.relayed(), transaction)).unwrap();
    let Fate::Forwarded { bytes, .. } = bench.packet(&message.finish(), caller.address) else { panic!() };
    assert_eq!(data_of(&bytes), (caller.relayed(), b"first".to_vec()));
    let ok = send_indication(transaction, callee.relayed(), b"x");
    assert!(matches!(bench.packet(&ok, caller.address), Fate::Forwarded { .. }));
}
