//! Executes the policy of homes: links, reservations, the device's entry in the directory.

use tandem_core::homes::{Cause, Command};
use tandem_core::peer::PeerRef;
use tandem_proto::ids::ServiceKey;
use tandem_proto::record::{ReachRecord, next_sequence};
use tandem_proto::signed::{DeviceHomes, Home, Roles};
use tandem_proto::wire::{Signed, SupernodesRequest};

use super::links::LinkNews;
use super::{Phone, PhoneNews, Surroundings};
use crate::node::peers::verified;
use crate::why::CallFact;

/// How long an entry in the directory holds without being renewed, in seconds.
const ENTRY_LIFE_S: u64 = 3 * 3600;
/// Supernodes asked for at once.
const SUPERNODES_WANTED: u32 = 16;

impl Phone {
    pub(super) fn do_for_homes(&mut self, command: Command, around: &mut Surroundings<'_>) {
        let now = around.now;
        match command {
            Command::Connect(peer) => match around.peers.address(peer) {
                Some(address) => self.links.connect(&address, now),
                None => self.homes.handle_closed(peer, Cause::Lost, now),
            },
            Command::Reserve(peer) => {
                if let Some(service) = service(around, peer) {
                    let in_call = !self.media.is_empty();
                    let homeless = self.homes.reserved().next().is_none();
                    self.links.reserve(service, in_call, homeless, now);
                }
            }
            Command::Heartbeat { peer, in_call } => {
                if let Some(service) = service(around, peer) {
                    self.links.heartbeat(service, in_call, now);
                }
            }
            Command::Release(peer) => {
                if let Some(service) = service(around, peer) {
                    tracing::debug!(%service, "a supernode's link is given up");
                    self.links.release(service, now);
                    // One that fell silent is released, too, and so is an attempt that took too long.
                    let failed = self.homes.standing(peer).is_some_and(|standing| standing.failures > 0);
                    let was_home = self.qualities.ended(service, failed, now.unix_ms);
                    if failed && !was_home {
                        self.qualities.failed(service, now.unix_ms);
                    }
                }
                self.home_since.remove(&peer);
                self.news.push_back(PhoneNews::Homes);
            }
            Command::Publish { via } => self.publish(via, around),
            Command::AskSupernodes(peer) => {
                if let Some(service) = service(around, peer) {
                    let request = SupernodesRequest {
                        roles: Roles::DIRECTORY.0,
                        limit: SUPERNODES_WANTED,
                        ..SupernodesRequest::default()
                    };
                    self.links.ask_supernodes(service, request, now);
                }
            }
        }
    }

    pub(super) fn take_link_news(&mut self, news: LinkNews, around: &mut Surroundings<'_>) {
        let now = around.now;
        let peer_of = |key: &ServiceKey| around.peers.by_key(key).map(|(peer, _)| peer);
        match news {
            LinkNews::Opened { service } => {
                if let Some(peer) = peer_of(&service) {
                    self.homes.handle_opened(peer, None, now);
                }
            }
            LinkNews::Measured { service, rtt_ms } => {
                if let Some(peer) = peer_of(&service) {
                    self.homes.handle_measured(peer, rtt_ms);
                }
            }
            LinkNews::Reserved { service, heartbeat_ms } => {
                if let Some(peer) = peer_of(&service) {
                    self.home_since.insert(peer, now.unix_ms);
                    self.qualities.reserved(service, now.unix_ms);
                    self.homes.handle_reserved(peer, heartbeat_ms, now);
                    self.refresh_relays(around);
                    self.look_up_again(around);
                    self.news.push_back(PhoneNews::Homes);
                    self.own_home_gained(now);
                }
            }
            LinkNews::Closed { service, incompatible, reason } => {
                tracing::debug!(%service, reason, "a supernode's link ended");
                if let Some(peer) = peer_of(&service) {
                    let cause = if incompatible { Cause::Incompatible } else { Cause::Lost };
                    self.home_since.remove(&peer);
                    if !self.qualities.ended(service, true, now.unix_ms) {
                        self.qualities.failed(service, now.unix_ms);
                    }
                    self.homes.handle_closed(peer, cause, now);
                    self.news.push_back(PhoneNews::Homes);
                }
            }
            LinkNews::HeldBack { service, wait_ms } => {
                if let Some(peer) = peer_of(&service) {
                    self.homes.handle_held_back(peer, wait_ms, now);
                }
            }
            LinkNews::Busy { service, retry_after_ms } => {
                tracing::debug!(%service, retry_after_ms, "a supernode has no place for this device");
                if let Some(peer) = peer_of(&service) {
                    self.homes.handle_busy(peer, retry_after_ms, now);
                }
            }
            LinkNews::AskRefused { retry_after_ms } => self.homes.handle_ask_refused(retry_after_ms, now),
            LinkNews::HeartbeatAnswered { service } => {
                if let Some(peer) = peer_of(&service) {
                    self.homes.handle_heartbeat_answer(peer, now);
                }
            }
            LinkNews::Drain { service, within_ms } => {
                if let Some(peer) = peer_of(&service) {
                    self.homes.handle_drain(peer, within_ms, now);
                }
            }
            LinkNews::Published { service } => {
                if let Some(peer) = peer_of(&service) {
                    self.homes.handle_published(peer, now);
                }
            }
            LinkNews::PublishFailed { service, retry_after_ms } => {
                if let Some(peer) = peer_of(&service) {
                    self.homes.handle_publish_failed(peer, retry_after_ms, now);
                }
            }
            news => self.take_other_news(news, around),
        }
    }

