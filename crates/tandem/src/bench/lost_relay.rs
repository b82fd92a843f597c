//! `tandem bench demo`: the demo's call, shortened, under every way its relays can die.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use tandem_api::{CallReport, Redundancy};

use super::figures::{Report, Row, Target};
use super::{ALICE, BOB, Bench, wav};
use crate::demo::{KillKind, Outcome, Screen, Script, run_show};

/// After the 10 s in which `auto` mirrors, with time for it to stop.
const KILL_AFTER: Duration = Duration::from_secs(13);
const GOES_ON: Duration = Duration::from_secs(5);
const GOES_ON_WITHOUT_RELAYS: Duration = Duration::from_secs(8);

const CASES: [Case; 8] = [
    Case::new(Redundancy::Auto, KillKind::None, ""),
    Case::new(Redundancy::Always, KillKind::Reset, ""),
    Case::new(Redundancy::Always, KillKind::Silent, ""),
    Case::new(Redundancy::Auto, KillKind::Reset, ""),
    Case::new(Redundancy::Auto, KillKind::Silent, ""),
    Case::new(Redundancy::Auto, KillKind::Reset, MUTED),
    Case::new(Redundancy::Auto, KillKind::Reset, ALL),
    Case::new(Redundancy::Auto, KillKind::Silent, ALL),
];
const MUTED: &str = "muted";
const ALL: &str = "all relays";

#[derive(Debug, Clone, Args)]
pub(super) struct DemoBench {
    /// Only the cases whose name contains one of these words; the control always runs
    #[arg(long, value_name = "WORD", num_args = 1..)]
    only: Vec<String>,
}

/// One way for a call to be harmed.
#[derive(Debug, Clone, Copy)]
struct Case {
    redundancy: Redundancy,
    kill: KillKind,
    how: &'static str,
}

impl Case {
    const fn new(redundancy: Redundancy, kill: KillKind, how: &'static str) -> Self {
        Self { redundancy, kill, how }
    }

    fn name(self) -> String {
        let redundancy = match self.redundancy {
            Redundancy::Auto => "auto",
            Redundancy::Always => "always",
            Redundancy::Off => "off",
        };
        match self.kill {
            KillKind::None => "control".to_owned(),
            KillKind::Reset => format!("{redundancy}, reset {}", self.how).trim_end().to_owned(),
            KillKind::Silent => format!("{redundancy}, silent {}", self.how).trim_end().to_owned(),
        }
    }

    fn is_control(self) -> bool {
        self.kill == KillKind::None
    }
}

/// What both sides of one call measured, Alice first.
#[derive(Debug, Clone)]
struct Run {
    lost: [u64; 2],
    gap_ms: [f64; 2],
    concealed_ms: [u64; 2],
    mirroring: Option<bool>,
}

impl Run {
    fn of(outcome: &Outcome) -> Self {
        let sides = [&outcome.alice, &outcome.bob];
        Self {
            lost: sides.map(|report: &CallReport| report.call.result.packets.lost),
            gap_ms: sides.map(|report| report.longest_gap_ms),
            concealed_ms: sides.map(|report| report.sound.as_ref().map_or(0, |sound| sound.concealed_ms)),
            mirroring: outcome.kill.as_ref().map(|kill| kill.mirroring_at_kill),
        }
    }

    fn worse_lost(&self) -> f64 {
        self.lost[0].max(self.lost[1]) as f64
    }

    fn worse_gap(&self) -> f64 {
        self.gap_ms[0].max(self.gap_ms[1])
    }

    /// Concealed beyond what the unharmed call of the same round concealed, on the worse side.
    fn concealed_beyond(&self, control: Option<&Self>) -> f64 {
        let beyond = |side: usize| {
            self.concealed_ms[side].saturating_sub(control.map_or(0, |control| control.concealed_ms[side]))
        };
        beyond(0).max(beyond(1)) as f64
    }
}

/// The runs of one case, one a round; nothing where the call failed.
type Runs = Vec<Option<Run>>;

pub(super) fn run(bench: &Bench, options: &DemoBench) -> Result<Report> {
    let chosen = |case: &Case| {
        let name = case.name();
        case.is_control()
            || options.only.is_empty()
            || options.only.iter().any(|word| name.contains(word.as_str()))
    };
    let cases: Vec<Case> = CASES.into_iter().filter(chosen).collect();
    let sounds = Sounds::write(bench)?;
    let mut report = Report::default();
    let mut runs: Vec<Runs> = vec![Runs::new(); cases.len()];
    for round in 1..=bench.rounds {
        for (case, runs) in cases.iter().zip(&mut runs) {
            runs.push(one_call(bench, *case, round, &sounds, &mut report));
        }
    }
    ensure!(runs.iter().flatten().any(Option::is_some), "not one call came about");
    for (case, of_case) in cases.iter().zip(&runs) {
        add_rows(&mut report, *case, of_case, &runs[0]);
    }
    report.notes.push(
        "Each value is that of the side that fared worse. Concealed sound: beyond the control of the same round."
            .to_owned(),
    );
    Ok(report)
}

