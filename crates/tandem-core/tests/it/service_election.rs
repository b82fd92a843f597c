//! What candidates and reserves ask of a supernode: checks, notices, questions for the load.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use proptest::prelude::*;
use tandem_core::election::Carrier;
use tandem_core::service::{Check, CheckOutcome, ClientRef, Command};
use tandem_proto::identity::ServiceSecret;
use tandem_proto::ids::ServiceKey;
use tandem_proto::multiaddr::TransportAddress;
use tandem_proto::names::FailureCode;
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{CheckRequest, LoadRequest, ReserveNotice};

use crate::service::{Bench, failure, own_secret};

const CANDIDATE: ServiceKey = ServiceKey([0xca; 32]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// An address of its own /24 for each.
fn elsewhere(n: u64) -> IpAddr {
    let [.., high, low] = n.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(50, high, low, 1))
}

fn request() -> CheckRequest {
    CheckRequest { service: CANDIDATE.0.to_vec(), carrier: 1, port: 40_000, relay_port: 40_001 }
}

fn notice(addresses: &[&str]) -> ReserveNotice {
    let bytes = |text: &&str| text.parse::<TransportAddress>().unwrap().to_bytes();
    ReserveNotice { service: CANDIDATE.0.to_vec(), addresses: addresses.iter().map(bytes).collect() }
}

/// Asks for a check; what it wants tried.
fn check(bench: &mut Bench, client: ClientRef, request: CheckRequest) -> Option<Check> {
    let answer = bench.ask(client, Body::CheckRequest(request));
    assert_eq!(answer, None, "it answers when it has tried");
    checks(bench).pop()
}

fn checks(bench: &mut Bench) -> Vec<Check> {
    let commands = bench.take().into_iter();
    commands
        .filter_map(|command| if let Command::Check(check) = command { Some(check) } else { None })
        .collect()
}

/// Announces; the number to answer it by.
fn announced(bench: &mut Bench) -> Option<(u64, ServiceKey, u32)> {
    bench.take().into_iter().find_map(|command| match command {
        Command::Announced { id, service, network } => Some((id, service, network)),
        _ => None,
    })
}

fn is_busy(answer: &Option<Body>) -> bool {
    matches!(answer, Some(Body::Busy(_)))
}

// ---- checks -------------------------------------------------------------------------------------------------------

#[test]
fn a_check_dials_where_the_question_came_from() {
    for (remote, carrier) in [("192.0.2.7", 1), ("2001:db8::7", 2), ("::ffff:192.0.2.7", 1)] {
        let mut bench = Bench::new(|_| {});
        let client = bench.device_at(1, ip(remote));
        let relay_port = if carrier == 1 { 40_001 } else { 0 };
        let tried = check(&mut bench, client, CheckRequest { carrier, relay_port, ..request() }).unwrap();
        assert_eq!(tried.at, SocketAddr::new(ip(remote).to_canonical(), 40_000));
        assert_eq!(tried.service, CANDIDATE);
        assert_eq!(tried.carrier, if carrier == 1 { Carrier::Udp } else { Carrier::Tcp });
        assert_eq!(tried.relay_port, (carrier == 1).then_some(40_001));
        bench.service.handle_checked(tried.id, CheckOutcome::Reached, bench.now);
        let sent = bench.sent(client);
        assert!(matches!(&sent[..], [Body::Checked(checked)] if checked.reached), "{sent:?}");
        bench.service.handle_checked(tried.id, CheckOutcome::Reached, bench.now);
        assert!(bench.sent(client).is_empty(), "each question has one answer");
    }
}

#[test]
fn what_was_not_reached_says_why_and_what_was_not_tried_says_nothing_of_it() {
    let mut bench = Bench::new(|_| {});
    let client = bench.device_at(1, ip("192.0.2.7"));
    let tried = check(&mut bench, client, request()).unwrap();
    let reason = "ü".repeat(500);
    bench.service.handle_checked(tried.id, CheckOutcome::NotReached(reason), bench.now);
    let sent = bench.sent(client);
    let [Body::Checked(checked)] = &sent[..] else { panic!("{sent:?}") };
    assert!(!checked.reached && checked.detail.len() == 200);
    let tried = check(&mut bench, client, request()).unwrap();
    bench.service.handle_checked(tried.id, CheckOutcome::NotTried, bench.now);
    let sent = bench.sent(client);
    assert!(matches!(&sent[..], [Body::Busy(busy)] if busy.retry_after_ms >= 60_000), "{sent:?}");
}

