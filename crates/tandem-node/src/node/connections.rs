//! Every connection of the node as a person sees it: what for, since when, what the other end can see, why this one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use tandem_api::{ConnectionRole, ConnectionView, NextSupernode, SupernodeWhy};
use tandem_core::time::Now;
use tandem_media::session::{PathStats, Route};
use tandem_proto::ids::{DeviceKey, ServiceKey};
use tandem_proto::multiaddr::{Transport, TransportAddress};
use tandem_proto::network::{network_group, network_name};
use tandem_relay::driver::AllocationRow;

use super::event_loop::Node;
use super::media::{MediaSnapshot, route_name};
use super::peers::PeerTable;
use super::phone::{LinkUse, Phone};
use super::supernode::{Circuit, Supernode};
use crate::messages::{
    NEIGHBOUR_CHOSEN, RELAY_CHOSEN, SCOUT_CHOSEN, connection_texts, dial_waits, home_over_tcp_text,
    over_tcp_text,
};
use crate::overlay::{ConnectionInfo, PeerKey};

/// The port of web pages, which lets through what other ports do not.
const HTTPS_PORT: u16 = 443;

/// What is needed to name connections, taken while the loop stands still.
#[derive(Debug)]
pub(crate) struct ConnectionNames {
    person: PhoneNames,
    /// Of this node's echo service.
    echo: PhoneNames,
    supernodes: Vec<ServiceKey>,
    /// Devices that this node's supernode is a home for.
    served: BTreeSet<DeviceKey>,
    /// Where the relays of calls are.
    relays: Vec<(ServiceKey, TransportAddress)>,
    allocations: Vec<AllocationRow>,
    circuits: Vec<Circuit>,
    now_unix_ms: u64,
}

impl ConnectionNames {
    pub(crate) fn of(node: &Node) -> Self {
        let unix_ms = node.clock.now().unix_ms;
        let supernodes = node.supernode.iter().flat_map(|supernode| supernode.supernodes());
        Self {
            person: PhoneNames::of(node, &node.person),
            echo: node.echo.as_ref().map(|echo| PhoneNames::of(node, echo)).unwrap_or_default(),
            supernodes: supernodes.map(tandem_proto::signed::SupernodeDescriptor::service).collect(),
            served: node.supernode.iter().flat_map(Supernode::served).collect(),
            relays: relay_addresses(&node.peers, unix_ms),
            allocations: node
                .supernode
                .as_ref()
                .and_then(Supernode::relay)
                .map(|r| r.allocations())
                .unwrap_or_default(),
            circuits: node.supernode.as_ref().map(|node| node.circuits().to_vec()).unwrap_or_default(),
            now_unix_ms: unix_ms,
        }
    }

    /// Every connection of this node with its purpose; `call` are the paths of the call in progress.
    pub(crate) fn views(
        &self,
        device: &[ConnectionInfo],
        service: &[ConnectionInfo],
        call: Option<&MediaSnapshot>,
    ) -> Vec<ConnectionView> {
        let mut views = self.phone_views(&self.person, device, call);
        views.extend(service.iter().map(|info| self.service_view(info)));
        views.extend(self.circuits.iter().map(circuit_view));
        views.extend(self.allocations.iter().map(|row| self.allocation_view(row)));
        views
    }

    /// The same for the echo service, which is a device of its own.
    pub(crate) fn echo_views(
        &self,
        device: &[ConnectionInfo],
        call: Option<&MediaSnapshot>,
    ) -> Vec<ConnectionView> {
        let mut views = self.phone_views(&self.echo, device, call);
        for view in &mut views {
            view.for_echo = true;
            view.purpose = format!("For the echo service that you run as a volunteer. {}", view.purpose);
        }
        views
    }

    /// Of a candidate's scout.
    pub(crate) fn scout_views(&self, scout: &[ConnectionInfo]) -> Vec<ConnectionView> {
        let view = |info: &ConnectionInfo| {
            let why = SupernodeWhy {
                because: vec![SCOUT_CHOSEN.to_owned()],
                network: network_of(info),
                ..SupernodeWhy::default()
            };
            ConnectionView { why: Some(why), ..view(ConnectionRole::Scout, info) }
        };
        scout.iter().map(view).collect()
    }

    fn phone_views(
        &self,
        names: &PhoneNames,
        device: &[ConnectionInfo],
        call: Option<&MediaSnapshot>,
    ) -> Vec<ConnectionView> {
        let mut views: Vec<ConnectionView> = device.iter().map(|info| names.view(info)).collect();
        views.extend(names.waits.iter().map(|(service, wait_ms)| self.waiting_view(*service, *wait_ms)));
        if let Some(call) = call {
            let since = |path: &PathStats| call.session_unix_ms + path.first_heard_ms.unwrap_or(0);
            views.extend(call.stats.paths.iter().map(|path| self.path_view(call, path, since(path))));
        }
        views
    }

