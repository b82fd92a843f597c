//! Switching without the core: what one thread of a driver remembers of where each client's ChannelData goes.
//!
//! A route is learnt from the core and holds until the core changes anything about either end (`Generations`), or a
//! permission or channel runs out. So the data path asks one table of its own thread and reads one number that all
//! share; it locks nothing. Totals are right at any time; what each allocation has carried is told to the core every
//! [`SETTLE_INTERVAL`]. A grant's quota cannot be exceeded meanwhile: a route carries no more than a lease of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use super::allocation::{Allocation, Generations, Slot};
use super::limits::{Bucket, PACKET_COST_MIN, TotalRate};
use super::switch::{parse_channel_data, write_channel_data};
use super::{DropReason, Server, Stats, Verdict};
use crate::client::{ClientAddr, Link};
use crate::config::Rate;
use crate::framing::MESSAGE_BYTES_MAX;

/// A longer one is no voice, and the core's to drop.
const PAYLOAD_BYTES_MAX: u64 = MESSAGE_BYTES_MAX as u64 - 4;
/// How long what a thread has carried may be unknown to the core.
const SETTLE_INTERVAL: Duration = Duration::from_millis(100);
/// Routes that hold no more are thrown away this often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// And when there are more than so many for each allocation: a holder, a former one, and an older call's or two.
const ROUTES_AN_ALLOCATION: usize = 4;
/// A route takes so much of what a grant has left at most: the routes of both ends, and those that a former address or
/// another thread still holds, must not come to more than all of it.
const LEASE_SHARE: u64 = 8;
/// A smaller lease is not worth a route: the core counts the last packets of a grant itself.
const LEASE_BYTES_MIN: u64 = 4_096;
/// What a thread takes of the rate of all calls at a time, so that threads seldom write to the same place.
const TOTAL_LEASE_BYTES: u64 = 4_096;

/// A thread's own part of the switch. Clients that it does not know, and all that is not ChannelData, are the core's.
#[derive(Debug)]
pub struct Switch {
    index: HashMap<Key, u32, RandomState>,
    routes: Vec<Route>,
    /// Routes that have carried something since the core was told.
    unsettled: Vec<u32>,
    unsettled_since: Option<Instant>,
    next_sweep: Instant,
    carried: Arc<Carried>,
    generations: Generations,
    allocation_rate: Option<Rate>,
    total: Arc<TotalRate>,
    /// Bytes taken of the rate of all calls and not used yet.
    total_lease: u64,
}

/// A client, packed so that hashing it takes two words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    address: u128,
    port_and_link: u64,
}

/// Where one client's ChannelData goes.
#[derive(Debug)]
struct Route {
    key: Key,
    slot: Slot,
    /// Which allocation it was, of all that stood there.
    serial: u64,
    generation: u32,
    /// The client's channel, and the partner's.
    number: u16,
    onward: u16,
    to: ClientAddr,
    valid_until: Instant,
    bucket: Bucket,
    /// Bytes of the grants that may still be carried.
    lease: u64,
    /// Bytes since the core was told, if it has carried any packet since.
    bytes: u64,
    is_unsettled: bool,
}

/// What one switch has done since it was made. It alone writes; the core reads whenever it is asked for totals.
#[derive(Debug, Default)]
pub(super) struct Carried {
    forwarded: AtomicU64,
    bytes: AtomicU64,
    rate: AtomicU64,
    total_rate: AtomicU64,
}

