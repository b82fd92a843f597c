//! A thread's own switch beside the core: it does what the core would do, and no more.

use std::time::Duration;

use tandem_relay::config::Rate;
use tandem_relay::server::{DropReason, HEADROOM, Switch, TAILROOM, Verdict};

use crate::bench::{Bench, Client, Fate, channel_data, terms};

const SECOND: Duration = Duration::from_secs(1);

/// A call whose ends have bound channels, and a switch that knows the caller.
fn known_call(bench: &mut Bench) -> (Client, Client, Switch) {
    let (mut caller, mut callee) = bench.call(1);
    let (to_callee, to_caller) = (callee.relayed(), caller.relayed());
    caller.bind(bench, 0x4000, to_callee).unwrap();
    callee.bind(bench, 0x4fff, to_caller).unwrap();
    let mut switch = Switch::new(&mut bench.server, bench.now);
    switch.learn(&mut bench.server, &caller.address, bench.now);
    (caller, callee, switch)
}

fn switched(switch: &mut Switch, bench: &Bench, from: &Client, bytes: &[u8]) -> Option<Fate> {
    let mut buffer = vec![0xa5; HEADROOM + bytes.len() + TAILROOM];
    buffer[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
    let packet = HEADROOM..HEADROOM + bytes.len();
    match switch.handle(&mut buffer, packet.clone(), &from.address, bench.now) {
        Some(Verdict::Forward { to, packet }) => Some(Fate::Forwarded { to, bytes: buffer[packet].to_vec() }),
        Some(Verdict::Reply(bytes)) => Some(Fate::Replied(bytes)),
        Some(Verdict::Drop(reason)) => Some(Fate::Dropped(reason)),
        None => {
            assert_eq!(buffer[packet], *bytes, "what the core is to handle is as it was");
            None
        }
    }
}

#[test]
fn a_known_client_is_switched_as_by_the_core() {
    let mut bench = Bench::new();
    let (caller, callee, mut switch) = known_call(&mut bench);
    for length in [0, 1, 160, 161, 1_400, 2_044] {
        let bytes = channel_data(0x4000, &vec![7; length]);
        let by_core = bench.packet(&bytes, caller.address);
        assert_eq!(switched(&mut switch, &bench, &caller, &bytes), Some(by_core));
    }
    let data = channel_data(0x4000, b"sound");
    let forwarded = Fate::Forwarded { to: callee.address, bytes: channel_data(0x4fff, b"sound") };
    assert_eq!(switched(&mut switch, &bench, &caller, &data), Some(forwarded));
    assert_eq!(switched(&mut switch, &bench, &callee, &data), None, "who is not known");
    let other = channel_data(0x4001, b"sound");
    assert_eq!(switched(&mut switch, &bench, &caller, &other), None, "another channel");
    let long = channel_data(0x4000, &[7; 2_045]);
    assert_eq!(switched(&mut switch, &bench, &caller, &long), None, "too long");
    assert_eq!(bench.packet(&long, caller.address), Fate::Dropped(DropReason::Malformed));
    let cut = &channel_data(0x4000, b"sound")[..7];
    assert_eq!(switched(&mut switch, &bench, &caller, cut), None, "more length than bytes");
}

#[test]
fn totals_are_right_at_once_and_allocations_after_a_moment() {
    let mut bench = Bench::new();
    let (caller, callee, mut switch) = known_call(&mut bench);
    let data = channel_data(0x4000, &[1; 160]);
    for _ in 0..10 {
        assert!(switched(&mut switch, &bench, &caller, &data).is_some());
    }
    let stats = bench.server.stats();
    assert_eq!((stats.packets_forwarded, stats.bytes_forwarded), (10, 1_600));
    let carried = |bench: &Bench, client: &Client| {
        let info = bench.server.allocations().find(|info| info.client == client.address).unwrap();
        (info.bytes_in, info.bytes_out)
    };
    assert_eq!(carried(&bench, &caller), (0, 0));
    assert_eq!(switch.poll_timeout(), Some(bench.now + SECOND / 10));
    switch.settle(&mut bench.server, bench.now);
    assert_eq!((carried(&bench, &caller), carried(&bench, &callee)), ((1_600, 0), (0, 1_600)));
    assert_eq!(switch.poll_timeout(), None);
    assert_eq!(bench.server.stats(), stats, "nothing counts twice");
}

#[test]
fn a_route_ends_with_what_it_was_made_of() {
    type Change = fn(&mut Bench, &mut Client, &mut Client);
    let changes: [(&str, Change); 7] = [
        ("the caller leaves", |bench, caller, _| assert_eq!(caller.refresh(bench, 0), Ok(0))),
        ("the callee leaves", |bench, _, callee| assert_eq!(callee.refresh(bench, 0), Ok(0))),
        ("the permission runs out", |bench, _, _| bench.pass(300 * SECOND)),
        ("the allocations run out", |bench, _, _| bench.pass(600 * SECOND)),
        ("the relay stands by", |bench, _, _| {
            let standby = tandem_relay::server::Serving::Standby;
            bench.server.set_serving(standby, bench.now);
        }),
        ("the callee moves", |bench, caller, callee| {
            let mut moved = callee.restarted(6_000);
            moved.allocate(bench).unwrap();
            moved.permit(bench, caller.relayed()).unwrap();
        }),
        ("another call has the place", |bench, caller, callee| {
            caller.refresh(bench, 0).unwrap();
            callee.refresh(bench, 0).unwrap();
            bench.call(2);
        }),
    ];
    for (name, change) in changes {
        let mut bench = Bench::new();
        let (mut caller, mut callee, mut switch) = known_call(&mut bench);
        let data = channel_data(0x4000, b"sound");
        assert!(switched(&mut switch, &bench, &caller, &data).is_some(), "{name}: before");
        change(&mut bench, &mut caller, &mut callee);
        assert_eq!(switched(&mut switch, &bench, &caller, &data), None, "{name}");
    }
}

#[test]
fn what_was_carried_for_a_call_that_ended_is_nobodys() {
    let mut bench = Bench::new();
    let (mut caller, mut callee, mut switch) = known_call(&mut bench);
    assert!(switched(&mut switch, &bench, &caller, &channel_data(0x4000, &[1; 160])).is_some());
    caller.refresh(&mut bench, 0).unwrap();
    callee.refresh(&mut bench, 0).unwrap();
    bench.call(2);
    switch.settle(&mut bench.server, bench.now);
    assert!(bench.server.allocations().all(|info| info.bytes_in == 0 && info.bytes_out == 0));
}

#[test]
fn a_refreshed_permission_loses_no_count() {
    let mut bench = Bench::new();
    let (mut caller, callee, mut switch) = known_call(&mut bench);
    assert!(switched(&mut switch, &bench, &caller, &channel_data(0x4000, &[1; 160])).is_some());
    caller.bind(&mut bench, 0x4000, callee.relayed()).unwrap();
    assert_eq!(switched(&mut switch, &bench, &caller, &channel_data(0x4000, &[1; 160])), None);
    switch.learn(&mut bench.server, &caller.address, bench.now);
    assert!(switched(&mut switch, &bench, &caller, &channel_data(0x4000, &[1; 160])).is_some());
    switch.settle(&mut bench.server, bench.now);
    let info = bench.server.allocations().find(|info| info.client == caller.address).unwrap();
    assert_eq!(info.bytes_in, 320);
}

#[test]
fn threads_together_never_carry_more_than_a_grant_allows() {
    const QUOTA: u64 = 1_000_000;
    let mut bench = Bench::with(|config| config.allocation_rate = None);
    let client = |device| {
        let terms = tandem_proto::grant::GrantTerms { quota_bytes: QUOTA, ..terms(1, device) };
        let address = std::net::SocketAddr::from(([10, 1, device, 1], 5_000));
        Client::with_terms(&terms, tandem_relay::client::ClientAddr::udp(address, 0))
    };
    let (mut caller, mut callee) = (client(1), client(2));
    caller.allocate(&mut bench).unwrap();
    callee.allocate(&mut bench).unwrap();
    caller.bind(&mut bench, 0x4000, callee.relayed()).unwrap();
    callee.bind(&mut bench, 0x4000, caller.relayed()).unwrap();
    let mut switches = [0; 2].map(|_| Switch::new(&mut bench.server, bench.now));
    let data = channel_data(0x4000, &[1; 1_000]);
    let mut carried = 0;
    'all: for round in 0.. {
        for (switch, from) in switches.iter_mut().zip([&caller, &callee]) {
            let fate = switched(switch, &bench, from, &data).unwrap_or_else(|| {
                let fate = bench.packet(&data, from.address);
                switch.learn(&mut bench.server, &from.address, bench.now);
                fate
            });
            match fate {
                Fate::Forwarded { .. } => carried += 1_000,
                Fate::Dropped(DropReason::Quota) => break 'all,
                other => panic!("round {round}: {other:?}"),
            }
        }
    }
    // The core refuses what it knows to be used up; each route's lease is counted when it is used up itself.
    assert!(carried <= QUOTA, "{carried}");
    assert!(carried >= QUOTA / 2, "{carried}: leases are small enough to use most of it");
}

