//! What the account's key signs for its devices: a certificate each, and the set that names them all.

use std::path::{Path, PathBuf};

use prost::Message;
use tandem_api::Problem;
use tandem_proto::identity::{DeviceSecret, Entropy, ServiceSecret};
use tandem_proto::ids::DeviceKey;
use tandem_proto::signed::{
    DEVICES_MAX, DeviceCertificate, DeviceEntry, DeviceSet, NewCertificate, SignedError,
};
use thiserror::Error;

use super::signing::{LIFE_S, read, verify_set, write};
use super::{Keys, KeysError, Passphrase, files, random, write_whole};
use crate::messages::Code;
use crate::platform::paths;

/// A set that no longer names this device: it was revoked.
const REVOKED_FILE: &str = "revoked.bin";
/// Lower than every epoch in use: what is signed while an account is being restored never replaces anything, and
/// is known by it.
const RESTORING_EPOCH: u64 = 1;

/// What makes a key a device of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Papers {
    pub certificate: DeviceCertificate,
    pub device_set: DeviceSet,
}

/// Why nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PapersError {
    #[error("the account key is not on this device")]
    NoAccountKey,
    #[error("the account has 8 devices already")]
    Full,
    #[error("the account has no such device")]
    NoSuchDevice,
    #[error(transparent)]
    Signed(#[from] SignedError),
}

impl PapersError {
    /// For a person.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::NoAccountKey => Code::NoAccountKey.problem(),
            Self::Full => Code::DevicesFull.problem(),
            Self::NoSuchDevice => Code::NoSuchDevice.with(&[("who", "that key")]),
            Self::Signed(error) => Code::Internal.with(&[("detail", &error.to_string())]),
        }
    }
}

impl Keys {
    /// Signs papers for a device, new or known, on top of a device set. Epoch and serial are higher than all before.
    ///
    /// # Errors
    /// [`PapersError`]: without the account key, or with 8 devices.
    pub fn sign_device(
        &self,
        base: &DeviceSet,
        device: DeviceKey,
        label: &str,
        unix_ms: u64,
    ) -> Result<Papers, PapersError> {
        let entropy = self.entropy.as_ref().ok_or(PapersError::NoAccountKey)?;
        let others: Vec<DeviceEntry> =
            base.devices().iter().copied().filter(|entry| entry.device != device).collect();
        if others.len() >= DEVICES_MAX {
            return Err(PapersError::Full);
        }
        sign(entropy, device, label, &others, next_number(base, unix_ms), unix_ms)
    }

    /// Signs a device set without one of its devices.
    ///
    /// # Errors
    /// [`PapersError`]: without the account key, or where the set does not name it.
    pub fn sign_without(
        &self,
        base: &DeviceSet,
        device: DeviceKey,
        unix_ms: u64,
    ) -> Result<DeviceSet, PapersError> {
        if self.entropy.is_none() {
            return Err(PapersError::NoAccountKey);
        }
        if !base.contains(device) {
            return Err(PapersError::NoSuchDevice);
        }
        let others: Vec<DeviceEntry> =
            base.devices().iter().copied().filter(|entry| entry.device != device).collect();
        self.sign_set(base, &others, unix_ms)
    }

    /// Signs a device set of these entries, higher than `base`.
    ///
    /// # Errors
    /// [`PapersError`]: without the account key, or with more than 8 devices.
    pub fn sign_set(
        &self,
        base: &DeviceSet,
        devices: &[DeviceEntry],
        unix_ms: u64,
    ) -> Result<DeviceSet, PapersError> {
        let entropy = self.entropy.as_ref().ok_or(PapersError::NoAccountKey)?;
        if devices.len() > DEVICES_MAX {
            return Err(PapersError::Full);
        }
        let number = next_number(base, unix_ms);
        Ok(DeviceSet::issue(&entropy.account_secret(), number, devices, unix_ms / 1000 + LIFE_S)?)
    }

    /// Takes newer papers over, on the disk first.
    ///
    /// # Errors
    /// When the disk fails; then nothing has changed in memory.
    pub fn take_papers(&mut self, data: &Path, papers: Papers) -> Result<(), KeysError> {
        write(&data.join(paths::KEYS), &papers)?;
        (self.certificate, self.device_set) = (papers.certificate, papers.device_set);
        self.restoring = is_restoring(&self.device_set);
        self.lapsed &= self.restoring;
        Ok(())
    }

    /// Remembers that a newer set no longer names this device.
    ///
    /// # Errors
    /// When the disk fails; in memory it is remembered all the same.
    pub fn take_revocation(&mut self, data: &Path, set: DeviceSet) -> Result<(), KeysError> {
        let path = data.join(paths::KEYS).join(REVOKED_FILE);
        let bytes = set.signed().encode_to_vec();
        self.revoked = Some(set);
        files::replace(&path, &bytes).map_err(|error| KeysError::Io { path, error })
    }
}

