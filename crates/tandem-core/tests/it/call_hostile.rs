//! Whatever arrives: the machine neither panics nor grows, and other calls do not notice.

use proptest::prelude::*;
use tandem_core::call::*;
use tandem_proto::wire::signal_frame::Body;
use tandem_proto::wire::*;

use crate::call_world::{World, media};

const ALICE: usize = 0;
const BOB: usize = 1;
const MALLORY: usize = 2;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(vec![]),
        Just(vec![2; 16]),
        Just(vec![7; 32]),
        proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

/// Integers of the wire: small ones, which get far, and all others, their ends above all.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..6, Just(u32::MAX), Just(u32::MAX - 1), any::<u32>()]
}

fn long_number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..6, Just(u64::MAX), Just(u64::MAX - 1), any::<u64>()]
}

fn signed() -> impl Strategy<Value = Signed> {
    (bytes(), bytes()).prop_map(|(payload, signature)| Signed { payload, signature })
}

fn some_media() -> impl Strategy<Value = Option<MediaDescription>> {
    prop_oneof![Just(None), Just(Some(media(1))), Just(Some(MediaDescription::default()))]
}

fn candidate() -> impl Strategy<Value = Candidate> {
    (number(), bytes(), number(), bytes(), number())
        .prop_map(|(kind, address, port, relay, priority)| Candidate { kind, address, port, relay, priority })
}

fn hello() -> impl Strategy<Value = Body> {
    let numbers = (number(), number(), long_number(), long_number());
    (numbers, proptest::option::of(signed()), proptest::option::of(signed())).prop_map(
        |((version_min, version_max, features, time_s), certificate, device_set)| {
            Body::Hello(SignalHello {
                version_min,
                version_max,
                features,
                time_s,
                certificate,
                device_set,
                ..SignalHello::default()
            })
        },
    )
}

/// The frames of a redraw.
fn redraw() -> impl Strategy<Value = Body> {
    let many = || proptest::collection::vec(signed(), 0..12);
    prop_oneof![
        (number(), bytes()).prop_map(|(round, commit)| Body::Redraw(Redraw { round, commit })),
        (number(), bytes(), many()).prop_map(|(round, nonce, relays)| Body::RedrawAnswer(RedrawAnswer {
            round,
            nonce,
            relays
        })),
        (number(), bytes(), many()).prop_map(|(round, nonce, relays)| Body::RedrawReveal(RedrawReveal {
            round,
            nonce,
            relays
        })),
    ]
}

fn body() -> impl Strategy<Value = Body> {
    let many = || proptest::collection::vec(signed(), 0..12);
    prop_oneof![
        hello(),
        (bytes(), bytes(), some_media(), bytes(), ".{0,80}").prop_map(|(id, secret, media, commit, name)| {
            Body::Offer(Offer {
                call_id: id,
                leg_secret: secret,
                media,
                draw_commit: commit,
                relay_only: false,
                display_name: name,
                invitation: Vec::new(),
            })
        }),
        (bytes(), many(), some_media(), any::<bool>()).prop_map(|(draw_nonce, relays, media, relay_only)| {
            Body::Ringing(Ringing { draw_nonce, relays, media, relay_only })
        }),
        (bytes(), many()).prop_map(|(nonce, relays)| Body::Draw(Draw { nonce, relays })),
        (number(), proptest::collection::vec(candidate(), 0..20))
            .prop_map(|(generation, candidates)| Body::Candidates(Candidates { generation, candidates })),
        some_media().prop_map(|media| Body::Answer(Answer { media })),
        Just(Body::Confirm(Confirm {})),
        (bytes(), number(), ".{0,80}", ".{0,160}").prop_map(|(proof, bits, display_name, message)| {
            Body::ContactRequest(ContactRequest { proof, bits, display_name, message })
        }),
        (number(), bytes(), number()).prop_map(|(status, salt, bits)| Body::RequestAnswer(RequestAnswer {
            status,
            salt,
            bits
        })),
        (number(), bytes()).prop_map(|(reason, call_id)| Body::HangUp(HangUp {
            reason,
            by: "x".repeat(reason as usize % 80),
            call_id
        })),
        (number(), bytes()).prop_map(|(reason, call_id)| Body::Decline(Decline { reason, call_id })),
        (long_number(), proptest::collection::vec((bytes(), any::<bool>(), number()), 0..20)).prop_map(
            |(sequence, paths)| {
                let path = |(relay, hears, lost_permille)| PathState { relay, hears, lost_permille };
                Body::PathReport(PathReport { sequence, paths: paths.into_iter().map(path).collect() })
            }
        ),
        redraw(),
    ]
}

fn frame() -> impl Strategy<Value = SignalFrame> {
    proptest::option::weighted(0.95, body()).prop_map(|body| SignalFrame { body })
}

