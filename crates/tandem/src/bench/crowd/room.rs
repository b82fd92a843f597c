//! The room that a crowd lives in: a network namespace whose whole network is this machine, and a process namespace,
//! so that nothing outlives the bench however it ends.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tandem_node::platform::signals;

use crate::bench::namespace::Traffic;

/// Counts each node's packets where they leave, by the addresses of both ends. The nodes' local APIs are not counted.
const RULES: &str = "table ip crowd {
set sent { type ipv4_addr; size 65535; flags dynamic; counter; }
set received { type ipv4_addr; size 65535; flags dynamic; counter; }
chain leave { type filter hook output priority 0; policy accept;
ip daddr 127.0.0.0/8 accept
update @sent { ip saddr counter }
update @received { ip daddr counter }
}
}
";

/// Address of supernode N, counted from 0: a /16 each.
pub(super) fn supernode(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x3300_0014 | ((n % 250 + 1) << 16))
}

/// Address of leaf N, counted from 0: a /16 each as far as 250 go.
pub(super) fn leaf(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x5100_0014 | ((n % 250 + 1) << 16) | ((n / 250) << 8))
}

/// Becomes `unshare`, which runs this command line once more, inside. Returns only where that fails.
pub(super) fn enter() -> anyhow::Error {
    let mut command = Command::new("unshare");
    // The kernel ends every process of the process namespace with its first, and that one with `unshare`.
    command.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return anyhow::Error::new(error).context("cannot find this program's own file"),
    };
    command.arg(program).args(std::env::args_os().skip(1)).arg("--inside");
    anyhow::Error::new(command.exec())
        .context("the program 'unshare' cannot be run; install the package util-linux")
}

/// Makes the network of the room. All of 51.0.0.0/8 and 81.0.0.0/8 is this machine.
///
/// # Errors
/// Without `ip` and `nft`, or where the machine lets nobody make namespaces.
pub(super) fn furnish() -> Result<()> {
    end_on_signal();
    for arguments in [
        // As on a wire, so that sizes are those of real packets.
        "link set lo mtu 1500",
        "link set lo up",
        // A node looks for an interface that leads somewhere. Nothing ever goes there.
        "link add crowd0 type veth peer name crowd1",
        "address add 192.0.2.1/24 dev crowd0",
        "link set crowd1 up",
        "link set crowd0 up",
        "route add default via 192.0.2.254 dev crowd0",
        "route add local 51.0.0.0/8 dev lo",
        "route add local 81.0.0.0/8 dev lo",
    ] {
        run("ip", &arguments.split(' ').collect::<Vec<_>>(), "")?;
    }
    run("nft", &["-f", "-"], RULES).map(drop)
}

/// The first process of a namespace gets only the signals that it asked for.
fn end_on_signal() {
    std::thread::spawn(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        if runtime.block_on(signals::terminate()).is_ok() {
            std::process::exit(130);
        }
    });
}

/// What each address sent and received so far.
///
/// # Errors
/// When `nft` does not say.
pub(super) fn traffic() -> Result<BTreeMap<Ipv4Addr, Traffic>> {
    let mut by_address: BTreeMap<Ipv4Addr, Traffic> = BTreeMap::new();
    for counted in set("sent")? {
        let traffic = by_address.entry(counted.val).or_default();
        traffic.sent_bytes += counted.counter.bytes;
        traffic.packets += counted.counter.packets;
    }
    for counted in set("received")? {
        let traffic = by_address.entry(counted.val).or_default();
        traffic.received_bytes += counted.counter.bytes;
        traffic.packets += counted.counter.packets;
    }
    Ok(by_address)
}

#[derive(Debug, Deserialize)]
struct Counted {
    val: Ipv4Addr,
    counter: Counter,
}

#[derive(Debug, Deserialize)]
struct Counter {
    packets: u64,
    bytes: u64,
}

fn set(name: &str) -> Result<Vec<Counted>> {
    parse(&run("nft", &["-j", "list", "set", "ip", "crowd", name], "")?)
}

/// The elements of the one set in what `nft -j` prints.
fn parse(text: &str) -> Result<Vec<Counted>> {
    #[derive(Deserialize)]
    struct Listing {
        nftables: Vec<serde_json::Value>,
    }
    #[derive(Deserialize)]
    struct Element {
        elem: Counted,
    }
    let listing: Listing = serde_json::from_str(text).context("nft printed something else than its JSON")?;
    let elements = listing.nftables.iter().find_map(|entry| entry.get("set")?.get("elem"));
    let Some(elements) = elements else { return Ok(Vec::new()) };
    let elements: Vec<Element> = serde_json::from_value(elements.clone())?;
    Ok(elements.into_iter().map(|element| element.elem).collect())
}

/// The owner of a process's entry in /proc is its effective user.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

fn run(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("the program '{program}' cannot be run; install iproute2 and nftables"))?;
    child.stdin.take().context("no standard input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_an_address_of_its_own_and_supernodes_a_network_each() {
        assert_eq!(supernode(0), Ipv4Addr::new(51, 1, 0, 20));
        assert_eq!(supernode(249), Ipv4Addr::new(51, 250, 0, 20));
        assert_eq!(leaf(0), Ipv4Addr::new(81, 1, 0, 20));
        assert_eq!(leaf(251), Ipv4Addr::new(81, 2, 1, 20));
        let leaves: std::collections::BTreeSet<Ipv4Addr> = (0..2_000).map(leaf).collect();
        assert_eq!(leaves.len(), 2_000);
    }

    #[test]
    fn what_nft_counted_is_read() {
        let text = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"set": {"family": "ip", "name": "sent",
            "elem": [{"elem": {"val": "51.1.0.20", "counter": {"packets": 3, "bytes": 360}}}]}}]}"#;
        let counted = parse(text).expect("it is as nft prints it");
        assert_eq!((counted[0].val, counted[0].counter.bytes), (Ipv4Addr::new(51, 1, 0, 20), 360));
        assert!(parse(r#"{"nftables": [{"set": {"name": "sent"}}]}"#).expect("an empty set").is_empty());
        assert!(parse("no JSON").is_err());
    }
}
