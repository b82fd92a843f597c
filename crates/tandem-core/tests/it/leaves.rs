//! Leaves and supernodes together: safety first (networks, budgets, manners), then that all get their homes back.

use tandem_core::homes::{Command, Distrust, HOMES, Homes};
use tandem_core::peer::KnownPeer;
use tandem_core::time::Now;

use crate::world::{World, peer};

#[test]
fn a_leaf_that_knows_two_supernodes_has_three_homes_within_a_second() {
    let mut world = World::new(1, 1, 10, 10);
    let took_ms = world.run_until(5_000, |world| world.all_have(HOMES)).expect("three homes");
    println!("three homes after {took_ms} ms, from two known supernodes");
    assert!(took_ms <= 1_000, "it took {took_ms} ms");
    world.run_for(1_000);
    assert!(world.leaves[0].homes.is_reachable());
    world.assert_networks_differ();
    world.assert_manners();
    // The first home at once, then all three together.
    assert!((2..=3).contains(&world.leaves[0].publications), "{} publications", world.leaves[0].publications);
}

#[test]
fn many_leaves_spread_and_stay() {
    let mut world = World::new(2, 60, 12, 6);
    world.run_until(30_000, |world| world.all_have(HOMES)).expect("three homes each");
    let before: Vec<_> = (0..60).map(|leaf| world.homes(leaf)).collect();
    world.run_for(300_000);
    assert!(world.all_have(HOMES));
    assert_eq!(
        before,
        (0..60).map(|leaf| world.homes(leaf)).collect::<Vec<_>>(),
        "homes moved without a reason"
    );
    world.assert_networks_differ();
    world.assert_manners();
}

#[test]
fn a_killed_home_is_replaced_within_five_seconds() {
    for seed in 0..10 {
        let mut world = World::new(seed, 1, 5, 5);
        world.run_until(10_000, |world| world.all_have(HOMES)).expect("three homes");
        world.run_for(20_000);
        let victim = world.homes(0)[0];
        world.kill(victim.0 as usize);
        let took_ms = world.run_until(60_000, |world| world.all_have(HOMES)).expect("a replacement");
        println!("seed {seed}: killed home replaced after {took_ms} ms");
        assert!(took_ms <= 5_000, "seed {seed}: it took {took_ms} ms");
        assert!(!world.homes(0).contains(&victim));
        world.assert_networks_differ();
    }
}

#[test]
fn a_hung_home_is_replaced_within_forty_seconds_or_eight_in_a_call() {
    for (in_call, most_ms) in [(false, 40_000), (true, 8_000)] {
        for seed in 0..10 {
            let mut world = World::new(seed, 1, 5, 5);
            world.run_until(10_000, |world| world.all_have(HOMES)).expect("three homes");
            world.run_for(17_000 + seed * 1_300);
            let now = world.now;
            world.leaves[0].homes.set_in_call(in_call, now);
            world.run_for(1_000);
            let victim = world.homes(0)[1];
            world.hang(victim.0 as usize);
            let took_ms = world.run_until(60_000, |world| world.all_have(HOMES)).expect("a replacement");
            println!("in call {in_call}, seed {seed}: hung home replaced after {took_ms} ms");
            assert!(took_ms <= most_ms, "in call {in_call}, seed {seed}: it took {took_ms} ms");
        }
    }
}

/// Each beginning and end of a call asks the homes anew; that must not put off what was asked before.
#[test]
fn a_hung_home_is_replaced_while_one_short_call_follows_the_other() {
    for seed in 0..10 {
        let mut world = World::new(seed, 1, 5, 5);
        world.run_until(10_000, |world| world.all_have(HOMES)).expect("three homes");
        let victim = world.homes(0)[1];
        world.hang(victim.0 as usize);
        let begun_ms = world.now.mono_ms;
        while world.homes(0).contains(&victim) || !world.all_have(HOMES) {
            assert!(world.now.mono_ms < begun_ms + 40_000, "seed {seed}: it is still a home");
            for in_call in [true, false] {
                world.run_for(2_000);
                let now = world.now;
                world.leaves[0].homes.set_in_call(in_call, now);
            }
        }
    }
}

#[test]
fn homes_survive_the_beginning_and_the_end_of_calls() {
    for seed in 0..20 {
        let mut world = World::new(seed, 1, 5, 5);
        world.run_until(10_000, |world| world.all_have(HOMES)).expect("three homes");
        let before = world.homes(0);
        for in_call in [true, false, true, false] {
            world.run_for(13_900 + seed * 17);
            let now = world.now;
            world.leaves[0].homes.set_in_call(in_call, now);
        }
        world.run_for(60_000);
        assert_eq!(world.homes(0), before, "seed {seed}");
        assert!(world.all_have(HOMES));
    }
}

