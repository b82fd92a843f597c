//! What candidates and reserves ask of a supernode (spec/election.md): to try and reach them, to remember them, and how
//! much it has to do.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use tandem_proto::ids::ServiceKey;
use tandem_proto::multiaddr::{Transport, TransportAddress};
use tandem_proto::names::{CheckCarrier, FailureCode};
use tandem_proto::network::network_group;
use tandem_proto::signed::ADDRESSES_MAX;
use tandem_proto::wire::home_frame::Body;
use tandem_proto::wire::{CheckRequest, Checked, Load, ReserveNoted, ReserveNotice};

use super::{ClientRef, Command, Endpoint, Service, shortened};
use crate::backoff::TokenBucket;
use crate::election::{Carrier, RESERVES_MAX};
use crate::rates::Rates;
use crate::time::Now;

/// Checks: in all so many at once, then one each …
const CHECKS_BURST: u32 = 32;
const CHECKS_REFILL_MS: u32 = 250;
/// … and of one /24 or /48.
const CHECKS_SUBNET_BURST: u32 = 32;
const CHECKS_SUBNET_REFILL_MS: u32 = 5_000;
/// Under way at once, in all and of one IP address.
const CHECKS_MAX: usize = 16;
const CHECKS_PER_IP_MAX: usize = 2;
/// The driver answers by then, or the check comes to nothing.
const CHECK_MS_MAX: u64 = 10_000;
/// Notices of one /24 or /48.
const NOTICES_BURST: u32 = 8;
const NOTICES_REFILL_MS: u32 = 30_000;
/// Notices the driver has not answered.
const NOTICES_MAX: usize = 64;
const NOTICE_MS_MAX: u64 = 5_000;
/// A reserve is remembered for this long after its last notice, as [`crate::election::Reserves`] does.
const RESERVE_MS: u64 = 2 * 60 * 60_000;
/// Nothing was tried: ask somebody else meanwhile.
const NOT_TRIED_MS: u64 = 10 * 60_000;

/// One way in to be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// Comes back with the answer.
    pub id: u64,
    /// Where the question came from, and the port to try there.
    pub at: SocketAddr,
    pub carrier: Carrier,
    /// Whose key must answer.
    pub service: ServiceKey,
    /// UDP only: where its relay must answer STUN.
    pub relay_port: Option<u16>,
}

/// What a [`Check`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckOutcome {
    Reached,
    /// It was tried, and that service did not answer there.
    NotReached(String),
    /// Nothing was learned: this node cannot try now, or not such an address.
    NotTried,
}

#[derive(Debug)]
struct Asked {
    client: ClientRef,
    id: u64,
    ip: IpAddr,
    until_ms: u64,
}

#[derive(Debug)]
struct Notice {
    client: ClientRef,
    id: u64,
    reserve: KnownReserve,
}

#[derive(Debug, Clone)]
struct KnownReserve {
    at: Endpoint,
    network: u32,
    heard_ms: u64,
}

/// Who asks, and the reserves known.
#[derive(Debug)]
pub(super) struct Candidates {
    all: TokenBucket,
    checks: Rates,
    notices: Rates,
    asked: BTreeMap<u64, Asked>,
    noticed: BTreeMap<u64, Notice>,
    /// Sorted by nothing: at most [`RESERVES_MAX`].
    reserves: Vec<KnownReserve>,
    last_id: u64,
}

impl Candidates {
    pub(super) fn new(now_mono_ms: u64) -> Self {
        Self {
            all: TokenBucket::new(CHECKS_BURST, CHECKS_REFILL_MS, now_mono_ms),
            checks: Rates::new(CHECKS_SUBNET_BURST, CHECKS_SUBNET_REFILL_MS),
            notices: Rates::new(NOTICES_BURST, NOTICES_REFILL_MS),
            asked: BTreeMap::new(),
            noticed: BTreeMap::new(),
            reserves: Vec::new(),
            last_id: 0,
        }
    }

    /// Everything that others told it. Answers of the driver to earlier questions change nothing any more.
    pub(super) fn forget_all(&mut self) {
        self.asked.clear();
        self.noticed.clear();
        self.reserves.clear();
    }

    /// Where a reserve is that announced itself.
    pub(super) fn reserve(&self, service: ServiceKey) -> Option<&Endpoint> {
        self.reserves.iter().find(|known| known.at.service == service).map(|known| &known.at)
    }

    /// It was invited, whatever came of that: if it lives, it will announce itself again.
    pub(super) fn forget_reserve(&mut self, service: ServiceKey) {
        self.reserves.retain(|known| known.at.service != service);
    }

    fn forget_old(&mut self, now_mono_ms: u64) {
        self.reserves.retain(|known| now_mono_ms < known.heard_ms + RESERVE_MS);
        self.checks.forget_full(now_mono_ms);
        self.notices.forget_full(now_mono_ms);
    }

