//! Signalling streams: hellos, which stream belongs to which leg, and every frame's way in.

use tandem_proto::ids::{AccountKey, DeviceKey, ServiceKey};
use tandem_proto::wire::signal_frame::Body;
use tandem_proto::wire::{Confirm, SignalFrame, SignalHello};

use super::leg::Phase;
use super::lines::Line;
use super::trust::Peer;
use super::types::{Command, EndReason, LegId, Role, SignalId, Stage};
use super::{Calls, Fault, Parts, VERSION_MAX, VERSION_MIN, hang_up};
use crate::time::Now;

/// Streams held at once; of those without a leg the oldest makes room.
const STREAMS_MAX: usize = 64;
/// Of those, how many may be without a leg and not from a contact's device: contacts always have room.
const STRANGERS_STREAMS_MAX: usize = 32;
/// The other end must say hello, and offer if the stream came in, within this, in milliseconds.
const INTRODUCTION_MS: u64 = 10_000;
/// Frames a second on one stream; more is an attack.
const FRAMES_PER_SECOND_MAX: u32 = 100;
/// Longest text we put into a frame, in bytes.
pub(super) const TEXT_BYTES_MAX: usize = 64;
/// The caller re-opens at once; the callee only when nothing has come for this long, in milliseconds.
const CALLEE_REOPENS_MS: u64 = 3_000;

/// A stream that lived this long was no failure, in milliseconds: the next is opened at once.
const LASTED_MS: u64 = 5_000;

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) device: DeviceKey,
    /// The supernode it runs through, if any.
    pub(super) via: Option<ServiceKey>,
    pub(super) leg: Option<LegId>,
    /// Set by a hello that was believed.
    pub(super) peer: Option<Peer>,
    /// The label in the certificate of that hello.
    label: String,
    /// The offer went out on it.
    pub(super) offered: bool,
    /// Our last word on a call (HangUp or Decline) went out on it, and the call has not ended yet.
    pub(super) said: bool,
    /// The other end's last word on a call came on it, and the call has not ended yet.
    pub(super) heard: bool,
    /// A last word on another call than its own was answered on it.
    answered_other: bool,
    /// It has no call, and waits for the next.
    pub(super) line: Option<Line>,
    opened_ms: u64,
    second: u64,
    frames: u32,
}

impl Stream {
    pub(super) fn new(device: DeviceKey, via: Option<ServiceKey>, leg: Option<LegId>, now: Now) -> Self {
        Self {
            device,
            via,
            leg,
            peer: None,
            label: String::new(),
            offered: false,
            said: false,
            heard: false,
            answered_other: false,
            line: None,
            opened_ms: now.mono_ms,
            second: 0,
            frames: 0,
        }
    }

    /// By when it must have said hello and, if it came in, what it is about.
    pub(super) fn introduction_deadline(&self) -> Option<u64> {
        if let Some(line) = &self.line {
            return Some(line.until_ms);
        }
        (self.leg.is_none() || self.peer.is_none()).then_some(self.opened_ms + INTRODUCTION_MS)
    }

    /// Counts a frame; `false`: too many in this second.
    fn count(&mut self, now: Now) -> bool {
        let second = now.mono_ms / 1_000;
        if second != self.second {
            (self.second, self.frames) = (second, 0);
        }
        self.frames += 1;
        self.frames <= FRAMES_PER_SECOND_MAX
    }
}

impl Calls {
    /// The stream asked for by `OpenSignal` is open.
    pub fn handle_signal_opened(
        &mut self,
        leg: LegId,
        signal: SignalId,
        device: DeviceKey,
        via: Option<ServiceKey>,
        now: Now,
    ) {
        if self.asking_opened(leg, signal, device, via, now)
            || self.farewell_opened(leg, signal, device, via, now)
        {
            return;
        }
        let expected = self.parts(leg).map(|parts| {
            parts.leg.opened();
            parts.leg.device
        });
        if expected != Some(device) || self.streams.contains_key(&signal) {
            self.out.push(Command::CloseSignal(signal));
            return;
        }
        self.add_stream(signal, Stream::new(device, via, Some(leg), now), now);
        // A round trip before their hello, if the device is known to be theirs; what it says is believed after it only.
        self.send_offer(leg, signal, now);
    }

    /// `OpenSignal` did not succeed on any route.
    pub fn handle_signal_failed(&mut self, leg: LegId, reason: &str, now: Now) {
        self.asking_failed(leg, now);
        self.farewell_failed(leg, now);
        self.attempt_failed(leg, reason, now);
    }

