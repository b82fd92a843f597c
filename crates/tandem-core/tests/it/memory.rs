//! An idle leaf must fit a simulator of a million: at most 1,536 bytes of heap, the machine itself included.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use tandem_core::homes::{HOMES, Homes};
use tandem_core::peer::KnownPeer;
use tandem_core::time::Now;

use crate::world::peer;

struct Counting;

thread_local! {
    /// Bytes this thread holds; other tests run on other threads.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "counting is done by wrapping the allocator, whose trait is unsafe")]
// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.with(|held| held.set(held.get().wrapping_add(layout.size())));
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.with(|held| held.set(held.get().wrapping_sub(layout.size())));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

pub(crate) fn held() -> usize {
    HELD.with(Cell::get)
}

/// Three homes, `known` supernodes, and an hour of heartbeats behind it.
fn idle_leaf(known: usize) -> Box<Homes> {
    let mut now = Now { mono_ms: 0, unix_ms: 0 };
    let mut homes = Box::new(Homes::new(1, now));
    let list: Vec<KnownPeer> = (0..known)
        .map(|index| KnownPeer {
            peer: peer(index),
            network: peer(index).0,
            referrer: None,
            port_443: false,
            release: 1,
        })
        .collect();
    homes.handle_known(&list, now);
    let mut heartbeats = 0;
    while heartbeats < 700 {
        while let Some(command) = homes.poll_command() {
            use tandem_core::homes::Command;
            match command {
                Command::Connect(peer) => homes.handle_opened(peer, Some(20), now),
                Command::Reserve(peer) => homes.handle_reserved(peer, 14_000, now),
                Command::Heartbeat { peer, .. } => {
                    heartbeats += 1;
                    homes.handle_heartbeat_answer(peer, now);
                }
                Command::Publish { via } => homes.handle_published(via, now),
                Command::Release(_) | Command::AskSupernodes(_) => {}
            }
        }
        let due_ms = homes.poll_timeout().unwrap();
        now = now.plus_ms(due_ms.saturating_sub(now.mono_ms));
        homes.handle_timeout(now);
    }
    while homes.poll_command().is_some() {}
    assert_eq!(homes.reserved().count(), HOMES);
    homes
}

#[test]
fn an_idle_leaf_holds_at_most_a_kilobyte_and_a_half() {
    for known in [16, 32] {
        let before = held();
        let leaf = idle_leaf(known);
        let bytes = held() - before;
        println!("an idle leaf that knows {known} supernodes holds {bytes} bytes");
        assert!(bytes <= 1_536, "an idle leaf that knows {known} supernodes holds {bytes} bytes");
        drop(leaf);
    }
}
