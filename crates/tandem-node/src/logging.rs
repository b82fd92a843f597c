//! Logs: to stderr and to rotating files in the data folder. A panic leaves a report there, with what could name somebody
//! taken out; nothing is ever sent.

use std::fs;
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_appender::rolling::{InitError, RollingFileAppender, Rotation};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, filter::ParseError, fmt};

use crate::installation::unix_ms;
use crate::platform::{files, paths};

/// Days of log files kept.
const FILES_MAX: usize = 7;
/// Panic reports kept.
const REPORTS_MAX: usize = 10;

/// Keeps the log file's writer alive; what is buffered is written when it drops.
#[derive(Debug)]
pub struct LogGuard {
    _files: Option<WorkerGuard>,
}

/// Why there is no log.
#[derive(Debug, Error)]
pub enum LogError {
    #[error("the log filter is wrong: {0}")]
    Filter(#[from] ParseError),
    #[error("the folder for logs cannot be used: {0}")]
    Folder(#[from] io::Error),
    #[error("the log file cannot be opened: {0}")]
    File(#[from] InitError),
    #[error("logging was set up before: {0}")]
    Twice(#[from] TryInitError),
}

/// What a filter is taken to mean. A bare level is for Tandem itself; other libraries only warn then. Those of STUN and
/// TURN never warn, unless a filter names them: any stranger's broken packet would make a line (with an address in it).
fn expand(filter: &str) -> String {
    const OWN: [&str; 6] =
        ["tandem", "tandem_node", "tandem_core", "tandem_media", "tandem_relay", "tandem_proto"];
    let quiet =
        ["stun_types", "stun_proto", "turn_types", "turn_client_proto"].map(|name| format!("{name}=error"));
    let level = filter.trim();
    if !["error", "warn", "info", "debug", "trace"].contains(&level.to_ascii_lowercase().as_str()) {
        // What the filter itself says of a target comes later, and wins.
        return format!("{},{filter}", quiet.join(","));
    }
    let own: Vec<String> = OWN.iter().map(|name| format!("{name}={level}")).collect();
    format!("warn,{},{}", quiet.join(","), own.join(","))
}

/// Begins to log: to stderr by `filter`, and to daily files in `DATA/logs` when `data` is given, by the same filter.
///
/// # Errors
/// [`LogError`].
pub fn start(filter: &str, data: Option<&Path>) -> Result<LogGuard, LogError> {
    let filter = expand(filter);
    let to_stderr = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .with_filter(EnvFilter::try_new(&filter)?);
    let Some(data) = data else {
        tracing_subscriber::registry().with(to_stderr).try_init()?;
        return Ok(LogGuard { _files: None });
    };
    let folder = data.join(paths::LOGS);
    files::make_private_folder(&folder)?;
    let appender = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("tandem")
        .filename_suffix("log")
        .max_log_files(FILES_MAX)
        .build(&folder)?;
    let (writer, guard) = tracing_appender::non_blocking(appender);
    let to_files =
        fmt::layer().with_writer(writer).with_ansi(false).with_filter(EnvFilter::try_new(&filter)?);
    tracing_subscriber::registry().with(to_stderr).with(to_files).try_init()?;
    Ok(LogGuard { _files: Some(guard) })
}

/// From now on a panic also writes `DATA/logs/panic-….txt`.
pub fn report_panics(data: &Path) {
    let folder = data.join(paths::LOGS);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        match write_report(&folder, panic) {
            Ok(path) => eprintln!("A report was written to {}; it was sent nowhere.", path.display()),
            Err(error) => eprintln!("A report of this could not be written: {error}"),
        }
    }));
}

fn write_report(folder: &Path, panic: &PanicHookInfo<'_>) -> io::Result<PathBuf> {
    files::make_private_folder(folder)?;
    let message = text_of(panic);
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current().name().unwrap_or("(no name)").to_owned();
    let backtrace = std::backtrace::Backtrace::force_capture();
    let report = format!(
        "Tandem {} on {} stopped where it should not have.\nplace: {place}\nthread: {thread}\nmessage: {}\n\n{backtrace}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        redact(message),
    );
    let path = folder.join(format!("panic-{}.txt", unix_ms()));
    files::write_new(&path, report.as_bytes())?;
    remove_old_reports(folder)?;
    Ok(path)
}

/// What `panic!` was given.
fn text_of<'a>(panic: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = panic.payload();
    let owned = || payload.downcast_ref::<String>().map(String::as_str);
    payload.downcast_ref::<&str>().copied().or_else(owned).unwrap_or("(no text)")
}

fn remove_old_reports(folder: &Path) -> io::Result<()> {
    let mut reports: Vec<PathBuf> = fs::read_dir(folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("panic-"))
        })
        .collect();
    reports.sort();
    let surplus = reports.len().saturating_sub(REPORTS_MAX);
    reports.iter().take(surplus).try_for_each(fs::remove_file)
}

/// Takes out of a text what could name a person or a machine, or be a secret: anything with digits and dots or colons like
/// an address, and anything long without a space like a key.
#[must_use]
pub fn redact(text: &str) -> String {
    const LONGEST_PLAIN: usize = 24;
    let word = |word: &str| {
        let core = word.trim_matches(|c: char| !c.is_alphanumeric());
        let digits = core.chars().filter(char::is_ascii_digit).count();
        let marks = core.chars().filter(|c| matches!(c, '.' | ':' | '/')).count();
        let like_address = (digits >= 4 && marks >= 3) || core.matches(':').count() >= 2;
        let long = core.chars().count() > LONGEST_PLAIN;
        if like_address || long { "[…]".to_owned() } else { word.to_owned() }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_is_for_tandem_only() {
        assert!(expand("info").starts_with("warn,"));
        assert!(EnvFilter::try_new(expand("DEBUG")).is_ok());
        assert!(expand("libp2p=debug,info").ends_with(",libp2p=debug,info"));
    }

    #[test]
    fn strangers_packets_make_no_lines() {
        for filter in ["info", "trace", "warn,libp2p=debug"] {
            let expanded = expand(filter);
            assert!(EnvFilter::try_new(&expanded).is_ok(), "{expanded}");
            for library in ["stun_types", "turn_types"] {
                assert!(expanded.contains(&format!("{library}=error")), "{expanded}");
            }
        }
    }

    #[test]
    fn addresses_and_keys_are_taken_out() {
        assert_eq!(redact("lost 192.0.2.17:4001 for 2001:db8::7, sorry"), "lost […] for […] sorry");
        assert_eq!(redact("index 3 of 12 out of range"), "index 3 of 12 out of range");
        let key = "tandem:aeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaib";
        assert_eq!(redact(&format!("no {key}")), "no […]");
    }
}
