//! What a service does at all: stand by, serve in one role or both, drain. And what it sheds first.

use std::net::{IpAddr, Ipv4Addr};

use tandem_core::service::{Command, Standing};
use tandem_proto::identity::ServiceSecret;
use tandem_proto::names::{FailureCode, feature};
use tandem_proto::signed::Roles;
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{
    CheckRequest, DeviceSetNotice, Drain, GrantRequest, Heartbeat, HomeFrame, HomeHello, LoadRequest, LookUp,
    Presence, Publish, Reserve, ReserveNotice, SupernodesRequest,
};

use crate::service::{Bench, account_secret, descriptor, device_secret, failure, own_secret, record};

const BOTH: Roles = Roles(3);

fn ip() -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))
}

fn standby() -> Bench {
    Bench::new(|config| config.roles = Roles::default())
}

fn grant(tag: u8) -> Body {
    Body::GrantRequest(GrantRequest { call_tag: vec![tag; 16] })
}

fn look_up() -> Body {
    Body::LookUp(LookUp { account: account_secret().public().0.to_vec() })
}

/// One of every request but a heartbeat and an invitation.
fn requests() -> Vec<Body> {
    vec![
        Body::Reserve(Reserve::default()),
        Body::Publish(Publish { record: Some(record(1, 1, 1).to_wire()) }),
        look_up(),
        Body::Presence(Presence { device: vec![1; 32], reserved: false }),
        Body::DeviceSetNotice(DeviceSetNotice {
            device_set: Some(record(1, 1, 1).device_set().signed().clone()),
        }),
        grant(1),
        Body::SupernodesRequest(SupernodesRequest::default()),
        Body::CheckRequest(CheckRequest { service: vec![9; 32], carrier: 1, port: 40_000, relay_port: 0 }),
        Body::ReserveNotice(ReserveNotice::default()),
        Body::LoadRequest(LoadRequest {}),
    ]
}

fn signs(commands: &[Command]) -> bool {
    commands.iter().any(|command| matches!(command, Command::SignDescriptor { .. }))
}

/// The hello that a new client hears.
fn greeted(bench: &mut Bench, client: u64) -> HomeHello {
    bench.open_at(client, device_secret(client).public().0, ip());
    let hello = bench.take().into_iter().find_map(|command| match command {
        Command::Send { frame: HomeFrame { id: 0, body: Some(Body::Hello(hello)) }, .. } => Some(hello),
        _ => None,
    });
    hello.unwrap()
}

// ---- standby ------------------------------------------------------------------------------------------------------

#[test]
fn in_standby_it_serves_nothing_says_nothing_of_itself_and_begins_no_connection() {
    let mut bench = standby();
    assert_eq!(bench.service.standing(), Standing::Standby);
    let hello = greeted(&mut bench, 50);
    assert_eq!((hello.descriptor, hello.features), (None, 0));
    let client = bench.device_at(1, ip());
    for request in requests() {
        let answer = bench.ask(client, request.clone());
        assert_eq!(failure(answer), FailureCode::NotServing, "{request:?}");
    }
    let beat = bench.ask(client, Body::Heartbeat(Heartbeat { in_call: false }));
    assert!(matches!(beat, Some(Body::Heartbeat(_))));
    let supernode = ServiceSecret::from_seed(&[8; 32]);
    bench.supernode_at(2, &supernode, ip());
    let known = tandem_core::service::Endpoint { service: supernode.public(), addresses: vec![vec![4; 8]] };
    bench.service.handle_bootstrap(&[known], bench.now);
    bench.service.set_machine_load(90, bench.now);
    for _ in 0..20 {
        bench.wait(60_000);
        let commands = bench.take();
        assert!(commands.iter().all(|command| matches!(command, Command::Close(_))), "{commands:?}");
    }
    assert_eq!(bench.service.figures().supernodes_known, 0, "who meets it is not remembered");
}

#[test]
fn in_standby_streams_are_few_and_short() {
    let mut bench = standby();
    for n in 0..400u16 {
        let [high, low] = n.to_be_bytes();
        // Twenty from each /24.
        let from = Ipv4Addr::new(50, high, low / 20, low);
        bench.open_at(n.into(), device_secret(n.into()).public().0, IpAddr::V4(from));
    }
    assert!(bench.service.figures().clients <= 64, "{}", bench.service.figures().clients);
    let mut bench = standby();
    for n in 0..20 {
        bench.open_at(n, device_secret(n).public().0, ip());
    }
    assert_eq!(bench.service.figures().clients, 8, "of one /24");
    let mut bench = standby();
    let client = bench.device_at(1, ip());
    for _ in 0..12 {
        bench.ask(client, Body::Heartbeat(Heartbeat { in_call: false }));
        bench.wait(8_000);
    }
    assert_eq!(bench.service.figures().clients, 0, "heartbeats do not keep it");
}

