//! What the person does with the account's devices: list, add, rename, revoke; and what follows when their set changes.
//!
//! Each change first looks the own account up, so that it builds on the newest device set, and then goes its steps as the
//! phone tells of them. One at a time: what the person asks meanwhile waits its turn, so that a change which the device
//! makes by itself is in nobody's way.

mod dispute;
mod renewal;

use std::collections::VecDeque;

use tandem_api::{DeviceView, Devices, NodeEvent, Problem};
use tandem_proto::identity::{Address, DeviceLink, device_words};
use tandem_proto::ids::DeviceKey;
use tandem_proto::record::ReachRecord;
use tandem_proto::signed::{DEVICES_MAX, DeviceCertificate, DeviceSet, Home, TEXT_BYTES_MAX};
use tandem_proto::wire::{DeviceInvitation, Signed};

use dispute::Dispute;

use super::event_loop::{Node, announce};
use super::memory::{self, KnownDevice};
use super::phone::{Handed, NotInvited, OwnRecord};
use crate::handle::{NodeSide, Reply};
use crate::keys::{Papers, PapersError};
use crate::messages::Code;

/// A change is given up after this long, in milliseconds: longer than all its steps take.
const JOB_MS: u64 = 25_000;
/// Whether devices can be reached is found out within this, in milliseconds.
const PROBE_MS: u64 = 3_000;

/// So many wait for the one under way, at most; more are refused.
const WAITING_MAX: usize = 8;

/// What the person's side keeps of devices.
#[derive(Debug, Default)]
pub(super) struct DeviceDesk {
    job: Option<Job>,
    waiting: VecDeque<What>,
    /// The newest record of the own account: where the other devices are.
    record: Option<ReachRecord>,
    /// When papers are looked over next.
    renew_ms: u64,
    /// Whose were renewed last, or tried to: the others come before it again.
    renewed: Option<DeviceKey>,
    /// When what a newer set lacks is made again, if there is something.
    mend_ms: Option<u64>,
    dispute: Option<Dispute>,
}

#[derive(Debug)]
struct Job {
    what: What,
    until_ms: u64,
    step: Step,
}

#[derive(Debug)]
enum What {
    List {
        reply: Reply<Devices>,
    },
    Add {
        link: DeviceLink,
        label: String,
        reply: Reply<DeviceView>,
    },
    Rename {
        device: DeviceKey,
        label: String,
        reply: Option<Reply<DeviceView>>,
    },
    Revoke {
        who: String,
        reply: Reply<DeviceView>,
    },
    /// What another device's change, at the same moment, undid.
    Mend,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one job at a time")]
enum Step {
    /// The own account is being looked up.
    LookingUp,
    /// Who of these can be reached?
    Probing { open: Vec<DeviceKey>, reached: Vec<DeviceKey>, until_ms: u64 },
    /// Papers are on their way. They were signed on top of that set.
    Handing { papers: Papers, base: DeviceSet },
}

impl DeviceDesk {
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        match &self.job {
            Some(Job { step: Step::Probing { until_ms: probed_ms, .. }, until_ms, .. }) => {
                Some(*until_ms.min(probed_ms))
            }
            Some(job) => Some(job.until_ms),
            // At once.
            None if !self.waiting.is_empty() => Some(0),
            None => self.mend_ms,
        }
    }

    /// Something about this device's papers that the person ought to know.
    pub(super) fn problem(&self) -> Option<Problem> {
        self.dispute.as_ref().filter(|dispute| dispute.told).map(|_| Code::DevicePapers.problem())
    }
}

impl What {
    fn fail(self, problem: Problem) {
        // Nobody may be waiting any more.
        match self {
            Self::List { reply } => drop(reply.send(Err(problem))),
            Self::Add { reply, .. }
            | Self::Revoke { reply, .. }
            | Self::Rename { reply: Some(reply), .. } => {
                drop(reply.send(Err(problem)));
            }
            Self::Rename { reply: None, .. } => tracing::info!(%problem, "papers were not renewed"),
            Self::Mend => tracing::info!(%problem, "the device set was not put right yet"),
        }
    }
}

impl Node {
    // ---- what the person asks -------------------------------------------------------------------------------------

    pub(super) fn list_devices(&mut self, reply: Reply<Devices>) {
        self.begin_job(What::List { reply });
    }

    pub(super) fn add_device(&mut self, link: &str, label: &str, reply: Reply<DeviceView>) {
        match (link.parse::<DeviceLink>(), check_label(label, true)) {
            (Err(error), _) => {
                drop(reply.send(Err(Code::DeviceLinkWrong.with(&[("detail", &error.to_string())]))));
            }
            (_, Err(problem)) => drop(reply.send(Err(problem))),
            (Ok(link), Ok(label)) => self.begin_change(What::Add { link, label, reply }),
        }
    }

