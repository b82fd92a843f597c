//! Between the wire's words for candidates and reports and the session's.

use std::net::{IpAddr, SocketAddr};

use sha2::{Digest, Sha256};
use tandem_proto::ids::ServiceKey;
use tandem_proto::wire;

use super::types::{Candidate, CandidateKind, PathId, Route};

impl Candidate {
    /// A candidate with ICE's recommended priority (RFC 8445 §5.1.2.1, RFC 8421 §4; one component, local preference 65535
    /// for IPv6 and 65534 for IPv4).
    #[must_use]
    pub fn new(kind: CandidateKind, addr: SocketAddr, relay: Option<ServiceKey>) -> Self {
        let type_preference: u32 = match kind {
            CandidateKind::Host => 126,
            CandidateKind::ServerReflexive => 100,
            CandidateKind::Relayed => 0,
        };
        let local_preference: u32 = if addr.is_ipv6() { 65_535 } else { 65_534 };
        Self { kind, addr, relay, priority: (type_preference << 24) | (local_preference << 8) | 255 }
    }

    /// As it is sent to the other end.
    #[must_use]
    pub fn to_wire(&self) -> wire::Candidate {
        wire::Candidate {
            kind: self.kind as u32,
            address: match self.addr.ip() {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            },
            port: u32::from(self.addr.port()),
            relay: self.relay.map(|key| key.as_bytes().to_vec()).unwrap_or_default(),
            priority: self.priority,
        }
    }

    /// Reads what the other end sent; `None` if it makes no sense.
    #[must_use]
    pub fn from_wire(candidate: &wire::Candidate) -> Option<Self> {
        let ip = if let Ok(v4) = <[u8; 4]>::try_from(candidate.address.as_slice()) {
            IpAddr::from(v4)
        } else {
            IpAddr::from(<[u8; 16]>::try_from(candidate.address.as_slice()).ok()?)
        };
        let port = u16::try_from(candidate.port).ok().filter(|port| *port != 0)?;
        let (kind, relay) = match candidate.kind {
            0 => (CandidateKind::Host, None),
            1 => (CandidateKind::ServerReflexive, None),
            2 => (CandidateKind::Relayed, Some(ServiceKey::try_from(candidate.relay.as_slice()).ok()?)),
            _ => return None,
        };
        Some(Self { kind, addr: SocketAddr::new(ip, port), relay, priority: candidate.priority })
    }
}

/// What a path is called in probes: 8 bytes (spec/media.md, "Probes"). Both ends call a relayed path alike. A direct one
/// has a name from each end, since behind NATs they see different addresses of it; the other end's is learnt from its
/// probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PathName(pub(super) [u8; 8]);

impl PathName {
    /// Any direct path: in reports by signalling, which have one entry for all of them.
    pub(super) const DIRECT: Self = Self([0; 8]);

    /// What this end calls its direct path of this number: four zero bytes, then the number and one, big-endian.
    pub(super) fn of_direct(path: PathId) -> Self {
        let mut name = [0; 8];
        name[4..].copy_from_slice(&path.0.saturating_add(1).to_be_bytes());
        Self(name)
    }

    /// Whether a direct path can be called that.
    pub(super) fn is_of_direct(self) -> bool {
        self.0[..4] == [0; 4] && self != Self::DIRECT
    }
}

/// How the two ends of one call name paths. A relay that reads a probe cannot tell from the names which other relays
/// the call uses: they are made with both ICE passwords, which relays never see.
#[derive(Debug, Clone)]
pub(super) struct PathNames {
    passwords: [String; 2],
}

impl PathNames {
    pub(super) fn new(local_password: &str, remote_password: &str) -> Self {
        let mut passwords = [local_password.to_owned(), remote_password.to_owned()];
        passwords.sort();
        Self { passwords }
    }

    /// The first 8 bytes of SHA-256("tandem path 1" ‖ lesser password ‖ 0 ‖ greater password ‖ 0 ‖ service key).
    pub(super) fn of_relay(&self, service: &ServiceKey) -> PathName {
        let digest = Sha256::new()
            .chain_update(b"tandem path 1")
            .chain_update(self.passwords[0].as_bytes())
            .chain_update([0])
            .chain_update(self.passwords[1].as_bytes())
            .chain_update([0])
            .chain_update(service.as_bytes())
            .finalize();
        let mut name = [0; 8];
        name.copy_from_slice(&digest[..8]);
        PathName(name)
    }

    pub(super) fn of(&self, id: PathId, route: &Route) -> PathName {
        match route {
            Route::Direct => PathName::of_direct(id),
            Route::Relay { service, .. } => self.of_relay(service),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_survive_the_wire() {
        for (kind, relay) in
            [(CandidateKind::Host, None), (CandidateKind::Relayed, Some(ServiceKey([7; 32])))]
        {
            for addr in ["127.0.0.1:9", "[2001:db8::1]:65535"] {
                let candidate = Candidate::new(kind, addr.parse().unwrap(), relay);
                assert_eq!(Candidate::from_wire(&candidate.to_wire()), Some(candidate));
            }
        }
    }

    #[test]
    fn both_ends_name_a_relay_alike_and_other_calls_differently() {
        let service = ServiceKey([5; 32]);
        let name = PathNames::new("one", "two").of_relay(&service);
        assert_eq!(name, PathNames::new("two", "one").of_relay(&service));
        assert_ne!(name, PathNames::new("two", "three").of_relay(&service));
    }

    #[test]
    fn a_direct_path_is_named_by_number() {
        let name = PathName::of_direct(PathId(0x0102_0304));
        assert_eq!(name, PathName([0, 0, 0, 0, 1, 2, 3, 5]));
        let hex: String = name.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let vectors = include_str!("../../../../spec/vectors/probe.json");
        assert!(vectors.contains(&format!("\"name\": \"{hex}\"")), "not in spec/vectors/probe.json: {hex}");
        assert!(PathName::of_direct(PathId(0)).is_of_direct() && !PathName::DIRECT.is_of_direct());
        assert!(!PathNames::new("one", "two").of_relay(&ServiceKey([5; 32])).is_of_direct());
    }

    #[test]
    fn names_are_those_of_the_specification() {
        let names = PathNames::new("mnopqrstuvwxyz012345+/", "0123456789abcdefghijkl");
        let hex: String =
            names.of_relay(&ServiceKey([5; 32])).0.iter().map(|byte| format!("{byte:02x}")).collect();
        let vectors = include_str!("../../../../spec/vectors/probe.json");
        assert!(vectors.contains(&format!("\"name\": \"{hex}\"")), "not in spec/vectors/probe.json: {hex}");
    }

    #[test]
    fn nonsense_candidates_are_refused() {
        let good = Candidate::new(
            CandidateKind::Relayed,
            "198.18.0.1:5".parse().unwrap(),
            Some(ServiceKey([1; 32])),
        );
        let good = good.to_wire();
        for bad in [
            wire::Candidate { port: 0, ..good.clone() },
            wire::Candidate { port: 65_536, ..good.clone() },
            wire::Candidate { kind: 3, ..good.clone() },
            wire::Candidate { relay: vec![], ..good.clone() },
            wire::Candidate { address: vec![1, 2, 3], ..good.clone() },
        ] {
            assert_eq!(Candidate::from_wire(&bad), None);
        }
    }
}