#[test]
fn it_begins_to_serve_and_stands_by_again_and_nothing_is_left() {
    let mut bench = standby();
    for round in 0..3 {
        bench.service.set_roles(BOTH, bench.now);
        assert_eq!(bench.service.standing(), Standing::Serving);
        assert!(signs(&bench.take()), "round {round}: its descriptor");
        bench.service.handle_own_descriptor(descriptor(&own_secret(), round + 2), bench.now);
        let hello = greeted(&mut bench, 50 + round);
        assert!(hello.descriptor.is_some() && hello.features & feature::GRANTS != 0);
        let client = bench.reserved(1);
        assert!(matches!(bench.ask(client, grant(1)), Some(Body::Grant(_))));
        assert_eq!(bench.publish(client, &record(1, 1, round + 1)), None);
        let (put, _) = bench.put();
        bench.service.handle_stored(put, 3, bench.now);
        bench.service.drain(1_000, bench.now);
        bench.take();
        bench.wait(2_000);
        let commands = bench.take();
        assert!(commands.contains(&Command::Close(client)) && commands.contains(&Command::Drained));
        assert_eq!(bench.service.standing(), Standing::Standby);
        assert_eq!((bench.service.figures().clients, bench.service.figures().reserved), (0, 0));
        bench.service.handle_stored(put, 3, bench.now);
        bench.service.handle_found(put, None, true, bench.now);
        assert!(bench.take().is_empty(), "late answers change nothing");
        bench.wait(600_000);
        assert!(!signs(&bench.take()));
    }
}

// ---- roles apart --------------------------------------------------------------------------------------------------

#[test]
fn a_directory_never_grants_and_a_relay_never_reserves() {
    let mut bench = Bench::new(|config| config.roles = Roles::DIRECTORY);
    let client = bench.reserved(1);
    assert_eq!(failure(bench.ask(client, grant(1))), FailureCode::NoRelay);
    assert_eq!(greeted(&mut bench, 50).features & feature::GRANTS, 0);

    let mut bench = Bench::new(|config| config.roles = Roles::RELAY);
    assert_eq!(greeted(&mut bench, 50).features, feature::GRANTS);
    let client = bench.device_at(1, ip());
    for request in &requests()[..5] {
        let answer = bench.ask(client, request.clone());
        assert_eq!(failure(answer), FailureCode::NotServing, "{request:?}");
    }
    assert!(matches!(bench.ask(client, grant(1)), Some(Body::Grant(_))));
    let list = bench.ask(client, Body::SupernodesRequest(SupernodesRequest::default()));
    assert!(matches!(list, Some(Body::Supernodes(_))), "{list:?}");
    assert!(matches!(bench.ask(client, Body::LoadRequest(LoadRequest {})), Some(Body::Load(_))));
}

#[test]
fn roles_come_and_go_one_by_one() {
    let mut bench = Bench::new(|config| config.roles = Roles::DIRECTORY);
    let client = bench.reserved(1);
    bench.service.set_roles(BOTH, bench.now);
    assert!(signs(&bench.take()), "others learn of it");
    assert!(matches!(bench.ask(client, grant(1)), Some(Body::Grant(_))));
    bench.service.set_roles(BOTH, bench.now);
    assert!(!signs(&bench.take()), "nothing changed");
    // The directory role ends, the relay's goes on.
    bench.service.set_roles(Roles::RELAY, bench.now);
    let sent = bench.sent(client);
    assert!(sent.iter().any(|said| matches!(said, Body::Drain(Drain { within_ms: 60_000, .. }))), "{sent:?}");
    assert_eq!(bench.service.standing(), Standing::Serving);
    assert_eq!(failure(bench.ask(client, look_up())), FailureCode::NotServing);
    for _ in 0..5 {
        bench.wait(11_000);
        let beat = bench.ask(client, Body::Heartbeat(Heartbeat { in_call: false }));
        assert!(matches!(beat, Some(Body::Heartbeat(_))), "it has a minute");
    }
    bench.wait(6_000);
    let commands = bench.take();
    assert!(commands.contains(&Command::Close(client)));
    assert!(commands.contains(&Command::Expel(device_secret(1).public())), "and its circuits");
    assert_eq!(bench.service.figures().reserved, 0);
    let other = bench.device_at(2, ip());
    assert!(matches!(bench.ask(other, grant(2)), Some(Body::Grant(_))), "calls go on");
    // And comes back before anybody left.
    bench.service.set_roles(BOTH, bench.now);
    let again = bench.reserved(3);
    bench.service.set_roles(Roles::RELAY, bench.now);
    bench.service.set_roles(BOTH, bench.now);
    for _ in 0..10 {
        bench.wait(11_000);
        bench.ask(again, Body::Heartbeat(Heartbeat { in_call: false }));
    }
    assert!(bench.service.is_reserved(device_secret(3).public()), "nobody cut it off");
}

