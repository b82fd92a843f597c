//! The supernode's side of `/tandem/<network>/home/1` (spec/overlay.md): sessions, reservations, directory requests,
//! grants, and the exchange of descriptors among supernodes.
//!
//! It speaks [`HomeFrame`]s on streams that the driver numbers, and asks the driver for what needs a network: the
//! directory, new connections, its own signature. After every call the driver drains [`Service::poll_command`] and
//! re-arms its timer from [`Service::poll_timeout`]. Everything an outsider can make grow is bounded.

mod candidates;
mod client;
mod directory;
mod exchange;
mod granting;
mod inviting;
mod machine;
mod neighbours;
pub mod places;
mod reserving;
mod revoking;
mod sight;
mod standing;
pub mod view;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use tandem_proto::grant::RelaySecret;
use tandem_proto::ids::{AccountKey, DeviceKey, ServiceKey};
use tandem_proto::names::{
    FAILURE_DETAIL_BYTES_MAX, FailureCode, VERSIONS, VersionRange, feature, negotiate,
};
use tandem_proto::network::network_group;
use tandem_proto::signed::{Invitation, Roles, SupernodeDescriptor};
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{Busy, Failure, HomeFrame, HomeHello, Signed};

use crate::admission::{Admission, Work};
use crate::network::subnet;
use crate::rng::Rng;
use crate::time::Now;
use candidates::Candidates;
use client::{Client, Phase};
use directory::Directory;
use exchange::Exchange;
use granting::Granting;
use inviting::Inviting;
use machine::Machine;
use neighbours::Neighbours;
use reserving::Reserving;
use revoking::Revoking;
use view::Asker;

pub use candidates::{Check, CheckOutcome};
pub use client::lists;
pub use standing::Standing;
use standing::{STANDBY_CLIENTS_MAX, STANDBY_PER_SUBNET_MAX, STANDBY_STREAM_MS};

/// Streams from one subnet, at most.
const PER_SUBNET_MAX: u32 = 512;
/// Expiry and time-outs are looked at this often.
const TICK_MS: u64 = 1_000;
/// Referrals given with a refusal or a reservation.
const REFERRALS: usize = 4;

/// One home stream in the driver's numbering; never used again in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientRef(pub u64);

/// A supernode and where it listens (binary multiaddrs without `/p2p`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub service: ServiceKey,
    pub addresses: Vec<Vec<u8>>,
}

impl Endpoint {
    fn of(descriptor: &SupernodeDescriptor) -> Self {
        Self { service: descriptor.service(), addresses: descriptor.addresses().to_vec() }
    }
}

/// What this supernode is and how much it takes on.
#[derive(Debug, Clone)]
pub struct Config {
    pub service: ServiceKey,
    pub software: String,
    /// What it serves from its start; none: it stands by until [`Service::set_roles`].
    pub roles: Roles,
    /// Reservations taken on; beyond them newcomers are referred elsewhere.
    pub reservations_max: usize,
    /// Requests answered a second in the long run.
    pub requests_per_second: u32,
    /// Streams to other supernodes it opens.
    pub neighbours: usize,
    /// Makes the grants' passwords; without it there is no relay role.
    pub relay_secret: Option<RelaySecret>,
    /// How long a grant can be used to allocate, in seconds.
    pub grant_life_s: u64,
    /// Bytes one grant's allocation may carry, both ways together.
    pub grant_quota_bytes: u64,
}

impl Config {
    /// A directory supernode of ordinary size, without the relay role.
    #[must_use]
    pub fn new(service: ServiceKey, software: String) -> Self {
        Self {
            service,
            software,
            roles: Roles::DIRECTORY,
            reservations_max: 500,
            requests_per_second: 200,
            neighbours: 12,
            relay_secret: None,
            grant_life_s: 600,
            // Four hours of voice at 128 kbit/s.
            grant_quota_bytes: 4 * 3_600 * 128_000 / 8,
        }
    }
}

