//! Strangers cannot make the relay keep memory, and clients only so much: with an allocator that counts, so in a program
//! of its own.

#![expect(unsafe_code, reason = "a global allocator is an unsafe trait; this one hands on to the system's")]

#[cfg(test)]
#[expect(dead_code, reason = "the other tests use more of it")]
#[path = "it/bench.rs"]
mod bench;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    /// Bytes that this thread has taken and not given back: each test has a thread of its own.
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
}

fn count(layout: Layout, sign: i64) {
    let bytes = i64::try_from(layout.size()).unwrap_or(i64::MAX);
    LIVE_BYTES.with(|live| live.set(live.get() + sign * bytes));
}

// SAFETY: everything is the system allocator's; counting changes nothing about it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout, 1);
        // SAFETY: as the caller promised us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout, -1);
        // SAFETY: as the caller promised us, and it came from there.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[cfg(test)]
mod floods {
    use std::net::SocketAddr;
    use std::time::Duration;

    use stun_types::message::MessageWrite as _;
    use stun_types::prelude::*;
    use tandem_proto::grant::GrantTerms;
    use tandem_proto::ids::CallTag;
    use tandem_relay::client::ClientAddr;
    use turn_types::attribute::RequestedTransport;
    use turn_types::message::ALLOCATE;

    use super::LIVE_BYTES;
    use super::bench::{Bench, Client, START_UNIX_S, request, terms};

    fn live() -> i64 {
        LIVE_BYTES.with(std::cell::Cell::get)
    }

    /// Each in a network of its own.
    fn source(number: u32) -> ClientAddr {
        let [a, b, c, _] = (number << 8).to_be_bytes();
        ClientAddr::udp(SocketAddr::from(([20 + a, b, c, 1], 5_000)), 0)
    }

    #[test]
    fn allocates_without_credentials_leave_nothing() {
        let mut bench = Bench::new();
        bench.call(1);
        let mut plain = request(ALLOCATE, 7.into());
        plain.add_attribute(&RequestedTransport::new(RequestedTransport::UDP)).unwrap();
        let plain = plain.finish();
        let before = live();
        for number in 0..100_000 {
            bench.packet(&plain, source(number));
        }
        for number in 0..2_000 {
            let username = terms(2, 1).username();
            let mut guesser = Client::with_password(username, "guessed".to_owned(), source(number));
            assert!(guesser.allocate(&mut bench).is_err());
        }
        assert_eq!(live() - before, 0, "bytes that strangers made it keep");
    }

    #[test]
    fn allocates_with_credentials_are_bounded_and_leave_nothing_that_grows() {
        const ALLOCATIONS: usize = 200;
        let mut bench = Bench::with(|config| config.allocations_max = ALLOCATIONS);
        let mut kept = Vec::with_capacity(10);
        let before = live();
        for round in 0..10 {
            for number in 0..400_u32 {
                let [_, _, high, low] = number.to_be_bytes();
                let terms = GrantTerms {
                    tag: CallTag([high, low, round, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
                    not_after_s: START_UNIX_S + 100_000,
                    ..terms(1, 1)
                };
                let mut client = Client::with_terms(&terms, source(number));
                let granted = client.allocate(&mut bench).is_ok();
                assert_eq!(granted, (number as usize) < ALLOCATIONS);
            }
            let taken = live() - before;
            assert!(taken <= 1_200 * ALLOCATIONS as i64, "{taken} bytes for {ALLOCATIONS} allocations");
            bench.pass(Duration::from_secs(600));
            assert_eq!(bench.server.stats().allocations, 0);
            kept.push(live() - before);
        }
        // Maps and lists find their size in the first rounds, and keep it.
        assert!(kept[5..].iter().all(|bytes| *bytes <= kept[4] + 1_024), "{kept:?}");
    }
}
