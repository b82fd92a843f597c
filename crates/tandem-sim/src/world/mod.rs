//! The world: nodes, time, and what passes between them.
//!
//! One thread, one generator of random numbers, one queue: equal scenarios with equal seeds come to equal reports, byte
//! for byte. Leaves are rows of arrays by number; supernodes and reserves, of which there are few, are structures.

mod calls;
mod election;
mod faults;
mod leaves;
mod measure;
mod serving;
mod volunteer;

use tandem_core::rng::Rng;
use tandem_core::time::Now;

use crate::geography::{self, HOUR_MS, Place};
use crate::policy::LeafPolicy;
use crate::report::Report;
use crate::scenario::Scenario;
use crate::wheel::{Ms, Wheel};
use calls::{CallStep, CallTable, Told};
use election::Message;
use leaves::{Leaves, News};
use measure::Measures;
use volunteer::Volunteer;

/// 2027-01-15, midnight UTC.
const FIRST_DAY_UNIX_MS: u64 = 20_833 * DAY_MS;
const DAY_MS: u64 = 24 * 3_600_000;
/// After all have started, and before the measured time.
const SETTLING_MS: Ms = 10 * 60_000;
const SECOND_MS: Ms = 1_000;

/// What is to happen. 16 bytes.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A leaf comes, or goes, if that session is still the one.
    Start {
        session: u16,
        leaf: u32,
    },
    Stop {
        session: u16,
        leaf: u32,
    },
    /// A leaf ends and starts again.
    Restart {
        leaf: u32,
        away_ms: Ms,
    },
    /// A leaf's policy wanted to be woken.
    Due(u32),
    /// A leaf hears something on one of its connections.
    News {
        news: News,
        number: u16,
        leaf: u32,
        peer: u32,
        value: u32,
    },
    /// A supernode notices that a connection is dead.
    Gone {
        number: u16,
        leaf: u32,
        peer: u32,
    },
    /// A volunteer's machine starts, ends, may serve, has finished draining: if it still lives that life.
    Come(u32),
    Leave {
        life: u16,
        volunteer: u32,
    },
    Eligible {
        life: u16,
        volunteer: u32,
    },
    Drained {
        life: u16,
        volunteer: u32,
    },
    /// A volunteer looks about.
    Tick(u32),
    /// Others hear that it serves.
    Listed {
        life: u16,
        volunteer: u32,
    },
    /// Its stream to another ended.
    Missed {
        by: u32,
        gone: u32,
    },
    Message {
        message: Message,
        from: u32,
        to: u32,
        value: u32,
    },
    /// Somebody picks up the telephone.
    PlaceCall,
    Answer {
        told: Told,
        round: u16,
        call: u32,
        home: u32,
    },
    Call {
        step: CallStep,
        round: u16,
        call: u32,
    },
    Fault(u16),
    FaultOver(u16),
    Second,
}

const _: () = assert!(size_of::<Event>() == 16);

/// A world under the rules `P`.
pub struct World<P> {
    pub(crate) scenario: Scenario,
    rng: Rng,
    wheel: Wheel<Event>,
    leaves: Leaves<P>,
    volunteers: Vec<Volunteer>,
    /// Those that serve, in no order, and where each is in this list.
    serving: Vec<u32>,
    calls: CallTable,
    /// A region that is cut off.
    cut: Option<u8>,
    /// So many times as many calls as usual.
    calls_times: u32,
    /// The newer release fails.
    bad_release: bool,
    measures: Measures,
    events: u64,
    begin: Ms,
    end: Ms,
}

impl<P> std::fmt::Debug for World<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("now", &self.wheel.now())
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

