//! In which order the addresses of a supernode are tried in this network, and what is remembered of it: some networks
//! let no UDP out, some nothing but TCP to port 443, some one family only.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use super::address::transport_of;
use super::config::PreferredTransport;

const HTTPS_PORT: u16 = 443;
/// A kind that was under way for this long when another one won is taken for blocked, until it works once.
const BLOCKED_AFTER: Duration = Duration::from_millis(350);

/// What a network may block or let out as one: a transport and a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    transport: Class,
    v4: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Quic,
    Tcp,
    /// What looks like the web to a firewall.
    Tcp443,
}

impl Kind {
    /// `None`: without an IP address.
    pub(super) fn of(address: &Multiaddr) -> Option<Self> {
        let v4 = match address.iter().next()? {
            Protocol::Ip4(_) => true,
            Protocol::Ip6(_) => false,
            _ => return None,
        };
        let https = address.iter().any(|part| part == Protocol::Tcp(HTTPS_PORT));
        let transport = match transport_of(address) {
            "quic" => Class::Quic,
            _ if https => Class::Tcp443,
            _ => Class::Tcp,
        };
        Some(Self { transport, v4 })
    }
}

/// What worked in this network and what did not: at most one entry a kind.
#[derive(Debug, Default)]
pub(super) struct PathMemory(BTreeMap<Kind, bool>);

impl PathMemory {
    pub(super) fn works(&mut self, kind: Kind) {
        self.0.insert(kind, true);
    }

    /// Another kind finished first, when this one had been under way for so long.
    pub(super) fn overtaken(&mut self, kind: Kind, after: Duration) {
        if after >= BLOCKED_AFTER {
            self.0.insert(kind, false);
        }
    }

    fn is_blocked(&self, kind: Kind) -> bool {
        self.0.get(&kind) == Some(&false)
    }

    /// All addresses in the order of their turns, and when each has its turn. The kinds of transport follow each other
    /// by `stagger`; within one, the other family follows by half of it. What seems blocked comes last.
    pub(super) fn plan(
        &self,
        addresses: Vec<Multiaddr>,
        preferred: PreferredTransport,
        stagger: Duration,
    ) -> Vec<(Duration, Multiaddr)> {
        let place = |class: Class| match (class, preferred) {
            (Class::Quic, PreferredTransport::Quic) | (Class::Tcp, PreferredTransport::Tcp) => 0,
            (Class::Tcp443, _) => 2,
            _ => 1,
        };
        let mut kinds: Vec<(bool, u8, bool, Multiaddr)> = addresses
            .into_iter()
            .filter_map(|address| {
                let kind = Kind::of(&address)?;
                // IPv6 first (RFC 6724 §2.1): where there is none it fails at once.
                Some((self.is_blocked(kind), place(kind.transport), kind.v4, address))
            })
            .collect();
        kinds.sort_by_key(|(blocked, place, v4, _)| (*blocked, *place, *v4));
        let mut turn = Duration::ZERO;
        let mut before: Option<(bool, u8)> = None;
        let timed = |(blocked, place, _, address): (bool, u8, bool, Multiaddr)| {
            turn += match before {
                None => Duration::ZERO,
                Some(same) if same == (blocked, place) => stagger / 2,
                Some(_) => stagger,
            };
            before = Some((blocked, place));
            (turn, address)
        };
        kinds.into_iter().map(timed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGGER: Duration = Duration::from_millis(150);

    fn addresses() -> Vec<Multiaddr> {
        let texts = [
            "/ip4/192.0.2.1/udp/4001/quic-v1",
            "/ip4/192.0.2.1/tcp/4001",
            "/ip6/2001:db8::1/udp/4001/quic-v1",
            "/ip6/2001:db8::1/tcp/4001",
            "/ip4/192.0.2.1/tcp/443",
            "/ip6/2001:db8::1/tcp/443",
        ];
        texts.map(|text| text.parse().unwrap()).to_vec()
    }

    fn order(memory: &PathMemory, preferred: PreferredTransport) -> Vec<usize> {
        let plan = memory.plan(addresses(), preferred, STAGGER);
        plan.iter().map(|(_, at)| addresses().iter().position(|a| a == at).unwrap()).collect()
    }

    #[test]
    fn kinds_follow_each_other_and_families_alternate() {
        let memory = PathMemory::default();
        assert_eq!(order(&memory, PreferredTransport::Tcp), [3, 1, 2, 0, 5, 4]);
        assert_eq!(order(&memory, PreferredTransport::Quic), [2, 0, 3, 1, 5, 4]);
        let last = memory.plan(addresses(), PreferredTransport::Tcp, STAGGER).pop().unwrap().0;
        assert!(last < Duration::from_millis(600), "{last:?}");
        let one_family: Vec<_> = addresses().into_iter().filter(|a| Kind::of(a).unwrap().v4).collect();
        let turns: Vec<_> =
            memory.plan(one_family, PreferredTransport::Quic, STAGGER).iter().map(|(at, _)| *at).collect();
        assert_eq!(turns, [Duration::ZERO, STAGGER, STAGGER * 2]);
    }

    #[test]
    fn what_is_blocked_comes_last_until_it_works_once() {
        let mut memory = PathMemory::default();
        for blocked in [0, 1, 2, 3] {
            memory.overtaken(Kind::of(&addresses()[blocked]).unwrap(), Duration::from_millis(400));
        }
        assert_eq!(order(&memory, PreferredTransport::Tcp)[..2], [5, 4], "only port 443 gets out");
        memory.works(Kind::of(&addresses()[1]).unwrap());
        assert_eq!(order(&memory, PreferredTransport::Tcp)[0], 1);
        memory.overtaken(Kind::of(&addresses()[5]).unwrap(), Duration::from_millis(100));
        assert!(!memory.is_blocked(Kind::of(&addresses()[5]).unwrap()), "it had no time to show");
    }

    #[test]
    fn what_cannot_be_dialled_is_left_out() {
        let memory = PathMemory::default();
        let odd = vec!["/dns4/example.org/tcp/1".parse().unwrap(), Multiaddr::empty()];
        assert_eq!(memory.plan(odd, PreferredTransport::Tcp, STAGGER), []);
    }
}
