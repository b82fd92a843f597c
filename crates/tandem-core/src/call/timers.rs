//! What happens when nothing happens.

use super::leg::{Leg, Phase};
use super::running::top_up;
use super::signal::Stream;
use super::types::{Command, EndReason, LegId, Role, Stage};
use super::{Calls, Head, Parts};
use crate::time::Now;

/// The directory has this long, in milliseconds.
const LOOK_UP_MS: u64 = 15_000;
/// From the look-up to the first device that rings.
const REACH_MS: u64 = 30_000;
/// A call rings this long.
const RING_MS: u64 = 60_000;
/// The callee waits a little longer, so that it is the caller who says so.
const RING_GRACE_MS: u64 = 5_000;
/// While it rings, the caller may be away this long.
const CALLER_AWAY_MS: u64 = 20_000;
/// From answer to confirmation.
const CONFIRM_MS: u64 = 20_000;
/// An established call from which nothing has been heard after this goes on to fallback relays.
const FIRST_SOUND_MS: u64 = 5_000;
/// An agreed call ends as lost when this long nothing has been heard, neither on a path nor by signalling, or never
/// any sound: longer than a change of network, a lift or a tunnel takes.
const SILENT_MS: u64 = 60_000;
/// And after this long without sound, though signalling stands.
const SILENT_MS_MAX: u64 = 120_000;
/// The other account's device set is looked up anew this often while a call rings or stands: a device that was revoked
/// is out of it well within a minute.
pub(super) const SET_CHECK_MS: u64 = 40_000;

impl Calls {
    /// When to call `handle_timeout`, in monotonic milliseconds; `None`: only after another event.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        let introduction = self.streams.values().filter_map(Stream::introduction_deadline).min();
        let call = self.active.as_ref();
        let stage = call.and_then(|call| stage_deadline(&call.head));
        let legs =
            call.and_then(|call| call.legs.iter().filter_map(|leg| leg_deadline(leg, &call.head)).min());
        let check = call.map(|call| call.head.check_ms);
        let others = [self.asking_deadline(), self.farewell_deadline()];
        [introduction, stage, legs, check].into_iter().chain(others).flatten().min()
    }

    /// Does what is due. Calling it early does nothing.
    pub fn handle_timeout(&mut self, now: Now) {
        self.clock_ms = now.mono_ms;
        self.drop_unintroduced(now);
        self.asking_timeout(now);
        let legs: Vec<LegId> =
            self.active.iter().flat_map(|call| call.legs.iter().map(|leg| leg.id)).collect();
        for leg in legs {
            self.leg_timeout(leg, now);
        }
        self.check_set(now);
        let due = self.active.as_ref().is_some_and(|call| is_due(stage_deadline(&call.head), now));
        if due {
            self.stage_timeout(now);
        }
        // After what may have ended just now.
        self.farewell_timeout(now);
    }

    /// Looks the other account up again when what is known of its devices has grown old. The call goes on meanwhile, and
    /// ends if the answer revokes its device; no answer changes nothing.
    fn check_set(&mut self, now: Now) {
        let Some(head) = self.active.as_mut().map(|call| &mut call.head) else { return };
        if is_due(Some(head.check_ms), now) {
            head.check_ms = now.mono_ms + SET_CHECK_MS;
            self.out.push(Command::LookUp { call: head.id, account: head.peer });
        }
    }

    fn stage_timeout(&mut self, now: Now) {
        let Some(head) = self.active.as_mut().map(|call| &mut call.head) else { return };
        match (head.stage, head.role) {
            (Stage::LookingUp, _) => {
                let why = "The directory did not answer, so nobody could be found. Check that this machine is online.";
                self.end(EndReason::Unreachable, Some(why.into()), true);
            }
            (Stage::Reaching, _) => self.end(EndReason::Unreachable, None, true),
            (Stage::Ringing, _) => self.end(EndReason::NoAnswer, None, true),
            (Stage::Answering, _) => {
                let why = "You answered, and the caller did not confirm it: the connection was lost. Call them back.";
                self.end(EndReason::Lost, Some(why.into()), true);
            }
            (Stage::Established, _) => head.stage_ms = now.mono_ms,
        }
    }

    fn leg_timeout(&mut self, id: LegId, now: Now) {
        let Some(Parts { leg, .. }) = self.parts(id) else { return };
        if is_due(leg.opening_deadline(), now) {
            self.attempt_failed(id, "nothing answered in time", now);
        }
        let vias = self.vias(id);
        let Some(Parts { head, leg, .. }) = self.parts(id) else { return };
        if is_due(lost_deadline(leg, head), now) {
            let why = "The caller's connection was lost while it rang.".to_owned();
            return self.end_leg(id, EndReason::Cancelled, Some(why), false);
        }
        if is_due(leg.watch.peer_ended_at, now) {
            return self.end_without_word(id);
        }
        let silent = silent_end(leg);
        if is_due(silent, now) {
            return self.end_leg(id, EndReason::Lost, None, true);
        }
        let Some(Parts { leg, out, .. }) = self.parts(id) else { return };
        if is_due(leg.reach.next_ms, now) {
            let avoid = [leg.plan.dead(), vias].concat();
            leg.open(out, &avoid, now);
        }
        let overdue = leg.plan.expire(now);
        let waited = leg.plan.stop_waiting(now);
        if !overdue.is_empty() || waited || is_due(leg.watch.top_up_at, now) {
            top_up(leg, out, now);
        }
        if is_due(leg.redraws.next_timeout(), now) {
            self.redraw_timeout(id, now);
        }
        let Some(Parts { leg, .. }) = self.parts(id) else { return };
        if is_due(first_sound_deadline(leg), now) {
            return self.handle_all_paths_silent(id, now);
        }
        if is_due(leg.watch.tell_at, now) {
            self.tell_lost(id);
        }
        let Some(Parts { leg, .. }) = self.parts(id) else { return };
        if is_due(leg.watch.next_round, now) {
            self.fall_back(id, now);
        }
    }
}

