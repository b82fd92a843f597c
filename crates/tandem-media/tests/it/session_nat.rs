//! NATs as RFC 4787 describes them, for the emulated network.

use std::net::{IpAddr, SocketAddr};

/// How a NAT maps and filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    FullCone,
    AddressRestricted,
    PortRestricted,
    /// Another mapping for each destination, and its answers only.
    Symmetric,
}

#[derive(Debug)]
pub(crate) struct Nat {
    kind: Kind,
    public: IpAddr,
    next_port: u16,
    mappings: Vec<Mapping>,
}

#[derive(Debug)]
struct Mapping {
    inner: SocketAddr,
    outer: SocketAddr,
    /// Only for a symmetric one.
    toward: Option<SocketAddr>,
    forwarded: bool,
    sent_to: Vec<SocketAddr>,
}

impl Nat {
    pub(crate) fn new(kind: Kind, public: IpAddr) -> Self {
        Self { kind, public, next_port: 30_000, mappings: Vec::new() }
    }

    /// Where a packet from inside seems to come from.
    pub(crate) fn outward(&mut self, inner: SocketAddr, to: SocketAddr) -> SocketAddr {
        let toward = (self.kind == Kind::Symmetric).then_some(to);
        let known = self
            .mappings
            .iter_mut()
            .find(|known| known.inner == inner && (known.forwarded || known.toward == toward));
        if let Some(mapping) = known {
            if !mapping.sent_to.contains(&to) {
                mapping.sent_to.push(to);
            }
            return mapping.outer;
        }
        self.next_port += 1;
        let outer = SocketAddr::new(self.public, self.next_port);
        self.mappings.push(Mapping { inner, outer, toward, forwarded: false, sent_to: vec![to] });
        outer
    }

    /// Which address inside a packet goes to, if it is let in.
    pub(crate) fn inward(&self, from: SocketAddr, outer: SocketAddr) -> Option<SocketAddr> {
        let mapping = self.mappings.iter().find(|mapping| mapping.outer == outer)?;
        let allowed = match self.kind {
            _ if mapping.forwarded => true,
            Kind::FullCone => true,
            Kind::AddressRestricted => mapping.sent_to.iter().any(|to| to.ip() == from.ip()),
            Kind::PortRestricted | Kind::Symmetric => mapping.sent_to.contains(&from),
        };
        allowed.then_some(mapping.inner)
    }

    /// Forwards a port to this address inside; its packets leave by that port too.
    pub(crate) fn forward(&mut self, inner: SocketAddr) -> SocketAddr {
        self.next_port += 1;
        let outer = SocketAddr::new(self.public, self.next_port);
        let mapping = Mapping { inner, outer, toward: None, forwarded: true, sent_to: Vec::new() };
        self.mappings.insert(0, mapping);
        outer
    }

    /// As after a restart of the router.
    pub(crate) fn forget(&mut self) {
        self.mappings.clear();
    }
}
