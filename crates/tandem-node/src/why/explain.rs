//! From what was observed to sentences. Pure: the same facts make the same sentences, now or years later.

use std::net::SocketAddr;

use tandem_api::{
    AddressScope, CallDirection, CallFacts, CallPath, CandidateFact, CandidateType, DeviceFailure, EndReason,
    Finding, PathCondition, PathFact, RelayFact, RelayState, StepKind, SwitchFact,
};

use super::recorder::DIRECT;
use crate::messages::{CallExplanation as Why, end_reason_text};
use crate::network_check::scope;

/// From these on, a step is called slow (issue targets: ringing within 0.4 s, sound within 0.3 s of the answer).
const SLOW_LOOK_UP_MS: u64 = 1_500;
const SLOW_REACH_MS: u64 = 2_000;
const SLOW_SOUND_MS: u64 = 1_000;
/// Switches told one by one; the facts hold more.
const SWITCHES_TOLD: usize = 12;

/// The explanation, the most important first.
#[must_use]
pub fn explain(facts: &CallFacts) -> Vec<Finding> {
    let mut findings = vec![outcome(facts)];
    if facts.connected || answered(facts) {
        findings.extend(why_not_direct(facts));
    } else {
        findings.extend(why_not_reached(facts));
    }
    findings.extend(relay_troubles(facts));
    findings.extend(switches(facts));
    findings.extend(timing(facts));
    findings
}

/// What was still being tested when the call ended never worked.
pub(crate) fn conclude(facts: &mut CallFacts) {
    if facts.reason.is_some() {
        let checking = facts.paths.iter_mut().filter(|path| path.state == PathCondition::Checking);
        checking.for_each(|path| path.state = PathCondition::Failed);
    }
}

fn answered(facts: &CallFacts) -> bool {
    at(facts, StepKind::Answered).is_some()
}

fn at(facts: &CallFacts, step: StepKind) -> Option<u64> {
    facts.steps.iter().find(|known| known.step == step).map(|known| known.at_ms)
}

// ---- the outcome ------------------------------------------------------------------------------------------------

fn outcome(facts: &CallFacts) -> Finding {
    if facts.connected {
        return carried(facts);
    }
    let Some(reason) = facts.reason else {
        let stage = if answered(facts) {
            Why::NoSoundYet
        } else if at(facts, StepKind::Ringing).is_some() || facts.direction == Some(CallDirection::Incoming) {
            Why::RingingStill
        } else if at(facts, StepKind::LookedUp).is_some() {
            Why::Reaching
        } else {
            Why::LookingUp
        };
        return stage.finding(&[]);
    };
    if reason == EndReason::NotFound {
        return Why::NotFound.finding(&[]);
    }
    Why::Ended.finding(&[("why", end_reason_text(reason))])
}

