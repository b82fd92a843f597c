//! One `tandem up` on a host of the lab, and the way to its local API.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tandem_api::{InvitationMade, NewContact, NewInvitation, Ready, Status};

use crate::lab::Host;
use crate::namespace::Namespace;

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(12);
const ANSWER_WITHIN: Duration = Duration::from_secs(35);
/// Every host has a loopback of its own, so all may take the same port.
const API: &str = "127.0.0.1:7710";
/// Where servers listen, and for TCP from networks that let nothing else out.
const SERVICE_PORT: u16 = 4001;
const WEB_PORT: u16 = 443;

/// The program under test, and where its nodes keep their folders and logs.
#[derive(Debug, Clone)]
pub struct Ground {
    binary: PathBuf,
    folder: PathBuf,
    log: String,
}

impl Ground {
    /// # Errors
    /// When the program is not there or the folder cannot be made.
    pub fn new(binary: &Path, folder: &Path) -> Result<Self> {
        let binary = binary.canonicalize().with_context(|| {
            format!("there is no program {} (build it: cargo build --release -p tandem)", binary.display())
        })?;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        Ok(Self { binary, folder, log: "info".to_owned() })
    }

    /// With this log filter, for example `tandem_node=debug,info`.
    #[must_use]
    pub fn log(mut self, filter: &str) -> Self {
        self.log = filter.to_owned();
        self
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Starts a node on a host without waiting for it: [`Starting::ready`] does.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn begin(&self, host: &Host, plan: &NodePlan) -> Result<Starting> {
        let data = self.folder.join(host.name());
        if plan.fresh && data.exists() {
            std::fs::remove_dir_all(&data).with_context(|| format!("cannot empty {}", data.display()))?;
        }
        std::fs::create_dir_all(&data)?;
        let log = self.folder.join(format!("{}.log", host.name()));
        let mut command = plan.command(host, &self.binary);
        command.args(["up", "--json", "--api", API, "--log", &self.log, "--data"]).arg(&data);
        for address in &plan.bootstrap {
            command.args(["--bootstrap", address]);
        }
        if plan.server {
            serve(&mut command, host)?;
        }
        if let Some(answer) = &plan.answer {
            command.args(["--answer", answer]);
        }
        command.args(&plan.more);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(std::fs::File::create(&log)?);
        let begun = Instant::now();
        let mut child = command.spawn().context("cannot run ip netns exec")?;
        let lines = lines_of(&mut child)?;
        let namespace = host.namespace().clone();
        let process = Process {
            name: host.name().to_owned(),
            namespace,
            binary: self.binary.clone(),
            data,
            log,
            ready: no_ready(),
            ready_after: Duration::ZERO,
            child,
        };
        Ok(Starting { process, lines, begun })
    }

    /// Starts a node and waits for its ready line.
    ///
    /// # Errors
    /// When it does not start or is not ready in time; the message says where its log is.
    pub fn start(&self, host: &Host, plan: &NodePlan) -> Result<Process> {
        self.begin(host, plan)?.ready()
    }
}

/// How one node is started.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// Full multiaddrs of supernodes.
    pub bootstrap: Vec<String>,
    /// Serve others, at the host's addresses.
    pub server: bool,
    /// The value of `--answer`: `echo`, `wav:FILE`, `ring`.
    pub answer: Option<String>,
    /// Further arguments of `tandem up`.
    pub more: Vec<String>,
    /// Begin with an empty data folder; otherwise go on with what an earlier start left.
    pub fresh: bool,
    /// Variables of the process.
    pub environment: Vec<(String, String)>,
    /// What the machine is called there; `None`: like the one that runs the lab.
    pub host_name: Option<String>,
}

impl NodePlan {
    /// A supernode, with both roles.
    pub fn server(bootstrap: &[String]) -> Self {
        Self {
            bootstrap: bootstrap.to_vec(),
            server: true,
            answer: None,
            more: Vec::new(),
            fresh: true,
            environment: Vec::new(),
            host_name: None,
        }
    }

