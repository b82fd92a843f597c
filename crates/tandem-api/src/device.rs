use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The devices of this installation's account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Devices {
    /// The account's address.
    pub address: String,
    /// Epoch of the newest device set.
    pub epoch: u64,
    /// True when the account key is here: only then devices can be added, renamed and revoked here.
    pub can_change: bool,
    /// At most 8; this one first.
    pub devices: Vec<DeviceView>,
}

/// One device of the account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceView {
    /// Its peer id.
    pub key: String,
    /// What it is called, for people; empty where it is not known here.
    pub label: String,
    /// Is it the one that answers?
    pub this: bool,
    /// When it was added.
    pub added_unix_ms: u64,
    /// Could it be reached just now? Null where nobody could be asked.
    pub reachable: Option<bool>,
    /// Is the account key on it? Null where that is not known here.
    pub holds_account_key: Option<bool>,
    /// Until when its certificate holds; null where that is not known here.
    pub certificate_not_after_unix_ms: Option<u64>,
    /// Five words, to compare with what the device itself shows.
    pub words: String,
}

/// Body of `POST /api/devices`: adds the device that printed the link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDevice {
    /// What `tandem devices join` printed on the new device.
    pub link: String,
    /// What it shall be called; at most 64 bytes.
    #[serde(default)]
    pub label: String,
}

/// Body of `PATCH /api/devices/{device}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceChange {
    /// The new label; at most 64 bytes.
    pub label: String,
}

/// What a new device shows while it waits to be added (`tandem devices join --json`, first line).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinOffer {
    /// For `tandem devices add` on a device that holds the account key. Whoever sees it can add this device, once.
    pub link: String,
    /// This device's peer id.
    pub key: String,
    /// To compare with what the other device shows.
    pub words: String,
    /// So long this device waits.
    pub within_ms: u64,
}