fn carried(facts: &CallFacts) -> Finding {
    let over = facts.reason.is_some();
    let primary = facts.paths.iter().find(|path| path.primary);
    let round_trip = primary.and_then(|path| path.round_trip_ms);
    let round_trip = round_trip.map(|ms| format!(" (there and back in {})", milliseconds(ms)));
    let round_trip = round_trip.unwrap_or_default();
    if facts.path == Some(CallPath::Direct) {
        let text = if over { Why::DirectWas } else { Why::Direct };
        return text.finding(&[("round_trip", &round_trip)]);
    }
    let used = facts.paths.iter().filter(|path| path.path != DIRECT && path.sent + path.received > 0);
    let mut names: Vec<String> = Vec::new();
    for name in used.map(|path| short(&path.path)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let relays = match names.as_slice() {
        [] => "a relay".to_owned(),
        [one] => format!("the relay {one}"),
        [first @ .., last] => format!("the relays {} and {last}", first.join(", ")),
    };
    let text = if over { Why::RelayedWas } else { Why::Relayed };
    text.finding(&[("relays", &relays), ("round_trip", &round_trip)])
}

// ---- why nobody was reached -------------------------------------------------------------------------------------

fn why_not_reached(facts: &CallFacts) -> Vec<Finding> {
    let unreached = facts.devices.iter().filter(|device| device.reached_ms.is_none());
    if !matches!(facts.reason, None | Some(EndReason::Unreachable | EndReason::NotFound)) {
        return Vec::new();
    }
    unreached
        .filter_map(|device| {
            let why = device.failed.as_deref()?;
            let text = match device.failure {
                Some(DeviceFailure::NotThere) => Why::Asleep,
                Some(DeviceFailure::HomesUnreachable) => Why::HomesGone,
                Some(DeviceFailure::Other) | None => Why::ReachedNot,
            };
            Some(text.finding(&[("device", &short(&device.device)), ("why", why.trim_end_matches('.'))]))
        })
        .collect()
}

// ---- why it is not direct ---------------------------------------------------------------------------------------

/// The first reason that holds is the one that would have to go first.
fn why_not_direct(facts: &CallFacts) -> Vec<Finding> {
    let direct = facts.paths.iter().find(|path| path.path == DIRECT && path.first_heard_ms.is_some());
    // Reports of before steps were kept hold nothing that a reason could be drawn from.
    if facts.path == Some(CallPath::Direct) || facts.steps.is_empty() {
        return Vec::new();
    }
    if let Some(direct) = direct {
        return lost_direct(facts, direct).into_iter().collect();
    }
    let reason = if facts.relay_only {
        Why::RelayOnly
    } else if !facts.contact {
        Why::NotAContact
    } else {
        return why_contacts_are_relayed(facts);
    };
    vec![reason.finding(&[])]
}

fn lost_direct(facts: &CallFacts, direct: &PathFact) -> Option<Finding> {
    if matches!(direct.state, PathCondition::Good | PathCondition::Checking) {
        return None;
    }
    let sound = at(facts, StepKind::Sound).unwrap_or(0);
    let seconds = direct.last_heard_ms.unwrap_or(0).saturating_sub(sound) / 1_000;
    Some(Why::DirectLost.finding(&[("seconds", &seconds.to_string())]))
}

fn why_contacts_are_relayed(facts: &CallFacts) -> Vec<Finding> {
    let ours = Offered::of(&facts.own_candidates);
    let theirs = Offered::of(&facts.their_candidates);
    let checking = facts
        .paths
        .iter()
        .any(|path| path.path == DIRECT && path.state == PathCondition::Checking && facts.reason.is_none());
    if udp_blocked(facts) {
        return vec![Why::UdpBlockedHere.finding(&[])];
    }
    if facts.they_relay_only {
        return vec![Why::TheyRelayOnly.finding(&[])];
    }
    if !theirs.any {
        return vec![Why::TheyShowNone.finding(&[])];
    }
    if !ours.any {
        return vec![Why::WeHaveNone.finding(&[])];
    }
    if !(ours.v4 && theirs.v4 || ours.v6 && theirs.v6) {
        let values = [("ours", ours.families()), ("theirs", theirs.families())];
        return vec![Why::NoCommonFamily.finding(&values)];
    }
    if checking {
        return vec![Why::DirectChecking.finding(&[])];
    }
    if !theirs.outside {
        return vec![Why::UdpBlockedThere.finding(&[])];
    }
    let varies = facts.mapping_varies.unwrap_or(ours.symmetric);
    let reason = match (varies, theirs.symmetric) {
        (true, true) => Why::BothSymmetric,
        (true, false) => Why::SymmetricHere,
        (false, true) => Why::SymmetricThere,
        (false, false) => Why::Filtered,
    };
    vec![reason.finding(&[])]
}

/// Relays answered over TCP and none of them over UDP.
fn udp_blocked(facts: &CallFacts) -> bool {
    let tcp = |relay: &RelayFact| relay.tcp_answer_ms.is_some() || relay.tcp443_answer_ms.is_some();
    let udp = |relay: &RelayFact| relay.udp_answer_ms.is_some();
    let tried = facts.relays.iter().any(|relay| relay.udp_tried);
    tried && facts.relays.iter().any(tcp) && !facts.relays.iter().any(udp)
}

/// What one side's addresses say of its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Offered {
    any: bool,
    v4: bool,
    v6: bool,
    /// One of them may be reached from the internet: where UDP passes, relays tell each side such a one.
    outside: bool,
    /// One base was seen at two outside ports: the NAT maps by destination.
    symmetric: bool,
}

impl Offered {
    fn of(candidates: &[CandidateFact]) -> Self {
        let mut offered = Self::default();
        let mut seen: Vec<(Option<&str>, &str, &str)> = Vec::new();
        for candidate in candidates.iter().filter(|candidate| candidate.kind != CandidateType::Relayed) {
            offered.any = true;
            let v6 = candidate.address.starts_with('[');
            offered.v6 |= v6;
            offered.v4 |= !v6;
            offered.outside |= candidate.kind != CandidateType::Host || is_public(&candidate.address);
            if candidate.kind != CandidateType::ServerReflexive {
                continue;
            }
            let Some((ip, port)) = candidate.address.rsplit_once(':') else { continue };
            let base = candidate.base.as_deref();
            offered.symmetric |=
                seen.iter().any(|(known, at, with)| *known == base && *at == ip && *with != port);
            seen.push((base, ip, port));
        }
        offered
    }

    fn families(&self) -> &'static str {
        match (self.v4, self.v6) {
            (true, true) => "IPv4 and IPv6",
            (true, false) => "IPv4 only",
            (false, true) => "IPv6 only",
            (false, false) => "none",
        }
    }
}

/// Of what cannot be read nothing is concluded.
fn is_public(address: &str) -> bool {
    use AddressScope::{CarrierNat, LinkLocal, Private};
    let scope = address.parse().map(|address: SocketAddr| scope(address.ip()));
    scope.map_or(true, |scope| !matches!(scope, Private | CarrierNat | LinkLocal))
}

// ---- relays -----------------------------------------------------------------------------------------------------

