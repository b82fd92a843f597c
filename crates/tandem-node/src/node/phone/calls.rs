//! Executes the call machine: signalling through the device swarm, grants through the links, media in threads.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use rand::seq::IteratorRandom as _;
use tandem_api::DeviceFailure;
use tandem_core::call::{
    AnswerError, AskError, CallEvent, CallId, CallOptions, CallStatus, Command, EndReason, LegId, PlaceError,
    Redundancy, RelayAccess, RelayWanted, Role, SignalId, Stage,
};
use tandem_core::dialing::Purpose;
use tandem_core::time::Now;
use tandem_media::session::{self, Candidate, Event, SessionConfig};
use tandem_proto::ids::{AccountKey, ServiceKey};
use tandem_proto::multiaddr::{Transport, TransportAddress};
use tandem_proto::request::PROOF_LEN;
use tandem_proto::signed::{DeviceSet, Roles};
use tandem_proto::wire::{Grant, PathReport, PathState, SupernodesRequest};
use tokio::sync::oneshot;

use super::circuits::Stream;
use super::{FinalReport, GrantErrand, LegMedia, Phone, PhoneNews, Surroundings};
use crate::node::media::{
    EndpointPlan, MediaCommand, MediaHandle, MediaNews, MediaNewsKind, MediaPlan, MediaReport, MediaSnapshot,
};
use crate::overlay::{self, DeviceCommand, DeviceEvent, SupernodeAddress};
use crate::platform::network::{Change, Network};
use crate::store::KnownStrangers;
use crate::why::CallFact;

/// Relays remembered of one leg, to ask them for another grant.
pub(super) const RELAYS_MAX: usize = 32;
/// A second home is tried when the first has not answered by then, in milliseconds.
pub(super) const RACE_AFTER_MS: u32 = 300;
/// The same when a call going on has lost its signalling: some of the homes may have died with it.
const RACE_HURRIED_MS: u32 = 60;
/// Relays asked of a home when a call needs more.
const RELAYS_ASKED: u32 = 16;
/// Relays that a home is asked about by name, at most.
const NAMED_MAX: usize = 16;
/// Homes asked at once, since one of them may be the supernode that has just died.
const HOMES_ASKED: usize = 2;

impl Phone {
    // ---- what the person wants ----------------------------------------------------------------------------------

    /// Places a call; news of it follow under this id.
    pub(crate) fn place(
        &mut self,
        call: CallId,
        account: AccountKey,
        options: CallOptions,
        endpoint: EndpointPlan,
        around: &mut Surroundings<'_>,
    ) -> Result<(), PlaceError> {
        self.refresh_relays(around);
        self.calls.place(call, account, options, around.now)?;
        self.endpoints.insert(call, endpoint);
        self.drive(around);
        Ok(())
    }

    pub(crate) fn answer(
        &mut self,
        call: CallId,
        endpoint: EndpointPlan,
        around: &mut Surroundings<'_>,
    ) -> Result<(), AnswerError> {
        self.calls.answer(call, around.now)?;
        self.endpoints.insert(call, endpoint);
        self.drive(around);
        Ok(())
    }

    /// A call that rings here shows no more addresses.
    pub(crate) fn keep_to_relays(&mut self, call: CallId, around: &mut Surroundings<'_>) {
        self.calls.keep_to_relays(call);
        self.drive(around);
    }

    pub(crate) fn decline(&mut self, call: CallId, around: &mut Surroundings<'_>) -> Result<(), AnswerError> {
        let result = self.calls.decline(call, EndReason::Declined, around.now);
        self.drive(around);
        result
    }

    /// Declines without asking the person: there are too many calls.
    pub(crate) fn refuse(&mut self, call: CallId, around: &mut Surroundings<'_>) {
        if let Err(error) = self.decline(call, around) {
            tracing::debug!(%error, "a call was over before it was refused");
        }
    }

    pub(crate) fn hang_up(&mut self, call: CallId, around: &mut Surroundings<'_>) {
        self.calls.hang_up(call, around.now);
        self.drive(around);
    }

