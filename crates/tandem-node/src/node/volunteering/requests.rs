//! What the owner asks of a running node about volunteering; and the counting, in the loop.

use tandem_api::{Problem, ServingState, VolunteerView};
use tandem_proto::signed::Roles;

use super::{ServedNow, Totals, ledger, missing_views};
use crate::handle::VolunteerRequest;
use crate::node::event_loop::{Node, answer};
use crate::node::supernode::Supernode;

impl Node {
    pub(in crate::node) fn take_volunteer_request(&mut self, request: VolunteerRequest) {
        let now = self.clock.now();
        match request {
            VolunteerRequest::View(reply) => answer(reply, Ok(self.volunteer_view())),
            VolunteerRequest::Accept(new, reply) => {
                let result = self.volunteering.accept(&self.installation.store, &new, now.unix_ms);
                if result.is_ok() {
                    self.tell_consent("accepted");
                }
                answer(reply, self.after_word(result));
            }
            VolunteerRequest::SetCaps(change, reply) => {
                let result = self.volunteering.set_caps(&self.installation.store, &change);
                if result.is_ok() {
                    self.tell_consent("caps");
                }
                self.apply_caps();
                answer(reply, self.after_word(result));
            }
            VolunteerRequest::Withdraw(reply) => {
                let result = self.volunteering.withdraw(&self.installation.store, now.unix_ms);
                // It holds in this run even when it could not be written down.
                self.tell_consent("withdrawn");
                answer(reply, self.after_word(result));
            }
            VolunteerRequest::Ledger { days, reply } => {
                self.count_served();
                self.volunteering.write(&self.installation.store, now);
                let lines = ledger(&self.installation.store, days, now.unix_ms);
                answer(reply, lines.map_err(|error| error.problem()));
            }
        }
    }

    fn after_word(&mut self, result: Result<(), Problem>) -> Result<VolunteerView, Problem> {
        if self.volunteering.take_change() {
            self.take_consent();
        }
        result.map(|()| self.volunteer_view())
    }

    /// What serves already gives no more than the owner, and the organisation, allow now.
    fn apply_caps(&mut self) {
        let caps = self.warden.policy().caps(self.volunteering.caps());
        if let Some(supernode) = &mut self.supernode {
            supernode.set_caps(&caps);
        }
    }

    /// How it stands.
    pub(in crate::node) fn volunteer_view(&mut self) -> VolunteerView {
        self.count_served();
        let now = self.clock.now();
        let mut view = self.volunteering.view(&self.served_now());
        let roles = self.volunteering.consent().map_or(Roles::default(), |consent| consent.roles);
        view.missing = missing_views(|role| self.election.missing(role, now), roles);
        view.candidate = self.election.view(now);
        view
    }

    fn served_now(&self) -> ServedNow {
        let state = self.serving_state();
        let Some(supernode) = &self.supernode else { return ServedNow { state, ..ServedNow::default() } };
        let relay = supernode.relay().map(|relay| relay.stats().server).unwrap_or_default();
        let totals = supernode.totals();
        ServedNow {
            state,
            devices: supernode.figures().reserved,
            circuits: supernode.circuits().len(),
            allocations: relay.allocations,
            calls: relay.calls,
            bytes: totals.directory_bytes + totals.relay_bytes,
        }
    }

    /// What this node does for others.
    pub(in crate::node) fn serving_state(&self) -> ServingState {
        match self.stopping {
            Some(_) if self.serves() => ServingState::Draining,
            Some(_) => ServingState::Off,
            None => self.election.serving_state(),
        }
    }

    /// Brings the ledger up to date, and writes it when it is time.
    pub(in crate::node) fn count_served(&mut self) {
        let now = self.clock.now();
        let totals = self.supernode.as_ref().map_or_else(Totals::default, Supernode::totals);
        let serving = self.supernode.as_ref().map(Supernode::roles).unwrap_or_default();
        self.volunteering.count(totals, serving, now);
        self.volunteering.write_when_due(&self.installation.store, now);
    }

    /// The last word of this run in the ledger.
    pub(in crate::node) fn close_ledger(&mut self) {
        self.count_served();
        self.volunteering.write(&self.installation.store, self.clock.now());
    }
}
