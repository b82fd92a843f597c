//! The account's devices, as this one of them sees it: what is newest, whom to tell, and the streams on which papers are
//! handed over (spec/identity.md, "Several devices").

use std::collections::BTreeMap;

use tandem_core::call::SignalId as CallSignal;
use tandem_core::dialing::Purpose;
use tandem_core::time::Now;
use tandem_proto::identity::DeviceLink;
use tandem_proto::ids::{DeviceKey, ServiceKey};
use tandem_proto::record::ReachRecord;
use tandem_proto::signed::{DEVICES_MAX, DeviceCertificate, DeviceSet, Home};
use tandem_proto::wire::signal_frame::Body;
use tandem_proto::wire::{DeviceAccepted, DeviceInvitation, SignalFrame, Signed};

use super::calls::RACE_AFTER_MS;
use super::circuits::Stream;
use super::{Phone, PhoneId, PhoneNews, Surroundings};
use crate::keys::Papers;
use crate::overlay::{DeviceCommand, DeviceEvent, SignalId, SupernodeAddress};

/// The own account is looked up this often: a device that nobody told hears of a change then.
const OWN_CHECK_MS: u64 = 5 * 60_000;
/// And this soon again while nobody answers.
const OWN_RETRY_MS: u64 = 10_000;
/// A notice that did not arrive is sent again after this long …
const NOTICE_RETRY_MS: u64 = 4_000;
/// … at most this often.
const NOTICE_ATTEMPTS: u8 = 6;
/// Homes told of one change: eight devices, three homes each.
const NOTICES_MAX: usize = 24;
/// Handing papers over takes no longer than this.
const INVITE_MS: u64 = 15_000;
/// Streams remembered while this device waits to be added.
const WAITING_STREAMS_MAX: usize = 16;
/// Longest reason of a refusal.
const WHY_BYTES_MAX: usize = 200;

/// What came of looking up the own account.
#[derive(Debug, Clone)]
pub(crate) enum OwnRecord {
    Found(ReachRecord),
    /// The directory knows nothing of the account.
    NotFound,
    /// Nobody could be asked.
    Unreachable,
}

/// Papers that another device of the account handed over.
#[derive(Debug, Clone)]
pub(crate) struct Handed {
    pub(crate) papers: Papers,
    /// Certificates of the other devices, for their labels.
    pub(crate) others: Vec<DeviceCertificate>,
}

/// Why another device did not take papers.
#[derive(Debug, Clone)]
pub(crate) enum NotInvited {
    Unreached(String),
    Refused(String),
}

impl NotInvited {
    /// What libraries say of it is for the log.
    fn unreached(reason: &str) -> Self {
        tracing::debug!(reason, "a device of the account could not be reached");
        Self::Unreached("it is at none of the supernodes where it was".to_owned())
    }
}

/// What this device knows and does about the others.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// Publishes nothing: the account is being restored, or this device waits to be added.
    pub(super) quiet: bool,
    /// The account is a throw-away one: it is not even looked up.
    joining: bool,
    pub(super) revoked: bool,
    /// When the own account is looked up next.
    check_ms: Option<u64>,
    pub(super) looking_up: bool,
    notices: Vec<Notice>,
    invite: Option<Invite>,
    probing: BTreeMap<u64, DeviceKey>,
    waiting: Option<Waiting>,
}

/// A home that is to hear of a newer device set.
#[derive(Debug)]
struct Notice {
    at: SupernodeAddress,
    signed: Signed,
    attempts: u8,
    next_ms: u64,
    errand: Option<u64>,
}

/// Papers on their way to another device.
#[derive(Debug)]
struct Invite {
    request: u64,
    signal: Option<SignalId>,
    invitation: DeviceInvitation,
    until_ms: u64,
}

/// This device waits to be added by link.
#[derive(Debug)]
struct Waiting {
    link: DeviceLink,
    /// Who opened which stream; the overlay has proved their keys.
    streams: Vec<(SignalId, DeviceKey)>,
}

impl Own {
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let notices =
            self.notices.iter().filter(|notice| notice.errand.is_none()).map(|notice| notice.next_ms);
        let invite = self.invite.as_ref().map(|invite| invite.until_ms);
        notices.chain(invite).chain(self.check_ms).min()
    }
}

