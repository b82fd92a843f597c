//! What comes of a request: the answer, or its failure.

use tandem_core::time::Now;
use tandem_proto::ids::ServiceKey;
use tandem_proto::names::{VERSIONS, VersionRange, negotiate};
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{HomeHello, Signed};

use super::{LinkNews, Links, Pending, REFERRALS_MAX, TICKET_BYTES_MAX, TICKETS_MAX, Waiting, errands, fits};
use crate::overlay::DeviceCommand;

impl Links {
    pub(super) fn handle_hello(&mut self, service: ServiceKey, hello: &HomeHello, now: Now) {
        let Some(link) = self.links.get_mut(&service) else { return };
        if link.open {
            return;
        }
        let ahead_s =
            i64::try_from(hello.time_s).unwrap_or(i64::MAX).saturating_sub_unsigned(now.unix_ms / 1000);
        self.news.push_back(LinkNews::Clock { service, ahead_s });
        let theirs = VersionRange { min: hello.version_min, max: hello.version_max };
        if let Err(error) = negotiate(VERSIONS, theirs) {
            self.commands.push_back(DeviceCommand::CloseHome(service));
            self.fail(service, true, &error.to_string());
            return;
        }
        link.open = true;
        let queued = std::mem::take(&mut link.queued);
        if link.by_homes {
            self.news.push_back(LinkNews::Opened { service });
        }
        if let Some(descriptor) = &hello.descriptor {
            self.take_referrals(service, vec![descriptor.clone()]);
        }
        for (waiting, body) in queued {
            self.request(service, waiting, body, now);
        }
    }

    pub(super) fn keep_ticket(&mut self, service: ServiceKey, ticket: Vec<u8>) {
        self.tickets.retain(|(of, _)| *of != service);
        if ticket.len() <= TICKET_BYTES_MAX {
            self.tickets.push_back((service, ticket));
        }
        if self.tickets.len() > TICKETS_MAX {
            self.tickets.pop_front();
        }
    }

    pub(super) fn handle_answer(&mut self, service: ServiceKey, waiting: Waiting, body: Body, now: Now) {
        match (waiting, body) {
            (Waiting::Reserve, Body::Reserved(reserved)) => {
                if let Some(link) = self.links.get_mut(&service) {
                    link.home_reserved = Some(reserved.heartbeat_ms);
                    link.resume_ticket.clone_from(&reserved.resume_ticket);
                    self.keep_ticket(service, reserved.resume_ticket);
                }
                self.announce_reserved(service);
                self.take_referrals(service, reserved.referrals);
            }
            (Waiting::Heartbeat, Body::Heartbeat(_)) => {
                self.news.push_back(LinkNews::HeartbeatAnswered { service });
            }
            (Waiting::Publish, Body::Published(_)) => self.news.push_back(LinkNews::Published { service }),
            (Waiting::Supernodes, Body::Supernodes(supernodes)) => {
                self.take_referrals(service, supernodes.descriptors);
            }
            (Waiting::LookUp { errand }, Body::LookedUp(looked)) => {
                self.news.push_back(LinkNews::LookedUp {
                    errand,
                    service,
                    record: looked.record,
                    done: true,
                });
            }
            (Waiting::Grant { errand }, Body::Grant(grant)) if fits(&grant) => {
                self.news.push_back(LinkNews::Granted { errand, service, grant });
            }
            (Waiting::Notice { errand }, Body::DeviceSetNoted(_)) => {
                self.news.push_back(LinkNews::Noted { errand });
            }
            (Waiting::Check { errand, .. }, Body::Checked(checked)) => {
                let detail = errands::for_a_log(checked.detail);
                self.news.push_back(LinkNews::Checked { errand, reached: checked.reached, detail });
            }
            (Waiting::ReserveNotice { errand }, Body::ReserveNoted(noted)) => {
                self.news.push_back(LinkNews::ReserveNoted { errand, kept: noted.kept });
            }
            (Waiting::Load { errand }, Body::Load(load)) if load.load_percent <= 100 => {
                self.news.push_back(LinkNews::Load { errand, load_percent: load.load_percent });
            }
            (waiting, Body::Busy(busy)) => {
                self.patience.note(service, waiting, busy.retry_after_ms, now.mono_ms);
                self.fail_request(service, waiting, "the supernode is busy", busy.retry_after_ms.max(1));
                self.take_referrals(service, busy.referrals);
            }
            (waiting, Body::Failure(failure)) => {
                let detail = errands::for_a_log(failure.detail);
                let reason = format!("the supernode refused (code {}): {detail}", failure.code);
                self.fail_request(service, waiting, &reason, 0);
            }
            (waiting, _) => {
                self.fail_request(service, waiting, "the supernode gave the wrong kind of answer", 0)
            }
        }
    }

