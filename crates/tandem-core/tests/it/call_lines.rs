//! Streams with contacts that stay open after a call, and how soon a call rings.

use tandem_core::call::*;

use crate::call_world::{DELAY_MS, World};

const ALICE: usize = 0;
const BOB: usize = 1;

/// Two people who have talked; the call is over.
fn talked(contacts: bool, options: CallOptions) -> World {
    let mut world = World::people(2, 6);
    if contacts {
        world.befriend();
    }
    world.nodes[BOB].auto_answer = true;
    let call = world.place_with(ALICE, BOB, options);
    world.run(2_000);
    assert!(world.talks(ALICE) && world.talks(BOB));
    world.act(ALICE, |calls, now| calls.hang_up(call, now));
    world.run(500);
    assert_eq!(world.end_reason(BOB), Some(EndReason::HungUp));
    world.nodes[BOB].auto_answer = false;
    world
}

/// Milliseconds from the call to its ringing.
fn rings_after(world: &mut World, from: usize, to: usize) -> u64 {
    let (call, began) = (world.place(from, to), world.now.mono_ms);
    for _ in 0..1_000 {
        world.run(5);
        if world.stage(from) == Some(Stage::Ringing) {
            assert_eq!(world.rings(to).last(), Some(&call));
            return world.now.mono_ms - began;
        }
    }
    panic!("it never rang");
}

fn opened(world: &World, node: usize) -> usize {
    world.nodes[node].commands.iter().filter(|c| matches!(c, Command::OpenSignal { .. })).count()
}

#[test]
fn a_cold_call_rings_after_three_round_trips() {
    let mut world = World::people(2, 6);
    // The look-up; the stream; the offer, which leaves with the hello, and Ringing.
    let after = rings_after(&mut world, ALICE, BOB);
    assert!(after <= 3 * 2 * DELAY_MS + 15, "{after} ms");
}

#[test]
fn the_next_call_to_a_contact_rings_after_one_round_trip_either_way() {
    for (from, to) in [(ALICE, BOB), (BOB, ALICE)] {
        let mut world = talked(true, CallOptions::default());
        assert_eq!(world.open_links(), 1);
        let before = opened(&world, from);
        let after = rings_after(&mut world, from, to);
        assert!(after <= 2 * DELAY_MS + 15, "{after} ms");
        world.run(2_000);
        assert_eq!(opened(&world, from), before, "no other stream is opened behind it");
        let call = world.nodes[to].calls.status().unwrap().call;
        world.act(to, |calls, now| calls.answer(call, now)).unwrap();
        world.run(500);
        assert!(world.talks(ALICE) && world.talks(BOB));
    }
}

#[test]
fn no_line_is_kept_with_strangers_nor_by_those_who_want_relays_only() {
    assert_eq!(talked(false, CallOptions::default()).open_links(), 0);
    let relay_only = CallOptions { relay_only: true, ..CallOptions::default() };
    assert_eq!(talked(true, relay_only).open_links(), 0);
}

#[test]
fn a_line_is_closed_after_ten_minutes() {
    let mut world = talked(true, CallOptions::default());
    world.run(590_000);
    assert_eq!(world.open_links(), 1);
    world.run(15_000);
    assert_eq!(world.open_links(), 0);
    assert!(world.nodes.iter().all(|node| node.calls.poll_timeout().is_none()));
}

#[test]
fn a_line_is_closed_when_the_contact_is_none_any_more_or_the_network_changes() {
    let mut world = talked(true, CallOptions::default());
    world.act(BOB, |calls, _| calls.set_contacts(Vec::new()));
    world.run(100);
    assert_eq!(world.open_links(), 0);
    let mut world = talked(true, CallOptions::default());
    world.act(BOB, |calls, now| calls.handle_network_changed(now));
    world.run(100);
    assert_eq!(world.open_links(), 0);
}

#[test]
fn a_line_that_died_unnoticed_costs_little() {
    let mut world = talked(true, CallOptions::default());
    (0..2).for_each(|home| world.kill(home, true));
    world.rehome();
    let after = rings_after(&mut world, ALICE, BOB);
    assert!(after <= 300 + 4 * DELAY_MS + 30, "{after} ms");
}

#[test]
fn eight_lines_are_kept() {
    let mut world = World::people(11, 6);
    world.befriend();
    world.nodes[BOB].auto_answer = true;
    for other in (0..11).filter(|other| *other != BOB) {
        let call = world.place(other, BOB);
        world.run(1_000);
        world.act(other, |calls, now| calls.hang_up(call, now));
        world.run(500);
    }
    assert_eq!(world.open_links(), 8);
}

#[test]
fn late_frames_of_a_call_do_not_disturb_the_next_on_the_same_line() {
    for ms in (0..400).step_by(5) {
        let mut world = talked(true, CallOptions::default());
        world.nodes[BOB].auto_answer = ms % 10 == 0;
        let call = world.place(ALICE, BOB);
        world.run(ms);
        world.act(ALICE, |calls, now| calls.hang_up(call, now));
        world.nodes[BOB].auto_answer = true;
        let wait = [0, 5, 30, 60][ms as usize / 5 % 4];
        world.run(wait);
        world.place(ALICE, BOB);
        world.run(1_500);
        assert!(world.talks(ALICE) && world.talks(BOB), "cancelled after {ms} ms, called {wait} ms later");
    }
}

#[test]
fn a_declined_call_leaves_a_line_too() {
    let mut world = talked(true, CallOptions::default());
    let call = world.place(ALICE, BOB);
    world.run(300);
    world.act(BOB, |calls, now| calls.decline(call, EndReason::Declined, now)).unwrap();
    world.run(300);
    assert_eq!(world.end_reason(ALICE), Some(EndReason::Declined));
    assert_eq!(world.open_links(), 1);
    for (from, to) in [(BOB, ALICE), (ALICE, BOB)] {
        let after = rings_after(&mut world, from, to);
        assert!(after <= 2 * DELAY_MS + 15, "{after} ms");
        let call = world.nodes[from].calls.status().unwrap().call;
        world.act(from, |calls, now| calls.hang_up(call, now));
        world.run(300);
    }
}
