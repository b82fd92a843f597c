//! This end's allocation on one relay: TURN over UDP, and over TCP where UDP gets no answer.
//!
//! The first of the two to get an allocation is kept for the life of the session and refreshed by the TURN client.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use turn_client_proto::api::{
    DelayedMessageOrChannelSend, Transmit as TurnTransmit, TransmitBuild, TurnConfig, TurnEvent, TurnPollRet,
    TurnRecvRet,
};
use turn_client_proto::prelude::*;
use turn_client_proto::tcp::TurnClientTcp;
use turn_client_proto::types::{Instant as TurnInstant, TransportType, TurnCredentials};
use turn_client_proto::udp::TurnClientUdp;

use super::stream::{self, Stream};
use super::types::{RelayAccess, SocketId, SocketKind, SocketPurpose, Transmit};

/// UDP gets this long before TCP is raced.
const RACE_TCP: Duration = Duration::from_millis(500);
/// A relay that has given no allocation by then has failed.
const GIVE_UP: Duration = Duration::from_secs(8);
/// A refused channel is asked for again after this, this many times.
const BIND_AGAIN: Duration = Duration::from_millis(250);
const BINDS_MAX: u8 = 8;
/// The TURN client leaves this long between two requests, which is ICE's pacing (RFC 8445 §14.2). With one relay each
/// request waits for the answer to the one before, so nothing is paced by it: it would only delay the call.
const CLIENT_PACING: Duration = Duration::from_millis(50);
/// How often the client's clock is moved on by that, at most, whatever a relay sends.
const HURRIES_MAX: u8 = 8;
/// Datagrams larger than this are no part of a call.
const DATAGRAM_MAX: usize = 2048;

turn_client_proto::impl_client!(pub(super) TurnClient, (Udp, TurnClientUdp), (Tcp, TurnClientTcp));

/// What became of a leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LegEvent {
    /// Open this socket.
    Open(SocketId, SocketKind),
    Close(SocketId),
    /// This relayed address is ours.
    Allocated(SocketAddr),
    /// Packets can pass to the other end's relayed address.
    Bound,
    Failed(String),
}

#[derive(Debug)]
pub(super) struct RelayLeg {
    pub(super) access: RelayAccess,
    epoch: Instant,
    /// How often the client's clock was moved on before the channel was bound.
    hurries: u8,
    started: Instant,
    attempts: Vec<Attempt>,
    tcp_tried: bool,
    /// The other end's relayed address.
    remote: Option<SocketAddr>,
    allocated: bool,
    /// When the channel is to be asked for (again); `None` while an answer is awaited.
    bind_at: Option<Instant>,
    binds_refused: u8,
    bound: bool,
    failed: bool,
    events: Vec<LegEvent>,
}

#[derive(Debug)]
struct Attempt {
    socket: SocketId,
    transport: TransportType,
    server: SocketAddr,
    local: Option<SocketAddr>,
    client: Option<TurnClient>,
    /// What came over TCP and is no whole message yet.
    stream: Stream,
    closed: bool,
}

impl RelayLeg {
    /// `epoch` is where the TURN client's clock starts; `next_socket` numbers sockets.
    pub(super) fn new(access: RelayAccess, epoch: Instant, now: Instant, next_socket: &mut u32) -> Self {
        let mut leg = Self {
            access,
            epoch,
            hurries: 0,
            started: now,
            attempts: Vec::new(),
            tcp_tried: false,
            remote: None,
            allocated: false,
            bind_at: Some(now),
            binds_refused: 0,
            bound: false,
            failed: false,
            events: Vec::new(),
        };
        match leg.access.udp.first().copied() {
            Some(server) => leg.attempt(TransportType::Udp, server, next_socket),
            None => leg.try_tcp(next_socket),
        }
        leg
    }

    pub(super) fn events(&mut self) -> Vec<LegEvent> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn owns(&self, socket: SocketId) -> bool {
        self.attempts.iter().any(|attempt| attempt.socket == socket)
    }

