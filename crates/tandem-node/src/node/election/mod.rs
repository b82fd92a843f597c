//! The election's machines in the running node: what this node is, and what it may become.
//!
//! [`Election`] owns `Eligibility` and `Candidacy`, speaks of supernodes by their keys, and says in [`Task`]s what is to
//! be done. `sight` is what a node that serves nobody knows of who serves; `serving` joins both to the loop.

mod looking;
mod names;
mod serving;
mod sight;
mod words;

use std::collections::VecDeque;

use tandem_core::election::{
    Candidacy, Caps, Checker, Command, Config, Consent, Eligibility, EligibilityCommand, Figures, Headroom,
    Invitation, Leave, Missing, Requirements, Role, Sighted, Situation, State, Way,
};
use tandem_core::time::Now;
use tandem_proto::ids::ServiceKey;
use tandem_proto::signed::Roles;

use names::Names;
use serving::Desk;

/// Tasks that wait for the loop, which takes them in the turn that made them.
const TASKS_MAX: usize = 64;
/// Checkers looked at.
const CHECKERS_MAX: usize = 64;

/// What the loop must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Answer: [`Election::handle_checked`], [`Election::handle_check_refused`] or [`Election::handle_check_not_asked`].
    AskCheck {
        of: ServiceKey,
        way: Way,
    },
    Announce(ServiceKey),
    /// Answer: [`Election::handle_load_answer`].
    AskLoad(ServiceKey),
    /// Answer: [`Election::handle_invitation_answer`], or nothing.
    Invite(ServiceKey),
    AnswerInvitation {
        to: ServiceKey,
        accepted: bool,
    },
    /// Serve in these roles from now on.
    Serve(Roles),
    /// Answer: [`Election::handle_drained`]. It may come again with less time.
    Drain {
        within_ms: u32,
        why: Leave,
    },
}

/// A supernode that is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) service: ServiceKey,
    pub(crate) network: u32,
    pub(crate) roles: Roles,
    pub(crate) load_percent: u32,
}

/// The election in one node.
#[derive(Debug)]
pub(crate) struct Election {
    /// The settings' roles: it serves whether it is needed or not, if the owner agrees and as long.
    steady: bool,
    terms: u32,
    consent: Option<Consent>,
    eligibility: Eligibility,
    candidacy: Candidacy,
    names: Names,
    tasks: VecDeque<Task>,
    /// Devices that found no place here, as far as policy was told.
    no_place: u64,
    /// What the loop keeps for it.
    desk: Desk,
}

impl Election {
    /// `steady`: the settings name roles. `terms`: the number of the terms now. Equal seeds behave equally.
    pub(crate) fn new(steady: bool, terms: u32, seed: u64, now: Now) -> Self {
        let config = Config { steady };
        let mut election = Self {
            steady,
            terms,
            consent: None,
            eligibility: Eligibility::new(Requirements::new(terms), seed, now),
            candidacy: Candidacy::new(config, seed.rotate_left(32), now),
            names: Names::default(),
            tasks: VecDeque::new(),
            no_place: 0,
            desk: Desk::new(seed.rotate_left(16), now),
        };
        election.settle(now);
        election
    }

    // ---- what happened --------------------------------------------------------------------------------------------

    /// The owner agreed, or (`None`) withdrew.
    pub(crate) fn handle_consent(&mut self, consent: Option<Consent>, now: Now) {
        self.consent = consent;
        self.eligibility.handle_consent(consent, now);
        self.settle(now);
    }

    pub(crate) fn handle_caps(&mut self, caps: Caps, now: Now) {
        self.eligibility.handle_caps(caps, now);
        self.settle(now);
    }

    pub(crate) fn handle_headroom(&mut self, headroom: Headroom, now: Now) {
        self.eligibility.handle_headroom(headroom, now);
        self.settle(now);
    }

    pub(crate) fn handle_situation(&mut self, situation: Situation, now: Now) {
        self.eligibility.handle_situation(situation, now);
        self.settle(now);
    }

    /// The machine slept, or its network is another.
    pub(crate) fn handle_interrupted(&mut self, now: Now) {
        self.eligibility.handle_interrupted(now);
        self.eligibility.handle_addresses_changed(now);
        self.settle(now);
    }

    /// The ways in that are open; `moved`: their addresses are others than before.
    pub(crate) fn handle_listening(&mut self, ways: &[Way], moved: bool, now: Now) {
        if moved {
            self.eligibility.handle_addresses_changed(now);
        }
        self.eligibility.handle_listening(ways, now);
        self.settle(now);
    }

