//! How many circuits a supernode lets through to one device, and from whom. libp2p's own limits look at the source only:
//! many sources together could keep a device busy, or lock out those it wants to hear from.
//!
//! Pure policy: [`super::door`] asks it, the service swarm tells it what became of a circuit.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use tandem_core::network::subnet;
use tandem_proto::network::network_group;

const MINUTE: Duration = Duration::from_secs(60);
/// New circuits of strangers to one device in a minute, and open at once. Beyond half of either, only networks that have
/// no part of them yet get one.
const STRANGERS_PER_MINUTE: usize = 240;
const STRANGERS_OPEN_MAX: usize = 48;
const FIRST_HALF: usize = 2;
/// Of these, in a minute: from one source or one /24 or /48, and from one network group.
const SUBNET_PER_MINUTE: usize = 12;
const GROUP_PER_MINUTE: usize = 30;
/// And open at once: from one source, one /24 or /48, and one network group.
const SOURCE_OPEN_MAX: usize = 4;
const SUBNET_OPEN_MAX: usize = 6;
const GROUP_OPEN_MAX: usize = 12;
/// A source whose circuit the device kept for so long is known to it, whatever it is.
const KNOWN_AFTER: Duration = Duration::from_secs(30);
/// Known sources of one device; the one that was longest away goes first.
const KNOWN_MAX: usize = 64;
/// Of one network group: keeping a circuit for a while is cheap, so nobody fills the memory from one network.
const KNOWN_PER_GROUP: usize = 16;
const KNOWN_OPEN_MAX: usize = 32;
const KNOWN_PER_MINUTE: usize = 12;
/// A circuit that was let through and did not come about is forgotten after this long.
const ASKED_FOR: Duration = Duration::from_secs(15);

/// Circuits to the devices reserved here. Not more devices than there are reservations.
#[derive(Debug, Default)]
pub(super) struct CircuitLimits {
    targets: BTreeMap<PeerId, Target>,
}

#[derive(Debug, Default)]
struct Target {
    /// A device that moves holds two for a moment.
    reservations: u32,
    circuits: Vec<Circuit>,
    /// Let through within the last minute, the oldest first.
    recent: VecDeque<(Instant, Source)>,
    /// With the network group of each at the time; the one seen last at the end.
    known: VecDeque<(PeerId, u32)>,
}

#[derive(Debug)]
struct Circuit {
    source: Source,
    since: Instant,
    open: bool,
}

/// Where a circuit comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source {
    peer: PeerId,
    subnet: u64,
    group: u32,
    known: bool,
}

impl Source {
    pub(super) fn new(peer: PeerId, ip: IpAddr) -> Self {
        Self { peer, subnet: subnet(ip), group: network_group(ip), known: false }
    }
}

impl CircuitLimits {
    pub(super) fn reserved(&mut self, target: PeerId) {
        self.targets.entry(target).or_default().reservations += 1;
    }

    pub(super) fn reservation_ended(&mut self, target: &PeerId) {
        let Some(entry) = self.targets.get_mut(target) else { return };
        entry.reservations = entry.reservations.saturating_sub(1);
        if entry.reservations == 0 {
            self.targets.remove(target);
        }
    }

    /// Whether a circuit may be opened now. For a device that is not reserved here the relay itself says no.
    pub(super) fn admit(&mut self, source: Source, target: &PeerId, now: Instant) -> bool {
        self.targets.get_mut(target).is_none_or(|target| target.admit(source, now))
    }

    pub(super) fn opened(&mut self, source: &PeerId, target: &PeerId, now: Instant) {
        let circuits = self.targets.get_mut(target).map(|target| &mut target.circuits);
        let asked = circuits.and_then(|all| all.iter_mut().find(|c| c.source.peer == *source && !c.open));
        if let Some(circuit) = asked {
            (circuit.open, circuit.since) = (true, now);
        }
    }

    /// It was let through, and the relay or the device said no: none that is open has ended.
    pub(super) fn denied(&mut self, source: &PeerId, target: &PeerId) {
        if let Some(target) = self.targets.get_mut(target) {
            target.take_out(|circuit| circuit.source.peer == *source && !circuit.open);
        }
    }

    /// One that was open ended: of several of one source the oldest, since libp2p does not say which.
    pub(super) fn ended(&mut self, source: &PeerId, target: &PeerId, now: Instant) {
        let Some(target) = self.targets.get_mut(target) else { return };
        let of_source = |open: bool| move |c: &Circuit| c.source.peer == *source && c.open == open;
        // One whose opening was not seen is counted as asked for.
        let circuit = target.take_out(of_source(true)).or_else(|| target.take_out(of_source(false)));
        if let Some(circuit) = circuit.filter(|circuit| circuit.is_kept(now)) {
            target.remember(*source, circuit.source.group);
        }
    }
}

impl Circuit {
    fn is_kept(&self, now: Instant) -> bool {
        self.open && now.saturating_duration_since(self.since) >= KNOWN_AFTER
    }
}

