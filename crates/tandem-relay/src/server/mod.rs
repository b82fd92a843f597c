//! The server core. One call, [`Server::handle`], takes a packet where it lies and says what to do with it; nothing
//! here reads a clock or touches a socket.
//!
//! * `allocation` what is alive, and how to find it
//! * `auth`, `nonce` the long-term credential mechanism, stateless
//! * `request` Allocate, Refresh, CreatePermission, ChannelBind
//! * `switch` Send, Data and ChannelData: from one allocation to the other
//! * `route` the same for one thread of several, without asking the core for each packet
//! * `wheel` when allocations end
//! * `limits` rates
//! * `spent` what has been used of grants that were given back
//! * `reply` writing answers

mod allocation;
mod auth;
mod limits;
mod nonce;
mod reply;
mod request;
mod route;
mod spent;
mod stats;
mod switch;
mod wheel;

use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use stun_types::attribute::Realm;
use stun_types::message::{Message, MessageClass};
use tandem_proto::ids::{CallTag, DeviceKey};
use tandem_proto::leaving;

pub use self::route::Switch;
pub use self::stats::{DropReason, Stats};
pub use self::switch::{HEADROOM, TAILROOM};

use self::allocation::{RELAYED_PORT, Table};
use self::limits::{StrangerLimit, TotalRate};
use self::nonce::Nonces;
use self::route::Carried;
use crate::client::ClientAddr;
use crate::config::{Config, Rate};
use crate::framing::{Frame, first_frame};

/// Clients of a relay that drains are told so this often (spec/relay.md, "A relay that leaves").
const NOTICE_INTERVAL: Duration = Duration::from_secs(1);

/// What is to be done with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Send these bytes of the same buffer, in which the packet was rewritten, to the other end of the call.
    Forward {
        to: ClientAddr,
        packet: Range<usize>,
    },
    /// Send these bytes back to where the packet came from.
    Reply(Vec<u8>),
    Drop(DropReason),
}

/// Whom the server serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// Everybody with credentials.
    Open,
    /// Every new Allocate is refused with 508; what is there is kept.
    Draining,
    /// Binding is answered, so that others can see that the port is reached; any other request gets no answer, and there
    /// are no allocations.
    Standby,
}

/// One live allocation, for the owner's eyes (`tandem connections`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocationInfo {
    pub client: ClientAddr,
    /// The virtual relayed address.
    pub relayed: SocketAddrV4,
    pub tag: CallTag,
    pub device: Option<DeviceKey>,
    pub since: Instant,
    /// Application bytes received from this client, and sent to it; up to 100 ms old where threads switch.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Whether the other end of the call is here too.
    pub paired: bool,
}

/// The sans-IO STUN/TURN server.
#[derive(Debug)]
pub struct Server {
    config: Config,
    realm: Realm,
    nonces: Nonces,
    strangers: StrangerLimit,
    /// Of all that is forwarded.
    total: Arc<TotalRate>,
    random: SplitMix,
    table: Table,
    serving: Serving,
    /// While it drains: when its clients are told next.
    notice_at: Option<Instant>,
    /// What goes to clients unasked: one notice for each allocation at most.
    notices: VecDeque<(ClientAddr, [u8; leaving::BYTES])>,
    started: Instant,
    started_unix_s: u64,
    stats: Stats,
    /// What each switch of this server has done: one a thread.
    carried: Vec<Arc<Carried>>,
}

impl Server {
    /// Starts with nothing allocated. `seed` must be secret and fresh: nonces are made with it. `unix_s` is the time of
    /// day at `now` (seconds since 1970, UTC); from then on only the monotonic clock counts.
    ///
    /// # Panics
    /// If `config.realm` is longer than 127 bytes.
    #[must_use]
    pub fn new(config: Config, seed: [u8; 32], now: Instant, unix_s: u64) -> Self {
        let nonce_key = derive(&seed, b"nonce");
        let mut random = SplitMix(first_word(&derive(&seed, b"random")));
        Self {
            realm: Realm::new(&config.realm).expect("a realm is at most 127 bytes"),
            nonces: Nonces::new(nonce_key, config.nonce_lifetime, now),
            strangers: StrangerLimit::new(random.next(), now),
            total: Arc::new(TotalRate::new(config.total_rate, now)),
            random,
            table: Table::new(now),
            serving: Serving::Open,
            notice_at: None,
            notices: VecDeque::new(),
            started: now,
            started_unix_s: unix_s,
            stats: Stats::default(),
            carried: Vec::new(),
            config,
        }
    }

    /// Handles one packet: a datagram, or one message cut from a stream by [`first_frame`].
    ///
    /// The packet lies in `buffer[packet]` with at least [`HEADROOM`] bytes before it and [`TAILROOM`] behind it. What is
    /// forwarded is rewritten there, so that nothing is copied.
    ///
    /// # Panics
    /// If the buffer has not that room.
    pub fn handle(
        &mut self,
        buffer: &mut [u8],
        packet: Range<usize>,
        from: ClientAddr,
        now: Instant,
    ) -> Verdict {
        assert!(packet.start >= HEADROOM && packet.end + TAILROOM <= buffer.len(), "room around the packet");
        self.stats.packets_in += 1;
        // A process that was stopped finds packets before it finds the time to look at its clock.
        self.expire(now);
        let verdict = match first_frame(&buffer[packet.clone()]) {
            Frame::Whole(_) if buffer[packet.start] >= 0x40 => {
                self.handle_channel_data(buffer, packet, &from, now)
            }
            Frame::Whole(length) if length == packet.len() => self.handle_stun(buffer, packet, &from, now),
            // Over UDP the padding of ChannelData may be left out (RFC 8656 §12.5).
            Frame::Partial if buffer[packet.start] >= 0x40 => {
                self.handle_channel_data(buffer, packet, &from, now)
            }
            _ => Verdict::Drop(DropReason::Malformed),
        };
        match &verdict {
            Verdict::Forward { .. } => self.stats.packets_forwarded += 1,
            Verdict::Reply(_) => self.stats.replies += 1,
            Verdict::Drop(reason) => self.stats.dropped[*reason as usize] += 1,
        }
        verdict
    }

