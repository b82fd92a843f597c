//! `connections`: every connection of the running node, in a table, or with all that there is to say of each.

use tandem_api::{ConnectionRole, ConnectionView, Problem, SupernodeWhy};
use tandem_node::installation::unix_ms;
use tandem_proto::multiaddr::TransportAddress;

use super::Place;
use crate::client::Client;
use crate::output::{self, Exit};

/// Letters of an address in the table; a terminal of [`output::COLUMNS`] is not wide enough for more.
const ADDRESS_LETTERS: usize = 21;
/// Of an address and of a peer id, where there is room.
const ADDRESS_LETTERS_WIDE: usize = 46;
const PEER_LETTERS_WIDE: usize = 16;
const PEER_LETTERS: usize = 7;
/// Columns from which on there is room for the longest of all rows.
const WIDE_COLUMNS: usize = 116;

pub(super) fn connections(place: &Place, verbose: bool) -> Result<Exit, Problem> {
    let mut connections: Vec<ConnectionView> = Client::require(&place.data)?.get("/api/connections")?;
    connections.sort_by_key(|view| (view.for_echo, view.role, view.since_unix_ms));
    output::either(place.json, &connections, |connections| {
        let columns = output::columns();
        match (connections.is_empty(), verbose) {
            (true, _) => "No connections now.".to_owned(),
            (_, true) => explained(connections, columns),
            (_, false) => listed(connections, columns),
        }
    });
    Ok(Exit::Done)
}

// ---- the table ------------------------------------------------------------------------------------------------------

fn listed(connections: &[ConnectionView], columns: usize) -> String {
    let rows: Vec<[String; 7]> = connections.iter().map(|view| row(view, columns)).collect();
    format!(
        "{}\nWhat each one can see, why it was chosen, and what would take its place:\n  tandem connections --why",
        output::table(["For", "With", "At", "Over", "Since", "In", "Out"], &rows)
    )
}

fn row(view: &ConnectionView, columns: usize) -> [String; 7] {
    let wide = columns >= WIDE_COLUMNS;
    // The bytes of a circuit are counted in the connections of its two ends.
    let counted =
        |bytes| if view.role == ConnectionRole::Forwarded { "-".to_owned() } else { output::bytes(bytes) };
    [
        label(view),
        short(peer(view), if wide { PEER_LETTERS_WIDE } else { PEER_LETTERS }),
        clipped(&address(&view.remote), if wide { ADDRESS_LETTERS_WIDE } else { ADDRESS_LETTERS }),
        view.transport.clone(),
        output::ago(view.since_unix_ms, unix_ms()),
        counted(view.bytes_in),
        counted(view.bytes_out),
    ]
}

fn label(view: &ConnectionView) -> String {
    let role = role(view.role);
    if view.for_echo { format!("echo {role}") } else { role.to_owned() }
}

fn role(role: ConnectionRole) -> &'static str {
    match role {
        ConnectionRole::Home => "home",
        ConnectionRole::Candidate => "trying",
        ConnectionRole::Errand => "question",
        ConnectionRole::Carrier => "way in",
        ConnectionRole::Signal => "call",
        ConnectionRole::Relay => "relay",
        ConnectionRole::Direct => "direct",
        ConnectionRole::Directory => "directory",
        ConnectionRole::Scout => "scout",
        ConnectionRole::Served => "serving",
        ConnectionRole::Visitor => "visitor",
        ConnectionRole::Forwarded => "passing on",
        ConnectionRole::Relayed => "relaying",
    }
}

/// A direct path has no name of its own.
fn peer(view: &ConnectionView) -> &str {
    if view.role == ConnectionRole::Direct { "device" } else { &view.peer }
}

/// All peer ids begin alike: their ends tell them apart.
fn short(peer: &str, letters: usize) -> String {
    let all = peer.chars().count();
    if all <= letters + 1 {
        peer.to_owned()
    } else {
        format!("…{}", peer.chars().skip(all - letters).collect::<String>())
    }
}

/// Of a multiaddr its address and port; of a circuit the supernode that carries it.
fn address(remote: &str) -> String {
    if let Some((before, _)) = remote.split_once("/p2p-circuit") {
        let carrier = before.rsplit_once("/p2p/").map_or(before, |(_, carrier)| carrier);
        return format!("through {}", short(carrier, PEER_LETTERS));
    }
    let plain = remote.split("/p2p/").next().unwrap_or(remote);
    match plain.parse::<TransportAddress>() {
        Ok(address) => address.socket().to_string(),
        Err(_) if remote.parse::<std::net::SocketAddr>().is_ok() => remote.to_owned(),
        Err(_) if remote.starts_with('/') || remote.is_empty() => remote.to_owned(),
        // Another device: the far end of a circuit.
        Err(_) => format!("to {}", short(remote, PEER_LETTERS)),
    }
}

