//! What a session promises when paths fail, counted under forced time.

use std::time::Duration;

use tandem_media::session::{Event, PathState, Redundancy, Route};

use crate::session_world::{A, B, World, ms};

fn lost(world: &World) -> [u64; 2] {
    [world.stats(A).packets_lost, world.stats(B).packets_lost]
}

#[test]
fn a_call_connects_over_relays_and_sound_flows_both_ways() {
    let world = World::call(2, Redundancy::Auto, false);
    for side in [A, B] {
        let stats = world.stats(side);
        assert_eq!(stats.packets_lost, 0);
        assert!(stats.packets_received > 70, "{stats:?}");
        assert_eq!(stats.paths.len(), 2, "one path a shared relay, none across two");
        assert!(stats.paths.iter().all(|path| path.state == PathState::Good));
        assert!(stats.mirroring, "the first 10 s are mirrored");
        assert_eq!(world.count(side, Duration::ZERO, |event| *event == Event::FirstMedia), 1);
    }
    assert_eq!(world.primary(A), world.primary(B), "the controlled end follows");
    println!("connected after {:?} ms", world.stats(A).connected_ms);
}

#[test]
fn auto_stops_mirroring_and_keeps_the_second_path_warm() {
    let world = World::call(2, Redundancy::Auto, true);
    for side in [A, B] {
        let stats = world.stats(side);
        assert!(!stats.mirroring);
        assert!(stats.paths.iter().all(|path| path.state == PathState::Good));
    }
}

#[test]
fn always_loses_nothing_when_the_relay_in_use_dies() {
    let mut world = World::call(2, Redundancy::Always, true);
    let at = world.elapsed();
    let primary = world.primary(A);
    world.relays[primary].dead = true;
    world.run(ms(5_000));
    assert_eq!(lost(&world), [0, 0]);
    for side in [A, B] {
        println!("always: gap {:?}", world.gap_since(side, at));
        assert!(world.gap_since(side, at) <= ms(41), "{:?}", world.gap_since(side, at));
        assert_ne!(world.primary(side), primary);
    }
}

#[test]
fn auto_without_mirroring_is_back_within_100_ms_and_the_new_paths_delay() {
    for delay in [2, 20, 100] {
        let mut world = World::call(2, Redundancy::Auto, true);
        let primary = world.primary(A);
        world.relays[1 - primary].delay = ms(delay);
        world.run(ms(2_000));
        assert!(!world.stats(A).mirroring && !world.stats(B).mirroring);
        assert_eq!(world.primary(A), primary);
        let at = world.elapsed();
        world.relays[primary].dead = true;
        world.run(ms(5_000));
        for side in [A, B] {
            let gap = world.gap_since(side, at);
            println!("auto, not mirroring: gap {gap:?} with a delay of {delay} ms");
            assert!(gap <= ms(100 + delay), "gap {gap:?} with a delay of {delay} ms");
            assert_eq!(lost(&world), [0, 0], "what was lost is sent again");
            assert_ne!(world.primary(side), primary);
        }
    }
}

#[test]
fn death_in_one_direction_is_told_on_the_other_path() {
    for deaf in [A, B] {
        let mut world = World::call(2, Redundancy::Auto, true);
        world.signalling = false;
        let primary = world.primary(A);
        let at = world.elapsed();
        world.relays[primary].deaf[deaf] = true;
        world.run(ms(5_000));
        let gap = world.gap_since(deaf, at);
        println!("one-way death: gap {gap:?}");
        // The word takes the new path one way, the sound the other way.
        assert!(gap <= ms(100 + 2 * 20), "{gap:?}");
        assert!(world.gap_since(1 - deaf, at) <= ms(45), "the other direction does not notice");
        assert_eq!(lost(&world), [0, 0]);
        assert_ne!(world.primary(1 - deaf), primary, "the speaker leaves the path that is not heard");
        assert_ne!(world.primary(deaf), primary, "and both ends use the same one again");
    }
}

