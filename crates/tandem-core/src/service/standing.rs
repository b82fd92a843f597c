//! What a service does at all: nothing but stand by, serve in one role or both, or drain.

use tandem_proto::names::FailureCode;
use tandem_proto::signed::Roles;
use tandem_proto::wire::Drain;
use tandem_proto::wire::home_frame::Body;

use super::{ClientRef, Command, Service};
use crate::time::Now;

/// Clients of a service in standby, in all and of one /24 or /48. Few have any business with it.
pub(super) const STANDBY_CLIENTS_MAX: usize = 64;
pub(super) const STANDBY_PER_SUBNET_MAX: u32 = 8;
/// A stream to a service in standby is closed after this long, whatever is said on it.
pub(super) const STANDBY_STREAM_MS: u64 = 90_000;
/// Devices have this long to find another home when the directory role alone ends.
const ROLE_DRAIN_MS: u32 = 60_000;

/// How a service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It answers a hello, heartbeats and an invitation, and nothing else.
    Standby,
    Serving,
    /// It takes nothing new and keeps what it has; then it stands by.
    Draining,
}

impl Service {
    #[must_use]
    pub fn standing(&self) -> Standing {
        if self.reserving.is_draining() {
            Standing::Draining
        } else if self.roles == Roles::default() {
            Standing::Standby
        } else {
            Standing::Serving
        }
    }

    /// The roles it serves in; those it had while it drains.
    #[must_use]
    pub fn roles(&self) -> Roles {
        self.roles
    }

    /// Serves in these roles from now on, and ends a drain. Without any it stands by at once: whoever is served should
    /// be told first, by [`Service::drain`]. When the directory role ends and the relay's goes on, the devices reserved
    /// here are told to leave within a minute.
    pub fn set_roles(&mut self, roles: Roles, now: Now) {
        if roles == Roles::default() {
            self.stand_by(now);
            return;
        }
        let before = std::mem::replace(&mut self.roles, roles);
        if before == roles && !self.reserving.is_draining() {
            return;
        }
        self.reserving.end_drain();
        if before == Roles::default() {
            self.end_invitations(now);
        }
        if before.contains(Roles::DIRECTORY) && !roles.contains(Roles::DIRECTORY) {
            self.part_with_devices(now);
        } else if roles.contains(Roles::DIRECTORY) {
            self.reserving.part_ms = None;
        }
        // Others learn of it by the descriptor.
        self.handle_addresses_changed(now);
    }

    /// Calls that its relay carries now: while there are any, a drain is not over before its time.
    pub fn set_calls_relayed(&mut self, calls: usize, now: Now) {
        self.reserving.calls_relayed = calls;
        self.drive_drain(now);
    }

    /// Leaves: tells every client, refuses whatever is new, and says [`Command::Drained`] when the last reservation
    /// and the last relayed call have gone or `within_ms` have passed; then it stands by. It may be asked again: the
    /// shorter time counts.
    pub fn drain(&mut self, within_ms: u32, now: Now) {
        match self.standing() {
            Standing::Standby => self.commands.push_back(Command::Drained),
            Standing::Draining => self.reserving.hurry(now.mono_ms + u64::from(within_ms)),
            Standing::Serving => {
                self.reserving.begin_drain(now.mono_ms + u64::from(within_ms));
                self.end_invitations(now);
                let inbound = self.clients.iter().filter(|(_, state)| !state.outbound);
                let inbound: Vec<ClientRef> = inbound.map(|(client, _)| *client).collect();
                for client in inbound {
                    self.tell_to_leave(client, within_ms, now);
                }
            }
        }
        self.tick_ms = now.mono_ms;
        self.drive(now);
    }

    fn tell_to_leave(&mut self, client: ClientRef, within_ms: u32, now: Now) {
        let referrals = self.referrals(&self.asker(client, now), now);
        self.send(client, 0, Body::Drain(Drain { within_ms, referrals }));
    }

    /// The directory role ended: the devices that have their home here leave.
    fn part_with_devices(&mut self, now: Now) {
        self.reserving.part_ms = Some(now.mono_ms + u64::from(ROLE_DRAIN_MS));
        let reserved = self.clients.iter().filter(|(_, state)| state.reserved);
        let reserved: Vec<ClientRef> = reserved.map(|(client, _)| *client).collect();
        for client in reserved {
            self.tell_to_leave(client, ROLE_DRAIN_MS, now);
        }
    }

    pub(super) fn drive_drain(&mut self, now: Now) {
        if self.reserving.part_ms.is_some_and(|part_ms| now.mono_ms >= part_ms) {
            self.reserving.part_ms = None;
            let reserved = self.clients.iter().filter(|(_, state)| state.reserved);
            let reserved: Vec<ClientRef> = reserved.map(|(client, _)| *client).collect();
            for client in reserved {
                if let Some(state) = self.clients.get(&client) {
                    self.commands.push_back(Command::Expel(state.device()));
                }
                self.drop_client(client, 0, FailureCode::NotServing, NOT_IN_DIRECTORY, now);
            }
        }
        if self.reserving.is_drained(now.mono_ms) {
            self.stand_by(now);
            self.commands.push_back(Command::Drained);
        }
    }

    /// Closes every stream, and forgets what was kept for others. What it knows of supernodes stays: it may serve again.
    fn stand_by(&mut self, now: Now) {
        self.roles = Roles::default();
        self.end_invitations(now);
        let clients: Vec<ClientRef> = self.clients.keys().copied().collect();
        for client in clients {
            self.commands.push_back(Command::Close(client));
            self.forget(client, now);
        }
        self.reserving.clear();
        self.directory.clear();
        self.granting.clear();
        self.candidates.forget_all();
        self.exchange.stand_by();
    }

    /// Refuses what belongs to a role that it does not have. True: refused.
    pub(super) fn refuse_role(&mut self, client: ClientRef, id: u64, body: &Body) -> bool {
        let (role, code, detail) = match body {
            Body::Invitation(_) | Body::Heartbeat(_) => return false,
            _ if self.roles == Roles::default() => {
                (Roles::DIRECTORY, FailureCode::NotServing, "this node stands by and serves nobody")
            }
            Body::Reserve(_)
            | Body::Publish(_)
            | Body::LookUp(_)
            | Body::Presence(_)
            | Body::DeviceSetNotice(_) => (Roles::DIRECTORY, FailureCode::NotServing, NOT_IN_DIRECTORY),
            Body::GrantRequest(_) => (Roles::RELAY, FailureCode::NoRelay, "this supernode does not relay"),
            _ => return false,
        };
        let refused = !self.roles.contains(role);
        if refused {
            self.fail(client, id, code, detail);
        }
        refused
    }
}

const NOT_IN_DIRECTORY: &str = "this supernode keeps no directory";
