//! What the machine has to spare, measured while its owner consents to serve: processors, bandwidth, power, and what its
//! network costs. Nothing is sampled otherwise.
//!
//! **Bandwidth** is not tried out: nothing is sent for it. What is known is what all programs of this machine carry, by
//! the counters of the interfaces that lead out. From that: *free* = what the line has been seen to carry, or the owner's
//! cap where that is more, less what is in use, and never more than the cap. So a line that is busy is left alone, and an
//! idle one is believed to carry what its owner allowed, until it serves. It does not know the speed that a provider
//! sells, nor what other machines at the same line do.

use std::collections::VecDeque;
use std::time::Duration;

use tandem_core::election::{Headroom, Situation};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::config::MeteredSetting;
use crate::platform::load::{self, CpuTimes, Unmeasured};
use crate::platform::network::{Fingerprint, Network};
use crate::platform::traffic::{self, Carried};
use crate::platform::{metered, power};

/// From one sample to the next, but for the second one, so that something is known soon.
const EVERY: Duration = Duration::from_secs(20);
const FIRST: Duration = Duration::from_secs(3);
/// Samples kept: five minutes.
const SAMPLES_MAX: usize = 16;
/// A rate over less than this proves nothing about a line: buffers take it.
const PROVING_MS: u64 = 10_000;
/// What the network costs is asked this often, in samples, and whenever the network changes.
const METERED_EVERY: u32 = 15;

const NOT_YET: Unmeasured = Unmeasured("it is being measured");

/// What is measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MeasuringPlan {
    /// The owner's cap on what is served, in bits per second.
    pub(crate) cap_bits_per_second: u64,
    pub(crate) metered: MeteredSetting,
}

/// How it stands, each with the reason where it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Readings {
    /// Over the last minutes, of all processors.
    pub(crate) cpu_free_percent: Result<u32, Unmeasured>,
    pub(crate) bandwidth: Result<Bandwidth, Unmeasured>,
    pub(crate) on_battery: Result<bool, Unmeasured>,
    /// `None`: nobody knows, and it does not count as metered.
    pub(crate) metered: Option<bool>,
}

/// Both ways together, in kbit/s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bandwidth {
    pub(crate) free_kbps: u32,
    /// By all programs, on average over the last minutes.
    pub(crate) in_use_kbps: u32,
    /// The most that this network was seen to carry for ten seconds or more.
    pub(crate) most_kbps: u32,
}

impl Readings {
    /// For [`tandem_core::election::Eligibility::handle_headroom`]; `None`: not measured (yet).
    pub(crate) fn headroom(&self) -> Option<Headroom> {
        let (cpu_free_percent, bandwidth) = (self.cpu_free_percent.ok()?, self.bandwidth.ok()?);
        Some(Headroom { cpu_free_percent, bandwidth_free_kbps: bandwidth.free_kbps })
    }

    /// The same situation with the machine's part in it as it is now.
    pub(crate) fn apply_to(&self, situation: Situation) -> Situation {
        let metered = self.metered.unwrap_or(false);
        Situation { metered, on_battery: self.on_battery.unwrap_or(false), ..situation }
    }
}

/// The readings, as they change. Dropping this ends the sampling.
#[derive(Debug)]
pub(crate) struct Measuring {
    pub(crate) readings: watch::Receiver<Readings>,
    task: JoinHandle<()>,
}

