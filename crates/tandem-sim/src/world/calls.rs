//! Calls: the look-up is `tandem_core::lookup`'s; what follows is a model with the times that its real machines keep
//! (docs/SIMULATOR.md, "Calls").

use tandem_core::lookup::{Answer, Command, LookUp, Outcome};
use tandem_core::peer::PeerRef;
use tandem_proto::ids::DeviceKey;
use tandem_proto::record::Seen;

use super::leaves::NOBODY;
use super::volunteer::Manner;
use super::{Event, FIRST_DAY_UNIX_MS, World};
use crate::geography::{self, HOUR_MS};
use crate::policy::LeafPolicy;
use crate::wheel::Ms;

/// Relays of a call at once, and those that stand by.
const RELAYS: usize = 2;
const SPARES: usize = 6;
/// From ringing to the answer.
const RINGING_MS: Ms = 5_000;
/// A home of the callee that does not answer: the next one is asked after this.
const NEXT_HOME_MS: Ms = 300;
/// Both paths silent: noticed, and new grants asked for (`tandem_core::call`: 612 ms in the median, measured).
const FALL_BACK_MS: Ms = 400;
/// One path lost: another relay is asked for after this; one that does not answer is waited for so long.
const TOP_UP_MS: Ms = 1_000;
const GRANT_MS: Ms = 3_000;
/// The list of relays is refilled.
const REDRAW_MS: Ms = 10_000;
/// A call without sound for longer counts as lost.
pub(super) const SILENCE_MS_MAX: Ms = 5_000;

/// What a home told of the callee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Record,
    Nothing,
    /// What does not verify.
    Invalid,
    Failed,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallStep {
    /// The look-up wanted to be woken.
    LookUp,
    Answered,
    /// A relay is wanted in the place of one that was lost.
    Mend,
    End,
}

#[derive(Debug)]
struct Call {
    /// Counts the calls that had this row.
    round: u16,
    caller: u32,
    callee: u32,
    look_up: Option<Box<LookUp>>,
    talks: bool,
    over: bool,
    relayed: bool,
    relays: [u32; RELAYS],
    spares: Vec<u32>,
    /// Since when there is no sound.
    silent: Option<Ms>,
    mending: bool,
}

/// All calls, by number.
#[derive(Debug, Default)]
pub(super) struct CallTable {
    calls: Vec<Call>,
    free: Vec<u32>,
    pub(super) going: u32,
    pub(super) relayed: u32,
    /// By leaf: the call it is in. Few are in one.
    of_leaf: std::collections::BTreeMap<u32, u32>,
}

impl CallTable {
    pub(super) fn bytes(&self) -> usize {
        self.calls.capacity() * size_of::<Call>()
    }

    fn add(&mut self, call: Call) -> u32 {
        if let Some(number) = self.free.pop() {
            let round = self.calls[number as usize].round.wrapping_add(1);
            self.calls[number as usize] = Call { round, ..call };
            return number;
        }
        self.calls.push(call);
        self.calls.len() as u32 - 1
    }
}

impl<P: LeafPolicy> World<P> {
    // ---- placing ----------------------------------------------------------------------------------------------------

    /// All leaves together place them as a Poisson process; those that are offline place none.
    pub(super) fn place_next_call(&mut self) {
        let an_hour =
            u64::from(self.scenario.people.calls_per_100_hours) * u64::from(self.scenario.nodes) / 100;
        let an_hour = an_hour * u64::from(self.calls_times);
        if an_hour == 0 {
            return;
        }
        // In microseconds, since a million nodes place hundreds in a second.
        let mean_us = u64::from(HOUR_MS) * 1_000 / an_hour;
        let wait_us = geography::exponential_ms(mean_us.max(1), &mut self.rng);
        let whole = wait_us / 1_000 + u64::from(self.rng.below(1_000) < wait_us % 1_000);
        let at = u64::from(self.wheel.now()) + whole;
        self.push_at(at, Event::PlaceCall);
    }

    pub(super) fn place_call(&mut self) {
        let caller = self.rng.below(u64::from(self.scenario.nodes)) as u32;
        if !self.leaves.is_online(caller) || self.calls.of_leaf.contains_key(&caller) {
            return;
        }
        // People call those whom they see to be there.
        let mut callee = NOBODY;
        for _ in 0..8 {
            let drawn = self.rng.below(u64::from(self.scenario.nodes)) as u32;
            if drawn != caller && self.leaves.is_online(drawn) && !self.calls.of_leaf.contains_key(&drawn) {
                callee = drawn;
                break;
            }
        }
        if callee == NOBODY {
            return;
        }
        let homes: Vec<PeerRef> = self.leaves.homes(caller).collect();
        let look_up = Box::new(LookUp::new(&homes, None, self.now()));
        let call = Call {
            round: 0,
            caller,
            callee,
            look_up: Some(look_up),
            talks: false,
            over: false,
            relayed: self.rng.below(100) < u64::from(self.scenario.people.relayed_percent),
            relays: [NOBODY; RELAYS],
            spares: Vec::new(),
            silent: None,
            mending: false,
        };
        let number = self.calls.add(call);
        self.calls.of_leaf.insert(caller, number);
        self.calls.of_leaf.insert(callee, number);
        self.measures.calls_placed += 1;
        self.drive_look_up(number);
    }

