//! How a session that has ended is heard by the other end.

use std::time::Duration;

use tandem_media::session::{Event, Redundancy, SendError};

use crate::session_world::{A, B, World, ms};

fn told(world: &World, side: usize) -> usize {
    world.count(side, Duration::ZERO, |event| *event == Event::PeerEnded)
}

fn is_closed(world: &World, side: usize) -> bool {
    world.sides[side].session.is_closed()
}

#[test]
fn the_other_end_hears_it_on_the_way_of_the_sound() {
    for (ends, hears) in [(A, B), (B, A)] {
        let mut world = World::call(2, Redundancy::Auto, false);
        world.end(ends);
        let heard = world.sides[ends].heard.len();
        let now = world.now();
        assert_eq!(world.sides[ends].session.send_opus(&[0x78; 8], 0, now), Err(SendError::Closed));
        world.run(ms(60));
        assert_eq!((told(&world, hears), told(&world, ends)), (1, 0));
        world.run(ms(1_000));
        assert_eq!(told(&world, hears), 1, "told once");
        assert!(!is_closed(&world, ends), "the other end may not have heard");
        assert_eq!(world.sides[ends].heard.len(), heard, "nothing is heard after one has hung up");
        world.end(hears);
        world.run(ms(300));
        assert!(is_closed(&world, ends) && is_closed(&world, hears));
        assert_eq!(world.allocations(), 0);
    }
}

#[test]
fn it_is_said_until_a_path_works_again() {
    let mut world = World::call(2, Redundancy::Auto, false);
    world.relays.iter_mut().for_each(|relay| relay.deaf[B] = true);
    world.end(A);
    world.run(ms(2_000));
    assert_eq!(told(&world, B), 0);
    world.relays.iter_mut().for_each(|relay| relay.deaf[B] = false);
    world.run(ms(500));
    assert_eq!(told(&world, B), 1);
}

#[test]
fn half_of_the_packets_may_be_lost() {
    let mut world = World::call(2, Redundancy::Auto, false);
    world.relays.iter_mut().for_each(|relay| relay.loss_permille = [500, 500]);
    world.end(A);
    world.run(ms(300));
    assert_eq!(told(&world, B), 1);
}

#[test]
fn it_closes_by_itself_when_nobody_answers() {
    let mut world = World::call(2, Redundancy::Auto, false);
    world.sides[B].offline = true;
    world.end(A);
    world.run(ms(4_900));
    assert!(!is_closed(&world, A));
    world.run(ms(200));
    assert!(is_closed(&world, A));
    assert_eq!(world.allocations(), 2, "only B's are left");
}

#[test]
fn a_session_that_never_had_a_path_closes_at_once() {
    let mut world = World::new(1, Redundancy::Auto);
    world.describe();
    world.end(A);
    assert!(is_closed(&world, A));
}

#[test]
fn a_session_closed_at_once_says_so_too() {
    let mut world = World::call(2, Redundancy::Auto, false);
    world.close(A);
    world.run(ms(100));
    assert_eq!(told(&world, B), 1);
}

#[test]
fn old_packets_end_nothing() {
    let mut world = World::call(2, Redundancy::Auto, false);
    world.relays.iter_mut().for_each(|relay| relay.replays = true);
    world.run(ms(3_000));
    world.spray_garbage(2_000);
    assert_eq!((told(&world, A), told(&world, B)), (0, 0));
    world.relays.iter_mut().for_each(|relay| relay.replays = false);
    world.run(ms(2_000));
    assert!(world.stats(A).packets_received > 0 && !is_closed(&world, A));
}
