//! Last words: what ends a call (HangUp or Decline) is said until the other end has answered it.
//!
//! Frames are not acknowledged, and a stream can be dead for seconds before anybody notices. So the streams on which the
//! last word went out stay open until it has been answered, by any HangUp or Decline; if that does not come, it is said
//! again on new streams. A device that still takes the call for going on and opens a stream itself is told at once.

use tandem_proto::ids::{AccountKey, DeviceKey, ServiceKey};
use tandem_proto::record::ReachRecord;
use tandem_proto::signed::Home;
use tandem_proto::wire::signal_frame::Body;

use super::leg::{Leg, Phase};
use super::signal::Stream;
use super::types::{CallId, Command, EndReason, LegId, Role, SignalId};
use super::{Calls, Head};
use crate::time::Now;

/// Last words without an answer that are kept at once; the oldest makes room.
const FAREWELLS_MAX: usize = 16;
/// An answer is awaited this long before another stream is opened, in milliseconds.
const ANSWER_MS: u64 = 1_500;
/// Streams are opened for them this long, in milliseconds.
const OPEN_FOR_MS: u64 = 30_000;
/// Streams opened for one of them.
const ATTEMPTS_MAX: u8 = 5;
/// First delay after an attempt that failed, in milliseconds; doubles.
const RETRY_MS: u64 = 500;
/// An attempt of which nothing is heard counts as failed, in milliseconds.
const OPENING_MS: u64 = 12_000;
/// They are remembered this long, for a device that comes to ask: as long as a call without sound lives.
const REMEMBER_MS: u64 = 120_000;

/// A last word that has not been answered.
#[derive(Debug)]
pub(super) struct Farewell {
    /// The leg it ended; streams opened for it come under this number.
    leg: LegId,
    call: CallId,
    account: AccountKey,
    device: DeviceKey,
    body: Body,
    routes: Vec<Home>,
    /// Where it was said.
    streams: Vec<SignalId>,
    /// Supernodes by which it was said in vain.
    vain: Vec<ServiceKey>,
    attempts: u8,
    /// An attempt goes on.
    opening: bool,
    /// When something is to be done about it.
    next_ms: u64,
    began_ms: u64,
}

impl Farewell {
    fn may_open(&self, now_ms: u64) -> bool {
        self.attempts < ATTEMPTS_MAX && now_ms < self.began_ms + OPEN_FOR_MS
    }

    fn ends_ms(&self) -> u64 {
        self.began_ms + REMEMBER_MS
    }

    /// When to wake for it.
    fn deadline(&self) -> u64 {
        let acts = self.opening || self.may_open(self.next_ms);
        if acts { self.next_ms.min(self.ends_ms()) } else { self.ends_ms() }
    }
}

impl Calls {
    /// Whether something that was said to end a call a moment ago has not been answered: a node that is to stop waits a
    /// little.
    #[must_use]
    pub fn awaits_answer(&self) -> bool {
        self.farewells.iter().any(|farewell| farewell.may_open(self.clock_ms))
    }

    /// Says the last word on a leg wherever its other end may hear it: also on streams that have taken the offer and have
    /// not introduced themselves yet. It is remembered until it is answered, unless the other end never heard of the
    /// call, or broke the rules.
    pub(super) fn say_last_word(&mut self, head: &Head, leg: &Leg, reason: EndReason, body: Body) {
        let mut streams = Vec::new();
        for (signal, stream) in self.streams.iter_mut().filter(|(_, stream)| stream.leg == Some(leg.id)) {
            if leg.streams.contains(signal) || stream.offered {
                stream.said = true;
                self.out.send(*signal, body.clone());
                streams.push(*signal);
            }
        }
        let unheard = leg.role == Role::Caller && leg.phase < Phase::Offered;
        let rude = matches!(reason, EndReason::Protocol | EndReason::NotTrusted | EndReason::Version);
        if unheard || rude {
            return;
        }
        if self.farewells.len() >= FAREWELLS_MAX {
            let oldest = self.farewells.remove(0);
            self.drop_streams_of(&oldest);
        }
        let now_ms = self.clock_ms;
        // Without a stream there is nothing to wait for.
        let next_ms = if streams.is_empty() { now_ms } else { now_ms + ANSWER_MS };
        self.farewells.push(Farewell {
            leg: leg.id,
            call: head.id,
            account: head.peer,
            device: leg.device,
            body,
            routes: leg.routes.clone(),
            streams,
            vain: Vec::new(),
            attempts: 0,
            opening: false,
            next_ms,
            began_ms: now_ms,
        });
    }

    /// The stream waits for the answer to a last word.
    pub(super) fn is_farewell(&self, signal: SignalId) -> bool {
        self.farewells.iter().any(|farewell| farewell.streams.contains(&signal))
    }

    /// The other end has answered on this stream, or goes on to something else on it: all is said.
    pub(super) fn farewell_answered(&mut self, signal: SignalId) {
        let said = |farewell: &Farewell| farewell.streams.contains(&signal);
        let Some(index) = self.farewells.iter().position(said) else { return };
        let farewell = self.farewells.remove(index);
        self.drop_streams_of(&farewell);
    }

    /// Closes its streams, those excepted that are lines or serve another call by now.
    fn drop_streams_of(&mut self, farewell: &Farewell) {
        for signal in &farewell.streams {
            if self.streams.get(signal).is_some_and(|stream| stream.leg == Some(farewell.leg)) {
                self.drop_stream(*signal);
            }
        }
    }

