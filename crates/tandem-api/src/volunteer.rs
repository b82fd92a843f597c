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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    /// Since the node started, in both roles.
    pub bytes_served: u64,
    /// Relayed in this calendar month (UTC), over all runs of the node.
    pub bytes_this_month: u64,
    /// The owner's cap on concurrent relayed calls.
    pub calls_cap: u32,
    /// The owner's cap on relayed traffic, bits per second.
    pub bits_per_second_cap: u64,
    /// The owner's cap on relayed traffic, bytes a calendar month.
    pub bytes_per_month_cap: u64,
    /// Each time the owner agreed, oldest first, and when that was taken back.
    pub consents: Vec<ConsentView>,
    /// The terms changed since: nobody is served until the owner agrees to the new ones.
    pub suspended: bool,
    /// The settings (flags, environment, `tandem.toml`) say that this node serves.
    pub from_settings: bool,
    /// What the owner allows.
    pub caps: CapsView,
    /// What the directory's connections carried in this calendar month (UTC), both ways.
    pub directory_bytes_this_month: u64,
    /// Calls relayed now.
    pub calls: u32,
    /// What is carried now for both roles, bits per second, a mean of some seconds.
    pub bits_per_second: u64,
    /// All that keeps this node from serving, in words; empty when nothing does, or when nobody asked it to.
    pub missing: Vec<MissingView>,
    /// What others found out about this node, and what came of being asked to serve.
    #[serde(default)]
    pub candidate: CandidateView,
}

/// How the network sees a node whose owner lets it serve. Counted since the node started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CandidateView {
    /// The ways in by which others reached it, lately and by enough of them.
    pub ways: Vec<WayView>,
    /// Times that it began to serve because a supernode with too much to do asked it.
    pub recruited: u64,
    /// Times that it began to serve by itself, since there were too few supernodes.
    pub promoted_itself: u64,
    /// Reserves that it asked to serve, and those that agreed.
    pub invited: u64,
    pub accepted: u64,
    /// Invitations that it did not consider, and those that others did not confirm.
    pub invitations_ignored: u64,
    pub invitations_refused: u64,
    /// Messages by which somebody wanted to make it serve or stop. The protocol knows none.
    pub orders_ignored: u64,
    /// Reserves that announced themselves here.
    pub reserves_known: u32,
}

/// One way in from outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct WayView {
    /// Over IPv6; else over IPv4.
    pub ipv6: bool,
    /// By TCP; else by UDP.
    pub tcp: bool,
    /// Through a port that a router forwards.
    pub mapped: bool,
}

/// Once that the owner agreed to a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsentView {
    pub role: VolunteerRole,
    /// The number of the terms.
    pub terms: u32,
    /// Absent: the settings say so.
    pub given_unix_ms: Option<u64>,
    /// Absent: it holds.
    pub withdrawn_unix_ms: Option<u64>,
}

/// The most that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CapsView {
    /// Devices this node is a home for.
    pub devices: u32,
    /// Relayed calls at once.
    pub calls: u32,
    /// Relayed sound, all calls together.
    pub bits_per_second: u64,
    /// What the directory's connections carry in a calendar month (UTC), both ways.
    pub directory_bytes_per_month: u64,
    /// Relayed sound in a calendar month (UTC), counted once.
    pub relay_bytes_per_month: u64,
    /// Hours of the day at which the machine may serve, in its local time, like `18:00-23:00`; absent: all day.
    pub hours: Option<String>,
}

/// Something that must be so before this node may serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MissingView {
    /// For which role; absent: for both.
    pub role: Option<VolunteerRole>,
    /// A stable word, like `unreachable`.
    pub what: String,
    /// The same as a sentence.
    pub text: String,
}

/// The owner agrees to the terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewConsent {
    /// The number of the terms that were read.
    pub terms: u32,
    /// Exactly these roles: one that is not named is withdrawn.
    pub roles: Vec<VolunteerRole>,
}

/// Other caps. What is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CapsChange {
    pub devices: Option<u32>,
    pub calls: Option<u32>,
    pub bits_per_second: Option<u64>,
    pub directory_bytes_per_month: Option<u64>,
    pub relay_bytes_per_month: Option<u64>,
    /// `18:00-23:00`, over midnight too; or `always`.
    pub hours: Option<String>,
    /// First forget all caps set before: those of the settings hold, or the defaults.
    #[serde(default)]
    pub reset: bool,
}

/// What was served, by days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerView {
    /// So many days are kept.
    pub days_kept: u64,
    /// Newest first; a day and role without service have no line.
    pub lines: Vec<LedgerLine>,
}

/// What was served on one day in one role. Nothing says to whom: that is not written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerLine {
    /// The day, in UTC: `2026-11-23`.
    pub day: String,
    pub role: VolunteerRole,
    /// Directory: what its connections carried, both ways. Relay: sound forwarded, counted once.
    pub bytes: u64,
    /// Devices that had their home here: the most at once.
    pub devices: u64,
    /// Calls relayed.
    pub calls: u64,
    /// Calls whose set-up was forwarded.
    pub circuits: u64,
    /// Look-ups answered.
    pub lookups: u64,
    /// Nodes that were tried from outside, to tell them whether they can be reached.
    pub checks: u64,
    /// How long it served.
    pub served_ms: u64,
}
