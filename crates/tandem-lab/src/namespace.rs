//! Network namespaces with names of our own, and their removal whatever happens.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getuid};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::shell;

/// Where iproute2 keeps named namespaces.
const NAMED: &str = "/run/netns";
/// How every namespace of every lab begins; the owner's process id follows.
const MARK: &str = "tandemlab-";

static LABS_OF_THIS_PROCESS: AtomicU32 = AtomicU32::new(0);
/// Prefixes that are to be removed when the process is told to end.
static ALIVE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static SIGNALS: Once = Once::new();

/// A lab's own prefix: every namespace of the lab has it, nobody else's has. Dropping it removes them all, with the
/// processes inside them. So do SIGINT and SIGTERM; and what a killed lab left, the next lab removes.
#[derive(Debug)]
pub(crate) struct Prefix(String);

impl Prefix {
    /// # Errors
    /// Without root.
    pub(crate) fn claim() -> Result<Self> {
        ensure!(can_make_namespaces(), "{}", why_not());
        remove_orphans();
        let number = LABS_OF_THIS_PROCESS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{MARK}{}-{number}-", std::process::id());
        with_alive(|alive| alive.insert(prefix.clone()));
        SIGNALS.call_once(remove_on_signals);
        Ok(Self(prefix))
    }

    pub(crate) fn namespace(&self, node: &str) -> Namespace {
        Namespace { name: format!("{}{node}", self.0) }
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        remove(&self.0);
        with_alive(|alive| alive.remove(&self.0));
    }
}

/// One network namespace, made and removed through its [`Prefix`].
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// As `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs something inside, on a thread of its own; sockets and files made there stay what they are.
    ///
    /// # Errors
    /// When the namespace is gone.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> Result<T> {
        let door = File::open(Path::new(NAMED).join(&self.name))
            .with_context(|| format!("the namespace {} is gone", self.name))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(door, CloneFlags::CLONE_NEWNET).context("cannot enter the namespace")?;
                Ok(inside())
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A command that runs `program` inside; the process has the program's own id.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Writes kernel settings, named as below `/proc/sys/net`; one that this kernel has not is left out.
    pub(crate) fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.enter(|| {
            for (name, value) in settings {
                let path = Path::new("/proc/sys/net").join(name);
                if path.exists() {
                    std::fs::write(&path, value)
                        .with_context(|| format!("cannot write {}", path.display()))?;
                }
            }
            Ok(())
        })?
    }

    pub(crate) fn ip(&self, lines: &[String]) -> Result<()> {
        shell::ip(Some(&self.name), lines)
    }

    pub(crate) fn nft(&self, rules: &str) -> Result<()> {
        shell::run("ip", &["netns", "exec", &self.name, "nft", "-f", "-"], rules)
            .map(drop)
            .with_context(|| format!("packet rules of {}", self.name))
    }
}

/// Can this process make network namespaces?
pub fn can_make_namespaces() -> bool {
    getuid().is_root() && shell::run("ip", &["netns", "list"], "").is_ok() && may_unshare()
}

/// Why not, and what to do.
pub fn why_not() -> String {
    if !getuid().is_root() {
        return "The lab makes network namespaces, and only root may. Run: sudo ./x lab".into();
    }
    "This machine lets nobody make network namespaces (a container without CAP_SYS_ADMIN?). Run the lab on a machine \
     or in a virtual machine where `ip netns add` works."
        .into()
}

fn may_unshare() -> bool {
    let tried = std::thread::spawn(|| nix::sched::unshare(CloneFlags::CLONE_NEWNET).is_ok()).join();
    tried.unwrap_or(false)
}

fn with_alive<T>(change: impl FnOnce(&mut BTreeSet<String>) -> T) -> T {
    change(&mut ALIVE.lock().unwrap_or_else(PoisonError::into_inner))
}

fn remove_on_signals() {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else { return };
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let prefixes = with_alive(std::mem::take);
            for prefix in &prefixes {
                remove(prefix);
            }
            std::process::exit(128 + signal);
        }
    });
}

/// Removes what labs left whose process is gone.
fn remove_orphans() {
    let mut prefixes = BTreeSet::new();
    for name in named_with(MARK) {
        let mut parts = name.splitn(4, '-');
        let (Some(_), Some(owner), Some(number)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if !Path::new("/proc").join(owner).exists() {
            prefixes.insert(format!("{MARK}{owner}-{number}-"));
        }
    }
    for prefix in &prefixes {
        remove(prefix);
    }
}

fn named_with(prefix: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(NAMED) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// Ends all that runs inside the namespaces of this prefix, and removes them.
fn remove(prefix: &str) {
    let names = named_with(prefix);
    for name in &names {
        // Fails when the namespace is gone already; then nothing runs inside.
        let pids = shell::run("ip", &["netns", "pids", name], "").unwrap_or_default();
        for pid in pids.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            // Our own threads enter namespaces for a moment; the process itself lives outside.
            if pid != std::process::id().cast_signed() {
                kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
        }
    }
    let lines: Vec<String> = names.iter().map(|name| format!("netns delete {name}")).collect();
    // `-force` goes on after a failure: a namespace that went meanwhile must not keep the others.
    shell::run("ip", &["-force", "-batch", "-"], &(lines.join("\n") + "\n")).ok();
}
