//! `tandem doctor`: looks at an installation and changes nothing but what opening the store changes.

use std::net::UdpSocket;
use std::time::Duration;

use tandem_api::{CheckState, DoctorCheck, DoctorReport, Problem, Status};
use tandem_media::audio::opus::{Decoder, Encoder, EncoderConfig};
use tandem_media::audio::{FRAME_SAMPLES, Frame};
use tandem_node::api::ApiListener;
use tandem_node::config::{Config, Flags};
use tandem_node::installation::unix_ms;
use tandem_node::keys;
use tandem_node::messages::Code;
use tandem_node::platform::{DataLock, files, paths};
use tandem_node::policy;
use tandem_node::store::Store;

use super::{Place, runtime};
use crate::client::Client;
use crate::output::{self, Exit};

/// 2025-01-01: no certificate of this program is older.
const CLOCK_EARLIEST_MS: u64 = 1_735_689_600_000;
/// 2100-01-01.
const CLOCK_LATEST_MS: u64 = 4_102_444_800_000;
const HOMES_WANTED: usize = 3;
/// What a running node may say of its homes.
const HOMES_PROBLEMS: [Code; 3] = [Code::NoSupernode, Code::NoBootstrap, Code::AloneSupernode];

pub(super) fn run(place: &Place) -> Result<Exit, Problem> {
    let report = examine(place)?;
    output::either(place.json, &report, text);
    Ok(if report.ok { Exit::Done } else { Exit::Failed })
}

/// Looks at everything.
pub(super) fn examine(place: &Place) -> Result<DoctorReport, Problem> {
    let client = Client::find(&place.data);
    let running = matches!(client, Ok(Some(_)));
    let config = place.load(&Flags::new());
    let mut checks = vec![folder(place), identity(place), clock()];
    checks.push(store(place, running));
    checks.push(policy());
    checks.push(settings(&config));
    if let Ok(loaded) = &config {
        checks.push(api_port(&loaded.config, running)?);
    }
    checks.push(sound());
    checks.push(udp());
    checks.extend(node(client));
    let ok = checks.iter().all(|check| check.state != CheckState::Fail);
    Ok(DoctorReport { ok, version: env!("CARGO_PKG_VERSION").to_owned(), checks })
}

fn text(report: &DoctorReport) -> String {
    let mut text = String::new();
    for check in &report.checks {
        let state = match check.state {
            CheckState::Ok => "ok  ",
            CheckState::Warn => "warn",
            CheckState::Fail => "FAIL",
        };
        text.push_str(&format!("{state}  {:<9} {}\n", check.check, check.found));
        if let Some(action) = &check.action {
            text.push_str(&format!("                → {action}\n"));
        }
    }
    text
}

fn check(name: &str, state: CheckState, found: impl Into<String>, action: Option<&str>) -> DoctorCheck {
    DoctorCheck { check: name.to_owned(), state, found: found.into(), action: action.map(str::to_owned) }
}

fn fine(name: &str, found: impl Into<String>) -> DoctorCheck {
    check(name, CheckState::Ok, found, None)
}

fn failed(name: &str, problem: &Problem) -> DoctorCheck {
    check(name, CheckState::Fail, problem.to_string(), Some(&problem.action))
}

fn folder(place: &Place) -> DoctorCheck {
    let path = place.data.display().to_string();
    if !place.data.exists() {
        let found = format!("{path} does not exist yet");
        return check("folder", CheckState::Warn, found, Some("Run: tandem up. It makes the folder."));
    }
    match files::open_to_others(&place.data) {
        Ok(None) => fine("folder", format!("{path} is only yours")),
        Ok(Some(mode)) => failed("folder", &Code::DataFolderOpen.with(&[("path", &path), ("mode", &mode)])),
        Err(error) => {
            failed("folder", &Code::DataFolder.with(&[("path", &path), ("detail", &error.to_string())]))
        }
    }
}

fn identity(place: &Place) -> DoctorCheck {
    if !keys::exists(&place.data) {
        return check(
            "keys",
            CheckState::Warn,
            "there is no identity yet",
            Some("Run: tandem up. It makes one."),
        );
    }
    let opened = place.passphrase().and_then(|passphrase| {
        keys::open(&place.data, passphrase.as_ref(), unix_ms()).map_err(|e| e.problem())
    });
    match opened {
        Ok(keys) => {
            let days = (keys.certificate.not_after_s() * 1000).saturating_sub(unix_ms()) / 86_400_000;
            let sealed = if keys.sealed { "sealed" } else { "not under a passphrase" };
            fine("keys", format!("whole, {sealed}; the certificate is good for {days} days"))
        }
        Err(problem) => failed("keys", &problem),
    }
}

fn clock() -> DoctorCheck {
    if (CLOCK_EARLIEST_MS..CLOCK_LATEST_MS).contains(&unix_ms()) {
        return fine("clock", "plausible");
    }
    check(
        "clock",
        CheckState::Fail,
        "this machine's clock is years off",
        Some("Set it; certificates and records are refused otherwise."),
    )
}

fn store(place: &Place, running: bool) -> DoctorCheck {
    let path = place.data.join(paths::STORE);
    if running {
        return fine("store", "in use by the running node");
    }
    if !path.exists() {
        return fine("store", "not made yet");
    }
    let opened = DataLock::take(&place.data)
        .map_err(|error| error.problem())
        .and_then(|_lock| Store::open(&path, unix_ms()).map_err(|error| error.problem()));
    match opened.and_then(|store| store.contacts().map_err(|error| error.problem())) {
        Ok(contacts) => fine("store", format!("readable, {} contacts", contacts.len())),
        Err(problem) => failed("store", &problem),
    }
}

