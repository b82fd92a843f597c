//! Reservations: who has this supernode as a home, resuming after a lost connection, presence.

use std::collections::BTreeMap;

use tandem_proto::ids::DeviceKey;
use tandem_proto::names::FailureCode;
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{Heartbeat, Presence, Reserve, Reserved};

use super::client::Phase;
use super::{ClientRef, Command, Service};
use crate::time::Now;

/// What clients are asked to keep to; nothing heard for 30 s ends the reservation.
const HEARTBEAT_MS: u32 = 14_000;
/// A place is kept this long for a device whose connection broke.
const PLACE_KEPT_MS: u64 = 60_000;
/// Places kept at once.
const KEPT_MAX: usize = 4_096;
/// Above the soft limit, this share of it is kept for devices that come back, and for those that have no home at all (a
/// quarter).
const RETURNING_SHARE: usize = 4;
/// Anybody can say that he has no home: of those places one network gets this share of the soft limit.
const HOMELESS_NETWORK_SHARE: usize = 32;

/// Who is reserved here.
#[derive(Debug, Default)]
pub(super) struct Reserving {
    reserved: BTreeMap<DeviceKey, ClientRef>,
    /// Places kept: ticket and end.
    kept: BTreeMap<DeviceKey, (u64, u64)>,
    tickets: BTreeMap<DeviceKey, u64>,
    /// Let in above the soft limit since they had no home, and their networks.
    homeless: BTreeMap<DeviceKey, Option<u32>>,
    /// Draining: until then at the latest.
    drain_until_ms: Option<u64>,
    /// The directory role ended: when devices that are still here are cut off.
    pub(super) part_ms: Option<u64>,
    pub(super) calls_relayed: usize,
}

impl Reserving {
    pub(super) fn len(&self) -> usize {
        self.reserved.len()
    }

    pub(super) fn client_of(&self, device: DeviceKey) -> Option<ClientRef> {
        self.reserved.get(&device).copied()
    }

    pub(super) fn devices(&self) -> impl Iterator<Item = DeviceKey> {
        self.reserved.keys().copied()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.drain_until_ms.is_some()
    }

    pub(super) fn begin_drain(&mut self, until_ms: u64) {
        self.drain_until_ms = Some(until_ms);
    }

    pub(super) fn hurry(&mut self, until_ms: u64) {
        self.drain_until_ms = self.drain_until_ms.map(|before_ms| before_ms.min(until_ms));
    }

    pub(super) fn end_drain(&mut self) {
        self.drain_until_ms = None;
    }

    /// A drain is over: nobody is left, or the time is up.
    pub(super) fn is_drained(&self, now_mono_ms: u64) -> bool {
        let empty = self.reserved.is_empty() && self.calls_relayed == 0;
        self.drain_until_ms.is_some_and(|until_ms| empty || now_mono_ms >= until_ms)
    }

    /// Nobody is reserved here any more, and no place is kept.
    pub(super) fn clear(&mut self) {
        *self = Self { calls_relayed: self.calls_relayed, ..Self::default() };
    }

    /// The device has a place here, or had one a moment ago. Its key is authenticated by the connection; one that has
    /// started again has no ticket any more, and would else be kept out by its own place.
    fn has_or_had_place(&self, device: DeviceKey) -> bool {
        self.client_of(device).is_some() || self.kept.contains_key(&device)
    }

    /// It has a place, or shows the ticket of one that is kept for it: what it did there goes on.
    pub(super) fn goes_on(&self, device: DeviceKey, ticket: &[u8]) -> bool {
        let kept = self.kept.get(&device);
        self.client_of(device).is_some() || kept.is_some_and(|(kept, _)| ticket == kept.to_be_bytes())
    }

    /// A stream ended: if it held a reservation, the place is kept for a while.
    pub(super) fn lost(&mut self, device: DeviceKey, client: ClientRef, now_mono_ms: u64) {
        if self.client_of(device) == Some(client) {
            self.reserved.remove(&device);
            if let Some(ticket) = self.tickets.remove(&device)
                && self.kept.len() < KEPT_MAX
            {
                self.kept.insert(device, (ticket, now_mono_ms + PLACE_KEPT_MS));
            }
        }
    }

