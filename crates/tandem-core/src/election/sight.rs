//! The supernodes in sight: those this node has heard from lately.

use tandem_proto::signed::Roles;

use crate::peer::PeerRef;

/// With fewer than this many others in sight, a reserve promotes itself, and nobody leaves for want of work.
pub const ENOUGH_IN_SIGHT: usize = 4;
/// Supernodes looked at.
const SIGHT_MAX: usize = 64;
/// Of one network at most this many count: whoever has many addresses in one place looks like few.
const PER_NETWORK_MAX: usize = 2;

/// A supernode, not this one, that is alive and does not drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighted {
    pub peer: PeerRef,
    pub network: u32,
    pub roles: Roles,
    /// As its descriptor says.
    pub load_percent: u32,
}

/// Those that count.
#[derive(Debug, Clone, Default)]
pub(super) struct Sight {
    seen: Vec<Sighted>,
}

impl Sight {
    pub(super) fn new(sighted: &[Sighted]) -> Self {
        let mut seen: Vec<Sighted> = Vec::new();
        for new in sighted {
            let in_network = seen.iter().filter(|known| known.network == new.network).count();
            let known = seen.iter().any(|known| known.peer == new.peer);
            if seen.len() < SIGHT_MAX && in_network < PER_NETWORK_MAX && !known {
                seen.push(*new);
            }
        }
        Self { seen }
    }

    /// How many have the role, of these, that fewest have.
    pub(super) fn fewest(&self, roles: Roles) -> usize {
        let each = [Roles::DIRECTORY, Roles::RELAY].into_iter().filter(|role| roles.contains(*role));
        each.map(|role| self.seen.iter().filter(|seen| seen.roles.contains(role)).count())
            .min()
            .unwrap_or(usize::MAX)
    }

    /// The load in the middle: no liar moves it far.
    pub(super) fn median_load_percent(&self) -> u32 {
        let mut loads: Vec<u32> = self.seen.iter().map(|seen| seen.load_percent).collect();
        median(&mut loads)
    }

    pub(super) fn get(&self, peer: PeerRef) -> Option<&Sighted> {
        self.seen.iter().find(|seen| seen.peer == peer)
    }

    pub(super) fn networks(&self) -> usize {
        let networks = || self.seen.iter().map(|seen| seen.network);
        networks().enumerate().filter(|(at, network)| !networks().take(*at).any(|it| it == *network)).count()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Sighted> {
        self.seen.iter()
    }
}

/// The middle of some percentages, the lower one of two; 100 of none.
pub(super) fn median(percentages: &mut [u32]) -> u32 {
    percentages.sort_unstable();
    let middle = percentages.len().saturating_sub(1) / 2;
    percentages.get(middle).copied().unwrap_or(100)
}