    /// A device opened a stream to us; `device` is the key its connection proved.
    pub fn handle_incoming(
        &mut self,
        signal: SignalId,
        device: DeviceKey,
        via: Option<ServiceKey>,
        now: Now,
    ) {
        if self.streams.contains_key(&signal) {
            return;
        }
        // One stream a device may wait for its hello or offer: a newer one replaces it.
        let waiting =
            self.streams.iter().find(|(_, s)| s.device == device && s.leg.is_none()).map(|(id, _)| *id);
        if let Some(waiting) = waiting {
            self.drop_stream(waiting);
        }
        self.add_stream(signal, Stream::new(device, via, None, now), now);
    }

    /// A stream is gone, whoever closed it.
    pub fn handle_signal_closed(&mut self, signal: SignalId, reason: &str, now: Now) {
        self.clock_ms = now.mono_ms;
        let Some(stream) = self.streams.remove(&signal) else { return };
        self.farewell_lost(signal, stream.via);
        let Some(leg) = stream.leg else { return };
        self.asking_closed(leg, now);
        let Some(parts) = self.parts(leg) else { return };
        parts.leg.streams.retain(|other| *other != signal);
        if !parts.leg.streams.is_empty() {
            return;
        }
        parts.leg.reach.lost_since = Some(now.mono_ms);
        if !parts.leg.is_opening() {
            self.stream_lost(leg, &stream, reason, now);
        }
    }

    /// One frame from a stream, whatever it holds.
    pub fn handle_frame(&mut self, signal: SignalId, frame: SignalFrame, now: Now) {
        self.clock_ms = now.mono_ms;
        let Some(stream) = self.streams.get_mut(&signal) else { return };
        let result = if stream.count(now) {
            self.dispatch(signal, frame, now)
        } else {
            Err(Fault::protocol("it sent more than 100 frames in a second"))
        };
        if let Err(fault) = result {
            let asking = self.streams.get(&signal).and_then(|stream| stream.leg);
            self.fault(signal, fault);
            asking.into_iter().for_each(|leg| self.asking_failed(leg, now));
        }
    }

    fn dispatch(&mut self, signal: SignalId, frame: SignalFrame, now: Now) -> Result<(), Fault> {
        // A kind of frame that a later version added.
        let Some(body) = frame.body else { return Ok(()) };
        let Some(stream) = self.streams.get(&signal) else { return Ok(()) };
        let (peer, leg) = (stream.peer, stream.leg);
        if let Body::Hello(hello) = body {
            return self.on_hello(signal, &hello, now);
        }
        let Some(peer) = peer else { return self.on_refusal(leg, &body) };
        if let Body::Offer(offer) = body {
            return self.on_offer(signal, peer, offer, now);
        }
        if let Body::ContactRequest(request) = body {
            return self.on_contact_request(signal, peer, &request, now);
        }
        let ends = matches!(body, Body::HangUp(_) | Body::Decline(_));
        if ends {
            self.farewell_answered(signal);
        }
        let Some(leg) = leg else {
            if self.on_line_frame(signal, &body) {
                return Ok(());
            }
            // It speaks of a call that has ended here.
            self.out.send(signal, Body::HangUp(hang_up(EndReason::HungUp, meant(&body))));
            self.drop_stream(signal);
            return Ok(());
        };
        if ends && !self.is_about(&body) {
            self.answer_other(signal, &body);
            return Ok(());
        }
        if ends && let Some(stream) = self.streams.get_mut(&signal) {
            stream.heard = true;
        }
        match body {
            Body::Hello(_) | Body::Offer(_) | Body::ContactRequest(_) => Ok(()),
            Body::RequestAnswer(answer) => self.on_request_answer(leg, &answer, now),
            Body::Ringing(ringing) => self.on_ringing(leg, ringing, now),
            Body::Draw(draw) => self.on_draw(leg, draw, now),
            Body::Candidates(candidates) => self.on_candidates(leg, candidates, now),
            Body::Answer(answer) => self.on_answer(leg, answer, now),
            Body::Confirm(_) => self.on_confirm(leg, now),
            Body::HangUp(hang_up) => {
                if hang_up.by.len() > TEXT_BYTES_MAX {
                    return Err(Fault::protocol("the name of a device is longer than 64 bytes"));
                }
                self.on_hang_up(leg, reason_of(hang_up.reason), &hang_up.by);
                Ok(())
            }
            Body::PathReport(report) => self.on_path_report(leg, report),
            // The driver takes these before they come here: they belong to no call.
            Body::DeviceInvitation(_) | Body::DeviceAccepted(_) => Ok(()),
            Body::Redraw(redraw) => self.on_redraw(leg, redraw, now),
            Body::RedrawAnswer(answer) => self.on_redraw_answer(leg, answer, now),
            Body::RedrawReveal(reveal) => self.on_redraw_reveal(leg, reveal, now),
            Body::Decline(decline) => self.on_decline(leg, reason_of(decline.reason)),
        }
    }

