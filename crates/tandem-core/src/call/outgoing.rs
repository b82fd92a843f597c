//! The caller's side: look up, reach every device, offer, draw relays, confirm the first answer.

use tandem_proto::draw;
use tandem_proto::identity::InvitedCall;
use tandem_proto::ids::{AccountKey, DeviceKey};
use tandem_proto::record::ReachRecord;
use tandem_proto::signed::SupernodeDescriptor;
use tandem_proto::wire::signal_frame::Body;
use tandem_proto::wire::{Answer, Confirm, Draw, HangUp, MediaDescription, Offer, Ringing};

use super::confirm;
use super::leg::{Leg, Media, Phase};
use super::notes::{short, shorts, words};
use super::plan::{self, Plan, RELAYS_WANTED, VOUCHED_MAX};
use super::signal::clipped;
use super::types::{CallEvent, CallId, Command, EndReason, LegId, Role, SignalId, Stage};
use super::{Calls, EARLY_MAX, Fault, Head, LEGS_MAX, Out, Parts};
use crate::time::Now;

impl Calls {
    /// A record of the account called; may come again with a better one, and during a call.
    pub fn handle_found(&mut self, call: CallId, record: &ReachRecord, now: Now) {
        if self.asking_found(call, record, now) {
            return;
        }
        self.farewell_found(call, record);
        let fits = |head: &Head| head.id == call && head.peer == record.account();
        if !self.active.as_ref().is_some_and(|active| fits(&active.head)) {
            return;
        }
        if self.known.note(record.device_set()) {
            self.remember_set_of(record.account());
            self.drop_revoked();
        }
        self.known.looked_up(record.account(), now);
        for homes in record.homes() {
            // Whatever this record says, the highest device set known decides.
            let revoked = self.known.get(record.account()).is_some_and(|set| !set.contains(homes.device()));
            if !revoked && !homes.homes().is_empty() {
                self.route_found(homes.device(), homes.homes(), now);
            }
        }
        let Some(head) = self.active.as_mut().map(|active| &mut active.head) else { return };
        if head.role == Role::Caller && head.setup.lookup.is_none() {
            head.setup.lookup = Some(now.mono_ms - head.placed_ms);
        }
    }

    /// The look-up has ended: nothing more will be found.
    pub fn handle_lookup_done(&mut self, call: CallId, now: Now) {
        if self.asking_looked_up(call, now) {
            return;
        }
        let Some(active) = self.active.as_mut().filter(|active| active.head.id == call) else { return };
        active.head.looked_up = true;
        if active.head.stage == Stage::LookingUp && active.legs.is_empty() {
            active.head.enter(Stage::Reaching, now);
        }
        self.end_without_legs(None);
    }

    fn route_found(&mut self, device: DeviceKey, homes: &[tandem_proto::signed::Home], now: Now) {
        let Some(Self { active: Some(call), out, .. }) = Some(&mut *self) else { return };
        if let Some(leg) = call.legs.iter_mut().find(|leg| leg.device == device) {
            leg.routes = homes.to_vec();
            // A stream that could not be opened may be tried at once on the new routes.
            let waits = leg.streams.is_empty() && leg.reach.next_ms.is_some_and(|_| leg.role == Role::Caller);
            if waits && leg.reach.failures <= 1 {
                leg.open(out, &leg.plan.dead(), now);
            }
            return;
        }
        let finished = call.head.finished.iter().any(|(known, _)| *known == device);
        let open = call.head.role == Role::Caller && call.head.stage < Stage::Established;
        if finished || !open || call.legs.len() >= LEGS_MAX {
            return;
        }
        if call.head.stage == Stage::LookingUp {
            call.head.enter(Stage::Reaching, now);
        }
        let mut leg = self.new_leg(device, Role::Caller, None);
        leg.routes = homes.to_vec();
        leg.open(&mut self.out, &[], now);
        self.push_leg(leg);
    }

    /// Adds a caller's leg and asks for its media session.
    pub(super) fn push_leg(&mut self, mut leg: Leg) {
        let Some(call) = self.active.as_mut() else { return };
        leg.keeps_line = call.head.direct_allowed() && !self.config.options.relay_only;
        prepare_media(&call.head, &mut leg, &mut self.out);
        call.legs.push(leg);
    }

    /// The media session of a leg is there; `media` goes to the other end. Offers and answers wait for it.
    pub fn handle_media_prepared(&mut self, leg: LegId, media: MediaDescription, now: Now) {
        let Some(parts) = self.parts(leg) else { return };
        parts.leg.media = Media::Ready(media);
        match parts.leg.role {
            Role::Caller => {
                let streams = self.streams.iter().filter(|(_, stream)| stream.leg == Some(leg));
                let streams: Vec<SignalId> = streams.map(|(signal, _)| *signal).collect();
                streams.into_iter().for_each(|signal| self.send_offer(leg, signal, now));
            }
            Role::Callee => {
                self.send_ringing(leg);
                self.send_answer(leg, now);
            }
        }
    }