    fn call_in(&mut self, ms: Ms, number: u32, step: CallStep) {
        let round = self.calls.calls[number as usize].round;
        self.push_in(ms, Event::Call { step, round, call: number });
    }

    // ---- looking up -------------------------------------------------------------------------------------------------

    fn drive_look_up(&mut self, number: u32) {
        loop {
            let call = &mut self.calls.calls[number as usize];
            let (caller, callee) = (call.caller, call.callee);
            let Some(look_up) = &mut call.look_up else { return };
            match look_up.poll_command() {
                Some(Command::Ask(home)) => self.ask_home(number, home.0),
                Some(Command::Distrust { home, reason }) => {
                    let now = self.now();
                    self.measures.distrusted += 1;
                    if let Some(policy) = self.leaves.policy(caller) {
                        policy.handle_distrust(home, reason, now);
                        self.settle(caller);
                    }
                }
                Some(Command::Outcome(Outcome::Found { .. })) => self.ring(number, callee),
                Some(Command::Outcome(Outcome::Updated { .. })) => {}
                Some(Command::Outcome(Outcome::NotFound | Outcome::Unreachable(_))) => {
                    self.call_fails(number)
                }
                None => break,
            }
        }
        let call = &mut self.calls.calls[number as usize];
        let wake = call.look_up.as_ref().and_then(|look_up| look_up.poll_timeout());
        match wake {
            Some(at_ms) => {
                let after_ms = at_ms.saturating_sub(u64::from(self.wheel.now())) as Ms;
                self.call_in(after_ms, number, CallStep::LookUp);
            }
            None => {
                call.look_up = None;
                self.free_if_over(number);
            }
        }
    }

    fn ask_home(&mut self, number: u32, home: u32) {
        let call = &self.calls.calls[number as usize];
        let (round, caller, callee) = (call.round, call.caller, call.callee);
        let Some((admitted, after_ms)) = self.ask_look_up(caller, home, callee) else { return };
        let stored = self.leaves.stored[callee as usize] > 0;
        let told = match (admitted, self.volunteers[home as usize].manner) {
            (Err(_), _) => Told::Failed,
            (Ok(()), Manner::Lying) => Told::Invalid,
            (Ok(()), Manner::Freeloading | Manner::Sybil) => Told::Nothing,
            (Ok(()), _) if stored => Told::Record,
            (Ok(()), _) => Told::Nothing,
        };
        self.push_in(after_ms, Event::Answer { told, round, call: number, home });
    }

    pub(super) fn look_up_answered(&mut self, number: u32, round: u16, home: u32, told: Told) {
        let now = self.now();
        let begun = FIRST_DAY_UNIX_MS + self.clock_ms(0);
        let call = &mut self.calls.calls[number as usize];
        let Some(look_up) = call.look_up.as_mut().filter(|_| call.round == round) else { return };
        let answer = match told {
            Told::Record => {
                let sequence = begun + u64::from(self.leaves.stored[call.callee as usize]);
                Answer::Valid(Seen { epoch: 1, sequences: vec![(DeviceKey([1; 32]), sequence)] })
            }
            Told::Nothing => Answer::Empty,
            Told::Invalid => Answer::Invalid,
            Told::Failed => Answer::Failed,
        };
        look_up.handle_answer(PeerRef(home), answer, true, now);
        self.drive_look_up(number);
    }

    // ---- ringing and talking ----------------------------------------------------------------------------------------

    /// Through one of the homes in the callee's record, in turn.
    fn ring(&mut self, number: u32, callee: u32) {
        let caller = self.calls.calls[number as usize].caller;
        let (from, to) = (self.leaves.place[caller as usize], self.leaves.place[callee as usize]);
        let homes = self.leaves.record[callee as usize];
        let mut after_ms = 0;
        for home in homes.into_iter().filter(|home| *home != NOBODY) {
            let volunteer = &self.volunteers[home as usize];
            let place = volunteer.place;
            let there = volunteer.is_up()
                && volunteer.places.connection_of(callee).is_some()
                && !matches!(volunteer.manner, Manner::Freeloading)
                && self.are_connected(from.region, place.region)
                && self.are_connected(place.region, to.region);
            if there {
                // A circuit, a handshake and a stream through it.
                let way = self.one_way_ms(from, place) + self.one_way_ms(place, to);
                self.measures.ring_ms.push(after_ms + 6 * way);
                self.call_in(after_ms + 6 * way + RINGING_MS, number, CallStep::Answered);
                return;
            }
            after_ms += NEXT_HOME_MS;
        }
        self.call_fails(number);
    }

