//! More relays for a call that goes on: the list of a leg is refilled before it runs out.
//!
//! The caller commits to a number and to the relays it proposes; the callee answers with a number and relays of its own;
//! the caller shows what it committed to, and both draw the same relays from all that was named. A round that was
//! answered must be shown before another begins, so that nobody draws until the outcome pleases.

use tandem_proto::draw;
use tandem_proto::signed::SupernodeDescriptor;
use tandem_proto::wire::signal_frame::Body;
use tandem_proto::wire::{Redraw, RedrawAnswer, RedrawReveal};

use super::confirm;
use super::leg::{Leg, Phase};
use super::notes::shorts;
use super::plan::{self, RELAYS_WANTED};
use super::running::top_up;
use super::types::{Command, LegId, Role};
use super::{Calls, Fault, Head, Out, Parts};
use crate::time::Now;

/// The list is refilled when fewer relays than this stand by.
const SPARES_LEAST: usize = 4;
/// After the call was agreed the list is looked at this soon, in milliseconds: set-up comes first.
const FIRST_LOOK_MS: u64 = 5_000;
/// And then this often.
const LOOK_MS: u64 = 60_000;
/// A round follows the last after this long at the soonest, in milliseconds.
const SPACING_MS: u64 = 10_000;
/// A round that begins sooner than this after the last is passed over, in milliseconds; the caller asks again.
const SPACING_LEAST_MS: u64 = 5_000;
/// A frame that is not answered is sent again after this long, in milliseconds.
const REPEAT_MS: u64 = 10_000;
/// The driver has this long to hear of newer relays from its homes, in milliseconds.
const GATHER_MS: u64 = 1_000;
/// The same when none stands by.
const GATHER_HURRIED_MS: u64 = 250;
/// A relay was lost: the list is looked at after this long, in milliseconds.
const HURRY_MS: u64 = 100;
/// Rounds of one call; more is an attack.
const ROUNDS_MAX: u32 = 1_000;

/// How far the newest round is.
#[derive(Debug, Clone, PartialEq, Default)]
enum Step {
    /// No round yet.
    #[default]
    None,
    /// Caller: the driver gathers relays; the round begins soon.
    Gathering,
    /// Caller: committed.
    Proposed { nonce: [u8; 32], proposed: Vec<SupernodeDescriptor>, frame: Redraw },
    /// Callee: the driver gathers relays; the answer follows soon.
    Asked { commit: Vec<u8> },
    /// Callee: answered.
    Answered { commit: Vec<u8>, nonce: [u8; 32], vouched: Vec<SupernodeDescriptor>, frame: RedrawAnswer },
    /// Callee: the caller has shown.
    Seen { commit: Vec<u8>, reveal: RedrawReveal },
}

/// The redraws of one leg.
#[derive(Debug, Clone, Default)]
pub(super) struct Redraws {
    round: u32,
    step: Step,
    /// Caller: the newest round that was shown, which the other end may have missed.
    shown: Option<(RedrawAnswer, RedrawReveal)>,
    /// When the newest round began, and when there is something to do (monotonic milliseconds).
    began: u64,
    next: Option<u64>,
}

impl Redraws {
    /// The call is agreed.
    pub(super) fn start(&mut self, role: Role, now: Now) {
        self.next = (role == Role::Caller).then_some(now.mono_ms + FIRST_LOOK_MS);
    }

    /// A relay was lost: the list may need another look.
    pub(super) fn hurry(&mut self, now: Now) {
        let soonest = (now.mono_ms + HURRY_MS).max(self.began + SPACING_MS);
        if let Some(next) = self.next.as_mut().filter(|_| self.step == Step::None) {
            *next = (*next).min(soonest);
        }
    }

    pub(super) fn next_timeout(&self) -> Option<u64> {
        self.next
    }

    /// What a stream that was opened anew must carry again, in this order.
    fn repeated(&self) -> impl Iterator<Item = Body> {
        let shown = self.shown.as_ref().map(|(_, reveal)| Body::RedrawReveal(reveal.clone()));
        let step = match &self.step {
            Step::Proposed { frame, .. } => Some(Body::Redraw(frame.clone())),
            Step::Answered { frame, .. } => Some(Body::RedrawAnswer(frame.clone())),
            Step::None | Step::Gathering | Step::Asked { .. } | Step::Seen { .. } => None,
        };
        shown.into_iter().chain(step)
    }
}