/// Above everything the set was ever given.
fn next_number(base: &DeviceSet, unix_ms: u64) -> u64 {
    let serial = base.devices().iter().map(|entry| entry.serial).max().unwrap_or(0);
    unix_ms.max(base.epoch().max(serial).saturating_add(1))
}

/// Signs a certificate for `device`, and the set of it and `others`.
pub(super) fn sign(
    entropy: &Entropy,
    device: DeviceKey,
    label: &str,
    others: &[DeviceEntry],
    number: u64,
    unix_ms: u64,
) -> Result<Papers, PapersError> {
    let secret = entropy.account_secret();
    let now_s = unix_ms / 1000;
    let new = NewCertificate {
        device,
        serial: number,
        not_before_s: now_s,
        not_after_s: now_s + LIFE_S,
        label: label.to_owned(),
    };
    let certificate = DeviceCertificate::issue(&secret, new)?;
    let mut devices = others.to_vec();
    devices.push(DeviceEntry { device, serial: number });
    let device_set = DeviceSet::issue(&secret, number, &devices, now_s + LIFE_S)?;
    Ok(Papers { certificate, device_set })
}

/// Makes an installation a device of an account whose key is not here.
///
/// # Errors
/// [`KeysError::Exists`] where there is an identity, whole or not.
pub fn adopt(
    data: &Path,
    device: &DeviceSecret,
    papers: Papers,
    passphrase: Option<&Passphrase>,
) -> Result<Keys, KeysError> {
    let folder = vacant(data)?;
    let keys = Keys {
        entropy: None,
        device: DeviceSecret::from_seed(&device.seed()),
        service: ServiceSecret::from_seed(&random::bytes()),
        certificate: papers.certificate,
        device_set: papers.device_set,
        sealed: passphrase.is_some(),
        restoring: false,
        lapsed: false,
        revoked: None,
    };
    write_whole(data, &folder, &keys, passphrase)?;
    Ok(keys)
}

/// Makes this installation one more device of an account whose words were typed. Which others there are is found out by
/// the node, which publishes nothing before it knows.
///
/// # Errors
/// [`KeysError::Exists`] where there is an identity, whole or not.
pub fn restore(
    data: &Path,
    entropy: Entropy,
    label: &str,
    passphrase: Option<&Passphrase>,
    unix_ms: u64,
) -> Result<Keys, KeysError> {
    let folder = vacant(data)?;
    let device = DeviceSecret::from_seed(&random::bytes());
    let wrong =
        |error: PapersError| KeysError::Signatures { path: folder.clone(), detail: error.to_string() };
    let papers = sign_restoring(&entropy, device.public(), label, &[], unix_ms, unix_ms).map_err(wrong)?;
    let keys = Keys {
        entropy: Some(entropy),
        device,
        service: ServiceSecret::from_seed(&random::bytes()),
        certificate: papers.certificate,
        device_set: papers.device_set,
        sealed: passphrase.is_some(),
        restoring: true,
        lapsed: false,
        revoked: None,
    };
    write_whole(data, &folder, &keys, passphrase)?;
    Ok(keys)
}

/// Signs like [`sign`], and the set of an epoch that replaces nothing.
pub(super) fn sign_restoring(
    entropy: &Entropy,
    device: DeviceKey,
    label: &str,
    others: &[DeviceEntry],
    serial: u64,
    unix_ms: u64,
) -> Result<Papers, PapersError> {
    let papers = sign(entropy, device, label, others, serial, unix_ms)?;
    let set = &papers.device_set;
    let device_set =
        DeviceSet::issue(&entropy.account_secret(), RESTORING_EPOCH, set.devices(), set.not_after_s())?;
    Ok(Papers { device_set, ..papers })
}

pub(super) fn is_restoring(set: &DeviceSet) -> bool {
    set.epoch() == RESTORING_EPOCH
}

/// The set that no longer names this device, if it was revoked: for good, also when that set has run out.
pub(super) fn revocation(folder: &Path, papers: &Papers) -> Result<Option<DeviceSet>, KeysError> {
    let certificate = &papers.certificate;
    let set = read(folder, REVOKED_FILE)?.and_then(|signed| verify_set(&signed, certificate.account()));
    Ok(set.filter(|set| !set.contains(certificate.device())))
}

fn vacant(data: &Path) -> Result<PathBuf, KeysError> {
    let folder = data.join(paths::KEYS);
    if folder.exists() { Err(KeysError::Exists { path: folder }) } else { Ok(folder) }
}
