//! What kind of network this machine is in.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Finding;

/// The kind of a network, in a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NetworkKind {
    /// Too little was learnt.
    #[default]
    Unknown,
    /// Nothing answered.
    Offline,
    /// A public address on the machine itself.
    Public,
    /// A NAT that maps a port the same way whoever it talks to.
    FriendlyNat,
    /// A NAT that maps a port anew for each destination ("symmetric").
    SymmetricNat,
    /// UDP does not get out; TCP does.
    UdpBlocked,
    /// Only TCP to port 443 gets out.
    OnlyHttps,
}

impl NetworkKind {
    /// As in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Offline => "offline",
            Self::Public => "public",
            Self::FriendlyNat => "friendly_nat",
            Self::SymmetricNat => "symmetric_nat",
            Self::UdpBlocked => "udp_blocked",
            Self::OnlyHttps => "only_https",
        }
    }
}

/// What an address can be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AddressScope {
    Loopback,
    /// `169.254.0.0/16`, `fe80::/10`.
    LinkLocal,
    /// RFC 1918, RFC 4193.
    Private,
    /// A carrier's shared range, `100.64.0.0/10` (RFC 6598).
    CarrierNat,
    Public,
    /// Documentation, benchmarks and the like.
    Special,
}

/// An address of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddressView {
    pub interface: String,
    pub address: String,
    pub scope: AddressScope,
    /// Packets to the internet leave from it.
    pub default_route: bool,
}

/// Whether something works. `untested`: there was nothing to test it with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Works {
    Yes,
    No,
    #[default]
    Untested,
}

/// How a NAT maps (RFC 4787 §4.1, RFC 5780 §4.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NatMapping {
    /// Fewer than two supernodes answered, so it cannot be told.
    #[default]
    Unknown,
    /// No NAT: the supernodes see this machine's own address and port.
    None,
    /// One outside port for one inside port, whoever it talks to.
    EndpointIndependent,
    /// Another outside port, or address, for each destination ("symmetric").
    AddressDependent,
}

/// What could be learnt about the NAT.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct NatView {
    pub mapping: NatMapping,
    /// The outside addresses that supernodes saw, each once.
    pub mapped: Vec<String>,
    /// The outside port is the inside one.
    pub port_preserved: Option<bool>,
    /// A datagram to the outside address came back in.
    pub hairpin: Works,
    /// More than one NAT in a row: the outside address as the router tells it, or a shared range, gives it away.
    pub double_nat: bool,
}

/// How one supernode was reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SupernodeProbe {
    /// Peer id.
    pub service: String,
    /// Its host, as text.
    pub address: String,
    /// STUN over UDP.
    pub udp: Works,
    /// A TCP connection to any of its ports.
    pub tcp: Works,
    /// The same to its port 443, if it offers that.
    pub tcp_443: Works,
    pub udp_round_trip_ms: Option<f64>,
    pub tcp_round_trip_ms: Option<f64>,
}

/// Answer to `GET /api/network`; what `tandem doctor network --json` prints.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct NetworkReport {
    pub kind: NetworkKind,
    /// What kind of network this is, in words.
    pub summary: String,
    pub at_unix_ms: u64,
    pub took_ms: u64,
    pub addresses: Vec<AddressView>,
    pub udp: Works,
    pub tcp: Works,
    pub tcp_443: Works,
    pub ipv4: Works,
    pub ipv6: Works,
    pub nat: NatView,
    /// PCP, NAT-PMP or UPnP, where the router offers one; null where that was not asked.
    pub port_mapping: Option<String>,
    pub supernodes: Vec<SupernodeProbe>,
    /// How far this machine's clock is off, in seconds, by most supernodes' clocks; null: within tolerance or not known.
    pub clock_off_s: Option<i64>,
    /// What follows for calls.
    pub consequences: Vec<Finding>,
    /// What a person can do; empty when there is nothing to better.
    pub advice: Vec<Finding>,
    /// What was concluded without being tested.
    pub inferred: Vec<Finding>,
}