    /// A check may begin now, or how long to wait.
    fn admit_check(&mut self, ip: IpAddr, subnet: Option<u64>, now_mono_ms: u64) -> Result<(), u64> {
        let of_ip = self.asked.values().filter(|asked| asked.ip == ip).count();
        if self.asked.len() >= CHECKS_MAX || of_ip >= CHECKS_PER_IP_MAX {
            return Err(BUSY_CHECKING_MS);
        }
        self.checks.take(subnet, now_mono_ms)?;
        if self.all.take(now_mono_ms) { Ok(()) } else { Err(self.all.wait_ms(now_mono_ms)) }
    }

    /// Nobody moves another's: a key stays in the network where it was announced first.
    fn is_elsewhere(&self, reserve: &KnownReserve) -> bool {
        let same = |known: &&KnownReserve| known.at.service == reserve.at.service;
        self.reserves.iter().find(same).is_some_and(|known| known.network != reserve.network)
    }

    fn remember(&mut self, reserve: KnownReserve) {
        self.forget_reserve(reserve.at.service);
        if self.reserves.len() >= RESERVES_MAX {
            let oldest = (0..self.reserves.len()).min_by_key(|&at| self.reserves[at].heard_ms);
            if let Some(at) = oldest {
                self.reserves.swap_remove(at);
            }
        }
        self.reserves.push(reserve);
    }
}

/// All who check are busy: again after about this.
const BUSY_CHECKING_MS: u64 = 2_000;

impl Service {
    // ---- checks ---------------------------------------------------------------------------------------------------

    pub(super) fn handle_check_request(
        &mut self,
        client: ClientRef,
        id: u64,
        request: &CheckRequest,
        now: Now,
    ) {
        let Some((ip, subnet)) = self.errand_of(client, id, now) else { return };
        let check = match parsed(request, ip) {
            Ok(check) => check,
            Err(detail) => return self.fail(client, id, FailureCode::Malformed, detail),
        };
        if let Err(wait_ms) = self.candidates.admit_check(ip, subnet, now.mono_ms) {
            self.busy(client, id, Some(wait_ms), now);
            return;
        }
        self.candidates.last_id += 1;
        let number = self.candidates.last_id;
        let asked = Asked { client, id, ip, until_ms: now.mono_ms + CHECK_MS_MAX };
        self.candidates.asked.insert(number, asked);
        self.figures.checks += 1;
        self.commands.push_back(Command::Check(Check { id: number, ..check }));
    }

    /// What came of a [`Command::Check`]. Late and unknown answers are ignored.
    pub fn handle_checked(&mut self, id: u64, outcome: CheckOutcome, now: Now) {
        let Some(asked) = self.candidates.asked.remove(&id) else { return };
        if self.clients.contains_key(&asked.client) {
            match outcome {
                CheckOutcome::Reached => self.checked(&asked, true, ""),
                CheckOutcome::NotReached(reason) => self.checked(&asked, false, &reason),
                CheckOutcome::NotTried => self.busy(asked.client, asked.id, Some(NOT_TRIED_MS), now),
            }
        }
        self.drive(now);
    }

    fn checked(&mut self, asked: &Asked, reached: bool, reason: &str) {
        let detail = shortened(reason).to_owned();
        self.send(asked.client, asked.id, Body::Checked(Checked { reached, detail }));
    }

    /// Takes one of the client's questions of this kind. Where it is and whose quota it uses, or it was told to wait.
    fn errand_of(&mut self, client: ClientRef, id: u64, now: Now) -> Option<(IpAddr, Option<u64>)> {
        let draining = self.reserving.is_draining();
        let state = self.clients.get_mut(&client)?;
        let (remote, subnet) = (state.remote, state.subnet);
        let wait_ms = match remote {
            Some(_) if !draining && state.errands.take(now.mono_ms) => None,
            Some(_) if !draining => Some(state.errands.wait_ms(now.mono_ms)),
            // Nobody knows where it is, or this node is about to leave.
            Some(_) | None => Some(NOT_TRIED_MS),
        };
        if let Some(wait_ms) = wait_ms {
            self.busy(client, id, Some(wait_ms), now);
            return None;
        }
        remote.map(|ip| (ip, subnet))
    }

    // ---- notices of reserves --------------------------------------------------------------------------------------

    pub(super) fn handle_reserve_notice(
        &mut self,
        client: ClientRef,
        id: u64,
        notice: &ReserveNotice,
        now: Now,
    ) {
        let Some((ip, subnet)) = self.errand_of(client, id, now) else { return };
        let reserve = match reserve_of(notice, ip, now.mono_ms) {
            Ok(reserve) if reserve.at.service != self.config.service => reserve,
            Ok(_) => {
                return self.fail(client, id, FailureCode::Malformed, "that is this supernode's own key");
            }
            Err(detail) => return self.fail(client, id, FailureCode::Malformed, detail),
        };
        if let Err(wait_ms) = self.candidates.notices.take(subnet, now.mono_ms) {
            self.busy(client, id, Some(wait_ms), now);
            return;
        }
        if self.candidates.noticed.len() >= NOTICES_MAX {
            self.busy(client, id, None, now);
            return;
        }
        if self.candidates.is_elsewhere(&reserve) {
            self.send(client, id, Body::ReserveNoted(ReserveNoted { kept: false }));
            return;
        }
        self.candidates.last_id += 1;
        let number = self.candidates.last_id;
        let (service, network) = (reserve.at.service, reserve.network);
        self.candidates.noticed.insert(number, Notice { client, id, reserve });
        self.figures.notices += 1;
        self.commands.push_back(Command::Announced { id: number, service, network });
    }

