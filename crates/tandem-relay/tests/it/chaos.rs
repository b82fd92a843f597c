//! Clients that vanish and come back elsewhere, a process that is stopped and continued, clocks that jump.

use std::net::SocketAddr;
use std::time::Duration;

use tandem_proto::grant::GrantTerms;
use tandem_relay::client::ClientAddr;
use tandem_relay::server::DropReason;

use crate::bench::{Bench, Client, Fate, START_UNIX_S, terms};

const SECOND: Duration = Duration::from_secs(1);

/// Two clients whose grants are good for a day.
fn long_call(bench: &mut Bench) -> (Client, Client) {
    let client = |device| {
        let terms = GrantTerms { not_after_s: START_UNIX_S + 86_400, ..terms(1, device) };
        Client::with_terms(&terms, Client::new(1, device).address)
    };
    let (mut caller, mut callee) = (client(1), client(2));
    caller.allocate(bench).unwrap();
    callee.allocate(bench).unwrap();
    join(bench, &mut caller, &mut callee);
    (caller, callee)
}

fn join(bench: &mut Bench, caller: &mut Client, callee: &mut Client) {
    caller.bind(bench, 0x4000, callee.relayed()).unwrap();
    callee.bind(bench, 0x4001, caller.relayed()).unwrap();
}

fn talks(bench: &mut Bench, caller: &Client, callee: &Client) {
    for (from, number, to) in [(caller, 0x4000, callee), (callee, 0x4001, caller)] {
        let fate = from.channel(bench, number, b"sound");
        assert!(matches!(&fate, Fate::Forwarded { to: heard, .. } if *heard == to.address), "{fate:?}");
    }
}

#[test]
fn a_process_stopped_for_an_hour_serves_nothing_that_has_ended() {
    let mut bench = Bench::new();
    let (mut caller, mut callee) = long_call(&mut bench);
    talks(&mut bench, &caller, &callee);
    // The first packets come before anybody has looked at the clock.
    bench.now += 3_600 * SECOND;
    assert_eq!(caller.channel(&mut bench, 0x4000, b"late"), Fate::Dropped(DropReason::NoAllocation));
    assert_eq!(caller.refresh(&mut bench, 600), Err(437), "it ended 50 minutes ago");
    assert_eq!(callee.permit(&mut bench, caller.relayed()), Err(437));
    assert_eq!(bench.server.stats().allocations, 0);
    // And the call comes back at once.
    caller.allocate(&mut bench).unwrap();
    callee.allocate(&mut bench).unwrap();
    join(&mut bench, &mut caller, &mut callee);
    talks(&mut bench, &caller, &callee);
}

#[test]
fn who_has_ended_unnoticed_keeps_nobody_out() {
    let mut bench = Bench::with(|config| config.allocations_max = 2);
    long_call(&mut bench);
    bench.now += 3_600 * SECOND;
    let terms = GrantTerms { not_after_s: START_UNIX_S + 86_400, ..terms(1, 3) };
    let mut third = Client::with_terms(&terms, Client::new(1, 3).address);
    third.allocate(&mut bench).expect("neither the call nor the relay is full any more");
}

#[test]
fn both_ends_vanish_and_nothing_is_left() {
    let mut bench = Bench::new();
    for call in 0..100 {
        bench.call(call);
    }
    assert_eq!(bench.server.stats().calls, 100);
    bench.pass(599 * SECOND);
    assert_eq!(bench.server.stats().calls, 100);
    bench.pass(SECOND);
    assert_eq!((bench.server.stats().allocations, bench.server.stats().calls), (0, 0));
    assert_eq!(bench.server.poll_timeout(), None, "an idle relay sleeps");
}