impl Carried {
    /// With a single writer no read-modify-write is needed.
    fn add(counter: &AtomicU64, count: u64) {
        counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    pub(super) fn add_to(&self, stats: &mut Stats) {
        let [forwarded, bytes, rate, total_rate] =
            [&self.forwarded, &self.bytes, &self.rate, &self.total_rate]
                .map(|counter| counter.load(Ordering::Relaxed));
        stats.packets_in += forwarded + rate + total_rate;
        stats.packets_forwarded += forwarded;
        stats.bytes_forwarded += bytes;
        stats.dropped[DropReason::Rate as usize] += rate;
        stats.dropped[DropReason::TotalRate as usize] += total_rate;
    }
}

/// What a route is made of.
#[derive(Debug)]
pub(super) struct NewRoute {
    slot: Slot,
    serial: u64,
    number: u16,
    onward: u16,
    to: ClientAddr,
    valid_until: Instant,
    bucket: Bucket,
    lease: u64,
}

impl Key {
    fn of(client: &ClientAddr) -> Self {
        let address = match client.address().ip() {
            IpAddr::V4(ip) => u128::from(ip.to_bits()),
            // Never below 2³²: mapped addresses are written as IPv4, and nobody has one of ::/96.
            IpAddr::V6(ip) => ip.to_bits(),
        };
        let link = match client.link() {
            Link::Udp(socket) => u64::from(socket),
            Link::Tcp(connection) => 1 << 32 | u64::from(connection),
        };
        Self { address, port_and_link: link << 16 | u64::from(client.address().port()) }
    }
}

impl Switch {
    /// A switch for the packets of this server, which knows nobody yet.
    #[must_use]
    pub fn new(server: &mut Server, now: Instant) -> Self {
        let carried = Arc::new(Carried::default());
        server.carried.push(Arc::clone(&carried));
        Self {
            index: HashMap::default(),
            routes: Vec::new(),
            unsettled: Vec::new(),
            unsettled_since: None,
            next_sweep: now + SWEEP_INTERVAL,
            carried,
            generations: server.table.generations().clone(),
            allocation_rate: server.config.allocation_rate,
            total: Arc::clone(&server.total),
            total_lease: 0,
        }
    }

    /// Switches a packet as [`Server::handle`] would, if it is ChannelData of a client that is known here. `None`: the
    /// packet is as it was, and the core's to handle.
    pub fn handle(
        &mut self,
        buffer: &mut [u8],
        packet: Range<usize>,
        from: &ClientAddr,
        now: Instant,
    ) -> Option<Verdict> {
        let (number, payload) = parse_channel_data(buffer, packet)?;
        let index = *self.index.get(&Key::of(from))?;
        let route = &mut self.routes[index as usize];
        let bytes = payload.len() as u64;
        if route.number != number
            || bytes > PAYLOAD_BYTES_MAX
            || route.lease < bytes
            || now >= route.valid_until
            || self.generations.get(route.slot) != route.generation
        {
            return None;
        }
        self.unsettled_since.get_or_insert(now);
        let cost = payload.len().max(PACKET_COST_MIN);
        if self.allocation_rate.is_some_and(|rate| !route.bucket.take(cost, rate, now)) {
            Carried::add(&self.carried.rate, 1);
            return Some(Verdict::Drop(DropReason::Rate));
        }
        let cost = cost as u64;
        if self.total_lease < cost && self.total.is_limited() {
            let missing = cost - self.total_lease;
            if self.total.take(TOTAL_LEASE_BYTES.max(missing), now) {
                self.total_lease += TOTAL_LEASE_BYTES.max(missing);
            } else if self.total.take(missing, now) {
                self.total_lease += missing;
            } else {
                Carried::add(&self.carried.total_rate, 1);
                return Some(Verdict::Drop(DropReason::TotalRate));
            }
        }
        self.total_lease = self.total_lease.saturating_sub(cost);
        route.lease -= bytes;
        if !route.is_unsettled {
            route.is_unsettled = true;
            self.unsettled.push(index);
        }
        route.bytes += bytes;
        Carried::add(&self.carried.forwarded, 1);
        Carried::add(&self.carried.bytes, bytes);
        let packet = write_channel_data(buffer, payload, route.onward, route.to.is_stream());
        Some(Verdict::Forward { to: route.to, packet })
    }

