//! This end's allocation on one relay: TURN over UDP of both families and over TCP, raced; made again on a new socket
//! when the server is silent or the network has changed, the old one in use until the new one can be.

mod race;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use turn_client_proto::api::TurnEvent;
use turn_client_proto::types::TransportType;

use super::as_ms;
use super::relay_attempt::Attempt;
use super::relay_watch::{Watch, WatchStep};
use super::stun;
use super::types::{RelayAccess, RelayStats, SocketId, SocketKind, Transmit};

/// A relay that has given no allocation by then has failed.
const GIVE_UP: Duration = Duration::from_secs(8);
/// A refused channel is asked for again after this, this many times.
const BIND_AGAIN: Duration = Duration::from_millis(250);
const BINDS_MAX: u8 = 8;
/// What lost a race is kept this long, to give back what the relay may yet have given it.
const LOSER_LINGERS: Duration = Duration::from_secs(1);
/// The socket before is kept this long: something may be on its way to it.
const OLD_LINGERS: Duration = Duration::from_secs(2);
/// A race that gets on is not begun anew before it has come to nothing for this long.
const ROUND_PATIENCE: Duration = Duration::from_millis(1500);
/// Sockets of one leg; the oldest that is not in use goes.
const ATTEMPTS_MAX: usize = 12;
/// How often the other end may name another relayed address.
const REMOTES_MAX: u8 = 64;

/// What became of a leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LegEvent {
    /// Open this socket.
    Open(SocketId, SocketKind),
    Close(SocketId),
    /// This relayed address is ours.
    Allocated(SocketAddr),
    /// Packets can pass to the other end's relayed address: for the first time, or by a new allocation.
    Bound,
    /// Over TCP it answers, over UDP it does not.
    UdpBlocked,
    /// It has answered nothing for a second.
    Silent,
    /// It answers again.
    Back,
    /// It drains: it serves on for a while, and the call is to move.
    Leaving,
    /// It refused the grant for a new allocation.
    GrantStale,
    /// It cannot be used. If it has no room, it said for how long it is not to be asked again.
    Failed {
        reason: String,
        retry_after: Option<Duration>,
    },
}

/// What a leg needs of the session.
pub(super) struct LegContext<'a> {
    pub(super) began: Instant,
    pub(super) now: Instant,
    pub(super) next_socket: &'a mut u32,
    pub(super) transactions: &'a mut stun::Transactions,
    pub(super) udp_blocked: bool,
    /// When something authentic last came by it, and how long a silence after that is strange.
    pub(super) heard: Option<(Instant, Duration)>,
}

#[derive(Debug)]
pub(super) struct RelayLeg {
    pub(super) access: RelayAccess,
    /// Of the session: where the TURN client's clock starts.
    began: Instant,
    attempts: Vec<Attempt>,
    /// The one through which packets pass.
    active: Option<SocketId>,
    round: Round,
    watch: Watch,
    /// The other end's relayed address.
    remote: Option<SocketAddr>,
    remotes: u8,
    /// Ours, as it was told.
    relayed: Option<SocketAddr>,
    was_bound: bool,
    /// It said that it drains, and that was told.
    leaving: bool,
    failed: Option<String>,
    /// It was closed because it is not needed any more, which is no failure.
    left: bool,
    stats: Stats,
    events: Vec<LegEvent>,
}

/// One race for an allocation.
#[derive(Debug)]
struct Round {
    number: u32,
    began: Instant,
    family_tried: bool,
    tcp_tried: bool,
    /// Whether TCP takes part.
    tcp: bool,
    winner: Option<SocketId>,
    over: bool,
}

#[derive(Debug, Default)]
struct Stats {
    added: Option<Instant>,
    udp_tried: bool,
    tcp_tried: bool,
    udp_answer: Option<Duration>,
    tcp_answer: Option<Duration>,
    tcp443_answer: Option<Duration>,
    allocated: Option<Instant>,
    reallocations: u32,
}

