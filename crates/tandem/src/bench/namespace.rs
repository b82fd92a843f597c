//! A network namespace of its own for one process, joined to this one by a veth pair whose bytes are counted.

use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Bytes of an Ethernet header, which the interface counts and the network behind it does not.
const ETHERNET: u64 = 14;
/// Locally administered addresses, fixed so that the neighbour tables can be written by hand.
const HOST_MAC: &str = "02:74:61:6e:64:01";
const LEAF_MAC: &str = "02:74:61:6e:64:02";
const HOST: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
const LEAF: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 2);
/// The second number of the first server's address 10.N.0.1.
const FIRST_SERVER: u8 = 201;

/// Bytes and packets of one node, with IP headers and without Ethernet's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
    /// Both ways.
    pub(super) packets: u64,
}

impl Traffic {
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            sent_bytes: self.sent_bytes.saturating_sub(earlier.sent_bytes),
            received_bytes: self.received_bytes.saturating_sub(earlier.received_bytes),
            packets: self.packets.saturating_sub(earlier.packets),
        }
    }
}

/// The namespace. Dropping it removes it and the veth pair.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
    veth: String,
}

impl Namespace {
    /// Makes the namespace, and an address 10.N.0.1 in a network of its own for each of `servers`.
    ///
    /// # Errors
    /// Without root, without iproute2, or where the addresses are in use.
    pub(super) fn make(servers: u8) -> Result<Self> {
        ensure!(
            is_root(),
            "the idle bench counts bytes in a network namespace of its own, and only root can make one. \
             Run it as root: sudo ./x bench idle"
        );
        let used = ip(&["-4", "-o", "address"])?;
        ensure!(
            !used.contains(" 10.20"),
            "this machine already has an address in 10.200.0.0 to 10.209.255.255 (another run of this bench?). \
             See: ip -4 -o address"
        );
        let id = std::process::id();
        let namespace = Self { name: format!("tandem-idle-{id}"), veth: format!("tdm{id}") };
        ip(&["netns", "add", &namespace.name])?;
        namespace.join(servers)?;
        Ok(namespace)
    }

    /// Addresses are put by hand on both sides and nothing asks for neighbours, so that only the leaf's own packets
    /// cross.
    fn join(&self, servers: u8) -> Result<()> {
        let (name, veth) = (self.name.as_str(), self.veth.as_str());
        ip(&[
            "link", "add", veth, "address", HOST_MAC, "type", "veth", "peer", "name", "leaf0", "address",
            LEAF_MAC,
        ])?;
        ip(&["link", "set", "leaf0", "netns", name])?;
        let quiet = format!("/proc/sys/net/ipv6/conf/{veth}/disable_ipv6");
        if Path::new(&quiet).exists() {
            std::fs::write(&quiet, "1").with_context(|| format!("cannot write {quiet}"))?;
        }
        let script = "f=/proc/sys/net/ipv6/conf/all/disable_ipv6; if [ -e $f ]; then echo 1 > $f; fi";
        ip(&["netns", "exec", name, "sh", "-c", script])?;
        ip(&["address", "add", &format!("{HOST}/24"), "dev", veth])?;
        for n in 0..servers {
            ip(&["address", "add", &format!("{}/32", server(n)), "dev", veth])?;
        }
        ip(&["link", "set", veth, "up"])?;
        ip(&[
            "neighbour",
            "replace",
            &LEAF.to_string(),
            "lladdr",
            LEAF_MAC,
            "dev",
            veth,
            "nud",
            "permanent",
        ])?;
        let inside = |arguments: &[&str]| ip(&[&["-n", name], arguments].concat());
        inside(&["link", "set", "lo", "up"])?;
        inside(&["address", "add", &format!("{LEAF}/24"), "dev", "leaf0"])?;
        inside(&["link", "set", "leaf0", "up"])?;
        inside(&[
            "neighbour",
            "replace",
            &HOST.to_string(),
            "lladdr",
            HOST_MAC,
            "dev",
            "leaf0",
            "nud",
            "permanent",
        ])?;
        inside(&["route", "add", "10.0.0.0/8", "via", &HOST.to_string()])?;
        Ok(())
    }

    /// A command that runs `program` inside.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// What crossed so far.
    ///
    /// # Errors
    /// When the interface is gone.
    pub(super) fn traffic(&self) -> Result<Traffic> {
        let count = |name: &str| -> Result<u64> {
            let path = format!("/sys/class/net/{}/statistics/{name}", self.veth);
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
            text.trim().parse().with_context(|| format!("not a number in {path}"))
        };
        // What this side received, the leaf sent.
        let (sent, received) = (count("rx_packets")?, count("tx_packets")?);
        Ok(Traffic {
            sent_bytes: count("rx_bytes")?.saturating_sub(sent * ETHERNET),
            received_bytes: count("tx_bytes")?.saturating_sub(received * ETHERNET),
            packets: sent + received,
        })
    }

    /// Removes what was made; what is gone already is no failure.
    pub(super) fn remove(name: &str, veth: &str) {
        for arguments in [["link", "delete", veth], ["netns", "delete", name]] {
            if let Err(error) = ip(&arguments) {
                tracing::debug!(%error, "not removed");
            }
        }
    }

    /// Name of the namespace, and of the veth on this side.
    pub(super) fn names(&self) -> (String, String) {
        (self.name.clone(), self.veth.clone())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        Self::remove(&self.name, &self.veth);
    }
}

/// Address of the server numbered from 0: each in a /16 of its own.
pub(super) fn server(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, FIRST_SERVER + n, 0, 1)
}

/// The owner of a process's entry in /proc is its effective user.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

fn ip(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("the program 'ip' cannot be run; install the package iproute2")?;
    if !output.status.success() {
        bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
