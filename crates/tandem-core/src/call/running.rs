//! What goes on while a call runs: candidates, grants, relays that die, silence, restarts, path reports, hang-up.

use tandem_proto::grant::call_tag;
use tandem_proto::ids::ServiceKey;
use tandem_proto::wire::signal_frame::Body;
use tandem_proto::wire::{Candidate, Candidates, MediaDescription, PathReport, PathState, Restart};

use super::leg::{CANDIDATES_FRAME_MAX, CANDIDATES_MAX, Leg, Phase};
use super::notes::{short, shorts};
use super::outgoing::is_usable;
use super::plan::{RELAYS_WANTED, Use, usable};
use super::types::{CallEvent, Command, EndReason, LegId, RelayAccess, Role, Stage};
use super::{Calls, Fault, Head, Out, Parts};
use crate::time::Now;

/// Kinds of candidates (spec/signalling.md): above this, unknown.
const KIND_RELAYED: u32 = 2;
/// Relays in the media session at once; above it, none is added because the other end says so.
const LIVE_MAX: usize = 6;
/// A relay that died is replaced after this long, in milliseconds: it may only have stumbled.
const TOP_UP_MS: u64 = 1_000;
/// As long as nothing is heard on any path, two more relays are tried this often, in milliseconds.
const ROUND_MS: u64 = 3_000;
/// The callee re-opens signalling itself when the caller has not done so by then, in milliseconds.
const CALLEE_OPENS_MS: u64 = 700;
/// Restarts of one call; more is an attack.
const GENERATION_MAX: u32 = 1_000;
/// Paths in one report.
const PATHS_MAX: usize = 16;

impl Calls {
    /// Candidates of our media session. Those that the other end must not see are held back here: addresses of ours
    /// go to contacts only, and not when either end wants relays only.
    pub fn handle_local_candidates(&mut self, leg: LegId, candidates: &[Candidate], _now: Now) {
        let Some(Parts { head, leg, out, .. }) = self.parts(leg) else { return };
        let mut fresh = Vec::new();
        for candidate in candidates {
            let wanted = is_wanted(head, leg, candidate) && !leg.local.contains(candidate);
            if wanted && leg.local.len() < CANDIDATES_MAX {
                leg.local.push(candidate.clone());
                fresh.push(candidate.clone());
            }
        }
        for chunk in fresh.chunks(CANDIDATES_FRAME_MAX) {
            let frame = Candidates { generation: leg.generation, candidates: chunk.to_vec() };
            leg.send_all(out, &Body::Candidates(frame));
        }
    }

