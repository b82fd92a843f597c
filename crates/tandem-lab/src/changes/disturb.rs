//! The disturbances.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use nix::sys::signal::Signal;
use tandem_api::CallPath;

use super::stage::Stage;
use super::{Disturbed, Scenario, Target};
use crate::plan::Nat;
use crate::wire::Conditions;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Both behind NATs that let a direct path through.
const HOMES: [Nat; 2] = [Nat::PortRestricted, Nat::PortRestricted];
/// Both behind NATs that do not.
const RELAYED: [Nat; 2] = [Nat::Symmetric, Nat::Symmetric];
const RELAYED_PATH: Option<CallPath> = Some(CallPath::Relayed);
const OFFLINE: Duration = s(30);
const ASLEEP: Duration = s(20);
/// `auto` mirrors the first 10 s; what comes later has one copy.
const SETTLED: Duration = s(14);
/// Supernodes vanish this often, in a call of five minutes.
const ATTRITION_EVERY: Duration = s(25);
const ATTRITION_LENGTH: Duration = s(300);

const fn scenario(
    name: &'static str,
    what: &'static str,
    target: Target,
    disturb: fn(&mut Stage) -> Result<Disturbed>,
) -> Scenario {
    Scenario {
        name,
        what,
        networks: HOMES,
        redundancy: "auto",
        after: SETTLED,
        length: s(24),
        silence: Duration::ZERO,
        ends: None,
        target,
        disturb,
    }
}

/// All of them, in the order in which they are run.
pub const SCENARIOS: &[Scenario] = &[
    scenario("network", "Alice's machine leaves its network for another", Target::BackWithin(1_000.0), leave),
    Scenario {
        networks: RELAYED,
        ..scenario("network-relayed", "the same, on a relayed call", Target::BackWithin(1_000.0), leave)
    },
    Scenario {
        length: s(34),
        ..scenario(
            "network-back",
            "Alice's machine leaves, and comes back",
            Target::BackWithin(1_000.0),
            leave_and_return,
        )
    },
    Scenario {
        networks: RELAYED,
        ..scenario(
            "nat",
            "Alice's router forgets all translations; relayed call",
            Target::BackWithin(1_000.0),
            forget,
        )
    },
    scenario("nat-direct", "the same; direct call", Target::BackWithin(1_000.0), forget),
    Scenario {
        networks: RELAYED,
        // Alice would hang up 3 s after Bob.
        length: s(20),
        ..scenario(
            "nat-hangup",
            "Alice's router forgets all translations, and Bob hangs up 3 s later, before anybody knows of a stream that it is dead",
            Target::BackWithin(1_000.0),
            forget_and_bob_hangs_up,
        )
    },
    Scenario {
        length: s(56),
        silence: OFFLINE,
        ..scenario("offline", "Alice's interface is down for 30 s", Target::BackWithin(2_000.0), unplug)
    },
    Scenario {
        length: s(56),
        silence: OFFLINE,
        ..scenario(
            "blackhole",
            "Alice's line brings nothing through for 30 s, and says nothing of it",
            Target::BackWithin(2_000.0),
            blackhole,
        )
    },
    Scenario {
        redundancy: "always",
        ends: RELAYED_PATH,
        ..scenario(
            "direct-dies-always",
            "the only direct path dies; always mirrored",
            Target::NothingLost,
            cut_direct,
        )
    },
    Scenario {
        ends: RELAYED_PATH,
        ..scenario("direct-dies", "the only direct path dies; auto", Target::GapWithin(120.0), cut_direct)
    },
    Scenario {
        length: s(44),
        silence: ASLEEP,
        ..scenario("sleep", "Alice's node stands still for 20 s", Target::BackWithin(2_000.0), sleep)
    },
    Scenario {
        redundancy: "always",
        networks: RELAYED,
        length: s(36),
        ..scenario(
            "relay-drains-always",
            "the supernode whose relay is in use is told to end; always mirrored",
            Target::NothingLost,
            drain_relay,
        )
    },
    Scenario {
        networks: RELAYED,
        length: s(36),
        ..scenario("relay-drains", "the same; auto", Target::NothingLost, drain_relay)
    },
    Scenario {
        length: s(60),
        ..scenario(
            "directory-dies",
            "every supernode dies in the same moment; direct call",
            Target::NothingLost,
            kill_directory,
        )
    },
    Scenario {
        networks: RELAYED,
        length: s(60),
        ..scenario(
            "directory-silent",
            "no supernode answers any more but as a relay; relayed call",
            Target::NothingLost,
            silence_directory,
        )
    },
    Scenario {
        redundancy: "always",
        networks: RELAYED,
        length: ATTRITION_LENGTH,
        ..scenario(
            "attrition",
            "a supernode dies every 25 s and a new one appears, for five minutes; always mirrored",
            Target::NothingLost,
            attrition,
        )
    },
];

