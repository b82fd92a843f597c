use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Somebody this person knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Contact {
    /// `tandem:` address.
    pub address: String,
    /// The name the owner gave, unique among the contacts.
    pub name: String,
    pub note: String,
    /// A blocked contact never rings.
    pub blocked: bool,
    pub added_unix_ms: u64,
    /// Every call with this contact stays relayed.
    #[serde(default)]
    pub relay_only: bool,
    /// Calls to this contact carry an invitation of theirs.
    #[serde(default)]
    pub invited: bool,
}

/// Body of `POST /api/contacts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewContact {
    /// A `tandem:` address, or a link with an invitation.
    pub address: String,
    pub name: String,
    #[serde(default)]
    pub note: String,
}

/// Body of `PATCH /api/contacts/{address}`: what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContactChange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay_only: Option<bool>,
}
