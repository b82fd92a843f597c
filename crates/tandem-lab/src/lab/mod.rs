//! A running lab: its hosts, routers and lines.

mod build;
mod host;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};

pub use host::Host;

use crate::namespace::{Namespace, Prefix};
use crate::nat::Rules;
use crate::plan::Plan;
use crate::shell;
use crate::wire::{Engine, Link};

/// A private internet in network namespaces. Dropping it ends all that runs inside and removes it.
///
/// End the [`crate::Process`]es first: they are killed with the lab, and cannot say goodbye then.
#[derive(Debug)]
pub struct Lab {
    // Fields are dropped in this order: first the wires, then the namespaces.
    _engine: Option<Engine>,
    hosts: BTreeMap<String, Host>,
    routers: BTreeMap<String, Router>,
    links: BTreeMap<String, Link>,
    core: Namespace,
    _prefix: Prefix,
}

impl Lab {
    /// Makes it. Several labs may live at once, of one process or of several.
    ///
    /// # Errors
    /// Without root, without `ip` and `nft`, or when the plan contradicts itself.
    pub fn build(plan: &Plan) -> Result<Self> {
        build::build(plan)
    }

    /// A server or a host in a home, by its name in the plan.
    ///
    /// # Errors
    /// When there is none.
    pub fn host(&self, name: &str) -> Result<&Host> {
        self.hosts.get(name).with_context(|| format!("the lab has no host {name}"))
    }

    /// The router of a home or of a carrier.
    ///
    /// # Errors
    /// When there is none.
    pub fn nat(&self, name: &str) -> Result<&Router> {
        self.routers.get(name).with_context(|| format!("the lab has no home or carrier {name}"))
    }

    /// The access line of a server, home or carrier. `Up` is towards the network.
    ///
    /// # Errors
    /// When there is none, or when it was planned as perfect.
    pub fn link(&self, name: &str) -> Result<&Link> {
        self.links
            .get(name)
            .with_context(|| format!("the lab has no changeable line {name} (plan it with `line`)"))
    }

    /// From now on the network carries nothing between these two addresses, either way, until [`Lab::heal`].
    ///
    /// # Errors
    /// When the rules cannot be changed.
    pub fn cut(&self, one: IpAddr, other: IpAddr) -> Result<()> {
        let mut script = String::new();
        for (from, to) in [(one, other), (other, one)] {
            let set = if from.is_ipv4() { "cut4" } else { "cut6" };
            writeln!(script, "add element inet lab {set} {{ {from} . {to} }}")?;
        }
        self.core.nft(&script)
    }

    /// Undoes every [`Lab::cut`].
    ///
    /// # Errors
    /// When the rules cannot be changed.
    pub fn heal(&self) -> Result<()> {
        self.core.nft("flush set inet lab cut4\nflush set inet lab cut6\n")
    }

    /// The namespace in the middle, through which everything goes: for captures.
    pub fn core(&self) -> &Namespace {
        &self.core
    }
}

/// The router of a home or carrier.
#[derive(Debug)]
pub struct Router {
    namespace: Namespace,
    rules: Rules,
}

impl Router {
    /// Forgets all translations, as after a restart of the router; its public address stays.
    ///
    /// # Errors
    /// Without `conntrack`.
    pub fn flush(&self) -> Result<()> {
        self.namespace.nft(&self.rules.script())?;
        let mut command = self.namespace.command(Path::new("conntrack"));
        let output = command.arg("-F").output().context("cannot run conntrack")?;
        anyhow::ensure!(
            output.status.success(),
            "conntrack -F: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// Its address towards the network (a carrier's home: towards the carrier); none where there is no IPv4.
    pub fn outside(&self) -> Option<std::net::Ipv4Addr> {
        self.rules.outside
    }

    /// For captures, and for a look at `conntrack -L`.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// What its table of translations holds now, in the words of `conntrack -L`.
    ///
    /// # Errors
    /// Without `conntrack`.
    pub fn translations(&self) -> Result<String> {
        shell::run("ip", &["netns", "exec", self.namespace.name(), "conntrack", "-L"], "")
    }
}
