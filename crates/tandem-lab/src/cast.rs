//! Who takes part in a scenario: supernodes, Alice, who calls, and Bob, who answers by himself.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::lab::Lab;
use crate::process::{Ground, NodePlan, Process};

const HOMES_WITHIN: Duration = Duration::from_secs(20);
/// Supernodes that people begin from.
const BOOTSTRAP: usize = 4;

/// All are running, have their homes, and Alice and Bob are contacts of each other. The order of fields is the order of
/// their end.
pub(crate) struct Cast {
    pub(crate) alice: Process,
    pub(crate) bob: Process,
    /// The oldest first, with their hosts' names.
    pub(crate) servers: VecDeque<(String, Process)>,
}

impl Cast {
    /// Starts supernodes on the hosts `s1` to `sN`, Alice on `alice-host`, Bob on `bob-host` with these arguments more.
    /// Bob plays `bob.wav` of the folder `speech`.
    pub(crate) fn start(
        lab: &Lab,
        ground: &Ground,
        servers: usize,
        speech: &Path,
        bobs: &[&str],
    ) -> Result<Self> {
        let mut running = VecDeque::new();
        let mut bootstrap: Vec<String> = Vec::new();
        for n in 1..=servers {
            let name = format!("s{n}");
            let server = ground.start(lab.host(&name)?, &NodePlan::server(&bootstrap))?;
            if bootstrap.len() < BOOTSTRAP {
                bootstrap.extend(server.ready().listen.first().cloned());
            }
            running.push_back((name, server));
        }
        let answer = format!("wav:{}", speech.join("bob.wav").canonicalize()?.display());
        let mut bob = NodePlan::person(&bootstrap, &answer);
        bob.more = bobs.iter().map(|&argument| argument.to_owned()).collect();
        let bob = ground.start(lab.host("bob-host")?, &bob)?;
        let alice = ground.start(lab.host("alice-host")?, &NodePlan::person(&bootstrap, "ring"))?;
        for (one, other, name) in [(&alice, &bob, "Bob"), (&bob, &alice, "Alice")] {
            one.add_contact(name, other.address())?;
            one.wait_until(HOMES_WITHIN, |status| status.reach.homes.len() >= 3)?;
        }
        Ok(Self { alice, bob, servers: running })
    }
}
