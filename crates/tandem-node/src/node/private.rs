//! A private network: the memberships of this installation, read from their file and read again when it changes.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tandem_api::Problem;
use tandem_proto::identity::{MEMBERSHIP_SCHEME, membership_from_text};
use tandem_proto::ids::NetworkKey;
use tandem_proto::names::NetworkId;
use tandem_proto::signed::{NetworkMembership, SignedError};

use crate::messages::Code;
use crate::overlay::Membership;
use crate::platform::paths;

/// How often the file is looked at.
const LOOK_EVERY_MS: u64 = 5_000;
/// One file may serve a whole organisation.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// A membership that ends sooner is worth a word, unless so little is left of a short one.
const SOON_S: u64 = 7 * 86_400;

/// What this installation shows in its private network.
#[derive(Debug)]
pub(super) struct Private {
    network: NetworkId,
    key: NetworkKey,
    file: PathBuf,
    changed: Option<SystemTime>,
    looked_ms: u64,
    device: Own,
    service: Own,
    shown: Membership,
}

#[derive(Debug)]
struct Own {
    member: [u8; 32],
    /// What was found for it.
    found: Result<NetworkMembership, String>,
}

impl Own {
    fn new(member: [u8; 32]) -> Self {
        Self { member, found: Err("it was not looked for yet".to_owned()) }
    }
}

impl Private {
    /// Of the installation with these two keys; the file is read.
    pub(super) fn new(
        (network, key): (NetworkId, NetworkKey),
        file: Option<&Path>,
        data: &Path,
        (device, service): ([u8; 32], [u8; 32]),
        unix_ms: u64,
    ) -> Self {
        let mut private = Self {
            file: file.map_or_else(|| data.join(paths::MEMBERSHIP), Path::to_owned),
            changed: None,
            looked_ms: 0,
            device: Own::new(device),
            service: Own::new(service),
            shown: Membership::new(network.clone(), key, Vec::new()),
            network,
            key,
        };
        private.read(unix_ms);
        private
    }

    /// For every swarm of this installation.
    pub(super) fn shown(&self) -> Membership {
        self.shown.clone()
    }

    /// Looks whether memberships were renewed. True: they were read again.
    pub(super) fn refresh(&mut self, mono_ms: u64, unix_ms: u64) -> bool {
        if mono_ms < self.looked_ms.saturating_add(LOOK_EVERY_MS) {
            return false;
        }
        self.looked_ms = mono_ms;
        let changed = std::fs::metadata(&self.file).and_then(|file| file.modified()).ok();
        if changed == self.changed {
            return false;
        }
        self.read(unix_ms);
        true
    }

    fn read(&mut self, unix_ms: u64) {
        self.changed = std::fs::metadata(&self.file).and_then(|file| file.modified()).ok();
        let memberships = read_file(&self.file);
        for own in [&mut self.device, &mut self.service] {
            own.found = match &memberships {
                Ok(all) => newest(all, (&self.network, self.key), &own.member, unix_ms),
                Err(why) => Err(why.clone()),
            };
        }
        let found =
            [&self.device, &self.service].into_iter().filter_map(|own| own.found.as_ref().ok().cloned());
        self.shown.renew(found.collect());
    }

    /// What the person should know. `serves`: the service key needs a membership too.
    pub(super) fn problem(&self, serves: bool, unix_ms: u64) -> Option<Problem> {
        let network = self.network.to_string();
        let file = self.file.display().to_string();
        for own in std::iter::once(&self.device).chain(serves.then_some(&self.service)) {
            let membership = match &own.found {
                Ok(membership) => membership,
                Err(why) => {
                    let values = [("network", &*network), ("file", &*file), ("detail", &**why)];
                    return Some(Code::MembershipMissing.with(&values));
                }
            };
            let now_s = unix_ms / 1000;
            let whole_s = membership.not_after_s().saturating_sub(membership.not_before_s());
            let left_s = membership.not_after_s().saturating_sub(now_s);
            if left_s < SOON_S.min(whole_s / 4) {
                let hours = (left_s / 3600).to_string();
                return Some(Code::MembershipEnds.with(&[("network", &network), ("hours", &hours)]));
            }
        }
        None
    }
}

