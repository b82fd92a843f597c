use tandem_api::{DeviceFact, DeviceFailure, RelayFact, SetupStep};

use super::*;

const RELAY: &str = "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo";

fn candidate(kind: CandidateType, address: &str, base: Option<&str>) -> CandidateFact {
    CandidateFact { kind, address: address.into(), base: base.map(Into::into), relay: None }
}

fn host(address: &str) -> CandidateFact {
    candidate(CandidateType::Host, address, None)
}

fn reflexive(address: &str) -> CandidateFact {
    candidate(CandidateType::ServerReflexive, address, Some("10.0.0.2:5000"))
}

fn path(name: &str, transport: &str, state: PathCondition, heard: bool) -> PathFact {
    PathFact {
        path: name.into(),
        transport: transport.into(),
        state,
        first_heard_ms: heard.then_some(500),
        last_heard_ms: heard.then_some(9_000),
        sent: if heard { 100 } else { 0 },
        received: if heard { 100 } else { 0 },
        primary: name != DIRECT,
        round_trip_ms: heard.then_some(52.4),
        ..PathFact::default()
    }
}

fn steps(list: &[(StepKind, u64)]) -> Vec<SetupStep> {
    list.iter().map(|(step, at_ms)| SetupStep { step: *step, at_ms: *at_ms }).collect()
}

/// A relayed call between contacts, both on simple NATs, that is over.
fn relayed() -> CallFacts {
    CallFacts {
        direction: Some(CallDirection::Outgoing),
        contact: true,
        direct_allowed: true,
        connected: true,
        path: Some(CallPath::Relayed),
        reason: Some(EndReason::HungUp),
        steps: steps(&[
            (StepKind::LookedUp, 80),
            (StepKind::Reached, 190),
            (StepKind::Ringing, 200),
            (StepKind::Answered, 2_000),
            (StepKind::Sound, 2_090),
        ]),
        own_candidates: vec![host("10.0.0.2:5000"), reflexive("192.0.2.1:5000")],
        their_candidates: vec![host("10.9.0.2:6000"), reflexive("198.51.100.1:6000")],
        paths: vec![
            path(RELAY, "udp", PathCondition::Good, true),
            path(DIRECT, "udp", PathCondition::Failed, false),
        ],
        ..CallFacts::default()
    }
}

fn words(facts: &CallFacts) -> Vec<String> {
    let findings = explain(facts);
    for finding in &findings {
        assert!(!finding.text.contains('{'), "a place was left empty: {finding:?}");
        assert!(finding.text.ends_with('.'), "{finding:?}");
    }
    findings.into_iter().map(|finding| finding.code).collect()
}

/// The second finding of a call that was relayed says why.
fn because(change: impl FnOnce(&mut CallFacts)) -> String {
    let mut facts = relayed();
    change(&mut facts);
    words(&facts)[1].clone()
}

#[test]
fn why_a_call_is_relayed() {
    assert_eq!(because(|_| {}), "filtered");
    assert_eq!(because(|call| call.contact = false), "not_a_contact");
    assert_eq!(because(|call| call.relay_only = true), "relay_only");
    assert_eq!(because(|call| call.they_relay_only = true), "they_relay_only");
    assert_eq!(because(|call| call.their_candidates.clear()), "they_show_no_address");
    assert_eq!(because(|call| call.own_candidates.clear()), "we_have_no_address");
    assert_eq!(because(|call| call.their_candidates = vec![host("[2001:db8::7]:6000")]), "no_common_family");
    // Where UDP passes, relays tell the outside address: theirs told them none.
    assert_eq!(because(|call| call.their_candidates = vec![host("10.9.0.2:6000")]), "udp_blocked_there");
    assert_eq!(because(|call| call.their_candidates = vec![host("9.8.7.6:6000")]), "filtered");
    let second = |port: &str| reflexive(&format!("192.0.2.1:{port}"));
    assert_eq!(because(|call| call.own_candidates.push(second("5001"))), "symmetric_here");
    assert_eq!(because(|call| call.own_candidates.push(second("5000"))), "filtered");
    assert_eq!(because(|call| call.mapping_varies = Some(true)), "symmetric_here");
    let theirs = || reflexive("198.51.100.1:6001");
    assert_eq!(because(|call| call.their_candidates.push(theirs())), "symmetric_there");
    assert_eq!(
        because(|call| {
            call.own_candidates.push(second("5001"));
            call.their_candidates.push(theirs());
        }),
        "both_symmetric"
    );
    assert_eq!(
        because(|call| {
            let tcp = RelayFact {
                relay: RELAY.into(),
                udp_tried: true,
                tcp_answer_ms: Some(60),
                ..RelayFact::default()
            };
            call.relays = vec![RelayFact { state: RelayState::Granted, answered_ms: Some(9), ..tcp }];
        }),
        "udp_blocked_here"
    );
    assert_eq!(
        because(|call| call.paths[1] = path(DIRECT, "udp", PathCondition::Silent, true)),
        "direct_lost"
    );
    assert_eq!(
        because(|call| {
            call.reason = None;
            call.paths[1].state = PathCondition::Checking;
        }),
        "direct_checking"
    );
}

#[test]
fn two_sockets_on_one_machine_are_no_symmetric_nat() {
    let mut facts = relayed();
    facts.own_candidates.push(candidate(
        CandidateType::ServerReflexive,
        "192.0.2.1:7000",
        Some("10.0.0.2:7000"),
    ));
    assert_eq!(words(&facts)[1], "filtered");
}

#[test]
fn a_direct_call_needs_no_excuse() {
    let facts = CallFacts {
        path: Some(CallPath::Direct),
        paths: vec![PathFact { primary: true, ..path(DIRECT, "udp", PathCondition::Good, true) }],
        ..relayed()
    };
    assert_eq!(words(&facts), ["direct_was", "steady", "set_up"]);
    assert_eq!(words(&CallFacts { reason: None, ..facts })[..2], ["direct", "steady_so_far"]);
}