// ---- draining -----------------------------------------------------------------------------------------------------

#[test]
fn a_drain_may_be_hurried_and_never_slowed() {
    let mut bench = Bench::new(|_| {});
    let client = bench.reserved(1);
    bench.service.drain(600_000, bench.now);
    let drains = bench.sent(client).iter().filter(|said| matches!(said, Body::Drain(_))).count();
    assert_eq!(drains, 1);
    bench.service.drain(20_000, bench.now);
    bench.service.drain(300_000, bench.now);
    assert!(bench.sent(client).is_empty(), "it was told once");
    bench.wait(10_000);
    bench.ask(client, Body::Heartbeat(Heartbeat { in_call: false }));
    bench.wait(9_000);
    assert_eq!(bench.service.standing(), Standing::Draining);
    bench.wait(2_000);
    let commands = bench.take();
    assert_eq!(commands.iter().filter(|command| **command == Command::Drained).count(), 1);
    assert_eq!(bench.service.standing(), Standing::Standby);
    bench.service.drain(20_000, bench.now);
    assert_eq!(bench.take(), [Command::Drained], "there is nothing to wait for");
}

#[test]
fn a_drain_waits_for_relayed_calls_and_carries_them_on() {
    let mut bench = Bench::new(|_| {});
    let client = bench.device_at(1, ip());
    assert!(matches!(bench.ask(client, grant(1)), Some(Body::Grant(_))));
    bench.service.set_calls_relayed(2, bench.now);
    bench.service.drain(60_000, bench.now);
    assert!(!bench.take().contains(&Command::Drained), "two calls run over its relay");
    assert!(matches!(bench.ask(client, grant(1)), Some(Body::Grant(_))), "the call in progress");
    assert!(matches!(bench.ask(client, grant(2)), Some(Body::Busy(_))), "a new one");
    bench.service.set_calls_relayed(0, bench.now);
    assert!(bench.take().contains(&Command::Drained));
}

#[test]
fn whoever_is_wanted_again_while_it_drains_serves_on() {
    let mut bench = Bench::new(|_| {});
    let client = bench.reserved(1);
    bench.service.drain(60_000, bench.now);
    bench.service.set_roles(BOTH, bench.now);
    assert_eq!(bench.service.standing(), Standing::Serving);
    bench.wait(10_000);
    bench.ask(client, Body::Heartbeat(Heartbeat { in_call: false }));
    assert!(!bench.take().contains(&Command::Drained));
    bench.reserved(2);
}

// ---- shedding -----------------------------------------------------------------------------------------------------

#[test]
fn a_flood_of_new_calls_refuses_no_call_in_progress() {
    let mut bench = Bench::new(|config| config.requests_per_second = 10);
    let caller = bench.device_at(1, ip());
    let callee = bench.device_at(2, ip());
    assert!(matches!(bench.ask(caller, grant(1)), Some(Body::Grant(_))));
    let mut refused = 0;
    for n in 0..200u16 {
        let [high, low] = n.to_be_bytes();
        let asker = bench.device_at(100 + u64::from(n), IpAddr::V4(Ipv4Addr::new(50, high, low, 1)));
        let mut tag = [0xaa; 16];
        tag[..2].copy_from_slice(&n.to_be_bytes());
        let answer = bench.ask(asker, Body::GrantRequest(GrantRequest { call_tag: tag.to_vec() }));
        refused += u32::from(matches!(answer, Some(Body::Busy(_))));
    }
    assert!(refused > 150, "{refused} of 200 new calls");
    assert!(
        matches!(bench.ask(callee, grant(1)), Some(Body::Grant(_))),
        "the other end of a call that began"
    );
    assert!(matches!(bench.ask(caller, grant(1)), Some(Body::Grant(_))), "a renewal");
    assert!(matches!(bench.ask(caller, grant(9)), Some(Body::Busy(_))), "a new call of the same device");
}