#[test]
fn a_grants_rate_holds_for_a_route_too() {
    let rate = Rate { per_second: 16_000, burst: 32_000 };
    let mut bench = Bench::with(|config| config.allocation_rate = Some(rate));
    let (caller, _callee, mut switch) = known_call(&mut bench);
    let data = channel_data(0x4000, &[1; 1_000]);
    let mut burst = |bench: &Bench| {
        (0..100)
            .filter(|_| {
                let fate = switched(&mut switch, bench, &caller, &data);
                assert!(matches!(fate, Some(Fate::Forwarded { .. } | Fate::Dropped(DropReason::Rate))));
                fate != Some(Fate::Dropped(DropReason::Rate))
            })
            .count()
    };
    assert_eq!(burst(&bench), 32);
    bench.pass(SECOND);
    assert_eq!(burst(&bench), 16);
    assert_eq!(bench.server.stats().dropped_for(DropReason::Rate), 152);
}

#[test]
fn the_relays_rate_holds_for_all_threads_together() {
    let mut bench = Bench::with(|config| {
        config.allocation_rate = None;
        config.total_rate = Some(Rate { per_second: 50_000, burst: 50_000 });
    });
    let (caller, callee, mut one) = known_call(&mut bench);
    let mut two = Switch::new(&mut bench.server, bench.now);
    two.learn(&mut bench.server, &callee.address, bench.now);
    let there = channel_data(0x4000, &[1; 1_000]);
    let back = channel_data(0x4fff, &[1; 1_000]);
    let mut forwarded = 0;
    for _ in 0..100 {
        for fate in [switched(&mut one, &bench, &caller, &there), switched(&mut two, &bench, &callee, &back)]
        {
            match fate.unwrap() {
                Fate::Forwarded { .. } => forwarded += 1,
                fate => assert_eq!(fate, Fate::Dropped(DropReason::TotalRate)),
            }
        }
    }
    // All but what the threads have taken and not used, which is less than a packet each here.
    assert!((49..=50).contains(&forwarded), "{forwarded}");
    bench.server.set_limits(100, None);
    assert!(matches!(switched(&mut one, &bench, &caller, &there), Some(Fate::Forwarded { .. })));
}
