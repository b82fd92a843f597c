//! What people are told afterwards: which addresses there were, and what each change of path cost.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tandem_proto::ids::ServiceKey;

use super::as_ms;
use super::types::{CandidateOrigin, CandidateStats, PathId, PathSwitch, Route};

const CANDIDATES_MAX: usize = 64;
const SWITCHES_MAX: usize = 256;
/// Arrivals this close are what 20 ms packets and some jitter look like.
const GAP_MIN: Duration = Duration::from_millis(30);
/// Gaps remembered for the switch that follows them.
const GAPS_MAX: usize = 16;
/// A gap belongs to a switch that comes this much later at most.
const BEFORE: Duration = Duration::from_secs(1);
/// What a switch costs is known after this.
const AFTER: Duration = Duration::from_secs(2);

/// Addresses and switches of one session, bounded.
#[derive(Debug)]
pub(super) struct History {
    began: Instant,
    candidates: VecDeque<CandidateStats>,
    switches: VecDeque<Switch>,
    gaps: VecDeque<(Instant, Duration)>,
}

#[derive(Debug)]
struct Switch {
    at: Instant,
    lost_before: u64,
    told: PathSwitch,
}

impl History {
    pub(super) fn new(began: Instant) -> Self {
        Self { began, candidates: VecDeque::new(), switches: VecDeque::new(), gaps: VecDeque::new() }
    }

    /// An address became known. The same one twice is noted once.
    pub(super) fn candidate(
        &mut self,
        local: bool,
        kind: CandidateOrigin,
        addr: SocketAddr,
        relay: Option<ServiceKey>,
        now: Instant,
    ) {
        let same = |known: &CandidateStats| {
            (known.local, known.kind, known.addr, known.relay) == (local, kind, addr, relay)
        };
        if self.candidates.iter().any(same) {
            return;
        }
        if self.candidates.len() == CANDIDATES_MAX {
            self.candidates.pop_front();
        }
        let at_ms = as_ms(now.saturating_duration_since(self.began));
        self.candidates.push_back(CandidateStats { local, kind, addr, relay, at_ms });
    }

    /// Sound takes another path. `lost` is how much was missing until then.
    pub(super) fn switched(
        &mut self,
        (from, from_route): (Option<PathId>, Option<Route>),
        (to, to_route): (PathId, Route),
        why: &str,
        lost: u64,
        now: Instant,
    ) {
        if self.switches.len() == SWITCHES_MAX {
            self.switches.pop_front();
        }
        let recent = self.gaps.iter().filter(|(at, _)| now.saturating_duration_since(*at) <= BEFORE);
        let gap = recent.map(|(_, gap)| *gap).max().unwrap_or_default();
        let told = PathSwitch {
            at_ms: as_ms(now.saturating_duration_since(self.began)),
            from,
            to,
            from_route,
            to_route,
            why: why.to_owned(),
            lost_packets: 0,
            gap_ms: gap.as_secs_f64() * 1000.0,
        };
        self.switches.push_back(Switch { at: now, lost_before: lost, told });
    }

    /// Sound came, this long after the sound before it; `lost` is missing by now.
    pub(super) fn arrived(&mut self, gap: Duration, lost: u64, now: Instant) {
        let open = |switch: &&mut Switch| now.saturating_duration_since(switch.at) <= AFTER;
        for switch in self.switches.iter_mut().rev().take_while(open) {
            switch.told.lost_packets = lost.saturating_sub(switch.lost_before);
            if gap > GAP_MIN {
                switch.told.gap_ms = switch.told.gap_ms.max(gap.as_secs_f64() * 1000.0);
            }
        }
        if gap > GAP_MIN {
            if self.gaps.len() == GAPS_MAX {
                self.gaps.pop_front();
            }
            self.gaps.push_back((now, gap));
        }
    }

    pub(super) fn candidates(&self) -> Vec<CandidateStats> {
        self.candidates.iter().copied().collect()
    }

    pub(super) fn switches(&self) -> Vec<PathSwitch> {
        self.switches.iter().map(|switch| switch.told.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::start;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_switch_tells_what_it_cost() {
        let t = start();
        let mut history = History::new(t);
        let path = |n| (PathId(n), Route::Direct);
        history.arrived(300 * MS, 0, t);
        history.switched((None, None), path(0), "first", 0, t + 2000 * MS);
        history.arrived(90 * MS, 7, t + 4500 * MS);
        history.switched((Some(PathId(0)), Some(Route::Direct)), path(1), "silent", 7, t + 4600 * MS);
        history.arrived(120 * MS, 9, t + 4700 * MS);
        let switches = history.switches();
        assert_eq!((switches[0].lost_packets, switches[0].gap_ms), (0, 0.0), "long before and long after");
        assert_eq!((switches[1].lost_packets, switches[1].gap_ms), (2, 120.0));
    }

    #[test]
    fn it_is_bounded_and_names_an_address_once() {
        let t = start();
        let mut history = History::new(t);
        for n in 0..10_000u32 {
            let port = u16::try_from(n % 5_000).unwrap() + 1;
            let addr = SocketAddr::from(([192, 0, 2, 1], port));
            history.candidate(false, CandidateOrigin::Host, addr, None, t);
            history.candidate(false, CandidateOrigin::Host, addr, None, t);
            history.switched((None, None), (PathId(n), Route::Direct), "", 0, t);
            history.arrived(50 * MS, 0, t);
        }
        assert_eq!(history.candidates().len(), CANDIDATES_MAX);
        assert_eq!(history.switches().len(), SWITCHES_MAX);
        assert_eq!(history.gaps.len(), GAPS_MAX);
    }
}
