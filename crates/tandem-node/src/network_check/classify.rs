//! From what was observed to what kind of network it is. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use tandem_api::{
    AddressScope, AddressView, Finding, NatMapping, NatView, NetworkKind, NetworkReport, SupernodeProbe,
    Works,
};
use tandem_proto::ids::ServiceKey;

use super::interfaces::scope;
use crate::messages::NetworkExplanation as Says;

const HTTPS_PORT: u16 = 443;

/// A STUN answer.
#[derive(Debug, Clone, PartialEq)]
pub struct UdpAnswer {
    pub service: ServiceKey,
    pub server: SocketAddr,
    /// What it saw us come from.
    pub mapped: SocketAddr,
    pub round_trip_ms: f64,
}

/// The outcome of a TCP connection.
#[derive(Debug, Clone, PartialEq)]
pub struct TcpAnswer {
    pub service: ServiceKey,
    pub server: SocketAddr,
    /// `None`: it did not come about.
    pub round_trip_ms: Option<f64>,
}

/// All that a check observed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observations {
    pub addresses: Vec<AddressView>,
    /// Addresses that packets to the outside leave from.
    pub sources: Vec<IpAddr>,
    /// Ports of the sockets that asked.
    pub local_ports: Vec<u16>,
    /// The supernodes, with an address to show.
    pub services: Vec<(ServiceKey, Option<SocketAddr>)>,
    /// Whom a Binding request went to.
    pub asked: Vec<(ServiceKey, SocketAddr)>,
    pub udp: Vec<UdpAnswer>,
    pub tcp: Vec<TcpAnswer>,
    pub hairpin: Works,
    /// What the router offers; `None`: it was not asked.
    pub port_mapping: Option<String>,
    /// What the router says its outside address is.
    pub router_outside: Option<IpAddr>,
    pub clock_off_s: Option<i64>,
}

/// Concludes.
#[must_use]
pub fn classify(seen: &Observations) -> NetworkReport {
    let nat = nat(seen);
    let tcp = works(seen.tcp.iter().map(|answer| answer.round_trip_ms.is_some()));
    let https = seen.tcp.iter().filter(|answer| answer.server.port() == HTTPS_PORT);
    let tcp_443 = works(https.map(|answer| answer.round_trip_ms.is_some()));
    let udp = match (seen.udp.is_empty(), seen.asked.is_empty()) {
        (false, _) => Works::Yes,
        (true, false) => Works::No,
        (true, true) => Works::Untested,
    };
    let mut report = NetworkReport {
        addresses: seen.addresses.clone(),
        udp,
        tcp,
        tcp_443,
        ipv4: family(seen, true),
        ipv6: family(seen, false),
        nat,
        port_mapping: seen.port_mapping.clone(),
        supernodes: seen.services.iter().map(|(service, at)| probe(seen, *service, *at)).collect(),
        clock_off_s: seen.clock_off_s,
        ..NetworkReport::default()
    };
    report.kind = kind(&report, seen);
    report.summary = summary(report.kind).text().to_owned();
    report.consequences = consequences(&report);
    report.advice = advice(&report, seen);
    report.inferred = inferred(&report, seen);
    report
}

/// Of several attempts one is enough.
fn works(outcomes: impl Iterator<Item = bool>) -> Works {
    outcomes.fold(Works::Untested, |so_far, worked| match (so_far, worked) {
        (Works::Yes, _) | (_, true) => Works::Yes,
        _ => Works::No,
    })
}

fn family(seen: &Observations, v4: bool) -> Works {
    let udp = seen.asked.iter().filter(|(_, at)| at.is_ipv4() == v4);
    let udp = udp.map(|asked| seen.udp.iter().any(|answer| (answer.service, answer.server) == *asked));
    let tcp = seen.tcp.iter().filter(|answer| answer.server.is_ipv4() == v4);
    works(udp.chain(tcp.map(|answer| answer.round_trip_ms.is_some())))
}

