//! A real daemon that forwards ports, miniupnpd, on the router of a home.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Speaks;
use crate::lab::Router;
use crate::namespace::Namespace;
use crate::process::end;
use crate::shell;

/// What a mapping by PCP lasts here, in seconds, so that a call outlives it. By the two other protocols the daemon grants
/// the two hours that it is asked for.
pub(super) const PCP_LIFETIME_S: u64 = 24;
const STARTED_WITHIN: Duration = Duration::from_secs(10);

/// Chains of its own for the daemon, before those of the router: it writes its rules into them.
const RULES: &str = "table inet mapped {
chain forwarded { }
chain arriving { }
chain leaving { }
chain forward { type filter hook forward priority -1; policy accept; jump forwarded; }
chain arrive { type nat hook prerouting priority -101; policy accept; jump arriving; }
chain leave { type nat hook postrouting priority 99; policy accept; jump leaving; }
}
";

/// A running daemon. Dropping it ends it; its mappings stay in the packet rules.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    router: Namespace,
    leases: PathBuf,
}

/// A mapping as the daemon writes it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) outside_port: u16,
    pub(super) inside: Ipv4Addr,
    pub(super) inside_port: u16,
    pub(super) until_unix_s: u64,
    /// What the daemon calls it; by that one knows the protocol.
    pub(super) label: String,
}

impl Daemon {
    pub(crate) fn start(router: &Router, speaks: Speaks, folder: &Path) -> Result<Self> {
        let outside = router.outside().context("the router has no IPv4 address")?;
        let leases = folder.join("leases");
        let config = folder.join("miniupnpd.conf");
        std::fs::write(&config, settings(speaks, &leases))
            .with_context(|| format!("cannot write {}", config.display()))?;
        let namespace = router.namespace().clone();
        namespace.nft(&format!("{RULES}{}", only(speaks)))?;
        let log = std::fs::File::create(folder.join("miniupnpd.log"))?;
        let mut command = namespace.command(Path::new("miniupnpd"));
        command.args(["-d", "-f"]).arg(&config).arg("-P").arg(folder.join("miniupnpd.pid"));
        command.args(["-o", &outside.to_string()]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().context("cannot run ip netns exec")?;
        let mut daemon = Self { child, router: namespace, leases };
        daemon.listening(speaks)?;
        Ok(daemon)
    }

    /// Waits until it has its socket.
    fn listening(&mut self, speaks: Speaks) -> Result<()> {
        let port = if speaks == Speaks::Upnp { ":1900 " } else { ":5351 " };
        let until = Instant::now() + STARTED_WITHIN;
        loop {
            let sockets = shell::run("ip", &["netns", "exec", self.router.name(), "ss", "-uln"], "")?;
            if sockets.contains(port) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "miniupnpd ended with {status} (./x lab --port-mapping installs it); see miniupnpd.log"
                );
            }
            anyhow::ensure!(Instant::now() < until, "miniupnpd does not listen; see miniupnpd.log");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The mappings that it has written down.
    pub(super) fn leases(&self) -> Vec<Lease> {
        let text = std::fs::read_to_string(&self.leases).unwrap_or_default();
        text.lines().filter_map(lease).collect()
    }

    /// The inside addresses and ports that the router's packet rules forward to, as `nft` writes them.
    pub(super) fn forwards(&self) -> Result<Vec<String>> {
        let arguments =
            ["netns", "exec", self.router.name(), "nft", "list", "chain", "inet", "mapped", "arriving"];
        let rules = shell::run("ip", &arguments, "")?;
        Ok(rules
            .lines()
            .filter_map(|line| Some(line.split_once("dnat ip to ")?.1.trim().to_owned()))
            .collect())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn settings(speaks: Speaks, leases: &Path) -> String {
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    let upnp = yes(speaks == Speaks::Upnp);
    let packets = yes(speaks != Speaks::Upnp);
    format!(
        "ext_ifname=wan
listening_ip=lan
http_port=5555
enable_natpmp={packets}
enable_upnp={upnp}
secure_mode=yes
min_lifetime=20
max_lifetime={PCP_LIFETIME_S}
upnp_table_name=mapped
upnp_nat_table_name=mapped
upnp_forward_chain=forwarded
upnp_nat_chain=arriving
upnp_nat_postrouting_chain=leaving
lease_file={}
uuid=7a2b8f34-5d0c-4c7e-9a3f-2f6b1e0d4c11
allow 1024-65535 0.0.0.0/0 1024-65535
",
        leases.display()
    )
}

/// The daemon has one switch for PCP and NAT-PMP: the router drops the other one's packets. Both begin with their version,
/// 2 (RFC 6887 §7.1) and 0 (RFC 6886 §3.2).
fn only(speaks: Speaks) -> String {
    let dropped = match speaks {
        Speaks::Pcp => 0,
        Speaks::NatPmp => 2,
        Speaks::Upnp | Speaks::Nothing => return String::new(),
    };
    format!(
        "table inet spoken {{
chain input {{ type filter hook input priority -1; policy accept;
udp dport 5351 @th,64,8 {dropped} drop
}}
}}
"
    )
}

/// A line of the daemon's file: `UDP:OUTSIDE PORT:INSIDE:INSIDE PORT:UNTIL:LABEL`.
fn lease(line: &str) -> Option<Lease> {
    let mut parts = line.splitn(6, ':');
    if parts.next()? != "UDP" {
        return None;
    }
    Some(Lease {
        outside_port: parts.next()?.parse().ok()?,
        inside: parts.next()?.parse().ok()?,
        inside_port: parts.next()?.parse().ok()?,
        until_unix_s: parts.next()?.parse().ok()?,
        label: parts.next()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_s_file_is_read() {
        let read = lease("UDP:20100:192.168.1.10:20101:1795411767:PCP MAP 4dc9e5b8").expect("a lease");
        assert_eq!((read.outside_port, read.inside_port, read.until_unix_s), (20_100, 20_101, 1_795_411_767));
        assert_eq!((read.inside, read.label.as_str()), (Ipv4Addr::new(192, 168, 1, 10), "PCP MAP 4dc9e5b8"));
        assert_eq!(lease("TCP:1:192.168.1.10:1:0:x"), None);
        assert_eq!(lease("UDP:70000:192.168.1.10:1:0:x"), None);
    }
}
