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
    /// Another device, for a call's signalling.
    Signal,
    /// A relay that carries a call of ours.
    Relay,
    /// The other device, directly, for a call's sound.
    Direct,
    /// Another supernode, for the directory this node helps to keep.
    Directory,
    /// A device this node is a home for.
    Served,
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
    /// In one sentence.
    pub purpose: String,
    pub since_unix_ms: u64,
    /// `quic`, `tcp`, `circuit` or `udp`.
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
}
