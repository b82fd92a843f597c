//! Which other supernodes are alive.

use std::collections::BTreeSet;

use tandem_proto::ids::ServiceKey;
use tandem_proto::signed::SupernodeDescriptor;

use super::Service;
use super::client::Phase;

impl Service {
    /// The supernodes with which a stream stands now. One that said it leaves has none that was opened from here.
    pub fn in_sight(&self) -> impl Iterator<Item = &SupernodeDescriptor> {
        let linked = self.clients.values().filter(|state| state.phase == Phase::Supernode);
        let linked: BTreeSet<ServiceKey> = linked.map(|state| state.service()).collect();
        self.supernodes().filter(move |known| linked.contains(&known.service()))
    }

    /// Its stream to this supernode ended. Nobody closes one without a reason: it may be gone.
    pub(super) fn lost_sight_of(&mut self, service: ServiceKey) {
        let linked = |state: &super::Client| state.phase == Phase::Supernode && state.service() == service;
        if !self.clients.values().any(linked) {
            self.neighbours.miss(service);
        }
    }
}
