//! Collects what one end of a call observes. Everything is bounded: the first of each kind are the telling ones.

use tandem_api::{
    CallDirection, CallFacts, CandidateFact, CandidateType, DeviceFact, DeviceFailure, PathCondition,
    PathFact, RelayFact, RelayState, SetupStep, StepKind, SwitchFact,
};
use tandem_core::call::{CallEvent, LegId};
use tandem_core::time::Now;
use tandem_media::session::{
    Candidate, CandidateKind, CandidateOrigin, Event, PathEnd, PathState, PathStats, RelayStats, Route,
    SessionStats,
};
use tandem_proto::ids::{DeviceKey, ServiceKey};

use crate::messages::dial_waits;

/// Devices of an account (spec/records.md: at most 8 in a set).
const DEVICES_MAX: usize = 8;
const CANDIDATES_MAX: usize = 32;
const RELAYS_MAX: usize = 32;
const PATHS_MAX: usize = 32;
const SWITCHES_MAX: usize = 100;
const NOTES_MAX: usize = 64;
/// Longest reason kept of what another machine said, in characters.
const REASON_MAX: usize = 160;

/// Two clocks of whole milliseconds may tell the same moment so far apart.
const ROUNDING_MS: u64 = 2;

/// What a phone observes of a call besides the events of the call machine and of the media.
#[derive(Debug, Clone)]
pub(crate) enum CallFact {
    /// Whether this end may show addresses for a leg, as the call machine decided.
    DirectAllowed(bool),
    DeviceTried {
        leg: LegId,
        device: DeviceKey,
        homes: usize,
    },
    DeviceReached {
        leg: LegId,
        via: Option<ServiceKey>,
    },
    DeviceFailed {
        leg: LegId,
        failure: DeviceFailure,
        reason: String,
    },
    RelayAsked(ServiceKey),
    RelayAnswered {
        relay: ServiceKey,
        refused: Option<String>,
    },
    TheirCandidate(Candidate),
    /// A supernode was not dialled at once, since many had been in the last minute.
    Waited {
        wait_ms: u64,
    },
}

/// What was observed of one call so far.
#[derive(Debug)]
pub(crate) struct Recorder {
    facts: CallFacts,
    started: Now,
    connected_ms: Option<u64>,
    legs: Vec<LegId>,
    path: Option<Route>,
}

impl Recorder {
    pub(crate) fn new(direction: CallDirection, contact: bool, relay_only: bool, now: Now) -> Self {
        let facts = CallFacts { direction: Some(direction), contact, relay_only, ..CallFacts::default() };
        Self { facts, started: now, connected_ms: None, legs: Vec::new(), path: None }
    }

    pub(crate) fn note_found(&mut self, now: Now) {
        // A callee looks the caller up too, for the way back: no step of setting the call up.
        if self.facts.direction == Some(CallDirection::Outgoing) {
            self.step(StepKind::LookedUp, now);
        }
    }

    pub(crate) fn take_fact(&mut self, fact: CallFact, now: Now) {
        match fact {
            CallFact::DirectAllowed(allowed) => self.facts.direct_allowed |= allowed,
            CallFact::DeviceTried { leg, device, homes } => {
                if let Some(index) = self.legs.iter().position(|known| *known == leg) {
                    self.facts.devices[index].homes = u32::try_from(homes).unwrap_or(u32::MAX);
                } else if self.legs.len() < DEVICES_MAX {
                    self.legs.push(leg);
                    let homes = u32::try_from(homes).unwrap_or(u32::MAX);
                    let device = device.to_string();
                    self.facts.devices.push(DeviceFact { device, homes, ..DeviceFact::default() });
                }
            }
            CallFact::DeviceReached { leg, via } => {
                let at_ms = self.since(now);
                if let Some(device) = self.device(leg) {
                    device.reached_ms = device.reached_ms.or(Some(at_ms));
                    device.via = via.map(|via| via.to_string());
                }
                self.step(StepKind::Reached, now);
            }
            CallFact::DeviceFailed { leg, failure, reason } => {
                if let Some(device) = self.device(leg) {
                    device.failed = Some(clipped(&reason));
                    device.failure = Some(failure);
                }
            }
            CallFact::RelayAsked(relay) => {
                let asked_ms = self.since(now);
                let relay = relay.to_string();
                // A grant that ran out is asked for again: that is no news.
                let granted = |known: &RelayFact| known.relay == relay && known.state == RelayState::Granted;
                if self.facts.relays.iter().any(granted) {
                    return;
                }
                // Asked again after a loss: a new attempt.
                self.facts.relays.retain(|known| known.relay != relay || known.state == RelayState::Lost);
                if self.facts.relays.len() < RELAYS_MAX {
                    self.facts.relays.push(RelayFact { relay, asked_ms, ..RelayFact::default() });
                }
            }
            CallFact::RelayAnswered { relay, refused } => self.relay_answered(relay, refused, now),
            CallFact::TheirCandidate(candidate) if self.may_keep(&candidate) => {
                keep_candidate(&mut self.facts.their_candidates, &candidate);
            }
            CallFact::TheirCandidate(_) => {}
            CallFact::Waited { wait_ms } => self.note(dial_waits(wait_ms)),
        }
    }