    /// Whether the allocation in use was made over TCP.
    pub(super) fn over_tcp(&self) -> bool {
        self.attempts.first().is_some_and(|attempt| attempt.transport == TransportType::Tcp)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    pub(super) fn handle_socket(&mut self, socket: SocketId, local: SocketAddr) {
        let credentials = TurnCredentials::new(&self.access.username, &self.access.password);
        let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.socket == socket) else { return };
        let mut config = TurnConfig::new(credentials);
        config.set_request_retransmits(
            Duration::from_millis(200),
            Duration::from_secs(2),
            7,
            Duration::from_secs(2),
        );
        attempt.local = Some(local);
        attempt.client = Some(match attempt.transport {
            TransportType::Udp => TurnClient::Udp(TurnClientUdp::allocate(local, attempt.server, config)),
            TransportType::Tcp => TurnClient::Tcp(TurnClientTcp::allocate(local, attempt.server, config)),
        });
    }

    pub(super) fn handle_socket_closed(&mut self, socket: SocketId, reason: &str, next_socket: &mut u32) {
        if self.owns(socket) {
            self.attempts.retain(|attempt| attempt.socket != socket);
            self.attempt_failed(reason, next_socket);
        }
    }

    /// The other end's relayed address on this relay, once it is known.
    pub(super) fn handle_remote(&mut self, remote: SocketAddr) {
        self.remote.get_or_insert(remote);
    }

