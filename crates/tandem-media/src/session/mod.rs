//! The network side of one call: str0m, TURN clients, the path set and its mirroring.
//!
//! [`Session`] is one leg of one call. It is fed with sockets, packets, the other end's words and the time; after each
//! feeding the driver empties [`Session::poll_command`], [`Session::poll_transmit`] and [`Session::poll_event`], and
//! calls [`Session::handle_timeout`] at [`Session::poll_timeout`].
//!
//! From the outside in: `relay_leg` speaks TURN with one relay, `path` knows one way to the other end, `paths` chooses
//! among them, `probe` is what keeps them known, `credit` tells copies from replays, `rtc` is the media engine, which
//! never learns that there is more than one way, and `counts` are the figures.

mod choice;
mod congestion;
mod counts;
mod credit;
mod description;
mod direct;
mod ending;
mod figures;
mod flow;
mod history;
mod incoming;
mod outgoing;
mod path;
mod paths;
mod probe;
mod reflexive;
mod relay_attempt;
mod relay_leg;
mod relay_watch;
mod rtc;
mod stream;
mod stun;
#[cfg(test)]
mod testing;
mod thrift;
mod types;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tandem_proto::ids::ServiceKey;
use tandem_proto::wire;

pub use types::{
    AddRelayError, Candidate, CandidateKind, CandidateOrigin, CandidateStats, DescriptionError, Event,
    PathEnd, PathId, PathSeries, PathState, PathStats, PathSwitch, Redundancy, RelayAccess, RelayStats,
    Route, SendError, SessionConfig, SessionStats, SocketCommand, SocketId, SocketKind, SocketPurpose,
    Transmit,
};

use congestion::{Inflow, StandingDelay};
use counts::{Arrivals, PathCounts};
use credit::SeenPackets;
use description::{PathName, PathNames};
use direct::Direct;
use ending::Ending;
use history::History;
use outgoing::Recent;
use paths::PathSet;
use probe::Entry;
use relay_leg::{LegContext, LegEvent, RelayLeg};
use rtc::RtcEngine;
use stun::Transactions;
use thrift::Thrift;

/// Relays of one session, failed ones not counted.
const RELAYS_MAX: usize = 12;
/// Failed ones that are remembered for people.
const RELAYS_REMEMBERED: usize = 20;
/// Candidates of the other end kept for relays we have no grant on yet.
const WAITING_MAX: usize = 32;
/// Events and datagrams kept for a driver that does not fetch them; the oldest go first.
const QUEUE_MAX: usize = 4096;
/// The longest Opus packet (RFC 6716 §3.4).
const OPUS_MAX: usize = 1275;

/// The media of one leg of a call.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    began: Instant,
    local: wire::MediaDescription,
    engine: RtcEngine,
    paths: PathSet,
    ways: BTreeMap<PathId, Way>,
    counts: BTreeMap<PathId, PathCounts>,
    legs: Vec<Leg>,
    /// What failed relays were like, for people.
    failed_relays: VecDeque<RelayStats>,
    direct: Direct,
    transactions: Transactions,
    udp_blocked: bool,
    waiting: VecDeque<(ServiceKey, SocketAddr)>,
    seen_sound: SeenPackets,
    seen_control: SeenPackets,
    arrivals: Arrivals,
    /// Queues on the paths on which sound comes, and what the other end says of ours.
    standing: BTreeMap<PathId, StandingDelay>,
    inflow: Inflow,
    thrift: Thrift,
    /// The newest probe whose word on that was taken.
    last_word: u32,
    history: History,
    recent: VecDeque<Recent>,
    sound_sent: u64,
    last_sequence: u64,
    /// Our RTP clock less the times that the driver gives.
    rtp_offset: Option<u32>,
    rejected: u64,
    next_socket: u32,
    next_path: u32,
    next_probe: u32,
    next_report: u64,
    last_signalled_report: u64,
    connected_at: Option<Instant>,
    ending: Option<Ending>,
    peer_ended: bool,
    closed: bool,
    commands: VecDeque<SocketCommand>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

/// How a path's packets leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Relay(ServiceKey),
    Direct { socket: SocketId, remote: SocketAddr },
}

#[derive(Debug)]
struct Leg {
    relay: RelayLeg,
    path: Option<PathId>,
}

