//! The calls of this node as a person sees them: what happened, the figures, the report at the end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tandem_api::{
    CallDirection, CallEvent as ApiCallEvent, CallFacts, CallPath, CallReport, CallResult, CallState,
    CallStep, CallSummary, CallWhy, EndReason as ApiEndReason, PacketCounts, PathChange, SetupTimes,
};
use tandem_core::call::{CallEvent, CallId, EndReason, Ended, SetupMs};
use tandem_core::time::Now;
use tandem_media::session::{Event, PathId, PathState, Route, SessionStats};
use tandem_proto::identity::Address;
use tandem_proto::ids::AccountKey;

use super::media::{EndpointPlan, MediaReport, MediaSnapshot, PageSound, STEP_MS, route_name};
use super::phone::call_name;
use crate::store::StoredCall;
use crate::why::{CallFact, Recorder, conclude, explain, put_session};

/// Path changes kept of one call; the first are the telling ones.
const PATH_CHANGES_MAX: usize = 200;

/// One call while it lives.
#[derive(Debug)]
pub(crate) struct LiveCall {
    /// The name the person knows the call by; the machine's may change when both call each other.
    pub(crate) id: CallId,
    pub(crate) account: AccountKey,
    name: Option<String>,
    direction: CallDirection,
    state: CallState,
    started: Now,
    answered_unix_ms: Option<u64>,
    connected: Option<Now>,
    /// Answer by itself then, if it still rings (monotonic milliseconds).
    answer_at: Option<u64>,
    /// Hang up this long after the first sound.
    for_ms: Option<u64>,
    record: Option<PathBuf>,
    /// What the caller calls itself, and the label of the invitation by which it rings.
    caller: (String, Option<String>),
    /// A test call.
    echo: bool,
    /// What speaks and listens here, once that is known.
    endpoint: Option<EndpointPlan>,
    mirroring: bool,
    /// The path sound leaves on, and the names of all that were.
    path: Option<Route>,
    paths: BTreeMap<PathId, String>,
    relays: Vec<String>,
    path_changes: Vec<PathChange>,
    /// The directory knew a device to call.
    found: bool,
    ended: Option<Ended>,
    /// The person here hung up.
    hung_up_here: bool,
    /// Legs whose media is ending: their figures are on their way.
    awaited_reports: u32,
    report: Option<MediaReport>,
    recorder: Recorder,
}

/// How a call began.
#[derive(Debug)]
pub(crate) struct CallBegin {
    pub(crate) id: CallId,
    pub(crate) account: AccountKey,
    pub(crate) name: Option<String>,
    pub(crate) direction: CallDirection,
    pub(crate) for_ms: Option<u64>,
    pub(crate) record: Option<PathBuf>,
    /// This side keeps to relays.
    pub(crate) relay_only: bool,
}

/// A call that is over, in the forms that are kept.
#[derive(Debug)]
pub(crate) struct FinishedCall {
    pub(crate) stored: StoredCall,
    pub(crate) event: ApiCallEvent,
    pub(crate) report: CallReport,
}

impl LiveCall {
    pub(crate) fn direction(&self) -> CallDirection {
        self.direction
    }

    pub(crate) fn new(begin: CallBegin, now: Now) -> Self {
        let state = match begin.direction {
            CallDirection::Outgoing => CallState::LookingUp,
            CallDirection::Incoming => CallState::Ringing,
        };
        let recorder = Recorder::new(begin.direction, begin.name.is_some(), begin.relay_only, now);
        Self {
            id: begin.id,
            account: begin.account,
            name: begin.name,
            direction: begin.direction,
            state,
            started: now,
            answered_unix_ms: None,
            connected: None,
            answer_at: None,
            for_ms: begin.for_ms,
            record: begin.record,
            caller: (String::new(), None),
            echo: false,
            endpoint: None,
            mirroring: false,
            path: None,
            paths: BTreeMap::new(),
            relays: Vec::new(),
            path_changes: Vec::new(),
            found: false,
            ended: None,
            hung_up_here: false,
            awaited_reports: 0,
            report: None,
            recorder,
        }
    }

