//! Whether a relay in use still answers, and when to try it anew.
//!
//! When nothing comes by the relay, its server is asked where it sees us (a Binding request on the same socket). Same
//! address: the trouble is elsewhere. Another address, or no answer: a NAT on our side has forgotten the socket, or the
//! relay is gone; a new allocation is tried on a new socket, again and again, for as long as the session lasts. When the
//! trouble seems to be elsewhere and lasts, a new allocation is tried as well, less and less often: the relay may have
//! started anew and forgotten the call.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use stun_types::message::TransactionId;

use super::stun::{Answer, Transactions};

/// A question unanswered this long means silence; it is put twice.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);
const ASK_TWICE: Duration = Duration::from_millis(100);
/// How soon it is asked again, while nothing comes and the server answers.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How soon the next allocation is tried: at first, and at most.
const ROUND_FIRST: Duration = Duration::from_millis(600);
const ROUND_MAX: Duration = Duration::from_secs(1);
/// The same once it has been silent for [`LONG`], and after the grant was refused.
const ROUND_LONG: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(60);
/// A silence of this length though the server answers: is our allocation still known there? Then asked half as often
/// each time.
const DOUBT: Duration = Duration::from_millis(1500);
const DOUBT_MAX: Duration = Duration::from_secs(30);
/// From then on the call should look for another relay.
const TELL_SILENT: Duration = Duration::from_secs(1);
const TELL_STALE: Duration = Duration::from_secs(5);

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WatchStep {
    Nothing,
    /// Ask the server on the socket in use.
    Ask,
    /// Tell that it is silent, that it is back.
    Silent,
    Back,
    /// Try for a new allocation.
    Round {
        tcp: bool,
    },
}

#[derive(Debug)]
pub(super) struct Watch {
    /// When something authentic last came, and how long after that silence is strange.
    heard: Instant,
    quiet_after: Duration,
    question: Option<Question>,
    /// No question before this.
    ask_at: Instant,
    /// Since when the server is silent.
    silent: Option<Instant>,
    told_silent: bool,
    rounds: u32,
    round_at: Instant,
    doubts: u32,
    doubt_at: Instant,
    stale_told: Option<Instant>,
    stale: bool,
}

#[derive(Debug)]
struct Question {
    transaction: TransactionId,
    first: Instant,
    put: u8,
}

