//! A walk through the directory to the supernodes nearest to a key (Kademlia's iterative lookup; spec/overlay.md).
//!
//! Whoever is asked names others that are nearer. Anybody can make keys, and as many as it takes to be nearest to
//! somebody's; what is hard to come by is addresses in many networks. So candidates are ranked by networks first: the
//! nearest of each network, by distance, before the second of any. A hundred in one /16 are one candidate and 99 in
//! reserve. Where there are fewer networks than are asked, the seconds follow, so that a small network, or one on a
//! single machine, works like plain Kademlia.

use std::collections::BTreeMap;

use tandem_proto::ids::ServiceKey;

/// Asked at the same time.
pub const PARALLEL: usize = 4;
/// A walk has arrived when so many of the first in rank have answered.
pub const NEAREST: usize = 8;
/// Candidates kept; the last in rank make room.
const CANDIDATES_MAX: usize = 256;
/// Asked in a walk, in all.
const ASKED_MAX: usize = 40;
/// Names taken from one answer.
pub const NAMES_MAX: usize = 20;
/// Once so many that were named by nodes of one network only did not answer, others named by it alone come last.
const FALSE_NAMES_MAX: u32 = 2;

/// A position in the key space: compared by XOR.
pub type Position = [u8; 32];

/// Somebody who may be asked. The same key in two networks is two candidates: one of them may be a lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    pub service: ServiceKey,
    /// Network group of the address it is said to be at.
    pub network: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Named,
    Asked,
    Answered,
    Failed,
}

#[derive(Debug, Clone)]
struct Entry {
    distance: Position,
    state: State,
    /// The network of whoever named it, if it was only one; `None`: this node knew it itself, or several told of it.
    named_by: Option<u32>,
}

/// One walk. The driver asks whom [`Self::poll`] names and says what became of it; time is the driver's.
#[derive(Debug, Clone)]
pub struct Walk {
    target: Position,
    entries: BTreeMap<Candidate, Entry>,
    asked: usize,
    /// By network: how many that only it named did not answer.
    false_names: BTreeMap<u32, u32>,
}

impl Walk {
    /// Towards that position, knowing nobody yet.
    #[must_use]
    pub fn new(target: Position) -> Self {
        Self { target, entries: BTreeMap::new(), asked: 0, false_names: BTreeMap::new() }
    }

    /// Somebody this node knows itself, with its position.
    pub fn know(&mut self, candidate: Candidate, position: &Position) {
        self.add(candidate, position, None);
    }

    /// Whom to ask now, if anybody: at most [`PARALLEL`] at once.
    pub fn poll(&mut self) -> Option<Candidate> {
        let under_way = self.entries.values().filter(|entry| entry.state == State::Asked).count();
        if under_way >= PARALLEL || self.asked >= ASKED_MAX {
            return None;
        }
        let next =
            self.ranked().into_iter().take(NEAREST).find(|candidate| self.is(*candidate, State::Named))?;
        self.set(next, State::Asked);
        self.asked += 1;
        Some(next)
    }

    /// It answered, and named these, with their positions; the first 20 count.
    pub fn answered(&mut self, by: Candidate, named: impl IntoIterator<Item = (Candidate, Position)>) {
        if !self.is(by, State::Asked) {
            return;
        }
        self.set(by, State::Answered);
        for (candidate, position) in named.into_iter().take(NAMES_MAX) {
            self.add(candidate, &position, Some(by.network));
        }
    }

    /// It was not reached, or did not answer in time.
    pub fn failed(&mut self, candidate: Candidate) {
        if !self.is(candidate, State::Asked) {
            return;
        }
        self.set(candidate, State::Failed);
        if let Some(network) = self.entries.get(&candidate).and_then(|entry| entry.named_by) {
            *self.false_names.entry(network).or_default() += 1;
        }
    }

    /// Nobody is left to ask: the first in rank have answered, or there is nobody else.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let under_way = self.entries.values().any(|entry| entry.state == State::Asked);
        let to_ask =
            self.ranked().into_iter().take(NEAREST).any(|candidate| self.is(candidate, State::Named));
        !under_way && (!to_ask || self.asked >= ASKED_MAX)
    }

    /// Whether it is still a candidate: those whose rank was too low were forgotten.
    #[must_use]
    pub fn knows(&self, candidate: Candidate) -> bool {
        self.entries.contains_key(&candidate)
    }

    /// Whether whatever has that position is nearer to the target than this candidate. Of an unknown one: no.
    #[must_use]
    pub fn is_nearer(&self, position: &Position, than: Candidate) -> bool {
        self.entries.get(&than).is_some_and(|entry| self.distance(position) < entry.distance)
    }

    /// Those that answered, the first in rank first.
    #[must_use]
    pub fn nearest(&self) -> Vec<Candidate> {
        self.ranked().into_iter().filter(|candidate| self.is(*candidate, State::Answered)).collect()
    }

    // ---- inside ---------------------------------------------------------------------------------------------------

    fn is(&self, candidate: Candidate, state: State) -> bool {
        self.entries.get(&candidate).is_some_and(|entry| entry.state == state)
    }

    fn set(&mut self, candidate: Candidate, state: State) {
        if let Some(entry) = self.entries.get_mut(&candidate) {
            entry.state = state;
        }
    }

    fn distance(&self, position: &Position) -> Position {
        std::array::from_fn(|at| position[at] ^ self.target[at])
    }

    fn add(&mut self, candidate: Candidate, position: &Position, named_by: Option<u32>) {
        if let Some(known) = self.entries.get_mut(&candidate) {
            if known.named_by != named_by {
                known.named_by = None;
            }
            return;
        }
        let distance = self.distance(position);
        self.entries.insert(candidate, Entry { distance, state: State::Named, named_by });
        if self.entries.len() > CANDIDATES_MAX {
            let all = self.all_ranked();
            let last = all.into_iter().rev().find(|candidate| !self.is(*candidate, State::Asked));
            if let Some(last) = last {
                self.entries.remove(&last);
            }
        }
    }

    /// Without those that failed.
    fn ranked(&self) -> Vec<Candidate> {
        let mut all = self.all_ranked();
        all.retain(|candidate| !self.is(*candidate, State::Failed));
        all
    }

    /// The nearest of each network before the second of any; then by distance. Those that failed come last, and before
    /// them those that only a network with false names told of.
    fn all_ranked(&self) -> Vec<Candidate> {
        let trust = |entry: &Entry| {
            let doubtful = entry.state == State::Named
                && entry
                    .named_by
                    .and_then(|by| self.false_names.get(&by))
                    .is_some_and(|n| *n >= FALSE_NAMES_MAX);
            (entry.state == State::Failed, doubtful)
        };
        let mut by_distance: Vec<_> = self
            .entries
            .iter()
            .map(|(candidate, entry)| (trust(entry), entry.distance, *candidate))
            .collect();
        by_distance.sort_unstable();
        let mut of_network: BTreeMap<u32, usize> = BTreeMap::new();
        let mut ranked: Vec<_> = by_distance
            .into_iter()
            .map(|(trust, distance, candidate)| {
                let nth = of_network.entry(candidate.network).or_default();
                *nth += 1;
                (trust, *nth, distance, candidate)
            })
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, _, _, candidate)| candidate).collect()
    }
}