    /// Something that explains the call.
    pub(crate) fn note_fact(&mut self, fact: CallFact, now: Now) {
        self.recorder.take_fact(fact, now);
    }

    pub(crate) fn set_record(&mut self, record: Option<PathBuf>) {
        self.record = record;
    }

    pub(crate) fn set_caller(&mut self, claimed_name: &str, invitation: Option<&str>) {
        self.caller = (claimed_name.to_owned(), invitation.map(str::to_owned));
    }

    pub(crate) fn set_echo(&mut self) {
        self.echo = true;
    }

    pub(crate) fn set_endpoint(&mut self, endpoint: EndpointPlan) {
        self.endpoint = Some(endpoint);
    }

    /// Where a page attaches, if this call has one.
    pub(crate) fn page(&self) -> Option<&PageSound> {
        self.endpoint.as_ref().and_then(EndpointPlan::page)
    }

    /// To be answered by itself when it has rung until then.
    pub(crate) fn set_answer_at(&mut self, mono_ms: u64) {
        self.answer_at = Some(mono_ms);
    }

    /// Somebody answers it, or it answers by itself: once.
    pub(crate) fn clear_answer_at(&mut self) {
        self.answer_at = None;
    }

    /// When it answers by itself, while it rings.
    pub(crate) fn answer_at(&self) -> Option<u64> {
        self.answer_at.filter(|_| self.rings_here())
    }

    /// It rings here: the person may answer it.
    pub(crate) fn rings_here(&self) -> bool {
        self.direction == CallDirection::Incoming && self.state == CallState::Ringing
    }

    /// The directory answered; true the first time that it knows a device.
    pub(crate) fn note_found(&mut self, devices: u32, now: Now) -> bool {
        let first = !self.found && devices > 0;
        if first {
            self.recorder.note_found(now);
        }
        self.found |= first;
        first
    }

    pub(crate) fn set_length(&mut self, for_ms: Option<u64>) {
        self.for_ms = for_ms;
    }

    pub(crate) fn is_looking_up(&self) -> bool {
        self.state == CallState::LookingUp
    }

    pub(crate) fn started_unix_ms(&self) -> u64 {
        self.started.unix_ms
    }

    /// Milliseconds since the call began.
    pub(crate) fn since_ms(&self, now: Now) -> u64 {
        now.mono_ms.saturating_sub(self.started.mono_ms)
    }

    /// When the wanted length of the call is reached, in the clock's milliseconds.
    pub(crate) fn hang_up_at(&self) -> Option<u64> {
        let connected = self.connected?;
        self.ended.is_none().then_some(connected.mono_ms + self.for_ms?)
    }

    /// What the call machine reports, as an event for people.
    pub(crate) fn take(&mut self, event: CallEvent, now: Now) -> Option<ApiCallEvent> {
        let after_ms = self.since_ms(now);
        self.recorder.take_event(&event, now);
        let step = match event {
            CallEvent::Ringing => {
                self.state = CallState::Ringing;
                CallStep::Ringing { after_ms }
            }
            CallEvent::Answered { .. } => {
                self.state = CallState::Connecting;
                self.answered_unix_ms = Some(now.unix_ms);
                CallStep::Answered { after_ms }
            }
            CallEvent::Sound => {
                self.state = CallState::Talking;
                self.connected = Some(now);
                CallStep::Connected { after_ms, path: self.path_kind(), relays: self.relays.clone() }
            }
            CallEvent::Ended(ended) => {
                self.state = CallState::Ended;
                self.ended = Some(ended);
                return None;
            }
            CallEvent::Merged { .. } | CallEvent::Note(_) => return None,
        };
        Some(self.event(step, now))
    }