impl Session {
    /// Begins the media of a leg. Makes a DTLS key, so it takes about a millisecond.
    #[must_use]
    pub fn new(config: SessionConfig, now: Instant) -> Self {
        let mut engine = RtcEngine::new(&config, now);
        Self {
            local: engine.local_description(),
            engine,
            paths: PathSet::new(config.redundancy, config.controlling),
            ways: BTreeMap::new(),
            counts: BTreeMap::new(),
            legs: Vec::new(),
            failed_relays: VecDeque::new(),
            direct: Direct::new(now),
            transactions: Transactions::new(config.seed.rotate_left(31)),
            udp_blocked: config.udp_blocked,
            waiting: VecDeque::new(),
            seen_sound: SeenPackets::new(config.seed),
            seen_control: SeenPackets::new(config.seed.rotate_left(17)),
            arrivals: Arrivals::default(),
            standing: BTreeMap::new(),
            inflow: Inflow::default(),
            thrift: Thrift::default(),
            last_word: 0,
            history: History::new(now),
            recent: VecDeque::new(),
            sound_sent: 0,
            last_sequence: 0,
            rtp_offset: None,
            rejected: 0,
            next_socket: 0,
            next_path: 0,
            next_probe: 1,
            next_report: 1,
            last_signalled_report: 0,
            connected_at: None,
            ending: None,
            peer_ended: false,
            closed: false,
            commands: VecDeque::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            began: now,
            config,
        }
    }

    // ---- set-up ----------------------------------------------------------------------------------------------

    /// What the other end needs to know of this one; goes into the offer or the answer.
    #[must_use]
    pub fn local_description(&self) -> wire::MediaDescription {
        self.local.clone()
    }

    /// Takes the other end's description. Saying the same twice is no error.
    ///
    /// # Errors
    /// If it cannot be used, or differs from one given before.
    pub fn handle_remote_description(
        &mut self,
        remote: &wire::MediaDescription,
        now: Instant,
    ) -> Result<(), DescriptionError> {
        self.engine.handle_remote_description(remote)?;
        self.paths.named(PathNames::new(&self.local.ice_pwd, &remote.ice_pwd));
        self.drain(now);
        Ok(())
    }

    /// Uses a relay: allocates there and, once the other end's candidate on the same relay is known, makes a path.
    /// At any time, also in mid-call. For a relay that is in use already, the new access replaces the old one.
    ///
    /// # Errors
    /// If the relay has no address, or there are too many.
    pub fn add_relay(&mut self, access: RelayAccess, now: Instant) -> Result<(), AddRelayError> {
        if access.udp.is_empty() && access.tcp.is_empty() {
            return Err(AddRelayError::NoAddress);
        }
        if let Some(index) = self.legs.iter().position(|leg| leg.relay.access.service == access.service) {
            self.with_leg(index, now, |leg, context, _| leg.renew(access, context));
            self.drain(now);
            return Ok(());
        }
        if self.legs.len() >= RELAYS_MAX && !self.drop_silent_relay(now) {
            return Err(AddRelayError::TooMany(RELAYS_MAX));
        }
        let mut context = LegContext {
            began: self.began,
            now,
            next_socket: &mut self.next_socket,
            transactions: &mut self.transactions,
            udp_blocked: self.udp_blocked,
            heard: None,
        };
        let mut relay = RelayLeg::new(access, &mut context);
        let service = relay.access.service;
        if let Some((_, remote)) = self.waiting.iter().rev().find(|(waiting, _)| *waiting == service) {
            relay.handle_remote(*remote, now);
        }
        self.legs.push(Leg { relay, path: None });
        self.drain(now);
        Ok(())
    }

    /// Asks for a UDP socket on this address for direct paths. Only between contacts: the other end learns it.
    pub fn add_host(&mut self, bind: IpAddr, now: Instant) {
        self.open_host(bind);
        self.drain(now);
    }

    /// A router forwards `external` to the host socket at `local` (PCP, NAT-PMP, UPnP): one more candidate.
    pub fn add_mapped(&mut self, local: SocketAddr, external: SocketAddr, now: Instant) {
        if self.direct.hosts.iter().any(|host| host.local == Some(local)) {
            self.local_candidate(CandidateOrigin::Mapped, external, None, now);
        }
        self.drain(now);
    }

    /// The addresses of this machine have changed; `hosts` are those there are now, none if there is no network. Host
    /// sockets follow, if [`Self::add_host`] was ever called. Every relay is reached anew on a new socket, at once; what
    /// there is stays in use until that works. Without a network all goes on trying.
    pub fn handle_network_changed(&mut self, hosts: &[IpAddr], now: Instant) {
        self.hosts_changed(hosts, now);
        for index in 0..self.legs.len() {
            if !hosts.is_empty() {
                self.with_leg(index, now, |leg, context, _| leg.handle_network_changed(context));
            }
        }
        self.drain(now);
    }

