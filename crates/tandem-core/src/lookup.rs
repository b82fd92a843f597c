//! Looking an account up through the homes: two at once, a third soon after, believed on the first answer that
//! verifies, compared afterwards so that a home that lies or leaves something out is found out.
//!
//! The driver sends the frames, verifies each record (`tandem_proto::record`) and says what it held; this machine
//! decides whom to ask, when to dial and whom to distrust.

use std::collections::VecDeque;

use tandem_proto::ids::DeviceKey;
use tandem_proto::record::Seen;

use crate::homes::{Distrust, HOMES};
use crate::peer::PeerRef;
use crate::time::Now;

/// Homes asked at once.
const ASKED_AT_ONCE: usize = 2;
/// Without a usable answer after this, the next home is asked too.
const NEXT_MS: u64 = 300;
/// After a first answer, the others are waited for until this long after the start.
const MERGE_MS: u64 = 2_000;
/// Nothing at all after this: the look-up ends.
const GIVE_UP_MS: u64 = 6_000;
/// A record this young may honestly not have reached every supernode.
const SPREADING_MS: u64 = 60_000;

/// What one home answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A record that verified: its epoch and sequences (`Seen::note` on a fresh `Seen`).
    Valid(Seen),
    /// A record that did not.
    Invalid,
    /// It knows of no record.
    Empty,
    /// `Busy`, `Failure`, or the connection went.
    Failed,
}

/// What the driver must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Send `LookUp` to this home; each answer goes to [`LookUp::handle_answer`].
    Ask(PeerRef),
    /// Tell [`crate::homes::Homes::handle_distrust`].
    Distrust { home: PeerRef, reason: Distrust },
    /// What came of it; see [`Outcome`].
    Outcome(Outcome),
}

/// What came of it. `Found` comes at most once, then any number of `Updated`; the other two are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The first answer good enough to dial: this home's.
    Found { home: PeerRef },
    /// This home's answer adds something newer: merge it and use it for what is still to be dialled.
    Updated { home: PeerRef },
    /// At least one home searched to the end, and none knows of a record.
    NotFound,
    /// No answer that can be used.
    Unreachable(Why),
}

/// Why there is no answer that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    #[error("this device has no home to ask at the moment")]
    NoHome,
    #[error("none of this device's homes answered")]
    NoAnswer,
    #[error("only a record older than one seen before was offered")]
    OnlyOlder,
    #[error("only a record with a wrong signature was offered")]
    OnlyInvalid,
}

#[derive(Debug, Clone)]
struct Asked {
    home: PeerRef,
    best: Option<Seen>,
    /// Offered only what is older than `seen`.
    older: bool,
    invalid: bool,
    failed: bool,
    done: bool,
}

/// One look-up.
#[derive(Debug, Clone)]
pub struct LookUp {
    asked: Vec<Asked>,
    waiting: VecDeque<PeerRef>,
    /// The newest ever seen of this account, before this look-up.
    seen: Seen,
    /// The newest of this look-up.
    best: Option<Seen>,
    started_ms: u64,
    next_ms: u64,
    finished: bool,
    commands: VecDeque<Command>,
}

impl LookUp {
    /// Asks `homes` (the first [`HOMES`] of them, in this order). `seen`: the newest epoch and sequences ever seen of
    /// this account.
    #[must_use]
    pub fn new(homes: &[PeerRef], seen: Option<Seen>, now: Now) -> Self {
        let mut look_up = Self {
            asked: Vec::new(),
            waiting: homes.iter().copied().take(HOMES).collect(),
            seen: seen.unwrap_or_default(),
            best: None,
            started_ms: now.mono_ms,
            next_ms: now.mono_ms + NEXT_MS,
            finished: false,
            commands: VecDeque::new(),
        };
        for _ in 0..ASKED_AT_ONCE {
            look_up.ask_next(now);
        }
        if look_up.asked.is_empty() {
            look_up.finish(Some(Outcome::Unreachable(Why::NoHome)), now);
        }
        look_up
    }

