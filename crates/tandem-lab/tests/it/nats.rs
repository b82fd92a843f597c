//! Each kind of NAT maps and filters as RFC 4787 names it.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use tandem_lab::{CarrierPlan, Families, HomePlan, Host, Lab, Nat, Plan};

use crate::{has_lab, is_silent, receive, socket, v4};

/// Where a packet may come from, seen from one that the inside has written to.
#[derive(Debug, PartialEq, Eq)]
struct Behaviour {
    /// The same outside port towards every destination?
    one_mapping: bool,
    /// Another port of an address written to may answer.
    other_port: bool,
    /// An address never written to may answer.
    other_address: bool,
}

const fn behaviour(one_mapping: bool, other_port: bool, other_address: bool) -> Behaviour {
    Behaviour { one_mapping, other_port, other_address }
}

/// Two ports of one server, one of another. Bound once in a test: a process that another test starts holds a closed
/// socket, and its port, for the moment between its fork and its exec.
fn servers(lab: &Lab) -> [UdpSocket; 3] {
    let (one, two) = (lab.host("s1").expect("s1"), lab.host("s2").expect("s2"));
    [socket(one, v4(one), 5000), socket(one, v4(one), 5001), socket(two, v4(two), 5000)]
}

fn observe(servers: &[UdpSocket; 3], inside: &Host) -> Behaviour {
    let mapper = socket(inside, v4(inside), 0);
    let mappings: Vec<SocketAddr> = servers.iter().map(|server| reach(&mapper, server)).collect();

    let filtered = socket(inside, v4(inside), 0);
    let outside = reach(&filtered, &servers[0]);
    servers[1].send_to(b"other port", outside).expect("send");
    servers[2].send_to(b"other address", outside).expect("send");
    // The one that was written to is let in by all of them; it comes last.
    std::thread::sleep(Duration::from_millis(50));
    servers[0].send_to(b"last", outside).expect("send");
    let mut arrived = Vec::new();
    while arrived.last().is_none_or(|text| text != "last") {
        arrived.push(receive(&filtered).0);
    }
    Behaviour {
        one_mapping: mappings.iter().all(|mapping| *mapping == mappings[0]),
        other_port: arrived.contains(&"other port".to_owned()),
        other_address: arrived.contains(&"other address".to_owned()),
    }
}

/// Sends a packet to a server, which says from where it came.
fn reach(from: &UdpSocket, server: &UdpSocket) -> SocketAddr {
    from.send_to(b"hello", server.local_addr().expect("address")).expect("send");
    receive(server).1
}

#[test]
fn each_kind_maps_and_filters_as_it_is_called() {
    if !has_lab() {
        return;
    }
    let kinds = [
        (Nat::None, behaviour(true, true, true)),
        (Nat::FullCone, behaviour(true, true, true)),
        (Nat::AddressRestricted, behaviour(true, true, false)),
        (Nat::PortRestricted, behaviour(true, false, false)),
        (Nat::Symmetric, behaviour(false, false, false)),
    ];
    let mut plan = Plan::with_servers(2, None).carrier(CarrierPlan::new("carrier"));
    for (nat, _) in &kinds {
        plan = plan.home(HomePlan::new(&format!("{nat:?}"), *nat));
    }
    plan = plan.home(HomePlan::new("double", Nat::PortRestricted).via("carrier"));
    let lab = Lab::build(&plan).expect("a lab");
    let servers = servers(&lab);
    for (nat, expected) in kinds {
        let host = lab.host(&format!("{nat:?}-host")).expect("host");
        assert_eq!(observe(&servers, host), expected, "{nat:?}");
    }
    let host = lab.host("double-host").expect("host");
    assert_eq!(observe(&servers, host), behaviour(true, false, false), "behind a carrier");
}

#[test]
fn without_nat_a_host_is_seen_by_its_own_address_and_behind_one_by_the_router_s() {
    if !has_lab() {
        return;
    }
    let plan = Plan::with_servers(1, None)
        .home(HomePlan::new("open", Nat::None))
        .home(HomePlan::new("shut", Nat::PortRestricted));
    let lab = Lab::build(&plan).expect("a lab");
    let server = lab.host("s1").expect("s1");
    let server = socket(server, v4(server), 5000);
    let open = lab.host("open-host").expect("host");
    assert_eq!(reach(&socket(open, v4(open), 0), &server).ip(), v4(open));
    let shut = lab.host("shut-host").expect("host");
    let outside = lab.nat("shut").expect("router").outside().expect("an address");
    assert_eq!(reach(&socket(shut, v4(shut), 0), &server).ip(), outside);
}

#[test]
fn two_port_restricted_homes_punch_holes() {
    if !has_lab() {
        return;
    }
    let plan = Plan::with_servers(1, None)
        .home(HomePlan::new("a", Nat::PortRestricted))
        .home(HomePlan::new("b", Nat::PortRestricted));
    let lab = Lab::build(&plan).expect("a lab");
    let (a, b) = (lab.host("a-host").expect("a"), lab.host("b-host").expect("b"));
    assert!(punch(&lab, a, b));
}