    /// Some requests are answered at once: the time that took is a round trip, and what it took the least is kept.
    pub(super) fn measure(&mut self, service: ServiceKey, pending: &Pending, now: Now) {
        let at_once = matches!(pending.waiting, Waiting::Reserve | Waiting::Heartbeat | Waiting::Supernodes);
        let Some(link) = self.links.get_mut(&service).filter(|link| link.by_homes && at_once) else { return };
        let rtt_ms = u32::try_from(now.mono_ms.saturating_sub(pending.sent_ms)).unwrap_or(u32::MAX);
        if link.rtt_ms.is_none_or(|before_ms| rtt_ms < before_ms) {
            link.rtt_ms = Some(rtt_ms);
            self.news.push_back(LinkNews::Measured { service, rtt_ms });
        }
    }

    /// What the policy of homes asked about is listened to. A relay that some other party chose for a call must not fill
    /// what this device knows of supernodes.
    pub(super) fn take_referrals(&mut self, service: ServiceKey, mut signed: Vec<Signed>) {
        if self.links.get(&service).is_some_and(|link| link.by_homes) {
            signed.truncate(REFERRALS_MAX);
            self.news.push_back(LinkNews::Descriptors { from: service, signed });
        }
    }

    /// Tells of a reservation once both halves are there.
    pub(super) fn announce_reserved(&mut self, service: ServiceKey) {
        let Some(link) = self.links.get_mut(&service) else { return };
        if let (Some(heartbeat_ms), true) = (link.home_reserved, link.circuit_reserved) {
            link.home_reserved = None;
            self.news.push_back(LinkNews::Reserved { service, heartbeat_ms });
        }
    }

    /// `retry_after_ms` is 0 where nobody asked us to wait.
    pub(super) fn fail_request(
        &mut self,
        service: ServiceKey,
        waiting: Waiting,
        reason: &str,
        retry_after_ms: u32,
    ) {
        match waiting {
            Waiting::Reserve if retry_after_ms > 0 => {
                self.news.push_back(LinkNews::Busy { service, retry_after_ms });
            }
            Waiting::Reserve => {
                self.commands.push_back(DeviceCommand::CloseHome(service));
                self.fail(service, false, reason);
            }
            Waiting::Publish => self.news.push_back(LinkNews::PublishFailed { service, retry_after_ms }),
            Waiting::LookUp { errand } | Waiting::Grant { errand } | Waiting::Notice { errand } => {
                self.news.push_back(LinkNews::ErrandFailed { errand, service, reason: reason.to_owned() });
            }
            Waiting::Check { errand, .. } | Waiting::ReserveNotice { errand } | Waiting::Load { errand }
                if retry_after_ms > 0 =>
            {
                self.news.push_back(LinkNews::ErrandRefused { errand, retry_after_ms });
            }
            Waiting::Check { errand, .. } | Waiting::ReserveNotice { errand } | Waiting::Load { errand } => {
                self.news.push_back(LinkNews::ErrandFailed { errand, service, reason: reason.to_owned() });
            }
            Waiting::Supernodes if retry_after_ms > 0 => {
                self.news.push_back(LinkNews::AskRefused { retry_after_ms });
            }
            // The policy of homes has its own patience for heartbeats, and asks others for supernodes.
            Waiting::Heartbeat | Waiting::Supernodes => {}
        }
    }
}
