//! How policy names supernodes: by the driver's small numbers, so that a million leaves fit in a simulator.

/// A supernode in the driver's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerRef(pub u32);

/// A supernode that somebody told us of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownPeer {
    pub peer: PeerRef,
    /// Its network: `tandem_proto::network::network_group` of its address (a simulator may number them itself).
    pub network: u32,
    /// Who told us; `None`: the bootstrap list or our own memory.
    pub referrer: Option<PeerRef>,
    /// It can be reached over TCP port 443.
    pub port_443: bool,
}
