//! The loop: one event at a time goes to whom it concerns, then everybody's news are taken, then the clock is set.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tandem_api::{CallDirection, CallStep, NodeEvent, Ready};
use tandem_core::call::{CallEvent, CallId, InvitationId};
use tandem_core::peer::PeerRef;
use tandem_core::time::Now;
use tandem_proto::identity::Address;
use tandem_proto::ids::AccountKey;
use tokio::sync::{mpsc, watch};

use super::call_log::{CallBegin, LiveCall};
use super::clock::{Clock, SleepWatch};
use super::devices::DeviceDesk;
use super::election::Election;
use super::ending::Stopping;
use super::media::{EndpointPlan, MediaNews};
use super::peers::PeerTable;
use super::phone::{FinalReport, Phone, PhoneId, PhoneNews, Surroundings, recording_path};
use super::port_mapping::PortMapping;
use super::private::Private;
use super::start::{MEDIA_QUEUE, REPORT_QUEUE};
use super::strangers::{FoundProof, SentRequests};
use super::supernode::Supernode;
use super::volunteering::Volunteering;
use super::{media, memory, views};
use crate::config::{Answer, Config};
use crate::handle::{NodeSide, Reply};
use crate::installation::Installation;
use crate::network_check::LastCheck;
use crate::overlay::{DeviceEvent, Membership, ServiceEvent};
use crate::platform::network::{Change, Network};
use crate::policy::Warden;

/// Calls that live at once, ended ones whose figures are awaited included.
pub(crate) const CALLS_MAX: usize = 16;
/// A leaf that has one home waits this long for the others before it says that it is ready.
const MORE_HOMES_MS: u64 = 400;
/// A supernode is ready without homes of its own after this long.
const SUPERNODE_READY_MS: u64 = 1_500;
/// How often the person's device hears which supernodes its own supernode knows, while it lacks homes.
const INTRODUCE_MS: u64 = 1_000;
/// How often the clocks are compared, to notice that the machine slept.
const CLOCKS_MS: u64 = 1_000;
/// An echo call is ended after this long.
const ECHO_CALL_MS: u64 = 5 * 60_000;
/// Calls whose reports and recordings stay in the data folder.
const REPORTS_KEPT: usize = 50;

/// What the loop listens to.
pub(crate) struct Inputs {
    pub(crate) side: NodeSide,
    pub(crate) person: mpsc::Receiver<DeviceEvent>,
    pub(crate) media: mpsc::Receiver<MediaNews>,
    pub(crate) reports: mpsc::Receiver<FinalReport>,
    pub(crate) network: Option<watch::Receiver<Network>>,
    pub(crate) proofs: mpsc::Receiver<FoundProof>,
}

/// What the swarms of the service part say; they come and go while the node runs.
#[derive(Debug, Default)]
pub(crate) struct Feeds {
    pub(crate) echo: Option<mpsc::Receiver<DeviceEvent>>,
    pub(crate) service: Option<mpsc::Receiver<ServiceEvent>>,
    pub(crate) scout: Option<mpsc::Receiver<DeviceEvent>>,
}

/// Where every call's media speak to the loop, and what they and their phones must ask before they touch the network.
#[derive(Debug, Clone)]
pub(crate) struct MediaEnds {
    pub(crate) news: mpsc::Sender<MediaNews>,
    pub(crate) reports: mpsc::Sender<FinalReport>,
    pub(crate) warden: Warden,
    /// In a private network.
    pub(crate) membership: Option<Membership>,
}

impl MediaEnds {
    /// These, and what the loop listens to.
    pub(super) fn new(
        warden: Warden,
        membership: Option<Membership>,
    ) -> (Self, mpsc::Receiver<MediaNews>, mpsc::Receiver<FinalReport>) {
        let (news, media) = mpsc::channel(MEDIA_QUEUE);
        let (reports, ended) = mpsc::channel(REPORT_QUEUE);
        (Self { news, reports, warden, membership }, media, ended)
    }
}

