//! What `tandem volunteer` prints for a person: at most 80 columns.

use tandem_api::{CapsView, LedgerLine, LedgerView, MissingView, ServingState, VolunteerRole, VolunteerView};
use tandem_node::installation::unix_ms;

use crate::output::{self, wrapped};

/// How it stands.
pub(super) fn status(view: &VolunteerView, runs: bool) -> String {
    let mut text = wrapped("", &headline(view, runs));
    for missing in &view.missing {
        text.push_str(&wrapped("  - ", &missing_line(missing)));
    }
    if view.accepted.is_none() {
        text.push_str("What volunteering means: tandem volunteer terms\n");
        return text;
    }
    if is_serving(view) {
        text.push_str(&row("Now", &now(view)));
    }
    text.push_str(&row("This month", &month(view)));
    text.push_str(&row("Caps", &caps_line(&view.caps)));
    text.push_str(&row("Consent", &consent(view)));
    text.push_str("What was served: tandem volunteer ledger. To stop: tandem volunteer withdraw\n");
    text
}

fn row(name: &str, text: &str) -> String {
    wrapped(&format!("{name:<12}"), text)
}

fn is_serving(view: &VolunteerView) -> bool {
    matches!(view.state, ServingState::Serving | ServingState::Draining)
}

fn headline(view: &VolunteerView, runs: bool) -> String {
    let roles = roles(&view.roles);
    match (view.state, view.accepted) {
        (ServingState::Serving, _) => format!("This machine serves others now: {roles}."),
        (ServingState::Draining, _) => {
            "This machine takes nothing new. Those it serves are moving to others.".to_owned()
        }
        (ServingState::Reserve, _) => {
            format!("In reserve ({roles}): others can reach this machine, and it is not needed now.")
        }
        (ServingState::Off, None) => {
            "This machine serves nobody: you have not agreed to volunteer.".to_owned()
        }
        (ServingState::Off, Some(accepted)) if view.suspended => format!(
            "This machine serves nobody: the terms have changed. Number {} holds now, and you agreed to number \
             {accepted}. Read them (tandem volunteer terms) and agree again (tandem volunteer accept).",
            view.terms
        ),
        (ServingState::Off, Some(_)) if !runs => {
            format!(
                "You agreed to volunteer ({roles}). No node is running now: it counts from the next start."
            )
        }
        (ServingState::Off, Some(_)) if view.missing.is_empty() => {
            format!("You agreed to volunteer ({roles}). This machine serves nobody yet.")
        }
        (ServingState::Off, Some(_)) => {
            format!("You agreed to volunteer ({roles}). This machine serves nobody now, because:")
        }
    }
}

fn missing_line(missing: &MissingView) -> String {
    match missing.role {
        Some(role) => format!("{}: {}", role_name(role), missing.text),
        None => missing.text.clone(),
    }
}

/// What is served at this moment.
pub(super) fn now(view: &VolunteerView) -> String {
    format!(
        "{}, {}, {}, {}",
        count(u64::from(view.devices_served), "device"),
        count(u64::from(view.circuits), "circuit"),
        count(u64::from(view.calls), "relayed call"),
        bits(view.bits_per_second),
    )
}

fn month(view: &VolunteerView) -> String {
    format!(
        "directory {} of {}, relay {} of {}",
        output::bytes(view.directory_bytes_this_month),
        output::bytes(view.caps.directory_bytes_per_month),
        output::bytes(view.bytes_this_month),
        output::bytes(view.caps.relay_bytes_per_month),
    )
}

fn caps_line(caps: &CapsView) -> String {
    let hours = caps.hours.as_deref().unwrap_or("all day");
    format!(
        "{}, {} at once, {}, {hours}",
        count(u64::from(caps.devices), "device"),
        count(u64::from(caps.calls), "call"),
        bits(caps.bits_per_second)
    )
}

/// All caps, and how to set them.
pub(super) fn caps(caps: &CapsView) -> String {
    let rows = [
        ["Devices".to_owned(), caps.devices.to_string(), "--devices".to_owned()],
        ["Relayed calls at once".to_owned(), caps.calls.to_string(), "--calls".to_owned()],
        ["Relayed sound".to_owned(), bits(caps.bits_per_second), "--bits-per-second".to_owned()],
        [
            "Directory, a month".to_owned(),
            output::bytes(caps.directory_bytes_per_month),
            "--directory-bytes-per-month".to_owned(),
        ],
        [
            "Relay, a month".to_owned(),
            output::bytes(caps.relay_bytes_per_month),
            "--relay-bytes-per-month".to_owned(),
        ],
        [
            "Hours".to_owned(),
            caps.hours.clone().unwrap_or_else(|| "all day".to_owned()),
            "--hours".to_owned(),
        ],
    ];
    output::table(["Cap", "Now", "Set with: tandem volunteer caps"], &rows)
}

