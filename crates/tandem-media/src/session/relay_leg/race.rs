//! The race for an allocation: UDP of both families, then TCP; the first one to be allocated wins.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use turn_client_proto::types::TransportType;

use super::{ATTEMPTS_MAX, Attempt, GIVE_UP, LOSER_LINGERS, LegContext, LegEvent, RelayLeg, Round};
use crate::session::types::{RelayAccess, SocketId};

/// The second family is asked this long after the first.
const RACE_FAMILY: Duration = Duration::from_millis(50);
/// UDP gets this long for an answer before TCP is raced.
const RACE_TCP: Duration = Duration::from_millis(250);
/// The same for an allocation, though something answered.
const RACE_TCP_ANSWERED: Duration = Duration::from_secs(1);

impl RelayLeg {
    pub(super) fn begin_round(&mut self, tcp: bool, context: &mut LegContext<'_>) {
        self.round = Round {
            number: self.round.number + 1,
            began: context.now,
            family_tried: false,
            tcp_tried: false,
            tcp: tcp || self.access.udp.is_empty(),
            winner: None,
            over: false,
        };
        for attempt in &mut self.attempts {
            if self.active != Some(attempt.socket) {
                attempt.retired.get_or_insert(context.now + LOSER_LINGERS);
            }
        }
        match self.access.udp.first().copied() {
            Some(server) => self.attempt(TransportType::Udp, server, context),
            None => self.try_tcp(context),
        }
        if context.udp_blocked {
            self.try_tcp(context);
        }
    }

    pub(super) fn attempt(
        &mut self,
        transport: TransportType,
        server: SocketAddr,
        context: &mut LegContext<'_>,
    ) {
        let socket = SocketId(*context.next_socket);
        *context.next_socket += 1;
        let attempt = Attempt::new(socket, (transport, server), self.round.number, self.began, context.now);
        self.stats.udp_tried |= !attempt.is_tcp();
        self.stats.tcp_tried |= attempt.is_tcp();
        self.events.push(LegEvent::Open(socket, attempt.socket_kind(&self.access)));
        self.attempts.push(attempt);
        while self.attempts.len() > ATTEMPTS_MAX {
            let idle = self.attempts.iter().position(|attempt| self.active != Some(attempt.socket));
            let idle = self.attempts.remove(idle.unwrap_or(0));
            self.events.push(LegEvent::Close(idle.socket));
        }
    }

    /// The first address of the other family, or the second of the same.
    pub(super) fn try_other_udp(&mut self, context: &mut LegContext<'_>) {
        if std::mem::replace(&mut self.round.family_tried, true) {
            return;
        }
        let udp = &self.access.udp;
        let Some(first) = udp.first() else { return };
        let other = udp.iter().find(|other| other.is_ipv4() != first.is_ipv4()).or(udp.get(1)).copied();
        if let Some(server) = other {
            self.attempt(TransportType::Udp, server, context);
        }
    }

    pub(super) fn try_tcp(&mut self, context: &mut LegContext<'_>) {
        if !self.round.tcp || std::mem::replace(&mut self.round.tcp_tried, true) {
            return;
        }
        let servers: Vec<SocketAddr> =
            self.access.tcp.iter().take(RelayAccess::ADDRESSES_MAX).copied().collect();
        for server in servers {
            self.attempt(TransportType::Tcp, server, context);
        }
    }

    pub(super) fn of_round(&self) -> impl Iterator<Item = &Attempt> {
        let number = self.round.number;
        self.attempts.iter().filter(move |attempt| attempt.round == number && attempt.retired.is_none())
    }

    pub(super) fn udp_answered(&self) -> bool {
        self.of_round().any(|attempt| !attempt.is_tcp() && attempt.answered.is_some())
    }

    pub(super) fn race(&mut self, context: &mut LegContext<'_>) {
        if self.round.over || self.round.winner.is_some() {
            return;
        }
        let waited = context.now.saturating_duration_since(self.round.began);
        let answered = self.udp_answered();
        if waited >= RACE_FAMILY && !answered {
            self.try_other_udp(context);
        }
        if waited >= if answered { RACE_TCP_ANSWERED } else { RACE_TCP } {
            self.try_tcp(context);
        }
        if waited >= GIVE_UP && self.stats.allocated.is_none() {
            self.fail("it did not answer", None);
        }
    }

    pub(super) fn race_timeout(&self) -> Option<Instant> {
        if self.round.over || self.round.winner.is_some() {
            return None;
        }
        let answered = self.udp_answered();
        let family = (!self.round.family_tried && !answered).then_some(RACE_FAMILY);
        let tcp = (self.round.tcp && !self.round.tcp_tried && !self.access.tcp.is_empty())
            .then_some(if answered { RACE_TCP_ANSWERED } else { RACE_TCP });
        let give_up = self.stats.allocated.is_none().then_some(GIVE_UP);
        [family, tcp, give_up].into_iter().flatten().min().map(|after| self.round.began + after)
    }
}
