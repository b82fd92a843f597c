//! Every kind of network calls every kind: who they are, what is expected, the run, and how it is shown.

mod expected;
mod judge;
mod picture;
mod run;
mod show;
mod world;

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use expected::{Expected, Table};
pub use judge::{Again, Heard, Outcome, Relation};
pub use picture::picture;
pub use run::{Options, Report, run};
pub use show::{json, table};

/// A kind of network. The first eight make the table; the last two are for pairs of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Kind {
    None,
    FullCone,
    AddressRestricted,
    PortRestricted,
    Symmetric,
    /// A port-restricted home behind a carrier that translates again.
    Carrier,
    UdpBlocked,
    #[serde(rename = "tcp443_only")]
    #[value(name = "tcp443_only")]
    Tcp443Only,
    #[serde(rename = "ipv6_only")]
    #[value(name = "ipv6_only")]
    Ipv6Only,
    /// Port-restricted IPv4, and IPv6 behind a firewall.
    DualStack,
}

impl Kind {
    /// The eight of the table.
    pub const TABLE: [Self; 8] = [
        Self::None,
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::Symmetric,
        Self::Carrier,
        Self::UdpBlocked,
        Self::Tcp443Only,
    ];

    /// As a person reads it.
    pub fn words(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::FullCone => "full cone",
            Self::AddressRestricted => "address-restr.",
            Self::PortRestricted => "port-restr.",
            Self::Symmetric => "symmetric",
            Self::Carrier => "carrier",
            Self::UdpBlocked => "UDP blocked",
            Self::Tcp443Only => "TCP 443 only",
            Self::Ipv6Only => "IPv6 only",
            Self::DualStack => "dual stack",
        }
    }
}

/// Two hosts that share more than the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Place {
    /// On one LAN behind one port-restricted router.
    OneHome,
    /// Two homes behind one carrier that sends nothing back inside.
    OneCarrier,
    /// Two homes behind one carrier that does.
    HairpinCarrier,
}

/// Who calls whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Pair {
    /// Caller's network, callee's network.
    Kinds(Kind, Kind),
    Place(Place),
}

impl Pair {
    /// All 64, in rounds of eight that share no host: a Latin square.
    pub fn all() -> Vec<Self> {
        let kinds = Kind::TABLE;
        let rounds = (0..kinds.len()).flat_map(|round| {
            (0..kinds.len()).map(move |at| Self::Kinds(kinds[at], kinds[(at + round) % kinds.len()]))
        });
        rounds.collect()
    }

    /// Twelve that between them use every kind, every reason why a path is direct or not, and both versions of IP.
    pub fn few() -> Vec<Self> {
        vec![
            Self::Kinds(Kind::PortRestricted, Kind::PortRestricted),
            Self::Kinds(Kind::Symmetric, Kind::Symmetric),
            Self::Kinds(Kind::UdpBlocked, Kind::Tcp443Only),
            Self::Kinds(Kind::Ipv6Only, Kind::DualStack),
            Self::Kinds(Kind::Carrier, Kind::FullCone),
            Self::Kinds(Kind::None, Kind::UdpBlocked),
            Self::Place(Place::OneHome),
            Self::Place(Place::OneCarrier),
            Self::Kinds(Kind::Symmetric, Kind::AddressRestricted),
            Self::Kinds(Kind::PortRestricted, Kind::Symmetric),
            Self::Kinds(Kind::Ipv6Only, Kind::PortRestricted),
            Self::Place(Place::HairpinCarrier),
        ]
    }

    /// `symmetric,port_restricted`, or `one_home`.
    ///
    /// # Errors
    /// When a word is none of those; the message has them all.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(place) = Place::from_str(text, true) {
            return Ok(Self::Place(place));
        }
        let two = text.split_once(',').and_then(|(caller, callee)| {
            let kind = |word: &str| Kind::from_str(word.trim(), true).ok();
            Some(Self::Kinds(kind(caller)?, kind(callee)?))
        });
        two.ok_or_else(|| {
            format!(
                "\"{text}\" is no pair; one is two of {}, with a comma between them, or one of {}",
                names::<Kind>(),
                names::<Place>()
            )
        })
    }

    fn seats(self) -> [Seat; 2] {
        [
            Seat { pair_place: self.place(), kind: self.kinds().0, callee: false },
            Seat { pair_place: self.place(), kind: self.kinds().1, callee: true },
        ]
    }

    fn place(self) -> Option<Place> {
        match self {
            Self::Kinds(..) => None,
            Self::Place(place) => Some(place),
        }
    }

    fn kinds(self) -> (Kind, Kind) {
        match self {
            Self::Kinds(caller, callee) => (caller, callee),
            Self::Place(_) => (Kind::PortRestricted, Kind::PortRestricted),
        }
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kinds(caller, callee) => write!(f, "{},{}", name(caller), name(callee)),
            Self::Place(place) => f.write_str(&name(place)),
        }
    }
}

/// One person's place in the world: every kind has a caller and a callee, every [`Place`] its own two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seat {
    pair_place: Option<Place>,
    kind: Kind,
    callee: bool,
}

impl Seat {
    /// Name of its home; its host has `-host` behind it.
    fn home(self) -> String {
        let side = if self.callee { "b" } else { "a" };
        let what = self.pair_place.as_ref().map_or_else(|| name(&self.kind), name);
        format!("{side}-{}", what.replace('_', "-"))
    }

    fn host(self) -> String {
        format!("{}-host", self.home())
    }
}

fn name<T: ValueEnum>(value: &T) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn names<T: ValueEnum>() -> String {
    T::value_variants().iter().map(name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn sixty_four_pairs_in_rounds_that_share_no_host() {
        let all = Pair::all();
        assert_eq!(all.iter().copied().collect::<BTreeSet<_>>().len(), 64);
        for round in all.chunks(8) {
            let seats: BTreeSet<Seat> = round.iter().flat_map(|pair| pair.seats()).collect();
            assert_eq!(seats.len(), 16);
        }
    }

    #[test]
    fn twelve_pairs_use_every_kind() {
        let few = Pair::few();
        assert_eq!(few.iter().copied().collect::<BTreeSet<_>>().len(), 12);
        let used: BTreeSet<Kind> = few.iter().flat_map(|pair| [pair.kinds().0, pair.kinds().1]).collect();
        assert_eq!(used.len(), Kind::value_variants().len());
        let table = Table::committed().expect("the table");
        let reasons: BTreeSet<&str> =
            few.iter().map(|pair| table.expected(*pair).expect("a row").reason).collect();
        assert!(reasons.len() >= 9, "{reasons:?}");
    }

    #[test]
    fn pairs_are_read_as_they_are_written() {
        for pair in Pair::all().into_iter().chain(Pair::few()) {
            assert_eq!(Pair::parse(&pair.to_string()), Ok(pair));
        }
        assert!(Pair::parse("symmetric").expect_err("half a pair").contains("tcp443_only"));
    }
}