    /// Remembers where this client's ChannelData goes. To be called after the core has forwarded some.
    pub fn learn(&mut self, server: &mut Server, from: &ClientAddr, now: Instant) {
        // What an older route of the same client has carried goes first.
        self.settle(server, now);
        let Some(new) = server.route(from, now) else { return };
        if self.routes.len() >= server.table.len() * ROUTES_AN_ALLOCATION {
            self.sweep(now);
        }
        let key = Key::of(from);
        let route = Route {
            key,
            generation: self.generations.get(new.slot),
            slot: new.slot,
            serial: new.serial,
            number: new.number,
            onward: new.onward,
            to: new.to,
            valid_until: new.valid_until,
            bucket: new.bucket,
            lease: new.lease,
            bytes: 0,
            is_unsettled: false,
        };
        if let Some(&index) = self.index.get(&key) {
            self.routes[index as usize] = route;
            return;
        }
        let index = u32::try_from(self.routes.len()).expect("fewer routes than 5-tuples of live allocations");
        self.routes.push(route);
        self.index.insert(key, index);
    }

    /// When [`Switch::settle`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.unsettled_since.map(|since| since + SETTLE_INTERVAL)
    }

    /// Tells the core what was carried, and forgets the routes that hold no more.
    pub fn settle(&mut self, server: &mut Server, now: Instant) {
        for index in self.unsettled.drain(..) {
            let route = &mut self.routes[index as usize];
            route.is_unsettled = false;
            server.settle(route, now);
            route.bytes = 0;
        }
        self.unsettled_since = None;
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_INTERVAL;
            self.sweep(now);
        }
    }

    fn sweep(&mut self, now: Instant) {
        let mut at = 0;
        while let Some(route) = self.routes.get(at) {
            if now < route.valid_until && self.generations.get(route.slot) == route.generation {
                at += 1;
                continue;
            }
            self.index.remove(&route.key);
            self.routes.swap_remove(at);
            if let Some(moved) = self.routes.get(at) {
                self.index.insert(moved.key, u32::try_from(at).expect("fewer than there were"));
            }
        }
        self.routes.shrink_to(self.routes.len() * 2);
        self.index.shrink_to(self.index.len() * 2);
    }
}

impl Server {
    /// Where this client's ChannelData goes, if the partner takes it as ChannelData too.
    fn route(&self, from: &ClientAddr, now: Instant) -> Option<NewRoute> {
        let slot = self.table.find(from)?;
        let sender = self.table.get(slot);
        let own = sender.channel_of(from, now)?;
        let partner = self.table.partner(slot).filter(|partner| partner.relayed == own.peer)?;
        let onward = partner.channel(now).filter(|channel| channel.peer == sender.relayed)?;
        let permitted_until = partner.permitted_until(sender.relayed)?;
        let alive_until = sender.expires.min(partner.expires);
        let valid_until = own.expires.min(onward.expires).min(permitted_until).min(alive_until);
        let lease = [sender, partner].map(Allocation::bytes_left).into_iter().flatten().min();
        let lease = lease.map_or(u64::MAX, |left| left / LEASE_SHARE);
        let worth_it = lease >= LEASE_BYTES_MIN && now < valid_until;
        worth_it.then_some(NewRoute {
            slot,
            serial: sender.serial,
            number: own.number,
            onward: onward.number,
            to: partner.client,
            valid_until,
            bucket: sender.bucket,
            lease,
        })
    }

    /// What a thread has carried on this route counts, unless the allocation has ended meanwhile.
    fn settle(&mut self, route: &Route, now: Instant) {
        if !self.table.is_alive(route.slot, route.serial) {
            return;
        }
        let (sender, partner) = self.table.pair_mut(route.slot);
        sender.last_heard = now;
        sender.bucket = route.bucket;
        sender.bytes_spent += route.bytes;
        sender.bytes_in += route.bytes;
        if let Some(partner) = partner {
            partner.bytes_spent += route.bytes;
            partner.bytes_out += route.bytes;
        }
    }
}
