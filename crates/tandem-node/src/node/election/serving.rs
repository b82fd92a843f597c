//! The election in the loop: what the owner says goes in, what is to be served comes out.

use tandem_api::{NodeEvent, Problem, ServingState};
use tandem_core::election::{Consent, Role, Situation};
use tandem_core::time::Now;
use tandem_proto::ids::ServiceKey;
use tandem_proto::signed::Roles;
use tokio::sync::mpsc;

use super::sight::Lookout;
use super::{Election, Task};
use crate::handle::NodeSide;
use crate::installation::StartError;
use crate::messages::Code;
use crate::node::event_loop::{Node, announce};
use crate::node::listening::{self, Listening, ListeningPlan, WayIn};
use crate::node::measuring::{self, Measuring, MeasuringPlan};
use crate::node::scout::Scout;
use crate::node::start::{Makings, first_supernodes};
use crate::node::supernode::{Bound, Echo, Place, Reached, SupernodeNews};
use crate::overlay::{DeviceEvent, Places};
use crate::platform::load::OwnUse;

/// A place that could not be bound is tried again after this long, doubling …
const BIND_AGAIN_MS: u64 = 1_000;
/// … this often.
const BIND_DOUBLINGS_MAX: u32 = 9;

/// What the loop keeps for the election.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) lookout: Lookout,
    /// When it looks about next.
    pub(super) look_ms: u64,
    /// On a candidate whose sockets are bound.
    pub(super) standby: Option<Standby>,
    /// What this program takes of the processors, while it serves; and when that is looked at next.
    pub(super) processors: OwnUse,
    pub(super) processors_ms: u64,
    bind_ms: u64,
    bind_failures: u32,
    /// Why nothing is bound although the owner consented.
    problem: Option<Problem>,
    /// What the person was told last.
    told: ServingState,
}

/// What a candidate has besides its service part.
#[derive(Debug)]
pub(super) struct Standby {
    pub(super) scout: Scout,
    plan: ListeningPlan,
    pub(super) listening: Listening,
    pub(super) measuring: Measuring,
    pub(super) ways: Vec<WayIn>,
    /// Those that others confirmed and that nobody has refuted since.
    pub(super) proved: Vec<WayIn>,
    /// Where others reach it, as its descriptor says or will say.
    pub(super) reached: Reached,
}

impl Desk {
    pub(super) fn new(seed: u64, now: Now) -> Self {
        Self {
            lookout: Lookout::new(seed),
            look_ms: now.mono_ms,
            standby: None,
            processors: OwnUse::default(),
            processors_ms: now.mono_ms,
            bind_ms: now.mono_ms,
            bind_failures: 0,
            problem: None,
            told: ServingState::Off,
        }
    }

    fn poll_timeout(&self) -> u64 {
        let scout = self.standby.as_ref().and_then(|standby| standby.scout.poll_timeout());
        scout.map_or(self.look_ms, |scout_ms| scout_ms.min(self.look_ms))
    }
}

// ---- for the loop ---------------------------------------------------------------------------------------------------

impl Election {
    /// Of a candidate.
    pub(crate) fn scout(&self) -> Option<&Scout> {
        Some(&self.desk.standby.as_ref()?.scout)
    }
}

impl Node {
    /// When the election has something to do, in the clock's milliseconds.
    pub(in crate::node) fn election_timeout(&self) -> Option<u64> {
        let due =
            || self.election.poll_timeout().into_iter().chain([self.election.desk.poll_timeout()]).min();
        if self.election.is_awake() { due() } else { None }
    }

    /// What is due now.
    pub(in crate::node) fn handle_election_timeout(&mut self) {
        let now = self.clock.now();
        if !self.election.is_awake() {
            return;
        }
        if let Some(standby) = &mut self.election.desk.standby {
            standby.scout.handle_timeout(now);
        }
        if now.mono_ms >= self.election.desk.look_ms {
            self.look_about(now);
        }
        self.election.handle_timeout(now);
    }

