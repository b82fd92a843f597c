//! What this supernode does in the directory: storing, reading back, looking up; and whom it takes into its routing
//! table.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use libp2p::kad::{self, QueryId, QueryResult, Quorum, Record, RecordKey};
use libp2p::{Multiaddr, PeerId};
use tandem_proto::ids::{AccountKey, ServiceKey};
use tandem_proto::names::NetworkId;
use tandem_proto::network::network_group;
use tandem_proto::record::ReachRecord;

use super::ServiceEvent;
use super::address::{PublicAddresses, ip_of, is_plain, key_of};
use super::record_store::{NearStore, Refused, join, verify};
use super::transport::Protocols;

/// Supernodes that keep each record.
const REPLICATION: NonZeroUsize = NonZeroUsize::new(5).expect("5 is not 0");
/// Answers after which a lookup is done.
const ANSWERS_ENOUGH: u32 = 3;
/// Entries of one network (/16, /32) in one bucket of the routing table.
const PER_NETWORK_AND_BUCKET: usize = 2;
const OPERATIONS_MAX: usize = 1024;
/// Accounts whose newest record is remembered from puts and lookups, so that nobody can show this node an older one.
const SEEN_MAX: usize = 1024;
const QUERY_TIMEOUT: Duration = Duration::from_secs(8);
const SUBSTREAM_TIMEOUT: Duration = Duration::from_secs(4);
const REPLICATION_INTERVAL: Duration = Duration::from_secs(20 * 60);
/// Longer than any record lives; the record's own end is what counts.
const RECORD_TTL: Duration = Duration::from_secs(40 * 24 * 3600);
/// A record, its key, and addresses of 20 peers.
const PACKET_BYTES_MAX: usize = 16 * 1024;

pub(super) type Kad = kad::Behaviour<NearStore>;

/// kad as this network uses it: serving while the gate is open, everything filtered, nobody let in by itself.
pub(super) fn behaviour(
    network: NetworkId,
    protocols: &Protocols,
    local: PeerId,
    records_max: usize,
    open: bool,
) -> Kad {
    let mut config = kad::Config::new(protocols.kad.clone());
    config
        .set_replication_factor(REPLICATION)
        .disjoint_query_paths(true)
        .set_query_timeout(QUERY_TIMEOUT)
        .set_substreams_timeout(SUBSTREAM_TIMEOUT)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_caching(kad::Caching::Disabled)
        .set_record_ttl(Some(RECORD_TTL))
        .set_replication_interval(Some(REPLICATION_INTERVAL))
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_max_packet_size(PACKET_BYTES_MAX);
    let mut kad = kad::Behaviour::with_config(local, NearStore::new(network, local, records_max), config);
    set_open(&mut kad, open);
    kad
}

/// Closed: it answers nothing, keeps nothing, asks nobody and forgets whom it knew.
pub(super) fn set_open(kad: &mut Kad, open: bool) {
    kad.set_mode(Some(if open { kad::Mode::Server } else { kad::Mode::Client }));
    kad.store_mut().set_open(open);
    if open {
        return;
    }
    for mut query in kad.iter_queries_mut() {
        query.finish();
    }
    let known: Vec<PeerId> = kad
        .kbuckets()
        .flat_map(|bucket| bucket.iter().map(|entry| *entry.node.key.preimage()).collect::<Vec<_>>())
        .collect();
    for peer in known {
        kad.remove_peer(&peer);
    }
}

/// Operations under way.
pub(super) struct Directory {
    network: NetworkId,
    local: PeerId,
    public: PublicAddresses,
    operations: Vec<(QueryId, Operation)>,
    seen: Seen,
}

enum Operation {
    /// Looks for the supernodes nearest to the key.
    Find(Put),
    /// Sends them the record.
    Send(Put),
    /// Asks who has it now.
    ReadBack(Put, BTreeSet<PeerId>),
    Get(Get),
}

struct Put {
    request: u64,
    key: RecordKey,
    record: ReachRecord,
    /// This node is one of those that keep it.
    kept_here: bool,
}

struct Get {
    request: u64,
    key: RecordKey,
    account: AccountKey,
    found: Option<ReachRecord>,
    answers: u32,
}

type Outbox = VecDeque<ServiceEvent>;

impl Directory {
    pub(super) fn new(network: NetworkId, local: PeerId, public: PublicAddresses) -> Self {
        Self { network, local, public, operations: Vec::new(), seen: Seen::default() }
    }