/// What the driver must do.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Write one frame.
    Send { client: ClientRef, frame: HomeFrame },
    /// Close the stream after what was sent has been written. Nothing more is to be fed about it.
    Close(ClientRef),
    /// Dial another supernode and open a home stream. Answer: `handle_opened` with `outbound`, or
    /// `handle_connect_failed`.
    Connect(Endpoint),
    /// Cut all connections of this device: it was revoked, or the directory role ended. Its circuits and its circuit reservation end with them.
    Expel(DeviceKey),
    /// Offer a supernode that proved its key to the directory's routing table.
    AddToRouting(Endpoint),
    /// Store and read back. Answer: `handle_stored`.
    DhtPut { request: u64, account: AccountKey, value: Vec<u8> },
    /// Read over disjoint paths. Answer: `handle_found`, the last one with `done`.
    DhtGet { request: u64, account: AccountKey },
    /// Sign a new descriptor of this supernode. Answer: `handle_own_descriptor`.
    SignDescriptor { load_percent: u32 },
    /// A record was refused; for the log and the metrics.
    RecordRefused { from: Option<[u8; 32]>, account: Option<AccountKey>, reason: String },
    /// All clients have left after [`Service::drain`], or the time is up. It stands by now.
    Drained,
    /// Try and reach a node. Answer: `handle_checked` within 10 s.
    Check(Check),
    /// A node says that it is a reserve. `network`: of the address it came from. Answer: `handle_noted`.
    Announced { id: u64, service: ServiceKey, network: u32 },
    /// A supernode invites this node to serve; its signature is verified. `network`: of the address it came from.
    /// Answer: `answer_invitation`.
    Invited { invitation: Invitation, network: Option<u32> },
    /// What came of `invite`.
    InvitationAnswered { reserve: ServiceKey, accepted: bool },
}

/// Figures for metrics and for the volunteer's ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    pub clients: usize,
    pub reserved: usize,
    pub supernodes_known: usize,
    pub requests: u64,
    /// Look-ups among them.
    pub lookups: u64,
    /// Requests answered with `Busy`.
    pub shed: u64,
    /// Devices that found no place as a home, or one above the limit since they had none at all.
    pub no_place: u64,
    pub grants: u64,
    pub records_refused: u64,
    /// Revoked devices remembered.
    pub revoked: usize,
    /// Nodes it tried to reach because they asked.
    pub checks: u64,
    /// Notices of reserves, and invitations to this node, that were passed on to policy.
    pub notices: u64,
    pub invitations: u64,
}

/// The machine. One a supernode.
#[derive(Debug)]
pub struct Service {
    config: Config,
    roles: Roles,
    rng: Rng,
    clients: BTreeMap<ClientRef, Client>,
    subnets: BTreeMap<u64, u32>,
    admission: Admission,
    machine: Machine,
    reserving: Reserving,
    revoking: Revoking,
    directory: Directory,
    granting: Granting,
    exchange: Exchange,
    neighbours: Neighbours,
    candidates: Candidates,
    inviting: Inviting,
    commands: VecDeque<Command>,
    figures: Figures,
    tick_ms: u64,
}

impl Service {
    /// Starts by asking for a descriptor, if it has a role; it opens no connection before it has one. Equal seeds behave
    /// equally.
    #[must_use]
    pub fn new(config: Config, seed: u64, now: Now) -> Self {
        let mut service = Self {
            admission: Admission::new(config.requests_per_second, now.mono_ms),
            machine: Machine::default(),
            roles: config.roles,
            config,
            rng: Rng::new(seed),
            clients: BTreeMap::new(),
            subnets: BTreeMap::new(),
            reserving: Reserving::default(),
            revoking: Revoking::default(),
            directory: Directory::default(),
            granting: Granting::default(),
            exchange: Exchange::new(now.mono_ms),
            neighbours: Neighbours::default(),
            candidates: Candidates::new(now.mono_ms),
            inviting: Inviting::default(),
            commands: VecDeque::new(),
            figures: Figures::default(),
            tick_ms: now.mono_ms,
        };
        service.drive(now);
        service
    }

    // ---- streams --------------------------------------------------------------------------------------------------

