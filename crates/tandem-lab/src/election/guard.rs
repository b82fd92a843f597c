//! Does a node that nobody consented for serve anybody? Its kernel knows: what it sends back on flows that others began,
//! and on what it listens.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::lab::Host;
use crate::process::Process;

/// Counts what leaves as an answer to a flow that came from outside. A reset is the kernel's refusal.
const RULES: &str = "table inet guard {
counter served { }
chain output { type filter hook output priority 0; policy accept;
oifname lo accept
meta l4proto tcp ct direction reply tcp flags & rst == 0 counter name served
meta l4proto udp ct direction reply counter name served
}
}
";
/// A flow of the node's own is forgotten late, so that what comes in late on it is not taken for a new one.
const TIMEOUTS: &[(&str, &str)] =
    &[("netfilter/nf_conntrack_udp_timeout", "900"), ("netfilter/nf_conntrack_udp_timeout_stream", "900")];

/// Begins to count on a host, before anything runs there.
pub(super) fn watch(host: &Host) -> Result<()> {
    host.namespace().nft(RULES)?;
    host.namespace().sysctl(TIMEOUTS)
}

/// Bytes that left in answer to others.
pub(super) fn served_bytes(host: &Host) -> Result<u64> {
    let mut command = host.command(Path::new("nft"));
    let output = command.args(["list", "counter", "inet", "guard", "served"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    bytes_in(&text).with_context(|| format!("no count of {}: {text}", host.name()))
}

fn bytes_in(text: &str) -> Option<u64> {
    let mut words = text.split_whitespace().skip_while(|word| *word != "bytes");
    words.nth(1)?.parse().ok()
}

/// TCP sockets that listen at anything but loopback, as `/proc` has them.
pub(super) fn listening(process: &Process) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (name, loopback) in [("tcp", "0100007F"), ("tcp6", "00000000000000000000000001000000")] {
        let path = format!("/proc/{}/net/{name}", process.pid());
        let Ok(text) = std::fs::read_to_string(&path) else {
            anyhow::ensure!(name == "tcp6", "cannot read {path}; is the node gone?");
            continue;
        };
        found.extend(listeners(&text, loopback));
    }
    Ok(found)
}

/// Local addresses of the rows in state LISTEN (0A), as the kernel writes them.
fn listeners<'a>(text: &'a str, loopback: &'a str) -> impl Iterator<Item = String> + 'a {
    text.lines().skip(1).filter_map(move |line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, _remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        (state == "0A" && !local.starts_with(loopback)).then(|| local.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_sockets_beyond_loopback_count() {
        let text = "  sl  local_address rem_address   st tx_queue\n\
                    0: 0100007F:1E1E 00000000:0000 0A 00000000:00000000\n\
                    1: 14000133:0FA1 00000000:0000 0A 00000000:00000000\n\
                    2: 14000133:8000 15000133:0FA1 01 00000000:00000000\n";
        assert_eq!(listeners(text, "0100007F").collect::<Vec<_>>(), ["14000133:0FA1"]);
    }

    #[test]
    fn a_counter_is_read() {
        let text = "table inet guard {\n\tcounter served {\n\t\tpackets 3 bytes 420\n\t}\n}\n";
        assert_eq!(bytes_in(text), Some(420));
        assert_eq!(bytes_in(""), None);
    }
}
