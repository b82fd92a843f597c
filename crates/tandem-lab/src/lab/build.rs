//! From a plan to namespaces, lines, addresses and rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::host::{Lan, Uplink, cable, plug_lines};
use super::{Host, Lab, Router};
use crate::address::{self, LAN_ROUTER, Place};
use crate::namespace::{Namespace, Prefix};
use crate::nat::Rules;
use crate::plan::{CarrierPlan, Families, HomePlan, Nat, Plan};
use crate::shell;
use crate::wire::{Conditions, Engine, Link, WirePlan};

/// What numbers in addresses allow.
const NODES_MAX: usize = 200;
/// Every host draws its ports from a range of its own, so that routers can keep them (RFC 4787 §4.2.1) though several
/// hosts use one public address. Ranges repeat after so many hosts.
const PORT_RANGES: usize = 20;
const PORTS_FIRST: usize = 20_000;
const PORTS_EACH: usize = 2_000;

/// IPv4 everywhere; no filter on the way back's interface, no router discovery, addresses valid at once.
const SYSCTL: &[(&str, &str)] = &[
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    // Where the kernel can, it would send frames that stay on a LAN through the router's packet rules.
    ("bridge/bridge-nf-call-iptables", "0"),
    ("bridge/bridge-nf-call-ip6tables", "0"),
];
const NO_V6: &[(&str, &str)] =
    &[("ipv6/conf/all/disable_ipv6", "1"), ("ipv6/conf/default/disable_ipv6", "1")];
const FORWARDS: &[(&str, &str)] = &[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")];

/// The network in the middle carries everything but what a test cuts.
const CORE_RULES: &str = "flush ruleset
table inet lab {
set cut4 { type ipv4_addr . ipv4_addr; }
set cut6 { type ipv6_addr . ipv6_addr; }
chain forward { type filter hook forward priority 0; policy accept;
ip saddr . ip daddr @cut4 drop
ip6 saddr . ip6 daddr @cut6 drop
}
}
";

pub(super) fn build(plan: &Plan) -> Result<Lab> {
    check(plan)?;
    let prefix = Prefix::claim()?;
    let core = prefix.namespace("core");
    let mut work = Work::new(plan, &prefix, core.clone());
    work.namespaces()?;
    work.servers();
    work.carriers();
    work.homes()?;
    let engine = work.lines()?;
    work.configure()?;
    let Work { hosts, routers, links, .. } = work;
    Ok(Lab { _engine: engine, hosts, routers, links, core, _prefix: prefix })
}

fn check(plan: &Plan) -> Result<()> {
    let nodes = plan.servers.len() + plan.carriers.len() + plan.homes.len();
    ensure!(nodes + usize::from(plan.homes_from) < NODES_MAX, "too many nodes");
    let hosts = plan.homes.iter().flat_map(|home| &home.hosts);
    let names = plan.servers.iter().map(|server| &server.name);
    let names = names.chain(plan.carriers.iter().map(|carrier| &carrier.name));
    let names = names.chain(plan.homes.iter().map(|home| &home.name)).chain(hosts);
    let mut seen = std::collections::BTreeSet::from(["core".to_owned()]);
    for name in names {
        ensure!(seen.insert(name.clone()), "two nodes of the plan are called {name}");
    }
    for home in plan.homes.iter().filter(|home| home.via.is_some()) {
        ensure!(
            home.nat != Nat::None && home.families == Families::V4,
            "{}: behind a carrier, a home has a NAT and IPv4 only",
            home.name
        );
    }
    Ok(())
}

/// A line to be: the customer's interface and the network's.
struct Line {
    name: String,
    customer: (Namespace, String),
    network: (Namespace, String),
    conditions: Option<Conditions>,
}

struct Work<'a> {
    plan: &'a Plan,
    prefix: &'a Prefix,
    core: Namespace,
    lines: Vec<Line>,
    /// Perfect lines of LANs.
    cables: Vec<String>,
    /// `ip` lines for each namespace, in order.
    settings: BTreeMap<String, (Namespace, Vec<String>)>,
    hosts: BTreeMap<String, Host>,
    routers: BTreeMap<String, Router>,
    links: BTreeMap<String, Link>,
    macs: u32,
}

impl<'a> Work<'a> {
    fn new(plan: &'a Plan, prefix: &'a Prefix, core: Namespace) -> Self {
        Self {
            plan,
            prefix,
            core,
            lines: Vec::new(),
            cables: Vec::new(),
            settings: BTreeMap::new(),
            hosts: BTreeMap::new(),
            routers: BTreeMap::new(),
            links: BTreeMap::new(),
            macs: 0,
        }
    }

