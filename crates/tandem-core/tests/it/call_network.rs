//! The network under a call changes, goes away and comes back.

use tandem_core::call::*;
use tandem_proto::wire::signal_frame::Body;
use tandem_proto::wire::{Candidate, Candidates};

use crate::call_world::World;

const ALICE: usize = 0;
const BOB: usize = 1;

/// Two contacts talking.
fn talking() -> World {
    let mut world = World::people(2, 8);
    world.befriend();
    world.nodes[BOB].auto_answer = true;
    world.place(ALICE, BOB);
    world.run(2_000);
    assert!(world.talks(ALICE) && world.talks(BOB));
    world
}

fn leg(world: &World, node: usize) -> LegId {
    world.nodes[node].calls.status().and_then(|status| status.leg).expect("an established call")
}

fn signalling(world: &World, node: usize) -> bool {
    world.nodes[node].calls.status().is_some_and(|status| status.signalling)
}

fn host(n: u8) -> Candidate {
    Candidate { kind: 0, address: vec![10, 9, 8, n], port: 1_000, ..Candidate::default() }
}

#[test]
fn a_call_lives_through_forty_five_seconds_without_network() {
    for (who, ms) in [(ALICE, 1_000), (ALICE, 30_000), (BOB, 30_000), (ALICE, 45_000), (BOB, 45_000)] {
        let mut world = talking();
        world.unplug(who);
        world.run(ms);
        assert!(!world.talks(ALICE) && !world.talks(BOB));
        for node in [ALICE, BOB] {
            assert_eq!(world.end_reason(node), None, "{who} was away for {ms} ms");
            let status = world.nodes[node].calls.status().unwrap();
            let lost = status.notes.iter().any(|note| note.starts_with("The connection is lost"));
            assert_eq!(lost, ms >= 3_000, "told after two seconds, not for a moment: {:?}", status.notes);
            assert!(status.silent_since_ms.is_some());
        }
        world.plug(who);
        world.run(1_000);
        assert!(world.talks(ALICE) && world.talks(BOB));
        assert!(signalling(&world, ALICE) && signalling(&world, BOB), "{who} after {ms} ms");
        world.run(60_000);
        assert!(world.talks(ALICE) && world.talks(BOB));
        assert_eq!(world.nodes[ALICE].calls.status().unwrap().silent_since_ms, None);
        assert_eq!(world.rings(BOB).len(), 1);
        assert!(world.supernodes.iter().all(|s| s.grants <= 20), "no storm of requests");
    }
}

#[test]
fn nothing_for_a_minute_ends_the_call_with_a_reason() {
    let mut world = talking();
    world.unplug(BOB);
    world.run(60_000);
    assert_eq!(world.end_reason(ALICE), None);
    world.run(10_000);
    assert_eq!(
        (world.end_reason(ALICE), world.end_reason(BOB)),
        (Some(EndReason::Lost), Some(EndReason::Lost))
    );
}

#[test]
fn a_change_of_network_moves_the_signalling_at_once() {
    for who in [ALICE, BOB] {
        let mut world = talking();
        let before = world.nodes[who].commands.len();
        world.unplug(who);
        world.plug(who);
        world.run(700);
        assert!(signalling(&world, ALICE) && signalling(&world, BOB));
        let since = &world.nodes[who].commands[before..];
        assert!(
            since.iter().any(|c| matches!(c, Command::LookUp { .. })),
            "and the other end is looked up again"
        );
        let opened = since.iter().filter(|c| matches!(c, Command::OpenSignal { .. })).count();
        assert_eq!(opened, 1, "{who}");
        // It works both ways: a hang-up is heard.
        let call = world.nodes[who].calls.status().unwrap().call;
        world.act(1 - who, |calls, now| calls.hang_up(call, now));
        world.run(100);
        assert_eq!(world.end_reason(who), Some(EndReason::HungUp));
    }
}

#[test]
fn candidates_of_a_new_network_come_in_addition() {
    let mut world = talking();
    let leg = leg(&world, ALICE);
    world.run(2_000);
    world.act(ALICE, |calls, now| calls.handle_network_changed(now));
    world.act(ALICE, |calls, now| calls.handle_local_candidates(leg, &[host(1)], now));
    // Within a second it is the same change.
    world.run(500);
    world.act(ALICE, |calls, now| calls.handle_network_changed(now));
    world.act(ALICE, |calls, now| calls.handle_local_candidates(leg, &[host(2)], now));
    world.run(1_000);
    let added: Vec<(u32, Candidate)> = world.nodes[BOB]
        .commands
        .iter()
        .filter_map(|c| match c {
            Command::AddRemoteCandidate { generation, candidate, .. } if *generation > 0 => {
                Some((*generation, candidate.clone()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(added, [(1, host(1)), (1, host(2))]);
    assert_eq!(world.relays(ALICE).len(), 2, "the relays stay");
    assert_eq!((world.longest_gap(ALICE), world.longest_gap(BOB)), (0, 0));
    // A stream opened later tells of both generations.
    let before = world.nodes[ALICE].sent.len();
    world.cut_signalling();
    world.run(1_000);
    let told: Vec<u32> = world.nodes[ALICE].sent[before..]
        .iter()
        .filter_map(|frame| match &frame.body {
            Some(Body::Candidates(candidates)) => Some(candidates.generation),
            _ => None,
        })
        .collect();
    assert_eq!(told, [0, 1]);
}

/// Sends frames of candidates from Alice's machine as they come, on her newest stream.
fn send(world: &mut World, frames: impl Iterator<Item = Candidates>) {
    let signal = world.newest_signal(BOB);
    for frame in frames {
        let frame = tandem_proto::wire::SignalFrame { body: Some(Body::Candidates(frame)) };
        world.act(BOB, |calls, now| calls.handle_frame(signal, frame, now));
    }
}

fn added(world: &World) -> usize {
    world.nodes[BOB].commands.iter().filter(|c| matches!(c, Command::AddRemoteCandidate { .. })).count()
}

#[test]
fn old_generations_are_passed_over_and_each_is_bounded() {
    let mut world = talking();
    let before = added(&world);
    let of = |generation, n| Candidates { generation, candidates: vec![host(n)] };
    send(&mut world, [of(5, 1), of(4, 2), of(3, 3), of(0, 4)].into_iter());
    assert_eq!(added(&world) - before, 2, "the newest and the one before");
    send(&mut world, (0..90).map(|n| of(5, n)));
    assert_eq!(added(&world) - before, 2 + 31, "32 of a generation");
    assert_eq!(world.end_reason(BOB), None);
}

#[test]
fn a_network_that_changes_faster_than_one_can_is_an_attack() {
    let mut world = talking();
    let before = added(&world);
    send(&mut world, (1..60).map(|n| Candidates { generation: n, candidates: vec![host(1)] }));
    assert_eq!(world.end_reason(BOB), Some(EndReason::Protocol));
    assert!(added(&world) - before <= 16);

    let mut world = talking();
    send(&mut world, std::iter::once(Candidates { generation: 1_001, candidates: vec![host(1)] }));
    assert_eq!(world.end_reason(BOB), Some(EndReason::Protocol));
}
