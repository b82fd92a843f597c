//! The network chooses its supernodes: plain nodes begin with nothing but one address, some owners consent, supernodes
//! are killed one by one, and in the end all homes of one device at once. Calls go on all the time.

mod calls;
mod guard;
pub mod nat;
mod report;
mod stage;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

pub use report::{CallMade, Guarded, Kill, Report, TakenOver, ThreeAtOnce};

use calls::Calls;
pub(crate) use calls::attempt;
use stage::Stage;

/// What the issue asks for.
const HOMES: usize = 3;
const HOMES_WITHIN: Duration = Duration::from_secs(30);
const REACHABLE_WITHIN: Duration = Duration::from_secs(45);
/// Supernodes that are left when killing ends.
const LEFT: usize = 3;
/// Looking on, every so often.
const LOOK: Duration = Duration::from_millis(500);
/// A target that was missed is waited for this much longer, to know by how much; and where only counts are judged.
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_UNTIMED: Duration = Duration::from_secs(150);
/// The next supernode dies when every device has its homes again, or after this; and never sooner than this. An idle device
/// notices after 30 s at the latest that a home is silent.
const KILL_AFTER: Duration = Duration::from_secs(60);
const KILL_AFTER_UNTIMED: Duration = Duration::from_secs(150);
const KILL_NOT_BEFORE: Duration = Duration::from_secs(8);

/// How many nodes there are, the one that everybody begins from not counted.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// With public addresses.
    pub public: usize,
    /// Of those, how many owners consent.
    pub consented: usize,
    /// Behind NATs.
    pub natted: usize,
}

impl Size {
    /// Thirty plain nodes, as the issue has them.
    pub const FULL: Self = Self { public: 12, consented: 9, natted: 18 };
    /// As many as a minute allows.
    pub const SMALL: Self = Self { public: 5, consented: 4, natted: 3 };

    fn nodes(self) -> usize {
        self.public + self.natted
    }
}

/// How it is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program under test.
    pub binary: PathBuf,
    /// Folder for data and logs.
    pub out: PathBuf,
    /// What the nodes log.
    pub log: String,
    pub size: Size,
    /// Those that may serve do so by their settings, all of them: a control without an election.
    pub steady: bool,
    /// Nothing is judged by how long it took: for a machine that has other things to do.
    pub counts_only: bool,
}

/// Runs it all.
///
/// # Errors
/// When the lab cannot be built or a node cannot be started; what does not hold is in the report.
pub fn run(options: &Options, say: &(dyn Fn(String) + Sync)) -> Result<Report> {
    let mut report = Report::new(options.size, options.counts_only);
    let mut stage = Stage::build(options)?;
    let last_start = stage.start(say)?;
    elected(&stage, last_start, &mut report, say)?;
    let calls = Calls::default();
    let stop = AtomicBool::new(false);
    let killed = std::thread::scope(|scope| {
        let (leaves, calls, stop) = (&stage.leaves, &calls, &stop);
        scope.spawn(move || calls.run(leaves, stop));
        let killed = kill_one_by_one(&mut stage.volunteers, leaves, &mut report, say);
        stop.store(true, Ordering::Release);
        killed
    });
    killed?;
    report.take_calls(calls.finish());
    say(report.words_of_calls());
    stage.start_again(say)?;
    three_at_once(&mut stage, &mut report, say)?;
    report.guarded = stage.guarded()?;
    report.judge();
    Ok(report)
}

/// Waits until every device has three homes.
fn elected(
    stage: &Stage,
    last_start: Instant,
    report: &mut Report,
    say: &(dyn Fn(String) + Sync),
) -> Result<()> {
    let mut waiting: BTreeSet<String> = stage.devices().map(|device| device.name().to_owned()).collect();
    let serving = stage::serving(&stage.volunteers);
    say(format!("{} nodes run, {} serve: {}", stage.devices().count(), serving.len(), serving.join(", ")));
    while !waiting.is_empty() && last_start.elapsed() < HOMES_WITHIN + report.patience() {
        for device in stage.devices().filter(|device| waiting.contains(device.name())).collect::<Vec<_>>() {
            if stage::living_homes(device, &stage.volunteers)?.len() >= HOMES {
                waiting.remove(device.name());
                report.homes_after_ms.push(millis(last_start.elapsed()));
            }
        }
        std::thread::sleep(LOOK);
    }
    report.without_homes = waiting.into_iter().collect();
    report.elected = stage::serving(&stage.volunteers);
    say(format!(
        "every device but {} has {HOMES} homes {:.1} s after the last start; serving: {}",
        report.without_homes.len(),
        last_start.elapsed().as_secs_f64(),
        report.elected.join(", ")
    ));
    Ok(())
}

