//! Allocations, and the table that finds them: by client, by call, by expiry.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use stun_types::message::TransactionId;
use tandem_proto::ids::{CallTag, DeviceKey};

use super::limits::Bucket;
use super::spent::Spent;
use super::wheel::{Place, Wheel};
use crate::client::{ClientAddr, SourceNetwork};

/// How long a permission lasts (RFC 8656 §9).
pub(super) const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);
/// How long a channel binding lasts (RFC 8656 §12).
pub(super) const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);
/// A client that has not been heard for this long has gone: voice clients probe every few seconds.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The port of every relayed address. Each allocation has an IPv4 address to itself, so one port is enough.
pub(super) const RELAYED_PORT: u16 = 49_152;
/// 198.18.0.0/15, the network set aside for benchmarks (RFC 2544), which nothing on the Internet routes.
const VIRTUAL_NETWORK: u32 = u32::from_be_bytes([198, 18, 0, 0]);
const VIRTUAL_ADDRESSES: u32 = 1 << 17;

/// What a client sent before it heard that its newer 5-tuple has the allocation is still carried, for this long.
const FORMER_LIFETIME: Duration = Duration::from_secs(5);

/// Names an allocation while it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(u32);

/// How often something about each allocation or its partner has changed, for threads that remember where its packets
/// go (`route`). Every thread reads it; only the core writes, when a client asks for something or goes.
#[derive(Debug, Clone)]
pub(super) struct Generations(Arc<[AtomicU32]>);

impl Generations {
    fn new() -> Self {
        Self((0..ALLOCATIONS_LIMIT).map(|_| AtomicU32::new(0)).collect())
    }

    pub(super) fn get(&self, slot: Slot) -> u32 {
        self.0[slot.0 as usize].load(Ordering::Acquire)
    }

    fn advance(&self, slot: Slot) {
        self.0[slot.0 as usize].fetch_add(1, Ordering::AcqRel);
    }
}

/// Leave given to one peer address. A client has at most one partner, so there is never a second.
#[derive(Debug, Clone, Copy)]
struct Permission {
    peer: Ipv4Addr,
    pub(super) expires: Instant,
}

/// A channel number bound to the partner.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channel {
    pub(super) number: u16,
    pub(super) peer: Ipv4Addr,
    pub(super) expires: Instant,
}

/// A newer Allocate of the device that has the allocation, from another 5-tuple: it shares the relayed address, and has
/// the allocation with its first permission or channel. Until then the older 5-tuple has it, so that a client moves
/// without a gap, and one that raced UDP and TCP keeps the one it chooses.
#[derive(Debug)]
pub(super) struct Heir {
    pub(super) client: ClientAddr,
    pub(super) username: UsernameHash,
    pub(super) transaction: TransactionId,
    pub(super) quota_bytes: Option<u64>,
    pub(super) grant_left_s: u32,
    pub(super) created: Instant,
    pub(super) expires: Instant,
}

/// Who had the allocation until a moment ago.
#[derive(Debug, Clone, Copy)]
struct Former {
    client: ClientAddr,
    channel: Option<Channel>,
    until: Instant,
}

/// What a 5-tuple is to an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Holder,
    Heir,
    Former,
}

/// What is known when an allocation is made.
#[derive(Debug)]
pub(super) struct NewAllocation {
    pub(super) client: ClientAddr,
    pub(super) tag: CallTag,
    pub(super) device: Option<DeviceKey>,
    pub(super) username: UsernameHash,
    pub(super) transaction: TransactionId,
    pub(super) quota_bytes: Option<u64>,
    /// Seconds until the grant cannot make another allocation any more.
    pub(super) grant_left_s: u32,
    pub(super) created: Instant,
    pub(super) expires: Instant,
}

/// Which user name made the allocation (RFC 8656 §5: the same one must refresh it), in 16 bytes instead of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UsernameHash(pub(super) [u8; 16]);