    /// `relayed`: those of them with whom every call stays relayed.
    pub(crate) fn set_contacts(&mut self, contacts: Vec<AccountKey>, relayed: Vec<AccountKey>) {
        self.calls.set_contacts(contacts);
        self.calls.set_relayed(relayed);
    }

    /// What was seen of a contact in runs before.
    pub(crate) fn set_seen(&mut self, account: AccountKey, epoch: u64, set: Option<&DeviceSet>, now: Now) {
        self.calls.set_seen(account, epoch, set, now);
    }

    pub(crate) fn set_strangers(&mut self, known: KnownStrangers) {
        self.calls.set_blocked(known.blocked);
        self.calls.set_invitations(known.invitations);
        self.calls.set_requests(known.requests);
    }

    /// Leaves a silent request; `PhoneNews::Asked` says how it went.
    pub(crate) fn ask(
        &mut self,
        request: CallId,
        account: AccountKey,
        name: &str,
        message: &str,
        around: &mut Surroundings<'_>,
    ) -> Result<(), AskError> {
        self.calls.ask(request, account, name, message, around.now)?;
        self.drive(around);
        Ok(())
    }

    pub(crate) fn handle_proof(
        &mut self,
        leg: LegId,
        proof: Option<[u8; PROOF_LEN]>,
        around: &mut Surroundings<'_>,
    ) {
        self.calls.handle_proof(leg, proof, around.now);
        self.drive(around);
    }

    /// Asks the media of the call in progress how it stands; false when there is none.
    pub(crate) fn snapshot(&self, reply: oneshot::Sender<MediaSnapshot>) -> bool {
        let Some(leg) = self.calls.status().and_then(|status| status.leg) else { return false };
        self.media.get(&leg).is_some_and(|media| media.handle.tell(MediaCommand::Snapshot(reply)))
    }

    // ---- the machine's commands ---------------------------------------------------------------------------------

    pub(super) fn do_for_calls(&mut self, command: Command, around: &mut Surroundings<'_>) {
        match command {
            Command::LookUp { call, account } => self.look_up(call, account, around),
            Command::OpenSignal { leg, device, routes, hurry } => {
                let request = self.number();
                self.opening.insert(request, leg);
                self.tell_fact(CallFact::DeviceTried { leg, device, homes: routes.len() });
                let routes = routes
                    .into_iter()
                    .map(|home| SupernodeAddress { service: home.service, addresses: home.addresses })
                    .collect();
                let race_after_ms = if hurry { RACE_HURRIED_MS } else { RACE_AFTER_MS };
                let purpose = Purpose::Call;
                self.open_signal(Stream { request, device, routes, race_after_ms, purpose }, around.now);
            }
            Command::SendSignal { signal, frame } => {
                let send = DeviceCommand::SendSignal { signal: overlay::SignalId(signal.0), frame };
                self.send_overlay(send, around.now);
            }
            Command::CloseSignal(signal) => {
                self.send_overlay(DeviceCommand::CloseSignal(overlay::SignalId(signal.0)), around.now);
            }
            Command::Ring { call, from, name, invitation, .. } => {
                self.news.push_back(PhoneNews::Ring { call, from, name, invitation });
                // Told before there was a call to keep it with.
                let direct = self.media.values().any(|media| media.call == call && media.direct);
                self.tell_fact(CallFact::DirectAllowed(direct));
            }
            Command::InvitationUsed { invitation, account } => {
                self.news.push_back(PhoneNews::InvitationUsed { invitation, account });
            }
            Command::KeepRequest(new) => self.news.push_back(PhoneNews::Request(new)),
            Command::SolveProof { leg, challenge } => {
                self.news.push_back(PhoneNews::Solve { leg, challenge });
            }
            Command::Asked { request, outcome, .. } => {
                self.news.push_back(PhoneNews::Asked { request, outcome });
            }
            Command::RequestGrants { leg, relays } => {
                for relay in relays {
                    self.remember_relay(leg, &relay);
                    self.request_allowed_grant(leg, &relay, around.now);
                }
            }
            Command::SetSignalIdle { signal, idle } => {
                let signal = overlay::SignalId(signal.0);
                self.send_overlay(DeviceCommand::SetSignalIdle { signal, idle }, around.now);
            }
            Command::ConfirmRelays { leg, relays } => self.confirm_relays(leg, relays, around),
            Command::RefreshRelays => {
                self.ask_relays(around);
                self.refresh_relays(around);
            }
            Command::RememberDeviceSet { account, device_set, .. } => {
                self.news.push_back(PhoneNews::DeviceSet { account, device_set });
            }
            Command::Report { call, event } => {
                match &event {
                    CallEvent::Ended(_) => drop(self.endpoints.remove(&call)),
                    // Both called each other: microphone and speaker go on with the call that won.
                    CallEvent::Merged { into } => {
                        if let Some(endpoint) = self.endpoints.remove(&call) {
                            self.endpoints.insert(*into, endpoint);
                        }
                    }
                    _ => {}
                }
                self.news.push_back(PhoneNews::Call { call, event });
            }
            command => self.do_for_media(command, around.now),
        }
    }

