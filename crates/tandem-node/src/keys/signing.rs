//! The account's signatures over this device: its certificate and the device set, in one file.
//!
//! ```text
//! varint length, Signed (a DeviceCertificate)
//! varint length, Signed (the DeviceSet that names it)
//! ```
//!
//! They are written together, so that no crash leaves one of them newer than the other.

use std::fs;
use std::io;
use std::path::Path;

use prost::Message;
use tandem_proto::identity::Entropy;
use tandem_proto::ids::{AccountKey, DeviceKey};
use tandem_proto::signed::{DeviceCertificate, DeviceEntry, DeviceSet, SignedError};
use tandem_proto::wire;

use super::papers::{Papers, PapersError, is_restoring, sign, sign_restoring};
use super::{KeysError, PAPERS_FILE};
use crate::platform::files;

/// A signature is given for a year.
pub(super) const LIFE_S: u64 = 365 * 86_400;
const SIGNED_BYTES_MAX: u64 = 4096;

/// Where the two were, each in a file of its own, and what marked an account that was being restored.
const CERTIFICATE_FILE: &str = "certificate.bin";
const DEVICE_SET_FILE: &str = "device-set.bin";
const OLD_FILES: [&str; 3] = [CERTIFICATE_FILE, DEVICE_SET_FILE, "restoring"];

/// Why what lies on the disk makes no device.
enum Unfit {
    /// It ran out, is missing, or is of two moments: the account key signs it anew.
    Lapsed(SignedError),
    /// It is somebody else's, or damaged.
    Wrong(SignedError),
}

/// The signatures of an identity that begins: this device is the only one. The epoch is the time in milliseconds, so that
/// an account restored from its words goes on above the epochs it had, and its lost devices are dead.
pub(super) fn issue_first(entropy: &Entropy, device: DeviceKey, unix_ms: u64) -> Result<Papers, PapersError> {
    sign(entropy, device, "", &[], unix_ms, unix_ms)
}

/// Reads and verifies both, and writes nothing. Papers that hold are given as they are, however near their end: what the
/// account's other devices changed meanwhile is not known here. Papers that lapsed are signed anew if the account key is
/// here, but of an epoch that replaces nothing; true then, but for a
/// device that never was in a published set.
pub(super) fn open(
    folder: &Path,
    entropy: Option<&Entropy>,
    device: DeviceKey,
    unix_ms: u64,
) -> Result<(Papers, bool), KeysError> {
    let wrong = |detail: String| KeysError::Signatures { path: folder.join(PAPERS_FILE), detail };
    let (certificate, set) = read_both(folder)?;
    let checked = check(certificate.as_ref(), set.as_ref(), device, unix_ms);
    let Some(entropy) = entropy else {
        return match checked {
            Ok(papers) => Ok((papers, false)),
            Err(Unfit::Lapsed(error) | Unfit::Wrong(error)) => Err(wrong(error.to_string())),
        };
    };
    let account = entropy.account_secret().public();
    match checked {
        Ok(papers) if papers.certificate.account() == account => Ok((papers, false)),
        Ok(_) => Err(wrong(SignedError::OtherAccount.to_string())),
        Err(Unfit::Wrong(error)) => Err(wrong(error.to_string())),
        Err(Unfit::Lapsed(_)) => {
            let last = last_known(certificate.as_ref(), set.as_ref(), account, device);
            let serial = unix_ms.max(last.number.saturating_add(1));
            let papers = sign_restoring(entropy, device, &last.label, &last.others, serial, unix_ms);
            Ok((papers.map_err(|error| wrong(error.to_string()))?, !last.restoring))
        }
    }
}

/// Writes both, whole or not at all.
pub(super) fn write(folder: &Path, papers: &Papers) -> Result<(), KeysError> {
    let path = folder.join(PAPERS_FILE);
    let mut bytes = papers.certificate.signed().encode_length_delimited_to_vec();
    bytes.extend(papers.device_set.signed().encode_length_delimited_to_vec());
    files::replace(&path, &bytes).map_err(|error| KeysError::Io { path, error })?;
    for name in OLD_FILES {
        let path = folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(KeysError::Io { path, error });
            }
            _ => {}
        }
    }
    Ok(())
}

/// What papers that lapsed still tell.
#[derive(Default)]
struct LastKnown {
    others: Vec<DeviceEntry>,
    /// The highest epoch and serial of its time.
    number: u64,
    label: String,
    /// The account was being restored and its other devices never found.
    restoring: bool,
}

