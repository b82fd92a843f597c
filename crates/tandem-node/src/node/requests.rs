//! What the person asks of the node, one function a request.

use std::path::PathBuf;
use std::time::Duration;

use tandem_api::{
    AccountWords, CallDirection, CallEndpoint, CallRequest, CallResult, CallStarted, CallStep, CallSummary,
    CallWhy, ContactChange, EchoRequest, NetworkReport, NewContact, NodeEvent, Problem,
    Redundancy as ApiRedundancy, SoundAnswer, SoundOffer, WordsRequest,
};
use tandem_core::call::{CallId, CallOptions, PlaceError, Redundancy, SetupMs};
use tandem_proto::identity::{Address, Entropy};
use tandem_proto::ids::AccountKey;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::call_log::{CallBegin, LiveCall};
use super::connections::ConnectionNames;
use super::event_loop::{CALLS_MAX, Node, announce, answer};
use super::media::{EndpointPlan, MediaSnapshot, PageSound, check_playable};
use super::phone::call_name;
use super::views;
use crate::handle::{NodeSide, Reply, Request};
use crate::keys::{self, Passphrase};
use crate::messages::Code;
use crate::network_check::{self, CheckPlan, Target};
use crate::overlay::{ConnectionInfo, DeviceCommand, ServiceCommand};
use crate::store::{Store, StoredCall};
use crate::why;

/// A swarm or a call's thread that does not answer by then is left out of the answer.
const PARTS_WITHIN: Duration = Duration::from_millis(800);
const ECHO_CALL_MS: u64 = 5_000;

impl Node {
    pub(super) fn take_request(&mut self, request: Request, side: &NodeSide) {
        match request {
            Request::Status(reply) => answer(reply, Ok(views::status(self))),
            Request::Identity(reply) => answer(reply, Ok(views::identity(self))),
            Request::Words(request, reply) => self.tell_words(request, reply),
            Request::Volunteer(request) => self.take_volunteer_request(request),
            Request::Metrics(reply) => answer(reply, Ok(views::metrics(self))),
            Request::Network(reply) => self.tell_network(reply),
            Request::Connections(reply) => self.tell_connections(reply),
            Request::Contacts(reply) => {
                answer(reply, self.installation.store.contacts().map_err(|error| error.problem()));
            }
            Request::AddContact(new, reply) => self.add_contact(&new, reply, side),
            Request::ChangeContact { who, change, reply } => self.change_contact(&who, &change, reply, side),
            Request::RemoveContact { who, reply } => self.remove_contact(&who, reply, side),
            Request::Strangers(request) => self.take_stranger_request(request, side),
            Request::PlaceCall(request, reply) => {
                let result = self.place_call(request, side);
                answer(reply, result);
            }
            Request::Echo(request, reply) => {
                let result = self.place_echo(request, side);
                answer(reply, result);
            }
            Request::Answer { call, answer, reply } => self.answer_call(&call, answer.endpoint, reply, side),
            Request::AttachSound { call, offer, reply } => self.attach_sound(&call, offer, reply),
            Request::DetachSound { call, attachment, reply } => {
                let result = self.detach_sound(&call, attachment);
                answer(reply, result);
            }
            Request::Decline { call, reply } => self.end_call(&call, true, reply),
            Request::HangUp { call, reply } => self.end_call(&call, false, reply),
            Request::Calls { limit, reply } => self.tell_calls(limit, reply),
            Request::Why { call, reply } => self.tell_why(&call, reply),
            Request::Devices(reply) => self.list_devices(reply),
            Request::AddDevice(new, reply) => self.add_device(&new.link, &new.label, reply),
            Request::RenameDevice { who, change, reply } => self.rename_device(&who, &change.label, reply),
            Request::RevokeDevice { who, reply } => self.revoke_device(who, reply),
            Request::Shutdown { drain, reply } => {
                self.begin_stop(drain, side);
                answer(reply, Ok(()));
            }
        }
    }

    /// Whoever sealed the keys is asked for the passphrase again; trying one takes a while, so not here in the loop.
    fn tell_words(&self, request: WordsRequest, reply: Reply<AccountWords>) {
        let keys = &self.installation.keys;
        let Some(entropy) = &keys.entropy else { return answer(reply, Err(Code::NoAccountKey.problem())) };
        let words = |entropy: &Entropy| AccountWords {
            words: entropy.words().split_whitespace().map(str::to_owned).collect(),
        };
        if !keys.sealed {
            return answer(reply, Ok(words(entropy)));
        }
        let (data, unix_ms) = (self.installation.data.clone(), self.clock.now().unix_ms);
        let passphrase = request.passphrase.map(Zeroizing::new).and_then(Passphrase::new);
        tokio::task::spawn_blocking(move || {
            let opened = keys::open(&data, passphrase.as_ref(), unix_ms).map_err(|error| error.problem());
            let found = opened.and_then(|keys| keys.entropy.ok_or_else(|| Code::NoAccountKey.problem()));
            answer(reply, found.map(|entropy| words(&entropy)));
        });
    }

