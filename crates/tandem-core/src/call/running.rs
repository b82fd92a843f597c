//! What goes on while a call runs: grants, relays that die, silence, changes of network, path reports, hang-up.

use tandem_proto::grant::call_tag;
use tandem_proto::ids::ServiceKey;
use tandem_proto::wire::signal_frame::Body;
use tandem_proto::wire::{PathReport, PathState};

use super::incoming::printable;
use super::leg::{Leg, Phase};
use super::notes::{short, shorts};
use super::plan::{RELAYS_WANTED, Use};
use super::types::{CallEvent, Command, EndReason, LegId, RelayAccess, Role, Stage};
use super::{Call, Calls, Fault, Out, Parts};
use crate::time::Now;

/// Relays in the media session at once; above it, none is added because the other end says so.
const LIVE_MAX: usize = 6;
/// A relay that died is replaced after this long, in milliseconds: it may only have stumbled.
const TOP_UP_MS: u64 = 1_000;
/// As long as nothing is heard on any path, two more relays are tried this often, in milliseconds.
const ROUND_MS: u64 = 3_000;
/// The callee re-opens signalling itself when the caller has not done so by then, in milliseconds.
const CALLEE_OPENS_MS: u64 = 700;
/// The same when it is the callee whose network changed: the caller may not know of it.
const CALLEE_MOVED_MS: u64 = 200;
/// After this long without anything on any path the person is told, in milliseconds.
const TELL_MS: u64 = 2_000;
/// The other end's media has ended a call: its HangUp may come this much later, in milliseconds.
const LAST_WORD_MS: u64 = 1_000;
/// The same before the call was agreed: without the HangUp it is not known whether somebody answered elsewhere.
const LAST_WORD_RINGING_MS: u64 = 3_000;
/// Paths in one report.
const PATHS_MAX: usize = 16;

impl Calls {
    /// What a relay said to our request for a grant.
    pub fn handle_grant(
        &mut self,
        leg: LegId,
        service: ServiceKey,
        grant: Result<RelayAccess, String>,
        now: Now,
    ) {
        let Some(Parts { head, leg, out, .. }) = self.parts(leg) else { return };
        if !matches!(leg.plan.state(service), Some(Use::Asked(_))) {
            return;
        }
        match grant {
            Ok(mut access) => {
                if access.addresses.is_empty() {
                    access.addresses = leg.plan.addresses(service);
                }
                leg.plan.set(service, Use::Joined);
                let tag = call_tag(&leg.secret, service);
                out.push(Command::AddRelay { leg: leg.id, service, tag, access });
            }
            Err(reason) => {
                leg.plan.set(service, Use::Dead(now.mono_ms));
                leg.redraws.hurry(now);
                let reason = super::signal::clipped(&reason);
                head.note(
                    out,
                    &format!(
                        "Relay {} did not take the call ({reason}); the next of the list is asked.",
                        short(service)
                    ),
                );
                top_up(leg, out, now);
            }
        }
    }

    /// First sound of the other end was heard.
    pub fn handle_first_media(&mut self, leg: LegId, now: Now) {
        let Some(Parts { head, leg, out, .. }) = self.parts(leg) else { return };
        if leg.phase != Phase::Confirmed {
            leg.watch.early_sound = true;
            return;
        }
        if leg.watch.sound {
            return;
        }
        leg.watch.sound = true;
        leg.watch.silent_since = None;
        leg.watch.next_round = None;
        leg.watch.tell_at = None;
        head.setup.media = head.answered_ms.map(|answered| now.mono_ms - answered);
        out.report(head.id, CallEvent::Sound);
    }

    /// A relay of the call carries nothing any more. If fewer than two are left, one of the fallback list is added
    /// after a second.
    pub fn handle_relay_dead(&mut self, leg: LegId, service: ServiceKey, now: Now) {
        self.replace_relay(leg, service, "fell silent", now);
    }

    /// A relay of the call drains: it still carries, and is replaced as one that carries nothing.
    pub fn handle_relay_leaving(&mut self, leg: LegId, service: ServiceKey, now: Now) {
        self.replace_relay(leg, service, "is stopping", now);
    }

    /// A relay has no room for the call, and never was part of it: the next of the list is asked at once.
    pub fn handle_relay_full(&mut self, leg: LegId, service: ServiceKey, now: Now) {
        let Some(Parts { head, leg, out, .. }) = self.parts(leg) else { return };
        if leg.plan.state(service) != Some(Use::Joined) {
            return;
        }
        leg.plan.set(service, Use::Dead(now.mono_ms));
        leg.redraws.hurry(now);
        head.note(out, &format!("Relay {} has no room; the next of the list is asked.", short(service)));
        top_up(leg, out, now);
    }

