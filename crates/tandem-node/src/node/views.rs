//! What the person sees of the node: ready, status, volunteering, figures; `connections` has those.

use tandem_api::{API_VERSION, HomeView, Identity, MetricKind, Metrics, Problem, Ready, Status};
use tandem_core::election::Role;
use tandem_proto::multiaddr::TransportAddress;

use super::event_loop::Node;
use super::volunteering::roles_view;
use crate::messages::Code;

/// A device that has no home by then has a problem.
const HOMES_WITHIN_MS: u64 = 10_000;

/// Peer ids of the reserved homes.
pub(crate) fn home_names(node: &Node) -> Vec<String> {
    node.person.homes().filter_map(|peer| Some(node.peers.get(peer)?.service.to_string())).collect()
}

pub(crate) fn ready(node: &Node) -> Ready {
    Ready {
        ready: node.person.is_reachable() || node.serves(),
        address: node.installation.keys.address().to_string(),
        device: node.person.device().to_string(),
        listen: node.supernode.as_ref().map(|supernode| supernode.listening().to_vec()).unwrap_or_default(),
        homes: home_names(node),
    }
}

pub(crate) fn status(node: &Node) -> Status {
    let home_details = node
        .person
        .homes()
        .filter_map(|home| {
            let peer = node.peers.get(home)?;
            Some(HomeView {
                service: peer.service.to_string(),
                remote: address_text(&peer.addresses),
                reserved: true,
                since_unix_ms: node.person.home_since(home).unwrap_or(node.started.unix_ms),
            })
        })
        .collect();
    // A supernode counts what its service knows; a leaf what it was told.
    let known = node.supernode.as_ref().filter(|supernode| supernode.serves());
    let known = known.map_or(node.peers.len(), |supernode| supernode.figures().supernodes_known);
    Status {
        // The line a front end waits for says that the node works; this says whether a call would arrive.
        reach: Ready { ready: node.person.is_reachable(), ..ready(node) },
        api_version: API_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        network: node.config.network.clone(),
        started_unix_ms: node.started.unix_ms,
        home_details,
        supernodes_known: u32::try_from(known).unwrap_or(u32::MAX),
        calls: u32::try_from(node.calls.len()).unwrap_or(u32::MAX),
        requests_waiting: node.requests_waiting(),
        volunteer_roles: roles_view(node.volunteering.agreed_roles()),
        serving: node.serving_state(),
        problems: problems(node),
        network_kind: node.last_check.kind(),
    }
}

/// What the person should know about now.
fn problems(node: &Node) -> Vec<Problem> {
    if node.person.is_revoked() {
        return vec![Code::DeviceRevoked.problem()];
    }
    let restoring = node.installation.keys.restoring.then(|| Code::Restoring.problem());
    let skew = node.person.clock_skew_minutes();
    let skew = skew.map(|minutes| Code::ClockSkew.with(&[("minutes", &minutes.to_string())]));
    let supernode = node.supernode.as_ref().filter(|supernode| supernode.serves());
    let others = supernode.map_or(node.peers.len(), |supernode| supernode.figures().supernodes_known);
    let standing = Standing {
        homes: node.person.homes().count(),
        serves: supernode.is_some(),
        knows_others: others > 0 || !node.config.bootstrap.is_empty(),
        up_ms: node.clock.now().mono_ms - node.started.mono_ms,
    };
    restoring
        .into_iter()
        .chain(node.devices.problem())
        .chain(node.volunteering.problem())
        .chain(node.serving_problem())
        .chain(skew)
        .chain(node.audit_problem())
        .chain(
            node.private
                .as_ref()
                .and_then(|private| private.problem(node.supernode.is_some(), node.clock.now().unix_ms)),
        )
        .chain(standing.problem().map(Code::problem))
        .collect()
}

/// What decides whether a device without homes has a problem.
#[derive(Debug, Clone, Copy)]
struct Standing {
    homes: usize,
    /// It is a supernode itself.
    serves: bool,
    knows_others: bool,
    up_ms: u64,
}

impl Standing {
    fn problem(self) -> Option<Code> {
        match self {
            Self { homes: 1.., .. } => None,
            Self { knows_others: false, serves: true, .. } => Some(Code::AloneSupernode),
            Self { knows_others: false, serves: false, .. } => Some(Code::NoBootstrap),
            Self { up_ms, .. } => (up_ms >= HOMES_WITHIN_MS).then_some(Code::NoSupernode),
        }
    }
}

