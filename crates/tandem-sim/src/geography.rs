//! Where nodes are, how far it is from one to another, and when people are at their machines.

use tandem_core::rng::Rng;

use crate::scenario::REGIONS;
use crate::wheel::Ms;

/// An hour and a day of virtual time.
pub(crate) const HOUR_MS: Ms = 3_600_000;

/// Share of the nodes in each region, in per cent, and hours that its clocks are ahead of UTC. In order: North America,
/// South America, Europe, Africa and the Middle East, South Asia, East Asia and Oceania.
const SHARE_PERCENT: [u64; REGIONS] = [22, 9, 31, 8, 10, 20];
const AHEAD_H: [u32; REGIONS] = [18, 21, 1, 3, 6, 9];

/// One way between regions in milliseconds, without the access lines: half of public round trips between data centres
/// there, rounded.
const BETWEEN_MS: [[u8; REGIONS]; REGIONS] = [
    [20, 65, 45, 75, 110, 75],
    [65, 20, 95, 120, 150, 135],
    [45, 95, 12, 45, 65, 110],
    [75, 120, 45, 30, 60, 110],
    [110, 150, 65, 60, 25, 55],
    [75, 135, 110, 110, 55, 30],
];

/// How likely somebody is to come online in each hour of the local day, in per cent of the likeliest.
const WAKING_PERCENT: [u8; 24] =
    [18, 12, 8, 6, 6, 10, 25, 50, 75, 90, 95, 95, 90, 90, 90, 92, 95, 98, 100, 100, 95, 80, 55, 32];

/// Draws a region.
pub(crate) fn region(rng: &mut Rng) -> u8 {
    let mut left = rng.below(SHARE_PERCENT.iter().sum());
    let mut region = 0;
    while left >= SHARE_PERCENT[region] {
        left -= SHARE_PERCENT[region];
        region += 1;
    }
    region as u8
}

/// An access line: what it adds one way, in milliseconds. Fibre, cable, DSL, radio.
pub(crate) fn access_ms(rng: &mut Rng) -> u8 {
    let (least, most) = match rng.below(100) {
        0..30 => (1, 4),
        30..65 => (5, 12),
        65..85 => (10, 25),
        _ => (20, 60),
    };
    (least + rng.below(most - least + 1)) as u8
}

/// One way between two places, jitter included; of a hundred packets one is lost and sent again.
pub(crate) fn one_way_ms(from: Place, to: Place, rng: &mut Rng) -> Ms {
    let base = Ms::from(BETWEEN_MS[from.region as usize][to.region as usize]);
    let lines = Ms::from(from.access_ms) + Ms::from(to.access_ms);
    let draw = rng.next_u64();
    let jitter = (draw as Ms % 64) * (base + lines) / 256;
    let lost = if draw >> 57 == 0 { 200 } else { 0 };
    base + lines + jitter + lost
}

/// There and back without jitter, as a node would measure it.
pub(crate) fn round_trip_ms(from: Place, to: Place) -> u32 {
    let base = u32::from(BETWEEN_MS[from.region as usize][to.region as usize]);
    2 * (base + u32::from(from.access_ms) + u32::from(to.access_ms))
}

/// Where a node is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) region: u8,
    pub(crate) access_ms: u8,
}

/// When somebody there who has just gone comes back, at the earliest `from` (in milliseconds after midnight UTC of the
/// first day): by the wave of the day, about `mean_ms` later where the wave is highest.
pub(crate) fn comes_online_ms(region: u8, from: u64, mean_ms: u64, rng: &mut Rng) -> u64 {
    let mut at = from;
    // Thinning: candidates come at the highest rate, and are taken with the chance of their hour.
    for _ in 0..64 {
        at += exponential_ms(mean_ms, rng);
        let hour = (at / u64::from(HOUR_MS) + u64::from(AHEAD_H[region as usize])) % 24;
        if rng.below(100) < u64::from(WAKING_PERCENT[hour as usize]) {
            break;
        }
    }
    at
}

/// The chance that somebody there is online at that time when the world begins, in per cent of the highest.
pub(crate) fn presence_percent(region: u8, at: u64) -> u64 {
    let hour = |back: u64| (at / u64::from(HOUR_MS) + 24 - back + u64::from(AHEAD_H[region as usize])) % 24;
    (0..6).map(|back| u64::from(WAKING_PERCENT[hour(back) as usize])).sum::<u64>() / 6
}

