//! Why a call went as it did, for a person and for an engineer: sentences first, then what they were drawn from.

use tandem_api::{
    CallFacts, CallWhy, CandidateFact, CandidateType, DeviceFact, DeviceFailure, PathCondition, PathFact,
    Problem, RelayFact, RelayState, StepKind,
};
use tandem_node::why::{of_past_call, short};

use super::Place;
use crate::client::{Client, path_part};
use crate::output::{self, Exit};

pub(super) fn run(place: &Place, call: &str) -> Result<Exit, Problem> {
    let why: CallWhy = match Client::find(&place.data)? {
        Some(client) => client.get(&format!("/api/calls/{}/why", path_part(call)))?,
        // The reports are files: no node is needed to read them.
        None => of_past_call(&place.data, if call == "current" { "" } else { call })?,
    };
    output::either(place.json, &why, render);
    Ok(Exit::Done)
}

/// All of it, at most 80 columns wide.
pub(crate) fn render(why: &CallWhy) -> String {
    let mut text = format!("Why call {} {}\n", &why.call.get(..8).unwrap_or(&why.call), tense(&why.facts));
    for finding in &why.findings {
        // The steps stand in a table of their own below.
        if finding.code != "set_up" {
            text.push_str(&output::wrapped("  - ", &finding.text));
        }
    }
    for part in [steps(&why.facts), devices(&why.facts), paths(&why.facts), relays(&why.facts)] {
        text.push_str(&part);
    }
    text.push_str(&candidates(&why.facts));
    text
}

fn tense(facts: &CallFacts) -> &'static str {
    if facts.reason.is_some() { "went as it did" } else { "goes as it goes" }
}

/// A heading and a table below it; nothing where there are no rows.
fn section<const N: usize>(title: &str, head: [&str; N], rows: &[[String; N]]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let table = output::table(head, rows);
    let indented: String = table.lines().map(|line| format!("  {}\n", line.trim_end())).collect();
    format!("\n{title}\n{indented}")
}

fn steps(facts: &CallFacts) -> String {
    let mut before = 0;
    let rows: Vec<[String; 3]> = facts
        .steps
        .iter()
        .map(|step| {
            let took = step.at_ms.saturating_sub(before);
            before = step.at_ms;
            [step_words(step.step).to_owned(), format!("{} ms", step.at_ms), format!("+{took} ms")]
        })
        .collect();
    section("Where the time went", ["step", "after", "since the last"], &rows)
}

fn step_words(step: StepKind) -> &'static str {
    match step {
        StepKind::LookedUp => "directory answered",
        StepKind::Reached => "their device reached",
        StepKind::Ringing => "ringing",
        StepKind::RelayGranted => "first relay agreed",
        StepKind::RelayedPath => "relayed path tested",
        StepKind::DirectPath => "direct path tested",
        StepKind::Answered => "answered",
        StepKind::Sound => "first sound",
    }
}

fn devices(facts: &CallFacts) -> String {
    let row = |device: &DeviceFact| {
        let outcome = match (device.reached_ms, &device.failed) {
            (Some(at_ms), _) => {
                let via = device.via.as_deref().map(|via| format!(" through {}", short(via)));
                format!("reached after {at_ms} ms{}", via.unwrap_or_else(|| " directly".to_owned()))
            }
            (None, Some(why)) => match device.failure {
                Some(DeviceFailure::NotThere) => "its home answered, it did not".to_owned(),
                Some(DeviceFailure::HomesUnreachable) => "none of its homes answered".to_owned(),
                Some(DeviceFailure::Other) | None => format!("not reached: {why}"),
            },
            (None, None) => "not reached yet".to_owned(),
        };
        [short(&device.device), device.homes.to_string(), outcome]
    };
    let rows: Vec<[String; 3]> = facts.devices.iter().map(row).collect();
    section("Their devices", ["device", "homes", "outcome"], &rows)
}

fn paths(facts: &CallFacts) -> String {
    let row = |path: &PathFact| {
        let name =
            if path.path == "direct" { "direct".to_owned() } else { format!("relay {}", short(&path.path)) };
        let round_trip = path.round_trip_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
        let state = match path.state {
            PathCondition::Checking => "being tested",
            PathCondition::Good => "works",
            PathCondition::Silent => "fell silent",
            PathCondition::Failed => "never worked",
            PathCondition::Closed => "closed",
        };
        let first = if path.primary { "yes" } else { "" };
        [
            name,
            path.transport.clone(),
            state.to_owned(),
            round_trip,
            path.sent.to_string(),
            path.received.to_string(),
            first.to_owned(),
        ]
    };
    let rows: Vec<[String; 7]> = facts.paths.iter().map(row).collect();
    let mut text =
        section("Paths", ["path", "over", "state", "round trip", "sent", "received", "in use"], &rows);
    for path in facts.paths.iter().filter(|path| path.local.is_some() || path.remote.is_some()) {
        let end = |end: &Option<String>| end.clone().unwrap_or_else(|| "?".to_owned());
        text.push_str(&format!("  {}: {} to {}\n", short(&path.path), end(&path.local), end(&path.remote)));
    }
    text
}

fn relays(facts: &CallFacts) -> String {
    let row = |relay: &RelayFact| {
        let took = relay.answered_ms.map(|at| format!("{} ms", at.saturating_sub(relay.asked_ms)));
        let outcome = match (relay.state, &relay.why) {
            (RelayState::Asked, _) => "no answer".to_owned(),
            (RelayState::Granted, _) => "agreed".to_owned(),
            (RelayState::Refused, why) => {
                format!("refused: {}", why.as_deref().unwrap_or("it did not say why"))
            }
            (RelayState::Lost, why) => format!("lost: {}", why.as_deref().unwrap_or("it did not say why")),
        };
        let answer = |tried: bool, ms: Option<u64>| match (tried, ms) {
            (_, Some(ms)) => format!("{ms} ms"),
            (true, None) => "no answer".to_owned(),
            (false, None) => "-".to_owned(),
        };
        let tcp = relay.tcp_answer_ms.into_iter().chain(relay.tcp443_answer_ms).min();
        let silent = if relay.silent { ", silent now" } else { "" };
        [
            short(&relay.relay),
            took.unwrap_or_default(),
            answer(relay.udp_tried, relay.udp_answer_ms),
            answer(relay.tcp_tried, tcp),
            format!("{outcome}{silent}"),
        ]
    };
    let rows: Vec<[String; 5]> = facts.relays.iter().map(row).collect();
    section("Relays asked", ["relay", "grant", "UDP", "TCP", "outcome"], &rows)
}

fn candidates(facts: &CallFacts) -> String {
    let row = |side: &str, candidate: &CandidateFact| {
        let kind = match candidate.kind {
            CandidateType::Host => "host",
            CandidateType::ServerReflexive => "server-reflexive",
            CandidateType::Relayed => "relayed",
            CandidateType::Mapped => "mapped port",
            CandidateType::PeerReflexive => "peer-reflexive",
        };
        let on = match (&candidate.relay, &candidate.base) {
            (Some(relay), _) => format!("on {}", short(relay)),
            (None, Some(base)) => format!("for {base}"),
            (None, None) => String::new(),
        };
        [side.to_owned(), kind.to_owned(), candidate.address.clone(), on]
    };
    let ours = facts.own_candidates.iter().map(|candidate| row("here", candidate));
    let theirs = facts.their_candidates.iter().map(|candidate| row("there", candidate));
    let rows: Vec<[String; 4]> = ours.chain(theirs).collect();
    section("Addresses offered (candidates)", ["side", "kind", "address", ""], &rows)
}
