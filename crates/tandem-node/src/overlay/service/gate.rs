//! The gate: what the swarm does in standby, and how it goes there and comes back. And checks of others, which only a
//! node that serves makes.

use libp2p::{Multiaddr, relay};

use super::super::directory::routing;
use super::super::{Check, CheckOutcome, ServiceEvent};
use super::Service;

impl Service {
    pub(super) fn is_open(&self) -> bool {
        self.swarm.behaviour().gate.is_open()
    }

    pub(super) fn set_gate(&mut self, open: bool) {
        if open == self.is_open() {
            return self.set_directory(open); // a drain may have ended
        }
        self.swarm.behaviour_mut().gate.set_open(open);
        self.open_directory(open);
        self.set_circuits(open);
        self.apply_external();
        if !open {
            self.cut_all();
        }
    }

    /// A node that only relays takes no part in the directory.
    pub(super) fn set_directory(&mut self, on: bool) {
        let on = on && self.is_open();
        self.open_directory(on);
        self.set_circuits(on);
    }

    fn open_directory(&mut self, open: bool) {
        routing::set_open(&mut self.swarm.behaviour_mut().kad, open);
        if !open {
            self.directory.give_up(&mut self.outbox);
        }
    }

    /// libp2p's relay says in identify whether it takes circuits: nobody asks while it does not.
    fn set_circuits(&mut self, open: bool) {
        let status = if open { relay::Status::Enable } else { relay::Status::Disable };
        self.swarm.behaviour_mut().circuits.set_status(Some(status));
    }

    /// Whoever was served was told to leave before: nothing goes on in standby.
    fn cut_all(&mut self) {
        for service in std::mem::take(&mut self.wanted) {
            let reason = String::from("this node is in standby");
            self.outbox.push_back(ServiceEvent::ConnectFailed { service, reason });
        }
        self.links.clear();
        self.supernodes.clear();
        self.door.directory().forget_all();
        self.proofs.forget_all();
        for (id, _) in self.connections.iter() {
            self.swarm.close_connection(id);
        }
    }

    pub(super) fn tell_external(&mut self, addresses: Vec<Multiaddr>) {
        self.external = addresses;
        self.apply_external();
        for address in self.external.clone() {
            self.tell_listening(address);
        }
    }

    pub(super) fn apply_external(&mut self) {
        let told: Vec<Multiaddr> = self.swarm.external_addresses().cloned().collect();
        let wanted = if self.is_open() { self.external.as_slice() } else { &[] };
        for address in told.iter().filter(|address| !wanted.contains(address)) {
            self.swarm.remove_external_address(address);
        }
        for address in wanted.iter().filter(|address| !told.contains(address)) {
            self.swarm.add_external_address(address.clone());
        }
    }

    /// In standby nobody is served, with this neither.
    pub(super) fn check(&mut self, check: Check) {
        let refused = if self.is_open() {
            self.checks.begin(check)
        } else {
            let outcome = CheckOutcome::NotTried("this node is in standby".to_owned());
            Some(ServiceEvent::Checked { id: check.id, outcome })
        };
        self.outbox.extend(refused);
    }
}
