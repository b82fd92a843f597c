//! Why a call went the way it went: what this end observed, and what it means in sentences.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CallDirection, CallPath, EndReason};

/// Answer to `GET /api/calls/{call}/why`; also a part of the stored report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CallWhy {
    /// Which call.
    pub call: String,
    /// The most important first.
    pub findings: Vec<Finding>,
    /// What the findings were drawn from.
    pub facts: CallFacts,
}

/// One thing that explains a call, or the kind of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// Stable word, for example `relayed_not_a_contact`. Scripts test this, never the text.
    pub code: String,
    /// In a sentence or two.
    pub text: String,
}

/// What one end of a call observed. Times are milliseconds since the call began at this end.
///
/// Of the other side it holds only what this side was given: nothing of the addresses of somebody who is not a contact.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CallFacts {
    pub direction: Option<CallDirection>,
    /// The other side was a contact when the call began.
    pub contact: bool,
    /// This side's setting for this call.
    pub relay_only: bool,
    /// The other side asked for relays only, by its settings or because we are no contact of its; known once it answered.
    pub they_relay_only: bool,
    /// Both sides could show each other addresses, as far as this side knows.
    pub direct_allowed: bool,
    pub connected: bool,
    /// The kind of path in use now, or at the end.
    pub path: Option<CallPath>,
    /// Null while the call goes on.
    pub reason: Option<EndReason>,
    /// Where the time of setting up went, in the order of the steps.
    pub steps: Vec<SetupStep>,
    /// The other account's devices that were tried.
    pub devices: Vec<DeviceFact>,
    /// Whether the NAT here showed one socket at different addresses to two relays (a symmetric NAT); null: not known.
    pub mapping_varies: Option<bool>,
    /// Addresses of this machine that the call used or offered.
    pub own_candidates: Vec<CandidateFact>,
    /// Addresses that the other side offered for this call.
    pub their_candidates: Vec<CandidateFact>,
    pub relays: Vec<RelayFact>,
    pub paths: Vec<PathFact>,
    pub switches: Vec<SwitchFact>,
    /// Sentences written while it happened, oldest first.
    pub notes: Vec<String>,
}

/// A step of setting a call up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// The directory said where the callee's devices can be reached.
    LookedUp,
    /// An encrypted connection to a device of the other side stood.
    Reached,
    /// It rang.
    Ringing,
    /// The first relay said yes.
    RelayGranted,
    /// The first path over a relay carried a checked packet both ways.
    RelayedPath,
    /// The first direct path did.
    DirectPath,
    /// Somebody picked up.
    Answered,
    /// The first sound of the other side came.
    Sound,
}

/// When a step was reached first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SetupStep {
    pub step: StepKind,
    pub at_ms: u64,
}

/// One device of the callee (on the caller's side).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct DeviceFact {
    /// Peer id.
    pub device: String,
    /// Homes at which it was looked for.
    pub homes: u32,
    pub reached_ms: Option<u64>,
    /// The supernode through which it was reached.
    pub via: Option<String>,
    /// Why the last attempt failed, as the network layer said it.
    pub failed: Option<String>,
    /// What that means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<DeviceFailure>,
}

/// What an attempt to reach a device came to; of several the one that tells most, which is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceFailure {
    /// None of its homes answered.
    HomesUnreachable,
    /// A home answered and would not carry the call, or something failed on the way.
    Other,
    /// A home answered, and the device behind it did not.
    NotThere,
}

/// The kind of a candidate (RFC 8445 §5.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CandidateType {
    /// An address of the machine itself.
    Host,
    /// What a relay saw it come from: the outside of the NAT.
    ServerReflexive,
    /// An address on a relay.
    Relayed,
    /// A port that the router opened on request (PCP, NAT-PMP, UPnP).
    Mapped,
    /// Learnt from a packet that came from there.
    PeerReflexive,
}

/// One address offered for a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CandidateFact {
    pub kind: CandidateType,
    /// `IP:port`.
    pub address: String,
    /// The address on this machine that it leads to, if that is known and another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Peer id of the relay that owns a relayed address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
}

/// What became of a relay that was asked to carry the call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RelayState {
    /// No answer yet.
    #[default]
    Asked,
    /// It gave a grant.
    Granted,
    /// It said no.
    Refused,
    /// It failed after it had said yes.
    Lost,
}

/// A relay that was asked to carry the call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RelayFact {
    /// Peer id.
    pub relay: String,
    pub state: RelayState,
    pub asked_ms: u64,
    pub answered_ms: Option<u64>,
    pub udp_tried: bool,
    pub tcp_tried: bool,
    /// How long its first answer took, over UDP, over TCP to its own port, and over TCP to port 443.
    pub udp_answer_ms: Option<u64>,
    pub tcp_answer_ms: Option<u64>,
    pub tcp443_answer_ms: Option<u64>,
    /// The way to it that is in use, or was last, is TCP.
    pub over_tcp: bool,
    /// It answers nothing at present.
    pub silent: bool,
    /// Of a refusal or loss, in its words.
    pub why: Option<String>,
}

/// How a path stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathCondition {
    /// Nothing came back on it yet.
    #[default]
    Checking,
    /// It works, in both directions.
    Good,
    /// It worked and went silent, in one direction or both.
    Silent,
    /// It was tried and never worked.
    Failed,
    /// Its socket or its relay is gone.
    Closed,
}

/// One path of a call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct PathFact {
    /// Peer id of the relay, or `direct`.
    pub path: String,
    /// `udp` or `tcp`.
    pub transport: String,
    /// Both ends of a direct path, as far as known.
    pub local: Option<String>,
    pub remote: Option<String>,
    pub state: PathCondition,
    pub round_trip_ms: Option<f64>,
    pub first_heard_ms: Option<u64>,
    pub last_heard_ms: Option<u64>,
    /// Packets of sound, copies included.
    pub sent: u64,
    pub received: u64,
    /// Sound leaves on it first.
    pub primary: bool,
}

/// A change of the path in use, and what it cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SwitchFact {
    /// Since the call connected.
    pub into_call_ms: u64,
    pub from: String,
    pub to: String,
    pub why: String,
    /// Packets of the other side that never came, around it. Null: not known (yet).
    pub lost: Option<u64>,
    /// Longest time without a packet, around it. Null: not known (yet).
    pub gap_ms: Option<u64>,
}