    /// One frame of a home's answer; `done` with its last one. Answers of homes never asked are ignored.
    pub fn handle_answer(&mut self, home: PeerRef, answer: Answer, done: bool, now: Now) {
        let Some(at) = self.asked.iter().position(|asked| asked.home == home && !asked.done) else { return };
        if self.finished {
            return;
        }
        match answer {
            Answer::Valid(summary) => self.take(at, summary),
            Answer::Invalid => self.asked[at].invalid = true,
            Answer::Failed => self.asked[at].failed = true,
            Answer::Empty => {}
        }
        let asked = &mut self.asked[at];
        asked.done = done || asked.failed || asked.invalid;
        if asked.done && self.best.is_none() {
            self.ask_next(now);
        }
        self.drive(now);
    }

    /// A moment named by [`Self::poll_timeout`] came. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Now) {
        self.drive(now);
    }

    /// The next thing to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to call [`Self::handle_timeout`] (monotonic, in milliseconds).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        if self.finished {
            return None;
        }
        let end_ms = self.started_ms + if self.best.is_some() { MERGE_MS } else { GIVE_UP_MS };
        let asks_next = self.best.is_none() && !self.waiting.is_empty();
        Some(if asks_next { end_ms.min(self.next_ms) } else { end_ms })
    }

    /// Nothing more will come.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    fn ask_next(&mut self, now: Now) {
        let Some(home) = self.waiting.pop_front() else { return };
        let asked = Asked { home, best: None, older: false, invalid: false, failed: false, done: false };
        self.asked.push(asked);
        self.commands.push_back(Command::Ask(home));
        self.next_ms = now.mono_ms + NEXT_MS;
    }

    fn take(&mut self, at: usize, summary: Seen) {
        let asked = &mut self.asked[at];
        if rolls_back(&summary, &self.seen) {
            asked.older = true;
            return;
        }
        let newest = asked.best.as_ref().map_or_else(|| summary.clone(), |best| merged(best, &summary));
        asked.best = Some(newest);
        let home = asked.home;
        match &self.best {
            None => {
                self.best = Some(summary);
                self.commands.push_back(Command::Outcome(Outcome::Found { home }));
            }
            Some(best) if lacks(best, &summary) => {
                self.best = Some(merged(best, &summary));
                self.commands.push_back(Command::Outcome(Outcome::Updated { home }));
            }
            Some(_) => {}
        }
    }

    fn drive(&mut self, now: Now) {
        if self.finished {
            return;
        }
        if self.best.is_none() && now.mono_ms >= self.next_ms {
            self.ask_next(now);
        }
        let end_ms = self.started_ms + if self.best.is_some() { MERGE_MS } else { GIVE_UP_MS };
        let all_done =
            self.asked.iter().all(|asked| asked.done) && (self.best.is_some() || self.waiting.is_empty());
        if all_done || now.mono_ms >= end_ms {
            self.finish(self.failure(), now);
        }
    }

    /// The final word if nothing was found.
    fn failure(&self) -> Option<Outcome> {
        if self.best.is_some() {
            return None;
        }
        let searched = |asked: &Asked| asked.done && !asked.failed && !asked.invalid && !asked.older;
        Some(if self.asked.iter().any(|asked| asked.older) {
            Outcome::Unreachable(Why::OnlyOlder)
        } else if self.asked.iter().any(searched) {
            Outcome::NotFound
        } else if self.asked.iter().any(|asked| asked.invalid) {
            Outcome::Unreachable(Why::OnlyInvalid)
        } else {
            Outcome::Unreachable(Why::NoAnswer)
        })
    }

    fn finish(&mut self, outcome: Option<Outcome>, now: Now) {
        self.finished = true;
        self.commands.extend(outcome.map(Command::Outcome));
        for at in 0..self.asked.len() {
            let home = self.asked[at].home;
            if let Some(reason) = self.verdict(&self.asked[at], now) {
                self.commands.push_back(Command::Distrust { home, reason });
            }
        }
    }

    /// What a home did wrong, if anything.
    fn verdict(&self, asked: &Asked, now: Now) -> Option<Distrust> {
        if asked.invalid {
            return Some(Distrust::Lied);
        }
        // Failing or being slow is no lie; and what is new may not have reached everybody.
        let newest = self.best.as_ref().map_or_else(|| self.seen.clone(), |best| merged(best, &self.seen));
        if asked.failed || !asked.done || !has_spread(&newest, now) {
            return None;
        }
        match (&asked.best, &self.best) {
            (Some(own), Some(best)) => lacks(own, best).then_some(Distrust::Behind),
            (None, _) if asked.older => Some(Distrust::Behind),
            (None, Some(_)) => Some(Distrust::Omitted),
            (_, None) => None,
        }
    }
}

