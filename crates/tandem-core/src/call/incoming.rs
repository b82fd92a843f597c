//! The callee's side: ring, check the draw, answer; and what happens when both call each other.

use tandem_proto::wire::signal_frame::Body;
use tandem_proto::wire::{Answer, Decline, Draw, Offer, Ringing};

use super::confirm;
use super::leg::{Media, Phase};
use super::outgoing::{is_usable, note_drawn, request_drawn};
use super::plan::{self, Plan, vouched};
use super::signal::TEXT_BYTES_MAX;
use super::strangers::Admission;
use super::trust::Peer;
use super::types::{CallEvent, CallId, CallOptions, Command, EndReason, LegId, Role, SignalId, Stage};
use super::{Calls, Fault, LEGS_MAX, Parts, hang_up};
use crate::time::Now;

/// An offer this soon after ours was answered has crossed it, in milliseconds.
const CROSSING_MS: u64 = 5_000;

/// What is to become of an offer.
enum Verdict {
    /// It begins a call.
    New,
    /// It repeats the offer of the call going on, on a stream that was re-opened.
    Repeated(LegId),
    /// That call is over.
    Ended,
    /// Another call goes on.
    Busy,
    /// Strangers do not ring here.
    Refused,
    /// Both call each other, and our offer wins: theirs is passed over.
    OursWins,
    /// Both call each other, and theirs wins: ours becomes an answer.
    TheirsWins,
    /// The other end has begun anew: the old call is over for it.
    Replaces,
}

impl Calls {
    pub(super) fn on_offer(
        &mut self,
        signal: SignalId,
        peer: Peer,
        offer: Offer,
        now: Now,
    ) -> Result<(), Fault> {
        let call = check_offer(&offer)?;
        match self.judge(call, &peer, &offer, now)? {
            Verdict::New => self.accept(signal, peer, call, offer, None, now),
            Verdict::Repeated(leg) => return self.resume(leg, &offer),
            // Said on this stream already, and not heard yet.
            Verdict::Ended if self.is_farewell(signal) => {}
            Verdict::Ended => {
                let said = self.last_word(call, peer.device);
                let plain = || Body::HangUp(hang_up(EndReason::HungUp, offer.call_id.clone()));
                self.dismiss(signal, said.unwrap_or_else(plain));
            }
            Verdict::Busy => self.dismiss(signal, decline(EndReason::Busy, call)),
            Verdict::Refused => self.dismiss(signal, decline(EndReason::Refused, call)),
            Verdict::OursWins => self.insist(signal, &peer, now),
            Verdict::TheirsWins => self.give_way(signal, peer, call, offer, now),
            Verdict::Replaces => {
                self.detach(signal);
                self.end(
                    EndReason::Lost,
                    Some("They called again, so the old call was over for them.".into()),
                    true,
                );
                // Being called, or having been a contact when that call began, lets nobody ring.
                if self.admit(&peer, &offer, now).is_none() {
                    let said = if self.strangers_ring() { EndReason::Busy } else { EndReason::Refused };
                    self.dismiss(signal, decline(said, call));
                } else {
                    self.accept(signal, peer, call, offer, None, now);
                }
            }
        }
        Ok(())
    }

