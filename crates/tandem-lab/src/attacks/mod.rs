//! A hundred hostile supernodes in one /16 beside eight honest ones: how many of a device's homes they get, whether people
//! are still found, and whether calls go through. The hostile program is `crates/tandem-node/examples/hostile.rs`.

mod hostile;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

use self::hostile::{Hostile, HostilePlan, Met};
use crate::election::{CallMade, attempt};
use crate::lab::Lab;
use crate::plan::{HomePlan, Nat, Plan};
use crate::process::{Ground, NodePlan, Process};

const HONEST: usize = 8;
/// Their number is in their addresses (`address`): the hostile ones are in 51.9.0.0/16.
const HOSTILE_HOST: &str = "s9";
const HOSTILE_NETWORK: &str = "51.9";
const HOSTILE_AT: &str = "/ip4/51.9.";
const HOSTILE_COUNT: usize = 100;
const HOMES: usize = 3;
const HOMES_WITHIN: Duration = Duration::from_secs(40);
/// The hostile ones have this long to make themselves known.
const SPREAD: Duration = Duration::from_secs(20);
/// How often homes are looked at, and for how long, while calls are made.
const LOOKS: usize = 6;
const LOOK: Duration = Duration::from_secs(5);

/// How the hostile ones lie, in the words of the program.
pub const MANNERS: &[&str] = &["lure", "omit", "delay", "garbage", FORGET];

/// No hundred in one network, but every supernode that there is: honest until their directory is gone.
const FORGET: &str = "forget";
const FORGETFUL: usize = 6;

/// How it is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program under test.
    pub binary: PathBuf,
    /// The hostile one.
    pub hostile: PathBuf,
    /// Folder for data and logs.
    pub out: PathBuf,
    /// What the nodes log.
    pub log: String,
}

/// One manner of lying.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub manner: String,
    pub held: bool,
    /// Devices, and the most hostile homes that any of them ever had.
    pub devices: usize,
    pub hostile_homes_max: usize,
    /// Devices that had a hostile home at the last look.
    pub with_hostile_home: usize,
    pub calls: usize,
    pub calls_failed: Vec<CallMade>,
    pub ringing_ms_max: Option<u64>,
    /// What the hostile ones met.
    pub met: Met,
    /// What does not hold, in sentences.
    pub wrong: Vec<String>,
}