    // ---- storing ---------------------------------------------------------------------------------------------------

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
                let query = kad.get_closest_peers(key.to_vec());
                self.operations
                    .push((query, Operation::Find(Put { request, key, record, kept_here: false })));
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

    fn send(&mut self, kad: &mut Kad, mut put: Put, near: &[kad::PeerInfo], unix_ms: u64) {
        let targets = replicas(near);
        let value = put.record.encode();
        let record = Record { key: put.key.clone(), value, publisher: None, expires: None };
        if self.is_replica(&put.key, near) {
            // Its own check cannot fail (the record was verified and joined with what is stored); its room can run out.
            put.kept_here = kad.store_mut().offer(record.clone(), unix_ms).is_ok();
        }
        let query = kad.put_record_to(record, targets.into_iter(), Quorum::All);
        self.operations.push((query, Operation::Send(put)));
    }

    /// Whether this node is itself among the nearest.
    fn is_replica(&self, key: &RecordKey, near: &[kad::PeerInfo]) -> bool {
        let target = kad::KBucketKey::new(key.clone());
        let own = kad::KBucketKey::from(self.local).distance(&target);
        match near.get(REPLICATION.get() - 1) {
            Some(last) => own < kad::KBucketKey::from(last.peer_id).distance(&target),
            None => true,
        }
    }

    // ---- reading ---------------------------------------------------------------------------------------------------

    pub(super) fn get(&mut self, kad: &mut Kad, request: u64, account: AccountKey, out: &mut Outbox) {
        if self.operations.len() >= OPERATIONS_MAX {
            out.push_back(ServiceEvent::Found { request, value: None, answers: 0, done: true });
            return;
        }
        let key = self.key(account);
        let query = kad.get_record(key.clone());
        self.operations.push((query, Operation::Get(Get { request, key, account, found: None, answers: 0 })));
    }

    /// One supernode's answer. `true`: that is enough.
    fn answer(
        network: &NetworkId,
        seen: &mut Seen,
        get: &mut Get,
        answer: kad::PeerRecord,
        unix_ms: u64,
        out: &mut Outbox,
    ) -> bool {
        let known = get.found.clone().or_else(|| seen.get(get.account).cloned());
        let checked = verify(network, &get.key, &answer.record.value, unix_ms).and_then(|new| match &known {
            Some(known) => join(known, &new),
            None => Ok(new),
        });
        let record = match checked {
            Ok(record) => record,
            Err(refused) => {
                let from = answer.peer.as_ref().and_then(key_of);
                out.push_back(ServiceEvent::RecordRefused { from, reason: refused.to_string() });
                return false;
            }
        };
        get.answers += 1;
        seen.note(&record);
        let is_new = get.found.as_ref() != Some(&record);
        let done = get.answers >= ANSWERS_ENOUGH;
        if is_new || done {
            let value = Some(record.encode());
            out.push_back(ServiceEvent::Found { request: get.request, value, answers: get.answers, done });
        }
        get.found = Some(record);
        done
    }

    // ---- progress --------------------------------------------------------------------------------------------------

    pub(super) fn handle_query(
        &mut self,
        kad: &mut Kad,
        (id, result, last): (QueryId, QueryResult, bool),
        unix_ms: u64,
        out: &mut Outbox,
    ) {
        let Some(at) = self.operations.iter().position(|(query, _)| *query == id) else { return };
        let (_, operation) = self.operations.swap_remove(at);
        match (operation, result) {
            (Operation::Find(put), QueryResult::GetClosestPeers(found)) if last => {
                let near = match found {
                    Ok(ok) => ok.peers,
                    Err(kad::GetClosestPeersError::Timeout { peers, .. }) => peers,
                };
                self.send(kad, put, &near, unix_ms);
            }
            (Operation::Send(put), QueryResult::PutRecord(_)) => {
                // An acknowledgement proves nothing (kad answers it in any case): ask for the record.
                let query = kad.get_record(put.key.clone());
                self.operations.push((query, Operation::ReadBack(put, BTreeSet::new())));
            }
            (Operation::ReadBack(put, mut holders), QueryResult::GetRecord(result)) => {
                if let Ok(kad::GetRecordOk::FoundRecord(answer)) = result {
                    self.read_back(&put, &answer, &mut holders, unix_ms, out);
                }
                if last {
                    let copies = u32::try_from(holders.len()).unwrap_or(u32::MAX);
                    out.push_back(ServiceEvent::Stored { request: put.request, copies });
                } else {
                    self.operations.push((id, Operation::ReadBack(put, holders)));
                }
            }
            (Operation::Get(mut get), QueryResult::GetRecord(result)) => {
                let enough = match result {
                    Ok(kad::GetRecordOk::FoundRecord(answer)) => {
                        Self::answer(&self.network, &mut self.seen, &mut get, answer, unix_ms, out)
                    }
                    _ => false,
                };
                self.get_goes_on(kad, id, get, enough, last, out);
            }
            (operation, _) => self.operations.push((id, operation)),
        }
    }

