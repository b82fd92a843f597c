//! What other machines' clocks say of this one's.

use std::collections::VecDeque;

use tandem_proto::ids::ServiceKey;

/// Supernodes whose clocks are remembered, the newest hellos.
const CLOCKS_MAX: usize = 15;
/// From this difference on, records and certificates may be refused (spec/records.md).
const SKEW_S: u64 = 600;

/// How far the clocks of supernodes are ahead of ours, by their hellos.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    ahead_s: VecDeque<(ServiceKey, i64)>,
}

impl Clocks {
    pub(super) fn note(&mut self, service: ServiceKey, ahead_s: i64) {
        self.ahead_s.retain(|(known, _)| *known != service);
        self.ahead_s.push_back((service, ahead_s));
        if self.ahead_s.len() > CLOCKS_MAX {
            self.ahead_s.pop_front();
        }
    }

    /// By how many minutes this machine's clock is wrong, if that much: the median, since one clock may be theirs to
    /// mend, or a liar's.
    pub(super) fn skew_minutes(&self) -> Option<u64> {
        let mut ahead_s: Vec<i64> = self.ahead_s.iter().map(|(_, ahead_s)| *ahead_s).collect();
        ahead_s.sort_unstable();
        // Of an even number the one nearer to ours, so that two that disagree accuse nobody.
        let upper = ahead_s.get(ahead_s.len() / 2)?.unsigned_abs();
        let lower = ahead_s.get((ahead_s.len() - 1) / 2)?.unsigned_abs();
        let skew_s = upper.min(lower);
        (skew_s > SKEW_S).then_some(skew_s / 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skew(ahead_s: &[i64]) -> Option<u64> {
        let mut clocks = Clocks::default();
        for (n, ahead_s) in (0..).zip(ahead_s) {
            clocks.note(ServiceKey([n; 32]), *ahead_s);
        }
        clocks.skew_minutes()
    }

    #[test]
    fn most_clocks_decide() {
        assert_eq!(skew(&[]), None);
        assert_eq!(skew(&[600]), None);
        assert_eq!(skew(&[660]), Some(11));
        assert_eq!(skew(&[-7_200, -7_201, -7_199]), Some(120));
        assert_eq!(skew(&[900_000, 0, 1]), None, "one of three is wrong itself");
        assert_eq!(skew(&[900_000, 0]), None);
        assert_eq!(skew(&[i64::MIN, i64::MIN]), Some(i64::MIN.unsigned_abs() / 60));
    }

    #[test]
    fn a_clock_that_was_set_is_forgiven() {
        let mut clocks = Clocks::default();
        clocks.note(ServiceKey([1; 32]), 5_000);
        clocks.note(ServiceKey([1; 32]), 1);
        assert_eq!(clocks.skew_minutes(), None);
        for n in 0..=255 {
            clocks.note(ServiceKey([n; 32]), 0);
        }
        assert_eq!(clocks.ahead_s.len(), CLOCKS_MAX);
    }
}