    /// Takes what came on a socket; hands each datagram of the other end to `deliver`.
    pub(super) fn handle_packet(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        data: &[u8],
        now: Instant,
        deliver: &mut dyn FnMut(&[u8]),
    ) {
        let clock = self.clock(now);
        let remote = self.remote;
        let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.socket == socket) else { return };
        // An answer: what it makes possible need not wait.
        if !self.bound {
            self.hurries = (self.hurries + 1).min(HURRIES_MAX);
        }
        if attempt.transport == TransportType::Udp {
            return attempt.take_message(data, from, remote, clock, deliver);
        }
        match attempt.stream.take(data) {
            Ok(messages) => {
                for message in &messages {
                    attempt.take_message(message, from, remote, clock, deliver);
                }
            }
            Err(stream::Foreign) => attempt.closed = true,
        }
    }

    /// A datagram for the other end; `None` if this leg cannot send yet.
    pub(super) fn send(&mut self, data: &[u8], now: Instant) -> Option<Transmit> {
        let clock = self.clock(now);
        let remote = self.remote.filter(|_| self.bound)?;
        let attempt = self.attempts.first_mut()?;
        let client = attempt.client.as_mut()?;
        let build: TransmitBuild<DelayedMessageOrChannelSend<&[u8]>> =
            client.send_to(TransportType::Udp, remote, data, clock).ok()??;
        let mut out = [0; DATAGRAM_MAX];
        if data.len() + 64 > out.len() {
            return None;
        }
        let written = build.write_into(&mut out);
        Some(Attempt::transmit(attempt.socket, attempt.transport, written.to, written.data))
    }

    /// Lets the TURN clients work: requests, refreshes, answers. Datagrams go to `out`.
    pub(super) fn drive(&mut self, now: Instant, next_socket: &mut u32, out: &mut dyn FnMut(Transmit)) {
        if self.failed {
            return;
        }
        self.race(now, next_socket);
        let clock = self.clock(now);
        let mut happened = Vec::new();
        for attempt in &mut self.attempts {
            attempt.drive(clock, out, &mut happened);
        }
        for (socket, event) in happened {
            self.turn_event(socket, event, now, next_socket);
        }
        self.drop_closed(next_socket);
        self.bind(now, out);
    }

    pub(super) fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        if self.failed {
            return None;
        }
        let clock = self.clock(now);
        let (epoch, ahead) = (self.epoch, self.ahead());
        let clients = self.attempts.iter_mut().filter_map(|attempt| attempt.client.as_mut());
        let clients = clients.filter_map(|client| match client.poll(clock) {
            TurnPollRet::WaitUntil(at) => Some(std_instant(epoch, at, ahead)),
            _ => None,
        });
        let next = clients.min();
        let race = (!self.tcp_tried && !self.allocated && !self.access.tcp.is_empty())
            .then(|| self.started + RACE_TCP);
        let give_up = (!self.allocated).then(|| self.started + GIVE_UP);
        let bind = self.bind_at.filter(|_| self.allocated && self.remote.is_some());
        [next, race, give_up, bind].into_iter().flatten().min()
    }

    /// Gives the allocation back.
    pub(super) fn close(&mut self, now: Instant, out: &mut dyn FnMut(Transmit)) {
        let clock = self.clock(now);
        for attempt in &mut self.attempts {
            if let Some(client) = attempt.client.as_mut() {
                // Nothing to delete yet, or deleted already: both are what is wanted.
                drop(client.delete(clock));
            }
            attempt.drive(clock, out, &mut Vec::new());
        }
        self.events.extend(self.attempts.drain(..).map(|attempt| LegEvent::Close(attempt.socket)));
        self.failed = true;
    }

    // ---- inside ----------------------------------------------------------------------------------------------

    fn clock(&self, now: Instant) -> TurnInstant {
        let nanos = (now.saturating_duration_since(self.epoch) + self.ahead()).as_nanos();
        TurnInstant::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    /// How far the client's clock is ahead. What it times afterwards are minutes.
    fn ahead(&self) -> Duration {
        CLIENT_PACING * u32::from(self.hurries)
    }

    fn attempt(&mut self, transport: TransportType, server: SocketAddr, next_socket: &mut u32) {
        let socket = SocketId(*next_socket);
        *next_socket += 1;
        let kind = match transport {
            TransportType::Udp => SocketKind::Udp {
                bind: None,
                toward: Some(server),
                purpose: SocketPurpose::Relay(self.access.service),
            },
            TransportType::Tcp => SocketKind::Tcp { connect: server, relay: self.access.service },
        };
        self.events.push(LegEvent::Open(socket, kind));
        self.attempts.push(Attempt {
            socket,
            transport,
            server,
            local: None,
            client: None,
            stream: Stream::default(),
            closed: false,
        });
    }

    fn try_tcp(&mut self, next_socket: &mut u32) {
        if let Some(server) = self.access.tcp.first().copied().filter(|_| !self.tcp_tried) {
            self.tcp_tried = true;
            self.attempt(TransportType::Tcp, server, next_socket);
        }
    }

    fn race(&mut self, now: Instant, next_socket: &mut u32) {
        if self.allocated {
            return;
        }
        let waited = now.saturating_duration_since(self.started);
        if waited >= RACE_TCP {
            self.try_tcp(next_socket);
        }
        if waited >= GIVE_UP {
            self.fail("it did not answer");
        }
    }

    fn turn_event(&mut self, socket: SocketId, event: TurnEvent, now: Instant, next_socket: &mut u32) {
        match event {
            TurnEvent::AllocationCreated(_, relayed) if !self.allocated => {
                self.allocated = true;
                let (kept, lost) = self.attempts.drain(..).partition(|attempt| attempt.socket == socket);
                self.attempts = kept;
                let lost: Vec<Attempt> = lost;
                self.events.extend(lost.into_iter().map(|attempt| LegEvent::Close(attempt.socket)));
                self.events.push(LegEvent::Allocated(relayed));
            }
            TurnEvent::AllocationCreateFailed(_) => {
                self.attempts.retain(|attempt| attempt.socket != socket);
                self.events.push(LegEvent::Close(socket));
                self.attempt_failed("it refused to relay", next_socket);
            }
            TurnEvent::ChannelCreated(..) if !self.bound => {
                self.bound = true;
                self.events.push(LegEvent::Bound);
            }
            TurnEvent::ChannelCreateFailed(..) if self.bound => {
                // A refresh was refused: the relay no longer knows one of the two allocations.
                self.fail("it no longer relays this call");
            }
            TurnEvent::ChannelCreateFailed(..) => {
                // The other end's allocation may not be known there yet.
                self.binds_refused += 1;
                self.bind_at = Some(now + BIND_AGAIN);
                if self.binds_refused >= BINDS_MAX {
                    self.fail("it refused to join the two ends");
                }
            }
            _ => {}
        }
    }

    /// Asks for the channel to the other end, once both relayed addresses are known.
    fn bind(&mut self, now: Instant, out: &mut dyn FnMut(Transmit)) {
        let clock = self.clock(now);
        let (Some(remote), Some(at)) = (self.remote.filter(|_| self.allocated), self.bind_at) else { return };
        let Some(attempt) = self.attempts.first_mut().filter(|_| at <= now) else { return };
        let Some(client) = attempt.client.as_mut() else { return };
        self.bind_at = None;
        if let Err(error) = client.bind_channel(TransportType::Udp, remote, clock) {
            self.fail(&format!("no channel can be made there: {error}"));
            return;
        }
        attempt.drive(clock, out, &mut Vec::new());
    }

    fn attempt_failed(&mut self, reason: &str, next_socket: &mut u32) {
        if !self.allocated {
            self.try_tcp(next_socket);
        }
        if self.attempts.is_empty() {
            self.fail(reason);
        }
    }

    fn fail(&mut self, reason: &str) {
        if !self.failed {
            self.failed = true;
            self.events.extend(self.attempts.drain(..).map(|attempt| LegEvent::Close(attempt.socket)));
            self.events.push(LegEvent::Failed(reason.to_owned()));
        }
    }

    fn drop_closed(&mut self, next_socket: &mut u32) {
        let closed = |attempt: &Attempt| attempt.closed;
        if self.attempts.iter().any(closed) {
            for attempt in self.attempts.extract_if(.., |attempt| attempt.closed) {
                self.events.push(LegEvent::Close(attempt.socket));
            }
            self.attempt_failed("the allocation ended", next_socket);
        }
    }
}

