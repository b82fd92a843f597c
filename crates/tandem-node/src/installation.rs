//! A data folder, opened: locked, its store migrated, its keys read or made.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tandem_api::Problem;
use tandem_relay::driver;
use thiserror::Error;

use crate::api::ApiError;
use crate::handle::NodeConfig;
use crate::keys::{self, Keys, KeysError};
use crate::messages::Code;
pub use crate::node::clock::unix_ms;
use crate::overlay;
use crate::platform::{DataLock, LockError, files, paths};
use crate::store::{Store, StoreError};

/// What a node works on. Whoever holds it holds the data folder.
#[derive(Debug)]
pub struct Installation {
    pub data: PathBuf,
    pub store: Store,
    pub keys: Keys,
    /// True when the identity was made just now.
    pub fresh: bool,
    /// Dropped last, so that nobody else opens what is still being closed.
    pub lock: DataLock,
}

/// Why a node does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The settings forbid it.
    #[error("{0}")]
    Settings(Problem),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("the data folder {path} cannot be used: {detail}")]
    Folder { path: PathBuf, detail: String },
    #[error("cannot listen on {address}: {detail}")]
    Listen { address: String, detail: String },
    #[error("listening on {address} needs a right: {detail}")]
    ListenDenied { address: String, detail: String },
    #[error("the overlay could not be started: {0}")]
    Overlay(String),
}

impl StartError {
    /// For a person.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::Settings(problem) => problem.clone(),
            Self::Lock(error) => error.problem(),
            Self::Store(error) => error.problem(),
            Self::Keys(error) => error.problem(),
            Self::Api(error) => error.problem(),
            Self::Folder { path, detail } => {
                Code::DataFolder.with(&[("path", &path.display().to_string()), ("detail", detail)])
            }
            Self::Listen { address, detail } => {
                Code::ListenFailed.with(&[("address", address), ("detail", detail)])
            }
            Self::ListenDenied { address, detail } => {
                Code::ListenDenied.with(&[("address", address), ("detail", detail)])
            }
            Self::Overlay(detail) => Code::OverlayFailed.with(&[("detail", detail)]),
        }
    }
}

impl From<overlay::StartError> for StartError {
    fn from(error: overlay::StartError) -> Self {
        match error {
            overlay::StartError::Listen { address, reason, denied: true } => {
                Self::ListenDenied { address, detail: reason }
            }
            overlay::StartError::Listen { address, reason, denied: false } => {
                Self::Listen { address, detail: reason }
            }
            overlay::StartError::Key(detail) => Self::Overlay(detail),
        }
    }
}

impl From<driver::StartError> for StartError {
    fn from(error: driver::StartError) -> Self {
        let (address, source) = match error {
            driver::StartError::BindUdp { address, source } => (format!("UDP {address}"), source),
            driver::StartError::BindTcp { address, source } => (format!("TCP {address}"), source),
            other => return Self::Overlay(other.to_string()),
        };
        let detail = source.to_string();
        if source.kind() == io::ErrorKind::PermissionDenied {
            Self::ListenDenied { address, detail }
        } else {
            Self::Listen { address, detail }
        }
    }
}

/// Checks the settings, makes the data folder where there is none, takes its lock, opens the store, and opens the identity
/// or makes one.
///
/// # Errors
/// [`StartError`]; nothing that was there is overwritten.
pub fn open(config: &NodeConfig) -> Result<Installation, StartError> {
    config.config.check().map_err(StartError::Settings)?;
    let lock = prepare_folder(&config.data)?;
    let store = Store::open(&config.data.join(paths::STORE), unix_ms())?;
    let fresh = !keys::exists(&config.data);
    let keys = if fresh {
        keys::create(&config.data, None, config.passphrase.as_ref(), unix_ms())?
    } else {
        keys::open(&config.data, config.passphrase.as_ref(), unix_ms())?
    };
    Ok(Installation { data: config.data.clone(), store, keys, fresh, lock })
}

/// Makes the folder where there is none, refuses one that others can enter, and takes its lock.
///
/// # Errors
/// `Folder`, `Settings` or `Lock`.
pub fn prepare_folder(data: &Path) -> Result<DataLock, StartError> {
    ensure_folder(data)?;
    Ok(DataLock::take(data)?)
}

/// Makes the folder where there is none, and refuses one that others can enter.
///
/// # Errors
/// `Folder` or `Settings`.
pub fn ensure_folder(data: &Path) -> Result<(), StartError> {
    let folder = |error: io::Error| StartError::Folder { path: data.to_owned(), detail: error.to_string() };
    files::make_private_folder(data).map_err(folder)?;
    let Some(mode) = files::open_to_others(data).map_err(folder)? else { return Ok(()) };
    // An empty folder was made by somebody's `mkdir`: nothing in it was ever secret.
    if fs::read_dir(data).map_err(folder)?.next().is_none() {
        return files::close_to_others(data).map_err(folder);
    }
    let values = [("path", &*data.display().to_string()), ("mode", &*mode)];
    Err(StartError::Settings(Code::DataFolderOpen.with(&values)))
}
