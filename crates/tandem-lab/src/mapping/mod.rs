//! Ports that a router forwards: two contacts behind symmetric NATs get a direct path because the router of one speaks
//! PCP, NAT-PMP or UPnP, and none where it speaks nothing.

pub(crate) mod daemon;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::Serialize;
use tandem_api::CallPath;

use crate::call::{Call, CallPlan};
use crate::cast::Cast;
use crate::lab::Lab;
use crate::plan::{HomePlan, Nat, Plan};
use crate::process::Ground;
use daemon::{Daemon, Lease, PCP_LIFETIME_S};

const SERVERS: usize = 4;
/// A call that finds its direct path late has it after this.
const DIRECT_WITHIN: Duration = Duration::from_secs(15);
/// A router takes a port back at once; this is for a busy machine.
const REMOVED_WITHIN: Duration = Duration::from_secs(6);
const SHORT_CALL: Duration = Duration::from_secs(10);
/// Outlives a mapping by PCP that nobody renews.
const RENEWED_CALL: Duration = Duration::from_secs(PCP_LIFETIME_S + 16);

/// What the router of the caller speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Speaks {
    /// RFC 6887
    Pcp,
    /// RFC 6886
    NatPmp,
    /// UPnP IGD
    Upnp,
    /// No protocol: the call stays relayed
    Nothing,
}

/// How it is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program under test.
    pub binary: PathBuf,
    /// Folder with alice.wav and bob.wav.
    pub speech: PathBuf,
    /// Folder for data, logs and recordings.
    pub out: PathBuf,
    /// What the nodes log.
    pub log: String,
}

/// What came of one protocol.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub router: Speaks,
    pub held: bool,
    /// In sentences.
    pub wrong: Vec<String>,
    /// How the first call ended up.
    pub path: Option<CallPath>,
    /// What the daemon calls the mapping that it was asked for.
    pub mapping: Option<String>,
    /// Whether it was asked for again before it ended; only where it ends within the call.
    pub renewed: Option<bool>,
    /// From the end of the call to the removal of the mapping.
    pub removed_after_call_ms: Option<u64>,
    /// Whether a node that was stopped in the middle of a call had given its port back when it had ended.
    pub removed_before_exit: Option<bool>,
}

/// Tries these routers one after another, each in a lab of its own.
pub fn run(routers: &[Speaks], options: &Options, say: &dyn Fn(String)) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for router in routers {
        say(format!("a router that speaks {}", router.words()));
        let mut outcome = Outcome::new(*router);
        if let Err(error) = one(&mut outcome, options) {
            outcome.wrong.push(format!("{error:#}"));
        }
        outcome.held = outcome.wrong.is_empty();
        outcome.wrong.iter().for_each(|wrong| say(format!("  {wrong}")));
        outcomes.push(outcome);
    }
    outcomes
}

impl Speaks {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Pcp, Self::NatPmp, Self::Upnp, Self::Nothing];

    fn words(self) -> &'static str {
        match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Upnp => "UPnP",
            Self::Nothing => "nothing",
        }
    }

    /// How the daemon's name for a mapping begins that was asked for so.
    fn label(self) -> &'static str {
        match self {
            Self::Pcp => "PCP MAP",
            Self::NatPmp => "NAT-PMP",
            // The library's name for itself.
            Self::Upnp => "iroh-portmap",
            Self::Nothing => "",
        }
    }

    fn path(self) -> CallPath {
        if self == Self::Nothing { CallPath::Relayed } else { CallPath::Direct }
    }
}

impl Outcome {
    fn new(router: Speaks) -> Self {
        Self {
            router,
            held: false,
            wrong: Vec::new(),
            path: None,
            mapping: None,
            renewed: None,
            removed_after_call_ms: None,
            removed_before_exit: None,
        }
    }
}

fn one(outcome: &mut Outcome, options: &Options) -> Result<()> {
    let router = outcome.router;
    let plan = Plan::with_servers(SERVERS, None)
        .home(HomePlan::new("alice", Nat::Symmetric))
        .home(HomePlan::new("bob", Nat::Symmetric));
    let lab = Lab::build(&plan)?;
    let folder = options.out.join(router.words().to_lowercase());
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    let ground = Ground::new(&options.binary, &folder)?.log(&options.log);
    let daemon = match router {
        Speaks::Nothing => None,
        speaks => Some(Daemon::start(lab.nat("alice")?, speaks, ground.folder())?),
    };
    let cast = Cast::start(&lab, &ground, SERVERS, &options.speech, &[])?;
    let stage = Stage { lab, ground, daemon, cast, speech: options.speech.join("alice.wav").canonicalize()? };
    stage.first_call(outcome)?;
    match stage.daemon {
        Some(_) => stage.stopped_in_a_call(outcome),
        None => Ok(()),
    }
}

/// A lab with everybody in it. The order of fields is the order of their end.
struct Stage {
    cast: Cast,
    daemon: Option<Daemon>,
    ground: Ground,
    lab: Lab,
    speech: PathBuf,
}

impl Stage {
    fn call(&self, name: &str, length: Duration) -> Result<Call> {
        let plan = CallPlan {
            whom: "Bob".to_owned(),
            play: self.speech.clone(),
            record: self.ground.folder().join(name),
            length,
            more: Vec::new(),
        };
        let mut call = Call::begin(&self.cast.alice, &plan)?;
        call.connected()?;
        Ok(call)
    }

