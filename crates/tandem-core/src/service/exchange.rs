//! Supernodes telling each other of supernodes, and this one's own descriptor.

use tandem_proto::ids::ServiceKey;
use tandem_proto::names::FailureCode;
use tandem_proto::signed::{Roles, SupernodeDescriptor};
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{Heartbeat, Supernodes, SupernodesRequest};

use super::client::Phase;
use super::neighbours::Noted;
use super::view::Asker;
use super::{ClientRef, Command, Endpoint, Service};
use crate::dialing::{Contacts, SUPERNODE_CONTACTS_A_MINUTE};
use crate::time::Now;

/// Descriptors in one answer.
const ANSWER_MAX: usize = 16;
/// A neighbour is asked this often …
const ASK_MS: u64 = 30_000;
/// … and the first few times this often, since at first everything is new.
const ASK_FIRST_MS: u64 = 2_000;
const ASKED_FIRST: u32 = 4;
/// Dials at once, and how long one is waited for.
const DIALS_MAX: usize = 4;
const DIAL_MS_MAX: u64 = 10_000;
/// A new descriptor is signed this often, and when the load moved a step, this often at most.
const RESIGN_MS: u64 = 30 * 60_000;
const RESIGN_LOAD_MS: u64 = 60_000;
/// The driver is asked again when no descriptor came.
const RESIGN_AGAIN_MS: u64 = 5_000;

#[derive(Debug)]
pub(super) struct Exchange {
    own: Option<SupernodeDescriptor>,
    sign_ms: u64,
    signed_ms: u64,
    /// Dials that have not come to anything yet.
    dialling: Vec<(ServiceKey, u64)>,
    next_id: u64,
    pub(super) relay_load_percent: u32,
    contacts: Contacts<ServiceKey, SUPERNODE_CONTACTS_A_MINUTE>,
    settled: bool,
}

impl Exchange {
    pub(super) fn new(now_mono_ms: u64) -> Self {
        Self {
            own: None,
            sign_ms: now_mono_ms,
            signed_ms: now_mono_ms,
            dialling: Vec::new(),
            next_id: 0,
            relay_load_percent: 0,
            contacts: Contacts::default(),
            settled: false,
        }
    }

    /// A minute holds so many different ones, whoever recommends how many.
    pub(super) fn may_contact(&mut self, service: ServiceKey, now_mono_ms: u64) -> bool {
        self.contacts.forget_old(now_mono_ms);
        let allowed = self.contacts.allowed_at_ms(service, now_mono_ms) <= now_mono_ms;
        if allowed {
            self.contacts.note(service, now_mono_ms);
        }
        allowed
    }

    /// It says nothing of itself any more.
    pub(super) fn stand_by(&mut self) {
        self.own = None;
        self.dialling.clear();
        self.settled = true;
    }

    /// The number of the next request on a stream that this node opened.
    pub(super) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn own(&self) -> Option<&SupernodeDescriptor> {
        self.own.as_ref()
    }

    pub(super) fn dialled(&mut self, service: ServiceKey) {
        self.dialling.retain(|(dialled, _)| *dialled != service);
    }

    /// Nothing more to find out soon.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }
}

