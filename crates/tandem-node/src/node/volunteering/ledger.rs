//! What was served: sums of each day, this month's bytes, and how much it is right now. It knows numbers only, never whom.

use std::collections::VecDeque;

use tandem_core::election::Role;
use tandem_core::time::Now;
use tandem_proto::signed::Roles;

use crate::platform::local_time::{day_of, month_of};
use crate::store::{Amounts, LedgerRow};

/// How often the ledger is written while something is served, in milliseconds. A crash loses no more than this.
const WRITE_MS: u64 = 60_000;
/// Lines that wait for the disk, and one of each role more: both roles around a midnight, and some for a disk that fails.
const UNWRITTEN_MAX: usize = 8;
/// What is served right now is a mean over this time, in milliseconds …
const RATE_MS: u64 = 5_000;
/// … of moments at least so far apart.
const SAMPLE_MS: u64 = 500;
/// A longer time between two counts was sleep: nothing was served in it.
const GAP_MS_MAX: u64 = 60_000;

/// Totals of the parts that serve. They only rise; one that falls began anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// What the connections of the service carried, both ways.
    pub(crate) directory_bytes: u64,
    /// Devices that have their home here now.
    pub(crate) devices: u64,
    pub(crate) circuits: u64,
    pub(crate) lookups: u64,
    /// Candidates that were tried on their behalf.
    pub(crate) checks: u64,
    /// Sound forwarded, counted once.
    pub(crate) relay_bytes: u64,
    pub(crate) calls: u64,
}

impl Totals {
    fn amounts(&self, role: Role) -> Amounts {
        let nothing = Amounts::default();
        match role {
            Role::Directory => Amounts {
                bytes: self.directory_bytes,
                devices: self.devices,
                circuits: self.circuits,
                lookups: self.lookups,
                checks: self.checks,
                ..nothing
            },
            Role::Relay => Amounts { bytes: self.relay_bytes, calls: self.calls, ..nothing },
        }
    }
}

/// The counting of one node.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    last: Totals,
    last_ms: u64,
    month: u64,
    /// This month's, in the order of [`Role::BOTH`].
    month_bytes: [u64; 2],
    /// Since the node started.
    run_bytes: [u64; 2],
    unwritten: Vec<LedgerRow>,
    written_ms: u64,
    /// Moments, and the bytes of this run until then.
    samples: VecDeque<(u64, u64)>,
}

impl Ledger {
    /// Goes on from the lines of this month.
    pub(super) fn new(rows: &[LedgerRow], now: Now) -> Self {
        let month = month_of(day_of(now.unix_ms));
        let of_month = |role| {
            let counts = |row: &&LedgerRow| row.role == role && is_now(month_of(row.day), month);
            rows.iter().filter(counts).map(|row| row.amounts.bytes).sum()
        };
        Self {
            last: Totals::default(),
            last_ms: now.mono_ms,
            month,
            month_bytes: Role::BOTH.map(of_month),
            run_bytes: [0; 2],
            unwritten: Vec::new(),
            written_ms: now.mono_ms,
            samples: VecDeque::new(),
        }
    }

    /// Counts up to these totals. `serving`: the roles served in since the last count.
    pub(super) fn count(&mut self, totals: Totals, serving: Roles, now: Now) {
        let day = day_of(now.unix_ms);
        let month = month_of(day);
        if !is_now(self.month, month) {
            (self.month, self.month_bytes) = (month, [0; 2]);
        }
        let passed_ms = now.mono_ms.saturating_sub(self.last_ms);
        for (at, role) in Role::BOTH.into_iter().enumerate() {
            let mut more = since(&self.last.amounts(role), &totals.amounts(role));
            if serving.contains(role.bit()) && passed_ms <= GAP_MS_MAX {
                more.served_ms = passed_ms;
            }
            self.month_bytes[at] += more.bytes;
            self.run_bytes[at] += more.bytes;
            if more != Amounts::default() {
                self.enter(LedgerRow { day, role, amounts: more });
            }
        }
        (self.last, self.last_ms) = (totals, now.mono_ms);
        self.sample(now.mono_ms);
    }