    /// Of somebody who is not a contact nothing but addresses on relays.
    fn may_keep(&self, candidate: &Candidate) -> bool {
        self.facts.direct_allowed || candidate.kind == CandidateKind::Relayed
    }

    fn relay_answered(&mut self, relay: ServiceKey, refused: Option<String>, now: Now) {
        let answered_ms = self.since(now);
        if refused.is_none() {
            self.step(StepKind::RelayGranted, now);
        }
        let name = relay.to_string();
        let asked = self.facts.relays.iter_mut().rev().find(|known| known.relay == name);
        let Some(known) = asked else { return };
        known.state = match (&refused, known.state) {
            // It carried the call, and does not take it any more.
            (Some(_), RelayState::Granted) => RelayState::Lost,
            (Some(_), _) => RelayState::Refused,
            (None, _) => RelayState::Granted,
        };
        known.answered_ms = known.answered_ms.or(Some(answered_ms));
        known.why = refused.map(|why| clipped(&why));
    }

    fn note(&mut self, text: String) {
        if self.facts.notes.len() < NOTES_MAX {
            self.facts.notes.push(text);
        }
    }

    pub(crate) fn take_event(&mut self, event: &CallEvent, now: Now) {
        match event {
            CallEvent::Ringing => self.step(StepKind::Ringing, now),
            CallEvent::Answered { relay_only, .. } => {
                self.step(StepKind::Answered, now);
                self.facts.they_relay_only = *relay_only;
            }
            CallEvent::Sound => {
                self.step(StepKind::Sound, now);
                self.connected_ms = Some(now.mono_ms);
                self.facts.connected = true;
            }
            CallEvent::Note(text) => self.note(text.clone()),
            CallEvent::Merged { .. } | CallEvent::Ended(_) => {}
        }
    }

    pub(crate) fn take_media(&mut self, event: &Event, now: Now) {
        match event {
            Event::LocalCandidate(candidate) => keep_candidate(&mut self.facts.own_candidates, candidate),
            Event::RelayFailed { relay, reason, .. } => {
                let name = relay.to_string();
                let known = self.facts.relays.iter_mut().rev().find(|known| known.relay == name);
                if let Some(known) = known.filter(|known| known.state != RelayState::Refused) {
                    known.state = RelayState::Lost;
                    known.why = Some(clipped(reason));
                }
            }
            Event::RelaySilent { relay } => self.set_silent(relay, true),
            Event::RelayBack { relay } => self.set_silent(relay, false),
            Event::PathChanged { from, route, why, .. } => {
                let before = self.path.replace(*route);
                if let (Some(before), Some(_)) = (before, from) {
                    self.switched(&before, route, why, now);
                }
            }
            _ => {}
        }
    }

    fn set_silent(&mut self, relay: &ServiceKey, silent: bool) {
        let name = relay.to_string();
        if let Some(known) = self.facts.relays.iter_mut().rev().find(|known| known.relay == name) {
            known.silent = silent;
        }
    }

    fn switched(&mut self, before: &Route, to: &Route, why: &str, now: Now) {
        if self.facts.switches.len() < SWITCHES_MAX {
            let into_call_ms = self.connected_ms.map_or(0, |at| now.mono_ms.saturating_sub(at));
            let (from, to, why) = (route_name(before), route_name(to), why.to_owned());
            self.facts.switches.push(SwitchFact { into_call_ms, from, to, why, ..SwitchFact::default() });
        }
    }

    /// All of it; `stats` as the media session tells, with the moment it was made.
    pub(crate) fn facts(&self, stats: Option<(&SessionStats, u64)>) -> CallFacts {
        let mut facts = self.facts.clone();
        if let Some((stats, session_unix_ms)) = stats {
            put_session(&mut facts, stats, session_unix_ms.saturating_sub(self.started.unix_ms));
        }
        facts
    }