impl Phone {
    // ---- what the node wants --------------------------------------------------------------------------------------

    /// Publishes nothing from now on, or publishes again.
    pub(crate) fn set_quiet(&mut self, quiet: bool, around: &mut Surroundings<'_>) {
        self.own.quiet = quiet;
        if !quiet {
            self.homes.handle_record_changed(around.now);
        }
        self.drive(around);
    }

    /// For a device that waits to be added: its account is nobody's.
    pub(crate) fn set_joining(&mut self) {
        (self.own.quiet, self.own.joining) = (true, true);
    }

    pub(crate) fn is_revoked(&self) -> bool {
        self.own.revoked
    }

    /// Looks the own account up now; [`PhoneNews::OwnRecord`] follows.
    pub(crate) fn look_up_own(&mut self, around: &mut Surroundings<'_>) {
        self.begin_own_look_up(around);
        self.drive(around);
    }

    /// Shows newer papers from now on, and publishes the new set.
    pub(crate) fn set_papers(&mut self, papers: &Papers, around: &mut Surroundings<'_>) {
        self.identity.certificate = papers.certificate.signed().clone();
        self.identity.serial = papers.certificate.serial();
        self.identity.device_set = papers.device_set.clone();
        self.calls.set_identity(self.identity.certificate.clone(), papers.device_set.signed().clone());
        self.homes.handle_record_changed(around.now);
        self.drive(around);
    }

    /// Tells these homes of the newest device set; a home that does not answer is told again.
    pub(crate) fn spread(&mut self, homes: &[Home], around: &mut Surroundings<'_>) {
        let signed = self.identity.device_set.signed().clone();
        let mut notices: BTreeMap<ServiceKey, Notice> = BTreeMap::new();
        for home in homes {
            let at = SupernodeAddress { service: home.service, addresses: home.addresses.clone() };
            let notice =
                Notice { at, signed: signed.clone(), attempts: 0, next_ms: around.now.mono_ms, errand: None };
            notices.insert(home.service, notice);
        }
        // What was still on its way is older.
        self.own.notices = notices.into_values().take(NOTICES_MAX).collect();
        self.drive_own(around);
        self.drive(around);
    }

    /// Hands papers to another device; [`PhoneNews::Invited`] follows.
    pub(crate) fn invite(
        &mut self,
        device: DeviceKey,
        homes: &[Home],
        invitation: DeviceInvitation,
        around: &mut Surroundings<'_>,
    ) {
        let request = self.open_own(device, homes, around.now);
        let until_ms = around.now.mono_ms + INVITE_MS;
        self.own.invite = Some(Invite { request, signal: None, invitation, until_ms });
        self.drive(around);
    }

    /// Finds out whether a device can be reached now; [`PhoneNews::Probed`] follows.
    pub(crate) fn probe(&mut self, device: DeviceKey, homes: &[Home], around: &mut Surroundings<'_>) {
        if self.own.probing.len() < DEVICES_MAX {
            let request = self.open_own(device, homes, around.now);
            self.own.probing.insert(request, device);
        }
        self.drive(around);
    }

    /// Waits for whoever has seen this link; [`PhoneNews::Joined`] follows.
    pub(crate) fn wait_for_invitation(&mut self, link: DeviceLink) {
        self.own.waiting = Some(Waiting { link, streams: Vec::new() });
    }

    /// Where this device can be reached now.
    pub(crate) fn own_homes(&self, around: &Surroundings<'_>) -> Vec<Home> {
        let known = self.homes.reserved().filter_map(|peer| around.peers.get(peer));
        known.map(|peer| Home { service: peer.service, addresses: peer.addresses.clone() }).collect()
    }

    /// Ends everything: the account no longer has this device.
    pub(crate) fn become_revoked(&mut self, around: &mut Surroundings<'_>) {
        if std::mem::replace(&mut self.own.revoked, true) {
            return;
        }
        if let Some(status) = self.calls.status() {
            self.calls.hang_up(status.call, around.now);
        }
        self.own.check_ms = None;
        self.own.notices.clear();
        self.homes.stop();
        self.drive(around);
    }