impl Drop for Measuring {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Samples from now on: every 20 s, what the network costs every five minutes.
pub(crate) fn follow(plan: MeasuringPlan, network: watch::Receiver<Network>) -> Measuring {
    let begin = Readings {
        cpu_free_percent: Err(NOT_YET),
        bandwidth: Err(NOT_YET),
        on_battery: power::on_battery(),
        metered: plan.metered.said(),
    };
    let (told, readings) = watch::channel(begin);
    let task = tokio::spawn(run(plan, network, told));
    Measuring { readings, task }
}

async fn run(plan: MeasuringPlan, network: watch::Receiver<Network>, told: watch::Sender<Readings>) {
    let began = Instant::now();
    let mut window = Window::default();
    let mut known: Option<(Fingerprint, Vec<String>)> = None;
    let (mut metered, mut asked) = (plan.metered.said(), 0);
    let mut ticks = tokio::time::interval_at(began + FIRST, EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = network.borrow().clone();
        let moved = known.as_ref().is_none_or(|(place, _)| *place != now.fingerprint());
        if moved {
            // Another line: what was seen of the one before says nothing of it.
            window = Window::default();
            known = Some((now.fingerprint(), traffic::leading_out(&now)));
        }
        let interfaces = known.as_ref().map(|(_, names)| names.as_slice()).unwrap_or_default();
        if plan.metered == MeteredSetting::Auto && (moved || asked >= METERED_EVERY) {
            (metered, asked) = (metered::is_metered(interfaces).await, 0);
        }
        asked += 1;
        let at_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        window.add(Sample { at_ms, cpu: load::cpu_times(), carried: traffic::carried(interfaces) });
        let readings = Readings {
            cpu_free_percent: window.cpu_free_percent(),
            bandwidth: window.bandwidth(plan.cap_bits_per_second),
            on_battery: power::on_battery(),
            metered,
        };
        told.send_if_modified(|before| {
            let changed = *before != readings;
            *before = readings;
            changed
        });
        ticks.tick().await;
    }
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at_ms: u64,
    cpu: Result<CpuTimes, Unmeasured>,
    carried: Result<Carried, Unmeasured>,
}

/// The last minutes on one network.
#[derive(Debug, Default)]
struct Window {
    samples: VecDeque<Sample>,
    most_bits_per_second: u64,
}

impl Window {
    fn add(&mut self, sample: Sample) {
        if let Some(last) = self.samples.back()
            && let (Ok(before), Ok(now)) = (&last.carried, &sample.carried)
        {
            let ms = sample.at_ms.saturating_sub(last.at_ms);
            match now.bits_per_second_since(before, ms) {
                Some(rate) if ms >= PROVING_MS => {
                    self.most_bits_per_second = self.most_bits_per_second.max(rate);
                }
                // The counters began anew: an interface went and came back.
                None if ms > 0 => self.samples.clear(),
                _ => {}
            }
        }
        if self.samples.len() >= SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    fn ends(&self) -> Result<(&Sample, &Sample), Unmeasured> {
        match (self.samples.front(), self.samples.back()) {
            (Some(first), Some(last)) if last.at_ms > first.at_ms => Ok((first, last)),
            _ => Err(NOT_YET),
        }
    }

    fn cpu_free_percent(&self) -> Result<u32, Unmeasured> {
        let (first, last) = self.ends()?;
        last.cpu?.free_percent_since(&first.cpu?).ok_or(NOT_YET)
    }

    fn bandwidth(&self, cap_bits_per_second: u64) -> Result<Bandwidth, Unmeasured> {
        let (first, last) = self.ends()?;
        let in_use = last.carried?.bits_per_second_since(&first.carried?, last.at_ms - first.at_ms);
        let in_use = in_use.ok_or(NOT_YET)?;
        let line = self.most_bits_per_second.max(cap_bits_per_second);
        let free = line.saturating_sub(in_use).min(cap_bits_per_second);
        let kbps = |bits: u64| u32::try_from(bits / 1000).unwrap_or(u32::MAX);
        let (free_kbps, in_use_kbps) = (kbps(free), kbps(in_use));
        Ok(Bandwidth { free_kbps, in_use_kbps, most_kbps: kbps(self.most_bits_per_second) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: u64 = 10_000_000;

    /// At a second, with so many free ticks of 100 a second, and so many bytes carried.
    fn sample(at_s: u64, free: u64, bytes: u64) -> Sample {
        Sample {
            at_ms: at_s * 1000,
            cpu: Ok(CpuTimes { free, total: at_s * 100 }),
            carried: Ok(Carried { received: bytes, sent: 0 }),
        }
    }

    fn window(samples: impl IntoIterator<Item = Sample>) -> Window {
        let mut window = Window::default();
        samples.into_iter().for_each(|sample| window.add(sample));
        window
    }

    #[test]
    fn nothing_is_known_before_the_second_sample() {
        let window = window([sample(1, 0, 0)]);
        assert_eq!(window.cpu_free_percent(), Err(NOT_YET));
        assert_eq!(window.bandwidth(CAP), Err(NOT_YET));
    }

    #[test]
    fn the_last_five_minutes_count_and_what_was_before_does_not() {
        // Idle for ten minutes, then busy for five.
        let idle = (0..30).map(|n| sample(n * 20, n * 20 * 100, 0));
        let busy = (30..46).map(|n| sample(n * 20, 29 * 20 * 100 + (n - 29) * 20 * 10, 0));
        let window = window(idle.chain(busy));
        assert_eq!(window.samples.len(), SAMPLES_MAX);
        assert_eq!(window.cpu_free_percent(), Ok(10));
    }

    #[test]
    fn an_idle_line_is_believed_to_carry_the_cap_and_a_busy_one_is_left_alone() {
        let rate = |bits_per_second: u64| {
            let line = (0..6).map(move |n| sample(n * 20, 0, n * 20 * bits_per_second / 8));
            window(line).bandwidth(CAP).unwrap()
        };
        assert_eq!(rate(0), Bandwidth { free_kbps: 10_000, in_use_kbps: 0, most_kbps: 0 });
        assert_eq!(rate(9_000_000).free_kbps, 1_000);
        assert_eq!(rate(40_000_000).free_kbps, 0, "nothing says that more would fit");
        // It carried 80 Mbit/s for a while: with 40 in use there is room for all that the owner allows.
        let burst = [sample(0, 0, 0), sample(20, 0, 200_000_000)];
        let after = (2..20).map(|n| sample(n * 20, 0, 200_000_000 + (n - 1) * 100_000_000));
        let found = window(burst.into_iter().chain(after)).bandwidth(CAP).unwrap();
        assert_eq!(found, Bandwidth { free_kbps: 10_000, in_use_kbps: 40_000, most_kbps: 80_000 });
        // A burst of three seconds proves nothing.
        let short = window([sample(0, 0, 0), sample(3, 0, 100_000_000)]);
        assert_eq!(short.bandwidth(CAP).unwrap().most_kbps, 0);
    }

    #[test]
    fn counters_that_begin_anew_are_no_traffic() {
        let window = window([sample(0, 0, 5_000), sample(20, 0, 10), sample(40, 0, 10)]);
        assert_eq!(window.bandwidth(CAP).unwrap().in_use_kbps, 0);
    }

    #[test]
    fn what_is_not_known_is_no_headroom_and_does_not_count_against_the_machine() {
        let reason = Unmeasured("only Linux");
        let readings = Readings {
            cpu_free_percent: Err(reason),
            bandwidth: Ok(Bandwidth { free_kbps: 1, in_use_kbps: 2, most_kbps: 3 }),
            on_battery: Err(reason),
            metered: None,
        };
        assert_eq!(readings.headroom(), None);
        let served = Situation { relay_bytes: 7, ..Situation::default() };
        assert_eq!(readings.apply_to(served), served);
        let known =
            Readings { cpu_free_percent: Ok(80), on_battery: Ok(true), metered: Some(true), ..readings };
        assert_eq!(known.headroom(), Some(Headroom { cpu_free_percent: 80, bandwidth_free_kbps: 1 }));
        let situation = known.apply_to(served);
        assert!(situation.metered && situation.on_battery && situation.relay_bytes == 7);
    }

    #[tokio::test]
    async fn this_machine_is_measured() {
        let (_watching, network) = watch::channel(Network::default());
        let plan = MeasuringPlan { cap_bits_per_second: CAP, metered: MeteredSetting::Yes };
        let mut measuring = follow(plan, network);
        let measured = measuring.readings.wait_for(|readings| readings.headroom().is_some());
        let readings =
            *tokio::time::timeout(Duration::from_secs(30), measured).await.expect("in time").unwrap();
        assert!(readings.cpu_free_percent.unwrap() <= 100, "{readings:?}");
        assert_eq!(readings.metered, Some(true), "as the owner says");
        let mut after = measuring.readings.clone();
        drop(measuring);
        let ended = async { while after.changed().await.is_ok() {} };
        assert!(
            tokio::time::timeout(Duration::from_secs(30), ended).await.is_ok(),
            "nothing is sampled any more"
        );
    }
}
