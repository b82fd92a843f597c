//! Many lose a home in one moment: what they do about it must not come to the others in one moment.

use std::collections::BTreeMap;

use tandem_core::homes::{Cause, Command, HOMES, Homes};
use tandem_core::peer::KnownPeer;
use tandem_core::time::Now;

use crate::world::peer;

const LEAVES: u64 = 1_000;
const LOST_MS: u64 = 10 * 60_000;

/// A leaf that has three homes, and knows others.
fn with_homes(seed: u64) -> Homes {
    let now = Now { mono_ms: 0, unix_ms: 0 };
    let mut homes = Homes::without_beats(seed, now);
    let known = |index| KnownPeer {
        peer: peer(index),
        network: peer(index).0,
        referrer: None,
        port_443: false,
        release: 1,
    };
    homes.handle_known(&(0..16).map(known).collect::<Vec<_>>(), now);
    run_until(&mut homes, now, LOST_MS, true, |_, _| {});
    assert_eq!(homes.reserved().count(), HOMES);
    homes
}

/// Lets time pass. `answered`: those who are dialled answer; else nobody does, but that a publication succeeds.
fn run_until(
    homes: &mut Homes,
    from: Now,
    until_ms: u64,
    answered: bool,
    mut note: impl FnMut(Command, u64),
) {
    let mut now = from;
    loop {
        while let Some(command) = homes.poll_command() {
            note(command, now.mono_ms);
            match command {
                Command::Connect(peer) if answered => homes.handle_opened(peer, Some(20), now),
                Command::Reserve(peer) => homes.handle_reserved(peer, 14_000, now),
                Command::Publish { via } => homes.handle_published(via, now),
                _ => {}
            }
        }
        let due_ms = homes.poll_timeout().filter(|due_ms| *due_ms < until_ms);
        let Some(due_ms) = due_ms else { return };
        now = now.plus_ms(due_ms.saturating_sub(now.mono_ms));
        homes.handle_timeout(now);
    }
}

#[test]
fn what_follows_a_loss_is_spread() {
    let (mut asks, mut publications) = (BTreeMap::<u64, u64>::new(), BTreeMap::<u64, u64>::new());
    for seed in 0..LEAVES {
        let mut homes = with_homes(seed);
        let now = Now { mono_ms: LOST_MS, unix_ms: LOST_MS };
        let lost = homes.reserved().next().expect("it has homes");
        homes.handle_closed(lost, Cause::Lost, now);
        let (mut asked, mut published) = (false, false);
        run_until(&mut homes, now, LOST_MS + 20_000, false, |command, at_ms| {
            let half_second = (at_ms - LOST_MS) / 500;
            match command {
                Command::AskSupernodes(_) if !std::mem::replace(&mut asked, true) => {
                    *asks.entry(half_second).or_default() += 1;
                }
                Command::Publish { .. } if !std::mem::replace(&mut published, true) => {
                    *publications.entry(half_second).or_default() += 1;
                }
                _ => {}
            }
        });
        assert!(asked && published, "seed {seed}: it does nothing about it");
    }
    println!("asks by half-second {asks:?}; publications {publications:?}");
    let most = |by: &BTreeMap<u64, u64>| by.values().copied().max();
    assert!(most(&asks).is_some_and(|most| most < LEAVES * 3 / 10), "{asks:?}");
    assert!(most(&publications).is_some_and(|most| most < LEAVES * 2 / 10), "{publications:?}");
}
