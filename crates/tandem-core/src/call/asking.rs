//! Leaving a silent request with somebody who takes no calls from strangers: look up, reach one device after the other,
//! ask what is to be proved, prove it.
//!
//! Each device keeps its own list, so each is asked. The work itself is the driver's, since it takes seconds.

use tandem_proto::ids::{AccountKey, DeviceKey, ServiceKey};
use tandem_proto::record::ReachRecord;
use tandem_proto::request::{Challenge, MESSAGE_BYTES_MAX, PROOF_LEN};
use tandem_proto::signed::Home;
use tandem_proto::wire::signal_frame::Body;
use tandem_proto::wire::{ContactRequest, RequestAnswer};

use super::signal::{Stream, clipped};
use super::strangers::{RequestStatus, asked_for};
use super::types::{AskError, AskOutcome, CallId, Command, LegId, SignalId};
use super::{Calls, Fault, LEGS_MAX};
use crate::time::Now;

/// The directory has this long, in milliseconds.
const LOOK_UP_MS: u64 = 15_000;
/// A device has this long to be reached and to answer.
const STEP_MS: u64 = 15_000;
/// The work has this long.
const WORK_MS: u64 = 180_000;
/// Times that one device may ask for work.
const ROUNDS_MAX: u8 = 3;

/// A request on its way.
#[derive(Debug)]
pub(super) struct Asking {
    id: CallId,
    account: AccountKey,
    name: String,
    message: String,
    /// Devices still to be asked, and how they are reached.
    waiting: Vec<(DeviceKey, Vec<Home>)>,
    /// Devices that were asked.
    asked: Vec<DeviceKey>,
    looked_up: bool,
    /// The look-up ends then, in monotonic milliseconds.
    look_up_ends_ms: u64,
    attempt: Option<Attempt>,
    left: u32,
    /// The best that a device said, if none took it.
    best: AskOutcome,
}

/// One device being asked.
#[derive(Debug)]
struct Attempt {
    leg: LegId,
    device: DeviceKey,
    routes: Vec<Home>,
    signal: Option<SignalId>,
    /// The proof and its bits, once found.
    proof: Option<([u8; PROOF_LEN], u8)>,
    working: Option<u8>,
    rounds: u8,
    ends_ms: u64,
}