    /// Who may be asked to check, and who serves and is alive.
    pub(crate) fn handle_sight(&mut self, checkers: &[Seen], alive: &[Seen], now: Now) {
        let checkers: Vec<Checker> = checkers
            .iter()
            .take(CHECKERS_MAX)
            .filter_map(|seen| {
                Some(Checker { peer: self.names.intern(seen.service, now.mono_ms)?, network: seen.network })
            })
            .collect();
        self.eligibility.handle_checkers(&checkers, now);
        let alive: Vec<Sighted> = alive
            .iter()
            .filter_map(|seen| {
                let peer = self.names.intern(seen.service, now.mono_ms)?;
                let Seen { network, roles, load_percent, .. } = *seen;
                Some(Sighted { peer, network, roles, load_percent })
            })
            .collect();
        self.candidacy.handle_sight(&alive, now);
        self.settle(now);
    }

    pub(crate) fn handle_checked(&mut self, by: ServiceKey, way: Way, reached: bool, now: Now) {
        if let Some(by) = self.names.peer(&by) {
            self.eligibility.handle_checked(by, way, reached, now);
        }
        self.settle(now);
    }

    pub(crate) fn handle_check_refused(&mut self, by: ServiceKey, way: Way, retry_after_ms: u32, now: Now) {
        if let Some(by) = self.names.peer(&by) {
            self.eligibility.handle_check_refused(by, way, retry_after_ms, now);
        }
        self.settle(now);
    }

    /// That one could not be asked at all.
    pub(crate) fn handle_check_not_asked(&mut self, by: ServiceKey, way: Way, now: Now) {
        if let Some(by) = self.names.peer(&by) {
            self.eligibility.handle_check_not_asked(by, way, now);
        }
        self.settle(now);
    }

    /// This node's own load, as its descriptor says.
    pub(crate) fn handle_load(&mut self, load_percent: u32, now: Now) {
        self.candidacy.handle_load(load_percent, now);
        self.settle(now);
    }

    /// Devices that found no place here, all since the service began.
    pub(crate) fn handle_no_place(&mut self, total: u64, now: Now) {
        let news = total.saturating_sub(std::mem::replace(&mut self.no_place, total));
        if news > 0 {
            self.candidacy.handle_no_place(u32::try_from(news).unwrap_or(u32::MAX), now);
            self.settle(now);
        }
    }

    /// A node says that it is a reserve, from an address in that network. Says whether it is remembered.
    pub(crate) fn handle_announce(&mut self, from: ServiceKey, network: u32, now: Now) -> bool {
        let peer = self.names.intern(from, now.mono_ms);
        let kept = peer.is_some_and(|peer| self.candidacy.handle_announce(peer, network, now));
        if kept {
            self.names.note_reserve(&from, now.mono_ms);
        }
        self.settle(now);
        kept
    }

    /// An invitation came whose signature is the inviter's.
    pub(crate) fn handle_invitation(
        &mut self,
        from: ServiceKey,
        load_percent: u32,
        not_after_unix_ms: u64,
        now: Now,
    ) {
        if let Some(from) = self.names.intern(from, now.mono_ms) {
            self.candidacy.handle_invitation(&Invitation { from, load_percent, not_after_unix_ms }, now);
        }
        self.settle(now);
    }

    /// `None`: it would not say.
    pub(crate) fn handle_load_answer(&mut self, by: ServiceKey, load_percent: Option<u32>, now: Now) {
        if let Some(by) = self.names.peer(&by) {
            self.candidacy.handle_load_answer(by, load_percent, now);
        }
        self.settle(now);
    }

    pub(crate) fn handle_invitation_answer(&mut self, by: ServiceKey, accepted: bool, now: Now) {
        if let Some(by) = self.names.peer(&by) {
            self.candidacy.handle_invitation_answer(by, accepted);
        }
        self.settle(now);
    }

    pub(crate) fn handle_drained(&mut self, now: Now) {
        self.candidacy.handle_drained(now);
        self.settle(now);
    }

    pub(crate) fn handle_timeout(&mut self, now: Now) {
        self.eligibility.handle_timeout(now);
        self.candidacy.handle_timeout(now);
        self.settle(now);
    }

    // ---- what to do -----------------------------------------------------------------------------------------------

    pub(crate) fn poll_task(&mut self) -> Option<Task> {
        self.tasks.pop_front()
    }

