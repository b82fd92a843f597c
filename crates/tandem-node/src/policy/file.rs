//! Where the policy is, and whether only the administrator could have written it.
//!
//! The path is part of the program: no flag, variable or setting names another one. Whoever may replace the program or
//! start it in a mount namespace of their own is not bound by it; docs/POLICY.md says what that means.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tandem_api::Problem;
use thiserror::Error;

use super::{ParseError, Policy, parse};
use crate::messages::Code;

/// Where the policy of this machine is.
#[cfg(not(any(target_os = "macos", windows)))]
pub const SYSTEM_PATH: &str = "/etc/tandem/policy.toml";
/// Where the policy of this machine is.
#[cfg(target_os = "macos")]
pub const SYSTEM_PATH: &str = "/Library/Application Support/tandem/policy.toml";
/// Where the policy of this machine is: not `%ProgramData%`, which the user could set.
#[cfg(windows)]
pub const SYSTEM_PATH: &str = r"C:\ProgramData\tandem\policy.toml";

/// A policy is far smaller; anything larger is something else.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Where a policy came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub file: PathBuf,
    /// SHA-256 of the file, in hex.
    pub digest: String,
}

/// Why there is no policy to follow, although there is a file.
#[derive(Debug, Error)]
pub enum PolicyError {
    #[error("{file} cannot be read: {detail}")]
    Unreadable { file: PathBuf, detail: String },
    #[error("{path} could have been written by others than root: {detail}")]
    Untrusted { path: PathBuf, detail: String },
    #[error("{file}: {error}")]
    Wrong { file: PathBuf, error: ParseError },
}

impl PolicyError {
    /// For a person.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::Unreadable { file, detail } => {
                Code::PolicyUnreadable.with(&[("file", &file.display().to_string()), ("detail", detail)])
            }
            Self::Untrusted { path, detail } => {
                Code::PolicyUntrusted.with(&[("path", &path.display().to_string()), ("detail", detail)])
            }
            Self::Wrong { file, error } => Code::PolicyWrong.with(&[
                ("file", &file.display().to_string()),
                ("line", &error.line.to_string()),
                ("detail", &error.what),
                ("action", &error.action),
            ]),
        }
    }
}

/// The policy of this machine. No file is no policy; a file that cannot be followed is an error, and no node starts.
///
/// # Errors
/// [`PolicyError`].
pub fn system() -> Result<Policy, PolicyError> {
    let path = Path::new(SYSTEM_PATH);
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Policy::default()),
        Err(error) => Err(unreadable(path, &error)),
        Ok(_) => {
            // After links, which the administrator may have set.
            let real = std::fs::canonicalize(path).map_err(|error| unreadable(path, &error))?;
            real.ancestors().skip(1).try_for_each(check_folder)?;
            let mut file = File::open(&real).map_err(|error| unreadable(path, &error))?;
            // Of the open file: nobody can put another in its place between the question and the reading.
            let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
            check_owner(&real, &metadata)?;
            from_file(path, &mut file, &metadata)
        }
    }
}

/// Reads a policy from any file, whoever wrote it: only to look at it.
///
/// # Errors
/// [`PolicyError`], never `Untrusted`.
pub fn read(path: &Path) -> Result<Policy, PolicyError> {
    let mut file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
    from_file(path, &mut file, &metadata)
}

/// Whether a node would take this file for the administrator's, in the place where it is.
///
/// # Errors
/// `Untrusted`, or `Unreadable`.
pub fn check_file(path: &Path) -> Result<(), PolicyError> {
    let real = std::fs::canonicalize(path).map_err(|error| unreadable(path, &error))?;
    real.ancestors().skip(1).try_for_each(check_folder)?;
    let metadata = std::fs::metadata(&real).map_err(|error| unreadable(path, &error))?;
    check_owner(&real, &metadata)
}

fn unreadable(file: &Path, error: &io::Error) -> PolicyError {
    PolicyError::Unreadable { file: file.to_owned(), detail: error.to_string() }
}

fn from_file(path: &Path, file: &mut File, metadata: &Metadata) -> Result<Policy, PolicyError> {
    let unreadable =
        |detail: &str| PolicyError::Unreadable { file: path.to_owned(), detail: detail.to_owned() };
    if !metadata.is_file() {
        return Err(unreadable("it is no file"));
    }
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    if read.map_err(|error| unreadable(&error.to_string()))? as u64 > FILE_BYTES_MAX {
        return Err(unreadable("it is too large"));
    }
    let mut policy = parse(&text).map_err(|error| PolicyError::Wrong { file: path.to_owned(), error })?;
    let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(text.as_bytes()));
    policy.source = Some(Source { file: path.to_owned(), digest });
    Ok(policy)
}

fn check_folder(folder: &Path) -> Result<(), PolicyError> {
    let metadata = std::fs::metadata(folder).map_err(|error| unreadable(folder, &error))?;
    check_owner(folder, &metadata)
}

#[cfg(unix)]
fn check_owner(path: &Path, metadata: &Metadata) -> Result<(), PolicyError> {
    use std::os::unix::fs::MetadataExt;
    owned_by_root(path, metadata.uid(), metadata.mode())
}

/// The owner cannot be asked for here yet, so no file can be trusted.
#[cfg(not(unix))]
fn check_owner(path: &Path, _metadata: &Metadata) -> Result<(), PolicyError> {
    let detail = "on this system Tandem cannot tell who may write it, and so follows no policy".to_owned();
    Err(PolicyError::Untrusted { path: path.to_owned(), detail })
}

#[cfg(unix)]
fn owned_by_root(path: &Path, owner: u32, mode: u32) -> Result<(), PolicyError> {
    const OTHERS_WRITE: u32 = 0o022;
    let untrusted = |detail: String| PolicyError::Untrusted { path: path.to_owned(), detail };
    if owner != 0 {
        return Err(untrusted(format!("it belongs to user {owner}")));
    }
    if mode & OTHERS_WRITE != 0 {
        return Err(untrusted(format!("its mode is {:04o}", mode & 0o7777)));
    }
    Ok(())
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_root_alone_can_write_is_followed() {
        let path = Path::new("/x");
        assert!(owned_by_root(path, 0, 0o100_644).is_ok());
        for (owner, mode) in [(1000, 0o100_644), (0, 0o100_664), (0, 0o100_646), (65_534, 0o040_755)] {
            let error = owned_by_root(path, owner, mode).unwrap_err();
            assert_eq!(error.problem().code, "T2002", "{error}");
        }
    }

    #[test]
    fn a_file_in_a_folder_that_others_write_is_not_trusted() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.toml");
        std::fs::write(&file, "").unwrap();
        assert!(read(&file).unwrap().source.is_some(), "it may be looked at");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(check_file(&file), Err(PolicyError::Untrusted { .. })));
    }
}