    /// A call that is going on can wait until there is a home to ask.
    fn look_up(&mut self, call: CallId, account: AccountKey, around: &mut Surroundings<'_>) {
        let begun = self.calls.status().is_some_and(|status| status.stage > Stage::LookingUp);
        if begun && self.homes.reserved().next().is_none() {
            self.look_up_again = Some((call, account));
        } else {
            self.begin_look_up(call, account, around);
        }
    }

    /// There is a home to ask (again).
    pub(super) fn look_up_again(&mut self, around: &mut Surroundings<'_>) {
        let Some((call, account)) = self.look_up_again.take() else { return };
        if self.calls.status().is_some_and(|status| status.call == call) {
            self.begin_look_up(call, account, around);
        }
    }

    /// Every leg hears of the network, those that may not show their addresses too: their relays are reached anew.
    pub(super) fn tell_all_media(&mut self, network: &Network, change: Change) {
        let legs: Vec<LegId> = self.media.keys().copied().collect();
        for leg in legs {
            self.tell_media(leg, MediaCommand::Network(network.clone(), change));
        }
    }

    fn do_for_media(&mut self, command: Command, now: Now) {
        match command {
            Command::PrepareMedia { call, leg, role, direct_allowed, redundancy } => {
                self.prepare_media((call, leg), role, direct_allowed, redundancy, now);
            }
            Command::RemoteMedia { leg, media } => {
                self.tell_media(leg, MediaCommand::RemoteDescription(media))
            }
            Command::AddRelay { leg, service, access, .. } => {
                self.add_relay(leg, service, access);
            }
            Command::AddRemoteCandidate { leg, candidate, .. } => {
                if let Some(candidate) = Candidate::from_wire(&candidate) {
                    self.tell_fact(CallFact::TheirCandidate(candidate));
                    self.tell_media(leg, MediaCommand::RemoteCandidate(candidate));
                }
            }
            Command::StartMedia { call, leg } => {
                let silent = EndpointPlan::Files { play: None, record: None };
                let plan = self.endpoints.get(&call).cloned().unwrap_or(silent);
                self.tell_media(leg, MediaCommand::Start(plan));
            }
            Command::RemotePathReport { leg, sequence, paths } => {
                self.tell_media(leg, MediaCommand::RemotePathReport(PathReport { sequence, paths }));
            }
            Command::EndMedia { leg } => self.end_media(leg, now),
            other => debug_assert!(false, "not a command for media: {other:?}"),
        }
    }

    /// Asks homes for relays it knows now; they come to the call machine when the answer does.
    fn ask_relays(&mut self, around: &Surroundings<'_>) {
        let homes = self.homes.reserved().filter_map(|peer| Some(around.peers.get(peer)?.service));
        for home in homes.sample(&mut rand::rng(), HOMES_ASKED) {
            let (roles, limit) = (Roles::RELAY.0, RELAYS_ASKED);
            let request = SupernodesRequest { roles, limit, ..SupernodesRequest::default() };
            self.links.ask_supernodes(home, request, around.now);
        }
    }

