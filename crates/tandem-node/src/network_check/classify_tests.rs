use super::*;

const A: ServiceKey = ServiceKey([1; 32]);
const B: ServiceKey = ServiceKey([2; 32]);

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("{text}"))
}

/// Two supernodes in two networks, asked from 10.0.0.2:5000.
fn asked() -> Observations {
    let servers = [(A, at("198.51.100.1:4002")), (B, at("203.0.113.1:4002"))];
    Observations {
        sources: vec!["10.0.0.2".parse().expect("an address")],
        local_ports: vec![5000],
        services: servers.iter().map(|(service, at)| (*service, Some(*at))).collect(),
        asked: servers.to_vec(),
        ..Observations::default()
    }
}

fn answer(service: ServiceKey, server: &str, mapped: &str) -> UdpAnswer {
    UdpAnswer { service, server: at(server), mapped: at(mapped), round_trip_ms: 20.0 }
}

fn with_udp(first: &str, second: &str) -> Observations {
    let udp = vec![answer(A, "198.51.100.1:4002", first), answer(B, "203.0.113.1:4002", second)];
    Observations { udp, ..asked() }
}

fn with_tcp(list: &[(&str, bool)]) -> Observations {
    let tcp = list.iter().map(|(server, works)| TcpAnswer {
        service: A,
        server: at(server),
        round_trip_ms: works.then_some(30.0),
    });
    Observations { tcp: tcp.collect(), ..asked() }
}

fn words(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.code.as_str()).collect()
}

#[test]
fn kinds_of_networks() {
    let table = [
        ("nobody known", Observations::default(), NetworkKind::Unknown),
        ("nothing answers", asked(), NetworkKind::Offline),
        ("public", with_udp("10.0.0.2:5000", "10.0.0.2:5000"), NetworkKind::Public),
        ("one port for all", with_udp("192.0.2.9:5000", "192.0.2.9:5000"), NetworkKind::FriendlyNat),
        ("another port each", with_udp("192.0.2.9:5000", "192.0.2.9:5001"), NetworkKind::SymmetricNat),
        ("another address each", with_udp("192.0.2.9:5000", "192.0.2.8:5000"), NetworkKind::SymmetricNat),
        ("TCP only", with_tcp(&[("198.51.100.1:4001", true)]), NetworkKind::UdpBlocked),
        (
            "TCP everywhere",
            with_tcp(&[("198.51.100.1:4001", true), ("198.51.100.1:443", true)]),
            NetworkKind::UdpBlocked,
        ),
        (
            "443 only",
            with_tcp(&[("198.51.100.1:4001", false), ("198.51.100.1:443", true)]),
            NetworkKind::OnlyHttps,
        ),
        ("no TCP either", with_tcp(&[("198.51.100.1:4001", false)]), NetworkKind::Offline),
    ];
    for (name, seen, expected) in table {
        let report = classify(&seen);
        assert_eq!(report.kind, expected, "{name}");
        assert!(!report.summary.is_empty(), "{name}");
        for finding in report.consequences.iter().chain(&report.advice).chain(&report.inferred) {
            assert!(finding.text.ends_with('.') && !finding.text.contains('{'), "{finding:?}");
        }
    }
}

#[test]
fn one_answer_proves_no_mapping() {
    let mut seen = with_udp("192.0.2.9:5000", "192.0.2.9:5000");
    seen.udp.pop();
    let report = classify(&seen);
    assert_eq!((report.kind, report.nat.mapping), (NetworkKind::Unknown, NatMapping::Unknown));
    assert_eq!(report.nat.port_preserved, Some(true));
    assert!(words(&report.inferred).contains(&"mapping_not_tested"));
}

#[test]
fn one_host_with_two_ports_proves_only_half() {
    let mut seen = with_udp("192.0.2.9:5000", "192.0.2.9:5000");
    seen.udp[1].server = at("198.51.100.1:9002");
    let report = classify(&seen);
    assert_eq!(report.kind, NetworkKind::FriendlyNat);
    assert!(words(&report.inferred).contains(&"same_addresses"));
    assert!(words(&report.inferred).contains(&"filtering_not_tested"));
}

#[test]
fn two_nats_in_a_row_are_noticed() {
    let friendly = || with_udp("192.0.2.9:5000", "192.0.2.9:5000");
    assert!(!classify(&friendly()).nat.double_nat);
    let router = |outside: &str| {
        let outside = Some(outside.parse().expect("an address"));
        classify(&Observations { router_outside: outside, ..friendly() }).nat.double_nat
    };
    assert!(!router("192.0.2.9"));
    assert!(router("100.70.1.1"));
    assert!(router("192.168.5.1"));
    assert!(router("192.0.2.77"), "the router's outside is somebody else's inside");
    let carrier = Observations { sources: vec!["100.64.3.4".parse().expect("an address")], ..friendly() };
    let report = classify(&carrier);
    assert!(report.nat.double_nat);
    assert_eq!(words(&report.advice), ["carrier_nat"]);
}

#[test]
fn what_follows_for_calls() {
    let first = |seen: &Observations| classify(seen).consequences.first().map(|it| it.code.clone());
    let symmetric = with_udp("192.0.2.9:5000", "192.0.2.9:5001");
    assert_eq!(first(&symmetric).as_deref(), Some("calls_direct_few"));
    assert_eq!(words(&classify(&symmetric).advice), ["map_port", "ask_for_ipv6"]);
    let mapped = Observations { port_mapping: Some("PCP".to_owned()), ..symmetric.clone() };
    assert_eq!(first(&mapped).as_deref(), Some("calls_direct_most"));
    let mut dual = symmetric;
    dual.asked.push((B, at("[2a00::1]:4002")));
    dual.udp.push(answer(B, "[2a00::1]:4002", "[2a00::9]:5000"));
    let report = classify(&dual);
    assert_eq!(report.ipv6, Works::Yes);
    assert_eq!(report.nat.mapped.len(), 2, "IPv6 is not mixed into the mapping: {:?}", report.nat);
    assert_eq!(words(&report.consequences), ["calls_direct_few", "calls_ipv6", "calls_strangers"]);
    let clock = Observations { clock_off_s: Some(-660), ..asked() };
    assert!(classify(&clock).advice.iter().any(|it| it.code == "set_clock" && it.text.contains("660 s")));
    assert_eq!(words(&classify(&asked()).consequences), ["calls_none"]);
}

#[test]
fn each_supernode_is_told_apart() {
    let mut seen = with_udp("192.0.2.9:5000", "192.0.2.9:5000");
    seen.udp.pop();
    seen.tcp = vec![TcpAnswer { service: B, server: at("203.0.113.1:443"), round_trip_ms: Some(44.0) }];
    let report = classify(&seen);
    let [first, second] = report.supernodes.as_slice() else { panic!("two: {:?}", report.supernodes) };
    assert_eq!((first.udp, first.tcp, first.tcp_443), (Works::Yes, Works::Untested, Works::Untested));
    assert_eq!((second.udp, second.tcp, second.tcp_443), (Works::No, Works::Yes, Works::Yes));
    assert_eq!(second.tcp_round_trip_ms, Some(44.0));
}
