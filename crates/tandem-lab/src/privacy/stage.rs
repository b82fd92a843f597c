//! The lab of the test: six supernodes, Alice and Bob at home behind routers that would let a direct path through, and
//! for each of them another network to go to. Everything is captured everywhere.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value as Json, json};

use super::Options;
use super::capture::{Capture, Packet};
use super::needles::{Secret, Value};
use super::tap::{Heard, Tap};
use crate::call::{Call, CallOutcome, CallPlan};
use crate::lab::{Host, Lab};
use crate::plan::{Families, HomePlan, Nat, Plan};
use crate::process::{Ground, NodePlan, Process};
use crate::wire::Conditions;

const SERVERS: u8 = 6;
/// One way, on every home's access line.
const DELAY: Duration = Duration::from_millis(5);
/// High numbers make addresses that no bytes have by chance.
const HOMES_FROM: u8 = 171;
const WITHIN: Duration = Duration::from_secs(30);

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Alice,
    Bob,
}

impl Who {
    pub(super) const BOTH: [Self; 2] = [Self::Alice, Self::Bob];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Alice => "Alice",
            Self::Bob => "Bob",
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::Alice => Self::Bob,
            Self::Bob => Self::Alice,
        }
    }

    fn home(self) -> &'static str {
        match self {
            Self::Alice => "alice",
            Self::Bob => "bob",
        }
    }

    /// Where this one goes in the middle of a call.
    fn elsewhere(self) -> &'static str {
        match self {
            Self::Alice => "cafe",
            Self::Bob => "library",
        }
    }

    fn host(self) -> String {
        format!("{}-host", self.home())
    }

    /// What the machine is called.
    fn machine(self) -> &'static str {
        match self {
            Self::Alice => "wintergarden-a7",
            Self::Bob => "boathouse-b3",
        }
    }

    fn voice(self) -> String {
        format!("{}.wav", self.home())
    }
}

/// All that was captured in one place since the last time.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    pub(super) packets: Vec<Packet>,
    pub(super) heard: Vec<Heard>,
}

/// The order of fields is the order of their end.
pub(super) struct Stage {
    people: BTreeMap<Who, Process>,
    servers: BTreeMap<String, Process>,
    captures: BTreeMap<String, Capture>,
    taps: BTreeMap<String, Tap>,
    /// Own addresses, as they were found, of every network that somebody was in.
    secrets: BTreeMap<Who, Vec<Secret>>,
    bootstrap: Vec<String>,
    ground: Ground,
    lab: Lab,
    speech: PathBuf,
    calls: u32,
}

impl Stage {
    pub(super) fn build(options: &Options) -> Result<Self> {
        let line = Conditions::delayed(DELAY);
        let home = |name| HomePlan::new(name, Nat::PortRestricted).families(Families::Both).line(line);
        let mut plan = Plan::with_servers(usize::from(SERVERS), None);
        for who in Who::BOTH {
            plan = plan.home(home(who.home())).home(home(who.elsewhere()).hosts(&[]));
        }
        plan.homes_from = HOMES_FROM;
        let lab = Lab::build(&plan)?;
        if options.out.exists() {
            std::fs::remove_dir_all(&options.out)
                .with_context(|| format!("cannot empty {}", options.out.display()))?;
        }
        let ground = Ground::new(&options.binary, &options.out)?.log(
            "tandem=debug,tandem_node=debug,tandem_core=debug,tandem_media=debug,tandem_relay=debug,info",
        );
        let mut stage = Self {
            people: BTreeMap::new(),
            servers: BTreeMap::new(),
            captures: BTreeMap::new(),
            taps: BTreeMap::new(),
            secrets: BTreeMap::new(),
            bootstrap: Vec::new(),
            ground,
            lab,
            speech: options.speech.canonicalize()?,
            calls: 0,
        };
        stage.captures.insert("core".to_owned(), Capture::start(stage.lab.core())?);
        stage.start_servers()?;
        for who in Who::BOTH {
            let capture = Capture::start(stage.lab.host(&who.host())?.namespace())?;
            stage.captures.insert(who.host(), capture);
            stage.note_addresses(who, who.home())?;
        }
        stage.start(Who::Alice, "wav", true)?;
        stage.start(Who::Bob, "ring", true)?;
        Ok(stage)
    }

    fn start_servers(&mut self) -> Result<()> {
        for number in 1..=SERVERS {
            let name = format!("s{number}");
            self.captures.insert(name.clone(), Capture::start(self.lab.host(&name)?.namespace())?);
            let plan = self.tapped(&name, NodePlan::server(&self.bootstrap));
            let server = self.ground.start(self.lab.host(&name)?, &plan)?;
            self.bootstrap.extend(server.ready().listen.first().cloned().filter(|_| number <= 4));
            self.servers.insert(name, server);
        }
        Ok(())
    }