impl Watch {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heard: now,
            quiet_after: ANSWER_WITHIN,
            question: None,
            ask_at: now,
            silent: None,
            told_silent: false,
            rounds: 0,
            round_at: now,
            doubts: 0,
            doubt_at: now,
            stale_told: None,
            stale: false,
        }
    }

    /// What is known of the path; since when it can be used at all.
    pub(super) fn heard(&mut self, heard: Option<(Instant, Duration)>, bound_at: Option<Instant>) {
        let Some(bound_at) = bound_at else { return };
        let (at, quiet_after) = heard.unwrap_or((bound_at, ANSWER_WITHIN));
        self.quiet_after = quiet_after;
        if at > self.heard {
            // Packets pass: whatever was suspected is over.
            self.question = None;
            self.doubts = 0;
            self.doubt_at = at + DOUBT;
            if self.silent.is_some_and(|since| at > since) {
                self.silent = None;
            }
        }
        self.heard = at.max(self.heard).max(bound_at);
    }

    /// An answer to a question came on the socket in use, which was seen at `mapped` when the allocation was made.
    pub(super) fn answered(&mut self, answer: Answer, mapped: Option<SocketAddr>, now: Instant) {
        if self.question.as_ref().is_none_or(|question| question.transaction != answer.transaction) {
            return;
        }
        self.question = None;
        self.ask_at = now + ASK_AGAIN;
        if answer.mapped.is_none() || mapped.is_none() || answer.mapped == mapped {
            self.silent = None;
        } else if self.silent.is_none() {
            // Our packets reach it from another address: it does not know whose they are.
            self.silent = Some(now);
            self.rounds = 0;
            self.round_at = now;
        }
    }

    /// Notes that a question leaves, and gives its transaction.
    pub(super) fn asks(&mut self, transactions: &mut Transactions, now: Instant) -> TransactionId {
        let question = self.question.get_or_insert_with(|| Question {
            transaction: transactions.next(),
            first: now,
            put: 0,
        });
        question.put += 1;
        question.transaction
    }

    /// The socket in use is gone.
    pub(super) fn gone(&mut self, now: Instant) {
        self.question = None;
        self.silent.get_or_insert(now);
        self.rounds = 1;
        self.round_at = now + ROUND_FIRST;
    }

    /// A race has begun because the network changed: the next one waits.
    pub(super) fn network_changed(&mut self, now: Instant) {
        self.rounds = 1;
        self.round_at = now + ROUND_MAX;
    }

    /// A new grant came. Whether a race is to begin at once.
    pub(super) fn renewed(&mut self, now: Instant) -> bool {
        let wanted = std::mem::take(&mut self.stale);
        if wanted {
            self.round_at = now + ROUND_FIRST;
        }
        wanted
    }

    /// The grant was refused. Whether to tell.
    pub(super) fn grant_refused(&mut self, now: Instant) -> bool {
        self.stale = true;
        self.silent.get_or_insert(now);
        self.round_at = self.round_at.max(now + ROUND_LONG);
        let tell = self.stale_told.is_none_or(|at| now.saturating_duration_since(at) >= TELL_STALE);
        if tell {
            self.stale_told = Some(now);
        }
        tell
    }

    /// The relay has no room for a new allocation, and will have none for so long.
    pub(super) fn no_room(&mut self, after: Duration, now: Instant) {
        self.round_at = self.round_at.max(now + after);
        self.doubt_at = self.doubt_at.max(now + after);
    }

    /// A new allocation is in use. Whether to tell that the relay is back.
    pub(super) fn joined(&mut self, now: Instant) -> bool {
        self.silent = None;
        self.question = None;
        self.rounds = 0;
        self.heard = self.heard.max(now);
        self.stale = false;
        std::mem::take(&mut self.told_silent)
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silent.is_some()
    }

    /// `busy`: a race is getting on.
    pub(super) fn step(&mut self, busy: bool, now: Instant) -> WatchStep {
        let Some(since) = self.silent else {
            if std::mem::take(&mut self.told_silent) {
                return WatchStep::Back;
            }
            return self.ask(now);
        };
        let silence = now.saturating_duration_since(since);
        if silence >= TELL_SILENT && !self.told_silent {
            self.told_silent = true;
            return WatchStep::Silent;
        }
        if now < self.round_at {
            return WatchStep::Nothing;
        }
        let pause = match self.rounds {
            _ if silence >= LONG || self.stale => ROUND_LONG,
            0 => ROUND_FIRST,
            _ => ROUND_MAX,
        };
        if busy {
            self.round_at = now + pause / 4;
            return WatchStep::Nothing;
        }
        self.rounds += 1;
        self.round_at = now + pause;
        WatchStep::Round { tcp: self.rounds.is_multiple_of(2) }
    }

    fn ask(&mut self, now: Instant) -> WatchStep {
        if now < self.heard + self.quiet_after {
            return WatchStep::Nothing;
        }
        if now >= self.doubt_at && now >= self.heard + DOUBT {
            self.doubts += 1;
            self.doubt_at = now + (DOUBT * (1 << self.doubts.min(6))).min(DOUBT_MAX);
            return WatchStep::Round { tcp: false };
        }
        match &self.question {
            None if now >= self.ask_at => WatchStep::Ask,
            None => WatchStep::Nothing,
            Some(question) if now >= question.first + ANSWER_WITHIN => {
                self.question = None;
                self.silent = Some(now);
                self.rounds = 0;
                self.round_at = now;
                self.step(false, now)
            }
            Some(question) if question.put < 2 && now >= question.first + ASK_TWICE => WatchStep::Ask,
            Some(_) => WatchStep::Nothing,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if let Some(since) = self.silent {
            let tell = (!self.told_silent).then(|| since + TELL_SILENT);
            return tell.into_iter().chain([self.round_at]).min();
        }
        let doubt = self.doubt_at.max(self.heard + DOUBT);
        let question = match &self.question {
            None => self.ask_at.max(self.heard + self.quiet_after),
            Some(question) if question.put < 2 => question.first + ASK_TWICE,
            Some(question) => question.first + ANSWER_WITHIN,
        };
        Some(question.min(doubt))
    }
}
