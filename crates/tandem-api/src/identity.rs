use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /api/identity/words`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WordsRequest {
    /// Needed where the key files are sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<String>,
}

impl fmt::Debug for WordsRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WordsRequest")
    }
}

/// The 24 words of the account. Whoever has them is this person.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountWords {
    pub words: Vec<String>,
}

impl fmt::Debug for AccountWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountWords({})", self.words.len())
    }
}

/// Who this installation is. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Identity {
    /// The account's address, to give to others.
    pub address: String,
    /// This device's peer id.
    pub device: String,
    /// The peer id under which this node serves others; unrelated to the account.
    pub service: String,
    /// True when the account key is on this device (its 24 words can be shown).
    pub has_account_key: bool,
    /// True when the key files are sealed under a passphrase.
    pub sealed: bool,
    /// Epoch of the newest device set.
    pub epoch: u64,
    /// Serial number of this device's certificate.
    pub certificate_serial: u64,
    pub certificate_not_after_unix_ms: u64,
    /// Number of devices in the set, this one included.
    pub devices: u32,
    /// What this device is called, in its certificate; may be empty.
    #[serde(default)]
    pub label: String,
    /// True while the words were typed here and the account's other devices are not known yet.
    #[serde(default)]
    pub restoring: bool,
    /// True when the account revoked this device.
    #[serde(default)]
    pub revoked: bool,
}