#[test]
fn a_check_that_the_driver_forgets_is_answered_all_the_same() {
    let mut bench = Bench::new(|_| {});
    let client = bench.device_at(1, ip("192.0.2.7"));
    let tried = check(&mut bench, client, request()).unwrap();
    bench.wait(11_000);
    assert!(matches!(bench.sent(client)[..], [Body::Busy(_)]));
    bench.service.handle_checked(tried.id, CheckOutcome::Reached, bench.now);
    assert!(bench.sent(client).is_empty());
}

#[test]
fn malformed_checks_are_refused_and_nothing_is_dialled() {
    let bad = [
        CheckRequest { service: vec![1; 31], ..request() },
        CheckRequest { service: vec![1; 10_000], ..request() },
        CheckRequest { carrier: 0, ..request() },
        CheckRequest { carrier: 3, ..request() },
        CheckRequest { port: 0, ..request() },
        CheckRequest { port: 22, ..request() },
        CheckRequest { port: 65_536, ..request() },
        CheckRequest { port: u32::MAX, ..request() },
        CheckRequest { relay_port: 53, ..request() },
        CheckRequest { relay_port: 40_000, ..request() },
        CheckRequest { relay_port: 70_000, ..request() },
        CheckRequest { carrier: 2, ..request() },
        CheckRequest::default(),
    ];
    let mut bench = Bench::new(|_| {});
    for (client, bad) in (1..).zip(bad) {
        let client = bench.device_at(client, elsewhere(client));
        let answer = bench.ask(client, Body::CheckRequest(bad.clone()));
        assert_eq!(failure(answer), FailureCode::Malformed, "{bad:?}");
        assert!(checks(&mut bench).is_empty());
    }
}

#[test]
fn nobody_who_has_no_address_is_dialled() {
    let mut bench = Bench::new(|_| {});
    let client = ClientRef(1);
    bench.service.handle_opened(client, [1; 32], None, false, bench.now);
    bench.service.handle_frame(client, crate::service::hello(1, 1, bench.now), bench.now);
    bench.take();
    assert!(is_busy(&bench.ask(client, Body::CheckRequest(request()))));
    assert!(checks(&mut bench).is_empty());
}

#[test]
fn two_checks_of_an_address_are_under_way_and_sixteen_in_all_however_often_askers_reconnect() {
    let mut bench = Bench::new(|_| {});
    let mut begun = Vec::new();
    for client in 0..20 {
        let asker = bench.device_at(client, ip("192.0.2.7"));
        bench.ask(asker, Body::CheckRequest(request()));
        begun.extend(checks(&mut bench));
        bench.service.handle_closed(asker, bench.now);
    }
    assert_eq!(begun.len(), 2, "of one address");
    for client in 100..200 {
        let asker = bench.device_at(client, elsewhere(client));
        bench.ask(asker, Body::CheckRequest(request()));
        begun.extend(checks(&mut bench));
    }
    assert_eq!(begun.len(), 16, "in all");
    bench.service.handle_checked(begun[0].id, CheckOutcome::Reached, bench.now);
    let next = bench.device_at(300, elsewhere(300));
    assert!(check(&mut bench, next, request()).is_some());
}

