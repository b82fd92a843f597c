//! The audit log: what a node did and for whom, one JSON object a line, for an organisation that wants to know. Never what
//! was said, sent or called somebody by; docs/POLICY.md has the schema.
//!
//! Whoever has something to write hands it to a bounded queue; a thread writes it. A queue that is full and a disk that is
//! full lose lines, and the next line that is written says how many. With `audit.required` the node takes no new calls
//! while lines are lost.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{AuditRules, Refusal};
use crate::installation::unix_ms;

/// Lines that may wait for the disk.
const QUEUE: usize = 1024;
/// What was written is on the disk after so long at the latest.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// A disk that hangs keeps no node from ending.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// Version of the lines' form.
const FORM: u32 = 1;
/// Different refusals remembered, so that one that comes again and again is counted and not written each time.
const REFUSALS_MAX: usize = 128;
/// The same refusal is written once in so long, with how often it came.
const REFUSAL_EVERY_MS: u64 = 60_000;

/// Where lines go; cheap to clone. The default writes nothing.
#[derive(Debug, Clone, Default)]
pub struct Audit(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    required: bool,
    queue: Mutex<Option<SyncSender<Line>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    state: Arc<State>,
    refusals: Mutex<Vec<Repeated>>,
}

/// What the writer and its users share.
#[derive(Debug, Default)]
struct State {
    /// Lines that did not fit into the queue or could not be written, and are not told yet.
    lost: AtomicU64,
    failing: AtomicBool,
}

#[derive(Debug)]
struct Line {
    unix_ms: u64,
    event: &'static str,
    fields: Value,
}

#[derive(Debug)]
struct Repeated {
    refusal: Refusal,
    told_ms: u64,
    since: u64,
}