    /// A home stream opened. `peer`: the key that authenticated the connection.
    pub fn handle_opened(
        &mut self,
        client: ClientRef,
        peer: [u8; 32],
        remote: Option<IpAddr>,
        outbound: bool,
        now: Now,
    ) {
        let subnet = remote.map(subnet);
        if !outbound && (self.reserving.is_draining() || !self.has_room_for(subnet)) {
            let asker = Asker::new(remote.map(network_group), false, now);
            self.busy_to(&asker, client, 0, None, now);
            self.commands.push_back(Command::Close(client));
            return;
        }
        if let Some(subnet) = subnet {
            *self.subnets.entry(subnet).or_default() += 1;
        }
        let mut state = Client::new(peer, remote, outbound, now.mono_ms);
        state.for_invitation = outbound && self.inviting.is_for(ServiceKey(peer));
        self.clients.insert(client, state);
        if outbound {
            self.invitation_stream(client, ServiceKey(peer));
        }
        let hello = self.hello(now);
        self.send(client, 0, Body::Hello(hello));
        self.drive(now);
    }

    fn has_room_for(&self, subnet: Option<u64>) -> bool {
        let (most, of_subnet) = match self.standing() {
            Standing::Standby => (STANDBY_CLIENTS_MAX, STANDBY_PER_SUBNET_MAX),
            Standing::Serving | Standing::Draining => {
                (self.config.reservations_max.saturating_mul(2).saturating_add(64), PER_SUBNET_MAX)
            }
        };
        let crowded = subnet.and_then(|subnet| self.subnets.get(&subnet)).is_some_and(|n| *n >= of_subnet);
        !crowded && self.clients.len() < most
    }

    /// A home stream closed. Unknown ones are ignored.
    pub fn handle_closed(&mut self, client: ClientRef, now: Now) {
        self.forget(client, now);
        self.drive_drain(now);
        self.drive(now);
    }

    /// A dial asked for with `Connect` failed.
    pub fn handle_connect_failed(&mut self, service: ServiceKey, now: Now) {
        self.exchange.dialled(service);
        self.neighbours.failed(service, &mut self.rng, now);
        self.invitation_lost(service, None, now);
        self.drive(now);
    }

    /// One frame came.
    pub fn handle_frame(&mut self, client: ClientRef, frame: HomeFrame, now: Now) {
        let Some(state) = self.clients.get_mut(&client) else { return };
        let id = frame.id;
        match state.take_frame(now.mono_ms) {
            Ok(()) => self.dispatch(client, frame, now),
            Err(false) => {
                let wait_ms = state.frame_wait_ms(now.mono_ms);
                self.busy(client, id, Some(wait_ms), now);
            }
            Err(true) => self.drop_client(client, 0, FailureCode::QuotaExceeded, "too many frames", now),
        }
        self.drive(now);
    }

    fn dispatch(&mut self, client: ClientRef, frame: HomeFrame, now: Now) {
        let Some(state) = self.clients.get(&client) else { return };
        let id = frame.id;
        match (state.phase, frame.body) {
            (Phase::AwaitingHello, Some(Body::Hello(hello))) => self.handle_hello(client, &hello, now),
            (Phase::AwaitingHello, _) => {
                self.drop_client(client, id, FailureCode::Malformed, "the first frame must be a hello", now);
            }
            (_, Some(body)) if state.outbound => self.handle_answer(client, id, body, now),
            _ if id == 0 => {
                self.drop_client(client, 0, FailureCode::Malformed, "a request needs an id", now);
            }
            (_, Some(body)) => self.handle_request(client, id, body, now),
            (_, None) => self.fail(client, id, FailureCode::UnknownRequest, "not known to this version"),
        }
    }

