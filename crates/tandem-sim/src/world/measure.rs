//! What is counted, and what must hold.

use super::volunteer::Health;
use super::{Event, SECOND_MS, World};
use crate::policy::LeafPolicy;
use crate::report::{Report, Sample, Spread, Totals, Verdict, Violation};
use crate::scenario::Scenario;
use crate::wheel::Ms;

/// Samples are taken so often; and near a fault.
const SAMPLE_MS: Ms = 60_000;
const CLOSE_MS: Ms = 5_000;
/// A fault's neighbourhood.
const NEAR_MS: Ms = 15 * 60_000;
/// Broken rules that are told one by one.
const TOLD_MAX: usize = 20;
/// The busiest second of a supernode is looked for this long after a fault.
const AFTER_MS: Ms = 30 * 60_000;
/// Reserves have not come before this.
const BEFORE_RESERVES_MS: Ms = 120_000;
/// A call lost so long after a fault began is lost by it.
const LOST_MS: Ms = 60_000;
/// Half of the dead are forgotten by the directory's walks after this.
const DEAD_HALVE_S: f64 = 60.0;

/// Everything that is counted.
#[derive(Debug)]
pub(super) struct Measures {
    pub(super) attempts: u64,
    pub(super) requests: u64,
    pub(super) shed: u64,
    pub(super) shut_down: u64,
    pub(super) distrusted: u64,
    pub(super) calls_placed: u64,
    pub(super) calls_failed: u64,
    pub(super) calls_set_up: u64,
    pub(super) calls_lost: u64,
    /// Of directory's nodes that are asked, those that are dead, per mille.
    pub(super) dead_permille: u32,
    dead: f64,
    pub(super) ring_ms: Vec<Ms>,
    pub(super) gaps_ms: Vec<Ms>,
    samples: Vec<Sample>,
    next_sample: Ms,
    last: (Ms, u64, u64),
    violations: Vec<Violation>,
    broken: u64,
    faults: Vec<Ms>,
    fault: Option<BeforeFault>,
    over: Option<Ms>,
    /// The last second after the first fault in which fewer than 99 % were reachable.
    short: Option<Ms>,
    /// From when on recovery counts: the moment of a sudden fault, the end of one that lasts.
    recovers_from: Ms,
    /// Calls lost within a minute after a fault began.
    lost_by_fault: u64,
    least_permille: u32,
    /// The most requests of any supernode in any second: before the first fault, and after.
    peaks: (u32, u32),
    /// Of survivors in the middle: places held, before and at most before reserves come, in per cent.
    loads: (u32, u32),
    begin: Ms,
}

#[derive(Debug, Clone, Copy)]
struct BeforeFault {
    at: Ms,
    calls: u32,
    serving: u32,
}

impl Measures {
    pub(super) fn new(scenario: &Scenario, begin: Ms) -> Self {
        let faults = scenario.faults.iter().map(|fault| begin + fault.minute() * 60_000).collect();
        Self {
            attempts: 0,
            requests: 0,
            shed: 0,
            shut_down: 0,
            distrusted: 0,
            calls_placed: 0,
            calls_failed: 0,
            calls_set_up: 0,
            calls_lost: 0,
            dead_permille: 0,
            dead: 0.0,
            ring_ms: Vec::new(),
            gaps_ms: Vec::new(),
            samples: Vec::new(),
            next_sample: 0,
            last: (0, 0, 0),
            violations: Vec::new(),
            broken: 0,
            faults,
            fault: None,
            over: None,
            short: None,
            recovers_from: 0,
            lost_by_fault: 0,
            least_permille: 1_000,
            peaks: (0, 0),
            loads: (0, 0),
            begin,
        }
    }

    /// A rule that must always hold does not.
    pub(super) fn broke(&mut self, now: Ms, rule: &'static str, what: String) {
        self.broken += 1;
        if self.violations.len() < TOLD_MAX {
            self.violations.push(Violation { at_ms: i64::from(now) - i64::from(self.begin), rule, what });
        }
    }

    /// When the next sample is due after one at `now`.
    fn next_after(&self, now: Ms) -> Ms {
        let near = |at: &&Ms| now + SAMPLE_MS >= **at && now < **at + NEAR_MS;
        now + if self.faults.iter().any(|at| near(&at)) { CLOSE_MS } else { SAMPLE_MS }
    }
}

