//! Who is at the other end: certificates and device sets.

use std::collections::BTreeMap;

use tandem_proto::ids::{AccountKey, DeviceKey};
use tandem_proto::signed::{DeviceCertificate, DeviceSet, SignedError};
use tandem_proto::wire::{SignalHello, Signed};

use super::types::EndReason;
use super::{Fault, VERSION_MAX, VERSION_MIN};
use crate::time::Now;

/// Accounts whose newest device set is remembered here; the driver's store remembers more.
const KNOWN_MAX: usize = 256;

/// What the directory said counts as new for this long, in milliseconds: with the check of a call that stands
/// (`timers::SET_CHECK_MS`) it stays well below the minute within which a revoked device must be out.
const FRESH_MS: u64 = 10_000;

/// The other end of a stream, proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) account: AccountKey,
    pub(super) device: DeviceKey,
}

/// What keeps a hello from being believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum HelloError {
    #[error(
        "it speaks versions {min} to {max} of the protocol, this one {VERSION_MIN} to {VERSION_MAX}; update the older one"
    )]
    Version { min: u32, max: u32 },
    #[error("its certificate: {0}")]
    Certificate(SignedError),
    #[error("its device set: {0}")]
    DeviceSet(SignedError),
    #[error("the device is not, or no longer, one of its account's devices")]
    Revoked,
    #[error("its device set is older than one that was seen of its account before")]
    OldSet,
    #[error("it belongs to another account than the one called")]
    OtherAccount,
}

impl From<HelloError> for Fault {
    fn from(error: HelloError) -> Self {
        let reason = match error {
            HelloError::Version { .. } => EndReason::Version,
            _ => EndReason::NotTrusted,
        };
        Self { reason, why: error.to_string() }
    }
}

/// The highest device set seen of each account.
#[derive(Debug, Default)]
pub(super) struct KnownSets {
    sets: BTreeMap<AccountKey, Known>,
    /// Of pinned accounts the highest epoch seen in runs before; what is lower is a roll-back.
    floors: BTreeMap<AccountKey, u64>,
    /// Accounts whose sets strangers cannot push out; sorted.
    pinned: Vec<AccountKey>,
    uses: u64,
}

#[derive(Debug)]
struct Known {
    set: DeviceSet,
    last_use: u64,
    /// When the directory last said so (monotonic milliseconds).
    looked_up_ms: Option<u64>,
}

impl KnownSets {
    /// Contacts: what is known of them stays, however many strangers come.
    pub(super) fn pin(&mut self, sorted: Vec<AccountKey>) {
        self.pinned = sorted;
        let pinned = &self.pinned;
        self.floors.retain(|account, _| pinned.binary_search(account).is_ok());
    }

    /// So high an epoch was seen of a pinned account before.
    pub(super) fn note_epoch(&mut self, account: AccountKey, epoch: u64) {
        if self.pinned.binary_search(&account).is_ok() {
            let floor = self.floors.entry(account).or_default();
            *floor = (*floor).max(epoch);
        }
    }

    fn is_rolled_back(&self, set: &DeviceSet) -> bool {
        self.floors.get(&set.account()).is_some_and(|floor| set.epoch() < *floor)
    }

    /// Whether this is a device of a pinned account.
    pub(super) fn is_pinned(&self, device: DeviceKey) -> bool {
        let pinned = self.sets.iter().filter(|(account, _)| self.pinned.binary_search(account).is_ok());
        pinned.into_iter().any(|(_, known)| known.set.contains(device))
    }

    /// Keeps a verified set if it is newer than the one known; says whether it was.
    pub(super) fn note(&mut self, set: &DeviceSet) -> bool {
        if self.is_rolled_back(set) {
            return false;
        }
        self.uses += 1;
        if let Some(known) = self.sets.get_mut(&set.account()) {
            known.last_use = self.uses;
            if !set.outranks(&known.set) {
                return false;
            }
            known.set = set.clone();
            return true;
        }
        if self.sets.len() >= KNOWN_MAX {
            let pinned = |account: &AccountKey| self.pinned.binary_search(account).is_ok();
            let oldest = self.sets.iter().min_by_key(|(account, known)| (pinned(account), known.last_use));
            if let Some(oldest) = oldest.map(|(account, _)| *account) {
                self.sets.remove(&oldest);
            }
        }
        self.sets.insert(set.account(), Known { set: set.clone(), last_use: self.uses, looked_up_ms: None });
        true
    }

    /// The directory has just been asked about this account.
    pub(super) fn looked_up(&mut self, account: AccountKey, now: Now) {
        if let Some(known) = self.sets.get_mut(&account) {
            known.looked_up_ms = Some(now.mono_ms);
        }
    }

    /// Was the directory asked a moment ago? Then what is known need not be looked up again yet.
    pub(super) fn is_fresh(&self, account: AccountKey, now: Now) -> bool {
        let at = self.sets.get(&account).and_then(|known| known.looked_up_ms);
        at.is_some_and(|at| now.mono_ms < at + FRESH_MS)
    }

    /// The highest set known of an account.
    pub(super) fn get(&self, account: AccountKey) -> Option<&DeviceSet> {
        self.sets.get(&account).map(|known| &known.set)
    }

    /// Whether a device proved earlier has been revoked since: its account's newest set does not name it. Another serial
    /// is a renewed certificate, which its next stream must show.
    pub(super) fn revokes(&self, peer: &Peer) -> bool {
        self.get(peer.account).is_some_and(|set| !set.contains(peer.device))
    }

    /// Verifies a hello shown by `device` (the key its connection proved). Returned with the certificate's label; a newer
    /// device set in it is kept and returned too, for the driver's store.
    pub(super) fn verify_hello(
        &mut self,
        hello: &SignalHello,
        device: DeviceKey,
        account: Option<AccountKey>,
        now: Now,
    ) -> Result<(Peer, String, Option<DeviceSet>), HelloError> {
        if hello.version_max < VERSION_MIN || hello.version_min > VERSION_MAX {
            return Err(HelloError::Version { min: hello.version_min, max: hello.version_max });
        }
        let missing = Signed::default();
        let signed = hello.certificate.as_ref().unwrap_or(&missing);
        let certificate =
            DeviceCertificate::verify(signed, device, now.unix_ms).map_err(HelloError::Certificate)?;
        if account.is_some_and(|account| account != certificate.account()) {
            return Err(HelloError::OtherAccount);
        }
        let signed = hello.device_set.as_ref().ok_or(HelloError::DeviceSet(SignedError::Missing))?;
        let shown =
            DeviceSet::verify(signed, certificate.account(), now.unix_ms).map_err(HelloError::DeviceSet)?;
        let newest = match self.get(certificate.account()) {
            Some(known) if !shown.outranks(known) => known,
            _ => &shown,
        };
        if self.is_rolled_back(newest) {
            return Err(HelloError::OldSet);
        }
        if !newest.admits(&certificate) {
            return Err(HelloError::Revoked);
        }
        let peer = Peer { account: certificate.account(), device };
        let newer = self.note(&shown).then_some(shown);
        Ok((peer, certificate.label().to_owned(), newer))
    }
}
