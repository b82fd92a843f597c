use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionRole {
    /// A supernode through which others reach this device.
    Home,
    /// A supernode being tried, or just left, as a home.
    Candidate,
    /// A supernode asked one thing: a place for a call, or told of a changed device set.
    Errand,
    /// A supernode that carries signalling to another device.
    Carrier,
    /// Another device, for a call's signalling.
    Signal,
    /// A relay that carries a call of ours.
    Relay,
    /// The other device, directly, for a call's sound.
    Direct,
    /// Another supernode, for the directory this node helps to keep.
    Directory,
    /// A supernode that this node asks, as a candidate, whether it is reached and how busy others are.
    Scout,
    /// A device this node is a home for.
    Served,
    /// A device or supernode that came for one thing.
    Visitor,
    /// A circuit between two devices this node forwards.
    Forwarded,
    /// An allocation of a call this node relays.
    Relayed,
}

/// One connection, so that a person can see why it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionView {
    /// Peer id of the other end, or `anonymous` where none is known.
    pub peer: String,
    pub role: ConnectionRole,
    /// Of the echo service that a supernode runs, not of the person's own device.
    #[serde(default)]
    pub for_echo: bool,
    /// In one sentence.
    pub purpose: String,
    pub since_unix_ms: u64,
    /// `quic`, `tcp`, `circuit` or `udp`; `none` while it waits to be opened.
    pub transport: String,
    /// The other end's address, as text.
    pub remote: String,
    /// Did this node open it?
    pub outbound: bool,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// What the other end can see.
    pub sees: String,
    /// What it cannot.
    pub does_not_see: String,
    /// Why this supernode and not another; null where this node did not choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<SupernodeWhy>,
}

/// Why a supernode was chosen, and what would take its place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SupernodeWhy {
    /// In sentences.
    pub because: Vec<String>,
    /// As `198.51.0.0/16`; null where it does not say.
    pub network: Option<String>,
    /// The class of its round trip, as `30 to 80 ms`; null where it was never measured.
    pub latency: Option<String>,
    /// What it says of its load.
    pub load_percent: Option<u32>,
    /// What it says that it runs.
    pub software: Option<String>,
    /// The supernode that told of it; null: the bootstrap list, or earlier runs.
    pub referrer: Option<String>,
    /// How it served in all runs; null where it was no home before.
    pub served: Option<ServedAsHome>,
    /// What would be tried in its place, the best first; which of them is drawn by lot.
    pub next: Vec<NextSupernode>,
}

/// How a supernode served this device as a home, in all runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ServedAsHome {
    pub times: u32,
    pub held_ms: u64,
    /// How often it was lost while it was a home.
    pub lost: u32,
    /// Look-ups in which it left out what others knew.
    pub omitted: u32,
    /// Answers that did not verify.
    pub lied: u32,
}

/// A supernode that may come after another one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct NextSupernode {
    /// Peer id.
    pub service: String,
    /// In a few words.
    pub because: String,
}
