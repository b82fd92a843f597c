use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What `tandem network create --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkCreated {
    pub network: String,
    /// `tandem-network:…`, which every member sets.
    pub network_key: String,
    /// Where the secret half is.
    pub key_file: String,
}

/// A private network as this installation sees it: `tandem network --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkView {
    pub network: String,
    pub network_key: String,
    /// The file with this installation's memberships.
    pub file: String,
    /// That of its device key; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<OwnMembership>,
    /// That of its service key, which only those who serve others need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<OwnMembership>,
}

/// A membership held here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnMembership {
    pub label: String,
    pub not_after_unix_s: u64,
    /// Whether others in the network accept it now.
    pub holds: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
}