    fn call_fails(&mut self, number: u32) {
        self.measures.calls_failed += 1;
        self.end_call(number);
    }

    pub(super) fn call_step(&mut self, number: u32, round: u16, step: CallStep) {
        let now = self.now();
        let call = &mut self.calls.calls[number as usize];
        if call.round != round {
            return;
        }
        match step {
            CallStep::LookUp => {
                if let Some(look_up) = &mut call.look_up {
                    look_up.handle_timeout(now);
                    self.drive_look_up(number);
                }
            }
            _ if call.over => {}
            CallStep::Answered => self.begin_to_talk(number),
            CallStep::Mend => self.mend(number),
            CallStep::End => self.end_call(number),
        }
    }

    fn begin_to_talk(&mut self, number: u32) {
        if self.calls.calls[number as usize].relayed {
            self.draw_relays(number);
            for at in 0..RELAYS {
                self.take_spare(number, at);
            }
            if self.calls.calls[number as usize].relays == [NOBODY; RELAYS] {
                return self.call_fails(number);
            }
            self.calls.relayed += 1;
        }
        let call = &mut self.calls.calls[number as usize];
        call.talks = true;
        let ends = [call.caller, call.callee];
        self.calls.going += 1;
        self.measures.calls_set_up += 1;
        self.set_in_call(ends, true);
        let for_ms = geography::call_ms(self.scenario.people.call_minutes, &mut self.rng) as Ms;
        self.call_in(for_ms, number, CallStep::End);
    }

    fn set_in_call(&mut self, ends: [u32; 2], in_call: bool) {
        let now = self.now();
        for leaf in ends {
            self.leaves.in_call[leaf as usize] = in_call;
            if let Some(policy) = self.leaves.policy(leaf) {
                policy.set_in_call(in_call, now);
                self.settle(leaf);
            }
        }
    }

    /// Over, for whatever reason.
    fn end_call(&mut self, number: u32) {
        let call = &mut self.calls.calls[number as usize];
        if std::mem::replace(&mut call.over, true) {
            return;
        }
        let (ends, talks, relayed) = ([call.caller, call.callee], call.talks, call.relayed);
        let relays = std::mem::replace(&mut call.relays, [NOBODY; RELAYS]);
        call.spares = Vec::new();
        for relay in relays.into_iter().filter(|relay| *relay != NOBODY) {
            self.volunteers[relay as usize].calls.retain(|other| *other != number);
        }
        for leaf in ends {
            self.calls.of_leaf.remove(&leaf);
        }
        if talks {
            self.calls.going -= 1;
            self.calls.relayed -= u32::from(relayed);
            self.set_in_call(ends, false);
        }
        self.free_if_over(number);
    }

    fn free_if_over(&mut self, number: u32) {
        let call = &mut self.calls.calls[number as usize];
        if call.over && call.look_up.is_none() && call.caller != NOBODY {
            call.caller = NOBODY;
            // What is still to come for it is of an older round.
            call.round = call.round.wrapping_add(1);
            self.calls.free.push(number);
        }
    }

    pub(super) fn leaf_leaves_calls(&mut self, leaf: u32) {
        if let Some(&number) = self.calls.of_leaf.get(&leaf) {
            self.end_call(number);
        }
    }

    // ---- relays -----------------------------------------------------------------------------------------------------

    /// A list of relays from what a home of either end knows.
    fn draw_relays(&mut self, number: u32) {
        let call = &self.calls.calls[number as usize];
        let (caller, callee) = (call.caller, call.callee);
        let home = self.leaves.homes(caller).next().or_else(|| self.leaves.homes(callee).next());
        if let Some(home) = home {
            let drawn = self.relays_by::<{ RELAYS + SPARES }>(home.0);
            let call = &mut self.calls.calls[number as usize];
            let relays = call.relays;
            call.spares =
                drawn.into_iter().rev().filter(|relay| *relay != NOBODY && !relays.contains(relay)).collect();
        }
    }

    /// The next of the list that grants. True: there is one.
    fn take_spare(&mut self, number: u32, at: usize) -> bool {
        while let Some(relay) = self.calls.calls[number as usize].spares.pop() {
            let caller = self.calls.calls[number as usize].caller;
            match self.ask_grant(caller, relay, false) {
                Some(true) => {
                    // The other end asks too.
                    let callee = self.calls.calls[number as usize].callee;
                    if self.ask_grant(callee, relay, true) == Some(true) {
                        self.calls.calls[number as usize].relays[at] = relay;
                        self.volunteers[relay as usize].calls.push(number);
                        self.check_relay(relay);
                        return true;
                    }
                }
                Some(false) => {}
                // Nobody answers: that costs time.
                None => return false,
            }
        }
        false
    }

