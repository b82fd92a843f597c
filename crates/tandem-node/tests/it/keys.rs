//! Key files: made once, never written over, and refused when anything about them is wrong.

use std::fs;
use std::path::{Path, PathBuf};

use tandem_node::keys::{self, KeysError, Passphrase};
use tandem_proto::identity::Entropy;
use tempfile::TempDir;
use zeroize::Zeroizing;

/// 2026-11-23.
const NOW: u64 = 1_795_392_000_000;
const DAY: u64 = 86_400_000;
const NAMES: [&str; 3] = ["account.key", "device.key", "service.key"];

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn file(data: &TempDir, name: &str) -> PathBuf {
    data.path().join("keys").join(name)
}

fn passphrase(text: &str) -> Option<Passphrase> {
    Passphrase::new(Zeroizing::new(text.to_owned()))
}

/// All files and their contents.
fn contents(data: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(data.join("keys"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn an_identity_is_made_once_and_comes_back() {
    let data = folder();
    let made = keys::create(data.path(), None, None, NOW).unwrap();
    let opened = keys::open(data.path(), None, NOW + DAY).unwrap();
    assert_eq!(made.address(), opened.address());
    assert_eq!(made.device.public(), opened.device.public());
    assert_eq!(made.service.public(), opened.service.public());
    assert_ne!(made.device.public().0, made.service.public().0);
    assert!(opened.device_set.admits(&opened.certificate) && !opened.sealed);

    let before = contents(data.path());
    assert!(matches!(keys::create(data.path(), None, None, NOW), Err(KeysError::Exists { .. })));
    assert_eq!(contents(data.path()), before);
}

#[test]
#[cfg(unix)]
fn only_the_owner_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let data = folder();
    keys::create(data.path(), None, None, NOW).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data.path().join("keys")), 0o700);
    for name in NAMES {
        assert_eq!(mode(&file(&data, name)), 0o600, "{name}");
    }
    let device = file(&data, "device.key");
    fs::set_permissions(&device, fs::Permissions::from_mode(0o640)).unwrap();
    let error = keys::open(data.path(), None, NOW).unwrap_err();
    assert!(matches!(&error, KeysError::TooOpen { mode, .. } if mode == "0640"), "{error}");
    assert_eq!(error.problem().code, "T1103");
}

#[test]
fn the_words_bring_the_account_back_and_bury_its_older_devices() {
    let first = folder();
    let made = keys::create(first.path(), None, None, NOW).unwrap();
    let words = made.entropy.as_ref().unwrap().words();
    let second = folder();
    let restored =
        keys::create(second.path(), Some(Entropy::from_words(&words).unwrap()), None, NOW + DAY).unwrap();
    assert_eq!(restored.address(), made.address());
    assert_ne!(restored.device.public(), made.device.public());
    assert!(restored.device_set.epoch() > made.device_set.epoch());
    assert!(!restored.device_set.admits(&made.certificate));
}

#[test]
fn sealed_files_open_with_their_passphrase_only() {
    let data = folder();
    let made = keys::create(data.path(), None, passphrase("correct horse\n").as_ref(), NOW).unwrap();
    assert!(keys::is_sealed(data.path()));
    let plain = made.device.seed();
    assert!(!fs::read(file(&data, "device.key")).unwrap().windows(32).any(|part| part == &plain[..]));
    assert!(matches!(keys::open(data.path(), None, NOW), Err(KeysError::PassphraseNeeded { .. })));
    let wrong = keys::open(data.path(), passphrase("correct house").as_ref(), NOW);
    assert!(matches!(wrong, Err(KeysError::PassphraseWrong { .. })));
    let opened = keys::open(data.path(), passphrase("correct horse").as_ref(), NOW).unwrap();
    assert!(opened.sealed);
    assert_eq!(opened.address(), made.address());
}

#[test]
fn every_damage_is_found_and_nothing_is_written_over() {
    let data = folder();
    keys::create(data.path(), None, None, NOW).unwrap();
    let path = file(&data, "account.key");
    let whole = fs::read(&path).unwrap();
    for index in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[index] ^= 0x20;
        fs::write(&path, &damaged).unwrap();
        let error = keys::open(data.path(), None, NOW).unwrap_err();
        let expected = matches!(error, KeysError::Damaged { .. } | KeysError::Foreign { .. });
        assert!(expected, "byte {index}: {error}");
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let error = keys::open(data.path(), None, NOW).unwrap_err();
        assert!(matches!(error, KeysError::Damaged { .. }), "cut to {length}: {error}");
    }
    fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
    assert!(matches!(keys::open(data.path(), None, NOW), Err(KeysError::Damaged { .. })));
}

#[test]
fn foreign_swapped_and_missing_files_are_told_apart() {
    let data = folder();
    keys::create(data.path(), None, None, NOW).unwrap();
    let device = file(&data, "device.key");
    let whole = fs::read(&device).unwrap();

    fs::write(&device, b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAA").unwrap();
    assert!(matches!(keys::open(data.path(), None, NOW), Err(KeysError::Foreign { .. })));
    fs::copy(file(&data, "service.key"), &device).unwrap();
    let error = keys::open(data.path(), None, NOW).unwrap_err();
    assert!(matches!(error, KeysError::WrongKind { .. }), "{error}");
    assert_eq!(error.problem().code, "T1104");
    fs::remove_file(&device).unwrap();
    assert!(matches!(keys::open(data.path(), None, NOW), Err(KeysError::Incomplete { .. })));
    assert!(!device.exists());
    // Another installation's device key: the certificate is not for it.
    let other = folder();
    keys::create(other.path(), None, None, NOW).unwrap();
    fs::copy(file(&other, "device.key"), &device).unwrap();
    assert!(matches!(keys::open(data.path(), None, NOW), Err(KeysError::Signatures { .. })));
    fs::remove_file(&device).unwrap();
    tandem_node::platform::files::write_new(&device, &whole).unwrap();
    keys::open(data.path(), None, NOW).unwrap();
}

#[test]
fn signatures_near_their_end_are_given_anew_where_the_account_key_is() {
    let data = folder();
    let made = keys::create(data.path(), None, None, NOW).unwrap();
    let same = keys::open(data.path(), None, NOW + 200 * DAY).unwrap();
    assert_eq!(same.certificate.serial(), made.certificate.serial());
    let renewed = keys::open(data.path(), None, NOW + 300 * DAY).unwrap();
    assert!(renewed.certificate.serial() > made.certificate.serial());
    assert!(renewed.device_set.epoch() > made.device_set.epoch());
    assert!(renewed.device_set.admits(&renewed.certificate));
    let again = keys::open(data.path(), None, NOW + 301 * DAY).unwrap();
    assert_eq!(again.certificate.serial(), renewed.certificate.serial());
    // Long asleep: expired, and signed anew all the same.
    let late = keys::open(data.path(), None, NOW + 900 * DAY).unwrap();
    assert!(late.device_set.epoch() > renewed.device_set.epoch());

    fs::remove_file(file(&data, "account.key")).unwrap();
    let guest = keys::open(data.path(), None, NOW + 901 * DAY).unwrap();
    assert!(guest.entropy.is_none());
    let expired = keys::open(data.path(), None, NOW + 1_400 * DAY).unwrap_err();
    assert_eq!(expired.problem().code, "T1111");
}

#[test]
fn an_interrupted_creation_leaves_nothing_behind() {
    let data = folder();
    let half = data.path().join("keys.new");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("account.key"), b"half").unwrap();
    assert!(!keys::exists(data.path()));
    keys::create(data.path(), None, None, NOW).unwrap();
    assert!(!half.exists());
}
