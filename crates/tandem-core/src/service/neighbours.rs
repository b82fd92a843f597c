//! The supernodes this one knows of: bounded, verified, newest sequence only, spread over networks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tandem_proto::draw::{distance, position};
use tandem_proto::ids::ServiceKey;
use tandem_proto::network::network_group;
use tandem_proto::signed::{Roles, SupernodeDescriptor};

use super::Endpoint;
use super::view::{self, Asker, Known};
use crate::backoff::Backoff;
use crate::rng::Rng;
use crate::time::Now;

/// Supernodes remembered.
pub(super) const NEIGHBOURS_MAX: usize = 256;
/// Anybody can make keys; networks are dearer. At most this many from one network …
const PER_NETWORK_MAX: usize = 4;
/// … and this many more only while the table is emptier than this.
const SPARSE: usize = 32;
/// Bootstrap addresses remembered.
const BOOTSTRAP_MAX: usize = 16;

/// One other supernode.
#[derive(Debug, Clone)]
pub(super) struct Neighbour {
    pub(super) descriptor: SupernodeDescriptor,
    network: Option<u32>,
    /// It proved its key on a connection with us, so it exists.
    pub(super) met: bool,
    /// It could not be reached when it was last tried, or its stream ended, and nothing was heard of it since.
    missed: bool,
    backoff: Backoff,
    not_before_ms: u64,
}

impl Neighbour {
    /// As far as it matters for who is told of it.
    fn as_known(&self) -> Known<ServiceKey> {
        Known {
            key: self.descriptor.service(),
            network: self.network,
            met: self.met,
            missed: self.missed,
            load_percent: self.descriptor.load_percent(),
            // A sequence is the time of signing (spec/records.md).
            signed_unix_ms: self.descriptor.sequence(),
        }
    }
}

/// What became of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    New,
    Newer,
    Known,
    Refused,
}

/// All other supernodes known.
#[derive(Debug, Clone, Default)]
pub(super) struct Neighbours {
    known: BTreeMap<ServiceKey, Neighbour>,
    bootstrap: Vec<(Endpoint, u64, Backoff)>,
}

impl Neighbours {
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = &SupernodeDescriptor> {
        self.known.values().map(|neighbour| &neighbour.descriptor)
    }

    /// Remembers a verified descriptor if it is new, or newer than what is known.
    pub(super) fn note(&mut self, descriptor: SupernodeDescriptor, met: bool) -> Noted {
        let network = network_of(&descriptor);
        if let Some(neighbour) = self.known.get_mut(&descriptor.service()) {
            neighbour.met |= met;
            neighbour.missed &= !met;
            if descriptor.sequence() <= neighbour.descriptor.sequence() {
                return Noted::Known;
            }
            neighbour.descriptor = descriptor;
            neighbour.network = network;
            neighbour.missed = false;
            return Noted::Newer;
        }
        if !self.has_room_for(network, met) {
            return Noted::Refused;
        }
        let backoff = Backoff::new(2_000, 600_000);
        let neighbour = Neighbour { descriptor, network, met, missed: false, backoff, not_before_ms: 0 };
        self.known.insert(neighbour.descriptor.service(), neighbour);
        Noted::New
    }

    /// One that was met displaces one that was only heard of.
    fn has_room_for(&mut self, network: Option<u32>, met: bool) -> bool {
        let in_network = self.known.values().filter(|neighbour| neighbour.network == network).count();
        let crowded = in_network >= PER_NETWORK_MAX && self.known.len() >= SPARSE;
        if !crowded && self.known.len() < NEIGHBOURS_MAX {
            return true;
        }
        let replaceable =
            |neighbour: &Neighbour| !neighbour.met && (!crowded || neighbour.network == network);
        let victim =
            self.known.iter().find(|(_, neighbour)| met && replaceable(neighbour)).map(|(key, _)| *key);
        victim.is_some_and(|key| self.known.remove(&key).is_some())
    }

    /// Forgets what has expired.
    pub(super) fn forget_expired(&mut self, now: Now) {
        self.known.retain(|_, neighbour| neighbour.descriptor.check_time(now.unix_ms).is_ok());
    }

    pub(super) fn met(&self, service: ServiceKey) -> bool {
        self.known.get(&service).is_some_and(|neighbour| neighbour.met)
    }