    /// What supernodes say of others, and what came of questions that are not the policy of homes' own.
    fn take_other_news(&mut self, news: LinkNews, around: &mut Surroundings<'_>) {
        let now = around.now;
        match news {
            LinkNews::Clock { service, ahead_s } => self.clocks.note(service, ahead_s),
            LinkNews::Descriptors { from, signed } => self.take_descriptors(from, &signed, around),
            LinkNews::LookedUp { errand, service, record, done } => {
                self.take_record(errand, service, record, done, around);
            }
            LinkNews::Granted { errand, service, grant } => self.take_grant(errand, service, Ok(grant), now),
            LinkNews::DeviceSet { signed } => self.take_own_set(&signed, around),
            LinkNews::Noted { errand } => _ = self.notice_ended(errand, true, now),
            LinkNews::Waits { errand, wait_ms } => {
                if self.grants.contains_key(&errand) {
                    self.tell_fact(CallFact::Waited { wait_ms });
                }
            }
            LinkNews::ErrandFailed { errand, service, reason } => {
                self.fail_errand(errand, service, reason, around);
            }
            // A device never asks for the others: its scout does.
            other => debug_assert!(
                matches!(
                    other,
                    LinkNews::Checked { .. }
                        | LinkNews::ReserveNoted { .. }
                        | LinkNews::Load { .. }
                        | LinkNews::ErrandRefused { .. }
                ),
                "not taken: {other:?}"
            ),
        }
    }

    fn fail_errand(
        &mut self,
        errand: u64,
        service: ServiceKey,
        reason: String,
        around: &mut Surroundings<'_>,
    ) {
        if self.notice_ended(errand, false, around.now) {
            return;
        }
        if self.grants.contains_key(&errand) {
            self.take_grant(errand, service, Err(reason), around.now);
        } else {
            self.fail_look_up(errand, service, around);
        }
    }

    /// It has proved its key: its network is now the one it was reached in, whatever it says, and if it says nothing.
    pub(super) fn tell_met(&mut self, service: ServiceKey, around: &Surroundings<'_>) {
        let Some((peer, _)) = around.peers.by_key(&service) else { return };
        if self.homes.standing(peer).is_some()
            && let Some(known) = around.peers.known(peer, None)
        {
            self.homes.handle_known(&[known], around.now);
        }
    }

    fn take_descriptors(&mut self, from: ServiceKey, signed: &[Signed], around: &mut Surroundings<'_>) {
        let referrer = around.peers.by_key(&from).map(|(peer, _)| peer);
        let by_home = self.links.is_by_homes(from);
        let descriptors = verified(signed, around.now.unix_ms);
        let mut known = Vec::new();
        let mut loads = Vec::new();
        for descriptor in &descriptors {
            let service = descriptor.service();
            if Some(service) == self.excluded {
                continue;
            }
            let peer = around.peers.insert_descriptor(descriptor.clone(), referrer);
            if by_home {
                around.peers.named_by_home(&service);
            }
            if descriptor.roles().contains(Roles::DIRECTORY) {
                let referrer = referrer.filter(|_| service != from);
                known.extend(peer.and_then(|peer| around.peers.known(peer, referrer)));
            }
            // What the newest descriptor says, which may be another than this one.
            let newest = peer.and_then(|peer| Some((peer, around.peers.get(peer)?.descriptor.as_ref()?)));
            loads.extend(newest.map(|(peer, newest)| (peer, newest.load_percent())));
        }
        self.homes.handle_known(&known, around.now);
        for (peer, load_percent) in loads {
            self.homes.set_load(peer, load_percent);
        }
        self.refresh_relays(around);
        self.tell_confirmed(around);
        if !descriptors.is_empty() {
            self.news.push_back(PhoneNews::Descriptors(descriptors));
        }
    }

    fn publish(&mut self, via: PeerRef, around: &mut Surroundings<'_>) {
        if self.own.quiet {
            // Nothing is said, and nothing is waited for.
            return self.homes.handle_published(via, around.now);
        }
        let homes: Vec<Home> = self
            .homes
            .reserved()
            .filter_map(|peer| around.peers.get(peer))
            .map(|peer| Home::fitting(peer.service, &peer.addresses))
            .collect();
        let unix_ms = around.now.unix_ms;
        let sequence = next_sequence(self.sequence, unix_ms);
        let until_s = unix_ms / 1000 + ENTRY_LIFE_S;
        let entry =
            DeviceHomes::issue(&self.identity.device, self.identity.account, sequence, until_s, &homes);
        match entry {
            Ok(entry) => {
                self.sequence = Some(sequence);
                let record = ReachRecord::new(self.identity.device_set.clone()).with_homes(entry);
                if let Some(service) = service(around, via) {
                    self.links.publish(service, record.to_wire(), around.now);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "this device's entry in the directory cannot be made");
                self.homes.handle_publish_failed(via, 0, around.now);
            }
        }
    }
}

fn service(around: &Surroundings<'_>, peer: PeerRef) -> Option<ServiceKey> {
    around.peers.get(peer).map(|peer| peer.service)
}