    pub(super) fn rename_device(&mut self, who: &str, label: &str, reply: Reply<DeviceView>) {
        match (self.find_device(who), check_label(label, false)) {
            (Ok(device), Ok(label)) => self.begin_change(What::Rename { device, label, reply: Some(reply) }),
            (Err(problem), _) | (_, Err(problem)) => drop(reply.send(Err(problem))),
        }
    }

    pub(super) fn revoke_device(&mut self, who: String, reply: Reply<DeviceView>) {
        self.begin_change(What::Revoke { who, reply });
    }

    fn begin_change(&mut self, what: What) {
        let keys = &self.installation.keys;
        if keys.entropy.is_none() {
            what.fail(Code::NoAccountKey.problem());
        } else if keys.restoring {
            what.fail(Code::Restoring.problem());
        } else {
            self.begin_job(what);
        }
    }

    fn begin_job(&mut self, what: What) {
        if self.person.is_revoked() {
            return what.fail(Code::DeviceRevoked.problem());
        }
        if self.devices.job.is_some() {
            if self.devices.waiting.len() == WAITING_MAX {
                return what.fail(Code::DevicesBusy.problem());
            }
            return self.devices.waiting.push_back(what);
        }
        let until_ms = self.clock.now().mono_ms + JOB_MS;
        self.devices.job = Some(Job { what, until_ms, step: Step::LookingUp });
        self.with_person(|phone, around| phone.look_up_own(around));
    }

    // ---- what the phone tells -------------------------------------------------------------------------------------

    /// The look-up of the own account has ended.
    pub(super) fn take_own_record(&mut self, outcome: OwnRecord, side: &NodeSide) {
        if let OwnRecord::Found(record) = &outcome {
            self.devices.record = Some(record.clone());
        }
        if self.installation.keys.restoring {
            self.finish_restoring(&outcome, side);
        }
        if !self.devices.job.as_ref().is_some_and(|job| matches!(job.step, Step::LookingUp)) {
            return;
        }
        let Some(job) = self.devices.job.take() else { return };
        match job.what {
            What::List { reply } => self.begin_probing(reply, &outcome, job.until_ms),
            what if self.too_little_known(&what, &outcome) => what.fail(Code::NoSupernode.problem()),
            What::Add { link, label, reply } => self.hand_over(
                (link.device, link.homes.clone()),
                &label.clone(),
                |papers, own| Some(link.proof(own, papers.certificate.signed(), papers.device_set.signed())),
                What::Add { link: link.clone(), label, reply },
            ),
            What::Rename { device, label, reply } => self.rename(device, label, reply, side),
            What::Revoke { who, reply } => {
                let result = self.revoke(&who, side);
                drop(reply.send(result));
            }
            What::Mend => self.mend(side),
        }
    }

    fn begin_probing(&mut self, reply: Reply<Devices>, outcome: &OwnRecord, until_ms: u64) {
        let now_ms = self.clock.now().mono_ms;
        let own = self.person.device();
        let OwnRecord::Found(record) = outcome else {
            let asked = !matches!(outcome, OwnRecord::Unreachable);
            return drop(reply.send(Ok(self.devices_view(asked.then_some(&[][..])))));
        };
        let others: Vec<(DeviceKey, Vec<Home>)> = record
            .homes()
            .iter()
            .filter(|entry| entry.device() != own && !entry.homes().is_empty())
            .map(|entry| (entry.device(), entry.homes().to_vec()))
            .collect();
        let open: Vec<DeviceKey> = others.iter().map(|(device, _)| *device).collect();
        let step = Step::Probing { open, reached: Vec::new(), until_ms: now_ms + PROBE_MS };
        self.devices.job = Some(Job { what: What::List { reply }, until_ms, step });
        for (device, homes) in others {
            self.with_person(|phone, around| phone.probe(device, &homes, around));
        }
        self.drive_devices();
    }

    pub(super) fn take_probed(&mut self, device: DeviceKey, reachable: bool) {
        let Some(Job { step: Step::Probing { open, reached, .. }, .. }) = &mut self.devices.job else {
            return;
        };
        let before = open.len();
        open.retain(|other| *other != device);
        if reachable && open.len() < before {
            reached.push(device);
        }
        self.drive_devices();
    }

