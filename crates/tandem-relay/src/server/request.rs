//! Requests: Binding, Allocate, Refresh, CreatePermission, ChannelBind.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use stun_types::attribute::{
    AttributeType, MessageIntegrity, MessageIntegritySha256, Nonce, Realm, Username, XorMappedAddress,
};
use stun_types::attribute::{ErrorCode, Fingerprint};
use stun_types::message::{BINDING, Message};
use stun_types::prelude::*;
use turn_types::AddressFamily;
use turn_types::attribute::{
    AdditionalAddressFamily, AddressErrorCode, ChannelNumber, DontFragment, EvenPort, Lifetime,
    RequestedAddressFamily, RequestedTransport, ReservationToken, XorPeerAddress, XorRelayedAddress,
};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH};

use super::allocation::{ALLOCATIONS_LIMIT, Heir, NewAllocation, RELAYED_PORT, Room, Slot, Standing};
use super::auth::{Authenticated, authenticate};
use super::reply::{ErrorKind, Signed, bare_error, binding_success, challenge};
use super::{DropReason, Server, Serving, Verdict};
use crate::client::ClientAddr;
use crate::config::Config;

/// Channel numbers: RFC 8656 §12 leaves clients 0x4000–0x4FFF, RFC 5766 §11 gave them all whose first two bits are 01,
/// and clients of both are about (coturn's picks at random from all of them, 0x7FFF with them). Nothing else begins
/// like that on this port.
const CHANNEL_NUMBERS: std::ops::RangeInclusive<u16> = 0x4000..=0x7fff;

/// A relay that is full says when to ask again: when its next allocation ends, within these bounds. A client that does
/// not know the hint waits a minute (RFC 8656 §7.4).
const RETRY_MIN: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(60);
const RETRY_WHEN_DRAINING: Duration = Duration::from_secs(600);

/// What has been used of a grant is forgotten after so many seconds at the latest.
const GRANT_MAX_S: u32 = 86_400;

/// Attributes that a STUN server must understand in a Binding request, and may ignore (RFC 8489 §14).
const KNOWN_IN_BINDING: &[AttributeType] = &[
    Username::TYPE,
    Realm::TYPE,
    Nonce::TYPE,
    MessageIntegrity::TYPE,
    MessageIntegritySha256::TYPE,
    Fingerprint::TYPE,
];

/// Attributes understood in requests with credentials. DONT-FRAGMENT is among them because packets are switched inside:
/// there is no IP packet that could be fragmented.
const KNOWN_IN_TURN: &[AttributeType] = &[
    Username::TYPE,
    Realm::TYPE,
    Nonce::TYPE,
    MessageIntegrity::TYPE,
    MessageIntegritySha256::TYPE,
    Fingerprint::TYPE,
    RequestedTransport::TYPE,
    RequestedAddressFamily::TYPE,
    AdditionalAddressFamily::TYPE,
    EvenPort::TYPE,
    ReservationToken::TYPE,
    DontFragment::TYPE,
    Lifetime::TYPE,
    ChannelNumber::TYPE,
    XorPeerAddress::TYPE,
];

impl Server {
    pub(super) fn handle_request(
        &mut self,
        request: &Message<'_>,
        from: &ClientAddr,
        now: Instant,
    ) -> Verdict {
        match request.method() {
            BINDING => self.handle_binding(request, from, now),
            ALLOCATE | REFRESH | CREATE_PERMISSION | CHANNEL_BIND if self.serving != Serving::Standby => {
                self.handle_turn(request, from, now)
            }
            // A method we do not know, or serve in standby, is ignored (RFC 8489 §6.3).
            _ => Verdict::Drop(DropReason::NotForUs),
        }
    }

    /// Binding needs no credentials: it is how a client learns its server-reflexive address. The answer is 12 bytes
    /// longer than the shortest request (24 over IPv6), which the limit on strangers makes worthless to reflect.
    fn handle_binding(&mut self, request: &Message<'_>, from: &ClientAddr, now: Instant) -> Verdict {
        let unknown = unknown_attributes(request, KNOWN_IN_BINDING);
        let reply = if unknown.is_empty() {
            binding_success(request, &XorMappedAddress::new(from.address(), request.transaction_id()))
        } else {
            bare_error(request, ErrorKind::UnknownAttribute, &unknown)
        };
        let verdict = self.answer_stranger(reply, from, now);
        self.stats.bindings += u64::from(matches!(verdict, Verdict::Reply(_)));
        verdict
    }

