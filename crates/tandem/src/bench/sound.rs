//! `tandem bench sound`: how good what Bob hears is, measured against what Alice played.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;
use serde_json::json;
use tandem_api::Redundancy;

use super::figures::{Report, Row, Target};
use super::{ALICE, BOB, Bench};
use crate::demo::{KillKind, Screen, Script, run_show};

/// Compares two recordings; Python, since that is where the reference implementation of PESQ is.
const PESQ: &str = include_str!("../../../../bench/pesq_wb.py");
/// Where `./x bench sound` installs it.
const VENV_PYTHON: &str = ".tools/venv/bin/python";
/// The call goes on for so long after the last word, so that the jitter buffer's delay cuts nothing off.
const TAIL: Duration = Duration::from_secs(2);

const CASES: [Case; 3] = [
    Case { name: "auto, no kill", redundancy: Redundancy::Auto, kill: KillKind::None, target: 4.0 },
    Case { name: "always, no kill", redundancy: Redundancy::Always, kill: KillKind::None, target: 4.0 },
    Case { name: "always, reset", redundancy: Redundancy::Always, kill: KillKind::Reset, target: 3.9 },
];
/// The unharmed call beside the killed one.
const CONTROL: usize = 1;

#[derive(Debug, Clone, Args)]
pub(super) struct SoundBench {
    /// Recordings of speech for Alice to play (default: the bundled passages, which are synthetic)
    #[arg(long, value_name = "FILE", num_args = 1..)]
    speech: Vec<PathBuf>,
    /// The Python with numpy and pesq (default: the one that ./x installs, else python3)
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    redundancy: Redundancy,
    kill: KillKind,
    /// PESQ-WB, mean over the recordings.
    target: f64,
}

/// What the comparison found.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Score {
    /// PESQ-WB, mean opinion score 1.0 to 4.64 (ITU-T P.862.2).
    pesq: f64,
    /// How much later the recording is.
    lag_ms: f64,
}

pub(super) fn run(bench: &Bench, options: &SoundBench) -> Result<Report> {
    let python = python(options)?;
    let speeches = speeches(bench, options)?;
    let bob = bench.file("bob-speaks.wav", BOB)?;
    let mut report = Report::default();
    // For each case the mean of each round.
    let mut means = [const { Vec::new() }; CASES.len()];
    let mut failed = 0_u32;
    for round in 1..=bench.rounds {
        for (case, means) in CASES.iter().zip(&mut means) {
            let mut scores = Vec::new();
            for speech in &speeches {
                bench.say(format!("round {round} of {}: {}, {}", bench.rounds, case.name, speech.name));
                match one_call(bench, *case, speech, &bob, &python) {
                    Ok(score) => {
                        bench.say(format!("    PESQ {:.2}, {:.0} ms later", score.pesq, score.lag_ms));
                        report.runs.push(json!({
                            "case": case.name, "round": round, "speech": speech.name, "pesq": score.pesq,
                            "lag_ms": score.lag_ms,
                        }));
                        scores.push(score.pesq);
                    }
                    Err(error) => {
                        failed += 1;
                        bench.say(format!("    failed: {error:#}"));
                        report
                            .notes
                            .push(format!("Round {round}, {}, {}: {error:#}", case.name, speech.name));
                    }
                }
            }
            means.extend(mean(&scores));
        }
    }
    ensure!(means.iter().any(|means| !means.is_empty()), "not one recording could be compared");
    let figure = format!("PESQ-WB, mean of {} recordings", speeches.len());
    for (index, case) in CASES.iter().enumerate() {
        let control = if index == CONTROL { Vec::new() } else { means[CONTROL].clone() };
        let row = Row::new(case.name, figure.as_str(), means[index].clone());
        report.rows.push(row.beside(control).target(Target::MedianAtLeast(case.target)));
    }
    if failed > 0 {
        report.rows.push(
            Row::new("all", "calls that failed", vec![f64::from(failed)]).target(Target::AllAtMost(0.0)),
        );
    }
    Ok(report)
}

