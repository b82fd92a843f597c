//! One usable connection to each supernode that is wanted: its addresses race, each kind a little after the one before
//! and both families interleaved (as RFC 8305 §5 does), and the first to finish its handshake is used.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use super::config::PreferredTransport;
use super::paths::{Kind, PathMemory};

/// No connection after this long: the supernode cannot be reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Supernodes wanted at a time, at most; further ones fail at once.
const LINKS_MAX: usize = 1024;

/// All of them.
#[derive(Debug)]
pub(super) struct Links {
    stagger: Duration,
    memory: PathMemory,
    links: BTreeMap<PeerId, Link>,
}

#[derive(Debug)]
enum Link {
    Connecting(Connecting),
    Connected(ConnectionId, Multiaddr),
}

#[derive(Debug)]
struct Connecting {
    untried: Vec<(Instant, Multiaddr)>, // last first, each with its turn
    /// Those under way, and those that failed since: what this network lets out shows in them.
    tried: Vec<Try>,
    give_up_at: Instant,
    last_error: String,
}

#[derive(Debug)]
struct Try {
    address: Multiaddr,
    since: Instant,
    id: Option<ConnectionId>,
    failed: bool,
}

impl Connecting {
    fn is_dialing(&self) -> bool {
        self.tried.iter().any(|tried| !tried.failed)
    }
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
    /// `stagger`: between one kind of transport and the next.
    pub(super) fn new(stagger: Duration) -> Self {
        Self { stagger, memory: PathMemory::default(), links: BTreeMap::new() }
    }

    pub(super) fn want(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        preferred: PreferredTransport,
        now: Instant,
    ) -> Wanted {
        match self.links.get(&peer) {
            Some(Link::Connected(id, address)) => return Wanted::Connected(*id, address.clone()),
            Some(Link::Connecting(_)) => return Wanted::Pending,
            None if addresses.is_empty() => {
                return Wanted::Refused("this machine has no way to any of its addresses");
            }
            None if self.links.len() >= LINKS_MAX => {
                return Wanted::Refused("too many connections are being made");
            }
            None => {}
        }
        let mut untried: Vec<_> = self
            .memory
            .plan(addresses, preferred, self.stagger)
            .into_iter()
            .map(|(after, address)| (now + after, address))
            .collect();
        untried.reverse();
        let connecting = Connecting {
            untried,
            tried: Vec::new(),
            give_up_at: now + CONNECT_TIMEOUT,
            last_error: String::from("no answer"),
        };
        self.links.insert(peer, Link::Connecting(connecting));
        Wanted::Pending
    }