    /// Feeds what the scout's swarm says.
    pub(in crate::node) fn take_scout(&mut self, event: DeviceEvent) {
        let now = self.clock.now();
        if let Some(standby) = &mut self.election.desk.standby {
            standby.scout.handle_overlay(event, now);
        }
    }

    /// The machine slept, or is in another network: what was found out holds no more.
    pub(in crate::node) fn restart_election(&mut self) {
        let now = self.clock.now();
        if let Some(standby) = &mut self.election.desk.standby {
            standby.scout.handle_network_changed(now);
        }
        self.election.handle_interrupted(now);
    }

    /// Does what the election wants until it wants nothing more. Says whether there was anything.
    pub(in crate::node) fn settle_election(&mut self, side: &NodeSide) -> bool {
        if self.volunteering.take_change() {
            self.take_consent();
        }
        if self.stopping.is_some() {
            return false;
        }
        let mut busy = self.take_scout_news();
        while let Some(task) = self.election.poll_task() {
            busy = true;
            self.do_task(task);
        }
        self.follow_consent();
        let state = self.election.serving_state();
        if state != self.election.desk.told {
            self.election.desk.told = state;
            announce(side, NodeEvent::Serving { state });
            self.tell_serving(state);
        }
        busy
    }

    /// What keeps the node from serving although its owner consented.
    pub(in crate::node) fn serving_problem(&self) -> Option<Problem> {
        self.election.desk.problem.clone()
    }

    /// What the service part says.
    pub(in crate::node) fn take_supernode_news(&mut self, news: SupernodeNews) {
        let now = self.clock.now();
        match news {
            SupernodeNews::Listening(address) => tracing::info!(address, "listening for others"),
            SupernodeNews::Drained => match &mut self.stopping {
                Some(stopping) => stopping.drained = true,
                None => {
                    self.close_echo();
                    self.election.handle_drained(now);
                }
            },
            SupernodeNews::Announced { id, service, network } => {
                let kept = self.election.handle_announce(service, network, now);
                if let Some(supernode) = &mut self.supernode {
                    supernode.note_reserve(id, kept, now);
                }
            }
            SupernodeNews::Invited(invitation) => {
                let until_ms = invitation.not_after_s().saturating_mul(1000);
                let (from, load_percent) = (invitation.inviter(), invitation.load_percent());
                self.election.handle_invitation(from, load_percent, until_ms, now);
            }
            SupernodeNews::InvitationAnswered { reserve, accepted } => {
                self.election.handle_invitation_answer(reserve, accepted, now);
            }
        }
    }
}

// ---- consent --------------------------------------------------------------------------------------------------------

impl Node {
    /// Consent or caps are others than before.
    pub(in crate::node) fn take_consent(&mut self) {
        let now = self.clock.now();
        self.election.handle_caps(self.volunteering.election_caps(now.unix_ms), now);
        self.election.handle_situation(self.situation(), now);
        self.election.handle_consent(self.consent(), now);
        let desk = &mut self.election.desk;
        (desk.bind_ms, desk.look_ms) = (now.mono_ms, now.mono_ms);
    }

    /// What the owner agreed to, as far as the organisation lets anybody serve.
    fn consent(&self) -> Option<Consent> {
        let consent = self.volunteering.consent()?;
        let policy = self.warden.policy();
        let allowed =
            |role: &Role| consent.roles.contains(role.bit()) && policy.may_serve((*role).into()).is_ok();
        let allowed = Role::BOTH.into_iter().filter(allowed);
        let roles = allowed.fold(Roles::default(), |roles, role| roles.with(role.bit()));
        Some(Consent { roles, ..consent }).filter(|consent| consent.roles != Roles::default())
    }

