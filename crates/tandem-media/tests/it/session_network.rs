//! What a session promises on networks as they are: NATs, changes, silence, and candidates that mean harm.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use tandem_media::session::{
    Candidate, CandidateKind, CandidateOrigin, Event, PathState, Redundancy, Route, SessionStats,
};

use crate::session_nat::Kind;
use crate::session_world::{A, B, World, ms};

const NATS: [Option<Kind>; 5] = [
    None,
    Some(Kind::FullCone),
    Some(Kind::AddressRestricted),
    Some(Kind::PortRestricted),
    Some(Kind::Symmetric),
];

fn primary_route(stats: &SessionStats) -> Route {
    stats.paths.iter().find(|path| path.primary).expect("a primary path").route
}

fn lost(world: &World) -> [u64; 2] {
    [world.stats(A).packets_lost, world.stats(B).packets_lost]
}

/// Two contacts behind such NATs, two relays, in the middle of a call.
fn between(nats: [Option<Kind>; 2], redundancy: Redundancy, time: Duration) -> World {
    let mut world = World::new(2, redundancy);
    for side in [A, B] {
        if let Some(kind) = nats[side] {
            world.set_nat(side, kind);
        }
        world.add_host(side);
    }
    world.describe();
    world.use_relay(0);
    world.use_relay(1);
    world.run(time);
    world
}

/// RFC 4787's words: a hole is punched unless one NAT maps by destination and the other filters by port.
fn theory_allows(one: Option<Kind>, two: Option<Kind>) -> bool {
    let hard = |kind| matches!(kind, Some(Kind::Symmetric | Kind::PortRestricted));
    let symmetric = Some(Kind::Symmetric);
    !((one == symmetric && hard(two)) || (two == symmetric && hard(one)))
}

#[test]
fn direct_wherever_theory_allows() {
    for one in NATS {
        for two in NATS {
            let world = between([one, two], Redundancy::Auto, ms(4_000));
            for side in [A, B] {
                let stats = world.stats(side);
                let direct = primary_route(&stats) == Route::Direct;
                assert_eq!(direct, theory_allows(one, two), "{one:?} x {two:?} {:?}", stats.paths);
                assert_eq!(stats.packets_lost, 0);
                let relayed = stats.paths.iter().filter(|path| path.route != Route::Direct);
                assert_eq!(relayed.filter(|path| path.state == PathState::Good).count(), 2, "stays warm");
            }
            let varies = [one, two].map(|kind| kind == Some(Kind::Symmetric));
            assert_eq!([A, B].map(|side| world.stats(side).mapping_varies), varies.map(Some));
        }
    }
}

#[test]
fn what_never_worked_is_told_and_given_up() {
    let world = between([Some(Kind::Symmetric), Some(Kind::Symmetric)], Redundancy::Auto, ms(15_000));
    for side in [A, B] {
        let stats = world.stats(side);
        let direct: Vec<_> = stats.paths.iter().filter(|path| path.route == Route::Direct).collect();
        assert!(!direct.is_empty());
        for path in direct {
            assert_eq!(path.state, PathState::GaveUp);
            assert!((20..=110).contains(&path.probes_sent), "{path:?}");
            assert_eq!((path.probes_received, path.validated_ms), (0, None));
            assert!(path.gave_up_at_ms.is_some() && path.local.is_some() && path.remote.is_some());
        }
        let kinds: BTreeSet<_> = stats.candidates.iter().map(|known| (known.local, known.kind)).collect();
        for local in [true, false] {
            for kind in [CandidateOrigin::Host, CandidateOrigin::ServerReflexive, CandidateOrigin::Relayed] {
                assert!(kinds.contains(&(local, kind)), "{kinds:?}");
            }
        }
        assert!(stats.relays.iter().all(|relay| relay.udp_answer_ms.is_some() && relay.failed.is_none()));
    }
}

#[test]
fn a_mapped_port_opens_what_a_symmetric_nat_closes() {
    let mut world = between([Some(Kind::PortRestricted), Some(Kind::Symmetric)], Redundancy::Auto, ms(2_000));
    assert_ne!(primary_route(&world.stats(A)), Route::Direct);
    // A's router forwards a port now: another kind of NAT for that socket.
    let local = world.sides[A].events.iter().find_map(|(_, event)| match event {
        Event::HostSocket { local, .. } => Some(*local),
        _ => None,
    });
    world.map_port(A, local.unwrap());
    world.run(ms(4_000));
    for side in [A, B] {
        assert_eq!(primary_route(&world.stats(side)), Route::Direct);
    }
    assert_eq!(lost(&world), [0, 0]);
}

