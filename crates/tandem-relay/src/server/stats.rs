//! What the server counts.

/// Why a packet had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum DropReason {
    /// Neither STUN nor ChannelData, or cut short, or with attributes that must be understood and are not.
    Malformed,
    /// A response, or an indication this server has no use for (a keep-alive among them).
    NotForUs,
    /// Data from a client without an allocation.
    NoAllocation,
    /// ChannelData on a channel that is not bound.
    NoChannel,
    /// Data for an address that is not the partner's, or the partner is not there.
    NoPartner,
    /// One of the two has not permitted the other.
    NoPermission,
    /// One of the two allocations has carried all its grant allows.
    Quota,
    /// The allocation sends faster than allowed.
    Rate,
    /// All calls together are more than the owner gives.
    TotalRate,
    /// An answer was due, but this source network has had its share of answers without authenticating.
    StrangerLimit,
}

impl DropReason {
    /// Every reason, in the order of [`Stats::dropped`].
    pub const ALL: [Self; 10] = [
        Self::Malformed,
        Self::NotForUs,
        Self::NoAllocation,
        Self::NoChannel,
        Self::NoPartner,
        Self::NoPermission,
        Self::Quota,
        Self::Rate,
        Self::TotalRate,
        Self::StrangerLimit,
    ];

    /// The label in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NotForUs => "not_for_us",
            Self::NoAllocation => "no_allocation",
            Self::NoChannel => "no_channel",
            Self::NoPartner => "no_partner",
            Self::NoPermission => "no_permission",
            Self::Quota => "quota",
            Self::Rate => "rate",
            Self::TotalRate => "total_rate",
            Self::StrangerLimit => "stranger_limit",
        }
    }
}

/// Totals since the start, and what is alive now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Allocations alive.
    pub allocations: usize,
    /// Pairs of allocations alive: calls that can carry sound.
    pub calls: usize,
    /// Such pairs made.
    pub calls_made: u64,
    /// Packets received, of any kind.
    pub packets_in: u64,
    /// Application packets switched from one client to the other, and their bytes without TURN's own.
    pub packets_forwarded: u64,
    pub bytes_forwarded: u64,
    /// Answers to requests.
    pub replies: u64,
    /// Answers to Binding requests, which need no credentials.
    pub bindings: u64,
    /// 401 and 438 answers.
    pub challenges: u64,
    /// Allocations made, and refused after their credentials were proved (quota, limits, drain, form).
    pub allocations_made: u64,
    pub allocations_refused: u64,
    /// Packets dropped, by [`DropReason`] in the order of [`DropReason::ALL`].
    pub dropped: [u64; DropReason::ALL.len()],
}

impl Stats {
    /// Packets dropped for this reason.
    #[must_use]
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }
}