    pub(super) fn on_candidates(&mut self, id: LegId, frame: Candidates, now: Now) -> Result<(), Fault> {
        let Some(Parts { head, leg, out, .. }) = self.parts(id) else { return Ok(()) };
        if frame.candidates.len() > CANDIDATES_FRAME_MAX {
            return Err(Fault::protocol("it sent more than 16 candidates at once"));
        }
        // Of a restart that is over, or that this end has not heard of; or of a call before this one.
        if frame.generation != leg.generation || leg.phase < Phase::Ringing {
            return Ok(());
        }
        for candidate in frame.candidates {
            check_candidate(&candidate)?;
            let known = leg.remote.contains(&candidate);
            if known || leg.remote.len() >= CANDIDATES_MAX || !is_wanted(head, leg, &candidate) {
                continue;
            }
            follow_to_relay(leg, out, &candidate, now);
            leg.remote.push(candidate.clone());
            out.push(Command::AddRemoteCandidate { leg: id, generation: leg.generation, candidate });
        }
        Ok(())
    }

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
                leg.plan.set(service, Use::Dead);
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
        head.setup.media = head.answered_ms.map(|answered| now.mono_ms - answered);
        out.report(head.id, CallEvent::Sound);
    }

    /// A relay of the call carries nothing any more. If fewer than two are left, one of the fallback list is added
    /// after a second.
    pub fn handle_relay_dead(&mut self, leg: LegId, service: ServiceKey, now: Now) {
        let Some(Parts { head, leg, out, .. }) = self.parts(leg) else { return };
        if leg.plan.state(service) != Some(Use::Joined) {
            return;
        }
        leg.plan.set(service, Use::Dead);
        head.note(out, &format!("Relay {} fell silent.", short(service)));
        if leg.plan.live() < RELAYS_WANTED && leg.watch.top_up_at.is_none() {
            leg.watch.top_up_at = Some(now.mono_ms + TOP_UP_MS);
        }
    }

    /// A relay thought dead carries again.
    pub fn handle_relay_alive(&mut self, leg: LegId, service: ServiceKey, _now: Now) {
        let Some(Parts { head, leg, out, .. }) = self.parts(leg) else { return };
        if leg.plan.state(service) == Some(Use::Dead) {
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
        let joined = leg.plan.joined();
        let after = now.mono_ms.saturating_sub(since);
        head.note(out, &format!("Sound came back {after} ms later; relays in use: {}.", shorts(&joined)));
    }

    /// One round against silence.
    pub(super) fn fall_back(&mut self, leg: LegId, now: Now) {
        // Streams may run through the supernodes that died, and not have noticed.
        let vias = self.vias(leg);
        let Some(Parts { head, leg, out, .. }) = self.parts(leg) else { return };
        leg.watch.next_round = Some(now.mono_ms + ROUND_MS);
        leg.watch.top_up_at = None;
        for service in leg.plan.joined() {
            leg.plan.set(service, Use::Dead);
        }
        leg.plan.begin_again();
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

    /// Our media session has new ICE credentials (our address changed, for example): the other end is asked to restart
    /// too. Candidates of the new generation follow through `handle_local_candidates`. Returns the generation.
    pub fn restart(&mut self, leg: LegId, media: MediaDescription, _now: Now) -> Option<u32> {
        let Parts { leg, out, .. } = self.parts(leg)?;
        if leg.phase != Phase::Confirmed || leg.generation >= GENERATION_MAX {
            return None;
        }
        let generation = leg.generation + 1;
        next_generation(leg, generation);
        leg.watch.restarting = true;
        leg.send_all(out, &restart_frame(generation, media, false));
        Some(generation)
    }

    /// Our media session has restarted because of `RestartMedia`.
    pub fn handle_restarted(&mut self, leg: LegId, generation: u32, media: MediaDescription) {
        let Some(Parts { leg, out, .. }) = self.parts(leg) else { return };
        if leg.phase == Phase::Confirmed && leg.generation == generation {
            leg.send_all(out, &restart_frame(generation, media, true));
        }
    }

    pub(super) fn on_restart(&mut self, id: LegId, restart: Restart, now: Now) -> Result<(), Fault> {
        let Some(Parts { leg, out, .. }) = self.parts(id) else { return Ok(()) };
        if leg.phase != Phase::Confirmed {
            return Err(Fault::protocol("it restarted a call that was not agreed yet"));
        }
        let generation = restart.generation;
        let media = restart.media.filter(is_usable);
        let media = media.ok_or_else(|| Fault::protocol("its restart has no usable media description"))?;
        if generation > GENERATION_MAX || restart.relays.len() > LIVE_MAX {
            return Err(Fault::protocol("its restart has too high a number or too many relays"));
        }
        for relay in restart.relays.iter().filter_map(|signed| usable(signed, now)) {
            join(leg, out, relay.service(), now);
        }
        if restart.answer {
            if leg.watch.restarting && generation == leg.generation {
                leg.watch.restarting = false;
                out.push(Command::MediaRestarted { leg: id, generation, media });
            }
            return Ok(());
        }
        // When both ends restart at once, the caller's counts.
        let gives_way = generation == leg.generation && leg.watch.restarting && leg.role == Role::Callee;
        if generation == leg.generation + 1 || gives_way {
            next_generation(leg, generation);
            leg.watch.restarting = false;
            out.push(Command::RestartMedia { leg: id, generation, media });
        }
        Ok(())
    }

    pub(super) fn on_hang_up(&mut self, leg: LegId, reason: EndReason) {
        let Some(head) = self.active.as_ref().map(|call| &call.head) else { return };
        let (reason, why) = match (head.stage, reason) {
            (Stage::Established, EndReason::HungUp) => (reason, Some("They hung up.".to_owned())),
            (Stage::Ringing, EndReason::HungUp) if head.role == Role::Callee => (EndReason::Cancelled, None),
            _ => (reason, None),
        };
        self.end_leg(leg, reason, why, false);
    }
}

/// Whether a candidate of either end may be used in this call.
fn is_wanted(head: &Head, leg: &Leg, candidate: &Candidate) -> bool {
    if candidate.kind != KIND_RELAYED {
        return candidate.kind < KIND_RELAYED && head.direct_allowed();
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
fn follow_to_relay(leg: &mut Leg, out: &mut Out, candidate: &Candidate, now: Now) {
    if candidate.kind == KIND_RELAYED
        && let Some(service) = relay_of(candidate)
    {
        join(leg, out, service, now);
    }
}

fn join(leg: &mut Leg, out: &mut Out, service: ServiceKey, now: Now) {
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

fn next_generation(leg: &mut Leg, generation: u32) {
    leg.generation = generation;
    leg.local.clear();
    leg.remote.clear();
}

fn restart_frame(generation: u32, media: MediaDescription, answer: bool) -> Body {
    Body::Restart(Restart { generation, media: Some(media), relays: Vec::new(), answer })
}