    /// Makes all namespaces, with their kernel settings.
    fn namespaces(&self) -> Result<()> {
        let plan = self.plan;
        let mut made: Vec<(Namespace, bool, bool)> = vec![(self.core.clone(), true, true)];
        let mut add = |name: &str, v6, forwards| made.push((self.prefix.namespace(name), v6, forwards));
        for server in &plan.servers {
            add(&server.name, true, false);
        }
        for carrier in &plan.carriers {
            add(&carrier.name, false, true);
        }
        for home in &plan.homes {
            add(&home.name, home.families.v6(), true);
            for host in &home.hosts {
                // A host may move to a home with IPv6.
                add(host, plan.homes.iter().any(|home| home.families.v6()), false);
            }
        }
        let lines: Vec<String> = made.iter().map(|(ns, ..)| format!("netns add {}", ns.name())).collect();
        shell::ip(None, &lines)?;
        for (namespace, v6, forwards) in &made {
            let mut settings = SYSCTL.to_vec();
            settings.extend(if *v6 { &[] } else { NO_V6 });
            settings.extend(if *forwards { FORWARDS } else { &[] });
            namespace.sysctl(&settings)?;
            namespace.ip(&["link set lo up".to_owned()])?;
        }
        let hosts = plan.homes.iter().flat_map(|home| &home.hosts);
        for (at, host) in hosts.enumerate() {
            let first = PORTS_FIRST + at % PORT_RANGES * PORTS_EACH;
            let range = format!("{first} {}", first + PORTS_EACH - 1);
            self.prefix.namespace(host).sysctl(&[("ipv4/ip_local_port_range", range.as_str())])?;
        }
        Ok(())
    }

    fn servers(&mut self) {
        for (number, server) in (1u8..).zip(&self.plan.servers) {
            let place = address::server(number);
            let namespace = self.prefix.namespace(&server.name);
            let core = self.core.clone();
            self.access(&server.name, &namespace, &core, &format!("s{number}"), place, server.line);
            let uplink = Uplink {
                interface: "wan".into(),
                port: String::new(),
                lan: None,
                v4: place.v4,
                v6: place.v6,
                up: true,
            };
            let host = Host::new(&server.name, namespace, Arc::default(), uplink);
            self.hosts.insert(server.name.clone(), host);
        }
    }

    fn carriers(&mut self) {
        for (number, carrier) in (1u8..).zip(&self.plan.carriers) {
            let place = address::carrier(number);
            let namespace = self.prefix.namespace(&carrier.name);
            let core = self.core.clone();
            self.access(&carrier.name, &namespace, &core, &format!("c{number}"), place, carrier.line);
            let rules = rules_of_carrier(carrier, place);
            self.routers.insert(carrier.name.clone(), Router { namespace, rules });
        }
    }

    fn homes(&mut self) -> Result<()> {
        let plan = self.plan;
        let lans = (plan.homes_from.max(1)..).zip(&plan.homes);
        let lans = lans.map(|(number, home)| Lan::new(home, number, self.prefix.namespace(&home.name)));
        let lans = Arc::new(lans.collect::<Vec<_>>());
        for (lan, home) in lans.iter().zip(&plan.homes) {
            self.home(lan, home)?;
            for host in &home.hosts {
                let namespace = self.prefix.namespace(host);
                let uplink = lan.place("wlan0");
                self.cables.push(cable((&namespace, &uplink.interface), (&lan.router, &uplink.port)));
                self.set(&lan.router, plug_lines(&uplink.port));
                self.set(&namespace, uplink.up_lines());
                self.hosts.insert(host.clone(), Host::new(host, namespace, Arc::clone(&lans), uplink));
            }
        }
        Ok(())
    }

    /// A home's router: its line, its LAN, its rules.
    fn home(&mut self, lan: &Lan, home: &HomePlan) -> Result<()> {
        let number = lan.number;
        let (place, upstream) = match &home.via {
            None => (address::home(number, lan.v4, lan.v6), self.core.clone()),
            Some(carrier) => {
                if !self.routers.contains_key(carrier) {
                    bail!("{} is behind {carrier}, and the plan has no such carrier", home.name);
                }
                (address::home_behind_carrier(number), self.prefix.namespace(carrier))
            }
        };
        self.access(&home.name, &lan.router, &upstream, &format!("h{number}"), place, home.line);
        let mut lines = vec!["link add lan type bridge".to_owned(), "link set lan up".to_owned()];
        let mut routes = Vec::new();
        if let Some((outside, _)) = place.v4 {
            lines.push(format!("address add {}/24 dev lan", address::lan_v4(number, lan.public, LAN_ROUTER)));
            if lan.public {
                routes.push(format!("route add {}/24 via {outside}", address::lan_v4(number, true, 0)));
            }
        }
        if let Some((outside, _)) = place.v6 {
            let own = address::lan_v6(number, u16::from(LAN_ROUTER));
            lines.push(format!("address add {own}/64 dev lan nodad"));
            routes.push(format!("route add {}/64 via {outside}", address::lan_v6(number, 0)));
        }
        self.set(&lan.router, lines);
        self.set(&upstream, routes);
        let rules = Rules {
            nat: home.nat,
            outside: place.v4.map(|(outside, _)| outside),
            hairpin: home.hairpin,
            udp_timeout_s: home.udp_timeout.as_secs().max(1),
            families: home.families,
        };
        let timeout = rules.udp_timeout_s.to_string();
        lan.router.sysctl(&[
            ("netfilter/nf_conntrack_udp_timeout", timeout.as_str()),
            ("netfilter/nf_conntrack_udp_timeout_stream", timeout.as_str()),
        ])?;
        self.routers.insert(home.name.clone(), Router { namespace: lan.router.clone(), rules });
        Ok(())
    }