fn is_due(deadline: Option<u64>, now: Now) -> bool {
    deadline.is_some_and(|deadline| now.mono_ms >= deadline)
}

fn stage_deadline(head: &Head) -> Option<u64> {
    let after_ms = match (head.stage, head.role) {
        (Stage::LookingUp, _) => LOOK_UP_MS,
        (Stage::Reaching, _) => REACH_MS,
        (Stage::Ringing, Role::Caller) => RING_MS,
        (Stage::Ringing, Role::Callee) => RING_MS + RING_GRACE_MS,
        (Stage::Answering, _) => CONFIRM_MS,
        (Stage::Established, _) => return None,
    };
    Some(head.stage_ms + after_ms)
}

fn leg_deadline(leg: &Leg, head: &Head) -> Option<u64> {
    let deadlines = [
        leg.opening_deadline(),
        lost_deadline(leg, head),
        silent_end(leg),
        leg.reach.next_ms,
        leg.plan.next_timeout(),
        leg.watch.top_up_at,
        leg.watch.next_round,
        leg.watch.tell_at,
        leg.watch.peer_ended_at,
        leg.redraws.next_timeout(),
        first_sound_deadline(leg),
    ];
    deadlines.into_iter().flatten().min()
}

/// The callee's phone does not ring on for a caller who is gone.
fn lost_deadline(leg: &Leg, head: &Head) -> Option<u64> {
    let rings = leg.role == Role::Callee && head.stage == Stage::Ringing;
    leg.reach.lost_since.filter(|_| rings).map(|since| since + CALLER_AWAY_MS)
}

/// When an agreed call is given up because nothing is heard.
fn silent_end(leg: &Leg) -> Option<u64> {
    if leg.phase != Phase::Confirmed {
        return None;
    }
    if !leg.watch.sound {
        return Some(leg.watch.started + SILENT_MS);
    }
    let since = leg.watch.silent_since?;
    let without_signalling = leg.reach.lost_since.filter(|_| leg.streams.is_empty());
    let end = without_signalling.map_or(u64::MAX, |lost| lost.max(since) + SILENT_MS);
    Some(end.min(since + SILENT_MS_MAX))
}

fn first_sound_deadline(leg: &Leg) -> Option<u64> {
    let waits = leg.phase == Phase::Confirmed && !leg.watch.sound && leg.watch.silent_since.is_none();
    waits.then_some(leg.watch.started + FIRST_SOUND_MS)
}
