//! Look-ups in the directory, by way of the homes.

use std::collections::{BTreeMap, VecDeque};

use tandem_core::call::CallId;
use tandem_core::lookup::{Answer, Command, LookUp, Outcome};
use tandem_core::peer::PeerRef;
use tandem_core::time::Now;
use tandem_proto::ids::{AccountKey, ServiceKey};
use tandem_proto::record::{ReachRecord, Seen};
use tandem_proto::wire;

use super::{OwnRecord, Phone, PhoneNews, Surroundings};

/// Look-ups at once.
const LOOK_UPS_MAX: usize = 8;
/// A contact that the directory has not found by then is tried where it was found last.
const REMEMBERED_AFTER_MS: u64 = 1_500;

/// The look-ups under way.
#[derive(Debug, Default)]
pub(super) struct LookUps {
    active: BTreeMap<u64, Active>,
    steps: VecDeque<(u64, Step)>,
}

/// What is to be done for a look-up.
#[derive(Debug)]
pub(super) enum Step {
    Do(Command),
    /// The homes found last are tried meanwhile.
    Remembered,
    /// Nothing more will come of it. A machine may end without a last command.
    Forget,
}

/// Whom it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Call(CallId),
    /// Of the own account.
    Own,
}

#[derive(Debug)]
struct Active {
    purpose: Purpose,
    account: AccountKey,
    machine: LookUp,
    /// It ended, and a home had searched to the end.
    not_found: bool,
    /// All that verified so far, merged.
    record: Option<ReachRecord>,
    /// When what is remembered is tried, if nothing was found before.
    remembered_ms: Option<u64>,
}

impl Active {
    /// When it is to be woken for what is remembered.
    fn remembered_at(&self) -> Option<u64> {
        self.remembered_ms.filter(|_| self.record.is_none())
    }
}

impl LookUps {
    fn begin(
        &mut self,
        number: u64,
        purpose: Purpose,
        account: AccountKey,
        machine: LookUp,
        now: Now,
    ) -> bool {
        if self.active.len() >= LOOK_UPS_MAX {
            return false;
        }
        let remembered_ms = (purpose != Purpose::Own).then_some(now.mono_ms + REMEMBERED_AFTER_MS);
        let active = Active { purpose, account, machine, not_found: false, record: None, remembered_ms };
        self.active.insert(number, active);
        self.gather(number);
        true
    }

    pub(super) fn handle_timeout(&mut self, now: Now) {
        let numbers: Vec<u64> = self.active.keys().copied().collect();
        for number in numbers {
            if let Some(active) = self.active.get_mut(&number) {
                active.machine.handle_timeout(now);
                if active.remembered_at().is_some_and(|at| at <= now.mono_ms) {
                    active.remembered_ms = None;
                    self.steps.push_back((number, Step::Remembered));
                }
            }
            self.gather(number);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let due = |active: &Active| [active.machine.poll_timeout(), active.remembered_at()];
        self.active.values().flat_map(due).flatten().min()
    }

    pub(super) fn poll_command(&mut self) -> Option<(u64, Step)> {
        self.steps.pop_front()
    }

    pub(super) fn is_active(&self, call: CallId) -> bool {
        self.active.values().any(|active| active.purpose == Purpose::Call(call))
    }

    fn gather(&mut self, number: u64) {
        let Some(active) = self.active.get_mut(&number) else { return };
        while let Some(command) = active.machine.poll_command() {
            self.steps.push_back((number, Step::Do(command)));
        }
        if active.machine.is_finished() {
            self.steps.push_back((number, Step::Forget));
        }
    }

    fn answer(&mut self, number: u64, home: PeerRef, answer: Answer, done: bool, now: Now) {
        if let Some(active) = self.active.get_mut(&number) {
            active.machine.handle_answer(home, answer, done, now);
        }
        self.gather(number);
    }
}

impl Phone {
    pub(super) fn begin_look_up(&mut self, call: CallId, account: AccountKey, around: &mut Surroundings<'_>) {
        let homes: Vec<PeerRef> = self.homes.reserved().collect();
        let machine = LookUp::new(&homes, (around.seen)(account), around.now);
        let number = self.number();
        if !self.look_ups.begin(number, Purpose::Call(call), account, machine, around.now) {
            self.calls.handle_lookup_done(call, around.now);
        }
    }

