//! One home stream, seen from the supernode: a device's, or another supernode's.

use std::net::IpAddr;

use tandem_proto::ids::{AccountKey, DeviceKey, ServiceKey};
use tandem_proto::network::network_group;

use crate::backoff::TokenBucket;
use crate::network::subnet;

/// How far a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The other's hello has not come yet.
    AwaitingHello,
    /// Hellos are exchanged; the other is a device.
    Device,
    /// Hellos are exchanged; the other showed a descriptor of its own key.
    Supernode,
}

/// A device that has not answered hello by then is dropped.
pub(super) const HELLO_MS_MAX: u64 = 10_000;
/// Nothing heard for this long: the stream is dead.
pub(super) const IDLE_MS_MAX: u64 = 30_000;
/// The same during a call.
pub(super) const IN_CALL_MS_MAX: u64 = 6_000;
/// Requests waiting for the directory, of one client.
pub(super) const PENDING_MAX: u8 = 4;
/// Frames beyond its allowance before a client is dropped.
const EXCESS_MAX: u8 = 40;

/// About 300 bytes.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// The key that authenticated the connection.
    pub(super) peer: [u8; 32],
    /// Where it is; absent when that is not known.
    pub(super) remote: Option<IpAddr>,
    /// Whom quotas are counted by; absent when the address is not known.
    pub(super) subnet: Option<u64>,
    /// The network group of its address; what it is told of depends on it.
    pub(super) network: Option<u32>,
    /// We opened it: we ask, the other answers.
    pub(super) outbound: bool,
    /// Outbound: only to bring an invitation.
    pub(super) for_invitation: bool,
    pub(super) phase: Phase,
    pub(super) reserved: bool,
    pub(super) in_call: bool,
    /// Whose device it is, from what it published.
    pub(super) account: Option<AccountKey>,
    opened_ms: u64,
    pub(super) heard_ms: u64,
    /// Its clock minus ours, in seconds, from its hello.
    pub(super) skew_s: i64,
    pub(super) pending: u8,
    excess: u8,
    frames: TokenBucket,
    pub(super) searches: TokenBucket,
    pub(super) lists: TokenBucket,
    /// Checks, notices of reserves, questions for the load.
    pub(super) errands: TokenBucket,
    /// Outbound: when to ask for supernodes, and how often we have.
    pub(super) ask_ms: u64,
    pub(super) asked: u32,
    /// Outbound: our answer still owed is to this request.
    pub(super) awaiting: Option<u64>,
}

/// How often one client is told of other supernodes: six times at once, then once in 15 s.
#[must_use]
pub fn lists(now_mono_ms: u64) -> TokenBucket {
    TokenBucket::new(6, 15_000, now_mono_ms)
}

impl Client {
    pub(super) fn new(peer: [u8; 32], remote: Option<IpAddr>, outbound: bool, now_mono_ms: u64) -> Self {
        Self {
            peer,
            remote,
            subnet: remote.map(subnet),
            network: remote.map(network_group),
            outbound,
            for_invitation: false,
            phase: Phase::AwaitingHello,
            reserved: false,
            in_call: false,
            account: None,
            opened_ms: now_mono_ms,
            heard_ms: now_mono_ms,
            skew_s: 0,
            pending: 0,
            excess: 0,
            frames: TokenBucket::new(40, 250, now_mono_ms),
            searches: TokenBucket::new(10, 2_000, now_mono_ms),
            lists: lists(now_mono_ms),
            errands: TokenBucket::new(12, 5_000, now_mono_ms),
            ask_ms: now_mono_ms,
            asked: 0,
            awaiting: None,
        }
    }

    pub(super) fn device(&self) -> DeviceKey {
        DeviceKey(self.peer)
    }

    pub(super) fn service(&self) -> ServiceKey {
        ServiceKey(self.peer)
    }

    /// `life_ms_max`: since it was opened, whatever is said on it.
    pub(super) fn expires_ms(&self, life_ms_max: u64) -> u64 {
        let patience_ms = match self.phase {
            Phase::AwaitingHello => HELLO_MS_MAX,
            _ if self.in_call => IN_CALL_MS_MAX,
            _ => IDLE_MS_MAX,
        };
        (self.heard_ms + patience_ms).min(self.opened_ms.saturating_add(life_ms_max))
    }

    /// One frame came. `Err(true)`: too many for too long, drop the client.
    pub(super) fn take_frame(&mut self, now_mono_ms: u64) -> Result<(), bool> {
        self.heard_ms = now_mono_ms;
        if self.frames.take(now_mono_ms) {
            self.excess = self.excess.saturating_sub(1);
            return Ok(());
        }
        self.excess = self.excess.saturating_add(1);
        Err(self.excess >= EXCESS_MAX)
    }

    pub(super) fn frame_wait_ms(&self, now_mono_ms: u64) -> u64 {
        self.frames.wait_ms(now_mono_ms)
    }
}
