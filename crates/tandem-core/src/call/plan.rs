//! The relays of one leg: the list both ends agreed on, and how far it has been used.

use tandem_proto::draw::{self, SupernodeRef};
use tandem_proto::grant::call_tag;
use tandem_proto::ids::ServiceKey;
use tandem_proto::network::group_of_all;
use tandem_proto::signed::{Roles, SupernodeDescriptor};
use tandem_proto::wire::{Draw, Signed};

use super::types::RelayWanted;
use crate::time::Now;

/// Relays a call uses at once.
pub(super) const RELAYS_WANTED: usize = 2;
/// Fallback relays that a draw gives.
const FALLBACK_MAX: usize = 8;
/// Relays that a redraw adds at most.
const REDRAWN_MAX: usize = 8;
/// Relays kept in the list of a leg; those that died longest ago leave first.
const PLAN_MAX: usize = 24;
/// A relay that died this long ago may be vouched for again, and leaves the list when there are newer ones, in
/// milliseconds.
const LONG_DEAD_MS: u64 = 60_000;
/// A spare relay whose descriptor ends sooner than this does not count as one, in milliseconds.
const SPARE_MARGIN_MS: u64 = 60_000;
/// Relays one end may vouch for.
pub(super) const VOUCHED_MAX: usize = 8;
/// A grant that takes longer counts as refused, in milliseconds.
const GRANT_MS: u64 = 3_000;
/// Relays of the list that are not known here hold up those after them this long, in milliseconds: both ends should
/// begin with the same ones.
const CONFIRM_MS: u64 = 600;
/// A descriptor we vouch for must be valid for this long, so that the other end's clock cannot make a difference.
const VOUCH_MARGIN_MS: u64 = 1_200_000;

/// How far a relay of the list has been used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// In reserve.
    Spare,
    /// A grant was asked for at this moment (monotonic milliseconds).
    Asked(u64),
    /// In the media session.
    Joined,
    /// It was, and went silent, or the grant was refused, at this moment (monotonic milliseconds).
    Dead(u64),
}

#[derive(Debug, Clone)]
struct Planned {
    descriptor: SupernodeDescriptor,
    state: Use,
    /// This end knows it from somebody else than the other end, or need not.
    known: bool,
}

/// The agreed list, best first, and each relay's use.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    relays: Vec<Planned>,
    drawn: usize,
    /// Until then those that are not known hold up those after them (monotonic milliseconds).
    waits_until: Option<u64>,
}

/// Why a Draw is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DrawError {
    #[error("the number and the relays revealed are not those committed to")]
    Reveal,
    #[error("it names too many relays")]
    TooMany,
    #[error("it names a relay that cannot be one")]
    BadRelay,
}

impl Plan {
    /// Draws from what the caller proposed and what the callee vouched for; the same on both ends.
    pub(super) fn draw(
        nonces: (&[u8; 32], &[u8; 32]),
        proposed: &[SupernodeDescriptor],
        vouched: &[SupernodeDescriptor],
    ) -> Self {
        let relays = drawn(nonces, &union(proposed, vouched), RELAYS_WANTED + FALLBACK_MAX);
        let drawn = relays.len().min(RELAYS_WANTED);
        Self::of(relays, drawn)
    }

    /// Checks a Draw against the commitment in the offer, and draws; callee's side.
    pub(super) fn check(
        draw: &Draw,
        commit: &[u8; 32],
        callee_nonce: &[u8; 32],
        vouched: &[SupernodeDescriptor],
        now: Now,
    ) -> Result<Self, DrawError> {
        let nonce: [u8; 32] = draw.nonce.as_slice().try_into().map_err(|_| DrawError::Reveal)?;
        let proposed = offered(&draw.relays, now)?;
        if !draw::reveal_fits(&nonce, &keys(&proposed), commit) {
            return Err(DrawError::Reveal);
        }
        Ok(Self::draw((&nonce, callee_nonce), &proposed, vouched))
    }

    fn of(relays: Vec<SupernodeDescriptor>, drawn: usize) -> Self {
        Self { relays: relays.into_iter().map(Planned::new).collect(), drawn, waits_until: None }
    }

