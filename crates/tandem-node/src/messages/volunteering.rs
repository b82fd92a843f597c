//! What keeps a volunteer's node from serving, in words: for `tandem volunteer`.

use tandem_core::election::{Carrier, Family, Missing, Way};

/// A stable word for a program, a sentence for a person.
#[must_use]
pub fn missing_text(missing: &Missing) -> (&'static str, String) {
    match missing {
        Missing::Consent => ("consent", "You have not agreed to this role.".to_owned()),
        Missing::NewTerms { accepted, current } => (
            "new_terms",
            format!(
                "The terms have changed: number {current} holds now, and you agreed to number {accepted}."
            ),
        ),
        Missing::NoWayIn => (
            "no_way_in",
            "This machine has no public address, and the router forwards no port to it.".to_owned(),
        ),
        Missing::Unconfirmed { networks, wanted, way } => (
            "unconfirmed",
            format!(
                "{networks} of {wanted} other networks have reached this machine so far, {}.",
                way_text(*way)
            ),
        ),
        Missing::Unreachable { networks, way } => (
            "unreachable",
            format!(
                "Others tried to reach this machine from {networks} networks and could not, {}. A firewall or the \
                 router stops them.",
                way_text(*way)
            ),
        ),
        Missing::Uptime { missing_ms } => (
            "uptime",
            format!("The node has not run long enough without a break: {} more.", duration_text(*missing_ms)),
        ),
        Missing::Unmeasured => ("unmeasured", "The machine's load is still being measured.".to_owned()),
        Missing::Cpu { free_percent, wanted_percent } => (
            "cpu",
            format!("The machine is busy: {free_percent} % of it is free, and {wanted_percent} % should be."),
        ),
        Missing::Bandwidth { free_kbps, wanted_kbps } => (
            "bandwidth",
            format!("The line has {free_kbps} kbit/s free within your caps, and needs {wanted_kbps}."),
        ),
        Missing::Metered => ("metered", "The connection is metered: it costs by the byte.".to_owned()),
        Missing::OnBattery => ("on_battery", "The machine runs on its battery.".to_owned()),
        Missing::MonthlyCap { bytes } => {
            ("monthly_cap", format!("This month's {} are used up.", bytes_text(*bytes)))
        }
        Missing::OutsideHours { opens_in_ms } => (
            "outside_hours",
            format!("It is outside your hours; they begin in {}.", duration_text(*opens_in_ms)),
        ),
        Missing::Outdated => {
            ("outdated", "This Tandem is too old for the network. Install a newer one.".to_owned())
        }
    }
}

/// By which way: "over UDP and IPv4, through a forwarded port".
fn way_text(way: Way) -> String {
    let carrier = match way.carrier {
        Carrier::Udp => "UDP",
        Carrier::Tcp => "TCP",
    };
    let family = match way.family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    let mapped = if way.mapped { ", through a port that the router forwards" } else { "" };
    format!("by {carrier} over {family}{mapped}")
}

/// Rounded up, so that it is never "0 min".
fn duration_text(ms: u64) -> String {
    let minutes = ms.div_ceil(60_000);
    match minutes {
        0..=1 => "1 minute".to_owned(),
        2..=90 => format!("{minutes} minutes"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

fn bytes_text(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{bytes} bytes"),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn everything_that_can_be_missing_has_a_word_and_a_sentence() {
        let way = Way { family: Family::V6, carrier: Carrier::Udp, mapped: true };
        let all = [
            Missing::Consent,
            Missing::NewTerms { accepted: 1, current: 2 },
            Missing::NoWayIn,
            Missing::Unconfirmed { way, networks: 1, wanted: 3 },
            Missing::Unreachable { way, networks: 3 },
            Missing::Uptime { missing_ms: 61_000 },
            Missing::Unmeasured,
            Missing::Cpu { free_percent: 3, wanted_percent: 25 },
            Missing::Bandwidth { free_kbps: 100, wanted_kbps: 512 },
            Missing::Metered,
            Missing::OnBattery,
            Missing::MonthlyCap { bytes: 2_500_000_000 },
            Missing::OutsideHours { opens_in_ms: 3 * 3_600_000 },
            Missing::Outdated,
        ];
        let mut words = BTreeSet::new();
        for missing in all {
            let (word, text) = missing_text(&missing);
            assert!(words.insert(word), "{word} stands for two things");
            assert!(text.ends_with('.') && !text.contains("  "), "{text}");
        }
        assert_eq!(
            missing_text(&Missing::Uptime { missing_ms: 61_000 }).1.split(": ").nth(1),
            Some("2 minutes more.")
        );
        assert!(missing_text(&Missing::MonthlyCap { bytes: 2_500_000_000 }).1.contains("2.5 GB"));
        assert!(
            missing_text(&Missing::Unreachable { way, networks: 3 })
                .1
                .contains("by UDP over IPv6, through a port")
        );
    }
}
