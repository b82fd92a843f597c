//! One device of the other account within a call: what was agreed with it, and its signalling streams.

use tandem_proto::ids::{DeviceKey, ServiceKey};
use tandem_proto::signed::{Home, SupernodeDescriptor};
use tandem_proto::wire::signal_frame::Body;
use tandem_proto::wire::{Answer, Draw, MediaDescription, Offer, Ringing};

use super::Out;
use super::candidates::{Known, frames};
use super::plan::Plan;
use super::redraw::Redraws;
use super::types::{Command, LegId, Role, SignalId};
use crate::time::Now;

/// Streams a leg has at once; a newer one pushes the oldest out.
const STREAMS_MAX: usize = 3;
/// Opening a stream takes no longer than this, in milliseconds; then it counts as failed.
const OPENING_MS: u64 = 12_000;
/// Attempts to open the first stream, or to get it back while ringing.
pub(super) const ATTEMPTS_MAX: u8 = 3;
/// First delay between attempts; doubles.
const RETRY_MS: u64 = 400;
/// While no route is known, whether one has been found is looked at this often, in milliseconds.
const ROUTES_MS: u64 = 500;
/// Longest delay between attempts.
const RETRY_MS_MAX: u64 = 15_000;

/// How far a leg is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Caller: no offer sent yet.
    Reaching,
    /// Caller: offer sent.
    Offered,
    /// Both: the callee's device has said Ringing.
    Ringing,
    /// Callee: answer sent.
    Answered,
    /// Both: the caller has confirmed.
    Confirmed,
}

/// The leg's media session in the driver.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Media {
    /// Not asked for.
    None,
    /// `PrepareMedia` was sent.
    Preparing,
    /// This is our description.
    Ready(MediaDescription),
}

/// Opening and re-opening the signalling stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Reach {
    /// Since when an `OpenSignal` runs (monotonic milliseconds).
    opening_since: Option<u64>,
    /// When to try (again).
    pub(super) next_ms: Option<u64>,
    /// Failures in a row.
    pub(super) failures: u8,
    /// Since when there has been no stream at all.
    pub(super) lost_since: Option<u64>,
}

/// What is watched during an established call (monotonic milliseconds).
#[derive(Debug, Clone, Default)]
pub(super) struct Watch {
    pub(super) started: u64,
    pub(super) sound: bool,
    /// Sound came before the confirmation: the relays are quicker than signalling.
    pub(super) early_sound: bool,
    pub(super) silent_since: Option<u64>,
    /// When the person is told that the connection is lost.
    pub(super) tell_at: Option<u64>,
    pub(super) next_round: Option<u64>,
    pub(super) top_up_at: Option<u64>,
    /// The other end's media has ended: when the leg ends if nothing more is said.
    pub(super) peer_ended_at: Option<u64>,
    /// Sequence of the last path report of the other end.
    pub(super) report_seen: u64,
    /// Sequence of our last path report.
    pub(super) report_sent: u64,
}

/// One leg.
#[derive(Debug, Clone)]
pub(super) struct Leg {
    pub(super) id: LegId,
    pub(super) device: DeviceKey,
    pub(super) role: Role,
    pub(super) routes: Vec<Home>,
    pub(super) phase: Phase,
    /// Call tags are derived from it.
    pub(super) secret: [u8; 32],
    /// Ours, for the draw.
    pub(super) nonce: [u8; 32],
    /// What we vouched for in Ringing (callee), or committed to in the offer (caller).
    pub(super) vouched: Vec<SupernodeDescriptor>,
    pub(super) media: Media,
    /// Callee: our media description is in Ringing already.
    pub(super) shows_media: bool,
    /// The media session knows the other end's description.
    pub(super) described: bool,
    pub(super) offer: Option<Offer>,
    pub(super) ringing: Option<Ringing>,
    pub(super) draw: Option<Draw>,
    pub(super) answer: Option<Answer>,
    pub(super) plan: Plan,
    /// Ours; its generation counts our changes of network.
    pub(super) local: Known,
    /// The other end's.
    pub(super) remote: Known,
    /// Streams whose hellos were exchanged, the newest last.
    pub(super) streams: Vec<SignalId>,
    pub(super) reach: Reach,
    pub(super) watch: Watch,
    pub(super) redraws: Redraws,
    /// Its stream may be kept for the next call: a contact's, and neither end wants relays only.
    pub(super) keeps_line: bool,
}