    fn handle_turn(&mut self, request: &Message<'_>, from: &ClientAddr, now: Instant) -> Verdict {
        let Config { credentials, realm, .. } = &self.config;
        let authenticated = match authenticate(request, credentials, realm, &self.nonces, from, now) {
            Ok(authenticated) => authenticated,
            Err(kind) => return self.refuse_stranger(request, kind, from, now),
        };
        if let Some(slot) = self.table.find(from) {
            self.table.get_mut(slot).last_heard = now;
        }
        let signed = Signed { request, key: &authenticated.key, algorithm: authenticated.algorithm };
        let unknown = unknown_attributes(request, KNOWN_IN_TURN);
        if !unknown.is_empty() {
            return Verdict::Reply(signed.unknown_attributes(&unknown));
        }
        let outcome = match request.method() {
            ALLOCATE => self.allocate(&signed, &authenticated, from, now),
            REFRESH => self.refresh(&signed, &authenticated, from, now),
            CREATE_PERMISSION => self.create_permission(&signed, &authenticated, from, now),
            _ => self.channel_bind(&signed, &authenticated, from, now),
        };
        Verdict::Reply(outcome.unwrap_or_else(|kind| {
            tracing::debug!(client = %from.address(), method = request.method().value(), code = kind.code(), "refused");
            match self.retry_after(kind, now) {
                Some(retry_after) => signed.error_for_now(kind, retry_after),
                None => signed.error(kind),
            }
        }))
    }

    /// When it makes sense to ask again: an allocation may have ended by then.
    fn retry_after(&self, kind: ErrorKind, now: Instant) -> Option<Duration> {
        let next = self.table.next_expiry().map_or(RETRY_MAX, |next| next.saturating_duration_since(now));
        match kind {
            ErrorKind::Full | ErrorKind::SourceFull => Some(next.clamp(RETRY_MIN, RETRY_MAX)),
            // It will not be back soon, if at all.
            ErrorKind::Draining => Some(RETRY_WHEN_DRAINING),
            _ => None,
        }
    }

    fn refuse_stranger(
        &mut self,
        request: &Message<'_>,
        kind: ErrorKind,
        from: &ClientAddr,
        now: Instant,
    ) -> Verdict {
        let reply = match kind {
            ErrorKind::Unauthenticated | ErrorKind::StaleNonce => {
                challenge(request, kind, &self.realm, &self.nonces.issue(from, now))
            }
            other => bare_error(request, other, &[]),
        };
        let verdict = self.answer_stranger(reply, from, now);
        self.stats.challenges += u64::from(matches!(verdict, Verdict::Reply(_)));
        verdict
    }

    /// The only packets anyone can draw without credentials pass here.
    fn answer_stranger(&mut self, reply: Vec<u8>, from: &ClientAddr, now: Instant) -> Verdict {
        if self.strangers.admit(from.source(), self.config.stranger_rate, now) {
            Verdict::Reply(reply)
        } else {
            Verdict::Drop(DropReason::StrangerLimit)
        }
    }

    // ---- Allocate (RFC 8656 §7.2) ---------------------------------------------------------------------------------

    fn allocate(
        &mut self,
        signed: &Signed<'_>,
        authenticated: &Authenticated,
        from: &ClientAddr,
        now: Instant,
    ) -> Result<Vec<u8>, ErrorKind> {
        self.table.forget_former(from);
        if let Some(slot) = self.table.find(from) {
            let existing = self.table.get(slot);
            let made_by = match (existing.standing(from), existing.heir()) {
                (Standing::Holder, _) => Some((existing.transaction, existing.username)),
                (Standing::Heir, Some(heir)) => Some((heir.transaction, heir.username)),
                _ => None,
            };
            return if made_by == Some((signed.request.transaction_id(), authenticated.username)) {
                Ok(self.allocated(signed, slot, from, now))
            } else {
                Err(ErrorKind::AllocationMismatch)
            };
        }
        let made = check_allocate_form(signed.request)
            .and_then(|()| self.make_room(authenticated, from, now))
            .map(|own| self.insert(signed.request, authenticated, from, own, now));
        match made {
            Ok(slot) => {
                self.stats.allocations_made += 1;
                Ok(self.allocated(signed, slot, from, now))
            }
            Err(kind) => {
                self.stats.allocations_refused += 1;
                Err(kind)
            }
        }
    }

