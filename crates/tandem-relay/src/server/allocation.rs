//! Allocations, and the table that finds them: by client, by call, by expiry.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use stun_types::message::TransactionId;
use tandem_proto::ids::{CallTag, DeviceKey};

use super::limits::Bucket;
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

/// Leave given to one peer address. A client has at most one partner, so there is never a second.
#[derive(Debug, Clone, Copy)]
struct Permission {
    peer: Ipv4Addr,
    expires: Instant,
}

/// A channel number bound to the partner.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channel {
    pub(super) number: u16,
    pub(super) peer: Ipv4Addr,
    expires: Instant,
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
    permission: Option<Permission>,
    channel: Option<Channel>,
    pub(super) bucket: Bucket,
    pub(super) quota_bytes: Option<u64>,
    pub(super) bytes_spent: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

impl Allocation {
    fn new(new: NewAllocation, relayed: Ipv4Addr) -> Self {
        Self {
            client: new.client,
            relayed,
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
            permission: None,
            channel: None,
            bucket: Bucket::full(new.created),
            quota_bytes: new.quota_bytes,
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
        let channel = if self.client == *client {
            self.channel
        } else {
            let former = self.former.filter(|former| former.client == *client && now < former.until);
            former.and_then(|former| former.channel)
        };
        let live = |channel: &Channel| now < channel.expires && channel.number == number;
        channel.filter(live).map(|channel| channel.peer)
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

/// All that is alive. The maps without an order are only ever asked for one key.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Option<Allocation>>,
    free: Vec<Slot>,
    by_client: HashMap<ClientAddr, Slot>,
    /// One or two of each call.
    by_tag: BTreeMap<CallTag, (Slot, Option<Slot>)>,
    by_expiry: BTreeSet<(Instant, Slot)>,
    addresses: BTreeSet<Ipv4Addr>,
    per_source: BTreeMap<SourceNetwork, u32>,
}

impl Table {
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

    /// The relayed address of the other allocation of the call: the only peer there is.
    pub(super) fn partner_address(&self, slot: Slot) -> Option<Ipv4Addr> {
        self.get(slot).partner.map(|partner| self.get(partner).relayed)
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
        let mut allocation = Allocation::new(new, relayed);
        self.by_client.insert(allocation.client, slot);
        self.by_expiry.insert((allocation.expires, slot));
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
        allocation.created = heir.created;
        allocation.last_heard = now;
        if let Some(former) = former {
            self.by_client.remove(&former.client);
        }
        self.leave_source(before.source());
        self.set_expiry(slot, heir.expires);
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
        self.drop_heir(slot);
        let allocation = self.slots[slot.0 as usize].take().expect("a slot names a live allocation");
        self.free.push(slot);
        self.by_client.remove(&allocation.client);
        if let Some(former) = allocation.former {
            self.by_client.remove(&former.client);
        }
        self.by_expiry.remove(&(allocation.expires, slot));
        self.addresses.remove(&allocation.relayed);
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
        let allocation = self.get_mut(slot);
        let before = std::mem::replace(&mut allocation.expires, expires);
        self.by_expiry.remove(&(before, slot));
        self.by_expiry.insert((expires, slot));
    }

    pub(super) fn next_expiry(&self) -> Option<(Instant, Slot)> {
        self.by_expiry.first().copied()
    }

    fn free_address(&mut self, random: u32) -> Ipv4Addr {
        // Neither the first nor the last address of the network is a host's.
        let hosts = VIRTUAL_ADDRESSES - 2;
        let address = (0..hosts)
            .map(|step| Ipv4Addr::from(VIRTUAL_NETWORK + 1 + (random % hosts + step) % hosts))
            .find(|address| !self.addresses.contains(address))
            .expect("fewer allocations than virtual addresses");
        self.addresses.insert(address);
        address
    }
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