    /// A stream is gone before the answer came on it: there is no point in waiting for it.
    pub(super) fn farewell_lost(&mut self, signal: SignalId, via: Option<ServiceKey>) {
        let now_ms = self.clock_ms;
        for farewell in &mut self.farewells {
            let before = farewell.streams.len();
            farewell.streams.retain(|other| *other != signal);
            if farewell.streams.len() < before {
                farewell.vain.extend(via);
                if farewell.streams.is_empty() && !farewell.opening {
                    farewell.next_ms = farewell.next_ms.min(now_ms);
                }
            }
        }
    }

    /// A device introduced itself on a stream that belongs to no call. If it was told of the end of one in vain, it is
    /// told again.
    pub(super) fn say_again(&mut self, signal: SignalId, account: AccountKey, device: DeviceKey) {
        let to = |farewell: &&mut Farewell| farewell.account == account && farewell.device == device;
        let Some(farewell) = self.farewells.iter_mut().rev().find(to) else { return };
        farewell.streams.push(signal);
        let (leg, body) = (farewell.leg, farewell.body.clone());
        if let Some(stream) = self.streams.get_mut(&signal) {
            stream.leg = Some(leg);
        }
        self.out.send(signal, body);
    }

    /// What was said to end a call of ours that the other end still offers, to be said again.
    pub(super) fn last_word(&self, call: CallId, device: DeviceKey) -> Option<Body> {
        let about = |farewell: &&Farewell| farewell.call == call && farewell.device == device;
        self.farewells.iter().find(about).map(|farewell| farewell.body.clone())
    }

    /// A stream asked for to say it is open; `false`: it was asked for by another.
    pub(super) fn farewell_opened(
        &mut self,
        leg: LegId,
        signal: SignalId,
        device: DeviceKey,
        via: Option<ServiceKey>,
        now: Now,
    ) -> bool {
        let Some(farewell) = self.farewells.iter_mut().find(|farewell| farewell.leg == leg) else {
            return false;
        };
        farewell.opening = false;
        if farewell.device != device || self.streams.contains_key(&signal) {
            self.out.push(Command::CloseSignal(signal));
            return true;
        }
        farewell.streams.push(signal);
        farewell.next_ms = now.mono_ms + ANSWER_MS;
        let body = farewell.body.clone();
        self.add_stream(signal, Stream::new(device, via, Some(leg), now), now);
        // The connection proved the device, and nothing of it is a secret from that one.
        self.out.send(signal, body);
        true
    }

    /// A stream asked for to say it could not be opened.
    pub(super) fn farewell_failed(&mut self, leg: LegId, now: Now) {
        let Some(farewell) = self.farewells.iter_mut().find(|f| f.leg == leg && f.opening) else { return };
        farewell.opening = false;
        let delay = RETRY_MS << farewell.attempts.saturating_sub(1).min(4);
        farewell.next_ms = now.mono_ms + delay;
        // Their homes may have changed.
        let (call, account) = (farewell.call, farewell.account);
        self.out.push(Command::LookUp { call, account });
    }

    /// A record of an account that is to be told of the end of this call.
    pub(super) fn farewell_found(&mut self, call: CallId, record: &ReachRecord) {
        let of = |farewell: &&mut Farewell| farewell.call == call && farewell.account == record.account();
        for farewell in self.farewells.iter_mut().filter(of) {
            let homes = record.homes().iter().find(|homes| homes.device() == farewell.device);
            if let Some(homes) = homes.filter(|homes| !homes.homes().is_empty()) {
                farewell.routes = homes.homes().to_vec();
            }
        }
    }

    /// The network of this machine changed: streams of before may be dead.
    pub(super) fn farewells_moved(&mut self, now: Now) {
        for farewell in &mut self.farewells {
            farewell.opening = false;
            farewell.next_ms = now.mono_ms;
        }
    }

    pub(super) fn farewell_deadline(&self) -> Option<u64> {
        self.farewells.iter().map(Farewell::deadline).min()
    }

    pub(super) fn farewell_timeout(&mut self, now: Now) {
        let now_ms = now.mono_ms;
        let (done, stay): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.farewells).into_iter().partition(|f| f.ends_ms() <= now_ms);
        self.farewells = stay;
        done.iter().for_each(|farewell| self.drop_streams_of(farewell));
        let due = |farewell: &&Farewell| farewell.deadline() <= now_ms;
        let due: Vec<LegId> = self.farewells.iter().filter(due).map(|farewell| farewell.leg).collect();
        for leg in due {
            self.farewell_step(leg, now);
        }
    }

    /// No answer has come: another stream is opened, by other supernodes if there are any.
    fn farewell_step(&mut self, leg: LegId, now: Now) {
        let Some(index) = self.farewells.iter().position(|farewell| farewell.leg == leg) else { return };
        if self.farewells[index].opening {
            return self.farewell_failed(leg, now);
        }
        let vias: Vec<ServiceKey> =
            self.farewells[index].streams.iter().filter_map(|s| self.streams.get(s)?.via).collect();
        let farewell = &mut self.farewells[index];
        farewell.attempts += 1;
        farewell.opening = true;
        if farewell.routes.is_empty() {
            // No way to it is known yet: the directory is asked, and this counts as an attempt.
            return self.farewell_failed(leg, now);
        }
        farewell.next_ms = now.mono_ms + OPENING_MS;
        let mut routes = farewell.routes.clone();
        routes.sort_by_key(|home| vias.contains(&home.service) || farewell.vain.contains(&home.service));
        farewell.vain.extend(vias);
        farewell.vain.sort_unstable();
        farewell.vain.dedup();
        self.out.push(Command::OpenSignal { leg, device: farewell.device, routes, hurry: true });
    }
}