    /// What is served this month, and what the machine says of itself.
    pub(super) fn situation(&self) -> Situation {
        let served = Situation {
            directory_bytes: self.volunteering.bytes_this_month(Role::Directory),
            relay_bytes: self.volunteering.bytes_this_month(Role::Relay),
            ..Situation::default()
        };
        match &self.election.desk.standby {
            Some(standby) => standby.measuring.readings.borrow().apply_to(served),
            None => served,
        }
    }

    /// With consent the sockets are bound; without it they are closed as soon as nothing is served over them.
    fn follow_consent(&mut self) {
        let now = self.clock.now();
        let wanted = self.election.is_awake();
        if self.supernode.is_some() && !wanted {
            self.stop_standing_by();
        } else if self.supernode.is_none() && wanted && now.mono_ms >= self.election.desk.bind_ms {
            self.stand_by(now);
        }
        let relay = self.election.consented().contains(Roles::RELAY);
        let (network, ports) = (self.network_watch.clone(), self.ports.clone());
        if let Some(standby) = &mut self.election.desk.standby
            && standby.plan.relay != relay
        {
            // The owner agreed to the other role, too, or no longer: others are to try other ports.
            standby.plan.relay = relay;
            standby.listening = listening::follow(standby.plan.clone(), network, ports);
        }
    }

    /// Binds what a candidate needs. If that fails, the owner is told, and it is tried again.
    fn stand_by(&mut self, now: Now) {
        let bound = self.bind(now);
        let desk = &mut self.election.desk;
        match bound {
            Ok(()) => {
                (desk.bind_failures, desk.problem) = (0, None);
                desk.look_ms = now.mono_ms;
                // It is to serve from the start, or was serving when it lost its sockets.
                self.serve(self.election.serving());
            }
            Err(error) => {
                let wait_ms = BIND_AGAIN_MS << desk.bind_failures.min(BIND_DOUBLINGS_MAX);
                desk.bind_failures += 1;
                (desk.bind_ms, desk.look_ms) = (now.mono_ms + wait_ms, now.mono_ms + wait_ms);
                // The swarm before may not have let go of its port yet.
                if desk.bind_failures > 1 {
                    let detail = error.problem().message;
                    tracing::warn!(detail, "this node cannot listen for others");
                    desk.problem = Some(Code::CannotServe.with(&[("detail", &detail)]));
                }
            }
        }
    }

    fn bind(&mut self, now: Now) -> Result<(), StartError> {
        let makings = Makings::new(&self.config, &self.network, &self.media_ends, self.ports.clone());
        let (steady, caps) = (self.election.is_steady(), self.warden.policy().caps(self.volunteering.caps()));
        let place = if steady {
            Place::of_settings(&self.config, self.election.consented(), caps)
        } else {
            let listen = listening::places(&self.config, &self.installation.store)
                .map_err(|error| StartError::Overlay(error.to_string()))?;
            Place { listen, reached_at: None, relay: true, caps }
        };
        let bound = Bound::new(&makings, &self.installation, &place, Roles::default(), now)?;
        let standby = if steady { None } else { Some(self.prepare(&makings, place.listen)?) };
        let known = first_supernodes(&self.config, &self.installation);
        self.install(bound, &known);
        if let Some((standby, events)) = standby {
            self.election.desk.standby = Some(standby);
            self.feeds.scout = Some(events);
        }
        Ok(())
    }

    /// The scout, the ways in, the measuring.
    fn prepare(
        &self,
        makings: &Makings<'_>,
        places: Places,
    ) -> Result<(Standby, mpsc::Receiver<DeviceEvent>), StartError> {
        let service = self.installation.keys.service.public();
        let lending = makings.lending(&self.installation);
        let (scout, events) = Scout::start(service, makings.network()?, lending.public()?, makings.bind)?;
        let relay = self.election.consented().contains(Roles::RELAY);
        let plan = ListeningPlan::new(&self.config, places, makings.public()?, relay);
        let listening = listening::follow(plan.clone(), self.network_watch.clone(), self.ports.clone());
        let measured = MeasuringPlan {
            cap_bits_per_second: self.warden.policy().caps(self.volunteering.caps()).bits_per_second,
            metered: self.config.metered,
        };
        let measuring = measuring::follow(measured, self.network_watch.clone());
        let (ways, proved, reached) = (Vec::new(), Vec::new(), Reached::default());
        Ok((Standby { scout, plan, listening, measuring, ways, proved, reached }, events))
    }