    /// Before its hello an end that we opened a stream to may say only that ours was not believed.
    fn on_refusal(&mut self, leg: Option<LegId>, body: &Body) -> Result<(), Fault> {
        let early = || Fault::protocol("it sent another frame before its hello");
        let (Some(leg), Body::HangUp(hang_up)) = (leg, body) else { return Err(early()) };
        let reason = reason_of(hang_up.reason);
        if !matches!(reason, EndReason::NotTrusted | EndReason::Version | EndReason::Protocol) {
            return Err(early());
        }
        self.on_hang_up(leg, reason, "");
        Ok(())
    }

    fn on_hello(&mut self, signal: SignalId, hello: &SignalHello, now: Now) -> Result<(), Fault> {
        let Some(stream) = self.streams.get(&signal) else { return Ok(()) };
        if stream.peer.is_some() {
            return Err(Fault::protocol("it sent its hello twice"));
        }
        let (device, leg) = (stream.device, stream.leg);
        let asked = leg.and_then(|leg| self.asked_account(leg));
        let account = asked.or_else(|| leg.and(self.active.as_ref()).map(|call| call.head.peer));
        let (peer, label, newer) = self.known.verify_hello(hello, device, account, now)?;
        if let Some(stream) = self.streams.get_mut(&signal) {
            (stream.peer, stream.label) = (Some(peer), label);
        }
        if leg.is_none() {
            self.say_hello(signal, now);
        }
        if newer.is_some() {
            // A stranger's is not worth a place in the store: it is remembered when the stranger rings.
            let talks = self.active.as_ref().is_some_and(|call| call.head.peer == peer.account);
            if talks || leg.is_some() || self.is_contact(peer.account) {
                self.remember_set_of(peer.account);
            }
            self.drop_revoked();
        }
        if self.asking_introduced(leg, signal) {
            return Ok(());
        }
        match leg.or_else(|| self.leg_with(peer.account, peer.device)) {
            Some(leg) => self.attach(signal, leg, now),
            None => self.say_again(signal, peer.account, peer.device),
        }
        Ok(())
    }

    /// Whether a last word is about the call going on: it names it, or none.
    fn is_about(&self, body: &Body) -> bool {
        let call = meant(body);
        call.is_empty() || self.active.as_ref().is_some_and(|active| call == active.head.id.0)
    }

    /// A last word on a call that is over here. Whoever says it waits for an answer; once a stream, since the other end
    /// may take that for such a word itself.
    fn answer_other(&mut self, signal: SignalId, body: &Body) {
        let Some(stream) = self.streams.get_mut(&signal) else { return };
        if !std::mem::replace(&mut stream.answered_other, true) {
            self.out.send(signal, Body::HangUp(hang_up(EndReason::HungUp, meant(body))));
        }
    }

    /// What the account calls the device of this leg; proved, as the certificate is.
    pub(super) fn label_of(&self, leg: LegId) -> String {
        let stream = self.streams.values().find(|stream| stream.leg == Some(leg) && stream.peer.is_some());
        stream.map(|stream| clipped(&stream.label)).unwrap_or_default()
    }

    /// Has the driver keep the newest device set of an account.
    pub(super) fn remember_set_of(&mut self, account: AccountKey) {
        let Some(set) = self.known.get(account) else { return };
        let (epoch, device_set) = (set.epoch(), set.signed().clone());
        self.out.push(Command::RememberDeviceSet { account, epoch, device_set });
    }

    /// The leg of the call going on that belongs to this device.
    pub(super) fn leg_with(&self, account: AccountKey, device: DeviceKey) -> Option<LegId> {
        let call = self.active.as_ref().filter(|call| call.head.peer == account)?;
        call.legs.iter().find(|leg| leg.device == device).map(|leg| leg.id)
    }