fn last_known(
    certificate: Option<&wire::Signed>,
    set: Option<&wire::Signed>,
    account: AccountKey,
    device: DeviceKey,
) -> LastKnown {
    let mut last = LastKnown::default();
    if let Some(set) = set.and_then(|signed| verify_set(signed, account)) {
        last.number = set.devices().iter().map(|entry| entry.serial).fold(set.epoch(), u64::max);
        last.restoring = is_restoring(&set);
        last.others = set.devices().iter().copied().filter(|entry| entry.device != device).collect();
    }
    if let Some(signed) = certificate {
        let said = wire::DeviceCertificate::decode(signed.payload.as_slice());
        let end_ms = said.map_or(0, |said| said.not_after_s.saturating_mul(1000));
        if let Ok(certificate) = DeviceCertificate::verify(signed, device, end_ms)
            && certificate.account() == account
        {
            last.number = last.number.max(certificate.serial());
            certificate.label().clone_into(&mut last.label);
        }
    }
    last
}

/// A device set of this account, whether it has run out or not.
pub(super) fn verify_set(signed: &wire::Signed, account: AccountKey) -> Option<DeviceSet> {
    let said = wire::DeviceSet::decode(signed.payload.as_slice()).ok()?;
    DeviceSet::verify(signed, account, said.not_after_s.saturating_mul(1000)).ok()
}

fn check(
    certificate: Option<&wire::Signed>,
    set: Option<&wire::Signed>,
    device: DeviceKey,
    unix_ms: u64,
) -> Result<Papers, Unfit> {
    let unfit = |error: SignedError| match error {
        SignedError::Expired { .. } | SignedError::Missing => Unfit::Lapsed(error),
        error => Unfit::Wrong(error),
    };
    let certificate = certificate.ok_or(Unfit::Lapsed(SignedError::Missing))?;
    let certificate = DeviceCertificate::verify(certificate, device, unix_ms).map_err(unfit)?;
    let set = set.ok_or(Unfit::Lapsed(SignedError::Missing))?;
    let device_set = DeviceSet::verify(set, certificate.account(), unix_ms).map_err(unfit)?;
    if device_set.admits(&certificate) {
        Ok(Papers { certificate, device_set })
    } else {
        Err(Unfit::Lapsed(SignedError::OtherDevice))
    }
}

/// This device's certificate, not verified; `None` where there is none.
pub(super) fn certificate(folder: &Path) -> Result<Option<wire::Signed>, KeysError> {
    Ok(read_both(folder)?.0)
}

type Both = (Option<wire::Signed>, Option<wire::Signed>);

/// `None` for what is not there.
fn read_both(folder: &Path) -> Result<Both, KeysError> {
    let path = folder.join(PAPERS_FILE);
    let Some(bytes) = read_bytes(&path)? else {
        return Ok((read(folder, CERTIFICATE_FILE)?, read(folder, DEVICE_SET_FILE)?));
    };
    let mut rest = bytes.as_slice();
    let mut next = || wire::Signed::decode_length_delimited(&mut rest);
    match (next(), next()) {
        (Ok(certificate), Ok(set)) if rest.is_empty() => Ok((Some(certificate), Some(set))),
        (Err(error), _) | (_, Err(error)) => Err(KeysError::Signatures { path, detail: error.to_string() }),
        _ => Err(KeysError::Signatures { path, detail: "there is something behind its end".to_owned() }),
    }
}

/// One signed message; `None` where there is no such file.
pub(super) fn read(folder: &Path, name: &str) -> Result<Option<wire::Signed>, KeysError> {
    let path = folder.join(name);
    let Some(bytes) = read_bytes(&path)? else { return Ok(None) };
    match wire::Signed::decode(bytes.as_slice()) {
        Ok(signed) => Ok(Some(signed)),
        Err(error) => Err(KeysError::Signatures { path, detail: error.to_string() }),
    }
}

fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>, KeysError> {
    let io = |error| KeysError::Io { path: path.to_owned(), error };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Ok(metadata) if metadata.len() > SIGNED_BYTES_MAX => {
            Err(KeysError::Signatures { path: path.to_owned(), detail: "it is too large".to_owned() })
        }
        _ => fs::read(path).map(Some).map_err(io),
    }
}
