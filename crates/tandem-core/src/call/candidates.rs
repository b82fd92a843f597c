//! Candidates of both ends: which are told and believed, and how many are kept.
//!
//! A generation counts its sender's changes of network. Candidates of a new one come in addition, under the same keys:
//! nothing begins again. What is kept is bounded; what left the list stays with the media session as long as it likes.

use std::collections::VecDeque;

use tandem_proto::ids::ServiceKey;
use tandem_proto::wire::signal_frame::Body;
use tandem_proto::wire::{Candidate, Candidates};

use super::leg::{Leg, Phase};
use super::plan::Use;
use super::running::join;
use super::types::{Command, LegId};
use super::{Calls, Fault, Head, Out, Parts};
use crate::time::Now;

/// Candidates kept of each end, a generation.
const CANDIDATES_MAX: usize = 32;
/// Candidates in one frame.
const CANDIDATES_FRAME_MAX: usize = 16;
/// Kinds of candidates (spec/signalling.md): above this, unknown.
const KIND_RELAYED: u32 = 2;
/// Changes of network in one call; after these, candidates go on under the last number.
const GENERATION_MAX: u32 = 1_000;
/// Changes of network within this time are one, in milliseconds.
const GENERATION_MS: u64 = 1_000;
/// New generations of the other end within [`GENERATIONS_MS`]; more is an attack.
const GENERATIONS_MAX: usize = 16;
/// While nothing is heard, the other end is followed to a relay that was given up this long ago, in milliseconds.
const FOLLOW_AGAIN_MS: u64 = 1_000;
/// In milliseconds.
const GENERATIONS_MS: u64 = 10_000;

/// The candidates kept of one end: those of its newest generation and of the one before.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    generation: u32,
    list: Vec<(u32, Candidate)>,
    /// When the newest generations began (monotonic milliseconds), at most [`GENERATIONS_MAX`].
    begun: VecDeque<u64>,
}

impl Known {
    pub(super) fn list(&self) -> &[(u32, Candidate)] {
        &self.list
    }

    /// Our network has changed; `false` when that counts to the last change.
    pub(super) fn begin_generation(&mut self, now: Now) -> bool {
        let recent = self.begun.back().is_some_and(|at| now.mono_ms < at + GENERATION_MS);
        if recent || self.generation >= GENERATION_MAX {
            return false;
        }
        self.advance(self.generation + 1, now);
        true
    }

    /// They may not be shown: only candidates on relays stay. Says whether there were others.
    pub(super) fn forget_addresses(&mut self) -> bool {
        let before = self.list.len();
        self.list.retain(|(_, candidate)| candidate.kind == KIND_RELAYED);
        self.list.len() < before
    }

    fn advance(&mut self, generation: u32, now: Now) {
        self.generation = generation;
        self.list.retain(|(of, _)| of.saturating_add(1) >= generation);
        if self.begun.len() >= GENERATIONS_MAX {
            self.begun.pop_front();
        }
        self.begun.push_back(now.mono_ms);
    }

    /// The other end's network has changed; `false`: too often to be true.
    fn follow(&mut self, generation: u32, now: Now) -> bool {
        let oldest = self.begun.front().filter(|_| self.begun.len() >= GENERATIONS_MAX);
        let hurries = oldest.is_some_and(|at| now.mono_ms < at + GENERATIONS_MS);
        if hurries {
            return false;
        }
        self.advance(generation, now);
        true
    }

    /// Keeps a candidate; `false` when it is known or too many are. Those on relays that are no longer used make room.
    fn add(&mut self, generation: u32, candidate: &Candidate, in_use: impl Fn(ServiceKey) -> bool) -> bool {
        if self.list.iter().any(|(of, known)| *of == generation && known == candidate) {
            return false;
        }
        let count = |list: &[(u32, Candidate)]| list.iter().filter(|(of, _)| *of == generation).count();
        if count(&self.list) >= CANDIDATES_MAX {
            self.list.retain(|(_, known)| known.kind != KIND_RELAYED || relay_of(known).is_some_and(&in_use));
        }
        if count(&self.list) >= CANDIDATES_MAX {
            return false;
        }
        self.list.push((generation, candidate.clone()));
        true
    }
}

impl Calls {
    /// Candidates of our media session. Those that the other end must not see are held back here: addresses of ours
    /// go to contacts only, and not when either end wants relays only. The callee's wish comes with Ringing, so before
    /// that the caller's are kept and not sent.
    pub fn handle_local_candidates(&mut self, leg: LegId, candidates: &[Candidate], _now: Now) {
        let Some(Parts { head, leg, out, .. }) = self.parts(leg) else { return };
        let mut fresh = Vec::new();
        let generation = leg.local.generation;
        for candidate in candidates {
            let plan = &leg.plan;
            if is_wanted(head, leg, candidate)
                && leg.local.add(generation, candidate, |relay| plan.is_in_use(relay))
            {
                fresh.push((generation, candidate.clone()));
            }
        }
        if leg.awaits_ringing() {
            return;
        }
        for frame in frames(&fresh) {
            leg.send_all(out, &Body::Candidates(frame));
        }
    }