    /// A stream whose hellos were exchanged now serves a leg: say on it what the other end may have missed.
    pub(super) fn attach(&mut self, signal: SignalId, leg: LegId, now: Now) {
        let Some(stream) = self.streams.get_mut(&signal) else { return };
        if stream.leg.replace(leg) != Some(leg) {
            (stream.offered, stream.said, stream.heard) = (false, false, false);
            // Another call on it: the end of the one before is known there.
            self.farewell_answered(signal);
        }
        let Some(stream) = self.streams.get_mut(&signal) else { return };
        if stream.line.take().is_some() {
            self.out.push(Command::SetSignalIdle { signal, idle: false });
        }
        let Some(parts) = self.parts(leg) else { return };
        let surplus = parts.leg.attach(signal);
        let role = parts.leg.role;
        if let Some(surplus) = surplus {
            self.drop_stream(surplus);
        }
        if role == Role::Callee {
            // The caller's offer comes first: it says which call the stream is about.
            return;
        }
        self.send_offer(leg, signal, now);
        let Some(Parts { leg, out, .. }) = self.parts(leg) else { return };
        if let Some(draw) = leg.draw.clone() {
            leg.send(out, Body::Draw(draw));
        }
        if leg.phase == Phase::Confirmed {
            leg.send(out, Body::Confirm(Confirm {}));
        }
        leg.send_candidates(out, signal);
        leg.repeat_redraw(out);
    }

    /// Strangers' streams make room first, the oldest of them; whatever they do, half of the places is not theirs.
    pub(super) fn add_stream(&mut self, signal: SignalId, stream: Stream, now: Now) {
        let strangers = self.streams.iter().filter(|(_, stream)| self.is_strangers(stream));
        let full = self.streams.len() >= STREAMS_MAX
            || (self.is_strangers(&stream) && strangers.clone().count() >= STRANGERS_STREAMS_MAX);
        if full {
            let oldest = strangers.min_by_key(|(_, stream)| stream.opened_ms);
            let idle = self.streams.iter().filter(|(_, s)| s.leg.is_none()).min_by_key(|(_, s)| s.opened_ms);
            match oldest.or(idle).map(|(id, _)| *id) {
                Some(idle) => self.drop_stream(idle),
                None => return self.out.push(Command::CloseSignal(signal)),
            }
        }
        let ours = stream.leg.is_some();
        self.streams.insert(signal, stream);
        // Who opened the stream says hello first: this end's papers are not for everybody who knows its homes.
        if ours {
            self.say_hello(signal, now);
        }
    }

    fn say_hello(&mut self, signal: SignalId, now: Now) {
        let hello = self.hello(now);
        self.out.send(signal, Body::Hello(hello));
    }

    /// A stream that serves no call, of nobody known to be a contact.
    fn is_strangers(&self, stream: &Stream) -> bool {
        let contact = match stream.peer {
            Some(peer) => self.is_contact(peer.account),
            None => self.known.is_pinned(stream.device),
        };
        stream.leg.is_none() && !contact
    }