fn probe(seen: &Observations, service: ServiceKey, at: Option<SocketAddr>) -> SupernodeProbe {
    let udp: Vec<&UdpAnswer> = seen.udp.iter().filter(|answer| answer.service == service).collect();
    let tcp = || seen.tcp.iter().filter(|answer| answer.service == service);
    let https = tcp().filter(|answer| answer.server.port() == HTTPS_PORT);
    let asked = seen.asked.iter().any(|(known, _)| *known == service);
    SupernodeProbe {
        service: service.to_string(),
        address: at.map(|at| at.ip().to_string()).unwrap_or_default(),
        udp: match (udp.is_empty(), asked) {
            (false, _) => Works::Yes,
            (true, true) => Works::No,
            (true, false) => Works::Untested,
        },
        tcp: works(tcp().map(|answer| answer.round_trip_ms.is_some())),
        tcp_443: works(https.map(|answer| answer.round_trip_ms.is_some())),
        udp_round_trip_ms: udp.iter().map(|answer| answer.round_trip_ms).min_by(f64::total_cmp),
        tcp_round_trip_ms: tcp().filter_map(|answer| answer.round_trip_ms).min_by(f64::total_cmp),
    }
}

// ---- the NAT ----------------------------------------------------------------------------------------------------

/// How the NAT maps: RFC 5780 §4.3, with several supernodes in place of one server's two addresses. Over IPv4, unless
/// nothing answered there.
fn nat(seen: &Observations) -> NatView {
    let v4 = seen.udp.iter().any(|answer| answer.server.is_ipv4());
    let answers: Vec<&UdpAnswer> = seen.udp.iter().filter(|answer| answer.server.is_ipv4() == v4).collect();
    let mapped: BTreeSet<SocketAddr> = answers.iter().map(|answer| answer.mapped).collect();
    let own = |at: &SocketAddr| is_own(seen, at.ip()) && seen.local_ports.contains(&at.port());
    let servers: BTreeSet<SocketAddr> = answers.iter().map(|answer| answer.server).collect();
    let mapping = if answers.is_empty() {
        NatMapping::Unknown
    } else if mapped.iter().all(own) {
        NatMapping::None
    } else if mapped.len() > 1 {
        NatMapping::AddressDependent
    } else if servers.len() > 1 {
        NatMapping::EndpointIndependent
    } else {
        NatMapping::Unknown
    };
    let preserved = mapped.iter().all(|at| seen.local_ports.contains(&at.port()));
    NatView {
        mapping,
        mapped: mapped.iter().map(ToString::to_string).collect(),
        port_preserved: (!mapped.is_empty()).then_some(preserved),
        hairpin: seen.hairpin,
        double_nat: double_nat(seen, &mapped),
    }
}

fn is_own(seen: &Observations, ip: IpAddr) -> bool {
    let text = ip.to_string();
    seen.sources.contains(&ip) || seen.addresses.iter().any(|address| address.address == text)
}

/// Our own address is a carrier's, or what the router calls its outside is not what supernodes see.
fn double_nat(seen: &Observations, mapped: &BTreeSet<SocketAddr>) -> bool {
    let carrier = seen.sources.iter().any(|ip| scope(*ip) == AddressScope::CarrierNat);
    let router = seen.router_outside.is_some_and(|outside| {
        let outside_is_private = matches!(scope(outside), AddressScope::CarrierNat | AddressScope::Private);
        let differs = !mapped.is_empty() && !mapped.iter().any(|at| at.ip() == outside);
        outside_is_private || (differs && outside.is_ipv4())
    });
    carrier || router
}

// ---- the kind ---------------------------------------------------------------------------------------------------

fn kind(report: &NetworkReport, seen: &Observations) -> NetworkKind {
    if seen.services.is_empty() {
        return NetworkKind::Unknown;
    }
    if report.udp == Works::Yes {
        return match report.nat.mapping {
            NatMapping::None => NetworkKind::Public,
            NatMapping::EndpointIndependent => NetworkKind::FriendlyNat,
            NatMapping::AddressDependent => NetworkKind::SymmetricNat,
            NatMapping::Unknown => NetworkKind::Unknown,
        };
    }
    let other_ports = || seen.tcp.iter().filter(|answer| answer.server.port() != HTTPS_PORT);
    let others = works(other_ports().map(|answer| answer.round_trip_ms.is_some()));
    match (report.tcp, report.tcp_443, others) {
        (Works::Yes, Works::Yes, Works::No) => NetworkKind::OnlyHttps,
        (Works::Yes, ..) if report.udp == Works::No => NetworkKind::UdpBlocked,
        (Works::Yes, ..) => NetworkKind::Unknown,
        _ => NetworkKind::Offline,
    }
}

