//! The nodes of a crowd.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use super::super::Bench;
use super::room;
use crate::client::Client;
use crate::demo::{Node, spawn};

const PORT: u16 = 4001;
/// The first node's local API; the namespace has no other services.
const FIRST_API_PORT: u16 = 20_000;
/// Leaves that start at the same time: a machine of two cores starts a few in a second.
const AT_ONCE: u32 = 4;
/// Supernodes that everybody begins from.
const BOOTSTRAP: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Leaf,
    Supernode,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Leaf => "leaf",
            Self::Supernode => "supernode",
        }
    }

    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Leaf => "leaves",
            Self::Supernode => "supernodes",
        }
    }
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) kind: Kind,
    pub(super) ip: Ipv4Addr,
    pub(super) node: Node,
}

impl Member {
    /// The way to its local API.
    pub(super) fn client(&self) -> Result<Client> {
        let found = Client::find(&self.node.data);
        let found = found.map_err(|problem| anyhow::anyhow!("{}: {problem:?}", self.node.name))?;
        found.with_context(|| format!("{} does not run any more", self.node.name))
    }
}

/// A running crowd. Dropping it ends every node.
#[derive(Debug)]
pub(super) struct World {
    pub(super) members: Vec<Member>,
}

impl World {
    pub(super) fn start(bench: &Bench, supernodes: u32, leaves: u32) -> Result<Self> {
        let folder = bench.folder(&format!("crowd-{}", supernodes + leaves))?;
        let mut members: Vec<Member> = Vec::new();
        for n in 0..supernodes {
            let bootstrap = bootstrap(&members);
            members.push(start(&folder, Kind::Supernode, n, n, &bootstrap)?);
        }
        let bootstrap = bootstrap(&members);
        members.extend(many(leaves, |n| start(&folder, Kind::Leaf, n, supernodes + n, &bootstrap))?);
        Ok(Self { members })
    }
}

fn bootstrap(members: &[Member]) -> Vec<String> {
    members.iter().take(BOOTSTRAP).flat_map(|member| member.node.ready.listen.clone()).collect()
}

/// `start` for every number below `count`, a few at a time; the first failure ends it.
fn many(count: u32, start: impl Fn(u32) -> Result<Member> + Sync) -> Result<Vec<Member>> {
    let next = AtomicU32::new(0);
    let started = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return;
                    }
                    let member = start(n);
                    if member.is_err() {
                        next.store(count, Ordering::Relaxed);
                    }
                    started.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(member);
                }
            });
        }
    });
    started.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_iter().collect()
}

fn start(folder: &Path, kind: Kind, n: u32, order: u32, bootstrap: &[String]) -> Result<Member> {
    let name = format!("{}-{}", kind.word(), n + 1);
    let ip = match kind {
        Kind::Leaf => room::leaf(n),
        Kind::Supernode => room::supernode(n),
    };
    let data = folder.join(&name);
    std::fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
    let api = u32::from(FIRST_API_PORT) + order;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(program);
    command.args(["up", "--json", "--data"]).arg(&data);
    command.arg("--api").arg(format!("127.0.0.1:{api}"));
    // A leaf listens nowhere: this is the address that its own connections come from.
    command.arg("--listen").arg(format!("{ip}:{PORT}"));
    if kind == Kind::Supernode {
        command.args(["--volunteer", "directory,relay", "--accept-terms", "1"]);
    }
    for address in bootstrap {
        command.arg("--bootstrap").arg(address);
    }
    let node = spawn(&name, &data, &folder.join(format!("{name}.log")), command)?;
    Ok(Member { kind, ip, node })
}