/// The node.
pub(crate) struct Node {
    pub(crate) clock: Clock,
    pub(crate) started: Now,
    pub(crate) config: Config,
    pub(crate) installation: Installation,
    pub(crate) peers: PeerTable,
    pub(crate) person: Phone,
    pub(crate) echo: Option<Phone>,
    pub(crate) supernode: Option<Supernode>,
    /// Calls of the person, by id.
    pub(crate) calls: BTreeMap<CallId, LiveCall>,
    /// Echo calls going on, and when they are ended.
    pub(crate) echo_calls: BTreeMap<CallId, u64>,
    pub(crate) reachable_since_ms: Option<u64>,
    pub(crate) introduced_ms: u64,
    pub(crate) ready: Option<Ready>,
    /// What the last look at the network found.
    pub(crate) last_check: LastCheck,
    pub(crate) stopping: Option<Stopping>,
    pub(crate) network: Network,
    pub(crate) sleep: SleepWatch,
    pub(crate) clocks_ms: u64,
    pub(super) devices: DeviceDesk,
    /// Silent requests of ours in this run.
    pub(crate) sent: SentRequests,
    /// Where workers put proofs that they found.
    pub(crate) proofs: mpsc::Sender<FoundProof>,
    pub(crate) ports: PortMapping,
    /// What an organisation allows, and where what it refused is noted.
    pub(crate) warden: Warden,
    /// Memberships, in a private network.
    pub(super) private: Option<Private>,
    /// Set when the proof that is looked for is no longer wanted.
    pub(crate) solving: Arc<AtomicBool>,
    /// What the owner agreed to, and what was served.
    pub(crate) volunteering: Volunteering,
    pub(crate) feeds: Feeds,
    pub(crate) media_ends: MediaEnds,
    /// The network as it changes, for those who follow it in tasks of their own.
    pub(crate) network_watch: watch::Receiver<Network>,
    pub(super) election: Election,
}

enum Step {
    Request(Option<crate::handle::Request>),
    Person(Option<DeviceEvent>),
    Echo(Option<DeviceEvent>),
    Service(Option<ServiceEvent>),
    Scout(Option<DeviceEvent>),
    Media(Option<MediaNews>),
    Report(Option<FinalReport>),
    Network(Network),
    Proof(Option<FoundProof>),
    Timer,
}

impl Node {
    /// Runs until a shutdown has been asked for and done.
    pub(crate) async fn run(mut self, mut inputs: Inputs) {
        self.settle(&inputs.side);
        loop {
            let wake = self.wake();
            let due = tokio::time::Instant::from_std(self.clock.instant(wake));
            // In no fixed order: a flood from outside must not keep the person, or the clock, from their turn.
            let step = tokio::select! {
                news = inputs.media.recv() => Step::Media(news),
                event = inputs.person.recv() => Step::Person(event),
                event = receive(&mut self.feeds.service) => Step::Service(event),
                event = receive(&mut self.feeds.echo) => Step::Echo(event),
                event = receive(&mut self.feeds.scout) => Step::Scout(event),
                report = inputs.reports.recv() => Step::Report(report),
                network = news_of(&mut inputs.network) => Step::Network(network),
                proof = inputs.proofs.recv() => Step::Proof(proof),
                request = inputs.side.requests.recv() => Step::Request(request),
                () = tokio::time::sleep_until(due) => Step::Timer,
            };
            if !self.take(step, &inputs.side) {
                break;
            }
            self.compare_clocks();
            if self.clock.now().mono_ms >= wake {
                self.handle_timers();
            }
            self.settle(&inputs.side);
            if self.may_end() {
                break;
            }
        }
        self.end().await;
    }