    // ---- contacts -----------------------------------------------------------------------------------------------

    fn add_contact(&mut self, new: &NewContact, reply: Reply<tandem_api::Contact>, side: &NodeSide) {
        let unix_ms = self.clock.now().unix_ms;
        let result = self.installation.store.add_contact(new, unix_ms).map_err(|error| error.problem());
        if let Ok(contact) = &result {
            announce(side, NodeEvent::ContactAdded { contact: contact.clone() });
        }
        self.people_changed();
        answer(reply, result);
    }

    fn change_contact(
        &mut self,
        who: &str,
        change: &ContactChange,
        reply: Reply<tandem_api::Contact>,
        side: &NodeSide,
    ) {
        let unix_ms = self.clock.now().unix_ms;
        let result =
            self.installation.store.change_contact(who, change, unix_ms).map_err(|error| error.problem());
        if let Ok(contact) = &result {
            announce(side, NodeEvent::ContactChanged { contact: contact.clone() });
        }
        self.people_changed();
        answer(reply, result);
    }

    fn remove_contact(&mut self, who: &str, reply: Reply<()>, side: &NodeSide) {
        let result = self.installation.store.remove_contact(who).map_err(|error| error.problem());
        if let Ok(account) = &result {
            announce(side, NodeEvent::ContactRemoved { address: Address(*account).to_string() });
        }
        self.people_changed();
        answer(reply, result.map(drop));
    }

    // ---- calls --------------------------------------------------------------------------------------------------

    fn place_call(&mut self, request: CallRequest, side: &NodeSide) -> Result<CallStarted, Problem> {
        if self.person.is_revoked() {
            return Err(Code::DeviceRevoked.problem());
        }
        let whom = self.installation.store.resolve_link(&request.address).map_err(|error| error.problem())?;
        let files = (request.play.map(PathBuf::from), request.record.map(PathBuf::from));
        let endpoint = self.endpoint(request.endpoint, files, side)?;
        let redundancy = request.redundancy.unwrap_or(self.config.redundancy);
        let relay_only = request.relay_only || self.config.relay_only;
        let (account, invitation) = whom;
        let options = CallOptions { relay_only, redundancy: core_redundancy(redundancy), invitation };
        self.place(account, endpoint, request.for_ms, options, side)
    }

    fn place_echo(&mut self, request: EchoRequest, side: &NodeSide) -> Result<CallStarted, Problem> {
        let unix_ms = self.clock.now().unix_ms;
        let own = self.echo.as_ref().map(super::phone::Phone::account);
        let echo = self
            .peers
            .descriptors(unix_ms)
            .filter_map(tandem_proto::signed::SupernodeDescriptor::echo)
            .find(|account| Some(*account) != own)
            .ok_or_else(|| Code::NoEchoService.problem())?;
        if request.endpoint == CallEndpoint::Echo {
            return Err(Code::BadRequest.with(&[("detail", "an echo that calls an echo has nothing to say")]));
        }
        let files = (request.play.map(PathBuf::from), request.record.map(PathBuf::from));
        let endpoint = self.endpoint(request.endpoint, files, side)?;
        // Before a page sits somebody who hangs up.
        let for_ms = request.for_ms.or_else(|| endpoint.page().is_none().then_some(ECHO_CALL_MS));
        let redundancy = core_redundancy(self.config.redundancy);
        let options = CallOptions { relay_only: self.config.relay_only, redundancy, invitation: None };
        let started = self.place(echo, endpoint, for_ms, options, side)?;
        if let Some(live) = self.calls.values_mut().find(|live| call_name(live.id) == started.call) {
            live.set_echo();
        }
        Ok(started)
    }

