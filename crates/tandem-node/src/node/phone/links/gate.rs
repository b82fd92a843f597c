//! The one gate before every dial of a supernode, and the patience that supernodes asked for.

use std::time::Duration;

use tandem_core::dialing::Purpose;
use tandem_core::time::Now;
use tandem_proto::ids::ServiceKey;

use super::{Link, LinkNews, Links, Waiting};
use crate::overlay::{DeviceCommand, SupernodeAddress};

/// An errand whose supernode may not be dialled yet fails after this long: a minute's contacts are forgotten by then.
pub(super) const TURN_MS_MAX: u64 = 75_000;
/// Those whose wish for patience is remembered; the one that ends first makes room.
const PATIENCE_MAX: usize = 64;
/// A supernode may ask for this much at most.
const RETRY_AFTER_MS_MAX: u32 = 15 * 60_000;

/// A link whose supernode was not dialled yet.
#[derive(Debug)]
pub(super) struct Undialled {
    pub(super) at: SupernodeAddress,
    /// When the gate may let it through, in monotonic milliseconds.
    pub(super) turn_ms: u64,
}

/// What a supernode was asked for when it was busy. Whatever is not here has a policy with a patience of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    LookUp,
    Grant,
    Notice,
}

impl Kind {
    fn of(waiting: Waiting) -> Option<Self> {
        match waiting {
            Waiting::LookUp { .. } => Some(Self::LookUp),
            Waiting::Grant { .. } => Some(Self::Grant),
            Waiting::Notice { .. } => Some(Self::Notice),
            Waiting::Reserve
            | Waiting::Heartbeat
            | Waiting::Publish
            | Waiting::Supernodes
            | Waiting::Check { .. }
            | Waiting::ReserveNotice { .. }
            | Waiting::Load { .. } => None,
        }
    }
}

/// Those that were busy: what they are not asked for, and until when (monotonic, in milliseconds).
#[derive(Debug, Default)]
pub(super) struct Patience(Vec<(ServiceKey, Kind, u64)>);

impl Patience {
    /// It was too busy, and asked for so much patience.
    pub(super) fn note(
        &mut self,
        service: ServiceKey,
        waiting: Waiting,
        retry_after_ms: u32,
        now_mono_ms: u64,
    ) {
        let Some(kind) = Kind::of(waiting).filter(|_| retry_after_ms > 0) else { return };
        let until_ms = now_mono_ms + u64::from(retry_after_ms.min(RETRY_AFTER_MS_MAX));
        self.0.retain(|(of, what, end_ms)| *end_ms > now_mono_ms && (*of, *what) != (service, kind));
        if self.0.len() >= PATIENCE_MAX {
            let first = (0..self.0.len()).min_by_key(|at| self.0[*at].2);
            first.map(|at| self.0.remove(at));
        }
        self.0.push((service, kind, until_ms));
    }

    /// How long it is still not to be asked for that, in milliseconds.
    pub(super) fn wait_ms(&self, service: ServiceKey, waiting: Waiting, now_mono_ms: u64) -> Option<u64> {
        let kind = Kind::of(waiting)?;
        let known = self.0.iter().find(|(of, what, _)| (*of, *what) == (service, kind));
        known.map(|(_, _, until_ms)| until_ms.saturating_sub(now_mono_ms)).filter(|wait_ms| *wait_ms > 0)
    }
}

impl Links {
    /// A relay has no room and said for how long: until then it is asked for no grant, by no call.
    pub(crate) fn note_no_room(&mut self, service: ServiceKey, after: Duration, now: Now) {
        let after_ms = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
        self.patience.note(service, Waiting::Grant { errand: 0 }, after_ms, now.mono_ms);
    }

    /// Those of somebody who would rather ask others than wait for the turn of an errand: `Waits` is its last word.
    pub(crate) fn impatient() -> Self {
        Self { impatient: true, ..Self::default() }
    }

    /// Whether a circuit may be asked of this supernode, which may have to be dialled for it.
    ///
    /// # Errors
    /// How long to wait, in milliseconds.
    pub(crate) fn admit_circuit(
        &mut self,
        service: ServiceKey,
        purpose: Purpose,
        now: Now,
    ) -> Result<(), u64> {
        if self.links.get(&service).is_some_and(|link| link.undialled.is_none()) {
            return Ok(());
        }
        self.dialing.admit(service, purpose, now.mono_ms)
    }

