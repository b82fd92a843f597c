use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /api/invitations`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewInvitation {
    /// For the owner's eyes.
    #[serde(default)]
    pub label: String,
    /// Ends after this; default 30 days, at most a year.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// So many different accounts may use it; default 1, at most 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
}

/// An invitation that is out. Its secret is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvitationView {
    pub id: u64,
    pub label: String,
    pub made_unix_ms: u64,
    pub not_after_unix_ms: u64,
    /// So many different accounts may use it.
    pub uses: u32,
    /// Addresses of those that did.
    pub used_by: Vec<String>,
}

/// Answer to `POST /api/invitations`: the only time that the link is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvitationMade {
    /// `tandem:…?i=…`
    pub link: String,
    pub invitation: InvitationView,
}

/// A silent request that waits for a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContactRequest {
    /// Names it in `/api/requests/{request}`.
    pub id: String,
    /// Proved.
    pub address: String,
    /// What they call themselves, unproved.
    pub claimed_name: String,
    pub message: String,
    pub at_unix_ms: u64,
}

/// Body of `POST /api/requests/{request}/accept`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptRequest {
    /// The contact's name; default what they call themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Answer to a request that drops many things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cleared {
    pub count: u64,
}

/// Body of `POST /api/requests`: leaves a silent request with somebody who takes no calls from strangers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRequest {
    pub address: String,
    /// At most 140 bytes.
    #[serde(default)]
    pub message: String,
    /// What to be called there; at most 64 bytes are sent.
    #[serde(default)]
    pub name: String,
}

/// How far a request of ours is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SentState {
    /// Looking them up, or doing the work that their device asks for.
    Working,
    /// It is in their list. What they do with it they do not say.
    Left,
    /// They take no requests.
    Closed,
    /// Very many come there just now: try again later.
    Later,
    /// Their device asked for more work than this program does.
    TooMuchWork,
    Unreachable,
    NotFound,
}

/// A silent request of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SentRequest {
    /// Names it in the event `request_sent`.
    pub id: String,
    pub address: String,
    pub state: SentState,
    /// Devices of theirs that keep it.
    pub devices: u32,
    /// In a sentence.
    pub why: String,
    pub at_unix_ms: u64,
}

/// Body of `POST /api/blocks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBlock {
    /// A `tandem:` address, or the name of a contact.
    pub address: String,
}

/// An account that neither rings nor leaves requests, and is not told so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Block {
    pub address: String,
    pub since_unix_ms: u64,
    /// The contact's name, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
}