impl Attempt {
    /// One whole message of the relay.
    fn take_message(
        &mut self,
        data: &[u8],
        from: SocketAddr,
        remote: Option<SocketAddr>,
        clock: TurnInstant,
        deliver: &mut dyn FnMut(&[u8]),
    ) {
        let (Some(local), Some(client)) = (self.local, self.client.as_mut()) else { return };
        match client.recv(TurnTransmit::new(data, self.transport, from, local), clock) {
            TurnRecvRet::PeerData(peer) if Some(peer.peer) == remote => deliver(peer.data()),
            _ => {}
        }
    }

    /// A message of ours as its transport wants it.
    fn transmit(socket: SocketId, transport: TransportType, to: SocketAddr, message: &[u8]) -> Transmit {
        let mut data = message.to_vec();
        if transport == TransportType::Tcp {
            stream::pad(&mut data);
        }
        Transmit { socket, to, data }
    }

    fn drive(
        &mut self,
        clock: TurnInstant,
        out: &mut dyn FnMut(Transmit),
        happened: &mut Vec<(SocketId, TurnEvent)>,
    ) {
        let Some(client) = self.client.as_mut() else { return };
        self.closed |= matches!(client.poll(clock), TurnPollRet::Closed);
        while let Some(transmit) = client.poll_transmit(clock) {
            out(Self::transmit(self.socket, self.transport, transmit.to, &transmit.data));
        }
        while let Some(event) = client.poll_event() {
            happened.push((self.socket, event));
        }
    }
}

fn std_instant(epoch: Instant, at: TurnInstant, ahead: Duration) -> Instant {
    let clock = Duration::from_nanos(u64::try_from(at.as_nanos()).unwrap_or(0));
    epoch.checked_add(clock.saturating_sub(ahead)).unwrap_or(epoch)
}
