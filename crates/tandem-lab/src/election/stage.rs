//! The lab of the election, and its nodes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use tandem_api::{ServingState, VolunteerView};

use super::report::Guarded;
use super::{Options, Size, guard};
use crate::lab::Lab;
use crate::plan::{CarrierPlan, HomePlan, Nat, Plan};
use crate::process::{Ground, NodePlan, Process};

/// The one that everybody begins from: an operator runs it.
const FIRST: &str = "s1";
/// Nodes that start at the same time.
const AT_ONCE: usize = 4;
/// Behind these in turn. A network that lets out TCP to port 443 only is left out: nobody here listens there but the first
/// supernode, which dies.
const NATS: [Nat; 6] = [
    Nat::PortRestricted,
    Nat::Symmetric,
    Nat::FullCone,
    Nat::AddressRestricted,
    Nat::UdpBlocked,
    Nat::PortRestricted,
];
/// One of six homes is behind the carrier besides.
const BEHIND_CARRIER: usize = 6;
const SERVES_AGAIN: Duration = Duration::from_secs(40);
/// Where only counts are judged.
const SERVES_AGAIN_UNTIMED: Duration = Duration::from_secs(150);

/// A node that may serve; without a process it was killed.
#[derive(Debug)]
pub(super) struct Volunteer {
    pub(super) name: String,
    pub(super) process: Option<Process>,
}

/// The order of fields is the order of their end.
pub(super) struct Stage {
    /// The first supernode, then those whose owners consent.
    pub(super) volunteers: Vec<Volunteer>,
    /// All others.
    pub(super) leaves: Vec<Process>,
    /// Where the first supernode listens: everybody is told one of these addresses.
    first: Vec<String>,
    ground: Ground,
    lab: Lab,
    size: Size,
    steady: bool,
    serves_again: Duration,
}

impl Stage {
    pub(super) fn build(options: &Options) -> Result<Self> {
        let size = options.size;
        let mut plan = Plan::with_servers(1 + size.public, None).carrier(CarrierPlan::new("carrier"));
        for n in 0..size.natted {
            let mut home = HomePlan::new(&format!("h{}", n + 1), nat(n));
            if n % BEHIND_CARRIER == BEHIND_CARRIER - 1 {
                home = home.via("carrier");
            }
            plan = plan.home(home);
        }
        let lab = Lab::build(&plan)?;
        let folder = options.out.join("election");
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        let ground = Ground::new(&options.binary, &folder)?.log(&options.log);
        Ok(Self {
            volunteers: Vec::new(),
            leaves: Vec::new(),
            first: Vec::new(),
            ground,
            lab,
            size,
            steady: options.steady,
            serves_again: if options.counts_only { SERVES_AGAIN_UNTIMED } else { SERVES_AGAIN },
        })
    }

    /// Starts everybody; owners consent as soon as their node runs. Returns when the last one was started.
    pub(super) fn start(&mut self, say: &(dyn Fn(String) + Sync)) -> Result<Instant> {
        let begun = Instant::now();
        let first = self.ground.start(self.lab.host(FIRST)?, &NodePlan::server(&[]))?;
        self.first = first.ready().listen.clone();
        ensure!(!self.first.is_empty(), "the first supernode does not say where it listens");
        self.volunteers.push(Volunteer { name: FIRST.to_owned(), process: Some(first) });
        let public = (2..2 + self.size.public).map(|n| format!("s{n}"));
        let natted = (1..=self.size.natted).map(|n| format!("h{n}-host"));
        let names: Vec<String> = public.chain(natted).collect();
        for name in &names[self.size.consented..] {
            guard::watch(self.lab.host(name)?)?;
        }
        let mut nodes = self.start_many(&names)?;
        let last_start = Instant::now();
        self.leaves = nodes.split_off(self.size.consented);
        self.volunteers.extend(
            nodes.into_iter().map(|node| Volunteer { name: node.name().to_owned(), process: Some(node) }),
        );
        say(format!(
            "{} nodes started in {:.1} s with one address to begin from; {} owners consented",
            self.size.nodes(),
            begun.elapsed().as_secs_f64(),
            self.size.consented
        ));
        Ok(last_start)
    }