#[test]
fn a_muted_speakers_path_death_is_noticed_within_500_ms() {
    let mut world = World::call(2, Redundancy::Auto, true);
    world.sides[A].muted = true;
    world.sides[B].muted = true;
    world.run(ms(3_000));
    let primary = world.primary(A);
    world.relays[primary].dead = true;
    world.run(ms(500));
    for side in [A, B] {
        assert_ne!(world.primary(side), primary);
        world.sides[side].muted = false;
    }
    let sent_before = [world.stats(A).packets_sent, world.stats(B).packets_sent];
    let at = world.elapsed();
    world.run(ms(1_000));
    for side in [A, B] {
        let heard = world.sides[side].heard.iter().filter(|(when, _)| *when >= at).count() as u64;
        let sent = world.stats(1 - side).packets_sent - sent_before[1 - side];
        assert!(sent - heard <= 2, "only what is on its way is missing: {heard} of {sent}");
    }
    assert_eq!(lost(&world), [0, 0]);
}

#[test]
fn one_side_muted_and_the_relay_dies() {
    let mut world = World::call(2, Redundancy::Auto, true);
    world.sides[B].muted = true;
    world.run(ms(3_000));
    let primary = world.primary(A);
    let at = world.elapsed();
    world.relays[primary].dead = true;
    world.run(ms(3_000));
    let gap = world.gap_since(B, at);
    assert!(gap <= ms(100 + 2 * 20), "the listener tells, the speaker mirrors: {gap:?}");
    assert_eq!(lost(&world), [0, 0]);
}

#[test]
fn off_recovers_too_only_later() {
    let mut world = World::call(2, Redundancy::Off, true);
    let primary = world.primary(A);
    let at = world.elapsed();
    assert_eq!(world.stats(A).duplicates + world.stats(B).duplicates, 0);
    world.relays[primary].dead = true;
    world.run(ms(3_000));
    for side in [A, B] {
        assert!(world.gap_since(side, at) <= ms(600), "{:?}", world.gap_since(side, at));
        assert!((1..=30).contains(&world.stats(side).packets_lost), "{}", world.stats(side).packets_lost);
    }
    assert_eq!(world.stats(A).duplicates + world.stats(B).duplicates, 0, "nothing was sent twice");
}

#[test]
fn a_relay_that_replays_is_not_credited() {
    let mut world = World::call(2, Redundancy::Auto, true);
    let primary = world.primary(A);
    let service = world.relays[primary].service;
    let path = |world: &World, side: usize| {
        let stats = world.stats(side);
        let is_it = |route: Route| matches!(route, Route::Relay { service: key, .. } if key == service);
        stats.paths.into_iter().find(|path| is_it(path.route)).unwrap()
    };
    let before = path(&world, B);
    let at = world.elapsed();
    world.relays[primary].replays = true;
    world.run(ms(3_000));
    let after = path(&world, B);
    assert!(after.received > before.received + 50, "the relay did replay");
    assert!(after.credited - before.credited <= 3, "only what was on its way counts");
    assert_eq!(after.state, PathState::Silent);
    assert_ne!(world.primary(A), primary);
    assert_eq!(lost(&world), [0, 0]);
    assert!(world.gap_since(B, at) <= ms(140), "{:?}", world.gap_since(B, at));
}

#[test]
fn a_lossy_path_is_mirrored() {
    let mut world = World::call(2, Redundancy::Auto, true);
    let primary = world.primary(A);
    world.relays[primary].loss_permille = [150, 150];
    world.run(ms(3_000));
    assert!(world.stats(A).mirroring && world.stats(B).mirroring);
    let before = lost(&world);
    world.run(ms(20_000));
    let after = lost(&world);
    for side in [A, B] {
        assert!(after[side] - before[side] <= 5, "{} lost of 1000", after[side] - before[side]);
    }
}

#[test]
fn all_relays_die_and_others_take_over() {
    let mut world = World::call(2, Redundancy::Auto, true);
    world.signalling = false;
    let at = world.elapsed();
    for relay in &mut world.relays {
        relay.dead = true;
    }
    world.run(ms(700));
    for side in [A, B] {
        assert_eq!(world.count(side, at, |event| *event == Event::AllPathsSilent), 1);
    }
    world.run(ms(300)); // the call machine fetches grants
    let fresh = world.new_relay();
    world.use_relay(fresh);
    world.run(ms(3_000));
    for side in [A, B] {
        let gap = world.gap_since(side, at);
        println!("all relays dead, grants after 1 s: gap {gap:?}");
        assert!(gap <= ms(2_000), "{gap:?}");
        assert_eq!(world.count(side, at, |event| *event == Event::PathsRecovered), 1);
        assert_eq!(world.primary(side), fresh);
    }
}