fn leave(stage: &mut Stage) -> Result<Disturbed> {
    let began = SystemTime::now();
    stage.alice_host()?.move_to("cafe")?;
    Ok(Disturbed { began, over: SystemTime::now() })
}

fn leave_and_return(stage: &mut Stage) -> Result<Disturbed> {
    stage.alice_host()?.move_to("cafe")?;
    stage.let_pass(s(8))?;
    let began = SystemTime::now();
    stage.alice_host()?.move_to("alice")?;
    Ok(Disturbed { began, over: SystemTime::now() })
}

fn forget(stage: &mut Stage) -> Result<Disturbed> {
    let began = SystemTime::now();
    stage.alice_router()?.flush()?;
    Ok(Disturbed { began, over: SystemTime::now() })
}

fn forget_and_bob_hangs_up(stage: &mut Stage) -> Result<Disturbed> {
    let disturbed = forget(stage)?;
    stage.let_pass(s(3))?;
    stage.bob_hangs_up()?;
    Ok(disturbed)
}

fn unplug(stage: &mut Stage) -> Result<Disturbed> {
    let began = SystemTime::now();
    stage.alice_host()?.set_link(false)?;
    stage.let_pass(OFFLINE)?;
    stage.alice_host()?.set_link(true)?;
    Ok(Disturbed { began, over: SystemTime::now() })
}

fn blackhole(stage: &mut Stage) -> Result<Disturbed> {
    let began = SystemTime::now();
    let before = stage.alice_line()?.conditions(crate::wire::Way::Up);
    stage.alice_line()?.set(Conditions::cut());
    stage.let_pass(OFFLINE)?;
    stage.alice_line()?.set(before);
    Ok(Disturbed { began, over: SystemTime::now() })
}

fn cut_direct(stage: &mut Stage) -> Result<Disturbed> {
    stage.cut_direct()?;
    Ok(Disturbed::now())
}

fn sleep(stage: &mut Stage) -> Result<Disturbed> {
    let began = SystemTime::now();
    stage.alice().signal(Signal::SIGSTOP)?;
    stage.let_pass(ASLEEP)?;
    stage.alice().signal(Signal::SIGCONT)?;
    Ok(Disturbed { began, over: SystemTime::now() })
}

fn drain_relay(stage: &mut Stage) -> Result<Disturbed> {
    let began = SystemTime::now();
    stage.drain_relay_in_use()?;
    Ok(Disturbed { began, over: SystemTime::now() })
}

fn kill_directory(stage: &mut Stage) -> Result<Disturbed> {
    stage.kill_servers()?;
    Ok(Disturbed::now())
}

fn silence_directory(stage: &mut Stage) -> Result<Disturbed> {
    stage.silence_directory()?;
    Ok(Disturbed::now())
}

fn attrition(stage: &mut Stage) -> Result<Disturbed> {
    let began = SystemTime::now();
    let rounds = (ATTRITION_LENGTH - SETTLED - s(20)).as_secs() / ATTRITION_EVERY.as_secs();
    for _ in 0..rounds {
        stage.replace_oldest_server()?;
        stage.let_pass(ATTRITION_EVERY)?;
    }
    Ok(Disturbed { began, over: SystemTime::now() })
}
