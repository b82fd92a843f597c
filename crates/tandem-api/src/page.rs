use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer to `POST /api/page/link`: opens the page, once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PageLink {
    /// Has the code in its fragment, which no browser sends to any server.
    pub url: String,
    /// The link opens nothing after this.
    pub expires_unix_ms: u64,
    /// Is the page in this build at all?
    pub in_build: bool,
}

impl fmt::Debug for PageLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageLink").field("expires_unix_ms", &self.expires_unix_ms).finish_non_exhaustive()
    }
}

/// Body of `POST /api/page/session`: what the page was opened with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PageCode {
    pub code: String,
}

impl fmt::Debug for PageCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PageCode")
    }
}

/// Answer to `POST /api/page/session`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PageSession {
    /// The bearer token, until the node stops.
    pub token: String,
    pub api_version: u32,
}

impl fmt::Debug for PageSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageSession").field("api_version", &self.api_version).finish_non_exhaustive()
    }
}