impl Leg {
    /// Repeats on the newest stream what a redraw may have lost with the one before.
    pub(super) fn repeat_redraw(&self, out: &mut Out) {
        self.redraws.repeated().for_each(|body| self.send(out, body));
    }
}

impl Calls {
    /// Something of a redraw is due.
    pub(super) fn redraw_timeout(&mut self, id: LegId, now: Now) {
        let nonce = self.random();
        let Some(Parts { head, leg, out, own_relays, .. }) = self.parts(id) else { return };
        match leg.redraws.step {
            Step::None => look(leg, out, now),
            Step::Gathering => propose(leg, out, nonce, own_relays, now),
            Step::Asked { .. } => answer(leg, out, nonce, own_relays, now),
            Step::Proposed { .. } => {
                leg.repeat_redraw(out);
                leg.redraws.next = Some(now.mono_ms + REPEAT_MS);
            }
            Step::Answered { .. } | Step::Seen { .. } => leg.redraws.next = None,
        }
        if leg.plan.live() < RELAYS_WANTED && head.stage == super::Stage::Established {
            top_up(leg, out, now);
        }
    }

    pub(super) fn on_redraw(&mut self, id: LegId, frame: Redraw, now: Now) -> Result<(), Fault> {
        let Some(Parts { leg, out, .. }) = self.parts(id) else { return Ok(()) };
        if leg.role != Role::Callee || leg.phase != Phase::Confirmed || frame.commit.len() != 32 {
            return Err(Fault::protocol("it asked for a redraw that cannot be"));
        }
        let redraws = &mut leg.redraws;
        if frame.round < redraws.round || frame.round > ROUNDS_MAX {
            return (frame.round <= ROUNDS_MAX).then_some(()).ok_or_else(too_many);
        }
        if frame.round == redraws.round {
            let same = match &redraws.step {
                Step::Asked { commit } | Step::Answered { commit, .. } | Step::Seen { commit, .. } => {
                    *commit == frame.commit
                }
                _ => false,
            };
            leg.repeat_redraw(out);
            return same.then_some(()).ok_or_else(|| Fault::protocol("it changed a redraw under way"));
        }
        let shown = matches!(redraws.step, Step::None | Step::Seen { .. });
        if frame.round != redraws.round + 1 || !shown {
            return Err(Fault::protocol("it began another redraw without showing its number of the last"));
        }
        if redraws.round > 0 && now.mono_ms < redraws.began + SPACING_LEAST_MS {
            return Ok(());
        }
        redraws.round = frame.round;
        redraws.began = now.mono_ms;
        redraws.step = Step::Asked { commit: frame.commit };
        gather(leg, out, now);
        Ok(())
    }

    pub(super) fn on_redraw_answer(&mut self, id: LegId, frame: RedrawAnswer, now: Now) -> Result<(), Fault> {
        let Some(Parts { head, leg, out, own_relays, .. }) = self.parts(id) else { return Ok(()) };
        if leg.role != Role::Caller || frame.round > leg.redraws.round {
            return Err(Fault::protocol("it answered a redraw that was not asked for"));
        }
        if let Some((answer, _)) = leg.redraws.shown.as_ref().filter(|(known, _)| known.round == frame.round)
        {
            if *answer != frame {
                return Err(Fault::protocol("it answered a redraw twice, and not the same"));
            }
            // What was shown has been lost with its stream.
            leg.repeat_redraw(out);
            return Ok(());
        }
        let Step::Proposed { nonce, proposed, .. } = &leg.redraws.step else { return Ok(()) };
        if frame.round < leg.redraws.round {
            return Ok(());
        }
        let (nonce, proposed) = (*nonce, proposed.clone());
        let theirs: [u8; 32] = nonce_of(&frame.nonce)?;
        let vouched = plan::offered(&frame.relays, now).map_err(breach)?;
        let reveal =
            RedrawReveal { round: frame.round, nonce: nonce.to_vec(), relays: plan::signed(&proposed) };
        leg.send(out, Body::RedrawReveal(reveal.clone()));
        let gained = plan::redrawn((&nonce, &theirs), &proposed, &vouched);
        leg.redraws.step = Step::None;
        leg.redraws.shown = Some((frame, reveal));
        take_in((head, leg, out), gained, own_relays, now);
        Ok(())
    }

