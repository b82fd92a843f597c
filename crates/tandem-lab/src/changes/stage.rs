//! The lab of one scenario: six supernodes, Alice at home, Bob at home, another network that Alice can go to.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tandem_api::CallPath;

use super::{Options, Scenario};
use crate::call::{Call, CallOutcome, CallPlan};
use crate::cast::Cast;
use crate::lab::{Host, Lab, Router};
use crate::plan::{HomePlan, Nat, Plan};
use crate::process::{Ground, NodePlan, Process};
use crate::wire::{Conditions, Link};

const SERVERS: usize = 6;
/// One way, on every home's access line.
const DELAY: Duration = Duration::from_millis(10);
/// A call has had time enough to find its path before; this is for a busy machine.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

/// A call that goes on in a lab. The order of fields is the order of their end.
pub(crate) struct Stage {
    call: Option<Call>,
    cast: Cast,
    ground: Ground,
    lab: Lab,
    speech: PathBuf,
    record: PathBuf,
}

impl Stage {
    pub(crate) fn build(scenario: &Scenario, options: &Options) -> Result<Self> {
        let line = Conditions::delayed(DELAY);
        let home = |name: &str, nat: Nat| HomePlan::new(name, nat).line(line);
        let plan = Plan::with_servers(SERVERS, None)
            .home(home("alice", scenario.networks[0]))
            .home(home("bob", scenario.networks[1]))
            .home(home("cafe", Nat::PortRestricted));
        let lab = Lab::build(&plan)?;
        let folder = options.out.join(scenario.name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        let ground = Ground::new(&options.binary, &folder)?.log(&options.log);
        let bobs = ["--redundancy", scenario.redundancy];
        let cast = Cast::start(&lab, &ground, SERVERS, &options.speech, &bobs)?;
        let speech = options.speech.join("alice.wav").canonicalize()?;
        let record = ground.folder().join("alice-heard.wav");
        Ok(Self { call: None, cast, ground, lab, speech, record })
    }

    /// Alice calls Bob, up to the first sound.
    pub(crate) fn call(&mut self, scenario: &Scenario) -> Result<()> {
        let plan = CallPlan {
            whom: "Bob".to_owned(),
            play: self.speech.clone(),
            record: self.record.clone(),
            length: scenario.length,
            more: vec!["--redundancy".to_owned(), scenario.redundancy.to_owned()],
        };
        let mut call = Call::begin(&self.cast.alice, &plan)?;
        call.connected()?;
        self.call = Some(call);
        Ok(())
    }

    /// Time passes; the call must not end meanwhile.
    pub(crate) fn let_pass(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        let call = self.call.as_mut().context("nobody calls")?;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            call.next(left)?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<CallOutcome> {
        let call = self.call.take().context("nobody calls")?;
        call.finish(&self.cast.alice, &self.cast.bob)
    }

    pub(crate) fn alice_host(&self) -> Result<&Host> {
        self.lab.host("alice-host")
    }

    pub(crate) fn alice_line(&self) -> Result<&Link> {
        self.lab.link("alice")
    }

    pub(crate) fn alice_router(&self) -> Result<&Router> {
        self.lab.nat("alice")
    }

    pub(crate) fn bob_hangs_up(&self) -> Result<()> {
        let calls: Vec<tandem_api::CallSummary> = self.cast.bob.get("/api/calls")?;
        let call = calls.iter().find(|call| call.ended_unix_ms.is_none()).context("Bob is in no call")?;
        let path = format!("/api/calls/{}/hangup", call.call);
        self.cast.bob.post::<serde_json::Value>(&path, &serde_json::json!({})).map(drop)
    }

    pub(crate) fn alice(&self) -> &Process {
        &self.cast.alice
    }

    /// The network carries nothing between the two homes any more, whatever it carries to supernodes.
    pub(crate) fn cut_direct(&self) -> Result<()> {
        let outside = |home: &str, host: &str| -> Result<std::net::IpAddr> {
            let router = self.lab.nat(home)?;
            let own = || self.lab.host(host).ok().and_then(Host::v4);
            let behind = router.outside().filter(|_| own().is_some_and(|ip| ip.is_private()));
            behind.or_else(own).map(Into::into).context("no IPv4 address")
        };
        self.lab.cut(outside("alice", "alice-host")?, outside("bob", "bob-host")?)
    }

    /// Waits until the call has come to the path that it is to be disturbed on.
    pub(crate) fn settle(&mut self, wanted: CallPath) -> Result<()> {
        let until = Instant::now() + SETTLED_WITHIN;
        loop {
            let path = self.call.as_ref().context("nobody calls")?.now(&self.cast.alice)?.result.path;
            if path == Some(wanted) {
                return Ok(());
            }
            ensure!(Instant::now() < until, "the call's path is {path:?} instead of {wanted:?}");
            self.let_pass(Duration::from_millis(100))?;
        }
    }

    /// Kills the oldest supernode and starts a new one, of another key, in its place.
    pub(crate) fn replace_oldest_server(&mut self) -> Result<()> {
        let (name, server) = self.cast.servers.pop_front().context("no supernode is left")?;
        server.signal(Signal::SIGKILL)?;
        drop(server);
        let bootstrap: Vec<String> = self
            .cast
            .servers
            .iter()
            .filter_map(|(_, server)| server.ready().listen.first().cloned())
            .collect();
        let fresh = self.ground.start(self.lab.host(&name)?, &NodePlan::server(&bootstrap))?;
        ensure!(!fresh.service_id().is_empty(), "the new supernode has no key");
        self.cast.servers.push_back((name, fresh));
        Ok(())
    }
}