/// What holds: roles agreed to at the same time are said together.
fn consent(view: &VolunteerView) -> String {
    let now = unix_ms();
    let mut said: Vec<(String, Vec<VolunteerRole>)> = Vec::new();
    for consent in view.consents.iter().filter(|consent| consent.withdrawn_unix_ms.is_none()) {
        let when = match consent.given_unix_ms {
            Some(given) => format!("{} ago", output::ago(given, now)),
            None => "in your settings".to_owned(),
        };
        let how = format!("{when}, terms {}", consent.terms);
        match said.iter_mut().find(|(known, _)| *known == how) {
            Some((_, roles)) => roles.push(consent.role),
            None => said.push((how, vec![consent.role])),
        }
    }
    let parts = said.iter().map(|(how, of)| format!("{} ({how})", roles(of)));
    parts.collect::<Vec<_>>().join(", ")
}

/// After an agreement.
pub(super) fn accepted(view: &VolunteerView, runs: bool) -> String {
    let thanks = format!("Thank you. You agreed to the terms number {}.\n", view.terms);
    let next = "Set limits with: tandem volunteer caps. Take it back with: tandem volunteer withdraw";
    let more = if runs { "See how it goes with: tandem volunteer. " } else { "" };
    format!("{thanks}{}{}", wrapped("", &headline(view, runs)), wrapped("", &format!("{more}{next}")))
}

/// After a withdrawal; `had`: how it stood before.
pub(super) fn withdrawn(had: &VolunteerView, view: &VolunteerView) -> String {
    let mut text = if had.accepted.is_none() {
        "You had not agreed to anything. This machine serves nobody.".to_owned()
    } else if is_serving(had) {
        "Withdrawn. This machine takes nothing new from now on; those it serves get up to a minute to move. See: tandem \
         volunteer"
            .to_owned()
    } else {
        "Withdrawn. This machine serves nobody.".to_owned()
    };
    if view.from_settings {
        text.push_str(
            " Your settings still say `volunteer`: take that out of tandem.toml or of the command line, or it serves \
             again with the next start.",
        );
    }
    wrapped("", &text)
}

/// The ledger as a table, with its sums.
pub(super) fn ledger(view: &LedgerView, days: u64) -> String {
    if view.lines.is_empty() {
        return format!("Nothing was served in the last {}.", count(days, "day"));
    }
    let head = ["Day (UTC)", "Role", "Traffic", "Devices", "Calls", "Setups", "Lookups", "Checks", "Served"];
    let rows: Vec<[String; 9]> = view.lines.iter().map(ledger_row).collect();
    let sum = |role| view.lines.iter().filter(|line| line.role == role).map(|line| line.bytes).sum();
    let sums = format!(
        "In all: directory {}, relay {}. Devices are the most at once. Whom you served is not written down; after {} it \
         is all forgotten.",
        output::bytes(sum(VolunteerRole::Directory)),
        output::bytes(sum(VolunteerRole::Relay)),
        count(view.days_kept, "day"),
    );
    format!("{}{}", output::table(head, &rows), wrapped("", &sums))
}

fn ledger_row(line: &LedgerLine) -> [String; 9] {
    let directory = line.role == VolunteerRole::Directory;
    let number = |of_role: bool, value: u64| if of_role { value.to_string() } else { "-".to_owned() };
    [
        line.day.clone(),
        role_name(line.role).to_owned(),
        output::bytes(line.bytes),
        number(directory, line.devices),
        number(!directory, line.calls),
        number(directory, line.circuits),
        number(directory, line.lookups),
        number(directory, line.checks),
        served(line.served_ms),
    ]
}

fn served(ms: u64) -> String {
    let minutes = ms / 60_000;
    match minutes {
        0 => format!("{} s", ms / 1_000),
        1..60 => format!("{minutes} min"),
        60..600 => format!("{}:{:02} h", minutes / 60, minutes % 60),
        _ => format!("{} h", minutes / 60),
    }
}

pub(super) fn role_name(role: VolunteerRole) -> &'static str {
    match role {
        VolunteerRole::Directory => "directory",
        VolunteerRole::Relay => "relay",
    }
}

