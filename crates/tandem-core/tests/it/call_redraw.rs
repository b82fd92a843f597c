//! The list of relays never runs out: supernodes are killed for an hour, others appear; and redraws are cheated.

use tandem_core::call::*;
use tandem_proto::wire::signal_frame::Body;
use tandem_proto::wire::{Redraw, RedrawAnswer, RedrawReveal, SignalFrame};

use crate::call_world::World;

const ALICE: usize = 0;
const BOB: usize = 1;
const BOTH: [usize; 2] = [ALICE, BOB];

fn talking(supernodes: usize, contacts: bool) -> World {
    let mut world = World::people(2, supernodes);
    if contacts {
        world.befriend();
    }
    world.nodes[BOB].auto_answer = true;
    world.place(ALICE, BOB);
    world.run(2_000);
    assert!(world.talks(ALICE) && world.talks(BOB));
    world
}

/// Runs on and says for how long there were no two relayed paths; there must always be one.
fn watch(world: &mut World, ms: u64) -> u64 {
    let mut short = 0;
    for _ in 0..ms / 50 {
        world.run(50);
        match world.live_paths(BOTH) {
            0 => panic!("no relayed path at {} ms", world.now.mono_ms),
            1 => short += 50,
            _ => {}
        }
    }
    short
}

#[test]
fn an_hour_in_which_every_supernode_dies() {
    for contacts in [false, true] {
        let mut world = talking(6, contacts);
        let mut killed = 0;
        while world.now.mono_ms < 3_600_000 {
            // Always one that carries the call: the worst choice.
            let used = world.relays(ALICE).into_iter().find(|key| !world.super_of(*key).dead).unwrap();
            let victim = world.supernodes.iter().position(|s| s.key == used).unwrap();
            world.kill(victim, killed % 2 == 0);
            world.add_supernode();
            world.rehome();
            killed += 1;
            let short = watch(&mut world, 60_000 + killed % 7 * 10_000);
            assert!(short <= 2_000, "two paths again after {short} ms");
            world.forget_closed();
            assert!(world.talks(ALICE) && world.talks(BOB));
        }
        assert!(killed >= 35, "{killed}");
        assert_eq!((world.longest_gap(ALICE), world.longest_gap(BOB)), (0, 0));
        assert_eq!((world.end_reason(ALICE), world.end_reason(BOB)), (None, None));
        let redraws = world.count_sent(ALICE, |body| matches!(body, Body::Redraw(_)));
        assert!((10..=180).contains(&redraws), "{redraws} rounds in an hour");
    }
}

#[test]
fn a_list_with_enough_in_reserve_is_left_alone() {
    let mut world = talking(8, false);
    world.run(600_000);
    assert_eq!(world.count_sent(ALICE, |body| matches!(body, Body::Redraw(_))), 0);
}

#[test]
fn a_small_network_is_not_asked_again_and_again() {
    let mut world = talking(3, false);
    world.run(600_000);
    assert!(world.count_sent(ALICE, |body| matches!(body, Body::Redraw(_))) <= 11);
    assert!(world.count_sent(BOB, |body| matches!(body, Body::RedrawAnswer(_))) <= 11);
}

#[test]
fn both_ends_draw_the_same_and_the_new_relays_are_used_after_the_old() {
    let mut world = talking(3, false);
    for _ in 0..6 {
        world.add_supernode();
    }
    world.run(70_000);
    let notes = |node: usize| {
        let status = world.nodes[node].calls.status().unwrap();
        status.notes.into_iter().filter(|note| note.starts_with("More relays")).collect::<Vec<_>>()
    };
    assert_eq!(notes(ALICE).len(), 1, "{:?}", notes(ALICE));
    assert_eq!(notes(ALICE), notes(BOB));
    for old in 0..3 {
        world.kill(old, true);
    }
    world.rehome();
    world.run(4_000);
    assert!(world.talks(ALICE) && world.talks(BOB));
    assert!(world.longest_gap(ALICE).max(world.longest_gap(BOB)) <= 3_000);
}

#[test]
fn a_redraw_whose_frames_are_lost_goes_on_with_the_next_stream() {
    for lost in ["redraw", "answer", "reveal"] {
        let mut world = talking(3, false);
        (0..4).for_each(|_| world.add_supernode());
        let mut broken = None;
        world.tamper = Some(Box::new(move |from, frame| {
            let hit = matches!(
                (&frame.body, lost),
                (Some(Body::Redraw(_)), "redraw")
                    | (Some(Body::RedrawAnswer(_)), "answer")
                    | (Some(Body::RedrawReveal(_)), "reveal")
            );
            if hit {
                broken = Some(from);
            }
            (broken != Some(from)).then_some(frame)
        }));
        world.run(9_000);
        world.tamper = None;
        world.cut_signalling();
        world.run(30_000);
        for node in BOTH {
            let notes = world.nodes[node].calls.status().unwrap().notes;
            let drawn = notes.iter().filter(|note| note.starts_with("More relays")).count();
            assert_eq!(drawn, 1, "{lost} lost: {notes:?}");
        }
        (0..4).for_each(|_| world.add_supernode());
        world.run(120_000);
        assert_eq!((world.end_reason(ALICE), world.end_reason(BOB)), (None, None), "{lost}");
    }
}