#[test]
fn a_flood_of_checks_is_held_to_its_rates_and_calls_go_on() {
    let mut bench = Bench::new(|_| {});
    let (mut tried, mut granted) = (0, 0);
    // A thousand askers in a thousand networks, as fast as they can, for a minute.
    for round in 0..60 {
        for asker in 0..1_000 {
            let client = bench.device_at(round * 1_000 + asker, elsewhere(asker));
            bench.ask(client, Body::CheckRequest(request()));
            for check in checks(&mut bench) {
                tried += 1;
                bench.service.handle_checked(check.id, CheckOutcome::Reached, bench.now);
            }
            bench.service.handle_closed(client, bench.now);
        }
        let caller = bench.device_at(1_000_000 + round, ip("198.51.100.1"));
        let call_tag = [u8::try_from(round).unwrap(); 16].to_vec();
        let answer = bench.ask(caller, Body::GrantRequest(tandem_proto::wire::GrantRequest { call_tag }));
        granted += u32::from(matches!(answer, Some(Body::Grant(_))));
        bench.service.handle_closed(caller, bench.now);
        bench.wait(1_000);
        bench.take();
    }
    assert!((32..=32 + 4 * 60).contains(&tried), "{tried} dials in a minute");
    assert_eq!(granted, 60, "no call was refused");
}

#[test]
fn one_network_has_its_share_of_checks() {
    let mut bench = Bench::new(|_| {});
    let mut tried = 0;
    for client in 0..2_000 {
        // 200 addresses of one /24.
        let host = u8::try_from(client % 200).unwrap();
        let asker = bench.device_at(client, IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)));
        bench.ask(asker, Body::CheckRequest(request()));
        for check in checks(&mut bench) {
            tried += 1;
            bench.service.handle_checked(check.id, CheckOutcome::NotReached(String::new()), bench.now);
        }
        bench.service.handle_closed(asker, bench.now);
        bench.wait(30);
    }
    assert!(tried <= 32 + 60 / 5, "{tried} in a minute");
    let other = bench.device_at(9_000, elsewhere(1));
    assert!(check(&mut bench, other, request()).is_some(), "others are served");
}

// ---- notices ------------------------------------------------------------------------------------------------------

#[test]
fn a_notice_keeps_the_addresses_it_came_from_and_those_of_the_other_family() {
    let mut bench = Bench::new(|_| {});
    let client = bench.device_at(1, ip("192.0.2.7"));
    let said = notice(&[
        "/ip4/192.0.2.7/udp/40000/quic-v1",
        "/ip4/198.51.100.1/udp/40000/quic-v1",
        "/ip6/2001:db8::7/udp/40000/quic-v1",
        "/ip4/192.0.2.7/udp/40001",
        "/ip4/192.0.2.7/tcp/22",
    ]);
    assert_eq!(bench.ask(client, Body::ReserveNotice(said)), None);
    let (id, service, network) = announced(&mut bench).unwrap();
    assert_eq!((service, network), (CANDIDATE, 192 << 8));
    bench.service.handle_noted(id, true, bench.now);
    let sent = bench.sent(client);
    assert!(matches!(&sent[..], [Body::ReserveNoted(noted)] if noted.kept), "{sent:?}");
    bench.service.invite(invitation(CANDIDATE), bench.now);
    let connected = bench.take().into_iter().find_map(|command| match command {
        Command::Connect(endpoint) => Some(endpoint.addresses),
        _ => None,
    });
    let kept = notice(&["/ip4/192.0.2.7/udp/40000/quic-v1", "/ip6/2001:db8::7/udp/40000/quic-v1"]);
    assert_eq!(connected, Some(kept.addresses));
}

fn invitation(reserve: ServiceKey) -> tandem_proto::signed::Invitation {
    let until_s = crate::world::UNIX_MS / 1_000 + 1_800;
    tandem_proto::signed::Invitation::issue(&own_secret(), reserve, 80, until_s).unwrap()
}

#[test]
fn malformed_notices_are_refused() {
    let elsewhere_only = notice(&["/ip4/198.51.100.1/udp/40000/quic-v1"]);
    let good = notice(&["/ip4/192.0.2.7/udp/40000/quic-v1"]);
    let bad = [
        ReserveNotice::default(),
        ReserveNotice { service: vec![1; 33], ..good.clone() },
        ReserveNotice { addresses: Vec::new(), ..good.clone() },
        ReserveNotice { addresses: vec![good.addresses[0].clone(); 9], ..good.clone() },
        ReserveNotice { addresses: vec![vec![0xff; 64]], ..good.clone() },
        ReserveNotice { service: own_secret().public().0.to_vec(), ..good },
        elsewhere_only,
    ];
    let mut bench = Bench::new(|_| {});
    let client = bench.device_at(1, ip("192.0.2.7"));
    for bad in bad {
        let answer = bench.ask(client, Body::ReserveNotice(bad.clone()));
        assert_eq!(failure(answer), FailureCode::Malformed, "{bad:?}");
    }
    assert_eq!(announced(&mut bench), None);
}

