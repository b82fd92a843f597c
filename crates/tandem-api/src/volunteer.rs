use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a volunteer may agree to, each on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VolunteerRole {
    /// Keep part of the directory and be a home to others.
    Directory,
    /// Carry other people's calls.
    Relay,
}

/// What this node does for others now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServingState {
    /// Nothing: a leaf.
    #[default]
    Off,
    /// Willing and reachable, not needed yet.
    Reserve,
    Serving,
    /// Taking nothing new, waiting for calls to move.
    Draining,
}

/// Volunteering: the terms, the consent, what is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolunteerView {
    /// Number of the terms in force.
    pub terms: u32,
    /// The terms, in plain language.
    pub terms_text: String,
    /// Number of the terms accepted, if any.
    pub accepted: Option<u32>,
    pub roles: Vec<VolunteerRole>,
    pub state: ServingState,
    /// Devices this node is a home for now.
    pub devices_served: u32,
    /// Signalling circuits forwarded now.
    pub circuits: u32,
    /// Relay allocations now (two a call).
    pub allocations: u32,
    /// Since the node started.
    pub bytes_served: u64,
    /// Relayed in this calendar month (UTC), over all runs of the node.
    pub bytes_this_month: u64,
    /// The owner's cap on concurrent relayed calls.
    pub calls_cap: u32,
    /// The owner's cap on relayed traffic, bits per second.
    pub bits_per_second_cap: u64,
    /// The owner's cap on relayed traffic, bytes a calendar month.
    pub bytes_per_month_cap: u64,
}