/// Both learn their outside from the server, then write to each other's, the first one too early.
fn punch(lab: &Lab, a: &Host, b: &Host) -> bool {
    let server = lab.host("s1").expect("s1");
    let server = socket(server, v4(server), 6000);
    let (a, b) = (socket(a, v4(a), 0), socket(b, v4(b), 0));
    let (outside_a, outside_b) = (reach(&a, &server), reach(&b, &server));
    a.send_to(b"too early, perhaps", outside_b).expect("send");
    std::thread::sleep(Duration::from_millis(50));
    b.send_to(b"from b", outside_a).expect("send");
    if is_silent(&a) {
        return false;
    }
    a.send_to(b"from a", outside_b).expect("send");
    !is_silent(&b)
}

#[test]
fn a_carrier_brings_its_homes_together_only_with_a_hairpin() {
    if !has_lab() {
        return;
    }
    for hairpin in [false, true] {
        let mut carrier = CarrierPlan::new("carrier");
        carrier.hairpin = hairpin;
        let plan = Plan::with_servers(1, None)
            .carrier(carrier)
            .home(HomePlan::new("a", Nat::PortRestricted).via("carrier"))
            .home(HomePlan::new("b", Nat::PortRestricted).via("carrier"));
        let lab = Lab::build(&plan).expect("a lab");
        let (a, b) = (lab.host("a-host").expect("a"), lab.host("b-host").expect("b"));
        assert_eq!(punch(&lab, a, b), hairpin, "hairpin {hairpin}");
    }
}

#[test]
fn blocked_networks_let_out_what_they_say() {
    if !has_lab() {
        return;
    }
    let plan = Plan::with_servers(1, None)
        .home(HomePlan::new("no-udp", Nat::UdpBlocked))
        .home(HomePlan::new("web-only", Nat::Tcp443Only));
    let lab = Lab::build(&plan).expect("a lab");
    let server = lab.host("s1").expect("s1");
    let udp = socket(server, v4(server), 443);
    let listen = |port| {
        let at = SocketAddr::new(v4(server), port);
        server.namespace().enter(|| TcpListener::bind(at)).expect("namespace").expect("listen")
    };
    let (any, web) = (listen(4001), listen(443));
    let connects = |home: &str, to: &TcpListener| {
        let host = lab.host(&format!("{home}-host")).expect("host");
        let to = to.local_addr().expect("address");
        let patience = Duration::from_millis(700);
        host.namespace().enter(|| TcpStream::connect_timeout(&to, patience).is_ok()).expect("namespace")
    };
    assert!(connects("no-udp", &any) && connects("no-udp", &web));
    assert!(!connects("web-only", &any) && connects("web-only", &web));
    for home in ["no-udp", "web-only"] {
        let host = lab.host(&format!("{home}-host")).expect("host");
        let from = socket(host, v4(host), 0);
        from.send_to(b"hello", udp.local_addr().expect("address")).expect("send");
    }
    assert!(is_silent(&udp));
}

#[test]
fn the_ipv6_firewall_lets_in_only_answers() {
    if !has_lab() {
        return;
    }
    let plan = Plan::with_servers(2, None)
        .home(HomePlan::new("six", Nat::PortRestricted).families(Families::V6))
        .home(HomePlan::new("both", Nat::PortRestricted).families(Families::Both));
    let lab = Lab::build(&plan).expect("a lab");
    let (one, two) = (lab.host("s1").expect("s1"), lab.host("s2").expect("s2"));
    let ip = |host: &Host| host.v6().expect("an IPv6 address").into();
    let (asked, stranger) = (socket(one, ip(one), 5000), socket(two, ip(two), 5000));
    for name in ["six-host", "both-host"] {
        let host = lab.host(name).expect("host");
        let inside = socket(host, ip(host), 0);
        let seen = reach(&inside, &asked);
        assert_eq!(seen, inside.local_addr().expect("address"), "IPv6 is not translated");
        stranger.send_to(b"stranger", seen).expect("send");
        std::thread::sleep(Duration::from_millis(50));
        asked.send_to(b"answer", seen).expect("send");
        assert_eq!(receive(&inside).0, "answer");
    }
    assert!(lab.host("six-host").expect("host").v4().is_none());
}

#[test]
fn a_flushed_nat_forgets() {
    if !has_lab() {
        return;
    }
    let plan = Plan::with_servers(1, None).home(HomePlan::new("a", Nat::Symmetric));
    let lab = Lab::build(&plan).expect("a lab");
    let server = lab.host("s1").expect("s1");
    let server = socket(server, v4(server), 5000);
    let host = lab.host("a-host").expect("host");
    let inside = socket(host, v4(host), 0);
    let before = reach(&inside, &server);
    assert_eq!(reach(&inside, &server), before);
    lab.nat("a").expect("router").flush().expect("flush");
    server.send_to(b"to the old mapping", before).expect("send");
    std::thread::sleep(Duration::from_millis(50));
    let after = reach(&inside, &server);
    assert_ne!(after, before, "a new mapping has a new port");
    server.send_to(b"to the new mapping", after).expect("send");
    assert_eq!(receive(&inside).0, "to the new mapping");
}