    fn judge(&self, call: CallId, peer: &Peer, offer: &Offer, now: Now) -> Result<Verdict, Fault> {
        if peer.account == self.config.account {
            return Ok(Verdict::Refused);
        }
        // Whoever may not ring does not learn either whether another call goes on.
        let talking = self.active.as_ref().is_some_and(|call| call.head.peer == peer.account);
        if !talking && self.admit(peer, offer, now).is_none() {
            // Where strangers ring, only the blocked come here: what they hear is what any stranger may hear there.
            return Ok(if self.strangers_ring() { Verdict::Busy } else { Verdict::Refused });
        }
        let Some(active) = &self.active else {
            return Ok(if self.ended.contains(&call) { Verdict::Ended } else { Verdict::New });
        };
        let head = &active.head;
        let leg = active.legs.iter().find(|leg| leg.device == peer.device && head.peer == peer.account);
        if head.id == call {
            return match leg {
                Some(leg) if leg.role == Role::Callee => Ok(Verdict::Repeated(leg.id)),
                _ => Err(Fault::protocol("it offered a call that is not its own")),
            };
        }
        if self.ended.contains(&call) {
            return Ok(Verdict::Ended);
        }
        if head.peer != peer.account {
            return Ok(Verdict::Busy);
        }
        // Their offer may come late, on another stream than the answer to ours.
        let crossing = head.stage < Stage::Established || now.mono_ms < head.stage_ms + CROSSING_MS;
        Ok(match (head.role, leg) {
            (Role::Caller, _) if crossing && self.config.account < peer.account => Verdict::OursWins,
            (Role::Caller, _) if head.stage < Stage::Established => Verdict::TheirsWins,
            (_, Some(_)) => Verdict::Replaces,
            (_, None) => Verdict::Busy,
        })
    }

    /// Begins a call on the callee's side. `merged`: we were calling them, with these options, so it is answered at once.
    fn accept(
        &mut self,
        signal: SignalId,
        peer: Peer,
        call: CallId,
        offer: Offer,
        merged: Option<CallOptions>,
        now: Now,
    ) {
        let Ok(secret) = offer.leg_secret.as_slice().try_into() else { return };
        let mut options = merged.unwrap_or(self.config.options);
        options.relay_only |= offer.relay_only;
        let admission = self.admit(&peer, &offer, now);
        let invitation = match admission {
            Some(Admission::Invited(id)) => Some(id),
            _ => None,
        };
        invitation.into_iter().for_each(|id| self.use_invitation(id, peer.account));
        self.remember_set_of(peer.account);
        self.begin(call, peer.account, Role::Callee, options, now);
        let mut leg = self.new_leg(peer.device, Role::Callee, Some(secret));
        leg.phase = Phase::Ringing;
        leg.vouched = vouched(&self.own_relays, now);
        let early = merged.is_some() || self.shows_media_early(admission == Some(Admission::Contact));
        leg.shows_media = early;
        let (id, name, media) = (leg.id, printable(&offer.display_name), offer.media.clone());
        leg.offer = Some(offer);
        self.push_leg(leg);
        self.attach(signal, id, now);
        let Some(Parts { head, leg, out, .. }) = self.parts(id) else { return };
        if early {
            media.into_iter().for_each(|media| leg.describe(out, media));
        }
        if merged.is_some() {
            return;
        }
        let (contact, from, device) = (head.contact, head.peer, leg.device);
        out.push(Command::Ring { call, from, device, contact, name, invitation });
        // It rings meanwhile.
        if !self.known.is_fresh(from, now) {
            self.out.push(Command::LookUp { call, account: from });
        }
    }

    /// Says that it rings, once the media session is there: its description goes along, so that both ends connect
    /// while it rings.
    pub(super) fn send_ringing(&mut self, leg: LegId) {
        let Some(Parts { head, leg, out, .. }) = self.parts(leg) else { return };
        let Media::Ready(media) = &leg.media else { return };
        if leg.ringing.is_some() {
            return;
        }
        let ringing = Ringing {
            draw_nonce: leg.nonce.to_vec(),
            relays: plan::signed(&leg.vouched),
            media: leg.shows_media.then(|| media.clone()),
            // The same for a stranger as when we want relays only: nobody learns more than what they may see.
            relay_only: !head.direct_allowed(),
        };
        leg.ringing = Some(ringing.clone());
        leg.send(out, Body::Ringing(ringing));
        // Candidates that came before were of no use to the caller.
        leg.streams.last().into_iter().for_each(|signal| leg.send_candidates(out, *signal));
    }