    /// The other device took its papers, or why not.
    pub(super) fn take_invited(&mut self, result: Result<(), NotInvited>, side: &NodeSide) {
        let Some(Job { what, step: Step::Handing { papers, base }, .. }) =
            self.devices.job.take_if(|job| matches!(job.step, Step::Handing { .. }))
        else {
            return;
        };
        match result {
            Ok(()) => {}
            Err(NotInvited::Unreached(detail)) => {
                return what.fail(Code::DeviceUnreached.with(&[("detail", &detail)]));
            }
            Err(NotInvited::Refused(detail)) => {
                return what.fail(Code::DeviceRefused.with(&[("detail", &detail)]));
            }
        }
        let (by_link, device) = match &what {
            What::Add { link, .. } => (true, link.device),
            What::Rename { device, .. } => (false, *device),
            _ => return,
        };
        self.remember_certificate(&papers.certificate, by_link.then_some(true));
        let device_set = match self.with_newer(&papers, &base) {
            Ok(device_set) => device_set,
            Err(error) => return what.fail(error.problem()),
        };
        let certificate = self.installation.keys.certificate.clone();
        if let Err(problem) = self.apply(Papers { certificate, device_set }, &[], side) {
            return what.fail(problem);
        }
        let view = self.view_of(device, None);
        match what {
            What::Add { reply, .. } | What::Rename { reply: Some(reply), .. } => drop(reply.send(Ok(view))),
            _ => {}
        }
    }

    /// A newer set that names this device: another device of the account made it.
    pub(super) fn take_own_set(&mut self, set: DeviceSet, side: &NodeSide) {
        if self.is_overtaken(&set) {
            return;
        }
        self.compare(&set, side);
        let papers = Papers { certificate: self.installation.keys.certificate.clone(), device_set: set };
        self.keep_papers(papers);
        announce(side, NodeEvent::Devices { epoch: self.installation.keys.device_set.epoch() });
    }

    /// Another device renewed this one's papers; the phone shows them already.
    pub(super) fn take_renewed(&mut self, handed: Handed, side: &NodeSide) {
        if self.is_overtaken(&handed.papers.device_set) {
            return;
        }
        for other in &handed.others {
            self.remember_certificate(other, None);
        }
        self.compare(&handed.papers.device_set, side);
        self.keep_papers(handed.papers);
        announce(side, NodeEvent::Devices { epoch: self.installation.keys.device_set.epoch() });
    }

    /// The account no longer has this device.
    pub(super) fn take_revocation(&mut self, set: DeviceSet, side: &NodeSide) {
        let epoch = set.epoch();
        tracing::warn!(epoch, "this device was revoked by its account");
        if let Err(error) = self.installation.keys.take_revocation(&self.installation.data, set) {
            tracing::warn!(%error, "the revocation could not be kept");
        }
        self.with_person(|phone, around| phone.become_revoked(around));
        let under_way = self.devices.job.take().map(|job| job.what);
        for what in under_way.into_iter().chain(std::mem::take(&mut self.devices.waiting)) {
            what.fail(Code::DeviceRevoked.problem());
        }
        (self.devices.mend_ms, self.devices.dispute) = (None, None);
        announce(side, NodeEvent::Devices { epoch });
        announce(side, NodeEvent::Notice { problem: Code::DeviceRevoked.problem() });
    }

    // ---- time -----------------------------------------------------------------------------------------------------

    pub(super) fn drive_devices(&mut self) {
        let now_ms = self.clock.now().mono_ms;
        let over = |job: &mut Job| match &job.step {
            Step::Probing { open, until_ms, .. } => open.is_empty() || now_ms >= *until_ms,
            _ => now_ms >= job.until_ms,
        };
        match self.devices.job.take_if(over) {
            Some(Job { what: What::List { reply }, step: Step::Probing { reached, .. }, .. }) => {
                drop(reply.send(Ok(self.devices_view(Some(&reached)))));
            }
            Some(job) => {
                let detail = [("detail", "it did not answer in time")];
                job.what.fail(Code::DeviceUnreached.with(&detail));
            }
            None => {}
        }
        if self.devices.job.is_none()
            && let Some(what) = self.devices.waiting.pop_front()
        {
            self.begin_job(what);
        }
    }

    // ---- changes --------------------------------------------------------------------------------------------------

