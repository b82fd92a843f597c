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
/// A node that was told to end drains 10 s at most (docs/OPERATING.md).
const DRAINED_WITHIN: Duration = Duration::from_secs(12);
/// STUN and TURN over UDP pass, nothing else comes in or leaves.
const ONLY_RELAY: &str = "table inet directory {
chain input { type filter hook input priority 0; policy accept;
iifname lo accept
udp dport 4002 accept
meta l4proto { tcp, udp } drop
}
chain output { type filter hook output priority 0; policy accept;
oifname lo accept
udp sport 4002 accept
meta l4proto { tcp, udp } drop
}
}
";

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

    /// Tells the supernode whose relay the call uses first to end, and waits until it has ended by itself.
    pub(crate) fn drain_relay_in_use(&mut self) -> Result<()> {
        let now = self.call.as_ref().context("nobody calls")?.now(&self.cast.alice)?;
        let relay = now.relays_in_use.first().cloned().context("the call uses no relay")?;
        let at = self.cast.servers.iter().position(|(_, server)| server.service_id() == relay);
        let at = at.with_context(|| format!("the relay in use is none of the lab's supernodes: {relay}"))?;
        let (name, mut server) = self.cast.servers.remove(at).context("it was there")?;
        server.signal(Signal::SIGTERM)?;
        let began = Instant::now();
        loop {
            match server.ended()? {
                Some(true) => return Ok(()),
                Some(false) => anyhow::bail!(
                    "{name} failed when it was told to end; its log: {}",
                    server.log().display()
                ),
                None => {}
            }
            ensure!(
                began.elapsed() < DRAINED_WITHIN,
                "{name} did not end within {} s",
                DRAINED_WITHIN.as_secs()
            );
            self.let_pass(Duration::from_millis(100))?;
        }
    }

    /// Every supernode dies in the same moment.
    pub(crate) fn kill_servers(&mut self) -> Result<()> {
        for (_, server) in &self.cast.servers {
            server.signal(Signal::SIGKILL)?;
        }
        self.cast.servers.clear();
        Ok(())
    }

    /// Every supernode is silent from now on, but for the port of its relay.
    pub(crate) fn silence_directory(&self) -> Result<()> {
        for (name, _) in &self.cast.servers {
            self.lab.host(name)?.namespace().nft(ONLY_RELAY)?;
        }
        Ok(())
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