    fn check_relay(&mut self, relay: u32) {
        let held = self.volunteers[relay as usize].calls.len();
        let most = self.scenario.supernodes.calls as usize;
        if held > most {
            let what = format!("supernode {relay} relays {held} calls; its owner allows {most}");
            self.measures.broke(self.wheel.now(), "caps", what);
        }
    }

    /// A relay is gone, with all its calls' packets.
    pub(super) fn relay_gone(&mut self, relay: u32) {
        for number in std::mem::take(&mut self.volunteers[relay as usize].calls) {
            self.lose_relay(number, relay);
        }
    }

    fn lose_relay(&mut self, number: u32, relay: u32) {
        let now = self.wheel.now();
        let call = &mut self.calls.calls[number as usize];
        if call.over {
            return;
        }
        for at in call.relays.iter_mut().filter(|other| **other == relay) {
            *at = NOBODY;
        }
        if !call.talks {
            return;
        }
        let silent = call.relays == [NOBODY; RELAYS];
        if silent && call.silent.is_none() {
            call.silent = Some(now);
            call.mending = true;
            self.call_in(FALL_BACK_MS, number, CallStep::Mend);
        } else if !call.mending {
            call.mending = true;
            self.call_in(TOP_UP_MS, number, CallStep::Mend);
        }
    }

    /// It says that it leaves: calls take another relay first.
    pub(super) fn relay_drains(&mut self, relay: u32) {
        for number in self.volunteers[relay as usize].calls.clone() {
            let call = &mut self.calls.calls[number as usize];
            if !std::mem::replace(&mut call.mending, true) {
                self.call_in(TOP_UP_MS, number, CallStep::Mend);
            }
        }
    }

    fn mend(&mut self, number: u32) {
        let call = &self.calls.calls[number as usize];
        if !call.talks {
            return;
        }
        let drains = |relay: u32| relay != NOBODY && self.volunteers[relay as usize].drains;
        let missing = |relay: u32| relay == NOBODY || drains(relay);
        let wanting: Vec<usize> = (0..RELAYS).filter(|&at| missing(call.relays[at])).collect();
        let mut waits = false;
        for at in wanting {
            let before = self.calls.calls[number as usize].relays[at];
            if self.take_spare(number, at) {
                if before != NOBODY {
                    self.volunteers[before as usize].calls.retain(|other| *other != number);
                }
            } else {
                waits = true;
            }
        }
        let call = &self.calls.calls[number as usize];
        let (caller, callee) = (call.caller, call.callee);
        let (from, to) = (self.leaves.place[caller as usize], self.leaves.place[callee as usize]);
        let grants_ms = 2 * (self.one_way_ms(from, to) + self.one_way_ms(to, from));
        if !self.hears_again(number, grants_ms) {
            return;
        }
        let call = &mut self.calls.calls[number as usize];
        call.mending = waits;
        if !waits {
            return;
        }
        if call.spares.is_empty() {
            let after_ms = if call.silent.is_some() { TOP_UP_MS } else { REDRAW_MS };
            self.draw_relays(number);
            self.call_in(after_ms, number, CallStep::Mend);
        } else {
            self.call_in(GRANT_MS, number, CallStep::Mend);
        }
    }

    /// Ends a silence if there is a path again; and the call, if it lasted too long. False: it is over.
    fn hears_again(&mut self, number: u32, grants_ms: Ms) -> bool {
        let now = self.wheel.now();
        let call = &mut self.calls.calls[number as usize];
        let Some(since) = call.silent else { return true };
        let path = call.relays != [NOBODY; RELAYS];
        let gap_ms = now - since + if path { grants_ms } else { 0 };
        if gap_ms <= SILENCE_MS_MAX {
            if path {
                call.silent = None;
                self.measures.gaps_ms.push(gap_ms);
            }
            return true;
        }
        self.note_lost_call();
        self.end_call(number);
        false
    }

    /// Never: silence while a path lives, or sound where none does.
    pub(super) fn check_calls(&mut self) {
        let mut wrong = None;
        for (number, call) in self.calls.calls.iter().enumerate() {
            if call.over || !call.talks || !call.relayed {
                continue;
            }
            let lives = |relay: &&u32| **relay != NOBODY && self.volunteers[**relay as usize].is_up();
            let living = call.relays.iter().filter(lives).count();
            if (living > 0) == call.silent.is_some() {
                wrong = Some((number, living));
            }
        }
        if let Some((number, living)) = wrong {
            let what = format!("call {number} has {living} living paths, and is silent if it has any");
            self.measures.broke(self.wheel.now(), "calls", what);
        }
    }
}