    /// Everything that can stand in the way of a well-formed Allocate. What must go makes way; returns the allocation
    /// that the device has in this call already.
    fn make_room(
        &mut self,
        authenticated: &Authenticated,
        from: &ClientAddr,
        now: Instant,
    ) -> Result<Option<Slot>, ErrorKind> {
        let authorised = &authenticated.authorised;
        if authorised.not_after_s < self.unix_s(now) {
            return Err(ErrorKind::Unauthenticated);
        }
        let leaving = match self.table.room_in_call(authorised.tag, authorised.device, now) {
            Room::Free => None,
            // A relay that drains keeps what it has, wherever that moves to.
            Room::Own(slot) => return self.room_to_move(slot, from).map(|()| Some(slot)),
            Room::Instead(slot) => Some(slot),
            Room::Full => return Err(ErrorKind::QuotaReached),
        };
        if self.serving != Serving::Open {
            return Err(ErrorKind::Draining);
        }
        let leaving_source = leaving.map(|slot| self.table.get(slot).client.source());
        let staying = self.table.len() - usize::from(leaving.is_some());
        let of_source = self.table.count_of(from.source()) - u32::from(leaving_source == Some(from.source()));
        if staying >= self.config.allocations_max.min(ALLOCATIONS_LIMIT) {
            return Err(ErrorKind::Full);
        }
        if of_source >= self.config.allocations_per_source_max {
            return Err(ErrorKind::SourceFull);
        }
        if let Some(slot) = leaving {
            self.table.remove(slot);
        }
        Ok(None)
    }

    /// Whether the source of a newer 5-tuple has room; what the move frees there is counted.
    fn room_to_move(&self, slot: Slot, from: &ClientAddr) -> Result<(), ErrorKind> {
        let allocation = self.table.get(slot);
        let leaving = [Some(allocation.client), allocation.heir().map(|heir| heir.client)];
        let freed = leaving.into_iter().flatten().filter(|client| client.source() == from.source()).count();
        let of_source = self.table.count_of(from.source()) as usize - freed;
        if of_source >= self.config.allocations_per_source_max as usize {
            return Err(ErrorKind::SourceFull);
        }
        Ok(())
    }

    fn insert(
        &mut self,
        request: &Message<'_>,
        authenticated: &Authenticated,
        from: &ClientAddr,
        own: Option<Slot>,
        now: Instant,
    ) -> Slot {
        let lifetime = self.granted_lifetime(request.attribute::<Lifetime>().ok());
        let expires = now + lifetime.min(self.config.allocation_age_max);
        // The last second counts too.
        let grant_left_s =
            authenticated.authorised.not_after_s.saturating_sub(self.unix_s(now)).saturating_add(1);
        let grant_left_s = u32::try_from(grant_left_s).unwrap_or(u32::MAX).min(GRANT_MAX_S);
        if let Some(slot) = own {
            let heir = Heir {
                client: *from,
                username: authenticated.username,
                transaction: request.transaction_id(),
                quota_bytes: authenticated.authorised.quota_bytes,
                grant_left_s,
                created: now,
                expires,
            };
            self.table.set_heir(slot, heir);
            return slot;
        }
        let new = NewAllocation {
            client: *from,
            tag: authenticated.authorised.tag,
            device: authenticated.authorised.device,
            username: authenticated.username,
            transaction: request.transaction_id(),
            quota_bytes: authenticated.authorised.quota_bytes,
            grant_left_s,
            created: now,
            expires,
        };
        let random = self.random.next();
        let slot = self.table.insert(new, (random >> 32) as u32);
        self.stats.calls_made += u64::from(self.table.get(slot).has_partner());
        slot
    }

    fn allocated(&self, signed: &Signed<'_>, slot: Slot, from: &ClientAddr, now: Instant) -> Vec<u8> {
        let allocation = self.table.get(slot);
        let transaction = signed.request.transaction_id();
        let relayed = XorRelayedAddress::new(relayed_socket(allocation.relayed), transaction);
        let mapped = XorMappedAddress::new(from.address(), transaction);
        let lifetime = whole_seconds(allocation.expires.saturating_duration_since(now));
        if signed.request.has_attribute(AdditionalAddressFamily::TYPE) {
            let no_ipv6 =
                ErrorCode::new(440, "relayed addresses are IPv4").expect("440 is between 300 and 699");
            let refused = AddressErrorCode::new(AddressFamily::IPV6, no_ipv6);
            return signed.success(&[&relayed, &lifetime, &mapped, &refused]);
        }
        signed.success(&[&relayed, &lifetime, &mapped])
    }

