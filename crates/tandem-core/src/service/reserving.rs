//! Reservations: who has this supernode as a home, resuming after a lost connection, presence.

use tandem_proto::ids::DeviceKey;
use tandem_proto::names::FailureCode;
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{Heartbeat, Presence, Reserve, Reserved};

use super::client::Phase;
use super::places::{Places, Room};
use super::{ClientRef, Command, Service};
use crate::time::Now;

/// What clients are asked to keep to; nothing heard for 30 s ends the reservation.
const HEARTBEAT_MS: u32 = 14_000;

/// Who is reserved here.
#[derive(Debug, Default)]
pub(super) struct Reserving {
    pub(super) places: Places<DeviceKey, ClientRef>,
    /// Draining: until then at the latest.
    drain_until_ms: Option<u64>,
    /// The directory role ended: when devices that are still here are cut off.
    pub(super) part_ms: Option<u64>,
    pub(super) calls_relayed: usize,
}

impl Reserving {
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
        let empty = self.places.is_empty() && self.calls_relayed == 0;
        self.drain_until_ms.is_some_and(|until_ms| empty || now_mono_ms >= until_ms)
    }

    /// Nobody is reserved here any more, and no place is kept.
    pub(super) fn clear(&mut self) {
        *self = Self { calls_relayed: self.calls_relayed, ..Self::default() };
    }

    /// It has a place, or shows the ticket of one that is kept for it: what it did there goes on.
    pub(super) fn goes_on(&self, device: DeviceKey, ticket: &[u8]) -> bool {
        self.places.goes_on(device, ticket.try_into().ok().map(u64::from_be_bytes))
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
        let before = self.reserving.places.connection_of(device);
        let soft = self.config.reservations_max;
        let room = self.reserving.places.room_for(device, reserve.homeless, network, soft);
        let draining = self.reserving.is_draining();
        self.figures.no_place += u64::from(room != Some(Room::Place) && !draining);
        let Some(room) = room.filter(|_| !draining) else {
            self.busy(client, id, None, now);
            return;
        };
        if let Some(before) = before.filter(|before| *before != client) {
            // The device came back before its old stream was seen to be dead: the new one is the true one.
            self.commands.push_back(Command::Close(before));
            self.forget(before, now);
        }
        let ticket = self.rng.next_u64();
        self.reserving.places.take(device, client, ticket, room, network);
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