/// A call in which a redraw is done while frames of it are changed on their way.
fn cheated(change: impl Fn(&mut Body) + 'static) -> World {
    let mut world = talking(3, false);
    (0..4).for_each(|_| world.add_supernode());
    world.tamper = Some(Box::new(move |_, mut frame| {
        frame.body.as_mut().into_iter().for_each(&change);
        Some(frame)
    }));
    world.run(10_000);
    world
}

#[test]
fn a_cheating_redraw_ends_the_call() {
    fn reveal(change: impl Fn(&mut RedrawReveal) + 'static) -> World {
        cheated(move |body| {
            if let Body::RedrawReveal(reveal) = body {
                change(reveal);
            }
        })
    }
    fn answer(change: impl Fn(&mut RedrawAnswer) + 'static) -> World {
        cheated(move |body| {
            if let Body::RedrawAnswer(answer) = body {
                change(answer);
            }
        })
    }
    let worlds = [
        ("another number", reveal(|reveal| reveal.nonce[0] ^= 1)),
        ("a short number", reveal(|reveal| _ = reveal.nonce.pop())),
        ("a relay left out", reveal(|reveal| _ = reveal.relays.pop())),
        ("in another order", reveal(|reveal| reveal.relays.swap(0, 1))),
        ("forged", reveal(|reveal| reveal.relays[0].signature[0] ^= 1)),
        ("another round", reveal(|reveal| reveal.round += 1)),
        ("too many", answer(|answer| answer.relays = vec![answer.relays[0].clone(); 9])),
        ("a forged one", answer(|answer| answer.relays[0].signature[0] ^= 1)),
        ("no number", answer(|answer| answer.nonce.clear())),
        ("a round to come", answer(|answer| answer.round += 1)),
        (
            "a short commitment",
            cheated(|body| {
                if let Body::Redraw(redraw) = body {
                    redraw.commit.pop();
                }
            }),
        ),
    ];
    for (what, world) in worlds {
        assert_eq!(world.end_reason(BOB), Some(EndReason::Protocol), "{what}");
        assert_eq!(world.end_reason(ALICE), Some(EndReason::Protocol), "{what}");
    }
}

fn give(world: &mut World, to: usize, body: Body) {
    let signal = world.newest_signal(to);
    let frame = SignalFrame { body: Some(body) };
    world.act(to, |calls, now| calls.handle_frame(signal, frame, now));
}

/// A call in which Alice's machine, which did not ask, hears of no answer.
fn talking_apart() -> World {
    let mut world = talking(8, false);
    world.tamper = Some(Box::new(|from, frame| {
        let kept = from == ALICE || !matches!(frame.body, Some(Body::RedrawAnswer(_)));
        kept.then_some(frame)
    }));
    world
}

fn redraw(round: u32, n: u8) -> Body {
    Body::Redraw(Redraw { round, commit: vec![n; 32] })
}

#[test]
fn nobody_draws_until_the_outcome_pleases() {
    // Answered, and then another round instead of what was committed to.
    let mut world = talking_apart();
    give(&mut world, BOB, redraw(1, 1));
    world.run(2_000);
    assert_eq!(world.count_sent(BOB, |body| matches!(body, Body::RedrawAnswer(_))), 1);
    world.run(60_000);
    give(&mut world, BOB, redraw(2, 2));
    assert_eq!(world.end_reason(BOB), Some(EndReason::Protocol));
    // The same round with another commitment.
    let mut world = talking(8, false);
    give(&mut world, BOB, redraw(1, 1));
    give(&mut world, BOB, redraw(1, 2));
    assert_eq!(world.end_reason(BOB), Some(EndReason::Protocol));
    // Rounds left out, a callee that asks, a reveal without a round.
    for (to, body) in [
        (BOB, redraw(2, 1)),
        (BOB, redraw(5_000, 1)),
        (ALICE, redraw(1, 1)),
        (BOB, Body::RedrawReveal(RedrawReveal { round: 1, nonce: vec![1; 32], relays: Vec::new() })),
        (ALICE, Body::RedrawAnswer(RedrawAnswer { round: 1, nonce: vec![1; 32], relays: Vec::new() })),
    ] {
        let mut world = talking(8, false);
        give(&mut world, to, body);
        assert_eq!(world.end_reason(to), Some(EndReason::Protocol));
    }
}

#[test]
fn redraws_that_come_too_often_are_passed_over() {
    let mut world = talking_apart();
    let commit = |nonce: u8| tandem_proto::draw::commit(&[nonce; 32], &[]).to_vec();
    let mut round = 1;
    for step in 0..100u64 {
        give(&mut world, BOB, Body::Redraw(Redraw { round, commit: commit(7) }));
        world.run(1_100);
        let reveal = RedrawReveal { round, nonce: vec![7; 32], relays: Vec::new() };
        let answered =
            world.count_sent(BOB, |body| matches!(body, Body::RedrawAnswer(a) if a.round == round));
        if answered > 0 {
            give(&mut world, BOB, Body::RedrawReveal(reveal));
            round += 1;
        }
        assert_eq!(world.end_reason(BOB), None, "{step}");
    }
    assert!((15..=25).contains(&round), "{round} rounds in 110 s");
    assert!(world.talks(ALICE) && world.talks(BOB));
}
