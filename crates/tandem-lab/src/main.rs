//! `tandem-lab`: the real `tandem` binary across NATs. `./x lab` builds both and runs this.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use tandem_lab::mapping::{self, Speaks};
use tandem_lab::matrix::{self, Options, Outcome, Pair, Relation, Report};
use tandem_lab::{attacks, can_make_namespaces, changes, election, privacy, why_not};

/// What exit statuses mean: 0 all as the table says, 1 not, 2 wrong arguments, 3 the machine cannot.
const CANNOT: u8 = 3;

/// Calls between every kind of network, held against the committed table (docs/LAB.md)
#[derive(Debug, Parser)]
#[command(
    name = "tandem-lab",
    after_help = "Examples:
  ./x lab                                          all 64 pairs, as strangers and as contacts
  ./x lab --pair symmetric,port_restricted         one pair, with all that was measured
  ./x lab --few                                    the twelve pairs of ./x test
  ./x lab --delay-ms 25                            every access line 25 ms each way: set-up times
  ./x lab --changes                                what a call lives through: networks that change, NATs that forget …
  ./x lab --changes offline --rounds 5             one of them, five times
  ./x lab --port-mapping                           routers that forward ports: PCP, NAT-PMP, UPnP, none of them
  ./x lab --election                               30 plain nodes elect their supernodes, which are then killed
  ./x lab --election --nat                         candidates behind NATs: who may serve, and who never
  ./x lab --attacks omit                           a hundred hostile supernodes in one network, lying in this manner
  ./x lab --privacy                                who learns whose address: everything captured and searched"
)]
struct Arguments {
    /// Only this pair: caller's network, callee's network; or one_home, one_carrier, hairpin_carrier. May be repeated
    #[arg(long, value_name = "A,B", value_parser = Pair::parse)]
    pair: Vec<Pair>,
    /// Twelve pairs that between them use every kind and every reason
    #[arg(long, conflicts_with = "pair")]
    few: bool,
    /// What happens to calls in the middle of them, each a call in a lab of its own; names, or none for all
    #[arg(long, value_name = "NAME", num_args = 0.., conflicts_with_all = ["pair", "few"])]
    changes: Option<Vec<String>>,
    /// How often each change is tried
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "changes",
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// A router that forwards ports by this protocol, or by each of them in turn, and one that speaks none
    #[arg(long, value_name = "PROTOCOL", num_args = 0.., conflicts_with_all = ["pair", "few", "changes"])]
    port_mapping: Option<Vec<Speaks>>,
    /// Thirty plain nodes that begin with one address elect their supernodes, which are killed one by one
    #[arg(long, conflicts_with_all = ["pair", "few", "changes", "port_mapping", "privacy"])]
    election: bool,
    /// With --election: eight nodes, within a minute or so
    #[arg(long, requires = "election")]
    small: bool,
    /// With --election: those that may serve do so by their settings, without any election; a control
    #[arg(long, requires = "election")]
    steady: bool,
    /// With --election: nothing is judged by how long it took
    #[arg(long, requires = "election")]
    counts_only: bool,
    /// With --election: candidates behind NATs instead, with and without routers that forward ports
    #[arg(long, requires = "election", conflicts_with_all = ["small", "steady", "counts_only"])]
    nat: bool,
    /// A hundred hostile supernodes in one /16 that lie in these manners (lure, omit, delay, garbage), or in all of them
    #[arg(long, value_name = "MANNER", num_args = 0.., value_parser = clap::builder::PossibleValuesParser::new(attacks::MANNERS),
        conflicts_with_all = ["pair", "few", "changes", "port_mapping", "privacy", "election"])]
    attacks: Option<Vec<String>>,
    /// The hostile program
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/release/examples/hostile",
        requires = "attacks"
    )]
    hostile: PathBuf,
    /// Who learns whose address: all that two people and six supernodes receive is captured, decrypted and searched.
    /// Takes a build of the program with its tap
    #[arg(long, conflicts_with_all = ["pair", "few", "changes", "port_mapping"])]
    privacy: bool,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
    /// One-way delay of each home's access line
    #[arg(long, value_name = "MS")]
    delay_ms: Option<u64>,
    /// How long each call lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0)]
    seconds: f64,
    /// Calls at the same time, at most: fewer on a machine that has other things to do
    #[arg(long, value_name = "NUMBER", default_value_t = 8)]
    at_once: usize,
    /// Only as strangers
    #[arg(long, conflicts_with = "contacts")]
    strangers: bool,
    /// Only as contacts
    #[arg(long)]
    contacts: bool,
    /// The program under test
    #[arg(long, value_name = "FILE", default_value = "target/release/tandem")]
    binary: PathBuf,
    /// Folder with alice.wav and bob.wav
    #[arg(long, value_name = "DIR", default_value = "assets/speech")]
    speech: PathBuf,
    /// Folder for data, logs, recordings and the picture
    #[arg(long, value_name = "DIR", default_value = "target/lab")]
    out: PathBuf,
    /// What the nodes log
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
    /// Say that the machine cannot make namespaces, and succeed: for a stage of tests outside CI
    #[arg(long)]
    or_skip: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !can_make_namespaces() {
        eprintln!("{}", why_not());
        return if arguments.or_skip { ExitCode::SUCCESS } else { ExitCode::from(CANNOT) };
    }
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("The lab could not run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    if let Some(names) = &arguments.changes {
        return run_changes(arguments, names);
    }
    if let Some(routers) = &arguments.port_mapping {
        return run_mapping(arguments, routers);
    }
    if arguments.privacy {
        return run_privacy(arguments);
    }
    if let Some(manners) = &arguments.attacks {
        return run_attacks(arguments, manners);
    }
    if arguments.election {
        return run_election(arguments);
    }
    let pairs = if arguments.few {
        Pair::few()
    } else if arguments.pair.is_empty() {
        Pair::all()
    } else {
        arguments.pair.clone()
    };
    let report = matrix::run(&pairs, &arguments.options(), &|line| eprintln!("{line}"))?;
    let picture = arguments.out.join("lab.svg");
    if pairs.len() == Pair::all().len() {
        std::fs::write(&picture, matrix::picture(&report))
            .with_context(|| format!("cannot write {}", picture.display()))?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&matrix::json(&report))?);
    } else {
        show(arguments, &pairs, &report, &picture);
    }
    Ok(report.held())
}