    /// One step; false when the node cannot go on.
    fn take(&mut self, step: Step, side: &NodeSide) -> bool {
        match step {
            Step::Request(Some(request)) => self.take_request(request, side),
            Step::Request(None) => self.begin_stop(Duration::ZERO, side),
            Step::Person(Some(event)) => {
                self.with_person(|phone, around| phone.handle_overlay(event, around))
            }
            Step::Person(None) => {
                tracing::error!("the device swarm ended: the node stops");
                return false;
            }
            Step::Echo(event) => {
                if let Some(event) = event {
                    self.with_echo(|phone, around| phone.handle_overlay(event, around));
                }
            }
            Step::Service(Some(event)) => {
                let now = self.clock.now();
                if let Some(supernode) = &mut self.supernode {
                    supernode.handle_overlay(event, now);
                }
            }
            Step::Service(None) => self.lost_service(),
            Step::Scout(Some(event)) => self.take_scout(event),
            Step::Scout(None) => self.lost_service(),
            Step::Media(Some(news)) => match news.phone {
                PhoneId::Person => self.with_person(|phone, around| phone.handle_media(news, around)),
                PhoneId::Echo => self.with_echo(|phone, around| phone.handle_media(news, around)),
            },
            Step::Report(Some(report)) => {
                if let (PhoneId::Person, Some(call)) = (report.phone, self.call_mut(report.call)) {
                    call.take_report(report.report);
                }
            }
            Step::Network(network) => self.take_network(network),
            Step::Proof(Some(FoundProof { leg, proof })) => {
                self.with_person(|phone, around| phone.handle_proof(leg, proof, around));
            }
            Step::Media(None) | Step::Report(None) | Step::Proof(None) => {}
            // The loop sees to the timers after every step.
            Step::Timer => {}
        }
        true
    }

    /// The machine's network is another.
    fn take_network(&mut self, network: Network) {
        let change = network.change_since(&self.network);
        tracing::info!(?change, addresses = network.addresses.len(), "the network changed");
        tracing::debug!(?network, "the network now");
        self.network = network.clone();
        self.with_phones(|phone, around| phone.handle_network(&network, change, around));
        if change == Change::Moved {
            self.restart_election();
        }
    }

    /// A machine that slept may have woken up anywhere: all that stood is made anew.
    fn compare_clocks(&mut self) {
        let now = self.clock.reading();
        if now.mono_ms >= self.clocks_ms + CLOCKS_MS {
            self.count_served();
        }
        self.clocks_ms = now.mono_ms;
        if let Some(private) = &mut self.private
            && private.refresh(now.mono_ms, now.unix_ms)
        {
            tracing::info!("the memberships of the private network were read again");
        }
        let (person, echo) = (&self.person, self.echo.as_ref());
        self.peers.trim(|peer| person.knows(peer) || echo.is_some_and(|echo| echo.knows(peer)));
        self.write_measured(false);
        if let Some(slept_ms) = self.sleep.note(now) {
            tracing::info!(slept_ms, "the machine slept");
            let network = self.network.clone();
            self.with_phones(|phone, around| phone.handle_network(&network, Change::Moved, around));
            self.restart_election();
        }
    }

    /// What was measured of homes goes to disk now and then.
    pub(super) fn write_measured(&mut self, at_once: bool) {
        let mut measured = Vec::new();
        self.with_person(|phone, around| measured = phone.measured(at_once, around));
        memory::remember_qualities(&self.installation.store, &measured);
    }

    fn handle_timers(&mut self) {
        let now = self.clock.now();
        if self.person.poll_timeout().is_some_and(|at| at <= now.mono_ms) {
            self.with_person(Phone::handle_timeout);
        }
        if self.echo.as_ref().and_then(Phone::poll_timeout).is_some_and(|at| at <= now.mono_ms) {
            self.with_echo(Phone::handle_timeout);
        }
        if let Some(supernode) = &mut self.supernode
            && supernode.poll_timeout().is_some_and(|at| at <= now.mono_ms)
        {
            supernode.handle_timeout(now);
        }
        self.handle_election_timeout();
        self.drive_devices();
        self.mend_set();
        self.renew_papers();
        self.answer_due(now);
        let due = |call: &LiveCall| call.hang_up_at().is_some_and(|at| at <= now.mono_ms);
        let over: Vec<CallId> =
            self.calls.iter().filter(|(_, call)| due(call)).map(|(call, _)| *call).collect();
        for call in over {
            self.hang_up(call);
        }
        let over: Vec<CallId> =
            self.echo_calls.iter().filter(|(_, at)| **at <= now.mono_ms).map(|(call, _)| *call).collect();
        for call in over {
            self.echo_calls.remove(&call);
            self.with_echo(|phone, around| phone.hang_up(call, around));
        }
        if self.serves() && now.mono_ms >= self.introduced_ms + INTRODUCE_MS {
            self.introduced_ms = now.mono_ms;
            self.introduce();
        }
    }