    fn replace_relay(&mut self, leg: LegId, service: ServiceKey, what: &str, now: Now) {
        let Some(Parts { head, leg, out, .. }) = self.parts(leg) else { return };
        if leg.plan.state(service) != Some(Use::Joined) {
            return;
        }
        leg.plan.set(service, Use::Dead(now.mono_ms));
        leg.redraws.hurry(now);
        head.note(out, &format!("Relay {} {what}.", short(service)));
        if leg.plan.live() < RELAYS_WANTED && leg.watch.top_up_at.is_none() {
            leg.watch.top_up_at = Some(now.mono_ms + TOP_UP_MS);
        }
    }

    /// A relay thought dead carries again.
    pub fn handle_relay_alive(&mut self, leg: LegId, service: ServiceKey, _now: Now) {
        let Some(Parts { head, leg, out, .. }) = self.parts(leg) else { return };
        if matches!(leg.plan.state(service), Some(Use::Dead(_))) {
            leg.plan.set(service, Use::Joined);
            head.note(out, &format!("Relay {} is heard again.", short(service)));
        }
    }

    /// Nothing is heard on any path: take the next two fallback relays now and re-open signalling by other homes.
    pub fn handle_all_paths_silent(&mut self, leg: LegId, now: Now) {
        let Some(parts) = self.parts(leg) else { return };
        let is_new = parts.leg.phase == Phase::Confirmed && parts.leg.watch.silent_since.is_none();
        if is_new {
            parts.leg.watch.silent_since = Some(now.mono_ms);
            parts.leg.watch.tell_at = Some(now.mono_ms + TELL_MS);
            parts.head.note(
                parts.out,
                "Nothing was heard on any path; both ends went on to the fallback relays they had agreed on.",
            );
            self.fall_back(leg, now);
        }
    }

    /// Sound is heard again after silence on all paths.
    pub fn handle_sound_again(&mut self, leg: LegId, now: Now) {
        let Some(Parts { head, leg, out, .. }) = self.parts(leg) else { return };
        let Some(since) = leg.watch.silent_since.take() else { return };
        leg.watch.next_round = None;
        leg.watch.tell_at = None;
        let joined = leg.plan.joined();
        let after = now.mono_ms.saturating_sub(since);
        head.note(out, &format!("Sound came back {after} ms later; relays in use: {}.", shorts(&joined)));
    }

    /// This machine's network changed: other addresses, another interface, or any network again. The call going on
    /// begins a new generation of candidates (the media session finds them) and opens its signalling anew at once,
    /// since the streams it has may run through connections that are gone. Several changes within a second are one.
    pub fn handle_network_changed(&mut self, now: Now) {
        self.clock_ms = now.mono_ms;
        self.drop_lines();
        self.farewells_moved(now);
        let Some(Call { head, legs }) = self.active.as_mut() else { return };
        let out = &mut self.out;
        let mut fresh = false;
        for leg in legs.iter_mut() {
            fresh |= leg.local.begin_generation(now);
        }
        if fresh && head.stage > Stage::Reaching {
            head.note(out, "This machine's network changed; the call goes on and is moved to the new one.");
        }
        out.push(Command::LookUp { call: head.id, account: head.peer });
        let legs: Vec<LegId> = legs.iter().map(|leg| leg.id).collect();
        for leg in legs {
            self.move_leg(leg, now);
        }
    }

    fn move_leg(&mut self, id: LegId, now: Now) {
        let vias = self.vias(id);
        let Some(Parts { leg, out, .. }) = self.parts(id) else { return };
        leg.begin_reaching_again();
        if leg.role == Role::Caller {
            // Homes that carry our streams now may be held by connections that died: others come first.
            let avoid = [leg.plan.dead(), vias].concat();
            leg.open(out, &avoid, now);
        } else {
            leg.reach.next_ms = Some(now.mono_ms + CALLEE_MOVED_MS);
        }
        if leg.watch.silent_since.is_some() {
            self.fall_back(id, now);
        }
    }

    /// The person hears of it when silence on all paths lasts.
    pub(super) fn tell_lost(&mut self, leg: LegId) {
        let Some(Parts { head, leg, out, .. }) = self.parts(leg) else { return };
        leg.watch.tell_at = None;
        head.note(
            out,
            "The connection is lost and is being tried again. If it does not come back within a minute, the call ends.",
        );
    }

    /// One round against silence.
    pub(super) fn fall_back(&mut self, leg: LegId, now: Now) {
        // Streams may run through the supernodes that died, and not have noticed.
        let vias = self.vias(leg);
        let Some(Parts { head, leg, out, .. }) = self.parts(leg) else { return };
        leg.watch.next_round = Some(now.mono_ms + ROUND_MS);
        leg.watch.top_up_at = None;
        for service in leg.plan.joined() {
            leg.plan.set(service, Use::Dead(now.mono_ms));
        }
        leg.plan.begin_again();
        leg.redraws.hurry(now);
        let relays = leg.plan.take_next(RELAYS_WANTED, &leg.secret, now);
        if !relays.is_empty() {
            let services: Vec<ServiceKey> = relays.iter().map(|relay| relay.service).collect();
            head.note(out, &format!("Asked for the call on relays {}.", shorts(&services)));
            out.push(Command::RequestGrants { leg: leg.id, relays });
        }
        out.push(Command::LookUp { call: head.id, account: head.peer });
        if leg.role == Role::Caller {
            let avoid = [leg.plan.dead(), vias].concat();
            leg.open(out, &avoid, now);
        } else {
            // A stream lost a moment ago may have set a later time: without sound there is none to lose.
            let soon = now.mono_ms + CALLEE_OPENS_MS;
            leg.reach.next_ms = Some(leg.reach.next_ms.map_or(soon, |at| at.min(soon)));
        }
    }