    /// Signs papers for another device and hands them over. They count once it has taken them.
    fn hand_over(
        &mut self,
        (device, homes): (DeviceKey, Vec<Home>),
        label: &str,
        proof: impl FnOnce(&Papers, DeviceKey) -> Option<[u8; 32]>,
        what: What,
    ) {
        let now = self.clock.now();
        let keys = &self.installation.keys;
        let base = self.newest_set().clone();
        let papers = match keys.sign_device(&base, device, label, now.unix_ms) {
            Ok(papers) => papers,
            Err(error) => return what.fail(error.problem()),
        };
        let proof = proof(&papers, keys.device.public()).map(Vec::from).unwrap_or_default();
        let invitation = DeviceInvitation {
            certificate: Some(papers.certificate.signed().clone()),
            device_set: Some(papers.device_set.signed().clone()),
            proof,
            others: self.other_certificates(device),
        };
        let step = Step::Handing { papers, base };
        self.devices.job = Some(Job { what, until_ms: now.mono_ms + JOB_MS, step });
        self.with_person(|phone, around| phone.invite(device, &homes, invitation, around));
    }

    fn rename(
        &mut self,
        device: DeviceKey,
        label: String,
        reply: Option<Reply<DeviceView>>,
        side: &NodeSide,
    ) {
        if device != self.person.device() {
            let homes = self.homes_of(device);
            let what = What::Rename { device, label: label.clone(), reply };
            return self.hand_over((device, homes), &label, |_, _| None, what);
        }
        let unix_ms = self.clock.now().unix_ms;
        let keys = &self.installation.keys;
        let signed = keys.sign_device(self.newest_set(), device, &label, unix_ms);
        let result = signed
            .map_err(|error: PapersError| error.problem())
            .and_then(|papers| self.apply(papers, &[], side))
            .map(|()| self.view_of(device, Some(true)));
        if let Some(reply) = reply {
            drop(reply.send(result));
        }
    }

    fn revoke(&mut self, who: &str, side: &NodeSide) -> Result<DeviceView, Problem> {
        let device = self.find_device(who)?;
        if device == self.person.device() {
            return Err(Code::DeviceThis.problem());
        }
        let view = self.view_of(device, None);
        let unix_ms = self.clock.now().unix_ms;
        let keys = &self.installation.keys;
        let base = self.newest_set();
        let set = keys.sign_without(base, device, unix_ms).map_err(|error| error.problem())?;
        let papers = Papers { certificate: keys.certificate.clone(), device_set: set };
        let homes = self.homes_of(device);
        self.apply(papers, &homes, side)?;
        memory::forget_device(&self.installation.store, device);
        memory::remember_revoked(&self.installation.store, device);
        Ok(view)
    }

    /// New papers of this device, made here: kept, shown, published, and told to the homes of all devices, and to `more`.
    fn apply(&mut self, papers: Papers, more: &[Home], side: &NodeSide) -> Result<(), Problem> {
        let data = self.installation.data.clone();
        self.installation.keys.take_papers(&data, papers.clone()).map_err(|error| error.problem())?;
        self.settle_dispute();
        self.remember_certificate(&papers.certificate, None);
        let others =
            self.devices.record.iter().flat_map(|record| record.homes()).flat_map(|entry| entry.homes());
        let homes: Vec<Home> = more.iter().chain(others).cloned().collect();
        self.with_person(|phone, around| {
            phone.set_papers(&papers, around);
            let own = phone.own_homes(around);
            phone.spread(&[homes, own].concat(), around);
        });
        announce(side, NodeEvent::Devices { epoch: papers.device_set.epoch() });
        Ok(())
    }

    fn keep_papers(&mut self, papers: Papers) {
        let data = self.installation.data.clone();
        self.remember_certificate(&papers.certificate, None);
        if let Err(error) = self.installation.keys.take_papers(&data, papers) {
            tracing::warn!(%error, "newer papers could not be kept on the disk");
        }
        self.settle_dispute();
    }

    /// The directory has said which other devices the account has, or that it knows of none: this one joins them. One
    /// whose papers lapsed was among them, unless it was revoked meanwhile.
    fn finish_restoring(&mut self, outcome: &OwnRecord, side: &NodeSide) {
        let unix_ms = self.clock.now().unix_ms;
        let keys = &self.installation.keys;
        let base = match outcome {
            OwnRecord::Found(record) => record.device_set().clone(),
            OwnRecord::NotFound => keys.device_set.clone(),
            OwnRecord::Unreachable => return,
        };
        if keys.lapsed && !base.contains(keys.device.public()) {
            return self.take_revocation(base, side);
        }
        let label = keys.certificate.label().to_owned();
        let signed = keys.sign_device(&base, keys.device.public(), &label, unix_ms);
        let applied = signed
            .map_err(|error: PapersError| error.problem())
            .and_then(|papers| self.apply(papers, &[], side));
        match applied {
            Ok(()) => self.with_person(|phone, around| phone.set_quiet(false, around)),
            Err(problem) => announce(side, NodeEvent::Notice { problem }),
        }
    }