    /// What was asked to speak and listen. A page's thread ends by itself when nobody keeps it.
    fn endpoint(
        &self,
        kind: CallEndpoint,
        (play, record): (Option<PathBuf>, Option<PathBuf>),
        side: &NodeSide,
    ) -> Result<EndpointPlan, Problem> {
        if kind == CallEndpoint::Page && (play.is_some() || record.is_some()) {
            let detail = "a page plays and records nothing: leave play and record out";
            return Err(Code::BadRequest.with(&[("detail", detail)]));
        }
        Ok(match kind {
            CallEndpoint::File => EndpointPlan::Files { play, record },
            CallEndpoint::Echo => EndpointPlan::Echo,
            CallEndpoint::Page => {
                let page = PageSound::spawn(side.events.clone(), self.warden.clone());
                EndpointPlan::Page(
                    page.map_err(|error| Code::PageSound.with(&[("detail", &error.to_string())]))?,
                )
            }
        })
    }

    fn place(
        &mut self,
        account: AccountKey,
        endpoint: EndpointPlan,
        for_ms: Option<u64>,
        options: CallOptions,
        side: &NodeSide,
    ) -> Result<CallStarted, Problem> {
        if self.stopping.is_some() {
            return Err(Code::NodeStopped.problem());
        }
        self.may_call()?;
        if self.calls.len() >= CALLS_MAX {
            return Err(Code::TooManyCalls.problem());
        }
        if let EndpointPlan::Files { record: Some(_), .. } = &endpoint {
            self.warden.noted(self.config.policy.may_record()).map_err(|refusal| refusal.problem())?;
        }
        let record = check_files(&endpoint)?;
        let now = self.clock.now();
        if let Some(started) = self.take_up_theirs(account, &endpoint, for_ms, options.relay_only) {
            return Ok(started);
        }
        let id = CallId(rand::random());
        let contact = self.installation.store.contact(account).ok().flatten();
        let mut placed = Ok(());
        let kept = endpoint.clone();
        self.with_person(|phone, around| placed = phone.place(id, account, options, endpoint, around));
        placed.map_err(|error| match error {
            PlaceError::Busy => Code::TooManyCalls.problem(),
            PlaceError::Own => Code::CallSelf.problem(),
        })?;
        let begin = CallBegin {
            id,
            account,
            name: contact.map(|contact| contact.name),
            direction: CallDirection::Outgoing,
            for_ms,
            record,
            relay_only: options.relay_only,
        };
        let mut live = LiveCall::new(begin, now);
        live.set_endpoint(kept);
        let step = CallStep::LookingUp { address: Address(account).to_string() };
        announce(side, NodeEvent::Call(live.event(step, now)));
        self.tell_call_begun(&live);
        self.calls.insert(id, live);
        Ok(CallStarted { call: call_name(id) })
    }

    /// They ring just now: calling them answers that call.
    fn take_up_theirs(
        &mut self,
        account: AccountKey,
        endpoint: &EndpointPlan,
        for_ms: Option<u64>,
        relay_only: bool,
    ) -> Option<CallStarted> {
        let theirs = |live: &LiveCall| live.account == account && live.rings_here();
        let call = self.calls.iter().find(|(_, live)| theirs(live)).map(|(call, _)| *call)?;
        if relay_only {
            self.with_person(|phone, around| phone.keep_to_relays(call, around));
        }
        if !self.answer(call, endpoint.clone()) {
            return None;
        }
        let live = self.calls.get_mut(&call)?;
        live.set_length(for_ms);
        Some(CallStarted { call: call_name(live.id) })
    }

    fn answer_call(
        &mut self,
        name: &str,
        endpoint: CallEndpoint,
        reply: Reply<CallSummary>,
        side: &NodeSide,
    ) {
        let result = self.find_call(name).and_then(|call| {
            // A file without a name is silence.
            let plan = self.endpoint(endpoint, (None, None), side)?;
            if self.answer(call, plan) {
                Ok(self.summary_of(call))
            } else {
                Err(Code::CallState.with(&[("state", "it is not ringing here")]))
            }
        });
        answer(reply, result);
    }

    fn attach_sound(&mut self, name: &str, offer: SoundOffer, reply: Reply<SoundAnswer>) {
        let page = self.find_call(name).and_then(|call| {
            let live = self.calls.get(&call).ok_or_else(|| Code::NoSuchCall.problem())?;
            let page = live.page().ok_or_else(|| Code::NoPageHere.problem())?;
            Ok((page.clone(), call_name(live.id)))
        });
        let lan = offer.lan.then(|| self.network.hosts(false).first().copied()).flatten();
        match page {
            // The page's thread answers.
            Ok((page, name)) => page.attach(name, offer, lan, reply),
            Err(problem) => answer(reply, Err(problem)),
        }
    }

    fn detach_sound(&mut self, name: &str, attachment: Option<u64>) -> Result<(), Problem> {
        let call = self.find_call(name)?;
        let page =
            self.calls.get(&call).and_then(LiveCall::page).ok_or_else(|| Code::NoPageHere.problem())?;
        if page.detach(attachment) { Ok(()) } else { Err(Code::NodeBusy.problem()) }
    }