    /// One that is dialled later.
    fn waiting_view(&self, service: ServiceKey, wait_ms: u64) -> ConnectionView {
        let texts = connection_texts(ConnectionRole::Errand);
        ConnectionView {
            peer: service.to_string(),
            role: ConnectionRole::Errand,
            for_echo: false,
            purpose: format!("{} {}", texts.purpose, dial_waits(wait_ms)),
            since_unix_ms: self.now_unix_ms,
            transport: "none".to_owned(),
            remote: String::new(),
            outbound: true,
            bytes_in: 0,
            bytes_out: 0,
            sees: "Nothing yet.".to_owned(),
            does_not_see: texts.does_not_see.to_owned(),
            why: None,
        }
    }

    fn service_view(&self, info: &ConnectionInfo) -> ConnectionView {
        let key = match info.peer {
            PeerKey::Service(service) => service,
            PeerKey::Device(device) => ServiceKey(device.0),
        };
        let role = if self.supernodes.contains(&key) {
            ConnectionRole::Directory
        } else if self.served.contains(&DeviceKey(key.0)) {
            ConnectionRole::Served
        } else {
            ConnectionRole::Visitor
        };
        let why = (role == ConnectionRole::Directory && info.outbound).then(|| SupernodeWhy {
            because: vec![NEIGHBOUR_CHOSEN.to_owned()],
            network: network_of(info),
            ..SupernodeWhy::default()
        });
        ConnectionView { why, ..view(role, info) }
    }

    /// The other relays of the call stand by.
    fn relay_why(call: &MediaSnapshot, route: &Route, remote: Option<SocketAddr>) -> Option<SupernodeWhy> {
        let Route::Relay { service, .. } = route else { return None };
        let mut next: Vec<NextSupernode> = Vec::new();
        for path in &call.stats.paths {
            let Route::Relay { service: other, .. } = path.route else { continue };
            let name = other.to_string();
            if other != *service && next.iter().all(|known| known.service != name) {
                let because = "carries this call already".to_owned();
                next.push(NextSupernode { service: name, because });
            }
        }
        Some(SupernodeWhy {
            because: vec![RELAY_CHOSEN.to_owned()],
            network: remote.and_then(|at| network_name(network_group(at.ip()))),
            next,
            ..SupernodeWhy::default()
        })
    }

    /// The address of a relay that the call uses now.
    fn relay_server(call: &MediaSnapshot, service: ServiceKey) -> Option<SocketAddr> {
        call.stats.relays.iter().find(|relay| relay.service == service)?.server
    }

    fn path_view(&self, call: &MediaSnapshot, path: &PathStats, since_unix_ms: u64) -> ConnectionView {
        let (role, transport) = match path.route {
            Route::Direct => (ConnectionRole::Direct, "udp"),
            Route::Relay { tcp: true, .. } => (ConnectionRole::Relay, "tcp"),
            Route::Relay { tcp: false, .. } => (ConnectionRole::Relay, "udp"),
        };
        let at = |service, tcp| {
            let kind = if tcp { Transport::Tcp } else { Transport::Udp };
            let fits =
                |known: &&(ServiceKey, TransportAddress)| known.0 == service && known.1.transport == kind;
            self.relays.iter().find(fits).map(|(_, address)| address.socket())
        };
        let remote = match path.route {
            Route::Relay { service, tcp } => Self::relay_server(call, service).or_else(|| at(service, tcp)),
            Route::Direct => path.remote.map(|end| end.addr),
        };
        let texts = connection_texts(role);
        ConnectionView {
            peer: route_name(&path.route),
            role,
            for_echo: false,
            purpose: purpose(role, transport, remote),
            since_unix_ms,
            transport: transport.to_owned(),
            remote: remote.map(|at| at.to_string()).unwrap_or_default(),
            outbound: true,
            bytes_in: path.bytes_received,
            bytes_out: path.bytes_sent,
            sees: texts.sees.to_owned(),
            does_not_see: texts.does_not_see.to_owned(),
            why: Self::relay_why(call, &path.route, remote),
        }
    }