pub(crate) fn identity(node: &Node) -> Identity {
    let keys = &node.installation.keys;
    Identity {
        address: keys.address().to_string(),
        device: node.person.device().to_string(),
        service: keys.service.public().to_string(),
        has_account_key: keys.entropy.is_some(),
        sealed: keys.sealed,
        epoch: keys.device_set.epoch(),
        certificate_serial: keys.certificate.serial(),
        certificate_not_after_unix_ms: keys.certificate.not_after_s() * 1000,
        devices: u32::try_from(keys.device_set.devices().len()).unwrap_or(u32::MAX),
        label: keys.certificate.label().to_owned(),
        restoring: keys.restoring,
        revoked: keys.revoked.is_some(),
    }
}

pub(crate) fn metrics(node: &Node) -> Metrics {
    let mut metrics = Metrics::default();
    let mut gauge = |name: &str, help: &str, value: f64| metrics.push(MetricKind::Gauge, name, help, value);
    gauge("tandem_homes", "Homes reserved.", node.person.homes().count() as f64);
    gauge("tandem_reachable", "1 when others can reach this device.", f64::from(node.person.is_reachable()));
    gauge("tandem_calls", "Calls of this person going on.", node.calls.len() as f64);
    gauge("tandem_supernodes_known", "Supernodes known.", node.peers.len() as f64);
    let Some(supernode) = &node.supernode else { return metrics };
    let figures = supernode.figures();
    gauge("tandem_service_clients", "Home streams open.", figures.clients as f64);
    gauge("tandem_service_reserved", "Devices reserved here.", figures.reserved as f64);
    gauge("tandem_service_supernodes", "Other supernodes known.", figures.supernodes_known as f64);
    gauge("tandem_service_circuits", "Circuits forwarded now.", supernode.circuits().len() as f64);
    let mut counter =
        |name: &str, help: &str, value: u64| metrics.push(MetricKind::Counter, name, help, value as f64);
    counter("tandem_service_requests_total", "Requests answered.", figures.requests);
    counter("tandem_service_shed_total", "Requests answered with Busy.", figures.shed);
    counter("tandem_service_grants_total", "Grants given.", figures.grants);
    counter("tandem_service_records_refused_total", "Records refused.", figures.records_refused);
    if let Some(relay) = supernode.relay() {
        let stats = relay.stats();
        counter("tandem_relay_packets_in_total", "Packets the relay received.", stats.server.packets_in);
        counter("tandem_relay_forwarded_packets_total", "Packets forwarded.", stats.server.packets_forwarded);
        counter("tandem_relay_forwarded_bytes_total", "Bytes forwarded.", stats.server.bytes_forwarded);
        counter("tandem_relay_allocations_total", "Allocations made.", stats.server.allocations_made);
        counter("tandem_relay_refused_total", "Allocations refused.", stats.server.allocations_refused);
        metrics.push(
            MetricKind::Gauge,
            "tandem_relay_allocations",
            "Allocations alive.",
            stats.server.allocations as f64,
        );
        metrics.push(
            MetricKind::Gauge,
            "tandem_relay_threads",
            "Threads of the relay: one more whenever all there are had too much to do.",
            stats.threads as f64,
        );
        metrics.push(
            MetricKind::Gauge,
            "tandem_relay_month_bytes",
            "Bytes forwarded this calendar month (UTC).",
            node.volunteering.bytes_this_month(Role::Relay) as f64,
        );
    }
    metrics
}

fn address_text(addresses: &[Vec<u8>]) -> String {
    let known = addresses.iter().find_map(|bytes| TransportAddress::from_bytes(bytes).ok());
    known.map(|address| address.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_homes_learns_why() {
        let fine = Standing { homes: 1, serves: false, knows_others: true, up_ms: 60_000 };
        assert_eq!(fine.problem(), None);
        let alone = Standing { homes: 0, knows_others: false, ..fine };
        assert_eq!(alone.problem(), Some(Code::NoBootstrap));
        assert_eq!(Standing { serves: true, ..alone }.problem(), Some(Code::AloneSupernode));
        let lost = Standing { homes: 0, ..fine };
        assert_eq!(lost.problem(), Some(Code::NoSupernode));
        assert_eq!(Standing { up_ms: 9_999, ..lost }.problem(), None, "it has only begun");
    }
}