/// What is played.
#[derive(Debug)]
struct Sounds {
    alice: PathBuf,
    bob: PathBuf,
    silence: PathBuf,
}

impl Sounds {
    fn write(bench: &Bench) -> Result<Self> {
        let silence = vec![0; 16_000 * (KILL_AFTER + GOES_ON).as_secs() as usize];
        Ok(Self {
            alice: bench.file("alice-speaks.wav", ALICE)?,
            bob: bench.file("bob-speaks.wav", BOB)?,
            silence: bench.file("silence.wav", &wav(16_000, &silence))?,
        })
    }
}

fn one_call(bench: &Bench, case: Case, round: u32, sounds: &Sounds, report: &mut Report) -> Option<Run> {
    let name = case.name();
    bench.say(format!("round {round} of {}: {name}", bench.rounds));
    let outcome = script(bench, case, sounds).and_then(|script| run_show(&script, &mut Screen::new(false)));
    let run = match outcome {
        Ok(outcome) => Run::of(&outcome),
        Err(error) => {
            bench.say(format!("{name} failed: {error:#}"));
            report.notes.push(format!("Round {round}, {name}: {error:#}"));
            return None;
        }
    };
    report.runs.push(json!({
        "case": name, "round": round, "lost": run.lost, "gap_ms": run.gap_ms, "concealed_ms": run.concealed_ms,
        "mirroring_at_kill": run.mirroring,
    }));
    Some(run)
}

fn script(bench: &Bench, case: Case, sounds: &Sounds) -> Result<Script> {
    let muted = case.how == MUTED;
    let goes_on = if case.how == ALL { GOES_ON_WITHOUT_RELAYS } else { GOES_ON };
    Ok(Script {
        out: bench.folder("call")?,
        alice_speech: if muted { sounds.silence.clone() } else { sounds.alice.clone() },
        bob_speech: if muted { sounds.silence.clone() } else { sounds.bob.clone() },
        redundancy: case.redundancy,
        kill: case.kill,
        kill_after: KILL_AFTER,
        call_for: KILL_AFTER + goes_on,
        kill_all: case.how == ALL,
    })
}

fn add_rows(report: &mut Report, case: Case, runs: &Runs, controls: &Runs) {
    let name = case.name();
    let all =
        |value: &dyn Fn(&Run) -> f64, runs: &Runs| runs.iter().flatten().map(value).collect::<Vec<f64>>();
    let control =
        |value: &dyn Fn(&Run) -> f64| if case.is_control() { Vec::new() } else { all(value, controls) };
    let row = |figure: &str, value: &dyn Fn(&Run) -> f64| {
        Row::new(name.as_str(), figure, all(value, runs)).beside(control(value))
    };
    let targets = Targets::of(case);
    let with = |row: Row, target: Option<Target>| target.into_iter().fold(row, Row::target);
    report.rows.push(with(row("packets lost", &Run::worse_lost), targets.lost));
    report.rows.push(with(row("longest gap, ms", &Run::worse_gap), targets.gap));
    if !case.is_control() {
        let beyond = runs.iter().zip(controls);
        let beyond =
            beyond.filter_map(|(run, control)| Some(run.as_ref()?.concealed_beyond(control.as_ref())));
        let concealed = Row::new(name.as_str(), "concealed beyond control, ms", beyond.collect());
        report.rows.push(with(concealed, targets.concealed));
        let mirroring = runs.iter().flatten().map(|run| f64::from(u8::from(run.mirroring == Some(true))));
        let row = Row::new(name.as_str(), "mirroring at the kill (1 yes)", mirroring.collect());
        report.rows.push(with(row, targets.mirroring));
    }
    let failed = runs.iter().filter(|run| run.is_none()).count();
    if failed > 0 {
        let row = Row::new(name.as_str(), "calls that failed", vec![failed as f64]);
        report.rows.push(row.target(Target::AllAtMost(0.0)));
    }
}

/// Durations are judged by their median; what is lost, and whether packets were doubled, by every single call.
#[derive(Debug, Default)]
struct Targets {
    lost: Option<Target>,
    gap: Option<Target>,
    concealed: Option<Target>,
    mirroring: Option<Target>,
}

impl Targets {
    fn of(case: Case) -> Self {
        if case.is_control() {
            return Self { lost: Some(Target::AllAtMost(0.0)), ..Self::default() };
        }
        if case.redundancy == Redundancy::Always {
            return Self {
                lost: Some(Target::AllAtMost(0.0)),
                gap: Some(Target::MedianAtMost(60.0)),
                concealed: Some(Target::MedianAtMost(0.0)),
                mirroring: Some(Target::AllAtLeast(1.0)),
            };
        }
        // On loopback the new path's own delay is under a millisecond: nothing is added for it.
        let gap = match case.how {
            ALL => 3_000.0,
            MUTED => 500.0,
            _ => 100.0,
        };
        Self {
            gap: Some(Target::MedianAtMost(gap)),
            mirroring: Some(Target::AllAtMost(0.0)),
            ..Self::default()
        }
    }
}