    /// Some with all of `roles`, of those that this asker may learn of; those with room that we met first.
    pub(super) fn sample(
        &self,
        roles: Roles,
        limit: usize,
        asker: &Asker,
        rng: &mut Rng,
    ) -> Vec<&SupernodeDescriptor> {
        self.descriptors_of(view::sample(self.view(roles, asker), limit, rng))
    }

    /// Those nearest to a point of the directory, of what this asker may learn.
    pub(super) fn nearest(
        &self,
        point: &[u8; 32],
        roles: Roles,
        limit: usize,
        asker: &Asker,
    ) -> Vec<&SupernodeDescriptor> {
        let mut view = self.descriptors_of(self.view(roles, asker));
        view.sort_by_key(|descriptor| distance(&position(descriptor.service()), point));
        view.truncate(limit);
        view
    }

    /// Where newcomers are sent.
    pub(super) fn referrals(
        &self,
        limit: usize,
        asker: &Asker,
        rng: &mut Rng,
        now: Now,
    ) -> Vec<&SupernodeDescriptor> {
        self.descriptors_of(view::referrals(self.view(Roles::DIRECTORY, asker), limit, rng, now))
    }

    fn view(&self, roles: Roles, asker: &Asker) -> Vec<Known<ServiceKey>> {
        let fitting = self.known.values().filter(|neighbour| neighbour.descriptor.roles().contains(roles));
        asker.view(fitting.map(Neighbour::as_known))
    }

    fn descriptors_of(&self, shown: Vec<Known<ServiceKey>>) -> Vec<&SupernodeDescriptor> {
        let known = shown.iter().filter_map(|known| self.known.get(&known.key));
        known.map(|neighbour| &neighbour.descriptor).collect()
    }

    /// Where the list is full, the one that failed most often makes room.
    pub(super) fn add_bootstrap(&mut self, endpoint: Endpoint) {
        if self.bootstrap.iter().any(|(other, ..)| other.service == endpoint.service) {
            return;
        }
        if self.bootstrap.len() >= BOOTSTRAP_MAX {
            let failures = |at: &usize| self.bootstrap[*at].2.failures();
            let worst = (0..self.bootstrap.len()).filter(|at| failures(at) > 0).max_by_key(failures);
            let Some(worst) = worst else { return };
            self.bootstrap.remove(worst);
        }
        self.bootstrap.push((endpoint, 0, Backoff::new(2_000, 60_000)));
    }

    /// Whom to connect to next, never one of `linked`: any known one, or while none is linked the bootstrap list.
    pub(super) fn candidate(&self, linked: &[ServiceKey], rng: &mut Rng, now: Now) -> Option<Endpoint> {
        let free = |service: ServiceKey, not_before_ms: u64| {
            now.mono_ms >= not_before_ms && !linked.contains(&service)
        };
        let known = self.known.values().filter(|neighbour| {
            neighbour.descriptor.roles().contains(Roles::DIRECTORY)
                && free(neighbour.descriptor.service(), neighbour.not_before_ms)
        });
        let known = known.map(|neighbour| (rng.next_u64(), Endpoint::of(&neighbour.descriptor)));
        if let Some((_, endpoint)) = known.min_by_key(|(random, _)| *random) {
            return Some(endpoint);
        }
        let bootstrap = self.bootstrap.iter().filter(|(endpoint, not_before_ms, _)| {
            free(endpoint.service, *not_before_ms) && !self.known.contains_key(&endpoint.service)
        });
        bootstrap.map(|(endpoint, ..)| endpoint.clone()).next()
    }

    /// A connection to it failed or ended: it is left alone for a while.
    pub(super) fn failed(&mut self, service: ServiceKey, rng: &mut Rng, now: Now) {
        if let Some(neighbour) = self.known.get_mut(&service) {
            neighbour.not_before_ms = now.mono_ms + RETRY_MS_MIN + neighbour.backoff.next_delay_ms(rng);
            // One that cannot be reached any more is not recommended to others.
            neighbour.met &= neighbour.backoff.failures() < 3;
            neighbour.missed = true;
        }
        for (endpoint, not_before_ms, backoff) in &mut self.bootstrap {
            if endpoint.service == service {
                *not_before_ms = now.mono_ms + RETRY_MS_MIN + backoff.next_delay_ms(rng);
            }
        }
    }

    /// It may be gone. Others are recommended before it, until it is heard of.
    pub(super) fn miss(&mut self, service: ServiceKey) {
        if let Some(neighbour) = self.known.get_mut(&service) {
            neighbour.missed = true;
        }
    }