    fn device(&mut self, leg: LegId) -> Option<&mut DeviceFact> {
        let index = self.legs.iter().position(|known| *known == leg)?;
        self.facts.devices.get_mut(index)
    }

    fn since(&self, now: Now) -> u64 {
        now.mono_ms.saturating_sub(self.started.mono_ms)
    }

    fn step(&mut self, step: StepKind, now: Now) {
        if !self.facts.steps.iter().any(|known| known.step == step) {
            let at_ms = self.since(now);
            self.facts.steps.push(SetupStep { step, at_ms });
        }
    }
}

/// Puts what the media session tells into the facts; its times begin `offset_ms` after the call's.
pub(crate) fn put_session(facts: &mut CallFacts, stats: &SessionStats, offset_ms: u64) {
    facts.paths = stats.paths.iter().take(PATHS_MAX).map(|path| path_fact(path, offset_ms)).collect();
    put_candidates(facts, stats);
    for relay in &stats.relays {
        put_relay(facts, relay, offset_ms);
    }
    put_switches(facts, stats, offset_ms);
    facts.mapping_varies = stats.mapping_varies;
    let first = |direct: bool| {
        let fitting = facts.paths.iter().filter(|path| (path.path == DIRECT) == direct);
        fitting.filter_map(|path| path.first_heard_ms).min()
    };
    let steps = [(StepKind::RelayedPath, first(false)), (StepKind::DirectPath, first(true))];
    let earliest = steps.iter().filter_map(|(_, at)| *at).min();
    let sound = facts.steps.iter().find(|step| step.step == StepKind::Sound);
    let sound = sound.map_or(u64::MAX, |step| step.at_ms);
    for (step, at_ms) in steps {
        // Sound came over one of the paths, so the first of them worked by then; two clocks are rounded here.
        let rounded = |at: u64| Some(at) == earliest && at.saturating_sub(sound) <= ROUNDING_MS;
        let at_ms = at_ms.map(|at| if rounded(at) { at.min(sound) } else { at });
        if let Some(at_ms) = at_ms
            && !facts.steps.iter().any(|known| known.step == step)
        {
            facts.steps.push(SetupStep { step, at_ms });
        }
    }
    // In the order of the call where two clocks put them less than their difference apart.
    facts.steps.sort_by_key(|step| (step.at_ms, step.step));
}

/// The session knows more of this end's addresses than was offered, and which of the other's it learnt by itself.
fn put_candidates(facts: &mut CallFacts, stats: &SessionStats) {
    for candidate in &stats.candidates {
        let kind = match candidate.kind {
            CandidateOrigin::Host => CandidateType::Host,
            CandidateOrigin::ServerReflexive => CandidateType::ServerReflexive,
            CandidateOrigin::Mapped => CandidateType::Mapped,
            CandidateOrigin::PeerReflexive => CandidateType::PeerReflexive,
            CandidateOrigin::Relayed => CandidateType::Relayed,
        };
        let address = candidate.addr.to_string();
        let fact =
            CandidateFact { kind, address, base: None, relay: candidate.relay.map(|it| it.to_string()) };
        if candidate.local {
            keep(&mut facts.own_candidates, fact);
        } else if facts.direct_allowed || kind == CandidateType::Relayed {
            keep(&mut facts.their_candidates, fact);
        }
    }
    if !facts.direct_allowed {
        // Somebody who is not to see our address is not to be seen either, whatever a lower layer may know.
        for path in &mut facts.paths {
            path.remote = None;
        }
    }
}

fn put_relay(facts: &mut CallFacts, stats: &RelayStats, offset_ms: u64) {
    let name = stats.service.to_string();
    let known = facts.relays.iter_mut().rev().find(|relay| relay.relay == name);
    let Some(relay) = known else { return };
    relay.udp_tried = stats.udp_tried;
    relay.tcp_tried = stats.tcp_tried;
    relay.udp_answer_ms = stats.udp_answer_ms;
    relay.tcp_answer_ms = stats.tcp_answer_ms;
    relay.tcp443_answer_ms = stats.tcp443_answer_ms;
    relay.over_tcp = stats.over_tcp;
    relay.silent = stats.silent;
    relay.answered_ms = relay.answered_ms.or(Some(stats.added_ms + offset_ms));
    if let Some(why) = &stats.failed {
        relay.state = RelayState::Lost;
        relay.why = Some(clipped(why));
    }
}

