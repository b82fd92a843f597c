//! One usable connection to each supernode that is wanted: its addresses are tried in order, each a little after the
//! one before, and the first to connect is used.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use super::address::transport_of;
use super::config::PreferredTransport;

/// No connection after this long: the supernode cannot be reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Supernodes wanted at a time, at most; further ones fail at once.
const LINKS_MAX: usize = 1024;

/// All of them.
#[derive(Debug)]
pub(super) struct Links {
    preferred: PreferredTransport,
    stagger: Duration,
    links: BTreeMap<PeerId, Link>,
}

#[derive(Debug)]
enum Link {
    Connecting(Connecting),
    Connected(ConnectionId, Multiaddr),
}

#[derive(Debug)]
struct Connecting {
    untried: Vec<Multiaddr>, // last first
    dialing: Vec<ConnectionId>,
    next_at: Instant,
    give_up_at: Instant,
    last_error: String,
}

/// What asking for a link leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Connected(ConnectionId, Multiaddr),
    /// It is reported by [`Links::connected`] or [`Links::failed`] in time.
    Pending,
    Refused(&'static str),
}

/// What to do now, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LinkAction {
    /// Dial, and tell the connection's number to [`Links::dialing`].
    Dial(PeerId, Multiaddr),
    Failed(PeerId, String),
}

/// What an established connection is to the links.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Established {
    /// Now the link.
    Link,
    /// A second one: close it.
    Surplus,
    Foreign,
}

impl Links {
    pub(super) fn new(preferred: PreferredTransport, stagger: Duration) -> Self {
        Self { preferred, stagger, links: BTreeMap::new() }
    }

    pub(super) fn want(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>, now: Instant) -> Wanted {
        match self.links.get(&peer) {
            Some(Link::Connected(id, address)) => return Wanted::Connected(*id, address.clone()),
            Some(Link::Connecting(_)) => return Wanted::Pending,
            None if addresses.is_empty() => return Wanted::Refused("none of its addresses can be dialled"),
            None if self.links.len() >= LINKS_MAX => {
                return Wanted::Refused("too many connections are being made");
            }
            None => {}
        }
        let last = match self.preferred {
            PreferredTransport::Tcp => "quic",
            PreferredTransport::Quic => "tcp",
        };
        addresses.sort_by_key(|address| transport_of(address) == last);
        addresses.reverse();
        let connecting = Connecting {
            untried: addresses,
            dialing: Vec::new(),
            next_at: now,
            give_up_at: now + CONNECT_TIMEOUT,
            last_error: String::from("no answer"),
        };
        self.links.insert(peer, Link::Connecting(connecting));
        Wanted::Pending
    }

    pub(super) fn get(&self, peer: &PeerId) -> Option<(ConnectionId, &Multiaddr)> {
        match self.links.get(peer) {
            Some(Link::Connected(id, address)) => Some((*id, address)),
            _ => None,
        }
    }