impl Calls {
    /// Leaves a silent request; `id` is 16 random bytes. One at a time. `Command::Asked` says how it went.
    ///
    /// # Errors
    /// [`AskError`]: ourselves, another one on its way, a text that is too long.
    pub fn ask(
        &mut self,
        id: CallId,
        account: AccountKey,
        name: &str,
        message: &str,
        now: Now,
    ) -> Result<(), AskError> {
        if account == self.config.account {
            return Err(AskError::Own);
        }
        if self.asking.is_some() {
            return Err(AskError::Busy);
        }
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(AskError::MessageTooLong);
        }
        self.asking = Some(Asking {
            id,
            account,
            name: clipped(name),
            message: message.to_owned(),
            waiting: Vec::new(),
            asked: Vec::new(),
            looked_up: false,
            look_up_ends_ms: now.mono_ms + LOOK_UP_MS,
            attempt: None,
            left: 0,
            best: AskOutcome::NotFound,
        });
        self.out.push(Command::LookUp { call: id, account });
        Ok(())
    }

    /// The number asked for by `SolveProof`; `None`: it was not found.
    pub fn handle_proof(&mut self, leg: LegId, proof: Option<[u8; PROOF_LEN]>, now: Now) {
        let Some(attempt) = self.attempt(leg) else { return };
        let Some(bits) = attempt.working.take() else { return };
        let Some(proof) = proof else { return self.next_device(AskOutcome::TooMuchWork, now) };
        attempt.proof = Some((proof, bits));
        attempt.ends_ms = now.mono_ms + STEP_MS;
        match attempt.signal {
            Some(signal) => self.send_request(signal),
            // It closed while this end worked, as it should with strangers who keep it waiting.
            None => {
                let (device, routes) = (attempt.device, attempt.routes.clone());
                self.out.push(Command::OpenSignal { leg, device, routes, hurry: false });
            }
        }
    }

    /// A record of the account; false when the look-up is not that of a request.
    pub(super) fn asking_found(&mut self, call: CallId, record: &ReachRecord, now: Now) -> bool {
        let Some(asking) = self.asking.as_mut().filter(|asking| asking.id == call) else { return false };
        if asking.account != record.account() {
            return true;
        }
        self.known.note(record.device_set());
        let revoked = |device| self.known.get(record.account()).is_some_and(|set| !set.contains(device));
        for homes in record.homes() {
            let device = homes.device();
            let known = asking.asked.contains(&device)
                || asking.waiting.iter().any(|(other, _)| *other == device)
                || asking.asked.len() + asking.waiting.len() >= LEGS_MAX;
            if !known && !revoked(device) && !homes.homes().is_empty() {
                asking.waiting.push((device, homes.homes().to_vec()));
            }
        }
        if self.asking.as_ref().is_some_and(|asking| asking.attempt.is_none()) {
            self.begin_attempt(now);
        }
        true
    }

    /// The look-up has ended; false when it is not that of a request.
    pub(super) fn asking_looked_up(&mut self, call: CallId, now: Now) -> bool {
        let Some(asking) = self.asking.as_mut().filter(|asking| asking.id == call) else { return false };
        asking.looked_up = true;
        if asking.attempt.is_none() {
            self.begin_attempt(now);
        }
        true
    }

    /// The next device, or the end when there is none.
    fn begin_attempt(&mut self, now: Now) {
        let leg = LegId(self.next_leg);
        let Some(asking) = self.asking.as_mut() else { return };
        if asking.waiting.is_empty() {
            if asking.looked_up {
                self.end_asking();
            }
            return;
        }
        let (device, routes) = asking.waiting.remove(0);
        asking.asked.push(device);
        self.next_leg += 1;
        self.out.push(Command::OpenSignal { leg, device, routes: routes.clone(), hurry: false });
        asking.attempt = Some(Attempt {
            leg,
            device,
            routes,
            signal: None,
            proof: None,
            working: None,
            rounds: 0,
            ends_ms: now.mono_ms + STEP_MS,
        });
    }

    /// Done with this device; `said`: what came of it.
    fn next_device(&mut self, said: AskOutcome, now: Now) {
        let Some(asking) = self.asking.as_mut() else { return };
        let Some(attempt) = asking.attempt.take() else { return };
        if matches!(said, AskOutcome::Left { .. }) {
            asking.left += 1;
        } else if asking.best.rank() < said.rank() {
            asking.best = said;
        }
        if let Some(signal) = attempt.signal {
            self.drop_stream(signal);
        }
        self.begin_attempt(now);
    }

    fn end_asking(&mut self) {
        let Some(asking) = self.asking.take() else { return };
        if let Some(signal) = asking.attempt.and_then(|attempt| attempt.signal) {
            self.drop_stream(signal);
        }
        let outcome = if asking.left > 0 { AskOutcome::Left { devices: asking.left } } else { asking.best };
        self.out.push(Command::Asked { request: asking.id, account: asking.account, outcome });
    }

    fn attempt(&mut self, leg: LegId) -> Option<&mut Attempt> {
        self.asking.as_mut()?.attempt.as_mut().filter(|attempt| attempt.leg == leg)
    }

    /// Whom this stream was opened to, if for a request.
    pub(super) fn asked_account(&self, leg: LegId) -> Option<AccountKey> {
        let asking = self.asking.as_ref()?;
        asking.attempt.as_ref().filter(|attempt| attempt.leg == leg).map(|_| asking.account)
    }

    /// A stream asked for is open; false when it is not one of a request.
    pub(super) fn asking_opened(
        &mut self,
        leg: LegId,
        signal: SignalId,
        device: DeviceKey,
        via: Option<ServiceKey>,
        now: Now,
    ) -> bool {
        let Some(attempt) = self.attempt(leg) else { return false };
        if attempt.device != device || attempt.signal.is_some() {
            self.out.push(Command::CloseSignal(signal));
            return true;
        }
        attempt.signal = Some(signal);
        self.add_stream(signal, Stream::new(device, via, Some(leg), now), now);
        true
    }

    /// A stream of a request could not be opened, or its other end broke the rules.
    pub(super) fn asking_failed(&mut self, leg: LegId, now: Now) {
        if self.attempt(leg).is_some() {
            self.next_device(AskOutcome::Unreachable, now);
        }
    }

    /// A stream of a request is gone. While this end works that is no harm.
    pub(super) fn asking_closed(&mut self, leg: LegId, now: Now) {
        let Some(attempt) = self.attempt(leg) else { return };
        attempt.signal = None;
        if attempt.working.is_none() {
            self.next_device(AskOutcome::Unreachable, now);
        }
    }

    /// The other end of a stream of a request has been proved; false when it is another stream.
    pub(super) fn asking_introduced(&mut self, leg: Option<LegId>, signal: SignalId) -> bool {
        let ours = leg.is_some_and(|leg| self.attempt(leg).is_some());
        if ours {
            self.send_request(signal);
        }
        ours
    }

    fn send_request(&mut self, signal: SignalId) {
        let Some(asking) = &self.asking else { return };
        let proof = asking.attempt.as_ref().and_then(|attempt| attempt.proof);
        let request = proof.map_or_else(ContactRequest::default, |(proof, bits)| ContactRequest {
            proof: proof.to_vec(),
            bits: u32::from(bits),
            display_name: asking.name.clone(),
            message: asking.message.clone(),
        });
        self.out.send(signal, Body::ContactRequest(request));
    }

    pub(super) fn on_request_answer(
        &mut self,
        leg: LegId,
        answer: &RequestAnswer,
        now: Now,
    ) -> Result<(), Fault> {
        let own = self.config.account;
        let network = self.network.clone();
        let Some(account) = self.asked_account(leg) else {
            return Err(Fault::protocol("it answered a request that was not made"));
        };
        let Some(attempt) = self.attempt(leg) else { return Ok(()) };
        if attempt.working.is_some() {
            return Err(Fault::protocol("it answered a request twice"));
        }
        let outcome = match answer.status {
            status if status == RequestStatus::Prove as u32 => match asked_for(answer) {
                Some((salt, bits)) if attempt.rounds < ROUNDS_MAX => {
                    attempt.rounds += 1;
                    attempt.working = Some(bits);
                    attempt.proof = None;
                    attempt.ends_ms = now.mono_ms + WORK_MS;
                    let challenge = Challenge::new(&network, account, own, &salt, bits);
                    self.out.push(Command::SolveProof { leg, challenge });
                    return Ok(());
                }
                _ => AskOutcome::TooMuchWork,
            },
            status if status == RequestStatus::Left as u32 && attempt.proof.is_some() => {
                AskOutcome::Left { devices: 1 }
            }
            status if status == RequestStatus::Later as u32 => AskOutcome::Later,
            status if status == RequestStatus::Closed as u32 => AskOutcome::Closed,
            _ => AskOutcome::Unreachable,
        };
        self.next_device(outcome, now);
        Ok(())
    }

    /// When a request on its way needs to be woken.
    pub(super) fn asking_deadline(&self) -> Option<u64> {
        let asking = self.asking.as_ref()?;
        Some(asking.attempt.as_ref().map_or(asking.look_up_ends_ms, |attempt| attempt.ends_ms))
    }

    pub(super) fn asking_timeout(&mut self, now: Now) {
        if self.asking_deadline().is_none_or(|at| at > now.mono_ms) {
            return;
        }
        let working = self.asking.as_ref().and_then(|asking| asking.attempt.as_ref()?.working);
        if self.asking.as_ref().is_some_and(|asking| asking.attempt.is_none()) {
            return self.end_asking();
        }
        if let Some(asking) = self.asking.as_mut() {
            // A look-up that has not ended by now brings nothing more.
            asking.looked_up |= asking.look_up_ends_ms <= now.mono_ms;
        }
        let said = if working.is_some() { AskOutcome::TooMuchWork } else { AskOutcome::Unreachable };
        self.next_device(said, now);
    }
}

impl AskOutcome {
    /// What tells a person more than another.
    fn rank(self) -> u8 {
        match self {
            Self::NotFound => 0,
            Self::Unreachable => 1,
            Self::Later => 2,
            Self::TooMuchWork => 3,
            Self::Closed => 4,
            Self::Left { .. } => 5,
        }
    }
}