    /// The driver could not make a media session.
    pub fn handle_media_failed(&mut self, leg: LegId, reason: &str, now: Now) {
        self.clock_ms = now.mono_ms;
        let why = format!("The call's sound could not be set up on this machine: {reason}");
        self.end_leg(leg, EndReason::Failed, Some(why), true);
    }

    /// Sends the offer on a stream, once: as soon as there is a media description and the device there is proved, by its
    /// hello or by a device set that we verified. The same offer again on a stream that was re-opened tells the callee
    /// what the stream is about.
    pub(super) fn send_offer(&mut self, leg: LegId, signal: SignalId, now: Now) {
        let Some(peer) = self.active.as_ref().map(|call| call.head.peer) else { return };
        let Some(stream) = self.streams.get(&signal).filter(|stream| !stream.offered) else { return };
        let named = self.known.get(peer).is_some_and(|set| set.contains(stream.device));
        if stream.peer.is_none() && !named {
            return;
        }
        let Some(Parts { head, leg, out, config, own_relays }) = self.parts(leg) else { return };
        let Media::Ready(media) = &leg.media else { return };
        if leg.role != Role::Caller {
            return;
        }
        if leg.offer.is_none() {
            leg.vouched = plan::vouched(own_relays, now);
        }
        let offer = leg.offer.get_or_insert_with(|| Offer {
            call_id: head.id.0.to_vec(),
            leg_secret: leg.secret.to_vec(),
            media: Some(media.clone()),
            draw_commit: draw::commit(&leg.nonce, &plan::keys(&leg.vouched)).to_vec(),
            relay_only: !head.direct_allowed(),
            display_name: clipped(&config.display_name),
            invitation: invitation_proof(config.account, head, leg.device),
        });
        out.send(signal, Body::Offer(offer.clone()));
        leg.phase = leg.phase.max(Phase::Offered);
        if let Some(stream) = self.streams.get_mut(&signal) {
            stream.offered = true;
        }
    }

    pub(super) fn on_ringing(&mut self, leg: LegId, ringing: Ringing, now: Now) -> Result<(), Fault> {
        let Some(Parts { head, leg, out, own_relays, .. }) = self.parts(leg) else { return Ok(()) };
        if leg.role != Role::Caller || leg.phase == Phase::Reaching {
            return Err(Fault::protocol("it said that it rings without having been offered a call"));
        }
        if let Some(known) = &leg.ringing {
            if *known != ringing {
                return Err(Fault::protocol("it said twice that it rings, and not the same"));
            }
            let draw = leg.draw.clone();
            draw.into_iter().for_each(|draw| leg.send(out, Body::Draw(draw)));
            return Ok(());
        }
        if ringing.media.as_ref().is_some_and(|media| !is_usable(media)) {
            return Err(Fault::protocol("it rings with a media description that cannot be used"));
        }
        let theirs = nonce_and_relays(&ringing, now)?;
        draw_relays(leg, theirs);
        confirm::ask(head, leg, out, own_relays, now);
        if ringing.relay_only {
            leg.keeps_line = false;
            leg.local.forget_addresses();
        }
        leg.ringing = Some(ringing);
        leg.phase = Phase::Ringing;
        // No other stream is needed behind the one that was kept open from the last call.
        leg.reach.next_ms = None;
        let draw = leg.draw.clone();
        draw.into_iter().for_each(|draw| leg.send(out, Body::Draw(draw)));
        // What was held back until the callee had said whether it may be shown.
        leg.streams.iter().for_each(|signal| leg.send_candidates(out, *signal));
        note_drawn(head, leg, out);
        request_drawn(leg, out, now);
        if head.stage < Stage::Ringing {
            head.enter(Stage::Ringing, now);
            head.setup.ringing = Some(now.mono_ms - head.placed_ms);
            out.report(head.id, CallEvent::Ringing);
        }
        self.connect_early();
        Ok(())
    }

    /// Lets media sessions connect while it rings, a few at once: when somebody picks up only the sound is missing.
    /// No microphone opens by this.
    pub(super) fn connect_early(&mut self) {
        let Some(call) = self.active.as_mut().filter(|call| call.head.role == Role::Caller) else { return };
        let described = call.legs.iter().filter(|leg| leg.described).count();
        let waiting = call.legs.iter_mut().filter(|leg| !leg.described && leg.phase == Phase::Ringing);
        for leg in waiting.take(EARLY_MAX.saturating_sub(described)) {
            if let Some(media) = leg.ringing.as_ref().and_then(|ringing| ringing.media.clone()) {
                leg.describe(&mut self.out, media);
            }
        }
    }