#[test]
fn the_direct_path_dies_and_the_warm_relay_takes_over() {
    for (redundancy, most) in [(Redundancy::Always, 41), (Redundancy::Auto, 120)] {
        let mut world = between([Some(Kind::PortRestricted), Some(Kind::FullCone)], redundancy, ms(15_000));
        assert_eq!(primary_route(&world.stats(A)), Route::Direct);
        let at = world.elapsed();
        world.direct_dead = true;
        world.run(ms(3_000));
        for side in [A, B] {
            let gap = world.gap_since(side, at);
            println!("direct path dies, {redundancy:?}: gap {gap:?}");
            assert!(gap <= ms(most), "{redundancy:?}: {gap:?}");
            assert_ne!(primary_route(&world.stats(side)), Route::Direct);
            let last = world.stats(side).switches.pop().expect("a switch");
            assert_eq!((last.from_route, last.lost_packets), (Some(Route::Direct), 0), "{last:?}");
        }
        assert_eq!(lost(&world), [0, 0]);
    }
}

#[test]
fn a_change_of_network_is_over_within_a_second() {
    for redundancy in [Redundancy::Auto, Redundancy::Always] {
        for nats in [[None, None], [Some(Kind::PortRestricted); 2], [Some(Kind::Symmetric); 2]] {
            let mut world = between(nats, redundancy, ms(15_000));
            // There, and back again.
            for ip in [[127, 210, 0, 1], [127, 200, 0, 1]] {
                let at = world.elapsed();
                world.moves(A, ip.into());
                world.run(ms(8_000));
                for side in [A, B] {
                    let gap = world.gap_since(side, at);
                    println!("change of network, {redundancy:?}, {nats:?}: gap {gap:?}");
                    assert!(gap <= ms(400), "{gap:?}");
                    let direct = primary_route(&world.stats(side)) == Route::Direct;
                    assert_eq!(direct, theory_allows(nats[A], nats[B]), "direct again");
                }
            }
        }
    }
}

#[test]
fn a_new_interface_beside_the_old_one_costs_nothing() {
    let mut world = World::call(2, Redundancy::Auto, true);
    for side in [A, B] {
        let ip = world.sides[side].ip;
        let now = world.now();
        world.sides[side].session.handle_network_changed(&[ip], now);
        world.drain(side);
    }
    let at = world.elapsed();
    world.run(ms(5_000));
    assert_eq!(lost(&world), [0, 0]);
    for side in [A, B] {
        assert!(world.gap_since(side, at) <= ms(41), "{:?}", world.gap_since(side, at));
        let stats = world.stats(side);
        assert!(stats.relays.iter().all(|relay| relay.reallocations == 1), "{:?}", stats.relays);
        assert_eq!(
            world.count(side, at, |event| matches!(event, Event::LocalCandidate(_))),
            0,
            "same address"
        );
    }
    assert_eq!(world.allocations(), 4);
}

#[test]
fn a_nat_that_forgets_costs_less_than_a_second() {
    for delay in [20, 50, 100] {
        for nats in [[Some(Kind::PortRestricted), None], [Some(Kind::Symmetric); 2]] {
            let mut world = between(nats, Redundancy::Auto, ms(15_000));
            for relay in &mut world.relays {
                relay.delay = ms(delay);
            }
            world.run(ms(2_000));
            let at = world.elapsed();
            world.sides[A].nat.as_mut().unwrap().forget();
            world.run(ms(5_000));
            for side in [A, B] {
                let gap = world.gap_since(side, at);
                println!("NAT forgets, one way {delay} ms, {nats:?}: gap {gap:?}");
                assert!(gap <= ms(1_000), "{gap:?}");
                assert_eq!(world.count(side, at, |event| matches!(event, Event::RelayFailed { .. })), 0);
            }
        }
    }
}

#[test]
fn thirty_seconds_without_network_and_sound_is_back() {
    for forgets in [false, true] {
        for nats in [[Some(Kind::PortRestricted), None], [Some(Kind::Symmetric); 2], [None, None]] {
            let mut world = between(nats, Redundancy::Auto, ms(15_000));
            world.sides[A].offline = true;
            world.run(ms(30_000));
            if let Some(nat) = world.sides[A].nat.as_mut().filter(|_| forgets) {
                nat.forget();
            }
            world.sides[A].offline = false;
            let at = world.elapsed();
            world.run(ms(5_000));
            for side in [A, B] {
                let back = world.sides[side].heard.iter().find(|(when, _)| *when > at).expect("sound").0 - at;
                println!("30 s without network, {nats:?}, forgotten {forgets}: back after {back:?}");
                assert!(back <= ms(1_000), "{back:?}");
                let gone = |event: &Event| matches!(event, Event::RelayFailed { .. } | Event::Closed { .. });
                assert_eq!(world.count(side, Duration::ZERO, gone), 0, "nothing is given up");
            }
        }
    }
}

