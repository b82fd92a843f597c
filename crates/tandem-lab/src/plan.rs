//! What a lab is to consist of.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::wire::Conditions;

/// How a router treats packets between its inside and the network. Mapping and filtering in the words of RFC 4787
/// §4 and §5; all of it for UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nat {
    /// No translation and no filter: the inside has public addresses.
    None,
    /// Endpoint-independent mapping, endpoint-independent filtering.
    FullCone,
    /// Endpoint-independent mapping, address-dependent filtering.
    AddressRestricted,
    /// Endpoint-independent mapping, address- and port-dependent filtering.
    PortRestricted,
    /// Address- and port-dependent mapping with a random port each time, address- and port-dependent filtering.
    Symmetric,
    /// Like `PortRestricted`, and no UDP gets out.
    UdpBlocked,
    /// Only TCP to port 443 gets out.
    Tcp443Only,
}

/// A home behind one router.
#[derive(Debug, Clone)]
pub struct HomePlan {
    pub name: String,
    pub nat: Nat,
    pub families: Families,
    /// Name of the carrier in front, which translates once more; otherwise the router has a public address.
    pub via: Option<String>,
    /// Does the router send packets back inside that are addressed to its own public side? (RFC 4787 §6)
    pub hairpin: bool,
    /// How long an unused UDP mapping lives.
    pub udp_timeout: Duration,
    /// The access line; `None` for a perfect one that cannot be changed later.
    pub line: Option<Conditions>,
    /// Names of the hosts, all on one LAN.
    pub hosts: Vec<String>,
}

impl HomePlan {
    /// A home of one host, named like the home with `-host` behind it, on a perfect line.
    pub fn new(name: &str, nat: Nat) -> Self {
        Self {
            name: name.to_owned(),
            nat,
            families: Families::V4,
            via: None,
            hairpin: false,
            udp_timeout: Duration::from_secs(120),
            line: None,
            hosts: vec![format!("{name}-host")],
        }
    }

    /// With this access line, which can be changed while the lab runs.
    #[must_use]
    pub fn line(mut self, conditions: Conditions) -> Self {
        self.line = Some(conditions);
        self
    }

    /// Behind this carrier.
    #[must_use]
    pub fn via(mut self, carrier: &str) -> Self {
        self.via = Some(carrier.to_owned());
        self
    }

    #[must_use]
    pub fn families(mut self, families: Families) -> Self {
        self.families = families;
        self
    }

    /// With these hosts instead.
    #[must_use]
    pub fn hosts(mut self, names: &[&str]) -> Self {
        self.hosts = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// Unused UDP mappings live so long.
    #[must_use]
    pub fn udp_timeout(mut self, timeout: Duration) -> Self {
        self.udp_timeout = timeout;
        self
    }
}

/// Which versions of IP a home has. IPv6 is never translated, and its firewall lets in only answers to what went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    V4,
    V6,
    Both,
}

impl Families {
    pub(crate) fn v4(self) -> bool {
        self != Self::V6
    }

    pub(crate) fn v6(self) -> bool {
        self != Self::V4
    }
}

/// A carrier that translates whole homes (RFC 6888).
#[derive(Debug, Clone)]
pub struct CarrierPlan {
    pub name: String,
    pub nat: Nat,
    /// Can two of its homes reach each other by their public addresses?
    pub hairpin: bool,
    pub line: Option<Conditions>,
}

impl CarrierPlan {
    /// As RFC 6888 asks for: endpoint-independent mapping; the filter is the strictest that it allows.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), nat: Nat::PortRestricted, hairpin: false, line: None }
    }

    /// One that sends packets back inside.
    #[must_use]
    pub fn hairpin(mut self) -> Self {
        self.hairpin = true;
        self
    }
}

/// A machine with public addresses, IPv4 and IPv6, each in a network of its own.
#[derive(Debug, Clone)]
pub struct ServerPlan {
    pub name: String,
    pub line: Option<Conditions>,
}

/// A whole lab.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Seeds every line's losses and jitter.
    pub seed: u64,
    pub servers: Vec<ServerPlan>,
    pub carriers: Vec<CarrierPlan>,
    pub homes: Vec<HomePlan>,
    /// The number of the first home, which is in its addresses; 0: 1.
    pub homes_from: u8,
}

impl Plan {
    /// With so many servers, named `s1`, `s2` and so on, on lines that can be changed if `line` is given.
    pub fn with_servers(count: usize, line: Option<Conditions>) -> Self {
        let servers = (1..=count).map(|n| ServerPlan { name: format!("s{n}"), line }).collect();
        Self { seed: 1, servers, ..Self::default() }
    }

    #[must_use]
    pub fn home(mut self, home: HomePlan) -> Self {
        self.homes.push(home);
        self
    }

    #[must_use]
    pub fn carrier(mut self, carrier: CarrierPlan) -> Self {
        self.carriers.push(carrier);
        self
    }
}