impl<P: LeafPolicy> World<P> {
    /// A fault begins, and is over later: at once, if it is sudden.
    pub(super) fn mark_fault(&mut self, sudden: bool) {
        self.sample();
        let now = self.wheel.now();
        let measures = &mut self.measures;
        measures.over = sudden.then_some(now);
        measures.recovers_from = now;
        if measures.fault.is_none() {
            let (calls, serving) = (self.calls.going, self.serving.len() as u32);
            measures.fault = Some(BeforeFault { at: now, calls, serving });
            measures.loads.0 = measures.samples.last().map_or(0, |sample| sample.load.p50);
        }
    }

    pub(super) fn mark_fault_over(&mut self, sudden: bool) {
        self.measures.over = Some(self.wheel.now());
        if !sudden {
            self.measures.recovers_from = self.wheel.now();
        }
    }

    pub(super) fn note_lost_call(&mut self) {
        let now = self.wheel.now();
        let lately = |at: &&Ms| now >= **at && now < **at + LOST_MS;
        self.measures.calls_lost += 1;
        self.measures.lost_by_fault += u64::from(self.measures.faults.iter().any(|at| lately(&at)));
    }

    /// Once in a second of virtual time.
    pub(super) fn second(&mut self) {
        let now = self.wheel.now();
        let half_life = 0.5_f64.powf(1.0 / DEAD_HALVE_S);
        self.measures.dead *= half_life;
        let all = self.measures.dead + self.serving.len() as f64;
        self.measures.dead_permille = (1_000.0 * self.measures.dead / all.max(1.0)) as u32;
        let permille =
            (u64::from(self.leaves.reachable) * 1_000 / u64::from(self.leaves.online.max(1))) as u32;
        if self.measures.fault.is_some() {
            self.measures.least_permille = self.measures.least_permille.min(permille);
        }
        if self.measures.fault.is_some() && permille < 990 {
            self.measures.short = Some(now);
        }
        if now >= self.measures.next_sample {
            self.sample();
            self.check_calls();
        }
        self.push_in(SECOND_MS, Event::Second);
    }

    /// A supernode died: walks will meet it for a while.
    pub(super) fn note_dead(&mut self) {
        self.measures.dead += 1.0;
    }

    fn sample(&mut self) {
        let now = self.wheel.now();
        let (last, requests, attempts) = self.measures.last;
        let plan = self.scenario.supernodes;
        let span_ms = now - last;
        let mut loads: Vec<u32> = Vec::with_capacity(self.serving.len());
        let mut rates: Vec<u32> = Vec::with_capacity(self.serving.len());
        let mut busiest = 0;
        for &number in &self.serving {
            let volunteer = &mut self.volunteers[number as usize];
            loads.push(volunteer.places.len() as u32 * 100 / plan.places);
            let (asked, _, worst) = volunteer.requests.take();
            rates.push((u64::from(asked) * 10_000 / u64::from(span_ms.max(1))) as u32);
            busiest = busiest.max(worst);
        }
        let per_second = |count: u64| (count * 1_000 / u64::from(span_ms.max(1))) as u32;
        let alive = || self.volunteers.iter().filter(|volunteer| volunteer.health == Health::Up);
        let sample = Sample {
            at_s: (i64::from(now) - i64::from(self.begin)) / 1_000,
            online: self.leaves.online,
            reachable: self.leaves.reachable,
            serving: self.serving.len() as u32,
            draining: alive().filter(|volunteer| volunteer.drains).count() as u32,
            reserves: alive().filter(|volunteer| volunteer.eligible && !volunteer.serves).count() as u32,
            others: alive().filter(|volunteer| !volunteer.eligible).count() as u32,
            load: Spread::of(&mut loads),
            requests_per_10_s: Spread::of(&mut rates),
            busiest_second: busiest,
            requests_per_second: per_second(self.measures.requests - requests),
            attempts_per_second: per_second(self.measures.attempts - attempts),
            shed: self.measures.shed,
            calls: self.calls.going,
            calls_relayed: self.calls.relayed,
            calls_set_up: self.measures.calls_set_up,
            calls_failed: self.measures.calls_failed,
            calls_lost: self.measures.calls_lost,
        };
        let measures = &mut self.measures;
        measures.last = (now, measures.requests, measures.attempts);
        measures.next_sample = measures.next_after(now);
        match measures.fault {
            // The time in which all start is no normal time.
            None if now > measures.begin => measures.peaks.0 = measures.peaks.0.max(busiest),
            None => {}
            Some(fault) => {
                if now < measures.over.unwrap_or(now) + AFTER_MS && now > fault.at {
                    measures.peaks.1 = measures.peaks.1.max(busiest);
                }
                if now <= fault.at + BEFORE_RESERVES_MS {
                    measures.loads.1 = measures.loads.1.max(sample.load.p50);
                }
            }
        }
        if measures.samples.last().is_none_or(|before| before.at_s < sample.at_s) {
            measures.samples.push(sample);
        }
    }

