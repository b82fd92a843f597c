//! Why this device's homes are what they are, and who would come after them.

use tandem_api::{NextSupernode, ServedAsHome, SupernodeWhy};
use tandem_core::homes::Standing;
use tandem_core::peer::PeerRef;
use tandem_core::time::Now;
use tandem_proto::ids::ServiceKey;
use tandem_proto::network::network_name;
use tandem_proto::signed::SupernodeDescriptor;

use super::Phone;
use crate::messages::{Choice, because, latency_words, next_words};
use crate::node::peers::PeerTable;

/// Candidates that are named.
const NEXT: usize = 3;
const MINUTE_MS: u64 = 60_000;

/// What a link of the device is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkUse {
    Homes,
    Errand,
}

impl Phone {
    pub(crate) fn link_uses(&self) -> impl Iterator<Item = (ServiceKey, LinkUse)> {
        let what_for = |by_homes| if by_homes { LinkUse::Homes } else { LinkUse::Errand };
        self.links.by_homes().map(move |(service, by_homes)| (service, what_for(by_homes)))
    }

    /// Supernodes that are dialled later, and in how many milliseconds.
    pub(crate) fn waits(&self, now: Now) -> Vec<(ServiceKey, u64)> {
        let circuits = self.waiting_streams.iter().flat_map(|waiting| waiting.waits(now));
        self.links.waits(now).chain(circuits).collect()
    }

    /// Supernodes that the policy of homes is linked with now, and why.
    pub(crate) fn homes_explained(&self, peers: &PeerTable, now: Now) -> Vec<(ServiceKey, SupernodeWhy)> {
        let linked: Vec<PeerRef> = self.homes.links().map(|link| link.peer).collect();
        let explained = linked.iter().filter_map(|peer| {
            let standing = self.homes.standing(*peer)?;
            Some((peers.get(*peer)?.service, self.explain(&standing, &linked, peers, now)))
        });
        explained.collect()
    }

    fn explain(&self, standing: &Standing, linked: &[PeerRef], peers: &PeerTable, now: Now) -> SupernodeWhy {
        let choice = self.choice(standing, linked, peers);
        let next = self.homes.replacements(standing.peer, NEXT, now);
        let next = next.iter().filter_map(|next| {
            let wait_s = next.not_before_ms.saturating_sub(now.mono_ms).div_ceil(1_000);
            let because =
                next_words(&self.choice(next, linked, peers), next.load_class, next.is_poor, wait_s);
            Some(NextSupernode { service: peers.get(next.peer)?.service.to_string(), because })
        });
        let service = peers.get(standing.peer).map(|peer| peer.service);
        let served = service.and_then(|service| self.qualities.get(&service)).map(|known| ServedAsHome {
            times: known.times,
            held_ms: known.held_ms,
            lost: known.lost,
            omitted: known.omitted,
            lied: known.lied,
        });
        SupernodeWhy {
            because: because(&choice),
            network: choice.network,
            latency: choice.latency,
            load_percent: choice.load_percent,
            software: choice.software,
            referrer: choice.referrer,
            served,
            next: next.collect(),
        }
    }

    fn choice(&self, standing: &Standing, linked: &[PeerRef], peers: &PeerTable) -> Choice {
        let peer = peers.get(standing.peer);
        let descriptor = peer.and_then(|peer| peer.descriptor.as_ref());
        let others = || linked.iter().filter(|other| **other != standing.peer);
        let others_standing = || others().filter_map(|other| self.homes.standing(*other));
        let known = peer.and_then(|peer| self.qualities.get(&peer.service));
        Choice {
            network: network_name(standing.network),
            shares_network: others_standing().any(|other| other.network == standing.network),
            latency: standing.latency_class.map(|class| latency_words(class).to_owned()),
            load_percent: descriptor.map(SupernodeDescriptor::load_percent),
            software: descriptor.map(|it| it.software().to_owned()).filter(|text| !text.is_empty()),
            others: others().count(),
            same_software: others_standing().filter(|other| other.release == standing.release).count(),
            served: known
                .filter(|known| known.held_ms >= MINUTE_MS || known.times > 1)
                .map(|known| (known.times, known.held_ms / MINUTE_MS, known.lost)),
            omitted: known.map_or(0, |known| known.omitted),
            referrer: standing.referrer.and_then(|from| Some(peers.get(from)?.service.to_string())),
            port_443: standing.port_443,
        }
    }
}
