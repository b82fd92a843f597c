use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an organisation's policy says: `tandem policy check --json`, `tandem policy show --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyView {
    /// Where the policy of this machine is, or would be.
    pub system_file: String,
    /// The file that was read; absent without a policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// SHA-256 of that file, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Only what takes something away.
    pub rules: Vec<PolicyRule>,
}

/// One key of a policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyRule {
    /// As in the file, for example `serving.roles`.
    pub key: String,
    pub value: serde_json::Value,
    /// In words.
    pub means: String,
    /// Settings of the person that it has a say in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<String>,
}

/// What `tandem policy check --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyCheck {
    /// Always true: what is wrong is a problem instead.
    pub ok: bool,
    pub policy: PolicyView,
    /// Why a node would not follow the file where it is now, though its content is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untrusted: Option<String>,
}