fn sequence(of: &Seen, device: DeviceKey) -> Option<u64> {
    of.sequences.iter().find(|(known, _)| *known == device).map(|(_, sequence)| *sequence)
}

/// `shown` is older than `seen`. A device that is missing may only have expired.
fn rolls_back(shown: &Seen, seen: &Seen) -> bool {
    let older = |(device, then): &(DeviceKey, u64)| sequence(shown, *device).is_some_and(|now| now < *then);
    shown.epoch < seen.epoch || (shown.epoch == seen.epoch && seen.sequences.iter().any(older))
}

/// `other`, given in the same look-up, holds something newer than `own`, or something `own` leaves out.
fn lacks(own: &Seen, other: &Seen) -> bool {
    let newer = |(device, theirs): &(DeviceKey, u64)| sequence(own, *device) < Some(*theirs);
    own.epoch < other.epoch || (own.epoch == other.epoch && other.sequences.iter().any(newer))
}

/// The newest of both.
fn merged(a: &Seen, b: &Seen) -> Seen {
    if a.epoch != b.epoch {
        return if a.epoch > b.epoch { a.clone() } else { b.clone() };
    }
    let mut both = a.clone();
    for (device, theirs) in &b.sequences {
        match both.sequences.iter_mut().find(|(known, _)| known == device) {
            Some((_, ours)) => *ours = (*ours).max(*theirs),
            None => both.sequences.push((*device, *theirs)),
        }
    }
    both
}