    /// Marks those that are known here and returns the others, which may become so for a while.
    pub(super) fn begin_confirming(
        &mut self,
        known: impl Fn(ServiceKey) -> bool,
        now: Now,
    ) -> Vec<ServiceKey> {
        for planned in &mut self.relays {
            planned.known |= known(planned.descriptor.service());
        }
        let unknown = self.relays.iter().filter(|p| !p.known && p.state == Use::Spare);
        let unknown: Vec<ServiceKey> = unknown.map(|p| p.descriptor.service()).collect();
        self.waits_until = (!unknown.is_empty()).then_some(now.mono_ms + CONFIRM_MS);
        unknown
    }

    /// Marks these as known; says whether any was not.
    pub(super) fn confirm(&mut self, relays: &[ServiceKey]) -> bool {
        let mut fresh = false;
        for planned in self.relays.iter_mut().filter(|p| !p.known) {
            planned.known = relays.contains(&planned.descriptor.service());
            fresh |= planned.known;
        }
        if self.relays.iter().all(|p| p.known) {
            self.waits_until = None;
        }
        fresh
    }

    /// Whether the time is over in which relays could become known.
    pub(super) fn stop_waiting(&mut self, now: Now) -> bool {
        self.waits_until.take_if(|at| now.mono_ms >= *at).is_some()
    }

    /// The next ones of the list that may be used, in its order.
    fn usable(&mut self, now: Now) -> impl Iterator<Item = &mut Planned> {
        let waits = self.waits_until.is_some_and(|at| now.mono_ms < at);
        let spare = self.relays.iter_mut().filter(|p| p.state == Use::Spare);
        spare.take_while(move |p| p.known || !waits).filter(|p| p.known)
    }

    /// The next one of the list.
    pub(super) fn next(&mut self, now: Now) -> Option<ServiceKey> {
        self.usable(now).next().map(|planned| planned.descriptor.service())
    }

    /// How many relays the list has.
    pub(super) fn len(&self) -> usize {
        self.relays.len()
    }

    /// Relays in reserve whose descriptors hold for a while.
    pub(super) fn spares(&self, now: Now) -> usize {
        let holds = |d: &SupernodeDescriptor| {
            d.not_after_s().saturating_mul(1_000) >= now.unix_ms.saturating_add(SPARE_MARGIN_MS)
        };
        self.relays.iter().filter(|p| p.state == Use::Spare && p.known && holds(&p.descriptor)).count()
    }

    /// Which of our own relays to put into a redraw: those that the list does not have, or that died long ago.
    pub(super) fn fresh(&self, own: &[SupernodeDescriptor], now: Now) -> Vec<SupernodeDescriptor> {
        let is_fresh = |d: &&SupernodeDescriptor| match self.state(d.service()) {
            None => true,
            Some(Use::Dead(since)) => now.mono_ms >= since + LONG_DEAD_MS,
            Some(_) => false,
        };
        own.iter().filter(stays(now)).filter(is_fresh).take(VOUCHED_MAX).cloned().collect()
    }

    /// Adds what a redraw gave, in its order, to the end of the list; returns how many relays are new in reserve.
    pub(super) fn extend(&mut self, relays: Vec<SupernodeDescriptor>, now: Now) -> usize {
        let mut gained = 0;
        for descriptor in relays {
            let known = self.relays.iter_mut().find(|p| p.descriptor.service() == descriptor.service());
            let Some(known) = known else {
                self.relays.push(Planned::new(descriptor));
                gained += 1;
                continue;
            };
            if known.descriptor.sequence() < descriptor.sequence() {
                known.descriptor = descriptor;
            }
            if matches!(known.state, Use::Dead(since) if now.mono_ms >= since + LONG_DEAD_MS) {
                known.state = Use::Spare;
                gained += 1;
            }
        }
        while self.relays.len() > PLAN_MAX {
            self.drop_one();
        }
        gained
    }

    /// The relay that died first leaves; if none has died, the first in reserve.
    fn drop_one(&mut self) {
        let rank = |p: &Planned| match p.state {
            Use::Dead(since) => (0, since),
            Use::Spare => (1, 0),
            Use::Asked(_) | Use::Joined => (2, 0),
        };
        let Some((index, _)) = self.relays.iter().enumerate().min_by_key(|(_, p)| rank(p)) else { return };
        self.relays.remove(index);
        // Who was drawn first matters only before anything died.
        self.drawn = self.drawn.min(index);
    }

