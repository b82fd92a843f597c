//! What this supernode does in the directory: storing, reading back, looking up.
//!
//! libp2p's kad answers others and keeps the routing table. Asking is our own: its queries rank whoever is named by
//! distance alone, and anybody can make keys that are nearest ([`tandem_core::walk`]).

pub(super) mod messages;
pub(super) mod routing;
mod seen;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use libp2p::kad::{self, Record, RecordKey};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use tandem_core::walk::{Candidate, NAMES_MAX, Position, Walk};
use tandem_proto::ids::{AccountKey, ServiceKey};
use tandem_proto::names::NetworkId;
use tandem_proto::network::network_group;
use tandem_proto::record::ReachRecord;

use self::messages::KadMessage;
use self::routing::Kad;
use self::seen::Seen;
use super::ServiceEvent;
use super::address::{PublicAddresses, ip_of, is_plain, key_of, service_peer};
use super::record_store::{Refused, join, verify};
use super::routable::routable;

/// Supernodes that keep each record.
const REPLICATION: NonZeroUsize = NonZeroUsize::new(5).expect("5 is not 0");
/// Answers after which a lookup is done.
const ANSWERS_ENOUGH: u32 = 3;
const OPERATIONS_MAX: usize = 1024;
/// A walk that has not arrived by then goes on with those that answered.
const WALK_TIMEOUT: Duration = Duration::from_secs(8);
/// One question, connecting included.
const ASK_TIMEOUT: Duration = Duration::from_secs(4);
/// Addresses of one candidate that are dialled.
const DIALLED_MAX: usize = 2;

/// A question to one supernode.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) id: u64,
    pub(super) peer: PeerId,
    /// Network group that it must speak from.
    pub(super) network: u32,
    /// All of that network.
    pub(super) addresses: Vec<Multiaddr>,
    pub(super) message: KadMessage,
}

/// Operations under way.
pub(super) struct Directory {
    network: NetworkId,
    local: PeerId,
    public: PublicAddresses,
    operations: BTreeMap<u64, Operation>,
    asked: BTreeMap<u64, Asked>,
    asks: VecDeque<Ask>,
    last: u64,
    seen: Seen,
}

/// One record on its way to those who keep it, or one that is looked for.
struct Operation {
    request: u64,
    key: RecordKey,
    walk: Walk,
    /// Where the candidates are.
    places: BTreeMap<Candidate, Vec<Multiaddr>>,
    kind: Kind,
    /// The walk ends by then.
    until: Instant,
}

enum Kind {
    Put(Put),
    Get(Get),
}

struct Put {
    record: ReachRecord,
    /// Once the walk has arrived.
    copying: Option<Copying>,
}

/// Sending the record, and asking who has it now.
struct Copying {
    left: usize,
    copies: u32,
}

struct Get {
    account: AccountKey,
    found: Option<ReachRecord>,
    answers: u32,
}

/// A question under way.
struct Asked {
    operation: u64,
    candidate: Candidate,
    what: What,
    until: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// On the way: who is nearer, and whether it has the record that is looked for.
    Walk,
    Store,
    ReadBack,
}

type Outbox = VecDeque<ServiceEvent>;

impl Directory {
    pub(super) fn new(network: NetworkId, local: PeerId, public: PublicAddresses) -> Self {
        Self {
            network,
            local,
            public,
            operations: BTreeMap::new(),
            asked: BTreeMap::new(),
            asks: VecDeque::new(),
            last: 0,
            seen: Seen::default(),
        }
    }

    // ---- storing and looking up ------------------------------------------------------------------------------------

    pub(super) fn put(
        &mut self,
        kad: &mut Kad,
        (request, account, value): (u64, AccountKey, &[u8]),
        unix_ms: u64,
        out: &mut Outbox,
    ) {
        let key = self.key(account);
        let checked = verify(&self.network, &key, value, unix_ms)
            .and_then(|record| self.join_known(kad, &key, record, unix_ms));
        match checked {
            Ok(record) if self.operations.len() < OPERATIONS_MAX => {
                self.seen.note(&record);
                self.begin(kad, request, key, Kind::Put(Put { record, copying: None }), unix_ms, out);
            }
            Ok(_) => out.push_back(ServiceEvent::Stored { request, copies: 0 }),
            Err(refused) => {
                out.push_back(ServiceEvent::RecordRefused { from: None, reason: refused.to_string() });
                out.push_back(ServiceEvent::Stored { request, copies: 0 });
            }
        }
    }