/// The record has been out long enough for every supernode to have it. Sequences are unix milliseconds.
fn has_spread(record: &Seen, now: Now) -> bool {
    let newest = record.sequences.iter().map(|(_, sequence)| *sequence).max().unwrap_or(0);
    newest.saturating_add(SPREADING_MS) <= now.unix_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PeerRef = PeerRef(1);
    const B: PeerRef = PeerRef(2);
    const C: PeerRef = PeerRef(3);
    const OLD: u64 = 1_000_000;

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, unix_ms: 10_000_000 + mono_ms }
    }

    fn summary(epoch: u64, sequence: u64) -> Seen {
        Seen { epoch, sequences: vec![(DeviceKey([7; 32]), sequence)] }
    }

    fn drain(look_up: &mut LookUp) -> Vec<Command> {
        std::iter::from_fn(|| look_up.poll_command()).collect()
    }

    fn started() -> LookUp {
        let mut look_up = LookUp::new(&[A, B, C], None, at(0));
        assert_eq!(drain(&mut look_up), [Command::Ask(A), Command::Ask(B)]);
        look_up
    }

    #[test]
    fn the_first_valid_answer_is_dialled_and_a_newer_one_updates_it() {
        let mut look_up = started();
        look_up.handle_answer(B, Answer::Valid(summary(1, OLD)), false, at(50));
        assert_eq!(drain(&mut look_up), [Command::Outcome(Outcome::Found { home: B })]);
        look_up.handle_answer(A, Answer::Valid(summary(1, OLD + 1)), true, at(90));
        assert_eq!(drain(&mut look_up), [Command::Outcome(Outcome::Updated { home: A })]);
        look_up.handle_answer(B, Answer::Valid(summary(1, OLD + 1)), true, at(95));
        assert!(look_up.is_finished());
        assert_eq!(drain(&mut look_up), []);
    }

    #[test]
    fn the_third_home_is_asked_after_300_ms_or_when_one_fails() {
        let mut look_up = started();
        assert_eq!(look_up.poll_timeout(), Some(300));
        look_up.handle_timeout(at(300));
        assert_eq!(drain(&mut look_up), [Command::Ask(C)]);

        let mut look_up = started();
        look_up.handle_answer(A, Answer::Failed, true, at(10));
        assert_eq!(drain(&mut look_up), [Command::Ask(C)]);
    }

    #[test]
    fn the_third_home_is_left_in_peace_after_an_answer() {
        let mut look_up = started();
        look_up.handle_answer(A, Answer::Valid(summary(1, OLD)), false, at(20));
        drain(&mut look_up);
        look_up.handle_timeout(at(300));
        assert_eq!(drain(&mut look_up), []);
        assert_eq!(look_up.poll_timeout(), Some(2_000));
        look_up.handle_timeout(at(2_000));
        assert!(look_up.is_finished());
    }

    #[test]
    fn a_home_that_lies_omits_or_is_behind_is_named() {
        let distrust = |answer| {
            let mut look_up = started();
            look_up.handle_answer(A, Answer::Valid(summary(2, OLD)), true, at(20));
            look_up.handle_answer(B, answer, true, at(30));
            drain(&mut look_up).into_iter().find(|command| matches!(command, Command::Distrust { .. }))
        };
        let named = |reason| Some(Command::Distrust { home: B, reason });
        assert_eq!(distrust(Answer::Invalid), named(Distrust::Lied));
        assert_eq!(distrust(Answer::Empty), named(Distrust::Omitted));
        assert_eq!(distrust(Answer::Valid(summary(1, OLD + 5))), named(Distrust::Behind));
        assert_eq!(distrust(Answer::Valid(summary(2, OLD - 1))), named(Distrust::Behind));
        assert_eq!(distrust(Answer::Valid(summary(2, OLD))), None);
        assert_eq!(distrust(Answer::Failed), None);
    }

    #[test]
    fn a_record_published_a_moment_ago_excuses_those_who_lack_it() {
        let mut look_up = started();
        look_up.handle_answer(A, Answer::Valid(summary(2, at(0).unix_ms - 5_000)), true, at(20));
        look_up.handle_answer(B, Answer::Empty, true, at(30));
        assert_eq!(drain(&mut look_up), [Command::Outcome(Outcome::Found { home: A })]);
        assert!(look_up.is_finished());
    }

    #[test]
    fn a_record_rolled_back_is_not_used() {
        let mut look_up = LookUp::new(&[A, B], Some(summary(3, OLD)), at(0));
        drain(&mut look_up);
        look_up.handle_answer(A, Answer::Valid(summary(2, OLD + 9)), true, at(20));
        look_up.handle_answer(B, Answer::Valid(summary(3, OLD - 1)), true, at(20));
        assert_eq!(
            drain(&mut look_up),
            [
                Command::Outcome(Outcome::Unreachable(Why::OnlyOlder)),
                Command::Distrust { home: A, reason: Distrust::Behind },
                Command::Distrust { home: B, reason: Distrust::Behind },
            ]
        );
    }

    #[test]
    fn nothing_found_says_why() {
        let outcome = |answers: [Answer; 3]| {
            let mut look_up = started();
            for (home, answer) in [A, B, C].into_iter().zip(answers) {
                look_up.handle_answer(home, answer, true, at(10));
            }
            assert!(look_up.is_finished());
            drain(&mut look_up).into_iter().find_map(|command| match command {
                Command::Outcome(outcome) => Some(outcome),
                _ => None,
            })
        };
        use Answer::{Empty, Failed, Invalid};
        assert_eq!(outcome([Empty, Failed, Empty]), Some(Outcome::NotFound));
        assert_eq!(outcome([Failed, Failed, Failed]), Some(Outcome::Unreachable(Why::NoAnswer)));
        assert_eq!(outcome([Failed, Invalid, Failed]), Some(Outcome::Unreachable(Why::OnlyInvalid)));
        let mut homeless = LookUp::new(&[], None, at(0));
        assert_eq!(drain(&mut homeless), [Command::Outcome(Outcome::Unreachable(Why::NoHome))]);
    }

    #[test]
    fn homes_that_never_answer_end_it() {
        let mut look_up = started();
        let mut steps = 0;
        while let Some(ms) = look_up.poll_timeout() {
            look_up.handle_timeout(at(ms));
            steps += 1;
            assert!(steps < 10);
        }
        assert!(drain(&mut look_up).contains(&Command::Outcome(Outcome::Unreachable(Why::NoAnswer))));
    }
}