#[test]
fn nobody_moves_the_notice_of_another_until_it_is_forgotten() {
    let mut bench = Bench::new(|_| {});
    let own = bench.device_at(1, ip("192.0.2.7"));
    bench.ask(own, Body::ReserveNotice(notice(&["/ip4/192.0.2.7/udp/40000/quic-v1"])));
    let (id, ..) = announced(&mut bench).unwrap();
    bench.service.handle_noted(id, true, bench.now);
    let thief = bench.device_at(2, ip("198.51.100.1"));
    let stolen = notice(&["/ip4/198.51.100.1/udp/40000/quic-v1"]);
    let answer = bench.ask(thief, Body::ReserveNotice(stolen.clone()));
    assert!(matches!(answer, Some(Body::ReserveNoted(noted)) if !noted.kept));
    assert_eq!(announced(&mut bench), None, "policy never hears of it");
    bench.service.handle_closed(thief, bench.now);
    bench.wait(2 * 3_600_000 + 1_000);
    let moved = bench.device_at(3, ip("198.51.100.1"));
    bench.ask(moved, Body::ReserveNotice(stolen));
    assert!(announced(&mut bench).is_some(), "it did move");
}

#[test]
fn a_flood_of_notices_is_held_to_its_rate_and_to_a_table() {
    let mut bench = Bench::new(|_| {});
    let (mut of_one, mut of_all) = (0, 0);
    for n in 0..4_000u64 {
        let crowd = n % 2 == 0;
        let from = if crowd { ip("192.0.2.7") } else { elsewhere(n) };
        let client = bench.device_at(n, from);
        let address = format!("/ip4/{from}/udp/40000/quic-v1");
        let mut said = notice(&[&address]);
        said.service[..8].copy_from_slice(&n.to_be_bytes());
        bench.ask(client, Body::ReserveNotice(said));
        if let Some((id, ..)) = announced(&mut bench) {
            *(if crowd { &mut of_one } else { &mut of_all }) += 1;
            bench.service.handle_noted(id, true, bench.now);
        }
        bench.service.handle_closed(client, bench.now);
        bench.wait(15);
    }
    assert!(of_one <= 8 + 60 / 30, "{of_one} of one network in a minute");
    assert!(of_all > 500, "{of_all}: others are heard");
    // What it keeps shows in whom it can invite.
    let mut known = 0;
    for n in 0..4_000u64 {
        let mut key = CANDIDATE;
        key.0[..8].copy_from_slice(&n.to_be_bytes());
        bench.service.invite(invitation(key), bench.now);
        let commands = bench.take();
        if let Some(endpoint) = commands.iter().find_map(|command| match command {
            Command::Connect(endpoint) => Some(endpoint.clone()),
            _ => None,
        }) {
            known += 1;
            bench.service.handle_connect_failed(endpoint.service, bench.now);
            bench.take();
            bench.wait(60_000);
        }
    }
    assert!(known <= 64, "{known} reserves kept");
}

#[test]
fn an_unanswered_notice_is_given_up() {
    let mut bench = Bench::new(|_| {});
    let client = bench.device_at(1, ip("192.0.2.7"));
    bench.ask(client, Body::ReserveNotice(notice(&["/ip4/192.0.2.7/udp/40000/quic-v1"])));
    let (id, ..) = announced(&mut bench).unwrap();
    bench.wait(6_000);
    assert!(matches!(bench.sent(client)[..], [Body::Busy(_)]));
    bench.service.handle_noted(id, true, bench.now);
    assert!(bench.sent(client).is_empty());
}

// ---- load ---------------------------------------------------------------------------------------------------------

