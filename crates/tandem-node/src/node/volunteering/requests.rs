//! What the owner asks of a running node about volunteering; and the counting, in the loop.

use tandem_api::{Problem, ServingState, VolunteerView};
use tandem_proto::signed::Roles;

use super::{ServedNow, Totals, ledger};
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
                answer(reply, self.after_word(result));
            }
            VolunteerRequest::SetCaps(change, reply) => {
                let result = self.volunteering.set_caps(&self.installation.store, &change);
                answer(reply, self.after_word(result));
            }
            VolunteerRequest::Withdraw(reply) => {
                let result = self.volunteering.withdraw(&self.installation.store, now.unix_ms);
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
        result.map(|()| self.volunteer_view())
    }

    /// How it stands.
    pub(in crate::node) fn volunteer_view(&mut self) -> VolunteerView {
        self.count_served();
        self.volunteering.view(&self.served_now())
    }

    fn served_now(&self) -> ServedNow {
        let Some(supernode) = &self.supernode else { return ServedNow::default() };
        let relay = supernode.relay().map(|relay| relay.stats().server).unwrap_or_default();
        let totals = supernode.totals();
        ServedNow {
            state: self.serving_state(),
            devices: supernode.figures().reserved,
            circuits: supernode.circuits().len(),
            allocations: relay.allocations,
            calls: relay.calls,
            bytes: totals.directory_bytes + totals.relay_bytes,
        }
    }

    /// What this node does for others.
    pub(in crate::node) fn serving_state(&self) -> ServingState {
        match (&self.supernode, self.stopping) {
            (None, _) => ServingState::Off,
            (Some(supernode), _) if supernode.roles() == Roles::default() => ServingState::Reserve,
            (Some(_), Some(_)) => ServingState::Draining,
            (Some(_), None) => ServingState::Serving,
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
