//! Invitations that lie: whoever consented serves when others need it, not when a hostile supernode says so.

use std::time::{Duration, Instant};

use anyhow::Result;
use tandem_api::{ServingState, VolunteerView};

use super::{INVITE, Options, Outcome, Scene};
use crate::election::consent;
use crate::plan::Nat;
use crate::process::Process;

/// Plain nodes with public addresses whose owners consented.
const CANDIDATES: usize = 4;
/// They have this long to be invited: where there are supernodes enough, nobody is a reserve before half an hour.
const INVITED_WITHIN: Duration = Duration::from_secs(45 * 60);
/// Longer than an invitation is considered (spec/election.md).
const WATCHED: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(1);

pub(super) fn run(options: &Options) -> Result<Outcome> {
    let mut scene = Scene::build(INVITE, &[Nat::None; CANDIDATES], options)?;
    let candidates: Vec<Process> = (1..=CANDIDATES).map(|n| scene.person(n)).collect::<Result<_>>()?;
    for candidate in &candidates {
        consent(candidate)?;
    }
    let begun = Instant::now();
    let mut served = Vec::new();
    let mut met = scene.hostile.met()?;
    let mut until = begun + INVITED_WITHIN;
    while Instant::now() < until {
        for candidate in &candidates {
            let view: VolunteerView = candidate.get("/api/volunteer")?;
            let serves = matches!(view.state, ServingState::Serving | ServingState::Draining);
            if serves && !served.contains(&candidate.name().to_owned()) {
                served.push(candidate.name().to_owned());
            }
        }
        let before = met.invited;
        met = scene.hostile.met()?;
        if before == 0 && met.invited > 0 {
            until = Instant::now() + WATCHED;
        }
        std::thread::sleep(LOOK);
    }
    let mut wrong: Vec<String> =
        served.iter().map(|name| format!("{name} served though nobody needed it")).collect();
    if met.accepted > 0 {
        wrong.push(format!("{} invitations that lie were accepted", met.accepted));
    }
    wrong.extend(met.nothing(INVITE));
    let (most, with) = super::hostile_homes(&candidates)?;
    Ok(Outcome {
        manner: INVITE.to_owned(),
        held: wrong.is_empty(),
        devices: CANDIDATES,
        hostile_homes_max: most,
        with_hostile_home: with,
        calls: 0,
        calls_failed: Vec::new(),
        ringing_ms_max: None,
        met,
        wrong,
    })
}