    pub(super) fn on_answer(&mut self, id: LegId, answer: Answer, now: Now) -> Result<(), Fault> {
        let Some(Parts { head, leg, out, .. }) = self.parts(id) else { return Ok(()) };
        if leg.role != Role::Caller || leg.phase < Phase::Ringing {
            return Err(Fault::protocol("it answered without having rung"));
        }
        if let Some(known) = &leg.answer {
            if *known != answer {
                return Err(Fault::protocol("it answered twice, and not the same"));
            }
            leg.send(out, Body::Confirm(Confirm {}));
            return Ok(());
        }
        let media = agreed_media(leg, &answer)?;
        leg.answer = Some(answer);
        leg.send(out, Body::Confirm(Confirm {}));
        leg.describe(out, media);
        head.answered_ms = Some(now.mono_ms);
        self.establish(id, now);
        self.dismiss_others(id, EndReason::AnsweredElsewhere);
        Ok(())
    }

    /// Both sides have agreed: sound may flow.
    pub(super) fn establish(&mut self, id: LegId, now: Now) {
        let Some(Parts { head, leg, out, .. }) = self.parts(id) else { return };
        leg.phase = Phase::Confirmed;
        leg.watch.started = now.mono_ms;
        leg.redraws.start(leg.role, now);
        head.enter(Stage::Established, now);
        out.push(Command::StartMedia { call: head.id, leg: leg.id });
        let relay_only = match leg.role {
            Role::Caller => leg.ringing.as_ref().is_some_and(|ringing| ringing.relay_only),
            Role::Callee => leg.offer.as_ref().is_some_and(|offer| offer.relay_only),
        };
        out.report(head.id, CallEvent::Answered { leg: leg.id, device: leg.device, relay_only });
        if leg.role == Role::Callee {
            // So that there is a way back to the caller when our network changes.
            out.push(Command::LookUp { call: head.id, account: head.peer });
        }
        if leg.watch.early_sound {
            self.handle_first_media(id, now);
        }
    }

    pub(super) fn on_decline(&mut self, leg: LegId, reason: EndReason) -> Result<(), Fault> {
        let Some(parts) = self.parts(leg) else { return Ok(()) };
        let may =
            parts.leg.role == Role::Caller && (Phase::Offered..Phase::Confirmed).contains(&parts.leg.phase);
        if !may {
            return Err(Fault::protocol("it declined a call that it was not offered, or had answered"));
        }
        if reason == EndReason::Declined {
            // The person has spoken: the other devices need not ring on.
            self.dismiss_others(leg, EndReason::Declined);
        }
        self.end_leg(leg, reason, None, false);
        Ok(())
    }

    /// Tells all devices but one that the call was taken (or declined) there, and what their account calls that one.
    fn dismiss_others(&mut self, kept: LegId, reason: EndReason) {
        let by = self.label_of(kept);
        let Some(mut call) = self.active.take() else { return };
        let (stay, others) = std::mem::take(&mut call.legs).into_iter().partition(|leg| leg.id == kept);
        call.legs = stay;
        let others: Vec<Leg> = others;
        let word = HangUp { reason: reason.number(), by, call_id: call.head.id.0.to_vec() };
        for leg in others {
            self.close_leg(&call.head, &leg, reason, Some(Body::HangUp(word.clone())));
        }
        self.active = Some(call);
    }

    /// A call whose last leg has ended ends with what its devices said, the most telling first.
    pub(super) fn end_without_legs(&mut self, why: Option<String>) {
        let Some(call) = self.active.as_ref() else { return };
        let head = &call.head;
        let waits = !call.legs.is_empty() || head.role != Role::Caller || head.stage == Stage::LookingUp;
        if waits {
            return;
        }
        let said = |reason: &EndReason| head.finished.iter().any(|(_, said)| said == reason);
        let reason = MOST_TELLING.into_iter().find(said);
        match reason {
            // A better record may still come.
            None | Some(EndReason::Unreachable) if !head.looked_up => {}
            None => {
                let why = "Nobody with this address could be found: no device of it is online. Check the address, or try again later.";
                self.end(EndReason::Unreachable, Some(why.into()), false);
            }
            Some(EndReason::Unreachable) => {
                let why =
                    why.map(|detail| format!("{} {detail}", words(EndReason::Unreachable, Role::Caller)));
                self.end(EndReason::Unreachable, why, false);
            }
            Some(reason) => self.end(reason, why, false),
        }
    }
}

