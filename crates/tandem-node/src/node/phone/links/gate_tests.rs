//! A device in a network that refuses everything, under forced time: its homes and its calls together keep the caps.

use std::collections::{BTreeMap, BTreeSet};

use tandem_core::dialing::{
    CALL_RETRIES, CALLS_A_MINUTE, DEVICE_CONTACTS_A_MINUTE, HOMES_CONTACTS_A_MINUTE, OTHERS_A_MINUTE,
    Purpose, RETRIES,
};
use tandem_core::homes::{Cause, Command, Homes};
use tandem_core::peer::{KnownPeer, PeerRef, RELEASE_UNKNOWN};
use tandem_core::time::Now;
use tandem_proto::ids::ServiceKey;
use tandem_proto::wire::Signed;

use super::{LinkNews, Links};
use crate::overlay::{DeviceCommand, SupernodeAddress};

const MINUTE_MS: u64 = 60_000;
const STEP_MS: u64 = 100;
/// A supernode that is not there is noticed after this long.
const REFUSED_MS: u64 = 300;

fn now(mono_ms: u64) -> Now {
    Now { mono_ms, unix_ms: 1_800_000_000_000 + mono_ms }
}

fn service(n: u32) -> ServiceKey {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&n.to_be_bytes());
    ServiceKey(key)
}

fn peer(service: ServiceKey) -> PeerRef {
    PeerRef(u32::from_be_bytes([service.0[0], service.0[1], service.0[2], service.0[3]]))
}

fn at(n: u32) -> SupernodeAddress {
    SupernodeAddress { service: service(n), addresses: Vec::new() }
}

/// Everybody is refused. What was dialled, when, and what for.
struct Nowhere {
    homes: Homes,
    links: Links,
    dials: Vec<(u64, ServiceKey, Purpose)>,
    refusals: Vec<(u64, ServiceKey)>,
    /// What errands came to.
    ended: BTreeMap<u64, &'static str>,
    errands: u64,
}

impl Nowhere {
    fn new() -> Self {
        Self {
            homes: Homes::new(7, now(0)),
            links: Links::default(),
            dials: Vec::new(),
            refusals: Vec::new(),
            ended: BTreeMap::new(),
            errands: 0,
        }
    }

    /// Somebody names another eight supernodes every ten seconds.
    fn hear(&mut self, ms: u64) {
        let first = u32::try_from(ms / 10_000 * 8).unwrap();
        let known: Vec<KnownPeer> = (first..first + 8)
            .map(|n| KnownPeer {
                peer: PeerRef(n),
                network: n,
                referrer: None,
                port_443: false,
                release: RELEASE_UNKNOWN,
            })
            .collect();
        self.homes.handle_known(&known, now(ms));
    }

    /// Calls want a relay that was never heard of, each 400 ms; a set changed, and all is to be told.
    fn want(&mut self, ms: u64) {
        let new = u32::try_from(1_000_000 + ms / 400).unwrap();
        self.errands += 1;
        self.links.request_grant(self.errands, &at(new), b"tag", now(ms));
        let again = u32::try_from(2_000_000 + ms / 4_000).unwrap();
        self.errands += 1;
        self.links.notify(self.errands, &at(again), Signed::default(), now(ms));
        self.circuit(3_000_000 + new, ms);
    }

    fn circuit(&mut self, n: u32, ms: u64) {
        if self.links.admit_circuit(service(n), Purpose::Call, now(ms)).is_ok() {
            self.dials.push((ms, service(n), Purpose::Call));
        }
    }

    fn settle(&mut self, ms: u64) {
        loop {
            while let Some(command) = self.homes.poll_command() {
                match command {
                    Command::Connect(peer) => self.links.connect(&at(peer.0), now(ms)),
                    Command::Release(peer) => self.links.release(service(peer.0), now(ms)),
                    other => panic!("nobody was reached: {other:?}"),
                }
            }
            while let Some(command) = self.links.poll_command() {
                let (of, purpose) = match command {
                    DeviceCommand::OpenHome(at) => (at.service, Purpose::Home),
                    DeviceCommand::OpenErrand(at) if peer(at.service).0 < 2_000_000 => {
                        (at.service, Purpose::Call)
                    }
                    DeviceCommand::OpenErrand(at) => (at.service, Purpose::Other),
                    _ => continue,
                };
                self.dials.push((ms, of, purpose));
                self.refusals.push((ms + REFUSED_MS, of));
            }
            let Some(news) = self.links.poll_news() else { return };
            match news {
                LinkNews::Closed { service, .. } => {
                    self.homes.handle_closed(peer(service), Cause::Lost, now(ms));
                }
                LinkNews::HeldBack { service, wait_ms } => {
                    self.homes.handle_held_back(peer(service), wait_ms, now(ms));
                }
                LinkNews::ErrandFailed { errand, .. } => drop(self.ended.insert(errand, "failed")),
                LinkNews::Waits { errand, wait_ms } => {
                    assert!((1..=MINUTE_MS).contains(&wait_ms), "{wait_ms}");
                    self.ended.entry(errand).or_insert("waits");
                }
                other => panic!("nobody was reached: {other:?}"),
            }
        }
    }