    /// Supernodes that are dialled later, and in how many milliseconds.
    pub(crate) fn waits(&self, now: Now) -> impl Iterator<Item = (ServiceKey, u64)> {
        let undialled = move |(service, link): (&ServiceKey, &Link)| {
            Some((*service, link.undialled.as_ref()?.turn_ms.saturating_sub(now.mono_ms)))
        };
        self.links.iter().filter_map(undialled)
    }

    /// Dials the supernode of a link that was not dialled yet, if the gate lets it through.
    pub(super) fn dial(&mut self, service: ServiceKey, now: Now) {
        let Some(link) = self.links.get_mut(&service) else { return };
        let Some(mut undialled) = link.undialled.take() else { return };
        if !link.by_homes && link.queued.is_empty() {
            // Whoever wanted it has given up.
            self.links.remove(&service);
            return;
        }
        let wait_ms = match self.dialing.admit(service, link.purpose(), now.mono_ms) {
            Ok(()) => {
                let open = if link.by_homes { DeviceCommand::OpenHome } else { DeviceCommand::OpenErrand };
                link.opened_ms = now.mono_ms;
                self.commands.push_back(open(undialled.at));
                return;
            }
            Err(wait_ms) => wait_ms,
        };
        tracing::debug!(%service, wait_ms, "many supernodes were contacted: this one waits");
        undialled.turn_ms = now.mono_ms + wait_ms;
        link.undialled = Some(undialled);
        let errands = link.queued.iter().filter_map(|(waiting, _)| waiting.errand());
        self.news.extend(errands.map(|errand| LinkNews::Waits { errand, wait_ms }));
        if std::mem::take(&mut link.by_homes) {
            self.news.push_back(LinkNews::HeldBack { service, wait_ms });
        }
        if self.impatient || link.queued.is_empty() {
            self.links.remove(&service);
        }
    }
}

#[cfg(test)]
mod tests {
    use tandem_core::dialing::{
        CALLS_A_MINUTE, DEVICE_CONTACTS_A_MINUTE, HOMES_CONTACTS_A_MINUTE, OTHERS_A_MINUTE, RETRIES,
    };
    use tandem_proto::wire::Signed;

    use super::super::tests::{SERVICE, news, now, open};
    use super::*;

    fn at(n: u8) -> SupernodeAddress {
        SupernodeAddress { service: ServiceKey([n; 32]), addresses: Vec::new() }
    }

    fn dials(links: &mut Links) -> usize {
        let dial = |command: &DeviceCommand| {
            matches!(command, DeviceCommand::OpenHome(_) | DeviceCommand::OpenErrand(_))
        };
        std::iter::from_fn(|| links.poll_command()).filter(dial).count()
    }

    /// Homes of one minute, each released again: a link more would not be the reason.
    fn homes_of_a_minute(links: &mut Links) {
        for n in 0..u8::try_from(HOMES_CONTACTS_A_MINUTE).unwrap() {
            links.connect(&at(n), now(0));
            links.release(at(n).service, now(0));
        }
        assert_eq!(dials(links), HOMES_CONTACTS_A_MINUTE);
    }

    #[test]
    fn one_dial_too_many_waits_and_is_no_failure() {
        let mut links = Links::default();
        homes_of_a_minute(&mut links);
        links.connect(&at(200), now(20_000));
        assert_eq!(dials(&mut links), 0);
        let heard = news(&mut links);
        assert!(
            matches!(heard[..], [LinkNews::HeldBack { wait_ms: 40_000, .. }]),
            "nothing closed, nothing failed: {heard:?}"
        );
        links.connect(&at(3), now(20_000));
        assert_eq!(dials(&mut links), 1, "one dialled a moment ago may be dialled again");
        links.connect(&at(200), now(60_000));
        assert_eq!(dials(&mut links), 1);
    }