    /// The first ones, as drawn.
    pub(super) fn drawn(&self) -> Vec<ServiceKey> {
        self.relays[..self.drawn].iter().map(|p| p.descriptor.service()).collect()
    }

    /// Those in the media session.
    pub(super) fn joined(&self) -> Vec<ServiceKey> {
        self.with(|state| state == Use::Joined)
    }

    /// Those that went silent or refused.
    pub(super) fn dead(&self) -> Vec<ServiceKey> {
        self.with(|state| matches!(state, Use::Dead(_)))
    }

    fn with(&self, wanted: impl Fn(Use) -> bool) -> Vec<ServiceKey> {
        self.relays.iter().filter(|p| wanted(p.state)).map(|p| p.descriptor.service()).collect()
    }

    /// Whether this relay is, or is about to be, in the media session.
    pub(super) fn is_in_use(&self, service: ServiceKey) -> bool {
        matches!(self.state(service), Some(Use::Asked(_) | Use::Joined))
    }

    /// Joined or about to be.
    pub(super) fn live(&self) -> usize {
        self.relays.iter().filter(|p| matches!(p.state, Use::Asked(_) | Use::Joined)).count()
    }

    /// What became of a relay of the list; `None`: not of this list.
    pub(super) fn state(&self, service: ServiceKey) -> Option<Use> {
        self.relays.iter().find(|p| p.descriptor.service() == service).map(|p| p.state)
    }

    /// Sets what became of a relay; says whether that changed anything.
    pub(super) fn set(&mut self, service: ServiceKey, state: Use) -> bool {
        let Some(planned) = self.relays.iter_mut().find(|p| p.descriptor.service() == service) else {
            return false;
        };
        let changed = planned.state != state;
        planned.state = state;
        changed
    }

    /// When the list is used up, those that died may be tried again, from its start.
    pub(super) fn begin_again(&mut self) {
        if self.relays.iter().any(|p| p.state == Use::Spare) {
            return;
        }
        for planned in &mut self.relays {
            if matches!(planned.state, Use::Dead(_)) {
                planned.state = Use::Spare;
            }
        }
    }

    /// Marks the next `count` spare relays as asked for and says what to ask.
    pub(super) fn take_next(&mut self, count: usize, secret: &[u8; 32], now: Now) -> Vec<RelayWanted> {
        self.usable(now).take(count).map(|planned| planned.ask(secret, now)).collect()
    }

    /// Marks one relay as asked for because the other end joined it; `None` when it is not spare or
    /// not known here.
    pub(super) fn take(&mut self, service: ServiceKey, secret: &[u8; 32], now: Now) -> Option<RelayWanted> {
        let planned = self.relays.iter_mut().find(|p| p.descriptor.service() == service)?;
        (planned.state == Use::Spare && planned.known).then(|| planned.ask(secret, now))
    }

    /// Grants that did not come in time count as refused; returns those relays.
    pub(super) fn expire(&mut self, now: Now) -> Vec<ServiceKey> {
        let mut expired = Vec::new();
        for planned in &mut self.relays {
            if matches!(planned.state, Use::Asked(at) if now.mono_ms >= at + GRANT_MS) {
                planned.state = Use::Dead(now.mono_ms);
                expired.push(planned.descriptor.service());
            }
        }
        expired
    }

    /// When the next grant is overdue, or waiting for relays to become known is (monotonic milliseconds).
    pub(super) fn next_timeout(&self) -> Option<u64> {
        let overdue = |p: &Planned| if let Use::Asked(at) = p.state { Some(at + GRANT_MS) } else { None };
        self.relays.iter().filter_map(overdue).chain(self.waits_until).min()
    }

    /// The relay's own addresses, as in its descriptor.
    pub(super) fn addresses(&self, service: ServiceKey) -> Vec<Vec<u8>> {
        let planned = self.relays.iter().find(|p| p.descriptor.service() == service);
        planned.map(|p| p.descriptor.relay().to_vec()).unwrap_or_default()
    }
}

