//! Calls: from `place` or a ringing device to the hang-up (spec/signalling.md). One machine for all calls of a node; one
//! call at a time, others hear "busy".
//!
//! The driver feeds [`Calls`] through `handle_*`, executes each [`Command`] in order (a leg's `PrepareMedia` makes its
//! media session, so everything that follows for the leg finds it), and wakes it at `poll_timeout`. Whoever calls is
//! proved here: certificate, device set, revocation. Media decides whether an established call lives; signalling that
//! is lost meanwhile is re-opened in the background.
//!
//! `outgoing` is the caller's side, `incoming` the callee's, `signal` the streams, `running` the established call.

mod asking;
mod candidates;
mod confirm;
mod farewell;
mod incoming;
mod leg;
mod lines;
mod notes;
mod outgoing;
mod plan;
mod redraw;
mod running;
mod signal;
mod strangers;
mod timers;
mod trust;
mod types;

use std::collections::{BTreeMap, VecDeque};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tandem_proto::ids::{AccountKey, DeviceKey};
use tandem_proto::names::NetworkId;
use tandem_proto::signed::{DeviceSet, SupernodeDescriptor};
use tandem_proto::wire::signal_frame::Body;
use tandem_proto::wire::{HangUp, SignalFrame, Signed};

use asking::Asking;
use farewell::Farewell;
use leg::{Leg, Media, Phase};
use notes::Notes;
use signal::Stream;
use strangers::Door;
use trust::KnownSets;

pub use strangers::{DECLINED_MAX, INVITATION_USES_MAX, INVITATIONS_MAX, REQUESTS_MAX};
pub use types::*;

use crate::time::Now;

/// Oldest protocol version spoken.
pub const VERSION_MIN: u32 = 1;
/// Newest protocol version spoken.
pub const VERSION_MAX: u32 = 1;
/// Ended calls remembered, so that a late frame does not ring again.
const ENDED_MAX: usize = 64;
/// Supernodes of ours that the draw may use.
const OWN_RELAYS_MAX: usize = 32;
/// Ended legs remembered of one call.
const FINISHED_MAX: usize = 32;
/// Devices of the other account called at once (an account has no more).
const LEGS_MAX: usize = 8;
/// Of those, how many have their media connected while they ring; the others' waits for the answer.
const EARLY_MAX: usize = 4;

/// Notes of a call that was to keep to relays while it rang here already.
const RELAYS_FROM_NOW: &str = "You asked for relays only: no address of this machine is shown in this call.";
const SHOWN_BEFORE: &str = "You asked for relays only, but this contact was ringing already and had been shown this machine's addresses; no more are shown from now on.";

/// All calls of a node.
#[derive(Debug)]
pub struct Calls {
    config: CallsConfig,
    rng: StdRng,
    /// Sorted.
    contacts: Vec<AccountKey>,
    /// Of them, those whose calls stay relayed; sorted.
    relayed: Vec<AccountKey>,
    network: NetworkId,
    /// What accounts that are no contacts meet.
    door: Door,
    /// A silent request of ours on its way.
    asking: Option<Asking>,
    /// Last words without an answer yet, the oldest first.
    farewells: Vec<Farewell>,
    /// Relays we know and would vouch for, best first.
    own_relays: Vec<SupernodeDescriptor>,
    known: KnownSets,
    streams: BTreeMap<SignalId, Stream>,
    active: Option<Call>,
    ended: VecDeque<CallId>,
    next_leg: u64,
    /// Monotonic milliseconds of the last event.
    clock_ms: u64,
    out: Out,
}

/// The one call.
#[derive(Debug)]
struct Call {
    head: Head,
    /// At most [`LEGS_MAX`]; exactly one on the callee's side and once established.
    legs: Vec<Leg>,
}

/// What belongs to the call and not to one leg.
#[derive(Debug)]
struct Head {
    id: CallId,
    peer: AccountKey,
    contact: bool,
    role: Role,
    options: CallOptions,
    stage: Stage,
    /// Callee: answer as soon as possible (asked for, or both called each other).
    answering: bool,
    /// Caller: the look-up has ended.
    looked_up: bool,
    /// Devices whose leg has ended, and why.
    finished: Vec<(DeviceKey, EndReason)>,
    placed_ms: u64,
    /// Since when it has been in this stage.
    stage_ms: u64,
    answered_ms: Option<u64>,
    setup: SetupMs,
    notes: Notes,
    /// Callee: the label of our account's device that answered or declined.
    answered_by: Option<String>,
    /// When the other account's device set is looked up again.
    check_ms: u64,
}