    fn get_goes_on(
        &mut self,
        kad: &mut Kad,
        id: QueryId,
        get: Get,
        enough: bool,
        last: bool,
        out: &mut Outbox,
    ) {
        if enough {
            if let Some(mut query) = kad.query_mut(&id) {
                query.finish();
            }
        } else if last {
            let value = get.found.map(|record| record.encode());
            out.push_back(ServiceEvent::Found {
                request: get.request,
                value,
                answers: get.answers,
                done: true,
            });
        } else {
            self.operations.push((id, Operation::Get(get)));
        }
    }

    /// Counts a supernode that has what was put, or something newer; this one too, if it is among those that keep it.
    fn read_back(
        &self,
        put: &Put,
        answer: &kad::PeerRecord,
        holders: &mut BTreeSet<PeerId>,
        unix_ms: u64,
        out: &mut Outbox,
    ) {
        let Some(peer) = answer.peer.or(put.kept_here.then_some(self.local)) else { return };
        let checked = verify(&self.network, &put.key, &answer.record.value, unix_ms);
        match checked
            .and_then(|theirs| Ok((theirs.merge(&put.record).map_err(|_| Refused::WrongKey)?, theirs)))
        {
            Ok((merged, theirs)) if merged == theirs => {
                holders.insert(peer);
            }
            Ok(_) => {} // it keeps an older one, or took nothing: not a copy
            Err(refused) => {
                let reason = refused.to_string();
                out.push_back(ServiceEvent::RecordRefused { from: key_of(&peer), reason });
            }
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

    // ---- routing table ---------------------------------------------------------------------------------------------

    /// Takes a peer into the table, if its address is public and its network is not yet in its bucket twice.
    pub(super) fn offer_peer(&self, kad: &mut Kad, peer: PeerId, address: &Multiaddr) {
        let Some(ip) = ip_of(address) else { return };
        let policy = self.public.warden().policy();
        let allowed = key_of(&peer).is_some_and(|key| policy.may_know(ServiceKey(key)).is_ok())
            && policy.may_reach(ip).is_ok();
        if !is_plain(address) || !allowed || !self.public.is_public(ip) || !has_room(kad, peer, ip) {
            return;
        }
        kad.add_address(&peer, address.clone());
    }

    fn key(&self, account: AccountKey) -> RecordKey {
        RecordKey::new(&self.network.record_key(account))
    }
}

fn has_room(kad: &mut Kad, peer: PeerId, ip: IpAddr) -> bool {
    let group = network_group(ip);
    let Some(bucket) = kad.kbucket(peer) else { return false };
    let of_network = bucket.iter().filter(|entry| {
        let in_group = |address: &Multiaddr| ip_of(address).is_some_and(|ip| network_group(ip) == group);
        *entry.node.key.preimage() != peer && entry.node.value.iter().any(in_group)
    });
    of_network.count() < PER_NETWORK_AND_BUCKET
}

/// The five nearest, since readers ask there, and the nearest of five different networks, since one network may have
/// crowded in. Usually they are the same.
fn replicas(near: &[kad::PeerInfo]) -> Vec<PeerId> {
    let mut networks = BTreeSet::new();
    let mut targets = Vec::new();
    for (rank, peer) in near.iter().enumerate() {
        let group = peer.addrs.iter().find_map(ip_of).map(network_group);
        let new_network = networks.len() < REPLICATION.get() && networks.insert(group);
        if rank < REPLICATION.get() || new_network {
            targets.push(peer.peer_id);
        }
    }
    targets
}

/// The newest record seen of each account; the account noticed first is forgotten first.
#[derive(Default)]
struct Seen {
    records: BTreeMap<AccountKey, ReachRecord>,
    order: VecDeque<AccountKey>,
}

impl Seen {
    fn get(&self, account: AccountKey) -> Option<&ReachRecord> {
        self.records.get(&account)
    }

    fn note(&mut self, record: &ReachRecord) {
        let account = record.account();
        if self.records.insert(account, record.clone()).is_none() {
            self.order.push_back(account);
            if self.order.len() > SEEN_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.records.remove(&oldest);
            }
        }
    }
}