#[test]
fn addresses_change_again_and_again() {
    let mut bench = Bench::new();
    let (mut caller, mut callee) = long_call(&mut bench);
    let relayed = (caller.relayed(), callee.relayed());
    for round in 0..200_u16 {
        let end = if round % 2 == 0 { &mut caller } else { &mut callee };
        let ip = [198, 51, 100, (round % 50) as u8];
        let address = SocketAddr::from((ip, 5_000 + round / 3));
        let address = match round % 3 {
            0 => ClientAddr::tcp(address, u32::from(round)),
            _ => ClientAddr::udp(address, 0),
        };
        let mut moved = Client::with_password(end.username.clone(), end.password.clone(), address);
        moved.allocate(&mut bench).unwrap();
        let before = std::mem::replace(end, moved);
        join(&mut bench, &mut caller, &mut callee);
        talks(&mut bench, &caller, &callee);
        assert_eq!((caller.relayed(), callee.relayed()), relayed);
        if before.address.is_stream() {
            bench.server.disconnected(&before.address);
        }
        bench.pass(SECOND);
    }
    assert_eq!(bench.server.stats().allocations, 2);
    caller.refresh(&mut bench, 0).unwrap();
    callee.refresh(&mut bench, 0).unwrap();
    assert_eq!(bench.server.stats().allocations, 0);
    assert!(!bench.server.has_allocation(&caller.address));
}

#[test]
fn a_second_path_that_waits_for_long_is_there_when_it_is_needed() {
    let mut bench = Bench::new();
    let (mut caller, mut callee) = long_call(&mut bench);
    let mut spare = caller.restarted(6_000);
    spare.allocate(&mut bench).unwrap();
    for _ in 0..4 {
        bench.pass(300 * SECOND);
        assert_eq!(spare.refresh(&mut bench, 600), Ok(600));
        assert_eq!(caller.refresh(&mut bench, 600), Ok(600));
        assert_eq!(callee.refresh(&mut bench, 600), Ok(600));
        join(&mut bench, &mut caller, &mut callee);
    }
    // The first path falls silent; the other takes over, and lives as long as it was told.
    join(&mut bench, &mut spare, &mut callee);
    talks(&mut bench, &spare, &callee);
    bench.pass(299 * SECOND);
    talks(&mut bench, &spare, &callee);
}

#[test]
fn the_clock_goes_back_and_forth() {
    let mut bench = Bench::new();
    let (caller, callee) = long_call(&mut bench);
    let start = bench.now;
    bench.pass(250 * SECOND);
    for back in [1, 100, 250] {
        bench.now = start + (250 - back) * SECOND;
        bench.server.handle_timeout(bench.now);
        // The first packet of each may find its bucket empty, which then fills as ever.
        caller.channel(&mut bench, 0x4000, b"sound");
        callee.channel(&mut bench, 0x4001, b"sound");
        bench.pass(SECOND);
        talks(&mut bench, &caller, &callee);
        assert!(bench.server.poll_timeout().is_some_and(|next| next > bench.now), "it does not spin");
    }
    // An allocation is made at a time, ends while the clock is ahead, and the clock goes back.
    for ahead in [601, 20_000, 100_000] {
        bench.pass(ahead * SECOND);
        assert_eq!(bench.server.stats().allocations, 0);
        bench.now = start;
        bench.server.handle_timeout(bench.now);
        let (mut caller, mut callee) = long_call(&mut bench);
        talks(&mut bench, &caller, &callee);
        bench.server.handle_timeout(bench.now);
        assert!(bench.server.poll_timeout().is_none_or(|next| next > bench.now), "it does not spin");
        caller.refresh(&mut bench, 0).unwrap();
        callee.refresh(&mut bench, 0).unwrap();
    }
}

#[test]
fn a_grant_that_has_run_out_stays_so_over_any_gap() {
    let mut bench = Bench::new();
    let mut client = Client::new(1, 1);
    for gap in [61, 3_600, 86_400, 400 * 86_400] {
        bench.now += gap * SECOND;
        assert_eq!(client.allocate(&mut bench), Err(401));
        assert_eq!(client.restarted(9).allocate(&mut bench), Err(401));
    }
    assert_eq!(bench.server.stats().allocations, 0);
}
