//! The keys of an installation and the account's signatures over them (spec/identity.md), on disk.
//!
//! `DATA/keys/` comes into being whole: it is made under another name and renamed. Nothing in it is ever written over but
//! what the account signed, when the running node has something newer.

mod file;
mod papers;
mod passphrase;
mod sealing;
mod signing;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use prost::Message;
use tandem_api::Problem;
use tandem_proto::identity::{Address, DeviceSecret, Entropy, ServiceSecret};
use tandem_proto::ids::AccountKey;
use tandem_proto::signed::{DeviceCertificate, DeviceSet};
use tandem_proto::wire;
use thiserror::Error;

pub use file::KeyKind;
pub use papers::{Papers, PapersError, adopt, restore};
pub use passphrase::Passphrase;

use crate::messages::Code;
use crate::platform::{files, paths, random};
use file::KeyFile;
use sealing::Sealer;

const ACCOUNT_FILE: &str = "account.key";
const DEVICE_FILE: &str = "device.key";
const SERVICE_FILE: &str = "service.key";
const PAPERS_FILE: &str = "papers.bin";

/// Who this installation is.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The account's entropy, where its words were made or typed on this device.
    pub entropy: Option<Entropy>,
    pub device: DeviceSecret,
    pub service: ServiceSecret,
    pub certificate: DeviceCertificate,
    pub device_set: DeviceSet,
    /// Are the files under a passphrase?
    pub sealed: bool,
    /// The account's other devices are not known: the words were typed here just now, or the papers lapsed. Nothing may be
    /// published.
    pub restoring: bool,
    /// The papers ran out or are missing, and were signed anew to ask the directory with. Then `restoring` is true too.
    pub lapsed: bool,
    /// The newer set that no longer names this device, once it was revoked.
    pub revoked: Option<DeviceSet>,
}

impl Keys {
    #[must_use]
    pub fn account(&self) -> AccountKey {
        self.certificate.account()
    }

    /// When the first of the two signatures over this device ends, in unix seconds.
    #[must_use]
    pub fn papers_end_s(&self) -> u64 {
        self.certificate.not_after_s().min(self.device_set.not_after_s())
    }

    #[must_use]
    pub fn address(&self) -> Address {
        Address(self.account())
    }
}

/// Why there are no keys to work with. In each case nothing was overwritten.
#[derive(Debug, Error)]
pub enum KeysError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{path} is damaged: {detail}")]
    Damaged { path: PathBuf, detail: String },
    #[error("{path} is not a key file")]
    Foreign { path: PathBuf },
    #[error("{path} has mode {mode}")]
    TooOpen { path: PathBuf, mode: String },
    #[error("{path} holds a key of another kind")]
    WrongKind { path: PathBuf, expected: KeyKind, found: KeyKind },
    #[error("{path} is sealed and no passphrase was given")]
    PassphraseNeeded { path: PathBuf },
    #[error("the passphrase does not open {path}")]
    PassphraseWrong { path: PathBuf },
    #[error("{path} holds an identity already")]
    Exists { path: PathBuf },
    #[error("{path} lacks {missing}")]
    Incomplete { path: PathBuf, missing: String },
    #[error("the signatures in {path} do not hold: {detail}")]
    Signatures { path: PathBuf, detail: String },
}

impl KeysError {
    /// For a person.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let text = |path: &Path| path.display().to_string();
        match self {
            Self::Io { path, error } => {
                Code::DataFolder.with(&[("path", &text(path)), ("detail", &error.to_string())])
            }
            Self::Damaged { path, detail } => {
                Code::KeyDamaged.with(&[("path", &text(path)), ("detail", detail)])
            }
            Self::Foreign { path } => Code::KeyForeign.with(&[("path", &text(path))]),
            Self::TooOpen { path, mode } => Code::KeyMode.with(&[("path", &text(path)), ("mode", mode)]),
            Self::WrongKind { path, expected, found } => Code::KeyKind.with(&[
                ("path", &text(path)),
                ("expected", expected.name()),
                ("found", found.name()),
            ]),
            Self::PassphraseNeeded { path } => Code::PassphraseNeeded.with(&[("path", &text(path))]),
            Self::PassphraseWrong { path } => Code::PassphraseWrong.with(&[("path", &text(path))]),
            Self::Exists { path } => Code::IdentityExists.with(&[("path", &text(path))]),
            Self::Incomplete { path, missing } => {
                Code::IdentityIncomplete.with(&[("path", &text(path)), ("missing", missing)])
            }
            Self::Signatures { path, detail } => {
                Code::CertificateWrong.with(&[("path", &text(path)), ("detail", detail)])
            }
        }
    }
}

/// Does the data folder hold an identity, whole or not?
#[must_use]
pub fn exists(data: &Path) -> bool {
    data.join(paths::KEYS).exists()
}

/// Are the key files of a data folder under a passphrase? False where there are none, or none that can be read.
#[must_use]
pub fn is_sealed(data: &Path) -> bool {
    fs::read(data.join(paths::KEYS).join(DEVICE_FILE)).is_ok_and(|content| file::is_sealed(&content))
}

/// This device's label as its certificate says, which needs no passphrase and is not verified here.
#[must_use]
pub fn label(data: &Path) -> Option<String> {
    let signed = signing::certificate(&data.join(paths::KEYS)).ok()??;
    wire::DeviceCertificate::decode(signed.payload.as_slice()).ok().map(|certificate| certificate.label)
}