    /// What the media session reports, as an event for people.
    pub(crate) fn take_media(&mut self, event: &Event, now: Now) -> Option<ApiCallEvent> {
        self.recorder.take_media(event, now);
        match event {
            Event::PathChanged { from, to, route, why } => {
                self.path = Some(*route);
                let name = route_name(route);
                if let Route::Relay { .. } = route
                    && !self.relays.contains(&name)
                {
                    self.relays.push(name.clone());
                }
                self.paths.insert(*to, name.clone());
                let from = self.paths.get(&(*from)?).cloned().unwrap_or_default();
                let into_call_ms = self.connected.map_or(0, |at| now.mono_ms.saturating_sub(at.mono_ms));
                let change = PathChange { into_call_ms, from, to: name, why: why.clone() };
                if self.path_changes.len() < PATH_CHANGES_MAX {
                    self.path_changes.push(change.clone());
                }
                Some(self.event(CallStep::PathChanged(change), now))
            }
            Event::Rate { bits_per_second, packet_ms } if self.page().is_some() => {
                let (bits_per_second, packet_ms) = (*bits_per_second, *packet_ms);
                Some(self.event(CallStep::SoundRate { bits_per_second, packet_ms }, now))
            }
            Event::Mirroring { on, why, .. } => {
                self.mirroring = *on;
                Some(self.event(CallStep::Mirroring { on: *on, why: why.clone() }, now))
            }
            _ => None,
        }
    }

    pub(crate) fn note_hang_up(&mut self) {
        self.hung_up_here = true;
    }

    pub(crate) fn media_ending(&mut self) {
        self.awaited_reports += 1;
    }

    pub(crate) fn take_report(&mut self, report: Option<MediaReport>) {
        self.awaited_reports = self.awaited_reports.saturating_sub(1);
        // Of several legs, the one that carried sound tells.
        let received = |report: &MediaReport| report.stats.packets_received;
        let better = match (&self.report, &report) {
            (Some(known), Some(new)) => received(new) >= received(known),
            (None, _) => true,
            (Some(_), None) => false,
        };
        if better {
            self.report = report;
        }
    }

    /// All is known that will ever be.
    pub(crate) fn is_finished(&self) -> bool {
        self.ended.is_some() && self.awaited_reports == 0
    }

    pub(crate) fn event(&self, step: CallStep, now: Now) -> ApiCallEvent {
        ApiCallEvent { call: call_name(self.id), at_unix_ms: now.unix_ms, step }
    }

    /// How it stands; `stats` as the media session tells, where it lives.
    pub(crate) fn summary(&self, stats: Option<&SessionStats>, setup: SetupMs, why: &str) -> CallSummary {
        let relays_in_use = stats.map(relays_in_use).unwrap_or_default();
        CallSummary {
            call: call_name(self.id),
            address: Address(self.account).to_string(),
            name: self.name.clone(),
            direction: self.direction,
            state: self.state,
            started_unix_ms: self.started.unix_ms,
            answered_unix_ms: self.answered_unix_ms,
            ended_unix_ms: None,
            reason: None,
            result: self.result(stats, setup, why, self.page().is_none().then_some(0)),
            mirroring: stats.map_or(self.mirroring, |stats| stats.mirroring),
            relays_in_use,
            path_changes: self.path_changes.clone(),
            endpoint: self.endpoint.as_ref().map(EndpointPlan::kind),
            attachment: self.page().and_then(PageSound::attachment),
            claimed_name: self.caller.0.clone(),
            invitation: self.caller.1.clone(),
            echo: self.echo,
        }
    }