    /// Takes a candidate of the other end. A relayed one makes exactly one path, with ours on the same relay; it may
    /// come before our grant there does.
    pub fn handle_remote_candidate(&mut self, candidate: &Candidate, now: Instant) {
        let origin = match candidate.kind {
            CandidateKind::Host => CandidateOrigin::Host,
            CandidateKind::ServerReflexive => CandidateOrigin::ServerReflexive,
            CandidateKind::Relayed => CandidateOrigin::Relayed,
        };
        self.history.candidate(false, origin, candidate.addr, candidate.relay, now);
        match (candidate.kind, candidate.relay) {
            (CandidateKind::Relayed, Some(service)) => {
                if let Some(leg) = self.legs.iter_mut().find(|leg| leg.relay.access.service == service) {
                    leg.relay.handle_remote(candidate.addr, now);
                }
                self.waiting.retain(|(waiting, _)| *waiting != service);
                self.waiting.push_back((service, candidate.addr));
                while self.waiting.len() > WAITING_MAX {
                    self.waiting.pop_front();
                }
            }
            (CandidateKind::Relayed, None) => {}
            (CandidateKind::Host | CandidateKind::ServerReflexive, _) => {
                self.remote_address(origin, candidate.addr);
            }
        }
        self.drain(now);
    }

    // ---- sockets ---------------------------------------------------------------------------------------------

    /// A socket asked for is open; `local` is its own address.
    pub fn handle_socket(&mut self, id: SocketId, local: SocketAddr, now: Instant) {
        self.host_opened(id, local, now);
        for leg in &mut self.legs {
            leg.relay.handle_socket(id, local, now);
        }
        self.drain(now);
    }

    /// A socket asked for did not open, or is gone. Not for a passing error such as "unreachable".
    pub fn handle_socket_closed(&mut self, id: SocketId, reason: &str, now: Instant) {
        for index in 0..self.legs.len() {
            self.with_leg(index, now, |leg, context, _| leg.handle_socket_closed(id, reason, context));
        }
        self.host_closed(id, now);
        self.drain(now);
    }

    /// The kernel reported this UDP socket's far end unreachable (`ECONNREFUSED` and the like). Anybody can forge
    /// that, so it is a hint: sound is mirrored at once, and nothing is given up.
    pub fn handle_unreachable(&mut self, id: SocketId, now: Instant) {
        let leg = self.legs.iter().find(|leg| leg.relay.owns(id)).and_then(|leg| leg.path);
        let direct = || {
            let mut ways = self.ways.iter();
            ways.find(|(_, way)| matches!(way, Way::Direct { socket, .. } if *socket == id))
                .map(|(path, _)| *path)
        };
        if let Some(path) = leg.or_else(direct) {
            self.paths.doubt(path, now);
        }
        self.drain(now);
    }

    /// Takes a datagram, or for TCP a piece of the stream (an empty one means the far end closed it).
    pub fn handle_packet(&mut self, id: SocketId, from: SocketAddr, data: &[u8], now: Instant) {
        if !self.closed {
            self.take_packet(id, from, data, now);
            self.drain(now);
        }
    }

    // ---- the call --------------------------------------------------------------------------------------------

    /// Sends one Opus packet, of 20 ms unless [`Event::Rate`] asked for longer ones. `rtp_time` counts 48 kHz samples
    /// from anywhere; on the wire it continues the clock that probes carry.
    ///
    /// # Errors
    /// If the session is not connected, has ended, or the packet is longer than Opus packets are.
    pub fn send_opus(&mut self, payload: &[u8], rtp_time: u32, now: Instant) -> Result<(), SendError> {
        if self.is_ending() {
            return Err(SendError::Closed);
        }
        if !self.engine.is_connected() {
            return Err(SendError::NotConnected);
        }
        if payload.len() > OPUS_MAX {
            return Err(SendError::TooLong(payload.len()));
        }
        let clock = self.clock(now);
        let rtp_time = rtp_time.wrapping_add(*self.rtp_offset.get_or_insert(clock.wrapping_sub(rtp_time)));
        self.last_sequence = self.engine.send(payload, rtp_time, now);
        self.sound_sent += 1;
        self.drain(now);
        self.paths.sound_sent(self.last_sequence, rtp_time, now);
        Ok(())
    }