    /// With what is stored here and what was seen in lookups.
    fn join_known(
        &self,
        kad: &mut Kad,
        key: &RecordKey,
        record: ReachRecord,
        unix_ms: u64,
    ) -> Result<ReachRecord, Refused> {
        let stored = kad.store_mut().verified(key, record.account(), unix_ms);
        let seen = self.seen.get(record.account()).cloned();
        stored.into_iter().chain(seen).try_fold(record, |record, known| join(&known, &record))
    }

    pub(super) fn get(
        &mut self,
        kad: &mut Kad,
        (request, account): (u64, AccountKey),
        unix_ms: u64,
        out: &mut Outbox,
    ) {
        if self.operations.len() >= OPERATIONS_MAX {
            out.push_back(ServiceEvent::Found { request, value: None, answers: 0, done: true });
            return;
        }
        let key = self.key(account);
        let stored = kad.store_mut().verified(&key, account, unix_ms);
        let mut get = Get { account, found: None, answers: 0 };
        if let Some(record) = stored {
            // Its own copy is an answer like others'; one is never enough.
            self.found(&mut get, request, record, out);
        }
        self.begin(kad, request, key, Kind::Get(get), unix_ms, out);
    }

    // ---- the walk --------------------------------------------------------------------------------------------------

    fn begin(
        &mut self,
        kad: &mut Kad,
        request: u64,
        key: RecordKey,
        kind: Kind,
        unix_ms: u64,
        out: &mut Outbox,
    ) {
        let target = kad::KBucketKey::new(key.clone());
        let mut walk = Walk::new(position(&target));
        let mut places = BTreeMap::new();
        for known in kad.find_closest_local_peers(&target, &self.local) {
            if let Some((candidate, at)) = self.candidate(known.node_id, known.multiaddrs) {
                walk.know(candidate, &position_of(known.node_id));
                places.insert(candidate, at);
            }
        }
        let until = Instant::now() + WALK_TIMEOUT;
        self.last += 1;
        let id = self.last;
        self.operations.insert(id, Operation { request, key, walk, places, kind, until });
        self.go_on(kad, id, unix_ms, out);
    }

    /// Somebody who may be asked, in one network only: that of its first IPv4 address, else of its first. So nobody
    /// counts twice.
    fn candidate(&self, peer: PeerId, addresses: Vec<Multiaddr>) -> Option<(Candidate, Vec<Multiaddr>)> {
        let service = key_of(&peer).map(ServiceKey).filter(|_| peer != self.local)?;
        let policy = self.public.warden().policy();
        // kad ends each address with the peer's name.
        let plain = |mut address: Multiaddr| {
            if address.iter().last() == Some(Protocol::P2p(peer)) {
                address.pop();
            }
            is_plain(&address).then_some(address)
        };
        let addresses = addresses.into_iter().filter_map(plain).collect();
        let mut at: Vec<(IpAddr, Multiaddr)> = routable(addresses)
            .into_iter()
            .filter_map(|address| Some((ip_of(&address)?, address)))
            .filter(|(ip, _)| self.public.is_public(*ip) && policy.may_reach(*ip).is_ok())
            .collect();
        let first = at.iter().find(|(ip, _)| ip.is_ipv4()).or(at.first()).map(|(ip, _)| *ip)?;
        let network = network_group(first);
        policy.may_know(service).ok()?;
        at.retain(|(ip, _)| network_group(*ip) == network);
        at.truncate(DIALLED_MAX);
        Some((Candidate { service, network }, at.into_iter().map(|(_, address)| address).collect()))
    }

