//! An invited reserve asks others whether there is really too much to do: an invitation alone moves nobody.

use super::sight::{Sight, median};
use crate::peer::PeerRef;
use crate::rng::Rng;

/// Independent supernodes whose word is needed.
pub(super) const WITNESSES: usize = 3;
/// Their load in the middle must be at least this. With less, newcomers can be sent to them.
const CONFIRMING_PERCENT: u32 = 50;
/// Supernodes asked, at most, when some do not answer.
const ASKED_MAX: usize = 8;
/// Each is waited for this long.
const ANSWER_MS_MAX: u64 = 6_000;

/// One invitation under consideration.
#[derive(Debug, Clone)]
pub(super) struct Confirming {
    pub(super) inviter: PeerRef,
    inviter_network: u32,
    asked: Vec<Asked>,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    peer: PeerRef,
    network: u32,
    until_ms: u64,
    answer: Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Awaited,
    None,
    Load(u32),
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Ask(PeerRef),
    Wait,
    Confirmed,
    Refused,
}

impl Confirming {
    pub(super) fn new(inviter: PeerRef, inviter_network: u32) -> Self {
        Self { inviter, inviter_network, asked: Vec::new() }
    }

    /// What to do next. Witnesses stand in networks of their own, none in the inviter's.
    pub(super) fn step(&mut self, sight: &Sight, rng: &mut Rng, now_mono_ms: u64) -> Outcome {
        for asked in &mut self.asked {
            if asked.answer == Answer::Awaited && now_mono_ms >= asked.until_ms {
                asked.answer = Answer::None;
            }
        }
        let mut loads: Vec<u32> = self.asked.iter().filter_map(|asked| asked.load()).collect();
        if loads.len() >= WITNESSES {
            let needed = median(&mut loads) >= CONFIRMING_PERCENT;
            return if needed { Outcome::Confirmed } else { Outcome::Refused };
        }
        let awaited = self.asked.iter().filter(|asked| asked.answer == Answer::Awaited).count();
        if loads.len() + awaited >= WITNESSES {
            return Outcome::Wait;
        }
        let witness = sight.iter().filter(|seen| {
            seen.network != self.inviter_network
                && !self.asked.iter().any(|asked| asked.network == seen.network)
        });
        let witness = witness.map(|seen| (rng.next_u64(), *seen)).min_by_key(|(random, _)| *random);
        match witness.filter(|_| self.asked.len() < ASKED_MAX) {
            Some((_, witness)) => {
                let until_ms = now_mono_ms + ANSWER_MS_MAX;
                let (peer, network) = (witness.peer, witness.network);
                self.asked.push(Asked { peer, network, until_ms, answer: Answer::Awaited });
                Outcome::Ask(peer)
            }
            None if awaited > 0 => Outcome::Wait,
            None => Outcome::Refused,
        }
    }

    /// `None`: it would not say. Answers that nobody asked for, and second ones, change nothing.
    pub(super) fn answered(&mut self, by: PeerRef, load_percent: Option<u32>) -> bool {
        let awaited = |asked: &&mut Asked| asked.peer == by && asked.answer == Answer::Awaited;
        let Some(asked) = self.asked.iter_mut().find(awaited) else { return false };
        asked.answer = load_percent.map_or(Answer::None, |load| Answer::Load(load.min(100)));
        true
    }

    pub(super) fn timeout_ms(&self) -> Option<u64> {
        let awaited = self.asked.iter().filter(|asked| asked.answer == Answer::Awaited);
        awaited.map(|asked| asked.until_ms).min()
    }
}

impl Asked {
    fn load(&self) -> Option<u32> {
        match self.answer {
            Answer::Load(load) => Some(load),
            Answer::Awaited | Answer::None => None,
        }
    }
}
