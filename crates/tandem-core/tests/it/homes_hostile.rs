//! A hundred hostile supernodes in one network, better than all others by everything they say and everything that can
//! be measured, against a device's choice of homes.

use std::collections::{BTreeMap, VecDeque};

use tandem_core::homes::{Cause, Command, HOMES, Homes};
use tandem_core::peer::{KnownPeer, PeerRef, release};
use tandem_core::rng::Rng;
use tandem_core::time::Now;

const HONEST: u32 = 12;
const HOSTILE: u32 = 100;
const HOSTILE_NETWORK: u32 = 66;
const MINUTE_MS: u64 = 60_000;

fn is_hostile(peer: PeerRef) -> bool {
    peer.0 >= 1_000
}

/// Everybody answers at once. Honest ones are slower, busier, down now and then, and run the common release.
struct Device {
    homes: Homes,
    now: Now,
    rng: Rng,
    /// Honest supernodes that are down, until when.
    down: BTreeMap<PeerRef, u64>,
    /// Supernodes from this number on run another release; the others' is the common one.
    other_release_from: u32,
    attempts: VecDeque<(u64, PeerRef)>,
}

impl Device {
    fn new(seed: u64) -> Self {
        let now = Now { mono_ms: 1_000, unix_ms: 1_800_000_000_000 };
        let mut device = Self {
            homes: Homes::new(seed, now),
            now,
            rng: Rng::new(seed),
            down: BTreeMap::new(),
            other_release_from: u32::MAX,
            attempts: VecDeque::new(),
        };
        let bootstrap = [PeerRef(0), PeerRef(1_000)].map(|peer| known(peer, None));
        device.homes.handle_known(&bootstrap, now);
        device.drain();
        device
    }

    fn is_down(&self, peer: PeerRef) -> bool {
        self.down.get(&peer).is_some_and(|until_ms| self.now.mono_ms < *until_ms)
    }

    fn drain(&mut self) {
        while let Some(command) = self.homes.poll_command() {
            let now = self.now;
            match command {
                Command::Connect(peer) if self.is_down(peer) => {
                    self.homes.handle_closed(peer, Cause::Lost, now);
                }
                Command::Connect(peer) => {
                    self.attempts.push_back((now.mono_ms, peer));
                    self.homes.handle_opened(peer, Some(if is_hostile(peer) { 5 } else { 120 }), now);
                    self.homes.set_load(peer, if is_hostile(peer) { 0 } else { 80 });
                }
                Command::Reserve(peer) => self.homes.handle_reserved(peer, 14_000, now),
                Command::Heartbeat { peer, .. } => self.homes.handle_heartbeat_answer(peer, now),
                Command::Publish { via } => self.homes.handle_published(via, now),
                Command::AskSupernodes(peer) => {
                    let list = self.answer(peer);
                    self.homes.handle_known(&list, now);
                }
                Command::Release(_) => {}
            }
        }
    }

    /// Hostile ones name each other only.
    fn answer(&mut self, of: PeerRef) -> Vec<KnownPeer> {
        let named = |rng: &mut Rng| {
            let any = rng.below(u64::from(if is_hostile(of) { HOSTILE } else { HONEST }));
            u32::try_from(any).unwrap() + if is_hostile(of) { 1_000 } else { 0 }
        };
        let mut list: Vec<KnownPeer> =
            (0..16).map(|_| known(PeerRef(named(&mut self.rng)), Some(of))).collect();
        for one in list.iter_mut().filter(|one| one.peer.0 >= self.other_release_from) {
            one.release = release("tandem/1.1.0");
        }
        list
    }

    fn run_for(&mut self, ms: u64, mut watch: impl FnMut(&Self)) {
        let end_ms = self.now.mono_ms + ms;
        while let Some(next_ms) = self.homes.poll_timeout().filter(|next_ms| *next_ms < end_ms) {
            self.now = self.now.plus_ms(next_ms.saturating_sub(self.now.mono_ms));
            self.homes.handle_timeout(self.now);
            self.drain();
            watch(self);
        }
        self.now = self.now.plus_ms(end_ms - self.now.mono_ms);
    }