    fn end_call(&mut self, name: &str, decline: bool, reply: Reply<CallSummary>) {
        let result = self.find_call(name).map(|call| {
            let summary = self.summary_of(call);
            if decline {
                // A call that does not ring (any more) is hung up instead.
                let mut declined = false;
                self.with_person(|phone, around| declined = phone.decline(call, around).is_ok());
                if !declined {
                    self.hang_up(call);
                }
            } else {
                self.hang_up(call);
            }
            summary
        });
        answer(reply, result);
    }

    /// The call that a text names; the only one where it names none.
    fn find_call(&self, name: &str) -> Result<CallId, Problem> {
        let mut fitting = self.calls.iter().filter(|(_, live)| call_name(live.id).starts_with(name));
        match (fitting.next(), fitting.next()) {
            (Some((call, _)), None) => Ok(*call),
            (None, _) => Err(Code::NoSuchCall.problem()),
            (Some(_), Some(_)) => Err(Code::WhichCall.problem()),
        }
    }

    fn summary_of(&self, call: CallId) -> CallSummary {
        let status = self.person.calls().status().filter(|status| status.call == call);
        let setup = status.as_ref().map_or_else(SetupMs::default, |status| status.setup);
        let why = status.map(|status| status.notes.join(" ")).unwrap_or_default();
        self.calls.get(&call).map(|live| live.summary(None, setup, &why)).expect("the caller found it")
    }

    /// Live calls first, then past ones. The figures of the call in progress come from its own thread, so the answer
    /// is finished outside the loop.
    fn tell_calls(&self, limit: u32, reply: Reply<Vec<CallSummary>>) {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let past = match self.installation.store.calls(u32::try_from(limit).unwrap_or(u32::MAX)) {
            Ok(calls) => calls,
            Err(error) => return answer(reply, Err(error.problem())),
        };
        let past: Vec<CallSummary> =
            past.iter().map(|call| past_summary(&self.installation.store, call)).collect();
        let talking = self.person.calls().status().and_then(|status| Some(self.calls.get(&status.call)?.id));
        let mut live: Vec<CallSummary> = self.calls.keys().map(|id| self.summary_of(*id)).collect();
        live.sort_by_key(|call| std::cmp::Reverse(call.started_unix_ms));
        let stats = self.call_stats();
        tokio::spawn(async move {
            let stats = stats.within().await;
            if let (Some(stats), Some(talking)) = (stats, talking) {
                let name = call_name(talking);
                if let Some(call) = live.iter_mut().find(|call| call.call == name) {
                    super::call_log::put_stats(call, &stats.stats);
                }
            }
            live.extend(past);
            live.truncate(limit);
            answer(reply, Ok(live));
        });
    }

    /// Of a call that goes on from memory and its thread; of a past one from its report.
    fn tell_why(&self, name: &str, reply: Reply<CallWhy>) {
        let call = match self.find_call(name) {
            Ok(call) => call,
            Err(_) if !name.is_empty() || self.calls.is_empty() => {
                return answer(reply, why::of_past_call(&self.installation.data, name));
            }
            Err(problem) => return answer(reply, Err(problem)),
        };
        let Some(live) = self.calls.get(&call) else { return answer(reply, Err(Code::NoSuchCall.problem())) };
        let (name, started, facts) = (call_name(live.id), live.started_unix_ms(), live.facts());
        let stats = self.call_stats();
        tokio::spawn(async move {
            let stats = stats.within().await;
            answer(reply, Ok(super::call_log::why_live(name, started, facts, stats.as_ref())));
        });
    }

    /// The check runs beside the loop.
    fn tell_network(&self, reply: Reply<NetworkReport>) {
        let unix_ms = self.clock.now().unix_ms;
        let own = self.supernode.as_ref().map(super::supernode::Supernode::service_key);
        let known = self
            .peers
            .descriptors(unix_ms)
            .filter(|it| Some(it.service()) != own)
            .map(|it| Target::new(it.service(), it.known_addresses(), it.known_relay()))
            .collect();
        let plan = CheckPlan {
            targets: network_check::targets(known, &self.config),
            bind: self.config.source_address(),
            ask_router: self.config.port_mapping,
            clock_off_s: self
                .person
                .clock_skew_minutes()
                .map(|minutes| i64::try_from(minutes * 60).unwrap_or(i64::MAX)),
        };
        let last = self.last_check.clone();
        tokio::spawn(async move {
            let report = network_check::check(plan).await;
            last.note(report.kind);
            answer(reply, Ok(report));
        });
    }