fn run_changes(arguments: &Arguments, names: &[String]) -> Result<bool> {
    let options = changes::Options {
        binary: arguments.binary.clone(),
        speech: arguments.speech.clone(),
        out: arguments.out.clone(),
        log: arguments.log.clone(),
        rounds: arguments.rounds,
    };
    let outcomes = changes::run(&changes::named(names)?, &options, &|line| eprintln!("{line}"))?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&changes::json(&outcomes))?);
    } else {
        print!("{}", changes::table(&outcomes));
        println!("Logs and recordings: {}", arguments.out.display());
    }
    Ok(outcomes.iter().all(|outcome| outcome.held))
}

fn run_mapping(arguments: &Arguments, routers: &[Speaks]) -> Result<bool> {
    let options = mapping::Options {
        binary: arguments.binary.clone(),
        speech: arguments.speech.clone(),
        out: arguments.out.clone(),
        log: arguments.log.clone(),
    };
    let routers = if routers.is_empty() { Speaks::ALL } else { routers };
    let outcomes = mapping::run(routers, &options, &|line| eprintln!("{line}"));
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&outcomes)?);
    } else {
        print!("{}", mapping::table(&outcomes));
        println!("Logs and recordings: {}", arguments.out.display());
    }
    Ok(outcomes.iter().all(|outcome| outcome.held))
}

fn run_privacy(arguments: &Arguments) -> Result<bool> {
    let options = privacy::Options {
        binary: arguments.binary.clone(),
        speech: arguments.speech.clone(),
        out: arguments.out.join("privacy"),
    };
    let report = privacy::run(&options, &|line| eprintln!("{line}"))?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
        println!("Logs, taps and recordings: {}", options.out.display());
    }
    Ok(report.held())
}

