//! kad as this network uses it: what it answers, and whom this supernode takes into its routing table.

use std::net::IpAddr;
use std::time::Duration;

use libp2p::kad;
use libp2p::{Multiaddr, PeerId};
use tandem_proto::ids::ServiceKey;
use tandem_proto::names::NetworkId;
use tandem_proto::network::network_group;

use super::super::address::{PublicAddresses, ip_of, is_plain, key_of};
use super::super::record_store::NearStore;
use super::super::transport::Protocols;
use super::REPLICATION;

/// Entries of one network (/16, /32) in one bucket of the routing table.
const PER_NETWORK_AND_BUCKET: usize = 2;
/// kad's own queries: it still offers records to others from time to time.
const QUERY_TIMEOUT: Duration = Duration::from_secs(8);
const SUBSTREAM_TIMEOUT: Duration = Duration::from_secs(4);
const REPLICATION_INTERVAL: Duration = Duration::from_secs(20 * 60);
/// Longer than any record lives; the record's own end is what counts.
const RECORD_TTL: Duration = Duration::from_secs(40 * 24 * 3600);
/// A record, its key, and addresses of 20 peers.
pub(in super::super) const PACKET_BYTES_MAX: usize = 16 * 1024;

pub(in super::super) type Kad = kad::Behaviour<NearStore>;

/// kad as this network uses it: serving while the gate is open, everything filtered, nobody let in by itself.
pub(in super::super) fn behaviour(
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
pub(in super::super) fn set_open(kad: &mut Kad, open: bool) {
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

/// Takes a peer into the table, if its address is public and its network is not yet in its bucket twice.
pub(in super::super) fn offer_peer(
    public: &PublicAddresses,
    kad: &mut Kad,
    peer: PeerId,
    address: &Multiaddr,
) {
    let Some(ip) = ip_of(address) else { return };
    let policy = public.warden().policy();
    let allowed = key_of(&peer).is_some_and(|key| policy.may_know(ServiceKey(key)).is_ok())
        && policy.may_reach(ip).is_ok();
    if !is_plain(address) || !allowed || !public.is_public(ip) || !has_room(kad, peer, ip) {
        return;
    }
    kad.add_address(&peer, address.clone());
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