    fn run(&mut self, until_ms: u64) {
        for ms in (0..until_ms).step_by(usize::try_from(STEP_MS).unwrap()) {
            if ms % 10_000 == 0 {
                self.hear(ms);
            }
            if ms % 400 == 0 {
                self.want(ms);
            }
            let refused: Vec<ServiceKey> =
                self.refusals.extract_if(.., |(due_ms, _)| *due_ms <= ms).map(|(_, of)| of).collect();
            for of in refused {
                self.links.handle_closed(of, "refused");
            }
            self.links.handle_timeout(now(ms));
            self.homes.handle_timeout(now(ms));
            self.settle(ms);
        }
    }

    /// Of every minute that begins with a dial: all of it, as `of` sees it.
    fn minutes<T>(&self, of: impl Fn(&[(u64, ServiceKey, Purpose)]) -> T) -> Vec<T> {
        let ends = |from: usize| {
            let end_ms = self.dials[from].0 + MINUTE_MS;
            from + self.dials[from..].partition_point(|(ms, ..)| *ms < end_ms)
        };
        (0..self.dials.len()).map(|from| of(&self.dials[from..ends(from)])).collect()
    }
}

fn different(dials: &[(u64, ServiceKey, Purpose)], of: impl Fn(Purpose) -> bool) -> usize {
    dials.iter().filter(|(.., purpose)| of(*purpose)).map(|(_, of, _)| *of).collect::<BTreeSet<_>>().len()
}

#[test]
fn whatever_refuses_no_minute_sees_more_than_the_caps_and_nobody_starves() {
    let mut device = Nowhere::new();
    device.run(30 * MINUTE_MS);
    let worst =
        |of: fn(Purpose) -> bool| device.minutes(|dials| different(dials, of)).into_iter().max().unwrap();
    assert!(worst(|_| true) <= DEVICE_CONTACTS_A_MINUTE);
    assert_eq!(worst(|it| it != Purpose::Home), CALLS_A_MINUTE, "the cap, and it is what held them back");
    assert!(worst(|it| it == Purpose::Call) <= CALLS_A_MINUTE);
    assert!(worst(|it| it == Purpose::Other) <= OTHERS_A_MINUTE);
    assert!(worst(|it| it == Purpose::Home) <= HOMES_CONTACTS_A_MINUTE);
    let most = device.minutes(<[_]>::len).into_iter().max().unwrap();
    // The budgets, and what comes back into them in a minute.
    let retries = (2 * RETRIES + CALL_RETRIES) as usize + 2 * 20 + 60;
    assert!(most <= DEVICE_CONTACTS_A_MINUTE + retries, "{most} dials in a minute, retries included");

    let in_minute = |minute: u64, of: Purpose| {
        device.dials.iter().filter(|(ms, _, purpose)| ms / MINUTE_MS == minute && *purpose == of).count()
    };
    let for_homes: Vec<usize> = (0..30).map(|minute| in_minute(minute, Purpose::Home)).collect();
    // As many as without anything else going on (3 to 16 in a minute, by the back-off of a device that reaches nobody).
    assert!(for_homes.windows(2).all(|minutes| minutes.iter().sum::<usize>() >= 3), "{for_homes:?}");
    assert!(for_homes.iter().sum::<usize>() >= 90, "{for_homes:?}");
    let for_calls: Vec<usize> = (0..30).map(|minute| in_minute(minute, Purpose::Call)).collect();
    assert!(for_calls.iter().all(|dials| *dials >= CALLS_A_MINUTE - OTHERS_A_MINUTE), "{for_calls:?}");
}

#[test]
fn an_errand_that_waits_ends_one_way_or_the_other() {
    let mut device = Nowhere::new();
    device.run(2 * MINUTE_MS);
    let last = device.errands;
    for ms in (2 * MINUTE_MS..5 * MINUTE_MS).step_by(usize::try_from(STEP_MS).unwrap()) {
        device.links.handle_timeout(now(ms));
        let refused: Vec<ServiceKey> =
            device.refusals.extract_if(.., |(due_ms, _)| *due_ms <= ms).map(|(_, of)| of).collect();
        refused.into_iter().for_each(|of| device.links.handle_closed(of, "refused"));
        device.homes.stop();
        device.settle(ms);
    }
    let open: Vec<u64> =
        (1..=last).filter(|errand| device.ended.get(errand).is_none_or(|end| *end != "failed")).collect();
    assert!(open.is_empty(), "no word of {open:?}");
    assert_eq!(device.links.poll_timeout(), None, "and nothing is kept of them");
}
