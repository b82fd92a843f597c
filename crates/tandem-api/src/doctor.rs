use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    Ok,
    /// Works, with a limit a person should know.
    Warn,
    /// Does not work.
    Fail,
}

/// One thing `tandem doctor` looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoctorCheck {
    /// Stable name, for example `keys`.
    pub check: String,
    pub state: CheckState,
    /// What was found.
    pub found: String,
    /// What to do; absent when all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
}

/// What `tandem doctor` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoctorReport {
    /// False when any check failed.
    pub ok: bool,
    pub version: String,
    pub checks: Vec<DoctorCheck>,
}
