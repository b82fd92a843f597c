//! One try to have an allocation on a relay: one socket, one TURN client.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use stun_types::message::TransactionId;
use tandem_proto::leaving;
use turn_client_proto::api::{
    DelayedMessageOrChannelSend, Transmit as TurnTransmit, TransmitBuild, TurnConfig, TurnEvent, TurnPollRet,
    TurnRecvRet,
};
use turn_client_proto::prelude::*;
use turn_client_proto::tcp::TurnClientTcp;
use turn_client_proto::types::{Instant as TurnInstant, TransportType, TurnCredentials};
use turn_client_proto::udp::TurnClientUdp;

use super::stream::{self, Stream};
use super::stun;
use super::types::{RelayAccess, SocketId, SocketKind, SocketPurpose, Transmit};

/// The TURN client leaves this long between two requests, which is ICE's pacing (RFC 8445 §14.2). With one relay each
/// request waits for the answer to the one before, so nothing is paced by it: it would only delay the call.
const CLIENT_PACING: Duration = Duration::from_millis(50);
/// How often the client's clock is moved on by that, at most, whatever a relay sends.
const HURRIES_MAX: u8 = 8;
/// Datagrams larger than this are no part of a call.
const DATAGRAM_MAX: usize = 2048;

turn_client_proto::impl_client!(pub(super) TurnClient, (Udp, TurnClientUdp), (Tcp, TurnClientTcp));

#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) socket: SocketId,
    pub(super) transport: TransportType,
    pub(super) server: SocketAddr,
    /// Of which race it is.
    pub(super) round: u32,
    local: Option<SocketAddr>,
    client: Option<TurnClient>,
    /// What came over TCP and is no whole message yet.
    stream: Stream,
    epoch: Instant,
    /// How often the client's clock was moved on before the channel was bound.
    hurries: u8,
    /// The socket was asked for.
    pub(super) began: Instant,
    /// The socket opened, or an answer came.
    pub(super) progress: Option<Instant>,
    pub(super) answered: Option<Instant>,
    /// The code of the last refusal.
    pub(super) refused: Option<u16>,
    /// How long it is not to be asked again, as that refusal said.
    pub(super) retry_after: Option<Duration>,
    /// The request that was challenged (401); a second one means that the grant is not believed.
    challenged: Option<TransactionId>,
    /// Where the server sees the socket: of the last answer, and of the allocation.
    seen_at: Option<SocketAddr>,
    pub(super) mapped: Option<SocketAddr>,
    pub(super) relayed: Option<SocketAddr>,
    /// The other end's relayed address that packets can be sent to.
    pub(super) bound: Option<SocketAddr>,
    pub(super) bound_at: Option<Instant>,
    /// When the channel is to be asked for (again); `None` while an answer is awaited.
    pub(super) bind_at: Option<Instant>,
    pub(super) binds_refused: u8,
    /// The relay says that it drains.
    pub(super) leaving: bool,
    /// It is of no use any more, and is closed then.
    pub(super) retired: Option<Instant>,
    pub(super) closed: bool,
}

impl Attempt {
    pub(super) fn new(
        socket: SocketId,
        (transport, server): (TransportType, SocketAddr),
        round: u32,
        epoch: Instant,
        now: Instant,
    ) -> Self {
        Self {
            socket,
            transport,
            server,
            round,
            local: None,
            client: None,
            stream: Stream::default(),
            epoch,
            hurries: 0,
            began: now,
            progress: None,
            answered: None,
            refused: None,
            retry_after: None,
            challenged: None,
            seen_at: None,
            mapped: None,
            relayed: None,
            bound: None,
            bound_at: None,
            bind_at: None,
            binds_refused: 0,
            leaving: false,
            retired: None,
            closed: false,
        }
    }

    /// The socket it needs.
    pub(super) fn socket_kind(&self, access: &RelayAccess) -> SocketKind {
        match self.transport {
            TransportType::Udp => SocketKind::Udp {
                bind: None,
                toward: Some(self.server),
                purpose: SocketPurpose::Relay(access.service),
            },
            TransportType::Tcp => SocketKind::Tcp { connect: self.server, relay: access.service },
        }
    }

    pub(super) fn is_tcp(&self) -> bool {
        self.transport == TransportType::Tcp
    }

    /// The socket is open: asks for an allocation.
    pub(super) fn opened(&mut self, local: SocketAddr, access: &RelayAccess, now: Instant) {
        let mut config = TurnConfig::new(TurnCredentials::new(&access.username, &access.password));
        config.set_request_retransmits(
            Duration::from_millis(200),
            Duration::from_secs(2),
            7,
            Duration::from_secs(2),
        );
        self.local = Some(local);
        self.progress = Some(now);
        self.client = Some(match self.transport {
            TransportType::Udp => TurnClient::Udp(TurnClientUdp::allocate(local, self.server, config)),
            TransportType::Tcp => TurnClient::Tcp(TurnClientTcp::allocate(local, self.server, config)),
        });
    }

    /// Takes what came on the socket; hands each datagram of the other end to `deliver`, and each answer to a Binding
    /// request of ours, which the TURN client knows nothing of, to `binding`.
    pub(super) fn take(
        &mut self,
        from: SocketAddr,
        data: &[u8],
        remote: Option<SocketAddr>,
        now: Instant,
        deliver: &mut dyn FnMut(&[u8]),
        binding: &mut dyn FnMut(stun::Answer),
    ) {
        if from != self.server {
            return;
        }
        // An answer: what it makes possible need not wait.
        if self.bound.is_none() {
            self.hurries = (self.hurries + 1).min(HURRIES_MAX);
        }
        if !self.is_tcp() {
            return self.take_message(data, remote, now, deliver, binding);
        }
        match self.stream.take(data) {
            Ok(messages) => {
                for message in &messages {
                    self.take_message(message, remote, now, deliver, binding);
                }
            }
            Err(stream::Foreign) => self.closed = true,
        }
    }