#[test]
fn the_engine_outlives_minutes_of_silence() {
    let mut world = World::call(2, Redundancy::Auto, true);
    let primary = world.primary(A);
    world.relays[primary].dead = true;
    world.run(ms(180_000));
    assert_eq!(lost(&world), [0, 0]);
    world.relays[1 - primary].dead = true;
    world.run(ms(60_000));
    world.relays[1 - primary].dead = false;
    let at = world.elapsed();
    world.run(ms(5_000));
    for side in [A, B] {
        assert!(world.sides[side].session.is_connected());
        assert!(world.sides[side].heard.iter().any(|(when, _)| *when > at), "sound is back");
        assert_eq!(world.count(side, Duration::ZERO, |event| matches!(event, Event::Closed { .. })), 0);
    }
}

#[test]
fn allocations_and_channels_are_refreshed_for_half_an_hour() {
    let mut world = World::call(2, Redundancy::Auto, true);
    for _ in 0..3 {
        for side in [A, B] {
            world.sides[side].muted = true;
        }
        world.run(ms(600_000));
        for side in [A, B] {
            world.sides[side].muted = false;
            assert!(world.stats(side).paths.iter().all(|path| path.state == PathState::Good));
            let bad = |event: &Event| matches!(event, Event::RelayFailed { .. } | Event::AllPathsSilent);
            assert_eq!(world.count(side, Duration::ZERO, bad), 0);
        }
        world.run(ms(1_000));
    }
    assert_eq!(lost(&world), [0, 0]);
}

#[test]
fn half_an_hour_of_sound_crosses_the_sequence_numbers_rollover() {
    let mut world = World::call(2, Redundancy::Always, false);
    world.run(ms(1_800_000));
    for side in [A, B] {
        let stats = world.stats(side);
        assert!(stats.packets_received > 90_000);
        assert_eq!((stats.packets_lost, stats.rejected), (0, 0));
        assert!(stats.paths.iter().all(|path| path.credited > 89_900), "copies are credited after it too");
    }
}

#[test]
fn the_moment_of_death_does_not_matter() {
    for phase in [1, 4, 7, 10, 13, 16, 19] {
        let mut world = World::call(2, Redundancy::Auto, true);
        world.run(ms(phase));
        let (primary, at) = (world.primary(A), world.elapsed());
        world.relays[primary].dead = true;
        world.run(ms(3_000));
        for side in [A, B] {
            assert!(world.gap_since(side, at) <= ms(120), "{:?}", world.gap_since(side, at));
        }
        assert_eq!(lost(&world), [0, 0]);
    }
}

#[test]
fn a_description_may_come_after_the_candidates() {
    let mut world = World::new(2, Redundancy::Auto);
    world.use_relay(0);
    world.use_relay(1);
    world.run(ms(1_000));
    world.describe();
    let at = world.elapsed();
    world.run(ms(1_000));
    for side in [A, B] {
        let connected = world.stats(side).connected_ms.expect("connected");
        println!("connected {} ms after the description", u128::from(connected) - at.as_millis());
        assert_eq!(world.count(side, Duration::ZERO, |event| *event == Event::AllPathsSilent), 0);
    }
}

#[test]
fn after_ringing_sound_takes_one_way_and_a_frame() {
    for delay in [2, 40, 100] {
        let mut world = World::new(2, Redundancy::Auto);
        for relay in 0..2 {
            world.relays[relay].delay = ms(delay);
            world.use_relay(relay);
        }
        world.describe();
        world.sides.iter_mut().for_each(|side| side.muted = true);
        world.run(ms(15_000));
        for side in [A, B] {
            let stats = world.stats(side);
            assert_eq!((stats.packets_sent, stats.packets_received), (0, 0), "it only rings");
            assert!(world.sides[side].session.is_connected() && stats.mirroring);
            assert_eq!(world.count(side, Duration::ZERO, |event| *event == Event::AllPathsSilent), 0);
            let connected = stats.connected_ms.expect("connected");
            println!("one way {delay} ms: connected {connected} ms after the grants");
            // Sockets 1 ms, signalling 15 ms. Two round trips to the relay to allocate and one to join, together three
            // ways from end to end; two to check the path, six of ICE and DTLS. Nothing waits beside that.
            assert!(connected <= 1 + 15 + 12 * delay, "{connected}");
        }
        let answer = world.elapsed();
        world.sides.iter_mut().for_each(|side| side.muted = false);
        world.run(ms(9_000));
        for side in [A, B] {
            let first = world.sides[side].heard[0].0 - answer;
            println!("one way {delay} ms: first sound {first:?} after the microphone");
            assert!(first <= ms(delay + 20), "{first:?}");
            assert!(world.stats(side).mirroring, "ten seconds count from the first sound");
            assert_eq!(world.stats(side).packets_lost, 0);
        }
        world.run(ms(3_000));
        assert!(!world.stats(A).mirroring && !world.stats(B).mirroring);
    }
}

