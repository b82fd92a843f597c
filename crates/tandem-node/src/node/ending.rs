//! How a node ends: nothing new is taken, calls and serving get some time, the last words leave.

use std::time::Duration;

use tandem_api::{NodeEvent, ServingState};
use tandem_core::call::CallId;

use super::event_loop::{Node, announce};
use super::supernode::Supernode;
use crate::handle::NodeSide;
use crate::overlay::DeviceCommand;

/// A task that ends gets this long to take its last commands.
const FAREWELL: Duration = Duration::from_millis(100);
/// A node that stops waits so long for others to hear that a call is over: by signalling, in milliseconds; by its paths.
const ANSWERS_MS: u64 = 2_500;
const LAST_PROBES: Duration = Duration::from_millis(400);

/// The node is ending.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopping {
    pub(crate) until_ms: u64,
    /// So long others are waited for who may not have heard that a call is over.
    pub(crate) answers_until_ms: u64,
    pub(crate) drained: bool,
}

impl Node {
    /// Takes nothing new; ends calls and serving within `drain`.
    pub(crate) fn begin_stop(&mut self, drain: Duration, side: &NodeSide) {
        let now = self.clock.now();
        let drain_ms = u64::try_from(drain.as_millis()).unwrap_or(u64::MAX).min(60_000);
        if let Some(stopping) = &mut self.stopping {
            // Asked again: only to be quicker.
            stopping.until_ms = stopping.until_ms.min(now.mono_ms + drain_ms);
            return;
        }
        announce(side, NodeEvent::Stopping { within_ms: drain_ms });
        let serves = self.serves();
        if serves {
            announce(side, NodeEvent::Serving { state: ServingState::Draining });
            self.tell_serving(ServingState::Draining);
        }
        let live: Vec<CallId> = self.calls.keys().copied().collect();
        for call in live {
            self.hang_up(call);
        }
        if let Some(supernode) = self.supernode.as_mut().filter(|_| serves) {
            supernode.drain(u32::try_from(drain_ms).unwrap_or(u32::MAX), now);
        }
        self.stopping = Some(Stopping {
            until_ms: now.mono_ms + drain_ms,
            answers_until_ms: now.mono_ms + ANSWERS_MS,
            drained: !serves,
        });
    }

    pub(super) fn may_end(&self) -> bool {
        let Some(stopping) = self.stopping else { return false };
        let now_ms = self.clock.now().mono_ms;
        let relaying = self
            .supernode
            .as_ref()
            .and_then(Supernode::relay)
            .is_some_and(|relay| relay.stats().server.allocations > 0);
        let asked = self.person.awaits_answer() && now_ms < stopping.answers_until_ms;
        let idle = stopping.drained && !relaying && !asked && self.calls.is_empty();
        now_ms >= stopping.until_ms || idle
    }

    pub(super) async fn end(mut self) {
        self.write_measured(true);
        self.person.media_ended(LAST_PROBES).await;
        if let Some(echo) = &mut self.echo {
            echo.media_ended(LAST_PROBES).await;
        }
        let tell = self.person.overlay().send(DeviceCommand::Shutdown);
        // A swarm that has ended already needs no telling; one that is stuck ends with its channel.
        drop(tokio::time::timeout(FAREWELL, tell).await);
        let swarms = self.swarms();
        self.close_ledger();
        self.stop_standing_by();
        // What was queued (a hang-up, a farewell) gets a moment to leave.
        tokio::time::sleep(FAREWELL).await;
        self.ports.given_back().await;
        // Their connections end with them, and each is worth a line of the audit log.
        if self.warden.audit().is_on() {
            swarms.ended().await;
        }
        self.tell_stop();
    }
}
