//! Whether this node may serve: what its owner agreed to, what was measured, and what others confirmed.

use std::collections::VecDeque;

use tandem_proto::signed::Roles;

use super::conditions::{Caps, Consent, Headroom, Missing, Role, Situation, Way};
use super::reachability::{Checker, Reachability};
use crate::peer::PeerRef;
use crate::rng::Rng;
use crate::time::Now;

/// Commands waiting for the driver, at most.
const COMMANDS_MAX: usize = 16;

/// What the network asks of those who serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirements {
    /// The terms as they are now.
    pub terms_version: u32,
    /// Without a break, in milliseconds. Not asked for while there are too few supernodes.
    pub uptime_ms: u64,
    pub cpu_free_percent: u32,
    pub directory_kbps: u32,
    pub relay_kbps: u32,
}

impl Requirements {
    /// Half an hour, a quarter of the machine; 512 kbit/s for the directory, 2 Mbit/s (a dozen calls) for a relay.
    #[must_use]
    pub fn new(terms_version: u32) -> Self {
        Self {
            terms_version,
            uptime_ms: 30 * 60_000,
            cpu_free_percent: 25,
            directory_kbps: 512,
            relay_kbps: 2_000,
        }
    }
}

/// What the driver must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Ask that node to try and reach this one in that way, from outside and without an existing connection.
    /// Answer: [`Eligibility::handle_checked`], [`Eligibility::handle_check_refused`] or
    /// [`Eligibility::handle_check_not_asked`].
    AskCheck { of: PeerRef, way: Way },
}

/// The machine. One a node. Nobody is asked for anything before the owner has consented.
#[derive(Debug, Clone)]
pub struct Eligibility {
    requirements: Requirements,
    rng: Rng,
    up_since_ms: u64,
    consent: Option<Consent>,
    caps: Caps,
    headroom: Option<Headroom>,
    situation: Situation,
    reachability: Reachability,
    too_few: bool,
    commands: VecDeque<Command>,
    wake_ms: Option<u64>,
}

impl Eligibility {
    /// Nothing is agreed to, measured or confirmed yet. Equal seeds behave equally.
    #[must_use]
    pub fn new(requirements: Requirements, seed: u64, now: Now) -> Self {
        Self {
            requirements,
            rng: Rng::new(seed),
            up_since_ms: now.mono_ms,
            consent: None,
            caps: Caps::default(),
            headroom: None,
            situation: Situation::default(),
            reachability: Reachability::default(),
            too_few: false,
            commands: VecDeque::new(),
            wake_ms: None,
        }
    }

    // ---- what happened --------------------------------------------------------------------------------------------

    /// The owner agreed, or (`None`) withdrew.
    pub fn handle_consent(&mut self, consent: Option<Consent>, now: Now) {
        self.consent = consent;
        self.drive(now);
    }

    /// The owner set limits.
    pub fn handle_caps(&mut self, caps: Caps, now: Now) {
        self.caps = caps;
        self.drive(now);
    }

    /// CPU and bandwidth were measured.
    pub fn handle_headroom(&mut self, headroom: Headroom, now: Now) {
        self.headroom = Some(headroom);
        self.drive(now);
    }

    /// Power, network or this month's bytes.
    pub fn handle_situation(&mut self, situation: Situation, now: Now) {
        self.situation = situation;
        self.drive(now);
    }

    /// The machine slept, or its network was away: uptime begins anew.
    pub fn handle_interrupted(&mut self, now: Now) {
        self.up_since_ms = now.mono_ms;
        self.drive(now);
    }

    /// The ways in that are open: what listens on a public address, and what a router forwards.
    pub fn handle_listening(&mut self, ways: &[Way], now: Now) {
        self.reachability.set_ways(ways, &mut self.rng, now.mono_ms);
        self.drive(now);
    }

    /// The addresses behind the ways changed: all is to be proved again.
    pub fn handle_addresses_changed(&mut self, now: Now) {
        self.reachability.forget_results(&mut self.rng, now.mono_ms);
        self.drive(now);
    }

    /// Who may be asked to check; the first 64 count.
    pub fn handle_checkers(&mut self, checkers: &[Checker], now: Now) {
        self.reachability.set_checkers(checkers, now.mono_ms);
        self.drive(now);
    }

    /// What a check that was asked for said. Answers to no question are counted and have no effect.
    pub fn handle_checked(&mut self, by: PeerRef, way: Way, reached: bool, now: Now) {
        self.reachability.checked(by, way, reached, &mut self.rng, now.mono_ms);
        self.drive(now);
    }

    /// A checker has no time for that check, nor for others before that.
    pub fn handle_check_refused(&mut self, by: PeerRef, way: Way, retry_after_ms: u32, now: Now) {
        self.reachability.refused(by, way, retry_after_ms, &mut self.rng, now.mono_ms);
        self.drive(now);
    }

    /// A checker could not be asked for that check: it was not reached itself, or does not check.
    pub fn handle_check_not_asked(&mut self, by: PeerRef, way: Way, now: Now) {
        self.reachability.not_asked(by, way, &mut self.rng, now.mono_ms);
        self.drive(now);
    }

    /// There are too few supernodes ([`super::Candidacy::sees_too_few`]): neither uptime nor an idle processor is asked
    /// for. A busy machine that serves is better than none.
    pub fn set_too_few(&mut self, too_few: bool) {
        self.too_few = too_few;
    }

