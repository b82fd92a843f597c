//! What a node remembers, in one SQLite file. Each table is bounded; the oldest or the worst makes room.
//!
//! The file is for one process at a time, which holds the data folder's lock. Its calls are short and block.

mod calls;
mod contacts;
mod migrate;
mod quality;
mod seen;
mod settings;
mod strangers;
mod supernodes;
mod volunteering;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use tandem_api::Problem;
use thiserror::Error;

pub use calls::StoredCall;
pub use contacts::ContactError;
pub use migrate::SCHEMA;
pub use quality::SupernodeQuality;
pub use seen::SeenRecord;
pub(crate) use strangers::KnownStrangers;
pub use strangers::{BLOCKS_MAX, StrangerError};
pub use supernodes::StoredSupernode;
pub use volunteering::{Amounts, CONSENTS_MAX, LEDGER_DAYS_MAX, LedgerRow, StoredCaps, StoredConsent};

use crate::messages::Code;
use crate::platform::files;

/// Contacts are never dropped to make room: one more is refused.
pub const CONTACTS_MAX: u64 = 10_000;
pub const CALLS_MAX: u64 = 10_000;
pub const SUPERNODES_MAX: u64 = 1_000;
pub const QUALITIES_MAX: u64 = 1_000;
pub const SEEN_MAX: u64 = 20_000;

/// The open store.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
}

/// Why the store cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("{path} has schema {found}, and this program knows {SCHEMA}")]
    Newer { path: PathBuf, found: u32 },
    #[error("{path}: {detail}")]
    Broken { path: PathBuf, detail: String },
    #[error("the store: {0}")]
    Sql(#[from] rusqlite::Error),
}

impl StoreError {
    /// For a person.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::Newer { path, found } => Code::StoreNewer.with(&[
                ("path", &path.display().to_string()),
                ("found", &found.to_string()),
                ("known", &SCHEMA.to_string()),
            ]),
            Self::Broken { path, detail } => {
                Code::StoreBroken.with(&[("path", &path.display().to_string()), ("detail", detail)])
            }
            Self::Sql(error) => Code::Internal.with(&[("detail", &format!("the store: {error}"))]),
        }
    }
}

impl Store {
    /// Opens the store, made when absent, and brings it to this program's schema. Before each migration the file is copied
    /// to `store.db.before-N`. The caller holds the data folder's lock.
    ///
    /// # Errors
    /// `Newer`: written by a newer program, untouched. `Broken`: not a store, or damaged.
    pub fn open(path: &Path, unix_ms: u64) -> Result<Self, StoreError> {
        let broken = |error: &dyn std::fmt::Display| StoreError::Broken {
            path: path.to_owned(),
            detail: error.to_string(),
        };
        if !path.exists() {
            files::write_new(path, &[]).map_err(|error| broken(&error))?;
        }
        let mut connection = Connection::open(path).map_err(|error| broken(&error))?;
        connection.busy_timeout(Duration::from_secs(2))?;
        migrate::run(&mut connection, path)?;
        // Write-ahead logging: a power cut may lose the last moments, never the file.
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;",
            )
            .map_err(|error| broken(&error))?;
        let store = Self { connection };
        store.prune(unix_ms)?;
        Ok(store)
    }

    /// A store in memory, for tests.
    ///
    /// # Errors
    /// Only when SQLite itself fails.
    pub fn in_memory() -> Result<Self, StoreError> {
        let mut connection = Connection::open_in_memory()?;
        migrate::run(&mut connection, Path::new(":memory:"))?;
        Ok(Self { connection })
    }

    /// Cuts every table to its bound.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn prune(&self, unix_ms: u64) -> Result<(), StoreError> {
        self.prune_calls()?;
        self.prune_supernodes()?;
        self.prune_requests(unix_ms)?;
        self.prune_seen(unix_ms)
    }
}

/// A count or a time as SQLite keeps it. Values beyond 2^63 do not occur: times are milliseconds, counters below 2^53.
fn to_sql(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn from_sql(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A key as SQLite gives it; a column checks the length.
fn key(bytes: &[u8]) -> rusqlite::Result<[u8; 32]> {
    bytes.try_into().map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, to_sql(bytes.len() as u64)))
}
