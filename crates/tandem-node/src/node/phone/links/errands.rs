//! Errands: one question to a supernode that need not be a home, over a link opened for that if there is none.

use tandem_core::election::Family;
use tandem_core::time::Now;
use tandem_proto::ids::ServiceKey;
use tandem_proto::multiaddr::TransportAddress;
use tandem_proto::names::FAILURE_DETAIL_BYTES_MAX;
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{
    CheckRequest, DeviceSetNotice, GrantRequest, LoadRequest, LookUp, ReserveNotice, Signed,
};

use super::{LinkNews, Links, Waiting, family_of};
use crate::overlay::SupernodeAddress;

impl Links {
    pub(crate) fn look_up(&mut self, errand: u64, service: ServiceKey, account: &[u8], now: Now) {
        let body = Body::LookUp(LookUp { account: account.to_vec() });
        self.request(service, Waiting::LookUp { errand }, body, now);
    }

    /// Gets a grant from a relay, over a link opened for that if there is none.
    pub(crate) fn request_grant(&mut self, errand: u64, at: &SupernodeAddress, tag: &[u8], now: Now) {
        let body = Body::GrantRequest(GrantRequest { call_tag: tag.to_vec() });
        self.run_errand(at, (errand, Waiting::Grant { errand }), body, now);
    }

    /// Tells a supernode of a newer device set, over a link opened for that if there is none.
    pub(crate) fn notify(&mut self, errand: u64, at: &SupernodeAddress, signed: Signed, now: Now) {
        let body = Body::DeviceSetNotice(DeviceSetNotice { device_set: Some(signed) });
        self.run_errand(at, (errand, Waiting::Notice { errand }), body, now);
    }

    /// Whether a check of that family can go now: over the link there is, or over a new one; or nowhere, ever. A link of
    /// the other family, or one that is being opened, may still have questions to carry.
    pub(crate) fn may_check(&self, at: &SupernodeAddress, family: Family) -> bool {
        let free = |link: &super::Link| link.open && (link.family == Some(family) || link.is_idle());
        self.links.get(&at.service).is_none_or(free) || in_family(at, family).addresses.is_empty()
    }

    /// Asks a supernode to try and reach this node, over a connection of that family: it dials the address that the
    /// connection comes from. See [`Self::may_check`].
    pub(crate) fn check(
        &mut self,
        errand: u64,
        at: &SupernodeAddress,
        family: Family,
        request: CheckRequest,
        now: Now,
    ) {
        let at = in_family(at, family);
        let other = |link: &super::Link| link.open && link.family != Some(family);
        // One that nobody needs any more makes room for one of the family that is wanted.
        if self.links.get(&at.service).is_some_and(|link| other(link) && !link.by_homes && link.is_idle()) {
            self.drop_link(at.service);
        }
        let waiting = Waiting::Check { errand, family };
        if at.addresses.is_empty() {
            let reason = "that supernode has no address of the family";
            self.fail_request(at.service, waiting, reason, 0);
            return;
        }
        self.run_errand(&at, (errand, waiting), Body::CheckRequest(request), now);
    }

    /// Tells a supernode that this node is a reserve.
    pub(crate) fn notify_reserve(
        &mut self,
        errand: u64,
        at: &SupernodeAddress,
        notice: ReserveNotice,
        now: Now,
    ) {
        let waiting = Waiting::ReserveNotice { errand };
        self.run_errand(at, (errand, waiting), Body::ReserveNotice(notice), now);
    }

    /// Asks a supernode for its load.
    pub(crate) fn ask_load(&mut self, errand: u64, at: &SupernodeAddress, now: Now) {
        self.run_errand(at, (errand, Waiting::Load { errand }), Body::LoadRequest(LoadRequest {}), now);
    }

    fn run_errand(&mut self, at: &SupernodeAddress, errand: (u64, Waiting), body: Body, now: Now) {
        let (errand, waiting) = errand;
        if !self.links.contains_key(&at.service) && !self.open(at, waiting.purpose(), now) {
            let reason = "too many connections at once".to_owned();
            self.news.push_back(LinkNews::ErrandFailed { errand, service: at.service, reason });
            return;
        }
        self.request(at.service, waiting, body, now);
    }
}

/// A check says something of the family of its connection only.
pub(super) fn may_go(waiting: Waiting, family: Option<Family>) -> bool {
    match waiting {
        Waiting::Check { family: wanted, .. } => family == Some(wanted),
        _ => true,
    }
}

/// What a stranger wrote, no longer than it may be and without what could pass for another line of the log.
pub(super) fn for_a_log(mut text: String) -> String {
    let end = (0..=text.len().min(FAILURE_DETAIL_BYTES_MAX)).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    text.retain(|letter| !letter.is_control());
    text
}

/// The same supernode, at its addresses of that family.
fn in_family(at: &SupernodeAddress, family: Family) -> SupernodeAddress {
    let is_of = |bytes: &&Vec<u8>| {
        TransportAddress::from_bytes(bytes).is_ok_and(|address| family_of(address.ip) == family)
    };
    SupernodeAddress { service: at.service, addresses: at.addresses.iter().filter(is_of).cloned().collect() }
}