/// One recording, and how long it is.
#[derive(Debug)]
struct Speech {
    name: String,
    path: PathBuf,
    length: Duration,
}

fn speeches(bench: &Bench, options: &SoundBench) -> Result<Vec<Speech>> {
    let mut paths = options.speech.clone();
    if paths.is_empty() {
        paths = vec![bench.file("alice.wav", ALICE)?, bench.file("bob.wav", BOB)?];
    }
    paths.iter().map(|path| Speech::open(path)).collect()
}

impl Speech {
    fn open(path: &Path) -> Result<Self> {
        let path =
            path.canonicalize().with_context(|| format!("there is no recording at {}", path.display()))?;
        let content = std::fs::read(&path)?;
        let length =
            wav_length(&content).with_context(|| format!("{} is no WAV recording", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, path, length })
    }
}

/// Length of a WAV file, from its `fmt ` and `data` chunks.
fn wav_length(content: &[u8]) -> Option<Duration> {
    let number = |at: usize| Some(u32::from_le_bytes(content.get(at..at + 4)?.try_into().ok()?));
    if content.get(..4)? != b"RIFF" || content.get(8..12)? != b"WAVE" {
        return None;
    }
    let (mut at, mut bytes_per_second) = (12, None);
    loop {
        let (id, size) = (content.get(at..at + 4)?, number(at + 4)?);
        match (id, bytes_per_second) {
            (b"fmt ", _) => bytes_per_second = Some(number(at + 16)?),
            (b"data", Some(rate)) if rate > 0 => {
                return Some(Duration::from_secs_f64(f64::from(size) / f64::from(rate)));
            }
            _ => {}
        }
        // Chunks begin at even places.
        at = at.checked_add(8)?.checked_add(usize::try_from(size).ok()?.next_multiple_of(2))?;
    }
}

fn one_call(bench: &Bench, case: Case, speech: &Speech, bob: &Path, python: &Path) -> Result<Score> {
    let call_for = Duration::from_secs((speech.length + TAIL).as_secs() + 1);
    let script = Script {
        out: bench.folder("call")?,
        alice_speech: speech.path.clone(),
        bob_speech: bob.to_owned(),
        redundancy: case.redundancy,
        kill: case.kill,
        kill_after: speech.length / 2,
        call_for,
        kill_all: false,
    };
    let outcome = run_show(&script, &mut Screen::new(false))?;
    compare(python, &speech.path, &outcome.bob_recording)
}

fn compare(python: &Path, played: &Path, heard: &Path) -> Result<Score> {
    let mut process = Command::new(python)
        .arg("-")
        .args([played, heard])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", python.display()))?;
    process.stdin.take().context("no standard input")?.write_all(PESQ.as_bytes())?;
    let output = process.wait_with_output()?;
    if !output.status.success() {
        bail!("the comparison failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("the comparison gave no score")
}

/// A Python that has what is needed.
fn python(options: &SoundBench) -> Result<PathBuf> {
    let installed = PathBuf::from(VENV_PYTHON);
    let python = match &options.python {
        Some(python) => python.clone(),
        None if installed.exists() => installed,
        None => "python3".into(),
    };
    let works = Command::new(&python).args(["-c", "import numpy, pesq"]).stderr(Stdio::null()).status();
    ensure!(
        works.is_ok_and(|status| status.success()),
        "{} has no 'pesq' and 'numpy'. Run ./x bench sound, which installs them, or name another with --python",
        python.display()
    );
    Ok(python)
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::wav;

    #[test]
    fn the_length_of_a_recording_is_read_from_its_chunks() {
        assert_eq!(wav_length(&wav(16_000, &[0; 8_000])), Some(Duration::from_millis(500)));
        assert_eq!(wav_length(b"RIFF....WAVEdata"), None);
        assert_eq!(wav_length(b""), None);
        assert!(wav_length(ALICE).is_some_and(|length| length > Duration::from_secs(10)));
    }
}