impl Service {
    /// Supernodes to begin with: from a list, or remembered.
    pub fn handle_bootstrap(&mut self, endpoints: &[Endpoint], now: Now) {
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.service != self.config.service) {
            self.neighbours.add_bootstrap(endpoint.clone());
        }
        self.tick_ms = now.mono_ms;
        self.drive(now);
    }

    /// The descriptor asked for with `SignDescriptor`. Another supernode's is ignored.
    pub fn handle_own_descriptor(&mut self, descriptor: SupernodeDescriptor, now: Now) {
        if descriptor.service() == self.config.service && self.roles != Roles::default() {
            self.exchange.signed_ms = now.mono_ms;
            self.exchange.sign_ms = now.mono_ms + self.rng.around(RESIGN_MS, 10);
            self.exchange.own = Some(descriptor);
            self.tick_ms = now.mono_ms;
        }
        self.drive(now);
    }

    /// This supernode's addresses changed: ask for a new descriptor at once.
    pub fn handle_addresses_changed(&mut self, now: Now) {
        self.exchange.sign_ms = now.mono_ms;
        self.tick_ms = now.mono_ms;
        self.drive(now);
    }

    /// 0 to 100 in steps of 10: reservations held, the relay's load, the line's or the processors', whichever is nearest
    /// to its end.
    #[must_use]
    pub fn load_percent(&self) -> u32 {
        let held = self.reserving.places.len() * 100 / self.config.reservations_max.max(1);
        let held = u32::try_from(held).unwrap_or(100);
        let load = held.max(self.machine.load_percent()).max(self.exchange.relay_load_percent);
        load.min(100) / 10 * 10
    }

    pub(super) fn drive_exchange(&mut self, now: Now) {
        self.neighbours.forget_expired(now);
        self.resign(now);
        self.connect(now);
        self.ask_neighbours(now);
    }

    fn resign(&mut self, now: Now) {
        if self.roles == Roles::default() {
            return;
        }
        let load_percent = self.load_percent();
        let moved = self.exchange.own().is_some_and(|own| own.load_percent() != load_percent)
            && now.mono_ms >= self.exchange.signed_ms + RESIGN_LOAD_MS;
        if moved || now.mono_ms >= self.exchange.sign_ms {
            self.exchange.sign_ms = now.mono_ms + RESIGN_AGAIN_MS;
            self.exchange.signed_ms = now.mono_ms;
            self.commands.push_back(Command::SignDescriptor { load_percent });
        }
    }

    /// Opens streams to others until there are enough.
    pub(super) fn connect(&mut self, now: Now) {
        if self.exchange.own.is_none() || self.reserving.is_draining() {
            return;
        }
        self.exchange.dialling.retain(|(_, until_ms)| now.mono_ms < *until_ms);
        let outbound = self.clients.values().filter(|state| state.outbound && !state.for_invitation);
        let outbound = outbound.map(|state| state.service());
        let mut linked: Vec<ServiceKey> = outbound.collect();
        let open = linked.len();
        linked.extend(self.exchange.dialling.iter().map(|(service, _)| *service));
        linked.push(self.config.service);
        let mut exhausted = false;
        while open + self.exchange.dialling.len() < self.config.neighbours
            && self.exchange.dialling.len() < DIALS_MAX
            && !exhausted
        {
            match self.neighbours.candidate(&linked, &mut self.rng, now) {
                Some(endpoint) if self.exchange.may_contact(endpoint.service, now.mono_ms) => {
                    linked.push(endpoint.service);
                    self.exchange.dialling.push((endpoint.service, now.mono_ms + DIAL_MS_MAX));
                    self.commands.push_back(Command::Connect(endpoint));
                }
                Some(_) | None => exhausted = true,
            }
        }
        self.exchange.settled = exhausted || open >= self.config.neighbours;
    }

    /// Asks each neighbour now and then. The question also keeps the stream alive; a heartbeat does so in between.
    pub(super) fn ask_neighbours(&mut self, now: Now) {
        let due = |state: &super::Client| {
            state.outbound
                && !state.for_invitation
                && state.phase == Phase::Supernode
                && now.mono_ms >= state.ask_ms
        };
        let due: Vec<ClientRef> =
            self.clients.iter().filter(|(_, state)| due(state)).map(|(client, _)| *client).collect();
        for client in due {
            let id = self.exchange.next_id();
            let Some(state) = self.clients.get_mut(&client) else { continue };
            let first = state.asked < ASKED_FIRST;
            // Every second message of a settled stream is a heartbeat: liveness at half the question's rate.
            let beat = !first && state.asked % 2 == 1;
            state.asked = state.asked.saturating_add(1);
            state.ask_ms = now.mono_ms + self.rng.around(if first { ASK_FIRST_MS } else { ASK_MS / 2 }, 20);
            state.awaiting = Some(id);
            let body = if beat {
                Body::Heartbeat(Heartbeat { in_call: false })
            } else {
                let limit = u32::try_from(ANSWER_MAX).expect("16 fits");
                Body::SupernodesRequest(SupernodesRequest { limit, ..SupernodesRequest::default() })
            };
            self.send(client, id, body);
        }
    }

    /// A frame on a stream that we opened.
    pub(super) fn handle_answer(&mut self, client: ClientRef, id: u64, body: Body, now: Now) {
        if self.is_invitation_answer(client, id, &body, now) {
            return;
        }
        let Some(state) = self.clients.get_mut(&client) else { return };
        if id != 0 && state.awaiting != Some(id) {
            return;
        }
        state.awaiting = None;
        let service = state.service();
        match body {
            Body::Supernodes(answer) => {
                self.learn(answer, now);
                self.neighbours.succeeded(service);
            }
            Body::Busy(busy) => {
                if let Some(state) = self.clients.get_mut(&client) {
                    let wait_ms = u64::from(busy.retry_after_ms).min(10 * 60_000);
                    state.ask_ms = state.ask_ms.max(now.mono_ms + wait_ms);
                }
            }
            Body::Drain(_) => {
                self.commands.push_back(Command::Close(client));
                self.forget(client, now);
            }
            _ => {}
        }
    }

    fn learn(&mut self, answer: Supernodes, now: Now) {
        for signed in answer.descriptors.iter().take(ANSWER_MAX) {
            if let Ok(descriptor) = SupernodeDescriptor::verify(signed, now.unix_ms)
                && descriptor.service() != self.config.service
            {
                self.neighbours.note(descriptor, false);
            }
        }
        self.connect(now);
    }

    /// A supernode proved its key to us.
    pub(super) fn meet(&mut self, descriptor: SupernodeDescriptor) {
        // Whoever stands by takes no part.
        if descriptor.service() == self.config.service || self.roles == Roles::default() {
            return;
        }
        let endpoint = Endpoint::of(&descriptor);
        let in_directory = descriptor.roles().contains(Roles::DIRECTORY);
        if in_directory || descriptor.roles().contains(Roles::RELAY) {
            let before = self.neighbours.met(endpoint.service);
            let noted = self.neighbours.note(descriptor, true);
            if in_directory && noted != Noted::Refused && (!before || noted == Noted::Newer) {
                self.commands.push_back(Command::AddToRouting(endpoint));
            }
        }
    }

    pub(super) fn handle_supernodes_request(
        &mut self,
        client: ClientRef,
        id: u64,
        request: &SupernodesRequest,
        now: Now,
    ) {
        let Some(state) = self.clients.get_mut(&client) else { return };
        if !state.lists.take(now.mono_ms) {
            let wait_ms = state.lists.wait_ms(now.mono_ms);
            self.busy(client, id, Some(wait_ms), now);
            return;
        }
        let asker = state.service();
        if request.named.len() > ANSWER_MAX {
            self.fail(client, id, FailureCode::Malformed, "at most 16 supernodes are asked for by name");
            return;
        }
        if !request.named.is_empty() {
            let descriptors = self.list_named(asker, &request.named, Roles(request.roles));
            self.send(client, id, Body::Supernodes(Supernodes { descriptors }));
            return;
        }
        let point = match <[u8; 32]>::try_from(request.near.as_slice()) {
            Ok(point) => Some(point),
            Err(_) if request.near.is_empty() => None,
            Err(_) => {
                self.fail(client, id, FailureCode::Malformed, "a point of the directory has 32 bytes");
                return;
            }
        };
        let limit = usize::try_from(request.limit).unwrap_or(ANSWER_MAX).clamp(1, ANSWER_MAX);
        let view = self.asker(client, now);
        let descriptors = self.list(asker, &view, point.as_ref(), Roles(request.roles), limit);
        self.send(client, id, Body::Supernodes(Supernodes { descriptors }));
    }

    /// Those of these that this supernode knows.
    fn list_named(
        &self,
        asker: ServiceKey,
        named: &[Vec<u8>],
        roles: Roles,
    ) -> Vec<tandem_proto::wire::Signed> {
        let own = self.exchange.own.iter();
        let known = own.chain(self.neighbours.descriptors()).filter(|known| {
            let service = known.service();
            service != asker
                && known.roles().contains(roles)
                && named.iter().any(|key| key.as_slice() == service.0.as_slice())
        });
        known.take(ANSWER_MAX).map(|descriptor| descriptor.signed().clone()).collect()
    }

    /// What to tell somebody who asks: this supernode first (its load may have changed), then others.
    fn list(
        &mut self,
        asker: ServiceKey,
        view: &Asker,
        point: Option<&[u8; 32]>,
        roles: Roles,
        limit: usize,
    ) -> Vec<tandem_proto::wire::Signed> {
        let own = self.exchange.own.as_ref().filter(|own| own.roles().contains(roles));
        let mut list: Vec<&SupernodeDescriptor> = own.into_iter().collect();
        match point {
            None => list.extend(self.neighbours.sample(roles, ANSWER_MAX, view, &mut self.rng)),
            Some(point) => {
                list.extend(self.neighbours.nearest(point, roles, ANSWER_MAX, view));
                let far =
                    |service| tandem_proto::draw::distance(&tandem_proto::draw::position(service), point);
                list.sort_by_key(|descriptor| far(descriptor.service()));
            }
        }
        list.retain(|descriptor| descriptor.service() != asker);
        list.into_iter().take(limit).map(|descriptor| descriptor.signed().clone()).collect()
    }
}