    /// Looks the own account up, unless that is under way.
    pub(super) fn begin_own_look_up(&mut self, around: &mut Surroundings<'_>) {
        if std::mem::replace(&mut self.own.looking_up, true) {
            return;
        }
        let account = self.identity.account;
        let homes: Vec<PeerRef> = self.homes.reserved().collect();
        let machine = LookUp::new(&homes, (around.seen)(account), around.now);
        let number = self.number();
        if !self.look_ups.begin(number, Purpose::Own, account, machine, around.now) {
            self.own_looked_up(OwnRecord::Unreachable, around);
        }
    }

    pub(super) fn do_for_look_up(&mut self, (number, step): (u64, Step), around: &mut Surroundings<'_>) {
        let Some(active) = self.look_ups.active.get(&number) else { return };
        let command = match step {
            Step::Do(command) => command,
            Step::Remembered => return self.try_remembered(number, around),
            Step::Forget => return self.forget_look_up(number, around),
        };
        match command {
            Command::Ask(home) => {
                let account = active.account;
                match around.peers.get(home).map(|peer| peer.service) {
                    Some(service) => self.links.look_up(number, service, &account.0, around.now),
                    None => self.look_ups.answer(number, home, Answer::Failed, true, around.now),
                }
            }
            Command::Outcome(Outcome::Found { .. } | Outcome::Updated { .. }) => {
                self.tell_found(number, around)
            }
            Command::Outcome(outcome) => {
                tracing::info!(?outcome, "a look-up found nobody");
                let purpose = active.purpose;
                self.try_remembered(number, around);
                match purpose {
                    Purpose::Call(call) => self.calls.handle_lookup_done(call, around.now),
                    Purpose::Own => {
                        let active = self.look_ups.active.get_mut(&number);
                        active.into_iter().for_each(|active| active.not_found = outcome == Outcome::NotFound);
                    }
                }
            }
            Command::Distrust { home, reason } => {
                tracing::info!(?reason, "a home is replaced for how it answered a look-up");
                if let Some(service) = around.peers.get(home).map(|peer| peer.service) {
                    self.qualities.distrusted(service, reason, around.now.unix_ms);
                }
                self.homes.handle_distrust(home, reason, around.now);
            }
        }
    }

    /// One frame of a home's answer.
    pub(super) fn take_record(
        &mut self,
        number: u64,
        service: ServiceKey,
        record: Option<wire::ReachRecord>,
        done: bool,
        around: &mut Surroundings<'_>,
    ) {
        let Some((home, _)) = around.peers.by_key(&service) else { return };
        let Some(active) = self.look_ups.active.get_mut(&number) else { return };
        let answer = match record {
            None => Answer::Empty,
            Some(record) => {
                match ReachRecord::verify(&record, active.account, around.now.unix_ms, &mut Vec::new()) {
                    Ok(record) => {
                        let seen = seen_of(&record);
                        active.record = Some(match active.record.take() {
                            Some(known) => known.merge(&record).unwrap_or(known),
                            None => record,
                        });
                        Answer::Valid(seen)
                    }
                    Err(error) => {
                        tracing::warn!(%service, %error, "a home gave a record that is not valid");
                        Answer::Invalid
                    }
                }
            }
        };
        self.look_ups.answer(number, home, answer, done, around.now);
    }

    pub(super) fn fail_look_up(&mut self, number: u64, service: ServiceKey, around: &mut Surroundings<'_>) {
        if let Some((home, _)) = around.peers.by_key(&service) {
            self.look_ups.answer(number, home, Answer::Failed, true, around.now);
        }
    }

    fn tell_found(&mut self, number: u64, around: &mut Surroundings<'_>) {
        let Some(active) = self.look_ups.active.get(&number) else { return };
        let Some(record) = active.record.clone() else { return };
        let (Purpose::Call(call), account) = (active.purpose, active.account) else { return };
        let reachable = record.homes().iter().filter(|entry| !entry.homes().is_empty()).count();
        self.news.push_back(PhoneNews::Found { call, devices: u32::try_from(reachable).unwrap_or(u32::MAX) });
        self.news.push_back(PhoneNews::Seen { account, seen: seen_of(&record) });
        self.news.push_back(PhoneNews::Record { account, record: record.encode() });
        self.calls.handle_found(call, &record, around.now);
    }

    /// Where a contact was found last: the directory does not find it, or takes long.
    fn try_remembered(&mut self, number: u64, around: &mut Surroundings<'_>) {
        let Some(active) = self.look_ups.active.get_mut(&number) else { return };
        let Purpose::Call(call) = active.purpose else { return };
        active.remembered_ms = None;
        if let Some(record) = (around.remembered)(active.account) {
            tracing::info!("a contact is tried where it was found last");
            self.calls.handle_found(call, &record, around.now);
        }
    }