    /// What this device says first on each stream.
    #[must_use]
    pub fn hello(&self, now: Now) -> SignalHello {
        SignalHello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            features: self.config.features,
            software: clipped(&self.config.software),
            certificate: Some(self.config.certificate.clone()),
            device_set: Some(self.config.device_set.clone()),
            time_s: now.unix_ms / 1_000,
        }
    }

    /// Streams whose other end did not introduce itself in time are closed; an attempt to reach it has failed.
    pub(super) fn drop_unintroduced(&mut self, now: Now) {
        let late = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.introduction_deadline().is_some_and(|at| at <= now.mono_ms));
        let late: Vec<(SignalId, Option<LegId>)> = late.map(|(id, stream)| (*id, stream.leg)).collect();
        for (signal, leg) in late {
            self.drop_stream(signal);
            if let Some(leg) = leg {
                self.asking_failed(leg, now);
                self.attempt_failed(leg, "the device did not introduce itself", now);
            }
        }
    }

    /// Closes a stream and forgets it.
    pub(super) fn drop_stream(&mut self, signal: SignalId) {
        let Some(stream) = self.streams.remove(&signal) else { return };
        self.farewell_lost(signal, stream.via);
        if let Some(parts) = stream.leg.and_then(|leg| self.parts(leg)) {
            parts.leg.streams.retain(|other| *other != signal);
        }
        self.out.push(Command::CloseSignal(signal));
    }

    /// The other end broke a rule: it hears why; its leg ends, nothing else.
    fn fault(&mut self, signal: SignalId, fault: Fault) {
        let leg = self.streams.get(&signal).and_then(|stream| stream.leg);
        let call = self.active.as_ref().filter(|call| call.legs.iter().any(|other| Some(other.id) == leg));
        let call = call.map(|call| call.head.id.0.to_vec()).unwrap_or_default();
        self.out.send(signal, Body::HangUp(hang_up(fault.reason, call)));
        self.drop_stream(signal);
        if let Some(leg) = leg {
            let role = self.active.as_ref().map_or(Role::Caller, |call| call.head.role);
            let why = format!("{} ({})", super::notes::words(fault.reason, role), fault.why);
            self.end_leg(leg, fault.reason, Some(why), true);
        }
    }

    /// Legs and streams of devices that have been revoked end.
    pub(super) fn drop_revoked(&mut self) {
        let revoked =
            self.streams.iter().filter(|(_, s)| s.peer.is_some_and(|peer| self.known.revokes(&peer)));
        let revoked: Vec<SignalId> = revoked.map(|(id, _)| *id).collect();
        for signal in revoked {
            let why = "the device is no longer one of its account's devices".into();
            self.fault(signal, Fault { reason: EndReason::NotTrusted, why });
        }
        let Some(call) = &self.active else { return };
        let Some(set) = self.known.get(call.head.peer) else { return };
        let gone: Vec<LegId> =
            call.legs.iter().filter(|leg| !set.contains(leg.device)).map(|leg| leg.id).collect();
        for leg in gone {
            self.end_leg(leg, EndReason::NotTrusted, None, true);
        }
    }

    /// An attempt to open a stream failed: try again, or give the leg up.
    pub(super) fn attempt_failed(&mut self, leg: LegId, reason: &str, now: Now) {
        let jitter = self.jitter();
        let Some(Parts { head, leg, out, .. }) = self.parts(leg) else { return };
        leg.open_failed(jitter, now);
        if leg.phase == Phase::Confirmed {
            // Their homes may have changed.
            out.push(Command::LookUp { call: head.id, account: head.peer });
            return;
        }
        if leg.reach.failures >= super::leg::ATTEMPTS_MAX && leg.streams.is_empty() {
            let (id, why) = (leg.id, format!("A device could not be reached: {}", clipped(reason)));
            self.end_leg(id, EndReason::Unreachable, Some(why), false);
        }
    }

    /// The last stream of a leg is gone.
    fn stream_lost(&mut self, leg: LegId, stream: &Stream, reason: &str, now: Now) {
        let Some(Parts { head, leg, out, .. }) = self.parts(leg) else { return };
        if leg.phase == Phase::Reaching {
            let id = leg.id;
            return self.attempt_failed(id, reason, now);
        }
        if leg.phase == Phase::Confirmed {
            head.note(out, "The signalling connection was lost. The call goes on while it is re-opened.");
        }
        if leg.role == Role::Caller {
            if now.mono_ms >= stream.opened_ms + LASTED_MS {
                leg.reach.failures = 0;
            }
            if leg.reach.failures > 0 {
                let id = leg.id;
                return self.attempt_failed(id, reason, now);
            }
            leg.reach.failures = 1;
            leg.open(out, stream.via.as_slice(), now);
        } else if head.stage > Stage::Ringing {
            out.push(Command::LookUp { call: head.id, account: head.peer });
            leg.reach.next_ms = Some(now.mono_ms + CALLEE_REOPENS_MS);
        }
    }

    pub(super) fn jitter(&mut self) -> u64 {
        let bytes = self.random();
        u64::from(u16::from_le_bytes([bytes[0], bytes[1]]))
    }
}

/// The call that a last word names; empty: none.
fn meant(body: &Body) -> Vec<u8> {
    match body {
        Body::HangUp(hang_up) => hang_up.call_id.clone(),
        Body::Decline(decline) => decline.call_id.clone(),
        _ => Vec::new(),
    }
}

/// A number of a newer version means a plain hang-up.
fn reason_of(number: u32) -> EndReason {
    match EndReason::from(number) {
        EndReason::Other(_) => EndReason::HungUp,
        known => known,
    }
}

/// At most 64 bytes, cut between characters.
pub(super) fn clipped(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