    /// Starts these nodes, a few at a time, in this order.
    fn start_many(&self, names: &[String]) -> Result<Vec<Process>> {
        let next = AtomicUsize::new(0);
        let started: Mutex<Vec<(usize, Result<Process>)>> = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        let Some(name) = names.get(n) else { return };
                        let node = self.start_one(name, n < self.size.consented, true);
                        started.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((n, node));
                    }
                });
            }
        });
        let mut started = started.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        started.sort_by_key(|(n, _)| *n);
        started.into_iter().map(|(_, node)| node).collect()
    }

    fn start_one(&self, name: &str, consents: bool, fresh: bool) -> Result<Process> {
        let mut plan = NodePlan::person(&self.bootstrap(name), "echo");
        plan.more = ["--strangers", "ring"].map(str::to_owned).to_vec();
        plan.fresh = fresh;
        plan.server = self.steady && consents;
        let node = self.ground.start(self.lab.host(name)?, &plan)?;
        if consents && fresh && !self.steady {
            consent(&node)?;
        }
        Ok(node)
    }

    /// The one address that this node is told: by UDP, but where none gets out.
    fn bootstrap(&self, name: &str) -> Vec<String> {
        let part = if nat_of(name) == Some(Nat::UdpBlocked) { "/tcp/" } else { "/udp/" };
        self.first.iter().find(|address| address.contains(part)).cloned().into_iter().collect()
    }

    /// Those that were killed come back with what they had, the first supernode included.
    pub(super) fn start_again(&mut self, say: &(dyn Fn(String) + Sync)) -> Result<()> {
        let begun = Instant::now();
        for n in 0..self.volunteers.len() {
            if self.volunteers[n].process.is_some() {
                continue;
            }
            let name = self.volunteers[n].name.clone();
            let node = if name == FIRST {
                let plan = NodePlan { fresh: false, ..NodePlan::server(&[]) };
                self.ground.start(self.lab.host(&name)?, &plan)?
            } else {
                self.start_one(&name, true, false)?
            };
            self.volunteers[n].process = Some(node);
        }
        // Some of them are needed again before all homes of somebody can die and others be left.
        while serving(&self.volunteers).len() <= super::HOMES && begun.elapsed() < self.serves_again {
            std::thread::sleep(super::LOOK);
        }
        let serving = serving(&self.volunteers);
        say(format!("the dead came back; {} serve: {}", serving.len(), serving.join(", ")));
        Ok(())
    }

    /// Every plain node's own device.
    pub(super) fn devices(&self) -> impl Iterator<Item = &Process> {
        let volunteers = self.volunteers.iter().filter(|volunteer| volunteer.name != FIRST);
        volunteers.filter_map(|volunteer| volunteer.process.as_ref()).chain(&self.leaves)
    }

    /// What those did whose owners did not consent.
    pub(super) fn guarded(&self) -> Result<Vec<Guarded>> {
        let one = |leaf: &Process| -> Result<Guarded> {
            let view: VolunteerView = leaf.get("/api/volunteer")?;
            Ok(Guarded {
                name: leaf.name().to_owned(),
                served_bytes: guard::served_bytes(self.lab.host(leaf.name())?)?,
                listening: guard::listening(leaf)?,
                says_it_serves: view.state != ServingState::Off || view.bytes_served > 0,
            })
        };
        self.leaves.iter().map(one).collect()
    }
}

/// Of the home with this number, counted from 0.
fn nat(home: usize) -> Nat {
    NATS[home % NATS.len()]
}

/// What the host of home N, called `hN-host`, is behind; `None`: it has a public address.
fn nat_of(name: &str) -> Option<Nat> {
    let number: usize = name.strip_prefix('h')?.strip_suffix("-host")?.parse().ok()?;
    Some(nat(number.checked_sub(1)?))
}

/// The owner reads the terms and accepts them, for both roles.
pub(super) fn consent(node: &Process) -> Result<()> {
    let mut command = node.command(&["volunteer", "accept", "--terms", "1"]);
    let output = command.output().context("cannot run ip netns exec")?;
    if !output.status.success() {
        bail!("{}: no consent: {}", node.name(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Names of those that serve now, by their own word.
pub(super) fn serving(volunteers: &[Volunteer]) -> Vec<String> {
    let serves = |node: &Process| {
        node.get::<VolunteerView>("/api/volunteer").is_ok_and(|view| view.state == ServingState::Serving)
    };
    let running = volunteers.iter().filter(|volunteer| volunteer.process.as_ref().is_some_and(serves));
    running.map(|volunteer| volunteer.name.clone()).collect()
}

/// Who of those that live is a home of this device: it holds a reservation there.
pub(super) fn living_homes(device: &Process, volunteers: &[Volunteer]) -> Result<Vec<String>> {
    let status = device.status()?;
    let homes = status.home_details.iter().filter(|home| home.reserved);
    let named = homes.filter_map(|home| {
        let living = volunteers.iter().filter(|volunteer| volunteer.process.is_some());
        living.map(|volunteer| &volunteer.name).find(|name| is_at(&home.remote, name))
    });
    let mut named: Vec<String> = named.cloned().collect();
    named.sort();
    named.dedup();
    Ok(named)
}

/// Whether this multiaddr is one of server sN of a lab (`address`).
fn is_at(multiaddr: &str, name: &str) -> bool {
    let Some(number) = name.strip_prefix('s').and_then(|number| number.parse::<u8>().ok()) else {
        return false;
    };
    let v4 = format!("/ip4/51.{number}.0.20/");
    let v6 = format!("/ip6/2a01:{number:x}::20/");
    multiaddr.starts_with(&v4) || multiaddr.starts_with(&v6)
}

/// Kills it as a crash does.
pub(super) fn kill(volunteers: &mut [Volunteer], name: &str) -> Result<()> {
    let found = volunteers.iter_mut().find(|volunteer| volunteer.name == name);
    let process = found.and_then(|volunteer| volunteer.process.take());
    let process = process.with_context(|| format!("{name} does not run"))?;
    process.signal(Signal::SIGKILL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_behind_what_is_known_by_the_name() {
        assert_eq!(nat_of("h1-host"), Some(NATS[0]));
        assert_eq!(nat_of("h5-host"), Some(Nat::UdpBlocked));
        assert_eq!(nat_of("h7-host"), Some(NATS[0]));
        assert_eq!(nat_of("s5"), None);
    }

    #[test]
    fn a_home_is_known_by_its_address() {
        assert!(is_at("/ip4/51.3.0.20/tcp/4001", "s3"));
        assert!(is_at("/ip6/2a01:a::20/udp/4001/quic-v1", "s10"));
        assert!(!is_at("/ip4/51.30.0.20/tcp/4001", "s3"));
        assert!(!is_at("/ip4/51.3.0.20/tcp/4001", "h3-host"));
    }
}
