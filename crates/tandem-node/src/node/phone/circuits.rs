//! Signalling streams that are asked of the overlay. Each supernode that may be dialled for one passes the device's gate
//! first; one that must wait is asked for when its turn comes.

use tandem_core::dialing::Purpose;
use tandem_core::time::Now;
use tandem_proto::ids::{DeviceKey, ServiceKey};

use super::Phone;
use crate::overlay::{DeviceCommand, SupernodeAddress};
use crate::why::CallFact;

/// Streams that wait for their turn. A device opens far fewer at once.
const WAITING_MAX: usize = 64;

/// A stream to a device, by way of its homes.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) request: u64,
    pub(super) device: DeviceKey,
    pub(super) routes: Vec<SupernodeAddress>,
    pub(super) race_after_ms: u32,
    pub(super) purpose: Purpose,
}

/// One whose supernodes may not be dialled yet.
#[derive(Debug)]
pub(super) struct WaitingStream {
    stream: Stream,
    turn_ms: u64,
}

impl WaitingStream {
    /// Its supernodes, and how long they wait in milliseconds.
    pub(super) fn waits(&self, now: Now) -> impl Iterator<Item = (ServiceKey, u64)> {
        let wait_ms = self.turn_ms.saturating_sub(now.mono_ms);
        self.stream.routes.iter().map(move |route| (route.service, wait_ms))
    }
}

impl Phone {
    /// Opens a stream by way of those of the homes that may be dialled now, or waits until one may.
    pub(super) fn open_signal(&mut self, stream: Stream, now: Now) {
        let mut soonest_ms = None;
        let admitted = |route: &&SupernodeAddress| {
            let refused = self.links.admit_circuit(route.service, stream.purpose, now).err();
            soonest_ms = [soonest_ms, refused].into_iter().flatten().min();
            refused.is_none()
        };
        let routes: Vec<SupernodeAddress> = stream.routes.iter().filter(admitted).cloned().collect();
        match soonest_ms {
            Some(wait_ms) if routes.is_empty() && self.waiting_streams.len() < WAITING_MAX => {
                if stream.purpose == Purpose::Call {
                    self.forget_waiting(stream.device);
                    self.tell_fact(CallFact::Waited { wait_ms });
                }
                self.waiting_streams.push(WaitingStream { stream, turn_ms: now.mono_ms + wait_ms });
            }
            _ => {
                let Stream { request, device, race_after_ms, .. } = stream;
                self.send_overlay(DeviceCommand::OpenSignal { request, device, routes, race_after_ms }, now);
            }
        }
    }

    /// A call that asks again for a stream to a device does not wait for the one it asked for before.
    fn forget_waiting(&mut self, device: DeviceKey) {
        let same = |waiting: &mut WaitingStream| {
            waiting.stream.purpose == Purpose::Call && waiting.stream.device == device
        };
        for waiting in self.waiting_streams.extract_if(.., same) {
            self.opening.remove(&waiting.stream.request);
        }
    }

    /// Those whose turn has come.
    pub(super) fn open_waiting_streams(&mut self, now: Now) {
        let due = self.waiting_streams.extract_if(.., |waiting| waiting.turn_ms <= now.mono_ms);
        for waiting in due.collect::<Vec<_>>() {
            self.open_signal(waiting.stream, now);
        }
    }

    pub(super) fn waiting_streams_timeout(&self) -> Option<u64> {
        self.waiting_streams.iter().map(|waiting| waiting.turn_ms).min()
    }
}