    fn hostile_homes(&self) -> usize {
        self.homes.reserved().filter(|home| is_hostile(*home)).count()
    }

    /// An honest home breaks and is away for a quarter of an hour.
    fn lose_an_honest_home(&mut self) {
        let honest = self.homes.reserved().find(|home| !is_hostile(*home));
        if let Some(home) = honest {
            self.down.insert(home, self.now.mono_ms + 15 * MINUTE_MS);
            self.homes.handle_closed(home, Cause::Lost, self.now);
            self.drain();
        }
    }
}

fn known(peer: PeerRef, referrer: Option<PeerRef>) -> KnownPeer {
    let (network, software) =
        if is_hostile(peer) { (HOSTILE_NETWORK, "tandem/0.9.9 rare") } else { (peer.0, "tandem/1.0.0") };
    let referrer = referrer.filter(|referrer| *referrer != peer);
    KnownPeer { peer, network, referrer, port_443: is_hostile(peer), release: release(software) }
}

#[test]
fn a_hundred_in_one_network_get_at_most_one_home() {
    let mut with_one = 0;
    for seed in 0..40 {
        let mut device = Device::new(seed);
        device.run_for(MINUTE_MS, |_| {});
        assert_eq!(device.homes.reserved().count(), HOMES, "seed {seed}");
        for _ in 0..48 {
            device.lose_an_honest_home();
            device.run_for(30 * MINUTE_MS, |device| {
                assert!(device.hostile_homes() <= 1, "seed {seed}: {} hostile homes", device.hostile_homes());
            });
            assert_eq!(device.homes.reserved().count(), HOMES, "seed {seed}");
        }
        with_one += device.hostile_homes();
    }
    println!("{with_one} of 40 devices have one hostile home after a day");
    assert!(with_one > 0, "they were never tried: the test shows nothing");
}

#[test]
fn a_release_that_one_network_runs_alone_draws_nobody() {
    // Three honest homes of the common release stay as they are.
    let mut device = Device::new(1);
    device.homes = Homes::new(1, device.now);
    let honest: Vec<KnownPeer> = (0..3).map(|peer| known(PeerRef(peer), None)).collect();
    device.homes.handle_known(&honest, device.now);
    device.run_for(MINUTE_MS, |_| {});
    device.drain();
    let before: Vec<PeerRef> = device.homes.reserved().collect();
    assert_eq!(before.len(), HOMES);
    let lures: Vec<KnownPeer> = (1_000..1_016).map(|peer| known(PeerRef(peer), None)).collect();
    device.homes.handle_known(&lures, device.now);
    device.run_for(24 * 60 * MINUTE_MS, |_| {});
    assert_eq!(device.homes.reserved().collect::<Vec<_>>(), before);
}

#[test]
fn three_homes_of_one_release_become_two_when_others_run_another() {
    let mut device = Device::new(2);
    device.homes = Homes::new(2, device.now);
    let first: Vec<KnownPeer> = (0..3).map(|peer| known(PeerRef(peer), None)).collect();
    device.homes.handle_known(&first, device.now);
    device.drain();
    device.run_for(90 * MINUTE_MS, |_| {});
    assert_eq!(device.homes.reserved().count(), HOMES);
    device.other_release_from = device.homes.reserved().map(|home| home.0 + 1).max().unwrap();
    let newer =
        |device: &Device| device.homes.reserved().filter(|home| home.0 >= device.other_release_from).count();
    let news: Vec<KnownPeer> =
        device.answer(PeerRef(0)).into_iter().chain(device.answer(PeerRef(1))).collect();
    device.homes.handle_known(&news, device.now);
    device.drain();
    device.run_for(20 * MINUTE_MS, |_| {});
    assert_eq!(newer(&device), 0, "nobody hurries to a new release");
    device.attempts.clear();
    device.run_for(3 * 60 * MINUTE_MS, |device| assert_eq!(device.homes.reserved().count(), HOMES));
    assert_eq!(newer(&device), 1);
    assert!(device.attempts.len() <= 2, "{:?}", device.attempts);
}
