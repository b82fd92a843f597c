use std::fs;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ApiError;
use crate::platform::{files, paths};

/// `DATA/api.json`: how a program of the same user finds the running node. Mode 0600; away when the node stops.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiInfo {
    /// For example `127.0.0.1:7710`.
    pub address: SocketAddr,
    /// The bearer token of this start.
    pub token: String,
    pub pid: u32,
    /// Software version of the node.
    pub version: String,
}

impl std::fmt::Debug for ApiInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiInfo({}, process {}, version {})", self.address, self.pid, self.version)
    }
}

impl ApiInfo {
    /// Reads it; `None` where no node runs. One left behind by a crash names an address nobody answers at.
    ///
    /// # Errors
    /// When the file is there and cannot be read or understood.
    pub fn read(data: &Path) -> io::Result<Option<Self>> {
        const BYTES_MAX: u64 = 4096;
        let file = match fs::File::open(data.join(paths::API_INFO)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut text = String::new();
        file.take(BYTES_MAX).read_to_string(&mut text)?;
        Ok(Some(serde_json::from_str(&text)?))
    }
}

pub(super) fn write(data: &Path, address: SocketAddr, token: &str) -> Result<(), ApiError> {
    let info = ApiInfo {
        address,
        token: token.to_owned(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let json = serde_json::to_string(&info)
        .map_err(|error| ApiError::Write { path: data.join(paths::API_INFO), error: error.into() })?;
    for (name, content) in [(paths::API_TOKEN, token), (paths::API_INFO, &json)] {
        let path = data.join(name);
        files::replace(&path, content.as_bytes()).map_err(|error| ApiError::Write { path, error })?;
    }
    Ok(())
}

pub(super) fn remove(data: &Path) {
    for name in [paths::API_INFO, paths::API_TOKEN, paths::PAGE_LINK] {
        if let Err(error) = fs::remove_file(data.join(name)) {
            tracing::debug!(%error, name, "could not be removed");
        }
    }
}