#[test]
fn why_nobody_was_reached() {
    let unreached = |reason: EndReason, failure: Option<DeviceFailure>| CallFacts {
        direction: Some(CallDirection::Outgoing),
        reason: Some(reason),
        steps: steps(&[(StepKind::LookedUp, 50)]),
        devices: vec![DeviceFact {
            device: RELAY.into(),
            homes: 3,
            failed: Some("no reservation: timed out".into()),
            failure,
            ..DeviceFact::default()
        }],
        ..CallFacts::default()
    };
    let not_found = CallFacts { reason: Some(EndReason::NotFound), ..CallFacts::default() };
    assert_eq!(words(&not_found), ["not_found"]);
    let asleep = unreached(EndReason::Unreachable, Some(DeviceFailure::NotThere));
    assert_eq!(words(&asleep)[..2], ["ended", "asleep"]);
    let gone = unreached(EndReason::Unreachable, Some(DeviceFailure::HomesUnreachable));
    assert_eq!(words(&gone)[1], "homes_gone");
    let other = unreached(EndReason::Unreachable, Some(DeviceFailure::Other));
    assert_eq!(words(&other)[1], "not_reached");
    // A report of before failures had kinds: nothing is guessed from its words.
    assert_eq!(words(&unreached(EndReason::Unreachable, None))[1], "not_reached");
    assert_eq!(words(&unreached(EndReason::Busy, Some(DeviceFailure::NotThere))), ["ended", "set_up"]);
}

#[test]
fn how_a_call_stands_before_there_is_sound() {
    let stage = |list: &[(StepKind, u64)]| {
        let facts = CallFacts {
            direction: Some(CallDirection::Outgoing),
            steps: steps(list),
            ..CallFacts::default()
        };
        words(&facts)[0].clone()
    };
    assert_eq!(stage(&[]), "looking_up");
    assert_eq!(stage(&[(StepKind::LookedUp, 1)]), "reaching");
    assert_eq!(stage(&[(StepKind::LookedUp, 1), (StepKind::Ringing, 2)]), "ringing");
    assert_eq!(stage(&[(StepKind::Ringing, 2), (StepKind::Answered, 3)]), "no_sound_yet");
}

#[test]
fn relays_that_failed_are_named_with_their_reason() {
    let mut facts = relayed();
    let relay = |state, why: Option<&str>| RelayFact {
        relay: RELAY.into(),
        state,
        answered_ms: (state != RelayState::Asked).then_some(5),
        why: why.map(Into::into),
        ..RelayFact::default()
    };
    facts.relays = vec![
        relay(RelayState::Refused, Some("it is full.")),
        relay(RelayState::Lost, None),
        relay(RelayState::Asked, None),
        relay(RelayState::Granted, None),
    ];
    let codes = words(&facts);
    assert_eq!(codes[2..5], ["relay_refused", "relay_lost", "relay_no_answer"]);
    assert!(explain(&facts)[2].text.contains("…CVe2Xo did not take the call: it is full."));
    let none = CallFacts {
        connected: false,
        reason: Some(EndReason::MediaLost),
        relays: vec![relay(RelayState::Refused, Some("full"))],
        paths: Vec::new(),
        ..relayed()
    };
    assert!(words(&none).contains(&"no_relay".to_owned()));
    let deaf = CallFacts { relays: vec![relay(RelayState::Granted, None)], ..none };
    assert!(words(&deaf).contains(&"one_sided".to_owned()));
}

#[test]
fn a_switch_tells_what_it_cost() {
    let switch = |lost, gap_ms| {
        let mut facts = relayed();
        facts.switches = vec![SwitchFact {
            into_call_ms: 12_340,
            from: DIRECT.into(),
            to: RELAY.into(),
            why: "nothing was heard on it for 80 ms".into(),
            lost,
            gap_ms,
        }];
        let findings = explain(&facts);
        findings.into_iter().find(|finding| finding.code == "switched").expect("a switch").text
    };
    assert_eq!(
        switch(Some(4), Some(110)),
        "12.3 s into the call the sound moved from the direct path to the relay …CVe2Xo: nothing was heard on it for \
         80 ms. It cost 4 packets of 20 ms; the longest gap was 110 ms."
    );
    assert!(switch(Some(0), Some(23)).ends_with("Nothing was lost; the longest gap was 23 ms."));
    assert!(switch(None, None).ends_with("What it cost was not measured."));
}

#[test]
fn slow_steps_are_pointed_out() {
    let mut facts = relayed();
    assert!(!words(&facts).iter().any(|word| word.starts_with("slow")));
    facts.steps = steps(&[
        (StepKind::LookedUp, 2_000),
        (StepKind::Reached, 5_000),
        (StepKind::Answered, 6_000),
        (StepKind::Sound, 9_000),
    ]);
    let codes = words(&facts);
    for slow in ["slow_look_up", "slow_reach", "slow_sound"] {
        assert!(codes.contains(&slow.to_owned()), "{codes:?}");
    }
}

/// Whatever the facts, the explanation holds together: no empty places, a bounded number of sentences.
#[test]
fn empty_and_odd_facts_are_explained_too() {
    for reason in
        [None, Some(EndReason::NoPath), Some(EndReason::Stopping), Some(EndReason::AnsweredElsewhere)]
    {
        for connected in [false, true] {
            let facts = CallFacts { reason, connected, ..CallFacts::default() };
            assert!(!words(&facts).is_empty());
        }
    }
    let mut many = relayed();
    many.switches = vec![SwitchFact::default(); 100];
    assert!(explain(&many).len() < 40);
}
