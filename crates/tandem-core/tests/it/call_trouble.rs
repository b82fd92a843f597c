//! Relays die, signalling is lost, draws are cheated: what a call does about it.

use tandem_core::call::*;
use tandem_proto::ids::ServiceKey;
use tandem_proto::wire::signal_frame::Body;

use crate::call_world::World;

const ALICE: usize = 0;
const BOB: usize = 1;

/// Two strangers talking, with this many supernodes.
fn talking(supernodes: usize) -> (World, CallId) {
    let mut world = World::people(2, supernodes);
    world.nodes[BOB].auto_answer = true;
    let call = world.place(ALICE, BOB);
    world.run(2_000);
    assert!(world.talks(ALICE) && world.talks(BOB));
    (world, call)
}

fn index_of(world: &World, key: ServiceKey) -> usize {
    world.supernodes.iter().position(|s| s.key == key).expect("a known one")
}

fn live_relays(world: &World, node: usize) -> usize {
    world.relays(node).into_iter().filter(|key| !world.super_of(*key).dead).count()
}

#[test]
fn one_relay_dies_and_is_replaced_by_the_same_one_on_both_ends() {
    for silent in [false, true] {
        let (mut world, _) = talking(6);
        let victim = index_of(&world, world.relays(ALICE)[0]);
        world.kill(victim, silent);
        world.run(900);
        assert_eq!(live_relays(&world, ALICE), 1, "it may only have stumbled: one second is waited");
        world.run(2_000);
        assert_eq!((live_relays(&world, ALICE), live_relays(&world, BOB)), (2, 2));
        assert_eq!(world.relays(ALICE), world.relays(BOB));
        assert_eq!((world.longest_gap(ALICE), world.longest_gap(BOB)), (0, 0), "the other relay carried it");
        assert!(world.supernodes.iter().all(|s| s.grants <= 2), "nobody is asked more often than needed");
    }
}

#[test]
fn all_relays_die_at_once_and_sound_is_back_within_three_seconds() {
    for silent in [false, true] {
        // Also when the supernodes that carry the signalling are the ones that die.
        let (mut world, _) = talking(6);
        for key in world.relays(ALICE) {
            let victim = index_of(&world, key);
            world.kill(victim, silent);
        }
        world.run(3_000);
        assert!(world.talks(ALICE) && world.talks(BOB), "silent: {silent}");
        assert!(world.longest_gap(ALICE) <= 3_000 && world.longest_gap(BOB) <= 3_000);
        world.run(10_000);
        assert!(world.talks(ALICE) && world.talks(BOB));
        assert_eq!((live_relays(&world, ALICE), live_relays(&world, BOB)), (2, 2));
        let notes = world.nodes[ALICE].calls.status().unwrap().notes.join("\n");
        assert!(notes.contains("fallback") && notes.contains("Sound came back"), "{notes}");
    }
}

#[test]
fn whatever_two_supernodes_die_the_call_lives() {
    for a in 0..5 {
        for b in a + 1..5 {
            for silent in [false, true] {
                let (mut world, _) = talking(5);
                world.kill(a, silent);
                world.kill(b, silent);
                world.run(4_000);
                assert!(world.talks(ALICE) && world.talks(BOB), "{a} and {b}, silent: {silent}");
                let longest = world.longest_gap(ALICE).max(world.longest_gap(BOB));
                assert!(longest <= 3_000, "{a} and {b}, silent: {silent}: {longest} ms");
            }
        }
    }
}

#[test]
fn relays_that_die_one_after_the_other_use_the_list_up_in_order() {
    let (mut world, _) = talking(6);
    for _ in 0..4 {
        let victim = world.relays(ALICE).into_iter().find(|key| !world.super_of(*key).dead).unwrap();
        let victim = index_of(&world, victim);
        world.kill(victim, true);
        world.run(8_000);
        assert!(world.talks(ALICE) && world.talks(BOB));
    }
    assert_eq!((world.longest_gap(ALICE), world.longest_gap(BOB)), (0, 0));
}

#[test]
fn signalling_lost_in_a_call_is_reopened_and_the_call_goes_on() {
    let (mut world, call) = talking(5);
    world.cut_signalling();
    world.run(20);
    assert!(!world.nodes[ALICE].calls.status().unwrap().signalling);
    world.run(1_000);
    assert!(world.nodes[ALICE].calls.status().unwrap().signalling);
    assert!(world.nodes[BOB].calls.status().unwrap().signalling);
    assert_eq!(world.rings(BOB).len(), 1, "it does not ring again");
    assert_eq!((world.longest_gap(ALICE), world.longest_gap(BOB)), (0, 0));
    world.act(BOB, |calls, now| calls.hang_up(call, now));
    world.run(200);
    assert_eq!(world.end_reason(ALICE), Some(EndReason::HungUp), "hang-up works on the new stream");
}