    #[test]
    fn calls_dial_when_nothing_else_may_and_errands_wait_for_their_turn() {
        let mut links = Links::default();
        for n in 0..u8::try_from(OTHERS_A_MINUTE).unwrap() {
            links.notify(50 + u64::from(n), &at(n), Signed::default(), now(0));
        }
        assert_eq!(dials(&mut links), OTHERS_A_MINUTE);
        links.notify(1, &at(100), Signed::default(), now(4_000));
        assert_eq!(dials(&mut links), 0);
        assert!(matches!(news(&mut links)[..], [LinkNews::Waits { errand: 1, wait_ms: 56_000, .. }]));
        links.request_grant(2, &at(101), b"tag", now(4_000));
        links.connect(&at(102), now(4_000));
        assert_eq!(dials(&mut links), 2, "calls and homes have shares of their own");
        assert!(links.poll_timeout().is_some_and(|ms| ms <= 60_000));
        links.handle_timeout(now(59_999));
        assert_eq!(dials(&mut links), 0);
        links.handle_timeout(now(60_000));
        assert_eq!(dials(&mut links), 1, "the notice has its turn");
        links.handle_opened(at(100).service, None, now(60_010));
        assert!(matches!(links.poll_command(), Some(DeviceCommand::SendHome { .. })));
    }

    #[test]
    fn circuits_pass_the_same_gate() {
        let mut links = open(0);
        for n in 2..100 {
            // A home's connection carries circuits without a dial.
            assert_eq!(links.admit_circuit(SERVICE, Purpose::Call, now(30)), Ok(()));
            let admitted = links.admit_circuit(at(n).service, Purpose::Call, now(30)).is_ok();
            assert_eq!(admitted, usize::from(n) < 2 + CALLS_A_MINUTE, "{n}");
        }
        assert!(links.dialing.contacted(30) <= DEVICE_CONTACTS_A_MINUTE);
        assert_eq!(links.admit_circuit(at(99).service, Purpose::Call, now(60_030)), Ok(()));
    }

    #[test]
    fn one_supernode_is_dialled_again_out_of_a_budget() {
        let mut links = Links::default();
        for _ in 0..200 {
            links.connect(&at(1), now(0));
            links.release(at(1).service, now(0));
        }
        assert_eq!(dials(&mut links), 1 + RETRIES as usize);
        let held_back = |news: &LinkNews| matches!(news, LinkNews::HeldBack { wait_ms: 1.., .. });
        assert!(news(&mut links).iter().all(held_back), "and that is no failure");
    }

    #[test]
    fn who_would_rather_ask_others_hears_at_once_that_an_errand_must_wait() {
        let mut links = Links::impatient();
        for n in 0..u8::try_from(CALLS_A_MINUTE).unwrap() {
            assert_eq!(links.admit_circuit(at(n).service, Purpose::Call, now(0)), Ok(()));
        }
        links.ask_load(7, &at(100), now(10_000));
        assert!(matches!(news(&mut links)[..], [LinkNews::Waits { errand: 7, wait_ms: 50_000 }]));
        assert_eq!((dials(&mut links), links.poll_timeout()), (0, None), "and nothing is left of it");
    }

    #[test]
    fn a_relay_without_room_is_asked_for_no_grant_until_its_time() {
        let mut links = Links::default();
        links.note_no_room(SERVICE, Duration::from_secs(60), now(1_000));
        let relay = SupernodeAddress { service: SERVICE, addresses: Vec::new() };
        links.request_grant(7, &relay, &[1; 16], now(60_999));
        let told = news(&mut links);
        assert!(matches!(&told[..], [LinkNews::ErrandFailed { errand: 7, .. }]), "{told:?}");
        links.request_grant(8, &relay, &[1; 16], now(61_000));
        assert!(news(&mut links).is_empty(), "it is on its way");
    }

    #[test]
    fn who_asks_for_patience_is_left_alone_that_long() {
        let mut patience = Patience::default();
        let look_up = Waiting::LookUp { errand: 1 };
        patience.note(SERVICE, look_up, 5_000, 1_000);
        assert_eq!(patience.wait_ms(SERVICE, Waiting::LookUp { errand: 2 }, 2_000), Some(4_000));
        assert_eq!(patience.wait_ms(SERVICE, Waiting::Grant { errand: 3 }, 2_000), None, "of that only");
        assert_eq!(patience.wait_ms(at(2).service, look_up, 2_000), None, "by that one only");
        assert_eq!(patience.wait_ms(SERVICE, look_up, 6_000), None);
        patience.note(SERVICE, look_up, u32::MAX, 0);
        assert_eq!(patience.wait_ms(SERVICE, look_up, 0), Some(u64::from(RETRY_AFTER_MS_MAX)));
        for n in 2..200 {
            patience.note(at(n).service, look_up, 1_000, 0);
        }
        assert_eq!(patience.0.len(), PATIENCE_MAX);
        assert!(patience.wait_ms(SERVICE, look_up, 0).is_some(), "the longest wish is kept");
    }
}