impl Audit {
    /// Opens the log and starts its writer.
    ///
    /// # Errors
    /// With `required`, when the log cannot be opened.
    pub fn open(rules: &AuditRules) -> io::Result<Self> {
        let path = rules.file();
        let first = open(&path);
        let state = Arc::new(State::default());
        let log = match first {
            Ok(log) => Some(log),
            Err(error) if rules.required => return Err(error),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the audit log cannot be opened");
                state.failing.store(true, Ordering::Relaxed);
                None
            }
        };
        let (queue, lines) = sync_channel(QUEUE);
        let writer = Writer {
            path: path.clone(),
            log,
            state: Arc::clone(&state),
            run: format!("{:08x}", rand::random::<u32>()),
            sequence: 0,
            cut: false,
            unsynced: false,
            synced_at: Instant::now(),
        };
        let writer =
            std::thread::Builder::new().name("audit log".into()).spawn(move || writer.run(&lines))?;
        Ok(Self(Some(Arc::new(Shared {
            path,
            required: rules.required,
            queue: Mutex::new(Some(queue)),
            writer: Mutex::new(Some(writer)),
            state,
            refusals: Mutex::default(),
        }))))
    }

    /// Hands a line over. `fields` is an object without `v`, `run`, `seq`, `unix_ms` and `event`.
    pub fn note(&self, event: &'static str, fields: Value) {
        let Some(shared) = &self.0 else { return };
        let line = Line { unix_ms: unix_ms(), event, fields };
        let queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = queue.as_ref().map(|queue| queue.try_send(line));
        if let None | Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) = sent {
            shared.state.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether there is a log at all: what is costly to tell is told only then.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The log, where lines are being lost.
    #[must_use]
    pub fn failing(&self) -> Option<&Path> {
        let shared = self.0.as_ref()?;
        let state = &shared.state;
        let failing = state.failing.load(Ordering::Relaxed) || state.lost.load(Ordering::Relaxed) > 0;
        failing.then_some(shared.path.as_path())
    }

    /// The same, where the policy wants no new calls then.
    #[must_use]
    pub fn forbids_calls(&self) -> Option<&Path> {
        self.failing().filter(|_| self.0.as_ref().is_some_and(|shared| shared.required))
    }

    /// What the policy refused, unless the same was told within the last minute.
    pub(super) fn refused(&self, refusal: &Refusal) {
        let Some(shared) = &self.0 else { return };
        let now_ms = unix_ms();
        let mut known = shared.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let times = match known.iter_mut().find(|known| known.refusal == *refusal) {
            Some(known) if now_ms < known.told_ms.saturating_add(REFUSAL_EVERY_MS) => {
                known.since += 1;
                return;
            }
            Some(known) => {
                known.told_ms = now_ms;
                std::mem::take(&mut known.since) + 1
            }
            None => {
                if known.len() >= REFUSALS_MAX {
                    known.remove(0);
                }
                known.push(Repeated { refusal: refusal.clone(), told_ms: now_ms, since: 0 });
                1
            }
        };
        drop(known);
        self.note("refused", json!({ "key": refusal.key, "what": refusal.what, "times": times }));
    }

    /// Writes what waits, to the disk, and ends the writer. Later lines are lost.
    pub fn close(&self) {
        let Some(shared) = &self.0 else { return };
        drop(shared.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = shared.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(writer) = writer else { return };
        let until = Instant::now() + CLOSE_WITHIN;
        while !writer.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        if !writer.is_finished() {
            tracing::error!("the audit log's disk hangs: what waited for it is lost");
        } else if writer.join().is_err() {
            tracing::error!("the audit log's writer failed");
        }
    }
}

struct Writer {
    path: PathBuf,
    log: Option<Log>,
    state: Arc<State>,
    /// Tells the lines of this run from those of others in the same file.
    run: String,
    sequence: u64,
    /// The last line was written in part: the next begins with a line feed.
    cut: bool,
    unsynced: bool,
    synced_at: Instant,
}

struct Log {
    file: File,
    identity: Identity,
}

impl Writer {
    fn run(mut self, lines: &Receiver<Line>) {
        loop {
            match lines.recv_timeout(SYNC_EVERY) {
                Ok(line) => self.take(&line),
                Err(RecvTimeoutError::Timeout) => {
                    if self.state.lost.load(Ordering::Relaxed) > 0
                        || self.state.failing.load(Ordering::Relaxed)
                    {
                        self.recover();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.unsynced && self.synced_at.elapsed() >= SYNC_EVERY {
                self.sync();
            }
        }
        self.sync();
    }

    fn take(&mut self, line: &Line) {
        self.follow_rotation();
        if self.tell_lost().is_err() || self.write(line.unix_ms, line.event, &line.fields).is_err() {
            self.state.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Nothing is waiting; what was lost may be told now.
    fn recover(&mut self) {
        self.follow_rotation();
        if self.tell_lost().is_ok() && self.log.is_some() {
            self.state.failing.store(false, Ordering::Relaxed);
        }
    }

    fn tell_lost(&mut self) -> io::Result<()> {
        let lost = self.state.lost.load(Ordering::Relaxed);
        if lost > 0 {
            self.write(unix_ms(), "lost", &json!({ "lines": lost }))?;
            self.state.lost.fetch_sub(lost, Ordering::Relaxed);
        }
        Ok(())
    }

    fn write(&mut self, unix_ms: u64, event: &str, fields: &Value) -> io::Result<()> {
        let result = self.try_write(unix_ms, event, fields);
        let failing = result.is_err();
        if self.state.failing.swap(failing, Ordering::Relaxed) != failing {
            match &result {
                Ok(()) => tracing::warn!("the audit log is written again"),
                Err(error) => tracing::error!(%error, "the audit log cannot be written"),
            }
        }
        result
    }

    fn try_write(&mut self, unix_ms: u64, event: &str, fields: &Value) -> io::Result<()> {
        let log = self.log.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let mut object = json!({
            "v": FORM, "run": self.run, "seq": self.sequence, "unix_ms": unix_ms, "event": event,
        });
        if let (Some(object), Some(fields)) = (object.as_object_mut(), fields.as_object()) {
            object.extend(fields.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        let mut text = if self.cut { "\n".to_owned() } else { String::new() };
        text.push_str(&object.to_string());
        text.push('\n');
        // One write a line: others that append to the same file do not come in between.
        let written = log.file.write(text.as_bytes())?;
        self.cut = written > 0 && written < text.len();
        if written < text.len() {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.sequence += 1;
        self.unsynced = true;
        Ok(())
    }

    /// A log that was moved away, or is not there any more, is begun anew under its name.
    fn follow_rotation(&mut self) {
        let current = std::fs::metadata(&self.path).ok().map(|metadata| identity(&metadata));
        if self.log.as_ref().is_some_and(|log| Some(log.identity) == current) {
            return;
        }
        if self.unsynced {
            self.sync();
        }
        match open(&self.path) {
            Ok(log) => {
                self.cut = false;
                self.log = Some(log);
            }
            // What is open, though it has another name now, is better than nothing.
            Err(error) => tracing::debug!(%error, "the audit log cannot be opened again"),
        }
    }

    fn sync(&mut self) {
        self.synced_at = Instant::now();
        self.unsynced = false;
        if let Some(log) = &self.log
            && let Err(error) = log.file.sync_data()
        {
            tracing::error!(%error, "the audit log does not reach the disk");
            self.state.failing.store(true, Ordering::Relaxed);
        }
    }
}

/// Opens the log for appending, made with 0600 where there is none. Only a plain file that nobody else can write is a log.
fn open(path: &Path) -> io::Result<Log> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if metadata.permissions().mode() & 0o022 != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others can write it"));
        }
    }
    Ok(Log { identity: identity(&metadata), file })
}

/// Tells one file from another of the same name.
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(metadata: &std::fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn identity(_metadata: &std::fs::Metadata) -> Identity {
    (0, 0)
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn rules(path: &Path, required: bool) -> AuditRules {
        AuditRules { path: path.to_owned(), required }
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// Waits for what the writer's thread does.
    fn until(what: &str, done: impl Fn() -> bool) {
        for _ in 0..3_000 {
            if done() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{what} does not come");
    }

    #[test]
    fn lines_are_private_in_order_and_all_there_after_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        std::fs::write(&path, "{\"before\":1}\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let audit = Audit::open(&rules(&path, true)).unwrap();
        for n in 0..500 {
            audit.note("start", json!({ "n": n }));
        }
        audit.close();
        let lines = lines(&path);
        assert_eq!(lines[0]["before"], 1, "nothing is written over");
        let told: Vec<u64> = lines[1..].iter().map(|line| line["n"].as_u64().unwrap()).collect();
        assert_eq!(told, (0..500).collect::<Vec<_>>());
        assert!(lines[1..].iter().enumerate().all(|(n, line)| line["seq"] == n && line["v"] == 1));
    }

    #[test]
    fn a_new_log_is_readable_by_its_owner_only_and_others_may_not_write_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let audit = Audit::open(&rules(&path, true)).unwrap();
        audit.close();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o622)).unwrap();
        assert!(Audit::open(&rules(&path, true)).is_err());
        assert!(Audit::open(&rules(folder.path(), true)).is_err(), "a folder is no log");
        let nowhere = folder.path().join("missing").join("audit.jsonl");
        assert!(Audit::open(&rules(&nowhere, true)).is_err());
        let audit = Audit::open(&rules(&nowhere, false)).unwrap();
        assert!(audit.failing().is_some() && audit.forbids_calls().is_none());
    }

    #[test]
    fn a_log_that_was_moved_away_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("audit.jsonl"), folder.path().join("audit.1"));
        let audit = Audit::open(&rules(&path, true)).unwrap();
        audit.note("start", json!({}));
        until("the first line", || std::fs::metadata(&path).is_ok_and(|file| file.len() > 0));
        std::fs::rename(&path, &moved).unwrap();
        audit.note("stop", json!({}));
        audit.close();
        assert_eq!(lines(&moved)[0]["event"], "start");
        assert_eq!(lines(&path)[0]["event"], "stop");
    }

    #[test]
    fn what_a_full_disk_takes_away_is_told_and_no_calls_are_taken_meanwhile() {
        // A device on which every write fails as on a full disk.
        let full = Path::new("/dev/full");
        let mut writer = Writer {
            path: full.to_owned(),
            log: Some(Log {
                file: OpenOptions::new().write(true).open(full).unwrap(),
                identity: identity(&std::fs::metadata(full).unwrap()),
            }),
            state: Arc::default(),
            run: String::new(),
            sequence: 0,
            cut: false,
            unsynced: false,
            synced_at: Instant::now(),
        };
        let line = |event| Line { unix_ms: 1, event, fields: json!({}) };
        writer.take(&line("start"));
        writer.take(&line("stop"));
        assert!(writer.state.failing.load(Ordering::Relaxed));
        assert_eq!(writer.state.lost.load(Ordering::Relaxed), 2);
        // Room again, under another name as after a rotation.
        let folder = tempfile::tempdir().unwrap();
        writer.path = folder.path().join("audit.jsonl");
        writer.recover();
        writer.take(&line("start"));
        let lines = lines(&writer.path);
        assert_eq!((&lines[0]["event"], &lines[0]["lines"]), (&json!("lost"), &json!(2)));
        assert_eq!(lines[1]["event"], "start");
        assert!(!writer.state.failing.load(Ordering::Relaxed));
    }

    #[test]
    fn a_queue_that_overflows_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let audit = Audit::open(&rules(&path, true)).unwrap();
        let shared = audit.0.as_ref().unwrap();
        // Nobody takes lines any more: as a disk that hangs.
        let (queue, waiting) = sync_channel(1);
        let before = shared.queue.lock().unwrap().replace(queue);
        audit.note("start", json!({}));
        assert!(audit.forbids_calls().is_none());
        audit.note("start", json!({}));
        audit.note("start", json!({}));
        assert!(audit.forbids_calls().is_some());
        drop(waiting);
        *shared.queue.lock().unwrap() = before;
        until("the loss", || audit.failing().is_none());
        audit.close();
        assert_eq!(lines(&path)[0]["lines"], 2);
    }

    #[test]
    fn a_refusal_that_comes_again_and_again_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let audit = Audit::open(&rules(&path, true)).unwrap();
        for _ in 0..100 {
            audit.refused(&Refusal::new("ports.outgoing", "connections to port 1"));
        }
        audit.refused(&Refusal::new("ports.outgoing", "connections to port 2"));
        audit.close();
        let lines = lines(&path);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(lines[0]["key"], "ports.outgoing");
    }
}