#[test]
fn a_peer_that_drops_every_stream_does_not_make_us_hurry() {
    let (mut world, _) = talking(5);
    for _ in 0..200 {
        world.cut_signalling();
        world.run(50);
    }
    let opened =
        world.nodes[ALICE].commands.iter().filter(|c| matches!(c, Command::OpenSignal { .. })).count();
    assert!(opened <= 30, "{opened} attempts in 10 s");
    assert_eq!((world.longest_gap(ALICE), world.longest_gap(BOB)), (0, 0));
    world.run(5_000);
    assert!(world.nodes[ALICE].calls.status().is_some_and(|status| status.signalling));
}

#[test]
fn signalling_lost_while_it_rings_is_reopened_and_it_can_be_answered() {
    let mut world = World::people(2, 5);
    let call = world.place(ALICE, BOB);
    world.run(1_000);
    world.cut_signalling();
    world.run(1_000);
    assert_eq!(world.rings(BOB).len(), 1);
    world.act(BOB, |calls, now| calls.answer(call, now)).unwrap();
    world.run(500);
    assert!(world.talks(ALICE) && world.talks(BOB));
}

#[test]
fn an_answer_lost_with_its_stream_is_repeated() {
    for lost in ["answer", "confirm", "ringing", "draw"] {
        let mut world = World::people(2, 5);
        // A stream keeps its order: what follows a lost frame on it is lost too.
        let mut broken = None;
        world.tamper = Some(Box::new(move |from, frame| {
            let hit = matches!(
                (&frame.body, lost),
                (Some(Body::Answer(_)), "answer")
                    | (Some(Body::Confirm(_)), "confirm")
                    | (Some(Body::Ringing(_)), "ringing")
                    | (Some(Body::Draw(_)), "draw")
            );
            if hit {
                broken = Some(from);
            }
            (broken != Some(from)).then_some(frame)
        }));
        let call = world.place(ALICE, BOB);
        world.run(500);
        world.act(BOB, |calls, now| calls.answer(call, now)).unwrap();
        world.run(100);
        world.tamper = None;
        world.cut_signalling();
        world.run(2_000);
        assert!(world.talks(ALICE) && world.talks(BOB), "lost: {lost}");
    }
}

#[test]
fn the_callee_stops_ringing_when_the_caller_is_gone() {
    let mut world = World::people(2, 5);
    world.place(ALICE, BOB);
    world.run(1_000);
    world.nodes[ALICE].online = false;
    world.cut_signalling();
    world.run(25_000);
    assert_eq!(world.end_reason(BOB), Some(EndReason::Cancelled));
}

#[test]
fn a_call_without_media_and_signalling_is_lost_with_a_reason() {
    let (mut world, _) = talking(5);
    world.nodes[BOB].online = false;
    world.cut_signalling();
    world.run(60_000);
    assert_eq!(world.stage(ALICE), Some(Stage::Established), "patience first");
    world.run(2_000);
    let ended = world.ended(ALICE).unwrap();
    assert_eq!(ended.reason, EndReason::Lost);
    assert!(!ended.why.is_empty());
    assert!(world.nodes[ALICE].media.is_empty());
}

#[test]
fn an_end_that_hung_up_unheard_says_so_when_asked_again() {
    let (mut world, call) = talking(5);
    world.cut_signalling();
    world.act(BOB, |calls, now| calls.hang_up(call, now));
    world.run(3_000);
    assert_eq!(world.end_reason(ALICE), Some(EndReason::HungUp), "and not after a long silence");
    assert_eq!(world.rings(BOB).len(), 1, "and it does not ring anew");
}

#[test]
fn a_relay_that_refuses_is_replaced_and_the_other_end_follows() {
    let mut world = World::people(2, 6);
    world.nodes[BOB].auto_answer = true;
    world.place(ALICE, BOB);
    world.run(190);
    // While it rings: one of the relays drawn does not answer requests for grants, to Alice alone.
    let refused = world.nodes[ALICE].commands.iter().find_map(|command| match command {
        Command::RequestGrants { leg, relays } => Some((*leg, relays[0].service)),
        _ => None,
    });
    let (leg, service) = refused.expect("grants were asked for");
    world.act(ALICE, |calls, now| calls.handle_grant(leg, service, Err("over its cap".into()), now));
    world.run(2_000);
    assert!(world.talks(ALICE) && world.talks(BOB));
    assert_eq!(world.relays(ALICE).len(), 2);
    for relay in world.relays(ALICE) {
        assert!(world.relays(BOB).contains(&relay), "the other end met it there");
    }
}