/// Kills the supernode that most leaves have as a home, again and again, until three are left.
fn kill_one_by_one(
    volunteers: &mut [stage::Volunteer],
    leaves: &[crate::process::Process],
    report: &mut Report,
    say: &(dyn Fn(String) + Sync),
) -> Result<()> {
    while volunteers.iter().filter(|volunteer| volunteer.process.is_some()).count() > LEFT {
        let standing = stage::serving(volunteers);
        let most = most_used(volunteers, leaves, &standing)?;
        let (victim, homes_lost) = most.context("no supernode serves")?;
        let before: BTreeSet<String> = standing.into_iter().collect();
        stage::kill(volunteers, &victim)?;
        let began = Instant::now();
        let mut kill = Kill { name: victim.clone(), homes_lost, ..Kill::default() };
        while began.elapsed() < report.kill_after() {
            for name in stage::serving(volunteers) {
                let new = !before.contains(&name) && kill.taken_over.iter().all(|other| other.name != name);
                if new {
                    kill.taken_over.push(TakenOver { name, after_ms: millis(began.elapsed()) });
                }
            }
            if kill.homes_again_ms.is_none() {
                kill.without_homes = without_homes(leaves, volunteers)?;
                kill.homes_again_ms = kill.without_homes.is_empty().then(|| millis(began.elapsed()));
            }
            if kill.homes_again_ms.is_some() && began.elapsed() >= KILL_NOT_BEFORE {
                break;
            }
            std::thread::sleep(LOOK);
        }
        say(kill.words());
        report.kills.push(kill);
    }
    Ok(())
}

/// The serving one that most leaves have as a home, and how many have it.
fn most_used(
    volunteers: &[stage::Volunteer],
    leaves: &[crate::process::Process],
    serving: &[String],
) -> Result<Option<(String, usize)>> {
    let mut used: Vec<(usize, &String)> = serving.iter().map(|name| (0, name)).collect();
    for leaf in leaves {
        for home in stage::living_homes(leaf, volunteers)? {
            used.iter_mut().filter(|(_, name)| **name == home).for_each(|(count, _)| *count += 1);
        }
    }
    Ok(used.into_iter().max().map(|(count, name)| (name.clone(), count)))
}

/// The leaves that have fewer than three living homes, and how many they have.
fn without_homes(
    leaves: &[crate::process::Process],
    volunteers: &[stage::Volunteer],
) -> Result<Vec<(String, usize)>> {
    let mut without = Vec::new();
    for leaf in leaves {
        let homes = stage::living_homes(leaf, volunteers)?.len();
        if homes < HOMES {
            without.push((leaf.name().to_owned(), homes));
        }
    }
    Ok(without)
}

/// All homes of one device die in the same moment; another one calls it until it rings.
fn three_at_once(stage: &mut Stage, report: &mut Report, say: &(dyn Fn(String) + Sync)) -> Result<()> {
    let device = stage.leaves.len() - 1;
    let homes = stage::living_homes(&stage.leaves[device], &stage.volunteers)?;
    for home in &homes {
        stage::kill(&mut stage.volunteers, home)?;
    }
    let began = Instant::now();
    let mut reachable = None;
    let mut attempts = 0;
    while reachable.is_none() && began.elapsed() < REACHABLE_WITHIN + report.patience() {
        attempts += 1;
        let call = calls::attempt(&stage.leaves[0], &stage.leaves[device]);
        reachable = call.rang.then(|| millis(began.elapsed()));
        if reachable.is_none() {
            std::thread::sleep(LOOK);
        }
    }
    let name = stage.leaves[device].name().to_owned();
    let three = ThreeAtOnce { device: name, homes, attempts, reachable_after_ms: reachable };
    say(three.words());
    report.three_at_once = Some(three);
    Ok(())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