fn put_switches(facts: &mut CallFacts, stats: &SessionStats, offset_ms: u64) {
    let sound = facts.steps.iter().find(|step| step.step == StepKind::Sound).map_or(0, |step| step.at_ms);
    let switches = stats.switches.iter().filter_map(|switch| {
        Some(SwitchFact {
            into_call_ms: (switch.at_ms + offset_ms).saturating_sub(sound),
            from: route_name(&switch.from_route?),
            to: route_name(&switch.to_route),
            why: clipped(&switch.why),
            lost: Some(switch.lost_packets),
            gap_ms: Some(switch.gap_ms.ceil() as u64),
        })
    });
    facts.switches = switches.take(SWITCHES_MAX).collect();
}

/// How a direct path is written.
pub(crate) const DIRECT: &str = "direct";

fn path_fact(path: &PathStats, offset_ms: u64) -> PathFact {
    let heard = path.first_heard_ms.is_some();
    let state = match path.state {
        PathState::Checking => PathCondition::Checking,
        PathState::Good => PathCondition::Good,
        PathState::Silent if heard => PathCondition::Silent,
        PathState::Silent => PathCondition::Failed,
        PathState::GaveUp => PathCondition::Failed,
        PathState::Closed => PathCondition::Closed,
    };
    let direct = path.route == Route::Direct;
    let end = |end: Option<&PathEnd>| end.map(|end| end.addr.to_string());
    let tcp = matches!(path.route, Route::Relay { tcp: true, .. });
    PathFact {
        path: route_name(&path.route),
        transport: if tcp { "tcp" } else { "udp" }.to_owned(),
        local: direct.then(|| end(path.local.as_ref())).flatten(),
        remote: direct.then(|| end(path.remote.as_ref())).flatten(),
        state,
        round_trip_ms: path.round_trip_ms,
        first_heard_ms: path.first_heard_ms.map(|at| at + offset_ms),
        last_heard_ms: path.last_heard_ms.map(|at| at + offset_ms),
        sent: path.sent,
        received: path.received,
        primary: path.primary,
    }
}

fn keep_candidate(list: &mut Vec<CandidateFact>, candidate: &Candidate) {
    let kind = match candidate.kind {
        CandidateKind::Host => CandidateType::Host,
        CandidateKind::ServerReflexive => CandidateType::ServerReflexive,
        CandidateKind::Relayed => CandidateType::Relayed,
    };
    let fact = CandidateFact {
        kind,
        address: candidate.addr.to_string(),
        base: None,
        relay: candidate.relay.map(|relay| relay.to_string()),
    };
    keep(list, fact);
}

fn keep(list: &mut Vec<CandidateFact>, fact: CandidateFact) {
    // A forwarded port is offered as server-reflexive; what it is in truth is known a little later.
    let same = |known: &CandidateFact| known.address == fact.address && known.relay == fact.relay;
    if let Some(index) = list.iter().position(same) {
        list[index].kind = fact.kind;
    } else if list.len() < CANDIDATES_MAX {
        list.push(fact);
    }
}

fn route_name(route: &Route) -> String {
    match route {
        Route::Direct => DIRECT.to_owned(),
        Route::Relay { service, .. } => service.to_string(),
    }
}

fn clipped(text: &str) -> String {
    text.chars().take(REASON_MAX).collect()
}

#[cfg(test)]
mod tests {
    use tandem_media::session::CandidateStats;

    use super::*;

    fn now(ms: u64) -> Now {
        Now { mono_ms: ms, unix_ms: 1_000_000 + ms }
    }

    fn relay(n: u8) -> ServiceKey {
        ServiceKey([n; 32])
    }