    /// At least the default, at most the maximum, whatever was asked.
    fn granted_lifetime(&self, asked: Option<Lifetime>) -> Duration {
        let asked = asked.map_or(Duration::ZERO, |lifetime| Duration::from_secs(lifetime.seconds().into()));
        asked.min(self.config.lifetime_max).max(self.config.lifetime_default)
    }

    // ---- Refresh (RFC 8656 §8.2) ----------------------------------------------------------------------------------

    fn refresh(
        &mut self,
        signed: &Signed<'_>,
        authenticated: &Authenticated,
        from: &ClientAddr,
        now: Instant,
    ) -> Result<Vec<u8>, ErrorKind> {
        let (slot, standing) = self.own(authenticated, from)?;
        if signed.request.has_attribute(RequestedAddressFamily::TYPE)
            && requested_family(signed.request).is_err()
        {
            return Err(ErrorKind::FamilyMismatch);
        }
        let asked = signed.request.attribute::<Lifetime>().ok();
        if asked.as_ref().is_some_and(|lifetime| lifetime.seconds() == 0) {
            self.leave(slot, standing);
            return Ok(signed.success(&[&Lifetime::new(0)]));
        }
        let allocation = self.table.get(slot);
        if allocation.is_exhausted() {
            return Err(ErrorKind::QuotaReached);
        }
        let heir = allocation.heir().filter(|_| standing == Standing::Heir);
        let created = heir.map_or(allocation.created, |heir| heir.created);
        let expires = (now + self.granted_lifetime(asked)).min(created + self.config.allocation_age_max);
        match (standing, allocation.heir()) {
            (Standing::Heir, _) => self.table.refresh_heir(slot, expires),
            (_, Some(heir)) => self.table.set_expiry(slot, expires.max(heir.expires)),
            (_, None) => self.table.set_expiry(slot, expires),
        }
        Ok(signed.success(&[&whole_seconds(expires.saturating_duration_since(now))]))
    }

    /// A client gives up what it has: an heir its claim, a holder the allocation, to the heir if there is one.
    pub(super) fn leave(&mut self, slot: Slot, standing: Standing) {
        let heir_since = self.table.get(slot).heir().map(|heir| heir.created);
        match standing {
            Standing::Heir => self.table.drop_heir(slot),
            Standing::Holder => match heir_since {
                Some(since) => {
                    self.table.inherit(slot, since);
                }
                None => {
                    self.table.remove(slot);
                }
            },
            Standing::Former => {}
        }
    }

    // ---- CreatePermission (RFC 8656 §10) --------------------------------------------------------------------------

    fn create_permission(
        &mut self,
        signed: &Signed<'_>,
        authenticated: &Authenticated,
        from: &ClientAddr,
        now: Instant,
    ) -> Result<Vec<u8>, ErrorKind> {
        let (slot, standing) = self.own(authenticated, from)?;
        let partner = self.table.partner_address(slot);
        let mut peers = 0;
        for (_, raw) in
            signed.request.iter_attributes().filter(|(_, raw)| raw.get_type() == XorPeerAddress::TYPE)
        {
            let peer = XorPeerAddress::from_raw_ref(&raw).map_err(|_| ErrorKind::BadRequest)?;
            // Permissions are for an address with any port (RFC 8656 §9).
            only_partner(partner, peer.addr(signed.request.transaction_id()))?;
            peers += 1;
        }
        let Some(partner) = partner.filter(|_| peers > 0) else { return Err(ErrorKind::BadRequest) };
        self.take_over(slot, standing, now);
        self.table.get_mut(slot).permit(partner, now);
        self.table.advance(slot);
        Ok(signed.success(&[]))
    }

    // ---- ChannelBind (RFC 8656 §12.2) -----------------------------------------------------------------------------

    fn channel_bind(
        &mut self,
        signed: &Signed<'_>,
        authenticated: &Authenticated,
        from: &ClientAddr,
        now: Instant,
    ) -> Result<Vec<u8>, ErrorKind> {
        let (slot, standing) = self.own(authenticated, from)?;
        let request = signed.request;
        let number = request.attribute::<ChannelNumber>().map_err(|_| ErrorKind::BadRequest)?.channel();
        let peer = request.attribute::<XorPeerAddress>().map_err(|_| ErrorKind::BadRequest)?;
        if !CHANNEL_NUMBERS.contains(&number) {
            return Err(ErrorKind::BadRequest);
        }
        let peer = peer.addr(request.transaction_id());
        let partner = only_partner(self.table.partner_address(slot), peer)?;
        if peer.port() != RELAYED_PORT {
            return Err(ErrorKind::Forbidden);
        }
        self.take_over(slot, standing, now);
        let allocation = self.table.get_mut(slot);
        // One number for one peer. A number bound to a partner that has gone is free again.
        let bound = allocation.channel(now).filter(|channel| channel.peer == partner);
        if bound.is_some_and(|channel| channel.number != number) {
            return Err(ErrorKind::BadRequest);
        }
        allocation.bind(number, partner, now);
        self.table.advance(slot);
        Ok(signed.success(&[]))
    }