/// One allocation (RFC 8656 §3.2).
#[derive(Debug)]
pub(super) struct Allocation {
    pub(super) client: ClientAddr,
    pub(super) relayed: Ipv4Addr,
    /// Never used twice by the same table.
    pub(super) serial: u64,
    pub(super) tag: CallTag,
    pub(super) device: Option<DeviceKey>,
    pub(super) username: UsernameHash,
    /// Of the Allocate that made it, to know a retransmission of it.
    pub(super) transaction: TransactionId,
    pub(super) created: Instant,
    pub(super) expires: Instant,
    pub(super) last_heard: Instant,
    /// Kept right by the table, as all that is found by client.
    heir: Option<Box<Heir>>,
    /// Whose it was, and until when what it sends is carried.
    former: Option<Former>,
    /// The other allocation of the call. Kept right by the table: it is always alive.
    partner: Option<Slot>,
    place: Place,
    permission: Option<Permission>,
    channel: Option<Channel>,
    pub(super) bucket: Bucket,
    pub(super) quota_bytes: Option<u64>,
    /// Seconds from `created` until the grant cannot make another allocation any more.
    grant_left_s: u32,
    pub(super) bytes_spent: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

impl Allocation {
    fn new(new: NewAllocation, relayed: Ipv4Addr, serial: u64, place: Place) -> Self {
        Self {
            client: new.client,
            relayed,
            serial,
            tag: new.tag,
            device: new.device,
            username: new.username,
            transaction: new.transaction,
            created: new.created,
            expires: new.expires,
            last_heard: new.created,
            heir: None,
            former: None,
            partner: None,
            place,
            permission: None,
            channel: None,
            bucket: Bucket::full(new.created),
            quota_bytes: new.quota_bytes,
            grant_left_s: new.grant_left_s,
            bytes_spent: 0,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// Installs or refreshes the permission for the partner (RFC 8656 §9).
    pub(super) fn permit(&mut self, peer: Ipv4Addr, now: Instant) {
        self.permission = Some(Permission { peer, expires: now + PERMISSION_LIFETIME });
    }

    /// Binds or refreshes a channel, which also permits its peer (RFC 8656 §12.2).
    pub(super) fn bind(&mut self, number: u16, peer: Ipv4Addr, now: Instant) {
        self.channel = Some(Channel { number, peer, expires: now + CHANNEL_LIFETIME });
        self.permit(peer, now);
    }

    /// Whether packets from and to this peer are permitted.
    pub(super) fn permits(&self, peer: Ipv4Addr, now: Instant) -> bool {
        self.permission.is_some_and(|permission| permission.peer == peer && now < permission.expires)
    }

    /// The channel that is bound now.
    pub(super) fn channel(&self, now: Instant) -> Option<Channel> {
        self.channel.filter(|channel| now < channel.expires)
    }

    /// What this 5-tuple, by which the allocation was found, is to it.
    pub(super) fn standing(&self, client: &ClientAddr) -> Standing {
        if self.client == *client {
            Standing::Holder
        } else if self.heir().is_some_and(|heir| heir.client == *client) {
            Standing::Heir
        } else {
            Standing::Former
        }
    }

    pub(super) fn heir(&self) -> Option<&Heir> {
        self.heir.as_deref()
    }

    /// Whether what this 5-tuple sends is carried.
    pub(super) fn takes_from(&self, client: &ClientAddr, now: Instant) -> bool {
        self.client == *client
            || self.former.is_some_and(|former| former.client == *client && now < former.until)
    }

    /// The peer of the channel of this number that this 5-tuple bound.
    pub(super) fn channel_peer(&self, number: u16, client: &ClientAddr, now: Instant) -> Option<Ipv4Addr> {
        self.channel_of(client, now).filter(|channel| channel.number == number).map(|channel| channel.peer)
    }

    /// The channel that this 5-tuple bound. A former one's ends with its time.
    pub(super) fn channel_of(&self, client: &ClientAddr, now: Instant) -> Option<Channel> {
        let channel = if self.client == *client {
            self.channel
        } else {
            let former = self.former.filter(|former| former.client == *client)?;
            former.channel.map(|channel| Channel { expires: channel.expires.min(former.until), ..channel })
        };
        channel.filter(|channel| now < channel.expires)
    }

    /// Until when packets from this peer are permitted.
    pub(super) fn permitted_until(&self, peer: Ipv4Addr) -> Option<Instant> {
        self.permission.filter(|permission| permission.peer == peer).map(|permission| permission.expires)
    }

    /// Bytes of the grant that have not been carried, if it is limited.
    pub(super) fn bytes_left(&self) -> Option<u64> {
        self.quota_bytes.map(|quota| quota.saturating_sub(self.bytes_spent))
    }

    pub(super) fn has_partner(&self) -> bool {
        self.partner.is_some()
    }

    /// Whether nobody would miss it: silent for long, or never used to permit anybody (as the probe that some clients
    /// leave behind).
    fn is_abandoned(&self, now: Instant) -> bool {
        let permits_somebody = self.permission.is_some_and(|permission| now < permission.expires);
        !permits_somebody || now.duration_since(self.last_heard) > SILENCE_MAX
    }

    /// Whether all the grant allows has been carried.
    pub(super) fn is_exhausted(&self) -> bool {
        self.quota_bytes.is_some_and(|quota| self.bytes_spent >= quota)
    }
}

/// All that is alive. The maps are only ever asked for one key: their order is nobody's to see.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Option<Allocation>>,
    free: Vec<Slot>,
    by_client: HashMap<ClientAddr, Slot>,
    /// One or two of each call.
    by_tag: HashMap<CallTag, (Slot, Option<Slot>)>,
    /// Allocations ever made.
    inserted: u64,
    wheel: Wheel,
    /// One bit for each virtual address: whether it is given away.
    addresses: Box<[u64]>,
    per_source: HashMap<SourceNetwork, u32>,
    spent: Spent,
    generations: Generations,
}

impl Table {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_client: HashMap::new(),
            by_tag: HashMap::new(),
            inserted: 0,
            wheel: Wheel::new(now),
            addresses: vec![0; VIRTUAL_ADDRESSES as usize / 64].into(),
            per_source: HashMap::new(),
            spent: Spent::default(),
            generations: Generations::new(),
        }
    }