/// All memberships in a file, each on a line of its own; other lines are remarks.
pub(super) fn read_file(file: &Path) -> Result<Vec<tandem_proto::wire::Signed>, String> {
    let told = |error: std::io::Error| error.to_string();
    if std::fs::metadata(file).map_err(told)?.len() > FILE_BYTES_MAX {
        return Err("it is too large".to_owned());
    }
    let text = std::fs::read_to_string(file).map_err(told)?;
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with(MEMBERSHIP_SCHEME));
    lines.map(|line| membership_from_text(line).map_err(|error| error.to_string())).collect()
}

/// The one for this key that holds and ends last; else why none does.
fn newest(
    all: &[tandem_proto::wire::Signed],
    network: (&NetworkId, NetworkKey),
    member: &[u8; 32],
    unix_ms: u64,
) -> Result<NetworkMembership, String> {
    let mut best: Option<NetworkMembership> = None;
    let mut why = "it holds none for this installation".to_owned();
    for signed in all {
        match NetworkMembership::verify(signed, network, member, unix_ms) {
            Ok(membership) => {
                if best.as_ref().is_none_or(|best| best.not_after_s() < membership.not_after_s()) {
                    best = Some(membership);
                }
            }
            Err(SignedError::OtherMember) => {}
            Err(error) => {
                let mine = NetworkMembership::parse(signed).is_ok_and(|parsed| parsed.member() == member);
                if mine {
                    why = error.to_string();
                }
            }
        }
    }
    best.ok_or(why)
}

#[cfg(test)]
mod tests {
    use tandem_proto::identity::{NetworkSecret, membership_text};
    use tandem_proto::signed::NewMembership;

    use super::*;

    const NOW_S: u64 = 1_800_000_000;

    fn line(secret: &NetworkSecret, member: u8, (from_s, until_s): (u64, u64)) -> String {
        let new = NewMembership {
            network: "acme".parse().unwrap(),
            member: [member; 32],
            not_before_s: from_s,
            not_after_s: until_s,
            label: String::new(),
        };
        membership_text(NetworkMembership::issue(secret, new).unwrap().signed())
    }

    #[test]
    fn the_membership_that_holds_and_ends_last_is_shown_and_renewed() {
        let secret = NetworkSecret::from_seed(&[1; 32]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("membership");
        let open = || {
            Private::new(
                ("acme".parse().unwrap(), secret.public()),
                None,
                folder.path(),
                ([1; 32], [2; 32]),
                NOW_S * 1000,
            )
        };
        let code =
            |private: &Private, serves| private.problem(serves, NOW_S * 1000).map(|problem| problem.code);
        let mut private = open();
        assert_eq!(code(&private, false).as_deref(), Some("T2101"), "there is no file");
        let day = 86_400;
        let lines = [
            "# of the reception".to_owned(),
            line(&secret, 1, (NOW_S - 60 * day, NOW_S - 30 * day)),
            line(&secret, 1, (NOW_S - day, NOW_S + 30 * day)),
            line(&NetworkSecret::from_seed(&[9; 32]), 1, (NOW_S - day, NOW_S + 300 * day)),
            line(&secret, 7, (NOW_S - day, NOW_S + 90 * day)),
        ];
        std::fs::write(&file, lines.join("\n")).unwrap();
        assert!(private.refresh(10_000, NOW_S * 1000));
        assert_eq!(private.device.found.as_ref().unwrap().not_after_s(), NOW_S + 30 * day);
        assert_eq!(code(&private, false), None);
        assert_eq!(code(&private, true).as_deref(), Some("T2101"), "none for the service key");
        assert!(!private.refresh(20_000, NOW_S * 1000), "nothing changed");
        std::fs::write(&file, line(&secret, 1, (NOW_S - 30 * day, NOW_S + day))).unwrap();
        assert_eq!(code(&open(), false).as_deref(), Some("T2102"));
        std::fs::write(&file, line(&secret, 1, (NOW_S - 3 * day, NOW_S - day))).unwrap();
        let expired = open().problem(false, NOW_S * 1000).unwrap();
        assert_eq!(expired.code, "T2101");
        assert!(expired.message.contains("expired"), "{expired}");
        std::fs::write(&file, "tandem-membership:aaaa").unwrap();
        assert_eq!(code(&open(), false).as_deref(), Some("T2101"));
    }
}