    /// When something is due, in the clock's milliseconds.
    fn wake(&self) -> u64 {
        let now_ms = self.clock.now().mono_ms;
        let introduce = self.serves().then_some(self.introduced_ms + INTRODUCE_MS);
        let ready = self.ready.is_none().then(|| self.ready_ms(now_ms)).flatten();
        let next = [
            self.person.poll_timeout(),
            self.echo.as_ref().and_then(Phone::poll_timeout),
            self.supernode.as_ref().and_then(Supernode::poll_timeout),
            self.election_timeout(),
            self.devices.poll_timeout(),
            self.calls.values().filter_map(LiveCall::hang_up_at).min(),
            self.calls.values().filter_map(LiveCall::answer_at).min(),
            self.echo_calls.values().min().copied(),
            introduce,
            Some(self.clocks_ms + CLOCKS_MS),
            ready,
            self.stopping.map(|stopping| stopping.until_ms.min(now_ms + 100)),
        ];
        next.into_iter().flatten().min().unwrap_or(now_ms + 60_000)
    }

    /// When the node may count as ready though nothing else happens.
    fn ready_ms(&self, now_ms: u64) -> Option<u64> {
        let reachable = self.reachable_since_ms.map(|since| since + MORE_HOMES_MS);
        let alone = self.serves().then_some(self.started.mono_ms + SUPERNODE_READY_MS);
        reachable.into_iter().chain(alone).filter(|at| *at > now_ms).min()
    }

    /// It serves others now.
    pub(crate) fn serves(&self) -> bool {
        self.supernode.as_ref().is_some_and(Supernode::serves)
    }

    /// Takes everybody's news until nobody has any.
    fn settle(&mut self, side: &NodeSide) {
        loop {
            let mut quiet = true;
            while let Some(news) = self.person.poll_news() {
                quiet = false;
                self.take_person_news(news, side);
            }
            while let Some(news) = self.echo.as_mut().and_then(Phone::poll_news) {
                quiet = false;
                self.take_echo_news(news);
            }
            while let Some(news) = self.supernode.as_mut().and_then(Supernode::poll_news) {
                quiet = false;
                self.take_supernode_news(news);
            }
            quiet &= !self.settle_election(side);
            if quiet {
                break;
            }
        }
        self.finish_calls(side);
        self.note_ready(side);
    }

    fn take_person_news(&mut self, news: PhoneNews, side: &NodeSide) {
        let now = self.clock.now();
        match news {
            PhoneNews::Homes => {
                self.reachable_since_ms = match (self.person.is_reachable(), self.reachable_since_ms) {
                    (true, None) => Some(now.mono_ms),
                    (true, since) => since,
                    (false, _) => None,
                };
                let homes = views::home_names(self);
                announce(side, NodeEvent::Homes { ready: self.person.is_reachable(), homes });
            }
            PhoneNews::Descriptors(descriptors) => {
                memory::remember_supernodes(&self.installation.store, &descriptors);
            }
            PhoneNews::Seen { account, seen } => {
                memory::remember_seen(&self.installation.store, account, &seen)
            }
            PhoneNews::Record { account, record } => {
                memory::remember_record(&self.installation.store, account, &record);
            }
            PhoneNews::DeviceSet { account, device_set } => {
                memory::remember_device_set(&self.installation.store, account, &device_set);
            }
            PhoneNews::OwnSet(set) => self.take_own_set(set, side),
            PhoneNews::Revoked(set) => self.take_revocation(set, side),
            PhoneNews::OtherPapers(set) => self.take_other_papers(set, side),
            PhoneNews::Renewed(handed) => self.take_renewed(handed, side),
            PhoneNews::OwnRecord(outcome) => self.take_own_record(outcome, side),
            PhoneNews::Invited(result) => self.take_invited(result, side),
            PhoneNews::Probed { device, reachable } => self.take_probed(device, reachable),
            // Only a device that has no account yet waits for one, and it runs no loop.
            PhoneNews::Joined(_) => {}
            PhoneNews::Ring { call, from, name, invitation } => {
                self.take_ring((call, from), name, invitation, now, side);
            }
            PhoneNews::InvitationUsed { invitation, account } => {
                self.take_invitation_used(invitation, account);
            }
            PhoneNews::Request(arrived) => self.take_arrived_request(&arrived, side),
            PhoneNews::Solve { leg, challenge } => self.solve(leg, challenge),
            PhoneNews::Asked { request, outcome } => self.take_asked(request, outcome, side),
            PhoneNews::Call { call, event } => self.take_call_event(call, event, now, side),
            PhoneNews::Found { call, devices } => {
                let Some(live) = self.calls.get_mut(&call) else { return };
                let first = live.note_found(devices, now);
                // Later ones keep the routes of a call in progress fresh; they are no news for a person.
                if first && live.is_looking_up() {
                    let after_ms = live.since_ms(now);
                    announce(side, NodeEvent::Call(live.event(CallStep::Found { devices, after_ms }, now)));
                }
            }
            PhoneNews::Media { call, event } => {
                let event = self.calls.get_mut(&call).and_then(|live| live.take_media(&event, now));
                if let Some(event) = event {
                    announce(side, NodeEvent::Call(event));
                }
            }
            PhoneNews::Fact { call, fact } => {
                if let Some(live) = self.call_mut(call) {
                    live.note_fact(fact, now);
                }
            }
            PhoneNews::Trouble { call, why } => tracing::warn!(?call, why, "trouble with a call's sound"),
            PhoneNews::MediaEnding { call } => {
                if let Some(live) = self.call_mut(call) {
                    live.media_ending();
                }
            }
        }
    }