fn run_attacks(arguments: &Arguments, manners: &[String]) -> Result<bool> {
    let options = attacks::Options {
        binary: arguments.binary.clone(),
        hostile: arguments.hostile.clone(),
        out: arguments.out.clone(),
        log: arguments.log.clone(),
    };
    let manners: Vec<&str> = manners.iter().map(String::as_str).collect();
    let manners = if manners.is_empty() { attacks::MANNERS } else { &manners };
    let outcomes = attacks::run(manners, &options, &|line| eprintln!("{line}"))?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&outcomes)?);
    } else {
        outcomes.iter().for_each(|outcome| println!("{}", outcome.words()));
    }
    Ok(outcomes.iter().all(|outcome| outcome.held))
}

fn run_candidates(arguments: &Arguments) -> Result<bool> {
    let options = election::nat::Options {
        binary: arguments.binary.clone(),
        out: arguments.out.clone(),
        log: arguments.log.clone(),
    };
    let candidates = election::nat::run(&options, &|line| eprintln!("{line}"))?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&candidates)?);
    } else {
        candidates.iter().for_each(|candidate| println!("{}", candidate.words()));
        println!("Logs: {}", arguments.out.join("election-nat").display());
    }
    Ok(candidates.iter().all(|candidate| candidate.held))
}

fn run_election(arguments: &Arguments) -> Result<bool> {
    if arguments.nat {
        return run_candidates(arguments);
    }
    let options = election::Options {
        binary: arguments.binary.clone(),
        out: arguments.out.clone(),
        log: arguments.log.clone(),
        steady: arguments.steady,
        counts_only: arguments.counts_only,
        size: if arguments.small { election::Size::SMALL } else { election::Size::FULL },
    };
    let report = election::run(&options, &|line| eprintln!("{line}"))?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
        println!("Logs: {}", arguments.out.join("election").display());
    }
    Ok(report.held)
}

fn show(arguments: &Arguments, pairs: &[Pair], report: &Report, picture: &Path) {
    print!("{}", matrix::table(report));
    if !arguments.pair.is_empty() {
        report.outcomes.iter().for_each(detail);
    }
    if pairs.len() == Pair::all().len() {
        println!("Picture: {}", picture.display());
    }
    println!("Logs and recordings: {}", arguments.out.display());
}

/// All that was measured of one call.
fn detail(outcome: &Outcome) {
    println!("\n{} as {:?}: {}", outcome.pair, outcome.relation, outcome.reason);
    let ms = |value: Option<u64>| value.map_or_else(|| "—".to_owned(), |ms| format!("{ms} ms"));
    println!(
        "  call to ringing {}, answer to first sound {}",
        ms(outcome.call_to_ringing_ms),
        ms(outcome.answer_to_sound_ms)
    );
    if let Some(again) = outcome.again {
        println!(
            "  called again: to ringing {}, answer to first sound {}",
            ms(again.call_to_ringing_ms),
            ms(again.answer_to_sound_ms)
        );
    }
    for (who, heard) in [("caller", &outcome.caller), ("callee", &outcome.callee)] {
        let Some(heard) = heard else { continue };
        println!(
            "  {who} heard {:.1} s, correlation {:.2}, {:+.1} dB; {} packets, {} lost, {} ms made up; paths: {}",
            heard.seconds,
            heard.correlation,
            heard.level_db,
            heard.received,
            heard.lost,
            heard.concealed_ms,
            heard.paths.join(", ")
        );
    }
}

impl Arguments {
    fn options(&self) -> Options {
        let mut relations = Vec::new();
        if !self.contacts {
            relations.push(Relation::Strangers);
        }
        if !self.strangers {
            relations.push(Relation::Contacts);
        }
        Options {
            binary: self.binary.clone(),
            speech: self.speech.clone(),
            out: self.out.clone(),
            delay: self.delay_ms.map(Duration::from_millis),
            length: Duration::from_secs_f64(self.seconds.clamp(1.5, 20.0)),
            log: self.log.clone(),
            relations,
            at_once: self.at_once,
        }
    }
}
