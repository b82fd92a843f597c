use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{NetworkKind, Problem, ServingState, VolunteerRole};

/// The line `tandem up --json` prints when others can reach this node. Scripts rely on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// Always true in the line; false in [`Status`] while no home is open.
    pub ready: bool,
    /// The account's address.
    #[schema(example = "tandem:ae7…")]
    pub address: String,
    /// This device's peer id.
    pub device: String,
    /// What others may bootstrap from: full multiaddrs of the service swarm, empty on a leaf.
    pub listen: Vec<String>,
    /// Peer ids of the supernodes that are homes now, at most 3.
    pub homes: Vec<String>,
}

/// What the node is doing now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    #[serde(flatten)]
    pub reach: Ready,
    pub api_version: u32,
    /// Software version.
    pub version: String,
    /// Network id: networks with different ids do not see each other.
    pub network: String,
    pub started_unix_ms: u64,
    pub home_details: Vec<HomeView>,
    /// Supernodes known, homes included.
    pub supernodes_known: u32,
    /// Calls that are ringing or being talked on.
    pub calls: u32,
    /// Silent requests that wait for a decision.
    #[serde(default)]
    pub requests_waiting: u64,
    /// Roles the owner agreed to.
    pub volunteer_roles: Vec<VolunteerRole>,
    pub serving: ServingState,
    /// What a person should know about now, for example a wrong clock; empty when all is well.
    pub problems: Vec<Problem>,
    /// The kind of network, once `tandem doctor network` found it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_kind: Option<NetworkKind>,
}

/// One home of this device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HomeView {
    /// Peer id of the supernode.
    pub service: String,
    /// Where it is, as a multiaddr.
    pub remote: String,
    /// True when it holds a reservation, so that others reach us through it.
    pub reserved: bool,
    pub since_unix_ms: u64,
}