#[test]
fn where_udp_is_blocked_tcp_is_there_within_a_second() {
    let mut world = World::new(2, Redundancy::Auto);
    world.sides[A].udp_blocked = true;
    world.describe();
    world.use_relay(0);
    world.run(ms(1_500));
    for side in [A, B] {
        let connected = world.stats(side).connected_ms.expect("connected");
        println!("UDP blocked: connected after {connected} ms");
        assert!(connected <= 1_000);
    }
    let told = |world: &World| world.count(A, Duration::ZERO, |event| *event == Event::UdpSeemsBlocked);
    assert_eq!(told(&world), 1);
    assert_eq!(world.count(B, Duration::ZERO, |event| *event == Event::UdpSeemsBlocked), 0);
    let at = world.elapsed();
    world.use_relay(1);
    world.run(ms(1_000));
    let stats = world.stats(A);
    let second = &stats.relays[1];
    assert!(
        second.over_tcp && second.allocated_ms.unwrap() - u64::try_from(at.as_millis()).unwrap() < 120,
        "{second:?}"
    );
    assert_eq!((told(&world), stats.packets_lost), (1, 0));
}

#[test]
fn the_second_family_is_tried_when_the_first_is_dumb() {
    let mut world = World::new(1, Redundancy::Auto);
    world.describe();
    for side in [A, B] {
        world.grant_with(0, side, |access| access.udp.insert(0, "[2001:db8::1]:3478".parse().unwrap()));
    }
    world.run(ms(1_000));
    for side in [A, B] {
        let stats = world.stats(side);
        assert!(stats.relays[0].allocated_ms.unwrap() < 120, "{:?}", stats.relays);
        assert!(!stats.relays[0].tcp_tried && stats.connected_ms.is_some());
    }
}

#[test]
fn a_relay_that_started_anew_wants_a_new_grant_and_carries_again() {
    let mut world = World::call(2, Redundancy::Auto, true);
    let primary = world.primary(A);
    let at = world.elapsed();
    world.restart(primary);
    world.run(ms(4_000));
    let service = world.relays[primary].service;
    for side in [A, B] {
        assert!(world.count(side, at, |event| *event == Event::GrantStale { relay: service }) >= 1);
        assert_eq!(world.count(side, at, |event| *event == Event::RelaySilent { relay: service }), 1);
        world.grant(primary, side);
    }
    world.run(ms(6_000));
    for side in [A, B] {
        assert_eq!(world.count(side, at, |event| *event == Event::RelayBack { relay: service }), 1);
        let stats = world.stats(side);
        assert!(stats.paths.iter().all(|path| path.state == PathState::Good), "{:?}", stats.paths);
        assert!(world.gap_since(side, at) <= ms(120));
    }
    assert_eq!(lost(&world), [0, 0]);
}

#[test]
fn a_relay_without_room_is_given_up_at_once_with_what_it_asked_for() {
    for (draining, seconds) in [(false, 60), (true, 600)] {
        let mut world = World::new(2, Redundancy::Auto);
        world.describe();
        if draining {
            world.drains(0);
        } else {
            world.fill(0);
        }
        world.use_relay(0);
        world.use_relay(1);
        let service = world.relays[0].service;
        // Two round trips: the challenge and the refusal.
        world.run(ms(4 * 20 + 10));
        let retry_after = Some(Duration::from_secs(seconds));
        for side in [A, B] {
            let told = |event: &Event| {
                matches!(event, Event::RelayFailed { relay, retry_after: after, .. }
                    if *relay == service && *after == retry_after)
            };
            assert_eq!(world.count(side, Duration::ZERO, told), 1, "draining: {draining}");
        }
        world.run(ms(2_000));
        for side in [A, B] {
            let stats = world.stats(side);
            let full = stats.relays.iter().find(|relay| relay.service == service).expect("still listed");
            assert!(!full.tcp_tried && full.failed.is_some(), "{full:?}");
            assert!(stats.connected_ms.is_some() && stats.packets_received > 0, "the other one carries it");
        }
    }
}

#[test]
fn a_relay_that_forgot_a_call_and_has_no_room_is_not_asked_again_before_its_time() {
    let mut world = World::call(2, Redundancy::Auto, true);
    let primary = world.primary(A);
    // It forgets the call, but not its secret, and is full before the call comes back.
    let secret = world.relays[primary].secret.clone();
    world.restart_with(primary, secret);
    world.fill(primary);
    world.run(ms(4_000));
    let asked = world.refused_by(primary);
    assert!(asked >= 2, "each end has asked once: {asked}");
    world.run(ms(50_000));
    assert_eq!(world.refused_by(primary), asked, "for a minute nobody asks again");
    assert_eq!(world.allocations_of(primary), 0);
    world.unfill(primary);
    world.run(ms(15_000));
    assert_eq!(world.allocations_of(primary), 2, "then both do, and are back");
    for side in [A, B] {
        let stats = world.stats(side);
        assert!(stats.paths.iter().all(|path| path.state == PathState::Good), "{:?}", stats.paths);
    }
}