#[test]
fn a_device_in_a_call_comes_back_through_a_flood() {
    let mut bench = Bench::new(|config| config.requests_per_second = 10);
    let client = bench.device(1);
    let Some(Body::Reserved(reserved)) =
        bench.ask(client, Body::Reserve(Reserve { in_call: true, ..Reserve::default() }))
    else {
        panic!("no place")
    };
    bench.service.handle_closed(client, bench.now);
    let mut refused = 0;
    for n in 0..200 {
        let other = bench.device_at(100 + n, ip());
        // They all say that they are in a call.
        let claim = Reserve { in_call: true, resume_ticket: vec![7; 8], ..Reserve::default() };
        refused += u32::from(matches!(bench.ask(other, Body::Reserve(claim)), Some(Body::Busy(_))));
    }
    assert!(refused > 150, "{refused} of 200");
    let again = bench.device_at(1, ip());
    let back = Reserve { in_call: true, resume_ticket: reserved.resume_ticket, ..Reserve::default() };
    assert!(matches!(bench.ask(again, Body::Reserve(back)), Some(Body::Reserved(_))));
}

#[test]
fn a_machine_at_its_limit_keeps_its_calls_and_refuses_checks_first() {
    let mut bench = Bench::new(|_| {});
    let client = bench.reserved(1);
    let check = || {
        let service = vec![9; 32];
        Body::CheckRequest(CheckRequest { service, carrier: 1, port: 40_000, relay_port: 0 })
    };
    assert!(matches!(bench.ask(client, grant(1)), Some(Body::Grant(_))));
    bench.service.set_machine_load(90, bench.now);
    bench.take();
    assert!(matches!(bench.ask(client, check()), Some(Body::Busy(_))));
    assert!(!matches!(bench.ask(client, look_up()), Some(Body::Busy(_))));
    bench.service.set_machine_load(100, bench.now);
    bench.take();
    assert!(matches!(bench.ask(client, look_up()), Some(Body::Busy(_))));
    assert!(matches!(bench.ask(client, grant(2)), Some(Body::Busy(_))));
    assert!(matches!(bench.ask(client, grant(1)), Some(Body::Grant(_))));
}

#[test]
fn processors_that_stay_busy_shed_in_the_same_order_and_others_see_it() {
    let mut bench = Bench::new(|_| {});
    let client = bench.reserved(1);
    assert!(matches!(bench.ask(client, grant(1)), Some(Body::Grant(_))));
    let presence = || Body::Presence(Presence { device: vec![1; 32], reserved: false });
    let is_busy = |answer: Option<Body>| matches!(answer, Some(Body::Busy(_)));
    // What is refused at each load that is reached: search, presence, reservations, new calls.
    let mut first_refused = [None; 4];
    for tick in 0..60_u64 {
        bench.wait(10_000);
        bench.service.note_processor_load(100, bench.now);
        bench.ask(client, Body::Heartbeat(Heartbeat { in_call: false }));
        let newcomer = bench.device_at(1_000 + tick, ip());
        let refused = [
            is_busy(bench.ask(client, look_up())),
            is_busy(bench.ask(client, presence())),
            is_busy(bench.ask(newcomer, Body::Reserve(Reserve::default()))),
            is_busy(bench.ask(client, grant(2))),
        ];
        bench.service.handle_closed(newcomer, bench.now);
        assert!(matches!(bench.ask(client, grant(1)), Some(Body::Grant(_))), "a call in progress, at {tick}");
        for (first, refused) in first_refused.iter_mut().zip(refused) {
            if refused && first.is_none() {
                *first = Some(tick);
            }
        }
        bench.take();
    }
    let [search, presence, signalling, calls] = first_refused;
    println!("refused first, in tens of seconds: {first_refused:?}");
    assert!(search.is_some_and(|tick| tick >= 6), "a minute of it is no reason: {search:?}");
    assert!(search <= presence && presence < signalling, "{first_refused:?}");
    assert!(signalling.is_some() && calls.is_none_or(|calls| Some(calls) >= signalling), "{first_refused:?}");
    assert!(bench.service.load_percent() >= 90, "others see it");
    bench.service.set_machine_load(20, bench.now);
    assert!(bench.service.load_percent() >= 90, "the fullest of all counts");
    for _ in 0..30 {
        bench.wait(10_000);
        bench.service.note_processor_load(10, bench.now);
        bench.ask(client, Body::Heartbeat(Heartbeat { in_call: false }));
    }
    bench.take();
    assert!(bench.service.load_percent() <= 30 && !is_busy(bench.ask(client, look_up())));
}