    /// The call machine wants to know which of these relays our homes know.
    fn confirm_relays(&mut self, leg: LegId, relays: Vec<ServiceKey>, around: &Surroundings<'_>) {
        // Those of the redraws come on top; a leg that has gone asks nothing.
        let asked = self.confirming.entry(leg).or_default();
        asked.extend(relays);
        let surplus = asked.len().saturating_sub(RELAYS_MAX);
        asked.drain(..surplus);
        self.tell_confirmed(around);
        let Some(asked) = self.confirming.get(&leg) else { return };
        let named: Vec<Vec<u8>> = asked.iter().take(NAMED_MAX).map(|relay| relay.0.to_vec()).collect();
        let homes: Vec<ServiceKey> =
            self.homes.reserved().filter_map(|peer| Some(around.peers.get(peer)?.service)).collect();
        for home in homes {
            let (roles, limit, named) = (Roles::RELAY.0, RELAYS_ASKED, named.clone());
            let request = SupernodesRequest { roles, limit, named, ..SupernodesRequest::default() };
            self.links.ask_supernodes(home, request, around.now);
        }
    }

    /// What the homes have said meanwhile.
    pub(super) fn tell_confirmed(&mut self, around: &Surroundings<'_>) {
        for (leg, asked) in &mut self.confirming {
            let known: Vec<ServiceKey> =
                asked.extract_if(.., |relay| around.peers.is_named_by_home(relay)).collect();
            if !known.is_empty() {
                self.calls.handle_relays_confirmed(*leg, &known, around.now);
            }
        }
        self.confirming.retain(|_, asked| !asked.is_empty());
    }

    /// A relay says in its grant where it listens. That must be where its descriptor says, and a public address: no relay
    /// sends this device's datagrams to whom it likes, nor to where the policy forbids.
    fn add_relay(&mut self, leg: LegId, service: ServiceKey, access: RelayAccess) {
        let Some(media) = self.media.get(&leg) else { return };
        let wanted = media.relays.iter().find(|known| known.service == service);
        let described = wanted.into_iter().flat_map(|known| known.relay.iter().chain(&known.addresses));
        let described = described.filter_map(|bytes| TransportAddress::from_bytes(bytes).ok());
        let described: Vec<IpAddr> = described.map(|address| address.ip).collect();
        let may_use = |at: SocketAddr| {
            described.contains(&at.ip())
                && self.public.is_public(at.ip())
                && self.public.warden().may_connect(Some(service), at).is_ok()
        };
        let access = relay_access(service, access, may_use);
        self.tell_media(leg, MediaCommand::AddRelay(access));
    }

    fn remember_relay(&mut self, leg: LegId, relay: &RelayWanted) {
        let Some(media) = self.media.get_mut(&leg) else { return };
        media.relays.retain(|known| known.service != relay.service);
        if media.relays.len() < RELAYS_MAX {
            media.relays.push(relay.clone());
        }
    }

    /// A relay in use no longer takes the grant: another one is asked for.
    fn renew_grant(&mut self, leg: LegId, relay: ServiceKey, now: Now) {
        let asked =
            self.grants.values().any(|errand| errand.leg == leg && errand.relay == relay && errand.renewal);
        let wanted =
            self.media.get(&leg).and_then(|media| media.relays.iter().find(|known| known.service == relay));
        if let (Some(wanted), false) = (wanted.cloned(), asked) {
            self.request_grant(leg, &wanted, true, now);
        }
    }

    /// The links that grants were asked for on are gone: all are asked for again.
    pub(super) fn request_grants_again(&mut self, now: Now) {
        for GrantErrand { leg, relay, renewal } in std::mem::take(&mut self.grants).into_values() {
            let media = self.media.get(&leg);
            let wanted = media.and_then(|media| media.relays.iter().find(|known| known.service == relay));
            if let Some(wanted) = wanted.cloned() {
                self.request_grant(leg, &wanted, renewal, now);
            }
        }
    }

