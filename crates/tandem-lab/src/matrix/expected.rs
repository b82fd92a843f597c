//! The committed table: which way each pair's sound must take, and why.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;
use tandem_api::CallPath;

use super::{Kind, Pair, Place, Relation};

/// The table, as it is compiled in.
const PAIRS: &str = include_str!("../../pairs.toml");

/// The table, read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    strangers: CallPath,
    strangers_reason: String,
    reasons: BTreeMap<String, String>,
    pair: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    kinds: Option<[Kind; 2]>,
    place: Option<Place>,
    contacts: CallPath,
    reason: String,
}

/// What one pair must do as contacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected<'a> {
    pub contacts: CallPath,
    pub reason: &'a str,
    pub why: &'a str,
}

impl Table {
    /// # Errors
    /// When the file is damaged.
    pub fn committed() -> Result<Self> {
        toml::from_str(PAIRS).context("pairs.toml")
    }

    /// # Errors
    /// When the table has no such pair, or names a reason that it does not give.
    pub fn expected(&self, pair: Pair) -> Result<Expected<'_>> {
        let fits = |row: &&Row| match pair {
            Pair::Kinds(one, other) => row.kinds == Some([one, other]) || row.kinds == Some([other, one]),
            Pair::Place(place) => row.place == Some(place),
        };
        let row = self.pair.iter().find(fits).with_context(|| format!("pairs.toml has no row for {pair}"))?;
        let why = self.reasons.get(&row.reason);
        let why = why.with_context(|| format!("pairs.toml gives no reason \"{}\"", row.reason))?;
        Ok(Expected { contacts: row.contacts, reason: &row.reason, why })
    }

    /// The path a pair must take, and the reason in words.
    ///
    /// # Errors
    /// As [`Table::expected`].
    pub fn path(&self, pair: Pair, relation: Relation) -> Result<(CallPath, &str)> {
        match relation {
            Relation::Strangers => Ok((self.strangers, &self.strangers_reason)),
            Relation::Contacts => self.expected(pair).map(|expected| (expected.contacts, expected.why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    /// What lets a packet in, for UDP over IPv4.
    #[derive(PartialEq, PartialOrd)]
    enum Filter {
        Nothing,
        Address,
        AddressAndPort,
    }

    /// Mapping by destination, and filter; `None` where no UDP over IPv4 gets out.
    fn v4(kind: Kind) -> Option<(bool, Filter)> {
        match kind {
            Kind::None | Kind::FullCone => Some((false, Filter::Nothing)),
            Kind::AddressRestricted => Some((false, Filter::Address)),
            Kind::PortRestricted | Kind::Carrier | Kind::DualStack => Some((false, Filter::AddressAndPort)),
            Kind::Symmetric => Some((true, Filter::AddressAndPort)),
            Kind::UdpBlocked | Kind::Tcp443Only | Kind::Ipv6Only => None,
        }
    }

    fn v6(kind: Kind) -> bool {
        matches!(kind, Kind::Ipv6Only | Kind::DualStack)
    }

    /// Can two that both try reach each other? Unless one's port for the other is unknown to the other and matters.
    fn meets(one: Kind, other: Kind) -> bool {
        let unknown_and_needed =
            |from: &(bool, Filter), to: &(bool, Filter)| from.0 && (to.0 || to.1 >= Filter::AddressAndPort);
        let over_v4 = match (v4(one), v4(other)) {
            (Some(one), Some(other)) => {
                !unknown_and_needed(&one, &other) && !unknown_and_needed(&other, &one)
            }
            _ => false,
        };
        over_v4 || (v6(one) && v6(other))
    }

    #[test]
    fn the_table_follows_from_mapping_and_filtering() {
        let table = Table::committed().expect("the table");
        for one in Kind::value_variants() {
            for other in Kind::value_variants() {
                let expected = table.expected(Pair::Kinds(*one, *other)).expect("a row").contacts;
                let derived = if meets(*one, *other) { CallPath::Direct } else { CallPath::Relayed };
                assert_eq!(expected, derived, "{one:?}, {other:?}");
            }
        }
    }

    #[test]
    fn every_place_has_a_row_and_every_reason_is_used() {
        let table = Table::committed().expect("the table");
        for place in Place::value_variants() {
            table.expected(Pair::Place(*place)).expect("a row");
        }
        for reason in table.reasons.keys() {
            assert!(table.pair.iter().any(|row| row.reason == *reason), "{reason} is not used");
        }
        let (strangers, _) = table.path(Pair::Place(Place::OneHome), Relation::Strangers).expect("a path");
        assert_eq!(strangers, CallPath::Relayed);
    }
}