/// Runs these manners, each in a lab of its own.
///
/// # Errors
/// When a lab cannot be built or a node cannot be started.
pub fn run(manners: &[&str], options: &Options, say: &dyn Fn(String)) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for manner in manners {
        let outcome = match *manner {
            FORGET => forget(options),
            _ => one(manner, options),
        };
        let outcome = outcome.with_context(|| format!("hostile supernodes that {manner}"))?;
        say(outcome.words());
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// Eight honest supernodes and a hundred hostile ones, of which these people hear.
struct Scene {
    ground: Ground,
    begin: Vec<String>,
    hostile: Hostile,
    _honest: Vec<Process>,
    /// Last, so that it outlives whoever runs in it.
    lab: Lab,
}

impl Scene {
    fn build(manner: &str, homes: &[Nat], options: &Options) -> Result<Self> {
        let mut plan = Plan::with_servers(HONEST + 1, None);
        for (n, nat) in (1..).zip(homes) {
            plan = plan.home(HomePlan::new(&format!("h{n}"), *nat));
        }
        let lab = Lab::build(&plan)?;
        let ground = empty_ground(manner, options)?;
        let mut bootstrap: Vec<String> = Vec::new();
        let mut honest = Vec::new();
        for n in 1..=HONEST {
            let node = ground.start(lab.host(&format!("s{n}"))?, &NodePlan::server(&bootstrap))?;
            if n <= 2 {
                // All its addresses: one person's network lets out TCP only.
                bootstrap.extend(node.ready().listen.clone());
            }
            honest.push(node);
        }
        let plan = HostilePlan { host: HOSTILE_HOST, network: HOSTILE_NETWORK, count: HOSTILE_COUNT, manner };
        let hostile = Hostile::start(&lab, &options.hostile, &plan, &bootstrap, ground.folder())?;
        std::thread::sleep(SPREAD);
        // Half of what people begin from is hostile too.
        let begin = bootstrap.iter().chain(hostile.listen.iter().take(2)).cloned().collect();
        Ok(Self { ground, begin, hostile, _honest: honest, lab })
    }

    /// The plain node at home N, counted from 1.
    fn person(&self, n: usize) -> Result<Process> {
        let mut person = NodePlan::person(&self.begin, "echo");
        person.more = ["--strangers", "ring"].map(str::to_owned).to_vec();
        self.ground.start(self.lab.host(&format!("h{n}-host"))?, &person)
    }
}

fn empty_ground(manner: &str, options: &Options) -> Result<Ground> {
    let folder = options.out.join(format!("attack-{manner}"));
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    Ok(Ground::new(&options.binary, &folder)?.log(&options.log))
}

fn one(manner: &str, options: &Options) -> Result<Outcome> {
    let kinds =
        [Nat::None, Nat::PortRestricted, Nat::Symmetric, Nat::FullCone, Nat::UdpBlocked, Nat::Symmetric];
    let mut scene = Scene::build(manner, &kinds, options)?;
    let devices: Vec<Process> = (1..=kinds.len()).map(|n| scene.person(n)).collect::<Result<_>>()?;
    watch(manner, &devices, &mut scene.hostile)
}

fn watch(manner: &str, devices: &[Process], hostile: &mut Hostile) -> Result<Outcome> {
    let mut wrong = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < HOMES_WITHIN && !all_have_homes(devices)? {
        std::thread::sleep(Duration::from_millis(500));
    }
    if !all_have_homes(devices)? {
        wrong.push(format!("not every device had {HOMES} homes after {} s", HOMES_WITHIN.as_secs()));
    }
    let (mut most, mut with, mut made) = (0, 0, Vec::new());
    for look in 0..LOOKS {
        let (now, having) = hostile_homes(devices)?;
        (most, with) = (most.max(now), having);
        let (caller, callee) = (&devices[look % devices.len()], &devices[(look + 1) % devices.len()]);
        made.push(attempt(caller, callee));
        std::thread::sleep(LOOK);
    }
    if most > 1 {
        wrong.push(format!("a device had {most} homes in the hostile network"));
    }
    let calls = made.len();
    let ringing_ms_max = made.iter().filter_map(|call| call.ringing_ms).max();
    let calls_failed: Vec<CallMade> = made.into_iter().filter(|call| !call.connected).collect();
    if !calls_failed.is_empty() {
        wrong.push(format!("{} of {calls} calls failed", calls_failed.len()));
    }
    let met = hostile.met()?;
    wrong.extend(met.nothing(manner));
    Ok(Outcome {
        manner: manner.to_owned(),
        held: wrong.is_empty(),
        devices: devices.len(),
        hostile_homes_max: most,
        with_hostile_home: with,
        calls,
        calls_failed,
        ringing_ms_max,
        met,
        wrong,
    })
}

/// The most hostile homes that one of these devices has now, and how many have any.
fn hostile_homes(devices: &[Process]) -> Result<(usize, usize)> {
    let (mut most, mut with) = (0, 0);
    for device in devices {
        let homes = device.status()?.home_details;
        let theirs = homes.iter().filter(|home| home.reserved && home.remote.starts_with(HOSTILE_AT)).count();
        most = most.max(theirs);
        with += usize::from(theirs > 0);
    }
    Ok((most, with))
}

fn all_have_homes(devices: &[Process]) -> Result<bool> {
    for device in devices {
        if device.status()?.reach.homes.len() < HOMES {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Two contacts whose supernodes find nobody any more: by the homes that Alice remembers of Bob, she reaches him all the
/// same. She is started anew in between, so that no connection is left of the call before.
fn forget(options: &Options) -> Result<Outcome> {
    let mut plan = Plan::with_servers(FORGETFUL, None);
    // The hostile relays answer nobody, not even a STUN Binding: the sound needs one end without a NAT.
    for (name, nat) in [("alice", Nat::PortRestricted), ("bob", Nat::None)] {
        plan = plan.home(HomePlan::new(name, nat));
    }
    let lab = Lab::build(&plan)?;
    let ground = empty_ground(FORGET, options)?;
    let mut bootstrap: Vec<String> = Vec::new();
    let mut hostile = Vec::new();
    for n in 1..=FORGETFUL {
        let (host, network) = (format!("s{n}"), format!("51.{n}"));
        let plan = HostilePlan { host: &host, network: &network, count: 1, manner: FORGET };
        let one = Hostile::start(&lab, &options.hostile, &plan, &bootstrap, ground.folder())?;
        bootstrap.extend(one.listen.first().cloned());
        hostile.push(one);
    }
    let started = |name: &str, fresh: bool| -> Result<Process> {
        let plan = NodePlan { fresh, ..NodePlan::person(&bootstrap, "echo") };
        let node = ground.start(lab.host(name)?, &plan)?;
        node.wait_until(HOMES_WITHIN, |status| status.reach.homes.len() >= HOMES)?;
        Ok(node)
    };
    let (alice, bob) = (started("alice-host", true)?, started("bob-host", true)?);
    alice.add_contact("Bob", bob.address())?;
    bob.add_contact("Alice", alice.address())?;
    let mut made = vec![attempt(&alice, &bob)];
    alice.stop();
    for one in &mut hostile {
        one.lie()?;
    }
    let alice = started("alice-host", false)?;
    made.push(attempt(&alice, &bob));
    let ringing_ms_max = made.iter().filter_map(|call| call.ringing_ms).max();
    let calls = made.len();
    let calls_failed: Vec<CallMade> = made.into_iter().filter(|call| !call.connected).collect();
    let mut wrong: Vec<String> =
        calls_failed.iter().map(|call| format!("a contact was not reached: {}", call.why)).collect();
    let met = hostile.iter_mut().try_fold(Met::default(), |sum, one| one.met().map(|met| sum.and(met)))?;
    wrong.extend(met.nothing(FORGET));
    Ok(Outcome {
        manner: FORGET.to_owned(),
        held: wrong.is_empty(),
        devices: 2,
        hostile_homes_max: HOMES,
        with_hostile_home: 2,
        calls,
        calls_failed,
        ringing_ms_max,
        met,
        wrong,
    })
}

impl Outcome {
    /// A few lines for people.
    #[must_use]
    pub fn words(&self) -> String {
        let mut text = format!(
            "{:<8} {}: {} devices had at most {} hostile home each ({} of them at the end); {} calls, {} failed, ringing \
             within {} ms; the hostile ones were asked {} times, {} of them for a place, and lied {} times",
            self.manner,
            if self.held { "held" } else { "NOT HELD" },
            self.devices,
            self.hostile_homes_max,
            self.with_hostile_home,
            self.calls,
            self.calls_failed.len(),
            self.ringing_ms_max.map_or_else(|| "—".to_owned(), |ms| ms.to_string()),
            self.met.asked,
            self.met.places,
            self.met.lied,
        );
        // Writing to a String cannot fail.
        for wrong in &self.wrong {
            write!(text, "\n    {wrong}").ok();
        }
        for call in &self.calls_failed {
            write!(text, "\n    {} to {}: {}", call.caller, call.callee, call.why).ok();
        }
        text
    }
}