    // ---- what is learnt -------------------------------------------------------------------------------------------

    /// A home is reserved: if it is the first, the own account is looked up.
    pub(super) fn own_home_gained(&mut self, now: Now) {
        if self.id == PhoneId::Person && !self.own.joining && self.own.check_ms.is_none() {
            self.own.check_ms = Some(now.mono_ms);
        }
    }

    /// A set of the own account, from a home or a look-up. A newer one counts.
    pub(super) fn take_own_set(&mut self, signed: &Signed, around: &mut Surroundings<'_>) {
        let account = self.identity.account;
        let Ok(set) = DeviceSet::verify(signed, account, around.now.unix_ms) else { return };
        if !set.outranks(&self.identity.device_set) || self.own.revoked || self.own.quiet {
            return;
        }
        let device = self.identity.device.public();
        let own = set.devices().iter().find(|entry| entry.device == device);
        match own.map(|entry| entry.serial == self.identity.serial) {
            Some(true) => {
                self.identity.device_set = set.clone();
                self.calls.set_identity(self.identity.certificate.clone(), set.signed().clone());
                self.homes.handle_record_changed(around.now);
                self.news.push_back(PhoneNews::OwnSet(set));
            }
            Some(false) => self.news.push_back(PhoneNews::OtherPapers(set)),
            None => self.news.push_back(PhoneNews::Revoked(set)),
        }
    }

    /// The look-up of the own account has ended.
    pub(super) fn own_looked_up(&mut self, outcome: OwnRecord, around: &mut Surroundings<'_>) {
        self.own.looking_up = false;
        let unanswered = matches!(outcome, OwnRecord::Unreachable);
        let next_ms = if unanswered { OWN_RETRY_MS } else { OWN_CHECK_MS };
        if self.id == PhoneId::Person && !self.own.revoked {
            self.own.check_ms = Some(around.now.mono_ms + next_ms);
        }
        if let OwnRecord::Found(record) = &outcome {
            self.take_own_set(record.device_set().signed(), around);
        }
        self.news.push_back(PhoneNews::OwnRecord(outcome));
    }

    // ---- time -----------------------------------------------------------------------------------------------------

    pub(super) fn drive_own(&mut self, around: &mut Surroundings<'_>) {
        let now = around.now;
        if self.own.check_ms.is_some_and(|at| at <= now.mono_ms) {
            self.own.check_ms = Some(now.mono_ms + OWN_RETRY_MS);
            self.begin_own_look_up(around);
        }
        if self.own.invite.as_ref().is_some_and(|invite| invite.until_ms <= now.mono_ms) {
            self.end_invite(Err(NotInvited::Unreached("it did not answer in time".to_owned())), now);
        }
        for index in 0..self.own.notices.len() {
            let errand = self.next_number;
            let notice = &mut self.own.notices[index];
            if notice.errand.is_none() && notice.next_ms <= now.mono_ms {
                notice.errand = Some(errand);
                notice.attempts += 1;
                self.next_number += 1;
                let (at, signed) = (notice.at.clone(), notice.signed.clone());
                self.links.notify(errand, &at, signed, now);
            }
        }
    }

    /// A home took the notice, or did not. False: that errand was another's.
    pub(super) fn notice_ended(&mut self, errand: u64, taken: bool, now: Now) -> bool {
        let Some(at) = self.own.notices.iter().position(|notice| notice.errand == Some(errand)) else {
            return false;
        };
        let notice = &mut self.own.notices[at];
        if taken || notice.attempts >= NOTICE_ATTEMPTS {
            if !taken {
                tracing::info!(home = %notice.at.service, "a home could not be told of the new device set");
            }
            self.own.notices.swap_remove(at);
        } else {
            (notice.errand, notice.next_ms) = (None, now.mono_ms + NOTICE_RETRY_MS);
        }
        true
    }

    // ---- streams --------------------------------------------------------------------------------------------------