/// Which of several devices' reasons stands for the call.
const MOST_TELLING: [EndReason; 13] = [
    EndReason::Declined,
    EndReason::Busy,
    EndReason::Refused,
    EndReason::NoAnswer,
    EndReason::HungUp,
    EndReason::AnsweredElsewhere,
    EndReason::Cancelled,
    EndReason::Failed,
    EndReason::NotTrusted,
    EndReason::Version,
    EndReason::Protocol,
    EndReason::Lost,
    EndReason::Unreachable,
];

/// Asks the driver for the leg's media session.
pub(super) fn prepare_media(head: &Head, leg: &mut Leg, out: &mut Out) {
    leg.media = Media::Preparing;
    out.push(Command::PrepareMedia {
        call: head.id,
        leg: leg.id,
        role: leg.role,
        direct_allowed: head.direct_allowed(),
        redundancy: head.options.redundancy,
    });
}

/// Asks for grants on the relays drawn.
pub(super) fn request_drawn(leg: &mut Leg, out: &mut Out, now: Now) {
    let relays = leg.plan.take_next(RELAYS_WANTED, &leg.secret, now);
    if !relays.is_empty() {
        out.push(Command::RequestGrants { leg: leg.id, relays });
    }
}

/// Says which relays were drawn and why.
pub(super) fn note_drawn(head: &mut Head, leg: &Leg, out: &mut Out) {
    let (drawn, total) = (leg.plan.drawn(), leg.plan.len());
    let text = match drawn.first() {
        None => "No relay is known to either end, so only a direct path can carry this call.".to_owned(),
        Some(first) if drawn.len() == 1 => {
            format!("Relay {} carries the call: the only one known to both ends.", short(*first))
        }
        Some(_) => format!(
            "Relays {} were drawn among {total} by numbers of both ends, in different networks where there are such; neither end could pick them. The others stand by.",
            shorts(&drawn)
        ),
    };
    head.note(out, &text);
}

/// What an ICE and DTLS session can be started with (RFC 8839 §5.4 for the lengths).
pub(super) fn is_usable(media: &MediaDescription) -> bool {
    let ice = |text: &str, least: usize| {
        (least..=256).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
    };
    ice(&media.ice_ufrag, 4)
        && ice(&media.ice_pwd, 22)
        && media.dtls_fingerprint.len() == 32
        && media.opus_features.len() <= 16
}

/// The callee's description: said while it rang or with the answer, and not two different ones.
fn agreed_media(leg: &Leg, answer: &Answer) -> Result<MediaDescription, Fault> {
    let rang = leg.ringing.as_ref().and_then(|ringing| ringing.media.as_ref());
    let media = match (rang, &answer.media) {
        (Some(rang), Some(said)) if rang != said => {
            return Err(Fault::protocol("it answered with another media description than it rang with"));
        }
        (rang, said) => rang.or(said.as_ref()).filter(|media| is_usable(media)),
    };
    media.cloned().ok_or_else(|| Fault::protocol("its answer has no usable media description"))
}

type TheirDraw = ([u8; 32], Vec<SupernodeDescriptor>);

fn nonce_and_relays(ringing: &Ringing, now: Now) -> Result<TheirDraw, Fault> {
    let nonce: [u8; 32] = ringing
        .draw_nonce
        .as_slice()
        .try_into()
        .map_err(|_| Fault::protocol("its number for the draw is not 32 bytes long"))?;
    if ringing.relays.len() > VOUCHED_MAX {
        return Err(Fault::protocol("it vouches for more than 8 relays"));
    }
    let mut relays = Vec::with_capacity(ringing.relays.len());
    for signed in &ringing.relays {
        relays.push(
            plan::usable(signed, now)
                .ok_or_else(|| Fault::protocol("it vouches for a relay that is none"))?,
        );
    }
    Ok((nonce, relays))
}

fn draw_relays(leg: &mut Leg, (callee_nonce, vouched): TheirDraw) {
    leg.plan = Plan::draw((&leg.nonce, &callee_nonce), &leg.vouched, &vouched);
    leg.draw = Some(Draw { nonce: leg.nonce.to_vec(), relays: plan::signed(&leg.vouched) });
}

/// Shows that we have the link, to that device and for that call; empty without one.
fn invitation_proof(caller: AccountKey, head: &Head, device: DeviceKey) -> Vec<u8> {
    let call = InvitedCall { caller, callee: head.peer, device, call: head.id.0 };
    head.options.invitation.map(|secret| secret.hash().proof(&call).to_vec()).unwrap_or_default()
}