/// Hours until it is eight in the morning there.
pub(crate) fn hours_to_morning(region: u8, at: u64) -> u64 {
    let hour = (at / u64::from(HOUR_MS) + u64::from(AHEAD_H[region as usize])) % 24;
    (8 + 24 - hour) % 24
}

/// Exponentially distributed with that mean, at least 1.
pub(crate) fn exponential_ms(mean_ms: u64, rng: &mut Rng) -> u64 {
    (-(unit(rng).ln()) * mean_ms as f64) as u64 + 1
}

/// Log-normally distributed with that median; `sigma` of its logarithm.
pub(crate) fn log_normal_ms(median_ms: u64, sigma: f64, rng: &mut Rng) -> u64 {
    (median_ms as f64 * (sigma * normal(rng)).exp()) as u64 + 1
}

/// By Box and Muller.
fn normal(rng: &mut Rng) -> f64 {
    let (a, b) = (unit(rng), unit(rng));
    (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

/// Above 0, at most 1.
fn unit(rng: &mut Rng) -> f64 {
    ((rng.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// A client's session (BASELINES): most last one to two hours or seven to ten, one in twenty longer.
pub(crate) fn client_session_ms(rng: &mut Rng) -> u64 {
    let (least_min, most_min) = match rng.below(100) {
        0..8 => (5, 60),
        8..52 => (60, 120),
        52..95 => (7 * 60, 10 * 60),
        _ => (10 * 60, 24 * 60),
    };
    60_000 * (least_min + rng.below(most_min - least_min))
}

/// A supernode's session (BASELINES): half of them longer than 5.5 h.
pub(crate) fn supernode_session_ms(rng: &mut Rng) -> u64 {
    log_normal_ms(5 * 3_600_000 + 1_800_000, 1.0, rng).clamp(60_000, 14 * 24 * 3_600_000)
}

/// A call's length (BASELINES: mean 13 min, 95th percentile 60 min: log-normal with this sigma has both, nearly).
pub(crate) fn call_ms(mean_minutes: u32, rng: &mut Rng) -> u64 {
    const SIGMA: f64 = 1.7;
    // The mean of a log-normal is median · exp(sigma² / 2).
    let median_ms = 60_000.0 * f64::from(mean_minutes) / (SIGMA * SIGMA / 2.0).exp();
    log_normal_ms(median_ms as u64, SIGMA, rng).clamp(2_000, 12 * 3_600_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(count: usize, mut draw: impl FnMut(&mut Rng) -> u64) -> Vec<u64> {
        let mut rng = Rng::new(5);
        let mut drawn: Vec<u64> = (0..count).map(|_| draw(&mut rng)).collect();
        drawn.sort_unstable();
        drawn
    }

    #[test]
    fn sessions_and_calls_are_as_long_as_the_baselines_say() {
        let minutes = |ms: u64| ms / 60_000;
        let calls = sorted(40_000, |rng| call_ms(13, rng));
        let mean = minutes(calls.iter().sum::<u64>() / calls.len() as u64);
        let p95 = minutes(calls[calls.len() * 95 / 100]);
        assert!((11..=14).contains(&mean) && (45..=65).contains(&p95), "mean {mean}, p95 {p95}");
        let clients = sorted(40_000, client_session_ms);
        let within_10_h = clients.iter().filter(|ms| **ms <= 36_000_000).count() * 100 / clients.len();
        assert!((94..=96).contains(&within_10_h), "{within_10_h} % of clients are gone after 10 h");
        let supernodes = sorted(40_000, supernode_session_ms);
        let median = minutes(supernodes[supernodes.len() / 2]);
        assert!((310..=350).contains(&median), "median {median} minutes");
    }

    #[test]
    fn more_people_come_in_the_evening_than_at_night() {
        let mut rng = Rng::new(5);
        let mut by_hour = [0_u32; 24];
        for _ in 0..20_000 {
            let from = rng.below(24 * u64::from(HOUR_MS));
            let at = comes_online_ms(2, from, 6 * u64::from(HOUR_MS), &mut rng);
            by_hour[(at / u64::from(HOUR_MS) + 1) as usize % 24] += 1;
        }
        assert!(by_hour[19] > 5 * by_hour[3], "{by_hour:?}");
    }
}