/// What the driver is to do, in order. Each `handle_*` adds a bounded number; the driver drains after each.
#[derive(Debug, Default)]
struct Out(VecDeque<Command>);

/// Something that ends a leg (or a stream before it has one).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    reason: EndReason,
    why: String,
}

/// A leg with what surrounds it.
struct Parts<'a> {
    head: &'a mut Head,
    leg: &'a mut Leg,
    out: &'a mut Out,
    config: &'a CallsConfig,
    own_relays: &'a [SupernodeDescriptor],
}

impl Calls {
    /// `seed` must come from the operating system's random source: leg secrets and nonces are derived from it.
    #[must_use]
    pub fn new(config: CallsConfig, seed: [u8; 32]) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let mut secret = [0; 32];
        rng.fill_bytes(&mut secret);
        Self {
            contacts: Vec::new(),
            relayed: Vec::new(),
            network: config.strangers.network.clone(),
            door: Door::new(config.strangers.clone(), secret),
            asking: None,
            farewells: Vec::new(),
            config,
            rng,
            own_relays: Vec::new(),
            known: KnownSets::default(),
            streams: BTreeMap::new(),
            active: None,
            ended: VecDeque::new(),
            next_leg: 1,
            clock_ms: 0,
            out: Out::default(),
        }
    }

    /// Our contacts: only with them direct paths are used, and they ring even when strangers may not.
    pub fn set_contacts(&mut self, mut contacts: Vec<AccountKey>) {
        contacts.sort_unstable();
        self.known.pin(contacts.clone());
        self.contacts = contacts;
        self.drop_lines_of_strangers();
    }

    /// Contacts with whom every call stays relayed.
    pub fn set_relayed(&mut self, mut accounts: Vec<AccountKey>) {
        accounts.sort_unstable();
        self.relayed = accounts;
    }

    /// Relays this node knows of: its homes first, then a sample. At most 32 are kept; 8 go into a draw.
    pub fn set_relays(&mut self, relays: Vec<SupernodeDescriptor>) {
        self.own_relays = relays;
        self.own_relays.truncate(OWN_RELAYS_MAX);
    }

    /// A renewed certificate or device set of our own.
    pub fn set_identity(&mut self, certificate: Signed, device_set: Signed) {
        self.config.certificate = certificate;
        self.config.device_set = device_set;
    }

    /// A device set from the store or from a look-up. A call with a device that it revokes ends.
    pub fn handle_device_set(&mut self, set: &DeviceSet, _now: Now) {
        if self.known.note(set) {
            self.drop_revoked();
        }
    }

    /// What was seen of a contact in runs before: the highest epoch, and its device set if that is still there. Before
    /// any look-up an older set is believed no more than it was then. Call it after [`Self::set_contacts`].
    pub fn set_seen(&mut self, account: AccountKey, epoch: u64, set: Option<&DeviceSet>, now: Now) {
        self.known.note_epoch(account, epoch);
        set.into_iter().for_each(|set| self.handle_device_set(set, now));
    }

    /// Places a call; `call` is 16 random bytes. When that account is ringing us just now, it is answered instead, and
    /// the id given here is reported as merged; a wish for relays only holds from then on.
    ///
    /// # Errors
    /// [`PlaceError`]: another call, or ourselves.
    pub fn place(
        &mut self,
        call: CallId,
        account: AccountKey,
        options: CallOptions,
        now: Now,
    ) -> Result<(), PlaceError> {
        if account == self.config.account {
            return Err(PlaceError::Own);
        }
        if let Some(active) = &self.active {
            let rings_us = active.head.role == Role::Callee && active.head.stage == Stage::Ringing;
            if !(rings_us && active.head.peer == account) {
                return Err(PlaceError::Busy);
            }
            let into = active.head.id;
            self.out.report(call, CallEvent::Merged { into });
            if options.relay_only {
                self.keep_to_relays(into);
            }
            return self.answer(into, now).map_err(|_| PlaceError::Busy);
        }
        self.clock_ms = now.mono_ms;
        self.begin(call, account, Role::Caller, options, now);
        self.out.push(Command::LookUp { call, account });
        self.call_on_lines(now);
        Ok(())
    }

    /// Picks up a ringing call.
    ///
    /// # Errors
    /// [`AnswerError`] when it does not ring here (any more).
    pub fn answer(&mut self, call: CallId, now: Now) -> Result<(), AnswerError> {
        self.check_rings(call)?;
        self.start_answering(now);
        Ok(())
    }

    /// From now on a call that rings here shows no addresses of ours and takes none of theirs. What was shown before
    /// cannot be taken back: the call's notes say so.
    pub fn keep_to_relays(&mut self, call: CallId) {
        let Some(active) = self.active.as_mut() else { return };
        if active.head.id != call || active.head.stage != Stage::Ringing || !active.head.direct_allowed() {
            return;
        }
        active.head.options.relay_only = true;
        let mut shown = false;
        for leg in &mut active.legs {
            leg.keeps_line = false;
            shown |= leg.local.forget_addresses();
        }
        let note = if shown { SHOWN_BEFORE } else { RELAYS_FROM_NOW };
        active.head.note(&mut self.out, note);
    }

    /// Declines a ringing call, here and on our other devices.
    ///
    /// # Errors
    /// [`AnswerError`] when it does not ring here (any more).
    pub fn decline(&mut self, call: CallId, reason: EndReason, now: Now) -> Result<(), AnswerError> {
        self.clock_ms = now.mono_ms;
        self.check_rings(call)?;
        self.decline_active(reason);
        Ok(())
    }

    /// Ends a call in whatever stage it is; does nothing when it is not there any more.
    pub fn hang_up(&mut self, call: CallId, now: Now) {
        self.clock_ms = now.mono_ms;
        let Some(head) = self.active.as_ref().map(|active| &active.head).filter(|head| head.id == call)
        else {
            return;
        };
        match (head.role, head.stage) {
            (Role::Callee, Stage::Ringing) => self.decline_active(EndReason::Declined),
            (Role::Caller, Stage::LookingUp | Stage::Reaching | Stage::Ringing) => {
                self.end(EndReason::Cancelled, None, true);
            }
            _ => self.end(EndReason::HungUp, Some("You hung up.".into()), true),
        }
    }

    /// Adds a sentence of the driver's to the call's notes (a switch of paths, for example).
    pub fn note(&mut self, leg: LegId, text: &str) {
        if let Some(parts) = self.parts(leg) {
            parts.head.note(parts.out, text);
        }
    }

    /// What to do next; `None`: nothing until the next event.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.out.0.pop_front()
    }

    /// The call going on, if any.
    #[must_use]
    pub fn status(&self) -> Option<CallStatus> {
        let Call { head, legs } = self.active.as_ref()?;
        let leg = legs.iter().find(|leg| leg.phase == Phase::Confirmed);
        Some(CallStatus {
            call: head.id,
            peer: head.peer,
            contact: head.contact,
            role: head.role,
            stage: head.stage,
            leg: leg.map(|leg| leg.id),
            setup: head.setup,
            relays: leg.map(|leg| leg.plan.joined()).unwrap_or_default(),
            signalling: leg.is_some_and(|leg| !leg.streams.is_empty()),
            silent_since_ms: leg.and_then(|leg| leg.watch.silent_since),
            notes: head.notes.list().to_vec(),
        })
    }

    fn check_rings(&self, call: CallId) -> Result<(), AnswerError> {
        let head = self.active.as_ref().map(|active| &active.head).filter(|head| head.id == call);
        let head = head.ok_or(AnswerError::NoSuchCall)?;
        let rings = head.role == Role::Callee && head.stage == Stage::Ringing && !head.answering;
        rings.then_some(()).ok_or(AnswerError::NotRinging)
    }

    fn begin(&mut self, id: CallId, peer: AccountKey, role: Role, mut options: CallOptions, now: Now) {
        options.relay_only |= self.relayed.binary_search(&peer).is_ok();
        let contact = self.is_contact(peer);
        let stage = if role == Role::Caller { Stage::LookingUp } else { Stage::Ringing };
        let head = Head {
            id,
            peer,
            contact,
            role,
            options,
            stage,
            answering: false,
            looked_up: false,
            finished: Vec::new(),
            placed_ms: now.mono_ms,
            stage_ms: now.mono_ms,
            answered_ms: None,
            setup: SetupMs::default(),
            notes: Notes::default(),
            answered_by: None,
            check_ms: now.mono_ms + timers::SET_CHECK_MS,
        };
        self.active = Some(Call { head, legs: Vec::new() });
    }

    fn is_contact(&self, account: AccountKey) -> bool {
        self.contacts.binary_search(&account).is_ok()
    }

    fn new_leg(&mut self, device: DeviceKey, role: Role, secret: Option<[u8; 32]>) -> Leg {
        let id = LegId(self.next_leg);
        self.next_leg += 1;
        let secret = secret.unwrap_or_else(|| self.random());
        let nonce = self.random();
        Leg::new(id, device, role, secret, nonce)
    }

    fn random(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    fn parts(&mut self, leg: LegId) -> Option<Parts<'_>> {
        let Call { head, legs } = self.active.as_mut()?;
        let leg = legs.iter_mut().find(|candidate| candidate.id == leg)?;
        Some(Parts { head, leg, out: &mut self.out, config: &self.config, own_relays: &self.own_relays })
    }

    /// Ends the call. `tell`: the other end hears of it on every stream.
    fn end(&mut self, reason: EndReason, why: Option<String>, tell: bool) {
        let word = self.active.as_ref().filter(|_| tell).map(|call| call.head.last_word(reason));
        self.end_with(reason, why, word);
    }

    /// The same; `word` is what the other end hears.
    fn end_with(&mut self, reason: EndReason, why: Option<String>, word: Option<Body>) {
        let Some(Call { mut head, legs }) = self.active.take() else { return };
        for leg in legs {
            self.close_leg(&head, &leg, reason, word.clone());
        }
        let why = why.unwrap_or_else(|| notes::words(reason, head.role).into());
        head.note(&mut self.out, &why);
        self.remember_ended(head.id);
        let ended =
            Ended { reason, why, setup: head.setup, notes: head.notes.list().to_vec(), by: head.answered_by };
        self.out.report(head.id, CallEvent::Ended(ended));
    }

    fn remember_ended(&mut self, call: CallId) {
        if self.ended.len() >= ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(call);
    }

    /// Says the last word (if the other end is to hear one) or answers the other end's, closes the streams but one that
    /// may carry the next call and those on which the answer is awaited, drops the media session.
    fn close_leg(&mut self, head: &Head, leg: &Leg, reason: EndReason, word: Option<Body>) {
        if let Some(word) = word {
            self.say_last_word(head, leg, reason, word);
        }
        self.keep_line(head.id, leg, reason);
        let closing: Vec<SignalId> =
            self.streams.iter().filter(|(_, stream)| stream.leg == Some(leg.id)).map(|(id, _)| *id).collect();
        for signal in closing {
            if self.is_farewell(signal) {
                continue;
            }
            if self.streams.get(&signal).is_some_and(|stream| stream.heard && !stream.said) {
                self.out.send(signal, head.last_word(reason));
            }
            self.drop_stream(signal);
        }
        if leg.media != Media::None {
            self.out.push(Command::EndMedia { leg: leg.id });
        }
    }

    /// Ends one leg; the call ends with it when it was the last, or the one that was answered.
    fn end_leg(&mut self, leg: LegId, reason: EndReason, why: Option<String>, tell: bool) {
        let Some(call) = self.active.as_mut() else { return };
        let Some(index) = call.legs.iter().position(|candidate| candidate.id == leg) else { return };
        if call.head.role == Role::Callee || call.head.stage == Stage::Established {
            self.end(reason, why, tell);
            return;
        }
        let ended = call.legs.remove(index);
        let word = tell.then(|| call.head.last_word(reason));
        if call.head.finished.len() < FINISHED_MAX {
            call.head.finished.push((ended.device, reason));
        }
        if let Some(why) = &why {
            call.head.note(&mut self.out, why);
        }
        if let Some(call) = self.active.take() {
            self.close_leg(&call.head, &ended, reason, word);
            self.active = Some(call);
        }
        self.connect_early();
        self.end_without_legs(why);
    }
}