    /// The stream was re-opened: repeat what the caller may have missed.
    fn resume(&mut self, leg: LegId, offer: &Offer) -> Result<(), Fault> {
        let Some(Parts { leg, out, .. }) = self.parts(leg) else { return Ok(()) };
        if leg.offer.as_ref() != Some(offer) {
            return Err(Fault::protocol("it offered the same call twice, and not the same"));
        }
        let signal = leg.streams.last().copied();
        if leg.phase == Phase::Confirmed {
            signal.into_iter().for_each(|signal| leg.send_candidates(out, signal));
            leg.repeat_redraw(out);
            return Ok(());
        }
        let (ringing, answer) = (leg.ringing.clone(), leg.answer.clone());
        ringing.into_iter().for_each(|ringing| leg.send(out, Body::Ringing(ringing)));
        answer.into_iter().for_each(|answer| leg.send(out, Body::Answer(answer)));
        signal.into_iter().for_each(|signal| leg.send_candidates(out, signal));
        Ok(())
    }

    /// Both call each other and our offer wins: it goes out on the stream they opened, too.
    fn insist(&mut self, signal: SignalId, peer: &Peer, now: Now) {
        if self.leg_with(peer.account, peer.device).is_none() {
            // A call that is agreed needs no more devices.
            let agreed = self.active.as_ref().is_some_and(|call| call.head.stage == Stage::Established);
            if agreed || self.active.as_ref().is_some_and(|call| call.legs.len() >= LEGS_MAX) {
                return;
            }
            let leg = self.new_leg(peer.device, Role::Caller, None);
            self.push_leg(leg);
        }
        let Some(leg) = self.leg_with(peer.account, peer.device) else { return };
        if let Some(head) = self.active.as_mut().map(|call| &mut call.head)
            && head.stage == Stage::LookingUp
        {
            head.enter(Stage::Reaching, now);
        }
        if self.streams.get(&signal).is_some_and(|stream| stream.leg != Some(leg)) {
            self.attach(signal, leg, now);
        }
    }