/// The organisation's, if this machine has one.
fn policy() -> DoctorCheck {
    match policy::system().map(|policy| policy.view()) {
        Ok(view) => match view.file {
            None => fine("policy", "this machine has none"),
            Some(file) => {
                fine("policy", format!("{file} holds {} rules: see tandem policy", view.rules.len()))
            }
        },
        Err(error) => failed("policy", &error.problem()),
    }
}

fn settings(config: &Result<tandem_node::config::Loaded, Problem>) -> DoctorCheck {
    match config {
        Ok(loaded) => match loaded.config.check() {
            Ok(()) => {
                fine("settings", loaded.view.file.clone().unwrap_or_else(|| "no file; defaults".to_owned()))
            }
            Err(problem) => failed("settings", &problem),
        },
        Err(problem) => failed("settings", problem),
    }
}

fn api_port(config: &Config, running: bool) -> Result<DoctorCheck, Problem> {
    if running {
        return Ok(fine("api", "served by the running node"));
    }
    // Taken and given back at once.
    Ok(match runtime()?.block_on(ApiListener::bind(config.api)) {
        Ok(_) => fine("api", format!("{} is free", config.api)),
        Err(error) => failed("api", &error.problem()),
    })
}

/// A tone through the encoder and the decoder.
fn sound() -> DoctorCheck {
    match opus_works() {
        Ok(()) => fine("sound", "Opus encodes and decodes"),
        Err(detail) => check(
            "sound",
            CheckState::Fail,
            format!("Opus does not work: {detail}"),
            Some("This build is broken; install it again."),
        ),
    }
}

fn opus_works() -> Result<(), String> {
    let mut encoder = Encoder::new(EncoderConfig::default()).map_err(|error| error.to_string())?;
    let mut decoder = Decoder::new().map_err(|error| error.to_string())?;
    let tone: Frame = std::array::from_fn(|i| {
        let phase = i as f32 / FRAME_SAMPLES as f32 * std::f32::consts::TAU * 8.0;
        (phase.sin() * 8_000.0) as i16
    });
    let mut pcm = Vec::new();
    for _ in 0..5 {
        let packet = encoder.encode(&tone).map_err(|error| error.to_string())?;
        pcm.clear();
        decoder.decode(&packet, &mut pcm).map_err(|error| error.to_string())?;
    }
    let loudest = pcm.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0);
    if loudest > 1_000 { Ok(()) } else { Err("a tone came out as silence".to_owned()) }
}

fn udp() -> DoctorCheck {
    match udp_loops() {
        Ok(()) => fine("udp", "datagrams pass on this machine"),
        Err(error) => check(
            "udp",
            CheckState::Fail,
            format!("a datagram to this machine itself did not arrive: {error}"),
            Some("Look at the local firewall, or the rules of the container."),
        ),
    }
}

fn udp_loops() -> std::io::Result<()> {
    let receiver = UdpSocket::bind(("127.0.0.1", 0))?;
    receiver.set_read_timeout(Some(Duration::from_secs(1)))?;
    let sender = UdpSocket::bind(("127.0.0.1", 0))?;
    sender.send_to(b"tandem", receiver.local_addr()?)?;
    let mut buffer = [0; 16];
    let (length, _) = receiver.recv_from(&mut buffer)?;
    if &buffer[..length] == b"tandem" { Ok(()) } else { Err(std::io::Error::other("another came instead")) }
}

fn node(client: Result<Option<Client>, Problem>) -> Vec<DoctorCheck> {
    let status: Result<Status, Problem> = match client {
        Ok(None) => {
            let action = Some("Start it with: tandem up.");
            return vec![check("node", CheckState::Warn, "no node is running", action)];
        }
        Ok(Some(client)) => client.get("/api/status"),
        Err(problem) => Err(problem),
    };
    let status = match status {
        Ok(status) => status,
        Err(problem) => return vec![failed("node", &problem)],
    };
    let (about_homes, others): (Vec<&Problem>, Vec<&Problem>) =
        status.problems.iter().partition(|problem| HOMES_PROBLEMS.iter().any(|code| is(problem, *code)));
    let mut checks = vec![fine("node", format!("running, version {}", status.version))];
    checks.push(homes(&status, about_homes.first().copied()));
    let notice =
        |problem: &&Problem| check("notice", CheckState::Warn, problem.to_string(), Some(&problem.action));
    checks.extend(others.iter().map(notice));
    checks
}

/// What the node itself says of its homes, and how many there are.
fn homes(status: &Status, problem: Option<&Problem>) -> DoctorCheck {
    let homes = status.home_details.iter().filter(|home| home.reserved).count();
    let found = format!("{homes} of {HOMES_WANTED}");
    match (problem, homes) {
        (Some(problem), _) if is(problem, Code::AloneSupernode) => {
            check("homes", CheckState::Warn, problem.to_string(), Some(&problem.action))
        }
        (Some(problem), _) => failed("homes", problem),
        (None, 0) => {
            let action = "It has only begun, or lost them this moment. Look again in a few seconds.";
            check("homes", CheckState::Warn, found, Some(action))
        }
        (None, 1..HOMES_WANTED) => {
            let action = "Calls get through. More homes come as supernodes are found.";
            check("homes", CheckState::Warn, found, Some(action))
        }
        (None, _) => fine("homes", found),
    }
}

fn is(problem: &Problem, code: Code) -> bool {
    problem.code == code.entry().code
}