#[test]
fn the_load_is_told_to_whoever_asks_a_few_times() {
    let mut bench = Bench::new(|_| {});
    bench.service.set_machine_load(74, bench.now);
    bench.take();
    let client = bench.device_at(1, ip("192.0.2.7"));
    let (mut told, mut busy) = (0, 0);
    for _ in 0..30 {
        match bench.ask(client, Body::LoadRequest(LoadRequest {})) {
            Some(Body::Load(load)) => {
                assert_eq!(load.load_percent, 70);
                told += 1;
            }
            Some(Body::Busy(_)) => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((told, busy), (12, 18));
}

#[test]
fn one_that_leaves_does_nothing_for_the_election() {
    let mut bench = Bench::new(|_| {});
    bench.reserved(9);
    let client = bench.device_at(1, ip("192.0.2.7"));
    bench.service.drain(60_000, bench.now);
    bench.take();
    assert!(is_busy(&bench.ask(client, Body::CheckRequest(request()))));
    let said = notice(&["/ip4/192.0.2.7/udp/40000/quic-v1"]);
    assert!(is_busy(&bench.ask(client, Body::ReserveNotice(said))));
    assert!(is_busy(&bench.ask(client, Body::LoadRequest(LoadRequest {}))));
    assert!(checks(&mut bench).is_empty());
}

#[test]
fn a_supernode_may_ask_as_a_device_may() {
    let mut bench = Bench::new(|_| {});
    let secret = ServiceSecret::from_seed(&[8; 32]);
    let client = bench.supernode_at(1, &secret, ip("192.0.2.7"));
    assert!(check(&mut bench, client, request()).is_some());
}

// ---- anything at all ----------------------------------------------------------------------------------------------

fn any_request() -> impl Strategy<Value = Body> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..80);
    prop_oneof![
        (bytes(), 0u32..4, any::<u32>(), any::<u32>()).prop_map(|(service, carrier, port, relay_port)| {
            Body::CheckRequest(CheckRequest { service, carrier, port, relay_port })
        }),
        (bytes(), prop::collection::vec(bytes(), 0..12))
            .prop_map(|(service, addresses)| Body::ReserveNotice(ReserveNotice { service, addresses })),
        Just(Body::LoadRequest(LoadRequest {})),
        (bytes(), bytes()).prop_map(|(payload, signature)| {
            let invitation = Some(tandem_proto::wire::Signed { payload, signature });
            Body::Invitation(tandem_proto::wire::Invitation { invitation })
        }),
        Just(Body::Invitation(tandem_proto::wire::Invitation::default())),
        Just(Body::Checked(tandem_proto::wire::Checked::default())),
        Just(Body::Load(tandem_proto::wire::Load { load_percent: u32::MAX })),
        Just(Body::ReserveNoted(tandem_proto::wire::ReserveNoted { kept: true })),
        Just(Body::InvitationAnswer(tandem_proto::wire::InvitationAnswer { accepted: true })),
    ]
}

proptest! {
    /// Whatever is asked, in whichever standing: at most one answer to each, and nothing that was not asked.
    #[test]
    fn any_question_is_answered_once_or_waits_for_the_driver(
        requests in prop::collection::vec(any_request(), 1..40),
        standing in 0u8..3,
        from_supernode: bool,
    ) {
        let mut bench = Bench::new(|config| {
            if standing == 0 {
                config.roles = tandem_proto::signed::Roles::default();
            }
        });
        let client = if from_supernode {
            bench.supernode_at(1, &ServiceSecret::from_seed(&[8; 32]), ip("192.0.2.7"))
        } else {
            bench.device_at(1, ip("192.0.2.7"))
        };
        bench.reserved_if(standing == 2);
        let asked = requests.len();
        let mut answered = 0;
        for request in requests {
            answered += usize::from(bench.ask(client, request).is_some());
        }
        let commands = bench.take();
        let waiting = commands
            .iter()
            .filter(|command| {
                matches!(
                    command,
                    Command::Check(_) | Command::Announced { .. } | Command::Invited { .. }
                )
            })
            .count();
        let dropped = commands.contains(&Command::Close(client));
        prop_assert!(dropped || answered + waiting == asked, "{asked} asked, {answered} answered");
        prop_assert!(waiting <= 16 + 64 + 4);
    }
}