    /// When [`Links::poll`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = |link: &Link| match link {
            Link::Connecting(c) if !c.untried.is_empty() => Some(c.next_at.min(c.give_up_at)),
            Link::Connecting(c) => Some(c.give_up_at),
            Link::Connected(..) => None,
        };
        self.links.values().filter_map(due).min()
    }

    /// The next thing to do, until there is none.
    pub(super) fn poll(&mut self, now: Instant) -> Option<LinkAction> {
        let stagger = self.stagger;
        for (peer, link) in &mut self.links {
            let Link::Connecting(connecting) = link else { continue };
            let out_of_addresses = connecting.untried.is_empty() && connecting.dialing.is_empty();
            if now >= connecting.give_up_at || out_of_addresses {
                let (peer, reason) = (*peer, std::mem::take(&mut connecting.last_error));
                self.links.remove(&peer);
                return Some(LinkAction::Failed(peer, reason));
            }
            if (now >= connecting.next_at || connecting.dialing.is_empty())
                && let Some(address) = connecting.untried.pop()
            {
                connecting.next_at = now + stagger;
                return Some(LinkAction::Dial(*peer, address));
            }
        }
        None
    }

    pub(super) fn dialing(&mut self, peer: &PeerId, id: ConnectionId) {
        if let Some(Link::Connecting(connecting)) = self.links.get_mut(peer) {
            connecting.dialing.push(id);
        }
    }

    pub(super) fn dial_failed(&mut self, id: ConnectionId, error: String) {
        for link in self.links.values_mut() {
            if let Link::Connecting(connecting) = link
                && let Some(at) = connecting.dialing.iter().position(|dialing| *dialing == id)
            {
                connecting.dialing.remove(at);
                connecting.last_error = error;
                return;
            }
        }
    }

    /// A connection to this peer stands, dialled by us or not.
    pub(super) fn connected(&mut self, peer: PeerId, id: ConnectionId, address: &Multiaddr) -> Established {
        match self.links.get_mut(&peer) {
            None => Established::Foreign,
            Some(Link::Connected(..)) => Established::Surplus,
            Some(link) => {
                let plain = address.iter().take_while(|p| !matches!(p, libp2p::multiaddr::Protocol::P2p(_)));
                *link = Link::Connected(id, plain.collect());
                Established::Link
            }
        }
    }

    /// `true`: this was the link to that peer.
    pub(super) fn disconnected(&mut self, peer: &PeerId, id: ConnectionId) -> bool {
        let was = matches!(self.links.get(peer), Some(Link::Connected(link, _)) if *link == id);
        if was {
            self.links.remove(peer);
        }
        was
    }

    /// Forgets the peer, connected or not. Its dials may still succeed and are then `Foreign`.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.links.remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGGER: Duration = Duration::from_millis(400);

    fn addresses() -> Vec<Multiaddr> {
        vec!["/ip4/1.2.3.4/udp/5/quic-v1".parse().unwrap(), "/ip4/1.2.3.4/tcp/5".parse().unwrap()]
    }

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    #[test]
    fn the_second_transport_follows_and_the_first_to_connect_wins() {
        let (mut links, peer, now) =
            (Links::new(PreferredTransport::Tcp, STAGGER), PeerId::random(), Instant::now());
        assert_eq!(links.want(peer, addresses(), now), Wanted::Pending);
        assert_eq!(links.poll(now), Some(LinkAction::Dial(peer, addresses()[1].clone())));
        links.dialing(&peer, id(1));
        assert_eq!(links.poll(now), None);
        assert_eq!(links.poll_timeout(), Some(now + STAGGER));
        assert_eq!(links.poll(now + STAGGER), Some(LinkAction::Dial(peer, addresses()[0].clone())));
        links.dialing(&peer, id(2));
        assert_eq!(links.connected(peer, id(2), &addresses()[0]), Established::Link);
        assert_eq!(links.connected(peer, id(1), &addresses()[1]), Established::Surplus);
        assert_eq!(links.want(peer, vec![], now), Wanted::Connected(id(2), addresses()[0].clone()));
        assert!(!links.disconnected(&peer, id(1)));
        assert!(links.disconnected(&peer, id(2)));
        assert_eq!(links.get(&peer), None);
    }

    #[test]
    fn a_refused_address_gives_way_at_once() {
        let (mut links, peer, now) =
            (Links::new(PreferredTransport::Quic, STAGGER), PeerId::random(), Instant::now());
        assert_eq!(links.want(peer, addresses(), now), Wanted::Pending);
        assert_eq!(links.poll(now), Some(LinkAction::Dial(peer, addresses()[0].clone())));
        links.dialing(&peer, id(1));
        links.dial_failed(id(1), "refused".into());
        assert_eq!(links.poll(now), Some(LinkAction::Dial(peer, addresses()[1].clone())));
        links.dialing(&peer, id(2));
        links.dial_failed(id(2), "refused too".into());
        assert_eq!(links.poll(now), Some(LinkAction::Failed(peer, "refused too".into())));
        assert_eq!(links.poll_timeout(), None);
    }

    #[test]
    fn silence_ends_in_failure() {
        let (mut links, peer, now) =
            (Links::new(PreferredTransport::Tcp, STAGGER), PeerId::random(), Instant::now());
        assert_eq!(links.want(peer, addresses(), now), Wanted::Pending);
        for n in [1, 2] {
            assert!(matches!(links.poll(now + STAGGER), Some(LinkAction::Dial(..))));
            links.dialing(&peer, id(n));
            if n == 1 {
                assert_eq!(links.poll(now + STAGGER), None);
                assert!(matches!(links.poll(now + STAGGER * 2), Some(LinkAction::Dial(..))));
                links.dialing(&peer, id(2));
                break;
            }
        }
        let end = links.poll_timeout().unwrap();
        assert_eq!(end, now + CONNECT_TIMEOUT);
        assert_eq!(links.poll(end), Some(LinkAction::Failed(peer, "no answer".into())));
        assert_eq!(links.want(peer, vec![], now), Wanted::Refused("none of its addresses can be dialled"));
    }
}