    /// A call from end to end: its path, the mapping while it lasts, its renewal, its removal.
    fn first_call(&self, outcome: &mut Outcome) -> Result<()> {
        let router = outcome.router;
        let length = if router == Speaks::Pcp { RENEWED_CALL } else { SHORT_CALL };
        let begun = Instant::now();
        let mut call = self.call("first.wav", length)?;
        if let Some(daemon) = &self.daemon {
            self.direct(&mut call, outcome)?;
            let first = self.lease(outcome);
            if let Some(first) = first.filter(|_| router == Speaks::Pcp) {
                let over = Duration::from_secs(PCP_LIFETIME_S + 10);
                pass(&mut call, over.saturating_sub(begun.elapsed()))?;
                self.renewed(daemon, &first, outcome);
            }
        }
        let ended = call.finish(&self.cast.alice, &self.cast.bob)?;
        outcome.path = ended.result.path;
        if outcome.path != Some(router.path()) {
            outcome.wrong.push(format!(
                "the call was {:?} at its end instead of {:?}",
                outcome.path,
                router.path()
            ));
        }
        outcome.removed_after_call_ms = self.removed(outcome, "after the call")?;
        Ok(())
    }

    /// Waits for the direct path.
    fn direct(&self, call: &mut Call, outcome: &mut Outcome) -> Result<()> {
        let until = Instant::now() + DIRECT_WITHIN;
        while call.now(&self.cast.alice)?.result.path != Some(CallPath::Direct) {
            if Instant::now() > until {
                let seconds = DIRECT_WITHIN.as_secs();
                outcome.wrong.push(format!("no direct path within {seconds} s"));
                break;
            }
            pass(call, Duration::from_millis(100))?;
        }
        Ok(())
    }

    /// The mapping of Alice's machine; what it must be like.
    fn lease(&self, outcome: &mut Outcome) -> Option<Lease> {
        let daemon = self.daemon.as_ref()?;
        let inside = self.lab.host("alice-host").ok()?.v4()?;
        let lease = daemon.leases().into_iter().find(|lease| lease.inside == inside);
        let Some(lease) = lease else {
            outcome.wrong.push("the router was not asked for a port".to_owned());
            return None;
        };
        outcome.mapping = Some(lease.label.clone());
        if !lease.label.starts_with(outcome.router.label()) {
            outcome.wrong.push(format!("the mapping is \"{}\", by another protocol", lease.label));
        }
        let forwards = daemon.forwards().unwrap_or_default();
        if !forwards.contains(&format!("{inside}:{}", lease.inside_port)) {
            outcome.wrong.push(format!("the router does not forward to it: {forwards:?}"));
        }
        Some(lease)
    }

    /// After the time for which it was granted, the mapping is still there.
    fn renewed(&self, daemon: &Daemon, first: &Lease, outcome: &mut Outcome) {
        let now = daemon.leases().into_iter().find(|lease| lease.inside_port == first.inside_port);
        let renewed = now.as_ref().is_some_and(|now| {
            now.until_unix_s > first.until_unix_s && now.outside_port == first.outside_port
        });
        outcome.renewed = Some(renewed);
        if !renewed {
            outcome.wrong.push(format!("it was not renewed: {first:?}, then {now:?}"));
        }
    }

    /// How long it takes until the router forwards nothing any more.
    fn removed(&self, outcome: &mut Outcome, when: &str) -> Result<Option<u64>> {
        let Some(daemon) = &self.daemon else { return Ok(None) };
        let begun = Instant::now();
        loop {
            let (leases, forwards) = (daemon.leases(), daemon.forwards()?);
            if leases.is_empty() && forwards.is_empty() {
                return Ok(Some(u64::try_from(begun.elapsed().as_millis())?));
            }
            if begun.elapsed() > REMOVED_WITHIN {
                outcome.wrong.push(format!("{when}, the router still forwards: {leases:?} {forwards:?}"));
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A node that is stopped in the middle of a call takes its port back before it ends.
    fn stopped_in_a_call(self, outcome: &mut Outcome) -> Result<()> {
        let mut call = self.call("second.wav", Duration::from_secs(60))?;
        self.direct(&mut call, outcome)?;
        self.lease(outcome);
        let Self { cast, daemon, ground, lab, speech } = self;
        let Cast { alice, bob, servers } = cast;
        if !alice.stop() {
            outcome.wrong.push("the node did not end by itself".to_owned());
        }
        // What it left to be done after its end, nobody does.
        let forwards = daemon.as_ref().map(Daemon::forwards).transpose()?.unwrap_or_default();
        outcome.removed_before_exit = Some(forwards.is_empty());
        if !forwards.is_empty() {
            outcome.wrong.push(format!("the node has ended, and the router still forwards: {forwards:?}"));
        }
        drop((call, bob, servers, daemon, ground, lab, speech));
        Ok(())
    }
}

/// Time passes; the call must not end meanwhile.
fn pass(call: &mut Call, time: Duration) -> Result<()> {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        call.next(left)?;
    }
    Ok(())
}

/// A line for each router, for people.
#[must_use]
pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{:<9} {:>8} {:>9} {:>8} {:>22} {:>6}\n",
        "router", "path", "renewed", "removed", "removed before exit", "held"
    );
    for outcome in outcomes {
        let yes = |yes: Option<bool>| yes.map_or("—", |yes| if yes { "yes" } else { "no" });
        let path = outcome.path.map_or_else(|| "none".to_owned(), |path| format!("{path:?}").to_lowercase());
        // Writing to a String cannot fail.
        writeln!(
            text,
            "{:<9} {path:>8} {:>9} {:>8} {:>22} {:>6}",
            outcome.router.words(),
            yes(outcome.renewed),
            yes((outcome.router != Speaks::Nothing).then_some(outcome.removed_after_call_ms.is_some())),
            yes(outcome.removed_before_exit),
            yes(Some(outcome.held))
        )
        .ok();
    }
    text
}