    fn forget_look_up(&mut self, number: u64, around: &mut Surroundings<'_>) {
        let Some(active) = self.look_ups.active.remove(&number) else { return };
        match (active.purpose, active.record) {
            (Purpose::Call(call), Some(_)) => self.calls.handle_lookup_done(call, around.now),
            (Purpose::Call(_), None) => {}
            (Purpose::Own, Some(record)) => {
                let (account, seen) = (record.account(), seen_of(&record));
                self.news.push_back(PhoneNews::Seen { account, seen });
                self.own_looked_up(OwnRecord::Found(record), around);
            }
            (Purpose::Own, None) if active.not_found => self.own_looked_up(OwnRecord::NotFound, around),
            (Purpose::Own, None) => self.own_looked_up(OwnRecord::Unreachable, around),
        }
    }
}

fn seen_of(record: &ReachRecord) -> Seen {
    let mut seen = Seen::default();
    seen.note(record);
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both homes answered well, so the machine ends without a last command; it must not be kept for ever.
    #[test]
    fn a_look_up_that_found_everything_is_forgotten() {
        let now = Now { mono_ms: 1_000, unix_ms: 1_000_000 };
        let (a, b) = (PeerRef(1), PeerRef(2));
        let mut look_ups = LookUps::default();
        for number in 0..3 * LOOK_UPS_MAX as u64 {
            let machine = LookUp::new(&[a, b], None, now);
            assert!(
                look_ups.begin(number, Purpose::Call(CallId([1; 16])), AccountKey([7; 32]), machine, now),
                "number {number}"
            );
            for home in [a, b] {
                look_ups.answer(number, home, Answer::Valid(Seen::default()), true, now);
            }
            let mut forgotten = false;
            while let Some((of, step)) = look_ups.poll_command() {
                if matches!(step, Step::Forget) {
                    forgotten = look_ups.active.remove(&of).is_some() || forgotten;
                }
            }
            assert!(forgotten, "number {number}");
        }
    }

    #[test]
    fn what_is_remembered_is_tried_once_while_the_homes_say_nothing() {
        let at = |mono_ms| Now { mono_ms, unix_ms: 1_000_000 + mono_ms };
        let mut look_ups = LookUps::default();
        let machine = || LookUp::new(&[PeerRef(1), PeerRef(2)], None, at(0));
        assert!(look_ups.begin(1, Purpose::Call(CallId([1; 16])), AccountKey([7; 32]), machine(), at(0)));
        assert!(look_ups.begin(2, Purpose::Own, AccountKey([8; 32]), machine(), at(0)));
        let mut tried = Vec::new();
        let mut now_ms = 0;
        while let Some(next_ms) = look_ups.poll_timeout() {
            now_ms = next_ms.max(now_ms);
            look_ups.handle_timeout(at(now_ms));
            while let Some((number, step)) = look_ups.poll_command() {
                match step {
                    Step::Remembered => tried.push((number, now_ms)),
                    Step::Forget => drop(look_ups.active.remove(&number)),
                    Step::Do(_) => {}
                }
            }
        }
        assert_eq!(tried, [(1, REMEMBERED_AFTER_MS)], "and not for the own account");
    }

    #[test]
    fn what_is_found_soon_makes_what_is_remembered_superfluous() {
        let now = Now { mono_ms: 0, unix_ms: 1_000_000 };
        let mut look_ups = LookUps::default();
        let machine = LookUp::new(&[PeerRef(1)], None, now);
        assert!(look_ups.begin(1, Purpose::Call(CallId([1; 16])), AccountKey([7; 32]), machine, now));
        let set = tandem_proto::identity::AccountSecret::from_seed(&[7; 32]);
        let entry =
            tandem_proto::signed::DeviceEntry { device: tandem_proto::ids::DeviceKey([2; 32]), serial: 1 };
        let set = tandem_proto::signed::DeviceSet::issue(&set, 1, &[entry], 2_000_000_000).unwrap();
        look_ups.active.get_mut(&1).unwrap().record = Some(ReachRecord::new(set));
        look_ups.handle_timeout(Now { mono_ms: REMEMBERED_AFTER_MS, unix_ms: 1_000_000 });
        assert!(
            std::iter::from_fn(|| look_ups.poll_command()).all(|(_, step)| !matches!(step, Step::Remembered))
        );
    }
}