    pub(super) fn take_report(&mut self) -> Report {
        self.sample();
        let measures = &mut self.measures;
        measures.ring_ms.sort_unstable();
        measures.gaps_ms.sort_unstable();
        let online_hours: u64 = measures
            .samples
            .windows(2)
            .map(|pair| u64::from(pair[0].online) * (pair[1].at_s - pair[0].at_s).unsigned_abs())
            .sum::<u64>()
            / 3_600;
        let totals = Totals {
            events: self.events,
            online_hours,
            requests: measures.requests,
            shed: measures.shed,
            attempts: measures.attempts,
            shut_down: measures.shut_down,
            distrusted: measures.distrusted,
            calls_placed: measures.calls_placed,
            calls_set_up: measures.calls_set_up,
            calls_failed: measures.calls_failed,
            calls_lost: measures.calls_lost,
            calls_at_fault: measures.fault.map_or(0, |fault| fault.calls),
            serving_at_fault: measures.fault.map_or(0, |fault| fault.serving),
            least_reachable_permille: measures.least_permille,
            back_after_s: back_after_s(measures, self.wheel.now()),
            calls_lost_by_fault: measures.lost_by_fault,
            peak_before: measures.peaks.0,
            peak_after: measures.peaks.1,
            load_before: measures.loads.0,
            load_after: measures.loads.1,
            ring_ms: Spread::of_sorted(&measures.ring_ms),
            gaps_ms: Spread::of_sorted(&measures.gaps_ms),
            bytes: (self.leaves.bytes() + self.calls.bytes() + self.wheel.bytes()) as u64,
            broken: measures.broken,
        };
        let verdicts = verdicts(&self.scenario, &totals, measures.samples.last());
        Report {
            name: self.scenario.name.clone(),
            seed: self.scenario.seed,
            nodes: self.scenario.nodes,
            policy: format!("{:?}", self.scenario.policy).to_lowercase(),
            samples: measures.samples.clone(),
            totals,
            verdicts,
            violations: measures.violations.clone(),
        }
    }
}

/// From the last fault until 99 % were reachable, and stayed so. `None`: they are not.
fn back_after_s(measures: &Measures, now: Ms) -> Option<u32> {
    measures.fault?;
    match measures.short {
        None => Some(0),
        Some(short) if short + SECOND_MS >= now => None,
        Some(short) => Some((short + SECOND_MS).saturating_sub(measures.recovers_from) / 1_000),
    }
}

/// What was to hold, and what came.
fn verdicts(scenario: &Scenario, totals: &Totals, last: Option<&Sample>) -> Vec<Verdict> {
    let bounds = &scenario.bounds;
    let percent = |after: u32, before: u32| (u64::from(after) * 100 / u64::from(before.max(1))) as u32;
    let lost = totals.calls_lost_by_fault * 10_000 / u64::from(totals.calls_at_fault.max(1));
    let at_end = last.map_or(0, |sample| sample.reachable_permille());
    let most = |name: &'static str, bound: Option<u32>, value: u32| {
        bound.map(|bound| Verdict { name, bound, value: Some(value), holds: value <= bound })
    };
    let back = bounds.reachable_within_s.map(|bound| Verdict {
        name: "s until 99 % are reachable again",
        bound,
        value: totals.back_after_s,
        holds: totals.back_after_s.is_some_and(|s| s <= bound),
    });
    let end = bounds.reachable_at_end_permille.map(|bound| Verdict {
        name: "‰ reachable at the end, at least",
        bound,
        value: Some(at_end),
        holds: at_end >= bound,
    });
    let peaks = percent(totals.peak_after, totals.peak_before);
    let loads = percent(totals.load_after, totals.load_before);
    let lost = u32::try_from(lost).unwrap_or(u32::MAX);
    [
        back,
        most(
            "% of a normal peak: requests in the busiest second of any supernode",
            bounds.requests_percent,
            peaks,
        ),
        most("% of the load before, of survivors in the middle", bounds.load_percent, loads),
        most("of 10,000 calls that went on lost within a minute", bounds.calls_lost_percent_100, lost),
        end,
    ]
    .into_iter()
    .flatten()
    .collect()
}