    /// The end of it; `None` while something is still to come.
    pub(crate) fn finish(&mut self, now: Now) -> Option<FinishedCall> {
        if !self.is_finished() {
            return None;
        }
        let ended = self.ended.take()?;
        let media = self.report.take().unwrap_or_default();
        let stats = &media.stats;
        let reason = self.reason(ended.reason);
        let mut summary = self.summary(Some(stats), ended.setup, &ended.why);
        let concealed_ms = match &media.sound {
            Some(sound) => Some(sound.concealed_ms),
            None => self.page().is_none().then_some(0),
        };
        summary.result = self.result(Some(stats), ended.setup, &ended.why, concealed_ms);
        summary.result.answered_by = ended.by;
        summary.ended_unix_ms = Some(now.unix_ms);
        summary.reason = Some(reason);
        summary.state = CallState::Ended;
        let stored = StoredCall {
            id: summary.call.clone(),
            account: self.account,
            direction: self.direction,
            started_unix_ms: self.started.unix_ms,
            answered_unix_ms: self.answered_unix_ms,
            ended_unix_ms: now.unix_ms,
            reason,
            result: summary.result.clone(),
            path_changes: self.path_changes.clone(),
        };
        let event = self.event(CallStep::Ended { reason, result: summary.result.clone() }, now);
        let why = self.explained(Some((stats, media.session_unix_ms)), Some(reason));
        Some(FinishedCall { stored, event, report: self.report(summary, media, why) })
    }

    /// Why it goes as it goes; the snapshot comes from the call's own thread, where there is one.
    pub(crate) fn facts(&self) -> CallFacts {
        let mut facts = self.recorder.facts(None);
        facts.path = self.connected.map(|_| self.path_kind());
        facts
    }

    fn explained(&self, stats: Option<(&SessionStats, u64)>, reason: Option<ApiEndReason>) -> CallWhy {
        let mut facts = self.recorder.facts(stats);
        facts.path = self.connected.map(|_| self.path_kind());
        facts.reason = reason;
        conclude(&mut facts);
        CallWhy { call: call_name(self.id), findings: explain(&facts), facts }
    }

    fn report(&self, call: CallSummary, media: MediaReport, why: CallWhy) -> CallReport {
        // The session notes when it ended.
        let gap_ms = Duration::from_secs_f64(media.stats.longest_gap_ms.max(0.0) / 1_000.0).as_millis();
        let gap_began_ms =
            media.stats.longest_gap_at_ms.saturating_sub(u64::try_from(gap_ms).unwrap_or(u64::MAX));
        CallReport {
            call,
            begin_unix_ms: media.begin_unix_ms,
            step_ms: STEP_MS,
            sent_dbfs: media.sent_dbfs,
            heard_dbfs: media.heard_dbfs,
            paths: media.paths,
            sound: media.sound,
            longest_gap_ms: media.stats.longest_gap_ms,
            longest_gap_at_unix_ms: media.session_unix_ms + gap_began_ms,
            recording: self.record.as_ref().map(|path| path.display().to_string()),
            why: Some(why),
        }
    }

    fn result(
        &self,
        stats: Option<&SessionStats>,
        setup: SetupMs,
        why: &str,
        concealed_ms: Option<u64>,
    ) -> CallResult {
        let packets = stats.map(packets).unwrap_or_default();
        CallResult {
            connected: self.connected.is_some(),
            path: self.connected.map(|_| self.path_kind()),
            relays: stats.map_or_else(|| self.relays.clone(), |stats| self.relays_used(stats)),
            setup_ms: SetupTimes { lookup: setup.lookup, ringing: setup.ringing, media: setup.media },
            packets,
            longest_gap_ms: stats.map_or(0, |stats| stats.longest_gap_ms.ceil() as u64),
            concealed_ms,
            why: why.to_owned(),
            answered_by: None,
        }
    }

    fn reason(&self, reason: EndReason) -> ApiEndReason {
        match api_reason(reason) {
            ApiEndReason::RemoteHungUp if self.hung_up_here => ApiEndReason::HungUp,
            ApiEndReason::Unreachable if !self.found => ApiEndReason::NotFound,
            reason => reason,
        }
    }

    fn path_kind(&self) -> CallPath {
        if self.path == Some(Route::Direct) { CallPath::Direct } else { CallPath::Relayed }
    }

    /// Those this side sent on first, then those that only brought copies.
    fn relays_used(&self, stats: &SessionStats) -> Vec<String> {
        let mut relays = self.relays.clone();
        let used = stats.paths.iter().filter(|path| path.sent + path.received > 0);
        for name in used.filter(|path| path.route != Route::Direct).map(|path| route_name(&path.route)) {
            if !relays.contains(&name) {
                relays.push(name);
            }
        }
        relays
    }
}