#[test]
fn a_relay_without_room_is_replaced_at_once() {
    let (mut world, _) = talking(6);
    let full = world.relays(ALICE)[0];
    let leg = *world.nodes[ALICE].media.keys().next().unwrap();
    let asked = world.supernodes.iter().map(|s| s.grants).sum::<usize>();
    world.act(ALICE, |calls, now| calls.handle_relay_full(leg, full, now));
    let asks = world.nodes[ALICE].commands.iter().rev().find_map(|command| match command {
        Command::RequestGrants { relays, .. } => Some(relays.clone()),
        _ => None,
    });
    let asks = asks.expect("grants were asked for");
    assert_eq!(asks.len(), 1);
    assert!(asks[0].service != full && !world.relays(ALICE).contains(&asks[0].service), "the next one");
    assert_eq!(world.supernodes.iter().map(|s| s.grants).sum::<usize>(), asked + 1, "without a wait");
    // Told again, or of a relay that is not of the call: nothing happens.
    world.act(ALICE, |calls, now| calls.handle_relay_full(leg, full, now));
    world.act(ALICE, |calls, now| calls.handle_relay_full(leg, ServiceKey([77; 32]), now));
    assert_eq!(world.supernodes.iter().map(|s| s.grants).sum::<usize>(), asked + 1);
    world.run(2_000);
    assert!(world.talks(ALICE) && world.talks(BOB));
    assert!(world.relays(BOB).contains(&asks[0].service), "the other end met it there");
}

#[test]
fn no_relay_takes_the_call() {
    let mut world = World::people(2, 5);
    world.nodes[BOB].auto_answer = true;
    world.place(ALICE, BOB);
    world.tamper = Some(Box::new(|_, frame| Some(frame)));
    while world.stage(ALICE) != Some(Stage::Established) {
        world.run(5);
    }
    world.supernodes.iter_mut().for_each(|s| s.dead = true);
    world.nodes.iter_mut().flat_map(|n| n.media.values_mut()).for_each(|m| m.relays.clear());
    world.run(70_000);
    assert_eq!(world.end_reason(ALICE), Some(EndReason::Lost));
    assert!(world.supernodes.iter().all(|s| s.grants <= 60), "no storm of requests");
}

/// Changes the caller's Draw on its way.
fn cheated(change: impl Fn(&mut tandem_proto::wire::Draw) + 'static) -> World {
    let mut world = World::people(2, 6);
    world.nodes[BOB].auto_answer = true;
    world.tamper = Some(Box::new(move |_, mut frame| {
        if let Some(Body::Draw(draw)) = &mut frame.body {
            change(draw);
        }
        Some(frame)
    }));
    world.place(ALICE, BOB);
    world.run(2_000);
    world
}

#[test]
fn a_cheating_draw_ends_the_call() {
    let worlds = [
        ("another number revealed", cheated(|draw| draw.nonce[0] ^= 1)),
        ("another relay first", cheated(|draw| draw.relays.swap(0, 1))),
        ("one relay less", cheated(|draw| _ = draw.relays.pop())),
        ("none", cheated(|draw| draw.relays.clear())),
        ("one relay twice", cheated(|draw| draw.relays.push(draw.relays[0].clone()))),
        ("forged", cheated(|draw| draw.relays[0].signature[0] ^= 1)),
        ("too many", cheated(|draw| draw.relays = vec![draw.relays[0].clone(); 9])),
    ];
    for (what, world) in worlds {
        assert_eq!(world.end_reason(BOB), Some(EndReason::Protocol), "{what}");
        assert_eq!(world.end_reason(ALICE), Some(EndReason::Protocol), "{what}");
        assert!(
            !world.nodes[BOB].commands.iter().any(|c| matches!(c, Command::RequestGrants { .. })),
            "{what}"
        );
        assert!(!world.nodes[BOB].commands.iter().any(|c| matches!(c, Command::StartMedia { .. })), "{what}");
    }
}

#[test]
fn path_reports_reach_the_other_end_in_order() {
    let (mut world, _) = talking(5);
    let leg = world.nodes[ALICE].calls.status().unwrap().leg.unwrap();
    let path = tandem_proto::wire::PathState { relay: vec![7; 32], hears: false, lost_permille: 900 };
    for _ in 0..2 {
        world.act(ALICE, |calls, _| calls.send_path_report(leg, vec![path.clone()]));
    }
    world.run(100);
    let seen: Vec<u64> = world.nodes[BOB]
        .commands
        .iter()
        .filter_map(
            |c| if let Command::RemotePathReport { sequence, .. } = c { Some(*sequence) } else { None },
        )
        .collect();
    assert_eq!(seen, [1, 2]);
}
