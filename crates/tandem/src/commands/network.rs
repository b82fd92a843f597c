//! `tandem doctor network`: what kind of network this is, for a person and for an engineer.

use tandem_api::{
    AddressScope, Finding, NatMapping, NetworkKind, NetworkReport, Problem, SupernodeProbe, Works,
};
use tandem_node::config::Flags;
use tandem_node::installation::unix_ms;
use tandem_node::network_check::{CheckPlan, Target, check, remembered_targets, targets};
use tandem_node::platform::{DataLock, paths};
use tandem_node::store::Store;
use tandem_node::why::short;

use super::{Place, runtime};
use crate::client::Client;
use crate::output::{self, Exit};

pub(super) fn run(place: &Place) -> Result<Exit, Problem> {
    let report = examine(place)?;
    output::either(place.json, &report, render);
    let works = !matches!(report.kind, NetworkKind::Offline | NetworkKind::Unknown);
    Ok(if works { Exit::Done } else { Exit::Failed })
}

/// By the running node, or from here with the supernodes that the data folder and the settings know.
pub(super) fn examine(place: &Place) -> Result<NetworkReport, Problem> {
    if let Some(client) = Client::find(&place.data)? {
        return client.get("/api/network");
    }
    let config = place.load(&Flags::new())?.config;
    let known = remembered(place);
    let plan = CheckPlan {
        targets: targets(known, &config),
        bind: config.source_address(),
        clock_off_s: None,
        ask_router: config.port_mapping,
    };
    Ok(runtime()?.block_on(check(plan)))
}

/// A folder that cannot be opened has none to offer: `tandem doctor` says what is wrong with it.
fn remembered(place: &Place) -> Vec<Target> {
    let path = place.data.join(paths::STORE);
    if !path.exists() {
        return Vec::new();
    }
    let Ok(_lock) = DataLock::take(&place.data) else { return Vec::new() };
    Store::open(&path, unix_ms()).map(|store| remembered_targets(&store)).unwrap_or_default()
}

/// At most 80 columns wide.
fn render(report: &NetworkReport) -> String {
    let mut text = output::wrapped("", &report.summary);
    for (title, findings) in [
        ("What follows", &report.consequences),
        ("What you can do", &report.advice),
        ("Concluded, not tested", &report.inferred),
    ] {
        text.push_str(&section(title, findings));
    }
    text.push_str("\nWhat was found\n");
    for (name, found) in facts(report) {
        text.push_str(&output::wrapped(&format!("  {name:<14}"), &found));
    }
    text.push_str(&addresses(report));
    text.push_str(&supernodes(&report.supernodes));
    text
}

fn section(title: &str, findings: &[Finding]) -> String {
    if findings.is_empty() {
        return String::new();
    }
    let lines: String = findings.iter().map(|finding| output::wrapped("  - ", &finding.text)).collect();
    format!("\n{title}\n{lines}")
}

fn facts(report: &NetworkReport) -> Vec<(&'static str, String)> {
    let nat = &report.nat;
    let mapping = match nat.mapping {
        NatMapping::Unknown => "not known",
        NatMapping::None => "no NAT",
        NatMapping::EndpointIndependent => "endpoint-independent: one outside port for everybody",
        NatMapping::AddressDependent => "address-dependent (symmetric): another port for each destination",
    };
    let only_https = report.kind == NetworkKind::OnlyHttps;
    let mut facts = vec![
        ("UDP", works(report.udp).to_owned()),
        ("TCP", if only_https { "only to port 443" } else { works(report.tcp) }.to_owned()),
        ("TCP port 443", works(report.tcp_443).to_owned()),
        ("IPv4", works(report.ipv4).to_owned()),
        ("IPv6", works(report.ipv6).to_owned()),
        ("NAT mapping", mapping.to_owned()),
    ];
    if !nat.mapped.is_empty() {
        facts.push(("seen as", nat.mapped.join(", ")));
    }
    if let Some(preserved) = nat.port_preserved.filter(|_| nat.mapping != NatMapping::None) {
        facts.push(("port", if preserved { "kept by the NAT" } else { "changed by the NAT" }.to_owned()));
    }
    if nat.hairpin != Works::Untested {
        facts.push(("hairpinning", works(nat.hairpin).to_owned()));
    }
    if nat.double_nat {
        facts.push(("double NAT", "yes: more than one NAT in a row".to_owned()));
    }
    if let Some(mapping) = &report.port_mapping {
        facts.push(("router opens", format!("ports on request: {mapping}")));
    }
    if let Some(seconds) = report.clock_off_s {
        facts.push(("clock", format!("off by {seconds} s")));
    }
    facts.push(("took", format!("{} ms", report.took_ms)));
    facts
}

fn works(works: Works) -> &'static str {
    match works {
        Works::Yes => "works",
        Works::No => "does not get through",
        Works::Untested => "not tested",
    }
}

fn addresses(report: &NetworkReport) -> String {
    let rows: Vec<[String; 4]> = report
        .addresses
        .iter()
        .map(|view| {
            let scope = match view.scope {
                AddressScope::Loopback => "this machine",
                AddressScope::LinkLocal => "link-local",
                AddressScope::Private => "private",
                AddressScope::CarrierNat => "carrier NAT",
                AddressScope::Public => "public",
                AddressScope::Special => "special",
            };
            let way = if view.default_route { "packets leave here" } else { "" };
            [view.address.clone(), scope.to_owned(), view.interface.clone(), way.to_owned()]
        })
        .collect();
    indented("Addresses of this machine", ["address", "kind", "interface", ""], &rows)
}

fn supernodes(probes: &[SupernodeProbe]) -> String {
    let answer = |works: Works, ms: Option<f64>| match (works, ms) {
        (Works::Yes, Some(ms)) => format!("{ms:.1} ms"),
        (Works::Yes, None) => "yes".to_owned(),
        (Works::No, _) => "no answer".to_owned(),
        (Works::Untested, _) => "-".to_owned(),
    };
    let rows: Vec<[String; 5]> = probes
        .iter()
        .map(|probe| {
            [
                short(&probe.service),
                probe.address.clone(),
                answer(probe.udp, probe.udp_round_trip_ms),
                answer(probe.tcp, probe.tcp_round_trip_ms),
                answer(probe.tcp_443, None),
            ]
        })
        .collect();
    indented("Supernodes asked (round trips)", ["supernode", "address", "UDP", "TCP", "443"], &rows)
}

fn indented<const N: usize>(title: &str, head: [&str; N], rows: &[[String; N]]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let table = output::table(head, rows);
    let lines: String = table.lines().map(|line| format!("  {}\n", line.trim_end())).collect();
    format!("\n{title}\n{lines}")
}
