//! The driver under forced time, with a network that answers as it is told.

use tandem_core::election::{Carrier, Family};

use super::*;

const TERMS: u32 = 1;
const UDP: Way = Way { family: Family::V4, carrier: Carrier::Udp, mapped: false };
const BOTH: Roles = Roles(3);

/// A node, and the supernodes that it sees.
struct Bench {
    election: Election,
    now: Now,
    seen: Vec<Seen>,
    /// What was to be done, but for checks and questions for the load, which are answered.
    done: Vec<Task>,
    asked: usize,
    reached: bool,
}

fn seen(n: u8) -> Seen {
    Seen { service: ServiceKey([n; 32]), network: u32::from(n), roles: BOTH, load_percent: 60 }
}

fn consent() -> Option<Consent> {
    Some(Consent { terms_version: TERMS, roles: BOTH })
}

impl Bench {
    fn new(steady: bool, supernodes: u8) -> Self {
        let now = Now { mono_ms: 1_000, unix_ms: 1_800_000_000_000 };
        Self {
            election: Election::new(steady, TERMS, 7, now),
            now,
            seen: (1..=supernodes).map(seen).collect(),
            done: Vec::new(),
            asked: 0,
            reached: true,
        }
    }

    /// One whose owner agreed, which is strong enough and has a way in.
    fn consenting(supernodes: u8) -> Self {
        let mut bench = Self::new(false, supernodes);
        bench.election.handle_consent(consent(), bench.now);
        let plenty = Headroom { cpu_free_percent: 80, bandwidth_free_kbps: 20_000 };
        bench.election.handle_headroom(plenty, bench.now);
        bench.election.handle_listening(&[UDP], false, bench.now);
        bench
    }

    fn run_for(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now.plus_ms(1_000);
            let seen = self.seen.clone();
            self.election.handle_sight(&seen, &seen, self.now);
            self.election.handle_timeout(self.now);
            while let Some(task) = self.election.poll_task() {
                self.take(task);
            }
        }
    }

    fn take(&mut self, task: Task) {
        match task {
            Task::AskCheck { of, way } => {
                self.asked += 1;
                self.election.handle_checked(of, way, self.reached, self.now);
            }
            Task::AskLoad(of) => self.election.handle_load_answer(of, Some(80), self.now),
            task => self.done.push(task),
        }
    }

    fn serves(&self) -> bool {
        self.done.contains(&Task::Serve(BOTH))
    }
}

#[test]
fn without_consent_nothing_is_asked_and_nobody_is_woken_up() {
    let mut bench = Bench::new(false, 1);
    bench.election.handle_listening(&[UDP], false, bench.now);
    bench.run_for(3_600);
    assert_eq!((bench.asked, bench.done.len()), (0, 0));
    assert!(!bench.election.is_awake());
    assert_eq!(bench.election.poll_timeout(), None);
}

#[test]
fn where_there_are_too_few_it_serves_within_half_a_minute_and_the_owner_ends_it() {
    let mut bench = Bench::consenting(1);
    bench.run_for(25);
    assert!(bench.serves(), "{:?}", bench.done);
    assert_eq!(bench.election.confirmed_ways(bench.now), [UDP]);
    assert_eq!((bench.election.serving(), bench.election.figures().promoted_itself), (BOTH, 1));
    bench.election.handle_consent(None, bench.now);
    bench.run_for(1);
    let last = bench.done.last();
    assert!(
        matches!(last, Some(Task::Drain { within_ms: 60_000, why: Leave::NotAllowed })),
        "{:?}",
        bench.done
    );
    assert!(bench.election.is_awake(), "until it is drained");
    bench.election.handle_drained(bench.now);
    assert!(!bench.election.is_awake());
}

#[test]
fn one_that_nobody_reaches_never_serves() {
    let mut bench = Bench::consenting(3);
    bench.reached = false;
    bench.run_for(600);
    assert!(bench.asked > 3 && !bench.serves(), "{:?}", bench.done);
    let missing = bench.election.missing(Role::Directory, bench.now);
    assert!(matches!(missing[..], [Missing::Unreachable { .. }, ..]), "{missing:?}");
}

#[test]
fn where_there_are_enough_it_waits_announces_itself_and_is_invited() {
    let mut bench = Bench::consenting(8);
    bench.run_for(40 * 60);
    assert!(!bench.serves());
    assert_eq!(bench.election.state(), State::Reserve);
    let announced = bench.done.iter().filter(|task| matches!(task, Task::Announce(_))).count();
    assert!(announced >= 3, "{:?}", bench.done);
    let until_ms = bench.now.unix_ms + 60_000;
    bench.election.handle_invitation(seen(1).service, 80, until_ms, bench.now);
    bench.run_for(2);
    let yes = Task::AnswerInvitation { to: seen(1).service, accepted: true };
    assert!(bench.serves() && bench.done.contains(&yes), "{:?}", bench.done);
}

