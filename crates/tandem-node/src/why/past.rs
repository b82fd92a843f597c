//! Calls that are over, explained from their reports in the data folder.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use tandem_api::{CallFacts, CallReport, CallWhy, Problem, SwitchFact};

use super::{conclude, explain};
use crate::messages::Code;
use crate::platform::paths;

/// A report longer than this is none of ours: one of an hour has about 400 KB.
const REPORT_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// The explanation of a past call, by the beginning of its name; the newest one for an empty name.
///
/// # Errors
/// [`Code::NoSuchCall`], [`Code::WhichCall`].
pub fn of_past_call(data: &Path, name: &str) -> Result<CallWhy, Problem> {
    let report = read_report(&find(data, name)?).ok_or_else(|| Code::NoSuchCall.problem())?;
    Ok(of_report(&report))
}

/// The explanation that a report holds; for a report of an older version, what can be told from the rest of it.
#[must_use]
pub fn of_report(report: &CallReport) -> CallWhy {
    let mut facts = match &report.why {
        Some(why) => why.facts.clone(),
        None => facts_of_old(report),
    };
    conclude(&mut facts);
    // Drawn anew, so that a newer version's words apply to old facts too.
    CallWhy { call: report.call.call.clone(), findings: explain(&facts), facts }
}

fn facts_of_old(report: &CallReport) -> CallFacts {
    let call = &report.call;
    let switches = call.path_changes.iter().map(|change| SwitchFact {
        into_call_ms: change.into_call_ms,
        from: change.from.clone(),
        to: change.to.clone(),
        why: change.why.clone(),
        ..SwitchFact::default()
    });
    CallFacts {
        direction: Some(call.direction),
        contact: call.name.is_some(),
        connected: call.result.connected,
        path: call.result.path,
        reason: call.reason,
        switches: switches.collect(),
        ..CallFacts::default()
    }
}

/// The reports of a data folder, the newest first.
#[must_use]
pub fn reports(data: &Path) -> Vec<PathBuf> {
    let Ok(folder) = fs::read_dir(data.join(paths::CALLS)) else { return Vec::new() };
    let mut reports: Vec<_> = folder
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .collect();
    reports.sort();
    reports.into_iter().rev().map(|(_, path)| path).collect()
}

/// `None`: it cannot be read or understood.
#[must_use]
pub fn read_report(path: &Path) -> Option<CallReport> {
    let mut text = String::new();
    fs::File::open(path).ok()?.take(REPORT_BYTES_MAX).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn find(data: &Path, name: &str) -> Result<PathBuf, Problem> {
    let all = reports(data);
    if name.is_empty() {
        return all.into_iter().next().ok_or_else(|| Code::NoSuchCall.problem());
    }
    let fits = |path: &PathBuf| {
        path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| stem.starts_with(name))
    };
    let mut fitting = all.into_iter().filter(fits);
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Code::NoSuchCall.problem()),
        (Some(_), Some(_)) => Err(Code::WhichCall.problem()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As version 0.1.0 wrote it, before explanations were kept.
    const OLD: &str = r#"{"call":{"call":"0af1","address":"tandem:x","direction":"outgoing","state":"ended",
        "started_unix_ms":1,"answered_unix_ms":2,"ended_unix_ms":3,"reason":"hung_up","result":{"connected":true,
        "path":"relayed","relays":["12D3KooWx"],"setup_ms":{"lookup":1,"ringing":2,"media":3},
        "packets":{"sent":1,"received":1,"lost":0},"longest_gap_ms":20,"concealed_ms":0,"why":"You hung up."},
        "mirroring":false,"path_changes":[{"into_call_ms":5,"from":"a","to":"b","why":"it fell silent"}]},
        "begin_unix_ms":1,"step_ms":100,"sent_dbfs":[],"heard_dbfs":[],"paths":[],"sound":{"played_ms":0,
        "decoded_ms":0,"from_lbrr_ms":0,"from_dred_ms":0,"concealed_ms":0,"stretched_ms":0,"buffer_ms":0},
        "longest_gap_ms":20.0,"longest_gap_at_unix_ms":1}"#;

    #[test]
    fn old_reports_are_read_and_explained() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("calls")).unwrap();
        fs::write(folder.path().join("calls/0af1.json"), OLD).unwrap();
        fs::write(folder.path().join("calls/0bad.json"), "no JSON").unwrap();
        let why = of_past_call(folder.path(), "0a").unwrap();
        let words: Vec<&str> = why.findings.iter().map(|finding| finding.code.as_str()).collect();
        assert_eq!(words, ["relayed_was", "switched"]);
        let code = |name: &str| of_past_call(folder.path(), name).unwrap_err().code;
        assert_eq!(code("0"), Code::WhichCall.entry().code);
        assert_eq!(code("0b"), Code::NoSuchCall.entry().code);
        assert_eq!(code("ff"), Code::NoSuchCall.entry().code);
    }
}