/// A plain hang-up; `call`: the call that is over, empty if that is not known.
fn hang_up(reason: EndReason, call: Vec<u8>) -> HangUp {
    HangUp { reason: reason.number(), by: String::new(), call_id: call }
}

impl Head {
    /// What ends this call at the other end.
    fn last_word(&self, reason: EndReason) -> Body {
        Body::HangUp(hang_up(reason, self.id.0.to_vec()))
    }

    fn note(&mut self, out: &mut Out, text: &str) {
        let kept = self.notes.add(text);
        out.report(self.id, CallEvent::Note(kept));
    }

    fn enter(&mut self, stage: Stage, now: Now) {
        self.stage = stage;
        self.stage_ms = now.mono_ms;
    }

    /// Addresses are shown only between contacts, and not when either end wants relays only.
    fn direct_allowed(&self) -> bool {
        self.contact && !self.options.relay_only
    }
}

impl Out {
    fn push(&mut self, command: Command) {
        self.0.push_back(command);
    }

    fn send(&mut self, signal: SignalId, body: Body) {
        self.push(Command::SendSignal { signal, frame: SignalFrame { body: Some(body) } });
    }

    fn report(&mut self, call: CallId, event: CallEvent) {
        self.push(Command::Report { call, event });
    }
}

impl Fault {
    fn protocol(why: impl Into<String>) -> Self {
        Self { reason: EndReason::Protocol, why: why.into() }
    }
}