impl<P: LeafPolicy> World<P> {
    /// A world in which nothing has happened yet. The scenario's bounds were checked when it was parsed.
    #[must_use]
    pub fn new(scenario: Scenario) -> Self {
        let mut rng = Rng::new(scenario.seed);
        let begin = scenario.people.start_minutes * 60_000 + SETTLING_MS;
        let end = begin.saturating_add(scenario.minutes * 60_000);
        let leaves = Leaves::new(&scenario, &mut rng);
        let mut world = Self {
            rng,
            wheel: Wheel::new(),
            leaves,
            volunteers: Vec::new(),
            serving: Vec::new(),
            calls: CallTable::default(),
            cut: None,
            calls_times: 1,
            bad_release: false,
            measures: Measures::new(&scenario, begin),
            events: 0,
            begin,
            end,
            scenario,
        };
        world.found();
        world.settle_leaves();
        world.push_in(0, Event::Second);
        world.place_next_call();
        for at in 0..world.scenario.faults.len() {
            let fault = world.scenario.faults[at];
            let number = u16::try_from(at).unwrap_or(u16::MAX);
            world.wheel.push(begin + fault.minute() * 60_000, Event::Fault(number));
            world.wheel.push(begin + fault.over_minute() * 60_000, Event::FaultOver(number));
        }
        world
    }

    /// Virtual time that has passed, and that will have passed at the end, in milliseconds.
    #[must_use]
    pub fn progress_ms(&self) -> (Ms, Ms) {
        (self.wheel.now(), self.end)
    }

    /// Lets up to `ms` of virtual time pass. True: the end has not come.
    pub fn run_for(&mut self, ms: Ms) -> bool {
        let end = self.wheel.now().saturating_add(ms).min(self.end);
        while let Some(event) = self.wheel.pop(end) {
            self.events += 1;
            self.handle(event);
        }
        end < self.end
    }

    /// How it went so far.
    #[must_use]
    pub fn report(&mut self) -> Report {
        self.take_report()
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Start { session, leaf } => self.start_leaf(leaf, session),
            Event::Stop { session, leaf } => self.stop_leaf(leaf, session),
            Event::Restart { leaf, away_ms } => self.restart_leaf(leaf, away_ms),
            Event::Due(leaf) => self.leaf_due(leaf),
            Event::News { news, number, leaf, peer, value } => self.hear(leaf, peer, number, news, value),
            Event::Gone { number, leaf, peer } => self.connection_gone(leaf, peer, number),
            Event::Come(volunteer) => self.volunteer_comes(volunteer),
            Event::Leave { life, volunteer } => self.volunteer_leaves(volunteer, life),
            Event::Eligible { life, volunteer } => self.volunteer_eligible(volunteer, life),
            Event::Drained { life, volunteer } => self.volunteer_drained(volunteer, life),
            Event::Tick(volunteer) => self.tick(volunteer),
            Event::Listed { life, volunteer } => self.volunteer_listed(volunteer, life),
            Event::Missed { by, gone } => self.miss(by, gone),
            Event::Message { message, from, to, value } => self.message(from, to, message, value),
            Event::PlaceCall => {
                self.place_call();
                self.place_next_call();
            }
            Event::Answer { told, round, call, home } => self.look_up_answered(call, round, home, told),
            Event::Call { step, round, call } => self.call_step(call, round, step),
            Event::Fault(number) => self.fault(number),
            Event::FaultOver(number) => self.fault_over(number),
            Event::Second => self.second(),
        }
    }

    fn push_in(&mut self, ms: Ms, event: Event) {
        let at = self.wheel.now().saturating_add(ms);
        if at <= self.end {
            self.wheel.push(at, event);
        }
    }

    fn push_at(&mut self, at: u64, event: Event) {
        if let Ok(at) = Ms::try_from(at)
            && at <= self.end
        {
            self.wheel.push(at, event);
        }
    }

    fn now(&self) -> Now {
        let mono_ms = u64::from(self.wheel.now());
        Now { mono_ms, unix_ms: FIRST_DAY_UNIX_MS + self.clock_ms(mono_ms) }
    }

    /// Milliseconds since a midnight, UTC.
    fn clock_ms(&self, at: u64) -> u64 {
        DAY_MS + u64::from(self.scenario.hour_utc * HOUR_MS) + at - u64::from(self.begin)
    }

    /// Packets pass between these regions.
    fn are_connected(&self, one: u8, other: u8) -> bool {
        self.cut.is_none_or(|cut| (one == cut) == (other == cut))
    }

    fn one_way_ms(&mut self, from: Place, to: Place) -> Ms {
        geography::one_way_ms(from, to, &mut self.rng)
    }
}