    fn tell_connections(&self, reply: Reply<Vec<tandem_api::ConnectionView>>) {
        let names = ConnectionNames::of(self);
        let (device_tx, device) = oneshot::channel();
        let asked = self.person.overlay().try_send(DeviceCommand::Connections(device_tx)).is_ok();
        let device = Part::of(asked, device);
        let (echo_tx, echo) = oneshot::channel();
        let asked = self
            .echo
            .as_ref()
            .is_some_and(|phone| phone.overlay().try_send(DeviceCommand::Connections(echo_tx)).is_ok());
        let echo = Part::of(asked, echo);
        let (service_tx, service) = oneshot::channel();
        let asked = self
            .supernode
            .as_ref()
            .is_some_and(|node| node.overlay().try_send(ServiceCommand::Connections(service_tx)).is_ok());
        let service = Part::of(asked, service);
        let (scout_tx, scout) = oneshot::channel();
        let scout = Part::of(
            self.election
                .scout()
                .is_some_and(|it| it.overlay().try_send(DeviceCommand::Connections(scout_tx)).is_ok()),
            scout,
        );
        let call = self.call_stats();
        let (echo_tx, echo_call) = oneshot::channel();
        let echo_call = Part::of(self.echo.as_ref().is_some_and(|phone| phone.snapshot(echo_tx)), echo_call);
        tokio::spawn(async move {
            let device: Vec<ConnectionInfo> = device.within().await.unwrap_or_default();
            let echo: Vec<ConnectionInfo> = echo.within().await.unwrap_or_default();
            let service: Vec<ConnectionInfo> = service.within().await.unwrap_or_default();
            let mut views = names.views(&device, &service, call.within().await.as_ref());
            views.extend(names.scout_views(&scout.within().await.unwrap_or_default()));
            views.extend(names.echo_views(&echo, echo_call.within().await.as_ref()));
            answer(reply, Ok(views));
        });
    }

    fn call_stats(&self) -> Part<MediaSnapshot> {
        let (reply, stats) = oneshot::channel();
        Part::of(self.person.snapshot(reply), stats)
    }
}

/// One part of an answer that comes from another task.
struct Part<T>(Option<oneshot::Receiver<T>>);

impl<T> Part<T> {
    fn of(asked: bool, receiver: oneshot::Receiver<T>) -> Self {
        Self(asked.then_some(receiver))
    }

    async fn within(self) -> Option<T> {
        tokio::time::timeout(PARTS_WITHIN, self.0?).await.ok()?.ok()
    }
}

/// Refuses files that cannot be used before anybody is called. Returns where the recording goes.
fn check_files(endpoint: &EndpointPlan) -> Result<Option<PathBuf>, Problem> {
    let EndpointPlan::Files { play, record } = endpoint else { return Ok(None) };
    if let Some(path) = play {
        let problem = |detail: String| {
            Code::SoundFile.with(&[("path", &path.display().to_string()), ("detail", &detail)])
        };
        check_playable(path).map_err(problem)?;
    }
    if let Some(path) = record {
        let problem = |error: std::io::Error| {
            Code::SoundFile.with(&[("path", &path.display().to_string()), ("detail", &error.to_string())])
        };
        // An existing recording is not emptied before the call connects.
        std::fs::OpenOptions::new().create(true).append(true).open(path).map_err(problem)?;
    }
    Ok(record.clone())
}

fn past_summary(store: &Store, call: &StoredCall) -> CallSummary {
    let contact = store.contact(call.account).ok().flatten();
    CallSummary {
        call: call.id.clone(),
        address: Address(call.account).to_string(),
        name: contact.map(|contact| contact.name),
        direction: call.direction,
        state: tandem_api::CallState::Ended,
        started_unix_ms: call.started_unix_ms,
        answered_unix_ms: call.answered_unix_ms,
        ended_unix_ms: Some(call.ended_unix_ms),
        reason: Some(call.reason),
        result: CallResult::clone(&call.result),
        mirroring: false,
        relays_in_use: Vec::new(),
        path_changes: call.path_changes.clone(),
        endpoint: None,
        attachment: None,
        claimed_name: String::new(),
        invitation: None,
        echo: false,
    }
}

pub(super) fn core_redundancy(redundancy: ApiRedundancy) -> Redundancy {
    match redundancy {
        ApiRedundancy::Auto => Redundancy::Auto,
        ApiRedundancy::Always => Redundancy::Always,
        ApiRedundancy::Off => Redundancy::Off,
    }
}