    fn enter(&mut self, row: LedgerRow) {
        let lines = &self.unwritten;
        let same = lines.iter().position(|line| (line.day, line.role) == (row.day, row.role));
        // The disk has failed for days: the sums stay right, the day is the last one that there is.
        let newest =
            || lines.iter().rposition(|line| line.role == row.role).filter(|_| lines.len() >= UNWRITTEN_MAX);
        match same.or_else(newest) {
            Some(at) => self.unwritten[at].amounts.add(&row.amounts),
            None => self.unwritten.push(row),
        }
    }

    fn sample(&mut self, mono_ms: u64) {
        let bytes = self.run_bytes.iter().sum();
        if self.samples.back().is_none_or(|(at_ms, _)| mono_ms >= at_ms + SAMPLE_MS) {
            self.samples.push_back((mono_ms, bytes));
        }
        // The one before the window is its beginning.
        while self.samples.get(1).is_some_and(|(at_ms, _)| mono_ms >= at_ms + RATE_MS) {
            self.samples.pop_front();
        }
    }

    /// Lines to be written now. Those that were are taken out by [`Self::written`].
    pub(super) fn due(&self, mono_ms: u64) -> &[LedgerRow] {
        if mono_ms >= self.written_ms + WRITE_MS { &self.unwritten } else { &[] }
    }

    /// All that is not written yet.
    pub(super) fn unwritten(&self) -> &[LedgerRow] {
        &self.unwritten
    }

    /// A disk that failed is tried again as late as one that did not.
    pub(super) fn written(&mut self, succeeded: bool, mono_ms: u64) {
        self.written_ms = mono_ms;
        if succeeded {
            self.unwritten.clear();
        }
    }

    /// Bytes of this calendar month (UTC), over all runs of the node.
    pub(super) fn month_bytes(&self, role: Role) -> u64 {
        self.month_bytes[usize::from(role == Role::Relay)]
    }

    /// Both roles together, in bits per second, over the last seconds.
    pub(super) fn bits_per_second(&self) -> u64 {
        let (Some((from_ms, from)), Some((until_ms, until))) = (self.samples.front(), self.samples.back())
        else {
            return 0;
        };
        ((until - from) * 8_000).checked_div(until_ms - from_ms).unwrap_or(0)
    }
}

/// Whether the month counted goes on: a clock that was set back a little does not make its traffic undone.
fn is_now(counted: u64, month: u64) -> bool {
    counted == month || counted == month + 1
}

