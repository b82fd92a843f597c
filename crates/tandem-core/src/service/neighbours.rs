//! The supernodes this one knows of: bounded, verified, newest sequence only, spread over networks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tandem_proto::draw::{distance, position};
use tandem_proto::ids::ServiceKey;
use tandem_proto::network::network_group;
use tandem_proto::signed::{Roles, SupernodeDescriptor};

use super::Endpoint;
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
    backoff: Backoff,
    not_before_ms: u64,
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
            if descriptor.sequence() <= neighbour.descriptor.sequence() {
                return Noted::Known;
            }
            neighbour.descriptor = descriptor;
            neighbour.network = network;
            return Noted::Newer;
        }
        if !self.has_room_for(network, met) {
            return Noted::Refused;
        }
        let backoff = Backoff::new(2_000, 600_000);
        let neighbour = Neighbour { descriptor, network, met, backoff, not_before_ms: 0 };
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

    /// For somebody who asks: at most `limit` with all of `roles`, in random order; those we met first, and one of
    /// each network before a second of any.
    pub(super) fn sample(&self, roles: Roles, limit: usize, rng: &mut Rng) -> Vec<&SupernodeDescriptor> {
        let fitting = self.known.values().filter(|neighbour| neighbour.descriptor.roles().contains(roles));
        let mut fitting: Vec<_> =
            fitting.map(|neighbour| (!neighbour.met, rng.next_u64(), neighbour)).collect();
        fitting.sort_by_key(|(unmet, random, _)| (*unmet, *random));
        let mut networks = BTreeSet::new();
        let (first, again): (Vec<&Neighbour>, Vec<&Neighbour>) = fitting
            .into_iter()
            .map(|(_, _, neighbour)| neighbour)
            .partition(|neighbour| networks.insert(neighbour.network));
        first.into_iter().chain(again).take(limit).map(|neighbour| &neighbour.descriptor).collect()
    }

    /// Those nearest to a point of the directory.
    pub(super) fn nearest(&self, point: &[u8; 32], roles: Roles, limit: usize) -> Vec<&SupernodeDescriptor> {
        let fitting = self.descriptors().filter(|descriptor| descriptor.roles().contains(roles));
        let mut fitting: Vec<_> = fitting
            .map(|descriptor| (distance(&position(descriptor.service()), point), descriptor))
            .collect();
        fitting.sort_by_key(|(distance, _)| *distance);
        fitting.into_iter().take(limit).map(|(_, descriptor)| descriptor).collect()
    }

    /// Where newcomers are sent: a few with load to spare.
    pub(super) fn referrals(&self, limit: usize, rng: &mut Rng) -> Vec<&SupernodeDescriptor> {
        let mut sample = self.sample(Roles::DIRECTORY, limit * 2, rng);
        sample.sort_by_key(|descriptor| descriptor.load_percent());
        sample.truncate(limit);
        sample
    }

    pub(super) fn add_bootstrap(&mut self, endpoint: Endpoint) {
        let known = self.bootstrap.iter().any(|(other, ..)| other.service == endpoint.service);
        if !known && self.bootstrap.len() < BOOTSTRAP_MAX {
            self.bootstrap.push((endpoint, 0, Backoff::new(2_000, 60_000)));
        }
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
        }
        for (endpoint, not_before_ms, backoff) in &mut self.bootstrap {
            if endpoint.service == service {
                *not_before_ms = now.mono_ms + RETRY_MS_MIN + backoff.next_delay_ms(rng);
            }
        }
    }

    pub(super) fn succeeded(&mut self, service: ServiceKey) {
        if let Some(neighbour) = self.known.get_mut(&service) {
            neighbour.backoff.reset();
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