    /// Both call each other and theirs wins: our call goes on as theirs, answered.
    fn give_way(&mut self, signal: SignalId, peer: Peer, call: CallId, offer: Offer, now: Now) {
        let Some(mut old) = self.active.take() else { return };
        let kept: Vec<SignalId> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.peer.is_some_and(|other| other.device == peer.device))
            .map(|(id, _)| *id)
            .collect();
        for signal in &kept {
            if let Some(stream) = self.streams.get_mut(signal) {
                stream.leg = None;
            }
        }
        for leg in &mut old.legs {
            leg.streams.retain(|other| !kept.contains(other));
            // The winner's device took no notice of our offer.
            let word = (leg.device != peer.device).then(|| old.head.last_word(EndReason::Cancelled));
            self.close_leg(&old.head, leg, EndReason::Cancelled, word);
        }
        self.remember_ended(old.head.id);
        self.out.report(old.head.id, CallEvent::Merged { into: call });
        self.accept(signal, peer, call, offer, Some(old.head.options), now);
        let id = self.leg_with(peer.account, peer.device);
        if let Some(Parts { head, out, .. }) = id.and_then(|id| self.parts(id)) {
            head.note(out, "You called each other at the same moment; both calls became one.");
        }
        for other in kept {
            if let Some(id) = id.filter(|_| other != signal) {
                self.attach(other, id, now);
            }
        }
        self.start_answering(now);
    }

    pub(super) fn on_draw(&mut self, leg: LegId, draw: Draw, now: Now) -> Result<(), Fault> {
        let Some(Parts { head, leg, out, own_relays, .. }) = self.parts(leg) else { return Ok(()) };
        let Some(offer) = leg.offer.as_ref().filter(|_| leg.role == Role::Callee) else {
            return Err(Fault::protocol("it sent a draw, which only the caller does"));
        };
        if let Some(known) = &leg.draw {
            let same = *known == draw;
            return same
                .then_some(())
                .ok_or_else(|| Fault::protocol("it drew relays twice, and not the same"));
        }
        let commit: [u8; 32] = offer.draw_commit.as_slice().try_into().unwrap_or_default();
        leg.plan = Plan::check(&draw, &commit, &leg.nonce, &leg.vouched, now)
            .map_err(|error| Fault::protocol(format!("its draw of relays: {error}")))?;
        leg.draw = Some(draw);
        confirm::ask(head, leg, out, own_relays, now);
        note_drawn(head, leg, out);
        request_drawn(leg, out, now);
        Ok(())
    }

    pub(super) fn on_confirm(&mut self, leg: LegId, now: Now) -> Result<(), Fault> {
        let Some(Parts { leg, .. }) = self.parts(leg) else { return Ok(()) };
        match (leg.role, leg.phase) {
            (Role::Callee, Phase::Confirmed) => Ok(()),
            (Role::Callee, Phase::Answered) if leg.draw.is_some() => {
                let id = leg.id;
                self.establish(id, now);
                Ok(())
            }
            _ => Err(Fault::protocol("it confirmed what was not answered")),
        }
    }

    /// The person (or a rule, or glare) picked up; the answer goes out as soon as the media session is there.
    pub(super) fn start_answering(&mut self, now: Now) {
        let Some(call) = self.active.as_mut() else { return };
        call.head.answering = true;
        call.head.answered_ms = Some(now.mono_ms);
        let Some(leg) = call.legs.first().map(|leg| leg.id) else { return };
        self.send_answer(leg, now);
    }

    pub(super) fn send_answer(&mut self, leg: LegId, now: Now) {
        let Some(Parts { head, leg, out, .. }) = self.parts(leg) else { return };
        if !head.answering || leg.phase != Phase::Ringing || leg.ringing.is_none() {
            return;
        }
        // Ringing had the media description, unless it was not for this caller to see so early.
        let late = match &leg.media {
            Media::Ready(media) if !leg.shows_media => Some(media.clone()),
            _ => None,
        };
        let answer = Answer { media: late };
        leg.answer = Some(answer.clone());
        leg.phase = Phase::Answered;
        leg.send(out, Body::Answer(answer));
        let theirs = leg.offer.as_ref().and_then(|offer| offer.media.clone());
        theirs.into_iter().for_each(|media| leg.describe(out, media));
        head.enter(Stage::Answering, now);
    }

    /// Declines the call that rings here.
    pub(super) fn decline_active(&mut self, reason: EndReason) {
        let word = self.active.as_ref().map(|call| decline(reason, call.head.id));
        self.end_with(reason, None, word);
    }

    /// One last frame on a stream that is not ours to keep.
    fn dismiss(&mut self, signal: SignalId, body: Body) {
        self.out.send(signal, body);
        self.drop_stream(signal);
    }

    /// Takes a stream from its leg without closing it.
    fn detach(&mut self, signal: SignalId) {
        let Some(leg) = self.streams.get_mut(&signal).and_then(|stream| stream.leg.take()) else { return };
        if let Some(parts) = self.parts(leg) {
            parts.leg.streams.retain(|other| *other != signal);
        }
    }
}

fn check_offer(offer: &Offer) -> Result<CallId, Fault> {
    let call = offer
        .call_id
        .as_slice()
        .try_into()
        .map_err(|_| Fault::protocol("its call id is not 16 bytes long"))?;
    if offer.leg_secret.len() != 32 || offer.draw_commit.len() != 32 {
        return Err(Fault::protocol("its offer lacks a secret or a commitment of 32 bytes"));
    }
    if !offer.media.as_ref().is_some_and(is_usable) {
        return Err(Fault::protocol("its offer has no usable media description"));
    }
    if offer.display_name.len() > TEXT_BYTES_MAX {
        return Err(Fault::protocol("its display name is longer than 64 bytes"));
    }
    Ok(CallId(call))
}

fn decline(reason: EndReason, call: CallId) -> Body {
    Body::Decline(Decline { reason: reason.number(), call_id: call.0.to_vec() })
}

/// A claimed name without characters that could disturb a terminal or a page.
pub(super) fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).collect()
}