    /// The other side, or the draw, may have named a relay that this machine's policy forbids. It is as one that refused:
    /// the call goes over the others of its list.
    fn request_allowed_grant(&mut self, leg: LegId, relay: &RelayWanted, now: Now) {
        let policy = self.public.warden().policy();
        let nowhere = policy.allowed_addresses(relay.service, &relay.addresses).is_empty();
        let answer = match policy.may_know(relay.service) {
            Ok(()) if nowhere && !relay.addresses.is_empty() => relay
                .addresses
                .iter()
                .filter_map(|bytes| TransportAddress::from_bytes(bytes).ok())
                .try_for_each(|address| policy.may_connect(Some(relay.service), address.socket())),
            answer => answer,
        };
        match self.public.warden().noted(answer) {
            Ok(()) => self.request_grant(leg, relay, false, now),
            Err(refusal) => {
                let reason = refusal.to_string();
                self.tell_fact(CallFact::RelayAsked(relay.service));
                let refused = Some(reason.clone());
                self.tell_fact(CallFact::RelayAnswered { relay: relay.service, refused });
                self.calls.handle_grant(leg, relay.service, Err(reason), now);
            }
        }
    }

    fn request_grant(&mut self, leg: LegId, relay: &RelayWanted, renewal: bool, now: Now) {
        let errand = self.number();
        self.tell_fact(CallFact::RelayAsked(relay.service));
        self.grants.insert(errand, GrantErrand { leg, relay: relay.service, renewal });
        let at = SupernodeAddress { service: relay.service, addresses: relay.addresses.clone() };
        self.links.request_grant(errand, &at, &relay.tag.0, now);
    }

    pub(super) fn take_grant(
        &mut self,
        errand: u64,
        service: ServiceKey,
        grant: Result<Grant, String>,
        now: Now,
    ) {
        let Some(GrantErrand { leg, relay, renewal }) = self.grants.remove(&errand) else { return };
        debug_assert_eq!(relay, service, "an errand goes to one supernode");
        self.tell_fact(CallFact::RelayAnswered { relay, refused: grant.as_ref().err().cloned() });
        let access = grant.map(|grant| RelayAccess {
            username: grant.username,
            password: grant.password,
            addresses: grant.relay,
        });
        match access {
            Ok(access) if renewal => self.add_relay(leg, service, access),
            // Media asks again as long as it needs one.
            Err(reason) if renewal => tracing::debug!(%service, reason, "no other grant"),
            access => self.calls.handle_grant(leg, service, access, now),
        }
    }

    /// There is one call at a time: what is done is done for it.
    pub(super) fn tell_fact(&mut self, fact: CallFact) {
        if let Some(call) = self.calls.status().map(|status| status.call) {
            self.news.push_back(PhoneNews::Fact { call, fact });
        }
    }

    fn prepare_media(
        &mut self,
        (call, leg): (CallId, LegId),
        role: Role,
        direct: bool,
        redundancy: Redundancy,
        now: Now,
    ) {
        let session = SessionConfig {
            controlling: role == Role::Caller,
            redundancy: match redundancy {
                Redundancy::Auto => session::Redundancy::Auto,
                Redundancy::Always => session::Redundancy::Always,
                Redundancy::Off => session::Redundancy::Off,
            },
            ssrc: rand::random(),
            seed: rand::random(),
            udp_blocked: self.networks.is_udp_blocked(now.mono_ms),
        };
        let direct = direct && !self.public.warden().policy().calls.relay_only;
        self.tell_fact(CallFact::DirectAllowed(direct));
        let plan = MediaPlan {
            phone: self.id,
            leg,
            session,
            bind: self.bind,
            direct,
            network: self.networks.now().clone(),
            ports: self.ports.clone(),
            warden: self.public.warden().clone(),
        };
        match MediaHandle::spawn(plan, self.media_news.clone()) {
            Ok(handle) => {
                self.media
                    .insert(leg, LegMedia { call, direct, relays: Vec::new(), heard: Vec::new(), handle });
                self.homes.set_in_call(true, now);
            }
            Err(error) => self.calls.handle_media_failed(leg, &error.to_string(), now),
        }
    }