impl Target {
    fn admit(&mut self, mut source: Source, now: Instant) -> bool {
        self.forget(now);
        let kept = self.circuits.iter().any(|c| c.source.peer == source.peer && c.is_kept(now));
        let known = kept || self.known.iter().any(|(known, _)| *known == source.peer);
        // Whose own share is full stands with the strangers.
        source.known = known && self.has_room_for_known(source);
        let admitted = source.known || self.has_room_for(source);
        if admitted {
            self.recent.push_back((now, source));
            self.circuits.push(Circuit { source, since: now, open: false });
        }
        admitted
    }

    /// Forgets the first such circuit.
    fn take_out(&mut self, which: impl Fn(&Circuit) -> bool) -> Option<Circuit> {
        let at = self.circuits.iter().position(which)?;
        Some(self.circuits.remove(at))
    }

    fn forget(&mut self, now: Instant) {
        let age = |since: Instant| now.saturating_duration_since(since);
        while self.recent.front().is_some_and(|(at, _)| age(*at) >= MINUTE) {
            self.recent.pop_front();
        }
        self.circuits.retain(|circuit| circuit.open || age(circuit.since) < ASKED_FOR);
    }

    fn has_room_for_known(&self, source: Source) -> bool {
        self.recent(|other| other.peer == source.peer) < KNOWN_PER_MINUTE
            && self.open(|other| other.peer == source.peer) < SOURCE_OPEN_MAX
            && self.open(|other| other.known && other.subnet == source.subnet) < SUBNET_OPEN_MAX
            && self.open(|other| other.known && other.group == source.group) < GROUP_OPEN_MAX
            && self.open(|other| other.known) < KNOWN_OPEN_MAX
    }

    fn has_room_for(&self, source: Source) -> bool {
        let (recent, open) = (self.recent(|other| !other.known), self.open(|other| !other.known));
        if recent >= STRANGERS_PER_MINUTE || open >= STRANGERS_OPEN_MAX {
            return false;
        }
        let of_group = (self.recent(|o| o.group == source.group), self.open(|o| o.group == source.group));
        if recent >= STRANGERS_PER_MINUTE / FIRST_HALF || open >= STRANGERS_OPEN_MAX / FIRST_HALF {
            return of_group == (0, 0);
        }
        of_group.0 < GROUP_PER_MINUTE
            && of_group.1 < GROUP_OPEN_MAX
            && self.recent(|other| other.subnet == source.subnet) < SUBNET_PER_MINUTE
            && self.open(|other| other.subnet == source.subnet) < SUBNET_OPEN_MAX
            && self.open(|other| other.peer == source.peer) < SOURCE_OPEN_MAX
    }

    fn recent(&self, which: impl Fn(&Source) -> bool) -> usize {
        self.recent.iter().filter(|(_, source)| which(source)).count()
    }

    fn open(&self, which: impl Fn(&Source) -> bool) -> usize {
        self.circuits.iter().filter(|circuit| which(&circuit.source)).count()
    }