    pub(super) fn on_redraw_reveal(&mut self, id: LegId, frame: RedrawReveal, now: Now) -> Result<(), Fault> {
        let Some(Parts { head, leg, out, own_relays, .. }) = self.parts(id) else { return Ok(()) };
        if leg.role != Role::Callee || frame.round > leg.redraws.round {
            return Err(Fault::protocol("it showed a number for a redraw that was not answered"));
        }
        if frame.round < leg.redraws.round {
            return Ok(());
        }
        let (commit, nonce, vouched) = match &leg.redraws.step {
            Step::Answered { commit, nonce, vouched, .. } => (commit.clone(), *nonce, vouched.clone()),
            Step::Seen { reveal, .. } if *reveal == frame => return Ok(()),
            _ => return Err(Fault::protocol("it showed another number for a redraw, or too early")),
        };
        let theirs: [u8; 32] = nonce_of(&frame.nonce)?;
        let proposed = plan::offered(&frame.relays, now).map_err(breach)?;
        if draw::commit(&theirs, &plan::keys(&proposed)).as_slice() != commit {
            return Err(breach(plan::DrawError::Reveal));
        }
        let gained = plan::redrawn((&theirs, &nonce), &proposed, &vouched);
        leg.redraws.step = Step::Seen { commit, reveal: frame };
        take_in((head, leg, out), gained, own_relays, now);
        Ok(())
    }
}

/// Caller: whether the list needs refilling.
fn look(leg: &mut Leg, out: &mut Out, now: Now) {
    if leg.plan.spares(now) >= SPARES_LEAST || leg.redraws.round >= ROUNDS_MAX {
        leg.redraws.next = Some(now.mono_ms + LOOK_MS);
        return;
    }
    leg.redraws.step = Step::Gathering;
    gather(leg, out, now);
}

fn gather(leg: &mut Leg, out: &mut Out, now: Now) {
    out.push(Command::RefreshRelays);
    let after = if leg.plan.spares(now) == 0 { GATHER_HURRIED_MS } else { GATHER_MS };
    leg.redraws.next = Some(now.mono_ms + after);
}

fn propose(leg: &mut Leg, out: &mut Out, nonce: [u8; 32], own: &[SupernodeDescriptor], now: Now) {
    let proposed = leg.plan.fresh(own, now);
    leg.redraws.round += 1;
    let commit = draw::commit(&nonce, &plan::keys(&proposed)).to_vec();
    let frame = Redraw { round: leg.redraws.round, commit };
    leg.redraws.step = Step::Proposed { nonce, proposed, frame: frame.clone() };
    leg.redraws.began = now.mono_ms;
    leg.redraws.next = Some(now.mono_ms + REPEAT_MS);
    leg.send(out, Body::Redraw(frame));
}

fn answer(leg: &mut Leg, out: &mut Out, nonce: [u8; 32], own: &[SupernodeDescriptor], now: Now) {
    let Step::Asked { commit } = &leg.redraws.step else { return };
    let vouched = leg.plan.fresh(own, now);
    let frame =
        RedrawAnswer { round: leg.redraws.round, nonce: nonce.to_vec(), relays: plan::signed(&vouched) };
    leg.redraws.step = Step::Answered { commit: commit.clone(), nonce, vouched, frame: frame.clone() };
    leg.redraws.next = None;
    leg.send(out, Body::RedrawAnswer(frame));
}

/// Both ends: the relays that were drawn join the list.
fn take_in(
    (head, leg, out): (&mut Head, &mut Leg, &mut Out),
    relays: Vec<SupernodeDescriptor>,
    own: &[SupernodeDescriptor],
    now: Now,
) {
    let services = plan::keys(&relays);
    let gained = leg.plan.extend(relays, now);
    confirm::ask(head, leg, out, own, now);
    if leg.role == Role::Caller {
        // Where nothing new is known, asking again soon gives nothing.
        let after = if gained > 0 { SPACING_MS } else { LOOK_MS };
        leg.redraws.next = Some(now.mono_ms + after);
    }
    if gained > 0 {
        head.note(out, &format!("More relays were drawn by both ends and stand by: {}.", shorts(&services)));
    }
    if leg.plan.live() < RELAYS_WANTED {
        top_up(leg, out, now);
    }
}

fn nonce_of(bytes: &[u8]) -> Result<[u8; 32], Fault> {
    bytes.try_into().map_err(|_| Fault::protocol("its number for a redraw is not 32 bytes long"))
}

fn breach(error: plan::DrawError) -> Fault {
    Fault::protocol(format!("its redraw of relays: {error}"))
}

fn too_many() -> Fault {
    Fault::protocol("it asked for more than 1000 redraws")
}
