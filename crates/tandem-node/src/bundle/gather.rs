//! What goes into a bundle: an allow list of files and answers, each within a limit, each redacted.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Redactor;
use crate::platform::paths;
use crate::why;

/// The end of a log file that is taken.
const LOG_BYTES_MAX: u64 = 256 * 1024;
/// Days of log taken.
const LOGS_MAX: usize = 2;
const PANICS_MAX: usize = 3;
/// Reports of calls taken when none is named.
const CALLS_MAX: usize = 5;

/// One file of the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    /// For the person, in a few words.
    pub what: String,
    /// Redacted.
    pub text: String,
}

/// What the parts are made from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    pub data: PathBuf,
    /// Only the report of this call, by the beginning of its name.
    pub call: Option<String>,
    /// Answers of the program itself: name of the file, what it is, content.
    pub answers: Vec<(&'static str, &'static str, Value)>,
}

/// Reads and redacts.
#[must_use]
pub fn gather(sources: &Sources, redactor: &Redactor) -> Vec<Part> {
    let mut parts = vec![about()];
    for (name, what, value) in &sources.answers {
        parts.push(part(name, what, pretty(&redactor.json(value))));
    }
    parts.extend(calls(sources, redactor));
    let logs = sources.data.join(paths::LOGS);
    let files = newest(&logs, "tandem.", LOGS_MAX).into_iter().map(|path| (path, "log"));
    let panics = newest(&logs, "panic-", PANICS_MAX).into_iter().map(|path| (path, "report of a fault"));
    for (path, what) in files.chain(panics) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("log").to_owned();
        if let Some(text) = tail(&path) {
            // Not by lines: the words of an account may stand one on each.
            parts.push(part(&format!("logs/{name}"), what, redactor.text(&text)));
        }
    }
    parts
}

fn about() -> Part {
    let text = format!(
        "Tandem {} on {} {}\n\n\
         Names, keys and internet addresses are replaced by pseudonyms, like name-k3fqa.\n\
         The same thing has the same pseudonym within this bundle and another one in the\n\
         next: the key they were made with is gone. Of an internet address only its kind\n\
         is kept. No message, word of an account, passphrase or token is inside.\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
    );
    part("about.txt", "version, system, how to read the rest", text)
}

fn part(name: &str, what: &str, text: String) -> Part {
    Part { name: name.to_owned(), what: what.to_owned(), text }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// Reports of calls, numbered: their own names are those of the calls.
fn calls(sources: &Sources, redactor: &Redactor) -> Vec<Part> {
    let wanted = |path: &PathBuf| {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        sources.call.as_deref().is_none_or(|call| stem.starts_with(call))
    };
    let reports = why::reports(&sources.data).into_iter().filter(wanted).take(CALLS_MAX);
    let values = reports.filter_map(|path| serde_json::to_value(why::read_report(&path)?).ok());
    values
        .enumerate()
        .map(|(index, report)| {
            let name = format!("calls/{}.json", index + 1);
            part(&name, "report of a call", pretty(&redactor.json(&report)))
        })
        .collect()
}

fn newest(folder: &Path, begin: &str, most: usize) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(begin))
        })
        .collect();
    // Their names hold their dates.
    files.sort();
    files.into_iter().rev().take(most).collect()
}

/// The last lines of a file, whole ones.
fn tail(path: &Path) -> Option<String> {
    let mut file = fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let skip = length.saturating_sub(LOG_BYTES_MAX);
    file.seek(SeekFrom::Start(skip)).ok()?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // The first line may be the end of one, and half an address is no address to the rules.
    if skip == 0 { Some(text) } else { text.split_once('\n').map(|(_, whole)| whole.to_owned()) }
}

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