    /// A person's node that answers calls by this rule.
    pub fn person(bootstrap: &[String], answer: &str) -> Self {
        Self { server: false, answer: Some(answer.to_owned()), ..Self::server(bootstrap) }
    }
}

impl NodePlan {
    /// A command that runs the program on that host. Its process has the program's own id.
    fn command(&self, host: &Host, binary: &Path) -> Command {
        let mut command = match &self.host_name {
            None => host.command(binary),
            Some(name) => {
                let rename = "echo \"$0\" >/proc/sys/kernel/hostname && exec \"$@\"";
                let mut command = host.command(Path::new("unshare"));
                command.args(["--uts", "sh", "-c", rename, name]).arg(binary);
                command
            }
        };
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// A server listens at each of its addresses, and for TCP at port 443 too.
fn serve(command: &mut Command, host: &Host) -> Result<()> {
    let addresses = host.addresses();
    ensure!(!addresses.is_empty(), "{} has no address", host.name());
    let at = |ip: &IpAddr, port| SocketAddr::new(*ip, port).to_string();
    for ip in &addresses {
        command.args(["--listen", &at(ip, SERVICE_PORT), "--listen-tcp", &at(ip, WEB_PORT)]);
    }
    command.args(["--volunteer", "directory,relay", "--accept-terms", "1"]);
    Ok(())
}

/// A node that has been started and is not yet reachable.
#[derive(Debug)]
pub struct Starting {
    process: Process,
    lines: Receiver<Line>,
    begun: Instant,
}

impl Starting {
    /// Waits for its ready line.
    ///
    /// # Errors
    /// When it ends or is not ready in time; the message says where its log is.
    pub fn ready(self) -> Result<Process> {
        self.ready_within(READY_WITHIN)
    }

    /// As [`Starting::ready`], with another patience.
    ///
    /// # Errors
    /// As there.
    pub fn ready_within(self, patience: Duration) -> Result<Process> {
        let left = patience.saturating_sub(self.begun.elapsed());
        self.ready_from_now(left)
    }

    /// As [`Starting::ready`], with a patience that begins now.
    ///
    /// # Errors
    /// As there.
    pub fn ready_from_now(self, patience: Duration) -> Result<Process> {
        let Self { mut process, lines, begun } = self;
        let line = match lines.recv_timeout(patience) {
            Ok(line) => line,
            Err(error) => {
                let what = match error {
                    RecvTimeoutError::Timeout => {
                        format!("was not reachable within {:.1} s", begun.elapsed().as_secs_f64())
                    }
                    RecvTimeoutError::Disconnected => "ended before others could reach it".to_owned(),
                };
                bail!("{} {what}; its log: {}", process.name, process.log.display());
            }
        };
        process.ready =
            serde_json::from_str(&line.text).with_context(|| format!("not a ready line: {}", line.text))?;
        process.ready_after = line.at - begun;
        Ok(process)
    }
}

/// One running node. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    namespace: Namespace,
    binary: PathBuf,
    data: PathBuf,
    log: PathBuf,
    ready: Ready,
    ready_after: Duration,
    child: Child,
}

impl Process {
    /// Of the host it runs on.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// What it wrote to its standard error.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The account's address.
    pub fn address(&self) -> &str {
        &self.ready.address
    }

    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// From the start of the process to its ready line.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Peer id of its supernode; empty for a leaf.
    pub fn service_id(&self) -> &str {
        self.ready.listen.first().and_then(|text| text.rsplit('/').next()).unwrap_or_default()
    }

    /// A command line of the same program, on the same host and data folder: `["call", "Bob"]`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.namespace.command(&self.binary);
        command.args(arguments).arg("--data").arg(&self.data);
        command
    }

    /// # Errors
    /// When the node does not answer, or refuses.
    pub fn get<T: DeserializeOwned + Send>(&self, path: &str) -> Result<T> {
        self.ask(path, |agent, url, bearer| agent.get(url).header("authorization", bearer).call())
    }

    /// # Errors
    /// When the node does not answer, or refuses.
    pub fn post<T: DeserializeOwned + Send>(&self, path: &str, body: &(impl Serialize + Sync)) -> Result<T> {
        self.ask(path, |agent, url, bearer| agent.post(url).header("authorization", bearer).send_json(body))
    }

