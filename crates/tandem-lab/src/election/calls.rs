//! Calls between random leaves, one every few seconds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tandem_api::{CallRequest, CallStarted, CallSummary};

use super::millis;
use super::report::CallMade;
use crate::process::Process;

const EVERY: Duration = Duration::from_secs(3);
const LENGTH_MS: u64 = 2_000;
/// A call that has come to nothing by then has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// A node gives up a call that is silent after a minute.
const OUTLIVES: Duration = Duration::from_secs(75);
const LOOK: Duration = Duration::from_millis(200);

/// All calls of a run.
#[derive(Debug, Default)]
pub(super) struct Calls {
    made: Mutex<Vec<CallMade>>,
    busy: Mutex<Vec<String>>,
}

impl Calls {
    /// Begins a call every few seconds until told to stop, then waits for those that go on.
    pub(super) fn run(&self, leaves: &[Process], stop: &AtomicBool) {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        std::thread::scope(|scope| {
            while !stop.load(Ordering::Acquire) {
                if let Some((caller, callee)) = self.pick(leaves, &mut random) {
                    scope.spawn(move || {
                        let mut made = attempt(caller, callee);
                        outlive(callee, &mut made);
                        lock(&self.busy).retain(|name| name != caller.name() && name != callee.name());
                        lock(&self.made).push(made);
                    });
                }
                std::thread::sleep(EVERY);
            }
        });
    }

    pub(super) fn finish(self) -> Vec<CallMade> {
        self.made.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Two leaves that are in no call.
    fn pick<'a>(&self, leaves: &'a [Process], random: &mut u64) -> Option<(&'a Process, &'a Process)> {
        let mut busy = lock(&self.busy);
        let mut idle: Vec<&Process> =
            leaves.iter().filter(|leaf| !busy.iter().any(|name| name == leaf.name())).collect();
        let mut draw = |idle: &mut Vec<&'a Process>| {
            *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (*random >> 33) as usize % idle.len().max(1);
            (at < idle.len()).then(|| idle.swap_remove(at))
        };
        let (caller, callee) = (draw(&mut idle)?, draw(&mut idle)?);
        busy.extend([caller.name().to_owned(), callee.name().to_owned()]);
        Some((caller, callee))
    }
}

/// Waits until the callee is in no call any more, either. If a relay died under the call, and the callee's homes with it, the
/// caller's last word comes late; until then the callee's node takes no other call, and begins none.
fn outlive(callee: &Process, made: &mut CallMade) {
    let begun = Instant::now();
    while begun.elapsed() < OUTLIVES {
        let calls: Result<Vec<CallSummary>> = callee.get("/api/calls");
        match calls {
            Ok(calls) if calls.iter().all(|call| call.ended_unix_ms.is_some()) => {
                made.outlived_ms = millis(begun.elapsed());
                return;
            }
            Ok(_) => std::thread::sleep(LOOK),
            Err(error) => {
                made.why = format!("{error:#}");
                break;
            }
        }
    }
    made.connected = false;
    if made.why.is_empty() {
        "the callee's node did not end the call".clone_into(&mut made.why);
    }
}

/// One call of two seconds.
pub(crate) fn attempt(caller: &Process, callee: &Process) -> CallMade {
    let begun = Instant::now();
    let mut made = CallMade {
        caller: caller.name().to_owned(),
        callee: callee.name().to_owned(),
        ..CallMade::default()
    };
    match follow(caller, callee, begun) {
        Ok(call) => {
            made.rang = call.result.setup_ms.ringing.is_some();
            made.connected = call.result.connected;
            made.ringing_ms = call.result.setup_ms.ringing;
            made.lost = call.result.packets.lost;
            made.why = call.result.why;
        }
        Err(error) => made.why = format!("{error:#}"),
    }
    made.took_ms = millis(begun.elapsed());
    made
}

fn follow(caller: &Process, callee: &Process, begun: Instant) -> Result<CallSummary> {
    let request = CallRequest {
        address: callee.address().to_owned(),
        for_ms: Some(LENGTH_MS),
        ..CallRequest::default()
    };
    let started: CallStarted = caller.post("/api/calls", &request)?;
    loop {
        std::thread::sleep(LOOK);
        let calls: Vec<CallSummary> = caller.get("/api/calls")?;
        let call = calls.into_iter().find(|call| call.call == started.call);
        let call = call.context("the node has forgotten the call")?;
        if call.ended_unix_ms.is_some() || begun.elapsed() > PATIENCE {
            return Ok(call);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
