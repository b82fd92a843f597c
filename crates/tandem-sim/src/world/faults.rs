//! What befalls the world.

use tandem_core::homes::HOMES;

use super::leaves::NOBODY;
use super::volunteer::Health;
use super::{Event, World};
use crate::geography;
use crate::policy::LeafPolicy;
use crate::scenario::Fault;
use crate::wheel::Ms;

/// Of those that die, one in so many vanishes without a word.
const VANISHES_ONE_IN: u64 = 5;
/// An hour of the sun's way takes this long where restarts go by time zone.
const ZONE_MS: u64 = 10 * 60_000;
/// A supernode with the faulty release lives so long each time.
const BAD_LIFE_MS: u64 = 5 * 60_000;
/// Supernodes that keep a record.
const HOLDERS: i32 = 8;
/// A supernode notices a dead connection after this.
const IDLE_MS: Ms = 30_000;

impl<P: LeafPolicy> World<P> {
    pub(super) fn fault(&mut self, number: u16) {
        let Some(fault) = self.scenario.faults.get(usize::from(number)).copied() else { return };
        self.mark_fault(fault.is_sudden());
        match fault {
            Fault::KillSupernodes { percent, within_s, for_minutes, .. } => {
                self.kill_supernodes(percent, within_s, for_minutes);
            }
            Fault::RestartClients { percent, within_s, by_time_zone, .. } => {
                self.restart_clients(percent, within_s, by_time_zone);
            }
            Fault::CutRegion { region, .. } => self.cut_region(region as u8),
            Fault::BadRelease { .. } => {
                self.bad_release = true;
                self.fail_release();
            }
            Fault::FlashCrowd { times, .. } => self.calls_times = times,
            Fault::Newcomers { percent, for_minutes, .. } => self.newcomers(percent, for_minutes),
        }
    }

    pub(super) fn fault_over(&mut self, number: u16) {
        let Some(fault) = self.scenario.faults.get(usize::from(number)).copied() else { return };
        match fault {
            Fault::CutRegion { .. } => {
                self.cut = None;
                for leaf in 0..self.scenario.nodes {
                    self.refresh(leaf);
                }
            }
            Fault::BadRelease { .. } => self.bad_release = false,
            Fault::FlashCrowd { .. } => self.calls_times = 1,
            Fault::KillSupernodes { .. } | Fault::RestartClients { .. } | Fault::Newcomers { .. } => {}
        }
        self.mark_fault_over(fault.is_sudden());
    }

    fn kill_supernodes(&mut self, percent: u32, within_s: u32, for_minutes: u32) {
        let mut serving = self.serving.clone();
        if within_s == 0 {
            self.lose_records(percent);
        }
        let count = (serving.len() as u64 * u64::from(percent)).div_ceil(100) as usize;
        for nth in 0..count {
            let at = self.rng.index(serving.len());
            let victim = serving.swap_remove(at);
            // A machine's end, brought forward; it comes back when it is said to.
            if within_s == 0 {
                let vanishes = (nth as u64).is_multiple_of(VANISHES_ONE_IN);
                self.kill(victim, vanishes);
            } else {
                let life = self.volunteers[victim as usize].life;
                let after_ms = self.rng.below(u64::from(within_s) * 1_000) as Ms;
                self.push_in(after_ms, Event::Leave { life, volunteer: victim });
            }
            if for_minutes > 0 {
                self.push_in(for_minutes * 60_000, Event::Come(victim));
            }
        }
    }

    /// A record is kept by the eight nearest supernodes: it is lost with all of them.
    fn lose_records(&mut self, percent: u32) {
        let share = f64::from(percent) / 100.0;
        let lost_permyriad = (share.powi(HOLDERS) * 10_000.0) as u64;
        if lost_permyriad == 0 {
            return;
        }
        for leaf in 0..self.scenario.nodes {
            if self.rng.below(10_000) < lost_permyriad {
                self.leaves.record[leaf as usize] = [NOBODY; HOMES];
                self.leaves.stored[leaf as usize] = 0;
                self.refresh(leaf);
            }
        }
    }

    fn restart_clients(&mut self, percent: u32, within_s: u32, by_time_zone: bool) {
        let clock_ms = self.clock_ms(u64::from(self.wheel.now()));
        for leaf in 0..self.scenario.nodes {
            if self.rng.below(100) >= u64::from(percent) || !self.leaves.is_online(leaf) {
                continue;
            }
            let region = self.leaves.place[leaf as usize].region;
            let zone_ms =
                if by_time_zone { geography::hours_to_morning(region, clock_ms) * ZONE_MS } else { 0 };
            let after_ms = zone_ms + self.rng.below(u64::from(within_s) * 1_000 + 1);
            if by_time_zone {
                // It stays until its hour comes, and is away for a few minutes.
                let away_ms = 60_000 + self.rng.below(240_000);
                self.push_in(after_ms as Ms, Event::Restart { leaf, away_ms: away_ms as Ms });
            } else {
                self.restart_leaf(leaf, after_ms as Ms);
            }
        }
    }

    fn cut_region(&mut self, region: u8) {
        self.cut = Some(region);
        for peer in 0..self.volunteers.len() as u32 {
            let here = self.volunteers[peer as usize].place.region;
            let held: Vec<(u32, u16)> = self.volunteers[peer as usize].places.held().collect();
            for (leaf, number) in held {
                if !self.are_connected(here, self.leaves.place[leaf as usize].region) {
                    self.falls_silent(leaf, peer, number);
                    self.push_in(IDLE_MS, Event::Gone { number, leaf, peer });
                    self.refresh(leaf);
                }
            }
            let others: Vec<u32> = self.volunteers[peer as usize].out.clone();
            for other in others {
                if !self.are_connected(here, self.volunteers[other as usize].place.region) {
                    self.push_in(IDLE_MS, Event::Missed { by: peer, gone: other });
                    self.push_in(IDLE_MS, Event::Missed { by: other, gone: peer });
                }
            }
        }
    }

    fn fail_release(&mut self) {
        for number in 0..self.volunteers.len() as u32 {
            let volunteer = &self.volunteers[number as usize];
            if volunteer.release == 2 && volunteer.health == Health::Up {
                self.kill(number, false);
                self.come_back_to_fail(number);
            }
        }
    }

    /// It is started again by its owner or by the system, and fails again while the release does.
    fn come_back_to_fail(&mut self, number: u32) {
        let after_ms = geography::exponential_ms(BAD_LIFE_MS, &mut self.rng);
        let at = u64::from(self.wheel.now()) + after_ms;
        self.push_at(at, Event::Come(number));
    }

    /// Whoever comes while the release fails goes again.
    pub(super) fn fails_at_start(&mut self, number: u32) {
        if self.bad_release && self.volunteers[number as usize].release == 2 {
            let life = self.volunteers[number as usize].life;
            let after_ms = geography::exponential_ms(BAD_LIFE_MS, &mut self.rng);
            let at = u64::from(self.wheel.now()) + after_ms;
            self.push_at(at, Event::Leave { life, volunteer: number });
        }
    }

    fn newcomers(&mut self, percent: u32, for_minutes: u32) {
        let span_ms = u64::from(for_minutes) * 60_000;
        for leaf in 0..self.scenario.nodes {
            let new = self.leaves.record[leaf as usize][0] == NOBODY;
            if new && !self.leaves.is_online(leaf) && self.rng.below(100) < u64::from(percent) {
                let at = u64::from(self.wheel.now()) + self.rng.below(span_ms);
                let session = self.leaves.session_of(leaf);
                self.push_at(at, Event::Start { session, leaf });
            }
        }
    }
}
