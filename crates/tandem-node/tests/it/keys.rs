//! Key files: made once, never written over, and refused when anything about them is wrong.

use std::fs;
use std::path::{Path, PathBuf};

use prost::Message as _;
use tandem_node::keys::{self, Keys, KeysError, Papers, Passphrase};
use tandem_proto::identity::{DeviceSecret, Entropy};
use tandem_proto::signed::{DeviceCertificate, DeviceEntry, DeviceSet};
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

/// Papers of this identity that were signed then, with one more device in the set.
fn signed_at(data: &TempDir, keys: &mut Keys, unix_ms: u64) -> DeviceEntry {
    let other = DeviceEntry { device: DeviceSecret::from_seed(&[7; 32]).public(), serial: 7 };
    let own = keys.device.public();
    let certificate = keys.sign_device(&keys.device_set, own, "Laptop", unix_ms).unwrap().certificate;
    let entries = [other, DeviceEntry { device: own, serial: certificate.serial() }];
    let device_set = keys.sign_set(&keys.device_set, &entries, unix_ms).unwrap();
    keys.take_papers(data.path(), Papers { certificate, device_set }).unwrap();
    other
}

#[test]
fn papers_near_their_end_stay_as_they_are() {
    let data = folder();
    let made = keys::create(data.path(), None, None, NOW).unwrap();
    let before = contents(data.path());
    let same = keys::open(data.path(), None, NOW + 360 * DAY).unwrap();
    assert_eq!((&same.certificate, &same.device_set), (&made.certificate, &made.device_set));
    assert!(!same.restoring && !same.lapsed);
    assert_eq!(contents(data.path()), before);
}

#[test]
fn papers_that_ran_out_are_signed_anew_and_replace_nothing() {
    let data = folder();
    let mut made = keys::create(data.path(), None, None, NOW).unwrap();
    let other = signed_at(&data, &mut made, NOW + DAY);
    let before = contents(data.path());
    let mut late = keys::open(data.path(), None, NOW + 900 * DAY).unwrap();
    assert!(late.restoring && late.lapsed);
    assert_eq!((late.device_set.epoch(), late.certificate.label()), (1, "Laptop"));
    assert!(late.device_set.admits(&late.certificate) && late.device_set.devices().contains(&other));
    assert!(late.certificate.serial() > made.device_set.epoch(), "what follows is above all that was");
    assert_eq!(contents(data.path()), before, "nothing is written before the account was looked up");

    // What the running node does when nobody knows more.
    let (base, own) = (late.device_set.clone(), late.device.public());
    let papers = late.sign_device(&base, own, "Laptop", NOW + 900 * DAY).unwrap();
    late.take_papers(data.path(), papers).unwrap();
    assert!(!late.restoring && !late.lapsed && late.device_set.epoch() > made.device_set.epoch());
    let again = keys::open(data.path(), None, NOW + 901 * DAY).unwrap();
    assert!(!again.restoring && again.device_set == late.device_set);

    fs::remove_file(file(&data, "account.key")).unwrap();
    let guest = keys::open(data.path(), None, NOW + 901 * DAY).unwrap();
    assert!(guest.entropy.is_none());
    let expired = keys::open(data.path(), None, NOW + 1_400 * DAY).unwrap_err();
    assert_eq!(expired.problem().code, "T1111");
}

#[test]
fn papers_from_a_clock_that_was_ahead_are_left_alone() {
    let data = folder();
    let mut made = keys::create(data.path(), None, None, NOW).unwrap();
    signed_at(&data, &mut made, NOW + DAY);
    // The clock is right again, and stands before what was signed: that does not hold yet, and is left alone.
    let error = keys::open(data.path(), None, NOW).unwrap_err();
    assert_eq!(error.problem().code, "T1111");
}