fn summary(kind: NetworkKind) -> Says {
    match kind {
        NetworkKind::Unknown => Says::KindUnknown,
        NetworkKind::Offline => Says::KindOffline,
        NetworkKind::Public => Says::KindPublic,
        NetworkKind::FriendlyNat => Says::KindFriendly,
        NetworkKind::SymmetricNat => Says::KindSymmetric,
        NetworkKind::UdpBlocked => Says::KindUdpBlocked,
        NetworkKind::OnlyHttps => Says::KindOnlyHttps,
    }
}

// ---- what follows -----------------------------------------------------------------------------------------------

fn consequences(report: &NetworkReport) -> Vec<Finding> {
    let calls = match report.kind {
        NetworkKind::Unknown => return Vec::new(),
        NetworkKind::Offline => return vec![Says::CallsNone.finding(&[])],
        NetworkKind::Public => Says::CallsDirect,
        NetworkKind::FriendlyNat => Says::CallsDirectMost,
        NetworkKind::SymmetricNat if report.port_mapping.is_some() && !report.nat.double_nat => {
            Says::CallsDirectMost
        }
        NetworkKind::SymmetricNat => Says::CallsDirectFew,
        NetworkKind::UdpBlocked | NetworkKind::OnlyHttps => Says::CallsRelayed,
    };
    let ipv6 = report.ipv6 == Works::Yes && report.udp == Works::Yes && report.kind != NetworkKind::Public;
    let all = [Some(calls), ipv6.then_some(Says::CallsIpv6), Some(Says::CallsStrangers)];
    all.into_iter().flatten().map(|says| says.finding(&[])).collect()
}

fn advice(report: &NetworkReport, seen: &Observations) -> Vec<Finding> {
    let mut advice = Vec::new();
    if seen.services.is_empty() {
        advice.push(Says::DoKnowSupernodes.finding(&[]));
    }
    match report.kind {
        NetworkKind::Offline => advice.push(Says::DoCheckCable.finding(&[])),
        NetworkKind::UdpBlocked | NetworkKind::OnlyHttps => advice.push(Says::DoAllowUdp.finding(&[])),
        NetworkKind::SymmetricNat if report.nat.double_nat => advice.push(Says::DoCarrier.finding(&[])),
        NetworkKind::SymmetricNat => {
            if report.port_mapping.is_none() {
                advice.push(Says::DoMapPort.finding(&[]));
            }
            if report.ipv6 != Works::Yes {
                advice.push(Says::DoIpv6.finding(&[]));
            }
        }
        NetworkKind::FriendlyNat if report.nat.double_nat => advice.push(Says::DoCarrier.finding(&[])),
        NetworkKind::FriendlyNat | NetworkKind::Public => advice.push(Says::DoNothing.finding(&[])),
        NetworkKind::Unknown => {}
    }
    if let Some(seconds) = report.clock_off_s {
        advice.push(Says::DoClock.finding(&[("seconds", &seconds.unsigned_abs().to_string())]));
    }
    advice
}

fn inferred(report: &NetworkReport, seen: &Observations) -> Vec<Finding> {
    let mut inferred = Vec::new();
    let nat = matches!(report.nat.mapping, NatMapping::EndpointIndependent | NatMapping::AddressDependent);
    let hosts: BTreeSet<IpAddr> = seen.udp.iter().map(|answer| answer.server.ip()).collect();
    let local = !hosts.is_empty()
        && hosts.iter().all(|ip| matches!(scope(*ip), AddressScope::Loopback | AddressScope::Private));
    if local {
        inferred.push(Says::InferPublicByRange);
    }
    if report.udp == Works::Yes && report.nat.mapping == NatMapping::Unknown {
        inferred.push(Says::InferOneServer);
    }
    if report.nat.mapping == NatMapping::EndpointIndependent && hosts.len() == 1 {
        inferred.push(Says::InferSameNetwork);
    }
    if nat {
        inferred.push(Says::InferFiltering);
        if report.ipv6 == Works::Yes {
            inferred.push(Says::InferOneFamily);
        }
    }
    if report.tcp_443 == Works::Untested && report.udp == Works::No {
        inferred.push(Says::InferPort443);
    }
    if report.ipv6 == Works::Untested && !seen.services.is_empty() {
        inferred.push(Says::InferNoIpv6Server);
    }
    inferred.into_iter().map(|says| says.finding(&[])).collect()
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