    pub(super) fn succeeded(&mut self, service: ServiceKey) {
        if let Some(neighbour) = self.known.get_mut(&service) {
            neighbour.backoff.reset();
            neighbour.missed = false;
        }
        for (endpoint, _, backoff) in &mut self.bootstrap {
            if endpoint.service == service {
                backoff.reset();
            }
        }
    }
}

/// Between attempts to reach the same supernode, at least.
const RETRY_MS_MIN: u64 = 500;

fn network_of(descriptor: &SupernodeDescriptor) -> Option<u32> {
    descriptor.known_addresses().map(|address| address.ip).next().map(|ip: IpAddr| network_group(ip))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use tandem_proto::identity::ServiceSecret;
    use tandem_proto::multiaddr::{Transport, TransportAddress};
    use tandem_proto::signed::NewDescriptor;

    use super::super::view::VIEW_DEVICES;
    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    const ALL: usize = 1_000;

    fn now(hours: u64) -> Now {
        Now { mono_ms: hours * HOUR_MS, unix_ms: 1_800_000_000_000 + hours * HOUR_MS }
    }

    /// Two supernodes in each network.
    fn descriptor(index: usize, load_percent: u32) -> SupernodeDescriptor {
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&index.to_be_bytes());
        let network = u16::try_from(index / 2).unwrap().to_be_bytes();
        let ip = Ipv4Addr::new(10 + network[0], network[1], 0, u8::try_from(index % 2 + 1).unwrap());
        let address = TransportAddress { ip: ip.into(), port: 7_700, transport: Transport::Quic };
        let new = NewDescriptor {
            sequence: 1,
            not_after_s: now(3).unix_ms / 1_000,
            roles: Roles::DIRECTORY,
            addresses: vec![address.to_bytes()],
            load_percent,
            ..NewDescriptor::default()
        };
        SupernodeDescriptor::issue(&ServiceSecret::from_seed(&seed), new).unwrap()
    }

    /// A supernode that has heard of 256 others, met a dozen of them.
    fn table(all: &[SupernodeDescriptor], seed: u64) -> Neighbours {
        let mut rng = Rng::new(seed);
        let mut neighbours = Neighbours::default();
        let mut order: Vec<(u64, usize)> = (0..all.len()).map(|index| (rng.next_u64(), index)).collect();
        order.sort_unstable();
        for (at, (_, index)) in order.into_iter().take(NEIGHBOURS_MAX).enumerate() {
            neighbours.note(all[index].clone(), at < 12);
        }
        neighbours
    }

    #[test]
    fn one_that_failed_makes_room_where_the_list_to_begin_from_is_full() {
        let all: Vec<SupernodeDescriptor> =
            (0..BOOTSTRAP_MAX + 2).map(|index| descriptor(index, 0)).collect();
        let mut neighbours = Neighbours::default();
        all[..=BOOTSTRAP_MAX].iter().for_each(|known| neighbours.add_bootstrap(Endpoint::of(known)));
        let listed = |neighbours: &Neighbours, at: usize| {
            neighbours.bootstrap.iter().any(|(endpoint, ..)| endpoint.service == all[at].service())
        };
        assert_eq!(neighbours.bootstrap.len(), BOOTSTRAP_MAX);
        assert!(!listed(&neighbours, BOOTSTRAP_MAX), "nobody makes room who has not failed");
        neighbours.failed(all[3].service(), &mut Rng::new(1), now(0));
        neighbours.add_bootstrap(Endpoint::of(&all[BOOTSTRAP_MAX + 1]));
        assert_eq!(neighbours.bootstrap.len(), BOOTSTRAP_MAX);
        assert!(listed(&neighbours, BOOTSTRAP_MAX + 1) && !listed(&neighbours, 3));
    }

    /// Asks each of these all day long, for everything there is to ask.
    fn learned_in_a_day(tables: &[Neighbours], network: u32, is_supernode: bool) -> usize {
        let mut learned = BTreeSet::new();
        let mut rng = Rng::new(1);
        for hour in (0..24).step_by(3) {
            let asker = Asker::new(Some(network), is_supernode, now(hour));
            for table in tables {
                learned
                    .extend(table.sample(Roles::DIRECTORY, 16, &asker, &mut rng).iter().map(|d| d.service()));
                learned.extend(
                    table.nearest(&[0xab; 32], Roles::DIRECTORY, 16, &asker).iter().map(|d| d.service()),
                );
                learned.extend(table.referrals(4, &asker, &mut rng, now(hour)).iter().map(|d| d.service()));
            }
        }
        learned.len()
    }

    #[test]
    fn an_enumerator_who_asks_hundreds_for_a_day_learns_a_part() {
        let all: Vec<SupernodeDescriptor> = (0..ALL).map(|index| descriptor(index, 40)).collect();
        let tables: Vec<Neighbours> = (0..300).map(|seed| table(&all, seed)).collect();
        let device = learned_in_a_day(&tables, 0x0a00, false);
        let supernode = learned_in_a_day(&tables, 0x0a00, true);
        let one = learned_in_a_day(&tables[..1], 0x0a00, false);
        println!("of {ALL}: {one} by asking one, {device} by asking 300, {supernode} posing as a supernode");
        assert!(one <= 2 * VIEW_DEVICES, "{one} by asking one supernode");
        assert!(device <= ALL * 3 / 10, "{device} by asking all of them");
        assert!(supernode <= ALL / 2, "{supernode} by asking all of them as a supernode");
        let elsewhere = learned_in_a_day(&tables, 0x0b00, false);
        assert!(elsewhere <= ALL * 3 / 10);
    }

    #[test]
    fn asking_again_teaches_nothing_and_networks_are_shown_different_parts() {
        let all: Vec<SupernodeDescriptor> = (0..ALL).map(|index| descriptor(index, 40)).collect();
        let table = table(&all, 1);
        let mut rng = Rng::new(1);
        let mut shown = |network: u32, hour: u64| {
            let asker = Asker::new(Some(network), false, now(hour));
            let sample = table.sample(Roles::DIRECTORY, 16, &asker, &mut rng);
            assert_eq!(sample.len(), 16);
            sample.into_iter().map(SupernodeDescriptor::service).collect::<Vec<ServiceKey>>()
        };
        let in_an_hour: BTreeSet<ServiceKey> = (0..240).flat_map(|_| shown(1, 0)).collect();
        assert!(in_an_hour.len() <= VIEW_DEVICES, "{} in an hour", in_an_hour.len());
        let in_a_day: BTreeSet<ServiceKey> = (0..24).flat_map(|hour| shown(1, hour)).collect();
        assert!(in_a_day.len() <= 2 * VIEW_DEVICES, "{} in a day", in_a_day.len());
        let together: BTreeSet<ServiceKey> = (0..40).flat_map(|network| shown(network, 0)).collect();
        assert!(together.len() > 100, "all networks are shown the same {}", together.len());
        let view = table.view(Roles::DIRECTORY, &Asker::new(Some(1), false, now(0)));
        let networks: BTreeSet<Option<u32>> = view.iter().map(|known| known.network).collect();
        assert_eq!(networks.len(), VIEW_DEVICES, "one of each network");
    }

    #[test]
    fn those_that_may_be_gone_are_shown_last_until_they_are_heard_of() {
        let mut neighbours = Neighbours::default();
        for index in 0..200 {
            neighbours.note(descriptor(index, 10), index < 12);
        }
        for index in 0..150 {
            neighbours.miss(descriptor(index, 10).service());
        }
        let asker = Asker::new(Some(1), false, now(0));
        let shown = |neighbours: &Neighbours| -> Vec<ServiceKey> {
            let sample = neighbours.sample(Roles::DIRECTORY, 16, &asker, &mut Rng::new(1));
            sample.into_iter().map(SupernodeDescriptor::service).collect()
        };
        let living: Vec<ServiceKey> = (150..200).map(|index| descriptor(index, 10).service()).collect();
        assert!(shown(&neighbours).iter().all(|service| living.contains(service)));
        for index in 0..150 {
            neighbours.note(descriptor(index, 10), true);
        }
        assert!(shown(&neighbours).iter().any(|service| !living.contains(service)), "they came back");
    }

    #[test]
    fn where_all_of_a_view_are_full_others_are_shown() {
        let mut neighbours = Neighbours::default();
        for index in 0..200 {
            neighbours.note(descriptor(index, if index < 150 { 90 } else { 10 }), false);
        }
        for network in 0..20 {
            let asker = Asker::new(Some(network), false, now(0));
            let shown = neighbours.sample(Roles::DIRECTORY, 16, &asker, &mut Rng::new(1));
            assert!(shown.iter().all(|descriptor| descriptor.load_percent() == 10));
        }
    }
}