    /// When to call [`Self::handle_timeout`]; never, on a node whose owner did not consent.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        let machines = [self.eligibility.poll_timeout(), self.candidacy.poll_timeout()];
        machines.into_iter().flatten().min().filter(|_| self.is_awake())
    }

    // ---- how it stands --------------------------------------------------------------------------------------------

    /// It has to look about: it serves, or its owner would let it. Else it never wakes anybody up.
    pub(crate) fn is_awake(&self) -> bool {
        self.consented() != Roles::default() || self.state() != State::Plain
    }

    pub(crate) fn is_steady(&self) -> bool {
        self.steady
    }

    /// The roles that the owner agreed to under the present terms.
    pub(crate) fn consented(&self) -> Roles {
        let current = self.consent.filter(|consent| consent.terms_version == self.terms);
        current.map_or(Roles::default(), |consent| consent.roles)
    }

    pub(crate) fn state(&self) -> State {
        self.candidacy.state()
    }

    /// Everything that keeps it from that role now.
    pub(crate) fn missing(&self, role: Role, now: Now) -> Vec<Missing> {
        let mut missing = self.eligibility.missing(role, now);
        // What only keeps a node from beginning is nothing to one that serves.
        let serves = self.state() == State::Supernode;
        missing.retain(
            |missing| {
                if self.steady { counts_always(missing) } else { !serves || missing.ends_serving() }
            },
        );
        missing
    }

    /// The roles it is to serve in now.
    pub(crate) fn serving(&self) -> Roles {
        if self.state() == State::Supernode { self.candidacy.serving() } else { Roles::default() }
    }

    pub(crate) fn confirmed_ways(&self, now: Now) -> Vec<Way> {
        self.eligibility.confirmed_ways(now).collect()
    }

    pub(crate) fn refuted_ways(&self, now: Now) -> Vec<Way> {
        self.eligibility.refuted_ways(now).collect()
    }

    pub(crate) fn figures(&self) -> Figures {
        self.candidacy.figures()
    }

    // ---- inside ---------------------------------------------------------------------------------------------------

    /// Tells each machine what the other one found, and takes what both want.
    fn settle(&mut self, now: Now) {
        self.eligibility.set_too_few(self.candidacy.sees_too_few());
        let (begin, keep) = if self.steady {
            let free = Role::BOTH.into_iter().filter(|role| self.missing(*role, now).is_empty());
            let roles = free.fold(Roles::default(), |roles, role| roles.with(role.bit()));
            (roles, roles)
        } else {
            (self.eligibility.roles(now), self.eligibility.roles_to_keep(now))
        };
        self.candidacy.handle_roles(begin, keep, now);
        while let Some(EligibilityCommand::AskCheck { of, way }) = self.eligibility.poll_command() {
            let task = self.names.key(of).map(|of| Task::AskCheck { of, way });
            self.push(task);
        }
        while let Some(command) = self.candidacy.poll_command() {
            let task = self.task(command);
            self.push(task);
        }
    }

    /// Of somebody whose number was forgotten nothing is wanted.
    fn task(&self, command: Command) -> Option<Task> {
        Some(match command {
            Command::Announce(to) => Task::Announce(self.names.key(to)?),
            Command::Invite(reserve) => Task::Invite(self.names.key(reserve)?),
            Command::AnswerInvitation { to, accepted } => {
                Task::AnswerInvitation { to: self.names.key(to)?, accepted }
            }
            Command::AskLoad(of) => Task::AskLoad(self.names.key(of)?),
            Command::Serve { roles } => Task::Serve(roles),
            Command::Drain { within_ms, why } => Task::Drain { within_ms, why },
        })
    }

    /// What decides whether it serves is never lost; of the rest, no more than can be meant.
    fn push(&mut self, task: Option<Task>) {
        let Some(task) = task else { return };
        let weighty = matches!(task, Task::Serve(_) | Task::Drain { .. });
        if weighty || self.tasks.len() < TASKS_MAX {
            self.tasks.push_back(task);
        }
    }
}

/// What keeps even a node from serving that was told to serve whether it is needed or not: what its owner did not allow.
/// Whether it can be reached, and is strong enough, is then the owner's own affair.
fn counts_always(missing: &Missing) -> bool {
    match missing {
        Missing::Consent
        | Missing::NewTerms { .. }
        | Missing::OutsideHours { .. }
        | Missing::MonthlyCap { .. } => true,
        Missing::NoWayIn
        | Missing::Unconfirmed { .. }
        | Missing::Unreachable { .. }
        | Missing::Uptime { .. }
        | Missing::Unmeasured
        | Missing::Cpu { .. }
        | Missing::Bandwidth { .. }
        | Missing::Metered
        | Missing::OnBattery
        | Missing::Outdated => false,
    }
}

#[cfg(test)]
mod tests;