#[test]
fn a_call_moves_off_a_relay_that_drains_and_loses_nothing() {
    for redundancy in [Redundancy::Always, Redundancy::Auto, Redundancy::Off] {
        let mut world = World::call(2, redundancy, true);
        let drained = world.primary(A);
        let service = world.relays[drained].service;
        let at = world.elapsed();
        world.drains(drained);
        world.run(ms(1_000));
        for side in [A, B] {
            let told = world.count(side, at, |event| *event == Event::RelayLeaving { relay: service });
            assert_eq!(told, 1, "{redundancy:?}");
            assert_ne!(world.primary(side), drained, "{redundancy:?}: sound moves at once");
        }
        // Another relay takes its place; then nobody needs it any more, and it ends.
        let fresh = world.new_relay();
        world.use_relay(fresh);
        world.run(ms(5_000));
        assert_eq!(world.allocations_of(drained), 0, "{redundancy:?}: what it gave was given back");
        world.reset(drained);
        world.run(ms(3_000));
        assert_eq!(lost(&world), [0, 0], "{redundancy:?}");
        for side in [A, B] {
            assert!(world.gap_since(side, at) <= ms(60), "{redundancy:?}: {:?}", world.gap_since(side, at));
        }
    }
}

#[test]
fn a_call_stays_on_the_only_relay_that_drains_until_there_is_another() {
    let mut world = World::call(1, Redundancy::Auto, true);
    world.drains(0);
    world.run(ms(5_000));
    assert_eq!((world.primary(A), world.primary(B)), (0, 0));
    assert_eq!(world.allocations_of(0), 2);
    let fresh = world.new_relay();
    world.use_relay(fresh);
    world.run(ms(5_000));
    assert_eq!((world.primary(A), world.primary(B)), (fresh, fresh));
    world.reset(0);
    world.run(ms(2_000));
    assert_eq!(lost(&world), [0, 0]);
}

#[test]
fn hostile_candidates_make_nobody_a_scanner() {
    let mut world = between([None, None], Redundancy::Auto, ms(3_000));
    let at = world.elapsed();
    for round in 0..600u32 {
        for n in 0..50u32 {
            let number = round * 50 + n;
            let [_, b, c, d] = (number % 5_000).to_be_bytes();
            let ip = [127, 3 + b, c, d];
            let port = if n % 2 == 0 { 5_000 } else { 53 };
            let kind = if n % 3 == 0 { CandidateKind::Host } else { CandidateKind::ServerReflexive };
            let candidate = Candidate::new(kind, SocketAddr::from((ip, port)), None);
            let now = world.now();
            world.sides[A].session.handle_remote_candidate(&candidate, now);
        }
        world.drain(A);
        world.run(ms(100));
    }
    let astray = &world.sides[A].astray;
    let (targets, packets): (usize, u32) = (astray.len(), astray.values().sum());
    println!("hostile candidates for a minute: {targets} targets, {packets} packets");
    assert!(targets <= 24 + 7, "{targets}");
    assert!(astray.values().all(|packets| *packets <= 100), "{astray:?}");
    assert!(astray.keys().all(|target| target.port() >= 1024));
    assert!(packets <= 31 * 100);
    assert_eq!(lost(&world), [0, 0]);
    assert!(world.gap_since(A, at) <= ms(41));
    assert!(world.stats(A).candidates.len() <= 64);
}

#[test]
fn an_hour_in_which_relays_die_one_after_another() {
    let mut world = World::call(2, Redundancy::Always, false);
    let mut living = vec![0, 1];
    for round in 0..60u32 {
        // The driver hears that a relay is silent, and has another one ready.
        let dies = living.remove((round % 2) as usize);
        world.relays[dies].dead = true;
        let at = world.elapsed();
        world.run(ms(1_700));
        let service = world.relays[dies].service;
        for side in [A, B] {
            let told = world.count(side, at, |event| *event == Event::RelaySilent { relay: service });
            assert_eq!(told, 1, "round {round}");
        }
        let fresh = world.new_relay();
        world.use_relay(fresh);
        living.push(fresh);
        world.run(ms(58_300));
    }
    for side in [A, B] {
        let stats = world.stats(side);
        println!(
            "an hour, 60 relays killed: {} packets, {} lost",
            stats.packets_received, stats.packets_lost
        );
        assert!(stats.packets_received > 179_000);
        assert!(world.gap_since(side, ms(5_000)) <= ms(60), "{:?}", world.gap_since(side, ms(5_000)));
        assert!(stats.switches.len() <= 256 && stats.paths.len() <= 32 && stats.relays.len() <= 32);
    }
    assert_eq!(lost(&world), [0, 0]);
}