    /// Takes "I don't hear you on path N" from the other end by way of signalling. Only bad news is taken from it:
    /// good news comes faster on the paths themselves.
    pub fn handle_path_report(&mut self, report: &wire::PathReport, now: Instant) {
        let Some(names) = self.paths.names().filter(|_| report.sequence > self.last_signalled_report) else {
            return;
        };
        let name = |relay: &[u8]| match ServiceKey::try_from(relay) {
            Ok(service) => names.of_relay(&service),
            Err(_) => PathName::DIRECT,
        };
        let unheard = report.paths.iter().take(probe::MAX_ENTRIES).filter(|path| !path.hears);
        let entries = unheard.map(|path| Entry {
            name: name(&path.relay),
            age_ms: probe::NEVER,
            lost_permille: u16::try_from(path.lost_permille.min(1000)).unwrap_or(1000),
        });
        let entries: Vec<Entry> = entries.collect();
        self.last_signalled_report = report.sequence;
        self.paths.told(&entries, now);
        self.drain(now);
    }

    /// Ends the session at once: says so on every path, gives allocations back and closes sockets. Fetch the last
    /// transmits and commands after it. [`Self::end`] makes surer that the other end hears of it.
    pub fn close(&mut self, reason: &str, now: Instant) {
        if self.closed {
            return;
        }
        self.say_end_once(now);
        self.closed = true;
        for leg in &mut self.legs {
            leg.relay.close(now, &mut |transmit| self.transmits.push_back(transmit));
        }
        for index in 0..self.legs.len() {
            self.take_leg_events(index, now);
        }
        for host in std::mem::take(&mut self.direct.hosts) {
            self.commands.push_back(SocketCommand::Close { id: host.socket });
        }
        self.push_event(Event::Closed { reason: reason.to_owned() });
    }

    // ---- time and output -------------------------------------------------------------------------------------