#[test]
fn a_supernode_remembers_reserves_and_invites_one() {
    let mut bench = Bench::new(true, 8);
    bench.election.handle_consent(consent(), bench.now);
    bench.run_for(1);
    assert!(bench.serves(), "told to serve, it does so at once: {:?}", bench.done);
    assert!(bench.election.missing(Role::Relay, bench.now).is_empty());
    for n in 100..104 {
        assert!(bench.election.handle_announce(ServiceKey([n; 32]), u32::from(n), bench.now));
    }
    assert_eq!(bench.election.figures().reserves_known, 4);
    bench.election.handle_load(90, bench.now);
    bench.run_for(30);
    let invited = bench.done.iter().find_map(|task| match task {
        Task::Invite(reserve) => Some(*reserve),
        _ => None,
    });
    let invited = invited.expect("a reserve is invited");
    assert!(invited.0[0] >= 100);
    bench.election.handle_invitation_answer(invited, true, bench.now);
    assert_eq!(bench.election.figures().accepted, 1);
}

#[test]
fn devices_without_a_place_hurry_a_full_one() {
    let mut bench = Bench::new(true, 8);
    bench.election.handle_consent(consent(), bench.now);
    bench.run_for(1);
    for n in 100..120 {
        assert!(bench.election.handle_announce(ServiceKey([n; 32]), u32::from(n), bench.now));
    }
    bench.election.handle_load(90, bench.now);
    for second in 0..600 {
        // It counts since the service began; one more in every tenth second.
        bench.election.handle_no_place(1_000 + second / 10, bench.now);
        bench.run_for(1);
    }
    let invited = bench.done.iter().filter(|task| matches!(task, Task::Invite(_))).count();
    println!("{invited} invited in ten minutes");
    assert!((2..=10).contains(&invited), "{invited} invited in ten minutes");
}

#[test]
fn a_steady_one_asks_nobody_for_checks_and_keeps_to_its_owners_word() {
    let mut bench = Bench::new(true, 8);
    bench.election.handle_consent(consent(), bench.now);
    bench.run_for(7_200);
    assert_eq!(bench.asked, 0);
    assert_eq!(bench.election.state(), State::Supernode, "it does not leave for want of work");
    let older = Some(Consent { terms_version: TERMS + 1, roles: BOTH });
    bench.election.handle_consent(older, bench.now);
    bench.run_for(1);
    assert!(
        matches!(bench.done.last(), Some(Task::Drain { why: Leave::NotAllowed, .. })),
        "{:?}",
        bench.done
    );
}

#[test]
fn a_steady_one_rests_from_a_role_whose_bytes_are_used_up() {
    let mut bench = Bench::new(true, 8);
    bench.election.handle_consent(consent(), bench.now);
    let caps = Caps { directory_bytes_a_month: Some(100), relay_bytes_a_month: Some(100), hours: None };
    bench.election.handle_caps(caps, bench.now);
    bench.run_for(1);
    assert_eq!(bench.election.serving(), BOTH);

    let relayed = Situation { relay_bytes: 100, ..Situation::default() };
    bench.election.handle_situation(relayed, bench.now);
    bench.run_for(1);
    assert_eq!(bench.election.serving(), Roles::DIRECTORY);
    assert_eq!(bench.election.missing(Role::Relay, bench.now), [Missing::MonthlyCap { bytes: 100 }]);

    bench.election.handle_situation(Situation { directory_bytes: 100, ..relayed }, bench.now);
    bench.run_for(1);
    assert!(
        matches!(bench.done.last(), Some(Task::Drain { why: Leave::NotAllowed, .. })),
        "{:?}",
        bench.done
    );
    bench.election.handle_drained(bench.now);

    // A new month.
    bench.election.handle_situation(Situation::default(), bench.now);
    bench.run_for(1);
    assert_eq!(bench.election.serving(), BOTH);
}

#[test]
fn one_that_slept_proves_its_ways_anew() {
    let mut bench = Bench::consenting(8);
    bench.run_for(60);
    let asked = bench.asked;
    assert!(asked >= 3);
    bench.election.handle_interrupted(bench.now);
    assert!(bench.election.confirmed_ways(bench.now).is_empty());
    bench.run_for(60);
    assert!(bench.asked >= asked + 3);
}