/// The explanation of the call in progress.
pub(crate) fn why_live(
    call: String,
    started_unix_ms: u64,
    mut facts: CallFacts,
    media: Option<&MediaSnapshot>,
) -> CallWhy {
    if let Some(media) = media {
        put_session(&mut facts, &media.stats, media.session_unix_ms.saturating_sub(started_unix_ms));
    }
    CallWhy { call, findings: explain(&facts), facts }
}

/// Puts the figures of the call in progress into its summary.
pub(crate) fn put_stats(call: &mut CallSummary, stats: &SessionStats) {
    call.mirroring = stats.mirroring;
    call.relays_in_use = relays_in_use(stats);
    call.result.packets = packets(stats);
    call.result.longest_gap_ms = stats.longest_gap_ms.ceil() as u64;
}

fn packets(stats: &SessionStats) -> PacketCounts {
    PacketCounts { sent: stats.packets_sent, received: stats.packets_received, lost: stats.packets_lost }
}

/// Peer ids of the relays that carry the call now, the one this side sends on first.
fn relays_in_use(stats: &SessionStats) -> Vec<String> {
    let mut paths: Vec<_> = stats.paths.iter().filter(|path| path.state == PathState::Good).collect();
    paths.sort_by_key(|path| (!path.primary, path.id));
    let mut relays: Vec<String> =
        paths.iter().filter(|path| path.route != Route::Direct).map(|path| route_name(&path.route)).collect();
    relays.dedup();
    relays
}

fn api_reason(reason: EndReason) -> ApiEndReason {
    match reason {
        EndReason::HungUp | EndReason::Other(_) => ApiEndReason::RemoteHungUp,
        EndReason::Busy => ApiEndReason::Busy,
        EndReason::Declined => ApiEndReason::Declined,
        EndReason::Cancelled => ApiEndReason::Cancelled,
        EndReason::NoAnswer => ApiEndReason::NoAnswer,
        EndReason::AnsweredElsewhere => ApiEndReason::AnsweredElsewhere,
        EndReason::Unreachable => ApiEndReason::Unreachable,
        EndReason::Lost => ApiEndReason::MediaLost,
        EndReason::Protocol | EndReason::NotTrusted | EndReason::Version | EndReason::Refused => {
            ApiEndReason::Refused
        }
        EndReason::Failed => ApiEndReason::Failed,
    }
}

#[cfg(test)]
mod tests {
    use tandem_core::call::LegId;
    use tandem_proto::ids::DeviceKey;

    use super::*;

    fn ringing(direction: CallDirection) -> LiveCall {
        let begin = CallBegin {
            id: CallId([1; 16]),
            account: AccountKey([2; 32]),
            name: None,
            direction,
            for_ms: None,
            record: None,
            relay_only: false,
        };
        let now = Now { mono_ms: 1_000, unix_ms: 1_000_000 };
        let mut live = LiveCall::new(begin, now);
        live.take(CallEvent::Ringing, now);
        live
    }

    #[test]
    fn a_call_answers_itself_once_and_only_while_it_rings_here() {
        let mut live = ringing(CallDirection::Incoming);
        assert_eq!(live.answer_at(), None);
        live.set_answer_at(3_000);
        assert_eq!(live.answer_at(), Some(3_000));
        live.clear_answer_at();
        assert_eq!(live.answer_at(), None);

        live.set_answer_at(3_000);
        let now = Now { mono_ms: 2_000, unix_ms: 1_001_000 };
        live.take(CallEvent::Answered { leg: LegId(1), device: DeviceKey([3; 32]), relay_only: false }, now);
        assert_eq!(live.answer_at(), None, "a person was first");

        let mut ours = ringing(CallDirection::Outgoing);
        ours.set_answer_at(3_000);
        assert_eq!(ours.answer_at(), None, "it rings elsewhere");
    }
}
