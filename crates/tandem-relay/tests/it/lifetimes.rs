//! What ends, and when.

use std::time::Duration;

use stun_types::message::Message;
use tandem_proto::grant::GrantTerms;
use tandem_relay::server::DropReason;
use turn_types::attribute::Lifetime;

use crate::bench::{Bench, Client, Fate, terms};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn lifetimes_are_between_the_default_and_the_maximum() {
    let mut bench = Bench::new();
    for (call, (asked, granted)) in
        [(0, 600), (1, 600), (601, 601), (3600, 3600), (u32::MAX, 3600)].into_iter().enumerate()
    {
        let reply = Client::new(call as u8, 1).allocate_with(&mut bench, &[&Lifetime::new(asked)]).unwrap();
        assert_eq!(Message::from_bytes(&reply).unwrap().attribute::<Lifetime>().unwrap().seconds(), granted);
    }
}

#[test]
fn an_allocation_ends_unless_refreshed() {
    let mut bench = Bench::new();
    let mut client = Client::new(1, 1);
    client.allocate(&mut bench).unwrap();
    assert_eq!(bench.server.poll_timeout(), Some(bench.now + 600 * SECOND));
    bench.pass(500 * SECOND);
    assert_eq!(client.refresh(&mut bench, 600), Ok(600));
    bench.pass(599 * SECOND);
    assert_eq!(bench.server.stats().allocations, 1);
    bench.pass(SECOND);
    assert_eq!(bench.server.stats().allocations, 0);
    assert_eq!(bench.server.poll_timeout(), None);
    assert_eq!(client.refresh(&mut bench, 600), Err(437));
}

#[test]
fn a_grant_bounds_allocate_and_nothing_else() {
    let mut bench = Bench::new();
    let (mut caller, callee) = bench.call(1);
    bench.pass(61 * SECOND);
    assert_eq!(Client::new(1, 1).restarted(6_000).allocate(&mut bench), Err(401), "expired");
    assert_eq!(caller.refresh(&mut bench, 600), Ok(600));
    caller.permit(&mut bench, callee.relayed()).unwrap();
    caller.bind(&mut bench, 0x4000, callee.relayed()).unwrap();
}

#[test]
fn no_allocation_lives_longer_than_four_hours() {
    let mut bench = Bench::new();
    let mut client = Client::new(1, 1);
    client.allocate_with(&mut bench, &[&Lifetime::new(900)]).unwrap();
    for _ in 0..23 {
        bench.pass(600 * SECOND);
        client.refresh(&mut bench, 900).expect("refreshes are granted for four hours");
    }
    assert_eq!(client.refresh(&mut bench, 3600), Ok(600), "3 h 50 min have passed");
    bench.pass(600 * SECOND);
    assert_eq!(client.refresh(&mut bench, 600), Err(437));
}

#[test]
fn permissions_end_after_300_seconds_and_channels_after_600() {
    let mut bench = Bench::new();
    let (mut caller, mut callee) = bench.call(1);
    caller.refresh(&mut bench, 3600).unwrap();
    callee.refresh(&mut bench, 3600).unwrap();
    caller.bind(&mut bench, 0x4000, callee.relayed()).unwrap();
    callee.bind(&mut bench, 0x4001, caller.relayed()).unwrap();

    bench.pass(299 * SECOND);
    assert!(matches!(caller.channel(&mut bench, 0x4000, b"x"), Fate::Forwarded { .. }));
    bench.pass(SECOND);
    let fate = caller.channel(&mut bench, 0x4000, b"x");
    assert_eq!(fate, Fate::Dropped(DropReason::NoPermission), "the callee's permission has ended");
    callee.permit(&mut bench, caller.relayed()).unwrap();
    assert!(matches!(caller.channel(&mut bench, 0x4000, b"x"), Fate::Forwarded { .. }));
    let fate = caller.send(&mut bench, callee.relayed(), b"x");
    assert_eq!(fate, Fate::Dropped(DropReason::NoPermission), "so has the caller's own");

    bench.pass(299 * SECOND);
    assert!(matches!(caller.channel(&mut bench, 0x4000, b"x"), Fate::Forwarded { .. }));
    bench.pass(SECOND);
    assert_eq!(caller.channel(&mut bench, 0x4000, b"x"), Fate::Dropped(DropReason::NoChannel));
}

#[test]
fn a_spent_quota_stops_data_and_refreshes_and_follows_the_device() {
    let mut bench = Bench::with(|config| config.allocation_rate = None);
    let small = GrantTerms { quota_bytes: 1_000, ..terms(1, 1) };
    let mut caller = Client::with_terms(&small, Client::new(1, 1).address);
    let mut callee = Client::new(1, 2);
    caller.allocate(&mut bench).unwrap();
    callee.allocate(&mut bench).unwrap();
    caller.permit(&mut bench, callee.relayed()).unwrap();
    callee.permit(&mut bench, caller.relayed()).unwrap();

    // Both ways count.
    assert!(matches!(caller.send(&mut bench, callee.relayed(), &[0; 500]), Fate::Forwarded { .. }));
    assert!(matches!(callee.send(&mut bench, caller.relayed(), &[0; 500]), Fate::Forwarded { .. }));
    assert_eq!(caller.send(&mut bench, callee.relayed(), &[0; 1]), Fate::Dropped(DropReason::Quota));
    assert_eq!(callee.send(&mut bench, caller.relayed(), &[0; 1]), Fate::Dropped(DropReason::Quota));
    assert_eq!(caller.refresh(&mut bench, 600), Err(486));

    let mut again = caller.restarted(7_000);
    again.allocate(&mut bench).unwrap();
    again.permit(&mut bench, callee.relayed()).unwrap();
    callee.permit(&mut bench, again.relayed()).unwrap();
    assert_eq!(again.send(&mut bench, callee.relayed(), &[0; 1]), Fate::Dropped(DropReason::Quota));
}

#[test]
fn a_voice_allocation_cannot_carry_video() {
    let mut bench = Bench::new();
    let (mut caller, callee) = bench.call(1);
    let mut sent = 0;
    for _ in 0..1_000 {
        bench.pass(Duration::from_millis(10));
        sent += u32::from(matches!(
            caller.send(&mut bench, callee.relayed(), &[0; 1_000]),
            Fate::Forwarded { .. }
        ));
    }
    // 10 s at 16,000 bytes a second, and the burst of 32,000.
    assert!((190..=193).contains(&sent), "{sent}");
    assert_eq!(bench.server.stats().dropped_for(DropReason::Rate), 1_000 - u64::from(sent));
}

#[test]
fn a_closed_connection_ends_its_allocation() {
    let mut bench = Bench::new();
    let address = tandem_relay::client::ClientAddr::tcp("192.0.2.9:443".parse().unwrap(), 3);
    let mut client = Client::with_terms(&terms(1, 1), address);
    client.allocate(&mut bench).unwrap();
    assert!(bench.server.has_allocation(&address));
    bench.server.disconnected(&address);
    assert!(!bench.server.has_allocation(&address));
    assert_eq!(bench.server.poll_timeout(), None);
}