/// When a frame of Mallory's is replaced or followed by random ones.
fn scripts() -> impl Strategy<Value = Vec<(bool, SignalFrame)>> {
    proptest::collection::vec((any::<bool>(), frame()), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// A caller whose frames are partly random: whatever becomes of the call, the callee's machine stays sound.
    #[test]
    fn random_frames_from_a_caller(script in scripts(), answers in any::<bool>()) {
        random_frames(script, MALLORY, BOB, answers);
    }

    /// The same from a callee.
    #[test]
    fn random_frames_from_a_callee(script in scripts(), answers in any::<bool>()) {
        random_frames(script, BOB, MALLORY, answers);
    }
}

fn random_frames(script: Vec<(bool, SignalFrame)>, caller: usize, callee: usize, answers: bool) {
    let mut world = World::people(3, 5);
    world.befriend();
    world.nodes[callee].auto_answer = answers;
    let mut script = script.into_iter();
    world.tamper = Some(Box::new(move |from, honest| {
        if from != MALLORY {
            return Some(honest);
        }
        match script.next() {
            // The first frames are honest now and then, so that later stages are reached.
            Some((true, _)) | None => Some(honest),
            Some((false, random)) => Some(random),
        }
    }));
    world.place(caller, callee);
    world.run(3_000);
    let victim = BOB;
    assert!(world.nodes[victim].media.len() <= 2);
    assert!(world.nodes[victim].commands.len() < 2_000, "it was made to do too much");
    // Whatever happened, a friend gets through afterwards.
    if let Some(status) = world.nodes[victim].calls.status() {
        world.act(victim, |calls, now| calls.hang_up(status.call, now));
    }
    world.tamper = None;
    world.nodes[victim].auto_answer = true;
    world.run(500);
    world.place(ALICE, victim);
    world.run(2_000);
    assert!(world.talks(ALICE) && world.talks(victim));
}

#[test]
fn a_flood_of_streams_and_frames_is_bounded_and_the_call_goes_on() {
    let mut world = World::people(3, 5);
    world.nodes[BOB].auto_answer = true;
    world.place(ALICE, BOB);
    world.run(2_000);
    let hello = world.nodes[ALICE].sent[0].clone();
    for n in 0..1_000u32 {
        let mut device = world.nodes[MALLORY].device;
        device.0[..4].copy_from_slice(&n.to_le_bytes());
        let signal = world.rogue_stream(device, BOB);
        // Somebody else's hello on a stream that another key opened.
        world.act(BOB, |calls, now| calls.handle_frame(signal, hello.clone(), now));
    }
    let signal = world.rogue_stream(world.nodes[MALLORY].device, BOB);
    for _ in 0..10_000 {
        let frame = SignalFrame { body: Some(Body::PathReport(PathReport::default())) };
        world.act(BOB, |calls, now| calls.handle_frame(signal, frame.clone(), now));
    }
    world.run(1_000);
    assert!(world.talks(ALICE) && world.talks(BOB));
    let replies = world.nodes[BOB].commands.len();
    assert!(replies < 6_000, "{replies} commands: a closed stream is not answered any more");
    world.run(20_000);
    assert!(world.talks(ALICE) && world.talks(BOB));
}

#[test]
fn an_unknown_kind_of_frame_is_passed_over() {
    let mut world = World::people(2, 5);
    world.nodes[BOB].auto_answer = true;
    world.place(ALICE, BOB);
    world.run(2_000);
    for signal in 0..200 {
        let frame = SignalFrame { body: None };
        world.act(BOB, |calls, now| calls.handle_frame(SignalId(signal), frame, now));
    }
    world.run(500);
    assert!(world.talks(ALICE) && world.talks(BOB));
}

#[test]
fn a_peer_that_floods_its_own_call_ends_it() {
    let mut world = World::people(2, 5);
    world.nodes[BOB].auto_answer = true;
    world.place(ALICE, BOB);
    world.run(2_000);
    let leg = world.nodes[ALICE].calls.status().and_then(|status| status.leg).unwrap();
    for _ in 0..150 {
        world.act(ALICE, |calls, _| calls.send_path_report(leg, Vec::new()));
    }
    world.run(500);
    assert_eq!(world.end_reason(BOB), Some(EndReason::Protocol));
}

#[test]
fn candidates_beyond_the_limit_are_passed_over() {
    let mut world = World::people(2, 5);
    world.befriend();
    world.nodes[BOB].auto_answer = true;
    world.place(ALICE, BOB);
    world.run(2_000);
    let leg = world.nodes[ALICE].calls.status().and_then(|status| status.leg).unwrap();
    let many: Vec<Candidate> = (0..200u32)
        .map(|n| Candidate {
            kind: 0,
            address: vec![10, 9, 8, n as u8],
            port: 1_000 + n,
            ..Candidate::default()
        })
        .collect();
    world.act(ALICE, |calls, now| calls.handle_local_candidates(leg, &many, now));
    world.run(500);
    let added =
        world.nodes[BOB].commands.iter().filter(|c| matches!(c, Command::AddRemoteCandidate { .. })).count();
    assert!(added <= 32, "{added}");
    assert!(world.talks(ALICE));
}

#[test]
fn a_generation_beyond_all_numbers_ends_the_call_and_not_the_node() {
    for generation in [1_001, u32::MAX - 1, u32::MAX] {
        let mut world = World::people(3, 5);
        world.nodes[BOB].auto_answer = true;
        world.tamper = Some(Box::new(move |from, honest| {
            let offers = matches!(honest.body, Some(Body::Candidates(_)));
            let lie = Body::Candidates(Candidates { generation, candidates: Vec::new() });
            Some(if from == MALLORY && offers { SignalFrame { body: Some(lie) } } else { honest })
        }));
        world.place(MALLORY, BOB);
        world.run(2_000);
        assert_eq!(world.end_reason(BOB), Some(EndReason::Protocol));
        world.tamper = None;
        world.place(ALICE, BOB);
        world.run(2_000);
        assert!(world.talks(ALICE) && world.talks(BOB));
    }
}