    /// Whether the reserve of a [`Command::Announced`] is remembered.
    pub fn handle_noted(&mut self, id: u64, kept: bool, now: Now) {
        let Some(notice) = self.candidates.noticed.remove(&id) else { return };
        if kept {
            self.candidates.remember(notice.reserve);
        }
        if self.clients.contains_key(&notice.client) {
            self.send(notice.client, notice.id, Body::ReserveNoted(ReserveNoted { kept }));
        }
        self.drive(now);
    }

    // ---- load -----------------------------------------------------------------------------------------------------

    pub(super) fn handle_load_request(&mut self, client: ClientRef, id: u64, now: Now) {
        if self.errand_of(client, id, now).is_some() {
            self.send(client, id, Body::Load(Load { load_percent: self.load_percent() }));
        }
    }

    // ---- time -----------------------------------------------------------------------------------------------------

    pub(super) fn drive_candidates(&mut self, now: Now) {
        self.candidates.forget_old(now.mono_ms);
        let late = self.candidates.asked.extract_if(.., |_, asked| now.mono_ms >= asked.until_ms);
        let late: Vec<Asked> = late.map(|(_, asked)| asked).collect();
        for asked in late.iter().filter(|asked| self.clients.contains_key(&asked.client)).collect::<Vec<_>>()
        {
            self.busy(asked.client, asked.id, Some(NOT_TRIED_MS), now);
        }
        let overdue = |notice: &Notice| now.mono_ms >= notice.reserve.heard_ms + NOTICE_MS_MAX;
        let late = self.candidates.noticed.extract_if(.., |_, notice| overdue(notice));
        let late: Vec<(ClientRef, u64)> = late.map(|(_, notice)| (notice.client, notice.id)).collect();
        for (client, id) in late {
            self.busy(client, id, None, now);
        }
    }

    /// A client is gone: nobody waits for its answers. Its checks are counted until they end.
    pub(super) fn forget_errands(&mut self, gone: ClientRef) {
        self.candidates.noticed.retain(|_, notice| notice.client != gone);
    }
}

/// A check as it may be tried, at the address it came from.
fn parsed(request: &CheckRequest, ip: IpAddr) -> Result<Check, &'static str> {
    let service =
        ServiceKey::try_from(request.service.as_slice()).map_err(|_| "a service key has 32 bytes")?;
    let port = port(request.port).ok_or("the port must be 443, or 1024 to 65535")?;
    let carrier = match CheckCarrier::from(request.carrier) {
        CheckCarrier::Udp => Carrier::Udp,
        CheckCarrier::Tcp => Carrier::Tcp,
        CheckCarrier::Other(_) => return Err("the carrier must be 1 or 2"),
    };
    let relay_port = match (request.relay_port, carrier) {
        (0, _) => None,
        (_, Carrier::Tcp) => return Err("a relay's port is checked over UDP"),
        (relay_port, Carrier::Udp) if relay_port == request.port => {
            return Err("the relay needs a port of its own");
        }
        (relay_port, Carrier::Udp) => {
            Some(self::port(relay_port).ok_or("the relay's port must be 443, or 1024 to 65535")?)
        }
    };
    let at = SocketAddr::new(ip.to_canonical(), port);
    Ok(Check { id: 0, at, carrier, service, relay_port })
}

/// No node listens on other privileged ports, and nobody is to be asked to try them.
fn port(port: u32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port == 443 || *port >= 1_024)
}

fn reserve_of(notice: &ReserveNotice, ip: IpAddr, now_mono_ms: u64) -> Result<KnownReserve, &'static str> {
    let service =
        ServiceKey::try_from(notice.service.as_slice()).map_err(|_| "a service key has 32 bytes")?;
    if notice.addresses.len() > ADDRESSES_MAX {
        return Err("a reserve has at most 8 addresses");
    }
    let ip = ip.to_canonical();
    let addresses: Vec<Vec<u8>> =
        notice.addresses.iter().filter(|address| is_kept(address, ip)).cloned().collect();
    if addresses.is_empty() {
        return Err("none of the addresses is where the notice came from");
    }
    let at = Endpoint { service, addresses };
    Ok(KnownReserve { at, network: network_group(ip), heard_ms: now_mono_ms })
}

/// Where the notice came from, or in the other family, where a connection must prove it.
fn is_kept(address: &[u8], from: IpAddr) -> bool {
    let Ok(address) = TransportAddress::from_bytes(address) else { return false };
    let ip = address.ip.to_canonical();
    matches!(address.transport, Transport::Quic | Transport::Tcp)
        && port(u32::from(address.port)).is_some()
        && (ip == from || ip.is_ipv4() != from.is_ipv4())
}