    fn remember(&mut self, source: PeerId, group: u32) {
        self.known.retain(|(known, _)| *known != source);
        let of_group = |known: &(PeerId, u32)| known.1 == group;
        if self.known.iter().filter(|known| of_group(known)).count() >= KNOWN_PER_GROUP {
            let oldest = self.known.iter().position(of_group);
            oldest.and_then(|at| self.known.remove(at));
        } else if self.known.len() >= KNOWN_MAX {
            self.known.pop_front();
        }
        self.known.push_back((source, group));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    struct World {
        limits: CircuitLimits,
        target: PeerId,
        now: Instant,
    }

    fn world() -> World {
        let mut world =
            World { limits: CircuitLimits::default(), target: PeerId::random(), now: Instant::now() };
        world.limits.reserved(world.target);
        world
    }

    impl World {
        fn ask(&mut self, peer: PeerId, ip: [u8; 4]) -> bool {
            self.limits.admit(Source::new(peer, ip.into()), &self.target, self.now)
        }

        /// Opened, kept for so long, and closed.
        fn keep(&mut self, peer: PeerId, ip: [u8; 4], kept: Duration) {
            assert!(self.ask(peer, ip));
            self.limits.opened(&peer, &self.target, self.now);
            self.now += kept;
            self.limits.ended(&peer, &self.target, self.now);
        }

        /// Ten thousand sources in `groups` network groups, one each 5 ms; how many were let through. Each circuit that
        /// opens stays open.
        fn flood(&mut self, groups: u16) -> usize {
            let mut admitted = 0;
            for n in 0..10_000_u16 {
                let [high, low] = (n % groups).to_be_bytes();
                let peer = PeerId::random();
                if self.ask(peer, [11 + high, low, n.to_le_bytes()[0], 1]) {
                    admitted += 1;
                    self.limits.opened(&peer, &self.target, self.now);
                }
                self.now += 5 * MS;
            }
            admitted
        }
    }

    #[test]
    fn a_flood_from_few_networks_leaves_room_for_every_other_network() {
        let mut w = world();
        let admitted = w.flood(20);
        assert!(admitted <= STRANGERS_OPEN_MAX, "{admitted}");
        assert!(w.ask(PeerId::random(), [203, 1, 1, 1]), "a contact that was never here before");
        assert!(w.ask(PeerId::random(), [204, 1, 1, 1]), "and one more");
    }

    #[test]
    fn nobody_becomes_all_that_is_known_from_one_network() {
        let mut w = world();
        let contact = PeerId::random();
        w.keep(contact, [203, 1, 1, 1], KNOWN_AFTER);
        let liars: Vec<PeerId> = (0..200).map(|_| PeerId::random()).collect();
        for (n, liar) in (0..).zip(&liars) {
            w.keep(*liar, [11, 0, n, 1], KNOWN_AFTER);
            w.now += MINUTE;
        }
        // All of them come at once, and hold on to what they get.
        for (n, liar) in (0..).zip(&liars) {
            while w.ask(*liar, [11, 0, n, 1]) {
                w.limits.opened(liar, &w.target, w.now);
            }
        }
        assert!(w.ask(contact, [77, 1, 1, 1]), "still remembered, and there is room");
        assert!(w.ask(PeerId::random(), [78, 1, 1, 1]), "and for a stranger");
    }

    #[test]
    fn whom_the_device_spoke_with_before_gets_through_any_flood() {
        let mut w = world();
        let contact = PeerId::random();
        w.keep(contact, [203, 1, 1, 1], KNOWN_AFTER);
        let brief = PeerId::random();
        w.keep(brief, [203, 2, 1, 1], KNOWN_AFTER / 2);
        let admitted = w.flood(2_000);
        assert!(admitted <= STRANGERS_OPEN_MAX, "{admitted}");
        assert!(w.ask(contact, [77, 1, 1, 1]), "from wherever it is now");
        assert!(!w.ask(brief, [11, 0, 1, 1]), "a stranger still");
    }

    #[test]
    fn what_is_open_stays_and_what_ends_makes_room() {
        let mut w = world();
        let (first, ip) = (PeerId::random(), [198, 51, 100, 7]);
        for _ in 0..SOURCE_OPEN_MAX {
            assert!(w.ask(first, ip));
            w.limits.opened(&first, &w.target, w.now);
        }
        assert!(!w.ask(first, ip), "one source has its share");
        w.limits.ended(&first, &w.target, w.now);
        assert!(w.ask(first, ip));
        // It never came about.
        w.now += ASKED_FOR;
        assert!(w.ask(first, ip));
        assert!(
            w.limits.admit(Source::new(first, ip.into()), &PeerId::random(), w.now),
            "not ours to refuse"
        );
    }

    #[test]
    fn what_is_denied_takes_nothing_from_what_is_open() {
        let mut w = world();
        let (source, ip) = (PeerId::random(), [198, 51, 100, 7]);
        assert!(w.ask(source, ip));
        w.limits.opened(&source, &w.target, w.now);
        w.now += KNOWN_AFTER;
        assert!(w.ask(source, ip), "a second one, which the device does not take");
        w.limits.denied(&source, &w.target);
        let circuits = &w.limits.targets[&w.target].circuits;
        assert!(matches!(circuits.as_slice(), [Circuit { open: true, .. }]), "{circuits:?}");
        assert!(w.limits.targets[&w.target].known.is_empty(), "nothing has ended");
        w.limits.denied(&source, &w.target);
        assert_eq!(w.limits.targets[&w.target].circuits.len(), 1, "an open one cannot be denied");

        assert!(w.ask(source, ip), "a third one is on its way while the first ends");
        w.limits.ended(&source, &w.target, w.now);
        let circuits = &w.limits.targets[&w.target].circuits;
        assert!(matches!(circuits.as_slice(), [Circuit { open: false, .. }]), "{circuits:?}");
        assert_eq!(w.limits.targets[&w.target].known[0].0, source, "it was kept for long");
    }

    #[test]
    fn nothing_grows_without_bound() {
        let mut w = world();
        for _ in 0..5 {
            w.flood(20_000);
            for n in 0..200 {
                w.now += MINUTE;
                let peer = PeerId::random();
                w.limits.reservation_ended(&PeerId::random());
                if w.ask(peer, [1, n, 1, 1]) {
                    w.limits.opened(&peer, &w.target, w.now);
                    w.limits.ended(&peer, &w.target, w.now + KNOWN_AFTER);
                }
            }
        }
        let target = &w.limits.targets[&w.target];
        assert!(target.circuits.len() <= STRANGERS_OPEN_MAX + KNOWN_OPEN_MAX);
        assert!(target.recent.len() <= STRANGERS_PER_MINUTE + KNOWN_MAX * KNOWN_PER_MINUTE);
        assert!(target.known.len() <= KNOWN_MAX);
        let target = w.target;
        w.limits.reservation_ended(&target);
        assert!(w.limits.targets.is_empty());
    }
}
