//! Look-ups in the directory, by way of the homes.

use std::collections::{BTreeMap, VecDeque};

use tandem_core::call::CallId;
use tandem_core::lookup::{Answer, Command, LookUp, Outcome};
use tandem_core::peer::PeerRef;
use tandem_core::time::Now;
use tandem_proto::ids::{AccountKey, ServiceKey};
use tandem_proto::record::{ReachRecord, Seen};
use tandem_proto::wire;

use super::{Phone, PhoneNews, Surroundings};

/// Look-ups at once.
const LOOK_UPS_MAX: usize = 8;

/// The look-ups under way.
#[derive(Debug, Default)]
pub(super) struct LookUps {
    active: BTreeMap<u64, Active>,
    commands: VecDeque<(u64, Command)>,
}

#[derive(Debug)]
struct Active {
    call: CallId,
    account: AccountKey,
    machine: LookUp,
    /// All that verified so far, merged.
    record: Option<ReachRecord>,
}

impl LookUps {
    fn begin(&mut self, number: u64, call: CallId, account: AccountKey, machine: LookUp) -> bool {
        if self.active.len() >= LOOK_UPS_MAX {
            return false;
        }
        self.active.insert(number, Active { call, account, machine, record: None });
        self.gather(number);
        true
    }

    pub(super) fn handle_timeout(&mut self, now: Now) {
        let numbers: Vec<u64> = self.active.keys().copied().collect();
        for number in numbers {
            if let Some(active) = self.active.get_mut(&number) {
                active.machine.handle_timeout(now);
            }
            self.gather(number);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<u64> {
        self.active.values().filter_map(|active| active.machine.poll_timeout()).min()
    }

    pub(super) fn poll_command(&mut self) -> Option<(u64, Command)> {
        self.commands.pop_front()
    }

    fn gather(&mut self, number: u64) {
        let Some(active) = self.active.get_mut(&number) else { return };
        while let Some(command) = active.machine.poll_command() {
            self.commands.push_back((number, command));
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
        if !self.look_ups.begin(number, call, account, machine) {
            self.calls.handle_lookup_done(call, around.now);
        }
    }

    pub(super) fn do_for_look_up(
        &mut self,
        (number, command): (u64, Command),
        around: &mut Surroundings<'_>,
    ) {
        let Some(active) = self.look_ups.active.get(&number) else { return };
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
                let call = active.call;
                tracing::info!(?outcome, "a look-up found nobody");
                self.calls.handle_lookup_done(call, around.now);
            }
            Command::Distrust { home, reason } => {
                tracing::info!(?reason, "a home is replaced for how it answered a look-up");
                self.homes.handle_distrust(home, reason, around.now);
            }
        }
        self.forget_finished(number, around.now);
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
        let (call, account) = (active.call, active.account);
        let reachable = record.homes().iter().filter(|entry| !entry.homes().is_empty()).count();
        self.news.push_back(PhoneNews::Found { call, devices: u32::try_from(reachable).unwrap_or(u32::MAX) });
        self.news.push_back(PhoneNews::Seen { account, seen: seen_of(&record) });
        self.calls.handle_found(call, &record, around.now);
    }

    fn forget_finished(&mut self, number: u64, now: Now) {
        let queued = self.look_ups.commands.iter().any(|(of, _)| *of == number);
        if !queued && self.look_ups.active.get(&number).is_some_and(|active| active.machine.is_finished()) {
            let active = self.look_ups.active.remove(&number);
            if let Some(active) = active.filter(|active| active.record.is_some()) {
                self.calls.handle_lookup_done(active.call, now);
            }
        }
    }
}

fn seen_of(record: &ReachRecord) -> Seen {
    let mut seen = Seen::default();
    seen.note(record);
    seen
}
