//! The account's signatures over this device: its certificate and the device set.

use std::fs;
use std::io;
use std::path::Path;

use prost::Message;
use tandem_proto::identity::Entropy;
use tandem_proto::ids::{AccountKey, DeviceKey};
use tandem_proto::signed::{DeviceCertificate, DeviceEntry, DeviceSet, SignedError};
use tandem_proto::wire;

use super::papers::{PapersError, sign};
use super::{CERTIFICATE_FILE, DEVICE_SET_FILE, KeysError};
use crate::platform::files;

/// A signature is given for a year …
pub(super) const LIFE_S: u64 = 365 * 86_400;
/// … and given anew when a quarter of it is left.
const RENEW_S: u64 = LIFE_S / 4;
const SIGNED_BYTES_MAX: u64 = 4096;

/// The signatures of an identity that begins: this device is the only one. The epoch is the time in milliseconds, so that
/// an account restored from its words goes on above the epochs it had, and its lost devices are dead.
pub(super) fn issue_first(
    entropy: &Entropy,
    device: DeviceKey,
    unix_ms: u64,
) -> Result<(DeviceCertificate, DeviceSet), PapersError> {
    issue(entropy, device, "", &[], unix_ms, unix_ms)
}

/// Reads and verifies both; signs them anew where that is needed and can be done.
pub(super) fn open(
    folder: &Path,
    entropy: Option<&Entropy>,
    device: DeviceKey,
    unix_ms: u64,
) -> Result<(DeviceCertificate, DeviceSet), KeysError> {
    let wrong = |detail: String| KeysError::Signatures { path: folder.to_owned(), detail };
    let certificate = read(folder, CERTIFICATE_FILE)?;
    let set = read(folder, DEVICE_SET_FILE)?;
    let Some(entropy) = entropy else {
        return check(certificate.as_ref(), set.as_ref(), device, unix_ms)
            .map_err(|error| wrong(error.to_string()));
    };
    let account = entropy.account_secret().public();
    let (others, epoch, serial, label) = match (&certificate, &set) {
        (Some(certificate), Some(set)) => match check(Some(certificate), Some(set), device, unix_ms) {
            Ok((certificate, _)) if certificate.account() != account => {
                return Err(wrong("they are of another account".to_owned()));
            }
            Ok((certificate, set)) => {
                let end_s = certificate.not_after_s().min(set.not_after_s());
                if end_s > unix_ms / 1000 + RENEW_S {
                    return Ok((certificate, set));
                }
                let others = set.devices().iter().copied().filter(|entry| entry.device != device);
                (others.collect(), set.epoch(), certificate.serial(), certificate.label().to_owned())
            }
            Err(SignedError::Expired { .. }) => expired(certificate, set, account, device),
            Err(error) => return Err(wrong(error.to_string())),
        },
        _ => (Vec::new(), 0, 0, String::new()),
    };
    let next = unix_ms.max(epoch.saturating_add(1)).max(serial.saturating_add(1));
    let (certificate, set) =
        issue(entropy, device, &label, &others, next, unix_ms).map_err(|error| wrong(error.to_string()))?;
    write(folder, &certificate, &set)?;
    Ok((certificate, set))
}

/// Writes both whole, the certificate first: a set that names a newer certificate would shut this device out.
pub(super) fn write(
    folder: &Path,
    certificate: &DeviceCertificate,
    set: &DeviceSet,
) -> Result<(), KeysError> {
    for (name, signed) in [(CERTIFICATE_FILE, certificate.signed()), (DEVICE_SET_FILE, set.signed())] {
        let path = folder.join(name);
        files::replace(&path, &signed.encode_to_vec()).map_err(|error| KeysError::Io { path, error })?;
    }
    Ok(())
}

/// What papers that ran out still tell: the other devices, epoch, serial and label.
fn expired(
    certificate: &wire::Signed,
    set: &wire::Signed,
    account: AccountKey,
    device: DeviceKey,
) -> (Vec<DeviceEntry>, u64, u64, String) {
    let set_end_s = wire::DeviceSet::decode(set.payload.as_slice()).map_or(0, |set| set.not_after_s);
    let set = DeviceSet::verify(set, account, set_end_s.saturating_mul(1000)).ok();
    let end_s = wire::DeviceCertificate::decode(certificate.payload.as_slice()).map_or(0, |c| c.not_after_s);
    let certificate = DeviceCertificate::verify(certificate, device, end_s.saturating_mul(1000)).ok();
    let others = set.iter().flat_map(|set| set.devices()).filter(|entry| entry.device != device).copied();
    (
        others.collect(),
        set.as_ref().map_or(0, DeviceSet::epoch),
        certificate.as_ref().map_or(0, DeviceCertificate::serial),
        certificate.map(|certificate| certificate.label().to_owned()).unwrap_or_default(),
    )
}

fn issue(
    entropy: &Entropy,
    device: DeviceKey,
    label: &str,
    others: &[DeviceEntry],
    number: u64,
    unix_ms: u64,
) -> Result<(DeviceCertificate, DeviceSet), PapersError> {
    let papers = sign(entropy, device, label, others, number, unix_ms)?;
    Ok((papers.certificate, papers.device_set))
}

fn check(
    certificate: Option<&wire::Signed>,
    set: Option<&wire::Signed>,
    device: DeviceKey,
    unix_ms: u64,
) -> Result<(DeviceCertificate, DeviceSet), SignedError> {
    let certificate = certificate.ok_or(SignedError::Missing)?;
    let certificate = DeviceCertificate::verify(certificate, device, unix_ms)?;
    let set = DeviceSet::verify(set.ok_or(SignedError::Missing)?, certificate.account(), unix_ms)?;
    if set.admits(&certificate) { Ok((certificate, set)) } else { Err(SignedError::OtherDevice) }
}

/// `None` where there is no such file.
pub(super) fn read(folder: &Path, name: &str) -> Result<Option<wire::Signed>, KeysError> {
    let path = folder.join(name);
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(metadata) if metadata.len() > SIGNED_BYTES_MAX => {
            return Err(KeysError::Damaged { path, detail: "it is too large".to_owned() });
        }
        _ => {}
    }
    let bytes = fs::read(&path).map_err(|error| KeysError::Io { path: path.clone(), error })?;
    match wire::Signed::decode(bytes.as_slice()) {
        Ok(signed) => Ok(Some(signed)),
        Err(error) => Err(KeysError::Damaged { path, detail: error.to_string() }),
    }
}