    /// A plan whose node writes down what it receives.
    fn tapped(&mut self, host: &str, mut plan: NodePlan) -> NodePlan {
        let path = self.ground.folder().join(format!("{host}.tap"));
        plan.environment.push(("TANDEM_TAP".to_owned(), path.display().to_string()));
        self.taps.entry(host.to_owned()).or_insert_with(|| Tap::new(path));
        plan
    }

    /// Starts somebody's node, which takes calls by this rule, and waits for its homes.
    pub(super) fn start(&mut self, who: Who, answer: &str, fresh: bool) -> Result<()> {
        let answer = match answer {
            "wav" => format!("wav:{}", self.speech.join(who.voice()).display()),
            other => other.to_owned(),
        };
        let mut plan = NodePlan::person(&self.bootstrap, &answer);
        // Whoever answers by itself would let everybody ring.
        plan.more = vec!["--strangers".to_owned(), "requests".to_owned()];
        (plan.host_name, plan.fresh) = (Some(who.machine().to_owned()), fresh);
        let plan = self.tapped(&who.host(), plan);
        let process = self.ground.start(self.lab.host(&who.host())?, &plan)?;
        process.wait_until(WITHIN, |status| status.reach.homes.len() >= 3)?;
        self.people.insert(who, process);
        Ok(())
    }

    /// Ends somebody's node, and starts it again with another rule.
    pub(super) fn restart(&mut self, who: Who, answer: &str) -> Result<()> {
        if let Some(process) = self.people.remove(&who) {
            ensure!(process.stop(), "{} did not stop", who.name());
        }
        self.start(who, answer, false)
    }

    /// The addresses that somebody has in this home are from now on nobody else's business.
    fn note_addresses(&mut self, who: Who, home: &str) -> Result<()> {
        let host = self.lab.host(&who.host())?;
        let outside = self.lab.nat(home)?.outside().context("a router without an address")?;
        let secrets = self.secrets.entry(who).or_default();
        if secrets.is_empty() {
            let value = Value::Name(who.machine().to_owned());
            secrets.push(Secret { what: format!("the name of {}'s machine", who.name()), value });
        }
        let at = format!("{} in the network {home}", who.name());
        secrets
            .push(Secret { what: format!("the public address of {at}"), value: Value::Ip(outside.into()) });
        for ip in host.addresses() {
            let what = if ip.is_ipv6() { "IPv6 address" } else { "private address" };
            secrets.push(Secret { what: format!("the {what} of {at}"), value: Value::Ip(ip) });
            if let IpAddr::V6(ip) = ip {
                secrets.push(Secret { what: format!("the IPv6 network of {at}"), value: Value::Network(ip) });
            }
        }
        Ok(())
    }

    /// To the other network, or back.
    pub(super) fn travel(&mut self, who: Who, home: bool) -> Result<()> {
        let to = if home { who.home() } else { who.elsewhere() };
        self.lab.host(&who.host())?.move_to(to)?;
        if home { Ok(()) } else { self.note_addresses(who, to) }
    }

    // ---- what people do --------------------------------------------------------------------------------------------

    pub(super) fn person(&self, who: Who) -> Result<&Process> {
        self.people.get(&who).with_context(|| format!("{} is not there", who.name()))
    }

    /// Begins a call; `whom` as for `tandem call`.
    pub(super) fn call(&mut self, who: Who, whom: String, length: Duration, more: &[&str]) -> Result<Call> {
        self.calls += 1;
        let record = format!("{}-heard-{}.wav", who.home(), self.calls);
        let plan = CallPlan {
            whom,
            play: self.speech.join(who.voice()),
            record: self.ground.folder().join(record),
            length,
            more: more.iter().map(|word| (*word).to_owned()).collect(),
        };
        Call::begin(self.person(who)?, &plan)
    }

    pub(super) fn finish(&self, call: Call, by: Who) -> Result<CallOutcome> {
        call.finish(self.person(by)?, self.person(by.other())?)
    }