    fn handle_request(&mut self, client: ClientRef, id: u64, body: Body, now: Now) {
        self.figures.requests += 1;
        if self.refuse_role(client, id, &body) {
            return;
        }
        if let Some(work) = self.work_of(client, &body)
            && let Err(retry_ms) = self.admission.admit(work, &mut self.rng, now.mono_ms)
        {
            self.busy(client, id, Some(u64::from(retry_ms)), now);
            return;
        }
        let revocable = matches!(body, Body::Reserve(_) | Body::Publish(_) | Body::GrantRequest(_));
        if revocable && self.refuse_revoked(client, id, now) {
            return;
        }
        match body {
            Body::Reserve(reserve) => self.handle_reserve(client, id, &reserve, now),
            Body::Heartbeat(heartbeat) => self.handle_heartbeat(client, id, heartbeat),
            Body::Publish(publish) => self.handle_publish(client, id, publish, now),
            Body::LookUp(look_up) => {
                self.figures.lookups += 1;
                self.handle_look_up(client, id, &look_up, now);
            }
            Body::GrantRequest(request) => self.handle_grant_request(client, id, &request, now),
            Body::SupernodesRequest(request) => self.handle_supernodes_request(client, id, &request, now),
            Body::Presence(presence) => self.handle_presence(client, id, &presence),
            Body::DeviceSetNotice(notice) => self.handle_device_set_notice(client, id, &notice, now),
            Body::CheckRequest(request) => self.handle_check_request(client, id, &request, now),
            Body::ReserveNotice(notice) => self.handle_reserve_notice(client, id, &notice, now),
            Body::LoadRequest(_) => self.handle_load_request(client, id, now),
            Body::Invitation(invitation) => {
                self.handle_invitation(client, id, invitation.invitation.as_ref(), now);
            }
            _ => self.fail(client, id, FailureCode::UnknownRequest, "that is an answer, not a request"),
        }
    }

    /// What is shed when there is too much to do, and when. Nothing: it has a bound of its own.
    fn work_of(&self, client: ClientRef, body: &Body) -> Option<Work> {
        Some(match body {
            // A heartbeat refused would cost as much as one answered, and lose a client who has a place here.
            Body::Heartbeat(_) | Body::Invitation(_) => return None,
            Body::CheckRequest(_) => Work::Check,
            Body::Presence(_) => Work::Presence,
            // Nobody else can know the tag of a call, nor take the place of a device.
            Body::GrantRequest(request) if self.granting.is_known(&request.call_tag) => Work::CallInProgress,
            Body::Reserve(reserve) if reserve.in_call && self.goes_on(client, &reserve.resume_ticket) => {
                Work::CallInProgress
            }
            Body::GrantRequest(_) => Work::Call,
            Body::Reserve(_) | Body::Publish(_) | Body::DeviceSetNotice(_) => Work::Signalling,
            _ => Work::Search,
        })
    }

    fn goes_on(&self, client: ClientRef, ticket: &[u8]) -> bool {
        let device = self.clients.get(&client).map(Client::device);
        device.is_some_and(|device| self.reserving.goes_on(device, ticket))
    }

    // ---- hello ----------------------------------------------------------------------------------------------------

    fn hello(&self, now: Now) -> HomeHello {
        let relays = self.roles.contains(Roles::RELAY) && self.config.relay_secret.is_some();
        let grants = if relays { feature::GRANTS } else { 0 };
        let homes = if self.roles.contains(Roles::DIRECTORY) { feature::HOME_ALL } else { 0 };
        HomeHello {
            version_min: VERSIONS.min,
            version_max: VERSIONS.max,
            features: homes | grants,
            software: self.config.software.clone(),
            descriptor: self.exchange.own().map(|own| own.signed().clone()),
            time_s: now.unix_ms / 1_000,
        }
    }

    fn handle_hello(&mut self, client: ClientRef, hello: &HomeHello, now: Now) {
        let theirs = VersionRange { min: hello.version_min, max: hello.version_max };
        if let Err(error) = negotiate(VERSIONS, theirs) {
            self.drop_client(client, 0, FailureCode::NoCommonVersion, &error.to_string(), now);
            return;
        }
        let Some(state) = self.clients.get_mut(&client) else { return };
        state.skew_s = hello.time_s.cast_signed().saturating_sub((now.unix_ms / 1_000).cast_signed());
        match (&hello.descriptor, state.outbound) {
            (Some(signed), _) => self.greet_supernode(client, &signed.clone(), now),
            (None, true) => state.phase = Phase::Supernode,
            (None, false) => state.phase = Phase::Device,
        }
        self.bring_invitation(now);
        // A young network finds itself faster when nobody waits for the next tick.
        self.connect(now);
        self.ask_neighbours(now);
    }