    /// Takes what belongs to a stream of this file; gives back what does not.
    pub(super) fn handle_own_signalling(
        &mut self,
        event: DeviceEvent,
        around: &mut Surroundings<'_>,
    ) -> Option<DeviceEvent> {
        let now = around.now;
        match event {
            DeviceEvent::SignalOpened { request, signal, .. } if self.own.probing.contains_key(&request) => {
                self.send_overlay(DeviceCommand::CloseSignal(signal), now);
                self.probed(request, true);
            }
            DeviceEvent::SignalOpened { request, signal, .. } if self.invites(request) => {
                self.send_invitation(signal, now);
            }
            DeviceEvent::SignalFrame { signal, frame } if self.invites_on(signal) => match frame.body {
                Some(Body::DeviceAccepted(answer)) => {
                    let why: String =
                        answer.why.chars().filter(|c| !c.is_control()).take(WHY_BYTES_MAX).collect();
                    let result = if answer.accepted { Ok(()) } else { Err(NotInvited::Refused(why)) };
                    self.end_invite(result, now);
                }
                Some(Body::HangUp(_)) => {
                    let why = "it does not know this account, or is too old".to_owned();
                    self.end_invite(Err(NotInvited::Refused(why)), now);
                }
                _ => {}
            },
            DeviceEvent::SignalClosed { signal, reason } if self.invites_on(signal) => {
                self.end_invite(Err(NotInvited::unreached(&reason)), now);
            }
            DeviceEvent::SignalFrame {
                signal,
                frame: SignalFrame { body: Some(Body::DeviceInvitation(given)) },
            } => {
                self.take_invitation(signal, &given, around);
            }
            DeviceEvent::SignalIncoming { signal, device, via } => {
                if let Some(waiting) = &mut self.own.waiting {
                    if waiting.streams.len() >= WAITING_STREAMS_MAX {
                        waiting.streams.remove(0);
                    }
                    waiting.streams.push((signal, device));
                }
                return Some(DeviceEvent::SignalIncoming { signal, device, via });
            }
            event => return Some(event),
        }
        None
    }

    /// A stream of this file could not be opened. False: it was another's.
    pub(super) fn own_signal_failed(&mut self, request: u64, reason: &str, now: Now) -> bool {
        if self.invites(request) {
            self.end_invite(Err(NotInvited::unreached(reason)), now);
            return true;
        }
        self.probed(request, false)
    }

    fn open_own(&mut self, device: DeviceKey, homes: &[Home], now: Now) -> u64 {
        let request = self.number();
        let routes = homes
            .iter()
            .map(|home| SupernodeAddress { service: home.service, addresses: home.addresses.clone() })
            .collect();
        let purpose = Purpose::Other;
        self.open_signal(Stream { request, device, routes, race_after_ms: RACE_AFTER_MS, purpose }, now);
        request
    }

    fn invites(&self, request: u64) -> bool {
        self.own.invite.as_ref().is_some_and(|invite| invite.request == request)
    }

    fn invites_on(&self, signal: SignalId) -> bool {
        self.own.invite.as_ref().is_some_and(|invite| invite.signal == Some(signal))
    }

    fn send_invitation(&mut self, signal: SignalId, now: Now) {
        let Some(invite) = &mut self.own.invite else { return };
        invite.signal = Some(signal);
        let invitation = invite.invitation.clone();
        let hello = self.calls.hello(now);
        for body in [Body::Hello(hello), Body::DeviceInvitation(invitation)] {
            let frame = SignalFrame { body: Some(body) };
            self.send_overlay(DeviceCommand::SendSignal { signal, frame }, now);
        }
    }

    fn end_invite(&mut self, result: Result<(), NotInvited>, now: Now) {
        let Some(invite) = self.own.invite.take() else { return };
        if let Some(signal) = invite.signal {
            self.send_overlay(DeviceCommand::CloseSignal(signal), now);
        }
        self.news.push_back(PhoneNews::Invited(result));
    }

    fn probed(&mut self, request: u64, reachable: bool) -> bool {
        let Some(device) = self.own.probing.remove(&request) else { return false };
        self.news.push_back(PhoneNews::Probed { device, reachable });
        true
    }

