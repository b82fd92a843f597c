//! The lab of one scenario: six supernodes, Alice at home, Bob at home, another network that Alice can go to.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tandem_api::CallPath;

use super::{Options, Scenario};
use crate::call::{Call, CallOutcome, CallPlan};
use crate::lab::{Host, Lab, Router};
use crate::plan::{HomePlan, Nat, Plan};
use crate::process::{Ground, NodePlan, Process};
use crate::wire::{Conditions, Link};

const SERVERS: usize = 6;
/// One way, on every home's access line.
const DELAY: Duration = Duration::from_millis(10);
const HOMES_WITHIN: Duration = Duration::from_secs(20);

/// A call that goes on in a lab. The order of fields is the order of their end.
pub(crate) struct Stage {
    call: Option<Call>,
    alice: Process,
    bob: Process,
    /// Running supernodes, the oldest first, with their hosts' names.
    servers: VecDeque<(String, Process)>,
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
        let mut servers = VecDeque::new();
        let mut bootstrap: Vec<String> = Vec::new();
        for n in 1..=SERVERS {
            let name = format!("s{n}");
            let server = ground.start(lab.host(&name)?, &NodePlan::server(&bootstrap))?;
            if bootstrap.len() < 4 {
                bootstrap.extend(server.ready().listen.first().cloned());
            }
            servers.push_back((name, server));
        }
        let answer = format!("wav:{}", options.speech.join("bob.wav").canonicalize()?.display());
        let mut bob = NodePlan::person(&bootstrap, &answer);
        bob.more = vec!["--redundancy".to_owned(), scenario.redundancy.to_owned()];
        let bob = ground.start(lab.host("bob-host")?, &bob)?;
        let alice = ground.start(lab.host("alice-host")?, &NodePlan::person(&bootstrap, "ring"))?;
        for (one, other, name) in [(&alice, &bob, "Bob"), (&bob, &alice, "Alice")] {
            one.add_contact(name, other.address())?;
            one.wait_until(HOMES_WITHIN, |status| status.reach.homes.len() >= 3)?;
        }
        let speech = options.speech.join("alice.wav").canonicalize()?;
        let record = ground.folder().join("alice-heard.wav");
        Ok(Self { call: None, alice, bob, servers, ground, lab, speech, record })
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
        let mut call = Call::begin(&self.alice, &plan)?;
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
        call.finish(&self.alice, &self.bob)
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

    pub(crate) fn alice(&self) -> &Process {
        &self.alice
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

    /// Whether sound goes straight from home to home now.
    pub(crate) fn is_direct(&self) -> Result<bool> {
        let call = self.call.as_ref().context("nobody calls")?.now(&self.alice)?;
        Ok(call.result.path == Some(CallPath::Direct))
    }

    /// Kills the oldest supernode and starts a new one, of another key, in its place.
    pub(crate) fn replace_oldest_server(&mut self) -> Result<()> {
        let (name, server) = self.servers.pop_front().context("no supernode is left")?;
        server.signal(Signal::SIGKILL)?;
        drop(server);
        let bootstrap: Vec<String> =
            self.servers.iter().filter_map(|(_, server)| server.ready().listen.first().cloned()).collect();
        let fresh = self.ground.start(self.lab.host(&name)?, &NodePlan::server(&bootstrap))?;
        ensure!(!fresh.service_id().is_empty(), "the new supernode has no key");
        self.servers.push_back((name, fresh));
        Ok(())
    }
}
