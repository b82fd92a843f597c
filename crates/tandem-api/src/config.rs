use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a setting's value came from, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// An organisation's policy: nobody else can change it.
    Policy,
    Flag,
    Environment,
    File,
    Default,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigEntry {
    /// As written in `tandem.toml`, for example `volunteer.relay`.
    pub key: String,
    pub value: serde_json::Value,
    pub origin: Origin,
    /// The key of the organisation's policy that bounds it, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// What `tandem config show --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigView {
    /// The data folder.
    pub data: String,
    /// The file that was read; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    pub settings: Vec<ConfigEntry>,
}