    pub(super) fn generations(&self) -> &Generations {
        &self.generations
    }

    /// What threads remember of this allocation and of its partner holds no more.
    pub(super) fn advance(&self, slot: Slot) {
        self.generations.advance(slot);
        if let Some(partner) = self.get(slot).partner {
            self.generations.advance(partner);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Calls with both allocations alive.
    pub(super) fn calls(&self) -> usize {
        self.len() - self.by_tag.len()
    }

    pub(super) fn find(&self, client: &ClientAddr) -> Option<Slot> {
        self.by_client.get(client).copied()
    }

    pub(super) fn get(&self, slot: Slot) -> &Allocation {
        self.slots[slot.0 as usize].as_ref().expect("a slot names a live allocation")
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> &mut Allocation {
        self.slots[slot.0 as usize].as_mut().expect("a slot names a live allocation")
    }

    /// The allocation and the other one of its call, if that is there.
    pub(super) fn pair_mut(&mut self, slot: Slot) -> (&mut Allocation, Option<&mut Allocation>) {
        let Some(partner) = self.get(slot).partner else { return (self.get_mut(slot), None) };
        let [one, two] = self
            .slots
            .get_disjoint_mut([slot.0 as usize, partner.0 as usize])
            .expect("partners are two allocations of this table");
        (one.as_mut().expect("a slot names a live allocation"), two.as_mut())
    }

    /// The other allocation of the call.
    pub(super) fn partner(&self, slot: Slot) -> Option<&Allocation> {
        self.get(slot).partner.map(|partner| self.get(partner))
    }

    /// Its relayed address: the only peer there is.
    pub(super) fn partner_address(&self, slot: Slot) -> Option<Ipv4Addr> {
        self.partner(slot).map(|partner| partner.relayed)
    }

    /// Whether this very allocation still stands there.
    pub(super) fn is_alive(&self, slot: Slot, serial: u64) -> bool {
        self.slots[slot.0 as usize].as_ref().is_some_and(|allocation| allocation.serial == serial)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Allocation> {
        self.slots.iter().flatten()
    }

    /// Allocations alive of this network.
    pub(super) fn count_of(&self, source: SourceNetwork) -> u32 {
        self.per_source.get(&source).copied().unwrap_or(0)
    }

    /// Which allocation of the call must make room for a new one of this device, and whether there is room at all.
    pub(super) fn room_in_call(&self, tag: CallTag, device: Option<DeviceKey>, now: Instant) -> Room {
        let Some(&(first, second)) = self.by_tag.get(&tag) else { return Room::Free };
        let both = [Some(first), second];
        let mut present = both.into_iter().flatten();
        if let Some(device) = device {
            // A client that restarted is not locked out by what it left behind.
            if let Some(own) = present.find(|slot| self.get(*slot).device == Some(device)) {
                return Room::Own(own);
            }
            return if second.is_none() { Room::Free } else { Room::Full };
        }
        if second.is_none() {
            return Room::Free;
        }
        let abandoned = present.filter(|slot| self.get(*slot).is_abandoned(now));
        abandoned.min_by_key(|slot| self.get(*slot).created).map_or(Room::Full, Room::Instead)
    }

    /// Adds an allocation; the caller has made sure that there is room. `random` chooses its address, so that addresses
    /// tell nothing about how many there are.
    pub(super) fn insert(&mut self, new: NewAllocation, random: u32) -> Slot {
        let relayed = self.free_address(random);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot(u32::try_from(self.slots.len() - 1).expect("fewer allocations than virtual addresses"))
        });
        let place = self.wheel.insert(slot, new.expires);
        self.inserted += 1;
        let mut allocation = Allocation::new(new, relayed, self.inserted, place);
        if let Some(device) = allocation.device {
            allocation.bytes_spent = self.spent.take((allocation.tag, device), allocation.created);
        }
        self.by_client.insert(allocation.client, slot);
        *self.per_source.entry(allocation.client.source()).or_default() += 1;
        match self.by_tag.get_mut(&allocation.tag) {
            None => {
                self.by_tag.insert(allocation.tag, (slot, None));
            }
            Some((first, second)) => {
                assert!(second.is_none(), "a call has two allocations at most");
                *second = Some(slot);
                let first = *first;
                allocation.partner = Some(first);
                self.get_mut(first).partner = Some(slot);
            }
        }
        self.slots[slot.0 as usize] = Some(allocation);
        self.advance(slot);
        slot
    }

    /// A 5-tuple that allocates has nothing left of what it had.
    pub(super) fn forget_former(&mut self, client: &ClientAddr) {
        if let Some(slot) = self.find(client)
            && self.get(slot).standing(client) == Standing::Former
        {
            self.get_mut(slot).former = None;
            self.by_client.remove(client);
        }
    }

    /// A newer 5-tuple of the same device is to have this allocation. An older heir goes.
    pub(super) fn set_heir(&mut self, slot: Slot, heir: Heir) {
        self.drop_heir(slot);
        self.by_client.insert(heir.client, slot);
        *self.per_source.entry(heir.client.source()).or_default() += 1;
        let expires = self.get(slot).expires.max(heir.expires);
        self.get_mut(slot).heir = Some(Box::new(heir));
        self.set_expiry(slot, expires);
    }

    /// An heir, too, lives for as long as it is told, whether it joins soon or late.
    pub(super) fn refresh_heir(&mut self, slot: Slot, expires: Instant) {
        let allocation = self.get_mut(slot);
        let longest = allocation.expires.max(expires);
        if let Some(heir) = &mut allocation.heir {
            heir.expires = expires;
            self.set_expiry(slot, longest);
        }
    }

    pub(super) fn drop_heir(&mut self, slot: Slot) {
        if let Some(heir) = self.get_mut(slot).heir.take() {
            self.by_client.remove(&heir.client);
            self.leave_source(heir.client.source());
        }
    }

    /// The heir has the allocation now: relayed address, partner, permission and bytes spent stay; the channel's number
    /// was the older client's choice. `false` if there is no heir.
    pub(super) fn inherit(&mut self, slot: Slot, now: Instant) -> bool {
        let allocation = self.get_mut(slot);
        let Some(heir) = allocation.heir.take() else { return false };
        let before = std::mem::replace(&mut allocation.client, heir.client);
        let channel = allocation.channel.take();
        let former = Former { client: before, channel, until: now + FORMER_LIFETIME };
        let former = allocation.former.replace(former);
        allocation.username = heir.username;
        allocation.transaction = heir.transaction;
        allocation.quota_bytes = heir.quota_bytes;
        allocation.grant_left_s = heir.grant_left_s;
        allocation.created = heir.created;
        allocation.last_heard = now;
        if let Some(former) = former {
            self.by_client.remove(&former.client);
        }
        self.leave_source(before.source());
        self.set_expiry(slot, heir.expires);
        self.advance(slot);
        true
    }

    fn leave_source(&mut self, source: SourceNetwork) {
        if let Some(count) = self.per_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&source);
            }
        }
    }

    /// Takes an allocation out of every index.
    pub(super) fn remove(&mut self, slot: Slot) -> Allocation {
        self.advance(slot);
        self.drop_heir(slot);
        let allocation = self.slots[slot.0 as usize].take().expect("a slot names a live allocation");
        self.free.push(slot);
        if let Some(device) = allocation.device.filter(|_| allocation.quota_bytes.is_some()) {
            let until = allocation.created + Duration::from_secs(allocation.grant_left_s.into());
            self.spent.put((allocation.tag, device), allocation.bytes_spent, until);
        }
        self.by_client.remove(&allocation.client);
        if let Some(former) = allocation.former {
            self.by_client.remove(&former.client);
        }
        self.leave_wheel(allocation.place);
        let (word, bit) = address_bit(allocation.relayed);
        self.addresses[word] &= !bit;
        self.leave_source(allocation.client.source());
        match allocation.partner {
            None => {
                self.by_tag.remove(&allocation.tag);
            }
            Some(partner) => {
                self.by_tag.insert(allocation.tag, (partner, None));
                self.get_mut(partner).partner = None;
            }
        }
        allocation
    }

    pub(super) fn set_expiry(&mut self, slot: Slot, expires: Instant) {
        self.leave_wheel(self.get(slot).place);
        let place = self.wheel.insert(slot, expires);
        let allocation = self.get_mut(slot);
        allocation.expires = expires;
        allocation.place = place;
    }

    fn leave_wheel(&mut self, place: Place) {
        if let Some(moved) = self.wheel.remove(place) {
            self.get_mut(moved).place = place;
        }
    }

    /// When [`Table::due`] may have something next.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.wheel.earliest().filter(|_| self.len() > 0)
    }

    /// Those whose time is up. The caller removes them, and then calls [`Table::look_ahead`].
    pub(super) fn due(&mut self, now: Instant) -> Vec<Slot> {
        let mut candidates = self.wheel.candidates(now);
        candidates.retain(|&slot| {
            let expires = self.get(slot).expires;
            if expires > now {
                self.set_expiry(slot, expires);
            }
            expires <= now
        });
        candidates
    }

    /// Every allocation, to be removed.
    pub(super) fn all(&self) -> Vec<Slot> {
        let slots = (0..).zip(&self.slots);
        slots.filter(|(_, allocation)| allocation.is_some()).map(|(number, _)| Slot(number)).collect()
    }

    /// Finds out who ends next.
    pub(super) fn look_ahead(&mut self) {
        let Self { wheel, slots, .. } = self;
        wheel.look_ahead(|slot| {
            slots[slot.0 as usize].as_ref().expect("a slot in the wheel names a live allocation").expires
        });
    }

    fn free_address(&mut self, random: u32) -> Ipv4Addr {
        // Neither the first nor the last address of the network is a host's.
        let hosts = VIRTUAL_ADDRESSES - 2;
        // At most half of them are taken, so the first free one is near.
        let address = (0..hosts)
            .map(|step| Ipv4Addr::from(VIRTUAL_NETWORK + 1 + (random % hosts + step) % hosts))
            .find(|address| {
                let (word, bit) = address_bit(*address);
                self.addresses[word] & bit == 0
            })
            .expect("fewer allocations than virtual addresses");
        let (word, bit) = address_bit(address);
        self.addresses[word] |= bit;
        address
    }
}

fn address_bit(address: Ipv4Addr) -> (usize, u64) {
    let number = address.to_bits() - VIRTUAL_NETWORK;
    (number as usize / 64, 1 << (number % 64))
}

/// Whether a call has room for one more allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    /// The device has this one already: it moves there.
    Own(Slot),
    /// Yes, if this one goes.
    Instead(Slot),
    Full,
}

/// The most allocations there can be.
pub(super) const ALLOCATIONS_LIMIT: usize = VIRTUAL_ADDRESSES as usize / 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_stays_small() {
        // A relay of a small machine holds thousands; with its entries in the table each takes under 1,000 bytes.
        assert!(size_of::<Allocation>() <= 400, "{} bytes", size_of::<Allocation>());
    }
}