    fn greet_supernode(&mut self, client: ClientRef, signed: &Signed, now: Now) {
        let Some(state) = self.clients.get_mut(&client) else { return };
        match SupernodeDescriptor::verify(signed, now.unix_ms) {
            Ok(descriptor) if descriptor.service() == state.service() => {
                state.phase = Phase::Supernode;
                self.meet(descriptor);
            }
            Ok(_) => {
                let detail = "the descriptor is another supernode's";
                self.drop_client(client, 0, FailureCode::BadCredentials, detail, now);
            }
            Err(error) => {
                let code = self.blame(client, FailureCode::BadCredentials);
                self.drop_client(client, 0, code, &error.to_string(), now);
            }
        }
    }

    /// The same failure, or the clock if the other's differs by more than is tolerated.
    fn blame(&self, client: ClientRef, otherwise: FailureCode) -> FailureCode {
        let skew_s = self.clients.get(&client).map_or(0, |state| state.skew_s.unsigned_abs());
        if skew_s > tandem_proto::signed::CLOCK_SKEW_MS / 1_000 { FailureCode::ClockSkew } else { otherwise }
    }

    // ---- time -----------------------------------------------------------------------------------------------------

    /// A moment named by [`Self::poll_timeout`] came. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Now) {
        self.drive(now);
    }

    /// When to call [`Self::handle_timeout`] (monotonic, in milliseconds).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        Some(self.tick_ms)
    }

    /// What the machine's line carries, 0 to 100 % of what its owner allows.
    pub fn set_machine_load(&mut self, percent: u32, now: Now) {
        self.machine.set_line(percent);
        self.take_machine_load(now);
    }

    /// What this node took of the machine's processors since the last time, or would have taken had they been free, 0 to
    /// 100 %. It counts for what it lasted (about a minute), so that a spike sheds nothing; and what is shed is taken up
    /// again only when the load has clearly fallen.
    pub fn note_processor_load(&mut self, percent: u32, now: Now) {
        self.machine.note_processors(percent, now);
        self.take_machine_load(now);
    }

    fn take_machine_load(&mut self, now: Now) {
        self.admission.set_machine_load(self.machine.load_percent());
        self.drive(now);
    }

    /// How full the relay beside it is, 0 to 100 % of the calls its owner allows: others see it in the descriptor, and
    /// nothing is refused here for it.
    pub fn set_relay_load(&mut self, percent: u32) {
        self.exchange.relay_load_percent = percent.min(100);
    }

    fn drive(&mut self, now: Now) {
        if now.mono_ms < self.tick_ms {
            return;
        }
        self.expire_clients(now);
        self.expire_directory(now);
        self.granting.forget_expired(now);
        self.reserving.places.forget_expired(now.mono_ms);
        self.drive_revoking(now);
        self.drive_candidates(now);
        self.drive_inviting(now);
        self.drive_exchange(now);
        self.drive_drain(now);
        let nothing_to_watch = self.clients.is_empty()
            && self.directory.is_idle()
            && self.inviting.is_idle()
            && !self.reserving.is_draining();
        let settled = self.exchange.is_settled() || self.standing() == Standing::Standby;
        self.tick_ms = now.mono_ms + if nothing_to_watch && settled { 5 } else { 1 } * TICK_MS;
    }

    fn expire_clients(&mut self, now: Now) {
        let life_ms_max = if self.standing() == Standing::Standby { STANDBY_STREAM_MS } else { u64::MAX };
        let dead = |state: &Client| now.mono_ms >= state.expires_ms(life_ms_max);
        let dead: Vec<ClientRef> =
            self.clients.iter().filter(|(_, state)| dead(state)).map(|(client, _)| *client).collect();
        for client in dead {
            self.commands.push_back(Command::Close(client));
            self.forget(client, now);
        }
    }

    /// The owner gives less, or more: devices reserved at once. Those that are stay.
    pub fn set_reservations_max(&mut self, reservations_max: usize) {
        self.config.reservations_max = reservations_max;
    }

    // ---- what to do -----------------------------------------------------------------------------------------------

    /// The next thing to do; drain it after every call.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Figures for metrics and for the ledger.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            clients: self.clients.len(),
            reserved: self.reserving.places.len(),
            supernodes_known: self.neighbours.len(),
            revoked: self.revoking.len(),
            ..self.figures
        }
    }

    /// Whether that device is reserved here now.
    #[must_use]
    pub fn is_reserved(&self, device: DeviceKey) -> bool {
        self.reserving.places.connection_of(device).is_some()
    }

    /// The devices that are reserved here now.
    pub fn reserved(&self) -> impl Iterator<Item = DeviceKey> {
        self.reserving.places.held().map(|(device, _)| device)
    }

    /// All supernodes known, this one excepted.
    pub fn supernodes(&self) -> impl Iterator<Item = &SupernodeDescriptor> {
        self.neighbours.descriptors()
    }

    // ---- answers --------------------------------------------------------------------------------------------------

    fn send(&mut self, client: ClientRef, id: u64, body: Body) {
        self.commands.push_back(Command::Send { client, frame: HomeFrame { id, body: Some(body) } });
    }

    fn fail(&mut self, client: ClientRef, id: u64, code: FailureCode, detail: &str) {
        let detail = shortened(detail).to_owned();
        self.send(client, id, Body::Failure(Failure { code: code.number(), detail }));
    }

    /// Refuses for now: for `retry_ms`, or for a while when nothing better is known.
    fn busy(&mut self, client: ClientRef, id: u64, retry_ms: Option<u64>, now: Now) {
        let asker = self.asker(client, now);
        self.busy_to(&asker, client, id, retry_ms, now);
    }

    fn busy_to(&mut self, asker: &Asker, client: ClientRef, id: u64, retry_ms: Option<u64>, now: Now) {
        self.figures.shed += 1;
        let retry_ms = match retry_ms {
            Some(ms) => ms + self.rng.below(500),
            None => self.rng.around(BUSY_MS, 50),
        };
        // Only those who need another home are told of others: a refusal must be cheap.
        let referrals = if retry_ms >= BUSY_MS / 2 { self.referrals(asker, now) } else { Vec::new() };
        let retry_after_ms = u32::try_from(retry_ms).unwrap_or(u32::MAX);
        self.send(client, id, Body::Busy(Busy { retry_after_ms, referrals }));
    }

    /// This client as somebody who asks for supernodes.
    fn asker(&self, client: ClientRef, now: Now) -> Asker {
        let state = self.clients.get(&client);
        let is_supernode = state.is_some_and(|state| state.phase == Phase::Supernode);
        Asker::new(state.and_then(|state| state.network), is_supernode, now)
    }

    fn referrals(&mut self, asker: &Asker, now: Now) -> Vec<Signed> {
        self.neighbours.forget_expired(now);
        let referrals = self.neighbours.referrals(REFERRALS, asker, &mut self.rng, now);
        referrals.into_iter().map(|descriptor| descriptor.signed().clone()).collect()
    }

    /// Says why, closes and forgets.
    fn drop_client(&mut self, client: ClientRef, id: u64, code: FailureCode, detail: &str, now: Now) {
        self.fail(client, id, code, detail);
        self.commands.push_back(Command::Close(client));
        self.forget(client, now);
    }

    fn forget(&mut self, client: ClientRef, now: Now) {
        let Some(state) = self.clients.remove(&client) else { return };
        if let Some(subnet) = state.subnet
            && let Some(count) = self.subnets.get_mut(&subnet)
        {
            *count -= 1;
            if *count == 0 {
                self.subnets.remove(&subnet);
            }
        }
        self.reserving.places.lost(state.device(), client, now.mono_ms);
        self.directory.forget_client(client);
        self.forget_errands(client);
        if state.outbound && !state.for_invitation {
            self.exchange.dialled(state.service());
            self.neighbours.failed(state.service(), &mut self.rng, now);
        }
        if state.outbound {
            self.invitation_lost(state.service(), Some(client), now);
        } else if state.phase == Phase::Supernode {
            self.lost_sight_of(state.service());
        }
    }
}

/// As much as a `detail` may have.
fn shortened(detail: &str) -> &str {
    let fits = |end: &usize| detail.is_char_boundary(*end);
    let end = (0..=detail.len().min(FAILURE_DETAIL_BYTES_MAX)).rev().find(fits).unwrap_or(0);
    &detail[..end]
}

/// A supernode that is full, or leaving, should be tried again after about this long.
const BUSY_MS: u64 = 20_000;
