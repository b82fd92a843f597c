//! `tandem bench`: durations, each beside an unharmed control of the same run. Tests assert counts and order; what
//! takes how long is measured here, with the real binary and processes of its own, on this machine.

mod crowd;
mod figures;
mod idle;
mod lost_relay;
mod namespace;
mod relay;
mod set_up;
mod sound;

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

const ALICE: &[u8] = include_bytes!("../../../../assets/speech/alice.wav");
const BOB: &[u8] = include_bytes!("../../../../assets/speech/bob.wav");

/// How often the other benches measure everything.
const ROUNDS: u32 = 5;

/// Measure durations on this machine
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  tandem bench demo --rounds 3
  tandem bench setup --json
  tandem bench idle --quick
  tandem bench crowd --nodes 30,100
  tandem bench sound --speech one.wav two.wav
  tandem bench relay --picture relay.svg

Exit status 0 if every target was reached. Other work on the machine shows in the figures: look at the control.")]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
    /// How often everything is measured (default: 5; the relay: 10)
    #[arg(long, global = true, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// Work in this folder and leave everything there (default: a temporary one, removed at the end)
    #[arg(long, global = true, value_name = "DIR")]
    out: Option<PathBuf>,
    /// One JSON object at the end; the command line's own `--json` sets it.
    #[arg(skip)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// Calls whose relay dies: packets lost, longest gap, concealed sound
    Demo(lost_relay::DemoBench),
    /// Start to reachable, address to ringing, answer to first sound; homes that die
    Setup(set_up::SetupBench),
    /// Memory and traffic of a leaf that only waits; needs root, for a network namespace
    Idle(idle::IdleBench),
    /// Memory, traffic and processor of 30, 100 and 300 nodes that only wait; in namespaces of its own
    Crowd(crowd::CrowdBench),
    /// Quality of the sound (PESQ-WB), with and without the death of a relay
    Sound(sound::SoundBench),
    /// CPU, delay and memory of the relay, beside a bare forwarder, coturn and turn-server
    Relay(relay::RelayBench),
}

impl What {
    fn rounds(&self) -> u32 {
        match self {
            Self::Relay(options) if options.quick => relay::ROUNDS_QUICK,
            Self::Relay(_) => relay::ROUNDS,
            _ => ROUNDS,
        }
    }
}

/// Runs a bench and prints what it found. Returns whether every target was reached.
///
/// # Errors
/// When the network cannot be started, or nothing could be measured.
pub(crate) fn run(args: &BenchArgs) -> Result<bool> {
    if let What::Crowd(options) = &args.what
        && !options.inside
    {
        return Err(crowd::enter());
    }
    let bench = Bench::new(args)?;
    let (name, found) = match &args.what {
        What::Demo(options) => ("demo", lost_relay::run(&bench, options)),
        What::Setup(options) => ("setup", set_up::run(&bench, options)),
        What::Idle(options) => ("idle", idle::run(&bench, options)),
        What::Crowd(options) => ("crowd", crowd::run(&bench, options)),
        What::Sound(options) => ("sound", sound::run(&bench, options)),
        What::Relay(options) => ("relay", relay::run(&bench, options)),
    };
    let report =
        found.with_context(|| format!("everything it left behind is in {}", bench.folder.display()))?;
    report.print(name, args.json);
    bench.clear();
    Ok(report.held())
}

/// Where a bench works, how often it measures, and how it tells of its progress.
#[derive(Debug)]
struct Bench {
    rounds: u32,
    folder: PathBuf,
    temporary: bool,
    begun: Instant,
}

impl Bench {
    fn new(args: &BenchArgs) -> Result<Self> {
        let begun_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        // A process id alone is not unique: a bench in a process namespace of its own is number 1.
        let name = format!("tandem-bench-{}-{begun_ms}", std::process::id());
        let folder = args.out.clone().unwrap_or_else(|| std::env::temp_dir().join(name));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self {
            rounds: args.rounds.unwrap_or_else(|| args.what.rounds()),
            folder: folder.canonicalize()?,
            temporary: args.out.is_none(),
            begun: Instant::now(),
        })
    }

    /// One line of progress, beside the output.
    fn say(&self, text: impl AsRef<str>) {
        eprintln!("{:7.1} s  {}", self.begun.elapsed().as_secs_f64(), text.as_ref());
    }

    /// A folder for one run.
    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// Writes a file into the working folder.
    fn file(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let path = self.folder.join(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn clear(&self) {
        if self.temporary && remove(&self.folder).is_err() {
            self.say(format!("{} could not be removed", self.folder.display()));
        }
    }
}

fn remove(folder: &Path) -> std::io::Result<()> {
    std::fs::remove_dir_all(folder)
}

/// A WAV file of one channel of 16-bit PCM (RIFF, WAVE_FORMAT_PCM).
fn wav(rate: u32, samples: &[i16]) -> Vec<u8> {
    let data = u32::try_from(samples.len() * 2).expect("invariant: a passage is shorter than hours");
    let mut file = Vec::with_capacity(44 + samples.len() * 2);
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&(36 + data).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt ");
    file.extend_from_slice(&16u32.to_le_bytes());
    // Format 1 (PCM), one channel.
    file.extend_from_slice(&[1, 0, 1, 0]);
    file.extend_from_slice(&rate.to_le_bytes());
    file.extend_from_slice(&(rate * 2).to_le_bytes());
    // Two bytes a frame, 16 bits a sample.
    file.extend_from_slice(&[2, 0, 16, 0]);
    file.extend_from_slice(b"data");
    file.extend_from_slice(&data.to_le_bytes());
    file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_wav_reads_as_what_it_is() {
        let file = wav(16_000, &[1, -2, 3]);
        assert_eq!(file.len(), 44 + 6);
        assert_eq!(&file[..4], b"RIFF");
        assert_eq!(u32::from_le_bytes([file[4], file[5], file[6], file[7]]) as usize, file.len() - 8);
        assert_eq!(u32::from_le_bytes([file[24], file[25], file[26], file[27]]), 16_000);
        assert_eq!(&file[44..], [1, 0, 0xFE, 0xFF, 3, 0]);
    }
}