    /// A moment named by [`Self::poll_timeout`] came. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Now) {
        self.drive(now);
    }

    // ---- what to do -----------------------------------------------------------------------------------------------

    /// The next thing to do; drain it after every call.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to call [`Self::handle_timeout`], and to look at [`Self::roles`] again (monotonic, in milliseconds).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        self.wake_ms
    }

    // ---- how it stands --------------------------------------------------------------------------------------------

    /// The roles this node may take on now.
    #[must_use]
    pub fn roles(&self, now: Now) -> Roles {
        self.roles_without(now, |_| true)
    }

    /// The roles that a node which serves already may keep ([`Missing::ends_serving`]).
    #[must_use]
    pub fn roles_to_keep(&self, now: Now) -> Roles {
        self.roles_without(now, Missing::ends_serving)
    }

    fn roles_without(&self, now: Now, counts: impl Fn(&Missing) -> bool) -> Roles {
        let free = |role: &Role| !self.missing(*role, now).iter().any(&counts);
        Role::BOTH.into_iter().filter(free).fold(Roles::default(), |roles, role| roles.with(role.bit()))
    }

    /// Everything that keeps this node from that role now; empty: it may serve.
    #[must_use]
    pub fn missing(&self, role: Role, now: Now) -> Vec<Missing> {
        let mut missing = Vec::new();
        missing.extend(self.missing_consent(role));
        missing.extend(self.missing_leave(role, now));
        missing.extend(self.reachability.missing(now.mono_ms));
        missing.extend(self.missing_strength(role, now));
        if self.situation.outdated {
            missing.push(Missing::Outdated);
        }
        missing
    }

    fn missing_consent(&self, role: Role) -> Option<Missing> {
        let Some(consent) = self.consent.filter(|consent| consent.roles.contains(role.bit())) else {
            return Some(Missing::Consent);
        };
        let (accepted, current) = (consent.terms_version, self.requirements.terms_version);
        (accepted != current).then_some(Missing::NewTerms { accepted, current })
    }

    /// What the owner's caps, and care for the owner's bill, do not allow.
    fn missing_leave(&self, role: Role, now: Now) -> Vec<Missing> {
        let mut missing = Vec::new();
        if self.situation.metered {
            missing.push(Missing::Metered);
        }
        if self.situation.on_battery {
            missing.push(Missing::OnBattery);
        }
        if let Some(bytes) = self.caps.bytes_of(role).filter(|cap| self.situation.bytes_of(role) >= *cap) {
            missing.push(Missing::MonthlyCap { bytes });
        }
        if let Some(hours) = self.caps.hours.filter(|hours| !hours.is_open(now.unix_ms)) {
            missing
                .push(Missing::OutsideHours { opens_in_ms: hours.changes_in_ms(now.unix_ms).unwrap_or(0) });
        }
        missing
    }

    fn missing_strength(&self, role: Role, now: Now) -> Vec<Missing> {
        let mut missing = Vec::new();
        let up_ms = now.mono_ms.saturating_sub(self.up_since_ms);
        if up_ms < self.requirements.uptime_ms && !self.too_few {
            missing.push(Missing::Uptime { missing_ms: self.requirements.uptime_ms - up_ms });
        }
        let Some(headroom) = self.headroom else {
            missing.push(Missing::Unmeasured);
            return missing;
        };
        let wanted_percent = self.requirements.cpu_free_percent;
        if headroom.cpu_free_percent < wanted_percent && !self.too_few {
            missing.push(Missing::Cpu { free_percent: headroom.cpu_free_percent, wanted_percent });
        }
        let wanted_kbps = match role {
            Role::Directory => self.requirements.directory_kbps,
            Role::Relay => self.requirements.relay_kbps,
        };
        if headroom.bandwidth_free_kbps < wanted_kbps {
            missing.push(Missing::Bandwidth { free_kbps: headroom.bandwidth_free_kbps, wanted_kbps });
        }
        missing
    }

    /// The ways in that others confirmed: what a descriptor may name.
    pub fn confirmed_ways(&self, now: Now) -> impl Iterator<Item = Way> {
        self.reachability.confirmed(now.mono_ms)
    }

    /// The ways in that others tried in vain: what a descriptor may name no longer.
    pub fn refuted_ways(&self, now: Now) -> impl Iterator<Item = Way> {
        self.reachability.refuted(now.mono_ms)
    }

    /// Answers that came without a question.
    #[must_use]
    pub fn unasked_answers(&self) -> u64 {
        self.reachability.unasked
    }

    // ---- inside ---------------------------------------------------------------------------------------------------

    /// Strangers are troubled with checks only for a node that would serve if they succeed.
    fn drive(&mut self, now: Now) {
        let agreed = Role::BOTH.into_iter().any(|role| self.missing_consent(role).is_none());
        while agreed && self.commands.len() < COMMANDS_MAX {
            let Some((of, way)) = self.reachability.poll(&mut self.rng, now.mono_ms) else { break };
            self.commands.push_back(Command::AskCheck { of, way });
        }
        self.wake_ms = if agreed { self.next_change_ms(now) } else { None };
    }

    fn next_change_ms(&self, now: Now) -> Option<u64> {
        let up_ms = self.up_since_ms + self.requirements.uptime_ms;
        let uptime = (up_ms > now.mono_ms).then_some(up_ms);
        let hours = self.caps.hours.and_then(|hours| hours.changes_in_ms(now.unix_ms));
        let hours = hours.map(|ms| now.mono_ms + ms);
        let stale = self.reachability.stale_ms(now.mono_ms);
        [uptime, hours, stale, self.reachability.timeout_ms()].into_iter().flatten().min()
    }
}