fn relay_troubles(facts: &CallFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let asked = !facts.relays.is_empty();
    let granted =
        facts.relays.iter().any(|relay| relay.answered_ms.is_some() && relay.state != RelayState::Refused);
    if asked && !granted && !facts.connected && facts.reason.is_some() {
        findings.push(Why::NoRelay.finding(&[]));
    }
    for relay in &facts.relays {
        let name = short(&relay.relay);
        let why = relay.why.as_deref().unwrap_or("it did not say why").trim_end_matches('.');
        let values = [("relay", &*name), ("why", why)];
        match relay.state {
            RelayState::Refused => findings.push(Why::RelayRefused.finding(&values)),
            RelayState::Lost => findings.push(Why::RelayLost.finding(&values)),
            RelayState::Asked if facts.reason.is_some() => {
                findings.push(Why::RelayNoAnswer.finding(&values));
            }
            RelayState::Asked | RelayState::Granted => {}
        }
    }
    let heard = facts.paths.iter().any(|path| path.first_heard_ms.is_some());
    if granted && answered(facts) && !heard && !facts.connected && facts.reason.is_some() {
        findings.push(Why::OneSided.finding(&[]));
    }
    let over_tcp = facts.relays.iter().filter(|relay| relay.over_tcp && relay.udp_tried);
    if !udp_blocked(facts) {
        findings.extend(over_tcp.map(|relay| Why::RelayTcp.finding(&[("relay", &short(&relay.relay))])));
    }
    findings
}

// ---- switches ---------------------------------------------------------------------------------------------------

fn switches(facts: &CallFacts) -> Vec<Finding> {
    if facts.switches.is_empty() {
        let steady = if facts.reason.is_some() { Why::Steady } else { Why::SteadySoFar };
        return facts.connected.then(|| steady.finding(&[])).into_iter().collect();
    }
    facts.switches.iter().take(SWITCHES_TOLD).map(switched).collect()
}

fn switched(switch: &SwitchFact) -> Finding {
    let cost = match (switch.lost, switch.gap_ms) {
        (Some(0), Some(gap)) => format!("Nothing was lost; the longest gap was {gap} ms."),
        (Some(lost), Some(gap)) => format!(
            "It cost {lost} {} of 20 ms; the longest gap was {gap} ms.",
            if lost == 1 { "packet" } else { "packets" }
        ),
        (Some(lost), None) => format!("It cost {lost} packets of 20 ms."),
        (None, Some(gap)) => format!("The longest gap was {gap} ms."),
        (None, None) => "What it cost was not measured.".to_owned(),
    };
    Why::Switched.finding(&[
        ("at", &seconds(switch.into_call_ms)),
        ("from", &way(&switch.from)),
        ("to", &way(&switch.to)),
        ("why", switch.why.trim_end_matches('.')),
        ("cost", &cost),
    ])
}

fn way(path: &str) -> String {
    if path == DIRECT { "the direct path".to_owned() } else { format!("the relay {}", short(path)) }
}

// ---- where the time went ----------------------------------------------------------------------------------------

fn timing(facts: &CallFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let told: Vec<String> =
        facts.steps.iter().map(|step| format!("{} after {} ms", step_words(step.step), step.at_ms)).collect();
    if !told.is_empty() {
        findings.push(Why::SetUp.finding(&[("steps", &told.join(", "))]));
    }
    let look_up = at(facts, StepKind::LookedUp);
    let reach =
        at(facts, StepKind::Reached).zip(look_up).map(|(reached, found)| reached.saturating_sub(found));
    let sound = at(facts, StepKind::Sound)
        .zip(at(facts, StepKind::Answered))
        .map(|(sound, answered)| sound.saturating_sub(answered));
    let slow = [
        (Why::SlowLookUp, look_up, SLOW_LOOK_UP_MS),
        (Why::SlowReach, reach, SLOW_REACH_MS),
        (Why::SlowSound, sound, SLOW_SOUND_MS),
    ];
    let slow = slow.into_iter().filter_map(|(why, took, limit)| Some((why, took.filter(|ms| *ms >= limit)?)));
    findings.extend(slow.map(|(why, ms)| why.finding(&[("ms", &ms.to_string())])));
    findings
}

fn step_words(step: StepKind) -> &'static str {
    match step {
        StepKind::LookedUp => "looked up",
        StepKind::Reached => "device reached",
        StepKind::Ringing => "ringing",
        StepKind::RelayGranted => "first relay agreed",
        StepKind::RelayedPath => "relayed path tested",
        StepKind::DirectPath => "direct path tested",
        StepKind::Answered => "answered",
        StepKind::Sound => "first sound",
    }
}

/// The end of a peer id, which is enough to tell those of one call apart.
#[must_use]
pub fn short(id: &str) -> String {
    const KEPT: usize = 6;
    let letters = id.chars().count();
    if letters <= KEPT + 2 {
        return id.to_owned();
    }
    format!("…{}", id.chars().skip(letters - KEPT).collect::<String>())
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

fn milliseconds(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