    /// Forgets all of them, and what was learned of the network before.
    pub(super) fn clear(&mut self) {
        self.links.clear();
        self.memory = PathMemory::default();
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
            Link::Connecting(c) => {
                Some(c.untried.last().map_or(c.give_up_at, |(turn, _)| (*turn).min(c.give_up_at)))
            }
            Link::Connected(..) => None,
        };
        self.links.values().filter_map(due).min()
    }

    /// The next thing to do, until there is none.
    pub(super) fn poll(&mut self, now: Instant) -> Option<LinkAction> {
        for (peer, link) in &mut self.links {
            let Link::Connecting(connecting) = link else { continue };
            let dialing = connecting.is_dialing();
            if now >= connecting.give_up_at || (connecting.untried.is_empty() && !dialing) {
                let (peer, reason) = (*peer, std::mem::take(&mut connecting.last_error));
                self.links.remove(&peer);
                return Some(LinkAction::Failed(peer, reason));
            }
            // What failed at once (no route of that family, refused) costs no waiting.
            let is_due = connecting.untried.last().is_some_and(|(turn, _)| now >= *turn || !dialing);
            if is_due && let Some((_, address)) = connecting.untried.pop() {
                let tried = Try { address: address.clone(), since: now, id: None, failed: false };
                connecting.tried.push(tried);
                return Some(LinkAction::Dial(*peer, address));
            }
        }
        None
    }

    /// The number of the dial that [`Links::poll`] asked for last.
    pub(super) fn dialing(&mut self, peer: &PeerId, id: ConnectionId) {
        if let Some(Link::Connecting(connecting)) = self.links.get_mut(peer)
            && let Some(tried) = connecting.tried.iter_mut().find(|tried| tried.id.is_none())
        {
            tried.id = Some(id);
        }
    }

    pub(super) fn dial_failed(&mut self, id: ConnectionId, error: String) {
        for link in self.links.values_mut() {
            if let Link::Connecting(connecting) = link
                && let Some(tried) = connecting.tried.iter_mut().find(|tried| tried.id == Some(id))
            {
                tried.failed = true;
                connecting.last_error = error;
                return;
            }
        }
    }

    /// A connection to this peer stands, dialled by us or not.
    pub(super) fn connected(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        address: &Multiaddr,
        now: Instant,
    ) -> Established {
        if let Some(kind) = Kind::of(address) {
            self.memory.works(kind);
        }
        match self.links.get_mut(&peer) {
            None => Established::Foreign,
            Some(Link::Connected(..)) => Established::Surplus,
            Some(link) => {
                let plain = address.iter().take_while(|p| !matches!(p, libp2p::multiaddr::Protocol::P2p(_)));
                let before = std::mem::replace(link, Link::Connected(id, plain.collect()));
                if let Link::Connecting(connecting) = before {
                    let others = connecting.tried.iter().filter(|tried| tried.id != Some(id));
                    for (kind, since) in others.filter_map(|t| Some((Kind::of(&t.address)?, t.since))) {
                        self.memory.overtaken(kind, now.saturating_duration_since(since));
                    }
                }
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
        let (mut links, peer, now) = (Links::new(STAGGER), PeerId::random(), Instant::now());
        assert_eq!(links.want(peer, addresses(), PreferredTransport::Tcp, now), Wanted::Pending);
        assert_eq!(links.poll(now), Some(LinkAction::Dial(peer, addresses()[1].clone())));
        links.dialing(&peer, id(1));
        assert_eq!(links.poll(now), None);
        assert_eq!(links.poll_timeout(), Some(now + STAGGER));
        assert_eq!(links.poll(now + STAGGER), Some(LinkAction::Dial(peer, addresses()[0].clone())));
        links.dialing(&peer, id(2));
        let late = now + STAGGER * 2;
        assert_eq!(links.connected(peer, id(2), &addresses()[0], late), Established::Link);
        let wanted = links.want(peer, vec![], PreferredTransport::Tcp, late);
        assert_eq!(wanted, Wanted::Connected(id(2), addresses()[0].clone()));
        // The other peers of this network are asked the way that worked, until the first shows that it works too.
        let other = PeerId::random();
        links.want(other, addresses(), PreferredTransport::Tcp, late);
        assert_eq!(links.poll(late), Some(LinkAction::Dial(other, addresses()[0].clone())));
        links.forget(&other);
        assert_eq!(links.connected(peer, id(1), &addresses()[1], late), Established::Surplus);
        links.want(other, addresses(), PreferredTransport::Tcp, late);
        assert_eq!(links.poll(late), Some(LinkAction::Dial(other, addresses()[1].clone())));
        assert!(!links.disconnected(&peer, id(1)));
        assert!(links.disconnected(&peer, id(2)));
        assert_eq!(links.get(&peer), None);
    }

    #[test]
    fn a_refused_address_gives_way_at_once() {
        let (mut links, peer, now) = (Links::new(STAGGER), PeerId::random(), Instant::now());
        assert_eq!(links.want(peer, addresses(), PreferredTransport::Quic, now), Wanted::Pending);
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
        let (mut links, peer, now) = (Links::new(STAGGER), PeerId::random(), Instant::now());
        assert_eq!(links.want(peer, addresses(), PreferredTransport::Tcp, now), Wanted::Pending);
        for (n, after) in [(1, Duration::ZERO), (2, STAGGER)] {
            assert!(matches!(links.poll(now + after), Some(LinkAction::Dial(..))));
            links.dialing(&peer, id(n));
            assert_eq!(links.poll(now + after), None);
        }
        let end = links.poll_timeout().unwrap();
        assert_eq!(end, now + CONNECT_TIMEOUT);
        assert_eq!(links.poll(end), Some(LinkAction::Failed(peer, "no answer".into())));
        let refused = Wanted::Refused("this machine has no way to any of its addresses");
        assert_eq!(links.want(peer, vec![], PreferredTransport::Tcp, now), refused);
    }
}
