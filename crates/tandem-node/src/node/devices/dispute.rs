//! Two devices change the set at the same moment: neither knew of the other's change, and the higher epoch counts. What
//! the later one undid is made again here, or the person is told (spec/identity.md, "Changes at the same moment").

use tandem_api::NodeEvent;
use tandem_proto::ids::DeviceKey;
use tandem_proto::signed::{DeviceCertificate, DeviceEntry, DeviceSet};

use super::{Node, What, announce, memory};
use crate::handle::NodeSide;
use crate::keys::{Papers, PapersError};
use crate::messages::Code;

/// What another device's change undid is made again after this long if it did not succeed, in milliseconds.
const MEND_AGAIN_MS: u64 = 10_000;
/// A set that names this device by another certificate is put right by another device within this, or the person hears
/// of it. In milliseconds.
const DISPUTE_MS: u64 = 60_000;

/// The account's newest set names this device by another certificate than it has.
#[derive(Debug)]
pub(super) struct Dispute {
    pub(super) set: DeviceSet,
    since_ms: u64,
    pub(super) told: bool,
}

impl Node {
    /// A newer set that names this device by another certificate: its maker did not know of a renewal, or this data folder
    /// is an old copy. It is not revoked by that.
    pub(in crate::node) fn take_other_papers(&mut self, set: DeviceSet, side: &NodeSide) {
        if self.is_overtaken(&set) {
            return;
        }
        let now_ms = self.clock.now().mono_ms;
        let holder = self.installation.keys.entropy.is_some();
        let before = self.devices.dispute.take();
        let (since_ms, told) =
            before.as_ref().map_or((now_ms, false), |before| (before.since_ms, before.told));
        let tell = !told && !holder && now_ms >= since_ms + DISPUTE_MS;
        if tell {
            announce(side, NodeEvent::Notice { problem: Code::DevicePapers.problem() });
        }
        if before.is_none_or(|before| set.outranks(&before.set)) {
            self.compare(&set, side);
        }
        self.devices.dispute = Some(Dispute { set, since_ms, told: told || tell });
        if holder {
            self.devices.mend_ms = Some(now_ms);
        }
    }

    /// A change was made here while the news of `set` was on its way through this node, and ranks above it: whoever made
    /// `set` hears of that, and puts right what it lacks.
    pub(super) fn is_overtaken(&self, set: &DeviceSet) -> bool {
        !set.outranks(&self.installation.keys.device_set)
    }

    /// What does another device's set leave out that was here? Revocations and renewals are made again; whose device is gone
    /// is told.
    pub(super) fn compare(&mut self, set: &DeviceSet, side: &NodeSide) {
        let keys = &self.installation.keys;
        for entry in keys.device_set.devices().iter().filter(|entry| !set.contains(entry.device)) {
            let label = self.view_of(entry.device, None).label;
            let device = if label.is_empty() { entry.device.to_string() } else { format!("\"{label}\"") };
            let problem = Code::DeviceGone.with(&[("device", &device)]);
            announce(side, NodeEvent::Notice { problem });
        }
        if keys.entropy.is_some() && self.entries_lost_in(set).is_some() {
            self.devices.mend_ms = Some(self.clock.now().mono_ms);
        }
    }

    /// Makes again what another device's change undid, and tells the person of papers that nobody puts right.
    pub(in crate::node) fn mend_set(&mut self) {
        let now_ms = self.clock.now().mono_ms;
        if self.devices.mend_ms.is_some_and(|at_ms| at_ms <= now_ms) && self.devices.job.is_none() {
            self.devices.mend_ms = Some(now_ms + MEND_AGAIN_MS);
            self.begin_change(What::Mend);
        }
    }

    /// The newest set of the account that is known here, whether this device's certificate fits it or not.
    pub(super) fn newest_set(&self) -> &DeviceSet {
        let own = &self.installation.keys.device_set;
        let other = self.devices.dispute.as_ref().map(|dispute| &dispute.set);
        other.filter(|set| set.outranks(own)).unwrap_or(own)
    }

    /// What `set` ought to name, if it lacks something that was done here: a device that was revoked is out for good, and
    /// of two certificates the later one counts. Two certificates of the same moment have one serial, which a set names
    /// once: then the other one keeps it, and this device's is made anew ([`Self::mend`]).
    fn entries_lost_in(&self, set: &DeviceSet) -> Option<Vec<DeviceEntry>> {
        let revoked = memory::revoked_devices(&self.installation.store);
        let known = self.known_devices();
        let issued = |device: DeviceKey| {
            let known =
                known.iter().map(|known| &known.certificate).chain([&self.installation.keys.certificate]);
            known.filter(|certificate| certificate.device() == device).map(DeviceCertificate::serial).max()
        };
        let free = |serial: &u64| set.devices().iter().all(|entry| entry.serial != *serial);
        let wanted: Vec<DeviceEntry> = set
            .devices()
            .iter()
            .filter(|entry| !revoked.contains(&entry.device))
            .map(|entry| DeviceEntry {
                serial: entry.serial.max(issued(entry.device).filter(free).unwrap_or(0)),
                ..*entry
            })
            .collect();
        (wanted != set.devices()).then_some(wanted)
    }

    pub(super) fn mend(&mut self, side: &NodeSide) {
        self.devices.mend_ms = None;
        let unix_ms = self.clock.now().unix_ms;
        let keys = &self.installation.keys;
        let newest = self.newest_set();
        let wanted = self.entries_lost_in(newest);
        if wanted.is_none() && newest.admits(&keys.certificate) {
            return;
        }
        let wanted = wanted.unwrap_or_else(|| newest.devices().to_vec());
        let signed = keys.sign_set(newest, &wanted, unix_ms).and_then(|device_set| {
            if device_set.admits(&keys.certificate) {
                return Ok(Papers { certificate: keys.certificate.clone(), device_set });
            }
            keys.sign_device(&device_set, keys.device.public(), keys.certificate.label(), unix_ms)
        });
        let result = signed
            .map_err(|error: PapersError| error.problem())
            .and_then(|papers| self.apply(papers, &[], side));
        match result {
            Ok(()) => tracing::info!("another device's set lacked a change made here; it was made again"),
            Err(problem) => announce(side, NodeEvent::Notice { problem }),
        }
    }

    /// The set of papers that were handed over, on top of what became known meanwhile.
    pub(super) fn with_newer(&self, papers: &Papers, base: &DeviceSet) -> Result<DeviceSet, PapersError> {
        let newest = self.newest_set();
        if newest == base {
            return Ok(papers.device_set.clone());
        }
        let new = &papers.certificate;
        let mut devices: Vec<DeviceEntry> =
            newest.devices().iter().copied().filter(|entry| entry.device != new.device()).collect();
        devices.push(DeviceEntry { device: new.device(), serial: new.serial() });
        let at_least_ms = self.clock.now().unix_ms.max(papers.device_set.epoch().saturating_add(1));
        self.installation.keys.sign_set(newest, &devices, at_least_ms)
    }

    pub(super) fn settle_dispute(&mut self) {
        let own = &self.installation.keys.device_set;
        self.devices.dispute.take_if(|dispute| !dispute.set.outranks(own));
    }
}