    /// Nothing is kept for a device that was revoked.
    pub(super) fn forget_place(&mut self, device: DeviceKey) {
        self.kept.remove(&device);
    }

    pub(super) fn forget_expired(&mut self, now_mono_ms: u64) {
        self.kept.retain(|_, (_, until_ms)| now_mono_ms < *until_ms);
        let (reserved, kept) = (&self.reserved, &self.kept);
        self.homeless.retain(|device, _| reserved.contains_key(device) || kept.contains_key(device));
    }
}

impl Service {
    pub(super) fn handle_reserve(&mut self, client: ClientRef, id: u64, reserve: &Reserve, now: Now) {
        let Some(state) = self.clients.get(&client) else { return };
        if state.phase != Phase::Device {
            self.fail(client, id, FailureCode::BadCredentials, "only devices reserve a home");
            return;
        }
        let (device, network) = (state.device(), state.network);
        let before = self.reserving.client_of(device);
        let returning = self.reserving.has_or_had_place(device);
        let has_place = self.has_place(returning);
        let homeless = !has_place && reserve.homeless && self.has_homeless_place(network);
        self.figures.no_place += u64::from(!has_place && !self.reserving.is_draining());
        if self.reserving.is_draining() || !(has_place || homeless) {
            self.busy(client, id, None, now);
            return;
        }
        if let Some(before) = before.filter(|before| *before != client) {
            // The device came back before its old stream was seen to be dead: the new one is the true one.
            self.commands.push_back(Command::Close(before));
            self.forget(before, now);
        }
        let ticket = self.rng.next_u64();
        self.reserving.kept.remove(&device);
        self.reserving.reserved.insert(device, client);
        self.reserving.tickets.insert(device, ticket);
        if homeless {
            self.reserving.homeless.insert(device, network);
        }
        if let Some(state) = self.clients.get_mut(&client) {
            state.reserved = true;
            state.in_call = reserve.in_call;
        }
        let referrals = self.referrals(&self.asker(client, now), now);
        let resume_ticket = ticket.to_be_bytes().to_vec();
        self.send(
            client,
            id,
            Body::Reserved(Reserved { heartbeat_ms: HEARTBEAT_MS, resume_ticket, referrals }),
        );
    }

    /// Soft limit for newcomers; those who have a place, or had one a moment ago, are let in above it.
    fn has_place(&self, returning: bool) -> bool {
        let soft = self.config.reservations_max;
        let kept = self.reserving.kept.len().min(soft / RETURNING_SHARE);
        let held = self.reserving.len() + if returning { 0 } else { kept };
        held < soft + if returning { soft / RETURNING_SHARE } else { 0 }
    }

    /// Whoever has no home at all is let in above the soft limit, too, few of one network.
    fn has_homeless_place(&self, network: Option<u32>) -> bool {
        let soft = self.config.reservations_max;
        let here = self.reserving.homeless.values().filter(|other| **other == network).count();
        self.reserving.len() < soft + soft / RETURNING_SHARE && here < (soft / HOMELESS_NETWORK_SHARE).max(1)
    }

    pub(super) fn handle_heartbeat(&mut self, client: ClientRef, id: u64, heartbeat: Heartbeat) {
        if let Some(state) = self.clients.get_mut(&client) {
            state.in_call = heartbeat.in_call && state.reserved;
            self.send(client, id, Body::Heartbeat(heartbeat));
        }
    }

    pub(super) fn handle_presence(&mut self, client: ClientRef, id: u64, presence: &Presence) {
        let reserved_here = self.clients.get(&client).is_some_and(|state| state.reserved);
        let Ok(device) = DeviceKey::try_from(presence.device.as_slice()) else {
            self.fail(client, id, FailureCode::Malformed, "a device key has 32 bytes");
            return;
        };
        if !reserved_here {
            self.fail(client, id, FailureCode::NotReserved, "presence is for devices reserved here");
            return;
        }
        let reserved = self.is_reserved(device);
        self.send(client, id, Body::Presence(Presence { device: presence.device.clone(), reserved }));
    }
}