fn roles(roles: &[VolunteerRole]) -> String {
    let names: Vec<&str> = roles.iter().map(|role| role_name(*role)).collect();
    names.join(" and ")
}

fn count(number: u64, of: &str) -> String {
    if number == 1 { format!("1 {of}") } else { format!("{number} {of}s") }
}

fn bits(per_second: u64) -> String {
    match per_second {
        0..1_000 => format!("{per_second} bit/s"),
        1_000..1_000_000 => format!("{:.1} kbit/s", per_second as f64 / 1e3),
        _ => format!("{:.1} Mbit/s", per_second as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use tandem_api::ConsentView;

    use super::*;

    fn view(state: ServingState) -> VolunteerView {
        let consent = |role| ConsentView { role, terms: 1, given_unix_ms: Some(0), withdrawn_unix_ms: None };
        VolunteerView {
            terms: 1,
            accepted: Some(1),
            roles: vec![VolunteerRole::Directory, VolunteerRole::Relay],
            state,
            devices_served: 12_345,
            circuits: 1,
            bytes_this_month: 99_900_000_000,
            consents: vec![consent(VolunteerRole::Directory), consent(VolunteerRole::Relay)],
            caps: CapsView {
                devices: 500,
                calls: 20,
                bits_per_second: 10_000_000,
                directory_bytes_per_month: 100_000_000_000,
                relay_bytes_per_month: 100_000_000_000,
                hours: Some("18:00-23:00".to_owned()),
            },
            calls: 1,
            bits_per_second: 640_000,
            ..VolunteerView::default()
        }
    }

    fn fits(text: &str) {
        for line in text.lines() {
            assert!(line.chars().count() <= output::COLUMNS, "{line:?}");
        }
    }

    #[test]
    fn every_state_is_said_in_eighty_columns() {
        let states =
            [ServingState::Off, ServingState::Reserve, ServingState::Serving, ServingState::Draining];
        let mut said = Vec::new();
        for state in states {
            let mut view = view(state);
            view.missing.push(MissingView {
                role: Some(VolunteerRole::Relay),
                what: "unreachable".to_owned(),
                text: "Others tried to reach this machine from 3 networks and could not, by UDP over IPv4. A firewall \
                       or the router stops them."
                    .to_owned(),
            });
            let text = status(&view, true);
            fits(&text);
            said.push(text.lines().next().unwrap_or_default().to_owned());
        }
        said.dedup();
        assert_eq!(said.len(), states.len(), "{said:?}");
        assert!(
            status(&view(ServingState::Serving), true).contains("12345 devices, 1 circuit, 1 relayed call")
        );
    }

    #[test]
    fn without_consent_or_with_old_consent_it_says_what_to_do() {
        let mut none = view(ServingState::Off);
        none.accepted = None;
        none.roles.clear();
        assert!(status(&none, true).contains("tandem volunteer terms"));
        let suspended = VolunteerView { terms: 2, suspended: true, ..view(ServingState::Off) };
        let text = status(&suspended, true);
        fits(&text);
        let unwrapped = text.replace('\n', " ");
        assert!(unwrapped.contains("agreed to number 1"), "{text}");
        assert!(unwrapped.contains("tandem volunteer accept"), "{text}");
        assert!(accepted(&view(ServingState::Off), false).contains("No node is running"));
    }

    #[test]
    fn withdrawing_says_what_follows() {
        let off = view(ServingState::Off);
        let serving = view(ServingState::Serving);
        assert!(withdrawn(&serving, &off).contains("a minute"));
        assert!(!withdrawn(&off, &off).contains("a minute"));
        let steady = VolunteerView { from_settings: true, ..view(ServingState::Draining) };
        let text = withdrawn(&serving, &steady);
        fits(&text);
        assert!(text.contains("tandem.toml"), "{text}");
    }

    #[test]
    fn the_ledger_fits_and_adds_up() {
        let line = |role| LedgerLine {
            day: "2026-11-23".to_owned(),
            role,
            bytes: 123_400_000_000,
            devices: 500,
            calls: 12_345,
            circuits: 12_345,
            lookups: 123_456,
            checks: 1_234,
            served_ms: 86_400_000,
        };
        let lines = vec![line(VolunteerRole::Directory), line(VolunteerRole::Relay)];
        let text = ledger(&LedgerView { days_kept: 400, lines }, 30);
        fits(&text);
        assert!(text.contains("24 h") && text.contains("relay 123.4 GB"), "{text}");
        assert!(ledger(&LedgerView { days_kept: 400, lines: Vec::new() }, 1).contains("last 1 day."));
    }
}
