//! What jitter and losses must not change about how much sound is sent, and the losses themselves.

use std::time::Duration;

use tandem_media::session::{Event, Redundancy};

use crate::session_line::{Line, LineKind, Loss, Trace};
use crate::session_world::{A, B, World, ms};

/// A call whose controlled end sits behind such a line from the first packet on.
fn call_over(kind: LineKind, redundancy: Redundancy) -> World {
    let mut world = World::new(2, redundancy);
    let now = world.now();
    world.sides[B].line = Some(Line::new(kind, 3, now));
    world.describe();
    for (relay, side) in [(0, A), (0, B), (1, A), (1, B)] {
        world.grant_with(relay, side, |access| access.tcp.clear());
    }
    world.run(ms(3_000));
    assert!(world.sides.iter().all(|side| side.session.is_connected()), "not connected");
    world
}

fn rates(world: &World, since: Duration) -> usize {
    [A, B].map(|side| world.count(side, since, |event| matches!(event, Event::Rate { .. }))).iter().sum()
}

#[test]
fn jitter_and_losses_change_nothing_about_how_much_is_sent() {
    let kind = LineKind { jitter: ms(100), ..LineKind::default() };
    let mut world = call_over(kind, Redundancy::Always);
    world.run(ms(60_000));
    assert!(world.stats(A).mirroring && world.stats(B).mirroring);
    assert_eq!(rates(&world, Duration::ZERO), 0);
    let lossy = LineKind { loss: Loss::Random(50), ..LineKind::default() };
    let mut world = call_over(lossy, Redundancy::Always);
    world.run(ms(60_000));
    assert!(world.stats(A).mirroring && world.stats(B).mirroring);
    assert_eq!(rates(&world, Duration::ZERO), 0);
}

#[test]
fn bursts_have_the_share_and_the_length_they_should() {
    let world = World::new(1, Redundancy::Off);
    let start = world.now();
    let mut trace = Trace::new(Loss::Bursts(100), 5, start);
    let lost: Vec<bool> = (0..100_000_u32).map(|n| trace.loses(start + ms(20) * n, false)).collect();
    let share = lost.iter().filter(|lost| **lost).count();
    let bursts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
    assert!((8_500..11_500).contains(&share), "{share}");
    assert!((35..45).contains(&(share * 10 / bursts)), "{share} in {bursts} bursts");
}
