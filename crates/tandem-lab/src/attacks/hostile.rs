//! The hostile program (`crates/tandem-node/examples/hostile.rs`) as the lab runs it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::Receiver;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{FORGET, HOMES_WITHIN};
use crate::lab::Lab;
use crate::process::{Line, end, lines_of};

/// What hostile supernodes were asked, and how often they lied.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Met {
    /// Questions over `home/1`.
    pub asked: u64,
    /// Of these, for a place as somebody's home.
    pub places: u64,
    pub lied: u64,
}

impl Met {
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            asked: self.asked + other.asked,
            places: self.places + other.places,
            lied: self.lied + other.lied,
        }
    }

    /// An attack that nobody met proves nothing. Those whose very first answers are late or nonsense may well never be
    /// asked for a place.
    pub(super) fn nothing(self, manner: &str) -> Option<String> {
        let why = match manner {
            _ if self.asked == 0 => "nobody asked a hostile supernode anything",
            "lure" | "omit" | FORGET if self.places == 0 => "nobody asked a hostile supernode for a place",
            "omit" | "garbage" | FORGET if self.lied == 0 => "no hostile supernode had to lie",
            _ => return None,
        };
        Some(format!("nothing was tried: {why}"))
    }
}

/// Hostile supernodes on one host.
pub(super) struct HostilePlan<'a> {
    pub(super) host: &'a str,
    /// The first two numbers of their addresses.
    pub(super) network: &'a str,
    pub(super) count: usize,
    pub(super) manner: &'a str,
}

/// The hostile program. Dropping it ends it.
pub(super) struct Hostile {
    child: Child,
    lines: Receiver<Line>,
    pub(super) listen: Vec<String>,
    log: PathBuf,
    met: Met,
}

impl Hostile {
    pub(super) fn start(
        lab: &Lab,
        program: &Path,
        plan: &HostilePlan<'_>,
        bootstrap: &[String],
        folder: &Path,
    ) -> Result<Self> {
        ensure!(
            program.exists(),
            "there is no program {} (build it: cargo build --release -p tandem-node --example hostile)",
            program.display()
        );
        let (host, network) = (lab.host(plan.host)?, plan.network);
        let gate = host.v4().context("the hostile host has no address")?;
        lab.core().ip(&[format!("route add {network}.0.0/16 via {gate}")])?;
        host.namespace().ip(&[format!("route add local {network}.0.0/16 dev lo")])?;
        let mut command = host.command(&program.canonicalize()?);
        command.args(["--network", network, "--manner", plan.manner]);
        command.args(["--count", &plan.count.to_string()]);
        if plan.manner == FORGET {
            command.args(["--honest-first", "true"]);
        }
        for address in bootstrap {
            command.args(["--bootstrap", address]);
        }
        let log = folder.join(format!("hostile-{}.log", plan.host));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(std::fs::File::create(&log)?);
        let mut child = command.spawn().context("cannot run ip netns exec")?;
        let lines = lines_of(&mut child)?;
        let mut hostile = Self { child, lines, listen: Vec::new(), log, met: Met::default() };
        let line = hostile.lines.recv_timeout(HOMES_WITHIN).context("the hostile program did not start")?;
        let ready: Listening = serde_json::from_str(&line.text)?;
        hostile.listen = ready.listen;
        Ok(hostile)
    }

    /// From now on those that were honest first lie.
    pub(super) fn lie(&mut self) -> Result<()> {
        let input = self.child.stdin.as_mut().context("no standard input")?;
        writeln!(input, "lie").context("the hostile program takes no word")
    }

    /// What they met until now.
    pub(super) fn met(&mut self) -> Result<Met> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "the hostile program ended by itself; its log: {}", self.log.display());
        if let Some(line) = self.lines.try_iter().last() {
            self.met = serde_json::from_str(&line.text)?;
        }
        Ok(self.met)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

#[derive(Deserialize)]
struct Listening {
    listen: Vec<String>,
}