impl RelayLeg {
    pub(super) fn new(access: RelayAccess, context: &mut LegContext<'_>) -> Self {
        let now = context.now;
        let round = Round {
            number: 0,
            began: now,
            family_tried: false,
            tcp_tried: false,
            tcp: true,
            winner: None,
            over: true,
        };
        let mut leg = Self {
            access,
            began: context.began,
            attempts: Vec::new(),
            active: None,
            round,
            watch: Watch::new(now),
            remote: None,
            remotes: 0,
            relayed: None,
            was_bound: false,
            leaving: false,
            failed: None,
            left: false,
            stats: Stats { added: Some(now), ..Stats::default() },
            events: Vec::new(),
        };
        leg.begin_round(true, context);
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
        self.in_use().is_some_and(Attempt::is_tcp)
    }

    /// Whether it said that it drains.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving && !self.has_failed()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// This end's relayed address and the other's.
    pub(super) fn ends(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        (self.relayed, self.remote)
    }

    pub(super) fn handle_socket(&mut self, socket: SocketId, local: SocketAddr, now: Instant) {
        let access = &self.access;
        if let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.socket == socket) {
            attempt.opened(local, access, now);
        }
    }

    pub(super) fn handle_socket_closed(
        &mut self,
        socket: SocketId,
        reason: &str,
        context: &mut LegContext<'_>,
    ) {
        if self.owns(socket) {
            self.attempts.retain(|attempt| attempt.socket != socket);
            self.lost(socket, reason, context);
        }
    }

    /// A new grant, perhaps with other addresses.
    pub(super) fn renew(&mut self, access: RelayAccess, context: &mut LegContext<'_>) {
        self.access = access;
        if self.watch.renewed(context.now) {
            self.begin_round(true, context);
        }
    }

    /// This machine has other addresses: a new allocation is made at once, the old one in use meanwhile.
    pub(super) fn handle_network_changed(&mut self, context: &mut LegContext<'_>) {
        if !self.has_failed() {
            self.watch.network_changed(context.now);
            self.begin_round(true, context);
        }
    }

    /// The other end's relayed address on this relay. It changes when the relay forgot the one before.
    pub(super) fn handle_remote(&mut self, remote: SocketAddr, now: Instant) {
        if self.remote == Some(remote) || self.remotes >= REMOTES_MAX {
            return;
        }
        self.remotes += 1;
        let first = self.remote.replace(remote).is_none();
        for attempt in self.attempts.iter_mut().filter(|attempt| attempt.relayed.is_some()) {
            attempt.binds_refused = 0;
            attempt.bind_at = Some(if first { now } else { now + BIND_AGAIN });
        }
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
        let remote = self.remote;
        let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.socket == socket) else { return };
        let (mapped, in_use) = (attempt.mapped, self.active == Some(socket));
        let watch = &mut self.watch;
        let mut binding = |answer: stun::Answer| {
            if in_use {
                watch.answered(answer, mapped, now);
            }
        };
        attempt.take(from, data, remote, now, deliver, &mut binding);
        if in_use && attempt.leaving && !self.leaving {
            self.leaving = true;
            self.events.push(LegEvent::Leaving);
        }
        if attempt.answered == Some(now) {
            let took = now.saturating_duration_since(attempt.began);
            let best = match (attempt.transport, attempt.server.port()) {
                (TransportType::Udp, _) => &mut self.stats.udp_answer,
                (TransportType::Tcp, 443) => &mut self.stats.tcp443_answer,
                (TransportType::Tcp, _) => &mut self.stats.tcp_answer,
            };
            *best = Some(best.map_or(took, |best| best.min(took)));
        }
    }

    /// A datagram for the other end; `None` if this leg cannot send yet.
    pub(super) fn send(&mut self, data: &[u8], now: Instant) -> Option<Transmit> {
        let active = self.active?;
        self.attempts.iter_mut().find(|attempt| attempt.socket == active)?.send(data, now)
    }

    /// Lets the TURN clients work: requests, refreshes, answers. Datagrams go to `out`.
    pub(super) fn drive(&mut self, context: &mut LegContext<'_>, out: &mut dyn FnMut(Transmit)) {
        if self.has_failed() {
            return;
        }
        let now = context.now;
        self.watch(context, out);
        self.race(context);
        let mut happened = Vec::new();
        for attempt in &mut self.attempts {
            attempt.drive(now, out, &mut happened);
        }
        for (socket, event) in happened {
            self.turn_event(socket, &event, context, out);
        }
        self.drop_closed(context);
        self.bind(now, out);
        self.drop_retired(now, out);
    }

    pub(super) fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        if self.has_failed() {
            return None;
        }
        let bindable = self.remote.is_some();
        let clients = self.attempts.iter_mut().filter_map(|attempt| {
            let bind = attempt.bind_at.filter(|_| bindable && attempt.retired.is_none());
            [attempt.poll_timeout(now), bind, attempt.retired].into_iter().flatten().min()
        });
        let clients = clients.min();
        [clients, self.race_timeout(), self.watch_timeout()].into_iter().flatten().min()
    }

    /// Gives the allocation back.
    pub(super) fn close(&mut self, now: Instant, out: &mut dyn FnMut(Transmit)) {
        for attempt in &mut self.attempts {
            attempt.give_back(now, out);
        }
        self.left = self.failed.is_none();
        self.end("it was left");
    }

    pub(super) fn stats(&self) -> RelayStats {
        let at = |at: Instant| as_ms(at.saturating_duration_since(self.began));
        RelayStats {
            service: self.access.service,
            added_ms: self.stats.added.map_or(0, at),
            udp_tried: self.stats.udp_tried,
            tcp_tried: self.stats.tcp_tried,
            udp_answer_ms: self.stats.udp_answer.map(as_ms),
            tcp_answer_ms: self.stats.tcp_answer.map(as_ms),
            tcp443_answer_ms: self.stats.tcp443_answer.map(as_ms),
            allocated_ms: self.stats.allocated.map(at),
            over_tcp: self.over_tcp(),
            server: self.in_use().map(|attempt| attempt.server),
            reallocations: self.stats.reallocations,
            silent: self.watch.is_silent(),
            failed: self.failed.clone().filter(|_| !self.left),
        }
    }

    // ---- what the TURN clients tell --------------------------------------------------------------------------

    fn turn_event(
        &mut self,
        socket: SocketId,
        event: &TurnEvent,
        context: &mut LegContext<'_>,
        out: &mut dyn FnMut(Transmit),
    ) {
        match event {
            TurnEvent::AllocationCreated(_, relayed) => self.allocated(socket, *relayed, context.now, out),
            TurnEvent::AllocationCreateFailed(_) => {
                let Some(index) = self.attempts.iter().position(|attempt| attempt.socket == socket) else {
                    return;
                };
                let attempt = self.attempts.remove(index);
                self.events.push(LegEvent::Close(socket));
                self.ended(&attempt, "it refused to relay", context);
            }
            TurnEvent::ChannelCreated(_, peer) => self.channel_made(socket, *peer, context.now),
            TurnEvent::ChannelCreateFailed(_, peer) => self.channel_refused(socket, *peer, context),
            _ => {}
        }
    }

    fn allocated(
        &mut self,
        socket: SocketId,
        relayed: SocketAddr,
        now: Instant,
        out: &mut dyn FnMut(Transmit),
    ) {
        let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.socket == socket) else { return };
        let late = attempt.retired.is_some() || self.round.winner.is_some_and(|winner| winner != socket);
        if late {
            attempt.give_back(now, out);
            attempt.retired = Some(now);
            return;
        }
        attempt.allocated(relayed, now);
        let over_tcp = attempt.is_tcp();
        let unanswered = self.of_round().any(|attempt| !attempt.is_tcp() && attempt.progress.is_some());
        if over_tcp && unanswered && !self.udp_answered() {
            self.events.push(LegEvent::UdpBlocked);
        }
        self.round.winner = Some(socket);
        for loser in &mut self.attempts {
            if loser.socket != socket && self.active != Some(loser.socket) {
                loser.retired.get_or_insert(now + LOSER_LINGERS);
            }
        }
        if self.stats.allocated.replace(self.stats.allocated.unwrap_or(now)).is_some() {
            self.stats.reallocations += 1;
        }
        if self.relayed.replace(relayed) != Some(relayed) {
            self.events.push(LegEvent::Allocated(relayed));
        }
    }

    fn channel_made(&mut self, socket: SocketId, peer: SocketAddr, now: Instant) {
        let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.socket == socket) else { return };
        // A refresh is told too.
        if attempt.retired.is_some() || attempt.bound == Some(peer) || self.remote != Some(peer) {
            return;
        }
        attempt.bound = Some(peer);
        attempt.bound_at = Some(now);
        if let Some(before) = self.active.replace(socket).filter(|before| *before != socket) {
            let old = self.attempts.iter_mut().filter(|attempt| attempt.socket == before);
            old.for_each(|old| old.retired = Some(now + OLD_LINGERS));
        }
        self.round.over = true;
        self.was_bound = true;
        if self.watch.joined(now) {
            self.events.push(LegEvent::Back);
        }
        self.events.push(LegEvent::Bound);
    }

    fn channel_refused(&mut self, socket: SocketId, peer: SocketAddr, context: &mut LegContext<'_>) {
        let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.socket == socket) else { return };
        if attempt.retired.is_some() || self.remote != Some(peer) {
            return;
        }
        if attempt.bound == Some(peer) {
            // A refresh was refused: the relay no longer knows one of the two allocations.
            self.begin_round(true, context);
            return;
        }
        // The other end's allocation may not be known there yet.
        attempt.binds_refused = attempt.binds_refused.saturating_add(1);
        let slow = attempt.binds_refused >= BINDS_MAX;
        attempt.bind_at = Some(context.now + if slow { 2 * BIND_AGAIN } else { BIND_AGAIN });
        if slow && !self.was_bound {
            self.fail("it refused to join the two ends", None);
        }
    }

    /// Asks for the channel to the other end, once both relayed addresses are known.
    fn bind(&mut self, now: Instant, out: &mut dyn FnMut(Transmit)) {
        let Some(remote) = self.remote else { return };
        let due = |attempt: &&mut Attempt| {
            attempt.retired.is_none()
                && attempt.relayed.is_some()
                && attempt.bind_at.is_some_and(|at| at <= now)
        };
        let mut refused = None;
        for attempt in self.attempts.iter_mut().filter(due) {
            if attempt.bound == Some(remote) {
                attempt.bind_at = None;
            } else if let Err(error) = attempt.bind(remote, now) {
                attempt.bind_at = Some(now + 2 * BIND_AGAIN);
                refused = Some(error);
            } else {
                attempt.drive(now, out, &mut Vec::new());
            }
        }
        if let Some(error) = refused.filter(|_| !self.was_bound) {
            self.fail(&format!("no channel can be made there: {error}"), None);
        }
    }

    // ---- silence ---------------------------------------------------------------------------------------------

    fn watch(&mut self, context: &mut LegContext<'_>, out: &mut dyn FnMut(Transmit)) {
        if !self.was_bound {
            return;
        }
        let now = context.now;
        let progress = self.of_round().filter_map(|attempt| attempt.progress).max();
        let busy =
            !self.round.over && progress.is_some_and(|at| now.saturating_duration_since(at) < ROUND_PATIENCE);
        self.watch.heard(context.heard, self.in_use().and_then(|attempt| attempt.bound_at));
        match self.watch.step(busy, now) {
            WatchStep::Nothing => {}
            WatchStep::Ask => {
                let transaction = self.watch.asks(context.transactions, now);
                if let Some(attempt) = self.in_use() {
                    out(attempt.to_server(&stun::binding_request(transaction)));
                }
            }
            WatchStep::Silent => self.events.push(LegEvent::Silent),
            WatchStep::Back => self.events.push(LegEvent::Back),
            WatchStep::Round { tcp } => self.begin_round(tcp, context),
        }
    }

    fn watch_timeout(&self) -> Option<Instant> {
        self.was_bound.then(|| self.watch.poll_timeout()).flatten()
    }

    fn in_use(&self) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| self.active == Some(attempt.socket))
    }

    // ---- ends ------------------------------------------------------------------------------------------------

    /// A try has come to nothing, or what was in use is gone.
    fn lost(&mut self, socket: SocketId, reason: &str, context: &mut LegContext<'_>) {
        if self.active == Some(socket) {
            self.active = None;
            self.watch.gone(context.now);
            self.begin_round(true, context);
            return;
        }
        if self.round.winner == Some(socket) {
            self.round.winner = None;
        }
        if self.of_round().next().is_some() {
            return;
        }
        self.try_other_udp(context);
        if self.of_round().next().is_none() {
            self.try_tcp(context);
        }
        if self.of_round().next().is_none() {
            self.round.over = true;
            if self.stats.allocated.is_none() {
                self.fail(reason, None);
            }
        }
    }

    fn fail(&mut self, reason: &str, retry_after: Option<Duration>) {
        if !self.has_failed() {
            self.end(reason);
            self.events.push(LegEvent::Failed { reason: reason.to_owned(), retry_after });
        }
    }

    fn end(&mut self, reason: &str) {
        self.failed.get_or_insert_with(|| reason.to_owned());
        self.active = None;
        self.events.extend(self.attempts.drain(..).map(|attempt| LegEvent::Close(attempt.socket)));
    }

    fn drop_closed(&mut self, context: &mut LegContext<'_>) {
        let closed: Vec<Attempt> = self.attempts.extract_if(.., |attempt| attempt.closed).collect();
        for attempt in closed {
            self.events.push(LegEvent::Close(attempt.socket));
            self.ended(&attempt, "the allocation ended", context);
        }
    }

    /// A try was refused, or an allocation ended.
    fn ended(&mut self, attempt: &Attempt, reason: &str, context: &mut LegContext<'_>) {
        // 401: expired, or of an earlier start of the relay. 441: of another allocation.
        let stale = attempt.relayed.is_none() && matches!(attempt.refused, Some(401 | 441));
        if stale && self.stats.allocated.is_some() {
            let nobody = self.of_round().next().is_none();
            self.round.over |= nobody;
            if self.watch.grant_refused(context.now) {
                self.events.push(LegEvent::GrantStale);
            }
        } else if let Some(after) = attempt.retry_after.filter(|_| attempt.relayed.is_none()) {
            self.full(after, context);
        } else if attempt.retired.is_none() {
            self.lost(attempt.socket, reason, context);
        }
    }

    /// It has no room: by another family or transport it would say the same. Who has had an allocation there keeps what
    /// is left of it.
    fn full(&mut self, after: Duration, context: &mut LegContext<'_>) {
        if self.stats.allocated.is_none() {
            self.fail("it has no room at the moment", Some(after));
        } else {
            let nobody = self.of_round().next().is_none();
            self.round.over |= nobody;
            self.watch.no_room(after, context.now);
        }
    }

    fn drop_retired(&mut self, now: Instant, out: &mut dyn FnMut(Transmit)) {
        let over = |attempt: &mut Attempt| attempt.retired.is_some_and(|at| at <= now);
        let over: Vec<Attempt> = self.attempts.extract_if(.., over).collect();
        for mut attempt in over {
            // A relay that does not let allocations move still has the old one.
            attempt.give_back(now, out);
            self.events.push(LegEvent::Close(attempt.socket));
        }
    }
}
