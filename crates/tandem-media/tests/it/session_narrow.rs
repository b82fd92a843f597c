//! Lines too narrow for the sound, and lines that are not although packets are late or lost.

use std::time::Duration;

use tandem_media::session::{Event, Redundancy};

use crate::session_line::{Line, LineKind, Loss, Trace};
use crate::session_world::{A, B, World, ms};

/// Two ends over two relays, the controlled one behind such a line. It has rung; no sound has been sent.
fn rung_over(kind: LineKind, redundancy: Redundancy) -> World {
    let mut world = World::new(2, redundancy);
    let now = world.now();
    world.sides[B].line = Some(Line::new(kind, 3, now));
    world.sides.iter_mut().for_each(|side| side.muted = true);
    world.describe();
    for (relay, side) in [(0, A), (0, B), (1, A), (1, B)] {
        world.grant_with(relay, side, |access| access.tcp.clear());
    }
    world.run(ms(3_000));
    assert!(world.sides.iter().all(|side| side.session.is_connected()), "not connected");
    world.sides.iter_mut().for_each(|side| side.muted = false);
    world
}

fn narrow(bits_per_second: u32) -> LineKind {
    LineKind { bits_per_second: Some(bits_per_second), jitter: ms(3), ..LineKind::default() }
}

fn rates(world: &World, since: Duration) -> usize {
    [A, B].map(|side| world.count(side, since, |event| matches!(event, Event::Rate { .. }))).iter().sum()
}

/// What a line that is not full may hold a packet up.
const GAP_MAX: Duration = Duration::from_millis(180);

/// The sound goes both ways through the line without loss, in packets that follow each other in time.
fn assert_fits(world: &mut World, of: &str) {
    let since = world.elapsed();
    let lost = [A, B].map(|side| world.stats(side).packets_lost);
    world.run(ms(8_000));
    for side in [A, B] {
        assert_eq!(world.stats(side).packets_lost, lost[side], "{of}: lost at {side}");
        let gap = world.gap_since(side, since);
        println!("{of}: {gap:?} at {side}");
        // Packets are 40 ms, and two probes before one take as long. Up to 142 ms were seen in 150 runs; what else comes
        // on top has not been traced.
        assert!(gap < GAP_MAX, "{of}: {gap:?} at {side}");
    }
}

#[test]
fn a_line_that_is_narrow_from_the_first_packet_on_soon_has_one_copy() {
    for redundancy in [Redundancy::Always, Redundancy::Auto, Redundancy::Off] {
        // The narrower the line, the fewer words come through a full one.
        for (bits_per_second, found_within) in [(64_000, ms(2_500)), (48_000, ms(4_500))] {
            let of = format!("{redundancy:?} on {bits_per_second}");
            let mut world = rung_over(narrow(bits_per_second), redundancy);
            let since = world.elapsed();
            while world.stats(A).mirroring || world.stats(B).mirroring {
                assert!(world.elapsed() - since < found_within, "{of}: still two copies");
                world.run(ms(100));
            }
            println!("{of}: found after {:?}", world.elapsed() - since);
            // Without a second copy to give up, it is bits from the first; and the queue drains.
            world.run(ms(8_000));
            assert_fits(&mut world, &of);
            assert!(!world.stats(A).mirroring && !world.stats(B).mirroring, "{of}: two copies again");
        }
    }
}

#[test]
fn so_has_a_line_that_becomes_narrow_in_the_middle_of_a_call() {
    let mut world = rung_over(LineKind::default(), Redundancy::Always);
    world.run(ms(20_000));
    assert!(world.stats(A).mirroring && world.stats(B).mirroring);
    assert_eq!(rates(&world, Duration::ZERO), 0);
    world.sides[B].line = Some(Line::new(narrow(64_000), 4, world.now()));
    world.run(ms(2_500));
    assert!(!world.stats(A).mirroring && !world.stats(B).mirroring, "still two copies");
    world.run(ms(4_000));
    assert_fits(&mut world, "narrow later");
}

#[test]
fn a_second_copy_that_fits_is_kept() {
    let mut world = rung_over(narrow(160_000), Redundancy::Always);
    world.run(ms(20_000));
    assert!(world.stats(A).mirroring && world.stats(B).mirroring);
    assert_eq!(rates(&world, Duration::ZERO), 0);
}

#[test]
fn a_path_that_dies_behind_a_narrow_line_is_left() {
    let mut world = rung_over(narrow(64_000), Redundancy::Always);
    world.run(ms(8_000));
    let since = world.elapsed();
    let relay = world.primary(A);
    world.relays[relay].dead = true;
    world.run(ms(3_000));
    let gap = world.gap_since(B, since);
    assert!(gap < ms(900), "{gap:?}");
    world.run(ms(3_000));
    assert_fits(&mut world, "after the change of relay");
}

#[test]
fn jitter_and_losses_change_nothing_about_how_much_is_sent() {
    let jitter = LineKind { jitter: ms(100), ..LineKind::default() };
    let radio = LineKind { loss: Loss::Random(50), jitter: ms(15), ..LineKind::default() };
    let bad_radio = LineKind { loss: Loss::Random(200), jitter: ms(30), ..LineKind::default() };
    for kind in [jitter, radio, bad_radio] {
        let mut world = rung_over(kind, Redundancy::Always);
        world.run(ms(60_000));
        assert!(world.stats(A).mirroring && world.stats(B).mirroring, "{kind:?}");
        let given_up = |event: &Event| matches!(event, Event::Mirroring { on: false, .. });
        let times = [A, B].map(|side| world.count(side, Duration::ZERO, given_up));
        assert_eq!((times, rates(&world, Duration::ZERO)), ([0, 0], 0), "{kind:?}");
    }
}

#[test]
fn losses_on_every_path_are_mirrored_by_auto() {
    let kind = LineKind { loss: Loss::Random(100), jitter: ms(15), ..LineKind::default() };
    let mut world = rung_over(kind, Redundancy::Auto);
    world.run(ms(12_000));
    let mut mirrored = 0;
    for _ in 0..40 {
        world.run(ms(500));
        mirrored += u32::from(world.stats(A).mirroring);
    }
    assert!(mirrored >= 36, "{mirrored} of 40 looks");
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
