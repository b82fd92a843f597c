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
    /// What it runs, from [`release`]; [`RELEASE_UNKNOWN`] where nobody said.
    pub release: u16,
}

/// Nobody said what it runs.
pub const RELEASE_UNKNOWN: u16 = 0;

/// The software a supernode names in its descriptor, as a small number: equal for equal names, and (but for one pair
/// in 65,535) different for different ones.
#[must_use]
pub fn release(software: &str) -> u16 {
    if software.is_empty() {
        return RELEASE_UNKNOWN;
    }
    // FNV-1a, 32 bits, folded.
    let hash = software
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let folded = u16::try_from((hash >> 16) ^ (hash & 0xffff)).unwrap_or(u16::MAX);
    folded.max(RELEASE_UNKNOWN + 1)
}
