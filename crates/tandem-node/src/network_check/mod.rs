//! What kind of network this machine is in (`tandem doctor network`).
//!
//! `probe` asks supernodes that are known already: STUN over UDP from one socket a family, TCP connections beside it; a
//! few dozen small packets and three seconds at most. `classify` concludes, and knows nothing but what was observed.

mod classify;
mod interfaces;
mod probe;
mod targets;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tandem_api::{NetworkKind, NetworkReport};

pub use classify::{Observations, classify};
pub(crate) use interfaces::scope;
pub use targets::{Target, remembered_targets, targets};

use crate::installation::unix_ms;
use crate::node::port_mapping;

/// A router that has not answered by then does not.
const ROUTER_WITHIN: Duration = Duration::from_millis(2_500);

/// What a check is told.
#[derive(Debug, Clone, Default)]
pub struct CheckPlan {
    /// Supernodes to ask, the preferred ones first.
    pub targets: Vec<Target>,
    /// The address of this machine that packets leave from; `None`: whichever the system takes.
    pub bind: Option<IpAddr>,
    /// How far this machine's clock is off by most supernodes' clocks, if that was found out.
    pub clock_off_s: Option<i64>,
    /// Ask the router whether it opens ports; the owner may have forbidden that.
    pub ask_router: bool,
}

/// Looks at the network. Takes 3 s at most.
pub async fn check(plan: CheckPlan) -> NetworkReport {
    let began = std::time::Instant::now();
    let (mut observed, port_mapping) = tokio::join!(probe::observe(&plan), router(plan.ask_router));
    observed.port_mapping = port_mapping;
    observed.addresses = interfaces::addresses(&observed.sources);
    observed.clock_off_s = plan.clock_off_s;
    let mut report = classify(&observed);
    report.at_unix_ms = unix_ms();
    report.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    report
}

/// How the router opens ports on request; `None`: it does not, or was not asked.
async fn router(ask: bool) -> Option<String> {
    if !ask {
        return None;
    }
    // Its task ends with it.
    let client = port_mapping::client();
    let found = tokio::time::timeout(ROUTER_WITHIN, client.probe()).await.ok()?.ok()?.ok()?;
    let spoken = [(found.pcp, "PCP"), (found.nat_pmp, "NAT-PMP"), (found.upnp, "UPnP")];
    let names: Vec<&str> = spoken.into_iter().filter(|(yes, _)| *yes).map(|(_, name)| name).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The last report of a running node, shared between its loop and the tasks that check.
#[derive(Debug, Clone, Default)]
pub struct LastCheck(Arc<Mutex<Option<NetworkKind>>>);

impl LastCheck {
    /// The kind of network that was found last.
    #[must_use]
    pub fn kind(&self) -> Option<NetworkKind> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers it; a check that learnt nothing says nothing.
    pub fn note(&self, kind: NetworkKind) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            (kind != NetworkKind::Unknown).then_some(kind);
    }
}