    /// The access line of a router or server, with the addresses of both its ends. Neighbours are written by hand, so
    /// that a line that loses packets does not also lose the questions for them.
    fn access(
        &mut self,
        name: &str,
        customer: &Namespace,
        network: &Namespace,
        interface: &str,
        place: Place,
        conditions: Option<Conditions>,
    ) {
        let (own_mac, gateway_mac) = (self.mac(), self.mac());
        let mut near = vec![format!("link set wan address {own_mac}"), "link set wan up".to_owned()];
        let mut far =
            vec![format!("link set {interface} address {gateway_mac}"), format!("link set {interface} up")];
        let mut join = |own: String, gateway: String, length: u8, nodad: &str| {
            near.push(format!("address add {own}/{length} dev wan {nodad}"));
            far.push(format!("address add {gateway}/{length} dev {interface} {nodad}"));
            near.push(format!("neighbour replace {gateway} lladdr {gateway_mac} dev wan nud permanent"));
            far.push(format!("neighbour replace {own} lladdr {own_mac} dev {interface} nud permanent"));
            near.push(format!("route add default via {gateway} dev wan"));
        };
        if let Some((own, gateway)) = place.v4 {
            join(own.to_string(), gateway.to_string(), 24, "");
        }
        if let Some((own, gateway)) = place.v6 {
            join(own.to_string(), gateway.to_string(), 64, "nodad");
        }
        self.set(customer, near);
        self.set(network, far);
        self.lines.push(Line {
            name: name.to_owned(),
            customer: (customer.clone(), "wan".to_owned()),
            network: (network.clone(), interface.to_owned()),
            conditions,
        });
    }

    /// Makes all lines: cables, and wires for those with conditions.
    fn lines(&mut self) -> Result<Option<Engine>> {
        let mut cables = std::mem::take(&mut self.cables);
        let mut wires = Vec::new();
        let lines = std::mem::take(&mut self.lines);
        for (number, line) in (1u64..).zip(&lines) {
            let Some(conditions) = line.conditions else {
                cables.push(cable((&line.customer.0, &line.customer.1), (&line.network.0, &line.network.1)));
                continue;
            };
            let link = Link::new(conditions, self.plan.seed.wrapping_mul(1_000_003).wrapping_add(number));
            self.links.insert(line.name.clone(), link.clone());
            wires.push(WirePlan {
                customer: (&line.customer.0, line.customer.1.clone()),
                network: (&line.network.0, line.network.1.clone()),
                link,
            });
        }
        shell::ip(None, &cables)?;
        if wires.is_empty() { Ok(None) } else { Engine::start(&wires).map(Some) }
    }

    fn configure(&mut self) -> Result<()> {
        for (namespace, lines) in self.settings.values() {
            namespace.ip(lines)?;
        }
        self.core.nft(CORE_RULES)?;
        for (name, router) in &self.routers {
            router.namespace.nft(&router.rules.script()).with_context(|| format!("rules of {name}"))?;
        }
        Ok(())
    }

    fn set(&mut self, namespace: &Namespace, lines: Vec<String>) {
        let entry = self.settings.entry(namespace.name().to_owned());
        entry.or_insert_with(|| (namespace.clone(), Vec::new())).1.extend(lines);
    }

    /// A locally administered address that no other interface of the lab has.
    fn mac(&mut self) -> String {
        self.macs += 1;
        let [a, b, c, d] = self.macs.to_be_bytes();
        format!("02:74:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
    }
}

fn rules_of_carrier(carrier: &CarrierPlan, place: Place) -> Rules {
    Rules {
        nat: carrier.nat,
        outside: place.v4.map(|(outside, _)| outside),
        hairpin: carrier.hairpin,
        udp_timeout_s: 120,
        families: Families::V4,
    }
}