    /// # Errors
    /// When the node does not answer.
    pub fn status(&self) -> Result<Status> {
        self.get("/api/status")
    }

    /// Makes this account a contact under this name.
    ///
    /// # Errors
    /// When the node refuses.
    pub fn add_contact(&self, name: &str, address: &str) -> Result<()> {
        let contact = NewContact { address: address.to_owned(), name: name.to_owned(), note: String::new() };
        self.post::<serde_json::Value>("/api/contacts", &contact).map(drop)
    }

    /// What a stranger calls to ring here: a link with an invitation for one account.
    ///
    /// # Errors
    /// When the node does not answer, or refuses.
    pub fn invitation(&self) -> Result<String> {
        let made: InvitationMade = self.post("/api/invitations", &NewInvitation::default())?;
        Ok(made.link)
    }

    /// Waits until the node's status is as wanted.
    ///
    /// # Errors
    /// When it is not, in that time; the message has the last status.
    pub fn wait_until(&self, patience: Duration, wanted: impl Fn(&Status) -> bool) -> Result<Status> {
        let until = Instant::now() + patience;
        loop {
            let status = self.status()?;
            if wanted(&status) {
                return Ok(status);
            }
            if Instant::now() > until {
                let seen = serde_json::to_string(&status)?;
                bail!("{}: not so within {} s: {seen}", self.name, patience.as_secs());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends a signal: SIGKILL for a crash, SIGSTOP for a machine that hangs.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Whether it has ended, and then whether with success.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn ended(&mut self) -> Result<Option<bool>> {
        let status = self.child.try_wait().with_context(|| format!("cannot ask for {}", self.name))?;
        Ok(status.map(|status| status.success()))
    }

    /// Asks it to end and waits; says whether it ended by itself in time.
    pub fn stop(mut self) -> bool {
        if self.signal(Signal::SIGTERM).is_err() {
            return false;
        }
        let until = Instant::now() + STOP_WITHIN;
        while Instant::now() < until {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn ask<T: DeserializeOwned + Send>(
        &self,
        path: &str,
        send: impl FnOnce(&ureq::Agent, &str, &str) -> Result<ureq::http::Response<ureq::Body>, ureq::Error>
        + Send,
    ) -> Result<T> {
        let info: ApiInfo = serde_json::from_slice(
            &std::fs::read(self.data.join("api.json"))
                .with_context(|| format!("{} does not run", self.name))?,
        )?;
        let url = format!("http://{}{path}", info.address);
        let bearer = format!("Bearer {}", info.token);
        // The connection is made inside, where the node's loopback is.
        let answer = self.namespace.enter(|| -> Result<T> {
            let mut response = send(&agent(), &url, &bearer)?;
            let status = response.status();
            let text = response.body_mut().read_to_string()?;
            ensure!(status.is_success(), "{status}: {text}");
            Ok(serde_json::from_str(&text)?)
        })?;
        answer.with_context(|| format!("{}: {path}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// The part of a data folder's `api.json` that is needed.
#[derive(Deserialize)]
struct ApiInfo {
    address: SocketAddr,
    token: String,
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(ANSWER_WITHIN))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .build();
    config.new_agent()
}

pub(crate) fn end(child: &mut Child) {
    // Both fail only when it has ended already.
    child.kill().ok();
    child.wait().ok();
}

/// One line of a program's output, and when it came.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) at: Instant,
    pub(crate) text: String,
}

/// The lines of a child's standard output, as they come. A line that nobody takes is read all the same.
pub(crate) fn lines_of(child: &mut Child) -> Result<Receiver<Line>> {
    let output = child.stdout.take().context("no standard output")?;
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let mut wanted = true;
        for text in BufReader::new(output).lines().map_while(Result::ok) {
            wanted = wanted && sender.send(Line { at: Instant::now(), text }).is_ok();
        }
    });
    Ok(lines)
}

fn no_ready() -> Ready {
    Ready {
        ready: false,
        address: String::new(),
        device: String::new(),
        listen: Vec::new(),
        homes: Vec::new(),
    }
}
