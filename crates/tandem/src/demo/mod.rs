//! `tandem demo`: five supernodes and two people on this machine, a call between them, and the death of the
//! supernode that carries it. Every part is a process of this very binary.

mod live;
mod picture;
mod show;
mod verdict;
mod world;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use tandem_api::Redundancy;

pub(crate) use live::Screen;
pub(crate) use show::{Outcome, current_call, run_show, service_id, start_people, start_supernodes};
pub(crate) use verdict::Verdict;
pub(crate) use world::{Ground, Lines, Node, NodePlan, address, free_api_port, spawn};

/// How the relay in use dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KillKind {
    /// Nothing is killed.
    None,
    /// The process is killed: its connections are reset.
    Reset,
    /// The process is stopped: nothing announces it.
    Silent,
}

/// A call between two people over a network of supernodes, all on this machine.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// Print one JSON object at the end instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Let Alice play this WAV recording instead of the bundled passage
    #[arg(long, value_name = "FILE")]
    pub(crate) speech: Option<PathBuf>,
    /// How the supernode that carries the call dies, 20 s into the call
    #[arg(long, value_enum, default_value_t = KillKind::Reset)]
    pub(crate) kill: KillKind,
    /// When packets are doubled over a second relay
    #[arg(long, value_enum, default_value_t = RedundancyArg::Auto)]
    pub(crate) redundancy: RedundancyArg,
    /// Where the recordings, the picture and the logs go
    #[arg(long, value_name = "DIR", default_value = "demo-out")]
    pub(crate) out: PathBuf,
    /// Judge counts and order only, not durations (for a busy machine)
    #[arg(long)]
    pub(crate) counts_only: bool,
}

/// The command line's word for [`Redundancy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RedundancyArg {
    Auto,
    Always,
    Off,
}

impl From<RedundancyArg> for Redundancy {
    fn from(value: RedundancyArg) -> Self {
        match value {
            RedundancyArg::Auto => Self::Auto,
            RedundancyArg::Always => Self::Always,
            RedundancyArg::Off => Self::Off,
        }
    }
}

/// What one run of the show is made of; the benches vary it.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) out: PathBuf,
    pub(crate) alice_speech: PathBuf,
    pub(crate) bob_speech: PathBuf,
    pub(crate) redundancy: Redundancy,
    pub(crate) kill: KillKind,
    /// From the first sound to the kill.
    pub(crate) kill_after: Duration,
    /// How long the call lasts in all.
    pub(crate) call_for: Duration,
    /// Kill every relay of the call, not only the one in use.
    pub(crate) kill_all: bool,
}

const ALICE: &[u8] = include_bytes!("../../../../assets/speech/alice.wav");
const BOB: &[u8] = include_bytes!("../../../../assets/speech/bob.wav");

/// Runs the demo. Returns whether everything held.
///
/// # Errors
/// When a process cannot be started, or the call does not come about.
pub(crate) fn run(args: &DemoArgs) -> Result<bool> {
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let out = args.out.canonicalize()?;
    let script = Script {
        alice_speech: speech_file(&out, "alice-speaks.wav", ALICE, args.speech.as_ref())?,
        bob_speech: speech_file(&out, "bob-speaks.wav", BOB, None)?,
        out,
        redundancy: args.redundancy.into(),
        kill: args.kill,
        kill_after: Duration::from_secs(20),
        call_for: Duration::from_secs(35),
        kill_all: false,
    };
    let mut screen = live::Screen::new(!args.json);
    let outcome = run_show(&script, &mut screen)?;
    let picture = write_picture(&script, &outcome)?;
    let verdict = Verdict::judge(&script, &outcome, args.counts_only);
    if args.json {
        println!("{}", serde_json::to_string(&verdict.json(&outcome, &picture))?);
    } else {
        print!("{}", verdict.table(&outcome));
        println!("\nWhat Bob heard    {}", outcome.bob_recording.display());
        println!("What Alice heard  {}", outcome.alice_recording.display());
        println!("The picture       {}", picture.display());
        println!("\n{}", verdict.sentence());
    }
    Ok(verdict.held())
}

fn speech_file(
    out: &std::path::Path,
    name: &str,
    bundled: &[u8],
    given: Option<&PathBuf>,
) -> Result<PathBuf> {
    if let Some(path) = given {
        return path.canonicalize().with_context(|| format!("there is no recording at {}", path.display()));
    }
    let path = out.join(name);
    write_repeated(&path, bundled).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Writes a bundled passage twice over, so that it lasts longer than the call.
fn write_repeated(path: &Path, bundled: &[u8]) -> Result<(), hound::Error> {
    let mut reader = hound::WavReader::new(bundled)?;
    let samples: Vec<i16> = reader.samples::<i16>().collect::<Result<_, _>>()?;
    let mut writer = hound::WavWriter::create(path, reader.spec())?;
    for sample in samples.iter().chain(&samples) {
        writer.write_sample(*sample)?;
    }
    writer.finalize()
}

fn write_picture(script: &Script, outcome: &Outcome) -> Result<PathBuf> {
    let picture = picture::CallPicture {
        title: format!(
            "Alice and Bob over {} relays, redundancy {}",
            outcome.alice.paths.len(),
            show::redundancy_word(script.redundancy)
        ),
        alice: &outcome.alice,
        bob: &outcome.bob,
        names: &outcome.relay_names,
        kill: outcome.kill.as_ref().map(|kill| (kill.at_unix_ms, format!("{} {}", kill.name, kill.how()))),
    };
    let path = script.out.join("call.svg");
    std::fs::write(&path, picture.svg().map_err(anyhow::Error::msg)?)?;
    Ok(path)
}
