//! Relays that only the other end vouches for: with whom no addresses are exchanged, they are used only when this end's
//! own homes know them too. Otherwise whoever calls, or is called, could name a relay of its own and read the address
//! of the other end there.

use tandem_proto::ids::ServiceKey;
use tandem_proto::signed::SupernodeDescriptor;

use super::leg::Leg;
use super::running::top_up;
use super::types::{Command, LegId};
use super::{Calls, Head, Out, Parts};
use crate::time::Now;

impl Calls {
    /// These relays are known to this end's own homes; the answer to `ConfirmRelays`, any number of times.
    pub fn handle_relays_confirmed(&mut self, leg: LegId, relays: &[ServiceKey], now: Now) {
        let Some(Parts { leg, out, .. }) = self.parts(leg) else { return };
        if leg.plan.confirm(relays) {
            top_up(leg, out, now);
        }
    }
}

/// After relays came into the list: asks about those that this end does not know itself.
pub(super) fn ask(head: &Head, leg: &mut Leg, out: &mut Out, own: &[SupernodeDescriptor], now: Now) {
    let trusts = head.direct_allowed();
    let vouched = leg.vouched.iter().chain(own).map(SupernodeDescriptor::service).collect::<Vec<_>>();
    let unknown = leg.plan.begin_confirming(|service| trusts || vouched.contains(&service), now);
    if !unknown.is_empty() {
        out.push(Command::ConfirmRelays { leg: leg.id, relays: unknown });
    }
}