    #[test]
    fn a_call_is_recorded_step_by_step() {
        let mut recorder = Recorder::new(CallDirection::Outgoing, true, false, now(100));
        recorder.note_found(now(150));
        let device = DeviceKey([7; 32]);
        recorder.take_fact(CallFact::DeviceTried { leg: LegId(1), device, homes: 3 }, now(151));
        let (leg, failure) = (LegId(1), DeviceFailure::NotThere);
        recorder.take_fact(CallFact::DeviceFailed { leg, failure, reason: "no answer".into() }, now(160));
        recorder.take_fact(CallFact::DeviceReached { leg: LegId(1), via: Some(relay(1)) }, now(170));
        recorder.take_event(&CallEvent::Ringing, now(180));
        recorder.take_fact(CallFact::RelayAsked(relay(2)), now(181));
        recorder
            .take_fact(CallFact::RelayAnswered { relay: relay(2), refused: Some("full".into()) }, now(190));
        recorder.take_fact(CallFact::RelayAsked(relay(3)), now(191));
        recorder.take_fact(CallFact::RelayAnswered { relay: relay(3), refused: None }, now(195));
        recorder.take_media(
            &Event::RelayFailed { relay: relay(3), reason: "it is gone".into(), retry_after: None },
            now(300),
        );
        recorder.take_event(&CallEvent::Sound, now(250));
        let facts = recorder.facts(None);
        let step = |kind| facts.steps.iter().find(|step| step.step == kind).map(|step| step.at_ms);
        assert_eq!(step(StepKind::LookedUp), Some(50));
        assert_eq!(step(StepKind::Reached), Some(70));
        assert_eq!(step(StepKind::RelayGranted), Some(95));
        assert_eq!(step(StepKind::Sound), Some(150));
        assert_eq!(facts.devices.len(), 1);
        assert_eq!(facts.devices[0].reached_ms, Some(70));
        assert_eq!(facts.devices[0].failure, Some(DeviceFailure::NotThere));
        assert_eq!(facts.relays[0].state, RelayState::Refused);
        assert_eq!(facts.relays[0].why.as_deref(), Some("full"));
        assert_eq!(facts.relays[1].state, RelayState::Lost);
        assert!(facts.connected);
    }

    #[test]
    fn nothing_grows_without_bound() {
        let mut recorder = Recorder::new(CallDirection::Incoming, true, false, now(0));
        recorder.take_fact(CallFact::DirectAllowed(true), now(0));
        for n in 0..1_000_u16 {
            let [high, low] = n.to_be_bytes();
            let key = [high ^ low, low, high, 1, 0, 0, 0, 0].repeat(4).try_into().expect("32 bytes");
            recorder.take_fact(CallFact::RelayAsked(ServiceKey(key)), now(1));
            let device = DeviceKey(key);
            recorder.take_fact(CallFact::DeviceTried { leg: LegId(u64::from(n)), device, homes: 1 }, now(1));
            let candidate = Candidate {
                kind: CandidateKind::Host,
                addr: std::net::SocketAddr::from(([10, 0, high, low], 5000)),
                relay: None,
                priority: 1,
            };
            recorder.take_fact(CallFact::TheirCandidate(candidate), now(1));
            recorder.take_media(&Event::LocalCandidate(candidate), now(1));
            recorder.take_event(&CallEvent::Note("x".into()), now(1));
        }
        let facts = recorder.facts(None);
        assert_eq!(facts.relays.len(), RELAYS_MAX);
        assert_eq!(facts.devices.len(), DEVICES_MAX);
        assert_eq!(facts.their_candidates.len(), CANDIDATES_MAX);
        assert_eq!(facts.own_candidates.len(), CANDIDATES_MAX);
        assert_eq!(facts.notes.len(), NOTES_MAX);
    }

    #[test]
    fn of_a_stranger_no_address_is_kept() {
        let mut recorder = Recorder::new(CallDirection::Incoming, false, false, now(0));
        recorder.take_fact(CallFact::DirectAllowed(false), now(0));
        let addr = std::net::SocketAddr::from(([192, 0, 2, 7], 5000));
        let candidate = Candidate { kind: CandidateKind::Host, addr, relay: None, priority: 1 };
        recorder.take_fact(CallFact::TheirCandidate(candidate), now(1));
        let stats = SessionStats {
            candidates: vec![CandidateStats {
                local: false,
                kind: CandidateOrigin::PeerReflexive,
                addr,
                relay: None,
                at_ms: 1,
            }],
            ..SessionStats::default()
        };
        let facts = recorder.facts(Some((&stats, 1_000_000)));
        assert!(!format!("{facts:?}").contains("192.0.2.7"), "{facts:?}");
    }

    #[test]
    fn a_relay_that_carried_and_takes_no_other_grant_was_lost_and_did_not_refuse() {
        let mut recorder = Recorder::new(CallDirection::Outgoing, true, false, now(100));
        for (at, refused) in [(100, None), (9_000, Some("nothing listens at its address".to_owned()))] {
            recorder.take_fact(CallFact::RelayAsked(relay(2)), now(at));
            recorder.take_fact(CallFact::RelayAnswered { relay: relay(2), refused }, now(at + 20));
        }
        let facts = recorder.facts(None);
        assert_eq!(facts.relays.len(), 1);
        assert_eq!(facts.relays[0].state, RelayState::Lost);
        assert_eq!((facts.relays[0].asked_ms, facts.relays[0].answered_ms), (0, Some(20)));
        assert_eq!(facts.relays[0].why.as_deref(), Some("nothing listens at its address"));
    }
}