#[test]
fn a_relay_that_holds_packets_back_is_left() {
    let mut world = World::call(2, Redundancy::Auto, true);
    let primary = world.primary(A);
    world.relays[primary].delay = ms(400);
    world.run(ms(5_000));
    for side in [A, B] {
        assert_ne!(world.primary(side), primary);
    }
    assert_eq!(lost(&world), [0, 0]);
}

#[test]
fn relays_are_taken_again_and_again() {
    let mut world = World::call(2, Redundancy::Auto, false);
    for _ in 0..15 {
        for relay in &mut world.relays {
            relay.dead = true;
        }
        world.run(ms(25_000));
        let fresh = world.new_relay();
        world.use_relay(fresh);
        world.run(ms(2_000));
        for side in [A, B] {
            assert_eq!(world.primary(side), fresh);
        }
    }
}

#[test]
fn tcp_is_used_where_udp_does_not_pass() {
    let mut world = World::new(2, Redundancy::Always);
    world.describe();
    world.relays[0].udp_blocked = true;
    world.use_relay(0);
    world.use_relay(1);
    world.run(ms(3_000));
    let stats = world.stats(A);
    let over_tcp = stats.paths.iter().filter(|path| matches!(path.route, Route::Relay { tcp: true, .. }));
    assert_eq!(over_tcp.filter(|path| path.state == PathState::Good && path.credited > 50).count(), 1);
    assert_eq!(lost(&world), [0, 0]);
    world.reset(0);
    world.run(ms(1_000));
    assert_eq!(lost(&world), [0, 0]);
    for side in [A, B] {
        assert_eq!(world.count(side, Duration::ZERO, |event| matches!(event, Event::RelaySilent { .. })), 1);
    }
}

#[test]
fn a_direct_path_is_preferred_and_a_relay_stays_behind_it() {
    let mut world = World::call(1, Redundancy::Auto, false);
    for side in [A, B] {
        world.add_host(side);
    }
    world.run(ms(12_000));
    for side in [A, B] {
        let stats = world.stats(side);
        let primary = stats.paths.iter().find(|path| path.primary).unwrap();
        assert_eq!(primary.route, Route::Direct);
    }
    let at = world.elapsed();
    world.direct_dead = true;
    world.run(ms(3_000));
    for side in [A, B] {
        assert!(world.gap_since(side, at) <= ms(120), "{:?}", world.gap_since(side, at));
        assert_eq!(world.primary(side), 0);
    }
    assert_eq!(lost(&world), [0, 0]);
}

#[test]
fn garbage_on_every_socket_changes_nothing() {
    let mut world = World::call(2, Redundancy::Auto, true);
    world.spray_garbage(5_000);
    world.run(ms(2_000));
    assert_eq!(lost(&world), [0, 0]);
    assert!(world.sides.iter().all(|side| side.session.is_connected()));
}

#[test]
fn closing_gives_allocations_back() {
    let mut world = World::call(2, Redundancy::Auto, false);
    for side in [A, B] {
        world.close(side);
    }
    world.run(ms(200));
    assert_eq!(world.allocations(), 0);
    for side in [A, B] {
        assert_eq!(world.count(side, Duration::ZERO, |event| matches!(event, Event::Closed { .. })), 1);
        let relays = world.stats(side).relays;
        assert!(relays.len() == 2 && relays.iter().all(|relay| relay.failed.is_none()), "{relays:?}");
    }
}
