//! Candidates behind NATs: one whose router forwards its ports may serve, one that only a full-cone NAT lets be reached
//! after it spoke first may not, whatever its owner says.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;
use tandem_api::{ServingState, VolunteerView};

use super::stage::consent;
use crate::lab::Lab;
use crate::mapping::Speaks;
use crate::mapping::daemon::Daemon;
use crate::plan::{HomePlan, Nat, Plan};
use crate::process::{Ground, NodePlan, Process};

/// As many as must confirm a way in, and one fewer than are enough: whoever may serve is needed, whatever its uptime.
const SERVERS: usize = 3;
/// Where the owner says that others reach a node behind a full-cone NAT.
const CLAIMED_PORT: u16 = 14_000;
/// For the last to be decided; a machine that does nothing else needs a quarter of it.
const DECIDED_WITHIN: Duration = Duration::from_secs(150);
const LOOK: Duration = Duration::from_millis(500);
/// Networks that must have tried the port claimed in vain.
const UNREACHABLE: &str = "unreachable";
const NO_WAY_IN: &str = "no_way_in";

/// How it is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program under test.
    pub binary: PathBuf,
    /// Folder for data and logs.
    pub out: PathBuf,
    /// What the nodes log.
    pub log: String,
}

/// What a candidate has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A full-cone NAT.
    Cone,
    /// The same, and an owner who says that it is reached at the router's address.
    Claims,
    /// A port-restricted NAT whose router forwards ports on request.
    Mapped(Speaks),
}

const KINDS: [(&str, Kind); 5] = [
    ("cone", Kind::Cone),
    ("claims", Kind::Claims),
    ("pcp", Kind::Mapped(Speaks::Pcp)),
    ("natpmp", Kind::Mapped(Speaks::NatPmp)),
    ("upnp", Kind::Mapped(Speaks::Upnp)),
];

/// It may serve, whether it is needed or not.
fn is_eligible(state: ServingState) -> bool {
    matches!(state, ServingState::Reserve | ServingState::Serving)
}

/// What became of one candidate.
#[derive(Debug, Clone, Serialize)]
pub struct Candidate {
    pub name: String,
    pub held: bool,
    /// It has to become a reserve at least; otherwise it must never have been as much as that.
    pub may_serve: bool,
    /// What it was at any time: `off`, `reserve`, `serving`.
    pub states: Vec<ServingState>,
    /// Whether others reached it by a port that its router forwards: UDP, TCP.
    pub mapped: (bool, bool),
    /// What it says keeps it from serving, at the end.
    pub missing: Vec<String>,
}

impl Candidate {
    /// For people.
    #[must_use]
    pub fn words(&self) -> String {
        let held = if self.held { "held" } else { "NOT HELD" };
        let Self { name, states, mapped, missing, .. } = self;
        format!(
            "{name:<8} {held:<8} was {states:?}; reached by mapped (UDP, TCP): {mapped:?}; lacks: {missing:?}"
        )
    }

    fn look(&mut self, view: &VolunteerView) {
        if !self.states.contains(&view.state) {
            self.states.push(view.state);
        }
        let mapped = |tcp| view.candidate.ways.iter().any(|way| way.mapped && way.tcp == tcp);
        self.mapped = (self.mapped.0 || mapped(false), self.mapped.1 || mapped(true));
        self.missing = view.missing.iter().map(|missing| missing.what.clone()).collect();
        self.missing.dedup();
    }

    /// Nothing is to be waited for any more.
    fn is_decided(&self, kind: Kind) -> bool {
        let lacks = |what: &str| self.missing.iter().any(|missing| missing == what);
        match kind {
            Kind::Cone => lacks(NO_WAY_IN),
            Kind::Claims => lacks(UNREACHABLE),
            Kind::Mapped(_) => self.mapped.0 && self.states.iter().any(|state| is_eligible(*state)),
        }
    }

    fn judge(&mut self, kind: Kind) {
        let never = self.states.iter().all(|state| *state == ServingState::Off);
        self.held = self.is_decided(kind) && (self.may_serve || never);
    }
}