    /// The supernodes that this leg's streams run through.
    pub(super) fn vias(&self, leg: LegId) -> Vec<ServiceKey> {
        self.streams
            .values()
            .filter(|stream| stream.leg == Some(leg))
            .filter_map(|stream| stream.via)
            .collect()
    }

    /// Says to the other end what is heard on each path.
    pub fn send_path_report(&mut self, leg: LegId, mut paths: Vec<PathState>) {
        let Some(Parts { leg, out, .. }) = self.parts(leg) else { return };
        if leg.phase != Phase::Confirmed {
            return;
        }
        paths.truncate(PATHS_MAX);
        leg.watch.report_sent += 1;
        leg.send_all(out, &Body::PathReport(PathReport { sequence: leg.watch.report_sent, paths }));
    }

    pub(super) fn on_path_report(&mut self, id: LegId, report: PathReport) -> Result<(), Fault> {
        let Some(Parts { leg, out, .. }) = self.parts(id) else { return Ok(()) };
        let sizes = report.paths.iter().all(|path| matches!(path.relay.len(), 0 | 32));
        if report.paths.len() > PATHS_MAX || !sizes {
            return Err(Fault::protocol("its path report cannot be"));
        }
        if leg.phase == Phase::Confirmed && report.sequence > leg.watch.report_seen {
            leg.watch.report_seen = report.sequence;
            let (sequence, paths) = (report.sequence, report.paths);
            out.push(Command::RemotePathReport { leg: id, sequence, paths });
        }
        Ok(())
    }

    /// The other end's media said, provably, that it has ended this leg. Its last word by signalling, which says why, is
    /// waited for a moment; the leg ends without it if it does not come.
    pub fn handle_peer_ended(&mut self, leg: LegId, now: Now) {
        let Some(Parts { leg, .. }) = self.parts(leg) else { return };
        let wait_ms = if leg.phase == Phase::Confirmed { LAST_WORD_MS } else { LAST_WORD_RINGING_MS };
        leg.watch.peer_ended_at.get_or_insert(now.mono_ms + wait_ms);
    }

    /// The other end has ended the leg, and why has not come.
    pub(super) fn end_without_word(&mut self, id: LegId) {
        let Some(Parts { head, leg, .. }) = self.parts(id) else { return };
        // Its streams are probably dead.
        leg.keeps_line = false;
        let (reason, why) = match (leg.phase, head.role) {
            (Phase::Confirmed, _) => (EndReason::HungUp, "They hung up."),
            (_, Role::Callee) => (
                EndReason::Cancelled,
                "The caller ended the call, or it was answered on another of your devices; which of the two did not come through.",
            ),
            (_, Role::Caller) => (EndReason::HungUp, "A device of theirs ended the call without saying why."),
        };
        self.end_leg(id, reason, Some(why.to_owned()), false);
    }

    pub(super) fn on_hang_up(&mut self, leg: LegId, reason: EndReason, by: &str) {
        let Some(head) = self.active.as_mut().map(|call| &mut call.head) else { return };
        let elsewhere = head.role == Role::Callee && head.stage < Stage::Established;
        let (reason, why) = match (head.stage, reason) {
            (_, EndReason::AnsweredElsewhere | EndReason::Declined) if elsewhere => {
                head.answered_by = Some(printable(by)).filter(|label| !label.is_empty());
                (reason, Some(super::notes::elsewhere(reason, head.answered_by.as_deref())))
            }
            (Stage::Established, EndReason::HungUp) => (reason, Some("They hung up.".to_owned())),
            (Stage::Ringing, EndReason::HungUp) if head.role == Role::Callee => (EndReason::Cancelled, None),
            _ => (reason, None),
        };
        self.end_leg(leg, reason, why, false);
    }
}

/// Goes to a relay of the list because the other end is there.
pub(super) fn join(leg: &mut Leg, out: &mut Out, service: ServiceKey, now: Now) {
    if leg.plan.live() >= LIVE_MAX {
        return;
    }
    if let Some(relay) = leg.plan.take(service, &leg.secret, now) {
        out.push(Command::RequestGrants { leg: leg.id, relays: vec![relay] });
    }
}

/// Brings the number of relays back to two, if the list has more.
pub(super) fn top_up(leg: &mut Leg, out: &mut Out, now: Now) {
    leg.watch.top_up_at = None;
    let missing = RELAYS_WANTED.saturating_sub(leg.plan.live());
    let relays = leg.plan.take_next(missing, &leg.secret, now);
    if !relays.is_empty() {
        out.push(Command::RequestGrants { leg: leg.id, relays });
    }
}
