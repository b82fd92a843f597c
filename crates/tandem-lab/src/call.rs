//! One call between two nodes of the lab, by the command line that people use, and what both sides report of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use tandem_api::{CallEvent, CallReport, CallResult, CallStep, CallSummary};

use crate::process::{Line, Process, end, lines_of};

/// Beyond its own length, a call may take so long to come about and to end.
const GRACE: Duration = Duration::from_secs(40);
const REPORT_WITHIN: Duration = Duration::from_secs(15);

/// What is to be called.
#[derive(Debug, Clone)]
pub struct CallPlan {
    /// A `tandem:` address, a contact's name or an invitation link.
    pub whom: String,
    /// WAV file that the caller plays.
    pub play: PathBuf,
    /// Where the caller records what it hears.
    pub record: PathBuf,
    /// From the first sound on.
    pub length: Duration,
    /// Further arguments of `tandem call`.
    pub more: Vec<String>,
}

/// A call that goes on. Dropping it hangs up.
#[derive(Debug)]
pub struct Call {
    child: Child,
    lines: Receiver<Line>,
    begun: SystemTime,
    until: Instant,
    id: Option<String>,
    /// The last line that it wrote.
    last: String,
    result: Option<CallResult>,
    log: PathBuf,
}

/// What both sides reported.
#[derive(Debug, Clone)]
pub struct CallOutcome {
    pub result: CallResult,
    /// `None` when no call came about on that side.
    pub caller: Option<CallReport>,
    pub callee: Option<CallReport>,
}

impl Call {
    /// Begins to call.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn begin(caller: &Process, plan: &CallPlan) -> Result<Self> {
        let log = plan.record.with_extension("log");
        let length = format!("{}ms", plan.length.as_millis());
        let mut command = caller.command(&["call", &plan.whom, "--for", &length, "--json"]);
        command.arg("--play").arg(&plan.play).arg("--record").arg(&plan.record).args(&plan.more);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(std::fs::File::create(&log)?);
        let begun = SystemTime::now();
        let mut child = command.spawn().context("cannot run ip netns exec")?;
        let lines = lines_of(&mut child)?;
        let until = Instant::now() + plan.length + GRACE;
        Ok(Self { child, lines, begun, until, id: None, last: "nothing".to_owned(), result: None, log })
    }

    /// The next thing that happens, or nothing within `wait`.
    ///
    /// # Errors
    /// When the call is over ([`Call::finish`] has the result), or takes far longer than planned.
    pub fn next(&mut self, wait: Duration) -> Result<Option<CallEvent>> {
        if Instant::now() > self.until {
            bail!("the call did not end in time; its log: {}", self.log.display());
        }
        let line = match self.lines.recv_timeout(wait) {
            Ok(line) => line.text,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the call is over"),
        };
        self.last.clone_from(&line);
        if let Ok(event) = serde_json::from_str::<CallEvent>(&line) {
            self.id = Some(event.call.clone());
            return Ok(Some(event));
        }
        self.result = Some(serde_json::from_str(&line).with_context(|| format!("not a result: {line}"))?);
        Ok(None)
    }

    /// Waits for the first sound.
    ///
    /// # Errors
    /// When the call ends without any.
    pub fn connected(&mut self) -> Result<()> {
        loop {
            let event = self.next(Duration::from_millis(100))?;
            if matches!(event.map(|event| event.step), Some(CallStep::Connected { .. })) {
                return Ok(());
            }
            if let Some(result) = &self.result {
                bail!("the call brought no sound: {}", result.why);
            }
        }
    }

    /// The call as its caller's node sees it now: the paths in use among other things.
    ///
    /// # Errors
    /// When the node does not answer.
    pub fn now(&self, caller: &Process) -> Result<CallSummary> {
        let calls: Vec<CallSummary> = caller.get("/api/calls")?;
        let mine = calls.into_iter().find(|call| Some(&call.call) == self.id.as_ref());
        mine.context("the node does not know the call")
    }

    /// Waits for the end of the call, then for the reports of both sides.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn finish(mut self, caller: &Process, callee: &Process) -> Result<CallOutcome> {
        while self.result.is_none() {
            if let Err(error) = self.next(Duration::from_millis(200))
                && self.result.is_none()
            {
                bail!("no result of the call: {error}; the last that happened: {}", self.last);
            }
        }
        let result = self.result.clone().unwrap_or_default();
        let since = unix_ms(self.begun);
        let wait = if result.connected { REPORT_WITHIN } else { Duration::ZERO };
        Ok(CallOutcome {
            result,
            caller: report(caller.data(), callee.address(), since, wait),
            callee: report(callee.data(), caller.address(), since, wait),
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// The report of the call with this account that began after that time.
fn report(data: &Path, with: &str, since_unix_ms: u64, wait: Duration) -> Option<CallReport> {
    let until = Instant::now() + wait;
    loop {
        let found = reports(&data.join("calls"))
            .into_iter()
            .find(|report| report.call.address == with && report.call.started_unix_ms >= since_unix_ms);
        if found.is_some() || Instant::now() > until {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn reports(folder: &Path) -> Vec<CallReport> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let texts = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter_map(|path| std::fs::read(path).ok());
    texts.filter_map(|text| serde_json::from_slice(&text).ok()).collect()
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
