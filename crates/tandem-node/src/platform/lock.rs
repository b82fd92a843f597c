use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use tandem_api::Problem;
use thiserror::Error;

use super::paths;
use crate::messages::Code;

/// Holds a data folder for one process. Released when dropped, or by the operating system when the process ends, however
/// it ends. The file stays; it names the last holder.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

/// Why a data folder is not ours.
#[derive(Debug, Error)]
pub enum LockError {
    #[error("process {pid} holds the data folder {folder}")]
    Held { folder: PathBuf, pid: String },
    #[error("the data folder {folder} cannot be locked: {error}")]
    Io { folder: PathBuf, error: io::Error },
}

impl LockError {
    /// For a person.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::Held { folder, pid } => {
                Code::Locked.with(&[("path", &folder.display().to_string()), ("pid", pid)])
            }
            Self::Io { folder, error } => Code::DataFolder
                .with(&[("path", &folder.display().to_string()), ("detail", &error.to_string())]),
        }
    }
}

impl DataLock {
    /// Takes the lock of a data folder that exists.
    ///
    /// # Errors
    /// [`LockError::Held`] names the process that has it.
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let io = |error| LockError::Io { folder: folder.to_owned(), error };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(folder.join(paths::LOCK)).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held { folder: folder.to_owned(), pid: holder(&mut file) });
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        file.set_len(0).map_err(io)?;
        write!(file, "{}", std::process::id()).map_err(io)?;
        file.sync_data().map_err(io)?;
        Ok(Self { _file: file })
    }
}

/// The process id in the file; it is empty for the instant between locking and writing.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(20).read_to_string(&mut text));
    let is_pid = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    if read.is_ok() && is_pid { text } else { "unknown".to_owned() }
}