    /// Asks whom it can, and ends the walk when it has arrived.
    fn go_on(&mut self, kad: &mut Kad, id: u64, unix_ms: u64, out: &mut Outbox) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        if matches!(&operation.kind, Kind::Put(Put { copying: Some(_), .. })) {
            return;
        }
        let mut next = Vec::new();
        while let Some(candidate) = operation.walk.poll() {
            next.push(candidate);
        }
        let message = match &operation.kind {
            Kind::Put(_) => KadMessage::find(&operation.key),
            Kind::Get(_) => KadMessage::get(&operation.key),
        };
        let done = operation.walk.is_done() || Instant::now() >= operation.until;
        for candidate in next {
            self.ask(id, candidate, What::Walk, message.clone());
        }
        if done {
            self.arrived(kad, id, unix_ms, out);
        }
    }

    fn ask(&mut self, operation: u64, candidate: Candidate, what: What, message: KadMessage) {
        self.last += 1;
        let id = self.last;
        let places = self.operations.get(&operation).and_then(|it| it.places.get(&candidate));
        let until = Instant::now() + ASK_TIMEOUT;
        self.asked.insert(id, Asked { operation, candidate, what, until });
        if let Some(peer) = service_peer(candidate.service) {
            let addresses = places.cloned().unwrap_or_default();
            self.asks.push_back(Ask { id, peer, network: candidate.network, addresses, message });
        }
    }

    fn arrived(&mut self, kad: &mut Kad, id: u64, unix_ms: u64, out: &mut Outbox) {
        self.asked.retain(|_, asked| asked.operation != id);
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let put = match &mut operation.kind {
            Kind::Get(get) => {
                let value = get.found.as_ref().map(ReachRecord::encode);
                let (request, answers) = (operation.request, get.answers);
                out.push_back(ServiceEvent::Found { request, value, answers, done: true });
                self.operations.remove(&id);
                return;
            }
            Kind::Put(put) => put,
        };
        let value = put.record.encode();
        let mut nearest = operation.walk.nearest();
        nearest.truncate(REPLICATION.get());
        let own = position_of(self.local);
        let is_among = nearest.len() < REPLICATION.get()
            || nearest.iter().any(|candidate| operation.walk.is_nearer(&own, *candidate));
        let mut copies = 0;
        if is_among {
            // Its own check cannot fail (the record was verified and joined with what is stored); its room can run out.
            let record =
                Record { key: operation.key.clone(), value: value.clone(), publisher: None, expires: None };
            copies += u32::from(kad.store_mut().offer(record, unix_ms).is_ok());
        }
        put.copying = Some(Copying { left: nearest.len(), copies });
        let message = KadMessage::put(&operation.key, value);
        for candidate in nearest {
            self.ask(id, candidate, What::Store, message.clone());
        }
        self.copied(id, out);
    }

    // ---- answers ---------------------------------------------------------------------------------------------------

    /// The next question to bring to somebody. Answer: one [`Self::answered`].
    pub(super) fn poll_ask(&mut self) -> Option<Ask> {
        loop {
            let ask = self.asks.pop_front()?;
            if self.asked.contains_key(&ask.id) {
                return Some(ask);
            }
        }
    }

    /// Whether the answer to this question still matters.
    pub(super) fn waits_for(&self, id: u64) -> bool {
        self.asked.contains_key(&id)
    }

    /// When to call [`Self::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        // All have as long, so whoever was asked first is late first.
        self.asked.first_key_value().map(|(_, asked)| asked.until)
    }

    pub(super) fn handle_timeout(&mut self, kad: &mut Kad, now: Instant, unix_ms: u64, out: &mut Outbox) {
        let late: Vec<u64> =
            self.asked.iter().take_while(|(_, asked)| now >= asked.until).map(|(id, _)| *id).collect();
        for id in late {
            self.answered(kad, id, None, unix_ms, out);
        }
    }

    /// What came of a question: `None` if that supernode was not reached, or gave no answer.
    pub(super) fn answered(
        &mut self,
        kad: &mut Kad,
        id: u64,
        answer: Option<KadMessage>,
        unix_ms: u64,
        out: &mut Outbox,
    ) {
        let Some(Asked { operation, candidate, what, .. }) = self.asked.remove(&id) else { return };
        match (what, answer) {
            (What::Walk, answer) => {
                self.walked(operation, candidate, answer, unix_ms, out);
                self.go_on(kad, operation, unix_ms, out);
            }
            (What::Store, Some(_)) => {
                // An acknowledgement proves nothing (kad gives it in any case): ask for the record.
                if let Some(key) = self.operations.get(&operation).map(|it| it.key.clone()) {
                    self.ask(operation, candidate, What::ReadBack, KadMessage::get(&key));
                }
            }
            (What::Store, None) => self.copy(operation, false, out),
            (What::ReadBack, answer) => {
                let kept =
                    answer.is_some_and(|answer| self.has_copy(operation, candidate, &answer, unix_ms, out));
                self.copy(operation, kept, out);
            }
        }
    }

    fn walked(&mut self, id: u64, by: Candidate, answer: Option<KadMessage>, unix_ms: u64, out: &mut Outbox) {
        let Some(mut operation) = self.operations.remove(&id) else { return };
        let Some(answer) = answer else {
            operation.walk.failed(by);
            self.operations.insert(id, operation);
            return;
        };
        let mut named = Vec::new();
        for (peer, addresses) in answer.named().take(NAMES_MAX) {
            if let Some((candidate, at)) = self.candidate(peer, addresses) {
                named.push((candidate, position_of(peer)));
                operation.places.entry(candidate).or_insert(at);
            }
        }
        operation.walk.answered(by, named);
        operation.places.retain(|candidate, _| operation.walk.knows(*candidate));
        if let (Kind::Get(get), Some(value)) = (&mut operation.kind, answer.value(&operation.key))
            && self.take_value(get, (operation.request, &operation.key), by, value, unix_ms, out)
        {
            self.asked.retain(|_, asked| asked.operation != id);
            return; // enough
        }
        self.operations.insert(id, operation);
    }

    /// One supernode's answer. `true`: that is enough.
    fn take_value(
        &mut self,
        get: &mut Get,
        (request, key): (u64, &RecordKey),
        by: Candidate,
        value: &[u8],
        unix_ms: u64,
        out: &mut Outbox,
    ) -> bool {
        let known = get.found.clone().or_else(|| self.seen.get(get.account).cloned());
        let checked = verify(&self.network, key, value, unix_ms).and_then(|new| match &known {
            Some(known) => join(known, &new),
            None => Ok(new),
        });
        match checked {
            Ok(record) => self.found(get, request, record, out),
            Err(refused) => {
                let (from, reason) = (Some(by.service.0), refused.to_string());
                out.push_back(ServiceEvent::RecordRefused { from, reason });
                false
            }
        }
    }

    fn found(&mut self, get: &mut Get, request: u64, record: ReachRecord, out: &mut Outbox) -> bool {
        get.answers += 1;
        self.seen.note(&record);
        let is_new = get.found.as_ref() != Some(&record);
        let done = get.answers >= ANSWERS_ENOUGH;
        if is_new || done {
            let value = Some(record.encode());
            out.push_back(ServiceEvent::Found { request, value, answers: get.answers, done });
        }
        get.found = Some(record);
        done
    }

    /// Whether it has what was put, or something newer.
    fn has_copy(&self, id: u64, by: Candidate, answer: &KadMessage, unix_ms: u64, out: &mut Outbox) -> bool {
        let Some(Operation { key, kind: Kind::Put(put), .. }) = self.operations.get(&id) else {
            return false;
        };
        let Some(value) = answer.value(key) else { return false };
        let checked = verify(&self.network, key, value, unix_ms);
        match checked
            .and_then(|theirs| Ok((theirs.merge(&put.record).map_err(|_| Refused::WrongKey)?, theirs)))
        {
            // Otherwise it keeps an older one, or took nothing: not a copy.
            Ok((merged, theirs)) => merged == theirs,
            Err(refused) => {
                let (from, reason) = (Some(by.service.0), refused.to_string());
                out.push_back(ServiceEvent::RecordRefused { from, reason });
                false
            }
        }
    }

    fn copy(&mut self, id: u64, kept: bool, out: &mut Outbox) {
        if let Some(Operation { kind: Kind::Put(Put { copying: Some(copying), .. }), .. }) =
            self.operations.get_mut(&id)
        {
            copying.copies += u32::from(kept);
            copying.left = copying.left.saturating_sub(1);
        }
        self.copied(id, out);
    }

    /// Says how many copies there are, once all were asked.
    fn copied(&mut self, id: u64, out: &mut Outbox) {
        if let Some(Operation { request, kind: Kind::Put(Put { copying: Some(copying), .. }), .. }) =
            self.operations.get(&id)
            && copying.left == 0
        {
            out.push_back(ServiceEvent::Stored { request: *request, copies: copying.copies });
            self.operations.remove(&id);
        }
    }

    /// This node takes no part any more: what is under way ends with what there is.
    pub(super) fn give_up(&mut self, out: &mut Outbox) {
        self.asked.clear();
        self.asks.clear();
        for Operation { request, kind, .. } in std::mem::take(&mut self.operations).into_values() {
            out.push_back(match kind {
                Kind::Put(put) => {
                    ServiceEvent::Stored { request, copies: put.copying.map_or(0, |copying| copying.copies) }
                }
                Kind::Get(Get { found, answers, .. }) => {
                    let value = found.map(|record| record.encode());
                    ServiceEvent::Found { request, value, answers, done: true }
                }
            });
        }
    }

    /// A record another supernode sends us to keep.
    pub(super) fn handle_put(
        &self,
        kad: &mut Kad,
        source: &PeerId,
        record: Record,
        unix_ms: u64,
        out: &mut Outbox,
    ) {
        if let Err(refused) = kad.store_mut().offer(record, unix_ms) {
            out.push_back(ServiceEvent::RecordRefused { from: key_of(source), reason: refused.to_string() });
        }
    }

    fn key(&self, account: AccountKey) -> RecordKey {
        RecordKey::new(&self.network.record_key(account))
    }
}

fn position<T>(key: &kad::KBucketKey<T>) -> Position {
    // As long as a SHA-256.
    Position::try_from(key.hashed_bytes()).unwrap_or_default()
}

fn position_of(peer: PeerId) -> Position {
    position(&kad::KBucketKey::from(peer))
}
