//! The demo's processes: five supernodes and two people, each the real binary with a data folder of its own.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tandem_api::Ready;

const READY_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(12);

/// One process of the demo. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) data: PathBuf,
    pub(crate) ready: Ready,
    /// From the start of the process to its ready line.
    pub(crate) ready_after: Duration,
    process: Child,
}

/// How one process is started.
#[derive(Debug, Clone)]
pub(crate) struct NodePlan<'a> {
    pub(crate) name: &'a str,
    /// The N of its address 127.N.0.1: one network a node.
    pub(crate) network: u8,
    pub(crate) bootstrap: &'a [String],
    pub(crate) volunteer: bool,
    /// The value of `--answer`.
    pub(crate) answer: Option<String>,
    pub(crate) more: &'a [String],
}

/// Where the demo's nodes live: a folder, and a port that is free on every address.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) folder: PathBuf,
    binary: PathBuf,
    port: u16,
}

impl Ground {
    /// # Errors
    /// When no folder can be made or no port is free on all the addresses.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        let binary = std::env::current_exe().context("cannot find this program's own file")?;
        let port = (0..200).map(|i| 4001 + i * 10).find(|port| free_everywhere(*port));
        let port =
            port.context("no UDP and TCP port from 4001 to 5991 is free on 127.1.0.1 and its neighbours")?;
        Ok(Self { folder, binary, port })
    }

    /// Starts a node and waits for its ready line.
    ///
    /// # Errors
    /// When it does not start or is not ready in time; the message says where its log is.
    pub(crate) fn start(&self, plan: &NodePlan<'_>) -> Result<Node> {
        let data = self.folder.join(plan.name.to_lowercase().replace(' ', "-"));
        if data.exists() {
            std::fs::remove_dir_all(&data).with_context(|| format!("cannot empty {}", data.display()))?;
        }
        std::fs::create_dir_all(&data)?;
        let log = self.folder.join(format!("{}.log", plan.name.to_lowercase().replace(' ', "-")));
        let mut command = Command::new(&self.binary);
        command.arg("up").arg("--json").arg("--data").arg(&data);
        command.arg("--listen").arg(format!("{}:{}", address(plan.network), self.port));
        command.arg("--api").arg(format!("127.0.0.1:{}", free_api_port()?));
        for multiaddr in plan.bootstrap {
            command.arg("--bootstrap").arg(multiaddr);
        }
        if plan.volunteer {
            command.args(["--volunteer", "directory,relay", "--accept-terms", "1"]);
        }
        if let Some(answer) = &plan.answer {
            command.arg("--answer").arg(answer);
        }
        command.args(plan.more);
        spawn(plan.name, &data, &log, command)
    }

    /// Runs the binary with these arguments and gives each line of its standard output as it comes.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(crate) fn lines(&self, log: &str, arguments: &[String]) -> Result<Lines> {
        let log = std::fs::File::create(self.folder.join(log))?;
        let mut process = Command::new(&self.binary)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot start the call")?;
        let lines = line_channel(&mut process)?;
        Ok(Lines { process, lines })
    }
}

impl Node {
    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal to the process.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.process.id())?);
        kill(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Asks the process to end and waits; says whether it ended by itself in time.
    pub(crate) fn stop(mut self) -> bool {
        if self.signal(Signal::SIGTERM).is_err() {
            return false;
        }
        let until = Instant::now() + STOP_WITHIN;
        while Instant::now() < until {
            if let Ok(Some(status)) = self.process.try_wait() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// Starts a node by this command, which is `tandem up --json` with `data` as its folder, and waits for its ready line.
///
/// # Errors
/// When it does not start or is not ready in time; the message says where its log is.
pub(crate) fn spawn(name: &str, data: &Path, log: &Path, mut command: Command) -> Result<Node> {
    let begun = Instant::now();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(std::fs::File::create(log)?);
    let program = command.get_program().to_owned();
    let mut process = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    let ready = match read_ready(&mut process) {
        Ok(ready) => ready,
        Err(error) => {
            end(&mut process);
            return Err(error.context(format!("{name} did not get ready; its log: {}", log.display())));
        }
    };
    Ok(Node { name: name.to_owned(), data: data.to_owned(), ready, ready_after: begun.elapsed(), process })
}

/// The running output of one command.
#[derive(Debug)]
pub(crate) struct Lines {
    process: Child,
    lines: Receiver<String>,
}

impl Lines {
    /// The next line, or nothing within `wait`.
    ///
    /// # Errors
    /// When the output has ended.
    pub(crate) fn next(&self, wait: Duration) -> Result<Option<String>> {
        match self.lines.recv_timeout(wait) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the call's output ended"),
        }
    }

    /// Waits for the end of the command; says whether it succeeded.
    ///
    /// # Errors
    /// When the system cannot say.
    pub(crate) fn wait(mut self) -> Result<bool> {
        Ok(self.process.wait()?.success())
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// The address of network N.
pub(crate) fn address(network: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, network, 0, 1)
}

fn end(process: &mut Child) {
    // Both fail only when it has ended already.
    drop(process.kill());
    drop(process.wait());
}

fn read_ready(process: &mut Child) -> Result<Ready> {
    let lines = line_channel(process)?;
    let line = lines.recv_timeout(READY_WITHIN).map_err(|error| match error {
        RecvTimeoutError::Timeout => anyhow::anyhow!("no ready line within {} s", READY_WITHIN.as_secs()),
        RecvTimeoutError::Disconnected => anyhow::anyhow!("it ended before it was ready"),
    })?;
    let ready: Ready = serde_json::from_str(&line).with_context(|| format!("not a ready line: {line}"))?;
    ensure!(ready.ready, "the ready line says false");
    Ok(ready)
}

fn line_channel(process: &mut Child) -> Result<Receiver<String>> {
    let output = process.stdout.take().context("no standard output")?;
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                // Nobody listens any more; go on reading so that the process does not block.
            }
        }
    });
    Ok(lines)
}

fn free_everywhere(port: u16) -> bool {
    (1..=20).all(|network| {
        let ip = address(network);
        UdpSocket::bind((ip, port)).is_ok()
            && UdpSocket::bind((ip, port + 1)).is_ok()
            && TcpListener::bind((ip, port)).is_ok()
    })
}

/// A port of 127.0.0.1 that was free a moment ago.
///
/// # Errors
/// When there is none.
pub(crate) fn free_api_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port for the local API")?;
    Ok(listener.local_addr()?.port())
}