#[test]
fn a_third_of_the_supernodes_dies_and_nobody_storms() {
    for seed in 0..3 {
        let mut world = World::new(seed, 150, 20, 10);
        world.run_until(60_000, |world| world.all_have(HOMES)).expect("three homes each");
        world.run_for(60_000);
        let contacts = |world: &World| world.leaves.iter().map(|leaf| leaf.contacts.len()).sum::<usize>();
        let (start_ms, before) = (world.now.mono_ms, contacts(&world));
        let lost: usize =
            (0..150).map(|leaf| world.homes(leaf).iter().filter(|home| home.0 % 3 == 0).count()).sum();
        for index in (0..20).step_by(3) {
            world.kill(index);
        }
        let took_ms =
            world.run_until(60_000, |world| world.all_have(HOMES)).expect("three homes within a minute");
        world.run_for(60_000);
        let attempts = contacts(&world) - before;
        println!("seed {seed}: {attempts} attempts for {lost} lost homes, all replaced after {took_ms} ms");
        assert!(attempts <= lost * 3, "{attempts} attempts for {lost} lost homes");
        for leaf in &world.leaves {
            let own = leaf.contacts.iter().filter(|(at_ms, _)| *at_ms >= start_ms).count();
            assert!(own <= 20, "one leaf made {own} attempts");
        }
        world.assert_networks_differ();
        world.assert_manners();
    }
}

#[test]
fn all_restart_at_once_into_supernodes_that_are_nearly_full() {
    let mut world = World::with_config(4, 60, 12, 6, |config| {
        config.reservations_max = 18;
        config.requests_per_second = 10;
    });
    world.run_until(240_000, |world| world.all_have(HOMES)).expect("three homes each");
    for leaf in 0..60 {
        world.restart_leaf(leaf);
    }
    world.run_until(240_000, |world| world.all_have(HOMES)).expect("three homes each again");
    assert!(
        world.leaves.iter().any(|leaf| !leaf.busy.is_empty()),
        "nobody was refused: the test shows nothing"
    );
    world.assert_manners();
}

#[test]
fn homes_share_a_network_only_where_there_are_too_few() {
    let mut world = World::new(5, 4, 6, 2);
    world.run_until(30_000, |world| world.all_have(HOMES)).expect("three homes in two networks");
    for leaf in 0..4 {
        let homes = world.homes(leaf);
        assert!(homes.iter().any(|home| world.network(*home) != world.network(homes[0])));
    }
}

#[test]
fn a_home_that_drains_is_replaced_before_it_leaves() {
    let mut world = World::new(6, 8, 8, 8);
    world.run_until(30_000, |world| world.all_have(HOMES)).expect("three homes each");
    world.run_for(5_000);
    let leaving = world.homes(0)[0];
    let now = world.now;
    world.services[leaving.0 as usize].service.drain(10_000, now);
    let all_moved = |world: &World| {
        world.all_have(HOMES)
            && (0..8).all(|leaf| !world.leaves[leaf].homes.links().any(|link| link.peer == leaving))
    };
    let poor = |world: &World| (0..8).any(|leaf| world.live_homes(leaf) < HOMES);
    let mut took_ms = 0;
    while !all_moved(&world) {
        assert!(took_ms < 12_000, "not moved in time");
        assert!(!poor(&world), "after {took_ms} ms somebody has fewer than three homes");
        world.run_for(50);
        took_ms += 50;
    }
}

#[test]
fn a_liar_is_replaced_and_never_chosen_again() {
    let mut world = World::new(7, 1, 6, 6);
    world.run_until(30_000, |world| world.all_have(HOMES)).expect("three homes");
    let liar = world.homes(0)[0];
    let now = world.now;
    world.leaves[0].homes.handle_distrust(liar, Distrust::Lied, now);
    world.run_for(3_000);
    assert!(!world.homes(0).contains(&liar));
    assert_eq!(world.live_homes(0), HOMES);
    for victim in world.homes(0) {
        world.kill(victim.0 as usize);
    }
    world.run_for(600_000);
    assert!(!world.homes(0).contains(&liar));
}

#[test]
fn a_changed_network_is_answered_at_once() {
    let mut world = World::new(8, 1, 8, 8);
    world.run_until(30_000, |world| world.all_have(HOMES)).expect("three homes");
    world.run_for(60_000);
    let now = world.now;
    world.leaves[0].homes.handle_network_changed(now);
    let took_ms = world.run_until(5_000, |world| world.all_have(HOMES)).expect("three homes again");
    assert!(took_ms <= 1_500, "it took {took_ms} ms");
}

#[test]
fn the_record_is_published_again_before_it_grows_old() {
    let mut world = World::new(9, 1, 4, 4);
    world.run_until(30_000, |world| world.all_have(HOMES)).expect("three homes");
    world.run_for(5_000);
    let before = world.leaves[0].publications;
    world.run_for(3 * 3_600_000);
    let again = world.leaves[0].publications - before;
    assert!((3..=4).contains(&again), "{again} times in three hours");
}

#[test]
fn a_suspended_machine_asks_before_it_gives_its_homes_up() {
    let mut homes = Homes::new(1, Now { mono_ms: 0, unix_ms: 0 });
    let known = |index: usize| KnownPeer {
        peer: peer(index),
        network: peer(index).0,
        referrer: None,
        port_443: false,
        release: 0,
    };
    let start = Now { mono_ms: 0, unix_ms: 0 };
    homes.handle_known(&[known(0), known(1), known(2)], start);
    for index in 0..3 {
        homes.handle_opened(peer(index), None, start);
        homes.handle_reserved(peer(index), 14_000, start);
    }
    while homes.poll_command().is_some() {}
    let woken = start.plus_ms(3_600_000);
    homes.handle_timeout(woken);
    let asked: Vec<Command> = std::iter::from_fn(|| homes.poll_command()).collect();
    assert_eq!(asked.iter().filter(|command| matches!(command, Command::Heartbeat { .. })).count(), HOMES);
    assert_eq!(homes.reserved().count(), HOMES);
}