/// Opens the identity of a data folder, and writes nothing. Where the papers ran out or are missing and the account key is
/// here, they are signed anew in a way that replaces nothing ([`Keys::lapsed`]): the running node looks the account up and
/// signs on top of what it finds.
///
/// # Errors
/// [`KeysError`] says which file is wrong and how.
pub fn open(data: &Path, passphrase: Option<&Passphrase>, unix_ms: u64) -> Result<Keys, KeysError> {
    let folder = data.join(paths::KEYS);
    let mut sealer = Sealer::new(passphrase);
    let account = read_key(&folder, ACCOUNT_FILE, KeyKind::Account, &mut sealer)?;
    let device = required(&folder, DEVICE_FILE, KeyKind::Device, &mut sealer)?;
    let service = required(&folder, SERVICE_FILE, KeyKind::Service, &mut sealer)?;
    let sealed = device.sealed;
    let device = DeviceSecret::from_seed(&device.secret);
    let service = ServiceSecret::from_seed(&service.secret);
    let entropy = account.map(|key| Entropy::new(*key.secret));
    let (papers, lapsed) = signing::open(&folder, entropy.as_ref(), device.public(), unix_ms)?;
    let revoked = papers::revocation(&folder, &papers)?;
    let restoring = papers::is_restoring(&papers.device_set);
    let Papers { certificate, device_set } = papers;
    Ok(Keys { entropy, device, service, certificate, device_set, sealed, restoring, lapsed, revoked })
}

/// Makes a new identity, or one of an existing account when `entropy` is given. With a passphrase its files are sealed.
///
/// # Errors
/// [`KeysError::Exists`] where there is one, whole or not.
pub fn create(
    data: &Path,
    entropy: Option<Entropy>,
    passphrase: Option<&Passphrase>,
    unix_ms: u64,
) -> Result<Keys, KeysError> {
    let folder = data.join(paths::KEYS);
    if folder.exists() {
        return Err(KeysError::Exists { path: folder });
    }
    let entropy = entropy.unwrap_or_else(|| Entropy::new(random::bytes()));
    let device = DeviceSecret::from_seed(&random::bytes());
    let service = ServiceSecret::from_seed(&random::bytes());
    let Papers { certificate, device_set } = signing::issue_first(&entropy, device.public(), unix_ms)
        .map_err(|error| KeysError::Signatures { path: folder.clone(), detail: error.to_string() })?;
    let keys = Keys {
        entropy: Some(entropy),
        device,
        service,
        certificate,
        device_set,
        sealed: passphrase.is_some(),
        restoring: false,
        lapsed: false,
        revoked: None,
    };
    write_whole(data, &folder, &keys, passphrase)?;
    Ok(keys)
}

/// Writes all files into a folder of another name, then gives it its name.
fn write_whole(
    data: &Path,
    folder: &Path,
    keys: &Keys,
    passphrase: Option<&Passphrase>,
) -> Result<(), KeysError> {
    let temporary = data.join(format!("{}.new", paths::KEYS));
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| KeysError::Io { path, error }
    };
    // What an interrupted creation left was never anybody's identity.
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(io(&temporary))?;
    }
    files::make_private_folder(&temporary).map_err(io(&temporary))?;
    let mut sealer = Sealer::new(passphrase);
    let mut write_key = |name: &str, kind: KeyKind, secret: &[u8; 32]| {
        let content = file::encode(kind, secret, &mut sealer);
        let path = temporary.join(name);
        files::write_new(&path, &content).map_err(io(&path))
    };
    if let Some(entropy) = &keys.entropy {
        write_key(ACCOUNT_FILE, KeyKind::Account, entropy.as_bytes())?;
    }
    write_key(DEVICE_FILE, KeyKind::Device, &keys.device.seed())?;
    write_key(SERVICE_FILE, KeyKind::Service, &keys.service.seed())?;
    let (certificate, device_set) = (keys.certificate.clone(), keys.device_set.clone());
    signing::write(&temporary, &Papers { certificate, device_set })?;
    files::sync_parent(&temporary.join(DEVICE_FILE)).map_err(io(&temporary))?;
    // Renaming a folder fails where a folder with content stands.
    fs::rename(&temporary, folder).map_err(io(folder))?;
    files::sync_parent(folder).map_err(io(folder))
}

fn required(folder: &Path, name: &str, kind: KeyKind, sealer: &mut Sealer<'_>) -> Result<KeyFile, KeysError> {
    read_key(folder, name, kind, sealer)?
        .ok_or_else(|| KeysError::Incomplete { path: folder.to_owned(), missing: name.to_owned() })
}

/// `None` where there is no such file.
fn read_key(
    folder: &Path,
    name: &str,
    kind: KeyKind,
    sealer: &mut Sealer<'_>,
) -> Result<Option<KeyFile>, KeysError> {
    let path = folder.join(name);
    let io = |error| KeysError::Io { path: path.clone(), error };
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
        Ok(metadata) if !metadata.is_file() => return Err(KeysError::Foreign { path }),
        Ok(metadata) if metadata.len() > file::BYTES_MAX => return Err(KeysError::Foreign { path }),
        Ok(_) => {}
    }
    if let Some(mode) = files::open_to_others(&path).map_err(io)? {
        return Err(KeysError::TooOpen { path, mode });
    }
    let content = zeroize::Zeroizing::new(fs::read(&path).map_err(io)?);
    file::decode(&path, &content, kind, sealer).map(Some)
}