impl Leg {
    pub(super) fn new(id: LegId, device: DeviceKey, role: Role, secret: [u8; 32], nonce: [u8; 32]) -> Self {
        Self {
            id,
            device,
            role,
            routes: Vec::new(),
            phase: Phase::Reaching,
            secret,
            nonce,
            vouched: Vec::new(),
            media: Media::None,
            shows_media: true,
            described: false,
            offer: None,
            ringing: None,
            draw: None,
            answer: None,
            plan: Plan::default(),
            local: Known::default(),
            remote: Known::default(),
            streams: Vec::new(),
            reach: Reach::default(),
            watch: Watch::default(),
            redraws: Redraws::default(),
            keeps_line: false,
        }
    }

    /// Sends on the newest stream.
    pub(super) fn send(&self, out: &mut Out, body: Body) {
        if let Some(signal) = self.streams.last() {
            out.send(*signal, body);
        }
    }

    /// Sends on every stream, since any of them may run through a supernode that has just died.
    pub(super) fn send_all(&self, out: &mut Out, body: &Body) {
        for signal in &self.streams {
            out.send(*signal, body.clone());
        }
    }

    /// A stream is ready; returns one that is too many.
    pub(super) fn attach(&mut self, signal: SignalId) -> Option<SignalId> {
        if !self.streams.contains(&signal) {
            self.streams.push(signal);
        }
        self.reach.next_ms = None;
        // Not to nought: a peer that takes every stream and drops it must not make us hurry.
        self.reach.failures = self.reach.failures.min(1);
        self.reach.lost_since = None;
        (self.streams.len() > STREAMS_MAX).then(|| self.streams.remove(0))
    }

    /// Our candidates of the last two generations, for a stream that has not seen them.
    pub(super) fn send_candidates(&self, out: &mut Out, signal: SignalId) {
        if self.awaits_ringing() {
            return;
        }
        for frame in frames(self.local.list()) {
            out.send(signal, Body::Candidates(frame));
        }
    }

    /// Caller: the callee has not said yet whether addresses may be shown, so no candidate goes out.
    pub(super) fn awaits_ringing(&self) -> bool {
        self.role == Role::Caller && self.ringing.is_none()
    }

    /// Gives the media session the other end's description, once: paths and keys are made from here on.
    pub(super) fn describe(&mut self, out: &mut Out, media: MediaDescription) {
        if !std::mem::replace(&mut self.described, true) {
            out.push(Command::RemoteMedia { leg: self.id, media });
        }
    }

    /// Opens a stream now, unless one is being opened or no route is known. Routes through `avoid` come last.
    pub(super) fn open(&mut self, out: &mut Out, avoid: &[ServiceKey], now: Now) {
        self.reach.next_ms = None;
        if self.reach.opening_since.is_some() {
            return;
        }
        if self.routes.is_empty() {
            self.reach.next_ms = Some(now.mono_ms + ROUTES_MS);
            return;
        }
        self.reach.opening_since = Some(now.mono_ms);
        let mut routes = self.routes.clone();
        routes.sort_by_key(|home| avoid.contains(&home.service));
        let hurry = self.phase == Phase::Confirmed;
        out.push(Command::OpenSignal { leg: self.id, device: self.device, routes, hurry });
    }

    /// The network has changed: an attempt that runs may never hear its answer, and failures of before say nothing.
    pub(super) fn begin_reaching_again(&mut self) {
        self.reach.opening_since = None;
        self.reach.failures = 0;
    }

    pub(super) fn is_opening(&self) -> bool {
        self.reach.opening_since.is_some()
    }

    /// The attempt is over, one way or the other.
    pub(super) fn opened(&mut self) {
        self.reach.opening_since = None;
    }

    /// Counts a failed attempt and plans the next. `jitter` is any number.
    pub(super) fn open_failed(&mut self, jitter: u64, now: Now) {
        self.reach.opening_since = None;
        let doublings = u32::from(self.reach.failures.min(6));
        self.reach.failures = self.reach.failures.saturating_add(1);
        let delay = (RETRY_MS << doublings).min(RETRY_MS_MAX);
        self.reach.next_ms = Some(now.mono_ms + delay / 2 + jitter % (delay / 2 + 1));
    }

    /// When an attempt that nobody answers counts as failed.
    pub(super) fn opening_deadline(&self) -> Option<u64> {
        self.reach.opening_since.map(|since| since + OPENING_MS)
    }
}