/// Runs all of them in one network.
///
/// # Errors
/// When the lab cannot be built or a node cannot be started.
pub fn run(options: &Options, say: &dyn Fn(String)) -> Result<Vec<Candidate>> {
    let plan = KINDS.iter().fold(Plan::with_servers(SERVERS, None), |plan, (name, kind)| {
        let nat = if matches!(kind, Kind::Mapped(_)) { Nat::PortRestricted } else { Nat::FullCone };
        plan.home(HomePlan::new(name, nat))
    });
    let lab = Lab::build(&plan)?;
    let folder = options.out.join("election-nat");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    let ground = Ground::new(&options.binary, &folder)?.log(&options.log);
    let _daemons = daemons(&lab, &ground)?;
    let servers = servers(&lab, &ground)?;
    let bootstrap = servers.first().map(|first| first.ready().listen.clone()).unwrap_or_default();
    let mut nodes = Vec::new();
    for (name, kind) in KINDS {
        let node = start(&lab, &ground, &bootstrap, name, kind)?;
        nodes.push((node, kind, Candidate::new(name, kind)));
    }
    say(format!("{SERVERS} supernodes run, and {} candidates behind NATs", nodes.len()));
    let begun = Instant::now();
    while begun.elapsed() < DECIDED_WITHIN && !nodes.iter().all(|(_, kind, it)| it.is_decided(*kind)) {
        for (node, _, candidate) in &mut nodes {
            candidate.look(&node.get("/api/volunteer")?);
        }
        std::thread::sleep(LOOK);
    }
    say(format!("looked on for {:.1} s", begun.elapsed().as_secs_f64()));
    let judged = nodes.into_iter().map(|(_, kind, mut candidate)| {
        candidate.judge(kind);
        candidate
    });
    Ok(judged.collect())
}

impl Candidate {
    fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            held: false,
            may_serve: matches!(kind, Kind::Mapped(_)),
            states: Vec::new(),
            mapped: (false, false),
            missing: Vec::new(),
        }
    }
}

fn daemons(lab: &Lab, ground: &Ground) -> Result<Vec<Daemon>> {
    let mut daemons = Vec::new();
    for (name, kind) in KINDS {
        if let Kind::Mapped(speaks) = kind {
            let folder = ground.folder().join(format!("{name}-router"));
            std::fs::create_dir_all(&folder)?;
            daemons.push(Daemon::start(lab.nat(name)?, speaks, &folder)?);
        }
    }
    Ok(daemons)
}

fn servers(lab: &Lab, ground: &Ground) -> Result<Vec<Process>> {
    let mut servers: Vec<Process> = Vec::new();
    for n in 1..=SERVERS {
        let bootstrap: Vec<String> =
            servers.first().map(|first| first.ready().listen.clone()).unwrap_or_default();
        servers.push(ground.start(lab.host(&format!("s{n}"))?, &NodePlan::server(&bootstrap))?);
    }
    Ok(servers)
}

fn start(lab: &Lab, ground: &Ground, bootstrap: &[String], name: &str, kind: Kind) -> Result<Process> {
    let mut plan = NodePlan::person(bootstrap, "ring");
    if kind == Kind::Claims {
        let outside = lab.nat(name)?.outside().context("the router has no IPv4 address")?;
        let (listen, external) = (format!("0.0.0.0:{CLAIMED_PORT}"), format!("{outside}:{CLAIMED_PORT}"));
        plan.more.extend(["--listen".to_owned(), listen, "--external".to_owned(), external]);
    }
    let node = ground.start(lab.host(&format!("{name}-host"))?, &plan)?;
    consent(&node)?;
    Ok(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(kind: Kind, states: &[ServingState], missing: &[&str], mapped: bool) -> bool {
        let mut candidate = Candidate::new("x", kind);
        candidate.states = states.to_vec();
        candidate.missing = missing.iter().map(|what| (*what).to_owned()).collect();
        candidate.mapped = (mapped, false);
        candidate.judge(kind);
        candidate.held
    }

    #[test]
    fn who_may_not_serve_must_never_have_been_a_reserve() {
        use ServingState::{Off, Reserve, Serving};
        let mapped = Kind::Mapped(Speaks::Pcp);
        assert!(candidate(mapped, &[Off, Reserve, Serving], &[], true));
        assert!(candidate(mapped, &[Off, Reserve], &[], true), "others came first");
        assert!(!candidate(mapped, &[Off], &["cpu"], true));
        assert!(!candidate(mapped, &[Off, Serving], &[], false), "nobody reached it by the mapped port");
        assert!(candidate(Kind::Cone, &[Off], &[NO_WAY_IN], false));
        assert!(!candidate(Kind::Cone, &[Off, Reserve], &[NO_WAY_IN], false));
        assert!(!candidate(Kind::Claims, &[Off], &["unconfirmed"], false), "nobody tried it");
        assert!(candidate(Kind::Claims, &[Off], &[UNREACHABLE], false));
    }
}
