//! What a service part takes on and lays down while the node runs: roles, checks of others, reserves, invitations.

use tandem_core::service::{Check, CheckOutcome};
use tandem_core::time::Now;
use tandem_proto::ids::ServiceKey;
use tandem_proto::signed::{Invitation, Roles, SupernodeDescriptor};

use super::{MachineLoad, Reached, Relay, Supernode, SupernodeNews};
use crate::overlay::{self, ServiceCommand};

/// Calls on a relay that takes its role off have this long to move.
const PART_MS: u64 = 60_000;
/// How long an invitation holds, in seconds.
const INVITATION_LIFE_S: u64 = 10 * 60;

impl Supernode {
    /// Serves in these roles from now on; without any it stands by at once.
    pub(crate) fn set_roles(&mut self, roles: Roles, now: Now) {
        let roles = if self.relay.is_some() { roles } else { Roles(roles.0 & !Roles::RELAY.0) };
        self.draining = false;
        self.roles = roles;
        if roles == Roles::default() {
            self.service.set_roles(roles, now);
            return self.close_gate(now);
        }
        self.tell_reached(now);
        self.send(ServiceCommand::Gate { open: true }, now);
        self.tell_directory(now);
        self.service.set_roles(roles, now);
        match &self.relay {
            Some(relay) if !roles.contains(Roles::RELAY) => {
                relay.drain();
                self.part_ms.get_or_insert(now.mono_ms + PART_MS);
            }
            Some(relay) => {
                self.part_ms = None;
                relay.resume();
            }
            None => {}
        }
        self.drive(now);
    }

    /// Who agreed to relay only carries no circuits and keeps no records.
    pub(super) fn tell_directory(&mut self, now: Now) {
        let on = self.roles.contains(Roles::DIRECTORY);
        self.send(ServiceCommand::Directory { on }, now);
    }

    /// Tells the clients to leave, refuses what is new, keeps what there is for `within_ms`; then it stands by.
    pub(crate) fn drain(&mut self, within_ms: u32, now: Now) {
        self.draining = true;
        self.count_calls(now);
        self.service.drain(within_ms, now);
        self.send(ServiceCommand::Drain, now);
        if let Some(relay) = self.relay.as_ref().filter(|_| self.roles.contains(Roles::RELAY)) {
            relay.drain();
        }
        self.drive(now);
    }

    pub(super) fn drained(&mut self, now: Now) {
        self.draining = false;
        self.roles = Roles::default();
        self.close_gate(now);
        self.news.push_back(SupernodeNews::Drained);
    }

    fn close_gate(&mut self, now: Now) {
        self.drive(now);
        self.part_ms = None;
        if self.finds_out {
            self.listening.clear();
        }
        self.send(ServiceCommand::Gate { open: false }, now);
        if let Some(relay) = &self.relay {
            relay.stand_by();
        }
    }

    /// Others reach it here from now on.
    pub(crate) fn set_reached(&mut self, reached: Reached, now: Now) {
        self.reached_at = reached;
        if self.roles != Roles::default() {
            self.tell_reached(now);
            self.service.handle_addresses_changed(now);
            self.drive(now);
        }
    }

    fn tell_reached(&mut self, now: Now) {
        if self.finds_out {
            // The swarm names them anew.
            self.listening.clear();
            self.send(ServiceCommand::SetExternal(self.reached_at.overlay_bytes()), now);
        }
    }

    /// It is about to stand by, and takes nothing new.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    /// How near the machine is to its end, and how full the relay is: others choose by it, and at the limit what matters
    /// least is refused.
    pub(crate) fn note_load(&mut self, load: MachineLoad, now: Now) {
        let relay = self.relay.as_ref().filter(|_| self.roles.contains(Roles::RELAY));
        self.service.set_relay_load(relay.map_or(0, Relay::load_percent));
        self.service.set_machine_load(load.bandwidth_percent, now);
        if let Some(percent) = load.processors_percent {
            self.service.note_processor_load(percent, now);
        }
        self.drive(now);
    }

    /// As its descriptor says, 0 to 100.
    pub(crate) fn load_percent(&self) -> u32 {
        self.service.load_percent()
    }

    /// Supernodes that are alive: a stream stands with each.
    pub(crate) fn in_sight(&self) -> impl Iterator<Item = &SupernodeDescriptor> {
        self.service.in_sight()
    }

    // ---- others ---------------------------------------------------------------------------------------------------

    pub(super) fn begin_check(&mut self, check: Check, now: Now) {
        self.send(ServiceCommand::Check(check), now);
    }

    pub(super) fn take_checked(&mut self, id: u64, outcome: overlay::CheckOutcome, now: Now) {
        tracing::debug!(id, ?outcome, "another node was tried");
        let outcome = match outcome {
            overlay::CheckOutcome::Reached => CheckOutcome::Reached,
            overlay::CheckOutcome::NotReached(reason) => CheckOutcome::NotReached(reason),
            overlay::CheckOutcome::NotTried(_) => CheckOutcome::NotTried,
        };
        self.service.handle_checked(id, outcome, now);
    }

    /// Whether the reserve of a [`SupernodeNews::Announced`] is remembered.
    pub(crate) fn note_reserve(&mut self, id: u64, kept: bool, now: Now) {
        self.service.handle_noted(id, kept, now);
        self.drive(now);
    }

    /// Asks a reserve that announced itself to serve. [`SupernodeNews::InvitationAnswered`] follows.
    pub(crate) fn invite(&mut self, reserve: ServiceKey, now: Now) {
        let load_percent = self.load_percent();
        let not_after_s = now.unix_ms / 1000 + INVITATION_LIFE_S;
        match Invitation::issue(&self.secret, reserve, load_percent, not_after_s) {
            Ok(invitation) => self.service.invite(invitation, now),
            Err(error) => tracing::error!(%error, "this supernode cannot invite"),
        }
        self.drive(now);
    }

    /// What this node makes of a [`SupernodeNews::Invited`].
    pub(crate) fn answer_invitation(&mut self, inviter: ServiceKey, accepted: bool, now: Now) {
        self.service.answer_invitation(inviter, accepted, now);
        self.drive(now);
    }

    // ---- calls ----------------------------------------------------------------------------------------------------

    /// What a drain waits for, and the end of the relay role alone.
    pub(super) fn count_calls(&mut self, now: Now) {
        let leaves = self.draining || self.part_ms.is_some();
        let Some(relay) = self.relay.as_ref().filter(|_| leaves) else { return };
        let calls = relay.stats().server.allocations.div_ceil(2);
        if self.part_ms.is_some_and(|part_ms| calls == 0 || now.mono_ms >= part_ms) {
            self.part_ms = None;
            relay.stand_by();
        }
        self.service.set_calls_relayed(calls, now);
    }
}
