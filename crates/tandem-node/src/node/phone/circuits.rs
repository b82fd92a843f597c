//! Signalling streams that are asked of the overlay. Each supernode that may be dialled for one passes the device's gate
//! first; one that must wait is asked for when its turn comes.

use tandem_core::time::Now;
use tandem_proto::ids::{DeviceKey, ServiceKey};

use super::Phone;
use crate::overlay::{DeviceCommand, SupernodeAddress};
use crate::why::CallFact;

/// Streams that wait for their turn. A device opens far fewer at once.
const WAITING_MAX: usize = 64;

/// A stream whose supernodes may not be dialled yet.
#[derive(Debug)]
pub(super) struct WaitingStream {
    request: u64,
    device: DeviceKey,
    routes: Vec<SupernodeAddress>,
    race_after_ms: u32,
    turn_ms: u64,
}

impl WaitingStream {
    /// Its supernodes, and how long they wait in milliseconds.
    pub(super) fn waits(&self, now: Now) -> impl Iterator<Item = (ServiceKey, u64)> {
        let wait_ms = self.turn_ms.saturating_sub(now.mono_ms);
        self.routes.iter().map(move |route| (route.service, wait_ms))
    }
}

impl Phone {
    /// Opens a stream to a device by way of those of its homes that may be dialled now, or waits until one may.
    pub(super) fn open_signal(
        &mut self,
        request: u64,
        device: DeviceKey,
        mut routes: Vec<SupernodeAddress>,
        race_after_ms: u32,
        now: Now,
    ) {
        let mut wait_ms = None;
        let all = routes.clone();
        routes.retain(|route| match self.links.admit_circuit(route.service, now) {
            Ok(()) => true,
            Err(later_ms) => {
                wait_ms = Some(wait_ms.map_or(later_ms, |soonest: u64| soonest.min(later_ms)));
                false
            }
        });
        match wait_ms {
            Some(wait_ms) if routes.is_empty() && self.waiting_streams.len() < WAITING_MAX => {
                let turn_ms = now.mono_ms + wait_ms;
                self.tell_fact(CallFact::Waited { wait_ms });
                self.waiting_streams.push(WaitingStream {
                    request,
                    device,
                    routes: all,
                    race_after_ms,
                    turn_ms,
                });
            }
            _ => {
                let open = DeviceCommand::OpenSignal { request, device, routes, race_after_ms };
                self.send_overlay(open, now);
            }
        }
    }

    /// Those whose turn has come.
    pub(super) fn open_waiting_streams(&mut self, now: Now) {
        let due = self.waiting_streams.extract_if(.., |waiting| waiting.turn_ms <= now.mono_ms);
        for waiting in due.collect::<Vec<_>>() {
            let WaitingStream { request, device, routes, race_after_ms, .. } = waiting;
            self.open_signal(request, device, routes, race_after_ms, now);
        }
    }

    pub(super) fn waiting_streams_timeout(&self) -> Option<u64> {
        self.waiting_streams.iter().map(|waiting| waiting.turn_ms).min()
    }
}