    /// Declines what rings, once it does.
    pub(super) fn decline(&self, who: Who) -> Result<()> {
        let until = Instant::now() + WITHIN;
        loop {
            let declined: Result<Json> = self.person(who)?.post("/api/calls/current/decline", &json!({}));
            match declined {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > until => return Err(error.context("nothing rang")),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    pub(super) fn make_contacts(&self, relay_only: bool) -> Result<()> {
        for who in Who::BOTH {
            let (own, other) = (self.person(who)?, self.person(who.other())?);
            own.add_contact(who.other().name(), other.address())?;
        }
        self.set_relay_only(Who::Bob, relay_only)
    }

    pub(super) fn set_relay_only(&self, who: Who, on: bool) -> Result<()> {
        let (name, word) = (who.other().name(), if on { "--relay-only" } else { "--direct" });
        self.output(who, &["contacts", "set", name, word]).map(drop)
    }

    /// Looks at its network, which asks supernodes over both families.
    pub(super) fn examine_network(&self, who: Who) -> Result<()> {
        self.output(who, &["doctor", "network", "--json"]).map(drop)
    }

    /// Kills the supernode that carries the call now. Its name.
    pub(super) fn kill_relay_of(&mut self, call: &Call, by: Who) -> Result<String> {
        let now = call.now(self.person(by)?)?;
        let used = now.relays_in_use.first().context("the call runs over no relay")?;
        let named = self.servers.iter().find(|(_, server)| server.service_id() == used);
        let name = named.context("an unknown relay")?.0.clone();
        if let Some(server) = self.servers.remove(&name) {
            server.signal(Signal::SIGKILL)?;
        }
        Ok(name)
    }

    // ---- what there is to search -----------------------------------------------------------------------------------

    pub(super) fn secrets(&self, who: Who) -> &[Secret] {
        self.secrets.get(&who).map(Vec::as_slice).unwrap_or_default()
    }

    /// What somebody's machine saw and heard since the last time.
    pub(super) fn evidence(&mut self, who: Who) -> Result<Evidence> {
        self.evidence_of(&who.host())
    }

    pub(super) fn evidence_of(&mut self, host: &str) -> Result<Evidence> {
        let packets = self.captures.get(host).context("no capture")?.take()?;
        let heard = self.taps.get_mut(host).map(Tap::take).transpose()?.unwrap_or_default();
        Ok(Evidence { packets, heard })
    }

    /// Packets in the middle of the network.
    pub(super) fn core(&self) -> Result<Vec<Packet>> {
        self.captures.get("core").context("no capture")?.take()
    }

    /// Names of the supernodes' hosts, those that were killed too, and their addresses.
    pub(super) fn server_hosts(&self) -> Result<Vec<(String, Vec<IpAddr>)>> {
        let addresses = |name: &String| self.lab.host(name).map(Host::addresses);
        let names = (1..=SERVERS).map(|number| format!("s{number}"));
        names.map(|name| addresses(&name).map(|addresses| (name, addresses))).collect()
    }

    /// What somebody's program shows: each command's output, the bundle, and all files that it keeps, logs among them.
    pub(super) fn shown(&self, who: Who) -> Result<Vec<(String, Vec<u8>)>> {
        let mut shown = self.said(who)?;
        let process = self.person(who)?;
        shown.push(("its log".to_owned(), std::fs::read(process.log())?));
        files(process.data(), &mut shown)?;
        Ok(shown)
    }

    fn said(&self, who: Who) -> Result<Vec<(String, Vec<u8>)>> {
        let bundle = self.ground.folder().join(format!("{}.bundle.tar", who.home()));
        let bundle_path = bundle.to_str().context("a path that is text")?;
        let mut said = Vec::new();
        for words in [
            &["status"][..],
            &["calls"],
            &["calls", "--json"],
            &["connections"],
            &["connections", "--json"],
            &["contacts", "--json"],
            &["requests", "--json"],
            &["doctor", "network", "--json"],
            &["bundle", "--out", bundle_path],
        ] {
            said.push((format!("tandem {}", words.join(" ")), self.output(who, words)?));
        }
        said.push(("the bundle".to_owned(), std::fs::read(&bundle)?));
        let calls: Vec<Json> = self.person(who)?.get("/api/calls")?;
        for call in calls.iter().filter_map(|call| call["call"].as_str()) {
            for words in [
                &["calls", call, "--why"][..],
                &["calls", call, "--why", "--json"],
                &["calls", call, "--json"],
            ] {
                said.push((format!("tandem {}", words.join(" ")), self.output(who, words)?));
            }
        }
        Ok(said)
    }

    fn output(&self, who: Who, words: &[&str]) -> Result<Vec<u8>> {
        let output = self.person(who)?.command(words).stdin(Stdio::null()).output()?;
        ensure!(
            output.status.success(),
            "{}: tandem {}: {}",
            who.name(),
            words.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok([output.stdout, output.stderr].concat())
    }
}

/// Every file below a folder. Of sound only the header is looked at.
fn files(folder: &Path, into: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    const WAV_HEADER_BYTES: usize = 256;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, into)?;
            continue;
        }
        let mut bytes = std::fs::read(&path)?;
        if path.extension().is_some_and(|extension| extension == "wav") {
            bytes.truncate(WAV_HEADER_BYTES);
        }
        into.push((path.display().to_string(), bytes));
    }
    Ok(())
}