fn clipped(text: &str, letters: usize) -> String {
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    text.chars().take(letters - 1).chain(['…']).collect()
}

// ---- all that there is to say ---------------------------------------------------------------------------------------

/// Those of one kind together: what is true of all of them is said once.
fn explained(connections: &[ConnectionView], columns: usize) -> String {
    let alike = |a: &ConnectionView, b: &ConnectionView| {
        (a.role, a.for_echo, &a.sees, &a.does_not_see) == (b.role, b.for_echo, &b.sees, &b.does_not_see)
    };
    let groups = connections.chunk_by(alike).map(|group| explained_group(group, columns));
    groups.collect::<Vec<_>>().join("\n")
}

fn explained_group(group: &[ConnectionView], columns: usize) -> String {
    let Some(first) = group.first() else { return String::new() };
    let purposes: Vec<Vec<&str>> = group.iter().map(|view| sentences(&view.purpose)).collect();
    let reasons: Vec<Vec<&str>> = group.iter().map(|view| because(view)).collect();
    let (purpose, reason) = (shared(&purposes), shared(&reasons));
    let count = if group.len() > 1 { format!(" ({})", group.len()) } else { String::new() };
    let mut text = format!("{}{count}\n", label(first).to_uppercase());
    let mut say = |first: &str, words: &str| {
        if !words.is_empty() {
            text.push_str(&output::wrapped_to(columns, first, words));
        }
    };
    say("  ", &first_of(&purposes, purpose).join(" "));
    say("  Can see:    ", &first.sees);
    say("  Cannot see: ", &first.does_not_see);
    say("  Chosen:     ", &first_of(&reasons, reason).join(" "));
    for (view, (purposes, reasons)) in group.iter().zip(purposes.iter().zip(&reasons)) {
        text.push('\n');
        text.push_str(&one(view, &purposes[purpose..], &reasons[reason..], columns));
    }
    text
}

/// One of a group: what is true of it alone.
fn one(view: &ConnectionView, purpose: &[&str], because: &[&str], columns: usize) -> String {
    let opened = if view.outbound { "opened by you" } else { "opened by it" };
    let at = match address(&view.remote) {
        at if at.is_empty() => "not connected".to_owned(),
        at => format!("{at} over {}", view.transport),
    };
    let line = if view.role == ConnectionRole::Forwarded {
        format!("{at}, for {}; counted with those two", output::ago(view.since_unix_ms, unix_ms()))
    } else {
        format!(
            "{at}, for {}, {opened}; {} in, {} out",
            output::ago(view.since_unix_ms, unix_ms()),
            output::bytes(view.bytes_in),
            output::bytes(view.bytes_out),
        )
    };
    let mut text = format!("  {}\n", peer(view));
    text.push_str(&output::wrapped_to(columns, "    ", &line));
    if !purpose.is_empty() {
        text.push_str(&output::wrapped_to(columns, "    ", &purpose.join(" ")));
    }
    if !because.is_empty() {
        text.push_str(&output::wrapped_to(columns, "    Why:  ", &because.join(" ")));
    }
    text.push_str(&view.why.as_ref().map(|why| next(why, columns)).unwrap_or_default());
    text
}

fn next(why: &SupernodeWhy, columns: usize) -> String {
    let mut text = String::new();
    for (index, next) in why.next.iter().enumerate() {
        let first = if index == 0 { "    Next: " } else { "          " };
        let peer = short(&next.service, PEER_LETTERS);
        text.push_str(&output::wrapped_to(columns, first, &format!("{peer} ({})", next.because)));
    }
    text
}

fn because(view: &ConnectionView) -> Vec<&str> {
    view.why.iter().flat_map(|why| &why.because).map(String::as_str).collect()
}

fn sentences(text: &str) -> Vec<&str> {
    text.split_inclusive(". ").map(str::trim).collect()
}

/// How many of the first sentences are the same in all.
fn shared(all: &[Vec<&str>]) -> usize {
    let Some((first, others)) = all.split_first() else { return 0 };
    let same = |at: &usize| others.iter().all(|other| other.get(*at) == first.get(*at));
    (0..first.len()).take_while(same).count()
}