    fn tell_media(&mut self, leg: LegId, command: MediaCommand) {
        let Some(media) = self.media.get(&leg) else { return };
        if !media.handle.tell(command) {
            tracing::warn!(?leg, "the call's media does not take commands");
        }
    }

    fn end_media(&mut self, leg: LegId, now: Now) {
        self.confirming.remove(&leg);
        let Some(media) = self.media.remove(&leg) else { return };
        if self.media.is_empty() {
            self.homes.set_in_call(false, now);
        }
        let call = media.call;
        self.news.push_back(PhoneNews::MediaEnding { call });
        let (reply, report) = oneshot::channel();
        let told = media.handle.tell(MediaCommand::Stop(reply));
        let (phone, reports) = (self.id, self.reports.clone());
        while self.lingering.try_join_next().is_some() {}
        self.lingering.spawn(async move {
            // The handle must live until the thread has answered: its end would stop the thread at once.
            let report: Option<MediaReport> = if told { report.await.ok() } else { None };
            drop(reports.send(FinalReport { phone, call, report }).await);
            if told {
                media.handle.ended().await;
            }
        });
    }

    // ---- what others say ----------------------------------------------------------------------------------------

    pub(super) fn handle_signalling(&mut self, event: DeviceEvent, now: Now) {
        match event {
            DeviceEvent::SignalOpened { request, signal, device, via } => match self.opening.remove(&request)
            {
                Some(leg) => {
                    self.tell_fact(CallFact::DeviceReached { leg, via });
                    self.calls.handle_signal_opened(leg, SignalId(signal.0), device, via, now);
                }
                None => self.send_overlay(DeviceCommand::CloseSignal(signal), now),
            },
            DeviceEvent::SignalIncoming { signal, device, via } => {
                self.calls.handle_incoming(SignalId(signal.0), device, via, now);
            }
            DeviceEvent::SignalFrame { signal, frame } => {
                self.calls.handle_frame(SignalId(signal.0), frame, now)
            }
            DeviceEvent::SignalClosed { signal, reason } => {
                self.calls.handle_signal_closed(SignalId(signal.0), &reason, now);
            }
            DeviceEvent::HomeOpened { .. }
            | DeviceEvent::HomeFrame { .. }
            | DeviceEvent::HomeClosed { .. }
            | DeviceEvent::Reserved { .. }
            | DeviceEvent::ReservationLost { .. }
            | DeviceEvent::SignalFailed { .. } => {}
        }
    }

    /// A device was not reached. While the call is being set up the directory is asked again: the device may have
    /// moved to other homes since.
    pub(super) fn fail_signal(
        &mut self,
        request: u64,
        failure: DeviceFailure,
        reason: &str,
        around: &mut Surroundings<'_>,
    ) {
        if self.own_signal_failed(request, reason, around.now) {
            return;
        }
        let Some(leg) = self.opening.remove(&request) else { return };
        self.tell_fact(CallFact::DeviceFailed { leg, failure, reason: reason.to_owned() });
        self.calls.handle_signal_failed(leg, reason, around.now);
        let reaching = |status: &CallStatus| status.role == Role::Caller && status.stage == Stage::Reaching;
        if let Some(status) = self.calls.status().filter(reaching)
            && !self.look_ups.is_active(status.call)
        {
            self.begin_look_up(status.call, status.peer, around);
        }
    }