    /// Somebody hands papers to this device.
    fn take_invitation(&mut self, signal: SignalId, given: &DeviceInvitation, around: &mut Surroundings<'_>) {
        let now = around.now;
        let result = if self.own.waiting.is_some() {
            self.check_invitation(signal, given, now)
        } else {
            self.check_renewal(given, now)
        };
        let answer = match &result {
            Ok(_) => DeviceAccepted { accepted: true, why: String::new() },
            Err(why) => DeviceAccepted { accepted: false, why: (*why).to_owned() },
        };
        let frame = SignalFrame { body: Some(Body::DeviceAccepted(answer)) };
        self.send_overlay(DeviceCommand::SendSignal { signal, frame }, now);
        let Ok(handed) = result else {
            // Each costs signatures to verify: one a stream.
            self.send_overlay(DeviceCommand::CloseSignal(signal), now);
            return self.calls.handle_signal_closed(CallSignal(signal.0), "papers of no use", now);
        };
        if self.own.waiting.take().is_some() {
            self.news.push_back(PhoneNews::Joined(handed));
        } else {
            self.set_papers(&handed.papers, around);
            self.news.push_back(PhoneNews::Renewed(handed));
        }
    }

    /// By link: whoever knows the secret decides whose device this becomes.
    fn check_invitation(
        &self,
        signal: SignalId,
        given: &DeviceInvitation,
        now: Now,
    ) -> Result<Handed, &'static str> {
        let waiting = self.own.waiting.as_ref().ok_or("it does not wait to be added")?;
        let inviter = waiting.streams.iter().find(|(stream, _)| *stream == signal).map(|(_, device)| *device);
        let inviter = inviter.ok_or("the stream is not known")?;
        let missing = Signed::default();
        let (certificate, set) =
            (given.certificate.as_ref().unwrap_or(&missing), given.device_set.as_ref().unwrap_or(&missing));
        if !waiting.link.proves(&given.proof, inviter, certificate, set) {
            return Err("the link was another one, or was used before");
        }
        Ok(handed(given, papers(given, self.identity.device.public(), now)?, now))
    }

    /// From the own account: its signature says enough. Nothing older is taken.
    fn check_renewal(&self, given: &DeviceInvitation, now: Now) -> Result<Handed, &'static str> {
        let papers = papers(given, self.identity.device.public(), now)?;
        if papers.certificate.account() != self.identity.account {
            return Err("it is a device of another account");
        }
        let newer = papers.device_set.outranks(&self.identity.device_set);
        if !newer || self.own.quiet || self.own.revoked {
            return Err("it has newer papers");
        }
        Ok(handed(given, papers, now))
    }
}

/// Verifies papers for this device.
fn papers(given: &DeviceInvitation, device: DeviceKey, now: Now) -> Result<Papers, &'static str> {
    let (Some(certificate), Some(set)) = (&given.certificate, &given.device_set) else {
        return Err("a certificate or a device set is missing");
    };
    let certificate = DeviceCertificate::verify(certificate, device, now.unix_ms)
        .map_err(|_| "the certificate is not valid here; are both clocks right?")?;
    let device_set = DeviceSet::verify(set, certificate.account(), now.unix_ms)
        .map_err(|_| "the device set is not valid here; are both clocks right?")?;
    if !device_set.admits(&certificate) {
        return Err("the device set does not name this device");
    }
    Ok(Papers { certificate, device_set })
}

/// Those papers, and the other devices' certificates as far as they verify.
fn handed(given: &DeviceInvitation, papers: Papers, now: Now) -> Handed {
    let others = given.others.iter().take(DEVICES_MAX);
    let others =
        others.filter_map(|signed| certificate_of(signed, &papers.device_set, now.unix_ms)).collect();
    Handed { papers, others }
}

/// The certificate of some device of the set.
fn certificate_of(signed: &Signed, set: &DeviceSet, unix_ms: u64) -> Option<DeviceCertificate> {
    let valid = |entry: &tandem_proto::signed::DeviceEntry| {
        DeviceCertificate::verify(signed, entry.device, unix_ms).ok().filter(|found| set.admits(found))
    };
    set.devices().iter().find_map(valid)
}