    fn take_message(
        &mut self,
        data: &[u8],
        remote: Option<SocketAddr>,
        now: Instant,
        deliver: &mut dyn FnMut(&[u8]),
        binding: &mut dyn FnMut(stun::Answer),
    ) {
        if leaving::is_notice(data) {
            self.leaving = true;
            return;
        }
        if let Some(answer) = stun::answer(data) {
            if answer.binding {
                return binding(answer);
            }
            self.answered.get_or_insert(now);
            self.progress = Some(now);
            self.refused = answer.refused;
            self.retry_after = answer.retry_after;
            self.seen_at = answer.mapped.or(self.seen_at);
            // The TURN client would go on asking.
            if answer.refused == Some(401) && self.relayed.is_none() {
                let first = *self.challenged.get_or_insert(answer.transaction);
                self.closed |= first != answer.transaction;
            }
        }
        let clock = self.clock(now);
        let bound = self.bound;
        let (Some(local), Some(client)) = (self.local, self.client.as_mut()) else { return };
        match client.recv(TurnTransmit::new(data, self.transport, self.server, local), clock) {
            TurnRecvRet::PeerData(peer) if Some(peer.peer) == remote || Some(peer.peer) == bound => {
                deliver(peer.data());
            }
            _ => {}
        }
    }

    /// Bytes for the server that are none of TURN's business.
    pub(super) fn to_server(&self, message: &[u8]) -> Transmit {
        self.transmit(self.server, message)
    }

    /// A datagram for the other end; `None` if nothing can be sent yet.
    pub(super) fn send(&mut self, data: &[u8], now: Instant) -> Option<Transmit> {
        let clock = self.clock(now);
        let remote = self.bound?;
        let client = self.client.as_mut()?;
        let build: TransmitBuild<DelayedMessageOrChannelSend<&[u8]>> =
            client.send_to(TransportType::Udp, remote, data, clock).ok()??;
        let mut out = [0; DATAGRAM_MAX];
        if data.len() + 64 > out.len() {
            return None;
        }
        let written = build.write_into(&mut out);
        Some(self.transmit(written.to, written.data))
    }

    /// Asks for a channel to this address of the other end.
    ///
    /// # Errors
    /// The client's reason, if it cannot even ask.
    pub(super) fn bind(&mut self, remote: SocketAddr, now: Instant) -> Result<(), String> {
        let clock = self.clock(now);
        self.bind_at = None;
        let Some(client) = self.client.as_mut() else { return Ok(()) };
        client.bind_channel(TransportType::Udp, remote, clock).map_err(|error| error.to_string())
    }

    /// The allocation is made: where the server sees us is known for certain.
    pub(super) fn allocated(&mut self, relayed: SocketAddr, now: Instant) {
        self.relayed = Some(relayed);
        self.mapped = self.seen_at;
        self.bind_at = Some(now);
    }

    /// Gives the allocation back, if there is one.
    pub(super) fn give_back(&mut self, now: Instant, out: &mut dyn FnMut(Transmit)) {
        let clock = self.clock(now);
        if let Some(client) = self.client.as_mut() {
            // Nothing to delete yet, or deleted already: both are what is wanted.
            drop(client.delete(clock));
        }
        self.drive(now, out, &mut Vec::new());
    }

    pub(super) fn drive(
        &mut self,
        now: Instant,
        out: &mut dyn FnMut(Transmit),
        happened: &mut Vec<(SocketId, TurnEvent)>,
    ) {
        let clock = self.clock(now);
        let Some(mut client) = self.client.take() else { return };
        self.closed |= matches!(client.poll(clock), TurnPollRet::Closed);
        while let Some(transmit) = client.poll_transmit(clock) {
            out(self.transmit(transmit.to, &transmit.data));
        }
        while let Some(event) = client.poll_event() {
            happened.push((self.socket, event));
        }
        self.client = Some(client);
    }

    pub(super) fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let clock = self.clock(now);
        let (epoch, ahead) = (self.epoch, self.ahead());
        let next = match self.client.as_mut()?.poll(clock) {
            TurnPollRet::WaitUntil(at) => std_instant(epoch, at, ahead),
            // Found out in the next `drive`.
            TurnPollRet::Closed if !self.closed => now,
            _ => return None,
        };
        Some(next)
    }

    fn clock(&self, now: Instant) -> TurnInstant {
        let nanos = (now.saturating_duration_since(self.epoch) + self.ahead()).as_nanos();
        TurnInstant::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    /// How far the client's clock is ahead. What it times afterwards are minutes.
    fn ahead(&self) -> Duration {
        CLIENT_PACING * u32::from(self.hurries)
    }

    /// A message of ours as its transport wants it.
    fn transmit(&self, to: SocketAddr, message: &[u8]) -> Transmit {
        let mut data = message.to_vec();
        if self.is_tcp() {
            stream::pad(&mut data);
        }
        Transmit { socket: self.socket, to, data }
    }
}

fn std_instant(epoch: Instant, at: TurnInstant, ahead: Duration) -> Instant {
    let clock = Duration::from_nanos(u64::try_from(at.as_nanos()).unwrap_or(0));
    epoch.checked_add(clock.saturating_sub(ahead)).unwrap_or(epoch)
}