    fn handle_stun(
        &mut self,
        buffer: &mut [u8],
        packet: Range<usize>,
        from: &ClientAddr,
        now: Instant,
    ) -> Verdict {
        let Ok(message) = Message::from_bytes(&buffer[packet.clone()]) else {
            return Verdict::Drop(DropReason::Malformed);
        };
        match message.class() {
            MessageClass::Request => self.handle_request(&message, from, now),
            MessageClass::Indication => match switch::parse_send(&message) {
                Ok(send) => self.handle_send(buffer, packet.start, &send, from, now),
                Err(reason) => self.keep_alive(from, reason, now),
            },
            MessageClass::Success | MessageClass::Error => Verdict::Drop(DropReason::NotForUs),
        }
    }

    /// An indication without use to us is still a sign of life.
    fn keep_alive(&mut self, from: &ClientAddr, reason: DropReason, now: Instant) -> Verdict {
        if let Some(slot) = self.table.find(from) {
            self.table.get_mut(slot).last_heard = now;
        }
        Verdict::Drop(reason)
    }

    /// Gives less or more than at the start: allocations at once, and bytes of all calls together. What there is stays.
    pub fn set_limits(&mut self, allocations_max: usize, total_rate: Option<Rate>) {
        self.config.allocations_max = allocations_max;
        self.total.set(total_rate);
    }

    /// When [`Server::handle_timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let expiry = self.table.next_expiry();
        let notice = self.notice_at.filter(|_| self.table.len() > 0);
        [expiry, notice].into_iter().flatten().min()
    }

    /// Ends what has expired. Then fetch [`Server::poll_notice`] until it has no more.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.expire(now);
        if self.notice_at.is_some_and(|at| at <= now) {
            self.notice_at = Some(now + NOTICE_INTERVAL);
            self.notices.clear();
            for allocation in self.table.iter() {
                let [a, b] = [self.random.next(), self.random.next()].map(u64::to_be_bytes);
                let mut transaction = [0; 12];
                transaction[..8].copy_from_slice(&a);
                transaction[8..].copy_from_slice(&b[..4]);
                self.notices.push_back((allocation.client, leaving::notice(transaction)));
            }
        }
    }

    /// What is to be sent to a client that has not asked: that this relay drains.
    pub fn poll_notice(&mut self) -> Option<(ClientAddr, [u8; leaving::BYTES])> {
        self.notices.pop_front()
    }

    fn expire(&mut self, now: Instant) {
        if self.table.next_expiry().is_none_or(|next| next > now) {
            return;
        }
        for slot in self.table.due(now) {
            let ended = self.table.remove(slot);
            tracing::debug!(client = %ended.client.address(), "allocation expired");
        }
        self.table.look_ahead();
    }

    /// A TCP connection ended, and its allocation with it (RFC 8656 §3.1).
    pub fn disconnected(&mut self, client: &ClientAddr) {
        if let Some(slot) = self.table.find(client) {
            self.leave(slot, self.table.get(slot).standing(client));
        }
    }

    /// Whether this client holds an allocation.
    #[must_use]
    pub fn has_allocation(&self, client: &ClientAddr) -> bool {
        self.table.find(client).is_some()
    }

    /// Changes whom it serves. While it drains its clients are told. In standby at once nothing is left of what was
    /// allocated.
    pub fn set_serving(&mut self, serving: Serving, now: Instant) {
        self.serving = serving;
        self.notice_at = (serving == Serving::Draining).then(|| self.notice_at.unwrap_or(now));
        self.notices.clear();
        if serving == Serving::Standby {
            for slot in self.table.all() {
                self.table.remove(slot);
            }
        }
    }

    #[must_use]
    pub fn serving(&self) -> Serving {
        self.serving
    }

    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats =
            Stats { allocations: self.table.len(), calls: self.table.calls(), ..self.stats.clone() };
        self.carried.iter().for_each(|carried| carried.add_to(&mut stats));
        stats
    }

    /// All that is alive, in no particular order.
    pub fn allocations(&self) -> impl Iterator<Item = AllocationInfo> {
        self.table.iter().map(|allocation| AllocationInfo {
            client: allocation.client,
            relayed: SocketAddrV4::new(allocation.relayed, RELAYED_PORT),
            tag: allocation.tag,
            device: allocation.device,
            since: allocation.created,
            bytes_in: allocation.bytes_in,
            bytes_out: allocation.bytes_out,
            paired: allocation.has_partner(),
        })
    }

    fn unix_s(&self, now: Instant) -> u64 {
        self.started_unix_s.saturating_add(now.duration_since(self.started).as_secs())
    }
}

fn derive(seed: &[u8; 32], purpose: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(b"tandem relay seed 1")
        .chain_update(seed)
        .chain_update(purpose)
        .finalize()
        .into()
}

fn first_word(bytes: &[u8; 32]) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|i| bytes[i]))
}

/// SplitMix64: transaction numbers of Data indications and virtual addresses. Nothing secret comes from it.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}