    fn take_call_event(&mut self, call: CallId, event: CallEvent, now: Now, side: &NodeSide) {
        if let CallEvent::Merged { into } = event {
            // Both called each other: the call that won goes on, for the person under the name that it had.
            if let Some(live) = self.calls.remove(&call) {
                self.calls.insert(into, live);
            }
            return;
        }
        if let Some(event) = self.calls.get_mut(&call).and_then(|live| live.take(event, now)) {
            announce(side, NodeEvent::Call(event));
        }
    }

    fn take_ring(
        &mut self,
        (call, from): (CallId, AccountKey),
        claimed_name: String,
        invitation: Option<InvitationId>,
        now: Now,
        side: &NodeSide,
    ) {
        let contact = self.installation.store.contact(from).ok().flatten();
        if self.calls.len() >= CALLS_MAX || self.stopping.is_some() || self.may_call().is_err() {
            self.with_person(|phone, around| phone.refuse(call, around));
            return;
        }
        let name = contact.as_ref().map(|contact| contact.name.clone());
        let invitation = invitation.and_then(|id| self.invitation_label(id));
        let begin = CallBegin {
            id: call,
            account: from,
            name: name.clone(),
            direction: CallDirection::Incoming,
            for_ms: None,
            record: None,
            relay_only: self.config.relay_only,
        };
        let mut live = LiveCall::new(begin, now);
        live.set_caller(&claimed_name, invitation.as_deref());
        let step = CallStep::Incoming {
            address: Address(from).to_string(),
            contact: name,
            claimed_name,
            invitation,
        };
        announce(side, NodeEvent::Call(live.event(step, now)));
        self.tell_call_begun(&live);
        self.calls.insert(call, live);
        let after_ms = u64::try_from(self.config.answer_after.as_millis()).unwrap_or(u64::MAX);
        if self.config.answer != Answer::Ring && after_ms > 0 {
            let live = self.calls.get_mut(&call);
            live.into_iter().for_each(|live| live.set_answer_at(now.mono_ms.saturating_add(after_ms)));
        } else {
            self.answer_by_rule(call);
        }
    }

    /// Answers calls that have rung for as long as `answer_after` says.
    fn answer_due(&mut self, now: Now) {
        let due = |live: &LiveCall| live.answer_at().is_some_and(|at| at <= now.mono_ms);
        let due: Vec<CallId> =
            self.calls.iter().filter(|(_, live)| due(live)).map(|(call, _)| *call).collect();
        for call in due {
            self.answer_by_rule(call);
        }
    }