    fn take_over(&mut self, slot: Slot, standing: Standing, now: Instant) {
        if standing == Standing::Heir {
            self.table.inherit(slot, now);
        }
    }

    /// The client's allocation, if its user name is the one that made it. A former client has none.
    fn own(&self, authenticated: &Authenticated, from: &ClientAddr) -> Result<(Slot, Standing), ErrorKind> {
        let slot = self.table.find(from).ok_or(ErrorKind::AllocationMismatch)?;
        let allocation = self.table.get(slot);
        let standing = allocation.standing(from);
        let username = match (standing, allocation.heir()) {
            (Standing::Holder, _) => allocation.username,
            (Standing::Heir, Some(heir)) => heir.username,
            _ => return Err(ErrorKind::AllocationMismatch),
        };
        if username != authenticated.username {
            return Err(ErrorKind::WrongCredentials);
        }
        Ok((slot, standing))
    }
}

/// The whole of the closed policy: a peer is the partner, or it is nothing.
fn only_partner(partner: Option<Ipv4Addr>, peer: SocketAddr) -> Result<Ipv4Addr, ErrorKind> {
    match (partner, peer) {
        (_, SocketAddr::V6(_)) => Err(ErrorKind::FamilyMismatch),
        (Some(partner), SocketAddr::V4(peer)) if *peer.ip() == partner => Ok(partner),
        _ => Err(ErrorKind::Forbidden),
    }
}

fn check_allocate_form(request: &Message<'_>) -> Result<(), ErrorKind> {
    let transport = request.attribute::<RequestedTransport>().map_err(|_| ErrorKind::BadRequest)?;
    if transport.protocol() != RequestedTransport::UDP {
        return Err(ErrorKind::UnsupportedTransport);
    }
    let has = |attribute| request.has_attribute(attribute);
    let family = has(RequestedAddressFamily::TYPE);
    let additional = has(AdditionalAddressFamily::TYPE);
    let token = has(ReservationToken::TYPE);
    if (token && (has(EvenPort::TYPE) || family || additional)) || (family && additional) {
        return Err(ErrorKind::BadRequest);
    }
    // Every relayed port is even, so EVEN-PORT alone is granted. The one above it cannot be reserved: each allocation
    // has an address and one port.
    let reserve = has(EvenPort::TYPE)
        && request.attribute::<EvenPort>().map_err(|_| ErrorKind::BadRequest)?.requested();
    if token || reserve {
        return Err(ErrorKind::InsufficientCapacity);
    }
    if additional {
        let asked = request.attribute::<AdditionalAddressFamily>().map_err(|_| ErrorKind::BadRequest)?;
        if asked.family() != AddressFamily::IPV6 {
            return Err(ErrorKind::BadRequest);
        }
    }
    if family { requested_family(request) } else { Ok(()) }
}

fn requested_family(request: &Message<'_>) -> Result<(), ErrorKind> {
    match request.attribute::<RequestedAddressFamily>() {
        Ok(asked) if asked.family() == AddressFamily::IPV4 => Ok(()),
        _ => Err(ErrorKind::FamilyNotSupported),
    }
}

fn unknown_attributes(request: &Message<'_>, known: &[AttributeType]) -> Vec<AttributeType> {
    // A dozen names tell the client all it needs; the answer must not grow with the request.
    const NAMED_MAX: usize = 12;
    let types = request.iter_attributes().map(|(_, raw)| raw.get_type());
    types.filter(|name| name.comprehension_required() && !known.contains(name)).take(NAMED_MAX).collect()
}

fn relayed_socket(relayed: Ipv4Addr) -> SocketAddr {
    SocketAddr::new(relayed.into(), RELAYED_PORT)
}

fn whole_seconds(duration: Duration) -> Lifetime {
    Lifetime::new(u32::try_from(duration.as_secs()).unwrap_or(u32::MAX))
}
