//! `connections`: every connection of the running node, in a table, or with all that there is to say of each.

use tandem_api::{ConnectionRole, ConnectionView, Problem, SupernodeWhy};
use tandem_node::installation::unix_ms;
use tandem_proto::multiaddr::TransportAddress;

use super::Place;
use crate::client::Client;
use crate::output::{self, Exit};

/// Letters of an address in the table; the whole table is not wider than [`output::COLUMNS`].
const ADDRESS_LETTERS: usize = 23;

pub(super) fn connections(place: &Place, verbose: bool) -> Result<Exit, Problem> {
    let mut connections: Vec<ConnectionView> = Client::require(&place.data)?.get("/api/connections")?;
    connections.sort_by_key(|view| (view.role, view.since_unix_ms));
    output::either(place.json, &connections, |connections| {
        if connections.is_empty() {
            return "No connections now.".to_owned();
        }
        if verbose {
            return connections.iter().map(whole).collect::<Vec<_>>().join("\n");
        }
        let rows: Vec<[String; 7]> = connections.iter().map(row).collect();
        format!(
            "{}\nWhat each one can see, why it was chosen, what would replace it:\n  tandem connections --why",
            output::table(["For", "With", "At", "Over", "Since", "In", "Out"], &rows)
        )
    });
    Ok(Exit::Done)
}

fn row(view: &ConnectionView) -> [String; 7] {
    [
        role(view.role).to_owned(),
        short(&view.peer),
        clipped(&address(&view.remote)),
        view.transport.clone(),
        output::ago(view.since_unix_ms, unix_ms()),
        output::bytes(view.bytes_in),
        output::bytes(view.bytes_out),
    ]
}

fn role(role: ConnectionRole) -> &'static str {
    match role {
        ConnectionRole::Home => "home",
        ConnectionRole::Candidate => "next home",
        ConnectionRole::Errand => "question",
        ConnectionRole::Carrier => "way in",
        ConnectionRole::Signal => "call",
        ConnectionRole::Relay => "relay",
        ConnectionRole::Direct => "direct",
        ConnectionRole::Directory => "directory",
        ConnectionRole::Served => "serving",
        ConnectionRole::Forwarded => "passing on",
        ConnectionRole::Relayed => "relaying",
    }
}

/// All peer ids begin alike: their ends tell them apart.
fn short(peer: &str) -> String {
    let letters = peer.chars().count();
    if letters <= 8 {
        peer.to_owned()
    } else {
        format!("…{}", peer.chars().skip(letters - 7).collect::<String>())
    }
}

/// Of a multiaddr its address and port; of a circuit the supernode that carries it.
fn address(remote: &str) -> String {
    if let Some((before, _)) = remote.split_once("/p2p-circuit") {
        let carrier = before.rsplit_once("/p2p/").map_or(before, |(_, carrier)| carrier);
        return format!("through {}", short(carrier));
    }
    let plain = remote.split("/p2p/").next().unwrap_or(remote);
    match plain.parse::<TransportAddress>() {
        Ok(address) => address.socket().to_string(),
        Err(_) if remote.parse::<std::net::SocketAddr>().is_ok() => remote.to_owned(),
        Err(_) if remote.starts_with('/') || remote.is_empty() => remote.to_owned(),
        Err(_) => short(remote),
    }
}

fn clipped(text: &str) -> String {
    if text.chars().count() <= ADDRESS_LETTERS {
        return text.to_owned();
    }
    text.chars().take(ADDRESS_LETTERS - 1).chain(['…']).collect()
}

fn whole(view: &ConnectionView) -> String {
    let opened = if view.outbound { "opened by you" } else { "opened by it" };
    let mut text = format!("{}: {}\n", role(view.role), view.peer);
    text.push_str(&output::wrapped("  ", &view.purpose));
    let line = format!(
        "{} over {}, for {}, {opened}; {} in, {} out",
        if view.remote.is_empty() { "not connected" } else { &view.remote },
        view.transport,
        output::ago(view.since_unix_ms, unix_ms()),
        output::bytes(view.bytes_in),
        output::bytes(view.bytes_out),
    );
    text.push_str(&output::wrapped("  ", &line));
    text.push_str(&output::wrapped("  It sees: ", &view.sees));
    text.push_str(&output::wrapped("  It does not see: ", &view.does_not_see));
    text.push_str(&view.why.as_ref().map(why).unwrap_or_default());
    text
}

fn why(why: &SupernodeWhy) -> String {
    let mut text = String::new();
    if !why.because.is_empty() {
        text.push_str(&output::wrapped("  Why this one: ", &why.because.join(" ")));
    }
    for (index, next) in why.next.iter().enumerate() {
        let first = if index == 0 { "  Next would be: " } else { "                 " };
        text.push_str(&output::wrapped(first, &format!("{} ({})", short(&next.service), next.because)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    fn view() -> ConnectionView {
        ConnectionView {
            peer: PEER.to_owned(),
            role: ConnectionRole::Forwarded,
            purpose: "Keeps you reachable: calls for you arrive through this supernode.".to_owned(),
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
                    "It is in the network 198.51.0.0/16, and no other home of yours is.".to_owned(),
                ],
                next: vec![Default::default(), Default::default()],
                ..SupernodeWhy::default()
            }),
        }
    }

    #[test]
    fn the_widest_table_fits_a_terminal() {
        let text = output::table(["For", "With", "At", "Over", "Since", "In", "Out"], &[row(&view())]);
        for line in text.lines().chain(whole(&view()).lines()).filter(|line| !line.contains(PEER)) {
            assert!(line.chars().count() <= output::COLUMNS, "{}: {line}", line.chars().count());
        }
    }

    #[test]
    fn addresses_are_short() {
        assert_eq!(short(PEER), "…kx6nXTN");
        assert_eq!(address("/ip4/198.51.100.7/udp/4001/quic-v1"), "198.51.100.7:4001");
        assert_eq!(address(&format!("/ip4/198.51.100.7/tcp/4001/p2p/{PEER}")), "198.51.100.7:4001");
        assert_eq!(address(&format!("/ip4/1.2.3.4/tcp/1/p2p/{PEER}/p2p-circuit/p2p/x")), "through …kx6nXTN");
        assert_eq!(address("198.51.100.7:4001"), "198.51.100.7:4001");
    }
}