    fn answer_by_rule(&mut self, call: CallId) {
        let plan = match &self.config.answer {
            Answer::Ring => return,
            Answer::Echo => EndpointPlan::Echo,
            Answer::Wav(path) => {
                // Where nothing may be recorded the call is answered all the same.
                let may = self.config.policy.may_record().is_ok();
                let record = may.then(|| recording_path(&self.installation.data, call));
                EndpointPlan::Files { play: Some(path.clone()), record }
            }
        };
        self.answer(call, plan);
    }

    /// Answers a ringing call; false when it does not ring (any more).
    pub(crate) fn answer(&mut self, call: CallId, plan: EndpointPlan) -> bool {
        if let Some(live) = self.calls.get_mut(&call) {
            live.clear_answer_at();
            live.set_endpoint(plan.clone());
            if let EndpointPlan::Files { record, .. } = &plan {
                live.set_record(record.clone());
                prepare_folder(record.as_ref());
            }
        }
        let mut answered = false;
        self.with_person(|phone, around| answered = phone.answer(call, plan, around).is_ok());
        answered
    }

    pub(crate) fn hang_up(&mut self, call: CallId) {
        if let Some(live) = self.calls.get_mut(&call) {
            live.note_hang_up();
        }
        self.with_person(|phone, around| phone.hang_up(call, around));
    }

    fn take_echo_news(&mut self, news: PhoneNews) {
        let now = self.clock.now();
        match news {
            PhoneNews::Ring { call, .. } => {
                self.echo_calls.insert(call, now.mono_ms + ECHO_CALL_MS);
                self.with_echo(|phone, around| {
                    if let Err(error) = phone.answer(call, EndpointPlan::Echo, around) {
                        tracing::debug!(%error, "an echo call was over before it was answered");
                    }
                });
            }
            PhoneNews::Call { call, event: CallEvent::Ended(_) } => {
                self.echo_calls.remove(&call);
            }
            // The echo remembers nobody.
            _ => {}
        }
    }

    /// Supernodes for the echo service to begin with.
    pub(crate) fn introduce_echo(&mut self, known: &[PeerRef]) {
        self.with_echo(|phone, around| phone.handle_known(known, around));
    }

    /// Tells the person's device which supernodes this node's own supernode knows, while it lacks homes.
    fn introduce(&mut self) {
        let Some(supernode) = &self.supernode else { return };
        let mut known: Vec<PeerRef> = Vec::new();
        for descriptor in supernode.supernodes() {
            known.extend(self.peers.insert_descriptor(descriptor.clone(), None));
            self.peers.named_by_home(&descriptor.service());
        }
        if self.person.homes().count() < tandem_core::homes::HOMES {
            self.with_person(|phone, around| phone.handle_known(&known, around));
        }
        if self.echo.as_ref().is_some_and(|echo| echo.homes().count() < tandem_core::homes::HOMES) {
            self.with_echo(|phone, around| phone.handle_known(&known, around));
        }
    }

    fn finish_calls(&mut self, side: &NodeSide) {
        let now = self.clock.now();
        let finished: Vec<CallId> =
            self.calls.iter().filter(|(_, call)| call.is_finished()).map(|(call, _)| *call).collect();
        for id in finished {
            let Some(done) = self.calls.remove(&id).and_then(|mut call| call.finish(now)) else { continue };
            self.tell_call_ended(&done.stored);
            memory::remember_call(&self.installation.store, &done.stored);
            write_report(&self.installation.data, &done.report);
            announce(side, NodeEvent::Call(done.event));
        }
    }

    fn note_ready(&mut self, side: &NodeSide) {
        let now_ms = self.clock.now().mono_ms;
        let up_ms = now_ms - self.started.mono_ms;
        let listening = self.supernode.as_ref().is_none_or(Supernode::is_listening);
        let homes = self.person.homes().count();
        let reachable = self
            .reachable_since_ms
            .is_some_and(|since| homes >= tandem_core::homes::HOMES || now_ms >= since + MORE_HOMES_MS);
        let alone = self.serves() && (self.config.bootstrap.is_empty() || up_ms >= SUPERNODE_READY_MS);
        let was = self.ready.is_some();
        if listening && (was || reachable || alone) {
            media::warm_up();
            let ready = views::ready(self);
            if self.ready.as_ref() != Some(&ready) {
                self.ready = Some(ready.clone());
                // Nobody listens any more when the front end is gone.
                drop(side.ready.send(Some(ready)));
            }
        }
    }