fn since(before: &Amounts, total: &Amounts) -> Amounts {
    let rise = |before: u64, total: u64| if total < before { total } else { total - before };
    Amounts {
        bytes: rise(before.bytes, total.bytes),
        devices: total.devices,
        calls: rise(before.calls, total.calls),
        circuits: rise(before.circuits, total.circuits),
        lookups: rise(before.lookups, total.lookups),
        checks: rise(before.checks, total.checks),
        served_ms: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23, 00:00 UTC.
    const NOVEMBER: u64 = 1_795_392_000_000;
    const DAY_MS: u64 = 86_400_000;
    const BOTH: Roles = Roles(Roles::DIRECTORY.0 | Roles::RELAY.0);

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, unix_ms: NOVEMBER + mono_ms }
    }

    fn totals(directory_bytes: u64, relay_bytes: u64, devices: u64) -> Totals {
        Totals { directory_bytes, relay_bytes, devices, ..Totals::default() }
    }

    fn line(ledger: &Ledger, role: Role) -> Amounts {
        ledger.unwritten().iter().find(|row| row.role == role).map(|row| row.amounts).unwrap_or_default()
    }

    #[test]
    fn it_adds_what_came_since_the_last_count() {
        let mut ledger = Ledger::new(&[], at(0));
        ledger.count(Totals::default(), Roles::default(), at(500));
        assert_eq!(ledger.unwritten(), [], "nothing is written of a node that serves nobody");
        ledger.count(totals(100, 40, 3), BOTH, at(1_000));
        ledger.count(totals(150, 40, 2), Roles::DIRECTORY, at(2_000));
        let directory = line(&ledger, Role::Directory);
        assert_eq!((directory.bytes, directory.devices, directory.served_ms), (150, 3, 1_500));
        let relay = line(&ledger, Role::Relay);
        assert_eq!((relay.bytes, relay.devices, relay.served_ms), (40, 0, 500));
        // The parts that serve began anew.
        ledger.count(totals(30, 5, 0), BOTH, at(3_000));
        assert_eq!((line(&ledger, Role::Directory).bytes, line(&ledger, Role::Relay).bytes), (180, 45));
        assert_eq!((ledger.month_bytes(Role::Directory), ledger.month_bytes(Role::Relay)), (180, 45));
        // The machine slept.
        let before = line(&ledger, Role::Relay).served_ms;
        ledger.count(totals(30, 5, 0), BOTH, at(3_000 + GAP_MS_MAX + 1));
        assert_eq!(line(&ledger, Role::Relay).served_ms, before);
    }

    #[test]
    fn it_is_written_once_a_minute_and_each_line_once() {
        let mut ledger = Ledger::new(&[], at(0));
        ledger.count(totals(1, 0, 0), BOTH, at(WRITE_MS - 1));
        assert_eq!(ledger.due(WRITE_MS - 1), []);
        assert_eq!(ledger.due(WRITE_MS).len(), 2);
        ledger.written(false, WRITE_MS);
        assert_eq!(ledger.due(WRITE_MS + 1), [], "a disk that fails is not tried in each turn");
        assert_eq!(ledger.due(2 * WRITE_MS).len(), 2, "and loses nothing");
        ledger.written(true, 2 * WRITE_MS);
        assert_eq!(ledger.unwritten(), []);
        assert_eq!(ledger.month_bytes(Role::Directory), 1);
    }

    #[test]
    fn the_month_holds_over_restarts_and_ends() {
        let row =
            |day, role, bytes| LedgerRow { day, role, amounts: Amounts { bytes, ..Amounts::default() } };
        let today = day_of(NOVEMBER);
        let rows = [
            row(today, Role::Relay, 900),
            row(today - 5, Role::Relay, 99),
            row(today - 5, Role::Directory, 7),
            row(today - 30, Role::Relay, 5_000),
        ];
        let mut ledger = Ledger::new(&rows, at(0));
        assert_eq!((ledger.month_bytes(Role::Relay), ledger.month_bytes(Role::Directory)), (999, 7));
        ledger.count(totals(0, 1, 0), BOTH, at(7 * DAY_MS));
        assert_eq!(ledger.month_bytes(Role::Relay), 1_000, "30 November");
        ledger.count(totals(0, 2, 0), BOTH, at(8 * DAY_MS));
        assert_eq!((ledger.month_bytes(Role::Relay), ledger.month_bytes(Role::Directory)), (1, 0));
        // A clock set back begins no month.
        ledger.count(totals(0, 4, 0), BOTH, Now { mono_ms: 8 * DAY_MS + 1, unix_ms: NOVEMBER });
        assert_eq!(ledger.month_bytes(Role::Relay), 3);
    }

    #[test]
    fn lines_waiting_for_a_disk_are_bounded_and_their_sums_right() {
        let mut ledger = Ledger::new(&[], at(0));
        for day in 1..=20 {
            ledger.count(totals(10 * day, day, 0), BOTH, at(day * DAY_MS));
        }
        assert!(ledger.unwritten().len() <= UNWRITTEN_MAX + 2);
        let sum = |role| -> u64 {
            ledger.unwritten().iter().filter(|row| row.role == role).map(|row| row.amounts.bytes).sum()
        };
        assert_eq!((sum(Role::Directory), sum(Role::Relay)), (200, 20));
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut ledger = Ledger::new(&[], at(0));
        assert_eq!(ledger.bits_per_second(), 0);
        for second in 0..=20 {
            ledger.count(totals(500 * second, 500 * second, 0), BOTH, at(1_000 * second));
        }
        assert_eq!(ledger.bits_per_second(), 8_000);
        for second in 21..=40 {
            ledger.count(totals(500 * 20, 500 * 20, 0), BOTH, at(1_000 * second));
        }
        assert_eq!(ledger.bits_per_second(), 0);
        assert!(ledger.samples.len() <= 8);
    }
}
