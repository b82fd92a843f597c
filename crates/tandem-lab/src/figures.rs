//! Percentiles of what was timed.

use serde::Serialize;

/// Half of the values are at most `p50`, 19 of 20 at most `p95`, all at most `max`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub count: usize,
    pub p50: f64,
    pub p95: f64,
    pub max: f64,
}

impl Spread {
    /// `None` without values. Nearest rank.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let rank = |share: f64| {
            let rank = (share * values.len() as f64).ceil() as usize;
            values.get(rank.clamp(1, values.len().max(1)) - 1).copied()
        };
        Some(Self { count: values.len(), p50: rank(0.5)?, p95: rank(0.95)?, max: rank(1.0)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        assert_eq!(Spread::of(Vec::new()), None);
        assert_eq!(Spread::of(vec![3.0]), Some(Spread { count: 1, p50: 3.0, p95: 3.0, max: 3.0 }));
        let hundred = (1..=100).rev().map(f64::from).collect();
        assert_eq!(Spread::of(hundred), Some(Spread { count: 100, p50: 50.0, p95: 95.0, max: 100.0 }));
    }
}