    /// A call by the machine's id for it, or by one that it had before two calls became one.
    fn call_mut(&mut self, call: CallId) -> Option<&mut LiveCall> {
        if self.calls.contains_key(&call) {
            return self.calls.get_mut(&call);
        }
        self.calls.values_mut().find(|live| live.id == call)
    }

    // ---- borrowing ----------------------------------------------------------------------------------------------

    pub(crate) fn with_person(&mut self, act: impl FnOnce(&mut Phone, &mut Surroundings<'_>)) {
        let store = &self.installation.store;
        let seen = |account| memory::seen(store, account);
        let remembered = |account| memory::remembered_record(store, account);
        let now = self.clock.now();
        let mut around = Surroundings { now, peers: &mut self.peers, seen: &seen, remembered: &remembered };
        act(&mut self.person, &mut around);
    }

    fn with_phones(&mut self, mut act: impl FnMut(&mut Phone, &mut Surroundings<'_>)) {
        self.with_person(&mut act);
        self.with_echo(act);
    }

    fn with_echo(&mut self, act: impl FnOnce(&mut Phone, &mut Surroundings<'_>)) {
        let Some(echo) = &mut self.echo else { return };
        let now = self.clock.now();
        let mut around = Surroundings { now, peers: &mut self.peers, seen: &|_| None, remembered: &|_| None };
        act(echo, &mut around);
    }
}

/// Tells whoever listens; nobody listening is no error.
pub(crate) fn announce(side: &NodeSide, event: NodeEvent) {
    drop(side.events.send(event));
}

/// Answers a request; an asker that has gone away needs no answer.
pub(crate) fn answer<T>(reply: Reply<T>, result: Result<T, tandem_api::Problem>) {
    drop(reply.send(result));
}

async fn receive<T>(input: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match input {
        Some(receiver) => {
            let event = receiver.recv().await;
            if event.is_none() {
                // Ended: never polled again, so that the loop does not spin.
                *input = None;
            }
            event
        }
        None => std::future::pending().await,
    }
}

/// The network, when it has changed.
async fn news_of(input: &mut Option<watch::Receiver<Network>>) -> Network {
    loop {
        match input {
            Some(receiver) => {
                if receiver.changed().await.is_ok() {
                    return receiver.borrow_and_update().clone();
                }
                // Nobody watches any more.
                *input = None;
            }
            None => std::future::pending().await,
        }
    }
}

fn prepare_folder(record: Option<&PathBuf>) {
    if let Some(folder) = record.and_then(|path| path.parent())
        && let Err(error) = std::fs::create_dir_all(folder)
    {
        tracing::warn!(%error, "the folder for recordings cannot be made");
    }
}

fn write_report(data: &std::path::Path, report: &tandem_api::CallReport) {
    let folder = data.join("calls");
    let result = std::fs::create_dir_all(&folder).and_then(|()| {
        let text = serde_json::to_vec(report)?;
        let unfinished = folder.join(format!("{}.part", report.call.call));
        std::fs::write(&unfinished, text)?;
        std::fs::rename(&unfinished, folder.join(format!("{}.json", report.call.call)))?;
        prune_reports(&folder)
    });
    if let Err(error) = result {
        tracing::warn!(%error, "the call's report cannot be written");
    }
}

/// Removes the oldest reports, and their recordings with them.
fn prune_reports(folder: &std::path::Path) -> std::io::Result<()> {
    let mut reports = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            reports.push((path.metadata()?.modified()?, path));
        }
    }
    reports.sort();
    let surplus = reports.len().saturating_sub(REPORTS_KEPT);
    for (_, report) in reports.into_iter().take(surplus) {
        let recording = report.with_extension("wav");
        if recording.exists() {
            std::fs::remove_file(recording)?;
        }
        std::fs::remove_file(report)?;
    }
    Ok(())
}