    /// To be called at or after [`Self::poll_timeout`]; earlier does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        self.ending_timeout(now);
        if self.closed {
            return;
        }
        self.engine.handle_timeout(now);
        if self.engine.remote_password().is_some() {
            self.paths.handle_timeout(now);
        }
        self.drain(now);
    }

    /// When [`Self::handle_timeout`] is wanted next; `None` once closed.
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        if self.closed {
            return None;
        }
        let described = self.engine.remote_password().is_some();
        let paths = self.paths.poll_timeout(now).filter(|_| described);
        let legs = self.legs.iter_mut().filter_map(|leg| leg.relay.poll_timeout(now)).min();
        let others = [self.direct_timeout(), self.ending_deadline()];
        [self.engine.poll_timeout(), paths, legs].into_iter().chain(others).flatten().min()
    }

    /// The next thing to do with a socket.
    pub fn poll_command(&mut self) -> Option<SocketCommand> {
        self.commands.pop_front()
    }

    /// The next bytes to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    // ---- figures ---------------------------------------------------------------------------------------------

    /// Whether sound can be sent.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        !self.is_ending() && self.engine.is_connected()
    }

    // ---- inside ----------------------------------------------------------------------------------------------

    /// Brings everything that follows from what happened to its end (STYLE 3).
    fn drain(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        for index in 0..self.legs.len() {
            self.with_leg(index, now, |leg, context, out| leg.drive(context, out));
            self.take_leg_events(index, now);
        }
        self.leave_relays(now);
        self.drop_failed_legs();
        self.drive_direct(now);
        if self.paths.primary().is_some() {
            self.engine.start(now);
        }
        self.drain_engine(now);
        self.drain_decisions(now);
        self.send_probes(now);
        while self.transmits.len() > QUEUE_MAX {
            self.transmits.pop_front();
        }
    }

    /// The 48 kHz clock by which probes and sound are stamped. Its start is random (RFC 3550 §5.1).
    fn clock(&self, now: Instant) -> u32 {
        let ticks = now.saturating_duration_since(self.began).as_micros() * 48 / 1_000;
        #[expect(clippy::cast_possible_truncation, reason = "an RTP clock wraps")]
        let clock = (ticks as u32).wrapping_add((self.config.seed >> 32) as u32);
        clock
    }

    /// Does something with a relay's leg, which gets what it needs of the session.
    fn with_leg(
        &mut self,
        index: usize,
        now: Instant,
        act: impl FnOnce(&mut RelayLeg, &mut LegContext<'_>, &mut dyn FnMut(Transmit)),
    ) {
        let leg = &mut self.legs[index];
        let path = leg.path.and_then(|path| self.paths.get(path));
        let mut context = LegContext {
            began: self.began,
            now,
            next_socket: &mut self.next_socket,
            transactions: &mut self.transactions,
            udp_blocked: self.udp_blocked,
            heard: path.and_then(|path| Some((path.last_heard?, path.quiet_after()))),
        };
        let transmits = &mut self.transmits;
        act(&mut leg.relay, &mut context, &mut |transmit| transmits.push_back(transmit));
    }

    fn drop_failed_legs(&mut self) {
        for leg in self.legs.extract_if(.., |leg| leg.relay.has_failed()) {
            if self.failed_relays.len() == RELAYS_REMEMBERED {
                self.failed_relays.pop_front();
            }
            self.failed_relays.push_back(leg.relay.stats());
        }
    }

    fn take_leg_events(&mut self, index: usize, now: Instant) {
        let service = self.legs[index].relay.access.service;
        for event in self.legs[index].relay.events() {
            match event {
                LegEvent::Open(id, kind) => self.commands.push_back(SocketCommand::Open { id, kind }),
                LegEvent::Close(id) => self.commands.push_back(SocketCommand::Close { id }),
                LegEvent::Allocated(addr) => {
                    self.local_candidate(CandidateOrigin::Relayed, addr, Some(service), now);
                }
                LegEvent::Bound => {
                    let route = Route::Relay { service, tcp: self.legs[index].relay.over_tcp() };
                    match self.legs[index].path {
                        Some(path) => self.paths.moved(path, route, now),
                        None => self.legs[index].path = self.open_path(route, Way::Relay(service), now),
                    }
                }
                LegEvent::UdpBlocked => {
                    if !std::mem::replace(&mut self.udp_blocked, true) {
                        self.push_event(Event::UdpSeemsBlocked);
                    }
                }
                LegEvent::Silent => self.push_event(Event::RelaySilent { relay: service }),
                LegEvent::Back => self.push_event(Event::RelayBack { relay: service }),
                LegEvent::Leaving => {
                    if let Some(path) = self.legs[index].path {
                        self.paths.leaving(path, now);
                    }
                    self.push_event(Event::RelayLeaving { relay: service });
                }
                LegEvent::GrantStale => self.push_event(Event::GrantStale { relay: service }),
                LegEvent::Failed { reason, retry_after } => {
                    if let Some(path) = self.legs[index].path {
                        self.paths.closed(path, now);
                    }
                    self.push_event(Event::RelayFailed { relay: service, reason, retry_after });
                }
            }
        }
    }

    /// Makes room for another relay: the one that has long been silent goes. `false` if all are in use.
    fn drop_silent_relay(&mut self, now: Instant) -> bool {
        let silent = |leg: &Leg| leg.path.is_none_or(|path| self.paths.long_silent(path, now));
        let Some(index) = self.legs.iter().position(silent) else { return false };
        self.give_back(index, now);
        self.drop_failed_legs();
        true
    }

    /// Gives back what relays gave that drain, once nobody needs it.
    fn leave_relays(&mut self, now: Instant) {
        for index in 0..self.legs.len() {
            let leg = &self.legs[index];
            if leg.relay.is_leaving() && leg.path.is_some_and(|path| self.paths.may_leave(path, now)) {
                self.give_back(index, now);
            }
        }
    }

    fn give_back(&mut self, index: usize, now: Instant) {
        self.legs[index].relay.close(now, &mut |transmit| self.transmits.push_back(transmit));
        if let Some(path) = self.legs[index].path {
            self.paths.closed(path, now);
        }
        self.take_leg_events(index, now);
    }

    fn open_path(&mut self, route: Route, way: Way, now: Instant) -> Option<PathId> {
        let id = PathId(self.next_path);
        if !self.paths.opened(id, route, now) {
            return None;
        }
        self.next_path += 1;
        self.ways.retain(|id, _| self.paths.get(*id).is_some());
        self.counts.retain(|id, _| self.paths.get(*id).is_some());
        self.standing.retain(|id, _| self.paths.get(*id).is_some());
        self.ways.insert(id, way);
        self.counts.insert(id, PathCounts::new());
        Some(id)
    }

    /// A new address of this end: noted, and told to the other end.
    fn local_candidate(
        &mut self,
        origin: CandidateOrigin,
        addr: SocketAddr,
        relay: Option<ServiceKey>,
        now: Instant,
    ) {
        let kind = match origin {
            CandidateOrigin::Host => CandidateKind::Host,
            CandidateOrigin::Relayed => CandidateKind::Relayed,
            _ => CandidateKind::ServerReflexive,
        };
        self.history.candidate(true, origin, addr, relay, now);
        self.push_event(Event::LocalCandidate(Candidate::new(kind, addr, relay)));
    }

    fn push_event(&mut self, event: Event) {
        if self.events.len() >= QUEUE_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

fn as_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