impl Planned {
    fn new(descriptor: SupernodeDescriptor) -> Self {
        Self { descriptor, state: Use::Spare, known: false }
    }

    fn ask(&mut self, secret: &[u8; 32], now: Now) -> RelayWanted {
        self.state = Use::Asked(now.mono_ms);
        let service = self.descriptor.service();
        RelayWanted {
            service,
            addresses: self.descriptor.addresses().to_vec(),
            relay: self.descriptor.relay().to_vec(),
            tag: call_tag(secret, service),
        }
    }
}

/// A descriptor that is valid now and is a relay's.
pub(super) fn usable(signed: &Signed, now: Now) -> Option<SupernodeDescriptor> {
    let descriptor = SupernodeDescriptor::verify(signed, now.unix_ms).ok()?;
    let is_relay = descriptor.roles().contains(Roles::RELAY) && descriptor.known_relay().next().is_some();
    is_relay.then_some(descriptor)
}

/// The first few of our own that will stay valid for a while.
pub(super) fn vouched(own: &[SupernodeDescriptor], now: Now) -> Vec<SupernodeDescriptor> {
    own.iter().filter(stays(now)).take(VOUCHED_MAX).cloned().collect()
}

fn stays(now: Now) -> impl Fn(&&SupernodeDescriptor) -> bool {
    move |d| d.not_after_s().saturating_mul(1_000) >= now.unix_ms.saturating_add(VOUCH_MARGIN_MS)
}

/// Their service keys, in their order.
pub(super) fn keys(descriptors: &[SupernodeDescriptor]) -> Vec<ServiceKey> {
    descriptors.iter().map(SupernodeDescriptor::service).collect()
}

/// As they go into a frame.
pub(super) fn signed(descriptors: &[SupernodeDescriptor]) -> Vec<Signed> {
    descriptors.iter().map(|descriptor| descriptor.signed().clone()).collect()
}

/// The relays that a redraw gives, best first; the same on both ends.
pub(super) fn redrawn(
    nonces: (&[u8; 32], &[u8; 32]),
    proposed: &[SupernodeDescriptor],
    vouched: &[SupernodeDescriptor],
) -> Vec<SupernodeDescriptor> {
    drawn(nonces, &union(proposed, vouched), REDRAWN_MAX)
}

/// The descriptors of the other end's frame, each once, or why they are not believed.
pub(super) fn offered(signed: &[Signed], now: Now) -> Result<Vec<SupernodeDescriptor>, DrawError> {
    if signed.len() > VOUCHED_MAX {
        return Err(DrawError::TooMany);
    }
    signed.iter().map(|signed| usable(signed, now).ok_or(DrawError::BadRelay)).collect()
}

/// Both lists in one, each supernode once and in its newest version.
pub(super) fn union(a: &[SupernodeDescriptor], b: &[SupernodeDescriptor]) -> Vec<SupernodeDescriptor> {
    let mut union: Vec<SupernodeDescriptor> = Vec::with_capacity(a.len() + b.len());
    for descriptor in a.iter().chain(b) {
        match union.iter_mut().find(|known| known.service() == descriptor.service()) {
            Some(known) if known.sequence() < descriptor.sequence() => *known = descriptor.clone(),
            Some(_) => {}
            None => union.push(descriptor.clone()),
        }
    }
    union
}

fn drawn(
    nonces: (&[u8; 32], &[u8; 32]),
    candidates: &[SupernodeDescriptor],
    n: usize,
) -> Vec<SupernodeDescriptor> {
    let references: Vec<SupernodeRef> = candidates.iter().map(reference).collect();
    let n = u8::try_from(n).unwrap_or(u8::MAX);
    let chosen = draw::draw(nonces.0, nonces.1, &references, n);
    let descriptor =
        |chosen: &SupernodeRef| candidates.iter().find(|d| d.service() == chosen.service).cloned();
    chosen.iter().filter_map(descriptor).collect()
}

/// The network is that of all its addresses: one could be invented.
fn reference(descriptor: &SupernodeDescriptor) -> SupernodeRef {
    let addresses = descriptor.known_relay().chain(descriptor.known_addresses());
    let network = group_of_all(addresses.map(|address| address.ip));
    SupernodeRef { service: descriptor.service(), network }
}