    // ---- views ----------------------------------------------------------------------------------------------------

    /// `reached`: those that could be reached; `None` where nobody was asked.
    fn devices_view(&self, reached: Option<&[DeviceKey]>) -> Devices {
        let keys = &self.installation.keys;
        let mut devices: Vec<DeviceView> = keys
            .device_set
            .devices()
            .iter()
            .map(|entry| self.view_of(entry.device, reached.map(|reached| reached.contains(&entry.device))))
            .collect();
        devices.sort_by_key(|view| (!view.this, view.added_unix_ms));
        Devices {
            address: Address(keys.account()).to_string(),
            epoch: keys.device_set.epoch(),
            can_change: keys.entropy.is_some(),
            devices,
        }
    }

    fn view_of(&self, device: DeviceKey, reachable: Option<bool>) -> DeviceView {
        let keys = &self.installation.keys;
        let this = device == keys.device.public();
        let known = self.known_devices().into_iter().find(|known| known.certificate.device() == device);
        let serial = keys.device_set.devices().iter().find(|entry| entry.device == device);
        let certificate = if this { Some(&keys.certificate) } else { known.as_ref().map(|k| &k.certificate) };
        DeviceView {
            key: device.to_string(),
            label: certificate.map(|certificate| certificate.label().to_owned()).unwrap_or_default(),
            this,
            added_unix_ms: known
                .as_ref()
                .map(|known| known.added_unix_ms)
                .or(serial.map(|entry| entry.serial))
                .unwrap_or_default(),
            reachable: if this { Some(self.person.is_reachable()) } else { reachable },
            holds_account_key: if this {
                Some(keys.entropy.is_some())
            } else {
                known.as_ref().filter(|known| known.by_link).map(|_| false)
            },
            certificate_not_after_unix_ms: certificate.map(|certificate| certificate.not_after_s() * 1000),
            words: device_words(device),
        }
    }

    /// By label, or by the beginning of the key, where only one fits.
    fn find_device(&self, who: &str) -> Result<DeviceKey, Problem> {
        let unknown = || Code::NoSuchDevice.with(&[("who", who)]);
        let views = self.devices_view(None).devices;
        let label = |view: &&DeviceView| !who.is_empty() && view.label.eq_ignore_ascii_case(who);
        let key = |view: &&DeviceView| who.len() >= 6 && view.key.starts_with(who);
        let fits = |wanted: &dyn Fn(&&DeviceView) -> bool| -> Vec<DeviceKey> {
            views.iter().filter(wanted).filter_map(|view| view.key.parse().ok()).collect()
        };
        let mut found = fits(&label);
        found.extend(fits(&key));
        found.dedup();
        // The beginning of every key is the same few characters, so a short text may fit several.
        if let [device] = found[..] { Ok(device) } else { Err(unknown()) }
    }

    fn homes_of(&self, device: DeviceKey) -> Vec<Home> {
        let entry = self.devices.record.as_ref().and_then(|record| record.homes_of(device));
        entry.map(|entry| entry.homes().to_vec()).unwrap_or_default()
    }

    fn known_devices(&self) -> Vec<KnownDevice> {
        let keys = &self.installation.keys;
        memory::known_devices(&self.installation.store, keys.account(), self.clock.now().unix_ms)
    }

    /// For the labels at the other device.
    fn other_certificates(&self, device: DeviceKey) -> Vec<Signed> {
        let known = self.known_devices().into_iter().map(|known| known.certificate);
        let others = known.filter(|certificate| certificate.device() != device);
        others.map(|certificate| certificate.signed().clone()).take(DEVICES_MAX - 1).collect()
    }

    fn remember_certificate(&self, certificate: &DeviceCertificate, by_link: Option<bool>) {
        let unix_ms = self.clock.now().unix_ms;
        memory::remember_device(&self.installation.store, certificate, by_link, unix_ms);
    }
}

/// A label that can stand in a certificate and on a terminal.
fn check_label(label: &str, may_be_empty: bool) -> Result<String, Problem> {
    let label = label.trim();
    let wrong = |detail: &str| Err(Code::DeviceLabel.with(&[("label", label), ("detail", detail)]));
    if label.len() > TEXT_BYTES_MAX {
        return wrong("it is longer than 64 bytes");
    }
    if label.chars().any(char::is_control) {
        return wrong("it has characters that cannot be shown");
    }
    if label.is_empty() && !may_be_empty {
        return wrong("it is empty");
    }
    Ok(label.to_owned())
}