    pub(super) fn take_media(&mut self, news: MediaNews, now: Now) {
        let leg = news.leg;
        let Some(call) = self.media.get(&leg).map(|media| media.call) else { return };
        let event = match news.what {
            MediaNewsKind::Prepared(description) => {
                return self.calls.handle_media_prepared(leg, description, now);
            }
            MediaNewsKind::Failed(why) => return self.calls.handle_media_failed(leg, &why, now),
            MediaNewsKind::EndpointTrouble(why) => {
                self.calls.note(leg, &why);
                return self.news.push_back(PhoneNews::Trouble { call, why });
            }
            MediaNewsKind::Session(event) => event,
        };
        match &event {
            Event::LocalCandidate(candidate) => {
                self.calls.handle_local_candidates(leg, &[candidate.to_wire()], now);
            }
            Event::FirstMedia => self.calls.handle_first_media(leg, now),
            Event::PathChanged { why, .. } => self.calls.note(leg, why),
            Event::PathReport(report) => {
                self.note_heard(leg, &report.paths, now);
                self.calls.send_path_report(leg, report.paths.clone());
            }
            Event::RelayFailed { relay, retry_after: Some(after), .. } => {
                self.links.note_no_room(*relay, *after, now);
                self.calls.handle_relay_full(leg, *relay, now);
            }
            Event::RelayFailed { relay, .. } | Event::RelaySilent { relay } => {
                self.calls.handle_relay_dead(leg, *relay, now);
            }
            Event::RelayLeaving { relay } => self.calls.handle_relay_leaving(leg, *relay, now),
            Event::RelayBack { relay } => self.calls.handle_relay_alive(leg, *relay, now),
            Event::AllPathsSilent => self.calls.handle_all_paths_silent(leg, now),
            Event::PathsRecovered => self.calls.handle_sound_again(leg, now),
            Event::PeerEnded => self.calls.handle_peer_ended(leg, now),
            Event::Closed { reason } => self.calls.handle_media_failed(leg, reason, now),
            Event::Rate { bits_per_second, .. } => {
                let kbit = bits_per_second / 1_000;
                self.calls
                    .note(leg, &format!("Sound takes {kbit} kbit/s now, which is what the network carries."));
            }
            Event::UdpSeemsBlocked => self.networks.note_udp_blocked(now.mono_ms),
            Event::GrantStale { relay } => self.renew_grant(leg, *relay, now),
            Event::Connected
            | Event::Mirroring { .. }
            | Event::Opus { .. }
            | Event::HostSocket { .. }
            | Event::HostSocketClosed { .. } => {}
        }
        self.news.push_back(PhoneNews::Media { call, event });
    }

    /// Tells the call machine which relays fell silent and which are heard (again): it replaces the one and keeps the
    /// other. A relay on which nothing was heard yet has not fallen silent.
    fn note_heard(&mut self, leg: LegId, paths: &[PathState], now: Now) {
        let Some(media) = self.media.get_mut(&leg) else { return };
        let before = std::mem::take(&mut media.heard);
        let heard = paths.iter().filter(|path| path.hears);
        media.heard = heard.filter_map(|path| ServiceKey::try_from(path.relay.as_slice()).ok()).collect();
        for relay in media.heard.iter().filter(|relay| !before.contains(relay)) {
            self.calls.handle_relay_alive(leg, *relay, now);
        }
        for relay in before.iter().filter(|relay| !media.heard.contains(relay)) {
            self.calls.handle_relay_dead(leg, *relay, now);
        }
    }
}

/// Where a recording of a call that was answered by itself goes.
pub(crate) fn recording_path(data: &std::path::Path, call: CallId) -> PathBuf {
    data.join("calls").join(format!("{}.wav", call_name(call)))
}

/// A call's name in the API: 32 hexadecimal digits.
pub(crate) fn call_name(call: CallId) -> String {
    data_encoding::HEXLOWER.encode(&call.0)
}

/// A grant for media, with the addresses that may be used.
fn relay_access(
    service: ServiceKey,
    access: RelayAccess,
    may_use: impl Fn(SocketAddr) -> bool,
) -> session::RelayAccess {
    let mut udp = Vec::new();
    let mut tcp = Vec::new();
    let addresses = access.addresses.iter().filter_map(|bytes| TransportAddress::from_bytes(bytes).ok());
    for address in addresses.filter(|address| may_use(address.socket())) {
        match address.transport {
            Transport::Udp => udp.push(address.socket()),
            Transport::Tcp => tcp.push(address.socket()),
            Transport::Quic => {}
        }
    }
    session::RelayAccess { service, udp, tcp, username: access.username, password: access.password }
}