fn first_of<'a>(all: &'a [Vec<&str>], count: usize) -> &'a [&'a str] {
    all.first().map(|first| &first[..count]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tandem_api::NextSupernode;

    use super::*;

    const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    fn view(role: ConnectionRole) -> ConnectionView {
        ConnectionView {
            peer: PEER.to_owned(),
            role,
            for_echo: true,
            purpose: "Keeps you reachable: calls for you arrive through this supernode. It runs over TCP."
                .to_owned(),
            since_unix_ms: unix_ms() - 40 * 3_600_000,
            transport: "circuit".to_owned(),
            remote: format!("/ip6/2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff/tcp/44300/p2p/{PEER}"),
            outbound: true,
            bytes_in: 999_949_999,
            bytes_out: 999_949_999,
            sees: "Your address on the internet, your device key, your account key, and when you are online."
                .to_owned(),
            does_not_see: "Your name.".to_owned(),
            why: Some(SupernodeWhy {
                because: vec![
                    "Homes are drawn by lot.".to_owned(),
                    "It is alone of your homes in the network 198.51.0.0/16.".to_owned(),
                ],
                next: vec![NextSupernode { service: PEER.to_owned(), because: "has room".to_owned() }],
                ..SupernodeWhy::default()
            }),
        }
    }

    const ROLES: [ConnectionRole; 13] = [
        ConnectionRole::Home,
        ConnectionRole::Candidate,
        ConnectionRole::Errand,
        ConnectionRole::Carrier,
        ConnectionRole::Signal,
        ConnectionRole::Relay,
        ConnectionRole::Direct,
        ConnectionRole::Directory,
        ConnectionRole::Scout,
        ConnectionRole::Served,
        ConnectionRole::Visitor,
        ConnectionRole::Forwarded,
        ConnectionRole::Relayed,
    ];

    fn widest(text: &str) -> usize {
        text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
    }

    #[test]
    fn the_widest_rows_fit_terminals_of_80_and_of_120_columns() {
        // The echo service of a node has these.
        let of_echo =
            [ConnectionRole::Home, ConnectionRole::Candidate, ConnectionRole::Signal, ConnectionRole::Relay];
        let views = ROLES.map(|role| ConnectionView { for_echo: of_echo.contains(&role), ..view(role) });
        for columns in [80, 120] {
            for text in [listed(&views, columns), explained(&views, columns)] {
                assert!(widest(&text) <= columns, "{} of {columns}:\n{text}", widest(&text));
            }
        }
        assert!(
            listed(&views, 120).contains("[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:44300"),
            "whole where it fits"
        );
        assert!(widest(&explained(&views, 120)) > 80, "the room there is, is used");
    }

    #[test]
    fn what_is_true_of_all_of_a_kind_is_said_once() {
        let other = ConnectionView {
            purpose: "Keeps you reachable: calls for you arrive through this supernode.".to_owned(),
            why: None,
            ..view(ConnectionRole::Home)
        };
        let two = explained(&[view(ConnectionRole::Home), view(ConnectionRole::Home)], 120);
        assert!(two.starts_with("ECHO HOME (2)\n  Keeps you reachable"), "{two}");
        assert_eq!(two.matches("Homes are drawn by lot.").count(), 1, "{two}");
        assert_eq!(two.matches("It runs over TCP.").count(), 1, "{two}");
        assert_eq!(two.matches(PEER).count(), 2, "{two}");
        assert_eq!(two.matches("Next: …kx6nXTN (has room)").count(), 2, "{two}");
        let differing = explained(&[other, view(ConnectionRole::Home)], 120);
        let (head, rest) = differing.split_once(PEER).unwrap();
        assert!(head.contains("Keeps you reachable") && !head.contains("It runs over TCP"), "{differing}");
        assert!(
            rest.contains("    It runs over TCP.") && rest.contains("Why:  Homes are drawn"),
            "{differing}"
        );
    }

    #[test]
    fn addresses_are_short() {
        assert_eq!(short(PEER, PEER_LETTERS), "…kx6nXTN");
        assert_eq!(address("/ip4/198.51.100.7/udp/4001/quic-v1"), "198.51.100.7:4001");
        assert_eq!(address(&format!("/ip4/198.51.100.7/tcp/4001/p2p/{PEER}")), "198.51.100.7:4001");
        assert_eq!(address(&format!("/ip4/1.2.3.4/tcp/1/p2p/{PEER}/p2p-circuit/p2p/x")), "through …kx6nXTN");
        assert_eq!(address("198.51.100.7:4001"), "198.51.100.7:4001");
        assert_eq!(address(PEER), "to …kx6nXTN");
        assert_eq!(address(""), "");
    }
}