#[test]
fn revoked_is_revoked_also_when_all_papers_ran_out() {
    let data = folder();
    let mut made = keys::create(data.path(), None, None, NOW).unwrap();
    let without = made.sign_set(&made.device_set, &[], NOW + DAY).unwrap();
    made.take_revocation(data.path(), without).unwrap();
    for day in [2, 900] {
        assert!(keys::open(data.path(), None, NOW + day * DAY).unwrap().revoked.is_some(), "day {day}");
    }
}

/// As folders were laid out before: each of the two in a file of its own.
fn lay_out_in_two(data: &TempDir, certificate: Option<&DeviceCertificate>, set: Option<&DeviceSet>) {
    fs::remove_file(file(data, "papers.bin")).unwrap();
    for (name, signed) in [
        ("certificate.bin", certificate.map(|certificate| certificate.signed())),
        ("device-set.bin", set.map(DeviceSet::signed)),
    ] {
        if let Some(signed) = signed {
            fs::write(file(data, name), signed.encode_to_vec()).unwrap();
        }
    }
}

#[test]
fn papers_in_two_files_are_read_and_become_one() {
    let data = folder();
    let made = keys::create(data.path(), None, None, NOW).unwrap();
    lay_out_in_two(&data, Some(&made.certificate), Some(&made.device_set));
    let mut opened = keys::open(data.path(), None, NOW + DAY).unwrap();
    assert_eq!((&opened.certificate, &opened.device_set), (&made.certificate, &made.device_set));
    signed_at(&data, &mut opened, NOW + DAY);
    assert!(!file(&data, "certificate.bin").exists() && !file(&data, "device-set.bin").exists());
    let again = keys::open(data.path(), None, NOW + DAY).unwrap();
    assert_eq!(again.device_set, opened.device_set);
}

#[test]
fn half_of_the_papers_is_recovered_from_where_the_account_key_is() {
    for half in ["certificate only", "set only", "a newer certificate", "neither"] {
        let data = folder();
        let made = keys::create(data.path(), None, None, NOW).unwrap();
        let newer = made.sign_device(&made.device_set, made.device.public(), "x", NOW + DAY).unwrap();
        let (certificate, set) = match half {
            "certificate only" => (Some(&newer.certificate), None),
            "set only" => (None, Some(&newer.device_set)),
            "a newer certificate" => (Some(&newer.certificate), Some(&made.device_set)),
            _ => (None, None),
        };
        lay_out_in_two(&data, certificate, set);
        let opened = keys::open(data.path(), None, NOW + 2 * DAY).unwrap();
        assert!(opened.restoring && opened.lapsed, "{half}");
        assert!(opened.device_set.admits(&opened.certificate), "{half}");
        assert_eq!(opened.device.public(), made.device.public(), "{half}");
        // A device that was added by link has nobody here to sign for it.
        fs::remove_file(file(&data, "account.key")).unwrap();
        assert_eq!(
            keys::open(data.path(), None, NOW + 2 * DAY).unwrap_err().problem().code,
            "T1111",
            "{half}"
        );
    }
}

#[test]
fn a_crash_while_papers_are_written_leaves_the_old_ones() {
    let data = folder();
    let mut made = keys::create(data.path(), None, None, NOW).unwrap();
    fs::remove_file(file(&data, "account.key")).unwrap();
    let whole = fs::read(file(&data, "papers.bin")).unwrap();
    for length in [0, 1, whole.len() / 2, whole.len()] {
        fs::write(file(&data, "papers.bin.new"), &whole[..length]).unwrap();
        let opened = keys::open(data.path(), None, NOW + DAY).unwrap();
        assert_eq!(opened.device_set, made.device_set);
    }
    signed_at(&data, &mut made, NOW + DAY);
    assert_eq!(keys::open(data.path(), None, NOW + DAY).unwrap().device_set, made.device_set);
    // A disk that loses the end of a file is told apart from papers that lapsed.
    for length in 0..whole.len() {
        fs::write(file(&data, "papers.bin"), &whole[..length]).unwrap();
        assert_eq!(keys::open(data.path(), None, NOW + DAY).unwrap_err().problem().code, "T1111", "{length}");
    }
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