    fn allocation_view(&self, row: &AllocationRow) -> ConnectionView {
        let texts = connection_texts(ConnectionRole::Relayed);
        let age_ms = u64::try_from(row.age.as_millis()).unwrap_or(u64::MAX);
        ConnectionView {
            peer: row.info.device.map_or_else(|| "anonymous".to_owned(), |device| device.to_string()),
            role: ConnectionRole::Relayed,
            for_echo: false,
            purpose: texts.purpose.to_owned(),
            since_unix_ms: self.now_unix_ms.saturating_sub(age_ms),
            transport: row.transport().to_owned(),
            remote: row.info.client.address().to_string(),
            outbound: false,
            bytes_in: row.info.bytes_in,
            bytes_out: row.info.bytes_out,
            sees: texts.sees.to_owned(),
            does_not_see: texts.does_not_see.to_owned(),
            why: None,
        }
    }
}

/// A circuit has no connection of its own: it runs, and its bytes are counted, in those of its two ends.
fn circuit_view(circuit: &Circuit) -> ConnectionView {
    let texts = connection_texts(ConnectionRole::Forwarded);
    ConnectionView {
        peer: circuit.source.to_string(),
        role: ConnectionRole::Forwarded,
        for_echo: false,
        purpose: texts.purpose.to_owned(),
        since_unix_ms: circuit.since_unix_ms,
        transport: "circuit".to_owned(),
        remote: circuit.target.to_string(),
        outbound: false,
        bytes_in: 0,
        bytes_out: 0,
        sees: texts.sees.to_owned(),
        does_not_see: texts.does_not_see.to_owned(),
        why: None,
    }
}

fn view(role: ConnectionRole, info: &ConnectionInfo) -> ConnectionView {
    let texts = connection_texts(role);
    ConnectionView {
        peer: match info.peer {
            PeerKey::Device(device) => device.to_string(),
            PeerKey::Service(service) => service.to_string(),
        },
        role,
        for_echo: false,
        purpose: purpose(role, if info.outbound { info.transport } else { "" }, address_of(&info.remote)),
        since_unix_ms: info.since_unix_ms,
        transport: info.transport.to_owned(),
        remote: info.remote.clone(),
        outbound: info.outbound,
        bytes_in: info.bytes_in,
        bytes_out: info.bytes_out,
        sees: texts.sees.to_owned(),
        does_not_see: texts.does_not_see.to_owned(),
        why: None,
    }
}

/// What a connection is for, and why it runs over TCP if it does.
fn purpose(role: ConnectionRole, transport: &str, remote: Option<SocketAddr>) -> String {
    let purpose = connection_texts(role).purpose;
    if transport != "tcp" {
        return purpose.to_owned();
    }
    let https = remote.is_some_and(|remote| remote.port() == HTTPS_PORT);
    let over_tcp = match role {
        ConnectionRole::Home | ConnectionRole::Candidate => home_over_tcp_text(https),
        _ => over_tcp_text(https),
    };
    format!("{purpose} {over_tcp}")
}

/// The address in a multiaddr's text.
fn address_of(remote: &str) -> Option<SocketAddr> {
    let plain = remote.split("/p2p/").next()?;
    Some(plain.parse::<TransportAddress>().ok()?.socket())
}

fn network_of(info: &ConnectionInfo) -> Option<String> {
    network_name(network_group(address_of(&info.remote)?.ip()))
}

fn relay_addresses(peers: &PeerTable, unix_ms: u64) -> Vec<(ServiceKey, TransportAddress)> {
    let relays = peers.descriptors(unix_ms);
    relays.flat_map(|relay| relay.known_relay().map(move |address| (relay.service(), address))).collect()
}

/// What is needed to name the connections of one device.
#[derive(Debug, Default)]
struct PhoneNames {
    homes: Vec<ServiceKey>,
    uses: BTreeMap<ServiceKey, LinkUse>,
    why: BTreeMap<ServiceKey, SupernodeWhy>,
    waits: Vec<(ServiceKey, u64)>,
}

impl PhoneNames {
    fn of(node: &Node, phone: &Phone) -> Self {
        let now: Now = node.clock.now();
        Self {
            homes: home_keys(node, phone),
            uses: phone.link_uses().collect(),
            why: phone.homes_explained(&node.peers, now).into_iter().collect(),
            waits: phone.waits(now),
        }
    }

    fn view(&self, info: &ConnectionInfo) -> ConnectionView {
        let PeerKey::Service(service) = info.peer else { return view(ConnectionRole::Signal, info) };
        let role = match self.uses.get(&service) {
            _ if self.homes.contains(&service) => ConnectionRole::Home,
            Some(LinkUse::Homes) => ConnectionRole::Candidate,
            Some(LinkUse::Errand) => ConnectionRole::Errand,
            None => ConnectionRole::Carrier,
        };
        ConnectionView { why: self.why.get(&service).cloned(), ..view(role, info) }
    }
}

fn home_keys(node: &Node, phone: &Phone) -> Vec<ServiceKey> {
    phone.homes().filter_map(|peer| Some(node.peers.get(peer)?.service)).collect()
}