    /// Nothing is left bound.
    pub(in crate::node) fn stop_standing_by(&mut self) {
        let now = self.clock.now();
        self.close_service();
        self.feeds.scout = None;
        let desk = &mut self.election.desk;
        if let Some(mut standby) = desk.standby.take() {
            standby.scout.shutdown(now);
        }
        desk.problem = None;
        desk.bind_ms = now.mono_ms;
        self.election.handle_listening(&[], false, now);
    }

    /// One of its swarms ended by itself: it lost its sockets, or failed. It is begun anew.
    pub(in crate::node) fn lost_service(&mut self) {
        if self.supernode.is_none() || self.stopping.is_some() {
            return;
        }
        tracing::error!("what listens for others ended by itself: it is begun anew");
        self.stop_standing_by();
        let desk = &mut self.election.desk;
        desk.bind_ms = self.clock.now().mono_ms + BIND_AGAIN_MS;
        desk.look_ms = desk.bind_ms;
        desk.problem = Some(Code::CannotServe.with(&[("detail", "its sockets were lost")]));
    }
}

// ---- what the election wants ----------------------------------------------------------------------------------------

impl Node {
    fn do_task(&mut self, task: Task) {
        let now = self.clock.now();
        match task {
            Task::AskCheck { of, way } => self.ask_check(of, way, now),
            Task::Announce(to) => self.announce_reserve(to, now),
            Task::AskLoad(of) => self.ask_load(of, now),
            Task::Invite(reserve) => self.invite_reserve(reserve, now),
            Task::AnswerInvitation { to, accepted } => {
                if let Some(supernode) = &mut self.supernode {
                    supernode.answer_invitation(to, accepted, now);
                }
            }
            Task::Serve(roles) => self.serve(roles),
            Task::Drain { within_ms, why } => {
                tracing::info!(?why, within_ms, "this node stops serving");
                match &mut self.supernode {
                    Some(supernode) => supernode.drain(within_ms, now),
                    None => self.election.handle_drained(now),
                }
            }
        }
    }

    fn invite_reserve(&mut self, reserve: ServiceKey, now: Now) {
        tracing::info!(%reserve, "a reserve is invited to serve");
        if let Some(supernode) = &mut self.supernode {
            supernode.invite(reserve, now);
        }
    }

    /// Serves in these roles from now on; without any nothing changes.
    fn serve(&mut self, roles: Roles) {
        let now = self.clock.now();
        self.look_at_ways(now);
        let wanted = roles != Roles::default();
        let Some(supernode) = self.supernode.as_mut().filter(|_| wanted) else { return };
        if supernode.roles() == roles && !supernode.is_draining() {
            return;
        }
        tracing::info!(?roles, "this node serves others");
        supernode.set_roles(roles, now);
        self.introduce_supernode(now);
        if !roles.contains(Roles::DIRECTORY) {
            self.close_echo();
        } else if self.echo.is_none() {
            self.open_echo(now);
        }
    }

    /// Test calls go to a device of its own, which others find by the directory.
    fn open_echo(&mut self, now: Now) {
        let makings = Makings::new(&self.config, &self.network, &self.media_ends, self.ports.clone());
        let echo = Echo::new(&makings.lending(&self.installation), now);
        let known = first_supernodes(&self.config, &self.installation);
        match echo {
            Ok(echo) => self.install_echo(echo, &known),
            Err(error) => {
                tracing::warn!(detail = error.problem().message, "the echo service does not start");
            }
        }
    }
}