    pub(super) fn on_candidates(&mut self, id: LegId, frame: Candidates, now: Now) -> Result<(), Fault> {
        let Some(Parts { head, leg, out, .. }) = self.parts(id) else { return Ok(()) };
        if frame.candidates.len() > CANDIDATES_FRAME_MAX {
            return Err(Fault::protocol("it sent more than 16 candidates at once"));
        }
        let generation = frame.generation;
        if generation > GENERATION_MAX {
            return Err(Fault::protocol("its network cannot have changed so often"));
        }
        // Of a network that the other end left long ago; or of a call before this one.
        if generation.saturating_add(1) < leg.remote.generation || leg.phase < Phase::Ringing {
            return Ok(());
        }
        frame.candidates.iter().try_for_each(check_candidate)?;
        if generation > leg.remote.generation && !leg.remote.follow(generation, now) {
            return Err(Fault::protocol("its network cannot change that often"));
        }
        for candidate in frame.candidates {
            if !is_wanted(head, leg, &candidate) {
                continue;
            }
            follow_to_relay(head, leg, out, &candidate, now);
            let plan = &leg.plan;
            if leg.remote.add(generation, &candidate, |relay| plan.is_in_use(relay)) {
                out.push(Command::AddRemoteCandidate { leg: id, generation, candidate });
            }
        }
        Ok(())
    }
}

/// The frames that carry these candidates, in their order.
pub(super) fn frames(list: &[(u32, Candidate)]) -> Vec<Candidates> {
    let mut frames: Vec<Candidates> = Vec::new();
    for (generation, candidate) in list {
        let fits = |last: &&mut Candidates| {
            last.generation == *generation && last.candidates.len() < CANDIDATES_FRAME_MAX
        };
        match frames.last_mut().filter(fits) {
            Some(last) => last.candidates.push(candidate.clone()),
            None => {
                frames.push(Candidates { generation: *generation, candidates: vec![candidate.clone()] });
            }
        }
    }
    frames
}

/// Whether a candidate of either end may be used in this call.
fn is_wanted(head: &Head, leg: &Leg, candidate: &Candidate) -> bool {
    if candidate.kind != KIND_RELAYED {
        // Ringing says what the callee wants, whichever end this is.
        let refused = leg.ringing.as_ref().is_some_and(|ringing| ringing.relay_only);
        return candidate.kind < KIND_RELAYED && head.direct_allowed() && !refused;
    }
    relay_of(candidate).is_some_and(|service| leg.plan.state(service).is_some())
}

fn relay_of(candidate: &Candidate) -> Option<ServiceKey> {
    ServiceKey::try_from(candidate.relay.as_slice()).ok()
}

fn check_candidate(candidate: &Candidate) -> Result<(), Fault> {
    let address = matches!(candidate.address.len(), 4 | 16);
    let port = u16::try_from(candidate.port).is_ok_and(|port| port != 0);
    let relay = matches!(candidate.relay.len(), 0 | 32);
    (address && port && relay).then_some(()).ok_or_else(|| Fault::protocol("one of its candidates cannot be"))
}

/// The other end is on a relay of the list that this end has not joined: that is where they meet.
fn follow_to_relay(head: &Head, leg: &mut Leg, out: &mut Out, candidate: &Candidate, now: Now) {
    if candidate.kind != KIND_RELAYED {
        return;
    }
    let Some(service) = relay_of(candidate) else { return };
    // While nothing is heard, a relay given up before may be the one that is left: the other end stands there.
    let dead = |since| now.mono_ms >= since + FOLLOW_AGAIN_MS;
    let again = leg.watch.silent_since.is_some()
        && matches!(leg.plan.state(service), Some(Use::Dead(since)) if dead(since));
    if again {
        leg.plan.set(service, Use::Spare);
    }
    if head.direct_allowed() {
        join(leg, out, service, now);
    } else if leg.plan.state(service) == Some(Use::Spare) {
        follow_in_order(leg, out, service, now);
    }
}

/// Whoever may not see this end's address does not choose the relay that does: only the next of the list is joined.
fn follow_in_order(leg: &mut Leg, out: &mut Out, service: ServiceKey, now: Now) {
    let Some(next) = leg.plan.next(now) else { return };
    let (plan, mut theirs) = (&leg.plan, leg.remote.list().iter());
    let meet = theirs.any(|(_, candidate)| relay_of(candidate).is_some_and(|relay| plan.is_in_use(relay)));
    if next == service || !meet {
        join(leg, out, next, now);
    }
}
